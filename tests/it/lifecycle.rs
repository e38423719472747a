//! The life of the process while plugins block it, and while another process takes over.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::net::UnixListener;

use crate::library::sample;
use crate::plugin_reload::{Live, until};
use crate::program::Program;
use crate::support::{FakeBackend, FakeClient, server, within};

/// The tables of plugins, all of which are the sample plugin, with these ids and settings.
fn plugins(settings: &[(&str, &str)]) -> String {
    let table = |(id, settings): &(&str, &str)| {
        let file = sample();
        format!("[plugins.{id}]\npath = {file:?}\n[plugins.{id}.config]\n{settings}\n")
    };
    settings.iter().map(table).collect()
}

/// A program with these plugins, and one server for all hosts.
fn program(backend: &FakeBackend, top: &str, settings: &[(&str, &str)]) -> Program {
    let servers = [("a", server("zero_copy", "*", backend.address, ""))];
    Program::start(&format!("{top}\n{}", plugins(settings)), &servers)
}

/// The content of a plugin's data folder.
fn data(program: &Program, id: &str) -> PathBuf {
    program.folder.path().join("plugins").join(id)
}

fn has_ended(program: &Program, id: &str) -> bool {
    data(program, id).join("ended").exists()
}

/// While plugins block every worker, commands are answered, the log names the blocking
/// plugins, and two signals end the process.
#[tokio::test(flavor = "multi_thread")]
async fn blocked_workers_delay_neither_commands_nor_signals() {
    let mut live = Live::start("tag = 'a'").await;
    let mut held = Vec::new();
    // As many as there are workers.
    for _ in 0..2 {
        let client = FakeClient::login(live.proxy, "held", "Hold").await;
        let reported = live.program.line_with("a worker has not come back").await;
        let address = reported["connection"].as_str().unwrap().to_owned();
        assert_eq!(address, client.stream.local_addr().unwrap().to_string());
        assert_eq!(
            (&reported["phase"], &reported["plugin"], &reported["hook"]),
            (&"login".into(), &"live".into(), &"login.decide".into())
        );
        held.push(client);
    }
    let list = live.command(&["list"]).await;
    assert!(list.contains("active, generation 1,"), "{list}");
    live.program.signal(Signal::SIGTERM);
    live.program.line_with("draining").await;
    live.program.signal(Signal::SIGINT);
    // Neither the plugins nor the time of a drain ends it.
    assert_eq!(live.program.exit_code().await, Some(130));
}

/// The log also reports when a blocked worker is free again.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_back_is_reported() {
    let mut live = Live::start("tag = 'a'").await;
    let _held = FakeClient::login(live.proxy, "held", "Hold").await;
    live.program.line_with("a worker has not come back").await;
    std::fs::write(live.data().join("open"), "").unwrap();
    let reported = live.program.line("a worker is back").await;
    assert_eq!(
        (&reported["phase"], &reported["plugin"]),
        (&"login".into(), &"live".into())
    );
    assert!(reported["held_ms"].as_u64().unwrap() >= 2000);
}

/// With all workers but one blocked until the end of the test, players of other servers are
/// served.
#[tokio::test(flavor = "multi_thread")]
async fn one_free_worker_serves_all_others() {
    let backend = FakeBackend::start().await;
    let mut program = program(&backend, "worker_threads = 4", &[("live", "tag = 'a'")]);
    let proxy = program.address().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(FakeClient::login(proxy, "held", "Hold").await);
        program.line_with("plugin `live` holds a worker").await;
    }
    for _ in 0..20 {
        let _client = FakeClient::login(proxy, "x", "Steve").await;
        let (_peer, hello, _) = backend.accept_login().await;
        assert_eq!(hello.host, "a.x");
    }
}

/// A signal ends a start that waits for a plugin, after the plugins that have started have
/// ended. A `SIGHUP` before it does not end the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_start() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let backend = FakeBackend::start().await;
        let settings = [
            ("first", "tag = 'a'\nend_ms = 500"),
            ("second", "tag = 'b'\nstart = 'hang'"),
        ];
        let mut program = program(&backend, "", &settings);
        let hangs = data(&program, "second").join("hangs");
        until("the plugin to hang", async || hangs.exists()).await;
        program.signal(Signal::SIGHUP);
        let asked = Instant::now();
        program.signal(signal);
        assert_eq!(program.exit_code().await, Some(0));
        let took = asked.elapsed();
        // The start of a plugin may take longer.
        assert!(took < Duration::from_secs(25), "{took:?}");
        assert!(has_ended(&program, "first"));
    }
}

/// A `SIGHUP` during the start causes a reload after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_during_the_start_reloads_afterwards() {
    let backend = FakeBackend::start().await;
    let mut program = program(&backend, "", &[("live", "tag = 'a'\nstart_ms = 300")]);
    let starts = data(&program, "live").join("starts");
    until("the plugin to start", async || starts.exists()).await;
    program.signal(Signal::SIGHUP);
    program.line("ready").await;
    program.line_with("reload: nothing has changed").await;
}

/// Every kind of stop waits for plugins: after a drain, after the drain time, during a
/// reload that waits for a plugin, and if another plugin keeps the proxy from starting.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_have_time_to_end() {
    let slow = "tag = 'a'\nend_ms = 3000";
    let backend = FakeBackend::start().await;

    let mut drained = program(&backend, "", &[("live", slow)]);
    drained.line("ready").await;
    drained.signal(Signal::SIGTERM);

    let mut cut = program(&backend, "drain_timeout = '100ms'", &[("live", slow)]);
    let proxy = cut.address().await;
    let _client = FakeClient::login(proxy, "x", "Steve").await;
    let _peer = backend.accept_login().await;
    cut.signal(Signal::SIGTERM);

    let mut live = Live::start(slow).await;
    live.write("", "", "tag = 'b'\nstart = 'again'");
    live.hangup();
    let hangs = live.data().join("hangs");
    until("the plugin to hang", async || hangs.exists()).await;
    live.program.signal(Signal::SIGTERM);

    let failing = [("live", slow), ("worse", "tag = 'b'\nstart = 'error'")];
    let mut failed = program(&backend, "", &failing);

    for (program, code) in [
        (&mut drained, 0),
        (&mut cut, 0),
        (&mut live.program, 0),
        (&mut failed, 1),
    ] {
        assert_eq!(program.exit_code().await, Some(code));
        assert!(has_ended(program, "live"));
    }
}

/// After a second signal the process does not wait for plugins.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_plugins() {
    let backend = FakeBackend::start().await;
    let mut program = program(&backend, "", &[("live", "tag = 'a'\nend_ms = 60000")]);
    program.line("ready").await;
    program.signal(Signal::SIGTERM);
    program.line_with("draining").await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code().await, Some(143));
}

/// Connections without a complete request do not delay the drain.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_delay_the_drain() {
    let backend = FakeBackend::start().await;
    let never = "handshake_timeout = '1h'\ndrain_timeout = '1h'";
    let mut program = program(&backend, never, &[]);
    let proxy = program.address().await;
    let mut silent = Vec::new();
    let hello = |intent| crate::support::wire::handshake(47, "x", 25565, intent);
    for words in [Vec::new(), hello(1), hello(2), vec![0xfe]] {
        let mut client = FakeClient::connect(proxy).await;
        client.send(&words).await;
        silent.push(client);
    }
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code().await, Some(0));
}

/// Runs another copy of the program with the files of a running one.
fn beside(other: &Program) -> tokio::process::Child {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(other.folder.path().join("infrarust.toml"))
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn reloads(folder: &Path) -> bool {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(folder.join("infrarust.toml"))
        .args(["plugin", "reload"])
        .output();
    within("a command", output).await.unwrap().status.success()
}

/// A proxy that starts while another one has the control socket gets it when the other one
/// drains, and keeps it when the other one has ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_passes_to_the_next_process() {
    let backend = FakeBackend::start().await;
    let mut old = program(&backend, "so_reuseport = true", &[]);
    let proxy = old.address().await;
    old.line("ready").await;
    let client = FakeClient::login(proxy, "x", "Steve").await;
    let session = backend.accept_login().await;
    let folder = old.folder.path().to_owned();
    let socket = folder.join("infrarust.sock");
    until("the first socket", async || socket.exists()).await;
    let mut new = beside(&old);
    old.signal(Signal::SIGTERM);
    old.line_with("draining").await;
    until("commands to reach the new one", async || {
        reloads(&folder).await
    })
    .await;
    drop((client, session));
    assert_eq!(old.exit_code().await, Some(0));
    assert!(reloads(&folder).await);
    // Its file was removed by somebody: it makes another one.
    std::fs::remove_file(&socket).unwrap();
    until("the socket to be created again", async || {
        reloads(&folder).await
    })
    .await;
    new.kill().await.unwrap();
    // A socket that was left behind is replaced.
    assert!(UnixListener::bind(&socket).is_err());
    let mut next = beside(&old);
    until("commands to reach the next one", async || {
        reloads(&folder).await
    })
    .await;
    next.kill().await.unwrap();
}
