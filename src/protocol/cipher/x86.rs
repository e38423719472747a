//! AES-128-CFB8 with AES-NI, and with VAES on AVX-512.
//!
//! Its `unsafe` follows the two rules in the documentation of the [parent module](super).
//! [`Aes`] and [`Vaes`] are the proofs.
//!
//! The oldest byte of a shift register is its first, the lowest of the vector.
//! `_mm_alignr_epi8::<1>(plain, register)` shifts the 32 bytes of both by one: the oldest
//! byte is dropped, and the next byte of plain text is appended. The first byte of the
//! block, which `_mm_slli_si128::<15>` moves to the end, is then added to that byte, which
//! makes it the byte of cipher text.
#![allow(unsafe_code, reason = "CPU instructions, after asking for them")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128,
    _mm_alignr_epi8, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32, _mm_slli_si128,
    _mm_srli_si128, _mm_storeu_si128, _mm_xor_si128, _mm512_aesenc_epi128,
    _mm512_aesenclast_epi128, _mm512_alignr_epi8, _mm512_bslli_epi128, _mm512_bsrli_epi128,
    _mm512_loadu_si512, _mm512_storeu_si512, _mm512_xor_si512,
};
use std::array::from_fn;

use super::decrypt::decrypt_with;
use super::lanes::Lanes;
use super::{Block, ROUND_KEYS};

/// Proves that the CPU has AES-NI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aes(());

impl Aes {
    /// `None` where the CPU does not have it.
    pub(super) fn detect() -> Option<Self> {
        let is_there = is_x86_feature_detected!("aes") && is_x86_feature_detected!("ssse3");
        is_there.then_some(Self(()))
    }

    /// The round keys: the key expansion of FIPS 197, section 5.2.
    pub(super) fn expand(self, secret: &Block) -> [Block; ROUND_KEYS] {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { expand(secret) }
    }

    /// Encrypts one stream: each byte depends on the ten rounds of the one before it.
    pub(super) fn encrypt(
        self,
        keys: &[Block; ROUND_KEYS],
        register: &mut Block,
        bytes: &mut [u8],
    ) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { encrypt(keys, register, bytes) }
    }

    /// Decrypts one stream.
    pub(super) fn decrypt(
        self,
        keys: &[Block; ROUND_KEYS],
        register: &mut Block,
        bytes: &mut [u8],
    ) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { decrypt(keys, register, bytes) }
    }

    /// Encrypts `count` bytes in each of `V` lanes.
    pub(super) fn step<const V: usize>(self, lanes: &mut Lanes<V, 1>, count: usize) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { step(lanes, count) }
    }
}

/// Proves that the CPU has VAES on AVX-512, with vectors of four blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vaes(());

impl Vaes {
    /// `None` where the CPU does not have it.
    pub(super) fn detect() -> Option<Self> {
        let is_there = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        is_there.then_some(Self(()))
    }

    /// Encrypts `count` bytes in each of `4 * V` lanes.
    pub(super) fn step<const V: usize>(self, lanes: &mut Lanes<V, 4>, count: usize) {
        // SAFETY: this value proves that the CPU has those features.
        unsafe { step_by_four(lanes, count) }
    }
}

fn load(block: &Block) -> __m128i {
    // SAFETY: 16 bytes are read of an array of 16; every x86-64 has SSE2.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

fn store(block: &mut Block, value: __m128i) {
    // SAFETY: 16 bytes are written to an array of 16; every x86-64 has SSE2.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx512f")]
fn load_four(blocks: &[Block; 4]) -> __m512i {
    // SAFETY: 64 bytes are read of an array of 4 times 16.
    unsafe { _mm512_loadu_si512(blocks.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store_four(blocks: &mut [Block; 4], value: __m512i) {
    // SAFETY: 64 bytes are written to an array of 4 times 16.
    unsafe { _mm512_storeu_si512(blocks.as_mut_ptr().cast(), value) }
}

/// The key expansion. Its instruction substitutes bytes without a table in memory, so its
/// duration does not depend on the key.
#[target_feature(enable = "aes")]
fn expand(secret: &Block) -> [Block; ROUND_KEYS] {
    /// The next key, from the one before it. Each of its four columns is added to all later
    /// ones by the two shifts, as the standard does one by one.
    #[target_feature(enable = "aes")]
    fn next<const CONSTANT: i32>(key: __m128i) -> __m128i {
        let word = _mm_shuffle_epi32::<0xFF>(_mm_aeskeygenassist_si128::<CONSTANT>(key));
        let key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
        let key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
        _mm_xor_si128(key, word)
    }
    let mut keys = [load(secret); ROUND_KEYS];
    keys[1] = next::<0x01>(keys[0]);
    keys[2] = next::<0x02>(keys[1]);
    keys[3] = next::<0x04>(keys[2]);
    keys[4] = next::<0x08>(keys[3]);
    keys[5] = next::<0x10>(keys[4]);
    keys[6] = next::<0x20>(keys[5]);
    keys[7] = next::<0x40>(keys[6]);
    keys[8] = next::<0x80>(keys[7]);
    keys[9] = next::<0x1B>(keys[8]);
    keys[10] = next::<0x36>(keys[9]);
    let mut blocks = [[0; 16]; ROUND_KEYS];
    for (block, key) in blocks.iter_mut().zip(keys) {
        store(block, key);
    }
    blocks
}

/// The block that AES makes of `state`, to which the first key is already added.
#[inline]
#[target_feature(enable = "aes")]
fn rounds(mut state: __m128i, keys: &[__m128i; ROUND_KEYS]) -> __m128i {
    for key in &keys[1..ROUND_KEYS - 1] {
        state = _mm_aesenc_si128(state, *key);
    }
    _mm_aesenclast_si128(state, keys[ROUND_KEYS - 1])
}

#[target_feature(enable = "aes,ssse3")]
fn encrypt(keys: &[Block; ROUND_KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [__m128i; ROUND_KEYS] = from_fn(|round| load(&keys[round]));
    let mut current = load(register);
    let mut state = _mm_xor_si128(current, keys[0]);
    for piece in bytes.chunks_mut(16) {
        let mut block = [0; 16];
        block[..piece.len()].copy_from_slice(piece);
        let mut plain = load(&block);
        for _ in 0..piece.len() {
            // Done before the cipher byte is known, since it does not depend on it.
            let shifted = _mm_alignr_epi8::<1>(plain, current);
            let shifted_state = _mm_xor_si128(shifted, keys[0]);
            plain = _mm_srli_si128::<1>(plain);
            let key_byte = _mm_slli_si128::<15>(rounds(state, &keys));
            state = _mm_xor_si128(shifted_state, key_byte);
            current = _mm_xor_si128(shifted, key_byte);
        }
        // The end of the register is the cipher text of this piece: nothing is stored byte by
        // byte.
        store(&mut block, current);
        piece.copy_from_slice(&block[16 - piece.len()..]);
    }
    store(register, current);
}

#[target_feature(enable = "aes,ssse3")]
fn decrypt(keys: &[Block; ROUND_KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [__m128i; ROUND_KEYS] = from_fn(|round| load(&keys[round]));
    decrypt_with(register, bytes, |window| {
        let block = rounds(_mm_xor_si128(load(window), keys[0]), &keys);
        _mm_cvtsi128_si32(block).to_le_bytes()[0]
    });
}

#[target_feature(enable = "aes,ssse3")]
fn step<const V: usize>(lanes: &mut Lanes<V, 1>, count: usize) {
    let key = |round: usize, lane: usize| load(&lanes.keys[round][lane][0]);
    let mut registers: [__m128i; V] = from_fn(|lane| load(&lanes.registers[lane][0]));
    let mut plain: [__m128i; V] = from_fn(|lane| load(&lanes.plain[lane][0]));
    for _ in 0..count {
        let mut state: [__m128i; V] = from_fn(|lane| _mm_xor_si128(registers[lane], key(0, lane)));
        for round in 1..ROUND_KEYS - 1 {
            for (lane, state) in state.iter_mut().enumerate() {
                *state = _mm_aesenc_si128(*state, key(round, lane));
            }
        }
        for (lane, state) in state.iter().enumerate() {
            let block = _mm_aesenclast_si128(*state, key(ROUND_KEYS - 1, lane));
            let shifted = _mm_alignr_epi8::<1>(plain[lane], registers[lane]);
            registers[lane] = _mm_xor_si128(shifted, _mm_slli_si128::<15>(block));
            plain[lane] = _mm_srli_si128::<1>(plain[lane]);
        }
    }
    for (lane, register) in registers.iter().enumerate() {
        store(&mut lanes.registers[lane][0], *register);
    }
}

#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn step_by_four<const V: usize>(lanes: &mut Lanes<V, 4>, count: usize) {
    let key = |round: usize, four: usize| load_four(&lanes.keys[round][four]);
    let mut registers: [__m512i; V] = from_fn(|four| load_four(&lanes.registers[four]));
    let mut plain: [__m512i; V] = from_fn(|four| load_four(&lanes.plain[four]));
    for _ in 0..count {
        let mut state: [__m512i; V] =
            from_fn(|four| _mm512_xor_si512(registers[four], key(0, four)));
        for round in 1..ROUND_KEYS - 1 {
            for (four, state) in state.iter_mut().enumerate() {
                *state = _mm512_aesenc_epi128(*state, key(round, four));
            }
        }
        for (four, state) in state.iter().enumerate() {
            let block = _mm512_aesenclast_epi128(*state, key(ROUND_KEYS - 1, four));
            let shifted = _mm512_alignr_epi8::<1>(plain[four], registers[four]);
            registers[four] = _mm512_xor_si512(shifted, _mm512_bslli_epi128::<15>(block));
            plain[four] = _mm512_bsrli_epi128::<1>(plain[four]);
        }
    }
    for (four, register) in registers.iter().enumerate() {
        store_four(&mut lanes.registers[four], *register);
    }
}
