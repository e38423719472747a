//! A plugin for the tests of the host that fails outside of its answers: while its library
//! is loaded, when it drops something, on threads and in processes of its own. Its settings
//! and the name of the player choose the failure.
#![allow(
    unsafe_code,
    reason = "constructors, the umask and the environment are not for safe code"
)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use infrarust_plugin_api::prelude::*;

/// The tests change the digit in the file.
static WHICH: [u8; 13] = *b"UNRULY-INIT=0";

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

/// Runs while the library is loaded.
extern "C" fn construct() {
    // SAFETY: a static.
    match unsafe { std::ptr::read_volatile(&raw const WHICH) }[12] {
        b'a' => std::process::abort(),
        b'e' => std::process::exit(0),
        _ => {}
    }
}

unsafe extern "C" {
    safe fn umask(mask: u32) -> u32;
}

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The failure at its start or at its end; see [`Unruly::new`].
    way: String,
}

struct Unruly {
    way: String,
    host: Host<Self>,
}

/// Runs a function when it is dropped.
struct OnDrop(fn(&Path), PathBuf);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)(&self.1);
    }
}

fn panics(_: &Path) {
    panic!("in the drop");
}

fn aborts(_: &Path) {
    std::process::abort();
}

/// Waits until the file is opened by another process.
fn waits(folder: &Path) {
    while !folder.join("open").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

thread_local! {
    static VARIABLE: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
}

/// Registers a thread-local variable that panics when it is dropped at the end of this
/// thread.
fn leave_a_variable() {
    VARIABLE.set(Some(OnDrop(panics, PathBuf::new())));
}

/// Starts a process that runs for ten minutes, and writes its id.
fn start_process(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    Ok(command.spawn()?.id().to_string())
}

impl Plugin for Unruly {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let folder = host.data_folder()?;
        match config.way.as_str() {
            "tasks" => {
                let (alive, mut count) = (host.gauge("alive")?, 0);
                host.every(Duration::from_millis(1), move || {
                    count += 1;
                    alive.set(count);
                    std::future::ready(())
                })?;
                return Err(Error::msg("no database"));
            }
            // One task holds a worker for longer than anybody waits. It has begun before the
            // plugin can be ended.
            "stuck" => {
                let (begin, has_begun) = std::sync::mpsc::channel();
                host.spawn(async move {
                    let _ = begin.send(());
                    std::thread::sleep(Duration::from_secs(60));
                })?;
                let _ = has_begun.recv();
            }
            "moves" => {
                std::env::set_current_dir("/")?;
                umask(0o777);
                // SAFETY: what is tested.
                unsafe { std::env::remove_var("UNRULY_SECRET") };
            }
            "children" => {
                let own = start_process("sleep", &["600"])?;
                let apart = start_process("setsid", &["sleep", "600"])?;
                std::fs::write(folder.join("children"), format!("{own} {apart}"))?;
            }
            "data" => {
                let seed = std::fs::read_to_string(folder.join("deep/seed"))?;
                std::fs::write(folder.join("deep/seed"), "changed")?;
                std::fs::write(folder.join("new"), seed)?;
            }
            "variable" => leave_a_variable(),
            way => {
                if let Some(prefix) = way.strip_prefix("metrics-") {
                    for number in 0..64 {
                        host.counter(&format!("{prefix}{number}"))?.add(1);
                    }
                }
            }
        }
        Ok(Self {
            way: config.way,
            host: host.clone(),
        })
    }
}

impl Drop for Unruly {
    fn drop(&mut self) {
        match self.way.as_str() {
            "panics" => panic!("no end"),
            "slow" => std::thread::sleep(Duration::from_millis(5200)),
            "hangs" => waits(&self.host.data_folder().unwrap_or_default()),
            _ => {}
        }
    }
}

#[async_trait]
impl LoginDecide for Unruly {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        let folder = self.host.data_folder()?;
        let on_drop = |what| OnDrop(what, folder.clone());
        match login.name() {
            "Panic" => panic!("boom"),
            "Error" => return Err(Error::msg("no answer")),
            "Never" => std::future::pending().await,
            "Rethrow" => {
                // Caught here, and another one that comes without the hook.
                let first = std::panic::catch_unwind(|| panic!("the first"));
                let text = if first.is_err() { "the second" } else { "none" };
                std::panic::resume_unwind(Box::new(text));
            }
            "DropPanic" => {
                let _held = on_drop(panics);
                std::future::pending().await
            }
            "DropAbort" => {
                let _held = on_drop(aborts);
                std::future::pending().await
            }
            "DropHold" => {
                let _held = on_drop(waits);
                std::future::pending().await
            }
            "TaskDrop" => {
                let held = on_drop(aborts);
                let task = self.host.spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                })?;
                self.host.sleep(Duration::from_millis(20)).await;
                task.abort();
                std::future::pending().await
            }
            "Flood" => (0..2000).for_each(|number| tracing::info!(number, "a line")),
            "Exit" => {
                std::thread::spawn(|| std::process::exit(0));
                std::future::pending().await
            }
            "Variable" => {
                std::thread::spawn(leave_a_variable);
                std::future::pending().await
            }
            _ => {}
        }
        Ok(Verdict::allow())
    }
}

impl SessionObserve for Unruly {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        let counter = match session.event() {
            Event::Opened => "opened",
            Event::Closed { .. } => "closed",
            _ => return Ok(()),
        };
        self.host.counter(counter)?.add(1);
        Ok(())
    }
}

export_plugin! {
    plugin: Unruly,
    name: "unruly",
    hooks: [LoginDecide, SessionObserve],
}
