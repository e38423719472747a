//! Timeouts of a session.
//!
//! Nothing here runs per message: a coarse timer compares the byte counts with
//! those of its last run. A session has no timer without a read timeout, except while
//! bytes wait for a receiver.

use std::time::{Duration, Instant};

use super::both::Both;
use super::lane::{Lane, Phase};
use super::{Direction, Limits, Side};

/// How many times a timeout is checked while it runs: one that passes right
/// after a check is noticed a quarter of the timeout later.
const CHECKS_PER_TIMEOUT: u32 = 5;

/// The least time between two checks: what epoll_wait(2) and timers of the runtime resolve.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// A timeout that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Read(Direction),
    Write(Direction),
    HalfClose,
}

/// The state of a direction at a check, and since when it is unchanged.
#[derive(Debug, Clone, Copy)]
struct Mark {
    moved_bytes: u64,
    waiting: bool,
    since: Instant,
}

impl Mark {
    fn new(lane: &Lane, since: Instant) -> Self {
        Self {
            moved_bytes: lane.moved_bytes(),
            waiting: lane.is_waiting(),
            since,
        }
    }
}

/// Whether bytes wait for a receiver.
fn is_any_waiting(lanes: &Both<Lane>) -> bool {
    lanes.client.is_waiting() || lanes.backend.is_waiting()
}

/// The timeouts of one session.
#[derive(Debug)]
pub(super) struct Timeouts {
    limits: Limits,
    /// Boxed, and `None` while neither timeout runs, to keep an idle session small.
    marks: Option<Box<Both<Mark>>>,
    half_close_at: Option<Instant>,
    next_deadline: Option<Instant>,
}

impl Timeouts {
    pub(super) fn new(limits: Limits, lanes: &Both<Lane>) -> Self {
        let mut timeouts = Self {
            limits,
            marks: None,
            half_close_at: None,
            next_deadline: None,
        };
        timeouts.begin(lanes);
        timeouts
    }

    /// Marks the state of both directions, if a timeout runs from now on.
    fn begin(&mut self, lanes: &Both<Lane>) {
        if self.limits.read.is_some() || (self.limits.write.is_some() && is_any_waiting(lanes)) {
            let now = Instant::now();
            self.marks = Some(Box::new(Both {
                client: Mark::new(&lanes.client, now),
                backend: Mark::new(&lanes.backend, now),
            }));
            self.next_deadline = self.deadline_after(now);
        }
    }

    /// When to call [`check_deadlines`](Self::check_deadlines) next; `None` is not before
    /// something happens in the session.
    pub(super) fn next_deadline(&mut self, lanes: &Both<Lane>) -> Option<Instant> {
        if self.marks.is_none() {
            self.begin(lanes);
        }
        self.next_deadline
    }

    /// One direction has ended. Only the first call has an effect.
    pub(super) fn start_half_close(&mut self) {
        if self.half_close_at.is_none() {
            self.half_close_at = Instant::now().checked_add(self.limits.half_close);
            self.next_deadline = self
                .next_deadline
                .into_iter()
                .chain(self.half_close_at)
                .min();
        }
    }

    /// The timeout that has passed at `now`, if any. `lanes` are indexed by the
    /// side that sends.
    pub(super) fn check_deadlines(&mut self, now: Instant, lanes: &Both<Lane>) -> Option<Expired> {
        if self.half_close_at.is_some_and(|at| at <= now) {
            return Some(Expired::HalfClose);
        }
        if let Some(marks) = &mut self.marks {
            for side in Side::BOTH {
                let (mark, lane) = (marks.of_mut(side), lanes.of(side));
                if lane.phase() != Phase::Open {
                    continue;
                }
                let has_moved =
                    mark.moved_bytes != lane.moved_bytes() || mark.waiting != lane.is_waiting();
                // Neither peer is silent while a plugin is asked: that has its own deadline.
                if has_moved || lane.awaits_decision() {
                    *mark = Mark::new(lane, now);
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
        }
        if self.limits.read.is_none() && !is_any_waiting(lanes) {
            self.marks = None;
        }
        self.next_deadline = self.deadline_after(now);
        None
    }

    fn deadline_after(&self, now: Instant) -> Option<Instant> {
        let shortest = self.limits.read.into_iter().chain(self.limits.write).min();
        let regular = shortest
            .filter(|_| self.marks.is_some())
            .map(|limit| (limit / CHECKS_PER_TIMEOUT).max(CHECK_INTERVAL_MIN))
            .and_then(|period| now.checked_add(period));
        regular.into_iter().chain(self.half_close_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lane::Method;
    use super::*;

    /// The write timeout runs only while bytes wait: an idle session has no timer, unless
    /// it has a read timeout.
    #[test]
    fn an_idle_session_has_no_timer() {
        let lanes = Both {
            client: Lane::new(Direction::Serverbound, Method::Copy),
            backend: Lane::new(Direction::Clientbound, Method::Copy),
        };
        let mut limits = Limits {
            read: None,
            write: Some(Duration::from_secs(30)),
            half_close: Duration::from_secs(30),
        };
        let mut timeouts = Timeouts::new(limits, &lanes);
        assert_eq!(timeouts.next_deadline(&lanes), None);
        assert!(timeouts.marks.is_none());
        limits.read = Some(Duration::from_secs(30));
        let mut timeouts = Timeouts::new(limits, &lanes);
        assert!(timeouts.next_deadline(&lanes).is_some());
        timeouts.check_deadlines(Instant::now(), &lanes);
        assert!(timeouts.next_deadline(&lanes).is_some());
    }
}
