//! Player forwarding: how a backend learns the player's identity, and that no player gets
//! in if it does not.

use std::fmt::Write as _;

use infrarust_test_support::game::{self, Speaker, refusal, who};

use super::{NOTCH_OFFLINE, admit, begin, offline};
use crate::support::{FakeBackend, TestProxy, wire};

const SECRET: &str = "correct horse battery staple";

fn velocity(backend: &FakeBackend) -> TestProxy {
    let more = format!(
        "compression_threshold = -1\nforwarding_mode = \"velocity\"\nforwarding_secret = \"{SECRET}\"\n"
    );
    offline(backend, &more)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// A login plugin request of the backend: message id, channel, payload.
async fn ask(backend: &mut Speaker, id: i32, channel: &str, payload: &[u8]) {
    let body = [wire::varint(id), wire::string(channel), payload.to_vec()].concat();
    backend.send(4, &body).await;
}

/// The backend gets the answer in the newest form that it requests: signature, address,
/// player id, name, properties.
#[tokio::test]
async fn velocity_answers_are_signed() {
    let backend = FakeBackend::start().await;
    let proxy = velocity(&backend);
    let id = NOTCH_OFFLINE.replace('-', "");
    let rest = format!("093132372e302e302e31{id}054e6f74636800");
    for (protocol, payload, version) in [
        (393, &[][..], 1),
        (758, &[4], 1),
        (767, &[4], 4),
        (767, &[9], 4),
        (767, &[3], 1),
        (767, &[0], 1),
        (767, &[4, 4], 1),
        (776, &[4], 4),
    ] {
        let (_client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        ask(&mut server, 300, "velocity:player_info", payload).await;
        let answer = server.expect(2).await;
        // The message id, and that it was understood.
        let answer = answer.strip_prefix(&[0xAC, 0x02, 1]).unwrap();
        let (mac, received) = answer.split_at(32);
        assert_eq!(hex(received), format!("{version:02x}{rest}"), "{protocol}");
        // Signed with the secret: computed by another program.
        let expected = match version {
            1 => MAC_1,
            _ => MAC_4,
        };
        assert_eq!(hex(mac), expected, "{protocol}");
    }
}

/// HMAC-SHA256 under [`SECRET`] of the forms 1 and 4 for Notch at 127.0.0.1.
const MAC_1: &str = "2758ed830738fa9c81ca0e3399d15ffa1aedc9b1ee268365153e88a832142307";
const MAC_4: &str = "53c9e7d4223794cd454a29679759515f459befcf5e739265304ce099ff845515";

/// A second request gets no answer, and requests on other channels pass to the client. The
/// request for the identity never reaches the client.
#[tokio::test]
async fn only_the_first_request_is_answered() {
    let backend = FakeBackend::start().await;
    let proxy = velocity(&backend);
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    ask(&mut server, 1, "velocity:player_info", &[4]).await;
    assert_eq!(server.expect(2).await[..2], [1, 1]);
    ask(&mut server, 2, "velocity:player_info", &[4]).await;
    assert_eq!(server.expect(2).await, [2, 0]);
    ask(&mut server, 3, "velocity:player_infos", &[4]).await;
    let asked = client.expect(4).await;
    assert_eq!(wire::string_in(&asked[1..]), "velocity:player_infos");
    client.send(2, &[3, 0]).await;
    assert_eq!(server.expect(2).await, [3, 0]);
}

/// A backend that never requests the identity would accept any name: the player is refused,
/// and the backend connection is closed.
#[tokio::test]
async fn a_backend_that_never_asks() {
    let backend = FakeBackend::start().await;
    let proxy = velocity(&backend);
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    admit(&mut server, 767).await;
    let text = refusal(&mut client).await;
    assert!(text.contains("player forwarding"), "{text}");
    server.expect_end().await;
    proxy.idle().await;
}

/// Before 1.13 the request does not exist: the player is refused, and the backend is not
/// dialled.
#[tokio::test]
async fn velocity_needs_1_13() {
    let backend = FakeBackend::start().await;
    let proxy = velocity(&backend);
    for protocol in [5, 47, 340] {
        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        let text = refusal(&mut client).await;
        assert!(text.contains("1.13"), "{text}");
    }
    proxy.idle().await;
    let accepted = futures_util::FutureExt::now_or_never(backend.listener.accept());
    assert!(accepted.is_none());
}

/// A backend in online mode is refused with every kind of forwarding.
#[tokio::test]
async fn a_backend_in_online_mode() {
    let secret = format!("forwarding_secret = \"{SECRET}\"\n");
    for mode in ["none", "bungeecord", "bungeeguard", "velocity"] {
        let needs_secret = matches!(mode, "bungeeguard" | "velocity");
        let secret = if needs_secret { &secret } else { "" };
        let backend = FakeBackend::start().await;
        let proxy = offline(&backend, &format!("forwarding_mode = \"{mode}\"\n{secret}"));
        let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
        server.send_raw(&wire::encryption_request()).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("authenticates players itself"), "{text}");
        server.expect_end().await;
    }
}

/// With another kind of forwarding the proxy answers that it does not understand the
/// request. The client does not see it, since it could forge an answer.
#[tokio::test]
async fn a_request_without_velocity_forwarding() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, super::NO_COMPRESSION);
    let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
    ask(&mut server, 7, "velocity:player_info", &[4]).await;
    assert_eq!(server.expect(2).await, [7, 0]);
    super::welcome(&mut client, &mut server, 767).await;
}

/// The host field with the identity, with and without a token.
#[tokio::test]
async fn host_fields() {
    let id = NOTCH_OFFLINE.replace('-', "");
    let token =
        r#"[{"name":"bungeeguard-token","signature":"","value":"correct horse battery staple"}]"#;
    for (mode, secret, properties) in [
        ("bungeecord", String::new(), "[]"),
        (
            "bungeeguard",
            format!("forwarding_secret = \"{SECRET}\"\n"),
            token,
        ),
    ] {
        let backend = FakeBackend::start().await;
        let more = format!(
            "forwarding_mode = \"{mode}\"\n{secret}{}",
            super::NO_COMPRESSION
        );
        let proxy = offline(&backend, &more);
        for protocol in [5, 47, 340, 758, 767, 776] {
            let mut client = game::begin(proxy.address(), protocol, "Notch").await;
            let (mut server, host, _) = game::accept(&backend).await;
            let expected = format!("play.example.com\0127.0.0.1\0{id}\0{properties}");
            let normal = |host: &str| {
                let (parts, json) = host.rsplit_once('\0').unwrap();
                let json: serde_json::Value = serde_json::from_str(json).unwrap();
                (parts.to_owned(), json)
            };
            assert_eq!(normal(&host), normal(&expected));
            admit(&mut server, protocol).await;
            let body = client.expect(2).await;
            assert_eq!(who(protocol, &body).0, NOTCH_OFFLINE);
        }
    }
}
