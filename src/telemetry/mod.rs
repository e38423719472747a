//! What operators see of a running proxy: the log with its `filter` and `sample`, and
//! messages to the service manager.

mod filter;
mod log;
mod sample;
pub(crate) mod service_manager;

pub(crate) use self::log::filter;
pub(crate) use self::log::{LogFormat, LogGuard, init};
pub(crate) use self::sample::{Sample, Sampler};

/// What the log targets of plugins begin with; the id and the module follow.
pub(crate) const PLUGIN_TARGET_PREFIX: &str = "plugin::";
