//! `infrarust route HOST`: to which server a virtual host leads, by which rule, and
//! why not to others.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::capability::Capability;
use crate::config::model::{
    Config, DomainRewrite, ForwardingMode, HostForwarding, IdentityForwarding, PluginConfig,
    ProxyVersion, ServerConfig, ServerKind, UnknownDomain,
};
use crate::protocol::handshake::HostField;
use crate::proxy::snapshot::Snapshot;
use crate::route::Rule;
use crate::route::explain::{Winner, near_misses};
use crate::show::Escaped;

/// The explanation of one host as text, and whether a server claims it.
#[must_use]
pub fn explain(config: Config, host_field: &str) -> (String, bool) {
    let plugins = config.plugins.clone();
    let snapshot = Snapshot::new(config, None, None);
    let field = HostField::parse(host_field);
    let host = field.virtual_host();
    let mut text = format!("{}\n", Escaped(host_field));
    if host != host_field {
        line(&mut text, "looked up as", &Escaped(&host).to_string());
    }
    let found = snapshot.routes.find(&host);
    match &found {
        Some(found) => {
            let config = &found.target.config;
            let file = config.file.display();
            line(
                &mut text,
                "server",
                &format!("{} ({}), {file}", config.id, config.mode()),
            );
            let rule = match &found.rule {
                Rule::Exact => "the name itself is configured".to_owned(),
                Rule::Wildcard(pattern) => format!("the pattern `{pattern}` matches"),
            };
            line(&mut text, "rule", &rule);
            line(&mut text, "host", &seen_host(config, &field));
            for (index, address) in config.addresses.iter().enumerate() {
                let name = if index == 0 { "backend" } else { "then" };
                line(&mut text, name, &address.to_string());
            }
            line(&mut text, "identity", &identity_shown(config));
            let asked = config.plugins.iter().filter_map(|id| {
                let mut all = plugins.iter();
                all.find(|plugin| plugin.id == *id)
            });
            write_plugins(&mut text, asked);
        }
        None => {
            let unknown = snapshot.proxy.unknown_domain;
            let met = plugins.iter().filter(|plugin| plugin.names(""));
            write_unclaimed_plugins(&mut text, met, unknown);
            line(&mut text, "server", &nobody(unknown));
        }
    }
    let winner = match &found {
        Some(found) => Winner::of(&found.rule),
        None => Winner::Nobody,
    };
    for (pattern, server) in snapshot.routes.candidates(&host) {
        if let Some(reason) = winner.beats(pattern) {
            line(
                &mut text,
                "not used",
                &format!("`{pattern}` of `{}`: {reason}", server.config.id),
            );
        }
    }
    let servers = snapshot.servers.values();
    let entries = servers.flat_map(|server| {
        let config = &server.config;
        config
            .domains
            .iter()
            .map(|domain| (domain, config.id.as_str()))
    });
    for near in near_misses(entries, &host) {
        line(&mut text, "near", &near);
    }
    (text, found.is_some())
}

/// Writes the plugins that are called for a host that no server claims: only for a
/// ping that is answered with `default_motd`, and only at two hooks.
fn write_unclaimed_plugins<'a>(
    text: &mut String,
    plugins: impl Iterator<Item = &'a Arc<PluginConfig>>,
    unknown: UnknownDomain,
) {
    let mut title = "plugins";
    for plugin in plugins.filter(|_| unknown == UnknownDomain::DefaultMotd) {
        let asked = [Capability::ConnectionDecide, Capability::StatusRespond];
        let asked = asked
            .into_iter()
            .filter(|hook| plugin.manifest.hooks.contains(*hook));
        let hooks: Vec<&str> = asked.map(Capability::name).collect();
        if !hooks.is_empty() {
            let (id, version) = (&plugin.id, &plugin.manifest.version);
            let met = format!("{id} {version} at {}, for pings alone", hooks.join(", "));
            line(text, title, &met);
            title = "then";
        }
    }
    if title == "plugins" {
        line(text, title, "none");
    }
}

/// Writes the plugins of a server in the order in which they are called, each with
/// its hooks.
fn write_plugins<'a>(text: &mut String, plugins: impl Iterator<Item = &'a Arc<PluginConfig>>) {
    let mut title = "plugins";
    for plugin in plugins {
        let manifest = &plugin.manifest;
        let may = [
            (Capability::RouteSelect, "another server for a login"),
            (Capability::HandshakeRewrite, "another host for the backend"),
        ];
        let may = may
            .into_iter()
            .filter(|(hook, _)| manifest.hooks.contains(*hook));
        let may: Vec<&str> = may.map(|(_, what)| what).collect();
        let note = if may.is_empty() {
            String::new()
        } else {
            format!(": it may choose {}", may.join(", and "))
        };
        let (id, version, hooks) = (&plugin.id, &manifest.version, manifest.hooks);
        line(text, title, &format!("{id} {version} at {hooks}{note}"));
        title = "then";
    }
    if title == "plugins" {
        line(text, title, "none");
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "  {name:<13}{value}");
}

fn nobody(unknown: UnknownDomain) -> String {
    let then = match unknown {
        UnknownDomain::DefaultMotd => "pings get `default_motd`, logins a text",
        UnknownDomain::Kick => "pings are closed, logins get a text",
        UnknownDomain::Drop => "the connection is closed without a word",
    };
    format!("none; {then} (`unknown_domain_behavior`)")
}

/// What the backend sees as the host.
fn seen_host(config: &ServerConfig, field: &HostField) -> String {
    let keep = config.host_tail == crate::config::model::HostTail::Keep;
    let (seen, why) = match &config.domain_rewrite {
        DomainRewrite::None => (field.rebuild(None, keep), "as the client sent it"),
        DomainRewrite::Explicit(host) => (field.rebuild(Some(host), keep), "`domain_rewrite`"),
        DomainRewrite::FromBackend => {
            let backend = config
                .addresses
                .first()
                .map(|address| address.host.to_string());
            let host = backend.unwrap_or_default();
            (
                field.rebuild(Some(&host), keep),
                "`domain_rewrite`: the host of the address connected",
            )
        }
    };
    let dropped = if !keep && !field.other_tail().is_empty() {
        "; the client's own tail is dropped (`host_tail`)"
    } else {
        ""
    };
    format!("the backend sees `{}`, {why}{dropped}", Escaped(&seen))
}

/// What the backend learns about the player.
fn identity_shown(config: &ServerConfig) -> String {
    let identity = match &config.kind {
        ServerKind::Forwarding(forwarding) => forwarding.identity.as_ref().map(host_forwarding),
        ServerKind::Intercepted(intercepted) => {
            intercepted
                .identity
                .as_ref()
                .map(|identity| match identity {
                    IdentityForwarding::Host(host) => host_forwarding(host),
                    IdentityForwarding::Velocity(_) => "velocity forwarding",
                })
        }
    };
    let header = config.send_proxy_protocol.map(|version| match version {
        ProxyVersion::V1 => "a PROXY v1 header",
        ProxyVersion::V2 => "a PROXY v2 header",
    });
    let guard = match &config.kind {
        ServerKind::Forwarding(forwarding)
            if forwarding.mode == (ForwardingMode::ServerOnly { auth_guard: true }) =>
        {
            Some("and it must authenticate the player (`auth_guard`)")
        }
        ServerKind::Forwarding(_) | ServerKind::Intercepted(_) => None,
    };
    let parts: Vec<&str> = [identity, header, guard].into_iter().flatten().collect();
    if parts.is_empty() {
        "nothing beyond the handshake".to_owned()
    } else {
        parts.join(", ")
    }
}

fn host_forwarding(forwarding: &HostForwarding) -> &'static str {
    match forwarding {
        HostForwarding::BungeeCord => "bungeecord forwarding",
        HostForwarding::BungeeGuard(_) => "bungeeguard forwarding",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_texts;

    fn route(host: &str) -> (String, bool) {
        let files = [
            (
                "exact.toml",
                "domains = [\"a.eu.example.com\"]\naddresses = [\"10.0.0.1\"]\n",
            ),
            (
                "long.toml",
                "domains = [\"*.eu.example.com\"]\naddresses = [\"long.internal:7\"]\nproxy_mode = \"zero_copy\"\ndomain_rewrite = \"from_backend\"\n",
            ),
            (
                "short.toml",
                "domains = [\"*.example.com\"]\naddresses = [\"10.0.0.3\"]\nproxy_mode = \"server_only\"\nsend_proxy_protocol = \"v1\"\n",
            ),
        ];
        let files = files.map(|(name, text)| (Path::new(name), text.as_bytes()));
        explain(load_texts(b"", &files).config.unwrap(), host)
    }

    /// The answer names the winner, its rule, what the backend sees, and why
    /// the others were not used.
    #[test]
    fn the_route_of_a_host_is_explained() {
        let (text, found) = route("B.eu.example.com.\0FML2\0");
        assert!(found);
        for part in [
            "looked up as b.eu.example.com",
            "server       long (zero_copy), long.toml",
            "rule         the pattern `*.eu.example.com` matches",
            "the backend sees `long.internal\\0FML2\\0`",
            "backend      long.internal:7",
            "not used     `*.example.com` of `short`: it spells out 12 characters, `*.eu.example.com` 15",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let (text, _) = route("a.eu.example.com");
        assert!(
            text.contains("`*.eu.example.com` of `long`: a name wins over a pattern"),
            "{text}"
        );
        let (text, _) = route("x.example.com");
        assert!(
            text.contains("a PROXY v1 header, and it must authenticate"),
            "{text}"
        );
    }

    /// For a host that no server claims the nearest names are shown.
    #[test]
    fn near_misses_are_named() {
        let (text, found) = route("example.com");
        assert!(!found);
        assert!(
            text.contains("`*.example.com` of `short` needs something before"),
            "{text}"
        );
        // As a player types it, with the port.
        let (text, found) = route("a.eu.example.com:25565");
        assert!(found && text.contains("server       exact"), "{text}");
        assert!(text.contains("looked up as a.eu.example.com"), "{text}");
        let (text, _) = route("a.eu.exemple.com");
        assert!(
            text.contains("`a.eu.example.com` of `exact` is another name"),
            "{text}"
        );
    }
}
