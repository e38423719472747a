//! Catches panics at the border to the host, and passes answers and failures to sinks.
#![allow(unsafe_code, reason = "sinks are C tables")]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fmt::Write as _;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use infrarust_plugin_abi::{Sink, SinkTable, Str, answer, failure, status, table};

use crate::link::Link;
use crate::verdict::{Answer, IntoAnswer};
use crate::{Error, Result};

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The text and the place of the last panic of this thread.
    static LAST_PANIC: RefCell<Option<LastPanic>> = const { RefCell::new(None) };
}

/// What the panic hook has recorded. It may belong to a panic that the plugin has caught
/// itself, and a later panic may not run the panic hook.
struct LastPanic {
    text: String,
    place: String,
}

/// Installs a panic hook that prints nothing for panics inside guarded calls: their text
/// goes to the host.
///
/// A dynamic library has its own `std`, so a panic hook of the host would never be
/// called.
pub(crate) fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_guarded = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
            if !is_guarded {
                before(info);
                return;
            }
            let mut said = LastPanic {
                text: payload_text(info.payload()).to_owned(),
                place: String::new(),
            };
            if let Some(place) = info.location() {
                let _ = write!(
                    said.place,
                    " at {}:{}:{}",
                    place.file(),
                    place.line(),
                    place.column()
                );
            }
            let _ = LAST_PANIC.try_with(|cell| {
                if let Ok(mut cell) = cell.try_borrow_mut() {
                    *cell = Some(said);
                }
            });
        }));
    });
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// Marks that this thread is in a guarded call.
///
/// It keeps the address of the count, because in a dynamic library each access to a
/// thread-local variable is a call into the loader.
struct Entered(*const Cell<u32>);

impl Entered {
    fn begin() -> Self {
        // Not available only while the thread ends.
        let depth = DEPTH.try_with(std::ptr::from_ref);
        let entered = Self(depth.unwrap_or(std::ptr::null()));
        entered.change(1);
        entered
    }

    fn change(&self, by: i32) {
        // SAFETY: null, or the variable of this thread, on which the guard stays: the
        // variable has no destructor and lives as long as the thread.
        if let Some(depth) = unsafe { self.0.as_ref() } {
            depth.set(depth.get().saturating_add_signed(by));
        }
    }
}

/// Runs also when the call ends with a panic.
impl Drop for Entered {
    fn drop(&mut self) {
        self.change(-1);
    }
}

/// Runs code of the author; errors and panics become a status and a text.
#[inline]
pub(crate) fn guard(sink: *const Sink, body: impl FnOnce() -> Result<i32>) -> i32 {
    let _entered = Entered::begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| match body() {
        Ok(status) => status,
        // Inside, because a `Display` of the author may panic too.
        Err(error) => failed(sink, &error),
    }));
    outcome.unwrap_or_else(|payload| panicked(sink, payload))
}

#[cold]
fn failed(sink: *const Sink, error: &Error) -> i32 {
    fail(sink, failure::ERROR, &error.to_string(), None);
    status::ERR
}

#[cold]
fn panicked(sink: *const Sink, payload: Box<dyn Any + Send>) -> i32 {
    fail(sink, failure::PANIC, &panic_text(payload), None);
    status::PANIC
}

/// The text of a panic, and its place if the panic hook has recorded this one.
fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = payload_text(payload.as_ref()).to_owned();
    let said = LAST_PANIC.try_with(RefCell::take).ok().flatten();
    let place = said.filter(|said| said.text == text).map(|said| said.place);
    discard(payload);
    format!("`{text}`{}", place.unwrap_or_default())
}

/// Drops a value of the author, for a call of the host without a sink: the text of a
/// panic goes to the log.
pub(crate) fn drop_guarded<T>(link: &Link, value: T) {
    let _entered = Entered::begin();
    let dropped = catch_unwind(AssertUnwindSafe(|| entered(link, || drop(value))));
    if let Err(payload) = dropped {
        let text = format!("panicked: {} while it was dropped", panic_text(payload));
        crate::log::report_panic(link, &text);
    }
}

/// Drops the payload of a panic; its `Drop` may panic too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Leaked, since its drop could panic again.
        mem::forget(second);
    }
}

pub(crate) fn fail(
    sink: *const Sink,
    code: u32,
    text: &str,
    place: Option<std::ops::Range<usize>>,
) {
    // SAFETY: a sink is null or valid during the call that it came with.
    unsafe { Sink::fail(sink, code, text, place) };
}

/// Gives an answer to the host.
pub(crate) fn give(sink: *const Sink, given: &Answer) -> i32 {
    if given.code == answer::PASS || sink.is_null() {
        return status::OK;
    }
    // SAFETY: a sink is valid during the call that it came with.
    match unsafe { Sink::give(sink, given.code, &given.text) } {
        status::OK => status::OK,
        status::UNSUPPORTED => status::UNSUPPORTED,
        // The host knows why it has refused the answer.
        _ => status::ERR,
    }
}

/// What a call to the host has put into a sink of this side.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) answer: Option<Answer>,
    pub(crate) failure: Option<(u32, String, Option<std::ops::Range<usize>>)>,
}

static COLLECT: SinkTable = table!(SinkTable {
    answer: collect_answer,
    fail: collect_failure,
});

impl Collected {
    /// A sink. It is valid as long as `self` is neither moved nor used.
    pub(crate) fn sink(&mut self) -> Sink {
        Sink {
            ctx: (&raw mut *self).cast(),
            table: &raw const COLLECT,
        }
    }

    pub(crate) fn result(self, status: i32) -> Result<Answer> {
        if let Some((_, text, _)) = self.failure {
            return Err(Error::msg(text));
        }
        match status {
            status::OK => Ok(self.answer.unwrap_or_else(|| ().into_answer())),
            status => Err(Error::msg(format!("the call failed with status {status}"))),
        }
    }
}

unsafe extern "C" fn collect_answer(ctx: *mut c_void, code: u32, text: Str) -> i32 {
    // SAFETY: the context is the `Collected` of the call that runs.
    let collected = unsafe { &mut *ctx.cast::<Collected>() };
    // SAFETY: the text is valid during the call.
    let text = unsafe { text.text() }.to_owned();
    collected.answer = Some(Answer {
        code,
        text: text.into(),
    });
    status::OK
}

unsafe extern "C" fn collect_failure(
    ctx: *mut c_void,
    code: u32,
    text: Str,
    start: u64,
    end: u64,
) -> i32 {
    // SAFETY: the context is the `Collected` of the call that runs.
    let collected = unsafe { &mut *ctx.cast::<Collected>() };
    // SAFETY: the text is valid during the call.
    let text = unsafe { text.text() }.to_owned();
    let place = Sink::place(start, end);
    collected.failure = Some((code, text, place));
    status::OK
}

/// Runs inside the plugin's own runtime, if it has one.
#[cfg_attr(not(feature = "rt"), allow(unused_variables))]
pub(crate) fn entered<T>(link: &Link, body: impl FnOnce() -> T) -> T {
    #[cfg(feature = "rt")]
    let _entered = link.runtime.enter();
    body()
}
