//! Plugins as real libraries, built by Cargo: in the host, with the commands for authors,
//! and as the pages about plugins describe them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

infrarust_test_support::watchdog!();

mod commands;
mod guide;
mod host;
