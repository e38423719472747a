//! Reads files that an operator, a label or a plugin's table names, within
//! bounds: only regular files, up to a size, and within a time.
//!
//! Each read runs on a separate thread, since a read from a disk that does not
//! answer cannot be ended. After its time it is reported, and the caller
//! continues.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::apart::{Lane, NotDone};

/// How long a file of the configuration may take. A megabyte takes a tenth of
/// that over a slow network.
const READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a folder may take to be listed: ten thousand names over a network.
const LIST_TIME_MAX: Duration = Duration::from_secs(20);
/// The largest file with certificates or a key: a bundle of all public
/// authorities has a quarter of that.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Files that one thread reads in a row: handing each over by itself would
/// double the time of ten thousand.
const TOGETHER_MAX: usize = 64;

/// The global file, which may be on another disk than the rest: a change of it
/// must be possible while the other disk does not answer.
static GLOBAL: Lane = Lane::new();
/// The server files.
static OWN: Lane = Lane::new();
/// Folders, and metadata of files.
static LOOKS: Lane = Lane::new();
/// Files that a text of the configuration or a label names. They have a separate
/// lane, so that they cannot delay the files of the configuration.
static NAMED: Lane = Lane::new();

/// Why a file was not read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    /// There is no file with this name.
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
    /// The kernel generates its content, and reading it may wait or change something.
    #[error("it is a file of the kernel, without a content of its own")]
    Kernel,
    /// It is larger than the limit.
    #[error("it is larger than {} KiB", .0 / 1024)]
    TooLarge(u64),
    /// The read could not start, or did not end in time.
    #[error("{0}")]
    NotDone(NotDone),
    /// The system refuses.
    #[error("{0}")]
    Io(io::Error),
}

impl Unreadable {
    /// Whether the reason is temporary, so that the file need not change.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Unreadable::NotDone(_) => true,
            Unreadable::Io(error) => Self::may_pass_of(error),
            Unreadable::Missing
            | Unreadable::BrokenLink
            | Unreadable::Folder
            | Unreadable::Special
            | Unreadable::Kernel
            | Unreadable::TooLarge(_) => false,
        }
    }

    /// As [`may_pass`](Self::may_pass), for an error of the system.
    pub(super) fn may_pass_of(error: &io::Error) -> bool {
        use io::ErrorKind::{
            InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied,
        };
        !matches!(
            error.kind(),
            NotFound | PermissionDenied | NotADirectory | InvalidInput | InvalidFilename
        )
    }
}

/// Reads the global file, of at most `bytes_max` bytes.
///
/// # Errors
///
/// See [`Unreadable`].
pub(super) fn read_global(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    read_in(&GLOBAL, path, bytes_max, READ_TIME_MAX)
}

/// Reads a file that the configuration or a label names.
///
/// # Errors
///
/// See [`Unreadable`].
pub(super) fn read_named(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    read_in(&NAMED, path, bytes_max, READ_TIME_MAX)
}

/// Reads certificates or a key, which the configuration names.
///
/// # Errors
///
/// See [`Unreadable`].
pub(crate) fn pem(path: &Path) -> Result<Vec<u8>, Unreadable> {
    read_named(path, PEM_BYTES_MAX)
}

/// As [`read_named`], for a large file that may take `time_max`.
///
/// # Errors
///
/// See [`Unreadable`].
pub(super) fn read_large(
    path: &Path,
    bytes_max: u64,
    time_max: Duration,
) -> Result<Vec<u8>, Unreadable> {
    read_in(&NAMED, path, bytes_max, time_max)
}

fn read_in(
    lane: &'static Lane,
    path: &Path,
    bytes_max: u64,
    time_max: Duration,
) -> Result<Vec<u8>, Unreadable> {
    let path = path.to_owned();
    let read = lane.within(time_max, move || read_now(&path, bytes_max));
    read.unwrap_or_else(|not_done| Err(Unreadable::NotDone(not_done)))
}

/// Reads server files and gives each to `take`, in their order.
pub(super) fn read_all(
    paths: &[PathBuf],
    bytes_max: u64,
    mut take: impl FnMut(&Path, Result<Vec<u8>, Unreadable>),
) {
    for some in paths.chunks(TOGETHER_MAX) {
        let together = some.to_vec();
        let results = OWN.within(READ_TIME_MAX, move || {
            let results = together.iter().map(|path| read_now(path, bytes_max));
            results.collect::<Vec<_>>()
        });
        match results {
            Ok(results) => {
                let all = some.iter().zip(results);
                all.for_each(|(path, read)| take(path, read));
            }
            // One of them, or all together, take too long.
            Err(_) => some
                .iter()
                .for_each(|path| take(path, read_in(&OWN, path, bytes_max, READ_TIME_MAX))),
        }
    }
}

/// The result of `looked` for a path, within the time of a read.
///
/// # Errors
///
/// When it takes longer.
pub(super) fn look<T: Send + 'static>(
    path: &Path,
    looked: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, NotDone> {
    let path = path.to_owned();
    LOOKS.within(LIST_TIME_MAX, move || looked(&path))
}

/// The path of a file without links and `..` in it, if it lies below `folder`.
///
/// # Errors
///
/// When there is no such file.
pub(super) fn confined(path: &Path, folder: &Path) -> Result<Option<PathBuf>, Unreadable> {
    let (path, folder) = (path.to_owned(), folder.to_owned());
    let found = NAMED.within(READ_TIME_MAX, move || {
        let real = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Missing,
            _ => Unreadable::Io(error),
        })?;
        let inside = folder.canonicalize();
        Ok(inside
            .is_ok_and(|folder| real.starts_with(folder))
            .then_some(real))
    });
    found.unwrap_or_else(|not_done| Err(Unreadable::NotDone(not_done)))
}

/// Whether there is a file with this name. Also true if that cannot be found out: reading
/// it then reports the reason.
pub(super) fn exists(path: &Path) -> bool {
    look(path, Path::exists).unwrap_or(true)
}

/// Whether a path leads to an accessible folder.
pub(crate) fn is_folder(path: &Path) -> bool {
    look(path, Path::is_dir).unwrap_or(false)
}

/// Whether a path leads to an accessible file.
pub(super) fn is_file(path: &Path) -> bool {
    look(path, Path::is_file).unwrap_or(false)
}

fn read_now(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => Unreadable::BrokenLink,
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Io(error),
    })?;
    // Checked before it is opened: opening a device may already have an effect.
    is_regular(&metadata)?;
    if is_of_kernel(path) {
        return Err(Unreadable::Kernel);
    }
    let file = open(path).map_err(Unreadable::Io)?;
    // Another file may have taken its name since.
    is_regular(&file.metadata().map_err(Unreadable::Io)?)?;
    let mut bytes = Vec::new();
    // One byte more than allowed shows that a file is too large, whatever the
    // metadata said a moment ago.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(Unreadable::Io)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(Unreadable::TooLarge(bytes_max));
    }
    Ok(bytes)
}

fn is_regular(metadata: &Metadata) -> Result<(), Unreadable> {
    match metadata {
        metadata if metadata.is_file() => Ok(()),
        metadata if metadata.is_dir() => Err(Unreadable::Folder),
        _ => Err(Unreadable::Special),
    }
}

/// Opens a file, and does not wait for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use nix::fcntl::OFlag;
        options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    }
    options.read(true).open(path)
}

/// Whether a file belongs to a file system like `/proc`, in which the kernel generates the
/// content: its metadata calls it regular, and a read may wait for ever (`/proc/kmsg`,
/// `trace_pipe`).
fn is_of_kernel(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::statfs::{
            DEBUGFS_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, statfs,
        };
        const OF_KERNEL: [nix::sys::statfs::FsType; 4] =
            [PROC_SUPER_MAGIC, SYSFS_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC];
        statfs(path).is_ok_and(|found| OF_KERNEL.contains(&found.filesystem_type()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// The error text of the system, without the number.
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Only regular files are read, and reading never waits for anything else.
    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        assert_eq!(read_named(&at("file"), 4).unwrap(), b"text");
        let problem = |path: &Path| read_named(path, 3).unwrap_err();
        assert!(matches!(problem(&at("file")), Unreadable::TooLarge(3)));
        assert!(matches!(problem(&at("none")), Unreadable::Missing));
        assert!(matches!(problem(folder.path()), Unreadable::Folder));
        assert!(matches!(
            problem(Path::new("/dev/zero")),
            Unreadable::Special
        ));
        assert!(matches!(
            problem(Path::new("/proc/self/status")),
            Unreadable::Kernel
        ));
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(problem(&at("pipe")), Unreadable::Special));
        // The same if a pipe takes the name between the check and the open.
        assert!(!open(&at("pipe")).unwrap().metadata().unwrap().is_file());
    }

    /// Files are read together, and come back in their order.
    #[test]
    fn many_files_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |n: usize| folder.path().join(n.to_string());
        let paths: Vec<_> = (0..TOGETHER_MAX * 2 + 1).map(at).collect();
        for (n, path) in paths.iter().enumerate().skip(1) {
            std::fs::write(path, n.to_string()).unwrap();
        }
        let mut found = Vec::new();
        read_all(&paths, 10, |path, read| {
            found.push((path.to_owned(), read.ok()));
        });
        for (n, (path, read)) in found.iter().enumerate() {
            assert_eq!(*path, at(n));
            assert_eq!(*read, (n > 0).then(|| n.to_string().into_bytes()));
        }
        assert_eq!(found.len(), paths.len());
    }
}
