//! The only folder of the proxy that sees raw pointers: it maps images, calls
//! plugins, and is called by them.
//!
//! Values from a plugin are checked as far as possible: sizes, null pointers, lengths and
//! UTF-8. Pointers that are not null are trusted: a native plugin could do anything anyway.
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
pub(super) use command::{COMMANDS_MAX, ask_commands};
pub(super) use host::table;
pub(super) use image::{Hooks, Image, Instance, open};
pub(super) use packet::{Shown, ask_interest, call_packet};
