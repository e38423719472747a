//! Logins on servers of the intercepted modes, and their sessions.
//!
//! [`InterceptedLogin::join`]: authenticate the player → `login.decide` → places in the roster
//! and on the server → log in at a backend, or at another server of the network →
//! complete the client's login → play. [`BridgeSession::run`]: relay, and if the
//! backend is lost or a switch is requested, move the player to another server of the
//! network.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::channel::{self, Channel};
use super::client::{self, ClosingClient};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Origin, Player};
use super::fallback::{
    self, BackendConnector, FallbackAttempts, NetworkPlayer, ServerConnection, TargetServer,
    can_try_another, decide,
};
use super::in_game::ObservedPlayer;
use super::opening::{Dialect, Opening};
use super::packets::PacketStage;
use super::switch::{AfterRelay, MoveContext, Switch};
use crate::close::left_by_peer;
use crate::command::{CommandContext, PlayerCommands};
use crate::config::model::{
    DuplicateLogin, Intercepted, InterceptedMode, OnBackendLoss, ServerConfig,
};
use crate::forward::commands::Commands;
use crate::forward::queries::PacketQueries;
use crate::forward::record::PlayerRecord;
use crate::forward::{Counters, End, Listener, Outbox, Outcome, Side};
use crate::intercept::{
    self, ClientSettings, DetachedClient, Failure, IdentifiedClient, Interrupts, Lost, NotJoined,
    PlayerDetails, PlayerHandle, Playing, RemainingClient, Rules, SessionRequest, StartedLogin,
};
use crate::limit::Slot;
use crate::protocol::packet::Version;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// The longest time that bytes may wait for a client or backend that does not read;
/// `timeouts.write` can only shorten it. Without a limit a session would hold the bytes
/// that it has read for ever.
const WRITE_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A client that wants to log in on an intercepted server.
pub(super) struct InterceptedLogin {
    pub(super) client: client::Client,
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    pub(super) server: Arc<Server>,
    /// The server that the client has asked for, if `route.select` has chosen another
    /// and `login.decide` of the first is still to be called, with the proved identity.
    pub(super) moved_from: Option<Arc<Server>>,
    pub(super) intercepted: Intercepted,
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    pub(super) place: Slot,
}

/// A player in the game, with everything that the session holds. It is idle for most of
/// the time: what is only used between two servers is boxed.
pub(super) struct BridgeSession {
    /// The current server.
    server: Arc<Server>,
    /// The place on it; `None` once the player leaves it.
    slot: Option<Slot>,
    outbox: Arc<Outbox>,
    /// The stay on the server that plugins observe, if any do.
    observed: Option<Box<ObservedPlayer>>,
    place: intercept::Place,
    /// How others reach the player.
    handle: Arc<PlayerHandle>,
    connection: Slot,
    /// Set if the server belongs to a network, which can move the player.
    network_player: Option<Box<NetworkPlayer>>,
    /// The servers that were tried for the player.
    attempts: Option<Box<FallbackAttempts>>,
    interrupts: Interrupts,
}

/// A session, and the connections that it will relay.
pub(super) type Begun = (Box<BridgeSession>, Box<Playing>);

impl InterceptedLogin {
    /// Brings the player into the game.
    pub(super) async fn join(self, proxy: &Proxy, facts: &mut Facts) -> Result<Begun, Ended> {
        let config = Arc::clone(&self.server.config);
        let Some(version) = Version::of(self.opening.protocol()) else {
            let refusal = match self.opening.dialect() {
                Dialect::Modern(_) => Refusal::UnknownVersion,
                Dialect::Legacy => Refusal::OldVersion,
            };
            return Err(self.end(refusal));
        };
        let login = self.server.proxy.login.clone();
        let scope = intercept_scope(&config);
        let duplicate_login = config
            .network()
            .and_then(|network| self.server.proxy.network(network).duplicate_login)
            .unwrap_or(login.duplicate_login);
        let is_full = config
            .max_players
            .is_some_and(|max| self.server.state.players.taken() >= max.get());
        // One of the places may belong to an older session of this player.
        let may_replace =
            || duplicate_login == DuplicateLogin::Replace || proxy.roster.has_leaving(&scope);
        let has_others = has_other_servers(&self.server);
        if is_full && !has_others && !may_replace() {
            // Refused before the authentication.
            return Err(self.end(Refusal::ServerFull));
        }

        let Self {
            client,
            origin,
            opening,
            server,
            moved_from,
            intercepted,
            login_start,
            player,
            place: connection,
        } = self;
        let (stream, input) = client.into_parts();
        let newcomer = StartedLogin {
            stream,
            input: input.as_ref().into(),
            version,
            name: player.name,
            uuid: player.uuid,
            login_start,
        };
        let identified = match intercepted.mode {
            InterceptedMode::Offline => newcomer.unproved(login.uuid_of_client),
            InterceptedMode::ClientOnly => {
                newcomer
                    .prove(&proxy.authenticator, &login, origin.client.ip())
                    .await
            }
        };
        let mut identified = match identified {
            Ok(identified) => identified,
            Err(lost) => return Err(lose(*lost, connection)),
        };
        facts.player = Some(identified.profile.name.clone());
        let is_proved = fallback::is_authenticated(&server);
        if is_proved
            && let Err(ending) = ask_login_decide(&server, moved_from, &identified, facts).await
        {
            return Err(end(identified, ending, connection));
        }

        let unproved_name = (!is_proved).then(|| identified.profile.name.clone());
        let entered = proxy.roster.enter(
            &scope,
            identified.profile.uuid,
            unproved_name.as_deref(),
            duplicate_login,
        );
        let Ok(place) = while_there(&identified, entered).await? else {
            return Err(end(identified, Refusal::DuplicateLogin, connection));
        };
        let slot = server.take_place();
        let is_full = slot.is_none();
        if is_full && !has_others {
            return Err(end(identified, Refusal::ServerFull, connection));
        }
        if !is_full {
            facts.session_opened();
        }
        let host = match facts.chosen_host(&server, &opening) {
            Ok(host) => host,
            Err(denied) => return Err(end(identified, denied, connection)),
        };

        let origin = origin.with_destination(identified.client.stream());
        // Plugins see the true identity, even if the backend gets another one.
        let identity = identified.identity();
        let profile = identity.profile.clone();
        identified.profile = identity.at(intercepted.identity.as_ref()).profile;
        let counters = Arc::new(Counters::default());
        let replaced = place.replaced().clone();
        let asked = async {
            if is_full {
                return Err(Refusal::ServerFull.into());
            }
            let version = intercept::check_version(intercepted.identity.as_ref(), version);
            version.map_err(Ending::Intercepted)?;
            let asker = BackendConnector {
                config: &config,
                intercepted: &intercepted,
                origin: &origin,
                opening: &opening,
                host: host.as_deref(),
            };
            asker.reach(identified.who(), &counters, proxy, facts).await
        };
        let asked = tokio::select! {
            asked = asked => asked,
            () = left_by_peer(identified.client.stream()) => Err(Ending::ClientLeft),
            () = replaced.wait() => Err(Ending::Intercepted(Failure::Replaced)),
        };
        let logged_in = match asked {
            Ok(backend) => intercept::log_in(&mut identified, backend, &replaced)
                .await
                .map_err(Ending::Intercepted),
            Err(ending) => Err(ending),
        };
        let handle = PlayerHandle::new(
            PlayerDetails {
                number: proxy.plugins.in_game().next_number(),
                name: profile.name.clone(),
                uuid: profile.uuid,
                version,
                address: origin.client,
                network: config.network().map(str::to_owned),
                counters: Arc::clone(&counters),
            },
            &config.id,
        );
        let network_player = config.network().map(|network| {
            Box::new(NetworkPlayer {
                origin,
                opening,
                identity,
                version,
                is_proved,
                network: network.to_owned(),
                counters: Arc::clone(&counters),
                handle: Arc::clone(&handle),
            })
        });
        let mut target = TargetServer {
            server,
            slot,
            notices: Vec::new(),
        };
        let logged_in = match (logged_in, &network_player) {
            (Ok(logged_in), _) => Ok(logged_in),
            (Err(ending), Some(network_player))
                if can_try_another(&ending) && network_player.falls_back(proxy) =>
            {
                let next = network_player.log_in_elsewhere(
                    &mut identified,
                    &mut target,
                    ending,
                    &replaced,
                    proxy,
                    facts,
                );
                next.await
            }
            (Err(ending), _) => Err(ending),
        };
        let logged_in = match logged_in {
            Ok(logged_in) => logged_in,
            Err(Ending::ClientLeft) => return Err(Ending::ClientLeft.into()),
            Err(Ending::Intercepted(failure)) => {
                drop((target, place));
                return Err(lose(*identified.client.lose(failure), connection));
            }
            Err(ending) => return Err(end(identified, ending, connection)),
        };
        let TargetServer {
            server,
            slot,
            notices,
        } = target;
        let Some(slot) = slot else {
            return Err(end(identified, Refusal::ServerFull, connection));
        };
        if is_full {
            facts.session_opened();
            facts.session_connected();
        }
        let outbox = Arc::default();
        handle.set_server(&server.config.id, &outbox);
        place.begin_session(&handle);
        let context = CommandContext {
            player: Arc::clone(&handle),
            is_proved,
            server: Arc::clone(&server),
            intent: facts.intent,
            virtual_host: facts.host().to_owned(),
        };
        let commands = PlayerCommands::of(proxy, context);
        let packets = PacketStage::begin(&handle, &server, &profile, is_proved, &outbox);
        let queries = packets.as_ref().map(PacketStage::queries).cloned();
        let listener = Channel::of(proxy, &handle, &server);
        let settings = settings(&server, &intercepted, commands, queries, listener, proxy);
        let record = network_player.is_some().then(PlayerRecord::default);
        let joined = intercept::join(
            identified, logged_in, settings, counters, record, notices, &replaced,
        );
        let mut attempts = None;
        let forwarded = channel::open(&handle, &server, proxy);
        let joined = joined.await;
        if joined.is_err() {
            channel::give_back(&server, forwarded);
        }
        let mut arrived = match (joined, &network_player) {
            (Ok(playing), _) => ServerConnection {
                playing,
                server,
                slot,
                outbox,
                packets,
            },
            (Err(NotJoined::Detached(failure, client)), Some(network_player))
                if !fallback::ends_session(&failure) && network_player.falls_back(proxy) =>
            {
                drop(slot);
                let interrupts = interrupts(&place, proxy);
                let attempts = attempts.insert(FallbackAttempts::begin(&server));
                let arrived =
                    network_player.fall_back(client, &server, attempts, &interrupts, proxy, facts);
                match Box::pin(arrived).await {
                    Ok(arrived) => arrived,
                    Err(left) => {
                        let failure = left.failure.unwrap_or(failure);
                        return Err(end_detached(left.client, failure, connection));
                    }
                }
            }
            (Err(NotJoined::Detached(failure, client)), _) => {
                return Err(end_detached(client, failure, connection));
            }
            // The places on the server are free before the player reads.
            (Err(NotJoined::Lost(lost)), _) => return Err(lose(*lost, connection)),
        };
        let network_player = network_player.map(|mut network_player| {
            network_player.opening.become_login();
            network_player
        });
        let observed = ObservedPlayer::begin(
            proxy.plugins.in_game(),
            &mut arrived,
            facts,
            &handle,
            profile,
            is_proved,
        );
        let session = BridgeSession {
            server: arrived.server,
            slot: Some(arrived.slot),
            outbox: arrived.outbox,
            observed,
            interrupts: interrupts(&place, proxy),
            place,
            handle,
            connection,
            network_player,
            attempts: attempts.map(Box::new),
        };
        Ok((Box::new(session), Box::new(arrived.playing)))
    }

    /// Ends the connection before the login; the client may read why.
    fn end(self, ending: impl Into<Ending>) -> Ended {
        let reader = self.client.into_closing(&self.opening);
        Ended::new(ending, reader).holding_connection(self.place)
    }
}

/// The scope in which a second login of the same player counts as a duplicate: a
/// network, or a server outside of networks.
fn intercept_scope(config: &ServerConfig) -> String {
    match config.network() {
        // Cannot be the id of a server, which has no spaces.
        Some(network) => format!("network {network}"),
        None => config.id.clone(),
    }
}

/// Whether players that this server refuses may come to others of its network.
fn has_other_servers(server: &Server) -> bool {
    let network = server.config.network();
    let rules = network.map(|network| server.proxy.network(network));
    rules.is_some_and(|rules| rules.on_backend_loss == OnBackendLoss::Fallback)
}

/// What ends a session in every phase.
fn interrupts(place: &intercept::Place, proxy: &Proxy) -> Interrupts {
    Interrupts {
        replaced: place.replaced().clone(),
        stopped: proxy.shutdown.stop.clone(),
    }
}

/// The settings of the client's connection, which those of the first server decide.
fn settings(
    server: &Server,
    first: &Intercepted,
    commands: Option<Arc<dyn Commands>>,
    queries: Option<Arc<PacketQueries>>,
    listener: Option<Arc<dyn Listener>>,
    proxy: &Proxy,
) -> ClientSettings {
    ClientSettings {
        compression: first.compression,
        is_authenticated: fallback::is_authenticated(server),
        session: proxy.session_id,
        commands,
        queries,
        listener,
    }
}

/// Calls `login.decide` with the proved identity: the plugins of the server that the
/// client has asked for, then those that only the chosen server has.
async fn ask_login_decide(
    server: &Server,
    moved_from: Option<Arc<Server>>,
    identified: &IdentifiedClient,
    facts: &Facts,
) -> Result<(), Ending> {
    let profile = &identified.profile;
    let decide = async {
        let Some(first) = moved_from else {
            return decide(&server.hooks, profile, true, facts).await;
        };
        decide(&first.hooks, profile, true, facts).await?;
        decide(&server.hooks.not_in(&first.hooks), profile, true, facts).await
    };
    while_there(identified, decide).await?
}

/// The output of a future, or [`Ending::ClientLeft`] if the player leaves first.
async fn while_there<T>(
    player: &IdentifiedClient,
    future: impl Future<Output = T>,
) -> Result<T, Ending> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = left_by_peer(player.client.stream()) => Err(Ending::ClientLeft),
    }
}

/// Ends the connection during the login; the client may read why.
fn end(identified: IdentifiedClient, ending: impl Into<Ending>, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(identified.client.into_closing());
    Ended::new(ending, Some(reader)).holding_connection(connection)
}

/// Ends a session that has not reached play.
fn lose(lost: Lost, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(lost.client);
    Ended::new(Ending::Intercepted(lost.failure), Some(reader)).holding_connection(connection)
}

/// As [`lose`], for a client that was waiting for another backend.
fn end_detached(client: Box<DetachedClient>, failure: Failure, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(client.into_closing());
    Ended::new(Ending::Intercepted(failure), Some(reader)).holding_connection(connection)
}

impl BridgeSession {
    /// Relays until the session ends. If the backend is lost, or a switch was requested,
    /// the player is moved to another server of the network. At the end the client may
    /// read why.
    pub(super) async fn run(
        mut self: Box<Self>,
        mut playing: Box<Playing>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Ended {
        let network_player = self.network_player.take();
        let network_player = network_player.as_deref();
        let (ending, reader) = loop {
            let began = Instant::now();
            self.handle.set_available();
            let (ended, next) = self.relay(playing, network_player, proxy, facts).await;
            self.handle.set_unavailable();
            let over = Over { ended, next, began };
            // Boxed so that an idle session does not hold the state of a move.
            match Box::pin(self.continue_from(over, network_player, proxy, facts)).await {
                Ok(there) => playing = there,
                Err(end) => break end,
            }
        };
        let Self {
            place, connection, ..
        } = *self;
        drop(place);
        let reader = reader.map(ClosingClient::Intercepted);
        Ended::new(ending, reader).holding_connection(connection)
    }

    /// Relays until the backend or the client ends the session, another login of the
    /// player replaces it, a plugin ends it, or another server waits for the player.
    ///
    /// An idle session holds this future: see [`serve`](super::serve).
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn relay<'a>(
        &self,
        playing: Box<Playing>,
        network_player: Option<&'a NetworkPlayer>,
        proxy: &'a Proxy,
        facts: &Facts,
    ) -> impl Future<Output = (intercept::Ended, AfterRelay<'a>)> {
        async move {
            let (mut play, stop) = self.begin(*playing, proxy);
            let observed = self.observed.as_deref();
            let mut kicked = observed.map(|observed| Box::pin(observed.kicked()));
            let mut switch = None;
            let next = loop {
                let is_switching = switch.is_some();
                let kicked = async {
                    match &mut kicked {
                        Some(kicked) => kicked.await,
                        None => std::future::pending().await,
                    }
                };
                let prepared = async {
                    match &mut switch {
                        Some(switch) => Switch::prepared(switch).await.map_err(Box::new),
                        None => std::future::pending().await,
                    }
                };
                let leaving = async {
                    match is_switching {
                        // Boxed, since a session seldom waits for it.
                        true => Box::pin(self.handle.leaving()).await,
                        false => std::future::pending().await,
                    }
                };
                let prepared = tokio::select! {
                    ended = &mut play => {
                        return (ended, switch.map_or(AfterRelay::Nothing, AfterRelay::Preparing));
                    }
                    () = kicked => break AfterRelay::Nothing,
                    // No server is asked for a player who leaves: the request ends with
                    // the drop.
                    () = leaving => {
                        switch = None;
                        continue;
                    }
                    prepared = prepared => prepared,
                    request = self.handle.next_request(&self.interrupts.replaced) => match request {
                        SessionRequest::End => break AfterRelay::Nothing,
                        SessionRequest::Switch(request) => {
                            let stays = |_: &&NetworkPlayer| !self.handle.is_leaving();
                            switch = network_player.filter(stays).and_then(|network_player| {
                                Switch::begin(request, network_player, proxy, facts)
                            });
                            continue;
                        }
                    },
                };
                let (Some(current), Some(network_player)) = (switch.take(), network_player) else {
                    continue;
                };
                match prepared {
                    // From here on the player can only go forward.
                    Ok(ready) => break AfterRelay::Ready(current.into_request(), ready),
                    Err(ending) => current.refuse(&ending, network_player),
                }
            };
            stop.cancel();
            (play.await, next)
        }
    }

    /// The relay, and what stops it.
    fn begin(
        &self,
        playing: Playing,
        proxy: &Proxy,
    ) -> (
        Pin<Box<impl Future<Output = intercept::Ended> + Send + use<>>>,
        CancellationToken,
    ) {
        let mut limits = self.server.config.timeouts.session;
        limits.write = Some(limits.write.map_or(WRITE_WAIT, |wait| wait.min(WRITE_WAIT)));
        let stop = proxy.shutdown.stop.child_token();
        let rules = Rules {
            keepalive: self.server.proxy.keepalive,
            limits,
            stop: stop.clone(),
            outbox: Some(Arc::clone(&self.outbox)),
        };
        // Boxed: an idle session holds it once, instead of each future on the way.
        (Box::pin(playing.play(&proxy.forwarders, rules)), stop)
    }

    /// What follows a relay: the player comes to another server, or the session ends.
    async fn continue_from(
        &mut self,
        over: Over<'_>,
        network_player: Option<&NetworkPlayer>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Box<Playing>, Conclusion> {
        let Over { ended, next, began } = over;
        let handle = &self.handle;
        let observed = self.observed.take();
        let kick = observed
            .as_ref()
            .and_then(|observed| observed.kick().cloned());
        let outcome = ended.outcome;
        let end = outcome.end;
        debug!(end = %end, "an intercepted session has ended");
        let is_asked_for = matches!(next, AfterRelay::Ready(..)) && end == End::Stopped;
        let ending = match (end, ended.fault(), kick) {
            (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
            (End::Stopped, None, _) if self.interrupts.replaced.is_set() => {
                Ending::Replaced(outcome)
            }
            (End::Stopped, None, Some(kick)) => Ending::Kicked(outcome, kick),
            (End::Stopped, None, None) if handle.kick_text().is_some() => {
                let text = handle.kick_text().unwrap_or_default();
                Ending::KickedByBackend(outcome, text.to_string())
            }
            (_, None, _) => Ending::Relayed(outcome),
        };
        let can_switch = is_asked_for
            && matches!(ending, Ending::Relayed(_))
            && !self.interrupts.stopped.is_cancelled();
        if let Some(observed) = observed {
            (*observed).end(match can_switch {
                true => SWITCHED,
                false => ending.name(),
            });
        }
        // The places on the server are free before the player reads. The slot is
        // first, since a login that waits for the place in the roster needs a slot too.
        self.slot = None;
        let is_waited_for = !matches!(next, AfterRelay::Nothing);
        let is_moved = |network_player: &NetworkPlayer| {
            can_switch
                || network_player.has_lost_backend(&outcome, proxy)
                || (is_waited_for && network_player.is_without_backend(&outcome))
        };
        let (client, network_player) = match (ended.into_client(), network_player) {
            (Some(RemainingClient::Detached(client)), Some(network_player))
                if is_moved(network_player) =>
            {
                (client, network_player)
            }
            (Some(RemainingClient::Detached(client)), _) => {
                return Err((ending, Some(client.into_closing())));
            }
            (Some(RemainingClient::Closing(reader)), _) => return Err((ending, Some(reader))),
            (None, _) => return Err((ending, None)),
        };
        let mut attempts = self.attempts.take().map(|attempts| *attempts);
        let context = MoveContext {
            from: &self.server,
            stayed: began.elapsed(),
            attempts: &mut attempts,
            interrupts: &self.interrupts,
        };
        let moved = network_player
            .move_to_next(client, next, context, proxy, facts)
            .await;
        let mut arrived = match moved {
            Ok(arrived) => arrived,
            Err(left) => {
                let ending = match left.failure {
                    Some(Failure::Replaced) => Ending::Replaced(outcome),
                    Some(Failure::Stopped) => Ending::Relayed(Outcome {
                        end: End::Stopped,
                        ..outcome
                    }),
                    Some(Failure::ClientLeft) => Ending::Relayed(Outcome {
                        end: End::Closed(Side::Client),
                        ..outcome
                    }),
                    Some(failure) => Ending::Intercepted(failure),
                    None => ending,
                };
                return Err((ending, Some(left.client.into_closing())));
            }
        };
        self.observed = ObservedPlayer::begin(
            proxy.plugins.in_game(),
            &mut arrived,
            facts,
            &self.handle,
            network_player.identity.profile.clone(),
            network_player.is_proved,
        );
        self.attempts = attempts.map(Box::new);
        self.server = arrived.server;
        self.slot = Some(arrived.slot);
        self.outbox = arrived.outbox;
        Ok(Box::new(arrived.playing))
    }
}

/// A relay that is over, and what was asked for meanwhile.
struct Over<'a> {
    ended: intercept::Ended,
    next: AfterRelay<'a>,
    began: Instant,
}

/// How a session has ended, and the client if it can read why.
type Conclusion = (Ending, Option<intercept::ClosingClient>);

/// The word for plugins of the server that a player leaves for another one.
const SWITCHED: &str = "switched";
