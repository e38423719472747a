//! When a session has to be looked at though nothing happens to it.
//!
//! Nothing here runs per message: limits are held against what has moved
//! since the last look, and a session without limits is never looked at.

use std::time::{Duration, Instant};

use super::both::Both;
use super::lane::{Lane, Phase};
use super::{Direction, Limits, Side};

/// Looks in each limit: one that passes right after a look is seen a quarter of the limit later.
const LOOKS_PER_LIMIT: u32 = 5;

/// The least time between two looks: what epoll_wait(2) and timers of the runtime resolve.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// A limit that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Read(Direction),
    Write(Direction),
    HalfClose,
}

/// What a direction looked like, and since when.
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

#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    /// Boxed, and absent without need: a session at rest is to be small.
    marks: Option<Box<Both<Mark>>>,
    half_close_at: Option<Instant>,
    look_at: Option<Instant>,
}

impl Clock {
    pub(super) fn new(limits: Limits, lanes: &Both<Lane>) -> Self {
        let mut clock = Self {
            limits,
            marks: None,
            half_close_at: None,
            look_at: None,
        };
        if limits.read.is_some() || limits.write.is_some() {
            let now = Instant::now();
            clock.marks = Some(Box::new(Both {
                client: Mark::new(&lanes.client, now),
                backend: Mark::new(&lanes.backend, now),
            }));
            clock.look_at = clock.next_look(now);
        }
        clock
    }

    /// When to [`look`](Self::look) next; `None` is never.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// One direction has ended; only the first time counts.
    pub(super) fn start_half_close(&mut self) {
        if self.half_close_at.is_none() {
            self.half_close_at = Instant::now().checked_add(self.limits.half_close);
            self.look_at = self.look_at.into_iter().chain(self.half_close_at).min();
        }
    }

    /// What has passed. Lanes stand under the side that sends.
    pub(super) fn look(&mut self, now: Instant, lanes: &Both<Lane>) -> Option<Expired> {
        if self.half_close_at.is_some_and(|at| at <= now) {
            return Some(Expired::HalfClose);
        }
        if let Some(marks) = &mut self.marks {
            for side in Side::BOTH {
                let (mark, lane) = (marks.of_mut(side), lanes.of(side));
                if lane.phase() != Phase::Open {
                    continue;
                }
                if mark.moved_bytes != lane.moved_bytes() || mark.waiting != lane.is_waiting() {
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
        self.look_at = self.next_look(now);
        None
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let shortest = self.limits.read.into_iter().chain(self.limits.write).min();
        let regular = shortest
            .map(|limit| (limit / LOOKS_PER_LIMIT).max(LOOK_MIN))
            .and_then(|period| now.checked_add(period));
        regular.into_iter().chain(self.half_close_at).min()
    }
}
