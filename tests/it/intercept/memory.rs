//! Hostile clients and backends cause no lasting growth of memory, and do not affect other
//! sessions.

use infrarust_test_support::game::{self, Ids, Speaker, deflated};
use infrarust_test_support::program::Program;

use super::{NOTCH_OFFLINE, enter, text, uuid};
use crate::support::wire::{string, varint};
use crate::support::{FakeBackend, server};

const PROTOCOL: i32 = 774;
/// Players who play on.
const OTHERS: usize = 49;
/// The most bytes by which the process may have grown at the end.
pub(super) const GROWTH_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A packet of play that the proxy passes, in each direction.
const DOWN: i32 = 0x2C;
const UP: i32 = 0x1D;
/// A click in a dialog.
const CLICK: i32 = 0x41;

/// The private memory of a process, in bytes.
pub(super) fn memory(program: &Program) -> usize {
    let status = format!("/proc/{}/status", program.child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

/// A proxy in a separate process, and its backend.
struct Attacked {
    program: Program,
    address: std::net::SocketAddr,
    backend: FakeBackend,
}

impl Attacked {
    /// Starts it with this threshold towards clients.
    async fn start(threshold: i32) -> Self {
        let backend = FakeBackend::start().await;
        let more = format!("compression_threshold = {threshold}\ndisconnect_message = \"lost\"");
        let file = server("offline", "play.example.com", backend.address, &more);
        let mut program = Program::start("", &[("a", file)]);
        let address = program.address().await;
        Self {
            program,
            address,
            backend,
        }
    }

    /// A player in the game. The connection is compressed if that of the backend is.
    async fn playing(&self, name: &str, threshold: i32) -> (Speaker, Speaker) {
        let mut client = game::begin(self.address, PROTOCOL, name).await;
        client.be_lenient();
        let (mut peer, _, _) = game::accept(&self.backend).await;
        if threshold >= 0 {
            peer.send(3, &varint(threshold)).await;
            peer.compress(threshold);
        }
        let success = game::login_success(PROTOCOL, uuid(NOTCH_OFFLINE), name);
        peer.send(2, &success).await;
        if threshold >= 0 {
            client.expect(3).await;
            client.compress(threshold);
        }
        client.expect(2).await;
        client.send(3, &[]).await;
        peer.expect(3).await;
        enter(&mut client, &mut peer, PROTOCOL).await;
        (client, peer)
    }
}

/// A frame with compression that announces this length.
fn raw(length: usize, compressed: &[u8]) -> Vec<u8> {
    let content = [varint(i32::try_from(length).unwrap()), compressed.to_vec()].concat();
    [varint(i32::try_from(content.len()).unwrap()), content].concat()
}

/// A click in a dialog with compounds nested this deep.
fn click(depth: usize) -> Vec<u8> {
    let mut tag = b"\x0A".to_vec();
    tag.extend(b"\x0A\0\0".repeat(depth));
    tag.extend(vec![0; depth + 1]);
    let length = varint(i32::try_from(tag.len()).unwrap());
    [string("a:b"), length, tag].concat()
}

/// Every kind of compression bomb, from a client and from a backend, several times: the
/// session of its sender ends, forty-nine others play on, and the memory is freed.
#[tokio::test]
async fn bombs() {
    const MIB: usize = 1024 * 1024;
    let attacked = Attacked::start(256).await;
    let mut others = Vec::new();
    for index in 0..OTHERS {
        others.push(attacked.playing(&format!("p{index}"), 256).await);
    }
    let zeros = |bytes: usize| deflated(&vec![0; bytes]);
    let packet = |id: i32, bytes: usize| [varint(id), vec![0; bytes]].concat();
    let of_clients: Vec<(&str, Vec<u8>)> = vec![
        ("more than 2 MiB", raw(2 * MIB + 1, &zeros(2 * MIB + 1))),
        ("much more", raw(500 * MIB, &zeros(4 * MIB))),
        (
            "1.9 MiB, sixty times a second",
            raw(1_900_000 + 1, &deflated(&packet(UP, 1_900_000))).repeat(120),
        ),
        ("a length that lies", raw(MIB, &zeros(2 * MIB))),
        (
            "a length that lies the other way",
            raw(2 * MIB, &zeros(MIB)),
        ),
        ("tags 10 000 deep", {
            let click = [varint(CLICK), click(10_000)].concat();
            raw(click.len(), &deflated(&click))
        }),
    ];
    let of_backends: Vec<(&str, Vec<u8>)> = vec![
        ("more than 8 MiB", raw(8 * MIB + 1, &zeros(8 * MIB + 1))),
        ("a length that lies", raw(MIB, &zeros(2 * MIB))),
        ("nonsense", raw(MIB, b"no zlib at all")),
        ("a length of four bytes", vec![0x80, 0x80, 0x80, 1]),
    ];
    let before = memory(&attacked.program);
    for round in 0..4 {
        for (what, bytes) in &of_clients {
            let (mut client, mut peer) = attacked.playing("Notch", 256).await;
            let drained = async { while peer.next().await.is_some() {} };
            tokio::join!(client.send_raw(bytes), drained);
            let body = client.expect(Ids::of(PROTOCOL).disconnect).await;
            let text = text(PROTOCOL, &body);
            assert!(text.contains("does not understand"), "{what}: {text}");
            client.expect_end().await;
            plays_on(&mut others, round).await;
        }
        for (what, bytes) in &of_backends {
            let (mut client, mut peer) = attacked.playing("Notch", 256).await;
            peer.send_raw(bytes).await;
            let body = client.expect(Ids::of(PROTOCOL).disconnect).await;
            assert_eq!(text(PROTOCOL, &body), "lost", "{what}");
            client.expect_end().await;
            peer.expect_end().await;
            plays_on(&mut others, round).await;
        }
    }
    let growth = memory(&attacked.program).saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes");
    // Clicks as deep as the game allows, and deeper ones below the bound, pass.
    for depth in [1, 16, 500] {
        let (client, peer) = &mut others[0];
        client.send(CLICK, &click(depth)).await;
        assert_eq!(peer.expect(CLICK).await, click(depth));
    }
}

/// Asserts that these players play.
async fn plays_on(players: &mut [(Speaker, Speaker)], number: u8) {
    for (client, peer) in players {
        peer.send(DOWN, &[number]).await;
        assert_eq!(client.expect(DOWN).await, [number]);
        client.send(UP, &[number]).await;
        assert_eq!(peer.expect(UP).await, [number]);
    }
}

/// The bytes held for a player who does not read are bounded, however much the backend
/// sends. The same holds for a backend that does not read.
#[tokio::test]
async fn sides_that_do_not_read() {
    const PLAYERS: usize = 10;
    /// The backlog that stops the other side, and what one read adds to it.
    const HELD_BYTES_MAX: usize = 1024 * 1024;
    let attacked = Attacked::start(-1).await;
    let mut players = Vec::new();
    for index in 0..2 * PLAYERS {
        players.push(attacked.playing(&format!("p{index}"), -1).await);
    }
    let before = memory(&attacked.program);
    let floods = players.iter().enumerate().map(|(index, (client, peer))| {
        let (writer, id) = match index < PLAYERS {
            true => (peer, DOWN),
            false => (client, UP),
        };
        super::pressure::flood(writer, id)
    });
    futures_util::future::join_all(floods).await;
    let growth = memory(&attacked.program).saturating_sub(before);
    assert!(growth <= 2 * PLAYERS * HELD_BYTES_MAX, "{growth} bytes");
}
