//! Hot reload: a new configuration becomes the snapshot in force, or the old
//! one stays and the log says why.
//!
//! A change in the folder of server files reloads the servers; `SIGHUP`
//! reloads everything. Both read all files and judge them together, as a start
//! does. Sessions keep the snapshot that they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::config::model::Config;
use crate::config::reload::{Changes, FolderWatch};
use crate::config::{LoadOptions, Loaded, load};
use crate::diagnostic::render::{self, Colour};
use crate::proxy::Proxy;

/// How often a folder that cannot be watched is looked for again: it may just
/// be replaced by another.
const WATCH_RETRY: Duration = Duration::from_millis(500);

/// What a reload takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The server files.
    Servers,
    /// The global file, too.
    Everything,
}

/// What came of a reload.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is in force.
    Applied(Changes),
    /// Nothing differs.
    Unchanged,
    /// The old configuration stays, for these reasons.
    Refused(String),
}

/// Keeps a running proxy in step with its files.
#[derive(Debug)]
pub struct Reloader {
    options: LoadOptions,
    proxy: Arc<Proxy>,
    watch: Watch,
    hangup: Hangup,
    /// The last refusal that was told, so that a file that stays broken while
    /// others are written is not told again and again.
    told: Option<String>,
}

impl Reloader {
    /// Begins to watch what `options` name for `proxy`. Must be called inside a
    /// runtime.
    ///
    /// # Errors
    ///
    /// When the signal cannot be awaited.
    pub fn new(options: LoadOptions, proxy: Arc<Proxy>) -> std::io::Result<Self> {
        let watch = Watch::begin(proxy.snapshot().proxy.servers_dir.clone());
        Ok(Self {
            options,
            proxy,
            watch,
            hangup: Hangup::new()?,
            told: None,
        })
    }

    /// Reloads whenever files change or `SIGHUP` comes, until the proxy drains.
    pub async fn run(mut self) {
        let drain = self.proxy.shutdown.drain.clone();
        // What was written between the first load and the watch is seen by nobody else.
        self.watch.touch();
        loop {
            let scope = tokio::select! {
                () = drain.cancelled() => return,
                () = self.hangup.next() => Scope::Everything,
                () = self.watch.settled() => Scope::Servers,
            };
            // Watched anew before the files are read, so that no change falls
            // between: the folder may be another one by now.
            self.watch = Watch::begin(self.folder());
            self.reload(scope).await;
            if self.folder() != self.watch.folder {
                self.watch = Watch::begin(self.folder());
            }
        }
    }

    fn folder(&self) -> PathBuf {
        self.proxy.snapshot().proxy.servers_dir.clone()
    }

    /// Loads, and takes over what is valid.
    async fn reload(&mut self, scope: Scope) {
        let folder = self.folder();
        let before = identity(&folder);
        let options = self.options.clone();
        // Reading ten thousand files takes a while: not on a worker of players.
        let loaded = match tokio::task::spawn_blocking(move || load(&options)).await {
            Ok(loaded) => loaded,
            Err(panic) => {
                error!(%panic, "reload refused: loading failed; the old configuration stays");
                return;
            }
        };
        // A folder that was taken away while it was read, or is away now, says
        // nothing about the servers; the one that comes in its place will.
        if scope == Scope::Servers && (before.is_none() || before != identity(&folder)) {
            debug!(folder = %folder.display(), "the folder of server files is being replaced");
            self.watch = Watch::gone(folder);
            return;
        }
        let text = text_of(&loaded);
        match self.apply(loaded, scope) {
            Outcome::Applied(changes) => {
                self.told = None;
                info!(
                    added = ?changes.added,
                    changed = ?changes.changed,
                    removed = ?changes.removed,
                    global = ?changes.global,
                    "configuration reloaded"
                );
                if !changes.restart.is_empty() {
                    warn!(keys = ?changes.restart, "these keys take effect with the next start");
                }
                if !text.is_empty() {
                    warn!("the new configuration has warnings\n{text}");
                }
            }
            Outcome::Unchanged => {
                self.told = None;
                match scope {
                    Scope::Everything => info!("reload: nothing has changed"),
                    Scope::Servers => debug!("reload: nothing has changed"),
                }
            }
            Outcome::Refused(text) => {
                if scope == Scope::Everything || self.told.as_ref() != Some(&text) {
                    error!("reload refused, the old configuration stays\n{text}");
                }
                self.told = Some(text);
            }
        }
    }

    /// Puts a configuration into force, whole or not at all.
    fn apply(&self, loaded: Loaded, scope: Scope) -> Outcome {
        let Some(mut next) = loaded.config.clone() else {
            return Outcome::Refused(text_of(&loaded));
        };
        let before: Config = self.proxy.snapshot().config();
        if scope == Scope::Servers {
            next.proxy = Arc::clone(&before.proxy);
        }
        let changes = Changes::between(&before, &next);
        if changes.is_empty() {
            return Outcome::Unchanged;
        }
        self.proxy.replace(next);
        Outcome::Applied(changes)
    }
}

/// The diagnostics as a start shows them, and how many there are.
fn text_of(loaded: &Loaded) -> String {
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    match render::summary(&loaded.diagnostics) {
        Some(summary) => format!("{text}{summary}"),
        None => text,
    }
}

/// What tells a folder from another one of the same name; `None` if there is none.
fn identity(folder: &Path) -> Option<impl PartialEq + use<>> {
    let metadata = std::fs::metadata(folder)
        .ok()
        .filter(std::fs::Metadata::is_dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    metadata.created().ok()
}

/// The watch over a folder that may not be there.
#[derive(Debug)]
struct Watch {
    folder: PathBuf,
    watch: Option<FolderWatch>,
}

impl Watch {
    fn begin(folder: PathBuf) -> Self {
        let watch = match FolderWatch::new(&folder) {
            Ok(watch) => Some(watch),
            Err(error) => {
                debug!(folder = %folder.display(), %error, "the folder cannot be watched");
                None
            }
        };
        Self { folder, watch }
    }

    /// A watch for the folder's return.
    fn gone(folder: PathBuf) -> Self {
        Self {
            folder,
            watch: None,
        }
    }

    fn touch(&self) {
        if let Some(watch) = &self.watch {
            watch.touch();
        }
    }

    /// Completes when files have changed, or when a missing folder has come.
    async fn settled(&self) {
        match &self.watch {
            Some(watch) => watch.settled().await,
            None => {
                let mut tick = tokio::time::interval(WATCH_RETRY);
                loop {
                    tick.tick().await;
                    if self.folder.is_dir() {
                        return;
                    }
                }
            }
        }
    }
}

/// `SIGHUP`, where there is such a thing.
#[derive(Debug)]
struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangup {
    fn new() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                signal: signal(SignalKind::hangup())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
