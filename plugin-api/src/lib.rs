//! Write plugins for the Minecraft proxy infrarust, in safe Rust.
//!
//! A plugin is a dynamic library. It says in one macro what it is, which hooks
//! it has and what it needs; the proxy reads that from the file before it runs
//! any code, and refuses a plugin on a server whose mode cannot give it.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use infrarust_plugin_api::prelude::*;
//!
//! #[derive(Deserialize)]
//! #[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
//! struct Config {
//!     deny: Vec<String>,
//! }
//!
//! struct Gate(Config);
//!
//! impl Plugin for Gate {
//!     type Config = Config;
//!     fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
//!         Ok(Gate(config))
//!     }
//! }
//!
//! #[async_trait]
//! impl LoginDecide for Gate {
//!     async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
//!         if self.0.deny.iter().any(|name| name == login.name()) {
//!             return Ok(Verdict::refuse("You are not on the list."));
//!         }
//!         Ok(Verdict::allow())
//!     }
//! }
//!
//! export_plugin! { plugin: Gate, name: "gate", hooks: [LoginDecide] }
//! # fn main() {}
//! ```
//!
//! `infrarust plugin new NAME` begins such a crate, and the guide in
//! `docs/plugins.md` of the repository goes through everything once.
//!
//! The crate of the plugin has `crate-type = ["cdylib"]` and this one
//! dependency. What `cargo build --release` makes goes into the proxy's folder
//! of plugins.
//!
//! # The hooks
//!
#![doc = include_str!("hooks.md")]
//!
//! A trait whose hook may wait is an [`async_trait`](macro@async_trait), and so is its `impl`:
//! without the attribute the compiler says that lifetimes do not match.
//!
//! A hook *fails* when it returns an error, panics, takes longer than its
//! deadline, or answers with something that cannot be used. The operator can
//! choose otherwise with `on_failure`.
//!
//! # Players
//!
//! On `client_only` and `offline` servers the proxy speaks the protocol, and a
//! plugin can know who is in the game. [`PlayerObserve`] gives each player a
//! [`PlayerId`], which the services take. A service is a capability: it stands in
//! `needs` or `wants`, and [`Host::grant`] gives the way to it.
//!
//! | capability | what it gives |
//! |---|---|
//! | `IdentityVerified` | [`Grant::profile`]: name, UUID and properties that the proxy has proved (`client_only`) |
//! | `PlayerMessage` | [`Grant::chat`], [`Grant::action_bar`], [`Grant::title`], [`Grant::kick`] |
//! | `PacketInject` | [`Grant::send`] for packets by their kind; [`Grant::to_client`], [`Grant::to_backend`] |
//! | `PlayerTransfer` | [`Grant::transfer`]: to another address (1.20.5 and later) |
//!
//! # Packets
//!
//! On the same servers [`PacketInspect`] and [`PacketModify`] are asked about the
//! packets that the plugin names by their [`PacketKind`], in the game and in the
//! configuration before it. A [`Packet`] has the same fields in every version of the
//! game, and reads one when it is asked for it. The proxy keeps the connection alive
//! whatever a plugin drops: see [`PacketVerdict::drop`].
//!
//! # What comes later
//!
//! `ServerSwitch` and `PlayerCommand` have their names and their places in the matrix,
//! and can be written into `needs` and `wants` today. In `needs` they keep a plugin off
//! the servers whose mode can never give them, at `infrarust check`; in `wants` they are
//! a warning there. Nothing more: they have no service yet, so that [`Host::grant`]
//! gives `None` in every mode. What `may` of a context tells is what declaration and
//! mode would allow.
//!
//! # Threads
//!
//! There is one instance of a plugin per configuration, shared by all workers:
//! it is `Send + Sync`, hooks take `&self`, and several may run at once. The
//! hooks of one connection come one after another. A hook that cannot wait must
//! not block: it holds a worker that serves other players.
//!
//! # Panics
//!
//! A panic ends the call, not the proxy: it is caught inside the plugin and
//! counts as a failure. That needs `panic = "unwind"`, the default of Cargo; a
//! plugin built with `"abort"` is refused. After five panics within a minute the
//! plugin is not asked any more: each of its hooks counts as failed, so that a
//! gate stays shut, until the operator resumes or reloads it. What cannot be
//! caught ends the proxy: a stack overflow, `std::process::exit`, a panic while
//! another unwinds.
//!
//! # The log
//!
//! Events of [`tracing`] go to the log of the proxy, with the target
//! `plugin::<id>::<module>`, where the id is the one of its table in the
//! configuration. Spans are not passed on.

mod capabilities;
mod config;
mod context;
mod error;
mod export;
mod future;
mod guard;
mod hook;
mod host;
mod link;
mod log;
mod packet;
mod player;
mod shim;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod verdict;

pub use async_trait::async_trait;
pub use infrarust_plugin_abi::{API_VERSION, Capability, PacketField, PacketKind, Version};
pub use serde;
pub use toml::Spanned;
pub use tracing;

pub use capabilities::{Cap, Declares, capability};
pub use context::{
    Connection, Event, Handshake, Intent, Login, Player, PlayerEvent, Session, Status,
};
pub use error::{Error, Result};
pub use hook::*;
pub use host::{Counter, Elapsed, Gauge, Grant, Host, Sleep, Task};
pub use packet::{
    FromPacketValue, Interest, Outgoing, Packet, PacketState, PacketValue, PacketVerdict, packets,
};
pub use player::{PlayerId, Profile, Property, ServiceError, Title};
pub use text::{Color, Format, Text};
pub use verdict::{Choice, Reply, Rewrite, Verdict};

/// Everything that a plugin usually needs.
pub mod prelude {
    pub use crate::hook::*;
    pub use crate::{
        Capability, Choice, Connection, Error, Event, Handshake, Host, Intent, Interest, Login,
        Outgoing, Packet, PacketField, PacketKind, PacketState, PacketVerdict, Player, PlayerEvent,
        PlayerId, Reply, Result, Rewrite, Session, Spanned, Status, Text, Title, Verdict,
        async_trait, capability, export_plugin, tracing,
    };
    pub use serde::Deserialize;
}

/// What [`export_plugin!`] uses. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Exported, Implements, Otherwise, check_hooks, check_name, is_in};
    pub use crate::shim::{FLAGS, plugin_table, tables};
    pub use infrarust_plugin_abi as abi;
}

/// The guide for authors, whose examples are tested here.
#[cfg(doctest)]
#[doc = include_str!("../../docs/plugins.md")]
struct Guide;
