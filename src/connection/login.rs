//! Logins: a place on the server, a backend, the replay, the relay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::info;

use super::client::{self, Broken, Packet};
use super::guard::{self, Dialect, Watched};
use super::hooks::deny;
use super::opening::{First, Opening};
use super::report::{Ending, Refusal, Report, Session};
use super::state::{self, Admitted, Claimed, Joined, PROXY_FULL_TEXT, Player, Routed};
use crate::config::model::{
    BackendAddress, DomainRewrite, Forwarding, ForwardingMode, HostForwarding, HostTail,
    ServerConfig, ServerKind,
};
use crate::forward::{Counters, Direction, End, Forwarder, Limits, Session as Relayed};
use crate::protocol::login::{LOGIN_START_ID, LoginStart, login_start_bytes_max, offline_uuid};
use crate::proxy::Proxy;

/// Read by a player on a server whose mode cannot run logins yet.
const MODE_NOT_BUILT_TEXT: &str =
    "This server's proxy mode cannot be joined yet. Please tell its operator.";
/// Read by a player whose `server_only` backend does not authenticate.
const NOT_AUTHENTICATED_TEXT: &str =
    "This server does not verify its players, so the proxy did not let you in.";

impl Routed {
    /// Reads who the client claims to be, and takes a place on the proxy.
    pub(super) async fn claim(
        mut self,
        proxy: &Proxy,
        report: &mut Report,
    ) -> Result<Claimed, Ending> {
        let (player, login_start) = match &self.opening.first {
            First::Handshake(handshake) => {
                let protocol = handshake.protocol;
                let packet = self.client.packet(login_start_bytes_max(protocol)).await;
                let packet = packet.map_err(Ending::Broken)?;
                let login = login_start(protocol, &packet).map_err(Ending::Broken)?;
                (
                    Player {
                        name: login.name,
                        uuid: login.uuid,
                    },
                    packet.wire,
                )
            }
            First::LegacyLogin(login) => (
                Player {
                    name: login.name.clone(),
                    uuid: None,
                },
                Bytes::new(),
            ),
            First::LegacyPing(_) => {
                return Err(Ending::Broken(Broken::Packet(
                    "a ping is no login".to_owned(),
                )));
            }
        };
        report.player = Some(player.name.clone());
        let Some(place) = self.take_connection(proxy) else {
            return Err(self.refuse(Refusal::ProxyFull, PROXY_FULL_TEXT).await);
        };
        Ok(Claimed {
            routed: self,
            player,
            login_start,
            place,
        })
    }
}

impl Claimed {
    /// Asks plugins, and takes a place on the server.
    pub(super) async fn admit(self, report: &mut Report) -> Result<Admitted, Ending> {
        let Self {
            routed,
            player,
            login_start,
            place,
        } = self;
        // An unknown domain has been refused while routing.
        let Some(server) = routed.server.clone() else {
            return Err(Ending::Refused(Refusal::UnknownDomain));
        };
        let (routed, server) = routed.gates(server, &player, report).await?;
        if matches!(server.config.kind, ServerKind::Intercepted(_)) {
            return Err(routed
                .refuse(Refusal::ModeNotBuilt, MODE_NOT_BUILT_TEXT)
                .await);
        }
        let Some(slot) = state::take_place(&server) else {
            return Err(routed
                .refuse(Refusal::ServerFull, &server.config.full_message)
                .await);
        };
        report.session_opened();
        let host = match routed.rewrite(&server, report) {
            Ok(host) => host,
            Err(denied) => {
                drop(slot);
                return Err(deny(routed.client, &routed.opening, denied).await);
            }
        };
        let Routed {
            client,
            origin,
            opening,
            ..
        } = routed;
        Ok(Admitted {
            client,
            origin,
            opening,
            server,
            login_start,
            player,
            host,
            place,
            slot,
        })
    }
}

impl Admitted {
    /// Connects to a backend and sends it everything that the client has sent.
    pub(super) async fn join(self, proxy: &Proxy, report: &mut Report) -> Result<Joined, Ending> {
        let config = Arc::clone(&self.server.config);
        let ServerKind::Forwarding(forwarding) = &config.kind else {
            return Err(self
                .refuse(Refusal::ModeNotBuilt, MODE_NOT_BUILT_TEXT)
                .await);
        };
        let dialled = tokio::select! {
            dialled = proxy.upstream.connect(&config) => dialled,
            () = client::departure(self.client.stream()) => return Err(Ending::ClientLeft),
        };
        let connected = match dialled {
            Ok(connected) => connected,
            Err(error) => {
                // The place is free while the player reads.
                drop(self.slot);
                let text = self.opening.refusal(&config.disconnect_message);
                self.client.send_off(&text).await;
                return Err(Ending::Unreachable(error));
            }
        };
        let counters = Arc::new(Counters::default());
        report.session = Some(Session {
            backend: connected.address.clone(),
            relay: forwarding.relay,
            counters: Arc::clone(&counters),
        });
        report.session_connected();

        let header = config
            .send_proxy_protocol
            .map(|version| self.origin.header(version, self.client.stream()))
            .transpose()
            .map_err(Broken::Io)?
            .unwrap_or_default();
        let host_field = self.host_field_for(&config, forwarding, &connected.address);
        self.report_dropped_tail(&config, forwarding);
        let first = self.opening.with_host(&host_field);
        let Self {
            client,
            opening,
            server,
            login_start,
            place,
            slot,
            ..
        } = self;
        let (mut client, pipelined) = client.into_parts();
        let mut backend = connected.stream;

        let replay = [&header, first.as_ref(), &login_start, &pipelined].concat();
        let begun = async {
            let sent = backend.write_all(&replay).await;
            sent.map_err(Ending::BackendFailed)?;
            counters.add(Direction::Serverbound, (replay.len() - header.len()) as u64);
            if forwarding.mode == (ForwardingMode::ServerOnly { auth_guard: true }) {
                // In a box: its buffers are room that other modes need not carry about.
                Box::pin(promise_kept(
                    &mut client,
                    &mut backend,
                    opening.dialect(),
                    &counters,
                ))
                .await?;
            }
            Ok(())
        };
        if let Err(ending) = begun.await {
            // The place is free while the player reads.
            drop((backend, slot));
            let text = match &ending {
                // There is nobody to read it.
                Ending::ClientLeft => return Err(ending),
                Ending::NotAuthenticated(_) => NOT_AUTHENTICATED_TEXT,
                _ => &config.disconnect_message,
            };
            client::send_off(client, &opening.refusal(text)).await;
            return Err(ending);
        }
        let relay = forwarding.relay;
        Ok(Joined {
            client,
            backend,
            server,
            counters,
            relay,
            _place: place,
            _slot: slot,
        })
    }

    /// The host field that the backend shall see.
    fn host_field_for(
        &self,
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
    ) -> String {
        let chosen = self.host.as_deref();
        let rewritten = rewritten_host(config, &self.opening, Some(address), chosen);
        match &forwarding.identity {
            None => rewritten,
            Some(identity) => self.identify(identity, &rewritten),
        }
    }

    /// Says once for each server that a client's own tail was dropped, and
    /// which key decides that. What it says is not shown: it may be a secret
    /// between the client and the backend.
    fn report_dropped_tail(&self, config: &ServerConfig, forwarding: &Forwarding) {
        let tail = self.opening.host.other_tail();
        if tail.trim_matches('\0').is_empty() {
            return;
        }
        let (key, advice) = match (&forwarding.identity, config.host_tail) {
            (Some(_), _) => (
                "forwarding_mode",
                "the client's tail of the host field (as Geyser and other proxies send it) was \
                 dropped: `forwarding_mode` puts the proxy's own in its place",
            ),
            (None, HostTail::Drop) => (
                "host_tail",
                "the client's tail of the host field (as Geyser and other proxies send it) was \
                 dropped; `host_tail = \"keep\"` forwards it, from every client",
            ),
            (None, HostTail::Keep) => return,
        };
        let reported = &self.server.state.tail_reported;
        if !reported.swap(true, Ordering::Relaxed) {
            info!(
                server = config.id,
                client = %self.origin.client,
                key,
                bytes = tail.len(),
                "{advice}"
            );
        }
    }

    /// BungeeCord's host field: host, client address, UUID and properties,
    /// with NUL between. The UUID is what the client claims; nobody has proved it.
    fn identify(&self, identity: &HostForwarding, host_field: &str) -> String {
        // The backend splits at NUL, so a mod loader's marker travels as a
        // property instead, with \u{1} for NUL (BungeeCord's `extraData`).
        let markers = self.opening.host.markers().replace('\0', "\u{1}");
        let host = host_field.split('\0').next().unwrap_or_default();
        let uuid = self
            .player
            .uuid
            .unwrap_or_else(|| offline_uuid(&self.player.name));
        let uuid: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();

        let mut properties = Vec::new();
        if !markers.is_empty() {
            properties.push(property("extraData", &markers));
        }
        if let HostForwarding::BungeeGuard(token) = identity {
            properties.push(property("bungeeguard-token", token.reveal()));
        }
        let mut field = format!("{host}\0{}\0{uuid}", self.origin.client.ip());
        if !properties.is_empty() {
            field.push('\0');
            field.push_str(&serde_json::Value::from(properties).to_string());
        }
        field
    }

    async fn refuse(self, refusal: Refusal, text: &str) -> Ending {
        state::refuse(self.client, &self.opening, refusal, Some(text)).await
    }
}

/// Whether a `server_only` backend has shown that it authenticates.
async fn promise_kept(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    dialect: Dialect,
    counters: &Counters,
) -> Result<(), Ending> {
    match guard::watch(client, backend, dialect, counters).await {
        Ok(Watched::Good) => Ok(()),
        Ok(Watched::ClientLeft) => Err(Ending::ClientLeft),
        Ok(Watched::Broken(promise)) => Err(Ending::NotAuthenticated(promise)),
        Err(error) => Err(Ending::BackendFailed(error)),
    }
}

fn property(name: &str, value: &str) -> serde_json::Value {
    serde_json::json!({ "name": name, "value": value, "signature": "" })
}

/// The host field that the backend of `config` at `address` shall see, unless a
/// plugin has `chosen` another. Status pings and logins both come here.
pub(super) fn rewritten_host(
    config: &ServerConfig,
    opening: &Opening,
    address: Option<&BackendAddress>,
    chosen: Option<&str>,
) -> String {
    let keep_tail = config.host_tail == HostTail::Keep;
    if chosen.is_some() {
        return opening.host.rebuild(chosen, keep_tail);
    }
    match &config.domain_rewrite {
        DomainRewrite::None => opening.host.rebuild(None, keep_tail),
        DomainRewrite::Explicit(host) => opening.host.rebuild(Some(host), keep_tail),
        DomainRewrite::FromBackend => {
            let host = address
                .map(|address| address.host.to_string())
                .unwrap_or_default();
            opening.host.rebuild(Some(&host), keep_tail)
        }
    }
}

/// Reads the packet that follows the handshake of a login.
fn login_start(protocol: i32, packet: &Packet) -> Result<LoginStart, Broken> {
    if packet.id != LOGIN_START_ID {
        return Err(Broken::Packet(format!(
            "packet {:#04x} instead of a login start",
            packet.id
        )));
    }
    LoginStart::parse(protocol, &packet.body).map_err(|error| Broken::Packet(error.to_string()))
}

impl Joined {
    /// Moves bytes until the session has ended.
    ///
    /// A forwarding session begins its relay here; this is also the place where
    /// an intercepted one begins its bridge.
    pub(super) async fn relay(self, proxy: &Proxy) -> End {
        let forwarder = proxy.forwarders.select(self.relay);
        let session = Relayed {
            client: self.client,
            backend: self.backend,
            keepalive: proxy.snapshot().proxy.keepalive,
            limits: Limits::from(&self.server.config.timeouts),
            counters: self.counters,
            stop: proxy.shutdown.stop.child_token(),
        };
        forwarder.forward(session).await.end
    }
}
