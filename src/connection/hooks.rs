//! The hooks of plugins on the way of a connection: who is asked where, and
//! what an answer means.
//!
//! Where no plugin has a hook, the way there costs one look at a length.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::debug;

use super::client::closed_by_client;
use super::ending::{Ended, Ending, Refusal};
use super::opening::Opening;
use super::report::Report;
use super::state::{Opened, Player, Routed};
use crate::config::model::{DomainRewrite, ServerConfig};
use crate::manifest::Hook;
use crate::mode::Mode;
use crate::plugin::{self, HookSet, Session, SessionEvent};
use crate::protocol::handshake::Intent;
use crate::snapshot::Server;

impl Player {
    fn for_plugins(&self) -> plugin::Player<'_> {
        plugin::Player {
            name: &self.name,
            uuid: self.uuid.map(u128::from_be_bytes),
        }
    }
}

/// A session that plugins were told of.
#[derive(Debug)]
pub(super) struct Observed {
    session: Session,
    opened: Instant,
}

impl Report {
    /// The client, as plugins see it.
    fn for_plugins(&self) -> plugin::Client<'_> {
        plugin::Client {
            peer: self.client,
            protocol: self.protocol,
            intent: self.intent,
            virtual_host: self.virtual_host.as_deref().unwrap_or_default(),
            server: self.server.as_ref().map_or("", |server| &server.config.id),
        }
    }

    /// Tells plugins that a player has a place, and from now on what becomes of
    /// the session.
    pub(super) fn session_opened(&mut self) {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let observes = |server: &Arc<Server>| server.hooks.has(Hook::SessionObserve);
        if self.server.as_ref().is_some_and(observes) {
            self.observed = Some(Observed {
                session: Session::new(SESSIONS.fetch_add(1, Ordering::Relaxed)),
                opened: Instant::now(),
            });
            self.observe(SessionEvent::Opened);
        }
    }

    /// Tells plugins that the backend has taken the connection.
    pub(super) fn session_connected(&mut self) {
        if let (Some(_), Some(session)) = (&self.observed, &self.session) {
            let backend = session.backend.to_string();
            self.observe(SessionEvent::Connected { backend: &backend });
        }
    }

    /// Tells plugins that the session is over, if they were told that it began.
    pub(super) fn session_closed(&mut self, reason: &str) {
        use crate::forward::Direction;
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

    /// Asks `login.decide` about a player whose identity the proxy has proved.
    pub(super) async fn ask_login_decide(
        &self,
        hooks: &HookSet,
        player: &Player,
    ) -> Result<(), plugin::Refusal> {
        hooks
            .login_decide(&self.for_plugins(), &player.for_plugins())
            .await
    }

    /// Asks `handshake.rewrite` for the host that the backend sees.
    pub(super) fn ask_handshake_rewrite(
        &self,
        server: &Server,
        opening: &Opening,
    ) -> Result<Option<String>, plugin::Refusal> {
        let current = configured_host(&server.config, opening.host.host());
        server
            .hooks
            .handshake_rewrite(&self.for_plugins(), &current)
    }

    fn observe(&mut self, event: SessionEvent<'_>) {
        let observed = self.observed.take();
        if let (Some(mut observed), Some(server)) = (observed, &self.server) {
            let player = plugin::Player {
                name: self.player.as_deref().unwrap_or_default(),
                uuid: None,
            };
            let client = self.for_plugins();
            server
                .hooks
                .session_observe(&client, &player, &mut observed.session, event);
            self.observed = Some(observed);
        }
    }
}

impl Opened {
    /// Asks `connection.decide`.
    pub(super) async fn run_connection_hooks(
        mut self,
        hooks: &HookSet,
        report: &Report,
    ) -> Result<Self, Ended> {
        let asked = Instant::now();
        let client = report.for_plugins();
        let stream = self.client.stream();
        let decided = match report.intent {
            // A ping may have closed its side already and still waits.
            Intent::Status => hooks.connection_decide(&client).await,
            Intent::Login | Intent::Transfer => tokio::select! {
                biased;
                decided = hooks.connection_decide(&client) => decided,
                () = closed_by_client(stream) => return Err(Ending::ClientLeft.into()),
            },
        };
        match decided {
            Ok(()) => {
                // The rest of the handshake has its whole time.
                self.client.prolong(asked.elapsed());
                Ok(self)
            }
            Err(denied) => Err(self.end(denied)),
        }
    }
}

/// What `route.select` came to.
enum Selected {
    /// The player stays on the server of the virtual host.
    Same,
    /// The player goes to this server.
    Other(Arc<Server>),
    /// The other server's `ip_filter` keeps the player out.
    Filtered,
}

impl Routed {
    /// Asks `login.decide` and `route.select`; the server that the player goes
    /// to.
    pub(super) async fn run_login_hooks(
        &self,
        server: Arc<Server>,
        player: &Player,
        report: &mut Report,
    ) -> Result<Arc<Server>, Ending> {
        let hooks = &server.hooks;
        if !hooks.has(Hook::LoginDecide) && !hooks.has(Hook::RouteSelect) {
            return Ok(server);
        }
        let stream = self.client.stream();
        let asked = async {
            let claimed = player.for_plugins();
            if decides_on_claims(&server) {
                hooks.login_decide(&report.for_plugins(), &claimed).await?;
            }
            let exists = |id: &str| self.snapshot.servers.contains_key(id);
            let selected = hooks
                .route_select(&report.for_plugins(), &claimed, exists)
                .await?;
            let Some(selected) = selected else {
                return Ok(Selected::Same);
            };
            let other = self.snapshot.servers.get(&selected.server).cloned();
            let Some(other) = other.filter(|other| !Arc::ptr_eq(other, &server)) else {
                return Ok(Selected::Same);
            };
            debug!(
                plugin = selected.plugin,
                from = server.config.id,
                to = other.config.id,
                "another server was selected"
            );
            report.server = Some(Arc::clone(&other));
            // Its own rules apply as well, in the order in which they apply to a
            // client that asks for it: the filter, then the plugins that have
            // not been asked yet.
            if !other.config.ip_filter.permits(self.address()) {
                return Ok(Selected::Filtered);
            }
            let others = other.hooks.not_in(hooks);
            others.connection_decide(&report.for_plugins()).await?;
            if decides_on_claims(&other) {
                others.login_decide(&report.for_plugins(), &claimed).await?;
            }
            Ok(Selected::Other(other))
        };
        let asked: Result<Selected, plugin::Refusal> = tokio::select! {
            biased;
            asked = asked => asked,
            () = closed_by_client(stream) => return Err(Ending::ClientLeft),
        };
        match asked {
            Ok(Selected::Same) => Ok(server),
            Ok(Selected::Other(other)) => Ok(other),
            Ok(Selected::Filtered) => Err(Refusal::IpFilter.into()),
            Err(denied) => Err(denied.into()),
        }
    }

    fn address(&self) -> IpAddr {
        self.origin.client.ip()
    }

    /// Asks `handshake.rewrite` for the host that the backend sees instead of
    /// the configured one.
    pub(super) fn rewrite(
        &self,
        server: &Server,
        report: &Report,
    ) -> Result<Option<String>, plugin::Refusal> {
        if !server.hooks.has(Hook::HandshakeRewrite) {
            return Ok(None);
        }
        let current = configured_host(&server.config, self.opening.host.host());
        server
            .hooks
            .handshake_rewrite(&report.for_plugins(), &current)
    }

    /// Asks `status.respond` about an answer, a JSON object.
    pub(super) async fn respond(
        &self,
        hooks: &HookSet,
        is_online: bool,
        json: &str,
        report: &Report,
    ) -> Result<Option<String>, plugin::Refusal> {
        let client = report.for_plugins();
        hooks.status_respond(&client, is_online, json).await
    }

    /// The hooks of the client's server, or those for clients that none claims.
    pub(super) fn hooks(&self) -> &HookSet {
        match &self.server {
            Some(server) => &server.hooks,
            None => &self.snapshot.unclaimed,
        }
    }
}

/// Whether `login.decide` is asked about what a client claims. Where the proxy
/// authenticates, it is asked afterwards, about what is proved.
fn decides_on_claims(server: &Server) -> bool {
    server.config.mode() != Mode::ClientOnly
}

/// The host that the backend is to see by the configuration. Where that is the
/// host of the backend itself, none is connected yet: it is the first one's.
fn configured_host(config: &ServerConfig, own: &str) -> String {
    match &config.domain_rewrite {
        DomainRewrite::None => own.to_owned(),
        DomainRewrite::Explicit(host) => host.clone(),
        DomainRewrite::FromBackend => config
            .addresses
            .first()
            .map(|address| address.host.to_string())
            .unwrap_or_default(),
    }
}
