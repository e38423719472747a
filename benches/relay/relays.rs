//! The relays that are compared, and their use of CPU time, memory and descriptors as the
//! kernel counts them.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a relay may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// The program of this build.
const PROGRAM: &str = env!("CARGO_BIN_EXE_infrarust");

/// One way to relay.
pub struct Relay {
    pub name: String,
    /// Whether the others are compared with it.
    pub is_base: bool,
    /// Whether its backend announces compression.
    pub compresses: bool,
    cores: Vec<usize>,
    /// The program of infrarust: the one of this build, or another one for a comparison.
    program: PathBuf,
    kind: Kind,
}

enum Kind {
    /// With these lines in the server file.
    Infrarust(&'static str),
    /// With these lines in the server file, and a plugin.
    WithPlugin(&'static str, Plugin),
    /// With these lines in `defaults`, and in `global`.
    Haproxy(&'static str, &'static str),
}

/// A plugin of this workspace.
#[derive(Clone, Copy)]
struct Plugin {
    id: &'static str,
    package: &'static str,
    /// Its configuration.
    config: &'static str,
}

/// Rewrites the host to one that is as long.
const REWRITES: Plugin = Plugin {
    id: "domain-rewrite",
    package: "infrarust-plugin-domain-rewrite",
    config: "{ rules = [{ from = \"bench.test\", to = \"inner.test\" }] }",
};

/// Counts packets of a kind that is 1 % of those for players.
const COUNTS: Plugin = Plugin {
    id: "packets",
    package: "infrarust-test-packets",
    config: "{ events = \"/dev/null\", inspect = [\"system_message\"], counts = true }",
};

/// All relays that can run on this machine, with one worker for each of these cores.
/// HAProxy is left out if it is not installed.
pub fn all(cores: &[usize]) -> Vec<Relay> {
    let mut relays = vec![
        (
            "zero_copy (splice)",
            Kind::Infrarust("proxy_mode = \"zero_copy\"\n"),
        ),
        (
            "zero_copy, adaptive",
            Kind::Infrarust("proxy_mode = \"zero_copy\"\nrelay = \"adaptive\"\n"),
        ),
        (
            "zero_copy (splice), plugin",
            Kind::WithPlugin("proxy_mode = \"zero_copy\"\n", REWRITES),
        ),
        (
            "passthrough (copy)",
            Kind::Infrarust("proxy_mode = \"passthrough\"\n"),
        ),
    ];
    let version = Command::new("haproxy").arg("-v").output();
    if let Ok(version) = version {
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        println!("beside {}", version.lines().next().unwrap_or_default());
        relays.push((
            "HAProxy splice",
            Kind::Haproxy(
                "option splice-auto\n option splice-request\n option splice-response",
                "maxpipes 1000",
            ),
        ));
        relays.push(("HAProxy copy", Kind::Haproxy("", "nosplice")));
    } else {
        println!("haproxy is not installed: nothing to compare with");
    }
    let relay = |(name, kind): (&str, Kind)| Relay {
        name: String::from(name),
        is_base: matches!(kind, Kind::Haproxy(..)),
        compresses: false,
        cores: cores.to_vec(),
        program: PathBuf::from(PROGRAM),
        kind,
    };
    relays.into_iter().map(relay).collect()
}

/// The relays that forward frames, and those that copy bytes for comparison.
pub fn framed(cores: &[usize]) -> Vec<Relay> {
    /// Whether backends and clients compress, as both do by default.
    const ON: bool = true;
    let relay = |name: &str, compresses, kind| Relay {
        name: String::from(name),
        is_base: !name.contains(','),
        compresses,
        cores: cores.to_vec(),
        program: PathBuf::from(PROGRAM),
        kind,
    };
    let infrarust =
        |name: &str, compresses, server| relay(name, compresses, Kind::Infrarust(server));
    let mut relays = vec![
        infrarust("passthrough (copy)", !ON, "proxy_mode = \"passthrough\"\n"),
        infrarust(
            "offline, plain",
            !ON,
            "proxy_mode = \"offline\"\ncompression_threshold = -1\n",
        ),
        infrarust("offline, compressed", ON, "proxy_mode = \"offline\"\n"),
        infrarust(
            "offline, compressed for clients",
            !ON,
            "proxy_mode = \"offline\"\ncompression_threshold = 256\n",
        ),
        infrarust(
            "offline, compression announced to clients",
            !ON,
            "proxy_mode = \"offline\"\ncompression_threshold = 2000000\n",
        ),
        infrarust(
            "client_only, plain",
            !ON,
            "proxy_mode = \"client_only\"\ncompression_threshold = -1\n",
        ),
        infrarust(
            "client_only, compressed",
            ON,
            "proxy_mode = \"client_only\"\n",
        ),
        relay(
            "offline, plugin asks for 1 %",
            !ON,
            Kind::WithPlugin(
                "proxy_mode = \"offline\"\ncompression_threshold = -1\n",
                COUNTS,
            ),
        ),
        relay(
            "client_only, plugin asks for 1 %",
            !ON,
            Kind::WithPlugin(
                "proxy_mode = \"client_only\"\ncompression_threshold = -1\n",
                COUNTS,
            ),
        ),
    ];
    if let Some(other) = std::env::var_os("BESIDE") {
        let of_other = |relay: &Relay| {
            let Kind::Infrarust(server) = relay.kind else {
                return None;
            };
            Some(Relay {
                name: format!("{}, other build", relay.name),
                is_base: false,
                cores: cores.to_vec(),
                program: PathBuf::from(&other),
                kind: Kind::Infrarust(server),
                ..*relay
            })
        };
        let others: Vec<Relay> = relays.iter().filter_map(of_other).collect();
        relays.extend(others);
    }
    if Command::new("haproxy").arg("-v").output().is_ok() {
        let kind = Kind::Haproxy("", "nosplice");
        relays.push(relay("HAProxy copy", !ON, kind));
    }
    relays
}

impl Plugin {
    /// Builds it beside the program.
    fn build(&self) {
        let status = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet", "--locked", "--release"])
            .args(["--package", self.package])
            .arg("--target-dir")
            .arg(folder().parent().unwrap())
            .status();
        assert!(status.unwrap().success(), "{} is built", self.package);
    }

    /// The lines of the global file that load it.
    fn lines(&self) -> String {
        let Self {
            id,
            package,
            config,
        } = self;
        let library = package.strip_prefix("infrarust-plugin-").unwrap_or(package);
        let file = folder().join(format!("lib{}.so", library.replace('-', "_")));
        format!("[plugins.{id}]\npath = {file:?}\nconfig = {config}\n")
    }
}

/// Where the program is.
fn folder() -> &'static Path {
    Path::new(PROGRAM).parent().unwrap()
}

impl Relay {
    /// Whether it asks the session service about players.
    pub fn authenticates(&self) -> bool {
        match self.kind {
            Kind::Infrarust(server) | Kind::WithPlugin(server, _) => server.contains("client_only"),
            Kind::Haproxy(..) => false,
        }
    }

    /// Builds what it needs beside the program.
    pub fn prepare(&self) {
        if let Kind::WithPlugin(_, plugin) = &self.kind {
            plugin.build();
        }
    }

    /// Starts the relay with one backend. The lines are added to the global file of
    /// infrarust.
    pub fn start(&self, backend: SocketAddr, global: &str) -> Running {
        let folder = tempfile::tempdir().unwrap();
        // The port was free a moment ago. No other program takes it on a machine that only
        // measures.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let mut command = Command::new("taskset");
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        command.args(["-c", &cores.join(",")]);
        let workers = cores.len();
        match &self.kind {
            Kind::Infrarust(server) | Kind::WithPlugin(server, _) => {
                let config = folder.path().join("infrarust.toml");
                let plugin = match &self.kind {
                    Kind::WithPlugin(_, plugin) => plugin.lines(),
                    _ => String::new(),
                };
                write(
                    &config,
                    &format!("bind = \"{address}\"\nworker_threads = {workers}\n{plugin}{global}"),
                );
                fs::create_dir(folder.path().join("servers")).unwrap();
                write(
                    &folder.path().join("servers/bench.toml"),
                    &format!("domains = [\"bench.test\"]\naddresses = [\"{backend}\"]\n{server}"),
                );
                command.arg(&self.program);
                command.arg("-c").arg(config).args(["-l", "error"]);
            }
            Kind::Haproxy(defaults, global) => {
                let config = folder.path().join("haproxy.cfg");
                write(
                    &config,
                    &format!(
                        "global\n nbthread {workers}\n maxconn 4000\n {global}\n\
                         defaults\n mode tcp\n {defaults}\n timeout connect 5s\n \
                         timeout client 1h\n timeout server 1h\n\
                         listen bench\n bind {address} backlog 4096\n server s {backend}\n"
                    ),
                );
                command.args(["haproxy", "-db", "-f"]).arg(config);
            }
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(since.elapsed() < START_MAX, "{} does not start", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
        Running {
            address,
            child,
            _folder: folder,
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A relay that runs, until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Running {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its share of the memory, in bytes.
    pub fn memory(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()));
        let rollup = rollup.unwrap();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended by itself, and then this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
