//! Text of peers, made safe for logs and terminals.
//!
//! Names and hosts come from strangers: a line break forges a log line, an
//! escape sequence drives the terminal that shows it, a direction mark makes
//! one host look like another.

use std::fmt::{self, Write};

/// The most characters of a peer's text that are shown. A virtual host or a
/// player name that is longer is an attack or a mistake, and 64 show which.
pub const ESCAPED_CHARS_MAX: usize = 64;

/// A peer's text that may be written to a log or a terminal.
///
/// Whatever does not print as itself is written as an escape: control
/// characters, line separators, direction marks and other format characters,
/// spaces of all kinds, combining marks, unassigned code points. Without a space
/// the text stays one word, so that it cannot add a `key=value` of its own to a
/// line of them. Backslashes and double quotes are escaped too, so that an
/// escape cannot be faked and the result can stand between double quotes. After
/// [`ESCAPED_CHARS_MAX`] characters of the text comes `…`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(ESCAPED_CHARS_MAX) {
            match c {
                // Harmless between double quotes.
                '\'' => f.write_char(c)?,
                ' ' => f.write_str("\\u{20}")?,
                // The standard library knows what prints, with Unicode's tables.
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        if chars.next().is_some() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nothing that moves a cursor, breaks a line or turns the direction gets through.
    #[test]
    fn dangerous_characters_are_escaped() {
        let table = [
            ("Steve_1", "Steve_1"),
            ("it's", "it's"),
            ("x client=192.0.2.1", "x\\u{20}client=192.0.2.1"),
            ("bücher.例え", "bücher.例え"),
            ("a\r\nb", "a\\r\\nb"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\0b", "a\\0b"),
            ("\u{7f}", "\\u{7f}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("\u{202e}\u{2066}\u{200f}", "\\u{202e}\\u{2066}\\u{200f}"),
            ("\u{200b}\u{feff}\u{ad}", "\\u{200b}\\u{feff}\\u{ad}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("\\n\"", "\\\\n\\\""),
            ("${jndi:ldap://x}", "${jndi:ldap://x}"),
        ];
        for (text, expected) in table {
            assert_eq!(Escaped(text).to_string(), expected);
        }
    }

    /// The limit counts characters of the text, and only a cut text says so.
    #[test]
    fn long_texts_are_cut() {
        let at = "a".repeat(ESCAPED_CHARS_MAX);
        assert_eq!(Escaped(&at).to_string(), at);
        assert_eq!(Escaped(&format!("{at}a")).to_string(), format!("{at}…"));
        assert_eq!(Escaped("").to_string(), "");
    }

    proptest! {
        /// Whatever the text: no control character comes out, and it stays short.
        #[test]
        fn output_is_printable_and_bounded(text in "\\PC*|.{0,200}|[\\x00-\\x1f\u{80}-\u{9f}]{0,99}") {
            let shown = Escaped(&text).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= ESCAPED_CHARS_MAX * 10 + 1);
        }
    }
}
