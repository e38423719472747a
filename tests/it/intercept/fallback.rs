//! A player of a network who loses the server moves to another one without a new
//! connection.

use infrarust_test_support::game::{self, Ids, Sessions, Speaker, refusal};
use infrarust_test_support::program::Program;

use super::turns::{CLIENT_TOO_SLOW, pass};
use super::{NOTCH, admit, begin, enter, occupy, text, uuid, welcome};
use crate::support::{FakeBackend, TestProxy, server, wire, within};

/// Packets of play that only these tests and those of switches use.
pub(super) struct More {
    /// Clientbound.
    pub(super) respawn: i32,
    pub(super) start_configuration: i32,
    pub(super) chat: i32,
    pub(super) keep_alive: i32,
    /// Serverbound.
    pub(super) settings: i32,
    pub(super) configuration_acknowledged: i32,
    pub(super) keep_alive_answer: i32,
    /// A packet that the proxy does not read.
    pub(super) swing: i32,
}

impl More {
    pub(super) fn of(protocol: i32) -> Self {
        let ids = match protocol {
            5 => (0x07, 0, 0x02, 0x00, 0x15, 0, 0x00),
            47 => (0x07, 0, 0x02, 0x00, 0x15, 0, 0x00),
            340 => (0x35, 0, 0x0F, 0x1F, 0x04, 0, 0x0B),
            578 => (0x3B, 0, 0x0F, 0x21, 0x05, 0, 0x0F),
            735 => (0x3A, 0, 0x0E, 0x20, 0x05, 0, 0x10),
            754 => (0x39, 0, 0x0E, 0x1F, 0x05, 0, 0x10),
            761 => (0x3D, 0, 0x60, 0x1F, 0x07, 0, 0x11),
            763 => (0x41, 0, 0x64, 0x23, 0x08, 0, 0x12),
            764 => (0x43, 0x65, 0x67, 0x24, 0x09, 0x0B, 0x14),
            765 => (0x45, 0x67, 0x69, 0x24, 0x09, 0x0B, 0x15),
            767 => (0x47, 0x69, 0x6C, 0x26, 0x0A, 0x0C, 0x18),
            770 => (0x4B, 0x6F, 0x72, 0x26, 0x0C, 0x0E, 0x1A),
            776 => (0x52, 0x76, 0x79, 0x2C, 0x0E, 0x10, 0x1C),
            other => panic!("no ids for {other}"),
        };
        let (respawn, start_configuration, chat, keep_alive, settings, acknowledged, answer) = ids;
        Self {
            respawn,
            start_configuration,
            chat,
            keep_alive,
            settings,
            configuration_acknowledged: acknowledged,
            keep_alive_answer: answer,
            swing: 0x70,
        }
    }
}

/// A join game of the overworld with this entity id.
pub(super) fn join_game(protocol: i32, entity: u8) -> Vec<u8> {
    let worlds = b"\x01\x01w\x0a\0\0\0";
    let entity = [0, 0, 0, entity];
    let rest: Vec<u8> = match protocol {
        5 => b"\x01\0\x02\x14\x07default".to_vec(),
        47 => b"\x01\0\x02\x14\x07default\0".to_vec(),
        340 => b"\x01\0\0\0\0\x02\x14\x07default\0".to_vec(),
        578 => b"\x01\0\0\0\0seedseed\x14\x07default\x08\0\x01".to_vec(),
        735 => [
            b"\x01\xFF",
            &worlds[..],
            b"\x01d\x01wseedseed\x14\x08\0\x01\0\0",
        ]
        .concat(),
        754 => {
            let nbt = b"\x0a\0\0\0";
            [
                b"\0\x01\xFF",
                &worlds[..],
                nbt,
                b"\x01wseedseed\x14\x08\0\x01\0\0",
            ]
            .concat()
        }
        761 => [
            b"\0\x01\xFF",
            &worlds[..],
            b"\x01d\x01wseedseed\x14\x08\x06\0\x01\0\0\0",
        ]
        .concat(),
        763 => [
            b"\0\x01\xFF",
            &worlds[..],
            b"\x01d\x01wseedseed\x14\x08\x06\0\x01\0\0\0\0",
        ]
        .concat(),
        _ => vec![9, 0, 0],
    };
    [&entity[..], &rest].concat()
}

/// A proxy with a network of `offline` servers `a` and `b`; the global file and
/// both server files have these lines.
fn network(backends: [&FakeBackend; 2], global: &str, more: [&str; 2]) -> TestProxy {
    let common = "network = \"main\"\ncompression_threshold = -1\ndisconnect_message = \"lost\"\n";
    let file = |host, backend: &FakeBackend, more| {
        server("offline", host, backend.address, &format!("{common}{more}"))
    };
    let [a, b] = backends;
    TestProxy::start(
        global,
        &[
            ("a", file("play.example.com", a, more[0])),
            ("b", file("b.example.com", b, more[1])),
        ],
    )
}

/// A client that has begun a login comes into the game, in the world of entity 1.
pub(super) async fn play_first(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    welcome(client, server, protocol).await;
    if protocol >= 764 {
        enter(client, server, protocol).await;
    } else {
        let join = Ids::of(protocol).join;
        server.send(join, &join_game(protocol, 1)).await;
        client.expect(join).await;
    }
}

/// A player in the game on server `a`, which knows the client's settings.
async fn play_on_a(proxy: &TestProxy, a: &FakeBackend, protocol: i32) -> (Speaker, Speaker) {
    let (mut client, mut server) = begin(proxy, a, protocol, "Notch").await;
    play_first(&mut client, &mut server, protocol).await;
    let settings = More::of(protocol).settings;
    client.send(settings, b"settings of the client").await;
    server.expect(settings).await;
    (client, server)
}

/// The other server accepts the player. Returns its connection.
pub(super) async fn accept_on_b(b: &FakeBackend, protocol: i32) -> Speaker {
    let (mut server, _, start) = game::accept(b).await;
    assert!(start.starts_with(&wire::string("Notch")));
    admit(&mut server, protocol).await;
    server
}

/// The client comes into the game of server `b`, and reads the message about the move right
/// after the join game.
async fn arrive_on_b(client: &mut Speaker, server: &mut Speaker, protocol: i32) -> Vec<u8> {
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    if protocol < 764 {
        // A plugin message in front of the join game reaches the client behind it.
        let brand = match protocol {
            5 => [wire::string("MC|Other"), vec![0, 1, 7]].concat(),
            _ => [wire::string("a:b"), vec![7]].concat(),
        };
        server.send(ids.plugin, &brand).await;
        server.send(ids.join, &join_game(protocol, 2)).await;
        loop {
            let (id, body) = client.next().await.unwrap();
            if id == ids.join {
                assert_eq!(body[..4], [0, 0, 0, 2]);
                break;
            }
            assert!(
                ![ids.plugin, ids.disconnect, more.chat].contains(&id),
                "{id}"
            );
        }
        client.expect(more.respawn).await;
        assert_eq!(client.expect(ids.plugin).await, brand);
        assert_eq!(
            server.expect(more.settings).await,
            b"settings of the client"
        );
    } else {
        client.expect(more.start_configuration).await;
        configure_on_b(client, server, protocol).await;
    }
    client.expect(more.chat).await
}

/// The client goes through the configuration of server `b` into its game, since 1.20.2.
async fn configure_on_b(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let more = More::of(protocol);
    // What was on the way reaches nobody.
    client.send(more.swing, b"for a").await;
    client.send(more.configuration_acknowledged, &[]).await;
    take_in(client, server, protocol).await;
}

/// The server, which has accepted the client, takes it through a configuration into its
/// game, from 1.20.2 on.
pub(super) async fn take_in(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let join = Ids::of(protocol).join;
    server.expect(3).await;
    assert_eq!(server.expect(0).await, b"settings of the client");
    game::configure_with([client, server], protocol, b"the registry").await;
    server.send(join, &join_game(protocol, 2)).await;
    client.expect(join).await;
}

/// Bytes pass in both directions.
pub(super) async fn both_ways(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let swing = More::of(protocol).swing;
    client.send(swing, b"to b").await;
    assert_eq!(server.expect(swing).await, b"to b");
    server.send(0x22, b"from b").await;
    assert_eq!(client.expect(0x22).await, b"from b");
}

pub(super) fn contains(bytes: &[u8], part: &str) -> bool {
    bytes
        .windows(part.len())
        .any(|window| window == part.as_bytes())
}

pub(super) const ALL: [i32; 12] = [5, 47, 340, 578, 735, 754, 763, 764, 765, 767, 770, 776];

/// A backend is lost in the middle of a frame, in every family of versions: the player is
/// on the other server afterwards, and reads a message about it.
#[tokio::test]
async fn a_backend_is_lost_in_play() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["max_players = 1", "max_players = 1"]);
    for protocol in ALL {
        let (mut client, mut first) = play_on_a(&proxy, &a, protocol).await;
        first.send_raw(&[100, 0x22, 1]).await;
        drop(first);
        let mut second = accept_on_b(&b, protocol).await;
        let notice = arrive_on_b(&mut client, &mut second, protocol).await;
        assert!(
            contains(&notice, "You are on b now"),
            "{protocol}: {notice:?}"
        );
        both_ways(&mut client, &mut second, protocol).await;
        drop(client);
        second.expect_end().await;
        drop(second);
        proxy.idle().await;
    }
}

/// A backend is reset while its client reads slowly and continues to send: the client reads
/// all complete frames and is on the other server afterwards, whatever it has sent in
/// between.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_moved() {
    let sessions = Sessions::confirming("Notch").await;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let keys = "network = \"main\"\ncompression_threshold = -1\n";
    let file = |host, backend: &FakeBackend| server("client_only", host, backend.address, keys);
    let servers = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let proxy = TestProxy::start(&sessions.global(), &servers);
    let protocol = 767;
    let more = More::of(protocol);
    // In the runtime, and in the hands of a relay thread.
    for (is_settled, is_flooded) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        game::encrypt(&mut client, protocol).await;
        let (mut first, ..) = game::accept(&a).await;
        welcome(&mut client, &mut first, protocol).await;
        enter(&mut client, &mut first, protocol).await;
        client.send(more.settings, b"settings of the client").await;
        first.expect(more.settings).await;
        if is_settled {
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        }
        // It decrypts slowly, and the move must not take half a minute.
        client.receive_little();
        let chunk = first.framed(0x22, &[7; 30_000]);
        let full = std::time::Duration::from_millis(300);
        while is_flooded
            && tokio::time::timeout(full, first.send_raw(&chunk))
                .await
                .is_ok()
        {}
        first.reset();
        // Frames that are cut between two writes.
        for part in [&[6, 0x70][..], b"for", &[b'a', b'!', 6, 0x70], b"for a"] {
            client.send_raw(part).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let mut accepting = std::pin::pin!(accept_on_b(&b, protocol));
        let mut second = loop {
            tokio::select! {
                second = &mut accepting => break second,
                packet = client.next() => assert_eq!(packet.unwrap().0, 0x22),
            }
        };
        while let Some((id, _)) = client.next().await
            && id != more.start_configuration
        {
            assert_eq!(id, 0x22);
        }
        configure_on_b(&mut client, &mut second, protocol).await;
        let notice = client.expect(more.chat).await;
        assert!(contains(&notice, "You are on b now"), "{notice:?}");
        both_ways(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// A kick is not shown as such: the player reads its text on the other server.
#[tokio::test]
async fn kicks() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in ALL {
        let (mut client, mut first) = play_on_a(&proxy, &a, protocol).await;
        let body = match protocol {
            ..765 => wire::string(r#"{"text":"restarting"}"#),
            _ => b"\x08\0\x0arestarting".to_vec(),
        };
        first.send(Ids::of(protocol).disconnect, &body).await;
        let mut second = accept_on_b(&b, protocol).await;
        first.expect_end().await;
        let notice = arrive_on_b(&mut client, &mut second, protocol).await;
        assert!(contains(&notice, "restarting"), "{protocol}: {notice:?}");
        both_ways(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// The answer to a keep alive of the lost backend does not reach the other backend. The
/// answer to the other backend's own keep alive does, once.
#[tokio::test]
async fn keep_alives_are_kept_apart() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in [340, 763, 767] {
        let more = More::of(protocol);
        let (mut client, mut first) = play_on_a(&proxy, &a, protocol).await;
        first.send(more.keep_alive, &[1; 8]).await;
        client.expect(more.keep_alive).await;
        drop(first);
        let mut second = accept_on_b(&b, protocol).await;
        arrive_on_b(&mut client, &mut second, protocol).await;
        client.send(more.keep_alive_answer, &[1; 8]).await;
        second.send(more.keep_alive, &[2; 8]).await;
        client.expect(more.keep_alive).await;
        client.send(more.keep_alive_answer, &[2; 8]).await;
        assert_eq!(second.expect(more.keep_alive_answer).await, [2; 8]);
        drop((client, second));
        proxy.idle().await;
    }
}

/// If no server accepts the player, the player reads the text of the server that sent the
/// kick, or that of its file, and no slot stays taken.
#[tokio::test]
async fn no_server_accepts_the_player() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["max_players = 1", "max_players = 1"]);
    for protocol in [47, 763, 767] {
        let disconnect = Ids::of(protocol).disconnect;
        for is_kicked in [true, false] {
            let (mut client, mut first) = play_on_a(&proxy, &a, protocol).await;
            if is_kicked {
                first.send(disconnect, b"the text of a").await;
            }
            drop(first);
            // Its second address is tried before it is given up.
            drop(game::accept(&b).await);
            let body = client.expect(disconnect).await;
            match is_kicked {
                true => assert_eq!(body, b"the text of a", "{protocol}"),
                false => assert_eq!(text(protocol, &body), "lost", "{protocol}"),
            }
            client.expect_end().await;
            proxy.idle().await;
        }
    }
}

/// Each server is tried once until the player has settled: two servers that kick the player
/// end the session.
#[tokio::test]
async fn servers_that_kick_in_a_circle() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in [340, 767] {
        let disconnect = Ids::of(protocol).disconnect;
        let (mut client, first) = play_on_a(&proxy, &a, protocol).await;
        drop(first);
        let mut second = accept_on_b(&b, protocol).await;
        arrive_on_b(&mut client, &mut second, protocol).await;
        second.send(disconnect, b"the text of b").await;
        assert_eq!(client.expect(disconnect).await, b"the text of b");
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// The checks of the other server apply: its filter, and its `max_players`.
#[tokio::test]
async fn checks_of_the_other_server() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let filter = "[ip_filter]\nblacklist = [\"127.0.0.0/8\"]";
    for (more, is_occupied) in [(filter, false), ("max_players = 1", true)] {
        let proxy = network([&a, &b], "", ["", more]);
        let mut occupant = None;
        if is_occupied {
            occupant = Some(occupy(&proxy, "b.example.com", &b).await);
        }
        let (mut client, first) = play_on_a(&proxy, &a, 767).await;
        drop(first);
        let body = client.expect(Ids::of(767).disconnect).await;
        assert_eq!(text(767, &body), "lost");
        client.expect_end().await;
        drop(occupant);
        proxy.idle().await;
    }
}

/// If the first server is full, the player comes to the next one and reads why. If all are
/// full, the player reads the text of the first.
#[tokio::test]
async fn a_full_server() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let full = "max_players = 1\nfull_message = \"no room\"\n";
    let proxy = network([&a, &b], "", [full, "max_players = 1\n"]);
    let occupant = occupy(&proxy, "play.example.com", &a).await;
    for protocol in [47, 767] {
        let ids = Ids::of(protocol);
        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        let mut server = accept_on_b(&b, protocol).await;
        client.expect(2).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            server.expect(3).await;
            game::configure([&mut client, &mut server], protocol).await;
        }
        server.send(ids.join, &join_game(protocol, 2)).await;
        client.expect(ids.join).await;
        let notice = client.expect(More::of(protocol).chat).await;
        assert!(contains(&notice, "no room"), "{protocol}: {notice:?}");
        let mut third = game::begin(proxy.address(), protocol, "Third").await;
        assert!(refusal(&mut third).await.contains("no room"));
        both_ways(&mut client, &mut server, protocol).await;
        drop((client, server, third));
        // The place on b is free again.
        while proxy.running.open_connections() > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    drop(occupant);
    proxy.idle().await;
}

/// With `on_backend_loss = "kick"` the session ends with the backend's text.
#[tokio::test]
async fn a_network_that_kicks() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network(
        [&a, &b],
        "[networks.main]\non_backend_loss = \"kick\"",
        ["", ""],
    );
    let disconnect = Ids::of(767).disconnect;
    let (mut client, mut first) = play_on_a(&proxy, &a, 767).await;
    first.send(disconnect, b"the text of a").await;
    drop(first);
    assert_eq!(client.expect(disconnect).await, b"the text of a");
    client.expect_end().await;
    proxy.idle().await;
}

/// A backend is lost at each step before the player is in the game: the player comes to the
/// other server, without half of the first one's registries.
#[tokio::test]
async fn before_the_game() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in [47, 764, 767, 776] {
        let ids = Ids::of(protocol);
        for step in 0..4 {
            if step > 2 && protocol < 764 {
                continue;
            }
            let (mut client, mut first) = begin(&proxy, &a, protocol, "Notch").await;
            match step {
                0 => drop(first),
                1 => {
                    first.send(0, &wire::string(r#"{"text":"banned"}"#)).await;
                    drop(first);
                }
                _ => {
                    welcome(&mut client, &mut first, protocol).await;
                    if step == 3 {
                        let registry = Ids::of(protocol).registry;
                        first.send(registry, b"half of it").await;
                    }
                    drop(first);
                }
            }
            let mut second = accept_on_b(&b, protocol).await;
            if step < 2 {
                client.expect(2).await;
                if protocol >= 764 {
                    client.send(3, &[]).await;
                }
            }
            if protocol >= 764 {
                second.expect(3).await;
                game::configure_with([&mut client, &mut second], protocol, b"the registry").await;
            }
            second.send(ids.join, &join_game(protocol, 2)).await;
            let join = client.expect(ids.join).await;
            assert_eq!(join[..4], [0, 0, 0, 2]);
            client.expect(More::of(protocol).chat).await;
            both_ways(&mut client, &mut second, protocol).await;
            drop((client, second));
            proxy.idle().await;
        }
    }
}

/// A backend that does not let a player in is a warning in the log with the server at fault,
/// also if the player comes to another server. A refusal with a text is an answer.
#[tokio::test]
async fn a_lost_server_is_logged() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let file = |host, backend: &FakeBackend| {
        server("offline", host, backend.address, "network = \"main\"\n")
    };
    let files = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let global = "[auth]\nduplicate_login = \"replace\"\n";
    let mut program = Program::start(global, &files);
    let address = program.address().await;
    for refuses in [true, false] {
        let client = game::begin(address, 767, "Notch").await;
        let (mut first, _, _) = game::accept(&a).await;
        if refuses {
            first.send(0, &wire::string(r#"{"text":"banned"}"#)).await;
        }
        drop(first);
        let mut second = accept_on_b(&b, 767).await;
        // One after the other: without its backend the player would be brought to the first
        // server again, if the client is not gone yet.
        drop(client);
        while second.next().await.is_some() {}
    }
    let line = program.line_with("a server does not take").await;
    assert_eq!(line["server"], "a");
    assert_eq!(line["reason"], "unreachable");
}

/// A backend is lost in a configuration that it began in play: the player comes to the
/// other server, without half of the first one's registries.
#[tokio::test]
async fn in_a_configuration_of_the_backend() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in [764, 767, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let registry = Ids::of(protocol).registry;
        let (mut client, mut first) = play_on_a(&proxy, &a, protocol).await;
        // A whole one passes.
        configure(&mut client, &mut first, &more).await;
        game::configure_with([&mut client, &mut first], protocol, b"new").await;
        first.send(ids.join, &join_game(protocol, 1)).await;
        client.expect(ids.join).await;
        // Half of one does not.
        configure(&mut client, &mut first, &more).await;
        first.send(registry, b"half of it").await;
        drop(first);
        let mut second = accept_on_b(&b, protocol).await;
        take_in(&mut client, &mut second, protocol).await;
        client.expect(more.chat).await;
        both_ways(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// The backend begins a configuration, and the client acknowledges it.
async fn configure(client: &mut Speaker, server: &mut Speaker, more: &More) {
    server.send(more.start_configuration, &[]).await;
    client.expect(more.start_configuration).await;
    client.send(more.configuration_acknowledged, &[]).await;
    server.expect(more.configuration_acknowledged).await;
}

/// If every server refuses, the player reads the last reason.
#[tokio::test]
async fn every_server_refuses_the_player() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    let (mut client, mut first) = begin(&proxy, &a, 767, "Notch").await;
    first
        .send(0, &wire::string(r#"{"text":"banned on a"}"#))
        .await;
    let (mut second, ..) = game::accept(&b).await;
    second
        .send(0, &wire::string(r#"{"text":"banned on b"}"#))
        .await;
    assert!(refusal(&mut client).await.contains("banned on b"));
    proxy.idle().await;
}

/// The client leaves while the other server is dialled: that server sees the end, and
/// nothing is left.
#[tokio::test]
async fn the_client_leaves_during_a_fallback() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["max_players = 1", "max_players = 1"]);
    for protocol in [340, 767] {
        for step in 0..3 {
            let (client, first) = play_on_a(&proxy, &a, protocol).await;
            drop(first);
            let mut second;
            if step == 0 {
                (second, _, _) = game::accept(&b).await;
            } else {
                second = accept_on_b(&b, protocol).await;
            }
            if step == 2 && protocol < 764 {
                second
                    .send(Ids::of(protocol).join, &join_game(protocol, 2))
                    .await;
            }
            drop(client);
            while second.next().await.is_some() {}
            drop(second);
            proxy.idle().await;
        }
    }
}

/// The servers are tried in the order of the network.
#[tokio::test]
async fn the_order_is_kept() {
    let [a, b, c] = FakeBackend::several().await;
    let common = "network = \"main\"\ncompression_threshold = -1\n";
    let file = |host, backend: &FakeBackend| server("offline", host, backend.address, common);
    let proxy = TestProxy::start(
        "[networks.main]\norder = [\"c\", \"b\"]",
        &[
            ("a", file("play.example.com", &a)),
            ("b", file("b.example.com", &b)),
            ("c", file("c.example.com", &c)),
        ],
    );
    let (mut client, first) = play_on_a(&proxy, &a, 767).await;
    drop(first);
    let mut second = accept_on_b(&c, 767).await;
    arrive_on_b(&mut client, &mut second, 767).await;
}

/// An encrypted client with compression moves under load to a backend with another
/// threshold, and decodes everything that it gets.
#[tokio::test]
async fn ciphers_and_formats_continue() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let sessions = Sessions::confirming("Notch").await;
    let file = |host, backend: &FakeBackend| {
        let more =
            "network = \"main\"\nforwarding_mode = \"bungeecord\"\ncompression_threshold = 64";
        server("client_only", host, backend.address, more)
    };
    let files = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let proxy = TestProxy::start(&sessions.global(), &files);
    for protocol in [47, 763, 767, 776] {
        let ids = Ids::of(protocol);
        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        game::encrypt(&mut client, protocol).await;
        let (mut first, ..) = game::accept(&a).await;
        first.send(3, &wire::varint(300)).await;
        first.compress(300);
        let success = game::login_success(protocol, uuid(NOTCH), "Notch");
        first.send(2, &success).await;
        client.expect(3).await;
        client.compress(64);
        client.expect(2).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            first.expect(3).await;
            enter(&mut client, &mut first, protocol).await;
        } else {
            first.send(ids.join, &join_game(protocol, 1)).await;
            client.expect(ids.join).await;
        }
        let settings = More::of(protocol).settings;
        client.send(settings, b"settings of the client").await;
        first.expect(settings).await;
        // More than the client's socket takes, which reads it only later.
        let chunk = vec![7; 200_000];
        for _ in 0..20 {
            first.send(0x22, &chunk).await;
        }
        first.send_raw(&[200, 1, 0]).await;
        drop(first);
        for _ in 0..20 {
            assert_eq!(client.expect(0x22).await, chunk);
        }
        let (mut second, ..) = game::accept(&b).await;
        second.send(3, &wire::varint(32)).await;
        second.compress(32);
        second.send(2, &success).await;
        arrive_on_b(&mut client, &mut second, protocol).await;
        both_ways(&mut client, &mut second, protocol).await;
        second.send(0x22, &chunk).await;
        assert_eq!(client.expect(0x22).await, chunk);
        drop((client, second));
        proxy.idle().await;
    }
}

/// A client that does not answer during the move is disconnected at the deadline, with a
/// text in its current state. The other backend sees the end, and its slot is free.
#[tokio::test]
async fn a_client_that_does_not_follow() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", "max_players = 1\n"]);
    for protocol in [764, 767, 776] {
        let (mut client, server) = play_on_a(&proxy, &a, protocol).await;
        drop(server);
        let mut second = accept_on_b(&b, protocol).await;
        client.expect(More::of(protocol).start_configuration).await;
        // It may go on in the game as long as it likes.
        client.send(More::of(protocol).swing, b"for a").await;
        pass(std::time::Duration::from_secs(31)).await;
        let body = client.expect(Ids::of(protocol).config_disconnect).await;
        assert_eq!(text(protocol, &body), CLIENT_TOO_SLOW);
        client.expect_end().await;
        second.expect_end().await;
        drop(client);
        proxy.idle().await;
    }
    let _on_b = game::begin_at(proxy.address(), 767, "b.example.com", "Other").await;
    game::accept(&b).await;
}

/// A transferred client logs in as a transfer at every server until it is in the game of
/// one. Later servers get a login.
#[tokio::test]
async fn transfers_end_with_the_first_game() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network([&a, &b], "", ["", ""]);
    for protocol in [766, 776] {
        for is_let_in in [false, true] {
            let stream = within(
                "a connection",
                tokio::net::TcpStream::connect(proxy.address()),
            );
            let mut client = Speaker::new(stream.await.unwrap());
            let hello = wire::handshake(protocol, "play.example.com", 25565, 3);
            client.send_raw(&hello).await;
            let start = game::login_start(protocol, "Notch", [7; 16]);
            client.send(0, &start).await;
            let (mut first, intent) = accept_with_intent(&a).await;
            assert_eq!(intent, 3);
            if is_let_in {
                welcome(&mut client, &mut first, protocol).await;
                enter(&mut client, &mut first, protocol).await;
            } else {
                first.send(0, &wire::string("{\"text\":\"no\"}")).await;
            }
            drop(first);
            let (_second, intent) = accept_with_intent(&b).await;
            assert_eq!(intent, if is_let_in { 2 } else { 3 }, "{protocol}");
            drop(client);
            proxy.idle().await;
        }
    }
}

/// The next connection of a backend, and the intent of its handshake.
async fn accept_with_intent(backend: &FakeBackend) -> (Speaker, i32) {
    let accepted = within("a backend connection", backend.listener.accept()).await;
    let mut peer = Speaker::new(accepted.unwrap().0);
    let hello = wire::parse_handshake(&peer.expect(0).await);
    peer.expect(0).await;
    (peer, hello.intent)
}
