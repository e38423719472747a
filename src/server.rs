//! The running proxy: what all connections share, and its begin and end.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::info;

use crate::config::model::Config;
use crate::connection::StatusAnswers;
use crate::limit::{Pending, RateLimiter, Slots};
use crate::listener;
use crate::shutdown::Shutdown;
use crate::snapshot::Snapshot;
use crate::upstream::Resolver;

/// Connections whose handshake has not arrived. Each holds one descriptor and
/// some 3 KiB; at the handshake timeout of 10 s this is room for 400 silent
/// connections a second before the oldest must go.
const PENDING_MAX: usize = 4096;
/// The share of the open files that pending connections may have at most.
const PENDING_FILES_SHARE: u64 = 4;
/// Pending connections of one client: some dozens of players behind one
/// address may refresh their server lists at the same moment.
const PENDING_PER_CLIENT_MAX: u32 = 128;

/// What all connections share.
#[derive(Debug)]
pub struct Proxy {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) connections: Slots,
    pub(crate) pending: Pending,
    pub(crate) logins: RateLimiter,
    pub(crate) pings: RateLimiter,
    pub(crate) resolver: Resolver,
    pub(crate) status: StatusAnswers,
    pub(crate) shutdown: Shutdown,
}

/// A proxy that accepts connections.
#[derive(Debug)]
pub struct Running {
    proxy: Arc<Proxy>,
    addresses: Vec<SocketAddr>,
}

impl Proxy {
    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new snapshot into force. Connections keep the one they have.
    pub fn replace(&self, config: Config) {
        let next = Snapshot::new(config, Some(&self.snapshot.load()));
        self.snapshot.store(Arc::new(next));
    }
}

/// Starts to accept connections on `listeners`. Must be called inside a runtime.
///
/// `open_files` is the process's limit of descriptors, where it is known.
///
/// # Errors
///
/// When a listener cannot be registered with the runtime.
pub fn start(
    config: Config,
    listeners: Vec<StdListener>,
    open_files: Option<u64>,
) -> std::io::Result<Running> {
    let snapshot = Snapshot::new(config, None);
    let pending_max = open_files
        .and_then(|files| usize::try_from(files / PENDING_FILES_SHARE).ok())
        .map_or(PENDING_MAX, |share| share.clamp(1, PENDING_MAX));
    let proxy = Arc::new(Proxy {
        connections: Slots::default(),
        pending: Pending::new(pending_max, PENDING_PER_CLIENT_MAX),
        logins: RateLimiter::default(),
        pings: RateLimiter::default(),
        resolver: Resolver::from_system(),
        status: StatusAnswers::new(&snapshot.proxy.status_cache),
        shutdown: Shutdown::default(),
        snapshot: ArcSwap::from_pointee(snapshot),
    });
    let mut addresses = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let (listener, address) = listener::into_tokio(listener)?;
        tokio::spawn(listener::accept(listener, address, Arc::clone(&proxy)));
        info!(%address, "listening");
        addresses.push(address);
    }
    Ok(Running { proxy, addresses })
}

impl Running {
    /// The addresses that are listened on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all connections share.
    #[must_use]
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The way to end it.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.proxy.shutdown
    }

    /// Connections that have not finished.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.proxy.shutdown.connections.len()
    }
}
