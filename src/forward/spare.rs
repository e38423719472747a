//! Spare buffers of a driver, which sessions use while they hold bytes.

#[cfg(target_os = "linux")]
use std::time::Duration;

/// The most spare buffers. About as many sessions hold bytes at once in a busy moment
/// of a worker with a thousand players.
const BUFFERS_MAX: usize = 128;
/// The largest buffer that is kept, in bytes: 4 MiB for all [`BUFFERS_MAX`] of a worker.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// How long a worker without any work keeps its spare buffers. Longer than the ticks of
/// a game server: while players play, none is freed and made again.
#[cfg(target_os = "linux")]
pub(super) const KEPT: Duration = Duration::from_millis(250);

/// The spare buffers of one worker, all empty.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers(Vec<Vec<u8>>);

impl SpareBuffers {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        let is_kept = (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if is_kept && self.0.len() < BUFFERS_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frees them.
    #[cfg(target_os = "linux")]
    pub(super) fn free(&mut self) {
        self.0 = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kept buffers are empty, and their number and sizes are bounded.
    #[test]
    fn spare_buffers_are_bounded() {
        let mut buffers = SpareBuffers::default();
        buffers.put(Vec::new());
        buffers.put(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        assert_eq!(buffers.0.len(), 0);
        for _ in 0..2 * BUFFERS_MAX {
            buffers.put(vec![7; 100]);
        }
        assert_eq!(buffers.0.len(), BUFFERS_MAX);
        assert!(buffers.take().is_empty());
        #[cfg(target_os = "linux")]
        {
            buffers.free();
            assert!(buffers.is_empty() && buffers.0.capacity() == 0);
        }
    }
}
