//! Waits for the first byte of a connected backend. Until then nothing has
//! reached the player, so another backend can replace this one.
//!
//! It waits for readiness only: what the backend sends stays in the socket for
//! the relay. What the client sends meanwhile is forwarded in the same way as by
//! the relay, and a copy is kept for the next backend, within [`REST_BYTES_MAX`].

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::ending::Ending;
use super::guard::{self, Watched};
use super::sender::Sender;
use crate::config::model::{
    BackendAddress, Forwarding, ForwardingMode, Keepalive, Relay, ServerConfig,
};
use crate::forward::{self, Counters, Direction, End, Outcome};
use crate::upstream::first_byte;
use crate::upstream::rounds::Waiting;

/// The most bytes that are kept of a client that sends before its backend has
/// sent anything; the game does not. With more the relay begins, and the
/// connection stays with that backend.
const REST_BYTES_MAX: usize = 16 * 1024;

/// How long a backend may be silent before keepalive is set on its connection. Most
/// answer before that, which saves five system calls.
const KEEPALIVE_DELAY: Duration = Duration::from_millis(200);

/// A client and a backend that has just been connected to.
pub(super) struct Begin<'a> {
    pub(super) client: &'a mut TcpStream,
    /// The bytes that the client has sent after its first packets.
    pub(super) rest: &'a mut BytesMut,
    pub(super) backend: &'a mut TcpStream,
    pub(super) counters: &'a Counters,
    pub(super) keepalive: Keepalive,
}

/// Why the relay does not begin.
pub(super) enum Failed {
    /// The backend ended the connection before it sent anything.
    Dropped(io::Error),
    /// The connection may lead back to the proxy; closing it will show whether it does.
    Doubted,
    /// The login is over.
    Ended(Ending),
}

impl Begin<'_> {
    /// Sends what the client has sent, and waits until the relay may begin.
    pub(super) async fn run(
        &mut self,
        sender: &Sender,
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
        waiting: &Waiting<'_>,
    ) -> Result<(), Failed> {
        let replay = sender.replay(self.client, self.rest, config, forwarding, address);
        let (header_bytes, replay) =
            replay.map_err(|error| Failed::Ended(Ending::Broken(error.into())))?;
        let is_guarded = forwarding.mode == (ForwardingMode::ServerOnly { auth_guard: true });
        let answered = async {
            self.backend
                .write_all(&replay)
                .await
                .map_err(Failed::Dropped)?;
            let sent_bytes = replay.len() - header_bytes;
            self.counters.add(Direction::Serverbound, sent_bytes as u64);
            tokio::select! {
                biased;
                answered = self.answered(forwarding.relay) => answered,
                () = waiting.has_to_hang_up() => Err(Failed::Doubted),
            }
        };
        // The relay limits silence in the same way, from its own start on.
        let (limit, silent) = match (config.timeouts.session.read, is_guarded) {
            (Some(read), true) if read > guard::ANSWER_TIMEOUT => {
                (Some(guard::ANSWER_TIMEOUT), true)
            }
            (None, true) => (Some(guard::ANSWER_TIMEOUT), true),
            (read, _) => (read, false),
        };
        match within(limit, pin!(answered)).await {
            Some(answered) => answered?,
            None if silent => return Err(Failed::Ended(Ending::BackendFailed(guard::silent()))),
            None => {
                let end = End::ReadTimeout(Direction::Clientbound);
                return Err(Failed::Ended(Ending::Relayed(Outcome::nothing(end))));
            }
        }
        if is_guarded {
            // Boxed so that its buffers do not enlarge the future of the other modes.
            let dialect = sender.opening.dialect();
            let watch = guard::watch(self.client, self.backend, dialect, self.counters);
            return Box::pin(watch).await.map_or_else(
                |error| Err(Failed::Ended(Ending::BackendFailed(error))),
                |watched| match watched {
                    Watched::Good => Ok(()),
                    Watched::ClientLeft => Err(Failed::Ended(Ending::ClientLeft)),
                    Watched::Broken(promise) => {
                        Err(Failed::Ended(Ending::NotAuthenticated(promise)))
                    }
                },
            );
        }
        Ok(())
    }

    /// Completes when the backend has sent a byte, or when the client has ended
    /// or sent too much, which the relay handles.
    async fn answered(&mut self, relay: Relay) -> Result<(), Failed> {
        let mut is_kept_alive = false;
        let mut delay = pin!(sleep(KEEPALIVE_DELAY));
        loop {
            let event = poll_fn(|cx| {
                if self.backend.poll_read_ready(cx).is_ready() {
                    Poll::Ready(Event::Backend)
                } else if self.client.poll_read_ready(cx).is_ready() {
                    Poll::Ready(Event::Client)
                } else if !is_kept_alive && delay.as_mut().poll(cx).is_ready() {
                    Poll::Ready(Event::Delay)
                } else {
                    Poll::Pending
                }
            });
            match event.await {
                Event::Backend => match first_byte(self.backend).await {
                    // The backend may only have followed its client.
                    Err(_) if has_ended(self.client) => return Ok(()),
                    answered => return answered.map_err(Failed::Dropped),
                },
                Event::Delay => {
                    is_kept_alive = true;
                    forward::keep_alive(self.backend, &self.keepalive);
                    continue;
                }
                Event::Client => {}
            }
            let ready = self.client.ready(Interest::READABLE).await;
            // The runtime keeps reporting that the stream has ended, so waiting again
            // would spin.
            let is_over = ready.is_ok_and(|ready| ready.is_read_closed());
            if is_over || self.rest.len() >= REST_BYTES_MAX {
                return Ok(());
            }
            // Boxed: few clients send before they are answered.
            let moved = match relay {
                Relay::Splice => {
                    let moving = forward::splice_and_keep(self.client, self.backend, self.rest);
                    Box::pin(moving).await
                }
                Relay::Copy | Relay::Adaptive => {
                    let moving = forward::copy_and_keep(self.client, self.backend, self.rest);
                    Box::pin(moving).await
                }
            };
            match moved.map_err(Failed::Dropped)? {
                Some(bytes) => self.counters.add(Direction::Serverbound, bytes as u64),
                None => return Ok(()),
            }
        }
    }
}

/// Whether a client has ended its side, or lost its connection. This asks the
/// system, since the runtime may not know it yet.
fn has_ended(client: &TcpStream) -> bool {
    match SockRef::from(client).peek(&mut [MaybeUninit::uninit()]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// What [`Begin::answered`] waits for.
enum Event {
    /// The backend has sent something, or ended the connection.
    Backend,
    /// The client has.
    Client,
    /// [`KEEPALIVE_DELAY`] is over.
    Delay,
}

/// Runs a future within a limit, if there is one; `None` when it has passed. The
/// future is pinned by the caller, since each call here would otherwise hold a
/// copy.
async fn within<F: Future>(limit: Option<Duration>, future: Pin<&mut F>) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}
