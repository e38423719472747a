//! The programs of other people: which are installed, and how a test talks to one that runs.

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The number of last lines of a program that a failure shows.
const TAIL_LINES: usize = 40;

/// The folder of the clients and servers.
pub(super) fn real_dir() -> PathBuf {
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
pub(crate) fn node_command() -> Option<Command> {
    let mut command = Command::new(tool(find_node())?);
    command.current_dir(real_dir());
    Some(command)
}

/// A Python with these packages.
pub(super) fn find_python(packages: &str) -> Result<PathBuf, String> {
    let own = real_dir().join(".venv/bin/python");
    let import = format!("import {packages}");
    [own, "python3".into(), "python".into()]
        .into_iter()
        .find(|python| runs(python, &["-c", &import]))
        .ok_or_else(|| format!("no Python with `{packages}`"))
}

/// The tool, or `None` after reporting that a test is skipped because it is missing.
pub(super) fn tool(found: Result<PathBuf, String>) -> Option<PathBuf> {
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
pub(crate) struct Program {
    pub(super) name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Program {
    /// Starts it; `log` is a file for everything that it prints.
    pub(crate) fn start(command: &mut Command, name: &'static str, log: Option<PathBuf>) -> Self {
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
    pub(super) fn try_json(&mut self, wait: Duration) -> Result<Value, String> {
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

    pub(super) fn json(&mut self, wait: Duration) -> Value {
        self.try_json(wait)
            .unwrap_or_else(|why| panic!("{why}\n{}", self.tail()))
    }

    /// The next line with this `event`.
    pub(crate) fn event(&mut self, event: &str, wait: Duration) -> Value {
        let deadline = Instant::now() + wait;
        loop {
            let line = self.json(deadline.saturating_duration_since(Instant::now()));
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Writes one line to its standard input.
    pub(crate) fn send(&mut self, value: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{value}").unwrap();
    }

    /// Closes its standard input and waits for its exit code.
    pub(crate) fn finish(&mut self, wait: Duration) -> Option<i32> {
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

    pub(super) fn assert_running(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "{} ended: {ended:?}\n{}",
            self.name,
            self.tail()
        );
    }

    /// The last lines that it wrote, for a failure.
    pub(super) fn tail(&self) -> String {
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
