//! Proofs for the keys of the global file.

use std::io;
use std::process::Stdio;
use std::sync::atomic::Ordering;

use infrarust::config::{LoadOptions, load};
use infrarust::listener;
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::channel;
use super::docker;
use super::intercepted;
use super::witness::{
    HOST, LATE, NO_SERVER, SOON, TOO_FAST, Table, Traced, UNREACHABLE, file, final_text, gone,
    host_seen, host_seen_with_variable, is_answered, motd_key, one, refusal, refused, shown,
    sooner, token,
};
use super::{Proofs, effect, server_file};
use crate::program::Program;
use crate::support::wire::{frame, handshake, login_start};
use crate::support::{FakeBackend, FakeClient, Peer, TestProxy, server, within, write_config};

pub fn proofs() -> Proofs {
    let mut proofs = vec![
        effect("bind", bind()),
        effect("servers_dir", servers_dir()),
        effect("max_connections", max_connections()),
        effect("connect_timeout", connect_timeout()),
        effect("handshake_timeout", handshake_timeout()),
        effect("drain_timeout", drain_timeout()),
        effect("receive_proxy_protocol", receive_proxy_protocol()),
        effect("proxy_protocol_trusted", proxy_protocol_trusted()),
        effect("worker_threads", worker_threads()),
        effect("so_reuseport", so_reuseport()),
        effect("unknown_domain_behavior", unknown_domain_behavior()),
        effect("rate_limit.enabled", rate_limit_enabled()),
        effect("rate_limit.max_connections", rate_limit_max_connections()),
        effect("rate_limit.window", rate_limit_window()),
        effect("rate_limit.status_max", rate_limit_status_max()),
        effect("rate_limit.status_window", rate_limit_status_window()),
        effect("rate_limit.limit_loopback", rate_limit_limit_loopback()),
        effect("status_cache.ttl", status_cache_ttl()),
        effect("status_cache.max_entries", status_cache_max_entries()),
        effect(
            "keepalive.time",
            keepalive("time = \"77s\"", "TCP_KEEPIDLE, [77]"),
        ),
        effect(
            "keepalive.interval",
            keepalive("interval = \"77s\"", "TCP_KEEPINTVL, [77]"),
        ),
        effect(
            "keepalive.retries",
            keepalive("retries = 77", "TCP_KEEPCNT, [77]"),
        ),
        effect(
            "ip_filter.whitelist",
            refused(
                ("[ip_filter]\nwhitelist = [\"192.0.2.0/24\"]", "", ""),
                ("", "", UNREACHABLE),
            ),
        ),
        effect(
            "ip_filter.blacklist",
            refused(
                ("[ip_filter]\nblacklist = [\"127.0.0.0/8\"]", "", ""),
                ("", "", UNREACHABLE),
            ),
        ),
        effect("auth.session_url", intercepted::session_url()),
        effect(
            "auth.prevent_proxy_connections",
            intercepted::prevent_proxy_connections(),
        ),
        effect("auth.offline_uuid", intercepted::offline_uuid()),
        effect("auth.duplicate_login", intercepted::duplicate_login()),
        effect("networks.<id>.order", intercepted::order()),
        effect(
            "networks.<id>.on_backend_loss",
            intercepted::on_backend_loss(),
        ),
        effect("networks.<id>.sum_players", intercepted::sum_players()),
        effect(
            "networks.<id>.duplicate_login",
            intercepted::duplicate_login_of_a_network(),
        ),
        effect("permissions.admins", intercepted::admins()),
        effect(
            "permissions.player_commands",
            intercepted::player_commands(),
        ),
        effect(
            "permissions.trust_offline_admins",
            intercepted::trust_offline_admins(),
        ),
        effect(
            "announce_proxy_commands",
            intercepted::announce_proxy_commands(),
        ),
        effect("forwarding.mode", forwarding_mode()),
        effect("forwarding.secret", forwarding_secret()),
        effect(
            "forwarding.secret.file",
            forwarding_secret_file("secret = { file = \"PATH\" }"),
        ),
        effect("forwarding.secret.env", forwarding_secret_env()),
        effect(
            "forwarding.secret_file",
            forwarding_secret_file("secret_file = \"PATH\""),
        ),
        effect(
            "compression_threshold",
            intercepted::compression_threshold(true),
        ),
        effect("log.format", log_format()),
    ];
    for state in ["online", "offline", "unreachable"] {
        for key in ["text", "favicon", "version_name", "max_players"] {
            proofs.push(effect(
                &format!("default_motd.{state}.{key}"),
                default_motd(state, key),
            ));
        }
    }
    proofs.extend(docker::proofs());
    proofs.extend(channel::proofs());
    proofs.extend(super::plugin::global_proofs());
    proofs
}

async fn bind() {
    for bind in ["\"127.0.0.2:0\"", "[\"127.0.0.1:0\", \"127.0.0.2:0\"]"] {
        let proxy = TestProxy::start(&format!("bind = {bind}"), &[]);
        let addresses = proxy.running.addresses();
        assert_eq!(addresses.len(), bind.matches(":0").count());
        let last = *addresses.last().unwrap();
        assert_eq!(last.ip().to_string(), "127.0.0.2");
        let mut client = FakeClient::login(last, HOST, "Alice").await;
        assert!(final_text(&mut client).await.contains(NO_SERVER));
    }
}

async fn servers_dir() {
    let backend = gone().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let [(_, text)] = one(&backend, "");
    std::fs::write(elsewhere.path().join("a.toml"), text).unwrap();
    let proxy = TestProxy::start(&format!("servers_dir = {:?}", elsewhere.path()), &[]);
    assert!(refusal(&proxy, HOST).await.contains(UNREACHABLE));
    assert!(
        refusal(&TestProxy::start("", &[]), HOST)
            .await
            .contains(NO_SERVER)
    );
}

async fn max_connections() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start("max_connections = 1", &one(&backend, ""));
    let _first = FakeClient::login(proxy.address(), HOST, "Alice").await;
    let _session = backend.accept_login().await;
    assert!(refusal(&proxy, HOST).await.contains("The proxy is full"));

    let proxy = TestProxy::start("", &one(&backend, ""));
    let _first = FakeClient::login(proxy.address(), HOST, "Alice").await;
    let _session = backend.accept_login().await;
    let _second = FakeClient::login(proxy.address(), HOST, "Bob").await;
    backend.accept_login().await;
}

async fn connect_timeout() {
    let deaf = server_file::Deaf::start();
    let servers = [("a", server("passthrough", HOST, deaf.address, ""))];
    let start = |time: &str| TestProxy::start(&format!("connect_timeout = {time:?}"), &servers);
    let (soon, late) = (start(SOON), start(LATE));
    sooner(refusal(&soon, HOST), refusal(&late, HOST)).await;
}

async fn handshake_timeout() {
    let start = |time: &str| TestProxy::start(&format!("handshake_timeout = {time:?}"), &[]);
    let (soon, late) = (start(SOON), start(LATE));
    let mut silent = FakeClient::connect(soon.address()).await;
    let mut other = FakeClient::connect(late.address()).await;
    sooner(silent.expect_end(), other.expect_end()).await;
}

async fn drain_timeout() {
    let mut sessions = Vec::new();
    for time in [SOON, LATE] {
        let backend = FakeBackend::start().await;
        let global = format!("drain_timeout = {time:?}");
        let mut program = Program::start(&global, &one(&backend, ""));
        let client = FakeClient::login(program.address().await, HOST, "Alice").await;
        let session = backend.accept_login().await;
        program.signal(Signal::SIGTERM);
        sessions.push((program, client, session));
    }
    let [(soon, ..), (late, ..)] = &mut sessions[..] else {
        panic!("two sessions");
    };
    sooner(soon.exit_code(), late.exit_code()).await;
}

/// A login through a load balancer.
async fn login_behind_balancer(proxy: &TestProxy) -> Peer {
    let mut client = FakeClient::connect(proxy.address()).await;
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25565\r\n".to_vec();
    client
        .send(&[header, handshake(47, HOST, 25565, 2), login_start("Alice")].concat())
        .await;
    client
}

async fn receive_proxy_protocol() {
    let backend = FakeBackend::start().await;
    let servers = one(&backend, "send_proxy_protocol = \"v1\"");
    let proxy = TestProxy::start("receive_proxy_protocol = true", &servers);
    let _client = login_behind_balancer(&proxy).await;
    let expected = b"PROXY TCP4 203.0.113.9 ";
    assert_eq!(backend.accept().await.bytes(expected.len()).await, expected);

    let proxy = TestProxy::start("", &servers);
    login_behind_balancer(&proxy).await.expect_end().await;
}

async fn proxy_protocol_trusted() {
    let backend = gone().await;
    let trusted = "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"192.0.2.0/24\"]";
    let proxy = TestProxy::start(trusted, &one(&backend, ""));
    login_behind_balancer(&proxy).await.expect_end().await;
    assert!(refusal(&proxy, HOST).await.contains(UNREACHABLE));

    let proxy = TestProxy::start("receive_proxy_protocol = true", &one(&backend, ""));
    let mut client = login_behind_balancer(&proxy).await;
    assert!(final_text(&mut client).await.contains(UNREACHABLE));
    assert_eq!(refusal(&proxy, HOST).await, "");
}

async fn worker_threads() {
    let mut programs = Vec::new();
    for wanted in [3, 9] {
        let mut program = Program::start(&format!("worker_threads = {wanted}"), &[]);
        program.line("ready").await;
        let pid = program.child.id().unwrap();
        within("the worker threads", async {
            // A thread gets its name when it runs for the first time.
            while workers(pid).unwrap() < wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        programs.push((program, pid));
    }
    let [few, many] = [0, 1].map(|index: usize| workers(programs[index].1).unwrap());
    assert!(few < many, "{few} and {many} threads");
}

/// The number of threads of a process that are workers of the runtime.
fn workers(pid: u32) -> io::Result<usize> {
    let mut workers = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        workers += usize::from(name.starts_with("worker"));
    }
    Ok(workers)
}

async fn so_reuseport() {
    for (global, is_shared) in [("so_reuseport = true", true), ("", false)] {
        let first = TestProxy::start(global, &[]);
        let folder = tempfile::tempdir().unwrap();
        let global = format!("bind = \"{}\"\n{global}", first.address());
        write_config(folder.path(), &global, &[]);
        let second = load(&LoadOptions {
            config: Some(folder.path().join("infrarust.toml")),
            ..LoadOptions::default()
        });
        let listeners = listener::open(&second.config.unwrap().proxy);
        assert_eq!(listeners.is_ok(), is_shared);
    }
}

async fn unknown_domain_behavior() {
    for (behavior, words, is_answer) in [
        ("default_motd", NO_SERVER, true),
        ("kick", NO_SERVER, false),
        ("drop", "", false),
    ] {
        let proxy = TestProxy::start(&format!("unknown_domain_behavior = \"{behavior}\""), &[]);
        let said = refusal(&proxy, HOST).await;
        assert!(said.contains(words) && said.is_empty() == words.is_empty());
        assert_eq!(is_answered(&proxy).await, is_answer);
    }
}

async fn default_motd(state: &'static str, key: &'static str) {
    let host = if state == "online" {
        "unknown.example.com"
    } else {
        HOST
    };
    let (line, ..) = motd_key(key);
    let with = Table {
        global: format!("[default_motd.{state}]\n{line}"),
        ..Table::default()
    };
    shown(&gone().await, host, key, with, Table::default()).await;
}

/// Whether the second of the first two logins is refused by the rate limit.
async fn too_fast(limits: &str) -> [bool; 2] {
    let proxy = TestProxy::start(&format!("[rate_limit]\n{limits}"), &[]);
    let mut too_fast = [false; 2];
    for second in &mut too_fast {
        *second = refusal(&proxy, HOST).await.contains(TOO_FAST);
    }
    too_fast
}

/// Whether the first two status pings are answered.
async fn answered(limits: &str) -> [bool; 2] {
    let proxy = TestProxy::start(&format!("[rate_limit]\n{limits}"), &[]);
    [is_answered(&proxy).await, is_answered(&proxy).await]
}

/// The window is long, so that the second of two logins is refused however late it arrives.
const ONE_LOGIN: &str = "window = \"1h\"\nlimit_loopback = true\nmax_connections = 1";
const ONE_PING: &str = "status_window = \"1h\"\nlimit_loopback = true\nstatus_max = 1";

async fn rate_limit_enabled() {
    assert_eq!(
        too_fast(&format!("enabled = false\n{ONE_LOGIN}")).await,
        [false, false]
    );
    assert_eq!(
        too_fast(&format!("enabled = true\n{ONE_LOGIN}")).await,
        [false, true]
    );
}

async fn rate_limit_max_connections() {
    assert_eq!(too_fast(ONE_LOGIN).await, [false, true]);
    assert_eq!(too_fast("limit_loopback = true").await, [false, false]);
}

async fn rate_limit_window() {
    assert_eq!(
        too_fast(&ONE_LOGIN.replace(LATE, "1us")).await,
        [false, false]
    );
    assert_eq!(too_fast(ONE_LOGIN).await, [false, true]);
}

async fn rate_limit_status_max() {
    assert_eq!(answered(ONE_PING).await, [true, false]);
    assert_eq!(answered("limit_loopback = true").await, [true, true]);
}

async fn rate_limit_status_window() {
    assert_eq!(answered(&ONE_PING.replace(LATE, "1us")).await, [true, true]);
    assert_eq!(answered(ONE_PING).await, [true, false]);
}

async fn rate_limit_limit_loopback() {
    assert_eq!(too_fast(ONE_LOGIN).await, [false, true]);
    let counted = ONE_LOGIN.replace("limit_loopback = true", "");
    assert_eq!(too_fast(&counted).await, [false, false]);
}

/// Requests the status with a protocol version. The cache keeps each version separately.
async fn ask(proxy: &TestProxy, protocol: i32) {
    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(&[handshake(protocol, HOST, 25565, 1), frame(0, &[])].concat())
        .await;
    assert_eq!(client.frame().await.0, 0);
}

async fn status_cache_ttl() {
    for (ttl, questions) in [("0s", 3), ("1h", 1)] {
        let backend = FakeBackend::start().await;
        let proxy = TestProxy::start(
            &format!("[status_cache]\nttl = \"{ttl}\""),
            &one(&backend, ""),
        );
        let asked = backend.serve_status("{}");
        for _ in 0..3 {
            ask(&proxy, 47).await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), questions);
    }
}

async fn status_cache_max_entries() {
    let cache = "[status_cache]\nttl = \"1h\"\n";
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start(cache, &one(&backend, ""));
    let asked = backend.serve_status("{}");
    for turn in 0..100 {
        ask(&proxy, 47 + turn % 2).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2, "both answers fit in");

    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start(&format!("{cache}max_entries = 1"), &one(&backend, ""));
    let asked = backend.serve_status("{}");
    within("an answer to be forgotten", async {
        while asked.load(Ordering::SeqCst) <= 2 {
            ask(&proxy, 47).await;
            ask(&proxy, 48).await;
        }
    })
    .await;
}

/// The option is set on the listener before it listens, so that its connections inherit it,
/// and on the backend's socket of a session that lasts. Without the key it has another
/// value.
async fn keepalive(line: &'static str, option: &'static str) {
    const CALLS: usize = 2;
    for (global, is_set) in [
        (format!("[keepalive]\n{line}"), true),
        (String::new(), false),
    ] {
        let backend = FakeBackend::start().await;
        let Some(mut traced) = Traced::start("setsockopt", &global, &one(&backend, "")).await
        else {
            return;
        };
        let client = FakeClient::login(traced.program.address().await, HOST, "Alice").await;
        let session = backend.accept_login().await;
        let name = option.split(',').next().unwrap();
        traced.wait_for(name, CALLS).await;
        drop((client, session));
        traced.program.line("session ended").await;
        let calls = traced.calls().await;
        assert_eq!(calls.matches(name).count(), CALLS, "{calls}");
        assert_eq!(
            calls.matches(option).count(),
            if is_set { CALLS } else { 0 },
            "{calls}"
        );
    }
}

async fn forwarding_mode() {
    let received = host_seen("[forwarding]\nmode = \"bungeecord\"", "", HOST).await;
    assert!(
        received.starts_with(&format!("{HOST}\x00127.0.0.1\0")),
        "{received}"
    );
    assert_eq!(host_seen("", "", HOST).await, HOST);
}

async fn forwarding_secret() {
    for secret in ["one", "another"] {
        let global = format!("[forwarding]\nmode = \"bungeeguard\"\nsecret = \"{secret}\"");
        assert_eq!(token(&host_seen(&global, "", HOST).await), secret);
    }
}

async fn forwarding_secret_file(line: &'static str) {
    for secret in ["one", "another"] {
        let file = file(secret);
        let line = line.replace("PATH", file.path().to_str().unwrap());
        let global = format!("[forwarding]\nmode = \"bungeeguard\"\n{line}");
        assert_eq!(token(&host_seen(&global, "", HOST).await), secret);
    }
}

async fn forwarding_secret_env() {
    let name = "INFRARUST_TEST_SECRET";
    let global = format!("[forwarding]\nmode = \"bungeeguard\"\nsecret = {{ env = \"{name}\" }}");
    for secret in ["one", "another"] {
        let host = host_seen_with_variable(&global, "", name, secret).await;
        assert_eq!(token(&host), secret);
    }
}

async fn log_format() {
    for (log, is_json) in [("[log]\nformat = \"json\"", true), ("", false)] {
        let folder = tempfile::tempdir().unwrap();
        write_config(folder.path(), log, &[]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_infrarust"))
            .arg("-c")
            .arg(folder.path().join("infrarust.toml"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("a log line", log.next_line())
            .await
            .unwrap()
            .unwrap();
        let json = serde_json::from_str::<serde_json::Value>(&line);
        assert_eq!(json.is_ok(), is_json, "{line}");
    }
}
