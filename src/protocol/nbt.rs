//! NBT, the game's binary format of named tags: reads and writes text components,
//! which are NBT since 1.20.3, and skips any other tag.
//!
//! The game since 1.20.2 writes the root tag without a name. A component that is
//! only a text may be a bare string tag.

use serde_json::{Map, Value};

use super::read::{Cursor, ReadError};

const TAG_END: u8 = 0;
const TAG_BYTE: u8 = 1;
const TAG_SHORT: u8 = 2;
const TAG_INT: u8 = 3;
const TAG_LONG: u8 = 4;
const TAG_FLOAT: u8 = 5;
const TAG_DOUBLE: u8 = 6;
const TAG_BYTE_ARRAY: u8 = 7;
const TAG_STRING: u8 = 8;
const TAG_LIST: u8 = 9;
const TAG_COMPOUND: u8 = 10;
const TAG_INT_ARRAY: u8 = 11;
const TAG_LONG_ARRAY: u8 = 12;

/// The deepest nesting of tags (the game).
pub(crate) const DEPTH_MAX: usize = 512;
/// The deepest nesting of tags in a text. Texts in use are some ten deep. Reading
/// them is recursive, so the limit bounds the stack.
const TEXT_DEPTH_MAX: usize = 96;
/// The longest text that is read, in bytes. Each byte may become a value of some
/// 32 bytes. The game reads as many characters of a text in its JSON form.
pub(super) const TEXT_BYTES_MAX: usize = 262_144;

/// The most bytes of a string: its length has two bytes.
pub(super) const STRING_BYTES_MAX: usize = 65_535;

/// Appends a text component as a root tag without a name.
///
/// `component` is the JSON form; see [`super::text::component`].
pub(super) fn write_component(component: &Value, out: &mut Vec<u8>) {
    let component = match component {
        Value::Array(items) => list_as_object(items),
        other => other.clone(),
    };
    match component {
        Value::Object(map) => {
            out.push(TAG_COMPOUND);
            write_compound(&map, out);
        }
        other => {
            out.push(TAG_STRING);
            write_string(&scalar_text(&other), out);
        }
    }
}

/// A list of components means its first one with the others as `extra`.
fn list_as_object(items: &[Value]) -> Value {
    let Some((first, rest)) = items.split_first() else {
        return Value::String(String::new());
    };
    let mut map = as_object(first);
    if !rest.is_empty() {
        let mut extra = match map.remove("extra") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        extra.extend(rest.iter().cloned());
        map.insert("extra".to_owned(), Value::Array(extra));
    }
    Value::Object(map)
}

/// A component as an object: a text or a number becomes its `text`.
fn as_object(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.clone(),
        Value::Array(items) => match list_as_object(items) {
            Value::Object(map) => map,
            other => as_object(&other),
        },
        scalar => {
            let mut map = Map::new();
            map.insert("text".to_owned(), Value::String(scalar_text(scalar)));
            map
        }
    }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn write_compound(map: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in map {
        // A field that is null is left out: NBT has no such value.
        if value.is_null() {
            continue;
        }
        out.push(tag(value));
        write_string(name, out);
        write_payload(value, out);
    }
    out.push(TAG_END);
}

fn tag(value: &Value) -> u8 {
    match value {
        Value::Null | Value::Bool(_) => TAG_BYTE,
        Value::Number(number) => match number.as_i64() {
            Some(whole) if i32::try_from(whole).is_ok() => TAG_INT,
            Some(_) => TAG_LONG,
            None => TAG_DOUBLE,
        },
        Value::String(_) => TAG_STRING,
        Value::Array(_) => TAG_LIST,
        Value::Object(_) => TAG_COMPOUND,
    }
}

fn write_payload(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(truth) => out.push(u8::from(*truth)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => match i32::try_from(whole) {
                Ok(small) => out.extend_from_slice(&small.to_be_bytes()),
                Err(_) => out.extend_from_slice(&whole.to_be_bytes()),
            },
            None => out.extend_from_slice(&number.as_f64().unwrap_or(0.0).to_be_bytes()),
        },
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_list(items, out),
        Value::Object(map) => write_compound(map, out),
    }
}

/// Writes a list. All elements of a list in NBT have one type; elements of
/// different types are components, so each is written as an object.
fn write_list(items: &[Value], out: &mut Vec<u8>) {
    let first = items.first().map_or(TAG_END, tag);
    let is_uniform = first != TAG_LIST && items.iter().all(|item| tag(item) == first);
    out.push(if is_uniform { first } else { TAG_COMPOUND });
    let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for item in items {
        if is_uniform {
            write_payload(item, out);
        } else {
            write_compound(&as_object(item), out);
        }
    }
}

/// Appends a string: its length in two bytes, then modified UTF-8, where NUL
/// takes two bytes and a character above U+FFFF six (Java's `DataOutput`).
/// The string is cut at [`STRING_BYTES_MAX`].
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    for unit in text.encode_utf16() {
        if out.len() - at - 2 + 3 > STRING_BYTES_MAX {
            break;
        }
        let [high, low] = unit.to_be_bytes();
        match unit {
            0x0001..=0x007F => out.push(low),
            0x0000 | 0x0080..=0x07FF => {
                out.push(0xC0 | high << 2 | low >> 6);
                out.push(0x80 | low & 0x3F);
            }
            _ => {
                out.push(0xE0 | high >> 4);
                out.push(0x80 | (high & 0x0F) << 2 | low >> 6);
                out.push(0x80 | low & 0x3F);
            }
        }
    }
    let bytes = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    if let Some(length) = out.get_mut(at..at + 2) {
        length.copy_from_slice(&bytes.to_be_bytes());
    }
}

/// A list or a compound that [`skip`] has entered and not left.
enum Open {
    Compound,
    /// The tag of the elements, and how many are left.
    List(u8, usize),
}

/// Skips a root tag, which has a name before 1.20.2 and none since.
///
/// # Errors
///
/// When it is malformed, or nested more than 512 deep.
pub(crate) fn skip(cursor: &mut Cursor<'_>, has_name: bool) -> Result<(), ReadError> {
    let tag = cursor.u8()?;
    if tag == TAG_END {
        return Ok(());
    }
    if has_name {
        skip_string(cursor)?;
    }
    let mut open = Vec::new();
    skip_payload(cursor, tag, &mut open)?;
    while let Some(last) = open.last_mut() {
        let tag = match last {
            Open::Compound => {
                let tag = cursor.u8()?;
                if tag != TAG_END {
                    skip_string(cursor)?;
                }
                tag
            }
            Open::List(_, 0) => TAG_END,
            Open::List(tag, left) => {
                *left -= 1;
                *tag
            }
        };
        if tag == TAG_END {
            open.pop();
        } else {
            skip_payload(cursor, tag, &mut open)?;
        }
    }
    Ok(())
}

fn skip_string(cursor: &mut Cursor<'_>) -> Result<(), ReadError> {
    let bytes = usize::from(cursor.u16()?);
    cursor.take(bytes).map(drop)
}

/// Skips a payload, or enters it if it contains tags.
fn skip_payload(cursor: &mut Cursor<'_>, tag: u8, open: &mut Vec<Open>) -> Result<(), ReadError> {
    let bytes = match tag {
        TAG_BYTE => 1,
        TAG_SHORT => 2,
        TAG_INT | TAG_FLOAT => 4,
        TAG_LONG | TAG_DOUBLE => 8,
        TAG_BYTE_ARRAY => count(cursor)?,
        TAG_INT_ARRAY => count(cursor)?.saturating_mul(4),
        TAG_LONG_ARRAY => count(cursor)?.saturating_mul(8),
        TAG_STRING => usize::from(cursor.u16()?),
        TAG_LIST | TAG_COMPOUND if open.len() >= DEPTH_MAX => return Err(ReadError::TooDeep),
        TAG_LIST => {
            let (tag, count) = list_head(cursor)?;
            open.push(Open::List(tag, count));
            0
        }
        TAG_COMPOUND => {
            open.push(Open::Compound);
            0
        }
        _ => return Err(ReadError::BadTag(tag)),
    };
    cursor.take(bytes).map(drop)
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize, ReadError> {
    usize::try_from(cursor.i32()?).map_err(|_| ReadError::NegativeLength)
}

/// The tag of a list's elements, and how many there are.
fn list_head(cursor: &mut Cursor<'_>) -> Result<(u8, usize), ReadError> {
    let tag = cursor.u8()?;
    // As in the game, a negative number of elements means none.
    let count = usize::try_from(cursor.i32()?).unwrap_or(0);
    // End tags have no bytes, so the packet's length would not bound their number.
    match tag {
        TAG_END if count > 0 => Err(ReadError::BadTag(tag)),
        _ => Ok((tag, count)),
    }
}

/// Reads a text component, a root tag without a name, and returns its JSON form.
///
/// # Errors
///
/// When it is malformed, longer than [`TEXT_BYTES_MAX`] or nested more than 96 deep.
pub(super) fn read_component(cursor: &mut Cursor<'_>) -> Result<Value, ReadError> {
    let start = cursor.clone();
    skip(cursor, false)?;
    let bytes = start.remaining() - cursor.remaining();
    if bytes > TEXT_BYTES_MAX {
        return Err(ReadError::TooLong {
            max: TEXT_BYTES_MAX,
        });
    }
    let mut text = Cursor::new(start.rest());
    match text.u8()? {
        TAG_END => Err(ReadError::BadTag(TAG_END)),
        tag => read_payload(&mut text, tag, 0),
    }
}

fn read_payload(cursor: &mut Cursor<'_>, tag: u8, depth: usize) -> Result<Value, ReadError> {
    if depth >= TEXT_DEPTH_MAX {
        return Err(ReadError::TooDeep);
    }
    Ok(match tag {
        TAG_BYTE => Value::from(cursor.u8()?.cast_signed()),
        TAG_SHORT => Value::from(cursor.u16()?.cast_signed()),
        TAG_INT => Value::from(cursor.i32()?),
        TAG_LONG => Value::from(cursor.i64()?),
        TAG_FLOAT => Value::from(cursor.f32()?),
        TAG_DOUBLE => Value::from(f64::from_bits(cursor.u64()?)),
        TAG_BYTE_ARRAY => array(cursor, |cursor| Ok(cursor.u8()?.cast_signed().into()))?,
        TAG_INT_ARRAY => array(cursor, |cursor| Ok(cursor.i32()?.into()))?,
        TAG_LONG_ARRAY => array(cursor, |cursor| Ok(cursor.i64()?.into()))?,
        TAG_STRING => Value::from(read_string(cursor)?),
        TAG_LIST => {
            let (tag, count) = list_head(cursor)?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(unwrapped(read_payload(cursor, tag, depth + 1)?));
            }
            Value::Array(items)
        }
        TAG_COMPOUND => {
            let mut map = Map::new();
            loop {
                let tag = cursor.u8()?;
                if tag == TAG_END {
                    break Value::Object(map);
                }
                let name = read_string(cursor)?;
                let value = read_payload(cursor, tag, depth + 1)?;
                map.insert(name, value);
            }
        }
        _ => return Err(ReadError::BadTag(tag)),
    })
}

fn array(
    cursor: &mut Cursor<'_>,
    read: fn(&mut Cursor<'_>) -> Result<Value, ReadError>,
) -> Result<Value, ReadError> {
    let mut items = Vec::new();
    for _ in 0..count(cursor)? {
        items.push(read(cursor)?);
    }
    Ok(Value::Array(items))
}

/// Undoes how the game writes a list of elements of different types: each element
/// that is not a compound is put in a compound, under an empty name.
fn unwrapped(value: Value) -> Value {
    match value {
        Value::Object(mut map) if map.len() == 1 => match map.remove("") {
            Some(inner) => inner,
            None => Value::Object(map),
        },
        other => other,
    }
}

/// Reads a string of modified UTF-8. Unpaired surrogates become U+FFFD.
///
/// # Errors
///
/// When it is cut off, or is not modified UTF-8.
pub(crate) fn read_string(cursor: &mut Cursor<'_>) -> Result<String, ReadError> {
    let length = usize::from(cursor.u16()?);
    let bytes = cursor.take(length)?;
    if bytes.is_ascii() {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    let mut units = Vec::with_capacity(length);
    let mut rest = bytes.iter().map(|byte| u16::from(*byte));
    let next = |rest: &mut dyn Iterator<Item = u16>| match rest.next() {
        Some(byte) if byte & 0xC0 == 0x80 => Ok(byte & 0x3F),
        _ => Err(ReadError::NotUtf8),
    };
    while let Some(byte) = rest.next() {
        units.push(match byte {
            0x00..=0x7F => byte,
            0xC0..=0xDF => (byte & 0x1F) << 6 | next(&mut rest)?,
            0xE0..=0xEF => {
                let middle = next(&mut rest)?;
                (byte & 0x0F) << 12 | middle << 6 | next(&mut rest)?
            }
            _ => return Err(ReadError::NotUtf8),
        });
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(component: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        write_component(component, &mut out);
        out
    }

    /// The two forms of a text that clients read, byte by byte.
    #[test]
    fn texts() {
        assert_eq!(written(&json!("bye")), *b"\x08\0\x03bye");
        assert_eq!(
            written(&json!({"text": "bye"})),
            *b"\x0a\x08\0\x04text\0\x03bye\0"
        );
    }

    /// Values keep their meaning: booleans are bytes, whole numbers are
    /// integers, lists of one type keep it, and mixed ones become components.
    #[test]
    fn values() {
        assert_eq!(
            written(&json!({"bold": true})),
            *b"\x0a\x01\0\x04bold\x01\0"
        );
        assert_eq!(
            written(&json!({"n": 258})),
            *b"\x0a\x03\0\x01n\0\0\x01\x02\0"
        );
        assert_eq!(
            written(&json!({"extra": ["a", "b"]})),
            *b"\x0a\x09\0\x05extra\x08\0\0\0\x02\0\x01a\0\x01b\0"
        );
        assert_eq!(
            written(&json!({"extra": ["a", {"text": "b"}]})),
            *b"\x0a\x09\0\x05extra\x0a\0\0\0\x02\x08\0\x04text\0\x01a\0\x08\0\x04text\0\x01b\0\0"
        );
        assert_eq!(
            written(&json!(["a", "b"])),
            written(&json!({"text": "a", "extra": ["b"]}))
        );
        assert_eq!(written(&json!({"a": null})), *b"\x0a\0");
    }

    /// Java's encoding of NUL and of characters outside the basic plane.
    #[test]
    fn modified_utf_8() {
        let mut out = Vec::new();
        write_string("a\0é€🦀", &mut out);
        assert_eq!(
            out,
            [
                0, 14, b'a', 0xC0, 0x80, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xED, 0xA0, 0xBE, 0xED,
                0xB6, 0x80
            ]
        );
    }

    /// A string is cut at the most bytes that its length field can hold.
    #[test]
    fn long_strings_are_cut() {
        let mut out = Vec::new();
        write_string(&"€".repeat(30_000), &mut out);
        assert_eq!(out.len(), 2 + 65_535);
        assert_eq!(out[..2], [0xFF, 0xFF]);
    }

    fn read(bytes: &[u8]) -> Result<(Value, usize), ReadError> {
        let mut cursor = Cursor::new(bytes);
        read_component(&mut cursor).map(|value| (value, cursor.remaining()))
    }

    /// What was written is read back, and the bytes after it are not consumed.
    #[test]
    fn components_come_back() {
        for value in [
            json!("a\u{0}é€🦀"),
            json!({"text": "a", "extra": ["b", "c"], "n": [1, 2], "big": 1_i64 << 40, "half": 0.5}),
            json!({"text": "", "extra": [{"text": "b", "extra": [{"text": "c"}]}]}),
            json!({}),
        ] {
            let mut bytes = written(&value);
            bytes.push(7);
            assert_eq!(read(&bytes), Ok((value, 1)));
        }
        // Booleans are numbers in NBT.
        assert_eq!(
            read(&written(&json!({"bold": true}))),
            Ok((json!({"bold": 1}), 0))
        );
    }

    /// Every kind of tag is read, also those that we do not write.
    #[test]
    fn every_tag_is_read() {
        let bytes = b"\x0a\x02\0\x01s\xff\xfe\x05\0\x01f\x3f\0\0\0\x07\0\x01b\0\0\0\x01\xff\
            \x0b\0\x01i\0\0\0\x01\0\0\0\x05\x0c\0\x01l\0\0\0\x01\0\0\0\0\0\0\0\x06\
            \x09\0\x01m\x0a\0\0\0\x02\x08\0\0\0\x01x\0\x0a\0\0\0\0\x09\0\x01e\0\0\0\0\0\0";
        let value = json!({
            "s": -2, "f": 0.5, "b": [-1], "i": [5], "l": [6], "m": ["x", {}], "e": [],
        });
        assert_eq!(read(bytes), Ok((value, 0)));
    }

    /// Wrong sizes and deep nesting are refused before they cost memory or time.
    #[test]
    fn hostile_tags() {
        let many = b"\x09\0\x7f\xff\xff\xff";
        assert_eq!(read(many), Err(ReadError::BadTag(0)));
        assert_eq!(read(b"\x0b\x7f\xff\xff\xff"), Err(ReadError::Short));
        assert_eq!(
            read(b"\x07\xff\xff\xff\xff"),
            Err(ReadError::NegativeLength)
        );
        assert_eq!(read(b"\x0d"), Err(ReadError::BadTag(13)));
        assert_eq!(read(b"\0"), Err(ReadError::BadTag(0)));
        assert_eq!(read(b"\x08\0\x01\xff"), Err(ReadError::NotUtf8));
        let lists = |levels: usize| {
            let mut bytes = vec![TAG_LIST];
            for _ in 1..levels {
                bytes.extend([TAG_LIST, 0, 0, 0, 1]);
            }
            bytes.extend([TAG_END, 0, 0, 0, 0]);
            bytes
        };
        let skipped = |levels| skip(&mut Cursor::new(&lists(levels)), false);
        assert_eq!(skipped(DEPTH_MAX), Ok(()));
        assert_eq!(skipped(DEPTH_MAX + 1), Err(ReadError::TooDeep));
        assert_eq!(skipped(1_000_000), Err(ReadError::TooDeep));
        assert!(read(&lists(TEXT_DEPTH_MAX)).is_ok());
        assert_eq!(read(&lists(TEXT_DEPTH_MAX + 1)), Err(ReadError::TooDeep));
        let long = [&b"\x07\0\x04\0\0"[..], &[0; TEXT_BYTES_MAX]].concat();
        let max = TEXT_BYTES_MAX;
        assert_eq!(read(&long), Err(ReadError::TooLong { max }));
    }

    proptest! {
        /// Any bytes are skipped, read or refused, with a name and without.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(0_u8..14, 0..200), has_name: bool) {
            let _ = skip(&mut Cursor::new(&bytes), has_name);
            let _ = read(&bytes);
        }

        /// A truncated component is refused.
        #[test]
        fn cut_bytes(text: String, number: i64) {
            let bytes = written(&json!({"text": text, "extra": [{"n": number}, "x"]}));
            for end in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..end]), Err(ReadError::Short));
            }
        }
    }
}
