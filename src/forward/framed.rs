//! One direction of a session in which the proxy reads the frames: bytes in, whole
//! frames out.
//!
//! The bytes of one read are walked frame by frame and written by one write. Frames
//! that the receiver accepts unchanged and that the proxy need not read pass as a slice
//! of the read buffer. Only if a frame is changed, it and the other frames of the same
//! read are copied.
//!
//! A frame is passed on when all of it has arrived. So a sender that fails in the
//! middle of a frame leaves the receiver's stream between two frames, where a
//! disconnect or the packets of another backend can follow.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::protocol::cipher::Cipher;
use crate::protocol::codec::{
    self, CLIENTBOUND_PACKET_BYTES_MAX, CodecError, Format, RawFrame, Receiver,
    SERVERBOUND_PACKET_BYTES_MAX, Zlib,
};
use crate::protocol::frame::{self, FRAME_BYTES_MAX, FRAME_LENGTH_BYTES_MAX, FrameError};
use crate::protocol::packet::{Clientbound, Serverbound, State, Version};
use crate::protocol::peek;
use crate::protocol::varint;

use super::bounds::{Allowed, BackendBounds, ClientBounds, Exceeded};
use super::commands::{PacketAction, SessionCommands};
use super::packets::{Edits, SentState};
use super::queries::{Decision, PacketQueries, PacketQuery};
use super::record::{HELD_BYTES_MAX, PlayerRecord, is_held};
use super::spare::SpareBuffers;
use super::{Direction, Listener, Outbox};

/// The number of output bytes at which a walk pauses until they are written: a few
/// compressed bytes can decompress to a thousand times as many. The output exceeds it
/// by at most one packet.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

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
    /// Of the client's side, if the session is encrypted.
    cipher: Option<Box<Cipher>>,
    /// The bytes of an incomplete frame, or the rest after a walk has paused.
    carried: Vec<u8>,
    /// The walk has paused at [`OUTPUT_BYTES_MAX`].
    has_paused: bool,
    /// Who is asked about packets, if anybody is.
    queries: Option<Arc<PacketQueries>>,
    /// The first frame of those that are carried waits for a decision.
    awaits_decision: bool,
    /// The decision about the frame that is walked next.
    decision: Option<Decision>,
    /// The changes to packets for the client; only used clientbound.
    edits: Edits,
    /// Who else than the backend asks the client for cookies; only used serverbound.
    cookies: Option<Arc<Outbox>>,
    /// The commands of the proxy that the client may send; serverbound.
    commands: Option<Arc<SessionCommands>>,
    bounds: Bounds,
    /// Set if the player may be moved to another backend.
    record: Option<PlayerRecord>,
    /// Frames for the receiver that wait for the end of a configuration.
    held: Vec<u8>,
    /// Reads what the backend asks the proxy; only used clientbound.
    listener: Option<Arc<dyn Listener>>,
    /// The fields of the backend's disconnect, which is kept back from the client if
    /// the player may be moved to another backend.
    kick: Option<Vec<u8>>,
    /// The error after the frames of the last walk.
    fault: Option<FramedError>,
}

/// The limits for the sender of a direction.
#[derive(Debug)]
enum Bounds {
    Client(Box<ClientBounds>),
    Backend(BackendBounds),
}

/// Both directions of a session.
#[derive(Debug)]
pub(crate) struct FrameFilters {
    pub(crate) serverbound: Box<FrameFilter>,
    pub(crate) clientbound: Box<FrameFilter>,
    /// Packets that do not come from the two peers, if there can be any.
    pub(crate) outbox: Option<Arc<Outbox>>,
}

impl FrameFilters {
    /// Has packets wait for what somebody says about them.
    pub(crate) fn set_queries(&mut self, queries: &Arc<PacketQueries>) {
        self.serverbound.queries = Some(Arc::clone(queries));
        self.clientbound.queries = Some(Arc::clone(queries));
    }

    /// Records what is needed to move the player to another backend, and keeps back
    /// the disconnect with which this backend ends the session.
    pub(crate) fn set_record(&mut self, record: &PlayerRecord) {
        self.serverbound.record = Some(record.clone());
        self.clientbound.record = Some(record.clone());
    }
}

/// The client's side of a session whose relay has ended.
#[derive(Debug)]
pub(crate) struct ReturnedClient<S> {
    /// Its socket.
    pub(crate) client: S,
    /// Bytes that the client has not accepted yet, encrypted.
    pub(crate) backlog: Vec<u8>,
    /// Encrypts what follows the backlog.
    pub(crate) cipher: Option<Box<Cipher>>,
    /// The format of frames for the client.
    pub(crate) format: Format,
    /// What the client has been sent.
    pub(crate) sent: SentState,
    /// The state of the client as a sender, if it may be moved to another backend.
    pub(crate) input: Option<Box<ClientInput>>,
    /// What ended the session, if a side has violated the protocol.
    pub(crate) fault: Option<FramedError>,
}

/// What is needed to continue reading from a client after its backend is lost.
#[derive(Debug)]
pub(crate) struct ClientInput {
    /// Decrypts the following bytes.
    pub(crate) cipher: Option<Box<Cipher>>,
    /// The bytes of an incomplete frame, decrypted.
    pub(crate) carried: Vec<u8>,
    /// The state in which the client writes.
    pub(crate) state: State,
    /// Its limits.
    pub(crate) bounds: Box<ClientBounds>,
    /// What was recorded of the player.
    pub(crate) record: PlayerRecord,
    /// The fields of the disconnect with which the backend has ended the session.
    pub(crate) kick: Option<Vec<u8>>,
}

/// Where the bytes to write are after a walk over one read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// There are none: no frame is complete.
    Nothing,
    /// In this part of the read buffer.
    Slice(std::ops::Range<usize>),
    /// In the output.
    Output,
}

impl FrameFilter {
    /// A direction from client to backend. `cipher` decrypts what the client sends.
    pub(crate) fn serverbound(
        version: Version,
        from: Format,
        to: Receiver,
        state: State,
        cipher: Option<Box<Cipher>>,
        bounds: Box<ClientBounds>,
    ) -> Self {
        Self {
            direction: Direction::Serverbound,
            version,
            from,
            to,
            sent: SentState::new(state),
            cipher,
            carried: Vec::new(),
            has_paused: false,
            queries: None,
            awaits_decision: false,
            decision: None,
            edits: Edits::default(),
            cookies: None,
            commands: None,
            bounds: Bounds::Client(bounds),
            record: None,
            held: Vec::new(),
            listener: None,
            kick: None,
            fault: None,
        }
    }

    /// A direction from backend to client. `cipher` encrypts what the client gets.
    pub(crate) fn clientbound(
        version: Version,
        from: Format,
        to: Receiver,
        sent: SentState,
        cipher: Option<Box<Cipher>>,
        edits: Edits,
        bounds: BackendBounds,
    ) -> Self {
        Self {
            direction: Direction::Clientbound,
            version,
            from,
            to,
            sent,
            cipher,
            carried: Vec::new(),
            has_paused: false,
            queries: None,
            awaits_decision: false,
            decision: None,
            edits,
            cookies: None,
            commands: None,
            bounds: Bounds::Backend(bounds),
            record: None,
            held: Vec::new(),
            listener: None,
            kick: None,
            fault: None,
        }
    }

    /// Gives the client's cookies to those who have asked through this outbox.
    pub(crate) fn set_cookie_outbox(&mut self, outbox: Option<Arc<Outbox>>) {
        self.cookies = outbox;
    }

    /// Takes these commands from what the client sends.
    pub(crate) fn set_commands(&mut self, commands: Option<Arc<SessionCommands>>) {
        self.commands = commands;
    }

    /// Has this listener read what the backend asks the proxy.
    pub(crate) fn set_listener(&mut self, listener: Option<Arc<dyn Listener>>) {
        self.listener = listener;
    }

    /// Whether the backend has ended the session with a disconnect that is kept back.
    pub(crate) fn is_kicked(&self) -> bool {
        self.kick.is_some()
    }

    /// The fields of that disconnect.
    pub(crate) fn take_kick(&mut self) -> Option<Vec<u8>> {
        self.kick.take()
    }

    /// What is needed to continue reading from the client, if it may be moved to
    /// another backend.
    pub(crate) fn into_client_input(self, kick: Option<Vec<u8>>) -> Option<Box<ClientInput>> {
        let (Bounds::Client(bounds), Some(record)) = (self.bounds, self.record) else {
            return None;
        };
        record.forget_keep_alives();
        Some(Box::new(ClientInput {
            cipher: self.cipher,
            carried: self.carried,
            state: self.sent.state,
            bounds,
            record,
            kick,
        }))
    }

    /// The error that ends the direction after the frames of the last walk.
    pub(crate) fn fault(&self) -> Option<&FramedError> {
        self.fault.as_ref()
    }

    /// Whether the last walk has paused. Once its output is written, the caller walks
    /// again with an empty buffer, before it reads more.
    pub(crate) fn has_paused(&self) -> bool {
        self.has_paused
    }

    /// Whether each frame waits for a decision.
    pub(super) fn queries_every_packet(&self) -> bool {
        let (state, direction) = (self.sent.state, self.direction);
        let queries = self.queries.as_ref();
        queries.is_some_and(|queries| queries.wanted.has_all(state, direction))
    }

    /// Whether a frame waits for a decision. Nothing is read from the sender until then.
    pub(super) fn awaits_decision(&self) -> bool {
        self.awaits_decision
    }

    /// Asks nobody any more. A frame that waits for a decision is walked with the next.
    pub(super) fn cancel_queries(&mut self) {
        self.queries = None;
        self.awaits_decision = false;
        self.decision = None;
    }

    /// Takes the decision for which a frame waits, if it has been made: the frames
    /// that are carried can be walked then, as after a pause.
    pub(super) fn take_decision(&mut self) -> bool {
        let queries = self.queries.as_deref().filter(|_| self.awaits_decision);
        let decision = queries.and_then(|queries| queries.take_answer(self.direction));
        let is_decided = decision.is_some();
        if is_decided {
            self.decision = decision;
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

    /// The cipher, and the format of the receiver.
    pub(crate) fn into_receiver(self) -> (Option<Box<Cipher>>, Format) {
        (self.cipher, self.to.format)
    }

    /// The cipher for bytes to the client; `None` if they are not encrypted.
    pub(super) fn encryption(&mut self) -> Option<&mut Cipher> {
        match self.direction {
            Direction::Clientbound => self.cipher.as_deref_mut(),
            Direction::Serverbound => None,
        }
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

    /// Encrypts bytes for the client, in place, if the session is encrypted.
    pub(super) fn encrypt(&mut self, bytes: &mut [u8]) {
        if let Some(cipher) = self.encryption() {
            cipher.encrypt(bytes);
        }
    }

    fn packet_bytes_max(&self) -> usize {
        match self.direction {
            Direction::Serverbound => SERVERBOUND_PACKET_BYTES_MAX,
            Direction::Clientbound => CLIENTBOUND_PACKET_BYTES_MAX,
        }
    }

    /// Walks the bytes of one read. `output` must be empty; it holds the bytes to write
    /// if they are not a part of `buffer`.
    ///
    /// If there is a fault, the frames before it are still passed on, and
    /// [`fault`](Self::fault) returns it. So the receiver's stream depends only on the
    /// sender's stream, not on how it was cut into reads.
    pub(super) fn walk(
        &mut self,
        buffer: &mut [u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Walked {
        if let (Direction::Serverbound, Some(cipher)) = (self.direction, &mut self.cipher) {
            cipher.decrypt(buffer);
        }
        let buffer = &*buffer;
        if std::mem::take(&mut self.has_paused) {
            let mut paused = std::mem::take(&mut self.carried);
            paused.extend_from_slice(buffer);
            let run = self.walk_all(&paused, output, zlib, spare);
            output.extend_from_slice(paused.get(run).unwrap_or_default());
            spare.put(paused);
            return match output.is_empty() {
                true => Walked::Nothing,
                false => Walked::Output,
            };
        }
        let run = self.walk_all(buffer, output, zlib, spare);
        let last_run = buffer.get(run.clone()).unwrap_or_default();
        match (output.is_empty(), last_run) {
            (true, []) => Walked::Nothing,
            (true, _) => Walked::Slice(run),
            (false, _) => {
                output.extend_from_slice(last_run);
                Walked::Output
            }
        }
    }

    /// Walks the carried bytes and the buffer. Returns the part of the buffer that is
    /// to be written after the output; stores a fault.
    fn walk_all(
        &mut self,
        buffer: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> std::ops::Range<usize> {
        let mut run = 0..0;
        let end = self
            .finish_carried(buffer, output, zlib, spare)
            .and_then(|at| match at {
                Some(at) => {
                    run = at..at;
                    self.walk_frames(buffer, &mut run, output, zlib, spare)
                }
                None => Ok(()),
            });
        if let Err(fault) = end {
            self.carried = Vec::new();
            self.fault = Some(fault);
        }
        run
    }

    /// Completes the carried frames with the beginning of the buffer. Returns how many
    /// bytes of the buffer that took; `None` if the walk ends here.
    fn finish_carried(
        &mut self,
        buffer: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Result<Option<usize>, FramedError> {
        let mut at = 0;
        while !self.carried.is_empty() {
            let missing = self.missing()?;
            if missing > 0 {
                let more = buffer.get(at..).unwrap_or_default();
                let more = more.get(..missing).unwrap_or(more);
                if more.is_empty() {
                    return Ok(None);
                }
                self.carried.extend_from_slice(more);
                at += more.len();
                continue;
            }
            let mut carried = std::mem::take(&mut self.carried);
            let Some(frame) = codec::split(&carried, self.from, self.packet_bytes_max())? else {
                // Not reached: nothing is missing, so the frame is complete.
                return Err(CodecError::BadDataLength.into());
            };
            let wire_bytes = frame.wire.len();
            match self.handle_frame(&frame, zlib)? {
                FrameAction::Ask => {
                    carried.extend_from_slice(buffer.get(at..).unwrap_or_default());
                    self.carried = carried;
                    return Ok(None);
                }
                FrameAction::Pass => {
                    // More than one frame may have been carried.
                    self.carried = carried.split_off(wire_bytes);
                    if output.is_empty() {
                        // So a large frame is not copied once more.
                        std::mem::swap(output, &mut carried);
                    } else {
                        output.extend_from_slice(&carried);
                    }
                }
                action => {
                    self.write(&action, &frame, output, zlib)?;
                    self.carried = carried.split_off(wire_bytes);
                }
            }
            spare.put(carried);
            if self.is_kicked() {
                self.carried = Vec::new();
                return Ok(None);
            }
            if output.len() >= OUTPUT_BYTES_MAX {
                let rest = buffer.get(at..).unwrap_or_default();
                self.pause(rest);
                return Ok(None);
            }
        }
        Ok(Some(at))
    }

    /// Walks whole frames. `run` is the range of the last frames that pass unchanged
    /// and are not in the output yet. An incomplete frame is carried.
    fn walk_frames(
        &mut self,
        buffer: &[u8],
        run: &mut std::ops::Range<usize>,
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Result<(), FramedError> {
        loop {
            let rest = buffer.get(run.end..).unwrap_or_default();
            let Some(frame) = codec::split(rest, self.from, self.packet_bytes_max())? else {
                if !rest.is_empty() {
                    self.carried = spare.take();
                    self.carried.extend_from_slice(rest);
                }
                return Ok(());
            };
            let end = run.end + frame.wire.len();
            match self.handle_frame(&frame, zlib)? {
                FrameAction::Pass => run.end = end,
                FrameAction::Ask => {
                    self.carried = spare.take();
                    self.carried.extend_from_slice(rest);
                    return Ok(());
                }
                action => {
                    output.extend_from_slice(buffer.get(run.clone()).unwrap_or_default());
                    *run = run.end..run.end;
                    self.write(&action, &frame, output, zlib)?;
                    *run = end..end;
                    if output.len() >= OUTPUT_BYTES_MAX {
                        self.pause(buffer.get(end..).unwrap_or_default());
                        return Ok(());
                    }
                }
            }
            if self.is_kicked() {
                return Ok(());
            }
        }
    }

    /// Pauses a walk before these bytes.
    fn pause(&mut self, rest: &[u8]) {
        self.carried.extend_from_slice(rest);
        self.has_paused = !self.carried.is_empty();
    }

    /// How many bytes the carried frame lacks; one while its length is not known.
    fn missing(&self) -> Result<usize, FramedError> {
        let head = frame::head(&self.carried, FRAME_BYTES_MAX).map_err(CodecError::from)?;
        let Some(head) = head else {
            debug_assert!(self.carried.len() < FRAME_LENGTH_BYTES_MAX);
            return Ok(1);
        };
        // Refuses a length before compression that is over the limit now, before
        // waiting for the frame.
        codec::split(&self.carried, self.from, self.packet_bytes_max())?;
        Ok(head.wire_bytes().saturating_sub(self.carried.len()))
    }

    /// Whether the proxy has to see the packet with this id.
    fn reads(&self, id: i32) -> bool {
        if self.is_wanted(id) || self.is_withheld(id) {
            return true;
        }
        match self.direction {
            Direction::Clientbound => {
                let is_recorded = |kind| {
                    self.record.is_some() && PlayerRecord::records_clientbound(self.version, kind)
                };
                self.version.kind(self.sent.state, id).is_some_and(|kind| {
                    SentState::is_relevant(kind)
                        || (self.record.is_some() && is_held(self.sent.state, kind))
                        || self.edits.may_change(kind)
                        || BackendBounds::checks(kind)
                        || is_recorded(kind)
                })
            }
            Direction::Serverbound => {
                let is_recorded =
                    |kind| self.record.is_some() && PlayerRecord::records_serverbound(kind);
                self.version
                    .kind(self.sent.state, id)
                    .is_some_and(|kind: Serverbound| {
                        kind.leads_to().is_some()
                            || ClientBounds::checks(kind)
                            || is_recorded(kind)
                            || self.takes(kind)
                    })
            }
        }
    }

    /// Whether packets of the client of this kind can be commands of the proxy.
    fn takes(&self, kind: Serverbound) -> bool {
        self.commands.is_some() && SessionCommands::reads_serverbound(kind)
    }

    /// Whether somebody wants to know of the packet with this id.
    fn is_wanted(&self, id: i32) -> bool {
        let (state, direction) = (self.sent.state, self.direction);
        let queries = self.queries.as_ref();
        queries.is_some_and(|queries| queries.wanted.has(state, direction, id))
    }

    /// Whether the backend does not get the packet with this id.
    fn is_withheld(&self, id: i32) -> bool {
        let (version, state) = (self.version, self.sent.state);
        let queries = self.queries.as_ref();
        self.direction == Direction::Serverbound
            && queries.is_some_and(|queries| queries.wanted.withholds(version, state, id))
    }

    /// The id of a compressed packet, if it can be read without decompressing. Packets
    /// of a client are always decompressed: they are few, and their length is checked.
    fn shown_id(&self, frame: &RawFrame<'_>) -> Option<i32> {
        match self.direction {
            Direction::Serverbound => None,
            Direction::Clientbound => {
                frame.data_length?;
                peek::packet_id(frame.content)
            }
        }
    }

    /// Counts and checks a frame, records what it means, and decides what to do with it.
    fn handle_frame(
        &mut self,
        frame: &RawFrame<'_>,
        zlib: &mut Zlib,
    ) -> Result<FrameAction, FramedError> {
        let passes = match self.to.takes(frame, self.from) {
            true => FrameAction::Pass,
            false => FrameAction::Convert,
        };
        if let Some(decision) = self.decision.take() {
            return self.apply_decision(decision, frame, passes, zlib);
        }
        if let Bounds::Client(bounds) = &mut self.bounds {
            self.from.check_threshold(frame.data_length)?;
            bounds.count(frame.data_length.unwrap_or(frame.content.len()))?;
        }
        if self.shown_id(frame).is_some_and(|id| !self.reads(id)) {
            return Ok(passes);
        }
        let packet = zlib.packet(frame)?;
        let (id, fields) = parts(packet)?;
        self.check(id)?;
        if !self.reads(id) {
            return Ok(passes);
        }
        let state = self.sent.state;
        let is_wanted = self.is_wanted(id);
        let is_withheld = self.is_withheld(id);
        // What a client sends is checked before anybody sees it; what a backend sends
        // is understood as the client gets it.
        if self.direction == Direction::Serverbound || !is_wanted {
            let action = self.handle_packet(id, fields, passes)?;
            if is_withheld {
                return Ok(FrameAction::Drop);
            }
            if !is_wanted || !matches!(action, FrameAction::Pass | FrameAction::Convert) {
                return Ok(action);
            }
        }
        if let Some(queries) = &self.queries {
            let packet = packet.to_vec();
            queries.put(self.direction, PacketQuery { state, packet });
            self.awaits_decision = true;
        }
        Ok(FrameAction::Ask)
    }

    /// Decides what to do with a frame about which somebody else has decided.
    fn apply_decision(
        &mut self,
        decision: Decision,
        frame: &RawFrame<'_>,
        passes: FrameAction,
        zlib: &mut Zlib,
    ) -> Result<FrameAction, FramedError> {
        match (decision, self.direction) {
            (Decision::Drop(None), _) => Ok(FrameAction::Drop),
            (Decision::Drop(Some(packet)), _) => Ok(FrameAction::Change(packet)),
            (Decision::Pass, Direction::Serverbound) => Ok(passes),
            (Decision::Pass, Direction::Clientbound) => {
                let (id, fields) = parts(zlib.packet(frame)?)?;
                self.handle_packet(id, fields, passes)
            }
            (Decision::Change(packet), Direction::Serverbound) => {
                let (id, fields) = parts(&packet)?;
                if let (Some(record), Some(kind)) =
                    (&self.record, self.version.kind(self.sent.state, id))
                {
                    record.serverbound(kind, fields);
                }
                Ok(FrameAction::Change(packet))
            }
            (Decision::Change(packet), Direction::Clientbound) => {
                let (id, fields) = parts(&packet)?;
                Ok(match self.handle_packet(id, fields, FrameAction::Pass)? {
                    FrameAction::Pass => FrameAction::Change(packet),
                    action => action,
                })
            }
        }
    }

    /// Checks a packet, records what it means, and decides what to do with it.
    fn handle_packet(
        &mut self,
        id: i32,
        fields: &[u8],
        passes: FrameAction,
    ) -> Result<FrameAction, FramedError> {
        match self.check_bounds(id, fields)? {
            Allowed::Drop => Ok(FrameAction::Drop),
            Allowed::Pass if self.holds(id) => Ok(FrameAction::Hold),
            Allowed::Pass => {
                let action = match self.apply_packet(id, fields) {
                    PacketAction::Pass => passes,
                    PacketAction::Drop => FrameAction::Drop,
                    PacketAction::Change(packet) => FrameAction::Change(packet),
                };
                // Nothing is held but in a configuration, which this packet ends.
                let ends_configuration = self.sent.state == State::Play;
                Ok(match ends_configuration && !self.held.is_empty() {
                    true => FrameAction::Release,
                    false => action,
                })
            }
        }
    }

    /// Whether a packet with this id waits for the end of the configuration.
    fn holds(&self, id: i32) -> bool {
        let state = self.sent.state;
        self.direction == Direction::Clientbound
            && self.record.is_some()
            && self
                .version
                .kind(state, id)
                .is_some_and(|kind| is_held(state, kind))
    }

    /// Writes a frame that does not pass unchanged.
    fn write(
        &mut self,
        action: &FrameAction,
        frame: &RawFrame<'_>,
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
    ) -> Result<(), FramedError> {
        match action {
            FrameAction::Drop | FrameAction::Ask => {}
            FrameAction::Change(packet) => zlib.write(packet, self.to.format, output)?,
            FrameAction::Pass | FrameAction::Convert => {
                codec::convert(frame, self.from, &self.to, zlib, output)?
            }
            FrameAction::Hold => {
                codec::convert(frame, self.from, &self.to, zlib, &mut self.held)?;
                if self.held.len() > HELD_BYTES_MAX {
                    return Err(Exceeded::Limit {
                        what: "a configuration",
                        max: HELD_BYTES_MAX,
                        unit: "bytes",
                    }
                    .into());
                }
            }
            FrameAction::Release => {
                output.append(&mut std::mem::take(&mut self.held));
                codec::convert(frame, self.from, &self.to, zlib, output)?;
            }
        }
        Ok(())
    }

    /// Checks that the version has a packet with this id. Only for a client in a
    /// configuration, where a packet of another state shows that the client is in the
    /// wrong state. In play the backend checks this itself.
    fn check(&self, id: i32) -> Result<(), FramedError> {
        let (state, direction) = (self.sent.state, self.direction);
        let is_checked = (direction, state) == (Direction::Serverbound, State::Configuration);
        if is_checked && self.version.name(state, direction, id).is_none() {
            return Err(FramedError::Unexpected {
                id,
                state: self.sent.state,
            });
        }
        Ok(())
    }

    /// Checks the fields of a packet against the limits of its sender.
    fn check_bounds(&mut self, id: i32, fields: &[u8]) -> Result<Allowed, Exceeded> {
        match &mut self.bounds {
            Bounds::Client(bounds) => {
                let Some(kind) = self.version.kind(self.sent.state, id) else {
                    return Ok(Allowed::Pass);
                };
                let takes = |outbox: &Arc<Outbox>| outbox.answer_cookie(fields);
                if kind == Serverbound::CookieResponse && self.cookies.as_ref().is_some_and(takes) {
                    return Ok(Allowed::Drop);
                }
                let allowed = bounds.check(self.version, kind, fields)?;
                let is_wanted = |record: &PlayerRecord| record.serverbound(kind, fields);
                Ok(match self.record.as_ref().is_none_or(is_wanted) {
                    true => allowed,
                    false => Allowed::Drop,
                })
            }
            Bounds::Backend(bounds) => {
                let Some(kind) = self.version.kind(self.sent.state, id) else {
                    return Ok(Allowed::Pass);
                };
                bounds.check(kind, fields)?;
                let is_asked = (self.sent.state, kind) == (State::Play, Clientbound::PluginMessage);
                let hears = |listener: &Arc<dyn Listener>| listener.hear(fields);
                if is_asked && self.listener.as_ref().is_some_and(hears) {
                    return Ok(Allowed::Drop);
                }
                let Some(record) = &self.record else {
                    return Ok(Allowed::Pass);
                };
                if kind == Clientbound::Disconnect {
                    self.kick = Some(fields.to_vec());
                    return Ok(Allowed::Drop);
                }
                record.clientbound(self.version, kind, fields);
                Ok(Allowed::Pass)
            }
        }
    }

    /// Records what a packet means. Returns what happens to it.
    fn apply_packet(&mut self, id: i32, fields: &[u8]) -> PacketAction {
        let state = self.sent.state;
        match self.direction {
            Direction::Clientbound => {
                let Some(kind) = self.version.kind(state, id) else {
                    return PacketAction::Pass;
                };
                self.sent.note(kind);
                let changed = self.edits.apply(self.version, state, kind, fields);
                changed.map_or(PacketAction::Pass, PacketAction::Change)
            }
            Direction::Serverbound => {
                let Some(kind): Option<Serverbound> = self.version.kind(state, id) else {
                    return PacketAction::Pass;
                };
                self.sent.state = kind.leads_to().unwrap_or(state);
                let commands = self.commands.as_ref();
                commands.map_or(PacketAction::Pass, |commands| {
                    commands.serverbound(kind, fields)
                })
            }
        }
    }
}

/// What to do with a frame.
enum FrameAction {
    /// It passes unchanged.
    Pass,
    /// It is converted to the receiver's format.
    Convert,
    /// It is replaced by this packet.
    Change(Vec<u8>),
    /// It waits for the end of the configuration.
    Hold,
    /// It passes behind what has waited for it.
    Release,
    /// It is dropped.
    Drop,
    /// It waits for what somebody else decides.
    Ask,
}

/// The id and the fields of a packet.
fn parts(packet: &[u8]) -> Result<(i32, &[u8]), CodecError> {
    match varint::decode(packet) {
        Ok(Some((id, bytes))) => Ok((id, packet.get(bytes..).unwrap_or_default())),
        _ => Err(CodecError::Frame(FrameError::BadId)),
    }
}

/// Walks over arbitrary bytes, for tests and for the fuzz target `walk`.
#[cfg(any(test, feature = "fuzz"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)]
pub mod trial {
    use futures_util::FutureExt as _;

    use super::super::bounds::bounds;
    use super::super::queries::Wanted;
    use super::*;
    use crate::protocol::packet::Brand;

    pub(super) const SECRET: [u8; 16] = [9; 16];
    /// 26.2, which has all packets that a walk reads.
    pub(super) const PROTOCOL: i32 = 776;

    pub(super) fn formats() -> [Format; 4] {
        let compressed = |threshold| Format::Compressed { threshold };
        [
            Format::Plain,
            compressed(0),
            compressed(64),
            compressed(1024),
        ]
    }

    pub(super) fn filter(
        direction: Direction,
        from: Format,
        to: Format,
        is_encrypted: bool,
    ) -> FrameFilter {
        let version = Version::of(PROTOCOL).unwrap();
        let cipher = is_encrypted.then(|| Box::new(Cipher::new(&SECRET)));
        let to = Receiver {
            format: to,
            strict: true,
        };
        match direction {
            Direction::Clientbound => {
                let edits = Edits {
                    brand: Some(Brand("test")),
                    is_authenticated: true,
                    commands: None,
                };
                let sent = SentState::new(State::Play);
                let (_, bounds) = bounds();
                FrameFilter::clientbound(version, from, to, sent, cipher, edits, bounds)
            }
            Direction::Serverbound => {
                let (bounds, _) = bounds();
                let bounds = Box::new(bounds);
                FrameFilter::serverbound(version, from, to, State::Play, cipher, bounds)
            }
        }
    }

    /// Somebody who wants to know of each second packet.
    pub(super) fn queries() -> Arc<PacketQueries> {
        let ids = [0x5555_5555_5555_5555; 4];
        let mut wanted = Wanted::default();
        for state in [State::Configuration, State::Play] {
            for direction in [Direction::Clientbound, Direction::Serverbound] {
                wanted = wanted.with(state, direction, ids);
            }
        }
        Arc::new(PacketQueries::new(wanted, Arc::default()))
    }

    /// Decides about the packet that waits, by what it holds.
    fn decide(filter: &mut FrameFilter) {
        let Some(queries) = filter.queries.clone().filter(|_| filter.awaits_decision()) else {
            return;
        };
        let query = queries.next_query(filter.direction).now_or_never().unwrap();
        assert!(!filter.has_paused() && !filter.take_decision());
        let packet = query.packet;
        let decision = match packet.len() % 4 {
            0 => Decision::Drop(None),
            1 => Decision::Drop(Some(vec![0x7C, 0])),
            2 => Decision::Change([&packet[..], &[0]].concat()),
            _ => Decision::Pass,
        };
        queries.answer(filter.direction, decision);
        assert!(filter.take_decision());
    }

    /// What the receiver gets if a stream is read in pieces of these lengths.
    pub(super) fn walked(
        mut filter: FrameFilter,
        stream: &[u8],
        cuts: &[usize],
    ) -> (Vec<u8>, Option<FramedError>) {
        let (mut zlib, mut written) = (Zlib::default(), Vec::new());
        let mut cuts = cuts.iter().copied().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let length = cuts.next().unwrap().clamp(1, rest.len());
            let (piece, more) = rest.split_at(length);
            rest = more;
            let mut buffer = piece.to_vec();
            loop {
                let mut output = Vec::new();
                let mut to_write = match filter.walk(
                    &mut buffer,
                    &mut output,
                    &mut zlib,
                    &mut SpareBuffers::default(),
                ) {
                    Walked::Nothing => Vec::new(),
                    Walked::Slice(range) => buffer[range].to_vec(),
                    Walked::Output => output,
                };
                filter.encrypt(&mut to_write);
                written.extend(to_write);
                if let Some(fault) = filter.fault() {
                    return (written, Some(fault.clone()));
                }
                decide(&mut filter);
                if !filter.has_paused() {
                    break;
                }
                buffer.clear();
            }
        }
        (written, None)
    }

    /// Walks a stream at once, in pieces and byte by byte, and checks that its receiver
    /// gets the same bytes and the same fault. The input gives the stream and how it is
    /// walked.
    ///
    /// # Panics
    ///
    /// When the results differ.
    pub fn cut_any_bytes(input: &[u8]) {
        let Some(([kind, from, to, first, second, third], stream)) = input.split_first_chunk()
        else {
            return;
        };
        let direction = match kind & 1 {
            0 => Direction::Serverbound,
            _ => Direction::Clientbound,
        };
        let format = |choice: &u8| formats()[usize::from(*choice) % formats().len()];
        let filter = || {
            let mut filter = filter(direction, format(from), format(to), kind & 2 != 0);
            filter.queries = (kind & 4 != 0).then(queries);
            filter
        };
        let whole = walked(filter(), stream, &[stream.len()]);
        let cuts = [first, second, third].map(|cut| usize::from(*cut));
        assert_eq!(walked(filter(), stream, &cuts), whole);
        assert_eq!(walked(filter(), stream, &[1]), whole);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::trial::{PROTOCOL, SECRET, cut_any_bytes, filter, formats, queries, walked};
    use super::*;
    use crate::protocol::packet::Clientbound;

    fn id_of(kind: Clientbound, state: State) -> u8 {
        Version::of(PROTOCOL).unwrap().id(state, kind).unwrap()
    }

    /// Packets of a backend in play and in a configuration between.
    fn packets(sizes: &[u16]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let bytes = vec![u8::try_from(index % 7).unwrap(); usize::from(*size)];
            packets.push([&[0x7C], &bytes[..]].concat());
            if index % 3 == 1 {
                let brand = id_of(Clientbound::PluginMessage, State::Play);
                packets.push([&[brand], &b"\x0fminecraft:brand\x05Paper"[..]].concat());
            }
            if index % 4 == 2 {
                let start = id_of(Clientbound::StartConfiguration, State::Play);
                let finish = id_of(Clientbound::FinishConfiguration, State::Configuration);
                let join = id_of(Clientbound::JoinGame, State::Play);
                packets.push(vec![start]);
                packets.push(vec![0x07, 1, 2, 3]);
                packets.push(vec![finish]);
                packets.push([&[join], &bytes[..], &[0; 4]].concat());
            }
        }
        packets
    }

    proptest! {
        /// However a stream is cut into reads, its receiver gets the same bytes: in
        /// all formats, with and without encryption, and before a fault.
        #[test]
        fn cuts_change_nothing(
            sizes in proptest::collection::vec(0_u16..3000, 1..12),
            cuts in proptest::collection::vec(1_usize..600, 1..12),
            from in 0_usize..4,
            to in 0_usize..4,
            is_encrypted: bool,
            is_serverbound: bool,
            is_asked: bool,
            tail: Vec<u8>,
        ) {
            let (from, to) = (formats()[from], formats()[to]);
            let direction = match is_serverbound {
                true => Direction::Serverbound,
                false => Direction::Clientbound,
            };
            let (mut zlib, mut stream) = (Zlib::default(), Vec::new());
            for packet in packets(&sizes) {
                zlib.write(&packet, from, &mut stream).unwrap();
            }
            stream.extend(tail);
            if is_encrypted && is_serverbound {
                Cipher::new(&SECRET).encrypt(&mut stream);
            }
            let filter = || {
                let mut filter = filter(direction, from, to, is_encrypted);
                filter.queries = is_asked.then(queries);
                filter
            };
            let whole = walked(filter(), &stream, &[stream.len()]);
            prop_assert_eq!(&walked(filter(), &stream, &cuts), &whole);
            prop_assert_eq!(&walked(filter(), &stream, &[1]), &whole);
        }

        /// The same for bytes that need not be frames.
        #[test]
        fn cuts_of_any_bytes_change_nothing(input in proptest::collection::vec(any::<u8>(), 6..600)) {
            cut_any_bytes(&input);
        }

        /// Random bytes end in a fault or wait for more, and the memory stays bounded
        /// by the number of bytes received.
        #[test]
        fn nonsense_is_survived(
            stream in proptest::collection::vec(any::<u8>(), 0..4000),
            cuts in proptest::collection::vec(1_usize..900, 1..5),
            from in 0_usize..4,
            to in 0_usize..4,
            is_serverbound: bool,
        ) {
            let direction = match is_serverbound {
                true => Direction::Serverbound,
                false => Direction::Clientbound,
            };
            let filter = filter(direction, formats()[from], formats()[to], false);
            walked(filter, &stream, &cuts);
        }
    }

    /// The frames before a fault reach the client, and the state is that after them,
    /// so the client can read a disconnect that follows.
    #[test]
    fn frames_before_a_fault_pass() {
        let start = id_of(Clientbound::StartConfiguration, State::Play);
        let stream = [1, start, 0];
        let mut filter = filter(Direction::Clientbound, Format::Plain, Format::Plain, false);
        let mut output = Vec::new();
        let walked = filter.walk(
            &mut stream.clone(),
            &mut output,
            &mut Zlib::default(),
            &mut SpareBuffers::default(),
        );
        assert_eq!(walked, Walked::Slice(0..2));
        assert_eq!(filter.sent().state, State::Configuration);
        let empty = CodecError::Frame(FrameError::Empty);
        assert_eq!(filter.fault(), Some(&FramedError::Codec(empty)));
    }

    /// A frame about which nobody is asked any more is walked with the next ones, and
    /// nothing is kept.
    #[test]
    fn nobody_is_asked_about_what_is_dropped() {
        let mut filter = filter(Direction::Serverbound, Format::Plain, Format::Plain, false);
        filter.queries = Some(queries());
        let (mut output, mut zlib) = (Vec::new(), Zlib::default());
        let mut spare = SpareBuffers::default();
        let walked = filter.walk(&mut [2, 0x70, 1], &mut output, &mut zlib, &mut spare);
        assert!(walked == Walked::Nothing && filter.awaits_decision());
        filter.cancel_queries();
        filter.walk(&mut [2, 0x70, 2], &mut output, &mut zlib, &mut spare);
        assert!(!filter.awaits_decision() && filter.carried.is_empty());
        assert_eq!(output, [2, 0x70, 1, 2, 0x70, 2]);
    }

    /// However much the packets of one read decompress to, the output of a walk is
    /// bounded; the rest follows, and the bytes are the same.
    #[test]
    fn a_walk_pauses() {
        const PACKET_BYTES: usize = 2_000_000;
        let packed = Format::Compressed { threshold: 256 };
        let mut zlib = Zlib::default();
        let mut stream = Vec::new();
        for id in 0..10 {
            let packet = [vec![0x70, id], vec![0; PACKET_BYTES - 2]].concat();
            zlib.write(&packet, packed, &mut stream).unwrap();
        }
        let tail = [3, 0, 0x70, 9];
        stream.extend(tail);
        assert!(stream.len() < 64 * 1024, "{}", stream.len());
        for first in [0, 1, 5000] {
            let mut filter = filter(Direction::Serverbound, packed, Format::Plain, false);
            let (begin, rest) = stream.split_at(first);
            filter.carry(begin);
            let (mut buffer, mut walks, mut written) = (rest.to_vec(), 0, 0);
            loop {
                let mut output = Vec::new();
                let walked = filter.walk(
                    &mut buffer,
                    &mut output,
                    &mut zlib,
                    &mut SpareBuffers::default(),
                );
                assert_eq!(walked, Walked::Output);
                assert!(output.len() < OUTPUT_BYTES_MAX + PACKET_BYTES + 8);
                walks += 1;
                written += output.len();
                buffer.clear();
                if !filter.has_paused() {
                    assert!(output.ends_with(&tail[2..]));
                    break;
                }
            }
            assert_eq!(walks, 11);
            // Three bytes of length in front of each.
            assert_eq!(written, 10 * (PACKET_BYTES + 3) + 3);
        }
    }

    /// What is carried into a filter may be more than one frame.
    #[test]
    fn carried_frames_pass_one_by_one() {
        let mut filter = filter(Direction::Clientbound, Format::Plain, Format::Plain, false);
        filter.carry(&[2, 0x7C, 1, 2, 0x7C, 2, 3, 0x7C]);
        let mut output = Vec::new();
        let mut buffer = [3, 4, 1, 0x7C];
        let walked = filter.walk(
            &mut buffer,
            &mut output,
            &mut Zlib::default(),
            &mut SpareBuffers::default(),
        );
        assert_eq!(walked, Walked::Output);
        assert_eq!(output, [2, 0x7C, 1, 2, 0x7C, 2, 3, 0x7C, 3, 4, 1, 0x7C]);
        assert!(filter.carried.is_empty());
    }

    /// A client that sends a packet of another state in a configuration, or too many
    /// packets, is disconnected.
    #[test]
    fn clients_are_held_to_their_state_and_rate() {
        let version = Version::of(PROTOCOL).unwrap();
        let acknowledged = version
            .id(State::Play, Serverbound::ConfigurationAcknowledged)
            .unwrap();
        let new = || filter(Direction::Serverbound, Format::Plain, Format::Plain, false);
        let (written, fault) = walked(new(), &[1, acknowledged, 1, 0x00, 1, 0x70], &[100]);
        assert_eq!(written, [1, acknowledged, 1, 0x00]);
        let unexpected = FramedError::Unexpected {
            id: 0x70,
            state: State::Configuration,
        };
        assert_eq!(fault, Some(unexpected));
        let flood = [1, 0x70].repeat(10_000);
        let (written, fault) = walked(new(), &flood, &[4096]);
        assert!(matches!(fault, Some(FramedError::Exceeded(_))), "{fault:?}");
        // What a client may send in seven seconds, and what refills meanwhile.
        assert!(
            (14_000..17_000).contains(&written.len()),
            "{}",
            written.len()
        );
    }
}
