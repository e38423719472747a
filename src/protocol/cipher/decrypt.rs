//! Decrypts one stream in any order that the CPU likes: each byte depends only on cipher
//! text, which is known.

use super::Block;

/// Decrypts the next bytes of a stream. `key_byte` is the first byte of the block that AES
/// makes of the 16 bytes of cipher text before a byte.
///
/// Goes backwards, so that each cipher byte is read by all that need it before it is
/// overwritten. The CPU works on several bytes at once, since none depends on the plain
/// text of another.
#[inline(always)]
pub(super) fn decrypt_with(
    register: &mut Block,
    bytes: &mut [u8],
    key_byte: impl Fn(&Block) -> u8,
) {
    // Bytes near the beginning need what came before.
    let first_bytes = bytes.len().min(16);
    let mut beginning = [0; 32];
    beginning[..16].copy_from_slice(register);
    beginning[16..16 + first_bytes].copy_from_slice(&bytes[..first_bytes]);
    register.copy_from_slice(match bytes.last_chunk::<16>() {
        Some(last) => last,
        None => &beginning[first_bytes..first_bytes + 16],
    });
    for at in (16..bytes.len()).rev() {
        if let Some((window, [byte, ..])) = bytes[at - 16..].split_first_chunk_mut() {
            *byte ^= key_byte(window);
        }
    }
    for (at, byte) in bytes.iter_mut().take(16).enumerate().rev() {
        if let Some(window) = beginning[at..].first_chunk() {
            *byte ^= key_byte(window);
        }
    }
}
