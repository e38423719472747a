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

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use infrarust_test_support::{ClosedAddress, library};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::jobs::{
    Backend, choose, compressed, intercepted, rewritten, through_mode, through_plugins,
    with_room_for_one, without_backend,
};
pub(super) use self::program::{Program, node_command};
use self::program::{find_python, real_dir, tool};
use crate::alone::shared;

mod jobs;
mod plugins;
mod program;

/// How long a program may take until its first line. Node reads the packets of
/// all versions before that, which took 1.5 s on two cores.
const START: Duration = Duration::from_secs(120);

/// How long one batch of the matrix may take, of which there are three; each took
/// about 20 s on two cores.
const BATCH: Duration = Duration::from_secs(780);

/// How long `status.py` waits for each answer, in seconds: more than the 10 s
/// that the proxy gives a client whose bytes may not be complete.
const STATUS_TIMEOUT_SECS: &str = "60";

/// Names the jobs of the matrix that run; without it all of them run.
const REAL_JOB: &str = "INFRARUST_REAL_JOB";

/// Set to keep the folders of the tests.
const KEEP: &str = "INFRARUST_KEEP";

/// The intercepted modes as configurations name them.
const INTERCEPTED: [&str; 2] = ["client_only", "offline"];

/// The version with which all pairs of compression thresholds are tried.
const COMPRESSED: &str = "1.20.4";

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
