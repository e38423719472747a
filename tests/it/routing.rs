//! Routing of hosts to servers, and the behaviour for hosts without a server.

use std::net::SocketAddr;
use std::path::Path;

use infrarust::config::load_texts;

use crate::support::wire::{frame, handshake};
use crate::support::{ClosedAddress, FakeBackend, FakeClient, TestProxy, server};

/// The exact name has precedence, then the longest pattern. Case and a trailing dot do not
/// matter. Hosts with tails and markers are found by their name.
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

/// The three behaviours for a host without a server.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_domains_get_the_configured_behaviour() {
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

/// If no backend can be reached, the player reads a text. If the first address refuses, the
/// next one is used.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_tried_in_turn() {
    let closed = ClosedAddress::bind();
    let gone = closed.address;
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

/// The intercepted modes answer status pings, and refuse unknown versions with a text that
/// names the newest known one. Forwarding modes let these versions pass.
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

/// A server with the proxy's own address does not connect the player to the proxy again and
/// again: the player reads that there is no backend, and takes one slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_the_address_of_the_proxy_does_not_loop() {
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

/// `[::]` also accepts players over IPv4.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_on_all_ipv6_addresses_accepts_ipv4() {
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
