//! The login at a backend: the player's identity, and the questions that the
//! backend has for the client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::failure::Failure;
use super::identity::{ChatKey, VELOCITY_CHANNEL, velocity_answer};
use super::login::Proved;
use super::settings::{IdentityForwarding, Secret};
use super::wire::{Packet, Wire, WireError};
use crate::protocol::codec::{CLIENTBOUND_PACKET_BYTES_MAX, Format};
use crate::protocol::login::offline_uuid;
use crate::protocol::packet::login::{self as packets, PluginRequest, parse_plugin_response};
use crate::protocol::packet::{Clientbound, Serverbound, State};
use crate::protocol::read::Cursor;
use crate::protocol::version::V1_13;

/// How long a backend may take from the dial to the join game.
pub(super) const JOIN_WAIT: Duration = Duration::from_secs(30);
/// Questions of a backend that the client has not answered.
const QUESTIONS_MAX: usize = 1024;
/// The bytes that they may have together (4 MiB).
const QUESTIONS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most characters of a cookie's name (the game).
const COOKIE_NAME_CHARS_MAX: usize = 32_767;

/// A backend that was dialled, and what it is told first.
pub(crate) struct Dialled {
    pub(crate) stream: TcpStream,
    /// A PROXY header, and the handshake as a frame.
    pub(crate) opening: Vec<u8>,
    /// How it learns who the player is.
    pub(crate) identity: Option<IdentityForwarding>,
    /// The player's address.
    pub(crate) address: IpAddr,
    /// Its server, for the log.
    pub(crate) server: String,
}

/// A backend that has let the player in.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) wire: Wire,
    /// Until when the player has to be in the game.
    pub(super) until: Instant,
}

/// The player id that the backend uses for this player: without forwarding it
/// knows nothing but the name.
pub(crate) fn uuid_at(
    identity: Option<&IdentityForwarding>,
    proved: [u8; 16],
    name: &str,
) -> [u8; 16] {
    match identity {
        Some(_) => proved,
        None => offline_uuid(name),
    }
}

impl Dialled {
    /// Logs the player in. What the backend asks meanwhile is answered, or
    /// passed on to the client, which is still in the login state.
    ///
    /// # Errors
    ///
    /// Whatever keeps the player out. The client can be told in its login state.
    pub(super) async fn log_in(self, player: &mut Proved) -> Result<LoggedIn, Failure> {
        let version = player.leg.version;
        if matches!(self.identity, Some(IdentityForwarding::Velocity(_)))
            && version.protocol() < V1_13
        {
            return Err(Failure::VersionWithoutForwarding);
        }
        let until = Instant::now() + JOIN_WAIT;
        let mut wire = Wire::new(self.stream, BytesMut::new(), CLIENTBOUND_PACKET_BYTES_MAX);
        wire.put_raw(&self.opening);
        // A key of 1.19.1 names its holder: a backend that knows the player under
        // another id would refuse it.
        let uuid = player.profile.uuid;
        let is_for = |key: &&ChatKey| key.holder.is_none_or(|holder| holder == uuid);
        let key = player.key.as_ref().filter(is_for).map(|key| &key.bytes[..]);
        let profile = &player.profile;
        let start = packets::login_start(version, &profile.name, profile.uuid, key);
        wire.put(&start).map_err(Failure::backend)?;
        let velocity = match &self.identity {
            Some(IdentityForwarding::Velocity(secret)) => Some(secret.clone()),
            _ => None,
        };
        let login = Login {
            wire,
            velocity,
            was_asked: false,
            address: self.address,
            server: self.server,
            questions: Questions::default(),
        };
        timeout_at(until, login.run(player))
            .await
            .map_err(|_| Failure::BackendTooSlow)?
            .map(|wire| LoggedIn { wire, until })
    }
}

/// A login that runs.
struct Login {
    wire: Wire,
    velocity: Option<Secret>,
    /// Whether the backend has asked for the signed identity.
    was_asked: bool,
    address: IpAddr,
    server: String,
    questions: Questions,
}

/// What the backend has asked the client.
#[derive(Default)]
struct Questions {
    /// By message id: the length of the question.
    plugin: HashMap<i32, usize>,
    bytes: usize,
    cookies: Vec<String>,
}

impl Questions {
    fn ask(&mut self, message_id: i32, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        self.plugin.insert(message_id, bytes);
        if self.plugin.len() > QUESTIONS_MAX || self.bytes > QUESTIONS_BYTES_MAX {
            return Err(Failure::BackendFault(
                "it asks the client too much at once".to_owned(),
            ));
        }
        Ok(())
    }

    fn ask_cookie(&mut self, name: &str) -> Result<(), Failure> {
        self.cookies.push(name.to_owned());
        if self.cookies.len() > QUESTIONS_MAX {
            return Err(Failure::BackendFault(
                "it asks for too many cookies at once".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether a client's answer is one to an open question.
    fn answer(&mut self, message_id: i32) -> bool {
        let bytes = self.plugin.remove(&message_id);
        self.bytes -= bytes.unwrap_or_default();
        bytes.is_some()
    }

    fn answer_cookie(&mut self, name: &str) -> bool {
        let at = self.cookies.iter().position(|known| known == name);
        at.map(|at| self.cookies.swap_remove(at)).is_some()
    }
}

impl Login {
    async fn run(mut self, player: &mut Proved) -> Result<Wire, Failure> {
        self.wire.flush().await.map_err(Failure::backend)?;
        loop {
            tokio::select! {
                frame = self.wire.frame() => {
                    let packet = frame.and_then(|frame| frame.packet()).map_err(Failure::backend)?;
                    if self.meet_backend(&packet, player).await? {
                        return Ok(self.wire);
                    }
                }
                frame = player.leg.wire.frame() => {
                    let packet = frame.and_then(|frame| frame.packet()).map_err(Failure::client)?;
                    self.meet_client(&packet, player).await?;
                }
            }
        }
    }

    /// A packet of the backend; true when it has let the player in.
    async fn meet_backend(
        &mut self,
        packet: &Packet,
        player: &mut Proved,
    ) -> Result<bool, Failure> {
        let version = player.leg.version;
        let fault =
            |error: crate::protocol::read::ReadError| Failure::BackendFault(error.to_string());
        match packet.kind(version, State::Login) {
            Some(Clientbound::Disconnect) => {
                let mut cursor = Cursor::new(packet.fields());
                let text = cursor.string(262_144).map_err(fault)?;
                Err(Failure::BackendRefused(text.to_owned()))
            }
            Some(Clientbound::EncryptionRequest) => Err(Failure::BackendOnline),
            Some(Clientbound::SetCompression) => {
                let threshold = packets::parse_set_compression(packet.fields()).map_err(fault)?;
                self.wire.set_format(Format::announced(threshold));
                Ok(false)
            }
            Some(Clientbound::LoginPluginRequest) => {
                let request = PluginRequest::parse(packet.fields()).map_err(fault)?;
                if request.channel == VELOCITY_CHANNEL {
                    self.identify(&request, player).await?;
                } else {
                    self.questions
                        .ask(request.message_id, packet.bytes().len())?;
                    pass_to_client(packet, player).await?;
                }
                Ok(false)
            }
            Some(Clientbound::CookieRequest) => {
                let name = Cursor::new(packet.fields()).string(COOKIE_NAME_CHARS_MAX);
                self.questions.ask_cookie(name.map_err(fault)?)?;
                pass_to_client(packet, player).await?;
                Ok(false)
            }
            Some(Clientbound::LoginSuccess) => {
                if self.velocity.is_some() && !self.was_asked {
                    return Err(Failure::BackendNeverAsked);
                }
                let success = packets::parse_login_success(version, packet.fields());
                let (uuid, _) = success.map_err(fault)?;
                if uuid != player.profile.uuid {
                    warn!(
                        server = self.server,
                        player = %crate::show::Escaped(&player.profile.name),
                        told = packets::uuid_text(player.profile.uuid, true),
                        used = packets::uuid_text(uuid, true),
                        "the backend uses another player id than it was told: check its forwarding"
                    );
                }
                Ok(true)
            }
            _ => Err(Failure::backend(WireError::unexpected(
                State::Login,
                packet.id,
            ))),
        }
    }

    /// Answers a question for the signed identity. It never reaches the client,
    /// which could forge the answer.
    async fn identify(
        &mut self,
        request: &PluginRequest<'_>,
        player: &Proved,
    ) -> Result<(), Failure> {
        let version = player.leg.version;
        let answer = match &self.velocity {
            // A second answer is not given: whoever asks twice has got one.
            Some(secret) if !self.was_asked => Some(velocity_answer(
                secret,
                request.payload,
                version.protocol(),
                self.address,
                &player.profile,
                player.key.as_ref(),
            )),
            Some(_) => None,
            None => {
                warn!(
                    server = self.server,
                    "the backend asks for the signed identity of `forwarding_mode = \"velocity\"`, \
                     which this server does not have"
                );
                None
            }
        };
        self.was_asked = true;
        let response = packets::plugin_response(version, request.message_id, answer.as_deref());
        self.wire.send(&response).await.map_err(Failure::backend)
    }

    /// A packet of the client: an answer to a question of the backend.
    async fn meet_client(&mut self, packet: &Packet, player: &Proved) -> Result<(), Failure> {
        let fault = |error: crate::protocol::read::ReadError| Failure::Client(error.to_string());
        let is_answer = match packet.kind(player.leg.version, State::Login) {
            Some(Serverbound::LoginPluginResponse) => {
                let message_id = parse_plugin_response(packet.fields()).map_err(fault)?;
                self.questions.answer(message_id)
            }
            Some(Serverbound::CookieResponse) => {
                let mut cursor = Cursor::new(packet.fields());
                let name = cursor.string(COOKIE_NAME_CHARS_MAX).map_err(fault)?;
                if cursor.bool().map_err(fault)? {
                    cursor.bytes(packets::COOKIE_BYTES_MAX).map_err(fault)?;
                }
                self.questions.answer_cookie(name)
            }
            _ => false,
        };
        if !is_answer {
            return Err(Failure::client(WireError::unexpected(
                State::Login,
                packet.id,
            )));
        }
        self.wire
            .send(packet.bytes())
            .await
            .map_err(Failure::backend)
    }
}

async fn pass_to_client(packet: &Packet, player: &mut Proved) -> Result<(), Failure> {
    let sent = player.leg.wire.send(packet.bytes()).await;
    sent.map_err(Failure::client)
}
