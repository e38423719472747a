//! The texts that diagnostics point into.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A range of bytes in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// A file of [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

impl FileId {
    /// The file that a load reads first: the global one.
    pub(crate) const GLOBAL: Self = Self(0);
}

/// A range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The range in its text.
    pub span: Span,
}

impl Place {
    /// A file as a whole, for a problem with the file itself or with something that is
    /// missing in it.
    #[must_use]
    pub fn whole(file: FileId) -> Self {
        Self {
            file,
            span: Span::default(),
        }
    }

    /// Whether this is a file as a whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.span == Span::default()
    }
}

/// A place in lines and columns, both counted from one; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The line of the first character.
    pub line: usize,
    /// The column of the first character.
    pub column: usize,
    /// The line after the last character's.
    pub end_line: usize,
    /// The column after the last character's.
    pub end_column: usize,
}

#[derive(Clone)]
struct Source {
    path: PathBuf,
    /// The folder at which relative paths in it start; `None` is its own folder.
    folder: Option<PathBuf>,
    text: Arc<str>,
    /// Ranges that must never be shown, in any order.
    secrets: Vec<Span>,
    /// Where each line begins; made when first asked for.
    lines: OnceLock<Vec<usize>>,
}

impl fmt::Debug for Source {
    /// Only the path, since the text may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.path).finish()
    }
}

/// The files of one load, with their texts. Texts are shared by copies.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file. Diagnostics show the path.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> FileId {
        self.push(path.into(), None, text.into())
    }

    /// Adds a text that is not a file, under a name that diagnostics show.
    /// Relative paths in it begin at `folder`.
    pub fn add_labels(
        &mut self,
        name: impl Into<PathBuf>,
        folder: PathBuf,
        text: impl Into<Arc<str>>,
    ) -> FileId {
        self.push(name.into(), Some(folder), text.into())
    }

    fn push(&mut self, path: PathBuf, folder: Option<PathBuf>, text: Arc<str>) -> FileId {
        self.files.push(Source {
            path,
            folder,
            text,
            secrets: Vec::new(),
            lines: OnceLock::new(),
        });
        FileId(self.files.len() - 1)
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, file: FileId) -> &Path {
        &self.files[file.0].path
    }

    /// The folder that relative paths in a file begin at.
    #[must_use]
    pub fn folder(&self, file: FileId) -> PathBuf {
        let Source { path, folder, .. } = &self.files[file.0];
        let lies_in = || path.parent().unwrap_or(Path::new("")).to_owned();
        folder.clone().unwrap_or_else(lies_in)
    }

    /// Whether these are the labels of a container.
    #[must_use]
    pub fn is_labels(&self, file: FileId) -> bool {
        self.files[file.0].folder.is_some()
    }

    /// The text of a file; empty for a file that could not be read.
    #[must_use]
    pub fn text(&self, file: FileId) -> &str {
        &self.files[file.0].text
    }

    /// Marks a range of a file as one that must not be shown.
    pub fn hide(&mut self, place: Place) {
        self.files[place.file.0].secrets.push(place.span);
    }

    /// The ranges of a file that must not be shown.
    pub(super) fn hidden(&self, file: FileId) -> &[Span] {
        &self.files[file.0].secrets
    }

    /// Where each line of a file begins.
    pub(super) fn line_starts(&self, file: FileId) -> &[usize] {
        let source = &self.files[file.0];
        source.lines.get_or_init(|| {
            let ends = source.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect()
        })
    }

    /// The line of a byte, counted from zero.
    pub(super) fn line_of(&self, file: FileId, byte: usize) -> usize {
        let starts = self.line_starts(file);
        starts
            .partition_point(|start| *start <= byte)
            .saturating_sub(1)
    }

    /// A place in lines and columns.
    #[must_use]
    pub fn locate(&self, place: Place) -> Located {
        let (line, column) = self.position(place.file, place.span.start);
        let (end_line, end_column) =
            self.position(place.file, place.span.end.max(place.span.start));
        Located {
            line,
            column,
            end_line,
            end_column,
        }
    }

    fn position(&self, file: FileId, byte: usize) -> (usize, usize) {
        let text = self.text(file);
        let byte = byte.min(text.len());
        let line = self.line_of(file, byte);
        let start = self.line_starts(file)[line];
        // Counts the first bytes of characters, so that a place inside a character works
        // too.
        let before = &text.as_bytes()[start..byte];
        let characters = before.iter().filter(|b| **b & 0xC0 != 0x80).count();
        (line + 1, characters + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns count characters, lines end at `\n` with or without `\r`.
    #[test]
    fn places_count_characters() {
        let mut sources = Sources::default();
        let file = sources.add("x.toml", "ab\r\nü = 1\n");
        let locate = |start, end| {
            let span = Span { start, end };
            let at = sources.locate(Place { file, span });
            (at.line, at.column, at.end_line, at.end_column)
        };
        assert_eq!(locate(0, 2), (1, 1, 1, 3));
        assert_eq!(locate(4, 6), (2, 1, 2, 2));
        assert_eq!(locate(9, 10), (2, 5, 2, 6));
        assert_eq!(locate(99, 99), (3, 1, 3, 1));
        assert_eq!(sources.locate(Place::whole(file)).line, 1);
    }
}
