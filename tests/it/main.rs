//! Tests over the wire: a real listener, real sockets, bytes of our own.

#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[cfg(target_os = "linux")]
#[path = "../support/elf.rs"]
mod elf;
#[cfg(target_os = "linux")]
#[path = "../support/library.rs"]
mod library;
#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod guard;
mod legacy;
mod limits;
mod matrix;
#[cfg(target_os = "linux")]
mod plugin_reload;
#[cfg(target_os = "linux")]
mod plugins;
mod process;
mod program;
mod proxy_protocol;
mod reload;
mod routing;
mod status;
