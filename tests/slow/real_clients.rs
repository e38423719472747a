//! Clients and servers that other people wrote meet each other through the
//! proxy: `minecraft-protocol` for Node plays, bots of `mineflayer` walk into
//! worlds of `flying-squid`, `mcstatus` for Python asks, `quarry` for Python plays.
//!
//! The programs and how to install them are described in `tests/real/README.md`.
//! Where they are missing these tests say so in one line and pass, unless the
//! environment has `INFRARUST_REAL_CLIENTS=required`.
//!
//! `INFRARUST_REAL_JOB=play-1.20.4-online` runs one job of the matrix, with the
//! log filter of `RUST_LOG`; `INFRARUST_KEEP=1` keeps the folder of each proxy,
//! with the output of the programs in `*.log`.

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use infrarust_test_support::{ClosedAddress, library};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::alone::shared;

mod plugins;

/// How long a program may take until its first line. Node reads the packets of
/// all versions before that, which took 1.5 s on two cores.
const START: Duration = Duration::from_secs(120);

/// How long one batch of the matrix may take, of which there are three; each took
/// about 20 s on two cores.
const BATCH: Duration = Duration::from_secs(780);

/// How long `status.py` waits for each answer, in seconds: more than the 10 s
/// that the proxy gives a client whose bytes may not be complete.
const STATUS_TIMEOUT_SECS: &str = "60";

/// The number of last lines of a program that a failure shows.
const TAIL_LINES: usize = 40;

/// Names the jobs of the matrix that run; without it all of them run.
const REAL_JOB: &str = "INFRARUST_REAL_JOB";

/// Set to keep the folders of the tests.
const KEEP: &str = "INFRARUST_KEEP";

/// The intercepted modes as configurations name them.
const INTERCEPTED: [&str; 2] = ["client_only", "offline"];

/// The version with which all pairs of compression thresholds are tried.
const COMPRESSED: &str = "1.20.4";

/// The version with which a crowd talks.
const CROWDED: &str = "1.21.4";

/// The secret of the signed forwarding.
const SECRET: &str = "the secret of the real backends";

/// The protocol version since which logins have plugin messages (1.13).
const VELOCITY_SINCE: u64 = 393;

/// The protocol version since which there is a configuration state (1.20.2).
const CONFIGURATION_SINCE: u64 = 764;

/// The forwarding modes as configurations name them.
const MODES: [&str; 3] = ["passthrough", "zero_copy", "server_only"];

#[test]
fn players_of_every_version_play_in_every_mode() {
    let _machine = shared();
    let Some(mut node) = node_command() else {
        return;
    };
    let only = env::var(REAL_JOB).ok();
    node.arg("matrix.mjs");
    if let Some(name) = &only {
        let version = name.split(['-', '/']).nth(1);
        node.args(["--only", version.unwrap_or_default()]);
    }
    let nobody = ClosedAddress::bind();
    let mut setup = Setup::new();
    let mut fleet = Program::start(&mut node, "matrix.mjs", setup.kept_log("matrix"));
    let ready = fleet.event("ready", START);

    setup.plugins();
    setup.session_service(ready["session"].as_str().unwrap());
    let mut jobs = Vec::new();
    for backend in ready["servers"].as_array().unwrap() {
        let is_between = backend["between"].as_bool().unwrap();
        let backend = Backend {
            version: backend["version"].as_str().unwrap(),
            protocol: backend["protocol"].as_u64().unwrap(),
            online: backend["online"].as_bool().unwrap(),
            address: format!("127.0.0.1:{}", backend["port"]),
        };
        for mode in INTERCEPTED {
            intercepted(mode, &backend, &mut setup, &mut jobs);
        }
        if backend.version == COMPRESSED {
            compressed(&backend, &mut setup, &mut jobs);
        }
        if is_between {
            continue;
        }
        for mode in MODES {
            through_mode(mode, &backend, &mut setup, &mut jobs);
        }
        if !backend.online {
            for mode in ["passthrough", "zero_copy"] {
                rewritten(mode, &backend, &mut setup, &mut jobs);
                with_room_for_one(mode, &backend, &mut setup, &mut jobs);
            }
            without_backend(
                &nobody.address.to_string(),
                backend.version,
                &mut setup,
                &mut jobs,
            );
        }
        for mode in MODES {
            through_plugins(mode, &backend, &mut setup, &mut jobs);
        }
    }

    if let Some(name) = &only {
        choose(name, &mut jobs);
    }
    let mut proxy = setup.start_proxy();
    let is_intercepted = |job: &Value| !job["intercepted"].is_null();
    let (intercepted, forwarded): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_intercepted);
    let is_crowd = |job: &Value| job["do"] == "crowd";
    let (crowds, intercepted): (Vec<_>, Vec<_>) = intercepted.into_iter().partition(is_crowd);
    for batch in [forwarded, intercepted, crowds] {
        run(&batch, &mut fleet, &proxy);
    }
    proxy.program.assert_running();
    assert_eq!(fleet.finish(START), Some(0), "the exit code of matrix.mjs");
}

/// Bots load worlds and chat; every packet in play but the plugin messages is the
/// one that the server wrote, also where a plugin is asked for every packet of both
/// directions. Those that are sent away load a world again.
#[test]
fn bots_load_worlds_byte_for_byte_and_chat() {
    let _machine = shared();
    let Some(mut node) = node_command() else {
        return;
    };
    let mut setup = Setup::new();
    let mut worlds = Program::start(node.arg("world.mjs"), "world.mjs", setup.kept_log("worlds"));
    let ready = worlds.event("ready", START);
    setup.session_service(ready["session"].as_str().unwrap());
    setup.plugin_for_all_packets();
    let mut jobs = Vec::new();
    for world in ready["servers"].as_array().unwrap() {
        let version = world["version"].as_str().unwrap();
        let address = format!("127.0.0.1:{}", world["port"]);
        for mode in INTERCEPTED {
            let id = format!("world-{version}-{mode}").replace(['.', '_'], "-");
            let host = format!("{id}.example");
            let network = format!("network = \"{id}\"\n");
            setup.server(mode, &host, &address, &network);
            setup.server(mode, &format!("other-{host}"), &address, &network);
            let watched = format!("watched-{host}");
            setup.server(mode, &watched, &address, "plugins = [\"packets\"]\n");
            for (what, host, moved) in [
                ("", &host, false),
                ("-moved", &host, true),
                ("-watched", &watched, false),
            ] {
                jobs.push(json!({
                    "id": format!("{id}{what}"),
                    "version": version,
                    "host": host,
                    "proves": mode == "client_only",
                    "moved": moved,
                }));
            }
        }
    }
    let mut proxy = setup.start_proxy();
    run(&jobs, &mut worlds, &proxy);
    proxy.program.assert_running();
    assert_eq!(worlds.finish(START), Some(0), "the exit code of world.mjs");
}

/// Lets the program run the jobs, and fails with everything that went wrong.
fn run(jobs: &[Value], fleet: &mut Program, proxy: &Proxy) {
    let proxy_at = json!({ "host": "127.0.0.1", "port": proxy.address.port() });
    fleet.send(&json!({ "proxy": proxy_at, "jobs": jobs }));
    let deadline = Instant::now() + BATCH;
    let mut passed = 0;
    let mut report = String::new();
    loop {
        let line = match fleet.try_json(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(why) => {
                writeln!(report, "{why}\n{}", fleet.tail()).unwrap();
                break;
            }
        };
        match line["event"].as_str() {
            Some("result") if line["ok"] == true => passed += 1,
            Some("result") => writeln!(report, "{}: {}", line["id"], line["error"]).unwrap(),
            Some("summary") => break,
            _ => writeln!(report, "{}: {line}", fleet.name).unwrap(),
        }
    }
    assert!(
        report.is_empty() && passed == jobs.len(),
        "{passed} of {} passed\n{report}{}",
        jobs.len(),
        proxy.program.tail()
    );
}

#[test]
fn mcstatus_reads_status_and_pong_through_the_proxy() {
    let _machine = shared();
    let (Some(mut node), Some(python)) = (node_command(), tool(find_python("mcstatus"))) else {
        return;
    };
    let mut backend = Program::start(node.arg("server.mjs"), "server.mjs", None);
    let listening = backend.event("listening", START);
    let address = format!("127.0.0.1:{}", listening["port"]);
    let version = listening["version"].as_str().unwrap();

    let mut setup = Setup::new();
    for mode in ["passthrough", "zero_copy"] {
        let host = format!("{}.example", mode.replace('_', "-"));
        setup.server(mode, &host, &address, "");
        let rewrite = "domain_rewrite = { explicit = \"inside.example\" }\n";
        setup.server(mode, &format!("rewritten-{host}"), &address, rewrite);
    }
    let proxy = setup.start_proxy();

    for (host, seen) in [
        ("passthrough.example", "passthrough.example"),
        ("zero-copy.example", "zero-copy.example"),
        ("rewritten-passthrough.example", "inside.example"),
        ("rewritten-zero-copy.example", "inside.example"),
    ] {
        let protocol = listening["protocol"].to_string();
        let arguments = ["--host", host, "--protocol", &protocol, "--ping"];
        let answer = ask(&python, &proxy, &arguments);
        let text = format!("real backend {version} offline seen as {seen}");
        assert_eq!(answer["status"]["text"], text, "{answer}");
        assert_eq!(
            answer["status"]["protocol"], listening["protocol"],
            "{answer}"
        );
        assert_eq!(answer["status"]["max"], 20, "{answer}");
        assert!(answer["ping"]["ms"].is_number(), "{answer}");
    }
}

#[test]
fn mcstatus_reads_a_legacy_ping_through_the_proxy() {
    let _machine = shared();
    let (Some(mut node), Some(python)) = (node_command(), tool(find_python("mcstatus"))) else {
        return;
    };
    let mut backend = Program::start(node.arg("server.mjs"), "server.mjs", None);
    let listening = backend.event("listening", START);

    let mut setup = Setup::new();
    let address = format!("127.0.0.1:{}", listening["port"]);
    setup.server("passthrough", "old.example", &address, "");
    let proxy = setup.start_proxy();

    // The ping ends after `FE 01 FA`: whether a host follows is never known.
    let answer = ask(&python, &proxy, &["--host", "old.example", "--legacy"]);
    assert!(answer["legacy"]["max"].is_number(), "{answer}");
    assert!(answer["legacy"]["text"].is_string(), "{answer}");
}

/// A backend of the matrix.
struct Backend<'a> {
    version: &'a str,
    protocol: u64,
    online: bool,
    address: String,
}

impl Backend<'_> {
    /// A virtual host for this backend under `name`.
    fn host(&self, name: &str) -> String {
        let auth = if self.online { "online" } else { "offline" };
        let version = self.version.replace('.', "-");
        format!("{}-{version}-{auth}.example", name.replace('_', "-"))
    }

    /// A job of the matrix; see the head of `matrix.mjs`. Its id is what it
    /// does, the player, and after `/` the first part of its host.
    fn job(&self, what: &str, host: &str) -> Value {
        let auth = if self.online { "online" } else { "offline" };
        let part = host.strip_suffix(&self.host("")).unwrap_or(host);
        json!({
            "id": format!("{what}-{}-{auth}/{part}", self.version),
            "do": what,
            "version": self.version,
            "online": self.online,
            "host": host,
        })
    }
}

/// Keeps the jobs with this name: a whole id, or the part of it before `/`.
fn choose(name: &str, jobs: &mut Vec<Value>) {
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    let ids: Vec<_> = jobs.iter().map(id).collect();
    jobs.retain(|job| {
        let id = id(job);
        id == name || id.split('/').next() == Some(name)
    });
    assert!(
        !jobs.is_empty(),
        "{REAL_JOB}: there is no job `{name}`, only\n{}",
        ids.join("\n")
    );
}

/// Sessions and pings as they are, and in `server_only` the promise that a
/// backend without authentication lets nobody in.
fn through_mode(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let host = backend.host(mode);
    setup.server(mode, &host, &backend.address, "");
    jobs.push(backend.job("status", &host));
    if mode == "server_only" && !backend.online {
        jobs.push(backend.job("refused", &host));
    } else {
        jobs.push(backend.job("play", &host));
        jobs.push(backend.job("kick", &host));
    }
}

/// The proxy speaks the protocol: sessions, kicks and losses of the backend in every state,
/// a full server, and a backend in online mode.
fn intercepted(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let proves = json!(mode == "client_only");
    let host = backend.host(mode);
    let lost = format!("{host} has gone");
    let keys = format!("disconnect_message = \"{lost}\"\n");
    setup.server(mode, &host, &backend.address, &keys);
    let mut whats = vec![backend.job("status", &host)];
    if backend.online {
        let mut job = backend.job("refused", &host);
        job["text"] = json!("authenticates players itself");
        job["online"] = json!(false);
        whats.push(job);
    } else {
        // Without forwarding the backend makes the id from the name.
        for what in ["play", "kick", "turnedAway"] {
            whats.push(backend.job(what, &host));
        }
        let mut losses = vec!["lost"];
        if backend.protocol >= CONFIGURATION_SINCE {
            whats.push(backend.job("kickedEarly", &host));
            losses.push("lostEarly");
        }
        for what in losses {
            let mut job = backend.job(what, &host);
            job["text"] = json!(lost);
            // One mode sees a reset, the other one an orderly end.
            job["reset"] = proves.clone();
            whats.push(job);
        }
        let guarded = backend.host(&format!("guarded-{mode}"));
        setup.server(
            mode,
            &guarded,
            &backend.address,
            "plugins = [\"chat-guard\"]\n",
        );
        let mut job = backend.job("guarded", &guarded);
        job["dropped"] = json!("buy GOLD now");
        job["notice"] = json!("no advertising");
        whats.push(job);
        if mode == "client_only" {
            let mut job = backend.job("unproved", &host);
            job["text"] = json!("not authenticated with your Minecraft account");
            whats.push(job);
        }
        let full = backend.host(&format!("full-{mode}"));
        let text = format!("no room on {full}");
        let keys = format!("max_players = 1\nfull_message = \"{text}\"\n");
        setup.server(mode, &full, &backend.address, &keys);
        let mut job = backend.job("full", &full);
        job["text"] = json!(text);
        whats.push(job);
        if backend.version == CROWDED {
            whats.push(backend.job("crowd", &host));
        }
        forwarded(mode, backend, setup, jobs);
        whats.extend(moved(mode, backend, setup));
    }
    for mut job in whats {
        job["intercepted"] = json!(true);
        job["proves"] = proves.clone();
        job["uuid"] = json!("offline");
        jobs.push(job);
    }
}

/// Two servers of a network with the same backend. A client that is kicked from the first,
/// or loses it, is moved to the second. The backend also switches a client back and forth.
fn moved(mode: &str, backend: &Backend<'_>, setup: &mut Setup) -> [Value; 3] {
    let hosts = ["moved", "other"].map(|name| backend.host(&format!("{name}-{mode}")));
    let [first, other] = [0, 1].map(|at| hosts[at].strip_suffix(".example").unwrap());
    let keys = format!("network = \"{first}\"\nbungeecord_channel = true\n");
    for host in &hosts {
        setup.server(mode, host, &backend.address, &keys);
    }
    let kick = format!("sent away by {first}");
    let mut kicked = backend.job("moved", &hosts[0]);
    kicked["id"] = json!(format!("{}-kicked", kicked["id"].as_str().unwrap()));
    kicked["notice"] = json!(format!("You were moved from {first} to {other}: {kick}"));
    kicked["kick"] = json!(kick);
    let mut lost = backend.job("moved", &hosts[0]);
    lost["id"] = json!(format!("{}-lost", lost["id"].as_str().unwrap()));
    lost["notice"] = json!(format!(
        "The server {first} cannot be reached. You are on {other} now."
    ));
    // One mode sees a reset, the other one an orderly end.
    lost["reset"] = json!(mode == "client_only");
    let mut switched = backend.job("switched", &hosts[0]);
    switched["servers"] = json!([first, other]);
    [kicked, lost, switched]
}

/// The backend learns the player's identity, and the client gets the same id.
fn forwarded(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let velocity = format!("forwarding_mode = \"velocity\"\nforwarding_secret = \"{SECRET}\"\n");
    let bungeecord = "forwarding_mode = \"bungeecord\"\n".to_owned();
    let ways = [
        ("bungeecord", bungeecord, json!("bungeecord")),
        ("velocity", velocity, json!({ "secret": SECRET })),
    ];
    for (name, keys, forwarding) in ways {
        let host = backend.host(&format!("{name}-{mode}"));
        setup.server(mode, &host, &backend.address, &keys);
        let is_old = name == "velocity" && backend.protocol < VELOCITY_SINCE;
        let mut job = backend.job(if is_old { "refused" } else { "play" }, &host);
        if is_old {
            job["text"] = json!("needs Minecraft 1.13 or newer");
        } else {
            job["forwarding"] = forwarding;
        }
        let proves = mode == "client_only";
        job["intercepted"] = json!(true);
        job["proves"] = json!(proves);
        job["uuid"] = json!(if proves { "profile" } else { "offline" });
        jobs.push(job);
    }
}

/// Every pair of compression thresholds of the two sides.
fn compressed(backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    if backend.online {
        return;
    }
    for client in [-1, 0, 256, 1024] {
        let host = backend.host(&format!("compressed-{client}").replace("--1", "-off"));
        let keys = format!("compression_threshold = {client}\n");
        setup.server("offline", &host, &backend.address, &keys);
        for at_backend in [-1, 0, 256, 1024] {
            for what in ["play", "kick"] {
                let mut job = backend.job(what, &host);
                let id = format!("{}-behind-{at_backend}", job["id"].as_str().unwrap());
                job["id"] = json!(id);
                job["intercepted"] = json!(true);
                job["clientThreshold"] = json!(client);
                job["backendThreshold"] = json!(at_backend);
                jobs.push(job);
            }
        }
    }
}

/// The backend gets another host, in pings and logins.
fn rewritten(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let host = backend.host(&format!("rewritten-{mode}"));
    let seen = backend.host("inside");
    let rewrite = format!("domain_rewrite = {{ explicit = \"{seen}\" }}\n");
    setup.server(mode, &host, &backend.address, &rewrite);
    for what in ["status", "play"] {
        let mut job = backend.job(what, &host);
        job["seenHost"] = json!(seen);
        jobs.push(job);
    }
}

/// Plugins as libraries: one chooses the host for the backend, another refuses all players
/// on one server.
fn through_plugins(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let host = backend.host(&format!("plugin-{mode}"));
    setup.server(
        mode,
        &host,
        &backend.address,
        "plugins = [\"domain-rewrite\"]\n",
    );
    let mut whats = vec!["status"];
    if mode != "server_only" || backend.online {
        whats.extend(["play", "kick"]);
    }
    for what in whats {
        let mut job = backend.job(what, &host);
        job["seenHost"] = json!(host.replace(".example", ".inside"));
        jobs.push(job);
    }
    let host = backend.host(&format!("closed-{mode}"));
    setup.server(mode, &host, &backend.address, "plugins = [\"allowlist\"]\n");
    let mut job = backend.job("refused", &host);
    job["text"] = json!("the list has nobody");
    jobs.push(job);
}

/// A second player reads `full_message` until the first has left.
fn with_room_for_one(mode: &str, backend: &Backend<'_>, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let host = backend.host(&format!("full-{mode}"));
    let text = format!("no room on {host}");
    let keys = format!("max_players = 1\nfull_message = \"{text}\"\n");
    setup.server(mode, &host, &backend.address, &keys);
    let mut job = backend.job("full", &host);
    job["text"] = json!(text);
    jobs.push(job);
}

/// A player on a server without a reachable backend reads `disconnect_message`.
fn without_backend(nobody: &str, version: &str, setup: &mut Setup, jobs: &mut Vec<Value>) {
    let backend = Backend {
        version,
        protocol: 0,
        online: false,
        address: nobody.to_owned(),
    };
    let host = backend.host("down");
    let text = format!("{host} sleeps");
    let keys = format!("disconnect_message = \"{text}\"\n");
    setup.server("passthrough", &host, &backend.address, &keys);
    let mut job = backend.job("refused", &host);
    job["text"] = json!(text);
    jobs.push(job);
}

/// The configuration of one proxy, in a folder that is removed with it.
struct Setup {
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        let is_kept = env::var_os(KEEP).is_some();
        let folder = tempfile::Builder::new()
            .prefix("infrarust-real-")
            .disable_cleanup(is_kept)
            .tempdir()
            .unwrap();
        if is_kept {
            // Past the capture of the test runner.
            let line = format!("kept: {}\n", folder.path().display());
            io::stderr().write_all(line.as_bytes()).unwrap();
        }
        fs::create_dir(folder.path().join("servers")).unwrap();
        let global = "bind = \"127.0.0.1:0\"\n\
                      servers_dir = \"servers\"\n\
                      \n\
                      [log]\n\
                      format = \"json\"\n\
                      \n\
                      [plugin_messaging]\n\
                      bungeecord = true\n\
                      \n";
        let setup = Self { folder };
        fs::write(setup.global(), global).unwrap();
        setup
    }

    fn global(&self) -> PathBuf {
        self.folder.path().join("infrarust.toml")
    }

    /// The file for the output of a program, if the folder is kept.
    fn kept_log(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.path().join(format!("{name}.log"));
        env::var_os(KEEP).map(|_| path)
    }

    /// Names the session service that replaces Mojang's.
    fn session_service(&self, url: &str) {
        let mut global = fs::read_to_string(self.global()).unwrap();
        writeln!(
            global,
            "[auth]\nsession_url = \"{url}/session/minecraft/hasJoined\""
        )
        .unwrap();
        fs::write(self.global(), global).unwrap();
    }

    /// Adds the plugins that servers name.
    fn plugins(&self) {
        let rewrite = library::build("plugins/domain-rewrite", "domain_rewrite");
        let allow = library::build("plugins/allowlist", "allowlist");
        let guard = library::build("plugins/chat-guard", "chat_guard");
        let mut global = fs::read_to_string(self.global()).unwrap();
        writeln!(
            global,
            "[plugins.domain-rewrite]\npath = {rewrite:?}\nservers = [\"plugin-*\"]\n\
             config.rules = [{{ from = \"*.example\", to = \"$1.inside\" }}]\n\
             [plugins.allowlist]\npath = {allow:?}\nservers = [\"closed-*\"]\n\
             config = {{ names = [], message = \"the list has nobody\" }}\n\
             [plugins.chat-guard]\npath = {guard:?}\nservers = [\"guarded-*\"]\n\
             config = {{ patterns = [\"*gold*\"], pattern_text = \"<red>no advertising\" }}"
        )
        .unwrap();
        fs::write(self.global(), global).unwrap();
    }

    /// Adds a plugin that gets all packets and lets them pass, on servers that name it.
    fn plugin_for_all_packets(&self) {
        let packets = library::build("tests/plugins/packets", "infrarust_test_packets");
        let events = self.folder.path().join("packets");
        let all = "[\"to_client\", \"to_backend\"]";
        let mut global = fs::read_to_string(self.global()).unwrap();
        writeln!(
            global,
            "[plugins.packets]\npath = {packets:?}\nservers = [\"watched-*\"]\n\
             config = {{ events = {events:?}, inspect = {all}, modify = {all}, counts = true }}"
        )
        .unwrap();
        fs::write(self.global(), global).unwrap();
    }

    /// Adds a server file. Its id is the host; `keys` are further lines of it.
    fn server(&mut self, mode: &str, host: &str, address: &str, keys: &str) {
        let text = format!(
            "domains = [\"{host}\"]\naddresses = [\"{address}\"]\nproxy_mode = \"{mode}\"\n{keys}"
        );
        let id = host.strip_suffix(".example").unwrap();
        let file = self
            .folder
            .path()
            .join("servers")
            .join(format!("{id}.toml"));
        fs::write(file, text).unwrap();
    }

    /// Starts the proxy and waits until it logs its address.
    fn start_proxy(self) -> Proxy {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infrarust"));
        command
            .arg("-c")
            .arg(self.folder.path().join("infrarust.toml"))
            .current_dir(self.folder.path())
            // No socket of the test's own starter must be taken over.
            .env_remove("LISTEN_FDS");
        if env::var_os(REAL_JOB).is_none() {
            // The line that names the port must not be filtered away.
            command.env_remove("RUST_LOG");
        }
        let log = self.kept_log("infrarust");
        let mut program = Program::start(&mut command, "infrarust", log);
        let deadline = Instant::now() + START;
        loop {
            let line = program.json(deadline.saturating_duration_since(Instant::now()));
            let fields = &line["fields"];
            if fields["message"] == "listening" {
                let address = fields["address"].as_str().unwrap().parse().unwrap();
                return Proxy {
                    program,
                    address,
                    _folder: self.folder,
                };
            }
        }
    }
}

/// How long all players of `quarry` may take; each takes half a second at most.
const QUARRY: Duration = Duration::from_secs(300);

/// Players of `quarry`, of every version of its login, are let in by a server of
/// `quarry` in both intercepted modes: messages come back, and so does a kick.
#[test]
fn quarry_plays_in_the_intercepted_modes() {
    let Some(python) = tool(find_python("quarry")) else {
        return;
    };
    let _machine = shared();
    let mut setup = Setup::new();
    let mut command = Command::new(python);
    command.arg("quarry_play.py").current_dir(real_dir());
    let mut program = Program::start(&mut command, "quarry_play.py", setup.kept_log("quarry"));
    let begun = program.json(START);
    setup.session_service(begun["session"].as_str().unwrap());
    let mut hosts = serde_json::Map::new();
    for mode in INTERCEPTED {
        let host = format!("{}.example", mode.replace('_', "-"));
        setup.server(mode, &host, begun["backend"].as_str().unwrap(), "");
        hosts.insert(mode.to_owned(), json!(host));
    }
    let proxy = setup.start_proxy();
    program.send(&json!({"proxy": proxy.address.to_string(), "hosts": hosts}));
    let mut players = 0;
    let deadline = Instant::now() + QUARRY;
    while let Ok(seen) = program.try_json(deadline.saturating_duration_since(Instant::now())) {
        players += 1;
        let version = seen["version"].as_i64().unwrap();
        let is_proved = seen["mode"] == "client_only";
        assert_eq!(seen["name"], format!("Quarry{version}"), "{seen}");
        assert_eq!(seen["echoed"], json!([true, true]), "{seen}");
        assert_eq!(seen["kick"], "enough", "{seen}");
        assert_eq!(seen["encrypted"], is_proved, "{seen}");
        let threshold = if version < 47 { -1 } else { 256 };
        assert_eq!(seen["threshold"], threshold, "{seen}");
    }
    // Eleven versions in each mode.
    assert_eq!(players, 22, "{}\n{}", program.tail(), proxy.program.tail());
    assert_eq!(program.finish(START), Some(0), "{}", program.tail());
}

/// A running proxy.
struct Proxy {
    program: Program,
    address: SocketAddr,
    _folder: TempDir,
}

/// Runs `status.py` against the proxy and returns what it printed.
fn ask(python: &Path, proxy: &Proxy, arguments: &[&str]) -> Value {
    let mut command = Command::new(python);
    command
        .arg("status.py")
        .args(["--dial", &proxy.address.to_string()])
        .args(["--timeout", STATUS_TIMEOUT_SECS])
        .args(arguments)
        .current_dir(real_dir());
    let mut program = Program::start(&mut command, "status.py", None);
    let answer = program.json(START);
    let code = program.finish(START);
    assert_eq!(code, Some(0), "{answer}\n{}", proxy.program.tail());
    answer
}

/// The folder of the clients and servers.
fn real_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real")
}

fn runs(program: &Path, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn find_node() -> Result<PathBuf, String> {
    let node = PathBuf::from("node");
    if !runs(&node, &["--version"]) {
        return Err("`node` cannot be started".into());
    }
    for package in ["minecraft-protocol", "mineflayer", "flying-squid"] {
        let description = real_dir().join("node_modules").join(package);
        if !description.join("package.json").is_file() {
            return Err(format!("`{package}` is not installed in tests/real"));
        }
    }
    Ok(node)
}

/// Node in the folder of the programs, unless something is missing.
pub(super) fn node_command() -> Option<Command> {
    let mut command = Command::new(tool(find_node())?);
    command.current_dir(real_dir());
    Some(command)
}

/// A Python with these packages.
fn find_python(packages: &str) -> Result<PathBuf, String> {
    let own = real_dir().join(".venv/bin/python");
    let import = format!("import {packages}");
    [own, "python3".into(), "python".into()]
        .into_iter()
        .find(|python| runs(python, &["-c", &import]))
        .ok_or_else(|| format!("no Python with `{packages}`"))
}

/// The tool, or `None` after reporting that a test is skipped because it is missing.
fn tool(found: Result<PathBuf, String>) -> Option<PathBuf> {
    match found {
        Ok(program) => Some(program),
        Err(missing) => {
            let required = env::var_os("INFRARUST_REAL_CLIENTS").is_some_and(|v| v == "required");
            assert!(!required, "{missing}, see tests/real/README.md");
            // Once for all tests, and past the capture of the test runner, so that
            // a skip shows.
            static REPORTED: Once = Once::new();
            REPORTED.call_once(|| {
                let line = format!("real clients skipped: {missing}, see tests/real/README.md\n");
                io::stderr().write_all(line.as_bytes()).unwrap();
            });
            None
        }
    }
}

/// A child process with lines that are read as they arrive. It ends with this value.
pub(super) struct Program {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Program {
    /// Starts it; `log` is a file for everything that it prints.
    pub(super) fn start(command: &mut Command, name: &'static str, log: Option<PathBuf>) -> Self {
        let log = log.map(|path| fs::File::create(path).unwrap());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, lines) = mpsc::channel();
        let stdin = child.stdin.take();
        // Both are read to their end, so that the program never waits for us.
        read_lines(
            child.stdout.take().unwrap(),
            log.as_ref().map(|file| file.try_clone().unwrap()),
            Arc::clone(&tail),
            Some(sender),
        );
        read_lines(child.stderr.take().unwrap(), log, Arc::clone(&tail), None);
        Self {
            name,
            child,
            stdin,
            lines,
            tail,
        }
    }

    /// The next line of standard output that is a JSON object, or why there is none.
    fn try_json(&mut self, wait: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} said nothing more in time", self.name));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{} has ended", self.name));
                }
            };
            // A library may print words of its own between the events.
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                return Ok(value);
            }
        }
    }

    fn json(&mut self, wait: Duration) -> Value {
        self.try_json(wait)
            .unwrap_or_else(|why| panic!("{why}\n{}", self.tail()))
    }

    /// The next line with this `event`.
    pub(super) fn event(&mut self, event: &str, wait: Duration) -> Value {
        let deadline = Instant::now() + wait;
        loop {
            let line = self.json(deadline.saturating_duration_since(Instant::now()));
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Writes one line to its standard input.
    pub(super) fn send(&mut self, value: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{value}").unwrap();
    }

    /// Closes its standard input and waits for its exit code.
    pub(super) fn finish(&mut self, wait: Duration) -> Option<i32> {
        self.stdin = None;
        let deadline = Instant::now() + wait;
        // The end of its output is the signal that it ends.
        while self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        if Instant::now() >= deadline {
            return None;
        }
        self.child.wait().unwrap().code()
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "{} ended: {ended:?}\n{}",
            self.name,
            self.tail()
        );
    }

    /// The last lines that it wrote, for a failure.
    fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap();
        let mut text = format!("the last lines of {}:\n", self.name);
        for line in tail.iter() {
            writeln!(text, "  {line}").unwrap();
        }
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe to its end on a separate thread.
fn read_lines(
    pipe: impl io::Read + Send + 'static,
    mut log: Option<fs::File>,
    tail: Arc<Mutex<VecDeque<String>>>,
    sender: Option<mpsc::Sender<String>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(log) = &mut log {
                writeln!(log, "{line}").unwrap();
            }
            {
                let mut tail = tail.lock().unwrap();
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.clone());
            }
            // The test may have stopped listening; reading goes on all the same.
            if let Some(sender) = &sender {
                let _ = sender.send(line);
            }
        }
    });
}
