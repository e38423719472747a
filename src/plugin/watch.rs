//! The watchdog: it reports a plugin that blocks a worker, and keeps the other
//! workers running.
//!
//! A call that blocks cannot be stopped, only reported. Each thread that calls
//! plugins has a slot, in which it records what it does with two relaxed stores;
//! one thread checks all slots regularly, and sleeps while there are no calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use infrarust_plugin_abi::Capability;
use tokio::runtime::Handle;

use super::health::Health;
use super::slot::{CALL_BITS, CALL_MASK, DOING, SLOT, SLOTS, Slot, THREAD_END, noted, slot};
use crate::supervise;

/// How often the slots are checked. A call that two checks in a row find blocks its worker.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Players notice a worker that is blocked for this time: five ticks of the game.
pub(super) const HOLD_MAX: Duration = Duration::from_millis(250);
/// Checks without a call, half a second of them, after which the watchdog sleeps.
const IDLE_LOOKS: u32 = 10;
/// The longest sleep. The next call wakes the watchdog, except in one race: see
/// [`CallMark::begin`].
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The kind of call while a task of the plugin is polled.
const TASK: u32 = 0xff;
/// The kind while the plugin starts, on a thread that may be blocked.
const START: u32 = 0xfe;
/// The same while it ends.
const END: u32 = 0xfd;
/// The same while its library is loaded, which runs constructors.
const LOAD: u32 = 0xfc;
/// The end of a plugin does not delay players, but the end of the proxy waits for it.
const END_HOLD_MAX: Duration = Duration::from_secs(5);

static PLUGINS: RwLock<Vec<Known>> = RwLock::new(Vec::new());
static WATCHDOG: OnceLock<Thread> = OnceLock::new();
static IS_ASLEEP: AtomicBool = AtomicBool::new(false);

/// A generation of a plugin, and the runtime that calls it.
struct Known {
    health: Weak<Health>,
    runtime: Handle,
}

/// Identifies a generation of a plugin in the slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct PluginId(u32);

impl PluginId {
    /// Registers a generation of a plugin that workers of `runtime` call, and
    /// starts the watchdog.
    pub(super) fn new(health: &Arc<Health>, runtime: &Handle) -> Self {
        start();
        let mut plugins = PLUGINS.write().unwrap_or_else(PoisonError::into_inner);
        plugins.push(Known {
            health: Arc::downgrade(health),
            runtime: runtime.clone(),
        });
        // From 1 on, because zero is nothing. Generations are bounded far below.
        Self(u32::try_from(plugins.len()).unwrap_or(0) << CALL_BITS)
    }

    /// Marks this thread as being in a hook of the plugin, until the result is dropped.
    pub(super) fn hook(self, hook: Capability) -> CallMark {
        CallMark::begin(self.0 | u32::from(hook as u8))
    }

    /// Marks this thread as starting the plugin, which may block it.
    pub(super) fn start(self) -> CallMark {
        CallMark::begin(self.0 | START)
    }

    /// Marks this thread as ending the plugin, which may block it.
    pub(super) fn end(self) -> CallMark {
        CallMark::begin(self.0 | END)
    }

    /// Marks this thread as loading the plugin, which may block it.
    pub(super) fn load(self) -> CallMark {
        CallMark::begin(self.0 | LOAD)
    }

    /// Marks this thread, for the rest of its life, as an ending thread of the plugin.
    pub(super) fn end_of_thread(self) {
        std::mem::forget(CallMark::begin(self.0 | THREAD_END));
    }

    /// Marks this thread as being in a task of the plugin, or in the waker of a task.
    pub(super) fn task(self) -> CallMark {
        CallMark::begin(self.0 | TASK)
    }
}

/// Marks that this thread is in a plugin, until it is dropped.
pub(super) struct CallMark {
    slot: Option<&'static Slot>,
    /// The state of the slot afterwards: the number of this call, and the surrounding call,
    /// if there is one.
    after: u64,
}

impl CallMark {
    #[inline]
    fn begin(doing: u32) -> Self {
        let slot = slot();
        let mut after = 0;
        if let Some(slot) = slot {
            let before = slot.state.load(Ordering::Relaxed);
            let call = (before | DOING).wrapping_add(1);
            after = call | (before & DOING);
            slot.state.store(call | u64::from(doing), Ordering::Relaxed);
            // This load may be ordered before the store above, and then the
            // watchdog stays asleep until its time is over. A fence would cost
            // each call more than that second.
            if IS_ASLEEP.load(Ordering::Relaxed) {
                wake();
            }
        }
        Self { slot, after }
    }
}

impl Drop for CallMark {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.state.store(self.after, Ordering::Relaxed);
        }
    }
}

#[cold]
fn wake() {
    if IS_ASLEEP.swap(false, Ordering::Relaxed)
        && let Some(watchdog) = WATCHDOG.get()
    {
        watchdog.unpark();
    }
}

/// Starts the watchdog, once. If no thread can be made, the next generation of a plugin tries
/// again.
fn start() {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if WATCHDOG.get().is_some() {
        return;
    }
    let started = thread::Builder::new()
        .name("plugin-watch".to_owned())
        .spawn(|| supervise::repeated_here("watching the calls of plugins", watch));
    match started {
        Ok(watchdog) => {
            let _ = WATCHDOG.set(watchdog.thread().clone());
        }
        Err(error) => {
            tracing::warn!(%error, "plugins are not watched: the thread could not be started");
        }
    }
}

/// A call that an earlier check has found.
struct Seen {
    slot: &'static Slot,
    state: u64,
    since: Instant,
    is_reported: bool,
}

fn watch() {
    let mut seen: Vec<Seen> = Vec::new();
    let mut calls = 0;
    let mut idle_looks = 0;
    loop {
        thread::sleep(LOOK_PERIOD);
        look(&mut seen, Instant::now());
        let before = std::mem::replace(&mut calls, calls_so_far());
        idle_looks = if calls == before && seen.is_empty() {
            idle_looks + 1
        } else {
            0
        };
        if idle_looks >= IDLE_LOOKS {
            IS_ASLEEP.store(true, Ordering::SeqCst);
            if calls_so_far() == calls {
                thread::park_timeout(SLEEP_MAX);
            }
            IS_ASLEEP.store(false, Ordering::Relaxed);
        }
    }
}

/// A number that changes when a call begins or ends.
fn calls_so_far() -> u64 {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let states = slots.iter().map(|slot| slot.state.load(Ordering::Relaxed));
    states.fold(0, u64::wrapping_add)
}

fn look(seen: &mut Vec<Seen>, now: Instant) {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.retain(|seen| {
        let goes_on = seen.slot.state.load(Ordering::Relaxed) == seen.state;
        if !goes_on && seen.is_reported {
            report(seen.state, now.duration_since(seen.since), true);
        }
        goes_on
    });
    for slot in slots {
        let state = slot.state.load(Ordering::Relaxed);
        let doing = noted(state);
        let held_max = match doing & CALL_MASK {
            // A start has a time limit of its own.
            0 | LOAD | START => continue,
            END | THREAD_END => END_HOLD_MAX,
            _ => HOLD_MAX,
        };
        match seen.iter_mut().find(|seen| seen.slot.index == slot.index) {
            Some(seen) => {
                wake_another_worker(doing);
                let held = now.duration_since(seen.since);
                if held >= held_max && !seen.is_reported {
                    seen.is_reported = true;
                    report(state, held, false);
                }
            }
            None => seen.push(Seen {
                slot,
                state,
                since: now,
                is_reported: false,
            }),
        }
    }
}

/// Makes another worker than the blocked one serve the sockets.
///
/// Of all waiting workers, one waits for sockets, and the others for tasks (tokio 1.54,
/// `worker.rs`). When that one runs a single task, no other worker waits for sockets until
/// the task yields. If a plugin blocks it, every player waits. A task that is spawned from
/// outside wakes another worker, which then waits for the sockets.
fn wake_another_worker(doing: u32) {
    let plugins = PLUGINS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known(&plugins, doing) {
        drop(known.runtime.spawn(std::future::ready(())));
    }
}

/// The plugin in the lower half of a slot's state.
fn known(plugins: &[Known], doing: u32) -> Option<&Known> {
    let at = (doing >> CALL_BITS).checked_sub(1)?;
    plugins.get(at as usize)
}

fn plugin_of(plugins: &[Known], doing: u32) -> Option<Arc<Health>> {
    known(plugins, doing)?.health.upgrade()
}

/// The plugin that the thread of a slot is in, and where in it.
pub(crate) fn doing(slot: &'static Slot) -> Option<(String, &'static str)> {
    let doing = u32::try_from(slot.state.load(Ordering::Relaxed) & DOING).unwrap_or(0);
    let plugins = PLUGINS.read().unwrap_or_else(PoisonError::into_inner);
    let health = plugin_of(&plugins, doing)?;
    Some((health.plugin.clone(), place_of(doing)))
}

/// Where in the plugin, in words.
fn place_of(doing: u32) -> &'static str {
    let number = doing & CALL_MASK;
    let hook = || {
        let mut all = Capability::ALL.iter();
        all.find(|capability| u32::from(**capability as u8) == number)
    };
    match number {
        TASK => "a task",
        LOAD => "the constructors of its library",
        START => "its start",
        END => "its end",
        THREAD_END => "the end of its thread",
        _ => hook().map_or("a hook", |capability| capability.name()),
    }
}

/// Where in a plugin this thread is, if it is in one, as failures are counted.
pub(super) fn current_place() -> Option<&'static str> {
    let doing = noted(SLOT.get()?.state.load(Ordering::Relaxed));
    match doing & CALL_MASK {
        0 => None,
        TASK => Some("task"),
        END => Some("end"),
        _ => Some(place_of(doing)),
    }
}

/// Calls `show` with the plugin that this thread is in, and the place in it, if there is one.
/// Neither allocates nor waits.
#[cfg(unix)]
pub(super) fn with_current(show: impl FnOnce(&str, &str)) {
    let Some(slot) = SLOT.get() else {
        return;
    };
    let doing = noted(slot.state.load(Ordering::Relaxed));
    if doing == 0 {
        return;
    }
    let health = PLUGINS
        .try_read()
        .ok()
        .and_then(|plugins| plugin_of(&plugins, doing));
    let plugin = health.as_ref().map_or("?", |health| health.plugin.as_str());
    show(plugin, place_of(doing));
    // Its memory is not given back here.
    std::mem::forget(health);
}

fn report(state: u64, held: Duration, is_over: bool) {
    let doing = noted(state);
    let plugins = PLUGINS.read().unwrap_or_else(PoisonError::into_inner);
    let Some(health) = plugin_of(&plugins, doing) else {
        return;
    };
    let plugin = health.plugin.as_str();
    let hook = place_of(doing);
    let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
    if matches!(doing & CALL_MASK, END | THREAD_END) {
        let what = if is_over {
            "has ended at last"
        } else {
            "does not end"
        };
        tracing::warn!(
            plugin,
            hook,
            held_ms,
            "plugin `{plugin}` {what}: {hook} took {held_ms} ms"
        );
        return;
    }
    if is_over {
        tracing::warn!(
            plugin,
            hook,
            held_ms,
            "plugin `{plugin}` has let the worker go"
        );
        return;
    }
    health.stalled();
    tracing::warn!(
        plugin,
        hook,
        held_ms,
        "plugin `{plugin}` holds a worker in {hook} for more than {} ms, and other players wait",
        HOLD_MAX.as_millis()
    );
}

#[cfg(test)]
mod tests {
    use infrarust_test_support::blocking_until;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    }

    /// A long call is counted once; a new call on the same thread counts again.
    #[test]
    fn a_held_worker_is_reported_once() {
        let runtime = runtime();
        let health = Arc::new(Health::new("slow"));
        let plugin_id = PluginId::new(&health, runtime.handle());
        let mut seen = Vec::new();
        let start = Instant::now();
        let mark = plugin_id.hook(Capability::LoginDecide);
        look(&mut seen, start);
        look(&mut seen, start + HOLD_MAX / 2);
        // Other tests hold other threads.
        let own = slot().unwrap().index;
        let is_it = |seen: &&Seen| seen.is_reported && seen.slot.index == own;
        let reported = |seen: &[Seen]| seen.iter().filter(is_it).count();
        assert_eq!(reported(&seen), 0);
        look(&mut seen, start + HOLD_MAX);
        look(&mut seen, start + HOLD_MAX * 2);
        assert_eq!(reported(&seen), 1);
        assert!(health.counts().stalls >= 1);
        drop(mark);
        let _mark = plugin_id.hook(Capability::LoginDecide);
        look(&mut seen, start + HOLD_MAX * 3);
        assert_eq!(reported(&seen), 0);
    }

    /// A watchdog without calls sleeps, and a call wakes it.
    #[test]
    fn a_call_wakes_the_watchdog() {
        let runtime = runtime();
        let health = Arc::new(Health::new("seldom"));
        let plugin_id = PluginId::new(&health, runtime.handle());
        blocking_until("the watchdog to sleep", || {
            IS_ASLEEP.load(Ordering::Relaxed)
        });
        let _mark = plugin_id.hook(Capability::LoginDecide);
        assert!(!IS_ASLEEP.load(Ordering::Relaxed));
        blocking_until("the call to be counted", || health.counts().stalls == 1);
    }
}
