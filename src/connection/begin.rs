//! Waits for the first byte of a connected backend. Until then nothing has
//! reached the player, so another backend can replace this one.
//!
//! It waits for readiness only: the bytes of the backend stay in the socket for the relay.
//! Bytes that the client sends during the wait are forwarded in the same way as by the
//! relay, and a copy of them is kept for the next backend, within [`REST_BYTES_MAX`].

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::ending::Ending;
use super::guard::{self, GuardResult};
use super::opening::Dialect;
use crate::close::left_by_peer;
use crate::config::model::{Forwarding, ForwardingMode, Keepalive, Relay};
use crate::forward::{self, Counters, Direction, End, Limits, Outcome};
use crate::socket;
use crate::upstream::answered;
use crate::upstream::rounds::Waiting;

/// The most bytes of a client that are kept before its backend has sent anything. The game
/// sends none then. With more, the relay begins, and the connection stays with that backend.
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
    pub(super) forwarding: &'a Forwarding,
    /// The timeouts of the server.
    pub(super) limits: Limits,
    pub(super) dialect: Dialect,
    pub(super) first: FirstBytes,
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

/// What a backend is sent first.
#[derive(Default)]
pub(super) struct FirstBytes {
    pub(super) bytes: Vec<u8>,
    /// The length of the PROXY header at its beginning, which does not count as relayed.
    pub(super) header_bytes: usize,
}

impl Begin<'_> {
    /// Sends what the client has sent, and waits until the relay may begin.
    ///
    /// Thousands of logins may wait here, when a server has restarted: this holds one
    /// timer and no other future.
    pub(super) async fn run(&mut self, waiting: &Waiting<'_>) -> Result<(), Failed> {
        let (until, keepalive_at) = {
            let connected = Instant::now();
            let until = self.limit().and_then(|limit| connected.checked_add(limit));
            (until, connected + KEEPALIVE_DELAY)
        };
        {
            let (unsent, sent_bytes) = self.send()?;
            if !unsent.is_empty() {
                // Boxed: a new connection takes all of them at once.
                Box::pin(self.send_later(&unsent, until)).await?;
            }
            self.counters.add(Direction::Serverbound, sent_bytes as u64);
        }
        let mut is_kept_alive = false;
        let mut timer = pin!(sleep_until(keepalive_at));
        loop {
            let event = poll_fn(|cx| {
                if self.backend.poll_read_ready(cx).is_ready() {
                    Poll::Ready(Event::Backend)
                } else if self.client.poll_read_ready(cx).is_ready() {
                    Poll::Ready(Event::Client)
                } else if waiting.poll_has_to_hang_up(cx).is_ready() {
                    Poll::Ready(Event::Doubt)
                } else if (!is_kept_alive || until.is_some()) && timer.as_mut().poll(cx).is_ready()
                {
                    Poll::Ready(Event::Timer)
                } else {
                    Poll::Pending
                }
            });
            match event.await {
                Event::Backend => match answered(self.backend) {
                    // A backend often closes because its client has ended.
                    Err(error) if !has_ended(self.client) => return Err(Failed::Dropped(error)),
                    Ok(()) | Err(_) => break,
                },
                Event::Client => {
                    let is_over = socket::is_read_closed(self.client);
                    // The runtime reports the end of reading for ever, so it must not be
                    // waited for again.
                    if is_over || self.rest.len() >= REST_BYTES_MAX {
                        break;
                    }
                    if !self.forward_rest(until).await? {
                        break;
                    }
                }
                Event::Doubt => return Err(Failed::Doubted),
                Event::Timer => {
                    if until.is_some_and(|until| until <= Instant::now()) {
                        return Err(self.silent());
                    }
                    if !is_kept_alive {
                        is_kept_alive = true;
                        forward::keep_alive(self.backend, &self.keepalive);
                    }
                    if let Some(until) = until {
                        timer.as_mut().reset(until);
                    }
                }
            }
        }
        if self.is_guarded() {
            // Boxed so that its buffers do not enlarge the future of the other modes.
            let watch = guard::watch(self.client, self.backend, self.dialect, self.counters);
            return Box::pin(watch).await.map_or_else(
                |error| Err(Failed::Ended(Ending::BackendFailed(error))),
                |watched| match watched {
                    GuardResult::Good => Ok(()),
                    GuardResult::ClientLeft => Err(Failed::Ended(Ending::ClientLeft)),
                    GuardResult::Broken(promise) => {
                        Err(Failed::Ended(Ending::NotAuthenticated(promise)))
                    }
                },
            );
        }
        Ok(())
    }

    fn is_guarded(&self) -> bool {
        self.forwarding.mode == (ForwardingMode::ServerOnly { auth_guard: true })
    }

    /// How long the backend may be silent. The relay limits silence in the same way,
    /// from its own start on.
    fn limit(&self) -> Option<Duration> {
        match (self.limits.read, self.is_guarded()) {
            (Some(read), true) => Some(read.min(guard::ANSWER_TIMEOUT)),
            (None, true) => Some(guard::ANSWER_TIMEOUT),
            (read, false) => read,
        }
    }

    /// The end of a login because the backend was silent for too long.
    fn silent(&self) -> Failed {
        let is_of_relay = |read: Duration| !self.is_guarded() || read <= guard::ANSWER_TIMEOUT;
        Failed::Ended(match self.limits.read {
            Some(read) if is_of_relay(read) => {
                let end = End::ReadTimeout(Direction::Clientbound);
                Ending::Relayed(Outcome::nothing(end))
            }
            _ => Ending::BackendFailed(guard::silent()),
        })
    }

    /// Sends the backend as many of its first bytes as it accepts now. Returns the others,
    /// and the number that counts as relayed once all are sent.
    fn send(&mut self) -> Result<(Vec<u8>, usize), Failed> {
        let FirstBytes {
            mut bytes,
            header_bytes,
        } = std::mem::take(&mut self.first);
        let counted = bytes.len() - header_bytes;
        let sent = match self.backend.try_write(&bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(Failed::Dropped(error)),
        };
        Ok((bytes.split_off(sent), counted))
    }

    /// Sends the bytes that the backend has not accepted at once.
    async fn send_later(&mut self, rest: &[u8], until: Option<Instant>) -> Result<(), Failed> {
        let writing = self.backend.write_all(rest);
        let written = bounded(writing, self.client, self.limits.half_close, until).await;
        written
            .map_err(|why| self.not_taken(why))?
            .map_err(Failed::Dropped)
    }

    /// The end of a login whose backend does not take the bytes of the client.
    fn not_taken(&self, why: NotTaken) -> Failed {
        match why {
            NotTaken::TooSlow => self.silent(),
            NotTaken::ClientLeft => Failed::Ended(Ending::ClientLeft),
        }
    }

    /// Forwards bytes of a client that sends before the backend has answered. Returns false
    /// if the relay has to read what comes next.
    async fn forward_rest(&mut self, until: Option<Instant>) -> Result<bool, Failed> {
        let half_close = self.limits.half_close;
        // Boxed: few clients do that.
        let moved = match self.forwarding.relay {
            Relay::Splice => {
                let moving = forward::splice_and_keep(self.client, self.backend, self.rest);
                Box::pin(bounded(moving, self.client, half_close, until)).await
            }
            Relay::Copy | Relay::Adaptive => {
                let moving = forward::copy_and_keep(self.client, self.backend, self.rest);
                Box::pin(bounded(moving, self.client, half_close, until)).await
            }
        };
        let moved = moved
            .map_err(|why| self.not_taken(why))?
            .map_err(Failed::Dropped)?;
        if let Some(bytes) = moved {
            self.counters.add(Direction::Serverbound, bytes as u64);
        }
        Ok(moved.is_some())
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

/// Why a backend is not waited for any longer that does not take what it is sent.
#[derive(Debug, PartialEq, Eq)]
enum NotTaken {
    TooSlow,
    ClientLeft,
}

/// Waits until a backend has taken bytes of a client, as long as the relay would: until
/// this time, and after the end of the client's stream for `half_close`.
async fn bounded<T>(
    taking: impl Future<Output = T>,
    client: &TcpStream,
    half_close: Duration,
    until: Option<Instant>,
) -> Result<T, NotTaken> {
    let too_slow = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    };
    let left = async {
        left_by_peer(client).await;
        sleep(half_close).await;
    };
    tokio::select! {
        biased;
        taken = taking => Ok(taken),
        () = too_slow => Err(NotTaken::TooSlow),
        () = left => Err(NotTaken::ClientLeft),
    }
}

/// What [`Begin::run`] waits for.
enum Event {
    /// The backend has sent something, or ended the connection.
    Backend,
    /// The client has sent something, or ended the connection.
    Client,
    /// The login has to close the connection to its backend.
    Doubt,
    /// [`KEEPALIVE_DELAY`] is over, or the time of the backend.
    Timer,
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HALF_CLOSE: Duration = Duration::from_secs(60);
    const LONG: Duration = Duration::from_secs(3600);

    /// A backend that does not take what it is sent is waited for until its time is over,
    /// or its client has left and the time of a half-closed connection is over.
    #[tokio::test(start_paused = true)]
    async fn a_backend_that_takes_nothing_is_not_waited_for_without_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (player, accepted) = tokio::join!(connecting, listener.accept());
        let client = accepted.unwrap().0;
        let began = Instant::now();
        let wait = |until| bounded(pending::<()>(), &client, HALF_CLOSE, until);
        assert_eq!(wait(Some(began + LONG)).await, Err(NotTaken::TooSlow));
        // A paused clock would move on while the end is on its way.
        tokio::time::resume();
        drop(player.unwrap());
        left_by_peer(&client).await;
        tokio::time::pause();
        let began = Instant::now();
        let left = tokio::time::timeout(LONG, wait(None)).await;
        assert_eq!(left, Ok(Err(NotTaken::ClientLeft)));
        assert!(began.elapsed() >= HALF_CLOSE);
        let taken = bounded(async { 7 }, &client, HALF_CLOSE, None).await;
        assert_eq!(taken, Ok(7));
    }
}
