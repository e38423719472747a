//! One suite for every forwarder, over real sockets: each way of moving bytes
//! under each driver.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[cfg(target_os = "linux")]
mod framed;
mod limits;
#[cfg(target_os = "linux")]
mod pipes;
mod streams;

use std::time::Instant;

use infrarust_test_support::{PATIENCE, until, within};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::*;

const MIB: usize = 1024 * 1024;

/// Not used up in these tests: their peers are alive and answer probes.
const KEEPALIVE: Keepalive = Keepalive {
    time: Duration::from_secs(40),
    interval: Duration::from_secs(5),
    retries: 4,
};

const NO_LIMITS: Limits = Limits {
    read: None,
    write: None,
    half_close: PATIENCE,
};

/// The most bytes that the proxy holds for a slow receiver.
#[cfg(target_os = "linux")]
const HELD_BYTES_MAX: usize = pipe::PIPE_BYTES;
#[cfg(not(target_os = "linux"))]
const HELD_BYTES_MAX: usize = COPY_BYTES;

/// The text that a backend sends before it closes.
const FINAL_TEXT: &[u8] = b"you are not whitelisted on this server";

/// A driver and a way of moving bytes.
#[derive(Clone)]
enum AnyForwarder {
    #[cfg(target_os = "linux")]
    Reactor(reactor::ReactorForwarder),
    Portable(portable::PortableForwarder),
}

impl AnyForwarder {
    async fn forward(&self, session: Session, stop: CancellationToken) -> Outcome {
        match self {
            #[cfg(target_os = "linux")]
            Self::Reactor(forwarder) => forwarder.forward(session, stop).await,
            Self::Portable(forwarder) => forwarder.forward(session, stop).await,
        }
    }
}

/// Short, for the messages of assertions.
impl fmt::Debug for AnyForwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(target_os = "linux")]
            Self::Reactor(forwarder) => forwarder.fmt(f),
            Self::Portable(forwarder) => forwarder.fmt(f),
        }
    }
}

/// Every driver with one method: the runtime, the reactor, and one after the other.
fn drivers(method: Method) -> Vec<AnyForwarder> {
    #[cfg(target_os = "linux")]
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap().forwarder(method);
    vec![
        #[cfg(target_os = "linux")]
        AnyForwarder::Reactor(reactor.clone()),
        #[cfg(target_os = "linux")]
        AnyForwarder::Reactor(reactor.with_handover_delay(Duration::ZERO)),
        AnyForwarder::Portable(portable::PortableForwarder(method)),
    ]
}

fn all() -> Vec<AnyForwarder> {
    [Relay::Copy, Relay::Splice, Relay::Adaptive]
        .into_iter()
        .flat_map(|relay| drivers(Method::of(relay)))
        .collect()
}

/// Two ends of one connection.
async fn connected(buffer_bytes: Option<usize>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (here, _) = listener.accept().await.unwrap();
    for socket in [&there, &here] {
        socket.set_nodelay(true).unwrap();
        if let Some(bytes) = buffer_bytes {
            SockRef::from(socket).set_send_buffer_size(bytes).unwrap();
            SockRef::from(socket).set_recv_buffer_size(bytes).unwrap();
        }
    }
    (there, here)
}

/// A player, a backend, and the session between them before its relay starts.
struct Rig {
    player: TcpStream,
    server: TcpStream,
    session: Session,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

/// The same while it is relayed.
struct Running {
    player: TcpStream,
    server: TcpStream,
    relay: JoinHandle<Outcome>,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

async fn rig(limits: Limits, buffer_bytes: Option<usize>) -> Rig {
    let (player, client) = connected(buffer_bytes).await;
    let (backend, server) = connected(buffer_bytes).await;
    let counters = Arc::new(Counters::default());
    let stop = CancellationToken::new();
    Rig {
        player,
        server,
        session: Session {
            client,
            backend,
            keepalive: KEEPALIVE,
            limits,
            counters: Arc::clone(&counters),
        },
        counters,
        stop,
    }
}

impl Rig {
    fn run(self, forwarder: &AnyForwarder) -> Running {
        let (session, stop) = (self.session, self.stop.clone());
        let forwarder = forwarder.clone();
        Running {
            player: self.player,
            server: self.server,
            relay: tokio::spawn(async move { forwarder.forward(session, stop).await }),
            counters: self.counters,
            stop: self.stop,
        }
    }
}

/// Waits for the outcome, and checks it against the live counters.
async fn outcome(relay: JoinHandle<Outcome>, counters: &Counters) -> Outcome {
    let outcome = timeout(PATIENCE, relay).await.unwrap().unwrap();
    assert_eq!(
        outcome.serverbound_bytes,
        counters.get(Direction::Serverbound)
    );
    assert_eq!(
        outcome.clientbound_bytes,
        counters.get(Direction::Clientbound)
    );
    outcome
}

async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    bytes
}

/// Writes until everybody stands still, because the receiver does not read; how many
/// bytes were taken.
async fn fill(socket: &mut TcpStream, pattern: &[u8]) -> usize {
    /// Nothing is taken so often for so long: once may be a delay of a busy machine.
    const ROUNDS: usize = 3;
    const STILL: Duration = Duration::from_millis(150);
    let (mut sent, mut still) = (0, 0);
    while still < ROUNDS {
        let offset = sent % pattern.len();
        match timeout(STILL, socket.write(&pattern[offset..])).await {
            Ok(written) => (sent, still) = (sent + written.unwrap(), 0),
            Err(_) => still += 1,
        }
        assert!(sent < 8 * MIB, "the proxy reads on");
    }
    sent
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
}

/// xorshift64: enough to vary chunks, and it repeats from a printed seed.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| u8::try_from(self.next(256)).unwrap())
            .collect()
    }

    /// Mostly small, as in the game; sometimes more than any buffer holds.
    fn chunk(&mut self) -> usize {
        let most = [40, 1500, 20_000, 300_000][self.next(4)];
        1 + self.next(most)
    }
}

/// The period of the test bytes. It shares no factor with the size of any buffer, so that
/// the test detects a lost, doubled or displaced byte.
const PERIOD: usize = 262_147;

async fn send(
    writer: &mut (impl AsyncWriteExt + Unpin),
    pattern: &[u8],
    total: usize,
    mut random: Random,
) {
    let mut at = 0;
    while at < total {
        let offset = at % pattern.len();
        let most = random.chunk().min(total - at).min(pattern.len() - offset);
        writer
            .write_all(&pattern[offset..offset + most])
            .await
            .unwrap();
        at += most;
        if random.next(50) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn receive(
    reader: &mut (impl AsyncReadExt + Unpin),
    pattern: &[u8],
    mut random: Random,
) -> usize {
    let mut buffer = vec![0; 300_000];
    let mut at = 0;
    loop {
        let most = random.chunk();
        let read = reader.read(&mut buffer[..most]).await.unwrap();
        if read == 0 {
            return at;
        }
        let mut seen = 0;
        while seen < read {
            let offset = (at + seen) % pattern.len();
            let part = (read - seen).min(pattern.len() - offset);
            assert!(
                buffer[seen..seen + part] == pattern[offset..offset + part],
                "wrong bytes after {}",
                at + seen
            );
            seen += part;
        }
        at += read;
    }
}

/// Without `splice(2)` every `relay` copies, with the documented warning; with it every
/// `relay` does as configured.
#[test]
fn selection_falls_back_with_a_warning() {
    for relay in [Relay::Splice, Relay::Adaptive] {
        let (chosen, warning) = resolve(relay, false);
        assert_eq!(chosen, Relay::Copy);
        assert_eq!(
            warning,
            Some(
                "ZeroCopy mode requested but splice is only available on Linux, falling back to CopyForwarder"
            )
        );
        assert_eq!(resolve(relay, true), (relay, None));
    }
    assert_eq!(resolve(Relay::Copy, false), (Relay::Copy, None));
}

/// The memory of an idle session without its sockets is bounded: its part of the
/// connection's task, and what its driver keeps.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_session_is_small() {
    let forwarders = Forwarders::start(NonZeroUsize::MIN).unwrap();
    let Rig { session, stop, .. } = rig(NO_LIMITS, None).await;
    let task_bytes = size_of_val(&forwarders.forward(Relay::Adaptive, session, stop));
    let driver_bytes = reactor::RELAYED_BYTES;
    println!("{task_bytes} bytes in the task, {driver_bytes} at the driver");
    assert!(task_bytes <= 256, "{task_bytes} bytes");
    assert!(driver_bytes <= 512, "{driver_bytes} bytes");
}

/// A session that lasts is handed over to a worker, which frees it at its end.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lasts_is_handed_over() {
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor.forwarder(Method::Copy);
    let running = rig(NO_LIMITS, None)
        .await
        .run(&AnyForwarder::Reactor(forwarder.clone()));
    assert_eq!(forwarder.handed_over(), 0, "it is young");
    until("the worker to have it", || forwarder.handed_over() > 0).await;
    drop(running.player);
    drop(running.server);
    outcome(running.relay, &running.counters).await;
    assert_eq!(forwarder.handed_over(), 0);
}
