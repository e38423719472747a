//! The stream cipher between a client and a server that authenticates it:
//! AES-128 in CFB mode with 8 bits of feedback (NIST SP 800-38A, section 6.3).
//!
//! Key and initial vector are both the shared secret of the login. One state
//! serves one direction for the life of a connection, over every byte of the
//! stream, lengths included.

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// The length of the shared secret, in bytes.
pub(crate) const SECRET_BYTES: usize = 16;

/// One direction of an encrypted connection.
///
/// Both directions use the forward cipher alone, as CFB does.
#[derive(Clone)]
pub(crate) struct Cipher {
    aes: Aes128Enc,
    /// The last 16 bytes of cipher text; before them the initial vector.
    register: [u8; SECRET_BYTES],
}

impl Cipher {
    /// The state at the first byte of the stream.
    #[must_use]
    pub(crate) fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        Self {
            aes: Aes128Enc::new(&Array::from(*secret)),
            register: *secret,
        }
    }

    /// Encrypts the next bytes of the stream, in place.
    pub(crate) fn encrypt(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte ^= self.key_byte();
            self.shift(*byte);
        }
    }

    /// Decrypts the next bytes of the stream, in place.
    pub(crate) fn decrypt(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let cipher_byte = *byte;
            *byte ^= self.key_byte();
            self.shift(cipher_byte);
        }
    }

    fn key_byte(&self) -> u8 {
        let mut block = Array::from(self.register);
        self.aes.encrypt_block(&mut block);
        block[0]
    }

    fn shift(&mut self, cipher_byte: u8) {
        let register = u128::from_be_bytes(self.register) << 8 | u128::from(cipher_byte);
        self.register = register.to_be_bytes();
    }
}

/// Shows neither key nor register.
impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// NIST SP 800-38A, appendix F.3.7: CFB8-AES128.
    #[test]
    fn published_vector() {
        let key = u128::to_be_bytes(0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c);
        let mut cipher = Cipher::new(&key);
        cipher.register = u128::to_be_bytes(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        let plain = [
            0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93,
            0x17, 0x2a, 0xae, 0x2d,
        ];
        let expected = [
            0x3b, 0x79, 0x42, 0x4c, 0x9c, 0x0d, 0xd4, 0x36, 0xba, 0xce, 0x9e, 0x0e, 0xd4, 0x58,
            0x6a, 0x4f, 0x32, 0xb9,
        ];
        let mut bytes = plain;
        cipher.clone().encrypt(&mut bytes);
        assert_eq!(bytes, expected);
        cipher.decrypt(&mut bytes);
        assert_eq!(bytes, plain);
    }

    /// The secrets do not reach a log.
    #[test]
    fn debug_output_is_empty() {
        assert_eq!(format!("{:?}", Cipher::new(&[7; 16])), "Cipher { .. }");
    }

    proptest! {
        /// What one side encrypts the other decrypts, however the stream is cut.
        #[test]
        fn round_trip(secret: [u8; 16], bytes: Vec<u8>, cuts in proptest::collection::vec(1_usize..40, 1..20)) {
            let (mut here, mut there) = (Cipher::new(&secret), Cipher::new(&secret));
            let mut stream = bytes.clone();
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &mut stream[..];
            while !rest.is_empty() {
                let cut = cuts.next().unwrap_or(1).min(rest.len());
                let (piece, more) = rest.split_at_mut(cut);
                here.encrypt(piece);
                rest = more;
            }
            there.decrypt(&mut stream);
            prop_assert_eq!(stream, bytes);
        }
    }
}
