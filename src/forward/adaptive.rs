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

/// What one direction does with its next read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyOrSplice {
    splices: bool,
    short_splices: u8,
}

impl CopyOrSplice {
    pub(super) fn splices(self) -> bool {
        self.splices
    }

    /// A copying read took that many bytes.
    pub(super) fn after_copy(&mut self, bytes: usize) {
        *self = Self {
            splices: bytes >= COPY_BYTES,
            short_splices: 0,
        };
    }

    /// A splice took that many bytes into a pipe of that capacity.
    pub(super) fn after_splice(&mut self, bytes: usize, capacity_bytes: usize) {
        // A pipe that the kernel kept small is filled by less.
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

    /// A filled buffer begins splicing, and only short splices in a row end it.
    #[test]
    fn switches_on_a_full_read_and_back_after_short_splices() {
        let mut appetite = CopyOrSplice::default();
        appetite.after_copy(COPY_BYTES - 1);
        assert!(!appetite.splices());
        appetite.after_copy(COPY_BYTES);
        assert!(appetite.splices());
        for _ in 1..SHORT_SPLICES_MAX {
            appetite.after_splice(SHORT_SPLICE_BYTES - 1, COPY_BYTES);
        }
        appetite.after_splice(SHORT_SPLICE_BYTES, COPY_BYTES);
        assert!(appetite.splices());
        for _ in 0..SHORT_SPLICES_MAX {
            assert!(appetite.splices());
            appetite.after_splice(1, COPY_BYTES);
        }
        assert!(!appetite.splices());
    }

    /// A full small pipe is no sign of little traffic.
    #[test]
    fn a_small_pipe_filled_is_not_short() {
        let mut appetite = CopyOrSplice::default();
        appetite.after_copy(COPY_BYTES);
        for _ in 0..100 {
            appetite.after_splice(8192, 8192);
        }
        assert!(appetite.splices());
    }
}
