//! Commands of plugins: a real library that answers, fails, and answers too late.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;

use infrarust_test_support::game::{self, Ids, Speaker};
use infrarust_test_support::program::Program;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::commands::{CommandIds, FAMILIES, TREE, added, move_to, read_until};
use super::{NO_COMPRESSION, NOTCH_OFFLINE, enter, plain, play};
use crate::library::build;
use crate::support::wire::string;
use crate::support::{FakeBackend, TestProxy, server, within};

fn commander() -> &'static Path {
    static COMMANDER: OnceLock<std::path::PathBuf> = OnceLock::new();
    COMMANDER.get_or_init(|| build("tests/plugins/commander", "infrarust_test_commander"))
}

/// The table of a plugin that writes to this folder.
fn table(id: &str, folder: &TempDir, more: &str, config: &str) -> String {
    let (path, events) = (commander(), folder.path().join("events"));
    format!(
        "[plugins.{id}]\npath = {path:?}\n{more}\n[plugins.{id}.config]\nevents = {events:?}\n{config}\n"
    )
}

/// An `offline` server with the plugin.
async fn start(backend: &FakeBackend, folder: &TempDir, global: &str, more: &str) -> TestProxy {
    let global = format!("{global}\n{}", table("p", folder, more, ""));
    let file = plain(backend);
    TestProxy::with_plugins(&global, &[("a", file)]).await
}

async fn send(client: &mut Speaker, ids: &CommandIds, protocol: i32, line: &str) {
    client
        .send(ids.command, &ids.fields(protocol, line, 0))
        .await;
}

/// In every family commands are answered and completed, one after another in the order in
/// which they were sent. The backend gets its own commands at once.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_answer_commands() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let proxy = start(&backend, &folder, "", "").await;
    for protocol in FAMILIES {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let mut segment = Vec::new();
        for line in ["wait 1", "echo 2 words", "spawn", "wait 3", "who"] {
            segment.extend(client.framed(ids.command, &ids.fields(protocol, line, 0)));
        }
        client.send_raw(&segment).await;
        assert_eq!(
            peer.expect(ids.command).await,
            ids.fields(protocol, "spawn", 0)
        );
        let uuid = NOTCH_OFFLINE.replace('-', "");
        for answer in [
            "waited 1".to_owned(),
            "echo 2 words".to_owned(),
            "waited 3".to_owned(),
            format!("Notch {uuid} false false a {protocol}"),
        ] {
            let before = read_until(&mut client, &ids, &answer).await;
            assert!(before.is_empty(), "{protocol}: {before:?} before {answer}");
        }
        let asked = ids.asking(protocol, 4, "/echo one t");
        client.send(ids.completion, &asked).await;
        let suggestions = client.expect(ids.suggestions).await;
        let suggestions = String::from_utf8_lossy(&suggestions).into_owned();
        assert!(
            suggestions.contains("<one t>") && suggestions.contains("more"),
            "{suggestions}"
        );
        drop((client, peer));
        proxy.idle().await;
    }
}

/// A player sees and uses the commands that the player may use. Other commands, and names
/// that a plugin may not have, go to the backend.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_for_their_audience() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let everybody = [
        "cookie", "echo", "error", "go", "hang", "late", "lines", "panic", "wait", "who",
    ];
    let with = |more: &[&str]| {
        let names = everybody.iter().chain(more).map(|name| (*name).to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    for (permissions, named) in [
        ("", with(&[])),
        (
            "player_commands = [\"listed\", \"secret\"]",
            with(&["listed"]),
        ),
        (
            "admins = [\"Notch\"]\ntrust_offline_admins = true",
            with(&["find", "glist", "listed", "secret", "send", "server"]),
        ),
    ] {
        let global = format!("[permissions]\n{permissions}\n");
        let proxy = start(&backend, &folder, &global, "").await;
        let ids = CommandIds::of(767);
        let (mut client, mut peer) = play(&proxy, &backend, 767).await;
        peer.send(ids.tree, TREE).await;
        assert_eq!(added(767, &client.expect(ids.tree).await), named);
        for name in ["stop", "listed", "secret", "end"] {
            send(&mut client, &ids, 767, name).await;
            match named.iter().any(|named| named == name) {
                true => drop(read_until(&mut client, &ids, name).await),
                false => assert_eq!(peer.expect(ids.command).await, string(name)),
            }
        }
    }
}

/// A failed command shows a text to its player and does not end the session: an error, a
/// panic, a late answer, too many suggestions. A quarantined plugin is not called.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_shown_to_the_player() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let ids = CommandIds::of(767);
    // What never answers has little time, and what answers has all of it.
    let proxy = start(&backend, &folder, "", "deadline = \"50ms\"").await;
    let (mut client, peer) = play(&proxy, &backend, 767).await;
    send(&mut client, &ids, 767, "hang").await;
    read_until(&mut client, &ids, "The command failed.").await;
    drop((client, peer));
    let proxy = start(&backend, &folder, "", "deadline = \"1h\"").await;
    let (mut client, mut peer) = play(&proxy, &backend, 767).await;
    for line in ["error", "panic"] {
        send(&mut client, &ids, 767, line).await;
        read_until(&mut client, &ids, "The command failed.").await;
    }
    send(&mut client, &ids, 767, "echo still there").await;
    read_until(&mut client, &ids, "echo still there").await;
    let completions = [("/lines x", 200), ("/error x", 0)];
    for (line, words) in completions {
        client.send(ids.completion, &ids.asking(767, 1, line)).await;
        let answer = client.expect(ids.suggestions).await;
        let (count, _) = crate::support::wire::read_varint(&answer[3..]).unwrap();
        assert_eq!(count, words, "{line}");
    }
    for _ in 0..10 {
        send(&mut client, &ids, 767, "panic").await;
        read_until(&mut client, &ids, "The command failed.").await;
    }
    // It would have answered.
    send(&mut client, &ids, 767, "echo anybody").await;
    read_until(&mut client, &ids, "The command failed.").await;
    send(&mut client, &ids, 767, "spawn").await;
    assert_eq!(peer.expect(ids.command).await, string("spawn"));
}

/// A client that requests 20,000 completions at once gets few answers, or is disconnected
/// because of the flood. Others play on, and their commands run.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_completions_do_not_affect_others() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let proxy = start(&backend, &folder, "", "").await;
    let ids = CommandIds::of(767);
    let (mut other, _of_other) = {
        let (mut client, mut peer) = super::begin(&proxy, &backend, 767, "Alex").await;
        peer.send(2, &game::login_success(767, [3; 16], "Alex"))
            .await;
        client.expect(2).await;
        client.send(3, &[]).await;
        peer.expect(3).await;
        enter(&mut client, &mut peer, 767).await;
        (client, peer)
    };
    let (mut client, _peer) = play(&proxy, &backend, 767).await;
    let mut flood = Vec::new();
    for _ in 0..20_000 {
        flood.extend(client.framed(ids.completion, &ids.asking(767, 1, "/lines ")));
    }
    flood.extend(client.framed(ids.command, &ids.fields(767, "echo after", 0)));
    client.send_raw(&flood).await;
    let mut answers = 0;
    loop {
        match within("an answer", client.next()).await {
            Some((id, _)) if id == ids.suggestions => answers += 1,
            Some((id, _)) if id == Ids::of(767).disconnect => break,
            Some((_, body)) if String::from_utf8_lossy(&body).contains("echo after") => break,
            Some(_) => {}
            None => break,
        }
    }
    assert!(answers < 500, "{answers}");
    send(&mut other, &ids, 767, "echo other").await;
    read_until(&mut other, &ids, "echo other").await;
}

/// An answer after the player has left is an error for the plugin, without another effect.
/// An answer before that reaches the player.
#[tokio::test(flavor = "multi_thread")]
async fn late_answers_are_harmless() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let proxy = start(&backend, &folder, "", "").await;
    let ids = CommandIds::of(767);
    let events = folder.path().join("events");
    for (name, is_gone, expected) in [
        ("first", false, "sent\n"),
        ("second", true, "sent\nthe player has left\n"),
    ] {
        let (mut client, mut peer) = play(&proxy, &backend, 767).await;
        let signal = folder.path().join(name);
        let line = format!("late {}", signal.display());
        send(&mut client, &ids, 767, &line).await;
        // It has run when the next has.
        send(&mut client, &ids, 767, "echo next").await;
        read_until(&mut client, &ids, "echo next").await;
        let sessions = match is_gone {
            true => {
                drop((client, peer));
                proxy.idle().await;
                None
            }
            false => {
                peer.send(0x7C, b"x").await;
                client.expect(0x7C).await;
                Some((client, peer))
            }
        };
        std::fs::write(&signal, "").unwrap();
        within("the late answer", async {
            while std::fs::read_to_string(&events).unwrap_or_default() != expected {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        if let Some((mut client, _peer)) = sessions {
            read_until(&mut client, &ids, "late").await;
        }
        proxy.idle().await;
    }
}

/// If two plugins have a command of the same name, the first in the configuration gets it,
/// on each server separately.
#[tokio::test(flavor = "multi_thread")]
async fn one_name_has_one_plugin() {
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let global = [
        table("p", &folder, "", "prefix = \"first \""),
        table("q", &folder, "", "prefix = \"second \""),
    ]
    .concat();
    let file = |host, plugins: &str| {
        let more = format!("{NO_COMPRESSION}\n{plugins}");
        server("offline", host, backend.address, &more)
    };
    let servers = [
        ("a", file("play.example.com", "")),
        ("b", file("b.example.com", "plugins = [\"q\"]")),
    ];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let ids = CommandIds::of(767);
    for (host, answer) in [
        ("play.example.com", "first echo x"),
        ("b.example.com", "second echo x"),
    ] {
        let mut client = game::begin_at(proxy.address(), 767, host, "Notch").await;
        let (mut peer, ..) = game::accept(&backend).await;
        super::welcome(&mut client, &mut peer, 767).await;
        enter(&mut client, &mut peer, 767).await;
        send(&mut client, &ids, 767, "echo x").await;
        read_until(&mut client, &ids, answer).await;
    }
}

/// A plugin moves a player to another server of the network, and gets the result. There is
/// no switch if the server does not exist, or if the player is on it.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_switch_players() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = |host, backend: &FakeBackend| {
        let more = format!("network = \"main\"\n{NO_COMPRESSION}");
        server("offline", host, backend.address, &more)
    };
    let servers = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let proxy = TestProxy::with_plugins(&table("p", &folder, "", ""), &servers).await;
    let ids = CommandIds::of(767);
    let (mut client, mut first) = play(&proxy, &a, 767).await;
    let events = folder.path().join("events");
    let written = async |expected: &str| {
        within("the outcome of a switch", async {
            while std::fs::read_to_string(&events).unwrap_or_default() != expected {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    send(&mut client, &ids, 767, "go nowhere").await;
    let nowhere = "nowhere: the network of the player has no server `nowhere`\n";
    written(nowhere).await;
    send(&mut client, &ids, 767, "go a").await;
    let there = format!("{nowhere}a: the player is on that server already\n");
    written(&there).await;
    send(&mut client, &ids, 767, "go b").await;
    let _second = move_to(&mut client, &mut first, &b).await;
    written(&format!("{there}b: there\n")).await;
    // The commands of the other server are there as well.
    send(&mut client, &ids, 767, "echo on b").await;
    read_until(&mut client, &ids, "echo on b").await;
}

/// A plugin stores cookies in the client and requests them. The backend does not get the
/// answer to the plugin's request, and a cookie without a request still ends the session.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_keep_cookies() {
    // 1.21: clientbound request and store, serverbound response.
    const REQUEST: i32 = 0x16;
    const STORE: i32 = 0x6B;
    const RESPONSE: i32 = 0x11;
    let (backend, folder) = (FakeBackend::start().await, tempfile::tempdir().unwrap());
    let proxy = start(&backend, &folder, "", "").await;
    let ids = CommandIds::of(767);
    let (mut client, mut peer) = play(&proxy, &backend, 767).await;
    send(&mut client, &ids, 767, "cookie p:k=data").await;
    let stored = client.expect(STORE).await;
    assert_eq!(stored, [string("p:k"), string("data")].concat());
    read_until(&mut client, &ids, "stored").await;

    // The backend has asked for the same cookie.
    peer.send(REQUEST, &string("p:k")).await;
    assert_eq!(client.expect(REQUEST).await, string("p:k"));
    send(&mut client, &ids, 767, "cookie p:k").await;
    assert_eq!(client.expect(REQUEST).await, string("p:k"));
    let answer = [string("p:k"), vec![1], string("data")].concat();
    client.send(RESPONSE, &answer).await;
    client.send(RESPONSE, &answer).await;
    read_until(&mut client, &ids, "p:k: Ok(Some([100, 97, 116, 97]))").await;
    assert_eq!(peer.expect(RESPONSE).await, answer);

    send(&mut client, &ids, 767, "cookie none").await;
    assert_eq!(client.expect(REQUEST).await, string("none"));
    client
        .send(RESPONSE, &[string("none"), vec![0]].concat())
        .await;
    read_until(&mut client, &ids, "none: Ok(None)").await;
    send(&mut client, &ids, 767, "cookie Bad Key").await;
    read_until(&mut client, &ids, "is not a key of a cookie").await;
    client
        .send(RESPONSE, &[string("other"), vec![0]].concat())
        .await;
    peer.expect_end().await;
}

/// A program with two servers of a network, for replacing plugins.
struct Exchanged {
    program: Program,
    address: SocketAddr,
    backends: [FakeBackend; 2],
    folder: TempDir,
}

impl Exchanged {
    /// Starts it with a plugin that prints this before the text that `/echo` repeats.
    async fn start(prefix: &str) -> Self {
        let backends = [FakeBackend::start().await, FakeBackend::start().await];
        let folder = tempfile::tempdir().unwrap();
        let more = format!("network = \"main\"\n{NO_COMPRESSION}");
        let servers = ["a", "b"].map(|id| {
            let at = usize::from(id == "b");
            let host = format!("{id}.example.com");
            (id, server("offline", &host, backends[at].address, &more))
        });
        let mut program = Program::start(&Self::global(&folder, Some(prefix)), &servers);
        let address = program.address().await;
        Self {
            program,
            address,
            backends,
            folder,
        }
    }

    fn global(folder: &TempDir, prefix: Option<&str>) -> String {
        let plugin = prefix.map(|prefix| {
            let config = format!("prefix = \"{prefix} \"");
            table("p", folder, "deadline = \"5s\"", &config)
        });
        format!("bind = \"127.0.0.1:0\"\n{}", plugin.unwrap_or_default())
    }

    /// Reloads with another plugin, or without one.
    async fn exchange(&mut self, prefix: Option<&str>) {
        let global = Self::global(&self.folder, prefix);
        let log = "[log]\nformat = \"json\"\n";
        let file = self.program.folder.path().join("infrarust.toml");
        std::fs::write(file, format!("{global}\n{log}")).unwrap();
        self.program.signal(Signal::SIGHUP);
        self.program.line("configuration reloaded").await;
    }

    /// A player on the server `a`.
    async fn join(&self, name: &str) -> (Speaker, Speaker) {
        let mut client = game::begin_at(self.address, 767, "a.example.com", name).await;
        let (mut peer, ..) = game::accept(&self.backends[0]).await;
        game::welcome([&mut client, &mut peer], 767, ([7; 16], name), None).await;
        enter(&mut client, &mut peer, 767).await;
        (client, peer)
    }
}

/// Asserts that the player sees and uses the command of the plugin that prints this word;
/// with `None` the command goes to the backend.
async fn has_echo((client, peer): (&mut Speaker, &mut Speaker), prefix: Option<&str>) {
    let ids = CommandIds::of(767);
    peer.send(ids.tree, TREE).await;
    let tree = client.expect(ids.tree).await;
    let asked = ids.asking(767, 4, "/echo one");
    client.send(ids.completion, &asked).await;
    send(client, &ids, 767, "echo word").await;
    if let Some(prefix) = prefix {
        let is_there = added(767, &tree).iter().any(|name| name == "echo");
        assert!(is_there, "{prefix}: {tree:02x?}");
        let suggestions = client.expect(ids.suggestions).await;
        let suggestions = String::from_utf8_lossy(&suggestions).into_owned();
        assert!(suggestions.contains("<one>"), "{suggestions}");
        read_until(client, &ids, &format!("{prefix} echo word")).await;
    } else {
        assert_eq!(tree, TREE);
        assert_eq!(peer.expect(ids.completion).await, asked);
        assert_eq!(peer.expect(ids.command).await, string("echo word"));
    }
}

/// Plugins are replaced, removed and added while players play. A player keeps the commands
/// from the time of joining, also one that is running, and gets the new ones on the next
/// server.
#[tokio::test(flavor = "multi_thread")]
async fn commands_belong_to_a_generation() {
    let mut proxy = Exchanged::start("old").await;
    let ids = CommandIds::of(767);
    let (mut alice, mut alices) = proxy.join("Alice").await;
    has_echo((&mut alice, &mut alices), Some("old")).await;
    let (mut bob, mut bobs) = proxy.join("Bob").await;
    send(&mut bob, &ids, 767, "hang").await;

    proxy.exchange(Some("new")).await;
    read_until(&mut bob, &ids, "The command failed").await;
    has_echo((&mut alice, &mut alices), Some("old")).await;
    has_echo((&mut bob, &mut bobs), Some("old")).await;
    let (mut carol, mut carols) = proxy.join("Carol").await;
    has_echo((&mut carol, &mut carols), Some("new")).await;

    proxy.exchange(None).await;
    has_echo((&mut alice, &mut alices), Some("old")).await;
    has_echo((&mut carol, &mut carols), Some("new")).await;
    let (mut dave, mut daves) = proxy.join("Dave").await;
    has_echo((&mut dave, &mut daves), None).await;

    send(&mut carol, &ids, 767, "go b").await;
    let mut carols = move_to(&mut carol, &mut carols, &proxy.backends[1]).await;
    has_echo((&mut carol, &mut carols), None).await;

    proxy.exchange(Some("third")).await;
    has_echo((&mut dave, &mut daves), None).await;
    has_echo((&mut carol, &mut carols), None).await;
    send(&mut alice, &ids, 767, "go b").await;
    let mut alices = move_to(&mut alice, &mut alices, &proxy.backends[1]).await;
    has_echo((&mut alice, &mut alices), Some("third")).await;
    has_echo((&mut bob, &mut bobs), Some("old")).await;
}
