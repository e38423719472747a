//! Resets signal settings that a process inherits from its parent and must not keep.
//!
//! A signal that was ignored or blocked there stays so (execve(2)). If `SIGCHLD` is
//! ignored, the end of a plugin's trial process is not reported, and if `SIGTERM` is
//! blocked, no signal ends the proxy.

#![allow(unsafe_code, reason = "signal(2)")]

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// Gives signals the settings of a program that is started from a shell. Must be called
/// before another thread exists.
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
