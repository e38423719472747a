//! Plugins with real clients: packets that a plugin sends, networks and rewritten hosts on
//! servers of all five modes, from files and from labels of containers; and commands.

use infrarust_test_support::engine::{FakeEngine, container};

use super::*;

/// The source of a server.
#[derive(Debug, Clone, Copy)]
enum Source {
    File,
    Label,
}

const SOURCES: [Source; 2] = [Source::File, Source::Label];

/// The text of the plugin. The job replaces the name of the player in it.
const GREETING: &str = "Hello {name}! A plugin sends this packet.";

/// The protocol version since which servers send their commands (1.13).
const TREES_SINCE: u64 = 393;

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Label => "label",
        }
    }
}

/// A proxy that reads files and containers.
struct Mission {
    setup: Setup,
    engine: FakeEngine,
}

impl Mission {
    fn new(session_service: &str) -> Self {
        let setup = Setup::new();
        let engine = FakeEngine::start();
        setup.session_service(session_service);
        let rewrite = library::build("plugins/domain-rewrite", "domain_rewrite");
        let greeter = library::build("examples/plugins/packet-greeter", "packet_greeter");
        let mut global = fs::read_to_string(setup.global()).unwrap();
        writeln!(
            global,
            "{}[plugins.domain-rewrite]\npath = {rewrite:?}\n\
             config.rules = [{{ from = \"*.example\", to = \"$1.inside\" }}]\n\
             [plugins.packet-greeter]\npath = {greeter:?}",
            engine.table("")
        )
        .unwrap();
        fs::write(setup.global(), global).unwrap();
        Self { setup, engine }
    }

    /// Adds a server. Its id is its host without the last label.
    fn add(
        &mut self,
        source: Source,
        mode: &str,
        host: &str,
        address: &str,
        keys: &[(&str, &str)],
    ) {
        match source {
            Source::File => {
                let line = |(key, value): &(&str, &str)| match *key {
                    "plugins" => format!("plugins = [\"{}\"]\n", value.replace(", ", "\", \"")),
                    _ => format!("{key} = \"{value}\"\n"),
                };
                let lines: String = keys.iter().map(line).collect();
                self.setup.server(mode, host, address, &lines);
            }
            Source::Label => {
                let mut labels = vec![
                    ("infrarust.domains".to_owned(), host),
                    ("infrarust.proxy_mode".to_owned(), mode),
                ];
                labels.extend(
                    keys.iter()
                        .map(|(key, value)| (format!("infrarust.{key}"), *value)),
                );
                let labels: Vec<_> = labels.iter().map(|(key, value)| (&**key, *value)).collect();
                let id = host.strip_suffix(".example").unwrap();
                self.engine
                    .put(&container(id, address.parse().unwrap(), &labels));
            }
        }
    }

    /// The output of the checker, and whether the proxy would start.
    fn check(&self) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_infrarust"))
            .arg("-c")
            .arg(self.setup.global())
            .args(["check", "--docker"])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// One plugin that needs `packet.inject`, one `network` and one rewritten host on servers
/// of all five modes, from files and from labels. The first two are refused in the three
/// forwarding modes, with an error at their lines. Everything else works: real clients read
/// the packets of the plugin in the two other modes, on both servers of a network, and the
/// backend sees the rewritten host in all five.
#[test]
fn each_mode_gives_what_it_can() {
    let _machine = shared();
    let Some(mut node) = node_command() else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut fleet = Program::start(node.arg("matrix.mjs"), "matrix.mjs", None);
    let ready = fleet.event("ready", START);
    let session = ready["session"].as_str().unwrap();
    for source in SOURCES {
        refused_by_the_checker(source, session);
    }

    let mut mission = Mission::new(session);
    let mut jobs = Vec::new();
    for backend in ready["servers"].as_array().unwrap() {
        let is_between = backend["between"].as_bool().unwrap();
        let backend = Backend {
            version: backend["version"].as_str().unwrap(),
            protocol: backend["protocol"].as_u64().unwrap(),
            online: backend["online"].as_bool().unwrap(),
            address: format!("127.0.0.1:{}", backend["port"]),
        };
        for source in SOURCES {
            for mode in MODES {
                // A guarded backend authenticates its players.
                if !is_between && backend.online == (mode == "server_only") {
                    forwarded_host(source, mode, &backend, &mut mission, &mut jobs);
                }
            }
            for mode in INTERCEPTED.into_iter().filter(|_| !backend.online) {
                greeted(source, mode, &backend, &mut mission, &mut jobs);
            }
        }
    }
    if let Ok(name) = env::var(REAL_JOB) {
        jobs.retain(|job| job["id"] == name);
    }
    let (_, checked) = mission.check();
    assert!(!checked.contains("error["), "{checked}");
    let mut proxy = mission.setup.start_proxy();
    let deadline = Instant::now() + START;
    while proxy
        .program
        .json(deadline.saturating_duration_since(Instant::now()))["fields"]["message"]
        != "containers are read"
    {}
    run(&jobs, &mut fleet, &proxy);
    proxy.program.assert_running();
    assert_eq!(fleet.finish(START), Some(0), "the exit code of matrix.mjs");
}

/// All of it on servers of all modes: two errors for each server in a forwarding mode.
fn refused_by_the_checker(source: Source, session: &str) {
    let mut mission = Mission::new(session);
    let keys = [
        ("network", "main"),
        ("plugins", "domain-rewrite, packet-greeter"),
    ];
    let id = |mode: &str| format!("{}-{}", mode.replace('_', "-"), source.name());
    for mode in MODES.into_iter().chain(INTERCEPTED) {
        let host = format!("{}.example", id(mode));
        mission.add(source, mode, &host, "127.0.0.1:1", &keys);
    }
    let (is_sound, text) = mission.check();
    assert!(!is_sound, "{text}");
    let shown = text.replace(&folder(&mission), "");
    for mode in MODES {
        let id = id(mode);
        let place = match source {
            Source::File => format!("--> servers/{id}.toml:"),
            Source::Label => format!("--> container {id}:"),
        };
        for begin in [
            format!(
                "error[mode-conflict]: the plugin `packet-greeter` needs `player.observe` and \
                 `packet.inject`, which `{mode}` cannot give to the server `{id}`\n"
            ),
            format!("error[mode-conflict]: `network` needs server switching, which `{mode}` "),
        ] {
            let is_it = |block: &&str| {
                let parts = [&*begin, &place, "^^^", "chosen here", "= help: "];
                parts.iter().all(|part| block.contains(part))
            };
            let found = shown.split("\n\n").filter(is_it).count();
            assert_eq!(found, 1, "{id}: {begin}\n{text}");
        }
    }
    // Nothing else is refused.
    assert_eq!(text.matches("error[").count(), 6, "{text}");
    if let Source::File = source {
        // Mistakes in files keep the proxy from starting.
        let mut command = Command::new(env!("CARGO_BIN_EXE_infrarust"));
        let output = command.arg("-c").arg(mission.setup.global()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("error[mode-conflict]").count(), 6, "{said}");
    }
}

/// The folder of the configuration, as a part of paths.
fn folder(mission: &Mission) -> String {
    format!("{}/", mission.setup.folder.path().display())
}

/// The plugin chooses the host for the backend, also in forwarding modes.
fn forwarded_host(
    source: Source,
    mode: &str,
    backend: &Backend<'_>,
    mission: &mut Mission,
    jobs: &mut Vec<Value>,
) {
    let host = backend.host(&format!("rewritten-{}-{mode}", source.name()));
    let keys = [("plugins", "domain-rewrite")];
    mission.add(source, mode, &host, &backend.address, &keys);
    for what in ["status", "play"] {
        let mut job = backend.job(what, &host);
        job["seenHost"] = json!(host.replace(".example", ".inside"));
        jobs.push(job);
    }
}

/// A plugin greets players on two servers of a network.
fn greeted(
    source: Source,
    mode: &str,
    backend: &Backend<'_>,
    mission: &mut Mission,
    jobs: &mut Vec<Value>,
) {
    let hosts =
        ["greeted", "other"].map(|name| backend.host(&format!("{name}-{}-{mode}", source.name())));
    let network = hosts[0].strip_suffix(".example").unwrap();
    let keys = [
        ("network", network),
        ("plugins", "domain-rewrite, packet-greeter"),
    ];
    for host in &hosts {
        mission.add(source, mode, host, &backend.address, &keys);
    }
    let mut job = backend.job("greeted", &hosts[0]);
    job["proves"] = json!(mode == "client_only");
    job["seenHost"] = json!(hosts[0].replace(".example", ".inside"));
    job["greeting"] = json!(GREETING);
    jobs.push(job);
}

/// The commands of a plugin in every version, in both modes: they are in the tree besides
/// those of the backend, and are completed and answered. Commands that the player may not
/// use, and those that no plugin may have, are not in the tree and reach the backend.
#[test]
fn players_use_commands_of_plugins() {
    let _machine = shared();
    let Some(mut node) = node_command() else {
        return;
    };
    let mut setup = Setup::new();
    let mut fleet = Program::start(node.arg("matrix.mjs"), "matrix.mjs", None);
    let ready = fleet.event("ready", START);
    setup.session_service(ready["session"].as_str().unwrap());
    let commander = library::build("tests/plugins/commander", "infrarust_test_commander");
    let mut global = fs::read_to_string(setup.global()).unwrap();
    let events = setup.folder.path().join("events");
    writeln!(
        global,
        "[plugins.commander]\npath = {commander:?}\nconfig.events = {events:?}"
    )
    .unwrap();
    fs::write(setup.global(), global).unwrap();
    let mut jobs = Vec::new();
    for backend in ready["servers"].as_array().unwrap() {
        let backend = Backend {
            version: backend["version"].as_str().unwrap(),
            protocol: backend["protocol"].as_u64().unwrap(),
            online: backend["online"].as_bool().unwrap(),
            address: format!("127.0.0.1:{}", backend["port"]),
        };
        for mode in INTERCEPTED.into_iter().filter(|_| !backend.online) {
            let host = backend.host(&format!("commands-{mode}"));
            setup.server(mode, &host, &backend.address, "");
            let mut job = backend.job("commanded", &host);
            job["proves"] = json!(mode == "client_only");
            job["hasTree"] = json!(backend.protocol >= TREES_SINCE);
            jobs.push(job);
        }
    }
    if let Ok(name) = env::var(REAL_JOB) {
        jobs.retain(|job| job["id"] == name);
    }
    let mut proxy = setup.start_proxy();
    run(&jobs, &mut fleet, &proxy);
    proxy.program.assert_running();
    assert_eq!(fleet.finish(START), Some(0), "the exit code of matrix.mjs");
}
