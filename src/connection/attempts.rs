//! Which servers of a network are tried for a player, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// The most servers that are dialled for a player after one was lost.
const DIALS_MAX: usize = 8;
/// How long the move from one server to the next may take.
const FALLBACK_WAIT: Duration = Duration::from_secs(30);
/// After this time on a server, all other servers count as untried.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The servers that were tried for a player since the last one on which the player stayed
/// for [`SETTLED_AFTER`].
pub(super) struct FallbackAttempts {
    tried: Vec<String>,
    /// A working server that the player has left. It is tried after the others.
    last: Option<String>,
    pub(super) dials: usize,
    pub(super) until: Instant,
    /// When the player came to the current server.
    arrived: Instant,
}

impl FallbackAttempts {
    /// Begins with the loss of this server.
    pub(super) fn begin(server: &Server) -> Self {
        let now = Instant::now();
        Self {
            tried: vec![server.config.id.clone()],
            last: None,
            dials: 0,
            until: now + FALLBACK_WAIT,
            arrived: now,
        }
    }

    /// The player comes to a server.
    pub(super) fn arrive(&mut self) {
        self.arrived = Instant::now();
    }

    /// These, unless the player has settled on the current server.
    pub(super) fn unsettled(attempts: Option<Self>) -> Option<Self> {
        attempts.filter(|attempts| attempts.arrived.elapsed() < SETTLED_AFTER)
    }

    /// Continues with the loss of this server.
    pub(super) fn continue_from(attempts: Option<Self>, server: &Server) -> Self {
        match attempts {
            Some(mut attempts) => {
                // It may have been dialled for another reason than a loss.
                attempts.refused(server);
                attempts
            }
            None => Self::begin(server),
        }
    }

    /// This server has refused the player.
    pub(super) fn refused(&mut self, server: &Server) {
        if !self.tried.contains(&server.config.id) {
            self.tried.push(server.config.id.clone());
        }
    }

    /// The player has left this server for another one, and lost that one on the way.
    pub(super) fn left(&mut self, server: &Server) {
        self.last = Some(server.config.id.clone());
    }

    /// The next server to try.
    pub(super) fn next(&mut self, proxy: &Proxy, network: &str) -> Option<Arc<Server>> {
        if self.dials >= DIALS_MAX || Instant::now() >= self.until {
            return None;
        }
        let order = proxy.snapshot().order(network);
        let is_untried = |server: &&Arc<Server>| !self.tried.contains(&server.config.id);
        let mut untried = order.iter().filter(is_untried);
        let is_last = |server: &Server| self.last.as_ref() == Some(&server.config.id);
        let server = untried.clone().find(|server| !is_last(server));
        let server = Arc::clone(server.or_else(|| untried.next())?);
        self.tried.push(server.config.id.clone());
        Some(server)
    }
}
