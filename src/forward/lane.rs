//! One direction of a session: where its bytes are, and whether it still runs.

use std::io;

use tracing::debug;

use super::framed::{Passage, Walked};
#[cfg(target_os = "linux")]
use super::pipe::{self, MakePipe, Pipe, Pool};
use super::socket::{self, Socket};
use super::{COPY_BYTES, Counters, Direction, Relay, SPLICE_AVAILABLE, resolve};
#[cfg(target_os = "linux")]
use super::{adaptive::CopyOrSplice, splice};
use crate::protocol::codec::Zlib;

/// How a direction moves its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    /// Through user space.
    Copy,
    /// Through a pipe from this source.
    #[cfg(target_os = "linux")]
    Splice(MakePipe),
    /// Whichever is cheaper now.
    #[cfg(target_os = "linux")]
    Adaptive(MakePipe, CopyOrSplice),
}

impl Method {
    /// What a `relay` key comes to on this system.
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

/// What all sessions of one worker move their bytes with. No session holds
/// any of it between two steps, but for a pipe with bytes in it.
#[derive(Debug)]
pub(super) struct Tools {
    buffer: Box<[u8]>,
    /// What a walk over frames has to write, where it is not a part of `buffer`.
    output: Vec<u8>,
    zlib: Zlib,
    #[cfg(target_os = "linux")]
    pub(super) pipes: Pool,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; COPY_BYTES].into_boxed_slice(),
            output: Vec::new(),
            zlib: Zlib::default(),
            #[cfg(target_os = "linux")]
            pipes: Pool::default(),
        }
    }
}

/// Bytes that were read and not yet written.
#[derive(Debug)]
enum Held {
    Nothing,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reads and delivers.
    Open,
    /// The receiver is gone. What the sender still sends is read and dropped,
    /// so that one that only writes gets on to read its peer's last words.
    Discarding,
    /// Nothing more will come, and everything was delivered.
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
    /// What the sender has sent is not frames. Those before were delivered, or are held.
    Fault(io::ErrorKind),
}

#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "with one method there is nothing to ask")
    )]
    method: Method,
    /// In a session whose frames are walked; boxed, since others do not have it.
    passage: Option<Box<Passage>>,
    held: Held,
    phase: Phase,
    moved_bytes: u64,
    degraded: bool,
}

impl Lane {
    pub(super) fn new(direction: Direction, method: Method) -> Self {
        Self {
            direction,
            method,
            passage: None,
            held: Held::Nothing,
            phase: Phase::Open,
            moved_bytes: 0,
            degraded: false,
        }
    }

    /// A direction whose frames are walked.
    pub(super) fn framed(direction: Direction, passage: Box<Passage>) -> Self {
        Self {
            passage: Some(passage),
            ..Self::new(direction, Method::Copy)
        }
    }

    /// What is left of a direction whose frames were walked: bytes that the
    /// receiver has not taken, and the passage.
    pub(super) fn into_passage(self) -> (Vec<u8>, Option<Box<Passage>>) {
        let backlog = match self.held {
            Held::Backlog { bytes, written } => bytes.get(written..).unwrap_or_default().to_vec(),
            #[cfg(target_os = "linux")]
            Held::Pipe { .. } => Vec::new(),
            Held::Nothing => Vec::new(),
        };
        (backlog, self.passage)
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

    /// Whether it has use for bytes of its sender now.
    pub(super) fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_waiting(),
            Phase::Discarding => true,
            Phase::Done => false,
        }
    }

    /// Whether bytes wait for a receiver that is behind.
    pub(super) fn is_waiting(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    pub(super) fn degraded(&self) -> bool {
        self.degraded
    }

    /// Ends it: everything was delivered, or nothing more can be.
    pub(super) fn finish(&mut self) {
        self.held = Held::Nothing;
        self.phase = Phase::Done;
    }

    /// Drops what it holds and what still comes, unless it has ended already.
    pub(super) fn discard(&mut self) {
        if self.phase == Phase::Open {
            self.held = Held::Nothing;
            self.phase = Phase::Discarding;
        }
    }

    /// One step: delivers what is held, then reads once and delivers that.
    ///
    /// One step for each time that the driver found the sender readable is all
    /// there is to it. A message that was read whole costs no call that would
    /// only meet `EAGAIN`, and nobody gets two turns while others wait.
    ///
    /// # Errors
    ///
    /// What stops the direction. The caller then says what that means, by
    /// [`finish`](Self::finish) or [`discard`](Self::discard).
    pub(super) fn step<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        tools: &mut Tools,
    ) -> Result<(), Stop> {
        match self.phase {
            Phase::Done => Ok(()),
            Phase::Discarding => taken(source.read(&mut tools.buffer)).map(drop),
            Phase::Open => {
                self.deliver(destination, counters, tools)?;
                if self.is_waiting() {
                    return Ok(());
                }
                self.take(source, destination, counters, tools)
            }
        }
    }

    /// One read. What it brought is delivered, or held. Only with nothing held.
    fn take<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        tools: &mut Tools,
    ) -> Result<(), Stop> {
        if self.passage.is_some() {
            return self.take_frames(source, destination, counters, tools);
        }
        #[cfg(target_os = "linux")]
        if let Some(make) = self.wants_pipe() {
            let Some(pipe) = tools.pipes.take(make) else {
                self.degrade();
                return self.take_by_copy(source, destination, counters, tools);
            };
            let filled = splice::fill(source, &pipe);
            if let Ok(bytes @ 1..) = filled {
                if let Method::Adaptive(_, appetite) = &mut self.method {
                    appetite.after_splice(bytes, pipe.capacity_bytes);
                }
                self.held = Held::Pipe { pipe, bytes };
                return self.deliver(destination, counters, tools);
            }
            let is_refused = filled
                .as_ref()
                .is_err_and(|error| splice::is_refused(error, &pipe));
            tools.pipes.put(pipe);
            if is_refused {
                self.method = Method::Copy;
                pipe::note_refusal(filled.as_ref().err());
            } else {
                let taken = taken(filled);
                let at_end = matches!(taken, Err(Stop::EndOfStream));
                let found_nothing = at_end || matches!(taken, Ok(None));
                // A read leaves that byte out, and gets on.
                if !(found_nothing && source.is_at_urgent_byte(at_end)) {
                    return taken.map(drop);
                }
            }
            self.degrade();
        }
        self.take_by_copy(source, destination, counters, tools)
    }

    fn take_by_copy<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        tools: &mut Tools,
    ) -> Result<(), Stop> {
        let Some(bytes) = taken(source.read(&mut tools.buffer))? else {
            return Ok(());
        };
        #[cfg(target_os = "linux")]
        if let Method::Adaptive(_, appetite) = &mut self.method {
            appetite.after_copy(bytes);
        }
        let Tools { buffer, .. } = tools;
        self.write(
            buffer.get(..bytes).unwrap_or_default(),
            destination,
            counters,
        )
    }

    /// One read of frames. What is whole is written by one write.
    fn take_frames<S: Socket>(
        &mut self,
        source: &S,
        destination: &S,
        counters: &Counters,
        tools: &mut Tools,
    ) -> Result<(), Stop> {
        let Some(bytes) = taken(source.read(&mut tools.buffer))? else {
            return Ok(());
        };
        let Some(mut passage) = self.passage.take() else {
            return Ok(());
        };
        let Tools {
            buffer,
            output,
            zlib,
            ..
        } = tools;
        let read = buffer.get_mut(..bytes).unwrap_or_default();
        output.clear();
        let walked = passage.walk(read, output, zlib);
        let to_write = match walked {
            Walked::Slice(range) => buffer.get_mut(range).unwrap_or_default(),
            Walked::Output => &mut output[..],
            Walked::Nothing => &mut [],
        };
        passage.encrypt(to_write);
        let mut written = self.write(to_write, destination, counters);
        if let (Ok(()), Some(error)) = (&written, passage.take_fault()) {
            debug!(direction = %self.direction, %error, "a stream of frames is broken");
            written = Err(Stop::Fault(error.into()));
        }
        if output.capacity() > COPY_BYTES {
            *output = Vec::new();
        }
        self.passage = Some(passage);
        written
    }

    /// Writes what the receiver takes now, and holds the rest.
    fn write<S: Socket>(
        &mut self,
        mut rest: &[u8],
        destination: &S,
        counters: &Counters,
    ) -> Result<(), Stop> {
        while !rest.is_empty() {
            let Some(sent) = given(socket::write(destination, rest))? else {
                // Only now a buffer of its own, and only for what is left.
                self.held = Held::Backlog {
                    bytes: rest.into(),
                    written: 0,
                };
                break;
            };
            self.count(sent, counters);
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Delivers what is held, as far as the receiver takes it.
    fn deliver<S: Socket>(
        &mut self,
        destination: &S,
        counters: &Counters,
        tools: &mut Tools,
    ) -> Result<(), Stop> {
        loop {
            let sent = match &mut self.held {
                Held::Nothing => return Ok(()),
                Held::Backlog { bytes, written } => {
                    let rest = bytes.get(*written..).unwrap_or_default();
                    let Some(sent) = given(socket::write(destination, rest))? else {
                        return Ok(());
                    };
                    *written += sent;
                    if *written >= bytes.len() {
                        self.held = Held::Nothing;
                    }
                    sent
                }
                #[cfg(target_os = "linux")]
                Held::Pipe { pipe, bytes } => {
                    let emptied = splice::empty(pipe, *bytes, destination);
                    if let Err(error) = &emptied
                        && splice::is_refused(error, pipe)
                    {
                        pipe::note_refusal(Some(error));
                        let bytes = splice::drain(pipe, *bytes)
                            .map_err(|error| Stop::Write(error.kind()))?;
                        self.method = Method::Copy;
                        self.held = Held::Backlog { bytes, written: 0 };
                        self.degrade();
                        continue;
                    }
                    let Some(sent) = given(emptied)? else {
                        return Ok(());
                    };
                    debug_assert!(sent <= *bytes, "more out of a pipe than in");
                    *bytes = bytes.saturating_sub(sent);
                    if *bytes == 0
                        && let Held::Pipe { pipe, .. } =
                            std::mem::replace(&mut self.held, Held::Nothing)
                    {
                        tools.pipes.put(pipe);
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
            Method::Adaptive(make, appetite) => appetite.splices().then_some(*make),
        }
    }

    #[cfg(target_os = "linux")]
    fn degrade(&mut self) {
        if !self.degraded {
            self.degraded = true;
            pipe::count_degraded();
        }
    }

    fn count(&mut self, bytes: usize, counters: &Counters) {
        // `usize` is at most 64 bits on every target there is.
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        counters.add(self.direction, bytes);
    }
}

/// How many bytes a sender had, `None` when it has none now.
fn taken(result: io::Result<usize>) -> Result<Option<usize>, Stop> {
    match result {
        Ok(0) => Err(Stop::EndOfStream),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_not_now(&error) => Ok(None),
        Err(error) => Err(Stop::Read(error.kind())),
    }
}

/// How many bytes a receiver took, `None` when it takes none now.
fn given(result: io::Result<usize>) -> Result<Option<usize>, Stop> {
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
