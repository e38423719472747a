//! infrarust: a Minecraft reverse proxy that hosts plugins.

pub mod capability;
pub mod cli;
pub mod config;
pub mod diagnostic;
pub mod escape;
pub mod forward;
pub mod limit;
pub mod mode;
pub mod protocol;
pub mod proxy_protocol;
pub mod route;
pub mod shutdown;
pub mod socket;
pub mod upstream;
