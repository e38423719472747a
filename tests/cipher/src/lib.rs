//! The cipher of the product, compiled from its files.

#[path = "../../../src/protocol/cipher/mod.rs"]
pub mod cipher;
