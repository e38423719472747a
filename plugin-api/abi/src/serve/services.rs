//! The functions of the services that plugins call.

use core::ffi::c_void;
use core::task::Waker;
use core::time::Duration;
use std::path::Path;

use super::packet::{read_fields, read_values};
use super::{HostFuture, Refusal, guarded, write};
use crate::{
    API_VERSION, Capability, CookieTable, DataTable, FieldData, FieldValue, HostTable,
    IdentityTable, InjectTable, LogTable, MessageTable, MetricsTable, OwnedFuture, PacketField,
    PacketKind, PlayersTable, ProfileSink, RawFuture, Sink, Str, SwitchTable, TaskTable, TimeTable,
    TitleInput, TransferTable, answer, capabilities_in, failure, message, metric, receiver,
    service, size_of_table, sized, status, table,
};

/// The longest time that a plugin may sleep in one piece: 100 years, which timers can
/// still count.
const SLEEP_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a host does for a plugin that calls its services. Methods may be called on any
/// thread, and several at once. A panic becomes a failure of the call.
pub trait HostServices: Sync + Sized + 'static {
    /// The table of the log. Its context is `Self`. `None` if there is no log service.
    const LOG: Option<&'static LogTable>;

    /// The capabilities that the plugin may use as services, as bits.
    fn service_bits(&self) -> u64;

    /// A waker of the plugin, as the futures of the host keep it.
    fn waker(&self, waker: &Waker) -> Waker {
        waker.clone()
    }

    /// A future that is ready after this time.
    fn sleep(&self, time: Duration) -> HostFuture;

    /// Whether the plugin may spawn another task.
    fn may_spawn(&self) -> bool;

    /// Runs a task, and returns its number.
    fn spawn(&'static self, task: OwnedFuture) -> u64;

    /// Ends a task at its next wait. Does nothing for an unknown number.
    fn abort(&self, task: u64);

    /// The data folder of the plugin.
    ///
    /// # Errors
    ///
    /// When the plugin has none.
    fn folder(&self) -> Result<&Path, String>;

    /// The number of players on a server or on all servers. `None` if there is no such
    /// server.
    fn players(&self, server: Option<&str>) -> Option<u64>;

    /// The number of a metric, which is made if there is none of this name. The name is
    /// valid.
    ///
    /// # Errors
    ///
    /// When the plugin has too many, or one of this name and another kind.
    fn register(&self, name: &str, kind: MetricKind) -> Result<u64, NoMetric>;

    /// Adds to a counter, or sets a gauge. Does nothing for an unknown number.
    fn record(&self, metric: u64, value: u64);

    /// Gives the profile of a player.
    ///
    /// # Errors
    ///
    /// When the player is gone, or the plugin may not know the profile.
    fn profile(&self, player: u64, to: &ProfileReceiver<'_>) -> Result<(), Refusal>;

    /// Shows a text to a player, or ends the session with it.
    ///
    /// # Errors
    ///
    /// When the player does not get it.
    fn show(&self, player: u64, text: &PlayerText<'_>) -> Result<(), Refusal>;

    /// Has the client of a player connect elsewhere.
    ///
    /// # Errors
    ///
    /// When the client does not get the packet.
    fn transfer(&self, player: u64, host: &str, port: u16) -> Result<(), Refusal>;

    /// Stores bytes in the client of a player.
    ///
    /// # Errors
    ///
    /// When the client does not get the packet.
    fn store_cookie(&self, player: u64, key: &str, data: &[u8]) -> Result<(), Refusal>;

    /// Asks the client of a player for what it has under a key. The future has the bytes
    /// as its answer, or no answer if there are none.
    ///
    /// # Errors
    ///
    /// When the client does not get the question.
    fn request_cookie(&self, player: u64, key: &str) -> Result<HostFuture, Refusal>;

    /// Requests the switch of a player to another server.
    ///
    /// # Errors
    ///
    /// When the player is gone, or the plugin may not request the switch.
    fn switch(&self, player: u64, server: &str) -> Result<HostFuture, Refusal>;

    /// Sends a packet to a player or to the backend.
    ///
    /// # Errors
    ///
    /// When it is not sent.
    fn inject(&self, player: u64, to: Receiver, id: i32, fields: &[u8]) -> Result<(), Refusal>;

    /// Sends a packet of a kind, which decides who gets it.
    ///
    /// # Errors
    ///
    /// When it is not sent.
    fn inject_kind(
        &self,
        player: u64,
        kind: PacketKind,
        values: &[(PacketField, FieldData<'_>)],
    ) -> Result<(), Refusal>;
}

/// The kinds of metrics of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Why there is no metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMetric {
    /// The plugin has too many.
    TooMany,
    /// There is one of this name, of another kind.
    OtherKind,
}

/// A text for a player. Its parts are JSON components.
#[derive(Debug, Clone, Copy)]
pub enum PlayerText<'a> {
    /// A line in the chat window.
    Chat(&'a str),
    /// The line above the items.
    ActionBar(&'a str),
    /// A title.
    Title {
        /// The big text.
        title: &'a str,
        /// The text below.
        subtitle: &'a str,
        /// How long it fades in, stays and fades out, in ticks of 50 ms.
        ticks: [u32; 3],
    },
    /// The end of the session.
    Kick(&'a str),
}

/// The receiver of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The player's client.
    Client,
    /// The backend of the player.
    Backend,
}

/// Takes a profile for a plugin, during the call that it is passed to.
#[derive(Debug)]
pub struct ProfileReceiver<'a>(&'a ProfileSink);

impl ProfileReceiver<'_> {
    /// Gives a profile: each property has its name, its value, and a signature where there
    /// is one.
    pub fn give<'a>(
        &self,
        name: &str,
        uuid: [u8; 16],
        properties: impl Iterator<Item = (&'a str, &'a str, Option<&'a str>)>,
    ) {
        // SAFETY: only `profile` makes this type, with a sink that is valid during the
        // call.
        unsafe { self.0.give(name, uuid, properties) };
    }
}

/// The table through which a plugin reaches these services. It must live as long as the
/// process, because plugins keep its address.
pub const fn host_table<S: HostServices>(services: &'static S) -> HostTable {
    HostTable {
        size: size_of_table::<HostTable>(),
        api_major: API_VERSION.major,
        api_minor: API_VERSION.minor,
        ctx: core::ptr::from_ref(services).cast(),
        query: Some(query::<S>),
    }
}

/// The tables for services of one type.
struct Tables<S>(core::marker::PhantomData<S>);

impl<S: HostServices> Tables<S> {
    const TIME: &'static TimeTable = &table!(TimeTable { sleep: sleep::<S> });
    const TASK: &'static TaskTable = &table!(TaskTable {
        spawn: spawn::<S>,
        abort: abort::<S>
    });
    const DATA: &'static DataTable = &table!(DataTable {
        folder: folder::<S>
    });
    const PLAYERS: &'static PlayersTable = &table!(PlayersTable { count: count::<S> });
    const METRICS: &'static MetricsTable = &table!(MetricsTable {
        register: register::<S>,
        record: record::<S>
    });
    const IDENTITY: &'static IdentityTable = &table!(IdentityTable {
        profile: profile::<S>
    });
    const MESSAGE: &'static MessageTable = &table!(MessageTable {
        send: send_message::<S>,
        title: send_title::<S>
    });
    const TRANSFER: &'static TransferTable = &table!(TransferTable {
        transfer: transfer::<S>
    });
    const COOKIE: &'static CookieTable = &table!(CookieTable {
        store: store_cookie::<S>,
        request: request_cookie::<S>
    });
    const SWITCH: &'static SwitchTable = &table!(SwitchTable {
        switch: switch::<S>
    });
    const INJECT: &'static InjectTable = &table!(InjectTable {
        send: inject::<S>,
        send_kind: inject_kind::<S>
    });

    /// The table of the capability with this bit number; null where the plugin may not
    /// use the capability, and where it is not a service.
    fn of_capability(services: &S, number: u32) -> *const c_void {
        let mut listed = capabilities_in(services.service_bits());
        match listed.find(|capability| *capability as u32 == number) {
            Some(Capability::IdentityVerified) => address(Self::IDENTITY),
            Some(Capability::PlayerMessage) => address(Self::MESSAGE),
            Some(Capability::PlayerCookie) => address(Self::COOKIE),
            Some(Capability::ServerSwitch) => address(Self::SWITCH),
            Some(Capability::PlayerTransfer) => address(Self::TRANSFER),
            Some(Capability::PacketInject) => address(Self::INJECT),
            _ => core::ptr::null(),
        }
    }
}

fn address<T>(table: &'static T) -> *const c_void {
    core::ptr::from_ref(table).cast()
}

unsafe extern "C" fn query<S: HostServices>(
    ctx: *const c_void,
    service: u32,
    version: u32,
) -> *const c_void {
    match (service, version) {
        (service::LOG, 1) => S::LOG.map_or(core::ptr::null(), address),
        (service::TIME, 1) => address(Tables::<S>::TIME),
        (service::TASK, 1) => address(Tables::<S>::TASK),
        (service::DATA, 1) => address(Tables::<S>::DATA),
        (service::PLAYERS, 1) => address(Tables::<S>::PLAYERS),
        (service::METRICS, 1) => address(Tables::<S>::METRICS),
        (service::OF_CAPABILITY.., 1) => {
            // SAFETY: the plugin passes its context.
            let services = unsafe { ctx.cast::<S>().as_ref() };
            services.map_or(core::ptr::null(), |services| {
                let number = service - service::OF_CAPABILITY;
                guarded(core::ptr::null(), || {
                    Tables::<S>::of_capability(services, number)
                })
            })
        }
        _ => core::ptr::null(),
    }
}

/// Calls the services behind a context, and returns `otherwise` if there is no context, or
/// after a panic.
///
/// # Safety
///
/// The context must be null, or that of [`host_table`].
unsafe fn with<S: HostServices, T>(
    ctx: *const c_void,
    otherwise: T,
    call: impl FnOnce(&'static S) -> T,
) -> T {
    // SAFETY: the caller promises it, and the services live as long as the process.
    match unsafe { ctx.cast::<S>().as_ref() } {
        Some(services) => guarded(otherwise, || call(services)),
        None => otherwise,
    }
}

/// A call for a player, and its status. The sink gets the reason of a refusal.
///
/// # Safety
///
/// That of [`with`]. The sink must be null or valid during the call.
unsafe fn serve<S: HostServices>(
    ctx: *const c_void,
    sink: *const Sink,
    call: impl FnOnce(&'static S) -> Result<(), Refusal>,
) -> i32 {
    // SAFETY: the caller promises it.
    unsafe {
        with::<S, _>(ctx, status::ERR, |services| match call(services) {
            Ok(()) => status::OK,
            Err(refusal) => refusal.answer(sink),
        })
    }
}

/// A call that returns a future, and its status.
///
/// # Safety
///
/// That of [`serve`]. The place must be null or valid for a write.
unsafe fn serve_future<S: HostServices>(
    ctx: *const c_void,
    place: *mut RawFuture,
    sink: *const Sink,
    call: impl FnOnce(&'static S) -> Result<HostFuture, Refusal>,
) -> i32 {
    if place.is_null() {
        return status::ERR;
    }
    // SAFETY: the caller promises it.
    unsafe {
        with::<S, _>(ctx, status::ERR, |services| match call(services) {
            Ok(future) => future.give(services, place),
            Err(refusal) => refusal.answer(sink),
        })
    }
}

// The functions of the tables. In all of them the plugin passes its context, and its
// texts, bytes, sinks and places are null or valid during the call.

unsafe extern "C" fn sleep<S: HostServices>(
    ctx: *const c_void,
    millis: u64,
    future: *mut RawFuture,
) -> i32 {
    let time = Duration::from_millis(millis).min(SLEEP_MAX);
    let nowhere = core::ptr::null();
    // SAFETY: see above.
    unsafe { serve_future::<S>(ctx, future, nowhere, |services| Ok(services.sleep(time))) }
}

unsafe extern "C" fn spawn<S: HostServices>(
    ctx: *const c_void,
    future: RawFuture,
    id: *mut u64,
) -> i32 {
    // SAFETY: see above.
    let may_spawn = unsafe { with::<S, _>(ctx, None, |services| Some(services.may_spawn())) };
    match may_spawn {
        Some(true) => {}
        Some(false) => return status::DENIED,
        None => return status::ERR,
    }
    // SAFETY: the plugin gives the future away.
    let Some(future) = (unsafe { OwnedFuture::new(future) }) else {
        return status::ERR;
    };
    // SAFETY: see above. After a panic the future is gone, and the plugin must not drop
    // it again. A plugin that gives no place cannot abort the task; it runs all the same.
    unsafe {
        with::<S, _>(ctx, (), |services| {
            write(id, services.spawn(future));
        });
    }
    status::OK
}

unsafe extern "C" fn abort<S: HostServices>(ctx: *const c_void, id: u64) {
    // SAFETY: see above.
    unsafe { with::<S, _>(ctx, (), |services| services.abort(id)) };
}

unsafe extern "C" fn folder<S: HostServices>(ctx: *const c_void, sink: *const Sink) -> i32 {
    let made = |services: &'static S| {
        let folder = services.folder()?;
        std::fs::create_dir_all(folder).map_err(|error| {
            let folder = folder.display();
            format!("the data folder `{folder}` cannot be made: {error}")
        })?;
        Ok(folder)
    };
    let give = |services| match made(services) {
        // SAFETY: see above.
        Ok(folder) => unsafe { Sink::give(sink, answer::PASS, &folder.to_string_lossy()) },
        Err(reason) => {
            let reason: String = reason;
            // SAFETY: see above.
            unsafe { Sink::fail(sink, failure::ERROR, &reason, None) };
            status::ERR
        }
    };
    // SAFETY: see above.
    unsafe { with::<S, _>(ctx, status::ERR, give) }
}

unsafe extern "C" fn count<S: HostServices>(ctx: *const c_void, server: Str) -> i64 {
    // SAFETY: see above.
    let server = unsafe { server.text() };
    let server = (!server.is_empty()).then_some(server);
    // SAFETY: see above.
    let count = unsafe { with::<S, _>(ctx, None, |services| services.players(server)) };
    count
        .and_then(|count| i64::try_from(count).ok())
        .unwrap_or(-1)
}

unsafe extern "C" fn register<S: HostServices>(
    ctx: *const c_void,
    name: Str,
    kind: u32,
    id: *mut u64,
) -> i32 {
    // SAFETY: see above.
    let name = unsafe { name.text() };
    let kind = match kind {
        metric::COUNTER => MetricKind::Counter,
        metric::GAUGE => MetricKind::Gauge,
        _ => return status::ERR,
    };
    if !metric::is_name(name) || id.is_null() {
        return status::ERR;
    }
    let registered = |services: &'static S| match services.register(name, kind) {
        Ok(number) => {
            // SAFETY: see above.
            unsafe { write(id, number) };
            status::OK
        }
        Err(NoMetric::TooMany) => status::DENIED,
        Err(NoMetric::OtherKind) => status::ERR,
    };
    // SAFETY: see above.
    unsafe { with::<S, _>(ctx, status::ERR, registered) }
}

unsafe extern "C" fn record<S: HostServices>(ctx: *const c_void, id: u64, value: u64) {
    // SAFETY: see above.
    unsafe { with::<S, _>(ctx, (), |services| services.record(id, value)) };
}

unsafe extern "C" fn profile<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    sink: *const ProfileSink,
) -> i32 {
    // SAFETY: see above.
    let Some(sink) = (unsafe { sized(sink) }) else {
        return status::ERR;
    };
    if sink.player.is_none() || sink.property.is_none() {
        return status::ERR;
    }
    let give = |services: &'static S| services.profile(player, &ProfileReceiver(sink));
    // SAFETY: see above.
    unsafe { serve::<S>(ctx, core::ptr::null(), give) }
}

unsafe extern "C" fn send_message<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    text: Str,
    sink: *const Sink,
) -> i32 {
    // SAFETY: see above.
    let text = unsafe { text.text() };
    let text = match kind {
        message::CHAT => PlayerText::Chat(text),
        message::ACTION_BAR => PlayerText::ActionBar(text),
        message::KICK => PlayerText::Kick(text),
        _ => return status::UNSUPPORTED,
    };
    // SAFETY: see above.
    unsafe { serve::<S>(ctx, sink, |services| services.show(player, &text)) }
}

unsafe extern "C" fn send_title<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    title: *const TitleInput,
    sink: *const Sink,
) -> i32 {
    // SAFETY: see above.
    let Some(input) = (unsafe { sized(title) }) else {
        return status::ERR;
    };
    // SAFETY: the texts are valid as long as the input.
    let (title, subtitle) = unsafe { (input.title.text(), input.subtitle.text()) };
    let text = PlayerText::Title {
        title,
        subtitle,
        ticks: [input.fade_in, input.stay, input.fade_out],
    };
    // SAFETY: see above.
    unsafe { serve::<S>(ctx, sink, |services| services.show(player, &text)) }
}

unsafe extern "C" fn transfer<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    host: Str,
    port: u16,
    sink: *const Sink,
) -> i32 {
    // SAFETY: see above.
    let host = unsafe { host.text() };
    // SAFETY: see above.
    unsafe { serve::<S>(ctx, sink, |services| services.transfer(player, host, port)) }
}

unsafe extern "C" fn store_cookie<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    key: Str,
    data: Str,
    sink: *const Sink,
) -> i32 {
    // SAFETY: see above.
    let (key, data) = unsafe { (key.text(), data.bytes()) };
    // SAFETY: see above.
    unsafe {
        serve::<S>(ctx, sink, |services| {
            services.store_cookie(player, key, data)
        })
    }
}

unsafe extern "C" fn request_cookie<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    key: Str,
    future: *mut RawFuture,
    sink: *const Sink,
) -> i32 {
    // SAFETY: see above.
    let key = unsafe { key.text() };
    let ask = |services: &'static S| services.request_cookie(player, key);
    // SAFETY: see above.
    unsafe { serve_future::<S>(ctx, future, sink, ask) }
}

unsafe extern "C" fn switch<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    server: Str,
    future: *mut RawFuture,
) -> i32 {
    // SAFETY: see above.
    let server = unsafe { server.text() };
    let ask = |services: &'static S| services.switch(player, server);
    // SAFETY: see above.
    unsafe { serve_future::<S>(ctx, future, core::ptr::null(), ask) }
}

unsafe extern "C" fn inject<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    to: u32,
    id: i32,
    fields: *const u8,
    fields_bytes: usize,
    sink: *const Sink,
) -> i32 {
    let to = match to {
        receiver::CLIENT => Receiver::Client,
        receiver::BACKEND => Receiver::Backend,
        _ => return status::UNSUPPORTED,
    };
    // SAFETY: see above.
    let fields = unsafe { read_fields(fields, fields_bytes) };
    // SAFETY: see above.
    unsafe {
        serve::<S>(ctx, sink, |services| {
            services.inject(player, to, id, fields)
        })
    }
}

unsafe extern "C" fn inject_kind<S: HostServices>(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    values: *const FieldValue,
    len: usize,
    sink: *const Sink,
) -> i32 {
    let kind = u16::try_from(kind).ok().and_then(PacketKind::from_number);
    let Some(kind) = kind else {
        return status::UNSUPPORTED;
    };
    let send = |services: &'static S| {
        // SAFETY: see above.
        let values = unsafe { read_values(values, len) }.map_err(Refusal::Because)?;
        services.inject_kind(player, kind, &values)
    };
    // SAFETY: see above.
    unsafe { serve::<S>(ctx, sink, send) }
}
