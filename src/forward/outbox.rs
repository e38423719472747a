//! Packets that are put into a session by others than its two peers.
//!
//! Whoever sends them may be on any thread, and never waits: a packet lies in a
//! bounded queue until whoever drives the session is at the edge of a frame and
//! the receiver takes it. That the driver learns of it is what the bell is for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Direction;

/// Packets of one sender that wait in one direction. A player who comes out of a
/// configuration gets what has piled up; more would be old by then.
pub(crate) const WAITING_PACKETS_MAX: usize = 128;
/// Bytes of the packets of one sender that wait in one direction.
pub(crate) const WAITING_BYTES_MAX: usize = 512 * 1024;

/// What waits to be put into one session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// How many wait in each direction, to be looked at without the lock.
    counts: [AtomicUsize; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    queues: [VecDeque<Queued>; 2],
    bell: Option<Waker>,
    /// The bell has rung, and nobody has answered it: once is enough.
    has_rung: bool,
}

#[derive(Debug)]
struct Queued {
    sender: u64,
    packet: Vec<u8>,
}

/// Too much of the sender waits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbox {
    /// Puts packets, each its id and fields, behind those that wait in this
    /// direction: all or none.
    ///
    /// # Errors
    ///
    /// When the sender has too much there.
    pub(crate) fn put(
        &self,
        direction: Direction,
        sender: u64,
        packets: Vec<Vec<u8>>,
    ) -> Result<(), Full> {
        let mut waiting = self.lock();
        let queue = &mut waiting.queues[direction as usize];
        let of_sender = queue.iter().filter(|queued| queued.sender == sender);
        let sizes = of_sender.map(|queued| queued.packet.len());
        let (count, bytes) = sizes
            .chain(packets.iter().map(Vec::len))
            .fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if count > WAITING_PACKETS_MAX || bytes > WAITING_BYTES_MAX {
            return Err(Full);
        }
        queue.extend(packets.into_iter().map(|packet| Queued { sender, packet }));
        self.counts[direction as usize].store(queue.len(), Ordering::Release);
        Self::ring_for(waiting);
        Ok(())
    }

    /// Wakes whoever drives the session: there is something for it elsewhere.
    pub(super) fn ring(&self) {
        Self::ring_for(self.lock());
    }

    fn ring_for(mut waiting: MutexGuard<'_, Waiting>) {
        let has_rung = std::mem::replace(&mut waiting.has_rung, true);
        let bell = waiting.bell.clone().filter(|_| !has_rung);
        drop(waiting);
        if let Some(bell) = bell {
            bell.wake();
        }
    }

    /// Whether something waits in this direction.
    pub(super) fn has(&self, direction: Direction) -> bool {
        self.counts[direction as usize].load(Ordering::Acquire) > 0
    }

    /// The packet that has waited longest.
    pub(super) fn take(&self, direction: Direction) -> Option<Vec<u8>> {
        let mut waiting = self.lock();
        let queue = &mut waiting.queues[direction as usize];
        let queued = queue.pop_front();
        self.counts[direction as usize].store(queue.len(), Ordering::Release);
        queued.map(|queued| queued.packet)
    }

    /// Who is woken by what is put in. Whoever sets it looks into the outbox
    /// afterwards, as whoever is woken.
    pub(super) fn set_bell(&self, bell: Waker) {
        self.lock().bell = Some(bell);
    }

    /// From now on the next packet rings again.
    pub(super) fn answer_bell(&self) {
        self.lock().has_rung = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Under the lock nothing is left half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets come out in order, each direction by itself, and one sender cannot
    /// take the room of another.
    #[test]
    fn queues_are_ordered_and_bounded() {
        let outbox = Outbox::default();
        let (to_client, to_backend) = (Direction::Clientbound, Direction::Serverbound);
        let put = |direction, sender, packet| outbox.put(direction, sender, vec![packet]);
        for number in 0..WAITING_PACKETS_MAX {
            let packet = vec![u8::try_from(number).unwrap()];
            assert_eq!(put(to_client, 1, packet), Ok(()));
        }
        assert_eq!(put(to_client, 1, vec![9]), Err(Full));
        assert_eq!(put(to_client, 2, vec![200]), Ok(()));
        assert_eq!(put(to_backend, 1, vec![9]), Ok(()));
        let large = vec![0; WAITING_BYTES_MAX + 1];
        assert_eq!(put(to_backend, 2, large), Err(Full));
        assert!(outbox.has(to_backend));
        assert_eq!(outbox.take(to_backend), Some(vec![9]));
        assert!(!outbox.has(to_backend));
        for number in 0..WAITING_PACKETS_MAX {
            let packet = vec![u8::try_from(number).unwrap()];
            assert_eq!(outbox.take(to_client), Some(packet));
        }
        assert_eq!(outbox.take(to_client), Some(vec![200]));
        assert_eq!(outbox.take(to_client), None);
    }
}
