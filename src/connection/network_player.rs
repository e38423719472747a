//! A player who can move to other servers of a network, and the steps of a move: check
//! that the player may join the server, log in at its backend, enter its game.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connector::{BackendConnector, BackendLogin, decide};
use super::ending::{Ending, Refusal};
use super::facts::{Facts, Origin, SessionFacts};
use super::opening::Opening;
use super::packets::PacketStage;
use crate::command::{CommandContext, PlayerCommands};
use crate::config::model::{Intercepted, OnBackendLoss, ServerKind};
use crate::forward::commands::Commands;
use crate::forward::{Counters, Outbox, Outcome, Side};
use crate::intercept::{
    self, Arrival, DetachedClient, Failure, Identity, Interrupts, PlayerHandle, Playing, Prepared,
};
use crate::limit::Slot;
use crate::player_text;
use crate::protocol::packet::message::{Message, message};
use crate::protocol::packet::{State, Version};
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// The markers in the host field of clients that negotiate mods of Forge in the login.
const FORGE_MARKERS: [&str; 2] = ["\0FML2\0", "\0FML3\0"];

/// A player who can be moved to other servers of a network.
pub(super) struct NetworkPlayer {
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    pub(super) identity: Identity,
    pub(super) version: Version,
    /// Whether the proxy has authenticated the player.
    pub(super) is_proved: bool,
    pub(super) network: String,
    pub(super) counters: Arc<Counters>,
    pub(super) handle: Arc<PlayerHandle>,
}

/// A server that the filters and plugins of the proxy let the player join.
pub(super) struct OpenServer<'a> {
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    intercepted: &'a Intercepted,
    /// The host for the backend that a plugin has chosen.
    host: Option<String>,
}

/// A server that has accepted the login at its backend, while the player is still on the
/// old server.
pub(super) struct Ready {
    pub(super) server: Arc<Server>,
    slot: Slot,
    backend: Prepared,
    session: Option<SessionFacts>,
}

/// A player's connection to the current server.
pub(super) struct ServerConnection {
    pub(super) playing: Playing,
    pub(super) server: Arc<Server>,
    pub(super) slot: Slot,
    /// The outbox for packets of plugins and the proxy to both sides.
    pub(super) outbox: Arc<Outbox>,
    /// The plugins that get the player's packets.
    pub(super) packets: Option<PacketStage>,
}

impl NetworkPlayer {
    /// The commands of the proxy that the player may use on this server, if there are any.
    pub(super) fn commands(
        &self,
        server: &Arc<Server>,
        facts: &Facts,
        proxy: &Proxy,
    ) -> Option<Arc<dyn Commands>> {
        let context = CommandContext {
            player: Arc::clone(&self.handle),
            is_proved: self.is_proved,
            server: Arc::clone(server),
            intent: facts.intent,
            virtual_host: facts.host().to_owned(),
        };
        PlayerCommands::of(proxy, context)
    }

    /// Whether the network moves players to other servers.
    pub(super) fn falls_back(&self, proxy: &Proxy) -> bool {
        let network = proxy.snapshot().proxy.network(&self.network);
        network.on_backend_loss == OnBackendLoss::Fallback
    }

    /// Whether a session has ended because of its backend, and the player is still connected.
    pub(super) fn is_without_backend(&self, outcome: &Outcome) -> bool {
        outcome.end.side() == Some(Side::Backend) && !self.counters.client_has_ended()
    }

    /// The same, in a network that moves players to another server.
    pub(super) fn has_lost_backend(&self, outcome: &Outcome, proxy: &Proxy) -> bool {
        self.is_without_backend(outcome) && self.falls_back(proxy)
    }

    /// Runs the part of the login at the backend of this server that does not need the
    /// client.
    pub(super) async fn prepare(
        &self,
        server: &Arc<Server>,
        dials: &mut usize,
        proxy: &Proxy,
        mut trial: Facts,
    ) -> Result<Ready, Ending> {
        let open = self.open(server, &mut trial).await?;
        let markers = self.opening.host.markers();
        let has_mods = FORGE_MARKERS.iter().any(|marker| markers.contains(marker));
        let who = open.identity.who(self.version);
        let connector = self.connector(server, &open);
        let facts = &mut trial;
        let backend = connector
            .prepare(who, has_mods, &self.handle, dials, proxy, facts)
            .await?;
        Ok(Ready {
            server: Arc::clone(server),
            slot: open.slot,
            backend,
            session: trial.session.take(),
        })
    }

    /// Waits for a login at another server, while the client has no backend.
    ///
    /// # Errors
    ///
    /// Why the session ends before that.
    pub(super) async fn while_preparing<T>(
        &self,
        client: &mut DetachedClient,
        preparing: impl Future<Output = T>,
        interrupts: &Interrupts,
    ) -> Result<T, Failure> {
        let cookies = self.handle.take_cookie_requests();
        tokio::select! {
            prepared = client.while_waiting(preparing, cookies) => prepared,
            interrupt = interrupts.first() => Err(interrupt),
        }
    }

    /// Moves the player into the game of a prepared server. From now on the player is on
    /// that server, or on none.
    pub(super) async fn enter(
        &self,
        client: Box<DetachedClient>,
        ready: Ready,
        mut arrival: Arrival<'_>,
        facts: &mut Facts,
    ) -> Result<ServerConnection, (Failure, Box<DetachedClient>)> {
        let Ready {
            server,
            slot,
            backend,
            session,
        } = ready;
        facts.server = Some(Arc::clone(&server));
        facts.session = session;
        facts.session_connected();
        let outbox = Arc::clone(&arrival.outbox);
        self.handle.set_server(&server.id, &outbox);
        let packets = PacketStage::begin(
            &self.handle,
            &server,
            &self.identity.profile,
            self.is_proved,
            backend.knows_chat_key,
            &outbox,
        );
        arrival.queries = packets
            .as_ref()
            .map(|packets| Arc::clone(packets.queries()));
        let playing = client.enter(backend, arrival).await?;
        Ok(ServerConnection {
            playing,
            server,
            slot,
            outbox,
            packets,
        })
    }

    /// Checks whether the player may join a server, by its filters and plugins, and takes a
    /// slot there.
    pub(super) async fn open<'a>(
        &self,
        server: &'a Arc<Server>,
        facts: &mut Facts,
    ) -> Result<OpenServer<'a>, Ending> {
        let config = &server.config;
        let ServerKind::Intercepted(intercepted) = &config.kind else {
            // Only servers of the intercepted modes have a network.
            return Err(Refusal::UnknownDomain.into());
        };
        if !config.ip_filter.permits(self.origin.client.ip()) {
            return Err(Refusal::IpFilter.into());
        }
        if is_authenticated(server) && !self.is_proved {
            let not_proved = Failure::Session(intercept::SessionError::NotJoined);
            return Err(Ending::Intercepted(not_proved));
        }
        let forwarding = intercepted.identity.as_ref();
        intercept::check_version(forwarding, self.version).map_err(Ending::Intercepted)?;
        let Some(slot) = server.take_slot() else {
            return Err(Refusal::ServerFull.into());
        };
        facts.server = Some(Arc::clone(server));
        decide(&server.hooks, &self.identity.profile, self.is_proved, facts).await?;
        Ok(OpenServer {
            slot,
            identity: self.identity.at(forwarding),
            intercepted,
            host: facts.chosen_host(server, &self.opening)?,
        })
    }

    /// A login of the player at this server.
    pub(super) fn connector<'a>(
        &'a self,
        server: &'a Server,
        open: &'a OpenServer<'_>,
    ) -> BackendConnector<'a> {
        BackendConnector::new(BackendLogin {
            server,
            intercepted: open.intercepted,
            origin: &self.origin,
            opening: &self.opening,
            host: open.host.as_deref(),
            counters: &self.counters,
        })
    }

    /// The text for a player who has moved to another server.
    pub(super) fn notices(
        &self,
        from: &Server,
        to: &Server,
        reason: Option<&Value>,
    ) -> Vec<Vec<u8>> {
        let (from, to) = (&from.config.id, &to.config.id);
        let chat = |text: &Value| message(self.version, State::Play, &Message::Chat(text));
        let because = |reason: &Value| {
            let text = player_text::moved_because(from, to);
            chat(&json!({ "text": text, "extra": [reason] })).ok()
        };
        // A reason that is too long for the version is left out.
        let with_reason = reason.and_then(because);
        let plain = || chat(&json!({ "text": player_text::moved(from, to) })).unwrap_or_default();
        with_reason.unwrap_or_else(plain)
    }
}

/// Whether players of a server are authenticated by the proxy.
pub(super) fn is_authenticated(server: &Server) -> bool {
    server.config.mode() == crate::mode::Mode::ClientOnly
}
