//! Commands of the proxy: those that it has itself, and those of plugins.
//!
//! A player sees the commands that he may use beside those of his backend. One
//! that he may not use does not exist for him: the backend gets what he types.

mod builtin;
mod list;
mod player;
mod rights;

pub(crate) use player::{CommandContext, PlayerCommands};
pub use rights::{Admin, Permissions};
