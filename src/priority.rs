//! The priority of a thread, and how soon it gets a core that others use.

#![cfg_attr(
    target_os = "linux",
    allow(
        unsafe_code,
        reason = "nice(2) and sched_setattr(2), which no safe function calls"
    )
)]

#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;

#[cfg(target_os = "linux")]
use nix::libc;

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
    unsafe { libc::nice(NICENESS) };
}

/// Other systems have one priority for all threads of a process, which stays as it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}

/// The time slice of a thread with [`shorten_slice`], in nanoseconds: the shortest that the
/// kernel allows.
#[cfg(target_os = "linux")]
const SLICE_NANOS: u64 = 100_000;

/// Lets this thread run sooner when it has waited for something, for the rest of its life.
///
/// Since 6.12 Linux lets a thread choose its time slice with sched_setattr(2). A thread that
/// wakes up takes the core from one with a longer slice, which otherwise keeps the core for
/// the rest of its own: some milliseconds. Its share of the core stays the same. Older versions
/// ignore the slice, and threads of the real-time classes have none.
#[cfg(target_os = "linux")]
pub(crate) fn shorten_slice() {
    let Some(mut attributes) = attributes() else {
        return;
    };
    if !matches!(
        i32::try_from(attributes.sched_policy),
        Ok(libc::SCHED_OTHER | libc::SCHED_BATCH)
    ) {
        return;
    }
    attributes.sched_runtime = SLICE_NANOS;
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the kernel reads the size of the attributes first, and then as many bytes. If
    // it refuses, the thread keeps its slice.
    unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const attributes,
            no_flags,
        )
    };
}

/// The scheduling attributes of this thread.
#[cfg(target_os = "linux")]
fn attributes() -> Option<libc::sched_attr> {
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    let size = libc::c_uint::try_from(size_of::<libc::sched_attr>()).ok()?;
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the kernel writes at most `size` bytes, which are those of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            this_thread,
            attributes.as_mut_ptr(),
            size,
            no_flags,
        )
    };
    // SAFETY: any bytes are valid attributes, and all of them were zero before the call.
    (result == 0).then(|| unsafe { attributes.assume_init() })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A thread gets the slice where the kernel has slices, and keeps its priority.
    #[test]
    fn a_slice_is_shortened() {
        let thread = std::thread::spawn(|| {
            let before = attributes().expect("Linux has them since 3.14");
            shorten_slice();
            let after = attributes().expect("Linux has them since 3.14");
            assert_eq!(after.sched_policy, before.sched_policy);
            assert_eq!(after.sched_nice, before.sched_nice);
            let has_slices = before.sched_runtime != 0;
            let expected = if has_slices { SLICE_NANOS } else { 0 };
            assert_eq!(after.sched_runtime, expected);
        });
        thread.join().unwrap();
    }
}
