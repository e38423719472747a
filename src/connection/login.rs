//! Logins: a place on the server, a backend, the replay, the relay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::net::TcpStream;
use tracing::info;

use super::begin::{Begin, Failed};
use super::client::{self, Broken, Packet, Reader};
use super::ending::{Ended, Ending, Refusal};
use super::intercepted::Applicant;
use super::opening::{First, Opening};
use super::report::{Report, Session};
use super::state::{self, Admission, Admitted, Claimed, Joined, Player, Routed, Sender};
use crate::config::model::{
    BackendAddress, DomainRewrite, Forwarding, HostForwarding, HostTail, ServerConfig, ServerKind,
};
use crate::forward::{Counters, Forwarder, Outcome, Session as Relayed};
use crate::protocol::login::{LOGIN_START_ID, LoginStart, login_start_bytes_max, offline_uuid};
use crate::proxy::Proxy;
use crate::snapshot::Server;
use crate::upstream::{DROPPED_MAX, Dropped, rounds};

impl Routed {
    /// Reads who the client claims to be, and takes a place on the proxy.
    pub(super) async fn claim(
        mut self,
        proxy: &Proxy,
        report: &mut Report,
    ) -> Result<Claimed, Ended> {
        let (player, login_start) = match &self.opening.first {
            First::Handshake(handshake) => {
                let protocol = handshake.protocol;
                let packet = self.client.packet(login_start_bytes_max(protocol)).await;
                let packet = packet?;
                let login = login_start(protocol, &packet)?;
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
                return Err(Broken::Packet("a ping is not a login".to_owned()).into());
            }
        };
        report.player = Some(player.name.clone());
        let Some(place) = self.take_connection(proxy) else {
            return Err(self.end(Refusal::ProxyFull));
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
    pub(super) async fn admit(self, report: &mut Report) -> Result<Admission, Ended> {
        let Self {
            routed,
            player,
            login_start,
            place,
        } = self;
        // An unknown domain has been refused while routing.
        let Some(server) = routed.server.clone() else {
            return Err(Refusal::UnknownDomain.into());
        };
        let hooked = routed.run_login_hooks(server, &player, report).await;
        let server = match hooked {
            Ok(server) => server,
            Err(ending) => return Err(routed.end(ending).holding_connection(place)),
        };
        if matches!(server.config.kind, ServerKind::Intercepted(_)) {
            return Ok(Admission::Intercepted(Box::new(Applicant {
                client: routed.client,
                origin: routed.origin,
                opening: routed.opening,
                server,
                login_start,
                player,
                place,
            })));
        }
        let Some(slot) = state::take_place(&server) else {
            return Err(routed.end(Refusal::ServerFull).holding_connection(place));
        };
        report.session_opened();
        let host = match routed.rewrite(&server, report) {
            Ok(host) => host,
            Err(denied) => return Err(routed.end(denied).holding_connection(place)),
        };
        let Routed {
            client,
            origin,
            opening,
            ..
        } = routed;
        Ok(Admission::Forwarded(Box::new(Admitted {
            client,
            sender: Sender {
                origin,
                opening,
                login_start,
                player,
                host,
            },
            server,
            place,
            slot,
        })))
    }
}

impl Admitted {
    /// Connects to a backend, sends it everything that the client has sent, and
    /// waits until it says something. One that ends the connection before that
    /// gives way to the next: the player has not seen anything yet.
    pub(super) async fn join(self, proxy: &Proxy, report: &mut Report) -> Result<Joined, Ended> {
        let config = Arc::clone(&self.server.config);
        let ServerKind::Forwarding(forwarding) = &config.kind else {
            return Err(Ending::Stopped.into());
        };
        self.sender
            .report_dropped_tail(&self.server, &config, forwarding);
        let key = self.round();
        let left = client::closed_by_client(self.client.stream());
        if proxy.upstream.rounds.is_loop(&key, left).await {
            return Err(Ending::ClientLeft.into());
        }
        let Self {
            client,
            sender,
            server,
            place,
            slot,
        } = self;
        let (mut client, mut rest) = client.into_parts();
        let joining = async {
            let mut dropped = Vec::new();
            loop {
                let dialled = tokio::select! {
                    dialled = proxy.upstream.connect(&config.addresses, config.timeouts.connect, &dropped) => dialled,
                    () = client::closed_by_client(&client) => return Err(Ending::ClientLeft),
                };
                let connected = match dialled {
                    Ok(connected) => connected,
                    Err(error) if dropped.is_empty() => return Err(Ending::Unreachable(error)),
                    Err(error) => return Err(Ending::BackendFailed(io::Error::other(error))),
                };
                let mut backend = connected.stream;
                let counters = Arc::new(Counters::default());
                report.session = Some(Session {
                    backend: connected.address.clone(),
                    relay: forwarding.relay,
                    counters: Arc::clone(&counters),
                });
                report.session_connected();
                let waiting = proxy.upstream.rounds.enter(&key);
                let mut begin = Begin {
                    client: &mut client,
                    rest: &mut rest,
                    backend: &mut backend,
                    counters: &counters,
                    keepalive: proxy.snapshot().proxy.keepalive,
                };
                let begun = begin
                    .run(&sender, &config, forwarding, &connected.address, &waiting)
                    .await;
                let begun = match begun {
                    Ok(()) => return Ok((backend, counters)),
                    Err(Failed::Doubted) => {
                        drop(backend);
                        if !waiting.came_back().await {
                            // Nothing has reached the player, so nothing is lost.
                            report.session = None;
                            continue;
                        }
                        let text = "the connection leads back to the proxy";
                        let error = io::Error::new(io::ErrorKind::InvalidInput, text);
                        Failed::Dropped(error)
                    }
                    Err(failed) => failed,
                };
                drop(waiting);
                match begun {
                    Failed::Dropped(error) if dropped.len() < DROPPED_MAX => {
                        report.session = None;
                        let dialled = connected.dialled;
                        dropped.push(Dropped { dialled, error });
                    }
                    Failed::Dropped(error) => {
                        report.session = None;
                        return Err(Ending::BackendFailed(error));
                    }
                    Failed::Ended(ending) => return Err(ending),
                    Failed::Doubted => {}
                }
            }
        };
        // Several kilobytes of state, in a box of its own until they are done.
        let (backend, counters) = match Box::pin(joining).await {
            Ok(joined) => joined,
            // The relay would have ended likewise, without a text.
            Err(ending @ Ending::Relayed(_)) => return Err(ending.into()),
            Err(ending) => {
                let reader = Reader::Plain {
                    stream: client,
                    dialect: sender.opening.dialect(),
                };
                return Err(Ended::new(ending, Some(reader)).holding_connection(place));
            }
        };
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

    /// What a login is recognised by if it comes back to the proxy.
    fn round(&self) -> rounds::Key {
        rounds::Key {
            player: self.sender.player.name.clone(),
            protocol: self.sender.opening.protocol(),
        }
    }
}

impl Sender {
    /// Everything that a backend is sent first: a PROXY header, and what the
    /// client has sent. The length of the header comes first.
    pub(super) fn replay(
        &self,
        client: &TcpStream,
        rest: &[u8],
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
    ) -> io::Result<(usize, Vec<u8>)> {
        let header = config.send_proxy_protocol;
        let header = header.map(|version| self.origin.header(version, client));
        let header = header.transpose()?.unwrap_or_default();
        let host_field = self.host_field_for(config, forwarding, address);
        let first = self.opening.with_host(&host_field);
        let replay = [&header, first.as_ref(), &self.login_start, rest].concat();
        Ok((header.len(), replay))
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
    fn report_dropped_tail(&self, server: &Server, config: &ServerConfig, forwarding: &Forwarding) {
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
        let reported = &server.state.tail_reported;
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
    pub(super) async fn relay(self, proxy: &Proxy) -> Outcome {
        let forwarder = proxy.forwarders.select(self.relay);
        let session = Relayed {
            client: self.client,
            backend: self.backend,
            keepalive: proxy.snapshot().proxy.keepalive,
            limits: self.server.config.timeouts.session,
            counters: self.counters,
            stop: proxy.shutdown.stop.child_token(),
        };
        forwarder.forward(session).await
    }
}
