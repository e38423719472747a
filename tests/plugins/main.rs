//! Plugins as real libraries, built by Cargo: in the host, by the commands for
//! their authors, and as the pages about them say.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod guide;
mod host;
