//! The parts of the Minecraft protocol that the proxy reads and writes.
//!
//! Pure: bytes in, values or errors out; no socket and no clock. A decoder
//! never allocates what a peer announces, only what has arrived, and each has
//! a bound that is checked before the bytes it bounds. `Ok(None)` always means
//! that the bytes so far are the beginning of something valid.

pub mod cipher;
pub mod codec;
pub mod component;
pub mod frame;
pub mod handshake;
pub mod legacy;
mod lenient;
pub mod login;
mod nbt;
pub mod packet;
pub mod peek;
pub mod read;
pub mod status;
pub mod text;
pub(crate) mod uuid;
pub mod varint;
pub(crate) mod version;
