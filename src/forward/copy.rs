//! Copying: read into the worker's buffer, write out of it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::lane::{Method, Stop, Took};
use super::{CHUNK_BYTES, Forwarder, Outcome, Session, driver};
use crate::config::model::Relay;

thread_local! {
    /// The worker's buffer. It is taken for one synchronous step and put back,
    /// so no session ever holds it.
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Copies bytes through user space.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyForwarder;

impl Forwarder for CopyForwarder {
    fn relay(&self) -> Relay {
        Relay::Copy
    }

    fn forward(&self, session: Session) -> impl Future<Output = Outcome> + Send {
        driver::run(session, Method::Copy)
    }
}

/// What one step of copying did.
pub(super) struct Got {
    /// What was read, or why the direction stops.
    pub(super) took: Result<Took, Stop>,
    /// What the receiver did not take, in a buffer of its own.
    pub(super) rest: Option<Box<[u8]>>,
    /// What the receiver took, in bytes; true also when `took` is an error.
    pub(super) sent: usize,
}

/// Reads once and writes as much of it as the receiver takes.
pub(super) fn poll_copy(
    cx: &mut Context<'_>,
    source: &mut TcpStream,
    destination: &mut TcpStream,
) -> Poll<Got> {
    with_buffer(|buffer| {
        let mut sent = 0;
        let bytes = match ready!(poll_read(cx, source, buffer)) {
            Ok(0) => {
                return Poll::Ready(Got {
                    took: Ok(Took::Nothing),
                    rest: None,
                    sent,
                });
            }
            Ok(bytes) => bytes,
            Err(error) => {
                return Poll::Ready(Got {
                    took: Err(Stop::Read(error.kind())),
                    rest: None,
                    sent,
                });
            }
        };
        let mut took = Ok(Took::Bytes(bytes));
        let mut rest = buffer.get(..bytes).unwrap_or_default();
        while !rest.is_empty() {
            let error = match Pin::new(&mut *destination).poll_write(cx, rest) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => io::ErrorKind::WriteZero,
                Poll::Ready(Ok(written)) => {
                    sent += written;
                    rest = rest.get(written..).unwrap_or_default();
                    continue;
                }
                Poll::Ready(Err(error)) => error.kind(),
            };
            took = Err(Stop::Write(error));
            rest = &[];
        }
        Poll::Ready(Got {
            took,
            rest: (!rest.is_empty()).then(|| rest.into()),
            sent,
        })
    })
}

/// Reads once and forgets what came.
pub(super) fn poll_drop(cx: &mut Context<'_>, source: &mut TcpStream) -> Poll<Result<Took, Stop>> {
    with_buffer(|buffer| {
        poll_read(cx, source, buffer).map(|read| match read {
            Ok(0) => Ok(Took::Nothing),
            Ok(bytes) => Ok(Took::Bytes(bytes)),
            Err(error) => Err(Stop::Read(error.kind())),
        })
    })
}

/// The runtime's own read: after a short one it takes the socket for empty,
/// which saves the call that would only meet `EAGAIN`.
fn poll_read(
    cx: &mut Context<'_>,
    source: &mut TcpStream,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(source).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

fn with_buffer<T>(step: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER
        .take()
        .unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice());
    let result = step(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
