//! Reports which plugin has ended the process, and in which hook. The process cannot
//! continue then, but the operator learns which plugin to disable.
//!
//! The report goes to standard error with one write(2), because the thread of
//! the log does not run any more.

#![allow(unsafe_code, reason = "handlers of signals, and of exit(3)")]

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use super::code;
use super::watch;

/// The status of a process that a plugin has ended.
const FAILURE: c_int = 1;

/// The signals of a crash or an abort (signal(7)).
const CRASHES: [Signal; 6] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGABRT,
];

/// The handlers that were installed before. They are called too: the one of the standard
/// library reports stack overflows.
static BEFORE: [OnceLock<SigAction>; CRASHES.len()] = [const { OnceLock::new() }; CRASHES.len()];

/// Installs the report: it is written if the process ends before the result is
/// dropped.
pub(crate) fn listen() -> Running {
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
    Running
}

/// Whether the program itself ends the process.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// After its drop an end of the process is intended.
#[must_use]
pub(crate) struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        IS_OVER.store(true, Ordering::Relaxed);
    }
}

/// Called by exit(3), on the thread that has called it. If a plugin called it,
/// the service manager must see a failure, whatever status the plugin has chosen.
extern "C" fn exits() {
    if IS_OVER.load(Ordering::Relaxed) {
        return;
    }
    if say("ended the process", stack_here()) {
        // SAFETY: ends the process; handlers of exit(3) must not call it again.
        unsafe { libc::_exit(FAILURE) };
    }
}

/// An address in the stack of this thread.
#[inline(never)]
fn stack_here() -> usize {
    let here = 0_u8;
    std::hint::black_box(&raw const here).addr()
}

/// Called on the thread that has crashed.
extern "C" fn crashes(number: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Ok(signal) = Signal::try_from(number) else {
        return;
    };
    // SAFETY: the kernel passes the context of the thread.
    let stack = unsafe { stack_of(context) };
    say(signal.as_str(), stack.unwrap_or_else(stack_here));
    let at = CRASHES.iter().position(|crash| *crash == signal);
    let before = at.and_then(|at| BEFORE[at].get());
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: this action was in force before.
    let _ = unsafe { sigaction(signal, before.unwrap_or(&default)) };
    // A faulting instruction faults again after the return, and then reaches the former
    // handler. A signal that was sent has to be sent again.
    // SAFETY: the kernel fills it in for a handler of this kind.
    let is_sent = unsafe { (*info).si_code } <= 0;
    if is_sent {
        let _ = raise(signal);
    }
}

/// The stack pointer of an interrupted thread, where this processor is known.
///
/// # Safety
///
/// The context must be the one that a signal handler was called with.
unsafe fn stack_of(context: *mut libc::c_void) -> Option<usize> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        // SAFETY: the caller promises it.
        let context = unsafe { context.cast::<libc::ucontext_t>().as_ref() }?;
        usize::try_from(context.uc_mcontext.gregs[usize::try_from(libc::REG_RSP).ok()?]).ok()
    }
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    {
        // SAFETY: the caller promises it.
        let context = unsafe { context.cast::<libc::ucontext_t>().as_ref() }?;
        usize::try_from(context.uc_mcontext.sp).ok()
    }
    #[cfg(not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        let _ = context;
        None
    }
}

/// Writes the plugin that this thread was in, if any: from the slot of the thread, or from
/// its stack if the thread belongs to a plugin or runs destructors. Returns whether there
/// was one.
fn say(what: &str, stack: usize) -> bool {
    let mut is_said = false;
    watch::with_current(|plugin, place| {
        is_said = true;
        write_line(plugin, place, what);
    });
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    if !is_said && let Some(plugin) = code::on_stack(stack) {
        is_said = true;
        write_line(plugin, "a thread of its own, or the end of a thread", what);
    }
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    let _ = stack;
    is_said
}

fn write_line(plugin: &str, place: &str, what: &str) {
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
}

/// A line in a fixed buffer, cut if it is too long.
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
