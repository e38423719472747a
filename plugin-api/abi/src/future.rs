//! Futures and wakers as C tables.
//!
//! Each side frees its own memory: a future is dropped through its own table, and a
//! waker that is kept is a clone, boxed by the side that made it.
#![allow(unsafe_code, reason = "the border is made of pointers")]

use core::ffi::c_void;
use core::task::{RawWaker as StdRawWaker, RawWakerVTable, Waker};

use crate::guarded::guarded;
use crate::{Sink, size_of_table, status};

/// A future that is polled until it is done. Its holder owns it.
#[derive(Debug)]
#[repr(C)]
pub struct RawFuture {
    /// For the functions of the table.
    pub data: *mut c_void,
    /// The functions.
    pub table: *const FutureTable,
}

impl RawFuture {
    /// An empty value, which a call may fill with a future.
    pub const NONE: RawFuture = RawFuture {
        data: core::ptr::null_mut(),
        table: core::ptr::null(),
    };
}

/// The functions of a [`RawFuture`]: on any thread, one call at a time.
#[derive(Debug)]
#[repr(C)]
pub struct FutureTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Returns `PENDING`, or the status of the finished future, after which it must not
    /// be called again. The sink may be null.
    pub poll: Option<
        unsafe extern "C" fn(data: *mut c_void, waker: *const RawWaker, sink: *const Sink) -> i32,
    >,
    /// Frees the future, done or not. Exactly once.
    pub drop: Option<unsafe extern "C" fn(data: *mut c_void)>,
}

/// How the holder of a future learns that it may be polled again.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RawWaker {
    /// For the functions of the table.
    pub data: *const c_void,
    /// The functions.
    pub table: *const WakerTable,
}

/// The functions of a [`RawWaker`].
#[derive(Debug)]
#[repr(C)]
pub struct WakerTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes a waker that may be kept, and must be passed to `drop` in the end.
    pub clone: Option<unsafe extern "C" fn(data: *const c_void) -> RawWaker>,
    /// Wakes.
    pub wake_by_ref: Option<unsafe extern "C" fn(data: *const c_void)>,
    /// Frees a clone.
    pub drop: Option<unsafe extern "C" fn(data: *const c_void)>,
}

static LENT: WakerTable = WakerTable {
    size: size_of_table::<WakerTable>(),
    reserved: 0,
    clone: Some(clone_exported),
    wake_by_ref: Some(wake_exported),
    drop: Some(drop_lent),
};
static KEPT: WakerTable = WakerTable {
    size: size_of_table::<WakerTable>(),
    reserved: 0,
    clone: Some(clone_exported),
    wake_by_ref: Some(wake_exported),
    drop: Some(drop_kept),
};

/// Lends a waker across the border. The result is valid as long as `waker` is.
#[must_use]
pub fn export_waker(waker: &Waker) -> RawWaker {
    RawWaker {
        data: core::ptr::from_ref(waker).cast(),
        table: &raw const LENT,
    }
}

unsafe extern "C" fn clone_exported(data: *const c_void) -> RawWaker {
    // SAFETY: `data` is the waker of `export_waker`, or a box made below.
    let waker = unsafe { &*data.cast::<Waker>() };
    let clone = guarded(Waker::noop().clone(), || waker.clone());
    RawWaker {
        data: Box::into_raw(Box::new(clone)).cast_const().cast(),
        table: &raw const KEPT,
    }
}

unsafe extern "C" fn wake_exported(data: *const c_void) {
    // SAFETY: as in `clone_exported`.
    let waker = unsafe { &*data.cast::<Waker>() };
    guarded((), || waker.wake_by_ref());
}

unsafe extern "C" fn drop_lent(_: *const c_void) {}

unsafe extern "C" fn drop_kept(data: *const c_void) {
    // SAFETY: made by `clone_exported`, and given back once.
    let waker = unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) };
    guarded((), || drop(waker));
}

/// Uses a waker of the other side as a waker of this one.
///
/// The result is only lent: it must not outlive `waker`, and dropping it does
/// nothing. Its clones may be kept.
///
/// # Safety
///
/// `waker` and its table must be valid until the result is dropped.
#[must_use]
pub unsafe fn import_waker(waker: &RawWaker) -> core::mem::ManuallyDrop<Waker> {
    let raw = StdRawWaker::new(core::ptr::from_ref(waker).cast(), &BORROWED);
    // SAFETY: the functions below keep the contract of `RawWaker`.
    core::mem::ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

static BORROWED: RawWakerVTable =
    RawWakerVTable::new(import_clone, import_wake, import_wake, import_nothing);
static OWNED: RawWakerVTable =
    RawWakerVTable::new(import_clone, import_wake_owned, import_wake, import_drop);

fn import_clone(data: *const ()) -> StdRawWaker {
    // SAFETY: `data` is a `RawWaker`, lent to `import_waker` or boxed here.
    let waker = unsafe { &*data.cast::<RawWaker>() };
    // SAFETY: the table is valid as long as the waker.
    let clone = unsafe { (*waker.table).clone };
    match clone {
        Some(clone) => {
            // SAFETY: `data` belongs to this table.
            let owned = Box::new(unsafe { clone(waker.data) });
            StdRawWaker::new(Box::into_raw(owned).cast_const().cast(), &OWNED)
        }
        None => StdRawWaker::new(Waker::noop().data(), Waker::noop().vtable()),
    }
}

fn import_wake(data: *const ()) {
    // SAFETY: as in `import_clone`.
    let waker = unsafe { &*data.cast::<RawWaker>() };
    // SAFETY: the table is valid as long as the waker.
    if let Some(wake) = unsafe { (*waker.table).wake_by_ref } {
        // SAFETY: `data` belongs to this table.
        unsafe { wake(waker.data) };
    }
}

fn import_wake_owned(data: *const ()) {
    import_wake(data);
    import_drop(data);
}

fn import_nothing(_: *const ()) {}

fn import_drop(data: *const ()) {
    // SAFETY: boxed by `import_clone`, and dropped once.
    let waker = unsafe { Box::from_raw(data.cast_mut().cast::<RawWaker>()) };
    // SAFETY: the table of a kept waker is valid until its `drop`.
    if let Some(drop) = unsafe { (*waker.table).drop } {
        // SAFETY: `data` belongs to this table, and this is its only drop.
        unsafe { drop(waker.data) };
    }
}

/// A future of the other side, dropped when this value is.
#[derive(Debug)]
pub struct OwnedFuture(RawFuture);

// SAFETY: the functions of a future may be called on any thread, one at a time:
// `poll` takes `&mut self`.
unsafe impl Send for OwnedFuture {}
// SAFETY: no function takes a shared reference.
unsafe impl Sync for OwnedFuture {}

impl OwnedFuture {
    /// Takes over a future. `None` if its table is missing or too small.
    ///
    /// # Safety
    ///
    /// The future must be valid, and no other code may use it from now on.
    #[must_use]
    pub unsafe fn new(raw: RawFuture) -> Option<Self> {
        if raw.table.is_null() {
            return None;
        }
        // SAFETY: not null, and valid as the caller promises. Every table has its
        // first field.
        let size = unsafe { (*raw.table).size };
        (size >= size_of_table::<FutureTable>()).then_some(Self(raw))
    }

    /// Polls the future. `UNSUPPORTED` if its table has no `poll`.
    pub fn poll(&mut self, waker: &Waker, sink: Option<&Sink>) -> i32 {
        // SAFETY: `new` has checked the table, and it is valid until `drop`.
        let Some(poll) = (unsafe { (*self.0.table).poll }) else {
            return status::UNSUPPORTED;
        };
        let waker = export_waker(waker);
        let sink = sink.map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `data` belongs to the table; `&mut self` makes it the only call.
        unsafe { poll(self.0.data, &raw const waker, sink) }
    }

    /// Returns the future, which the caller then owns.
    #[must_use]
    pub fn into_raw(self) -> RawFuture {
        let raw = RawFuture { ..self.0 };
        core::mem::forget(self);
        raw
    }
}

impl Drop for OwnedFuture {
    fn drop(&mut self) {
        // SAFETY: `new` has checked the table.
        if let Some(drop) = unsafe { (*self.0.table).drop } {
            // SAFETY: `data` belongs to the table, and this is its only drop.
            unsafe { drop(self.0.data) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!(self.0.load(Ordering::Relaxed) != 3, "the third wake panics");
        }
    }

    /// A waker works across the border and back, each clone is freed once, and a panic of
    /// a waker does not cross.
    #[test]
    fn a_waker_survives_both_ways() {
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let raw = export_waker(&waker);
        // SAFETY: `raw` outlives the imported waker.
        let imported = unsafe { import_waker(&raw) };
        imported.wake_by_ref();
        let kept = (*imported).clone();
        let again = kept.clone();
        kept.wake();
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
        again.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::Relaxed), 3);
        assert_eq!(Arc::strong_count(&counter), 3);
        drop(again);
        drop(waker);
        assert_eq!(Arc::strong_count(&counter), 1);
    }
}
