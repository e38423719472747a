//! The request for a trial, and its results.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Loaded as Configuration;
use crate::config::plugin_file::Sha;
use crate::diagnostic::{Code, Diagnostic};
use crate::plugin::ProblemText;
use crate::show;

/// How many characters of an answer are shown.
const SHOWN_CHARS_MAX: usize = 160;

/// A request for a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The id under which the plugin runs.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// The TOML document with its settings.
    pub document: String,
    /// The keys that lead to its table, as in [`Spec::config_path`](crate::plugin::Spec::config_path).
    pub config_path: Vec<String>,
    /// The SHA-256 that the file must have, as in [`Spec::content`](crate::plugin::Spec::content).
    pub content: Option<Sha>,
    /// Whether its hooks are called; otherwise it only starts and ends.
    pub fire: bool,
    /// The folder with the data folders of plugins. `None` is an empty one, which is removed
    /// afterwards.
    pub data_dir: Option<PathBuf>,
    /// The log filter, as in `RUST_LOG`. `None` is `info` for the plugin and `warn` for the
    /// proxy.
    pub log: Option<String>,
}

/// The results of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The started plugin; `None` if it did not start.
    pub started: Option<Started>,
    /// Its answer at each hook, in the order of the calls.
    pub fired: Vec<Fired>,
    /// The hooks that should have been called and were not.
    pub unasked: Vec<String>,
    /// Problems outside its hooks.
    pub troubles: Vec<String>,
    /// How long it took to end; `None` if it did not end.
    pub ended: Option<Duration>,
    /// The lines that it logged.
    pub log: Vec<String>,
    /// The text that it printed.
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
    fn last_line(&self) -> String {
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
    /// The mode of the sample server; `None` if it runs in no mode.
    pub mode: Option<String>,
    /// The hooks that are to be called.
    pub hooks: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// A hook that was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The name of the hook.
    pub hook: String,
    /// The subject of the call.
    pub about: String,
    /// Its answer.
    pub answer: Answer,
    /// How long it took.
    pub took: Duration,
}

/// The answer of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// In words.
    Said(String),
    /// It failed, for this reason.
    Failed(String),
}

/// A step of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is loaded and created.
    Start,
    /// This hook is called.
    Hook(String),
    /// It ends.
    End,
    /// The process ends.
    Exit,
}

/// The step as a clause of time, to follow a description of what happened.
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

/// Why a trial did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// What has happened.
    pub kind: ProbeErrorKind,
    /// The results until then.
    pub findings: Findings,
}

/// The kinds of [`ProbeError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeErrorKind {
    /// It was not loaded, or has refused its settings: the same problem that
    /// would keep the proxy from starting.
    Refused(ProblemText),
    /// It ended the process.
    Crashed {
        /// How the process ended, such as `was killed by SIGSEGV`.
        how: String,
        /// The step in which it ended.
        step: Step,
    },
    /// It took too long.
    TooSlow {
        /// The time for each step.
        patience: Duration,
        /// The step that took too long.
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
    /// The solution: a clause in the imperative.
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
                text: format!("{kind}{}", self.findings.last_line()),
                help: kind.help(),
                place: None,
            },
        };
        problem.diagnostic(id, file, loaded)
    }
}

/// A text of the plugin, safe to show.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", show::start_of_line(text, SHOWN_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers are shortened, and their control characters are escaped.
    #[test]
    fn answers_are_safe_to_show() {
        assert_eq!(quoted("{\"a\":\"\u{1b}[2J\"}"), "`{\"a\":\"\\u{1b}[2J\"}`");
        assert_eq!(
            quoted(&"é".repeat(200)).chars().count(),
            SHOWN_CHARS_MAX + 3
        );
    }
}
