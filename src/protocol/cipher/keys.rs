//! The round keys of AES-128, in the form for the AES instructions of a CPU.

use super::cpu::Aes;
use super::{Block, ROUND_KEYS};

/// The keys, and the proof that the CPU has the instructions. Overwritten when dropped.
pub(super) struct RoundKeys {
    blocks: [Block; ROUND_KEYS],
    aes: Aes,
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.blocks = [[0; 16]; ROUND_KEYS];
        // Keeps the compiler from removing the writes, since nothing reads the zeros.
        std::hint::black_box(&self.blocks);
    }
}

impl RoundKeys {
    /// The keys of a secret.
    pub(super) fn new(secret: &Block, aes: Aes) -> Self {
        Self {
            blocks: aes.expand(secret),
            aes,
        }
    }

    pub(super) fn blocks(&self) -> &[Block; ROUND_KEYS] {
        &self.blocks
    }

    /// Encrypts the next bytes of one stream.
    pub(super) fn encrypt(&self, register: &mut Block, bytes: &mut [u8]) {
        self.aes.encrypt(&self.blocks, register, bytes);
    }

    /// Decrypts the next bytes of one stream.
    pub(super) fn decrypt(&self, register: &mut Block, bytes: &mut [u8]) {
        self.aes.decrypt(&self.blocks, register, bytes);
    }
}
