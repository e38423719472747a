//! How connections end: what players read, and what they hold meanwhile.

use crate::support::{FakeClient, TestProxy, server};

/// The places of a player who cannot join are free before he has read why: while
/// one leaves the connection open, the next one with his name reads the same.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_free_before_the_text_is_read() {
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
