//! The promise of `server_only`: the backend authenticates.
//!
//! The first clientbound packets of the login are looked at without taking
//! them from the socket. An Encryption Request keeps the promise; from there on
//! nobody between client and backend can read, and the relay takes over. A
//! backend that lets the player in without one breaks it.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::forward::{Counters, Direction};
use crate::protocol::legacy::{self, LegacyAnswer};
use crate::protocol::login::{self, FirstAnswer};

/// How long a backend may take to answer a login start. A vanilla client gives
/// up after 30 s without an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Packets that may come before the decision: questions of mods and cookies.
const QUESTIONS_MAX: usize = 64;
/// How many bytes decide. An Encryption Request has a server id of at most 20
/// characters, a public key of some 160 to 550 bytes and a token of 4 to 256.
const PEEK_BYTES: usize = 2048;
/// What is moved at a time while questions and answers pass.
const CHUNK_BYTES: usize = 4096;

/// The backend does not authenticate its players.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NotAuthenticated {
    /// It let the player in at once.
    #[error("it let the player in without an Encryption Request")]
    LetIn,
    /// It encrypts, but says that it will not ask the session server.
    #[error("its Encryption Request says that it does not authenticate")]
    OnlyEncrypts,
    /// What it sent is no login packet that could be judged.
    #[error("its answer to the login start is not a login packet: {0}")]
    Unreadable(String),
    /// It asked the client one thing after another and never decided.
    #[error("it asked more than {QUESTIONS_MAX} questions without deciding")]
    Undecided,
    /// It did not answer.
    #[error("it did not answer the login start within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

/// How the guard's watch ended without a broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// The backend authenticates, or ended the login: the relay may begin.
    Good,
    /// The client left.
    ClientLeft,
}

/// Which login packets are spoken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    /// 1.7 and newer.
    Modern(i32),
    /// Up to 1.6: one byte tells.
    Legacy,
}

/// Watches the login until the backend has shown whether it authenticates.
///
/// # Errors
///
/// When it does not, or cannot be judged.
pub(super) async fn watch(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    dialect: Dialect,
    counters: &Counters,
) -> Result<Watched, NotAuthenticated> {
    match timeout(
        ANSWER_TIMEOUT,
        questions(client, backend, dialect, counters),
    )
    .await
    {
        Err(_) => Err(NotAuthenticated::Silent),
        Ok(Ok(watched)) => watched,
        // The socket that failed will tell the relay how.
        Ok(Err(_io)) => Ok(Watched::Good),
    }
}

async fn questions(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    dialect: Dialect,
    counters: &Counters,
) -> io::Result<Result<Watched, NotAuthenticated>> {
    // The standard library can look at bytes without taking them inside the
    // closure that tells tokio what was found; tokio's own `peek` would report
    // the same few bytes again and again until the rest has come.
    let peek: std::net::TcpStream = socket2::SockRef::from(&*backend).try_clone()?.into();
    let mut chunk = [0; CHUNK_BYTES];
    for _ in 0..QUESTIONS_MAX {
        let question_bytes = loop {
            tokio::select! {
                answer = first_answer(backend, &peek, dialect) => match answer? {
                    Seen::Question(bytes) => break bytes,
                    Seen::Verdict(verdict) => return Ok(verdict),
                },
                read = client.read(&mut chunk) => match read? {
                    0 => return Ok(Ok(Watched::ClientLeft)),
                    n => {
                        backend.write_all(&chunk[..n]).await?;
                        counters.add(Direction::Serverbound, n as u64);
                    }
                },
            }
        };
        let mut left = question_bytes;
        while left > 0 {
            let n = backend.read(&mut chunk[..left.min(CHUNK_BYTES)]).await?;
            if n == 0 {
                return Ok(Ok(Watched::Good));
            }
            client.write_all(&chunk[..n]).await?;
            counters.add(Direction::Clientbound, n as u64);
            left -= n;
        }
    }
    Ok(Err(NotAuthenticated::Undecided))
}

/// What the next clientbound packet means.
enum Seen {
    /// A question to the client, of so many bytes, that decides nothing.
    Question(usize),
    /// The decision.
    Verdict(Result<Watched, NotAuthenticated>),
}

/// Looks at the next clientbound packet, and leaves it in the socket. Cancel safe.
async fn first_answer(
    backend: &TcpStream,
    peek: &std::net::TcpStream,
    dialect: Dialect,
) -> io::Result<Seen> {
    let mut bytes = [0; PEEK_BYTES];
    loop {
        backend.readable().await?;
        let seen = backend.try_io(Interest::READABLE, || {
            let n = peek.peek(&mut bytes)?;
            if n == 0 {
                // The end is the relay's to pass on.
                return Ok(Seen::Verdict(Ok(Watched::Good)));
            }
            judge(dialect, &bytes[..n]).ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        match seen {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// What the bytes mean, or `None` if more are needed.
fn judge(dialect: Dialect, bytes: &[u8]) -> Option<Seen> {
    let seen = match dialect {
        Dialect::Modern(protocol) => judge_modern(protocol, bytes),
        Dialect::Legacy => judge_legacy(bytes),
    };
    if seen.is_none() && bytes.len() == PEEK_BYTES {
        return Some(unreadable(format!(
            "it is undecided after {PEEK_BYTES} bytes"
        )));
    }
    seen
}

fn judge_modern(protocol: i32, bytes: &[u8]) -> Option<Seen> {
    let (answer, wire_bytes) = match login::first_answer(protocol, bytes) {
        Ok(answer) => answer?,
        Err(error) => return Some(unreadable(error.to_string())),
    };
    Some(match answer {
        FirstAnswer::EncryptionRequest { authenticates } => encryption(authenticates),
        FirstAnswer::Disconnect => Seen::Verdict(Ok(Watched::Good)),
        FirstAnswer::LoginSuccess | FirstAnswer::SetCompression => {
            Seen::Verdict(Err(NotAuthenticated::LetIn))
        }
        FirstAnswer::PluginRequest | FirstAnswer::CookieRequest => Seen::Question(wire_bytes),
        FirstAnswer::Unknown(id) => unreadable(format!("packet {id:#04x}")),
    })
}

fn judge_legacy(bytes: &[u8]) -> Option<Seen> {
    let answer = match legacy::first_answer(bytes) {
        Ok(answer) => answer?,
        Err(error) => return Some(unreadable(error.to_string())),
    };
    Some(match answer {
        LegacyAnswer::EncryptionRequest { authenticates } => encryption(authenticates),
        LegacyAnswer::Kick => Seen::Verdict(Ok(Watched::Good)),
        LegacyAnswer::LetsIn => Seen::Verdict(Err(NotAuthenticated::LetIn)),
    })
}

fn encryption(authenticates: bool) -> Seen {
    Seen::Verdict(if authenticates {
        Ok(Watched::Good)
    } else {
        Err(NotAuthenticated::OnlyEncrypts)
    })
}

fn unreadable(why: String) -> Seen {
    Seen::Verdict(Err(NotAuthenticated::Unreadable(why)))
}
