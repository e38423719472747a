//! Commands to a proxy that runs: what they do, and how they reach it.

pub(crate) mod ops;
pub(crate) mod socket;
