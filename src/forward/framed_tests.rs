//! One suite for framed sessions: every format of client and backend, encrypted or not,
//! under each driver.

#![allow(clippy::unwrap_used)]

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::encryption_tests::connected;
use super::encryption_tests::filters;
use super::framed::{FrameFilters, ReturnedClient};
use super::lane::Method;
use super::packets::SentState;
use super::reactor::Reactor;
use super::{COPY_BYTES, Counters, Direction, End, Limits, Outbox, Outcome, Session, Side};
use crate::protocol::cipher::{Cipher, Ciphers};
use crate::protocol::codec::{self, CLIENTBOUND_PACKET_BYTES_MAX, Format, Zlib};
use crate::protocol::packet::State;
use crate::socket::Keepalive;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(240);
const SECRET: [u8; 16] = [7; 16];
/// Packets that the proxy does not read, of 1.12.2.
const DOWN: u8 = 0x26;
const UP: u8 = 0x0D;

const NO_LIMITS: Limits = Limits {
    read: None,
    write: None,
    half_close: PATIENCE,
};

/// A kind of session, and its driver.
#[derive(Debug, Clone, Copy)]
struct Kind {
    client: Format,
    backend: Format,
    is_encrypted: bool,
    /// The runtime drives it for this time, then a relay thread.
    handover_delay: Duration,
}

fn kinds() -> Vec<Kind> {
    const PLAIN: Format = Format::Plain;
    const COMPRESSED: Format = Format::Compressed { threshold: 64 };
    let mut kinds = Vec::new();
    for (client, backend) in [
        (PLAIN, PLAIN),
        (COMPRESSED, COMPRESSED),
        (COMPRESSED, PLAIN),
    ] {
        for is_encrypted in [false, true] {
            for handover_delay in [Duration::ZERO, PATIENCE] {
                kinds.push(Kind {
                    client,
                    backend,
                    is_encrypted,
                    handover_delay,
                });
            }
        }
    }
    kinds
}

/// Packets around the threshold, and some that need several reads.
fn packets(id: u8) -> Vec<Vec<u8>> {
    let sizes = [0, 30, 62, 63, 64, 700, 5000, 1, 20_000, 3];
    let packet = |(index, size): (usize, usize)| {
        let byte = |at: usize| u8::try_from((at * at + index) % 251).unwrap();
        [&[id], &(0..size).map(byte).collect::<Vec<_>>()[..]].concat()
    };
    sizes.into_iter().enumerate().map(packet).collect()
}

/// More than all sockets and buffers on the way hold.
fn flood() -> Vec<Vec<u8>> {
    let packet = |number: u32| {
        // Bytes that do not compress.
        let mut state = number | 1;
        let byte = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        [&[DOWN], &(0..16_000).map(byte).collect::<Vec<_>>()[..]].concat()
    };
    (0..40).map(packet).collect()
}

/// One peer of a session.
struct Peer {
    socket: TcpStream,
    format: Format,
    /// For writing and reading, at a player with encryption.
    ciphers: Option<(Cipher, Cipher)>,
    zlib: Zlib,
    /// Bytes behind the last packet, decrypted.
    rest: Vec<u8>,
    received_bytes: u64,
}

impl Peer {
    fn new(socket: TcpStream, format: Format, is_encrypted: bool) -> Self {
        let cipher = || Cipher::new(&SECRET);
        Self {
            socket,
            format,
            ciphers: is_encrypted.then(|| (cipher(), cipher())),
            zlib: Zlib::default(),
            rest: Vec::new(),
            received_bytes: 0,
        }
    }

    /// The bytes of these packets on the wire.
    fn frames(&mut self, packets: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for packet in packets {
            self.zlib.write(packet, self.format, &mut bytes).unwrap();
        }
        if let Some((encrypt, _)) = &mut self.ciphers {
            encrypt.encrypt(&mut bytes);
        }
        bytes
    }

    async fn send(&mut self, packets: &[Vec<u8>]) {
        let bytes = self.frames(packets);
        let sent = timeout(PATIENCE, self.socket.write_all(&bytes)).await;
        sent.expect("the bytes are taken").unwrap();
    }

    /// The next packet; `None` at the end of the stream.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let frame = codec::split(&self.rest, self.format, CLIENTBOUND_PACKET_BYTES_MAX);
            if let Some(frame) = frame.unwrap() {
                let packet = self.zlib.packet(&frame).unwrap().to_vec();
                let bytes = frame.wire.len();
                self.rest.drain(..bytes);
                return Ok(Some(packet));
            }
            let mut buffer = [0; 4096];
            let read = timeout(PATIENCE, self.socket.read(&mut buffer)).await;
            let bytes = read.expect("bytes or an end")?;
            if bytes == 0 {
                assert!(self.rest.is_empty(), "the stream ends in a frame");
                return Ok(None);
            }
            self.received_bytes += bytes as u64;
            let bytes = &mut buffer[..bytes];
            if let Some((_, decrypt)) = &mut self.ciphers {
                decrypt.decrypt(bytes);
            }
            self.rest.extend_from_slice(bytes);
        }
    }

    async fn expect(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            let next = self.next().await.unwrap();
            assert!(next.as_ref() == Some(packet), "another packet");
        }
    }

    async fn expect_end(&mut self) {
        assert_eq!(self.next().await.unwrap(), None);
    }

    /// Resets the connection.
    fn reset(self) {
        let linger = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        linger.unwrap();
    }
}

type Relayed = (Outcome, Option<ReturnedClient<std::net::TcpStream>>);

/// A session that is relayed.
struct Running {
    player: Peer,
    server: Peer,
    relay: JoinHandle<Relayed>,
    counters: Arc<Counters>,
    outbox: Arc<Outbox>,
}

impl Kind {
    async fn start(self, limits: Limits) -> Running {
        let (player, client) = connected().await;
        let (backend, server) = connected().await;
        let counters = Arc::new(Counters::default());
        let session = Session {
            client,
            backend,
            keepalive: Keepalive {
                time: PATIENCE,
                interval: PATIENCE,
                retries: 1,
            },
            limits,
            counters: Arc::clone(&counters),
        };
        let filters = self.filters();
        let outbox = Arc::clone(filters.outbox());
        let forwarder = Reactor::start(NonZeroUsize::MIN)
            .unwrap()
            .forwarder(Method::Copy)
            .with_handover_delay(self.handover_delay);
        Running {
            player: Peer::new(player, self.client, self.is_encrypted),
            server: Peer::new(server, self.backend, false),
            relay: tokio::spawn(forwarder.forward_framed(session, filters)),
            counters,
            outbox,
        }
    }

    fn filters(self) -> FrameFilters {
        let ciphers = self.is_encrypted.then(|| Ciphers::new(&SECRET));
        filters(
            self.client,
            self.backend,
            SentState::new(State::Play),
            ciphers,
        )
    }
}

impl Running {
    /// How the relay has ended, and the client.
    async fn end(relay: JoinHandle<Relayed>) -> Relayed {
        timeout(PATIENCE, relay).await.expect("it ends").unwrap()
    }

    /// Packets both ways.
    async fn exchange(&mut self) {
        let (down, up) = (packets(DOWN), packets(UP));
        tokio::join!(self.server.send(&down), self.player.expect(&down));
        tokio::join!(self.player.send(&up), self.server.expect(&up));
    }

    /// Waits until the live counters say what the peers have received.
    async fn until_counted(&self) {
        let is_counted = || {
            self.counters.get(Direction::Clientbound) == self.player.received_bytes
                && self.counters.get(Direction::Serverbound) == self.server.received_bytes
        };
        let counted = async {
            while !is_counted() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.expect("it is counted");
    }
}

/// Waits until the client's kernel has this number of bytes.
async fn until_sent(counters: &Counters, bytes: u64) {
    let sent = async {
        while counters.get(Direction::Clientbound) < bytes {
            yield_now().await;
        }
    };
    timeout(PATIENCE, sent).await.expect("bytes are sent");
}

/// Writes a packet to a client after its relay has ended, and ends the stream.
async fn write_last(returned: ReturnedClient<std::net::TcpStream>, packet: &[u8]) {
    let mut last = Vec::new();
    let mut zlib = Zlib::default();
    zlib.write(packet, returned.format, &mut last).unwrap();
    if let Some(mut ciphers) = returned.ciphers {
        ciphers.encrypt.encrypt(&mut last);
    }
    let mut client = TcpStream::from_std(returned.client).unwrap();
    let bytes = [returned.backlog, last].concat();
    client.write_all(&bytes).await.unwrap();
    client.shutdown().await.unwrap();
}

/// Packets arrive whole and in order, and are counted during the session and at its end.
/// A stop ends the session at once.
#[tokio::test]
async fn packets_arrive_and_are_counted() {
    for kind in kinds() {
        let mut running = kind.start(NO_LIMITS).await;
        for _ in 0..3 {
            running.exchange().await;
            running.until_counted().await;
        }
        running.outbox.stop();
        let (outcome, _) = Running::end(running.relay).await;
        assert_eq!(outcome.end, End::Stopped, "{kind:?}");
        assert_eq!(outcome.clientbound_bytes, running.player.received_bytes);
        assert_eq!(outcome.serverbound_bytes, running.server.received_bytes);
    }
}

/// A client that reads late gets everything, also if its backend is lost before it reads.
#[tokio::test]
async fn a_late_reader_gets_everything() {
    let flood = flood();
    for kind in kinds() {
        let Running {
            mut player,
            mut server,
            relay,
            counters,
            ..
        } = kind.start(NO_LIMITS).await;
        let read = async {
            until_sent(&counters, 1).await;
            player.expect(&flood).await;
        };
        let write = async {
            server.send(&flood).await;
            server.socket.shutdown().await.unwrap();
        };
        tokio::join!(write, read);
        let (outcome, _) = Running::end(relay).await;
        assert_eq!(outcome.end, End::Closed(Side::Backend), "{kind:?}");
        assert_eq!(outcome.clientbound_bytes, player.received_bytes);
    }
}

/// A session that ends while its client does not read holds a bounded number of bytes.
/// They are whole frames and are encrypted once, so later bytes continue the stream.
#[tokio::test]
async fn unread_bytes_of_a_client_are_bounded_and_encrypted_once() {
    let flood = flood();
    let last = vec![DOWN, 1, 2, 3];
    for kind in kinds() {
        let Running {
            mut player,
            mut server,
            relay,
            counters,
            outbox,
        } = kind.start(NO_LIMITS).await;
        let bytes = server.frames(&flood);
        // It is not taken: the relay ends first.
        let writer = tokio::spawn(async move { server.socket.write_all(&bytes).await });
        until_sent(&counters, 1000).await;
        outbox.stop();
        let (outcome, returned) = Running::end(relay).await;
        assert_eq!(outcome.end, End::Stopped, "{kind:?}");
        assert!(writer.await.unwrap().is_err(), "{kind:?}");
        let returned = returned.unwrap();
        // One read, and the frame that it completes.
        assert!(returned.backlog.len() <= COPY_BYTES + 17_000, "{kind:?}");
        let received = async {
            let mut received = Vec::new();
            while let Some(packet) = player.next().await.unwrap() {
                received.push(packet);
            }
            received
        };
        let ((), received) = tokio::join!(write_last(returned, &last), received);
        let (end, begin) = received.split_last().unwrap();
        assert!(*end == last, "{kind:?}");
        assert!(flood.starts_with(begin), "{kind:?}");
    }
}

/// A client may end its stream and still gets what its backend sends.
#[tokio::test]
async fn a_client_may_end_first() {
    for kind in kinds() {
        let mut running = kind.start(NO_LIMITS).await;
        running.exchange().await;
        running.player.socket.shutdown().await.unwrap();
        running.server.expect_end().await;
        let down = packets(DOWN);
        tokio::join!(running.server.send(&down), running.player.expect(&down));
        drop(running.server);
        let (outcome, _) = Running::end(running.relay).await;
        assert_eq!(outcome.end, End::Closed(Side::Client), "{kind:?}");
        assert_eq!(outcome.clientbound_bytes, running.player.received_bytes);
    }
}

/// All whole frames of a backend that ends or fails reach the client, and nothing of an
/// incomplete one, so that a text can follow.
#[tokio::test]
async fn a_text_can_follow_a_lost_backend() {
    let text = vec![DOWN, 9, 9];
    for kind in kinds() {
        for is_reset in [false, true] {
            let mut running = kind.start(NO_LIMITS).await;
            running.exchange().await;
            let frame = running.server.frames(&[vec![DOWN; 500]]);
            let cut = &frame[..frame.len() - 1];
            running.server.socket.write_all(cut).await.unwrap();
            match is_reset {
                true => running.server.reset(),
                false => drop(running.server),
            }
            let (outcome, returned) = Running::end(running.relay).await;
            let end = match is_reset {
                true => End::Reset(Side::Backend),
                false => End::Closed(Side::Backend),
            };
            assert_eq!(outcome.end, end, "{kind:?}");
            write_last(returned.unwrap(), &text).await;
            running.player.expect(std::slice::from_ref(&text)).await;
            running.player.expect_end().await;
        }
    }
}

/// A client that resets its connection ends the session, and its backend learns of it.
#[tokio::test]
async fn a_client_may_fail() {
    for kind in kinds() {
        let mut running = kind.start(NO_LIMITS).await;
        running.exchange().await;
        running.player.reset();
        let (outcome, _) = Running::end(running.relay).await;
        assert_eq!(outcome.end, End::Reset(Side::Client), "{kind:?}");
        // As a reset or as an end.
        assert!(!matches!(running.server.next().await, Ok(Some(_))));
    }
}

/// A client may fail after it has ended its stream, and its backend may be silent: the session
/// ends although neither socket has to be read or written. It fails while the runtime drives
/// the session, which is handed over then.
#[tokio::test]
async fn a_client_may_end_and_fail() {
    for kind in kinds() {
        let handover_delay = Duration::from_millis(100);
        let kind = Kind {
            handover_delay,
            ..kind
        };
        let mut running = kind.start(NO_LIMITS).await;
        running.exchange().await;
        running.player.socket.shutdown().await.unwrap();
        running.server.expect_end().await;
        running.player.reset();
        let (outcome, _) = Running::end(running.relay).await;
        assert_eq!(outcome.end, End::Closed(Side::Client), "{kind:?}");
    }
}

/// Each timeout ends the session: of silence, of a side that does not read, and of the
/// rest after one side has ended.
#[tokio::test]
async fn timeouts_end_sessions() {
    const SOON: Duration = Duration::from_millis(100);
    for kind in kinds() {
        let limits = Limits {
            read: Some(SOON),
            ..NO_LIMITS
        };
        let running = kind.start(limits).await;
        let (outcome, _) = Running::end(running.relay).await;
        let is_silent = matches!(outcome.end, End::ReadTimeout(_));
        assert!(is_silent, "{kind:?}: {:?}", outcome.end);

        let limits = Limits {
            write: Some(SOON),
            ..NO_LIMITS
        };
        let mut running = kind.start(limits).await;
        let bytes = running.server.frames(&flood());
        let mut server = running.server.socket;
        let writer = tokio::spawn(async move { server.write_all(&bytes).await });
        let (outcome, _) = Running::end(running.relay).await;
        let expected = End::WriteTimeout(Direction::Clientbound);
        assert_eq!(outcome.end, expected, "{kind:?}");
        assert!(writer.await.unwrap().is_err());

        let limits = Limits {
            half_close: SOON,
            ..NO_LIMITS
        };
        let mut running = kind.start(limits).await;
        running.exchange().await;
        running.player.socket.shutdown().await.unwrap();
        let (outcome, _) = Running::end(running.relay).await;
        let expected = End::HalfCloseTimeout(Side::Client);
        assert_eq!(outcome.end, expected, "{kind:?}");
    }
}

/// Dropping the future of a relay closes both sockets and leaves exact counts.
#[tokio::test]
async fn a_dropped_relay_leaves_exact_counts() {
    for kind in kinds() {
        let mut running = kind.start(NO_LIMITS).await;
        running.exchange().await;
        running.until_counted().await;
        running.relay.abort();
        running.player.expect_end().await;
        running.server.expect_end().await;
        running.until_counted().await;
    }
}
