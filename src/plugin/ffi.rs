//! The only file of the proxy that sees raw pointers: it maps images, calls
//! plugins, and is called by them.
//!
//! What a plugin gives is checked as far as it can be: sizes, null pointers,
//! lengths and UTF-8. That a pointer leads somewhere is trusted; a native
//! plugin could do anything anyway.
#![allow(unsafe_code, reason = "plugins are C tables")]

use std::ffi::c_void;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use infrarust_plugin_abi::{
    API_VERSION, AsyncHook, Capability, DataTable, ENTRY_MAGIC, ENTRY_SYMBOL, Entry, EntryFn,
    FutureTable, Hook, HookRef, HostTable, LogCallsite, LogField, LogTable, MetricsTable,
    OwnedFuture, PlayersTable, PluginTable, Point, RawFuture, RawWaker, Sink, SinkTable, Str,
    SyncHook, TaskTable, TimeTable, answer, export_waker, failure, field, import_waker, interest,
    level, points, service, size_of_table, status,
};
#[cfg(not(unix))]
use libloading::Library;
#[cfg(unix)]
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tracing::Level;

use super::image::{ImageError, Sealed};
use super::log;
use super::services::{NoMetric, Services, Supply};
use super::watch::Token;
use crate::manifest::{CapabilitySet, Manifest};

/// Never unmap (`dlopen(3)`): threads of the process may run destructors that
/// the plugin has registered. `libloading` has no name for it.
#[cfg(target_os = "macos")]
const RTLD_NODELETE: i32 = 0x80;
/// As above, on Linux and its relatives.
#[cfg(all(unix, not(target_os = "macos")))]
const RTLD_NODELETE: i32 = 0x1000;

/// The most bytes of an error text of a plugin that are kept.
const FAILURE_BYTES_MAX: usize = 2048;
/// The most bytes of the names and values of one event of the log.
const LOG_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The target of events with which the SDK tells of a panic where no call could
/// return it: in the drop of a future or of the instance.
const PANIC_TARGET: &str = "infrarust_plugin_api::panic";
/// The place of such events, whatever the filter of the log says.
const PANIC_SITE: u64 = u64::MAX;
/// The longest time that a plugin may sleep in one piece: 100 years, which the
/// timer can still count.
const SLEEP_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

// --------------------------------------------------------------- the image

/// A mapped plugin. It stays mapped, and its file open, for the life of the process.
pub(super) struct Image {
    _library: ManuallyDrop<Library>,
    _file: ManuallyDrop<std::fs::File>,
    plugin: &'static PluginTable,
    pub(super) hooks: Hooks,
}

macro_rules! hooks {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The hooks of a plugin, by their types.
        #[derive(Default)]
        pub(super) struct Hooks {
            $(pub(super) $method: Option<&'static <points::$hook as Point>::Table>,)+
        }

        impl Hooks {
            /// Takes over the table of a capability, if it is a hook. `None` when the
            /// table is missing or too small.
            ///
            /// # Safety
            ///
            /// A pointer that is not null must lead to a table of this hook, for the
            /// life of the process.
            unsafe fn fill(&mut self, capability: Capability, found: *const c_void) -> Option<()> {
                match Hook::of(capability) {
                    // SAFETY: as the caller promises.
                    $(Some(Hook::$hook) => self.$method = Some(unsafe { table(found) }?),)+
                    // The manifest was refused if it listed another hook.
                    None => {}
                }
                Some(())
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [hooks] }

/// Maps a file into the process, for ever.
fn map(path: &std::path::Path) -> Result<Library, libloading::Error> {
    // SAFETY: the constructors of the library run here; native plugins are trusted.
    #[cfg(unix)]
    unsafe {
        Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)
    }
    // SAFETY: as above.
    #[cfg(not(unix))]
    unsafe {
        Library::new(path)
    }
}

/// Maps a sealed copy and holds its entry against its manifest.
pub(super) fn open(sealed: Sealed, manifest: &Manifest, id: &str) -> Result<Image, ImageError> {
    let library = map(&sealed.path);
    if sealed.is_on_disk {
        // Mapped or refused, nobody needs the name any more.
        let _ = std::fs::remove_file(&sealed.path);
    }
    let library = library.map_err(|error| load_error(&error))?;
    // What has been mapped once stays, also if it is refused below, and its
    // descriptor with it: under the same number the loader would find this
    // image again instead of the next one.
    let library = ManuallyDrop::new(library);
    let file = ManuallyDrop::new(sealed.file);
    // SAFETY: the symbol has this type, as its name with its version says.
    let symbol = unsafe { library.get::<EntryFn>(ENTRY_SYMBOL.as_bytes()) };
    let entry = symbol.map_err(|_| lies("the entry", ENTRY_SYMBOL, "no such symbol"))?;
    // SAFETY: the function only returns a constant.
    let entry = unsafe { entry() };
    let (plugin, hooks) = judge(entry, manifest)?;
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    super::code::note(id, std::ptr::from_ref(plugin).cast());
    Ok(Image {
        _library: library,
        _file: file,
        plugin,
        hooks,
    })
}

/// The error with its reason, which `libloading` keeps in the source.
fn load_error(error: &libloading::Error) -> ImageError {
    use std::error::Error as _;
    let source = error
        .source()
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    ImageError::Load(format!("{error}{source}"))
}

fn lies(field: &'static str, manifest: impl fmt::Display, code: impl fmt::Display) -> ImageError {
    ImageError::Lies {
        field,
        manifest: manifest.to_string(),
        code: code.to_string(),
    }
}

/// Checks an entry, first field first.
fn judge(
    entry: *const Entry,
    manifest: &Manifest,
) -> Result<(&'static PluginTable, Hooks), ImageError> {
    if entry.is_null() || !entry.is_aligned() {
        return Err(ImageError::Load("its entry is no address".to_owned()));
    }
    // SAFETY: not null; the first two fields are there in every version.
    let (magic, size) = unsafe { ((*entry).magic, (*entry).size) };
    if magic != ENTRY_MAGIC || size < size_of_table::<Entry>() {
        return Err(ImageError::Load(
            "its entry is no table of this plugin API".to_owned(),
        ));
    }
    // SAFETY: as large as this type.
    let entry = unsafe { &*entry };
    if (entry.api_major, entry.api_minor) != manifest.api {
        let text = |api: (u16, u16)| format!("{}.{}", api.0, api.1);
        return Err(lies(
            "the plugin API",
            text(manifest.api),
            text((entry.api_major, entry.api_minor)),
        ));
    }
    for (field, said, coded) in [
        ("hooks", manifest.hooks, entry.hooks),
        ("needs", manifest.needs, entry.needs),
    ] {
        if said.bits() != coded {
            return Err(lies(field, bits(said.bits()), bits(coded)));
        }
    }
    // What is wanted and unknown is not in the manifest that was read.
    let known = Capability::ALL
        .iter()
        .fold(0, |all, capability| all | capability.bit());
    if manifest.wants.bits() != entry.wants & known {
        return Err(lies(
            "wants",
            bits(manifest.wants.bits()),
            bits(entry.wants),
        ));
    }
    // SAFETY: tables of an entry are constants of the image.
    let plugin = unsafe { table::<PluginTable>(entry.plugin.cast()) }
        .filter(|table| table.create.is_some() && table.destroy.is_some())
        .ok_or_else(|| ImageError::Load("its plugin table is too small".to_owned()))?;
    Ok((plugin, hooks(entry, manifest.hooks)?))
}

fn bits(bits: u64) -> String {
    let names: Vec<_> = infrarust_plugin_abi::capabilities_in(bits)
        .map(Capability::name)
        .collect();
    if names.is_empty() {
        format!("bits {bits:#x}")
    } else {
        names.join(", ")
    }
}

fn hooks(entry: &Entry, said: CapabilitySet) -> Result<Hooks, ImageError> {
    let wrong = |what: &str| ImageError::Load(format!("its table of hooks is {what}"));
    if entry.hook_refs.is_null() || entry.hook_refs_len > Capability::ALL.len() {
        return Err(wrong("missing or too long"));
    }
    // SAFETY: not null, and the length is plausible.
    let refs: &[HookRef] =
        unsafe { std::slice::from_raw_parts(entry.hook_refs, entry.hook_refs_len) };
    let mut hooks = Hooks::default();
    for capability in said.iter() {
        let found = refs
            .iter()
            .find(|hook| hook.capability == capability as u32 && hook.version == 1);
        let Some(found) = found else {
            return Err(lies("hooks", capability, "no table of version 1 for it"));
        };
        let missing = || wrong(&format!("too small for `{capability}`"));
        // SAFETY: each number goes with the type of its table, which is a
        // constant of the image.
        unsafe { hooks.fill(capability, found.table) }.ok_or_else(missing)?;
    }
    Ok(hooks)
}

/// A table that begins with its size; `None` when it is missing or too small.
///
/// # Safety
///
/// A pointer that is not null must lead to a table of this kind, for the life
/// of the process.
unsafe fn table<T>(pointer: *const c_void) -> Option<&'static T> {
    let pointer = pointer.cast::<T>();
    if pointer.is_null() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: every table begins with its size.
    let size = unsafe { *pointer.cast::<u32>() };
    // SAFETY: as large as this type.
    (size >= size_of_table::<T>()).then(|| unsafe { &*pointer })
}

// ------------------------------------------------------------- the instance

/// A plugin that was created. Ended with [`Instance::destroy`] only.
#[derive(Debug)]
pub(super) struct Instance {
    raw: *mut c_void,
    plugin: &'static PluginTable,
}

// SAFETY: the functions of a plugin may be called on any thread, and several at once.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Image {
    /// Makes the plugin. Waits as long as it takes.
    pub(super) fn create(
        &self,
        services: &'static Services,
        document: &str,
        path: &[String],
    ) -> Result<Instance, Box<Failure>> {
        let host: &'static HostTable = Box::leak(Box::new(HostTable {
            size: size_of_table::<HostTable>(),
            api_major: API_VERSION.major,
            api_minor: API_VERSION.minor,
            ctx: std::ptr::from_ref(services).cast(),
            query: Some(query),
        }));
        let path: String = path.iter().flat_map(|key| [key.as_str(), "\0"]).collect();
        let mut raw = std::ptr::null_mut();
        let mut answers = Answers::new(0);
        let Some(create) = self.plugin.create else {
            return Err(Failure::unsupported());
        };
        // SAFETY: the host's tables are leaked, the rest is good for the call.
        let status = answers.during(|sink| unsafe {
            create(
                host,
                Str::new(document),
                Str::new(&path),
                sink,
                &raw mut raw,
            )
        });
        answers.outcome(status)?;
        if raw.is_null() {
            return Err(Box::new(Failure::new(
                FailureKind::BadAnswer,
                "it was created without an instance",
            )));
        }
        Ok(Instance {
            raw,
            plugin: self.plugin,
        })
    }

    /// Tells the plugin that the filter of the log has changed.
    pub(super) fn refresh_log(&self) {
        if let Some(refresh) = self.plugin.refresh_log {
            // SAFETY: the function catches its own panics.
            unsafe { refresh() };
        }
    }
}

impl Instance {
    /// Ends the plugin. Waits as long as it takes. No call may run, and no
    /// future be left: the caller has the last reference.
    pub(super) fn destroy(self) {
        if let Some(destroy) = self.plugin.destroy {
            // SAFETY: `self` is the only instance, and this its end.
            unsafe { destroy(self.raw) };
        }
    }
}

// -------------------------------------------------------------------- calls

/// What a plugin has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// One of [`answer`], or an unknown one.
    pub(super) code: u32,
    pub(super) text: String,
}

/// How a plugin has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) text: String,
    /// Bytes of the configuration.
    pub(super) place: Option<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    Error,
    Panic,
    Config,
    BadAnswer,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            place: None,
        }
    }

    #[cold]
    fn unsupported() -> Box<Self> {
        Box::new(Self::new(
            FailureKind::BadAnswer,
            "it has no function for this",
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Panic => write!(f, "panicked: {}", self.text),
            FailureKind::Error | FailureKind::Config | FailureKind::BadAnswer => {
                f.write_str(&self.text)
            }
        }
    }
}

/// What one call puts into its sink.
struct Answers {
    text_bytes_max: usize,
    answer: Option<Answer>,
    failure: Option<Failure>,
}

static SINK: SinkTable = SinkTable {
    size: size_of_table::<SinkTable>(),
    reserved: 0,
    answer: Some(take_answer),
    fail: Some(take_failure),
};

impl Answers {
    const fn new(text_bytes_max: usize) -> Self {
        Self {
            text_bytes_max,
            answer: None,
            failure: None,
        }
    }

    /// Runs a call with a sink that is good during it.
    fn during<T>(&mut self, call: impl FnOnce(*const Sink) -> T) -> T {
        let sink = Sink {
            ctx: std::ptr::from_mut(self).cast(),
            table: &raw const SINK,
        };
        call(&raw const sink)
    }

    /// What the plugin has answered; nothing, which means to go on, for most calls.
    #[inline]
    fn outcome(&mut self, status: i32) -> Result<Option<Answer>, Box<Failure>> {
        if status == status::OK && self.answer.is_none() && self.failure.is_none() {
            return Ok(None);
        }
        self.said(status)
    }

    #[inline(never)]
    fn said(&mut self, status: i32) -> Result<Option<Answer>, Box<Failure>> {
        let kind = match status {
            status::OK => None,
            status::PANIC => Some(FailureKind::Panic),
            status::ERR => Some(FailureKind::Error),
            status => {
                let text = format!("it returned the status {status}, which means nothing here");
                return Err(Box::new(Failure::new(FailureKind::BadAnswer, text)));
            }
        };
        match (self.failure.take(), kind) {
            // An error beside `OK` was about the answer: it could not be taken.
            (Some(failure), _) => Err(Box::new(failure)),
            (None, None) => Ok(self.answer.take()),
            (None, Some(kind)) => Err(Box::new(Failure::new(kind, "it did not say why"))),
        }
    }
}

/// A text of a plugin: at most so many bytes, and UTF-8 whatever it was.
///
/// # Safety
///
/// The text must be good.
unsafe fn text(text: Str, bytes_max: usize) -> String {
    // SAFETY: the caller promises it, and less is good too.
    let bytes = unsafe {
        Str {
            ptr: text.ptr,
            len: text.len.min(bytes_max),
        }
        .bytes()
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

unsafe extern "C" fn take_answer(ctx: *mut c_void, code: u32, given: Str) -> i32 {
    // SAFETY: the context is that of the call that runs, on its thread.
    let answers = unsafe { &mut *ctx.cast::<Answers>() };
    if given.len > answers.text_bytes_max {
        let why = format!(
            "its answer has {} bytes, and at most {} are taken",
            given.len, answers.text_bytes_max
        );
        answers.failure = Some(Failure::new(FailureKind::BadAnswer, why));
        return status::DENIED;
    }
    // SAFETY: good for the call.
    let text = unsafe { text(given, answers.text_bytes_max) };
    answers.answer = Some(Answer { code, text });
    status::OK
}

unsafe extern "C" fn take_failure(
    ctx: *mut c_void,
    code: u32,
    said: Str,
    start: u64,
    end: u64,
) -> i32 {
    // SAFETY: the context is that of the call that runs, on its thread.
    let answers = unsafe { &mut *ctx.cast::<Answers>() };
    let kind = match code {
        failure::PANIC => FailureKind::Panic,
        failure::CONFIG => FailureKind::Config,
        _ => FailureKind::Error,
    };
    let place = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end != usize::MAX => Some(start..end),
        _ => None,
    };
    // SAFETY: good for the call.
    let text = log::clean(&unsafe { text(said, FAILURE_BYTES_MAX) }).into_owned();
    answers.failure = Some(Failure { kind, text, place });
    status::OK
}

/// Asks a hook that answers at once.
#[inline]
pub(super) fn call<I>(
    instance: &Instance,
    hook: &SyncHook<I>,
    input: &I,
    text_bytes_max: usize,
) -> Result<Option<Answer>, Box<Failure>> {
    let Some(call) = hook.call else {
        return Err(Failure::unsupported());
    };
    let mut answers = Answers::new(text_bytes_max);
    // SAFETY: the instance lives, the rest is good for the call.
    let status = answers.during(|sink| unsafe { call(instance.raw, input, sink) });
    answers.outcome(status)
}

/// A hook that may wait. Dropping it cancels the call.
pub(super) struct HookCall<'a, I> {
    instance: &'a Instance,
    hook: &'a AsyncHook<I>,
    input: &'a I,
    text_bytes_max: usize,
    token: Token,
    capability: Capability,
    state: State,
}

enum State {
    New,
    Waiting(OwnedFuture),
    Done,
}

impl<'a, I> HookCall<'a, I> {
    pub(super) const fn new(
        instance: &'a Instance,
        hook: &'a AsyncHook<I>,
        input: &'a I,
        text_bytes_max: usize,
        token: Token,
        capability: Capability,
    ) -> Self {
        Self {
            instance,
            hook,
            input,
            text_bytes_max,
            token,
            capability,
            state: State::New,
        }
    }
}

/// A call that is given up ends its future, which is code of the plugin.
impl<I> Drop for HookCall<'_, I> {
    fn drop(&mut self) {
        if let State::Waiting(future) = std::mem::replace(&mut self.state, State::Done) {
            let _busy = self.token.hook(self.capability);
            drop(future);
        }
    }
}

impl<I> Future for HookCall<'_, I> {
    type Output = Result<Option<Answer>, Box<Failure>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let _busy = call.token.hook(call.capability);
        let mut answers = Answers::new(call.text_bytes_max);
        let status = match &mut call.state {
            State::New => {
                let Some(start) = call.hook.start else {
                    return Poll::Ready(Err(Failure::unsupported()));
                };
                let mut raw = RawFuture::NONE;
                let waker = export_waker(cx.waker());
                let (instance, input) = (call.instance.raw, std::ptr::from_ref(call.input));
                // SAFETY: instance and input outlive this call and its future,
                // the rest is good for the call.
                let status = answers.during(|sink| unsafe {
                    start(instance, input, &raw const waker, sink, &raw mut raw)
                });
                if status == status::PENDING {
                    // SAFETY: the plugin gives the future away.
                    match unsafe { OwnedFuture::new(raw) } {
                        Some(future) => call.state = State::Waiting(future),
                        None => return Poll::Ready(Err(Failure::unsupported())),
                    }
                }
                status
            }
            State::Waiting(future) => {
                let waker = cx.waker();
                answers.during(|sink| {
                    // SAFETY: made by `during` for this call.
                    future.poll(waker, Some(unsafe { &*sink }))
                })
            }
            State::Done => return Poll::Ready(Err(Failure::unsupported())),
        };
        if status == status::PENDING {
            return Poll::Pending;
        }
        // Ends the future here, still inside the watch.
        call.state = State::Done;
        Poll::Ready(answers.outcome(status))
    }
}

/// A task of a plugin.
pub(super) struct TaskCall {
    /// `None` once it is done.
    future: Option<OwnedFuture>,
    token: Token,
}

/// As for a hook: to end a future is to call the plugin.
impl Drop for TaskCall {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let _busy = self.token.task();
            drop(future);
        }
    }
}

impl Future for TaskCall {
    type Output = Result<(), Box<Failure>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let _busy = call.token.task();
        let mut answers = Answers::new(0);
        let waker = cx.waker();
        let Some(future) = &mut call.future else {
            return Poll::Ready(Err(Failure::unsupported()));
        };
        // SAFETY: made by `during` for this call.
        let status = answers.during(|sink| future.poll(waker, Some(unsafe { &*sink })));
        if status == status::PENDING {
            return Poll::Pending;
        }
        // Ends the future here, still inside the watch.
        call.future = None;
        Poll::Ready(answers.outcome(status).map(|_| ()))
    }
}

// ----------------------------------------------------------------- services

macro_rules! service {
    ($type:ident { $($field:ident: $function:ident),+ }) => {
        $type { size: size_of_table::<$type>(), reserved: 0, $($field: Some($function)),+ }
    };
}

static LOG: LogTable = service!(LogTable {
    callsite: log_callsite,
    enabled: log_enabled,
    event: log_event
});
static TIME: TimeTable = service!(TimeTable { sleep: sleep });
static TASK: TaskTable = service!(TaskTable {
    spawn: spawn,
    abort: abort
});
static DATA: DataTable = service!(DataTable { folder: folder });
static PLAYERS: PlayersTable = service!(PlayersTable { count: count });
static METRICS: MetricsTable = service!(MetricsTable {
    register: register,
    record: record
});
static SLEEP: FutureTable = service!(FutureTable {
    poll: poll_sleep,
    drop: drop_sleep
});

/// No service of a capability is there yet: those come with the packet stage.
unsafe extern "C" fn query(_: *const c_void, service: u32, version: u32) -> *const c_void {
    match (service, version) {
        (service::LOG, 1) => (&raw const LOG).cast(),
        (service::TIME, 1) => (&raw const TIME).cast(),
        (service::TASK, 1) => (&raw const TASK).cast(),
        (service::DATA, 1) => (&raw const DATA).cast(),
        (service::PLAYERS, 1) => (&raw const PLAYERS).cast(),
        (service::METRICS, 1) => (&raw const METRICS).cast(),
        _ => std::ptr::null(),
    }
}

/// `None` when the plugin has passed no context.
///
/// # Safety
///
/// The context must be null, or the one that `create` has passed.
unsafe fn services(ctx: *const c_void) -> Option<&'static Services> {
    // SAFETY: the caller promises it, and services are leaked.
    unsafe { ctx.cast::<Services>().as_ref() }
}

/// Writes where the plugin wants it; whether it wants it anywhere.
///
/// # Safety
///
/// The place must be null, or good for a write.
unsafe fn write<T>(place: *mut T, value: T) -> bool {
    let is_there = !place.is_null();
    if is_there {
        // SAFETY: the caller promises it.
        unsafe { place.write(value) };
    }
    is_there
}

/// Host functions are called across `extern "C"`: a panic of ours would end
/// the proxy, so that it is turned into a status.
fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        otherwise
    })
}

unsafe extern "C" fn log_callsite(
    ctx: *const c_void,
    callsite: *const LogCallsite,
    id: *mut u64,
    given: *mut u32,
) -> i32 {
    // SAFETY: the plugin passes its context and good pointers.
    let (Some(services), Some(site)) =
        (unsafe { (services(ctx), callsite.cast::<u32>().as_ref()) })
    else {
        return status::ERR;
    };
    if *site < size_of_table::<LogCallsite>() || id.is_null() || given.is_null() {
        return status::ERR;
    }
    // SAFETY: as large as this type.
    let site = unsafe { &*callsite };
    if site.fields_len > log::FIELDS_MAX || (site.fields.is_null() && site.fields_len > 0) {
        return status::DENIED;
    }
    let level = match site.level {
        level::ERROR => Level::ERROR,
        level::WARN => Level::WARN,
        level::INFO => Level::INFO,
        level::DEBUG => Level::DEBUG,
        _ => Level::TRACE,
    };
    // SAFETY: so many names are there, and all texts are good for the call.
    let (target, file, fields) = unsafe {
        let names: &[Str] = match site.fields_len {
            0 => &[],
            len => std::slice::from_raw_parts(site.fields, len),
        };
        let names = names
            .iter()
            .map(|name| text(*name, LOG_TEXT_BYTES_MAX))
            .collect();
        (
            text(site.target, LOG_TEXT_BYTES_MAX),
            text(site.file, LOG_TEXT_BYTES_MAX),
            names,
        )
    };
    if target == PANIC_TARGET {
        // SAFETY: the plugin gives places to write to.
        let written = unsafe { write(id, PANIC_SITE) && write(given, interest::ALWAYS) };
        return if written { status::OK } else { status::ERR };
    }
    let target = format!(
        "{}{}::{target}",
        super::TARGET_PREFIX,
        services.health.plugin
    );
    let key = log::Key {
        level,
        target,
        file,
        line: site.line,
        fields,
    };
    let Some(introduced) = guarded(None, || log::introduce(key, &services.places)) else {
        services.has_run_out_of(Supply::LogPlaces);
        return status::DENIED;
    };
    // SAFETY: the plugin gives places to write to.
    let written = unsafe { write(id, introduced.0) && write(given, introduced.1) };
    if written { status::OK } else { status::ERR }
}

unsafe extern "C" fn log_enabled(_: *const c_void, id: u64) -> u32 {
    guarded(interest::NEVER, || log::is_enabled(id).into())
}

unsafe extern "C" fn log_event(
    ctx: *const c_void,
    id: u64,
    fields: *const LogField,
    len: usize,
) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    if len > log::FIELDS_MAX || (fields.is_null() && len > 0) {
        return status::DENIED;
    }
    if id == PANIC_SITE {
        // SAFETY: so many values are there, and their texts are good for the call.
        let said = unsafe {
            fields
                .as_ref()
                .map(|field| text(field.text, FAILURE_BYTES_MAX))
        };
        guarded((), || {
            services.dropped_with_a_panic(&log::clean(&said.unwrap_or_default()))
        });
        return status::OK;
    }
    if !guarded(false, || log::is_enabled(id) && services.may_log()) {
        return status::OK;
    }
    let mut values = Vec::with_capacity(len);
    for at in 0..len {
        // SAFETY: so many values are there.
        let value = unsafe { &*fields.add(at) };
        // SAFETY: the text is good for the call.
        let text = || unsafe { text(value.text, LOG_TEXT_BYTES_MAX) };
        let given = match value.kind {
            field::TEXT => log::Given::Text(text()),
            field::PRINTED => log::Given::Printed(text()),
            field::I64 => log::Given::I64(value.number.cast_signed()),
            field::U64 => log::Given::U64(value.number),
            field::F64 => log::Given::F64(f64::from_bits(value.number)),
            field::BOOL => log::Given::Bool(value.number != 0),
            _ => continue,
        };
        values.push((value.index as usize, given));
    }
    guarded((), || log::event(id, values));
    status::OK
}

struct Sleeping {
    sleep: Pin<Box<tokio::time::Sleep>>,
    token: Token,
}

/// A waker that a plugin has passed. To call or to free it is to call the
/// plugin, on the worker that looks after the timers.
struct PluginWaker {
    /// `None` only while it is dropped.
    waker: Option<Waker>,
    token: Token,
}

impl Wake for PluginWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _busy = self.token.task();
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Drop for PluginWaker {
    fn drop(&mut self) {
        let _busy = self.token.task();
        self.waker = None;
    }
}

unsafe extern "C" fn sleep(ctx: *const c_void, millis: u64, future: *mut RawFuture) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    if future.is_null() {
        return status::ERR;
    }
    let sleeping = guarded(None, || {
        // The plugin may be on a thread of its own.
        let _entered = services.runtime.enter();
        let time = Duration::from_millis(millis).min(SLEEP_MAX);
        Some(Box::new(Sleeping {
            sleep: Box::pin(tokio::time::sleep(time)),
            token: services.token,
        }))
    });
    let Some(sleeping): Option<Box<Sleeping>> = sleeping else {
        return status::ERR;
    };
    // SAFETY: the plugin gives a place to write to.
    unsafe {
        *future = RawFuture {
            data: Box::into_raw(sleeping).cast(),
            table: &raw const SLEEP,
        }
    };
    status::OK
}

unsafe extern "C" fn poll_sleep(data: *mut c_void, waker: *const RawWaker, _: *const Sink) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: made by `sleep`, and one call at a time.
        let sleeping = unsafe { &mut *data.cast::<Sleeping>() };
        // SAFETY: the plugin lends its waker for the call.
        let Some(waker) = (unsafe { waker.as_ref() }).filter(|waker| !waker.table.is_null()) else {
            return status::ERR;
        };
        // SAFETY: dropped before this call returns.
        let waker = unsafe { import_waker(waker) };
        let waker = Waker::from(Arc::new(PluginWaker {
            waker: Some((*waker).clone()),
            token: sleeping.token,
        }));
        match sleeping
            .sleep
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
        {
            Poll::Ready(()) => status::OK,
            Poll::Pending => status::PENDING,
        }
    })
}

unsafe extern "C" fn drop_sleep(data: *mut c_void) {
    // SAFETY: made by `sleep`, and dropped once.
    let sleeping = unsafe { Box::from_raw(data.cast::<Sleeping>()) };
    guarded((), || drop(sleeping));
}

unsafe extern "C" fn spawn(ctx: *const c_void, future: RawFuture, id: *mut u64) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    if !services.has_room() {
        return status::DENIED;
    }
    // SAFETY: the plugin gives the future away.
    let Some(future) = (unsafe { OwnedFuture::new(future) }) else {
        return status::ERR;
    };
    let call = TaskCall {
        future: Some(future),
        token: services.token,
    };
    let Some(number) = guarded(None, || Some(services.spawn(call))) else {
        // The future is gone; the plugin must not drop it again.
        return status::OK;
    };
    // SAFETY: the plugin gives a place to write to. One that gives none cannot
    // abort the task, and it runs all the same.
    unsafe { write(id, number) };
    status::OK
}

unsafe extern "C" fn abort(ctx: *const c_void, id: u64) {
    // SAFETY: the plugin passes its context.
    let services = unsafe { services(ctx) };
    guarded((), || {
        if let Some(services) = services {
            services.abort(id);
        }
    });
}

unsafe extern "C" fn folder(ctx: *const c_void, sink: *const Sink) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    let made = std::fs::create_dir_all(&services.folder);
    let said = match &made {
        Ok(()) => services.folder.to_string_lossy().into_owned(),
        Err(error) => format!(
            "the data folder `{}` cannot be made: {error}",
            services.folder.display()
        ),
    };
    // SAFETY: the plugin's sink is good for the call.
    unsafe {
        let Some(sink) = sink.as_ref() else {
            return status::ERR;
        };
        let Some(table) = sink.table.as_ref() else {
            return status::ERR;
        };
        match (made, table.answer, table.fail) {
            (Ok(()), Some(answer), _) => answer(sink.ctx, answer::PASS, Str::new(&said)),
            (Err(_), _, Some(fail)) => {
                fail(
                    sink.ctx,
                    failure::ERROR,
                    Str::new(&said),
                    u64::MAX,
                    u64::MAX,
                );
                status::ERR
            }
            _ => status::UNSUPPORTED,
        }
    }
}

unsafe extern "C" fn count(ctx: *const c_void, server: Str) -> i64 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), server) = (unsafe { (services(ctx), server.text()) }) else {
        return -1;
    };
    let server = (!server.is_empty()).then_some(server);
    let count = guarded(None, || services.players.count(server));
    count
        .and_then(|count| i64::try_from(count).ok())
        .unwrap_or(-1)
}

unsafe extern "C" fn register(ctx: *const c_void, name: Str, kind: u32, id: *mut u64) -> i32 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), name) = (unsafe { (services(ctx), name.text()) }) else {
        return status::ERR;
    };
    if id.is_null() {
        return status::ERR;
    }
    match services
        .metrics
        .register(&services.history.metrics, name, kind)
    {
        Ok(number) => {
            // SAFETY: the plugin gives a place to write to.
            unsafe { write(id, number) };
            status::OK
        }
        Err(NoMetric::TooMany) => {
            services.has_run_out_of(Supply::Metrics);
            status::DENIED
        }
        Err(NoMetric::Bad) => status::ERR,
    }
}

unsafe extern "C" fn record(ctx: *const c_void, id: u64, value: u64) {
    // SAFETY: the plugin passes its context.
    if let Some(services) = unsafe { services(ctx) } {
        services.metrics.record(id, value);
    }
}
