//! Servers join and leave a network while a player is between two of them.

use std::fs;
use std::net::SocketAddr;

use infrarust_test_support::game::{self, Ids, Speaker};

use super::admit;
use super::fallback::{ALL, More, accept_on_b, both_ways, join_game, play_first, take_in};
use crate::program::Program;
use crate::support::{FakeBackend, server, wire};

/// The file of a server of the network, with a slot for one player.
fn file(host: &str, backend: &FakeBackend) -> String {
    let keys = "network = \"main\"\ncompression_threshold = -1\nmax_players = 1\n";
    server("offline", host, backend.address, keys)
}

async fn remove(program: &mut Program, id: &str) {
    fs::remove_file(program.server_file(&format!("{id}.toml"))).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["removed"], format!("[\"{id}\"]"));
}

async fn add(program: &mut Program, id: &str, backend: &FakeBackend) {
    let path = program.server_file(&format!("{id}.toml"));
    let beside = program.server_file(".new.swp");
    fs::write(&beside, file(&format!("{id}.example.com"), backend)).unwrap();
    fs::rename(beside, path).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["added"], format!("[\"{id}\"]"));
}

/// The program with these servers, once it accepts players.
async fn start(files: &[(&str, String)]) -> (Program, SocketAddr) {
    let mut program = Program::start("", files);
    let address = program.address().await;
    program.line("ready").await;
    (program, address)
}

/// A player in the game of `a`; the server has read the settings of the client.
async fn play(address: SocketAddr, a: &FakeBackend, protocol: i32) -> (Speaker, Speaker) {
    let mut client = game::begin(address, protocol, "Notch").await;
    let (mut first, ..) = game::accept(a).await;
    play_first(&mut client, &mut first, protocol).await;
    let settings = More::of(protocol).settings;
    client.send(settings, b"settings of the client").await;
    first.expect(settings).await;
    (client, first)
}

/// The client, which has lost its server, comes into the game of another one.
async fn arrive(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    if protocol >= 764 {
        client.expect(more.start_configuration).await;
        client.send(more.configuration_acknowledged, &[]).await;
        take_in(client, server, protocol).await;
    } else {
        server.send(ids.join, &join_game(protocol, 2)).await;
        while client.next().await.expect("the end came").0 != ids.join {}
        client.expect(more.respawn).await;
        server.expect(more.settings).await;
    }
    client.expect(more.chat).await;
    both_ways(client, server, protocol).await;
}

/// While a login at one server runs, that server and the next one leave the network, and
/// another one joins it. The player comes to the one that has joined. If it is lost, and the
/// network has meanwhile got its first server back, the player comes to that one.
#[tokio::test(flavor = "multi_thread")]
async fn servers_join_and_leave_during_a_fallback() {
    for protocol in [340, 763, 776] {
        let [a, b, c, d] = FakeBackend::several().await;
        let files = [
            ("a", file("play.example.com", &a)),
            ("b", file("b.example.com", &b)),
            ("c", file("c.example.com", &c)),
        ];
        let (mut program, address) = start(&files).await;
        let (mut client, mut first) = play(address, &a, protocol).await;

        // The player's own server leaves, and the player stays there until it is lost.
        remove(&mut program, "a").await;
        both_ways(&mut client, &mut first, protocol).await;
        drop(first);
        let (mut second, ..) = game::accept(&b).await;
        remove(&mut program, "b").await;
        remove(&mut program, "c").await;
        add(&mut program, "d", &d).await;
        let text = wire::string("{\"text\":\"no\"}");
        second.send(0, &text).await;
        let mut third = accept_on_b(&d, protocol).await;
        arrive(&mut client, &mut third, protocol).await;
        second.expect_end().await;

        add(&mut program, "c", &c).await;
        drop(third);
        let mut fourth = accept_on_b(&c, protocol).await;
        arrive(&mut client, &mut fourth, protocol).await;
        // The slot on the lost server is free for others.
        let other = game::begin_at(address, protocol, "d.example.com", "Other").await;
        let (mut at_d, ..) = game::accept(&d).await;
        drop((client, fourth, other));
        while at_d.next().await.is_some() {}
    }
}

/// A server accepts a player after it has left the network: the player comes into its game,
/// and the slot there is taken although the configuration does not have the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_during_the_login() {
    for protocol in ALL {
        let [a, b] = FakeBackend::several().await;
        let files = [
            ("a", file("play.example.com", &a)),
            ("b", file("b.example.com", &b)),
        ];
        let (mut program, address) = start(&files).await;
        let (mut client, first) = play(address, &a, protocol).await;
        drop(first);
        let (mut second, ..) = game::accept(&b).await;
        remove(&mut program, "b").await;
        admit(&mut second, protocol).await;
        arrive(&mut client, &mut second, protocol).await;
        add(&mut program, "b", &b).await;
        let mut other = game::begin_at(address, protocol, "b.example.com", "Other").await;
        // It is full, so the network takes the other player to its first server.
        let (mut at_a, ..) = game::accept(&a).await;
        at_a.send(0, &wire::string("{\"text\":\"no\"}")).await;
        other.expect(0).await;
        drop((client, second));
    }
}
