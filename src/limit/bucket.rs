//! A limit per second on average, with larger bursts.

use std::time::{Duration, Instant};

/// An amount per second on average, and that of a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    per_second: u64,
    /// In thousandths, so that short times count.
    most: u64,
}

impl Rate {
    /// A burst is the amount for `window`.
    pub(crate) const fn new(per_second: u64, window: Duration) -> Self {
        Self {
            per_second,
            most: per_second * 1000 * window.as_secs(),
        }
    }

    pub(crate) const fn per_second(self) -> u64 {
        self.per_second
    }
}

/// The remaining amounts of several rates, which refill with time.
///
/// It does not contain the rates, and its amounts are refilled at the same times: so it is
/// smaller than several [`Bucket`]s.
#[derive(Debug)]
pub(crate) struct Amounts<const RATES: usize> {
    /// In thousandths.
    left: [u64; RATES],
    filled: Instant,
}

impl<const RATES: usize> Amounts<RATES> {
    pub(crate) fn full(rates: &[Rate; RATES], now: Instant) -> Self {
        Self {
            left: rates.map(|rate| rate.most),
            filled: now,
        }
    }

    /// Takes a count of each, in order.
    ///
    /// # Errors
    ///
    /// The first rate of which less is left. Nothing of it is taken.
    pub(crate) fn take(
        &mut self,
        rates: &[Rate; RATES],
        counts: [u64; RATES],
        now: Instant,
    ) -> Result<(), Rate> {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        if millis > 0 {
            for (left, rate) in self.left.iter_mut().zip(rates) {
                let more = millis.saturating_mul(rate.per_second);
                *left = left.saturating_add(more).min(rate.most);
            }
            self.filled = now;
        }
        for ((left, count), rate) in self.left.iter_mut().zip(counts).zip(rates) {
            let rest = left.checked_sub(count.saturating_mul(1000));
            *left = rest.ok_or(*rate)?;
        }
        Ok(())
    }
}

impl<const RATES: usize> Amounts<RATES> {
    /// Takes a count of each, of what was left at the last call of [`take`](Self::take).
    /// False if less of one was left; then nothing is taken.
    pub(crate) fn take_of_rest(&mut self, counts: [u64; RATES]) -> bool {
        let thousandths = counts.map(|count| count.saturating_mul(1000));
        let has_all = self
            .left
            .iter()
            .zip(thousandths)
            .all(|(left, count)| *left >= count);
        if has_all {
            for (left, count) in self.left.iter_mut().zip(thousandths) {
                *left -= count;
            }
        }
        has_all
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&mut self, counts: [u64; RATES]) {
        for (left, count) in self.left.iter_mut().zip(counts) {
            *left = left.saturating_add(count.saturating_mul(1000));
        }
    }
}

/// The remaining amount of one rate, which refills with time.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: [Rate; 1],
    amount: Amounts<1>,
}

impl Bucket {
    /// A full bucket, with a burst of the amount for `window`.
    pub(crate) fn new(per_second: u64, window: Duration, now: Instant) -> Self {
        let rate = [Rate::new(per_second, window)];
        Self {
            rate,
            amount: Amounts::full(&rate, now),
        }
    }

    /// Takes `count`; false if there is less, and then nothing is taken.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> bool {
        self.amount.take(&self.rate, [count], now).is_ok()
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
    /// Each rate has an amount of its own, and the time during which another one was used up
    /// also refills it.
    #[test]
    fn rates_do_not_share_their_amounts() {
        let second = Duration::from_secs(1);
        let rates = [Rate::new(10, second), Rate::new(1000, second)];
        let begin = Instant::now();
        let mut amounts = Amounts::full(&rates, begin);
        assert!(amounts.take(&rates, [9, 1000], begin).is_ok());
        let exceeded = amounts.take(&rates, [1, 1], begin).unwrap_err();
        assert_eq!(exceeded.per_second(), 1000);
        let later = begin + Duration::from_millis(50);
        let exceeded = amounts.take(&rates, [1, 1], later).unwrap_err();
        assert_eq!(exceeded.per_second(), 10);
        assert!(amounts.take(&rates, [0, 50], later).is_ok());
        let exceeded = amounts.take(&rates, [0, 1], later).unwrap_err();
        assert_eq!(exceeded.per_second(), 1000);
    }

    /// What was taken ahead and is given back can be taken again, and no more than that.
    #[test]
    fn a_part_can_be_given_back() {
        let rates = [
            Rate::new(10, Duration::from_secs(1)),
            Rate::new(100, Duration::from_secs(1)),
        ];
        let begin = Instant::now();
        let mut amounts = Amounts::full(&rates, begin);
        assert!(!amounts.take_of_rest([1, 101]));
        assert!(amounts.take_of_rest([10, 50]));
        assert!(!amounts.take_of_rest([1, 0]));
        amounts.give_back([4, 20]);
        assert!(amounts.take(&rates, [4, 70], begin).is_ok());
        assert!(amounts.take(&rates, [1, 0], begin).is_err());
    }
}
