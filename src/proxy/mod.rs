//! What all connections share, and the life of the process.

mod forwarded;
pub(crate) mod lifecycle;
mod shutdown;
pub(crate) mod snapshot;
mod visits;

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

pub(crate) use self::shutdown::Shutdown;
use self::snapshot::{Server, Snapshot};
use crate::config::model::Config;
use crate::forward::Forwarders;
use crate::intercept::{Authenticator, Roster};
use crate::limit::{Pending, RateLimiter, Slots};
use crate::plugin::{Environment, MetricValue, PlayerCounts, PluginHost, Problem, Reloaded, Spec};
use crate::status_cache::StatusAnswers;
use crate::upstream::Upstream;

/// The most connections without a complete handshake. Each holds one descriptor and some 3
/// KiB. With the handshake timeout of 10 s this allows 400 silent connections a second
/// before the oldest is closed.
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
    /// Locked while the snapshot is replaced.
    replacing: Mutex<()>,
    pub(crate) connections: Slots,
    pub(crate) pending: Pending,
    pub(crate) logins: RateLimiter,
    pub(crate) pings: RateLimiter,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) status: StatusAnswers,
    pub(crate) forwarders: Forwarders,
    pub(crate) shutdown: Shutdown,
    pub(crate) plugins: PluginHost,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) roster: Arc<Roster>,
    /// For tasks that outlive their starter.
    own: Weak<Self>,
    /// A random id of this process, which clients since 26.2 get.
    pub(crate) session_id: [u8; 16],
}

impl Proxy {
    /// A proxy without connections and without plugins. `open_files` is the process's limit
    /// of descriptors, where it is known. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// When the threads that relay cannot be started.
    pub(crate) fn new(config: Config, open_files: Option<u64>) -> io::Result<Arc<Self>> {
        let forwarders = Forwarders::start(config.proxy.workers())?;
        let mut session_id = [0; 16];
        getrandom::fill(&mut session_id).map_err(io::Error::other)?;
        Ok(Arc::new_cyclic(|proxy| {
            Self::with_own(config, open_files, forwarders, session_id, proxy.clone())
        }))
    }

    fn with_own(
        config: Config,
        open_files: Option<u64>,
        forwarders: Forwarders,
        session_id: [u8; 16],
        own: Weak<Self>,
    ) -> Self {
        let environment = Environment {
            runtime: Handle::current(),
            data_dir: config.proxy.plugins_dir.clone(),
            players: Arc::new(own.clone()),
        };
        let snapshot = Snapshot::new(config, None, None);
        let upstream = Arc::new(Upstream::from_system());
        let pending_max = open_files
            .and_then(|files| usize::try_from(files / PENDING_FILES_SHARE).ok())
            .map_or(PENDING_MAX, |share| share.clamp(1, PENDING_MAX));
        Self {
            connections: Slots::default(),
            pending: Pending::new(pending_max, PENDING_PER_CLIENT_MAX),
            logins: RateLimiter::default(),
            pings: RateLimiter::default(),
            authenticator: Arc::new(Authenticator::new(Arc::clone(&upstream))),
            upstream,
            status: StatusAnswers::new(&snapshot.proxy.status_cache),
            forwarders,
            shutdown: Shutdown::default(),
            plugins: PluginHost::new(environment),
            roster: Arc::default(),
            own,
            session_id,
            snapshot: ArcSwap::from_pointee(snapshot),
            replacing: Mutex::default(),
        }
    }

    /// The proxy, for tasks that outlive their starter.
    pub(crate) fn own(&self) -> Weak<Self> {
        self.own.clone()
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The metrics of all plugins.
    #[must_use]
    pub fn plugin_metrics(&self) -> Vec<MetricValue> {
        self.plugins.metrics()
    }

    /// Loads the plugins of a configuration, all or none. `force` is the id of one that is
    /// loaded even if nothing about it has changed. Connections use them after
    /// [`replace`](Self::replace). Waits for the plugins, so it must not run on a worker.
    ///
    /// # Errors
    ///
    /// Every plugin that cannot be loaded.
    pub(crate) fn load_plugins(
        &self,
        config: &Config,
        force: Option<&str>,
    ) -> Result<Reloaded, Vec<Problem>> {
        let specs = config.plugins.iter().map(|plugin| Spec::from(&**plugin));
        self.plugins.reload(specs.collect(), force)
    }

    /// Ends the plugins, and waits for their end. Running connections keep theirs. A load
    /// of plugins that is running gives up.
    pub(crate) async fn end_plugins(&self) {
        self.plugins.close();
        self.replace(self.snapshot().config());
        self.plugins.ended().await;
    }

    /// Puts a new snapshot into force, with the plugins that are loaded.
    /// Connections keep the one they have.
    pub fn replace(&self, config: Config) {
        // One at a time: a snapshot with plugins that was begun before their end must not
        // replace the one without plugins.
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let previous = self.snapshot.load();
        let next = Snapshot::new(config, Some(&self.plugins), Some(&previous));
        self.snapshot.store(Arc::new(next));
    }
}

impl PlayerCounts for Weak<Proxy> {
    fn count(&self, server: Option<&str>) -> Option<u64> {
        let snapshot = self.upgrade()?.snapshot();
        let on = |server: &Arc<Server>| u64::from(server.state.players.taken());
        match server {
            Some(id) => snapshot.servers.get(id).map(on),
            None => Some(snapshot.servers.values().map(on).sum()),
        }
    }
}
