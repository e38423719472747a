//! Limits how often one client may connect.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::ClientKey;

/// Clients remembered at a time. When more come, the ones that were silent
/// longest are forgotten, which only gives them a fresh quota. At some 60
/// bytes each the table stays under 4 MiB.
const CLIENTS_MAX: usize = 65_536;
/// The table is split so that workers seldom wait for each other.
const SHARDS: usize = 16;
/// Clients of one part of the table.
const SHARD_CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(CLIENTS_MAX / SHARDS).unwrap();

/// A burst of `count` events that refills evenly within `window`: at most twice
/// `count` in one `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The number of events.
    pub count: NonZeroU32,
    /// The time in which a used up burst is full again; never zero.
    pub window: Duration,
}

/// Lets each client come `count` times at once, and once more after each
/// `count`th part of the `window`: a burst that refills, so at most twice `count`
/// in one `window`. By the generic cell rate algorithm, which needs one time
/// stamp per client (ITU-T I.371, annex A).
#[derive(Debug)]
pub(crate) struct RateLimiter {
    began: Instant,
    shards: [Mutex<LruCache<ClientKey, Duration>>; SHARDS],
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            // Created without a limit, so that its memory is not allocated at the start;
            // `allows` keeps the limit.
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
        }
    }
}

impl RateLimiter {
    /// Whether `client` may come at `now`; a refusal does not count against it.
    #[must_use]
    pub(crate) fn allows(&self, client: ClientKey, quota: Quota, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.began);
        let step = quota.window / quota.count.get();
        // A poisoned lock only means that another thread panicked between two
        // complete states of the table.
        let mut shard = self.shards[Self::shard(client)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = shard.get(&client).copied().unwrap_or(now).max(now);
        // This quota cannot set a later time: an entry with one is from another
        // quota, before a reload.
        let latest = now + quota.window;
        if due > latest {
            shard.put(client, latest);
        }
        if due.min(latest) - now > quota.window.saturating_sub(step) {
            return false;
        }
        shard.put(client, due + step);
        if shard.len() > SHARD_CLIENTS_MAX.get() {
            shard.pop_lru();
        }
        true
    }

    fn shard(client: ClientKey) -> usize {
        // Fibonacci hashing: the high bits of the product mix all bits of the key.
        let mixed = client.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 60).unwrap_or_default() % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const QUOTA: Quota = Quota {
        count: NonZeroU32::new(3).unwrap(),
        window: Duration::from_secs(9),
    };

    fn client(n: u32) -> ClientKey {
        IpAddr::from(Ipv4Addr::from(n)).into()
    }

    /// A burst of the whole quota passes, the next is refused, and one more
    /// may come after each part of the window.
    #[test]
    fn a_quota_is_a_burst_that_refills() {
        let limiter = RateLimiter::default();
        let start = Instant::now();
        let at = |seconds| limiter.allows(client(1), QUOTA, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(2), at(3), at(3)], [false, true, false]);
        assert_eq!(
            [at(100), at(100), at(100), at(100)],
            [true, true, true, false]
        );
        assert!(
            limiter.allows(client(2), QUOTA, start),
            "another client is not concerned"
        );
    }

    /// At any times that a client chooses, one window has at most twice the quota, as the
    /// text of the key says.
    #[test]
    fn one_window_sees_at_most_twice_the_quota() {
        let limiter = RateLimiter::default();
        let start = Instant::now();
        let came: Vec<u64> = (0..60_000)
            .step_by(50)
            .filter(|ms| limiter.allows(client(1), QUOTA, start + Duration::from_millis(*ms)))
            .collect();
        let most = came.iter().map(|first| {
            let window = *first..*first + 9000;
            came.iter().filter(|ms| window.contains(ms)).count()
        });
        let most = most.max().unwrap();
        assert!((4..=6).contains(&most), "{most} of {}", QUOTA.count);
    }

    /// After a change to a shorter window, a refused client may come again as soon as any
    /// client with a used up quota of that window.
    #[test]
    fn a_new_quota_applies_at_once() {
        let limiter = RateLimiter::default();
        let start = Instant::now();
        let hour = Quota {
            window: Duration::from_secs(3600),
            ..QUOTA
        };
        while limiter.allows(client(1), hour, start) {}
        let at = |seconds| limiter.allows(client(1), QUOTA, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(3), at(3), at(6)], [false, true, false, true]);
        assert_eq!(
            [at(100), at(100), at(100), at(100)],
            [true, true, true, false]
        );
    }

    /// However many clients come, the table keeps its bound.
    #[test]
    fn the_table_is_bounded() {
        let limiter = RateLimiter::default();
        let now = Instant::now();
        for n in 0..200_000 {
            assert!(limiter.allows(client(n), QUOTA, now));
        }
        let known: usize = limiter
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum();
        assert!(known <= CLIENTS_MAX, "{known}");
        assert!(known > CLIENTS_MAX / 2, "{known}: the shards are uneven");
    }
}
