use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::task::Wake;

use infrarust_test_support::{PATIENCE, blocking_until};

use super::watch::{LOOK_PERIOD, move_to_room};
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
    fn call(&'static self, limit: &Arc<CallLimit>, blocked: Duration, steps: &[Step]) -> Results {
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
