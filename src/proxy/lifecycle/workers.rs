//! Detects blocked workers, and reports what they do.
//!
//! Each worker has a slot. With a few relaxed stores it records there whether it waits for
//! work, which connection it runs, and the phase of that connection. The main thread checks
//! all slots twice a second: a worker that has neither waited nor run another connection
//! since is blocked, by a plugin or by a bug of the proxy.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::warn;

use crate::plugin::slot::{Slot as CallSlot, slot as call_slot};
use crate::plugin::watch as calls;

/// How often the slots are checked. A worker that two checks find in the same step is
/// blocked, and within a second another one has to serve the sockets.
const LOOK_PERIOD: Duration = Duration::from_millis(400);
/// A worker that is blocked for this time is reported. A single step of a connection takes
/// microseconds.
const HELD_MAX: Duration = Duration::from_secs(2);

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its first packets are read.
    Opening,
    /// Its server is found, and `connection.decide` is called.
    Routing,
    /// Its status ping is answered.
    Status,
    /// It logs in; `login.decide`, `route.select` and `handshake.rewrite` are called.
    Login,
    /// A backend is connected to.
    Joining,
    /// Its end is reported.
    Finish,
}

impl Phase {
    const ALL: [Self; 6] = [
        Phase::Opening,
        Phase::Routing,
        Phase::Status,
        Phase::Login,
        Phase::Joining,
        Phase::Finish,
    ];

    /// The name in the log.
    const fn name(self) -> &'static str {
        match self {
            Phase::Opening => "opening",
            Phase::Routing => "routing",
            Phase::Status => "status",
            Phase::Login => "login",
            Phase::Joining => "joining",
            Phase::Finish => "finish",
        }
    }
}

/// The current work of one thread. Only that thread writes it.
#[derive(Debug)]
struct Slot {
    /// Odd while a connection runs; changes with each connection.
    turn: AtomicU64,
    /// Odd while it does not wait for work; changes with each wait.
    wakes: AtomicU64,
    /// The client's address as one of IPv6, in two halves.
    ip: [AtomicU64; 2],
    port: AtomicU64,
    phase: AtomicU64,
    /// The slot in which the thread records calls of plugins.
    calls: Mutex<Option<&'static CallSlot>>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            turn: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            ip: [const { AtomicU64::new(0) }; 2],
            port: AtomicU64::new(0),
            phase: AtomicU64::new(0),
            calls: Mutex::new(None),
        }
    }

    fn begin(&self, client: SocketAddr, phase: Phase) {
        let ip = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip.octets();
        let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let low = u64::from_be_bytes([i, j, k, l, m, n, o, p]);
        self.ip[0].store(high, Ordering::Relaxed);
        self.ip[1].store(low, Ordering::Relaxed);
        self.port.store(client.port().into(), Ordering::Relaxed);
        self.phase.store(phase as u64, Ordering::Relaxed);
        self.next_turn();
    }

    fn next_turn(&self) {
        let turn = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        self.turn.store(turn, Ordering::Release);
    }

    fn mark(&self) -> Mark {
        Mark {
            turn: self.turn.load(Ordering::Acquire),
            wakes: self.wakes.load(Ordering::Relaxed),
        }
    }

    fn note_wake(&self, is_awake: bool) {
        // Only this thread writes it. The first call may come in either state.
        let next = (self.wakes.load(Ordering::Relaxed) | 1).wrapping_add(1) | u64::from(is_awake);
        self.wakes.store(next, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        let index = self.phase.load(Ordering::Relaxed);
        let found = usize::try_from(index)
            .ok()
            .and_then(|at| Phase::ALL.get(at));
        found.copied().unwrap_or(Phase::Opening)
    }

    fn client(&self) -> SocketAddr {
        let [high, low] = [0, 1].map(|half: usize| self.ip[half].load(Ordering::Relaxed));
        let bits = u128::from(high) << 64 | u128::from(low);
        let port = u16::try_from(self.port.load(Ordering::Relaxed)).unwrap_or(0);
        (IpAddr::from(Ipv6Addr::from(bits)).to_canonical(), port).into()
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Option<&'static CallSlot>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of a slot at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    turn: u64,
    wakes: u64,
}

impl Mark {
    fn runs_connection(self) -> bool {
        self.turn % 2 == 1
    }

    fn is_at_work(self) -> bool {
        self.runs_connection() || self.wakes % 2 == 1
    }
}

/// The slots of living threads.
static SLOTS: Mutex<Vec<Arc<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static LEASE: OnceCell<Lease> = const { OnceCell::new() };
    /// Whether a connection runs on this thread, so that none begins within another.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// A thread has a slot until it ends.
struct Lease(Arc<Slot>);

impl Lease {
    fn take() -> Self {
        let slot = Arc::new(Slot::new());
        *slot.calls() = call_slot();
        slots().push(Arc::clone(&slot));
        Self(slot)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        slots().retain(|slot| !Arc::ptr_eq(slot, &self.0));
    }
}

fn slots() -> std::sync::MutexGuard<'static, Vec<Arc<Slot>>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks this thread as running a connection, until the result is dropped.
struct Turn;

impl Turn {
    /// `None` while the thread ends, or within another turn.
    fn begin(client: SocketAddr, phase: Phase) -> Option<Self> {
        if IS_BUSY.replace(true) {
            return None;
        }
        let noted = LEASE.try_with(|lease| lease.get_or_init(Lease::take).0.begin(client, phase));
        if noted.is_err() {
            IS_BUSY.set(false);
            return None;
        }
        Some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = LEASE.try_with(|lease| lease.get().map(|lease| lease.0.next_turn()));
        IS_BUSY.set(false);
    }
}

/// Records that this worker begins to wait for work.
pub(super) fn parked() {
    let _ = LEASE.try_with(|lease| lease.get_or_init(Lease::take).0.note_wake(false));
}

/// Records that this worker has work again.
pub(super) fn unparked() {
    let _ = LEASE.try_with(|lease| lease.get_or_init(Lease::take).0.note_wake(true));
}

/// Records the phase of the connection that runs on this thread.
pub(crate) fn at(phase: Phase) {
    let note = |lease: &Lease| lease.0.phase.store(phase as u64, Ordering::Relaxed);
    let _ = LEASE.try_with(|lease| lease.get().map(note));
}

/// Runs a function for a connection, recorded as this phase.
pub(crate) fn during<T>(client: SocketAddr, phase: Phase, work: impl FnOnce() -> T) -> T {
    let _turn = Turn::begin(client, phase);
    work()
}

/// Wraps the future of a client's connection, so that each of its steps is recorded.
pub(crate) fn watched<F: Future>(client: SocketAddr, inner: Pin<Box<F>>) -> Watched<F> {
    Watched {
        client,
        phase: Phase::Opening,
        inner,
    }
}

/// See [`watched`].
#[derive(Debug)]
pub(crate) struct Watched<F> {
    client: SocketAddr,
    phase: Phase,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = Turn::begin(self.client, self.phase);
        let polled = self.inner.as_mut().poll(cx);
        if polled.is_pending()
            && let Ok(Some(phase)) =
                LEASE.try_with(|lease| lease.get().map(|lease| lease.0.phase()))
        {
            self.phase = phase;
        }
        polled
    }
}

/// A working worker that an earlier check has found.
struct Seen {
    slot: Arc<Slot>,
    mark: Mark,
    since: Instant,
    report: Option<Report>,
}

/// The last report about a worker.
struct Report {
    client: Option<SocketAddr>,
    phase: &'static str,
    plugin: Option<String>,
}

/// Reports each blocked worker of `runtime` once, and again when it is free. Runs for ever.
pub(super) async fn watch(runtime: Handle) {
    let mut seen = Vec::new();
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        look(&mut seen, Instant::now(), &runtime);
    }
}

fn look(seen: &mut Vec<Seen>, now: Instant, runtime: &Handle) {
    let held_ms = |since: Instant| {
        let held = now.saturating_duration_since(since);
        u64::try_from(held.as_millis()).unwrap_or(u64::MAX)
    };
    seen.retain(|seen| {
        let goes_on = seen.slot.mark() == seen.mark;
        if let (false, Some(report)) = (goes_on, &seen.report) {
            warn!(
                connection = report.client.map(tracing::field::display),
                phase = report.phase,
                plugin = report.plugin,
                held_ms = held_ms(seen.since),
                "a worker is back"
            );
        }
        goes_on
    });
    let mut is_held = false;
    for slot in slots().iter() {
        let mark = slot.mark();
        if !mark.is_at_work() {
            continue;
        }
        let Some(seen) = seen.iter_mut().find(|seen| Arc::ptr_eq(&seen.slot, slot)) else {
            seen.push(Seen {
                slot: Arc::clone(slot),
                mark,
                since: now,
                report: None,
            });
            continue;
        };
        is_held = true;
        if seen.report.is_none() && now.saturating_duration_since(seen.since) >= HELD_MAX {
            seen.report = Some(report(slot, mark, held_ms(seen.since)));
        }
    }
    if is_held {
        // Another worker wakes up and serves the sockets. `plugin::watch` does the same for
        // calls of plugins.
        drop(runtime.spawn(std::future::ready(())));
    }
}

fn report(slot: &Slot, mark: Mark, held_ms: u64) -> Report {
    let (client, phase) = if mark.runs_connection() {
        (Some(slot.client()), slot.phase().name())
    } else {
        (None, "no connection")
    };
    let call = slot.calls().and_then(calls::doing);
    let (plugin, hook) = call.unzip();
    warn!(
        connection = client.map(tracing::field::display),
        phase,
        plugin,
        hook,
        held_ms,
        "a worker has not come back for {} s; the others go on",
        HELD_MAX.as_secs()
    );
    Report {
        client,
        phase,
        plugin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(seen: &[Seen], client: SocketAddr) -> Option<&Seen> {
        seen.iter().find(|seen| seen.slot.client() == client)
    }

    /// A step that does not end is reported once, with its connection and phase;
    /// the next step of the same thread is another one.
    #[tokio::test]
    async fn a_blocked_worker_is_reported_once() {
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let (mut seen, runtime, start) = (Vec::new(), Handle::current(), Instant::now());
        let step = Turn::begin(client, Phase::Opening).unwrap();
        at(Phase::Login);
        look(&mut seen, start, &runtime);
        look(&mut seen, start + HELD_MAX / 2, &runtime);
        assert!(mine(&seen, client).unwrap().report.is_none());
        look(&mut seen, start + HELD_MAX, &runtime);
        let report = mine(&seen, client).unwrap().report.as_ref().unwrap();
        assert_eq!((report.client, report.phase), (Some(client), "login"));
        drop(step);
        let _step = Turn::begin(client, Phase::Opening);
        look(&mut seen, start + HELD_MAX, &runtime);
        assert!(mine(&seen, client).unwrap().report.is_none());
    }

    /// The phase of a connection is kept between its steps.
    #[tokio::test]
    async fn the_phase_is_kept_between_steps() {
        let client: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
        let slot = || LEASE.with(|lease| Arc::clone(&lease.get().unwrap().0));
        let story = async {
            at(Phase::Joining);
            tokio::task::yield_now().await;
            assert_eq!(slot().phase(), Phase::Joining);
            assert_eq!(slot().client(), client);
        };
        let mut story = watched(client, Box::pin(story));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut story).poll(&mut cx).is_pending());
        assert_eq!(slot().turn.load(Ordering::Relaxed) % 2, 0);
        during(client, Phase::Finish, || {
            assert_eq!(slot().phase(), Phase::Finish)
        });
        story.await;
        assert_eq!(slot().turn.load(Ordering::Relaxed) % 2, 0);
    }

    /// A worker that is blocked by anything else is reported as well, and one that waits
    /// for work is not.
    #[test]
    fn a_blocked_worker_without_a_connection_is_reported() {
        let workers = crate::proxy::lifecycle::Workers::start(1).unwrap();
        let runtime = workers.runtime().handle();
        let (sender, receiver) = std::sync::mpsc::channel();
        // It has waited for work before, and does so again afterwards.
        let mine = runtime.spawn(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            LEASE.with(|lease| Arc::clone(&lease.get().unwrap().0))
        });
        let mine = runtime.block_on(mine).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.send(()).unwrap();
            let _ = released.recv();
        });
        receiver
            .recv_timeout(infrarust_test_support::PATIENCE)
            .unwrap();
        assert!(mine.mark().is_at_work() && !mine.mark().runs_connection());
        let (mut seen, start) = (Vec::new(), Instant::now());
        look(&mut seen, start, runtime);
        look(&mut seen, start + HELD_MAX, runtime);
        let of_mine = seen.iter().find(|seen| Arc::ptr_eq(&seen.slot, &mine));
        let report = of_mine.unwrap().report.as_ref().unwrap();
        assert_eq!((report.client, report.phase), (None, "no connection"));
        drop(release);
        infrarust_test_support::blocking_until("the worker to wait for work", || {
            !mine.mark().is_at_work()
        });
    }
}
