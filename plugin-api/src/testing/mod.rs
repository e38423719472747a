//! A small host for the tests of plugins.
//!
//! [`TestHost`] calls a plugin through the same C tables as the proxy, without loading a
//! file, so that `cargo test`, breakpoints and coverage work as usual. Add
//! `infrarust-plugin-api` with the feature `testing` to `[dev-dependencies]`.
//!
//! ```standalone_crate
//! # use infrarust_plugin_api::prelude::*;
//! # #[derive(Deserialize)]
//! # #[serde(crate = "infrarust_plugin_api::serde")]
//! # struct Config { deny: Vec<String> }
//! # struct Gate(Config);
//! # impl Plugin for Gate {
//! #     type Config = Config;
//! #     fn new(config: Config, _: &Host<Self>) -> Result<Self> { Ok(Gate(config)) }
//! # }
//! # #[async_trait]
//! # impl LoginDecide for Gate {
//! #     async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
//! #         if self.0.deny.iter().any(|name| name == login.name()) {
//! #             return Ok(Verdict::refuse("You are not on the list."));
//! #         }
//! #         Ok(Verdict::allow())
//! #     }
//! # }
//! # export_plugin! { plugin: Gate, name: "gate", hooks: [LoginDecide] }
//! use infrarust_plugin_api::testing::{Client, Failure, TestHost};
//!
//! # fn main() -> Result<(), Failure> {
//! let host = TestHost::<Gate>::start("deny = ['Eve']")?;
//! let eve = Client::new().name("Eve");
//! assert_eq!(host.login_decide(&eve)?, Verdict::refuse("You are not on the list."));
//! # Ok(())
//! # }
//! ```
#![allow(unsafe_code, reason = "plugins are C tables")]

mod client;
mod commands;
mod hooks;
mod packets;
mod services;
mod wait;

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

use infrarust_plugin_abi::serve::MetricKind;
use infrarust_plugin_abi::{Capability, Point, Str, failure};

pub use client::Client;
pub use packets::RawPacket;
pub use services::Sent;

use crate::PlayerId;
use crate::export::Exported;
use crate::guard::Collected;
use crate::verdict::Answer;
use services::Services;

/// Why a plugin did not start, or a hook failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The text of the error or the panic.
    pub text: String,
    /// The bytes of the configuration that caused the failure, if it has to do with them.
    pub span: Option<Range<usize>>,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// An error was returned.
    Error,
    /// A panic was caught.
    Panic,
    /// The configuration cannot be used.
    Config,
    /// The hook did not answer in 30 seconds.
    TooSlow,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// A running plugin in a test.
///
/// Hooks that wait are awaited on the calling thread. Each task of the plugin runs on its
/// own thread, and time is not simulated. Dropping the host ends the tasks and destroys
/// the plugin.
pub struct TestHost<P: Exported> {
    instance: *mut c_void,
    services: &'static Services,
    plugin: PhantomData<P>,
}

impl<P: Exported> fmt::Debug for TestHost<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestHost({})", P::NAME)
    }
}

// SAFETY: hooks of a plugin may be called on any thread.
unsafe impl<P: Exported> Send for TestHost<P> {}
// SAFETY: hooks of a plugin may be called from several threads at once.
unsafe impl<P: Exported> Sync for TestHost<P> {}

/// The settings of a [`TestHost`].
#[derive(Debug, Default)]
pub struct Setup {
    denied: u64,
    folder: Option<PathBuf>,
    players: HashMap<String, u64>,
}

impl Setup {
    /// The default: every declared capability is granted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a capability away, as on a server with a mode that does not offer it.
    #[must_use]
    pub fn without(mut self, capability: Capability) -> Self {
        self.denied |= capability.bit();
        self
    }

    /// Sets the data folder; without one, [`Host::data_folder`](crate::Host::data_folder)
    /// returns an error.
    #[must_use]
    pub fn data_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the number of players on a server.
    #[must_use]
    pub fn players(mut self, server: impl Into<String>, count: u64) -> Self {
        self.players.insert(server.into(), count);
        self
    }

    /// Makes the plugin from the TOML text of its configuration.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be read, or [`Plugin::new`](crate::Plugin::new) fails.
    pub fn start<P: Exported>(self, config: &str) -> Result<TestHost<P>, Failure> {
        let granted = P::DECLARED & !self.denied;
        let services = Services::leak(granted, self.folder, self.players);
        let mut instance = std::ptr::null_mut();
        let mut collected = Collected::default();
        let sink = collected.sink();
        let Some(create) = P::plugin_table().create else {
            unreachable!("the macro fills the table")
        };
        // SAFETY: the table and the services are leaked; the rest is valid during the call.
        let status = unsafe {
            create(
                services.table(),
                Str::new(config),
                Str::EMPTY,
                &raw const sink,
                &raw mut instance,
            )
        };
        outcome(collected, status)?;
        Ok(TestHost {
            instance,
            services,
            plugin: PhantomData,
        })
    }
}

impl<P: Exported> TestHost<P> {
    /// Makes the plugin from the TOML text of its configuration.
    ///
    /// # Errors
    ///
    /// As [`Setup::start`].
    pub fn start(config: &str) -> Result<Self, Failure> {
        Setup::new().start(config)
    }

    fn grants(&self) -> u64 {
        self.services.granted
    }

    fn table<H: Point>() -> &'static H::Table {
        let capability = H::HOOK.capability();
        let found = P::hook_refs()
            .iter()
            .find(|hook| hook.capability == capability as u32);
        let Some(hook) = found else {
            panic!("the plugin does not list the hook `{capability}` in `export_plugin!`")
        };
        // SAFETY: the macro made the table for this capability.
        unsafe { &*hook.table.cast::<H::Table>() }
    }

    /// What the plugin has sent to this player or to the player's backend since the last
    /// call, in order.
    #[must_use]
    pub fn take_sent(&self, player: PlayerId) -> Vec<Sent> {
        self.services.take_sent(player)
    }

    /// The value of a counter of the plugin; `None` when it has no such counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.services.metric(name, MetricKind::Counter)
    }

    /// The value of a gauge of the plugin; `None` when it has no such gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<i64> {
        let value = self.services.metric(name, MetricKind::Gauge);
        value.map(u64::cast_signed)
    }
}

impl<P: Exported> Drop for TestHost<P> {
    fn drop(&mut self) {
        self.services.end_tasks();
        if let Some(destroy) = P::plugin_table().destroy {
            // SAFETY: no hook runs, since they borrow `self`; the tasks are over.
            unsafe { destroy(self.instance) };
        }
    }
}

fn outcome(collected: Collected, status: i32) -> Result<Answer, Failure> {
    if let Some((code, text, span)) = collected.failure {
        let kind = match code {
            failure::PANIC => FailureKind::Panic,
            failure::CONFIG => FailureKind::Config,
            _ => FailureKind::Error,
        };
        return Err(Failure { kind, text, span });
    }
    collected.result(status).map_err(|error| Failure {
        kind: FailureKind::Error,
        text: error.to_string(),
        span: None,
    })
}
