//! A side that reads slowly or not at all: nothing is lost, the bytes that the proxy holds
//! are bounded, the proxy does not read from the other side, and the session ends in time.

use std::time::Duration;

use infrarust_test_support::game::{self, Speaker, deflated};

use super::{NO_COMPRESSION, admit, begin, enter, offline, play, welcome, welcome_with};
use crate::support::{FakeBackend, wire, within};

const PROTOCOL: i32 = 767;
/// Any packet of play that the proxy passes.
const CHUNK: i32 = 0x27;
/// The same from a client.
const MOVE: i32 = 0x1A;

/// Packets of two million zeros, which compress to a thousandth.
fn bombs(id: i32, count: usize) -> Vec<u8> {
    let packet = [wire::varint(id), vec![0; BOMB_BYTES]].concat();
    let length = i32::try_from(packet.len()).unwrap();
    let content = [wire::varint(length), deflated(&packet)].concat();
    let length = i32::try_from(content.len()).unwrap();
    [wire::varint(length), content].concat().repeat(count)
}

const BOMB_BYTES: usize = 2_000_000;

async fn expect_bombs(reader: &mut Speaker, id: i32, count: usize) {
    for _ in 0..count {
        let body = reader.expect(id).await;
        assert!(body.len() == BOMB_BYTES && body.iter().all(|byte| *byte == 0));
    }
}

/// Packets that decompress to many bytes arrive completely and in order at a side without
/// compression, in a configuration and in play, in both directions, and so do the packets
/// after them.
#[tokio::test]
async fn decompressed_packets_arrive_completely() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, "compression_threshold = 256");
    let (mut client, mut server) = begin(&proxy, &backend, PROTOCOL, "Notch").await;
    welcome_with(&mut client, &mut server, PROTOCOL, Some(256)).await;
    client.send_raw(&bombs(0, 3)).await;
    client.send(0, b"settings").await;
    expect_bombs(&mut server, 0, 3).await;
    assert_eq!(server.expect(0).await, b"settings");
    enter(&mut client, &mut server, PROTOCOL).await;
    client.send_raw(&bombs(MOVE, 8)).await;
    client.send(MOVE, b"behind").await;
    expect_bombs(&mut server, MOVE, 8).await;
    assert_eq!(server.expect(MOVE).await, b"behind");
    drop((client, server));
    proxy.idle().await;

    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, PROTOCOL, "Notch").await;
    server.send(3, &wire::varint(256)).await;
    server.compress(256);
    welcome(&mut client, &mut server, PROTOCOL).await;
    server.send_raw(&bombs(5, 10)).await;
    server.send(5, b"registry").await;
    expect_bombs(&mut client, 5, 10).await;
    assert_eq!(client.expect(5).await, b"registry");
    enter(&mut client, &mut server, PROTOCOL).await;
    server.send_raw(&bombs(CHUNK, 20)).await;
    server.send(CHUNK, b"behind").await;
    expect_bombs(&mut client, CHUNK, 20).await;
    assert_eq!(client.expect(CHUNK).await, b"behind");
    drop((client, server));
    proxy.idle().await;
}

/// More bytes than the buffers of all sockets between the sides hold.
const FLOOD_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Writes frames as long as they are accepted, until `stop` completes. Returns the number
/// of bytes.
async fn flood_until<F: Future>(writer: &Speaker, id: i32, stop: impl Fn() -> F) -> usize {
    let frame = writer.framed(id, &[7; 30_000]);
    let mut bytes = 0;
    let mut rest = &frame[..];
    loop {
        tokio::select! {
            biased;
            _ = stop() => return bytes,
            () = writer.writable() => {}
        }
        while let Some(taken) = writer.try_send(rest) {
            bytes += taken;
            rest = &rest[taken..];
            if rest.is_empty() {
                rest = &frame;
            }
            assert!(bytes < FLOOD_BYTES_MAX, "the proxy takes without an end");
        }
    }
}

/// Writes frames as long as they are accepted. Returns the number of bytes.
pub(super) async fn flood(writer: &Speaker, id: i32) -> usize {
    // Nothing is taken for so long.
    let patience = Duration::from_millis(500);
    flood_until(writer, id, || tokio::time::sleep(patience)).await
}

/// Writes frames until the proxy ends the session.
async fn flood_to_the_end(writer: &Speaker, id: i32) {
    let end = flood_until(writer, id, || writer.readable());
    within("the end of the session", end).await;
}

/// While one side does not read, the proxy reads from the other side only as much as the
/// socket buffers hold. When the side reads again, it gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_does_not_read() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, server) = play(&proxy, &backend, PROTOCOL).await;
    let written = flood(&server, CHUNK).await;
    let frame_bytes = server.framed(CHUNK, &[7; 30_000]).len();
    for _ in 0..written / frame_bytes {
        assert_eq!(client.expect(CHUNK).await, [7; 30_000]);
    }
    drop((client, server));
    proxy.idle().await;

    let (client, mut server) = play(&proxy, &backend, PROTOCOL).await;
    let written = flood(&client, MOVE).await;
    for _ in 0..written / frame_bytes {
        assert_eq!(server.expect(MOVE).await, [7; 30_000]);
    }
    drop((client, server));
    proxy.idle().await;
}

/// A side that does not read is disconnected in time: the other side sees the end, and the
/// slot is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_does_not_read_ends() {
    let backend = FakeBackend::start().await;
    let more = format!("{NO_COMPRESSION}\nmax_players = 1\ntimeouts.write = \"700ms\"");
    let proxy = offline(&backend, &more);
    let (client, mut server) = play(&proxy, &backend, PROTOCOL).await;
    flood_to_the_end(&server, CHUNK).await;
    server.expect_end().await;
    proxy.idle().await;
    let (other, of_other) = play(&proxy, &backend, PROTOCOL).await;
    drop((client, server, other, of_other));
    proxy.idle().await;

    let (mut client, server) = play(&proxy, &backend, PROTOCOL).await;
    flood_to_the_end(&client, MOVE).await;
    // The text says that the backend is lost.
    let (id, _) = within("the text", client.next()).await.unwrap();
    assert_eq!(id, game::Ids::of(PROTOCOL).disconnect);
    drop((client, server));
    proxy.idle().await;
}

/// An encrypted client that reads byte by byte gets every byte, through any number of
/// pauses.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_decrypts_everything() {
    let sessions = game::Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = crate::support::TestProxy::with_one_server(
        &sessions.global(),
        "client_only",
        &backend,
        "compression_threshold = 256",
    );
    let mut client = game::begin(proxy.address(), PROTOCOL, "Notch").await;
    game::encrypt(&mut client, PROTOCOL).await;
    let (mut server, _, _) = game::accept(&backend).await;
    admit(&mut server, PROTOCOL).await;
    client.expect(3).await;
    client.compress(256);
    client.expect(2).await;
    client.send(3, &[]).await;
    server.expect(3).await;
    enter(&mut client, &mut server, PROTOCOL).await;
    client.read_at_most(1);
    let bodies: Vec<Vec<u8>> = (0..60_u8)
        .map(|index| {
            let size = usize::from(index) * usize::from(index) * 5;
            let step = usize::from(index | 1);
            (0..=255_u8).cycle().step_by(step).take(size).collect()
        })
        .collect();
    let sending = async {
        for body in &bodies {
            server.send(CHUNK, body).await;
        }
    };
    let reading = async {
        for body in &bodies {
            assert_eq!(&client.expect(CHUNK).await, body);
        }
    };
    tokio::join!(sending, reading);
    drop((client, server));
    proxy.idle().await;
}
