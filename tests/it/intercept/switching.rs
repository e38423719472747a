//! Switches to another server on request: here a backend requests them on the BungeeCord
//! channel.

use infrarust_test_support::game::{self, Ids, Speaker};
use infrarust_test_support::program::Program;

use super::channel::{GLOBAL, USES, ask, expect_past_channels, play, utf};
use super::fallback::{ALL, More, accept_on_b, contains, join_game};
use super::{admit, occupy};
use crate::support::{FakeBackend, TestProxy, server, wire, within};

/// A proxy with a network of `offline` servers, with these lines in the file of each.
pub(super) fn network(global: &str, servers: &[(&str, &FakeBackend, &str)]) -> TestProxy {
    TestProxy::start(&format!("{GLOBAL}{global}"), &files(servers))
}

/// The files of `offline` servers of a network, each with its lines.
fn files<'a>(servers: &[(&'a str, &FakeBackend, &str)]) -> Vec<(&'a str, String)> {
    servers
        .iter()
        .map(|(id, backend, more)| {
            let host = match *id {
                "a" => "play.example.com".to_owned(),
                id => format!("{id}.example.com"),
            };
            let more = format!("{USES}{more}");
            (*id, server("offline", &host, backend.address, &more))
        })
        .collect()
}

/// The backend requests a switch of the player to another server.
pub(super) async fn connect(backend: &mut Speaker, protocol: i32, target: &str) {
    ask(backend, protocol, &utf(&["Connect", target])).await;
}

/// The server accepts the player, up to the point that does not affect the client.
pub(super) async fn let_in(backend: &FakeBackend, protocol: i32, entity: u8) -> Speaker {
    let mut server = accept_on_b(backend, protocol).await;
    if protocol < 764 {
        let join = Ids::of(protocol).join;
        server.send(join, &join_game(protocol, entity)).await;
    }
    server
}

/// The client leaves the world of the old server, which sees that first, and comes into
/// that of the new one.
pub(super) async fn cross(
    client: &mut Speaker,
    old: &mut Speaker,
    new: &mut Speaker,
    protocol: i32,
    entity: u8,
) {
    while old.next().await.is_some() {}
    come_over(client, new, protocol, entity).await;
}

/// The client comes into the world of a server that has accepted it.
pub(super) async fn come_over(client: &mut Speaker, new: &mut Speaker, protocol: i32, entity: u8) {
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    let settings = b"settings of the client";
    if protocol >= 764 {
        client.expect(more.start_configuration).await;
        // What was on the way reaches nobody.
        client.send(more.swing, b"for the old one").await;
        client.send(more.configuration_acknowledged, &[]).await;
        new.expect(3).await;
        assert_eq!(new.expect(0).await, settings);
        game::configure_with([client, new], protocol, b"the registry").await;
        new.send(ids.join, &join_game(protocol, entity)).await;
    }
    loop {
        let (id, body) = client.next().await.expect("the end came");
        if id == ids.join {
            assert_eq!(body[..4], [0, 0, 0, entity], "{protocol}");
            break;
        }
    }
    if protocol < 764 {
        client.expect(more.respawn).await;
        assert_eq!(new.expect(more.settings).await, settings);
    }
}

/// Bytes pass in both directions.
pub(super) async fn both_ways(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let swing = More::of(protocol).swing;
    client.send(swing, b"to the server").await;
    let swung = expect_past_channels(server, protocol, swing).await;
    assert_eq!(swung, b"to the server", "{protocol}");
    server.send(0x22, b"to the client").await;
    assert_eq!(client.expect(0x22).await, b"to the client", "{protocol}");
}

/// Ten switches back and forth, in every family of versions. One slot on each server is
/// enough, and none stays taken.
#[tokio::test]
async fn back_and_forth() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one)]);
    for protocol in ALL {
        let (mut client, mut here) = play(&proxy, &a, protocol).await;
        for turn in 0..10 {
            let (target, backend) = match turn % 2 {
                0 => ("b", &b),
                _ => ("a", &a),
            };
            connect(&mut here, protocol, target).await;
            let mut there = let_in(backend, protocol, turn).await;
            cross(&mut client, &mut here, &mut there, protocol, turn).await;
            both_ways(&mut client, &mut there, protocol).await;
            here = there;
        }
        drop((client, here));
        proxy.idle().await;
    }
}

/// A refused switch does not affect the player, who reads the server and the reason, plays
/// on, and may request a switch again at once.
#[tokio::test]
async fn refusals() {
    let [a, b, full, other] = FakeBackend::several().await;
    let filter = "[ip_filter]\nblacklist = [\"127.0.0.0/8\"]\n";
    let proxy = network(
        "",
        &[
            ("a", &a, "max_players = 1\n"),
            ("b", &b, "max_players = 1\n"),
            (
                "full",
                &full,
                "max_players = 1\nfull_message = \"no room\"\n",
            ),
            ("filtered", &other, filter),
        ],
    );
    let occupant = occupy(&proxy, "full.example.com", &full).await;

    for protocol in [47, 340, 763, 767, 776] {
        let more = More::of(protocol);
        let (mut client, mut server) = play(&proxy, &a, protocol).await;
        for round in 0..2 {
            for step in 0..5 {
                let (target, reason) = match step {
                    0 => ("full", "no room"),
                    1 => ("filtered", "may not"),
                    2 => ("b", "banned"),
                    3 => ("b", "lost"),
                    _ => ("b", "sent away"),
                };
                if step == 4 && protocol >= 764 {
                    continue;
                }
                connect(&mut server, protocol, target).await;
                match step {
                    2 => {
                        let (mut there, ..) = game::accept(&b).await;
                        // A text alone is JSON, too, and letters with a colour each are long.
                        let text = match round {
                            0 => r#""banned""#.to_owned(),
                            _ => {
                                let letter = r##"{"text":".","color":"#123456"},"##;
                                format!("[\"\",{}\"banned\"]", letter.repeat(200))
                            }
                        };
                        there.send(0, &wire::string(&text)).await;
                        there.expect_end().await;
                    }
                    3 => {
                        // Its second address is tried before it is given up.
                        drop(game::accept(&b).await);
                    }
                    4 => {
                        let mut there = accept_on_b(&b, protocol).await;
                        let text = wire::string(r#"{"text":"sent away"}"#);
                        there.send(Ids::of(protocol).disconnect, &text).await;
                        there.expect_end().await;
                    }
                    _ => {}
                }
                let message = client.expect(more.chat).await;
                let names = contains(&message, &format!("moved to {target}"));
                let says = step == 1 || contains(&message, reason);
                assert!(names && says, "{protocol} {round} {step}: {message:?}");
                // As a text in JSON it would have these characters.
                let quoted = contains(&message, "\\\"banned");
                let is_nbt = protocol >= 765 && contains(&message, "\"banned");
                assert!(!quoted && !is_nbt, "{protocol} {round}: {message:?}");
                both_ways(&mut client, &mut server, protocol).await;
            }
        }
        // And then it works.
        connect(&mut server, protocol, "b").await;
        let mut there = let_in(&b, protocol, 7).await;
        cross(&mut client, &mut server, &mut there, protocol, 7).await;
        both_ways(&mut client, &mut there, protocol).await;
        drop((client, there));
        while server.next().await.is_some() {}
    }
    drop(occupant);
    proxy.idle().await;
}

/// Of several requests at the same time the first counts.
#[tokio::test]
async fn at_one_instant() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = network("", &[("a", &a, ""), ("b", &b, ""), ("c", &c, "")]);
    for protocol in [340, 767] {
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        for target in ["b", "b", "c", "a", "b"] {
            connect(&mut first, protocol, target).await;
        }
        let mut second = let_in(&b, protocol, 2).await;
        cross(&mut client, &mut first, &mut second, protocol, 2).await;
        both_ways(&mut client, &mut second, protocol).await;
        // Nobody has asked c: its first visitor is this one.
        connect(&mut second, protocol, "c").await;
        let mut third = let_in(&c, protocol, 3).await;
        cross(&mut client, &mut second, &mut third, protocol, 3).await;
        both_ways(&mut client, &mut third, protocol).await;
        drop((client, third));
        proxy.idle().await;
    }
}

/// The backend is lost before the other server has accepted the player: the player moves to
/// that server, or, if it refuses, to the next.
#[tokio::test]
async fn the_backend_is_lost_during_a_switch() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = network("", &[("a", &a, ""), ("b", &b, ""), ("c", &c, "")]);
    for protocol in [47, 340, 763, 764, 767] {
        for is_refused in [false, true] {
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let (mut second, ..) = game::accept(&b).await;
            // The proxy has seen the loss once it has closed its own side.
            first.end().await;
            while first.next().await.is_some() {}
            drop(first);
            let mut there = if is_refused {
                second.send(0, &wire::string(r#"{"text":"no"}"#)).await;
                second.expect_end().await;
                let_in(&c, protocol, 3).await
            } else {
                admit(&mut second, protocol).await;
                if protocol < 764 {
                    let join = Ids::of(protocol).join;
                    second.send(join, &join_game(protocol, 3)).await;
                }
                second
            };
            come_over(&mut client, &mut there, protocol, 3).await;
            if is_refused {
                let notice = client.expect(More::of(protocol).chat).await;
                assert!(contains(&notice, "You are on c now"), "{notice:?}");
            }
            both_ways(&mut client, &mut there, protocol).await;
            drop((client, there));
            proxy.idle().await;
        }
    }
}

/// The other server is lost after the player has left the first one: the player returns to
/// the first one, which still works.
#[tokio::test]
async fn the_other_server_is_lost() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one)]);
    for protocol in [764, 767, 776] {
        let more = More::of(protocol);
        for step in 0..2 {
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let mut second = accept_on_b(&b, protocol).await;
            first.expect_end().await;
            client.expect(more.start_configuration).await;
            client.send(more.configuration_acknowledged, &[]).await;
            second.expect(3).await;
            if step == 1 {
                second.expect(0).await;
                let registry = Ids::of(protocol).registry;
                second.send(registry, b"half of it").await;
            }
            drop(second);
            let mut again = accept_on_b(&a, protocol).await;
            again.expect(3).await;
            again.expect(0).await;
            let ids = Ids::of(protocol);
            game::configure([&mut client, &mut again], protocol).await;
            again.send(ids.join, &join_game(protocol, 9)).await;
            client.expect(ids.join).await;
            let notice = client.expect(more.chat).await;
            assert!(contains(&notice, "You are on a now"), "{notice:?}");
            both_ways(&mut client, &mut again, protocol).await;
            drop((client, again));
            proxy.idle().await;
        }
    }
}

/// The client leaves at each step of a switch: both servers see the end, and nothing is
/// left.
#[tokio::test]
async fn the_client_leaves_during_a_switch() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one)]);
    for protocol in [340, 767] {
        for step in 0..3 {
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let mut second;
            if step == 0 {
                (second, ..) = game::accept(&b).await;
            } else if step == 1 {
                second = accept_on_b(&b, protocol).await;
            } else {
                second = let_in(&b, protocol, 2).await;
                while first.next().await.is_some() {}
                let more = More::of(protocol);
                if protocol >= 764 {
                    client.expect(more.start_configuration).await;
                }
            }
            drop(client);
            while first.next().await.is_some() {}
            drop(first);
            while second.next().await.is_some() {}
            drop(second);
            proxy.idle().await;
        }
    }
}

/// A client that ends its stream does not wait for its server: the other server sees the
/// end while the first is still connected, and no further server is dialled.
#[tokio::test]
async fn a_client_that_leaves_is_not_switched() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "max_players = 1\n")]);
    for protocol in [340, 767] {
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let (mut second, ..) = game::accept(&b).await;
        client.end().await;
        second.expect_end().await;
        while first.next().await.is_some() {}
        connect(&mut first, protocol, "b").await;
        first.send(0x22, b"behind").await;
        assert_eq!(client.expect(0x22).await, b"behind");
        drop((client, first));
        proxy.idle().await;
        let dialled = tokio::time::timeout(std::time::Duration::ZERO, b.listener.accept());
        assert!(dialled.await.is_err(), "{protocol}");
    }
}

/// The proxy stops during a switch: the player reads that, in every state.
#[tokio::test]
async fn the_proxy_stops_during_a_switch() {
    for protocol in [340, 767] {
        for has_left in [false, true] {
            let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
            let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
            let (ids, more) = (Ids::of(protocol), More::of(protocol));
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let (mut second, ..) = game::accept(&b).await;
            let mut disconnect = ids.disconnect;
            if has_left && protocol >= 764 {
                admit(&mut second, protocol).await;
                client.expect(more.start_configuration).await;
                disconnect = ids.config_disconnect;
            }
            proxy.running.shutdown().stop_now();
            let body = client.expect(disconnect).await;
            assert_eq!(super::text(protocol, &body), "The proxy is closing.");
            client.expect_end().await;
        }
    }
}

/// The answer to a keep alive of the old backend reaches no backend. The answer to the new
/// backend's keep alive reaches it.
#[tokio::test]
async fn keep_alives_are_kept_apart() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [340, 763, 767] {
        let more = More::of(protocol);
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        first.send(more.keep_alive, &[1; 8]).await;
        client.expect(more.keep_alive).await;
        connect(&mut first, protocol, "b").await;
        let mut second = let_in(&b, protocol, 2).await;
        cross(&mut client, &mut first, &mut second, protocol, 2).await;
        client.send(more.keep_alive_answer, &[1; 8]).await;
        second.send(more.keep_alive, &[2; 8]).await;
        client.expect(more.keep_alive).await;
        client.send(more.keep_alive_answer, &[2; 8]).await;
        let answer = expect_past_channels(&mut second, protocol, more.keep_alive_answer).await;
        assert_eq!(answer, [2; 8]);
        drop((client, second));
        proxy.idle().await;
    }
}

/// A player of this name in the game (1.20.2 and later).
pub(super) async fn play_as(
    proxy: &TestProxy,
    backend: &FakeBackend,
    protocol: i32,
    name: &str,
) -> (Speaker, Speaker) {
    let (mut client, mut server) =
        super::accepted(proxy, "play.example.com", backend, protocol, name).await;
    super::enter(&mut client, &mut server, protocol).await;
    (client, server)
}

/// Fifty players switch at the same time, and each is on the other server afterwards.
#[tokio::test]
async fn fifty_at_once() {
    const PLAYERS: usize = 50;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let places = format!("max_players = {PLAYERS}\n");
    let proxy = network("", &[("a", &a, &places), ("b", &b, &places)]);
    let protocol = 767;
    let mut sessions = Vec::new();
    for number in 0..PLAYERS {
        let name = format!("player{number}");
        let (mut client, mut server) = play_as(&proxy, &a, protocol, &name).await;
        let settings = More::of(protocol).settings;
        client.send(settings, b"settings of the client").await;
        expect_past_channels(&mut server, protocol, settings).await;
        sessions.push((name, client, server));
    }
    for (_, _, server) in &mut sessions {
        connect(server, protocol, "b").await;
    }
    let mut arrived = std::collections::HashMap::new();
    for _ in 0..PLAYERS {
        let (mut there, _, start) = game::accept(&b).await;
        let name = wire::string_in(&start);
        let success = game::login_success(protocol, [5; 16], &name);
        there.send(2, &success).await;
        arrived.insert(name, there);
    }
    for (name, client, here) in &mut sessions {
        let there = arrived.get_mut(name).unwrap();
        cross(client, here, there, protocol, 7).await;
        both_ways(client, there, protocol).await;
    }
    drop((sessions, arrived));
    proxy.idle().await;
}

/// After a thousand failed switches the slots are correct, and a switch works.
#[tokio::test]
async fn a_thousand_failures() {
    const PLAYERS: usize = 20;
    const TIMES: usize = 50;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network(
        "",
        &[
            ("a", &a, &format!("max_players = {PLAYERS}\n")),
            ("b", &b, "max_players = 1\n"),
        ],
    );
    let protocol = 767;
    let more = More::of(protocol);
    let occupant = occupy(&proxy, "b.example.com", &b).await;
    let mut sessions = Vec::new();
    for number in 0..PLAYERS {
        let name = format!("player{number}");
        let (client, server) = play_as(&proxy, &a, protocol, &name).await;
        sessions.push((client, server));
    }
    for _ in 0..TIMES {
        for (_, server) in &mut sessions {
            connect(server, protocol, "b").await;
        }
        for (client, _) in &mut sessions {
            let message = client.expect(more.chat).await;
            assert!(contains(&message, "moved to b"), "{message:?}");
        }
    }
    drop(occupant);
    // The place of the occupant is free once its session has ended.
    let (mut client, mut server) = sessions.pop().unwrap();
    let settings = more.settings;
    client.send(settings, b"settings of the client").await;
    expect_past_channels(&mut server, protocol, settings).await;
    drop(sessions);
    while proxy.running.open_connections() > 1 {
        tokio::task::yield_now().await;
    }
    connect(&mut server, protocol, "b").await;
    let (mut there, ..) = game::accept(&b).await;
    let success = game::login_success(protocol, [5; 16], "player19");
    there.send(2, &success).await;
    cross(&mut client, &mut server, &mut there, protocol, 4).await;
    both_ways(&mut client, &mut there, protocol).await;
    drop((client, there));
    proxy.idle().await;
}

/// `infrarust players` shows the server of each player, before and after a switch.
#[tokio::test(flavor = "multi_thread")]
async fn the_players_command_shows_the_server_of_each_player() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let files = files(&[("a", &a, ""), ("b", &b, "")]);
    let mut program = Program::start(GLOBAL, &files);
    let address = program.address().await;
    program.line("ready").await;
    let protocol = 767;
    let uuid = super::NOTCH_OFFLINE;
    assert_eq!(players(&program, &["--format", "json"]).await, "[]");

    let mut client = game::begin(address, protocol, "Notch").await;
    let (mut first, ..) = game::accept(&a).await;
    super::welcome(&mut client, &mut first, protocol).await;
    super::enter(&mut client, &mut first, protocol).await;
    let settings = More::of(protocol).settings;
    client.send(settings, b"settings of the client").await;
    expect_past_channels(&mut first, protocol, settings).await;
    let on = |server| format!("{server}: 1 (network main)\n  Notch {uuid}");
    assert_eq!(players(&program, &[]).await, on("a"));

    connect(&mut first, protocol, "b").await;
    let mut second = let_in(&b, protocol, 2).await;
    cross(&mut client, &mut first, &mut second, protocol, 2).await;
    both_ways(&mut client, &mut second, protocol).await;
    assert_eq!(players(&program, &[]).await, on("b"));
    let json = players(&program, &["--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1, "{json}");
    for (key, expected) in [
        ("name", "Notch"),
        ("uuid", uuid),
        ("server", "b"),
        ("network", "main"),
    ] {
        assert_eq!(json[0][key], expected, "{json}");
    }

    drop(client);
    while second.next().await.is_some() {}
    within("the player to be gone", async {
        while players(&program, &["--format", "json"]).await != "[]" {}
    })
    .await;
}

/// The output of `infrarust players`.
async fn players(program: &Program, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(program.folder.path().join("infrarust.toml"))
        .arg("players")
        .args(arguments)
        .output();
    let output = within("the command", output).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}
