//! Options of sockets and limits of the process.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(unix)]
use std::os::fd::AsFd as AsSystem;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsSystem;

use futures_util::FutureExt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Connections that the kernel keeps ready for us to accept. The kernel cuts
/// it to `net.core.somaxconn` (4096 by default, `listen(2)`).
const LISTEN_BACKLOG: i32 = 4096;

/// TCP keepalive, and the `TCP_USER_TIMEOUT` that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, at least one.
    pub time: Duration,
    /// Time between probes; whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered probes before the peer counts as dead; at least one.
    pub retries: u32,
}

impl Keepalive {
    /// How long data may stay unacknowledged before the peer counts as dead.
    #[must_use]
    pub fn user_timeout(&self) -> Duration {
        self.time + self.interval * self.retries
    }
}

/// Whether a listener of an IPv6 address takes IPv4 connections as well. Only
/// `[::]` can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Both, where the system offers that; OpenBSD does not.
    Both,
    /// Only its own, because another listener has the IPv4 side of the port.
    One,
}

impl Families {
    /// Which families the listener of `address` accepts, given all addresses that
    /// the proxy listens on.
    #[must_use]
    pub fn beside(address: SocketAddr, all: &[SocketAddr]) -> Self {
        let has_ipv4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        if all.iter().any(has_ipv4) {
            Families::One
        } else {
            Families::Both
        }
    }
}

/// Whether a listener of `[::]` takes IPv4 connections as well.
pub(crate) fn takes_ipv4_too(listener: &impl AsSystem, address: SocketAddr) -> bool {
    let is_any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    is_any_v6 && SockRef::from(listener).only_v6().is_ok_and(|only| !only)
}

/// Opens a listening socket. It has the options of connections before the first
/// one can wait in its queue.
///
/// # Errors
///
/// Those of `socket(2)`, `setsockopt(2)`, `bind(2)` and `listen(2)`.
pub fn listen(
    address: SocketAddr,
    families: Families,
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
        // Set in both cases, so that `net.ipv6.bindv6only` does not change what
        // an address means.
        let only_v6 = families == Families::One;
        if let Err(error) = socket.set_only_v6(only_v6) {
            if only_v6 {
                return Err(error);
            }
            tracing::warn!(%address, %error, "this system has no listener for IPv4 and IPv6");
        }
    }
    if LISTENER_TUNES_CONNECTIONS {
        tune(&socket, keepalive)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether accepted connections inherit what [`tune`] has set on their listener,
/// so that it need not be called for each of them.
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

/// Whether a socket has the options that [`tune`] sets.
#[cfg(target_os = "linux")]
pub(crate) fn is_tuned(socket: &impl AsSystem, keepalive: &Keepalive) -> bool {
    let socket = SockRef::from(socket);
    let has_all = || -> io::Result<bool> {
        Ok(socket.tcp_nodelay()?
            && socket.keepalive()?
            && socket.tcp_keepalive_time()? == keepalive.time
            && socket.tcp_keepalive_interval()? == keepalive.interval
            && socket.tcp_keepalive_retries()? == keepalive.retries
            && socket.tcp_user_timeout()? == Some(keepalive.user_timeout()))
    };
    has_all().unwrap_or(false)
}

/// Whether a socket has the options that [`tune`] sets: used only where
/// [`LISTENER_TUNES_CONNECTIONS`].
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_tuned(_: &impl AsSystem, _: &Keepalive) -> bool {
    false
}

/// Makes the kernel detect that the peer has vanished.
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

/// Whether the runtime knows that the peer has ended its stream. There may be bytes
/// before the end that nobody has read.
pub(crate) fn is_read_closed(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).now_or_never();
    matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
}

/// Whether a connection waits to be accepted. Used only where
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
    use super::*;

    const KEEPALIVE: Keepalive = Keepalive {
        time: Duration::from_secs(41),
        interval: Duration::from_secs(7),
        retries: 5,
    };

    /// An IPv6 listener does not accept IPv4 if another listener has that port.
    #[test]
    fn families_beside_other_listeners() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let beside = |address: &str, all: &[&str]| {
            let all: Vec<_> = all.iter().map(|other| parse(other)).collect();
            Families::beside(parse(address), &all)
        };
        assert_eq!(beside("[::]:1", &["[::]:1"]), Families::Both);
        assert_eq!(beside("[::]:1", &["0.0.0.0:2", "[::]:1"]), Families::Both);
        assert_eq!(beside("[::]:1", &["0.0.0.0:1", "[::]:1"]), Families::One);
        assert_eq!(beside("[::]:1", &["[::]:1", "127.0.0.1:1"]), Families::One);
    }

    /// `[::]` alone accepts both families. Beside `0.0.0.0` it accepts only IPv6, in either
    /// order.
    #[cfg(target_os = "linux")]
    #[test]
    fn listeners_of_all_addresses() {
        let [v4, v6]: [SocketAddr; 2] = [([0, 0, 0, 0], 0).into(), ([0; 8], 0).into()];
        let open = |address, families| listen(address, families, false, &KEEPALIVE);
        let Ok(both) = open(v6, Families::Both) else {
            // A system without IPv6.
            return;
        };
        let address = both.local_addr().unwrap();
        assert!(takes_ipv4_too(&both, address));
        std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        std::net::TcpStream::connect(("::1", address.port())).unwrap();
        for (first, second) in [(v4, v6), (v6, v4)] {
            // Another process may have the port in the other family.
            let pair = (0..10).find_map(|_| {
                let first = open(first, Families::One).unwrap();
                let port = first.local_addr().unwrap().port();
                let second = open((second.ip(), port).into(), Families::One);
                second.ok().map(|second| (first, second))
            });
            let (first, second) = pair.unwrap();
            for listener in [&first, &second] {
                assert!(!takes_ipv4_too(listener, listener.local_addr().unwrap()));
            }
        }
    }

    /// A connection inherits all options of its listener, on systems where the proxy relies
    /// on it.
    #[test]
    fn connections_inherit_the_options_of_their_listener() {
        let keepalive = KEEPALIVE;
        let address = ([127, 0, 0, 1], 0).into();
        let listener = listen(address, Families::Both, false, &keepalive).unwrap();
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
