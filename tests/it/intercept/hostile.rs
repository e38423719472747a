//! Clients that violate the protocol: their sessions end, and others continue.

use infrarust_test_support::game::{self, Ids, Speaker, deflated};
use infrarust_test_support::hostile;

use super::{NO_COMPRESSION, begin, enter, offline, play, text, uuid, welcome, welcome_with};
use crate::support::{FakeBackend, TestProxy, wire};

/// A player in the game with compression on both sides.
async fn compressed(proxy: &TestProxy, backend: &FakeBackend, name: &str) -> (Speaker, Speaker) {
    let (mut client, mut server) = begin(proxy, backend, 767, name).await;
    server.send(3, &wire::varint(256)).await;
    server.compress(256);
    let player = (uuid(super::NOTCH), name);
    game::welcome([&mut client, &mut server], 767, player, Some(256)).await;
    enter(&mut client, &mut server, 767).await;
    (client, server)
}

/// A frame with this length before compression, and this content.
fn raw(length: i32, content: &[u8]) -> Vec<u8> {
    let body = [wire::varint(length), content.to_vec()].concat();
    let body_bytes = i32::try_from(body.len()).unwrap();
    [wire::varint(body_bytes), body].concat()
}

/// Compression bombs, false lengths, random bytes and floods end the session of the client
/// that sends them, with a text. Its backend sees the end, and others play on.
#[tokio::test]
async fn violations_in_play() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, "compression_threshold = 256");
    let (mut other, mut of_other) = compressed(&proxy, &backend, "Other").await;
    let zeros = deflated(&vec![0; 3 * 1024 * 1024]);
    let small = deflated(&[0; 300]);
    let big = raw(1_900_000, &deflated(&vec![0; 1_900_000]));
    let table: [(&str, Vec<u8>); 9] = [
        (
            "a compressed packet below the threshold",
            raw(255, &deflated(&[0; 255])),
        ),
        ("a bomb", raw(3 * 1024 * 1024, &zeros)),
        ("a length that is negative", raw(-1, &small)),
        ("a length that lies", raw(299, &small)),
        ("no zlib", raw(300, b"no zlib at all")),
        ("an empty frame", vec![0]),
        ("a length of four bytes", vec![0x80, 0x80, 0x80, 1]),
        ("a flood of packets", [2, 0, 0x70].repeat(20_000)),
        ("a flood of bytes", big.repeat(40)),
    ];
    for (what, bytes) in table {
        let (mut client, mut server) = compressed(&proxy, &backend, "Notch").await;
        client.send_raw(&bytes).await;
        let drained = async { while server.next().await.is_some() {} };
        let received = async {
            let body = client.expect(Ids::of(767).disconnect).await;
            text(767, &body)
        };
        let (received, ()) = tokio::join!(received, drained);
        assert!(
            received.contains("does not understand"),
            "{what}: {received}"
        );
        client.expect_end().await;
        of_other.send(0x22, what.as_bytes()).await;
        assert_eq!(other.expect(0x22).await, what.as_bytes());
    }
    drop((other, of_other));
    proxy.idle().await;
}

/// A packet that the version does not have in a configuration ends the session of the
/// client, in the first configuration and in a later one.
#[tokio::test]
async fn unexpected_packets_in_configuration() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    welcome(&mut client, &mut server, 767).await;
    // Those that 1.21 has pass: settings, a plugin message, known packs.
    for (id, body) in [(0, &b"abc"[..]), (2, b"\x03a:b"), (7, b"\0")] {
        client.send(id, body).await;
        assert_eq!(server.expect(id).await, body);
    }
    // Its table ends there; 8 is one of 1.21.6.
    client.send(8, b"abc").await;
    let body = client.expect(2).await;
    assert!(text(767, &body).contains("does not understand"));
    server.expect_end().await;
    client.expect_end().await;
    proxy.idle().await;

    let (mut client, mut server) = play(&proxy, &backend, 767).await;
    server.send(0x69, &[]).await;
    client.expect(0x69).await;
    // What is on its way is still of the game.
    client.send(0x1A, b"position").await;
    assert_eq!(server.expect(0x1A).await, b"position");
    client.send(0x0C, &[]).await;
    server.expect(0x0C).await;
    client.send(0x1A, b"position").await;
    let body = client.expect(2).await;
    assert!(text(767, &body).contains("does not understand"));
    server.expect_end().await;
    client.expect_end().await;
    proxy.idle().await;
}

/// A compressed packet below the threshold also ends the session of the client in a
/// configuration.
#[tokio::test]
async fn below_the_threshold_in_configuration() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, "compression_threshold = 256");
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    welcome_with(&mut client, &mut server, 767, Some(256)).await;
    let message = [&[2][..], &wire::string("a:b"), &[0; 250]].concat();
    client.send(2, &message[1..252]).await;
    assert_eq!(server.expect(2).await, message[1..252]);
    client.send_raw(&raw(255, &deflated(&message[..255]))).await;
    let body = client.expect(2).await;
    assert!(text(767, &body).contains("does not understand"));
    server.expect_end().await;
    drop(client);
    proxy.idle().await;
}

/// A flood in a configuration ends the session, as in play.
#[tokio::test]
async fn a_flood_in_configuration() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    welcome(&mut client, &mut server, 767).await;
    let flood = client.framed(2, b"a:b").repeat(20_000);
    let sending = client.send_raw(&flood);
    let drained = async { while server.next().await.is_some() {} };
    tokio::join!(sending, drained);
    let body = client.expect(2).await;
    assert!(text(767, &body).contains("does not understand"));
    proxy.idle().await;
}

/// The number of sessions that [`any_bytes_from_both_sides`] runs. The fuzz target
/// `login_and_play` runs them without end.
const SESSIONS: u64 = 400;

/// Any bytes of a client and a backend, from any point of a login on, end the session, and
/// nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_from_both_sides() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start("", &hostile::servers(backend.address));
    for seed in 0..SESSIONS {
        let input = bytes_of(seed);
        println!("session {seed}");
        hostile::run(proxy.address(), &backend, &input).await;
        proxy.idle().await;
    }
}

/// Random bytes, the same for each number (the generator is splitmix64).
fn bytes_of(number: u64) -> Vec<u8> {
    let mut state = number;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    });
    let length = usize::try_from(number % 300).unwrap();
    words.flat_map(u64::to_le_bytes).take(length).collect()
}
