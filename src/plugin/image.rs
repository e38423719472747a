//! Makes a sealed copy of a plugin's bytes that the loader can map.
//!
//! The bytes are read once, and pin, manifest and loader all use the same ones. So nothing
//! can change between check and load, and overwriting the file of a running plugin cannot
//! crash the proxy.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::plugin_file::PluginFileError;

/// Why a plugin's file did not become an image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file is not the one that the configuration wants, or its manifest does not allow
    /// to load it.
    #[error(transparent)]
    File(#[from] PluginFileError),
    /// No copy could be made.
    #[error("it cannot be copied for loading: {0}")]
    Copy(std::io::Error),
    /// The loader fails: a library or a symbol is missing.
    #[error("it cannot be loaded: {0}")]
    Load(String),
    /// The entry in the code differs from the manifest.
    #[error("its manifest and its code disagree about {field}: {manifest} and {code}")]
    Mismatch {
        /// The field that differs.
        field: &'static str,
        /// The value in the manifest.
        manifest: String,
        /// The value in the code.
        code: String,
    },
}

/// A copy that no other process can change, with its path for the loader.
pub(super) struct Sealed {
    /// To be kept open as long as the image is mapped: the loader compares paths, and the
    /// number of a closed descriptor would be used again.
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Whether `path` is to be removed after loading.
    pub(super) is_on_disk: bool,
}

/// Copies the bytes into a sealed memory file, or, if the system does not run code from such
/// a file, into a file that only this user can read.
pub(super) fn seal(bytes: &[u8], name: &str, folder: &Path) -> Result<Sealed, ImageError> {
    #[cfg(target_os = "linux")]
    match memory_file(bytes, name) {
        Ok(sealed) => return Ok(sealed),
        Err(error) => {
            tracing::debug!(%error, plugin = name, "no sealed memory file: a private copy is loaded")
        }
    }
    private_copy(bytes, name, folder).map_err(ImageError::Copy)
}

#[cfg(target_os = "linux")]
fn memory_file(bytes: &[u8], name: &str) -> std::io::Result<Sealed> {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    /// `MFD_EXEC` (Linux 6.3, `memfd_create(2)`): this file is meant to be run.
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Older kernels do not have the flag, and do not need it.
    let fd = memfd_create(name, flags | MFdFlags::from_bits_retain(MFD_EXEC))
        .or_else(|_| memfd_create(name, flags))?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // `/proc` may not be there.
    std::fs::metadata(&path)?;
    Ok(Sealed {
        file,
        path,
        is_on_disk: false,
    })
}

fn private_copy(bytes: &[u8], name: &str, folder: &Path) -> std::io::Result<Sealed> {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = std::path::absolute(folder.join(".images"))?;
    let mut make_folder = std::fs::DirBuilder::new();
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        make_folder.mode(0o700);
        options.mode(0o500);
    }
    make_folder.recursive(true).create(&folder)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{name}-{}-{number}.so", std::process::id()));
    // An earlier process with the same process id may have left a file of this name.
    let _ = std::fs::remove_file(&path);
    let mut file = options.write(true).create_new(true).open(&path)?;
    file.write_all(bytes)?;
    // The kernel does not map a file for execution while it is open for writing.
    drop(file);
    Ok(Sealed {
        file: File::open(&path)?,
        path,
        is_on_disk: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sealed copy can be read and not be written, not even through its path.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_sealed_copy_stays_as_it_is() {
        let sealed = memory_file(b"bytes", "test").unwrap();
        assert_eq!(std::fs::read(&sealed.path).unwrap(), b"bytes");
        let opened = File::options().write(true).open(&sealed.path);
        assert!(opened.is_err() || opened.unwrap().write_all(b"x").is_err());
        assert!(sealed.file.set_len(0).is_err());
    }

    /// The fallback is private, and each copy has its own name.
    #[test]
    fn a_private_copy_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let one = private_copy(b"bytes", "test", folder.path()).unwrap();
        let two = private_copy(b"bytes", "test", folder.path()).unwrap();
        assert_ne!(one.path, two.path);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&one.path), mode(one.path.parent().unwrap())),
            (0o500, 0o700)
        );
    }
}
