//! Logins on servers of the intercepted modes, and their sessions.
//!
//! [`Applicant::join`]: authenticate the player → `login.decide` → places in the roster
//! and on the server → log in at a backend, or at another server of the network →
//! complete the client's login → play. [`BridgeSession::run`]: relay, and if the
//! backend is lost, move the player to another server of the network.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::client::{self, Reader};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Origin, Player};
use super::fallback::{self, Asker, Candidate, Chain, Traveller, can_go_on, decide};
use super::in_game::Stay;
use super::opening::{Dialect, Opening};
use crate::close::left_by_peer;
use crate::config::model::{DuplicateLogin, Intercepted, InterceptedMode, ServerConfig};
use crate::forward::memory::Memory;
use crate::forward::{Counters, End, Outcome, Side};
use crate::intercept::{
    self, ClientSettings, Failure, Left, Lost, Newcomer, NotJoined, Playing, Proved, Rules,
    Stranded,
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
pub(super) struct Applicant {
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
    playing: Playing,
    /// The stay on the server that plugins observe, if any do.
    stay: Option<Box<Stay>>,
    server: Arc<Server>,
    place: intercept::Place,
    slot: Slot,
    connection: Slot,
    /// Set if the network can move the player to another server.
    traveller: Option<Box<Traveller>>,
    /// The servers that were tried for the player.
    chain: Option<Chain>,
}

impl Applicant {
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
        let login = proxy.snapshot().proxy.login.clone();
        let scope = intercept_scope(&config);
        let duplicate_login = config
            .network()
            .and_then(|network| proxy.snapshot().proxy.network(network).duplicate_login)
            .unwrap_or(login.duplicate_login);
        let is_full = config
            .max_players
            .is_some_and(|max| self.server.state.players.taken() >= max.get());
        // One of the places may belong to an older session of this player.
        let may_replace =
            || duplicate_login == DuplicateLogin::Replace || proxy.roster.has_leaving(&scope);
        if is_full && !may_replace() {
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
        let newcomer = Newcomer {
            stream,
            input: input.as_ref().into(),
            version,
            name: player.name,
            uuid: player.uuid,
            login_start,
        };
        let proved = match intercepted.mode {
            InterceptedMode::Offline => newcomer.unproved(login.uuid_of_client),
            InterceptedMode::ClientOnly => {
                newcomer
                    .prove(&proxy.authenticator, &login, origin.client.ip())
                    .await
            }
        };
        let mut proved = match proved {
            Ok(proved) => proved,
            Err(lost) => return Err(lose(*lost, connection)),
        };
        facts.player = Some(proved.profile.name.clone());
        let is_proved = fallback::is_authenticated(&server);
        if is_proved
            && let Err(ending) = ask_login_decide(&server, moved_from, &proved, facts).await
        {
            return Err(end(proved, ending, connection));
        }

        let unproved_name = (!is_proved).then(|| proved.profile.name.clone());
        let entered = proxy.roster.enter(
            &scope,
            proved.profile.uuid,
            unproved_name.as_deref(),
            duplicate_login,
        );
        let Ok(place) = while_there(&proved, entered).await? else {
            return Err(end(proved, Refusal::DuplicateLogin, connection));
        };
        let Some(slot) = server.take_place() else {
            return Err(end(proved, Refusal::ServerFull, connection));
        };
        facts.session_opened();
        let host = match facts.chosen_host(&server, &opening) {
            Ok(host) => host,
            Err(denied) => return Err(end(proved, denied, connection)),
        };

        let origin = origin.with_destination(proved.leg.stream());
        // Plugins see the true identity, even if the backend gets another one.
        let identity = proved.identity();
        let profile = identity.profile.clone();
        proved.profile = identity.at(intercepted.identity.as_ref()).profile;
        let counters = Arc::new(Counters::default());
        let replaced = place.replaced().clone();
        let asked = async {
            let version = intercept::check_version(intercepted.identity.as_ref(), version);
            version.map_err(Ending::Intercepted)?;
            let asker = Asker {
                config: &config,
                intercepted: &intercepted,
                origin: &origin,
                opening: &opening,
                host: host.as_deref(),
            };
            asker.reach(proved.who(), &counters, proxy, facts).await
        };
        let asked = tokio::select! {
            asked = asked => asked,
            () = left_by_peer(proved.leg.stream()) => Err(Ending::ClientLeft),
            () = replaced.cancelled() => Err(Ending::Intercepted(Failure::Replaced)),
        };
        let logged_in = match asked {
            Ok(backend) => intercept::log_in(&mut proved, backend, &replaced)
                .await
                .map_err(Ending::Intercepted),
            Err(ending) => Err(ending),
        };
        let traveller = config.network().map(|network| {
            Box::new(Traveller {
                origin,
                opening,
                identity,
                version,
                is_proved,
                network: network.to_owned(),
                counters: Arc::clone(&counters),
            })
        });
        let traveller = traveller.filter(|traveller| traveller.falls_back(proxy));
        let mut candidate = Candidate {
            server,
            slot,
            notices: Vec::new(),
        };
        let logged_in = match (logged_in, &traveller) {
            (Ok(logged_in), _) => Ok(logged_in),
            (Err(ending), Some(traveller)) if can_go_on(&ending) => {
                let next = traveller.log_in_elsewhere(
                    &mut proved,
                    &mut candidate,
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
                drop((candidate, place));
                return Err(lose(*proved.leg.lose(failure), connection));
            }
            Err(ending) => return Err(end(proved, ending, connection)),
        };
        let Candidate {
            server,
            slot,
            notices,
        } = candidate;
        place.begin_session(Arc::clone(&counters));
        let settings = settings(&server, &intercepted, proxy);
        let memory = traveller.is_some().then(Memory::default);
        let joined = intercept::join(
            proved, logged_in, settings, counters, memory, notices, &replaced,
        );
        let mut chain = None;
        let (playing, server, slot) = match (joined.await, &traveller) {
            (Ok(playing), _) => (playing, server, slot),
            (Err(NotJoined::Stranded(failure, client)), Some(traveller))
                if !fallback::ends_the_player(&failure) =>
            {
                drop(slot);
                let chain = chain.insert(Chain::begin(&server));
                let arrived = traveller.fall_back(client, &server, chain, &replaced, proxy, facts);
                match Box::pin(arrived).await {
                    Ok(arrived) => (arrived.playing, arrived.server, arrived.slot),
                    Err(left) => {
                        let failure = left.failure.unwrap_or(failure);
                        return Err(lose_stranded(left.client, failure, connection));
                    }
                }
            }
            (Err(NotJoined::Stranded(failure, client)), _) => {
                return Err(lose_stranded(client, failure, connection));
            }
            // The places on the server are free before the player reads.
            (Err(NotJoined::Lost(lost)), _) => return Err(lose(*lost, connection)),
        };
        Ok(BridgeSession {
            playing,
            stay: Stay::begin(
                proxy.plugins.in_game(),
                &server,
                facts,
                version,
                profile,
                is_proved,
            ),
            server,
            place,
            slot,
            connection,
            traveller,
            chain,
        })
    }

    /// Ends the connection before the login; the client may read why.
    fn end(self, ending: impl Into<Ending>) -> Ended {
        let reader = self.client.into_reader(&self.opening);
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

/// The settings of the client's connection, which those of the first server decide.
fn settings(server: &Server, first: &Intercepted, proxy: &Proxy) -> ClientSettings {
    ClientSettings {
        compression: first.compression,
        is_authenticated: fallback::is_authenticated(server),
        session: proxy.session_id,
    }
}

/// Calls `login.decide` with the proved identity: the plugins of the server that the
/// client has asked for, then those that only the chosen server has.
async fn ask_login_decide(
    server: &Server,
    moved_from: Option<Arc<Server>>,
    proved: &Proved,
    facts: &Facts,
) -> Result<(), Ending> {
    let profile = &proved.profile;
    let decide = async {
        let Some(first) = moved_from else {
            return decide(&server.hooks, profile, true, facts).await;
        };
        decide(&first.hooks, profile, true, facts).await?;
        decide(&server.hooks.not_in(&first.hooks), profile, true, facts).await
    };
    while_there(proved, decide).await?
}

/// The output of a future, or [`Ending::ClientLeft`] if the player leaves first.
async fn while_there<T>(player: &Proved, future: impl Future<Output = T>) -> Result<T, Ending> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = left_by_peer(player.leg.stream()) => Err(Ending::ClientLeft),
    }
}

/// Ends the connection during the login; the client may read why.
fn end(proved: Proved, ending: impl Into<Ending>, connection: Slot) -> Ended {
    let reader = Reader::Intercepted(proved.leg.into_reader());
    Ended::new(ending, Some(reader)).holding_connection(connection)
}

/// Ends a session that has not reached play.
fn lose(lost: Lost, connection: Slot) -> Ended {
    let reader = Reader::Intercepted(lost.client);
    Ended::new(Ending::Intercepted(lost.failure), Some(reader)).holding_connection(connection)
}

/// As [`lose`], for a client that was waiting for another backend.
fn lose_stranded(client: Box<Stranded>, failure: Failure, connection: Slot) -> Ended {
    let reader = Reader::Intercepted(client.into_reader());
    Ended::new(Ending::Intercepted(failure), Some(reader)).holding_connection(connection)
}

impl BridgeSession {
    /// Relays until the session ends. If the backend is lost, the player is moved to
    /// another server of the network, if one takes the player. At the end the client may
    /// read why.
    pub(super) async fn run(self, proxy: &Proxy, facts: &mut Facts) -> Ended {
        let Self {
            mut playing,
            mut stay,
            mut server,
            place,
            mut slot,
            connection,
            traveller,
            mut chain,
        } = self;
        let replaced = place.replaced().clone();
        loop {
            let began = Instant::now();
            let ended = relay(playing, &server, stay.as_deref(), &replaced, proxy).await;
            let kick = stay.as_ref().and_then(|stay| stay.kick().cloned());
            let outcome = ended.outcome;
            let end = outcome.end;
            debug!(end = %end, "an intercepted session has ended");
            let mut ending = match (end, ended.fault(), kick) {
                (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
                (End::Stopped, None, _) if replaced.is_cancelled() => Ending::Replaced(outcome),
                (End::Stopped, None, Some(kick)) => Ending::Kicked(outcome, kick),
                (_, None, _) => Ending::Relayed(outcome),
            };
            if let Some(stay) = stay.take() {
                (*stay).end(ending.name());
            }
            // The places on the server are free before the player reads. The slot is
            // first, since a login that waits for the place in the roster needs a slot too.
            drop(slot);
            let left = ended.into_left();
            let reader = match (left, &traveller) {
                (Some(Left::Stranded(client)), Some(traveller))
                    if traveller.has_lost_his_backend(&outcome, proxy) =>
                {
                    let before = chain.take();
                    let chain = chain.insert(Chain::go_on(before, &server, began.elapsed()));
                    // Boxed so that an idle session does not hold the state of a move.
                    let arrived = Box::pin(
                        traveller.fall_back(client, &server, chain, &replaced, proxy, facts),
                    );
                    let arrived = tokio::select! {
                        arrived = arrived => arrived,
                        () = proxy.shutdown.stop.cancelled() => {
                            return Ending::Relayed(Outcome { end: End::Stopped, ..outcome }).into();
                        }
                    };
                    match arrived {
                        Ok(arrived) => {
                            (playing, server, slot) =
                                (arrived.playing, arrived.server, arrived.slot);
                            stay = Stay::begin(
                                proxy.plugins.in_game(),
                                &server,
                                facts,
                                traveller.version,
                                traveller.identity.profile.clone(),
                                traveller.is_proved,
                            );
                            continue;
                        }
                        Err(left) => {
                            ending = match left.failure {
                                Some(Failure::Replaced) => Ending::Replaced(outcome),
                                Some(Failure::ClientLeft) => Ending::Relayed(Outcome {
                                    end: End::Closed(Side::Client),
                                    ..outcome
                                }),
                                Some(failure) => Ending::Intercepted(failure),
                                None => ending,
                            };
                            Some(left.client.into_reader())
                        }
                    }
                }
                (Some(Left::Stranded(client)), _) => Some(client.into_reader()),
                (Some(Left::Reader(reader)), _) => Some(reader),
                (None, _) => None,
            };
            drop(place);
            let reader = reader.map(Reader::Intercepted);
            return Ended::new(ending, reader).holding_connection(connection);
        }
    }
}

/// Relays until the backend or the client ends the session, another login of the
/// player replaces it, or a plugin ends it.
async fn relay(
    playing: Playing,
    server: &Server,
    stay: Option<&Stay>,
    replaced: &CancellationToken,
    proxy: &Proxy,
) -> intercept::Ended {
    let mut limits = server.config.timeouts.session;
    limits.write = Some(limits.write.map_or(WRITE_WAIT, |wait| wait.min(WRITE_WAIT)));
    let stop = proxy.shutdown.stop.child_token();
    let rules = Rules {
        keepalive: proxy.snapshot().proxy.keepalive,
        limits,
        stop: stop.clone(),
        outbox: stay.map(|stay| Arc::clone(stay.outbox())),
    };
    let play = playing.play(&proxy.forwarders, rules);
    tokio::pin!(play);
    let kicked = async {
        match stay {
            Some(stay) => stay.kicked().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = kicked => {
            stop.cancel();
            play.await
        }
        ended = &mut play => ended,
        () = replaced.cancelled() => {
            stop.cancel();
            play.await
        }
    }
}
