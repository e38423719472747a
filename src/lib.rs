//! infrarust: a Minecraft reverse proxy that hosts plugins.

pub mod capability;
pub mod config;
pub mod mode;
pub mod route;
