//! The key pair of the proxy, and what logins compute with it.

use std::fmt;
use std::io;

use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::{PrivateKey, PublicKey};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::protocol::cipher::SECRET_BYTES;

/// The length of the key, in bits: that of vanilla servers, which clients of every
/// version accept.
const KEY_BITS: usize = 1024;
/// The length of the token that a client has to return, in bytes (the game).
pub(super) const TOKEN_BYTES: usize = 4;

/// The proxy's key pair: made at the start, and used for all logins.
pub(crate) struct LoginKey {
    private: PrivateKey,
    public_der: Vec<u8>,
}

impl LoginKey {
    /// Makes a key pair. It takes some milliseconds of CPU time.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(crate) fn generate() -> io::Result<Self> {
        let private =
            PrivateKey::new(&mut getrandom::SysRng, KEY_BITS).map_err(io::Error::other)?;
        let der = private.to_public_key().to_public_key_der();
        Ok(Self {
            public_der: der.map_err(io::Error::other)?.into_vec(),
            private,
        })
    }

    /// The public key as an encryption request carries it: a
    /// `SubjectPublicKeyInfo` in DER.
    pub(crate) fn public_der(&self) -> &[u8] {
        &self.public_der
    }

    /// The secret that a client has chosen, and whether it returned the token;
    /// `None` when there is no secret in the answer.
    ///
    /// It takes about a millisecond of CPU time, so it must not run on a worker. Bytes
    /// that were not encrypted with this key are decrypted to others, which nobody can
    /// predict. These have another length than a secret with all but some of the keys;
    /// then the token is not decrypted, so that a wrong answer costs half. With those keys
    /// the token is wrong.
    pub(crate) fn open(
        &self,
        answer: &Answer,
        token: [u8; TOKEN_BYTES],
    ) -> Option<DecryptedAnswer> {
        let secret = self.private.pkcs1v15_decrypt(&answer.secret).ok()?;
        Some(DecryptedAnswer {
            secret: secret.try_into().ok()?,
            has_token: match &answer.token {
                Returned::Sealed(sealed) => {
                    let returned = self.private.pkcs1v15_decrypt(sealed);
                    returned.is_ok_and(|returned| returned == token)
                }
                Returned::Signed {
                    key,
                    salt,
                    signature,
                } => is_signed(key, &[&token[..], salt].concat(), signature),
            },
        })
    }
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginKey").finish_non_exhaustive()
    }
}

/// The answer of a client to an encryption request, not decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The secret of the connection.
    pub(crate) secret: Vec<u8>,
    /// The token.
    pub(crate) token: Returned,
}

/// How a client returns the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returned {
    /// Encrypted with our key.
    Sealed(Vec<u8>),
    /// Signed, followed by a salt, with the key of its login start (1.19 to 1.19.2).
    Signed {
        /// A `SubjectPublicKeyInfo` in DER.
        key: Vec<u8>,
        /// The salt.
        salt: [u8; 8],
        /// SHA256withRSA.
        signature: Vec<u8>,
    },
}

/// Whether a player's key has signed this message. A key of more than 4096 bits
/// does not fit in a login start.
fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = PublicKey::from_public_key_der(key);
    key.is_ok_and(|key| key.pkcs1v15_verify::<Sha256>(message, signature).is_ok())
}

/// The decrypted content of an [`Answer`].
pub(crate) struct DecryptedAnswer {
    /// The secret of the connection. The client encrypts with it from here on.
    pub(crate) secret: [u8; SECRET_BYTES],
    /// Whether the client returned the token of this request.
    pub(crate) has_token: bool,
}

/// The hash that both sides send to the session service: SHA-1 over the server id
/// (empty), the secret and our public key, as a signed number in hexadecimal.
pub(super) fn server_hash(secret: &[u8; SECRET_BYTES], public_der: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(secret);
    hash.update(public_der);
    signed_hex(hash.finalize().into())
}

/// A number of 20 bytes in two's complement, in hexadecimal without leading zeros.
fn signed_hex(mut bytes: [u8; 20]) -> String {
    let is_negative = bytes[0] & 0x80 != 0;
    if is_negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = overflow;
        }
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.trim_start_matches('0');
    match (is_negative, digits) {
        (_, "") => "0".to_owned(),
        (true, digits) => format!("-{digits}"),
        (false, digits) => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of names with published results, and one of a secret and a key.
    #[test]
    fn hashes_are_signed() {
        let of = |text: &str| signed_hex(Sha1::digest(text.as_bytes()).into());
        assert_eq!(of("Notch"), "4ed1f46bbe04bc756bcb17c0c7ce3e4632f06a48");
        assert_eq!(of("jeb_"), "-7c9d5b0044c130109a5d7b5fb5c317c02b4e28c1");
        assert_eq!(of("simon"), "88e16a1019277b15d58faf0541e11910eb756f6");
        assert_eq!(signed_hex([0; 20]), "0");
        let secret: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let key = [
            0x30, 0x81, 0x9f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
            0x01, 0x01, 0x05, 0x00, 0x03, 0x81, 0x8d, 0x00,
        ];
        assert_eq!(
            server_hash(&secret, &key),
            "-67f233379d837cbb72ad931f607342a4d9c59cb"
        );
    }

    /// A client's secret is accepted only if it uses our key and returns the token.
    #[test]
    fn secrets_come_with_their_token() {
        let key = LoginKey::generate().unwrap();
        assert_eq!(key.public_der().len(), 162);
        let public = key.private.to_public_key();
        let seal = |bytes: &[u8]| public.pkcs1v15_encrypt(bytes).unwrap();
        let answer = |secret: &[u8], token: &[u8]| Answer {
            secret: seal(secret),
            token: Returned::Sealed(seal(token)),
        };
        let open = |answer: &Answer| {
            let opened = key.open(answer, *b"tokn");
            opened.map(|opened| (opened.secret, opened.has_token))
        };
        let good = answer(&[7; 16], b"tokn");
        assert_eq!(open(&good), Some(([7; 16], true)));
        // Its refusal is encrypted all the same.
        let other = answer(&[7; 16], b"tokm");
        assert_eq!(open(&other), Some(([7; 16], false)));
        let short = answer(&[7; 15], b"tokn");
        assert_eq!(open(&short), None);
        let unsealed = |bytes: &[u8]| Answer {
            secret: bytes.to_vec(),
            token: Returned::Sealed(bytes.to_vec()),
        };
        // With some keys these bytes are a secret, see `open`.
        let garbage = open(&unsealed(&[9; 128]));
        assert!(garbage.is_none_or(|(_, has_token)| !has_token));
        // A number above every modulus.
        assert_eq!(open(&unsealed(&[0xFF; 128])), None);
        assert_eq!(open(&unsealed(&[])), None);
    }
}
