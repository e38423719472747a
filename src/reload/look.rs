//! Checks the folder of server files: makes a fingerprint that shows whether something has
//! changed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use crate::apart::Lane;
use crate::config::load::is_server_file;

/// How long a check for a reload may take: the same time as for listing the folder. A disk
/// that does not answer must not prevent a reload from another folder.
const LOOK_TIME_MAX: Duration = Duration::from_secs(20);
/// The checks for reloads.
static LOOKS: Lane = Lane::new();

/// Identifies a folder or a file among those with the same name over time.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);
/// Identifies a folder or a file among those with the same name over time.
#[cfg(not(unix))]
pub(super) type Identity = Option<std::time::SystemTime>;

/// The identity of a folder; `None` if there is none.
pub(super) fn identity(folder: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(folder).ok();
    let metadata = metadata.filter(std::fs::Metadata::is_dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    Some(metadata.created().ok())
}

/// The result of a check of the folder, as far as it shows a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The folder; `None` if there is none.
    pub(super) folder: Option<Identity>,
    /// The fingerprint of all its server files together.
    files: u64,
}

impl Look {
    /// Checks a folder. May block.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        let mut files = 0_u64;
        match std::fs::read_dir(folder) {
            // Independent of the order in which they are listed.
            Ok(entries) => {
                let names = entries.flatten().map(|entry| entry.file_name());
                for name in names.filter(|name| is_server_file(name)) {
                    let mut hasher = DefaultHasher::new();
                    name.hash(&mut hasher);
                    stamp(&folder.join(&name), &mut hasher);
                    files = files.wrapping_add(hasher.finish());
                }
            }
            Err(error) => {
                let mut hasher = DefaultHasher::new();
                error.raw_os_error().hash(&mut hasher);
                files = hasher.finish();
            }
        }
        Self {
            folder: identity(folder),
            files,
        }
    }

    /// Checks a folder; `None` if the disk does not answer in time.
    pub(super) fn in_time(folder: &Path) -> Option<Self> {
        let folder = folder.to_owned();
        LOOKS.within(LOOK_TIME_MAX, move || Self::at(&folder)).ok()
    }

    /// Whether this check has found no folder, or another folder is at the path now, as far
    /// as is known.
    pub(super) fn is_replaced(self, folder: &Path) -> bool {
        if self.folder.is_none() {
            return true;
        }
        let folder = folder.to_owned();
        let now = LOOKS.within(LOOK_TIME_MAX, move || identity(&folder));
        now.is_ok_and(|now| now != self.folder)
    }
}

/// Hashes the metadata that a change of a file alters, with links followed. The size and
/// the time of writing are not enough, since copying tools keep both.
fn stamp(path: &Path, hasher: &mut impl Hasher) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    metadata.len().hash(hasher);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino()).hash(hasher);
        (metadata.mtime(), metadata.mtime_nsec()).hash(hasher);
        (metadata.ctime(), metadata.ctime_nsec()).hash(hasher);
    }
    #[cfg(not(unix))]
    metadata.modified().ok().hash(hasher);
}
