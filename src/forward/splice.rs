//! Splicing: socket to pipe to socket, without a byte in user space.
//!
//! A short splice does not prove that the socket is empty, as a short read
//! does: the pipe may have run out of slots (each fragment of the receive
//! queue takes one) long before it is out of bytes. So readiness is cleared
//! only by `EAGAIN`, at the price of one more call after each message, and
//! always after the message was passed on.

use std::io;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::lane::Method;
use super::pipe::{self, Lent, MakePipe};
use super::{CHUNK_BYTES, Forwarder, Outcome, Session, driver};
use crate::config::model::Relay;

/// Never `SPLICE_F_MORE`: it corks, and a message whose follower is not there
/// yet would wait for tens of milliseconds.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// Lets the kernel move the bytes.
///
/// Where no pipe can be had, bytes are copied until one can; see [`pipe`].
#[derive(Debug, Clone, Copy)]
pub struct SpliceForwarder {
    make_pipe: MakePipe,
}

impl SpliceForwarder {
    /// With pipes of the kernel.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_pipes(pipe::make)
    }

    /// With pipes from elsewhere: tests let them run out.
    #[must_use]
    pub const fn with_pipes(make_pipe: MakePipe) -> Self {
        Self { make_pipe }
    }

    pub(super) const fn method(self) -> Method {
        Method::Splice(self.make_pipe)
    }
}

impl Default for SpliceForwarder {
    fn default() -> Self {
        Self::new()
    }
}

impl Forwarder for SpliceForwarder {
    fn relay(&self) -> Relay {
        Relay::Splice
    }

    fn forward(&self, session: Session) -> impl Future<Output = Outcome> + Send {
        driver::run(session, self.method())
    }
}

/// What came of a splice out of a socket.
pub(super) enum Filled {
    /// A pipe with bytes in it.
    Pipe(Lent),
    EndOfStream,
    /// The socket has bytes, and no pipe can be had for them now.
    NoPipe,
    /// This kernel does not splice from this socket.
    Unsupported,
}

/// Takes bytes out of a socket, into a pipe that is borrowed once they are there.
pub(super) fn poll_fill(
    cx: &mut Context<'_>,
    source: &TcpStream,
    make: MakePipe,
) -> Poll<io::Result<Filled>> {
    loop {
        ready!(source.poll_read_ready(cx))?;
        let Some(mut lent) = pipe::borrow(make) else {
            return Poll::Ready(Ok(Filled::NoPipe));
        };
        let spliced = source.try_io(Interest::READABLE, || {
            lent.fill(|into| nix::fcntl::splice(source, None, into, None, CHUNK_BYTES, FLAGS))
                .map_err(io::Error::from)
        });
        match spliced {
            Ok(0) => return Poll::Ready(Ok(Filled::EndOfStream)),
            Ok(_) => return Poll::Ready(Ok(Filled::Pipe(lent))),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ if is_unsupported(&error) => return Poll::Ready(Ok(Filled::Unsupported)),
                _ => return Poll::Ready(Err(error)),
            },
        }
    }
}

/// Passes bytes of a pipe on into a socket; ready with how many it took.
pub(super) fn poll_empty(
    cx: &mut Context<'_>,
    destination: &TcpStream,
    lent: &mut Lent,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(destination.poll_write_ready(cx))?;
        let spliced = destination.try_io(Interest::WRITABLE, || {
            lent.empty(|from, held_bytes| {
                nix::fcntl::splice(from, None, destination, None, held_bytes, FLAGS)
            })
            .map_err(io::Error::from)
        });
        match spliced {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            result => return Poll::Ready(result),
        }
    }
}

/// What splice(2) answers for a descriptor that it cannot splice (`EINVAL`),
/// and kernels or sandboxes without it (`ENOSYS`).
fn is_unsupported(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|raw| matches!(Errno::from_raw(raw), Errno::EINVAL | Errno::ENOSYS))
}
