//! Reads a plugin's file, once and within bounds, and checks it. Runs no code
//! of it.
//!
//! The configuration checks plugins with this module, and the plugin host loads
//! the very bytes that were checked.

use std::path::Path;
use std::time::Duration;

use super::files::{self, Unreadable};
use crate::manifest::file;
pub use crate::manifest::file::{CheckedFile, PluginFileError, Sha, hex, parse_hex, sha256};

/// The largest plugin in bytes. A release build takes one to ten megabytes, a
/// debug build with all its dependencies a hundred.
const PLUGIN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How long it may take to read one: a debug build from a slow disk.
const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// Reads and checks a file: whether it would run in this process.
///
/// # Errors
///
/// See [`PluginFileError`].
pub fn check(path: &Path, pin: Option<Sha>) -> Result<CheckedFile, PluginFileError> {
    // Faults of the plugin itself are reported before what this system lacks.
    examine(path, pin)?.runs_here()
}

/// Reads and checks a file by itself, without regard to this system.
///
/// # Errors
///
/// See [`PluginFileError`]; never [`PluginFileError::Glibc`].
pub fn examine(path: &Path, pin: Option<Sha>) -> Result<CheckedFile, PluginFileError> {
    let bytes = files::read_large(path, PLUGIN_BYTES_MAX, READ_TIME_MAX).map_err(|problem| {
        PluginFileError::Read(match problem {
            Unreadable::Io(error) => files::plain(&error),
            other => other.to_string(),
        })
    })?;
    file::examine(bytes, pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is not a plugin is refused; the pin is compared first.
    #[test]
    fn files_that_are_not_plugins_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libx.so");
        let why = |path: &Path, pin| check(path, pin).unwrap_err();
        assert!(matches!(why(&path, None), PluginFileError::Read(_)));
        assert!(matches!(why(folder.path(), None), PluginFileError::Read(_)));
        std::fs::write(&path, b"text").unwrap();
        assert!(matches!(why(&path, None), PluginFileError::Manifest(_)));
        let error = why(&path, Some([0; 32])).to_string();
        assert!(error.starts_with("its SHA-256 is 982d9e3e"), "{error}");
    }
}
