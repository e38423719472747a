//! The priority of a thread.

#![cfg_attr(
    target_os = "linux",
    allow(unsafe_code, reason = "nice(2), which no safe function calls")
)]

/// How much lower the priority of a thread is, as for nice(1). On a core where other threads
/// of the proxy have work all the time, it gets a tenth of what one of them gets: some 70
/// decryptions for logins in a second. With 19 it would get 1.5 % and some 10 logins.
#[cfg(target_os = "linux")]
pub(crate) const NICENESS: i32 = 10;

/// Lowers the priority of this thread for the rest of its life.
///
/// If the system refuses that, the thread keeps its priority: it then only delays others more.
#[cfg(target_os = "linux")]
pub(crate) fn lower() {
    // SAFETY: it takes a number, and has no other conditions. On Linux it changes the calling
    // thread only.
    unsafe { nix::libc::nice(NICENESS) };
}

/// Other systems have one priority for all threads of a process, which stays as it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}
