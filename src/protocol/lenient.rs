//! JSON as the game's client reads it, which is more than RFC 8259 allows.
//!
//! Clients read status answers with Gson. All of them accept raw control characters
//! in texts and ignore what follows the value. Those with a lenient reader also
//! accept comments, single quotes, bare words, `=` and `;`. Some servers send such
//! texts, so a proxy with a stricter parser would refuse answers that clients
//! read. This one accepts what any client accepts. Source: the documentation of
//! `setLenient` of Gson's `JsonReader`, version 2.11.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// The deepest nesting of values, as in the strict parser of `serde_json`.
const DEPTH_MAX: usize = 128;
/// The most values in a text, which bounds the memory of the result to some 8 MiB
/// in addition to the text. A large mod pack announces some thousands.
const VALUES_MAX: usize = 65_536;
/// A prefix of some servers, so that browsers do not run an answer as a script.
const NOT_A_SCRIPT: &str = ")]}'\n";

/// Why a text is not JSON, even for a lenient reader.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LenientError {
    /// It ends within a value, a text or a comment.
    #[error("the text ends too early")]
    Ended,
    /// A character is in a place where no reader accepts it.
    #[error("`{}` at byte {offset} is not expected there", .character.escape_debug())]
    Unexpected {
        /// The character.
        character: char,
        /// Its position, in bytes.
        offset: usize,
    },
    /// Values are nested too deeply.
    #[error("values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// There are too many values.
    #[error("there are more than {VALUES_MAX} values")]
    TooMany,
    /// The value is not an object.
    #[error("the value is not an object")]
    NotAnObject,
}

/// Reads the object that `text` begins with. What follows it is ignored.
///
/// If a key occurs twice, the last value wins. An unpaired surrogate becomes a
/// replacement character. A bare word is a text.
///
/// # Errors
///
/// See [`LenientError`].
pub(super) fn object(text: &str) -> Result<Map<String, Value>, LenientError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        all: text,
        rest: body.strip_prefix(NOT_A_SCRIPT).unwrap_or(body),
        values: 0,
    };
    match reader.after_blank()? {
        '{' => reader.members(DEPTH_MAX - 1),
        _ => Err(LenientError::NotAnObject),
    }
}

struct Reader<'a> {
    all: &'a str,
    rest: &'a str,
    /// The values read so far.
    values: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// The next character.
    fn next(&mut self) -> Result<char, LenientError> {
        let mut chars = self.rest.chars();
        let next = chars.next().ok_or(LenientError::Ended)?;
        self.rest = chars.as_str();
        Ok(next)
    }

    /// Consumes the next character if it is `wanted`, and says whether it was.
    fn takes(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// An error about the character that was read last.
    fn unexpected<T>(&self, character: char) -> Result<T, LenientError> {
        let read = self.all.len() - self.rest.len();
        Err(LenientError::Unexpected {
            character,
            offset: read.saturating_sub(character.len_utf8()),
        })
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), LenientError> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                let end = self.rest.find(['\r', '\n']);
                self.rest = end.map_or("", |end| &self.rest[end..]);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let (_, after) = comment.split_once("*/").ok_or(LenientError::Ended)?;
                self.rest = after;
            } else {
                return Ok(());
            }
        }
    }

    /// The next character that is neither white space nor in a comment.
    fn after_blank(&mut self) -> Result<char, LenientError> {
        self.skip_blank()?;
        self.next()
    }

    /// Reads the members of an object after its `{`.
    fn members(&mut self, depth: usize) -> Result<Map<String, Value>, LenientError> {
        let mut members = Map::new();
        self.skip_blank()?;
        if self.takes('}') {
            return Ok(members);
        }
        loop {
            let key = match self.after_blank()? {
                quote @ ('"' | '\'') => self.quoted(quote)?,
                first => self.bare(first)?,
            };
            match self.after_blank()? {
                ':' => {}
                '=' => {
                    self.takes('>');
                }
                other => return self.unexpected(other),
            }
            let value = self.value(depth)?;
            members.insert(key, value);
            match self.after_blank()? {
                ',' | ';' => {}
                '}' => return Ok(members),
                other => return self.unexpected(other),
            }
        }
    }

    /// Reads the items of a list after its `[`. A missing item is null.
    fn items(&mut self, depth: usize) -> Result<Vec<Value>, LenientError> {
        let mut items = Vec::new();
        self.skip_blank()?;
        if self.takes(']') {
            return Ok(items);
        }
        loop {
            self.skip_blank()?;
            items.push(match self.peek() {
                Some(',' | ';' | ']') => {
                    self.count()?;
                    Value::Null
                }
                _ => self.value(depth)?,
            });
            match self.after_blank()? {
                ',' | ';' => {}
                ']' => return Ok(items),
                other => return self.unexpected(other),
            }
        }
    }

    fn count(&mut self) -> Result<(), LenientError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(LenientError::TooMany);
        }
        Ok(())
    }

    /// Reads a value with at most `depth` levels of nesting.
    fn value(&mut self, depth: usize) -> Result<Value, LenientError> {
        self.count()?;
        let below = depth.checked_sub(1).ok_or(LenientError::TooDeep);
        Ok(match self.after_blank()? {
            '{' => Value::Object(self.members(below?)?),
            '[' => Value::Array(self.items(below?)?),
            quote @ ('"' | '\'') => Value::String(self.quoted(quote)?),
            first => literal(self.bare(first)?),
        })
    }

    /// Reads a text after its opening quote. Raw control characters are part of it.
    fn quoted(&mut self, quote: char) -> Result<String, LenientError> {
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' => text.push(self.escape()?),
                end if end == quote => return Ok(text),
                other => text.push(other),
            }
        }
    }

    /// Reads an escape after its backslash: the character that it means.
    fn escape(&mut self) -> Result<char, LenientError> {
        Ok(match self.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            same @ ('"' | '\'' | '\\' | '/' | '\n') => same,
            'u' => {
                let unit = self.unit()?;
                match unit {
                    0xD800..0xDC00 => self.low_surrogate(unit),
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => return self.unexpected(other),
        })
    }

    /// The character of a high surrogate and the low one in the next escape. If no
    /// low one follows, the replacement character, and nothing is consumed.
    fn low_surrogate(&mut self, high: u32) -> char {
        let before = self.rest;
        if self.takes('\\')
            && self.takes('u')
            && let Ok(low @ 0xDC00..0xE000) = self.unit()
        {
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        self.rest = before;
        char::REPLACEMENT_CHARACTER
    }

    /// Reads four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, LenientError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.next()?;
            match digit.to_digit(16) {
                Some(value) => unit = unit * 16 + value,
                None => return self.unexpected(digit),
            }
        }
        Ok(unit)
    }

    /// Reads a word without quotes that begins with `first`.
    fn bare(&mut self, first: char) -> Result<String, LenientError> {
        if ends_word(first) {
            return self.unexpected(first);
        }
        let end = self.rest.find(ends_word).unwrap_or(self.rest.len());
        let mut word = String::with_capacity(first.len_utf8() + end);
        word.push(first);
        word.push_str(&self.rest[..end]);
        self.rest = &self.rest[end..];
        Ok(word)
    }
}

/// Whether a character ends a word without quotes.
fn ends_word(c: char) -> bool {
    matches!(
        c,
        '/' | '\\'
            | ';'
            | '#'
            | '='
            | '{'
            | '}'
            | '['
            | ']'
            | ':'
            | ','
            | ' '
            | '\t'
            | '\u{c}'
            | '\r'
            | '\n'
    )
}

/// What a word without quotes means.
fn literal(word: String) -> Value {
    if word.eq_ignore_ascii_case("null") {
        return Value::Null;
    }
    for (name, value) in [("true", true), ("false", false)] {
        if word.eq_ignore_ascii_case(name) {
            return Value::Bool(value);
        }
    }
    match word.parse::<Number>() {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(word),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        match object(text) {
            Ok(object) => Value::Object(object),
            Err(error) => panic!("{text:?}: {error}"),
        }
    }

    /// Texts beyond the standard that clients accept, and their values.
    #[test]
    fn texts_that_clients_accept() {
        for (text, expected) in [
            ("{}", json!({})),
            ("\u{feff} {}", json!({})),
            (")]}'\n{}", json!({})),
            ("{\"a\":\"b\nc\td\u{1}\"}", json!({"a": "b\nc\td\u{1}"})),
            ("{\"a\":1} and more {", json!({"a": 1})),
            ("{\"a\":1,\"a\":2}", json!({"a": 2})),
            (r#"{"a":"\ud83d\ude00"}"#, json!({"a": "😀"})),
            (r#"{"a":"\ud83dx"}"#, json!({"a": "\u{fffd}x"})),
            (r#"{"a":"\ud83d\n"}"#, json!({"a": "\u{fffd}\n"})),
            (r#"{"a":"\ude00"}"#, json!({"a": "\u{fffd}"})),
            (r#"{"a":"\ud83d\ud83d\ude00"}"#, json!({"a": "\u{fffd}😀"})),
            (r#"{"a":"\'\/\b"}"#, json!({"a": "'/\u{8}"})),
            ("{'a':'\"'}", json!({"a": "\""})),
            ("{a=b;c=>1}", json!({"a": "b", "c": 1})),
            ("{\"a\":[1,,]}", json!({"a": [1, null, null]})),
            ("{\"a\":[;]}", json!({"a": [null, null]})),
            ("{\"a\":TRUE,\"b\":Null}", json!({"a": true, "b": null})),
            ("{\"a\":NaN,\"b\":01}", json!({"a": "NaN", "b": "01"})),
            ("{\"a\":-1.5e3}", json!({"a": -1500.0})),
            ("/* x */{#y\n\"a\"//z\r:1/**/}", json!({"a": 1})),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    /// Texts that no client accepts.
    #[test]
    fn texts_that_no_client_accepts() {
        for text in [
            "",
            "nonsense",
            "[]",
            "\"x\"",
            "1",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\" 1}",
            "{\"a\":\"x}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u12",
            "{\"a\":1 2}",
            "{\"a\":[1}",
            "{/*",
            "{\"a\":[1 2]}",
            "{{}}",
            "{\"a\"::1}",
            "{a:b c:d}",
        ] {
            assert!(object(text).is_err(), "{text}");
        }
    }

    /// Depth and number of values have their limits.
    #[test]
    fn limits() {
        let nested = |depth: usize| {
            let lists = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(lists), "]".repeat(lists))
        };
        assert!(object(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(object(&nested(DEPTH_MAX + 1)), Err(LenientError::TooDeep));
        assert_eq!(object(&"{a:".repeat(80_000)), Err(LenientError::TooDeep));

        // A list and its items are values, and each comma ends one.
        let many = |values: usize| format!("{{\"a\":[{}]}}", ",".repeat(values - 2));
        assert!(object(&many(VALUES_MAX)).is_ok());
        assert_eq!(object(&many(VALUES_MAX + 1)), Err(LenientError::TooMany));
    }

    proptest! {
        /// Strict JSON has the same value as with a strict parser.
        #[test]
        fn strict_json_has_the_same_value(text in r#"\{("[a-z\\u0-9]{0,4}":(-?[0-9]{1,3}(\.[0-9]{1,2})?(e[0-9])?|true|null|"([a-z]|\\n|\\u00e9|\\\\){0,5}"|\[[0-9 ,]{0,5}\]|\{\}),?){0,4}\}"#) {
            if let Ok(strict) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(object(&text).map(Value::Object), Ok(strict));
            }
        }

        /// No text makes the reader panic.
        #[test]
        fn any_text(text in "([\\[\\]{}:,;=#/*\"'\\\\u0-9a-f \n]|\\PC){0,60}") {
            let _ = (object(&text), object(&format!("{{{text}")), object(&format!("{{\"a\":\"{text}")));
        }
    }
}
