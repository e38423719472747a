//! Connects a player to a backend: that of the requested server, or, if the player cannot
//! join it or loses it, that of another server of its network. Switches on request are in
//! `switch`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::channel::Channel;
use super::ending::{Ending, Refusal};
use super::facts::{Facts, Origin, SessionFacts};
use super::first_bytes::rewritten_host;
use super::opening::Opening;
use super::packets::PacketStage;
use crate::blame::Blame;
use crate::close::left_by_peer;
use crate::command::{CommandContext, PlayerCommands};
use crate::config::model::{
    BackendAddress, IdentityForwarding, Intercepted, OnBackendLoss, Relay, ServerConfig, ServerKind,
};
use crate::forward::commands::Commands;
use crate::forward::{Counters, Outbox, Outcome, Side};
use crate::intercept::{
    self, Arrival, ConnectedBackend, DetachedClient, Failure, Flag, IdentifiedClient, Identity,
    Interrupts, LoggedIn, PlayerHandle, Playing, Prepared, RespondingBackend, Who,
};
use crate::limit::Slot;
use crate::player_text;
use crate::plugin::{self, HookSet};
use crate::protocol::packet::login::Profile;
use crate::protocol::packet::message::{Message, message};
use crate::protocol::packet::{State, Version};
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::show::Escaped;
use crate::upstream::{DROPPED_MAX, Dropped};

/// The most servers that are dialled for a player after one was lost.
const DIALS_MAX: usize = 8;
/// How long the move from one server to the next may take.
const FALLBACK_WAIT: Duration = Duration::from_secs(30);
/// After this time on a server, all other servers count as untried.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

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

/// The servers that were tried for a player since the last one on which the player stayed
/// for [`SETTLED_AFTER`].
pub(super) struct FallbackAttempts {
    tried: Vec<String>,
    /// A working server that the player has left. It is tried after the others.
    last: Option<String>,
    dials: usize,
    until: Instant,
}

impl FallbackAttempts {
    /// Begins with the loss of this server.
    pub(super) fn begin(server: &Server) -> Self {
        Self {
            tried: vec![server.config.id.clone()],
            last: None,
            dials: 0,
            until: Instant::now() + FALLBACK_WAIT,
        }
    }

    /// Whether a player who was on a server for this time has settled on it.
    pub(super) fn has_settled(stayed: Duration) -> bool {
        stayed >= SETTLED_AFTER
    }

    /// Continues with the loss of this server, on which the player was for this time.
    pub(super) fn continue_from(attempts: Option<Self>, server: &Server, stayed: Duration) -> Self {
        match attempts {
            Some(mut attempts) if !Self::has_settled(stayed) => {
                // It may have been dialled for another reason than a loss.
                attempts.refused(server);
                attempts
            }
            _ => Self::begin(server),
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

/// A server to which a player moves.
pub(super) struct TargetServer {
    pub(super) server: Arc<Server>,
    /// `None` if the server is full.
    pub(super) slot: Option<Slot>,
    /// The chat messages that the player gets there.
    pub(super) notices: Vec<Vec<u8>>,
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

/// A player who could not move to another server.
pub(super) struct NotMoved {
    pub(super) client: Box<DetachedClient>,
    /// Why the session ended during the move, if it did.
    pub(super) failure: Option<Failure>,
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

    /// Logs in a player, who is still in the login state and cannot join the requested
    /// server, at another server of the network. If all refuse, the error is that of the
    /// last one that was tried.
    pub(super) async fn log_in_elsewhere(
        &self,
        identified: &mut IdentifiedClient,
        target: &mut TargetServer,
        ending: Ending,
        replaced: &Flag,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<LoggedIn, Ending> {
        let first = Arc::clone(&target.server);
        // The backend's own text, or that the server is full.
        let reason = match &ending {
            Ending::Refused(_) | Ending::Intercepted(Failure::BackendRefused(_)) => {
                ending.player_component(&first.config)
            }
            _ => None,
        };
        let mut attempts = FallbackAttempts::begin(&first);
        let mut last = ending;
        // The server that has refused the player because it demands the chat key.
        let mut again: Option<Arc<Server>> = None;
        loop {
            let demands_key = again.is_some();
            let Some(server) = again.take().or_else(|| attempts.next(proxy, &self.network)) else {
                break;
            };
            log_refusal(&server, &last);
            let mut moving = facts.moving();
            let until = attempts.until;
            let dials = &mut attempts.dials;
            let opened = self.open(&server, demands_key, dials, proxy, &mut moving);
            let opened = timeout_at(until, opened);
            let opened = tokio::select! {
                opened = opened => opened.unwrap_or(Err(Ending::Intercepted(Failure::BackendTooSlow))),
                () = left_by_peer(identified.client.stream()) => Err(Ending::ClientLeft),
                () = replaced.wait() => Err(Ending::Intercepted(Failure::Replaced)),
            };
            let logged_in = match opened {
                Ok(opened) => {
                    identified.profile = opened.identity.profile;
                    let backend = opened.backend.before(attempts.until);
                    let logged_in = intercept::log_in(identified, backend, replaced).await;
                    logged_in
                        .map(|logged_in| (logged_in, opened.slot))
                        .map_err(Ending::Intercepted)
                }
                Err(ending) => Err(ending),
            };
            match logged_in {
                Ok((logged_in, slot)) => {
                    moving.has_arrived();
                    target.notices = self.notices(&first, &server, reason.as_ref());
                    (target.server, target.slot) = (server, Some(slot));
                    return Ok(logged_in);
                }
                Err(Ending::Intercepted(failure))
                    if !demands_key
                        && demands_withheld_key(&server, identified.who(), &failure) =>
                {
                    drop(moving);
                    last = Ending::Intercepted(failure);
                    again = Some(server);
                }
                Err(ending) => {
                    drop(moving);
                    let goes_on = can_try_another(&ending) || matches!(ending, Ending::Refused(_));
                    last = ending;
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Moves a player who has lost this server to another one of the network.
    pub(super) async fn fall_back(
        &self,
        mut client: Box<DetachedClient>,
        from: &Server,
        attempts: &mut FallbackAttempts,
        interrupts: &Interrupts,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<ServerConnection, NotMoved> {
        let reason = client.reason();
        let kick = client.take_kick();
        let left = |mut client: Box<DetachedClient>, failure| {
            client.set_kick(kick.clone());
            Err(NotMoved { client, failure })
        };
        loop {
            let next = if client.can_move() {
                attempts.next(proxy, &self.network)
            } else {
                None
            };
            let Some(server) = next else {
                return left(client, None);
            };
            let until = attempts.until;
            let trial = facts.trial();
            let prepared = self.prepare(&server, &mut attempts.dials, proxy, trial, None);
            let prepared = tokio::select! {
                prepared = client.while_waiting(timeout_at(until, prepared)) => prepared,
                interrupt = interrupts.first() => Err(interrupt),
            };
            let ready = match prepared {
                Ok(Ok(Ok(ready))) => ready,
                Ok(Ok(Err(ending))) => {
                    log_refusal(&server, &ending);
                    continue;
                }
                Ok(Err(_)) => {
                    log_refusal(&server, &Ending::Intercepted(Failure::BackendTooSlow));
                    continue;
                }
                Err(failure) => return left(client, Some(failure)),
            };
            let mut moving = facts.moving();
            let arrival = Arrival {
                is_authenticated: is_authenticated(&server),
                commands: self.commands(&server, &moving, proxy),
                notices: self.notices(from, &server, reason.as_ref()),
                until,
                interrupts,
                queries: None,
                listener: Channel::of(proxy, &self.handle, &server),
            };
            match self.enter(client, ready, arrival, &mut moving).await {
                Ok(arrived) => {
                    moving.has_arrived();
                    info!(
                        player = %Escaped(&self.identity.profile.name),
                        network = self.network,
                        from = from.config.id,
                        to = server.config.id,
                        "a player was moved to another server"
                    );
                    return Ok(arrived);
                }
                Err((failure, detached)) => {
                    client = detached;
                    drop(moving);
                    if ends_session(&failure) {
                        return left(client, Some(failure));
                    }
                    log_refusal(&server, &Ending::Intercepted(failure));
                }
            }
        }
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

/// Whether a player in the login state may move to another server.
pub(super) fn can_try_another(ending: &Ending) -> bool {
    match ending {
        Ending::Unreachable(_)
        | Ending::BackendFailed(_)
        | Ending::Refused(Refusal::ServerFull) => true,
        Ending::Intercepted(failure) => !ends_session(failure),
        _ => false,
    }
}

/// Whether no other server is tried for the player after this.
pub(super) fn ends_session(failure: &Failure) -> bool {
    match failure {
        Failure::Replaced | Failure::Stopped | Failure::Proxy(_) => true,
        // It depends on the server.
        Failure::VersionWithoutForwarding => false,
        failure => failure.blame() == Blame::Client,
    }
}

/// Whether players of a server are authenticated by the proxy.
pub(super) fn is_authenticated(server: &Server) -> bool {
    server.config.mode() == crate::mode::Mode::ClientOnly
}

/// Whether backends of a server do not get the keys with which players of 1.19 to 1.19.2
/// sign chat, so that plugins can change and drop signed lines.
pub(super) fn withholds_chat_key(server: &Server) -> bool {
    server.hooks.modifies_chat()
}

/// Whether a login without the chat key has failed because the backend demands it, and it
/// can have it.
pub(super) fn demands_withheld_key(server: &Server, who: Who<'_>, failure: &Failure) -> bool {
    withholds_chat_key(server) && who.has_chat_key() && failure.demands_chat_key()
}

pub(super) fn log_refusal(server: &Server, ending: &Ending) {
    debug!(
        server = server.config.id,
        reason = ending.name(),
        error = %ending,
        "a server does not take a player of its network"
    );
}

/// A login that looks for a backend.
pub(super) struct BackendConnector<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) intercepted: &'a Intercepted,
    /// With its destination.
    pub(super) origin: &'a Origin,
    pub(super) opening: &'a Opening,
    /// The host for the backend that a plugin has chosen.
    pub(super) host: Option<&'a str>,
    /// Whether the backend gets the key with which the player signs chat.
    pub(super) gets_chat_key: bool,
}

impl BackendConnector<'_> {
    /// Connects to the first backend that answers the login start. Until a backend answers,
    /// the next one can be tried.
    pub(super) async fn reach(
        &self,
        who: Who<'_>,
        counters: &Arc<Counters>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<RespondingBackend, Ending> {
        let mut dropped = Vec::new();
        loop {
            let (addresses, bound) = (&self.config.addresses, self.config.timeouts.connect);
            let connected = proxy.upstream.connect(addresses, bound, &dropped).await;
            let connected = connected.map_err(Ending::Unreachable)?;
            facts.session = Some(SessionFacts {
                backend: connected.address.clone(),
                relay: Relay::Copy,
                counters: Arc::clone(counters),
            });
            facts.session_connected();
            let dialled = ConnectedBackend {
                header: self.header()?,
                opening: self.handshake(who, &connected.address),
                stream: connected.stream,
                identity: self.intercepted.identity.clone(),
                address: self.origin.client.ip(),
                server: self.config.id.clone(),
                gets_chat_key: self.gets_chat_key,
            };
            match dialled.greet(who).await {
                Ok(answering) => return Ok(answering),
                Err(error) if dropped.len() < DROPPED_MAX => {
                    facts.session = None;
                    let dialled = connected.dialled;
                    dropped.push(Dropped { dialled, error });
                }
                Err(error) => {
                    facts.session = None;
                    return Err(Ending::BackendFailed(error));
                }
            }
        }
    }

    /// The PROXY header, or no bytes.
    fn header(&self) -> Result<Vec<u8>, Ending> {
        match self.config.send_proxy_protocol {
            Some(version) => self.origin.known_header(version).ok_or(Ending::ClientLeft),
            None => Ok(Vec::new()),
        }
    }

    fn handshake(&self, who: Who<'_>, address: &BackendAddress) -> Vec<u8> {
        let host = rewritten_host(self.config, self.opening, Some(address), self.host);
        let host_field = match &self.intercepted.identity {
            Some(IdentityForwarding::Host(forwarding)) => intercept::host_field(
                &host,
                &self.opening.host.markers(),
                self.origin.client.ip(),
                who.profile().uuid,
                Some(&who.profile().properties),
                forwarding,
            ),
            Some(IdentityForwarding::Velocity(_)) | None => host,
        };
        self.opening.with_host(&host_field).to_vec()
    }
}

/// Calls `login.decide` for a player.
pub(super) async fn decide(
    hooks: &HookSet,
    profile: &Profile,
    is_proved: bool,
    facts: &Facts,
) -> Result<(), Ending> {
    let player = plugin::Player {
        name: &profile.name,
        uuid: Some(u128::from_be_bytes(profile.uuid)),
        is_proved,
    };
    let client = facts.for_plugins();
    Ok(hooks.login_decide(&client, &player).await?)
}
