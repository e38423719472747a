//! Checks the bytes of a plugin's file: the pinned SHA-256, the manifest, and the
//! glibc that it needs. Reads no file and runs no code of the plugin.

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::library::{self, Glibc};
use super::{Manifest, Refusal};
use crate::diagnostic::Code;

/// A SHA-256 digest.
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
    /// The file is not a plugin for this proxy.
    #[error(transparent)]
    Manifest(#[from] Refusal),
    /// It was built on a newer system; the loader would refuse it with a less clear
    /// message.
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

    /// What to do about it: a clause in the imperative.
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

/// The bytes of a plugin's file, with the manifest that they contain.
#[derive(Debug)]
pub struct CheckedFile {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What the plugin says about itself.
    pub manifest: Manifest,
}

impl CheckedFile {
    /// Checks that this system has the glibc that the library needs.
    ///
    /// # Errors
    ///
    /// [`PluginFileError::Glibc`].
    pub fn runs_here(self) -> Result<Self, PluginFileError> {
        let (needed, here) = (
            library::glibc_needed(&self.bytes),
            library::glibc_of_this_system(),
        );
        match (needed, here) {
            (Some(needed), Some(here)) if needed > here => {
                Err(PluginFileError::Glibc { needed, here })
            }
            _ => Ok(self),
        }
    }
}

/// Checks the bytes of a file, but not whether it runs on this system: see
/// [`CheckedFile::runs_here`].
///
/// # Errors
///
/// See [`PluginFileError`]; never [`PluginFileError::Glibc`].
pub fn examine(bytes: Vec<u8>, pin: Option<Sha>) -> Result<CheckedFile, PluginFileError> {
    if let Some(pinned) = pin {
        let found = sha256(&bytes);
        if pinned != found {
            return Err(PluginFileError::Pin {
                found: hex(&found),
                pinned: hex(&pinned),
            });
        }
    }
    let manifest = super::read(&bytes)?;
    Ok(CheckedFile { bytes, manifest })
}

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

/// A SHA-256 as hexadecimal digits, as `sha256sum` prints them.
#[must_use]
pub fn hex(sha: &Sha) -> String {
    sha.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a SHA-256 of 64 hexadecimal digits; `None` for any other text.
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
}
