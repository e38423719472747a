//! Paths in files: the folder that they are relative to, and the help for a path that does
//! not exist.

use std::path::{Component, Path, PathBuf};

use crate::config::files;
use crate::diagnostic::words;

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// A path as written in a file of `folder`.
pub(super) fn join(folder: &Path, path: &Path) -> PathBuf {
    tidy(&folder.join(path))
}

/// A path without `.` in it.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let tidy: PathBuf = path
        .components()
        .filter(|component| !matches!(component, Component::CurDir))
        .collect();
    if tidy.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        tidy
    }
}

/// The help about the start of a relative path, for a file in `folder` with the path
/// `written`; `of` describes that file.
///
/// In other programs such paths start at the working directory. If something exists there,
/// the help has the right path to it.
pub(super) fn where_they_begin(folder: &Path, written: &Path, of: &str) -> String {
    let begin = format!("relative paths begin at the folder {of}");
    if written.is_absolute() {
        return "this path is absolute: it begins at the root of the file system".to_owned();
    }
    let text = written.to_string_lossy();
    if cfg!(unix) && text.contains('\\') {
        return format!("{begin}, and the names in a path are parted by `/`, not by a backslash");
    }
    let from_working_directory = join(Path::new(""), written);
    if !files::exists(written) || folder.as_os_str().is_empty() {
        return begin;
    }
    let begin = format!("{begin}, and not at the working directory, as in other programs");
    let meant = from_working_directory.strip_prefix(join(Path::new(""), folder));
    let meant = meant
        .ok()
        .filter(|meant| files::exists(&folder.join(meant)));
    let meant = meant.map(Path::to_owned);
    let meant = meant.or_else(|| std::path::absolute(&from_working_directory).ok());
    let meant = meant
        .map(|path| words::path(&path))
        .filter(|path| !path.contains(['"', '`', '\\']));
    match meant {
        Some(meant) if meant.is_empty() => format!("{begin}: write `\".\"`"),
        Some(meant) => format!("{begin}: write `\"{meant}\"`"),
        None => begin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that starts at the working directory is proposed in its form from the folder
    /// of the file.
    #[test]
    fn the_working_directory_is_explained() {
        // Tests of this crate run in its own folder.
        let help = where_they_begin(Path::new("src"), Path::new("./src/config"), "of the file");
        assert!(help.contains("working directory"), "{help}");
        assert!(help.ends_with("write `\"config\"`"), "{help}");
        let help = where_they_begin(Path::new("src"), Path::new("docs"), "of the file");
        let meant = help.rsplit("`\"").next().unwrap().trim_end_matches("\"`");
        assert!(Path::new("src").join(meant).is_dir(), "{help}");
    }

    /// A path that leads nowhere gets no proposal.
    #[test]
    fn nothing_is_proposed_without_a_reason() {
        for written in ["nowhere", "/nowhere", "a\\b"] {
            let help = where_they_begin(Path::new("src"), Path::new(written), "of the file");
            assert!(!help.contains("write"), "{help}");
        }
    }
}
