//! Adaptive: copy while reads are short, splice while they are long.
//!
//! A detour through a pipe costs more than copying a small message, and much
//! less than copying a large one; from about 16 KiB a read it pays.

use super::COPY_BYTES;

/// A splice of fewer bytes than this would have been cheaper as a copy.
///
/// Measured on bare system calls: copying and splicing cost the same between 8 and 24 KiB.
const SHORT_SPLICE_BYTES: usize = 16 * 1024;

/// Short splices in a row after which a direction copies again: one is often
/// only the end of a long message, after which another long one comes.
const SHORT_SPLICES_MAX: u8 = 4;

/// Whether one direction copies or splices with its next read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyOrSplice {
    splices: bool,
    short_splices: u8,
}

impl CopyOrSplice {
    pub(super) fn splices(self) -> bool {
        self.splices
    }

    /// Records a copying read of that many bytes.
    pub(super) fn after_copy(&mut self, bytes: usize) {
        *self = Self {
            splices: bytes >= COPY_BYTES,
            short_splices: 0,
        };
    }

    /// Records a splice of that many bytes into a pipe of that capacity.
    pub(super) fn after_splice(&mut self, bytes: usize, capacity_bytes: usize) {
        // The kernel may have granted a small pipe, which less fills.
        if bytes >= SHORT_SPLICE_BYTES.min(capacity_bytes) {
            self.short_splices = 0;
            return;
        }
        self.short_splices += 1;
        if self.short_splices >= SHORT_SPLICES_MAX {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full buffer starts splicing, and only several short splices in a row end it.
    #[test]
    fn switches_on_a_full_read_and_back_after_short_splices() {
        let mut choice = CopyOrSplice::default();
        choice.after_copy(COPY_BYTES - 1);
        assert!(!choice.splices());
        choice.after_copy(COPY_BYTES);
        assert!(choice.splices());
        for _ in 1..SHORT_SPLICES_MAX {
            choice.after_splice(SHORT_SPLICE_BYTES - 1, COPY_BYTES);
        }
        choice.after_splice(SHORT_SPLICE_BYTES, COPY_BYTES);
        assert!(choice.splices());
        for _ in 0..SHORT_SPLICES_MAX {
            assert!(choice.splices());
            choice.after_splice(1, COPY_BYTES);
        }
        assert!(!choice.splices());
    }

    /// A full small pipe does not mean little traffic.
    #[test]
    fn a_small_pipe_filled_is_not_short() {
        let mut choice = CopyOrSplice::default();
        choice.after_copy(COPY_BYTES);
        for _ in 0..100 {
            choice.after_splice(8192, 8192);
        }
        assert!(choice.splices());
    }
}
