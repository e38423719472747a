//! One direction of a session: it reads from the sender, keeps what the receiver does not
//! accept yet, and knows how the direction ends.

mod buffers;
mod frames;

use std::io;

pub(super) use self::buffers::Buffers;
pub(super) use self::frames::Encryption;
use self::frames::Framed;
#[cfg(target_os = "linux")]
use super::pipe::{self, MakePipe, Pipe};
use super::socket::{self, Socket};
use super::{Counters, Direction, Relay, SPLICE_AVAILABLE, resolve};
#[cfg(target_os = "linux")]
use super::{adaptive::CopyOrSplice, splice};

/// How a direction moves bytes that it does not look into.
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

/// How the bytes of a direction pass.
#[derive(Debug)]
enum Way {
    /// As they come.
    Raw(
        #[cfg_attr(
            not(target_os = "linux"),
            expect(dead_code, reason = "there is only one method")
        )]
        Method,
    ),
    /// In whole frames.
    Framed(Framed),
}

/// One direction of a session.
#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    way: Way,
    in_flight: InFlight,
    phase: Phase,
    moved_bytes: u64,
    degraded: bool,
}

impl Lane {
    pub(super) fn new(direction: Direction, method: Method) -> Self {
        Self {
            direction,
            way: Way::Raw(method),
            in_flight: InFlight::Nothing,
            phase: Phase::Open,
            moved_bytes: 0,
            degraded: false,
        }
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
            self.cancel_queries();
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
                    return self.pass_frames(0, destination, counters, buffers);
                }
                self.read(source, destination, counters, buffers)
            }
        }
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
        if let Way::Framed(_) = self.way {
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
                if let Way::Raw(Method::Adaptive(_, choice)) = &mut self.way {
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
                self.way = Way::Raw(Method::Copy);
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
        if let Way::Raw(Method::Adaptive(_, choice)) = &mut self.way {
            choice.after_copy(bytes);
        }
        let Buffers { buffer, .. } = buffers;
        self.write(
            buffer.get(..bytes).unwrap_or_default(),
            destination,
            counters,
        )
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
                        self.way = Way::Raw(Method::Copy);
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
        match &self.way {
            Way::Framed(_) | Way::Raw(Method::Copy) => None,
            Way::Raw(Method::Splice(make)) => Some(*make),
            Way::Raw(Method::Adaptive(make, choice)) => choice.splices().then_some(*make),
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
