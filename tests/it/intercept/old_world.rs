//! Up to 1.20.1 a client stays in play at a switch, and may still send what the player does
//! in the old world: that reaches nobody. What it sends in the new world reaches the new
//! server, whichever sign of it comes first.

use infrarust_test_support::game::Speaker;

use super::channel::{expect_past_channels, play};
use super::fallback::{More, join_game};
use super::switching::{connect, let_in, network};
use super::{begin, welcome};
use crate::support::{FakeBackend, TestProxy, wire};

/// The versions, each with the ids of its packets.
const VERSIONS: [World; 5] = [
    World::new(5, 0x04, 0x06, 0x07, 0x01, 0x17),
    World::new(47, 0x04, 0x06, 0x07, 0x01, 0x17),
    World::new(340, 0x0D, 0x0E, 0x14, 0x02, 0x09),
    World::new(754, 0x12, 0x13, 0x1B, 0x03, 0x0B),
    World::new(763, 0x14, 0x15, 0x1D, 0x05, 0x0D),
];

/// Packets of the client.
#[derive(Clone, Copy)]
struct World {
    protocol: i32,
    position: i32,
    position_and_look: i32,
    dig: i32,
    chat: i32,
    plugin: i32,
}

/// How a server puts a player somewhere.
struct Teleport {
    id: i32,
    fields: Vec<u8>,
    /// The client's answer to it, and one to another place.
    answer: (i32, Vec<u8>),
    other: (i32, Vec<u8>),
}

impl World {
    const fn new(
        protocol: i32,
        position: i32,
        position_and_look: i32,
        dig: i32,
        chat: i32,
        plugin: i32,
    ) -> Self {
        Self {
            protocol,
            position,
            position_and_look,
            dig,
            chat,
            plugin,
        }
    }

    /// The fields of the message with the name of the client's software.
    fn brand(self) -> Vec<u8> {
        let channel = match self.protocol {
            ..393 => "MC|Brand",
            _ => "minecraft:brand",
        };
        let length: &[u8] = if self.protocol < 47 { &[0, 8] } else { &[] };
        [&wire::string(channel), length, &wire::string("vanilla")].concat()
    }

    fn teleport(self) -> Teleport {
        let place = |x: f64| [x.to_be_bytes(), 64f64.to_be_bytes(), 9f64.to_be_bytes()].concat();
        let (angles, flags) = ([0; 8], [0]);
        let id = match self.protocol {
            5 | 47 => 0x08,
            340 => 0x2F,
            754 => 0x34,
            763 => 0x3C,
            other => panic!("no id for {other}"),
        };
        let mut fields = [&place(7.5)[..], &angles, &flags].concat();
        if self.protocol >= 107 {
            fields.push(3);
            return Teleport {
                id,
                fields,
                answer: (0, vec![3]),
                other: (0, vec![4]),
            };
        }
        let echo = |x: f64| {
            let height = 65.6f64.to_be_bytes();
            let place = place(x);
            let height: &[u8] = if self.protocol < 47 { &height } else { &[] };
            let fields = [&place[..16], height, &place[16..], &angles, &flags].concat();
            (self.position_and_look, fields)
        };
        Teleport {
            id,
            fields,
            answer: echo(7.5),
            other: echo(8.5),
        }
    }

    async fn move_to(self, client: &mut Speaker, place: &[u8]) {
        client.send(self.position, place).await;
    }
}

/// A proxy with a network of three servers, `a`, `b` and `c`.
fn three([a, b, c]: [&FakeBackend; 3]) -> TestProxy {
    network("", &[("a", a, ""), ("b", b, ""), ("c", c, "")])
}

/// The server lets the player in, and the client is sent into its world: what it reads
/// there comes behind the respawn.
async fn arrive(client: &mut Speaker, backend: &FakeBackend, protocol: i32) -> Speaker {
    let server = let_in(backend, protocol, 2).await;
    while client.next().await.expect("the end came").0 != More::of(protocol).respawn {}
    server
}

/// The player goes from `a` to `b`. The server has read the settings of which the proxy
/// knows.
async fn switch(
    client: &mut Speaker,
    first: &mut Speaker,
    b: &FakeBackend,
    protocol: i32,
) -> Speaker {
    connect(first, protocol, "b").await;
    let mut second = arrive(client, b, protocol).await;
    let settings = More::of(protocol).settings;
    expect_past_channels(&mut second, protocol, settings).await;
    second
}

/// A player who has come from `a` to `b`, and the server there.
async fn come_to_b(
    proxy: &TestProxy,
    a: &FakeBackend,
    b: &FakeBackend,
    protocol: i32,
) -> (Speaker, Speaker) {
    let (mut client, mut first) = play(proxy, a, protocol).await;
    let second = switch(&mut client, &mut first, b, protocol).await;
    (client, second)
}

/// Movements and what the player does reach the new server from the client's settings on,
/// which it sends in each world first. Chat reaches it before as well.
#[tokio::test]
async fn until_the_settings() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = three([&a, &b, &c]);
    for world in VERSIONS {
        let (protocol, settings) = (world.protocol, More::of(world.protocol).settings);
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        world.move_to(&mut client, b"in a").await;
        let place = expect_past_channels(&mut first, protocol, world.position).await;
        assert_eq!(place, b"in a", "{protocol}");
        let mut second = switch(&mut client, &mut first, &b, protocol).await;
        for _ in 0..20 {
            world.move_to(&mut client, b"old").await;
            client.send(world.dig, b"old").await;
        }
        let line = [wire::string("hi"), vec![0; 40]].concat();
        client.send(world.chat, &line).await;
        client.send(settings, b"in b").await;
        world.move_to(&mut client, b"new").await;
        client.send(world.dig, b"new").await;
        let said = expect_past_channels(&mut second, protocol, world.chat).await;
        assert_eq!(said, line, "{protocol}");
        assert_eq!(second.expect(settings).await, b"in b", "{protocol}");
        assert_eq!(second.expect(world.position).await, b"new", "{protocol}");
        assert_eq!(second.expect(world.dig).await, b"new", "{protocol}");
        drop((client, second));
        proxy.idle().await;
    }
}

/// A client that does not send its settings again has come when it answers where the new
/// server has put it.
#[tokio::test]
async fn until_the_answer_to_a_teleport() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = three([&a, &b, &c]);
    for world in VERSIONS {
        let protocol = world.protocol;
        let (mut client, mut second) = come_to_b(&proxy, &a, &b, protocol).await;
        world.move_to(&mut client, b"old").await;
        let Teleport {
            id,
            fields,
            answer,
            other,
        } = world.teleport();
        second.send(id, &fields).await;
        assert_eq!(client.expect(id).await, fields, "{protocol}");
        world.move_to(&mut client, b"old").await;
        if protocol < 107 {
            client.send(other.0, &other.1).await;
        }
        client.send(answer.0, &answer.1).await;
        world.move_to(&mut client, b"new").await;
        let answered = expect_past_channels(&mut second, protocol, answer.0).await;
        assert_eq!(answered, answer.1, "{protocol}");
        assert_eq!(second.expect(world.position).await, b"new", "{protocol}");
        // From now on it can be anywhere.
        client.send(other.0, &other.1).await;
        assert_eq!(second.expect(other.0).await, other.1, "{protocol}");
        drop((client, second));
        proxy.idle().await;
    }
}

/// The first server passes the player on before the client has answered its join game: the
/// settings for the first one do not open the world of the second.
#[tokio::test]
async fn at_two_switches_at_once() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = three([&a, &b, &c]);
    for world in VERSIONS {
        let (protocol, settings) = (world.protocol, More::of(world.protocol).settings);
        let (mut client, mut first) = begin(&proxy, &a, protocol, "Notch").await;
        welcome(&mut client, &mut first, protocol).await;
        let join = infrarust_test_support::game::Ids::of(protocol).join;
        first.send(join, &join_game(protocol, 1)).await;
        client.expect(join).await;
        connect(&mut first, protocol, "b").await;
        let mut second = arrive(&mut client, &b, protocol).await;
        connect(&mut second, protocol, "c").await;
        let mut third = arrive(&mut client, &c, protocol).await;
        for place in [&b"in a"[..], b"in b", b"in c"] {
            client.send(settings, place).await;
            client.send(world.plugin, &world.brand()).await;
            world.move_to(&mut client, place).await;
        }
        let mut read = Vec::new();
        let moved = loop {
            let (id, body) = third.next().await.expect("the end came");
            if id == world.position {
                break body;
            }
            if id == settings {
                read.push(body);
            }
        };
        assert_eq!(moved, b"in c", "{protocol}");
        assert_eq!(read, [b"in a", b"in b", b"in c"], "{protocol}");
        drop((client, third));
        proxy.idle().await;
    }
}

/// If a client never shows that it is in the new world, its first 100 packets are dropped,
/// and the later ones pass.
#[tokio::test]
async fn without_a_sign() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = three([&a, &b, &c]);
    for world in VERSIONS {
        let protocol = world.protocol;
        let (mut client, mut second) = come_to_b(&proxy, &a, &b, protocol).await;
        for number in 0..=100 {
            world.move_to(&mut client, &[number]).await;
        }
        let place = expect_past_channels(&mut second, protocol, world.position).await;
        assert_eq!(place, [100], "{protocol}");
        drop((client, second));
        proxy.idle().await;
    }
}
