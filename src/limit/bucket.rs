//! A limit per second on average, with larger bursts.

use std::time::{Duration, Instant};

/// The remaining amount, which refills with time.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// In thousandths, so that short times count.
    most: u64,
    left: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket, with a burst of the amount for `window`.
    pub(crate) const fn new(per_second: u64, window: Duration, now: Instant) -> Self {
        let most = per_second * 1000 * window.as_secs();
        Self {
            per_second,
            most,
            left: most,
            filled: now,
        }
    }

    /// Takes `count`; false if there is less, and then nothing is taken.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        if millis > 0 {
            let more = millis.saturating_mul(self.per_second);
            self.left = self.left.saturating_add(more).min(self.most);
            self.filled = now;
        }
        match self.left.checked_sub(count.saturating_mul(1000)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The amount of a window can be taken at once, then what has refilled since.
    #[test]
    fn a_bucket_refills_with_time() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(10, Duration::from_secs(2), begin);
        assert!(bucket.take(20, begin));
        assert!(!bucket.take(1, begin));
        assert!(!bucket.take(6, begin + Duration::from_millis(500)));
        assert!(bucket.take(5, begin + Duration::from_millis(500)));
        let later = begin + Duration::from_secs(60);
        assert!(!bucket.take(21, later));
        assert!(bucket.take(20, later));
    }
}
