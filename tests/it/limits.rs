//! Limits: players, connections, rates, filters and timeouts.

use crate::support::wire::{frame, handshake};
use crate::support::{FakeBackend, FakeClient, TestProxy, server};

/// If many logins compete for a few slots, exactly as many get in as there are slots.
/// Status pings take no slot.
#[tokio::test(flavor = "multi_thread")]
async fn no_race_passes_max_players() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "",
        "passthrough",
        &backend,
        "max_players = 5\nfull_message = \"full\"",
    );
    let address = proxy.address();
    let accepting = tokio::spawn(async move {
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let (mut peer, _, _) = backend.accept_login().await;
            peer.send(b"in").await;
            sessions.push(peer);
        }
        sessions
    });
    let racers: Vec<_> = (0..40)
        .map(|n| {
            tokio::spawn(async move {
                let mut client =
                    FakeClient::login(address, "play.example.com", &format!("p{n}")).await;
                let got_in = client.bytes(2).await == b"in";
                (got_in, client)
            })
        })
        .collect();
    let mut inside = Vec::new();
    for racer in racers {
        let (got_in, client) = racer.await.unwrap();
        if got_in {
            inside.push(client);
        }
    }
    assert_eq!(inside.len(), 5);
    let sessions = accepting.await.unwrap();

    let mut late = FakeClient::login(address, "play.example.com", "late").await;
    assert_eq!(FakeClient::kick(&mut late).await, "full");
    drop((inside, sessions));
    proxy.idle().await;
}

/// Beyond `max_connections` a player reads that the proxy is full, and gets in after
/// another player has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_proxy_says_so() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("max_connections = 2", "passthrough", &backend, "");
    let address = proxy.address();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let client = FakeClient::login(address, "play.example.com", "Alice").await;
        sessions.push((client, backend.accept_login().await));
    }
    let mut third = FakeClient::login(address, "play.example.com", "Bob").await;
    assert_eq!(
        FakeClient::kick(&mut third).await,
        "The proxy is full. Try again in a moment."
    );
    drop((third, sessions));
    proxy.idle().await;
    let _client = FakeClient::login(address, "play.example.com", "Bob").await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// Connections that send nothing take no slot of `max_connections`.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_fill_the_proxy() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("max_connections = 2", "passthrough", &backend, "");
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(FakeClient::connect(proxy.address()).await);
    }
    let _client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// Connections that send only a handshake take no slot of `max_connections`, with the
/// intent status or login. A connection that stays open after its status answer takes none
/// either.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_alone_do_not_fill_the_proxy() {
    for intent in [1, 2, 3] {
        let backend = FakeBackend::start().await;
        let global = "max_connections = 2\nunknown_domain_behavior = \"default_motd\"";
        let proxy = TestProxy::with_one_server(global, "passthrough", &backend, "");
        let address = proxy.address();
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut client = FakeClient::connect(address).await;
            client
                .send(&handshake(47, "play.example.com", 1, intent))
                .await;
            held.push(client);
        }
        for _ in 0..5 {
            let mut client = FakeClient::connect(address).await;
            let ping = [handshake(47, "unknown.example.com", 1, 1), frame(0, &[])];
            client.send(&ping.concat()).await;
            assert_eq!(client.frame().await.0, 0, "it has its answer");
            held.push(client);
        }
        let _client = FakeClient::login(address, "play.example.com", "Alice").await;
        assert_eq!(backend.accept_login().await.1.host, "play.example.com");
    }
}

/// A status request takes a slot while it is answered, and is closed without an answer if
/// there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_request_takes_a_slot_while_it_is_answered() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("max_connections = 1", "passthrough", &backend, "");
    let address = proxy.address();
    let ping = || [handshake(47, "play.example.com", 1, 1), frame(0, &[])].concat();
    let mut first = FakeClient::connect(address).await;
    first.send(&ping()).await;
    let (mut asked, _) = backend.accept_hello().await;
    let mut second = FakeClient::connect(address).await;
    second.send(&ping()).await;
    second.expect_end().await;
    FakeBackend::answer_status(&mut asked, "{}").await;
    assert_eq!(first.frame().await.0, 0);
    let mut third = FakeClient::connect(address).await;
    third.send(&ping()).await;
    assert_eq!(third.frame().await.0, 0);
}

/// Logins and status pings have quotas of their own.
#[tokio::test(flavor = "multi_thread")]
async fn logins_and_pings_have_separate_rate_limits() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(
        "[rate_limit]\nlimit_loopback = true\nmax_connections = 2\nwindow = \"1h\"\nstatus_max = 3\nstatus_window = \"1h\"",
        "passthrough",
        &backend,
        "max_players = 1",
    );
    let address = proxy.address();
    let _first = FakeClient::login(address, "play.example.com", "Alice").await;
    let _session = backend.accept_login().await;
    for expected in [
        "The server is full.",
        "You are connecting too fast. Wait a moment and try again.",
    ] {
        let mut client = FakeClient::login(address, "play.example.com", "Bob").await;
        assert_eq!(FakeClient::kick(&mut client).await, expected);
    }
    for answered in [true, true, true, false] {
        let mut client = FakeClient::connect(address).await;
        client
            .send(&[handshake(47, "unknown.example.com", 1, 1), frame(0, &[])].concat())
            .await;
        if answered {
            assert_eq!(client.frame().await.0, 0);
        } else {
            client.expect_end().await;
        }
    }
}

/// Loopback is exempt unless it is named, and zero means no limit.
#[tokio::test(flavor = "multi_thread")]
async fn loopback_and_zero_are_not_limited() {
    for limits in [
        "max_connections = 1",
        "limit_loopback = true\nmax_connections = 0\nstatus_max = 0",
    ] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server(
            &format!("[rate_limit]\n{limits}"),
            "passthrough",
            &backend,
            "",
        );
        for _ in 0..150 {
            let _client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
            backend.accept_login().await;
        }
    }
}

/// The global filter refuses without a text, and that of a server with one. The blacklist
/// has precedence over the whitelist.
#[tokio::test(flavor = "multi_thread")]
async fn filters_keep_addresses_out() {
    let backend = FakeBackend::start().await;
    let own = "[ip_filter]\nwhitelist = [\"127.0.0.1\"]\nblacklist = [\"127.0.0.0/8\"]";
    let proxy = TestProxy::with_one_server("", "passthrough", &backend, own);
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(
        FakeClient::kick(&mut client).await,
        "Your address is not allowed on this server."
    );

    let proxy = TestProxy::with_one_server(
        "[ip_filter]\nwhitelist = [\"192.0.2.0/24\"]",
        "passthrough",
        &backend,
        "",
    );
    let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    client.expect_end().await;

    let proxy = TestProxy::with_one_server(
        "[ip_filter]\nwhitelist = [\"127.0.0.1/32\"]",
        "passthrough",
        &backend,
        "",
    );
    let _client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "play.example.com");
}

/// A direction that is silent for `timeouts.read` ends the session, and so do bytes that
/// wait for `timeouts.write`. Without these keys a session may be silent.
#[tokio::test(flavor = "multi_thread")]
async fn relay_timeouts_are_enforced_if_configured() {
    for mode in ["passthrough", "zero_copy"] {
        let backend = FakeBackend::start().await;
        let read = server(
            mode,
            "read.example.com",
            backend.address,
            "[timeouts]\nread = \"300ms\"",
        );
        let write = server(
            mode,
            "write.example.com",
            backend.address,
            "[timeouts]\nwrite = \"300ms\"",
        );
        let half = server(
            mode,
            "half.example.com",
            backend.address,
            "half_close_timeout = \"300ms\"",
        );
        let proxy = TestProxy::start("", &[("read", read), ("write", write), ("half", half)]);

        let mut client = FakeClient::login(proxy.address(), "read.example.com", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        client.expect_end().await;
        peer.expect_end().await;

        let mut client = FakeClient::login(proxy.address(), "half.example.com", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
            .await
            .unwrap();
        peer.expect_end().await;
        client.expect_end().await;

        let client = FakeClient::login(proxy.address(), "write.example.com", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        // The client does not read, so at some point the backend cannot write.
        let flood = async {
            use tokio::io::AsyncWriteExt;
            while peer.stream.write_all(&[0; 65_536]).await.is_ok() {}
        };
        crate::support::within("the write timeout", flood).await;
        drop(client);
        proxy.idle().await;
    }
}
