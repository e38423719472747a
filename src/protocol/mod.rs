//! The parts of the Minecraft protocol that the proxy reads and writes.
//!
//! From the bytes up:
//!
//! - [`varint`] and [`read`]: the fields that packets consist of.
//! - [`frame`]: packets with their length, before compression begins; [`codec`]:
//!   the same with compression; [`peek`]: the id of a compressed packet without
//!   decompressing it; [`cipher`]: encryption of the whole stream.
//! - [`handshake`], [`status`], [`login`]: the packets that every mode reads
//!   before it forwards bytes. [`legacy`]: their counterparts up to 1.6.
//! - [`packet`]: the packets of login, configuration and play by version, for
//!   the intercepted modes and their plugins.
//! - [`text`]: texts as JSON components and `§` codes; [`component`]: components
//!   in the form of each version, in `nbt` since 1.20.3; `link`: the addresses that
//!   they open; `lenient`: JSON as clients read it.
//!
//! Nothing here uses a socket or a clock: functions take bytes and return values
//! or errors. A decoder never allocates what a peer announces, only what has
//! arrived, and checks each limit before it reads the bytes that the limit
//! bounds. `Ok(None)` always means that the bytes so far are the beginning of
//! something valid.

pub mod bungee;
pub mod cipher;
pub mod codec;
pub mod component;
pub(crate) mod forge;
pub mod frame;
pub mod handshake;
pub mod ids;
pub mod legacy;
mod lenient;
mod link;
pub mod login;
pub(crate) mod nbt;
pub mod packet;
pub mod peek;
pub mod read;
pub mod status;
pub mod text;
pub(crate) mod uuid;
pub mod varint;
pub(crate) mod version;
