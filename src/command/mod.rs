//! Commands of the proxy: built-in commands, and commands of plugins.
//!
//! Players see the commands that they may use, besides those of the backend. A command that
//! the player may not use is passed on to the backend.

mod builtin;
mod list;
mod player;

pub(crate) use player::{CommandContext, PlayerCommands};
