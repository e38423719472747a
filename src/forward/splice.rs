//! Splicing: socket to pipe to socket, without a byte in user space.

use std::io;

use nix::errno::Errno;
use nix::fcntl::SpliceFFlags;

use super::pipe::{PIPE_BYTES, Pipe};
use super::socket::Socket;

/// Never `SPLICE_F_MORE`: it corks, so the last message of a burst would wait
/// for tens of milliseconds.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// Moves bytes from a socket into an empty pipe.
pub(super) fn fill(source: &impl Socket, pipe: &Pipe) -> io::Result<usize> {
    fill_at_most(source, pipe, PIPE_BYTES)
}

/// Moves at most this many bytes from a socket into an empty pipe.
///
/// Each slot of a pipe takes a byte at least. So with fewer bytes than slots, no slot was
/// missing: nothing more was there. This reports that to the driver at once, which saves
/// a call that would only return `EAGAIN`.
pub(super) fn fill_at_most(
    source: &impl Socket,
    pipe: &Pipe,
    bytes_max: usize,
) -> io::Result<usize> {
    let mut short = None;
    let filled = source.try_read_io(|source| {
        let bytes = nix::fcntl::splice(source, None, &pipe.write, None, bytes_max, FLAGS)?;
        if (1..pipe.slots.min(bytes_max)).contains(&bytes) {
            short = Some(bytes);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(bytes)
    });
    short.map_or(filled, Ok)
}

/// Moves the bytes of a pipe into a socket.
pub(super) fn empty(pipe: &Pipe, bytes: usize, destination: &impl Socket) -> io::Result<usize> {
    destination.try_write_io(|destination| {
        nix::fcntl::splice(&pipe.read, None, destination, None, bytes, FLAGS)
            .map_err(io::Error::from)
    })
}

/// Whether `error` of [`fill`] or [`empty`] means that the bytes have to be
/// copied: splice(2) cannot splice this descriptor (`EINVAL`), the kernel does
/// not have it (`ENOSYS`), or a sandbox forbids it.
///
/// Sandboxes choose the error themselves (`EPERM`, `EACCES` and others), and
/// sockets return some of the same. `pipe` distinguishes them: a kernel that runs the
/// call refuses to splice a pipe into itself with `EINVAL`, and moves nothing.
pub(super) fn is_refused(error: &io::Error, pipe: &Pipe) -> bool {
    let Some(raw) = error.raw_os_error() else {
        return false;
    };
    match Errno::from_raw(raw) {
        Errno::EINVAL | Errno::ENOSYS => true,
        Errno::EAGAIN | Errno::EINTR => false,
        _ => {
            nix::fcntl::splice(&pipe.read, None, &pipe.write, None, 1, FLAGS) != Err(Errno::EINVAL)
        }
    }
}

/// Reads the bytes of a pipe into memory, where they cannot be spliced further.
pub(super) fn drain(pipe: &Pipe, bytes: usize) -> io::Result<Box<[u8]>> {
    let mut drained = vec![0; bytes];
    let mut read = 0;
    while let Some(rest) = drained.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match nix::unistd::read(&pipe.read, rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(drained.into_boxed_slice())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::pipe;
    use super::*;

    fn error(errno: Errno) -> io::Error {
        errno.into()
    }

    /// An error that sockets also return means a refusal only where the system
    /// does not run the call at all: then splicing a pipe into itself does not
    /// return `EINVAL` either.
    #[test]
    fn a_sandbox_is_distinguished_from_a_socket() {
        let allowed = pipe::make().unwrap();
        // The ends of two different pipes, so that the call does not return `EINVAL`.
        let other = pipe::make().unwrap();
        let forbidden = Pipe::new(pipe::make().unwrap().read, other.write, 0);
        for errno in [Errno::EPERM, Errno::EACCES, Errno::ECONNRESET, Errno::EPIPE] {
            assert!(!is_refused(&error(errno), &allowed), "{errno}");
            assert!(is_refused(&error(errno), &forbidden), "{errno}");
        }
        for pipe in [&allowed, &forbidden] {
            assert!(is_refused(&error(Errno::ENOSYS), pipe));
            assert!(is_refused(&error(Errno::EINVAL), pipe));
            assert!(!is_refused(&error(Errno::EAGAIN), pipe));
            assert!(!is_refused(&io::ErrorKind::WriteZero.into(), pipe));
        }
    }
}
