//! The global file.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::{Context, ProxyFile, docker, filters, motd};
use crate::config::entry::{Entry, Given};
use crate::config::load;
use crate::config::model::{
    DuplicateLogin, Keepalive, LogFormat, LoginConfig, ProxyConfig, Quota, RateLimit, StatusCache,
    Trust, UnknownDomain,
};
use crate::config::raw::{RawKeepalive, RawProxy, RawRateLimit, RawStatusCache};
use crate::config::types::{DuplicateLoginWord, LogFormatWord, OfflineUuidWord, UnknownDomainWord};
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic};

/// Where the game looks for a server.
const BIND_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 25565);
/// A client on a slow line finishes its handshake in a second; the rest is for lost packets.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As Infrarust v2: time for players to read a notice and leave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes from which compression costs less than it saves: the game's own default.
const COMPRESSION_THRESHOLD: u32 = 256;
/// Logins of one address in [`RATE_WINDOW`]: a household behind one address passes.
const RATE_LOGINS: u32 = 20;
/// Status pings of one address in [`RATE_WINDOW`]: a client's list refreshes often.
const RATE_STATUS: u32 = 100;
/// The longest address of a session server that a help repeats, in bytes.
const SESSION_URL_BYTES_REPEATED_MAX: usize = 100;
/// The window of both limits, as Infrarust v2.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// How long a status answer is good, as Infrarust v2.
const STATUS_TTL: Duration = Duration::from_secs(5);
/// How many answers are kept, as Infrarust v2: at most 32 MiB of packets.
const STATUS_ENTRIES: u64 = 1000;

/// The value of a key or its default; `None` when it is written badly.
pub(super) fn value_or<T, U>(
    entry: &Entry<T>,
    default: U,
    read: impl FnOnce(&T) -> U,
) -> Option<U> {
    match entry {
        Entry::Absent => Some(default),
        Entry::Broken(_) => None,
        Entry::Given(given) => Some(read(&given.value)),
    }
}

/// What the global file means.
pub(super) fn proxy(
    file: &ProxyFile,
    raw: &RawProxy,
    context: &mut Context<'_>,
) -> Option<ProxyConfig> {
    let bind = bind(file, raw, context);
    let proxy_protocol_in = proxy_protocol_in(raw, bind.as_deref(), context);
    let default_motd = motd::set(&raw.default_motd, context);
    let ip_filter = filters::ip_filter(&raw.ip_filter);
    let keepalive = keepalive(&raw.keepalive);
    let docker = docker::docker(
        &raw.docker,
        keepalive.unwrap_or(Keepalive::DEFAULT),
        context,
    );
    Some(ProxyConfig {
        bind: bind?,
        servers_dir: file.servers_dir.clone(),
        plugins_dir: file.plugins_dir.clone(),
        control_socket: {
            let default = PathBuf::from(load::CONTROL_SOCKET);
            let path = value_or(&raw.control_socket, default, |path| path.0.clone())?;
            context.resolve(file.file, &path)
        },
        max_connections: value_or(&raw.max_connections, None, |n| NonZeroU32::new(n.get()))?,
        handshake_timeout: value_or(&raw.handshake_timeout, HANDSHAKE_TIMEOUT, |t| t.0)?,
        drain_timeout: value_or(&raw.drain_timeout, DRAIN_TIMEOUT, |t| t.0)?,
        proxy_protocol_in: proxy_protocol_in?,
        worker_threads: value_or(&raw.worker_threads, None, |n| {
            usize::try_from(n.get()).ok().and_then(NonZeroUsize::new)
        })?,
        so_reuseport: value_or(&raw.so_reuseport, false, |on| *on)?,
        unknown_domain: value_or(
            &raw.unknown_domain_behavior,
            UnknownDomain::DefaultMotd,
            |word| match word {
                UnknownDomainWord::DefaultMotd => UnknownDomain::DefaultMotd,
                UnknownDomainWord::Kick => UnknownDomain::Kick,
                UnknownDomainWord::Drop => UnknownDomain::Drop,
            },
        )?,
        default_motd: default_motd?,
        rate_limit: rate_limit(&raw.rate_limit)?,
        status_cache: status_cache(&raw.status_cache)?,
        keepalive: keepalive?,
        ip_filter: ip_filter?,
        log_format: match &raw.log {
            Entry::Absent => LogFormat::Text,
            Entry::Broken(_) => return None,
            Entry::Given(log) => value_or(&log.value.format, LogFormat::Text, |word| match word {
                LogFormatWord::Text => LogFormat::Text,
                LogFormatWord::Json => LogFormat::Json,
            })?,
        },
        login: login(raw, context)?,
        docker: docker?,
    })
}

/// How the proxy lets players in, in the intercepted modes.
fn login(raw: &RawProxy, context: &mut Context<'_>) -> Option<LoginConfig> {
    let compression_threshold = threshold(&raw.compression_threshold, Some(COMPRESSION_THRESHOLD));
    let mut config = LoginConfig {
        session_url: None,
        prevent_proxy_connections: false,
        uuid_of_client: false,
        duplicate_login: DuplicateLogin::Refuse,
        compression_threshold: compression_threshold?,
    };
    let auth = match &raw.auth {
        Entry::Absent => return Some(config),
        Entry::Broken(_) => return None,
        Entry::Given(auth) => &auth.value,
    };
    config.session_url = match &auth.session_url {
        Entry::Absent => None,
        Entry::Broken(_) => return None,
        Entry::Given(given) => Some(session_url(given, context)?),
    };
    config.prevent_proxy_connections = value_or(&auth.prevent_proxy_connections, false, |on| *on)?;
    config.uuid_of_client = value_or(&auth.offline_uuid, false, |word| {
        *word == OfflineUuidWord::Client
    })?;
    let policy = |word: &DuplicateLoginWord| match word {
        DuplicateLoginWord::Refuse => DuplicateLogin::Refuse,
        DuplicateLoginWord::Replace => DuplicateLogin::Replace,
    };
    config.duplicate_login = value_or(&auth.duplicate_login, DuplicateLogin::Refuse, policy)?;
    Some(config)
}

/// Where to listen: the command line, else the file, else the game's port.
fn bind(file: &ProxyFile, raw: &RawProxy, context: &mut Context<'_>) -> Option<Vec<SocketAddr>> {
    let written = match &raw.bind {
        Entry::Absent => vec![BIND_DEFAULT],
        Entry::Broken(_) => return None,
        Entry::Given(given) => {
            let items = &given.value.0.items;
            let mut is_broken = given.value.0.is_broken;
            let mut addresses = Vec::with_capacity(items.len());
            for item in items {
                // Port 0 asks the system for any free port, each time another.
                if item.value.port() != 0 && addresses.contains(&item.value) {
                    let message = format!("`{}` is already in the list", item.value);
                    context.bad_value(item.place, message, "remove one of them");
                    is_broken = true;
                }
                addresses.push(item.value);
            }
            if is_broken {
                return None;
            }
            addresses
        }
    };
    if file.bind.is_empty() {
        Some(written)
    } else {
        Some(file.bind.clone())
    }
}

/// Whose PROXY headers are believed.
fn proxy_protocol_in(
    raw: &RawProxy,
    bind: Option<&[SocketAddr]>,
    context: &mut Context<'_>,
) -> Option<Trust> {
    let receive = value_or(&raw.receive_proxy_protocol, false, |on| *on)?;
    let trusted = filters::networks(&raw.proxy_protocol_trusted)?;
    let key = raw.proxy_protocol_trusted.key();
    if let (false, Some(key)) = (receive, key) {
        let diagnostic = Diagnostic::new(
            Code::NoEffect,
            key,
            "`proxy_protocol_trusted` does nothing without `receive_proxy_protocol = true`",
        );
        let diagnostic = match raw.receive_proxy_protocol.given() {
            Some(given) => diagnostic.label(given.place, "switched off here"),
            None => diagnostic.because("`receive_proxy_protocol` is not written and is `false`"),
        };
        context.push(diagnostic.help("write `receive_proxy_protocol = true`, or remove the list"));
    }
    if !receive {
        return Some(Trust::Off);
    }
    if key.is_some() {
        if let (true, Some(given)) = (trusted.is_empty(), raw.receive_proxy_protocol.given()) {
            context.push(
                Diagnostic::new(
                    Code::NoEffect,
                    given.key,
                    "`receive_proxy_protocol` does nothing: nobody is trusted",
                )
                .label(
                    raw.proxy_protocol_trusted.key().unwrap_or(given.key),
                    "this list is empty",
                )
                .help("name the addresses of the load balancer in the list"),
            );
        }
        return Some(Trust::From(trusted));
    }
    let is_open = bind.is_some_and(|bind| bind.iter().any(|address| !address.ip().is_loopback()));
    if let (true, Some(given)) = (is_open, raw.receive_proxy_protocol.given()) {
        let diagnostic = Diagnostic::new(
            Code::OpenProxyProtocol,
            given.key,
            "every client may claim any address: no list says whose PROXY headers are believed",
        )
        .because("bans, limits and filters then see what the client made up")
        .help("name the load balancer: `proxy_protocol_trusted = [\"192.0.2.10\"]`");
        context.push(match raw.bind.given() {
            Some(bind) => diagnostic.label(bind.place, "others than this machine can connect here"),
            None => diagnostic,
        });
    }
    Some(Trust::Anyone)
}

fn rate_limit(entry: &Entry<RawRateLimit>) -> Option<Option<RateLimit>> {
    let plain = RawRateLimit::default();
    let raw = match entry {
        Entry::Absent => &plain,
        Entry::Broken(_) => return None,
        Entry::Given(given) => &given.value,
    };
    let quota = |count: u32, window| NonZeroU32::new(count).map(|count| Quota { count, window });
    let logins = value_or(&raw.max_connections, RATE_LOGINS, |n| n.get())?;
    let window = value_or(&raw.window, RATE_WINDOW, |t| t.0)?;
    let status = value_or(&raw.status_max, RATE_STATUS, |n| n.get())?;
    let status_window = value_or(&raw.status_window, RATE_WINDOW, |t| t.0)?;
    let limit = RateLimit {
        logins: quota(logins, window),
        status: quota(status, status_window),
        limit_loopback: value_or(&raw.limit_loopback, false, |on| *on)?,
    };
    Some(value_or(&raw.enabled, true, |on| *on)?.then_some(limit))
}

fn status_cache(entry: &Entry<RawStatusCache>) -> Option<StatusCache> {
    let plain = RawStatusCache::default();
    let raw = match entry {
        Entry::Absent => &plain,
        Entry::Broken(_) => return None,
        Entry::Given(given) => &given.value,
    };
    Some(StatusCache {
        ttl: value_or(&raw.ttl, STATUS_TTL, |t| t.0)?,
        max_entries: value_or(&raw.max_entries, STATUS_ENTRIES, |n| n.0.unsigned_abs())?,
    })
}

fn keepalive(entry: &Entry<RawKeepalive>) -> Option<Keepalive> {
    let plain = RawKeepalive::default();
    let raw = match entry {
        Entry::Absent => &plain,
        Entry::Broken(_) => return None,
        Entry::Given(given) => &given.value,
    };
    Some(Keepalive {
        time: value_or(&raw.time, Keepalive::DEFAULT.time, |t| t.0)?,
        interval: value_or(&raw.interval, Keepalive::DEFAULT.interval, |t| t.0)?,
        retries: value_or(&raw.retries, Keepalive::DEFAULT.retries, |n| {
            u32::try_from(n.0).unwrap_or(Keepalive::DEFAULT.retries)
        })?,
    })
}

/// Packets from which size are compressed; -1 is none.
pub(super) fn threshold<const MAX: i64>(
    entry: &Entry<crate::config::types::Whole<-1, MAX>>,
    default: Option<u32>,
) -> Option<Option<u32>> {
    value_or(entry, default, |n| u32::try_from(n.0).ok())
}

fn session_url(given: &Given<String>, context: &mut Context<'_>) -> Option<String> {
    let url = &given.value;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .unwrap_or("");
    let is_clean = !url.contains(|c: char| c.is_whitespace() || c.is_control());
    if host.is_empty() || !is_clean {
        let bare = url.trim().trim_start_matches('/');
        let is_plain = !bare.is_empty()
            && bare.len() <= SESSION_URL_BYTES_REPEATED_MAX
            && !bare.contains("://")
            && bare
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '`'));
        let help = if is_plain && !bare.starts_with(['?', '#']) {
            format!("write `\"https://{bare}\"`")
        } else {
            "write an address that begins with `https://` or `http://`".to_owned()
        };
        context.bad_value(
            given.place,
            format!("{} is not the address of a session server", Quoted(url)),
            help,
        );
        return None;
    }
    Some(url.clone())
}
