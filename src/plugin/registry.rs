//! The loaded plugins: their reload, their state, and the hook sets of servers.

use std::collections::HashMap;
use std::fmt;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::dispatch::HookSet;
use super::generation::{CLOSED_CHECK, Endings, Generation, PluginState, create};
use super::health::Health;
use super::image::{self, ImageError};
use super::log::Added;
use super::players::Players;
use super::problem::{Problem, ProblemKind};
use super::services::{self, MetricValue, OwnMetrics, PlayerCounts, Services, Tasks};
use super::spec::{GENERATIONS_MAX, Spec};
use super::threads::CallLimit;
use super::watch::PluginId;
use crate::config::plugin_file::{self, CheckedFile, Sha};
use crate::manifest::Manifest;
use crate::mode::Mode;

/// The default deadline of a hook: a fifth of the handshake's own deadline.
const DEADLINE: Duration = Duration::from_secs(2);

/// The most packet hooks of one plugin that run at the same time. Each has a thread, so
/// this also limits the threads of a plugin with hooks that do not return.
const PACKET_CALLS_MAX: usize = 64;

/// The environment of plugins.
#[derive(Clone)]
pub struct Environment {
    /// Where tasks and timers run.
    pub runtime: Handle,
    /// The folder that has the data folder of each plugin.
    pub data_dir: PathBuf,
    /// The source of player counts.
    pub players: Arc<dyn PlayerCounts>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// All plugins of the proxy.
#[derive(Debug)]
pub struct PluginHost {
    environment: Environment,
    /// In the order of the configuration.
    current: ArcSwap<Vec<Arc<Generation>>>,
    /// The replaced generations, as long as connections that began with them hold them. Each
    /// id is loaded at most [`GENERATIONS_MAX`] times.
    replaced: Mutex<Vec<Weak<Generation>>>,
    /// Locked by a reload, which may wait for plugins for half a minute.
    reloading: Mutex<()>,
    /// Whether all plugins end, and no more are loaded. Written under the lock of `history`,
    /// and read under it before plugins are put into `current`.
    is_closed: AtomicBool,
    /// The number of loads of each id, and its metrics. Only locked for a moment.
    history: Mutex<HashMap<String, History>>,
    endings: Endings,
    in_game: Arc<Players>,
}

/// What a reload does for a plugin of the new configuration.
enum Wanted {
    /// Nothing: this generation is kept.
    Present(Arc<Generation>),
    /// These bytes are loaded. They have this SHA-256.
    New(Box<CheckedFile>, Sha),
}

/// Running generations that can be reused for `spec`; empty on a forced reload.
fn present_for<'a>(
    present: &'a [Arc<Generation>],
    spec: &Spec,
    force: Option<&str>,
) -> &'a [Arc<Generation>] {
    if force == Some(spec.id.as_str()) {
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
    /// Loaded for the first time, or again.
    pub loaded: Vec<String>,
    /// No longer there.
    pub ended: Vec<String>,
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
            in_game: Arc::default(),
        }
    }

    /// The players that services can reach.
    pub(crate) fn in_game(&self) -> &Arc<Players> {
        &self.in_game
    }

    /// Puts plugins in place of the present ones, all or none.
    ///
    /// A plugin with the same settings and the same file stays, unless its id is `force`. Any
    /// other is loaded while its previous generation serves. If there is a problem, nothing
    /// changes. Connections keep their hook sets; new ones come from [`PluginHost::hooks`].
    ///
    /// Waits for the disk and for the plugins, so it must not run on a worker.
    ///
    /// # Errors
    ///
    /// Every plugin that could not be loaded.
    pub fn reload(&self, specs: Vec<Spec>, force: Option<&str>) -> Result<Reloaded, Vec<Problem>> {
        let _reloading = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let present = self.current.load_full();
        let mut next = Vec::new();
        let mut problems = Vec::new();
        for spec in specs {
            match self.generation(&spec, present_for(&present, &spec, force)) {
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
        // If the host was closed in the meantime, the new generations end with the others.
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

    /// Ends all plugins, and prevents any other from starting. A plugin that
    /// connections still hold ends with the last of them. A reload that waits for a
    /// plugin gives up.
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

    /// The specs that a [`reload`](Self::reload) would load, and the known problems of the
    /// others. Sets the hash in each of `specs`, so that later a file with another content is
    /// refused.
    #[cfg(unix)]
    #[must_use]
    pub(crate) fn to_load(
        &self,
        specs: &mut [Spec],
        force: Option<&str>,
    ) -> (Vec<Spec>, Vec<Problem>) {
        let present = self.current.load_full();
        let (mut new, mut problems) = (Vec::new(), Vec::new());
        for spec in specs {
            match self.wanted(spec, present_for(&present, spec, force)) {
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

    /// The folder that has the data folder of each plugin.
    #[cfg(unix)]
    #[must_use]
    pub(crate) fn data_dir(&self) -> &Path {
        &self.environment.data_dir
    }

    /// The hooks of these plugins on a server with `mode`, in this order, without plugins
    /// that are not loaded or that need something which the mode cannot give.
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

    /// The manifests of the loaded plugins, by their ids.
    #[must_use]
    pub fn manifests(&self) -> HashMap<String, Manifest> {
        let present = self.current.load();
        let manifest = |one: &Arc<Generation>| (one.spec.id.clone(), one.manifest.clone());
        present.iter().map(manifest).collect()
    }

    /// Waits until every plugin has ended that is no longer held by a connection or a hook
    /// set, including plugins of a cancelled reload.
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

    /// The ids of the plugins that should have ended and have not.
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

    /// The health of the loaded plugin of this id, also after it has ended.
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

    /// The states of all plugins, in the order of the configuration.
    #[must_use]
    pub fn states(&self) -> Vec<PluginState> {
        self.current.load().iter().map(|one| one.state()).collect()
    }

    /// The states of the replaced generations that connections still hold, the oldest first.
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

    /// Ends the quarantine of a plugin. Returns whether it was in one.
    pub fn resume(&self, id: &str) -> bool {
        let present = self.current.load();
        let mut found = present.iter().filter(|generation| generation.spec.id == id);
        found
            .next()
            .is_some_and(|generation| generation.health.resume())
    }

    fn generation(
        &self,
        spec: &Spec,
        present: &[Arc<Generation>],
    ) -> Result<Arc<Generation>, ProblemKind> {
        let (checked, sha256) = match self.wanted(spec, present)? {
            Wanted::Present(old) => return Ok(old),
            Wanted::New(checked, sha256) => (*checked, sha256),
        };
        let (number, history) = self.count_load(&spec.id);
        self.make(spec.clone(), checked, sha256, number, history)
            .map(Arc::new)
    }

    /// What a reload has to do for a plugin, without running it.
    fn wanted(&self, spec: &Spec, present: &[Arc<Generation>]) -> Result<Wanted, ProblemKind> {
        let checked = plugin_file::check(&spec.file, spec.sha256).map_err(ImageError::from)?;
        let sha256 = plugin_file::sha256(&checked.bytes);
        let is_other = |before: &Manifest| *before != checked.manifest;
        if spec.checked.as_ref().is_some_and(is_other)
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
        Ok(Wanted::New(Box::new(checked), sha256))
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
        checked: CheckedFile,
        sha256: Sha,
        number: u32,
        history: Arc<services::History>,
    ) -> Result<Generation, ProblemKind> {
        let CheckedFile { bytes, manifest } = checked;
        let folder = self.environment.data_dir.join(&spec.id);
        let sealed = image::seal(&bytes, &manifest.name, &self.environment.data_dir)?;
        drop(bytes);
        let health = Arc::new(Health::new(&spec.id));
        let plugin_id = PluginId::new(&health, &self.environment.runtime);
        let services: &'static Services = Box::leak(Box::new(Services {
            health: Arc::clone(&health),
            plugin_id,
            runtime: self.environment.runtime.clone(),
            folder,
            players: Arc::clone(&self.environment.players),
            in_game: Arc::clone(&self.in_game),
            declared: manifest.declared().bits(),
            history,
            metrics: OwnMetrics::new(),
            places: Added::default(),
            tasks: Tasks::default(),
            ran_out: Default::default(),
        }));
        let created = create(
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
            plugin_id,
            deadline,
            image: created.image,
            services,
            endings: self.endings.clone(),
            interests: created.interests,
            commands: created.commands,
            packet_calls: Arc::new(CallLimit::new(PACKET_CALLS_MAX)),
            instance: Some(created.instance),
        })
    }
}
