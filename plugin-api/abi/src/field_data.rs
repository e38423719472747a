//! The value of a packet's field, and how it crosses the border.

use crate::{FieldType, FieldValue, PacketField, Str};

/// The value of a field of a packet, borrowed from the side that has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldData<'a> {
    /// A field that can be missing, and is.
    Missing,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f32),
    /// Characters.
    Str(&'a str),
    /// A text component, as JSON.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A UUID, in network order.
    Uuid(&'a [u8; 16]),
}

impl FieldData<'_> {
    /// Whether a field of this type can have the value.
    #[must_use]
    pub const fn is_of(&self, holds: FieldType) -> bool {
        match self {
            Self::Missing => true,
            Self::Bool(_) => matches!(holds, FieldType::Bool),
            Self::Int(_) => matches!(holds, FieldType::Int),
            Self::Float(_) => matches!(holds, FieldType::Float),
            Self::Str(_) => matches!(holds, FieldType::Str),
            Self::Text(_) => matches!(holds, FieldType::Text),
            Self::Bytes(_) => matches!(holds, FieldType::Bytes),
            Self::Uuid(_) => matches!(holds, FieldType::Uuid),
        }
    }
}

impl FieldValue {
    /// The value as it crosses. It is valid as long as the bytes that `data` borrows.
    #[must_use]
    pub fn new(field: PacketField, data: FieldData<'_>) -> Self {
        let (holds, number, bytes): (u32, u64, &[u8]) = match data {
            FieldData::Missing => (0, 0, &[]),
            FieldData::Bool(value) => (FieldType::Bool as u32, value.into(), &[]),
            FieldData::Int(value) => (FieldType::Int as u32, value.cast_unsigned(), &[]),
            FieldData::Float(value) => (FieldType::Float as u32, value.to_bits().into(), &[]),
            FieldData::Str(text) => (FieldType::Str as u32, 0, text.as_bytes()),
            FieldData::Text(text) => (FieldType::Text as u32, 0, text.as_bytes()),
            FieldData::Bytes(bytes) => (FieldType::Bytes as u32, 0, bytes),
            FieldData::Uuid(uuid) => (FieldType::Uuid as u32, 0, uuid),
        };
        Self {
            field: field.number().into(),
            holds,
            number,
            data: Str::lend(bytes),
        }
    }

    /// The value that has crossed.
    ///
    /// # Errors
    ///
    /// When it is not valid: why, in words that follow the name of the field.
    ///
    /// # Safety
    ///
    /// The bytes must be valid for `'a`.
    #[allow(unsafe_code, reason = "the border is made of pointers")]
    pub unsafe fn data<'a>(&self) -> Result<FieldData<'a>, &'static str> {
        const OTHER: &str = "has a value of another type";
        let is = |holds: FieldType| self.holds == holds as u32;
        // SAFETY: the caller promises it.
        let bytes: &'a [u8] = unsafe { self.data.bytes() };
        let text = || core::str::from_utf8(bytes).map_err(|_| "is not UTF-8");
        Ok(if self.holds == 0 {
            FieldData::Missing
        } else if is(FieldType::Bool) {
            FieldData::Bool(self.number != 0)
        } else if is(FieldType::Int) {
            FieldData::Int(self.number.cast_signed())
        } else if is(FieldType::Float) {
            let bits = u32::try_from(self.number).map_err(|_| OTHER)?;
            FieldData::Float(f32::from_bits(bits))
        } else if is(FieldType::Str) {
            FieldData::Str(text()?)
        } else if is(FieldType::Text) {
            FieldData::Text(text()?)
        } else if is(FieldType::Bytes) {
            FieldData::Bytes(bytes)
        } else if is(FieldType::Uuid) {
            FieldData::Uuid(bytes.try_into().map_err(|_| OTHER)?)
        } else {
            return Err(OTHER);
        })
    }
}
