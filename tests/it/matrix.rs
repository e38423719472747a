//! Behaviour that all forwarding modes have in common.

use crate::support::wire::{encryption_request, frame, handshake, login_start, varint};
use crate::support::{FORWARDING, FakeBackend, FakeClient, Peer, TestProxy};

/// Runs a test once for each forwarding mode, with a fresh proxy and backend.
async fn in_each_mode<F>(more: &str, test: impl Fn(TestProxy, FakeBackend, &'static str) -> F)
where
    F: Future<Output = ()>,
{
    for mode in FORWARDING {
        println!("mode {mode}");
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::with_one_server("", mode, &backend, more);
        test(proxy, backend, mode).await;
    }
}

/// Lets the backend send an Encryption Request, which `server_only` waits for.
async fn authenticate(client: &mut Peer, backend: &mut Peer) {
    backend.send(&encryption_request()).await;
    let expected = encryption_request();
    assert_eq!(client.bytes(expected.len()).await, expected);
}

/// Handshake, login start and bytes that the client sends after them reach the backend as
/// the client wrote them, in any number of pieces.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_packets_arrive_byte_for_byte() {
    in_each_mode("", |proxy, backend, _| async move {
        let sent = [
            handshake(47, "Play.Example.com.", 4711, 2),
            login_start("Alice"),
            b"sent ahead".to_vec(),
        ]
        .concat();
        for chunk in [1, 3, sent.len()] {
            let mut client = FakeClient::connect(proxy.address()).await;
            let feed = async {
                for piece in sent.chunks(chunk) {
                    client.send(piece).await;
                    tokio::task::yield_now().await;
                }
            };
            let (mut peer, ()) = tokio::join!(backend.accept(), feed);
            assert_eq!(peer.bytes(sent.len()).await, sent);
        }
    })
    .await;
}

/// A transfer is handled like a login, and its intent is passed on unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_stays_a_transfer() {
    in_each_mode("", |proxy, backend, _| async move {
        let mut client = FakeClient::connect(proxy.address()).await;
        let hello = handshake(767, "play.example.com", 25565, 3);
        let mut login = crate::support::wire::string("Alice");
        login.extend([7; 16]);
        client.send(&[hello, frame(0, &login)].concat()).await;
        let (_, seen, start) = backend.accept_login().await;
        assert_eq!((seen.intent, seen.protocol, seen.port), (3, 767, 25565));
        assert_eq!(start, login);
    })
    .await;
}

/// Megabytes pass in both directions at once, and the end of each side reaches the other
/// side after the last byte.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_and_an_end_follows_the_last_byte() {
    use tokio::io::AsyncWriteExt;
    in_each_mode("", |proxy, backend, _| async move {
        let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        authenticate(&mut client, &mut peer).await;

        let up: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        let down: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 241) as u8).collect();
        let (client_side, up_sent) = (client, up.clone());
        let (peer_side, down_sent) = (peer, down.clone());
        let one_end = |end: Peer, sent: Vec<u8>| async move {
            let Peer { .. } = &end;
            let (read, mut write) = end.stream.into_split();
            let writer = tokio::spawn(async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
                write
            });
            let mut heard = Vec::new();
            let mut read = read;
            tokio::io::AsyncReadExt::read_to_end(&mut read, &mut heard)
                .await
                .unwrap();
            drop(writer.await.unwrap());
            heard
        };
        let (heard_by_client, heard_by_peer) = crate::support::within("both ends", async {
            tokio::join!(one_end(client_side, up_sent), one_end(peer_side, down_sent))
        })
        .await;
        assert!(heard_by_client == down, "clientbound bytes differ");
        assert!(heard_by_peer == up, "serverbound bytes differ");
        proxy.idle().await;
    })
    .await;
}

/// The last bytes of a backend arrive even if it resets the connection right after them.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_a_reset_arrive() {
    in_each_mode("", |proxy, backend, _| async move {
        let mut client = FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        authenticate(&mut client, &mut peer).await;
        // The client keeps talking, so that the backend's close is a reset.
        client.send(&[0; 4096]).await;
        let kick = frame(0x40, b"you are out");
        peer.send(&kick).await;
        assert_eq!(client.bytes(kick.len()).await, kick);
        drop(peer);
        client.expect_end().await;
        drop(client);
        proxy.idle().await;
    })
    .await;
}

/// The host is rewritten in each of the three ways, for logins and status pings. The marker
/// of a mod loader stays in its place.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_rewritten_before_the_relay() {
    let ways = [
        ("", "play.example.com\0FML2\0"),
        ("domain_rewrite = \"none\"", "play.example.com\0FML2\0"),
        (
            "domain_rewrite = { explicit = \"lobby.internal\" }",
            "lobby.internal\0FML2\0",
        ),
        ("domain_rewrite = \"from_backend\"", "127.0.0.1\0FML2\0"),
    ];
    for (way, expected) in ways {
        in_each_mode(way, |proxy, backend, _| async move {
            let host = "play.example.com\0FML2\0";
            let _client = FakeClient::login(proxy.address(), host, "Alice").await;
            let (_, hello, _) = backend.accept_login().await;
            assert_eq!(
                (hello.host.as_str(), hello.port, hello.intent),
                (expected, 25565, 2)
            );

            let mut client = FakeClient::connect(proxy.address()).await;
            client
                .send(&[handshake(47, host, 4712, 1), frame(0, &[])].concat())
                .await;
            let (mut peer, hello) = backend.accept_hello().await;
            assert_eq!(
                (hello.host.as_str(), hello.port, hello.intent),
                (expected, 4712, 1)
            );
            FakeBackend::answer_status(&mut peer, r#"{"description":"hi"}"#).await;
            assert_eq!(client.frame().await.0, 0);
        })
        .await;
    }
}

/// A BungeeCord tail from a client is dropped unless the server keeps tails. A TCPShield
/// tail is passed on unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_tails_are_dropped_unless_kept() {
    let spoofed = "play.example.com\x0010.0.0.1\x00069a79f444e94726a5befca90e38aaf5";
    for (more, expected) in [("", "play.example.com"), ("host_tail = \"keep\"", spoofed)] {
        in_each_mode(more, |proxy, backend, _| async move {
            let _client = FakeClient::login(proxy.address(), spoofed, "Alice").await;
            assert_eq!(backend.accept_login().await.1.host, expected);
        })
        .await;
    }
    in_each_mode("", |proxy, backend, _| async move {
        let shielded = "play.example.com///203.0.113.9:4711///1700000000///c2ln";
        let _client = FakeClient::login(proxy.address(), shielded, "Alice").await;
        assert_eq!(backend.accept_login().await.1.host, shielded);
    })
    .await;
}

/// The bytes of a session are counted in both directions, and its slot is given back.
#[tokio::test(flavor = "multi_thread")]
async fn slots_return_when_sessions_end() {
    in_each_mode(
        "max_players = 1\nfull_message = \"try later\"",
        |proxy, backend, _| async move {
            for _ in 0..3 {
                let mut client =
                    FakeClient::login(proxy.address(), "play.example.com", "Alice").await;
                let (mut peer, _, _) = backend.accept_login().await;
                authenticate(&mut client, &mut peer).await;
                let mut second =
                    FakeClient::login(proxy.address(), "play.example.com", "Bob").await;
                assert_eq!(FakeClient::kick(&mut second).await, "try later");
                drop((client, peer, second));
                proxy.idle().await;
            }
        },
    )
    .await;
}

/// With BungeeCord forwarding the backend gets the client's address and the claimed UUID.
/// The marker of a mod loader becomes a property.
#[tokio::test(flavor = "multi_thread")]
async fn bungeecord_forwarding_fills_the_host_field() {
    in_each_mode(
        "forwarding_mode = \"bungeecord\"",
        |proxy, backend, _| async move {
            let _client = FakeClient::login(proxy.address(), "play.example.com", "Notch").await;
            let host = backend.accept_login().await.1.host;
            // The version 3 UUID of `OfflinePlayer:Notch`, as vanilla derives it.
            assert_eq!(
                host,
                "play.example.com\x00127.0.0.1\x00b50ad385829d3141a2167e7d7539ba7f"
            );

            let modded = "play.example.com\0FML\0";
            let _client = FakeClient::login(proxy.address(), modded, "Notch").await;
            let host = backend.accept_login().await.1.host;
            let parts: Vec<&str> = host.split('\0').collect();
            assert_eq!(parts.len(), 4, "{host:?}");
            let properties: serde_json::Value = serde_json::from_str(parts[3]).unwrap();
            assert_eq!(properties[0]["name"], "extraData");
            assert_eq!(properties[0]["value"], "\u{1}FML\u{1}");
        },
    )
    .await;
}

/// Hundreds of sessions at once each get their own bytes.
#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_do_not_mix() {
    in_each_mode("", |proxy, backend, mode| async move {
        let address = proxy.address();
        let echo = tokio::spawn(async move {
            let mut sessions = Vec::new();
            for _ in 0..200 {
                let (mut peer, _, _) = backend.accept_login().await;
                sessions.push(tokio::spawn(async move {
                    if mode == "server_only" {
                        peer.send(&encryption_request()).await;
                    }
                    let mark = peer.bytes(2048).await;
                    peer.send(&mark).await;
                    peer.rest().await
                }));
            }
            for session in sessions {
                session.await.unwrap();
            }
        });
        let clients: Vec<_> = (0..200_i32)
            .map(|n| {
                tokio::spawn(async move {
                    let mut client =
                        FakeClient::login(address, "play.example.com", &format!("p{n}")).await;
                    if mode == "server_only" {
                        client.bytes(encryption_request().len()).await;
                    }
                    let mark = varint(n + 300).repeat(1024);
                    client.send(&mark).await;
                    assert_eq!(client.bytes(mark.len()).await, mark);
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        crate::support::within("the echo", echo).await.unwrap();
        proxy.idle().await;
    })
    .await;
}
