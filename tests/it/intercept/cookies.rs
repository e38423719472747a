//! A server to which a player switches asks in its login for a cookie, while the client is in
//! the game of the old one: the client is asked there, and the answer passes.

use std::time::Duration;

use infrarust_test_support::game::{self, Ids, Speaker};

use super::channel::{expect_past_channels, play};
use super::fallback::{More, join_game};
use super::switching::{both_ways, come_over, connect, cross, network};
use super::turns::pass;
use super::{begin, welcome};
use crate::support::{FakeBackend, TestProxy, wire};

/// The versions, each with the ids of the request and of the answer in play.
const VERSIONS: [(i32, i32, i32); 3] = [(767, 0x16, 0x11), (770, 0x15, 0x13), (776, 0x15, 0x15)];
/// The request and the answer in the login.
const REQUEST: i32 = 0x05;
const ANSWER: i32 = 0x04;

/// A player in the game of the first server, on the way to the second one: the connections of
/// the client and of both servers.
async fn set_out(
    proxy: &TestProxy,
    [a, b]: [&FakeBackend; 2],
    protocol: i32,
) -> (Speaker, Speaker, Speaker) {
    let (client, mut first) = play(proxy, a, protocol).await;
    connect(&mut first, protocol, "b").await;
    let (second, ..) = game::accept(b).await;
    (client, first, second)
}

/// A cookie that the client has, one that it does not have, and one that both servers ask for.
/// The old server sees no answer but its own.
#[tokio::test]
async fn answers_pass() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for (protocol, request, answer) in VERSIONS {
        let (mut client, mut first, mut second) = set_out(&proxy, [&a, &b], protocol).await;
        let name = wire::string("a:b");
        for fields in [&[1, 3, 7, 8, 9][..], &[0]] {
            let cookie = [&name[..], fields].concat();
            second.send(REQUEST, &name).await;
            assert_eq!(client.expect(request).await, name, "{protocol}");
            client.send(answer, &cookie).await;
            assert_eq!(second.expect(ANSWER).await, cookie, "{protocol}");
        }
        let largest = [&name[..], &[1], &wire::varint(5120), &[7; 5120]].concat();
        first.send(request, &name).await;
        assert_eq!(client.expect(request).await, name, "{protocol}");
        second.send(REQUEST, &name).await;
        assert_eq!(client.expect(request).await, name, "{protocol}");
        for _ in 0..2 {
            client.send(answer, &largest).await;
        }
        assert_eq!(second.expect(ANSWER).await, largest, "{protocol}");
        let of_first = expect_past_channels(&mut first, protocol, answer).await;
        assert_eq!(of_first, largest, "{protocol}");
        both_ways(&mut client, &mut first, protocol).await;
        let id = super::uuid(super::NOTCH_OFFLINE);
        let success = game::login_success(protocol, id, "Notch");
        second.send(2, &success).await;
        cross(&mut client, &mut first, &mut second, protocol, 2).await;
        both_ways(&mut client, &mut second, protocol).await;
        drop((client, second));
        proxy.idle().await;
    }
}

/// How long the proxy waits for the answer of a client.
const WAIT: Duration = Duration::from_secs(5);
/// Request, answer and keep alive in the configuration.
const CONFIGURATION_REQUEST: i32 = 0;
const CONFIGURATION_ANSWER: i32 = 1;
const CONFIGURATION_KEEP_ALIVE: i32 = 4;

/// If the client does not answer within 5 s, the server learns that it has no cookie. A
/// late answer is dropped.
#[tokio::test]
async fn a_silent_client_has_none() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for (protocol, request, answer) in VERSIONS {
        let (mut client, mut first, mut second) = set_out(&proxy, [&a, &b], protocol).await;
        let name = wire::string("a:b");
        second.send(REQUEST, &name).await;
        client.expect(request).await;
        pass(WAIT).await;
        let none = [&name[..], &[0]].concat();
        assert_eq!(second.expect(ANSWER).await, none, "{protocol}");
        client.send(answer, &none).await;
        both_ways(&mut client, &mut first, protocol).await;
        // The server is lost while the client is asked.
        second.send(REQUEST, &name).await;
        client.expect(request).await;
        drop(second);
        client.expect(More::of(protocol).chat).await;
        client.send(answer, &none).await;
        both_ways(&mut client, &mut first, protocol).await;
        drop((client, first));
        proxy.idle().await;
    }
}

/// A client that has lost its server is asked for the cookies of the next one, in the game
/// and in the configuration. A late answer does not reach the server.
#[tokio::test]
async fn a_client_without_a_server_is_asked() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for (protocol, request, answer) in VERSIONS {
        for is_in_game in [true, false] {
            let (mut client, mut first) = match is_in_game {
                true => play(&proxy, &a, protocol).await,
                false => begin(&proxy, &a, protocol, "Notch").await,
            };
            let (request, answer) = match is_in_game {
                true => (request, answer),
                false => (CONFIGURATION_REQUEST, CONFIGURATION_ANSWER),
            };
            if !is_in_game {
                welcome(&mut client, &mut first, protocol).await;
            }
            drop(first);
            let (mut second, ..) = game::accept(&b).await;
            let name = wire::string("a:b");
            let none = [&name[..], &[0]].concat();
            for cookie in [[&name[..], &[1, 3, 7, 8, 9]].concat(), none.clone()] {
                second.send(REQUEST, &name).await;
                assert_eq!(client.expect(request).await, name, "{protocol}");
                client.send(answer, &cookie).await;
                assert_eq!(second.expect(ANSWER).await, cookie, "{protocol}");
            }
            second.send(REQUEST, &name).await;
            client.expect(request).await;
            pass(WAIT).await;
            assert_eq!(second.expect(ANSWER).await, none, "{protocol}");
            let id = super::uuid(super::NOTCH_OFFLINE);
            let success = game::login_success(protocol, id, "Notch");
            second.send(2, &success).await;
            if is_in_game {
                client.send(answer, &none).await;
                come_over(&mut client, &mut second, protocol, 2).await;
            } else {
                second.expect(3).await;
                client.send(answer, &none).await;
                second.send(CONFIGURATION_KEEP_ALIVE, &[7; 8]).await;
                client.expect(CONFIGURATION_KEEP_ALIVE).await;
                client.send(CONFIGURATION_KEEP_ALIVE, &[7; 8]).await;
                second.expect(CONFIGURATION_KEEP_ALIVE).await;
                let join = Ids::of(protocol).join;
                game::configure([&mut client, &mut second], protocol).await;
                second.send(join, &join_game(protocol, 2)).await;
                client.expect(join).await;
            }
            client.expect(More::of(protocol).chat).await;
            both_ways(&mut client, &mut second, protocol).await;
            drop((client, second));
            proxy.idle().await;
        }
    }
}
