//! Why a plugin is not loaded, for the log and for the place in the
//! operator's file.

use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::image::ImageError;
use super::registry::{CREATE_TIME_MAX, GENERATIONS_MAX};
use crate::config::Loaded;
use crate::diagnostic::{Code, Diagnostic, Place, words};

/// Why a plugin was not loaded.
#[derive(Debug, Error)]
#[error("plugin `{plugin}` ({}): {kind}", file.display())]
pub struct Problem {
    /// The id of the plugin.
    pub plugin: String,
    /// Its file.
    pub file: PathBuf,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What can be wrong with a plugin.
#[derive(Debug, Error)]
pub enum ProblemKind {
    /// With its file or its manifest.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// With its configuration, at these bytes of [`Spec::document`].
    #[error("its configuration cannot be used: {text}")]
    Config {
        /// What the plugin said.
        text: String,
        /// The bytes of the text.
        place: Option<Range<usize>>,
    },
    /// It said no, or panicked.
    #[error("it did not start: {0}")]
    Start(String),
    /// It was not there in time.
    #[error("it did not start within {} s", CREATE_TIME_MAX.as_secs())]
    TooSlow,
    /// It is no longer the file that was judged.
    #[error("its file changed while it was loaded")]
    Changed,
    /// It was loaded too often.
    #[error(
        "it has been loaded {GENERATIONS_MAX} times by this process, and no image is ever unmapped"
    )]
    TooManyGenerations,
}

impl ProblemKind {
    /// The way out: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            ProblemKind::Image(ImageError::File(error)) => error.help(),
            ProblemKind::Image(ImageError::Lies { .. }) => {
                "build the plugin again; somebody has changed the file".to_owned()
            }
            ProblemKind::Image(ImageError::Load(_)) => {
                "install the library, or build the plugin on a system as old as this one".to_owned()
            }
            ProblemKind::Image(ImageError::Copy(_)) => {
                "make room in memory, or let the proxy write into `plugins_dir`".to_owned()
            }
            ProblemKind::Config { .. } => "correct the plugin's `config` table".to_owned(),
            ProblemKind::Start(_) | ProblemKind::TooSlow => {
                "ask the plugin's documentation, or write `enabled = false`".to_owned()
            }
            ProblemKind::Changed => "try again when it has been copied".to_owned(),
            ProblemKind::TooManyGenerations => "restart the proxy".to_owned(),
        }
    }
}

impl ProblemKind {
    fn code(&self) -> Code {
        match self {
            ProblemKind::Image(ImageError::File(error)) => error.code(),
            ProblemKind::Image(ImageError::Lies { .. }) => Code::PluginManifest,
            ProblemKind::Image(ImageError::Load(_)) => Code::PluginIncompatible,
            ProblemKind::Image(ImageError::Copy(_)) | ProblemKind::Changed => Code::PluginFile,
            ProblemKind::Config { .. } => Code::PluginConfig,
            ProblemKind::Start(_) | ProblemKind::TooSlow | ProblemKind::TooManyGenerations => {
                Code::PluginStart
            }
        }
    }
}

impl Problem {
    /// The problem at its place in the global file.
    #[must_use]
    pub fn diagnostic(&self, loaded: &Loaded) -> Diagnostic {
        let id = &self.plugin;
        let table = loaded.plugin_place(id);
        let (message, place) = match &self.kind {
            ProblemKind::Config { text, place } => {
                let within = place.clone().map(|place| Place {
                    file: table.file,
                    span: place.into(),
                });
                // A place of nothing is where something is missing.
                let within = within.filter(|place| place.span.start < place.span.end);
                let message = format!(
                    "the plugin `{id}` refuses its settings: {}",
                    first_line(text)
                );
                (message, within.unwrap_or(table))
            }
            kind => {
                let file = words::path(&self.file);
                (
                    format!("the plugin `{id}` ({file}) cannot run: {kind}"),
                    table,
                )
            }
        };
        Diagnostic::new(self.kind.code(), place, message).help(self.kind.help())
    }
}

/// The first line of a text that somebody else wrote, safe to show.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars()
        .map(|c| {
            if words::must_not_show(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
