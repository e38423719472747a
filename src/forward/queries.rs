//! Packets of a session that wait for an answer of plugins.
//!
//! The driver of the session puts packets here, and reads no more in their direction.
//! Once it has done so for all its sessions, it lets the [`Decider`] begin, which calls the
//! plugins on other threads and gives the decisions; the [`Outbox`] notifies the driver. So
//! the sessions of a driver share the changes of threads. A packet that no plugin wants
//! costs one look-up.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;

use super::{Direction, Outbox};
use crate::protocol::packet::{Serverbound, State, Version};

/// The packets of a session that plugins want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The ids as bits, by state and direction.
    ids: [[[u64; 4]; 2]; 2],
    /// Whether the proxy keeps the client's chat key from the backend (1.19.3 and later),
    /// so that lines of chat can be dropped.
    pub(crate) withholds_chat_key: bool,
}

impl Wanted {
    /// With these packets of a state.
    #[must_use]
    pub fn with(mut self, state: State, direction: Direction, ids: [u64; 4]) -> Self {
        if let Some(place) = place(state) {
            self.ids[place][direction as usize] = ids;
        }
        self
    }

    /// Whether plugins want the packet with this id.
    #[inline]
    #[must_use]
    pub fn has(&self, state: State, direction: Direction, id: i32) -> bool {
        let Some(place) = place(state) else {
            return false;
        };
        let ids = &self.ids[place][direction as usize];
        match u8::try_from(id) {
            Ok(id) => ids[usize::from(id / 64)] >> (id % 64) & 1 == 1,
            // No version has ids from 256 on, so such a packet is only in the set of all.
            Err(_) => self.has_all(state, direction),
        }
    }

    /// Whether plugins want all packets of a direction.
    pub(super) fn has_all(&self, state: State, direction: Direction) -> bool {
        place(state).is_some_and(|place| self.ids[place][direction as usize] == [u64::MAX; 4])
    }

    /// Whether the proxy does not pass a packet of the client to the backend.
    pub(crate) fn withholds(&self, version: Version, state: State, id: i32) -> bool {
        self.withholds_chat_key && version.kind(state, id) == Some(Serverbound::ChatSession)
    }
}

/// The index of a state in which plugins see packets.
const fn place(state: State) -> Option<usize> {
    match state {
        State::Configuration => Some(0),
        State::Play => Some(1),
        State::Login => None,
    }
}

/// Consecutive packets of one direction and state that wait for decisions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PacketGroup {
    pub(crate) state: State,
    /// The id and fields of each.
    pub(crate) packets: Vec<Vec<u8>>,
}

/// The decision about a packet: what the lane does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It passes unchanged.
    Pass,
    /// It passes as this packet.
    Change(Vec<u8>),
    /// It is dropped, and replaced by this packet, if there is one.
    Drop(Option<Vec<u8>>),
}

/// Decides about packets.
pub(crate) trait Decider: fmt::Debug + Send + Sync {
    /// Takes packets, and gives the decisions about at least the first of them to
    /// [`PacketQueries::answer`], from any thread. Does not wait. It may leave them until
    /// [`begin`](Self::begin).
    fn decide(&self, queries: &Arc<PacketQueries>, direction: Direction, group: PacketGroup);

    /// Begins with all packets that were taken, also with those of other sessions. Does not
    /// wait.
    fn begin(&self);
}

/// The packets of one session that wait for decisions, at most one group in each
/// direction.
#[derive(Debug)]
pub(crate) struct PacketQueries {
    pub(crate) wanted: Wanted,
    decider: Arc<dyn Decider>,
    outbox: Arc<Outbox>,
    lanes: [DirectionQueries; 2],
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct DirectionQueries {
    decisions: Mutex<Option<Vec<Decision>>>,
    is_decided: Notify,
}

impl PacketQueries {
    /// For the session with this outbox.
    pub(crate) fn new(wanted: Wanted, decider: Arc<dyn Decider>, outbox: Arc<Outbox>) -> Self {
        Self {
            wanted,
            decider,
            outbox,
            lanes: Default::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Adds packets. Those before them in this direction must have been decided.
    /// [`begin`](Self::begin) must follow.
    pub(super) fn put(self: &Arc<Self>, direction: Direction, group: PacketGroup) {
        self.decider.decide(self, direction, group);
    }

    /// Lets the decider begin with all packets that were added, also those of other
    /// sessions.
    pub(super) fn begin(&self) {
        self.decider.begin();
    }

    /// Gives the decisions about the packets that were taken in this direction, or about
    /// the first of them. Returns a waker if the driver of the session has to be woken.
    pub(crate) fn answer(&self, direction: Direction, decisions: Vec<Decision>) -> Option<Waker> {
        let lane = &self.lanes[direction as usize];
        *lane.lock() = Some(decisions);
        lane.is_decided.notify_one();
        self.outbox.notify_driver()
    }

    /// Takes the decisions, if there are any.
    pub(super) fn take_decisions(&self, direction: Direction) -> Option<Vec<Decision>> {
        self.lanes[direction as usize].lock().take()
    }

    /// Adds a packet and waits for the decision, for callers without a driver.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        direction: Direction,
        state: State,
        packet: Vec<u8>,
    ) -> Decision {
        let packets = vec![packet];
        self.put(direction, PacketGroup { state, packets });
        self.begin();
        let lane = &self.lanes[direction as usize];
        loop {
            let is_decided = lane.is_decided.notified();
            if let Some(decisions) = self.take_decisions(direction) {
                return decisions.into_iter().next().unwrap_or(Decision::Pass);
            }
            is_decided.await;
        }
    }

    /// The session is over: nobody waits for decisions any more.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether the session is over.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl DirectionQueries {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Decision>>> {
        // A panic under the lock cannot leave half of a change behind.
        self.decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wanted packets are found by state, direction and id.
    #[test]
    fn ids_are_looked_up() {
        let wanted = Wanted::default()
            .with(State::Play, Direction::Serverbound, [1 << 5, 0, 1 << 9, 0])
            .with(State::Configuration, Direction::Clientbound, [u64::MAX; 4]);
        let has = |state, direction, id| wanted.has(state, direction, id);
        assert!(has(State::Play, Direction::Serverbound, 5));
        assert!(has(State::Play, Direction::Serverbound, 137));
        for id in [0, 4, 6, 64, 136, 255, 256, 1 << 20, -1] {
            assert!(!has(State::Play, Direction::Serverbound, id), "{id}");
            assert!(has(State::Configuration, Direction::Clientbound, id));
            assert!(!has(State::Login, Direction::Clientbound, id));
        }
        assert!(!has(State::Play, Direction::Clientbound, 5));
    }

    /// Drops a packet for the backend, and changes one for the client, from another task.
    #[derive(Debug)]
    struct ByDirection;

    impl Decider for ByDirection {
        fn decide(&self, queries: &Arc<PacketQueries>, direction: Direction, group: PacketGroup) {
            let queries = Arc::clone(queries);
            tokio::spawn(async move {
                assert_eq!(queries.take_decisions(direction), None);
                let waker = queries.answer(
                    direction,
                    match direction {
                        Direction::Serverbound => vec![Decision::Drop(None)],
                        Direction::Clientbound => {
                            let changed = group.packets.into_iter();
                            changed.map(Decision::Change).collect()
                        }
                    },
                );
                assert!(waker.is_none(), "there is no driver");
            });
        }

        fn begin(&self) {}
    }

    /// Each direction waits only for its own decision.
    #[tokio::test]
    async fn directions_wait_by_themselves() {
        let queries = PacketQueries::new(Wanted::default(), Arc::new(ByDirection), Arc::default());
        let queries = Arc::new(queries);
        let to_backend = queries.ask(Direction::Serverbound, State::Play, vec![1]);
        let to_client = queries.ask(Direction::Clientbound, State::Play, vec![2]);
        let (to_backend, to_client) = tokio::join!(to_backend, to_client);
        assert_eq!(to_backend, Decision::Drop(None));
        assert_eq!(to_client, Decision::Change(vec![2]));
        assert_eq!(queries.take_decisions(Direction::Clientbound), None);
    }
}
