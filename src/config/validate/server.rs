//! One server file: its keys by themselves and with its mode.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::forwarding::{self, Global};
use super::modes::{self, Chosen};
use super::{Context, ServerFile, addresses, compression, domains, filters, motd, names, texts};
use crate::capability::Capability;
use crate::config::entry::{Item, Reported};
use crate::config::model::{
    BackendAddress, ClientCompression, DomainRewrite, Forwarding, ForwardingMode, HostTail,
    INTERCEPTED_WRITE_MAX, IdentityForwarding, Intercepted, InterceptedMode, IpFilter, Limits,
    MotdSet, ProxyVersion, ServerConfig, ServerKind, Timeouts,
};
use crate::config::raw::{RawPluginMessaging, RawProxy, RawServer, RawTimeouts};
use crate::config::types::HostTailWord;
use crate::diagnostic::{Code, Diagnostic, FileId, Place};
use crate::mode::{Family, Mode};
use crate::route::HostPattern;

/// The values of the global file for servers without their own.
#[derive(Debug)]
pub(super) struct Defaults {
    connect_timeout: Result<Duration, Reported>,
    compression: Result<ClientCompression, Reported>,
    /// Whether servers may use the BungeeCord channel at all.
    has_bungeecord: Result<bool, Reported>,
}

impl Defaults {
    pub(super) fn new(raw: &RawProxy) -> Self {
        let nothing = RawPluginMessaging::default();
        let messaging = raw.plugin_messaging.or(&nothing);
        Self {
            connect_timeout: raw.connect_timeout().map(|time| time.0),
            compression: compression::default(raw),
            has_bungeecord: messaging.and_then(|raw| raw.bungeecord().copied()),
        }
    }
}

/// A server file after the checks, with or without mistakes.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) raw: Option<&'a RawServer>,
    pub(super) id: Result<Item<String>, Reported>,
    pub(super) domains: Vec<Item<HostPattern>>,
    pub(super) network: Result<Option<Item<String>>, Reported>,
    pub(super) sound: Result<Sound, Reported>,
}

/// Checks one server file.
pub(super) fn draft<'a>(
    file: &'a ServerFile,
    defaults: &Defaults,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Draft<'a> {
    let ServerFile { file, raw } = file;
    let Some(raw) = raw else {
        // By default its id is its name. Whether it sets another id is not known.
        return Draft {
            raw: None,
            id: Err(Reported),
            domains: Vec::new(),
            network: Err(Reported),
            sound: Err(Reported),
        };
    };
    let id = names::server(raw, *file, context);
    let domains = domains::domains(raw, context);
    let network = network(raw, context);
    let chosen = modes::chosen(raw);
    if let Ok(chosen) = chosen {
        reachable(
            raw,
            *file,
            chosen,
            domains.is_broken || !domains.sound.is_empty(),
            context,
        );
        modes::not_yet(chosen, raw, context);
    }
    let kind = chosen.and_then(|chosen| kind(raw, chosen, &network, defaults, global, context));
    if let Ok(kind) = &kind {
        forwarding::replaced_tail(raw, kind, context);
    }
    let common = common(raw, *file, defaults, context);
    if let (Ok(common), Ok(kind), Ok(chosen)) = (&common, &kind, chosen) {
        forwarding::unprotected(raw, &common.addresses, kind, chosen, context);
    }
    let sound = match (common, kind, &id) {
        (Ok(common), Ok(kind), Ok(id)) if !domains.is_broken => {
            let domains = domains.sound.iter().map(|item| item.value.clone());
            Ok(Sound {
                id: id.value.clone(),
                domains: domains.collect(),
                common,
                kind,
            })
        }
        _ => Err(Reported),
    };
    Draft {
        raw: Some(raw),
        id,
        domains: domains.sound,
        network,
        sound,
    }
}

/// A server without a mistake in its keys. Its plugins are not known before all servers
/// are.
#[derive(Debug)]
pub(super) struct Sound {
    id: String,
    domains: Vec<HostPattern>,
    common: Common,
    kind: ServerKind,
}

impl Sound {
    /// Its backends, in the order of the file.
    pub(super) fn addresses(&self) -> &[BackendAddress] {
        &self.common.addresses
    }

    /// Whether its backends learn the identity of a player; `None` in the forwarding modes.
    pub(super) fn identifies(&self) -> Option<bool> {
        match &self.kind {
            ServerKind::Intercepted(intercepted) => Some(intercepted.identity.is_some()),
            ServerKind::Forwarding(_) => None,
        }
    }

    /// The whole server.
    pub(super) fn join(self, plugins: ServerPlugins) -> ServerConfig {
        let Self {
            id,
            domains,
            common,
            kind,
        } = self;
        ServerConfig {
            id,
            file: common.file,
            domains,
            addresses: common.addresses,
            kind,
            send_proxy_protocol: common.send_proxy_protocol,
            domain_rewrite: common.domain_rewrite,
            host_tail: common.host_tail,
            max_players: common.max_players,
            full_message: common.full_message,
            disconnect_message: common.disconnect_message,
            timeouts: common.timeouts,
            motd: common.motd,
            ip_filter: common.ip_filter,
            plugins: plugins.active,
            plugins_left_out: plugins.left_out,
        }
    }
}

/// The plugins of a server.
#[derive(Debug, Default)]
pub(super) struct ServerPlugins {
    /// The plugins that take part.
    pub(super) active: Vec<String>,
    /// The plugins that are left out because of the server's mode.
    pub(super) left_out: Vec<String>,
}

/// The settings with the same meaning in every mode.
#[derive(Debug)]
struct Common {
    file: PathBuf,
    addresses: Vec<BackendAddress>,
    send_proxy_protocol: Option<ProxyVersion>,
    domain_rewrite: DomainRewrite,
    host_tail: HostTail,
    max_players: Option<NonZeroU32>,
    full_message: String,
    disconnect_message: String,
    timeouts: Timeouts,
    motd: MotdSet,
    ip_filter: IpFilter,
}

/// Reads the keys with the same meaning in every mode.
fn common(
    raw: &RawServer,
    file: FileId,
    defaults: &Defaults,
    context: &mut Context<'_>,
) -> Result<Common, Reported> {
    let addresses = addresses::addresses(raw, file, context);
    let domain_rewrite = raw
        .domain_rewrite()
        .and_then(|rewrite| texts::rewrite(rewrite, context));
    let full_message = texts::or_default(&raw.full_message, raw.full_message(), context);
    let disconnect_message =
        texts::or_default(&raw.disconnect_message, raw.disconnect_message(), context);
    let motd = motd::set(&raw.motd, context);
    let max_players = raw.max_players().map(|max| NonZeroU32::new(max.get()));
    if let (Ok(None), Some(key)) = (max_players, raw.full_message.key()) {
        let diagnostic = Diagnostic::new(
            Code::NoEffect,
            key,
            "`full_message` does nothing without `max_players`",
        )
        .because("a server without a limit is never full")
        .help("write `max_players`, or remove the text");
        context.push(match raw.max_players.given() {
            Some(given) => diagnostic.label(given.place, "no limit"),
            None => diagnostic,
        });
    }
    Ok(Common {
        file: context.path(file).to_owned(),
        addresses: addresses?,
        send_proxy_protocol: raw.send_proxy_protocol()?.0,
        domain_rewrite: domain_rewrite?,
        host_tail: match raw.host_tail()? {
            HostTailWord::Drop => HostTail::Drop,
            HostTailWord::Keep => HostTail::Keep,
        },
        max_players: max_players?,
        full_message: full_message?,
        disconnect_message: disconnect_message?,
        timeouts: timeouts(raw, defaults)?,
        motd: motd?,
        ip_filter: filters::ip_filter(&raw.ip_filter)?,
    })
}

fn timeouts(raw: &RawServer, defaults: &Defaults) -> Result<Timeouts, Reported> {
    let nothing = RawTimeouts::default();
    let table = raw.timeouts.or(&nothing)?;
    Ok(Timeouts {
        connect: match table.connect.get()? {
            Some(time) => time.0,
            None => defaults.connect_timeout?,
        },
        session: Limits {
            read: table.read.get()?.map(|time| time.0),
            write: table.write.get()?.map(|time| time.0),
            half_close: raw.half_close_timeout()?.0,
        },
    })
}

/// Warns of a limit for waiting bytes that is longer than that of the mode.
fn write_timeout(raw: &RawServer, chosen: Chosen, context: &mut Context<'_>) {
    let write = raw.timeouts.value().and_then(|table| table.write.given());
    let Some(given) = write.filter(|given| given.value.0 > INTERCEPTED_WRITE_MAX) else {
        return;
    };
    let seconds = INTERCEPTED_WRITE_MAX.as_secs();
    let message = format!(
        "`write` does nothing above {seconds} s in `{}`",
        chosen.mode
    );
    let diagnostic = Diagnostic::new(Code::NoEffect, given.place, message)
        .because("the proxy holds the bytes that wait")
        .help(format!("remove it, or write at most {seconds} s"));
    context.push(chosen.label(diagnostic));
}

fn network(raw: &RawServer, context: &mut Context<'_>) -> Result<Option<Item<String>>, Reported> {
    let Some(given) = raw.network.written()? else {
        return Ok(None);
    };
    let item = Item {
        place: given.place,
        value: given.value.clone(),
    };
    let value = names::written(&item, "the name of a network", context)?;
    Ok(Some(Item { value, ..item }))
}

/// Checks that players can reach the server: by a domain, or by a switch from another
/// server.
fn reachable(
    raw: &RawServer,
    file: FileId,
    chosen: Chosen,
    has_domain: bool,
    context: &mut Context<'_>,
) {
    let is_intercepted = chosen.mode.family() == Family::Intercepted;
    if has_domain || (is_intercepted && raw.network.is_written()) {
        return;
    }
    let place = raw
        .domains
        .given()
        .map_or(Place::whole(file), |given| given.place);
    let written = context.example(
        file,
        "`domains = [\"play.example.com\"]`",
        "`infrarust.domains: play.example.com`",
    );
    let domains = format!("write the names by which players come: {written}");
    let diagnostic = if is_intercepted {
        Diagnostic::new(
            Code::UnreachableServer,
            place,
            "no player can come to this server: it has neither a domain nor a network",
        )
        .help(format!("{domains}; or put it into a `network`"))
    } else {
        Diagnostic::new(
            Code::NoDomain,
            place,
            "the server has no domain, so no player can come to it",
        )
        .help(domains)
    };
    context.push(match (is_intercepted, chosen.place) {
        (false, Some(place)) => {
            diagnostic.label(place, "in this mode players come by a domain only")
        }
        _ => diagnostic,
    });
}

/// Warns of keys without effect in the mode.
fn without_effect(raw: &RawServer, chosen: Chosen, defaults: &Defaults, context: &mut Context<'_>) {
    if let (Some(key), true) = (raw.auth_guard.key(), chosen.mode != Mode::ServerOnly) {
        modes::no_effect(chosen, "auth_guard", key, &[Mode::ServerOnly], context);
    }
    let intercepted_modes = [Mode::ClientOnly, Mode::Offline];
    let asks_for_channel = raw.bungeecord_channel.value() == Some(&true);
    if let (Some(key), true) = (raw.bungeecord_channel.key(), asks_for_channel) {
        if !intercepted_modes.contains(&chosen.mode) {
            let works_in = &intercepted_modes;
            modes::no_effect(chosen, "bungeecord_channel", key, works_in, context);
        } else if defaults.has_bungeecord == Ok(false) {
            context.push(
                Diagnostic::new(
                    Code::NoEffect,
                    key,
                    "`bungeecord_channel` does nothing here",
                )
                .because("`plugin_messaging.bungeecord` is not `true`")
                .help("write `bungeecord = true` in `[plugin_messaging]` of `infrarust.toml`"),
            );
        }
    }
    if intercepted_modes.contains(&chosen.mode) {
        write_timeout(raw, chosen, context);
    }
}

/// The settings that depend on the mode.
fn kind(
    raw: &RawServer,
    chosen: Chosen,
    network: &Result<Option<Item<String>>, Reported>,
    defaults: &Defaults,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Result<ServerKind, Reported> {
    let mut is_sound = true;
    let mut need = |entry: Option<Place>, key: &str, capability| {
        if let Some(place) = entry {
            is_sound &= modes::require(chosen, capability, &format!("`{key}`"), place, context);
        }
    };
    need(raw.network.key(), "network", Capability::NetworkMember);
    // An empty list has no effect.
    let limbo = raw.limbo_handlers.given();
    let limbo = limbo.filter(|list| list.value.is_broken || !list.value.items.is_empty());
    need(
        limbo.map(|list| list.key),
        "limbo_handlers",
        Capability::Limbo,
    );
    need(
        raw.compression_threshold.key(),
        "compression_threshold",
        Capability::ClientCompression,
    );

    let identity = forwarding::identity(raw, chosen, global, context);
    let relay = modes::relay(raw, chosen, context);
    without_effect(raw, chosen, defaults, context);
    if !is_sound {
        return Err(Reported);
    }
    let (identity, relay) = (identity?, relay?);
    let forwarding = |mode| {
        let identity = match identity.clone() {
            None => None,
            Some(IdentityForwarding::Host(host)) => Some(host),
            // Refused before: the proxy cannot answer in the login of a forwarding mode.
            Some(IdentityForwarding::Velocity(_)) => return Err(Reported),
        };
        Ok(ServerKind::Forwarding(Forwarding {
            mode,
            relay,
            identity,
        }))
    };
    let intercepted = |mode| {
        let network = network.as_ref().map_err(|reported| *reported)?;
        Ok(ServerKind::Intercepted(Intercepted {
            mode,
            network: network.as_ref().map(|item| item.value.clone()),
            limbo_handlers: raw.limbo_handlers()?.values()?,
            identity: identity.clone(),
            compression: match raw.compression_threshold.get()? {
                Some(number) => compression::threshold(*number),
                None => defaults.compression?,
            },
            bungeecord_channel: *raw.bungeecord_channel()?,
        }))
    };
    match chosen.mode {
        Mode::Passthrough => forwarding(ForwardingMode::Passthrough),
        Mode::ZeroCopy => forwarding(ForwardingMode::ZeroCopy),
        Mode::ServerOnly => forwarding(ForwardingMode::ServerOnly {
            auth_guard: *raw.auth_guard()?,
        }),
        Mode::ClientOnly => intercepted(InterceptedMode::ClientOnly),
        Mode::Offline => intercepted(InterceptedMode::Offline),
    }
}
