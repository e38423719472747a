//! The border between the proxy and its plugins: names and numbers that both
//! sides must agree on, and nothing else.
//!
//! This crate has no dependencies and no logic. It is apart from the SDK that
//! plugin authors use, so that the host can depend on the border without
//! depending on the SDK.

mod capability;

pub use capability::{Capability, UnknownCapability};
