//! AES-128-CFB8 with AES-NI, and with VAES on AVX-512.
//!
//! One of the two files of the protocol with `unsafe`, `aarch64` being the other, under two
//! rules:
//!
//! - A function with a `target_feature` is only called through a value that proves
//!   that the CPU has the feature. [`Aes`] and [`Vaes`] are made by asking the CPU.
//! - A pointer comes from a reference to an array of exactly the bytes that are
//!   read or written through it.
//!
//! The *register* of CFB8 holds the last 16 bytes of cipher text. After 16 steps
//! it is the output of those steps, so nothing is stored byte by byte. A shift of
//! the register and the next bytes of plain text as one drops the oldest byte and
//! appends the next plain byte at once.
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
use super::{Block, KEYS};

/// Proves that the CPU has AES-NI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aes(());

impl Aes {
    /// `None` where the CPU does not have it.
    pub(super) fn detect() -> Option<Self> {
        let is_there = is_x86_feature_detected!("aes") && is_x86_feature_detected!("ssse3");
        is_there.then_some(Self(()))
    }

    /// The key expansion of FIPS 197, section 5.2.
    pub(super) fn expand(self, secret: &Block) -> [Block; KEYS] {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { expand(secret) }
    }

    /// Encrypts one stream: each byte depends on the ten rounds of the one before it.
    pub(super) fn encrypt(self, keys: &[Block; KEYS], register: &mut Block, bytes: &mut [u8]) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { encrypt(keys, register, bytes) }
    }

    /// Decrypts one stream.
    pub(super) fn decrypt(self, keys: &[Block; KEYS], register: &mut Block, bytes: &mut [u8]) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { decrypt(keys, register, bytes) }
    }

    /// Steps of `R` streams side by side.
    pub(super) fn step<const R: usize>(self, lanes: &mut Lanes<R, 1>, count: usize) {
        // SAFETY: this value proves that the CPU has AES-NI.
        unsafe { step(lanes, count) }
    }
}

/// Proves that the CPU has VAES on AVX-512, which works on four blocks at once.
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

    /// Steps of `4 * R` streams side by side.
    pub(super) fn step<const R: usize>(self, lanes: &mut Lanes<R, 4>, count: usize) {
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

/// The key expansion, without a table.
#[target_feature(enable = "aes")]
fn expand(secret: &Block) -> [Block; KEYS] {
    /// The next key, from the one before it and the round's word.
    #[target_feature(enable = "aes")]
    fn next<const CONSTANT: i32>(key: __m128i) -> __m128i {
        let word = _mm_shuffle_epi32::<0xFF>(_mm_aeskeygenassist_si128::<CONSTANT>(key));
        let key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
        let key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
        _mm_xor_si128(key, word)
    }
    let mut keys = [load(secret); KEYS];
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
    let mut blocks = [[0; 16]; KEYS];
    for (block, key) in blocks.iter_mut().zip(keys) {
        store(block, key);
    }
    blocks
}

/// The block that AES makes of `state`, to which the first key is already added.
#[inline]
#[target_feature(enable = "aes")]
fn rounds(mut state: __m128i, keys: &[__m128i; KEYS]) -> __m128i {
    for key in &keys[1..KEYS - 1] {
        state = _mm_aesenc_si128(state, *key);
    }
    _mm_aesenclast_si128(state, keys[KEYS - 1])
}

#[target_feature(enable = "aes,ssse3")]
fn encrypt(keys: &[Block; KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [__m128i; KEYS] = from_fn(|round| load(&keys[round]));
    let mut chain = load(register);
    let mut state = _mm_xor_si128(chain, keys[0]);
    for piece in bytes.chunks_mut(16) {
        let mut block = [0; 16];
        block[..piece.len()].copy_from_slice(piece);
        let mut plain = load(&block);
        for _ in 0..piece.len() {
            // Done before the cipher byte is known, since it does not depend on it.
            let shifted = _mm_alignr_epi8::<1>(plain, chain);
            let shifted_state = _mm_xor_si128(shifted, keys[0]);
            plain = _mm_srli_si128::<1>(plain);
            let key_byte = _mm_slli_si128::<15>(rounds(state, &keys));
            state = _mm_xor_si128(shifted_state, key_byte);
            chain = _mm_xor_si128(shifted, key_byte);
        }
        store(&mut block, chain);
        piece.copy_from_slice(&block[16 - piece.len()..]);
    }
    store(register, chain);
}

#[target_feature(enable = "aes,ssse3")]
fn decrypt(keys: &[Block; KEYS], register: &mut Block, bytes: &mut [u8]) {
    let keys: [__m128i; KEYS] = from_fn(|round| load(&keys[round]));
    decrypt_with(register, bytes, |window| {
        let block = rounds(_mm_xor_si128(load(window), keys[0]), &keys);
        _mm_cvtsi128_si32(block).to_le_bytes()[0]
    });
}

#[target_feature(enable = "aes,ssse3")]
fn step<const R: usize>(lanes: &mut Lanes<R, 1>, count: usize) {
    let key = |round: usize, lane: usize| load(&lanes.keys[round][lane][0]);
    let mut chain: [__m128i; R] = from_fn(|lane| load(&lanes.registers[lane][0]));
    let mut plain: [__m128i; R] = from_fn(|lane| load(&lanes.plain[lane][0]));
    for _ in 0..count {
        let mut state: [__m128i; R] = from_fn(|lane| _mm_xor_si128(chain[lane], key(0, lane)));
        for round in 1..KEYS - 1 {
            for (lane, state) in state.iter_mut().enumerate() {
                *state = _mm_aesenc_si128(*state, key(round, lane));
            }
        }
        for (lane, state) in state.iter().enumerate() {
            let block = _mm_aesenclast_si128(*state, key(KEYS - 1, lane));
            let shifted = _mm_alignr_epi8::<1>(plain[lane], chain[lane]);
            chain[lane] = _mm_xor_si128(shifted, _mm_slli_si128::<15>(block));
            plain[lane] = _mm_srli_si128::<1>(plain[lane]);
        }
    }
    for (lane, chain) in chain.iter().enumerate() {
        store(&mut lanes.registers[lane][0], *chain);
    }
}

#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn step_by_four<const R: usize>(lanes: &mut Lanes<R, 4>, count: usize) {
    let key = |round: usize, four: usize| load_four(&lanes.keys[round][four]);
    let mut chain: [__m512i; R] = from_fn(|four| load_four(&lanes.registers[four]));
    let mut plain: [__m512i; R] = from_fn(|four| load_four(&lanes.plain[four]));
    for _ in 0..count {
        let mut state: [__m512i; R] = from_fn(|four| _mm512_xor_si512(chain[four], key(0, four)));
        for round in 1..KEYS - 1 {
            for (four, state) in state.iter_mut().enumerate() {
                *state = _mm512_aesenc_epi128(*state, key(round, four));
            }
        }
        for (four, state) in state.iter().enumerate() {
            let block = _mm512_aesenclast_epi128(*state, key(KEYS - 1, four));
            let shifted = _mm512_alignr_epi8::<1>(plain[four], chain[four]);
            chain[four] = _mm512_xor_si512(shifted, _mm512_bslli_epi128::<15>(block));
            plain[four] = _mm512_bsrli_epi128::<1>(plain[four]);
        }
    }
    for (four, chain) in chain.iter().enumerate() {
        store_four(&mut lanes.registers[four], *chain);
    }
}
