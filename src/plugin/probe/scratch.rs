//! A folder for the data of a plugin that is tried.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The most bytes of a plugin's data that are copied for a trial.
const COPIED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most files and folders of them.
const COPIED_FILES_MAX: usize = 10_000;

/// A folder that is removed when this is dropped.
pub(in crate::plugin) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::plugin) fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("infrarust-probe-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // An earlier process with the same process id may have left a folder. That of another
        // user cannot be removed, and the next line fails.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    pub(in crate::plugin) fn path(&self) -> &Path {
        &self.0
    }

    /// Copies a plugin's folder of `data_dir` into this one. If that is not possible, or
    /// there is too much of it, the plugin starts with an empty folder.
    pub(in crate::plugin) fn copy_data(&self, data_dir: &Path, id: &str) {
        let (from, to) = (data_dir.join(id), self.0.join(id));
        let mut left = (COPIED_BYTES_MAX, COPIED_FILES_MAX);
        if from.is_dir() && copy_folder(&from, &to, &mut left).is_err() {
            let _ = std::fs::remove_dir_all(&to);
        }
    }
}

/// Copies regular files, also those that links lead to, and folders. `left` is
/// how many bytes and files there may be.
fn copy_folder(from: &Path, to: &Path, left: &mut (u64, usize)) -> io::Result<()> {
    let too_much = || io::Error::from(io::ErrorKind::FileTooLarge);
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        left.1 = left.1.checked_sub(1).ok_or_else(too_much)?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to, left)?;
        } else if std::fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
            let mut file = File::open(entry.path())?.take(left.0.saturating_add(1));
            let copied = io::copy(&mut file, &mut File::create_new(to)?)?;
            left.0 = left.0.checked_sub(copied).ok_or_else(too_much)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
