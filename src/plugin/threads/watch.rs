//! The watch: a thread that looks at the running calls and at the waiting work.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::{CallLimit, State, Threads, Unanswered, Waiting, Work, awake_max};
use crate::supervise;

/// How often the watch looks while calls run. A call that is still running at the second
/// look counts as blocked.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(1);
/// How often the watch looks while no call runs and no work waits.
const SLOW_LOOK_PERIOD: Duration = Duration::from_millis(20);
/// After this many looks in a row that find nothing, about one second, the watch sleeps.
const IDLE_LOOKS: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    NotStarted,
    Looks,
    Sleeps,
}

impl<W: Work> Threads<W> {
    /// Starts or wakes the watch. Returns false if the system refuses the thread.
    pub(super) fn watch(&'static self, state: &mut State<W>) -> bool {
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
    pub(super) fn look(&'static self, now: Instant) -> bool {
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
pub(super) fn move_to_room<W: Work>(
    held_back: &mut VecDeque<Waiting<W>>,
    queue: &mut VecDeque<Waiting<W>>,
) {
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
