//! The demo's backend: enough of a Minecraft server to answer status pings and
//! logins of any version, and to report what it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::protocol::bungee;
use crate::protocol::handshake::{HANDSHAKE_BYTES_MAX, Handshake, Intent};
use crate::protocol::login::{self, LoginStart, login_start_bytes_max};
use crate::protocol::packet::disconnect::disconnect;
use crate::protocol::packet::login::{Profile, login_success};
use crate::protocol::packet::{Clientbound, Kind, Serverbound, State, Version};
use crate::protocol::read::write_string;
use crate::protocol::status::{self, StatusPacket};
use crate::protocol::{frame, varint, version};

/// The name of the player that a backend moves to another server.
pub(super) const TRAVELLER: &str = "Traveller";
/// The host of the server from which that player goes.
pub(super) const FROM_HOST: &str = "creative.demo";
/// The id of the server to which that player goes.
pub(super) const TO_SERVER: &str = "minigames";
/// The host that the backend sees of that server.
pub(super) const TO_HOST: &str = "minigames.internal";

/// The size of the payload that the backend sends to a client that can answer, and
/// that the demo's client returns.
pub(super) const PAYLOAD_BYTES: usize = 256 * 1024;
/// The channel of that payload, and of the message that the demo's client sends when it is
/// in the game.
const CHANNEL: &str = "infrarust:demo";
/// The packet id of a login plugin request (since 1.13).
const PLUGIN_REQUEST_ID: i32 = 4;
/// The packet id of the response to it.
pub(super) const PLUGIN_RESPONSE_ID: i32 = 2;
/// The most bytes of the response with the payload and its few fields.
const ANSWER_BYTES_MAX: usize = PAYLOAD_BYTES + 64;
/// The most bytes of the acknowledgements until the game begins, which have no fields, and
/// of the messages until the client says that it is in the game: its own, and the names of
/// channels that the proxy registers.
const SHORT_BYTES_MAX: usize = 128;
/// How long one conversation may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most reports that wait to be read.
const REPORTS_MAX: usize = 64;

/// What the backend saw of one connection.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) intent: Intent,
    pub(super) host: String,
    /// The player id of the login start.
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) heard_bytes: usize,
    pub(super) said_bytes: usize,
}

/// A running backend; it ends when dropped.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) seen: mpsc::Receiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Backend {
    /// Starts on a port that the system chooses.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (report, seen) = mpsc::channel(REPORTS_MAX);
        let report = Arc::new(report);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let report = Arc::clone(&report);
                tokio::spawn(async move {
                    let conversation = Conversation::new(stream).hold();
                    if let Ok(Ok(seen)) = timeout(PATIENCE, conversation).await {
                        // Fails when the demo no longer reads reports.
                        let _ = report.try_send(seen);
                    }
                });
            }
        });
        Ok(Self {
            address,
            seen,
            task,
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection that counts its bytes, used by the backend and by the demo's client.
pub(super) struct Conversation {
    stream: TcpStream,
    buffer: BytesMut,
    pub(super) heard_bytes: usize,
    pub(super) said_bytes: usize,
}

impl Conversation {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            heard_bytes: 0,
            said_bytes: 0,
        }
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.said_bytes += bytes.len();
        self.stream.write_all(bytes).await
    }

    /// The next packet: its id and fields.
    pub(super) async fn receive(&mut self, bytes_max: usize) -> io::Result<(i32, Vec<u8>)> {
        loop {
            if let Some(frame) = frame::split(&self.buffer, bytes_max).map_err(bad)? {
                let (packet, wire_bytes) = ((frame.id, frame.body.to_vec()), frame.wire_bytes);
                self.buffer.advance(wire_bytes);
                return Ok(packet);
            }
            let heard = self.stream.read_buf(&mut self.buffer).await?;
            if heard == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.heard_bytes += heard;
        }
    }

    /// Shuts down our side of the stream and waits for the end of the other side's.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        while self.stream.read_buf(&mut self.buffer).await? > 0 {
            self.buffer.clear();
        }
        Ok(())
    }

    async fn hold(mut self) -> io::Result<Seen> {
        let (_, body) = self.receive(HANDSHAKE_BYTES_MAX).await?;
        let handshake = Handshake::parse(&body).map_err(bad)?;
        let uuid = match handshake.intent {
            Intent::Status => {
                self.answer_status(handshake.protocol).await?;
                None
            }
            Intent::Login | Intent::Transfer => self.answer_login(&handshake).await?,
        };
        Ok(Seen {
            intent: handshake.intent,
            host: handshake.host.host().to_owned(),
            uuid,
            heard_bytes: self.heard_bytes,
            said_bytes: self.said_bytes,
        })
    }

    async fn answer_status(&mut self, protocol: i32) -> io::Result<()> {
        let answer = serde_json::json!({
            "version": { "name": "infrarust demo", "protocol": protocol },
            "players": { "max": 20, "online": 1 },
            "description": { "text": "§ainfrarust demo§r: this text comes through the proxy" },
        });
        loop {
            let (id, body) = self.receive(status::STATUS_REQUEST_FRAME_BYTES_MAX).await?;
            let question = frame::Frame {
                id,
                body: &body,
                wire_bytes: 0,
            };
            match status::parse_question(&question).map_err(bad)? {
                StatusPacket::Request => {
                    self.say(&status::response(&answer.to_string())).await?;
                    // The proxy asks only this, and closes.
                    return self.end().await;
                }
                StatusPacket::Ping(number) => self.say(&status::ping(number)).await?,
            }
        }
    }

    /// Sends a payload to clients that can answer, and at the end a disconnect with a
    /// text, which every version of the game shows. The demo's own client, which
    /// returns the payload, gets the text in the play state.
    async fn answer_login(&mut self, handshake: &Handshake) -> io::Result<Option<[u8; 16]>> {
        let (_, body) = self
            .receive(login_start_bytes_max(handshake.protocol))
            .await?;
        let player = LoginStart::parse(handshake.protocol, &body).map_err(bad)?;
        if player.name == TRAVELLER {
            self.meet_traveller(handshake.host.host(), &player).await?;
            return Ok(player.uuid);
        }
        let mut returned = 0;
        if handshake.protocol >= version::V1_13 {
            self.say(&payload()).await?;
            returned = self.receive(ANSWER_BYTES_MAX).await?.1.len();
        }
        let text = format!(
            "§aHello {}!§r You came through infrarust.\nThe backend saw the host §e{}§r \
             and got {returned} bytes back.",
            player.name,
            handshake.host.host(),
        );
        if returned < PAYLOAD_BYTES {
            let goodbye = login::disconnect(handshake.protocol, &text);
            self.say(&goodbye).await?;
        } else {
            self.let_in(&player).await?;
            // The client says so when it has read what plugins send to it.
            while !self
                .receive(SHORT_BYTES_MAX)
                .await?
                .1
                .ends_with(CHANNEL.as_bytes())
            {}
            let goodbye = disconnect(Version::newest(), State::Play, &text);
            self.say(&framed(&goodbye)).await?;
        }
        self.end().await?;
        Ok(player.uuid)
    }

    /// Accepts the player. The first server asks the proxy to move the player to the other
    /// one, which sends the player a text.
    async fn meet_traveller(&mut self, host: &str, player: &LoginStart) -> io::Result<()> {
        self.let_in(player).await?;
        if host == FROM_HOST {
            let mut fields = Vec::new();
            write_string(bungee::CHANNEL, &mut fields);
            let question = bungee::Answer::to(bungee::Subcommand::Connect).text(TO_SERVER);
            fields.extend(question.into_data());
            let ask = Clientbound::PluginMessage;
            self.say(&packet(State::Play, ask, &fields)).await?;
        } else {
            let text = format!("You came through infrarust, from one server to {host}.");
            let goodbye = disconnect(Version::newest(), State::Play, &text);
            self.say(&framed(&goodbye)).await?;
        }
        // The proxy closes the connection.
        while self.stream.read_buf(&mut self.buffer).await? > 0 {
            self.buffer.clear();
        }
        Ok(())
    }

    /// Brings the demo's client into the play state.
    async fn let_in(&mut self, player: &LoginStart) -> io::Result<()> {
        let version = Version::newest();
        let profile = Profile {
            uuid: player.uuid.unwrap_or_default(),
            name: player.name.clone(),
            properties: Vec::new(),
        };
        self.say(&framed(&login_success(version, &profile, [0; 16])))
            .await?;
        self.receive(SHORT_BYTES_MAX).await?;
        let finish = Clientbound::FinishConfiguration;
        self.say(&packet(State::Configuration, finish, &[])).await?;
        self.receive(SHORT_BYTES_MAX).await?;
        // The demo's client does not read the fields.
        self.say(&packet(State::Play, Clientbound::JoinGame, &[0; 8]))
            .await
    }
}

/// A login plugin request with [`PAYLOAD_BYTES`] of data: vanilla clients since
/// 1.13 answer that they do not know the channel, ours sends the data back.
fn payload() -> Vec<u8> {
    let mut body = Vec::with_capacity(PAYLOAD_BYTES + 32);
    varint::encode(1, &mut body);
    varint::encode(i32::try_from(CHANNEL.len()).unwrap_or_default(), &mut body);
    body.extend_from_slice(CHANNEL.as_bytes());
    body.extend((0..=u8::MAX).cycle().take(PAYLOAD_BYTES));
    frame::write(PLUGIN_REQUEST_ID, &body)
}

/// The packet by which the demo's client says that it is in the game.
pub(super) fn in_the_game() -> Vec<u8> {
    let mut fields = Vec::new();
    write_string(CHANNEL, &mut fields);
    packet(State::Play, Serverbound::PluginMessage, &fields)
}

/// A frame with a packet of the newest version.
pub(super) fn packet<K: Kind>(state: State, kind: K, fields: &[u8]) -> Vec<u8> {
    let id = Version::newest().id(state, kind).unwrap_or_default();
    frame::write(i32::from(id), fields)
}

/// A frame around a packet, its id included.
pub(super) fn framed(packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packet.len() + varint::VARINT_BYTES_MAX);
    varint::encode_len(packet.len(), &mut out);
    out.extend_from_slice(packet);
    out
}

pub(super) fn bad(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
