//! `server_only`: the backend must authenticate.

use crate::support::wire::{encryption_request, frame, handshake, login_success, string, varint};
use crate::support::{FakeBackend, FakeClient, TestProxy};

const REFUSED: &str = "This server does not verify its players, so the proxy did not let you in.";

fn proxy(backend: &FakeBackend, more: &str) -> TestProxy {
    TestProxy::with_one_server("", "server_only", backend, more)
}

/// A backend that accepts the player without encryption, at once or after it has set
/// compression, is not relayed to, and the player reads why.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_authentication_is_refused() {
    let only_encrypts = {
        let mut body = [string(""), varint(3), vec![1, 2, 3], varint(4), vec![5; 4]].concat();
        body.push(0);
        frame(1, &body)
    };
    for (protocol, answer) in [
        (47, login_success("Alice")),
        (47, frame(3, &varint(256))),
        (767, only_encrypts),
    ] {
        let backend = FakeBackend::start().await;
        let proxy = proxy(&backend, "");
        let mut client = FakeClient::connect(proxy.address()).await;
        let login = match protocol {
            767 => frame(0, &[string("Alice"), vec![7; 16]].concat()),
            _ => frame(0, &string("Alice")),
        };
        client
            .send(&[handshake(protocol, "play.example.com", 1, 2), login].concat())
            .await;
        let (mut peer, _, _) = backend.accept_login().await;
        peer.send(&answer).await;
        assert_eq!(FakeClient::kick(&mut client).await, REFUSED);
        client.expect_end().await;
        peer.expect_end().await;
    }
}

/// An Encryption Request proves that the backend authenticates, in any number of pieces. It
/// reaches the client complete, because the guard only peeks at it.
#[tokio::test(flavor = "multi_thread")]
async fn an_encryption_request_passes_whole() {
    let backend = FakeBackend::start().await;
    let proxy = proxy(&backend, "");
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    let request = [encryption_request(), b"and more".to_vec()].concat();
    for byte in &request {
        peer.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.bytes(request.len()).await, request);
    client.send(b"answer").await;
    assert_eq!(peer.bytes(6).await, b"answer");
}

/// A refusal by the backend is passed on.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_of_the_backend_passes() {
    let backend = FakeBackend::start().await;
    let proxy = proxy(&backend, "");
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    peer.send(&frame(0, &string(r#"{"text":"whitelisted"}"#)))
        .await;
    drop(peer);
    assert_eq!(FakeClient::kick(&mut client).await, "whitelisted");
    client.expect_end().await;
}

/// Requests of mods before the decision pass in both directions, and the later decision
/// counts.
#[tokio::test(flavor = "multi_thread")]
async fn questions_before_the_decision_pass() {
    for (decision, good) in [
        (encryption_request(), true),
        (login_success("Alice"), false),
    ] {
        let backend = FakeBackend::start().await;
        let proxy = proxy(&backend, "");
        let mut client = FakeClient::connect(proxy.address()).await;
        let login = frame(0, &string("Alice"));
        client
            .send(&[handshake(404, "play.example.com", 1, 2), login].concat())
            .await;
        let (mut peer, _, _) = backend.accept_login().await;

        let question = frame(
            4,
            &[varint(1), string("fml:loginwrapper"), vec![3; 9000]].concat(),
        );
        peer.send(&question).await;
        assert_eq!(client.bytes(question.len()).await, question);
        client.send(&frame(2, &[varint(1), vec![0]].concat())).await;
        assert_eq!(peer.frame().await, (2, vec![1, 0]));

        peer.send(&decision).await;
        if good {
            assert_eq!(client.bytes(decision.len()).await, decision);
        } else {
            assert_eq!(FakeClient::kick(&mut client).await, REFUSED);
        }
    }
}

/// `auth_guard = false` turns the check off.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_can_be_turned_off() {
    let backend = FakeBackend::start().await;
    let proxy = proxy(&backend, "auth_guard = false");
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    let answer = login_success("Alice");
    peer.send(&answer).await;
    assert_eq!(client.bytes(answer.len()).await, answer);
}

/// A client that leaves while the backend has not answered gives its slots back.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_noticed() {
    let backend = FakeBackend::start().await;
    let proxy = proxy(&backend, "");
    let client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    drop(client);
    peer.expect_end().await;
    proxy.idle().await;
}

/// A backend that ends in the middle of its first packet, with an end or a reset, does not
/// keep a worker busy: the part that has arrived is passed on, then the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incomplete_answer_is_passed_on() {
    let backend = FakeBackend::start().await;
    let proxy = proxy(&backend, "");
    // The length of the packet, which decides nothing yet.
    let part = &encryption_request()[..1];
    for is_reset in [false, true] {
        let mut logins = Vec::new();
        // More than there are workers.
        for _ in 0..4 {
            let client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
            let (mut peer, _, _) = backend.accept_login().await;
            peer.send(part).await;
            if is_reset {
                let at_once = Some(std::time::Duration::ZERO);
                socket2::SockRef::from(&peer.stream)
                    .set_linger(at_once)
                    .unwrap();
            }
            drop(peer);
            logins.push(client);
        }
        for mut client in logins {
            assert_eq!(client.rest().await, part);
        }
        proxy.idle().await;
    }
}
