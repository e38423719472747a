//! Sessions driven by the runtime, in the tasks of their connections: all of
//! them where there is no epoll(7), and on Linux those that are young.

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
use super::framed::{Passages, Remains};
#[cfg(any(test, not(target_os = "linux")))]
use super::lane::Method;
use super::lane::Tools;
use super::{End, Side};
#[cfg(any(test, not(target_os = "linux")))]
use super::{Forwarder, Outcome, Session, keep_alive};

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::new(Tools::new());
}

/// Has the runtime drive sessions.
#[cfg(any(test, not(target_os = "linux")))]
#[derive(Debug, Clone, Copy)]
pub(super) struct PortableForwarder(pub(super) Method);

#[cfg(any(test, not(target_os = "linux")))]
impl Forwarder for PortableForwarder {
    async fn forward(&self, session: Session) -> Outcome {
        let stop = session.stop.clone();
        keep_alive(&session.backend, &session.keepalive);
        let driven = drive(Exchange::new(session, self.0), stop, None).await;
        // It is only given up at a time, and there is none.
        driven.outcome().unwrap_or(Outcome::nothing(End::Stopped))
    }
}

#[cfg(not(target_os = "linux"))]
impl PortableForwarder {
    /// Relays a session whose frames are walked; see
    /// [`Forwarders::forward_framed`](super::Forwarders::forward_framed).
    pub(super) async fn forward_framed(
        self,
        session: Session,
        passages: Passages,
    ) -> (Outcome, Option<Remains<std::net::TcpStream>>) {
        let stop = session.stop.clone();
        keep_alive(&session.backend, &session.keepalive);
        let driven = drive(Exchange::framed(session, passages), stop, None).await;
        let outcome = driven.outcome().unwrap_or(Outcome::nothing(End::Stopped));
        let remains = driven.into_std().ok().and_then(Exchange::into_remains);
        (outcome, remains)
    }
}

/// Drives a session to its end, or gives it up at this time: then it is not over.
pub(super) async fn drive(
    exchange: Exchange<TcpStream>,
    stop: CancellationToken,
    until: Option<Instant>,
) -> Exchange<TcpStream> {
    let mut exchange = Some(exchange);
    let mut timer = None;
    let mut stopped = pin!(stop.cancelled());
    poll_fn(|cx| {
        let Some(mut driven) = exchange.take() else {
            return Poll::Pending;
        };
        if stopped.as_mut().poll(cx).is_ready() {
            driven.stop(End::Stopped);
        }
        loop {
            let moved = TOOLS.with_borrow_mut(|tools| {
                // Not `||`: each socket has its turn.
                Side::BOTH.map(|side| move_once(&mut driven, side, cx, tools)) != [false; 2]
            });
            let given_up = !moved && look(&mut driven, until, &mut timer, cx);
            if given_up || driven.outcome().is_some() {
                return Poll::Ready(driven);
            }
            if !moved {
                exchange = Some(driven);
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Moves what this socket lets move; false when it is not ready.
///
/// The readiness of the runtime's sockets is given out against the budget of
/// the task, so that a busy session lets others run.
fn move_once(
    exchange: &mut Exchange<TcpStream>,
    side: Side,
    cx: &mut Context<'_>,
    tools: &mut Tools,
) -> bool {
    let (wants, socket) = (exchange.wants(side), exchange.socket(side));
    // A failure to be ready is met by the call that follows.
    let ready = Ready {
        readable: wants.read && socket.poll_read_ready(cx).is_ready(),
        writable: wants.write && socket.poll_write_ready(cx).is_ready(),
        failed: false,
    };
    exchange.ready(side, ready, tools);
    ready.readable || ready.writable
}

/// Sees to what is due, and sets the timer for what will be; true when it is
/// time to give the session up.
fn look(
    exchange: &mut Exchange<TcpStream>,
    until: Option<Instant>,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> bool {
    while exchange.outcome().is_none()
        && let Some(at) = exchange.look_at().into_iter().chain(until).min()
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
        exchange.look(Instant::now().max(at));
    }
    false
}
