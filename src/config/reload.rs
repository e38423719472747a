//! What a reload changes, and when to try one.
//!
//! A reload is all or nothing: the new configuration is validated whole, and
//! either becomes the snapshot in force or leaves the old one there. Here
//! stands what differs between two valid configurations, and the watch over
//! the folder of server files; putting a snapshot into force is the server's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::model::{Config, ProxyConfig};

/// How long the folder must be quiet before it is read: editors and `cp` write
/// a file in several steps.
const QUIET: Duration = Duration::from_millis(250);
/// How long a folder that never is quiet is waited for.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// How often the ends of symbolic links are looked at.
const LINKS_LOOK: Duration = Duration::from_secs(1);
/// The most links of one folder that are looked at: a look at each costs some
/// microseconds, and a folder with more still has `SIGHUP`.
const LINKS_MAX: usize = 1000;

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

/// Watches the folder of server files; ends when dropped.
pub struct FolderWatch {
    changed: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl FolderWatch {
    /// Begins to watch `folder`.
    ///
    /// # Errors
    ///
    /// When the system has no more watches to give, or the folder is gone.
    pub fn new(folder: &Path) -> notify::Result<Self> {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // An error may hide a change, so it counts as one; reading does not.
                let concerns = event.is_ok_and(|event| {
                    matches!(event.kind, EventKind::Access(access)
                if access != notify::event::AccessKind::Close(notify::event::AccessMode::Write))
                });
                if !concerns {
                    told.notify_one();
                }
            })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self {
            changed,
            _watcher: watcher,
        })
    }

    /// Counts as a change: [`settled`](Self::settled) then completes as soon as
    /// the folder is quiet.
    pub fn touch(&self) {
        self.changed.notify_one();
    }

    /// Waits for a change and then until the folder is quiet. Cancel safe: a
    /// change that was seen is seen again.
    pub async fn settled(&self) {
        self.changed.notified().await;
        let latest = Instant::now() + QUIET_MAX;
        loop {
            let quiet = timeout(QUIET, self.changed.notified());
            match timeout_at(latest, quiet).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// What the symbolic links of a folder lead to, itself included.
///
/// A watch tells of changes to a link, and to the folder that a link led to when
/// the watch began. It tells neither that the link to the folder now leads to
/// another one, nor that the file behind a link was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    folder: PathBuf,
    folder_end: Option<PathBuf>,
    files: Vec<(PathBuf, Option<FileEnd>)>,
}

/// The file at the end of a link, as far as a change shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileEnd {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileEnd {
    fn of(link: &Path) -> Option<Self> {
        let path = link.canonicalize().ok()?;
        let metadata = path.metadata().ok()?;
        Some(Self {
            path,
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

impl Links {
    /// Looks for the links of `folder`, and where they end now.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "toml"))
            .take(LINKS_MAX)
            .map(|path| (path, None))
            .collect();
        let links = Self {
            folder: folder.to_owned(),
            folder_end: None,
            files,
        };
        links.looked_at_again()
    }

    /// The same links, and where they end now.
    #[must_use]
    pub fn looked_at_again(&self) -> Self {
        let again = |(link, _): &(PathBuf, _)| (link.clone(), FileEnd::of(link));
        Self {
            folder: self.folder.clone(),
            folder_end: self.folder.canonicalize().ok(),
            files: self.files.iter().map(again).collect(),
        }
    }

    /// Waits until a link leads to something else and this has stayed the same
    /// for a moment. Cancel safe: a change is seen again.
    pub async fn settled(&self) {
        let mut seen = loop {
            tokio::time::sleep(LINKS_LOOK).await;
            let now = self.look().await;
            if now != *self {
                break now;
            }
        };
        let latest = Instant::now() + QUIET_MAX;
        while Instant::now() < latest {
            tokio::time::sleep(QUIET).await;
            let now = self.look().await;
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// A look that holds up no player when the disk is slow.
    async fn look(&self) -> Self {
        let links = self.clone();
        let look = tokio::task::spawn_blocking(move || links.looked_at_again());
        // Without an answer nothing is known to have changed.
        look.await.unwrap_or_else(|_| self.clone())
    }
}

impl fmt::Debug for FolderWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderWatch").finish_non_exhaustive()
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

    /// A link to the folder that leads elsewhere, and a written file behind a
    /// link, are changes; what stays the same is none.
    #[cfg(unix)]
    #[tokio::test]
    async fn the_ends_of_links_are_followed() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["one", "two"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("a.toml"), "1").unwrap();
        symlink("../a.toml", at("one/a.toml")).unwrap();
        symlink("one", at("servers")).unwrap();

        let links = Links::of(&at("servers"));
        assert_eq!(links.files.len(), 1);
        assert_eq!(links, links.looked_at_again());
        std::fs::write(at("a.toml"), "22").unwrap();
        links.settled().await;

        let links = Links::of(&at("servers"));
        let quiet = timeout(LINKS_LOOK + QUIET, links.settled()).await;
        assert!(quiet.is_err(), "the same change was told twice");
        symlink("two", at("next")).unwrap();
        std::fs::rename(at("next"), at("servers")).unwrap();
        links.settled().await;
    }

    /// Several writes in a row are one change.
    #[tokio::test]
    async fn a_burst_of_writes_settles_once() {
        let folder = tempfile::tempdir().unwrap();
        let watch = FolderWatch::new(folder.path()).unwrap();
        for n in 0..20 {
            std::fs::write(folder.path().join("a.toml"), n.to_string()).unwrap();
        }
        watch.settled().await;
        let more = timeout(Duration::from_millis(100), watch.settled()).await;
        assert!(more.is_err(), "the same writes were told twice");
        std::fs::rename(folder.path().join("a.toml"), folder.path().join("b.toml")).unwrap();
        watch.settled().await;
    }
}
