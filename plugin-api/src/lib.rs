//! Write plugins for the Minecraft proxy infrarust, in safe Rust.
//!
//! A plugin is a dynamic library. It declares in one macro its name, its hooks and
//! what it needs. The proxy reads this declaration from the file before it runs any
//! code, and refuses the plugin on servers with a mode that cannot offer what it needs.
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
//! `infrarust plugin new NAME` creates such a crate, and `docs/plugins.md` of the
//! repository is the guide for authors.
//!
//! The crate of the plugin has `crate-type = ["cdylib"]` and this dependency. The
//! library that `cargo build --release` makes is copied into the proxy's folder of
//! plugins.
//!
//! # The hooks
//!
#![doc = include_str!("hooks.md")]
//!
//! The trait of a hook that may wait is an [`async_trait`](macro@async_trait), and so is
//! its `impl`: without the attribute the compiler reports that lifetimes do not match.
//!
//! A hook *fails* when it returns an error, panics, takes longer than its deadline, or
//! gives an answer that cannot be used. The last column is the default; the operator can
//! change it with `on_failure`.
//!
//! # Players
//!
//! On `client_only` and `offline` servers the proxy speaks the protocol, and a
//! plugin can know who is in the game. [`PlayerObserve`] gives each player a
//! [`PlayerId`], which the services take as an argument. A service is a capability: list
//! it in `needs` or `wants`, and get it with [`Host::grant`].
//!
//! | capability | what it gives |
//! |---|---|
//! | `IdentityVerified` | [`Grant::profile`]: name, UUID and properties that the proxy has proved (`client_only`) |
//! | `PlayerMessage` | [`Grant::chat`], [`Grant::action_bar`], [`Grant::title`], [`Grant::kick`] |
//! | `PacketInject` | [`Grant::send`] for packets by their kind; [`Grant::to_client`], [`Grant::to_backend`] |
//! | `PlayerTransfer` | [`Grant::transfer`]: to another address (1.20.5 and later) |
//! | `PlayerCookie` | [`Grant::store`], [`Grant::request`]: cookies of the client (1.20.5 and later) |
//! | `ServerSwitch` | [`Grant::switch`]: to another server of the player's network |
//!
//! # Packets
//!
//! On the same servers the hooks [`PacketInspect`] and [`PacketModify`] are called for
//! the packets that the plugin names by their [`PacketKind`], in the configuration and in
//! play. A [`Packet`] has the same fields in every version of the game, and reads a field
//! only when it is asked for it. The proxy keeps the connection alive whatever a plugin
//! drops: see [`PacketVerdict::drop`].
//!
//! # Commands
//!
//! [`PlayerCommand`] adds commands that players type, with completion. Each says which
//! players it is for; others do not see it, and their backend gets what they type.
//!
//! # Threads
//!
//! There is one instance of a plugin per configuration, shared by all workers:
//! it is `Send + Sync`, hooks take `&self`, and several may run at once. The
//! hooks of one connection are called one after another. A hook that cannot wait must
//! not block either: it runs on a worker that serves other players.
//!
//! # Panics
//!
//! A panic ends the call, not the proxy: it is caught inside the plugin and
//! counts as a failure. That needs `panic = "unwind"`, the default of Cargo; a
//! plugin built with `"abort"` is refused. After five panics within a minute the
//! plugin is quarantined: its hooks are not called and count as failed, so that a plugin
//! that refuses players does not let them in, until the operator resumes or reloads it.
//! Some things cannot be caught and end the proxy: a stack overflow,
//! `std::process::exit`, a panic while another one unwinds.
//!
//! # The log
//!
//! Events of [`tracing`] go to the log of the proxy, with the target
//! `plugin::<id>::<module>`, where the id is the one of its table in the
//! configuration. Spans are not passed on.

mod capabilities;
mod command;
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
pub use command::{Audience, CommandReply, CommandSpec};
pub use context::{
    Command, Connection, Event, Handshake, Intent, Login, Player, PlayerEvent, Session, Status,
};
pub use error::{Error, Result};
pub use hook::*;
pub use host::{Counter, Elapsed, Gauge, Grant, Host, Sleep, Task};
pub use packet::{
    FromPacketValue, Interest, Outgoing, Packet, PacketState, PacketValue, PacketVerdict, packets,
};
pub use player::{CookieAnswer, PlayerId, Profile, Property, ServiceError, Switching, Title};
pub use text::{Color, Format, Text};
pub use verdict::{Choice, Reply, Rewrite, Verdict};

/// Everything that a plugin usually needs.
pub mod prelude {
    pub use crate::hook::*;
    pub use crate::{
        Audience, Capability, Choice, Command, CommandReply, CommandSpec, Connection, Error, Event,
        Handshake, Host, Intent, Interest, Login, Outgoing, Packet, PacketField, PacketKind,
        PacketState, PacketVerdict, Player, PlayerEvent, PlayerId, Reply, Result, Rewrite, Session,
        Spanned, Status, Text, Title, Verdict, async_trait, capability, export_plugin, tracing,
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
