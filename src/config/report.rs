//! The diagnostics that a load has found so far.

use crate::diagnostic::{Diagnostic, FileId};

/// The most errors, and the most warnings, that are kept of one file: more are
/// not readable in one run, and each costs time to make and to show.
const DIAGNOSTICS_PER_FILE_MAX: usize = 500;

/// The diagnostics found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// All of them, in the order found.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether a file could not be read for a temporary reason.
    pub(super) is_incomplete: bool,
    last: Option<FileId>,
    errors_of_last: usize,
    warnings_of_last: usize,
}

impl Report {
    /// Adds one, unless its file has reached the limit.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        let file = Some(diagnostic.place.file);
        if self.last != file {
            self.last = file;
            self.errors_of_last = 0;
            self.warnings_of_last = 0;
        }
        // Counted separately, so that no number of warnings can hide an error.
        let of_last = if diagnostic.is_error() {
            &mut self.errors_of_last
        } else {
            &mut self.warnings_of_last
        };
        *of_last += 1;
        if *of_last <= DIAGNOSTICS_PER_FILE_MAX {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether no further error of this file would be kept.
    pub(super) fn is_full(&self, file: FileId) -> bool {
        self.last == Some(file) && self.errors_of_last >= DIAGNOSTICS_PER_FILE_MAX
    }
}
