//! Packets with contents over a limit: the connection of their sender ends, the log names
//! the limit, and others play on. Contents at the limit pass.

use infrarust_test_support::game::{self, Ids, Speaker, deflated};
use infrarust_test_support::program::Program;

use super::{NO_COMPRESSION, enter, text, uuid, welcome};
use crate::support::wire::{string, varint};
use crate::support::{FakeBackend, server};

/// A proxy and its log, and a backend.
struct Bounded {
    program: Program,
    address: std::net::SocketAddr,
    backend: FakeBackend,
}

impl Bounded {
    async fn start() -> Self {
        let backend = FakeBackend::start().await;
        let file = server(
            "offline",
            "play.example.com",
            backend.address,
            &format!("{NO_COMPRESSION}\ndisconnect_message = \"lost\""),
        );
        let mut program = Program::start("", &[("a", file)]);
        let address = program.address().await;
        Self {
            program,
            address,
            backend,
        }
    }

    async fn begin(&self, protocol: i32, name: &str) -> (Speaker, Speaker) {
        let client = game::begin(self.address, protocol, name).await;
        let (server, _, _) = game::accept(&self.backend).await;
        (client, server)
    }

    /// A player in the configuration.
    async fn configured(&self, protocol: i32) -> (Speaker, Speaker) {
        let (mut client, mut server) = self.begin(protocol, "Notch").await;
        welcome(&mut client, &mut server, protocol).await;
        (client, server)
    }

    async fn playing(&self, protocol: i32) -> (Speaker, Speaker) {
        let (mut client, mut server) = self.configured(protocol).await;
        enter(&mut client, &mut server, protocol).await;
        (client, server)
    }

    /// The limit that the next log line about an end names.
    async fn logged(&mut self) -> String {
        let ends = ["session ended", "the login failed", "no backend for"];
        loop {
            let line = self.program.line_with("").await;
            let message = line["message"].as_str().unwrap_or_default();
            if ends.iter().any(|end| message.starts_with(end)) {
                return format!("{} by={}", line["error"], line["by"]);
            }
        }
    }
}

const NOTCH: &str = super::NOTCH_OFFLINE;

fn letters(count: usize) -> Vec<u8> {
    string(&"x".repeat(count))
}

fn message(channel: &str, bytes: usize) -> Vec<u8> {
    [string(channel), vec![7; bytes]].concat()
}

/// A list of `count` packs, with at least `bytes` bytes.
fn packs(count: i32, bytes: usize) -> Vec<u8> {
    [varint(count), vec![0; bytes]].concat()
}

fn channels(count: usize, length: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|n| format!("{n:0>length$}")).collect();
    [string("minecraft:register"), names.join("\0").into_bytes()].concat()
}

/// A command with a time, a salt and signatures.
fn command(characters: usize, signatures: i32) -> Vec<u8> {
    [letters(characters), vec![0; 16], varint(signatures)].concat()
}

fn completion(protocol: i32, characters: usize) -> Vec<u8> {
    let number = if protocol >= 393 { vec![1] } else { vec![] };
    [number, letters(characters)].concat()
}

/// A version, a packet id, the fields of a packet at the limit and of one over it, and the
/// text in the log.
type Case = (i32, i32, Vec<u8>, Vec<u8>, &'static str);

/// The limits of a client in play.
#[tokio::test]
async fn limits_of_clients_in_play() {
    let mut proxy = Bounded::start().await;
    let (mut other, mut of_other) = proxy.begin(767, "Other").await;
    game::welcome(
        [&mut other, &mut of_other],
        767,
        (uuid(NOTCH), "Other"),
        None,
    )
    .await;
    enter(&mut other, &mut of_other, 767).await;

    let chat = "a line of chat of more than";
    let long_command = "a command of more than";
    let plugin = "a plugin message of more than 32767 bytes";
    let old = [string("a:b"), vec![0x7F; 40_000]].concat();
    let cases: Vec<Case> = vec![
        (47, 0x01, letters(100), letters(101), chat),
        (340, 0x02, letters(256), letters(257), chat),
        (759, 0x04, letters(256), letters(257), chat),
        (767, 0x06, letters(256), letters(257), chat),
        (759, 0x03, command(256, 8), command(257, 0), long_command),
        (759, 0x03, command(9, 8), command(9, 9), "8 signatures"),
        (767, 0x04, letters(32_767), letters(32_768), long_command),
        (767, 0x05, command(32_767, 8), command(9, 9), "8 signatures"),
        (
            340,
            0x01,
            completion(340, 2048),
            completion(340, 2049),
            "2048",
        ),
        (
            767,
            0x0B,
            completion(767, 32_500),
            completion(767, 32_501),
            "32500",
        ),
        (5, 0x17, old, message("a:b", 0x1F_FF9B), "bytes"),
        (
            340,
            0x09,
            message("a", 32_767),
            message("a", 32_768),
            plugin,
        ),
        (
            767,
            0x12,
            message("a:b", 32_767),
            message("a:b", 32_768),
            plugin,
        ),
        (
            767,
            0x12,
            channels(256, 100),
            channels(257, 100),
            "256 channels",
        ),
        (
            767,
            0x12,
            channels(3, 128),
            channels(3, 129),
            "128 characters",
        ),
    ];
    for (protocol, id, within, beyond, expected) in cases {
        let (mut client, mut server) = proxy.playing(protocol).await;
        client.send(id, &within).await;
        assert_eq!(server.expect(id).await, within, "{protocol} {expected}");
        client.send(id, &beyond).await;
        let body = client.expect(Ids::of(protocol).disconnect).await;
        assert!(text(protocol, &body).contains("does not understand"));
        server.expect_end().await;
        client.expect_end().await;
        drop(client);
        let line = proxy.logged().await;
        assert!(line.contains(expected), "{protocol} {id:#x}: {line}");
        assert!(line.ends_with("by=\"client\""), "{line}");
        of_other.send(0x22, expected.as_bytes()).await;
        assert_eq!(other.expect(0x22).await, expected.as_bytes());
    }
}

/// Packets that cannot be parsed up to the limited field pass, except for a cookie with an
/// unknown name.
#[tokio::test]
async fn malformed_packets_pass() {
    let proxy = Bounded::start().await;
    let (mut client, mut server) = proxy.configured(767).await;
    for (id, body) in [(2, vec![9, b'x']), (7, packs(-1, 0)), (7, vec![])] {
        client.send(id, &body).await;
        assert_eq!(server.expect(id).await, body);
    }
    for (id, body) in [(1, vec![9, b'x']), (0x0E, packs(-1, 0)), (0x0A, vec![])] {
        server.send(id, &body).await;
        assert_eq!(client.expect(id).await, body);
    }
    enter(&mut client, &mut server, 767).await;
    for id in [0x04, 0x05, 0x06, 0x0B, 0x12] {
        client.send(id, &[9, b'x']).await;
        assert_eq!(server.expect(id).await, [9, b'x']);
    }
    for id in [0x16, 0x19, 0x6B] {
        server.send(id, &[9, b'x']).await;
        assert_eq!(client.expect(id).await, [9, b'x']);
    }
    client.send(0x11, &[9, b'x']).await;
    server.expect_end().await;
}

/// Channels that the client unregisters no longer count.
#[tokio::test]
async fn unregistered_channels_do_not_count() {
    let proxy = Bounded::start().await;
    let (mut client, mut server) = proxy.playing(767).await;
    let all = channels(256, 9);
    let give_up = [string("minecraft:unregister"), b"000000000\0".to_vec()].concat();
    let another = [string("minecraft:register"), b"another:one".to_vec()].concat();
    for body in [&all, &all, &give_up, &another] {
        client.send(0x12, body).await;
        assert_eq!(&server.expect(0x12).await, body);
    }
    client.send(0x12, &channels(1, 9)).await;
    server.expect_end().await;
}

/// If a client requests more completions than a player can type, some are not answered, and
/// the client plays on.
#[tokio::test]
async fn completions_above_the_rate_are_dropped() {
    let proxy = Bounded::start().await;
    let (mut client, mut server) = proxy.playing(767).await;
    let request = client.framed(0x0B, &completion(767, 5));
    client.send_raw(&request.repeat(2000)).await;
    client.send(0x1A, b"position").await;
    let mut passed = 0;
    while server.next().await.unwrap().0 == 0x0B {
        passed += 1;
    }
    // Fifty at once, and what refills while they are read.
    assert!((50..1000).contains(&passed), "{passed}");
    server.send(0x22, b"still here").await;
    assert_eq!(client.expect(0x22).await, b"still here");
}

/// The limits of a client in a configuration.
#[tokio::test]
async fn limits_of_clients_in_configuration() {
    let mut proxy = Bounded::start().await;
    let plugin = message("a:b", 32_767);
    let cases: Vec<Case> = vec![
        (767, 2, plugin, message("a:b", 32_768), "32767 bytes"),
        (
            767,
            2,
            channels(256, 100),
            channels(257, 100),
            "256 channels",
        ),
        (767, 7, packs(1024, 3000), packs(1025, 3000), "1024 packs"),
        (767, 7, packs(9, 65_000), packs(9, 65_536), "65536 bytes"),
    ];
    for (protocol, id, within, beyond, expected) in cases {
        let (mut client, mut server) = proxy.configured(protocol).await;
        client.send(id, &within).await;
        assert_eq!(server.expect(id).await, within);
        client.send(id, &beyond).await;
        let body = client.expect(2).await;
        assert!(text(protocol, &body).contains("does not understand"));
        server.expect_end().await;
        drop(client);
        let line = proxy.logged().await;
        assert!(line.contains(expected), "{id:#x}: {line}");
    }
}

/// A cookie passes if the backend has requested it, in configuration and in play. A cookie
/// without a request, a second one for the same request, and one that is too long end the
/// session of the client.
#[tokio::test]
async fn cookies() {
    let mut proxy = Bounded::start().await;
    let cookie = |bytes: usize| {
        let length = i32::try_from(bytes).unwrap();
        [string("a:b"), vec![1], varint(length), vec![5; bytes]].concat()
    };
    let none = [string("a:b"), vec![0]].concat();
    // Request and answer in configuration and in play.
    for (in_play, request, answer) in [(false, 0, 1), (true, 0x16, 0x11)] {
        for (asked, sent, expected) in [
            (0, &none, "nobody has asked for"),
            (1, &none, "nobody has asked for"),
            (2, &cookie(5121), "a cookie of more than 5120 bytes"),
        ] {
            let (mut client, mut server) = match in_play {
                true => proxy.playing(767).await,
                false => proxy.configured(767).await,
            };
            for _ in 0..asked {
                server.send(request, &string("a:b")).await;
                client.expect(request).await;
            }
            if asked > 0 {
                client.send(answer, &cookie(5120)).await;
                assert_eq!(server.expect(answer).await, cookie(5120));
            }
            client.send(answer, sent).await;
            server.expect_end().await;
            drop(client);
            let line = proxy.logged().await;
            assert!(line.contains(expected), "{line}");
        }
    }
    // One that was asked for in the configuration may be answered in play.
    let (mut client, mut server) = proxy.configured(767).await;
    server.send(0, &string("a:b")).await;
    client.expect(0).await;
    enter(&mut client, &mut server, 767).await;
    client.send(0x11, &none).await;
    assert_eq!(server.expect(0x11).await, none);
}

/// The limits of a backend, in a configuration and in play.
#[tokio::test]
async fn limits_of_backends() {
    const MIB: usize = 1024 * 1024;
    let mut proxy = Bounded::start().await;
    let cookie = |bytes: usize| {
        let length = i32::try_from(bytes).unwrap();
        [string("a:b"), varint(length), vec![5; bytes]].concat()
    };
    let plugin = "a plugin message of more than 1048576 bytes";
    let stored = "a cookie of more than 5120 bytes";
    let cases = [
        (
            false,
            1,
            message("a:b", MIB),
            message("a:b", MIB + 1),
            plugin,
        ),
        (false, 0x0A, cookie(5120), cookie(5121), stored),
        (false, 0x0E, packs(1024, 9), packs(1025, 9), "1024 packs"),
        (
            false,
            0x0E,
            packs(9, 65_000),
            packs(9, 65_536),
            "65536 bytes",
        ),
        (
            true,
            0x19,
            message("a:b", MIB),
            message("a:b", MIB + 1),
            plugin,
        ),
        (true, 0x6B, cookie(5120), cookie(5121), stored),
    ];
    for (in_play, id, within, beyond, expected) in cases {
        let (mut client, mut server) = match in_play {
            true => proxy.playing(767).await,
            false => proxy.configured(767).await,
        };
        let sending = server.send(id, &within);
        let (read, ()) = tokio::join!(client.expect(id), sending);
        assert!(read == within, "{expected}");
        server.send(id, &beyond).await;
        let (disconnect, reason) = match in_play {
            true => (0x1D, "lost"),
            false => (2, "does not understand"),
        };
        let body = client.expect(disconnect).await;
        assert!(text(767, &body).contains(reason));
        server.expect_end().await;
        drop(client);
        let line = proxy.logged().await;
        assert!(line.contains(expected), "{id:#x}: {line}");
    }
}

/// A backend that requests cookies without end, and one that sends a packet which
/// decompresses to more than clients accept.
#[tokio::test]
async fn floods_of_backends() {
    let mut proxy = Bounded::start().await;
    for (in_play, request) in [(false, 0), (true, 0x16)] {
        let (mut client, mut server) = match in_play {
            true => proxy.playing(767).await,
            false => proxy.configured(767).await,
        };
        let asking = async {
            for _ in 0..1025 {
                server.send(request, &string("a:b")).await;
            }
            server.expect_end().await;
        };
        let reading = async { while client.next().await.unwrap().0 == request {} };
        tokio::join!(asking, reading);
        drop(client);
        let line = proxy.logged().await;
        assert!(line.contains("more than 1024 names"), "{line}");
    }
    let (mut client, mut server) = proxy.begin(767, "Notch").await;
    server.send(3, &varint(256)).await;
    server.compress(256);
    welcome(&mut client, &mut server, 767).await;
    enter(&mut client, &mut server, 767).await;
    let bomb = vec![0x22; 8 * 1024 * 1024 + 1];
    let announced = varint(i32::try_from(bomb.len()).unwrap());
    let content = [announced, deflated(&bomb)].concat();
    let length = varint(i32::try_from(content.len()).unwrap());
    server.send_raw(&[length, content].concat()).await;
    let body = client.expect(0x1D).await;
    assert_eq!(text(767, &body), "lost");
    server.expect_end().await;
    drop(client);
    let line = proxy.logged().await;
    assert!(line.contains("8388608 are the limit"), "{line}");
    assert!(line.ends_with("by=\"backend\""), "{line}");
}
