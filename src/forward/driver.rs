//! Both directions of a session in one task, and what an end of one means for the other.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::clock::{Clock, Expired};
use super::lane::{Lane, Method, Phase, Stop};
use super::{Counters, Direction, End, Outcome, Session, Side};

/// Relays a session by one method.
///
/// Everything is moved into its last place before the future begins: an
/// `async fn` would keep room for its arguments beside it.
pub(super) fn run(session: Session, method: Method) -> impl Future<Output = Outcome> + Send {
    let stop = session.stop;
    let mut driver = Driver {
        client: session.client,
        backend: session.backend,
        serverbound: Lane::new(Direction::Serverbound, method),
        clientbound: Lane::new(Direction::Clientbound, method),
        clock: Clock::new(session.limits),
        counters: session.counters,
        cause: None,
    };
    async move {
        let mut cancelled = pin!(stop.cancelled());
        let mut task: Option<Waker> = None;
        poll_fn(|cx| {
            // The token and the timer keep the waker they were given, so they
            // are polled again only when the future has moved to another task;
            // on every other turn two cheap looks are enough.
            let moved_task = !task
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()));
            if moved_task {
                task = Some(cx.waker().clone());
                if cancelled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(driver.outcome(End::Stopped));
                }
            } else if stop.is_cancelled() {
                return Poll::Ready(driver.outcome(End::Stopped));
            }
            driver.poll(cx, moved_task)
        })
        .await
    }
}

struct Driver {
    client: TcpStream,
    backend: TcpStream,
    serverbound: Lane,
    clientbound: Lane,
    clock: Clock,
    counters: Arc<Counters>,
    /// What ended the first direction.
    cause: Option<End>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>, moved_task: bool) -> Poll<Outcome> {
        // What stops one direction may change the other, which then has to be
        // polled once more. Each direction stops at most twice.
        loop {
            let serverbound =
                self.serverbound
                    .poll(cx, &mut self.client, &mut self.backend, &self.counters);
            if let Poll::Ready(stop) = serverbound {
                self.stopped(Direction::Serverbound, stop);
                continue;
            }
            let clientbound =
                self.clientbound
                    .poll(cx, &mut self.backend, &mut self.client, &self.counters);
            if let Poll::Ready(stop) = clientbound {
                self.stopped(Direction::Clientbound, stop);
                continue;
            }
            break;
        }
        if let Some(cause) = self.cause {
            let phases = [self.serverbound.phase(), self.clientbound.phase()];
            if phases == [Phase::Done; 2] {
                return Poll::Ready(self.outcome(cause));
            }
            if !phases.contains(&Phase::Open) {
                self.clock.start_discard();
            }
        }
        let lanes = [&self.serverbound, &self.clientbound];
        let Some(expired) = self.clock.check(cx, lanes, moved_task) else {
            return Poll::Pending;
        };
        let end = match (expired, self.cause) {
            (Expired::Read(direction), _) => End::ReadTimeout(direction),
            (Expired::Write(direction), _) => End::WriteTimeout(direction),
            (Expired::HalfClose, Some(cause)) => match cause.side() {
                Some(side) => End::HalfCloseTimeout(side),
                None => cause,
            },
            (Expired::Discard, Some(cause)) => cause,
            // These two clocks are started only with a cause.
            (Expired::HalfClose | Expired::Discard, None) => End::Stopped,
        };
        Poll::Ready(self.outcome(end))
    }

    /// One direction stopped: what that means for its peers and for the other.
    fn stopped(&mut self, direction: Direction, stop: Stop) {
        let (source, destination) = (direction.source(), direction.destination());
        match stop {
            Stop::EndOfStream => {
                self.cause.get_or_insert(End::Closed(source));
                self.lane(direction).finish();
                self.end_stream_to(destination, false);
            }
            Stop::Read(kind) => {
                self.cause.get_or_insert(failure(source, kind));
                self.lane(direction).finish();
                self.end_stream_to(destination, true);
                // A socket that failed for reading takes nothing more either.
                self.lane(reverse(direction)).discard();
            }
            Stop::Write(kind) => {
                self.cause.get_or_insert(failure(destination, kind));
                // What the receiver sent before it failed is still delivered
                // by the other direction, which then meets its end.
                self.lane(direction).discard();
            }
        }
        self.clock.start_half_close();
    }

    /// Tells a side that nothing more will come. Everything read before was
    /// handed to its socket already.
    ///
    /// `_failed` says that the stream was cut off rather than ended. It is
    /// passed on as an orderly end all the same: closing with a reset throws
    /// away what the kernel has not yet sent, and whether it has all been
    /// acknowledged cannot be asked without `SIOCOUTQ`. Whoever adds that
    /// question resets here when the answer is zero.
    fn end_stream_to(&self, side: Side, _failed: bool) {
        let socket = match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        };
        // It fails only where the connection is gone, which the other direction learns.
        let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Write);
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Serverbound => &mut self.serverbound,
            Direction::Clientbound => &mut self.clientbound,
        }
    }

    fn degraded(&self) -> bool {
        self.serverbound.degraded() || self.clientbound.degraded()
    }

    fn outcome(&self, end: End) -> Outcome {
        Outcome {
            serverbound_bytes: self.serverbound.moved_bytes(),
            clientbound_bytes: self.clientbound.moved_bytes(),
            end,
            degraded: self.degraded(),
        }
    }
}

fn reverse(direction: Direction) -> Direction {
    match direction {
        Direction::Serverbound => Direction::Clientbound,
        Direction::Clientbound => Direction::Serverbound,
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
