//! Clients up to 1.6: three forms of ping, two of login, and the handshakes of
//! newer clients that begin with the same byte.

use crate::support::wire::{frame, handshake, kick16, login_start, string16};
use crate::support::{ClosedAddress, FakeBackend, FakeClient, TestProxy, server, within};

/// The ping of 1.6, which names its host.
fn ping_1_6(host: &str) -> Vec<u8> {
    let data = [vec![78], string16(host), 25565_u32.to_be_bytes().to_vec()].concat();
    let mut bytes = vec![0xfe, 0x01, 0xfa];
    bytes.extend(string16("MC|PingHost"));
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The login of 1.3 to 1.6.
fn login_1_6(name: &str, host: &str) -> Vec<u8> {
    [
        vec![2, 78],
        string16(name),
        string16(host),
        25565_u32.to_be_bytes().to_vec(),
    ]
    .concat()
}

fn kick(text: &str) -> Vec<u8> {
    [vec![0xff], string16(text)].concat()
}

/// All three forms are answered, with a MOTD if no backend answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_three_pings_are_answered() {
    let closed = ClosedAddress::bind();
    let gone = closed.address;
    let proxy = TestProxy::start(
        "[default_motd.online]\ntext = \"§aHello\"\nmax_players = 5",
        &[(
            "a",
            server(
                "passthrough",
                "play.example.com",
                gone,
                "[motd.offline]\ntext = \"asleep\"",
            ),
        )],
    );
    let answer = |bytes: Vec<u8>| {
        let address = proxy.address();
        async move {
            let mut client = FakeClient::connect(address).await;
            client.send(&bytes).await;
            kick16(&client.rest().await)
        }
    };
    assert_eq!(answer(vec![0xfe]).await, "Hello§0§5");
    let fields = |text: String| text.split('\0').map(str::to_owned).collect::<Vec<_>>();
    let with_version = fields(answer(vec![0xfe, 0x01]).await);
    assert_eq!(with_version[0], "§1");
    assert_eq!(with_version[3..], ["§aHello", "0", "5"]);
    let with_host = fields(answer(ping_1_6("play.example.com")).await);
    assert_eq!(with_host[3..], ["asleep", "0", "0"]);
}

/// A ping with a host reaches its backend with the rewritten host, and the backend's answer
/// is passed on unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_ping_with_a_host_is_relayed() {
    let backend = FakeBackend::start().await;
    let rewrite = "domain_rewrite = { explicit = \"lobby.internal\" }";
    let proxy = TestProxy::with_one_server("", "zero_copy", &backend, rewrite);
    let mut client = FakeClient::connect(proxy.address()).await;
    client.send(&ping_1_6("Play.example.com")).await;
    let mut peer = backend.accept().await;
    let expected = ping_1_6("lobby.internal");
    assert_eq!(peer.bytes(expected.len()).await, expected);
    let answer = kick(&["§1", "78", "1.6.4", "old world", "3", "20"].join("\0"));
    peer.send(&answer).await;
    assert_eq!(client.rest().await, answer);
}

/// A ping of 1.6 with an unexpected or incomplete message counts as one without a host. Its
/// backend gets a ping without a host.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_ping_has_no_host() {
    let whole = ping_1_6("play.example.com");
    // As some libraries write it: the host in UTF-8, its length in bytes.
    let message = [&[78, 0, 4][..], b"host", &25565_u32.to_be_bytes()].concat();
    let (begin, message_at) = (&whole[..27], 27);
    let with = |bytes: u16| [begin, &bytes.to_be_bytes(), &message].concat();
    let cases = [
        with(11),
        // The length that UTF-16 would have: more bytes seem to follow.
        with(15),
        whole[..whole.len() - 1].to_vec(),
        whole[..message_at].to_vec(),
        [&[0xfe, 1, 0xfa][..], &string16("MC|Other"), &[0, 0]].concat(),
        [&[0xfe, 1, 0xfa][..], &[0xff; 600]].concat(),
    ];
    let backend = FakeBackend::start().await;
    let cache = "[status_cache]\nttl = \"0s\"";
    let file = server("zero_copy", "*", backend.address, "");
    let proxy = TestProxy::start(cache, &[("a", file)]);
    for bytes in cases {
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&bytes).await;
        let mut peer = backend.accept().await;
        assert_eq!(peer.bytes(2).await, [0xfe, 1], "{bytes:?}");
        let answer = kick(&["§1", "78", "1.6.4", "old world", "3", "20"].join("\0"));
        peer.send(&answer).await;
        assert_eq!(client.rest().await, answer);
    }
}

/// A handshake with a length that begins with 0xFE is not a ping, even if its bytes arrive
/// slowly.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_begins_with_fe_is_not_a_ping() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, "");
    for frame_length in [254, 382, 1022] {
        let fixed = handshake(47, "play.example.com///", 25565, 2).len();
        // Two bytes of length before the frame, and one more for the longer string.
        let padding = "x".repeat(frame_length + 2 - fixed - 2);
        let hello = handshake(47, &format!("play.example.com///{padding}"), 25565, 2);
        assert_eq!((hello[0], hello.len()), (0xfe, frame_length + 2));
        for chunk in [1, hello.len()] {
            let mut client = FakeClient::connect(proxy.address()).await;
            for piece in hello.chunks(chunk) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            client.send(&login_start("Alice")).await;
            let (_, seen, _) = backend.accept_login().await;
            assert!(seen.host.ends_with("xxx"), "{seen:?}");
        }
    }
}

/// A login of an old client finds its server by its host, and its bytes arrive.
#[tokio::test(flavor = "multi_thread")]
async fn old_logins_are_relayed() {
    for mode in ["passthrough", "zero_copy"] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server("", mode, &backend, "");
        let login = login_1_6("Alice", "play.example.com");
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&login).await;
        let mut peer = backend.accept().await;
        assert_eq!(peer.bytes(login.len()).await, login);
        peer.send(&[0xfd, 1, 2, 3]).await;
        assert_eq!(client.bytes(4).await, [0xfd, 1, 2, 3]);

        let older = [vec![2], string16("Alice;play.example.com:25565")].concat();
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&older).await;
        assert_eq!(backend.accept().await.bytes(older.len()).await, older);
    }
}

/// `server_only` checks old logins too, and their clients can read refusals.
#[tokio::test(flavor = "multi_thread")]
async fn old_logins_are_guarded_and_refused_with_a_text() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "server_only", &backend, "");
    let encryption = [vec![0xfd], string16("id"), vec![0, 1, 9, 0, 1, 9]].concat();
    let not_asking = [vec![0xfd], string16("-"), vec![0, 1, 9, 0, 1, 9]].concat();
    for (answer, good) in [
        (encryption, true),
        (not_asking, false),
        (vec![1, 0, 0, 0, 7], false),
    ] {
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&login_1_6("Alice", "play.example.com")).await;
        let mut peer = backend.accept().await;
        peer.bytes(login_1_6("Alice", "play.example.com").len())
            .await;
        peer.send(&answer).await;
        if good {
            assert_eq!(client.bytes(answer.len()).await, answer);
        } else {
            assert!(kick16(&client.rest().await).contains("does not verify its players"));
        }
    }
    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&login_1_6("Alice", "elsewhere.example.com"))
        .await;
    assert_eq!(
        kick16(&client.rest().await),
        "No server is known under this address."
    );
}

/// An incomplete packet of an old client is not answered, and the connection ends at the
/// deadline.
#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_old_packet_ends_at_the_deadline() {
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server("handshake_timeout = \"400ms\"", "passthrough", &backend, "");
    for whole in [
        ping_1_6("play.example.com"),
        login_1_6("Alice", "play.example.com"),
    ] {
        let mut client = FakeClient::connect(proxy.address()).await;
        client.send(&whole[..whole.len() - 1]).await;
        within("the deadline", client.expect_end()).await;
    }
    let mut client = FakeClient::connect(proxy.address()).await;
    client.send(&frame(0, &[])[..1]).await;
    client.expect_end().await;
}
