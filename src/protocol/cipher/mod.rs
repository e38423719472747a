//! The stream cipher between a client and a server that authenticates it:
//! AES-128 in CFB mode with 8 bits of feedback (NIST SP 800-38A, section 6.3).
//!
//! Key and initial vector are both the shared secret of the login. A [`Cipher`]
//! is the state of one direction, over every byte of the stream, lengths included.
//! [`encrypt_many`] encrypts several streams at once: `lanes` assigns them to the
//! registers of the CPU, `x86` and `aarch64` have the instructions.

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
#[cfg(target_arch = "x86_64")]
mod x86;

/// The instructions of this CPU.
#[cfg(target_arch = "aarch64")]
use aarch64 as cpu;
#[cfg(target_arch = "x86_64")]
use x86 as cpu;

/// The length of the shared secret, in bytes.
pub const SECRET_BYTES: usize = 16;

/// The keys of AES-128: one for each round, and one before the first.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const KEYS: usize = 11;

type Block = [u8; 16];

/// One direction of an encrypted connection.
///
/// Both directions use the forward cipher alone, as CFB does. Clones share the keys.
#[derive(Clone)]
pub struct Cipher {
    keys: Arc<Keys>,
    /// The last 16 bytes of cipher text; before them the initial vector.
    register: Block,
}

/// The round keys, in the form for this CPU.
enum Keys {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Fast(keys::RoundKeys),
    /// Boxed because it is large: the type has room for two forms of the keys.
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
    /// What is encrypted, in place.
    pub bytes: &'a mut [u8],
}

/// Encrypts the next bytes of several streams, as many in parallel as the CPU's
/// registers can hold.
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

/// Uses sixteen lanes at most: the state of 32 does not fit in the registers.
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
        assert_eq!(keys.blocks()[KEYS - 1], last);
    }

    /// A stream of the `aes` crate, block by block.
    fn portable(secret: &Block) -> Cipher {
        Cipher {
            keys: Arc::new(Keys::portable(secret)),
            register: *secret,
        }
    }

    /// A stream of the `cfb8` crate.
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

    fn stream() -> impl Strategy<Value = (Block, Vec<u8>, Vec<usize>)> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..400);
        let cuts = proptest::collection::vec(0_usize..120, 3);
        (any::<Block>(), bytes, cuts)
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

        /// One stream, however it is cut, gives the bytes of two other
        /// implementations, and both decrypt what each encrypts.
        #[test]
        fn one_stream_equals_other_implementations((secret, bytes, cuts) in stream()) {
            let expected = reference(&secret, &bytes);
            for new in [Cipher::new, portable as fn(&Block) -> Cipher] {
                let (mut here, mut there) = (new(&secret), new(&secret));
                let mut stream = bytes.clone();
                let mut rest = &mut stream[..];
                let mut cuts = cuts.iter().copied();
                while !rest.is_empty() {
                    let cut = cuts.next().unwrap_or(rest.len()).min(rest.len());
                    let (now, later) = rest.split_at_mut(cut);
                    here.encrypt(now);
                    rest = later;
                }
                prop_assert_eq!(&stream, &expected);
                let (first, second) = stream.split_at_mut(bytes.len() / 3);
                there.decrypt(first);
                there.decrypt(second);
                prop_assert_eq!(&stream, &bytes);
            }
        }
    }

    proptest! {
        // Each case has many streams, and no build of the tests is optimised.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Streams that are encrypted side by side, in several turns, give the
        /// bytes of two other implementations that take them one by one.
        #[test]
        fn many_streams_equal_single_streams(streams in proptest::collection::vec(stream(), 0..40)) {
            for (way, encrypt_many) in ways() {
                let mut ciphers: Vec<Cipher> =
                    streams.iter().map(|(secret, ..)| Cipher::new(secret)).collect();
                let mut all: Vec<Vec<u8>> =
                    streams.iter().map(|(_, bytes, _)| bytes.clone()).collect();
                let mut rests: Vec<&mut [u8]> = all.iter_mut().map(|bytes| &mut bytes[..]).collect();
                for turn in 0..4 {
                    let mut jobs = Vec::new();
                    for (at, rest) in rests.iter_mut().enumerate() {
                        let cut = streams[at].2.get(turn).copied().unwrap_or(usize::MAX);
                        let cut = cut.min(rest.len());
                        let (now, later) = std::mem::take(rest).split_at_mut(cut);
                        *rest = later;
                        jobs.push(now);
                    }
                    let mut jobs: Vec<Option<Job<'_>>> = ciphers
                        .iter_mut()
                        .zip(jobs)
                        .flat_map(|(cipher, bytes)| [None, Some(Job { cipher, bytes })])
                        .collect();
                    encrypt_many(&mut jobs);
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
