//! The services that plugins may call, in safe Rust. `ffi/host` connects them to the C tables.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

pub use infrarust_plugin_abi::serve::MetricKind;
use infrarust_plugin_abi::serve::NoMetric;
use infrarust_plugin_abi::{Capability, metric};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::health::{Health, Kind};
use super::log::{self, Added, Line, LineLimit};
use super::players::{InGame, NotServed, Players};
use super::watch::{self, PluginId};

/// The most tasks of a plugin at a time: one per player of a large proxy would
/// be a mistake, one per server is usual.
const TASKS_MAX: usize = 1024;

/// A source of player counts.
pub trait PlayerCounts: Send + Sync {
    /// Players on `server`, or on all servers; `None` when there is no such server.
    fn count(&self, server: Option<&str>) -> Option<u64>;
}

/// A metric of a plugin and its current value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricValue {
    /// The id of the plugin.
    pub plugin: String,
    /// The name: `a-z 0-9 _`, 1 to 64 bytes.
    pub name: String,
    /// Whether it is a counter or a gauge.
    pub kind: MetricKind,
    /// Its value; a counter is never negative.
    pub value: i128,
}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: MetricKind,
    bits: AtomicU64,
}

/// The metrics that one generation of a plugin has registered.
#[derive(Debug)]
pub(super) struct OwnMetrics {
    /// Filled from the front.
    slots: [OnceLock<Arc<Metric>>; metric::METRICS_MAX],
    filling: Mutex<()>,
}

/// The metrics of a plugin. Their values outlive its generations: a reload does not reset a
/// counter.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Vec<Shared>>);

/// A metric, and the number of generations that use it and have not ended. An unused one
/// keeps its value until its name or its place is needed.
#[derive(Debug)]
struct Shared {
    metric: Arc<Metric>,
    users: u32,
}

impl Metrics {
    /// The metric of this name, for one more generation. If an older generation has one of
    /// another kind, the new one replaces it here, and the older generation keeps its own.
    fn share(&self, name: &str, kind: MetricKind) -> Arc<Metric> {
        let mut all = self.all();
        let found = all.iter().position(|shared| shared.metric.name == name);
        if let Some(shared) = found.and_then(|at| all.get_mut(at))
            && shared.metric.kind == kind
        {
            shared.users += 1;
            return Arc::clone(&shared.metric);
        }
        let metric = Arc::new(Metric {
            name: name.to_owned(),
            kind,
            bits: AtomicU64::new(0),
        });
        let shared = Shared {
            metric: Arc::clone(&metric),
            users: 1,
        };
        let unused = || all.iter().position(|shared| shared.users == 0);
        let instead = found.or_else(|| {
            if all.len() < metric::METRICS_MAX {
                None
            } else {
                unused()
            }
        });
        match instead.and_then(|at| all.get_mut(at)) {
            Some(place) => *place = shared,
            // At most this number for each generation that has not ended.
            None => all.push(shared),
        }
        metric
    }

    /// Frees the names of a generation that has ended.
    pub(super) fn release(&self, own: &OwnMetrics) {
        let mut all = self.all();
        for metric in own.slots.iter().map_while(OnceLock::get) {
            let is_it = |shared: &&mut Shared| Arc::ptr_eq(&shared.metric, metric);
            if let Some(shared) = all.iter_mut().find(is_it) {
                shared.users = shared.users.saturating_sub(1);
            }
        }
    }

    pub(super) fn values(&self, plugin: &str) -> Vec<MetricValue> {
        let read = |shared: &Shared| {
            let metric = &shared.metric;
            let bits = metric.bits.load(Ordering::Relaxed);
            MetricValue {
                plugin: plugin.to_owned(),
                name: metric.name.clone(),
                kind: metric.kind,
                value: match metric.kind {
                    MetricKind::Counter => bits.into(),
                    MetricKind::Gauge => bits.cast_signed().into(),
                },
            }
        };
        self.all().iter().map(read).collect()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnMetrics {
    pub(super) fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; metric::METRICS_MAX],
            filling: Mutex::new(()),
        }
    }

    pub(super) fn register(
        &self,
        all: &Metrics,
        name: &str,
        kind: MetricKind,
    ) -> Result<u64, NoMetric> {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, slot) in self.slots.iter().enumerate() {
            let found = slot.get_or_init(|| all.share(name, kind));
            if found.name == name {
                return if found.kind == kind {
                    Ok(index as u64)
                } else {
                    Err(NoMetric::OtherKind)
                };
            }
        }
        Err(NoMetric::TooMany)
    }

    pub(super) fn record(&self, id: u64, value: u64) {
        let slot = usize::try_from(id)
            .ok()
            .and_then(|index| self.slots.get(index)?.get());
        match slot.map(Arc::as_ref) {
            Some(Metric {
                kind: MetricKind::Counter,
                bits,
                ..
            }) => {
                bits.fetch_add(value, Ordering::Relaxed);
            }
            Some(Metric {
                kind: MetricKind::Gauge,
                bits,
                ..
            }) => {
                bits.store(value, Ordering::Relaxed);
            }
            None => {}
        }
    }
}

/// What all generations of a plugin share.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) metrics: Metrics,
    pub(super) lines: LineLimit,
    pub(super) budget: Budget,
}

/// A resource with a limit for each generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    Tasks,
    Metrics,
    LogPlaces,
}

/// The data of the services for one generation of a plugin. It lives as long as the process,
/// because threads of the plugin may hold its address for ever.
pub(super) struct Services {
    pub(super) health: Arc<Health>,
    pub(super) plugin_id: PluginId,
    pub(super) runtime: Handle,
    pub(super) folder: PathBuf,
    pub(super) players: Arc<dyn PlayerCounts>,
    /// The players that services can reach.
    pub(super) in_game: Arc<Players>,
    /// The capabilities in the manifest, as bits.
    pub(super) declared: u64,
    pub(super) history: Arc<History>,
    pub(super) metrics: OwnMetrics,
    pub(super) places: Added,
    pub(super) tasks: Tasks,
    /// Whether the log has reported that the plugin reached the limit of a [`Supply`].
    pub(super) ran_out: [AtomicBool; 3],
}

/// The tasks of one generation.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
    running: Mutex<HashMap<u64, AbortHandle>>,
    next: AtomicU64,
}

impl Services {
    /// Whether another task may start.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.tasks.tracker.len() < TASKS_MAX;
        if !has_room {
            self.has_run_out_of(Supply::Tasks);
        }
        has_room && !self.tasks.end.is_cancelled()
    }

    /// Logs, once for a generation, that the plugin has reached a limit.
    pub(super) fn has_run_out_of(&self, supply: Supply) {
        if self.ran_out[supply as usize].swap(true, Ordering::Relaxed) {
            return;
        }
        let (max, what) = match supply {
            Supply::Tasks => (TASKS_MAX, "tasks at a time"),
            Supply::Metrics => (metric::METRICS_MAX, "metrics"),
            Supply::LogPlaces => (
                log::SITES_MAX,
                "log call sites, and the events of others are lost",
            ),
        };
        let plugin = self.health.plugin.as_str();
        tracing::warn!(plugin, "plugin `{plugin}` gets no more than {max} {what}");
    }

    /// Whether another line of the plugin may be written. The others are counted, and their
    /// number is logged when the window is over.
    pub(super) fn may_log(&'static self) -> bool {
        match self.history.lines.line(Instant::now()) {
            Line::Written => return true,
            Line::LeftOut => return false,
            Line::FirstLeftOut => {}
        }
        self.runtime.spawn(async {
            tokio::time::sleep(log::LINES_WINDOW).await;
            let left_out = self.history.lines.take_left_out();
            let plugin = self.health.plugin.as_str();
            tracing::warn!(
                plugin,
                left_out,
                "plugin `{plugin}` logs too much: of more than {} lines in {} s the rest is left out",
                log::LINES_MAX,
                log::LINES_WINDOW.as_secs()
            );
        });
        false
    }

    /// Counts a panic in a destructor of the plugin, for the hook that this thread is in. The
    /// plugin has caught it.
    pub(super) fn dropped_with_a_panic(&self, text: &str) {
        let hook = watch::current_place().unwrap_or("thread");
        let consequence = "what it dropped is gone";
        self.health.failed(hook, Kind::Panic, text, consequence);
    }

    /// A player, if the plugin may use this capability on the player's server.
    pub(super) fn player(
        &self,
        number: u64,
        capability: Capability,
    ) -> Result<Arc<InGame>, NotServed> {
        self.in_game.find(number, &self.health.plugin, capability)
    }

    /// Runs a task until it is done, aborted, or the plugin ends.
    pub(super) fn run_task<E: Display + Send>(
        &'static self,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> u64 {
        let tasks = &self.tasks;
        let id = tasks.next.fetch_add(1, Ordering::Relaxed);
        // Locked until the handle is stored, so that a task that ends at once finds its handle
        // to remove.
        let mut running = tasks.running.lock().unwrap_or_else(PoisonError::into_inner);
        let tracked = tasks.tracker.track_future(async move {
            let ended = tokio::select! {
                biased;
                () = tasks.end.cancelled() => Ok(()),
                ended = task => ended,
            };
            if let Err(failure) = ended {
                self.health.failed(
                    "task",
                    Kind::Panic,
                    &failure.to_string(),
                    "the task is over",
                );
            }
            tasks
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
        });
        running.insert(id, self.runtime.spawn(tracked).abort_handle());
        id
    }

    pub(super) fn abort_task(&self, id: u64) {
        let mut running = self
            .tasks
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let task = running.remove(&id);
        // What the task drops may ask for another abort.
        drop(running);
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Ends all tasks at their next wait, and starts no more.
    pub(super) fn stop_tasks(&self) {
        self.tasks.end.cancel();
        self.tasks.tracker.close();
    }

    /// Waits until no task is left; they must have been stopped.
    pub(super) async fn tasks_ended(&self) {
        self.tasks.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name cannot have two kinds, and the number of names is limited.
    #[test]
    fn metrics_are_bounded() {
        let (metrics, own) = (Metrics::default(), OwnMetrics::new());
        let register = |name: &str, kind| own.register(&metrics, name, kind);
        let joins = register("joins", MetricKind::Counter).unwrap();
        assert_eq!(register("joins", MetricKind::Counter), Ok(joins));
        assert_eq!(
            register("joins", MetricKind::Gauge),
            Err(NoMetric::OtherKind)
        );
        own.record(joins, 2);
        own.record(joins, 3);
        own.record(999, 1);
        for number in 1..metric::METRICS_MAX {
            register(&format!("m{number}"), MetricKind::Gauge).unwrap();
        }
        assert_eq!(register("more", MetricKind::Gauge), Err(NoMetric::TooMany));
        own.record(1, (-5_i64).cast_unsigned());
        let values = metrics.values("p");
        assert_eq!(
            (values.len(), values[0].value, values[1].value),
            (metric::METRICS_MAX, 5, -5)
        );
    }

    /// A generation continues with the values of the one before, may change the kind of a
    /// name, and can use the places of ended generations.
    #[test]
    fn ended_generations_leave_their_names() {
        let (metrics, old, new) = (Metrics::default(), OwnMetrics::new(), OwnMetrics::new());
        old.register(&metrics, "joins", MetricKind::Counter)
            .unwrap();
        old.register(&metrics, "mood", MetricKind::Counter).unwrap();
        for number in 2..metric::METRICS_MAX {
            let name = format!("old{number}");
            old.register(&metrics, &name, MetricKind::Counter).unwrap();
        }
        old.record(0, 2);
        let joins = new
            .register(&metrics, "joins", MetricKind::Counter)
            .unwrap();
        let mood = new.register(&metrics, "mood", MetricKind::Gauge).unwrap();
        new.record(joins, 3);
        new.record(mood, 7);
        old.record(1, 100);
        let value = |name: &str| {
            let values = metrics.values("p");
            let found = values.iter().find(|metric| metric.name == name);
            found.map(|metric| (metric.kind, metric.value))
        };
        assert_eq!(value("joins"), Some((MetricKind::Counter, 5)));
        assert_eq!(value("mood"), Some((MetricKind::Gauge, 7)));
        metrics.release(&old);
        assert_eq!(value("old2"), Some((MetricKind::Counter, 0)));
        for number in 2..metric::METRICS_MAX {
            let name = format!("new{number}");
            new.register(&metrics, &name, MetricKind::Gauge).unwrap();
        }
        assert_eq!(metrics.values("p").len(), metric::METRICS_MAX);
        assert_eq!(value("joins"), Some((MetricKind::Counter, 5)));
        assert_eq!(value("old2"), None);
    }
}
