//! The log line about the end of a connection. Each connection has exactly one.

use std::time::{Duration, Instant};

use tracing::{Level, debug, info, warn};

use super::client::Broken;
use super::ending::Ending;
use super::facts::{Facts, Header};
use crate::blame::Blame;
use crate::forward::framed::FramedError;
use crate::forward::{Direction, Outcome};
use crate::proxy_protocol::HeaderError;
use crate::show::Escaped;
use crate::telemetry::{Sample, Sampler};

/// The line about a client without a session: its address, what it asked for, and why it was
/// refused, followed by the fields of each kind of refusal.
macro_rules! client_line {
    ($facts:ident, $ending:ident, $sampler:expr, $message:literal, $($fields:tt)+) => {
        sampled($sampler, |suppressed| {
            info!(
                client = %$facts.client,
                host = %Escaped($facts.host()),
                player = %Escaped($facts.player()),
                server = $facts.server_id(),
                reason = $ending.name(),
                $($fields)+,
                suppressed,
                $message
            );
        })
    };
}

impl Facts {
    /// Writes the one line about how the connection ended.
    ///
    /// Blame sets the level: a malformed request of a client is debug, a dead backend
    /// is a warning. Lines that any client can cause at will are sampled.
    pub(super) fn write_line(&self, ending: &Ending) {
        match ending {
            Ending::Relayed(outcome)
            | Ending::Replaced(outcome)
            | Ending::Kicked(outcome, _)
            | Ending::KickedByBackend(outcome, _) => {
                self.session_line(ending, outcome, None);
            }
            Ending::Faulted(outcome, fault) => self.session_line(ending, outcome, Some(fault)),
            Ending::Broken(Broken::ProxyHeader(error)) => self.missing_header_line(error),
            Ending::Broken(Broken::UnexpectedProxyHeader) => self.unexpected_header_line(),
            Ending::StatusAnswered
            | Ending::Broken(_)
            | Ending::Stopped
            | Ending::Evicted
            | Ending::ClientLeft => self.debug_line(ending),
            Ending::Refused(refusal) => client_line!(
                self,
                ending,
                refusal.sampler(),
                "refused",
                key = refusal.key(self.intent)
            ),
            Ending::Denied(denied) => {
                static DENIED: Sampler = Sampler::new();
                client_line!(
                    self,
                    ending,
                    &DENIED,
                    "refused",
                    plugin = denied.plugin,
                    text = denied.text.as_deref().unwrap_or_default()
                );
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
                client_line!(self, ending, &FAILED, "the login failed", error = %ending);
            }
            Ending::Intercepted(_) | Ending::Unreachable(_) | Ending::BackendFailed(_) => {
                self.backend_line(ending);
            }
        }
    }

    /// A balancer that sends no header, or a malformed one: all clients that come
    /// through it are refused, so the operator must see why.
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

    /// A header where none is expected, which would be reported as a malformed
    /// handshake.
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

    fn session_line(&self, ending: &Ending, outcome: &Outcome, fault: Option<&FramedError>) {
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
            // Only written if it is true.
            degraded = outcome.degraded.then_some(true),
            plugin = ending.plugin(),
            error = fault.map(tracing::field::display),
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
pub(super) fn sampled(sampler: &Sampler, line: impl FnOnce(u64)) {
    if let Sample::Write { suppressed } = sampler.sample(Instant::now()) {
        line(suppressed);
    }
}

/// Whole milliseconds; a duration beyond 584 million years is cut.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
