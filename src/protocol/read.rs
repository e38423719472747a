//! Reads the fields of packets, with every bound checked.

use thiserror::Error;

use super::varint::{self, VarIntError};

/// Why a field cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The packet ends inside the field.
    #[error("the packet ends inside a field")]
    Short,
    /// An integer is malformed.
    #[error(transparent)]
    VarInt(#[from] VarIntError),
    /// A length is below zero.
    #[error("a length is negative")]
    NegativeLength,
    /// A field is longer than it may be.
    #[error("a field is longer than {max}")]
    TooLong {
        /// The limit: characters of a text, bytes of an array.
        max: usize,
    },
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// Tags of NBT or values of JSON are nested too deep.
    #[error("tags are nested too deep")]
    TooDeep,
    /// A tag of NBT that does not exist, or is not allowed here.
    #[error("there is no tag {0} here")]
    BadTag(u8),
    /// A text component is malformed.
    #[error("a text component is malformed")]
    BadComponent,
    /// A field has a value that it cannot have.
    #[error("a field has a value that it cannot have")]
    BadValue,
    /// Bytes are left behind the last field.
    #[error("{0} bytes are left behind the last field")]
    Trailing(usize),
}

/// A place in the body of a packet. Every read moves it forward or fails.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All bytes that are left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ReadError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ReadError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A VarInt.
    ///
    /// # Errors
    ///
    /// When it is cut off or overlong.
    pub fn varint(&mut self) -> Result<i32, ReadError> {
        let (value, used) = varint::decode(self.rest)?.ok_or(ReadError::Short)?;
        self.take(used)?;
        Ok(value)
    }

    /// The length of a list.
    ///
    /// # Errors
    ///
    /// When it is malformed or negative.
    pub fn length(&mut self) -> Result<usize, ReadError> {
        usize::try_from(self.varint()?).map_err(|_| ReadError::NegativeLength)
    }

    /// A boolean; as in the game, every byte except zero is true.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn bool(&mut self) -> Result<bool, ReadError> {
        Ok(self.array::<1>()? != [0])
    }

    /// An unsigned number of one byte.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array().map(u8::from_be_bytes)
    }

    /// A signed number of four bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn i32(&mut self) -> Result<i32, ReadError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A signed number of eight bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn i64(&mut self) -> Result<i64, ReadError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A floating point number of four bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn f32(&mut self) -> Result<f32, ReadError> {
        self.array().map(f32::from_be_bytes)
    }

    /// An unsigned number of two bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_be_bytes)
    }

    /// An unsigned number of eight bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A player id of sixteen bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Short`].
    pub fn uuid(&mut self) -> Result<[u8; 16], ReadError> {
        self.array()
    }

    /// Bytes behind their VarInt length, at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// When the length is malformed, negative or over the limit, which is checked
    /// first; or when fewer bytes are left.
    pub fn bytes(&mut self, bytes_max: usize) -> Result<&'a [u8], ReadError> {
        let len = self.length()?;
        if len > bytes_max {
            return Err(ReadError::TooLong { max: bytes_max });
        }
        self.take(len)
    }

    /// A text behind its length, at most `chars_max` characters, counted as the
    /// game does: a character outside the basic plane counts twice.
    ///
    /// # Errors
    ///
    /// As [`Cursor::bytes`], and when the text is not UTF-8 or too long.
    pub fn string(&mut self, chars_max: usize) -> Result<&'a str, ReadError> {
        let too_long = ReadError::TooLong { max: chars_max };
        // No UTF-16 unit takes more than three bytes of UTF-8.
        let bytes = match self.bytes(chars_max.saturating_mul(3)) {
            Err(ReadError::TooLong { .. }) => return Err(too_long),
            other => other?,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| ReadError::NotUtf8)?;
        if text.encode_utf16().count() > chars_max {
            return Err(too_long);
        }
        Ok(text)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    ///
    /// [`ReadError::Trailing`].
    pub fn finish(self) -> Result<(), ReadError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(ReadError::Trailing(left)),
        }
    }
}

/// Appends a text behind its length.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    varint::encode_len(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fields of a fixed size need all their bytes, which are in network order.
    #[test]
    fn fixed_fields() {
        let bytes: Vec<u8> = (1..=16).collect();
        assert_eq!(Cursor::new(&bytes).u16(), Ok(0x0102));
        assert_eq!(Cursor::new(&bytes).u64(), Ok(0x0102_0304_0506_0708));
        assert_eq!(Cursor::new(&bytes).uuid().unwrap()[15], 16);
        assert_eq!(Cursor::new(&[0]).bool(), Ok(false));
        assert_eq!(Cursor::new(&[2]).bool(), Ok(true));
        assert_eq!(Cursor::new(&bytes[..1]).u16(), Err(ReadError::Short));
        assert_eq!(Cursor::new(&bytes[..7]).u64(), Err(ReadError::Short));
        assert_eq!(Cursor::new(&bytes[..15]).uuid(), Err(ReadError::Short));
        assert_eq!(Cursor::new(&[]).bool(), Err(ReadError::Short));
        assert_eq!(Cursor::new(&[0x80]).varint(), Err(ReadError::Short));
    }

    /// A length is checked before its bytes are read.
    #[test]
    fn lengths_are_checked_first() {
        let negative = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        let two_gib = [0xFF, 0xFF, 0xFF, 0xFF, 0x07];
        assert_eq!(
            Cursor::new(&negative).bytes(9),
            Err(ReadError::NegativeLength)
        );
        assert_eq!(
            Cursor::new(&two_gib).bytes(9),
            Err(ReadError::TooLong { max: 9 })
        );
        assert_eq!(
            Cursor::new(&two_gib).string(9),
            Err(ReadError::TooLong { max: 9 })
        );
        assert_eq!(Cursor::new(&[2, 7]).bytes(9), Err(ReadError::Short));
        assert_eq!(Cursor::new(&[2, 7, 8]).bytes(2), Ok(&[7_u8, 8][..]));
        assert_eq!(
            Cursor::new(&[3, 7, 8, 9]).bytes(2),
            Err(ReadError::TooLong { max: 2 })
        );
    }

    /// Characters are counted as the game counts them, at and beside the limit.
    #[test]
    fn texts_count_characters() {
        let table = [
            ("abc", 3, true),
            ("abcd", 3, false),
            ("例例例", 3, true),
            ("例例例例", 3, false),
            ("😀", 2, true),
            ("😀", 1, false),
            ("", 0, true),
        ];
        for (text, max, fits) in table {
            let mut bytes = Vec::new();
            write_string(text, &mut bytes);
            let read = Cursor::new(&bytes).string(max);
            assert_eq!(read.is_ok(), fits, "{text} at {max}");
        }
        assert_eq!(
            Cursor::new(&[2, 0xC3, 0x28]).string(9),
            Err(ReadError::NotUtf8)
        );
    }

    /// What is left over is reported.
    #[test]
    fn finish_counts_what_is_left() {
        assert_eq!(Cursor::new(&[]).finish(), Ok(()));
        assert_eq!(Cursor::new(&[1, 2]).finish(), Err(ReadError::Trailing(2)));
    }

    proptest! {
        /// Texts come back as they were written.
        #[test]
        fn texts_round_trip(text in ".{0,40}") {
            let mut bytes = Vec::new();
            write_string(&text, &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.string(80), Ok(text.as_str()));
            prop_assert_eq!(cursor.finish(), Ok(()));
        }

        /// No bytes make a read panic or give more than its limit.
        #[test]
        fn any_bytes(bytes: Vec<u8>, max in 0_usize..40) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(text) = cursor.string(max) {
                prop_assert!(text.chars().count() <= max);
            }
            if let Ok(taken) = cursor.bytes(max) {
                prop_assert!(taken.len() <= max);
            }
            let _ = (cursor.varint(), cursor.bool(), cursor.u16(), cursor.u64(), cursor.uuid());
        }
    }
}
