//! One loaded instance of a plugin, from its creation to its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::commands::{self, PluginCommand};
use super::ffi::{self, Failure, FailureKind, Image, Instance};
use super::health::{Counts, Health, LastFailure};
use super::image::Sealed;
use super::interest::Interests;
use super::problem::ProblemKind;
use super::services::Services;
use super::spec::{CREATE_TIME_MAX, Spec};
use super::threads::CallLimit;
use super::watch::PluginId;
use crate::config::plugin_file::Sha;
use crate::manifest::Manifest;

/// How often a wait for a plugin's start, or for a reload, checks whether it was cancelled.
pub(super) const CLOSED_CHECK: Duration = Duration::from_millis(20);
/// How long the tasks of a plugin may take to end. A task that spends more time in a single
/// poll blocks a worker; its plugin is then not ended.
pub(super) const END_TIME_MAX: Duration = Duration::from_secs(5);

/// The state of a plugin.
#[derive(Debug, Clone)]
pub struct PluginState {
    /// The id of the plugin.
    pub id: String,
    /// Its number among the loads of the plugin by this process, from 1 on.
    pub generation: u32,
    /// Its manifest.
    pub manifest: Manifest,
    /// What has happened in it.
    pub counts: Counts,
    /// Whether it is quarantined.
    pub is_quarantined: bool,
    /// The last failure.
    pub last_failure: Option<LastFailure>,
}

/// One loaded instance of a plugin. Connections that began with it hold a reference to it,
/// and it ends with the last of them.
pub(super) struct Generation {
    pub(super) spec: Spec,
    pub(super) number: u32,
    pub(super) sha256: Sha,
    pub(super) manifest: Manifest,
    pub(super) health: Arc<Health>,
    pub(super) plugin_id: PluginId,
    pub(super) deadline: Duration,
    /// Leaked: an image is never unmapped.
    pub(super) image: &'static Image,
    pub(super) services: &'static Services,
    pub(super) endings: Endings,
    /// Which packets its hooks are asked about.
    pub(super) interests: Interests,
    /// The commands that it adds.
    pub(super) commands: Box<[PluginCommand]>,
    /// How many calls about packets can run at the same time.
    pub(super) packet_calls: Arc<CallLimit>,
    /// `None` once it is ended.
    pub(super) instance: Option<Instance>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({} {})", self.spec.id, self.number)
    }
}

impl Generation {
    /// Whether it was loaded from this file with these settings.
    pub(super) fn is_of(&self, sha256: &Sha, spec: &Spec) -> bool {
        self.sha256 == *sha256 && self.spec.means_the_same(spec)
    }

    /// Its state, counts included.
    pub(super) fn state(&self) -> PluginState {
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
pub(super) struct Endings {
    pub(super) tracker: TaskTracker,
    /// The id and the number of each that has not ended.
    unended: Arc<Mutex<Vec<Unended>>>,
}

/// A generation that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unended {
    pub(super) id: String,
    generation: u32,
    /// Whether it was given up, because its tasks do not end.
    pub(super) has_tasks: bool,
}

impl Endings {
    /// Ends the tasks of a generation, and then the instance that they use, if there is one.
    /// Does not block: the last reference may be dropped on a worker.
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

    pub(super) fn unended(&self) -> std::sync::MutexGuard<'_, Vec<Unended>> {
        self.unended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends an instance on a thread of its own: the end of that thread runs the
/// destructors that the plugin has registered for it. Completes when the instance has ended.
async fn destroy(services: &'static Services, instance: Instance) -> std::io::Result<()> {
    let (sender, ended) = oneshot::channel();
    let work = move || {
        let mark = services.plugin_id.end();
        instance.destroy();
        drop(mark);
        services.plugin_id.end_of_thread();
        // The receiver may have been dropped.
        let _ = sender.send(());
    };
    thread::Builder::new()
        .name("plugin-end".to_owned())
        .spawn(work)?;
    let silent = |_| std::io::Error::other("its thread ended without a result");
    ended.await.map_err(silent)
}

/// A loaded library and its instance.
pub(super) struct Created {
    pub(super) image: &'static Image,
    pub(super) instance: Instance,
    pub(super) interests: Interests,
    pub(super) commands: Box<[PluginCommand]>,
}

/// Loads the library and makes the instance on a thread of its own, so that a
/// plugin that never returns does not hold the proxy.
pub(super) fn create(
    sealed: Sealed,
    manifest: &Manifest,
    services: &'static Services,
    spec: &Spec,
    number: u32,
    endings: &Endings,
    is_closed: &AtomicBool,
) -> Result<Created, ProblemKind> {
    if is_closed.load(Ordering::Relaxed) {
        return Err(closed());
    }
    let (document, path) = (Arc::clone(&spec.document.0), spec.config_path.clone());
    let (manifest, endings) = (manifest.clone(), endings.clone());
    // Without a buffer, so that a result is either received or returned to the sender.
    let (sender, receiver) = mpsc::sync_channel(0);
    let plugin_id = services.plugin_id;
    let work = move || {
        let mark = plugin_id.load();
        let image = ffi::open(sealed, &manifest, &services.health.plugin);
        drop(mark);
        let created = image
            .map_err(|error| (error.into(), None))
            .and_then(|image| {
                let image: &'static Image = Box::leak(Box::new(image));
                let _mark = plugin_id.start();
                let created = image.create(ffi::table(services), &document, &path);
                let instance = created.map_err(|failure| (not_created(*failure), None))?;
                let asked = Interests::ask(image, &instance).and_then(|interests| {
                    let commands = commands::ask(image, &instance, &services.health.plugin)?;
                    Ok((interests, commands))
                });
                match asked {
                    Ok((interests, commands)) => Ok(Created {
                        image,
                        instance,
                        interests,
                        commands,
                    }),
                    Err(failure) => Err((not_created(*failure), Some(instance))),
                }
            });
        plugin_id.end_of_thread();
        let created = created.map_err(|(problem, instance)| {
            endings.end(services, number, instance);
            problem
        });
        // If the receiver is gone, the plugin is not needed any more.
        if let Err(mpsc::SendError(Ok(created))) = sender.send(created) {
            endings.end(services, number, Some(created.instance));
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
            "its thread ended without a result".to_owned(),
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
