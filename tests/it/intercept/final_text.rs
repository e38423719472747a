//! The last text of a session: the text of the backend arrives however its connection ends,
//! and a text of the proxy can be read wherever the stream was cut.

use infrarust_test_support::game::{self, Ids, refusal};

use super::{NO_COMPRESSION, begin, offline, play, text, welcome, welcome_with};
use crate::support::wire;
use crate::support::{FakeBackend, TestProxy};

/// A kick right after the join game passes, and nothing follows it.
#[tokio::test]
async fn a_kick_after_the_join_game() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    for protocol in [5, 340, 754, 767, 776] {
        let ids = Ids::of(protocol);
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        welcome(&mut client, &mut server, protocol).await;
        game::configure([&mut client, &mut server], protocol).await;
        let join = server.framed(ids.join, &[0, 0, 0, 1, 9, 0, 0]);
        let kick = server.framed(ids.disconnect, b"the text");
        server.send_raw(&[join, kick].concat()).await;
        drop(server);
        client.expect(ids.join).await;
        assert_eq!(client.expect(ids.disconnect).await, b"the text");
        client.expect_end().await;
        drop(client);
        proxy.idle().await;
    }
}

/// The number of attempts at a race that went wrong about every second time.
const RACES: usize = 20;

/// A kick arrives even if the backend resets the connection and refuses later bytes of the
/// client: in the login state, in a configuration and in play.
#[tokio::test]
async fn a_kick_before_a_reset() {
    let backend = FakeBackend::start().await;
    let proxy = offline(&backend, NO_COMPRESSION);
    let ids = Ids::of(767);
    for _ in 0..RACES {
        let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
        let question = [vec![5], wire::string("a:b")].concat();
        server.send(4, &question).await;
        client.expect(4).await;
        server
            .send(0, &wire::string("{\"text\":\"the text\"}"))
            .await;
        server.reset();
        client.send(2, &[5, 0]).await;
        assert_eq!(refusal(&mut client).await, "the text");
        drop(client);
        proxy.idle().await;

        let (mut client, mut server) = begin(&proxy, &backend, 767, "Notch").await;
        welcome(&mut client, &mut server, 767).await;
        server.send(ids.config_disconnect, b"the text").await;
        server.reset();
        client.send(2, &wire::string("a:b")).await;
        assert_eq!(client.expect(ids.config_disconnect).await, b"the text");
        client.expect_end().await;
        drop(client);
        proxy.idle().await;

        let (mut client, mut server) = play(&proxy, &backend, 767).await;
        server.send(ids.disconnect, b"the text").await;
        server.reset();
        client.send(0x12, &wire::string("a:b")).await;
        assert_eq!(client.expect(ids.disconnect).await, b"the text");
        client.expect_end().await;
        drop(client);
        proxy.idle().await;
    }
}

/// The id of a bundle's delimiter in play.
const DELIMITER: i32 = 0;

/// A client keeps back the packets of an open bundle. So if a backend is lost in a bundle,
/// the bundle is closed before the text, and no other packet is added.
#[tokio::test]
async fn a_backend_is_lost_in_a_bundle() {
    let backend = FakeBackend::start().await;
    for (protocol, threshold) in [(767, -1), (776, 0), (776, 256)] {
        let proxy = lost(&backend, threshold);
        for bundles in [&[1, 0][..], &[2, 0], &[0, 1], &[0, 2], &[1, 1], &[1, 2]] {
            let ids = Ids::of(protocol);
            let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
            let threshold = (threshold >= 0).then_some(threshold);
            welcome_with(&mut client, &mut server, protocol, threshold).await;
            game::configure([&mut client, &mut server], protocol).await;
            // Some delimiters behind the join game, and some later.
            let delimiter = server.framed(DELIMITER, &[]);
            let join = server.framed(ids.join, &[0, 0, 0, 1, 9, 0, 0]);
            server
                .send_raw(&[join, delimiter.repeat(bundles[0])].concat())
                .await;
            client.expect(ids.join).await;
            server.send(0x22, b"between").await;
            server.send_raw(&delimiter.repeat(bundles[1])).await;
            drop(server);
            for _ in 0..bundles[0] {
                client.expect(DELIMITER).await;
            }
            assert_eq!(client.expect(0x22).await, b"between");
            let count = bundles[0] + bundles[1];
            for _ in 0..bundles[1] + count % 2 {
                client.expect(DELIMITER).await;
            }
            let body = client.expect(ids.disconnect).await;
            assert_eq!(text(protocol, &body), "lost");
            client.expect_end().await;
            drop(client);
            proxy.idle().await;
        }
    }
}

fn lost(backend: &FakeBackend, threshold: i32) -> TestProxy {
    let more = format!("compression_threshold = {threshold}\ndisconnect_message = \"lost\"\n");
    offline(backend, &more)
}
