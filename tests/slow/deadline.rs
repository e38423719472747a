//! The deadline of a player who does not read, without a key that shortens it.

use std::time::Duration;

use infrarust_test_support::game::{self, Ids, Speaker};
use infrarust_test_support::program::Program;
use infrarust_test_support::{FakeBackend, server, within};
use tokio::time::Instant;

const PROTOCOL: i32 = 767;
/// A packet of play that the proxy passes.
const CHUNK: i32 = 0x27;
/// 30 s without progress, checked every six seconds.
const DEADLINE: std::ops::Range<Duration> = Duration::from_secs(28)..Duration::from_secs(45);

/// A client that does not read is disconnected after 30 s, and its backend sees the end.
#[tokio::test]
async fn a_player_who_does_not_read_is_disconnected_after_30_s() {
    let backend = FakeBackend::start().await;
    let file = server(
        "offline",
        "play.example.com",
        backend.address,
        "compression_threshold = -1",
    );
    let mut program = Program::start("", &[("a", file)]);
    let proxy = program.address().await;
    let mut client = game::begin(proxy, PROTOCOL, "Notch").await;
    let (mut server, _, _) = game::accept(&backend).await;
    let ids = Ids::of(PROTOCOL);
    let both = [&mut client, &mut server];
    game::welcome(both, PROTOCOL, ([1; 16], "Notch"), None).await;
    game::configure([&mut client, &mut server], PROTOCOL).await;
    server.send(ids.join, &[0; 8]).await;
    client.expect(ids.join).await;
    let (before, after) = within("the end of the session", flood(&server)).await;
    let ended = Instant::now();
    within("the end", server.read_frames()).await;
    // The last bytes were accepted between these two moments, which are far apart only on
    // a slow machine.
    let took = [ended - after, ended - before];
    assert!(
        took[0] < DEADLINE.end && took[1] >= DEADLINE.start,
        "{took:?}"
    );
    drop(client);
}

/// Sends what is accepted until the proxy ends the session. Returns when nothing was
/// accepted for the last time before the last bytes were, and when those were.
async fn flood(server: &Speaker) -> (Instant, Instant) {
    let frame = server.framed(CHUNK, &[7; 30_000]);
    let mut rest = &frame[..];
    let (mut full, mut last) = (Instant::now(), (Instant::now(), Instant::now()));
    loop {
        tokio::select! {
            biased;
            () = server.readable() => return last,
            () = server.writable() => {}
        }
        while let Some(taken) = server.try_send(rest) {
            last = (full, Instant::now());
            rest = match &rest[taken..] {
                [] => &frame,
                more => more,
            };
        }
        full = Instant::now();
    }
}
