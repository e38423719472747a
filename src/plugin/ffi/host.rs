//! What plugins may call: the tables of the host.

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use infrarust_plugin_abi::{
    API_VERSION, Capability, CookieTable, DataTable, FieldValue, FutureTable, HostTable,
    IdentityTable, InjectTable, LogCallsite, LogField, LogTable, MessageTable, MetricsTable,
    OwnedFuture, PacketKind, PlayersTable, ProfileSink, RawFuture, RawWaker, Sink, Str,
    SwitchTable, TaskTable, TimeTable, TitleInput, TransferTable, answer, capabilities_in, failure,
    field, import_waker, interest, level, message, receiver, service, size_of_table, sized, status,
    table,
};
use tracing::Level;

use super::border::{FAILURE_BYTES_MAX, guarded, text, write};
use super::call::TaskCall;
use super::packet::read_values;
use crate::plugin::players::{CookieReceiver, NotServed, NotSwitched, Switching};
use crate::plugin::send::{FIELDS_BYTES_MAX, NotSent, Shown};
use crate::plugin::services::{NoMetric, Services, Supply};
use crate::plugin::watch::PluginId;
use crate::plugin::{TARGET_PREFIX, log};
use crate::protocol::packet::Direction;
use crate::show::Line;

/// The most bytes of the names and values of one event of the log.
const LOG_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The target of events with which the SDK reports a panic where no call could
/// return it: in the drop of a future or of the instance.
const PANIC_TARGET: &str = "infrarust_plugin_api::panic";
/// The place of such events, whatever the filter of the log says.
const PANIC_SITE: u64 = u64::MAX;
/// The longest time that a plugin may sleep in one piece: 100 years, which the
/// timer can still count.
const SLEEP_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

static LOG: LogTable = table!(LogTable {
    callsite: log_callsite,
    enabled: log_enabled,
    event: log_event
});
static TIME: TimeTable = table!(TimeTable { sleep: sleep });
static TASK: TaskTable = table!(TaskTable {
    spawn: spawn,
    abort: abort
});
static DATA: DataTable = table!(DataTable { folder: folder });
static PLAYERS: PlayersTable = table!(PlayersTable { count: count });
static METRICS: MetricsTable = table!(MetricsTable {
    register: register,
    record: record
});
static SLEEP: FutureTable = table!(FutureTable {
    poll: poll_sleep,
    drop: drop_waiting::<Sleeping>
});

static IDENTITY: IdentityTable = table!(IdentityTable { profile: profile });
static MESSAGE: MessageTable = table!(MessageTable {
    send: send_message,
    title: send_title
});
static TRANSFER: TransferTable = table!(TransferTable { transfer: transfer });
static COOKIE: CookieTable = table!(CookieTable {
    store: store_cookie,
    request: request_cookie
});
static ASKED_COOKIE: FutureTable = table!(FutureTable {
    poll: poll_cookie,
    drop: drop_waiting::<CookieReceiver>
});
static SWITCH: SwitchTable = table!(SwitchTable { switch: switch });
static SWITCHING: FutureTable = table!(FutureTable {
    poll: poll_switching,
    drop: drop_waiting::<Switching>
});
static INJECT: InjectTable = table!(InjectTable {
    send: inject,
    send_kind: inject_kind
});

unsafe extern "C" fn query(ctx: *const c_void, service: u32, version: u32) -> *const c_void {
    match (service, version) {
        (service::LOG, 1) => (&raw const LOG).cast(),
        (service::TIME, 1) => (&raw const TIME).cast(),
        (service::TASK, 1) => (&raw const TASK).cast(),
        (service::DATA, 1) => (&raw const DATA).cast(),
        (service::PLAYERS, 1) => (&raw const PLAYERS).cast(),
        (service::METRICS, 1) => (&raw const METRICS).cast(),
        (service::OF_CAPABILITY.., 1) => {
            // SAFETY: the plugin passes its context.
            unsafe { services(ctx) }.map_or(std::ptr::null(), |services| {
                service_of(services, service - service::OF_CAPABILITY)
            })
        }
        _ => std::ptr::null(),
    }
}

/// The table of the capability with this bit; null where the plugin does not list
/// the capability, and where it is not a service.
fn service_of(services: &Services, bit: u32) -> *const c_void {
    let declared = capabilities_in(services.declared);
    match { declared }.find(|capability| *capability as u32 == bit) {
        Some(Capability::IdentityVerified) => (&raw const IDENTITY).cast(),
        Some(Capability::PlayerMessage) => (&raw const MESSAGE).cast(),
        Some(Capability::PlayerCookie) => (&raw const COOKIE).cast(),
        Some(Capability::ServerSwitch) => (&raw const SWITCH).cast(),
        Some(Capability::PlayerTransfer) => (&raw const TRANSFER).cast(),
        Some(Capability::PacketInject) => (&raw const INJECT).cast(),
        _ => std::ptr::null(),
    }
}

/// The table through which a plugin reaches these services. It lives as long as they do.
pub(in crate::plugin) fn table(services: &'static Services) -> &'static HostTable {
    Box::leak(Box::new(HostTable {
        size: size_of_table::<HostTable>(),
        api_major: API_VERSION.major,
        api_minor: API_VERSION.minor,
        ctx: std::ptr::from_ref(services).cast(),
        query: Some(query),
    }))
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

unsafe extern "C" fn log_callsite(
    ctx: *const c_void,
    callsite: *const LogCallsite,
    id: *mut u64,
    given: *mut u32,
) -> i32 {
    // SAFETY: the plugin passes its context and good pointers.
    let (Some(services), Some(site)) = (unsafe { (services(ctx), sized(callsite)) }) else {
        return status::ERR;
    };
    if id.is_null() || given.is_null() {
        return status::ERR;
    }
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
    // SAFETY: this number of names and all texts are valid during the call.
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
    let target = format!("{}{}::{target}", TARGET_PREFIX, services.health.plugin);
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
        // SAFETY: this number of values and their texts are valid during the call.
        let said = unsafe {
            fields
                .as_ref()
                .map(|field| text(field.text, FAILURE_BYTES_MAX))
        };
        guarded((), || {
            services.dropped_with_a_panic(&Line(&said.unwrap_or_default()).to_string())
        });
        return status::OK;
    }
    if !guarded(false, || log::is_enabled(id) && services.may_log()) {
        return status::OK;
    }
    let mut values = Vec::with_capacity(len);
    for at in 0..len {
        // SAFETY: this number of values is valid during the call.
        let value = unsafe { &*fields.add(at) };
        // SAFETY: the text is valid during the call.
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

/// The sleep of a plugin.
type Sleeping = Pin<Box<tokio::time::Sleep>>;

/// A future of the host that a plugin waits for.
struct Waiting<F> {
    future: F,
    plugin_id: PluginId,
}

impl<F: Future + Unpin> Waiting<F> {
    fn new(future: F, services: &Services) -> Self {
        Self {
            future,
            plugin_id: services.plugin_id,
        }
    }

    /// Gives the future to a plugin, and returns the status of the call.
    ///
    /// # Safety
    ///
    /// `place` must be valid for a write, and `table` must have functions for this type.
    unsafe fn give(self, place: *mut RawFuture, table: &'static FutureTable) -> i32 {
        let data = Box::into_raw(Box::new(self)).cast();
        // SAFETY: the caller promises it.
        unsafe { *place = RawFuture { data, table } };
        status::OK
    }

    /// Polls the future with the waker of the plugin, and returns the status of the
    /// call: that of `answer` where the future is ready.
    ///
    /// # Safety
    ///
    /// `data` must come from [`give`](Self::give) of this type, with one call at a time,
    /// and the waker must be valid during the call.
    unsafe fn poll(
        data: *mut c_void,
        waker: *const RawWaker,
        answer: impl FnOnce(F::Output) -> i32,
    ) -> i32 {
        guarded(status::ERR, || {
            // SAFETY: the caller promises it.
            let waiting = unsafe { &mut *data.cast::<Self>() };
            // SAFETY: the caller promises it.
            let Some(waker) = (unsafe { plugin_waker(waker, waiting.plugin_id) }) else {
                return status::ERR;
            };
            match Pin::new(&mut waiting.future).poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => status::PENDING,
                Poll::Ready(output) => answer(output),
            }
        })
    }
}

unsafe extern "C" fn drop_waiting<F>(data: *mut c_void) {
    // SAFETY: made by `Waiting::give`, and dropped once.
    let waiting = unsafe { Box::from_raw(data.cast::<Waiting<F>>()) };
    guarded((), || drop(waiting));
}

/// A waker that a plugin has passed. To call or to free it is to call the
/// plugin, on the worker that looks after the timers.
struct PluginWaker {
    /// `None` only while it is dropped.
    waker: Option<Waker>,
    plugin_id: PluginId,
}

impl Wake for PluginWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _mark = self.plugin_id.task();
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Drop for PluginWaker {
    fn drop(&mut self) {
        let _mark = self.plugin_id.task();
        self.waker = None;
    }
}

/// A waker of ours that wakes the one of a plugin.
///
/// # Safety
///
/// The waker must be null or good for the call.
unsafe fn plugin_waker(waker: *const RawWaker, plugin_id: PluginId) -> Option<Waker> {
    // SAFETY: the caller promises it.
    let waker = unsafe { waker.as_ref() }.filter(|waker| !waker.table.is_null())?;
    // SAFETY: dropped before this call returns.
    let waker = unsafe { import_waker(waker) };
    Some(Waker::from(Arc::new(PluginWaker {
        waker: Some((*waker).clone()),
        plugin_id,
    })))
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
        Some(Box::pin(tokio::time::sleep(time)))
    });
    let Some(sleeping) = sleeping else {
        return status::ERR;
    };
    // SAFETY: the plugin gives a place to write to, and the table polls a sleep.
    unsafe { Waiting::new(sleeping, services).give(future, &SLEEP) }
}

unsafe extern "C" fn poll_sleep(data: *mut c_void, waker: *const RawWaker, _: *const Sink) -> i32 {
    // SAFETY: made by `sleep`, one call at a time, and the plugin lends its waker.
    unsafe { Waiting::<Sleeping>::poll(data, waker, |()| status::OK) }
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
        plugin_id: services.plugin_id,
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
    // SAFETY: the plugin's sink is valid during the call.
    unsafe {
        match made {
            Ok(()) => Sink::give(sink, answer::PASS, &services.folder.to_string_lossy()),
            Err(error) => {
                let folder = services.folder.display();
                let why = format!("the data folder `{folder}` cannot be made: {error}");
                Sink::fail(sink, failure::ERROR, &why, None);
                status::ERR
            }
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

/// The status that a plugin gets where a service cannot act for a player.
const fn refused(why: NotServed) -> i32 {
    match why {
        NotServed::Gone => status::GONE,
        NotServed::NotGranted => status::DENIED,
    }
}

unsafe extern "C" fn profile(ctx: *const c_void, player: u64, sink: *const ProfileSink) -> i32 {
    // SAFETY: the plugin passes its context, and a sink that is valid during the call.
    let (Some(services), Some(sink)) = (unsafe { (services(ctx), sized(sink)) }) else {
        return status::ERR;
    };
    let found = guarded(Err(NotServed::Gone), || {
        services.player(player, Capability::IdentityVerified)
    });
    let player = match found {
        Ok(player) => player,
        Err(why) => return refused(why),
    };
    let profile = &player.profile;
    let properties = profile.properties.iter().map(|property| {
        let signature = property.signature.as_deref();
        (property.name.as_str(), property.value.as_str(), signature)
    });
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { sink.give(&profile.name, profile.uuid, properties) }
}

unsafe extern "C" fn send_message(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    text: Str,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), text) = (unsafe { (services(ctx), text.text()) }) else {
        return status::ERR;
    };
    let sent = guarded(None, || {
        Some(match kind {
            message::CHAT => services.show(player, &Shown::Chat(text)),
            message::ACTION_BAR => services.show(player, &Shown::ActionBar(text)),
            message::KICK => services.kick(player, text),
            _ => return None,
        })
    });
    match sent {
        None => status::UNSUPPORTED,
        // SAFETY: the plugin's sink is valid during the call.
        sent => unsafe { answer_sent(sent, sink) },
    }
}

unsafe extern "C" fn send_title(
    ctx: *const c_void,
    player: u64,
    title: *const TitleInput,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context, and a title that is valid during the call.
    let (Some(services), Some(input)) = (unsafe { (services(ctx), sized(title)) }) else {
        return status::ERR;
    };
    // SAFETY: its texts are valid during the call.
    let (title, subtitle) = unsafe { (input.title.text(), input.subtitle.text()) };
    let shown = Shown::Title {
        title,
        subtitle,
        ticks: [input.fade_in, input.stay, input.fade_out],
    };
    let sent = guarded(None, || Some(services.show(player, &shown)));
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { answer_sent(sent, sink) }
}

unsafe extern "C" fn transfer(
    ctx: *const c_void,
    player: u64,
    host: Str,
    port: u16,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), host) = (unsafe { (services(ctx), host.text()) }) else {
        return status::ERR;
    };
    let sent = guarded(None, || Some(services.transfer(player, host, port)));
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { answer_sent(sent, sink) }
}

unsafe extern "C" fn store_cookie(
    ctx: *const c_void,
    player: u64,
    key: Str,
    data: Str,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context, a good text and good bytes.
    let (Some(services), key, data) = (unsafe { (services(ctx), key.text(), data.bytes()) }) else {
        return status::ERR;
    };
    let sent = guarded(None, || Some(services.store_cookie(player, key, data)));
    // SAFETY: the plugin's sink is good for the call.
    unsafe { answer_sent(sent, sink) }
}

unsafe extern "C" fn request_cookie(
    ctx: *const c_void,
    player: u64,
    key: Str,
    future: *mut RawFuture,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), key) = (unsafe { (services(ctx), key.text()) }) else {
        return status::ERR;
    };
    if future.is_null() {
        return status::ERR;
    }
    let asked = guarded(None, || Some(services.request_cookie(player, key)));
    let receiver = match asked {
        Some(Ok(receiver)) => receiver,
        Some(Err(why)) => {
            // SAFETY: the plugin's sink is good for the call.
            return unsafe { answer_sent(Some(Err(why)), sink) };
        }
        None => return status::ERR,
    };
    // SAFETY: the plugin gives a place to write to, and the table polls a cookie.
    unsafe { Waiting::new(receiver, services).give(future, &ASKED_COOKIE) }
}

unsafe extern "C" fn poll_cookie(
    data: *mut c_void,
    waker: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    let give = |asked: <CookieReceiver as Future>::Output| {
        let Ok(cookie) = asked else {
            return status::GONE;
        };
        let Some(cookie) = cookie else {
            return status::OK;
        };
        // SAFETY: the plugin's sink is valid during the call, and its table as well.
        let found = unsafe {
            sink.as_ref()
                .and_then(|sink| Some((sink.ctx, sink.table.as_ref()?.answer?)))
        };
        let Some((ctx, give)) = found else {
            return status::UNSUPPORTED;
        };
        let data = Str {
            ptr: cookie.as_ptr(),
            len: cookie.len(),
        };
        // SAFETY: the context belongs to the table, the bytes are valid during the call.
        unsafe { give(ctx, answer::REPLACE, data) }
    };
    // SAFETY: made by `request_cookie`, one call at a time, and the plugin lends its waker.
    unsafe { Waiting::<CookieReceiver>::poll(data, waker, give) }
}

unsafe extern "C" fn switch(
    ctx: *const c_void,
    player: u64,
    server: Str,
    future: *mut RawFuture,
) -> i32 {
    // SAFETY: the plugin passes its context and a good text.
    let (Some(services), server) = (unsafe { (services(ctx), server.text()) }) else {
        return status::ERR;
    };
    if future.is_null() {
        return status::ERR;
    }
    let switching = guarded(Err(NotServed::Gone), || services.switch(player, server));
    let switching = match switching {
        Ok(switching) => switching,
        Err(why) => return refused(why),
    };
    // SAFETY: the plugin gives a place to write to, and the table polls a switch.
    unsafe { Waiting::new(switching, services).give(future, &SWITCHING) }
}

unsafe extern "C" fn poll_switching(
    data: *mut c_void,
    waker: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    let answer = |outcome| match outcome {
        Ok(()) => status::OK,
        Err(NotSwitched::Gone) => status::GONE,
        Err(NotSwitched::Stays(reason)) => {
            // SAFETY: the plugin's sink is valid during the call.
            unsafe { Sink::fail(sink, failure::ERROR, &reason, None) };
            status::ERR
        }
    };
    // SAFETY: made by `switch`, one call at a time, and the plugin lends its waker.
    unsafe { Waiting::<Switching>::poll(data, waker, answer) }
}

unsafe extern "C" fn inject(
    ctx: *const c_void,
    player: u64,
    to: u32,
    id: i32,
    fields: *const u8,
    fields_bytes: usize,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    let direction = match to {
        receiver::CLIENT => Direction::Clientbound,
        receiver::BACKEND => Direction::Serverbound,
        _ => return status::UNSUPPORTED,
    };
    let bytes = fields_bytes.min(FIELDS_BYTES_MAX + 1);
    let fields = match fields.is_null() {
        true => &[],
        // SAFETY: at least this number of bytes is valid during the call.
        false => unsafe { std::slice::from_raw_parts(fields, bytes) },
    };
    let sent = guarded(None, || {
        Some(services.inject(player, direction, id, fields))
    });
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { answer_sent(sent, sink) }
}

unsafe extern "C" fn inject_kind(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    values: *const FieldValue,
    len: usize,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    let kind = u16::try_from(kind).ok().and_then(PacketKind::from_number);
    let Some(kind) = kind else {
        return status::UNSUPPORTED;
    };
    let sent = guarded(None, || {
        // SAFETY: the values are valid during the call.
        let values = unsafe { read_values(values, len) };
        Some(match values {
            Ok(values) => services.inject_kind(player, kind, &values),
            Err(reason) => Err(NotSent::Refused(reason)),
        })
    });
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { answer_sent(sent, sink) }
}

/// The status of something that was sent or not; where it cannot be sent, the sink
/// gets the reason.
///
/// # Safety
///
/// The sink must be null or valid during the call.
unsafe fn answer_sent(sent: Option<Result<(), NotSent>>, sink: *const Sink) -> i32 {
    match sent {
        Some(Ok(())) => status::OK,
        Some(Err(NotSent::NotServed(why))) => refused(why),
        Some(Err(NotSent::Full(_))) => status::FULL,
        Some(Err(NotSent::Refused(reason))) => {
            // SAFETY: the caller promises it.
            unsafe { Sink::fail(sink, failure::ERROR, &reason, None) };
            status::ERR
        }
        None => status::ERR,
    }
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
