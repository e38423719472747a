//! Hot reload: a new configuration becomes the snapshot in force, or the old
//! one stays and the log says why.
//!
//! A change in the folder of server files reloads the servers, and judges them
//! together with the global file as it was taken over: an edit of that file
//! waits for `SIGHUP`, which reads everything anew, as a start does. Sessions
//! keep the snapshot that they began with.

mod containers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use self::containers::Containers;
use crate::config::model::{Config, DockerConfig};
use crate::config::reload::{Changes, FolderWatch, Links};
use crate::config::{GlobalText, LoadOptions, Loaded, load};
use crate::diagnostic::render::{self, Colour};
use crate::diagnostic::{Diagnostic, words};
use crate::plugin::Reloaded;
#[cfg(unix)]
use crate::plugin::{Spec, trial};
use crate::proxy::Proxy;
#[cfg(not(unix))]
use crate::server;
use crate::service_manager;

/// How often a folder that cannot be watched is looked for again: it may just
/// be replaced by another.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// How often a folder is read that the system does not let us watch.
const REFUSED_RETRY: Duration = Duration::from_secs(10);

/// The most problems of one reload that the log shows; `check` shows all.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// The most names of servers in one line of the log.
const NAMES_SHOWN_MAX: usize = 100;

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

/// A reload of everything that somebody waits for.
#[derive(Debug)]
pub struct Request {
    /// A plugin that is to be loaded even if nothing about it has changed.
    pub anew: Option<String>,
    /// Gets what came of it.
    pub answer: oneshot::Sender<Outcome>,
}

/// Keeps a running proxy in step with its files.
#[derive(Debug)]
pub struct Reloader {
    options: LoadOptions,
    /// The global file in force.
    global: GlobalText,
    proxy: Arc<Proxy>,
    /// The configuration in force as far as it comes from files.
    files: Config,
    containers: Option<Containers>,
    hangup: Hangup,
    requests: mpsc::Receiver<Request>,
    /// The request that the next reload answers.
    request: Option<Request>,
    /// The last refusal that was told, so that a file that stays broken while
    /// others are written is not told again and again.
    told: Option<String>,
}

impl Reloader {
    /// Reloads what `options` name into `proxy`, which began with `global`,
    /// also when it is requested.
    #[must_use]
    pub fn new(
        options: LoadOptions,
        global: GlobalText,
        proxy: Arc<Proxy>,
        requests: mpsc::Receiver<Request>,
        hangup: Hangup,
    ) -> Self {
        let files = proxy.snapshot().config();
        let docker = files.proxy.docker.as_ref();
        let drain = &proxy.shutdown.drain;
        let containers = docker.map(|docker| Containers::watch(docker, drain));
        Self {
            options,
            global,
            proxy,
            files,
            containers,
            hangup,
            requests,
            request: None,
            told: None,
        }
    }

    /// Reloads whenever files change or `SIGHUP` comes, until the proxy drains.
    pub async fn run(mut self) {
        let drain = self.proxy.shutdown.drain.clone();
        let mut problem = None;
        let mut due = None;
        loop {
            // Watched anew before the files are read, so that no change falls
            // between: the folder may be another one by now.
            let watch = Watch::begin(self.folder()).await;
            if watch.problem() != problem.as_ref() {
                watch.tell();
                problem = watch.problem().cloned();
            }
            match due {
                // What was written since the start read the files is a change, too.
                None => watch.touch(),
                Some(Scope::Servers) if watch.is_gone() => {}
                Some(scope) => {
                    if scope == Scope::Everything {
                        service_manager::reloading();
                    }
                    let is_read = self.reload(scope).await;
                    if scope == Scope::Everything {
                        service_manager::ready();
                    }
                    if !is_read || self.folder() != watch.folder {
                        due = Some(Scope::Servers);
                        continue;
                    }
                }
            }
            let mut settled = std::pin::pin!(watch.settled());
            due = loop {
                tokio::select! {
                    () = drain.cancelled() => return,
                    () = self.hangup.next() => break Some(Scope::Everything),
                    Some(request) = self.requests.recv() => {
                        self.request = Some(request);
                        break Some(Scope::Everything);
                    }
                    () = &mut settled => break Some(Scope::Servers),
                    () = Containers::changed(self.containers.as_mut()) => {}
                }
                self.follow_containers().await;
            };
        }
    }

    /// Puts the servers of other containers into force than before.
    async fn follow_containers(&mut self) {
        let next = self.with_containers(self.global.clone()).await;
        let changes = Changes::between(&self.proxy.snapshot().config(), &next);
        if !self.put_into_force(next, &changes) {
            return;
        }
        info!(
            added = ?some_of(&changes.added),
            changed = ?some_of(&changes.changed),
            removed = ?some_of(&changes.removed),
            "servers of containers changed"
        );
    }

    /// Replaces the snapshot, unless nothing differs. Whether something does.
    fn put_into_force(&mut self, next: Config, changes: &Changes) -> bool {
        let differs = !changes.is_empty();
        if differs {
            self.proxy.replace(next);
        }
        if let Some(containers) = &mut self.containers {
            containers.in_force();
        }
        differs
    }

    /// The configuration of the files with the servers of containers in it.
    async fn with_containers(&mut self, global: GlobalText) -> Config {
        let Some(containers) = &mut self.containers else {
            return self.files.clone();
        };
        let options = || {
            let options = LoadOptions {
                global: Some(global.clone()),
                plugins: Some(Arc::new(self.proxy.plugins.manifests())),
                ..self.options.clone()
            };
            (options, global)
        };
        containers.beside(&self.files, options).await
    }

    fn folder(&self) -> PathBuf {
        self.proxy.snapshot().proxy.servers_dir.clone()
    }

    /// Loads, and takes over what is valid. `false` when the folder was replaced
    /// meanwhile, so that what was read says nothing.
    async fn reload(&mut self, scope: Scope) -> bool {
        let folder = self.folder();
        let before = identity(&folder);
        let mut options = self.options.clone();
        if scope == Scope::Servers {
            options.global = Some(self.global.clone());
            options.plugins = Some(Arc::new(self.proxy.plugins.manifests()));
        }
        let request = self.request.take();
        let global = self.global.clone();
        // Reading ten thousand files takes a while: not on a worker of players.
        let read = tokio::task::spawn_blocking(move || {
            let loaded = load(&options);
            let is_edited = options.global.is_some() && !global.is_current(&options);
            (loaded, is_edited)
        });
        let (loaded, is_edited) = match read.await {
            Ok(read) => read,
            Err(panic) => {
                error!(%panic, "reload refused: loading failed; the old configuration stays");
                return true;
            }
        };
        if scope == Scope::Servers && before != identity(&folder) {
            debug!(folder = %folder.display(), "the folder of server files is being replaced");
            return false;
        }
        let text = text_of(&loaded);
        let global = loaded.global.clone();
        let anew = request.as_ref().and_then(|request| request.anew.clone());
        let outcome = self.apply(loaded, scope, anew).await;
        self.tell(&outcome, &text, scope, is_edited);
        if let (false, Some(global)) = (matches!(outcome, Outcome::Refused(_)), global) {
            self.global = global;
        }
        if let Some(request) = request {
            // Whoever asked may have left.
            let _ = request.answer.send(outcome);
        }
        true
    }

    /// Writes to the log what came of a reload; `warnings` are those of the
    /// new configuration.
    fn tell(&mut self, outcome: &Outcome, warnings: &str, scope: Scope, is_edited: bool) {
        match outcome {
            Outcome::Applied(changes) => {
                self.told = None;
                info!(
                    added = ?some_of(&changes.added),
                    changed = ?some_of(&changes.changed),
                    removed = ?some_of(&changes.removed),
                    global = ?changes.global,
                    plugins = ?changes.plugins,
                    "configuration reloaded"
                );
                if !changes.restart.is_empty() {
                    warn!(keys = ?changes.restart, "these keys take effect with the next start");
                }
                if !warnings.is_empty() {
                    warn!("the new configuration has warnings\n{warnings}");
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
                let mut text = text.clone();
                if is_edited {
                    text.push_str(
                        "\nthe global file has been edited since it was taken over; \
                         `SIGHUP` takes over both",
                    );
                }
                if self.told.as_ref() != Some(&text) {
                    error!("reload refused, the old configuration stays\n{text}");
                } else if scope == Scope::Everything {
                    error!("reload refused for the same reasons, the old configuration stays");
                }
                self.told = Some(text);
            }
        }
    }

    /// Puts a configuration into force, whole or not at all.
    async fn apply(&mut self, mut loaded: Loaded, scope: Scope, anew: Option<String>) -> Outcome {
        let Some(mut next) = loaded.config.clone() else {
            return Outcome::Refused(text_of(&loaded));
        };
        let before: Config = self.proxy.snapshot().config();
        if scope == Scope::Servers {
            next.proxy = Arc::clone(&before.proxy);
            next.plugins.clone_from(&before.plugins);
        }
        // A start may go on without the folder. Here players would lose their
        // servers because a folder is moved at this very moment.
        if next.servers.is_empty()
            && !self.files.servers.is_empty()
            && !next.proxy.servers_dir.exists()
        {
            let folder = words::path(&next.proxy.servers_dir);
            return Outcome::Refused(format!("the folder `{folder}` of the server files is gone"));
        }
        let mut plugins = Vec::new();
        if scope == Scope::Everything {
            match self.load_plugins(&next, anew, &loaded).await {
                Ok(Reloaded { loaded, ended }) => plugins = [loaded, ended].concat(),
                Err(problems) => {
                    loaded.report(problems);
                    return Outcome::Refused(text_of(&loaded));
                }
            }
        }
        if let (Scope::Everything, Some(containers)) = (scope, &mut self.containers) {
            containers.judge_anew();
        }
        if next.proxy.docker != before.proxy.docker {
            self.watch_engine(next.proxy.docker.as_ref());
        }
        let global = loaded.global.as_ref().unwrap_or(&self.global).clone();
        self.files = next;
        let next = self.with_containers(global).await;
        let mut changes = Changes::between(&before, &next);
        changes.plugins = plugins;
        if self.put_into_force(next, &changes) {
            Outcome::Applied(changes)
        } else {
            Outcome::Unchanged
        }
    }

    /// Watches the engine that this table names, or none any more.
    fn watch_engine(&mut self, docker: Option<&DockerConfig>) {
        let drain = &self.proxy.shutdown.drain;
        self.containers = match (self.containers.take(), docker) {
            (Some(before), Some(docker)) => Some(before.watch_instead(docker, drain)),
            (None, Some(docker)) => Some(Containers::watch(docker, drain)),
            (_, None) => None,
        };
    }

    /// Loads the plugins of a configuration in place of the present ones, or
    /// tells what keeps it from that. `loaded` is the configuration.
    async fn load_plugins(
        &self,
        next: &Config,
        anew: Option<String>,
        loaded: &Loaded,
    ) -> Result<Reloaded, Vec<Diagnostic>> {
        #[cfg(unix)]
        {
            let proxy = Arc::clone(&self.proxy);
            let specs = next.plugins.iter().map(|plugin| Spec::from(&**plugin));
            let specs: Vec<Spec> = specs.collect();
            let reload = move || trial::reload(&proxy.plugins, specs, anew.as_deref());
            match tokio::task::spawn_blocking(reload).await {
                Ok(reloaded) => reloaded.map_err(|refused| refused.diagnostics(loaded)),
                // A plugin's own panics are caught: this is one of ours.
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        #[cfg(not(unix))]
        match server::load_plugins(&self.proxy, next, anew).await {
            Ok(reloaded) => Ok(reloaded),
            Err(problems) => Err(problems.iter().map(|one| one.diagnostic(loaded)).collect()),
        }
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

/// The diagnostics as a start shows them, and how many there are. Of many only
/// the first, and then errors alone: a log is no place for megabytes.
fn text_of(loaded: &Loaded) -> String {
    let Some(summary) = render::summary(&loaded.diagnostics) else {
        return String::new();
    };
    if loaded.diagnostics.len() <= PROBLEMS_SHOWN_MAX {
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        return format!("{text}{summary}");
    }
    let shown: Vec<_> = loaded
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error() || !loaded.has_errors())
        .take(PROBLEMS_SHOWN_MAX)
        .cloned()
        .collect();
    let text = render::to_text(&shown, &loaded.sources, Colour::Never);
    let count = shown.len();
    format!("{text}{summary}; these are the first {count}, `infrarust check` shows all")
}

/// The first names of many, and how many more there are.
fn some_of(names: &[String]) -> Vec<String> {
    let mut some: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).cloned().collect();
    if names.len() > some.len() {
        some.push(format!("… and {} more", names.len() - some.len()));
    }
    some
}

/// The watch over a folder that may not be there.
struct Watch {
    folder: PathBuf,
    links: Links,
    watch: Result<FolderWatch, Problem>,
}

/// Why a folder is not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// It is not there, or no folder.
    Gone,
    /// The system refuses, in its words.
    Refused(String),
}

impl Watch {
    /// Begins a watch, without holding up players while the folder is listed.
    async fn begin(folder: PathBuf) -> Self {
        let at = folder.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let watch = FolderWatch::new(&at).map_err(|error| {
                if at.is_dir() {
                    Problem::Refused(error.to_string())
                } else {
                    Problem::Gone
                }
            });
            (watch, Links::of(&at))
        });
        let (watch, links) = begun.await.unwrap_or_else(|panic| {
            let problem = Problem::Refused(panic.to_string());
            (Err(problem), Links::default())
        });
        Self {
            folder,
            links,
            watch,
        }
    }

    fn problem(&self) -> Option<&Problem> {
        self.watch.as_ref().err()
    }

    fn is_gone(&self) -> bool {
        self.problem() == Some(&Problem::Gone)
    }

    /// Counts as a change.
    fn touch(&self) {
        if let Ok(watch) = &self.watch {
            watch.touch();
        }
    }

    /// Says in the log what is wrong, if anything is.
    fn tell(&self) {
        let folder = self.folder.display();
        match self.problem() {
            None => {}
            Some(Problem::Gone) => warn!(
                %folder,
                "the folder of the server files is not there; it is read when it comes"
            ),
            Some(Problem::Refused(error)) => warn!(
                %folder,
                %error,
                "the folder of the server files cannot be watched; it is read every ten seconds"
            ),
        }
    }

    /// Completes when files have changed, when a missing folder has come, or
    /// when it is time to try again to watch it.
    async fn settled(&self) {
        match &self.watch {
            Ok(watch) => tokio::select! {
                () = watch.settled() => {}
                () = self.links.settled() => {}
            },
            Err(Problem::Gone) => loop {
                tokio::time::sleep(WATCH_RETRY).await;
                if self.folder.is_dir() {
                    return;
                }
            },
            Err(Problem::Refused(_)) => tokio::time::sleep(REFUSED_RETRY).await,
        }
    }
}

/// `SIGHUP`, where there is such a thing. It counts from the moment that this is
/// made.
#[derive(Debug)]
pub struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangup {
    /// From now on the signal does not end the process, and none is lost. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    ///
    /// When the signal cannot be awaited.
    pub fn new() -> std::io::Result<Self> {
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
