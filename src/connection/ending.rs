//! How a connection ends. An [`Ending`] answers four questions: its name, who is
//! to blame, what the player reads, and what the operator reads.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::client::{Broken, ClosingClient};
use super::guard::NotAuthenticated;
use crate::blame::Blame;
use crate::config::model::ServerConfig;
use crate::forward::framed::FramedError;
use crate::forward::{End, Outcome, Side};
use crate::intercept;
use crate::limit::{PendingGuard, Slot};
use crate::player_text;
use crate::plugin;
use crate::protocol::handshake::Intent;
use crate::protocol::text;
use crate::reason::names;
use crate::telemetry::Sampler;
use crate::upstream::Unreachable;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// A status ping got its answer.
    StatusAnswered,
    /// A session was relayed to its end.
    Relayed(Outcome),
    /// Another login of the player took the place of this session.
    Replaced(Outcome),
    /// A plugin ended the session of a player.
    Kicked(Outcome, plugin::Refusal),
    /// A server of the network has sent the player away with this text, a JSON component.
    KickedByBackend(Outcome, String),
    /// A side of a session in play has violated the protocol.
    Faulted(Outcome, FramedError),
    /// The client did not send a valid request.
    Broken(Broken),
    /// The proxy refused it.
    Refused(Refusal),
    /// A plugin refused it.
    Denied(plugin::Refusal),
    /// No backend could be reached.
    Unreachable(Unreachable),
    /// Communication with the backend failed.
    BackendFailed(std::io::Error),
    /// The backend lets players in without authentication.
    NotAuthenticated(NotAuthenticated),
    /// An intercepted session ended before play.
    Intercepted(intercept::Failure),
    /// The client left before the relay began.
    ClientLeft,
    /// The client kept the proxy waiting, and was evicted for a newer connection or at the
    /// end of a drain.
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
    /// The client's version is before 1.7, and the proxy would have to speak it.
    OldVersion,
    /// The proxy does not speak the client's version.
    UnknownVersion,
}

impl Ending {
    names! {
        /// The word in logs and for plugins that observe sessions.
        pub(super) fn name(&self) {
            Ending::StatusAnswered => "status_answered",
            Ending::Broken(_) => "broken",
            Ending::Denied(denied) if denied.is_failure => "plugin_failed",
            Ending::Denied(_) | Ending::Kicked(..) => "plugin",
            Ending::KickedByBackend(..) => "kicked",
            Ending::Unreachable(_) => "unreachable",
            Ending::BackendFailed(_) => "backend_failed",
            Ending::NotAuthenticated(_) => "not_authenticated",
            Ending::ClientLeft => "client_left",
            Ending::Evicted => "evicted",
            Ending::Stopped => "stopped",
        } else {
            Ending::Relayed(outcome) | Ending::Replaced(outcome) | Ending::Faulted(outcome, _) => {
                outcome.end.name()
            },
            Ending::Refused(refusal) => refusal.name(),
            Ending::Intercepted(failure) => failure.name(),
        }
    }

    /// The plugin that ended the session.
    pub(super) fn plugin(&self) -> Option<&str> {
        match self {
            Ending::Kicked(_, kick) => Some(&kick.plugin),
            _ => None,
        }
    }

    /// The same ending for a connection with a backend: that of its session.
    pub(super) fn of_session(self) -> Self {
        match self {
            Ending::Stopped => Ending::Relayed(Outcome::nothing(End::Stopped)),
            Ending::ClientLeft => Ending::Relayed(Outcome::nothing(End::Closed(Side::Client))),
            ending => ending,
        }
    }

    /// Who is to blame.
    pub(super) fn blame(&self) -> Blame {
        match self {
            Ending::StatusAnswered => Blame::Nobody,
            Ending::Relayed(outcome) | Ending::Replaced(outcome) | Ending::Faulted(outcome, _) => {
                match outcome.end.side() {
                    Some(Side::Client) => Blame::Client,
                    Some(Side::Backend) => Blame::Backend,
                    None => Blame::Proxy,
                }
            }
            Ending::Broken(_) | Ending::ClientLeft | Ending::Evicted => Blame::Client,
            Ending::Refused(_) | Ending::Stopped => Blame::Proxy,
            Ending::Denied(_) | Ending::Kicked(..) => Blame::Plugin,
            Ending::Unreachable(_)
            | Ending::BackendFailed(_)
            | Ending::NotAuthenticated(_)
            | Ending::KickedByBackend(..) => Blame::Backend,
            Ending::Intercepted(failure) => failure.blame(),
        }
    }

    /// What the player reads, on the server with this configuration; `None` where
    /// the connection is closed without a text.
    pub(super) fn player_text<'a>(
        &'a self,
        server: Option<&'a ServerConfig>,
    ) -> Option<Cow<'a, str>> {
        let of_server = |text: fn(&ServerConfig) -> &str| server.map(text).map(Cow::from);
        let disconnect_message = || of_server(|server| &server.disconnect_message);
        match self {
            Ending::StatusAnswered
            | Ending::Broken(_)
            | Ending::ClientLeft
            | Ending::Evicted
            | Ending::Stopped => None,
            Ending::Relayed(outcome) => match outcome.end {
                End::Stopped => Some(player_text::STOPPED.into()),
                end if end.side() == Some(Side::Client) => None,
                _ => disconnect_message(),
            },
            Ending::Replaced(_) => Some(player_text::REPLACED.into()),
            Ending::Faulted(..) if self.blame() == Blame::Client => {
                Some(player_text::CLIENT_FAULT.into())
            }
            Ending::Faulted(..) => disconnect_message(),
            Ending::Refused(refusal) => match refusal {
                Refusal::IpFilter => Some(player_text::FILTERED.into()),
                // The proxy does not know yet which form of text the client can read.
                Refusal::PendingPerClient => None,
                Refusal::RateLimit => Some(player_text::RATE_LIMIT.into()),
                Refusal::ProxyFull => Some(player_text::PROXY_FULL.into()),
                Refusal::UnknownDomain => Some(player_text::UNKNOWN_DOMAIN.into()),
                Refusal::ServerFull => of_server(|server| &server.full_message),
                Refusal::DuplicateLogin => Some(player_text::DUPLICATE.into()),
                Refusal::OldVersion => Some(player_text::OLD_VERSION.into()),
                Refusal::UnknownVersion => Some(player_text::unknown_version().into()),
            },
            Ending::Denied(denied) | Ending::Kicked(_, denied) => {
                denied.text.as_deref().map(Cow::from)
            }
            Ending::KickedByBackend(_, text) => Some(text.into()),
            Ending::Unreachable(_) | Ending::BackendFailed(_) => disconnect_message(),
            Ending::NotAuthenticated(_) => Some(player_text::NOT_AUTHENTICATED.into()),
            Ending::Intercepted(intercept::Failure::ClientLeft) => None,
            Ending::Intercepted(failure) => match failure.text() {
                Some(text) => Some(text.into()),
                None => disconnect_message(),
            },
        }
    }

    /// The same as a component, for a player who goes on.
    pub(super) fn player_component(&self, server: &ServerConfig) -> Option<Value> {
        if let Ending::Intercepted(intercept::Failure::BackendRefused(json)) = self {
            return Some(text::bounded(text::of_json(json)));
        }
        let text = self.player_text(Some(server))?;
        Some(text::bounded_component(&text))
    }
}

/// What the operator reads.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::StatusAnswered => f.write_str("status answered"),
            Ending::Relayed(outcome) | Ending::Replaced(outcome) => outcome.end.fmt(f),
            Ending::Faulted(_, fault) => fault.fmt(f),
            Ending::Broken(error) => error.fmt(f),
            Ending::Refused(_)
            | Ending::Denied(_)
            | Ending::Kicked(..)
            | Ending::KickedByBackend(..) => f.write_str(self.name()),
            Ending::Unreachable(error) => error.fmt(f),
            Ending::BackendFailed(error) => error.fmt(f),
            Ending::NotAuthenticated(error) => error.fmt(f),
            Ending::Intercepted(failure) => failure.fmt(f),
            Ending::ClientLeft => f.write_str("the client left before it was let in"),
            Ending::Evicted => f.write_str("kept the proxy waiting for too long"),
            Ending::Stopped => f.write_str("stopped"),
        }
    }
}

impl From<Broken> for Ending {
    fn from(broken: Broken) -> Self {
        Ending::Broken(broken)
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Ending::Refused(refusal)
    }
}

impl From<plugin::Refusal> for Ending {
    fn from(denied: plugin::Refusal) -> Self {
        Ending::Denied(denied)
    }
}

impl Refusal {
    names! {
        /// The word in logs.
        const fn name(self) {
            Refusal::IpFilter => "ip_filter",
            Refusal::PendingPerClient => "pending_per_client",
            Refusal::RateLimit => "rate_limit",
            Refusal::ProxyFull => "proxy_full",
            Refusal::UnknownDomain => "unknown_domain",
            Refusal::ServerFull => "server_full",
            Refusal::DuplicateLogin => "duplicate_login",
            Refusal::OldVersion | Refusal::UnknownVersion => "unknown_version",
        }
    }

    /// The configuration key behind it, for the operator who wants to change it.
    pub(super) const fn key(self, intent: Intent) -> &'static str {
        match (self, intent) {
            (Refusal::IpFilter, _) => "ip_filter",
            (Refusal::RateLimit, Intent::Status) => "rate_limit.status_max",
            (Refusal::RateLimit, Intent::Login | Intent::Transfer) => "rate_limit.max_connections",
            (Refusal::ProxyFull, _) => "max_connections",
            (Refusal::UnknownDomain, _) => "domains",
            (Refusal::ServerFull, _) => "max_players",
            (Refusal::DuplicateLogin, _) => "auth.duplicate_login",
            (Refusal::OldVersion | Refusal::UnknownVersion, _) => "proxy_mode",
            // A bound of the proxy itself.
            (Refusal::PendingPerClient, _) => "",
        }
    }

    /// Each reason has its own sampler, so that a flood of one, which any client
    /// can cause, does not hide the others.
    pub(super) fn sampler(self) -> &'static Sampler {
        const REASONS: usize = Refusal::UnknownVersion as usize + 1;
        static SAMPLERS: [Sampler; REASONS] = [const { Sampler::new() }; REASONS];
        &SAMPLERS[self as usize]
    }
}

/// The ending of a connection, and the client if it can still be shown the reason.
#[derive(Debug)]
pub(super) struct Ended {
    ending: Ending,
    client: Option<Box<ClosingConnection>>,
}

/// A connection that closes after a text, and the slot that it holds until then.
#[derive(Debug)]
struct ClosingConnection {
    reader: ClosingClient,
    slot: HeldSlot,
}

/// The slot of a closing connection, which bounds their number.
#[derive(Debug)]
enum HeldSlot {
    None,
    Pending(PendingGuard),
    Connection { _slot: Slot },
}

impl Ended {
    /// The end of a connection; `reader` is the client if it can be shown the reason.
    pub(super) fn new(ending: impl Into<Ending>, reader: Option<ClosingClient>) -> Self {
        let closing = |reader| {
            Box::new(ClosingConnection {
                reader,
                slot: HeldSlot::None,
            })
        };
        Self {
            ending: ending.into(),
            client: reader.map(closing),
        }
    }

    /// Keeps the slot among the pending connections while the client reads.
    pub(super) fn holding_pending(self, guard: PendingGuard) -> Self {
        self.holding(HeldSlot::Pending(guard))
    }

    /// Keeps the slot among `max_connections` while the client reads.
    pub(super) fn holding_connection(self, slot: Slot) -> Self {
        self.holding(HeldSlot::Connection { _slot: slot })
    }

    fn holding(mut self, slot: HeldSlot) -> Self {
        if let Some(closing) = &mut self.client {
            closing.slot = slot;
        }
        self
    }

    /// Shows the player why the connection ends, if the client can still read,
    /// and closes. Returns the final ending: a client can also be evicted or
    /// stopped while it reads.
    pub(super) async fn show(
        self,
        server: Option<&ServerConfig>,
        stop: &CancellationToken,
    ) -> Ending {
        let Self { ending, client } = self;
        let (Some(closing), Some(text)) = (client, ending.player_text(server)) else {
            return ending;
        };
        let text = text.into_owned();
        let is_session = matches!(
            ending,
            Ending::Relayed(_)
                | Ending::Replaced(_)
                | Ending::Kicked(..)
                | Ending::KickedByBackend(..)
                | Ending::Faulted(..)
        );
        // Boxed: only a client that reads pays for the future.
        let cut = Box::pin(async {
            let ClosingConnection { reader, slot } = *closing;
            tokio::select! {
                biased;
                // A session that ends gets its text even while the proxy stops.
                () = stop.cancelled(), if !is_session => Some(Ending::Stopped),
                () = slot.evicted() => Some(Ending::Evicted),
                () = reader.show(&text) => None,
            }
        });
        cut.await.unwrap_or(ending)
    }
}

impl HeldSlot {
    /// Completes when the slot has to be given up. Cancel safe.
    async fn evicted(&self) {
        match self {
            HeldSlot::Pending(guard) => guard.evicted().await,
            HeldSlot::None | HeldSlot::Connection { .. } => std::future::pending().await,
        }
    }
}

impl<E: Into<Ending>> From<E> for Ended {
    fn from(ending: E) -> Self {
        Self::new(ending, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::Failure;

    /// These are not in the documents for operators: no line of the log has them.
    const NOT_LOGGED: [&str; 3] = ["status_answered", "broken", "evicted"];

    /// These are not in the documents for authors: they come before a session opens.
    const BEFORE_SESSIONS: [&str; 11] = [
        "status_answered",
        "ip_filter",
        "pending_per_client",
        "rate_limit",
        "proxy_full",
        "unknown_domain",
        "duplicate_login",
        "unknown_version",
        "bad_name",
        "bad_encryption",
        "session_service",
    ];

    /// The documents for operators and for authors of plugins have every word
    /// that the log and `Closed` give as a reason.
    #[test]
    fn every_reason_is_documented() {
        let operators = include_str!("../../docs/operations.md");
        let authors = include_str!("../../plugin-api/src/context.rs");
        let all = [Ending::NAMES, Refusal::NAMES, End::NAMES, Failure::NAMES];
        for word in all.into_iter().flatten() {
            let name = format!("`{word}`");
            let is_there = operators.contains(&name);
            assert!(is_there || NOT_LOGGED.contains(word), "operators: {word}");
            let is_there = authors.contains(&name);
            assert!(
                is_there || BEFORE_SESSIONS.contains(word),
                "authors: {word}"
            );
        }
    }
}
