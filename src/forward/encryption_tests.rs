//! Encryption for many players at once: each player gets the right bytes, complete and
//! in order, whatever happens on any socket during the encryption.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use infrarust_test_support::{PATIENCE, blocking_until, until};
use proptest::prelude::*;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::bounds::ClientBounds;
use super::exchange::{Exchange, Ready};
use super::framed::{FrameFilter, FrameFilters, ReturnedClient};
use super::lane::{Buffers, Method};
use super::packets::{Edits, SentState};
use super::reactor::{self, Reactor};
use super::{Counters, Direction, End, Limits, Listener, Outbox, Outcome, Session, Side};
use crate::protocol::cipher::{self, Cipher, Ciphers};
use crate::protocol::codec::{self, Format, Receiver};
use crate::protocol::packet::{State, Version};
use crate::socket::Keepalive;

/// Small sockets, so that a player who does not read is soon behind.
const SOCKET_BYTES: usize = 8 * 1024;

type Result = (Outcome, Option<ReturnedClient<std::net::TcpStream>>);

/// A connection with small socket buffers at both ends.
pub(super) async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let there = TcpStream::connect(address).await.unwrap();
    let (here, _) = listener.accept().await.unwrap();
    for socket in [&there, &here] {
        socket.set_nodelay(true).unwrap();
        let socket = SockRef::from(socket);
        socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
        socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    }
    (there, here)
}

fn secret(number: u8) -> [u8; 16] {
    [number; 16]
}

/// An encrypted session between a player and a server.
async fn encrypted(number: u8) -> (TcpStream, TcpStream, Session, FrameFilters) {
    framed(Format::Plain, Some(Cipher::new(&secret(number)))).await
}

/// A session with frames of this format on both sides.
pub(super) async fn framed(
    format: Format,
    cipher: Option<Cipher>,
) -> (TcpStream, TcpStream, Session, FrameFilters) {
    let (player, client) = connected().await;
    let (backend, server) = connected().await;
    let ciphers = cipher.map(|cipher| Ciphers {
        encrypt: cipher.clone(),
        decrypt: cipher,
    });
    let filters = filters(format, format, SentState::new(State::Play), ciphers);
    (player, server, session(client, backend), filters)
}

/// A session in which nothing times out.
pub(super) fn session(client: TcpStream, backend: TcpStream) -> Session {
    Session {
        client,
        backend,
        keepalive: Keepalive {
            time: PATIENCE,
            interval: PATIENCE,
            retries: 1,
        },
        limits: Limits {
            read: None,
            write: None,
            half_close: PATIENCE,
        },
        counters: Arc::new(Counters::default()),
    }
}

/// The filters of a session of 1.12.2 in play.
pub(super) fn filters(
    of_player: Format,
    of_backend: Format,
    sent: SentState,
    ciphers: Option<Ciphers>,
) -> FrameFilters {
    let version = Version::of(340).unwrap();
    let receiver = |format| Receiver {
        format,
        strict: true,
    };
    let outbox = Arc::<Outbox>::default();
    FrameFilters {
        serverbound: Box::new(FrameFilter::serverbound(
            version,
            of_player,
            receiver(of_backend),
            State::Play,
            ClientBounds::new(),
            Arc::clone(&outbox),
        )),
        clientbound: Box::new(FrameFilter::clientbound(
            version,
            of_backend,
            receiver(of_player),
            sent,
            Edits::default(),
            outbox,
        )),
        ciphers,
    }
}

/// Frames of a packet that the proxy does not have to see; no two players get
/// the same.
fn frames(number: u8, sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut stream = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        crate::protocol::varint::encode_len(1 + size, &mut stream);
        stream.push(0x26);
        let byte = |at: usize| u8::try_from((at + index) % 251).unwrap() ^ number;
        stream.extend((0..size).map(byte));
    }
    stream
}

async fn read_exact(player: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let read = timeout(PATIENCE, player.read_exact(&mut bytes)).await;
    read.unwrap().unwrap();
    bytes
}

/// Players at one worker, with bursts, chunks, and clients that do not read
/// before all others have everything.
#[tokio::test]
async fn each_player_gets_his_own_bytes() {
    const PLAYERS: u8 = 24;
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor.forwarder(Method::Copy);
    let forwarder = forwarder.with_handover_delay(Duration::ZERO);
    let mut players = JoinSet::new();
    let fast_ones_are_done = Arc::new(Barrier::new(usize::from(PLAYERS)));
    for number in 0..PLAYERS {
        let (mut player, mut server, session, filters) = encrypted(number).await;
        let outbox = Arc::clone(filters.outbox());
        let relay: JoinHandle<Result> = tokio::spawn({
            let forwarder = forwarder.clone();
            async move { forwarder.forward_framed(session, filters).await }
        });
        let size = |index: usize| match (index + usize::from(number)) % 7 {
            0 => 20_000,
            1 => 700,
            rest => 5 * rest,
        };
        let stream = frames(number, (0..25).map(size));
        let sent = stream.clone();
        let writer = tokio::spawn(async move {
            for piece in sent.chunks(1300 + 97 * usize::from(number)) {
                server.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            server
        });
        let all_fast = Arc::clone(&fast_ones_are_done);
        players.spawn(async move {
            let is_slow = number % 3 == 0;
            if is_slow {
                all_fast.wait().await;
            }
            let mut received = read_exact(&mut player, stream.len()).await;
            Cipher::new(&secret(number)).decrypt(&mut received);
            assert!(received == stream, "player {number}");
            if !is_slow {
                all_fast.wait().await;
            }
            outbox.stop();
            let (outcome, returned) = timeout(PATIENCE, relay).await.unwrap().unwrap();
            assert_eq!(outcome.end, End::Stopped);
            assert_eq!(outcome.clientbound_bytes, stream.len() as u64);
            assert!(returned.unwrap().backlog.is_empty());
            drop(writer.await);
        });
    }
    while let Some(player) = timeout(PATIENCE, players.join_next()).await.unwrap() {
        player.unwrap();
    }
}

/// Fails at each plugin message of the backend.
#[derive(Debug)]
struct Fails;

impl Listener for Fails {
    fn receive(&self, _: &[u8]) -> bool {
        panic!("a bug, made by a test")
    }
}

/// A session that panics ends, and the others of its thread go on: their bytes pass, they can
/// be stopped, and new ones begin.
#[tokio::test]
async fn a_panic_ends_its_own_session_alone() {
    /// A plugin message of 1.12.2, and its channel and data.
    const MESSAGE: &[u8] = b"\x04\x18\x01a\x07";
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor.forwarder(Method::Copy);
    let forwarder = forwarder.with_handover_delay(Duration::ZERO);
    let stream = frames(7, [1000, 5, 20, 1500]);
    let mut before = None;
    for count in 2..4 {
        let (mut player, mut server, session, filters) = encrypted(7).await;
        let outbox = Arc::clone(filters.outbox());
        let relay = tokio::spawn(forwarder.forward_framed(session, filters));
        let (_failing, mut its_server, session, mut filters) = encrypted(8).await;
        filters.clientbound.set_listener(Some(Arc::new(Fails)));
        let failing = tokio::spawn(forwarder.forward_framed(session, filters));
        until("the thread to have both", || {
            forwarder.handed_over() == count
        })
        .await;
        its_server.write_all(MESSAGE).await.unwrap();
        let (outcome, returned) = timeout(PATIENCE, failing).await.unwrap().unwrap();
        assert_eq!(outcome.end, End::Stopped);
        assert!(returned.is_none(), "the client has been disconnected");
        server.write_all(&stream).await.unwrap();
        let mut received = read_exact(&mut player, stream.len()).await;
        Cipher::new(&secret(7)).decrypt(&mut received);
        assert!(received == stream);
        // The one before has gone on as well.
        let this = (outbox, relay, player, server);
        if let Some((outbox, relay, _player, _server)) = before.replace(this) {
            outbox.stop();
            let (outcome, returned): Result = timeout(PATIENCE, relay).await.unwrap().unwrap();
            assert_eq!(outcome.clientbound_bytes, stream.len() as u64);
            assert!(returned.is_some());
        }
    }
    assert_eq!(forwarder.handed_over(), 1);
}

pub(super) const READABLE: Ready = Ready {
    readable: true,
    writable: false,
    failed: false,
};

/// A session may end between any two slices of its encryption. The bytes that are
/// written to the client afterwards continue its stream.
#[tokio::test]
async fn a_session_that_ends_during_its_encryption_is_encrypted_to_the_end() {
    const SLICE_BYTES: usize = 300;
    let stream = frames(7, [1000, 5, 20, 1500]);
    let text = frames(7, [50]);
    for slices in 0..stream.len().div_ceil(SLICE_BYTES) {
        let (mut player, mut server, session, filters) = encrypted(7).await;
        let mut exchange = Exchange::framed(session, filters).into_std().unwrap();
        let mut buffers = Buffers::of_encrypting_driver();
        server.write_all(&stream).await.unwrap();
        blocking_until("the encryption", || {
            exchange.ready(Side::Backend, READABLE, &mut buffers);
            exchange.is_encrypting()
        });
        // While it waits, nothing more is read from its backend.
        server.write_all(&[0]).await.unwrap();
        exchange.ready(Side::Backend, READABLE, &mut buffers);
        assert_eq!(exchange.outcome(), None);
        for _ in 0..slices {
            let mut encryption = exchange.take_encryption().unwrap();
            cipher::encrypt_many(&mut [Some(encryption.next_job(SLICE_BYTES))]);
            exchange.continue_encrypted(encryption, &mut buffers);
        }
        exchange.stop(End::Stopped);
        assert_eq!(exchange.outcome().unwrap().clientbound_bytes, 0);
        let returned = exchange.into_returned_client().unwrap();
        let mut last = text.clone();
        returned.ciphers.unwrap().encrypt.encrypt(&mut last);
        let mut client = TcpStream::from_std(returned.client).unwrap();
        client.write_all(&returned.backlog).await.unwrap();
        client.write_all(&last).await.unwrap();
        let whole = [&stream[..], &text].concat();
        let mut received = read_exact(&mut player, whole.len()).await;
        Cipher::new(&secret(7)).decrypt(&mut received);
        assert!(received == whole, "after {slices} slices");
    }
}

/// What may happen next to a session, with a number of bytes.
#[derive(Debug, Clone, Copy)]
enum Event {
    ServerSends(usize),
    /// A part of the bytes that wait is encrypted.
    Slice(usize),
    /// The client, which has stopped to read, reads this much.
    ClientReads(usize),
    /// A plugin sends the client a packet of this length.
    PluginSends(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1_usize..20_000).prop_map(Event::ServerSends),
        (1_usize..3_000).prop_map(Event::Slice),
        (1_usize..12_000).prop_map(Event::ClientReads),
        (1_usize..2_000).prop_map(Event::PluginSends),
    ]
}

const WRITABLE: Ready = Ready {
    readable: false,
    writable: true,
    failed: false,
};

proptest! {
    // Each case has sockets.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A client may stop reading at any byte of a slice and continue later, and the session
    /// may end at any time: the client gets whole frames in order, those of the backend and,
    /// between them, those of plugins; what is written to it afterwards continues its stream.
    #[test]
    fn a_client_may_stop_reading_at_any_byte(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(stops_reading(&events));
    }
}

async fn stops_reading(events: &[Event]) {
    /// A packet that the proxy does not read, of 1.12.2.
    const OF_PLUGIN: u8 = 0x0F;
    let sizes = [1000, 5, 20_000, 1500, 0, 700];
    let stream = frames(7, sizes.into_iter().cycle().take(24));
    let (text, mut of_plugin) = (frames(7, [50]), Vec::new());
    let (mut player, server, session, filters) = encrypted(7).await;
    let outbox = Arc::clone(filters.outbox());
    let mut exchange = Exchange::framed(session, filters).into_std().unwrap();
    let mut buffers = Buffers::of_encrypting_driver();
    let (mut to_send, mut received) = (&stream[..], Vec::new());
    for event in events {
        match *event {
            Event::ServerSends(bytes) => {
                let next = &to_send[..bytes.min(to_send.len())];
                // A full socket takes nothing.
                let sent = server.try_write(next).unwrap_or(0);
                to_send = &to_send[sent..];
            }
            Event::Slice(bytes) => {
                if let Some(mut encryption) = exchange.take_encryption() {
                    cipher::encrypt_many(&mut [Some(encryption.next_job(bytes))]);
                    exchange.continue_encrypted(encryption, &mut buffers);
                }
            }
            Event::ClientReads(bytes) => {
                let mut buffer = vec![0; bytes];
                let read = player.try_read(&mut buffer).unwrap_or(0);
                received.extend_from_slice(&buffer[..read]);
            }
            Event::PluginSends(bytes) => {
                let number = u8::try_from(of_plugin.len()).unwrap();
                let packet = [vec![OF_PLUGIN], vec![number; bytes]].concat();
                let put = outbox.put(Direction::Clientbound, 1, vec![packet.clone()]);
                assert_eq!(put, Ok(()));
                of_plugin.push(packet);
                exchange.send_out_all(&mut buffers);
            }
        }
        exchange.ready(Side::Backend, READABLE, &mut buffers);
        exchange.ready(Side::Client, WRITABLE, &mut buffers);
        assert_eq!(exchange.outcome(), None);
    }
    exchange.stop(End::Stopped);
    let returned = exchange.into_returned_client().unwrap();
    let mut last = text.clone();
    returned.ciphers.unwrap().encrypt.encrypt(&mut last);
    let mut client = TcpStream::from_std(returned.client).unwrap();
    let write = async {
        client.write_all(&returned.backlog).await.unwrap();
        client.write_all(&last).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let read = timeout(PATIENCE, player.read_to_end(&mut received));
    let ((), read) = tokio::join!(write, read);
    read.unwrap().unwrap();
    Cipher::new(&secret(7)).decrypt(&mut received);
    let mut rest = received.strip_suffix(&text[..]).expect("the text follows");
    let (mut of_backend, mut of_plugin) = (Vec::new(), of_plugin.into_iter());
    while let Some(frame) = codec::split(rest, Format::Plain, 1 << 20).unwrap() {
        match frame.content {
            [OF_PLUGIN, ..] => assert!(of_plugin.next().as_deref() == Some(frame.content)),
            _ => of_backend.extend_from_slice(frame.wire),
        }
        rest = &rest[frame.wire.len()..];
    }
    assert!(rest.is_empty(), "the frames are whole");
    assert!(stream.starts_with(&of_backend));
}

/// A client that disconnects during its encryption does not affect other sessions.
#[tokio::test]
async fn a_client_may_disconnect_during_its_encryption() {
    let (player, mut server, session, filters) = encrypted(7).await;
    let mut exchange = Exchange::framed(session, filters).into_std().unwrap();
    let mut buffers = Buffers::of_encrypting_driver();
    server.write_all(&frames(7, [3000])).await.unwrap();
    blocking_until("the encryption", || {
        exchange.ready(Side::Backend, READABLE, &mut buffers);
        exchange.is_encrypting()
    });
    let mut encryption = exchange.take_encryption().unwrap();
    cipher::encrypt_many(&mut [Some(encryption.next_job(500))]);
    exchange.continue_encrypted(encryption, &mut buffers);
    SockRef::from(&player)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(player);
    blocking_until("the end of the encryption", || {
        exchange.ready(Side::Client, READABLE, &mut buffers);
        !exchange.is_encrypting()
    });
    assert!(exchange.take_encryption().is_none());
    exchange.stop(End::Stopped);
    assert_eq!(exchange.outcome().unwrap().clientbound_bytes, 0);
}

/// A slice ends where one session would be encrypted alone, but it is never so short that
/// looking at the sockets would take longer, nor so long that small messages wait.
#[test]
fn slices_end_where_one_session_would_be_alone() {
    for (left, expected) in [
        (&[20_000][..], 256),
        (&[100, 20_000], 256),
        (&[300, 20_000, 40], 300),
        (&[20_000, 400, 400], 400),
        (&[20_000, 9000, 10], 512),
        (&[20_000; 32], 512),
    ] {
        assert_eq!(
            reactor::slice_bytes(left.iter().copied()),
            expected,
            "{left:?}"
        );
    }
}
