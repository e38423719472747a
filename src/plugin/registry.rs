//! Which plugins there are: loading, generations, reload, and the hook sets of
//! servers.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::runtime::Handle;

use super::dispatch::HookSet;
use super::ffi::{self, FailureKind, Image, Instance};
use super::health::{Counts, Health};
use super::image::{self, Checked, ImageError};
use super::services::{MetricValue, Metrics, PlayerCounts, Services, Tasks};
use super::watch::Token;
use crate::manifest::Manifest;
use crate::mode::Mode;

/// How often one plugin can be loaded in the life of a process. What was mapped
/// stays mapped, about 0.65 MiB for a small plugin.
const GENERATIONS_MAX: u32 = 32;
/// How long a plugin may take to start. Reading a file or opening a database
/// takes seconds at worst.
const CREATE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the tasks of a plugin may take to end. One that is longer in a
/// single poll blocks a worker, and its plugin is then left as it is.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a hook may wait where the configuration does not say: a fifth of
/// the handshake's own deadline.
const DEADLINE: Duration = Duration::from_secs(2);

/// What happens to a connection when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on as if the plugin were not there.
    Continue,
    /// It is refused.
    Deny,
}

/// A plugin as the configuration wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The id of its table, which is its name in the log.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 that the file must have.
    pub sha256: Option<[u8; 32]>,
    /// The servers it takes part in: names, or patterns with `*` and `?`.
    pub servers: Vec<String>,
    /// What happens when it fails; `None` is the default of each hook.
    pub on_failure: Option<OnFailure>,
    /// How long a hook may wait; `None` is two seconds.
    pub deadline: Option<Duration>,
    /// The TOML document with its own table. Places of its errors are bytes of
    /// this document.
    pub document: String,
    /// The keys that lead to the table, such as `plugins`, the id and `config`;
    /// none: the document is the table. A table that is not there is empty.
    pub config_path: Vec<String>,
}

impl Spec {
    /// Whether a plugin that was loaded from one is what the other wants. The
    /// document may differ wherever it is not about the plugin's own table.
    fn means_the_same(&self, other: &Spec) -> bool {
        let rest = |spec: &Spec| Spec {
            document: String::new(),
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
        let mut table = toml::Value::Table(self.document.parse().ok()?);
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

/// Why a plugin was not loaded.
#[derive(Debug, Error)]
#[error("plugin `{plugin}` ({}): {kind}", file.display())]
pub struct Problem {
    /// The id of the plugin.
    pub plugin: String,
    /// Its file.
    pub file: PathBuf,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What can be wrong with a plugin.
#[derive(Debug, Error)]
pub enum ProblemKind {
    /// With its file or its manifest.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// With its configuration, at these bytes of [`Spec::document`].
    #[error("its configuration cannot be used: {text}")]
    Config {
        /// What the plugin said.
        text: String,
        /// The bytes of the text.
        place: Option<Range<usize>>,
    },
    /// It said no, or panicked.
    #[error("it did not start: {0}")]
    Start(String),
    /// It was not there in time.
    #[error("it did not start within {} s", CREATE_TIME_MAX.as_secs())]
    TooSlow,
    /// It was loaded too often.
    #[error(
        "it has been loaded {GENERATIONS_MAX} times by this process, and no image is ever unmapped"
    )]
    TooManyGenerations,
}

impl ProblemKind {
    /// The way out: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            ProblemKind::Image(ImageError::Manifest(refusal)) => refusal.help(),
            ProblemKind::Image(ImageError::Pin { .. }) => {
                "look where the file comes from; if it is meant to be new, correct `sha256`"
                    .to_owned()
            }
            ProblemKind::Image(ImageError::Lies { .. }) => {
                "build the plugin again; somebody has changed the file".to_owned()
            }
            ProblemKind::Image(ImageError::Load(_)) => {
                "install the library, or build the plugin on a system as old as this one".to_owned()
            }
            ProblemKind::Image(_) => "copy the plugin there again".to_owned(),
            ProblemKind::Config { .. } => "correct the plugin's `config` table".to_owned(),
            ProblemKind::Start(_) | ProblemKind::TooSlow => {
                "ask the plugin's documentation, or write `enabled = false`".to_owned()
            }
            ProblemKind::TooManyGenerations => "restart the proxy".to_owned(),
        }
    }
}

/// A server, as far as plugins depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Its id; empty for clients that no server claims.
    pub id: &'a str,
    /// Its mode.
    pub mode: Mode,
    /// The exact set of its plugins, where its file names one.
    pub plugins: Option<&'a [String]>,
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
}

/// One loaded instance of a plugin. Connections that began with it hold it;
/// with the last of them it ends.
pub(super) struct Generation {
    pub(super) spec: Spec,
    number: u32,
    sha256: [u8; 32],
    pub(super) manifest: Manifest,
    pub(super) health: Arc<Health>,
    pub(super) token: Token,
    pub(super) deadline: Duration,
    /// Leaked: what was mapped stays mapped.
    pub(super) image: &'static Image,
    services: &'static Services,
    /// `None` once it is ended.
    instance: Option<Instance>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({} {})", self.spec.id, self.number)
    }
}

impl Generation {
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
        let (services, id, number) = (self.services, self.spec.id.clone(), self.number);
        // Tasks first, then the instance that they use; neither may hold a
        // worker, and the last reference may be dropped on one.
        self.services.runtime.spawn(async move {
            if tokio::time::timeout(END_TIME_MAX, services.end_tasks()).await.is_err() {
                tracing::warn!(plugin = id, "generation {number} of plugin `{id}` has tasks that do not end: it is left as it is");
                return;
            }
            let ended = tokio::task::spawn_blocking(move || instance.destroy()).await;
            tracing::debug!(plugin = id, generation = number, ok = ended.is_ok(), "plugin ended");
        });
    }
}

/// All plugins of the proxy.
#[derive(Debug)]
pub struct PluginHost {
    environment: Environment,
    /// In the order of the configuration.
    current: ArcSwap<Vec<Arc<Generation>>>,
    /// How often each id was loaded, and its metrics. Also the lock of a reload.
    history: Mutex<HashMap<String, History>>,
}

#[derive(Debug)]
struct History {
    loads: u32,
    metrics: Arc<Metrics>,
}

impl PluginHost {
    /// Loads plugins, and tells of those that cannot be.
    ///
    /// Waits for the disk and for the plugins: not for a worker. One problem
    /// does not keep the other plugins from being loaded; whether the proxy
    /// starts without it is the caller's decision.
    #[must_use]
    pub fn load(specs: Vec<Spec>, environment: Environment) -> (Self, Vec<Problem>) {
        let host = Self {
            environment,
            current: ArcSwap::default(),
            history: Mutex::default(),
        };
        let mut problems = Vec::new();
        let mut loaded = Vec::new();
        {
            let mut history = host.history.lock().unwrap_or_else(PoisonError::into_inner);
            for spec in specs {
                match host.generation(spec, &[], &mut history) {
                    Ok(generation) => loaded.push(generation),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        host.current.store(Arc::new(loaded));
        (host, problems)
    }

    /// Puts other plugins in place of the present ones, all or none.
    ///
    /// A plugin whose table and file are the same goes on; any other is loaded
    /// anew while the one before serves. With a problem, everything stays as it
    /// was. Connections keep the hook sets they have; new ones come from
    /// [`PluginHost::hooks`]. Waits like [`PluginHost::load`].
    ///
    /// # Errors
    ///
    /// Every plugin that could not be loaded.
    pub fn reload(&self, specs: Vec<Spec>) -> Result<(), Vec<Problem>> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.current.load_full();
        let mut loaded = Vec::new();
        let mut problems = Vec::new();
        for spec in specs {
            match self.generation(spec, &present, &mut history) {
                Ok(generation) => loaded.push(generation),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.current.store(Arc::new(loaded));
        Ok(())
    }

    /// The hooks of a server: of the plugins that it names, or else of those
    /// that name it, and that its mode can give what they need.
    #[must_use]
    pub fn hooks(&self, server: &Server<'_>) -> Arc<HookSet> {
        let present = self.current.load();
        let mine = present
            .iter()
            .filter(|generation| is_attached(&generation.spec, server));
        let able = mine.filter(|generation| generation.manifest.runs_in(server.mode));
        Arc::new(HookSet::new(able, server.mode))
    }

    /// How all plugins fare, in the order of the configuration.
    #[must_use]
    pub fn states(&self) -> Vec<PluginState> {
        let state = |generation: &Arc<Generation>| PluginState {
            id: generation.spec.id.clone(),
            generation: generation.number,
            manifest: generation.manifest.clone(),
            counts: generation.health.counts(),
            is_quarantined: generation.health.is_quarantined(),
        };
        self.current.load().iter().map(state).collect()
    }

    /// The metrics of all plugins.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricValue> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = history
            .iter()
            .flat_map(|(id, history)| history.metrics.values(id))
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
            generation.image.refresh_log();
        }
    }

    fn generation(
        &self,
        spec: Spec,
        present: &[Arc<Generation>],
        history: &mut HashMap<String, History>,
    ) -> Result<Arc<Generation>, Problem> {
        let (plugin, file) = (spec.id.clone(), spec.file.clone());
        self.generation_or(spec, present, history)
            .map_err(|kind| Problem { plugin, file, kind })
    }

    fn generation_or(
        &self,
        spec: Spec,
        present: &[Arc<Generation>],
        history: &mut HashMap<String, History>,
    ) -> Result<Arc<Generation>, ProblemKind> {
        let checked = image::check(&spec.file, spec.sha256)?;
        let same =
            |old: &&Arc<Generation>| old.sha256 == checked.sha256 && old.spec.means_the_same(&spec);
        if let Some(old) = present.iter().find(same) {
            return Ok(Arc::clone(old));
        }
        let history = history.entry(spec.id.clone()).or_insert_with(|| History {
            loads: 0,
            metrics: Arc::new(Metrics::new()),
        });
        if history.loads >= GENERATIONS_MAX {
            return Err(ProblemKind::TooManyGenerations);
        }
        history.loads += 1;
        self.make(spec, checked, history).map(Arc::new)
    }

    fn make(
        &self,
        spec: Spec,
        checked: Checked,
        history: &History,
    ) -> Result<Generation, ProblemKind> {
        let Checked {
            bytes,
            sha256,
            manifest,
        } = checked;
        let folder = self.environment.data_dir.join(&spec.id);
        let sealed = image::seal(&bytes, &manifest.name, &self.environment.data_dir)?;
        drop(bytes);
        let image: &'static Image = Box::leak(Box::new(ffi::open(sealed, &manifest)?));
        let health = Arc::new(Health::new(&spec.id));
        let token = Token::new(&health);
        let services: &'static Services = Box::leak(Box::new(Services {
            health: Arc::clone(&health),
            token,
            runtime: self.environment.runtime.clone(),
            folder,
            players: Arc::clone(&self.environment.players),
            metrics: Arc::clone(&history.metrics),
            tasks: Tasks::default(),
        }));
        let instance = create(image, services, &spec)?;
        let deadline = spec.deadline.unwrap_or(DEADLINE);
        let number = history.loads;
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
            instance: Some(instance),
        })
    }
}

/// Makes the instance on a thread of its own, so that a plugin that never
/// returns does not hold the proxy.
fn create(
    image: &'static Image,
    services: &'static Services,
    spec: &Spec,
) -> Result<Instance, ProblemKind> {
    let (document, path) = (spec.document.clone(), spec.config_path.clone());
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = move || {
        if let Err(mpsc::SendError(late)) = sender.send(image.create(services, &document, &path))
            && let Ok(instance) = late
        {
            // Nobody waits any more.
            instance.destroy();
        }
    };
    let started = std::thread::Builder::new()
        .name("plugin-create".to_owned())
        .spawn(work);
    started.map_err(|error| ProblemKind::Start(error.to_string()))?;
    match receiver.recv_timeout(CREATE_TIME_MAX) {
        Ok(Ok(instance)) => Ok(instance),
        Ok(Err(failure)) if failure.kind == FailureKind::Config => Err(ProblemKind::Config {
            text: failure.text,
            place: failure.place,
        }),
        Ok(Err(failure)) => Err(ProblemKind::Start(failure.to_string())),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(ProblemKind::TooSlow),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(ProblemKind::Start(
            "its thread ended without a word".to_owned(),
        )),
    }
}

fn is_attached(spec: &Spec, server: &Server<'_>) -> bool {
    match server.plugins {
        Some(exact) => exact.contains(&spec.id),
        None => spec
            .servers
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), server.id.as_bytes())),
    }
}

/// Whether a name fits a pattern, in which `*` is any text and `?` one byte.
/// Linear in both: the last `*` takes more when the rest does not fit.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
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
            servers: Vec::new(),
            on_failure: None,
            deadline: None,
            document: document.to_owned(),
            config_path: vec!["a".to_owned()],
        };
        let one = spec("b = 1\n[a]\nx = 1");
        assert!(one.means_the_same(&spec("a.x = 1 # moved\nb = 2")));
        assert!(!one.means_the_same(&spec("b = 1\n[a]\nx = 2")));
        assert!(!one.means_the_same(&spec("b = 1")));
        assert!(spec("b = 1").means_the_same(&spec("")));
        assert!(!one.means_the_same(&Spec {
            servers: vec!["*".to_owned()],
            ..one.clone()
        }));
    }

    /// Patterns mean what the configuration says.
    #[test]
    fn patterns_match_names() {
        let fits = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("eu-*", "eu-1"),
            ("*-1", "a-1-1"),
            ("a?c", "abc"),
            ("a", "a"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("eu-*", "us-1"),
            ("a?c", "ac"),
            ("a", "ab"),
            ("*b", "a"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
