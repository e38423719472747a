//! Logins on servers of the intercepted modes: who the player is, a place, a
//! backend, the game.

use std::sync::Arc;

use tracing::debug;

use super::client::{self, Reader};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Origin, Player, SessionFacts};
use super::opening::{Dialect, Opening};
use super::sender::rewritten_host;
use crate::config::model::{IdentityForwarding, Intercepted, InterceptedMode, Relay};
use crate::forward::{Counters, End};
use crate::intercept::{self, ClientSettings, Dialled, Lost, Newcomer, Playing, Proved, Rules};
use crate::limit::Slot;
use crate::manifest::Hook;
use crate::protocol::packet::Version;
use crate::proxy::Proxy;
use crate::snapshot::Server;

/// How long bytes may wait for a client or backend that does not read, where
/// the server file does not say: without an end a session would hold what it
/// has read for ever.
const WRITE_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A client that wants to log in on an intercepted server.
pub(super) struct Applicant {
    pub(super) client: client::Client,
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    pub(super) server: Arc<Server>,
    pub(super) intercepted: Intercepted,
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    pub(super) place: Slot,
}

/// A player in the game, with everything that his session holds.
pub(super) struct BridgeSession {
    playing: Playing,
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
        let is_full = config
            .max_players
            .is_some_and(|max| self.server.state.players.taken() >= max.get());
        if is_full {
            // Nobody has to prove anything to a server without a place.
            return Err(self.end(Refusal::ServerFull));
        }

        let Self {
            client,
            origin,
            opening,
            server,
            intercepted,
            login_start,
            player,
            place: connection,
        } = self;
        let (stream, input) = client.into_parts();
        let login = &proxy.snapshot().proxy.login.clone();
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
                    .prove(&proxy.authenticator, login, origin.client.ip())
                    .await
            }
        };
        let mut proved = match proved {
            Ok(proved) => proved,
            Err(lost) => return Err(lose(*lost, connection)),
        };
        facts.player = Some(proved.profile.name.clone());
        if intercepted.mode == InterceptedMode::ClientOnly
            && let Err(denied) = ask_login_decide(&server, &proved, facts).await
        {
            return Err(end(proved, denied, connection));
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
        let Ok(place) = entered.await else {
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

        let dialled = tokio::select! {
            dialled = proxy.upstream.connect(&config.addresses, config.timeouts.connect, &[]) => dialled,
            () = client::closed_by_client(proved.leg.stream()) => return Err(Ending::ClientLeft.into()),
        };
        let connected = match dialled {
            Ok(connected) => connected,
            Err(error) => return Err(end(proved, Ending::Unreachable(error), connection)),
        };
        let counters = Arc::new(Counters::default());
        facts.session = Some(SessionFacts {
            backend: connected.address.clone(),
            relay: Relay::Copy,
            counters: Arc::clone(&counters),
        });
        facts.session_connected();

        proved.profile.uuid = intercept::uuid_at(
            intercepted.identity.as_ref(),
            proved.profile.uuid,
            &proved.profile.name,
        );
        let header = config
            .send_proxy_protocol
            .map(|version| origin.header(version, proved.leg.stream()))
            .transpose()
            .map_err(client::Broken::Io)?;
        let host = rewritten_host(&config, &opening, Some(&connected.address), host.as_deref());
        let host_field = match &intercepted.identity {
            Some(IdentityForwarding::Host(forwarding)) => intercept::host_field(
                &host,
                &opening.host.markers(),
                origin.client.ip(),
                proved.profile.uuid,
                &proved.profile.properties,
                forwarding,
            ),
            Some(IdentityForwarding::Velocity(_)) | None => host,
        };
        let mut first = header.unwrap_or_default();
        first.extend_from_slice(&opening.with_host(&host_field));
        let dialled = Dialled {
            stream: connected.stream,
            opening: first,
            identity: intercepted.identity.clone(),
            address: origin.client.ip(),
            server: config.id.clone(),
        };
        let settings = settings(&intercepted, proxy);
        let joined = tokio::select! {
            joined = intercept::join(proved, dialled, settings, counters) => joined,
            () = place.replaced().cancelled() => return Err(Ending::Stopped.into()),
        };
        match joined {
            Ok(playing) => Ok(BridgeSession {
                playing,
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

fn settings(intercepted: &Intercepted, proxy: &Proxy) -> ClientSettings {
    ClientSettings {
        compression_threshold: intercepted.compression_threshold,
        is_authenticated: intercepted.mode == InterceptedMode::ClientOnly,
        session: proxy.session_id,
    }
}

/// Asks `login.decide` about a player whose name and id are proved.
async fn ask_login_decide(
    server: &Server,
    proved: &Proved,
    facts: &Facts,
) -> Result<(), crate::plugin::Refusal> {
    if !server.hooks.has(Hook::LoginDecide) {
        return Ok(());
    }
    let player = Player {
        name: proved.profile.name.clone(),
        uuid: Some(proved.profile.uuid),
    };
    let hooks = &server.hooks;
    hooks
        .login_decide(&facts.for_plugins(), &player.for_plugins())
        .await
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
            server,
            place,
            slot,
            connection,
        } = self;
        let mut limits = server.config.timeouts.session;
        limits.write.get_or_insert(WRITE_WAIT);
        let stop = proxy.shutdown.stop.child_token();
        let replaced = place.replaced().clone();
        let rules = Rules {
            keepalive: proxy.snapshot().proxy.keepalive,
            limits,
            stop: stop.clone(),
        };
        let play = playing.play(&proxy.forwarders, rules);
        tokio::pin!(play);
        let ended = tokio::select! {
            ended = &mut play => ended,
            () = replaced.cancelled() => {
                stop.cancel();
                play.await
            }
        };
        let outcome = ended.outcome;
        let end = outcome.end;
        debug!(end = %end, "an intercepted session has ended");
        let ending = match end {
            End::Stopped if replaced.is_cancelled() => Ending::Replaced(outcome),
            _ => Ending::Relayed(outcome),
        };
        // The places on the server are free before the player reads.
        drop((place, slot));
        let reader = ended.into_reader().map(Reader::Intercepted);
        Ended::new(ending, reader).holding_connection(connection)
    }
}
