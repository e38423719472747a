//! What a process takes over of the one that has started it, and must not.
//!
//! A signal that was ignored or blocked there stays so (execve(2)). Where
//! `SIGCHLD` is ignored nobody learns that a process in which a plugin is tried
//! has ended, and where `SIGTERM` is blocked nothing ends the proxy.

#![allow(unsafe_code, reason = "signal(2)")]

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// Has signals mean what they mean to a program that was started from a shell.
/// Must be called before there is another thread.
pub(crate) fn reset_signals() {
    // SAFETY: the default runs no code of this program.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let awaited = [
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
    ];
    let awaited: SigSet = awaited.into_iter().collect();
    let _ = awaited.thread_unblock();
}
