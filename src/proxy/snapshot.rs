//! A snapshot: the configuration and the routes in force.
//!
//! A connection keeps the snapshot that is in force when it arrives. State that must
//! outlive a snapshot, such as the number of players, belongs to the name of the server and
//! is passed to the next snapshot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::forwarded::Forwarded;
use super::visits::Visits;
use crate::config::model::{Config, PluginConfig, ProxyConfig, ServerConfig};
use crate::limit::{Slot, Slots};
use crate::mode::Mode;
use crate::plugin::{HookSet, PluginHost};
use crate::route::RouteTable;
use crate::status_cache::Shares;
use crate::telemetry::Sampler;

/// The most status requests to the backends of one server at the same time. Answers are
/// shared through the cache, so that more are only needed when clients of many versions, or
/// names under one wildcard, ask at once.
const STATUS_FETCHES_MAX: usize = 16;

/// The most log lines about failed status requests of one server, in one window. Server
/// lists and monitors ask for ever, also while a server is switched off.
const STATUS_FAILURE_LINES_MAX: u32 = 3;
/// The window of these lines.
const STATUS_FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// The configuration and the routes in force.
#[derive(Debug)]
pub struct Snapshot {
    /// The settings of the global file.
    pub proxy: Arc<ProxyConfig>,
    /// Virtual hosts to servers.
    pub routes: RouteTable<Arc<Server>>,
    /// All servers by name.
    pub servers: HashMap<String, Arc<Server>>,
    /// The state of removed servers, as long as it is still referenced: by players, and by
    /// clients that arrived before the removal and have not taken a slot yet. If the server
    /// is added again, it counts them.
    gone: HashMap<String, Weak<ServerState>>,
    /// The plugins for clients without a server.
    pub unclaimed: Arc<HookSet>,
    /// The enabled plugins.
    plugins: Vec<Arc<PluginConfig>>,
}

/// The mode for clients without a server: the proxy sees the same as in a forwarding mode
/// before the relay.
const UNCLAIMED_MODE: Mode = Mode::Passthrough;

/// A server of a snapshot.
#[derive(Debug)]
pub struct Server {
    /// Its id, the same as in `config`. Players on the server share it.
    pub id: Arc<str>,
    /// The settings of its file.
    pub config: Arc<ServerConfig>,
    /// The settings of the global file in the same snapshot, so that a connection with its
    /// server uses one configuration only.
    pub proxy: Arc<ProxyConfig>,
    /// Identifies this configuration of the server among all that the process
    /// has seen, so that nothing cached for one is used for another.
    pub revision: u64,
    /// The state that outlives snapshots.
    pub state: Arc<ServerState>,
    /// The plugins that take part.
    pub hooks: Arc<HookSet>,
}

impl Server {
    /// Takes one of its `max_players` slots.
    pub(crate) fn take_slot(&self) -> Option<Slot> {
        self.state.players.take(self.config.max_players)
    }
}

/// The state that a server keeps when its configuration changes.
#[derive(Debug)]
pub struct ServerState {
    /// The players on it.
    pub players: Slots,
    /// Bounds the running status requests.
    pub status_fetches: Semaphore,
    /// Bounds the part of them that one client can use.
    pub(crate) status_shares: Shares,
    /// Bounds the log lines about backends that cannot be reached.
    pub unreachable: Sampler,
    /// Bounds the log lines about failed status requests.
    pub status_failures: Sampler,
    /// Messages that other servers have forwarded on the BungeeCord channel while no player
    /// was here.
    pub(crate) forwarded: Forwarded,
    /// Bounds what its messages on this channel cost.
    pub(crate) visits: Visits,
    /// Whether the log has reported a dropped tail of the host field.
    pub tail_reported: AtomicBool,
}

impl Default for ServerState {
    fn default() -> Self {
        Self {
            players: Slots::default(),
            status_fetches: Semaphore::new(STATUS_FETCHES_MAX),
            status_shares: Shares::default(),
            unreachable: Sampler::new(),
            status_failures: Sampler::with(STATUS_FAILURE_LINES_MAX, STATUS_FAILURE_WINDOW),
            forwarded: Forwarded::default(),
            visits: Visits::default(),
            tail_reported: AtomicBool::new(false),
        }
    }
}

impl Snapshot {
    /// Makes a snapshot of a valid configuration and the plugins that are
    /// loaded. Servers that `previous` has under the same name keep their
    /// state, and if their configuration is the same, their revision.
    #[must_use]
    pub fn new(config: Config, plugins: Option<&PluginHost>, previous: Option<&Snapshot>) -> Self {
        static REVISIONS: AtomicU64 = AtomicU64::new(0);
        let mut sets = HookSets::new(plugins);
        let proxy = config.proxy;
        let servers: HashMap<String, Arc<Server>> = config
            .servers
            .into_iter()
            .map(|config| {
                let old = previous.and_then(|previous| previous.servers.get(&config.id));
                let revision = match old {
                    Some(old) if old.config == config => old.revision,
                    _ => REVISIONS.fetch_add(1, Ordering::Relaxed),
                };
                let state = previous.and_then(|previous| previous.state_of(&config.id));
                let server = Server {
                    id: match old {
                        Some(old) => Arc::clone(&old.id),
                        None => config.id.as_str().into(),
                    },
                    revision,
                    state: state.unwrap_or_default(),
                    hooks: sets.get(&config.plugins, config.mode()),
                    proxy: Arc::clone(&proxy),
                    config,
                };
                (server.config.id.clone(), Arc::new(server))
            })
            .collect();
        let gone = previous.map(|previous| previous.gone_after(&servers));
        let met = config.plugins.iter().filter(|plugin| plugin.names(""));
        let met: Vec<String> = met.map(|plugin| plugin.id.clone()).collect();
        let unclaimed = sets.get(&met, UNCLAIMED_MODE);
        let (routes, conflicts) = RouteTable::build(servers.values().flat_map(|server| {
            server
                .config
                .domains
                .iter()
                .map(|domain| (domain.clone(), Arc::clone(server)))
        }));
        debug_assert!(
            conflicts.is_empty(),
            "validation lets no two servers claim one name: {conflicts:?}"
        );
        Self {
            proxy,
            routes,
            servers,
            gone: gone.unwrap_or_default(),
            unclaimed,
            plugins: config.plugins,
        }
    }

    /// The state of a server, which may have been removed.
    fn state_of(&self, id: &str) -> Option<Arc<ServerState>> {
        match self.servers.get(id) {
            Some(server) => Some(Arc::clone(&server.state)),
            None => self.gone.get(id)?.upgrade(),
        }
    }

    /// The state of servers that the next snapshot does not have.
    fn gone_after(
        &self,
        next: &HashMap<String, Arc<Server>>,
    ) -> HashMap<String, Weak<ServerState>> {
        let here = self.servers.iter();
        let here = here.map(|(id, server)| (id, Arc::downgrade(&server.state)));
        here.chain(self.gone.iter().map(|(id, state)| (id, Weak::clone(state))))
            .filter(|(id, state)| !next.contains_key(*id) && state.strong_count() > 0)
            .map(|(id, state)| (id.clone(), state))
            .collect()
    }

    /// The servers of a network that take a player who has lost a server, in their
    /// order.
    pub(crate) fn order(&self, network: &str) -> Vec<Arc<Server>> {
        let is_member = |server: &&Arc<Server>| server.config.network() == Some(network);
        if let Some(order) = self.proxy.network(network).order {
            let servers = order.iter().filter_map(|id| self.servers.get(id));
            return servers.filter(is_member).map(Arc::clone).collect();
        }
        let members = self.servers.values().filter(is_member);
        let mut members: Vec<_> = members.map(Arc::clone).collect();
        members.sort_by(|a, b| a.config.id.cmp(&b.config.id));
        members
    }

    /// The server of a network with this id.
    pub(crate) fn member(&self, network: &str, id: &str) -> Option<Arc<Server>> {
        let server = self.servers.get(id);
        let server = server.filter(|server| server.config.network() == Some(network));
        server.map(Arc::clone)
    }

    /// All servers of a network: those of its order first, then in alphabetical
    /// order.
    pub(crate) fn members(&self, network: &str) -> Vec<Arc<Server>> {
        let mut members = self.order(network);
        let is_listed = |id: &str| members.iter().any(|server| server.config.id == id);
        let others = self.servers.values().filter(|server| {
            server.config.network() == Some(network) && !is_listed(&server.config.id)
        });
        let mut others: Vec<_> = others.map(Arc::clone).collect();
        others.sort_by(|a, b| a.config.id.cmp(&b.config.id));
        members.append(&mut others);
        members
    }

    /// The configuration of this snapshot.
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
            plugins: self.plugins.clone(),
        }
    }
}

/// The hook sets of a snapshot: servers with the same plugins and mode share one.
struct HookSets<'a> {
    plugins: Option<&'a PluginHost>,
    made: HashMap<(Vec<String>, Mode), Arc<HookSet>>,
    /// The set of servers without plugins.
    none: Arc<HookSet>,
}

impl<'a> HookSets<'a> {
    fn new(plugins: Option<&'a PluginHost>) -> Self {
        Self {
            plugins,
            made: HashMap::new(),
            none: Arc::default(),
        }
    }

    fn get(&mut self, ids: &[String], mode: Mode) -> Arc<HookSet> {
        let Some(plugins) = self.plugins.filter(|_| !ids.is_empty()) else {
            return Arc::clone(&self.none);
        };
        let set = self
            .made
            .entry((ids.to_vec(), mode))
            .or_insert_with(|| Arc::new(plugins.hooks(ids.iter().map(String::as_str), mode)));
        Arc::clone(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::with_servers;

    fn config(ids: &[&str]) -> Config {
        config_with("", ids)
    }

    fn config_with(global: &str, ids: &[&str]) -> Config {
        let servers: Vec<_> = ids.iter().map(|id| (*id, "127.0.0.1")).collect();
        with_servers(global, &servers)
    }

    /// A server that is removed and added again counts the players who stayed, and clients
    /// that arrived before the removal and take their slot afterwards. Unused state is
    /// dropped.
    #[test]
    fn players_outlive_their_server() {
        let first = Snapshot::new(config(&["a", "b"]), None, None);
        let session = Arc::clone(&first.servers["a"]);
        let player = session.state.players.take(None).unwrap();
        let mut without = Snapshot::new(config(&["b"]), None, Some(&first));
        drop(first);
        without = Snapshot::new(config(&[]), None, Some(&without));
        without = Snapshot::new(config(&[]), None, Some(&without));
        assert_eq!(without.gone.len(), 1, "`b` is forgotten");
        let late = session.state.players.take(None).unwrap();
        let back = Snapshot::new(config(&["a", "b"]), None, Some(&without));
        assert_eq!(back.servers["a"].state.players.taken(), 2);
        assert!(back.gone.is_empty());
        drop((player, session));
        assert_eq!(back.servers["a"].state.players.taken(), 1);
        drop(late);
        assert_eq!(back.servers["a"].state.players.taken(), 0);
    }

    /// A connection with a server keeps the global file that it began with, also if a
    /// reload comes before it has its backend.
    #[test]
    fn a_connection_keeps_the_global_file_of_its_server() {
        let old = Snapshot::new(config(&["a"]), None, None);
        let server = Arc::clone(&old.servers["a"]);
        let changed = config_with("[keepalive]\ntime = \"7s\"\n", &["a"]);
        let new = Snapshot::new(changed, None, Some(&old));
        let default = old.proxy.keepalive;
        assert_ne!(new.proxy.keepalive, default);
        assert_eq!(server.proxy.keepalive, default);
        assert_eq!(new.servers["a"].proxy.keepalive, new.proxy.keepalive);
    }

    /// A client that has arrived and has no slot yet also keeps the count.
    #[test]
    fn clients_without_a_slot_keep_the_count() {
        let first = Snapshot::new(config(&["a"]), None, None);
        let client = Arc::clone(&first.servers["a"]);
        let mut without = Snapshot::new(config(&[]), None, Some(&first));
        drop(first);
        without = Snapshot::new(config(&[]), None, Some(&without));
        let _place = client.state.players.take(None).unwrap();
        let back = Snapshot::new(config(&["a"]), None, Some(&without));
        assert_eq!(back.servers["a"].state.players.taken(), 1);
    }
}
