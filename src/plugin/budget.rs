//! How much a plugin may send in a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limit::Bucket;
use crate::telemetry::Sampler;

/// Packets that a plugin may send in a second to all players: twenty a second, as
/// many as there are ticks, to each of a thousand.
const PACKETS_PER_SECOND_MAX: u64 = 20_000;
/// Bytes before compression that a plugin may send in a second to all players: what
/// a core compresses in a fifth of one.
const BYTES_PER_SECOND_MAX: u64 = 16 * 1024 * 1024;
/// The size of a burst: the packets and bytes that would be allowed in this time.
const BUDGET_WINDOW: Duration = Duration::from_secs(1);
/// What a plugin may still send, and its number as a sender. All generations of the plugin
/// share it.
#[derive(Debug)]
pub(super) struct Budget {
    /// Distinguishes its packets from those of others.
    pub(super) sender: u64,
    left: Mutex<Left>,
    pub(super) refusals: Sampler,
}

#[derive(Debug)]
struct Left {
    packets: Bucket,
    bytes: Bucket,
}

impl Default for Budget {
    fn default() -> Self {
        static SENDERS: AtomicU64 = AtomicU64::new(0);
        let now = Instant::now();
        let bucket = |per_second| Bucket::new(per_second, BUDGET_WINDOW, now);
        Self {
            sender: SENDERS.fetch_add(1, Ordering::Relaxed),
            left: Mutex::new(Left {
                packets: bucket(PACKETS_PER_SECOND_MAX),
                bytes: bucket(BYTES_PER_SECOND_MAX),
            }),
            refusals: Sampler::new(),
        }
    }
}

impl Budget {
    /// Takes the budget for these packets. Returns whether it was enough.
    pub(super) fn take(&self, packets: &[Vec<u8>]) -> bool {
        let now = Instant::now();
        let mut left = self.left();
        let bytes = packets.iter().map(Vec::len).sum();
        left.packets.take(number(packets.len()), now) && left.bytes.take(number(bytes), now)
    }

    /// Takes the budget for bytes that the plugin adds to packets of others. Returns whether
    /// it was enough.
    pub(super) fn take_bytes(&self, bytes: usize) -> bool {
        self.left().bytes.take(number(bytes), Instant::now())
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // A panic under the lock cannot leave half of a change behind.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packets that a plugin may send in a second are bounded.
    #[test]
    fn budgets_are_bounded() {
        let budget = Budget::default();
        let bytes = usize::try_from(BYTES_PER_SECOND_MAX).unwrap();
        let large = [vec![0; bytes]];
        assert!(budget.take(&large));
        assert!(!budget.take(&large));
        assert!(!budget.take_bytes(bytes));
        let budget = Budget::default();
        let empty = [Vec::new()];
        let taken = (0..2 * PACKETS_PER_SECOND_MAX).filter(|_| budget.take(&empty));
        let taken = u64::try_from(taken.count()).unwrap();
        // Some refill while this runs.
        assert!((PACKETS_PER_SECOND_MAX..2 * PACKETS_PER_SECOND_MAX).contains(&taken));
    }
}
