//! Both directions of a session, and how the end of one affects the other.
//!
//! A driver owns an [`Exchange`], waits until the sockets are as the exchange
//! [wants](Exchange::wants) them, reports that to [`ready`](Exchange::ready), and
//! closes everything by dropping it once it is [over](Exchange::outcome).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::both::Both;
use super::framed::{FrameFilters, ReturnedClient};
use super::lane::{Buffers, Encryption, Lane, Method, Phase, Stop};
use super::outbox::Driver;
use super::socket::{self, Socket};
use super::timeouts::{Expired, Timeouts};
use super::{Counters, Direction, End, Outbox, Outcome, Session, Side};
use crate::protocol::cipher::Ciphers;

/// How long we wait for a peer to acknowledge data before we forward the other
/// side's reset. A peer that does not read would delay it for ever.
const RESET_DELAY_MAX: Duration = Duration::from_secs(5);

/// Polling interval for that: it starts at this value and doubles up to [`ACK_POLL_MAX`].
const ACK_POLL_MIN: Duration = Duration::from_millis(1);
/// See [`ACK_POLL_MIN`].
const ACK_POLL_MAX: Duration = Duration::from_millis(100);

/// Which readiness of one socket the session can use now.
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

/// The readiness that a driver has observed at one socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// A read returns bytes, the end of the stream, or an error.
    pub(super) readable: bool,
    /// A write makes progress or returns an error.
    pub(super) writable: bool,
    /// It has failed.
    pub(super) failed: bool,
}

/// A reset of one side that is forwarded to the other side once that has
/// acknowledged all data.
#[derive(Debug)]
struct PendingReset {
    to: Side,
    deadline: Instant,
    next_poll: Instant,
    interval: Duration,
}

/// A session: two sockets, the two directions between them, and its timeouts.
#[derive(Debug)]
pub(super) struct Exchange<S> {
    is_framed: bool,
    /// Packets that do not come from the two peers.
    outbox: Option<Arc<Outbox>>,
    /// Whether the outbox may have packets: it is looked into after it has woken the
    /// driver, and until it is empty.
    has_outbox_packets: bool,
    sockets: Both<S>,
    /// The lane of each sender.
    lanes: Both<Lane>,
    /// The error of each socket: a socket reports it only to the first call, and to
    /// later calls the end of the stream.
    failed: Both<Option<io::ErrorKind>>,
    counters: Arc<Counters>,
    timeouts: Timeouts,
    /// What ended the first direction.
    cause: Option<End>,
    /// Boxed, since few sessions end so.
    pending_reset: Option<Box<PendingReset>>,
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

    /// A framed session. The client's socket outlives it: see
    /// [`into_returned_client`](Self::into_returned_client).
    pub(super) fn framed(session: Session, filters: FrameFilters) -> Self {
        let outbox = Arc::clone(filters.outbox());
        let (encrypt, decrypt) = filters.ciphers.map(Ciphers::into_parts).unzip();
        let lanes = Both {
            client: Lane::framed(Direction::Serverbound, filters.serverbound, decrypt),
            backend: Lane::framed(Direction::Clientbound, filters.clientbound, encrypt),
        };
        Self {
            is_framed: true,
            outbox: Some(outbox),
            ..Self::with_lanes(session, lanes)
        }
    }

    fn with_lanes(session: Session, lanes: Both<Lane>) -> Self {
        Self {
            is_framed: false,
            outbox: None,
            has_outbox_packets: false,
            sockets: Both {
                client: session.client,
                backend: session.backend,
            },
            timeouts: Timeouts::new(session.limits, &lanes),
            lanes,
            failed: Both {
                client: None,
                backend: None,
            },
            counters: session.counters,
            cause: None,
            pending_reset: None,
            over: None,
        }
    }

    /// Takes the sockets from the runtime, so that another driver can continue the session.
    pub(super) fn into_std(self) -> io::Result<Exchange<std::net::TcpStream>> {
        Ok(Exchange {
            is_framed: self.is_framed,
            outbox: self.outbox,
            has_outbox_packets: self.has_outbox_packets,
            sockets: Both {
                client: self.sockets.client.into_std()?,
                backend: self.sockets.backend.into_std()?,
            },
            lanes: self.lanes,
            failed: self.failed,
            counters: self.counters,
            timeouts: self.timeouts,
            cause: self.cause,
            pending_reset: self.pending_reset,
            over: self.over,
        })
    }
}

impl<S: Socket> Exchange<S> {
    pub(super) fn socket(&self, side: Side) -> &S {
        self.sockets.of(side)
    }

    pub(super) fn wants(&self, side: Side) -> Wants {
        let lane = self.lanes.of(side);
        Wants {
            // An encryption ends soon, and most decisions come soon: changing what epoll
            // watches twice would cost more than an event or two that are ignored.
            read: lane.reads() || lane.reads_soon(),
            write: self.lanes.of(side.other()).is_waiting(),
        }
    }

    /// Handles a readiness event of one socket.
    pub(super) fn ready(&mut self, side: Side, ready: Ready, buffers: &mut Buffers) {
        if ready.writable && self.lanes.of(side.other()).is_waiting() {
            self.step(side.other(), buffers);
        }
        if ready.readable && self.lanes.of(side).reads() {
            self.step(side, buffers);
            return;
        }
        if ready.readable {
            self.lanes.of_mut(side).note_unread();
        }
        if ready.failed && self.lanes.of(side.other()).phase() == Phase::Open {
            // Bytes that it sent before the failure can still be read later,
            // and that read reports the failure again. Bytes for it are lost.
            let error = SockRef::from(self.sockets.of(side)).take_error();
            let kind = error
                .ok()
                .flatten()
                .map_or(io::ErrorKind::ConnectionReset, |error| error.kind());
            self.stopped(side.other(), Stop::Write(kind));
        }
    }

    /// Whether bytes for the client wait for their encryption.
    pub(super) fn is_encrypting(&self) -> bool {
        self.lanes.backend.is_encrypting()
    }

    /// Takes those bytes. The driver encrypts some or all, and gives them to
    /// [`continue_encrypted`](Self::continue_encrypted) before it does anything else with
    /// the session.
    pub(super) fn take_encryption(&mut self) -> Option<Encryption> {
        self.lanes.backend.take_encryption()
    }

    /// Takes those bytes back, and delivers them once all are encrypted.
    pub(super) fn continue_encrypted(&mut self, encryption: Encryption, buffers: &mut Buffers) {
        let (lane, client) = (&mut self.lanes.backend, &self.sockets.client);
        let continued = lane.continue_encrypted(encryption, client, &self.counters, buffers);
        if let Err(stop) = continued {
            self.stopped(Side::Backend, stop);
        }
        self.send_out(Side::Backend, buffers);
    }

    /// Whether bytes are held back for a decision.
    pub(super) fn is_holding(&self) -> bool {
        self.lanes.client.is_holding() || self.lanes.backend.is_holding()
    }

    /// Writes those bytes without the decision.
    pub(super) fn write_held(&mut self, buffers: &mut Buffers) {
        for source in Side::BOTH {
            let to = self.sockets.of(source.other());
            let lane = self.lanes.of_mut(source);
            if let Err(stop) = lane.write_held(to, &self.counters, buffers) {
                self.stopped(source, stop);
            }
        }
    }

    fn step(&mut self, source: Side, buffers: &mut Buffers) {
        let (from, to) = (self.sockets.of(source), self.sockets.of(source.other()));
        let step = self
            .lanes
            .of_mut(source)
            .step(from, to, &self.counters, buffers);
        if let Err(stop) = step {
            self.stopped(source, stop);
        }
        self.send_out(source, buffers);
    }

    /// Sets the driver that is notified when a packet is put into the outbox.
    pub(super) fn set_driver(&self, driver: impl FnOnce() -> Driver) {
        if let Some(outbox) = &self.outbox {
            outbox.set_driver(driver());
        }
    }

    /// Ends the session if its outbox is stopped. Otherwise continues with frames that waited
    /// for a decision, and writes packets of the outbox, as far as both receivers accept them
    /// now. To be called after the driver was set, and each time that it was notified.
    pub(super) fn send_out_all(&mut self, buffers: &mut Buffers) {
        if let Some(outbox) = &self.outbox {
            outbox.clear_wakeup();
            // After the wakeup was cleared: a later packet wakes the driver again.
            self.has_outbox_packets = outbox.has_any();
            if outbox.is_stopped() {
                self.write_held(buffers);
                self.stop(End::Stopped);
            }
            for source in Side::BOTH {
                let is_decided = self.over.is_none() && self.lanes.of_mut(source).take_decision();
                match is_decided {
                    true => self.step(source, buffers),
                    false => self.send_out(source, buffers),
                }
            }
        }
    }

    fn send_out(&mut self, source: Side, buffers: &mut Buffers) {
        let Some(outbox) = self.outbox.as_deref().filter(|_| self.has_outbox_packets) else {
            return;
        };
        let to = self.sockets.of(source.other());
        let lane = self.lanes.of_mut(source);
        if self.over.is_some() {
            return;
        }
        let sent = lane.send_out(outbox, to, &self.counters, buffers);
        self.has_outbox_packets = outbox.has_any();
        if let Err(stop) = sent {
            self.stopped(source, stop);
        }
    }

    /// The direction from this side stopped: updates the state of both directions.
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
        // A failed write means that the backend is lost; the client may still be there.
        if source == Side::Client && !matches!(stop, Stop::Write(_)) {
            self.counters.end_client();
        }
        self.timeouts.start_half_close();
        match (stop, *self.failed.of(source)) {
            (Stop::EndOfStream, None) => {
                self.cause.get_or_insert(End::Closed(source));
                self.lanes.of_mut(source).finish();
                // If the session is over, closing the sockets ends the stream as well.
                if self.lanes.of(destination).phase() != Phase::Done {
                    socket::end_stream(self.sockets.of(destination));
                }
            }
            (Stop::Read(kind) | Stop::Fault(kind), _) | (Stop::EndOfStream, Some(kind)) => {
                self.fail(source, kind);
                // All that it sent was delivered, and it accepts nothing more.
                self.lanes.of_mut(source).finish();
                self.lanes.of_mut(destination).finish();
            }
            (Stop::Write(kind), _) => {
                self.fail(destination, kind);
                // The other direction still delivers what the receiver sent
                // before it failed, and then reads its end.
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

    /// The backend of a framed session has ended; all whole frames that it
    /// sent were delivered. The client's stream stays open: the caller of the
    /// relay sends it a text, or connects it to another backend.
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

    /// Nothing more will move. If one side was reset, the other is reset too.
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
        self.pending_reset = Some(Box::new(PendingReset {
            to,
            deadline: now + RESET_DELAY_MAX,
            next_poll: now,
            interval: ACK_POLL_MIN,
        }));
        self.check_deadlines(now);
    }

    /// When to call [`check_deadlines`](Self::check_deadlines) next; `None` is never.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        match &self.pending_reset {
            Some(reset) => Some(reset.next_poll),
            None => self.timeouts.next_deadline(&self.lanes),
        }
    }

    /// Handles the deadlines that have passed at `now`.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        if self.over.is_some() {
            return;
        }
        let Some(reset) = &mut self.pending_reset else {
            self.over = self
                .timeouts
                .check_deadlines(now, &self.lanes)
                .map(|expired| {
                    match (expired, self.cause.and_then(End::side)) {
                        (Expired::Read(direction), _) => End::ReadTimeout(direction),
                        (Expired::Write(direction), _) => End::WriteTimeout(direction),
                        (Expired::HalfClose, Some(side)) => End::HalfCloseTimeout(side),
                        // Not reached: only the end of a side starts this timeout.
                        (Expired::HalfClose, None) => End::Stopped,
                    }
                });
            return;
        };
        let socket = self.sockets.of(reset.to);
        // A reset discards data that was not delivered yet. If the system does not
        // report whether it was, the side gets an orderly end instead.
        match socket::is_acknowledged(socket) {
            Some(false) if now < reset.deadline => {
                reset.next_poll = now + reset.interval;
                reset.interval = (reset.interval * 2).min(ACK_POLL_MAX);
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

    /// The client's side of a framed session. The backend's socket is closed.
    pub(super) fn into_returned_client(self) -> Option<ReturnedClient<S>> {
        let serverbound = self.lanes.client.into_rest()?;
        let mut clientbound = self.lanes.backend.into_rest()?;
        let ciphers = clientbound.cipher.zip(serverbound.cipher);
        let of_client = serverbound.filter.fault();
        let fault = of_client.or(clientbound.filter.fault()).cloned();
        let kick = clientbound.filter.take_kick();
        Some(ReturnedClient {
            client: self.sockets.client,
            backlog: clientbound.backlog,
            ciphers: ciphers.map(|(encrypt, decrypt)| Ciphers { encrypt, decrypt }),
            format: clientbound.filter.receiver_format(),
            sent: clientbound.filter.sent(),
            input: serverbound.filter.into_client_input(kick),
            fault,
        })
    }

    /// The outcome of the session, once it is over.
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
