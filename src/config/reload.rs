//! What a reload changes.
//!
//! A reload is all or nothing: the new configuration is validated whole, and
//! either becomes the snapshot in force or leaves the old one there. Here
//! stands what differs between two valid configurations; following the files
//! and putting a snapshot into force is the server's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::model::{Config, ProxyConfig};

/// What differs between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Servers that only the new one has.
    pub added: Vec<String>,
    /// Servers that both have, differently.
    pub changed: Vec<String>,
    /// Servers that only the old one has.
    pub removed: Vec<String>,
    /// Global keys that differ and take effect with the snapshot.
    pub global: Vec<&'static str>,
    /// Global keys that differ and take effect with the next start.
    pub restart: Vec<&'static str>,
    /// Plugins that were loaded, and those that ended.
    pub plugins: Vec<String>,
}

impl Changes {
    /// Compares the configuration in force with its successor.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
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
        // What a plugin's table says of servers shows in the servers; here is
        // the rest of it.
        if met(old) != met(new) {
            changes.global.push("plugins");
        }
        changes
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Names as those that need a restart the keys in which `new` differs from
    /// what the process was started with.
    pub fn count_restart_from(&mut self, started: &ProxyConfig, new: &ProxyConfig) {
        let mut since = Self::default();
        since.compare_global(started, new);
        self.restart = since.restart;
    }

    fn compare_global(&mut self, old: &ProxyConfig, new: &ProxyConfig) {
        // Taken apart by name, so that a new key cannot be forgotten here.
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
            docker,
        } = new;
        let restart = [
            ("bind", *bind != old.bind),
            ("plugins_dir", *plugins_dir != old.plugins_dir),
            ("control_socket", *control_socket != old.control_socket),
            ("worker_threads", *worker_threads != old.worker_threads),
            ("so_reuseport", *so_reuseport != old.so_reuseport),
            ("status_cache", *status_cache != old.status_cache),
            ("log.format", *log_format != old.log_format),
        ];
        let global = [
            ("servers_dir", *servers_dir != old.servers_dir),
            ("max_connections", *max_connections != old.max_connections),
            (
                "handshake_timeout",
                *handshake_timeout != old.handshake_timeout,
            ),
            ("drain_timeout", *drain_timeout != old.drain_timeout),
            (
                "receive_proxy_protocol",
                *proxy_protocol_in != old.proxy_protocol_in,
            ),
            (
                "unknown_domain_behavior",
                *unknown_domain != old.unknown_domain,
            ),
            ("default_motd", *default_motd != old.default_motd),
            ("rate_limit", *rate_limit != old.rate_limit),
            ("keepalive", *keepalive != old.keepalive),
            ("docker", *docker != old.docker),
            ("ip_filter", *ip_filter != old.ip_filter),
            ("auth, compression_threshold", *login != old.login),
        ];
        let differing = |keys: &[(&'static str, bool)]| -> Vec<&'static str> {
            keys.iter()
                .filter(|(_, differs)| *differs)
                .map(|(key, _)| *key)
                .collect()
        };
        self.restart = differing(&restart);
        self.global = differing(&global);
    }
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
        if !self.global.is_empty() {
            writeln!(f, "global keys changed: {}", self.global.join(", "))?;
        }
        if !self.restart.is_empty() {
            let keys = self.restart.join(", ");
            writeln!(f, "take effect with the next start: {keys}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_texts;

    fn config(global: &str, servers: &[(&str, &str)]) -> Config {
        let files: Vec<_> = servers
            .iter()
            .map(|(name, port)| {
                let text = format!("domains = [\"{name}\"]\naddresses = [\"127.0.0.1:{port}\"]");
                (format!("{name}.toml"), text)
            })
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (Path::new(name), text.as_bytes()))
            .collect();
        load_texts(global.as_bytes(), &files).config.unwrap()
    }

    /// The keys that the documents say to need a restart are those that do.
    #[test]
    fn the_documents_name_what_needs_a_restart() {
        use crate::config::keys::{Shape, Table};
        use crate::config::schema::FileKind;
        fn collect(table: &Table, path: &str, names: &mut Vec<String>) {
            for key in table.keys {
                let path = format!("{path}{}", key.name);
                if key.restart {
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
                     log.format = \"json\"\nmax_connections = 5\n";
        let mut new = config(other, &[]);
        // Texts that lie in no folder have the folder of the command line.
        Arc::make_mut(&mut new.proxy).plugins_dir = "p".into();
        let changes = Changes::between(&config("", &[]), &new);
        assert_eq!(changes.restart, documented);
        assert_eq!(changes.global, ["max_connections"]);
    }

    /// Servers are told apart by name; global keys by when they take effect.
    #[test]
    fn changes_name_what_differs() {
        let old = config("", &[("a", "1"), ("b", "2"), ("c", "3")]);
        let new = config(
            "handshake_timeout = \"3s\"\nbind = \"127.0.0.1:7\"",
            &[("b", "2"), ("c", "4"), ("d", "5")],
        );
        let changes = Changes::between(&old, &new);
        assert_eq!(
            changes,
            Changes {
                added: vec!["d".to_owned()],
                changed: vec!["c".to_owned()],
                removed: vec!["a".to_owned()],
                global: vec!["handshake_timeout"],
                restart: vec!["bind"],
                plugins: Vec::new(),
            }
        );
        assert!(!changes.is_empty());
        assert!(Changes::between(&old, &old).is_empty());
    }
}
