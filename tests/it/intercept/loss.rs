//! A side is lost at every step: the other side reads a text or the end, and nothing is
//! left of the session.

use infrarust_test_support::game::{self, Ids, Say, Sessions, Speaker, encrypt, refusal};

use super::{NO_COMPRESSION, NOTCH_OFFLINE, admit, begin, offline, play, text, uuid, welcome};
use crate::support::{FakeBackend, TestProxy, server};

/// A server file with one slot, so that a slot that is not given back keeps the next player
/// out.
const ONE_PLACE: &str =
    "compression_threshold = -1\nmax_players = 1\ndisconnect_message = \"lost\"\n";

/// Asserts that the slot of a player who has read a text is free while the player is still
/// connected.
async fn is_free(proxy: &TestProxy, backend: &FakeBackend) {
    let (client, server) = begin(proxy, backend, 767, "Next").await;
    drop((client, server));
}

/// The backend is lost in the login state.
#[tokio::test]
async fn before_the_success() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [5, 47, 754, 767, 776] {
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        // With a byte, so that no other address is tried.
        server.send_raw(&[40, 0]).await;
        drop(server);
        let json = crate::support::wire::string_in(&client.expect(0).await);
        assert_eq!(json, r#"{"text":"lost"}"#, "{protocol}");
        is_free(&proxy, &backend).await;
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// A refusal by the backend passes unchanged, in any form.
#[tokio::test]
async fn refusals_pass() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    let long = format!(r#"{{"text":"{}"}}"#, "long ".repeat(2000));
    for json in [
        r#"{"translate":"multiplayer.disconnect.banned","with":["x"]}"#,
        r#""You are not white-listed""#,
        r#"{"text":"","extra":[{"text":"🦀","color":"red"}]}"#,
        &long,
    ] {
        let (mut client, mut server) = begin(&proxy, &backend, 776, "Notch").await;
        let body = crate::support::wire::string(json);
        server.send(0, &body).await;
        assert_eq!(client.expect(0).await, body);
        is_free(&proxy, &backend).await;
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// The backend is lost after its login success: before the client's acknowledgement, and in
/// the configuration.
#[tokio::test]
async fn the_backend_is_lost_in_configuration() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [764, 765, 767, 776] {
        let ids = Ids::of(protocol);
        for step in 0..4 {
            let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
            if step == 0 {
                admit(&mut server, protocol).await;
                client.expect(2).await;
                drop(server);
                client.send(3, &[]).await;
            } else {
                welcome(&mut client, &mut server, protocol).await;
                if step >= 2 {
                    server.send(5, b"registry").await;
                    client.expect(5).await;
                    // Half a frame.
                    server.send_raw(&[100, 5, 1]).await;
                }
                if step == 3 {
                    kicked_in_configuration(client, server, protocol).await;
                    continue;
                }
                drop(server);
            }
            let body = client.expect(ids.config_disconnect).await;
            assert_eq!(text(protocol, &body), "lost", "{protocol}");
            is_free(&proxy, &backend).await;
            client.expect_end().await;
            proxy.idle().await;
        }
    }
}

/// The backend is lost while the client still has to answer its login success, or an
/// earlier request.
#[tokio::test]
async fn while_the_client_has_not_answered() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    let success = game::login_success(767, uuid(NOTCH_OFFLINE), "Notch");
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    server.send(2, &success).await;
    client.expect(2).await;
    drop(server);
    let body = client.expect(Ids::of(767).config_disconnect).await;
    assert_eq!(text(767, &body), "lost");
    is_free(&proxy, &backend).await;
    client.expect_end().await;
    drop(client);
    proxy.idle().await;

    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    let question = [vec![5], crate::support::wire::string("a:b")].concat();
    server.send(4, &question).await;
    client.expect(4).await;
    server.send(2, &success).await;
    drop(server);
    assert_eq!(refusal(&mut client).await, "lost");
    is_free(&proxy, &backend).await;
    drop(client);
    proxy.idle().await;
}

async fn kicked_in_configuration(mut client: Speaker, mut server: Speaker, protocol: i32) {
    let id = Ids::of(protocol).config_disconnect;
    // The rest of the frame that was begun.
    server.send_raw(&[0; 98]).await;
    server.send(id, b"the text").await;
    drop(server);
    client.expect(5).await;
    assert_eq!(client.expect(id).await, b"the text");
    // Nothing follows it.
    client.expect_end().await;
}

/// The backend is lost after its finish of the configuration and before the client's.
#[tokio::test]
async fn between_the_two_ends_of_a_configuration() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [764, 776] {
        let ids = Ids::of(protocol);
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        welcome(&mut client, &mut server, protocol).await;
        server.send(ids.finish, &[]).await;
        client.expect(ids.finish).await;
        drop(server);
        // The client reads the next packet in play.
        let body = client.expect(ids.disconnect).await;
        assert_eq!(text(protocol, &body), "lost");
        is_free(&proxy, &backend).await;
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// The backend is lost in play, in the middle of a frame, by an end or a reset: complete
/// frames arrive, then the text.
#[tokio::test]
async fn the_backend_is_lost_in_play() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [47, 340, 754, 764, 767, 776] {
        let (mut client, mut server) = play(&proxy, &backend, protocol).await;
        let mut bytes = server.framed(0x22, &[1; 5000]);
        bytes.extend(server.framed(0x22, &[2; 90_000]));
        bytes.truncate(60_000);
        server.send_raw(&bytes).await;
        drop(server);
        assert_eq!(client.expect(0x22).await, [1; 5000]);
        let body = client.expect(Ids::of(protocol).disconnect).await;
        assert_eq!(text(protocol, &body), "lost", "{protocol}");
        is_free(&proxy, &backend).await;
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// A backend in play sends bytes that are not frames: the frames before them arrive, and
/// the text has the form of the client's state after them.
#[tokio::test]
async fn a_backend_that_breaks_the_protocol() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    let (mut client, mut server) = play(&proxy, &backend, 776).await;
    let start = server.framed(0x76, &[]);
    server.send_raw(&[start, vec![0xFF; 10]].concat()).await;
    client.expect(0x76).await;
    let body = client.expect(2).await;
    assert_eq!(text(776, &body), "lost");
    server.expect_end().await;
    client.expect_end().await;
    proxy.idle().await;
}

/// A kick passes, and nothing follows it.
#[tokio::test]
async fn kicks_pass() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [5, 340, 767, 776] {
        let id = Ids::of(protocol).disconnect;
        let (mut client, mut server) = play(&proxy, &backend, protocol).await;
        server.send(id, b"whatever it says").await;
        drop(server);
        assert_eq!(client.expect(id).await, b"whatever it says");
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// A backend accepts the connection and closes it before its first byte: the next address
/// is dialled, and the player plays there.
#[tokio::test]
async fn the_next_address_is_dialled() {
    let first = FakeBackend::start().await;
    let second = FakeBackend::start().await;
    let file = server("offline", "play.example.com", first.address, NO_COMPRESSION);
    let one = format!("\"{}\"", first.address);
    let both = format!("{one}, \"{}\"", second.address);
    let proxy = TestProxy::start("", &[("a", file.replace(&one, &both))]);
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    drop(game::accept(&first).await);
    let (mut server, host, start) = game::accept(&second).await;
    assert_eq!(host, "play.example.com");
    let name_bytes = crate::support::wire::string("Notch");
    assert!(start.starts_with(&name_bytes));
    welcome(&mut client, &mut server, 767).await;
    drop((client, server));
    proxy.idle().await;
    // With nobody left the player reads the text of the file.
    let mut client = game::begin(proxy.address(), 767, "Notch").await;
    drop(game::accept(&first).await);
    drop(game::accept(&second).await);
    assert!(!refusal(&mut client).await.is_empty());
    proxy.idle().await;
}

/// The client leaves at each step: its backend sees the end, and no connection, slot or
/// name is left.
#[tokio::test]
async fn the_client_leaves_at_each_step() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, ONE_PLACE);
    for protocol in [47, 776] {
        let steps = if protocol >= 764 { 5 } else { 3 };
        for step in 0..steps {
            let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
            let ids = Ids::of(protocol);
            if step >= 1 {
                admit(&mut server, protocol).await;
                client.expect(2).await;
            }
            if step >= 2 && protocol >= 764 {
                client.send(3, &[]).await;
                server.expect(3).await;
            } else if step >= 2 {
                server.send(ids.join, &[0; 8]).await;
                client.expect(ids.join).await;
            }
            if step >= 3 {
                server.send(ids.finish, &[]).await;
                client.expect(ids.finish).await;
            }
            if step >= 4 {
                client.send(ids.finish, &[]).await;
                server.expect(ids.finish).await;
            }
            drop(client);
            server.expect_end().await;
            drop(server);
            proxy.idle().await;
        }
    }
    let (client, server) = play(&proxy, &backend, 776).await;
    drop((client, server));
    proxy.idle().await;
}

/// More logins than requests may run wait for a silent service. All of them wait, and leave
/// nothing behind when they leave.
#[tokio::test]
async fn a_crowd_at_a_silent_service() {
    let sessions = Sessions::start(Say::Nothing).await;
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(&sessions.global(), "client_only", &backend, "");
    let mut crowd = Vec::new();
    for index in 0..100 {
        let mut client = game::begin(proxy.address(), 767, &format!("p{index}")).await;
        encrypt(&mut client, 767).await;
        crowd.push(client);
    }
    assert_eq!(proxy.running.open_connections(), 100);
    drop(crowd);
    proxy.idle().await;
}
