//! A flag that is set once, and for which tasks wait.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that is set once.
///
/// Smaller than a `CancellationToken`, which can have children: each session holds flags
/// for as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    is_set: AtomicBool,
    waiting: Notify,
}

impl Flag {
    /// Sets it, and wakes all waiting tasks.
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// Whether it is set.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Completes when it is set. Cancel safe.
    pub(crate) async fn wait(&self) {
        let mut waiting = pin!(self.waiting.notified());
        // From here on this task is woken, so a flag that was set earlier is seen below.
        waiting.as_mut().enable();
        if !self.is_set() {
            waiting.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Waiting tasks are woken, and later ones do not wait.
    #[tokio::test]
    async fn a_flag_wakes_all() {
        let flag = Arc::new(Flag::default());
        let waiting = [flag.clone(), flag.clone()].map(|flag| {
            tokio::spawn(async move {
                flag.wait().await;
                flag.is_set()
            })
        });
        tokio::task::yield_now().await;
        assert!(!flag.is_set());
        flag.set();
        for waited in waiting {
            assert!(waited.await.unwrap());
        }
        flag.wait().await;
    }
}
