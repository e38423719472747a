//! AES-128-CFB8 as the standards describe it, step by step: an implementation for tests that
//! shares nothing with the product and with the crates of the others.

use super::Block;

/// Encrypts a stream from its first byte on (NIST SP 800-38A, section 6.3).
pub(super) fn encrypt(secret: &Block, bytes: &[u8]) -> Vec<u8> {
    let aes = Aes::new(secret);
    let mut register = *secret;
    let encrypt = |plain: &u8| {
        let cipher_byte = plain ^ aes.encrypt(register)[0];
        register.rotate_left(1);
        register[15] = cipher_byte;
        cipher_byte
    };
    bytes.iter().map(encrypt).collect()
}

/// AES-128 (FIPS 197). A state and a round key are four columns of four bytes.
pub(super) struct Aes {
    s_box: [u8; 256],
    round_keys: [Block; 11],
}

/// Multiplies by x in the field of AES (section 4.2.1).
fn times_x(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 == 0 { 0 } else { 0x1B }
}

/// Multiplies in the field of AES.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = times_x(a);
        b >>= 1;
    }
    product
}

/// Section 5.1.1: the multiplicative inverse, and an affine map of its bits.
fn substitute(byte: u8) -> u8 {
    // Zero has no inverse and maps to itself.
    let inverse = (1..=255).find(|other| multiply(byte, *other) == 1);
    let bits = inverse.unwrap_or(0);
    let turns = (1..5).map(|turn| bits.rotate_left(turn));
    turns.fold(bits, |sum, turn| sum ^ turn) ^ 0x63
}

impl Aes {
    pub(super) fn new(key: &Block) -> Self {
        let mut s_box = [0; 256];
        for (byte, substituted) in (0..=255).zip(&mut s_box) {
            *substituted = substitute(byte);
        }
        // Section 5.2.
        let mut words: Vec<[u8; 4]> = key.as_chunks::<4>().0.to_vec();
        let mut constant = 1;
        for index in 4..44 {
            let mut word = words[index - 1];
            if index % 4 == 0 {
                word.rotate_left(1);
                word = word.map(|byte| s_box[usize::from(byte)]);
                word[0] ^= constant;
                constant = times_x(constant);
            }
            for (byte, earlier) in word.iter_mut().zip(words[index - 4]) {
                *byte ^= earlier;
            }
            words.push(word);
        }
        let mut round_keys = [[0; 16]; 11];
        for (round_key, word) in round_keys.as_flattened_mut().iter_mut().zip(words.concat()) {
            *round_key = word;
        }
        Self { s_box, round_keys }
    }

    /// Section 5.1.
    pub(super) fn encrypt(&self, mut state: Block) -> Block {
        for (round, round_key) in self.round_keys.iter().enumerate() {
            if round > 0 {
                state = state.map(|byte| self.s_box[usize::from(byte)]);
                let before = state;
                for (at, byte) in state.iter_mut().enumerate() {
                    // The row is the place in a column; it moves by as many columns.
                    *byte = before[(at + 4 * (at % 4)) % 16];
                }
            }
            if (1..10).contains(&round) {
                for column in state.as_chunks_mut::<4>().0 {
                    let [a, b, c, d] = *column;
                    let mix = |a, b, c, d| times_x(a) ^ times_x(b) ^ b ^ c ^ d;
                    *column = [
                        mix(a, b, c, d),
                        mix(b, c, d, a),
                        mix(c, d, a, b),
                        mix(d, a, b, c),
                    ];
                }
            }
            for (byte, key) in state.iter_mut().zip(round_key) {
                *byte ^= key;
            }
        }
        state
    }
}
