//! The parent: starts the child, reads its lines, and ends it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::event::Event;
use super::findings::{Findings, ProbeError, ProbeErrorKind, Request, Step};
use super::scratch::Scratch;
use crate::diagnostic::Code;
use crate::environment;
use crate::plugin::ProblemText;

/// The arguments with which the program runs as the child.
pub const ARGUMENTS: [&str; 2] = ["plugin", "probe"];
/// The most lines of a plugin's log that are kept: about ten screens.
const LOG_LINES_MAX: usize = 500;
/// The most bytes of a plugin's output that are kept.
const PRINTED_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of one line of the child: a status answer, each of its bytes
/// escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// How long to wait for the end of the output. A process that the plugin has
/// started may hold the pipe open for ever.
const LAST_OUTPUT_WAIT: Duration = Duration::from_millis(500);
/// How often to check whether a child that has closed its output has ended.
const EXIT_CHECK: Duration = Duration::from_millis(5);
/// How long the keeper may take to end the processes that the plugin has started.
const KEEPER_END: Duration = Duration::from_secs(2);

/// The file of this program. On Linux it is the one that runs, also after an upgrade
/// has replaced the file under its name.
#[must_use]
pub fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return "/proc/self/exe".into();
    }
    std::env::current_exe().unwrap_or_default()
}

/// Tries a plugin in a child of `program`, which is this program's own file.
///
/// Each step, which is the start, one hook, or the end, may take `patience`; then the child
/// is killed. The start has a limit of 30 s of its own, as in the proxy. Waits for the child,
/// so it must not run on a worker.
///
/// # Errors
///
/// When the plugin is refused, refuses, crashes or takes too long. A hook that
/// fails is not an error, but one of the [`Findings`].
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
    // Removed by the parent, because a child that crashes removes nothing.
    let scratch = match &request.data_dir {
        Some(_) => None,
        None => {
            Some(Scratch::new().map_err(|error| child_error("no folder for its data", &error))?)
        }
    };
    let own_folder = scratch.as_ref().map(|scratch| scratch.path().to_owned());
    let request = Request {
        data_dir: request.data_dir.clone().or(own_folder),
        ..request.clone()
    };
    let request =
        serde_json::to_vec(&request).map_err(|error| child_error("its request", &error))?;
    let mut child = start(program)?;
    let pipes = (
        child.0.stdin.take(),
        child.0.stdout.take(),
        child.0.stderr.take(),
    );
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(ProbeErrorKind::Child("its pipes are missing".to_owned()));
    };
    let no_thread = |error| child_error("no thread for it", &error);
    // On a thread: if a child dies before it has read the request, the pipe is full or
    // broken.
    thread("probe-request", move || {
        let _ = stdin.write_all(&request);
    })
    .map_err(no_thread)?;
    let printed = Printed::of(stderr).map_err(no_thread)?;
    let events = events_of(stdout).map_err(no_thread)?;
    let outcome = follow(&mut child.0, events, patience, findings);
    drop(child);
    findings.printed = printed.text();
    findings.unasked = unasked(&outcome, findings);
    outcome
}

fn child_error(what: &str, error: &dyn fmt::Display) -> ProbeErrorKind {
    ProbeErrorKind::Child(format!("{what}: {error}"))
}

/// Starts the child.
fn start(program: &Path) -> Result<KillOnDrop, ProbeErrorKind> {
    let child = Command::new(program)
        .args(ARGUMENTS)
        // The environment of the start: a plugin may have changed it since.
        .env_clear()
        .envs(environment::all())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The child must not get signals to the group of the proxy, such as a `SIGHUP`.
        .process_group(0)
        .spawn();
    child.map(KillOnDrop).map_err(|error| {
        let what = format!("no process for it (`{}`)", program.display());
        child_error(&what, &error)
    })
}

/// The hooks that were not called.
fn unasked(outcome: &Result<(), ProbeErrorKind>, findings: &Findings) -> Vec<String> {
    // The last one was called, and may not have returned.
    let last = match outcome {
        Err(ProbeErrorKind::Crashed { step, .. } | ProbeErrorKind::TooSlow { step, .. }) => {
            Some(step)
        }
        _ => None,
    };
    let is_asked = |hook: &&String| {
        let is_last = matches!(last, Some(Step::Hook(last)) if last == *hook);
        is_last || findings.fired.iter().any(|fired| fired.hook == **hook)
    };
    let hooks = findings.started.iter().flat_map(|started| &started.hooks);
    hooks.filter(|hook| !is_asked(hook)).cloned().collect()
}

/// Follows the child until it has ended.
fn follow(
    child: &mut Child,
    events: mpsc::Receiver<Event>,
    patience: Duration,
    findings: &mut Findings,
) -> Result<(), ProbeErrorKind> {
    // `None` until the child begins to load the plugin.
    let mut step = None;
    let mut refused = None;
    let mut deadline = Instant::now() + patience;
    let too_slow = |step: Option<Step>| match step {
        Some(step) => ProbeErrorKind::TooSlow { patience, step },
        None => ProbeErrorKind::Child("its process does not load it".to_owned()),
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
            let why = format!("its process ended before it was loaded ({status})");
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

/// A child process that is killed when this is dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        use nix::sys::signal::{kill, killpg};
        let Ok(number) = i32::try_from(self.0.id()) else {
            return;
        };
        let pid = nix::unistd::Pid::from_raw(number);
        let end = Instant::now() + KEEPER_END;
        // A child that has ended is only waited for.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // The keeper also ends the processes that the plugin has started.
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
            // The plugin, or a process of it, has written to the pipe.
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

/// The output of the child, up to [`PRINTED_BYTES_MAX`].
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
        let _ = self.end.recv_timeout(LAST_OUTPUT_WAIT);
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that ends at once, is silent, or cannot be started is reported.
    #[test]
    fn programs_that_are_not_a_probe_are_reported() {
        let try_program = |program: &str| {
            let patience = Duration::from_secs(20);
            let error = probe(Path::new(program), &Request::default(), patience).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            try_program("/bin/false"),
            "it could not be tried: its process ended before it was loaded (exit status: 1)"
        );
        assert_eq!(
            try_program("/bin/true"),
            "it could not be tried: its process ended before it was loaded (exit status: 0)"
        );
        // This program takes the arguments for names of files, and fails.
        let patience = Duration::from_secs(20);
        let listing = probe(Path::new("/bin/ls"), &Request::default(), patience).unwrap_err();
        assert!(listing.findings.printed.contains("probe"), "{listing:?}");
        let missing = try_program("/nowhere");
        assert!(
            missing.starts_with("it could not be tried: no process for it (`/nowhere`): "),
            "{missing}"
        );
    }

    /// The signals of common crashes are reported by name.
    #[test]
    fn signals_have_names() {
        let how = |raw| how_it_ended(ExitStatus::from_raw(raw));
        assert!(how(11).starts_with("was killed by SIGSEGV ("));
        assert!(how(6).starts_with("was killed by SIGABRT ("));
        assert_eq!(how(15), "was killed by SIGTERM");
        assert_eq!(how(3 << 8), "ended the process with exit code 3");
    }
}
