//! Status pings: relayed, cached, changed, and answered by the proxy itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::program::Program;
use crate::support::wire::{frame, handshake, string, string_in, varint};
use crate::support::{ClosedAddress, FakeBackend, FakeClient, TestProxy, server, within};

const ANSWER: &str = r#"{"version":{"name":"1.8.9","protocol":47},"players":{"max":20,"online":3},"description":{"text":"hello"}}"#;

/// Answers in the cache do not expire during a test.
const LONG_CACHE: &str = "[status_cache]\nttl = \"1h\"";

/// Many pings at the same time cause one request to the backend, and so do pings shortly
/// afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn one_request_answers_many_pings() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(LONG_CACHE, "zero_copy", &backend, "");
    let asked = backend.serve_status(ANSWER);
    let address = proxy.address();
    let askers: Vec<_> = (0..50)
        .map(|_| tokio::spawn(FakeClient::status(address, "play.example.com")))
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap()["players"]["online"], 3);
    }
    FakeClient::status(address, "play.example.com").await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Each version of the game causes a request of its own, since the backend may answer each
/// differently.
#[tokio::test(flavor = "multi_thread")]
async fn each_version_has_its_own_request() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(LONG_CACHE, "passthrough", &backend, "");
    let asked = backend.serve_status(ANSWER);
    for protocol in [47, 340, 47, 340] {
        let mut client = FakeClient::connect(proxy.address()).await;
        let hello = handshake(protocol, "play.example.com", 25565, 1);
        client.send(&[hello, frame(0, &[])].concat()).await;
        let (_, body) = client.frame().await;
        assert!(string_in(&body).contains("hello"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Values that a client can invent do not cause further requests: versions without a
/// release, letter case, ports, tails of proxies, unknown markers.
#[tokio::test(flavor = "multi_thread")]
async fn invented_values_share_one_answer() {
    let hosts = |n: u32| {
        let shield = format!("///203.0.113.{n}:50000///1700000000///c2ln{n}==");
        [
            (770, format!("play.example.com{shield}")),
            (770, "PLAY.Example.com.".to_owned()),
            (770, "play.example.com:25565".to_owned()),
            (100_000 + n.cast_signed(), "play.example.com".to_owned()),
            (770, format!("play.example.com\0FML{n}x\0")),
            (770, format!("play.example.com\0FORGE{n}")),
        ]
    };
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(LONG_CACHE, "passthrough", &backend, "");
    let asked = backend.serve_status(ANSWER);
    for n in 0..20 {
        for (protocol, host) in hosts(n) {
            let mut client = FakeClient::connect(proxy.address()).await;
            let hello = handshake(protocol, &host, 25565, 1);
            client.send(&[hello, frame(0, &[])].concat()).await;
            assert!(string_in(&client.frame().await.1).contains("hello"));
        }
    }
    // One for the version, one for all others, one for each kind of marker.
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

/// A version without a release is not passed on, because its answer is shared by all such
/// versions.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_not_passed_on() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
    for (protocol, seen) in [(123_456, -1), (47, 47)] {
        let mut client = FakeClient::connect(proxy.address()).await;
        let hello = handshake(protocol, "play.example.com", 25565, 1);
        client.send(&[hello, frame(0, &[])].concat()).await;
        let (mut peer, hello) = backend.accept_hello().await;
        assert_eq!(hello.protocol, seen);
        FakeBackend::answer_status(&mut peer, ANSWER).await;
        assert_eq!(client.frame().await.0, 0);
    }
}

/// While one client waits for the next answer, others get the last one.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_is_given_while_the_next_is_fetched() {
    let backend = FakeBackend::start().await;
    let cache = "[status_cache]\nttl = \"1ms\"";
    let proxy = TestProxy::with_one_server(cache, "passthrough", &backend, "");
    let address = proxy.address();
    let first = tokio::spawn(FakeClient::status(address, "play.example.com"));
    let (mut peer, _) = backend.accept_hello().await;
    FakeBackend::answer_status(&mut peer, ANSWER).await;
    first.await.unwrap();
    // The time of the answer has to pass.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refreshing = tokio::spawn(FakeClient::status(address, "play.example.com"));
    let (mut peer, _) = backend.accept_hello().await;
    for _ in 0..3 {
        let answer = FakeClient::status(address, "play.example.com").await;
        assert_eq!(answer["players"]["online"], 3);
    }
    FakeBackend::answer_status(&mut peer, r#"{"players":{"max":20,"online":4}}"#).await;
    assert_eq!(refreshing.await.unwrap()["players"]["online"], 4);
}

/// Requests that one client causes with invented names leave requests for others.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_does_not_use_all_requests() {
    let backend = FakeBackend::start().await;
    let file = server("passthrough", "*.example.com", backend.address, "");
    let global = "[rate_limit]\nlimit_loopback = true";
    let proxy = TestProxy::start(global, &[("a", file)]);
    let mut held = Vec::new();
    for n in 0..40 {
        let mut client = FakeClient::connect(proxy.address()).await;
        let hello = handshake(47, &format!("x{n}.example.com"), 25565, 1);
        client.send(&[hello, frame(0, &[])].concat()).await;
        held.push(client);
    }
    let mut asked = vec![backend.accept_hello().await, backend.accept_hello().await];
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = within("a connection", socket.connect(proxy.address())).await;
    let mut other = crate::support::Peer::new(other.unwrap());
    let hello = handshake(47, "honest.example.com", 25565, 1);
    other.send(&[hello, frame(0, &[])].concat()).await;
    asked.push(backend.accept_hello().await);
    let (mut peer, hello) = asked.pop().unwrap();
    assert_eq!(hello.host, "honest.example.com");
    FakeBackend::answer_status(&mut peer, ANSWER).await;
    assert_eq!(other.frame().await.0, 0);
}

/// Without the cache every ping causes a request.
#[tokio::test(flavor = "multi_thread")]
async fn the_cache_can_be_switched_off() {
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server("[status_cache]\nttl = \"0s\"", "passthrough", &backend, "");
    let asked = backend.serve_status(ANSWER);
    for _ in 0..3 {
        FakeClient::status(proxy.address(), "play.example.com").await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// `[motd.online]` replaces parts of the backend's answer, and leaves the rest.
#[tokio::test(flavor = "multi_thread")]
async fn the_online_motd_replaces_parts_of_the_answer() {
    let backend = FakeBackend::start().await;
    let motd = "[motd.online]\ntext = \"ours\"\nmax_players = 99\nversion_name = \"any\"";
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, motd);
    backend.serve_status(ANSWER);
    let answer = FakeClient::status(proxy.address(), "play.example.com").await;
    assert_eq!(answer["description"]["text"], "ours");
    assert_eq!(answer["players"]["max"], 99);
    assert_eq!(answer["players"]["online"], 3);
    assert_eq!(answer["version"]["name"], "any");
}

/// The time of a slow backend does not count for the client's deadline: the ping after the
/// answer is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_takes_none_of_the_clients_time() {
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server("handshake_timeout = \"3s\"", "passthrough", &backend, "");
    let mut client = FakeClient::connect(proxy.address()).await;
    let hello = handshake(47, "play.example.com", 25565, 1);
    client.send(&[hello, frame(0, &[])].concat()).await;
    let (mut peer, _) = backend.accept_hello().await;
    // The time is the subject: it passes the client's own, which is long enough
    // for a client on a busy machine.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    FakeBackend::answer_status(&mut peer, ANSWER).await;
    let (_, body) = client.frame().await;
    assert!(string_in(&body).contains("hello"));
    // A client pings when it has read the answer.
    let ping = frame(1, &7_u64.to_be_bytes());
    client.send(&ping).await;
    assert_eq!(client.bytes(ping.len()).await, ping);
}

/// If no backend answers, the client gets the server's own offline MOTD, or the default
/// one, or a built-in text, and never the online one.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_has_a_motd() {
    let closed = ClosedAddress::bind();
    let gone = closed.address;
    let own = "[motd.online]\ntext = \"up\"\n[motd.offline]\ntext = \"asleep\"";
    let servers = [
        ("a", server("passthrough", "own.example.com", gone, own)),
        ("b", server("passthrough", "default.example.com", gone, "")),
    ];
    let proxy = TestProxy::start("[default_motd.offline]\ntext = \"down\"", &servers);
    let text = |answer: serde_json::Value| answer["description"]["text"].clone();
    assert_eq!(
        text(FakeClient::status(proxy.address(), "own.example.com").await),
        "asleep"
    );
    assert_eq!(
        text(FakeClient::status(proxy.address(), "default.example.com").await),
        "down"
    );

    let proxy = TestProxy::start("", &servers);
    let answer = text(FakeClient::status(proxy.address(), "default.example.com").await);
    assert_eq!(answer, "§cThis server is currently unreachable.");
}

/// A favicon file is read at start, relative to the file that names it, and sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_favicon_comes_from_a_file() {
    let backend = FakeBackend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let icon = folder.path().join("icon.png");
    std::fs::write(&icon, png(64, 64)).unwrap();
    let motd = format!("[motd.online]\nfavicon = {:?}", icon.to_str().unwrap());
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, &motd);
    backend.serve_status(ANSWER);
    let answer = FakeClient::status(proxy.address(), "play.example.com").await;
    assert!(
        answer["favicon"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,iVBORw0KGgo")
    );
    assert_eq!(answer["description"]["text"], "hello");
}

/// A PNG's signature and header with these dimensions.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// A backend with an invalid or much too large answer counts as unreachable.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_answer_of_a_backend_is_not_passed_on() {
    for nonsense in [
        frame(0, b"\x05hello"),
        frame(0, &string("[1,2]")),
        vec![0xff; 64],
        vec![0xff, 0xff, 0x7f, 0x00],
        Vec::new(),
    ] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
        let address = proxy.address();
        let asker = tokio::spawn(FakeClient::status(address, "play.example.com"));
        let mut peer = backend.accept().await;
        peer.send(&nonsense).await;
        drop(peer);
        let answer = within("the answer", asker).await.unwrap();
        assert_eq!(
            answer["description"]["text"],
            "§cThis server is currently unreachable."
        );
    }
}

/// The packet that a client gets for a status request.
async fn packet(proxy: &TestProxy) -> (i32, Vec<u8>) {
    let mut client = FakeClient::connect(proxy.address()).await;
    let hello = handshake(47, "play.example.com", 25565, 1);
    client.send(&[hello, frame(0, &[])].concat()).await;
    client.frame().await
}

/// Answers that clients accept and a strict parser does not, and bytes after the text, pass
/// unchanged, from the backend and from the cache.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_clients_accept_pass_unchanged() {
    let behind = string(r#"{"name":"A Pack"}"#);
    for (text, behind) in [
        (&b"{\"description\":\"one\ntwo\"}"[..], &[][..]),
        (br#"{"description":"\ud83d","description":"x"} "#, &behind),
        (b"{\"description\":\"\xff\"}\0", b"\xff\0"),
        (b"/**/{description:'x';players=null}", &[]),
        (
            br#"{"description":1E2,"n":123456789012345678901234567890}"#,
            &[],
        ),
    ] {
        let body = [&varint(i32::try_from(text.len()).unwrap()), text, behind].concat();
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
        let serve = async {
            let (mut peer, _) = backend.accept_hello().await;
            peer.frame().await;
            peer.send(&frame(0, &body)).await;
        };
        let (first, ()) = tokio::join!(packet(&proxy), serve);
        assert_eq!(first, (0, body.clone()));
        assert_eq!(packet(&proxy).await, (0, body));
    }
}

/// To replace parts of an answer, the proxy parses it as clients do. Bytes after the text
/// stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_motd_replaces_parts_of_unusual_answers() {
    let text = "{\"a\":\"b\nc\",\"description\":'old', \"players\":{\"online\":3}}junk";
    let behind = [3, b'm', b'o', b'd'];
    let backend = FakeBackend::start().await;
    let motd = "[motd.online]\ntext = \"ours\"";
    let proxy = TestProxy::with_one_server("", "zero_copy", &backend, motd);
    let serve = async {
        let (mut peer, _) = backend.accept_hello().await;
        peer.frame().await;
        peer.send(&frame(0, &[&string(text)[..], &behind].concat()))
            .await;
    };
    let ((id, body), ()) = tokio::join!(packet(&proxy), serve);
    assert_eq!(id, 0);
    let answer = string_in(&body);
    assert!(body.ends_with(&behind) && body.len() == string(&answer).len() + behind.len());
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer,
        serde_json::json!({"a": "b\nc", "description": {"text": "ours"}, "players": {"online": 3}})
    );
}

/// The reason for a failed status request is logged at the default level, with a limit for
/// each server.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_status_request_is_logged() {
    let backend = FakeBackend::start().await;
    let closed = ClosedAddress::bind();
    let gone = closed.address;
    let at = |domain: &str, address| server("passthrough", domain, address, "");
    let mut program = Program::start(
        "[status_cache]\nttl = \"0s\"",
        &[
            ("odd", at("odd.test", backend.address)),
            ("gone", at("gone.test", gone)),
        ],
    );
    let proxy = program.address().await;
    let serve = async {
        for _ in 0..5 {
            let (mut peer, _) = backend.accept_hello().await;
            peer.frame().await;
            peer.send(&frame(0, &string("nonsense"))).await;
        }
    };
    let ask = async {
        for _ in 0..5 {
            FakeClient::status(proxy, "odd.test").await;
        }
        FakeClient::status(proxy, "gone.test").await;
    };
    tokio::join!(ask, serve);
    for _ in 0..3 {
        let line = program.line_with("no status").await;
        assert_eq!(line["server"], "odd");
        let error = line["error"].as_str().unwrap();
        let expected = format!(
            "{}: the status answer is not a JSON object",
            backend.address
        );
        assert!(error.starts_with(&expected), "{error}");
    }
    let line = program.line_with("no status").await;
    assert_eq!(line["server"], "gone");
    assert!(line["error"].as_str().unwrap().contains(&gone.to_string()));
}

/// A ping without a request, two requests, and a close without a ping are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_conversations_are_accepted() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
    backend.serve_status(ANSWER);
    let hello = handshake(47, "play.example.com", 25565, 1);

    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&[hello.clone(), frame(1, &[9; 8])].concat())
        .await;
    assert_eq!(client.frame().await, (1, vec![9; 8]));
    client.expect_end().await;

    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&[hello.clone(), frame(0, &[]), frame(0, &[])].concat())
        .await;
    assert_eq!(client.frame().await.0, 0);
    assert_eq!(client.frame().await.0, 0);
    drop(client);
    proxy.idle().await;
}

/// The client closes first after its pong, so that TIME_WAIT stays on its side. A client
/// that does not close is disconnected.
#[tokio::test]
async fn the_client_closes_first() {
    let proxy = TestProxy::start("", &[]);
    for stays in [false, true] {
        // Sooner than the proxy closes, so that it is known which was first.
        let soon = Duration::from_secs(1);
        let mut client = loop {
            let asked = std::time::Instant::now();
            let mut client = FakeClient::connect(proxy.address()).await;
            client
                .send(&[handshake(47, "any.test", 25565, 1), frame(0, &[])].concat())
                .await;
            assert_eq!(client.frame().await.0, 0);
            let ping = frame(1, &7_u64.to_be_bytes());
            client.send(&ping).await;
            assert_eq!(client.bytes(ping.len()).await, ping);
            if stays {
                break client;
            }
            let quiet = Duration::from_millis(200);
            let end = tokio::time::timeout(quiet, client.stream.readable()).await;
            if asked.elapsed() < soon {
                assert!(end.is_err(), "the proxy was first");
                client.stream.shutdown().await.unwrap();
                break client;
            }
        };
        client.expect_end().await;
    }
}
