//! Reading of files that an operator names, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

/// Why a file was not read.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    /// There is nothing of this name.
    #[error("there is no such file")]
    Missing,
    /// A symbolic link leads to nothing.
    #[error("it is a symbolic link to a file that does not exist")]
    BrokenLink,
    /// It is a folder.
    #[error("it is a folder, not a file")]
    Folder,
    /// It is a pipe, a device or a socket, which might never end.
    #[error("it is not a regular file")]
    Special,
    /// It is larger than anything that makes sense here.
    #[error("it is larger than {} KiB", .0 / 1024)]
    TooLarge(u64),
    /// The system refuses.
    #[error("{0}")]
    Io(io::Error),
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
///
/// See [`Unreadable`].
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => Unreadable::BrokenLink,
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Io(error),
    })?;
    if metadata.is_dir() {
        return Err(Unreadable::Folder);
    }
    // A pipe without a writer would block in `open`, so it is not opened.
    if !metadata.is_file() {
        return Err(Unreadable::Special);
    }
    let file = File::open(path).map_err(Unreadable::Io)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, whatever the
    // metadata said a moment ago.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(Unreadable::Io)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(Unreadable::TooLarge(bytes_max));
    }
    Ok(bytes)
}

/// What the system says, in its words, without the number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => {
            let text = error.to_string().to_lowercase();
            match text.split_once(" (os error") {
                Some((words, _)) => words.to_owned(),
                None => text,
            }
        }
    }
}
