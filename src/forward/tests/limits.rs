//! Limits, stops and dropped futures end a session.

use super::*;

/// Long enough for a busy direction to be busy on a slow machine, too.
const LIMIT: Duration = Duration::from_secs(1);

/// How often a session is tried whose end comes late on a slow machine.
const TRIES_MAX: usize = 20;

/// Sessions of every forwarder end at their limit: not before it, and a quarter of it
/// later at most. A busy machine adds to that in some of several tries, not in all.
async fn all_end_at(limit: Duration, session: impl AsyncFn(&AnyForwarder) -> Duration) {
    const SLACK: Duration = Duration::from_millis(400);
    let forwarders = all();
    let tries = forwarders.iter().map(async |forwarder| {
        let mut times = Vec::new();
        while times.len() < TRIES_MAX {
            let took = session(forwarder).await;
            assert!(took >= limit, "{forwarder:?}: {took:?} for {limit:?}");
            if took <= limit * 5 / 4 + SLACK {
                return;
            }
            times.push(took);
        }
        panic!("{forwarder:?}: {times:?} for {limit:?}");
    });
    futures_util::future::join_all(tries).await;
}

/// A silent direction ends the session though the other one is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_limit() {
    let limits = Limits {
        read: Some(LIMIT),
        ..NO_LIMITS
    };
    all_end_at(LIMIT, async |forwarder| {
        let mut running = rig(limits, None).await.run(forwarder);
        let since = Instant::now();
        running.player.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        running.server.read_exact(&mut heard).await.unwrap();
        let mut server = running.server;
        let busy = tokio::spawn(async move {
            while server.write_all(b"tick").await.is_ok() {
                tokio::time::sleep(LIMIT / 20).await;
            }
        });
        let outcome = outcome(running.relay, &running.counters).await;
        let took = since.elapsed();
        assert_eq!(outcome.end, End::ReadTimeout(Direction::Serverbound));
        assert!(outcome.clientbound_bytes >= 4);
        busy.await.unwrap();
        took
    })
    .await;
}

/// Bytes that wait for a receiver that does not read end the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_limit() {
    let limits = Limits {
        write: Some(LIMIT),
        ..NO_LIMITS
    };
    all_end_at(LIMIT, async |forwarder| {
        let running = rig(limits, Some(32 * 1024)).await.run(forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let since = Instant::now();
        let flood =
            tokio::spawn(async move { while server.write_all(&[7; 65_536]).await.is_ok() {} });
        let outcome = outcome(running.relay, &running.counters).await;
        let took = since.elapsed();
        assert_eq!(outcome.end, End::WriteTimeout(Direction::Clientbound));
        flood.await.unwrap();
        // Counted is what the player's side was given, to the byte.
        let received = read_all(&mut player).await;
        assert_eq!(received.len() as u64, outcome.clientbound_bytes);
        took
    })
    .await;
}

/// After one side's end the other is cut off, whether it is silent or in the
/// middle of sending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_limit() {
    let limits = Limits {
        half_close: LIMIT,
        ..NO_LIMITS
    };
    for busy in [false, true] {
        all_end_at(LIMIT, async |forwarder| {
            let running = rig(limits, None).await.run(forwarder);
            let (mut player, mut server) = (running.player, running.server);
            let since = Instant::now();
            player.shutdown().await.unwrap();
            let other = tokio::spawn(async move {
                while busy && server.write_all(b"tick").await.is_ok() {
                    tokio::time::sleep(LIMIT / 20).await;
                }
                server
            });
            let outcome = outcome(running.relay, &running.counters).await;
            let took = since.elapsed();
            assert_eq!(outcome.end, End::HalfCloseTimeout(Side::Client));
            assert_eq!(
                read_all(&mut player).await.len() as u64,
                outcome.clientbound_bytes
            );
            drop(other.await.unwrap());
            took
        })
        .await;
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
            read: Some(LIMIT),
            ..NO_LIMITS
        },
    ] {
        for forwarder in drivers(Method::Copy) {
            let nudge = Duration::from_millis(20);
            let mut tries = 0;
            // The peers stay until the end.
            let (_peers, counters, stop, relay) = loop {
                let rig = rig(limits, None).await;
                let (session, forwarder) = (rig.session, forwarder.clone());
                let stop = rig.stop.clone();
                let mut relay = Box::pin(async move { forwarder.forward(session, stop).await });
                if timeout(nudge, &mut relay).await.is_err() {
                    let peers = (rig.player, rig.server);
                    break (peers, rig.counters, rig.stop, tokio::spawn(relay));
                }
                // On a slow machine the limit may pass meanwhile.
                tries += 1;
                assert!(limits.read.is_some() && tries < TRIES_MAX, "it has ended");
            };
            tokio::time::sleep(nudge).await;
            if limits.read.is_none() {
                stop.cancel();
            }
            let outcome = outcome(relay, &counters).await;
            match limits.read {
                None => assert_eq!(outcome.end, End::Stopped),
                Some(_) => assert!(matches!(outcome.end, End::ReadTimeout(_))),
            }
        }
    }
}
