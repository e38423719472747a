//! The global file.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use super::{Context, ProxyFile, compression, docker, filters, motd, networks, permissions};
use crate::config::entry::{Entry, Given, Reported};
use crate::config::model::{
    Keepalive, LogFormat, LoginConfig, ProxyConfig, Quota, RateLimit, StatusCache, Trust,
    UnknownDomain,
};
use crate::config::raw::{
    RawAuth, RawBungeecordPermissions, RawKeepalive, RawLog, RawPluginMessaging, RawProxy,
    RawRateLimit, RawStatusCache,
};
use crate::config::types::{LogFormatWord, OfflineUuidWord, UnknownDomainWord};
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic};
use crate::protocol::bungee::{Subcommand, Subcommands};

/// The longest address of a session server that a help repeats, in bytes.
const SESSION_URL_BYTES_REPEATED_MAX: usize = 100;

/// The settings of the global file.
pub(super) fn proxy(
    file: &ProxyFile,
    raw: &RawProxy,
    context: &mut Context<'_>,
) -> Result<ProxyConfig, Reported> {
    let bind = bind(file, raw, context);
    let proxy_protocol_in = proxy_protocol_in(raw, bind.as_deref().ok(), context);
    let default_motd = motd::set(&raw.default_motd, context);
    let ip_filter = filters::ip_filter(&raw.ip_filter);
    let keepalive = keepalive(&raw.keepalive);
    let networks = networks::tables(raw, context);
    let permissions = permissions::permissions(raw, context);
    let docker = docker::docker(&raw.docker, keepalive, context);
    Ok(ProxyConfig {
        bind: bind?,
        servers_dir: file.servers_dir.clone(),
        plugins_dir: file.plugins_dir.clone(),
        control_socket: context.resolve(file.file, &raw.control_socket()?.0),
        max_connections: NonZeroU32::new(raw.max_connections()?.get()),
        handshake_timeout: raw.handshake_timeout()?.0,
        drain_timeout: raw.drain_timeout()?.0,
        proxy_protocol_in: proxy_protocol_in?,
        worker_threads: {
            let threads = usize::try_from(raw.worker_threads()?.get());
            threads.ok().and_then(NonZeroUsize::new)
        },
        so_reuseport: *raw.so_reuseport()?,
        unknown_domain: match raw.unknown_domain_behavior()? {
            UnknownDomainWord::DefaultMotd => UnknownDomain::DefaultMotd,
            UnknownDomainWord::Kick => UnknownDomain::Kick,
            UnknownDomainWord::Drop => UnknownDomain::Drop,
        },
        default_motd: default_motd?,
        rate_limit: rate_limit(&raw.rate_limit)?,
        status_cache: status_cache(&raw.status_cache)?,
        keepalive: keepalive?,
        ip_filter: ip_filter?,
        log_format: match raw.log.or(&RawLog::default())?.format()? {
            LogFormatWord::Text => LogFormat::Text,
            LogFormatWord::Json => LogFormat::Json,
        },
        login: login(raw, context)?,
        networks: networks?,
        permissions: permissions?,
        announce_proxy_commands: *raw.announce_proxy_commands()?,
        bungeecord: bungeecord(raw)?,
        docker: docker?,
    })
}

/// The subcommands that servers may use on the BungeeCord channel.
fn bungeecord(raw: &RawProxy) -> Result<Option<Subcommands>, Reported> {
    let (nothing, no_permissions) = (
        RawPluginMessaging::default(),
        RawBungeecordPermissions::default(),
    );
    let messaging = raw.plugin_messaging.or(&nothing)?;
    let raw = messaging.bungeecord_permissions.or(&no_permissions)?;
    let mut allowed = Subcommands::default();
    for subcommand in Subcommand::ALL {
        let is_allowed = match subcommand {
            Subcommand::Connect => raw.connect()?,
            Subcommand::ConnectOther => raw.connect_other()?,
            Subcommand::Ip => raw.ip()?,
            Subcommand::IpOther => raw.ip_other()?,
            Subcommand::PlayerCount => raw.player_count()?,
            Subcommand::PlayerList => raw.player_list()?,
            Subcommand::GetServers => raw.get_servers()?,
            Subcommand::GetServer => raw.get_server()?,
            Subcommand::GetPlayerServer => raw.get_player_server()?,
            Subcommand::Forward => raw.forward()?,
            Subcommand::ForwardToPlayer => raw.forward_to_player()?,
            Subcommand::Uuid => raw.uuid()?,
            Subcommand::UuidOther => raw.uuid_other()?,
            Subcommand::ServerIp => raw.server_ip()?,
            Subcommand::Message => raw.message()?,
            Subcommand::MessageRaw => raw.message_raw()?,
            Subcommand::KickPlayer => raw.kick_player()?,
            Subcommand::KickPlayerRaw => raw.kick_player_raw()?,
        };
        if *is_allowed {
            allowed.add(*subcommand);
        }
    }
    Ok(messaging.bungeecord()?.then_some(allowed))
}

/// The login settings of the intercepted modes.
fn login(raw: &RawProxy, context: &mut Context<'_>) -> Result<LoginConfig, Reported> {
    let nothing = RawAuth::default();
    let auth = raw.auth.or(&nothing)?;
    let session_url = match auth.session_url.written()? {
        Some(given) => Some(session_url(given, context)?),
        None => None,
    };
    Ok(LoginConfig {
        session_url,
        prevent_proxy_connections: *auth.prevent_proxy_connections()?,
        uuid_of_client: *auth.offline_uuid()? == OfflineUuidWord::Client,
        duplicate_login: networks::duplicate_login(auth.duplicate_login()?),
        compression: compression::default(raw)?,
    })
}

/// The addresses to listen on: those of the command line, of the file, or the default.
fn bind(
    file: &ProxyFile,
    raw: &RawProxy,
    context: &mut Context<'_>,
) -> Result<Vec<SocketAddr>, Reported> {
    let list = &raw.bind()?.0;
    let mut is_twice = false;
    let mut addresses = Vec::with_capacity(list.items.len());
    for item in &list.items {
        // Port 0 requests any free port, a different one each time.
        if item.value.port() != 0 && addresses.contains(&item.value) {
            let message = format!("`{}` is already in the list", item.value);
            context.bad_value(item.place, message, "remove one of them");
            is_twice = true;
        }
        addresses.push(item.value);
    }
    list.all()?;
    if is_twice {
        return Err(Reported);
    }
    if file.bind.is_empty() {
        Ok(addresses)
    } else {
        Ok(file.bind.clone())
    }
}

/// The peers with trusted PROXY headers.
fn proxy_protocol_in(
    raw: &RawProxy,
    bind: Option<&[SocketAddr]>,
    context: &mut Context<'_>,
) -> Result<Trust, Reported> {
    let receive = *raw.receive_proxy_protocol()?;
    let trusted = match raw.proxy_protocol_trusted.get()? {
        Some(list) => filters::networks(list)?,
        None => Vec::new(),
    };
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
        return Ok(Trust::Off);
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
        return Ok(Trust::From(trusted));
    }
    let is_open = bind.is_some_and(|bind| bind.iter().any(|address| !address.ip().is_loopback()));
    if let (true, Some(given)) = (is_open, raw.receive_proxy_protocol.given()) {
        let diagnostic = Diagnostic::new(
            Code::OpenProxyProtocol,
            given.key,
            "every client may claim any address: no list limits who may send a PROXY header",
        )
        .because("bans, limits and filters then see what the client made up")
        .help("name the load balancer: `proxy_protocol_trusted = [\"192.0.2.10\"]`");
        context.push(match raw.bind.given() {
            Some(bind) => diagnostic.label(bind.place, "others than this machine can connect here"),
            None => diagnostic,
        });
    }
    Ok(Trust::Anyone)
}

fn rate_limit(entry: &Entry<RawRateLimit>) -> Result<Option<RateLimit>, Reported> {
    let nothing = RawRateLimit::default();
    let raw = entry.or(&nothing)?;
    let quota = |count: u32, window| NonZeroU32::new(count).map(|count| Quota { count, window });
    let limit = RateLimit {
        logins: quota(raw.max_connections()?.get(), raw.window()?.0),
        status: quota(raw.status_max()?.get(), raw.status_window()?.0),
        limit_loopback: *raw.limit_loopback()?,
    };
    Ok(raw.enabled()?.then_some(limit))
}

fn status_cache(entry: &Entry<RawStatusCache>) -> Result<StatusCache, Reported> {
    let nothing = RawStatusCache::default();
    let raw = entry.or(&nothing)?;
    Ok(StatusCache {
        ttl: raw.ttl()?.0,
        max_entries: raw.max_entries()?.0.unsigned_abs(),
    })
}

fn keepalive(entry: &Entry<RawKeepalive>) -> Result<Keepalive, Reported> {
    let nothing = RawKeepalive::default();
    let raw = entry.or(&nothing)?;
    Ok(Keepalive {
        time: raw.time()?.0,
        interval: raw.interval()?.0,
        retries: u32::try_from(raw.retries()?.0).unwrap_or(u32::MAX),
    })
}

fn session_url(given: &Given<String>, context: &mut Context<'_>) -> Result<String, Reported> {
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
        return Err(Reported);
    }
    Ok(url.clone())
}
