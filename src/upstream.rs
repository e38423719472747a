//! The way to a backend: resolve its name, connect to the first address that
//! answers and is not the proxy itself, and set the socket up.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::model::{BackendAddress, BackendHost, ServerConfig};

/// Head start of one IP address of a name before the next is tried beside it
/// (RFC 8305, section 5: 250 ms recommended).
const NEXT_IP_DELAY: Duration = Duration::from_millis(250);
/// Head start of one configured address before the next is tried beside it.
/// Longer than a retransmitted SYN takes (1 s, RFC 6298), since the next
/// address may be another world: one lost packet must not send a player there.
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(1500);
/// Addresses of one name that are tried. A name with more is a pool whose
/// further members would only be reached after a player has given up.
const IPS_PER_NAME_MAX: usize = 8;

/// The way to all backends.
#[derive(Debug)]
pub struct Upstream {
    resolver: Resolver,
    /// Where the proxy listens; empty until that is known.
    own: OnceLock<Vec<SocketAddr>>,
}

/// Names to addresses, with a cache that follows the records' time to live.
struct Resolver {
    dns: Option<TokioResolver>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("cached", &self.dns.is_some())
            .finish()
    }
}

impl Resolver {
    /// The resolver that the system is configured for. Without a usable
    /// configuration names go to the C library, uncached.
    fn from_system() -> Self {
        let dns = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        match dns {
            Ok(dns) => Self { dns: Some(dns) },
            Err(error) => {
                tracing::warn!(%error, "no DNS configuration found: names are resolved uncached");
                Self { dns: None }
            }
        }
    }

    /// All addresses of a name, IPv6 and IPv4 in turn (RFC 8305, section 4).
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<IpAddr> = match &self.dns {
            // As the system reads names (resolv.conf(5)): one with a dot is asked
            // for as it stands, and then with the host's search list, which is
            // how pods name services of other namespaces.
            Some(dns) => dns
                .lookup_ip(name)
                .await
                .map_err(io::Error::other)?
                .iter()
                .collect(),
            None => tokio::net::lookup_host((name, 0))
                .await?
                .map(|found| found.ip())
                .collect(),
        };
        let (v6, v4): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv6);
        let mut turns = Vec::with_capacity(v4.len() + v6.len());
        let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
        loop {
            match (v6.next(), v4.next()) {
                (None, None) => break,
                (a, b) => turns.extend([a, b].into_iter().flatten()),
            }
        }
        turns.truncate(IPS_PER_NAME_MAX);
        Ok(turns)
    }
}

/// A connection to a backend.
#[derive(Debug)]
pub struct Connected {
    /// The connection, without delay for small packets. Keepalive is for those
    /// that last.
    pub stream: TcpStream,
    /// Which of the server's addresses it is.
    pub address: BackendAddress,
}

/// No backend could be reached.
#[derive(Debug, Error)]
#[error("no backend answered: {}", tries(.attempts))]
pub struct Unreachable {
    /// What was tried, and what came of it.
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
    pub fn from_system() -> Self {
        Self {
            resolver: Resolver::from_system(),
            own: OnceLock::new(),
        }
    }

    /// Says where the proxy listens, once.
    pub(crate) fn listens_at(&self, own: Vec<SocketAddr>) {
        let is_first = self.own.set(own).is_ok();
        debug_assert!(is_first, "the proxy begins to listen once");
    }

    /// Connects to the first address of `server` that answers.
    ///
    /// The addresses are tried in their order; each that fails at once gives way to
    /// the next, and each that is silent gets company after a delay. Each single
    /// TCP connect, and each look-up of a name, is bounded by `timeouts.connect`.
    /// Dropping the future gives all attempts up.
    ///
    /// # Errors
    ///
    /// When all of them have failed.
    pub async fn connect(&self, server: &ServerConfig) -> Result<Connected, Unreachable> {
        let bound = server.timeouts.connect;
        if let [address] = server.addresses.as_slice() {
            // The usual case needs nobody to watch a race.
            let attempt = self.attempt(address, bound).await;
            return attempt.map_err(|failed| Unreachable {
                attempts: vec![failed],
            });
        }
        // Futures that have not been polled cost only their place.
        let mut attempts = Vec::with_capacity(server.addresses.len());
        for address in &server.addresses {
            attempts.push(self.attempt(address, bound));
        }
        race(attempts.into_iter(), NEXT_ADDRESS_DELAY)
            .await
            .map_err(|attempts| Unreachable { attempts })
    }

    /// Connects to one configured address and sets the socket up.
    async fn attempt(
        &self,
        address: &BackendAddress,
        bound: Duration,
    ) -> Result<Connected, (BackendAddress, io::Error)> {
        let connected = self
            .connect_address(address, bound)
            .await
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Connected {
                    stream,
                    address: address.clone(),
                })
            });
        connected.map_err(|error| (address.clone(), error))
    }

    /// Connects to one configured address, whatever addresses its name has.
    async fn connect_address(
        &self,
        address: &BackendAddress,
        bound: Duration,
    ) -> io::Result<TcpStream> {
        let name = match &address.host {
            BackendHost::Ip(ip) => return self.connect_ip((*ip, address.port).into(), bound).await,
            BackendHost::Name(name) => name,
        };
        let ips = timeout(bound, self.resolver.addresses(name))
            .await
            .map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time")
            })?
            .map_err(|error| io::Error::new(error.kind(), format!("name not resolved: {error}")))?;
        let mut attempts = Vec::with_capacity(ips.len());
        for ip in ips {
            attempts.push(self.connect_ip((ip, address.port).into(), bound));
        }
        race(attempts.into_iter(), NEXT_IP_DELAY)
            .await
            .map_err(|errors| {
                errors.into_iter().next_back().unwrap_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")
                })
            })
    }

    async fn connect_ip(&self, address: SocketAddr, bound: Duration) -> io::Result<TcpStream> {
        let stream = timeout(bound, TcpStream::connect(address))
            .await
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {bound:?}"),
                )
            })??;
        // It would route the player to itself again, until no descriptor is left.
        // Most addresses have another port, and nothing has to be asked.
        if self.has_port(address.port()) && self.is_own(address, stream.local_addr()?) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the proxy itself listens there",
            ));
        }
        Ok(stream)
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
                let is_any = own.ip().is_unspecified() && own.is_ipv4() == far_ip.is_ipv4();
                own.port() == far.port() && (is_any || own.ip() == far_ip)
            })
    }
}

/// Runs attempts until one succeeds: the next begins when the last has failed
/// or after `delay`, and the others are dropped when one has won.
async fn race<T, E, F>(attempts: impl Iterator<Item = F>, delay: Duration) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.peekable();
    let mut errors = Vec::new();
    let mut running = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(attempt) => running.push(attempt),
            None if running.is_empty() => return Err(errors),
            None => {}
        }
        let settled = if waiting.peek().is_some() {
            timeout(delay, running.next()).await.unwrap_or_default()
        } else {
            running.next().await
        };
        match settled {
            Some(Ok(won)) => return Ok(won),
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers one name with 192.0.2.7 and denies all others.
    async fn name_server(known: &'static [u8]) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                // A header of 12 bytes, the name up to its zero, type and class.
                let name_bytes = 1 + query[12..length].iter().position(|b| *b == 0).unwrap();
                let question = &query[12..12 + name_bytes + 4];
                let is_known = question[..name_bytes] == *known;
                let wants_v4 = question[name_bytes..] == [0, 1, 0, 1];
                let (code, answers) =
                    (if is_known { 0 } else { 3 }, u8::from(is_known && wants_v4));
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
                answer.extend(question);
                if answers == 1 {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                }
                let _ = socket.send_to(&answer, from).await;
            }
        });
        address
    }

    /// A name with a dot is looked for in the host's search list, too.
    #[tokio::test]
    async fn the_search_list_counts() {
        let server = name_server(b"\x02mc\x05games\x03svc\x04test\x00").await;
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let config = ResolverConfig::from_parts(
            None,
            vec!["svc.test.".parse().unwrap()],
            vec![NameServerConfig::new(server.ip(), true, vec![connection])],
        );
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = Resolver {
            dns: Some(dns.build().unwrap()),
        };
        let found = resolver.addresses("mc.games").await.unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(resolver.addresses("mc.elsewhere").await.is_err());
        assert!(
            resolver.addresses("mc.games.").await.is_err(),
            "it is absolute"
        );
    }

    /// A connection leads to the proxy when a listener of ours has its address,
    /// be it every address of the machine. Others may have the same port.
    #[test]
    fn the_proxy_knows_itself() {
        let upstream = |own: &[&str]| {
            let upstream = Upstream {
                resolver: Resolver { dns: None },
                own: OnceLock::new(),
            };
            upstream.listens_at(own.iter().map(|own| own.parse().unwrap()).collect());
            upstream
        };
        let is_own = |own: &[&str], far: &str, near: &str| {
            upstream(own).is_own(far.parse().unwrap(), near.parse().unwrap())
        };
        let any = &["0.0.0.0:25565", "[::1]:25565"];
        assert!(is_own(any, "127.0.0.1:25565", "127.0.0.1:50000"));
        assert!(is_own(any, "127.0.0.2:25565", "127.0.0.1:50000"));
        assert!(is_own(any, "192.0.2.7:25565", "192.0.2.7:50000"));
        assert!(is_own(any, "[::1]:25565", "[::1]:50000"));
        assert!(!is_own(any, "127.0.0.1:25566", "127.0.0.1:50000"));
        assert!(!is_own(any, "192.0.2.9:25565", "192.0.2.7:50000"));
        assert!(!is_own(any, "[2001:db8::7]:25565", "[2001:db8::7]:50000"));
        let one = &["192.0.2.7:25565"];
        assert!(is_own(one, "192.0.2.7:25565", "192.0.2.7:50000"));
        assert!(!is_own(one, "127.0.0.1:25565", "127.0.0.1:50000"));
    }

    async fn after(millis: u64, result: Result<u32, u32>) -> Result<u32, u32> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        result
    }

    /// The first in order wins unless it is silent for longer than the delay;
    /// a failure lets the next begin at once; all failures are kept.
    #[tokio::test(start_paused = true)]
    async fn attempts_race_with_a_delay() {
        let delay = Duration::from_millis(100);
        let first_is_quick = vec![after(90, Ok(1)), after(0, Ok(2))];
        assert_eq!(race(first_is_quick.into_iter(), delay).await, Ok(1));

        let first_is_silent = vec![after(10_000, Ok(1)), after(10, Ok(2))];
        assert_eq!(race(first_is_silent.into_iter(), delay).await, Ok(2));

        let began = tokio::time::Instant::now();
        let first_fails = vec![after(10, Err(1)), after(10, Ok(2))];
        assert_eq!(race(first_fails.into_iter(), delay).await, Ok(2));
        assert_eq!(began.elapsed(), Duration::from_millis(20));

        let all_fail = vec![after(30, Err(1)), after(10, Err(2)), after(10, Err(3))];
        assert_eq!(race(all_fail.into_iter(), delay).await, Err(vec![1, 2, 3]));

        let none: Vec<std::future::Ready<Result<u32, u32>>> = Vec::new();
        assert_eq!(race(none.into_iter(), delay).await, Err(Vec::new()));
    }
}
