//! One direction of a session: where its bytes are, and whether it still runs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::pipe::{self, Lent, MakePipe};
use super::{Counters, Direction};
#[cfg(target_os = "linux")]
use super::{adaptive::Appetite, splice};
use super::{copy, copy::Got};

/// Steps that one direction may take before it lets other tasks of its worker run.
///
/// A step is one read and its write of at most [`CHUNK_BYTES`](super::CHUNK_BYTES): so a worker is kept
/// for at most 1 MiB in each direction, a fraction of a millisecond.
const STEPS_PER_POLL: u32 = 16;

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
    Adaptive(MakePipe, Appetite),
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
    Pipe(Lent),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reads and delivers.
    Open,
    /// The receiver is gone: what the sender still sends is read and dropped,
    /// since closing a socket with unread bytes resets it, and a reset may
    /// overtake what the other direction has just delivered to that peer.
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
}

/// What one step of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// That many bytes; never zero.
    Bytes(usize),
    /// End of stream.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "with one method there is nothing to ask")
    )]
    method: Method,
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
            held: Held::Nothing,
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

    /// Moves what can be moved now. Ready when the direction stopped; the
    /// caller then says what that means, by [`finish`](Self::finish) or
    /// [`discard`](Self::discard).
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        destination: &mut TcpStream,
        counters: &Counters,
    ) -> Poll<Stop> {
        for _ in 0..STEPS_PER_POLL {
            let took = match self.phase {
                Phase::Done => return Poll::Pending,
                Phase::Discarding => ready!(copy::poll_drop(cx, source)),
                Phase::Open => {
                    if let Err(error) = ready!(self.poll_flush(cx, destination, counters)) {
                        return Poll::Ready(Stop::Write(error.kind()));
                    }
                    ready!(self.poll_take(cx, source, destination, counters))
                }
            };
            match took {
                Ok(Took::Bytes(_)) => {}
                Ok(Took::Nothing) => return Poll::Ready(Stop::EndOfStream),
                Err(stop) => return Poll::Ready(stop),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read; what was read is delivered or held. Only with nothing held.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        destination: &mut TcpStream,
        counters: &Counters,
    ) -> Poll<Result<Took, Stop>> {
        #[cfg(target_os = "linux")]
        if let Some(make) = self.wants_pipe() {
            match ready!(splice::poll_fill(cx, source, make)) {
                Ok(splice::Filled::Pipe(pipe)) => {
                    let bytes = pipe.held_bytes();
                    if let Method::Adaptive(_, appetite) = &mut self.method {
                        appetite.after_splice(bytes, pipe.capacity_bytes());
                    }
                    self.held = Held::Pipe(pipe);
                    return Poll::Ready(Ok(Took::Bytes(bytes)));
                }
                Ok(splice::Filled::EndOfStream) => return Poll::Ready(Ok(Took::Nothing)),
                Ok(splice::Filled::NoPipe) => self.degrade(),
                Ok(splice::Filled::Unsupported) => {
                    self.degrade();
                    self.method = Method::Copy;
                }
                Err(error) => return Poll::Ready(Err(Stop::Read(error.kind()))),
            }
        }
        let Got { took, rest, sent } = ready!(copy::poll_copy(cx, source, destination));
        self.count(sent, counters);
        if let Some(bytes) = rest {
            self.held = Held::Backlog { bytes, written: 0 };
        }
        #[cfg(target_os = "linux")]
        if let (Method::Adaptive(_, appetite), Ok(Took::Bytes(bytes))) = (&mut self.method, took) {
            appetite.after_copy(bytes);
        }
        Poll::Ready(took)
    }

    /// Delivers what is held. Pending while the receiver is behind.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        destination: &mut TcpStream,
        counters: &Counters,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Backlog { bytes, written } => {
                    let rest = bytes.get(*written..).unwrap_or_default();
                    if rest.is_empty() {
                        self.held = Held::Nothing;
                        continue;
                    }
                    let sent = ready!(Pin::new(&mut *destination).poll_write(cx, rest))?;
                    *written += sent;
                    sent
                }
                #[cfg(target_os = "linux")]
                Held::Pipe(pipe) => {
                    if pipe.held_bytes() == 0 {
                        // Its drop gives the pipe back.
                        self.held = Held::Nothing;
                        continue;
                    }
                    ready!(splice::poll_empty(cx, destination, pipe))?
                }
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
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
        if bytes > 0 {
            // `usize` is at most 64 bits on every target there is.
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            self.moved_bytes = self.moved_bytes.saturating_add(bytes);
            counters.add(self.direction, bytes);
        }
    }
}
