//! Clients with mods of Forge move to other servers: before 1.13 they negotiate their mods
//! with each server, and since then only once.

use infrarust_test_support::game::{self, Ids, Speaker};

use super::channel::{expect_past_channels, play};
use super::fallback::{More, accept_on_b, both_ways, contains, join_game};
use super::switching::{connect, network};
use super::{NOTCH_OFFLINE, uuid};
use crate::support::{FakeBackend, TestProxy, wire};

/// A message of the negotiation.
fn handshake(protocol: i32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let length = if protocol < 47 { &length[..] } else { &[] };
    [&wire::string("FML|HS"), length, data].concat()
}

/// The id of a plugin message of a client.
fn plugin(protocol: i32) -> i32 {
    if protocol == 340 { 0x09 } else { 0x17 }
}

/// The server and the client negotiate, up to the join game of the server.
async fn negotiate(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    for message in [&[0, 2][..], &[0xFF, 3]] {
        let message = handshake(protocol, message);
        server.send(Ids::of(protocol).plugin, &message).await;
        let received = client.expect(Ids::of(protocol).plugin).await;
        assert_eq!(received, message, "{protocol}");
        if message.ends_with(&[0, 2]) {
            answer(client, server, protocol, &[1, 2]).await;
        }
    }
}

/// The client sends a message of the negotiation, and the server gets it, maybe behind
/// the registration of the proxy's channel.
async fn answer(client: &mut Speaker, server: &mut Speaker, protocol: i32, data: &[u8]) {
    let message = handshake(protocol, data);
    client.send(plugin(protocol), &message).await;
    let mut received = server.expect(plugin(protocol)).await;
    if wire::string_in(&received) == "REGISTER" {
        received = server.expect(plugin(protocol)).await;
    }
    assert_eq!(received, message, "{protocol}");
}

/// The last message of the client. It comes after the join game: the server sends that
/// with its own last message.
const LAST: [u8; 2] = [0xFF, 5];

/// A client with mods that has sent its login, and the server that has accepted it.
async fn begin(
    proxy: &TestProxy,
    backend: &FakeBackend,
    protocol: i32,
    marker: &str,
) -> (Speaker, Speaker) {
    let host = format!("play.example.com\0{marker}\0");
    let client = game::begin_at(proxy.address(), protocol, &host, "Notch").await;
    let (server, ..) = game::accept(backend).await;
    (client, server)
}

/// The client is in the game of a server with mods of Forge before 1.13.
async fn play_with_mods(proxy: &TestProxy, a: &FakeBackend, protocol: i32) -> (Speaker, Speaker) {
    let (mut client, mut first) = begin(proxy, a, protocol, "FML").await;
    let player = (uuid(NOTCH_OFFLINE), "Notch");
    game::welcome([&mut client, &mut first], protocol, player, None).await;
    negotiate(&mut client, &mut first, protocol).await;
    join(&mut client, &mut first, protocol, 1).await;
    answer(&mut client, &mut first, protocol, &LAST).await;
    (client, first)
}

/// The server sends its join game, which the client reads, maybe after other packets.
async fn join(client: &mut Speaker, server: &mut Speaker, protocol: i32, dimension: u8) {
    let (id, join) = (Ids::of(protocol).join, join_game(protocol, dimension));
    server.send(id, &join).await;
    let read = loop {
        let (next, body) = client.next().await.unwrap();
        if next == id {
            break body;
        }
    };
    assert_eq!(read, join, "{protocol}");
}

/// Sends these messages and then the beginning of a negotiation.
async fn begin_negotiation(server: &mut Speaker, protocol: i32, before: &[Vec<u8>]) {
    let hello = handshake(protocol, &[0, 2]);
    for message in before.iter().chain([&hello]) {
        server.send(Ids::of(protocol).plugin, message).await;
    }
}

/// The client reads the reset of the negotiation before, and then what
/// [`begin_negotiation`] sends.
async fn expect_reset(client: &mut Speaker, protocol: i32, before: &[Vec<u8>]) {
    let (reset, hello) = (
        handshake(protocol, &[0xFE, 0]),
        handshake(protocol, &[0, 2]),
    );
    for message in [&reset].into_iter().chain(before).chain([&hello]) {
        let read = client.expect(Ids::of(protocol).plugin).await;
        assert_eq!(read, *message, "{protocol}");
    }
}

/// The question of a server since 1.13 about the mods of a client.
fn question() -> Vec<u8> {
    [vec![7], wire::string("fml:loginwrapper"), vec![1]].concat()
}

/// What the player does reaches the server.
async fn swing(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let id = More::of(protocol).swing;
    client.send(id, b"here").await;
    let swung = expect_past_channels(server, protocol, id).await;
    assert_eq!(swung, b"here", "{protocol}");
}

/// Before 1.13 the client begins a new negotiation with each server after it has left the
/// old one, and reads the dimension in the join game.
#[tokio::test]
async fn mods_are_negotiated_again() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [5, 47, 340] {
        let more = More::of(protocol);
        let (mut client, mut first) = play_with_mods(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let mut second = accept_on_b(&b, protocol).await;
        let channels = [match protocol {
            5 => [wire::string("REGISTER"), vec![0, 3], b"FML".to_vec()].concat(),
            _ => [wire::string("REGISTER"), b"FML".to_vec()].concat(),
        }];
        begin_negotiation(&mut second, protocol, &channels).await;
        while first.next().await.is_some() {}
        // What was on the way reaches nobody.
        client.send(more.swing, b"for the old one").await;
        expect_reset(&mut client, protocol, &channels).await;
        answer(&mut client, &mut second, protocol, &[1, 2]).await;
        negotiate(&mut client, &mut second, protocol).await;
        join(&mut client, &mut second, protocol, 2).await;
        let elsewhere = client.expect(more.respawn).await;
        let respawn = client.expect(more.respawn).await;
        assert_eq!(
            (&elsewhere[..4], &respawn[..4]),
            (&[0xFF; 4][..], &[0; 4][..])
        );
        let last = handshake(protocol, &LAST);
        client.send(plugin(protocol), &last).await;
        client.send(more.settings, b"settings").await;
        expect_past_channels(&mut second, protocol, more.settings).await;
        both_ways(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// A client with mods is done with its negotiation in the world of a server without mods,
/// so that it needs the reset there too.
#[tokio::test]
async fn mods_are_negotiated_behind_a_server_without() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [5, 47, 340] {
        let more = More::of(protocol);
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let mut second = accept_on_b(&b, protocol).await;
        begin_negotiation(&mut second, protocol, &[]).await;
        expect_reset(&mut client, protocol, &[]).await;
        answer(&mut client, &mut second, protocol, &[1, 2]).await;
        join(&mut client, &mut second, protocol, 2).await;
        for _ in 0..2 {
            client.expect(more.respawn).await;
        }
        expect_past_channels(&mut second, protocol, more.settings).await;
        answer(&mut client, &mut second, protocol, &LAST).await;
        both_ways(&mut client, &mut second, protocol).await;
        drop((first, client, second));
        proxy.idle().await;
    }
}

/// A server is lost during the negotiation: the client cannot begin again with the next
/// modded server, and reads why the session ends. A server without mods accepts it.
#[tokio::test]
async fn a_negotiation_that_is_cut_off() {
    let [a, b, c] = FakeBackend::several().await;
    let order = "[networks.main]\norder = [\"a\", \"b\", \"c\"]\n";
    let proxy = network(order, &[("a", &a, ""), ("b", &b, ""), ("c", &c, "")]);
    let protocol = 340;
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    for has_mods in [true, false] {
        let (mut client, mut first) = play_with_mods(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let mut second = accept_on_b(&b, protocol).await;
        begin_negotiation(&mut second, protocol, &[]).await;
        expect_reset(&mut client, protocol, &[]).await;
        client
            .send(plugin(protocol), &handshake(protocol, &[1, 2]))
            .await;
        second.expect(plugin(protocol)).await;
        drop((first, second));
        let mut third = accept_on_b(&c, protocol).await;
        if has_mods {
            begin_negotiation(&mut third, protocol, &[]).await;
            third.expect_end().await;
            // The one that it has left is the last.
            let mut again = accept_on_b(&a, protocol).await;
            begin_negotiation(&mut again, protocol, &[]).await;
            again.expect_end().await;
            let text = super::text(protocol, &client.expect(ids.disconnect).await);
            assert!(!text.is_empty());
            client.expect_end().await;
        } else {
            join(&mut client, &mut third, protocol, 3).await;
            // It reads the dimension in the join game, so that two respawns follow.
            client.expect(more.respawn).await;
            client.expect(more.respawn).await;
            client.expect(more.chat).await;
            swing(&mut client, &mut third, protocol).await;
        }
        drop((client, third));
        proxy.idle().await;
    }
}

/// Since 1.13 mods are negotiated once, in the client's login. A second server that
/// negotiates mods is refused with a text, and the player stays.
#[tokio::test]
async fn a_second_server_with_mods_is_refused() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for (protocol, marker) in [(754, "FML2"), (763, "FML3")] {
        let (more, question) = (More::of(protocol), question());
        let (mut client, mut first) = begin(&proxy, &a, protocol, marker).await;
        first.send(4, &question).await;
        assert_eq!(client.expect(4).await, question);
        client.send(2, &[7, 1, 2]).await;
        assert_eq!(first.expect(2).await, [7, 1, 2]);
        let player = (uuid(NOTCH_OFFLINE), "Notch");
        game::welcome([&mut client, &mut first], protocol, player, None).await;
        join(&mut client, &mut first, protocol, 1).await;
        for _ in 0..2 {
            connect(&mut first, protocol, "b").await;
            let (mut second, ..) = game::accept(&b).await;
            second.send(4, &question).await;
            second.expect_end().await;
            let text = client.expect(more.chat).await;
            assert!(
                contains(&text, "moved to b") && contains(&text, "mods"),
                "{text:?}"
            );
            swing(&mut client, &mut first, protocol).await;
        }
        drop((client, first));
        proxy.idle().await;
    }
    // A client without mods says that it does not know the question.
    let protocol = 763;
    let (client, mut first) = play(&proxy, &a, protocol).await;
    connect(&mut first, protocol, "b").await;
    let (mut second, ..) = game::accept(&b).await;
    second.send(4, &question()).await;
    assert_eq!(second.expect(2).await, [7, 0]);
    drop(client);
    while second.next().await.is_some() {}
    while first.next().await.is_some() {}
    drop((first, second));
    proxy.idle().await;
}
