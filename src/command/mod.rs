//! Commands of the proxy: those that it has itself, and those of plugins.
//!
//! A player sees the commands that the player may use, beside those of the backend. A
//! command that the player may not use is passed on to the backend.

mod builtin;
mod list;
mod player;

pub(crate) use player::{CommandContext, PlayerCommands};
