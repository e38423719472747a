//! Pipes for splicing: a small pool in each worker thread.
//!
//! A pipe is borrowed while bytes are in flight and given back empty, so the
//! number of pipes follows the work, not the number of players. A pipe that
//! still holds bytes when its session dies is closed: its next borrower would
//! send one player's bytes to another.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::CHUNK_BYTES;

/// The size that pipes are asked for, in bytes: one chunk. The kernel may grant less.
const PIPE_BYTES: usize = CHUNK_BYTES;

/// Empty pipes that a worker keeps: more directions of one worker rarely have
/// bytes in flight at once, and these cost it 32 descriptors at most.
const POOL_MAX: usize = 16;

/// After a pipe could not be made, how long a worker copies before it asks
/// again: a failed attempt for each message would cost more than the copying.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes a pipe, or tells why there is none; [`make`] everywhere but in tests.
pub type MakePipe = fn() -> io::Result<Pipe>;

static FAILURES: AtomicU64 = AtomicU64::new(0);
static DEGRADED_DIRECTIONS: AtomicU64 = AtomicU64::new(0);
static WARNED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { idle: Vec::new(), failed_at: None }) };
}

struct Pool {
    idle: Vec<Pipe>,
    failed_at: Option<Instant>,
}

/// Both ends of a pipe.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity_bytes: usize,
}

impl Pipe {
    /// A pipe of two ends that do not block.
    ///
    /// `capacity_bytes` is a hint of how much it holds.
    #[must_use]
    pub const fn new(read: OwnedFd, write: OwnedFd, capacity_bytes: usize) -> Self {
        Self {
            read,
            write,
            capacity_bytes,
        }
    }
}

/// How many times a pipe was wanted and could not be made, in this process.
#[must_use]
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// How many directions of sessions had to copy what they would have spliced, in this process.
///
/// Each direction of a session counts once, however often it happened.
#[must_use]
pub fn degraded_directions() -> u64 {
    DEGRADED_DIRECTIONS.load(Ordering::Relaxed)
}

pub(super) fn count_degraded() {
    DEGRADED_DIRECTIONS.fetch_add(1, Ordering::Relaxed);
}

/// Makes a pipe that child processes do not inherit.
///
/// # Errors
///
/// What pipe2(2) says, usually that there is no descriptor left.
pub fn make() -> io::Result<Pipe> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // The size is a wish: past the page limit of an unprivileged user
    // (`fs.pipe-user-pages-soft`, see pipe(7)) new pipes get two pages and may not grow.
    let wish = FcntlArg::F_SETPIPE_SZ(i32::try_from(PIPE_BYTES).unwrap_or(i32::MAX));
    let granted = fcntl(&write, wish).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ))?;
    let capacity_bytes = usize::try_from(granted).unwrap_or_default();
    Ok(Pipe::new(read, write, capacity_bytes))
}

/// Lends a pipe, a used one if there is one. `None` when none can be had now.
pub(super) fn borrow(make: MakePipe) -> Option<Lent> {
    let pipe = POOL
        .try_with(|pool| {
            let mut pool = pool.try_borrow_mut().ok()?;
            if let Some(pipe) = pool.idle.pop() {
                return Some(pipe);
            }
            if pool.failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
                return None;
            }
            match make() {
                Ok(pipe) => {
                    pool.failed_at = None;
                    Some(pipe)
                }
                Err(error) => {
                    pool.failed_at = Some(Instant::now());
                    note_failure(&error);
                    None
                }
            }
        })
        .ok()
        .flatten()?;
    Some(Lent {
        pipe: Some(pipe),
        held_bytes: 0,
    })
}

/// Empty pipes that the calling thread keeps.
#[cfg(test)]
pub(super) fn idle_here() -> usize {
    POOL.with(|pool| pool.borrow().idle.len())
}

fn note_failure(error: &io::Error) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(%error, "no pipe can be made for splicing: sessions copy until one can; told once");
    }
}

/// A borrowed pipe and how many bytes are in it. Its drop gives it back or closes it.
#[derive(Debug)]
pub(super) struct Lent {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    held_bytes: usize,
}

impl Lent {
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.capacity_bytes)
    }

    /// Puts bytes in by `splice`, which returns how many.
    pub(super) fn fill(
        &mut self,
        splice: impl FnOnce(&OwnedFd) -> nix::Result<usize>,
    ) -> nix::Result<usize> {
        let bytes = splice(&self.pipe.as_ref().ok_or(Errno::EBADF)?.write)?;
        // A pipe may hold more than its capacity says: count, never compare.
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        Ok(bytes)
    }

    /// Takes bytes out by `splice`, which gets how many there are and returns how many it took.
    pub(super) fn empty(
        &mut self,
        splice: impl FnOnce(&OwnedFd, usize) -> nix::Result<usize>,
    ) -> nix::Result<usize> {
        let read = &self.pipe.as_ref().ok_or(Errno::EBADF)?.read;
        let bytes = splice(read, self.held_bytes)?;
        debug_assert!(bytes <= self.held_bytes, "more out of a pipe than in");
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        Ok(bytes)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else {
            return;
        };
        // A small pipe is not kept either: the next one may be granted more.
        if self.held_bytes > 0 || pipe.capacity_bytes < PIPE_BYTES {
            return;
        }
        // Without a pool (the thread is ending) the pipe closes.
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool.idle.len() < POOL_MAX
            {
                pool.idle.push(pipe);
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::fcntl::FdFlag;

    use super::*;

    fn lend() -> Lent {
        borrow(make).unwrap()
    }

    fn put_four(lent: &mut Lent) {
        lent.fill(|into| nix::unistd::write(into, b"four")).unwrap();
    }

    /// No game server that the proxy starts inherits a pipe, no worker blocks on one, and the size is known.
    #[test]
    fn pipes_close_on_exec_and_do_not_block() {
        let pipe = make().unwrap();
        for end in [&pipe.read, &pipe.write] {
            let flags = FdFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let flags = OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
        }
        let size = fcntl(&pipe.read, FcntlArg::F_GETPIPE_SZ).unwrap();
        assert_eq!(pipe.capacity_bytes, usize::try_from(size).unwrap());
    }

    /// An emptied pipe is lent again; one with bytes in it never is.
    #[test]
    fn only_empty_pipes_come_back() {
        let mut lent = lend();
        put_four(&mut lent);
        lent.empty(|from, held| {
            let mut bytes = [0; 16];
            let read = nix::unistd::read(from, &mut bytes)?;
            assert_eq!(read, held);
            Ok(read)
        })
        .unwrap();
        drop(lent);
        assert_eq!(idle_here(), 1);
        let mut lent = lend();
        assert_eq!(idle_here(), 0);
        put_four(&mut lent);
        drop(lent);
        assert_eq!(idle_here(), 0);
    }

    /// A worker keeps a bounded number of pipes, and none that the kernel kept small.
    #[test]
    fn the_pool_is_bounded() {
        let many: Vec<_> = (0..POOL_MAX + 5).map(|_| lend()).collect();
        drop(many);
        assert_eq!(idle_here(), POOL_MAX);
        let small: MakePipe = || {
            let pipe = make()?;
            Ok(Pipe::new(pipe.read, pipe.write, 8192))
        };
        let kept: Vec<_> = (0..POOL_MAX).map(|_| lend()).collect();
        drop(borrow(small).unwrap());
        assert_eq!(idle_here(), 0);
        drop(kept);
    }

    /// After a failure a worker does not ask again at once.
    #[test]
    fn failures_are_counted_and_not_repeated() {
        let before = failures();
        assert!(borrow(|| Err(Errno::EMFILE.into())).is_none());
        assert!(failures() > before);
        assert!(borrow(make).is_none());
        POOL.with(|pool| pool.borrow_mut().failed_at = None);
        assert!(borrow(make).is_some());
    }
}
