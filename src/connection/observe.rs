//! `session.observe`: reports to plugins that a session opens, connects and closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::ending::Ending;
use super::facts::{Facts, Observed};
use crate::forward::Direction;
use crate::manifest::Hook;
use crate::plugin::{self, SessionEvent};
use crate::proxy::snapshot::Server;

/// Also reports the end of a connection that ends because the runtime shuts down or
/// the proxy panics.
impl Drop for Facts {
    fn drop(&mut self) {
        self.session_closed(Ending::Stopped.name());
    }
}

impl Facts {
    /// Reports to plugins that a player has a place on the server; from now on they
    /// observe the session.
    pub(super) fn session_opened(&mut self) {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let observes = |server: &&Arc<Server>| server.hooks.has(Hook::SessionObserve);
        if let Some(server) = self.server.as_ref().filter(observes) {
            self.observed = Some(Observed {
                server: Arc::clone(server),
                session: plugin::Session::new(SESSIONS.fetch_add(1, Ordering::Relaxed)),
                opened: Instant::now(),
            });
            self.observe(SessionEvent::Opened);
        }
    }

    /// Reports to plugins that the backend has accepted the connection.
    pub(super) fn session_connected(&mut self) {
        if let (Some(_), Some(session)) = (&self.observed, &self.session) {
            let backend = session.backend.to_string();
            self.observe(SessionEvent::Connected { backend: &backend });
        }
    }

    /// Reports to plugins that the session is over, if they observe it.
    pub(super) fn session_closed(&mut self, reason: &str) {
        let Some(observed) = &self.observed else {
            return;
        };
        let bytes = |direction| {
            let session = self.session.as_ref();
            session.map_or(0, |session| session.counters.get(direction))
        };
        self.observe(SessionEvent::Closed {
            reason,
            serverbound_bytes: bytes(Direction::Serverbound),
            clientbound_bytes: bytes(Direction::Clientbound),
            duration: observed.opened.elapsed(),
        });
        self.observed = None;
    }

    fn observe(&mut self, event: SessionEvent<'_>) {
        let observed = self.observed.take();
        if let Some(mut observed) = observed {
            let player = plugin::Player {
                name: self.player.as_deref().unwrap_or_default(),
                uuid: None,
                is_proved: false,
            };
            let client = self.for_plugins();
            let hooks = &observed.server.hooks;
            hooks.session_observe(&client, &player, &mut observed.session, event);
            self.observed = Some(observed);
        }
    }
}
