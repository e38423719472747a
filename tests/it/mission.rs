//! A mode per server, in one test: a plugin that needs packets, a network, and a plugin
//! that rewrites hosts, on servers of all five modes, configured by files and by labels of
//! containers. If a mode cannot offer something, an error shows the line; what a mode can
//! offer works.

use std::path::PathBuf;
use std::sync::OnceLock;

use infrarust_test_support::engine::{FakeEngine, container};
use infrarust_test_support::game::{self, Ids, Sessions, Speaker};
use infrarust_test_support::program::Program;

use crate::library::build;
use crate::support::{FORWARDING, FakeBackend, FakeClient, server, wire};

const PROTOCOL: i32 = 767;
const INTERCEPTED: [&str; 2] = ["offline", "client_only"];
/// The keys that need packets.
const NETWORK: (&str, &str) = ("network", "\"main\"");
const BOTH_PLUGINS: (&str, &str) = ("plugins", "[\"domain-rewrite\", \"greeter\"]");
const REWRITE: (&str, &str) = ("plugins", "[\"domain-rewrite\"]");
const NO_COMPRESSION: (&str, &str) = ("compression_threshold", "-1");

/// The source of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Files,
    Labels,
}

fn libraries() -> &'static [PathBuf; 2] {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILT.get_or_init(|| {
        [
            build("plugins/domain-rewrite", "domain_rewrite"),
            build("tests/plugins/players", "infrarust_test_players"),
        ]
    })
}

/// Servers with these ids and keys, and a program with this configuration.
struct Configured {
    engine: FakeEngine,
    files: Vec<(String, String)>,
    global: String,
    _events: tempfile::TempDir,
}

impl Configured {
    fn new(sessions: &Sessions) -> Self {
        let [rewrite, greeter] = libraries();
        let events = tempfile::tempdir().unwrap();
        let engine = FakeEngine::start();
        let global = format!(
            "{}{}[plugins.domain-rewrite]\npath = {rewrite:?}\n\
             [plugins.domain-rewrite.config]\n\
             rules = [{{ from = \"*.mission\", to = \"$1.internal\" }}]\n\
             [plugins.greeter]\npath = {greeter:?}\n\
             [plugins.greeter.config]\nevents = {:?}\nsend = [\"chat greetings\", \"client 11\"]\n",
            sessions.global(),
            engine.table(""),
            events.path().join("events"),
        );
        Self {
            engine,
            files: Vec::new(),
            global,
            _events: events,
        }
    }

    /// Adds a server.
    fn add(
        &mut self,
        source: Source,
        id: &str,
        mode: &str,
        backend: &FakeBackend,
        keys: &[(&str, &str)],
    ) {
        let domain = format!("{id}.mission");
        match source {
            Source::Files => {
                let lines: String = keys
                    .iter()
                    .map(|(key, value)| format!("{key} = {value}\n"))
                    .collect();
                let file = server(mode, &domain, backend.address, &lines);
                self.files.push((id.to_owned(), file));
            }
            Source::Labels => {
                let plain = |value: &str| value.replace(['[', ']', '"'], "");
                let labels: Vec<(String, String)> =
                    [("domains", domain.as_str()), ("proxy_mode", mode)]
                        .iter()
                        .chain(keys)
                        .map(|(key, value)| (format!("infrarust.{key}"), plain(value)))
                        .collect();
                let labels: Vec<(&str, &str)> = labels
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                self.engine.put(&container(id, backend.address, &labels));
            }
        }
    }

    fn start(&self) -> Program {
        let files: Vec<(&str, String)> = self
            .files
            .iter()
            .map(|(id, file)| (id.as_str(), file.clone()))
            .collect();
        Program::start(&self.global, &files)
    }
}

/// In the three forwarding modes there are two errors with their places, and no player gets
/// in. Errors in a file keep the proxy from starting.
#[tokio::test(flavor = "multi_thread")]
async fn forwarding_modes_refuse_what_they_cannot_give() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    for source in [Source::Files, Source::Labels] {
        for mode in FORWARDING {
            let mut configured = Configured::new(&sessions);
            configured.add(source, "one", mode, &backend, &[NETWORK, BOTH_PLUGINS]);
            let mut program = configured.start();
            let place = match source {
                Source::Files => {
                    assert_eq!(program.exit_code().await, Some(1), "{mode}");
                    "servers/one.toml:"
                }
                Source::Labels => {
                    let address = program.address().await;
                    program.line("containers are read").await;
                    let mut client = FakeClient::login(address, "one.mission", "Alice").await;
                    let text = FakeClient::kick(&mut client).await;
                    assert!(text.contains("No server is known"), "{text}");
                    "container one:"
                }
            };
            let check = tokio::process::Command::new(infrarust_test_support::infrarust())
                .arg("-c")
                .arg(program.folder.path().join("infrarust.toml"))
                .args(["check", "--docker"])
                .output();
            let output = crate::support::within("the checker", check).await.unwrap();
            assert_eq!(output.status.code(), Some(1), "{mode}");
            let text = String::from_utf8(output.stderr).unwrap();
            for part in [
                "error[mode-conflict]: `network` needs server switching, which `",
                "error[mode-conflict]: the plugin `greeter` needs `player.observe` and `packet.inject`, which `",
                place,
                "^^^",
                mode,
            ] {
                assert!(
                    text.contains(part),
                    "{source:?} {mode}: no {part} in {text}"
                );
            }
            // The plugin that needs no packets is not refused.
            assert!(!text.contains("plugin `domain-rewrite`"), "{text}");
        }
    }
}

/// In the two intercepted modes everything works: the host is rewritten, the plugin's
/// packets arrive, and a player who loses the server is moved to another one of the
/// network.
#[tokio::test(flavor = "multi_thread")]
async fn intercepted_modes_offer_all_of_it() {
    let sessions = Sessions::confirming("Notch").await;
    for source in [Source::Files, Source::Labels] {
        for mode in INTERCEPTED {
            let (one, two) = (FakeBackend::start().await, FakeBackend::start().await);
            let mut configured = Configured::new(&sessions);
            let keys = [NETWORK, BOTH_PLUGINS, NO_COMPRESSION];
            configured.add(source, "one", mode, &one, &keys);
            configured.add(source, "two", mode, &two, &keys);
            let mut program = configured.start();
            let address = program.address().await;
            program.line("containers are read").await;

            let mut client = game::begin_at(address, PROTOCOL, "one.mission", "Notch").await;
            if mode == "client_only" {
                game::encrypt(&mut client, PROTOCOL).await;
            }
            let (mut peer, host, _) = game::accept(&one).await;
            assert_eq!(host, "one.internal", "{source:?} {mode}");
            let success = game::login_success(PROTOCOL, [7; 16], "Notch");
            peer.send(2, &success).await;
            client.expect(2).await;
            client.send(3, &[]).await;
            peer.expect(3).await;
            into_the_game(&mut client, &mut peer).await;
            expect_greetings(&mut client).await;

            drop(peer);
            let (mut peer, host, _) = game::accept(&two).await;
            assert_eq!(host, "one.internal", "{source:?} {mode}");
            peer.send(2, &success).await;
            // The client is led into a configuration.
            while client.next().await.unwrap().0 != 0x69 {}
            client.send(0x0C, &[]).await;
            peer.expect(3).await;
            into_the_game(&mut client, &mut peer).await;
            expect_greetings(&mut client).await;
            peer.send(0x22, b"from two").await;
            while client.next().await.unwrap() != (0x22, b"from two".to_vec()) {}
        }
    }
}

/// Goes through a configuration into the game.
async fn into_the_game(client: &mut Speaker, peer: &mut Speaker) {
    let ids = Ids::of(PROTOCOL);
    game::configure([client, peer], PROTOCOL).await;
    peer.send(ids.join, &[0, 0, 0, 1, 9, 0, 0]).await;
    client.expect(ids.join).await;
}

/// Reads the plugin's message and its packet.
async fn expect_greetings(client: &mut Speaker) {
    let mut has_message = false;
    loop {
        let (id, body) = client.next().await.unwrap();
        has_message |= String::from_utf8_lossy(&body).contains("greetings");
        if (id, &body[..]) == (11, b"raw") {
            break;
        }
    }
    assert!(has_message);
}

/// The plugin that rewrites hosts works in all five modes.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_rewritten_in_all_modes() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    for source in [Source::Files, Source::Labels] {
        let mut configured = Configured::new(&sessions);
        let modes: Vec<&str> = FORWARDING.iter().chain(&INTERCEPTED).copied().collect();
        for mode in &modes {
            let id = mode.replace('_', "-");
            configured.add(source, &id, mode, &backend, &[REWRITE]);
        }
        let mut program = configured.start();
        let address = program.address().await;
        program.line("containers are read").await;
        for mode in modes {
            let id = mode.replace('_', "-");
            let host = format!("{id}.mission");
            let mut client = game::begin_at(address, PROTOCOL, &host, "Notch").await;
            if mode == "client_only" {
                game::encrypt(&mut client, PROTOCOL).await;
            }
            let (_peer, host, start) = game::accept(&backend).await;
            assert_eq!(host, format!("{id}.internal"), "{source:?} {mode}");
            assert!(start.starts_with(&wire::string("Notch")));
        }
    }
}
