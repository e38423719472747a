//! A lane whose bytes pass in whole frames: it decrypts what it reads, lets a filter walk
//! over the frames, and encrypts what it writes, or leaves that to its driver.

use tracing::debug;

use super::super::framed::{FrameFilter, UnreadFrames, Walked};
use super::super::socket::Socket;
use super::super::spare::SpareBuffers;
use super::super::{COPY_BYTES, Counters, Direction, Outbox};
use super::{Buffers, InFlight, Lane, Method, Phase, Stop, Way, read_result};
use crate::protocol::cipher::{Cipher, Job};

/// The most bytes that one read takes for a client with encryption: the session holds
/// them while it waits for the encryption.
const ENCRYPTED_READ_BYTES: usize = 16 * 1024;

/// The same if each frame waits for an answer of plugins. It is small, because the rest
/// of the bytes is copied for each frame.
const ASKED_READ_BYTES: usize = 4 * 1024;

/// What a direction has if its bytes pass in frames.
///
/// With a thousand players the filter of one is usually not in the CPU's cache. So what
/// most steps need is here, some of it repeated, and they do not look at the filter.
#[derive(Debug)]
pub(super) struct Framed {
    /// `None` only while it is used.
    filter: Option<Box<FrameFilter>>,
    /// Decrypts what the client sends, or encrypts what it gets.
    cipher: Option<Cipher>,
    /// The frames that pass without the filter, as long as it has nothing else to do. `None`
    /// while the filter is used.
    unread: Option<UnreadFrames>,
    unhandled: Unhandled,
    /// Each frame waits for a decision.
    asks_all: bool,
    /// The sender has sent more while a frame waits for a decision.
    has_unread: bool,
}

/// What was read and is not handled yet, beside an incomplete frame.
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

impl Framed {
    fn new(filter: Box<FrameFilter>, cipher: Option<Cipher>) -> Self {
        let mut framed = Self {
            filter: None,
            cipher,
            unread: None,
            unhandled: Unhandled::Nothing,
            asks_all: false,
            has_unread: false,
        };
        framed.put(filter);
        framed
    }

    /// Takes the filter out, to use it.
    fn take(&mut self) -> Option<Box<FrameFilter>> {
        let mut filter = self.filter.take()?;
        if let Some(unread) = self.unread.take() {
            filter.end_unread(&unread);
        }
        Some(filter)
    }

    /// Takes the filter back after it was used.
    fn put(&mut self, mut filter: Box<FrameFilter>) {
        self.unhandled = Unhandled::of(&filter);
        self.unread = filter.unread_frames();
        self.asks_all = filter.queries_every_packet();
        self.filter = Some(filter);
    }
}

/// Bytes that wait for their encryption, and the cipher for them: taken out of their
/// session while the driver encrypts them beside those of other sessions.
#[derive(Debug)]
pub(in crate::forward) struct Encryption {
    cipher: Cipher,
    bytes: Vec<u8>,
    encrypted: usize,
}

impl Encryption {
    /// How many bytes are not encrypted yet.
    pub(in crate::forward) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.encrypted)
    }

    /// The next `bytes_max` bytes, or what is left. They count as encrypted from now on.
    pub(in crate::forward) fn next_job(&mut self, bytes_max: usize) -> Job<'_> {
        let rest = self.bytes.get_mut(self.encrypted..).unwrap_or_default();
        let count = rest.len().min(bytes_max);
        self.encrypted += count;
        Job {
            cipher: &mut self.cipher,
            bytes: rest.get_mut(..count).unwrap_or_default(),
        }
    }
}

/// What is left of a lane with frames.
#[derive(Debug)]
pub(in crate::forward) struct Rest {
    /// The bytes that the receiver has not accepted, encrypted.
    pub(in crate::forward) backlog: Vec<u8>,
    pub(in crate::forward) filter: FrameFilter,
    pub(in crate::forward) cipher: Option<Cipher>,
}

/// The cipher of a direction, if it encrypts what is written. That of the other direction
/// decrypts what is read.
fn encryption(direction: Direction, cipher: &mut Option<Cipher>) -> Option<&mut Cipher> {
    match direction {
        Direction::Clientbound => cipher.as_mut(),
        Direction::Serverbound => None,
    }
}

impl Lane {
    /// A direction whose bytes pass in frames. `cipher` decrypts what the client sends, or
    /// encrypts what it gets.
    pub(in crate::forward) fn framed(
        direction: Direction,
        filter: Box<FrameFilter>,
        cipher: Option<Cipher>,
    ) -> Self {
        Self {
            way: Way::Framed(Framed::new(filter, cipher)),
            ..Self::new(direction, Method::Copy)
        }
    }

    /// Takes a direction with frames apart.
    pub(in crate::forward) fn into_rest(self) -> Option<Rest> {
        let Way::Framed(mut framed) = self.way else {
            return None;
        };
        let mut rest = Rest {
            backlog: Vec::new(),
            filter: *framed.take()?,
            cipher: framed.cipher,
        };
        let mut encrypt = |bytes: &mut [u8]| {
            if let Some(cipher) = encryption(self.direction, &mut rest.cipher) {
                cipher.encrypt(bytes);
            }
        };
        match self.in_flight {
            InFlight::Plain {
                mut bytes,
                encrypted,
            } => {
                encrypt(bytes.get_mut(encrypted..).unwrap_or_default());
                rest.backlog = bytes;
            }
            InFlight::Held(mut bytes) => {
                encrypt(&mut bytes);
                rest.backlog = bytes;
            }
            InFlight::Backlog { bytes, written } => {
                rest.backlog = bytes.get(written..).unwrap_or_default().to_vec();
            }
            #[cfg(target_os = "linux")]
            InFlight::Pipe { .. } => {}
            InFlight::Nothing => {}
        }
        Some(rest)
    }

    fn frames(&self) -> Option<&Framed> {
        match &self.way {
            Way::Raw(_) => None,
            Way::Framed(framed) => Some(framed),
        }
    }

    fn frames_mut(&mut self) -> Option<&mut Framed> {
        match &mut self.way {
            Way::Raw(_) => None,
            Way::Framed(framed) => Some(framed),
        }
    }

    /// Lets `f` use the filter. `None` if there is none.
    fn with_filter<T>(&mut self, f: impl FnOnce(&mut Self, &mut FrameFilter) -> T) -> Option<T> {
        let mut filter = self.frames_mut()?.take()?;
        let result = f(self, &mut filter);
        self.frames_mut()?.put(filter);
        Some(result)
    }

    /// Whether it cannot read now, but probably can before the sender sends more.
    pub(in crate::forward) fn reads_soon(&self) -> bool {
        let has_unread = self.frames().is_some_and(|framed| framed.has_unread);
        self.is_encrypting() || (self.awaits_decision() && !has_unread)
    }

    /// The sender has sent more, although the lane does not read now.
    pub(in crate::forward) fn note_unread(&mut self) {
        let has_unread = self.awaits_decision();
        if let Some(framed) = self.frames_mut() {
            framed.has_unread = has_unread;
        }
    }

    /// Whether it holds bytes back, to write them together with frames that wait for a
    /// decision.
    pub(in crate::forward) fn is_holding(&self) -> bool {
        matches!(self.in_flight, InFlight::Held(_))
    }

    /// Whether a frame waits for an answer of plugins.
    pub(in crate::forward) fn awaits_decision(&self) -> bool {
        self.is_unhandled(Unhandled::AwaitsDecision)
    }

    /// Whether there are frames that were read and not handled yet.
    pub(super) fn has_paused(&self) -> bool {
        self.is_unhandled(Unhandled::Paused)
    }

    fn is_unhandled(&self, unhandled: Unhandled) -> bool {
        let is_it = |framed: &Framed| framed.unhandled == unhandled;
        self.phase == Phase::Open && self.frames().is_some_and(is_it)
    }

    /// Takes the answer about the waiting frame, if there is one. The next
    /// [`step`](Self::step) then continues with the frame.
    pub(in crate::forward) fn take_decision(&mut self) -> bool {
        if !self.awaits_decision() {
            return false;
        }
        let taken = self.with_filter(|_, filter| filter.take_decision());
        let is_decided = taken.unwrap_or_default();
        if let Some(framed) = self.frames_mut() {
            framed.has_unread &= !is_decided;
        }
        is_decided
    }

    /// Stops waiting for decisions.
    pub(super) fn cancel_queries(&mut self) {
        self.with_filter(|_, filter| filter.cancel_queries());
    }

    /// Whether bytes wait for their encryption.
    pub(in crate::forward) fn is_encrypting(&self) -> bool {
        matches!(self.in_flight, InFlight::Plain { .. })
    }

    /// Takes the bytes that wait for their encryption, to be given to
    /// [`continue_encrypted`](Self::continue_encrypted) before anything else happens to
    /// the lane.
    pub(in crate::forward) fn take_encryption(&mut self) -> Option<Encryption> {
        let Way::Framed(framed) = &mut self.way else {
            return None;
        };
        let InFlight::Plain { bytes, encrypted } = &mut self.in_flight else {
            return None;
        };
        Some(Encryption {
            cipher: framed.cipher.take()?,
            bytes: std::mem::take(bytes),
            encrypted: *encrypted,
        })
    }

    /// Takes those bytes back, and delivers them once all are encrypted.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub(in crate::forward) fn continue_encrypted<S: Socket>(
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
        if let Some(framed) = self.frames_mut() {
            framed.cipher = Some(cipher);
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

    /// The cipher for what it writes, if the receiver's stream is encrypted.
    fn encryption(&mut self) -> Option<&mut Cipher> {
        let direction = self.direction;
        encryption(direction, &mut self.frames_mut()?.cipher)
    }

    /// Decrypts what was read, if the sender's stream is encrypted.
    fn decrypt(&mut self, bytes: &mut [u8]) {
        if self.direction == Direction::Serverbound
            && let Some(framed) = self.frames_mut()
            && let Some(cipher) = &mut framed.cipher
        {
            cipher.decrypt(bytes);
        }
    }

    /// Reads once and drops the bytes. The frames of a client are still parsed, because
    /// the client may move to another backend and continues there after them.
    pub(super) fn discard_read<S: Socket>(
        &mut self,
        source: &S,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Some(bytes) = read_result(source.read(&mut buffers.buffer))? else {
            return Ok(());
        };
        if self.direction == Direction::Clientbound {
            return Ok(());
        }
        let discarded = self.with_filter(|lane, filter| {
            let Buffers {
                buffer,
                output,
                zlib,
                spare,
                ..
            } = buffers;
            let mut read = buffer.get_mut(..bytes).unwrap_or_default();
            lane.decrypt(read);
            loop {
                output.clear();
                filter.walk(read, output, zlib, spare);
                if !filter.has_paused() {
                    break;
                }
                read = &mut [];
            }
            let fault = filter.fault();
            fault.map_or(Ok(()), |error| Err(Stop::Fault(error.into())))
        });
        buffers.free_large_output();
        discarded.unwrap_or(Ok(()))
    }

    /// Reads once, and writes the whole frames that have come.
    pub(super) fn read_frames<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let asks_all = self.frames().is_some_and(|framed| framed.asks_all);
        let read_bytes = match (asks_all, self.encryption()) {
            (true, _) => ASKED_READ_BYTES,
            (false, Some(_)) => ENCRYPTED_READ_BYTES,
            (false, None) => COPY_BYTES,
        };
        let room = buffers.buffer.get_mut(..read_bytes).unwrap_or_default();
        let Some(bytes) = read_result(source.read(room))? else {
            return Ok(());
        };
        let Buffers {
            buffer,
            spare,
            driver_encrypts,
            ..
        } = buffers;
        let read = buffer.get_mut(..bytes).unwrap_or_default();
        self.decrypt(read);
        let is_holding = self.is_holding();
        let unread = self.frames_mut().and_then(|framed| framed.unread.as_mut());
        if !is_holding && unread.is_some_and(|unread| unread.pass_all(read)) {
            return self.write_frames(read, destination, counters, spare, *driver_encrypts);
        }
        self.pass_frames(bytes, destination, counters, buffers)
    }

    /// Lets the filter walk over bytes that were read, decrypted, and writes all whole
    /// frames with one write. If there are many, the rest waits for the next step.
    pub(super) fn pass_frames<S: Socket>(
        &mut self,
        bytes: usize,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let passed = self.with_filter(|lane, filter| {
            lane.walk(filter, bytes, destination, counters, buffers)?;
            if let Some(error) = filter.fault() {
                return Err(Stop::Fault(error.into()));
            }
            match filter.is_kicked() {
                // Bytes after the last text of the backend are not read.
                true => Err(Stop::EndOfStream),
                false => Ok(()),
            }
        });
        buffers.free_large_output();
        passed.unwrap_or(Ok(()))
    }

    fn walk<S: Socket>(
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
        if !holds && !self.is_holding() {
            return self.write_frames(to_write, destination, counters, spare, *driver_encrypts);
        }
        let mut held = self.take_held().unwrap_or_else(|| spare.take());
        held.extend_from_slice(to_write);
        match filter.awaits_decision() {
            true => {
                self.in_flight = InFlight::Held(held);
                Ok(())
            }
            false => self.write_owned(held, destination, counters, spare, *driver_encrypts),
        }
    }

    /// Writes packets of the outbox to the receiver, as far as it accepts them now. The
    /// lane is between two frames when no bytes are in flight.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub(in crate::forward) fn send_out<S: Socket>(
        &mut self,
        outbox: &Outbox,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Buffers {
            output,
            zlib,
            spare,
            driver_encrypts,
            ..
        } = buffers;
        while outbox.has(self.direction) && self.accepts_other_packets() {
            output.clear();
            self.with_filter(|lane, filter| {
                while output.len() < COPY_BYTES
                    && let Some(packet) = outbox.take(lane.direction)
                {
                    if let Err(error) = filter.write_other_packet(&packet, output, zlib) {
                        debug!(direction = %lane.direction, %error, "a packet cannot be written");
                    }
                }
            });
            self.write_frames(output, destination, counters, spare, *driver_encrypts)?;
        }
        Ok(())
    }

    /// Whether its receiver can get packets that do not come from its sender.
    fn accepts_other_packets(&self) -> bool {
        let filter = self.frames().and_then(|framed| framed.filter.as_ref());
        self.phase == Phase::Open
            && self.reads()
            && filter.is_some_and(|filter| filter.accepts_other_packets())
    }

    /// Writes whole frames: encrypted here, or kept in flight for a driver that
    /// encrypts.
    fn write_frames<S: Socket>(
        &mut self,
        frames: &mut [u8],
        destination: &S,
        counters: &Counters,
        spare: &mut SpareBuffers,
        driver_encrypts: bool,
    ) -> Result<(), Stop> {
        match self.encryption() {
            Some(_) if driver_encrypts && !frames.is_empty() => {
                let mut owned = spare.take();
                owned.extend_from_slice(frames);
                self.write_owned(owned, destination, counters, spare, driver_encrypts)
            }
            cipher => {
                if let Some(cipher) = cipher {
                    cipher.encrypt(frames);
                }
                self.write(frames, destination, counters)
            }
        }
    }

    /// The same for frames in a buffer of their own.
    fn write_owned<S: Socket>(
        &mut self,
        mut frames: Vec<u8>,
        destination: &S,
        counters: &Counters,
        spare: &mut SpareBuffers,
        driver_encrypts: bool,
    ) -> Result<(), Stop> {
        if driver_encrypts && !frames.is_empty() && self.encryption().is_some() {
            self.in_flight = InFlight::Plain {
                bytes: frames,
                encrypted: 0,
            };
            return Ok(());
        }
        if let Some(cipher) = self.encryption() {
            cipher.encrypt(&mut frames);
        }
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
    pub(in crate::forward) fn write_held<S: Socket>(
        &mut self,
        destination: &S,
        counters: &Counters,
        buffers: &mut Buffers,
    ) -> Result<(), Stop> {
        let Some(held) = self.take_held() else {
            return Ok(());
        };
        let (spare, driver_encrypts) = (&mut buffers.spare, buffers.driver_encrypts);
        self.write_owned(held, destination, counters, spare, driver_encrypts)
    }
}
