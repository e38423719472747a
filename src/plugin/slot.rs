//! A slot for each thread, which records the plugin that the thread is in. The
//! watchdog and the crash report read it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The bits of a slot's state that identify the kind of call; the bits above identify the
/// plugin.
pub(super) const CALL_BITS: u32 = 8;
pub(super) const CALL_MASK: u32 = (1 << CALL_BITS) - 1;
/// The kind while a thread of the plugin ends, which runs the destructors of its thread-local
/// variables.
pub(super) const THREAD_END: u32 = 0xfb;

/// The current call of one thread. Slots are never freed: a new thread reuses that of an
/// ended one.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Unique among the threads that live at the same time.
    pub(super) index: usize,
    /// The lower half is the plugin and the kind of call, zero for none. The upper half is a
    /// number that changes with each call. Only its thread writes it.
    pub(super) state: AtomicU64,
}

/// The lower half of a state.
pub(super) const DOING: u64 = u32::MAX as u64;

pub(super) static SLOTS: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

thread_local! {
    // Separate from the guard: without a destructor, reading the variable is one load.
    pub(super) static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
    static SLOT_GUARD: SlotGuard = SlotGuard::take();
}

/// A thread has a slot until it ends.
struct SlotGuard(&'static Slot);

impl SlotGuard {
    fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = free.pop().unwrap_or_else(|| {
            let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
            let slot: &'static Slot = Box::leak(Box::new(Slot {
                index: slots.len(),
                state: AtomicU64::new(0),
            }));
            slots.push(slot);
            slot
        });
        Self(slot)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let state = self.0.state.load(Ordering::Relaxed);
        match noted(state) & CALL_MASK {
            0 => {}
            // The thread's other destructors have run: they were registered after this one.
            THREAD_END => self.0.state.store(state & !DOING, Ordering::Relaxed),
            // A thread that ends inside a plugin is one that calls exit(3); the
            // crash report reads its slot after this.
            _ => return,
        }
        SLOT.set(None);
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.0);
    }
}

/// The slot of this thread; `None` while the thread ends.
#[inline]
pub(crate) fn slot() -> Option<&'static Slot> {
    SLOT.get().or_else(first)
}

#[cold]
fn first() -> Option<&'static Slot> {
    let slot = SLOT_GUARD.try_with(|guard| guard.0).ok();
    SLOT.set(slot);
    slot
}

/// The lower half of a state.
pub(super) fn noted(state: u64) -> u32 {
    u32::try_from(state & DOING).unwrap_or(0)
}
