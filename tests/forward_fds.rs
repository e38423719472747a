//! No descriptor is left behind by sessions, however they end.
//!
//! Alone in its file: it counts the descriptors of the process, which other
//! tests of one binary would change meanwhile.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infrarust::config::model::Relay;
use infrarust::forward::{self, Counters, End, Forwarder, Limits, Session};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How many sessions end in each way, with each forwarder.
const SESSIONS: usize = 24;

/// What each worker thread may keep of pipes: the bound of the pool.
const POOLED_PIPES_MAX: usize = 16;

const WORKERS: usize = 2;

/// Open descriptors by kind: `socket`, `pipe`, and the rest.
fn descriptors() -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        // The descriptor of this listing is gone by the time it is asked.
        if let Ok(target) = std::fs::read_link(entry.unwrap().path()) {
            let target = target.to_string_lossy().into_owned();
            let kind = target.split(':').next().unwrap_or_default().to_owned();
            *counts.entry(kind).or_default() += 1;
        }
    }
    counts
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (here, _) = listener.accept().await.unwrap();
    (there, here)
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    InOrder,
    Reset,
    StoppedWithBytesInFlight,
    Dropped,
}

async fn one_session(relay: Relay, ending: Ending) {
    let (mut player, client) = connected().await;
    let (backend, mut server) = connected().await;
    let stop = CancellationToken::new();
    let session = Session {
        client,
        backend,
        limits: Limits {
            read: Some(Duration::from_secs(60)),
            write: None,
            half_close: Duration::from_secs(60),
        },
        counters: Arc::new(Counters::default()),
        stop: stop.clone(),
    };
    let forwarder = forward::select(relay).0;
    let running = tokio::spawn(async move { forwarder.forward(session).await });
    let mut bytes = vec![1; 100_000];
    server.write_all(&bytes).await.unwrap();
    player.read_exact(&mut bytes).await.unwrap();
    match ending {
        Ending::InOrder => {
            drop(player);
            assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
            drop(server);
            running.await.unwrap();
        }
        Ending::Reset => {
            SockRef::from(&player)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(player);
            assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
            drop(server);
            running.await.unwrap();
        }
        Ending::StoppedWithBytesInFlight => {
            let flood =
                tokio::spawn(async move { while server.write_all(&bytes).await.is_ok() {} });
            player.readable().await.unwrap();
            stop.cancel();
            assert_eq!(running.await.unwrap().end, End::Stopped);
            flood.await.unwrap();
        }
        Ending::Dropped => {
            running.abort();
            assert!(running.await.unwrap_err().is_cancelled());
        }
    }
}

/// After many sessions and endings there are as many sockets as before, and
/// no more pipes than the pools of the workers may keep.
#[test]
fn nothing_is_left_open() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap();
    // Whatever the runtime opens once is open after the first connection.
    runtime.block_on(async { drop(connected().await) });
    let before = descriptors();
    let count =
        |counts: &HashMap<String, usize>, kind: &str| counts.get(kind).copied().unwrap_or(0);
    runtime.block_on(async {
        for relay in [Relay::Copy, Relay::Splice, Relay::Adaptive] {
            for ending in [
                Ending::InOrder,
                Ending::Reset,
                Ending::StoppedWithBytesInFlight,
                Ending::Dropped,
            ] {
                let sessions: Vec<_> = (0..SESSIONS)
                    .map(|_| tokio::spawn(one_session(relay, ending)))
                    .collect();
                for session in sessions {
                    session.await.unwrap();
                }
                let now = descriptors();
                assert_eq!(
                    count(&now, "socket"),
                    count(&before, "socket"),
                    "{relay} {ending:?}"
                );
                let pipes = count(&now, "pipe") - count(&before, "pipe");
                assert!(
                    pipes <= WORKERS * POOLED_PIPES_MAX * 2,
                    "{relay} {ending:?}: {pipes} ends of pipes"
                );
            }
        }
    });
    // The pools go with their threads.
    drop(runtime);
    assert_eq!(count(&descriptors(), "pipe"), count(&before, "pipe"));
}
