//! Many logins at once with a slow session service, while others play.

use std::net::SocketAddr;

use infrarust_test_support::game::{self, Say, Sessions, Speaker, encrypt};

use super::{NO_COMPRESSION, NOTCH, enter, welcome};
use crate::support::{FakeBackend, TestProxy};

pub(super) const PROTOCOL: i32 = 767;
pub(super) const LOGINS: usize = 200;
/// A packet of play that the proxy passes, in each direction.
const DOWN: i32 = 0x27;
const UP: i32 = 0x1A;

/// Confirms Notch, and does not answer for later players.
pub(super) async fn silent_after_one() -> Sessions {
    let profile = format!(
        r#"{{"id":"{}","name":"Notch","properties":[]}}"#,
        NOTCH.replace('-', "")
    );
    Sessions::in_turn(vec![Say::Answer(200, profile), Say::Nothing]).await
}

/// Notch, encrypted and in the game, and his backend.
pub(super) async fn notch_plays(proxy: SocketAddr, backend: &FakeBackend) -> (Speaker, Speaker) {
    let mut client = game::begin(proxy, PROTOCOL, "Notch").await;
    encrypt(&mut client, PROTOCOL).await;
    let (mut server, _, _) = game::accept(backend).await;
    welcome(&mut client, &mut server, PROTOCOL).await;
    enter(&mut client, &mut server, PROTOCOL).await;
    (client, server)
}

/// One packet each way.
pub(super) async fn round_trip(client: &mut Speaker, server: &mut Speaker, number: u8) {
    client.send(UP, &[number]).await;
    assert_eq!(server.expect(UP).await, [number]);
    server.send(DOWN, &[number]).await;
    assert_eq!(client.expect(DOWN).await, [number]);
}

/// While two hundred logins wait for a silent service, other players play, and none of
/// their packets waits for it. Each waiting login gets in, or reads a text.
#[tokio::test]
async fn players_play_while_others_wait_for_the_service() {
    let sessions = silent_after_one().await;
    let backend = FakeBackend::start().await;
    let proxy =
        TestProxy::with_one_server(&sessions.global(), "client_only", &backend, NO_COMPRESSION);
    let (mut client, mut server) = notch_plays(proxy.address(), &backend).await;

    let mut crowd = Vec::new();
    for index in 0..LOGINS {
        let mut waiting = game::begin(proxy.address(), PROTOCOL, &format!("p{index}")).await;
        encrypt(&mut waiting, PROTOCOL).await;
        crowd.push(waiting);
        round_trip(&mut client, &mut server, u8::try_from(index).unwrap()).await;
    }
    for number in 0..100 {
        round_trip(&mut client, &mut server, number).await;
    }
    // The service has confirmed nobody but the player.
    let accepted = futures_util::FutureExt::now_or_never(backend.listener.accept());
    assert!(accepted.is_none());
    for mut waiting in crowd {
        // He reads that the service does not answer, or waits for that.
        let read = futures_util::FutureExt::now_or_never(waiting.next());
        if let Some(packet) = read {
            let (id, body) = packet.expect("a text comes before the end");
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(id == 0 && text.contains("cannot be reached"), "{text}");
        }
    }
    round_trip(&mut client, &mut server, 9).await;
    drop((client, server));
    proxy.idle().await;
}
