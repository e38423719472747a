//! Makes lines of a file safe to show: masks secrets, replaces control characters, and
//! shortens long lines.

use std::ops::Range;

use super::{FileId, Sources, Span, words};

/// Longer lines, in bytes, are shown in part.
const LINE_BYTES_MAX: usize = 160;
/// The bytes of a long line that are shown before a place.
const BYTES_BEFORE: usize = 40;
/// The bytes of a long line that are shown from the start of a place on.
const BYTES_AFTER: usize = 90;
/// The replacement of a secret.
const MASK: &str = "********";

/// Some lines of a file in a form that may be shown, and the new offset of each byte.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Pairs of an offset in the file and one in `text`, both rising: from each
    /// on, bytes are the same until the next.
    moved: Vec<(usize, usize)>,
}

impl Shown {
    pub(super) fn new(
        sources: &Sources,
        file: FileId,
        first: usize,
        last: usize,
        places: &[Span],
    ) -> Self {
        let text = sources.text(file);
        let starts = sources.line_starts(file);
        let mut hidden = sources.hidden(file).to_vec();
        hidden.sort_unstable();
        // One may contain another, such as a table of secrets with a secret.
        hidden.dedup_by(|later, earlier| {
            let is_one = later.start < earlier.end;
            if is_one {
                earlier.end = earlier.end.max(later.end);
            }
            is_one
        });
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
        let mut shown_to = 0;
        for part in wanted(start, line, places) {
            self.moved.push((start + shown_to, self.text.len()));
            if part.start > shown_to {
                self.text.push('…');
            }
            self.moved.push((start + part.start, self.text.len()));
            self.part(start + part.start, &line[part.clone()], hidden);
            shown_to = part.end;
        }
        if shown_to < line.len() {
            self.moved.push((start + shown_to, self.text.len()));
            self.text.push('…');
        }
    }

    /// Appends text that begins at byte `start` of the file, without the parts that must
    /// not be shown.
    fn part(&mut self, start: usize, part: &str, hidden: &[Span]) {
        let mut masked_to = 0;
        for (offset, c) in part.char_indices() {
            let at = start + offset;
            let next = at + c.len_utf8();
            // The secrets of a file are sorted and do not overlap, so the one
            // that could hold this byte is the last that begins before it.
            let before = hidden.partition_point(|h| h.start <= at);
            let last = before.checked_sub(1).map(|n| hidden[n]);
            if let Some(secret) = last.filter(|secret| at < secret.end) {
                if masked_to != secret.end {
                    masked_to = secret.end;
                    self.text.push_str(MASK);
                }
                self.moved.push((next, self.text.len()));
            } else if c != '\t' && words::must_not_show(c) {
                self.text.push(char::REPLACEMENT_CHARACTER);
                self.moved.push((next, self.text.len()));
            } else {
                self.text.push(c);
            }
        }
    }

    /// The range in the shown text of a range of the file.
    pub(super) fn range(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start);
        start..self.offset(span.end).max(start)
    }

    /// The offset in the shown text of a byte of the file, always at the start of a
    /// character.
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

/// The parts of a line that are shown, sorted and separate: all of a line of usual length,
/// otherwise the text near the places.
fn wanted(start: usize, line: &str, places: &[Span]) -> Vec<Range<usize>> {
    if line.len() <= LINE_BYTES_MAX {
        return std::iter::once(0..line.len()).collect();
    }
    let boundary = |at: usize| {
        let at = at.min(line.len());
        (0..=at)
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let mut parts: Vec<Range<usize>> = places
        .iter()
        .filter(|place| (start..=start + line.len()).contains(&place.start))
        .map(|place| {
            let at = place.start - start;
            boundary(at.saturating_sub(BYTES_BEFORE))..boundary(at + BYTES_AFTER)
        })
        .collect();
    parts.sort_unstable_by_key(|part| part.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match apart.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => apart.push(part),
        }
    }
    apart
}
