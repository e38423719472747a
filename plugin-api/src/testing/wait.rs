//! Waits on the thread of the test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Calls `poll` on this thread, each time it is woken, until it returns a value; `None`
/// when the time is over.
pub(super) fn block_on<T>(time: Duration, mut poll: impl FnMut(&Waker) -> Option<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let end = Instant::now() + time;
    loop {
        if let Some(output) = poll(&waker) {
            return Some(output);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
