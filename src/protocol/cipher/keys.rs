//! The round keys of AES-128, as a CPU with AES instructions needs them.

use super::cpu::Aes;
use super::{Block, KEYS};

/// The keys, and the proof that the CPU has the instructions.
pub(super) struct RoundKeys {
    blocks: [Block; KEYS],
    aes: Aes,
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.blocks = [[0; 16]; KEYS];
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

    pub(super) fn blocks(&self) -> &[Block; KEYS] {
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
