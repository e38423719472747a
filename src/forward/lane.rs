//! One direction of a session: it reads from the sender, keeps what the receiver does not
//! accept yet, and knows how the direction ends.

use std::io;
use std::sync::Arc;

use tracing::debug;

use super::framed::{FrameFilter, Walked};
#[cfg(target_os = "linux")]
use super::pipe::{self, MakePipe, Pipe, Pool};
use super::queries::PacketQueries;
use super::socket::{self, Socket};
use super::spare::SpareBuffers;
use super::{COPY_BYTES, Counters, Direction, Outbox, Relay, SPLICE_AVAILABLE, resolve};
#[cfg(target_os = "linux")]
use super::{adaptive::CopyOrSplice, splice};
use crate::protocol::cipher::{Cipher, Job};
use crate::protocol::codec::Zlib;

/// The most bytes that one read takes for a client with encryption: the session holds
/// them while it waits for the encryption.
const ENCRYPTED_READ_BYTES: usize = 16 * 1024;

/// The same if each frame waits for an answer of plugins. It is small, because the rest
/// of the bytes is copied for each frame.
const ASKED_READ_BYTES: usize = 4 * 1024;

/// How a direction moves its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    /// Through user space.
    Copy,
    /// Through a pipe, which this function makes.
    #[cfg(target_os = "linux")]
    Splice(MakePipe),
    /// The cheaper one of both for the recent reads.
    #[cfg(target_os = "linux")]
    Adaptive(MakePipe, CopyOrSplice),
}

impl Method {
    /// The method for a `relay` key on this system.
    pub(super) fn of(relay: Relay) -> Self {
        match resolve(relay, SPLICE_AVAILABLE).0 {
            #[cfg(target_os = "linux")]
            Relay::Splice => Self::Splice(pipe::make),
            #[cfg(target_os = "linux")]
            Relay::Adaptive => Self::Adaptive(pipe::make, CopyOrSplice::default()),
            #[cfg(not(target_os = "linux"))]
            Relay::Splice | Relay::Adaptive => Self::Copy,
            Relay::Copy => Self::Copy,
        }
    }
}

/// Buffers and pipes that all sessions of one worker share. Between two steps
/// a session holds none of them, except a pipe with bytes in it.
#[derive(Debug)]
pub(super) struct Buffers {
    buffer: Box<[u8]>,
    /// The frames to write, if they are not a slice of `buffer`.
    output: Vec<u8>,
    zlib: Zlib,
    pub(super) spare: SpareBuffers,
    /// Whether the driver encrypts the bytes of an [`Encryption`].
    driver_encrypts: bool,
    /// Whether the driver writes bytes that are held for too long.
    driver_holds: bool,
    /// The queries of one of the sessions that have added packets.
    added_to: Option<Arc<PacketQueries>>,
    #[cfg(target_os = "linux")]
    pub(super) pipes: Pool,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; COPY_BYTES].into_boxed_slice(),
            output: Vec::new(),
            zlib: Zlib::default(),
            spare: SpareBuffers::default(),
            driver_encrypts: false,
            driver_holds: false,
            added_to: None,
            #[cfg(target_os = "linux")]
            pipes: Pool::default(),
        }
    }

    /// For a driver that encrypts for its sessions, several at once.
    #[cfg(target_os = "linux")]
    pub(super) fn of_encrypting_driver() -> Self {
        Self {
            driver_encrypts: true,
            driver_holds: true,
            ..Self::new()
        }
    }

    /// Lets plugins begin with the packets that wait for their decisions. To be called after
    /// steps of one or more sessions.
    pub(super) fn begin_decisions(&mut self) {
        if let Some(queries) = self.added_to.take() {
            queries.begin();
        }
    }
}

/// Bytes that were read and not yet written.
#[derive(Debug)]
enum InFlight {
    Nothing,
    /// Bytes that are written after all of them are encrypted, and how many are.
    Plain {
        bytes: Vec<u8>,
        encrypted: usize,
    },
    /// Whole frames, before others that wait for a decision: they are written together.
    Held(Vec<u8>),
    Backlog {
        bytes: Box<[u8]>,
        written: usize,
    },
    #[cfg(target_os = "linux")]
    Pipe {
        pipe: Pipe,
        bytes: usize,
    },
}

/// Bytes that wait for their encryption, and the cipher for them: taken out of their
/// session while the driver encrypts them beside those of other sessions.
#[derive(Debug)]
pub(super) struct Encryption {
    cipher: Box<Cipher>,
    bytes: Vec<u8>,
    encrypted: usize,
}

impl Encryption {
    /// How many bytes are not encrypted yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.encrypted)
    }

    /// The next `bytes_max` bytes, or what is left. They count as encrypted from now on.
    pub(super) fn next_job(&mut self, bytes_max: usize) -> Job<'_> {
        let rest = self.bytes.get_mut(self.encrypted..).unwrap_or_default();
        let count = rest.len().min(bytes_max);
        self.encrypted += count;
        Job {
            cipher: &mut self.cipher,
            bytes: rest.get_mut(..count).unwrap_or_default(),
        }
    }
}

/// What was read of a framed sender and is not handled yet, beside an incomplete frame.
/// The filter knows it as well. It is repeated here because the driver asks for it after
/// each event, when the filter may not be in the CPU's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unhandled {
    Nothing,
    /// Frames that are walked in the next step.
    Paused,
    /// Frames of which the first waits for a decision.
    AwaitsDecision,
}

impl Unhandled {
    fn of(filter: &FrameFilter) -> Self {
        match (filter.awaits_decision(), filter.has_paused()) {
            (true, _) => Self::AwaitsDecision,
            (false, true) => Self::Paused,
            (false, false) => Self::Nothing,
        }
    }
}

/// The progress of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reads and delivers.
    Open,
    /// The receiver is gone. What the sender still sends is read and dropped:
    /// a sender that is blocked in a write can then read the last bytes of its peer.
    Discarding,
    /// The sender has ended, and everything was delivered.
    Done,
}

/// What stopped a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The sender ended its stream in order.
    EndOfStream,
    /// The sender's socket failed.
    Read(io::ErrorKind),
    /// The receiver's socket failed.
    Write(io::ErrorKind),
    /// The sender's bytes are not frames. The frames before were delivered or are in flight.
    Fault(io::ErrorKind),
}

/// One direction of a session.
#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "there is only one method")
    )]
    method: Method,
    /// In a framed session; boxed, since other sessions do not have it.
    filter: Option<Box<FrameFilter>>,
    unhandled: Unhandled,
    /// The sender has sent more while a frame waits for a decision.
    has_unread: bool,
    in_flight: InFlight,
    phase: Phase,
    moved_bytes: u64,
    degraded: bool,
}

impl Lane {
    pub(super) fn new(direction: Direction, method: Method) -> Self {
        Self {
            direction,
            method,
            filter: None,
            unhandled: Unhandled::Nothing,
            has_unread: false,
            in_flight: InFlight::Nothing,
            phase: Phase::Open,
            moved_bytes: 0,
            degraded: false,
        }
    }

    /// A direction of a framed session.
    pub(super) fn framed(direction: Direction, filter: Box<FrameFilter>) -> Self {
        Self {
            unhandled: Unhandled::of(&filter),
            filter: Some(filter),
            ..Self::new(direction, Method::Copy)
        }
    }

    /// Takes apart a direction of a framed session: the bytes that the receiver has not
    /// accepted, and the filter.
    pub(super) fn into_filter(mut self) -> (Vec<u8>, Option<Box<FrameFilter>>) {
        let backlog = match self.in_flight {
            InFlight::Plain {
                mut bytes,
                encrypted,
            } => {
                let rest = bytes.get_mut(encrypted..).unwrap_or_default();
                if let Some(filter) = &mut self.filter {
                    filter.encrypt(rest);
                }
                bytes
            }
            InFlight::Held(mut bytes) => {
                if let Some(filter) = &mut self.filter {
                    filter.encrypt(&mut bytes);
                }
                bytes
            }
            InFlight::Backlog { bytes, written } => {
                bytes.get(written..).unwrap_or_default().to_vec()
            }
            #[cfg(target_os = "linux")]
            InFlight::Pipe { .. } => Vec::new(),
            InFlight::Nothing => Vec::new(),
        };
        (backlog, self.filter)
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes that the receiver's kernel has accepted.
    pub(super) fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Whether it can read from its sender now.
    pub(super) fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => {
                let is_idle = matches!(self.in_flight, InFlight::Nothing);
                is_idle && !self.has_paused() && !self.awaits_decision()
            }
            Phase::Discarding => true,
            Phase::Done => false,
        }
    }

    /// Whether bytes wait for a slow receiver, or frames for their turn.
    pub(super) fn is_waiting(&self) -> bool {
        match self.in_flight {
            InFlight::Nothing => self.has_paused(),
            InFlight::Plain { .. } | InFlight::Held(_) => false,
            _ => true,
        }
    }

    /// Whether it cannot read now, but probably can before the sender sends more.
    pub(super) fn reads_soon(&self) -> bool {
        self.is_encrypting() || (self.awaits_decision() && !self.has_unread)
    }

    /// The sender has sent more, although the lane does not read now.
    pub(super) fn note_unread(&mut self) {
        self.has_unread = self.awaits_decision();
    }

    /// Whether it holds bytes back, to write them together with frames that wait for a
    /// decision.
    pub(super) fn is_holding(&self) -> bool {
        matches!(self.in_flight, InFlight::Held(_))
    }

    /// Whether a frame waits for an answer of plugins.
    pub(super) fn awaits_decision(&self) -> bool {
        self.phase == Phase::Open && self.unhandled == Unhandled::AwaitsDecision
    }

    /// Takes the answer about the waiting frame, if there is one. The next
    /// [`step`](Self::step) then continues with the frame.
    pub(super) fn take_decision(&mut self) -> bool {
        let Some(filter) = &mut self.filter else {
            return false;
        };
        let is_decided = filter.take_decision();
        self.unhandled = Unhandled::of(filter);
        self.has_unread &= !is_decided;
        is_decided
    }

    /// Whether there are frames that were read and not handled yet.
    fn has_paused(&self) -> bool {
        self.phase == Phase::Open && self.unhandled == Unhandled::Paused
    }

    /// Whether bytes wait for their encryption.
    pub(super) fn is_encrypting(&self) -> bool {
        matches!(self.in_flight, InFlight::Plain { .. })
    }

    /// Takes the bytes that wait for their encryption, to be given to
    /// [`continue_encrypted`](Self::continue_encrypted) before anything else happens to
    /// the lane.
    pub(super) fn take_encryption(&mut self) -> Option<Encryption> {
        let InFlight::Plain { bytes, encrypted } = &mut self.in_flight else {
            return None;
        };
        let cipher = self.filter.as_mut()?.take_encryption()?;
        Some(Encryption {
            cipher,
            bytes: std::mem::take(bytes),
            encrypted: *encrypted,
        })
    }

    /// Takes those bytes back, and delivers them once all are encrypted.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub(super) fn continue_encrypted<S: Socket>(
        &mut self,
        encryption: Encryption,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let is_encrypted = encryption.left() == 0;
        let Encryption {
            cipher,
            bytes,
            encrypted,
        } = encryption;
        if let Some(filter) = &mut self.filter {
            filter.put_encryption(cipher);
        }
        if !is_encrypted {
            self.in_flight = InFlight::Plain { bytes, encrypted };
            return Ok(());
        }
        self.in_flight = InFlight::Nothing;
        let written = self.write(&bytes, destination, counters);
        buffers.spare.put(bytes);
        written
    }

    pub(super) fn degraded(&self) -> bool {
        self.degraded
    }

    /// Ends the direction: everything was delivered, or nothing more can be.
    pub(super) fn finish(&mut self) {
        self.in_flight = InFlight::Nothing;
        self.phase = Phase::Done;
    }

    /// Drops the bytes in flight and all later ones, unless it has ended already.
    pub(super) fn discard(&mut self) {
        if self.phase == Phase::Open {
            self.in_flight = InFlight::Nothing;
            self.phase = Phase::Discarding;
            if let Some(filter) = &mut self.filter {
                filter.cancel_queries();
                self.unhandled = Unhandled::of(filter);
            }
        }
    }

    /// One step: delivers the bytes in flight, then reads once and delivers those bytes.
    ///
    /// A driver calls this once each time the sender is readable. A message that one
    /// read returns whole then costs no second read, which would only return `EAGAIN`,
    /// and no session gets two turns while others wait.
    ///
    /// # Errors
    ///
    /// The [`Stop`] of the direction. The caller then calls [`finish`](Self::finish) or
    /// [`discard`](Self::discard).
    pub(super) fn step<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        match self.phase {
            Phase::Done => Ok(()),
            Phase::Discarding => self.discard_read(source, buffers),
            Phase::Open => {
                self.deliver(destination, counters, buffers)?;
                if self.awaits_decision() {
                    return Ok(());
                }
                if !matches!(self.in_flight, InFlight::Nothing | InFlight::Held(_)) {
                    return Ok(());
                }
                if self.has_paused() {
                    return self.with_filter(|lane, filter| {
                        lane.pass_frames(filter, 0, destination, counters, buffers)
                    });
                }
                self.read(source, destination, counters, buffers)
            }
        }
    }

    /// Reads once and drops the bytes. The frames of a client are still parsed, because
    /// the client may move to another backend and continues there after them.
    fn discard_read<S: Socket>(&mut self, source: &S, buffers: &mut Buffers) -> Result<(), Stop> {
        let Some(bytes) = read_result(source.read(&mut buffers.buffer))? else {
            return Ok(());
        };
        if self.direction == Direction::Clientbound {
            return Ok(());
        }
        self.with_filter(|_, filter| {
            let Buffers {
                buffer,
                output,
                zlib,
                spare,
                ..
            } = buffers;
            let mut read = buffer.get_mut(..bytes).unwrap_or_default();
            loop {
                output.clear();
                filter.walk(read, output, zlib, spare);
                if !filter.has_paused() {
                    break;
                }
                read = &mut [];
            }
            if output.capacity() > COPY_BYTES {
                *output = Vec::new();
            }
            let fault = filter.fault();
            fault.map_or(Ok(()), |error| Err(Stop::Fault(error.into())))
        })
    }

    /// Reads once and delivers what it read, or keeps it in flight. Must be called
    /// with no bytes in flight.
    fn read<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        if self.filter.is_some() {
            return self.read_frames(source, destination, counters, buffers);
        }
        #[cfg(target_os = "linux")]
        if let Some(make) = self.wants_pipe() {
            if let Some(end) = source.end() {
                return read_result(end).map(drop);
            }
            let Some(pipe) = buffers.pipes.take(make) else {
                self.degrade();
                return self.read_by_copy(source, destination, counters, buffers);
            };
            let filled = splice::fill(source, &pipe);
            if let Ok(bytes @ 1..) = filled {
                if let Method::Adaptive(_, choice) = &mut self.method {
                    choice.after_splice(bytes, pipe.capacity_bytes);
                }
                self.in_flight = InFlight::Pipe { pipe, bytes };
                return self.deliver(destination, counters, buffers);
            }
            let is_refused = filled
                .as_ref()
                .is_err_and(|error| splice::is_refused(error, &pipe));
            buffers.pipes.put(pipe);
            if is_refused {
                self.method = Method::Copy;
                pipe::note_refusal(filled.as_ref().err());
            } else {
                let read = read_result(filled);
                let at_end = matches!(read, Err(Stop::EndOfStream));
                let found_nothing = at_end || matches!(read, Ok(None));
                // A read skips that byte and returns those behind it.
                if !(found_nothing && source.is_at_urgent_byte(at_end)) {
                    return read.map(drop);
                }
            }
            self.degrade();
        }
        self.read_by_copy(source, destination, counters, buffers)
    }

    fn read_by_copy<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Some(bytes) = read_result(source.read(&mut buffers.buffer))? else {
            return Ok(());
        };
        #[cfg(target_os = "linux")]
        if let Method::Adaptive(_, choice) = &mut self.method {
            choice.after_copy(bytes);
        }
        let Buffers { buffer, .. } = buffers;
        self.write(
            buffer.get(..bytes).unwrap_or_default(),
            destination,
            counters,
        )
    }

    /// Writes packets of the outbox to the receiver, as far as it accepts them now. The
    /// lane is between two frames when no bytes are in flight.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub(super) fn send_out<S: Socket>(
        &mut self,
        outbox: &Outbox,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let accepts_other_packets = |lane: &Self| {
            let filter = lane.filter.as_ref();
            lane.phase == Phase::Open
                && lane.reads()
                && filter.is_some_and(|filter| filter.accepts_other_packets())
        };
        let Buffers {
            output,
            zlib,
            spare,
            driver_encrypts,
            ..
        } = buffers;
        while outbox.has(self.direction) && accepts_other_packets(self) {
            output.clear();
            self.with_filter(|lane, filter| {
                while output.len() < COPY_BYTES
                    && let Some(packet) = outbox.take(lane.direction)
                {
                    if let Err(error) = filter.write_other_packet(&packet, output, zlib) {
                        debug!(direction = %lane.direction, %error, "a packet cannot be written");
                    }
                }
                lane.write_frames(
                    filter,
                    output,
                    destination,
                    counters,
                    spare,
                    *driver_encrypts,
                )
            })?;
        }
        Ok(())
    }

    /// Reads once from a framed sender.
    fn read_frames<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        self.with_filter(|lane, filter| {
            let read_bytes = match (filter.queries_every_packet(), filter.encryption()) {
                (true, _) => ASKED_READ_BYTES,
                (false, Some(_)) => ENCRYPTED_READ_BYTES,
                (false, None) => COPY_BYTES,
            };
            let room = buffers.buffer.get_mut(..read_bytes).unwrap_or_default();
            let Some(bytes) = read_result(source.read(room))? else {
                return Ok(());
            };
            lane.pass_frames(filter, bytes, destination, counters, buffers)
        })
    }

    fn with_filter(
        &mut self,
        pass: impl FnOnce(&mut Self, &mut FrameFilter) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(mut filter) = self.filter.take() else {
            return Ok(());
        };
        let passed = pass(self, &mut filter);
        self.unhandled = Unhandled::of(&filter);
        self.filter = Some(filter);
        passed
    }

    /// Goes through bytes that were read, and writes all whole frames with one write. If
    /// there are many, the rest waits for the next step.
    fn pass_frames<S: Socket>(
        &mut self,
        filter: &mut FrameFilter,
        bytes: usize,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Buffers {
            buffer,
            output,
            zlib,
            spare,
            driver_encrypts,
            driver_holds,
            added_to,
            ..
        } = buffers;
        let read = buffer.get_mut(..bytes).unwrap_or_default();
        output.clear();
        let to_write = match filter.walk(read, output, zlib, spare) {
            Walked::Slice(range) => buffer.get_mut(range).unwrap_or_default(),
            Walked::Output => &mut output[..],
            Walked::Nothing => &mut [],
        };
        if filter.awaits_decision() && added_to.is_none() {
            *added_to = filter.queries().cloned();
        }
        let holds = *driver_holds && filter.awaits_decision() && !to_write.is_empty();
        let mut written = if holds || self.is_holding() {
            let mut held = self.take_held().unwrap_or_else(|| spare.take());
            held.extend_from_slice(to_write);
            match filter.awaits_decision() {
                true => {
                    self.in_flight = InFlight::Held(held);
                    Ok(())
                }
                false => {
                    self.write_owned(filter, held, destination, counters, spare, *driver_encrypts)
                }
            }
        } else {
            self.write_frames(
                filter,
                to_write,
                destination,
                counters,
                spare,
                *driver_encrypts,
            )
        };
        if let (Ok(()), Some(error)) = (&written, filter.fault()) {
            written = Err(Stop::Fault(error.into()));
        }
        if written.is_ok() && filter.is_kicked() {
            // Bytes after the last text of the backend are not read.
            written = Err(Stop::EndOfStream);
        }
        if output.capacity() > COPY_BYTES {
            *output = Vec::new();
        }
        written
    }

    /// Writes whole frames: encrypted here, or kept in flight for a driver that
    /// encrypts.
    fn write_frames<S: Socket>(
        &mut self,
        filter: &mut FrameFilter,
        frames: &mut [u8],
        destination: &S,
        counters: &Counters,
        spare: &mut SpareBuffers,
        driver_encrypts: bool,
    ) -> Result<(), Stop> {
        if driver_encrypts && !frames.is_empty() && filter.encryption().is_some() {
            let mut bytes = spare.take();
            bytes.extend_from_slice(frames);
            self.in_flight = InFlight::Plain {
                bytes,
                encrypted: 0,
            };
            return Ok(());
        }
        filter.encrypt(frames);
        self.write(frames, destination, counters)
    }

    /// The same for frames in a buffer of their own.
    fn write_owned<S: Socket>(
        &mut self,
        filter: &mut FrameFilter,
        mut frames: Vec<u8>,
        destination: &S,
        counters: &Counters,
        spare: &mut SpareBuffers,
        driver_encrypts: bool,
    ) -> Result<(), Stop> {
        if driver_encrypts && !frames.is_empty() && filter.encryption().is_some() {
            self.in_flight = InFlight::Plain {
                bytes: frames,
                encrypted: 0,
            };
            return Ok(());
        }
        filter.encrypt(&mut frames);
        let written = self.write(&frames, destination, counters);
        spare.put(frames);
        written
    }

    fn take_held(&mut self) -> Option<Vec<u8>> {
        let InFlight::Held(held) = &mut self.in_flight else {
            return None;
        };
        let held = std::mem::take(held);
        self.in_flight = InFlight::Nothing;
        Some(held)
    }

    /// Writes the bytes that are held back, and waits further for the decision.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub(super) fn write_held<S: Socket>(
        &mut self,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Some(held) = self.take_held() else {
            return Ok(());
        };
        let (spare, driver_encrypts) = (&mut buffers.spare, buffers.driver_encrypts);
        self.with_filter(|lane, filter| {
            lane.write_owned(filter, held, destination, counters, spare, driver_encrypts)
        })
    }

    /// Writes what the receiver accepts now, and keeps the rest in flight.
    fn write<S: Socket>(
        &mut self,
        bytes: &[u8],
        destination: &S,
        counters: &Counters,
    ) -> Result<(), Stop> {
        let mut written = 0;
        self.send(bytes, &mut written, destination, counters)?;
        let rest = bytes.get(written..).unwrap_or_default();
        if !rest.is_empty() {
            // Allocates only here, and only for what is left.
            self.in_flight = InFlight::Backlog {
                bytes: rest.into(),
                written: 0,
            };
        }
        Ok(())
    }

    /// Writes these bytes from `written` on, as far as the receiver accepts them now.
    fn send<S: Socket>(
        &mut self,
        bytes: &[u8],
        written: &mut usize,
        destination: &S,
        counters: &Counters,
    ) -> Result<(), Stop> {
        while let Some(rest @ [_, ..]) = bytes.get(*written..) {
            let Some(sent) = write_result(socket::write(destination, rest))? else {
                break;
            };
            self.count(sent, counters);
            *written += sent;
        }
        Ok(())
    }

    /// Delivers the bytes in flight, as far as the receiver accepts them.
    fn deliver<S: Socket>(
        &mut self,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        loop {
            let sent = match &mut self.in_flight {
                InFlight::Nothing | InFlight::Plain { .. } | InFlight::Held(_) => return Ok(()),
                InFlight::Backlog { bytes, written } => {
                    let (bytes, mut written) = (std::mem::take(bytes), *written);
                    let sent = self.send(&bytes, &mut written, destination, counters);
                    self.in_flight = match written < bytes.len() {
                        true => InFlight::Backlog { bytes, written },
                        false => InFlight::Nothing,
                    };
                    return sent;
                }
                #[cfg(target_os = "linux")]
                InFlight::Pipe { pipe, bytes } => {
                    let emptied = splice::empty(pipe, *bytes, destination);
                    if let Err(error) = &emptied
                        && splice::is_refused(error, pipe)
                    {
                        pipe::note_refusal(Some(error));
                        let bytes = splice::drain(pipe, *bytes)
                            .map_err(|error| Stop::Write(error.kind()))?;
                        self.method = Method::Copy;
                        self.in_flight = InFlight::Backlog { bytes, written: 0 };
                        self.degrade();
                        continue;
                    }
                    let Some(sent) = write_result(emptied)? else {
                        return Ok(());
                    };
                    debug_assert!(sent <= *bytes, "a pipe returned more bytes than it held");
                    *bytes = bytes.saturating_sub(sent);
                    if *bytes == 0
                        && let InFlight::Pipe { pipe, .. } =
                            std::mem::replace(&mut self.in_flight, InFlight::Nothing)
                    {
                        buffers.pipes.put(pipe);
                    }
                    sent
                }
            };
            self.count(sent, counters);
        }
    }

    #[cfg(target_os = "linux")]
    fn wants_pipe(&self) -> Option<MakePipe> {
        match &self.method {
            Method::Copy => None,
            Method::Splice(make) => Some(*make),
            Method::Adaptive(make, choice) => choice.splices().then_some(*make),
        }
    }

    #[cfg(target_os = "linux")]
    fn degrade(&mut self) {
        self.degraded = true;
    }

    fn count(&mut self, bytes: usize, counters: &Counters) {
        // `usize` is at most 64 bits on every target there is.
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        counters.add(self.direction, bytes);
    }
}

/// The result of a read: `None` when the sender has no bytes now.
fn read_result(result: io::Result<usize>) -> Result<Option<usize>, Stop> {
    match result {
        Ok(0) => Err(Stop::EndOfStream),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_not_now(&error) => Ok(None),
        Err(error) => Err(Stop::Read(error.kind())),
    }
}

/// The result of a write: `None` when the receiver accepts no bytes now.
fn write_result(result: io::Result<usize>) -> Result<Option<usize>, Stop> {
    match result {
        Ok(0) => Err(Stop::Write(io::ErrorKind::WriteZero)),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_not_now(&error) => Ok(None),
        Err(error) => Err(Stop::Write(error.kind())),
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
