//! Decrypts one stream. Each byte of plain text depends only on cipher text, all of which is
//! known, so the CPU works on several bytes at once, in contrast to an encryption.

use super::Block;

/// Decrypts the next bytes of a stream, in place. `key_byte` gives the first byte of the
/// block that AES makes of a window: the 16 bytes of cipher text before a byte.
///
/// Goes backwards: a byte of cipher text is in the windows of the 16 bytes behind it, so it
/// is overwritten after them.
#[inline(always)]
pub(super) fn decrypt_with(
    register: &mut Block,
    bytes: &mut [u8],
    key_byte: impl Fn(&Block) -> u8,
) {
    // The windows of the first 16 bytes begin in the shift register.
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
    for (at, byte) in bytes.iter_mut().take(16).enumerate() {
        if let Some(window) = beginning[at..].first_chunk() {
            *byte ^= key_byte(window);
        }
    }
}
