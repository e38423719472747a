//! Proofs for the keys of a server file.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;

use super::witness::{
    FULL, HOST, LATE, NO_SERVER, NOT_ALLOWED, SOON, Table, Traced, UNREACHABLE, file, gone,
    host_seen, host_seen_with_variable, motd_key, one, refusal, refused, shown, sooner, token,
};
use super::{Files, Proof, Proofs, channel, effect, intercepted};
use crate::program::Program;
use crate::support::wire::{login_success, string};
use crate::support::{FakeBackend, FakeClient, Peer, TestProxy, server};

pub fn proofs() -> Proofs {
    let mut proofs = vec![
        effect("id", id("id")),
        effect("name", id("name")),
        effect("domains", domains()),
        effect("addresses", addresses("[\"gone\", \"ADDRESS\"]")),
        effect(
            "addresses.address",
            addresses("[{ address = \"ADDRESS\" }]"),
        ),
        effect(
            "proxy_mode",
            guard(
                "proxy_mode = \"server_only\"",
                "proxy_mode = \"passthrough\"",
            ),
        ),
        effect("relay", relay()),
        effect(
            "auth_guard",
            guard(
                "proxy_mode = \"server_only\"\nauth_guard = true",
                "proxy_mode = \"server_only\"\nauth_guard = false",
            ),
        ),
        effect("network", intercepted::network()),
        effect("bungeecord_channel", channel::bungeecord_channel()),
        model("limbo_handlers", "limbo_handlers = [\"queue\"]"),
        effect(
            "compression_threshold",
            intercepted::compression_threshold(false),
        ),
        effect("forwarding_mode", forwarding_mode()),
        effect("forwarding_secret", forwarding_secret()),
        effect("forwarding_secret.file", forwarding_secret_file()),
        effect("forwarding_secret.env", forwarding_secret_env()),
        effect("send_proxy_protocol", send_proxy_protocol()),
        effect(
            "domain_rewrite",
            rewritten("domain_rewrite = \"from_backend\"", "127.0.0.1"),
        ),
        effect(
            "domain_rewrite.explicit",
            rewritten(
                "domain_rewrite = { explicit = \"lobby.internal\" }",
                "lobby.internal",
            ),
        ),
        effect("host_tail", host_tail()),
        effect("max_players", max_players("", FULL)),
        effect(
            "full_message",
            max_players("full_message = \"come back\"", "come back"),
        ),
        effect(
            "disconnect_message",
            refused(
                ("", "disconnect_message = \"asleep\"", "asleep"),
                ("", "", UNREACHABLE),
            ),
        ),
        effect("timeouts.connect", timeouts_connect()),
        effect("timeouts.read", timeouts_read()),
        effect("timeouts.write", timeouts_write()),
        effect("half_close_timeout", half_close_timeout()),
        effect(
            "ip_filter.whitelist",
            refused(
                (
                    "",
                    "[ip_filter]\nwhitelist = [\"192.0.2.0/24\"]",
                    NOT_ALLOWED,
                ),
                ("", "", UNREACHABLE),
            ),
        ),
        effect(
            "ip_filter.blacklist",
            refused(
                ("", "[ip_filter]\nblacklist = [\"127.0.0.1\"]", NOT_ALLOWED),
                ("", "", UNREACHABLE),
            ),
        ),
        super::plugin::server_proof(),
    ];
    for state in ["online", "offline", "unreachable"] {
        for key in ["text", "favicon", "version_name", "max_players"] {
            proofs.push(effect(&format!("motd.{state}.{key}"), motd(state, key)));
        }
    }
    proofs
}

/// A proof for a key that is checked, and that warns that it has no effect yet.
fn model(path: &str, more: &str) -> (String, Proof) {
    let server = format!(
        "domains = [\"{HOST}\"]\naddresses = [\"10.0.0.5\"]\nproxy_mode = \"client_only\"\n\
         forwarding_mode = \"bungeecord\"\n"
    );
    let proof = Proof::Model {
        with: Files::new("", &format!("{server}{more}")),
        without: Files::new("", &server),
    };
    (path.to_owned(), proof)
}

/// A session on a server with these keys: the proxy and both ends.
async fn session(mode: &str, more: &str) -> (TestProxy, Peer, Peer) {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start("", &[("a", server(mode, HOST, backend.address, more))]);
    let client = FakeClient::login(proxy.address(), HOST, "Alice").await;
    let (peer, _, _) = backend.accept_login().await;
    (proxy, client, peer)
}

/// The line about a session names the server.
async fn id(key: &'static str) {
    for (more, id) in [
        (format!("{key} = \"lobby\""), "lobby"),
        (String::new(), "a"),
    ] {
        let backend = FakeBackend::start().await;
        let mut program = Program::start("", &one(&backend, &more));
        let client = FakeClient::login(program.address().await, HOST, "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        // What has said nothing would be a backend that failed.
        peer.send(b"in").await;
        drop((peer, client));
        assert_eq!(program.line("session ended").await["server"], id);
    }
}

async fn domains() {
    let gone = gone().await;
    let text = |domains: &str| {
        [(
            "a",
            format!("domains = {domains}\naddresses = [\"{}\"]", gone.address),
        )]
    };
    let proxy = TestProxy::start("", &text("[\"one.example.com\", \"*.two.example.com\"]"));
    for (host, words) in [
        ("one.example.com", UNREACHABLE),
        ("x.two.example.com", UNREACHABLE),
        ("three.example.com", NO_SERVER),
    ] {
        assert!(refusal(&proxy, host).await.contains(words), "{host}");
    }
}

async fn addresses(list: &'static str) {
    let backend = FakeBackend::start().await;
    let list = list
        .replace("gone", &gone().await.address.to_string())
        .replace("ADDRESS", &backend.address.to_string());
    let text = format!("domains = [\"{HOST}\"]\naddresses = {list}");
    let proxy = TestProxy::start("", &[("a", text)]);
    let _client = FakeClient::login(proxy.address(), HOST, "Alice").await;
    backend.accept_login().await;
}

/// The keys decide whether a backend without authentication is an error.
async fn guard(guarded: &'static str, open: &'static str) {
    let let_in = login_success("Alice");
    for (keys, is_guarded) in [(guarded, true), (open, false)] {
        let backend = FakeBackend::start().await;
        let text = format!(
            "domains = [\"{HOST}\"]\naddresses = [\"{}\"]\n{keys}",
            backend.address
        );
        let proxy = TestProxy::start("", &[("a", text)]);
        let mut client = FakeClient::login(proxy.address(), HOST, "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        peer.send(&let_in).await;
        if is_guarded {
            let text = FakeClient::kick(&mut client).await;
            assert!(text.contains("does not verify its players"), "{text}");
        } else {
            assert_eq!(client.bytes(let_in.len()).await, let_in);
        }
    }
}

/// A few bytes are spliced or copied, depending on the key.
async fn relay() {
    for (mode, relay, is_spliced) in [
        ("zero_copy", "", true),
        ("zero_copy", "relay = \"splice\"", true),
        ("zero_copy", "relay = \"adaptive\"", false),
    ] {
        let backend = FakeBackend::start().await;
        let servers = [("a", server(mode, HOST, backend.address, relay))];
        let Some(mut traced) = Traced::start("splice", "", &servers).await else {
            return;
        };
        let mut client = FakeClient::login(traced.program.address().await, HOST, "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        client.send(b"few bytes").await;
        assert_eq!(peer.bytes(9).await, b"few bytes");
        let calls = traced.calls().await;
        assert_eq!(calls.contains("splice("), is_spliced, "{relay}:\n{calls}");
    }
}

async fn forwarding_mode() {
    let received = host_seen("", "forwarding_mode = \"bungeecord\"", HOST).await;
    assert!(
        received.starts_with(&format!("{HOST}\x00127.0.0.1\0")),
        "{received}"
    );
    // It wins over the global one.
    let global = "[forwarding]\nmode = \"bungeecord\"";
    assert_eq!(
        host_seen(global, "forwarding_mode = \"none\"", HOST).await,
        HOST
    );
}

async fn forwarding_secret() {
    let global = "[forwarding]\nmode = \"bungeeguard\"\nsecret = \"the global one\"";
    for (more, secret) in [
        ("forwarding_secret = \"own\"", "own"),
        ("", "the global one"),
    ] {
        assert_eq!(token(&host_seen(global, more, HOST).await), secret);
    }
}

async fn forwarding_secret_file() {
    for secret in ["one", "another"] {
        let file = file(secret);
        let more = format!(
            "forwarding_mode = \"bungeeguard\"\nforwarding_secret = {{ file = {:?} }}",
            file.path()
        );
        assert_eq!(token(&host_seen("", &more, HOST).await), secret);
    }
}

async fn forwarding_secret_env() {
    let name = "INFRARUST_TEST_SECRET";
    let more =
        format!("forwarding_mode = \"bungeeguard\"\nforwarding_secret = {{ env = \"{name}\" }}");
    for secret in ["one", "another"] {
        let host = host_seen_with_variable("", &more, name, secret).await;
        assert_eq!(token(&host), secret);
    }
}

async fn send_proxy_protocol() {
    for (value, begin) in [
        ("\"v1\"", &b"PROXY TCP4 127.0.0.1"[..]),
        ("true", b"\r\n\r\n\0\r\nQUIT\n"),
        ("false", &[]),
    ] {
        let backend = FakeBackend::start().await;
        let more = format!("send_proxy_protocol = {value}");
        let proxy = TestProxy::start("", &one(&backend, &more));
        let _client = FakeClient::login(proxy.address(), HOST, "Alice").await;
        if begin.is_empty() {
            backend.accept_login().await;
        } else {
            assert_eq!(backend.accept().await.bytes(begin.len()).await, begin);
        }
    }
}

async fn rewritten(more: &'static str, host: &'static str) {
    assert_eq!(host_seen("", more, HOST).await, host);
    assert_eq!(host_seen("", "", HOST).await, HOST);
}

async fn host_tail() {
    let claimed = format!("{HOST}\x0010.0.0.1\x00069a79f444e94726a5befca90e38aaf5");
    assert_eq!(
        host_seen("", "host_tail = \"keep\"", &claimed).await,
        claimed
    );
    assert_eq!(host_seen("", "", &claimed).await, HOST);
}

async fn max_players(more: &'static str, words: &'static str) {
    let backend = FakeBackend::start().await;
    for (more, is_full) in [
        (format!("max_players = 1\n{more}"), true),
        (String::new(), false),
    ] {
        let proxy = TestProxy::start("", &one(&backend, &more));
        let _first = FakeClient::login(proxy.address(), HOST, "Alice").await;
        let _session = backend.accept_login().await;
        if is_full {
            assert_eq!(refusal(&proxy, HOST).await, words);
        } else {
            let _second = FakeClient::login(proxy.address(), HOST, "Bob").await;
            assert_eq!(backend.accept_login().await.2, string("Bob"));
        }
    }
}

/// A backend that exists and does not answer: its queue of connections is full, so that the
/// kernel does not answer a SYN.
pub struct Deaf {
    pub address: SocketAddr,
    _sockets: [Socket; 2],
}

impl Deaf {
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).unwrap();
        // A queue of length 0 has one place (listen(2)).
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        waiting.connect(&address.into()).unwrap();
        Self {
            address,
            _sockets: [listener, waiting],
        }
    }
}

async fn timeouts_connect() {
    let deaf = Deaf::start();
    let start = |connect: &str| {
        let more = format!("timeouts.connect = {connect:?}");
        let text = server("passthrough", HOST, deaf.address, &more);
        TestProxy::start("", &[("a", text)])
    };
    let (soon, late) = (start(SOON), start(LATE));
    sooner(refusal(&soon, HOST), refusal(&late, HOST)).await;
}

async fn timeouts_read() {
    for mode in ["passthrough", "zero_copy"] {
        let begin = async |read: &str| session(mode, &format!("timeouts.read = {read:?}")).await;
        let (_a, mut soon, _b) = begin(SOON).await;
        let (_c, mut late, _d) = begin(LATE).await;
        sooner(soon.expect_end(), late.expect_end()).await;
    }
}

async fn timeouts_write() {
    /// Sends until that fails, to a peer that does not read.
    async fn flood(mut peer: Peer) {
        while peer.stream.write_all(&[0; 65_536]).await.is_ok() {}
    }
    for mode in ["passthrough", "zero_copy"] {
        let begin = async |write: &str| session(mode, &format!("timeouts.write = {write:?}")).await;
        let (_a, _client, soon) = begin(SOON).await;
        let (_b, _other, late) = begin(LATE).await;
        sooner(flood(soon), flood(late)).await;
    }
}

async fn half_close_timeout() {
    for mode in ["passthrough", "zero_copy"] {
        let begin =
            async |time: &str| session(mode, &format!("half_close_timeout = {time:?}")).await;
        let (_a, mut soon, _b) = begin(SOON).await;
        let (_c, mut late, _d) = begin(LATE).await;
        for client in [&mut soon, &mut late] {
            client.stream.shutdown().await.unwrap();
        }
        sooner(soon.expect_end(), late.expect_end()).await;
    }
}

async fn motd(state: &'static str, key: &'static str) {
    let (line, ..) = motd_key(key);
    let with = Table {
        server: format!("[motd.{state}]\n{line}"),
        ..Table::default()
    };
    let mut backend = gone().await;
    if state == "online" {
        let alive = FakeBackend::start().await;
        backend.address = alive.address;
        alive.serve_status(r#"{"description":"theirs"}"#);
    }
    shown(&backend, HOST, key, with, Table::default()).await;
}
