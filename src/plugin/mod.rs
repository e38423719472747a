//! The plugin host: it loads plugins, calls their hooks, and watches the calls.
//!
//! A plugin's file becomes a [`Spec`] by the configuration, and an instance by
//! [`PluginHost::reload`]: the bytes are read once, compared with the pin,
//! checked by [`manifest`](crate::manifest), sealed, mapped and never unmapped.
//! Each server gets a [`HookSet`]; a connection takes that of its server at its
//! start and keeps it, so that a reload does not change the plugins of a
//! connection.
//!
//! `ffi` is the only folder that sees raw pointers of plugins.
//!
//! Native plugins are trusted code. The checks here stop mistakes, not malice.

mod budget;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod code;
pub(crate) mod commands;
#[cfg(unix)]
pub(crate) mod crash_report;
mod dispatch;
mod ffi;
mod generation;
mod health;
mod image;
mod interest;
#[cfg(target_os = "linux")]
mod keeper;
mod log;
mod players;
#[cfg(unix)]
pub mod probe;
mod problem;
mod registry;
mod send;
mod services;
pub(crate) mod slot;
mod spec;
mod threads;
#[cfg(unix)]
pub(crate) mod trial;
pub(crate) mod watch;

pub use dispatch::{AskedPacket, PacketAsker, PacketFate, PacketHooks, PacketPlayer};
pub use dispatch::{
    Client, HookSet, Player, PlayerEvent, Refusal, Selected, Session, SessionEvent,
};
pub(crate) use dispatch::{HasFailed, Typed};
pub use generation::PluginState;
pub use health::{Counts, LastFailure};
pub use image::ImageError;
pub(crate) use players::{CookieReceiver, Full, InGame, NotSwitched, Players, Reach, Switching};
pub use problem::{Problem, ProblemKind, ProblemText};
pub use registry::{Environment, PluginHost, Reloaded};
pub use services::{MetricKind, MetricValue, PlayerCounts};
pub use spec::Spec;
