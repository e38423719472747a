//! A second login of a player who is logged in.

use infrarust_test_support::game::{self, Ids, refusal, who};

use super::{admit, begin, offline, play, uuid};
use crate::support::{FakeBackend, TestProxy, server};

/// The second login reads a text, in upper or lower case of the name. The first player
/// plays on, and the slot is free once the first player has left.
#[tokio::test]
async fn a_second_login_is_refused() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, super::NO_COMPRESSION);
    let (mut client, mut server) = play(&proxy, &backend, 754).await;
    for name in ["Notch", "nOTCH"] {
        let mut second = game::begin(proxy.address(), 776, name).await;
        let text = refusal(&mut second).await;
        assert!(text.contains("logged in to this server already"), "{text}");
    }
    server.send(0x22, b"still here").await;
    assert_eq!(client.expect(0x22).await, b"still here");
    drop((client, server));
    proxy.idle().await;
    play(&proxy, &backend, 754).await;
}

/// The second login replaces the first, whose player reads a text. The first backend
/// connection is closed before the second backend is dialled.
#[tokio::test]
async fn a_second_login_replaces() {
    let backend = FakeBackend::start().await;
    let file = server(
        "offline",
        "play.example.com",
        backend.address,
        super::NO_COMPRESSION,
    );
    let global = "[auth]\nduplicate_login = \"replace\"\n";
    let proxy = TestProxy::start(global, &[("a", file)]);
    let (mut client, mut server) = play(&proxy, &backend, 767).await;
    let mut second = game::begin(proxy.address(), 767, "notch").await;
    let text = super::text(767, &client.expect(Ids::of(767).disconnect).await);
    assert!(text.contains("another place"), "{text}");
    client.expect_end().await;
    server.expect_end().await;
    let (mut server, _, _) = game::accept(&backend).await;
    // And one that is not in play yet is replaced as well.
    let mut third = game::begin(proxy.address(), 767, "Notch").await;
    assert!(refusal(&mut second).await.contains("another place"));
    server.expect_end().await;
    let (mut server, _, _) = game::accept(&backend).await;
    super::welcome(&mut third, &mut server, 767).await;
}

/// On a server with the player's own session in the last slot, a second login of that
/// player takes the slot over. Other players are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_login_replaces_on_a_full_server() {
    let backend = FakeBackend::start().await;
    let more = format!("{}\nmax_players = 1", super::NO_COMPRESSION);
    let file = server("offline", "play.example.com", backend.address, &more);
    let global = "[auth]\nduplicate_login = \"replace\"\n";
    let proxy = TestProxy::start(global, &[("a", file)]);
    let (mut client, mut server) = play(&proxy, &backend, 767).await;
    for _ in 0..20 {
        let mut other = game::begin(proxy.address(), 767, "Other").await;
        assert!(refusal(&mut other).await.contains("full"));
        let mut second = game::begin(proxy.address(), 767, "Notch").await;
        client.expect(Ids::of(767).disconnect).await;
        server.expect_end().await;
        (server, _, _) = game::accept(&backend).await;
        super::welcome(&mut second, &mut server, 767).await;
        super::enter(&mut second, &mut server, 767).await;
        client = second;
    }
}

/// A replaced login reads why at every step: before the backend has accepted it, after the
/// login success, in the configuration, and before the join game. The only slot of the
/// server goes to the new login each time.
#[tokio::test]
async fn a_login_that_joins_is_replaced() {
    let backend = FakeBackend::start().await;
    let more = format!("{}\nmax_players = 1", super::NO_COMPRESSION);
    let file = server("offline", "play.example.com", backend.address, &more);
    let global = "[auth]\nduplicate_login = \"replace\"\n";
    let proxy = TestProxy::start(global, &[("a", file)]);
    for protocol in [47, 764, 776] {
        let ids = Ids::of(protocol);
        let steps = if protocol < 764 { 2 } else { 5 };
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        for step in 0..steps {
            if step >= 1 {
                admit(&mut server, protocol).await;
                client.expect(2).await;
            }
            if step >= 2 {
                client.send(3, &[]).await;
                server.expect(3).await;
            }
            if step >= 3 {
                server.send(ids.finish, &[]).await;
                client.expect(ids.finish).await;
            }
            if step >= 4 {
                client.send(ids.finish, &[]).await;
                server.expect(ids.finish).await;
            }
            let newcomer = game::begin(proxy.address(), protocol, "nOTCH").await;
            let text = match (step, protocol) {
                (0, _) => refusal(&mut client).await,
                (1.., ..764) | (3.., _) => {
                    super::text(protocol, &client.expect(ids.disconnect).await)
                }
                _ => super::text(protocol, &client.expect(ids.config_disconnect).await),
            };
            assert!(text.contains("another place"), "{protocol} {step}: {text}");
            client.expect_end().await;
            server.expect_end().await;
            client = newcomer;
            (server, _, _) = game::accept(&backend).await;
        }
        drop((client, server));
        proxy.idle().await;
    }
}

/// A player who logs in again replaces a session whose client has ended its stream while
/// its backend keeps it open: under either policy, also in the last slot of the server. The
/// first backend connection is closed before the second backend is dialled.
#[tokio::test]
async fn a_half_closed_session_keeps_nobody_out() {
    for policy in ["refuse", "replace"] {
        let backend = FakeBackend::start().await;
        let more = format!("{}\nmax_players = 1", super::NO_COMPRESSION);
        let file = server("offline", "play.example.com", backend.address, &more);
        let global = format!("[auth]\nduplicate_login = \"{policy}\"\n");
        let proxy = TestProxy::start(&global, &[("a", file)]);
        let (mut client, mut server) = play(&proxy, &backend, 767).await;
        client.end().await;
        server.expect_end().await;
        // The backend goes on for a while.
        server.send(0x22, b"saved").await;
        assert_eq!(client.expect(0x22).await, b"saved");

        let (second, _of_second) = begin(&proxy, &backend, 767, "nOTCH").await;
        let body = client.expect(Ids::of(767).disconnect).await;
        assert!(super::text(767, &body).contains("another place"));
        client.expect_end().await;
        // It stands for one player again.
        let mut third = game::begin(proxy.address(), 767, "other").await;
        assert!(refusal(&mut third).await.contains("full"));
        drop((client, second));
    }
}

/// Of two logins at the same time one gets in, and their packets do not mix.
#[tokio::test]
async fn two_at_one_instant() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, super::NO_COMPRESSION);
    for _ in 0..10 {
        let address = proxy.address();
        let (one, two) = tokio::join!(
            game::begin(address, 754, "Alice"),
            game::begin(address, 754, "alice"),
        );
        let (mut server, _, start) = game::accept(&backend).await;
        let name = crate::support::wire::string_in(&start);
        let (mut winner, mut loser) = match name.as_str() {
            "Alice" => (one, two),
            _ => (two, one),
        };
        assert!(refusal(&mut loser).await.contains("already"));
        server
            .send(2, &game::login_success(754, [1; 16], &name))
            .await;
        assert_eq!(who(754, &winner.expect(2).await).1, name);
        drop((winner, server));
        proxy.idle().await;
    }
}

/// The names that `offline` accepts and the ids made from them, or the client's own id if
/// the configuration says so.
#[tokio::test]
async fn names_and_ids() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, super::NO_COMPRESSION);
    for (name, id) in [
        ("Notch", "b50ad385-829d-3141-a216-7e7d7539ba7f"),
        ("Steve", "5627dd98-e6be-3c21-b8a8-e92344183641"),
        ("notch", "42653081-a90e-3475-b3d6-3550cdb43f8e"),
    ] {
        let (mut client, mut server) = begin(&proxy, &backend, 767, name).await;
        server
            .send(2, &game::login_success(767, uuid(id), name))
            .await;
        assert_eq!(who(767, &client.expect(2).await), (id.into(), name.into()));
        drop((client, server));
        proxy.idle().await;
    }
    for name in [
        "with space",
        "a/b",
        "a\\b",
        "\u{a7}4",
        "\u{1b}[1m",
        "\u{1F980}",
    ] {
        let mut client = game::begin(proxy.address(), 767, name).await;
        let text = refusal(&mut client).await;
        assert!(text.contains("character"), "{name:?}: {text}");
    }
    let file = server(
        "offline",
        "play.example.com",
        backend.address,
        "forwarding_mode = \"bungeecord\"",
    );
    let own = TestProxy::start("[auth]\noffline_uuid = \"client\"\n", &[("a", file)]);
    let _client = game::begin(own.address(), 767, "Notch").await;
    let (_server, host, _) = game::accept(&backend).await;
    assert!(host.contains(&"07".repeat(16)), "{host:?}");
}

/// The same name in another case, and twice at one instant: one player is in, the other one
/// reads why not, and their packets do not mix. The name is free once the player has left.
#[tokio::test]
async fn one_of_two_logins_at_once() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, super::NO_COMPRESSION);
    for protocol in [47, 774] {
        for names in [["Alice", "alice"], ["Alice", "Alice"], ["aLICE", "Alice"]] {
            let [one, two] = names.map(|name| game::begin(proxy.address(), protocol, name));
            let (one, two) = tokio::join!(one, two);
            let (mut server, _, start) = game::accept(&backend).await;
            server
                .send(2, &game::login_success(protocol, [5; 16], "Alice"))
                .await;
            let (mut players, mut refused) = (Vec::new(), 0);
            for (mut client, name) in [one, two].into_iter().zip(names) {
                let (id, body) = client.next().await.expect("the end came");
                if id == 2 {
                    let sent = game::login_start(protocol, name, [0; 16]);
                    let name_bytes = 1 + name.len();
                    assert_eq!(start[..name_bytes], sent[..name_bytes], "{protocol}");
                    players.push(client);
                } else {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    assert!(id == 0 && text.contains("logged in to this server already"));
                    client.expect_end().await;
                    refused += 1;
                }
            }
            assert_eq!((players.len(), refused), (1, 1), "{protocol} {names:?}");
            let mut player = players.remove(0);
            if protocol >= 764 {
                player.send(3, &[]).await;
                server.expect(3).await;
            }
            super::enter(&mut player, &mut server, protocol).await;
            server.send(0x22, b"to the player").await;
            assert_eq!(player.expect(0x22).await, b"to the player");
            let accepted = futures_util::FutureExt::now_or_never(backend.listener.accept());
            assert!(accepted.is_none(), "the server was dialled twice");
            drop((player, server));
            proxy.idle().await;
        }
    }
}
