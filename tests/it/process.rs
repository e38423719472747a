//! The program itself: its log, its signals, its exit codes.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::program::Program;
use crate::support::wire::{frame, handshake, login_success};
use crate::support::{FakeBackend, FakeClient, Peer, server, within, write_config};

/// A session is logged in one line: server, mode, reason, duration and exact counts. A name
/// that a peer has chosen cannot add lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_logged_in_one_line() {
    for (mode, relay) in [("passthrough", "copy"), ("zero_copy", "splice")] {
        let backend = FakeBackend::start().await;
        let mut program = Program::start("", &[("a", server(mode, "*", backend.address, ""))]);
        let proxy = program.address().await;
        let host = "evil reason=ok\u{1b}[31m\nhost";
        let mut client = FakeClient::login(proxy, host, "a\u{202e}\"b\r\n").await;
        let (mut peer, _, _) = backend.accept_login().await;
        client.send(&[1; 1000]).await;
        peer.bytes(1000).await;
        peer.send(&[2; 5000]).await;
        client.bytes(5000).await;
        drop(peer);
        client.expect_end().await;
        drop(client);

        let line = program.line("session ended").await;
        let sent = handshake(47, host, 25565, 2).len()
            + frame(0, &crate::support::wire::string("a\u{202e}\"b\r\n")).len()
            + 1000;
        assert_eq!(line["server"], "a");
        assert_eq!(line["mode"], mode);
        assert_eq!(line["relay"], relay);
        assert_eq!(
            (&line["reason"], &line["by"]),
            (&"closed".into(), &"backend".into())
        );
        assert_eq!(line["serverbound_bytes"], sent);
        assert_eq!(line["clientbound_bytes"], 5000);
        assert!(line["duration_ms"].is_u64());
        for field in ["host", "player"] {
            let text = line[field].as_str().unwrap();
            assert!(text.chars().all(|c| c.is_ascii_graphic()), "{text:?}");
        }
    }
}

/// The line of a session that had to copy although it should splice says so: an urgent byte
/// of TCP cannot be spliced. The line of a session that spliced does not.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_copied_instead_of_spliced_is_logged() {
    for is_urgent in [false, true] {
        let backend = FakeBackend::start().await;
        let mut program =
            Program::start("", &[("a", server("zero_copy", "*", backend.address, ""))]);
        let mut client = FakeClient::login(program.address().await, "x", "Alice").await;
        let (mut peer, _, _) = backend.accept_login().await;
        // The relay has begun when this has come.
        peer.send(b"hello").await;
        client.bytes(5).await;
        if is_urgent {
            let socket = socket2::SockRef::from(&client.stream);
            socket.send_out_of_band(b"!").unwrap();
        }
        client.send(b"after").await;
        peer.bytes(5).await;
        drop(client);
        peer.expect_end().await;
        drop(peer);
        let line = program.line("session ended").await;
        let expected = if is_urgent {
            true.into()
        } else {
            serde_json::Value::Null
        };
        assert_eq!(line["degraded"], expected, "{line}");
    }
}

/// The log line about a refusal by the rate limit names the key, so that operators of large
/// networks behind one address find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_names_its_key() {
    let backend = FakeBackend::start().await;
    for (intent, key) in [(1, "status_max"), (2, "max_connections")] {
        let mut program = Program::start(
            &format!("[rate_limit]\nlimit_loopback = true\n{key} = 1"),
            &[("a", server("passthrough", "*", backend.address, ""))],
        );
        let proxy = program.address().await;
        for _ in 0..2 {
            let mut client = FakeClient::connect(proxy).await;
            client.send(&handshake(47, "x", 25565, intent)).await;
        }
        let line = program.line("refused").await;
        assert_eq!(line["reason"], "rate_limit");
        assert_eq!(line["key"], format!("rate_limit.{key}"));
    }
}

/// A dropped tail of the host field is logged once for each server, with the key that
/// decides about it. Kept tails and markers of mod loaders are not logged.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_tail_is_reported_once() {
    let backend = FakeBackend::start().await;
    let at = |domain: &str, more: &str| server("zero_copy", domain, backend.address, more);
    let mut program = Program::start(
        "",
        &[
            ("drop", at("drop.test", "")),
            ("keep", at("keep.test", "host_tail = \"keep\"")),
            (
                "identify",
                at("identify.test", "forwarding_mode = \"bungeecord\""),
            ),
            ("other", at("other.test", "")),
        ],
    );
    let proxy = program.address().await;
    program.line("ready").await;
    let tail = "\0^Floodgate^secret";
    let mut reported = Vec::new();
    for host in [
        "drop.test\0FML3\0".to_owned(),
        format!("keep.test{tail}"),
        format!("identify.test{tail}"),
        format!("drop.test{tail}"),
        format!("drop.test{tail}"),
        format!("other.test{tail}\0FML3\0"),
    ] {
        let client = FakeClient::login(proxy, &host, "Alice").await;
        let (peer, hello, _) = backend.accept_login().await;
        let is_kept = hello.host.contains("Floodgate");
        assert_eq!(is_kept, host.starts_with("keep"), "{:?}", hello.host);
        drop((client, peer));
        loop {
            let line = program.line_with("").await;
            assert!(!line.to_string().contains("secret"));
            if line["message"] == "session ended" {
                break;
            }
            reported.push((line["server"].clone(), line["key"].clone()));
        }
    }
    let expected = [
        ("identify", "forwarding_mode"),
        ("drop", "host_tail"),
        ("other", "host_tail"),
    ];
    let expected = expected.map(|(server, key)| (server.into(), key.into()));
    assert_eq!(reported, expected);
}

/// A flood of refusals is logged in a few lines with a number, and does not hide refusals
/// for another reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_logged_in_a_few_lines() {
    let backend = FakeBackend::start().await;
    let mut program = Program::start(
        "",
        &[(
            "a",
            server(
                "passthrough",
                "play.example.com",
                backend.address,
                "ip_filter = { whitelist = [\"192.0.2.0/24\"] }",
            ),
        )],
    );
    let proxy = program.address().await;
    for _ in 0..60 {
        let mut client = FakeClient::login(proxy, "scanner.example.com", "x").await;
        FakeClient::kick(&mut client).await;
    }
    let mut player = FakeClient::login(proxy, "play.example.com", "x").await;
    FakeClient::kick(&mut player).await;
    drop(player);
    program.signal(Signal::SIGTERM);
    let mut refused = std::collections::BTreeMap::<String, u32>::new();
    while let Some(line) = within("the log", program.log.next_line()).await.unwrap() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["fields"]["message"] == "refused" {
            let reason = line["fields"]["reason"].as_str().unwrap();
            *refused.entry(reason.to_owned()).or_default() += 1;
        }
    }
    let expected = [("ip_filter", 1), ("unknown_domain", 10)];
    assert!(
        refused.iter().map(|(k, v)| (k.as_str(), *v)).eq(expected),
        "{refused:?}"
    );
}

/// After the first signal sessions continue, new clients are not accepted, and the process
/// ends with the last session.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains() {
    let backend = FakeBackend::start().await;
    let mut program = Program::start("", &[("a", server("zero_copy", "*", backend.address, ""))]);
    let proxy = program.address().await;
    let mut client = FakeClient::login(proxy, "x", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    program.signal(Signal::SIGTERM);
    program
        .line("draining: no new connections; a second signal ends it at once")
        .await;
    within("the listener to close", async {
        while tokio::net::TcpStream::connect(proxy).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    client.send(b"still here").await;
    assert_eq!(peer.bytes(10).await, b"still here");
    drop((client, peer));
    assert_eq!(program.exit_code().await, Some(0));
}

/// A second signal ends the process at once, with the exit code of that signal. The session
/// is still logged.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_the_process() {
    for (second, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let backend = FakeBackend::start().await;
        let mut program = Program::start(
            "",
            &[("a", server("passthrough", "*", backend.address, ""))],
        );
        let proxy = program.address().await;
        let mut client = FakeClient::login(proxy, "x", "Alice").await;
        let (_peer, _, _) = backend.accept_login().await;
        program.signal(Signal::SIGINT);
        program
            .line("draining: no new connections; a second signal ends it at once")
            .await;
        program.signal(second);
        assert_eq!(program.line("session ended").await["reason"], "stopped");
        client.expect_end().await;
        assert_eq!(program.exit_code().await, Some(code));
    }
}

/// After the drain time, sessions are ended, and the process ends with exit code 0.
#[tokio::test(flavor = "multi_thread")]
async fn the_drain_time_is_bounded() {
    let backend = FakeBackend::start().await;
    let mut program = Program::start(
        "drain_timeout = \"200ms\"",
        &[("a", server("zero_copy", "*", backend.address, ""))],
    );
    let proxy = program.address().await;
    let mut client = FakeClient::login(proxy, "x", "Alice").await;
    let (_peer, _, _) = backend.accept_login().await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.line("session ended").await["reason"], "stopped");
    client.expect_end().await;
    assert_eq!(program.exit_code().await, Some(0));
}

/// With errors in the configuration the process ends with exit code 1, and the errors have
/// file and line.
#[tokio::test(flavor = "multi_thread")]
async fn errors_in_the_configuration_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_config(
        folder.path(),
        "",
        &[("a", "domains = [\"x\"]\nadresses = [\"a\"]\n".to_owned())],
    );
    let output = Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(folder.path().join("infrarust.toml"))
        .output();
    let output = within("the exit", output).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("unknown-key") && text.contains("a.toml:2:1"),
        "{text}"
    );
    assert!(text.contains("the proxy was not started"), "{text}");
}

/// A port that is in use is an error with its address, and exit code 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let taken = FakeBackend::start().await;
    let mut program = Program::start_with(
        &format!("bind = \"{}\"", taken.address),
        &[("a", server("passthrough", "*", taken.address, ""))],
        |command| {
            command.stderr(Stdio::piped());
        },
    );
    let mut text = String::new();
    let mut stderr = program.child.stderr.take().unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut text)
        .await
        .unwrap();
    assert!(
        text.contains(&format!("cannot listen on {}", taken.address)),
        "{text}"
    );
    assert_eq!(program.exit_code().await, Some(1));
}

/// systemd is notified when the proxy is ready, around each reload, also a
/// refused one, and when it stops.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_notified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let backend = FakeBackend::start().await;
    let mut program = Program::start_with(
        "",
        &[("a", server("passthrough", "*", backend.address, ""))],
        |command| {
            command.env("NOTIFY_SOCKET", &path);
        },
    );
    let notification = async || {
        let mut bytes = [0; 256];
        let length = within("a notification", socket.recv(&mut bytes))
            .await
            .unwrap();
        String::from_utf8(bytes[..length].to_vec())
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(notification().await, "READY=1");
    let mut before = 0;
    for global in ["", "nonsense"] {
        let config = program.folder.path().join("infrarust.toml");
        std::fs::write(config, global).unwrap();
        program.signal(Signal::SIGHUP);
        let reloading = notification().await;
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let at: u64 = at.unwrap_or_else(|| panic!("{reloading}")).parse().unwrap();
        assert!(at > before, "{at} after {before}");
        before = at;
        assert_eq!(notification().await, "READY=1");
    }
    program.signal(Signal::SIGTERM);
    assert_eq!(notification().await, "STOPPING=1");
    assert_eq!(program.exit_code().await, Some(0));
}

/// Words of other programs for levels and targets neither silence the log nor prevent the
/// start. Parts that cannot be used are reported, and an explicit level is obeyed.
#[tokio::test(flavor = "multi_thread")]
async fn no_filter_silences_the_log_by_mistake() {
    let cases: [(&[&str], Option<&str>, &str); 8] = [
        (&[], Some(""), "listening"),
        (&[], Some("INFO"), "listening"),
        (&["-l", "verbose"], Some("off"), "listening"),
        (&["-l", "loud"], None, "the log level `loud` is not known"),
        (
            &[],
            Some("infrarust=loud"),
            "the log filter `infrarust=loud` is not used",
        ),
        (
            &[],
            Some("infrarust_core=debug,infrarust_proxy=info"),
            "the log filter `infrarust_core=debug` names a part of Infrarust v2",
        ),
        (
            &[],
            Some("velocity=trace"),
            "the log filter `velocity=trace` concerns no line",
        ),
        (&[], Some("plugin::x=error"), "listening"),
    ];
    for (args, variable, expected) in cases {
        let mut program = Program::start_with("", &[], |command| {
            command.args(args);
            if let Some(filter) = variable {
                command.env("RUST_LOG", filter);
            }
        });
        program.line_with(expected).await;
        if expected != "listening" {
            program.line("listening").await;
        }
    }
    // From `warning` on, `info` is not shown: the first line is about the filter.
    let mut program = Program::start_with("", &[], |command| {
        command.args(["-l", "warning,loud"]);
    });
    let first = within("a line", program.log.next_line()).await;
    let first = first.unwrap().unwrap();
    assert!(first.contains("loud"), "{first}");
    program.signal(Signal::SIGTERM);
    let rest = within("the end of the log", async {
        let mut rest = String::new();
        while let Some(line) = within("a line", program.log.next_line()).await.unwrap() {
            rest.push_str(&line);
        }
        rest
    })
    .await;
    assert!(!rest.contains("INFO"), "{rest}");
}

/// A socket that the parent has opened is used instead of `bind`.
#[tokio::test(flavor = "multi_thread")]
async fn an_inherited_socket_is_used() {
    let backend = FakeBackend::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_config(
        folder.path(),
        "",
        &[("a", server("passthrough", "*", backend.address, ""))],
    );
    // The shell passes the socket on as descriptor 3 and knows its own PID,
    // which stays the same across `exec`.
    let mut child = Command::new("sh")
        .arg("-c")
        .arg("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" -c \"$1\" 3<&0 0</dev/null")
        .arg(env!("CARGO_BIN_EXE_infrarust"))
        .arg(folder.path().join("infrarust.toml"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _client = FakeClient::login(address, "x", "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, "x");
    child.kill().await.unwrap();
}

/// An inherited socket that does not listen is refused, because it can never accept a
/// connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_inherited_socket_must_listen() {
    let backend = FakeBackend::start().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_config(
        folder.path(),
        "",
        &[("a", server("passthrough", "*", backend.address, ""))],
    );
    let output = Command::new("sh")
        .arg("-c")
        .arg("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" -c \"$1\" 3<&0 0</dev/null")
        .arg(env!("CARGO_BIN_EXE_infrarust"))
        .arg(folder.path().join("infrarust.toml"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(
            socket2::SockRef::from(&socket).try_clone().unwrap(),
        )))
        .kill_on_drop(true)
        .output();
    let output = within("the exit", output).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("does not listen"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

/// A client that leaves before the backend has shown whether it authenticates is logged as
/// a session.
#[tokio::test(flavor = "multi_thread")]
async fn leaving_during_the_check_is_logged() {
    let backend = FakeBackend::start().await;
    let mut program = Program::start(
        "",
        &[("a", server("server_only", "*", backend.address, ""))],
    );
    let proxy = program.address().await;
    let client = FakeClient::login(proxy, "x", "Alice").await;
    let _session = backend.accept_login().await;
    drop(client);
    let line = program.line("session ended").await;
    assert_eq!(
        (&line["reason"], &line["by"]),
        (&"closed".into(), &"client".into())
    );
}

/// The program with this limit of descriptors.
fn with_descriptors(limit: u32, global: &str, servers: &[(&str, String)]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let global = format!("{global}\n[log]\nformat = \"json\"");
    write_config(folder.path(), &global, servers);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {limit}; exec \"$0\" -c \"$1\""))
        .arg(env!("CARGO_BIN_EXE_infrarust"))
        .arg(folder.path().join("infrarust.toml"))
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stdout.take().unwrap()).lines();
    Program { child, log, folder }
}

/// Players who have used up all descriptors.
struct Crowd {
    clients: Vec<Peer>,
    /// Their connections at the backend.
    peers: Vec<Peer>,
    /// Whether the last player was not even accepted.
    is_paused: bool,
}

/// Players log in, one after another, until one is refused or not accepted.
async fn crowd(program: &mut Program, proxy: SocketAddr, backend: &FakeBackend) -> Crowd {
    let (mut clients, mut peers) = (Vec::new(), Vec::new());
    let mut is_paused = false;
    for _ in 0..40 {
        let mut client = FakeClient::login(proxy, "x", "Mallory").await;
        let is_in = tokio::select! {
            peer = backend.accept() => { peers.push(peer); true }
            () = client.answered() => false,
            _ = program.line("accepting pauses") => { is_paused = true; false }
        };
        clients.push(client);
        if !is_in {
            break;
        }
    }
    Crowd {
        clients,
        peers,
        is_paused,
    }
}

/// Without free descriptors no player gets past the check of `server_only`: a login that
/// cannot be watched is refused.
#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_the_guard_lets_no_player_in() {
    // A guarded session takes three descriptors, so that one of three numbers
    // of silent connections lets exactly the third be missing.
    for silent in 0..3 {
        let backend = FakeBackend::start().await;
        let servers = [("a", server("server_only", "*", backend.address, ""))];
        let mut program = with_descriptors(64, "", &servers);
        let proxy = program.address().await;
        let mut held = Vec::new();
        for _ in 0..silent {
            held.push(FakeClient::connect(proxy).await);
        }
        let crowd = crowd(&mut program, proxy, &backend).await;
        // The backend lets everybody in, but not before all have come.
        let let_in = |mut peer: Peer| async move {
            peer.send(&login_success("Mallory")).await;
            peer.rest().await;
        };
        for peer in crowd.peers {
            tokio::spawn(let_in(peer));
        }
        tokio::spawn(async move {
            loop {
                tokio::spawn(let_in(backend.accept().await));
            }
        });
        for mut client in crowd.clients {
            assert_eq!(client.frame().await.0, 0, "not a disconnect");
        }
    }
}

/// Without free descriptors, accepting pauses and recovers, with a log line, and connected
/// players play on.
#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_is_survived() {
    let backend = FakeBackend::start().await;
    let servers = [("a", server("zero_copy", "*", backend.address, ""))];
    let mut program = with_descriptors(48, "", &servers);
    let proxy = program.address().await;

    let mut client = FakeClient::login(proxy, "x", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    let others = crowd(&mut program, proxy, &backend).await;
    // Sessions take two descriptors each: a silent connection takes the last one.
    let silent = [
        FakeClient::connect(proxy).await,
        FakeClient::connect(proxy).await,
    ];
    if !others.is_paused {
        program.line("accepting pauses").await;
    }
    client.send(b"still here").await;
    assert_eq!(peer.bytes(10).await, b"still here");
    drop((others, silent, client, peer));
    // What waited in the backlog is accepted first, and finds its client gone.
    let _newcomer = FakeClient::login(proxy, "y", "Carol").await;
    within("the newcomer", async {
        loop {
            // Length, packet id, protocol and the host's length stand before it.
            if backend.accept().await.up_to(5).await.get(4) == Some(&b'y') {
                return;
            }
        }
    })
    .await;
}

/// Sets a soft limit of a running process. Root is not bound by all of them.
fn limit(program: &Program, user: Option<u32>, limit: &str) {
    let pid = program.child.id().unwrap().to_string();
    let mut set = std::process::Command::new("prlimit");
    set.args(["--pid", &pid, limit]);
    if let Some(user) = user {
        std::os::unix::process::CommandExt::uid(&mut set, user);
    }
    assert!(set.status().unwrap().success());
}

/// A user who has no other process and is subject to limits; `None` without the right to
/// change the user.
fn user_of_its_own() -> Option<u32> {
    let is_root = nix::unistd::geteuid().is_root();
    is_root.then(|| 0x4000_0000 + std::process::id())
}

/// If the system has too few threads, the start ends with an error and its solution. It
/// neither panics nor waits for a thread.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_threads_is_refused() {
    // Another user than that of other tests, whose processes count.
    let Some(user) = user_of_its_own().map(|user| user + 0x1000_0000) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("infrarust");
    std::fs::copy(env!("CARGO_BIN_EXE_infrarust"), &own).unwrap();
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), anybody).unwrap();
    let config = folder.path().join("infrarust.toml");
    std::fs::write(&config, "bind = [\"127.0.0.1:0\"]\nworker_threads = 2\n").unwrap();
    std::fs::create_dir(folder.path().join("servers")).unwrap();
    let one = "domains = [\"*\"]\naddresses = [\"127.0.0.1:1\"]\n";
    std::fs::write(folder.path().join("servers/a.toml"), one).unwrap();
    for threads in [1, 2, 3, 4, 6, 8] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={threads}")).arg(&own);
        command.arg("-c").arg(&config).uid(user).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let refused = within("the refusal", command.output()).await.unwrap();
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{threads}: {text}");
        let is_reported = text.contains("thread") && !text.contains("panicked");
        assert!(is_reported, "{threads}: {text}");
    }
}

/// If the reader of standard error is stuck, signals still end the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_of_standard_error_delays_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    // Far more than a pipe takes.
    let odd = "domains = [\"*\"]\naddresses = [\"127.0.0.1:1\"]\nodd = 1\n".to_owned();
    let servers: Vec<_> = (0..2000).map(|n| (format!("s{n}"), odd.clone())).collect();
    let servers: Vec<_> = servers
        .iter()
        .map(|(n, text)| (&n[..], text.clone()))
        .collect();
    write_config(folder.path(), "", &servers);
    let mut command = Command::new(env!("CARGO_BIN_EXE_infrarust"));
    command.arg("-c").arg(folder.path().join("infrarust.toml"));
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.as_mut().unwrap();
    let mut byte = [0];
    within(
        "an error",
        tokio::io::AsyncReadExt::read_exact(stderr, &mut byte),
    )
    .await
    .unwrap();
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let ended = within("the end", child.wait()).await.unwrap();
    assert!(ended.code().is_some(), "{ended:?}");
}

/// In a process that may not start threads any more, and in one that may not open files,
/// reloads are refused or take effect, and the process continues. Changes from that time
/// are in force once the limit is gone. Players are served all the time, and the end is in
/// order.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn reloads_survive_limits_of_the_process() {
    for (tight, wide) in [
        ("--nproc=1:", "--nproc=500:"),
        ("--nofile=4:", "--nofile=500:"),
    ] {
        let backend = FakeBackend::start().await;
        let of = |host: &str| server("zero_copy", host, backend.address, "");
        let user = user_of_its_own();
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("infrarust");
        std::fs::copy(env!("CARGO_BIN_EXE_infrarust"), &own).unwrap();
        let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), anybody).unwrap();
        let mut program = Program::start_with("", &[("a", of("a.example.com"))], |command| {
            let config = command.as_std().get_args().nth(1).unwrap().to_owned();
            let place = std::path::Path::new(&config).parent().unwrap();
            let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(place, anybody).unwrap();
            if let Some(user) = user {
                let mut other = Command::new(&own);
                other.arg("-c").arg(&config).uid(user);
                other.stdout(Stdio::piped());
                other.stderr(Stdio::null());
                other.kill_on_drop(true);
                *command = other;
            }
        });
        let proxy = program.address().await;
        program.line("ready").await;
        program.signal(Signal::SIGHUP);
        program.line("reload: nothing has changed").await;
        // Threads that a reload has left behind may do the next one.
        limit(&program, user, tight);
        let edited = program.folder.path().join("servers/b.toml");
        std::fs::write(&edited, of("b.example.com")).unwrap();
        for _ in 0..3 {
            program.signal(Signal::SIGHUP);
            program
                .line_among(&["reload refused", "configuration reloaded", "reload:"])
                .await;
        }
        limit(&program, user, wide);
        within("the edit to be in force", async {
            loop {
                let mut client = FakeClient::login(proxy, "b.example.com", "Bob").await;
                let is_in = tokio::select! {
                    _ = backend.accept() => true,
                    () = client.answered() => false,
                };
                if is_in {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        let later = program.folder.path().join("servers/c.toml");
        std::fs::write(later, of("c.example.com")).unwrap();
        program.line("configuration reloaded").await;
        program.signal(Signal::SIGTERM);
        assert_eq!(program.exit_code().await, Some(0), "{tight}");
    }
}

/// If the reader of the log is stuck, players are served and the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_log_delays_neither_players_nor_the_end() {
    let backend = FakeBackend::start().await;
    let mut program = Program::start_with(
        "",
        &[("a", server("passthrough", "*", backend.address, ""))],
        |command| {
            command.args(["-l", "debug"]);
        },
    );
    // From here on the log is not read, and the connections fill the pipe and the queue
    // before it.
    let proxy = program.address().await;
    for _ in 0..10_000 {
        let mut client = FakeClient::connect(proxy).await;
        client.send(&[0]).await;
    }
    let mut client = FakeClient::login(proxy, "x", "Alice").await;
    let (mut peer, _, _) = backend.accept_login().await;
    peer.send(b"in").await;
    assert_eq!(client.bytes(2).await, b"in");
    drop((client, peer));
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code().await, Some(0));
}
