//! One direction of a session in which the proxy reads the frames: bytes in, whole
//! frames out.
//!
//! The bytes of one read are walked frame by frame and written by one write. Frames
//! that the receiver accepts unchanged and that the proxy need not read pass as a slice
//! of the read buffer. If a frame is changed, it and the other frames of the same
//! read are copied. Bytes that wait for their encryption are copied too.
//!
//! Most reads are nothing but whole frames that need not be read. The lane writes those
//! without a walk, by a copy of the ids of such frames ([`UnreadFrames`]).
//!
//! # Rules
//!
//! - **A frame is written whole.** It is passed on when all of it has arrived. So a sender
//!   that fails in the middle of a frame leaves the receiver's stream between two frames,
//!   where a disconnect or the packets of another backend can follow. What the receiver gets
//!   depends only on the sender's bytes, not on how they were cut into reads.
//! - **Between two reads only an incomplete frame is kept**, in a spare buffer of the driver
//!   that is given back with the frame. Packets that wait for the end of a configuration,
//!   and the disconnect of a backend that is kept back, are kept as well; most sessions have
//!   neither.
//! - **A walk pauses** once its output has [`OUTPUT_BYTES_MAX`] bytes, and before a frame
//!   about which plugins are asked. The rest of the read is carried. The sender is not read
//!   until that rest is walked.
//! - **Order.** Frames keep the order in which they were sent. A changed one takes the place
//!   of the original. A packet of the proxy or a plugin (from the [`Outbox`]) comes after all
//!   whole frames that were read, and before an incomplete one.
//! - **Encryption is the last step**, so it sees the bytes in the order in which they are
//!   written, each once. Bytes that wait for a slow client are encrypted already. If a session
//!   ends while bytes wait for their encryption, they are encrypted at once and belong to the
//!   backlog in [`ReturnedClient`]: what is written to the client after that continues its
//!   stream.
//!
//! Here are the state of a direction and its setters; `walk` finds the frames in the
//! bytes, `packet` decides what happens to one, and `returned` is the client's side after
//! the relay. `lane` reads and writes the sockets.

mod packet;
mod returned;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fuzz"))]
pub mod trial;
mod walk;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use self::returned::{ClientInput, ReturnedClient};
pub(super) use self::walk::UnreadFrames;
pub(crate) use self::walk::Walked;
use super::bounds::{ClientBounds, Exceeded};
use super::commands::SessionCommands;
use super::packets::{Edits, SentState};
use super::queries::{Decision, PacketQueries};
use super::record::PlayerRecord;
use super::{Direction, Listener, Outbox};
use crate::protocol::cipher::Ciphers;
use crate::protocol::codec::{
    self, CLIENTBOUND_PACKET_BYTES_MAX, CodecError, Format, Receiver, SERVERBOUND_PACKET_BYTES_MAX,
    Zlib,
};
use crate::protocol::packet::{State, Version};
use crate::protocol::varint;

/// The number of output bytes at which a walk pauses until they are written: a few
/// compressed bytes can decompress to a thousand times as many. The output exceeds it
/// by at most one packet.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// The most packets that are asked about at once. They share the cost of a change of
/// threads; the first of them waits for the decisions about all.
const GROUP_PACKETS_MAX: u8 = 64;
/// A group of packets gets no more members once it has this many bytes: they are copied.
const GROUP_BYTES_MAX: usize = 64 * 1024;

/// Why a direction cannot continue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FramedError {
    /// The sender's bytes are not frames of its format.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The sender exceeds a bound.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The client sends a packet that its version does not have in this state.
    #[error("packet {id:#04x} is not expected in {state:?}")]
    Unexpected {
        /// The packet's id.
        id: i32,
        /// The state in which the client writes.
        state: State,
    },
}

impl From<&FramedError> for io::ErrorKind {
    fn from(_: &FramedError) -> Self {
        io::ErrorKind::InvalidData
    }
}

/// One direction: the formats of its sender and receiver, and what the proxy knows of
/// the packets.
#[derive(Debug)]
pub(crate) struct FrameFilter {
    direction: Direction,
    version: Version,
    /// The format of the sender's frames.
    from: Format,
    /// The receiver and its format.
    to: Receiver,
    /// What the receiver has been sent. Frames pass in order, so the sender
    /// writes in the state in which the receiver reads.
    sent: SentState,
    /// The bytes of an incomplete frame, or the rest after a walk has paused.
    carried: Vec<u8>,
    /// The walk has paused at [`OUTPUT_BYTES_MAX`].
    has_paused: bool,
    /// Who is asked about packets, if anybody is.
    queries: Option<Arc<PacketQueries>>,
    /// The first frames of those that are carried wait for decisions.
    awaits_decision: bool,
    /// How many frames after the one that is walked were counted before: at most
    /// [`GROUP_PACKETS_MAX`].
    counted: u8,
    /// The changes to packets for the client; only used clientbound.
    edits: Edits,
    /// The outbox of the session, which also has the cookies that are requested from the
    /// client.
    outbox: Arc<Outbox>,
    /// The commands of the proxy that the client may use.
    commands: Option<Arc<SessionCommands>>,
    /// The limits of the client; serverbound.
    bounds: Option<ClientBounds>,
    /// Set if the player may be moved to another backend.
    record: Option<PlayerRecord>,
    /// Packets of the client may still be of the world of the backend before; only used
    /// serverbound.
    is_entering: bool,
    /// The ids of packets that pass unread in the current state.
    unread: UnreadIds,
    /// Boxed, and `None` until it is needed, to keep an idle session small.
    rare: Option<Box<Rare>>,
}

/// An idle session has two of these.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<FrameFilter>() <= 160);

/// The part of a direction's state that only some sessions need.
#[derive(Debug, Default)]
struct Rare {
    /// The decisions about the frames that are walked next.
    decisions: VecDeque<Decision>,
    /// Frames for the receiver that wait for the end of a configuration.
    held: Vec<u8>,
    /// The fields of the backend's disconnect, which is kept back from the client if
    /// the player may be moved to another backend.
    kick: Option<Vec<u8>>,
    /// Reads what the backend asks the proxy; only used clientbound.
    listener: Option<Arc<dyn Listener>>,
    /// The error after the frames of the last walk.
    fault: Option<FramedError>,
}

/// The ids of one byte that mark packets which the proxy does not read. A walk passes
/// such packets after a look at the id only. Most packets of a backend are of this kind.
#[derive(Debug, Clone, Copy, Default)]
struct UnreadIds {
    /// The state in which they hold; `None` until they are looked up.
    state: Option<State>,
    bits: [u64; 2],
    /// Whether each packet waits for a decision.
    asks_all: bool,
}

impl UnreadIds {
    /// The number of ids that have one byte.
    const COUNT: u8 = 0x80;

    const fn has(self, id: u8) -> bool {
        has_id(self.bits, id)
    }
}

/// Whether a set of ids of one byte has this one.
const fn has_id(set: [u64; 2], id: u8) -> bool {
    let [low, high] = set;
    match id {
        0..64 => low >> id & 1 == 1,
        64..UnreadIds::COUNT => high >> (id - 64) & 1 == 1,
        _ => false,
    }
}

/// Both directions of a session.
#[derive(Debug)]
pub(crate) struct FrameFilters {
    pub(crate) serverbound: Box<FrameFilter>,
    pub(crate) clientbound: Box<FrameFilter>,
    /// Of the client's side, if that is encrypted.
    pub(crate) ciphers: Option<Ciphers>,
}

impl FrameFilters {
    /// Makes packets that plugins want wait for decisions.
    pub(crate) fn set_queries(&mut self, queries: &Arc<PacketQueries>) {
        for filter in [&mut self.serverbound, &mut self.clientbound] {
            filter.queries = Some(Arc::clone(queries));
            filter.unread = UnreadIds::default();
        }
    }

    /// Records what is needed to move the player to another backend, and keeps back
    /// the disconnect with which this backend ends the session.
    pub(crate) fn set_record(&mut self, record: &PlayerRecord) {
        for filter in [&mut self.serverbound, &mut self.clientbound] {
            filter.record = Some(record.clone());
            filter.unread = UnreadIds::default();
        }
        self.serverbound.is_entering = record.is_entering();
    }

    /// Lets the client use these commands of the proxy.
    pub(crate) fn set_commands(&mut self, commands: &Arc<SessionCommands>) {
        for filter in [&mut self.serverbound, &mut self.clientbound] {
            filter.commands = Some(Arc::clone(commands));
            filter.unread = UnreadIds::default();
        }
    }

    /// The outbox of the session.
    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.clientbound.outbox
    }
}

impl FrameFilter {
    /// A direction from client to backend.
    pub(crate) fn serverbound(
        version: Version,
        from: Format,
        to: Receiver,
        state: State,
        bounds: ClientBounds,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            bounds: Some(bounds),
            ..Self::new(
                Direction::Serverbound,
                version,
                from,
                to,
                SentState::new(state),
                outbox,
            )
        }
    }

    /// A direction from backend to client.
    pub(crate) fn clientbound(
        version: Version,
        from: Format,
        to: Receiver,
        sent: SentState,
        edits: Edits,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            edits,
            ..Self::new(Direction::Clientbound, version, from, to, sent, outbox)
        }
    }

    fn new(
        direction: Direction,
        version: Version,
        from: Format,
        to: Receiver,
        sent: SentState,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            direction,
            version,
            from,
            to,
            sent,
            carried: Vec::new(),
            has_paused: false,
            queries: None,
            awaits_decision: false,
            counted: 0,
            edits: Edits::default(),
            outbox,
            commands: None,
            bounds: None,
            record: None,
            is_entering: false,
            unread: UnreadIds::default(),
            rare: None,
        }
    }

    /// Lets this listener read plugin messages that the backend sends to the proxy.
    pub(crate) fn set_listener(&mut self, listener: Option<Arc<dyn Listener>>) {
        if listener.is_some() {
            self.rare().listener = listener;
        }
    }

    /// Whether the backend has ended the session with a disconnect that is kept back.
    pub(crate) fn is_kicked(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.kick.is_some())
    }

    /// The fields of that disconnect.
    pub(crate) fn take_kick(&mut self) -> Option<Vec<u8>> {
        self.rare.as_mut()?.kick.take()
    }

    /// What is needed to continue reading from the client, if it may be moved to
    /// another backend.
    pub(crate) fn into_client_input(mut self, kick: Option<Vec<u8>>) -> Option<Box<ClientInput>> {
        self.drop_handled();
        let (Some(bounds), Some(record)) = (self.bounds, self.record) else {
            return None;
        };
        record.lose_backend();
        Some(Box::new(ClientInput {
            carried: self.carried,
            state: self.sent.state,
            bounds,
            record,
            kick,
        }))
    }

    /// Drops the first frame that waits for a decision, and those that have one. A client's
    /// packet is counted and applied before it waits, and that must not happen twice.
    fn drop_handled(&mut self) {
        let decided = self.rare.as_ref().map_or(0, |rare| rare.decisions.len());
        let handled = decided + usize::from(self.awaits_decision);
        let mut bytes = 0;
        for _ in 0..handled {
            let rest = self.carried.get(bytes..).unwrap_or_default();
            let frame = codec::split(rest, self.from, self.packet_bytes_max());
            bytes += frame.ok().flatten().map_or(0, |frame| frame.wire.len());
        }
        self.carried.drain(..bytes);
    }

    /// The error that ends the direction after the frames of the last walk.
    pub(crate) fn fault(&self) -> Option<&FramedError> {
        self.rare.as_ref()?.fault.as_ref()
    }

    /// Whether the frames that are walked next have decisions.
    fn has_decisions(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| !rare.decisions.is_empty())
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether the last walk has paused. Once its output is written, the caller walks
    /// again with an empty buffer, before it reads more.
    pub(crate) fn has_paused(&self) -> bool {
        self.has_paused
    }

    /// Whether each frame waits for a decision.
    pub(super) fn queries_every_packet(&mut self) -> bool {
        self.queries.is_some() && self.unread_ids().asks_all
    }

    /// Where packets wait for decisions, if there is anybody who decides.
    pub(super) fn queries(&self) -> Option<&Arc<PacketQueries>> {
        self.queries.as_ref()
    }

    /// Whether a frame waits for a decision. Nothing is read from the sender until then.
    pub(super) fn awaits_decision(&self) -> bool {
        self.awaits_decision
    }

    /// Stops waiting for decisions. The first waiting frame passes in the next walk, which
    /// also handles the frames behind it.
    pub(super) fn cancel_queries(&mut self) {
        self.queries = None;
        self.unread = UnreadIds::default();
        if std::mem::take(&mut self.awaits_decision) {
            // It was counted and applied before it began to wait.
            self.rare().decisions = VecDeque::from([Decision::Pass]);
        }
    }

    /// Takes the decisions for which frames wait, if they have been made: the frames
    /// that are carried can be walked then, as after a pause.
    pub(super) fn take_decision(&mut self) -> bool {
        let queries = self.queries.as_deref().filter(|_| self.awaits_decision);
        let decisions = queries.and_then(|queries| queries.take_decisions(self.direction));
        let is_decided = decisions.is_some();
        if let Some(decisions) = decisions {
            let decided = u8::try_from(decisions.len()).unwrap_or(u8::MAX);
            self.counted = (self.counted + 1).saturating_sub(decided);
            self.rare().decisions = decisions.into();
            self.awaits_decision = false;
            self.has_paused = true;
        }
        is_decided
    }

    /// Adds bytes that were read earlier, decrypted: the beginning of a frame.
    pub(crate) fn carry(&mut self, bytes: &[u8]) {
        self.carried.extend_from_slice(bytes);
    }

    /// What the receiver has been sent.
    pub(crate) fn sent(&self) -> SentState {
        self.sent
    }

    /// The format of the receiver.
    pub(crate) fn receiver_format(&self) -> Format {
        self.to.format
    }

    /// Whether the receiver can get play packets that its peer has not sent. It cannot
    /// inside a bundle, since they would become a part of it.
    pub(crate) fn accepts_other_packets(&self) -> bool {
        let SentState {
            state,
            awaits_join_game,
            in_bundle,
            ..
        } = self.sent;
        state == State::Play && !awaits_join_game && !in_bundle
    }

    /// Writes a packet that does not come from the peer, in the receiver's format.
    ///
    /// # Errors
    ///
    /// When it is too large for a frame.
    pub(crate) fn write_other_packet(
        &self,
        packet: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
    ) -> Result<(), CodecError> {
        zlib.write(packet, self.to.format, output)?;
        // What a plugin puts on the client's screen is cleared there as well.
        if let (Direction::Clientbound, Some(record)) = (self.direction, &self.record)
            && let Ok(Some((id, id_bytes))) = varint::decode(packet)
            && let Some(kind) = self.version.kind(State::Play, id)
        {
            let fields = packet.get(id_bytes..).unwrap_or_default();
            record.shown(self.version, kind, fields);
        }
        Ok(())
    }

    fn packet_bytes_max(&self) -> usize {
        match self.direction {
            Direction::Serverbound => SERVERBOUND_PACKET_BYTES_MAX,
            Direction::Clientbound => CLIENTBOUND_PACKET_BYTES_MAX,
        }
    }
}
