//! Proofs for the keys of `client_only` and `offline`.

use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::witness::{HOST, final_text};
use crate::intercept::channel::{USES, play};
use crate::support::wire::{
    frame, handshake, login_start, login_success, read_varint, string, varint,
};
use crate::support::{FakeBackend, FakeClient, Peer, TestProxy, server, within};

/// The protocol of 1.21. Its login start has a player id.
const WITH_UUID: i32 = 767;
/// The player id that [`FakeClient::login_as`] claims.
const CLAIMED: [u8; 16] = [7; 16];

/// A proxy with one `offline` server.
fn offline(global: &str, backend: &FakeBackend, more: &str) -> TestProxy {
    TestProxy::start(
        global,
        &[("a", server("offline", HOST, backend.address, more))],
    )
}

/// The threshold that the client reads before it is accepted; `None` if it reads none.
async fn threshold(global: &str, more: &str) -> Option<i32> {
    let backend = FakeBackend::start().await;
    let proxy = offline(global, &backend, more);
    let mut client = FakeClient::login(proxy.address(), HOST, "Alice").await;
    let (mut peer, ..) = backend.accept_login().await;
    peer.send(&login_success("Alice")).await;
    match client.frame().await {
        (3, body) => Some(read_varint(&body).unwrap().0),
        (2, _) => None,
        other => panic!("{other:?}"),
    }
}

pub async fn compression_threshold(is_global: bool) {
    for (key, expected) in [
        ("compression_threshold = 77", Some(77)),
        ("compression_threshold = -1", None),
        ("", Some(256)),
    ] {
        let (global, more) = if is_global { (key, "") } else { ("", key) };
        assert_eq!(threshold(global, more).await, expected, "{key}");
    }
}

/// The backend and the client get the player id of the key.
pub async fn offline_uuid() {
    let more = "forwarding_mode = \"bungeecord\"\ncompression_threshold = -1";
    for (global, is_claimed) in [
        ("[auth]\noffline_uuid = \"client\"", true),
        ("[auth]\noffline_uuid = \"offline\"", false),
        ("", false),
    ] {
        let backend = FakeBackend::start().await;
        let proxy = offline(global, &backend, more);
        let mut client = FakeClient::login_as(proxy.address(), WITH_UUID, HOST, "Notch").await;
        let (mut peer, _, login) = backend.accept_login().await;
        let made = 0xb50a_d385_829d_3141_a216_7e7d_7539_ba7f_u128.to_be_bytes();
        let expected = if is_claimed { CLAIMED } else { made };
        assert_eq!(login, [string("Notch"), expected.to_vec()].concat());
        let success = [&expected[..], &string("Notch"), &[0, 1]].concat();
        peer.send(&frame(2, &success)).await;
        assert_eq!(client.frame().await, (2, success));
    }
}

/// The server to which a player is moved after server `a` has refused the login: `b`, `c`,
/// or none.
async fn next_server(global: &str, of_b: &str) -> &'static str {
    let [a, b, c] = [
        FakeBackend::start().await,
        FakeBackend::start().await,
        FakeBackend::start().await,
    ];
    let main = "network = \"main\"";
    let file = |host, backend: &FakeBackend, more| server("offline", host, backend.address, more);
    let proxy = TestProxy::start(
        global,
        &[
            ("a", file(HOST, &a, main)),
            ("b", file("b.x", &b, of_b)),
            ("c", file("c.x", &c, main)),
        ],
    );
    let mut client = FakeClient::login(proxy.address(), HOST, "Alice").await;
    drop(a.accept_login().await);
    tokio::select! {
        _ = b.accept_login() => "b",
        _ = c.accept_login() => "c",
        _ = final_text(&mut client) => "nowhere",
    }
}

/// A server only accepts players of its own network.
pub async fn network() {
    for (of_b, expected) in [
        ("network = \"main\"", "b"),
        ("network = \"other\"", "c"),
        ("", "c"),
    ] {
        assert_eq!(next_server("", of_b).await, expected, "{of_b}");
    }
}

/// The first server of the order gets the player.
pub async fn order() {
    for (order, expected) in [("\"c\", \"b\"", "c"), ("\"b\", \"c\"", "b")] {
        let global = format!("[networks.main]\norder = [{order}]");
        let next = next_server(&global, "network = \"main\"").await;
        assert_eq!(next, expected, "{order}");
    }
}

/// The player is moved to the next server, or reads a text.
pub async fn on_backend_loss() {
    for (word, expected) in [("fallback", "b"), ("kick", "nowhere")] {
        let global = format!("[networks.main]\non_backend_loss = \"{word}\"");
        let next = next_server(&global, "network = \"main\"").await;
        assert_eq!(next, expected, "{word}");
    }
}

/// Whether the backend gets `/glist`, and the number of nodes that the client gets of a
/// tree with only its root.
async fn glist(global: &str) -> (bool, u8) {
    const COMMAND: i32 = 0x04;
    const TREE: i32 = 0x11;
    let backend = FakeBackend::start().await;
    let proxy = offline(global, &backend, "compression_threshold = -1");
    let mut client = FakeClient::login_as(proxy.address(), WITH_UUID, HOST, "Alice").await;
    let (mut peer, ..) = backend.accept_login().await;
    let success = [&CLAIMED[..], &string("Alice"), &[0, 1]].concat();
    peer.send(&frame(2, &success)).await;
    client.frame().await;
    client.send(&frame(3, &[])).await;
    peer.frame().await;
    // Through the configuration, and the join game.
    peer.send(&frame(3, &[])).await;
    client.frame().await;
    client.send(&frame(3, &[])).await;
    peer.frame().await;
    peer.send(&frame(0x2B, &[0; 7])).await;
    client.frame().await;
    peer.send(&frame(TREE, &[1, 0, 0, 0])).await;
    let (id, tree) = client.frame().await;
    assert_eq!(id, TREE);
    for command in ["glist", "end"] {
        client.send(&frame(COMMAND, &string(command))).await;
    }
    let (_, command) = peer.frame().await;
    (command == string("glist"), tree[0])
}

/// A command of the proxy does not reach the backend if an admin, or a player with
/// permission, sends it.
pub async fn admins() {
    let trusting = "[permissions]\ntrust_offline_admins = true\n";
    let admins = format!("{trusting}admins = [\"Alice\"]");
    // Four commands, two nodes each.
    assert_eq!(glist(&admins).await, (false, 9));
    assert_eq!(glist(trusting).await, (true, 1));
}

pub async fn player_commands() {
    let all = "[permissions]\nplayer_commands = [\"glist\"]";
    assert_eq!(glist(all).await, (false, 3));
    assert_eq!(glist("").await, (true, 1));
}

pub async fn trust_offline_admins() {
    for (word, expected) in [("true", (false, 9)), ("false", (true, 1))] {
        let global = format!("[permissions]\nadmins = [\"Alice\"]\ntrust_offline_admins = {word}");
        assert_eq!(glist(&global).await, expected, "{word}");
    }
}

/// With `false` commands work, and clients do not complete them.
pub async fn announce_proxy_commands() {
    for (word, nodes) in [("true", 3), ("false", 1)] {
        let global = format!(
            "announce_proxy_commands = {word}\n[permissions]\nplayer_commands = [\"glist\"]"
        );
        assert_eq!(glist(&global).await, (false, nodes), "{word}");
    }
}

/// The server list counts the player on the other server, or shows the backend's number.
pub async fn sum_players() {
    for (word, expected) in [("true", 1), ("false", 3)] {
        let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
        let global = format!("[networks.main]\nsum_players = {word}");
        let files = [
            ("a", server("offline", "play.example.com", a.address, USES)),
            ("b", server("offline", "b.x", b.address, USES)),
        ];
        let proxy = TestProxy::start(&global, &files);
        let player = play(&proxy, &a, WITH_UUID).await;
        let status = FakeClient::status(proxy.address(), "b.x");
        let answer = async {
            let (mut peer, _) = b.accept_hello().await;
            let json = r#"{"version":{"name":"x","protocol":1},"players":{"max":9,"online":3}}"#;
            FakeBackend::answer_status(&mut peer, json).await;
        };
        let (status, ()) = tokio::join!(status, answer);
        assert_eq!(status["players"]["online"], expected, "{word}");
        assert_eq!(status["players"]["max"], 9);
        drop(player);
    }
}

/// The second login is refused, or replaces the first.
pub async fn duplicate_login() {
    second_login(
        [
            ("[auth]\nduplicate_login = \"replace\"", true),
            ("[auth]\nduplicate_login = \"refuse\"", false),
            ("", false),
        ],
        "",
    )
    .await;
}

/// The key of a network has precedence over the global one.
pub async fn duplicate_login_of_a_network() {
    second_login(
        [
            ("[networks.main]\nduplicate_login = \"replace\"", true),
            (
                "[auth]\nduplicate_login = \"replace\"\n[networks.main]\nduplicate_login = \"refuse\"",
                false,
            ),
            ("[networks.main]", false),
        ],
        "network = \"main\"",
    )
    .await;
}

async fn second_login(cases: [(&str, bool); 3], more: &str) {
    for (global, is_replaced) in cases {
        let backend = FakeBackend::start().await;
        let proxy = offline(global, &backend, more);
        let first = FakeClient::login(proxy.address(), HOST, "Alice").await;
        let (mut held, ..) = backend.accept_login().await;
        let mut second = FakeClient::login(proxy.address(), HOST, "alice").await;
        if is_replaced {
            held.expect_end().await;
            assert_eq!(backend.accept_login().await.2, string("alice"));
        } else {
            let words = final_text(&mut second).await;
            assert_eq!(words, "You are logged in to this server already.");
        }
        drop(first);
    }
}

/// Runs the encryption until the proxy sends its request to the session service.
async fn encrypt(proxy: &TestProxy) -> Peer {
    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&[handshake(47, HOST, 25565, 2), login_start("Alice")].concat())
        .await;
    let (id, body) = client.frame().await;
    assert_eq!(id, 1, "not an encryption request");
    // The server id is empty; key and token follow, each behind its length.
    let array = |at: usize| {
        let (length, used) = read_varint(&body[at..]).unwrap();
        let begin = at + used;
        &body[begin..begin + usize::try_from(length).unwrap()]
    };
    let key = array(1);
    let token = array(1 + varint(i32::try_from(key.len()).unwrap()).len() + key.len());
    let key = PublicKey::from_public_key_der(key).unwrap();
    let sealed = [&[9; 16][..], token].map(|bytes| {
        let sealed = key.pkcs1v15_encrypt(bytes).unwrap();
        [varint(i32::try_from(sealed.len()).unwrap()), sealed].concat()
    });
    client.send(&frame(1, &sealed.concat())).await;
    client
}

/// The first line of the request to the session service of `session_url`, with these
/// further keys of `[auth]`.
async fn question(more: &str) -> String {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = service.local_addr().unwrap();
    let backend = FakeBackend::start().await;
    let global = format!("[auth]\nsession_url = \"http://{address}/joined\"\n{more}");
    let server = server("client_only", HOST, backend.address, "");
    let proxy = TestProxy::start(&global, &[("a", server)]);
    let _client = encrypt(&proxy).await;
    let (mut stream, _) = within("a question", service.accept()).await.unwrap();
    let mut line = String::new();
    within(
        "the question",
        BufReader::new(&mut stream).read_line(&mut line),
    )
    .await
    .unwrap();
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    line
}

pub async fn session_url() {
    let line = question("").await;
    assert!(
        line.starts_with("GET /joined?username=Alice&serverId="),
        "{line}"
    );
}

pub async fn prevent_proxy_connections() {
    for (more, is_sent) in [("prevent_proxy_connections = true", true), ("", false)] {
        let line = question(more).await;
        assert_eq!(line.contains("&ip=127.0.0.1 "), is_sent, "{line}");
    }
}
