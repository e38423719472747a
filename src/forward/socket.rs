//! A connected socket that does not block, under either driver.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
#[cfg(unix)]
use std::os::fd::AsFd as AsSystem;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsSystem;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;

use crate::socket::is_read_closed;

/// A connected socket that does not block, and how its driver learns that a
/// call would have blocked.
pub(super) trait Socket: AsSystem + Sized {
    /// Runs a call that takes bytes from this socket.
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T>;

    /// Runs a call that gives bytes to this socket.
    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T>;

    /// Whether the next byte is one that TCP marks as urgent. splice(2) never
    /// moves past such a byte: it reports no data, or the end of the stream,
    /// although there is more. `at_end` says that it reported the end.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, at_end: bool) -> bool;

    /// What a read returns where the driver knows that the peer has ended its stream,
    /// and nothing is left to read: zero or an error. splice(2) would leave open whether
    /// bytes come behind an urgent one.
    fn end(&self) -> Option<io::Result<usize>> {
        None
    }

    /// Reads into a buffer; zero is the end of the stream.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read_io(|socket| (&*SockRef::from(socket)).read(buffer))
    }
}

/// A level-triggered poll needs no notice of `EAGAIN`.
impl Socket for std::net::TcpStream {
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        call(self)
    }

    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        call(self)
    }

    /// Only called when epoll reported a socket as readable and it was not.
    /// Without this check epoll would report it again and again, and the worker
    /// would spin.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, _at_end: bool) -> bool {
        has_urgent_byte(self)
    }
}

/// The runtime needs to see `EAGAIN`, or it considers the socket ready for ever.
impl Socket for tokio::net::TcpStream {
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, || call(self))
    }

    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::WRITABLE, || call(self))
    }

    /// Only checked at an end of the stream, which would end the session. An
    /// empty socket is normal here after each message and does not make the
    /// task spin: bytes behind an urgent one wait until a worker drives the session.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, at_end: bool) -> bool {
        at_end && has_urgent_byte(self)
    }

    fn end(&self) -> Option<io::Result<usize>> {
        if !is_read_closed(self) {
            return None;
        }
        match SockRef::from(self).peek(&mut [MaybeUninit::uninit()]) {
            Ok(1..) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            end => Some(end),
        }
    }

    /// A short read proves that nothing more is there: this reports it to the
    /// runtime at once, which saves a read that would only return `EAGAIN`. The
    /// runtime's own reads do the same.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut short = None;
        let read = self.try_read_io(|socket| {
            let bytes = (&*SockRef::from(socket)).read(buffer)?;
            if (1..buffer.len()).contains(&bytes) {
                short = Some(bytes);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(bytes)
        });
        short.map_or(read, Ok)
    }
}

/// Whether a byte that TCP marks as urgent waits to be read or skipped.
#[cfg(target_os = "linux")]
fn has_urgent_byte(socket: &impl std::os::fd::AsRawFd) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    let flags = MsgFlags::MSG_OOB | MsgFlags::MSG_PEEK;
    recv(socket.as_raw_fd(), &mut [0], flags).is_ok()
}

/// Writes as many of `bytes` as the socket accepts.
pub(super) fn write(socket: &impl Socket, bytes: &[u8]) -> io::Result<usize> {
    socket.try_write_io(|socket| (&*SockRef::from(socket)).write(bytes))
}

/// Ends the stream to the peer.
pub(super) fn end_stream(socket: &impl Socket) {
    // It fails only where the connection is gone, which the next read reports.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

/// Makes the following close send a reset.
pub(super) fn reset_on_close(socket: &impl Socket) {
    // If the option cannot be set, the socket is closed in order.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Whether the peer's system has acknowledged everything that it was sent;
/// `None` where the system does not report it.
#[cfg(target_os = "linux")]
pub(super) fn is_acknowledged(socket: &impl Socket) -> Option<bool> {
    use nix::sys::socket::getsockopt;
    use nix::{getsockopt_impl, libc, sockopt_impl};

    /// `SK_MEMINFO_WMEM_QUEUED` of `linux/sock_diag.h`: what lies in the
    /// queues for sending and for sending again, in bytes.
    const QUEUED: usize = 5;
    /// `SK_MEMINFO_VARS` of the same file, since Linux 4.12.
    const VARIABLES: usize = 9;
    sockopt_impl!(
        /// The memory of a socket, by use.
        MemInfo, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, [u32; VARIABLES]
    );
    let info = getsockopt(&socket, MemInfo).ok()?;
    Some(info[QUEUED] == 0)
}

/// Whether the peer's system has acknowledged everything that it was sent;
/// `None` where the system does not report it.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_acknowledged(_: &impl Socket) -> Option<bool> {
    None
}
