//! A player who can move to other servers of a network, and the steps of a move: check
//! that the player may join the server, log in at its backend, enter its game.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connector::{BackendConnector, decide, demands_withheld_key, withholds_chat_key};
use super::ending::{Ending, Refusal};
use super::facts::{Facts, Origin, SessionFacts};
use super::opening::Opening;
use super::packets::PacketStage;
use crate::command::{CommandContext, PlayerCommands};
use crate::config::model::{OnBackendLoss, ServerKind};
use crate::forward::commands::Commands;
use crate::forward::{Counters, Outbox, Outcome, Side};
use crate::intercept::{
    self, Arrival, DetachedClient, Failure, Identity, PlayerHandle, Playing, Prepared,
    RespondingBackend,
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

/// A server that the filters and plugins of the proxy let the player join, with a connected
/// backend.
pub(super) struct OpenServer {
    pub(super) backend: RespondingBackend,
    pub(super) slot: Slot,
    pub(super) identity: Identity,
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
    /// client. With `in_game`, the player is in the game of another server meanwhile.
    pub(super) async fn prepare(
        &self,
        server: &Arc<Server>,
        dials: &mut usize,
        proxy: &Proxy,
        mut trial: Facts,
        in_game: Option<Arc<PlayerHandle>>,
    ) -> Result<Ready, Ending> {
        let OpenServer {
            backend,
            slot,
            identity,
            host,
        } = self.open(server, false, dials, proxy, &mut trial).await?;
        let markers = self.opening.host.markers();
        let has_mods = FORGE_MARKERS.iter().any(|marker| markers.contains(marker));
        let who = identity.who(self.version);
        let mut prepared = backend.prepare(who, has_mods, in_game.clone()).await;
        if let Err(failure) = &prepared
            && demands_withheld_key(server, who, failure)
        {
            *dials += 1;
            let connector = self.connector(server, host.as_deref(), true)?;
            let facts = &mut trial;
            let backend = connector.reach(who, &self.counters, proxy, facts).await?;
            prepared = backend.prepare(who, has_mods, in_game).await;
        }
        Ok(Ready {
            server: Arc::clone(server),
            slot,
            backend: prepared.map_err(Ending::Intercepted)?,
            session: trial.session.take(),
        })
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
        let outbox = Arc::default();
        self.handle.set_server(&server.config.id, &outbox);
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

    /// Checks whether the player may join a server, by its filters and plugins, and
    /// connects to its backend. With `demands_chat_key` the backend gets the chat key.
    pub(super) async fn open(
        &self,
        server: &Arc<Server>,
        demands_chat_key: bool,
        dials: &mut usize,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<OpenServer, Ending> {
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
        let host = facts.chosen_host(server, &self.opening)?;
        let identity = self.identity.at(forwarding);
        let connector = self.connector(server, host.as_deref(), demands_chat_key)?;
        *dials += 1;
        let who = identity.who(self.version);
        let backend = connector.reach(who, &self.counters, proxy, facts).await?;
        Ok(OpenServer {
            backend,
            slot,
            identity,
            host,
        })
    }

    fn connector<'a>(
        &'a self,
        server: &'a Server,
        host: Option<&'a str>,
        demands_chat_key: bool,
    ) -> Result<BackendConnector<'a>, Ending> {
        let ServerKind::Intercepted(intercepted) = &server.config.kind else {
            // Only servers of the intercepted modes have a network.
            return Err(Refusal::UnknownDomain.into());
        };
        Ok(BackendConnector {
            config: &server.config,
            intercepted,
            origin: &self.origin,
            opening: &self.opening,
            host,
            gets_chat_key: demands_chat_key || !withholds_chat_key(server),
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
