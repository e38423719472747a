//! The watchdog: it names a plugin that holds a worker.
//!
//! A call that blocks cannot be stopped, only seen. Each thread that calls
//! plugins has a slot, in which it notes what it does with two relaxed stores;
//! one thread looks at all slots now and then.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use infrarust_plugin_abi::Capability;

use super::health::Health;

/// How often the slots are looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// A worker that is held for so long is noticed by players: five ticks of the game.
pub(super) const HOLD_MAX: Duration = Duration::from_millis(250);
/// The bits of a token that tell the call; the rest is the plugin.
const CALL_BITS: u32 = 8;
/// What is noted when a task of the plugin is polled rather than a hook.
const TASK: u32 = 0xff;

/// What one thread does.
struct Slot {
    /// Zero: nothing.
    doing: AtomicU32,
    /// Another number for each call.
    call: AtomicU64,
}

static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());
static PLUGINS: RwLock<Vec<Weak<Health>>> = RwLock::new(Vec::new());

thread_local! {
    static SLOT: Arc<Slot> = {
        let slot = Arc::new(Slot { doing: AtomicU32::new(0), call: AtomicU64::new(0) });
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    };
}

/// A plugin as slots know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token(u32);

impl Token {
    /// Introduces a generation of a plugin, and starts the watchdog.
    pub(super) fn new(health: &Arc<Health>) -> Self {
        start();
        let mut plugins = PLUGINS.write().unwrap_or_else(PoisonError::into_inner);
        plugins.push(Arc::downgrade(health));
        // From 1 on, because zero is nothing. Generations are bounded far below.
        Self(u32::try_from(plugins.len()).unwrap_or(0) << CALL_BITS)
    }

    /// Notes that this thread is in a hook of the plugin, until the result is dropped.
    pub(super) fn hook(self, hook: Capability) -> Busy {
        Busy::begin(self.0 | u32::from(hook as u8))
    }

    /// Notes that this thread polls a task of the plugin.
    pub(super) fn task(self) -> Busy {
        Busy::begin(self.0 | TASK)
    }
}

/// This thread is in a plugin.
pub(super) struct Busy;

impl Busy {
    fn begin(doing: u32) -> Self {
        let _ = SLOT.try_with(|slot| {
            slot.call
                .store(slot.call.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            slot.doing.store(doing, Ordering::Relaxed);
        });
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = SLOT.try_with(|slot| slot.doing.store(0, Ordering::Relaxed));
    }
}

fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let started = thread::Builder::new()
            .name("plugin-watch".to_owned())
            .spawn(watch);
        if let Err(error) = started {
            tracing::warn!(%error, "plugins are not watched: the thread could not be started");
        }
    });
}

/// A call that was seen before.
struct Seen {
    slot: Weak<Slot>,
    doing: u32,
    call: u64,
    since: Instant,
    is_told: bool,
}

fn watch() {
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        thread::sleep(LOOK_PERIOD);
        look(&mut seen, Instant::now());
    }
}

fn look(seen: &mut Vec<Seen>, now: Instant) {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.retain(|seen| {
        let slot = seen.slot.upgrade();
        let goes_on = slot.is_some_and(|slot| {
            slot.doing.load(Ordering::Relaxed) == seen.doing
                && slot.call.load(Ordering::Relaxed) == seen.call
        });
        if !goes_on && seen.is_told {
            tell(seen.doing, now.duration_since(seen.since), true);
        }
        goes_on
    });
    for weak in slots {
        let Some(slot) = weak.upgrade() else { continue };
        let doing = slot.doing.load(Ordering::Relaxed);
        if doing == 0 {
            continue;
        }
        match seen.iter_mut().find(|seen| seen.slot.ptr_eq(&weak)) {
            Some(seen) => {
                let held = now.duration_since(seen.since);
                if held >= HOLD_MAX && !seen.is_told {
                    seen.is_told = true;
                    tell(doing, held, false);
                }
            }
            None => seen.push(Seen {
                slot: weak,
                doing,
                call: slot.call.load(Ordering::Relaxed),
                since: now,
                is_told: false,
            }),
        }
    }
}

fn tell(doing: u32, held: Duration, is_over: bool) {
    let plugins = PLUGINS.read().unwrap_or_else(PoisonError::into_inner);
    let index = (doing >> CALL_BITS) as usize;
    let Some(health) = index
        .checked_sub(1)
        .and_then(|at| plugins.get(at)?.upgrade())
    else {
        return;
    };
    let plugin = health.plugin.as_str();
    let number = doing & ((1 << CALL_BITS) - 1);
    let hook = Capability::ALL
        .iter()
        .find(|capability| u32::from(**capability as u8) == number)
        .map_or("a task", |capability| capability.name());
    let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
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
    use super::*;

    /// A call that goes on is counted once; a new call on the same thread is another.
    #[test]
    fn a_held_worker_is_told_once() {
        let health = Arc::new(Health::new("slow"));
        let token = Token::new(&health);
        let mut seen = Vec::new();
        let start = Instant::now();
        let busy = token.hook(Capability::LoginDecide);
        look(&mut seen, start);
        look(&mut seen, start + HOLD_MAX / 2);
        assert!(!seen.iter().any(|seen| seen.is_told));
        let told = |seen: &[Seen]| seen.iter().filter(|seen| seen.is_told).count();
        look(&mut seen, start + HOLD_MAX);
        look(&mut seen, start + HOLD_MAX * 2);
        assert_eq!(told(&seen), 1);
        assert!(health.counts().stalls >= 1);
        drop(busy);
        let _busy = token.hook(Capability::LoginDecide);
        look(&mut seen, start + HOLD_MAX * 3);
        assert_eq!(told(&seen), 0);
    }
}
