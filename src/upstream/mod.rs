//! Connects to a backend: resolves its name, connects to the first address that
//! answers and is not the proxy itself, and sets the socket up.
//!
//! - `address` has the configured address of a backend;
//! - `system` reads how this system resolves names;
//! - `dns` asks name servers;
//! - `resolve` decides what to ask, how long an answer is used, and what to dial next;
//! - `race` runs attempts concurrently, with a head start for the first;
//! - `rounds` recognizes logins that come back to the proxy through others.

mod address;
mod dns;
mod race;
mod resolve;
pub(crate) mod rounds;
mod system;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::stream;
use socket2::SockRef;
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

pub use self::address::{BackendAddress, BackendHost};
use self::dns::Failure;
use self::race::race;
use self::resolve::{Candidates, Names};
use self::rounds::Rounds;
use self::system::Files;
use crate::socket;

/// Head start of one IP address of a name before the next is tried concurrently
/// (RFC 8305, section 5: 250 ms recommended).
const NEXT_IP_DELAY: Duration = Duration::from_millis(250);
/// Head start of one configured address before the next is tried concurrently.
/// Longer than a retransmitted SYN takes (1 s, RFC 6298), since the next address
/// may be another game world: one lost packet must not send a player there.
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(1500);
/// The number of backends that may accept a connection of one client and end it
/// without a byte, before the proxy gives up.
pub(crate) const DROPPED_MAX: usize = 8;

/// Connects to backends. There is one for the proxy.
#[derive(Debug)]
pub(crate) struct Upstream {
    names: Names,
    /// The addresses at which the proxy listens; unset until they are known.
    own: OnceLock<Vec<SocketAddr>>,
    /// The logins that wait for the first byte of their backends.
    pub(crate) rounds: Rounds,
}

/// A connection to a backend.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The connection, with `TCP_NODELAY`. Keepalive is set later, only on connections
    /// that last.
    pub stream: TcpStream,
    /// The configured address.
    pub address: BackendAddress,
    /// The IP address and port that was dialled.
    pub dialled: SocketAddr,
}

/// A backend that accepted a connection and ended it before it sent anything.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// The IP address and port that was dialled.
    pub dialled: SocketAddr,
    /// How it ended.
    pub error: io::Error,
}

/// No backend could be reached.
#[derive(Debug, Error)]
#[error("no backend answered: {}", tries(.attempts))]
pub(crate) struct Unreachable {
    /// The addresses that were tried, and their errors.
    pub attempts: Vec<(BackendAddress, io::Error)>,
}

fn tries(attempts: &[(BackendAddress, io::Error)]) -> String {
    if attempts.is_empty() {
        return "none of its containers can be used".to_owned();
    }
    let tries: Vec<_> = attempts
        .iter()
        .map(|(address, error)| format!("{address} ({error})"))
        .collect();
    tries.join(", ")
}

impl Upstream {
    /// Resolves names as the system does.
    #[must_use]
    pub(crate) fn from_system() -> Self {
        Self::with_files(Files::of_system())
    }

    /// Resolves names with this hosts file alone.
    #[cfg(test)]
    pub(crate) fn with_hosts(hosts: &std::path::Path) -> Self {
        Self::with_files(Files {
            hosts: hosts.to_owned(),
            ..Files::of_system()
        })
    }

    fn with_files(files: Files) -> Self {
        Self {
            names: Names::new(files),
            own: OnceLock::new(),
            rounds: Rounds::default(),
        }
    }

    /// Sets the addresses at which the proxy listens. To be called once.
    pub(crate) fn listens_at(&self, own: Vec<SocketAddr>) {
        let is_first = self.own.set(own).is_ok();
        debug_assert!(is_first, "the proxy begins to listen once");
    }

    /// Forgets what names have been resolved to.
    pub(crate) fn forget_names(&self) {
        self.names.forget();
    }

    /// Connects to the first of `addresses` that answers.
    ///
    /// The addresses are tried in their order. If one fails, the next is tried at once;
    /// if one is silent, the next is tried concurrently after a delay. Each TCP connect
    /// and each look-up of a name takes at most `bound`. Dropping the future cancels all
    /// attempts.
    ///
    /// Addresses that have `dropped` a connection before are not tried.
    ///
    /// # Errors
    ///
    /// When all of them have failed.
    pub(crate) async fn connect(
        &self,
        addresses: &[BackendAddress],
        bound: Duration,
        dropped: &[Dropped],
    ) -> Result<Connected, Unreachable> {
        if let [address] = addresses {
            // The usual case needs no race.
            let attempt = self.attempt(address, bound, dropped).await;
            return attempt.map_err(|failed| Unreachable {
                attempts: vec![failed],
            });
        }
        // Futures that have not been polled cost only their memory.
        let mut attempts = Vec::with_capacity(addresses.len());
        for address in addresses {
            attempts.push(self.attempt(address, bound, dropped));
        }
        race(stream::iter(attempts), NEXT_ADDRESS_DELAY)
            .await
            .map_err(|attempts| Unreachable { attempts })
    }

    /// Connects to one configured address and sets the socket up.
    async fn attempt(
        &self,
        address: &BackendAddress,
        bound: Duration,
        dropped: &[Dropped],
    ) -> Result<Connected, (BackendAddress, io::Error)> {
        let connected = self
            .connect_address(address, bound, dropped)
            .await
            .and_then(|(stream, dialled)| {
                stream.set_nodelay(true)?;
                Ok(Connected {
                    stream,
                    address: address.clone(),
                    dialled,
                })
            });
        connected.map_err(|error| (address.clone(), error))
    }

    /// Connects to one configured address: to the first IP address of its name that
    /// answers.
    async fn connect_address(
        &self,
        address: &BackendAddress,
        bound: Duration,
        dropped: &[Dropped],
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let name = match &address.host {
            BackendHost::Ip(ip) => {
                let address = (*ip, address.port).into();
                return self.connect_ip(address, bound, dropped).await;
            }
            BackendHost::Name(name) => name,
        };
        let deadline = Instant::now() + bound;
        let candidates = self
            .names
            .candidates(name, address.port, address.follows_srv, deadline)
            .await;
        let attempts = stream::unfold(candidates, |mut candidates: Candidates<'_>| async move {
            let attempt = match candidates.next().await? {
                Ok(address) => Either::Left(self.connect_ip(address, bound, dropped)),
                Err(failure) => Either::Right(std::future::ready(Err(not_resolved(&failure)))),
            };
            Some((attempt, candidates))
        });
        race(attempts, NEXT_IP_DELAY).await.map_err(|errors| {
            errors
                .into_iter()
                .next_back()
                .unwrap_or_else(|| not_resolved(&Failure::NoRecords))
        })
    }

    async fn connect_ip(
        &self,
        address: SocketAddr,
        bound: Duration,
        dropped: &[Dropped],
    ) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(before) = dropped.iter().find(|before| before.dialled == address) {
            let error = before.error.to_string();
            return Err(io::Error::new(before.error.kind(), error));
        }
        let stream = timeout(bound, TcpStream::connect(address))
            .await
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {bound:?}"),
                )
            })??;
        let near = stream.local_addr()?;
        // The dialled address may mean another one, as 0.0.0.0 means this machine.
        let far = if address.ip().is_unspecified() {
            stream.peer_addr()?
        } else {
            address
        };
        // If nothing listens at a local port, a socket can connect to itself (RFC 9293,
        // section 3.5) and reads what it sends. Closing it with a reset frees the port
        // at once, which the backend needs when it starts.
        if near == far {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nobody listens there",
            ));
        }
        // The proxy would connect to itself again and again, until no descriptor is left.
        if self.has_port(far.port()) && self.is_own(far, near) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the proxy itself listens there",
            ));
        }
        Ok((stream, address))
    }

    fn own(&self) -> &[SocketAddr] {
        self.own.get().map_or(&[], Vec::as_slice)
    }

    /// Whether a listener of ours has this port.
    fn has_port(&self, port: u16) -> bool {
        self.own().iter().any(|own| own.port() == port)
    }

    /// Whether a connection from `near` to `far` leads to the proxy: it stays on
    /// this machine, and a listener of ours has that address.
    fn is_own(&self, far: SocketAddr, near: SocketAddr) -> bool {
        let (far_ip, near_ip) = (far.ip().to_canonical(), near.ip().to_canonical());
        let is_here = far_ip == near_ip || (far_ip.is_loopback() && near_ip.is_loopback());
        is_here
            && self.own().iter().any(|own| {
                let ip = own.ip().to_canonical();
                let is_any = ip.is_unspecified() && ip.is_ipv4() == far_ip.is_ipv4();
                own.port() == far.port() && (is_any || ip == far_ip)
            })
    }
}

fn not_resolved(failure: &Failure) -> io::Error {
    let kind = if failure.is_denial() {
        io::ErrorKind::NotFound
    } else {
        io::ErrorKind::TimedOut
    };
    io::Error::new(kind, format!("name not resolved: {failure}"))
}

/// Completes when a backend has sent something, which stays in the socket.
///
/// # Errors
///
/// When it ends the connection without a byte. Cancel safe.
pub(crate) async fn first_byte(backend: &TcpStream) -> io::Result<()> {
    backend.readable().await?;
    answered(backend)
}

/// Whether a backend that is ready for reading has sent something, which stays in the
/// socket.
///
/// # Errors
///
/// When it has ended the connection without a byte.
pub(crate) fn answered(backend: &TcpStream) -> io::Result<()> {
    if !socket::is_read_closed(backend) {
        return Ok(());
    }
    // There may be bytes before the end.
    let look = || SockRef::from(backend).peek(&mut [MaybeUninit::uninit()]);
    match backend.try_io(Interest::READABLE, look) {
        Ok(0) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection before it sent anything",
        )),
        // Any other error is returned to the relay by its next read.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("it ended the connection before it sent anything: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests;
