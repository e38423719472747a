//! The last words of a process that a plugin takes with it: which plugin it was,
//! and where. Nothing can save the process then; but whoever starts it again
//! should know whom to leave out.
//!
//! They go to standard error with one write(2), because the log's own thread
//! gets no turn any more.

#![allow(unsafe_code, reason = "handlers of signals, and of exit(3)")]

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

use super::watch;

/// How a process ends that has broken something, or has given up (signal(7)).
const CRASHES: [Signal; 6] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGABRT,
];

/// What was there before us, which still has its say: the standard library tells
/// of stacks that overflow.
static BEFORE: [OnceLock<SigAction>; CRASHES.len()] = [const { OnceLock::new() }; CRASHES.len()];

/// Has the process say who ended it, from now on.
pub(crate) fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: `exits` is a function of this program and does not unwind.
        if unsafe { libc::atexit(exits) } != 0 {
            tracing::debug!("a plugin that ends the process will not be named");
        }
        let action = SigAction::new(
            SigHandler::SigAction(crashes),
            SaFlags::SA_ONSTACK,
            SigSet::empty(),
        );
        for (signal, before) in CRASHES.into_iter().zip(&BEFORE) {
            // SAFETY: `crashes` does what a handler may do (signal-safety(7)).
            match unsafe { sigaction(signal, &action) } {
                Ok(old) => drop(before.set(old)),
                Err(error) => tracing::debug!(%error, "a plugin that crashes will not be named"),
            }
        }
    });
}

/// Called by exit(3), on the thread that has called it.
extern "C" fn exits() {
    say("ended the process");
}

/// Called on the thread that has crashed.
extern "C" fn crashes(number: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Ok(signal) = Signal::try_from(number) else {
        return;
    };
    say(signal.as_str());
    let at = CRASHES.iter().position(|crash| *crash == signal);
    let before = at.and_then(|at| BEFORE[at].get());
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: what was in force before may be again.
    let _ = unsafe { sigaction(signal, before.unwrap_or(&default)) };
    // An instruction that fails does so again after the return, and meets the
    // former handler. What was sent has to be sent again.
    // SAFETY: the kernel fills it in for a handler of this kind.
    let is_sent = unsafe { (*info).si_code } <= 0;
    if is_sent {
        let _ = raise(signal);
    }
}

/// Writes who was at work on this thread, if a plugin was.
fn say(what: &str) {
    watch::with_current(|plugin, place| {
        let mut line = Line::default();
        for part in [
            "plugin `",
            plugin,
            "` took the proxy with it in ",
            place,
            ": ",
            what,
            "\n",
        ] {
            line.push(part);
        }
        // SAFETY: whether or not it is open, it is not closed here.
        let stderr = unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) };
        let _ = nix::unistd::write(stderr, line.bytes());
    });
}

/// A line without an allocation, cut where it is too long.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 256],
            len: 0,
        }
    }
}

impl Line {
    fn push(&mut self, text: &str) {
        let room = self.bytes.iter_mut().skip(self.len);
        self.len += room
            .zip(text.bytes())
            .map(|(place, byte)| *place = byte)
            .count();
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
