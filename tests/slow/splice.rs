//! Bytes of a spliced session never enter user space, as the kernel's trace shows.
//!
//! This binary runs itself under `strace` as a relay and nothing else. The peers stay in
//! the parent, so every read and write in the trace belongs to the relay, or is one of the
//! runtime's own few bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Duration;

use infrarust::config::model::Relay;
use infrarust::forward::{End, Forwarders, Side};
use infrarust_test_support::library::build;
use infrarust_test_support::program::Program;
use infrarust_test_support::{FakeBackend, FakeClient, PATIENCE, blocking_until, server};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use crate::alone::blocking_alone;

/// The variable with the peers' addresses for the child; unset in the parent.
const PEERS: &str = "INFRARUST_TEST_PEERS";
/// The variable with the kind of relay for the child.
const RELAY: &str = "INFRARUST_TEST_RELAY";

/// The bytes that each side sends.
const PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// After this time a session has been handed over to a relay thread.
const HANDED_OVER: Duration = Duration::from_millis(500);

/// The bytes that a process reads and writes without a relay: libraries at its start, files
/// of `/proc`, wake-ups, lines of the test harness.
const BACKGROUND_BYTES: u64 = 256 * 1024;

/// Every call that moves bytes between a descriptor and user space, and `splice`.
const TRACED: &str = "trace=read,readv,pread64,preadv,preadv2,recvfrom,recvmsg,recvmmsg,\
                      write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,\
                      vmsplice,tee,sendfile,splice";

/// The relay, if the test below runs it. As a normal test it does nothing.
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
        let session = crate::session(client, backend);
        let forwarders = Forwarders::start(NonZeroUsize::MIN).unwrap();
        tokio::spawn(forwarders.forward(relay, session, CancellationToken::new()))
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

/// Relays one session with these peers.
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
    listener.set_nonblocking(true).unwrap();
    let [player, server] = [(); 2].map(|()| {
        let mut accepted = None;
        blocking_until("a connection of the relay", || {
            assert_eq!(child.try_wait().unwrap(), None, "the relay has ended");
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    });
    peers(player, server);
    let mut status = None;
    blocking_until("the end of the relay", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    account(&std::fs::read_to_string(trace.path()).unwrap())
}

/// The payload in both directions at once.
fn payloads(player: TcpStream, server: TcpStream) {
    std::thread::scope(|scope| {
        for socket in [player, server] {
            let sender = socket.try_clone().unwrap();
            scope.spawn(move || send(sender));
            scope.spawn(move || receive(socket));
        }
    });
}

/// Sends half of the payload at once, and the other half after the handover.
fn send(mut socket: TcpStream) {
    let half = vec![5; PAYLOAD_BYTES / 2];
    socket.write_all(&half).unwrap();
    std::thread::sleep(HANDED_OVER);
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

/// Adds up the results of the calls. A call that was interrupted in the log by another
/// thread appears as `<... splice resumed>` with its result.
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

/// 8 MiB in each direction go into a pipe and out of it by `splice`, and no byte by any
/// other call. The copying forwarder, measured in the same way, proves that the trace would
/// show it.
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

/// A small message takes two calls, into a pipe and out of it. There is no third call to
/// ask for more.
#[test]
fn a_spliced_message_takes_two_calls() {
    const MESSAGES: usize = 200;
    /// The calls at the end of the session, and those of other threads in the log.
    const OTHER_CALLS: usize = 20;
    let _machine = blocking_alone();
    if !strace_works() {
        eprintln!("skipped: strace is not installed or may not trace here");
        return;
    }
    let spliced = relay_under_strace(Relay::Splice, |mut player, mut server| {
        std::thread::sleep(HANDED_OVER);
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

/// Starts the program under `strace`, which is its grandchild and writes to `trace`.
fn under_strace(command: &mut tokio::process::Command, trace: &std::path::Path) {
    let program = command.as_std();
    let mut strace = tokio::process::Command::new("strace");
    strace
        .args(["-D", "-f", "-q", "-yy", "-e", TRACED, "-e", "signal=none"])
        .args(["-s", "0", "-o"])
        .arg(trace)
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(program.get_current_dir().unwrap())
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    *command = strace;
}

/// The bytes between connections and user space, and those of `splice`. A call that was
/// interrupted in the log names its descriptor only in its first line.
fn account_of_sockets(trace: &str) -> Moved {
    let mut moved = Moved {
        by_splice: 0,
        through_user_space: 0,
        splices: 0,
    };
    let mut interrupted = std::collections::HashMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // Pipes of a spliced call are named, too.
        let mut is_socket = call.contains("<TCP:") || call.contains("<socket:");
        if call.ends_with("<unfinished ...>") {
            interrupted.insert(thread.to_owned(), is_socket);
            continue;
        }
        if call.starts_with("<... ") {
            is_socket = interrupted.remove(thread).unwrap_or(false);
        }
        let result = call.rsplit_once(" = ").map_or("", |(_, result)| result);
        let Ok(bytes) = result.split(' ').next().unwrap_or_default().parse::<u64>() else {
            continue;
        };
        match call.trim_start_matches("<... ").starts_with("splice") {
            true => moved.by_splice += bytes,
            false if is_socket => moved.through_user_space += bytes,
            false => {}
        }
    }
    moved
}

/// The program with a plugin that rewrites the host of a `zero_copy` server: the backend
/// gets the other host, and no byte after it enters the program.
#[test]
fn bytes_after_a_rewritten_host_stay_in_the_kernel() {
    /// The handshake and the login start, read and written.
    const OPENING_BYTES_MAX: u64 = 1024;
    let _machine = blocking_alone();
    if !strace_works() {
        eprintln!("skipped: strace is not installed or may not trace here");
        return;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let rewrite = build("plugins/domain-rewrite", "domain_rewrite");
    let global = format!(
        "[plugins.domain-rewrite]\npath = {rewrite:?}\n[plugins.domain-rewrite.config]\n\
         rules = [{{ from = \"*.mission\", to = \"$1.internal\" }}]\n"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let backend = FakeBackend::start().await;
        let file = server("zero_copy", "a.mission", backend.address, "");
        let mut program = Program::start_with(&global, &[("a", file)], |command| {
            under_strace(command, trace.path());
        });
        let address = program.address().await;
        let client = FakeClient::login(address, "a.mission", "player").await;
        let (mut peer, hello, _) = backend.accept_login().await;
        assert_eq!(hello.host, "a.internal");
        let mut client = client;
        peer.send(&[1]).await;
        client.bytes(1).await;
        let [player, peer] = [client, peer].map(|peer| {
            let stream = peer.stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            stream
        });
        tokio::task::spawn_blocking(|| payloads(player, peer))
            .await
            .unwrap();
        program.line("session ended").await;
        program.signal(Signal::SIGTERM);
        program.exit_code().await;
    });
    // The tracer ends behind the program.
    let end = std::time::Instant::now() + PATIENCE;
    let said = loop {
        let said = std::fs::read_to_string(trace.path()).unwrap();
        if said.contains("+++ exited with 0 +++") && said.ends_with("+++\n") {
            break said;
        }
        assert!(std::time::Instant::now() < end, "the trace does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    let moved = account_of_sockets(&said);
    let payload = 2 * u64::try_from(PAYLOAD_BYTES).unwrap();
    assert!(moved.by_splice >= 2 * payload, "{}", moved.by_splice);
    let opening = moved.through_user_space;
    assert!(
        opening > 0 && opening < OPENING_BYTES_MAX,
        "{opening} bytes"
    );
}
