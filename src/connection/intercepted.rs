//! Logins on servers of the intercepted modes: who the player is, a place, a
//! backend, the game.

use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::debug;

use super::client;
use super::login::rewritten_host;
use super::opening::{First, Opening};
use super::report::{Ending, Refusal, Report, Session};
use super::state::{Origin, Player};
use crate::config::model::{IdentityForwarding, Intercepted, InterceptedMode, Relay, ServerKind};
use crate::forward::Counters;
use crate::intercept::{
    self, ClientSettings, Dialled, Failure, Lost, Newcomer, Playing, Proved, Rules,
};
use crate::limit::Slot;
use crate::manifest::Hook;
use crate::protocol::packet::Version;
use crate::proxy::Proxy;
use crate::snapshot::Server;

/// Read by a player who is logged in already.
const DUPLICATE_TEXT: &str = "You are logged in to this server already.";
/// Read by a player whose place another login takes.
const REPLACED_TEXT: &str = "You logged in from another place.";
/// Read by players when the proxy ends.
const STOPPED_TEXT: &str = "The proxy is closing.";

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
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    pub(super) place: Slot,
}

/// A player in the game, with everything that his session holds.
pub(super) struct Bridged {
    playing: Playing,
    server: Arc<Server>,
    place: intercept::Place,
    slot: Slot,
    connection: Slot,
}

impl Applicant {
    /// Brings the player into the game.
    pub(super) async fn join(self, proxy: &Proxy, report: &mut Report) -> Result<Bridged, Ending> {
        let config = Arc::clone(&self.server.config);
        let ServerKind::Intercepted(intercepted) = &config.kind else {
            return Err(Ending::Stopped);
        };
        let Some(version) = Version::of(self.opening.protocol()) else {
            return Err(self.refuse_version().await);
        };
        let is_full = config
            .max_players
            .is_some_and(|max| self.server.state.players.taken() >= max.get());
        if is_full {
            // Nobody has to prove anything to a server without a place.
            let text = config.full_message.clone();
            return Err(self.refuse(Refusal::ServerFull, &text).await);
        }

        let Self {
            client,
            origin,
            opening,
            server,
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
            Err(refused) => return Err(end(refused.0, refused.1, &config.disconnect_message).await),
        };
        report.player = Some(proved.profile.name.clone());
        if intercepted.mode == InterceptedMode::ClientOnly
            && let Err(denied) = ask_login_decide(&server, &proved, report).await
        {
            return Err(deny(proved, denied).await);
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
            return Err(refuse(proved, Refusal::DuplicateLogin, DUPLICATE_TEXT).await);
        };
        let Some(slot) = super::state::take_place(&server) else {
            drop(place);
            return Err(refuse(proved, Refusal::ServerFull, &config.full_message).await);
        };
        report.session_opened();
        let rewritten = rewrite(&server, &opening, report);
        let host = match rewritten {
            Ok(host) => host,
            Err(denied) => {
                drop((slot, place));
                return Err(deny(proved, denied).await);
            }
        };

        let dialled = tokio::select! {
            dialled = proxy.upstream.connect(&config.addresses, config.timeouts.connect, &[]) => dialled,
            () = client::departure(proved.leg.stream()) => return Err(Ending::ClientLeft),
        };
        let connected = match dialled {
            Ok(connected) => connected,
            Err(error) => {
                drop((slot, place));
                say(proved.leg.refuse(&config.disconnect_message)).await;
                return Err(Ending::Unreachable(error));
            }
        };
        let counters = Arc::new(Counters::default());
        report.session = Some(Session {
            backend: connected.address.clone(),
            relay: Relay::Copy,
            counters: Arc::clone(&counters),
        });
        report.session_connected();

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
        let settings = settings(intercepted, proxy);
        let joined = tokio::select! {
            joined = intercept::join(proved, dialled, settings, counters) => joined,
            () = place.replaced().cancelled() => return Err(Ending::Stopped),
        };
        match joined {
            Ok(playing) => Ok(Bridged {
                playing,
                server,
                place,
                slot,
                connection,
            }),
            Err(lost) => {
                // The places are free while the player reads.
                drop((slot, place));
                Err(lose(lost, &config.disconnect_message).await)
            }
        }
    }

    async fn refuse_version(self) -> Ending {
        let (refusal, text) = match &self.opening.first {
            First::Handshake(_) => (Refusal::UnknownVersion, intercept::unknown_version_text()),
            First::LegacyPing(_) | First::LegacyLogin(_) => (
                Refusal::UnknownVersion,
                intercept::OLD_VERSION_TEXT.to_owned(),
            ),
        };
        self.refuse(refusal, &text).await
    }

    async fn refuse(self, refusal: Refusal, text: &str) -> Ending {
        super::state::refuse(self.client, &self.opening, refusal, Some(text)).await
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
    report: &Report,
) -> Result<(), crate::plugin::Refusal> {
    if !server.hooks.has(Hook::LoginDecide) {
        return Ok(());
    }
    let player = Player {
        name: proved.profile.name.clone(),
        uuid: Some(proved.profile.uuid),
    };
    report.ask_login_decide(&server.hooks, &player).await
}

fn rewrite(
    server: &Server,
    opening: &Opening,
    report: &Report,
) -> Result<Option<String>, crate::plugin::Refusal> {
    if !server.hooks.has(Hook::HandshakeRewrite) {
        return Ok(None);
    }
    report.ask_handshake_rewrite(server, opening)
}

async fn say((stream, bytes): (TcpStream, bytes::BytesMut)) {
    client::send_off(stream, &bytes).await;
}

async fn refuse(proved: Proved, refusal: Refusal, text: &str) -> Ending {
    say(proved.leg.refuse(text)).await;
    Ending::Refused(refusal)
}

async fn deny(proved: Proved, denied: crate::plugin::Refusal) -> Ending {
    if let Some(text) = &denied.text {
        say(proved.leg.refuse(text)).await;
    }
    Ending::Denied(denied)
}

/// Ends a login with the text of its failure.
async fn end(failure: Failure, leg: intercept::LoginLeg, otherwise: &str) -> Ending {
    if !matches!(failure, Failure::ClientLeft) {
        say(leg.refuse(failure.text().unwrap_or(otherwise))).await;
    }
    Ending::Intercepted(failure)
}

async fn lose(lost: Lost, otherwise: &str) -> Ending {
    match lost {
        Lost::Login(refused) => end(refused.0, refused.1, otherwise).await,
        Lost::Later(failure, later) => {
            if !matches!(failure, Failure::ClientLeft) {
                say(later.refuse(failure.text().unwrap_or(otherwise))).await;
            }
            Ending::Intercepted(failure)
        }
    }
}

impl Bridged {
    /// Relays until the session ends, and tells a client that is left why.
    pub(super) async fn play(self, proxy: &Proxy) -> Ending {
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
        // The places are free while the player reads.
        drop((place, slot));
        let text = match end {
            crate::forward::End::Stopped if replaced.is_cancelled() => REPLACED_TEXT,
            crate::forward::End::Stopped => STOPPED_TEXT,
            _ => &server.config.disconnect_message,
        };
        let is_client_left = end.side() == Some(crate::forward::Side::Client);
        if !is_client_left && let Some((stream, bytes)) = ended.refuse(text) {
            client::send_off(stream, &bytes).await;
        }
        drop(connection);
        Ending::Relayed(outcome)
    }
}
