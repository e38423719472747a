//! The long text of each code.

use super::Code;

/// Files of an example: path and text, the global file first.
pub type Example = &'static [(&'static str, &'static str)];

/// What `infrarust explain` tells of a code.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// What the code means.
    pub what: &'static str,
    /// What would happen if the proxy ran nevertheless.
    pub why: &'static str,
    /// Files that have the problem.
    pub wrong: Example,
    /// The same files without it.
    pub right: Example,
}

/// The page of a code.
#[must_use]
pub fn page(_code: Code) -> Page {
    Page {
        what: "",
        why: "",
        wrong: &[],
        right: &[],
    }
}
