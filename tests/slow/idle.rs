//! Idle sessions use no processor time, in any state.
//!
//! It runs in a process of its own, because it measures the processor time of the process.

use std::num::NonZeroUsize;
use std::time::Duration;

use infrarust::config::model::Relay;
use infrarust::forward::Forwarders;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::alone::in_own_process;

/// After this time a session has been handed over to a worker.
const HANDED_OVER: Duration = Duration::from_millis(500);

/// How long the sessions are measured.
const WATCHED: Duration = Duration::from_secs(1);

/// The most processor time in that: an endless loop uses all of it.
const COST_MAX: Duration = Duration::from_millis(200);

/// After a send has moved nothing for this time, all buffers are full.
const STILL: Duration = Duration::from_millis(100);

const BUFFER_BYTES: usize = 32 * 1024;

/// Both ends of a connection with small buffers.
async fn connected() -> (TcpStream, TcpStream) {
    let (there, here) = crate::connected().await;
    for socket in [&there, &here] {
        let socket = SockRef::from(socket);
        socket.set_send_buffer_size(BUFFER_BYTES).unwrap();
        socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    }
    (there, here)
}

/// How a session became idle.
#[derive(Clone, Copy, Debug)]
enum IdleState {
    /// Bytes went in both directions.
    Silent,
    /// The client has ended its stream, the backend has not.
    HalfClosed,
    /// The backend does not read what the client has sent.
    Behind,
    /// The same, and the client has ended its stream.
    BehindHalfClosed,
    /// The same, and the client was reset.
    BehindReset,
}

/// A session through which bytes went both ways, and its peers.
async fn open(forwarders: &Forwarders, relay: Relay) -> (TcpStream, TcpStream) {
    let (mut player, client) = connected().await;
    let (backend, mut server) = connected().await;
    let session = crate::session(client, backend);
    tokio::spawn(forwarders.forward(relay, session, CancellationToken::new()));
    let mut word = [0; 5];
    player.write_all(b"hello").await.unwrap();
    server.read_exact(&mut word).await.unwrap();
    server.write_all(b"hello").await.unwrap();
    player.read_exact(&mut word).await.unwrap();
    (player, server)
}

/// Brings a session into this state, and returns the peers that are left.
async fn bring_to_idle(
    (mut player, server): (TcpStream, TcpStream),
    rest: IdleState,
) -> (Option<TcpStream>, TcpStream) {
    if matches!(
        rest,
        IdleState::Behind | IdleState::BehindHalfClosed | IdleState::BehindReset
    ) {
        while timeout(STILL, player.write(&[7; 65_536])).await.is_ok() {}
    }
    match rest {
        IdleState::Silent | IdleState::Behind => {}
        IdleState::HalfClosed | IdleState::BehindHalfClosed => player.shutdown().await.unwrap(),
        IdleState::BehindReset => {
            SockRef::from(&player)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            return (None, server);
        }
    }
    (Some(player), server)
}

/// The processor time of this process so far.
fn cost() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap())
}

/// epoll(7) reports sockets that ended or were reset, even if no events are requested. A
/// worker does not loop over such sockets, nor over those with a slow receiver.
#[test]
fn idle_sessions_use_no_processor_time() {
    in_own_process(
        "idle::idle_sessions_use_no_processor_time",
        watch_resting_sessions,
    );
}

fn watch_resting_sessions() {
    let forwarders = Forwarders::start(NonZeroUsize::MIN).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut sessions = Vec::new();
    for relay in [Relay::Copy, Relay::Splice, Relay::Adaptive] {
        for rest in [
            IdleState::Silent,
            IdleState::HalfClosed,
            IdleState::Behind,
            IdleState::BehindHalfClosed,
            IdleState::BehindReset,
        ] {
            sessions.push((rest, runtime.block_on(open(&forwarders, relay))));
        }
    }
    std::thread::sleep(HANDED_OVER);
    let resting: Vec<_> = sessions
        .into_iter()
        .map(|(rest, peers)| runtime.block_on(bring_to_idle(peers, rest)))
        .collect();
    let before = cost();
    std::thread::sleep(WATCHED);
    let cost = cost() - before;
    assert!(cost <= COST_MAX, "{cost:?}");
    drop(resting);
}
