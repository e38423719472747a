//! Which host leads where, and what happens when none does.

use std::net::SocketAddr;
use std::path::Path;

use infrarust::config::load_texts;

use crate::support::wire::{frame, handshake};
use crate::support::{FakeBackend, FakeClient, TestProxy, server};

/// The exact name wins, then the longest pattern; case and a trailing dot do
/// not matter; hosts with tails and markers are found by their name.
#[tokio::test(flavor = "multi_thread")]
async fn the_most_exact_server_gets_the_player() {
    let (exact, long, short) = (
        FakeBackend::start().await,
        FakeBackend::start().await,
        FakeBackend::start().await,
    );
    let proxy = TestProxy::start(
        "",
        &[
            (
                "exact",
                server("passthrough", "a.eu.example.com", exact.address, ""),
            ),
            (
                "long",
                server("passthrough", "*.eu.example.com", long.address, ""),
            ),
            (
                "short",
                server("zero_copy", "*.example.com", short.address, ""),
            ),
        ],
    );
    let cases = [
        ("a.eu.example.com", &exact),
        ("A.EU.Example.Com.", &exact),
        ("a.eu.example.com\0FML3\0", &exact),
        ("a.eu.example.com///1.2.3.4:5///6///x", &exact),
        ("a.eu.example.com\\\\uuid\\\\1.2.3.4:5", &exact),
        ("a.eu.example.com:25565", &exact),
        ("_minecraft._tcp.a.eu.example.com", &exact),
        ("_dc-srv.0a1b._minecraft._tcp.a.eu.example.com", &exact),
        ("b.eu.example.com", &long),
        ("x.y.eu.example.com", &long),
        ("lobby.example.com", &short),
    ];
    for (host, backend) in cases {
        let _client = FakeClient::login(proxy.address(), host, "Alice").await;
        assert_eq!(backend.accept_login().await.1.host, host);
    }
}

/// The three behaviours for a host that nobody claims.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_domains_meet_what_is_configured() {
    let backend = FakeBackend::start().await;
    let servers = [(
        "a",
        server("passthrough", "play.example.com", backend.address, ""),
    )];

    let proxy = TestProxy::start(
        "[default_motd.online]\ntext = \"nobody here\"\nmax_players = 7",
        &servers,
    );
    let answer = FakeClient::status(proxy.address(), "other.example.com").await;
    assert_eq!(answer["description"]["text"], "nobody here");
    assert_eq!(answer["players"]["max"], 7);
    let mut client = FakeClient::login(proxy.address(), "other.example.com", "Alice").await;
    assert_eq!(
        FakeClient::kick(&mut client).await,
        "No server is known under this address."
    );

    let proxy = TestProxy::start("unknown_domain_behavior = \"kick\"", &servers);
    let mut client = FakeClient::login(proxy.address(), "other.example.com", "Alice").await;
    assert_eq!(
        FakeClient::kick(&mut client).await,
        "No server is known under this address."
    );
    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&[handshake(47, "other", 1, 1), frame(0, &[])].concat())
        .await;
    client.expect_end().await;

    let proxy = TestProxy::start("unknown_domain_behavior = \"drop\"", &servers);
    let mut client = FakeClient::login(proxy.address(), "other.example.com", "Alice").await;
    client.expect_end().await;
}

/// A backend that cannot be reached becomes a text, and the next address of
/// the list is used when the first one refuses.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_tried_in_turn() {
    let gone = FakeBackend::start().await.address;
    let backend = FakeBackend::start().await;
    let two = format!(
        "domains = [\"two.example.com\"]\naddresses = [\"{gone}\", \"{}\"]\ndomain_rewrite = \"from_backend\"",
        backend.address
    );
    let none = server(
        "zero_copy",
        "none.example.com",
        gone,
        "disconnect_message = \"§csleeping\"",
    );
    let name = format!(
        "domains = [\"name.example.com\"]\naddresses = [\"localhost:{}\"]\ndomain_rewrite = \"from_backend\"",
        backend.address.port()
    );
    let proxy = TestProxy::start("", &[("two", two), ("none", none), ("name", name)]);

    let _client = FakeClient::login(proxy.address(), "two.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "127.0.0.1");

    let _client = FakeClient::login(proxy.address(), "name.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "localhost");

    let mut client = FakeClient::login(proxy.address(), "none.example.com", "Alice").await;
    assert_eq!(FakeClient::kick(&mut client).await, "§csleeping");
}

/// The intercepted modes answer status pings, and refuse versions that the proxy
/// does not know with a text that names the newest; forwarding modes let them pass.
#[tokio::test(flavor = "multi_thread")]
async fn intercepted_modes_refuse_unknown_versions() {
    for mode in ["client_only", "offline"] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server("", mode, &backend, "");
        let address = proxy.address();
        backend.serve_status(r#"{"description":"alive"}"#);
        assert_eq!(
            FakeClient::status(address, "play.example.com").await["description"],
            "alive"
        );
        let mut client = FakeClient::login_as(address, 778, "play.example.com", "Alice").await;
        let text = FakeClient::kick(&mut client).await;
        assert!(text.contains("26.3"), "{text}");
    }
}

/// A server whose address is the proxy's own does not send a player round and
/// round: he reads that there is no backend, and takes one place.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_no_backend_of_its_own() {
    let proxy = TestProxy::start("", &[]);
    let file = server("passthrough", "play.example.com", proxy.address(), "");
    let loaded = load_texts(
        b"bind = \"127.0.0.1:0\"\nmax_connections = 2",
        &[(Path::new("a.toml"), file.as_bytes())],
    );
    proxy.running.proxy().replace(loaded.config.unwrap());
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(
        FakeClient::kick(&mut client).await,
        "The server cannot be reached right now."
    );
    let answer = FakeClient::status(proxy.address(), "play.example.com").await;
    assert_eq!(
        answer["description"]["text"],
        "§cThis server is currently unreachable."
    );
}

/// `[::]` serves players of IPv4 as well.
#[tokio::test(flavor = "multi_thread")]
async fn all_ipv6_addresses_are_those_of_ipv4_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // A system without IPv6.
        return;
    }
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("bind = \"[::]:0\"", "passthrough", &backend, "");
    for ip in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), proxy.address().port());
        let _client = FakeClient::login(address, "play.example.com", "Alice").await;
        assert_eq!(backend.accept_login().await.1.host, "play.example.com");
    }
}
