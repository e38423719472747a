//! A real engine with its own socket and folders. It ends with this value, together with
//! everything that it has started.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use infrarust_test_support::{PATIENCE, blocking_until};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

/// How long an engine may take to end: it waits for its containers.
const END_WAIT: Duration = Duration::from_secs(30);

/// The image of the backend.
pub(crate) const IMAGE: &str = "backend";
/// The same image with its health check, which runs each second.
pub(crate) const CHECKED_IMAGE: &str = "backend-checked";

pub(crate) struct Engine {
    dockerd: Option<Child>,
    folder: TempDir,
}

impl Engine {
    /// An engine with the backend's image, in a network of its own that the calling thread
    /// moves into; `None` after reporting that there is no Docker to test with.
    pub(crate) fn start() -> Option<Self> {
        if let Err(missing) = find() {
            let is_required = std::env::var_os("INFRARUST_REAL_DOCKER");
            assert!(is_required.is_none_or(|v| v != "required"), "{missing}");
            let line = format!("real containers skipped: {missing}\n");
            io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        // Of this thread, and of all that it starts from now on.
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success(), "loopback cannot be set up");
        let mut engine = Self {
            dockerd: None,
            folder: tempfile::tempdir().unwrap(),
        };
        engine.begin();
        engine.import();
        Some(engine)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("docker.sock")
    }

    /// Starts the engine, which must not run. Its containers continue after it has ended.
    pub(crate) fn begin(&mut self) {
        let path = |name: &str| self.folder().join(name).display().to_string();
        let mut dockerd = Command::new("dockerd")
            .arg(format!("--host=unix://{}", path("docker.sock")))
            .arg(format!("--data-root={}", path("data")))
            .arg(format!("--exec-root={}", path("exec")))
            .arg(format!("--pidfile={}", path("pid")))
            .args(["--storage-driver=vfs", "--live-restore", "--bridge=none"])
            .args(["--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(dockerd.stderr.take().unwrap()).lines();
        self.dockerd = Some(dockerd);
        // To its end: a pipe that nobody reads would hold the engine.
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut printed: Vec<String> = Vec::new();
        while !printed.iter().any(|line| line.contains("API listen on")) {
            let line = lines.recv_timeout(PATIENCE);
            let line =
                line.unwrap_or_else(|why| panic!("the engine is not there: {why}: {printed:#?}"));
            printed.push(line);
        }
    }

    /// Ends the engine and leaves its containers as they are.
    pub(crate) fn end(&mut self, signal: Signal) {
        let mut dockerd = self.dockerd.take().unwrap();
        let pid = i32::try_from(dockerd.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        let begin = std::time::Instant::now();
        while dockerd.try_wait().unwrap().is_none() {
            if begin.elapsed() > END_WAIT {
                dockerd.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the runtime of the engine's containers, which continues after the engine is
    /// killed and would make the next one wait.
    pub(crate) fn end_runtime(&self) {
        let path = self.folder().join("exec/containerd/containerd.pid");
        let pid = Pid::from_raw(fs::read_to_string(path).unwrap().trim().parse().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        blocking_until("the end of the runtime", || kill(pid, None).is_err());
    }

    /// Runs a command of the engine, and returns its output.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        output.unwrap_or_else(|error| panic!("docker {}: {error}", arguments.join(" ")))
    }

    fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .arg(format!("--host=unix://{}", self.socket().display()))
            .args(arguments)
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", self.folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    }

    /// Creates a container of the backend that uses `name` as its name.
    pub(crate) fn create(&self, name: &str, more: &[&str], labels: &[&str]) -> String {
        let (own, env) = (format!("--name={name}"), format!("--env=NAME={name}"));
        let mut arguments = vec!["create", &own, &env];
        if !more.iter().any(|word| word.starts_with("--network")) {
            arguments.push("--network=games");
        }
        arguments.extend(more);
        for label in ["infrarust.enable=true"].iter().chain(labels) {
            arguments.extend(["--label", label]);
        }
        let is_checked = more.iter().any(|word| word.starts_with("--health"));
        arguments.push(if is_checked { CHECKED_IMAGE } else { IMAGE });
        self.docker(&arguments)
    }

    /// Creates such a container and starts it.
    pub(crate) fn run(&self, name: &str, more: &[&str], labels: &[&str]) {
        self.create(name, more, labels);
        self.docker(&["start", name]);
    }

    /// Builds the backend as one static program, and makes images of it.
    fn import(&self) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/backend.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args([
                "--edition=2024",
                "-Cstrip=symbols",
                "-Ctarget-feature=+crt-static",
                "-o",
            ])
            .arg(self.folder().join("backend"))
            .arg(source)
            .status()
            .unwrap();
        assert!(built.success(), "the backend cannot be built");
        let archive = self.folder().join("backend.tar");
        let packed = Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(self.folder())
            .arg("backend")
            .status()
            .unwrap();
        assert!(packed.success());
        let archive = archive.display().to_string();
        let start = "ENTRYPOINT [\"/backend\"]";
        let check = "HEALTHCHECK --interval=1s --retries=1 CMD [\"/backend\", \"health\"]";
        self.docker(&["import", "-c", start, &archive, IMAGE]);
        self.docker(&["import", "-c", start, "-c", check, &archive, CHECKED_IMAGE]);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.dockerd.is_some() {
            let containers = self
                .try_docker(&["ps", "--all", "--quiet"])
                .unwrap_or_default();
            let mut remove = vec!["rm", "--force"];
            remove.extend(containers.lines());
            let _ = self.try_docker(&remove);
            self.end(Signal::SIGTERM);
        }
        // A test that failed while the engine was away leaves shims behind.
        let ours = self.folder().display().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if let (Ok(pid), true) = (pid, String::from_utf8_lossy(&line).contains(&ours)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Reports what is missing to run an engine.
fn find() -> Result<(), String> {
    if !cfg!(target_os = "linux") || !Uid::effective().is_root() {
        return Err("an engine can only be started by root, on Linux".to_owned());
    }
    for (program, argument) in [
        ("dockerd", "--version"),
        ("docker", "--version"),
        ("ip", "-V"),
        ("tar", "--version"),
    ] {
        let ran = Command::new(program)
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !ran.is_ok_and(|status| status.success()) {
            return Err(format!("`{program}` cannot be started"));
        }
    }
    Ok(())
}
