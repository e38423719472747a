//! Compression towards the client and from the backend, in all combinations.

use infrarust_test_support::game::{Ids, Speaker};

use super::{admit, begin, enter, offline};
use crate::support::FakeBackend;

const PROTOCOL: i32 = 754;

/// Each side has its own format, and both get every packet of every size. The peers refuse
/// compressed packets below their threshold.
#[tokio::test]
async fn nine_combinations() {
    let thresholds = [None, Some(0), Some(256)];
    for to_client in thresholds {
        for of_backend in thresholds {
            let backend = FakeBackend::start().await;
            let key = to_client.unwrap_or(-1);
            let proxy = offline(&backend, &format!("compression_threshold = {key}"));
            let (mut client, mut server) = begin(&proxy, &backend, PROTOCOL, "Notch").await;
            compress(&mut client, &mut server, to_client, of_backend).await;
            let ids = Ids::of(PROTOCOL);
            enter(&mut client, &mut server, PROTOCOL).await;
            exchange(&mut client, &mut server).await;
            server.send(ids.disconnect, b"\x02{}").await;
            assert_eq!(client.expect(ids.disconnect).await, b"\x02{}");
            drop(server);
            // Nothing follows the backend's own text.
            client.expect_end().await;
            proxy.idle().await;
        }
    }
}

/// If no threshold is configured, the client gets that of the backend, or the default of
/// the game, and no packet has to be decompressed. A configured threshold has precedence.
#[tokio::test]
async fn the_default_threshold_is_that_of_the_backend() {
    let cases = [
        ("", None, Some(256)),
        ("", Some(64), Some(64)),
        ("", Some(0), Some(0)),
        ("compression_threshold = 100", Some(64), Some(100)),
        ("compression_threshold = -1", Some(64), None),
    ];
    for (key, of_backend, to_client) in cases {
        let backend = FakeBackend::start().await;
        let proxy = offline(&backend, key);
        let (mut client, mut server) = begin(&proxy, &backend, PROTOCOL, "Notch").await;
        compress(&mut client, &mut server, to_client, of_backend).await;
        enter(&mut client, &mut server, PROTOCOL).await;
        exchange(&mut client, &mut server).await;
    }
}

async fn compress(
    client: &mut Speaker,
    server: &mut Speaker,
    to_client: Option<i32>,
    of_backend: Option<i32>,
) {
    if let Some(threshold) = of_backend {
        server
            .send(3, &crate::support::wire::varint(threshold))
            .await;
        server.compress(threshold);
    }
    admit(server, PROTOCOL).await;
    if let Some(threshold) = to_client {
        let received = client.expect(3).await;
        assert_eq!(received, crate::support::wire::varint(threshold));
        client.compress(threshold);
    }
    client.expect(2).await;
}

/// Packets of all sizes, many in one write, and in writes of some bytes.
async fn exchange(client: &mut Speaker, server: &mut Speaker) {
    let sizes = [0, 1, 60, 254, 255, 256, 257, 1022, 1023, 1024, 1025, 20_000];
    let bodies: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| (0..97_u8).cycle().take(*size).collect())
        .collect();
    for pieces in [usize::MAX, 700, 3] {
        pass(server, client, 0x22, &bodies, pieces).await;
        pass(client, server, 0x12, &bodies, pieces).await;
    }
    let large = vec![vec![7; 1_900_000]];
    pass(server, client, 0x22, &large, usize::MAX).await;
    pass(client, server, 0x12, &large, usize::MAX).await;
}

async fn pass(
    from: &mut Speaker,
    to: &mut Speaker,
    id: i32,
    bodies: &[Vec<u8>],
    piece_bytes: usize,
) {
    let stream: Vec<u8> = bodies
        .iter()
        .flat_map(|body| from.framed(id, body))
        .collect();
    let sending = async {
        for piece in stream.chunks(piece_bytes) {
            from.send_raw(piece).await;
            tokio::task::yield_now().await;
        }
    };
    let receiving = async {
        for body in bodies {
            assert_eq!(&to.expect(id).await, body);
        }
    };
    tokio::join!(sending, receiving);
}

/// The proxy's name is appended to the brand of the backend, in any kind of frame. The
/// client's brand passes unchanged.
#[tokio::test]
async fn the_brand_is_extended() {
    use crate::support::wire::string;
    for protocol in [340, 758, 767, 776] {
        let backend = FakeBackend::start().await;
        let proxy = offline(&backend, "compression_threshold = 64");
        let (mut client, mut server) = begin(&proxy, &backend, protocol, "Notch").await;
        server.send(3, &[64]).await;
        server.compress(64);
        admit(&mut server, protocol).await;
        client.expect(3).await;
        client.compress(64);
        client.expect(2).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            server.expect(3).await;
        }
        let channel = string(if protocol < 393 {
            "MC|Brand"
        } else {
            "minecraft:brand"
        });
        let long = "long".repeat(40);
        let ids = Ids::of(protocol);
        if protocol >= 764 {
            let id = 1;
            server
                .send(id, &[channel.clone(), string("Paper")].concat())
                .await;
            let expected = [channel.clone(), string("Paper (infrarust)")].concat();
            assert_eq!(client.expect(id).await, expected);
        }
        enter(&mut client, &mut server, protocol).await;
        for name in ["Paper", &long] {
            let body = [channel.clone(), string(name)].concat();
            server.send(ids.plugin, &body).await;
            let expected = [channel.clone(), string(&format!("{name} (infrarust)"))].concat();
            assert_eq!(client.expect(ids.plugin).await, expected, "{protocol}");
        }
    }
}
