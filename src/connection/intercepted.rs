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
    PlayerDetails, PlayerHandle, Playing, RemainingClient, Rules, StartedLogin,
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

/// A player in the game, with everything that the session holds.
pub(super) struct BridgeSession {
    /// The player's connection to the current server.
    arrived: ServerConnection,
    /// The stay on the server that plugins observe, if any do.
    observed: Option<Box<ObservedPlayer>>,
    place: intercept::Place,
    /// How others reach the player.
    handle: Arc<PlayerHandle>,
    connection: Slot,
    /// Set if the server belongs to a network, which can move the player.
    network_player: Option<Box<NetworkPlayer>>,
    /// The servers that were tried for the player.
    attempts: Option<FallbackAttempts>,
}

impl InterceptedLogin {
    /// Brings the player into the game.
    pub(super) async fn join(
        self,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<BridgeSession, Ended> {
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
            () = replaced.cancelled() => Err(Ending::Intercepted(Failure::Replaced)),
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
        Ok(BridgeSession {
            observed: ObservedPlayer::begin(
                proxy.plugins.in_game(),
                &mut arrived,
                facts,
                &handle,
                profile,
                is_proved,
            ),
            arrived,
            place,
            handle,
            connection,
            network_player,
            attempts,
        })
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
    pub(super) async fn run(self, proxy: &Proxy, facts: &mut Facts) -> Ended {
        let Self {
            mut arrived,
            mut observed,
            place,
            handle,
            connection,
            network_player,
            mut attempts,
        } = self;
        let interrupts = interrupts(&place, proxy);
        loop {
            let began = Instant::now();
            let ServerConnection {
                playing,
                server,
                slot,
                outbox,
                packets: _,
            } = arrived;
            handle.set_available();
            let relay = RelayPhase {
                server: &server,
                observed: observed.as_deref(),
                handle: &handle,
                network_player: network_player.as_deref(),
                interrupts: &interrupts,
                proxy,
                facts,
            };
            // Boxed: an idle session holds it once, instead of each future on the way.
            let (play, stop) = relay.begin(playing, outbox);
            let (ended, next) = relay.run(Box::pin(play), stop).await;
            handle.set_unavailable();
            let kick = observed
                .as_ref()
                .and_then(|observed| observed.kick().cloned());
            let outcome = ended.outcome;
            let end = outcome.end;
            debug!(end = %end, "an intercepted session has ended");
            let is_asked_for = matches!(next, AfterRelay::Ready(..)) && end == End::Stopped;
            let mut ending = match (end, ended.fault(), kick) {
                (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
                (End::Stopped, None, _) if interrupts.replaced.is_cancelled() => {
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
                && !interrupts.stopped.is_cancelled();
            if let Some(observed) = observed.take() {
                (*observed).end(match can_switch {
                    true => SWITCHED,
                    false => ending.name(),
                });
            }
            // The places on the server are free before the player reads. The slot is
            // first, since a login that waits for the place in the roster needs a slot too.
            drop(slot);
            let is_waited_for = !matches!(next, AfterRelay::Nothing);
            let is_moved = |network_player: &NetworkPlayer| {
                can_switch
                    || network_player.has_lost_backend(&outcome, proxy)
                    || (is_waited_for && network_player.is_without_backend(&outcome))
            };
            let reader = match (ended.into_client(), &network_player) {
                (Some(RemainingClient::Detached(client)), Some(network_player))
                    if is_moved(network_player) =>
                {
                    let context = MoveContext {
                        from: &server,
                        stayed: began.elapsed(),
                        attempts: &mut attempts,
                        interrupts: &interrupts,
                    };
                    // Boxed so that an idle session does not hold the state of a move.
                    let moved = network_player.move_to_next(client, next, context, proxy, facts);
                    match Box::pin(moved).await {
                        Ok(there) => {
                            arrived = there;
                            observed = ObservedPlayer::begin(
                                proxy.plugins.in_game(),
                                &mut arrived,
                                facts,
                                &handle,
                                network_player.identity.profile.clone(),
                                network_player.is_proved,
                            );
                            continue;
                        }
                        Err(left) => {
                            ending = match left.failure {
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
                            Some(left.client.into_closing())
                        }
                    }
                }
                (Some(RemainingClient::Detached(client)), _) => Some(client.into_closing()),
                (Some(RemainingClient::Closing(reader)), _) => Some(reader),
                (None, _) => None,
            };
            drop(place);
            let reader = reader.map(ClosingClient::Intercepted);
            return Ended::new(ending, reader).holding_connection(connection);
        }
    }
}

/// The word for plugins of the server that a player leaves for another one.
const SWITCHED: &str = "switched";

/// A player in the game of a server, and what can end it.
struct RelayPhase<'a, 'f> {
    server: &'a Server,
    observed: Option<&'f ObservedPlayer>,
    handle: &'a Arc<PlayerHandle>,
    network_player: Option<&'a NetworkPlayer>,
    interrupts: &'a Interrupts,
    proxy: &'a Proxy,
    facts: &'f Facts,
}

impl<'a> RelayPhase<'a, '_> {
    /// The relay, and what stops it.
    fn begin(
        &self,
        playing: Playing,
        outbox: Arc<Outbox>,
    ) -> (
        impl Future<Output = intercept::Ended> + Send + use<>,
        CancellationToken,
    ) {
        let proxy = self.proxy;
        let mut limits = self.server.config.timeouts.session;
        limits.write = Some(limits.write.map_or(WRITE_WAIT, |wait| wait.min(WRITE_WAIT)));
        let stop = proxy.shutdown.stop.child_token();
        let rules = Rules {
            keepalive: self.server.proxy.keepalive,
            limits,
            stop: stop.clone(),
            outbox: Some(outbox),
        };
        (playing.play(&proxy.forwarders, rules), stop)
    }

    /// Relays until the backend or the client ends the session, another login of the
    /// player replaces it, a plugin ends it, or another server waits for the player.
    async fn run<F: Future<Output = intercept::Ended>>(
        self,
        mut play: Pin<Box<F>>,
        stop: CancellationToken,
    ) -> (intercept::Ended, AfterRelay<'a>) {
        let Self {
            observed, proxy, ..
        } = self;
        let mut switch = None;
        loop {
            let is_switching = switch.is_some();
            let kicked = async {
                match observed {
                    Some(observed) => observed.kicked().await,
                    None => std::future::pending().await,
                }
            };
            let prepared = async {
                match &mut switch {
                    Some(switch) => Switch::prepared(switch).await,
                    None => std::future::pending().await,
                }
            };
            let prepared = tokio::select! {
                ended = &mut play => return (ended, switch.map_or(AfterRelay::Nothing, AfterRelay::Preparing)),
                () = kicked => break,
                () = self.handle.kicked() => break,
                () = self.interrupts.replaced.cancelled() => break,
                // No server is asked for a player who leaves: the request ends with the drop.
                () = self.handle.leaving(), if is_switching => {
                    switch = None;
                    continue;
                }
                prepared = prepared => prepared,
                request = self.handle.next_switch(), if !is_switching => {
                    let stays = |_: &&NetworkPlayer| !self.handle.is_leaving();
                    switch = self.network_player.filter(stays).and_then(|network_player| {
                        Switch::begin(request, network_player, proxy, self.facts)
                    });
                    continue;
                }
            };
            let (Some(current), Some(network_player)) = (switch.take(), self.network_player) else {
                continue;
            };
            match prepared {
                Ok(ready) => {
                    // From here on the player can only go forward.
                    stop.cancel();
                    return (
                        play.await,
                        AfterRelay::Ready(current.into_request(), Box::new(ready)),
                    );
                }
                Err(ending) => current.refuse(&ending, network_player),
            }
        }
        stop.cancel();
        (play.await, AfterRelay::Nothing)
    }
}
