//! Threads for calls of plugins that may block.
//!
//! Not those of the runtime: it has some hundred for files and names of hosts, and its
//! end waits for them.
//!
//! Few threads are awake as long as calls return at once: a thread takes one work after
//! another, so that one wake-up serves many sessions. A watch looks at the calls that
//! run. If one blocks, another thread is woken for what waits; if one exceeds its
//! deadline, its work goes on without it. So a call that never returns holds a thread,
//! and nothing else.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most threads, those of all plugins together.
const THREADS_MAX: usize = 256;
/// How long a thread waits for another work.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often the watch looks while calls run. A call that two looks find blocks.
const LOOK_PERIOD: Duration = Duration::from_millis(1);
/// The same while none runs.
const SLOW_LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Looks that find nothing, one second of them, after which the watch sleeps.
const IDLE_LOOKS: u32 = 50;

/// Calls of plugins, one after another.
pub(super) trait Work: Send + 'static {
    /// A call, which may outlive its work.
    type Call;
    /// What a call has returned.
    type Given;

    /// How many calls of the next plugin may run, and its deadline; `None` after the
    /// last call.
    fn limits(&self) -> Option<(&Arc<CallLimit>, Duration)>;

    /// The next call, which is the same until [`take`](Self::take).
    fn call(&mut self) -> Option<Self::Call>;

    /// Runs a call on this thread, as long as it takes.
    fn run(call: Self::Call) -> Self::Given;

    /// Takes what the call has returned, or why it has not.
    fn take(&mut self, given: Result<Self::Given, Unanswered>);

    /// After the last call.
    fn end(self: Box<Self>);
}

/// Why there is no answer of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It did not return within its deadline.
    Late,
    /// It could not run: too many others have not returned.
    Busy,
}

/// How many calls of one plugin may run at the same time.
#[derive(Debug)]
pub(super) struct CallLimit {
    max: usize,
    running: AtomicUsize,
    /// Those of the running ones that have exceeded their deadlines.
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

    /// Whether one more may begin, which counts from now on.
    fn begin(&self) -> bool {
        let add = |running: usize| (running < self.max).then_some(running + 1);
        let (order, read) = (Ordering::SeqCst, Ordering::SeqCst);
        self.running.fetch_update(order, read, add).is_ok()
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no call that runs will return in time.
    fn is_stuck(&self) -> bool {
        self.late.load(Ordering::Relaxed) >= self.max
    }
}

/// The threads, and what waits for them.
pub(super) struct Threads<W> {
    state: Mutex<State<W>>,
    has_work: Condvar,
    /// Wakes the watch.
    has_calls: Condvar,
    /// How many wait for calls of the same plugin, to be read without the lock.
    held_back: AtomicUsize,
}

struct State<W> {
    /// What waits for a thread.
    queue: VecDeque<Waiting<W>>,
    /// What waits for other calls of the same plugin.
    held_back: VecDeque<Waiting<W>>,
    threads: Vec<Arc<CurrentWork<W>>>,
    /// The threads that wait for work, without those that were woken.
    idle: usize,
    /// The threads that were woken, and do not run yet.
    woken: usize,
    /// The threads that run, without those in calls that block.
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

/// What one thread does.
struct CurrentWork<W>(Mutex<Option<Running<W>>>);

/// A work during a call.
struct Running<W> {
    work: Box<W>,
    limit: Arc<CallLimit>,
    deadline: Duration,
    /// When the watch has found it.
    since: Option<Instant>,
    /// The thread does not count as awake.
    is_blocked: bool,
}

impl<W> CurrentWork<W> {
    fn lock(&self) -> MutexGuard<'_, Option<Running<W>>> {
        // Nothing is left half done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many threads are woken as long as none blocks.
fn awake_max() -> usize {
    thread::available_parallelism().map_or(2, NonZeroUsize::get)
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
                awake: 0,
                watch: Watch::NotStarted,
            }),
            has_work: Condvar::new(),
            has_calls: Condvar::new(),
            held_back: AtomicUsize::new(0),
        }
    }

    /// Runs a work. Does not wait.
    pub(super) fn put(&'static self, work: Box<W>) {
        let mut state = self.lock();
        state.queue.push_back(Waiting { work, since: None });
        self.watch(&mut state);
        let has_thread = self.wake(&mut state);
        if !has_thread && state.threads.is_empty() {
            let waiting: Vec<_> = state.queue.drain(..).collect();
            drop(state);
            for Waiting { work, .. } in waiting {
                give_up(work);
            }
        }
    }

    /// Wakes or starts a thread, if there should be another one. Whether there is one
    /// for what waits.
    fn wake(&'static self, state: &mut State<W>) -> bool {
        if state.awake >= awake_max() {
            return true;
        }
        if state.idle > 0 {
            // It counts from now on, so that the next work wakes another one.
            state.idle -= 1;
            state.woken += 1;
            state.awake += 1;
            self.has_work.notify_one();
            return true;
        }
        if state.threads.len() >= THREADS_MAX {
            return false;
        }
        let current = Arc::new(CurrentWork(Mutex::new(None)));
        let own = Arc::clone(&current);
        let started = thread::Builder::new()
            .name("plugin-packets".to_owned())
            .spawn(move || self.work(&own));
        if started.is_ok() {
            state.threads.push(current);
            state.awake += 1;
        }
        started.is_ok()
    }

    /// Starts or wakes the watch.
    fn watch(&'static self, state: &mut State<W>) {
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
                if started.is_ok() {
                    state.watch = Watch::Looks;
                }
            }
        }
    }

    // ------------------------------------------------------------- the threads

    fn work(&'static self, current: &Arc<CurrentWork<W>>) {
        let _present = Present {
            threads: self,
            current,
        };
        while let Some(work) = self.next() {
            self.run(work, current);
        }
    }

    /// The next work for this thread, if one comes in time.
    fn next(&self) -> Option<Box<W>> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.queue.pop_front() {
                return Some(waiting.work);
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
            // Already counted as awake.
            state.woken -= 1;
        }
    }

    /// Runs the calls of a work.
    fn run(&'static self, mut work: Box<W>, current: &CurrentWork<W>) {
        loop {
            let Some((limit, deadline)) = work.limits() else {
                work.end();
                return;
            };
            let limit = Arc::clone(limit);
            if !limit.begin() {
                match self.hold_back(work, &limit) {
                    // A call has ended meanwhile.
                    Some(again) => work = again,
                    None => return,
                }
            }
            let call = work.call();
            *current.lock() = Some(Running {
                work,
                limit: Arc::clone(&limit),
                deadline,
                since: None,
                is_blocked: false,
            });
            let given = call.map(W::run);
            let running = current.lock().take();
            self.release(&limit);
            let Some(running) = running else {
                // The work went on without it.
                limit.late.fetch_sub(1, Ordering::Relaxed);
                self.lock().awake += 1;
                return;
            };
            if running.is_blocked {
                self.lock().awake += 1;
            }
            work = running.work;
            work.take(given.ok_or(Unanswered::Busy));
        }
    }

    /// Has a work wait until a call of its plugin ends. Returns it if one has ended
    /// already, with the next one begun.
    fn hold_back(&self, work: Box<W>, limit: &CallLimit) -> Option<Box<W>> {
        let mut state = self.lock();
        // Before the second attempt: either it succeeds, or the call that ends next
        // finds the number.
        self.held_back
            .store(state.held_back.len() + 1, Ordering::SeqCst);
        if limit.begin() {
            self.held_back
                .store(state.held_back.len(), Ordering::SeqCst);
            return Some(work);
        }
        state.held_back.push_back(Waiting { work, since: None });
        None
    }

    /// A call has ended: one that waits for it can run.
    fn release(&'static self, limit: &Arc<CallLimit>) {
        limit.end();
        if self.held_back.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        let waits = |waiting: &Waiting<W>| {
            let limits = waiting.work.limits();
            limits.is_none_or(|(own, _)| Arc::ptr_eq(own, limit))
        };
        if let Some(at) = state.held_back.iter().position(waits)
            && let Some(waiting) = state.held_back.remove(at)
        {
            self.held_back
                .store(state.held_back.len(), Ordering::SeqCst);
            state.queue.push_front(waiting);
            self.wake(&mut state);
        }
    }

    // --------------------------------------------------------------- the watch

    fn look_always(&'static self) {
        let mut idle_looks = 0;
        let mut period = LOOK_PERIOD;
        loop {
            thread::sleep(period);
            let has_found = self.look(Instant::now());
            (idle_looks, period) = match has_found {
                true => (0, LOOK_PERIOD),
                false => (idle_looks + 1, SLOW_LOOK_PERIOD),
            };
            if idle_looks >= IDLE_LOOKS {
                idle_looks = 0;
                let mut state = self.lock();
                if state.awake > 0 || !state.queue.is_empty() {
                    // It came after the look, and found the watch awake.
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

    /// Looks at what runs and what waits. Whether there is something.
    fn look(&'static self, now: Instant) -> bool {
        let mut late = Vec::new();
        let mut state = self.lock();
        let mut has_found = !(state.queue.is_empty() && state.held_back.is_empty());
        let mut blocked = 0;
        for current in &state.threads {
            let mut place = current.lock();
            let Some(running) = &mut *place else {
                continue;
            };
            has_found = true;
            let since = *running.since.get_or_insert(now);
            if since == now {
                continue;
            }
            if !running.is_blocked {
                running.is_blocked = true;
                blocked += 1;
            }
            if now.duration_since(since) >= running.deadline
                && let Some(running) = place.take()
            {
                running.limit.late.fetch_add(1, Ordering::Relaxed);
                late.push((running.work, Some(Unanswered::Late)));
            }
        }
        state.awake = state.awake.saturating_sub(blocked);
        let State {
            queue, held_back, ..
        } = &mut *state;
        for list in [queue, held_back] {
            take_late(list, now, &mut late);
        }
        self.held_back
            .store(state.held_back.len(), Ordering::SeqCst);
        for _ in 0..state.queue.len().min(awake_max()) {
            self.wake(&mut state);
        }
        drop(state);
        for (mut work, why) in late {
            if let Some(why) = why {
                work.take(Err(why));
            }
            self.put(work);
        }
        has_found
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // Nothing is left half done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what waits for longer than the deadline of its next call, or for calls that
/// do not return, and what has no next call any more.
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

/// Ends a work for which there is no thread.
fn give_up<W: Work>(mut work: Box<W>) {
    while work.limits().is_some() {
        work.take(Err(Unanswered::Busy));
    }
    work.end();
}

/// A thread is present until it ends, however that is.
struct Present<'a, W: Work> {
    threads: &'static Threads<W>,
    current: &'a Arc<CurrentWork<W>>,
}

impl<W: Work> Drop for Present<'_, W> {
    fn drop(&mut self) {
        let mut state = self.threads.lock();
        state
            .threads
            .retain(|current| !Arc::ptr_eq(current, self.current));
        if !thread::panicking() {
            return;
        }
        let running = self.current.lock().take();
        if !running.as_ref().is_some_and(|running| running.is_blocked) {
            state.awake -= 1;
        }
        drop(state);
        if let Some(running) = running {
            running.limit.end();
            give_up(running.work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use super::*;

    /// A list of calls, each a number or a wait, and where their results go.
    struct Calls {
        steps: VecDeque<Step>,
        limit: Arc<CallLimit>,
        /// The deadline of blocked calls.
        blocked: Duration,
        is_gone: Arc<AtomicBool>,
        results: Vec<Result<u32, Unanswered>>,
        done: mpsc::Sender<Vec<Result<u32, Unanswered>>>,
    }

    #[derive(Clone)]
    enum Step {
        Number(u32),
        /// Returns when the sender is dropped.
        Blocked(Arc<Mutex<mpsc::Receiver<()>>>),
    }

    impl Work for Calls {
        type Call = Step;
        type Given = u32;

        fn limits(&self) -> Option<(&Arc<CallLimit>, Duration)> {
            let next = self.steps.front()?;
            let deadline = match next {
                Step::Blocked(_) => self.blocked,
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
            }
        }
        fn take(&mut self, given: Result<u32, Unanswered>) {
            self.steps.pop_front();
            self.results.push(given);
        }
        fn end(self: Box<Self>) {
            let _ = self.done.send(self.results);
        }
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(500);

    type Results = mpsc::Receiver<Vec<Result<u32, Unanswered>>>;

    /// Threads of one test, so that blocked calls of others do not delay its own.
    fn threads() -> &'static Threads<Calls> {
        Box::leak(Box::new(Threads::new()))
    }

    impl Threads<Calls> {
        /// Runs calls with a deadline that only blocked calls exceed.
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
            }));
            results
        }
    }

    fn blocked() -> (mpsc::Sender<()>, Step) {
        let (release, released) = mpsc::channel();
        (release, Step::Blocked(Arc::new(Mutex::new(released))))
    }

    fn of(results: &Results) -> Vec<Result<u32, Unanswered>> {
        results.recv_timeout(Duration::from_secs(240)).unwrap()
    }

    /// Waits until something is so.
    fn until(what: &str, is_so: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(240);
        while !is_so() {
            assert!(Instant::now() < patience, "waited too long: {what}");
            thread::yield_now();
        }
    }

    /// Waits until as many calls run: which of two works begins first is not defined.
    fn until_running(limit: &CallLimit, calls: usize) {
        until("calls run", || {
            limit.running.load(Ordering::SeqCst) == calls
        });
    }

    /// Calls run beside those that block, however many those are.
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

    /// A call that exceeds its deadline is given up, and the work goes on without it.
    /// While as many as may run do not return, others are not called.
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
        // The threads come back.
        until_running(&limit, 0);
        let result = threads.call(&limit, LONG, &[Step::Number(1)]);
        assert_eq!(of(&result), [Ok(1)]);
    }

    /// A work that needs no answer any more does not wait for calls of its plugin.
    #[test]
    fn what_nobody_needs_does_not_wait() {
        let threads = threads();
        let limit = Arc::new(CallLimit::new(1));
        let (release, step) = blocked();
        let first = threads.call(&limit, LONG, &[step]);
        until_running(&limit, 1);
        let is_gone = Arc::new(AtomicBool::new(false));
        let second = threads.call_until(&limit, LONG, &[Step::Number(1)], &is_gone);
        let is_held = |waiting: &Waiting<Calls>| Arc::ptr_eq(&waiting.work.limit, &limit);
        until("the work waits", || {
            threads.lock().held_back.iter().any(is_held)
        });
        is_gone.store(true, Ordering::SeqCst);
        assert_eq!(of(&second), []);
        drop(release);
        assert_eq!(of(&first), [Ok(0)]);
    }

    /// What exceeds the number of calls of a plugin waits for one that returns.
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
        // It is the only one that runs.
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
