//! Problems of a configuration as values: what is wrong, where, why, and the solution.
//!
//! A check that finds a problem makes a [`Diagnostic`] and continues; nothing is printed
//! before all are known. [`render`] shows them to people and [`json`] to programs. This
//! module does not read files.

mod code;
mod excerpt;
mod explain;
pub mod json;
pub mod render;
mod source;
pub(crate) mod words;

pub use code::{Code, UnknownCode};
pub use explain::{Example, Page, page};
pub use source::{FileId, Located, Place, Sources, Span};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, and probably does not do what the operator intends.
    Warning,
}

impl Severity {
    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Another place that belongs to a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// A few words about the place.
    pub message: String,
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind; `infrarust explain` says more about each.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The problem in one line, understandable without the other fields.
    pub message: String,
    /// Where.
    pub place: Place,
    /// Why, beside the caret.
    pub reason: Option<String>,
    /// Other places that belong to it.
    pub labels: Vec<Label>,
    /// The solution.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem without reason, labels and help.
    #[must_use]
    pub fn new(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            place,
            reason: None,
            labels: Vec::new(),
            help: None,
        }
    }

    /// Adds the reason, which is shown beside the caret.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn label(mut self, place: Place, message: impl Into<String>) -> Self {
        self.labels.push(Label {
            place,
            message: message.into(),
        });
        self
    }

    /// Adds the solution.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the help, if there is one.
    #[must_use]
    pub fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Whether the configuration is refused for this.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Puts diagnostics into the order in which all outputs show them: by the path
/// of the file, then by place.
pub fn sort(diagnostics: &mut [Diagnostic], sources: &Sources) {
    diagnostics.sort_by(|a, b| {
        let key = |d: &Diagnostic| (d.place.span.start, d.place.span.end, d.code);
        sources
            .path(a.place.file)
            .cmp(sources.path(b.place.file))
            .then_with(|| key(a).cmp(&key(b)))
    });
}
