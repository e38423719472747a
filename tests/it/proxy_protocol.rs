//! PROXY headers, received and sent.

use tokio::io::AsyncWriteExt;

use infrarust_test_support::game::{self, Sessions};

use crate::program::Program;
use crate::support::wire::{frame, handshake, login_start};
use crate::support::{FakeBackend, FakeClient, TestProxy, server, within};

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn login() -> Vec<u8> {
    [
        handshake(47, "play.example.com", 25565, 2),
        login_start("Alice"),
    ]
    .concat()
}

/// The backend gets the addresses and ports of a trusted header unchanged, in both versions
/// and for both families of addresses.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_passed_on_as_they_were() {
    let mut v2 = V2_SIGNATURE.to_vec();
    v2.extend([
        0x21,
        0x11,
        0,
        12 + 5,
        203,
        0,
        113,
        9,
        192,
        0,
        2,
        1,
        0x12,
        0x67,
        0x63,
        0xdd,
    ]);
    v2.extend([0x04, 0, 2, 0xaa, 0xbb]);
    let headers = [
        (
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25565\r\n".to_vec(),
            "TCP4 203.0.113.9 192.0.2.1",
        ),
        (v2, "TCP4 203.0.113.9 192.0.2.1"),
        (
            b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 25565\r\n".to_vec(),
            "TCP6 2001:db8::9 2001:db8::1",
        ),
    ];
    for (header, addresses) in headers {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server(
            "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"127.0.0.0/8\"]",
            "passthrough",
            &backend,
            "send_proxy_protocol = \"v1\"",
        );
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&[header, login()].concat()).await;
        let expected = [
            format!("PROXY {addresses} 4711 25565\r\n").as_bytes(),
            &login(),
        ]
        .concat();
        assert_eq!(backend.accept().await.bytes(expected.len()).await, expected);
    }
}

/// Without a received header, the sent header has both addresses of the client's socket,
/// its source and the address that it connected to, in version 2 too.
#[tokio::test(flavor = "multi_thread")]
async fn the_header_of_a_direct_client_has_the_addresses_of_its_socket() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "zero_copy", &backend, "send_proxy_protocol = true");
    let mut client = FakeClient::connect(proxy.address()).await;
    let (source, target) = (client.stream.local_addr().unwrap(), proxy.address());
    client.send(&login()).await;
    let mut expected = V2_SIGNATURE.to_vec();
    expected.extend([0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    expected.extend(source.port().to_be_bytes());
    expected.extend(target.port().to_be_bytes());
    expected.extend(login());
    assert_eq!(backend.accept().await.bytes(expected.len()).await, expected);
}

/// LOCAL and UNKNOWN stand for the real peer. Addresses in these headers are ignored.
#[tokio::test(flavor = "multi_thread")]
async fn local_and_unknown_mean_the_real_peer() {
    let mut local = V2_SIGNATURE.to_vec();
    local.extend([0x20, 0x11, 0, 12, 6, 6, 6, 6, 7, 7, 7, 7, 0, 1, 0, 2]);
    for header in [local, b"PROXY UNKNOWN 6.6.6.6 7.7.7.7 1 2\r\n".to_vec()] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server(
            "receive_proxy_protocol = true",
            "passthrough",
            &backend,
            "send_proxy_protocol = \"v1\"",
        );
        let mut client = FakeClient::connect(proxy.address()).await;
        let source = client.stream.local_addr().unwrap();
        client.send(&[header, login()].concat()).await;
        let expected = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
            source.port(),
            proxy.address().port()
        );
        let seen = backend.accept().await.bytes(expected.len()).await;
        assert_eq!(String::from_utf8(seen).unwrap(), expected);
    }
}

/// A header from a peer that is not trusted is not parsed as a header;
/// the same peer may connect without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_is_not_believed() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"192.0.2.0/24\"]",
        "passthrough",
        &backend,
        "",
    );
    let mut forger = FakeClient::connect(proxy.address()).await;
    forger
        .send(
            &[
                b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(),
                login(),
            ]
            .concat(),
        )
        .await;
    forger.expect_end().await;

    let mut direct = FakeClient::connect(proxy.address()).await;
    direct.send(&login()).await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// A trusted sender without a header is refused, and an incomplete header is not awaited
/// beyond the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_endless_header_ends_the_connection() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "receive_proxy_protocol = true\nhandshake_timeout = \"300ms\"",
        "passthrough",
        &backend,
        "",
    );
    for bytes in [
        login(),
        [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(),
        b"PROXY ".to_vec(),
    ] {
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&bytes).await;
        client.expect_end().await;
    }
    proxy.idle().await;
}

/// A filter checks the address in the header, not the balancer's.
#[tokio::test(flavor = "multi_thread")]
async fn filters_see_the_client_behind_the_balancer() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "receive_proxy_protocol = true\n[ip_filter]\nblacklist = [\"203.0.113.0/24\"]",
        "passthrough",
        &backend,
        "",
    );
    let mut banned = FakeClient::connect(proxy.address()).await;
    banned
        .send(
            &[
                b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(),
                login(),
            ]
            .concat(),
        )
        .await;
    banned.expect_end().await;
    let mut other = FakeClient::connect(proxy.address()).await;
    other
        .send(
            &[
                b"PROXY TCP4 203.0.114.9 192.0.2.1 1 2\r\n".to_vec(),
                login(),
            ]
            .concat(),
        )
        .await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// An unexpected header and a missing one are logged with the key that decides. A health
/// check that connects and closes is not logged.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_balancers_are_reported() {
    let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25565\r\n".to_vec();
    let mut v2 = V2_SIGNATURE.to_vec();
    v2.extend([0x21, 0x11, 0, 12]);
    v2.extend([203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x63, 0xdd]);
    let receive = "receive_proxy_protocol = true";
    let untrusted = format!("{receive}\nproxy_protocol_trusted = [\"203.0.113.0/24\"]");
    let cases = [
        (
            "",
            v1.clone(),
            "receive_proxy_protocol",
            "refused: this peer sends a PROXY",
        ),
        (
            "",
            v2.clone(),
            "receive_proxy_protocol",
            "refused: this peer sends a PROXY",
        ),
        (
            &untrusted,
            v2.clone(),
            "proxy_protocol_trusted",
            "refused: this peer sends a PROXY",
        ),
        (
            receive,
            [&v1[..], &v2].concat(),
            "receive_proxy_protocol",
            "refused: this peer sends a second PROXY",
        ),
        (
            receive,
            Vec::new(),
            "receive_proxy_protocol",
            "refused: `receive_proxy_protocol` expects",
        ),
        (
            receive,
            b"PROXY TCP4 nonsense\r\n".to_vec(),
            "receive_proxy_protocol",
            "refused: `receive_proxy_protocol` expects",
        ),
    ];
    for (global, header, key, message) in cases {
        let mut program = Program::start(global, &[]);
        let address = program.address().await;
        program.line("ready").await;
        // A check of a balancer: it connects and closes, which leaves no line.
        drop(FakeClient::connect(address).await);
        let mut client = FakeClient::connect(address).await;
        // Byte by byte, as no network sends it and some may.
        for byte in header.iter().chain(&login()) {
            // The proxy refuses as soon as it can, and may be gone by now.
            let sent = within("a write", client.stream.write_all(&[*byte])).await;
            if sent.is_err() {
                break;
            }
        }
        client.expect_end().await;
        let line = within("a line of the log", program.log.next_line()).await;
        let line = line.unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = &line["fields"];
        let text = fields["message"].as_str().unwrap();
        assert!(text.starts_with(message), "{text}");
        assert_eq!(fields["key"], key);
        assert_eq!(line["level"], "WARN");
    }
}

/// In every mode a header does not count among the bytes of a session, since the client has
/// not sent it.
#[tokio::test(flavor = "multi_thread")]
async fn headers_are_not_counted() {
    let modes = [
        "passthrough",
        "zero_copy",
        "server_only",
        "offline",
        "client_only",
    ];
    for mode in modes {
        let mut counts = Vec::new();
        for more in [
            "",
            "send_proxy_protocol = \"v1\"",
            "send_proxy_protocol = \"v2\"",
        ] {
            let backend = FakeBackend::start().await;
            let sessions = Sessions::confirming("Notch").await;
            let file = format!("compression_threshold = -1\nauth_guard = false\n{more}");
            let file = match mode {
                "server_only" => file.replace("compression_threshold = -1\n", ""),
                "offline" | "client_only" => file.replace("auth_guard = false\n", ""),
                _ => more.to_owned(),
            };
            let file = server(mode, "play.example.com", backend.address, &file);
            let mut program = Program::start(&sessions.global(), &[("a", file)]);
            let mut client = game::begin(program.address().await, 47, "Notch").await;
            if mode == "client_only" {
                game::encrypt(&mut client, 47).await;
            }
            let mut peer = backend.accept().await;
            if more.contains("v1") {
                while peer.bytes(1).await != b"\n" {}
            } else if more.contains("v2") {
                let head = peer.bytes(16).await;
                assert!(head.starts_with(V2_SIGNATURE));
                peer.bytes(usize::from(head[15])).await;
            }
            FakeBackend::hello(&mut peer).await;
            peer.frame().await;
            let success = frame(2, &game::login_success(47, [7; 16], "Notch"));
            let join = frame(1, &[0, 0, 0, 1, 9, 0, 0]);
            peer.send(&[success, join].concat()).await;
            client.expect(2).await;
            client.expect(1).await;
            client.send(0, &[1]).await;
            assert_eq!(peer.frame().await, (0, vec![1]));
            drop((client, peer));
            let line = program.line("session ended").await;
            counts.push(line["serverbound_bytes"].as_u64().unwrap());
        }
        assert!(counts[0] > 30, "{mode}: {counts:?}");
        assert_eq!(counts, [counts[0]; 3], "{mode}");
    }
}
