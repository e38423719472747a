//! Every release of the game, in both modes: into the game, play packets in both
//! directions, and the text when the backend is lost.

use infrarust_test_support::game::{self, Ids, RELEASES, who};

use super::modes::Modes;
use super::{NO_COMPRESSION, NOTCH_OFFLINE, enter, text, uuid};

/// A packet of play that the proxy passes, in each direction.
const CHUNK: i32 = 0x22;

#[tokio::test]
async fn all_releases_play() {
    let more = format!("{NO_COMPRESSION}\ndisconnect_message = \"Bye \u{1F980}\"");
    let modes = Modes::start("", &more).await;
    let chunk: Vec<u8> = (0..=250_u8).cycle().take(40_000).collect();
    for mode in 0..2 {
        for protocol in RELEASES {
            let (mut client, mut server) = modes.begin(mode, protocol).await;
            let success = game::login_success(protocol, uuid(NOTCH_OFFLINE), "Notch");
            server.send(2, &success).await;
            let body = client.expect(2).await;
            let expected = (NOTCH_OFFLINE.to_owned(), "Notch".to_owned());
            assert_eq!(who(protocol, &body), expected, "{protocol}");
            // Nothing is left out and nothing is added.
            let is_session = body.len() - 16..;
            match protocol {
                776.. => assert_ne!(body[is_session], [0; 16], "{protocol}"),
                _ => assert_eq!(body, success, "{protocol}"),
            }
            assert_eq!(body.len(), success.len(), "{protocol}");
            if protocol >= 764 {
                client.send(3, &[]).await;
                server.expect(3).await;
            }
            enter(&mut client, &mut server, protocol).await;
            server.send(CHUNK, &chunk).await;
            assert!(client.expect(CHUNK).await == chunk, "{protocol}");
            // The teleport confirmation, or an action.
            client.send(0, &[7; 8]).await;
            assert_eq!(server.expect(0).await, [7; 8], "{protocol}");
            drop(server);
            let body = client.expect(Ids::of(protocol).disconnect).await;
            assert_eq!(shown(protocol, &body), "Bye \u{1F980}", "{protocol}");
            client.expect_end().await;
        }
        modes.idle().await;
    }
}

/// The text of a disconnect in play. NBT encodes the crab as two surrogates.
fn shown(protocol: i32, body: &[u8]) -> String {
    if protocol <= 764 {
        return text(protocol, body);
    }
    let crab = [0xED, 0xA0, 0xBE, 0xED, 0xB6, 0x80];
    let at = body.windows(6).position(|part| part == crab).unwrap();
    let plain = [&body[..at], b"::::::", &body[at + 6..]].concat();
    text(protocol, &plain).replace("::::::", "\u{1F980}")
}
