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
        self.wake();
    }

    /// Whether it is set.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Completes when it is set. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.wait_until(|| self.is_set()).await;
    }

    /// Wakes the tasks in [`wait_until`](Self::wait_until), so that they look again.
    pub(super) fn wake(&self) {
        self.waiting.notify_waiters();
    }

    /// Completes when this is true. It is looked at each time that the flag is set, and after
    /// each call of [`wake`](Self::wake). Cancel safe.
    pub(super) async fn wait_until(&self, is_met: impl Fn() -> bool) {
        let mut waiting = pin!(self.waiting.notified());
        loop {
            // From here on this task is woken, so a change before is seen below.
            waiting.as_mut().enable();
            if is_met() {
                return;
            }
            waiting.as_mut().await;
            waiting.set(self.waiting.notified());
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
