//! Limits, stops and dropped futures end a session.

use super::*;

/// Not before the limit, and a quarter of it later at most (and what a busy machine adds).
fn assert_about(limit: Duration, since: Instant) {
    let took = since.elapsed();
    let slack = Duration::from_millis(400);
    assert!(
        took >= limit && took <= limit * 5 / 4 + slack,
        "{took:?} for {limit:?}"
    );
}

/// A silent direction ends the session though the other one is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_limit() {
    let limit = Duration::from_millis(400);
    let limits = Limits {
        read: Some(limit),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let mut running = rig(limits, None).await.run(&forwarder);
        running.player.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        running.server.read_exact(&mut heard).await.unwrap();
        let since = Instant::now();
        let mut server = running.server;
        let busy = tokio::spawn(async move {
            while server.write_all(b"tick").await.is_ok() {
                tokio::time::sleep(limit / 10).await;
            }
        });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::ReadTimeout(Direction::Serverbound));
        assert!(since.elapsed() >= limit.saturating_sub(Duration::from_millis(20)));
        assert_about(limit, since - Duration::from_millis(20));
        assert!(outcome.clientbound_bytes >= 4);
        busy.await.unwrap();
    }
}

/// Bytes that wait for a receiver that does not read end the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_limit() {
    let limit = Duration::from_millis(400);
    let limits = Limits {
        write: Some(limit),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let running = rig(limits, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let since = Instant::now();
        let flood =
            tokio::spawn(async move { while server.write_all(&[7; 65_536]).await.is_ok() {} });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::WriteTimeout(Direction::Clientbound));
        assert_about(limit, since);
        flood.await.unwrap();
        // The count is the number of bytes that the player's side accepted.
        let received = read_all(&mut player).await;
        assert_eq!(received.len() as u64, outcome.clientbound_bytes);
    }
}

/// After one side's end the other is cut off, whether it is silent or in the
/// middle of sending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_limit() {
    let limit = Duration::from_millis(300);
    let limits = Limits {
        half_close: limit,
        ..NO_LIMITS
    };
    for forwarder in all() {
        for busy in [false, true] {
            let running = rig(limits, None).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            let since = Instant::now();
            player.shutdown().await.unwrap();
            let other = tokio::spawn(async move {
                while busy && server.write_all(b"tick").await.is_ok() {
                    tokio::time::sleep(limit / 10).await;
                }
                server
            });
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::HalfCloseTimeout(Side::Client));
            assert_about(limit, since);
            assert_eq!(
                read_all(&mut player).await.len() as u64,
                outcome.clientbound_bytes
            );
            drop(other.await.unwrap());
        }
    }
}

/// A stop ends a busy session and an idle one at once, and the counts are exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_immediate_and_the_counts_are_exact() {
    for forwarder in all() {
        for busy in [false, true] {
            let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            server.write_all(FINAL_TEXT).await.unwrap();
            player.readable().await.unwrap();
            let flood = tokio::spawn(async move {
                while busy && server.write_all(&[7; 65_536]).await.is_ok() {}
                server
            });
            running.stop.cancel();
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::Stopped);
            assert!(outcome.clientbound_bytes >= FINAL_TEXT.len() as u64);
            let received = read_all(&mut player).await;
            assert_eq!(received.len() as u64, outcome.clientbound_bytes);
            flood.await.unwrap();
        }
    }
}

/// Dropping the future of a relay closes both sockets and leaves exact counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_relay_leaves_exact_counts() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        server.write_all(FINAL_TEXT).await.unwrap();
        player.readable().await.unwrap();
        running.relay.abort();
        assert!(running.relay.await.unwrap_err().is_cancelled());
        assert_eq!(read_all(&mut server).await, b"");
        let received = read_all(&mut player).await;
        assert_eq!(
            received.len() as u64,
            running.counters.get(Direction::Clientbound)
        );
    }
}

/// A relay that moves to another task is still ended by its stop and its limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_move_between_tasks() {
    for limits in [
        NO_LIMITS,
        Limits {
            read: Some(Duration::from_millis(300)),
            ..NO_LIMITS
        },
    ] {
        for forwarder in drivers(Method::Copy) {
            let rig = rig(limits, None).await;
            let session = rig.session;
            let mut relay = Box::pin(async move { forwarder.forward(session).await });
            let nudge = Duration::from_millis(20);
            assert!(timeout(nudge, &mut relay).await.is_err());
            let relay = tokio::spawn(relay);
            tokio::time::sleep(nudge).await;
            if limits.read.is_none() {
                rig.stop.cancel();
            }
            let outcome = outcome(relay, &rig.counters).await;
            match limits.read {
                None => assert_eq!(outcome.end, End::Stopped),
                Some(_) => assert!(matches!(outcome.end, End::ReadTimeout(_))),
            }
        }
    }
}
