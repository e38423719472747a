//! What plugins may call, without the pointers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use infrarust_plugin_abi::metric;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ffi::TaskCall;
use super::health::{Health, Kind};
use super::watch::Token;

/// The most tasks of a plugin at a time: one per player of a large proxy would
/// be a mistake, one per server is usual.
const TASKS_MAX: usize = 1024;
/// The most metrics of a plugin. They have no labels, so each is a line.
const METRICS_MAX: usize = 64;
/// The longest name of a metric in bytes.
const METRIC_NAME_BYTES_MAX: usize = 64;

/// Who knows how many players there are.
pub trait PlayerCounts: Send + Sync {
    /// Players on `server`, or on all servers; `None` when there is no such server.
    fn count(&self, server: Option<&str>) -> Option<u64>;
}

/// The kinds of metrics of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric of a plugin, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricValue {
    /// The id of the plugin.
    pub plugin: String,
    /// The name: `a-z 0-9 _`, 1 to 64 bytes.
    pub name: String,
    /// What it is.
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

/// The metrics of a plugin. They outlive its generations.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Filled from the front.
    slots: [OnceLock<Metric>; METRICS_MAX],
    filling: Mutex<()>,
}

/// Why there is no metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoMetric {
    TooMany,
    Bad,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; METRICS_MAX],
            filling: Mutex::new(()),
        }
    }

    pub(super) fn register(&self, name: &str, kind: u32) -> Result<u64, NoMetric> {
        let is_good = (1..=METRIC_NAME_BYTES_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let kind = match kind {
            metric::COUNTER => MetricKind::Counter,
            metric::GAUGE => MetricKind::Gauge,
            _ => return Err(NoMetric::Bad),
        };
        if !is_good {
            return Err(NoMetric::Bad);
        }
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, slot) in self.slots.iter().enumerate() {
            let new = || Metric {
                name: name.to_owned(),
                kind,
                bits: AtomicU64::new(0),
            };
            let found = slot.get_or_init(new);
            if found.name == name {
                return if found.kind == kind {
                    Ok(index as u64)
                } else {
                    Err(NoMetric::Bad)
                };
            }
        }
        Err(NoMetric::TooMany)
    }

    pub(super) fn record(&self, id: u64, value: u64) {
        let slot = usize::try_from(id)
            .ok()
            .and_then(|index| self.slots.get(index)?.get());
        match slot {
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

    pub(super) fn values(&self, plugin: &str) -> Vec<MetricValue> {
        let read = |metric: &Metric| {
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
        self.slots
            .iter()
            .map_while(OnceLock::get)
            .map(read)
            .collect()
    }
}

/// What the services of one generation of a plugin work with. It lives as long
/// as the process, because nobody knows which threads of the plugin still hold
/// its address.
pub(super) struct Services {
    pub(super) health: Arc<Health>,
    pub(super) token: Token,
    pub(super) runtime: Handle,
    pub(super) folder: PathBuf,
    pub(super) players: Arc<dyn PlayerCounts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: Tasks,
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
    /// Whether another task would be taken.
    pub(super) fn has_room(&self) -> bool {
        !self.tasks.end.is_cancelled() && self.tasks.tracker.len() < TASKS_MAX
    }

    /// Runs a task until it is done, aborted, or the plugin ends.
    pub(super) fn spawn(&'static self, call: TaskCall) -> u64 {
        let tasks = &self.tasks;
        let id = tasks.next.fetch_add(1, Ordering::Relaxed);
        // Held until the handle is stored, so that a task that ends at once
        // finds something to remove.
        let mut running = tasks.running.lock().unwrap_or_else(PoisonError::into_inner);
        let task = tasks.tracker.track_future(async move {
            let ended = tokio::select! {
                biased;
                () = tasks.end.cancelled() => Ok(()),
                ended = call => ended,
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
        running.insert(id, self.runtime.spawn(task).abort_handle());
        id
    }

    pub(super) fn abort(&self, id: u64) {
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

    /// Ends all tasks, and waits until none is left.
    pub(super) async fn end_tasks(&self) {
        self.tasks.end.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are held against their kind, and there is an end to them.
    #[test]
    fn metrics_are_bounded() {
        let metrics = Metrics::new();
        let joins = metrics.register("joins", metric::COUNTER).unwrap();
        assert_eq!(metrics.register("joins", metric::COUNTER), Ok(joins));
        assert_eq!(metrics.register("joins", metric::GAUGE), Err(NoMetric::Bad));
        assert_eq!(
            metrics.register("Joins", metric::COUNTER),
            Err(NoMetric::Bad)
        );
        assert_eq!(metrics.register("", metric::COUNTER), Err(NoMetric::Bad));
        metrics.record(joins, 2);
        metrics.record(joins, 3);
        metrics.record(999, 1);
        for number in 1..METRICS_MAX {
            metrics
                .register(&format!("m{number}"), metric::GAUGE)
                .unwrap();
        }
        assert_eq!(
            metrics.register("more", metric::GAUGE),
            Err(NoMetric::TooMany)
        );
        metrics.record(1, (-5_i64).cast_unsigned());
        let values = metrics.values("p");
        assert_eq!(
            (values.len(), values[0].value, values[1].value),
            (METRICS_MAX, 5, -5)
        );
    }
}
