//! The folder of the server files: the files that are read, and other files that an
//! operator may expect to be read.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::report::Report;
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic, Place};

/// Extensions of files that look like server files and are not read.
const STRANGE_ENDS: [&str; 5] = [".yml", ".yaml", ".json", ".toml.txt", ".tml"];

/// Parts of the names that programs give to copies of a file after a conflict: Syncthing;
/// Nextcloud and Dropbox; desktops.
const COPY_MARKS: [&str; 4] = [".sync-conflict-", "conflicted copy", " (copy", " - copy"];

/// The most names in one warning.
const NAMES_SHOWN_MAX: usize = 8;

/// The most folders that are searched, and the most names that are read in each: the result
/// is only a warning.
const FOLDERS_MAX: usize = 32;
const NAMES_READ_MAX: usize = 256;

/// The content of the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The server files, in the order of their names.
    pub(super) servers: Vec<PathBuf>,
    /// Copies, with the names of their originals if these exist.
    copies: Vec<(String, Option<String>)>,
    /// Names that look like server files.
    strange: BTreeSet<String>,
    /// Folders with files that look like server files.
    folders: BTreeSet<String>,
}

/// Whether a file with this name is hidden, or a temporary file of an editor.
fn is_own(name: &str) -> bool {
    name.starts_with(['.', '#', '~'])
}

/// The offset of the mark of a copy in a name.
fn copy_mark(name: &str) -> Option<usize> {
    let small = name.to_ascii_lowercase();
    COPY_MARKS.iter().filter_map(|mark| small.find(mark)).min()
}

/// Whether a file with this name is read.
fn is_server(name: &str) -> bool {
    name.ends_with(".toml") && !is_own(name) && copy_mark(name).is_none()
}

/// Whether an operator may take a file with this name for a server file.
fn is_strange(name: &str) -> bool {
    let small = name.to_ascii_lowercase();
    let ends = STRANGE_ENDS.iter().any(|end| small.ends_with(end));
    !is_own(name) && (ends || (small.ends_with(".toml") && !name.ends_with(".toml")))
}

/// Whether a file with this name is read, or reported as one that is not read.
pub(super) fn matters(name: &str) -> bool {
    is_server(name) || is_strange(name) || (name.ends_with(".toml") && !is_own(name))
}

/// Lists the folder of the server files.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn find(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut copies = Vec::new();
    let mut folders = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if is_server(&text) {
            found.servers.push(dir.join(&name));
        } else if is_own(&text) {
            continue;
        } else if text.ends_with(".toml") {
            copies.push(text.into_owned());
        } else if is_strange(&text) {
            found.strange.insert(text.into_owned());
        } else if folders < FOLDERS_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders += 1;
            if has_server_files(&entry.path()) {
                found.folders.insert(format!("{text}/"));
            }
        }
    }
    found.servers.sort();
    copies.sort();
    found.copies = copies
        .into_iter()
        .map(|copy| {
            let original = original(&copy).filter(|name| dir.join(name).is_file());
            (copy, original)
        })
        .collect();
    Ok(found)
}

/// The name of the file that this one is a copy of.
fn original(copy: &str) -> Option<String> {
    let stem = copy.get(..copy_mark(copy)?)?;
    // Nextcloud and Dropbox write `name (conflicted copy …)`, with a name in front.
    let stem = stem.split(" (").next().unwrap_or(stem);
    let stem = stem.trim_end_matches([' ', '(', '-']);
    (!stem.is_empty()).then(|| format!("{stem}.toml"))
}

/// Whether a folder has a file that would be read, or that looks like one.
fn has_server_files(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    entries.take(NAMES_READ_MAX).flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        is_server(&name) || is_strange(&name)
    })
}

impl Found {
    /// Reports the files that are not read. Each copy is named, with its original; of the
    /// others only the first ones.
    pub(super) fn report(&self, dir: &Path, place: Place, report: &mut Report) {
        let dir = words::path(dir);
        for (copy, original) in self.copies.iter().take(NAMES_SHOWN_MAX) {
            let of = match original {
                Some(original) => format!("a copy of {}", Quoted(original)),
                None => "a copy".to_owned(),
            };
            let message = format!("{} in `{dir}` is {of} and is not read", Quoted(copy));
            report.push(
                Diagnostic::new(Code::UnreadFile, place, message).help(
                    "take over what you need from it, and remove it; or give it another name",
                ),
            );
        }
        if let Some(names) = some_of(&self.strange) {
            let message = format!("not read in `{dir}`: {names}");
            report.push(
                Diagnostic::new(Code::UnreadFile, place, message)
                    .help("server files are TOML, and their names end in `.toml`"),
            );
        }
        if let Some(names) = some_of(&self.folders) {
            let message = format!("folders in `{dir}` are not read: {names}");
            report.push(
                Diagnostic::new(Code::UnreadFile, place, message)
                    .help("move the server files into the folder itself"),
            );
        }
    }
}

/// The first names and the number of the others; `None` without any.
fn some_of(names: &BTreeSet<String>) -> Option<String> {
    let shown = names.iter().take(NAMES_SHOWN_MAX);
    let shown: Vec<String> = shown.map(|name| Quoted(name).to_string()).collect();
    let more = names.len() - shown.len();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies are recognized by their names, and other long names are not copies.
    #[test]
    fn copies_are_recognized_by_their_names() {
        for (name, of) in [
            (
                "lobby.sync-conflict-20260101-120000-ABCDEFG.toml",
                Some("lobby.toml"),
            ),
            (
                "lobby (conflicted copy 2026-01-01 120000).toml",
                Some("lobby.toml"),
            ),
            (
                "lobby (Ann's conflicted copy 2026-01-01).toml",
                Some("lobby.toml"),
            ),
            ("lobby (copy).toml", Some("lobby.toml")),
            ("lobby - Copy.toml", Some("lobby.toml")),
            ("lobby.copy.toml", None),
            ("my lobby.toml", None),
        ] {
            assert_eq!(copy_mark(name).is_some(), of.is_some(), "{name}");
            assert_eq!(is_server(name), of.is_none(), "{name}");
            assert_eq!(
                copy_mark(name).and_then(|_| original(name)).as_deref(),
                of,
                "{name}"
            );
        }
    }

    /// Names that look like server files are found, and those of notes and backups are not.
    #[test]
    fn names_like_server_files_are_recognized() {
        for name in [
            "hub.yml",
            "hub.YAML",
            "hub.json",
            "hub.toml.txt",
            "Hub.TOML",
        ] {
            assert!(is_strange(name), "{name}");
        }
        for name in [
            "hub.toml",
            "notes.txt",
            "hub.toml~",
            "hub.toml.bak",
            ".hub.yml",
            "README.md",
        ] {
            assert!(!is_strange(name), "{name}");
        }
    }
}
