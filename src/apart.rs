//! Runs work that may block on separate threads.
//!
//! tokio's pool for such work cannot be used where the proxy must keep working:
//! when the system has no free thread, a task of that pool waits for ever, or
//! panics. Here the caller gets an error.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::priority;

/// Threads that wait for the next piece of work: a reload needs two at a time and
/// a check of the folder one. They are kept, so that a process at its limit of
/// threads can still reload.
const IDLE_MAX: usize = 4;

/// Pieces of work of one [`Lane`] that may be overdue at a time. Each holds a
/// thread that nothing can end.
const OVERDUE_MAX: usize = 6;

/// Why work has no result.
#[derive(Debug, Error)]
pub(crate) enum NotDone {
    /// The system cannot start a thread.
    #[error("no thread can be started for it: {0}")]
    NoThread(#[source] io::Error),
    /// It panicked with this message.
    #[error("it panicked: {0}")]
    Panic(String),
    /// It takes longer than this.
    #[error("it takes longer than {} s", .0.as_secs())]
    Overdue(Duration),
    /// Too much earlier work has not ended, so this was not started.
    #[error("earlier reads do not end")]
    Stuck,
    /// So much work waits for its thread that this was not taken.
    #[error("too much work waits for the thread")]
    Full,
}

type Work = Box<dyn FnOnce() + Send>;

/// The threads that wait for work.
static IDLE: Mutex<Vec<mpsc::Sender<Work>>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<mpsc::Sender<Work>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work on an idle thread, or on a new one.
fn begin(mut work: Work) -> io::Result<()> {
    loop {
        let Some(thread) = idle().pop() else { break };
        match thread.send(work) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(back)) => work = back,
        }
    }
    let (sender, receiver) = mpsc::channel::<Work>();
    let serve = move || {
        let mut next = work;
        loop {
            next();
            {
                let mut idle = idle();
                if idle.len() >= IDLE_MAX {
                    return;
                }
                idle.push(sender.clone());
            }
            match receiver.recv() {
                Ok(work) => next = work,
                Err(mpsc::RecvError) => return,
            }
        }
    };
    thread::Builder::new().name("apart".into()).spawn(serve)?;
    Ok(())
}

/// Whether the system can start this many threads at the same time. They have
/// ended when this returns.
///
/// # Errors
///
/// When it cannot.
pub(crate) fn can_start(threads: usize) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Arc::new(Mutex::new(receiver));
    let mut started = Vec::with_capacity(threads);
    let mut result = Ok(());
    for _ in 0..threads {
        let receiver = Arc::clone(&receiver);
        // Each waits until all have been started, or one cannot be.
        let wait = move || {
            let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = receiver.recv();
        };
        match thread::Builder::new().name("apart".into()).spawn(wait) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    drop(sender);
    for thread in started {
        // The thread cannot panic.
        let _ = thread.join();
    }
    result
}

/// The result of work, or the message of its panic.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, NotDone> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| NotDone::Panic(words_of(&*panic)))
}

/// The message of a panic.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a text").to_owned()
}

/// Starts work that may block without a limit. The future completes with its
/// result; dropping it does not end the work.
pub(crate) fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, NotDone>> + Send + 'static {
    run_by(|work| begin(work).map_err(NotDone::NoThread), work)
}

/// Starts work with `begin`. The future completes with its result.
fn run_by<T: Send + 'static>(
    begin: impl FnOnce(Work) -> Result<(), NotDone>,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, NotDone>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    let begun = begin(Box::new(move || {
        // The caller may have dropped the future.
        let _ = sender.send(caught(work));
    }));
    async move {
        begun?;
        let lost = || NotDone::Panic("its thread has ended".to_owned());
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// How much work may wait for a [`LowPriorityThread`] that is busy. Its callers take turns,
/// and a turn ends shortly before the thread takes the next piece.
const WAITING_MAX: usize = 1;

/// A thread for computations that must not delay those of players in the game: its priority
/// is lower than that of all other threads. It starts with its first work and ends with its
/// owner, when it has done its work.
///
/// It is a thread of its own because a priority cannot be raised again: work of another kind
/// must not run there.
#[derive(Debug, Default)]
pub(crate) struct LowPriorityThread {
    queue: Mutex<Option<mpsc::SyncSender<Work>>>,
}

impl LowPriorityThread {
    /// Starts work that is computed without waiting for anything. The future completes with
    /// its result; dropping it does not end the work.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, NotDone>> + Send + 'static {
        run_by(|work| self.begin(work), work)
    }

    fn begin(&self, mut work: Work) -> Result<(), NotDone> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*queue {
            match thread.try_send(work) {
                Ok(()) => return Ok(()),
                Err(mpsc::TrySendError::Full(_)) => return Err(NotDone::Full),
                Err(mpsc::TrySendError::Disconnected(back)) => work = back,
            }
        }
        let (sender, receiver) = mpsc::sync_channel::<Work>(WAITING_MAX);
        let serve = move || {
            priority::lower();
            work();
            receiver.into_iter().for_each(|work| work());
        };
        let thread = thread::Builder::new().name("low-priority".into());
        thread.spawn(serve).map_err(NotDone::NoThread)?;
        *queue = Some(sender);
        Ok(())
    }
}

/// Work of one kind, of which only a few pieces may be overdue.
#[derive(Debug)]
pub(crate) struct Lane {
    overdue: AtomicUsize,
}

/// The caller waits for the work.
const AWAITED: usize = 0;
/// The caller no longer waits for it.
const GIVEN_UP: usize = 1;
/// It has ended.
const ENDED: usize = 2;

impl Lane {
    pub(crate) const fn new() -> Self {
        Self {
            overdue: AtomicUsize::new(0),
        }
    }

    /// Waits for work until `limit` has passed; after that the work continues on
    /// its thread.
    ///
    /// # Errors
    ///
    /// See [`NotDone`].
    pub(crate) fn within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (awaited, work) = self.counted(work)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let begun = begin(Box::new(move || {
            // The caller may have given up.
            let _ = sender.send(work());
        }));
        if let Err(error) = begun {
            awaited.ends();
            return Err(NotDone::NoThread(error));
        }
        match receiver.recv_timeout(limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                awaited.ends();
                Err(NotDone::Panic("its thread has ended".to_owned()))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(NotDone::Overdue(limit)),
        }
    }

    /// Like [`within`](Self::within), for a task. If the future is dropped, the work counts
    /// as overdue until it ends.
    ///
    /// # Errors
    ///
    /// See [`NotDone`].
    pub(crate) async fn run_within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (awaited, work) = self.counted(work)?;
        match tokio::time::timeout(limit, run(work)).await {
            Ok(Ok(result)) => result,
            Ok(Err(not_begun)) => {
                awaited.ends();
                Err(not_begun)
            }
            Err(_) => Err(NotDone::Overdue(limit)),
        }
    }

    /// The same work, which notes its end, and the guard of its caller.
    fn counted<T>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<
        (
            Awaited,
            impl FnOnce() -> Result<T, NotDone> + Send + 'static,
        ),
        NotDone,
    > {
        if self.overdue.load(Ordering::Relaxed) >= OVERDUE_MAX {
            return Err(NotDone::Stuck);
        }
        let awaited = Awaited {
            lane: self,
            state: Arc::new(AtomicUsize::new(AWAITED)),
        };
        let state = Arc::clone(&awaited.state);
        let work = move || {
            let result = caught(work);
            if state.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
                self.overdue.fetch_sub(1, Ordering::Relaxed);
            }
            result
        };
        Ok((awaited, work))
    }
}

/// Work that a caller waits for, which is given up with it.
struct Awaited {
    lane: &'static Lane,
    state: Arc<AtomicUsize>,
}

impl Awaited {
    /// The work does not run, so it will not record its end.
    fn ends(self) {
        self.state.store(ENDED, Ordering::Release);
    }
}

impl Drop for Awaited {
    /// Counts work that goes on although its caller no longer waits.
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == ENDED {
            return;
        }
        // Counted first, so that the end of the work cannot be subtracted before
        // it is added.
        self.lane.overdue.fetch_add(1, Ordering::Relaxed);
        if self.state.swap(GIVEN_UP, Ordering::AcqRel) == ENDED {
            self.lane.overdue.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use infrarust_test_support::{PATIENCE, blocking_until, until};

    use super::*;

    /// The threads of a trial have ended afterwards, whether or not all could be started.
    #[test]
    fn threads_are_tried_and_given_back() {
        can_start(0).unwrap();
        can_start(3).unwrap();
    }

    /// A result and a panic are returned, and the thread can be used again.
    #[tokio::test]
    async fn results_and_panics_come_back() {
        assert_eq!(run(|| 1).await.unwrap(), 1);
        let panicked = run(|| -> u8 { panic!("words") }).await;
        assert_eq!(panicked.unwrap_err().to_string(), "it panicked: words");
        assert_eq!(run(|| 2).await.unwrap(), 2);
    }

    /// The same for the thread of low priority, which takes no more work than may wait for it.
    #[tokio::test]
    async fn a_thread_of_low_priority_computes() {
        let thread = LowPriorityThread::default();
        assert_eq!(thread.run(|| 1).await.unwrap(), 1);
        let panicked = thread.run(|| -> u8 { panic!("words") }).await;
        assert_eq!(panicked.unwrap_err().to_string(), "it panicked: words");
        let (begun, has_begun) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let first = thread.run(move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        });
        has_begun.await.unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|n| thread.run(move || n)).collect();
        let refused = thread.run(|| ()).await;
        assert!(matches!(refused, Err(NotDone::Full)), "{refused:?}");
        drop(release);
        first.await.unwrap();
        for (n, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(waiting.await.unwrap(), n);
        }
    }

    /// The thread ends with its owner, after the work that it has.
    #[tokio::test]
    async fn a_thread_of_low_priority_ends_with_its_owner() {
        struct Last(Option<oneshot::Sender<()>>);
        impl Drop for Last {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        thread_local! {
            static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
        }
        let (sender, ended) = oneshot::channel();
        let thread = LowPriorityThread::default();
        let work = thread.run(move || LAST.set(Some(Last(Some(sender)))));
        drop(thread);
        work.await.unwrap();
        tokio::time::timeout(PATIENCE, ended)
            .await
            .unwrap()
            .unwrap();
    }

    /// Only the thread of low priority has a lower priority than the others.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn one_thread_has_a_low_priority() {
        const NICE_MAX: i32 = 19;
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The name, in parentheses, is the second field; the niceness is the 19th.
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let niceness = fields.split_whitespace().nth(19 - 3).unwrap();
            niceness.parse::<i32>().unwrap()
        };
        let before = niceness();
        let thread = LowPriorityThread::default();
        for _ in 0..2 {
            let low = thread.run(niceness).await.unwrap();
            assert_eq!(low, NICE_MAX.min(before + priority::NICENESS));
        }
        assert_eq!(run(niceness).await.unwrap(), before);
        assert_eq!(niceness(), before);
    }

    /// Work that does not end is left running after its time. If too much work is overdue,
    /// no more is started until some of it has ended.
    #[test]
    fn overdue_work_is_left_running_and_bounded() {
        static LANE: Lane = Lane::new();
        let limit = Duration::from_millis(10);
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for _ in 0..OVERDUE_MAX {
            let gate = Arc::clone(&gate);
            let overdue = LANE.within(limit, move || {
                let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
            });
            assert!(matches!(overdue, Err(NotDone::Overdue(_))), "{overdue:?}");
        }
        let refused = LANE.within(limit, || ());
        assert!(matches!(refused, Err(NotDone::Stuck)), "{refused:?}");
        drop(release);
        blocking_until("the end of the work", || {
            LANE.overdue.load(Ordering::Relaxed) == 0
        });
        assert_eq!(LANE.within(PATIENCE, || 3).unwrap(), 3);
    }

    /// The same for tasks, after their time limit or their drop.
    #[tokio::test]
    async fn overdue_work_of_tasks_is_left_and_bounded() {
        static LANE: Lane = Lane::new();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for n in 0..OVERDUE_MAX {
            let gate = Arc::clone(&gate);
            let work = move || {
                let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
            };
            if n % 2 == 0 {
                let overdue = LANE.run_within(Duration::from_millis(10), work).await;
                assert!(matches!(overdue, Err(NotDone::Overdue(_))), "{overdue:?}");
            } else {
                let dropped = LANE.run_within(PATIENCE, work);
                let dropped = tokio::time::timeout(Duration::from_millis(10), dropped);
                assert!(dropped.await.is_err());
            }
        }
        let refused = LANE.run_within(PATIENCE, || ()).await;
        assert!(matches!(refused, Err(NotDone::Stuck)), "{refused:?}");
        drop(release);
        until("the end of the work", || {
            LANE.overdue.load(Ordering::Relaxed) == 0
        })
        .await;
        let done = LANE.run_within(PATIENCE, || 3).await;
        assert_eq!(done.unwrap(), 3);
        assert_eq!(LANE.overdue.load(Ordering::Relaxed), 0);
    }
}
