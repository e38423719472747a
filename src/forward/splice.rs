//! Splicing: socket to pipe to socket, without a byte in user space.

use std::io;

use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;

use super::pipe::{PIPE_BYTES, Pipe};
use super::socket::Socket;

/// Never `SPLICE_F_MORE`: it corks, and a message whose follower is not there
/// yet would wait for tens of milliseconds.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// Takes bytes out of a socket into an empty pipe.
pub(super) fn fill(source: &impl Socket, pipe: &Pipe) -> io::Result<usize> {
    source.taking(|source| {
        nix::fcntl::splice(source, None, &pipe.write, None, PIPE_BYTES, FLAGS)
            .map_err(io::Error::from)
    })
}

/// Passes the bytes of a pipe on into a socket.
pub(super) fn empty(pipe: &Pipe, bytes: usize, destination: &impl Socket) -> io::Result<usize> {
    destination.giving(|destination| {
        nix::fcntl::splice(&pipe.read, None, destination, None, bytes, FLAGS)
            .map_err(io::Error::from)
    })
}

/// What splice(2) answers for a descriptor that it cannot splice (`EINVAL`),
/// and kernels or sandboxes without it (`ENOSYS`).
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|raw| matches!(Errno::from_raw(raw), Errno::EINVAL | Errno::ENOSYS))
}
