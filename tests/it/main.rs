//! Tests of configurations and their diagnostics, and tests over the wire: a real listener,
//! real sockets, and clients and backends that write their own bytes.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub
)]

#[cfg(target_os = "linux")]
use infrarust_test_support::library;
use infrarust_test_support::{elf, program};

#[cfg(target_os = "linux")]
infrarust_test_support::watchdog!();

mod abuse;
mod backends;
mod config;
mod contributing;
#[cfg(target_os = "linux")]
mod demo;
mod dependencies;
#[cfg(unix)]
mod docker;
mod documents;
mod endings;
mod engines;
mod examples;
mod guard;
mod intercept;
mod legacy;
#[cfg(target_os = "linux")]
mod lifecycle;
mod limits;
mod matrix;
#[cfg(target_os = "linux")]
mod mission;
mod no_dead_key;
#[cfg(target_os = "linux")]
mod plugin_reload;
#[cfg(target_os = "linux")]
mod plugins;
mod process;
mod proxy_protocol;
mod reload;
mod routing;
mod status;
mod support;
mod tidy;
#[cfg(target_os = "linux")]
mod unruly;
