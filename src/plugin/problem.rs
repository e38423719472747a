//! Why a plugin is not loaded, for the log and for the place in the
//! operator's file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::image::ImageError;
use super::spec::{CREATE_TIME_MAX, GENERATIONS_MAX, Spec};
use crate::config::Loaded;
use crate::diagnostic::{Code, Diagnostic, Place, words};
use crate::show::Line;

/// The error of glibc when a library needs space for thread-local variables in the static
/// block of the running threads, and none is left (`dl-reloc.c`).
const NO_STATIC_TLS: &str = "cannot allocate memory in static TLS block";

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
    /// With its configuration, at these bytes of [`Spec::document`](super::Spec::document).
    #[error("its configuration cannot be used: {text}")]
    Config {
        /// What the plugin said.
        text: String,
        /// The bytes of the text.
        place: Option<Range<usize>>,
    },
    /// It returned an error at its start, or panicked.
    #[error("it did not start: {0}")]
    Start(String),
    /// It did not start in time.
    #[error("it did not start within {} s", CREATE_TIME_MAX.as_secs())]
    TooSlow,
    /// It is no longer the file that was checked.
    #[error("its file changed while it was loaded")]
    Changed,
    /// It was loaded too often by this process.
    #[error(
        "it has been loaded {GENERATIONS_MAX} times by this process, and no image is ever unmapped"
    )]
    TooManyGenerations,
}

impl ProblemKind {
    /// The solution: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            ProblemKind::Image(ImageError::File(error)) => error.help(),
            ProblemKind::Image(ImageError::Mismatch { .. }) => {
                "build the plugin again; somebody has changed the file".to_owned()
            }
            ProblemKind::Image(ImageError::Load(why)) if why.contains(NO_STATIC_TLS) => {
                "start the proxy with `GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096` in its \
                 environment, or build the plugin without an allocator or a library that keeps \
                 variables of threads at fixed places (for `jemalloc`: its feature \
                 `disable_initial_exec_tls`)"
                    .to_owned()
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
            ProblemKind::Image(ImageError::Mismatch { .. }) => Code::PluginManifest,
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
    /// What is wrong with the plugin that was to be loaded from `spec`.
    pub(super) fn of(spec: &Spec, kind: ProblemKind) -> Self {
        let (plugin, file) = (spec.id.clone(), spec.file.clone());
        Self { plugin, file, kind }
    }

    /// The problem at its place in the global file.
    #[must_use]
    pub fn diagnostic(&self, loaded: &Loaded) -> Diagnostic {
        ProblemText::from(&self.kind).diagnostic(&self.plugin, &self.file, loaded)
    }
}

/// A problem in words, which can come from another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemText {
    /// The code under which it is reported.
    pub code: Code,
    /// What is wrong: a clause about the plugin.
    pub text: String,
    /// The solution: a clause in the imperative.
    pub help: String,
    /// The bytes of [`Spec::document`](super::Spec::document) that it is about.
    pub place: Option<Range<usize>>,
}

impl From<&ProblemKind> for ProblemText {
    fn from(kind: &ProblemKind) -> Self {
        let (text, place) = match kind {
            ProblemKind::Config { text, place } => (text.clone(), place.clone()),
            kind => (kind.to_string(), None),
        };
        Self {
            code: kind.code(),
            text,
            help: kind.help(),
            place,
        }
    }
}

impl ProblemText {
    /// The problem of the plugin `id` at its place in the global file.
    #[must_use]
    pub fn diagnostic(&self, id: &str, file: &Path, loaded: &Loaded) -> Diagnostic {
        let table = loaded.plugin_place(id);
        let (message, place) = if self.code == Code::PluginConfig {
            let within = self.place.clone().map(|place| Place {
                file: table.file,
                span: place.into(),
            });
            // An empty place means that something is missing there.
            let within = within.filter(|place| place.span.start < place.span.end);
            let text = first_line(&self.text);
            let message = format!("the plugin `{id}` refuses its settings: {text}");
            (message, within.unwrap_or(table))
        } else {
            let (file, text) = (words::path(file), &self.text);
            (
                format!("the plugin `{id}` ({file}) cannot run: {text}"),
                table,
            )
        };
        Diagnostic::new(self.code, place, message).help(self.help.clone())
    }
}

/// The first line of a text from elsewhere, safe to show.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    Line(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lack of static thread-local storage has a help of its own: installing a library
    /// does not solve it.
    #[test]
    fn no_room_for_static_tls_has_its_own_help() {
        let load = |why: &str| ProblemKind::Image(ImageError::Load(why.to_owned())).help();
        let tls = load("/proc/self/fd/9: cannot allocate memory in static TLS block");
        assert!(tls.contains("glibc.rtld.optional_static_tls"), "{tls}");
        assert!(load("libpq.so.5: cannot open shared object file").contains("install the library"));
    }
}
