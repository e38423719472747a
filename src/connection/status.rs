//! Status pings: answered from the cache, from the backend, or from a MOTD.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::client::Broken;
use super::ending::{Ending, Refusal};
use super::facts::Facts;
use super::first_bytes::rewritten_host;
use super::opening::First;
use super::route::Routed;
use crate::config::model::{BackendAddress, DomainRewrite, Motd, ServerConfig};
use crate::intercept::scope_of_network;
use crate::limit::{Busy, PendingGuard, Slot};
use crate::manifest::Hook;
use crate::player_text;
use crate::plugin::{self, HookSet};
use crate::protocol::component;
use crate::protocol::frame::{self, FRAME_BYTES_MAX, Frame};
use crate::protocol::handshake::{Handshake, HostField, Intent};
use crate::protocol::legacy::{self, LegacyPing, PingAnswer};
use crate::protocol::read::ReadError;
use crate::protocol::status::{
    self, Response, STATUS_ANSWER_BYTES_MAX, STATUS_ANSWER_FRAME_BYTES_MAX,
    STATUS_REQUEST_FRAME_BYTES_MAX, StatusPacket,
};
use crate::protocol::text;
use crate::proxy::Proxy;
use crate::proxy::snapshot::{Server, Snapshot};
use crate::status_cache::{ANY_PROTOCOL, Answer, Form, Found, Key, Marker};
use crate::telemetry::Sample;
use crate::upstream::{DROPPED_MAX, Dropped, first_byte};

/// How long a connected backend may take to answer a status request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a ping may wait for a backend in all: its turn among other
/// requests, the addresses that are dialled, the answer. Clients show a server
/// as unreachable after some ten seconds.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Packets that a client may send in the status state. Vanilla sends two.
const SERVERBOUND_PACKETS_MAX: usize = 4;

impl Routed {
    /// Answers a status ping.
    pub(super) async fn answer_status(
        self,
        pending: &PendingGuard,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<(), Ending> {
        match &self.opening.first {
            First::Handshake(handshake) => {
                let protocol = handshake.protocol;
                self.converse(protocol, pending, proxy, facts).await
            }
            First::LegacyPing(ping) => {
                let ping = ping.clone();
                self.answer_legacy(&ping, pending, proxy, facts).await
            }
            First::LegacyLogin(_) => Err(Broken::Packet("a login is not a ping".to_owned()).into()),
        }
    }

    /// The conversation of 1.7 and newer: request, answer, ping, pong.
    async fn converse(
        mut self,
        protocol: i32,
        pending: &PendingGuard,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<(), Ending> {
        let mut answered = false;
        for _ in 0..SERVERBOUND_PACKETS_MAX {
            let packet = match self.client.packet(STATUS_REQUEST_FRAME_BYTES_MAX).await {
                Ok(packet) => packet,
                // Many tools close without a ping.
                Err(Broken::Closed | Broken::Io(_)) if answered => return Ok(()),
                Err(broken) => return Err(broken.into()),
            };
            let question = Frame {
                id: packet.id,
                body: &packet.body,
                wire_bytes: packet.wire.len(),
            };
            match status::parse_question(&question)
                .map_err(|error| Broken::Packet(error.to_string()))?
            {
                StatusPacket::Request => {
                    let asked = Instant::now();
                    let turn = self.take_turn(pending, proxy)?;
                    let answer = self.answer_json(protocol, proxy, facts).await?;
                    drop(turn);
                    // The time of plugins and of the backend does not count for the deadline.
                    self.client.prolong(asked.elapsed());
                    self.client.send(&answer).await?;
                    answered = true;
                }
                StatusPacket::Ping(payload) => {
                    self.client.send(&status::ping(payload)).await?;
                    self.client.wait_for_close().await;
                    return Ok(());
                }
            }
        }
        Err(Broken::Packet("too many status requests".to_owned()).into())
    }

    /// Takes a slot among `max_connections` while a request is answered.
    /// Afterwards the client holds no slot, whether it sends more or not.
    fn take_turn<'a>(
        &self,
        pending: &'a PendingGuard,
        proxy: &Proxy,
    ) -> Result<(Slot, Busy<'a>), Ending> {
        let connection = self.take_connection(proxy);
        let connection = connection.ok_or(Ending::Refused(Refusal::ProxyFull))?;
        Ok((connection, pending.busy()))
    }

    /// The packet that answers a request.
    async fn answer_json(
        &self,
        protocol: i32,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<Bytes, plugin::Refusal> {
        let hooks = self.hooks();
        let responds = hooks.has(Hook::StatusRespond);
        let answer = self.backend_answer(Form::json(protocol), proxy, facts);
        let answer = answer.await?;
        if let Answer::Json(packet) = answer {
            if !responds {
                return Ok(packet);
            }
            let Some((frame, json)) = reread(&packet) else {
                return Ok(packet);
            };
            let changed = self.respond(hooks, true, &json.to_string(), facts).await?;
            // If no plugin changes it, the backend's text passes unchanged.
            return Ok(match changed {
                Some(changed) => status::response_with(&changed, frame.behind).into(),
                None => packet.clone(),
            });
        }
        let Fallback { motd, text } = self.fallback();
        let answer = status::from_motd(motd, protocol, text).to_string();
        let changed = if responds {
            self.respond(hooks, false, &answer, facts).await?
        } else {
            None
        };
        Ok(status::response(changed.as_deref().unwrap_or(&answer)).into())
    }

    /// The network of a server, if the players of all its servers are shown.
    fn summed_network<'s>(&self, server: &'s Server) -> Option<&'s str> {
        let network = server.config.network()?;
        let rules = self.snapshot.proxy.network(network);
        rules.sum_players.then_some(network)
    }

    /// The proxy's own answer, if no backend gives one.
    fn fallback(&self) -> Fallback<'_> {
        match &self.server {
            Some(server) => offline(server, &self.snapshot),
            None => unknown_domain(&self.snapshot),
        }
    }

    /// Clients up to 1.6 get one packet, then the connection ends.
    async fn answer_legacy(
        self,
        ping: &LegacyPing,
        pending: &PendingGuard,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<(), Ending> {
        let turn = self.take_turn(pending, proxy)?;
        let packet = self.legacy_answer(ping, proxy, facts).await?;
        drop(turn);
        self.client.close_with(&packet).await;
        Ok(())
    }

    async fn legacy_answer(
        &self,
        ping: &LegacyPing,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<Bytes, plugin::Refusal> {
        let hooks = self.hooks();
        let responds = hooks.has(Hook::StatusRespond);
        let has_motd = |server: &Arc<Server>| {
            server.config.motd.online.is_some() || self.summed_network(server).is_some()
        };
        // A MOTD or a plugin that changes the backend's answer needs one that can
        // be parsed; otherwise the answer is forwarded unchanged.
        if (responds || self.server.as_ref().is_some_and(has_motd))
            && let Answer::Json(packet) = self
                .backend_answer(Form::Json(ANY_PROTOCOL), proxy, facts)
                .await?
            && let Some((_, answer)) = reread(&packet)
        {
            let answer = self.changed(answer, true, facts).await?;
            return Ok(legacy_from_json(ping, &answer));
        }
        let form = Form::legacy(self.opening.wire.len(), ping.protocol());
        match self.backend_answer(form, proxy, facts).await? {
            Answer::Legacy(packet) => Ok(packet),
            Answer::Json(_) | Answer::Failed | Answer::NotAsked => {
                let Fallback { motd, text } = self.fallback();
                let answer = status::from_motd(motd, ANY_PROTOCOL, text);
                let answer = self.changed(answer, false, facts).await?;
                Ok(legacy_from_json(ping, &answer))
            }
        }
    }

    /// Calls `status.respond` with an answer, which is a JSON object.
    async fn respond(
        &self,
        hooks: &HookSet,
        is_online: bool,
        json: &str,
        facts: &Facts,
    ) -> Result<Option<String>, plugin::Refusal> {
        let client = facts.for_plugins();
        hooks.status_respond(&client, is_online, json).await
    }

    /// An answer after `status.respond`.
    async fn changed(
        &self,
        answer: Value,
        is_online: bool,
        facts: &Facts,
    ) -> Result<Value, plugin::Refusal> {
        let hooks = self.hooks();
        if !hooks.has(Hook::StatusRespond) {
            return Ok(answer);
        }
        let changed = self
            .respond(hooks, is_online, &answer.to_string(), facts)
            .await?;
        let parsed = changed.and_then(|changed| serde_json::from_str(&changed).ok());
        Ok(parsed.unwrap_or(answer))
    }

    /// The answer of the backend, fetched or from the cache; `None` for a host that no
    /// server claims.
    async fn backend_answer(
        &self,
        form: Form,
        proxy: &Proxy,
        facts: &Facts,
    ) -> Result<Answer, plugin::Refusal> {
        let Some(server) = &self.server else {
            return Ok(Answer::Failed);
        };
        let config = &server.config;
        let chosen = facts.chosen_host(server, &self.opening)?;
        let key = Key {
            revision: server.revision,
            form,
            host: match (&chosen, &config.domain_rewrite) {
                (Some(chosen), _) => chosen.clone(),
                (None, DomainRewrite::None) => self.opening.host.virtual_host(),
                // The key of the server itself, which has one answer.
                (None, DomainRewrite::Explicit(_) | DomainRewrite::FromBackend) => String::new(),
            },
            marker: Marker::of(&self.opening.host.markers()),
        };
        let last = match proxy.status.find(&key).await {
            Found::Answer(answer) => return Ok(answer),
            Found::Old(refresh) => Some(refresh.last.clone()),
            Found::Nothing => None,
        };
        // Boxed: only the ping that fetches pays for the large future.
        let asked = Box::pin(self.ask_backend(server, key, chosen.as_deref(), proxy));
        Ok(match (asked.await, last) {
            (Answer::NotAsked, Some(last)) => last,
            (answer, _) => answer,
        })
    }

    /// The answer of the backend, asked by this client or by another one at the
    /// same time.
    async fn ask_backend(
        &self,
        server: &Server,
        key: Key,
        chosen: Option<&str>,
        proxy: &Proxy,
    ) -> Answer {
        let until = tokio::time::Instant::now() + FETCH_TIMEOUT;
        let address = self.origin.client.ip();
        let mut _share = None;
        if proxy.is_limited(&self.snapshot, address) {
            // Entered before the shared request, so that other clients do not
            // wait for this client's other requests.
            let entered = server.state.status_shares.enter(address.into());
            let Ok(entered) = timeout_at(until, entered).await else {
                no_status(
                    server,
                    &"too many questions of one client wait for their turn",
                );
                return Answer::NotAsked;
            };
            _share = Some(entered);
        }
        let found = proxy.status.find(&key).await;
        let fetch = self.fetch_until(until, server, key.form, chosen, proxy);
        match found {
            Found::Answer(answer) => answer,
            Found::Old(refresh) => proxy.status.renew(key, refresh, fetch).await,
            Found::Nothing => proxy.status.get(key, fetch).await,
        }
    }

    /// Asks the backend, once the limit of concurrent requests permits.
    async fn fetch_until(
        &self,
        until: tokio::time::Instant,
        server: &Server,
        form: Form,
        chosen: Option<&str>,
        proxy: &Proxy,
    ) -> Answer {
        let turn = timeout_at(until, server.state.status_fetches.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            no_status(server, &"too many questions wait for their turn");
            return Answer::NotAsked;
        };
        let fetched = self.fetch(server, form, chosen, proxy);
        let error = match timeout_at(until, fetched).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        };
        no_status(server, &error);
        Answer::Failed
    }

    async fn fetch(
        &self,
        server: &Server,
        form: Form,
        chosen: Option<&str>,
        proxy: &Proxy,
    ) -> Result<Answer, io::Error> {
        let config = &server.config;
        let summed = self.summed_network(server);
        let online =
            summed.map(|network| proxy.roster.count_in(&scope_of_network(network), |_| true));
        // After a backend that ends the connection without a byte the next is
        // tried.
        let mut dropped = Vec::new();
        loop {
            let connected = proxy
                .upstream
                .connect(&config.addresses, config.timeouts.connect, &dropped)
                .await;
            let connected = connected.map_err(io::Error::other)?;
            let question = self.question(config, form, chosen, &connected.address)?;
            let mut backend = connected.stream;
            let conversation = async {
                let begun = async {
                    backend.write_all(&question).await?;
                    first_byte(&backend).await
                };
                if let Err(error) = begun.await {
                    return Err((error, true));
                }
                let answer = match form {
                    Form::Json(protocol) => {
                        let motd = config.motd.online.as_ref();
                        read_json(&mut backend, motd, online, protocol).await
                    }
                    Form::Legacy(..) => read_legacy(&mut backend).await,
                };
                answer.map_err(|error| (error, false))
            };
            let (error, is_dropped) = match timeout(ANSWER_TIMEOUT, conversation).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                    (error, false)
                }
            };
            if is_dropped && dropped.len() < DROPPED_MAX {
                let dialled = connected.dialled;
                dropped.push(Dropped { dialled, error });
                continue;
            }
            // The error names the address.
            let text = format!("{}: {error}", connected.address);
            return Err(io::Error::new(error.kind(), text));
        }
    }

    /// The bytes that ask a backend for its status.
    fn question(
        &self,
        config: &ServerConfig,
        form: Form,
        chosen: Option<&str>,
        address: &BackendAddress,
    ) -> io::Result<Vec<u8>> {
        let host = rewritten_host(config, &self.opening, Some(address), chosen);
        // The header names the client that caused the request; the answer is shared.
        let mut question = config
            .send_proxy_protocol
            .map(|version| self.origin.header(version, self.client.stream()))
            .transpose()?
            .unwrap_or_default();
        match (form, &self.opening.first) {
            (Form::Json(protocol), First::LegacyPing(_)) => {
                let handshake = Handshake {
                    protocol,
                    host: HostField::parse(""),
                    port: address.port,
                    intent: Intent::Status,
                };
                question.extend(handshake.encode_with_host(&host));
                question.extend(status::request());
            }
            (Form::Json(protocol), First::Handshake(handshake))
                if protocol != handshake.protocol =>
            {
                let anybody = Handshake {
                    protocol,
                    ..handshake.clone()
                };
                question.extend(anybody.encode_with_host(&host));
                question.extend(status::request());
            }
            (Form::Json(_), _) => {
                question.extend(self.opening.with_host(&host));
                question.extend(status::request());
            }
            (Form::Legacy(..), _) => question.extend(self.opening.with_host(&host)),
        }
        Ok(question)
    }
}

/// Reads a status response; memory grows with what arrives. If no MOTD and no number of
/// players changes it, the response passes unchanged, provided that some client can read it.
async fn read_json(
    backend: &mut TcpStream,
    motd: Option<&Motd>,
    online: Option<usize>,
    protocol: i32,
) -> io::Result<Answer> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(frame) = frame::split(&bytes, STATUS_ANSWER_FRAME_BYTES_MAX).map_err(bad)? {
            let response = Response::read(&frame).map_err(bad)?;
            let mut json = response.parse().map_err(bad)?;
            let packet = match (motd, online) {
                (None, None) => frame::write(frame.id, frame.body),
                _ => {
                    if let Some(motd) = motd {
                        status::overlay(&mut json, motd, protocol);
                    }
                    if let Some(online) = online {
                        status::set_online(&mut json, online);
                    }
                    let text = json.to_string();
                    // Raw characters that have to be escaped take up to six bytes.
                    if text.len() > STATUS_ANSWER_BYTES_MAX {
                        let max = STATUS_ANSWER_BYTES_MAX;
                        return Err(bad(ReadError::TooLong { max }));
                    }
                    status::response_with(&text, response.behind)
                }
            };
            return Ok(Answer::Json(packet.into()));
        }
        read_more(backend, &mut bytes).await?;
    }
}

/// The response in a packet that [`read_json`] has made, and its parsed text.
fn reread(packet: &[u8]) -> Option<(Response<'_>, Value)> {
    let frame = frame::split(packet, FRAME_BYTES_MAX).ok()??;
    let response = Response::read(&frame).ok()?;
    let json = response.parse().ok()?;
    Some((response, json))
}

/// Reads the packet that ends a legacy ping.
async fn read_legacy(backend: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(length) = legacy::answer_len(&bytes).map_err(bad)? {
            return Ok(Answer::Legacy(Bytes::copy_from_slice(&bytes[..length])));
        }
        read_more(backend, &mut bytes).await?;
    }
}

async fn read_more(backend: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<()> {
    bytes.reserve(4096);
    match backend.read_buf(bytes).await? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the backend closed the connection",
        )),
        _ => Ok(()),
    }
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Logs why no status could be fetched.
fn no_status(server: &Server, error: &dyn std::fmt::Display) {
    let sampler = &server.state.status_failures;
    if let Sample::Write { suppressed } = sampler.sample(Instant::now()) {
        warn!(server = server.config.id, %error, suppressed, "no status from the backend");
    }
}

/// An answer that the proxy makes itself.
struct Fallback<'a> {
    motd: &'a Motd,
    text: &'static str,
}

static NO_MOTD: Motd = Motd {
    text: None,
    favicon: None,
    version_name: None,
    max_players: None,
};

/// The answer for a server of which no backend answers.
fn offline<'a>(server: &'a Server, snapshot: &'a Snapshot) -> Fallback<'a> {
    let motd = server.config.motd.offline.as_ref();
    let motd = motd.or(snapshot.proxy.default_motd.offline.as_ref());
    Fallback {
        motd: motd.unwrap_or(&NO_MOTD),
        text: player_text::STATUS_OFFLINE,
    }
}

/// The answer for a host that no server claims.
fn unknown_domain(snapshot: &Snapshot) -> Fallback<'_> {
    let motd = snapshot.proxy.default_motd.online.as_ref();
    Fallback {
        motd: motd.unwrap_or(&NO_MOTD),
        text: player_text::STATUS_UNKNOWN_DOMAIN,
    }
}

/// The packet for a client before 1.7, with the content of a modern answer.
fn legacy_from_json(ping: &LegacyPing, answer: &Value) -> Bytes {
    let number = |path: &str| {
        answer
            .pointer(path)
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
    };
    legacy::ping_answer(
        ping,
        &PingAnswer {
            version_name: answer
                .pointer("/version/name")
                .and_then(Value::as_str)
                .unwrap_or("1.7+"),
            protocol: ping.protocol().map_or(NO_LEGACY_PROTOCOL, i32::from),
            motd: &answer
                .get("description")
                .map(|shown| text::plain(&component::for_version(shown, LEGACY_TEXT_PROTOCOL)))
                .unwrap_or_default(),
            online: number("/players/online").unwrap_or_default(),
            max: number("/players/max").unwrap_or_default(),
        },
    )
    .into()
}

/// A protocol in which all colours of texts have a `§` code (1.7.2).
const LEGACY_TEXT_PROTOCOL: i32 = 4;

/// The protocol sent to clients of 1.4 and 1.5, which do not send their own: no
/// version has it, so that they show the version's name.
const NO_LEGACY_PROTOCOL: i32 = 127;
