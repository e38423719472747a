//! Diagnostics for people: the lines of the file, carets, reasons and the help.
//!
//! The renderer only gets the few lines around each place, in a safe form: secrets are
//! masked, control characters are replaced, and long lines are cut to the relevant part.

use std::io::IsTerminal;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::excerpt::Shown;
use super::words::{self, count};
use super::{Diagnostic, FileId, Place, Severity, Sources, Span};

/// Labels at most this many lines away share the snippet of the caret; others
/// get a snippet of their own, so that no renderer walks through a whole file.
const LINES_TOGETHER_MAX: usize = 24;
/// The beginning of a help that proposes one word.
const DID_YOU_MEAN: &str = "did you mean";

/// Whether the output may hold colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// It goes to a terminal.
    Always,
    /// It goes to a file or a pipe.
    Never,
}

impl Colour {
    /// The choice for standard error: colours on a terminal, unless the environment forbids
    /// them (`NO_COLOR`, or a terminal without colours).
    #[must_use]
    pub fn for_stderr() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !refused {
            Colour::Always
        } else {
            Colour::Never
        }
    }
}

/// All diagnostics as text, in the order given, each followed by an empty line.
#[must_use]
pub fn to_text(diagnostics: &[Diagnostic], sources: &Sources, colour: Colour) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&one(diagnostic, sources, colour));
        text.push_str("\n\n");
    }
    text
}

/// How many errors and warnings there are, and in how many files; `None` when
/// there are none.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    if diagnostics.is_empty() {
        return None;
    }
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let mut files: Vec<FileId> = diagnostics.iter().map(|d| d.place.file).collect();
    files.sort_unstable();
    files.dedup();
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(count(errors, "error"));
    }
    if warnings > 0 {
        parts.push(count(warnings, "warning"));
    }
    let place = if files.len() > 1 {
        format!(" in {} files", files.len())
    } else {
        String::new()
    };
    Some(parts.join(" and ") + &place)
}

/// One diagnostic as text, without a line end.
#[must_use]
pub fn one(diagnostic: &Diagnostic, sources: &Sources, colour: Colour) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code.name());
    let mut group = Group::with_title(title);

    let (files, places): (Vec<_>, Vec<_>) = diagnostic
        .labels
        .iter()
        .partition(|label| label.place.is_whole());
    let (mut together, apart): (Vec<_>, Vec<_>) = places
        .into_iter()
        .map(|label| (label.place, label.message.as_str(), AnnotationKind::Context))
        .partition(|(place, _, _)| are_near(*place, diagnostic.place, sources));

    // A help with a single word is shown beside the caret.
    let inline = diagnostic.help.as_deref().filter(|help| {
        diagnostic.reason.is_none()
            && !diagnostic.place.is_whole()
            && help.starts_with(DID_YOU_MEAN)
    });
    let reason = match (inline, &diagnostic.reason) {
        (Some(help), _) => format!("help: {help}"),
        (None, Some(reason)) => reason.clone(),
        (None, None) => String::new(),
    };
    let reason = reason.as_str();
    if diagnostic.place.is_whole() {
        // Something that is missing has no line; a label in the file may be shown instead.
        if together.is_empty() {
            let path = words::path(sources.path(diagnostic.place.file));
            group = group.element(Origin::path(path));
        }
        if !reason.is_empty() {
            group = group.element(Level::NOTE.message(reason));
        }
    } else {
        together.push((diagnostic.place, reason, AnnotationKind::Primary));
    }
    let mut columns = Vec::new();
    if !together.is_empty() {
        group = group.element(snippet(&together, sources, &mut columns));
    }
    for label in apart {
        group = group.element(snippet(&[label], sources, &mut columns));
    }
    for label in files {
        let path = words::path(sources.path(label.place.file));
        group = group.element(Level::NOTE.message(format!("{}: `{path}`", label.message)));
    }
    if let (Some(help), None) = (&diagnostic.help, inline) {
        group = group.element(Level::HELP.message(help.as_str()));
    }

    let renderer = match colour {
        Colour::Always => Renderer::styled(),
        Colour::Never => Renderer::plain(),
    };
    let mut text = renderer.render(&[group]);
    for (shown, real) in columns {
        if shown != real {
            text = text.replacen(&shown, &real, 1);
        }
    }
    text
}

fn are_near(a: Place, b: Place, sources: &Sources) -> bool {
    a.file == b.file && {
        let line = |place: Place| sources.line_of(place.file, place.span.start);
        line(a).abs_diff(line(b)) <= LINES_TOGETHER_MAX || b.is_whole()
    }
}

type Marked<'a> = (Place, &'a str, AnnotationKind);

/// The lines of one file that contain all the given places, of which there is at least one.
/// In cut or masked lines the renderer counts other columns than those of the file: the
/// column that it writes is stored in `columns`, with the right one.
fn snippet<'a>(
    marked: &[Marked<'a>],
    sources: &Sources,
    columns: &mut Vec<(String, String)>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let file = marked[0].0.file;
    let lines = marked
        .iter()
        .map(|(place, ..)| sources.line_of(file, place.span.start));
    let first = lines.clone().min().unwrap_or(0);
    let last = lines.max().unwrap_or(0);
    let places: Vec<Span> = marked
        .iter()
        .map(|(place, ..)| one_line(*place, sources))
        .collect();
    let shown = Shown::new(sources, file, first, last, &places);
    let main = marked
        .iter()
        .position(|(.., kind)| matches!(kind, AnnotationKind::Primary))
        .unwrap_or(0);
    let path = words::path(sources.path(file));
    let at = sources.locate(marked[main].0);
    let before = &shown.text[..shown.range(places[main]).start];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let column = before[line_start..].chars().count() + 1;
    columns.push((
        format!("{path}:{}:{column}", at.line),
        format!("{path}:{}:{}", at.line, at.column),
    ));
    let annotations: Vec<_> = marked
        .iter()
        .zip(&places)
        .map(|((_, text, kind), span)| {
            let annotation = kind.span(shown.range(*span));
            if text.is_empty() {
                annotation
            } else {
                annotation.label(*text)
            }
        })
        .collect();
    Snippet::source(shown.text)
        .line_start(first + 1)
        .path(path)
        .annotations(annotations)
}

/// A place cut to its first line, since a caret under a whole table is less clear.
fn one_line(place: Place, sources: &Sources) -> Span {
    let text = sources.text(place.file).as_bytes();
    let start = place.span.start.min(text.len());
    let rest = &text[start..place.span.end.clamp(start, text.len())];
    let line = rest.split(|b| *b == b'\n').next().unwrap_or(rest);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Span {
        start,
        end: start + line.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::diagnostic::Code;

    fn shown(text: &str, span: Range<usize>, secret: Range<usize>) -> String {
        let mut sources = Sources::default();
        let file = sources.add("a.toml", text);
        sources.hide(Place {
            file,
            span: secret.into(),
        });
        let place = Place {
            file,
            span: span.into(),
        };
        let diagnostic = Diagnostic::new(Code::BadValue, place, "message").because("reason");
        one(&diagnostic, &sources, Colour::Never)
    }

    /// The caret is under its text and the column is that of the file, also after masked
    /// and cut parts.
    #[test]
    fn masks_and_cuts_keep_the_caret() {
        let text = shown("a = \"secret\", b = 5\n", 18..19, 4..12);
        assert!(text.contains("a.toml:1:19"), "{text}");
        assert!(
            text.contains("a = ********, b = 5\n  |                   ^ reason"),
            "{text}"
        );

        let line = format!("x = [{}5]", "\"ü\", ".repeat(1000));
        let at = line.len() - 2;
        let text = shown(&line, at..at + 1, 0..0);
        assert!(text.contains("a.toml:1:5006"), "{text}");
        let rows: Vec<&str> = text.lines().collect();
        let column = |row: &str, c| row.chars().position(|x| x == c).unwrap();
        assert_eq!(column(rows[3], '5'), column(rows[4], '^'), "{text}");
    }
}
