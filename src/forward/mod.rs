//! The relay of a session: bytes between a client and its backend until one of them ends.
//!
//! A forwarder takes a [`Session`] and returns its [`Outcome`] with exact counts.
//! There are two independent parts: moving the bytes, and waiting for sockets
//! (the drivers).
//!
//! - `exchange` owns both sockets and decides how the end of one affects the other;
//! - `lane` is one direction: its bytes in flight, and whether it still runs;
//!   it copies, splices through a `pipe`, or chooses between both (`adaptive`);
//! - `framed` is a direction in which the proxy reads the frames. `packets` has what it
//!   records and changes in the packets, `bounds` their limits, `commands` the proxy's
//!   own commands, `record` what is kept for moving a player to another backend;
//!   incomplete frames are in buffers of `spare`;
//! - `outbox` has packets for such a session that come from plugins or the proxy, not
//!   from its two peers;
//! - `keep` forwards bytes before the relay begins, and keeps a copy of them;
//! - `queries` holds packets of such a session that wait for decisions of plugins;
//! - `timeouts` are the timeouts of a session;
//! - `portable` drives sessions in the tasks of their connections;
//! - `reactor` takes over those that last, on Linux, in separate threads.
//!
//! An idle session holds two sockets and no buffer. The bytes in flight, which a
//! slow receiver has not accepted yet, are at most one read of [`COPY_BYTES`] or
//! one splice of [`pipe::PIPE_BYTES`] in each direction, and while they wait
//! nothing more is read from their sender.

#[cfg(target_os = "linux")]
mod adaptive;
#[cfg(all(test, target_os = "linux"))]
mod allocation_tests;
mod answers;
mod both;
pub(crate) mod bounds;
pub(crate) mod commands;
#[cfg(all(test, target_os = "linux"))]
mod decision_tests;
#[cfg(all(test, target_os = "linux"))]
mod encryption_tests;
mod exchange;
pub(crate) mod framed;
#[cfg(all(test, target_os = "linux"))]
mod framed_tests;
mod keep;
mod lane;
mod listener;
mod outbox;
pub(crate) mod packets;
#[cfg(target_os = "linux")]
pub mod pipe;
mod portable;
pub(crate) mod queries;
#[cfg(all(test, target_os = "linux"))]
mod random_tests;
#[cfg(target_os = "linux")]
mod reactor;
pub(crate) mod record;
mod socket;
mod spare;
#[cfg(target_os = "linux")]
mod splice;
#[cfg(test)]
mod tests;
mod timeouts;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "fuzz")]
pub use self::framed::trial;
use self::framed::{FrameFilters, ReturnedClient};
pub(crate) use self::keep::{copy_and_keep, splice_and_keep};
use self::lane::Method;
pub(crate) use self::listener::Listener;
pub(crate) use self::outbox::{Full, Outbox};
pub use self::queries::Wanted;
#[cfg(target_os = "linux")]
use self::reactor::Reactor;
pub use crate::protocol::packet::Direction;
use crate::reason::names;
use crate::socket::Keepalive;

/// The size of the buffer for one read, in bytes.
///
/// Measured: copying with 64 KiB costs a fifth less than with 16 KiB and about
/// half of what 8 KiB cost; more gains nothing.
pub const COPY_BYTES: usize = 64 * 1024;

/// Whether this build can splice.
pub const SPLICE_AVAILABLE: bool = cfg!(target_os = "linux");

/// The warning, once at load, where splicing is configured and not available.
pub const SPLICE_FALLBACK_WARNING: &str =
    "ZeroCopy mode requested but splice is only available on Linux, falling back to CopyForwarder";

/// How a forwarder moves bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Read into user space and write out again.
    Copy,
    /// `splice(2)` through a pipe: bytes stay in the kernel.
    Splice,
    /// Copy short reads, splice while they are long.
    Adaptive,
}

impl Relay {
    /// The name in configurations and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Relay::Copy => "copy",
            Relay::Splice => "splice",
            Relay::Adaptive => "adaptive",
        }
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The player's side.
    Client,
    /// The side of the configured server.
    Backend,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Side::Client, Side::Backend];

    pub(crate) const fn other(self) -> Self {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Backend => "backend",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Direction {
    /// Where its bytes come from.
    #[must_use]
    pub const fn source(self) -> Side {
        match self {
            Direction::Serverbound => Side::Client,
            Direction::Clientbound => Side::Backend,
        }
    }

    /// Where its bytes go.
    #[must_use]
    pub const fn destination(self) -> Side {
        match self {
            Direction::Serverbound => Side::Backend,
            Direction::Clientbound => Side::Client,
        }
    }
}

/// How long a session may wait, and for what.
///
/// A coarse timer checks `read` and `write`, so that they cost nothing per
/// message: they fire between 1 and 1.25 times the given length, plus the
/// resolution of the runtime's timers, a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an open direction may receive no byte; `None` means no limit.
    ///
    /// It does not run while bytes wait for the receiver: `write` does then.
    pub read: Option<Duration>,
    /// How long bytes may wait while the receiver accepts none; `None` means no limit.
    pub write: Option<Duration>,
    /// How long one direction may continue after the other has ended.
    ///
    /// It counts from that end; bytes that still move do not extend it.
    pub half_close: Duration,
}

/// Live byte counts of one session: bytes that the receiver's socket has accepted.
///
/// The forwarder adds to them as it moves bytes; they may be read at any time.
/// They are exact after every ending, also when the session's future is dropped.
/// What was sent before the relay (a replayed handshake) may be added first.
#[derive(Debug, Default)]
pub struct Counters {
    serverbound: AtomicU64,
    clientbound: AtomicU64,
    client_has_ended: AtomicBool,
    /// The task that waits for that.
    client_end: AtomicWaker,
}

impl Counters {
    /// Bytes moved in one direction so far.
    #[must_use]
    pub fn get(&self, direction: Direction) -> u64 {
        self.of(direction).load(Ordering::Relaxed)
    }

    /// Adds bytes that were moved in one direction.
    pub fn add(&self, direction: Direction, bytes: u64) {
        self.of(direction).fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the client has ended its stream. Its backend may still send.
    pub(crate) fn client_has_ended(&self) -> bool {
        self.client_has_ended.load(Ordering::Relaxed)
    }

    /// Ready when the client has ended its stream. One task can wait at a time.
    pub(crate) fn poll_client_end(&self, context: &Context<'_>) -> Poll<()> {
        self.client_end.register(context.waker());
        match self.client_has_ended.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Records that the client has ended its stream.
    fn end_client(&self) {
        self.client_has_ended.store(true, Ordering::Release);
        self.client_end.wake();
    }

    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Serverbound => &self.serverbound,
            Direction::Clientbound => &self.clientbound,
        }
    }
}

/// Two connected sockets and the rules for the relay between them.
///
/// The caller sets all other options of the sockets. Both
/// sockets are closed when the relay ends, and soon after its future is dropped.
#[derive(Debug)]
pub struct Session {
    /// The player's connection.
    pub client: TcpStream,
    /// The connection to the backend.
    pub backend: TcpStream,
    /// Set on the backend's connection, in a session that lasts.
    pub keepalive: Keepalive,
    /// How long it may wait.
    pub limits: Limits,
    /// Where moved bytes are counted.
    pub counters: Arc<Counters>,
}

/// Lets the kernel detect that the backend has vanished. An error is only logged: if
/// the connection is broken, the relay reports it.
pub(crate) fn keep_alive(backend: &TcpStream, keepalive: &Keepalive) {
    if let Err(error) = crate::socket::keep_alive(backend, keepalive) {
        tracing::debug!(%error, "keepalive cannot be set");
    }
}

/// The result of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes that the relay wrote to the backend's socket.
    pub serverbound_bytes: u64,
    /// Bytes that the relay wrote to the client's socket.
    pub clientbound_bytes: u64,
    /// Why it ended: the first cause, unless a limit or a stop ended it first.
    pub end: End,
    /// Whether some bytes were copied because splicing was asked for and not possible.
    pub degraded: bool,
}

impl Outcome {
    /// The outcome of a session that ends before anything is relayed.
    pub(crate) const fn nothing(end: End) -> Self {
        Self {
            serverbound_bytes: 0,
            clientbound_bytes: 0,
            end,
            degraded: false,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This side ended its stream in order, before the other.
    Closed(Side),
    /// This side reset its connection, or refused what was sent to it.
    Reset(Side),
    /// The connection to this side failed otherwise (it vanished, say).
    Failed(Side, io::ErrorKind),
    /// This direction was silent longer than [`Limits::read`].
    ReadTimeout(Direction),
    /// The receiver of this direction accepted nothing for longer than [`Limits::write`].
    WriteTimeout(Direction),
    /// This side had ended, and the other continued longer than [`Limits::half_close`].
    HalfCloseTimeout(Side),
    /// The session's token was cancelled.
    Stopped,
}

impl End {
    /// The side that caused the end; `None` where the proxy did.
    #[must_use]
    pub const fn side(self) -> Option<Side> {
        match self {
            End::Closed(side)
            | End::Reset(side)
            | End::Failed(side, _)
            | End::HalfCloseTimeout(side) => Some(side),
            End::ReadTimeout(direction) => Some(direction.source()),
            End::WriteTimeout(direction) => Some(direction.destination()),
            End::Stopped => None,
        }
    }

    names! {
        /// The name in logs and metrics: one of few, without the side.
        #[must_use]
        pub const fn name(self) {
            End::Closed(_) => "closed",
            End::Reset(_) => "reset",
            End::Failed(..) => "failed",
            End::ReadTimeout(_) => "read_timeout",
            End::WriteTimeout(_) => "write_timeout",
            End::HalfCloseTimeout(_) => "half_close_timeout",
            End::Stopped => "stopped",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed(side) => write!(f, "{side} closed"),
            End::Reset(side) => write!(f, "{side} reset"),
            End::Failed(side, kind) => write!(f, "{side} failed: {kind}"),
            End::ReadTimeout(direction) => write!(f, "{direction} silent for too long"),
            End::WriteTimeout(direction) => {
                write!(f, "{} does not read", direction.destination())
            }
            End::HalfCloseTimeout(side) => {
                write!(f, "{side} closed and the other side went on for too long")
            }
            End::Stopped => f.write_str("stopped"),
        }
    }
}

/// The forwarders of one proxy, and the threads that they share.
#[derive(Debug, Clone)]
pub struct Forwarders {
    #[cfg(target_os = "linux")]
    reactor: Reactor,
}

impl Forwarders {
    /// Starts this many relay threads; none on systems where the runtime relays.
    ///
    /// They end with the last clone and the last session.
    ///
    /// # Errors
    ///
    /// When a thread or its epoll descriptor cannot be created.
    pub fn start(threads: NonZeroUsize) -> io::Result<Self> {
        #[cfg(not(target_os = "linux"))]
        let _ = threads;
        Ok(Self {
            #[cfg(target_os = "linux")]
            reactor: Reactor::start(threads)?,
        })
    }

    /// Relays a session in this way, or in its replacement on this system, until both
    /// directions have ended, a limit has passed or the session is stopped.
    ///
    /// `stop` ends the session at once. It should be a child token for each session, so that
    /// sessions do not share the lock of one token.
    ///
    /// It needs a tokio runtime with I/O and time. Dropping the future stops the session;
    /// the counters stay exact.
    pub fn forward(
        &self,
        relay: Relay,
        session: Session,
        stop: CancellationToken,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let method = Method::of(relay);
        #[cfg(target_os = "linux")]
        let forwarded = self.reactor.forwarder(method).forward(session, stop);
        #[cfg(not(target_os = "linux"))]
        let forwarded = portable::PortableForwarder(method).forward(session, stop);
        forwarded
    }

    /// Relays a session and reads its frames, until both directions have ended,
    /// a limit has passed, or its backend is lost. Returns what is left of the
    /// client's side, so that it can be sent a text or another backend's packets.
    ///
    /// The session is stopped by its outbox: a token would need a future of its own, for as
    /// long as the session lasts. Dropping the future stops the session, too.
    pub(crate) fn forward_framed(
        &self,
        session: Session,
        filters: FrameFilters,
    ) -> impl Future<Output = (Outcome, Option<ReturnedClient<std::net::TcpStream>>)> + Send + use<>
    {
        #[cfg(target_os = "linux")]
        let forwarded = self
            .reactor
            .forwarder(Method::Copy)
            .forward_framed(session, filters);
        #[cfg(not(target_os = "linux"))]
        let forwarded = portable::PortableForwarder(Method::Copy).forward_framed(session, filters);
        forwarded
    }
}

/// The relay that a `relay` key selects on a machine with or without
/// `splice(2)`, and a warning where that is not the configured one.
#[must_use]
pub const fn resolve(relay: Relay, splice_available: bool) -> (Relay, Option<&'static str>) {
    match (relay, splice_available) {
        (Relay::Splice | Relay::Adaptive, false) => (Relay::Copy, Some(SPLICE_FALLBACK_WARNING)),
        (Relay::Copy | Relay::Splice | Relay::Adaptive, _) => (relay, None),
    }
}
