//! How long each side may take until the player is in the game, in both modes. The side
//! that has to act when its time is over is blamed.
//!
//! Time is paused, and only the tests advance it.

use std::time::Duration;

use infrarust_test_support::game::{Ids, Speaker, refusal};

use super::modes::Modes;
use super::{NO_COMPRESSION, admit, enter, text};
use crate::support::wire::{string, string_in};

const BACKEND_TOO_SLOW: &str = "This server took too long to let you in.";
pub(super) const CLIENT_TOO_SLOW: &str = "Your client took too long to log in.";

/// Configuration since 1.20.5, in both directions.
const KEEP_ALIVE: i32 = 4;
const COOKIE_REQUEST: i32 = 0;
const COOKIE_RESPONSE: i32 = 1;
const PACK_PUSH: i32 = 9;
const PACK_STATUS: i32 = 6;
const KNOWN_PACKS: i32 = 0x0E;
const KNOWN_PACKS_ANSWER: i32 = 7;
const CONDUCT: i32 = 0x13;
const CONDUCT_ANSWER: i32 = 9;
const SHOW_DIALOG: i32 = 0x12;
const CLEAR_DIALOG: i32 = 0x11;

/// Advances the time by this duration, in which nothing else happens.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asserts that both sides are connected, in the configuration.
async fn is_alive(client: &mut Speaker, server: &mut Speaker) {
    server.send(KEEP_ALIVE, &[7; 8]).await;
    assert_eq!(client.expect(KEEP_ALIVE).await, [7; 8]);
    client.send(KEEP_ALIVE, &[7; 8]).await;
    assert_eq!(server.expect(KEEP_ALIVE).await, [7; 8]);
}

/// Asserts that both sides are disconnected, and that the client reads this text in the
/// configuration.
async fn ends_with(expected: &str, mut client: Speaker, mut server: Speaker, protocol: i32) {
    let body = client.expect(Ids::of(protocol).config_disconnect).await;
    assert_eq!(text(protocol, &body), expected);
    client.expect_end().await;
    server.expect_end().await;
}

/// A backend that sends nothing after its first byte, nothing after its login success, or
/// only keep alives in the configuration.
#[tokio::test]
async fn a_backend_that_does_not_finish() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    for mode in 0..2 {
        let (mut client, mut server) = modes.begin(mode, 767).await;
        // The length of a frame that does not follow.
        server.send_raw(&[40]).await;
        pass(seconds(29)).await;
        server.send_raw(&[0]).await;
        pass(seconds(2)).await;
        assert_eq!(refusal(&mut client).await, BACKEND_TOO_SLOW);
        server.expect_end().await;

        let (mut client, mut server) = modes.welcomed(mode, 47).await;
        pass(seconds(31)).await;
        let body = client.expect(Ids::of(47).disconnect).await;
        assert_eq!(text(47, &body), BACKEND_TOO_SLOW);
        server.expect_end().await;

        for protocol in [767, 776] {
            let (mut client, mut server) = modes.configured(mode, protocol).await;
            for _ in 0..2 {
                pass(seconds(14)).await;
                is_alive(&mut client, &mut server).await;
            }
            pass(seconds(3)).await;
            ends_with(BACKEND_TOO_SLOW, client, server, protocol).await;
        }
        modes.idle().await;
    }
}

/// A client that does not answer: a request in the login state, the login success, a
/// request in the configuration, or the end of the configuration. The backend is not to
/// blame.
#[tokio::test]
async fn a_client_that_does_not_answer() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let cookie = string("a:b");
    for mode in 0..2 {
        for is_let_in in [false, true] {
            let (mut client, mut server) = modes.begin(mode, 776).await;
            let question = [vec![5], string("a:b")].concat();
            server.send(4, &question).await;
            assert_eq!(client.expect(4).await, question);
            if is_let_in {
                admit(&mut server, 776).await;
            }
            pass(seconds(31)).await;
            assert_eq!(refusal(&mut client).await, CLIENT_TOO_SLOW);
            server.expect_end().await;
        }

        let (client, server) = modes.welcomed(mode, 776).await;
        pass(seconds(31)).await;
        ends_with(CLIENT_TOO_SLOW, client, server, 776).await;

        for (question, body) in [(KNOWN_PACKS, vec![0]), (COOKIE_REQUEST, cookie.clone())] {
            let (mut client, mut server) = modes.configured(mode, 776).await;
            server.send(question, &body).await;
            client.expect(question).await;
            pass(seconds(29)).await;
            is_alive(&mut client, &mut server).await;
            pass(seconds(2)).await;
            ends_with(CLIENT_TOO_SLOW, client, server, 776).await;
        }

        let (mut client, mut server) = modes.configured(mode, 776).await;
        server.send(Ids::of(776).finish, &[]).await;
        client.expect(Ids::of(776).finish).await;
        pass(seconds(31)).await;
        let body = client.expect(Ids::of(776).disconnect).await;
        assert_eq!(text(776, &body), CLIENT_TOO_SLOW);
        server.expect_end().await;
        modes.idle().await;
    }
}

/// Requests to the player do not use the time of the backend, however long the player
/// takes. Keep alives pass during that. Afterwards the backend has the same time left as
/// before.
#[tokio::test]
async fn the_time_of_a_player_does_not_count_for_the_backend() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let id = [5; 16];
    let pack = [&id[..], &string("http://a"), &string(""), &[0, 0]].concat();
    let status = |state: u8| [&id[..], &[state]].concat();
    let click = [string("a:b"), vec![0]].concat();
    // A question and the answers to it.
    type Case = (i32, Vec<u8>, Vec<(i32, Vec<u8>)>);
    let cases: [Case; 3] = [
        (
            PACK_PUSH,
            pack,
            vec![
                (PACK_STATUS, status(3)),
                (PACK_STATUS, status(4)),
                (PACK_STATUS, status(0)),
            ],
        ),
        (CONDUCT, string("Be kind."), vec![(CONDUCT_ANSWER, vec![])]),
        (SHOW_DIALOG, vec![0x0A, 0], vec![(8, click)]),
    ];
    for mode in 0..2 {
        for (question, body, answers) in &cases {
            let (mut client, mut server) = modes.configured(mode, 776).await;
            pass(seconds(20)).await;
            server.send(*question, body).await;
            assert_eq!(client.expect(*question).await, *body);
            for (answer, body) in answers {
                for _ in 0..4 {
                    pass(seconds(60)).await;
                    is_alive(&mut client, &mut server).await;
                }
                client.send(*answer, body).await;
                assert_eq!(server.expect(*answer).await, *body);
            }
            pass(seconds(8)).await;
            is_alive(&mut client, &mut server).await;
            pass(seconds(3)).await;
            ends_with(BACKEND_TOO_SLOW, client, server, 776).await;
            modes.idle().await;
        }
    }
    // And into the game, behind a dialog that the backend has closed.
    let (mut client, mut server) = modes.configured(0, 776).await;
    server.send(SHOW_DIALOG, &[0x0A, 0]).await;
    client.expect(SHOW_DIALOG).await;
    pass(seconds(100)).await;
    server.send(CLEAR_DIALOG, &[]).await;
    client.expect(CLEAR_DIALOG).await;
    pass(seconds(20)).await;
    enter(&mut client, &mut server, 776).await;
}

/// Slow answers share the client's time, and do not use the backend's.
#[tokio::test]
async fn a_slow_client_gets_in() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let (mut client, mut server) = modes.begin(1, 767).await;
    server.send(5, &string("a:b")).await;
    client.expect(5).await;
    pass(seconds(14)).await;
    let answer = [string("a:b"), vec![0]].concat();
    client.send(4, &answer).await;
    server.expect(4).await;
    admit(&mut server, 767).await;
    client.expect(2).await;
    pass(seconds(14)).await;
    client.send(3, &[]).await;
    server.expect(3).await;
    server.send(KNOWN_PACKS, &[0]).await;
    client.expect(KNOWN_PACKS).await;
    pass(seconds(25)).await;
    client.send(KNOWN_PACKS_ANSWER, &[0]).await;
    server.expect(KNOWN_PACKS_ANSWER).await;
    pass(seconds(25)).await;
    enter(&mut client, &mut server, 767).await;

    // One that takes more than its time in the login, though no single answer does.
    let (mut client, mut server) = modes.begin(0, 767).await;
    for time in [16, 16] {
        server.send(5, &string("a:b")).await;
        client.expect(5).await;
        pass(seconds(time)).await;
        client.send(4, &answer).await;
    }
    let body = client.expect(0).await;
    assert!(string_in(&body).contains(CLIENT_TOO_SLOW));
    server.expect(4).await;
    server.expect_end().await;
}

/// Cookie requests of the backend pass in the configuration, and their answers pass
/// unchanged.
#[tokio::test]
async fn requests_for_cookies_pass() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let (mut client, mut server) = modes.configured(1, 776).await;
    server.send(COOKIE_REQUEST, &string("a:b")).await;
    client.expect(COOKIE_REQUEST).await;
    let answer = [string("a:b"), vec![1, 2, 8, 8]].concat();
    client.send(COOKIE_RESPONSE, &answer).await;
    assert_eq!(server.expect(COOKIE_RESPONSE).await, answer);
    pass(seconds(20)).await;
    enter(&mut client, &mut server, 776).await;
}
