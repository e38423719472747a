//! The graceful end: first no new connections, then no old ones.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The state of the shutdown, shared by all tasks that depend on it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Listeners stop; sessions continue.
    pub drain: CancellationToken,
    /// Sessions stop at once.
    pub stop: CancellationToken,
    /// Counts the connections that have not finished.
    pub connections: TaskTracker,
}

impl Shutdown {
    /// Stops accepting. Running connections continue.
    pub fn begin_drain(&self) {
        self.drain.cancel();
        self.connections.close();
    }

    /// Ends everything at once.
    pub fn stop_now(&self) {
        self.begin_drain();
        self.stop.cancel();
    }

    /// Waits until the last connection has finished. Only returns once
    /// [`begin_drain`](Self::begin_drain) was called.
    pub async fn finished(&self) {
        self.connections.wait().await;
    }
}
