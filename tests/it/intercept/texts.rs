//! Texts for players when the session ends before the game, in every version, and kicks of
//! every size.

use infrarust_test_support::game::{self, Ids, Sessions, Speaker, refusal};

use super::{admit, begin, enter, offline};
use crate::support::{FakeBackend, TestProxy, wire, within};

/// One version for each layout of the login start, the oldest and the newest.
const PROTOCOLS: [i32; 10] = [4, 5, 47, 340, 758, 759, 760, 763, 764, 777];

/// A client that has sent its handshake.
async fn greet(proxy: &TestProxy, protocol: i32) -> Speaker {
    let connecting = tokio::net::TcpStream::connect(proxy.address());
    let mut client = Speaker::new(within("a connection", connecting).await.unwrap());
    let hello = wire::handshake(protocol, "play.example.com", 25565, 2);
    client.send_raw(&hello).await;
    client
}

/// A server of each intercepted mode.
async fn both_modes(backend: &FakeBackend) -> [TestProxy; 2] {
    let sessions = Sessions::confirming("Notch").await;
    ["offline", "client_only"]
        .map(|mode| TestProxy::with_one_server(&sessions.global(), mode, backend, ""))
}

/// Names that are empty or too long are refused with a text, at any length.
#[tokio::test]
async fn names_of_a_wrong_length() {
    let backend = FakeBackend::start().await;
    let crabs = "\u{1F980}".repeat(16);
    let long = "n".repeat(900);
    for proxy in both_modes(&backend).await {
        for protocol in PROTOCOLS {
            for name in ["", "seventeen_letters", &crabs, &long] {
                let mut client = game::begin(proxy.address(), protocol, name).await;
                let text = refusal(&mut client).await;
                assert!(text.contains("1 to 16"), "{protocol}: {text}");
            }
        }
        proxy.idle().await;
    }
}

/// A malformed login start is refused with a text. One of an unknown version is refused
/// with a text that names the newest known version.
#[tokio::test]
async fn login_starts_that_cannot_be_read() {
    let backend = FakeBackend::start().await;
    let not_utf8 = [&[3][..], &[0xFF; 3], &[0; 16]].concat();
    let huge = [wire::string("Notch"), vec![0; 20_000]].concat();
    let packets = [(0, vec![]), (0, not_utf8), (0, huge), (1, vec![1, 2])];
    for proxy in both_modes(&backend).await {
        for (id, body) in &packets {
            for protocol in [5, 47, 760, 776] {
                let mut client = greet(&proxy, protocol).await;
                client.send(*id, body).await;
                let text = refusal(&mut client).await;
                assert!(text.contains("does not understand"), "{id}: {text}");
            }
            for protocol in [778, 0x4000_0100] {
                let mut client = greet(&proxy, protocol).await;
                client.send(*id, body).await;
                let text = refusal(&mut client).await;
                assert!(text.contains("26.3"), "{id}: {text}");
            }
        }
        for protocol in [778, 9999, 0x4000_0100] {
            let mut client = greet(&proxy, protocol).await;
            let start = game::login_start(777, "Notch", [7; 16]);
            client.send(0, &start).await;
            assert!(refusal(&mut client).await.contains("26.3"));
        }
        proxy.idle().await;
    }
}

/// Clients before 1.7 read a text in their own protocol.
#[tokio::test]
async fn clients_before_1_7() {
    let backend = FakeBackend::start().await;
    let host = wire::string16("play.example.com");
    let port = 25565_u32.to_be_bytes();
    // 1.3 to 1.6; 1.2 and older name their host behind the name.
    let newer = [vec![2, 78], wire::string16("Notch"), host, port.to_vec()].concat();
    let older = [vec![2], wire::string16("Notch;play.example.com:25565")].concat();
    for proxy in both_modes(&backend).await {
        for login in [&newer, &older] {
            let mut client = crate::support::FakeClient::connect(proxy.address()).await;
            client.send(login).await;
            let text = wire::kick16(&client.rest().await);
            assert_eq!(text, "This server needs Minecraft 1.7.2 or newer.");
        }
        proxy.idle().await;
    }
}

/// A kick of any size and in any kind of frame passes, and nothing follows it.
#[tokio::test]
async fn kicks_of_every_size() {
    let backend = FakeBackend::start().await;
    for to_client in [-1, 256] {
        let more = format!("compression_threshold = {to_client}");
        let proxy = offline(&backend, &more);
        for protocol in [47, 340, 764, 767, 776] {
            let id = Ids::of(protocol).disconnect;
            for bytes in [100, 1500, 60_000, 250_000] {
                let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
                server.send(3, &wire::varint(256)).await;
                server.compress(256);
                admit(&mut server, protocol).await;
                if to_client > 0 {
                    client.expect(3).await;
                    client.compress(to_client);
                }
                client.expect(2).await;
                if protocol >= 764 {
                    client.send(3, &[]).await;
                    server.expect(3).await;
                }
                enter(&mut client, &mut server, protocol).await;
                // Words compress well, and other bytes do not.
                let text: Vec<u8> = match bytes {
                    1500 => (0..=250_u8).cycle().step_by(7).take(bytes).collect(),
                    _ => b"You are banned from here. ".repeat(bytes / 26),
                };
                server.send(id, &text).await;
                drop(server);
                assert_eq!(client.expect(id).await, text, "{protocol}");
                client.expect_end().await;
                drop(client);
                proxy.idle().await;
            }
        }
    }
}
