//! Runs attempts concurrently, each with a head start before the next, until one
//! succeeds.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};

/// Runs attempts until one succeeds. The next begins when the last one has failed or
/// after `delay`. When one has succeeded, the others are dropped.
///
/// # Errors
///
/// All failures, in the order in which they came, when no attempt succeeds.
pub(super) async fn race<T, E, F>(
    attempts: impl Stream<Item = F>,
    delay: Duration,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut attempts = pin!(attempts.fuse());
    let mut errors = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut next_at = Instant::now();
    loop {
        if running.is_empty() {
            match attempts.next().await {
                Some(attempt) => running.push(attempt),
                None => return Err(errors),
            }
            next_at = Instant::now() + delay;
        }
        tokio::select! {
            biased;
            Some(settled) = running.next() => match settled {
                Ok(won) => return Ok(won),
                Err(error) => {
                    errors.push(error);
                    next_at = Instant::now();
                }
            },
            Some(attempt) = async {
                sleep_until(next_at).await;
                attempts.next().await
            }, if !attempts.is_done() => {
                running.push(attempt);
                next_at = Instant::now() + delay;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;

    use super::*;

    async fn after(millis: u64, result: Result<u32, u32>) -> Result<u32, u32> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        result
    }

    /// The next attempt starts after the delay, or at once after a failure; the first
    /// success wins; all failures are returned.
    #[tokio::test(start_paused = true)]
    async fn attempts_race_with_a_delay() {
        let delay = Duration::from_millis(100);
        let first_is_quick = vec![after(90, Ok(1)), after(0, Ok(2))];
        assert_eq!(race(iter(first_is_quick), delay).await, Ok(1));

        let first_is_silent = vec![after(10_000, Ok(1)), after(10, Ok(2))];
        assert_eq!(race(iter(first_is_silent), delay).await, Ok(2));

        let began = Instant::now();
        let first_fails = vec![after(10, Err(1)), after(10, Ok(2))];
        assert_eq!(race(iter(first_fails), delay).await, Ok(2));
        assert_eq!(began.elapsed(), Duration::from_millis(20));

        let all_fail = vec![after(30, Err(1)), after(10, Err(2)), after(10, Err(3))];
        assert_eq!(race(iter(all_fail), delay).await, Err(vec![1, 2, 3]));

        let none: Vec<std::future::Ready<Result<u32, u32>>> = Vec::new();
        assert_eq!(race(iter(none), delay).await, Err(Vec::new()));
    }

    /// An attempt that becomes known later starts then, and waiting for it does not
    /// disturb the running ones.
    #[tokio::test(start_paused = true)]
    async fn attempts_may_come_late() {
        let delay = Duration::from_millis(100);
        let late = futures_util::stream::unfold(0_u32, |index| async move {
            match index {
                0 => Some((after(10_000, Ok(1)), 1)),
                1 => {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                    Some((after(10, Ok(2)), 2))
                }
                _ => None,
            }
        });
        let began = Instant::now();
        assert_eq!(race(late, delay).await, Ok(2));
        assert_eq!(began.elapsed(), Duration::from_millis(510));
    }
}
