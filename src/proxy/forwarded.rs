//! Messages that servers forward to a server without players on the BungeeCord channel.
//! They wait for the connection of a player there.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most messages that wait for one server. Plugins that forward many messages do so
/// every second, and older ones are outdated.
const WAITING_MESSAGES_MAX: usize = 64;
/// The most bytes of those messages (256 KiB).
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Messages that wait for the first player of a server.
#[derive(Debug, Default)]
pub(crate) struct Forwarded(Mutex<VecDeque<Vec<u8>>>);

impl Forwarded {
    /// Keeps a message. If there are too many, the oldest are dropped.
    pub(crate) fn put(&self, message: &[u8]) {
        let mut waiting = self.lock();
        waiting.push_back(message.to_vec());
        while waiting.len() > WAITING_MESSAGES_MAX
            || waiting.iter().map(Vec::len).sum::<usize>() > WAITING_BYTES_MAX
        {
            waiting.pop_front();
        }
    }

    /// Takes all of them, the oldest first.
    pub(crate) fn take(&self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        // A panic under the lock leaves the value consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest messages are kept, within both bounds.
    #[test]
    fn the_oldest_messages_are_dropped() {
        let forwarded = Forwarded::default();
        for number in 0..=255 {
            forwarded.put(&[number]);
        }
        let kept = forwarded.take();
        assert_eq!(kept.len(), WAITING_MESSAGES_MAX);
        assert_eq!(kept.back(), Some(&vec![255]));
        for _ in 0..20 {
            forwarded.put(&[0; 30_000]);
        }
        assert_eq!(forwarded.take().len(), WAITING_BYTES_MAX / 30_000);
        assert!(forwarded.take().is_empty());
    }
}
