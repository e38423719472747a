//! Reads the id of a compressed packet without decompressing the rest.
//!
//! The first symbols of a zlib stream (RFC 1950, RFC 1951) are always literals,
//! since there is nothing before them to refer to. So the first literals of the
//! first block are the id, and only the code lengths of that block, some 300
//! bytes at most, come before them. A decoding table is not worth building for
//! one or two symbols.

use super::varint;

/// The longest id that is read this way, in bytes: no version has longer ids.
const ID_BYTES_MAX: usize = 2;
/// The most bits of a code (RFC 1951, section 3.2.7).
const CODE_BITS_MAX: usize = 15;
/// Literals, end of block and lengths.
const SYMBOLS: usize = 288;
/// The first symbol that is not a byte.
const END_OF_BLOCK: usize = 256;
/// The symbols of code lengths, in the order in which a block lists their own
/// lengths (RFC 1951, section 3.2.7).
const LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The id of the packet in this zlib stream.
///
/// `None` when it cannot be read this way: the stream may be malformed, or valid
/// in a form that only decompressing resolves.
#[must_use]
pub fn packet_id(zlib: &[u8]) -> Option<i32> {
    let (header, deflate) = zlib.split_first_chunk::<2>()?;
    let is_deflate = header[0] & 0x0F == 8 && u16::from_be_bytes(*header) % 31 == 0;
    let has_dictionary = header[1] & 0x20 != 0;
    if !is_deflate || has_dictionary {
        return None;
    }
    let mut bits = Bits {
        bytes: deflate,
        at: 0,
    };
    let _is_last = bits.take(1)?;
    match bits.take(2)? {
        0 => id_of(stored(deflate)?.iter().copied()),
        1 => {
            let lengths = fixed_lengths();
            id_of(std::iter::from_fn(|| literal(&mut bits, &lengths)))
        }
        2 => {
            let lengths = dynamic_lengths(&mut bits)?;
            id_of(std::iter::from_fn(|| literal(&mut bits, &lengths)))
        }
        _ => None,
    }
}

/// The id that these bytes begin with.
fn id_of(bytes: impl Iterator<Item = u8>) -> Option<i32> {
    let mut id = [0; ID_BYTES_MAX];
    let mut length = 0;
    for (byte, place) in bytes.zip(&mut id) {
        *place = byte;
        length += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (id, _) = varint::decode(id.get(..length)?).ok()??;
    Some(id)
}

/// The bytes of a stored block at the start of a stream.
fn stored(deflate: &[u8]) -> Option<&[u8]> {
    let ([_, low, high, ..], bytes) = deflate.split_first_chunk::<5>()?;
    bytes.get(..usize::from(u16::from_le_bytes([*low, *high])))
}

/// Bits of a deflate stream, the lowest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<usize> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(usize::from(bit))
    }

    /// A number of `count` bits, the lowest first.
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for shift in 0..count {
            value |= self.bit()? << shift;
        }
        Some(value)
    }

    /// The next symbol of a canonical code with these lengths.
    fn symbol(&mut self, lengths: &[u8]) -> Option<usize> {
        let mut counts = [0_usize; CODE_BITS_MAX + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        let (mut code, mut first) = (0, 0);
        for (length, count) in counts.iter().enumerate().skip(1) {
            code |= self.bit()?;
            // The index among the codes of this length, if the code is one of them.
            let place = code.checked_sub(first)?;
            if place < *count {
                let mut of_length = lengths.iter().enumerate();
                let found = of_length
                    .by_ref()
                    .filter(|(_, l)| usize::from(**l) == length);
                return found.map(|(symbol, _)| symbol).nth(place);
            }
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// The next symbol, if it is a byte.
fn literal(bits: &mut Bits<'_>, lengths: &[u8; SYMBOLS]) -> Option<u8> {
    u8::try_from(bits.symbol(lengths)?).ok()
}

/// The code lengths of a block with the fixed code (RFC 1951, section 3.2.6).
fn fixed_lengths() -> [u8; SYMBOLS] {
    std::array::from_fn(|symbol| match symbol {
        0..144 => 8,
        144..END_OF_BLOCK => 9,
        END_OF_BLOCK..280 => 7,
        _ => 8,
    })
}

/// The code lengths of the literals of a block that defines its own code
/// (RFC 1951, section 3.2.7).
fn dynamic_lengths(bits: &mut Bits<'_>) -> Option<[u8; SYMBOLS]> {
    let literals = bits.take(5)? + END_OF_BLOCK + 1;
    let distances = bits.take(5)? + 1;
    let count = bits.take(4)? + 4;
    let mut of_lengths = [0_u8; LENGTH_ORDER.len()];
    for symbol in LENGTH_ORDER.iter().take(count) {
        *of_lengths.get_mut(*symbol)? = u8::try_from(bits.take(3)?).ok()?;
    }
    let mut lengths = [0; SYMBOLS];
    let (mut at, mut last) = (0, 0);
    // The lengths of the distances follow: a run may extend into them.
    while at < literals + distances {
        let symbol = bits.symbol(&of_lengths)?;
        let (length, run) = match symbol {
            16 if at > 0 => (last, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            _ => (u8::try_from(symbol).ok().filter(|length| *length < 16)?, 1),
        };
        for place in lengths.iter_mut().take(literals).skip(at).take(run) {
            *place = length;
        }
        (at, last) = (at + run, length);
    }
    Some(lengths)
}

#[cfg(test)]
mod tests {
    use libdeflater::{CompressionLvl, Compressor, Decompressor};
    use proptest::prelude::*;

    use super::*;

    fn deflated(packet: &[u8], level: i32) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
        let mut out = vec![0; compressor.zlib_compress_bound(packet.len())];
        let bytes = compressor.zlib_compress(packet, &mut out).unwrap();
        out.truncate(bytes);
        out
    }

    /// Ids of one and of two bytes are read in every kind of block.
    #[test]
    fn kinds_of_blocks() {
        let long: Vec<u8> = (0..=59).cycle().step_by(7).take(4000).collect();
        for (id, wire) in [(0, &[0][..]), (0x7F, &[0x7F]), (0x84, &[0x84, 1])] {
            let packet = [wire, &long].concat();
            for level in 0..=12 {
                let stream = deflated(&packet, level);
                let block = stream[2] >> 1 & 3;
                assert_eq!(block, if level == 0 { 0 } else { 2 }, "{level}");
                assert_eq!(packet_id(&stream), Some(id), "{level}");
            }
            // A short packet takes the fixed code.
            let stream = deflated(&[wire, &[7; 90]].concat(), 6);
            assert_eq!(stream[2] >> 1 & 3, 1);
            assert_eq!(packet_id(&stream), Some(id));
        }
    }

    /// Streams that do not show their id at the start give `None`.
    #[test]
    fn unknown() {
        for stream in [
            &[][..],
            &[0x78],
            &[0x78, 0x01],
            &[0x79, 0x01, 5],
            &[0x78, 0x9C, 7],
        ] {
            assert_eq!(packet_id(stream), None, "{stream:02x?}");
        }
        // A stored block that ends in front of the id, and within it.
        for block in [&[0, 0, 0, 0xFF, 0xFF][..], &[0, 1, 0, 0xFE, 0xFF, 0x84]] {
            assert_eq!(packet_id(&[&[0x78, 0x01], block].concat()), None);
        }
    }

    proptest! {
        /// The id is that of the packet, whatever and however it is compressed.
        #[test]
        fn it_is_the_id(
            id in 0_i32..300,
            rest in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..3000),
                proptest::collection::vec(0_u8..3, 0..3000),
                proptest::collection::vec(100_u8..160, 0..3000),
            ],
            level in 0_i32..=12,
        ) {
            let mut packet = Vec::new();
            varint::encode(id, &mut packet);
            packet.extend(rest);
            prop_assert_eq!(packet_id(&deflated(&packet, level)), Some(id));
        }

        /// Where a decompressor takes the bytes, it finds the same id.
        #[test]
        fn broken_streams(
            rest in proptest::collection::vec(0_u8..60, 0..400),
            level in 0_i32..=12,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut stream = deflated(&rest, level);
            for (place, byte) in changes {
                *place.get_mut(&mut stream) = byte;
            }
            let found = packet_id(&stream);
            let mut packet = vec![0; 4096];
            // Without the checksum, which no change survives.
            let deflate = &stream[2..];
            if let (Some(id), Ok(bytes)) =
                (found, Decompressor::new().deflate_decompress(deflate, &mut packet))
            {
                let there = varint::decode(&packet[..bytes]).unwrap();
                prop_assert_eq!(there.map(|(id, _)| id), Some(id));
            }
        }
    }
}
