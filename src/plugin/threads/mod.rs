//! Threads for calls of plugins that may block.
//!
//! They are not those of the runtime, which has some hundred threads for files and names of
//! hosts, and waits for all of them when it ends.
//!
//! Few threads are awake as long as calls return at once: a thread takes one work item
//! after another, so that one wake-up serves many sessions, and wakes those who wait for
//! the results together, before it waits itself. A watch thread looks at the
//! running calls. If a call blocks, the watch wakes another thread for the waiting work; if
//! a call exceeds its deadline, its work goes on without it. So a call that never returns
//! occupies one thread, and delays nothing else.
//!
//! Here are the threads; the watch is in `watch`.

#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use self::watch::Watch;
use crate::supervise;

/// The most threads, for all plugins together.
const THREADS_MAX: usize = 256;
/// How long a thread without work waits before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a result waits for others that are passed on by the same wake-up. A wake-up takes
/// some microseconds.
const RESULT_WAIT_MAX: Duration = Duration::from_micros(200);

/// A work item: calls of plugins, one after another.
pub(super) trait Work: Send + 'static {
    /// A call. It may still run after its work has ended.
    type Call;
    /// What a call has returned.
    type Given;

    /// How many calls of the next plugin may run, and its deadline; `None` after the
    /// last call.
    fn limits(&self) -> Option<(&Arc<CallLimit>, Duration)>;

    /// The next call. It stays the same until [`take`](Self::take).
    fn call(&mut self) -> Option<Self::Call>;

    /// Runs a call on this thread, as long as it takes.
    fn run(call: Self::Call) -> Self::Given;

    /// Takes the result of the call, or the reason why there is none.
    fn take(&mut self, given: Result<Self::Given, Unanswered>);

    /// Called after the last call. Returns a waker if somebody has to be woken for the
    /// result.
    fn end(self: Box<Self>) -> Option<Waker>;
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It did not return within its deadline.
    Late,
    /// It could not run: too many calls of the same plugin have not returned.
    Busy,
}

/// How many calls of one plugin may run at the same time.
#[derive(Debug)]
pub(super) struct CallLimit {
    max: usize,
    running: AtomicUsize,
    /// How many of the running calls have exceeded their deadlines.
    late: AtomicUsize,
}

impl CallLimit {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            running: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
        }
    }

    /// Counts one more call, if the limit allows it. Returns whether it does.
    fn begin(&self) -> bool {
        let add = |running: usize| (running < self.max).then_some(running + 1);
        let (order, read) = (Ordering::SeqCst, Ordering::SeqCst);
        self.running.fetch_update(order, read, add).is_ok()
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many more calls could begin now.
    fn room(&self) -> usize {
        let running = self.running.load(Ordering::SeqCst);
        self.max.saturating_sub(running)
    }

    /// Whether every call that may run has exceeded its deadline, so that waiting is
    /// useless.
    fn is_stuck(&self) -> bool {
        self.late.load(Ordering::Relaxed) >= self.max
    }
}

/// The threads, and the work that waits for them.
pub(super) struct Threads<W> {
    state: Mutex<State<W>>,
    has_work: Condvar,
    /// Wakes the watch.
    has_calls: Condvar,
    /// The length of [`State::held_back`], for readers without the lock.
    held_back: AtomicUsize,
}

struct State<W> {
    /// Work that waits for a thread.
    queue: VecDeque<Waiting<W>>,
    /// Work that waits until another call of the same plugin ends.
    held_back: VecDeque<Waiting<W>>,
    threads: Vec<Arc<CurrentWork<W>>>,
    /// How many threads wait for work and have not been woken.
    idle: usize,
    /// How many threads have been woken and do not run yet.
    woken: usize,
    /// How many of them have not been notified yet.
    to_notify: usize,
    /// How many threads run or have been woken, without those in blocked calls.
    awake: usize,
    watch: Watch,
}

struct Waiting<W> {
    work: Box<W>,
    /// When the watch has found it.
    since: Option<Instant>,
}

/// What the watch has to know of a thread.
struct CurrentWork<W>(Mutex<Current<W>>);

struct Current<W> {
    /// The work that the thread runs; `None` between two calls.
    running: Option<Running<W>>,
    /// Those who wait for the results of work that has ended, each once.
    wakers: Vec<Waker>,
    /// Since when the first of them waits.
    waits_since: Option<Instant>,
}

/// A work item during a call.
struct Running<W> {
    work: Box<W>,
    limit: Arc<CallLimit>,
    deadline: Duration,
    /// When the watch has found it.
    since: Option<Instant>,
    /// The watch has found the call blocked: its thread does not count as awake.
    is_blocked: bool,
}

impl<W> CurrentWork<W> {
    const fn new() -> Self {
        Self(Mutex::new(Current {
            running: None,
            wakers: Vec::new(),
            waits_since: None,
        }))
    }

    /// Adds somebody who waits for a result. Returns false if those who wait should be woken
    /// now, because one of them has waited for long.
    fn add(&self, waker: Waker) -> bool {
        let now = Instant::now();
        let mut current = self.lock();
        let since = *current.waits_since.get_or_insert(now);
        if !current.wakers.iter().any(|other| other.will_wake(&waker)) {
            current.wakers.push(waker);
        }
        now.duration_since(since) < RESULT_WAIT_MAX
    }

    /// Wakes those who wait for results.
    fn wake_all(&self) {
        let wakers = self.lock().take_wakers();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Current<W>> {
        // A panic leaves the state consistent: no change under the lock is partial.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Current<W> {
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.waits_since = None;
        std::mem::take(&mut self.wakers)
    }
}

/// How many threads may be awake at the same time. Threads in blocked calls do not count.
fn awake_max() -> usize {
    static AWAKE_MAX: OnceLock<usize> = OnceLock::new();
    // Asked once: the answer is read from files (cgroups), which takes longer than a call.
    let ask = || thread::available_parallelism().map_or(2, NonZeroUsize::get);
    *AWAKE_MAX.get_or_init(ask)
}

impl<W: Work> Threads<W> {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                held_back: VecDeque::new(),
                threads: Vec::new(),
                idle: 0,
                woken: 0,
                to_notify: 0,
                awake: 0,
                watch: Watch::NotStarted,
            }),
            has_work: Condvar::new(),
            has_calls: Condvar::new(),
            held_back: AtomicUsize::new(0),
        }
    }

    /// Adds a work item for one of the threads. [`begin`](Self::begin) must follow, once for
    /// all items that were added.
    pub(super) fn put(&self, work: Box<W>) {
        let waiting = Waiting { work, since: None };
        self.lock().queue.push_back(waiting);
    }

    /// Wakes a thread for the work that was added. Returns at once.
    pub(super) fn begin(&'static self) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            return;
        }
        // Without the watch a call that blocks would hold its work for ever.
        let is_watched = self.watch(&mut state);
        let has_thread = is_watched && self.wake(&mut state);
        if !has_thread && (!is_watched || state.threads.is_empty()) {
            let waiting: Vec<_> = state.queue.drain(..).collect();
            drop(state);
            for Waiting { work, .. } in waiting {
                give_up(work);
            }
            return;
        }
        self.unlock(state);
    }

    /// Wakes or starts a thread, unless enough are awake. Returns whether the waiting work
    /// has a thread. The thread runs after [`unlock`](Self::unlock).
    fn wake(&'static self, state: &mut State<W>) -> bool {
        if state.awake >= awake_max() {
            return true;
        }
        if state.idle > 0 {
            // It counts as awake from now on, so that the next work wakes another thread.
            state.idle -= 1;
            state.woken += 1;
            state.awake += 1;
            state.to_notify += 1;
            return true;
        }
        if state.threads.len() >= THREADS_MAX {
            return false;
        }
        let current = Arc::new(CurrentWork::new());
        let own = Arc::clone(&current);
        let started = thread::Builder::new()
            .name("plugin-packets".to_owned())
            // The next work starts another thread.
            .spawn(move || supervise::caught_here("a call of a plugin", || self.work(&own)));
        if started.is_ok() {
            state.threads.push(current);
            state.awake += 1;
        }
        started.is_ok()
    }

    /// Gives the lock back, and then notifies the threads that [`wake`](Self::wake) has
    /// chosen: one that runs at once, in place of this thread, would wait for the lock.
    fn unlock(&self, mut state: MutexGuard<'_, State<W>>) {
        let to_notify = std::mem::take(&mut state.to_notify);
        drop(state);
        for _ in 0..to_notify {
            self.has_work.notify_one();
        }
    }

    fn work(&'static self, current: &Arc<CurrentWork<W>>) {
        let _present = Present {
            threads: self,
            current,
        };
        while let Some(waiting) = self.next(current) {
            let Some(waker) = self.run(waiting, current) else {
                continue;
            };
            if !current.add(waker) {
                current.wake_all();
                // There is much work, or the calls are slow.
                self.begin();
            }
        }
    }

    /// The next work for this thread; `None` if none comes within [`IDLE_MAX`]. Wakes those
    /// who wait for results before it waits.
    fn next(&self, current: &CurrentWork<W>) -> Option<Waiting<W>> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.queue.pop_front() {
                return Some(waiting);
            }
            drop(state);
            current.wake_all();
            state = self.lock();
            if !state.queue.is_empty() {
                continue;
            }
            state.awake -= 1;
            state.idle += 1;
            let until = Instant::now() + IDLE_MAX;
            while state.woken == 0 {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.idle -= 1;
                    return None;
                }
                let waited = self.has_work.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            // `wake` has already counted this thread as awake.
            state.woken -= 1;
        }
    }

    /// Runs the calls of a work item. Returns the waker of its result.
    fn run(&'static self, waiting: Waiting<W>, current: &CurrentWork<W>) -> Option<Waker> {
        let Waiting {
            mut work,
            mut since,
        } = waiting;
        loop {
            let Some((limit, deadline)) = work.limits() else {
                return work.end();
            };
            let limit = Arc::clone(limit);
            if !limit.begin() {
                match self.hold_back(Waiting { work, since }, &limit) {
                    // Another call has ended since, and this one has its room.
                    Some(again) => work = again,
                    None => return None,
                }
            }
            since = None;
            let call = work.call();
            current.lock().running = Some(Running {
                work,
                limit: Arc::clone(&limit),
                deadline,
                since: None,
                is_blocked: false,
            });
            let mut ongoing = OngoingCall {
                threads: self,
                current,
                limit: Some(limit),
            };
            let given = call.map(W::run);
            work = ongoing.end()?;
            work.take(given.ok_or(Unanswered::Busy));
        }
    }

    /// Makes a work item wait until a call of its plugin ends. If one has ended since,
    /// counts the next call as begun and returns the work instead.
    fn hold_back(&self, waiting: Waiting<W>, limit: &CallLimit) -> Option<Box<W>> {
        let mut state = self.lock();
        // Stored before the second attempt: either that succeeds, or the call that ends
        // next sees that work waits.
        self.held_back
            .store(state.held_back.len() + 1, Ordering::SeqCst);
        if limit.begin() {
            self.held_back
                .store(state.held_back.len(), Ordering::SeqCst);
            return Some(waiting.work);
        }
        match waiting.since {
            // It was taken from the list before, and another work was faster.
            Some(_) => state.held_back.push_front(waiting),
            None => state.held_back.push_back(waiting),
        }
        None
    }

    /// Counts the end of a call, and queues a work item that waited for it.
    fn release(&'static self, limit: &Arc<CallLimit>) {
        limit.end();
        if self.held_back.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        let mut at = 0;
        while let Some(waiting) = state.held_back.get(at) {
            let limits = waiting.work.limits();
            let has_next = limits.is_some();
            if limits.is_some_and(|(own, _)| !Arc::ptr_eq(own, limit)) {
                at += 1;
                continue;
            }
            let Some(waiting) = state.held_back.remove(at) else {
                break;
            };
            state.queue.push_front(waiting);
            self.wake(&mut state);
            // Work without a next call does not use the room: the search goes on.
            if has_next {
                break;
            }
        }
        self.held_back
            .store(state.held_back.len(), Ordering::SeqCst);
        self.unlock(state);
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // A panic leaves the state consistent: no change under the lock is partial.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a work item without its remaining calls.
fn give_up<W: Work>(mut work: Box<W>) {
    while work.limits().is_some() {
        work.take(Err(Unanswered::Busy));
    }
    if let Some(waker) = work.end() {
        waker.wake();
    }
}

/// A call that runs on a thread. Its end is counted in any case, also after a panic.
struct OngoingCall<'a, W: Work> {
    threads: &'static Threads<W>,
    current: &'a CurrentWork<W>,
    /// `None` after the end.
    limit: Option<Arc<CallLimit>>,
}

impl<W: Work> OngoingCall<'_, W> {
    /// Counts the end of the call; the thread is awake again. Returns the work, unless the
    /// watch has taken it because the call was late.
    fn end(&mut self) -> Option<Box<W>> {
        let limit = self.limit.take()?;
        let running = self.current.lock().running.take();
        if running.is_none() {
            limit.late.fetch_sub(1, Ordering::Relaxed);
        }
        self.threads.release(&limit);
        if running.as_ref().is_none_or(|running| running.is_blocked) {
            self.threads.lock().awake += 1;
        }
        running.map(|running| running.work)
    }
}

impl<W: Work> Drop for OngoingCall<'_, W> {
    fn drop(&mut self) {
        // `end` finds work here only after a panic of the call.
        if let Some(work) = self.end() {
            give_up(work);
        }
    }
}

/// Removes a thread from the list when it ends, also after a panic.
struct Present<'a, W: Work> {
    threads: &'static Threads<W>,
    current: &'a Arc<CurrentWork<W>>,
}

impl<W: Work> Drop for Present<'_, W> {
    fn drop(&mut self) {
        self.current.wake_all();
        let mut state = self.threads.lock();
        state
            .threads
            .retain(|current| !Arc::ptr_eq(current, self.current));
        // A thread that ends without a panic has waited for work, and no longer counts as
        // awake.
        if thread::panicking() {
            state.awake = state.awake.saturating_sub(1);
        }
    }
}
