//! One server file: its keys by themselves and with its mode.

use std::num::NonZeroU32;
use std::time::Duration;

use super::forwarding::{self, Global};
use super::modes::{self, Chosen};
use super::proxy::{threshold, value_or};
use super::{Context, ServerFile, addresses, domains, filters, motd, names, texts};
use crate::capability::Capability;
use crate::config::entry::{Entry, Item, List};
use crate::config::model::{
    Forwarding, ForwardingMode, HostTail, IdentityForwarding, Intercepted, InterceptedMode, Limits,
    ServerConfig, ServerKind, Timeouts,
};
use crate::config::raw::{RawProxy, RawServer};
use crate::config::types::HostTailWord;
use crate::diagnostic::{Code, Diagnostic, FileId, Place};
use crate::mode::{Family, Mode};
use crate::route::HostPattern;

/// The bound of one TCP connect, as Infrarust v2: a lost SYN is sent again
/// after 1 s and after 3 s, so two losses still pass.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one direction may outlive the other: nothing that a game sends
/// after its other side has ended takes longer.
const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a player reads when a server is full.
const FULL_MESSAGE: &str = "The server is full.";
/// What a player reads when no backend can be reached.
const DISCONNECT_MESSAGE: &str = "The server cannot be reached right now.";
/// As the global default.
const COMPRESSION_THRESHOLD: u32 = 256;

/// What the global file sets for servers that do not say it themselves;
/// `None` where it is written badly.
#[derive(Debug)]
pub(super) struct Defaults {
    connect_timeout: Option<Duration>,
    compression_threshold: Option<Option<u32>>,
}

impl Defaults {
    pub(super) fn new(raw: &RawProxy) -> Self {
        Self {
            connect_timeout: value_or(&raw.connect_timeout, CONNECT_TIMEOUT, |t| t.0),
            compression_threshold: threshold(
                &raw.compression_threshold,
                Some(COMPRESSION_THRESHOLD),
            ),
        }
    }
}

/// A server as far as its file is sound.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) raw: Option<&'a RawServer>,
    pub(super) id: Option<Item<String>>,
    pub(super) domains: Vec<Item<HostPattern>>,
    pub(super) network: Option<Item<String>>,
    pub(super) config: Option<ServerConfig>,
}

/// Judges one server file.
pub(super) fn draft<'a>(
    file: &'a ServerFile,
    defaults: &Defaults,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Draft<'a> {
    let ServerFile { file, raw } = file;
    let Some(raw) = raw else {
        // Its name is its id unless it says otherwise, which nobody can know.
        return Draft {
            raw: None,
            id: None,
            domains: Vec::new(),
            network: None,
            config: None,
        };
    };
    let id = names::server(raw, *file, context);
    let domains = domains::domains(raw, context);
    let network = network(raw, context);
    let chosen = modes::chosen(raw);
    if let Some(chosen) = chosen {
        reachable(
            raw,
            *file,
            chosen,
            domains.is_broken || !domains.sound.is_empty(),
            context,
        );
        modes::not_yet(chosen, raw, context);
    }
    let kind =
        chosen.and_then(|chosen| kind(raw, chosen, network.as_ref(), defaults, global, context));
    let config = config(raw, *file, defaults, context);
    if let (Some(config), Some(kind), Some(chosen)) = (&config, &kind, chosen) {
        forwarding::unprotected(raw, config, kind, chosen, context);
    }
    let config = match (config, kind, &id) {
        (Some(config), Some(kind), Some(id)) if !domains.is_broken => Some(ServerConfig {
            id: id.value.clone(),
            domains: domains
                .sound
                .iter()
                .map(|item| item.value.clone())
                .collect(),
            kind,
            ..config
        }),
        _ => None,
    };
    Draft {
        raw: Some(raw),
        id,
        domains: domains.sound,
        network,
        config,
    }
}

/// The keys that mean the same in every mode. Id, domains, kind and plugins
/// are filled in later.
fn config(
    raw: &RawServer,
    file: FileId,
    defaults: &Defaults,
    context: &mut Context<'_>,
) -> Option<ServerConfig> {
    let addresses = addresses::addresses(raw, file, context);
    let domain_rewrite = texts::rewrite(&raw.domain_rewrite, context);
    let full_message = texts::for_players(&raw.full_message, context);
    let disconnect_message = texts::for_players(&raw.disconnect_message, context);
    let motd = motd::set(&raw.motd, context);
    let max_players = value_or(&raw.max_players, None, |n| NonZeroU32::new(n.get()));
    if let (Some(None), Some(key)) = (max_players, raw.full_message.key()) {
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
    Some(ServerConfig {
        id: String::new(),
        file: context.path(file).to_owned(),
        domains: Vec::new(),
        addresses: addresses?,
        kind: ServerKind::Intercepted(Intercepted {
            mode: InterceptedMode::Offline,
            network: None,
            limbo_handlers: Vec::new(),
            identity: None,
            compression_threshold: None,
        }),
        send_proxy_protocol: value_or(&raw.send_proxy_protocol, None, |send| send.0)?,
        domain_rewrite: domain_rewrite?,
        host_tail: value_or(&raw.host_tail, HostTail::Drop, |word| match word {
            HostTailWord::Drop => HostTail::Drop,
            HostTailWord::Keep => HostTail::Keep,
        })?,
        max_players: max_players?,
        full_message: full_message?.unwrap_or_else(|| FULL_MESSAGE.to_owned()),
        disconnect_message: disconnect_message?.unwrap_or_else(|| DISCONNECT_MESSAGE.to_owned()),
        timeouts: timeouts(raw, defaults)?,
        motd: motd?,
        ip_filter: filters::ip_filter(&raw.ip_filter)?,
        plugins: Vec::new(),
        plugins_left_out: Vec::new(),
    })
}

fn timeouts(raw: &RawServer, defaults: &Defaults) -> Option<Timeouts> {
    let half_close = value_or(&raw.half_close_timeout, HALF_CLOSE_TIMEOUT, |t| t.0)?;
    match &raw.timeouts {
        Entry::Broken(_) => None,
        Entry::Absent => Some(Timeouts {
            connect: defaults.connect_timeout?,
            session: Limits {
                read: None,
                write: None,
                half_close,
            },
        }),
        Entry::Given(table) => Some(Timeouts {
            connect: match &table.value.connect {
                Entry::Absent => defaults.connect_timeout?,
                entry => entry.value()?.0,
            },
            session: Limits {
                read: value_or(&table.value.read, None, |t| Some(t.0))?,
                write: value_or(&table.value.write, None, |t| Some(t.0))?,
                half_close,
            },
        }),
    }
}

fn network(raw: &RawServer, context: &mut Context<'_>) -> Option<Item<String>> {
    let given = raw.network.given()?;
    let item = Item {
        place: given.place,
        value: given.value.clone(),
    };
    let value = names::written(&item, "the name of a network", context)?;
    Some(Item { value, ..item })
}

/// A player has to find the server: by a domain, or by a switch from another.
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

/// The settings that depend on the mode.
fn kind(
    raw: &RawServer,
    chosen: Chosen,
    network: Option<&Item<String>>,
    defaults: &Defaults,
    global: &mut Global<'_>,
    context: &mut Context<'_>,
) -> Option<ServerKind> {
    let mut is_sound = true;
    let mut need = |entry: Option<Place>, key: &str, capability| {
        if let Some(place) = entry {
            is_sound &= modes::require(chosen, capability, &format!("`{key}`"), place, context);
        }
    };
    need(raw.network.key(), "network", Capability::NetworkMember);
    // An empty list asks for nothing.
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
    if let (Some(key), true) = (raw.auth_guard.key(), chosen.mode != Mode::ServerOnly) {
        modes::no_effect(chosen, "auth_guard", key, &[Mode::ServerOnly], context);
    }
    let auth_guard = value_or(&raw.auth_guard, true, |on| *on);
    if !is_sound {
        return None;
    }
    let (identity, relay) = (identity?, relay?);
    let forwarding = |mode| {
        let identity = match identity.clone() {
            None => None,
            Some(IdentityForwarding::Host(host)) => Some(host),
            // Refused before: the proxy has no login to answer in.
            Some(IdentityForwarding::Velocity(_)) => return None,
        };
        Some(ServerKind::Forwarding(Forwarding {
            mode,
            relay,
            identity,
        }))
    };
    let intercepted = |mode| {
        if raw.network.is_written() && network.is_none() {
            return None;
        }
        Some(ServerKind::Intercepted(Intercepted {
            mode,
            network: network.map(|item| item.value.clone()),
            limbo_handlers: value_or(&raw.limbo_handlers, Some(Vec::new()), texts_of)??,
            identity: identity.clone(),
            compression_threshold: match &raw.compression_threshold {
                Entry::Absent => defaults.compression_threshold?,
                entry => threshold(entry, None)?,
            },
        }))
    };
    match chosen.mode {
        Mode::Passthrough => forwarding(ForwardingMode::Passthrough),
        Mode::ZeroCopy => forwarding(ForwardingMode::ZeroCopy),
        Mode::ServerOnly => forwarding(ForwardingMode::ServerOnly {
            auth_guard: auth_guard?,
        }),
        Mode::ClientOnly => intercepted(InterceptedMode::ClientOnly),
        Mode::Offline => intercepted(InterceptedMode::Offline),
    }
}

fn texts_of(list: &List<String>) -> Option<Vec<String>> {
    (!list.is_broken).then(|| list.items.iter().map(|item| item.value.clone()).collect())
}
