//! The client's side of a connection until the relay takes it over: parses
//! packets from its bytes, all under one deadline.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::opening::{Dialect, Opening};
use crate::close;
pub(super) use crate::close::closed_by_client;
use crate::intercept;
use crate::protocol::frame::{self, FrameError};
use crate::protocol::handshake::{
    HANDSHAKE_BYTES_MAX, HANDSHAKE_ID, Handshake, HandshakeError, Intent,
};
use crate::protocol::legacy::{self, Detect};
use crate::protocol::login::LoginError;
use crate::protocol::varint;
use crate::proxy_protocol::{self, Endpoints, HeaderError, Recognized};

/// The most bytes of one read. A handshake with its login start has some 60 bytes,
/// one with signed chat keys some 700.
const READ_BYTES: usize = 1024;

/// How long a client that has sent `FE`, `FE 01` or a part of the message of 1.6
/// may take to send more. After it the bytes count as a complete ping of the form that
/// they match. The oldest clients give up after 3 s, and the bytes of one write normally
/// arrive together.
const LEGACY_GRACE: Duration = Duration::from_millis(1000);

/// The longest ping that is forwarded as it was sent if no more arrives: `FE 01 FA`.
const SHORT_PING_BYTES_MAX: usize = 3;

/// The client did not send a valid request.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// It closed the connection.
    #[error("the client closed the connection")]
    Closed,
    /// The deadline passed.
    #[error("the handshake took too long")]
    TooSlow,
    /// Its connection failed.
    #[error("the client's connection failed")]
    Io(#[from] io::Error),
    /// It did not send a required PROXY header, or a malformed one.
    #[error(transparent)]
    ProxyHeader(#[from] HeaderError),
    /// It sent a PROXY header where none was expected.
    #[error("a PROXY header came where a handshake was expected")]
    UnexpectedProxyHeader,
    /// A frame is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The handshake is malformed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The login start is malformed.
    #[error(transparent)]
    LoginStart(#[from] LoginError),
    /// Another packet is malformed or not expected.
    #[error("{0}")]
    Packet(String),
}

/// A client before the relay: the proxy reads its bytes.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    deadline: Instant,
}

/// One packet and its frame.
#[derive(Debug)]
pub(super) struct Packet {
    /// The packet's id.
    pub(super) id: i32,
    /// The fields.
    pub(super) body: Bytes,
    /// The whole frame.
    pub(super) wire: Bytes,
}

impl Client {
    /// A client that has until `deadline` to send its request.
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            deadline,
        }
    }

    /// The connection itself.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Extends the deadline by the time that plugins took.
    pub(super) fn prolong(&mut self, spent: Duration) {
        self.deadline += spent;
    }

    /// The connection, and the bytes that the client has sent after the packets that
    /// were read. They are not encrypted: an encrypted client has another type.
    pub(super) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Reads a PROXY header.
    ///
    /// # Errors
    ///
    /// When there is none, or the client closed the connection.
    pub(super) async fn proxy_header(&mut self) -> Result<Option<Endpoints>, Broken> {
        loop {
            if let Some(header) = proxy_protocol::parse(&self.buffer)? {
                let _ = self.buffer.split_to(header.bytes);
                return Ok(header.endpoints);
            }
            self.fill(self.deadline).await?;
        }
    }

    /// Reads the first packet: a handshake, or the first message of a client before 1.7.
    ///
    /// # Errors
    ///
    /// When it is neither, or the client closed the connection.
    pub(super) async fn opening(&mut self) -> Result<Opening, Broken> {
        loop {
            match legacy::detect(&self.buffer) {
                Detect::Modern => break,
                Detect::Ping(ping) => {
                    let wire = self.buffer.split_to(ping.wire_bytes()).freeze();
                    return Ok(Opening::legacy_ping(ping, wire));
                }
                Detect::Login(login) => {
                    let wire = self.buffer.split_to(login.wire_bytes).freeze();
                    return Ok(Opening::legacy_login(login, wire));
                }
                Detect::Bad(error) => return Err(Broken::Packet(error.to_string())),
                Detect::NeedMore { undecided_as: None } => self.fill(self.deadline).await?,
                Detect::NeedMore {
                    undecided_as: Some(ping),
                } => {
                    let grace = self.deadline.min(Instant::now() + LEGACY_GRACE);
                    match self.fill(grace).await {
                        // A message of 1.6 is incomplete, and the time is over.
                        Err(Broken::TooSlow)
                            if grace == self.deadline
                                && self.buffer.len() > SHORT_PING_BYTES_MAX =>
                        {
                            return Err(Broken::TooSlow);
                        }
                        Err(Broken::TooSlow | Broken::Closed) => {
                            let sent = self.buffer.split().freeze();
                            // The rest of a longer one is malformed: the backend gets
                            // the form that the ping counts as.
                            let wire = match sent.len() {
                                0..=SHORT_PING_BYTES_MAX => sent,
                                _ => ping.encode().into(),
                            };
                            return Ok(Opening::legacy_ping(ping, wire));
                        }
                        other => other?,
                    }
                }
            }
        }
        self.expect_handshake().await?;
        let packet = self.packet(HANDSHAKE_BYTES_MAX).await?;
        Ok(Opening::handshake(
            Handshake::parse(&packet.body)?,
            packet.wire,
        ))
    }

    /// Refuses a frame that is not a handshake as soon as its id has arrived: a
    /// client of another protocol often announces more than it sends.
    async fn expect_handshake(&mut self) -> Result<(), Broken> {
        loop {
            // A bad length ends the wait before the id has come.
            frame::split(&self.buffer, HANDSHAKE_BYTES_MAX)?;
            if let Ok(Some((_, length_bytes))) = varint::decode(&self.buffer)
                && let Some(id) = self.buffer.get(length_bytes)
            {
                if i32::from(*id) == HANDSHAKE_ID {
                    return Ok(());
                }
                match proxy_protocol::recognize(&self.buffer) {
                    Recognized::Header => return Err(Broken::UnexpectedProxyHeader),
                    // At most a dozen bytes, under the deadline.
                    Recognized::NeedMore => {}
                    Recognized::Other => {
                        return Err(Broken::Packet(format!(
                            "packet {id:#04x} instead of a handshake"
                        )));
                    }
                }
            }
            self.fill(self.deadline).await?;
        }
    }

    /// Reads one frame of at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// When it is malformed or longer, or the client closed the connection.
    pub(super) async fn packet(&mut self, bytes_max: usize) -> Result<Packet, Broken> {
        loop {
            if let Some(frame) = frame::split(&self.buffer, bytes_max)? {
                let (id, body_bytes) = (frame.id, frame.body.len());
                let wire = self.buffer.split_to(frame.wire_bytes).freeze();
                let body = wire.slice(wire.len() - body_bytes..);
                return Ok(Packet { id, body, wire });
            }
            self.fill(self.deadline).await?;
        }
    }

    /// Reads the available bytes, at least one. Memory grows with what arrives,
    /// never with what is announced.
    async fn fill(&mut self, until: Instant) -> Result<(), Broken> {
        self.buffer.reserve(READ_BYTES);
        match timeout_at(until, self.stream.read_buf(&mut self.buffer)).await {
            Err(_) => Err(Broken::TooSlow),
            Ok(Ok(0)) => Err(Broken::Closed),
            Ok(read) => read.map(drop).map_err(Broken::from),
        }
    }

    /// Sends bytes that the client is waiting for.
    ///
    /// # Errors
    ///
    /// When the client does not accept them before its deadline.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match timeout_at(self.deadline, self.stream.write_all(bytes)).await {
            Err(_) => Err(Broken::TooSlow),
            Ok(sent) => sent.map_err(Broken::from),
        }
    }

    /// Sends the final packet and closes, in a way that lets the client read it.
    pub(super) async fn close_with(self, final_packet: &[u8]) {
        close::close_with(self.stream, final_packet).await;
    }

    /// Lets the client close first, within bounds.
    pub(super) async fn wait_for_close(self) {
        close::wait_for_close(self.stream).await;
    }

    /// The client, if it can be shown why it is refused: not for a status ping.
    pub(super) fn into_closing(self, opening: &Opening) -> Option<ClosingClient> {
        match opening.intent() {
            Intent::Status => None,
            Intent::Login | Intent::Transfer => Some(ClosingClient::Plain {
                stream: self.stream,
                dialect: opening.dialect(),
            }),
        }
    }
}

/// A client that can be shown a final text, in the form of its protocol state.
#[derive(Debug)]
pub(super) enum ClosingClient {
    /// In the login state, and neither compressed nor encrypted.
    Plain { stream: TcpStream, dialect: Dialect },
    /// On a server of an intercepted mode, in any state.
    Intercepted(intercept::ClosingClient),
}

impl ClosingClient {
    /// Shows `text` and closes, in a way that lets the client read it.
    pub(super) async fn show(self, text: &str) {
        match self {
            Self::Plain { stream, dialect } => {
                close::close_with(stream, &dialect.disconnect(text)).await;
            }
            Self::Intercepted(reader) => reader.show(text).await,
        }
    }
}
