//! Random sessions over real sockets: a player who reads and writes in random pieces, servers
//! that do the same, plugins that decide and packets that are put in at random moments, and
//! moves from one server to the next. Every byte that a side gets is checked.
//!
//! Each session follows from its seed, apart from the timing. The seeds of the usual run are
//! few; `INFRARUST_SEEDS=1000..2000` runs others.

#![allow(clippy::unwrap_used)]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use infrarust_test_support::PATIENCE;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::encryption_tests::{filters, session};
use super::framed::{FrameFilters, ReturnedClient};
use super::lane::Method;
use super::packets::SentState;
use super::queries::{Decider, Decision, PacketGroup, PacketQueries, Wanted};
use super::reactor::Reactor;
use super::record::PlayerRecord;
use super::{Direction, End, Outbox, Outcome, Side};
use crate::protocol::cipher::{Cipher, Ciphers};
use crate::protocol::codec::{
    self, CLIENTBOUND_PACKET_BYTES_MAX, Format, SERVERBOUND_PACKET_BYTES_MAX, Zlib,
};
use crate::protocol::packet::State;

/// The seeds of the usual run.
const SEEDS: Range<u64> = 0..40;
/// Small socket buffers. With smaller ones for receiving, or with the large segments of the
/// loopback device, the kernel drops segments and waits longer and longer to send them again.
const SENDER_BYTES: usize = 8 * 1024;
const RECEIVER_BYTES: usize = 32 * 1024;
const SEGMENT_BYTES: u32 = 1400;
const SECRET: [u8; 16] = [7; 16];
/// The most sessions at once.
const RUNNING_MAX: usize = 16;
/// The most servers of one session.
const SERVERS_MAX: u64 = 4;

// Packets of 1.12.2 that the proxy does not read.
/// From a server, and one that plugins want.
const DOWN: u8 = 0x26;
const WANTED_DOWN: u8 = 0x0F;
/// From a player, and one that plugins want.
const UP: u8 = 0x0D;
const WANTED_UP: u8 = 0x0E;
/// Put into the session.
const INJECTED: u8 = 0x22;
/// Written to the player between two servers.
const MARK: u8 = 0x23;

/// A connection whose sender soon waits for its receiver.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let there = TcpSocket::new_v4().unwrap();
    for socket in [SockRef::from(&listener), SockRef::from(&there)] {
        socket.set_tcp_mss(SEGMENT_BYTES).unwrap();
        socket.set_recv_buffer_size(RECEIVER_BYTES).unwrap();
    }
    let there = there.connect(address).await.unwrap();
    let (here, _) = listener.accept().await.unwrap();
    for socket in [&there, &here] {
        socket.set_nodelay(true).unwrap();
        let socket = SockRef::from(socket);
        socket.set_send_buffer_size(SENDER_BYTES).unwrap();
    }
    (there, here)
}

/// Random numbers (SplitMix64).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    /// Independent of those with other numbers.
    fn of(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Lets others run, mostly for a short time.
    async fn pause(&mut self) {
        match self.below(12) {
            0 => sleep(Duration::from_micros(self.below(4000) as u64)).await,
            1..=3 => {
                for _ in 0..self.below(20) {
                    yield_now().await;
                }
            }
            _ => {}
        }
    }
}

/// A packet of a sender, with its number and content that follow from the seed. Those of a
/// server have the server's number, and those of the player 255.
fn packet(seed: u64, sender: u8, number: u32) -> Vec<u8> {
    let mut random = Random::of(seed, (1000 + u64::from(sender)) << 32 | u64::from(number));
    let ids = match sender {
        PLAYER => [UP, WANTED_UP],
        _ => [DOWN, WANTED_DOWN],
    };
    let id = ids[usize::from(random.one_in(4))];
    let mut packet = [&[id, sender][..], &number.to_be_bytes()].concat();
    let size = match random.below(60) {
        0 => random.below(60_000),
        1..=8 => random.below(3000),
        _ => random.below(100),
    };
    match random.one_in(2) {
        true => packet.resize(packet.len() + size, random.byte()),
        false => packet.extend((0..size).map(|_| random.byte())),
    }
    packet
}

const PLAYER: u8 = 255;

/// What plugins decide about a packet.
fn decision(packet: &[u8]) -> Decision {
    let replaced = || [&[packet[0] ^ 1, packet[1]][..], &packet[2..6], b"instead"].concat();
    match packet[5] % 8 {
        0 => Decision::Drop(None),
        1 => Decision::Drop(Some(replaced())),
        2 => Decision::Change([packet, &[1]].concat()),
        _ => Decision::Pass,
    }
}

/// The packet that the receiver gets, if it gets one.
fn expected(packet: Vec<u8>, has_plugins: bool) -> Option<Vec<u8>> {
    if !has_plugins || ![WANTED_DOWN, WANTED_UP].contains(&packet[0]) {
        return Some(packet);
    }
    match decision(&packet) {
        Decision::Pass => Some(packet),
        Decision::Change(other) => Some(other),
        Decision::Drop(other) => other,
    }
}

/// How the session with a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The proxy stops it, as for a switch or at its own end.
    Stopped,
    /// The server ends its stream after its last packet.
    Finished,
    /// The server ends its stream in the middle of a packet.
    Cut,
    /// The server resets the connection at any time.
    Reset,
    /// The player ends the stream after the last packet, and the server after that.
    PlayerFinished,
    /// The player resets the connection at any time.
    PlayerReset,
}

/// A session, as it follows from its seed.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    of_player: Format,
    is_encrypted: bool,
    has_plugins: bool,
    /// How many packets the player sends in all.
    up: u32,
    servers: Vec<ServerPlan>,
}

#[derive(Debug, Clone, Copy)]
struct ServerPlan {
    format: Format,
    handover_delay: Duration,
    /// How many packets it sends.
    down: u32,
    ending: Ending,
}

fn format(random: &mut Random) -> Format {
    let formats = [
        Format::Plain,
        Format::Compressed { threshold: 0 },
        Format::Compressed { threshold: 64 },
        Format::Compressed { threshold: 256 },
    ];
    formats[random.below(4)]
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, 1);
        let count = 1 + random.below(SERVERS_MAX);
        let server = |index: usize, random: &mut Random| {
            let mut endings = vec![
                Ending::Stopped,
                Ending::Finished,
                Ending::Cut,
                Ending::Reset,
            ];
            if index + 1 == count {
                endings.extend([Ending::PlayerFinished, Ending::PlayerReset]);
            }
            ServerPlan {
                format: format(random),
                handover_delay: match random.below(4) {
                    0 => PATIENCE,
                    1 => Duration::from_micros(random.below(5000) as u64),
                    _ => Duration::ZERO,
                },
                down: u32::try_from(random.below(600)).unwrap(),
                ending: endings[random.below(endings.len() as u64)],
            }
        };
        Self {
            seed,
            of_player: format(&mut random),
            is_encrypted: random.one_in(2),
            has_plugins: random.one_in(2),
            up: u32::try_from(random.below(500)).unwrap(),
            servers: (0..count).map(|index| server(index, &mut random)).collect(),
        }
    }
}

/// What all sessions share: a thread that relays them, which encrypts several at once, and
/// plugins, which begin with the packets of several at once.
#[derive(Debug, Clone)]
struct Shared {
    reactor: Reactor,
    plugins: Arc<Plugins>,
}

/// Decides about packets some time after it was let begin.
#[derive(Debug)]
struct Plugins {
    waiting: Mutex<Vec<Asked>>,
    begun: UnboundedSender<Asked>,
}

type Asked = (Arc<PacketQueries>, Direction, PacketGroup);

impl Decider for Plugins {
    fn decide(&self, queries: &Arc<PacketQueries>, direction: Direction, group: PacketGroup) {
        let asked = (Arc::clone(queries), direction, group);
        self.waiting.lock().unwrap().push(asked);
    }

    fn begin(&self) {
        for asked in self.waiting.lock().unwrap().drain(..) {
            let _ = self.begun.send(asked);
        }
    }
}

/// Decides about the packets of all sessions. Groups do not wait for each other.
async fn decide_all(mut begun: UnboundedReceiver<Asked>) {
    let mut random = Random(0);
    while let Some((queries, direction, PacketGroup { packets, .. })) = begun.recv().await {
        let mut random = Random(random.next());
        tokio::spawn(async move {
            random.pause().await;
            let count = 1 + random.below(packets.len() as u64);
            let decisions = packets.iter().take(count);
            let decisions = decisions.map(|packet| decision(packet)).collect();
            if let Some(waker) = queries.answer(direction, decisions) {
                waker.wake();
            }
        });
    }
}

/// Puts packets into the session of the server with this number, and counts them.
async fn inject(outbox: Arc<Outbox>, server: u8, counts: [Arc<AtomicU32>; 2], mut random: Random) {
    for _ in 0..random.below(60) {
        random.pause().await;
        let direction = match random.one_in(2) {
            true => Direction::Clientbound,
            false => Direction::Serverbound,
        };
        let count = &counts[direction as usize];
        let first = count.load(Ordering::SeqCst);
        let put = 1 + u32::try_from(random.below(3)).unwrap();
        let packets = (first..first + put).map(|number| injected(server, number));
        // Before, since it may arrive at once.
        count.store(first + put, Ordering::SeqCst);
        if outbox.put(direction, 1, packets.collect()).is_err() {
            count.store(first, Ordering::SeqCst);
        }
    }
}

fn injected(server: u8, number: u32) -> Vec<u8> {
    let mut packet = [&[INJECTED, server][..], &number.to_be_bytes()].concat();
    packet.resize(6 + number as usize * 37 % 500, server);
    packet
}

/// Writes frames in random pieces, faster than they are read or not. Reports whether all were
/// taken.
async fn write(socket: &mut OwnedWriteHalf, mut bytes: &[u8], random: &mut Random) -> bool {
    let is_fast = random.one_in(2);
    while !bytes.is_empty() {
        let most = match (is_fast, random.one_in(3)) {
            (true, _) => 60_000,
            (false, true) => 10,
            (false, false) => 6000,
        };
        let piece = bytes.len().min(1 + random.below(most));
        let (piece, rest) = bytes.split_at(piece);
        if socket.write_all(piece).await.is_err() {
            return false;
        }
        bytes = rest;
        if !is_fast {
            random.pause().await;
        }
    }
    true
}

/// Reads packets in random pieces until the stream ends or fails. Returns them, and the
/// number of bytes.
async fn read(
    socket: &mut OwnedReadHalf,
    format: Format,
    mut cipher: Option<Cipher>,
    mut random: Random,
) -> Received {
    let mut received = Received::default();
    let (mut rest, mut zlib) = (Vec::new(), Zlib::default());
    let mut buffer = vec![0; 8192];
    let is_slow = random.one_in(2);
    received.end = loop {
        if is_slow {
            sleep(Duration::from_micros(random.below(3000) as u64)).await;
            if random.one_in(20) {
                sleep(Duration::from_millis(random.below(30) as u64)).await;
            }
        }
        random.pause().await;
        let most = if random.one_in(4) { 20 } else { 8192 };
        let room = 1 + random.below(most);
        let bytes = match socket.read(&mut buffer[..room]).await {
            Ok(0) => break Ok(()),
            Ok(bytes) => bytes,
            Err(error) => break Err(error.kind()),
        };
        received.bytes += bytes as u64;
        let bytes = &mut buffer[..bytes];
        if let Some(cipher) = &mut cipher {
            cipher.decrypt(bytes);
        }
        rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(frame) =
            codec::split(&rest[at..], format, CLIENTBOUND_PACKET_BYTES_MAX).expect("a frame")
        {
            let packet = zlib.packet(&frame).expect("a packet");
            received.packets.push(packet.to_vec());
            at += frame.wire.len();
        }
        rest.drain(..at);
    };
    received.rest_bytes = rest.len();
    received
}

#[derive(Debug)]
struct Received {
    packets: Vec<Vec<u8>>,
    bytes: u64,
    /// Of an incomplete frame at the end.
    rest_bytes: usize,
    end: Result<(), io::ErrorKind>,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            packets: Vec::new(),
            bytes: 0,
            rest_bytes: 0,
            end: Ok(()),
        }
    }
}

type Returned = ReturnedClient<std::net::TcpStream>;

/// The player's connection between two servers.
struct Between {
    socket: TcpStream,
    ciphers: Option<Ciphers>,
    carried: Vec<u8>,
    sent: SentState,
}

/// What was seen of the session with one server.
struct Seen {
    /// `None` if the server was lost.
    received: Option<Received>,
    /// How many packets were put into the session, for each direction.
    injected: [u32; 2],
    outcome: Outcome,
    /// Bytes that were written to the player after the relay.
    written_bytes: usize,
}

/// The player, while the session is with a server.
struct PlayerTasks {
    reads: JoinHandle<Received>,
    writes: JoinHandle<()>,
    /// Lets the player end the stream after the last packet.
    finishes: CancellationToken,
}

impl Plan {
    fn cipher(&self) -> Option<Cipher> {
        self.is_encrypted.then(|| Cipher::new(&SECRET))
    }

    fn filters(&self, server: &ServerPlan, between: &mut Between) -> FrameFilters {
        let ciphers = between.ciphers.take();
        let mut filters = filters(self.of_player, server.format, between.sent, ciphers);
        filters.serverbound.carry(&between.carried);
        filters.set_record(&PlayerRecord::default());
        filters
    }

    /// Runs the session, and checks what all sides have got.
    async fn run(self, shared: Shared) {
        let (player, client) = connected().await;
        if self.servers.last().unwrap().ending == Ending::PlayerReset {
            let linger = SockRef::from(&player).set_linger(Some(Duration::ZERO));
            linger.unwrap();
        }
        let (mut reading, writing) = player.into_split();
        let (format, cipher, random) = (self.of_player, self.cipher(), Random::of(self.seed, 2));
        let reads = async move { read(&mut reading, format, cipher, random).await };
        let finishes = CancellationToken::new();
        let writes = write_as_player(
            writing,
            self.stream(),
            Random::of(self.seed, 3),
            finishes.clone(),
        );
        let player = PlayerTasks {
            reads: tokio::spawn(reads),
            writes: tokio::spawn(writes),
            finishes,
        };
        let mut between = Some(Between {
            socket: client,
            ciphers: self.is_encrypted.then(|| Ciphers::new(&SECRET)),
            carried: Vec::new(),
            sent: SentState::new(State::Play),
        });
        let mut seen = Vec::new();
        for number in 0..self.servers.len() {
            let Some(before) = between.take() else {
                break;
            };
            let session = self.with_server(number, before, &player, &shared);
            let (returned, mut one) = session.await;
            if let Some(returned) = returned {
                (one.written_bytes, between) = self.leave(number, returned).await;
            }
            seen.push(one);
        }
        let is_lost = between.is_none();
        // Closing it with unread bytes would be a reset.
        let unread = between.map(|between| tokio::spawn(read_away(between.socket)));
        let received = timeout(PATIENCE, player.reads).await.expect("it ends");
        if self.servers.last().unwrap().ending != Ending::PlayerReset {
            assert!(!is_lost, "{self:?}");
            self.check_player(&seen, &received.unwrap());
        }
        player.writes.abort();
        if let Some(unread) = unread {
            unread.await.unwrap();
        }
        self.check_servers(&seen);
    }

    /// The player's bytes.
    fn stream(&self) -> Vec<u8> {
        let (mut zlib, mut bytes) = (Zlib::default(), Vec::new());
        for number in 0..self.up {
            let packet = packet(self.seed, PLAYER, number);
            zlib.write(&packet, self.of_player, &mut bytes).unwrap();
        }
        if let Some(mut cipher) = self.cipher() {
            cipher.encrypt(&mut bytes);
        }
        bytes
    }

    /// Continues with the player after a server, as a move does: what the player has not got
    /// yet is written, and a mark behind it. Returns how many bytes that was.
    async fn leave(&self, number: usize, returned: Returned) -> (usize, Option<Between>) {
        let Returned {
            client,
            backlog: mut bytes,
            mut ciphers,
            format,
            sent,
            input,
            fault,
        } = returned;
        assert_eq!(fault, None, "{self:?}");
        let mut mark = Vec::new();
        let packet = [MARK, u8::try_from(number).unwrap()];
        Zlib::default().write(&packet, format, &mut mark).unwrap();
        if let Some(ciphers) = &mut ciphers {
            ciphers.encrypt.encrypt(&mut mark);
        }
        bytes.extend(mark);
        let mut socket = TcpStream::from_std(client).unwrap();
        let written = timeout(PATIENCE, socket.write_all(&bytes)).await;
        if written.expect("the player reads").is_err() {
            return (0, None);
        }
        let mut input = input.expect("there is a record");
        // A move handles whole packets itself.
        let mut at = 0;
        while let Some(frame) = codec::split(
            &input.carried[at..],
            self.of_player,
            SERVERBOUND_PACKET_BYTES_MAX,
        )
        .unwrap()
        {
            at += frame.wire.len();
        }
        input.carried.drain(..at);
        let between = Between {
            socket,
            ciphers,
            carried: input.carried,
            sent,
        };
        (bytes.len(), Some(between))
    }

    async fn with_server(
        &self,
        number: usize,
        mut between: Between,
        player: &PlayerTasks,
        shared: &Shared,
    ) -> (Option<Returned>, Seen) {
        let plan = self.servers[number];
        let this = u8::try_from(number).unwrap();
        let random = |part: u64| Random::of(self.seed, 100 + 10 * u64::from(this) + part);
        let (backend, server) = connected().await;
        if plan.ending == Ending::Reset {
            let linger = SockRef::from(&server).set_linger(Some(Duration::ZERO));
            linger.unwrap();
        }
        let mut filters = self.filters(&plan, &mut between);
        let outbox = Arc::clone(filters.outbox());
        if self.has_plugins {
            filters.set_queries(&queries(&outbox, &shared.plugins));
        }
        let session = session(between.socket, backend);
        let forwarder = shared.reactor.forwarder(Method::Copy);
        let forwarder = forwarder.with_handover_delay(plan.handover_delay);
        let relay = tokio::spawn(forwarder.forward_framed(session, filters));

        let counts = [0; 2].map(|_| Arc::new(AtomicU32::new(0)));
        let injecting = inject(Arc::clone(&outbox), this, counts.clone(), random(2));
        let injecting = tokio::spawn(injecting);
        let (mut reading, writing) = server.into_split();
        let (format, of_reading, has_read) = (plan.format, random(3), CancellationToken::new());
        let guard = has_read.clone().drop_guard();
        let reads = tokio::spawn(async move {
            let received = read(&mut reading, format, None, of_reading).await;
            drop(guard);
            received
        });
        let bytes = self.server_stream(this, &plan);
        let writes = write_as_server(writing, bytes, plan.ending, has_read, random(4));
        let writes = tokio::spawn(writes);
        let mut moment = random(5);
        let wait = Duration::from_micros(moment.below(20_000) as u64);
        match plan.ending {
            Ending::Stopped => {
                sleep(wait).await;
                outbox.stop();
            }
            Ending::Reset => {
                sleep(wait).await;
                reads.abort();
                writes.abort();
            }
            Ending::PlayerReset => {
                sleep(wait).await;
                player.reads.abort();
                player.writes.abort();
            }
            Ending::PlayerFinished => player.finishes.cancel(),
            Ending::Finished | Ending::Cut => {}
        }
        let (outcome, returned) = timeout(PATIENCE, relay).await.expect("it ends").unwrap();
        let ends: &[End] = match plan.ending {
            Ending::Stopped => &[End::Stopped],
            Ending::Finished | Ending::Cut => &[End::Closed(Side::Backend)],
            Ending::Reset => &[End::Closed(Side::Backend), End::Reset(Side::Backend)],
            Ending::PlayerFinished => &[End::Closed(Side::Client)],
            Ending::PlayerReset => &[End::Closed(Side::Client), End::Reset(Side::Client)],
        };
        assert!(ends.contains(&outcome.end), "{:?}: {self:?}", outcome.end);
        assert!(returned.is_some(), "a panic: {self:?}");
        injecting.abort();
        let _ = injecting.await;
        let received = timeout(PATIENCE, reads).await.expect("the end");
        writes.abort();
        let seen = Seen {
            received: received.ok(),
            injected: counts.map(|count| count.load(Ordering::SeqCst)),
            outcome,
            written_bytes: 0,
        };
        (returned, seen)
    }

    /// The bytes of a server.
    fn server_stream(&self, number: u8, plan: &ServerPlan) -> Vec<u8> {
        let (mut zlib, mut bytes) = (Zlib::default(), Vec::new());
        for index in 0..plan.down {
            let packet = packet(self.seed, number, index);
            zlib.write(&packet, plan.format, &mut bytes).unwrap();
        }
        if plan.ending == Ending::Cut {
            let before = bytes.len();
            zlib.write(&[DOWN; 300], plan.format, &mut bytes).unwrap();
            bytes.truncate(bytes.len().midpoint(before).max(before + 1));
        }
        bytes
    }

    /// Checks what the player has got: whole packets, each once and in order, and none of a
    /// server that was left before.
    fn check_player(&self, seen: &[Seen], received: &Received) {
        assert_eq!(received.end, Ok(()), "{self:?}");
        assert_eq!(received.rest_bytes, 0, "{self:?}");
        let mut packets = received.packets.iter();
        for (number, seen) in seen.iter().enumerate() {
            let plan = &self.servers[number];
            let number = u8::try_from(number).unwrap();
            let sent = (0..plan.down).map(|index| packet(self.seed, number, index));
            let mut sent = sent.filter_map(|packet| expected(packet, self.has_plugins));
            let mut put = 0;
            loop {
                let packet = packets.next().expect("the mark comes");
                match packet[0] {
                    MARK => {
                        assert_eq!(packet[1], number, "{self:?}");
                        break;
                    }
                    INJECTED => {
                        assert!(*packet == injected(number, put), "{self:?}");
                        put += 1;
                    }
                    _ => assert!(sent.next().as_ref() == Some(packet), "{self:?}"),
                }
            }
            assert!(put <= seen.injected[Direction::Clientbound as usize]);
            if matches!(
                plan.ending,
                Ending::Finished | Ending::Cut | Ending::PlayerFinished
            ) {
                assert_eq!(sent.next(), None, "{self:?}");
            }
        }
        assert!(packets.next().is_none(), "{self:?}");
        let relayed: u64 = seen.iter().map(|seen| seen.outcome.clientbound_bytes).sum();
        let written: usize = seen.iter().map(|seen| seen.written_bytes).sum();
        assert_eq!(received.bytes, relayed + written as u64, "{self:?}");
    }

    /// Checks what the servers have got: each of the player's packets at most once and in
    /// order, and none missing within what one server has got.
    fn check_servers(&self, seen: &[Seen]) {
        let sent = (0..self.up).map(|index| packet(self.seed, PLAYER, index));
        let sent = sent.filter_map(|packet| expected(packet, self.has_plugins));
        let sent: Vec<_> = sent.collect();
        let mut rest = &sent[..];
        for (number, seen) in seen.iter().enumerate() {
            let Some(received) = &seen.received else {
                continue;
            };
            let number_byte = u8::try_from(number).unwrap();
            let (mut put, mut is_first) = (0, true);
            for packet in &received.packets {
                if packet[0] == INJECTED {
                    assert!(*packet == injected(number_byte, put), "{self:?}");
                    put += 1;
                    continue;
                }
                // The server before may have got some that are lost.
                let at = rest.iter().position(|sent| sent == packet);
                let at = at.expect("a packet that was not sent, or sent before");
                assert!(is_first || at == 0, "{at} packets are missing: {self:?}");
                assert!(number > 0 || at == 0, "{self:?}");
                is_first = false;
                rest = &rest[at + 1..];
            }
            assert!(put <= seen.injected[Direction::Serverbound as usize]);
            if self.servers[number].ending == Ending::PlayerFinished && (number == 0 || !is_first) {
                assert!(rest.is_empty(), "{} are missing: {self:?}", rest.len());
                assert_eq!(received.rest_bytes, 0, "{self:?}");
            }
        }
    }
}

/// The queries of a session. The plugins want some packets of both directions.
fn queries(outbox: &Arc<Outbox>, plugins: &Arc<Plugins>) -> Arc<PacketQueries> {
    let wanted = Wanted::default()
        .with(
            State::Play,
            Direction::Clientbound,
            [1 << WANTED_DOWN, 0, 0, 0],
        )
        .with(
            State::Play,
            Direction::Serverbound,
            [1 << WANTED_UP, 0, 0, 0],
        );
    let decider = Arc::clone(plugins);
    Arc::new(PacketQueries::new(wanted, decider, Arc::clone(outbox)))
}

/// Ends the player's stream, and reads what the player still sends.
async fn read_away(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    let mut buffer = [0; 4096];
    while let Ok(1..) = socket.read(&mut buffer).await {}
}

async fn write_as_player(
    mut socket: OwnedWriteHalf,
    bytes: Vec<u8>,
    mut random: Random,
    finishes: CancellationToken,
) {
    if write(&mut socket, &bytes, &mut random).await {
        finishes.cancelled().await;
        let _ = socket.shutdown().await;
    }
    // The stream goes on until the task is ended.
    std::future::pending::<()>().await;
}

async fn write_as_server(
    socket: OwnedWriteHalf,
    bytes: Vec<u8>,
    ending: Ending,
    has_read: CancellationToken,
    mut random: Random,
) {
    let mut socket = socket;
    if write(&mut socket, &bytes, &mut random).await {
        let waits = matches!(ending, Ending::PlayerFinished | Ending::PlayerReset);
        if waits {
            has_read.cancelled().await;
        }
        if waits || matches!(ending, Ending::Finished | Ending::Cut) {
            let _ = socket.shutdown().await;
        }
    }
    // The connection stays until the task is ended.
    std::future::pending::<()>().await;
}

/// The seeds to run.
fn seeds() -> Range<u64> {
    let Some(wanted) = std::env::var_os("INFRARUST_SEEDS") else {
        return SEEDS;
    };
    let wanted = wanted.to_string_lossy();
    let (begin, end) = wanted.split_once("..").expect("as in `10..20`");
    begin.parse().unwrap()..end.parse().unwrap()
}

/// However packets are cut, put in, decided about and held up, whichever side ends when, and
/// wherever the player is moved: each side gets whole packets, each once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sessions_lose_and_repeat_nothing() {
    let (begun, asked) = unbounded_channel();
    tokio::spawn(decide_all(asked));
    let plugins = Plugins {
        waiting: Mutex::default(),
        begun,
    };
    let shared = Shared {
        reactor: Reactor::start(NonZeroUsize::MIN).unwrap(),
        plugins: Arc::new(plugins),
    };
    let runs = stream::iter(seeds()).map(|seed| {
        let run = tokio::spawn(Plan::of(seed).run(shared.clone()));
        async move { run.await.map_err(|_| seed) }
    });
    let mut runs = pin!(runs.buffer_unordered(RUNNING_MAX));
    let mut failed = Vec::new();
    while let Some(run) = runs.next().await {
        failed.extend(run.err());
    }
    assert!(failed.is_empty(), "the seeds {failed:?}");
}
