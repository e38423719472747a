//! Plugins are replaced while players play. Connected players are not affected, even if the
//! new plugin or its file is broken.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::elf;
use crate::library::sample;
use crate::program::Program;
use crate::support::{FakeBackend, FakeClient, Peer, server, within, write_config};

const PROGRAM: &str = env!("CARGO_BIN_EXE_infrarust");

/// The program with the plugin `live`, which has a file of its own.
pub struct Live {
    pub program: Program,
    pub proxy: SocketAddr,
    pub backend: FakeBackend,
    file: PathBuf,
    _file_folder: tempfile::TempDir,
}

/// The global file: `more` and the settings are lines of the plugin's table.
fn global(file: &Path, top: &str, more: &str, settings: &str) -> String {
    format!(
        "bind = \"127.0.0.1:0\"\nworker_threads = 2\n{top}\n[log]\nformat = \"json\"\n\
         [plugins.live]\npath = {file:?}\n{more}\n[plugins.live.config]\n{settings}\n"
    )
}

/// A plugin, as diagnostics name it.
fn named(file: &Path, code: &str) -> String {
    let file = file.display();
    format!("error[{code}]: the plugin `live` ({file}) cannot run: ")
}

impl Live {
    pub async fn start(settings: &str) -> Self {
        Self::start_as(Path::new(PROGRAM), "", settings).await
    }

    /// The same for another copy of the program, and more lines in its table.
    pub async fn start_as(own: &Path, more: &str, settings: &str) -> Self {
        let backend = FakeBackend::start().await;
        let file_folder = tempfile::tempdir().unwrap();
        let file = file_folder.path().join("libsample.so");
        fs::copy(sample(), &file).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let servers = [("a", server("zero_copy", "*", backend.address, ""))];
        write_config(folder.path(), &global(&file, "", more, settings), &servers);
        let mut command = Command::new(own);
        command
            .arg("-c")
            .arg(folder.path().join("infrarust.toml"))
            .args(["-l", "info,infrarust::plugin=debug"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Program { child, log, folder };
        let proxy = program.address().await;
        program.line("ready").await;
        Self {
            program,
            proxy,
            backend,
            file,
            _file_folder: file_folder,
        }
    }

    /// Writes the global file again.
    pub fn write(&self, top: &str, more: &str, settings: &str) {
        let path = self.program.folder.path().join("infrarust.toml");
        fs::write(path, global(&self.file, top, more, settings)).unwrap();
    }

    pub fn hangup(&self) {
        self.program.signal(Signal::SIGHUP);
    }

    /// Reloads, and waits until the new configuration is in force.
    async fn takes(&mut self, settings: &str) {
        self.write("", "", settings);
        self.hangup();
        let applied = self.program.line("configuration reloaded").await;
        assert_eq!(applied["plugins"], "[\"live\"]");
    }

    /// Reloads, and returns why that was refused.
    async fn refusal(&mut self) -> String {
        self.hangup();
        let refused = self.program.line_with("reload refused").await;
        refused["message"].as_str().unwrap().to_owned()
    }

    /// Logs in: the client, its peer at the backend, and the host that it sees.
    pub async fn login(&self, host: &str) -> (Peer, Peer, String) {
        let client = FakeClient::login(self.proxy, host, "Steve").await;
        let (peer, hello, _) = self.backend.accept_login().await;
        (client, peer, hello.host)
    }

    /// The word that the current plugin adds to the host of a new player.
    pub async fn tag(&self) -> String {
        let (_client, _peer, host) = self.login("x").await;
        host.strip_suffix(".x").unwrap().to_owned()
    }

    pub fn data(&self) -> PathBuf {
        self.program.folder.path().join("plugins/live")
    }

    /// The output of `infrarust plugin` with these arguments.
    pub async fn command(&self, words: &[&str]) -> String {
        let output = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.program.folder.path().join("infrarust.toml"))
            .arg("plugin")
            .args(words)
            .output();
        let output = within("a command", output).await.unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

/// Checks that a session still works.
async fn plays(client: &mut Peer, peer: &mut Peer) {
    client.send(b"still here").await;
    assert_eq!(peer.bytes(10).await, b"still here");
    peer.send(b"so am I").await;
    assert_eq!(client.bytes(7).await, b"so am I");
}

/// Polls until a condition is true that no signal reports.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    within(what, async {
        while !is_so().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// New players get the new plugin, connected ones keep the old one. A plugin that would end
/// the proxy, or that refuses its settings, is not loaded: the old one stays in force, the
/// report names the file and the reason, and the attempt does not count as a load.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_reloaded_under_players() {
    let mut live = Live::start("tag = 'old'").await;
    let (mut client, mut peer, host) = live.login("x").await;
    assert_eq!(host, "old.x");

    live.write("", "", "tag = 5");
    let text = live.refusal().await;
    let code = "error[plugin-config]: the plugin `live` refuses its settings";
    assert!(text.contains(code), "{text}");
    assert!(
        text.contains("| tag = 5\n") && text.contains("      ^\n"),
        "{text}"
    );
    for (start, how) in [
        ("abort", "it was killed by SIGABRT (an abort, "),
        (
            "exit",
            "it ended the process with exit code 0 while it started",
        ),
        ("overflow", "stack overflow, aborting"),
        ("panic", "it did not start: panicked: `no start today` at "),
    ] {
        live.write("", "", &format!("tag = 'worse'\nstart = '{start}'"));
        let text = live.refusal().await;
        assert!(text.contains(&named(&live.file, "plugin-start")), "{text}");
        assert!(text.contains(how), "{text}");
        assert_eq!(live.tag().await, "old");
    }

    live.takes("tag = 'new'").await;
    assert_eq!(live.tag().await, "new");
    let list = live.command(&["list"]).await;
    assert!(list.contains("active, generation 2,"), "{list}");
    plays(&mut client, &mut peer).await;

    // The player who stayed keeps the first generation, which is listed as long.
    let replaced = "replaced, still with players who met it, generation 1,";
    assert!(list.contains(replaced), "{list}");
    let generations = async || {
        let json = live.command(&["list", "--format", "json"]).await;
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(list["configured"][0]["id"], "live", "{json}");
        let running = list["running"].as_array().unwrap().iter();
        let current = running.map(|one| (one["generation"].as_u64(), one["is_current"].as_bool()));
        current.collect::<Vec<_>>()
    };
    let both = [(Some(2), Some(true)), (Some(1), Some(false))];
    assert_eq!(generations().await, both);
    drop((client, peer));
    until("the end of the first generation", async || {
        generations().await == both[..1]
    })
    .await;
}

/// A plugin that never finishes its start hangs in a separate process with the data of the
/// running proxy. Players connect and leave, the proxy ends at a signal, and that process
/// ends with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_at_its_start_delays_nobody() {
    for does_end in [false, true] {
        let mut live = Live::start("tag = 'old'").await;
        // Takes effect with the next start.
        live.write("plugins_dir = 'other'", "", "tag = 'a'\nstart = 'hang'");
        live.hangup();
        let hangs = live.data().join("hangs");
        let pid = || {
            fs::read_to_string(&hangs)
                .unwrap_or_default()
                .parse::<i32>()
        };
        until("the plugin to hang", async || pid().is_ok()).await;
        let pid = nix::unistd::Pid::from_raw(pid().unwrap());
        for _ in 0..10 {
            assert_eq!(live.tag().await, "old");
        }
        if does_end {
            live.program.signal(Signal::SIGTERM);
            assert_eq!(live.program.exit_code().await, Some(0));
            // Whoever adopts it may leave it as a zombie.
            let stat = format!("/proc/{pid}/stat");
            until("the child to end", async || {
                fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
                    || !Path::new(&stat).exists()
            })
            .await;
        } else {
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            let refused = live.program.line_with("reload refused").await;
            let text = refused["message"].as_str().unwrap();
            let how = "it was killed by SIGKILL (by the system, perhaps for want of memory) while it started";
            let said = named(&live.file, "plugin-start") + how;
            assert!(text.contains(&said), "{text}");
            live.takes("tag = 'new'").await;
            assert_eq!(live.tag().await, "new");
        }
    }
}

/// While a plugin hangs in its trial, changes of server files take effect, and stay in
/// force if the plugin is refused.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_followed_while_a_plugin_is_tried() {
    let mut live = Live::start("tag = 'old'").await;
    live.write("", "", "tag = 'a'\nstart = 'hang'");
    live.hangup();
    let hangs = live.data().join("hangs");
    let pid = || {
        fs::read_to_string(&hangs)
            .unwrap_or_default()
            .parse::<i32>()
    };
    until("the plugin to hang", async || pid().is_ok()).await;
    let file = live.program.folder.path().join("servers/b.toml");
    let text = server("zero_copy", "b.example.com", live.backend.address, "");
    fs::write(file, text).unwrap();
    let line = live.program.line("configuration reloaded").await;
    assert_eq!(line["added"], "[\"b\"]");
    let pid = nix::unistd::Pid::from_raw(pid().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    live.program.line_with("reload refused").await;
    let _client = FakeClient::login(live.proxy, "b.example.com", "Bob").await;
    let host = live.backend.accept_login().await.1.host;
    assert_eq!(host, "old.b.example.com");
}

/// A plugin that passes its trial and then hangs in the proxy delays neither players nor
/// the end of the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_in_the_proxy_does_not_delay_its_end() {
    let mut live = Live::start("tag = 'old'").await;
    live.write("", "", "tag = 'a'\nstart = 'again'");
    live.hangup();
    let hangs = live.data().join("hangs");
    until("the plugin to hang", async || hangs.exists()).await;
    assert_eq!(live.tag().await, "old");
    live.program.signal(Signal::SIGTERM);
    assert_eq!(live.program.exit_code().await, Some(0));
}

/// Plugins can still be tried after an upgrade has replaced the file of the running
/// program.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_program_still_tries_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("infrarust");
    fs::copy(PROGRAM, &own).unwrap();
    let mut live = Live::start_as(&own, "", "tag = 'old'").await;
    let next = folder.path().join("next");
    fs::copy("/bin/false", &next).unwrap();
    fs::rename(&next, &own).unwrap();
    live.write("", "", "tag = 'a'\nstart = 'abort'");
    let text = live.refusal().await;
    assert!(text.contains("it was killed by SIGABRT"), "{text}");
    fs::remove_file(&own).unwrap();
    let (mut client, mut peer, _) = live.login("x").await;
    live.write("", "", "tag = 'a'\nstart = 'exit'");
    let text = live.refusal().await;
    assert!(text.contains("it ended the process"), "{text}");
    live.takes("tag = 'new'").await;
    assert_eq!(live.tag().await, "new");
    plays(&mut client, &mut peer).await;
}

/// During twenty reloads with a steady stream of logins, no player is refused or lost.
/// Every session has one opened and one closed event, in the generation that it began with,
/// and the old generations end.
#[tokio::test(flavor = "multi_thread")]
async fn logins_continue_during_reloads() {
    const RELOADS: u32 = 20;
    let mut live = Live::start("tag = '0'").await;
    let (mut first, mut first_peer, host) = live.login("x").await;
    assert_eq!(host, "0.x");

    let (proxy, over) = (live.proxy, Arc::new(AtomicBool::new(false)));
    let logins = Arc::new(AtomicU64::new(0));
    let backend = Arc::new(std::mem::replace(
        &mut live.backend,
        FakeBackend::start().await,
    ));
    let serving = {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            loop {
                let (mut peer, hello, _) = backend.accept_login().await;
                let tag = hello.host.strip_suffix(".x").unwrap();
                assert!(tag.parse::<u32>().unwrap() <= RELOADS, "{tag}");
                peer.send(b"in").await;
                tokio::spawn(async move { peer.rest().await });
            }
        })
    };
    let players: Vec<_> = (0..6)
        .map(|_| {
            let (over, logins) = (Arc::clone(&over), Arc::clone(&logins));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut client = FakeClient::login(proxy, "x", "Alice").await;
                    assert_eq!(client.bytes(2).await, b"in");
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=RELOADS {
        let before = logins.load(Ordering::Relaxed);
        live.takes(&format!("tag = '{number}'")).await;
        until("players to come", async || {
            logins.load(Ordering::Relaxed) > before + 6
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    for player in players {
        within("a player", player).await.unwrap();
    }
    serving.abort();
    let total = logins.load(Ordering::Relaxed) + 1;
    assert!(total > u64::from(RELOADS) * 6, "only {total} logins");
    plays(&mut first, &mut first_peer).await;
    drop((first, first_peer));
    let counted = format!("opened = {total}\n");
    let closed = format!("closed = {total}\n");
    until("the events of all sessions", async || {
        let list = live.command(&["list"]).await;
        list.contains(&counted) && list.contains(&closed)
    })
    .await;
    let ended = live.data().join("ended-0");
    until("the first generation to end", async || ended.exists()).await;
}

/// A call that is pending when its plugin is replaced is answered by the old generation,
/// which ends with the last of its calls.
#[tokio::test(flavor = "multi_thread")]
async fn pending_calls_are_answered_by_the_old_generation() {
    let mut live = Live::start_as(Path::new(PROGRAM), "deadline = '20s'", "tag = 'old'").await;
    let mut waits = FakeClient::login(live.proxy, "x", "Gate").await;
    let leaves = FakeClient::login(live.proxy, "x", "Gate").await;
    until("both questions", async || {
        live.command(&["list"]).await.contains("4 calls")
    })
    .await;
    live.write("", "deadline = '20s'", "tag = 'new'");
    live.hangup();
    live.program.line("configuration reloaded").await;
    assert_eq!(live.tag().await, "new");
    drop(leaves);
    let ended = || fs::read_to_string(live.data().join("ended")).unwrap_or_default();
    // What the trial of the new one has left.
    assert_eq!(ended(), "new");
    fs::write(live.data().join("open"), "").unwrap();
    assert_eq!(FakeClient::kick(&mut waits).await, "old has opened");
    until("the old one to end", async || ended() == "old").await;
}

/// The loaded plugin stays in force whatever happens to its file. A complete new file is
/// loaded, and an unchanged one is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_may_be_in_any_state() {
    let mut live = Live::start("tag = 'a'").await;
    let good = fs::read(sample()).unwrap();
    let next = [&good[..], b"another build"].concat();
    let (mut client, mut peer, _) = live.login("x").await;

    // Half of it, in place.
    fs::write(&live.file, &good[..good.len() / 2]).unwrap();
    let text = live.refusal().await;
    assert!(text.contains("error[plugin-file]"), "{text}");
    assert!(text.contains("it is truncated"), "{text}");
    assert_eq!(live.tag().await, "a");
    plays(&mut client, &mut peer).await;

    // Removed.
    fs::remove_file(&live.file).unwrap();
    let text = live.refusal().await;
    assert!(text.contains("there is no such file"), "{text}");
    assert_eq!(live.tag().await, "a");

    // The same again.
    fs::write(&live.file, &good).unwrap();
    live.hangup();
    live.program.line("reload: nothing has changed").await;

    // Another one in place, then one renamed over it, under a player who
    // keeps calling the first.
    for bytes in [&next, &good] {
        fs::write(&live.file, bytes).unwrap();
        live.hangup();
        live.program.line("configuration reloaded").await;
        let beside = live.file.with_extension("part");
        fs::write(&beside, [&bytes[..], b"!"].concat()).unwrap();
        fs::rename(&beside, &live.file).unwrap();
        live.hangup();
        live.program.line("configuration reloaded").await;
        assert_eq!(live.tag().await, "a");
    }
    let list = live.command(&["list"]).await;
    assert!(list.contains("generation 5,"), "{list}");
    plays(&mut client, &mut peer).await;
}

/// While a plugin's file is incomplete, changes of server files take effect: they are
/// checked with the running plugin.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_copy_does_not_delay_servers() {
    let mut live = Live::start("tag = 'old'").await;
    fs::write(&live.file, "half a copy").unwrap();
    let path = live.program.folder.path().join("servers/b.toml");
    fs::write(path, server("passthrough", "b", live.backend.address, "")).unwrap();
    let applied = live.program.line("configuration reloaded").await;
    assert_eq!(applied["added"], "[\"b\"]");
    assert_eq!(live.login("b").await.2, "old.b");
    let text = live.refusal().await;
    assert!(text.contains("error[plugin-file]"), "{text}");
}

/// A new build that needs something which a server's mode cannot offer is refused at the
/// line that chose the mode, and the servers can still be changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_does_not_fit_a_server_is_refused() {
    let mut live = Live::start("tag = 'old'").await;
    let needs = elf::plugin("hooks: [LoginDecide]\nneeds: [PacketInject]");
    fs::write(&live.file, needs).unwrap();
    let text = live.refusal().await;
    assert!(text.contains("error[mode-conflict]"), "{text}");
    assert!(text.contains("`packet.inject`"), "{text}");
    assert!(text.contains("servers/a.toml"), "{text}");
    assert_eq!(live.tag().await, "old");
    let path = live.program.folder.path().join("servers/b.toml");
    fs::write(path, server("passthrough", "b", live.backend.address, "")).unwrap();
    let applied = live.program.line("configuration reloaded").await;
    assert_eq!(applied["added"], "[\"b\"]");
    assert_eq!(live.login("b").await.2, "old.b");
}

/// A quarantine continues through a reload that leaves the plugin unchanged, and can be
/// ended afterwards. It does not pass to the next generation.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_belongs_to_a_generation() {
    let mut live = Live::start("tag = 'a'").await;
    let panic = async |live: &Live| {
        for _ in 0..5 {
            let mut client = FakeClient::login(live.proxy, "x", "Panic").await;
            FakeClient::kick(&mut client).await;
        }
        let list = live.command(&["list"]).await;
        assert!(list.contains("quarantined, "), "{list}");
    };
    let is_shut = async |live: &Live| {
        let mut client = FakeClient::login(live.proxy, "x", "Steve").await;
        let text = FakeClient::kick(&mut client).await;
        assert!(text.contains("could not check"), "{text}");
    };
    panic(&live).await;
    is_shut(&live).await;
    // Another key of the same file.
    live.write("unknown_domain_behavior = 'drop'", "", "tag = 'a'");
    live.hangup();
    live.program.line("configuration reloaded").await;
    is_shut(&live).await;
    let said = live.command(&["resume", "live"]).await;
    assert_eq!(said, "plugin `live` is resumed\n");
    assert_eq!(live.tag().await, "a");

    panic(&live).await;
    live.takes("tag = 'b'").await;
    assert_eq!(live.tag().await, "b");
    let list = live.command(&["list"]).await;
    assert!(list.contains("active, generation 2,"), "{list}");
}

/// A plugin that blocks one of two workers is named in the log. All other players are
/// served, also by a new generation.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_served_while_a_worker_is_blocked() {
    let mut live = Live::start("tag = 'a'").await;
    let (mut client, mut peer, _) = live.login("x").await;
    // Which of the workers waits for sockets is a matter of luck.
    for old in ["a", "b", "c", "d"] {
        let _ = fs::remove_file(live.data().join("open"));
        let _held = FakeClient::login(live.proxy, "held", "Hold").await;
        let reported = live.program.line_with("plugin `live` holds a worker").await;
        assert_eq!(
            (&reported["hook"], &reported["plugin"]),
            (&"login.decide".into(), &"live".into())
        );
        for _ in 0..20 {
            assert_eq!(live.tag().await, old);
        }
        let new = char::from(old.as_bytes()[0] + 1);
        live.takes(&format!("tag = '{new}'")).await;
        assert_eq!(live.tag().await, new.to_string());
        plays(&mut client, &mut peer).await;
        fs::write(live.data().join("open"), "").unwrap();
        let (_peer, hello, _) = live.backend.accept_login().await;
        assert_eq!(hello.host, format!("{old}.held"));
        live.program
            .line("plugin `live` has let the worker go")
            .await;
    }
}
