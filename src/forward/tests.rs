//! One suite for every forwarder, over real sockets: each way of moving bytes
//! under each driver.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::*;

const MIB: usize = 1024 * 1024;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Peers in these tests live and answer probes.
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

/// What the proxy holds at most for a receiver that is behind.
#[cfg(target_os = "linux")]
const HELD_BYTES_MAX: usize = pipe::PIPE_BYTES;
#[cfg(not(target_os = "linux"))]
const HELD_BYTES_MAX: usize = COPY_BYTES;

/// Text that a backend says before it goes away.
const FINAL_TEXT: &[u8] = b"you are not whitelisted on this server";

/// A driver and a way of moving bytes.
#[derive(Clone)]
enum AnyForwarder {
    #[cfg(target_os = "linux")]
    Reactor(reactor::ReactorForwarder),
    Portable(portable::PortableForwarder),
}

impl Forwarder for AnyForwarder {
    async fn forward(&self, session: Session) -> Outcome {
        match self {
            #[cfg(target_os = "linux")]
            Self::Reactor(forwarder) => forwarder.forward(session).await,
            Self::Portable(forwarder) => forwarder.forward(session).await,
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

/// A player, a backend, and the session between them that nobody relays yet.
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
            stop: stop.clone(),
        },
        counters,
        stop,
    }
}

impl Rig {
    fn run(self, forwarder: &AnyForwarder) -> Running {
        let session = self.session;
        let forwarder = forwarder.clone();
        Running {
            player: self.player,
            server: self.server,
            relay: tokio::spawn(async move { forwarder.forward(session).await }),
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

/// Bytes whose period shares no factor with any buffer, so that a lost,
/// doubled or displaced byte shows.
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

/// Off Linux every `relay` copies, with the words that operators know; on it none does.
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

/// What an idle session costs beside its sockets, held in view: its part in
/// the task of its connection, and what its driver keeps.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_session_at_rest_is_small() {
    let forwarders = Forwarders::start(NonZeroUsize::MIN).unwrap();
    let relay = forwarders.select(Relay::Adaptive);
    let task_bytes = size_of_val(&relay.forward(rig(NO_LIMITS, None).await.session));
    let driver_bytes = reactor::RELAYED_BYTES;
    println!("{task_bytes} bytes in the task, {driver_bytes} at the driver");
    assert!(task_bytes <= 256, "{task_bytes} bytes");
    assert!(driver_bytes <= 512, "{driver_bytes} bytes");
}

/// A session that lasts leaves the runtime, and its worker lets go of it at its end.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lasts_is_handed_over() {
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor.forwarder(Method::Copy);
    let running = rig(NO_LIMITS, None)
        .await
        .run(&AnyForwarder::Reactor(forwarder.clone()));
    assert_eq!(forwarder.handed_over(), 0, "it is young");
    let handed_over = async {
        while forwarder.handed_over() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, handed_over).await.unwrap();
    drop(running.player);
    drop(running.server);
    outcome(running.relay, &running.counters).await;
    assert_eq!(forwarder.handed_over(), 0);
}

/// Random chunks both ways at once arrive byte for byte, and are all counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn bytes_are_exact_both_ways() {
    const TOTAL: usize = 32 * MIB;
    let seed =
        u64::from(std::process::id()) << 20 | u64::from(Instant::now().elapsed().subsec_nanos());
    let seed = seed ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    println!("seed {seed:#x}");
    let mut random = Random(seed | 1);
    let pattern: Arc<[u8]> = random.bytes(PERIOD).into();
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut peers = JoinSet::new();
        for socket in [running.player, running.server] {
            let (mut reader, mut writer) = socket.into_split();
            let both = [Random(random.0 ^ 5), Random(random.0 ^ 77)];
            random.next(7);
            let [out, into] = both;
            let shared = Arc::clone(&pattern);
            peers.spawn(async move {
                send(&mut writer, &shared, TOTAL, out).await;
                writer.shutdown().await.unwrap();
                // Keep the half until the peer has read it all.
                std::future::pending::<()>().await;
                0
            });
            let shared = Arc::clone(&pattern);
            peers.spawn(async move { receive(&mut reader, &shared, into).await });
        }
        for _ in 0..2 {
            let received = timeout(PATIENCE, peers.join_next()).await.unwrap();
            assert_eq!(received.unwrap().unwrap(), TOTAL, "{forwarder:?}");
        }
        let outcome = outcome(running.relay, &running.counters).await;
        assert!(matches!(outcome.end, End::Closed(_)), "{outcome:?}");
        assert_eq!(outcome.serverbound_bytes, TOTAL as u64);
        assert_eq!(outcome.clientbound_bytes, TOTAL as u64);
        assert!(!outcome.degraded);
    }
}

/// While a receiver takes nothing the proxy holds one read and takes no
/// more; afterwards everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_grow_memory() {
    const BUFFER: usize = 32 * 1024;
    // A send that moved nothing for so long means that everybody stands still.
    const STILL: Duration = Duration::from_millis(300);
    let pattern = Random(99).bytes(PERIOD);
    for forwarder in all() {
        let running = rig(NO_LIMITS, Some(BUFFER)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let mut sent = 0;
        loop {
            let offset = sent % PERIOD;
            match timeout(STILL, server.write(&pattern[offset..])).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
            assert!(sent < 8 * MIB, "{forwarder:?} reads on");
        }
        let moved = usize::try_from(running.counters.get(Direction::Clientbound)).unwrap();
        // Linux doubles the buffers asked for. On the sender's leg one buffer
        // sends and one receives, and one read or splice is in the proxy.
        let bound = 2 * 2 * BUFFER + HELD_BYTES_MAX;
        assert!(sent - moved <= bound, "{forwarder:?} {sent} {moved}");
        // The other direction is not held up by it.
        player.write_all(b"still here").await.unwrap();
        let mut answer = [0; 10];
        timeout(PATIENCE, server.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        server.shutdown().await.unwrap();
        let received = timeout(PATIENCE, receive(&mut player, &pattern, Random(3)))
            .await
            .unwrap();
        assert_eq!(received, sent);
        drop(player);
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Closed(Side::Backend));
        assert_eq!(outcome.clientbound_bytes, sent as u64);
    }
}

/// After a side has ended its stream it still receives everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_lets_the_other_side_go_on() {
    const TOTAL: usize = 4 * MIB;
    let pattern = Random(7).bytes(PERIOD);
    for forwarder in all() {
        for first in [Side::Client, Side::Backend] {
            let running = rig(NO_LIMITS, None).await.run(&forwarder);
            let (mut ends, mut goes_on) = match first {
                Side::Client => (running.player, running.server),
                Side::Backend => (running.server, running.player),
            };
            ends.write_all(FINAL_TEXT).await.unwrap();
            ends.shutdown().await.unwrap();
            assert_eq!(read_all(&mut goes_on).await, FINAL_TEXT);
            let received = {
                let sending = async {
                    send(&mut goes_on, &pattern, TOTAL, Random(11)).await;
                    goes_on.shutdown().await.unwrap();
                };
                let (received, ()) =
                    tokio::join!(receive(&mut ends, &pattern, Random(13)), sending);
                received
            };
            assert_eq!(received, TOTAL);
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::Closed(first));
            let (few, many) = match first {
                Side::Client => (outcome.serverbound_bytes, outcome.clientbound_bytes),
                Side::Backend => (outcome.clientbound_bytes, outcome.serverbound_bytes),
            };
            assert_eq!((few, many), (FINAL_TEXT.len() as u64, TOTAL as u64));
        }
    }
}

/// Reads until the connection ends; also how it ended.
async fn read_to_its_end(socket: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, socket.read_to_end(&mut bytes))
        .await
        .unwrap();
    (bytes, end)
}

/// Asserts that what is read is this, and that a reset follows it.
async fn assert_reset_after(socket: &mut TcpStream, sent: &[u8], forwarder: &AnyForwarder) {
    let (bytes, end) = read_to_its_end(socket).await;
    assert_eq!(bytes, sent, "{forwarder:?}");
    // Elsewhere nobody can tell when a reset would overtake nothing.
    if cfg!(target_os = "linux") {
        let error = end.unwrap_err().kind();
        assert_eq!(error, io::ErrorKind::ConnectionReset, "{forwarder:?}");
    }
}

/// What a side sent before its reset arrives, and after that the reset,
/// whether or not the other side was itself sending to the one that went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_forwarded_after_the_last_bytes() {
    for forwarder in all() {
        for (gone, other_sends) in [
            (Side::Backend, false),
            (Side::Backend, true),
            (Side::Client, false),
            (Side::Client, true),
        ] {
            let mut rig = rig(NO_LIMITS, None).await;
            let (mut goes, stays) = match gone {
                Side::Client => (rig.player, &mut rig.server),
                Side::Backend => (rig.server, &mut rig.player),
            };
            if other_sends {
                stays.write_all(&[1; 1000]).await.unwrap();
            }
            // Both are in the proxy's kernel before the relay looks.
            goes.write_all(FINAL_TEXT).await.unwrap();
            reset(goes);
            let session = rig.session;
            let relaying = forwarder.clone();
            let relay = tokio::spawn(async move { relaying.forward(session).await });
            assert_reset_after(stays, FINAL_TEXT, &forwarder).await;
            let outcome = outcome(relay, &rig.counters).await;
            assert_eq!(outcome.end, End::Reset(gone), "{forwarder:?}");
            let (to_gone, from_gone) = match gone {
                Side::Client => (outcome.clientbound_bytes, outcome.serverbound_bytes),
                Side::Backend => (outcome.serverbound_bytes, outcome.clientbound_bytes),
            };
            assert_eq!((to_gone, from_gone), (0, FINAL_TEXT.len() as u64));
        }
    }
}

/// A reset while a slow receiver has more coming than all buffers hold waits
/// until that has arrived: nothing is cut off before the place where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_a_stream_overtakes_nothing() {
    let pattern = Random(31).bytes(PERIOD);
    for forwarder in all() {
        let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let mut sent = 0;
        // Fill everything between them, so that much is still on its way.
        while let Ok(written) = timeout(
            Duration::from_millis(200),
            server.write(&pattern[sent % PERIOD..]),
        )
        .await
        {
            sent += written.unwrap();
        }
        // What the proxy has not read when the reset comes is lost with the
        // sender; all that it had read arrives.
        reset(server);
        let (bytes, end) = read_to_its_end(&mut player).await;
        assert!(
            bytes
                .iter()
                .zip(pattern.iter().cycle())
                .all(|(a, b)| a == b)
        );
        assert_eq!(end.is_err(), cfg!(target_os = "linux"), "{forwarder:?}");
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Reset(Side::Backend), "{forwarder:?}");
        assert_eq!(outcome.clientbound_bytes, bytes.len() as u64);
    }
}

/// A side that has ended its stream and then refuses what the other still
/// sends: the other gets a reset, as without a proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_receiver_resets_its_sender() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut server = running.server;
        drop(running.player);
        assert_eq!(read_all(&mut server).await, b"");
        while server.write_all(b"tick").await.is_ok() {
            tokio::task::yield_now().await;
        }
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Closed(Side::Client), "{forwarder:?}");
    }
}

/// A receiver that vanishes in the middle of a stream does not keep the
/// sender's last bytes from the other direction, nor the session alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_error_lets_the_other_direction_drain() {
    let limits = Limits {
        half_close: Duration::from_millis(500),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let running = rig(limits, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        // The proxy is stuck with bytes for a player that reads nothing.
        let sending = tokio::spawn(async move {
            while server.write_all(&[7; 65_536]).await.is_ok() {}
            server
        });
        player.readable().await.unwrap();
        player.write_all(FINAL_TEXT).await.unwrap();
        let words = FINAL_TEXT.len() as u64;
        while running.counters.get(Direction::Serverbound) < words {
            tokio::task::yield_now().await;
        }
        // Unread bytes turn this close into a reset.
        drop(player);
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end.side(), Some(Side::Client));
        assert_eq!(outcome.serverbound_bytes, words);
        let mut server = timeout(PATIENCE, sending).await.unwrap().unwrap();
        let mut heard = vec![0; FINAL_TEXT.len()];
        // The reset of the connection may have come by now; what was received is still there.
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, FINAL_TEXT);
    }
}

/// Hundreds of sessions on few workers, small messages, no cross-talk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_at_once() {
    const SESSIONS: u32 = 300;
    const MESSAGES: u32 = 20;
    for forwarder in all() {
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            let running = rig(NO_LIMITS, None).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            sessions.spawn(async move {
                for message in 0..MESSAGES {
                    let sent = [number.to_be_bytes(), message.to_be_bytes()].concat();
                    let mut heard = [0; 8];
                    player.write_all(&sent).await.unwrap();
                    server.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard[..], sent[..]);
                    server.write_all(&heard).await.unwrap();
                    player.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard[..], sent[..]);
                }
                drop(player);
                assert_eq!(read_all(&mut server).await, b"");
                drop(server);
                outcome(running.relay, &running.counters).await
            });
        }
        while let Some(outcome) = timeout(PATIENCE, sessions.join_next()).await.unwrap() {
            let outcome = outcome.unwrap();
            let bytes = u64::from(MESSAGES) * 8;
            assert_eq!(outcome.serverbound_bytes, bytes);
            assert_eq!(outcome.clientbound_bytes, bytes);
            assert_eq!(outcome.end, End::Closed(Side::Client));
        }
    }
}

/// Not before the limit, and a quarter of it later at most (and what a busy machine adds).
fn assert_about(limit: Duration, since: Instant) {
    let took = since.elapsed();
    let slack = Duration::from_millis(400);
    assert!(
        took >= limit && took <= limit * 5 / 4 + slack,
        "{took:?} for {limit:?}"
    );
}

/// A silent direction ends the session though the other one is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_limit() {
    let limit = Duration::from_millis(400);
    let limits = Limits {
        read: Some(limit),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let mut running = rig(limits, None).await.run(&forwarder);
        running.player.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        running.server.read_exact(&mut heard).await.unwrap();
        let since = Instant::now();
        let mut server = running.server;
        let busy = tokio::spawn(async move {
            while server.write_all(b"tick").await.is_ok() {
                tokio::time::sleep(limit / 10).await;
            }
        });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::ReadTimeout(Direction::Serverbound));
        assert!(since.elapsed() >= limit.saturating_sub(Duration::from_millis(20)));
        assert_about(limit, since - Duration::from_millis(20));
        assert!(outcome.clientbound_bytes >= 4);
        busy.await.unwrap();
    }
}

/// Bytes that wait for a receiver that does not read end the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_limit() {
    let limit = Duration::from_millis(400);
    let limits = Limits {
        write: Some(limit),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let running = rig(limits, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let since = Instant::now();
        let flood =
            tokio::spawn(async move { while server.write_all(&[7; 65_536]).await.is_ok() {} });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::WriteTimeout(Direction::Clientbound));
        assert_about(limit, since);
        flood.await.unwrap();
        // Counted is what the player's side was given, to the byte.
        let received = read_all(&mut player).await;
        assert_eq!(received.len() as u64, outcome.clientbound_bytes);
    }
}

/// After one side's end the other is cut off, whether it is silent or in the
/// middle of sending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_limit() {
    let limit = Duration::from_millis(300);
    let limits = Limits {
        half_close: limit,
        ..NO_LIMITS
    };
    for forwarder in all() {
        for busy in [false, true] {
            let running = rig(limits, None).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            let since = Instant::now();
            player.shutdown().await.unwrap();
            let other = tokio::spawn(async move {
                while busy && server.write_all(b"tick").await.is_ok() {
                    tokio::time::sleep(limit / 10).await;
                }
                server
            });
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::HalfCloseTimeout(Side::Client));
            assert_about(limit, since);
            assert_eq!(
                read_all(&mut player).await.len() as u64,
                outcome.clientbound_bytes
            );
            drop(other.await.unwrap());
        }
    }
}

/// A peer that sends and reads one byte at a time gets every one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_bytes() {
    const TOTAL: usize = 5000;
    let sent = Random(41).bytes(TOTAL);
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let sending = async {
            for byte in &sent {
                player.write_all(&[*byte]).await.unwrap();
            }
            player.shutdown().await.unwrap();
        };
        let receiving = async {
            for (at, byte) in sent.iter().enumerate() {
                assert_eq!(server.read_u8().await.unwrap(), *byte, "{at}");
            }
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        };
        timeout(PATIENCE, async { tokio::join!(sending, receiving) })
            .await
            .unwrap();
    }
}

/// A side that never stops sending to one that is gone is cut off at once, and
/// the cause stays what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_to_nobody_is_cut_off() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut server = running.server;
        reset(running.player);
        let busy =
            tokio::spawn(async move { while server.write_all(&[7; 65_536]).await.is_ok() {} });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Reset(Side::Client), "{forwarder:?}");
        busy.await.unwrap();
    }
}

/// A stop ends a busy session and an idle one at once; the counts say what arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_is_immediate_and_counts_are_true() {
    for forwarder in all() {
        for busy in [false, true] {
            let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            server.write_all(FINAL_TEXT).await.unwrap();
            player.readable().await.unwrap();
            let flood = tokio::spawn(async move {
                while busy && server.write_all(&[7; 65_536]).await.is_ok() {}
                server
            });
            running.stop.cancel();
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::Stopped);
            assert!(outcome.clientbound_bytes >= FINAL_TEXT.len() as u64);
            let received = read_all(&mut player).await;
            assert_eq!(received.len() as u64, outcome.clientbound_bytes);
            flood.await.unwrap();
        }
    }
}

/// A relay whose future is dropped closes both sockets and leaves true counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_relay_leaves_true_counts() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        server.write_all(FINAL_TEXT).await.unwrap();
        player.readable().await.unwrap();
        running.relay.abort();
        assert!(running.relay.await.unwrap_err().is_cancelled());
        assert_eq!(read_all(&mut server).await, b"");
        let received = read_all(&mut player).await;
        assert_eq!(
            received.len() as u64,
            running.counters.get(Direction::Clientbound)
        );
    }
}

/// A future that moves to another task hears of the stop and of its limits there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_move_between_tasks() {
    for limits in [
        NO_LIMITS,
        Limits {
            read: Some(Duration::from_millis(300)),
            ..NO_LIMITS
        },
    ] {
        for forwarder in drivers(Method::Copy) {
            let rig = rig(limits, None).await;
            let session = rig.session;
            let mut relay = Box::pin(async move { forwarder.forward(session).await });
            let nudge = Duration::from_millis(20);
            assert!(timeout(nudge, &mut relay).await.is_err());
            let relay = tokio::spawn(relay);
            tokio::time::sleep(nudge).await;
            if limits.read.is_none() {
                rig.stop.cancel();
            }
            let outcome = outcome(relay, &rig.counters).await;
            match limits.read {
                None => assert_eq!(outcome.end, End::Stopped),
                Some(_) => assert!(matches!(outcome.end, End::ReadTimeout(_))),
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod pipes {
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicUsize;

    use nix::errno::Errno;

    use super::adaptive::CopyOrSplice;
    use super::*;

    async fn relay_four_mib(forwarder: &AnyForwarder) -> Outcome {
        const TOTAL: usize = 4 * MIB;
        let pattern = Random(21).bytes(PERIOD);
        let running = rig(NO_LIMITS, None).await.run(forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let sending = async {
            send(&mut server, &pattern, TOTAL, Random(22)).await;
            server.shutdown().await.unwrap();
        };
        let (received, ()) = tokio::join!(receive(&mut player, &pattern, Random(23)), sending);
        assert_eq!(received, TOTAL);
        drop(player);
        outcome(running.relay, &running.counters).await
    }

    /// Where no pipe can be made the session copies, and its outcome says so.
    #[tokio::test]
    async fn without_pipes_sessions_copy() {
        let none: pipe::MakePipe = || Err(Errno::EMFILE.into());
        let methods = [
            Method::Splice(none),
            Method::Adaptive(none, CopyOrSplice::default()),
        ];
        for forwarder in methods.into_iter().flat_map(drivers) {
            let outcome = relay_four_mib(&forwarder).await;
            // What is adaptive may have had no read that asked for a pipe.
            let splices = format!("{forwarder:?}").contains("Splice");
            assert!(outcome.degraded || !splices);
            assert_eq!(outcome.end, End::Closed(Side::Backend));
        }
    }

    /// Where the kernel cannot splice from a socket the session copies.
    #[tokio::test]
    async fn without_splice_sessions_copy() {
        let useless: pipe::MakePipe = || {
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            Ok(pipe::Pipe::new(
                OwnedFd::from(null.try_clone()?),
                OwnedFd::from(null),
                0,
            ))
        };
        for forwarder in drivers(Method::Splice(useless)) {
            assert!(relay_four_mib(&forwarder).await.degraded);
        }
    }

    /// Bytes that are in a pipe already when the kernel refuses to splice further
    /// are copied out of it.
    #[tokio::test]
    async fn bytes_of_a_pipe_are_copied_where_they_cannot_be_spliced() {
        let half: pipe::MakePipe = || {
            let pipe::Pipe { read, write, .. } = pipe::make()?;
            // It is never full, and closed by nobody.
            std::mem::forget(read);
            let zeros = OpenOptions::new().read(true).open("/dev/zero")?;
            Ok(pipe::Pipe::new(OwnedFd::from(zeros), write, 0))
        };
        for forwarder in drivers(Method::Splice(half)) {
            let mut running = rig(NO_LIMITS, None).await.run(&forwarder);
            running.server.write_all(b"hello").await.unwrap();
            let mut heard = [1; 5];
            timeout(PATIENCE, running.player.read_exact(&mut heard))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(heard, [0; 5], "they come from the pipe");
            running.server.write_all(b"again").await.unwrap();
            running.player.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"again");
            drop((running.player, running.server));
            let outcome = outcome(running.relay, &running.counters).await;
            assert!(outcome.degraded);
            assert_eq!(outcome.clientbound_bytes, 10);
        }
    }

    /// splice(2) never gets past a byte that TCP marks as urgent, and the socket
    /// stays readable: what follows it is relayed all the same, also at the end.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bytes_behind_an_urgent_one_arrive() {
        let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
        let forwarder = reactor
            .forwarder(Method::of(Relay::Splice))
            .with_handover_delay(Duration::ZERO);
        for is_end in [false, true] {
            let mut running = rig(NO_LIMITS, None)
                .await
                .run(&AnyForwarder::Reactor(forwarder.clone()));
            while forwarder.handed_over() == 0 {
                tokio::task::yield_now().await;
            }
            greet(&mut running).await;
            SockRef::from(&running.player)
                .send_out_of_band(b"!")
                .unwrap();
            running.player.write_all(FINAL_TEXT).await.unwrap();
            if is_end {
                running.player.shutdown().await.unwrap();
                assert_eq!(read_all(&mut running.server).await, FINAL_TEXT);
            } else {
                let mut heard = vec![0; FINAL_TEXT.len()];
                timeout(PATIENCE, running.server.read_exact(&mut heard))
                    .await
                    .unwrap()
                    .unwrap();
                assert_eq!(heard, FINAL_TEXT);
                greet(&mut running).await;
            }
            drop((running.player, running.server));
            assert!(outcome(running.relay, &running.counters).await.degraded);
        }
    }

    /// The same holds while the runtime still drives the session, whose task
    /// would take the end that splice(2) reports for the end of the stream.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bytes_behind_an_urgent_one_arrive_in_a_young_session() {
        let forwarder = portable::PortableForwarder(Method::of(Relay::Splice));
        let mut running = rig(NO_LIMITS, None)
            .await
            .run(&AnyForwarder::Portable(forwarder));
        greet(&mut running).await;
        SockRef::from(&running.player)
            .send_out_of_band(b"!")
            .unwrap();
        running.player.write_all(FINAL_TEXT).await.unwrap();
        running.player.shutdown().await.unwrap();
        assert_eq!(read_all(&mut running.server).await, FINAL_TEXT);
        drop((running.player, running.server));
        assert!(outcome(running.relay, &running.counters).await.degraded);
    }

    /// Says hello both ways.
    async fn greet(running: &mut Running) {
        let mut heard = [0; 5];
        running.player.write_all(b"hello").await.unwrap();
        running.server.read_exact(&mut heard).await.unwrap();
        running.server.write_all(b"hello").await.unwrap();
        running.player.read_exact(&mut heard).await.unwrap();
    }

    /// Twenty idle sessions hold no pipe: the pipe of each pool serves all their messages,
    /// one after the other.
    #[tokio::test]
    async fn idle_sessions_hold_no_pipe() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let counting: pipe::MakePipe = || {
            MADE.fetch_add(1, Ordering::Relaxed);
            pipe::make()
        };
        let mut idle = Vec::new();
        for forwarder in drivers(Method::Splice(counting)) {
            for _ in 0..20 {
                let mut running = rig(NO_LIMITS, None).await.run(&forwarder);
                greet(&mut running).await;
                idle.push(running);
            }
        }
        // One of this thread, and one of the reactor's.
        let made = MADE.load(Ordering::Relaxed);
        assert!((1..=2).contains(&made), "{made} pipes");
    }

    /// A splice that ends because the pipe has no slot left does not count as one that
    /// has emptied the socket.
    #[tokio::test]
    async fn a_full_pipe_hides_no_bytes() {
        const BYTES: usize = 64 * 1024;
        let small: pipe::MakePipe = || pipe::make_of(1);
        for forwarder in drivers(Method::Splice(small)) {
            let mut rig = rig(NO_LIMITS, None).await;
            rig.server.write_all(&[7; BYTES]).await.unwrap();
            let mut running = rig.run(&forwarder);
            let mut read = vec![0; BYTES];
            let read = timeout(PATIENCE, running.player.read_exact(&mut read)).await;
            assert_eq!(read.unwrap().unwrap(), BYTES, "{forwarder:?}");
        }
    }

    /// A pipe that a session leaves with bytes in it serves no other session.
    #[tokio::test]
    async fn a_pipe_with_bytes_is_never_lent_again() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let counting: pipe::MakePipe = || {
            MADE.fetch_add(1, Ordering::Relaxed);
            pipe::make()
        };
        // The runtime's pool is of this thread, and of no other test.
        let forwarder =
            AnyForwarder::Portable(portable::PortableForwarder(Method::Splice(counting)));
        let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
        let mut server = running.server;
        let still = Duration::from_millis(200);
        while timeout(still, server.write(&[7; 65_536])).await.is_ok() {}
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
        running.stop.cancel();
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Stopped);
        let mut next = rig(NO_LIMITS, None).await.run(&forwarder);
        greet(&mut next).await;
        assert_eq!(MADE.load(Ordering::Relaxed), 2);
    }
}

/// A session of 26.2 in play whose frames are walked, under the reactor.
#[cfg(target_os = "linux")]
struct FramedRig {
    player: TcpStream,
    server: TcpStream,
    outbox: Arc<Outbox>,
    relay: JoinHandle<Outcome>,
}

#[cfg(target_os = "linux")]
impl FramedRig {
    async fn start(handover_delay: Duration) -> Self {
        use crate::protocol::codec::{Format, Receiver};
        use crate::protocol::packet::{State, Version};
        use framed::FrameFilter;
        use packets::{Edits, SentState};

        let Rig {
            player,
            server,
            session,
            ..
        } = rig(NO_LIMITS, None).await;
        let version = Version::of(776).unwrap();
        let to = Receiver {
            format: Format::Plain,
            strict: true,
        };
        let sent = SentState::new(State::Play);
        let (of_client, of_backend) = bounds::bounds();
        let edits = Edits::default();
        let clientbound =
            FrameFilter::clientbound(version, Format::Plain, to, sent, None, edits, of_backend);
        let of_client = Box::new(of_client);
        let serverbound =
            FrameFilter::serverbound(version, Format::Plain, to, State::Play, None, of_client);
        let outbox = Arc::new(Outbox::default());
        let filters = FrameFilters {
            serverbound: Box::new(serverbound),
            clientbound: Box::new(clientbound),
            outbox: Some(Arc::clone(&outbox)),
        };
        let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
        let forwarder = reactor
            .forwarder(Method::Copy)
            .with_handover_delay(handover_delay);
        let relay = async move { forwarder.forward_framed(session, filters).await.0 };
        let relay = tokio::spawn(relay);
        Self {
            player,
            server,
            outbox,
            relay,
        }
    }

    fn put(&self, direction: Direction, packet: &[u8]) {
        let packets = vec![packet.to_vec()];
        self.outbox.put(direction, 1, packets).unwrap();
    }

    /// The backend sends packets without fields.
    async fn send(&mut self, ids: &[u8]) {
        let frames: Vec<u8> = ids.iter().flat_map(|id| [1, *id]).collect();
        self.server.write_all(&frames).await.unwrap();
    }

    /// The player reads these packets, and nothing between them.
    async fn read(&mut self, ids: &[u8]) {
        let expected: Vec<u8> = ids.iter().flat_map(|id| [1, *id]).collect();
        let mut read = vec![0; expected.len()];
        let reading = self.player.read_exact(&mut read);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(read, expected);
    }
}

/// Packets of others reach an idle session in both directions, while the runtime
/// drives it and after its handover.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn others_wake_an_idle_session() {
    for handover_delay in [Duration::ZERO, PATIENCE] {
        let mut rig = FramedRig::start(handover_delay).await;
        rig.send(&[0x7C]).await;
        rig.read(&[0x7C]).await;
        for id in [1, 2, 3] {
            rig.put(Direction::Clientbound, &[id]);
            rig.read(&[id]).await;
            rig.put(Direction::Serverbound, &[id]);
            let mut read = [0; 2];
            let reading = rig.server.read_exact(&mut read);
            timeout(PATIENCE, reading).await.unwrap().unwrap();
            assert_eq!(read, [1, id]);
        }
        drop((rig.player, rig.server));
        rig.relay.await.unwrap();
    }
}

/// Packets of others wait until the client is in the game, and until a bundle is
/// closed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn others_wait_for_the_game() {
    use crate::protocol::packet::{Clientbound, State, Version};
    let version = Version::of(776).unwrap();
    let id = |state, kind| version.id(state, kind).unwrap();
    let start = id(State::Play, Clientbound::StartConfiguration);
    let finish = id(State::Configuration, Clientbound::FinishConfiguration);
    let join = id(State::Play, Clientbound::JoinGame);
    let bundle = id(State::Play, Clientbound::BundleDelimiter);
    for handover_delay in [Duration::ZERO, PATIENCE] {
        let mut rig = FramedRig::start(handover_delay).await;
        rig.send(&[start]).await;
        rig.read(&[start]).await;
        rig.put(Direction::Clientbound, &[1]);
        rig.send(&[finish, 0x7C]).await;
        rig.read(&[finish, 0x7C]).await;
        rig.send(&[join]).await;
        rig.read(&[join, 1]).await;
        rig.send(&[bundle]).await;
        rig.read(&[bundle]).await;
        rig.put(Direction::Clientbound, &[2]);
        rig.send(&[0x7C]).await;
        rig.read(&[0x7C]).await;
        rig.send(&[bundle, 0x7C]).await;
        rig.read(&[bundle, 0x7C, 2]).await;
        drop((rig.player, rig.server));
        rig.relay.await.unwrap();
    }
}
