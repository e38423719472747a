//! A connected socket that does not block, under either driver.

use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(unix)]
use std::os::fd::AsFd as AsSystem;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsSystem;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;

/// A connected socket that does not block, and the way in which its driver
/// hears that a call would have.
pub(super) trait Socket: AsSystem + Sized {
    /// Runs a call that takes bytes from this socket.
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T>;

    /// Runs a call that gives bytes to this socket.
    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T>;

    /// Whether a byte that TCP marks as urgent is what comes next. splice(2)
    /// never gets past one: it finds nothing, or an end, where there is more.
    /// `at_end` says that it found an end.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, at_end: bool) -> bool;

    /// Reads into a buffer; zero is the end of the stream.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read_io(|socket| (&*SockRef::from(socket)).read(buffer))
    }
}

/// Under a level-triggered poll nobody needs to hear.
impl Socket for std::net::TcpStream {
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        call(self)
    }

    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        call(self)
    }

    /// Asked only when a socket that was told to be readable was not. Otherwise
    /// it would be told of again and again, and a worker spin.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, _at_end: bool) -> bool {
        has_urgent_byte(self)
    }
}

/// The runtime has to hear, or it takes the socket for ready for ever.
impl Socket for tokio::net::TcpStream {
    fn try_read_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, || call(self))
    }

    fn try_write_io<T>(&self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::WRITABLE, || call(self))
    }

    /// Asked only at an end, after which the session would be over. An empty
    /// socket is met after each message here: nobody spins, and what is behind
    /// such a byte waits until a worker has the session.
    #[cfg(target_os = "linux")]
    fn is_at_urgent_byte(&self, at_end: bool) -> bool {
        at_end && has_urgent_byte(self)
    }

    /// A short read proves that nothing more is there: the runtime is told so
    /// at once, which saves the call that would only meet `EAGAIN`. It does the
    /// same in its own reads.
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

/// Whether a byte that TCP marks as urgent waits to be read or passed over.
#[cfg(target_os = "linux")]
fn has_urgent_byte(socket: &impl std::os::fd::AsRawFd) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    let look = MsgFlags::MSG_OOB | MsgFlags::MSG_PEEK;
    recv(socket.as_raw_fd(), &mut [0], look).is_ok()
}

/// Writes what the socket takes of `bytes`.
pub(super) fn write(socket: &impl Socket, bytes: &[u8]) -> io::Result<usize> {
    socket.try_write_io(|socket| (&*SockRef::from(socket)).write(bytes))
}

/// Tells the peer that nothing more will come.
pub(super) fn end_stream(socket: &impl Socket) {
    // It fails only where the connection is gone, which reading from it tells.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

/// Makes the close that follows a reset.
pub(super) fn reset_on_close(socket: &impl Socket) {
    // A socket that refuses is closed in order.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Whether the peer's system has acknowledged everything that it was sent;
/// `None` where the system does not tell.
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
/// `None` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_acknowledged(_: &impl Socket) -> Option<bool> {
    None
}
