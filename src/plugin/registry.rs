//! Which plugins there are: loading, generations, reload, and the hook sets of
//! servers.

use std::collections::HashMap;
use std::fmt;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::dispatch::HookSet;
use super::ffi::{self, Failure, FailureKind, Image, Instance};
use super::health::{Counts, Health, LastFailure};
use super::image::{self, ImageError, Sealed};
use super::log::Added;
use super::problem::{Problem, ProblemKind};
use super::services::{self, MetricValue, OwnMetrics, PlayerCounts, Services, Tasks};
use super::watch::Token;
use crate::config::model::{Document, OnFailure, PluginConfig};
use crate::config::plugin_file::{self, Judged, Sha};
use crate::manifest::Manifest;
use crate::mode::Mode;

/// How often one plugin can be loaded in the life of a process. What was mapped
/// stays mapped, about 0.65 MiB for a small plugin.
pub(super) const GENERATIONS_MAX: u32 = 32;
/// How long a plugin may take to start. Reading a file or opening a database
/// takes seconds at worst.
pub(super) const CREATE_TIME_MAX: Duration = Duration::from_secs(30);
/// How often whoever waits for a plugin's start, or for a reload, looks whether
/// it is still to be waited for.
const CLOSED_CHECK: Duration = Duration::from_millis(20);
/// How long the tasks of a plugin may take to end. One that is longer in a
/// single poll blocks a worker, and its plugin is then left as it is.
pub(super) const END_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a hook may wait where the configuration does not say: a fifth of
/// the handshake's own deadline.
const DEADLINE: Duration = Duration::from_secs(2);

/// A plugin as it is to be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The id of its table, which is its name in the log.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 that the file must have.
    pub sha256: Option<Sha>,
    /// What happens when it fails; `None` is the default of each hook.
    pub on_failure: Option<OnFailure>,
    /// How long a hook may wait; `None` is two seconds.
    pub deadline: Option<Duration>,
    /// The manifest that was held against the servers; the file must still
    /// have it. `None` where none was.
    pub judged: Option<Manifest>,
    /// The SHA-256 of the content that was tried; the file must still have it.
    /// `None` where none was.
    pub content: Option<Sha>,
    /// The TOML document with its own table. Places of its errors are bytes of
    /// this document.
    pub document: Document,
    /// The keys that lead to the table, such as `plugins`, the id and `config`;
    /// none: the document is the table. A table that is not there is empty.
    pub config_path: Vec<String>,
}

impl From<&PluginConfig> for Spec {
    fn from(config: &PluginConfig) -> Self {
        Self {
            id: config.id.clone(),
            file: config.file.clone(),
            sha256: config.sha256,
            on_failure: config.on_failure,
            deadline: config.deadline,
            judged: Some(config.manifest.clone()),
            content: None,
            document: config.document.clone(),
            config_path: vec!["plugins".to_owned(), config.id.clone(), "config".to_owned()],
        }
    }
}

impl Spec {
    /// Whether a plugin that was loaded from one is what the other wants. The
    /// document may differ wherever it is not about the plugin's own table.
    fn means_the_same(&self, other: &Spec) -> bool {
        let rest = |spec: &Spec| Spec {
            document: Document::default(),
            // They belong to the file, which is compared as a whole.
            judged: None,
            content: None,
            ..spec.clone()
        };
        let is_equal = self.document == other.document
            || self
                .table()
                .is_some_and(|table| other.table() == Some(table));
        is_equal && rest(self) == rest(other)
    }

    /// The table of the plugin's own settings; `None` when the document cannot
    /// be read.
    fn table(&self) -> Option<toml::Value> {
        let mut table = toml::Value::Table(self.document.0.parse().ok()?);
        for key in &self.config_path {
            let empty = || toml::Value::Table(toml::Table::new());
            table = table.get(key).cloned().unwrap_or_else(empty);
        }
        Some(table)
    }
}

/// What plugins live in.
#[derive(Clone)]
pub struct Environment {
    /// Where tasks and timers run.
    pub runtime: Handle,
    /// The folder in which each plugin has its own.
    pub data_dir: PathBuf,
    /// Who counts players.
    pub players: Arc<dyn PlayerCounts>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// How a plugin fares.
#[derive(Debug, Clone)]
pub struct PluginState {
    /// The id of the plugin.
    pub id: String,
    /// How often it was loaded by this process: 1 for the first time.
    pub generation: u32,
    /// Its manifest.
    pub manifest: Manifest,
    /// What has happened in it.
    pub counts: Counts,
    /// Whether it is quarantined.
    pub is_quarantined: bool,
    /// What went wrong last.
    pub last_failure: Option<LastFailure>,
}

/// One loaded instance of a plugin. Connections that began with it hold it;
/// with the last of them it ends.
pub(super) struct Generation {
    pub(super) spec: Spec,
    number: u32,
    sha256: Sha,
    pub(super) manifest: Manifest,
    pub(super) health: Arc<Health>,
    pub(super) token: Token,
    pub(super) deadline: Duration,
    /// Leaked: what was mapped stays mapped.
    pub(super) image: &'static Image,
    services: &'static Services,
    endings: Endings,
    /// `None` once it is ended.
    instance: Option<Instance>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({} {})", self.spec.id, self.number)
    }
}

impl Generation {
    /// Whether it was loaded from this file with these settings.
    fn is_of(&self, sha256: &Sha, spec: &Spec) -> bool {
        self.sha256 == *sha256 && self.spec.means_the_same(spec)
    }

    /// How it fares.
    fn state(&self) -> PluginState {
        PluginState {
            id: self.spec.id.clone(),
            generation: self.number,
            manifest: self.manifest.clone(),
            counts: self.health.counts(),
            is_quarantined: self.health.is_quarantined(),
            last_failure: self.health.last_failure().clone(),
        }
    }

    /// The instance; `None` only while the generation is being dropped.
    pub(super) fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let Some(instance) = self.instance.take() else {
            return;
        };
        self.endings.end(self.services, self.number, Some(instance));
    }
}

/// The generations that are ending.
#[derive(Debug, Clone, Default)]
struct Endings {
    tracker: TaskTracker,
    /// The id and the number of each that has not ended.
    unended: Arc<Mutex<Vec<Unended>>>,
}

/// A generation that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unended {
    id: String,
    generation: u32,
    /// Whether it was given up, because its tasks do not end.
    has_tasks: bool,
}

impl Endings {
    /// Ends the tasks of a generation, and then the instance that they use, if
    /// there is one. Neither may hold a worker, and the last reference may be
    /// dropped on one.
    fn end(&self, services: &'static Services, number: u32, instance: Option<Instance>) {
        services.stop_tasks();
        let id = services.health.plugin.clone();
        self.unended().push(Unended {
            id: id.clone(),
            generation: number,
            has_tasks: false,
        });
        let endings = self.clone();
        let end = self.tracker.track_future(async move {
            let tasks = tokio::time::timeout(END_TIME_MAX, services.tasks_ended());
            if tasks.await.is_err() {
                endings.give_up(&id, number);
                tracing::warn!(plugin = id, "generation {number} of plugin `{id}` has tasks that do not end: it is left as it is");
                return;
            }
            if let Some(instance) = instance
                && let Err(error) = destroy(services, instance).await
            {
                tracing::warn!(plugin = id, %error, "generation {number} of plugin `{id}` cannot be ended: it is left as it is");
                return;
            }
            services.history.metrics.release(&services.metrics);
            let is_this = |one: &Unended| one.id == id && one.generation == number;
            endings.unended().retain(|one| !is_this(one));
            tracing::debug!(plugin = id, generation = number, "plugin ended");
        });
        services.runtime.spawn(end);
    }

    fn give_up(&self, id: &str, number: u32) {
        for one in self.unended().iter_mut() {
            one.has_tasks |= one.id == id && one.generation == number;
        }
    }

    fn unended(&self) -> std::sync::MutexGuard<'_, Vec<Unended>> {
        self.unended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends an instance on a thread of its own, whose end runs the destructors that
/// the plugin has registered for it. Completes when the instance has ended.
async fn destroy(services: &'static Services, instance: Instance) -> std::io::Result<()> {
    let (sender, ended) = oneshot::channel();
    let work = move || {
        let busy = services.token.end();
        instance.destroy();
        drop(busy);
        services.token.end_of_thread();
        // Nobody may wait any more.
        let _ = sender.send(());
    };
    thread::Builder::new()
        .name("plugin-end".to_owned())
        .spawn(work)?;
    let silent = |_| std::io::Error::other("its thread ended without a word");
    ended.await.map_err(silent)
}

/// All plugins of the proxy.
#[derive(Debug)]
pub struct PluginHost {
    environment: Environment,
    /// In the order of the configuration.
    current: ArcSwap<Vec<Arc<Generation>>>,
    /// Those that were replaced, as long as connections that began with them
    /// hold them. Each id is loaded at most [`GENERATIONS_MAX`] times.
    replaced: Mutex<Vec<Weak<Generation>>>,
    /// Held by a reload, which may wait for plugins for half a minute.
    reloading: Mutex<()>,
    /// Whether all plugins end, and none is loaded any more. Written, and read
    /// before plugins are put into `current`, under the lock of `history`.
    is_closed: AtomicBool,
    /// How often each id was loaded, and its metrics. Held for moments.
    history: Mutex<HashMap<String, History>>,
    endings: Endings,
}

/// What is to be done for a plugin of a new configuration.
enum Wanted {
    /// Nothing: this one goes on.
    Present(Arc<Generation>),
    /// These bytes are to be loaded, whose SHA-256 this is.
    New(Box<Judged>, Sha),
}

/// Those generations that may go on for `spec`: none when it is to be loaded anew.
fn present_for<'a>(
    present: &'a [Arc<Generation>],
    spec: &Spec,
    anew: Option<&str>,
) -> &'a [Arc<Generation>] {
    if anew == Some(spec.id.as_str()) {
        &[]
    } else {
        present
    }
}

#[derive(Debug, Default)]
struct History {
    loads: u32,
    shared: Arc<services::History>,
}

/// What a reload has changed, by the ids of plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Loaded for the first time, or anew.
    pub loaded: Vec<String>,
    /// No longer there.
    pub ended: Vec<String>,
}

impl Reloaded {
    /// Whether all plugins are the same as before.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.loaded.is_empty() && self.ended.is_empty()
    }
}

impl PluginHost {
    /// A host without plugins.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            current: ArcSwap::default(),
            replaced: Mutex::default(),
            reloading: Mutex::default(),
            is_closed: AtomicBool::new(false),
            history: Mutex::default(),
            endings: Endings::default(),
        }
    }

    /// Puts plugins in place of the present ones, all or none.
    ///
    /// A plugin whose settings and file are the same goes on, unless it is the
    /// one to load `anew`; any other is loaded while the one before serves.
    /// With a problem, everything stays as it was. Connections keep the hook
    /// sets they have; new ones come from [`PluginHost::hooks`].
    ///
    /// Waits for the disk and for the plugins: not for a worker.
    ///
    /// # Errors
    ///
    /// Every plugin that could not be loaded.
    pub fn reload(&self, specs: Vec<Spec>, anew: Option<&str>) -> Result<Reloaded, Vec<Problem>> {
        let _reloading = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let present = self.current.load_full();
        let mut next = Vec::new();
        let mut problems = Vec::new();
        for spec in specs {
            match self.generation(&spec, present_for(&present, &spec, anew)) {
                Ok(generation) => next.push(generation),
                Err(kind) => problems.push(Problem::of(&spec, kind)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let is_in = |list: &[Arc<Generation>], one: &Arc<Generation>| {
            list.iter().any(|other| Arc::ptr_eq(one, other))
        };
        let has_id = |list: &[Arc<Generation>], id: &str| list.iter().any(|one| one.spec.id == id);
        let ids = |list: &[Arc<Generation>], wanted: &dyn Fn(&Arc<Generation>) -> bool| {
            let wanted = list.iter().filter(|one| wanted(one));
            wanted.map(|one| one.spec.id.clone()).collect()
        };
        let reloaded = Reloaded {
            loaded: ids(&next, &|one| !is_in(&present, one)),
            ended: ids(&present, &|one| !has_id(&next, &one.spec.id)),
        };
        // Closed meanwhile: then those that were loaded end with the others.
        let history = self.history();
        if !self.is_closed() {
            let gone = present.iter().filter(|one| !is_in(&next, one));
            let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
            replaced.retain(|one| one.strong_count() > 0);
            replaced.extend(gone.map(Arc::downgrade));
            drop(replaced);
            self.current.store(Arc::new(next));
        }
        drop(history);
        Ok(reloaded)
    }

    /// Ends all plugins, and lets no other begin. Those that connections still
    /// hold end with them. A reload that waits for a plugin gives up.
    pub(crate) fn close(&self) {
        let _history = self.history();
        self.is_closed.store(true, Ordering::Relaxed);
        self.current.store(Arc::default());
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn history(&self) -> std::sync::MutexGuard<'_, HashMap<String, History>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `specs` that a [`reload`](Self::reload) would load, and what
    /// keeps others from that already now. From here on each of `specs` is tied
    /// to the content that its file has.
    #[cfg(unix)]
    #[must_use]
    pub(crate) fn to_load(
        &self,
        specs: &mut [Spec],
        anew: Option<&str>,
    ) -> (Vec<Spec>, Vec<Problem>) {
        let present = self.current.load_full();
        let (mut new, mut problems) = (Vec::new(), Vec::new());
        for spec in specs {
            match self.wanted(spec, present_for(&present, spec, anew)) {
                Ok(Wanted::Present(old)) => spec.content = Some(old.sha256),
                Ok(Wanted::New(_, sha256)) => {
                    spec.content = Some(sha256);
                    new.push(spec.clone());
                }
                Err(kind) => problems.push(Problem::of(spec, kind)),
            }
        }
        (new, problems)
    }

    /// The folder in which each plugin has its own.
    #[cfg(unix)]
    #[must_use]
    pub(crate) fn data_dir(&self) -> &Path {
        &self.environment.data_dir
    }

    /// The hooks of these plugins on a server with `mode`, in this order. Those
    /// that are not loaded, or need what the mode cannot give, are not in it.
    #[must_use]
    pub fn hooks<'a>(&self, plugins: impl IntoIterator<Item = &'a str>, mode: Mode) -> HookSet {
        let present = self.current.load();
        let found: Vec<_> = plugins
            .into_iter()
            .filter_map(|id| present.iter().find(|generation| generation.spec.id == id))
            .filter(|generation| generation.manifest.runs_in(mode))
            .collect();
        HookSet::new(found.into_iter(), mode)
    }

    /// What the loaded plugins say about themselves, by their ids.
    #[must_use]
    pub fn manifests(&self) -> HashMap<String, Manifest> {
        let present = self.current.load();
        let manifest = |one: &Arc<Generation>| (one.spec.id.clone(), one.manifest.clone());
        present.iter().map(manifest).collect()
    }

    /// Waits until every plugin has ended that no connection and no hook set
    /// holds any more, those of a reload that was given up included.
    pub async fn ended(&self) {
        let is_reloading = || {
            let lock = self.reloading.try_lock();
            matches!(lock, Err(TryLockError::WouldBlock))
        };
        while is_reloading() {
            tokio::time::sleep(CLOSED_CHECK).await;
        }
        self.endings.tracker.close();
        self.endings.tracker.wait().await;
    }

    /// The ids of the plugins that were to end and have not.
    #[must_use]
    pub fn unended(&self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .endings
            .unended()
            .iter()
            .map(|one| one.id.clone())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// How the loaded plugin of this id fares, also after it was ended.
    #[cfg(unix)]
    pub(super) fn health(&self, id: &str) -> Option<Arc<Health>> {
        let present = self.current.load();
        let found = present.iter().find(|generation| generation.spec.id == id)?;
        Some(Arc::clone(&found.health))
    }

    /// Whether a generation was given up because its tasks do not end.
    #[cfg(unix)]
    pub(super) fn has_endless_tasks(&self) -> bool {
        self.endings.unended().iter().any(|one| one.has_tasks)
    }

    /// How all plugins fare, in the order of the configuration.
    #[must_use]
    pub fn states(&self) -> Vec<PluginState> {
        self.current.load().iter().map(|one| one.state()).collect()
    }

    /// How those generations fare that were replaced and that connections still
    /// hold, the oldest first.
    #[must_use]
    pub fn replaced(&self) -> Vec<PluginState> {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let held: Vec<_> = replaced.iter().filter_map(Weak::upgrade).collect();
        drop(replaced);
        held.iter().map(|one| one.state()).collect()
    }

    /// The metrics of all plugins.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricValue> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = history
            .iter()
            .flat_map(|(id, history)| history.shared.metrics.values(id))
            .collect();
        all.sort_by(|a, b| (&a.plugin, &a.name).cmp(&(&b.plugin, &b.name)));
        all
    }

    /// Ends the quarantine of a plugin; whether it was in one.
    pub fn resume(&self, id: &str) -> bool {
        let present = self.current.load();
        let mut found = present.iter().filter(|generation| generation.spec.id == id);
        found
            .next()
            .is_some_and(|generation| generation.health.resume())
    }

    /// Tells all plugins that the filter of the log has changed.
    pub fn refresh_log(&self) {
        for generation in self.current.load().iter() {
            let _busy = generation.token.task();
            generation.image.refresh_log();
        }
    }

    fn generation(
        &self,
        spec: &Spec,
        present: &[Arc<Generation>],
    ) -> Result<Arc<Generation>, ProblemKind> {
        let (judged, sha256) = match self.wanted(spec, present)? {
            Wanted::Present(old) => return Ok(old),
            Wanted::New(judged, sha256) => (*judged, sha256),
        };
        let (number, history) = self.count_load(&spec.id);
        self.make(spec.clone(), judged, sha256, number, history)
            .map(Arc::new)
    }

    /// What is to be done for a plugin, as far as can be told without running it.
    fn wanted(&self, spec: &Spec, present: &[Arc<Generation>]) -> Result<Wanted, ProblemKind> {
        let judged = plugin_file::judge(&spec.file, spec.sha256).map_err(ImageError::from)?;
        let sha256 = plugin_file::sha256(&judged.bytes);
        let is_other = |before: &Manifest| *before != judged.manifest;
        if spec.judged.as_ref().is_some_and(is_other)
            || spec.content.is_some_and(|before| before != sha256)
        {
            return Err(ProblemKind::Changed);
        }
        if let Some(old) = present.iter().find(|old| old.is_of(&sha256, spec)) {
            return Ok(Wanted::Present(Arc::clone(old)));
        }
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let loads = history.get(&spec.id).map_or(0, |history| history.loads);
        if loads >= GENERATIONS_MAX {
            return Err(ProblemKind::TooManyGenerations);
        }
        Ok(Wanted::New(Box::new(judged), sha256))
    }

    /// The number of the next generation of a plugin, and what all of them share.
    fn count_load(&self, id: &str) -> (u32, Arc<services::History>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let history = history.entry(id.to_owned()).or_default();
        history.loads += 1;
        (history.loads, Arc::clone(&history.shared))
    }

    fn make(
        &self,
        spec: Spec,
        judged: Judged,
        sha256: Sha,
        number: u32,
        history: Arc<services::History>,
    ) -> Result<Generation, ProblemKind> {
        let Judged { bytes, manifest } = judged;
        let folder = self.environment.data_dir.join(&spec.id);
        let sealed = image::seal(&bytes, &manifest.name, &self.environment.data_dir)?;
        drop(bytes);
        let health = Arc::new(Health::new(&spec.id));
        let token = Token::new(&health, &self.environment.runtime);
        let services: &'static Services = Box::leak(Box::new(Services {
            health: Arc::clone(&health),
            token,
            runtime: self.environment.runtime.clone(),
            folder,
            players: Arc::clone(&self.environment.players),
            history,
            metrics: OwnMetrics::new(),
            places: Added::default(),
            tasks: Tasks::default(),
            ran_out: Default::default(),
        }));
        let (image, instance) = create(
            sealed,
            &manifest,
            services,
            &spec,
            number,
            &self.endings,
            &self.is_closed,
        )?;
        let deadline = spec.deadline.unwrap_or(DEADLINE);
        let version = &manifest.version;
        tracing::info!(plugin = spec.id, %version, generation = number, hooks = %manifest.hooks, "plugin `{}` loaded", spec.id);
        Ok(Generation {
            spec,
            number,
            sha256,
            manifest,
            health,
            token,
            deadline,
            image,
            services,
            endings: self.endings.clone(),
            instance: Some(instance),
        })
    }
}

/// Loads the library and makes the instance on a thread of its own, so that a
/// plugin that never returns does not hold the proxy.
fn create(
    sealed: Sealed,
    manifest: &Manifest,
    services: &'static Services,
    spec: &Spec,
    number: u32,
    endings: &Endings,
    is_closed: &AtomicBool,
) -> Result<(&'static Image, Instance), ProblemKind> {
    if is_closed.load(Ordering::Relaxed) {
        return Err(closed());
    }
    let (document, path) = (Arc::clone(&spec.document.0), spec.config_path.clone());
    let (manifest, endings) = (manifest.clone(), endings.clone());
    // Without room, so that a result is received or comes back.
    let (sender, receiver) = mpsc::sync_channel(0);
    let token = services.token;
    let work = move || {
        let busy = token.load();
        let image = ffi::open(sealed, &manifest, &services.health.plugin);
        drop(busy);
        let created = image.map_err(ProblemKind::from).and_then(|image| {
            let image: &'static Image = Box::leak(Box::new(image));
            let _busy = token.start();
            let created = image.create(ffi::table(services), &document, &path);
            let instance = created.map_err(|failure| not_created(*failure))?;
            Ok((image, instance))
        });
        token.end_of_thread();
        if created.is_err() {
            endings.end(services, number, None);
        }
        // When nobody waits any more, the plugin is not wanted.
        if let Err(mpsc::SendError(Ok((_, instance)))) = sender.send(created) {
            endings.end(services, number, Some(instance));
        }
    };
    let started = thread::Builder::new()
        .name("plugin-create".to_owned())
        .spawn(work);
    started.map_err(|error| ProblemKind::Start(error.to_string()))?;
    let until = Instant::now() + CREATE_TIME_MAX;
    let created = loop {
        let created = receiver.recv_timeout(CLOSED_CHECK);
        let is_waiting = matches!(created, Err(mpsc::RecvTimeoutError::Timeout));
        if !is_waiting || Instant::now() >= until {
            break created;
        }
        if is_closed.load(Ordering::Relaxed) {
            services.stop_tasks();
            return Err(closed());
        }
    };
    match created {
        Ok(created) => created,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            services.stop_tasks();
            Err(ProblemKind::TooSlow)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(ProblemKind::Start(
            "its thread ended without a word".to_owned(),
        )),
    }
}

fn closed() -> ProblemKind {
    ProblemKind::Start("the proxy is ending".to_owned())
}

fn not_created(failure: Failure) -> ProblemKind {
    if failure.kind == FailureKind::Config {
        ProblemKind::Config {
            text: failure.text,
            place: failure.place,
        }
    } else {
        ProblemKind::Start(failure.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change beside a plugin's own table is no change of the plugin.
    #[test]
    fn only_the_own_table_counts() {
        let spec = |document: &str| Spec {
            id: "a".to_owned(),
            file: PathBuf::new(),
            sha256: None,
            on_failure: None,
            deadline: None,
            judged: None,
            content: None,
            document: Document(document.into()),
            config_path: vec!["a".to_owned()],
        };
        let one = spec("b = 1\n[a]\nx = 1");
        assert!(one.means_the_same(&spec("a.x = 1 # moved\nb = 2")));
        assert!(!one.means_the_same(&spec("b = 1\n[a]\nx = 2")));
        assert!(!one.means_the_same(&spec("b = 1")));
        assert!(spec("b = 1").means_the_same(&spec("")));
        assert!(!one.means_the_same(&Spec {
            on_failure: Some(OnFailure::Deny),
            ..one.clone()
        }));
    }
}
