//! Bytes and the ends of streams: every byte arrives, and half-closes and resets of one side
//! reach the other.

use super::*;

/// Random chunks both ways at once arrive byte for byte, and are all counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn bytes_are_exact_both_ways() {
    const TOTAL: usize = 32 * MIB;
    let seed =
        u64::from(std::process::id()) << 20 | u64::from(Instant::now().elapsed().subsec_nanos());
    let seed = seed ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    println!("seed {seed:#x}");
    let mut random = Random(seed | 1);
    let pattern: Arc<[u8]> = random.bytes(PERIOD).into();
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut peers = JoinSet::new();
        for socket in [running.player, running.server] {
            let (mut reader, mut writer) = socket.into_split();
            let both = [Random(random.0 ^ 5), Random(random.0 ^ 77)];
            random.next(7);
            let [out, into] = both;
            let shared = Arc::clone(&pattern);
            peers.spawn(async move {
                send(&mut writer, &shared, TOTAL, out).await;
                writer.shutdown().await.unwrap();
                // Keep the half until the peer has read it all.
                std::future::pending::<()>().await;
                0
            });
            let shared = Arc::clone(&pattern);
            peers.spawn(async move { receive(&mut reader, &shared, into).await });
        }
        for _ in 0..2 {
            let received = timeout(PATIENCE, peers.join_next()).await.unwrap();
            assert_eq!(received.unwrap().unwrap(), TOTAL, "{forwarder:?}");
        }
        let outcome = outcome(running.relay, &running.counters).await;
        assert!(matches!(outcome.end, End::Closed(_)), "{outcome:?}");
        assert_eq!(outcome.serverbound_bytes, TOTAL as u64);
        assert_eq!(outcome.clientbound_bytes, TOTAL as u64);
        assert!(!outcome.degraded);
    }
}

/// While a receiver accepts nothing, the proxy holds the bytes of one read and reads no
/// more. Afterwards everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_grow_memory() {
    const BUFFER: usize = 32 * 1024;
    let pattern = Random(99).bytes(PERIOD);
    for forwarder in all() {
        let running = rig(NO_LIMITS, Some(BUFFER)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let sent = fill(&mut server, &pattern).await;
        let moved = usize::try_from(running.counters.get(Direction::Clientbound)).unwrap();
        // Linux doubles the buffers asked for. On the sender's leg one buffer
        // sends and one receives, and one read or splice is in the proxy.
        let bound = 2 * 2 * BUFFER + HELD_BYTES_MAX;
        assert!(sent - moved <= bound, "{forwarder:?} {sent} {moved}");
        // The other direction is not held up by it.
        player.write_all(b"still here").await.unwrap();
        let mut answer = [0; 10];
        timeout(PATIENCE, server.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        server.shutdown().await.unwrap();
        let received = timeout(PATIENCE, receive(&mut player, &pattern, Random(3)))
            .await
            .unwrap();
        assert_eq!(received, sent);
        drop(player);
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Closed(Side::Backend));
        assert_eq!(outcome.clientbound_bytes, sent as u64);
    }
}

/// After a side has ended its stream it still receives everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_close_lets_the_other_side_continue() {
    const TOTAL: usize = 4 * MIB;
    let pattern = Random(7).bytes(PERIOD);
    for forwarder in all() {
        for first in [Side::Client, Side::Backend] {
            let running = rig(NO_LIMITS, None).await.run(&forwarder);
            let (mut ends, mut goes_on) = match first {
                Side::Client => (running.player, running.server),
                Side::Backend => (running.server, running.player),
            };
            ends.write_all(FINAL_TEXT).await.unwrap();
            ends.shutdown().await.unwrap();
            assert_eq!(read_all(&mut goes_on).await, FINAL_TEXT);
            let received = {
                let sending = async {
                    send(&mut goes_on, &pattern, TOTAL, Random(11)).await;
                    goes_on.shutdown().await.unwrap();
                };
                let (received, ()) =
                    tokio::join!(receive(&mut ends, &pattern, Random(13)), sending);
                received
            };
            assert_eq!(received, TOTAL);
            let outcome = outcome(running.relay, &running.counters).await;
            assert_eq!(outcome.end, End::Closed(first));
            let (few, many) = match first {
                Side::Client => (outcome.serverbound_bytes, outcome.clientbound_bytes),
                Side::Backend => (outcome.clientbound_bytes, outcome.serverbound_bytes),
            };
            assert_eq!((few, many), (FINAL_TEXT.len() as u64, TOTAL as u64));
        }
    }
}

/// Reads until the connection ends; also how it ended.
async fn read_to_its_end(socket: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, socket.read_to_end(&mut bytes))
        .await
        .unwrap();
    (bytes, end)
}

/// Asserts that what is read is this, and that a reset follows it.
async fn assert_reset_after(socket: &mut TcpStream, sent: &[u8], forwarder: &AnyForwarder) {
    let (bytes, end) = read_to_its_end(socket).await;
    assert_eq!(bytes, sent, "{forwarder:?}");
    // Other systems do not report when all data before a reset was acknowledged.
    if cfg!(target_os = "linux") {
        let error = end.unwrap_err().kind();
        assert_eq!(error, io::ErrorKind::ConnectionReset, "{forwarder:?}");
    }
}

/// What a side sent before its reset arrives, and after that the reset,
/// whether or not the other side was itself sending to the one that went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_forwarded_after_the_last_bytes() {
    for forwarder in all() {
        for (gone, other_sends) in [
            (Side::Backend, false),
            (Side::Backend, true),
            (Side::Client, false),
            (Side::Client, true),
        ] {
            let mut rig = rig(NO_LIMITS, None).await;
            let (mut goes, stays) = match gone {
                Side::Client => (rig.player, &mut rig.server),
                Side::Backend => (rig.server, &mut rig.player),
            };
            if other_sends {
                stays.write_all(&[1; 1000]).await.unwrap();
            }
            // Both are in the proxy's kernel before the relay looks.
            goes.write_all(FINAL_TEXT).await.unwrap();
            reset(goes);
            let (session, stop) = (rig.session, rig.stop);
            let relaying = forwarder.clone();
            let relay = tokio::spawn(async move { relaying.forward(session, stop).await });
            assert_reset_after(stays, FINAL_TEXT, &forwarder).await;
            let outcome = outcome(relay, &rig.counters).await;
            assert_eq!(outcome.end, End::Reset(gone), "{forwarder:?}");
            let (to_gone, from_gone) = match gone {
                Side::Client => (outcome.clientbound_bytes, outcome.serverbound_bytes),
                Side::Backend => (outcome.serverbound_bytes, outcome.clientbound_bytes),
            };
            assert_eq!((to_gone, from_gone), (0, FINAL_TEXT.len() as u64));
        }
    }
}

/// A reset is not forwarded before a slow receiver has got all bytes that the proxy had
/// read, even if they are more than all buffers hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_a_stream_overtakes_nothing() {
    let pattern = Random(31).bytes(PERIOD);
    for forwarder in all() {
        let running = rig(NO_LIMITS, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        // Fill everything between them, so that much is still on its way.
        fill(&mut server, &pattern).await;
        // What the proxy has not read when the reset comes is lost with the
        // sender; all that it had read arrives.
        reset(server);
        let (bytes, end) = read_to_its_end(&mut player).await;
        assert!(
            bytes
                .iter()
                .zip(pattern.iter().cycle())
                .all(|(a, b)| a == b)
        );
        assert_eq!(end.is_err(), cfg!(target_os = "linux"), "{forwarder:?}");
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Reset(Side::Backend), "{forwarder:?}");
        assert_eq!(outcome.clientbound_bytes, bytes.len() as u64);
    }
}

/// A side that has ended its stream and then refuses what the other still
/// sends: the other gets a reset, as without a proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_receiver_resets_its_sender() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut server = running.server;
        drop(running.player);
        assert_eq!(read_all(&mut server).await, b"");
        within("the reset", async {
            while server.write_all(b"tick").await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Closed(Side::Client), "{forwarder:?}");
    }
}

/// If a receiver vanishes in the middle of a stream, its last bytes still arrive in the
/// other direction, and the session ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_error_lets_the_other_direction_drain() {
    let limits = Limits {
        half_close: Duration::from_millis(500),
        ..NO_LIMITS
    };
    for forwarder in all() {
        let running = rig(limits, Some(32 * 1024)).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        // The proxy is stuck with bytes for a player that reads nothing.
        let sending = tokio::spawn(async move {
            while server.write_all(&[7; 65_536]).await.is_ok() {}
            server
        });
        player.readable().await.unwrap();
        player.write_all(FINAL_TEXT).await.unwrap();
        let words = FINAL_TEXT.len() as u64;
        until("the text to be counted", || {
            running.counters.get(Direction::Serverbound) == words
        })
        .await;
        // Unread bytes turn this close into a reset.
        drop(player);
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end.side(), Some(Side::Client));
        assert_eq!(outcome.serverbound_bytes, words);
        let mut server = timeout(PATIENCE, sending).await.unwrap().unwrap();
        let mut heard = vec![0; FINAL_TEXT.len()];
        // The reset of the connection may have come by now; what was received is still there.
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, FINAL_TEXT);
    }
}

/// Hundreds of sessions on a few workers exchange small messages, and each gets its own
/// bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_at_once() {
    const SESSIONS: u32 = 300;
    const MESSAGES: u32 = 20;
    for forwarder in all() {
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            let running = rig(NO_LIMITS, None).await.run(&forwarder);
            let (mut player, mut server) = (running.player, running.server);
            sessions.spawn(async move {
                for message in 0..MESSAGES {
                    let sent = [number.to_be_bytes(), message.to_be_bytes()].concat();
                    let mut heard = [0; 8];
                    player.write_all(&sent).await.unwrap();
                    server.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard[..], sent[..]);
                    server.write_all(&heard).await.unwrap();
                    player.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard[..], sent[..]);
                }
                drop(player);
                assert_eq!(read_all(&mut server).await, b"");
                drop(server);
                outcome(running.relay, &running.counters).await
            });
        }
        while let Some(outcome) = timeout(PATIENCE, sessions.join_next()).await.unwrap() {
            let outcome = outcome.unwrap();
            let bytes = u64::from(MESSAGES) * 8;
            assert_eq!(outcome.serverbound_bytes, bytes);
            assert_eq!(outcome.clientbound_bytes, bytes);
            assert_eq!(outcome.end, End::Closed(Side::Client));
        }
    }
}

/// A peer that sends and reads one byte at a time gets every one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_bytes() {
    const TOTAL: usize = 5000;
    let sent = Random(41).bytes(TOTAL);
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let (mut player, mut server) = (running.player, running.server);
        let sending = async {
            for byte in &sent {
                player.write_all(&[*byte]).await.unwrap();
            }
            player.shutdown().await.unwrap();
        };
        let receiving = async {
            for (at, byte) in sent.iter().enumerate() {
                assert_eq!(server.read_u8().await.unwrap(), *byte, "{at}");
            }
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        };
        timeout(PATIENCE, async { tokio::join!(sending, receiving) })
            .await
            .unwrap();
    }
}

/// A side that keeps sending to a closed peer is disconnected at once, and the reported
/// cause of the end stays the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_to_a_closed_peer_is_disconnected() {
    for forwarder in all() {
        let running = rig(NO_LIMITS, None).await.run(&forwarder);
        let mut server = running.server;
        reset(running.player);
        let busy =
            tokio::spawn(async move { while server.write_all(&[7; 65_536]).await.is_ok() {} });
        let outcome = outcome(running.relay, &running.counters).await;
        assert_eq!(outcome.end, End::Reset(Side::Client), "{forwarder:?}");
        busy.await.unwrap();
    }
}
