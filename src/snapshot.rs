//! A snapshot: the configuration and the routes in force.
//!
//! A connection takes the snapshot that is in force when it arrives and keeps
//! it. What must outlive a snapshot, such as the number of players, belongs to
//! the server's name and is handed on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use crate::config::model::{Config, ProxyConfig, ServerConfig};
use crate::limit::Slots;
use crate::route::RouteTable;
use crate::telemetry::Sampler;

/// Status requests that may be on their way to the backends of one server.
/// Answers are shared through the cache, so that more are only needed when
/// clients of many versions, or names under one wildcard, ask at once.
const STATUS_FETCHES_MAX: usize = 16;

/// The configuration and the routes in force.
#[derive(Debug)]
pub struct Snapshot {
    /// What the global file says.
    pub proxy: Arc<ProxyConfig>,
    /// Virtual hosts to servers.
    pub routes: RouteTable<Arc<Server>>,
    /// All servers by name.
    pub servers: HashMap<String, Arc<Server>>,
}

/// A server of a snapshot.
#[derive(Debug)]
pub struct Server {
    /// What its file says.
    pub config: Arc<ServerConfig>,
    /// Tells this configuration of the server from every other that the
    /// process has seen, so that nothing cached for one is used for another.
    pub revision: u64,
    /// What outlives snapshots.
    pub state: Arc<ServerState>,
}

/// What a server keeps when its configuration changes.
#[derive(Debug)]
pub struct ServerState {
    /// The players on it.
    pub players: Slots,
    /// Bounds the status requests on their way.
    pub status_fetches: Semaphore,
    /// Bounds the log lines about backends that cannot be reached.
    pub unreachable: Sampler,
}

impl Default for ServerState {
    fn default() -> Self {
        Self {
            players: Slots::default(),
            status_fetches: Semaphore::new(STATUS_FETCHES_MAX),
            unreachable: Sampler::new(),
        }
    }
}

impl Snapshot {
    /// Makes a snapshot of a valid configuration. Servers that `previous` has
    /// under the same name keep their state, and if their configuration is the
    /// same, their revision.
    #[must_use]
    pub fn new(config: Config, previous: Option<&Snapshot>) -> Self {
        static REVISIONS: AtomicU64 = AtomicU64::new(0);
        let servers: HashMap<String, Arc<Server>> = config
            .servers
            .into_iter()
            .map(|config| {
                let old = previous.and_then(|previous| previous.servers.get(&config.id));
                let server = match old {
                    Some(old) if old.config == config => Arc::clone(old),
                    _ => Arc::new(Server {
                        revision: REVISIONS.fetch_add(1, Ordering::Relaxed),
                        state: old.map(|old| Arc::clone(&old.state)).unwrap_or_default(),
                        config,
                    }),
                };
                (server.config.id.clone(), server)
            })
            .collect();
        let (routes, conflicts) = RouteTable::build(servers.values().flat_map(|server| {
            server
                .config
                .domains
                .iter()
                .map(|domain| (domain.clone(), Arc::clone(server)))
        }));
        debug_assert!(
            conflicts.is_empty(),
            "validation lets no two servers claim one name"
        );
        Self {
            proxy: config.proxy,
            routes,
            servers,
        }
    }

    /// The configuration that this snapshot was made of.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut servers: Vec<_> = self
            .servers
            .values()
            .map(|server| Arc::clone(&server.config))
            .collect();
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        Config {
            proxy: Arc::clone(&self.proxy),
            servers,
        }
    }
}
