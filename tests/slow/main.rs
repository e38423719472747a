//! Tests that need the machine for themselves or take long: figures of the
//! whole process, thousands of sessions, an engine and clients that other
//! people wrote.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod alone;
mod containers;
mod deadline;
mod descriptors;
mod empty_hooks;
mod engine;
mod idle;
mod packets;
mod real_clients;
mod scale;
mod splice;

use std::time::Duration;

use infrarust::config::model::Keepalive;

/// Peers in these tests live and answer probes.
const KEEPALIVE: Keepalive = Keepalive {
    time: Duration::from_secs(40),
    interval: Duration::from_secs(5),
    retries: 4,
};
