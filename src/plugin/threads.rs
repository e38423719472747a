//! Threads for calls of plugins that may block.
//!
//! Not those of the runtime: it has some hundred for files and names of hosts, and its
//! end waits for them. A call that never returns holds one of these, and nothing else.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most threads, those of all plugins together.
const THREADS_MAX: usize = 256;
/// How long a thread waits for another call.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Call = Box<dyn FnOnce() + Send>;

/// What waits, and who waits for it.
struct Threads {
    state: Mutex<State>,
    has_call: Condvar,
}

struct State {
    calls: VecDeque<Call>,
    threads: usize,
    idle: usize,
}

static THREADS: Threads = Threads {
    state: Mutex::new(State {
        calls: VecDeque::new(),
        threads: 0,
        idle: 0,
    }),
    has_call: Condvar::new(),
};

/// No thread is free, and there cannot be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoThread;

/// Runs a call on a thread that may block.
///
/// # Errors
///
/// When no thread is free, and there cannot be another.
pub(super) fn run(call: impl FnOnce() + Send + 'static) -> Result<(), NoThread> {
    let mut state = lock();
    if state.calls.len() < state.idle {
        state.calls.push_back(Box::new(call));
        drop(state);
        THREADS.has_call.notify_one();
        return Ok(());
    }
    if state.threads >= THREADS_MAX {
        return Err(NoThread);
    }
    state.threads += 1;
    drop(state);
    let work = move || {
        let _counted = Counted;
        call();
        while let Some(call) = next() {
            call();
        }
    };
    let started = thread::Builder::new()
        .name("plugin-packets".to_owned())
        .spawn(work);
    if started.is_err() {
        lock().threads -= 1;
    }
    started.map(drop).map_err(|_| NoThread)
}

/// A thread counts until it ends, however that is.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        lock().threads -= 1;
    }
}

/// The next call for this thread, if one comes in time.
fn next() -> Option<Call> {
    let mut state = lock();
    state.idle += 1;
    let waited = THREADS
        .has_call
        .wait_timeout_while(state, IDLE_MAX, |state| state.calls.is_empty());
    let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    state.idle -= 1;
    state.calls.pop_front()
}

fn lock() -> MutexGuard<'static, State> {
    // Nothing is left half done under the lock.
    THREADS.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Calls run beside those that block, and threads are used again.
    #[test]
    fn calls_do_not_wait_for_each_other() {
        let (release, blocked) = mpsc::channel::<()>();
        run(move || {
            let _ = blocked.recv();
        })
        .unwrap();
        let (done, results) = mpsc::channel();
        for number in 0..100 {
            let done = done.clone();
            run(move || done.send(number).unwrap()).unwrap();
            assert_eq!(results.recv().unwrap(), number);
        }
        drop(release);
    }
}
