//! The validated configuration.
//!
//! A value of these types is legal: combinations that a mode cannot give have no
//! representation here. Only [`validate`](super::validate) makes them. The
//! settings of a part of the proxy are defined in that part and re-exported here,
//! so that no part depends on the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use infrarust_plugin_abi::OnFailure;
use ipnet::IpNet;

use super::plugin_file::Sha;
pub use crate::forward::{Limits, Relay};
use crate::glob;
pub use crate::intercept::{
    ClientCompression, DuplicateLogin, HostForwarding, IdentityForwarding, LoginConfig, Secret,
};
pub(crate) use crate::limit::Quota;
use crate::manifest::Manifest;
use crate::mode::Mode;
pub use crate::permissions::{Admin, Permissions};
use crate::protocol::bungee::Subcommands;
pub use crate::protocol::status::Motd;
pub use crate::proxy_protocol::{Trust, Version as ProxyVersion};
use crate::route::HostPattern;
pub use crate::socket::Keepalive;
pub use crate::status_cache::StatusCache;
pub(crate) use crate::telemetry::LogFormat;
pub use crate::upstream::{BackendAddress, BackendHost};

/// The global file and every server file, as one snapshot.
#[derive(Debug, Clone)]
pub struct Config {
    /// The global file.
    pub proxy: Arc<ProxyConfig>,
    /// The servers, in the order of their ids.
    pub servers: Vec<Arc<ServerConfig>>,
    /// The enabled plugins, in the order of their tables.
    pub plugins: Vec<Arc<PluginConfig>>,
}

/// A plugin that is enabled.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// The name of its table: `a-z 0-9 _ - .`, at most 64 bytes.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 that the file must have.
    pub sha256: Option<Sha>,
    /// The servers on which it is called if their files do not list plugins: names and
    /// patterns.
    pub servers: Vec<String>,
    /// The effect of a failure; `None` is the default of each hook.
    pub on_failure: Option<OnFailure>,
    /// How long a hook may wait; `None` is the host's default.
    pub deadline: Option<Duration>,
    /// Its manifest.
    pub manifest: Manifest,
    /// The text of the global file, in which its own table is.
    pub document: Document,
}

impl PluginConfig {
    /// Whether its `servers` match a server. An empty id stands for clients without a
    /// server.
    #[must_use]
    pub fn names(&self, server: &str) -> bool {
        self.servers
            .iter()
            .any(|pattern| glob::matches(pattern, server))
    }
}

/// A TOML text. Its `Debug` form does not show it: secrets may stand in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Document(pub Arc<str>);

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(..)")
    }
}

/// The settings of the global file.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// Where to listen; at least one address, no two equal.
    pub bind: Vec<SocketAddr>,
    /// The folder of the server files.
    pub servers_dir: PathBuf,
    /// The folder of the plugins.
    pub plugins_dir: PathBuf,
    /// Where commands reach the running proxy.
    pub control_socket: PathBuf,
    /// The most clients at a time, status pings included, each from its complete login
    /// start or status request on; `None` means no limit.
    pub max_connections: Option<NonZeroU32>,
    /// How long a client may take until its login start or last status packet has arrived.
    pub handshake_timeout: Duration,
    /// How long sessions may continue after the first signal to stop.
    pub drain_timeout: Duration,
    /// Which peers must send a PROXY header, and are believed.
    pub proxy_protocol_in: Trust,
    /// The number of worker threads, for the runtime and for the relay each; `None` is one
    /// per core.
    pub worker_threads: Option<NonZeroUsize>,
    /// Whether `SO_REUSEPORT` is set on the listeners.
    pub so_reuseport: bool,
    /// What happens to a client with a virtual host that no server claims.
    pub unknown_domain: UnknownDomain,
    /// The answers to status pings for unknown hosts.
    pub default_motd: MotdSet,
    /// Logins and status pings per address and time.
    pub rate_limit: Option<RateLimit>,
    /// The cache of status answers.
    pub status_cache: StatusCache,
    /// How dead peers are detected.
    pub keepalive: Keepalive,
    /// Who may connect at all.
    pub ip_filter: IpFilter,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The settings of authentication and compression, for the intercepted modes.
    pub login: LoginConfig,
    /// The networks with a table, by their names. Others have the defaults.
    pub networks: BTreeMap<String, NetworkConfig>,
    /// Who may use commands of the proxy, in the intercepted modes.
    pub permissions: Permissions,
    /// Whether clients know the commands of the proxy that their players may use.
    pub announce_proxy_commands: bool,
    /// The subcommands that servers may use on the BungeeCord channel; `None` if it is off.
    pub bungeecord: Option<Subcommands>,
    /// The container engine; its labelled containers are servers.
    pub docker: Option<DockerConfig>,
}

impl ProxyConfig {
    /// The rules of a network.
    #[must_use]
    pub fn network(&self, name: &str) -> NetworkConfig {
        self.networks.get(name).cloned().unwrap_or_default()
    }
}

/// The rules of a network: servers between which players can move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The servers that take a player who has lost a server, in this order; `None` is
    /// all in alphabetical order.
    pub order: Option<Vec<String>>,
    /// What happens to a player who loses the backend.
    pub on_backend_loss: OnBackendLoss,
    /// Whether server lists show the players of the whole network.
    pub sum_players: bool,
    /// What happens at a second login of a player; `None` is the value of `[auth]`.
    pub duplicate_login: Option<DuplicateLogin>,
}

/// What happens to a player who loses the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBackendLoss {
    /// The player is moved to another server of the network.
    #[default]
    Fallback,
    /// The player is shown a text.
    Kick,
}

/// A container engine; its labelled containers are servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The network in which containers are dialled first.
    pub network: Option<String>,
    /// How often all containers are read; never zero.
    pub poll_interval: Duration,
    /// The first wait before a lost engine is asked again; never zero.
    pub reconnect_delay: Duration,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// On a socket in the file system.
    Unix(PathBuf),
    /// On a port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port; never zero.
        port: u16,
        /// TLS, if it is spoken there.
        tls: Option<TlsFiles>,
        /// The global `keepalive`: detects that the engine of a stream of events has
        /// vanished.
        keepalive: Keepalive,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// The files for TLS, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities.
    pub ca: PathBuf,
    /// The proxy's own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl ProxyConfig {
    /// The number of worker threads, for the runtime and for the relay each.
    #[must_use]
    pub fn workers(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.worker_threads.unwrap_or_else(cores)
    }
}

/// What happens to a client with a virtual host that no server claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownDomain {
    /// Status pings get the default MOTD, logins a text.
    DefaultMotd,
    /// Logins get a text, status pings are closed without an answer.
    Kick,
    /// Everything is closed without an answer.
    Drop,
}

/// How many logins and status pings one address (IPv6: one /64) may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Logins.
    pub logins: Option<Quota>,
    /// Status pings.
    pub status: Option<Quota>,
    /// Whether loopback addresses are limited too.
    pub limit_loopback: bool,
}

/// Which client addresses are let in: the deny list wins, and an empty allow
/// list allows everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpFilter {
    /// Only these, unless empty (`whitelist`).
    pub allow: Vec<IpNet>,
    /// Never these (`blacklist`).
    pub deny: Vec<IpNet>,
}

impl IpFilter {
    /// Whether a client with this address is let in. IPv4-mapped IPv6 addresses
    /// count as IPv4.
    #[must_use]
    pub fn permits(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

/// One server: a configured entry with its mode.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// `name`, or the stem of the file; unique, `a-z 0-9 _ - .`, at most 64 bytes.
    pub id: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// The virtual hosts that lead here.
    pub domains: Vec<HostPattern>,
    /// Where its backends are; at least one, in order of preference.
    pub addresses: Vec<BackendAddress>,
    /// The mode, and the settings that only this kind of mode has.
    pub kind: ServerKind,
    /// The PROXY header that is sent to the backend.
    pub send_proxy_protocol: Option<ProxyVersion>,
    /// How to rewrite the host in the handshake.
    pub domain_rewrite: DomainRewrite,
    /// Whether to forward a client's own `\0` tail that is not a mod loader's marker.
    pub host_tail: HostTail,
    /// The most players at a time; `None` means no limit.
    pub max_players: Option<NonZeroU32>,
    /// What a player reads when `max_players` is reached.
    pub full_message: String,
    /// What a player reads when no backend can be reached.
    pub disconnect_message: String,
    /// Timeouts of connecting and relaying.
    pub timeouts: Timeouts,
    /// Answers to status pings, by state.
    pub motd: MotdSet,
    /// Who may use this server.
    pub ip_filter: IpFilter,
    /// The ids of the plugins that take part, in the order in which they are
    /// asked. The mode gives each what it needs.
    pub plugins: Vec<String>,
    /// The ids of the plugins that are left out, because the mode cannot give
    /// what they need and their tables say `unsupported = "skip"`.
    pub plugins_left_out: Vec<String>,
}

impl ServerConfig {
    /// The network that it belongs to.
    #[must_use]
    pub fn network(&self) -> Option<&str> {
        self.intercepted()?.network.as_deref()
    }

    /// Its settings as a server of an intercepted mode, if it is one.
    #[must_use]
    pub fn intercepted(&self) -> Option<&Intercepted> {
        match &self.kind {
            ServerKind::Forwarding(_) => None,
            ServerKind::Intercepted(intercepted) => Some(intercepted),
        }
    }

    /// The mode of this server.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match &self.kind {
            ServerKind::Forwarding(forwarding) => match forwarding.mode {
                ForwardingMode::Passthrough => Mode::Passthrough,
                ForwardingMode::ZeroCopy => Mode::ZeroCopy,
                ForwardingMode::ServerOnly { .. } => Mode::ServerOnly,
            },
            ServerKind::Intercepted(intercepted) => match intercepted.mode {
                InterceptedMode::ClientOnly => Mode::ClientOnly,
                InterceptedMode::Offline => Mode::Offline,
            },
        }
    }
}

/// A server's mode with the settings that only its family has.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerKind {
    /// The proxy moves bytes.
    Forwarding(Forwarding),
    /// The proxy speaks the protocol.
    Intercepted(Intercepted),
}

/// Settings of the forwarding modes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forwarding {
    /// Which of them.
    pub mode: ForwardingMode,
    /// How the bytes are moved.
    pub relay: Relay,
    /// How the backend gets the player's identity, in the host field. It is not proved in
    /// these modes.
    pub identity: Option<HostForwarding>,
}

/// A forwarding mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardingMode {
    /// Copy.
    Passthrough,
    /// Splice.
    ZeroCopy,
    /// Copy, and the backend authenticates.
    ServerOnly {
        /// Whether the first answer of the backend is checked for authentication.
        auth_guard: bool,
    },
}

/// Settings of the intercepted modes.
#[derive(Debug, Clone, PartialEq)]
pub struct Intercepted {
    /// Which of them.
    pub mode: InterceptedMode,
    /// Its network: players can move between the servers of a network.
    pub network: Option<String>,
    /// Limbo handlers, tried in this order, for players without a backend.
    pub limbo_handlers: Vec<String>,
    /// How the backend gets the player's identity.
    pub identity: Option<IdentityForwarding>,
    /// Which packets to a client are compressed.
    pub compression: ClientCompression,
    /// Whether the backend may use the BungeeCord channel.
    pub bungeecord_channel: bool,
}

/// An intercepted mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterceptedMode {
    /// The proxy authenticates.
    ClientOnly,
    /// The player is not authenticated.
    Offline,
}

/// How to rewrite the host in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRewrite {
    /// The backend sees what the client sent.
    None,
    /// The backend sees this host.
    Explicit(String),
    /// The backend sees the configured host of the address that was connected.
    FromBackend,
}

/// Whether to forward a client's own `\0` tail that is not a mod loader's marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostTail {
    /// It is dropped: a backend that trusts such a tail would believe any client.
    Drop,
    /// It is forwarded.
    Keep,
}

/// Timeouts of connecting and relaying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The timeout of one TCP connect; never zero.
    pub connect: Duration,
    /// How long a session may wait.
    pub session: Limits,
}

/// The longest time that bytes may wait for a peer that does not read, in the intercepted
/// modes; [`Limits::write`] can only shorten it. Without a limit a session would hold the
/// bytes that it has read for ever.
pub(crate) const INTERCEPTED_WRITE_MAX: Duration = Duration::from_secs(30);

/// Answers to status pings, by state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MotdSet {
    /// Replaces parts of the backend's answer.
    pub online: Option<Motd>,
    /// Given when no backend answers.
    pub offline: Option<Motd>,
}

/// Whether a text for players is a JSON text component; any other text is shown unchanged.
///
/// It begins with `{`, or with `[` and what can follow in JSON, so that
/// `[EU] Survival` stays a text.
#[must_use]
pub fn is_text_component(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix('[') {
        Some(rest) => rest.trim_start().starts_with(['{', '[', '"', ']']),
        None => text.starts_with('{'),
    }
}
