//! The guard of `server_only`: checks that the backend authenticates.
//!
//! It peeks at the first clientbound packets of the login without taking them
//! from the socket. An Encryption Request proves it; from there on the stream is
//! encrypted, and the relay takes over. A backend that accepts the login without
//! one does not authenticate.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::opening::Dialect;
use crate::forward::{Counters, Direction};
use crate::protocol::legacy::{self, LegacyAnswer};
use crate::protocol::login::{self, FirstAnswer};

/// How long a backend may take to answer a login start. A vanilla client gives
/// up after 30 s without an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Packets that may come before the decision: questions of mods and cookies.
const QUESTIONS_MAX: usize = 64;
/// The most bytes that are read for the decision. An Encryption Request has a server id
/// of at most 20 characters, a public key of some 160 to 550 bytes and a token of
/// 4 to 256.
const PEEK_BYTES: usize = 2048;
/// The size of one copy while questions and answers are forwarded.
const CHUNK_BYTES: usize = 4096;

/// The backend does not authenticate its players.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NotAuthenticated {
    /// It accepted the login at once.
    #[error("it let the player in without an Encryption Request")]
    LetIn,
    /// It encrypts, but says that it will not ask the session server.
    #[error("its Encryption Request says that it does not authenticate")]
    OnlyEncrypts,
    /// What it sent is not a login packet that can be read.
    #[error("its answer to the login start is not a login packet: {0}")]
    Unreadable(String),
    /// It sent the client request after request, and never decided.
    #[error("it asked more than {QUESTIONS_MAX} questions without deciding")]
    Undecided,
}

/// How the guard's watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuardResult {
    /// The backend authenticates, or ended the login: the relay may begin.
    Good,
    /// The client left.
    ClientLeft,
    /// The backend does not authenticate, or that cannot be found out.
    Broken(NotAuthenticated),
}

/// Watches the login until the backend has shown whether it authenticates.
///
/// # Errors
///
/// When nothing can be said about the backend: its connection failed, it did
/// not answer in time, or the proxy has no descriptor left to watch it with.
pub(super) async fn watch(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    dialect: Dialect,
    counters: &Counters,
) -> io::Result<GuardResult> {
    // A peek inside tokio's `try_io` can report `WouldBlock`, so that the runtime waits for
    // more bytes. tokio's own `peek` cannot: it would return the same few bytes again and
    // again.
    let peek: std::net::TcpStream = SockRef::from(&*backend).try_clone()?.into();
    let questions = questions(client, backend, &peek, dialect, counters);
    timeout(ANSWER_TIMEOUT, questions)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

/// The error of a backend that does not answer within [`ANSWER_TIMEOUT`].
pub(super) fn silent() -> io::Error {
    let text = format!("no answer to the login start within {ANSWER_TIMEOUT:?}");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

async fn questions(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    peek: &std::net::TcpStream,
    dialect: Dialect,
    counters: &Counters,
) -> io::Result<GuardResult> {
    let mut chunk = [0; CHUNK_BYTES];
    for _ in 0..QUESTIONS_MAX {
        let question_bytes = loop {
            tokio::select! {
                answer = first_answer(backend, peek, dialect) => match answer? {
                    Peeked::Question(bytes) => break bytes,
                    Peeked::Decided(watched) => return Ok(watched),
                },
                read = client.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => return Ok(GuardResult::ClientLeft),
                    Ok(n) => {
                        if backend.write_all(&chunk[..n]).await.is_err() {
                            // The backend accepts nothing more. The relay passes on
                            // what it has sent before.
                            return Ok(GuardResult::Good);
                        }
                        counters.add(Direction::Serverbound, n as u64);
                    }
                },
            }
        };
        let mut left = question_bytes;
        while left > 0 {
            let n = match backend.read(&mut chunk[..left.min(CHUNK_BYTES)]).await {
                // In the middle of a request the client would not understand a text.
                Ok(0) | Err(_) => return Ok(GuardResult::Good),
                Ok(n) => n,
            };
            if client.write_all(&chunk[..n]).await.is_err() {
                return Ok(GuardResult::ClientLeft);
            }
            counters.add(Direction::Clientbound, n as u64);
            left -= n;
        }
    }
    Ok(GuardResult::Broken(NotAuthenticated::Undecided))
}

/// What the next clientbound packet means.
enum Peeked {
    /// A request to the client, of this many bytes, that decides nothing.
    Question(usize),
    /// The decision.
    Decided(GuardResult),
}

/// Peeks at the next clientbound packet and leaves it in the socket. Cancel safe.
async fn first_answer(
    backend: &TcpStream,
    peek: &std::net::TcpStream,
    dialect: Dialect,
) -> io::Result<Peeked> {
    let mut bytes = [0; PEEK_BYTES];
    loop {
        // Once the peer has ended its stream, the runtime always reports the socket as
        // readable. So ask whether it has ended before peeking: if it has, no bytes can
        // follow those that are seen then.
        let is_last = backend.ready(Interest::READABLE).await?.is_read_closed();
        let seen = backend.try_io(Interest::READABLE, || {
            let n = peek.peek(&mut bytes)?;
            match read_answer(dialect, &bytes[..n]) {
                Some(seen) => Ok(seen),
                // The relay passes on the end, and the part of a packet before it.
                None if n == 0 || is_last => Ok(Peeked::Decided(GuardResult::Good)),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match seen {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// What the bytes mean, or `None` if more are needed.
fn read_answer(dialect: Dialect, bytes: &[u8]) -> Option<Peeked> {
    let seen = match dialect {
        Dialect::Modern(protocol) => read_modern(protocol, bytes),
        Dialect::Legacy => read_legacy(bytes),
    };
    if seen.is_none() && bytes.len() == PEEK_BYTES {
        return Some(unreadable(format!(
            "it is undecided after {PEEK_BYTES} bytes"
        )));
    }
    seen
}

fn read_modern(protocol: i32, bytes: &[u8]) -> Option<Peeked> {
    let (answer, wire_bytes) = match login::first_answer(protocol, bytes) {
        Ok(answer) => answer?,
        Err(error) => return Some(unreadable(error.to_string())),
    };
    Some(match answer {
        FirstAnswer::EncryptionRequest { authenticates } => encryption(authenticates),
        FirstAnswer::Disconnect => Peeked::Decided(GuardResult::Good),
        FirstAnswer::LoginSuccess | FirstAnswer::SetCompression => {
            Peeked::Decided(GuardResult::Broken(NotAuthenticated::LetIn))
        }
        FirstAnswer::PluginRequest | FirstAnswer::CookieRequest => Peeked::Question(wire_bytes),
        FirstAnswer::Unknown(id) => unreadable(format!("packet {id:#04x}")),
    })
}

fn read_legacy(bytes: &[u8]) -> Option<Peeked> {
    let answer = match legacy::first_answer(bytes) {
        Ok(answer) => answer?,
        Err(error) => return Some(unreadable(error.to_string())),
    };
    Some(match answer {
        LegacyAnswer::EncryptionRequest { authenticates } => encryption(authenticates),
        LegacyAnswer::Kick => Peeked::Decided(GuardResult::Good),
        LegacyAnswer::LetsIn => Peeked::Decided(GuardResult::Broken(NotAuthenticated::LetIn)),
    })
}

fn encryption(authenticates: bool) -> Peeked {
    Peeked::Decided(if authenticates {
        GuardResult::Good
    } else {
        GuardResult::Broken(NotAuthenticated::OnlyEncrypts)
    })
}

fn unreadable(why: String) -> Peeked {
    Peeked::Decided(GuardResult::Broken(NotAuthenticated::Unreadable(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn reset(socket: TcpStream) {
        let at_once = Some(Duration::ZERO);
        SockRef::from(&socket).set_linger(at_once).unwrap();
    }

    /// A connection that fails before the decision is not relayed. A socket reports an error
    /// only once, so the relay would take it for an orderly end.
    #[tokio::test]
    async fn a_failed_connection_does_not_authenticate() {
        let (mut client, _player) = connection().await;
        let (mut backend, server) = connection().await;
        let counters = Counters::default();
        reset(server);
        let watched = watch(&mut client, &mut backend, Dialect::Modern(47), &counters).await;
        assert_eq!(watched.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (mut client, player) = connection().await;
        let (mut backend, _server) = connection().await;
        reset(player);
        let watched = watch(&mut client, &mut backend, Dialect::Modern(47), &counters).await;
        assert_eq!(watched.unwrap(), GuardResult::ClientLeft);
    }

    /// A silent backend is reported as failed, and not as one that lets players in.
    #[tokio::test(start_paused = true)]
    async fn a_silent_backend_counts_as_failed() {
        let (mut client, _player) = connection().await;
        let (mut backend, _server) = connection().await;
        let counters = Counters::default();
        let watched = watch(&mut client, &mut backend, Dialect::Modern(47), &counters).await;
        assert_eq!(watched.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
