//! Packets of a session that wait for an answer of plugins.
//!
//! The driver of the session puts a packet here, and reads no more in its direction. A
//! task takes the packet, calls the plugins and gives the answer, and the waker of the
//! [`Outbox`] wakes the driver. A packet that no plugin wants costs one look-up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// A packet that waits for its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PacketQuery {
    pub(crate) state: State,
    /// Its id and fields.
    pub(crate) packet: Vec<u8>,
}

/// The answer about a packet: what the lane does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It passes unchanged.
    Pass,
    /// It passes as this packet.
    Change(Vec<u8>),
    /// It is dropped, and replaced by this packet, if there is one.
    Drop(Option<Vec<u8>>),
}

/// The packets of one session that wait for an answer, at most one in each direction.
#[derive(Debug)]
pub(crate) struct PacketQueries {
    pub(crate) wanted: Wanted,
    outbox: Arc<Outbox>,
    lanes: [DirectionQueries; 2],
}

#[derive(Debug, Default)]
struct DirectionQueries {
    slot: Mutex<Slot>,
    is_asked: Notify,
    is_answered: Notify,
}

/// At most one of them.
#[derive(Debug, Default)]
struct Slot {
    query: Option<PacketQuery>,
    answer: Option<Decision>,
}

impl PacketQueries {
    /// For the session with this outbox.
    pub(crate) fn new(wanted: Wanted, outbox: Arc<Outbox>) -> Self {
        Self {
            wanted,
            outbox,
            lanes: Default::default(),
        }
    }

    /// Adds a packet. The packet before it in this direction must have been answered.
    pub(super) fn put(&self, direction: Direction, query: PacketQuery) {
        let lane = &self.lanes[direction as usize];
        lane.lock().query = Some(query);
        lane.is_asked.notify_one();
    }

    /// The next packet of a direction. For one caller at a time; cancel safe.
    pub(crate) async fn next_query(&self, direction: Direction) -> PacketQuery {
        let lane = &self.lanes[direction as usize];
        loop {
            let is_asked = lane.is_asked.notified();
            // The lock is released before the wait, so that `answer` can take it.
            let query = lane.lock().query.take();
            if let Some(query) = query {
                return query;
            }
            is_asked.await;
        }
    }

    /// Gives the answer about the packet that was taken in this direction.
    pub(crate) fn answer(&self, direction: Direction, decision: Decision) {
        let lane = &self.lanes[direction as usize];
        lane.lock().answer = Some(decision);
        lane.is_answered.notify_one();
        self.outbox.wake_driver();
    }

    /// Takes the answer, if there is one.
    pub(super) fn take_answer(&self, direction: Direction) -> Option<Decision> {
        self.lanes[direction as usize].lock().answer.take()
    }

    /// Adds a packet and waits for its answer, for callers without a driver.
    pub(crate) async fn ask(
        &self,
        direction: Direction,
        state: State,
        packet: Vec<u8>,
    ) -> Decision {
        self.put(direction, PacketQuery { state, packet });
        let lane = &self.lanes[direction as usize];
        loop {
            let is_answered = lane.is_answered.notified();
            if let Some(decision) = self.take_answer(direction) {
                return decision;
            }
            is_answered.await;
        }
    }
}

impl DirectionQueries {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // A panic under the lock cannot leave half of a change behind.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet is one of those that are wanted by its state, its direction and its id.
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

    /// Each direction waits for its own answer.
    #[tokio::test]
    async fn directions_wait_by_themselves() {
        let queries = PacketQueries::new(Wanted::default(), Arc::default());
        let (to_client, to_backend) = (Direction::Clientbound, Direction::Serverbound);
        let answer = async {
            let query = queries.next_query(to_backend).await;
            assert_eq!(query.packet, [1]);
            assert_eq!(queries.take_answer(to_client), None);
            queries.answer(to_backend, Decision::Drop(None));
            let query = queries.next_query(to_client).await;
            queries.answer(to_client, Decision::Change(query.packet));
        };
        let ask = async {
            let decision = queries.ask(to_backend, State::Play, vec![1]).await;
            assert_eq!(decision, Decision::Drop(None));
            queries.ask(to_client, State::Play, vec![2]).await
        };
        let (decision, ()) = tokio::join!(ask, answer);
        assert_eq!(decision, Decision::Change(vec![2]));
    }
}
