//! One direction of a session whose frames are known: bytes in, whole frames out.
//!
//! What one read brings is walked frame by frame and written by one write:
//! frames that suit their receiver and that nobody has to see pass as the slice
//! of the read buffer in which they lie. Only a frame that is changed, and what
//! stands beside it in the same read, is copied.
//!
//! A frame is passed on when it is there as a whole, so that a sender that dies
//! in the middle of one leaves the receiver's stream at the edge of a frame,
//! where a text or another backend can follow.

use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::protocol::cipher::Cipher;
use crate::protocol::codec::{
    self, CLIENTBOUND_PACKET_BYTES_MAX, CodecError, Format, RawFrame, Receiver,
    SERVERBOUND_PACKET_BYTES_MAX, Zlib,
};
use crate::protocol::frame::{self, FRAME_BYTES_MAX, FRAME_LENGTH_BYTES_MAX};
use crate::protocol::packet::{Brand, Clientbound, Serverbound, State, Version};
use crate::protocol::varint;
use crate::protocol::version::V26_2;

use super::Direction;

/// The largest compressed packet that is opened to see what it is, in bytes
/// before compression. The packets that the proxy has to see are smaller.
const LOOK_BYTES_MAX: usize = 1024;

/// Packets a second that a client may send, on average over [`RATE_WINDOW`].
/// Real clients stay below 100; mods send bursts of some hundred when they join.
const PACKETS_PER_SECOND_MAX: u64 = 1000;
/// Bytes a second, before compression, that a client may send on average.
const BYTES_PER_SECOND_MAX: u64 = 4 * 1024 * 1024;
/// What may come at once is what would be allowed in this time: after a lag
/// clients send what has piled up.
const RATE_WINDOW: Duration = Duration::from_secs(7);

/// Why a direction cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FramedError {
    /// The sender's bytes are not frames of its format.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The client sends more than a client does.
    #[error("the client sends too many packets")]
    TooMany,
}

impl From<FramedError> for io::ErrorKind {
    fn from(_: FramedError) -> Self {
        io::ErrorKind::InvalidData
    }
}

/// What a client may still send: packets and bytes before compression. Both
/// refill with time.
#[derive(Debug)]
struct Rate {
    packets: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// In thousandths, so that short times count.
    left: u64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u64, now: Instant) -> Self {
        Self {
            per_second,
            left: Self::most(per_second),
            filled: now,
        }
    }

    const fn most(per_second: u64) -> u64 {
        per_second * 1000 * RATE_WINDOW.as_secs()
    }

    fn take(&mut self, count: u64, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        if millis > 0 {
            let more = millis.saturating_mul(self.per_second);
            self.left = self
                .left
                .saturating_add(more)
                .min(Self::most(self.per_second));
            self.filled = now;
        }
        match self.left.checked_sub(count.saturating_mul(1000)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// One direction: how its frames come, how they go, and what the proxy knows of
/// the packets in them.
#[derive(Debug)]
pub(crate) struct Passage {
    direction: Direction,
    version: Version,
    /// How the sender frames.
    from: Format,
    /// Who reads.
    to: Receiver,
    /// The state in which the sender writes. Frames pass in order, so the
    /// receiver reads in the same.
    state: State,
    /// At the client's side of an encrypted session.
    cipher: Option<Box<Cipher>>,
    /// A frame that has not arrived whole.
    carried: Vec<u8>,
    /// What is changed in packets for the client; clientbound.
    edits: Edits,
    /// The client has read the end of a configuration, and the join game that
    /// follows is to be changed: frames of any size are looked into until then.
    awaits_join_game: bool,
    rate: Option<Box<Rate>>,
}

/// What the proxy changes in packets for a client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edits {
    /// What is appended to the name of the backend's software.
    pub(crate) brand: Option<Brand>,
    /// Whether the client is told that its server authenticates, whatever the
    /// backend says, which does not know (join game since 26.2).
    pub(crate) is_authenticated: bool,
}

impl Edits {
    /// The join game that tells the client that its server authenticates, where
    /// its version is told. The flag is the last byte but one (26.2 and 26.3).
    pub(crate) fn join_game(&self, version: Version, id: u8, fields: &[u8]) -> Option<Vec<u8>> {
        if !self.is_authenticated || version.protocol() < V26_2 {
            return None;
        }
        let mut packet = Vec::with_capacity(1 + fields.len());
        varint::encode(i32::from(id), &mut packet);
        packet.extend_from_slice(fields);
        let flag = packet.len().checked_sub(2)?;
        *packet.get_mut(flag)? = 1;
        Some(packet)
    }
}

/// Both directions of a session.
#[derive(Debug)]
pub(crate) struct Passages {
    pub(crate) serverbound: Box<Passage>,
    pub(crate) clientbound: Box<Passage>,
}

/// The client's side of a session whose relay has ended.
#[derive(Debug)]
pub(crate) struct Remains<S> {
    /// Its socket.
    pub(crate) client: S,
    /// What the client has not taken yet, encrypted.
    pub(crate) backlog: Vec<u8>,
    /// Encrypts what follows the backlog.
    pub(crate) cipher: Option<Box<Cipher>>,
    /// How the client's frames are written.
    pub(crate) format: Format,
    /// The state in which the client reads the next frame.
    pub(crate) state: State,
}

/// What the walk over one read has to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// Nothing: no frame is whole.
    Nothing,
    /// This part of the buffer that was walked.
    Slice(std::ops::Range<usize>),
    /// What was put into the output.
    Output,
}

impl Passage {
    /// A direction from client to backend. `cipher` decrypts what the client sends.
    pub(crate) fn serverbound(
        version: Version,
        from: Format,
        to: Receiver,
        state: State,
        cipher: Option<Box<Cipher>>,
    ) -> Self {
        let now = Instant::now();
        let rate = Rate {
            packets: Bucket::new(PACKETS_PER_SECOND_MAX, now),
            bytes: Bucket::new(BYTES_PER_SECOND_MAX, now),
        };
        Self {
            direction: Direction::Serverbound,
            version,
            from,
            to,
            state,
            cipher,
            carried: Vec::new(),
            edits: Edits::default(),
            awaits_join_game: false,
            rate: Some(Box::new(rate)),
        }
    }

    /// A direction from backend to client. `cipher` encrypts what the client gets.
    pub(crate) fn clientbound(
        version: Version,
        from: Format,
        to: Receiver,
        state: State,
        cipher: Option<Box<Cipher>>,
        edits: Edits,
    ) -> Self {
        Self {
            direction: Direction::Clientbound,
            version,
            from,
            to,
            state,
            cipher,
            carried: Vec::new(),
            edits,
            awaits_join_game: false,
            rate: None,
        }
    }

    /// Takes bytes that were read before, decrypted: the beginning of a frame.
    pub(crate) fn carry(&mut self, bytes: &[u8]) {
        self.carried.extend_from_slice(bytes);
    }

    /// The state in which the receiver reads the next frame.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The cipher, and how the receiver's frames are written.
    pub(crate) fn into_receiver(self) -> (Option<Box<Cipher>>, Format) {
        (self.cipher, self.to.format)
    }

    /// Encrypts what the client is to get, in place; nothing where the session
    /// is not encrypted.
    pub(crate) fn encrypt(&mut self, bytes: &mut [u8]) {
        if let (Direction::Clientbound, Some(cipher)) = (self.direction, &mut self.cipher) {
            cipher.encrypt(bytes);
        }
    }

    fn packet_bytes_max(&self) -> usize {
        match self.direction {
            Direction::Serverbound => SERVERBOUND_PACKET_BYTES_MAX,
            Direction::Clientbound => CLIENTBOUND_PACKET_BYTES_MAX,
        }
    }

    /// Walks what one read has brought. `output` is empty before, and holds
    /// what is to be written where that is not a part of `buffer`.
    ///
    /// # Errors
    ///
    /// When the sender is at fault. Frames before the fault stand in the
    /// result of no call: nothing more is written.
    pub(crate) fn walk(
        &mut self,
        buffer: &mut [u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
    ) -> Result<Walked, FramedError> {
        if let (Direction::Serverbound, Some(cipher)) = (self.direction, &mut self.cipher) {
            cipher.decrypt(buffer);
        }
        let mut at = 0;
        while !self.carried.is_empty() {
            let missing = self.missing()?;
            if missing == 0 {
                let carried = std::mem::take(&mut self.carried);
                let Some(frame) = codec::split(&carried, self.from, self.packet_bytes_max())?
                else {
                    // Its length is known and there.
                    self.carried = carried;
                    break;
                };
                let fate = match self.is_to_be_met(&frame)? {
                    true => self.meet(&frame, output, zlib)?,
                    false => Fate::Pass,
                };
                if let Fate::Pass = fate {
                    debug_assert!(output.is_empty());
                    // A large frame need not be copied once more.
                    *output = carried;
                }
                break;
            }
            let more = buffer.get(at..).unwrap_or_default();
            if more.is_empty() {
                return Ok(Walked::Nothing);
            }
            let more = more.get(..missing).unwrap_or(more);
            self.carried.extend_from_slice(more);
            at += more.len();
        }
        let buffer = &*buffer;
        let mut run = at;
        loop {
            let rest = buffer.get(at..).unwrap_or_default();
            let Some(frame) = codec::split(rest, self.from, self.packet_bytes_max())? else {
                break;
            };
            let end = at + frame.wire.len();
            if self.is_to_be_met(&frame)? {
                let before = output.len();
                let passed = buffer.get(run..at).unwrap_or_default();
                output.extend_from_slice(passed);
                match self.meet(&frame, output, zlib)? {
                    // Nothing has changed: the run goes on.
                    Fate::Pass => output.truncate(before),
                    Fate::Written => run = end,
                }
            }
            at = end;
        }
        let rest = buffer.get(at..).unwrap_or_default();
        self.carried.extend_from_slice(rest);
        let last_run = buffer.get(run..at).unwrap_or_default();
        if output.is_empty() {
            return Ok(match last_run {
                [] => Walked::Nothing,
                _ => Walked::Slice(run..at),
            });
        }
        output.extend_from_slice(last_run);
        Ok(Walked::Output)
    }

    /// How many bytes the carried frame lacks; as long as its length is not
    /// known, one.
    fn missing(&self) -> Result<usize, FramedError> {
        let head = frame::head(&self.carried, FRAME_BYTES_MAX).map_err(CodecError::from)?;
        let Some(head) = head else {
            debug_assert!(self.carried.len() < FRAME_LENGTH_BYTES_MAX);
            return Ok(1);
        };
        // A length before compression that is over the limit is refused before
        // its frame is waited for.
        codec::split(&self.carried, self.from, self.packet_bytes_max())?;
        Ok(head.wire_bytes().saturating_sub(self.carried.len()))
    }

    /// Counts a frame, and says whether it may have to be changed or understood.
    fn is_to_be_met(&mut self, frame: &RawFrame<'_>) -> Result<bool, FramedError> {
        self.count(frame)?;
        if !self.to.takes(frame, self.from) {
            return Ok(true);
        }
        let id = match frame.data_length {
            None => varint::decode(frame.content),
            Some(length) => return Ok(self.looks_into(length)),
        };
        Ok(id.is_ok_and(|id| id.is_some_and(|(id, _)| self.concerns(id))))
    }

    fn count(&mut self, frame: &RawFrame<'_>) -> Result<(), FramedError> {
        let Some(rate) = &mut self.rate else {
            return Ok(());
        };
        let now = Instant::now();
        let bytes = frame.data_length.unwrap_or(frame.content.len());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match rate.packets.take(1, now) && rate.bytes.take(bytes, now) {
            true => Ok(()),
            false => Err(FramedError::TooMany),
        }
    }

    /// Whether the proxy has to see the packet with this id.
    fn concerns(&self, id: i32) -> bool {
        match self.direction {
            Direction::Clientbound => match self.version.kind(self.state, id) {
                Some(Clientbound::StartConfiguration | Clientbound::FinishConfiguration) => true,
                Some(Clientbound::PluginMessage) => self.edits.brand.is_some(),
                Some(Clientbound::JoinGame) => self.edits.is_authenticated,
                _ => false,
            },
            Direction::Serverbound => matches!(
                self.version.kind(self.state, id),
                Some(Serverbound::ConfigurationAcknowledged | Serverbound::FinishConfiguration)
            ),
        }
    }

    /// Whether a compressed packet of this length is opened to see what it is.
    fn looks_into(&self, length: usize) -> bool {
        length <= LOOK_BYTES_MAX || self.awaits_join_game
    }

    /// Looks into a frame, and writes it if it does not pass as it came.
    fn meet(
        &mut self,
        frame: &RawFrame<'_>,
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
    ) -> Result<Fate, FramedError> {
        if frame
            .data_length
            .is_none_or(|length| self.looks_into(length))
        {
            let packet = zlib.packet(frame)?;
            if let Ok(Some((id, id_bytes))) = varint::decode(&packet) {
                let fields = packet.get(id_bytes..).unwrap_or_default();
                if let Some(changed) = self.understand(id, fields) {
                    zlib.write(&changed, self.to.format, output)?;
                    return Ok(Fate::Written);
                }
            }
        }
        if self.to.takes(frame, self.from) {
            return Ok(Fate::Pass);
        }
        codec::convert(frame, self.from, &self.to, zlib, output)?;
        Ok(Fate::Written)
    }

    /// Takes note of what a packet means; the packet that replaces it, if one does.
    fn understand(&mut self, id: i32, fields: &[u8]) -> Option<Vec<u8>> {
        match self.direction {
            Direction::Clientbound => match self.version.kind(self.state, id)? {
                Clientbound::StartConfiguration => self.state = State::Configuration,
                Clientbound::FinishConfiguration => {
                    self.state = State::Play;
                    self.awaits_join_game = self.edits.is_authenticated;
                }
                Clientbound::PluginMessage => {
                    let id = self.version.id(self.state, Clientbound::PluginMessage)?;
                    return self.edits.brand?.rewrite(self.version, id, fields);
                }
                Clientbound::JoinGame => {
                    self.awaits_join_game = false;
                    let id = self.version.id(self.state, Clientbound::JoinGame)?;
                    return self.edits.join_game(self.version, id, fields);
                }
                _ => {}
            },
            Direction::Serverbound => match self.version.kind(self.state, id)? {
                Serverbound::ConfigurationAcknowledged => self.state = State::Configuration,
                Serverbound::FinishConfiguration => self.state = State::Play,
                _ => {}
            },
        }
        None
    }
}

/// What becomes of a frame that was looked into.
enum Fate {
    /// It passes as it came.
    Pass,
    /// It, or what replaces it, was written.
    Written,
}
