//! Listens for connections, and accepts them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{info, warn};

use crate::config::model::{Keepalive, ProxyConfig};
use crate::connection;
use crate::proxy::Proxy;
use crate::socket::{self, Families};
use crate::supervise;
use crate::telemetry::{Sample, Sampler};

/// How long accepting pauses when it fails, mostly because descriptors or memory have run
/// out. Waiting connections stay in the kernel's backlog during the pause.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Sockets that systemd, or another parent, has opened for us (`LISTEN_FDS`,
/// `sd_listen_fds(3)`), or else the configured addresses.
///
/// # Errors
///
/// When an address cannot be bound, or an inherited descriptor is not a TCP
/// socket that listens.
pub fn open(config: &ProxyConfig) -> anyhow::Result<Vec<StdListener>> {
    let mut inherited = listenfd::ListenFd::from_env();
    if inherited.len() > 0 {
        let mut listeners = Vec::new();
        for index in 0..inherited.len() {
            let listener = inherited
                .take_tcp_listener(index)
                .with_context(|| format!("inherited descriptor {index} is not a TCP listener"))?;
            if let Some(listener) = listener {
                ensure!(
                    SockRef::from(&listener).is_listener()?,
                    "inherited descriptor {index} is a TCP socket that does not listen"
                );
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
        }
        info!(
            sockets = listeners.len(),
            "listening on inherited sockets; `bind` is not used"
        );
        return Ok(listeners);
    }
    config
        .bind
        .iter()
        .map(|address| {
            let families = Families::beside(*address, &config.bind);
            socket::listen(*address, families, config.so_reuseport, &config.keepalive)
                .with_context(|| format!("cannot listen on {address}"))
        })
        .collect()
}

/// Accepts connections until the proxy drains, and goes on after a failure of its own. Each
/// connection is served by a separate task, so that no client can delay another.
pub(crate) async fn accept(listener: TcpListener, address: SocketAddr, proxy: Arc<Proxy>) {
    let serve = || accept_until_drain(&listener, address, &proxy);
    supervise::repeated("accepting connections", serve).await;
}

async fn accept_until_drain(listener: &TcpListener, address: SocketAddr, proxy: &Arc<Proxy>) {
    let failures = Sampler::new();
    let mut options = Options::of(listener, proxy);
    loop {
        let accepted = tokio::select! {
            biased;
            () = proxy.shutdown.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                options.follow(listener, proxy);
                options.apply(listener, &stream);
                let peer = (peer.ip().to_canonical(), peer.port()).into();
                let served = connection::serve(stream, peer, Arc::clone(proxy));
                let served = supervise::logged("a connection", served);
                proxy.shutdown.connections.spawn(served);
            }
            Err(error) if socket::concerns_one_connection(&error) => {
                tracing::debug!(%address, %error, "a connection was not accepted");
            }
            // Any other error would occur again at once.
            Err(error) => {
                if let Sample::Write { suppressed } = failures.sample(Instant::now()) {
                    warn!(%address, %error, suppressed, "accepting pauses");
                }
                pause(proxy).await;
            }
        }
    }
}

/// The options of the connections of one listener.
///
/// On Linux a new connection inherits the options of its listener, before it
/// enters the queue. So only connections that are in the queue when the listener
/// is inherited or `[keepalive]` changes are set up one by one.
#[derive(Debug, Default)]
struct Options {
    /// The options that the listener got last.
    keepalive: Option<Keepalive>,
    /// When it got them; `None` once no older connection can be in the queue.
    older_since: Option<Instant>,
}

/// How long after a change of the options connections with the old ones may still
/// enter the queue; it takes microseconds in fact.
const OLDER_MAX: Duration = Duration::from_secs(1);

impl Options {
    /// Gives the listener the options in force, if it does not have them. One that we
    /// have opened had them before it listened.
    fn of(listener: &TcpListener, proxy: &Proxy) -> Self {
        let keepalive = proxy.snapshot().proxy.keepalive;
        let mut options = Self {
            keepalive: socket::is_tuned(listener, &keepalive).then_some(keepalive),
            older_since: None,
        };
        options.follow(listener, proxy);
        options
    }

    /// Gives the listener the options in force.
    fn follow(&mut self, listener: &TcpListener, proxy: &Proxy) {
        let keepalive = proxy.snapshot().proxy.keepalive;
        if socket::LISTENER_TUNES_CONNECTIONS && self.keepalive != Some(keepalive) {
            self.keepalive = Some(keepalive);
            self.older_since = Some(Instant::now());
            if let Err(error) = socket::tune(listener, &keepalive) {
                warn!(%error, "the options of connections cannot be set");
            }
        }
    }

    /// Gives a connection the options that the listener has, if it may be older.
    fn apply(&mut self, listener: &TcpListener, stream: &TcpStream) {
        let (Some(keepalive), Some(since)) = (self.keepalive, self.older_since) else {
            return;
        };
        if let Err(error) = socket::tune(stream, &keepalive) {
            tracing::debug!(%error, "the options of a connection cannot be set");
        }
        if since.elapsed() >= OLDER_MAX && !socket::has_waiting_connection(listener) {
            self.older_since = None;
        }
    }
}

async fn pause(proxy: &Proxy) {
    tokio::select! {
        () = proxy.shutdown.drain.cancelled() => {}
        () = tokio::time::sleep(FAILURE_PAUSE) => {}
    }
}

/// The listener for tokio, and its real address where the configuration left the
/// port open.
pub(crate) fn into_tokio(listener: StdListener) -> io::Result<(TcpListener, SocketAddr)> {
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::model::Config;
    use crate::config::{LoadOptions, load};

    fn config(keepalive_seconds: u64) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("infrarust.toml");
        let text = format!("[keepalive]\ntime = \"{keepalive_seconds}s\"\n");
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir(folder.path().join("servers")).unwrap();
        let loaded = load(&LoadOptions {
            config: Some(file),
            ..LoadOptions::default()
        });
        loaded.config.unwrap()
    }

    /// Connections that waited before the listener had the options in force get
    /// them when they are accepted, and later ones cost nothing any more.
    #[tokio::test]
    async fn connections_that_waited_get_the_options_in_force() {
        let proxy = Proxy::new(config(41), None).unwrap();
        let handed_over = StdListener::bind("127.0.0.1:0").unwrap();
        handed_over.set_nonblocking(true).unwrap();
        let (listener, address) = into_tokio(handed_over).unwrap();
        let mut options = Options::default();
        for seconds in [41, 43] {
            let _client = TcpStream::connect(address).await.unwrap();
            proxy.replace(config(seconds));
            options.follow(&listener, &proxy);
            let (stream, _) = listener.accept().await.unwrap();
            let keepalive = || SockRef::from(&stream).tcp_keepalive_time().unwrap();
            let wanted = Duration::from_secs(seconds);
            assert_ne!(keepalive(), wanted, "it would prove nothing");
            options.apply(&listener, &stream);
            assert_eq!(keepalive(), wanted);
            assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
        }
        options.older_since = Instant::now().checked_sub(OLDER_MAX);
        for is_queued in [true, false] {
            let _one = TcpStream::connect(address).await.unwrap();
            let another = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            if !is_queued {
                listener.accept().await.unwrap();
            }
            options.apply(&listener, &stream);
            assert_eq!(options.older_since.is_some(), is_queued);
            if is_queued {
                listener.accept().await.unwrap();
            }
            drop(another);
        }
    }

    /// Nothing has to be set for a connection of a listener that we have opened: none can
    /// be older than its options. One that was handed over may have older ones.
    #[tokio::test]
    async fn connections_of_an_own_listener_need_no_setup() {
        let proxy = Proxy::new(config(41), None).unwrap();
        let keepalive = proxy.snapshot().proxy.keepalive;
        let address = ([127, 0, 0, 1], 0).into();
        let own = socket::listen(address, Families::Both, false, &keepalive).unwrap();
        let handed_over = StdListener::bind(address).unwrap();
        handed_over.set_nonblocking(true).unwrap();
        for (listener, is_own) in [(own, true), (handed_over, false)] {
            let (listener, _) = into_tokio(listener).unwrap();
            let options = Options::of(&listener, &proxy);
            assert_eq!(options.older_since.is_none(), is_own);
            assert!(socket::is_tuned(&listener, &keepalive));
        }
    }

    /// A listener has the options in force, also after a reload, from the next
    /// connection on.
    #[tokio::test]
    async fn connections_get_the_options_in_force() {
        let proxy = Proxy::new(config(41), None).unwrap();
        let keepalive = proxy.snapshot().proxy.keepalive;
        let address = ([127, 0, 0, 1], 0).into();
        let listener = socket::listen(address, Families::Both, false, &keepalive).unwrap();
        let seen = listener.try_clone().unwrap();
        let (listener, address) = into_tokio(listener).unwrap();
        tokio::spawn(accept(listener, address, Arc::clone(&proxy)));
        for seconds in [41, 43] {
            proxy.replace(config(seconds));
            let _client = TcpStream::connect(address).await.unwrap();
            let followed = async {
                let wanted = Duration::from_secs(seconds);
                while SockRef::from(&seen).tcp_keepalive_time().unwrap() != wanted {
                    tokio::task::yield_now().await;
                }
            };
            infrarust_test_support::within("the options", followed).await;
        }
        proxy.shutdown.stop_now();
    }
}
