//! A client that has moved to another server may still answer questions of the previous
//! server. Those answers reach no server, and the answers to the new server's questions
//! reach it once.

use infrarust_test_support::game::{self, Ids, Speaker};

use super::channel::{expect_past_channels, play};
use super::fallback::{More, accept_on_b, join_game};
use super::switching::{connect, cross, let_in, network};
use super::{begin, welcome};
use crate::support::{FakeBackend, TestProxy, wire};

/// A proxy with a network of two servers, `a` and `b`.
fn two(a: &FakeBackend, b: &FakeBackend) -> TestProxy {
    network("", &[("a", a, ""), ("b", b, "")])
}

/// Moves the player from `a` to `b`.
async fn switch(
    client: &mut Speaker,
    mut first: Speaker,
    b: &FakeBackend,
    protocol: i32,
) -> Speaker {
    connect(&mut first, protocol, "b").await;
    let mut second = let_in(b, protocol, 2).await;
    cross(client, &mut first, &mut second, protocol, 2).await;
    second
}

/// Asserts that the next packet that the server reads is the last one of the client.
async fn nothing_else(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    let swing = More::of(protocol).swing;
    client.send(swing, b"behind").await;
    let swung = expect_past_channels(server, protocol, swing).await;
    assert_eq!(swung, b"behind", "{protocol}");
}

/// A server that teleports the player waits for one confirmation with its number, and
/// disconnects the player at a second one.
#[tokio::test]
async fn answers_to_teleports() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, position) in [(340, 0x2F), (754, 0x34), (763, 0x3C)] {
        let teleport = [&[0; 33][..], &[1]].concat();
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        first.send(position, &teleport).await;
        client.expect(position).await;
        let mut second = switch(&mut client, first, &b, protocol).await;
        client.send(0, &[1]).await;
        nothing_else(&mut client, &mut second, protocol).await;
        second.send(position, &teleport).await;
        client.expect(position).await;
        client.send(0, &[1]).await;
        let confirmed = expect_past_channels(&mut second, protocol, 0).await;
        assert_eq!(confirmed, [1], "{protocol}");
        nothing_else(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// The client loads a resource pack of the old server during the switch, and one of the new
/// server afterwards.
#[tokio::test]
async fn answers_to_resource_packs() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, push, status) in [
        (47, 0x48, 0x19),
        (340, 0x34, 0x18),
        (763, 0x40, 0x24),
        (764, 0x42, 0x27),
        (767, 0x46, 0x2B),
    ] {
        let pack = |hash: &str| {
            let [url, hash] = [wire::string("http://example.com"), wire::string(hash)];
            let named = if protocol >= 765 { &hash[..16] } else { &[] };
            let rest: &[u8] = if protocol >= 755 { &[0, 0] } else { &[] };
            [named, &url, &hash, rest].concat()
        };
        let (hash_a, hash_b) = ("a".repeat(40), "b".repeat(40));
        let state = |hash: &str, state: u8| {
            let hash = wire::string(hash);
            match protocol {
                ..=209 => [&hash[..], &[state]].concat(),
                210..=764 => vec![state],
                _ => [&hash[..16], &[state]].concat(),
            }
        };
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        first.send(push, &pack(&hash_a)).await;
        client.expect(push).await;
        client.send(status, &state(&hash_a, 3)).await;
        let accepted = expect_past_channels(&mut first, protocol, status).await;
        assert_eq!(accepted, state(&hash_a, 3), "{protocol}");
        let mut second = switch(&mut client, first, &b, protocol).await;
        // Its own settings say that it has come.
        client.send(More::of(protocol).settings, b"again").await;
        let again = expect_past_channels(&mut second, protocol, More::of(protocol).settings);
        assert_eq!(again.await, b"again", "{protocol}");
        second.send(push, &pack(&hash_b)).await;
        client.expect(push).await;
        client.send(status, &state(&hash_b, 3)).await;
        client.send(status, &state(&hash_a, 2)).await;
        client.send(status, &state(&hash_b, 0)).await;
        for expected in [3, 0] {
            let body = expect_past_channels(&mut second, protocol, status).await;
            assert_eq!(body, state(&hash_b, expected), "{protocol}");
        }
        nothing_else(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// Chat messages that the client has seen at the old server are not acknowledged to the new
/// one, which has not sent them.
#[tokio::test]
async fn acknowledgements_of_chat() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, player_chat, chat) in [(761, 0x31, 0x05), (763, 0x35, 0x05)] {
        let (acknowledgement, settings) = (0x03, More::of(protocol).settings);
        let message = [&[7; 16][..], &[0, 1], &[9; 256], &wire::string("hello")].concat();
        let line = |seen: u8| [&wire::string("hi")[..], &[0; 16], &[0, seen, 0, 0, 0]].concat();
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        for _ in 0..3 {
            first.send(player_chat, &message).await;
            client.expect(player_chat).await;
        }
        let mut second = switch(&mut client, first, &b, protocol).await;
        for seen in [1, 2] {
            client.send(acknowledgement, &[seen]).await;
            client.send(chat, &line(seen)).await;
        }
        // A line that acknowledges nothing is the player's.
        client.send(chat, &line(0)).await;
        let said = expect_past_channels(&mut second, protocol, chat).await;
        assert_eq!(said, line(0), "{protocol}");
        for _ in 0..2 {
            second.send(player_chat, &message).await;
            client.expect(player_chat).await;
        }
        client.send(acknowledgement, &[3]).await;
        client.send(settings, b"again").await;
        let again = expect_past_channels(&mut second, protocol, settings).await;
        assert_eq!(again, b"again", "{protocol}");
        for _ in 0..2 {
            second.send(player_chat, &message).await;
            client.expect(player_chat).await;
        }
        // In its world the client is right, and the server judges what it says.
        client.send(chat, &line(1)).await;
        client.send(acknowledgement, &[9]).await;
        assert_eq!(second.expect(chat).await, line(1), "{protocol}");
        assert_eq!(second.expect(acknowledgement).await, [9], "{protocol}");
        drop((client, second));
        proxy.idle().await;
    }
}

/// A server is lost during the configuration, and the client answers its questions late.
/// The next server gets only the answers to its own questions, and no side is disconnected.
#[tokio::test]
async fn answers_in_the_configuration() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [767, 776] {
        let (ids, cookie) = (Ids::of(protocol), wire::string("a:b"));
        let pack = [9; 16];
        let (mut client, mut first) = begin(&proxy, &a, protocol, "Notch").await;
        welcome(&mut client, &mut first, protocol).await;
        // Known packs, a cookie and a resource pack.
        first.send(0x0E, &[0]).await;
        client.expect(0x0E).await;
        first.send(0x00, &cookie).await;
        client.expect(0x00).await;
        let push = [&pack[..], &wire::string("u"), &wire::string("h"), &[0, 0]].concat();
        first.send(0x09, &push).await;
        client.expect(0x09).await;
        drop(first);
        let mut second = accept_on_b(&b, protocol).await;
        second.expect(3).await;
        let late = [
            (0x07, vec![0]),
            (0x01, [&cookie[..], &[0]].concat()),
            (0x06, [&pack[..], &[3]].concat()),
            (0x06, [&pack[..], &[0]].concat()),
        ];
        for (id, body) in &late {
            client.send(*id, body).await;
        }
        client.send(0x05, b"pong").await;
        assert_eq!(second.expect(0x05).await, b"pong", "{protocol}");
        second.send(0x0E, &[0]).await;
        client.expect(0x0E).await;
        second.send(0x00, &cookie).await;
        client.expect(0x00).await;
        second.send(0x09, &push).await;
        client.expect(0x09).await;
        for (id, body) in &late {
            client.send(*id, body).await;
            assert_eq!(second.expect(*id).await, *body, "{protocol}");
        }
        game::configure([&mut client, &mut second], protocol).await;
        second.send(ids.join, &join_game(protocol, 2)).await;
        client.expect(ids.join).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// The client loads a resource pack of the old server while the new one configures it.
#[tokio::test]
async fn answers_to_a_pack_during_a_configuration() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, push, status, in_configuration) in [(764, 0x42, 0x27, 5), (767, 0x46, 0x2B, 6)] {
        let more = More::of(protocol);
        let uuid = if protocol >= 765 { &[9; 16][..] } else { &[] };
        let pack = [uuid, &wire::string("u"), &wire::string("h"), &[0, 0]].concat();
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        first.send(push, &pack).await;
        client.expect(push).await;
        client.send(status, &[uuid, &[3]].concat()).await;
        expect_past_channels(&mut first, protocol, status).await;
        connect(&mut first, protocol, "b").await;
        let mut second = accept_on_b(&b, protocol).await;
        client.expect(more.start_configuration).await;
        client.send(more.configuration_acknowledged, &[]).await;
        second.expect(3).await;
        second.expect(0).await;
        client.send(in_configuration, &[uuid, &[0]].concat()).await;
        client.send(0, b"new settings").await;
        assert_eq!(second.expect(0).await, b"new settings", "{protocol}");
        drop(client);
        while second.next().await.is_some() {}
        drop((first, second));
        proxy.idle().await;
    }
}
