//! The end of a session by a plugin.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::plugin::Refusal;

/// Set when a plugin ends the session.
#[derive(Debug, Default)]
pub(super) struct Kicked {
    by: OnceLock<Refusal>,
    token: CancellationToken,
}

impl Kicked {
    /// Ends the session. Only the first call has an effect.
    pub(super) fn kick(&self, by: Refusal) {
        let _ = self.by.set(by);
        self.token.cancel();
    }

    /// Completes when a plugin ends the session. Cancel safe.
    pub(super) async fn kicked(&self) {
        self.token.cancelled().await;
    }

    /// The plugin that has ended the session, and the text for the player.
    pub(super) fn by(&self) -> Option<&Refusal> {
        self.by.get()
    }
}
