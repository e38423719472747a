//! AES-128-CFB8 with the AES instructions of 64-bit ARM.
//!
//! Its `unsafe` follows the two rules in the documentation of the [parent module](super).
//! [`Aes`] is the proof.
//!
//! `vaeseq_u8` adds a key, then substitutes bytes and shifts rows; `vaesmcq_u8` mixes
//! columns. So the key of a round is added at the beginning of the next instruction, and
//! the last one on its own.
#![allow(unsafe_code, reason = "CPU instructions, after asking for them")]

use std::arch::aarch64::{
    uint8x16_t, vaeseq_u8, vaesmcq_u8, vdupq_n_u8, veorq_u8, vextq_u8, vgetq_lane_u8, vld1q_u8,
    vst1q_u8,
};
use std::arch::is_aarch64_feature_detected;
use std::array::from_fn;

use super::decrypt::decrypt_with;
use super::lanes::Lanes;
use super::{Block, ROUND_KEYS};

/// Proves that the CPU has the AES instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aes(());

impl Aes {
    /// `None` where the CPU does not have them.
    pub(super) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("aes").then_some(Self(()))
    }

    /// The round keys: the key expansion of FIPS 197, section 5.2.
    pub(super) fn expand(self, secret: &Block) -> [Block; ROUND_KEYS] {
        // SAFETY: this value proves that the CPU has the instructions.
        unsafe { expand(secret) }
    }

    /// Encrypts one stream: each byte depends on the ten rounds of the one before it.
    pub(super) fn encrypt(
        self,
        keys: &[Block; ROUND_KEYS],
        register: &mut Block,
        bytes: &mut [u8],
    ) {
        // SAFETY: this value proves that the CPU has the instructions.
        unsafe { encrypt(keys, register, bytes) }
    }

    /// Decrypts one stream.
    pub(super) fn decrypt(
        self,
        keys: &[Block; ROUND_KEYS],
        register: &mut Block,
        bytes: &mut [u8],
    ) {
        // SAFETY: this value proves that the CPU has the instructions.
        unsafe { decrypt(keys, register, bytes) }
    }

    /// Encrypts `count` bytes in each of `V` lanes.
    pub(super) fn step<const V: usize>(self, lanes: &mut Lanes<V, 1>, count: usize) {
        // SAFETY: this value proves that the CPU has the instructions.
        unsafe { step(lanes, count) }
    }
}

fn load(block: &Block) -> uint8x16_t {
    // SAFETY: 16 bytes are read of an array of 16; every 64-bit ARM target with
    // `std` has NEON.
    unsafe { vld1q_u8(block.as_ptr()) }
}

fn store(block: &mut Block, value: uint8x16_t) {
    // SAFETY: 16 bytes are written to an array of 16; every 64-bit ARM target with
    // `std` has NEON.
    unsafe { vst1q_u8(block.as_mut_ptr(), value) }
}

#[target_feature(enable = "neon,aes")]
fn expand(secret: &Block) -> [Block; ROUND_KEYS] {
    let mut keys = [*secret; ROUND_KEYS];
    let mut constant = 1_u8;
    for round in 1..ROUND_KEYS {
        let [.., a, b, c, d] = keys[round - 1];
        // All columns are the same, so that shifting the rows changes nothing.
        let mut columns = [0; 16];
        for column in columns.as_chunks_mut::<4>().0 {
            *column = [b, c, d, a];
        }
        let mut substituted = [0; 16];
        store(&mut substituted, vaeseq_u8(load(&columns), vdupq_n_u8(0)));
        let mut word = [0; 4];
        word.copy_from_slice(&substituted[..4]);
        word[0] ^= constant;
        // Doubled in the field of AES.
        constant = (constant << 1) ^ if constant & 0x80 == 0 { 0 } else { 0x1B };
        let mut key = keys[round - 1];
        for column in key.as_chunks_mut::<4>().0 {
            for (byte, word) in column.iter_mut().zip(&mut word) {
                *byte ^= *word;
                *word = *byte;
            }
        }
        keys[round] = key;
    }
    keys
}

/// The block that AES makes of `state`.
#[inline]
#[target_feature(enable = "neon,aes")]
fn rounds(mut state: uint8x16_t, keys: &[uint8x16_t; ROUND_KEYS]) -> uint8x16_t {
    for key in &keys[..ROUND_KEYS - 2] {
        state = vaesmcq_u8(vaeseq_u8(state, *key));
    }
    veorq_u8(vaeseq_u8(state, keys[ROUND_KEYS - 2]), keys[ROUND_KEYS - 1])
}

/// Drops the oldest byte of the shift register, which is its first, and appends the cipher
/// byte: the next byte of plain text and the first byte of the block, added.
#[inline]
#[target_feature(enable = "neon")]
fn shift(register: uint8x16_t, plain: uint8x16_t, block: uint8x16_t) -> uint8x16_t {
    let key_byte = vextq_u8::<1>(vdupq_n_u8(0), block);
    veorq_u8(vextq_u8::<1>(register, plain), key_byte)
}

#[target_feature(enable = "neon,aes")]
fn encrypt(keys: &[Block; ROUND_KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [uint8x16_t; ROUND_KEYS] = from_fn(|round| load(&keys[round]));
    let mut current = load(register);
    for piece in bytes.chunks_mut(16) {
        let mut block = [0; 16];
        block[..piece.len()].copy_from_slice(piece);
        let mut plain = load(&block);
        for _ in 0..piece.len() {
            current = shift(current, plain, rounds(current, &keys));
            plain = vextq_u8::<1>(plain, vdupq_n_u8(0));
        }
        // The end of the register is the cipher text of this piece: nothing is stored byte by
        // byte.
        store(&mut block, current);
        piece.copy_from_slice(&block[16 - piece.len()..]);
    }
    store(register, current);
}

#[target_feature(enable = "neon,aes")]
fn decrypt(keys: &[Block; ROUND_KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [uint8x16_t; ROUND_KEYS] = from_fn(|round| load(&keys[round]));
    decrypt_with(register, bytes, |window| {
        vgetq_lane_u8::<0>(rounds(load(window), &keys))
    });
}

#[target_feature(enable = "neon,aes")]
fn step<const V: usize>(lanes: &mut Lanes<V, 1>, count: usize) {
    let key = |round: usize, lane: usize| load(&lanes.keys[round][lane][0]);
    let mut registers: [uint8x16_t; V] = from_fn(|lane| load(&lanes.registers[lane][0]));
    let mut plain: [uint8x16_t; V] = from_fn(|lane| load(&lanes.plain[lane][0]));
    for _ in 0..count {
        let mut state = registers;
        for round in 0..ROUND_KEYS - 2 {
            for (lane, state) in state.iter_mut().enumerate() {
                *state = vaesmcq_u8(vaeseq_u8(*state, key(round, lane)));
            }
        }
        for (lane, state) in state.iter().enumerate() {
            let substituted = vaeseq_u8(*state, key(ROUND_KEYS - 2, lane));
            let block = veorq_u8(substituted, key(ROUND_KEYS - 1, lane));
            registers[lane] = shift(registers[lane], plain[lane], block);
            plain[lane] = vextq_u8::<1>(plain[lane], vdupq_n_u8(0));
        }
    }
    for (lane, register) in registers.iter().enumerate() {
        store(&mut lanes.registers[lane][0], *register);
    }
}
