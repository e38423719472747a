//! Sessions driven by separate threads, one for each core; Linux only.
//!
//! The runtime's scheduler is made for tasks that do much with few sockets, but a relay
//! does little with many. So a session that lasts leaves the runtime: both sockets go to
//! one of a few workers, which are threads with a level-triggered epoll(7) and no other
//! work. A worker reads from one ready socket and writes what it
//! read before it handles the next, without repeated system calls. The runtime
//! keeps one small task that waits for the outcome.
//!
//! `docs/decisions.md` has the measurements behind this.

use std::array::from_fn;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::both::Both;
use super::exchange::{Exchange, Ready, Wants};
use super::framed::{FrameFilters, ReturnedClient};
use super::lane::{Buffers, Encryption, Method};
use super::outbox::{Driver, Mailbox};
use super::{End, Outcome, Session, Side, keep_alive, portable, spare};
use crate::apart;
use crate::priority;
use crate::protocol::cipher;
use crate::socket::Keepalive;

/// How long a session is left to the runtime before it is handed over.
///
/// Most connections that do not last end at once: a refusal, a kick, a bot.
/// Moving their sockets from one epoll to another would be a tenth of their whole cost.
const HANDOVER_DELAY: Duration = Duration::from_millis(200);

/// The most ready sockets that one call reports. The others wait for the next
/// call, behind sockets that have become ready since, so this bounds the unfairness.
const EVENTS_MAX: usize = 256;

/// The most bytes of each session that are encrypted before the worker handles the
/// sockets again. So small messages do not wait for large ones, which are encrypted in
/// slices side by side.
const SLICE_BYTES_MAX: usize = 512;

/// The same for a session that would be encrypted alone from there on, because no other
/// has as many bytes: others may join it after the worker has handled the sockets. Fewer
/// bytes take less time than looking at the sockets.
const SLICE_BYTES_MIN: usize = 256;

/// The most sessions that one call encrypts slices of.
const JOBS_MAX: usize = 32;

/// How long bytes are held back, to be written together with the packet behind them that
/// plugins decide about. Most plugins answer sooner; a player does not notice this delay.
const HELD_MAX: Duration = Duration::from_millis(2);

/// The epoll token of the wake-up event; other tokens hold session id and side.
const WAKEUP_TOKEN: u64 = u64::MAX;

/// The load of a worker that has ended: more than that of any other.
const DEAD_WORKER_LOAD: usize = usize::MAX / 2;

/// Reported by epoll even when not requested.
const ENDED: EpollFlags = EpollFlags::EPOLLHUP.union(EpollFlags::EPOLLERR);

/// The workers. Clones share them; they end with the last clone, each when its
/// last session has.
#[derive(Debug, Clone)]
pub(super) struct Reactor {
    workers: Arc<[WorkerHandle]>,
}

/// A handle of a worker; dropping it lets the worker end.
#[derive(Debug)]
struct WorkerHandle(Arc<Inbox>);

/// The commands for a worker.
#[derive(Debug)]
struct Inbox {
    wakeup: EventFd,
    /// The worker runs, or was woken, and will look at the commands before it waits. Reset
    /// under the lock of the commands, so that a command is not overlooked.
    will_look: AtomicBool,
    commands: Mutex<Commands>,
    /// The number of sessions that the worker has or will have.
    sessions: AtomicUsize,
}

#[derive(Debug, Default)]
struct Commands {
    waiting: Vec<Command>,
    next_id: u64,
    /// No more commands will come, or the worker has ended.
    closed: bool,
}

impl Commands {
    /// Adds a command. The worker has to be woken for it.
    fn put(&mut self, command: Command) {
        if !self.closed {
            self.waiting.push(command);
        }
    }
}

#[derive(Debug)]
enum Command {
    Relay(u64, Box<Relayed>),
    /// The outbox of this session has packets.
    Send(u64),
    Stop(u64),
}

/// A session at a worker.
#[derive(Debug)]
struct Relayed {
    exchange: Exchange<TcpStream>,
    /// The events that epoll watches at each socket; `None` for one that is not registered.
    watched: Both<Option<EpollFlags>>,
    /// Its entry among the worker's timers.
    timer: Option<Instant>,
    /// Whether it is among the worker's sessions in encryption.
    is_in_encryption: bool,
    result_tx: oneshot::Sender<Box<Finished>>,
}

impl Reactor {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// If there is no descriptor or no thread for a worker.
    pub(super) fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let workers: io::Result<Vec<_>> = (0..threads.get()).map(Worker::start).collect();
        Ok(Self {
            workers: workers?.into(),
        })
    }

    /// A forwarder that lets the workers drive sessions with one method.
    pub(super) fn forwarder(&self, method: Method) -> ReactorForwarder {
        ReactorForwarder {
            reactor: self.clone(),
            method,
            handover_delay: HANDOVER_DELAY,
        }
    }

    /// Hands a session over to the worker that has fewest.
    fn hand_over(
        self,
        relayed: Box<Relayed>,
        result_rx: oneshot::Receiver<Box<Finished>>,
    ) -> HandedOver {
        let load = |worker: &WorkerHandle| worker.0.sessions.load(Ordering::Relaxed);
        let workers = self.workers.iter().enumerate();
        let (worker, handle) = workers
            .min_by_key(|(_, worker)| load(worker))
            .expect("there is at least one worker");
        let id = handle.0.add(relayed);
        HandedOver {
            reactor: self,
            worker,
            id,
            result_rx,
            is_stopped: false,
        }
    }
}

/// Lets the workers of a [`Reactor`] drive sessions.
#[derive(Debug, Clone)]
pub(super) struct ReactorForwarder {
    reactor: Reactor,
    method: Method,
    /// How long the runtime drives a session first.
    handover_delay: Duration,
}

#[cfg(test)]
impl ReactorForwarder {
    /// Sessions that were handed over and have not ended.
    pub(super) fn handed_over(&self) -> usize {
        self.reactor
            .workers
            .iter()
            .map(|worker| worker.0.sessions.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn with_handover_delay(self, handover_delay: Duration) -> Self {
        Self {
            handover_delay,
            ..self
        }
    }
}

/// The bytes that a worker needs for each session.
#[cfg(test)]
pub(super) const RELAYED_BYTES: usize = size_of::<Relayed>();

impl ReactorForwarder {
    /// Relays a session; see [`Forwarders::forward`](super::Forwarders::forward).
    pub(super) fn forward(
        &self,
        session: Session,
        stop: CancellationToken,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let keepalive = session.keepalive;
        let exchange = Exchange::new(session, self.method);
        let begun = self.begin(exchange, Some(stop.clone()), keepalive);
        async move {
            let mut handed_over = match begun.await {
                Ok(handed_over) => handed_over,
                Err(finished) => return finished.outcome,
            };
            let finished = match stop.run_until_cancelled(&mut handed_over).await {
                Some(finished) => finished,
                None => {
                    handed_over.stop();
                    handed_over.await
                }
            };
            finished.outcome
        }
    }

    /// Relays a framed session. Returns the outcome, and what is left of the
    /// client's side if its socket still works.
    pub(super) fn forward_framed(
        &self,
        session: Session,
        filters: FrameFilters,
    ) -> impl Future<Output = (Outcome, Option<ReturnedClient<TcpStream>>)> + Send + use<> {
        let keepalive = session.keepalive;
        let begun = self.begin(Exchange::framed(session, filters), None, keepalive);
        async move {
            let finished = match begun.await {
                Ok(handed_over) => handed_over.await,
                Err(finished) => finished,
            };
            (finished.outcome, finished.returned)
        }
    }

    /// Drives a session in the runtime, and hands it over to a worker if it lasts. The error
    /// is a session that has ended before.
    ///
    /// Boxed, so that its memory is freed at the handover: a future keeps its arguments until
    /// it ends.
    fn begin(
        &self,
        exchange: Exchange<tokio::net::TcpStream>,
        stop: Option<CancellationToken>,
        keepalive: Keepalive,
    ) -> Pin<Box<impl Future<Output = Result<HandedOver, Box<Finished>>> + Send + use<>>> {
        let reactor = self.reactor.clone();
        let until = Instant::now().checked_add(self.handover_delay);
        let in_runtime = portable::drive(exchange, stop, until);
        Box::pin(in_runtime.map(move |exchange| {
            // Five system calls that most connections end too early to need.
            if exchange.outcome().is_none() {
                keep_alive(exchange.socket(Side::Backend), &keepalive);
            }
            let (result_tx, result_rx) = oneshot::channel();
            let relayed = Relayed::take_over(exchange, result_tx)?;
            Ok(reactor.hand_over(relayed, result_rx))
        }))
    }
}

/// A session that is over.
#[derive(Debug)]
struct Finished {
    outcome: Outcome,
    returned: Option<ReturnedClient<TcpStream>>,
}

impl Finished {
    /// Closes the sockets, except that of a client that outlives the session.
    fn new(exchange: Exchange<TcpStream>, outcome: Outcome) -> Self {
        Self {
            outcome,
            returned: exchange.into_returned_client(),
        }
    }

    const fn without_client(outcome: Outcome) -> Self {
        Self {
            outcome,
            returned: None,
        }
    }
}

impl Relayed {
    /// Takes over a session from the runtime, if it has not ended.
    fn take_over(
        exchange: Exchange<tokio::net::TcpStream>,
        result_tx: oneshot::Sender<Box<Finished>>,
    ) -> Result<Box<Self>, Box<Finished>> {
        let outcome = exchange.outcome();
        match (exchange.into_std(), outcome) {
            (Ok(exchange), None) => Ok(Box::new(Self::new(exchange, result_tx))),
            (Ok(exchange), Some(outcome)) => Err(Box::new(Finished::new(exchange, outcome))),
            (Err(error), outcome) => {
                let failed = Outcome::nothing(End::Failed(Side::Client, error.kind()));
                Err(Box::new(Finished::without_client(
                    outcome.unwrap_or(failed),
                )))
            }
        }
    }

    fn new(exchange: Exchange<TcpStream>, result_tx: oneshot::Sender<Box<Finished>>) -> Self {
        Self {
            exchange,
            watched: Both {
                client: None,
                backend: None,
            },
            timer: None,
            is_in_encryption: false,
            result_tx,
        }
    }
}

impl Mailbox for Inbox {
    fn notify(self: Arc<Self>, session: u64) -> Option<Waker> {
        let mut commands = self.lock();
        commands.put(Command::Send(session));
        drop(commands);
        (!self.will_look.load(Ordering::Relaxed)).then(|| Waker::from(self))
    }
}

impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_worker(self.lock());
    }
}

/// A session that was handed over: the future of its end. Its drop stops the session, if it
/// has not ended.
struct HandedOver {
    /// Keeps the workers running.
    reactor: Reactor,
    worker: usize,
    id: u64,
    result_rx: oneshot::Receiver<Box<Finished>>,
    /// It has ended, or is to end.
    is_stopped: bool,
}

impl HandedOver {
    fn stop(&mut self) {
        if let Some(worker) = self.reactor.workers.get(self.worker)
            && !std::mem::replace(&mut self.is_stopped, true)
        {
            let mut commands = worker.0.lock();
            commands.put(Command::Stop(self.id));
            worker.0.wake_worker(commands);
        }
    }
}

impl Future for HandedOver {
    type Output = Box<Finished>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Box<Finished>> {
        let result = ready!(self.result_rx.poll_unpin(context));
        self.is_stopped = true;
        // A worker that has panicked has closed the sockets without a result.
        Poll::Ready(
            result.unwrap_or_else(|_| {
                Box::new(Finished::without_client(Outcome::nothing(End::Stopped)))
            }),
        )
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inbox {
    /// Adds a session. Returns its number.
    fn add(self: &Arc<Self>, relayed: Box<Relayed>) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let mut commands = self.lock();
        let id = commands.next_id;
        commands.next_id += 1;
        // Not by the worker: what lasts as long as a session would keep the memory of its
        // short-lived buffers from being returned to the system.
        relayed.exchange.set_driver(|| {
            let inbox: Arc<Self> = Arc::clone(self);
            Driver::Shared(inbox, id)
        });
        commands.put(Command::Relay(id, relayed));
        self.wake_worker(commands);
        id
    }

    /// Wakes the worker if commands wait, unless it looks at them anyway.
    fn wake_worker(&self, commands: MutexGuard<'_, Commands>) {
        let is_asleep =
            !commands.waiting.is_empty() && !self.will_look.swap(true, Ordering::Relaxed);
        // First, because the worker may run at once, in place of this thread.
        drop(commands);
        if is_asleep {
            self.write_wakeup();
        }
    }

    fn write_wakeup(&self) {
        // It fails only when its counter would overflow, after 2^64 calls.
        let _ = self.wakeup.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Commands> {
        // A panic under the lock cannot leave the commands half changed.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.write_wakeup();
    }
}

/// Hashes session ids: numbers that nobody chooses, so a hash that resists collisions on
/// purpose would only cost time at each event.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio: ids that follow each other differ in the high
        // bits, and the rotation brings some of them to the low ones.
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0 ^ id).wrapping_mul(FACTOR).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The thread that relays.
struct Worker {
    inbox: Arc<Inbox>,
    epoll: Epoll,
    sessions: HashMap<u64, Box<Relayed>, BuildHasherDefault<IdHasher>>,
    timers: BTreeSet<(Instant, u64)>,
    /// The sessions with bytes that wait for encryption, and some that have ended since.
    /// Each is here once.
    in_encryption: Vec<u64>,
    /// What is taken of some of them while it is encrypted; empty otherwise.
    encryptions: Vec<(u64, Encryption)>,
    /// The sessions that hold bytes back for a decision.
    holding: HashSet<u64, BuildHasherDefault<IdHasher>>,
    /// When these bytes are written without a decision, if there are any.
    held_until: Option<Instant>,
    buffers: Buffers,
    /// Commands that were taken from the inbox and have not run, the last one first.
    commands: Vec<Command>,
    /// The session that is being handled, or was handled last; `None` if none was since a
    /// panic.
    current: Option<u64>,
}

impl Worker {
    fn start(index: usize) -> io::Result<WorkerHandle> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let inbox = Arc::new(Inbox {
            wakeup: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            will_look: AtomicBool::new(false),
            commands: Mutex::default(),
            sessions: AtomicUsize::new(0),
        });
        // Edge-triggered, so that the event does not have to be read.
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&inbox.wakeup, EpollEvent::new(edge, WAKEUP_TOKEN))?;
        let worker = Self {
            inbox: Arc::clone(&inbox),
            epoll,
            sessions: HashMap::default(),
            timers: BTreeSet::new(),
            in_encryption: Vec::new(),
            encryptions: Vec::new(),
            holding: HashSet::default(),
            held_until: None,
            buffers: Buffers::of_encrypting_driver(),
            commands: Vec::new(),
            current: None,
        };
        thread::Builder::new()
            .name(format!("relay-{index}"))
            .spawn(move || worker.run())?;
        Ok(WorkerHandle(inbox))
    }

    /// Runs until the worker is closed and has no session. A panic ends the session in which
    /// it occurs, and not those of all other players of the worker.
    fn run(mut self) {
        priority::shorten_slice();
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve_sessions())) {
            let text = apart::words_of(&*panic);
            tracing::error!("a session has failed in a relay thread and is ended: {text}");
            let Some(current) = self.current.take() else {
                // Nothing that ends with a session has failed, so it would fail again.
                return;
            };
            self.end_failed(current);
        }
    }

    fn serve_sessions(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        // A panic may have ended the round before, and the event about commands is lost then.
        let mut closed = self.finish_round();
        while !closed || !self.sessions.is_empty() {
            let found = match self.epoll.wait(&mut events, self.wait_max()) {
                Ok(0) if self.in_encryption.is_empty() => {
                    self.buffers.spare.free();
                    0
                }
                Ok(found) => found,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "a relay thread cannot wait and ends");
                    return;
                }
            };
            // What comes from here on is found below, without a wake-up.
            self.inbox.will_look.store(true, Ordering::Relaxed);
            for event in events.iter().take(found) {
                match event.data() {
                    WAKEUP_TOKEN => {}
                    data => self.serve(data, event.events()),
                }
            }
            closed = self.finish_round();
        }
    }

    /// What follows the events: none of them can belong to a session that is added now.
    /// Returns true after the last command.
    fn finish_round(&mut self) -> bool {
        let closed = self.run_commands();
        self.run_timers();
        // Of all sessions together.
        self.buffers.begin_decisions();
        self.encrypt();
        self.write_held();
        closed
    }

    /// Ends the session in which a panic occurred, and those of which bytes were taken for
    /// their encryption: they have lost their ciphers.
    fn end_failed(&mut self, current: u64) {
        let taken = std::mem::take(&mut self.encryptions);
        for id in taken.iter().map(|(id, _)| *id).chain([current]) {
            let Some(failed) = self.sessions.remove(&id) else {
                continue;
            };
            if let Some(at) = failed.timer {
                self.timers.remove(&(at, id));
            }
            self.inbox.sessions.fetch_sub(1, Ordering::Relaxed);
            // Closes its sockets. What has failed may fail again.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        }
        self.in_encryption.clear();
        self.holding.clear();
        for (id, relayed) in &mut self.sessions {
            relayed.is_in_encryption = relayed.exchange.is_encrypting();
            if relayed.is_in_encryption {
                self.in_encryption.push(*id);
            }
            if relayed.exchange.is_holding() {
                self.holding.insert(*id);
            }
        }
    }

    /// The time until the next timer is due, plus a millisecond, since epoll rounds down,
    /// or until spare buffers are freed.
    fn wait_max(&self) -> EpollTimeout {
        if !self.in_encryption.is_empty() {
            return EpollTimeout::ZERO;
        }
        // Only a worker without work waits so long, and that frees its spare buffers.
        let until_free = (!self.buffers.spare.is_empty()).then_some(spare::KEPT);
        let until_timer = self
            .timers
            .first()
            .map(|(at, _)| *at)
            .into_iter()
            .chain(self.held_until)
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        match until_free.into_iter().chain(until_timer).min() {
            None => EpollTimeout::NONE,
            Some(wait) => EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX),
        }
    }

    /// Handles an event of one socket.
    fn serve(&mut self, data: u64, found: EpollFlags) {
        let (id, side) = from_token(data);
        self.current = Some(id);
        let Some(relayed) = self.sessions.get_mut(&id) else {
            return;
        };
        let ready = Ready {
            readable: found.intersects(EpollFlags::EPOLLIN | ENDED),
            writable: found.intersects(EpollFlags::EPOLLOUT | ENDED),
            failed: found.contains(EpollFlags::EPOLLERR),
        };
        relayed.exchange.ready(side, ready, &mut self.buffers);
        if found.intersects(ENDED)
            && relayed.exchange.outcome().is_none()
            && relayed.exchange.wants(side) == Wants::NOTHING
        {
            relayed.unregister(&self.epoll, side);
        }
        self.update(id);
    }

    /// Runs the waiting commands. Returns true after the last one.
    fn run_commands(&mut self) -> bool {
        self.run_taken_commands();
        let closed = {
            let mut inbox = self.inbox.lock();
            std::mem::swap(&mut self.commands, &mut inbox.waiting);
            self.inbox.will_look.store(false, Ordering::Relaxed);
            inbox.closed
        };
        self.commands.reverse();
        self.run_taken_commands();
        closed
    }

    fn run_taken_commands(&mut self) {
        while let Some(command) = self.commands.pop() {
            let (Command::Relay(id, _) | Command::Send(id) | Command::Stop(id)) = command;
            self.current = Some(id);
            match command {
                Command::Relay(_, mut relayed) => {
                    relayed.register(&self.epoll, id);
                    self.sessions.insert(id, relayed);
                    self.send_out(id);
                }
                Command::Send(_) => self.send_out(id),
                Command::Stop(_) => {
                    if let Some(relayed) = self.sessions.get_mut(&id) {
                        relayed.exchange.write_held(&mut self.buffers);
                        relayed.exchange.stop(End::Stopped);
                        self.update(id);
                    }
                }
            }
        }
    }

    /// Handles what waits in the outbox of a session, and decisions.
    fn send_out(&mut self, id: u64) {
        if let Some(relayed) = self.sessions.get_mut(&id) {
            relayed.exchange.send_out_all(&mut self.buffers);
            self.update(id);
        }
    }

    fn run_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            self.current = Some(id);
            if let Some(relayed) = self.sessions.get_mut(&id) {
                relayed.timer = None;
                relayed.exchange.check_deadlines(now);
            }
            self.update(id);
        }
    }

    /// Writes bytes for which no decision has come for too long: a plugin takes its time.
    fn write_held(&mut self) {
        if self.holding.is_empty() {
            self.held_until = None;
            return;
        }
        let now = Instant::now();
        if *self.held_until.get_or_insert(now + HELD_MAX) > now {
            return;
        }
        self.held_until = None;
        for id in std::mem::take(&mut self.holding) {
            self.current = Some(id);
            if let Some(relayed) = self.sessions.get_mut(&id) {
                relayed.exchange.write_held(&mut self.buffers);
            }
            self.update(id);
        }
    }

    /// Encrypts a slice of each waiting session, side by side, and writes the bytes of a
    /// session when all of them are encrypted.
    fn encrypt(&mut self) {
        if self.in_encryption.is_empty() {
            return;
        }
        let count = self.in_encryption.len();
        // In equal parts, so that none consists of one session alone.
        let part = count.div_ceil(count.div_ceil(JOBS_MAX));
        for begin in (0..count).step_by(part) {
            let part = begin..count.min(begin + part);
            let ids = self.in_encryption.get(part).unwrap_or_default();
            self.encryptions.extend(ids.iter().filter_map(|id| {
                let relayed = self.sessions.get_mut(id)?;
                relayed.is_in_encryption = false;
                Some((*id, relayed.exchange.take_encryption()?))
            }));
            let left = self.encryptions.iter().map(|(_, bytes)| bytes.left());
            let slice_bytes = slice_bytes(left);
            let mut rest = self.encryptions.iter_mut();
            let mut jobs: [_; JOBS_MAX] =
                from_fn(|_| rest.next().map(|(_, bytes)| bytes.next_job(slice_bytes)));
            cipher::encrypt_many(&mut jobs);
            while let Some((id, encryption)) = self.encryptions.pop() {
                self.current = Some(id);
                let Some(relayed) = self.sessions.get_mut(&id) else {
                    continue;
                };
                let exchange = &mut relayed.exchange;
                exchange.continue_encrypted(encryption, &mut self.buffers);
                if exchange.is_encrypting() {
                    relayed.is_in_encryption = true;
                    self.in_encryption.push(id);
                } else {
                    self.update(id);
                }
            }
        }
        self.in_encryption.drain(..count);
    }

    /// Must follow each change of a session: removes it if it is over, otherwise
    /// updates what epoll watches and its timer.
    fn update(&mut self, id: u64) {
        let Some(relayed) = self.sessions.get_mut(&id) else {
            return;
        };
        if relayed.exchange.is_encrypting() && !relayed.is_in_encryption {
            relayed.is_in_encryption = true;
            self.in_encryption.push(id);
        }
        if relayed.exchange.is_holding() {
            self.holding.insert(id);
        } else if !self.holding.is_empty() {
            self.holding.remove(&id);
        }
        relayed.watch(&self.epoll, id);
        let outcome = relayed.exchange.outcome();
        let timer = match outcome {
            None => relayed.exchange.next_deadline(),
            Some(_) => None,
        };
        if timer != relayed.timer {
            let before = std::mem::replace(&mut relayed.timer, timer);
            before.map(|at| self.timers.remove(&(at, id)));
            timer.map(|at| self.timers.insert((at, id)));
        }
        if let Some(outcome) = outcome
            && let Some(relayed) = self.sessions.remove(&id)
        {
            self.inbox.sessions.fetch_sub(1, Ordering::Relaxed);
            if relayed.exchange.is_framed() && relayed.watched.client.is_some() {
                // The client's socket outlives the session.
                let _ = self.epoll.delete(relayed.exchange.socket(Side::Client));
            }
            // Closes the sockets first: the receiver of the result may rely on that.
            let finished = Box::new(Finished::new(relayed.exchange, outcome));
            // The receiver may have been dropped.
            let _ = relayed.result_tx.send(finished);
        }
    }
}

impl Drop for Worker {
    /// Usually nothing is left. After a panic this drops the senders of all
    /// results, and keeps new sessions away from this worker.
    fn drop(&mut self) {
        self.inbox
            .sessions
            .store(DEAD_WORKER_LOAD, Ordering::Relaxed);
        let mut commands = self.inbox.lock();
        commands.closed = true;
        commands.waiting.clear();
    }
}

impl Relayed {
    /// Registers both sockets, also one of which the session needs no event now: epoll then
    /// still reports its failure, which ends the session.
    fn register(&mut self, epoll: &Epoll, id: u64) {
        for side in Side::BOTH {
            let flags = self.flags(side);
            *self.watched.of_mut(side) = Some(flags);
            let event = EpollEvent::new(flags, to_token(id, side));
            if let Err(error) = epoll.add(self.exchange.socket(side), event) {
                *self.watched.of_mut(side) = None;
                self.exchange.stop(failed(side, error));
            }
        }
    }

    /// The events of this socket that the session can use now.
    fn flags(&self, side: Side) -> EpollFlags {
        let wants = self.exchange.wants(side);
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, wants.read);
        flags.set(EpollFlags::EPOLLOUT, wants.write);
        flags
    }

    /// Watches both sockets for the events that the session can use now.
    fn watch(&mut self, epoll: &Epoll, id: u64) {
        for side in Side::BOTH {
            if self.exchange.outcome().is_some() {
                return;
            }
            let flags = self.flags(side);
            let watched = self.watched.of_mut(side);
            if *watched == Some(flags) || (watched.is_none() && flags.is_empty()) {
                continue;
            }
            let socket = self.exchange.socket(side);
            let mut event = EpollEvent::new(flags, to_token(id, side));
            let result = match watched.replace(flags) {
                None => epoll.add(socket, event),
                Some(_) => epoll.modify(socket, &mut event),
            };
            if let Err(error) = result {
                self.exchange.stop(failed(side, error));
            }
        }
    }

    /// Removes a socket from epoll, which would report its end again and again.
    fn unregister(&mut self, epoll: &Epoll, side: Side) {
        *self.watched.of_mut(side) = None;
        if let Err(error) = epoll.delete(self.exchange.socket(side)) {
            self.exchange.stop(failed(side, error));
        }
    }
}

/// How many bytes of each session to encrypt next, from how many each has left: as many as
/// the second longest has, within limits.
pub(super) fn slice_bytes(left: impl Iterator<Item = usize>) -> usize {
    let [mut longest, mut second] = [0; 2];
    for left in left {
        second = second.max(left.min(longest));
        longest = longest.max(left);
    }
    second.clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX)
}

/// The epoll token of a socket: session id and side.
fn to_token(id: u64, side: Side) -> u64 {
    id << 1 | u64::from(side == Side::Backend)
}

fn from_token(data: u64) -> (u64, Side) {
    let side = match data & 1 {
        0 => Side::Client,
        _ => Side::Backend,
    };
    (data >> 1, side)
}

fn failed(side: Side, error: Errno) -> End {
    End::Failed(side, io::Error::from(error).kind())
}
