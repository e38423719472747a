//! Sessions leave no descriptor behind, however they end.
//!
//! It runs in a process of its own, because it counts the descriptors of the process, which
//! other tests would change.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use infrarust::config::model::Relay;
use infrarust::forward::{End, Forwarders, pipe};
use infrarust_test_support::blocking_until;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::alone::in_own_process;
use crate::{connected, session};

/// The number of sessions that end in each way, for each forwarder.
const SESSIONS: usize = 24;

const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

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

#[derive(Clone, Copy, Debug)]
enum Ending {
    InOrder,
    Reset,
    StoppedWithBytesInFlight,
    Dropped,
}

/// Waits until a connection has ended, in whichever way.
async fn ended(mut socket: TcpStream) {
    let mut bytes = vec![0; 65_536];
    while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

async fn one_session(forwarders: Forwarders, relay: Relay, ending: Ending) {
    let (mut player, client) = connected().await;
    let (backend, mut server) = connected().await;
    let mut session = session(client, backend);
    session.limits.read = Some(Duration::from_secs(60));
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarders.forward(relay, session, stop.clone()));
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
            ended(server).await;
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
            ended(player).await;
            ended(server).await;
        }
    }
}

/// After many sessions and endings there are as many sockets as before, and at most as many
/// pipes as the pools of the workers may keep.
#[test]
fn nothing_is_left_open() {
    in_own_process("descriptors::nothing_is_left_open", count_descriptors);
}

fn count_descriptors() {
    let forwarders = Forwarders::start(WORKERS).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS.get())
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
                    .map(|_| tokio::spawn(one_session(forwarders.clone(), relay, ending)))
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
                    pipes <= WORKERS.get() * pipe::POOL_MAX * 2,
                    "{relay} {ending:?}: {pipes} ends of pipes"
                );
            }
        }
    });
    // The threads go with the last handle, and their pools with them.
    drop(runtime);
    drop(forwarders);
    blocking_until("the relay threads to end", || relay_threads() == 0);
    assert_eq!(count(&descriptors(), "pipe"), count(&before, "pipe"));
}

/// Threads of this process that relay.
fn relay_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names
        .filter(|name| name.as_ref().is_ok_and(|name| name.starts_with("relay-")))
        .count()
}
