//! What there is to tell about a connection, and how it ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Level, debug, info, warn};

use super::client::Broken;
use super::ending::Ending;
use super::hooks::Observed;
use crate::blame::Blame;
use crate::config::model::{BackendAddress, Relay};
use crate::escape::Escaped;
use crate::forward::{Counters, Direction, End, Outcome, Side};
use crate::protocol::handshake::Intent;
use crate::proxy_protocol::HeaderError;
use crate::snapshot::Server;
use crate::telemetry::{Sample, Sampler};

/// Collects what is known about a connection while it runs.
#[derive(Debug)]
pub(super) struct Report {
    began: Instant,
    /// Who has connected: the client, or a balancer.
    peer: SocketAddr,
    /// Whether a PROXY header was expected from it.
    pub(super) header: Header,
    /// The client: the peer, or whom a PROXY header names.
    pub(super) client: SocketAddr,
    /// The cleaned host name that the client asked for.
    pub(super) virtual_host: Option<String>,
    /// The name that the client claims.
    pub(super) player: Option<String>,
    /// The server that it was routed to.
    pub(super) server: Option<Arc<Server>>,
    /// The session that was opened.
    pub(super) session: Option<Session>,
    /// What the client wants, once it has said it.
    pub(super) intent: Intent,
    /// The protocol version that it announced; -1 where it has none.
    pub(super) protocol: i32,
    /// What plugins were told of the session.
    pub(super) observed: Option<Observed>,
}

/// What the configuration says of a PROXY header of this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// None is expected from anybody.
    Off,
    /// None is expected from this peer.
    Untrusted,
    /// One was expected and has been read.
    Read,
}

/// What is known of a session: a login that reached a backend.
#[derive(Debug)]
pub(super) struct Session {
    /// Which address it reached.
    pub(super) backend: BackendAddress,
    /// How its bytes are moved.
    pub(super) relay: Relay,
    /// The bytes moved so far; live.
    pub(super) counters: Arc<Counters>,
}

/// A connection that is cut off without an ending, with the runtime or by a panic
/// of ours, is over for plugins all the same.
impl Drop for Report {
    fn drop(&mut self) {
        self.session_closed(Ending::Stopped.name());
    }
}

impl Report {
    /// Begins with the address of the peer.
    pub(super) fn begin(peer: SocketAddr) -> Self {
        Self {
            began: Instant::now(),
            peer,
            header: Header::Off,
            client: peer,
            virtual_host: None,
            player: None,
            server: None,
            session: None,
            intent: Intent::Status,
            protocol: -1,
            observed: None,
        }
    }

    /// Tells plugins and the log how the connection ended.
    pub(super) fn finish(&mut self, ending: Ending) {
        let ending = self.of_session(ending);
        self.session_closed(ending.name());
        self.line(&ending);
    }

    /// What ends a connection that has a backend already ends a session.
    fn of_session(&self, ending: Ending) -> Ending {
        let end = match ending {
            Ending::Stopped => End::Stopped,
            Ending::ClientLeft => End::Closed(Side::Client),
            ending => return ending,
        };
        match self.session {
            Some(_) => Ending::Relayed(Outcome::nothing(end)),
            None => ending,
        }
    }

    /// Writes the one line about how the connection ended.
    ///
    /// Blame sets the level: a client's nonsense is for debugging, a backend
    /// that is dead is a warning. What anybody can cause at will is sampled.
    fn line(&self, ending: &Ending) {
        match ending {
            Ending::Relayed(outcome) | Ending::Replaced(outcome) => {
                self.session_line(ending, outcome);
            }
            Ending::Broken(Broken::ProxyHeader(error)) => self.missing_header_line(error),
            Ending::Broken(Broken::UnexpectedProxyHeader) => self.unexpected_header_line(),
            Ending::StatusAnswered
            | Ending::Broken(_)
            | Ending::Stopped
            | Ending::Evicted
            | Ending::ClientLeft => self.debug_line(ending),
            Ending::Refused(refusal) => {
                sampled(refusal.sampler(), |suppressed| {
                    info!(
                        client = %self.client,
                        host = %Escaped(self.host()),
                        player = %Escaped(self.player()),
                        server = self.server_id(),
                        reason = ending.name(),
                        key = refusal.key(self.intent),
                        suppressed,
                        "refused"
                    );
                });
            }
            Ending::Denied(denied) => {
                static DENIED: Sampler = Sampler::new();
                sampled(&DENIED, |suppressed| {
                    info!(
                        client = %self.client,
                        host = %Escaped(self.host()),
                        player = %Escaped(self.player()),
                        server = self.server_id(),
                        reason = ending.name(),
                        plugin = denied.plugin,
                        text = denied.text.as_deref().unwrap_or_default(),
                        suppressed,
                        "refused"
                    );
                });
            }
            Ending::NotAuthenticated(_) => {
                static UNPROVEN: Sampler = Sampler::new();
                sampled(&UNPROVEN, |suppressed| {
                    tracing::error!(
                        server = self.server_id(),
                        backend = %self.backend(),
                        player = %Escaped(self.player()),
                        reason = %ending,
                        suppressed,
                        "the backend of a server_only server does not authenticate its players; \
                         set online-mode=true there, or auth_guard = false here"
                    );
                });
            }
            Ending::Intercepted(_) if ending.blame() != Blame::Backend => {
                static FAILED: Sampler = Sampler::new();
                sampled(&FAILED, |suppressed| {
                    info!(
                        client = %self.client,
                        host = %Escaped(self.host()),
                        player = %Escaped(self.player()),
                        server = self.server_id(),
                        reason = ending.name(),
                        error = %ending,
                        suppressed,
                        "the login failed"
                    );
                });
            }
            Ending::Intercepted(_) | Ending::Unreachable(_) | Ending::BackendFailed(_) => {
                self.backend_line(ending);
            }
        }
    }

    /// A balancer that sends no header, or one that nobody can read: everybody
    /// who comes through it is turned away, so the operator must see why.
    fn missing_header_line(&self, error: &HeaderError) {
        static MISSING: Sampler = Sampler::new();
        sampled(&MISSING, |suppressed| {
            warn!(
                peer = %self.peer,
                key = "receive_proxy_protocol",
                error = %Causes(error),
                suppressed,
                "refused: `receive_proxy_protocol` expects a PROXY header from this peer; let it \
                 send one, or name in `proxy_protocol_trusted` only the networks that do"
            );
        });
    }

    /// The reverse: a header that is not expected reads as a broken handshake.
    fn unexpected_header_line(&self) {
        static UNEXPECTED: Sampler = Sampler::new();
        let (key, advice) = match self.header {
            Header::Off => (
                "receive_proxy_protocol",
                "refused: this peer sends a PROXY header, and `receive_proxy_protocol` is off",
            ),
            Header::Untrusted => (
                "proxy_protocol_trusted",
                "refused: this peer sends a PROXY header, and `proxy_protocol_trusted` does not \
                 name its network",
            ),
            Header::Read => (
                "receive_proxy_protocol",
                "refused: this peer sends a second PROXY header, and `receive_proxy_protocol` \
                 takes one; let only the last balancer send it",
            ),
        };
        sampled(&UNEXPECTED, |suppressed| {
            warn!(peer = %self.peer, key, suppressed, "{advice}");
        });
    }

    fn session_line(&self, ending: &Ending, outcome: &Outcome) {
        let Some(session) = &self.session else { return };
        info!(
            server = self.server_id(),
            mode = self.mode(),
            reason = ending.name(),
            by = ending.blame().name(),
            duration_ms = millis(self.began.elapsed()),
            serverbound_bytes = session.counters.get(Direction::Serverbound),
            clientbound_bytes = session.counters.get(Direction::Clientbound),
            client = %self.client,
            host = %Escaped(self.host()),
            player = %Escaped(self.player()),
            backend = %session.backend,
            relay = session.relay.name(),
            // Written only where it holds.
            degraded = outcome.degraded.then_some(true),
            "session ended"
        );
    }

    fn backend_line(&self, ending: &Ending) {
        let Some(server) = &self.server else { return };
        sampled(&server.state.unreachable, |suppressed| {
            warn!(
                server = self.server_id(),
                player = %Escaped(self.player()),
                reason = ending.name(),
                error = %ending,
                suppressed,
                "no backend for a player"
            );
        });
    }

    fn debug_line(&self, ending: &Ending) {
        if !tracing::enabled!(Level::DEBUG) {
            return;
        }
        debug!(
            client = %self.client,
            host = %Escaped(self.host()),
            server = self.server_id(),
            reason = ending.to_string(),
            "connection ended"
        );
    }

    fn host(&self) -> &str {
        self.virtual_host.as_deref().unwrap_or_default()
    }

    fn player(&self) -> &str {
        self.player.as_deref().unwrap_or_default()
    }

    fn server_id(&self) -> &str {
        self.server
            .as_ref()
            .map_or("", |server| server.config.id.as_str())
    }

    fn mode(&self) -> &str {
        self.server
            .as_ref()
            .map_or("", |server| server.config.mode().name())
    }

    fn backend(&self) -> String {
        self.session
            .as_ref()
            .map(|session| session.backend.to_string())
            .unwrap_or_default()
    }
}

/// An error and its causes.
struct Causes<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Writes a line if the sampler lets it through.
fn sampled(sampler: &Sampler, line: impl FnOnce(u64)) {
    if let Sample::Write { suppressed } = sampler.sample(Instant::now()) {
        line(suppressed);
    }
}

/// Whole milliseconds; a duration beyond 584 million years is cut.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
