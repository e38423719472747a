//! Options of sockets and limits of the process.

use std::io;
use std::net::SocketAddr;

#[cfg(unix)]
use std::os::fd::AsFd as AsSystem;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsSystem;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::model::Keepalive;

/// Connections that the kernel keeps ready for us to accept. The kernel cuts
/// it to `net.core.somaxconn` (4096 by default, `listen(2)`).
const LISTEN_BACKLOG: i32 = 4096;

/// Opens a listening socket. It has the options of connections before the first
/// one can wait in its queue.
///
/// # Errors
///
/// Those of `socket(2)`, `setsockopt(2)`, `bind(2)` and `listen(2)`.
pub fn listen(
    address: SocketAddr,
    reuse_port: bool,
    keepalive: &Keepalive,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted proxy must not wait for connections in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = reuse_port;
    if address.is_ipv6() {
        // `[::]` serves IPv6 alone, so that `bind = ["0.0.0.0:…", "[::]:…"]`
        // means the same on every system, whatever `net.ipv6.bindv6only` says.
        socket.set_only_v6(true)?;
    }
    if LISTENER_TUNES_CONNECTIONS {
        tune(&socket, keepalive)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether accepted connections have what [`tune`] has set on their listener,
/// so that nothing is left to be set on each of them.
pub(crate) const LISTENER_TUNES_CONNECTIONS: bool = cfg!(target_os = "linux");

/// Sets the options that every connection of a player has: no delay for small
/// packets, and keepalive so that a vanished peer is found.
///
/// # Errors
///
/// When the peer has already reset the connection (some systems then refuse
/// to set options).
pub fn tune(socket: &impl AsSystem, keepalive: &Keepalive) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)?;
    keep_alive(socket, keepalive)
}

/// Has the kernel find out when the peer vanishes.
///
/// # Errors
///
/// As [`tune`].
pub fn keep_alive(socket: &impl AsSystem, keepalive: &Keepalive) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries),
    )?;
    // Keepalive probes are only sent while nothing is unacknowledged; this is
    // the bound for the other case (tcp(7)).
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(keepalive.user_timeout()))?;
    Ok(())
}

/// Whether a connection waits to be accepted. Asked only where
/// [`LISTENER_TUNES_CONNECTIONS`].
pub(crate) fn has_waiting_connection(listener: &impl AsSystem) -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO) != Ok(0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = listener;
        false
    }
}

/// Raises the soft limit of open files to the hard one and returns it, or
/// `None` where there is no such limit to read.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
            return Some(hard);
        }
        Some(soft)
    }
    #[cfg(not(unix))]
    None
}

/// Whether an error of `accept(2)` is about the one connection that waited and
/// not about the listener or the process: it ended meanwhile, its network has an
/// error that Linux reports here, or a firewall forbids it.
#[must_use]
pub fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A connection has all options of its listener, where we count on it.
    #[test]
    fn connections_inherit_the_options_of_their_listener() {
        let keepalive = Keepalive {
            time: Duration::from_secs(41),
            interval: Duration::from_secs(7),
            retries: 5,
        };
        let listener = listen(([127, 0, 0, 1], 0).into(), false, &keepalive).unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        if !LISTENER_TUNES_CONNECTIONS {
            return;
        }
        let [inherited, fresh] = [&accepted, &client].map(SockRef::from);
        assert!(inherited.tcp_nodelay().unwrap() && inherited.keepalive().unwrap());
        assert!(!fresh.tcp_nodelay().unwrap(), "it would prove nothing");
        #[cfg(target_os = "linux")]
        {
            assert_eq!(inherited.tcp_keepalive_time().unwrap(), keepalive.time);
            assert_eq!(
                inherited.tcp_keepalive_interval().unwrap(),
                keepalive.interval
            );
            assert_eq!(
                inherited.tcp_keepalive_retries().unwrap(),
                keepalive.retries
            );
            assert_eq!(
                inherited.tcp_user_timeout().unwrap(),
                Some(keepalive.user_timeout())
            );
        }
    }
}
