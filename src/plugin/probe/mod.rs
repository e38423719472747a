//! Tries a plugin in a process of its own, so that a crash or a hang does not stop this
//! one: for authors, and for checks that go deeper than the manifest.
//!
//! [`probe`] starts this program as a child, which reads the [`Request`] from its
//! standard input, loads the plugin through the same
//! [`PluginHost`](super::PluginHost) as the proxy, and writes each step to its
//! standard output before the step begins. So the parent knows the step in which a child has
//! stopped.

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
