//! The health of a plugin: counts, and the quarantine for one that keeps panicking.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::slot;

/// Panics within [`PANIC_WINDOW`] after which a plugin is quarantined. One player who tries
/// again and again causes about one a second.
const PANICS_MAX: usize = 5;
/// See [`PANICS_MAX`].
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// How often failures of one kind at one hook are logged: a plugin that fails at
/// every login must not fill a disk, and its timeouts must not hide its panics.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// What has happened in a plugin since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls of hooks.
    pub calls: u64,
    /// Errors returned.
    pub errors: u64,
    /// Panics caught.
    pub panics: u64,
    /// Deadlines overrun.
    pub overruns: u64,
    /// Answers that could not be used.
    pub bad_answers: u64,
    /// Calls that held a worker for too long.
    pub stalls: u64,
}

/// The last failure of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The name of the hook, or `task`.
    pub hook: String,
    /// What went wrong.
    pub text: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Panic,
    Overrun,
    BadAnswer,
    Quarantined,
}

/// Threads with a counter of their own. There are rarely more workers and blocking threads;
/// later ones share the last counter.
const COUNTERS: usize = 64;

/// The calls of hooks, counted by each thread for itself: a shared counter would move from
/// core to core at every call.
#[derive(Debug)]
struct Calls(Box<[Counter; COUNTERS]>);

/// Alone in its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

impl Default for Calls {
    fn default() -> Self {
        Self(Box::new([const { Counter(AtomicU64::new(0)) }; COUNTERS]))
    }
}

impl Calls {
    #[inline]
    fn count(&self) {
        match slot::slot().and_then(|slot| self.0[..COUNTERS - 1].get(slot.index)) {
            // Only this thread writes it, so a load and a store are enough.
            Some(Counter(own)) => own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            None => {
                self.0[COUNTERS - 1].0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|Counter(counter)| counter.load(Ordering::Relaxed))
            .sum()
    }
}

/// When failures of one kind at one hook were logged.
#[derive(Debug)]
struct LastLog {
    hook: &'static str,
    kind: Kind,
    at: Instant,
    /// The failures since then that were not logged.
    left_out: u64,
}

/// The state of one generation of a plugin.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) plugin: String,
    calls: Calls,
    errors: AtomicU64,
    panics: AtomicU64,
    overruns: AtomicU64,
    bad_answers: AtomicU64,
    stalls: AtomicU64,
    is_quarantined: AtomicBool,
    last_panics: Mutex<VecDeque<Instant>>,
    /// One for each hook and kind that has failed.
    last_logs: Mutex<Vec<LastLog>>,
    /// Kept, because the log leaves lines out.
    last_failure: Mutex<Option<LastFailure>>,
}

impl Health {
    pub(super) fn new(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            calls: Calls::default(),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            bad_answers: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            is_quarantined: AtomicBool::new(false),
            last_panics: Mutex::default(),
            last_logs: Mutex::default(),
            last_failure: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            calls: self.calls.sum(),
            errors: read(&self.errors),
            panics: read(&self.panics),
            overruns: read(&self.overruns),
            bad_answers: read(&self.bad_answers),
            stalls: read(&self.stalls),
        }
    }

    #[inline]
    pub(super) fn called(&self) {
        self.calls.count();
    }

    pub(super) fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_quarantined(&self) -> bool {
        self.is_quarantined.load(Ordering::Relaxed)
    }

    /// Ends the quarantine. Returns whether there was one.
    pub(super) fn resume(&self) -> bool {
        self.last_panics().clear();
        self.is_quarantined.swap(false, Ordering::Relaxed)
    }

    /// The last failure, held until it is dropped.
    pub(super) fn last_failure(&self) -> std::sync::MutexGuard<'_, Option<LastFailure>> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure, and logs it unless one of the same kind and hook was logged within
    /// [`LOG_PERIOD`].
    pub(super) fn failed(&self, hook: &'static str, kind: Kind, text: &str, consequence: &str) {
        match kind {
            Kind::Error => self.errors.fetch_add(1, Ordering::Relaxed),
            Kind::Panic => self.panics.fetch_add(1, Ordering::Relaxed),
            Kind::Overrun => self.overruns.fetch_add(1, Ordering::Relaxed),
            Kind::BadAnswer => self.bad_answers.fetch_add(1, Ordering::Relaxed),
            Kind::Quarantined => 0,
        };
        *self.last_failure() = Some(LastFailure {
            hook: hook.to_owned(),
            text: text.to_owned(),
        });
        if let Some(left_out) = self.may_log(hook, kind, Instant::now()) {
            let plugin = self.plugin.as_str();
            tracing::warn!(
                plugin,
                hook,
                consequence,
                left_out,
                "plugin `{plugin}`: {text}"
            );
        }
        if kind == Kind::Panic && self.panicked(Instant::now()) {
            let plugin = self.plugin.as_str();
            tracing::error!(
                plugin,
                "plugin `{plugin}` is quarantined: {PANICS_MAX} panics in {} s; its hooks count as \
                 failed until it is resumed with `infrarust plugin resume {plugin}` or reloaded",
                PANIC_WINDOW.as_secs()
            );
        }
    }

    /// How many lines of this hook and kind were left out since the last one, if
    /// one may be logged.
    fn may_log(&self, hook: &'static str, kind: Kind, now: Instant) -> Option<u64> {
        let mut logs = self
            .last_logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_it = |last: &&mut LastLog| last.hook == hook && last.kind == kind;
        let Some(last) = logs.iter_mut().find(is_it) else {
            logs.push(LastLog {
                hook,
                kind,
                at: now,
                left_out: 0,
            });
            return Some(0);
        };
        if now.duration_since(last.at) < LOG_PERIOD {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }

    /// Records a panic. Returns whether the quarantine begins with it.
    fn panicked(&self, now: Instant) -> bool {
        let mut last = self.last_panics();
        while last
            .front()
            .is_some_and(|first| now.duration_since(*first) > PANIC_WINDOW)
        {
            last.pop_front();
        }
        last.push_back(now);
        last.len() >= PANICS_MAX && !self.is_quarantined.swap(true, Ordering::Relaxed)
    }

    fn last_panics(&self) -> std::sync::MutexGuard<'_, VecDeque<Instant>> {
        self.last_panics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window slides: only panics close to each other add up, and the
    /// quarantine begins once.
    #[test]
    fn panics_add_up_within_the_window() {
        let health = Health::new("p");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in [0, 20, 40, 60, 81, 102] {
            assert!(!health.panicked(at(seconds)));
        }
        assert!(!health.panicked(at(103)));
        assert!(health.panicked(at(104)));
        assert!(health.is_quarantined());
        assert!(!health.panicked(at(105)));
        assert!(health.resume());
        assert!(!health.is_quarantined());
        assert!(!health.panicked(at(106)));
    }

    /// Each call counts once, however many threads call, start and end.
    #[test]
    fn every_call_is_counted() {
        let health = Health::new("p");
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..COUNTERS + 8 {
                    scope.spawn(|| (0..100).for_each(|_| health.called()));
                }
            });
        }
        assert_eq!(health.counts().calls, 3 * (COUNTERS as u64 + 8) * 100);
    }

    /// A second line of a hook and kind within the period is counted instead, and
    /// hides none of another.
    #[test]
    fn lines_are_sampled() {
        let health = Health::new("p");
        let start = Instant::now();
        let overrun = |now| health.may_log("login.decide", Kind::Overrun, now);
        assert_eq!(overrun(start), Some(0));
        assert_eq!(overrun(start), None);
        assert_eq!(overrun(start), None);
        assert_eq!(health.may_log("login.decide", Kind::Panic, start), Some(0));
        assert_eq!(
            health.may_log("route.select", Kind::Overrun, start),
            Some(0)
        );
        assert_eq!(overrun(start + LOG_PERIOD), Some(2));
    }
}
