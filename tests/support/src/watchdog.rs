//! Ends a test program when one of its tests takes too long, and prints where it is.
//!
//! The test harness has no limit: it names a test that takes more than a minute, and
//! waits for it.

#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Much more than any test takes on a slow machine. Those that call Cargo take minutes.
const TEST_TIME_MAX: Duration = Duration::from_secs(15 * 60);
const CHECK_PERIOD: Duration = Duration::from_secs(30);
/// How long the threads have to print their stacks.
const REPORT_TIME: Duration = Duration::from_secs(10);

/// Starts the watchdog of a test program, before its tests.
#[macro_export]
macro_rules! watchdog {
    () => {
        // SAFETY: the section has functions that are called before `main`, without
        // arguments that they need. This one only starts a thread.
        #[allow(unsafe_code)]
        #[used]
        #[unsafe(link_section = ".init_array")]
        static WATCHDOG: extern "C" fn() = $crate::watchdog::start;
    };
}

/// See [`watchdog!`](crate::watchdog!).
pub extern "C" fn start() {
    // Without a thread there are no tests either.
    let _ = thread::Builder::new().name("watchdog".into()).spawn(watch);
}

fn watch() {
    let mut seen: HashMap<libc::pid_t, Instant> = HashMap::new();
    loop {
        let tests = test_threads();
        seen.retain(|thread, _| tests.contains(thread));
        for thread in tests {
            seen.entry(thread).or_insert_with(Instant::now);
        }
        let is_late = |since: &Instant| since.elapsed() >= TEST_TIME_MAX;
        let late = seen.iter().filter(|(_, since)| is_late(since));
        let late: Vec<_> = late.map(|(thread, _)| *thread).collect();
        if !late.is_empty() {
            end(&late);
        }
        thread::sleep(CHECK_PERIOD);
    }
}

/// The threads of tests: the harness names them as the tests, which are in modules.
fn test_threads() -> Vec<libc::pid_t> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let is_test = |thread: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.contains(':'))
    };
    let number = |thread: std::fs::DirEntry| thread.file_name().to_str()?.parse().ok();
    let threads = threads.flatten().filter(is_test);
    threads.filter_map(number).collect()
}

/// Has each of these threads print its name and stack, and ends the process.
fn end(threads: &[libc::pid_t]) -> ! {
    // SAFETY: the handler may wait for a lock that its thread holds. The process ends all
    // the same.
    let _ = unsafe { signal(Signal::SIGUSR2, SigHandler::Handler(print_stack)) };
    for thread in threads {
        // SAFETY: a call that passes numbers.
        unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                libc::getpid(),
                *thread,
                Signal::SIGUSR2 as i32,
            )
        };
    }
    thread::sleep(REPORT_TIME);
    // SAFETY: it ends the process without waiting for anything.
    unsafe { libc::_exit(101) }
}

extern "C" fn print_stack(_: libc::c_int) {
    let (thread, stack) = (thread::current(), Backtrace::force_capture());
    let name = thread.name().unwrap_or("a test");
    let text = format!("\n{name} takes longer than {TEST_TIME_MAX:?}:\n{stack}\n");
    // Not `eprintln!`, which the harness keeps until the end of the test.
    let _ = io::stderr().write_all(text.as_bytes());
}
