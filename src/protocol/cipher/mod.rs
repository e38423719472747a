//! The stream cipher between a client and a server that authenticates it:
//! AES-128 in CFB mode with 8 bits of feedback (NIST SP 800-38A, section 6.3).
//!
//! For each byte, AES encrypts the *shift register*: the last 16 bytes of cipher text. The
//! first byte of that block is added (exclusive or) to the byte of plain text, which gives
//! the byte of cipher text. That byte is appended to the shift register, and the oldest one
//! is dropped. So 16 steps later the shift register is the cipher text of these steps.
//!
//! The key and the initial value of the shift register are both the shared secret of the
//! login. A [`Cipher`] is the state of one direction, over every byte of the stream, lengths
//! included. [`encrypt_many`] encrypts several streams at once: `lanes` assigns them to the
//! vectors of the CPU, `x86` and `aarch64` have the instructions.
//!
//! # Unsafe code
//!
//! `x86` and `aarch64` are the only files of the protocol with `unsafe`, under two rules:
//!
//! - A function with a `target_feature` is only called through a value that proves that the
//!   CPU has the feature. Such a value is only made by asking the CPU.
//! - A pointer comes from a reference to an array of exactly the bytes that are read or
//!   written through it.

use std::fmt;
use std::sync::Arc;

use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod decrypt;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod keys;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(test)]
mod textbook;
#[cfg(target_arch = "x86_64")]
mod x86;

/// The instructions of this CPU.
#[cfg(target_arch = "aarch64")]
use aarch64 as cpu;
#[cfg(target_arch = "x86_64")]
use x86 as cpu;

/// The length of the shared secret, in bytes.
pub const SECRET_BYTES: usize = 16;

/// The number of round keys of AES-128: one for each of the ten rounds, and one before the
/// first.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ROUND_KEYS: usize = 11;

/// What AES encrypts at once; also a key of AES-128.
type Block = [u8; 16];

/// One direction of an encrypted connection.
///
/// To decrypt, CFB uses the encryption of AES as well. Clones share the keys.
#[derive(Clone)]
pub struct Cipher {
    keys: Arc<Keys>,
    /// The shift register; its first byte is the oldest.
    register: Block,
}

/// Both directions of an encrypted connection.
#[derive(Debug)]
pub struct Ciphers {
    /// Encrypts what is sent.
    pub encrypt: Cipher,
    /// Decrypts what is received.
    pub decrypt: Cipher,
}

impl Ciphers {
    /// The state at the first byte of both streams.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        let cipher = Cipher::new(secret);
        Self {
            encrypt: cipher.clone(),
            decrypt: cipher,
        }
    }

    /// The cipher that encrypts, and the one that decrypts.
    #[must_use]
    pub fn into_parts(self) -> (Cipher, Cipher) {
        (self.encrypt, self.decrypt)
    }
}

/// The round keys, in the form for this CPU.
enum Keys {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Fast(keys::RoundKeys),
    /// Boxed because `Aes128Enc` is large: it has room for two forms of the keys.
    Portable(Box<Aes128Enc>),
}

impl Keys {
    fn new(secret: &Block) -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if let Some(aes) = cpu::Aes::detect() {
            return Self::Fast(keys::RoundKeys::new(secret, aes));
        }
        Self::portable(secret)
    }

    fn portable(secret: &Block) -> Self {
        Self::Portable(Box::new(Aes128Enc::new(&Array::from(*secret))))
    }
}

impl Cipher {
    /// The state at the first byte of the stream.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        Self {
            keys: Arc::new(Keys::new(secret)),
            register: *secret,
        }
    }

    /// Encrypts the next bytes of the stream, in place.
    pub fn encrypt(&mut self, bytes: &mut [u8]) {
        match &*self.keys {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Keys::Fast(keys) => keys.encrypt(&mut self.register, bytes),
            Keys::Portable(aes) => {
                for byte in bytes {
                    *byte ^= key_byte(aes, self.register);
                    shift(&mut self.register, *byte);
                }
            }
        }
    }

    /// Decrypts the next bytes of the stream, in place.
    pub fn decrypt(&mut self, bytes: &mut [u8]) {
        match &*self.keys {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Keys::Fast(keys) => keys.decrypt(&mut self.register, bytes),
            Keys::Portable(aes) => {
                for byte in bytes {
                    let cipher_byte = *byte;
                    *byte ^= key_byte(aes, self.register);
                    shift(&mut self.register, cipher_byte);
                }
            }
        }
    }
}

/// What is added to the next byte.
fn key_byte(aes: &Aes128Enc, register: Block) -> u8 {
    let mut block = Array::from(register);
    aes.encrypt_block(&mut block);
    block[0]
}

fn shift(register: &mut Block, cipher_byte: u8) {
    let shifted = u128::from_be_bytes(*register) << 8 | u128::from(cipher_byte);
    *register = shifted.to_be_bytes();
}

/// The next bytes of one stream.
#[derive(Debug)]
pub struct Job<'a> {
    /// The stream's state.
    pub cipher: &'a mut Cipher,
    /// They are encrypted in place.
    pub bytes: &'a mut [u8],
}

/// Encrypts the next bytes of several streams, as many in parallel as the vectors of the
/// CPU hold.
///
/// In one stream each byte depends on the ten rounds of the byte before it, while
/// the CPU could begin a round in each cycle. Streams do not depend on each
/// other: eight take as much time as one and a half, sixteen with VAES as two.
///
/// `None`s among the jobs are skipped; afterwards all jobs are `None`.
pub fn encrypt_many(jobs: &mut [Option<Job<'_>>]) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if jobs.iter().flatten().count() > 1 {
        #[cfg(target_arch = "x86_64")]
        if let Some(vaes) = x86::Vaes::detect() {
            return encrypt_with_vaes(jobs, vaes);
        }
        if let Some(aes) = cpu::Aes::detect() {
            return encrypt_with_aes(jobs, aes);
        }
    }
    for job in jobs.iter_mut().filter_map(Option::take) {
        job.cipher.encrypt(job.bytes);
    }
}

/// Uses sixteen lanes at most: the state of 32 does not fit in the CPU's vectors.
#[cfg(target_arch = "x86_64")]
fn encrypt_with_vaes(jobs: &mut [Option<Job<'_>>], vaes: x86::Vaes) {
    match jobs.iter().flatten().count() {
        0..=4 => lanes::encrypt(jobs, |lanes, count| vaes.step::<1>(lanes, count)),
        5..=8 => lanes::encrypt(jobs, |lanes, count| vaes.step::<2>(lanes, count)),
        _ => lanes::encrypt(jobs, |lanes, count| vaes.step::<4>(lanes, count)),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn encrypt_with_aes(jobs: &mut [Option<Job<'_>>], aes: cpu::Aes) {
    match jobs.iter().flatten().count() {
        0..=2 => lanes::encrypt(jobs, |lanes, count| aes.step::<2>(lanes, count)),
        3..=4 => lanes::encrypt(jobs, |lanes, count| aes.step::<4>(lanes, count)),
        _ => lanes::encrypt(jobs, |lanes, count| aes.step::<8>(lanes, count)),
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

    /// FIPS 197, appendix B: the implementation that the others are compared with. Its CFB8
    /// is compared with theirs.
    #[test]
    fn the_textbook_equals_the_published_example() {
        let key = u128::to_be_bytes(0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c);
        let plain = u128::to_be_bytes(0x3243_f6a8_885a_308d_3131_98a2_e037_0734);
        let expected = u128::to_be_bytes(0x3925_841d_02dc_09fb_dc11_8597_196a_0b32);
        assert_eq!(textbook::Aes::new(&key).encrypt(plain), expected);
    }

    /// The `Debug` form does not show secrets.
    #[test]
    fn debug_output_is_empty() {
        assert_eq!(format!("{:?}", Cipher::new(&[7; 16])), "Cipher { .. }");
    }

    /// The key expansion of FIPS 197, appendix A.1: its last key.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn published_key_expansion() {
        let key = u128::to_be_bytes(0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c);
        let last = u128::to_be_bytes(0xd014_f9a8_c9ee_2589_e13f_0cc8_b663_0ca6);
        let Keys::Fast(keys) = Keys::new(&key) else {
            return;
        };
        assert_eq!(keys.blocks()[ROUND_KEYS - 1], last);
    }

    /// A stream of the product without AES instructions: block by block.
    fn portable(secret: &Block) -> Cipher {
        Cipher {
            keys: Arc::new(Keys::portable(secret)),
            register: *secret,
        }
    }

    /// What the `cfb8` crate makes of a stream.
    fn reference(secret: &Block, bytes: &[u8]) -> Vec<u8> {
        use aes::cipher::KeyIvInit;
        let secret = Array::from(*secret);
        let mut bytes = bytes.to_vec();
        cfb8::Encryptor::<aes::Aes128>::new(&secret, &secret).encrypt(&mut bytes);
        bytes
    }

    /// Streams with keys that do not go into lanes are encrypted too, however many
    /// there are, also between others.
    #[test]
    fn keys_of_any_form_are_used() {
        let secret = |at: usize| [u8::try_from(at).unwrap(); 16];
        let plain = [5; 50];
        for (way, encrypt_many) in ways() {
            for one_fast_of in [usize::MAX, 20, 2] {
                let cipher = |at: usize| match at % one_fast_of {
                    1 => Cipher::new(&secret(at)),
                    _ => portable(&secret(at)),
                };
                let mut ciphers: Vec<Cipher> = (0..70).map(cipher).collect();
                let mut all = vec![plain; ciphers.len()];
                let jobs = ciphers.iter_mut().zip(&mut all);
                let mut jobs: Vec<_> = jobs
                    .map(|(cipher, bytes)| Some(Job { cipher, bytes }))
                    .collect();
                encrypt_many(&mut jobs);
                for (at, got) in all.iter().enumerate() {
                    assert_eq!(got[..], reference(&secret(at), &plain), "{way} {at}");
                }
            }
        }
    }

    type EncryptMany = fn(&mut [Option<Job<'_>>]);

    /// All implementations of encrypting several streams that this CPU supports.
    fn ways() -> Vec<(&'static str, EncryptMany)> {
        let mut ways: Vec<(&str, EncryptMany)> = vec![("chosen", encrypt_many)];
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if cpu::Aes::detect().is_some() {
            ways.push(("AES instructions", |jobs| {
                encrypt_with_aes(jobs, cpu::Aes::detect().unwrap());
            }));
        }
        #[cfg(target_arch = "x86_64")]
        if x86::Vaes::detect().is_some() {
            ways.push(("VAES", |jobs| {
                encrypt_with_vaes(jobs, x86::Vaes::detect().unwrap());
            }));
        }
        ways
    }

    /// The bytes in pieces of these lengths, and the rest.
    fn pieces<'a>(bytes: &'a mut [u8], cuts: &[usize]) -> Vec<&'a mut [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        for cut in cuts {
            let (piece, more) = rest.split_at_mut(rest.len().min(*cut));
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
        pieces
    }

    /// The secret of a stream, its bytes, and lengths of pieces. A third of the cuts are
    /// shorter than a block.
    fn stream() -> impl Strategy<Value = (Block, Vec<u8>, Vec<usize>)> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..400);
        let cuts = proptest::collection::vec(prop_oneof![1 => 0_usize..16, 2 => 0_usize..120], 3);
        (any::<Block>(), bytes, cuts)
    }

    proptest! {
        /// What one side encrypts the other decrypts, however the stream is cut.
        #[test]
        fn round_trip(secret: [u8; 16], bytes: Vec<u8>, cuts in proptest::collection::vec(1_usize..40, 1..20)) {
            let (mut here, mut there) = (Cipher::new(&secret), Cipher::new(&secret));
            let mut stream = bytes.clone();
            for piece in pieces(&mut stream, &cuts) {
                here.encrypt(piece);
            }
            there.decrypt(&mut stream);
            prop_assert_eq!(stream, bytes);
        }

        /// One stream, however it is cut, gives the bytes of two other
        /// implementations, and is decrypted from them, however they are cut.
        #[test]
        fn one_stream_equals_other_implementations((secret, bytes, cuts) in stream()) {
            let expected = reference(&secret, &bytes);
            prop_assert_eq!(&textbook::encrypt(&secret, &bytes), &expected);
            for new in [Cipher::new, portable as fn(&Block) -> Cipher] {
                let (mut here, mut there) = (new(&secret), new(&secret));
                let mut stream = bytes.clone();
                for piece in pieces(&mut stream, &cuts) {
                    here.encrypt(piece);
                }
                prop_assert_eq!(&stream, &expected);
                let other_cuts: Vec<usize> = cuts.iter().map(|cut| cut / 3).collect();
                for piece in pieces(&mut stream, &other_cuts) {
                    there.decrypt(piece);
                }
                prop_assert_eq!(&stream, &bytes);
            }
        }
    }

    proptest! {
        // Each case has many streams, and no build of the tests is optimised.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Streams that are encrypted side by side, more than there are lanes, in
        /// several turns and of any lengths, give the bytes of two other
        /// implementations that take them one by one.
        #[test]
        fn many_streams_equal_single_streams(streams in proptest::collection::vec(stream(), 0..40)) {
            for (way, encrypt_many) in ways() {
                let mut ciphers: Vec<Cipher> =
                    streams.iter().map(|(secret, ..)| Cipher::new(secret)).collect();
                let mut all: Vec<Vec<u8>> =
                    streams.iter().map(|(_, bytes, _)| bytes.clone()).collect();
                let mut turns: Vec<Vec<&mut [u8]>> =
                    all.iter_mut().zip(&streams).map(|(bytes, (.., cuts))| pieces(bytes, cuts)).collect();
                for _ in 0..4 {
                    let pieces = turns.iter_mut().map(|pieces| pieces.remove(0));
                    let mut jobs: Vec<Option<Job<'_>>> = ciphers
                        .iter_mut()
                        .zip(pieces)
                        .flat_map(|(cipher, bytes)| [None, Some(Job { cipher, bytes })])
                        .collect();
                    encrypt_many(&mut jobs);
                    prop_assert!(jobs.iter().all(Option::is_none));
                }
                for ((secret, bytes, _), got) in streams.iter().zip(all) {
                    let mut expected = bytes.clone();
                    portable(secret).encrypt(&mut expected);
                    prop_assert_eq!(&got, &expected, "{}", way);
                    prop_assert_eq!(&got, &reference(secret, bytes), "{}", way);
                }
            }
        }
    }
}
