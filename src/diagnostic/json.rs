//! Diagnostics for programs: one JSON array.

use serde::Serialize;

use super::{Diagnostic, Place, Sources, words};

/// One element of the array. The names are stable.
#[derive(Debug, Serialize)]
struct Element<'a> {
    code: &'a str,
    severity: &'a str,
    message: &'a str,
    file: String,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    labels: Vec<ElementLabel<'a>>,
    help: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ElementLabel<'a> {
    file: String,
    line: usize,
    column: usize,
    message: &'a str,
}

/// The diagnostics as one JSON array, in the order given: each group with the
/// sources that its places point into.
///
/// The reason beside a caret becomes the first label, at the place itself.
#[must_use]
pub fn to_json<'a>(groups: impl IntoIterator<Item = (&'a [Diagnostic], &'a Sources)>) -> String {
    let groups = groups.into_iter();
    let elements: Vec<_> = groups
        .flat_map(|(d, sources)| elements(d, sources))
        .collect();
    // It has only texts and numbers, so serializing cannot fail.
    serde_json::to_string_pretty(&elements).unwrap_or_else(|_| "[]".to_owned())
}

fn elements<'a>(diagnostics: &'a [Diagnostic], sources: &Sources) -> Vec<Element<'a>> {
    let label = |place: Place, message| {
        let at = sources.locate(place);
        ElementLabel {
            file: words::path(sources.path(place.file)),
            line: at.line,
            column: at.column,
            message,
        }
    };
    diagnostics
        .iter()
        .map(|d| {
            let at = sources.locate(d.place);
            let reason = d.reason.as_deref().map(|reason| label(d.place, reason));
            let others = d.labels.iter().map(|l| label(l.place, l.message.as_str()));
            Element {
                code: d.code.name(),
                severity: d.severity.name(),
                message: &d.message,
                file: words::path(sources.path(d.place.file)),
                line: at.line,
                column: at.column,
                end_line: at.end_line,
                end_column: at.end_column,
                labels: reason.into_iter().chain(others).collect(),
                help: d.help.as_deref(),
            }
        })
        .collect()
}
