//! The keeper: the parent of a process in which a plugin is tried. It runs no code of the
//! plugin, ends with the same status as the trial, and ends all processes that the plugin has
//! started.
//!
//! Linux gives orphans to the nearest ancestor that asks for them (`prctl(2)`,
//! `PR_SET_CHILD_SUBREAPER`). So every process that a plugin starts, in any session, becomes
//! a child of the keeper when its own parents have ended.

#![allow(unsafe_code, reason = "fork(2)")]

use std::ffi::c_int;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// Makes this process the keeper of a child, and returns in the child alone.
///
/// # Errors
///
/// When no process can be made, or this one already has other threads, which the child would
/// not have.
pub(super) fn begin() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("it has threads already"));
    }
    set_child_subreaper(true)?;
    // If the proxy has ended, the keeper ends the trial.
    set_pdeathsig(Signal::SIGTERM)?;
    let keeper = getpid();
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM].into_iter().collect();
    let before = signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    // SAFETY: there is no other thread, which could hold a lock.
    match unsafe { fork() }? {
        ForkResult::Child => {
            before.thread_set_mask()?;
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != keeper {
                return Err(io::Error::other("its keeper has ended"));
            }
            Ok(())
        }
        ForkResult::Parent { child } => {
            let status = wait_for(child, &signals);
            end_children();
            end_as(status)
        }
    }
}

/// Waits until the child has ended, and ends it when the keeper gets a signal to end.
fn wait_for(child: Pid, signals: &SigSet) -> WaitStatus {
    let killed = WaitStatus::Signaled(child, Signal::SIGKILL, false);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) if status.pid() == Some(child) => return status,
            // An orphan.
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return killed,
        }
        if matches!(signals.wait(), Ok(Signal::SIGTERM) | Err(_)) {
            let _ = kill(child, Signal::SIGKILL);
            return killed;
        }
    }
}

/// Ends all children, and the processes that become children when their parents have ended.
fn end_children() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) | Err(Errno::EINTR) => continue,
            // There are none.
            Err(_) => return,
        }
        let children = children();
        for child in &children {
            let _ = kill(*child, Signal::SIGKILL);
        }
        // Without `/proc` no child is found, and none is waited for.
        if children.is_empty() || waitpid(None, None).is_err_and(|error| error != Errno::EINTR) {
            return;
        }
    }
}

/// The children of this process (`proc_pid_stat(5)`).
fn children() -> Vec<Pid> {
    let own = getpid();
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name of the program, in parentheses, may have any characters.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1) == Some(own.to_string().as_str())
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .map(Pid::from_raw)
        .collect()
}

/// Ends this process as the child has ended.
fn end_as(status: WaitStatus) -> ! {
    let mut code = 1;
    match status {
        WaitStatus::Exited(_, of_child) => code = of_child,
        WaitStatus::Signaled(_, signal, _) => {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            // SAFETY: the default action is that of a program that has just begun.
            let _ =
                unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
            let only: SigSet = [signal].into_iter().collect();
            let _ = only.thread_unblock();
            let _ = raise(signal);
            code = 128 + signal as c_int;
        }
        _ => {}
    }
    // SAFETY: ends the process without the handlers of the child.
    unsafe { libc::_exit(code) }
}
