//! A counted number of slots.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts taken slots, up to a limit.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    taken: Arc<AtomicU32>,
}

/// One taken slot; given back on drop.
#[derive(Debug)]
#[must_use = "the slot is given back when this is dropped"]
pub struct Slot {
    taken: Arc<AtomicU32>,
}

impl Slots {
    /// Takes a slot if fewer than `max` are taken. Deciding and taking is one
    /// step, so that no race of several clients can pass the limit.
    #[must_use]
    pub fn take(&self, max: Option<NonZeroU32>) -> Option<Slot> {
        let max = max.map_or(u32::MAX, NonZeroU32::get);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < max).then(|| taken + 1)
            })
            .ok()?;
        Some(Slot {
            taken: Arc::clone(&self.taken),
        })
    }

    /// How many slots are taken now.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many threads that race for few slots get exactly as many as there are.
    #[test]
    fn no_race_passes_the_limit() {
        let slots = Slots::default();
        let max = NonZeroU32::new(7);
        let won: Vec<Slot> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..32)
                .map(|_| {
                    scope.spawn(|| (0..50).filter_map(|_| slots.take(max)).collect::<Vec<_>>())
                })
                .collect();
            racers
                .into_iter()
                .flat_map(|racer| racer.join().unwrap())
                .collect()
        });
        assert_eq!(won.len(), 7);
        assert_eq!(slots.taken(), 7);
        drop(won);
        assert_eq!(slots.taken(), 0);
        assert!(slots.take(max).is_some());
    }

    /// Without a limit everybody gets a slot, and is counted.
    #[test]
    fn no_limit_still_counts() {
        let slots = Slots::default();
        let held: Vec<_> = (0..1000).map(|_| slots.take(None).unwrap()).collect();
        assert_eq!(slots.taken(), 1000);
        drop(held);
    }
}
