//! Hot reload: a new configuration becomes the snapshot in force, or the old
//! one stays and the log says why.
//!
//! A change in the folder of server files reloads the servers, and checks them
//! together with the global file in force: an edit of that file waits for
//! `SIGHUP`, which reads everything again, as a start does. Sessions keep the
//! snapshot that they began with.

pub(crate) mod changes;
mod containers;
mod events;
mod look;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use self::changes::Changes;
use self::containers::Containers;
pub use self::look::Look;
use self::watch::Follow;
use crate::apart::{self, NotDone};
use crate::config::load::is_folder;
use crate::config::model::{Config, DockerConfig, ProxyConfig};
use crate::config::{GlobalText, LoadOptions, Loaded, load};
use crate::diagnostic::render::{self, Colour};
use crate::diagnostic::{Diagnostic, words};
use crate::plugin::Reloaded;
#[cfg(unix)]
use crate::plugin::{Spec, trial};
use crate::proxy::Proxy;
use crate::supervise::{self, FAILURE_PAUSE, Failed};
use crate::telemetry::service_manager;

/// The wait after a reload that failed for lack of a thread, a descriptor or an answer of
/// the disk.
const RETRY: Duration = Duration::from_secs(5);

/// How long a reload may take before the log reports it, and again after twice that time.
/// Plugins have half a minute to start.
const UNDER_WAY_LOGGED: Duration = Duration::from_secs(30);

/// The most problems of one reload that the log shows; `check` shows all.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// The most names of servers in one line of the log.
const NAMES_SHOWN_MAX: usize = 100;

/// What a reload applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The server files.
    Servers,
    /// The global file, too.
    Everything,
}

/// The result of a reload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The new configuration is in force.
    Applied(Changes),
    /// Nothing differs.
    Unchanged,
    /// The old configuration stays, for these reasons.
    Refused(String),
}

/// A requested reload of everything. The requester waits for the result.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id of a plugin that is loaded even if nothing about it has changed.
    pub force: Option<String>,
    /// Gets the result.
    pub answer: oneshot::Sender<Outcome>,
}

/// Keeps a running proxy in step with its files.
#[derive(Debug)]
pub(crate) struct Reloader {
    options: LoadOptions,
    /// The global file in force.
    global: GlobalText,
    proxy: Arc<Proxy>,
    /// The part of the configuration in force that comes from files.
    files: Config,
    containers: Option<Containers>,
    hangup: Hangup,
    requests: mpsc::Receiver<Request>,
    follow: Follow,
    /// The files that are being read.
    reading: Job<Read>,
    /// The plugins of a new configuration that are being loaded. Until then the
    /// configuration in force follows files and containers.
    loading: Job<Plugged>,
    /// The last refusal that was logged, so that a file that stays broken while
    /// others are written is not logged again and again.
    refused: Option<String>,
    /// The warnings about the files in force; `None` before the first reload, since the
    /// start has shown its own.
    warned: Option<String>,
    /// The settings at the start of the process, which stay in effect for keys that need a
    /// restart.
    started: Arc<ProxyConfig>,
    /// The keys that the log has reported as needing a restart.
    pending: Vec<String>,
}

/// A part of a reload, made on another thread.
struct Job<T> {
    running: Option<Running<T>>,
    what: &'static str,
}

struct Running<T> {
    result: Pin<Box<dyn Future<Output = Result<T, NotDone>> + Send>>,
    request: Option<Request>,
    scope: Scope,
    began: Instant,
    /// When the log reports that it still runs.
    logged_at: Instant,
}

/// The result of a part of a reload, and its request.
struct Ended<T> {
    result: Result<T, NotDone>,
    request: Option<Request>,
    scope: Scope,
}

impl<T> Job<T> {
    const fn idle(what: &'static str) -> Self {
        let running = None;
        Self { running, what }
    }

    fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    fn begin(
        &mut self,
        scope: Scope,
        request: Option<Request>,
        result: impl Future<Output = Result<T, NotDone>> + Send + 'static,
    ) {
        let began = Instant::now();
        self.running = Some(Running {
            result: Box::pin(result),
            request,
            scope,
            began,
            logged_at: began + UNDER_WAY_LOGGED,
        });
    }

    /// Completes with the result of the running part. Cancel safe.
    async fn ended(&mut self) -> Ended<T> {
        loop {
            let Some(running) = &mut self.running else {
                return std::future::pending().await;
            };
            let result = tokio::select! {
                result = &mut running.result => result,
                () = sleep_until(running.logged_at) => {
                    let took = running.began.elapsed();
                    running.logged_at += took;
                    warn!(
                        seconds = took.as_secs(),
                        "a reload does not end: {}; what runs goes on unchanged",
                        self.what
                    );
                    continue;
                }
            };
            if let Some(Running { request, scope, .. }) = self.running.take() {
                return Ended {
                    result,
                    request,
                    scope,
                };
            }
        }
    }
}

impl<T> std::fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Job")
            .field(&self.what)
            .field(&self.is_idle())
            .finish()
    }
}

/// The files that were read.
struct Read {
    loaded: Loaded,
    /// The text of their problems.
    text: String,
    /// The check of the folder of server files before they were read, if it was possible.
    look: Option<Look>,
    /// Whether the folder was missing, or was replaced by another one in the meantime.
    is_replaced: bool,
    /// Whether the folder that they name exists.
    has_folder: bool,
    /// Whether the global file has been edited since it took effect.
    is_edited: bool,
}

/// A configuration with loaded plugins.
struct Plugged {
    /// The text of its problems, or why its plugins are not loaded.
    text: String,
    /// The configuration that takes effect, unless it is refused.
    next: Option<Next>,
}

struct Next {
    config: Config,
    global: Option<GlobalText>,
    plugins: Reloaded,
    look: Option<Look>,
}

impl Reloader {
    /// A reloader of the files in `options` for `proxy`, which began with `global`. It also
    /// handles requests.
    #[must_use]
    pub(crate) fn new(
        options: LoadOptions,
        global: GlobalText,
        proxy: Arc<Proxy>,
        requests: mpsc::Receiver<Request>,
        hangup: Hangup,
    ) -> Self {
        let files = proxy.snapshot().config();
        let started = Arc::clone(&files.proxy);
        let docker = files.proxy.docker.as_ref();
        let drain = &proxy.shutdown.drain;
        let containers = docker.map(|docker| Containers::watch(docker, drain));
        let follow = Follow::new(files.proxy.servers_dir.clone());
        Self {
            options,
            global,
            proxy,
            files,
            containers,
            hangup,
            requests,
            follow,
            reading: Job::idle("the files are being read"),
            loading: Job::idle("the plugins are being tried and loaded"),
            refused: None,
            warned: None,
            started,
            pending: Vec::new(),
        }
    }

    /// Reloads whenever files change or `SIGHUP` comes, until the proxy drains. A
    /// failure of its own is logged, and does not end it.
    pub(crate) async fn run(mut self) {
        let what = "following the configuration";
        while let Err(Failed) = supervise::caught(what, self.serve()).await {
            // The running parts have no result any more.
            self.reading.running = None;
            self.loading.running = None;
            service_manager::ready();
            self.follow.again(Instant::now() + FAILURE_PAUSE);
            sleep(FAILURE_PAUSE).await;
        }
    }

    async fn serve(&mut self) {
        let drain = self.proxy.shutdown.drain.clone();
        loop {
            let can_read = self.reading.is_idle();
            // One reload at a time.
            let is_free = can_read && self.loading.is_idle();
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.hangup.next(), if is_free => {
                    self.proxy.upstream.forget_names();
                    self.read(Scope::Everything, None);
                }
                Some(request) = self.requests.recv(), if is_free => {
                    self.read(Scope::Everything, Some(request));
                }
                () = self.follow.changed(), if can_read => self.read(Scope::Servers, None),
                read = self.reading.ended() => self.take_files(read).await,
                plugged = self.loading.ended() => self.take_plugins(plugged).await,
                () = Containers::changed(self.containers.as_mut()) => {
                    self.follow_containers().await;
                }
            }
        }
    }

    /// Puts changed servers of containers into force.
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

    /// Replaces the snapshot, unless nothing differs. Returns whether something does.
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

    /// The configuration of the files, with the servers of containers added.
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

    /// Begins to read the files, on a separate thread: ten thousand files take a while, and
    /// a disk may not answer.
    fn read(&mut self, scope: Scope, request: Option<Request>) {
        if scope == Scope::Everything {
            service_manager::reloading();
        }
        let folder = self.follow.folder().to_owned();
        let mut options = self.options.clone();
        if scope == Scope::Servers {
            options.global = Some(self.global.clone());
            options.plugins = Some(Arc::new(self.proxy.plugins.manifests()));
        }
        let global = self.global.clone();
        let read = move || {
            let before = Look::in_time(&folder);
            let loaded = load(&options);
            let folder_of = |config: &Config| config.proxy.servers_dir.clone();
            let named = loaded.config.as_ref().map_or(folder.clone(), folder_of);
            Read {
                text: text_of(&loaded),
                is_edited: options.global.is_some() && !global.is_current(&options),
                is_replaced: before.is_some_and(|before| before.is_replaced(&folder)),
                has_folder: is_folder(&named),
                look: if named == folder {
                    before
                } else {
                    Look::in_time(&named)
                },
                loaded,
            }
        };
        self.reading.begin(scope, request, apart::run(read));
    }

    /// Continues with files that were read.
    async fn take_files(&mut self, ended: Ended<Read>) {
        let Ended {
            result,
            request,
            scope,
        } = ended;
        let read = match result {
            Ok(read) => read,
            Err(problem) => {
                self.follow.again(Instant::now() + RETRY);
                let text = format!("the files were not read: {problem}");
                self.refuse(text, scope, false, request);
                return;
            }
        };
        if scope == Scope::Servers && read.is_replaced {
            // The files that were read do not count. The next check finds the new folder.
            debug!(folder = %self.follow.folder().display(), "the folder of server files is being replaced");
            return;
        }
        // A start may continue without the folder. During a reload, players would lose
        // their servers because a folder is being moved.
        let is_lost = |next: &Config| {
            next.servers.is_empty() && !self.files.servers.is_empty() && !read.has_folder
        };
        let refused = match &read.loaded.config {
            None => Some(read.text.clone()),
            Some(next) if is_lost(next) => {
                let folder = words::path(&next.proxy.servers_dir);
                Some(format!("the folder `{folder}` of the server files is gone"))
            }
            Some(_) => None,
        };
        let is_incomplete = read.loaded.is_incomplete;
        if scope == Scope::Servers {
            match read.look {
                Some(look) if !(refused.is_some() && is_incomplete) => self.follow.was_read(look),
                Some(_) | None => self.follow.again(Instant::now() + RETRY),
            }
        }
        match (refused, scope) {
            // The changes in the folder still have to be read.
            (Some(text), _) => self.refuse(text, scope, read.is_edited, request),
            (None, Scope::Servers) => self.take_servers(read).await,
            (None, Scope::Everything) => self.load_plugins(read, request),
        }
    }

    /// Puts the servers of files into force, with the global file in force.
    async fn take_servers(&mut self, read: Read) {
        let Some(mut next) = read.loaded.config else {
            return;
        };
        let before = self.proxy.snapshot().config();
        next.proxy = Arc::clone(&before.proxy);
        next.plugins.clone_from(&before.plugins);
        self.files = next;
        let next = self.with_containers(self.global.clone()).await;
        let changes = Changes::between(&before, &next);
        let outcome = self.outcome(next, changes);
        self.end(&outcome, &read.text, Scope::Servers, false);
    }

    /// Begins to load the plugins of files that were read.
    fn load_plugins(&mut self, read: Read, request: Option<Request>) {
        let force = request.as_ref().and_then(|request| request.force.clone());
        let proxy = Arc::clone(&self.proxy);
        let options = self.options.clone();
        let scope = Scope::Everything;
        #[cfg(unix)]
        self.loading.begin(
            scope,
            request,
            apart::run(move || {
                let plugins = read.loaded.config.iter().flat_map(|next| &next.plugins);
                let specs: Vec<Spec> = plugins.map(|plugin| Spec::from(&**plugin)).collect();
                let reloaded = trial::reload(&proxy.plugins, specs, force.as_deref());
                let reloaded = reloaded.map_err(|refused| refused.diagnostics(&read.loaded));
                read.with_plugins(reloaded, &proxy, &options)
            }),
        );
        #[cfg(not(unix))]
        self.loading.begin(
            scope,
            request,
            apart::run(move || {
                let reloaded = match &read.loaded.config {
                    None => Err(Vec::new()),
                    Some(next) => proxy.load_plugins(next, force.as_deref()).map_err(|all| {
                        let problems = all.iter();
                        problems.map(|one| one.diagnostic(&read.loaded)).collect()
                    }),
                };
                read.with_plugins(reloaded, &proxy, &options)
            }),
        );
    }

    /// Puts a configuration with loaded plugins into force.
    async fn take_plugins(&mut self, ended: Ended<Plugged>) {
        let Ended {
            result,
            request,
            scope,
        } = ended;
        let (next, text) = match result {
            Ok(Plugged {
                next: Some(next),
                text,
            }) => (next, text),
            Ok(Plugged { next: None, text }) => return self.refuse(text, scope, false, request),
            Err(problem) => {
                let text = format!("the plugins were not loaded: {problem}");
                return self.refuse(text, scope, false, request);
            }
        };
        let before: Config = self.proxy.snapshot().config();
        if let Some(containers) = &mut self.containers {
            containers.check_again();
        }
        let Next {
            config,
            global,
            plugins,
            look,
        } = next;
        if config.proxy.docker != before.proxy.docker {
            self.watch_engine(config.proxy.docker.as_ref());
        }
        if let Some(global) = global {
            self.global = global;
        }
        self.follow.turn_to(&config.proxy.servers_dir);
        match look {
            Some(look) => self.follow.was_read(look),
            None => self.follow.again(Instant::now() + RETRY),
        }
        if !self.reading.is_idle() {
            // These files were checked with the previous global file.
            self.reading.running = None;
            self.follow.again(Instant::now());
        }
        self.files = config;
        let next = self.with_containers(self.global.clone()).await;
        let mut changes = Changes::between(&before, &next);
        changes.plugins = [plugins.loaded, plugins.ended].concat();
        let outcome = self.outcome(next, changes);
        self.end(&outcome, &text, scope, false);
        answer(request, outcome);
    }

    /// Puts a configuration into force. Returns what has changed.
    fn outcome(&mut self, next: Config, mut changes: Changes) -> Outcome {
        let proxy = Arc::clone(&next.proxy);
        let differs = self.put_into_force(next, &changes);
        // A key that has its running value again does not need a restart, although it
        // differs from the previous file.
        changes.count_restart_from(&self.started, &proxy);
        if differs {
            Outcome::Applied(changes)
        } else {
            Outcome::Unchanged
        }
    }

    fn refuse(&mut self, text: String, scope: Scope, is_edited: bool, request: Option<Request>) {
        let outcome = Outcome::Refused(text);
        self.end(&outcome, "", scope, is_edited);
        answer(request, outcome);
    }

    /// Reports the result of a reload.
    fn end(&mut self, outcome: &Outcome, warnings: &str, scope: Scope, is_edited: bool) {
        self.log(outcome, warnings, scope, is_edited);
        if scope == Scope::Everything {
            service_manager::ready();
        }
    }

    /// Logs the result of a reload; `warnings` are those of the
    /// new configuration.
    fn log(&mut self, outcome: &Outcome, warnings: &str, scope: Scope, is_edited: bool) {
        match outcome {
            Outcome::Applied(changes) => {
                self.refused = None;
                info!(
                    added = ?some_of(&changes.added),
                    changed = ?some_of(&changes.changed),
                    removed = ?some_of(&changes.removed),
                    global = ?changes.global(),
                    plugins = ?changes.plugins,
                    "configuration reloaded"
                );
                // Logged once for each set of keys, and not with every later change of a
                // server.
                let is_new = self.pending != changes.restart;
                self.pending.clone_from(&changes.restart);
                if is_new && !changes.restart.is_empty() {
                    warn!(keys = ?changes.restart, "these keys take effect with the next start");
                }
                if !warnings.is_empty() {
                    warn!("the new configuration has warnings\n{warnings}");
                }
                self.warned = Some(warnings.to_owned());
            }
            Outcome::Unchanged => {
                let was_refused = self.refused.take().is_some();
                let is_new = self.warned.as_deref().is_some_and(|old| old != warnings);
                if is_new && !warnings.is_empty() {
                    warn!("the files say the same as before, with warnings\n{warnings}");
                }
                self.warned = Some(warnings.to_owned());
                if was_refused {
                    info!("the files are valid again, and the configuration in force is theirs");
                }
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
                if self.refused.as_ref() != Some(&text) {
                    error!("reload refused, the old configuration stays\n{text}");
                } else if scope == Scope::Everything {
                    error!("reload refused for the same reasons, the old configuration stays");
                }
                self.refused = Some(text);
            }
        }
    }

    /// Watches the engine in this table; without a table stops watching.
    fn watch_engine(&mut self, docker: Option<&DockerConfig>) {
        let drain = &self.proxy.shutdown.drain;
        self.containers = match (self.containers.take(), docker) {
            (Some(before), Some(docker)) => Some(before.watch_instead(docker, drain)),
            (None, Some(docker)) => Some(Containers::watch(docker, drain)),
            (_, None) => None,
        };
    }
}

impl Read {
    /// Continues after the plugins were loaded, or could not be loaded for the reasons in
    /// `reloaded`. May block.
    fn with_plugins(
        mut self,
        reloaded: Result<Reloaded, Vec<Diagnostic>>,
        proxy: &Proxy,
        options: &LoadOptions,
    ) -> Plugged {
        let plugins = match reloaded {
            Ok(plugins) => plugins,
            Err(problems) => {
                self.loaded.report(problems);
                let (text, next) = (text_of(&self.loaded), None);
                return Plugged { text, next };
            }
        };
        // Plugins may take a minute to start. A valid server file that was written in the
        // meantime is in force already, and stays so.
        let folder = self.loaded.config.as_ref();
        let folder = folder.map(|config| config.proxy.servers_dir.clone());
        let now = folder.and_then(|folder| Look::in_time(&folder));
        if let Some(look) = now.filter(|now| Some(*now) != self.look) {
            let again = load(&LoadOptions {
                global: self.loaded.global.clone(),
                plugins: Some(Arc::new(proxy.plugins.manifests())),
                ..options.clone()
            });
            if again.config.is_some() && is_folder_of(&again) {
                self.text = text_of(&again);
                self.loaded = again;
                self.look = Some(look);
            }
        }
        let Loaded { config, global, .. } = self.loaded;
        let look = self.look;
        Plugged {
            text: self.text,
            next: config.map(|config| Next {
                config,
                global,
                plugins,
                look,
            }),
        }
    }
}

/// Whether the folder of the server files of a configuration exists.
fn is_folder_of(loaded: &Loaded) -> bool {
    let config = loaded.config.as_ref();
    config.is_some_and(|config| is_folder(&config.proxy.servers_dir))
}

/// Answers the requester of a reload.
fn answer(request: Option<Request>, outcome: Outcome) {
    if let Some(request) = request {
        // The requester may have left.
        let _ = request.answer.send(outcome);
    }
}

/// The diagnostics in the form of a start, and their number. If there are many, only the
/// first errors: a log should not get megabytes.
fn text_of(loaded: &Loaded) -> String {
    let Some(summary) = render::summary(&loaded.diagnostics) else {
        return String::new();
    };
    if loaded.diagnostics.len() <= PROBLEMS_SHOWN_MAX {
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        return format!("{text}{summary}");
    }
    let has_errors = loaded.has_errors();
    let shown: Vec<_> = loaded
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error() || !has_errors)
        .take(PROBLEMS_SHOWN_MAX)
        .cloned()
        .collect();
    let text = render::to_text(&shown, &loaded.sources, Colour::Never);
    let count = shown.len();
    format!("{text}{summary}; these are the first {count}, `infrarust check` shows all")
}

/// The first names, and the number of the others.
fn some_of(names: &[String]) -> Vec<String> {
    let mut some: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).cloned().collect();
    if names.len() > some.len() {
        some.push(format!("… and {} more", names.len() - some.len()));
    }
    some
}

/// `SIGHUP`, on systems that have it. It is received from the moment that this is made.
#[derive(Debug)]
pub(crate) struct Hangup {
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
    pub(crate) fn new() -> std::io::Result<Self> {
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
