//! The C functions, called with a host that does what each test wants.

use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::task::Waker;
use core::time::Duration;
use std::path::Path;

use super::*;
use crate::{
    Capability, CookieTable, DataTable, FieldData, FutureTable, HostTable, IdentityTable,
    InjectTable, LogTable, MessageTable, MetricsTable, OwnedFuture, PacketField, PacketKind,
    PlayersTable, RawFuture, SinkTable, Str, SwitchTable, TaskTable, TimeTable, export_waker,
    message, metric, receiver, service, table,
};

/// Panics in each method, or refuses, as the player's number says.
struct Fake {
    panics: bool,
}

const GONE: u64 = 1;
const NOT_GRANTED: u64 = 2;
const FULL: u64 = 3;
const IMPOSSIBLE: u64 = 4;

impl Fake {
    fn serve(&self, player: u64) -> Result<(), Refusal> {
        assert!(!self.panics, "the host is broken");
        match player {
            GONE => Err(Refusal::Gone),
            NOT_GRANTED => Err(Refusal::NotGranted),
            FULL => Err(Refusal::Full),
            IMPOSSIBLE => Err(Refusal::Because("impossible".to_owned())),
            _ => Ok(()),
        }
    }
}

impl HostServices for Fake {
    const LOG: Option<&'static LogTable> = None;

    fn service_bits(&self) -> u64 {
        !Capability::PlayerTransfer.bit()
    }

    fn sleep(&self, time: Duration) -> HostFuture {
        assert!(!self.panics && time <= Duration::from_secs(4_000_000_000));
        HostFuture::new(core::future::ready(Ok(None)))
    }

    fn may_spawn(&self) -> bool {
        self.serve(0).is_ok()
    }

    fn spawn(&'static self, _: OwnedFuture) -> u64 {
        7
    }

    fn abort(&self, _: u64) {
        let _ = self.serve(0);
    }

    fn folder(&self) -> Result<&Path, String> {
        assert!(!self.panics);
        Err("none".to_owned())
    }

    fn players(&self, server: Option<&str>) -> Option<u64> {
        assert!(!self.panics);
        server.is_none().then_some(5)
    }

    fn register(&self, name: &str, _: MetricKind) -> Result<u64, NoMetric> {
        assert!(!self.panics);
        match name {
            "many" => Err(NoMetric::TooMany),
            "other" => Err(NoMetric::OtherKind),
            _ => Ok(3),
        }
    }

    fn record(&self, _: u64, _: u64) {
        assert!(!self.panics);
    }

    fn profile(&self, player: u64, _: &ProfileReceiver<'_>) -> Result<(), Refusal> {
        self.serve(player)
    }

    fn show(&self, player: u64, _: &PlayerText<'_>) -> Result<(), Refusal> {
        self.serve(player)
    }

    fn transfer(&self, player: u64, _: &str, _: u16) -> Result<(), Refusal> {
        self.serve(player)
    }

    fn store_cookie(&self, player: u64, _: &str, _: &[u8]) -> Result<(), Refusal> {
        self.serve(player)
    }

    fn request_cookie(&self, player: u64, _: &str) -> Result<HostFuture, Refusal> {
        self.serve(player)?;
        let cookie = vec![0xff, 0];
        Ok(HostFuture::new(core::future::ready(Ok(Some(cookie)))))
    }

    fn switch(&self, player: u64, _: &str) -> Result<HostFuture, Refusal> {
        self.serve(player)?;
        Ok(HostFuture::new(async { panic!("while it is polled") }))
    }

    fn inject(&self, player: u64, _: Receiver, _: i32, fields: &[u8]) -> Result<(), Refusal> {
        assert!(fields.len() <= FIELDS_BYTES_MAX + 1);
        self.serve(player)
    }

    fn inject_kind(
        &self,
        player: u64,
        _: PacketKind,
        _: &[(PacketField, FieldData<'_>)],
    ) -> Result<(), Refusal> {
        self.serve(player)
    }
}

static SOUND: Fake = Fake { panics: false };
static BROKEN: Fake = Fake { panics: true };

/// The table of a service, as a plugin gets it.
fn find<T>(host: &HostTable, number: u32) -> &'static T {
    // SAFETY: the context belongs to the table.
    let found = unsafe { host.query.unwrap()(host.ctx, number, 1) };
    // SAFETY: null, or the table of the service, which the caller names.
    unsafe { found.cast::<T>().as_ref() }.unwrap()
}

fn of_capability<T>(host: &HostTable, capability: Capability) -> &'static T {
    find(host, service::OF_CAPABILITY + capability as u32)
}

/// What a sink has got: the bytes of an answer or the text of a failure.
type Got = Option<Vec<u8>>;

static SINK: SinkTable = table!(SinkTable {
    answer: take_answer,
    fail: take_failure
});

unsafe extern "C" fn take_answer(ctx: *mut c_void, _: u32, text: Str) -> i32 {
    // SAFETY: the context is a `Got`, the bytes are valid during the call.
    unsafe { *ctx.cast::<Got>() = Some(text.bytes().to_vec()) };
    status::OK
}

unsafe extern "C" fn take_failure(ctx: *mut c_void, _: u32, text: Str, _: u64, _: u64) -> i32 {
    // SAFETY: as above.
    unsafe { *ctx.cast::<Got>() = Some(text.bytes().to_vec()) };
    status::OK
}

fn with_sink(call: impl FnOnce(*const Sink) -> i32) -> (i32, Got) {
    let mut got = None;
    let sink = Sink {
        ctx: (&raw mut got).cast(),
        table: &raw const SINK,
    };
    let status = call(&raw const sink);
    (status, got)
}

/// Statuses of all calls that take a context, with this context.
fn statuses(host: &HostTable, ctx: *const c_void) -> Vec<i32> {
    let capability = |capability| service::OF_CAPABILITY + capability as u32;
    let time: &TimeTable = find(host, service::TIME);
    let task: &TaskTable = find(host, service::TASK);
    let data: &DataTable = find(host, service::DATA);
    let players: &PlayersTable = find(host, service::PLAYERS);
    let metrics: &MetricsTable = find(host, service::METRICS);
    let messages: &MessageTable = find(host, capability(Capability::PlayerMessage));
    let cookies: &CookieTable = find(host, capability(Capability::PlayerCookie));
    let switch: &SwitchTable = find(host, capability(Capability::ServerSwitch));
    let inject: &InjectTable = find(host, capability(Capability::PacketInject));
    let (text, sink) = (Str::new("text"), null());
    let (mut future, mut id) = (RawFuture::NONE, 0);
    let kind = PacketKind::ChatMessage.number().into();
    // SAFETY: the tables are those of the services; each pointer is null or valid.
    unsafe {
        metrics.record.unwrap()(ctx, 0, 0);
        task.abort.unwrap()(ctx, 0);
        let count = i32::try_from(players.count.unwrap()(ctx, Str::EMPTY)).unwrap();
        vec![
            time.sleep.unwrap()(ctx, 0, &raw mut future),
            task.spawn.unwrap()(ctx, RawFuture::NONE, &raw mut id),
            data.folder.unwrap()(ctx, sink),
            count,
            metrics.register.unwrap()(ctx, text, metric::GAUGE, &raw mut id),
            messages.send.unwrap()(ctx, 0, message::CHAT, text, sink),
            cookies.store.unwrap()(ctx, 0, text, text, sink),
            cookies.request.unwrap()(ctx, 0, text, &raw mut future, sink),
            switch.switch.unwrap()(ctx, 0, text, &raw mut future),
            inject.send.unwrap()(ctx, 0, receiver::CLIENT, 0, null(), usize::MAX, sink),
            inject.send_kind.unwrap()(ctx, 0, kind, null(), 0, sink),
        ]
    }
}

/// Without a context, and in a host that panics, each call fails.
#[test]
fn a_call_without_a_host_and_one_that_panics_fail() {
    let host = host_table(&BROKEN);
    assert_eq!(statuses(&host, null()), [-1; 11]);
    assert_eq!(statuses(&host, host.ctx), [-1; 11]);
}

/// A service is there if the plugin may use it, in version 1, and only where there is
/// one.
#[test]
fn services_are_found_by_number() {
    let host = host_table(&SOUND);
    let is_there = |ctx, number, version| {
        // SAFETY: null, or the context of the table.
        let found = unsafe { host.query.unwrap()(ctx, number, version) };
        !found.is_null()
    };
    let transfer = service::OF_CAPABILITY + Capability::PlayerTransfer as u32;
    let inject = service::OF_CAPABILITY + Capability::PacketInject as u32;
    let hook = service::OF_CAPABILITY + Capability::LoginDecide as u32;
    assert!(is_there(host.ctx, service::TIME, 1));
    assert!(is_there(host.ctx, inject, 1));
    for (ctx, number, version) in [
        (host.ctx, service::TIME, 2),
        (host.ctx, service::LOG, 1),
        (host.ctx, transfer, 1),
        (host.ctx, hook, 1),
        (host.ctx, u32::MAX, 1),
        (null(), inject, 1),
    ] {
        assert!(!is_there(ctx, number, version), "{number} {version}");
    }
    let identity: &IdentityTable = of_capability(&host, Capability::IdentityVerified);
    // SAFETY: the context belongs to the table.
    let status = unsafe { identity.profile.unwrap()(host.ctx, 0, null()) };
    assert_eq!(status, status::ERR);
}

/// A refusal becomes a status, and a text where it has a reason.
#[test]
fn refusals_cross() {
    let host = host_table(&SOUND);
    let messages: &MessageTable = of_capability(&host, Capability::PlayerMessage);
    let cookies: &CookieTable = of_capability(&host, Capability::PlayerCookie);
    let mut future = RawFuture::NONE;
    for (player, status) in [
        (0, status::OK),
        (GONE, status::GONE),
        (NOT_GRANTED, status::DENIED),
        (FULL, status::FULL),
        (IMPOSSIBLE, status::ERR),
    ] {
        let said = (player == IMPOSSIBLE).then(|| b"impossible".to_vec());
        let (text, send) = (Str::new("{}"), messages.send.unwrap());
        // SAFETY: the context belongs to the table, the rest is valid during the call.
        let sent = with_sink(|sink| unsafe { send(host.ctx, player, message::KICK, text, sink) });
        assert_eq!(sent, (status, said.clone()));
        let request = cookies.request.unwrap();
        // SAFETY: as above.
        let asked =
            with_sink(|sink| unsafe { request(host.ctx, player, text, &raw mut future, sink) });
        assert_eq!(asked, (status, said));
    }
    // SAFETY: `OK` came with a future.
    drop(unsafe { OwnedFuture::new(future) });
    // SAFETY: as above.
    let unknown = unsafe { messages.send.unwrap()(host.ctx, 0, 99, Str::EMPTY, null()) };
    assert_eq!(unknown, status::UNSUPPORTED);
}

/// A metric needs a place for its number, a good name and a known kind.
#[test]
fn metrics_are_checked() {
    let host = host_table(&SOUND);
    let metrics: &MetricsTable = find(&host, service::METRICS);
    let register = |name: &str, kind, id: *mut u64| {
        // SAFETY: the context belongs to the table, the rest is null or valid.
        unsafe { metrics.register.unwrap()(host.ctx, Str::new(name), kind, id) }
    };
    let mut id = 0;
    assert_eq!(register("joins", metric::COUNTER, &raw mut id), status::OK);
    assert_eq!(id, 3);
    assert_eq!(register("joins", metric::COUNTER, null_mut()), status::ERR);
    for name in ["", "Joins", "a-b", &"x".repeat(metric::NAME_BYTES_MAX + 1)] {
        assert_eq!(register(name, metric::COUNTER, &raw mut id), status::ERR);
    }
    assert_eq!(register("joins", 99, &raw mut id), status::ERR);
    assert_eq!(register("other", metric::GAUGE, &raw mut id), status::ERR);
    assert_eq!(register("many", metric::GAUGE, &raw mut id), status::DENIED);
}

/// A future gives its answer in bytes, needs a waker, and keeps its panic.
#[test]
fn futures_answer() {
    let host = host_table(&SOUND);
    let cookies: &CookieTable = of_capability(&host, Capability::PlayerCookie);
    let switch: &SwitchTable = of_capability(&host, Capability::ServerSwitch);
    let (mut cookie, mut switching) = (RawFuture::NONE, RawFuture::NONE);
    // SAFETY: the context belongs to the tables, the rest is null or valid.
    unsafe {
        let request = cookies.request.unwrap();
        let key = Str::new("key");
        assert_eq!(request(host.ctx, 0, key, null_mut(), null()), status::ERR);
        assert_eq!(
            request(host.ctx, 0, key, &raw mut cookie, null()),
            status::OK
        );
        let switch = switch.switch.unwrap();
        assert_eq!(switch(host.ctx, 0, key, null_mut()), status::ERR);
        assert_eq!(switch(host.ctx, 0, key, &raw mut switching), status::OK);
    }
    let waker = export_waker(Waker::noop());
    let poll = |future: &RawFuture, waker| {
        // SAFETY: the future has not been dropped.
        with_sink(|sink| unsafe {
            let table: &FutureTable = &*future.table;
            table.poll.unwrap()(future.data, waker, sink)
        })
    };
    assert_eq!(poll(&cookie, null()), (status::ERR, None));
    assert_eq!(
        poll(&cookie, &raw const waker),
        (status::OK, Some(vec![0xff, 0]))
    );
    assert_eq!(poll(&switching, &raw const waker), (status::ERR, None));
    for future in [cookie, switching] {
        // SAFETY: the call has given it, and it is dropped once.
        drop(unsafe { OwnedFuture::new(future) });
    }
}
