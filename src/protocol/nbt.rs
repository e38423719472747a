//! Text components as NBT, as the game writes them since 1.20.3, and the
//! strings of that format.
//!
//! Source of the format: the game since 1.20.2 writes the root tag without a
//! name. A component that is only a text may be a bare string tag.

use serde_json::{Map, Value};

const TAG_END: u8 = 0;
const TAG_BYTE: u8 = 1;
const TAG_INT: u8 = 3;
const TAG_LONG: u8 = 4;
const TAG_DOUBLE: u8 = 6;
const TAG_STRING: u8 = 8;
const TAG_LIST: u8 = 9;
const TAG_COMPOUND: u8 = 10;

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

/// A list of components stands for its first one with the others as `extra`.
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

/// The elements of a list have one type. Where they differ they are components,
/// and each has a form as an object.
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
/// What exceeds [`STRING_BYTES_MAX`] is cut.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
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

    /// Values keep their meaning: truth values are bytes, whole numbers are
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

    /// A string never exceeds what its length can say.
    #[test]
    fn long_strings_are_cut() {
        let mut out = Vec::new();
        write_string(&"€".repeat(30_000), &mut out);
        assert_eq!(out.len(), 2 + 65_535);
        assert_eq!(out[..2], [0xFF, 0xFF]);
    }
}
