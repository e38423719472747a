//! Both directions of a session, and what an end of one means for the other.
//!
//! A driver owns an [`Exchange`], waits until the sockets are as the exchange
//! [wants](Exchange::wants) them, says so by [`ready`](Exchange::ready), and
//! closes everything by dropping it once it is [over](Exchange::outcome).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::both::Both;
use super::clock::{Clock, Expired};
use super::framed::{Passages, Remains};
use super::lane::{Lane, Method, Phase, Stop, Tools};
use super::socket::{self, Socket};
use super::{Counters, Direction, End, Outcome, Session, Side};

/// How long a side may take to acknowledge what it was sent before a reset
/// that is passed on to it. A peer that does not read would hold it for ever.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// The pauses between two questions whether it has: they double from one to the other.
const FAREWELL_PAUSES: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(100));

/// What there is use for at one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Wants {
    pub(super) const NOTHING: Self = Self {
        read: false,
        write: false,
    };
}

/// What a driver has found at one socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// Bytes, an end or an error can be read.
    pub(super) readable: bool,
    /// It takes bytes, or refuses them.
    pub(super) writable: bool,
    /// It has failed.
    pub(super) failed: bool,
}

/// A reset that is to be passed on to this side.
#[derive(Debug)]
struct Farewell {
    to: Side,
    until: Instant,
    ask_at: Instant,
    pause: Duration,
}

#[derive(Debug)]
pub(super) struct Exchange<S> {
    is_framed: bool,
    sockets: Both<S>,
    /// Under the side that sends.
    lanes: Both<Lane>,
    /// A socket tells its error once, to whoever calls first, and after that
    /// only an end: so it is kept.
    failed: Both<Option<io::ErrorKind>>,
    counters: Arc<Counters>,
    clock: Clock,
    /// What ended the first direction.
    cause: Option<End>,
    farewell: Option<Farewell>,
    over: Option<End>,
}

impl Exchange<tokio::net::TcpStream> {
    pub(super) fn new(session: Session, method: Method) -> Self {
        let lanes = Both {
            client: Lane::new(Direction::Serverbound, method),
            backend: Lane::new(Direction::Clientbound, method),
        };
        Self::with_lanes(session, lanes)
    }

    /// A session whose frames are walked. The client's socket outlives it: see
    /// [`into_remains`](Self::into_remains).
    pub(super) fn framed(session: Session, passages: Passages) -> Self {
        let lanes = Both {
            client: Lane::framed(Direction::Serverbound, passages.serverbound),
            backend: Lane::framed(Direction::Clientbound, passages.clientbound),
        };
        Self {
            is_framed: true,
            ..Self::with_lanes(session, lanes)
        }
    }

    fn with_lanes(session: Session, lanes: Both<Lane>) -> Self {
        Self {
            is_framed: false,
            sockets: Both {
                client: session.client,
                backend: session.backend,
            },
            clock: Clock::new(session.limits, &lanes),
            lanes,
            failed: Both {
                client: None,
                backend: None,
            },
            counters: session.counters,
            cause: None,
            farewell: None,
            over: None,
        }
    }

    /// Takes the sockets from the runtime. Whatever state it is in goes on elsewhere.
    pub(super) fn into_std(self) -> io::Result<Exchange<std::net::TcpStream>> {
        Ok(Exchange {
            is_framed: self.is_framed,
            sockets: Both {
                client: self.sockets.client.into_std()?,
                backend: self.sockets.backend.into_std()?,
            },
            lanes: self.lanes,
            failed: self.failed,
            counters: self.counters,
            clock: self.clock,
            cause: self.cause,
            farewell: self.farewell,
            over: self.over,
        })
    }
}

impl<S: Socket> Exchange<S> {
    pub(super) fn socket(&self, side: Side) -> &S {
        self.sockets.of(side)
    }

    pub(super) fn wants(&self, side: Side) -> Wants {
        Wants {
            read: self.lanes.of(side).reads(),
            write: self.lanes.of(side.other()).is_waiting(),
        }
    }

    /// Moves what can be moved now that this socket is so.
    pub(super) fn ready(&mut self, side: Side, ready: Ready, tools: &mut Tools) {
        if ready.writable && self.lanes.of(side.other()).is_waiting() {
            self.step(side.other(), tools);
        }
        if ready.readable && self.lanes.of(side).reads() {
            self.step(side, tools);
        } else if ready.failed && self.lanes.of(side.other()).phase() == Phase::Open {
            // What it sent before is read, and its failure met again, when its
            // own bytes get on; what is on its way to it never arrives.
            let error = SockRef::from(self.sockets.of(side)).take_error();
            let kind = error
                .ok()
                .flatten()
                .map_or(io::ErrorKind::ConnectionReset, |error| error.kind());
            self.stopped(side.other(), Stop::Write(kind));
        }
    }

    fn step(&mut self, source: Side, tools: &mut Tools) {
        let (from, to) = (self.sockets.of(source), self.sockets.of(source.other()));
        let step = self
            .lanes
            .of_mut(source)
            .step(from, to, &self.counters, tools);
        if let Err(stop) = step {
            self.stopped(source, stop);
        }
    }

    /// The direction from this side stopped: what that means for both sides.
    fn stopped(&mut self, source: Side, stop: Stop) {
        let destination = source.other();
        match (source, stop) {
            (_, Stop::Fault(kind)) => {
                self.fail(source, kind);
                self.over = self.cause;
                return;
            }
            (Side::Backend, Stop::EndOfStream | Stop::Read(_)) if self.is_framed => {
                self.lose_backend(stop);
                return;
            }
            _ => {}
        }
        self.clock.start_half_close();
        match (stop, *self.failed.of(source)) {
            (Stop::EndOfStream, None) => {
                self.cause.get_or_insert(End::Closed(source));
                self.lanes.of_mut(source).finish();
                // The close of a session that is over says it as well.
                if self.lanes.of(destination).phase() != Phase::Done {
                    socket::end_stream(self.sockets.of(destination));
                }
            }
            (Stop::Read(kind) | Stop::Fault(kind), _) | (Stop::EndOfStream, Some(kind)) => {
                self.fail(source, kind);
                // All that it sent was delivered, and it takes nothing more.
                self.lanes.of_mut(source).finish();
                self.lanes.of_mut(destination).finish();
            }
            (Stop::Write(kind), _) => {
                self.fail(destination, kind);
                // What the receiver sent before it failed is still delivered
                // by the other direction, which then meets its end.
                if self.lanes.of(destination).phase() == Phase::Done {
                    self.lanes.of_mut(source).finish();
                } else {
                    self.lanes.of_mut(source).discard();
                }
            }
        }
        if Side::BOTH.map(|side| self.lanes.of(side).phase()) == [Phase::Done; 2] {
            self.close();
        }
    }

    /// The backend of a session whose frames are walked has ended: everything
    /// whole that it has sent was delivered. The client is not told by the end
    /// of its stream: whoever drove the session tells it why, or goes on.
    fn lose_backend(&mut self, stop: Stop) {
        match (stop, self.failed.backend) {
            (Stop::Read(kind) | Stop::Fault(kind), _) | (_, Some(kind)) => {
                self.fail(Side::Backend, kind);
            }
            (Stop::EndOfStream | Stop::Write(_), None) => {
                self.cause.get_or_insert(End::Closed(Side::Backend));
            }
        }
        self.over = self.cause;
    }

    fn fail(&mut self, side: Side, kind: io::ErrorKind) {
        self.cause.get_or_insert(failure(side, kind));
        self.failed.of_mut(side).get_or_insert(kind);
    }

    /// Nothing more will move. If one side was cut off, so will be the other.
    fn close(&mut self) {
        let to = match (self.failed.client, self.failed.backend) {
            (Some(_), None) => Side::Backend,
            (None, Some(_)) => Side::Client,
            (None, None) | (Some(_), Some(_)) => {
                self.over = self.cause;
                return;
            }
        };
        let now = Instant::now();
        self.farewell = Some(Farewell {
            to,
            until: now + FAREWELL_MAX,
            ask_at: now,
            pause: FAREWELL_PAUSES.0,
        });
        self.look(now);
    }

    /// When to [`look`](Self::look) next; `None` is never.
    pub(super) fn look_at(&self) -> Option<Instant> {
        match &self.farewell {
            Some(farewell) => Some(farewell.ask_at),
            None => self.clock.look_at(),
        }
    }

    /// Sees to what is due.
    pub(super) fn look(&mut self, now: Instant) {
        if self.over.is_some() {
            return;
        }
        let Some(farewell) = &mut self.farewell else {
            self.over = self.clock.look(now, &self.lanes).map(|expired| {
                match (expired, self.cause.and_then(End::side)) {
                    (Expired::Read(direction), _) => End::ReadTimeout(direction),
                    (Expired::Write(direction), _) => End::WriteTimeout(direction),
                    (Expired::HalfClose, Some(side)) => End::HalfCloseTimeout(side),
                    // It was started by an end of a side.
                    (Expired::HalfClose, None) => End::Stopped,
                }
            });
            return;
        };
        let socket = self.sockets.of(farewell.to);
        // A reset throws away what is not yet delivered. Where nobody can tell
        // whether something is, the side sees an orderly end.
        match socket::is_acknowledged(socket) {
            Some(false) if now < farewell.until => {
                farewell.ask_at = now + farewell.pause;
                farewell.pause = (farewell.pause * 2).min(FAREWELL_PAUSES.1);
                return;
            }
            Some(_) => socket::reset_on_close(socket),
            None => {}
        }
        self.over = self.cause;
    }

    /// Ends it at once.
    pub(super) fn stop(&mut self, end: End) {
        self.over.get_or_insert(end);
    }

    pub(super) fn is_framed(&self) -> bool {
        self.is_framed
    }

    /// The client's side of a session whose frames were walked. The backend's
    /// is closed.
    pub(super) fn into_remains(self) -> Option<Remains<S>> {
        let (backlog, passage) = self.lanes.backend.into_passage();
        let passage = passage?;
        let (state, has_kicked) = (passage.state(), passage.has_kicked());
        let (cipher, format) = passage.into_receiver();
        Some(Remains {
            client: self.sockets.client,
            backlog,
            cipher,
            format,
            state,
            has_kicked,
        })
    }

    /// What it came to, once it is over.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let lanes = &self.lanes;
        self.over.map(|end| Outcome {
            serverbound_bytes: lanes.client.moved_bytes(),
            clientbound_bytes: lanes.backend.moved_bytes(),
            end,
            degraded: lanes.client.degraded() || lanes.backend.degraded(),
        })
    }
}

fn failure(side: Side, kind: io::ErrorKind) -> End {
    match kind {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => End::Reset(side),
        _ => End::Failed(side, kind),
    }
}
