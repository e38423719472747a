//! Malformed, slow and silent connections: each one ends without an effect on others.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::wire::{frame, handshake, login_start, string, varint};
use crate::support::{FakeBackend, FakeClient, TestProxy, server, within};

/// Bytes that are not a handshake end the connection at once, before any
/// deadline, and nothing reaches the backend.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_a_handshake_end_at_once() {
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server("handshake_timeout = \"1h\"", "passthrough", &backend, "");
    let hello = handshake(47, "play.example.com", 25565, 2);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an endless VarInt", vec![0x80; 5]),
        ("a length of 2 MiB", vec![0xff, 0xff, 0x7f]),
        ("a length of zero", vec![0]),
        ("a frame over 8 KiB", varint(8193)),
        ("another packet", frame(1, &[0; 10])),
        (
            "a negative host length",
            frame(0, &[varint(47), varint(-1), vec![0; 8]].concat()),
        ),
        (
            "a host length of 2 GiB",
            frame(0, &[varint(47), varint(i32::MAX), vec![0; 8]].concat()),
        ),
        (
            "an unknown intent",
            handshake(47, "play.example.com", 25565, 4),
        ),
        ("intent zero", handshake(47, "play.example.com", 25565, 0)),
        (
            "bytes after the fields",
            frame(0, &[&hello[2..], &[0][..]].concat()),
        ),
        (
            "a host that is not UTF-8",
            frame(0, &[47, 2, 0xff, 0xff, 0, 1, 2]),
        ),
        (
            "a long name",
            [hello.clone(), login_start(&"x".repeat(17))].concat(),
        ),
        ("an empty name", [hello.clone(), login_start("")].concat()),
        (
            "a huge name length",
            [hello.clone(), frame(0, &varint(i32::MAX))].concat(),
        ),
        ("a handshake twice", [hello.clone(), hello.clone()].concat()),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: play.example.com\r\n\r\n".to_vec(),
        ),
        (
            "TLS",
            vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc],
        ),
    ];
    for (what, bytes) in cases {
        println!("{what}");
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&bytes).await;
        within(what, client.expect_end()).await;
    }
    proxy.idle().await;
    let _client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// The deadline of a handshake is absolute: bytes that arrive one at a time do not extend
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_does_not_move_the_deadline() {
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server("handshake_timeout = \"500ms\"", "passthrough", &backend, "");
    let mut client = FakeClient::connect(proxy.address()).await;
    let host = "x".repeat(120);
    let bytes = handshake(47, &host, 25565, 2);
    // The whole of it would take half a minute, and each byte comes in time.
    let mut sent = 0;
    let trickle = async {
        for byte in &bytes {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sent += 1;
        }
    };
    within("the deadline", trickle).await;
    assert!(sent < bytes.len(), "the whole handshake was taken");
    proxy.idle().await;
}

/// A thousand silent connections do not keep a player out.
#[tokio::test(flavor = "multi_thread")]
async fn silence_does_not_keep_players_out() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(FakeClient::connect(proxy.address()).await);
    }
    let _client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// The number of connections of one client without a handshake is limited.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_hold_all_pending_places() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "[rate_limit]\nlimit_loopback = true",
        "passthrough",
        &backend,
        "",
    );
    let mut silent = Vec::new();
    for _ in 0..128 {
        silent.push(FakeClient::connect(proxy.address()).await);
    }
    let mut extra = FakeClient::connect(proxy.address()).await;
    extra.expect_end().await;
    silent.pop();
    drop(silent);
    proxy.idle().await;
}

/// Unusual but legal names and hosts are relayed unchanged: the backend decides about them,
/// and the log escapes them.
#[tokio::test(flavor = "multi_thread")]
async fn odd_names_pass() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start("", &[("a", server("zero_copy", "*", backend.address, ""))]);
    for (host, name) in [
        ("::1", "a b"),
        ("host\u{1b}[31m", "\u{1b}[2J"),
        ("ünï", "名前"),
    ] {
        let _client = FakeClient::login(proxy.address(), host, name).await;
        let (_, hello, login) = backend.accept_login().await;
        assert_eq!((hello.host.as_str(), login), (host, string(name)));
    }
}
