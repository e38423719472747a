//! Pipes for splicing, and the few that a worker keeps.
//!
//! A pipe is taken from the pool while bytes are in flight and put back empty,
//! so the number of pipes follows the work, not the number of players. A pipe
//! that still holds bytes when its session dies is closed by its drop: its next
//! user would send one player's bytes to another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The size of the pipes that the proxy requests, and the most that one splice moves, in
/// bytes. The kernel may grant less.
///
/// Measured: a stream costs a tenth less with it than with 64 KiB, messages of
/// 256 KiB a quarter, and 1 MiB gains nothing more. Behind a network card each
/// packet takes one slot of a pipe, and a slot stands for 4 KiB: so this is 64
/// packets, 92 KB. On loopback a slot holds up to 32 KiB, and only the bound of
/// the splice keeps 2 MiB from lying in a pipe of this size.
pub const PIPE_BYTES: usize = 256 * 1024;

/// The default capacity of a pipe in bytes (pipe(7)).
const DEFAULT_BYTES: usize = 64 * 1024;

/// The size of a page, which is that of a slot, in bytes: at most this. x86 has pages of
/// 4 KiB only; the largest that Linux has elsewhere are of 64 KiB.
const PAGE_BYTES_MAX: usize = if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
    4 * 1024
} else {
    64 * 1024
};

/// Empty pipes that a worker keeps: more directions of one worker rarely have
/// bytes in flight at once. 32 workers that keep as many stay within
/// `fs.pipe-user-pages-soft`, by default 16,384 pages.
pub const POOL_MAX: usize = 8;

/// After a pipe could not be made, how long a worker copies before it asks
/// again: a failed attempt for each message would cost more than the copying.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes a pipe, or returns why it cannot; [`make`] everywhere except in tests.
pub type MakePipe = fn() -> io::Result<Pipe>;

/// The size of the largest pipe that was granted so far, to any worker.
static LARGEST_BYTES: AtomicUsize = AtomicUsize::new(0);
static WARNED: AtomicBool = AtomicBool::new(false);
static WARNED_OF_REFUSAL: AtomicBool = AtomicBool::new(false);

/// Both ends of a pipe.
#[derive(Debug)]
pub struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) capacity_bytes: usize,
    /// The least number of slots that it has; 0 if that is not known.
    pub(super) slots: usize,
}

impl Pipe {
    /// A pipe of two ends that do not block.
    ///
    /// `capacity_bytes` is a hint of how much it holds: a slot of a page may
    /// stand for a larger fragment of a socket's queue.
    #[must_use]
    pub const fn new(read: OwnedFd, write: OwnedFd, capacity_bytes: usize) -> Self {
        Self {
            read,
            write,
            capacity_bytes,
            slots: 0,
        }
    }
}

/// Makes a pipe that child processes do not inherit.
///
/// # Errors
///
/// The error of pipe2(2), usually that there is no descriptor left.
pub fn make() -> io::Result<Pipe> {
    make_of(PIPE_BYTES)
}

/// Makes a pipe of this size, if the kernel grants it.
pub(super) fn make_of(bytes: usize) -> io::Result<Pipe> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let wish = FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes).unwrap_or(i32::MAX));
    let granted = fcntl(&write, wish).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ));
    // A sandbox may forbid both calls. The pipe works all the same.
    let granted = granted.ok().and_then(|bytes| usize::try_from(bytes).ok());
    Ok(Pipe {
        slots: granted.unwrap_or(0) / PAGE_BYTES_MAX,
        ..Pipe::new(read, write, granted.unwrap_or(DEFAULT_BYTES))
    })
}

/// Whether a read would find nothing now. Only a pipe of [`make`] is known to be one.
fn is_empty(pipe: &Pipe) -> bool {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut ready = [PollFd::new(pipe.read.as_fd(), PollFlags::POLLIN)];
    let polled = poll(&mut ready, PollTimeout::ZERO);
    pipe.slots == 0 || polled.is_err() || !ready[0].any().unwrap_or(false)
}

/// The empty pipes of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Vec<Pipe>,
    failed_at: Option<Instant>,
}

impl Pool {
    /// A pipe, from the pool if it has one. `None` when none can be made now.
    pub fn take(&mut self, make: MakePipe) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return None;
        }
        match make() {
            Ok(pipe) => {
                self.failed_at = None;
                LARGEST_BYTES.fetch_max(pipe.capacity_bytes, Ordering::Relaxed);
                Some(pipe)
            }
            Err(error) => {
                self.failed_at = Some(Instant::now());
                note_failure(&error);
                None
            }
        }
    }

    /// Keeps a pipe, which must be empty, or closes it.
    ///
    /// While a user without privileges is past `fs.pipe-user-pages-soft`, pipes
    /// are small. They are used and not kept: the next may be granted more.
    pub fn put(&mut self, pipe: Pipe) {
        debug_assert!(is_empty(&pipe), "a session would get bytes of another");
        if self.idle.len() < POOL_MAX
            && pipe.capacity_bytes >= LARGEST_BYTES.load(Ordering::Relaxed)
        {
            self.idle.push(pipe);
        }
    }
}

/// The system refuses to splice: a kernel without it, or a sandbox.
pub(super) fn note_refusal(error: Option<&io::Error>) {
    if let Some(error) = error
        && !WARNED_OF_REFUSAL.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "the system refuses to splice: sessions copy instead; logged once");
    }
}

fn note_failure(error: &io::Error) {
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(%error, "no pipe can be made for splicing: sessions copy until one can; logged once");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::errno::Errno;
    use nix::fcntl::FdFlag;

    use super::*;

    /// Child processes do not inherit a pipe, workers do not block on one, and its size is
    /// known.
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

    /// A worker keeps a bounded number of pipes, and only those of the largest size that
    /// the kernel has granted.
    #[test]
    fn the_pool_is_bounded() {
        let mut pool = Pool::default();
        let many: Vec<_> = (0..POOL_MAX + 5)
            .map(|_| pool.take(make).unwrap())
            .collect();
        for pipe in many {
            pool.put(pipe);
        }
        assert_eq!(pool.idle.len(), POOL_MAX);
        let small: MakePipe = || {
            let Pipe { read, write, .. } = make()?;
            Ok(Pipe::new(read, write, 8192))
        };
        let mut pool = Pool::default();
        let pipe = pool.take(small).unwrap();
        pool.put(pipe);
        assert!(pool.idle.is_empty());
    }

    /// After a failure a worker does not ask again at once.
    #[test]
    fn failures_are_not_repeated() {
        let mut pool = Pool::default();
        assert!(pool.take(|| Err(Errno::EMFILE.into())).is_none());
        assert!(pool.take(make).is_none());
        pool.failed_at = Instant::now().checked_sub(RETRY_AFTER);
        assert!(pool.take(make).is_some());
    }
}
