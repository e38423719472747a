//! The packets of login, configuration and play, in every version of the game.
//!
//! Which packet has which id is in [`ids`](super::ids). The fields are here: `layout`
//! is the table of the packets that plugins know, `wire` reads and writes the parts
//! that the table is made of, and [`view`] reads, changes and builds packets by means
//! of both. [`login`], `disconnect`, [`message`], `brand` and `world` are the packets
//! that the proxy itself makes or changes.

mod brand;
pub(crate) mod commands;
pub(crate) mod disconnect;
mod layout;
pub mod login;
pub mod message;
pub(crate) mod rights;
pub(crate) mod value;
pub mod view;
mod wire;
pub(crate) mod world;

pub use super::ids::{Clientbound, Direction, Kind, Serverbound, State, Version};
pub use brand::Brand;
