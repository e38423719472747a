//! What may be typed: the keys of both kinds of file, without any logic.
//!
//! The first line of each key's comment is what the documents and editors show.

use crate::capability::Capability;
use crate::config::declare::keys;
use crate::config::entry::{List, Map};
use crate::config::keys::{Effect, Scope};
use crate::config::model::Relay;
use crate::config::types::{
    AddressText, Bind, Cidr, Count, DuplicateLoginWord, FilePath, ForwardingWord, Free,
    HostTailWord, LogFormatWord, OfflineUuidWord, OnBackendLossWord, OnFailureWord, Rewrite,
    Seconds, SecretSource, SendProxy, Time, TimeOrOff, UnknownDomainWord, UnsupportedWord, Whole,
};
use crate::mode::Mode;

/// A pattern of ids: those of servers, networks and plugins.
const ID: &str = "^[a-z0-9_-][a-z0-9_.-]{0,63}$";

/// A pattern of virtual hosts: names without scheme, port, path and separators.
const DOMAIN: &str = "^[^ \\t:/,;|\"']+$";

/// A pattern of names of commands.
const COMMAND: &str = "^[a-z0-9_-]{1,32}$";

/// A count of packets' bytes, or -1 for never.
type Threshold = Whole<-1, 2_097_151>;

keys! {
    /// The global file `infrarust.toml`.
    RawProxy, "`infrarust.toml`" {
        /// Where to listen: one address with a port, or a list of them. `[::]` accepts IPv4 players as well, unless the list also has an IPv4 address with the same port.
        // Where the game looks for a server.
        bind: Bind = r#""0.0.0.0:25565""# [effect: Some(Effect::NextStart)];
        /// The folder of the server files, relative to this file. If this key is not set, the folder may be missing.
        servers_dir: FilePath = r#""servers""# [effect: Some(Effect::AtOnce)];
        /// The folder of the plugins, relative to this file.
        plugins_dir: FilePath = r#""plugins""# [effect: Some(Effect::NextStart)];
        /// The socket through which commands such as `infrarust plugin reload` and `infrarust players` reach the running proxy, relative to this file. Only its owner may use it. After a change of this key, the commands find the running proxy only with the old path until its next start.
        control_socket: FilePath = r#""infrarust.sock""# [effect: Some(Effect::NextStart)];
        /// The most clients at a time, including status pings. A client counts as soon as its login start or status request has arrived; 0 means no limit.
        max_connections: Count = "0" [unit: Some("connections"), off: Some(0)];
        /// The timeout of one TCP connection attempt to a backend, if the server file has no `timeouts.connect`.
        // As in Infrarust v2: a lost SYN is sent again after 1 s and after 3 s, so two losses still pass.
        connect_timeout: Time = r#""5s""#;
        /// How long a client may take from its connection until its login start or last status packet has arrived: one deadline for everything before that.
        // A client on a slow line finishes its handshake in a second; the rest is for lost packets.
        handshake_timeout: Time = r#""10s""#;
        /// How long sessions may continue after the first signal to stop; `"0s"` ends them at once.
        // As in Infrarust v2: time for players to read a notice and leave.
        drain_timeout: TimeOrOff = r#""30s""# [effect: Some(Effect::AtOnce)];
        /// Whether clients come through a load balancer that sends a PROXY header. Name the balancer in `proxy_protocol_trusted`.
        receive_proxy_protocol: bool = "false";
        /// The networks from which connections must begin with a PROXY header, which the proxy believes; all other connections are direct clients. Without this list every connection must begin with one, and the proxy believes it.
        proxy_protocol_trusted: List<Cidr>;
        /// The number of worker threads of the runtime, and also of relay threads; 0 means one of each per core.
        worker_threads: Whole<0, 1024> = "0" [unit: Some("threads"), effect: Some(Effect::NextStart), auto: Some(0)];
        /// Whether `SO_REUSEPORT` is set on the listeners, so that several processes can share the port.
        so_reuseport: bool = "false" [effect: Some(Effect::NextStart)];
        /// What happens to a client when no server claims its virtual host.
        unknown_domain_behavior: UnknownDomainWord = r#""default_motd""#;
        /// The answers to status pings for hosts that no server claims (`online`), and while no backend answers, for servers without a `motd.offline` of their own (`offline`).
        default_motd: RawMotdSet;
        /// Logins and status pings per address and time.
        rate_limit: RawRateLimit;
        /// The cache of status answers.
        status_cache: RawStatusCache [effect: Some(Effect::NextStart)];
        /// TCP keepalive on both sides: how dead peers are found.
        keepalive: RawKeepalive;
        /// Which addresses may connect at all.
        ip_filter: RawIpFilter;
        /// How the proxy authenticates players, in `client_only`.
        auth: RawAuth;
        /// How backends get the identity of a player, for servers without keys of their own.
        forwarding: RawForwarding;
        /// Packets to the client of at least this many bytes are compressed; -1 means never. Without this key the proxy uses the threshold that the backend announces at the login, or 256, the game's default, if the backend does not compress.
        compression_threshold: Threshold [unit: Some("bytes"), off: Some(-1), scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// The log.
        log: RawLog;
        /// The networks of servers, each in a table with its name. A network without a table has the defaults.
        networks: Map<RawNetwork>;
        /// Who may use commands of the proxy.
        permissions: RawPermissions;
        /// Whether clients complete the commands of the proxy that their players may use, in addition to those of the backend. The commands work either way.
        announce_proxy_commands: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// The channel on which backends ask the proxy about players and servers, as they ask BungeeCord.
        plugin_messaging: RawPluginMessaging;
        /// The plugins, each in a table with its id as the name.
        plugins: Map<RawPlugin>;
        /// Servers from the labels of containers. Without this table the proxy does not look for containers.
        docker: RawDocker [effect: Some(Effect::AtOnce)];
        unsupported {
            "connect_max_attempts" => "how many addresses are tried for a join; here all are tried";
            "ban" => "bans";
            "web" => "the HTTP interface";
            "active_health" => "probes of backends";
            "events" => "times of plugin handlers";
            "telemetry" => "OpenTelemetry";
            "metrics" => "a part of `telemetry`; here it is meant for Prometheus";
            "wasm" => "WebAssembly plugins";
        }
    }

    /// The answers to status pings, by state.
    RawMotdSet, "a MOTD table" {
        /// In a server file: what is written here replaces that part of the backend's answer. In `default_motd`: the whole answer for hosts that no server claims.
        online: RawMotd;
        /// The answer when no backend answers. In `default_motd`: for all servers without their own.
        offline: RawMotd;
        /// Another name of `offline`.
        unreachable: RawMotd;
        unsupported {
            "sleeping" => "the answer of a server that the proxy has put to sleep";
            "starting" => "the answer of a server that the proxy is starting";
            "crashed" => "the answer of a server that has crashed";
            "stopping" => "the answer of a server that the proxy is stopping";
        }
    }

    /// One answer to a status ping. In `motd.online`, the backend's value is used for each key that is not set; in the other tables there is no backend, and such a part is left out of the answer.
    RawMotd, "a MOTD" {
        /// The description: legacy `§` text, or a JSON text component.
        text: String;
        /// A 64 × 64 PNG: a path relative to this file, base64, or a `data:` URI.
        favicon: String;
        /// The name of a version. A client shows it in place of the number of players if the answer is for another version than its own. If the proxy makes the answer itself, a name without a version of the game, such as `Maintenance`, is shown to all clients, and a name with one, such as `Paper 1.21.4`, to none.
        version_name: String;
        /// The number of slots shown.
        max_players: Whole<0, 2_147_483_647> [unit: Some("players")];
    }

    /// How many logins and status pings one address may make; for IPv6 one /64 counts as an address. Loopback is exempt.
    RawRateLimit, "`rate_limit`" {
        /// Whether there is a limit.
        enabled: bool = "true";
        /// Logins of one address: this many may come at once, and the number refills evenly within `window`, so that up to twice as many are possible in one `window`; 0 means no limit.
        // As in Infrarust v2: a household behind one address passes.
        max_connections: Count = "20" [unit: Some("logins"), off: Some(0)];
        /// The time after which the full number of logins is available again.
        window: Time = r#""10s""#;
        /// Status pings of one address, counted as logins are; 0 means no limit.
        // The server list of one client refreshes often.
        status_max: Count = "100" [unit: Some("pings"), off: Some(0)];
        /// The time after which the full number of status pings is available again.
        status_window: Time = r#""10s""#;
        /// Whether loopback addresses are limited too.
        limit_loopback: bool = "false";
    }

    /// The cache of status answers.
    RawStatusCache, "`status_cache`" {
        /// How long an answer is used; `"0s"` switches the cache off. While the next answer is fetched for one client, the others get the last good one, for up to 30 s more.
        // As in Infrarust v2.
        ttl: TimeOrOff = r#""5s""#;
        /// How many answers are kept; an answer over 32 KiB counts once for each 32 KiB.
        // As in Infrarust v2: at most 32 MiB of packets.
        max_entries: Whole<1, 1_000_000> = "1000" [unit: Some("answers")];
    }

    /// TCP keepalive. A peer that leaves `time` + `retries` × `interval` without an answer counts as dead. On Linux the same time bounds how long sent bytes may wait: a peer that is alive but does not read, so that its receive window stays full for that long, is disconnected as well.
    RawKeepalive, "`keepalive`" {
        /// Silence before the first probe, in whole seconds.
        // With the next two, as in Infrarust v2: a dead peer is found within a minute.
        time: Seconds = r#""30s""#;
        /// Time between probes, in whole seconds.
        interval: Seconds = r#""10s""#;
        /// Unanswered probes before the peer counts as dead.
        retries: Whole<1, 127> = "3" [unit: Some("probes")];
    }

    /// Which client addresses may connect. A status ping from another address is closed without an answer.
    RawIpFilter, "`ip_filter`" {
        /// Only these networks, unless the list is empty.
        whitelist: List<Cidr> = "[]";
        /// Never these networks; this list wins.
        blacklist: List<Cidr> = "[]";
    }

    /// How the proxy authenticates players.
    RawAuth, "`auth`" {
        /// The `hasJoined` address of the session server; Mojang's if this key is not set.
        session_url: String [scope: Scope::Only(&[Mode::ClientOnly]), pattern: Some("^https?://[^/?#]")];
        /// Whether the player's address is sent to the session server, so that it refuses players who proved their name from another one. It breaks players who use IPv4 and IPv6 at once, or a VPN.
        prevent_proxy_connections: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly])];
        /// Which player id an unauthenticated player gets: the one that servers in offline mode make from the name, or the one that the client claims.
        offline_uuid: OfflineUuidWord = r#""offline""# [scope: Scope::Only(&[Mode::Offline])];
        /// What happens when a player who is already logged in on the server logs in again: the second login is refused, or it replaces the first.
        duplicate_login: DuplicateLoginWord = r#""refuse""# [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
    }

    /// A network: the servers whose files name it.
    RawNetwork, "a network's table" {
        /// The servers that take a player who has lost a server, in this order. Without the key these are all servers of the network, including those from containers, in alphabetical order.
        order: List<String> [pattern: Some(ID), scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// What happens to a player who loses the backend or is kicked by it.
        on_backend_loss: OnBackendLossWord = r#""fallback""# [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// Whether server lists show how many players are on all servers of the network, in place of the number that the backend of the one server gives.
        sum_players: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// As `auth.duplicate_login`, for logins on all servers of this network.
        duplicate_login: DuplicateLoginWord [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
    }

    /// Who may use commands of the proxy. A player does not see a command without permission for it, and the backend gets what the player types. If a reload removes a permission, that has effect at once. A new permission has effect when the player next comes to a server.
    RawPermissions, "`permissions`" {
        /// The players who may use all commands: names, or player ids, which stay when a player changes the name. They need `client_only`, where the proxy authenticates.
        admins: List<String> = "[]" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// The names of the commands that every player may use, without the slash: `server`, `glist`, `find`, `send`, and those that plugins leave to this list.
        player_commands: List<String> = "[]" [pattern: Some(COMMAND), scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// Whether names and ids make admins in `offline` too, where everybody can take any name.
        trust_offline_admins: bool = "false" [scope: Scope::Only(&[Mode::Offline])];
        unsupported {
            "provider" => "permissions from a plugin";
        }
    }

    /// The BungeeCord plugin channel.
    RawPluginMessaging, "`plugin_messaging`" {
        /// Whether servers with `bungeecord_channel = true` may use the channel.
        bungeecord: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// What they may ask for.
        bungeecord_permissions: RawBungeecordPermissions;
    }

    /// What backends may ask for on the BungeeCord plugin channel.
    // The defaults are those of Infrarust v2: what acts on other players is off.
    RawBungeecordPermissions, "`bungeecord_permissions`" {
        /// `Connect`, with which a backend moves the player of the connection.
        connect: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `ConnectOther`, with which a backend moves another player.
        connect_other: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `IP`, with which a backend asks for the address of the player.
        ip: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `IPOther`, with which a backend asks for the address of another player.
        ip_other: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `PlayerCount`, with which a backend asks how many players are on a server.
        player_count: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `PlayerList`, with which a backend asks who is on a server.
        player_list: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `GetServers`, with which a backend asks for the names of the servers.
        get_servers: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `GetServer`, with which a backend asks for its own name.
        get_server: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `GetPlayerServer`, with which a backend asks where a player is.
        get_player_server: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `Forward`, with which a backend sends data to other servers.
        forward: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `ForwardToPlayer`, with which a backend sends data to the server of a player.
        forward_to_player: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `UUID`, with which a backend asks for the id of the player.
        uuid: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `UUIDOther`, with which a backend asks for the id of another player.
        uuid_other: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `ServerIP`, with which a backend asks for the address of a server.
        server_ip: bool = "true" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `Message`, with which a backend sends a player a text.
        message: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `MessageRaw`, with which a backend sends a player a JSON text component.
        message_raw: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `KickPlayer`, with which a backend sends a player away with a text.
        kick_player: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// `KickPlayerRaw`, with which a backend sends a player away with a JSON text component.
        kick_player_raw: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
    }

    /// How backends learn who a player is.
    RawForwarding, "`forwarding`" {
        /// How the identity is sent. `velocity` applies only to servers in `client_only` and `offline`.
        mode: ForwardingWord = r#""none""#;
        /// The secret for `velocity` and `bungeeguard`: the text itself, `{ file = "…" }` or `{ env = "…" }`.
        secret: SecretSource [secret: true];
        /// The file that holds the secret, relative to this file. If neither this key nor `secret` is set, `forwarding.secret` is read if it exists.
        secret_file: FilePath = r#""forwarding.secret""#;
        unsupported {
            "bungeecord_channel" => "the BungeeCord plugin channel";
            "channel_permissions" => "the BungeeCord plugin channel";
        }
    }

    /// The log.
    RawLog, "`log`" {
        /// The format.
        format: LogFormatWord = r#""text""# [effect: Some(Effect::NextStart)];
    }

    /// The container engine; its labelled containers are servers.
    RawDocker, "`docker`" {
        /// Where the engine listens: `unix:///path` or `tcp://host:port`.
        endpoint: String = r#""unix:///var/run/docker.sock""# [pattern: Some("^(unix:///.|tcp://.+:[0-9]+/?$)")];
        /// The network through which the proxy dials containers. A container that is not in it is dialled through a network that it shares with the proxy, or else at a published port.
        network: String;
        /// How often the proxy asks for all containers, in addition to the events that the engine sends.
        // As in Infrarust v2; events report nearly every change at once.
        poll_interval: Time = r#""30s""#;
        /// The wait before the proxy asks an engine again that it cannot reach; it doubles up to five seconds, and a random part of up to half is taken off.
        // An engine that restarts is back within a second or two.
        reconnect_delay: Time = r#""1s""#;
        /// The folder with the secret files that labels may name, relative to this file. Without this key labels cannot name such files.
        secrets_dir: FilePath;
        /// The folder with the favicons that labels may name, relative to this file. Without this key labels cannot name such files.
        favicons_dir: FilePath;
        /// TLS towards a `tcp://` endpoint.
        tls: RawDockerTls;
    }

    /// TLS towards the engine.
    RawDockerTls, "`docker.tls`" {
        /// The file with the certificates of the authorities that the engine's certificate may come from, in PEM. Required in this table.
        ca: FilePath;
        /// The file with the proxy's own certificate, in PEM.
        cert: FilePath;
        /// The file with the key of that certificate, in PEM.
        key: FilePath;
    }

    /// A plugin.
    RawPlugin, "a plugin's table" {
        /// Whether the plugin is loaded.
        enabled: bool = "true";
        /// The file of the plugin, relative to this file; without this key `lib<id>.so` in `plugins_dir`, with `_` for `-`.
        path: FilePath;
        /// The servers on which the plugin is called: names, or patterns with `*` and `?`.
        servers: List<String> = r#"["*"]"#;
        /// What happens to a connection when the plugin fails; without it each hook has its own default.
        on_failure: OnFailureWord;
        /// How long a call of a hook of the plugin may take; two seconds without this key.
        deadline: Time;
        /// The SHA-256 of the file, in 64 hexadecimal digits: another file is refused.
        sha256: String [pattern: Some("^[0-9a-fA-F]{64}$")];
        /// What happens on a server with a mode that does not offer what the plugin needs.
        unsupported: UnsupportedWord = r#""error""#;
        /// The plugin's own settings.
        config: Free;
        unsupported {
            "permissions" instead_of path unless config => "capabilities of a WebAssembly plugin, which is not loaded here";
            "deny" instead_of path unless config => "capabilities of a WebAssembly plugin, which is not loaded here";
            "strict_capabilities" instead_of path unless config => "capabilities of a WebAssembly plugin, which is not loaded here";
            "wasm" instead_of path unless config => "limits of a WebAssembly plugin, which is not loaded here";
        }
    }

    /// A server file `servers/<id>.toml`.
    RawServer, "a server file" {
        /// Another name of the key `name`, which takes precedence. Without both, the id of the server is the file's name without `.toml`; it must be a valid id, so `Lobby.toml` needs a `name`.
        id: String [pattern: Some(ID)];
        /// The id of the server, of letters `a` to `z`, digits, `_`, `-` and `.`, at most 64 characters.
        name: String [pattern: Some(ID)];
        /// The virtual hosts that lead here: names, or patterns in which `*` is any text, dots included, and `?` one character. A name takes precedence over a pattern, and of two patterns the one with more literal characters, or the first in alphabetical order if these are equal. A port after the client's host and the labels of an SRV record before it are ignored. Required in `passthrough`, `zero_copy` and `server_only`.
        domains: List<String> = "[]" [pattern: Some(DOMAIN)];
        /// The backends, in the order in which they are tried: `host`, `host:port` or `[IPv6]:port`. For a name with a dot and without a port the proxy uses the SRV record `_minecraft._tcp`, as the game does; otherwise the port is 25565. At least one is required. `{ address = "…" }` is accepted too.
        addresses: List<AddressText> [is_filled: true];
        /// How much the proxy takes part in a connection.
        proxy_mode: Mode = r#""passthrough""#;
        /// How bytes are moved: in `zero_copy` `splice` (the default) or `adaptive`, in `passthrough` and `server_only` `copy` (the default) or `adaptive`. docs/performance.md says when to choose which.
        relay: Relay [scope: Scope::Only(&[Mode::Passthrough, Mode::ZeroCopy, Mode::ServerOnly])];
        /// Whether the backend's first answer is checked: if it lets a player in without authentication, the session ends.
        auth_guard: bool = "true" [scope: Scope::Only(&[Mode::ServerOnly])];
        /// The network that the server belongs to: a player who loses the backend is moved to another of its servers.
        network: String [scope: Scope::Needs(Capability::NetworkMember), pattern: Some(ID)];
        /// Not supported yet; the proxy ignores it with a warning. Infrarust v2 uses it for players without a backend.
        limbo_handlers: List<String> = "[]" [scope: Scope::Needs(Capability::Limbo)];
        /// As the global key, for this server.
        compression_threshold: Threshold [unit: Some("bytes"), off: Some(-1), scope: Scope::Needs(Capability::ClientCompression)];
        /// How the backend gets the identity of the player; `forwarding.mode` if this key is not set. `velocity` needs `client_only` or `offline`.
        forwarding_mode: ForwardingWord;
        /// The secret for this server's `forwarding_mode`: the text itself, `{ file = "…" }` or `{ env = "…" }`; the global secret if this key is not set.
        forwarding_secret: SecretSource [secret: true];
        /// Whether a PROXY header with the client's address is sent to the backend: `true` and `"v2"` send the binary form, `"v1"` the text form.
        send_proxy_protocol: SendProxy = "false";
        /// The host that the backend sees in the handshake: the client's, the configured host of the address, or the one given as `{ explicit = "host" }`.
        domain_rewrite: Rewrite = r#""none""#;
        /// Whether the backend gets data that the client appends to the host after a `\0`, as Geyser does for Floodgate. Markers of mod loaders and the data of TCPShield (`///`) and Infinity Filter (`\\`) are always sent. At logins with `bungeecord` or `bungeeguard` the identity of the player takes the place of that data. Do not use `keep` for a backend that trusts forwarded identities in such data: any client could write them.
        host_tail: HostTailWord = r#""drop""#;
        /// The most players at a time; 0 means no limit.
        max_players: Count = "0" [unit: Some("players"), off: Some(0)];
        /// What a player reads when `max_players` is reached: text, or a JSON text component.
        full_message: String = r#""The server is full.""#;
        /// What a player reads when no backend can be reached, or when all of them close the connection before their first byte: text, or a JSON text component.
        disconnect_message: String = r#""The server cannot be reached right now.""#;
        /// Times of connecting and relaying.
        timeouts: RawTimeouts;
        /// How long one direction may continue after the other has ended.
        // Nothing that a game sends after its other side has ended takes longer.
        half_close_timeout: Time = r#""60s""#;
        /// The answers to status pings, by state.
        motd: RawMotdSet;
        /// Which client addresses may use this server. Logins from other addresses get a text; the global `ip_filter` closes connections without one.
        ip_filter: RawIpFilter;
        /// Whether the server may use the BungeeCord plugin channel, if `plugin_messaging.bungeecord` is also `true`. It sees only the players and servers of its own network.
        bungeecord_channel: bool = "false" [scope: Scope::Only(&[Mode::ClientOnly, Mode::Offline])];
        /// The plugins that are called on this server, in this order; without the key, all plugins with a `servers` entry that matches.
        plugins: List<String> [pattern: Some(ID)];
        unsupported {
            "balance" => "how players are shared between addresses; here they are tried in turn";
            "slow_start" => "sending few players to a backend that has just come back";
            "slow_start_aggression" => "sending few players to a backend that has just come back";
            "active_health" => "probes of backends";
            "server_manager" => "starting and stopping the server";
        }
    }

    /// Times of connecting and relaying.
    RawTimeouts, "`timeouts`" {
        /// The timeout of one TCP connection attempt; the global `connect_timeout` if this key is not set.
        connect: Time;
        /// How long one direction may stay silent; without this key there is no limit.
        read: Time;
        /// How long bytes may wait for a peer that does not read. Without this key there is no such limit in the forwarding modes; in `client_only` and `offline` the limit is never more than 30 s. On Linux `[keepalive]` disconnects a peer whose receive window stays full, even if it is alive.
        write: Time;
    }
}
