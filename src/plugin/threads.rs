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

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use crate::supervise;

/// The most threads, for all plugins together.
const THREADS_MAX: usize = 256;
/// How long a thread without work waits before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a result waits for others that are passed on by the same wake-up. A wake-up takes
/// some microseconds.
const RESULT_WAIT_MAX: Duration = Duration::from_micros(200);
/// How often the watch looks while calls run. A call that is still running at the second
/// look counts as blocked.
const LOOK_PERIOD: Duration = Duration::from_millis(1);
/// How often the watch looks while no call runs and no work waits.
const SLOW_LOOK_PERIOD: Duration = Duration::from_millis(20);
/// After this many looks in a row that find nothing, about one second, the watch sleeps.
const IDLE_LOOKS: u32 = 50;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    NotStarted,
    Looks,
    Sleeps,
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

    /// Starts or wakes the watch. Returns false if the system refuses the thread.
    fn watch(&'static self, state: &mut State<W>) -> bool {
        match state.watch {
            Watch::Looks => {}
            Watch::Sleeps => {
                state.watch = Watch::Looks;
                self.has_calls.notify_one();
            }
            Watch::NotStarted => {
                let started = thread::Builder::new()
                    .name("plugin-calls".to_owned())
                    .spawn(|| self.look_always());
                if started.is_err() {
                    return false;
                }
                state.watch = Watch::Looks;
            }
        }
        true
    }

    // ------------------------------------------------------------- the threads

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

    // --------------------------------------------------------------- the watch

    fn look_always(&'static self) {
        let mut idle_looks = 0;
        let mut period = LOOK_PERIOD;
        loop {
            thread::sleep(period);
            // A panic ends the works of this look, and not the watch of all others.
            let look = || self.look(Instant::now());
            let has_found = supervise::caught_here("watching the calls of plugins", look);
            let has_found = has_found.unwrap_or(true);
            (idle_looks, period) = match has_found {
                true => (0, LOOK_PERIOD),
                false => (idle_looks + 1, SLOW_LOOK_PERIOD),
            };
            if idle_looks >= IDLE_LOOKS {
                idle_looks = 0;
                let mut state = self.lock();
                if state.awake > 0 || !state.queue.is_empty() {
                    // This work came after the look, when the watch still counted as awake.
                    continue;
                }
                state.watch = Watch::Sleeps;
                while state.watch == Watch::Sleeps {
                    let waited = self.has_calls.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Looks at the running calls and the waiting work. Returns whether there are any.
    fn look(&'static self, now: Instant) -> bool {
        let mut late = Vec::new();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let mut has_found = !(state.queue.is_empty() && state.held_back.is_empty());
        let mut blocked = 0;
        for current in &state.threads {
            let mut place = current.lock();
            let Some(running) = &mut place.running else {
                continue;
            };
            has_found = true;
            let since = *running.since.get_or_insert(now);
            if since == now {
                continue;
            }
            let is_late = now.duration_since(since) >= running.deadline;
            if !running.is_blocked {
                running.is_blocked = true;
                blocked += 1;
            }
            wakers.append(&mut place.take_wakers());
            if is_late && let Some(running) = place.running.take() {
                running.limit.late.fetch_add(1, Ordering::Relaxed);
                late.push((running.work, Some(Unanswered::Late)));
            }
        }
        debug_assert!(
            blocked <= state.awake,
            "a call runs on a thread that is awake"
        );
        state.awake = state.awake.saturating_sub(blocked);
        let State {
            queue, held_back, ..
        } = &mut *state;
        for list in [&mut *queue, &mut *held_back] {
            take_late(list, now, &mut late);
        }
        move_to_room(held_back, queue);
        self.held_back
            .store(state.held_back.len(), Ordering::SeqCst);
        for _ in 0..state.queue.len().min(awake_max()) {
            self.wake(&mut state);
        }
        self.unlock(state);
        wakers.into_iter().for_each(Waker::wake);
        for (mut work, why) in late {
            if let Some(why) = why {
                work.take(Err(why));
            }
            self.put(work);
            self.begin();
        }
        has_found
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // A panic leaves the state consistent: no change under the lock is partial.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves three kinds of work to `late`: work that has waited for longer than the deadline
/// of its next call, work that waits for a plugin whose calls do not return, and work that
/// has no next call any more.
fn take_late<W: Work>(
    list: &mut VecDeque<Waiting<W>>,
    now: Instant,
    late: &mut Vec<(Box<W>, Option<Unanswered>)>,
) {
    for _ in 0..list.len() {
        let Some(mut waiting) = list.pop_front() else {
            return;
        };
        let since = *waiting.since.get_or_insert(now);
        match waiting.work.limits() {
            None => late.push((waiting.work, None)),
            Some((limit, deadline))
                if limit.is_stuck() || now.duration_since(since) >= deadline =>
            {
                late.push((waiting.work, Some(Unanswered::Busy)));
            }
            Some(_) => list.push_back(waiting),
        }
    }
}

/// Moves work that waits for other calls to the queue, as much of it as there is room for.
/// It may wait although there is room: work that `release` has queued for this room may
/// have ended without a call.
fn move_to_room<W: Work>(held_back: &mut VecDeque<Waiting<W>>, queue: &mut VecDeque<Waiting<W>>) {
    let mut rooms: Vec<(*const CallLimit, usize)> = Vec::new();
    for _ in 0..held_back.len() {
        let Some(waiting) = held_back.pop_front() else {
            return;
        };
        let has_room = waiting.work.limits().is_none_or(|(limit, _)| {
            let limit_at = Arc::as_ptr(limit);
            let found = rooms.iter().position(|(at, _)| *at == limit_at);
            let index = found.unwrap_or_else(|| {
                rooms.push((limit_at, limit.room()));
                rooms.len() - 1
            });
            let room = rooms.get_mut(index).map(|(_, room)| room);
            room.is_some_and(|room| {
                let has_room = *room > 0;
                *room = room.saturating_sub(1);
                has_room
            })
        });
        match has_room {
            true => queue.push_back(waiting),
            false => held_back.push_back(waiting),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::task::Wake;

    use infrarust_test_support::{PATIENCE, blocking_until};

    use super::*;

    /// A list of calls, each a number or a wait, and the channel for their results.
    struct Calls {
        steps: VecDeque<Step>,
        limit: Arc<CallLimit>,
        /// The deadline of blocked calls.
        blocked: Duration,
        is_gone: Arc<AtomicBool>,
        results: Vec<Result<u32, Unanswered>>,
        done: mpsc::Sender<Vec<Result<u32, Unanswered>>>,
        waker: Option<Waker>,
    }

    #[derive(Clone)]
    enum Step {
        Number(u32),
        /// Returns when the sender is dropped.
        Blocked(Arc<Mutex<mpsc::Receiver<()>>>),
        /// Panics when the sender is dropped.
        Panics(Arc<Mutex<mpsc::Receiver<()>>>),
    }

    impl Work for Calls {
        type Call = Step;
        type Given = u32;

        fn limits(&self) -> Option<(&Arc<CallLimit>, Duration)> {
            let next = self.steps.front()?;
            let deadline = match next {
                Step::Blocked(_) | Step::Panics(_) => self.blocked,
                Step::Number(_) => LONG,
            };
            let is_gone = self.is_gone.load(Ordering::SeqCst);
            (!is_gone).then_some((&self.limit, deadline))
        }
        fn call(&mut self) -> Option<Step> {
            self.steps.front().cloned()
        }
        fn run(step: Step) -> u32 {
            match step {
                Step::Number(number) => number,
                Step::Blocked(released) => {
                    let _ = released.lock().unwrap().recv();
                    0
                }
                Step::Panics(released) => {
                    let _ = released.lock().unwrap().recv();
                    panic!("a call panics");
                }
            }
        }
        fn take(&mut self, given: Result<u32, Unanswered>) {
            let step = self.steps.pop_front();
            let panics = matches!(step, Some(Step::Panics(_)));
            assert!(!panics || given != Err(Unanswered::Late), "a work panics");
            self.results.push(given);
        }
        fn end(self: Box<Self>) -> Option<Waker> {
            let _ = self.done.send(self.results);
            self.waker
        }
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(500);

    type Results = mpsc::Receiver<Vec<Result<u32, Unanswered>>>;

    /// Threads of one test, so that blocked calls of other tests do not delay its own.
    fn threads() -> &'static Threads<Calls> {
        Box::leak(Box::new(Threads::new()))
    }

    impl Threads<Calls> {
        /// Runs calls. Only blocked calls exceed the deadline.
        fn call(
            &'static self,
            limit: &Arc<CallLimit>,
            blocked: Duration,
            steps: &[Step],
        ) -> Results {
            self.call_until(limit, blocked, steps, &Arc::default())
        }

        fn call_until(
            &'static self,
            limit: &Arc<CallLimit>,
            blocked: Duration,
            steps: &[Step],
            is_gone: &Arc<AtomicBool>,
        ) -> Results {
            let (done, results) = mpsc::channel();
            self.put(Box::new(Calls {
                steps: steps.iter().cloned().collect(),
                limit: Arc::clone(limit),
                blocked,
                is_gone: Arc::clone(is_gone),
                results: Vec::new(),
                done,
                waker: None,
            }));
            self.begin();
            results
        }
    }

    fn blocked() -> (mpsc::Sender<()>, Step) {
        let (release, released) = mpsc::channel();
        (release, Step::Blocked(Arc::new(Mutex::new(released))))
    }

    fn of(results: &Results) -> Vec<Result<u32, Unanswered>> {
        results.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until this many calls run: the order in which two work items begin is not
    /// defined.
    fn until_running(limit: &CallLimit, calls: usize) {
        blocking_until("calls to run", || {
            limit.running.load(Ordering::SeqCst) == calls
        });
    }

    /// Calls run beside any number of blocked calls.
    #[test]
    fn calls_do_not_wait_for_each_other() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(100));
        let (releases, blocked): (Vec<_>, Vec<_>) = (0..30).map(|_| blocked()).unzip();
        let waiting: Vec<_> = blocked
            .iter()
            .map(|step| threads.call(&limit, LONG, &[step.clone(), Step::Number(7)]))
            .collect();
        for number in 0..100 {
            let result = threads.call(&limit, LONG, &[Step::Number(number)]);
            assert_eq!(of(&result), [Ok(number)]);
        }
        drop(releases);
        for results in waiting {
            assert_eq!(of(&results), [Ok(0), Ok(7)]);
        }
    }

    /// A call that exceeds its deadline is given up, and the work goes on without it. While
    /// the plugin has as many calls as its limit allows and none returns, further calls are
    /// not made.
    #[test]
    fn calls_are_given_up() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(2));
        let (releases, blocked): (Vec<_>, Vec<_>) = (0..2).map(|_| blocked()).unzip();
        let steps = |step: &Step| [step.clone(), Step::Number(7)];
        let first = threads.call(&limit, SHORT, &steps(&blocked[0]));
        assert_eq!(of(&first), [Err(Unanswered::Late), Ok(7)]);
        let second = threads.call(&limit, SHORT, &steps(&blocked[1]));
        let late = [Err(Unanswered::Late), Err(Unanswered::Busy)];
        assert_eq!(of(&second), late);
        let other = Arc::new(CallLimit::new(2));
        let result = threads.call(&other, SHORT, &[Step::Number(1)]);
        assert_eq!(of(&result), [Ok(1)]);
        drop(releases);
        // The blocked threads return.
        until_running(&limit, 0);
        let result = threads.call(&limit, LONG, &[Step::Number(1)]);
        assert_eq!(of(&result), [Ok(1)]);
    }

    /// Work that needs no answer any more does not wait for other calls of its plugin.
    #[test]
    fn work_without_a_next_call_does_not_wait() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(1));
        let (release, step) = blocked();
        let first = threads.call(&limit, LONG, &[step]);
        until_running(&limit, 1);
        let is_gone = Arc::new(AtomicBool::new(false));
        let second = threads.call_until(&limit, LONG, &[Step::Number(1)], &is_gone);
        let is_held = |waiting: &Waiting<Calls>| Arc::ptr_eq(&waiting.work.limit, &limit);
        blocking_until("the work to wait", || {
            threads.lock().held_back.iter().any(is_held)
        });
        is_gone.store(true, Ordering::SeqCst);
        assert_eq!(of(&second), []);
        drop(release);
        assert_eq!(of(&first), [Ok(0)]);
    }

    /// Threads without a watch, because the watch would hide a missing wake-up.
    fn threads_without_watch() -> &'static Threads<Calls> {
        let threads = threads();
        threads.lock().watch = Watch::Looks;
        threads
    }

    /// When a call ends, its room goes to work that has a next call, not to work that has
    /// none any more.
    #[test]
    fn room_goes_to_work_that_has_a_next_call() {
        let threads = threads_without_watch();
        let limit = Arc::new(CallLimit::new(1));
        let (release, step) = blocked();
        let first = threads.call(&limit, LONG, &[step]);
        until_running(&limit, 1);
        // On a machine with one core no other thread is woken before the watch has found
        // that this one blocks.
        let now = Instant::now();
        blocking_until("the blocked call to be found", || {
            threads.look(now);
            threads.look(now + LOOK_PERIOD);
            threads.lock().awake == 0
        });
        let is_gone = Arc::new(AtomicBool::new(false));
        let held = |count: usize| {
            blocking_until("the works to wait", || {
                threads.lock().held_back.len() == count
            });
        };
        let gone: Vec<_> = (1..=2)
            .map(|count| {
                let gone = threads.call_until(&limit, LONG, &[Step::Number(1)], &is_gone);
                held(count);
                gone
            })
            .collect();
        let waiting = threads.call(&limit, LONG, &[Step::Number(7)]);
        held(3);
        is_gone.store(true, Ordering::SeqCst);
        drop(release);
        assert_eq!(of(&first), [Ok(0)]);
        assert_eq!(of(&waiting), [Ok(7)]);
        for gone in gone {
            assert_eq!(of(&gone), []);
        }
    }

    /// The watch finds work that waits although there is room: the work that was queued for
    /// this room has ended without a call.
    #[test]
    fn the_watch_finds_unused_room() {
        let threads = threads_without_watch();
        let limit = Arc::new(CallLimit::new(1));
        let (done, results) = mpsc::channel();
        let work = Box::new(Calls {
            steps: [Step::Number(7)].into(),
            limit,
            blocked: LONG,
            is_gone: Arc::default(),
            results: Vec::new(),
            done,
            waker: None,
        });
        let waiting = Waiting { work, since: None };
        threads.lock().held_back.push_back(waiting);
        assert!(threads.look(Instant::now()));
        assert_eq!(of(&results), [Ok(7)]);
        // Not more work is moved than there is room for.
        let (mut held_back, mut queue) = (VecDeque::new(), VecDeque::new());
        let limits = [2, 1].map(|max| Arc::new(CallLimit::new(max)));
        for limit in [&limits[0], &limits[1]].into_iter().cycle().take(6) {
            let (done, _) = mpsc::channel();
            let work = Box::new(Calls {
                steps: [Step::Number(7)].into(),
                limit: Arc::clone(limit),
                blocked: LONG,
                is_gone: Arc::default(),
                results: Vec::new(),
                done,
                waker: None,
            });
            held_back.push_back(Waiting { work, since: None });
        }
        move_to_room(&mut held_back, &mut queue);
        assert_eq!((held_back.len(), queue.len()), (3, 3));
    }

    /// A call that panics ends its work, and is counted like one that returns, in time or
    /// late.
    #[test]
    fn panics_are_counted() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(1));
        let panics = || {
            let (release, released) = mpsc::channel::<()>();
            (release, Step::Panics(Arc::new(Mutex::new(released))))
        };
        // The watch goes on, although the work panics as well.
        let (release, step) = panics();
        let late = threads.call(&limit, SHORT, &[step]);
        let ended = late.recv_timeout(Duration::from_secs(240));
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
        drop(release);
        until_running(&limit, 0);
        let (release, step) = blocked();
        let late = threads.call(&limit, SHORT, &[step]);
        assert_eq!(of(&late), [Err(Unanswered::Late)]);
        drop(release);
        until_running(&limit, 0);
        let (release, step) = panics();
        let in_time = threads.call(&limit, LONG, &[step]);
        until_running(&limit, 1);
        drop(release);
        assert_eq!(of(&in_time), [Err(Unanswered::Busy)]);
        until_running(&limit, 0);
        assert_eq!(limit.late.load(Ordering::Relaxed), 0);
        let result = threads.call(&limit, LONG, &[Step::Number(1)]);
        assert_eq!(of(&result), [Ok(1)]);
        // The threads of the calls that panicked have ended, the other one waits.
        blocking_until("all threads to sleep", || threads.lock().awake == 0);
        let state = threads.lock();
        assert_eq!(state.threads.len(), state.idle);
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Who waits for a result is woken before the thread waits, and also if its next call
    /// blocks.
    #[test]
    fn results_do_not_wait_for_blocked_calls() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(9));
        let (release, step) = blocked();
        let mut results = Vec::new();
        let mut put = |step: Step| {
            let woken = Arc::<Woken>::default();
            let (done, result) = mpsc::channel();
            results.push(result);
            threads.put(Box::new(Calls {
                steps: [step].into(),
                limit: Arc::clone(&limit),
                blocked: LONG,
                is_gone: Arc::default(),
                results: Vec::new(),
                done,
                waker: Some(Waker::from(Arc::clone(&woken))),
            }));
            woken
        };
        let woken = [put(Step::Number(1)), put(Step::Number(2)), put(step)];
        threads.begin();
        let is_woken = |woken: &Arc<Woken>| woken.0.load(Ordering::SeqCst);
        blocking_until("the results to be passed on", || {
            is_woken(&woken[0]) && is_woken(&woken[1])
        });
        assert_eq!(of(&results[0]), [Ok(1)]);
        assert!(!is_woken(&woken[2]));
        drop(release);
        blocking_until("the last result to be passed on", || is_woken(&woken[2]));
        assert_eq!(of(&results[2]), [Ok(0)]);
    }

    /// A call beyond the limit of a plugin waits until another call returns.
    #[test]
    fn calls_wait_for_their_turn() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(1));
        let (release, step) = blocked();
        let first = threads.call(&limit, LONG, &[step]);
        until_running(&limit, 1);
        let waiting: Vec<_> = (0..50)
            .map(|number| threads.call(&limit, LONG, &[Step::Number(number)]))
            .collect();
        // It is the only call that runs.
        let other = Arc::new(CallLimit::new(1));
        assert_eq!(of(&threads.call(&other, LONG, &[Step::Number(3)])), [Ok(3)]);
        assert!(waiting.iter().all(|results| results.try_recv().is_err()));
        drop(release);
        assert_eq!(of(&first), [Ok(0)]);
        for (number, results) in (0..).zip(&waiting) {
            assert_eq!(of(results), [Ok(number)]);
        }
    }
}
