//! What all connections share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::model::Config;
use crate::limit::{Pending, RateLimiter, Slots};
use crate::shutdown::Shutdown;
use crate::snapshot::Snapshot;
use crate::status_answers::StatusAnswers;
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

impl Proxy {
    /// A proxy that has no connections yet. `open_files` is the process's limit
    /// of descriptors, where it is known.
    pub(crate) fn new(config: Config, open_files: Option<u64>) -> Self {
        let snapshot = Snapshot::new(config, None);
        let pending_max = open_files
            .and_then(|files| usize::try_from(files / PENDING_FILES_SHARE).ok())
            .map_or(PENDING_MAX, |share| share.clamp(1, PENDING_MAX));
        Self {
            connections: Slots::default(),
            pending: Pending::new(pending_max, PENDING_PER_CLIENT_MAX),
            logins: RateLimiter::default(),
            pings: RateLimiter::default(),
            resolver: Resolver::from_system(),
            status: StatusAnswers::new(&snapshot.proxy.status_cache),
            shutdown: Shutdown::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
        }
    }

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
