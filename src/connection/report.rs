//! What there is to tell about a connection, and how it ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Level, debug, info, warn};

use super::client::Broken;
use super::guard::NotAuthenticated;
use super::hooks::Observed;
use crate::config::model::{BackendAddress, Relay};
use crate::escape::Escaped;
use crate::forward::{Counters, Direction, End, Outcome, Side};
use crate::intercept;
use crate::plugin;
use crate::protocol::handshake::Intent;
use crate::proxy_protocol::HeaderError;
use crate::snapshot::Server;
use crate::telemetry::{Sample, Sampler};
use crate::upstream::Unreachable;

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

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// A status ping got its answer.
    StatusAnswered,
    /// A session was relayed to its end.
    Relayed(Outcome),
    /// The client failed to say what it wants.
    Broken(Broken),
    /// The proxy refused it.
    Refused(Refusal),
    /// A plugin refused it.
    Denied(plugin::Refusal),
    /// No backend could be reached.
    Unreachable(Unreachable),
    /// The backend could not be spoken to.
    BackendFailed(std::io::Error),
    /// The backend lets players in without authentication.
    NotAuthenticated(NotAuthenticated),
    /// An intercepted session did not come to play.
    Intercepted(intercept::Failure),
    /// The client left before the relay began.
    ClientLeft,
    /// It kept the proxy waiting, and had to make room for a newer connection or
    /// was all that the drain waited for.
    Evicted,
    /// The proxy was stopped.
    Stopped,
}

/// Why the proxy refused a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The global or the server's `ip_filter`.
    IpFilter,
    /// Too many pending connections of one client.
    PendingPerClient,
    /// `rate_limit`.
    RateLimit,
    /// `max_connections`.
    ProxyFull,
    /// No server claims the virtual host.
    UnknownDomain,
    /// `max_players`.
    ServerFull,
    /// The player is logged in already.
    DuplicateLogin,
    /// The proxy does not speak the client's version.
    UnknownVersion,
}

impl Ending {
    /// The word for plugins that observe sessions.
    fn name(&self) -> &'static str {
        match self {
            Ending::StatusAnswered => "status_answered",
            Ending::Relayed(outcome) => outcome.end.name(),
            Ending::Broken(_) => "broken",
            Ending::Refused(refusal) => refusal.name(),
            Ending::Denied(denied) if denied.is_failure => "plugin_failed",
            Ending::Denied(_) => "plugin",
            Ending::Unreachable(_) => "unreachable",
            Ending::BackendFailed(_) => "backend_failed",
            Ending::NotAuthenticated(_) => "not_authenticated",
            Ending::Intercepted(failure) => failure.name(),
            Ending::ClientLeft => "client_left",
            Ending::Evicted => "evicted",
            Ending::Stopped => "stopped",
        }
    }
}

impl From<Broken> for Ending {
    fn from(broken: Broken) -> Self {
        Ending::Broken(broken)
    }
}

impl From<plugin::Refusal> for Ending {
    fn from(denied: plugin::Refusal) -> Self {
        Ending::Denied(denied)
    }
}

impl Refusal {
    /// The word in logs.
    const fn name(self) -> &'static str {
        match self {
            Refusal::IpFilter => "ip_filter",
            Refusal::PendingPerClient => "pending_per_client",
            Refusal::RateLimit => "rate_limit",
            Refusal::ProxyFull => "proxy_full",
            Refusal::UnknownDomain => "unknown_domain",
            Refusal::ServerFull => "server_full",
            Refusal::DuplicateLogin => "duplicate_login",
            Refusal::UnknownVersion => "unknown_version",
        }
    }

    /// The key that decides about it, for the operator who wants to change that.
    const fn key(self, intent: Intent) -> &'static str {
        match (self, intent) {
            (Refusal::IpFilter, _) => "ip_filter",
            (Refusal::RateLimit, Intent::Status) => "rate_limit.status_max",
            (Refusal::RateLimit, Intent::Login | Intent::Transfer) => "rate_limit.max_connections",
            (Refusal::ProxyFull, _) => "max_connections",
            (Refusal::UnknownDomain, _) => "domains",
            (Refusal::ServerFull, _) => "max_players",
            (Refusal::DuplicateLogin, _) => "auth.duplicate_login",
            (Refusal::UnknownVersion, _) => "proxy_mode",
            // A bound of the proxy itself.
            (Refusal::PendingPerClient, _) => "",
        }
    }

    /// Each reason has lines of its own, so that a flood of one, which any
    /// stranger can cause, does not hide the others.
    fn sampler(self) -> &'static Sampler {
        const REASONS: usize = Refusal::UnknownVersion as usize + 1;
        static SAMPLERS: [Sampler; REASONS] = [const { Sampler::new() }; REASONS];
        &SAMPLERS[self as usize]
    }
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
    pub(super) fn finish(&mut self, ending: &Ending) {
        // As the log says it of a session that has a backend.
        let name = match ending {
            Ending::ClientLeft if self.session.is_some() => End::Closed(Side::Client).name(),
            ending => ending.name(),
        };
        self.session_closed(name);
        self.line(ending);
    }

    /// Writes the one line about how the connection ended.
    ///
    /// Blame sets the level: a client's nonsense is for debugging, a backend
    /// that is dead is a warning. What anybody can cause at will is sampled.
    fn line(&self, ending: &Ending) {
        match ending {
            Ending::Relayed(outcome) => self.session_line(outcome),
            Ending::Stopped if self.session.is_some() => {
                self.session_line(&Outcome::nothing(End::Stopped));
            }
            Ending::ClientLeft if self.session.is_some() => {
                self.session_line(&Outcome::nothing(End::Closed(Side::Client)));
            }
            Ending::StatusAnswered | Ending::Stopped | Ending::Evicted | Ending::ClientLeft => {
                self.debug_line(ending);
            }
            Ending::Broken(Broken::ProxyHeader(error)) => self.missing_header_line(error),
            Ending::Broken(Broken::UnexpectedProxyHeader) => self.unexpected_header_line(),
            Ending::Broken(_) => self.debug_line(ending),
            Ending::Refused(refusal) => {
                sampled(refusal.sampler(), |suppressed| {
                    info!(
                        client = %self.client,
                        host = %Escaped(self.host()),
                        player = %Escaped(self.player()),
                        server = self.server_id(),
                        reason = refusal.name(),
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
                        reason = if denied.is_failure { "plugin_failed" } else { "plugin" },
                        plugin = denied.plugin,
                        text = denied.text.as_deref().unwrap_or_default(),
                        suppressed,
                        "refused"
                    );
                });
            }
            Ending::Intercepted(failure) if failure.is_backends() => {
                self.backend_line(ending, failure);
            }
            Ending::Intercepted(failure) => {
                static FAILED: Sampler = Sampler::new();
                sampled(&FAILED, |suppressed| {
                    info!(
                        client = %self.client,
                        host = %Escaped(self.host()),
                        player = %Escaped(self.player()),
                        server = self.server_id(),
                        reason = failure.name(),
                        error = %failure,
                        suppressed,
                        "the login failed"
                    );
                });
            }
            Ending::Unreachable(error) => self.backend_line(ending, error),
            Ending::BackendFailed(error) => self.backend_line(ending, error),
            Ending::NotAuthenticated(error) => {
                static UNPROVEN: Sampler = Sampler::new();
                sampled(&UNPROVEN, |suppressed| {
                    tracing::error!(
                        server = self.server_id(),
                        backend = %self.backend(),
                        player = %Escaped(self.player()),
                        reason = %error,
                        suppressed,
                        "the backend of a server_only server does not authenticate its players; \
                         set online-mode=true there, or auth_guard = false here"
                    );
                });
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

    fn session_line(&self, outcome: &Outcome) {
        let end = outcome.end;
        let Some(session) = &self.session else { return };
        info!(
            server = self.server_id(),
            mode = self.mode(),
            reason = end.name(),
            by = end.side().map_or("proxy", Side::name),
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

    fn backend_line(&self, ending: &Ending, error: &dyn std::error::Error) {
        let Some(server) = &self.server else { return };
        sampled(&server.state.unreachable, |suppressed| {
            warn!(
                server = self.server_id(),
                player = %Escaped(self.player()),
                reason = ending.name(),
                error = %error,
                suppressed,
                "no backend for a player"
            );
        });
    }

    fn debug_line(&self, ending: &Ending) {
        if !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let reason = match ending {
            Ending::Broken(error) => error.to_string(),
            Ending::StatusAnswered => "status answered".to_owned(),
            Ending::Evicted => "kept the proxy waiting for too long".to_owned(),
            Ending::ClientLeft => "the client left before it was let in".to_owned(),
            _ => "stopped".to_owned(),
        };
        debug!(
            client = %self.client,
            host = %Escaped(self.host()),
            server = self.server_id(),
            reason,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents for operators and for authors of plugins have every word
    /// that the log and `Closed` give as a reason.
    #[test]
    fn every_reason_is_documented() {
        let operators = include_str!("../../docs/operations.md");
        let authors = include_str!("../../plugin-api/src/context.rs");
        let ends = [
            End::Closed(Side::Client),
            End::Reset(Side::Client),
            End::ReadTimeout(Direction::Serverbound),
            End::WriteTimeout(Direction::Serverbound),
            End::HalfCloseTimeout(Side::Client),
            End::Stopped,
        ];
        let refusals = [
            Refusal::IpFilter,
            Refusal::PendingPerClient,
            Refusal::RateLimit,
            Refusal::ProxyFull,
            Refusal::UnknownDomain,
            Refusal::ServerFull,
            Refusal::DuplicateLogin,
            Refusal::UnknownVersion,
        ];
        let ends = ends.map(End::name);
        let others = ["failed", "plugin", "plugin_failed"];
        let names = ends.iter().chain(&others);
        for word in names.clone().copied().chain(refusals.map(Refusal::name)) {
            assert!(operators.contains(&format!("`{word}`")), "{word}");
        }
        let of_backends = ["unreachable", "backend_failed"];
        for word in of_backends {
            assert!(operators.contains(&format!("`{word}`")), "{word}");
        }
        let rest = [
            "server_full",
            "not_authenticated",
            "broken",
            "client_left",
            "evicted",
        ];
        for word in names.chain(&of_backends).chain(&rest) {
            assert!(authors.contains(&format!("`{word}`")), "{word}");
        }
    }
}
