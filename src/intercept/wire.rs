//! One connection of an intercepted session until its relay begins: reads frames and
//! writes packets, with compression and encryption.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::close::left_by_peer;
use crate::protocol::cipher::{Ciphers, SECRET_BYTES};
use crate::protocol::codec::{self, CodecError, Format, RawFrame, Receiver, Zlib};
use crate::protocol::packet::{Kind, State, Version};
use crate::protocol::varint;

/// The space for one read, in bytes. A login has some hundred bytes, a configuration
/// some ten thousand.
const READ_BYTES: usize = 4096;

/// How long the last bytes of a backend that has closed are kept for a client that has
/// to answer first: many round trips.
const UNREAD_WAIT: Duration = Duration::from_secs(2);

thread_local! {
    static ZLIB: std::cell::RefCell<Zlib> = std::cell::RefCell::default();
}

/// Why a connection cannot continue.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// The peer has ended its stream.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent something that is not a frame of its format.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer sent a packet that is not allowed now, or a malformed one.
    #[error("{0}")]
    Packet(String),
}

impl WireError {
    /// The error for a packet that is not allowed in this state.
    pub(super) fn unexpected(state: State, id: i32) -> Self {
        Self::Packet(format!("packet {id:#04x} is not expected in {state:?}"))
    }
}

impl From<crate::protocol::read::ReadError> for WireError {
    fn from(error: crate::protocol::read::ReadError) -> Self {
        Self::Packet(error.to_string())
    }
}

/// A received frame.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    wire: Bytes,
    content_at: usize,
    data_length: Option<usize>,
    format: Format,
}

impl Frame {
    fn raw(&self) -> RawFrame<'_> {
        RawFrame {
            wire: &self.wire,
            content: self.wire.get(self.content_at..).unwrap_or_default(),
            data_length: self.data_length,
        }
    }

    /// The same frame, without the memory of what was read with it.
    pub(super) fn in_own_memory(&self) -> Self {
        Self {
            wire: Bytes::copy_from_slice(&self.wire),
            ..*self
        }
    }

    /// Checks that it is compressed only if its packet is long enough.
    ///
    /// # Errors
    ///
    /// [`CodecError::BelowThreshold`].
    pub(super) fn check_threshold(&self) -> Result<(), WireError> {
        Ok(self.format.check_threshold(self.data_length)?)
    }

    /// The length of the packet, before compression.
    pub(super) fn packet_bytes(&self) -> usize {
        let content_bytes = self.wire.len().saturating_sub(self.content_at);
        self.data_length.unwrap_or(content_bytes)
    }

    /// The packet in it.
    ///
    /// # Errors
    ///
    /// When it cannot be decompressed, or its id is malformed.
    pub(super) fn packet(&self) -> Result<Packet, WireError> {
        let bytes = match self.data_length {
            None => self.wire.slice(self.content_at..),
            Some(_) => {
                let packet =
                    ZLIB.with_borrow_mut(|zlib| zlib.packet(&self.raw()).map(Vec::from))?;
                packet.into()
            }
        };
        Packet::of(bytes)
    }
}

const fn codec_bad_id() -> crate::protocol::frame::FrameError {
    crate::protocol::frame::FrameError::BadId
}

/// A packet: its id, and the fields after it.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) id: i32,
    fields_at: usize,
    bytes: Bytes,
}

impl Packet {
    /// A packet from its bytes.
    ///
    /// # Errors
    ///
    /// When its id is malformed.
    pub(super) fn of(bytes: Bytes) -> Result<Self, WireError> {
        match varint::decode(&bytes) {
            Ok(Some((id, fields_at))) => Ok(Self {
                id,
                fields_at,
                bytes,
            }),
            Ok(None) | Err(_) => Err(CodecError::Frame(codec_bad_id()).into()),
        }
    }

    /// The fields.
    pub(super) fn fields(&self) -> &[u8] {
        self.bytes.get(self.fields_at..).unwrap_or_default()
    }

    /// Id and fields.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its kind, if the proxy knows it.
    pub(super) fn kind<K: Kind>(&self, version: Version, state: State) -> Option<K> {
        version.kind(state, self.id)
    }
}

/// One connection: its socket, the format of its frames, its ciphers.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// Received bytes, decrypted and not yet split into frames.
    input: BytesMut,
    /// Bytes to write, already encrypted.
    output: BytesMut,
    format: Format,
    ciphers: Option<Ciphers>,
    packet_bytes_max: usize,
    sent_bytes: u64,
    /// Bytes at the front of the output that do not count as sent.
    uncounted_bytes: usize,
    /// A write has failed: nothing more is written.
    takes_nothing: bool,
}

#[cfg(test)]
impl Wire {
    /// A connection for tests, and its other end.
    pub(super) async fn connected() -> (Self, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, accepted) = tokio::join!(connecting, listener.accept());
        let packet_bytes_max = codec::SERVERBOUND_PACKET_BYTES_MAX;
        let wire = Self::new(stream.unwrap(), BytesMut::new(), packet_bytes_max);
        (wire, accepted.unwrap().0)
    }
}

impl Wire {
    /// A connection of which `input` was read already.
    pub(super) fn new(stream: TcpStream, input: BytesMut, packet_bytes_max: usize) -> Self {
        Self {
            stream,
            input,
            output: BytesMut::new(),
            format: Format::Plain,
            ciphers: None,
            packet_bytes_max,
            sent_bytes: 0,
            uncounted_bytes: 0,
            takes_nothing: false,
        }
    }

    /// The inverse of [`into_parts`](Self::into_parts).
    pub(super) fn from_parts(parts: Parts, packet_bytes_max: usize) -> Self {
        Self {
            output: parts.output,
            format: parts.format,
            ciphers: parts.ciphers,
            ..Self::new(parts.stream, parts.input, packet_bytes_max)
        }
    }

    /// The number of bytes sent since the last call.
    pub(super) fn take_sent_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.sent_bytes)
    }

    /// Switches encryption on, beginning with the next byte in both directions. Bytes that
    /// have been read and not used are encrypted too.
    pub(super) fn encrypt(&mut self, secret: &[u8; SECRET_BYTES]) {
        let mut ciphers = Ciphers::new(secret);
        ciphers.decrypt.decrypt(&mut self.input);
        self.ciphers = Some(ciphers);
    }

    /// The format of the next frame.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Changes the format from the next frame on, in both directions.
    pub(super) fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// The next frame. Cancel safe.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub(super) async fn frame(&mut self) -> Result<Frame, WireError> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            let before = self.input.len();
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(WireError::Closed);
            }
            self.decrypt_from(before);
        }
    }

    /// As [`frame`](Self::frame), and writes the output while it waits, as the peer accepts it.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// See [`WireError`].
    pub(super) async fn frame_while_writing(&mut self) -> Result<Frame, WireError> {
        loop {
            self.write_now()?;
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            let interest = match self.output.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            if !self.stream.ready(interest).await?.is_readable() {
                continue;
            }
            let before = self.input.len();
            self.input.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(WireError::Closed),
                Ok(_) => self.decrypt_from(before),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Decrypts the input from this index on.
    fn decrypt_from(&mut self, at: usize) {
        if let (Some(ciphers), Some(new)) = (&mut self.ciphers, self.input.get_mut(at..)) {
            ciphers.decrypt.decrypt(new);
        }
    }

    /// Completes when the peer has ended its stream or lost its connection. If it has
    /// sent bytes before, they stay unread, and this waits for [`UNREAD_WAIT`] longer, so
    /// that they can be read first. Cancel safe.
    pub(super) async fn lost(&self) -> WireError {
        match self.stream.peek(&mut [0]).await {
            Ok(0) => WireError::Closed,
            Ok(_) => {
                left_by_peer(&self.stream).await;
                sleep(UNREAD_WAIT).await;
                WireError::Closed
            }
            Err(error) => error.into(),
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.output.len()
    }

    /// The next frame, if it has arrived.
    ///
    /// # Errors
    ///
    /// When the bytes are not a frame.
    pub(super) fn arrived(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(frame) = codec::split(&self.input, self.format, self.packet_bytes_max)? else {
            return Ok(None);
        };
        let content_at = frame.wire.len() - frame.content.len();
        let (wire_bytes, data_length) = (frame.wire.len(), frame.data_length);
        Ok(Some(Frame {
            content_at,
            data_length,
            format: self.format,
            wire: self.input.split_to(wire_bytes).freeze(),
        }))
    }

    /// Puts a packet into the output.
    ///
    /// # Errors
    ///
    /// When it does not fit in a frame.
    pub(super) fn put(&mut self, packet: &[u8]) -> Result<(), WireError> {
        let mut framed = Vec::with_capacity(packet.len() + READ_BYTES / 64);
        ZLIB.with_borrow_mut(|zlib| zlib.write(packet, self.format, &mut framed))?;
        self.put_bytes(framed);
        Ok(())
    }

    /// Puts a frame of the other connection into the output, in this one's
    /// format. `strict` says that the peer refuses compressed packets below its
    /// threshold.
    ///
    /// # Errors
    ///
    /// When it has to be decompressed and cannot, or does not fit in a frame.
    pub(super) fn pass(&mut self, frame: &Frame, strict: bool) -> Result<(), WireError> {
        let receiver = Receiver {
            format: self.format,
            strict,
        };
        let mut framed = Vec::with_capacity(frame.wire.len());
        ZLIB.with_borrow_mut(|zlib| {
            codec::convert(&frame.raw(), frame.format, &receiver, zlib, &mut framed)
        })?;
        self.put_bytes(framed);
        Ok(())
    }

    fn put_bytes(&mut self, mut bytes: Vec<u8>) {
        if self.takes_nothing {
            return;
        }
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.encrypt.encrypt(&mut bytes);
        }
        self.output.extend_from_slice(&bytes);
    }

    /// Puts a PROXY header in front of everything. It does not count: the client has
    /// not sent it.
    pub(super) fn put_header(&mut self, header: &[u8]) {
        debug_assert!(self.output.is_empty(), "a header comes first");
        self.uncounted_bytes = header.len();
        self.output.extend_from_slice(header);
    }

    /// Puts a frame that was written elsewhere.
    pub(super) fn put_raw(&mut self, frame: &[u8]) {
        debug_assert!(self.ciphers.is_none(), "raw bytes are not encrypted");
        self.output.extend_from_slice(frame);
    }

    /// Writes what the peer accepts now of the output.
    fn write_now(&mut self) -> Result<(), WireError> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(bytes) => self.has_written(bytes)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The peer has accepted this many bytes of the output.
    fn has_written(&mut self, bytes: usize) -> Result<(), WireError> {
        if bytes == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        self.output.advance(bytes);
        let uncounted_bytes = bytes.min(self.uncounted_bytes);
        self.uncounted_bytes -= uncounted_bytes;
        self.sent_bytes += (bytes - uncounted_bytes) as u64;
        Ok(())
    }

    /// Writes the output. Cancel safe: what was not written stays.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        while !self.output.is_empty() {
            let bytes = self.stream.write(&self.output).await?;
            self.has_written(bytes)?;
        }
        // Frees the buffer of a large frame.
        if self.output.capacity() > READ_BYTES {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Writes the output. If the peer accepts nothing more, drops it and all later
    /// output without an error, so that what the peer has sent before, such as a
    /// disconnect, can still be read. Cancel safe.
    pub(super) async fn flush_while_taken(&mut self) {
        if self.flush().await.is_err() {
            self.takes_nothing = true;
            self.output.clear();
        }
    }

    /// Puts and writes a packet.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put) and [`flush`](Self::flush).
    pub(super) async fn send(&mut self, packet: &[u8]) -> Result<(), WireError> {
        self.put(packet)?;
        self.flush().await
    }

    /// Takes the connection apart.
    pub(super) fn into_parts(self) -> Parts {
        Parts {
            stream: self.stream,
            input: self.input,
            output: self.output,
            format: self.format,
            ciphers: self.ciphers,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// The parts of a [`Wire`]; `input` is read and not split, `output` not written yet.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    pub(super) format: Format,
    pub(super) ciphers: Option<Ciphers>,
}
