//! Sessions driven by the runtime, in the tasks of their connections: all
//! sessions where there is no epoll(7), and on Linux new ones.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::exchange::{Exchange, Ready};
#[cfg(not(target_os = "linux"))]
use super::framed::{FrameFilters, ReturnedClient};
use super::lane::Buffers;
#[cfg(any(test, not(target_os = "linux")))]
use super::lane::Method;
use super::outbox::Driver;
use super::{End, Side};
#[cfg(any(test, not(target_os = "linux")))]
use super::{Outcome, Session, keep_alive};

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// Drives sessions in the runtime.
#[cfg(any(test, not(target_os = "linux")))]
#[derive(Debug, Clone, Copy)]
pub(super) struct PortableForwarder(pub(super) Method);

#[cfg(any(test, not(target_os = "linux")))]
impl PortableForwarder {
    /// Relays a session; see [`Forwarders::forward`](super::Forwarders::forward).
    pub(super) async fn forward(self, session: Session, stop: CancellationToken) -> Outcome {
        keep_alive(&session.backend, &session.keepalive);
        let driven = drive(Exchange::new(session, self.0), Some(stop), None).await;
        // Without an `until`, `drive` returns a session only when it is over.
        driven.outcome().unwrap_or(Outcome::nothing(End::Stopped))
    }
}

#[cfg(not(target_os = "linux"))]
impl PortableForwarder {
    /// Relays a framed session; see
    /// [`Forwarders::forward_framed`](super::Forwarders::forward_framed).
    pub(super) async fn forward_framed(
        self,
        session: Session,
        filters: FrameFilters,
    ) -> (Outcome, Option<ReturnedClient<std::net::TcpStream>>) {
        keep_alive(&session.backend, &session.keepalive);
        let driven = drive(Exchange::framed(session, filters), None, None).await;
        let outcome = driven.outcome().unwrap_or(Outcome::nothing(End::Stopped));
        let returned = driven
            .into_std()
            .ok()
            .and_then(Exchange::into_returned_client);
        (outcome, returned)
    }
}

/// Drives a session to its end, or until this time: then it is returned unfinished. Ends it
/// at once if `stop` is cancelled.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice"
)]
pub(super) fn drive(
    mut exchange: Exchange<TcpStream>,
    stop: Option<CancellationToken>,
    until: Option<Instant>,
) -> impl Future<Output = Exchange<TcpStream>> + Send {
    async move {
        let mut timer = None;
        let mut stopped = pin!(stop.as_ref().map(CancellationToken::cancelled));
        poll_fn(|cx| {
            if let Some(stopped) = stopped.as_mut().as_pin_mut()
                && stopped.poll(cx).is_ready()
            {
                exchange.stop(End::Stopped);
            }
            exchange.set_driver(|| Driver::Task(cx.waker().clone()));
            BUFFERS.with_borrow_mut(|buffers| exchange.send_out_all(buffers));
            loop {
                let moved = BUFFERS.with_borrow_mut(|buffers| {
                    // Not `||`, which would skip the second socket.
                    Side::BOTH.map(|side| move_once(&mut exchange, side, cx, buffers)) != [false; 2]
                });
                BUFFERS.with_borrow_mut(Buffers::begin_decisions);
                let given_up = !moved && check_deadlines(&mut exchange, until, &mut timer, cx);
                if given_up || exchange.outcome().is_some() {
                    return Poll::Ready(());
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        })
        .await;
        exchange
    }
}

/// Moves the bytes that this socket is ready for; false when it is not ready.
///
/// Each poll of readiness counts against the runtime's budget of the task, so
/// that a busy session lets others run.
fn move_once(
    exchange: &mut Exchange<TcpStream>,
    side: Side,
    cx: &mut Context<'_>,
    buffers: &mut Buffers,
) -> bool {
    let (wants, socket) = (exchange.wants(side), exchange.socket(side));
    // An error of the poll is reported by the call that follows.
    let ready = Ready {
        readable: wants.read && socket.poll_read_ready(cx).is_ready(),
        writable: wants.write && socket.poll_write_ready(cx).is_ready(),
        failed: false,
    };
    exchange.ready(side, ready, buffers);
    ready.readable || ready.writable
}

/// Handles the deadlines that have passed and sets the timer for the next one;
/// true at `until`, when the session is given up.
fn check_deadlines(
    exchange: &mut Exchange<TcpStream>,
    until: Option<Instant>,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> bool {
    while exchange.outcome().is_none()
        && let Some(at) = exchange.next_deadline().into_iter().chain(until).min()
    {
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
        if timer.deadline() != at.into() {
            timer.as_mut().reset(at.into());
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        if until == Some(at) {
            return true;
        }
        // A paused clock of the runtime may be ahead.
        exchange.check_deadlines(Instant::now().max(at));
    }
    false
}
