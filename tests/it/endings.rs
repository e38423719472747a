//! Ends of connections: what players read, and which slots they hold while they read.

use crate::support::{FakeClient, TestProxy, server};

/// The slots of a player who cannot join are free before the player has read why. While the
/// first client leaves its connection open, the next one with the same name gets the same
/// text.
#[tokio::test(flavor = "multi_thread")]
async fn slots_are_free_before_the_text_is_read() {
    // A port that refuses connections as long as the socket lives.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    nobody.bind(&any.into()).unwrap();
    let nobody = nobody.local_addr().unwrap().as_socket().unwrap();
    for mode in ["passthrough", "offline"] {
        let more = "max_players = 1\ndisconnect_message = \"nobody is there\"";
        let proxy = TestProxy::start(
            "[auth]\nduplicate_login = \"refuse\"",
            &[("a", server(mode, "*", nobody, more))],
        );
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = FakeClient::login(proxy.address(), "x", "Alice").await;
            assert_eq!(
                FakeClient::kick(&mut client).await,
                "nobody is there",
                "{mode}"
            );
            clients.push(client);
        }
    }
}
