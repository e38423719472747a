//! Bytes of a spliced session never enter user space: the kernel's own account.
//!
//! This binary runs itself under `strace` as a relay and nothing else; the
//! peers stay in the parent, so every read and write that the trace shows is
//! the relay's, or the runtime's own few bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use infrarust::config::model::Relay;
use infrarust::forward::{Counters, End, Forwarder, Forwarders, Limits, Session, Side};
use tokio_util::sync::CancellationToken;

use crate::alone::blocking_alone;

/// Names the peers' address to the child; absent in the parent.
const PEERS: &str = "INFRARUST_TEST_PEERS";
/// Names the way of relaying to the child.
const RELAY: &str = "INFRARUST_TEST_RELAY";

/// What each side sends, in bytes.
const PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// By then a session is no longer young: a thread that relays has it.
const GROWN_UP: Duration = Duration::from_millis(500);

/// What a process reads and writes without any relay: libraries at its
/// start, files of `/proc`, wake-ups, the harness's own lines.
const BACKGROUND_BYTES: u64 = 256 * 1024;

/// Every call that brings bytes between a descriptor and user space, and `splice`.
const TRACED: &str = "trace=read,readv,pread64,preadv,preadv2,recvfrom,recvmsg,recvmmsg,\
                      write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,\
                      vmsplice,tee,sendfile,splice";

/// The relay, when the test below runs it; nothing by itself.
#[test]
fn child_relays_one_session() {
    let (Ok(peers), Ok(relay)) = (std::env::var(PEERS), std::env::var(RELAY)) else {
        return;
    };
    let peers: SocketAddr = peers.parse().unwrap();
    let relay = [Relay::Copy, Relay::Splice, Relay::Adaptive]
        .into_iter()
        .find(|known| known.name() == relay)
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        // In turn, so that the parent knows which is which.
        let client = tokio::net::TcpStream::connect(peers).await.unwrap();
        let backend = tokio::net::TcpStream::connect(peers).await.unwrap();
        let session = Session {
            client,
            backend,
            keepalive: crate::KEEPALIVE,
            limits: Limits {
                read: None,
                write: None,
                half_close: Duration::from_secs(60),
            },
            counters: Arc::new(Counters::default()),
            stop: CancellationToken::new(),
        };
        let forwarder = Forwarders::start(NonZeroUsize::MIN).unwrap().select(relay);
        tokio::spawn(async move { forwarder.forward(session).await })
            .await
            .unwrap()
    });
    assert!(matches!(
        outcome.end,
        End::Closed(Side::Client | Side::Backend)
    ));
    assert!(!outcome.degraded);
}

/// Bytes by kind of call, and calls, of one session.
struct Moved {
    by_splice: u64,
    through_user_space: u64,
    splices: usize,
}

/// Relays one session, at whose ends the peers do this.
fn relay_under_strace(relay: Relay, peers: impl FnOnce(TcpStream, TcpStream)) -> Moved {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            TRACED,
            "-e",
            "signal=none",
            "-s",
            "0",
            "-o",
        ])
        .arg(trace.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "splice::child_relays_one_session"])
        .env(PEERS, listener.local_addr().unwrap().to_string())
        .env(RELAY, relay.name())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (player, _) = listener.accept().unwrap();
    let (server, _) = listener.accept().unwrap();
    peers(player, server);
    assert!(child.wait().unwrap().success());
    account(&std::fs::read_to_string(trace.path()).unwrap())
}

/// The payload both ways at once.
fn payloads(player: TcpStream, server: TcpStream) {
    std::thread::scope(|scope| {
        for socket in [player, server] {
            let sender = socket.try_clone().unwrap();
            scope.spawn(move || send(sender));
            scope.spawn(move || receive(socket));
        }
    });
}

/// Half of the payload through a young session, half when it is young no more.
fn send(mut socket: TcpStream) {
    let half = vec![5; PAYLOAD_BYTES / 2];
    socket.write_all(&half).unwrap();
    std::thread::sleep(GROWN_UP);
    socket.write_all(&half).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
}

fn receive(mut socket: TcpStream) {
    let mut received = 0;
    let mut buffer = [0; 65_536];
    loop {
        match socket.read(&mut buffer).unwrap() {
            0 => break,
            bytes => received += bytes,
        }
    }
    assert_eq!(received, PAYLOAD_BYTES);
}

/// Adds up what each call returned. A call that another thread interrupted in
/// the log stands as `<... splice resumed>` with its result.
fn account(trace: &str) -> Moved {
    let mut moved = Moved {
        by_splice: 0,
        through_user_space: 0,
        splices: 0,
    };
    for line in trace.lines() {
        // A call that was interrupted in the log has a second line, with its result.
        let is_done = !line.ends_with("<unfinished ...>");
        moved.splices += usize::from(line.contains("splice") && is_done);
        let Some((call, result)) = line.rsplit_once(" = ") else {
            continue;
        };
        let result = result.split_whitespace().next().unwrap_or_default();
        // Errors are negative and move nothing.
        let Ok(bytes) = result.parse::<u64>() else {
            continue;
        };
        // After the number of the thread.
        let call = call.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let call = call.trim_start_matches("<... ");
        if call.starts_with("splice") {
            moved.by_splice += bytes;
        } else {
            moved.through_user_space += bytes;
        }
    }
    moved
}

fn strace_works() -> bool {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// 8 MiB each way: into a pipe and out of it by `splice`, none of it by
/// anything else. The copying forwarder, measured the same way, shows that
/// the trace would tell.
#[test]
fn spliced_bytes_stay_in_the_kernel() {
    let _machine = blocking_alone();
    if !strace_works() {
        eprintln!("skipped: strace is not installed or may not trace here");
        return;
    }
    let payload = 2 * u64::try_from(PAYLOAD_BYTES).unwrap();
    let spliced = relay_under_strace(Relay::Splice, payloads);
    assert_eq!(spliced.by_splice, 2 * payload);
    assert!(
        spliced.through_user_space < BACKGROUND_BYTES,
        "{} bytes",
        spliced.through_user_space
    );
    let copied = relay_under_strace(Relay::Copy, payloads);
    assert_eq!(copied.by_splice, 0);
    assert!(copied.through_user_space >= 2 * payload);
}

/// A small message takes two calls, in and out of a pipe: nobody asks a third
/// time whether there is more.
#[test]
fn a_spliced_message_takes_two_calls() {
    const MESSAGES: usize = 200;
    /// Of its end, and of the other threads in the log.
    const OTHER_CALLS: usize = 20;
    let _machine = blocking_alone();
    if !strace_works() {
        eprintln!("skipped: strace is not installed or may not trace here");
        return;
    }
    let spliced = relay_under_strace(Relay::Splice, |mut player, mut server| {
        std::thread::sleep(GROWN_UP);
        let mut message = [7; 64];
        for _ in 0..MESSAGES {
            server.write_all(&message).unwrap();
            player.read_exact(&mut message).unwrap();
        }
    });
    let calls = spliced.splices;
    assert!(
        (2 * MESSAGES..2 * MESSAGES + OTHER_CALLS).contains(&calls),
        "{calls} calls for {MESSAGES} messages"
    );
}
