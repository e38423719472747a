//! The program as a process, observed through its log.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{CHECK_PERIOD, PATIENCE, within, write_config};

/// Starts a program that a test may just have copied: as long as a child that another
/// thread starts has the file open for writing, the system refuses.
fn spawn(command: &mut Command) -> Child {
    let end = Instant::now() + PATIENCE;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                assert!(Instant::now() < end, "{error}");
                std::thread::sleep(CHECK_PERIOD);
            }
            started => return started.unwrap(),
        }
    }
}

/// The program, with its JSON log.
pub struct Program {
    pub child: Child,
    pub log: Lines<BufReader<ChildStdout>>,
    pub folder: TempDir,
}

impl Program {
    pub fn start(global: &str, servers: &[(&str, String)]) -> Self {
        Self::start_with(global, servers, |_| {})
    }

    pub fn start_with(
        global: &str,
        servers: &[(&str, String)],
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        Self::start_in_its_folder(global, servers, |command| {
            let folder = command.as_std().get_current_dir().unwrap().to_owned();
            command.arg("-c").arg(folder.join("infrarust.toml"));
            adjust(command);
        })
    }

    /// Starts it with the folder of its configuration as the working directory, in which it
    /// looks for files by default.
    pub fn start_in_its_folder(
        global: &str,
        servers: &[(&str, String)],
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_config(
            folder.path(),
            &format!("{global}\n[log]\nformat = \"json\"\n"),
            servers,
        );
        let mut command = Command::new(crate::infrarust());
        command
            .current_dir(folder.path())
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        adjust(&mut command);
        let mut child = spawn(&mut command);
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, log, folder }
    }

    /// The path of one of its server files.
    pub fn server_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("servers").join(name)
    }

    /// The next log line with this message.
    pub async fn line(&mut self, message: &str) -> Value {
        self.find(message, |text| text == message).await
    }

    /// The next log line with a message that begins so.
    pub async fn line_with(&mut self, begin: &str) -> Value {
        self.find(begin, |text| text.starts_with(begin)).await
    }

    /// The next log message that begins with one of these.
    pub async fn line_among(&mut self, begins: &[&str]) -> String {
        let is_it = |text: &str| begins.iter().any(|begin| text.starts_with(begin));
        let line = self.find(begins[0], is_it).await;
        line["message"].as_str().unwrap().to_owned()
    }

    async fn find(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> Value {
        within(what, async {
            loop {
                let line = self.log.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("the log ended before `{what}`"));
                let mut line: Value = serde_json::from_str(&line).unwrap();
                if line["fields"]["message"].as_str().is_some_and(&is_it) {
                    return line["fields"].take();
                }
            }
        })
        .await
    }

    pub async fn address(&mut self) -> SocketAddr {
        self.line("listening").await["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub async fn exit_code(&mut self) -> Option<i32> {
        within("the exit", self.child.wait()).await.unwrap().code()
    }
}
