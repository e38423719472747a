//! Diagnostics for people: the lines of the file, carets, reasons and the way out.
//!
//! Only the few lines around each place go to the renderer, made harmless
//! first: secrets are masked, what could steer a terminal is replaced, and a
//! line of a megabyte is cut to the part that matters.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::words::{self, count};
use super::{Diagnostic, FileId, Place, Severity, Sources, Span};

/// Labels at most this many lines away share the snippet of the caret; others
/// get a snippet of their own, so that no renderer walks through a whole file.
const LINES_TOGETHER_MAX: usize = 24;
/// Lines with more bytes than this are shown in part.
const LINE_BYTES_MAX: usize = 160;
/// How many bytes of a long line are shown before a place.
const BYTES_BEFORE: usize = 40;
/// How many bytes of a long line are shown from the start of a place on.
const BYTES_AFTER: usize = 90;
/// How a help begins that names one word.
const DID_YOU_MEAN: &str = "did you mean";
/// What stands for a secret.
const MASK: &str = "********";

/// Whether the output may hold colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// It goes to a terminal.
    Always,
    /// It goes to a file or a pipe.
    Never,
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

    let (mut together, apart): (Vec<_>, Vec<_>) = diagnostic
        .labels
        .iter()
        .map(|label| (label.place, label.message.as_str(), AnnotationKind::Context))
        .partition(|(place, _, _)| are_near(*place, diagnostic.place, sources));

    // A single word to change reads best beside the caret.
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
        let path = words::path(sources.path(diagnostic.place.file));
        group = group.element(Origin::path(path));
        if !reason.is_empty() {
            group = group.element(Level::NOTE.message(reason));
        }
    } else {
        together.push((diagnostic.place, reason, AnnotationKind::Primary));
    }
    if !together.is_empty() {
        group = group.element(snippet(&together, sources));
    }
    for label in apart {
        group = group.element(snippet(&[label], sources));
    }
    if let (Some(help), None) = (&diagnostic.help, inline) {
        group = group.element(Level::HELP.message(help.as_str()));
    }

    let renderer = match colour {
        Colour::Always => Renderer::styled(),
        Colour::Never => Renderer::plain(),
    };
    renderer.render(&[group])
}

fn are_near(a: Place, b: Place, sources: &Sources) -> bool {
    a.file == b.file && !a.is_whole() && {
        let line = |place: Place| sources.line_of(place.file, place.span.start);
        line(a).abs_diff(line(b)) <= LINES_TOGETHER_MAX
    }
}

type Marked<'a> = (Place, &'a str, AnnotationKind);

/// The lines of one file that hold all the given places; they are never empty
/// and all of one file.
fn snippet<'a>(
    marked: &[Marked<'a>],
    sources: &Sources,
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
        .path(words::path(sources.path(file)))
        .annotations(annotations)
}

/// A place cut to its first line: a caret under a whole table says less.
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

/// Some lines of a file as they may be shown, and where each byte went.
struct Shown {
    text: String,
    /// Pairs of an offset in the file and one in `text`, both rising: from each
    /// on, bytes are the same until the next.
    moved: Vec<(usize, usize)>,
}

impl Shown {
    fn new(sources: &Sources, file: FileId, first: usize, last: usize, places: &[Span]) -> Self {
        let text = sources.text(file);
        let starts = sources.line_starts(file);
        let mut hidden = sources.hidden(file).to_vec();
        hidden.sort_unstable();
        let mut shown = Shown {
            text: String::new(),
            moved: Vec::new(),
        };
        for line in first..=last {
            let start = starts[line];
            let end = starts.get(line + 1).copied().unwrap_or(text.len());
            let line = text.get(start..end).unwrap_or("");
            let body = line.trim_end_matches(['\n', '\r']);
            shown.line(start, body, &hidden, places);
            if body.len() < line.len() {
                shown.text.push('\n');
            }
        }
        shown
    }

    fn line(&mut self, start: usize, line: &str, hidden: &[Span], places: &[Span]) {
        self.moved.push((start, self.text.len()));
        let is_long = line.len() > LINE_BYTES_MAX;
        let is_wanted = |at: usize| {
            places
                .iter()
                .any(|p| at + BYTES_BEFORE >= p.start && at < p.start.saturating_add(BYTES_AFTER))
        };
        let mut cutting = false;
        let mut masked_to = 0;
        for (offset, c) in line.char_indices() {
            let at = start + offset;
            let next = at + c.len_utf8();
            // The secrets of a file are sorted and do not overlap, so the one
            // that could hold this byte is the last that begins before it.
            let before = hidden.partition_point(|h| h.start <= at);
            let secret = before
                .checked_sub(1)
                .map(|n| hidden[n])
                .filter(|h| at < h.end);
            if let Some(secret) = secret {
                if masked_to != secret.end {
                    masked_to = secret.end;
                    self.text.push_str(MASK);
                }
                self.moved.push((next, self.text.len()));
            } else if is_long && !is_wanted(at) {
                if !cutting {
                    self.text.push('…');
                }
                cutting = true;
                self.moved.push((next, self.text.len()));
            } else {
                cutting = false;
                if c == '\t' {
                    self.text.push(c);
                } else if words::must_not_show(c) {
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.moved.push((next, self.text.len()));
                } else {
                    self.text.push(c);
                }
            }
        }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start);
        start..self.offset(span.end).max(start)
    }

    /// Where a byte of the file went, always at the start of a character.
    fn offset(&self, byte: usize) -> usize {
        let n = self.moved.partition_point(|(from, _)| *from <= byte);
        let (from, to) = n.checked_sub(1).map_or((byte, 0), |n| self.moved[n]);
        let limit = self.moved.get(n).map_or(self.text.len(), |(_, to)| *to);
        let mut offset = (to + (byte - from)).min(limit);
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}
