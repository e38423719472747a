//! Finds what a reload changes.
//!
//! A reload is all or nothing: the complete new configuration is validated, and either
//! becomes the snapshot in force or changes nothing. This file finds the differences
//! between two valid configurations. The names of the global keys, and when a change of
//! each takes effect, come from the table of keys.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::keys::{Effect, Shape, Table};
use crate::config::model::{Config, LoginConfig, ProxyConfig, Trust};
use crate::config::schema::FileKind;

/// The differences between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Servers that only the new one has.
    pub added: Vec<String>,
    /// Servers that both have, with different settings.
    pub changed: Vec<String>,
    /// Servers that only the old one has.
    pub removed: Vec<String>,
    /// Global keys that differ and take effect at once.
    pub at_once: Vec<String>,
    /// Global keys that differ and take effect for new connections.
    pub new_connections: Vec<String>,
    /// Global keys that differ and take effect at the next start.
    pub restart: Vec<String>,
    /// Plugins that were loaded, and those that ended.
    pub plugins: Vec<String>,
}

impl Changes {
    /// Compares the configuration in force with its successor.
    #[must_use]
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        let by_id = |config: &Config| -> BTreeMap<String, _> {
            config
                .servers
                .iter()
                .map(|server| (server.id.clone(), Arc::clone(server)))
                .collect()
        };
        let (before, after) = (by_id(old), by_id(new));
        for (id, server) in &after {
            match before.get(id) {
                None => changes.added.push(id.clone()),
                Some(old) if old != server => changes.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        changes.removed = before
            .into_keys()
            .filter(|id| !after.contains_key(id))
            .collect();
        changes.compare_global(&old.proxy, &new.proxy);
        let met = |config: &Config| -> Vec<String> {
            let met = config.plugins.iter().filter(|plugin| plugin.names(""));
            met.map(|plugin| plugin.id.clone()).collect()
        };
        // The servers in a plugin's table are compared with the servers; this compares the
        // rest of the table.
        if met(old) != met(new) {
            changes.new_connections.push("plugins".to_owned());
        }
        changes
    }

    /// Whether nothing differs.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Global keys that differ and take effect without a restart.
    #[must_use]
    pub(crate) fn global(&self) -> Vec<&str> {
        let keys = self.at_once.iter().chain(&self.new_connections);
        keys.map(String::as_str).collect()
    }

    /// Lists the keys that need a restart: those with a value in `new` that differs from
    /// the one at the start of the process.
    pub(crate) fn count_restart_from(&mut self, started: &ProxyConfig, new: &ProxyConfig) {
        let mut since = Self::default();
        since.compare_global(started, new);
        self.restart = since.restart;
    }

    fn compare_global(&mut self, old: &ProxyConfig, new: &ProxyConfig) {
        let root = FileKind::Global.table();
        self.compare_table(root, "", Effect::NewConnections, &|key| {
            differs(key, old, new)
        });
    }

    /// Compares the keys of a table. `outer` is when changes of the table take effect.
    fn compare_table(
        &mut self,
        table: &Table,
        prefix: &str,
        outer: Effect,
        differs: &impl Fn(&str) -> Option<bool>,
    ) {
        for key in table.keys {
            let path = format!("{prefix}{}", key.name);
            let effect = key.effect_in(outer);
            match (differs(&path), key.shape) {
                (Some(true), _) => match effect {
                    Effect::AtOnce => self.at_once.push(path),
                    Effect::NewConnections => self.new_connections.push(path),
                    Effect::NextStart => self.restart.push(path),
                },
                (None, Shape::Table(inner)) => {
                    self.compare_table(inner, &format!("{path}."), effect, differs);
                }
                (Some(false) | None, _) => {}
            }
        }
    }
}

/// Whether the value of a global key differs; `None` if only the keys inside its table are
/// compared.
fn differs(key: &str, old: &ProxyConfig, new: &ProxyConfig) -> Option<bool> {
    // Destructured by name, so that the compiler reports a field that is not compared.
    let ProxyConfig {
        bind,
        servers_dir,
        plugins_dir,
        control_socket,
        max_connections,
        handshake_timeout,
        drain_timeout,
        proxy_protocol_in,
        worker_threads,
        so_reuseport,
        unknown_domain,
        default_motd,
        rate_limit,
        status_cache,
        keepalive,
        ip_filter,
        log_format,
        login,
        networks,
        permissions,
        announce_proxy_commands,
        bungeecord,
        docker,
    } = new;
    let LoginConfig {
        session_url,
        prevent_proxy_connections,
        uuid_of_client,
        duplicate_login,
        compression,
    } = login;
    let receives = |config: &Trust| *config != Trust::Off;
    let receives = (
        receives(&old.proxy_protocol_in),
        receives(proxy_protocol_in),
    );
    Some(match key {
        "bind" => *bind != old.bind,
        "servers_dir" => *servers_dir != old.servers_dir,
        "plugins_dir" => *plugins_dir != old.plugins_dir,
        "control_socket" => *control_socket != old.control_socket,
        "max_connections" => *max_connections != old.max_connections,
        "handshake_timeout" => *handshake_timeout != old.handshake_timeout,
        "drain_timeout" => *drain_timeout != old.drain_timeout,
        "receive_proxy_protocol" => receives.0 != receives.1,
        "proxy_protocol_trusted" => {
            receives == (true, true) && *proxy_protocol_in != old.proxy_protocol_in
        }
        "worker_threads" => *worker_threads != old.worker_threads,
        "so_reuseport" => *so_reuseport != old.so_reuseport,
        "unknown_domain_behavior" => *unknown_domain != old.unknown_domain,
        "default_motd" => *default_motd != old.default_motd,
        "rate_limit" => *rate_limit != old.rate_limit,
        "status_cache" => *status_cache != old.status_cache,
        "keepalive" => *keepalive != old.keepalive,
        "ip_filter" => *ip_filter != old.ip_filter,
        "auth.session_url" => *session_url != old.login.session_url,
        "auth.prevent_proxy_connections" => {
            *prevent_proxy_connections != old.login.prevent_proxy_connections
        }
        "auth.offline_uuid" => *uuid_of_client != old.login.uuid_of_client,
        "auth.duplicate_login" => *duplicate_login != old.login.duplicate_login,
        "compression_threshold" => *compression != old.login.compression,
        "log.format" => *log_format != old.log_format,
        "networks" => *networks != old.networks,
        "permissions" => *permissions != old.permissions,
        "announce_proxy_commands" => *announce_proxy_commands != old.announce_proxy_commands,
        "plugin_messaging" => *bungeecord != old.bungeecord,
        "docker" => *docker != old.docker,
        // Values that servers inherit are compared with the servers, and plugins
        // separately.
        "connect_timeout" | "forwarding" | "plugins" => false,
        _ => return None,
    })
}

impl fmt::Display for Changes {
    /// A line for each kind of change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = [
            ("servers added", &self.added),
            ("servers changed", &self.changed),
            ("servers removed", &self.removed),
            ("plugins loaded or ended", &self.plugins),
        ];
        for (what, ids) in servers {
            if !ids.is_empty() {
                writeln!(f, "{what}: {}", ids.join(", "))?;
            }
        }
        let keys = [
            (Effect::AtOnce, &self.at_once),
            (Effect::NewConnections, &self.new_connections),
            (Effect::NextStart, &self.restart),
        ];
        for (effect, keys) in keys {
            if !keys.is_empty() {
                let effect = effect.words();
                writeln!(
                    f,
                    "global keys that take effect {effect}: {}",
                    keys.join(", ")
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::with_servers;

    /// Every global key is compared, and all keys of a table that is compared as a whole
    /// take effect at the same time.
    #[test]
    fn every_global_key_is_compared() {
        fn walk(table: &Table, prefix: &str, outer: Effect, whole: bool, proxy: &ProxyConfig) {
            for key in table.keys {
                let path = format!("{prefix}{}", key.name);
                let effect = key.effect_in(outer);
                if whole {
                    assert_eq!(effect, outer, "{path}");
                }
                let is_compared = whole || differs(&path, proxy, proxy).is_some();
                match key.shape {
                    Shape::Table(inner) => {
                        walk(inner, &format!("{path}."), effect, is_compared, proxy);
                    }
                    _ => assert!(is_compared, "{path}"),
                }
            }
        }
        let proxy = with_servers("", &[]).proxy;
        let root = FileKind::Global.table();
        walk(root, "", Effect::NewConnections, false, &proxy);
    }

    /// A change of a key that needs a restart is reported as one that does.
    #[test]
    fn keys_that_need_a_restart_are_named() {
        fn collect(table: &Table, path: &str, names: &mut Vec<String>) {
            for key in table.keys {
                let path = format!("{path}{}", key.name);
                if key.effect == Some(Effect::NextStart) {
                    names.push(path.clone());
                }
                if let Shape::Table(inner) = key.shape {
                    collect(inner, &format!("{path}."), names);
                }
            }
        }
        let mut documented = Vec::new();
        collect(FileKind::Global.table(), "", &mut documented);
        let other = "bind = \"127.0.0.1:1\"\nplugins_dir = \"p\"\ncontrol_socket = \"s\"\n\
                     worker_threads = 3\nso_reuseport = true\nstatus_cache.ttl = \"1s\"\n\
                     log.format = \"json\"\nmax_connections = 5\ndrain_timeout = \"1s\"\n\
                     auth.duplicate_login = \"replace\"\n";
        let mut new = with_servers(other, &[]);
        // Texts without a file have the folder of the command line.
        Arc::make_mut(&mut new.proxy).plugins_dir = "p".into();
        let changes = Changes::between(&with_servers("", &[]), &new);
        assert_eq!(changes.restart, documented);
        assert_eq!(changes.at_once, ["drain_timeout"]);
        assert_eq!(
            changes.new_connections,
            ["max_connections", "auth.duplicate_login"]
        );
        assert_eq!(
            changes.to_string().lines().next(),
            Some("global keys that take effect at once: drain_timeout")
        );
    }

    /// Servers are compared by name; global keys by when they take effect.
    #[test]
    fn changes_name_what_differs() {
        let old = with_servers(
            "",
            &[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")],
        );
        let new = with_servers(
            "handshake_timeout = \"3s\"\nbind = \"127.0.0.1:7\"",
            &[("b", "10.0.0.2"), ("c", "10.0.0.4"), ("d", "10.0.0.5")],
        );
        let changes = Changes::between(&old, &new);
        assert_eq!(
            changes,
            Changes {
                added: vec!["d".to_owned()],
                changed: vec!["c".to_owned()],
                removed: vec!["a".to_owned()],
                at_once: Vec::new(),
                new_connections: vec!["handshake_timeout".to_owned()],
                restart: vec!["bind".to_owned()],
                plugins: Vec::new(),
            }
        );
        assert!(!changes.is_empty());
        assert!(Changes::between(&old, &old).is_empty());
    }
}
