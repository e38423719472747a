//! A plugin's file: read once within bounds, held against its pin, and judged
//! by its manifest. Runs no code of it.
//!
//! The configuration judges plugins through here, and the plugin host loads
//! the very bytes that were judged.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::files::{self, Unreadable};
use crate::diagnostic::Code;
use crate::library::{self, Glibc};
use crate::manifest::{self, Manifest, Refusal};

/// The largest plugin in bytes. A release build takes one to ten megabytes, a
/// debug build with all its dependencies a hundred.
const PLUGIN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How long it may take to read one: a debug build from a slow disk.
const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// A SHA-256.
pub type Sha = [u8; 32];

/// Why a plugin's file is not loaded.
#[derive(Debug, Error)]
pub enum PluginFileError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// The file is not the one that the operator has pinned.
    #[error("its SHA-256 is {found}, and the configuration pins {pinned}")]
    Pin {
        /// Of the file.
        found: String,
        /// Of the configuration.
        pinned: String,
    },
    /// The manifest refuses.
    #[error(transparent)]
    Manifest(#[from] Refusal),
    /// It comes from a newer system; the loader would say so in its own words.
    #[error("it needs glibc {needed} or newer, and this system has {here}")]
    Glibc {
        /// In the file.
        needed: Glibc,
        /// Here.
        here: Glibc,
    },
}

impl PluginFileError {
    /// The code under which the configuration reports it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            PluginFileError::Read(_) | PluginFileError::Pin { .. } => Code::PluginFile,
            PluginFileError::Glibc { .. } => Code::PluginIncompatible,
            PluginFileError::Manifest(refusal) => match refusal {
                Refusal::NotElf { .. }
                | Refusal::NotLibrary { .. }
                | Refusal::Program
                | Refusal::Headers(_)
                | Refusal::Truncated { .. } => Code::PluginFile,
                Refusal::NoManifest
                | Refusal::ManyManifests(_)
                | Refusal::Broken(_)
                | Refusal::Missing(_)
                | Refusal::Value { .. }
                | Refusal::Disagree { .. } => Code::PluginManifest,
                Refusal::Machine { .. }
                | Refusal::Format { .. }
                | Refusal::Api { .. }
                | Refusal::Requires { .. }
                | Refusal::Unknown { .. }
                | Refusal::NoHook { .. }
                | Refusal::PanicAbort => Code::PluginIncompatible,
            },
        }
    }

    /// The way out: a clause in the imperative.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            PluginFileError::Read(_) => {
                "build or copy the plugin there, name its file with `path`, or write \
                 `enabled = false`"
                    .to_owned()
            }
            PluginFileError::Pin { .. } => {
                "look where the file comes from; if it is meant to be new, correct `sha256`"
                    .to_owned()
            }
            PluginFileError::Manifest(refusal) => refusal.help(),
            PluginFileError::Glibc { here, .. } => format!(
                "build the plugin on a system with glibc {here} or older, or run the proxy on a \
                 newer one"
            ),
        }
    }
}

/// The bytes of a plugin, and what they say about it.
#[derive(Debug)]
pub struct Judged {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What the plugin says about itself.
    pub manifest: Manifest,
}

/// Reads and judges a file: whether it would run in this process.
///
/// # Errors
///
/// See [`PluginFileError`].
pub fn judge(path: &Path, pin: Option<Sha>) -> Result<Judged, PluginFileError> {
    let judged = examine(path, pin)?;
    // Last, because it is about the system: what the plugin itself does wrong
    // is said first.
    let (needed, here) = (
        library::glibc_needed(&judged.bytes),
        library::glibc_of_this_system(),
    );
    match (needed, here) {
        (Some(needed), Some(here)) if needed > here => Err(PluginFileError::Glibc { needed, here }),
        _ => Ok(judged),
    }
}

/// Reads and judges a file, as far as the file alone tells.
///
/// # Errors
///
/// See [`PluginFileError`]; never [`PluginFileError::Glibc`].
pub fn examine(path: &Path, pin: Option<Sha>) -> Result<Judged, PluginFileError> {
    let bytes = files::read_large(path, PLUGIN_BYTES_MAX, READ_TIME_MAX).map_err(|problem| {
        PluginFileError::Read(match problem {
            Unreadable::Io(error) => files::plain(&error),
            other => other.to_string(),
        })
    })?;
    if let Some(pinned) = pin {
        let found = sha256(&bytes);
        if pinned != found {
            return Err(PluginFileError::Pin {
                found: hex(&found),
                pinned: hex(&pinned),
            });
        }
    }
    let manifest = manifest::read(&bytes)?;
    Ok(Judged { bytes, manifest })
}

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

/// The digits of a SHA-256, as `sha256sum` prints them.
#[must_use]
pub fn hex(sha: &Sha) -> String {
    sha.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 that some digits spell; `None` when they spell none.
#[must_use]
pub fn parse_hex(digits: &str) -> Option<Sha> {
    let mut sha = Sha::default();
    if digits.len() != 2 * sha.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in sha.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest is read as it is written, and nothing else is.
    #[test]
    fn digests_are_read_as_written() {
        let sha = sha256(b"plugin");
        assert_eq!(parse_hex(&hex(&sha)), Some(sha));
        assert_eq!(parse_hex(&hex(&sha).to_uppercase()), Some(sha));
        for bad in ["", "aa", &"+".repeat(64), &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }

    /// What is no plugin is refused, and pins are held first.
    #[test]
    fn files_are_judged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libx.so");
        let why = |path: &Path, pin| judge(path, pin).unwrap_err();
        assert!(matches!(why(&path, None), PluginFileError::Read(_)));
        assert!(matches!(why(folder.path(), None), PluginFileError::Read(_)));
        std::fs::write(&path, b"text").unwrap();
        assert!(matches!(why(&path, None), PluginFileError::Manifest(_)));
        let error = why(&path, Some([0; 32])).to_string();
        assert!(error.starts_with("its SHA-256 is 982d9e3e"), "{error}");
    }
}
