//! VarInts: integers of variable length, seven bits in each byte, the lowest first.

use thiserror::Error;

/// The most bytes of a 32-bit integer.
pub const VARINT_BYTES_MAX: usize = 5;

/// Set in every byte but the last.
const MORE: u8 = 0x80;

/// Why bytes are not a VarInt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VarIntError {
    /// The fifth byte says that more follow.
    #[error("a VarInt has more than 5 bytes")]
    TooLong,
}

/// Reads the VarInt that `buf` begins with: its value and its length in bytes,
/// or `None` when more bytes are needed.
///
/// As in the game, forms that are longer than necessary are accepted, and bits
/// beyond the 32nd are dropped.
///
/// # Errors
///
/// When it has more than [`VARINT_BYTES_MAX`] bytes.
pub fn decode(buf: &[u8]) -> Result<Option<(i32, usize)>, VarIntError> {
    let mut value = 0_u32;
    let mut shift = 0_u32;
    for (index, byte) in buf.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u32::from(byte & !MORE) << shift;
        if byte & MORE == 0 {
            return Ok(Some((value.cast_signed(), index + 1)));
        }
        shift += 7;
    }
    if buf.len() >= VARINT_BYTES_MAX {
        return Err(VarIntError::TooLong);
    }
    Ok(None)
}

/// Appends `value` in its shortest form: 1 to [`VARINT_BYTES_MAX`] bytes.
pub fn encode(value: i32, out: &mut Vec<u8>) {
    let mut rest = value.cast_unsigned();
    loop {
        // Seven bits always fit.
        let [low, ..] = (rest & 0x7F).to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | MORE);
    }
}

/// Appends a length. Our own packets stay far below 2 GiB.
pub(crate) fn encode_len(len: usize, out: &mut Vec<u8>) {
    debug_assert!(i32::try_from(len).is_ok(), "a length of {len} bytes");
    encode(i32::try_from(len).unwrap_or(i32::MAX), out);
}

/// The bytes that [`encode_len`] appends.
pub(crate) const fn len_bytes(len: usize) -> usize {
    match len {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        0x20_0000..=0xFFF_FFFF => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The smallest and largest value of each length; one byte less asks for more.
    #[test]
    fn edges_of_each_length() {
        let table: &[(i32, &[u8])] = &[
            (0, &[0]),
            (1, &[1]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (254, &[0xFE, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (i32::MAX, &[0xFF, 0xFF, 0xFF, 0xFF, 0x07]),
            (-1, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            (i32::MIN, &[0x80, 0x80, 0x80, 0x80, 0x08]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            encode(*value, &mut out);
            assert_eq!(&out, bytes);
            assert_eq!(decode(bytes), Ok(Some((*value, bytes.len()))));
            assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    /// A fifth byte that continues is refused at once; padding is accepted as in the game.
    #[test]
    fn overlong_forms() {
        assert_eq!(decode(&[0x80; 4]), Ok(None));
        assert_eq!(decode(&[0x80; 5]), Err(VarIntError::TooLong));
        assert_eq!(decode(&[0xFF; 10]), Err(VarIntError::TooLong));
        assert_eq!(decode(&[0x81, 0x80, 0x00]), Ok(Some((1, 3))));
        assert_eq!(decode(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), Ok(Some((-1, 5))));
    }

    /// `len_bytes` agrees with what `encode_len` writes, at and below each power of two.
    #[test]
    fn bytes_of_a_length() {
        for bits in 0..31 {
            for len in [(1_usize << bits) - 1, 1 << bits] {
                let mut written = Vec::new();
                encode_len(len, &mut written);
                assert_eq!(len_bytes(len), written.len(), "{len}");
            }
        }
    }

    proptest! {
        /// What is written is read back, whatever follows it.
        #[test]
        fn round_trip(value: i32, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            encode(value, &mut bytes);
            let len = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(decode(&bytes), Ok(Some((value, len))));
        }
    }
}
