//! A plugin is tried in a process of its own, which may crash or hang in its
//! place: for authors, and for checks that go deeper than the manifest.
//!
//! [`probe`] starts this very program as a child, which reads the [`Request`]
//! from its standard input, loads the plugin through the same
//! [`PluginHost`](super::PluginHost) as the proxy, and writes each step to its
//! standard output before it takes it. So the parent knows where a child was
//! that is silent.

mod ask;
mod child;
mod event;
mod findings;
mod packets;
mod parent;
mod player;
mod scratch;

pub use child::serve;
pub use findings::{Answer, Findings, Fired, ProbeError, ProbeErrorKind, Request, Started, Step};
pub use parent::{ARGUMENTS, own_program, probe};
pub(super) use scratch::Scratch;
