//! The C functions of a plugin, and the guard that no panic leaves.
#![allow(unsafe_code, reason = "tables hold C functions")]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fmt::Write as _;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use infrarust_plugin_abi::{
    AsyncHook, Capability, ConnectionInput, FutureTable, HandshakeInput, HookRef, HostTable,
    LoginInput, PluginTable, RawFuture, RawWaker, SessionInput, Sink, SinkTable, StatusInput, Str,
    SyncHook, answer, failure, flag, import_waker, size_of_table, status,
};

use crate::context::is_known;
use crate::host::Link;
use crate::verdict::{Answer, IntoAnswer};
use crate::{Error, Host, Plugin, Result};

/// The flags of the manifest that depend on features of this crate.
#[doc(hidden)]
pub const FLAGS: u16 = if cfg!(feature = "rt") {
    flag::RUNTIME
} else {
    0
};

/// The end of the configuration's bytes when an error has no place.
const NO_PLACE: u64 = u64::MAX;

// ---------------------------------------------------------------- the guard

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the last panic of this thread said, and where.
    static SAID: RefCell<Option<Said>> = const { RefCell::new(None) };
}

/// What the hook has learned of a panic. The plugin may have caught that panic
/// itself, and the next one may come without the hook.
struct Said {
    text: String,
    place: String,
}

/// Makes panics quiet inside guarded calls: their text goes to the host.
///
/// A dynamic library has its own `std`, so that a hook of the host would never
/// be called.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_guarded = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
            if !is_guarded {
                before(info);
                return;
            }
            let mut said = Said {
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
            let _ = SAID.try_with(|cell| {
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

/// This thread is in a guarded call.
///
/// It remembers where the count is, because in a dynamic library each look-up
/// of a thread's own variable is a call into the loader.
struct Entered(*const Cell<u32>);

impl Entered {
    fn begin() -> Self {
        // Not to be found only while the thread ends.
        let depth = DEPTH.try_with(std::ptr::from_ref);
        let entered = Self(depth.unwrap_or(std::ptr::null()));
        entered.change(1);
        entered
    }

    fn change(&self, by: i32) {
        // SAFETY: null, or the variable of this thread, on which the guard stays:
        // it has no destructor, and is there as long as the thread.
        if let Some(depth) = unsafe { self.0.as_ref() } {
            depth.set(depth.get().saturating_add_signed(by));
        }
    }
}

/// However the call ends.
impl Drop for Entered {
    fn drop(&mut self) {
        self.change(-1);
    }
}

/// Runs code of the author; errors and panics become a status and a text.
#[inline]
fn guard(sink: *const Sink, body: impl FnOnce() -> Result<i32>) -> i32 {
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
    fail(sink, failure::PANIC, &told(payload), None);
    status::PANIC
}

/// What a panic says, and where it was, if the hook has seen this one.
fn told(payload: Box<dyn Any + Send>) -> String {
    let text = payload_text(payload.as_ref()).to_owned();
    let said = SAID.try_with(RefCell::take).ok().flatten();
    let place = said.filter(|said| said.text == text).map(|said| said.place);
    discard(payload);
    format!("`{text}`{}", place.unwrap_or_default())
}

/// Drops a value of the author, for a call of the host that has no sink: what a
/// panic says goes to the log.
fn drop_guarded<T>(link: &Link, value: T) {
    let _entered = Entered::begin();
    let dropped = catch_unwind(AssertUnwindSafe(|| entered(link, || drop(value))));
    if let Err(payload) = dropped {
        let text = format!("panicked: {} while it was dropped", told(payload));
        crate::log::report_panic(link, &text);
    }
}

/// Drops the payload of a panic, whose own `Drop` may panic again.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It has had its chance.
        mem::forget(second);
    }
}

fn fail(sink: *const Sink, code: u32, text: &str, place: Option<std::ops::Range<usize>>) {
    // SAFETY: a sink is null or good for the call that it came with.
    let Some(sink) = (unsafe { sink.as_ref() }) else {
        return;
    };
    // SAFETY: the table of a sink is as good as the sink.
    let Some(fail) = (unsafe { sink.table.as_ref() }).and_then(|table| table.fail) else {
        return;
    };
    let bytes = |at: usize| u64::try_from(at).unwrap_or(NO_PLACE);
    let (start, end) = place.map_or((NO_PLACE, NO_PLACE), |at| (bytes(at.start), bytes(at.end)));
    // SAFETY: the context belongs to the table, the text is good for the call.
    unsafe { fail(sink.ctx, code, Str::new(text), start, end) };
}

/// Gives an answer to the host.
fn give(sink: *const Sink, given: &Answer) -> i32 {
    if given.code == answer::PASS {
        return status::OK;
    }
    // SAFETY: a sink is null or good for the call that it came with.
    let Some(sink) = (unsafe { sink.as_ref() }) else {
        return status::OK;
    };
    // SAFETY: the table of a sink is as good as the sink.
    let Some(give) = (unsafe { sink.table.as_ref() }).and_then(|table| table.answer) else {
        return status::UNSUPPORTED;
    };
    // SAFETY: the context belongs to the table, the text is good for the call.
    match unsafe { give(sink.ctx, given.code, Str::new(&given.text)) } {
        status::OK => status::OK,
        // The host knows why it did not take it.
        _ => status::ERR,
    }
}

/// What a call of the other side has put into a sink of ours.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) answer: Option<Answer>,
    pub(crate) failure: Option<(u32, String, Option<std::ops::Range<usize>>)>,
}

static COLLECT: SinkTable = SinkTable {
    size: size_of_table::<SinkTable>(),
    reserved: 0,
    answer: Some(collect_answer),
    fail: Some(collect_failure),
};

impl Collected {
    /// A sink, good as long as `self` stays where it is and is not used.
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
    // SAFETY: the text is good for the call.
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
    // SAFETY: the text is good for the call.
    let text = unsafe { text.text() }.to_owned();
    let place = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if end != usize::MAX => Some(start..end),
        _ => None,
    };
    collected.failure = Some((code, text, place));
    status::OK
}

// ------------------------------------------------------------- the instance

/// What the host holds as an opaque pointer.
struct Instance<P> {
    plugin: P,
    link: Arc<Link>,
    #[cfg(feature = "rt")]
    runtime: OwnRuntime,
}

/// The plugin's own runtime. A start that fails drops it, and must not wait for
/// what the plugin has begun there: the host waits for the reason.
#[cfg(feature = "rt")]
struct OwnRuntime(Option<tokio::runtime::Runtime>);

#[cfg(feature = "rt")]
impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How long the plugin's own runtime may take to end its blocking tasks.
#[cfg(feature = "rt")]
const RUNTIME_END: std::time::Duration = std::time::Duration::from_secs(2);

/// The table that makes and ends a plugin.
#[doc(hidden)]
#[must_use]
pub const fn plugin_table<P: Plugin>() -> PluginTable {
    PluginTable {
        size: size_of_table::<PluginTable>(),
        reserved: 0,
        create: Some(create::<P>),
        destroy: Some(destroy::<P>),
        refresh_log: Some(refresh_log),
    }
}

unsafe extern "C" fn create<P: Plugin>(
    host: *const HostTable,
    document: Str,
    path: Str,
    sink: *const Sink,
    instance: *mut *mut c_void,
) -> i32 {
    quiet_panics();
    guard(sink, || {
        #[cfg(feature = "rt")]
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("plugin-rt")
            .enable_all()
            .build()?;
        #[cfg(feature = "rt")]
        let (handle, runtime) = (runtime.handle().clone(), OwnRuntime(Some(runtime)));
        // SAFETY: the host promises that its table lives as long as the process.
        let link = unsafe {
            Link::new(
                host,
                #[cfg(feature = "rt")]
                handle,
            )?
        };
        let link = Arc::new(link);
        if let Some(log) = link.log {
            crate::log::install(link.host, log);
        }
        // SAFETY: the texts are good for the call.
        let (document, path) = unsafe { (document.text(), path.text()) };
        let config = match crate::config::read::<P::Config>(document, path) {
            Ok(config) => config,
            Err(error) => {
                fail(sink, failure::CONFIG, error.message(), error.span());
                return Ok(status::ERR);
            }
        };
        let plugin = entered(&link, || P::new(config, &Host::new(Arc::clone(&link))));
        let plugin = match plugin {
            Ok(plugin) => plugin,
            Err(error) => {
                let code = if error.span().is_some() {
                    failure::CONFIG
                } else {
                    failure::ERROR
                };
                fail(sink, code, &error.to_string(), error.span());
                return Ok(status::ERR);
            }
        };
        let made = Box::new(Instance {
            plugin,
            link,
            #[cfg(feature = "rt")]
            runtime,
        });
        // SAFETY: the host gives a place to write to.
        unsafe { *instance = Box::into_raw(made).cast() };
        Ok(status::OK)
    })
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) {
    guard(std::ptr::null(), || {
        // SAFETY: made by `create`, and destroyed once.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
        #[cfg(not(feature = "rt"))]
        let Instance { plugin, link } = *instance;
        #[cfg(feature = "rt")]
        let Instance {
            plugin,
            link,
            mut runtime,
        } = *instance;
        drop_guarded(&link, plugin);
        #[cfg(feature = "rt")]
        if let Some(runtime) = runtime.0.take() {
            runtime.shutdown_timeout(RUNTIME_END);
        }
        Ok(status::OK)
    });
}

unsafe extern "C" fn refresh_log() {
    guard(std::ptr::null(), || {
        tracing::callsite::rebuild_interest_cache();
        Ok(status::OK)
    });
}

/// Runs inside the plugin's own runtime, where it has one.
#[cfg_attr(not(feature = "rt"), allow(unused_variables))]
fn entered<T>(link: &Link, body: impl FnOnce() -> T) -> T {
    #[cfg(feature = "rt")]
    let _entered = link.runtime.enter();
    body()
}

// ------------------------------------------------------------------- futures

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that the host holds.
struct Waiting<V> {
    /// `None` when it is done.
    future: Option<Boxed<Result<V>>>,
    link: Arc<Link>,
}

impl<V: IntoAnswer + 'static> Waiting<V> {
    const TABLE: &'static FutureTable = &FutureTable {
        size: size_of_table::<FutureTable>(),
        reserved: 0,
        poll: Some(poll::<V>),
        drop: Some(drop_future::<V>),
    };

    fn into_raw(self) -> RawFuture {
        RawFuture {
            data: Box::into_raw(Box::new(self)).cast(),
            table: Self::TABLE,
        }
    }
}

/// Polls once. `Ok(None)` is not yet.
fn poll_once<V: IntoAnswer>(
    future: Pin<&mut (dyn Future<Output = Result<V>> + Send)>,
    link: &Link,
    waker: *const RawWaker,
    sink: *const Sink,
) -> Result<Option<i32>> {
    // SAFETY: the host lends its waker for the call.
    let Some(raw) = (unsafe { waker.as_ref() }) else {
        return Err(Error::msg("the host gave no waker"));
    };
    // SAFETY: dropped before this call returns.
    let waker = unsafe { import_waker(raw) };
    let mut cx = Context::from_waker(&waker);
    match entered(link, || future.poll(&mut cx)) {
        Poll::Pending => Ok(None),
        Poll::Ready(output) => Ok(Some(give(sink, &output?.into_answer()))),
    }
}

unsafe extern "C" fn poll<V: IntoAnswer + 'static>(
    data: *mut c_void,
    waker: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    guard(sink, || {
        // SAFETY: made by `Waiting::into_raw`, and one call at a time.
        let waiting = unsafe { &mut *data.cast::<Waiting<V>>() };
        let Some(future) = &mut waiting.future else {
            return Err(Error::msg("the host polled a future that was done"));
        };
        let Some(status) = poll_once(future.as_mut(), &waiting.link, waker, sink)? else {
            return Ok(status::PENDING);
        };
        let done = waiting.future.take();
        entered(&waiting.link, || drop(done));
        Ok(status)
    })
}

unsafe extern "C" fn drop_future<V: IntoAnswer + 'static>(data: *mut c_void) {
    // SAFETY: made by `Waiting::into_raw`, and dropped once.
    let waiting = unsafe { Box::from_raw(data.cast::<Waiting<V>>()) };
    let Waiting { future, link } = *waiting;
    drop_guarded(&link, future);
}

/// A task of the plugin as a future for the host.
pub(crate) fn task(link: Arc<Link>, task: Boxed<()>) -> RawFuture {
    let future: Boxed<Result<()>> = Box::pin(async move {
        task.await;
        Ok(())
    });
    let future = Some(future);
    Waiting { future, link }.into_raw()
}

/// Starts a hook that may wait: polls once, and hands over what is left.
///
/// # Safety
///
/// The arguments are those of [`AsyncHook::start`], for an instance of `P`.
unsafe fn start<'a, P: Plugin, I: 'a, V: IntoAnswer + 'static>(
    instance: *const c_void,
    input: *const I,
    waker: *const RawWaker,
    sink: *const Sink,
    out: *mut RawFuture,
    ask: impl FnOnce(&'a P, &'a I) -> Pin<Box<dyn Future<Output = Result<V>> + Send + 'a>>,
) -> i32 {
    guard(sink, || {
        // SAFETY: the host asks hooks of living instances only, and ends all
        // their futures before it destroys them.
        let instance = unsafe { &*instance.cast::<Instance<P>>() };
        // SAFETY: the host keeps the input until the future is dropped.
        let input = unsafe { &*input };
        let future = entered(&instance.link, || ask(&instance.plugin, input));
        // SAFETY: instance and input outlive the future, as said above.
        let mut future: Boxed<Result<V>> = unsafe { mem::transmute(future) };
        if let Some(status) = poll_once(future.as_mut(), &instance.link, waker, sink)? {
            entered(&instance.link, || drop(future));
            return Ok(status);
        }
        let waiting = Waiting {
            future: Some(future),
            link: Arc::clone(&instance.link),
        };
        // SAFETY: the host gives a place to write to.
        unsafe { *out = waiting.into_raw() };
        Ok(status::PENDING)
    })
}

/// Asks a hook that does not wait.
///
/// # Safety
///
/// The arguments are those of [`SyncHook::call`], for an instance of `P`.
unsafe fn call<'a, P: Plugin, I: Input + 'a, V: IntoAnswer>(
    instance: *const c_void,
    input: *const I,
    sink: *const Sink,
    ask: impl FnOnce(&'a P, &'a I) -> Result<V>,
) -> i32 {
    guard(sink, || {
        // SAFETY: the host asks hooks of living instances only.
        let instance = unsafe { &*instance.cast::<Instance<P>>() };
        // SAFETY: the input is good for the call.
        let input = unsafe { &*input };
        if !input.is_known() {
            return Ok(status::OK);
        }
        let given = entered(&instance.link, || ask(&instance.plugin, input))?;
        Ok(give(sink, &given.into_answer()))
    })
}

// -------------------------------------------------------------------- tables

struct Hooks<P>(PhantomData<P>);

/// An input of the host.
trait Input {
    /// Whether it says something that this version of the API knows.
    fn is_known(&self) -> bool {
        true
    }
}

impl Input for HandshakeInput {}

impl Input for SessionInput {
    fn is_known(&self) -> bool {
        is_known(self.event)
    }
}

/// The table and the C function of each hook.
macro_rules! hook_tables {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            $($rest:tt)*
        }
    )+) => {
        $(hook_tables!(@$call $hook $method $input $view);)+

        /// One function per hook, with the name of its trait.
        #[doc(hidden)]
        #[allow(
            non_snake_case,
            reason = "the macro finds them by the name of the trait"
        )]
        pub mod tables {
            use super::{Capability, HookRef, Hooks, hook_ref};

            $(#[must_use]
            pub const fn $hook<P: crate::$hook>() -> HookRef {
                hook_ref(Capability::$hook, Hooks::<P>::$hook)
            })+

            no_hooks! { @rows }
        }
    };
    (@async $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static AsyncHook<$input> = &AsyncHook {
                size: size_of_table::<AsyncHook<$input>>(),
                reserved: 0,
                start: Some($method::<P>),
            };
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            waker: *const RawWaker,
            sink: *const Sink,
            future: *mut RawFuture,
        ) -> i32 {
            let ask = |plugin, input| P::$method(plugin, crate::$view::new(input));
            // SAFETY: the arguments are passed on.
            unsafe { start::<P, _, _>(instance, input, waker, sink, future, ask) }
        }
    };
    (@sync $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static SyncHook<$input> = &SyncHook {
                size: size_of_table::<SyncHook<$input>>(),
                reserved: 0,
                call: Some($method::<P>),
            };
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            sink: *const Sink,
        ) -> i32 {
            let ask = |plugin, input| P::$method(plugin, &crate::$view::new(input));
            // SAFETY: the arguments are passed on.
            unsafe { call::<P, _, _>(instance, input, sink, ask) }
        }
    };
}

const fn hook_ref<T>(capability: Capability, table: &'static T) -> HookRef {
    HookRef {
        capability: capability as u32,
        version: 1,
        table: std::ptr::from_ref(table).cast(),
    }
}

/// Stops the compiler at what is no hook, or none yet.
macro_rules! no_hooks {
    (@rows) => {
        no_hooks! {
            PacketInspect: "has no trait yet: it belongs in `needs: [...]` or `wants: [...]`, not in `hooks: [...]`",
            PacketModify: "has no trait yet: it belongs in `needs: [...]` or `wants: [...]`, not in `hooks: [...]`",
            PacketInject: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            PlayerMessage: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            PlayerCommand: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            ServerSwitch: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            IdentityVerified: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            Limbo: "is a service, no hook: it belongs in `needs: [...]` or `wants: [...]`",
            NetworkMember: "is a key of a server, no hook of a plugin",
            ForwardingSigned: "is a key of a server, no hook of a plugin",
            ForwardingHost: "is a key of a server, no hook of a plugin",
            ClientEncryption: "is a key of a server, no hook of a plugin",
            ClientCompression: "is a key of a server, no hook of a plugin",
        }
    };
    ($($name:ident: $why:literal),+ $(,)?) => {
        $(pub const fn $name<P>() -> HookRef {
            panic!(concat!("`", stringify!($name), "` ", $why))
        })+
    };
}

infrarust_plugin_abi::hooks! { [hook_tables] }
