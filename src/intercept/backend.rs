//! The login at a backend: sends the player's identity, and passes on the requests of
//! the backend that the client has to answer.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::failure::Failure;
use super::identity::{VELOCITY_CHANNEL, Who, velocity_answer};
use super::login::LoginClient;
use super::player_handle::PlayerHandle;
use super::settings::{IdentityForwarding, Secret};
use super::time_budget::{Actor, BACKEND_WAIT, CLIENT_WAIT, TimeBudget};
use super::wire::{Frame, Packet, Wire, WireError};
use crate::protocol::codec::{CLIENTBOUND_PACKET_BYTES_MAX, Format};
use crate::protocol::packet::login::{
    self as packets, CookieAnswer, PluginRequest, parse_plugin_response,
};
use crate::protocol::packet::{Clientbound, Serverbound, State, Version};
use crate::protocol::read::{Cursor, write_string};
use crate::protocol::uuid::uuid_text;
use crate::protocol::varint;
use crate::protocol::version::{V1_13, V1_20_2};
use crate::upstream::first_byte;

/// The most requests of a backend that the client has not answered.
const REQUESTS_MAX: usize = 1024;
/// The most bytes of these requests and the names of requested cookies (4 MiB).
const REQUESTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most characters of a text that ends a login (the game).
const DISCONNECT_CHARS_MAX: usize = 262_144;
/// The channel on which Forge negotiates mods in the login since 1.13.
const FORGE_CHANNEL: &str = "fml:loginwrapper";

/// A dialled backend, and the first bytes for it.
pub(crate) struct ConnectedBackend {
    pub(crate) stream: TcpStream,
    /// A PROXY header, or nothing.
    pub(crate) header: Vec<u8>,
    /// The handshake as a frame.
    pub(crate) opening: Vec<u8>,
    /// The player forwarding of its server.
    pub(crate) identity: Option<IdentityForwarding>,
    /// The player's address.
    pub(crate) address: IpAddr,
    /// The id of its server, for the log.
    pub(crate) server: String,
    /// Whether it gets the key with which the player signs chat.
    pub(crate) gets_chat_key: bool,
}

/// A backend that has been sent the login start, and has sent its first byte.
pub(crate) struct RespondingBackend {
    wire: Wire,
    until: Instant,
    identity: Option<IdentityForwarding>,
    address: IpAddr,
    server: String,
    /// Whether the login fails if the backend negotiates mods.
    refuses_mods: bool,
    gets_chat_key: bool,
    /// The player, if it comes from another backend.
    moving: Option<Arc<PlayerHandle>>,
}

/// A backend that has accepted the login.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(super) wire: Wire,
    /// The deadline of the backend to bring the player into the game. The time that the
    /// client and the player take extends it.
    pub(super) until: Instant,
    /// Whether it has got the key with which the player signs chat.
    pub(crate) knows_chat_key: bool,
}

/// Checks that a client of this version can be used with this player forwarding.
///
/// # Errors
///
/// When the version lacks the packets for it.
pub(crate) fn check_version(
    identity: Option<&IdentityForwarding>,
    version: Version,
) -> Result<(), Failure> {
    match identity {
        Some(IdentityForwarding::Velocity(_)) if version.protocol() < V1_13 => {
            Err(Failure::VersionWithoutForwarding)
        }
        _ => Ok(()),
    }
}

impl ConnectedBackend {
    /// Sends the first packets, and waits for the first byte of the backend.
    ///
    /// # Errors
    ///
    /// When the backend ends the connection before: another one can be tried.
    pub(crate) async fn greet(self, who: Who<'_>) -> io::Result<RespondingBackend> {
        let until = Instant::now() + BACKEND_WAIT;
        let mut wire = Wire::new(self.stream, BytesMut::new(), CLIENTBOUND_PACKET_BYTES_MAX);
        wire.put_header(&self.header);
        wire.put_raw(&self.opening);
        let key = who.chat_key().filter(|_| self.gets_chat_key);
        let (profile, key) = (who.profile, key.map(|key| &key.bytes[..]));
        let start = packets::login_start(who.version, &profile.name, profile.uuid, key);
        let greeting = async {
            let put = wire.put(&start);
            put.map_err(|error| io::Error::other(error.to_string()))?;
            wire.flush_while_taken().await;
            first_byte(wire.stream()).await
        };
        // If the backend stays silent, the following login ends at this deadline too.
        timeout_at(until, greeting).await.unwrap_or(Ok(()))?;
        Ok(RespondingBackend {
            wire,
            until,
            identity: self.identity,
            address: self.address,
            server: self.server,
            refuses_mods: false,
            gets_chat_key: self.gets_chat_key,
            moving: None,
        })
    }
}

impl RespondingBackend {
    /// The same backend, for a player who has been on another one. With `has_mods`, the
    /// client has negotiated mods there, so the login fails if this backend negotiates mods
    /// too. The `player` can be asked for cookies.
    pub(super) fn for_moving(self, has_mods: bool, player: Arc<PlayerHandle>) -> Self {
        Self {
            refuses_mods: has_mods,
            moving: Some(player),
            ..self
        }
    }

    /// The same backend, with a deadline that is not later than `until`.
    pub(crate) fn before(self, until: Instant) -> Self {
        let until = until.min(self.until);
        Self { until, ..self }
    }

    /// Logs the player in. Requests of the backend are answered here, or passed on to
    /// the client if it is still in the login state (`client` is given).
    ///
    /// # Errors
    ///
    /// When the backend refuses the player, or the backend or the client is lost or at
    /// fault.
    pub(super) async fn log_in(
        self,
        who: Who<'_>,
        mut client: Option<&mut LoginClient>,
    ) -> Result<LoggedIn, Failure> {
        let who = Who {
            key: who.chat_key().filter(|_| self.gets_chat_key),
            ..who
        };
        let time_left = client
            .as_ref()
            .map_or(CLIENT_WAIT, |client| client.time_left);
        let mut time = TimeBudget::new(self.until, time_left);
        let velocity = match &self.identity {
            Some(IdentityForwarding::Velocity(secret)) => Some(secret.clone()),
            _ => None,
        };
        let mut login = Login {
            wire: self.wire,
            velocity,
            was_asked: false,
            address: self.address,
            server: self.server,
            open_requests: PendingRequests::default(),
            has_let_in: false,
            refuses_mods: self.refuses_mods,
            moving: self.moving,
        };
        let run = login.run(who, client.as_deref_mut(), &mut time).await;
        if let Some(client) = client {
            client.time_left = time.client_left();
        }
        run.map(|()| LoggedIn {
            wire: login.wire,
            until: time.backend_until(),
            knows_chat_key: who.key.is_some(),
        })
    }
}

/// A running login.
struct Login {
    wire: Wire,
    velocity: Option<Secret>,
    /// Whether the backend has asked for the signed identity.
    was_asked: bool,
    address: IpAddr,
    server: String,
    open_requests: PendingRequests,
    /// Whether the backend has accepted the login.
    has_let_in: bool,
    /// Whether the login fails if the backend negotiates mods.
    refuses_mods: bool,
    /// The player, if it comes from another backend.
    moving: Option<Arc<PlayerHandle>>,
}

/// The requests of the backend that the client has not answered.
#[derive(Default)]
struct PendingRequests {
    /// Message id and length of each; two requests may have the same id.
    plugin: Vec<(i32, usize)>,
    cookies: Vec<String>,
    bytes: usize,
}

impl PendingRequests {
    fn ask(&mut self, message_id: i32, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.plugin.push((message_id, bytes));
        self.check()
    }

    fn ask_cookie(&mut self, name: &str) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(name.len());
        self.cookies.push(name.to_owned());
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        let count = self.plugin.len() + self.cookies.len();
        if count > REQUESTS_MAX || self.bytes > REQUESTS_BYTES_MAX {
            return Err(Failure::BackendFault(
                "it asks the client too much at once".to_owned(),
            ));
        }
        Ok(())
    }

    fn are_answered(&self) -> bool {
        self.plugin.is_empty() && self.cookies.is_empty()
    }

    /// Removes the request that a client answers; false if there is none.
    fn answer(&mut self, message_id: i32) -> bool {
        let at = self.plugin.iter().position(|(id, _)| *id == message_id);
        let asked = at.map(|at| self.plugin.swap_remove(at));
        let bytes = asked.map_or(0, |(_, bytes)| bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        asked.is_some()
    }

    fn answer_cookie(&mut self, name: &str) -> bool {
        let at = self.cookies.iter().position(|known| known == name);
        let asked = at.map(|at| self.cookies.swap_remove(at));
        let bytes = asked.as_ref().map_or(0, String::len);
        self.bytes = self.bytes.saturating_sub(bytes);
        asked.is_some()
    }
}

impl Login {
    async fn run(
        &mut self,
        who: Who<'_>,
        mut client: Option<&mut LoginClient>,
        time: &mut TimeBudget,
    ) -> Result<(), Failure> {
        // The rest of the first packets, if the backend has not read them all.
        self.flush(time).await?;
        loop {
            time.charge_to(self.actor());
            tokio::select! {
                frame = self.wire.frame() => {
                    let packet = frame.and_then(|frame| frame.packet()).map_err(Failure::backend)?;
                    let client = client.as_deref_mut();
                    if self.handle_backend_packet(&packet, who, client, time).await? {
                        break;
                    }
                }
                frame = next_frame(client.as_deref_mut()) => {
                    let packet = frame.and_then(|frame| frame.packet()).map_err(Failure::client)?;
                    self.handle_client_packet(&packet, who.version, time).await?;
                }
                failure = time.expired() => return Err(failure),
            }
        }
        // The client has to answer all requests before its login success, which ends its
        // login state.
        self.has_let_in = true;
        while !self.open_requests.are_answered() {
            time.charge_to(Actor::Client);
            let frame = tokio::select! {
                frame = next_frame(client.as_deref_mut()) => frame,
                lost = self.wire.lost() => return Err(Failure::backend(lost)),
                failure = time.expired() => return Err(failure),
            };
            let packet = frame.and_then(|frame| frame.packet());
            self.handle_client_packet(&packet.map_err(Failure::client)?, who.version, time)
                .await?;
        }
        Ok(())
    }

    /// The side that has to act.
    fn actor(&self) -> Actor {
        match self.open_requests.are_answered() {
            true => Actor::Backend,
            false => Actor::Client,
        }
    }

    /// Handles a packet of the backend; true when it has accepted the login.
    async fn handle_backend_packet(
        &mut self,
        packet: &Packet,
        who: Who<'_>,
        client: Option<&mut LoginClient>,
        time: &mut TimeBudget,
    ) -> Result<bool, Failure> {
        let version = who.version;
        let fault =
            |error: crate::protocol::read::ReadError| Failure::BackendFault(error.to_string());
        match packet.kind(version, State::Login) {
            Some(Clientbound::Disconnect) => {
                let mut cursor = Cursor::new(packet.fields());
                let text = cursor.string(DISCONNECT_CHARS_MAX).map_err(fault)?;
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
                    self.identify(&request, who, time).await?;
                } else if let Some(client) = client {
                    self.open_requests
                        .ask(request.message_id, packet.bytes().len())?;
                    pass_to_client(packet, client, time).await?;
                } else if self.refuses_mods && request.channel == FORGE_CHANNEL {
                    return Err(Failure::BackendMods);
                } else {
                    // Clients answer such requests only in the login state.
                    let answer = packets::plugin_response(version, request.message_id, None);
                    self.send(&answer, time).await?;
                }
                Ok(false)
            }
            Some(Clientbound::CookieRequest) => {
                let name = Cursor::new(packet.fields()).string(packets::IDENTIFIER_CHARS_MAX);
                let name = name.map_err(fault)?;
                if let Some(client) = client {
                    self.open_requests.ask_cookie(name)?;
                    pass_to_client(packet, client, time).await?;
                } else {
                    let cookie = self.cookie(name, time).await?;
                    let answer = cookie_response(version, name, cookie.as_deref());
                    self.send(&answer, time).await?;
                }
                Ok(false)
            }
            Some(Clientbound::LoginSuccess) => {
                if self.velocity.is_some() && !self.was_asked {
                    return Err(Failure::BackendNeverAsked);
                }
                let success = packets::parse_login_success(version, packet.fields());
                let (uuid, _) = success.map_err(fault)?;
                if uuid != who.profile.uuid {
                    warn!(
                        server = self.server,
                        player = %crate::show::Escaped(&who.profile.name),
                        told = uuid_text(who.profile.uuid, true),
                        used = uuid_text(uuid, true),
                        "the backend uses another player id than the one that it was sent: check its forwarding"
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

    /// Answers a request for the signed identity. The request never reaches the client.
    async fn identify(
        &mut self,
        request: &PluginRequest<'_>,
        who: Who<'_>,
        time: &mut TimeBudget,
    ) -> Result<(), Failure> {
        let version = who.version;
        let answer = match &self.velocity {
            // A second request is not answered: the backend has its answer.
            Some(secret) if !self.was_asked => Some(velocity_answer(
                secret,
                request.payload,
                version.protocol(),
                self.address,
                who.profile,
                who.key,
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
        self.send(&response, time).await
    }

    /// Asks a client that comes from another backend for a cookie. `None` if it has none, or
    /// cannot be asked.
    async fn cookie(
        &mut self,
        name: &str,
        time: &mut TimeBudget,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let Some(player) = &self.moving else {
            return Ok(None);
        };
        tokio::select! {
            cookie = time.wait_for(Actor::Client, player.cookie(name)) => cookie,
            lost = self.wire.lost() => Err(Failure::backend(lost)),
        }
    }

    /// Sends the backend a packet.
    async fn send(&mut self, packet: &[u8], time: &mut TimeBudget) -> Result<(), Failure> {
        self.wire.put(packet).map_err(Failure::backend)?;
        self.flush(time).await
    }

    async fn flush(&mut self, time: &mut TimeBudget) -> Result<(), Failure> {
        let flush = self.wire.flush_while_taken();
        time.wait_for(Actor::Backend, flush).await
    }

    /// Handles a packet of the client: the answer to a request of the backend.
    async fn handle_client_packet(
        &mut self,
        packet: &Packet,
        version: Version,
        time: &mut TimeBudget,
    ) -> Result<(), Failure> {
        let fault = |error: crate::protocol::read::ReadError| Failure::Client(error.to_string());
        let is_answer = match packet.kind(version, State::Login) {
            Some(Serverbound::LoginPluginResponse) => {
                let message_id = parse_plugin_response(packet.fields()).map_err(fault)?;
                self.open_requests.answer(message_id)
            }
            Some(Serverbound::CookieResponse) => {
                let answer = CookieAnswer::parse(packet.fields()).map_err(fault)?;
                self.open_requests.answer_cookie(answer.name)
            }
            _ => false,
        };
        if !is_answer {
            return Err(Failure::client(WireError::unexpected(
                State::Login,
                packet.id,
            )));
        }
        // Before 1.20.2 a backend leaves the login state with its own success.
        if self.has_let_in && version.protocol() < V1_20_2 {
            return Ok(());
        }
        self.send(packet.bytes(), time).await
    }
}

/// The answer to a request for a cookie in the login (1.20.5).
fn cookie_response(version: Version, name: &str, cookie: Option<&[u8]>) -> Vec<u8> {
    let id = version.id(State::Login, Serverbound::CookieResponse);
    let mut packet = vec![id.unwrap_or_default()];
    write_string(name, &mut packet);
    packet.push(u8::from(cookie.is_some()));
    if let Some(cookie) = cookie {
        varint::encode(i32::try_from(cookie.len()).unwrap_or(0), &mut packet);
        packet.extend_from_slice(cookie);
    }
    packet
}

async fn pass_to_client(
    packet: &Packet,
    client: &mut LoginClient,
    time: &mut TimeBudget,
) -> Result<(), Failure> {
    let sent = time.wait_for(Actor::Client, client.wire.send(packet.bytes()));
    sent.await?.map_err(Failure::client)
}

/// The next frame of a client in the login state; never completes without one. Cancel
/// safe.
async fn next_frame(client: Option<&mut LoginClient>) -> Result<Frame, WireError> {
    match client {
        Some(client) => client.wire.frame().await,
        None => std::future::pending().await,
    }
}
