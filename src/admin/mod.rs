//! Commands to a running proxy: `ops` is what they do, `socket` how they arrive.

pub(crate) mod ops;
pub(crate) mod socket;
