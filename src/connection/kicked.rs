//! The end of a session by a plugin.

use std::sync::OnceLock;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::plugin::Refusal;

/// Set when a plugin ends the session.
#[derive(Debug, Default)]
pub(super) struct Kicked {
    by: OnceLock<Refusal>,
    /// The task of the session.
    session: AtomicWaker,
}

impl Kicked {
    /// Ends the session. Only the first call has an effect.
    pub(super) fn kick(&self, by: Refusal) {
        let _ = self.by.set(by);
        self.session.wake();
    }

    /// Ready when a plugin ends the session. Only the session's task calls this.
    pub(super) fn poll_kicked(&self, context: &Context<'_>) -> Poll<()> {
        // Before the look: what comes after it wakes the session again.
        self.session.register(context.waker());
        match self.by.get() {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    /// The plugin that has ended the session, and the text for the player.
    pub(super) fn by(&self) -> Option<&Refusal> {
        self.by.get()
    }
}
