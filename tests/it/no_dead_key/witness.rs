//! Ways to observe an effect.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::program::Program;
use crate::support::wire::{self, frame, handshake};
use crate::support::{FakeBackend, FakeClient, Peer, TestProxy, server, within};

pub const HOST: &str = "play.example.com";

/// Texts for players, by the part that distinguishes each from the others.
pub const NO_SERVER: &str = "No server is known";
pub const UNREACHABLE: &str = "cannot be reached right now";
pub const NOT_ALLOWED: &str = "not allowed on this server";
pub const TOO_FAST: &str = "too fast";
pub const FULL: &str = "The server is full.";

/// A short time for the event that must come first, and one that does not pass in any test.
pub const SOON: &str = "100ms";
pub const LATE: &str = "1h";

/// The least time between an event with [`LATE`] and one with [`SOON`]. Two events with the
/// same time are closer together.
const MARGIN: Duration = Duration::from_millis(500);

/// Checks that the effect of the key comes clearly earlier with a short time than with a
/// long one, independent of the speed of the machine.
pub async fn sooner(soon: impl Future, late: impl Future) {
    let mut late = std::pin::pin!(late);
    within("what has a short time", async {
        tokio::select! {
            biased;
            _ = &mut late => panic!("it comes as soon with a long time"),
            _ = soon => {}
        }
    })
    .await;
    let as_soon = tokio::time::timeout(MARGIN, late).await;
    assert!(as_soon.is_err(), "it comes as soon with a long time");
}

/// One server in `passthrough` with more keys.
pub fn one(backend: &FakeBackend, more: &str) -> [(&'static str, String); 1] {
    [("a", server("passthrough", HOST, backend.address, more))]
}

/// A backend address that refuses connections.
pub async fn gone() -> FakeBackend {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Bound without listening until the process ends, so that no other test is
    // given the port.
    std::mem::forget(socket);
    FakeBackend {
        address,
        ..FakeBackend::start().await
    }
}

/// The text with which a login ends; empty if it ends without one.
pub async fn final_text(client: &mut Peer) -> String {
    let bytes = client.rest().await;
    let Some((0, body, _)) = wire::split(&bytes) else {
        return String::new();
    };
    let text: Value = serde_json::from_str(&wire::string_in(&body)).unwrap();
    text["text"].as_str().unwrap().to_owned()
}

/// The text of a login at this host that no backend accepts.
pub async fn refusal(proxy: &TestProxy, host: &str) -> String {
    final_text(&mut FakeClient::login(proxy.address(), host, "Alice").await).await
}

/// Asserts that a login ends with this text, and with another one without the keys.
pub async fn refused(with: (&str, &str, &str), without: (&str, &str, &str)) {
    let backend = gone().await;
    for (global, more, text) in [with, without] {
        let proxy = TestProxy::start(global, &one(&backend, more));
        let words = refusal(&proxy, HOST).await;
        assert!(
            words.contains(text) && words.is_empty() == text.is_empty(),
            "{global}{more}: {words:?} instead of {text:?}"
        );
    }
}

/// The host field that the backend gets from a server with these keys.
pub async fn host_seen(global: &str, more: &str, host: &str) -> String {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::start(global, &one(&backend, more));
    let _client = FakeClient::login(proxy.address(), host, "Alice").await;
    backend.accept_login().await.1.host
}

/// The token of a BungeeGuard host field.
pub fn token(host_field: &str) -> String {
    let properties = host_field.split('\0').nth(3).unwrap();
    let properties: Value = serde_json::from_str(properties).unwrap();
    assert_eq!(properties[0]["name"], "bungeeguard-token");
    properties[0]["value"].as_str().unwrap().to_owned()
}

/// The host field of a login through the program, with this environment variable.
pub async fn host_seen_with_variable(global: &str, more: &str, name: &str, value: &str) -> String {
    let backend = FakeBackend::start().await;
    let mut program = Program::start_with(global, &one(&backend, more), |command| {
        command.env(name, value);
    });
    let _client = FakeClient::login(program.address().await, HOST, "Alice").await;
    backend.accept_login().await.1.host
}

/// A file with this content.
pub fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// Whether a status ping for an unknown host is answered.
pub async fn is_answered(proxy: &TestProxy) -> bool {
    let mut client = FakeClient::connect(proxy.address()).await;
    client
        .send(
            &[
                handshake(47, "unknown.example.com", 25565, 1),
                frame(0, &[]),
            ]
            .concat(),
        )
        .await;
    !client.up_to(1).await.is_empty()
}

/// How a status answer shows a key of a MOTD: its value in the file, and the place and
/// value in the answer.
pub fn motd_key(key: &str) -> (String, &'static str, Value) {
    // A PNG's signature and header, with 64 × 64 pixels.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x40\0\0\0\x40\x08\x06\0\0\0";
    let favicon = format!("data:image/png;base64,{}", STANDARD.encode(png));
    let (pointer, value) = match key {
        "text" => ("/description/text", json!("ours")),
        "version_name" => ("/version/name", json!("ours")),
        "max_players" => ("/players/max", json!(77)),
        "favicon" => ("/favicon", json!(favicon)),
        other => panic!("no status answer shows `{other}`"),
    };
    (format!("{key} = {value}"), pointer, value)
}

/// Asserts that a status answer shows the MOTD, and does not show it without the key.
pub async fn shown(backend: &FakeBackend, host: &str, key: &str, with: Table, without: Table) {
    let (_, pointer, value) = motd_key(key);
    for (table, is_shown) in [(with, true), (without, false)] {
        let proxy = TestProxy::start(&table.global, &one(backend, &table.server));
        let answer = FakeClient::status(proxy.address(), host).await;
        assert_eq!(
            answer.pointer(pointer) == Some(&value),
            is_shown,
            "{answer}"
        );
    }
}

/// The table of a MOTD.
#[derive(Default)]
pub struct Table {
    pub global: String,
    pub server: String,
}

/// The program under `strace`, which records these calls of it.
pub struct Traced {
    pub program: Program,
    trace: NamedTempFile,
}

impl Traced {
    /// `None` where nothing can be traced.
    pub async fn start(calls: &str, global: &str, servers: &[(&str, String)]) -> Option<Self> {
        let works = Command::new("strace")
            .args(["-D", "-f", "-q", "-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status()
            .await;
        if !works.is_ok_and(|status| status.success()) {
            eprintln!("skipped: strace is not installed or may not trace here");
            return None;
        }
        let trace = NamedTempFile::new().unwrap();
        let global = format!("drain_timeout = \"0s\"\n{global}");
        let program = Program::start_with(&global, servers, |command| {
            // The tracer is the grandchild, so that the child is the program.
            let mut strace = Command::new("strace");
            strace
                .args(["-D", "-f", "-q", "-e", "signal=none"])
                .args(["-e", &format!("trace={calls}"), "-o"])
                .arg(trace.path())
                .arg(command.as_std().get_program())
                .args(command.as_std().get_args())
                .env_remove("RUST_LOG")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true);
            *command = strace;
        });
        Some(Self { program, trace })
    }

    /// Waits until the trace has this word `count` times.
    pub async fn wait_for(&self, word: &str, count: usize) {
        let calls = || std::fs::read_to_string(self.trace.path()).unwrap();
        within(word, async {
            while calls().matches(word).count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Ends the program and returns the calls that it made.
    pub async fn calls(mut self) -> String {
        let pid = self.program.child.id().unwrap().to_string();
        self.program.signal(Signal::SIGTERM);
        assert_eq!(self.program.exit_code().await, Some(0));
        within("the end of the trace", async {
            loop {
                let text = std::fs::read_to_string(self.trace.path()).unwrap();
                let mut lines = text.lines();
                if lines.any(|line| line.starts_with(&pid) && line.contains("+++ exited")) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}
