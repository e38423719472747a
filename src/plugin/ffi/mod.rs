//! The only folder of the proxy that sees raw pointers: it maps images, calls
//! plugins, and is called by them.
//!
//! What a plugin gives is checked as far as it can be: sizes, null pointers,
//! lengths and UTF-8. That a pointer leads somewhere is trusted; a native
//! plugin could do anything anyway.
#![allow(unsafe_code, reason = "plugins are C tables")]

mod border;
mod call;
mod command;
mod host;
mod image;
mod log;
mod packet;

pub(super) use border::{Answer, Failure, FailureKind};
pub(super) use call::{HookCall, call};
pub(super) use command::ask_commands;
pub(super) use host::table;
pub(super) use image::{Hooks, Image, Instance, open};
pub(super) use packet::{Shown, ask_interest, call_packet};
