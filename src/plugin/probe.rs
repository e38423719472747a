//! A plugin is tried in a process of its own, which may crash or hang in its
//! place: for authors, and for checks that go deeper than the manifest.
//!
//! [`probe`] starts this very program as a child, which reads the [`Request`]
//! from its standard input, loads the plugin through the same [`PluginHost`] as
//! the proxy, and tells each step on its standard output before it takes it. So
//! the parent knows where a child was that says nothing any more.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use infrarust_plugin_abi::sample;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::generation::END_TIME_MAX;
use super::{
    Client, Environment, HookSet, Player, PlayerCounts, PluginHost, Problem, ProblemText, Refusal,
    Session, SessionEvent, Spec,
};
use crate::config::Loaded as Configuration;
use crate::config::environment;
use crate::config::model::Document;
use crate::config::plugin_file::Sha;
use crate::diagnostic::{Code, Diagnostic};
use crate::manifest::Hook;
use crate::protocol::handshake::Intent;
use crate::telemetry;

/// What the program is called with to be the child.
pub const ARGUMENTS: [&str; 2] = ["plugin", "probe"];
/// What is logged where the request does not say.
const LOG_FILTER: &str = "infrarust=warn,plugin=info";
/// The most lines of a plugin's log that are kept: a screen or ten.
const LOG_LINES_MAX: usize = 500;
/// The most bytes that are kept of what a plugin prints.
const PRINTED_BYTES_MAX: usize = 64 * 1024;
/// The longest line that the child is believed to send: a status answer, each
/// of its bytes escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// How long the last printed words are waited for. A process that the plugin
/// has started may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often a child that has closed its output is asked whether it has ended.
const EXIT_CHECK: Duration = Duration::from_millis(5);
/// How long the keeper may take to end what it keeps, which is killed.
const KEEPER_END: Duration = Duration::from_secs(2);
/// The most bytes of a plugin's data that are copied for a trial beside them.
const COPIED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most files and folders of them.
const COPIED_FILES_MAX: usize = 10_000;
/// How many characters of an answer are shown.
const SHOWN_CHARS_MAX: usize = 160;

/// What is to be tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The id under which the plugin runs.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The TOML document with its settings.
    pub document: String,
    /// The keys that lead to its table, as in [`Spec::config_path`].
    pub config_path: Vec<String>,
    /// The SHA-256 of the content that is meant, as in [`Spec::content`].
    pub content: Option<Sha>,
    /// Whether its hooks are asked; otherwise it only starts and ends.
    pub fire: bool,
    /// The folder in which plugins have their data. `None`: an empty one, which
    /// is gone afterwards.
    pub data_dir: Option<PathBuf>,
    /// What is logged, as in `RUST_LOG`. `None`: its `info` and our warnings.
    pub log: Option<String>,
}

/// What was seen of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// What started; `None` when it did not.
    pub started: Option<Started>,
    /// What it answered at each hook, in the order in which they were asked.
    pub fired: Vec<Fired>,
    /// The hooks at which it was to be asked and never was.
    pub unasked: Vec<String>,
    /// What went wrong beside its hooks.
    pub troubles: Vec<String>,
    /// How long it took to end; `None` when it did not.
    pub ended: Option<Duration>,
    /// Lines of its log.
    pub log: Vec<String>,
    /// What it printed.
    pub printed: String,
}

impl Findings {
    /// Whether it started, answered and ended without any trouble.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let answered = |fired: &Fired| matches!(fired.answer, Answer::Said(_));
        self.ended.is_some()
            && self.troubles.is_empty()
            && self.unasked.is_empty()
            && self.fired.iter().all(answered)
    }

    /// The last line that it printed, as the end of a sentence: often the reason.
    fn last_words(&self) -> String {
        let mut lines = self.printed.lines().rev();
        let last = lines.find(|line| !line.trim().is_empty());
        let line = last.map(|line| format!("; it printed last: {}", quoted(line.trim())));
        line.unwrap_or_default()
    }
}

/// A plugin that has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The mode of the server that it is asked for; `None` when it runs in none.
    pub mode: Option<String>,
    /// The hooks at which it is to be asked.
    pub hooks: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// A hook that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The name of the hook.
    pub hook: String,
    /// What it was asked about.
    pub about: String,
    /// Its answer.
    pub answer: Answer,
    /// How long it took.
    pub took: Duration,
}

/// What a hook answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// In words.
    Said(String),
    /// It failed, for this reason.
    Failed(String),
}

/// How far a plugin has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is loaded and created.
    Start,
    /// It is asked at this hook.
    Hook(String),
    /// It ends.
    End,
    /// The process ends.
    Exit,
}

/// A clause that says when: it follows what has happened.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Start => f.write_str("while it started"),
            Step::Hook(hook) => write!(f, "when it was asked at `{hook}`"),
            Step::End => f.write_str("while it ended"),
            Step::Exit => f.write_str("after it had ended"),
        }
    }
}

/// Why a plugin was not tried to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// What has happened.
    pub kind: ProbeErrorKind,
    /// What was seen until then.
    pub findings: Findings,
}

/// What can happen to a plugin that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeErrorKind {
    /// It was not loaded, or has refused its settings: the same problem that
    /// would keep the proxy from starting.
    Refused(ProblemText),
    /// It ended the process.
    Crashed {
        /// How, such as `was killed by SIGSEGV`.
        how: String,
        /// When.
        step: Step,
    },
    /// It took too long.
    TooSlow {
        /// The time for each step.
        patience: Duration,
        /// Which.
        step: Step,
    },
    /// The child could not be run, or ended before it had the plugin: this says
    /// nothing about the plugin.
    Child(String),
}

impl fmt::Display for ProbeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeErrorKind::Refused(problem) if problem.code == Code::PluginConfig => {
                write!(f, "it refuses its settings: {}", problem.text)
            }
            ProbeErrorKind::Refused(problem) => f.write_str(&problem.text),
            ProbeErrorKind::Crashed { how, step } => write!(f, "it {how} {step}"),
            ProbeErrorKind::TooSlow { patience, step } => write!(
                f,
                "it did not come back within {} {step}",
                humantime::format_duration(*patience)
            ),
            ProbeErrorKind::Child(why) => write!(f, "it could not be tried: {why}"),
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for ProbeError {}

impl ProbeErrorKind {
    /// The way out: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            ProbeErrorKind::Refused(problem) => problem.help.clone(),
            ProbeErrorKind::Crashed { .. } => {
                "do not give it to a proxy, which would end as this process did; tell its author"
                    .to_owned()
            }
            ProbeErrorKind::TooSlow { .. } => {
                "look what it waits for, such as a database; a proxy cannot stop it either"
                    .to_owned()
            }
            ProbeErrorKind::Child(_) => "try again".to_owned(),
        }
    }
}

impl ProbeError {
    /// The error of the plugin `id` at its place in the global file.
    #[must_use]
    pub fn diagnostic(&self, id: &str, file: &Path, loaded: &Configuration) -> Diagnostic {
        let problem = match &self.kind {
            ProbeErrorKind::Refused(problem) => problem.clone(),
            kind => ProblemText {
                code: Code::PluginStart,
                text: format!("{kind}{}", self.findings.last_words()),
                help: kind.help(),
                place: None,
            },
        };
        problem.diagnostic(id, file, loaded)
    }
}

/// One line from the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// What comes next.
    Begin(Step),
    Log(String),
    Refused {
        code: String,
        text: String,
        help: String,
        place: Option<(usize, usize)>,
    },
    Started(Started),
    Fired(Fired),
    Trouble(String),
    Ended(Duration),
}

// ---------------------------------------------------------------- the parent

/// The file of this very program, also where an upgrade has put another in its
/// place. It is not looked for under its name, where another may lie: without
/// `/proc` there is none.
#[must_use]
pub fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return "/proc/self/exe".into();
    }
    std::env::current_exe().unwrap_or_default()
}

/// Tries a plugin in a child of `program`, which is this program's own file.
///
/// Each step, which is the start, one hook, or the end, may take `patience`;
/// then the child is killed. The start has a limit of 30 s of its own, as in
/// the proxy. Waits for the child: not for a worker.
///
/// # Errors
///
/// When the plugin is refused, refuses, crashes or takes too long. A hook that
/// fails is no error, but one of the [`Findings`].
pub fn probe(
    program: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Findings, Box<ProbeError>> {
    let mut findings = Findings::default();
    match try_out(program, request, patience, &mut findings) {
        Ok(()) => Ok(findings),
        Err(kind) => Err(Box::new(ProbeError { kind, findings })),
    }
}

fn try_out(
    program: &Path,
    request: &Request,
    patience: Duration,
    findings: &mut Findings,
) -> Result<(), ProbeErrorKind> {
    let child_error =
        |what: &str, error: &dyn fmt::Display| ProbeErrorKind::Child(format!("{what}: {error}"));
    // Removed by the parent, because a child that crashes removes nothing.
    let scratch = match &request.data_dir {
        Some(_) => None,
        None => {
            Some(Scratch::new().map_err(|error| child_error("no folder for its data", &error))?)
        }
    };
    let request = Request {
        data_dir: request
            .data_dir
            .clone()
            .or(scratch.as_ref().map(|scratch| scratch.0.clone())),
        ..request.clone()
    };
    let request =
        serde_json::to_vec(&request).map_err(|error| child_error("its request", &error))?;
    let child = Command::new(program)
        .args(ARGUMENTS)
        // As a start has it, whatever a plugin has done to it since.
        .env_clear()
        .envs(environment::all())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals to the proxy and its group, such as a `SIGHUP`, are not for it.
        .process_group(0)
        .spawn();
    let no_thread = |error| child_error("no thread for it", &error);
    let no_process = |error| {
        let what = format!("no process for it (`{}`)", program.display());
        child_error(&what, &error)
    };
    let mut child = Killed(child.map_err(no_process)?);
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (
        child.0.stdin.take(),
        child.0.stdout.take(),
        child.0.stderr.take(),
    ) else {
        return Err(ProbeErrorKind::Child("its pipes are missing".to_owned()));
    };
    // On a thread: a child that dies before it has read leaves a pipe that is
    // full or broken.
    thread("probe-request", move || {
        let _ = stdin.write_all(&request);
    })
    .map_err(no_thread)?;
    let printed = Printed::of(stderr).map_err(no_thread)?;
    let events = events_of(stdout).map_err(no_thread)?;
    let outcome = follow(&mut child.0, events, patience, findings);
    drop(child);
    findings.printed = printed.text();
    // The last one may not have come back.
    let last = match &outcome {
        Err(ProbeErrorKind::Crashed { step, .. } | ProbeErrorKind::TooSlow { step, .. }) => {
            Some(step)
        }
        _ => None,
    };
    let hooks = findings.started.iter().flat_map(|started| &started.hooks);
    let is_asked = |hook: &&String| {
        let is_last = matches!(last, Some(Step::Hook(last)) if last == *hook);
        is_last || findings.fired.iter().any(|fired| fired.hook == **hook)
    };
    findings.unasked = hooks.filter(|hook| !is_asked(hook)).cloned().collect();
    outcome
}

/// Follows the child until it has ended.
fn follow(
    child: &mut Child,
    events: mpsc::Receiver<Event>,
    patience: Duration,
    findings: &mut Findings,
) -> Result<(), ProbeErrorKind> {
    // `None` until the child has said that it comes to the plugin.
    let mut step = None;
    let mut refused = None;
    let mut deadline = Instant::now() + patience;
    let too_slow = |step: Option<Step>| match step {
        Some(step) => ProbeErrorKind::TooSlow { patience, step },
        None => ProbeErrorKind::Child("its process does not come to it".to_owned()),
    };
    loop {
        let event = events.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        match event {
            Ok(Event::Begin(next)) => {
                step = Some(next);
                deadline = Instant::now() + patience;
            }
            Ok(Event::Log(line)) if findings.log.len() < LOG_LINES_MAX => findings.log.push(line),
            Ok(Event::Log(_)) => {}
            Ok(Event::Refused {
                code,
                text,
                help,
                place,
            }) => {
                let code = code.parse().unwrap_or(Code::PluginStart);
                let place = place.map(|(start, end)| start..end);
                refused = Some(ProblemText {
                    code,
                    text,
                    help,
                    place,
                });
            }
            Ok(Event::Started(started)) => findings.started = Some(started),
            Ok(Event::Fired(fired)) => findings.fired.push(fired),
            Ok(Event::Trouble(trouble)) => findings.troubles.push(trouble),
            Ok(Event::Ended(took)) => findings.ended = Some(took),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(too_slow(step)),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(EXIT_CHECK),
            Ok(None) => return Err(too_slow(step)),
            Err(error) => return Err(ProbeErrorKind::Child(error.to_string())),
        }
    };
    match (refused, step) {
        (Some(problem), _) => Err(ProbeErrorKind::Refused(problem)),
        (None, Some(Step::Exit)) if status.success() => Ok(()),
        (None, Some(step)) => Err(ProbeErrorKind::Crashed {
            how: how_it_ended(status),
            step,
        }),
        (None, None) => {
            let why = format!("its process ended before it came to it ({status})");
            Err(ProbeErrorKind::Child(why))
        }
    }
}

/// How a process ended, in words.
fn how_it_ended(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("ended the process with exit code {code}");
    }
    let number = status.signal().unwrap_or_default();
    let Ok(signal) = Signal::try_from(number) else {
        return format!("was killed by signal {number}");
    };
    let hint = match signal {
        Signal::SIGABRT => " (an abort, as after a panic that cannot be caught)",
        Signal::SIGSEGV | Signal::SIGBUS => " (memory that is not its own, or no stack left)",
        Signal::SIGILL | Signal::SIGTRAP => " (an instruction that this machine does not have)",
        Signal::SIGKILL => " (by the system, perhaps for want of memory)",
        _ => "",
    };
    format!("was killed by {signal}{hint}")
}

/// A child that does not outlive its parent's interest.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        use nix::sys::signal::{kill, killpg};
        let Ok(number) = i32::try_from(self.0.id()) else {
            return;
        };
        let pid = nix::unistd::Pid::from_raw(number);
        let end = Instant::now() + KEEPER_END;
        // One that has ended is only waited for.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // The keeper ends what the plugin has started, too.
            let _ = kill(pid, Signal::SIGTERM);
        }
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = killpg(pid, Signal::SIGKILL);
                let _ = self.0.wait();
                return;
            }
            std::thread::sleep(EXIT_CHECK);
        }
    }
}

/// Starts a thread, where the system has one.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

fn events_of(stdout: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel();
    thread("probe-events", move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
            {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            // Not ours: somebody else has written to the pipe.
            let Ok(event) = serde_json::from_slice(&line) else {
                continue;
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// What the child prints, as far as it is kept.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: mpsc::Receiver<()>,
}

impl Printed {
    fn of(mut stderr: impl Read + Send + 'static) -> io::Result<Self> {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = mpsc::channel::<()>();
        let kept = Arc::clone(&bytes);
        thread("probe-prints", move || {
            let _ended = ended;
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = PRINTED_BYTES_MAX.saturating_sub(kept.len());
                kept.extend(chunk.iter().take(len.min(room)));
            }
        })?;
        Ok(Self { bytes, end })
    }

    fn text(&self) -> String {
        let _ = self.end.recv_timeout(LAST_WORDS);
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A folder that is gone when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("infrarust-probe-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // What a process with our number left behind is no empty folder. One
        // of somebody else's cannot be removed, and the next line fails.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Copies a plugin's folder of `data_dir` into this one. Where that is not
    /// possible, or there is too much of it, the plugin begins with nothing.
    pub(super) fn copy_data(&self, data_dir: &Path, id: &str) {
        let (from, to) = (data_dir.join(id), self.0.join(id));
        let mut left = (COPIED_BYTES_MAX, COPIED_FILES_MAX);
        if from.is_dir() && copy_folder(&from, &to, &mut left).is_err() {
            let _ = std::fs::remove_dir_all(&to);
        }
    }
}

/// Copies regular files, also those that links lead to, and folders. `left` is
/// how many bytes and files there may be.
fn copy_folder(from: &Path, to: &Path, left: &mut (u64, usize)) -> io::Result<()> {
    let too_much = || io::Error::from(io::ErrorKind::FileTooLarge);
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        left.1 = left.1.checked_sub(1).ok_or_else(too_much)?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to, left)?;
        } else if std::fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
            let mut file = File::open(entry.path())?.take(left.0.saturating_add(1));
            let copied = io::copy(&mut file, &mut File::create_new(to)?)?;
            left.0 = left.0.checked_sub(copied).ok_or_else(too_much)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ----------------------------------------------------------------- the child

/// Is the child: reads a [`Request`] from standard input, tries the plugin, and
/// tells all on standard output. What the plugin prints goes to standard error.
///
/// # Errors
///
/// When the request cannot be read, or the log cannot be started.
pub fn serve() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    super::keeper::begin()?;
    let tell = Teller::new()?;
    let request: Request = serde_json::from_reader(io::stdin().lock())?;
    // A crash is expected here, and nobody wants its memory on the disk.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let lines = tell.clone();
    let (filter, notes) = match &request.log {
        Some(log) => telemetry::filter(log)?,
        None => (EnvFilter::try_new(LOG_FILTER)?, Vec::new()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Lines(lines.clone()))
        .with_ansi(false)
        .without_time()
        .init();
    for note in notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    run(&request, &runtime, &tell);
    runtime.shutdown_background();
    tell.event(&Event::Begin(Step::Exit));
    Ok(())
}

fn run(request: &Request, runtime: &Runtime, tell: &Teller) {
    let host = PluginHost::new(Environment {
        runtime: runtime.handle().clone(),
        data_dir: request.data_dir.clone().unwrap_or_default(),
        players: Arc::new(TwoOnLobby),
    });
    let spec = Spec {
        id: request.id.clone(),
        file: request.file.clone(),
        sha256: None,
        on_failure: None,
        deadline: None,
        judged: None,
        content: request.content,
        document: Document(request.document.as_str().into()),
        config_path: request.config_path.clone(),
    };
    tell.event(&Event::Begin(Step::Start));
    let begin = Instant::now();
    if let Err(problems) = host.reload(vec![spec], None) {
        problems.iter().for_each(|problem| tell.refused(problem));
        return;
    }
    let took = begin.elapsed();
    let Some(state) = host.states().pop() else {
        return;
    };
    let mode = state.manifest.modes().next();
    tell.event(&Event::Started(Started {
        name: state.manifest.name.clone(),
        version: state.manifest.version.to_string(),
        mode: mode.map(|mode| mode.name().to_owned()),
        hooks: Hook::ALL
            .into_iter()
            .filter(|hook| request.fire && state.manifest.hooks.contains(hook.capability()))
            .map(|hook| hook.name().to_owned())
            .collect(),
        took,
    }));
    if let Some(mode) = mode.filter(|_| request.fire) {
        let hooks = host.hooks([request.id.as_str()], mode);
        Firing {
            hooks: &hooks,
            host: &host,
            runtime,
            tell,
        }
        .all();
    }
    tell.event(&Event::Begin(Step::End));
    let begin = Instant::now();
    let health = host.health(&request.id);
    let panics = || health.as_ref().map_or(0, |health| health.counts().panics);
    let before = panics();
    let _ = host.reload(Vec::new(), None);
    runtime.block_on(host.ended());
    let took = begin.elapsed();
    let trouble = |text: String| tell.event(&Event::Trouble(text));
    if let Some(health) = health.as_ref().filter(|_| panics() > before) {
        let last = health.last_failure();
        let text = last.as_ref().map_or("", |failure| &failure.text);
        trouble(format!("while it ended it {text}"));
    }
    if host.has_endless_tasks() {
        let limit = END_TIME_MAX.as_secs();
        trouble(format!("it has tasks that did not end within {limit} s"));
    } else if took < END_TIME_MAX {
        tell.event(&Event::Ended(took));
    } else {
        let seconds = took.as_secs_f64();
        trouble(format!(
            "its drop took {seconds:.1} s, and its tasks had ended"
        ));
    }
}

/// Who is online while a plugin is tried.
struct TwoOnLobby;

impl PlayerCounts for TwoOnLobby {
    fn count(&self, server: Option<&str>) -> Option<u64> {
        server
            .is_none_or(|server| server == sample::SERVER)
            .then_some(2)
    }
}

/// A plugin that is asked at all its hooks.
struct Firing<'a> {
    hooks: &'a HookSet,
    host: &'a PluginHost,
    runtime: &'a Runtime,
    tell: &'a Teller,
}

impl Firing<'_> {
    fn all(&self) {
        let mut failed = 0;
        for hook in Hook::ALL.into_iter().filter(|hook| self.hooks.has(*hook)) {
            failed += self.fire(hook);
        }
        let Some(state) = self.host.states().pop() else {
            return;
        };
        let elsewhere = failures(self.host).saturating_sub(failed);
        if let Some(failure) = state.last_failure.filter(|_| elsewhere > 0) {
            let text = format!("a {} of it failed: {}", failure.hook, failure.text);
            self.tell.event(&Event::Trouble(text));
        }
        if state.counts.stalls > 0 {
            let text = "it held a worker, and other players would have waited: see the log";
            self.tell.event(&Event::Trouble(text.to_owned()));
        }
    }

    /// Asks at one hook; how often it has failed.
    fn fire(&self, hook: Hook) -> u64 {
        let client = |intent| Client {
            peer: sample::PEER,
            protocol: sample::PROTOCOL,
            intent,
            virtual_host: sample::HOST,
            server: sample::SERVER,
        };
        let joining = client(Intent::Login);
        let player = Player {
            name: sample::NAME,
            uuid: Some(sample::UUID),
        };
        match hook {
            Hook::ConnectionDecide => self.ask(hook, "127.0.0.1", || {
                verdict(
                    self.runtime
                        .block_on(self.hooks.connection_decide(&joining)),
                )
            }),
            Hook::HandshakeRewrite => self.ask(hook, sample::HOST, || {
                match self.hooks.handshake_rewrite(&joining, sample::HOST) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(host)) => format!("host {}", quoted(&host)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::StatusRespond => self.ask(hook, sample::HOST, || {
                let client = client(Intent::Status);
                let asked = self.hooks.status_respond(&client, true, sample::STATUS);
                match self.runtime.block_on(asked) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(json)) => format!("json {}", quoted(&json)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::LoginDecide => self.ask(hook, sample::NAME, || {
                verdict(
                    self.runtime
                        .block_on(self.hooks.login_decide(&joining, &player)),
                )
            }),
            Hook::RouteSelect => self.ask(hook, sample::NAME, || {
                // Which servers there are is not known here.
                let asked = self.hooks.route_select(&joining, &player, |_| true);
                match self.runtime.block_on(asked) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(selected)) => format!("server {}", quoted(&selected.server)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::SessionObserve => {
                let closed = SessionEvent::Closed {
                    reason: "closed",
                    serverbound_bytes: 1000,
                    clientbound_bytes: 50_000,
                    duration: Duration::from_secs(60),
                };
                let connected = SessionEvent::Connected {
                    backend: sample::BACKEND,
                };
                let events = [
                    ("opened", SessionEvent::Opened),
                    ("connected", connected),
                    ("closed", closed),
                ];
                let mut session = Session::new(1);
                let told = events.map(|(name, event)| {
                    self.ask(hook, name, || {
                        self.hooks
                            .session_observe(&joining, &player, &mut session, event);
                        "heard".to_owned()
                    })
                });
                told.iter().sum()
            }
        }
    }

    fn ask(&self, hook: Hook, about: &str, run: impl FnOnce() -> String) -> u64 {
        self.tell
            .event(&Event::Begin(Step::Hook(hook.name().to_owned())));
        let before = failures(self.host);
        // It is asked at each hook, also after a few panics.
        for state in self.host.states() {
            self.host.resume(&state.id);
        }
        let begin = Instant::now();
        let said = run();
        let took = begin.elapsed();
        // A task may have failed meanwhile, and is not this hook.
        let failure = self
            .host
            .states()
            .pop()
            .and_then(|state| state.last_failure);
        let failure =
            failure.filter(|failure| failures(self.host) > before && failure.hook == hook.name());
        let has_failed = failure.is_some();
        self.tell.event(&Event::Fired(Fired {
            hook: hook.name().to_owned(),
            about: about.to_owned(),
            answer: failure.map_or(Answer::Said(said), |failure| Answer::Failed(failure.text)),
            took,
        }));
        has_failed.into()
    }
}

fn failures(host: &PluginHost) -> u64 {
    host.states().first().map_or(0, |state| {
        let counts = state.counts;
        counts.errors + counts.panics + counts.overruns + counts.bad_answers
    })
}

fn verdict(verdict: Result<(), Refusal>) -> String {
    match verdict {
        Ok(()) => "allow".to_owned(),
        Err(Refusal {
            text: Some(text), ..
        }) => format!("refuse {}", quoted(&text)),
        Err(Refusal { text: None, .. }) => "drop".to_owned(),
    }
}

/// A text of the plugin, safe to show.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    // A quotation mark cannot do harm, and a status answer has many.
    let shown = shown.escape_debug().to_string().replace("\\\"", "\"");
    format!("`{shown}{more}`")
}

/// Tells the parent, on a descriptor of its own: the plugin has the usual one.
#[derive(Clone)]
struct Teller(Arc<Mutex<File>>);

impl Teller {
    fn new() -> io::Result<Self> {
        // Closed in processes that the plugin starts, or their life would be ours.
        let own = io::stdout().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdout(io::stderr())?;
        Ok(Self(Arc::new(Mutex::new(File::from(own)))))
    }

    fn event(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A parent that is gone does not want to know.
        let _ = pipe.write_all(&line);
    }

    fn refused(&self, problem: &Problem) {
        let ProblemText {
            code,
            text,
            help,
            place,
        } = ProblemText::from(&problem.kind);
        self.event(&Event::Refused {
            code: code.name().to_owned(),
            text,
            help,
            place: place.map(|place| (place.start, place.end)),
        });
    }
}

/// Lines of the log, which come one in each write.
struct Lines(Teller);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).trim().to_owned();
        self.0.event(&Event::Log(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that dies at once, says nothing, or is not there, is told in words.
    #[test]
    fn children_that_are_no_probe_are_told() {
        let try_program = |program: &str| {
            let patience = Duration::from_secs(20);
            let error = probe(Path::new(program), &Request::default(), patience).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            try_program("/bin/false"),
            "it could not be tried: its process ended before it came to it (exit status: 1)"
        );
        assert_eq!(
            try_program("/bin/true"),
            "it could not be tried: its process ended before it came to it (exit status: 0)"
        );
        // It takes the arguments for names of files, and complains.
        let patience = Duration::from_secs(20);
        let listing = probe(Path::new("/bin/ls"), &Request::default(), patience).unwrap_err();
        assert!(listing.findings.printed.contains("probe"), "{listing:?}");
        let missing = try_program("/nowhere");
        assert!(
            missing.starts_with("it could not be tried: no process for it (`/nowhere`): "),
            "{missing}"
        );
    }

    /// Each signal that plugins die of has its name.
    #[test]
    fn signals_have_names() {
        let how = |raw| how_it_ended(ExitStatus::from_raw(raw));
        assert!(how(11).starts_with("was killed by SIGSEGV ("));
        assert!(how(6).starts_with("was killed by SIGABRT ("));
        assert_eq!(how(15), "was killed by SIGTERM");
        assert_eq!(how(3 << 8), "ended the process with exit code 3");
    }

    /// Answers are cut, and cannot drive a terminal.
    #[test]
    fn answers_are_safe_to_show() {
        assert_eq!(quoted("{\"a\":\"\u{1b}[2J\"}"), "`{\"a\":\"\\u{1b}[2J\"}`");
        assert_eq!(
            quoted(&"é".repeat(200)).chars().count(),
            SHOWN_CHARS_MAX + 3
        );
    }
}
