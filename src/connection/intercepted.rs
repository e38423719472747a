//! Logins on servers of the intercepted modes: who the player is, a place, a
//! backend, the game.

use std::sync::Arc;

use tracing::debug;

use super::client::{self, Reader};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Origin, Player, SessionFacts};
use super::in_game::Stay;
use super::opening::{Dialect, Opening};
use super::sender::rewritten_host;
use crate::close::left_by_peer;
use crate::config::model::{
    BackendAddress, DuplicateLogin, IdentityForwarding, Intercepted, InterceptedMode, Relay,
    ServerConfig,
};
use crate::forward::{Counters, End};
use crate::intercept::{
    self, Answering, ClientSettings, Dialled, Failure, Lost, Newcomer, Playing, Proved, Rules,
};
use crate::limit::Slot;
use crate::plugin;
use crate::protocol::packet::Version;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::upstream::{DROPPED_MAX, Dropped};

/// How long bytes may wait at most for a client or backend that does not read;
/// `timeouts.write` can only shorten it. Without an end a session would hold
/// what it has read for ever.
const WRITE_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A client that wants to log in on an intercepted server.
pub(super) struct Applicant {
    pub(super) client: client::Client,
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    pub(super) server: Arc<Server>,
    /// The server that the client has asked for, if `route.select` has chosen another
    /// and `login.decide` of that one waits for what is proved.
    pub(super) moved_from: Option<Arc<Server>>,
    pub(super) intercepted: Intercepted,
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    pub(super) place: Slot,
}

/// A player in the game, with everything that his session holds.
pub(super) struct BridgeSession {
    playing: Playing,
    /// What plugins have seen of the player, where they are concerned.
    stay: Option<Box<Stay>>,
    server: Arc<Server>,
    place: intercept::Place,
    slot: Slot,
    connection: Slot,
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
        let is_full = config
            .max_players
            .is_some_and(|max| self.server.state.players.taken() >= max.get());
        // One of the places may be this player's own, which he replaces.
        let scope = self.intercepted.network.as_deref().unwrap_or(&config.id);
        let may_replace =
            || login.duplicate_login == DuplicateLogin::Replace || proxy.roster.has_leaving(scope);
        if is_full && !may_replace() {
            // Nobody has to prove anything to a server without a place.
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
        if intercepted.mode == InterceptedMode::ClientOnly
            && let Err(ending) = ask_login_decide(&server, moved_from, &proved, facts).await
        {
            return Err(end(proved, ending, connection));
        }

        let unproved_name = match intercepted.mode {
            InterceptedMode::Offline => Some(proved.profile.name.clone()),
            InterceptedMode::ClientOnly => None,
        };
        let scope = intercepted.network.as_deref().unwrap_or(&config.id);
        let entered = proxy.roster.enter(
            scope,
            proved.profile.uuid,
            unproved_name.as_deref(),
            login.duplicate_login,
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

        if let Err(failure) = intercept::check_version(intercepted.identity.as_ref(), version) {
            return Err(end(proved, Ending::Intercepted(failure), connection));
        }
        // Plugins know the player as he is, also where his backend does not.
        let profile = proved.profile.clone();
        proved.profile.uuid = intercept::uuid_at(
            intercepted.identity.as_ref(),
            proved.profile.uuid,
            &proved.profile.name,
        );
        let asker = Asker {
            config: &config,
            intercepted: &intercepted,
            origin: &origin,
            opening: &opening,
            host: host.as_deref(),
        };
        let replaced = place.replaced().clone();
        let answered = tokio::select! {
            answered = asker.reach(&proved, proxy, facts) => answered,
            () = left_by_peer(proved.leg.stream()) => Err(Ending::ClientLeft),
            () = replaced.cancelled() => Err(Ending::Intercepted(Failure::Replaced)),
        };
        let (backend, counters) = match answered {
            Ok(answered) => answered,
            Err(Ending::ClientLeft) => return Err(Ending::ClientLeft.into()),
            Err(ending) => return Err(end(proved, ending, connection)),
        };
        place.begin_session(Arc::clone(&counters));
        let settings = settings(&intercepted, proxy);
        let is_proved = settings.is_authenticated;
        let joined = intercept::join(proved, backend, settings, counters, &replaced).await;
        match joined {
            Ok(playing) => Ok(BridgeSession {
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
            }),
            // The places on the server are free before the player reads.
            Err(lost) => Err(lose(*lost, connection)),
        }
    }

    /// Ends the connection before the login; the client may read why.
    fn end(self, ending: impl Into<Ending>) -> Ended {
        let reader = self.client.into_reader(&self.opening);
        Ended::new(ending, reader).holding_connection(self.place)
    }
}

/// A login that looks for a backend.
struct Asker<'a> {
    config: &'a ServerConfig,
    intercepted: &'a Intercepted,
    origin: &'a Origin,
    opening: &'a Opening,
    /// The host that a plugin has chosen for the backend to see.
    host: Option<&'a str>,
}

impl Asker<'_> {
    /// Connects to the first backend that says something once it has read who
    /// comes: until then another can take its place.
    async fn reach(
        &self,
        proved: &Proved,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<(Answering, Arc<Counters>), Ending> {
        let mut dropped = Vec::new();
        loop {
            let (addresses, bound) = (&self.config.addresses, self.config.timeouts.connect);
            let connected = proxy.upstream.connect(addresses, bound, &dropped).await;
            let connected = connected.map_err(Ending::Unreachable)?;
            let counters = Arc::new(Counters::default());
            facts.session = Some(SessionFacts {
                backend: connected.address.clone(),
                relay: Relay::Copy,
                counters: Arc::clone(&counters),
            });
            facts.session_connected();
            let dialled = Dialled {
                opening: self.first_bytes(proved, &connected.address)?,
                stream: connected.stream,
                identity: self.intercepted.identity.clone(),
                address: self.origin.client.ip(),
                server: self.config.id.clone(),
            };
            match dialled.greet(proved).await {
                Ok(answering) => return Ok((answering, counters)),
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

    /// A PROXY header, and the handshake.
    fn first_bytes(&self, proved: &Proved, address: &BackendAddress) -> Result<Vec<u8>, Ending> {
        let header = self
            .config
            .send_proxy_protocol
            .map(|version| self.origin.header(version, proved.leg.stream()))
            .transpose()
            .map_err(client::Broken::Io)?;
        let host = rewritten_host(self.config, self.opening, Some(address), self.host);
        let host_field = match &self.intercepted.identity {
            Some(IdentityForwarding::Host(forwarding)) => intercept::host_field(
                &host,
                &self.opening.host.markers(),
                self.origin.client.ip(),
                proved.profile.uuid,
                Some(&proved.profile.properties),
                forwarding,
            ),
            Some(IdentityForwarding::Velocity(_)) | None => host,
        };
        let mut first = header.unwrap_or_default();
        first.extend_from_slice(&self.opening.with_host(&host_field));
        Ok(first)
    }
}

fn settings(intercepted: &Intercepted, proxy: &Proxy) -> ClientSettings {
    ClientSettings {
        compression: intercepted.compression,
        is_authenticated: intercepted.mode == InterceptedMode::ClientOnly,
        session: proxy.session_id,
    }
}

/// Asks `login.decide` about a player whose name and id are proved: the plugins of
/// the server that was asked for, then those that only the chosen one has.
async fn ask_login_decide(
    server: &Server,
    moved_from: Option<Arc<Server>>,
    proved: &Proved,
    facts: &Facts,
) -> Result<(), Ending> {
    let player = plugin::Player {
        name: &proved.profile.name,
        uuid: Some(u128::from_be_bytes(proved.profile.uuid)),
        is_proved: true,
    };
    let client = facts.for_plugins();
    let decide = async {
        let Some(first) = moved_from else {
            return server.hooks.login_decide(&client, &player).await;
        };
        first.hooks.login_decide(&client, &player).await?;
        let others = server.hooks.not_in(&first.hooks);
        others.login_decide(&client, &player).await
    };
    Ok(while_there(proved, decide).await??)
}

/// The output of a future, unless the player leaves before.
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

/// Ends a session that has not come to play.
fn lose(lost: Lost, connection: Slot) -> Ended {
    let reader = Reader::Intercepted(lost.client);
    Ended::new(Ending::Intercepted(lost.failure), Some(reader)).holding_connection(connection)
}

impl BridgeSession {
    /// Relays until the session ends. A client that is left may read why.
    pub(super) async fn run(self, proxy: &Proxy) -> Ended {
        let Self {
            playing,
            stay,
            server,
            place,
            slot,
            connection,
        } = self;
        let mut limits = server.config.timeouts.session;
        limits.write = Some(limits.write.map_or(WRITE_WAIT, |wait| wait.min(WRITE_WAIT)));
        let stop = proxy.shutdown.stop.child_token();
        let replaced = place.replaced().clone();
        let rules = Rules {
            keepalive: proxy.snapshot().proxy.keepalive,
            limits,
            stop: stop.clone(),
            outbox: stay.as_ref().map(|stay| Arc::clone(stay.outbox())),
        };
        let play = playing.play(&proxy.forwarders, rules);
        tokio::pin!(play);
        let kicked = async {
            match &stay {
                Some(stay) => stay.kicked().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = &mut play => ended,
            () = replaced.cancelled() => {
                stop.cancel();
                play.await
            }
            () = kicked => {
                stop.cancel();
                play.await
            }
        };
        let kick = stay.as_ref().and_then(|stay| stay.kick().cloned());
        let outcome = ended.outcome;
        let end = outcome.end;
        debug!(end = %end, "an intercepted session has ended");
        let ending = match (end, ended.fault(), kick) {
            (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
            (End::Stopped, None, _) if replaced.is_cancelled() => Ending::Replaced(outcome),
            (End::Stopped, None, Some(kick)) => Ending::Kicked(outcome, kick),
            (_, None, _) => Ending::Relayed(outcome),
        };
        if let Some(stay) = stay {
            (*stay).end(ending.name());
        }
        // The places on the server are free before the player reads.
        // The slot is first: whoever waits for the other place wants one, too.
        drop((slot, place));
        let reader = ended.into_reader().map(Reader::Intercepted);
        Ended::new(ending, reader).holding_connection(connection)
    }
}
