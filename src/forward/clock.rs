//! The one coarse timer of a session, there only while something is limited.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::lane::{Lane, Phase};
use super::{Direction, Limits};

/// Looks in each limit: one that passes right after a look is seen a fifth of the limit later.
const LOOKS_PER_LIMIT: u32 = 5;

/// The least time between two looks: what timers of the runtime resolve.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// How long a sender is still read and dropped when nothing can be delivered
/// any more: time for its peer to see the end, before the close resets it.
pub(super) const DISCARD_MAX: Duration = Duration::from_secs(5);

/// A limit that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Read(Direction),
    Write(Direction),
    HalfClose,
    Discard,
}

/// What a direction looked like, and since when.
#[derive(Debug, Clone, Copy)]
struct Mark {
    moved_bytes: u64,
    waiting: bool,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    /// Boxed, and absent without need: a session at rest is to be small.
    sleep: Option<Pin<Box<Sleep>>>,
    marks: Option<Box<[Mark; 2]>>,
    half_close_at: Option<Instant>,
    discard_at: Option<Instant>,
    has_limit: bool,
    stale: bool,
}

impl Clock {
    pub(super) fn new(limits: Limits) -> Self {
        let has_limit = limits.read.is_some() || limits.write.is_some();
        Self {
            limits,
            sleep: None,
            marks: None,
            half_close_at: None,
            discard_at: None,
            has_limit,
            stale: has_limit,
        }
    }

    /// One direction has ended; only the first time counts.
    pub(super) fn start_half_close(&mut self) {
        if self.half_close_at.is_none() {
            self.half_close_at = Instant::now().checked_add(self.limits.half_close);
            self.stale = true;
        }
    }

    /// Nothing can be delivered any more; only the first time counts.
    pub(super) fn start_discard(&mut self) {
        if self.discard_at.is_none() {
            self.discard_at = Instant::now().checked_add(DISCARD_MAX);
            self.stale = true;
        }
    }

    /// What has passed, if it is time to look. While nothing is due this reads one atomic.
    ///
    /// `moved_task` says that the timer must learn of a new waker.
    pub(super) fn check(
        &mut self,
        cx: &mut Context<'_>,
        lanes: [&Lane; 2],
        moved_task: bool,
    ) -> Option<Expired> {
        let due = self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed());
        if !(due || self.stale || moved_task) {
            return None;
        }
        loop {
            let now = Instant::now();
            if let Some(expired) = self.look(now, lanes) {
                return Some(expired);
            }
            self.stale = false;
            let at = self.next_look(now)?;
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    sleep.as_mut().reset(at);
                    sleep
                }
                none => none.insert(Box::pin(sleep_until(at))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
    }

    fn look(&mut self, now: Instant, lanes: [&Lane; 2]) -> Option<Expired> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.half_close_at) {
            let open = lanes.iter().any(|lane| lane.phase() == Phase::Open);
            return Some(if open {
                Expired::HalfClose
            } else {
                Expired::Discard
            });
        }
        if passed(self.discard_at) {
            return Some(Expired::Discard);
        }
        if !self.has_limit {
            return None;
        }
        let marks = self.marks.get_or_insert_with(|| {
            Box::new(lanes.map(|lane| Mark {
                moved_bytes: lane.moved_bytes(),
                waiting: lane.is_waiting(),
                since: now,
            }))
        });
        for (mark, lane) in marks.iter_mut().zip(lanes) {
            if lane.phase() != Phase::Open {
                continue;
            }
            if mark.moved_bytes != lane.moved_bytes() || mark.waiting != lane.is_waiting() {
                *mark = Mark {
                    moved_bytes: lane.moved_bytes(),
                    waiting: lane.is_waiting(),
                    since: now,
                };
                continue;
            }
            let (limit, expired) = if mark.waiting {
                (self.limits.write, Expired::Write(lane.direction()))
            } else {
                (self.limits.read, Expired::Read(lane.direction()))
            };
            if limit.is_some_and(|limit| now.duration_since(mark.since) >= limit) {
                return Some(expired);
            }
        }
        None
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let shortest = self.limits.read.into_iter().chain(self.limits.write).min();
        let regular = shortest
            .map(|limit| (limit / LOOKS_PER_LIMIT).max(LOOK_MIN))
            .and_then(|period| now.checked_add(period));
        regular
            .into_iter()
            .chain(self.half_close_at)
            .chain(self.discard_at)
            .min()
    }
}
