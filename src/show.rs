//! Makes texts from others safe to show in logs, terminals and messages.
//!
//! Names, hosts, files and plugins come from strangers: a line break forges a log
//! line, an escape sequence drives the terminal that shows it, a direction mark
//! makes one host look like another. [`must_not_show`] decides which characters
//! are written as escapes, and there are three forms: a word ([`Escaped`]), a
//! quoted value ([`Quoted`]) and a line ([`Line`]).

use std::fmt::{self, Write};
use std::path::Path;

/// The most characters of a word that are shown. A virtual host or a player name
/// that is longer is an attack or a mistake, and 64 show which.
pub(crate) const ESCAPED_CHARS_MAX: usize = 64;
/// The most characters of a quoted value that are shown; a message that quotes
/// a value shows its place as well.
pub(crate) const QUOTED_CHARS_MAX: usize = 60;
/// The most characters of a line that are shown. A path has at most 4096 bytes
/// (`PATH_MAX`), and what a plugin writes has seldom more.
pub(crate) const LINE_CHARS_MAX: usize = 65_536;

/// Whether a character does not print as itself: control characters, line
/// separators, direction marks and other format characters, spaces other than
/// the plain one, unassigned code points.
#[must_use]
pub(crate) fn must_not_show(c: char) -> bool {
    if matches!(c, '\\' | '\'' | '"') {
        return false;
    }
    // The standard library has Unicode's tables, and escapes what does not
    // print. A combining mark prints behind another character, so it is asked
    // for there.
    let mut text = [0; 8];
    let bytes = 1 + c.len_utf8();
    text[0] = b'a';
    c.encode_utf8(&mut text[1..]);
    let text = std::str::from_utf8(&text[..bytes]).unwrap_or_default();
    text.escape_debug().nth(1) != Some(c)
}

/// A word of a peer, such as a name or a host, for a line of `key=value` pairs.
///
/// Spaces and combining marks are escaped too: without a space the text stays one
/// word, so that it cannot add a `key=value` of its own. Backslashes and double
/// quotes are escaped, so that an escape cannot be faked and the result can stand
/// between double quotes. After [`ESCAPED_CHARS_MAX`] characters comes `…`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, is_cut) = cut(self.0, ESCAPED_CHARS_MAX);
        for c in shown.chars() {
            match c {
                // Harmless between double quotes.
                '\'' => f.write_char(c)?,
                ' ' => f.write_str("\\u{20}")?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        f.write_str(if is_cut { "…" } else { "" })
    }
}

/// A value in a message: between backticks, after [`QUOTED_CHARS_MAX`] characters
/// with `…`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A pair of backticks alone would look like a mistake of ours.
        if self.0.is_empty() {
            return f.write_str("`\"\"`");
        }
        let (shown, is_cut) = cut(self.0, QUOTED_CHARS_MAX);
        f.write_char('`')?;
        for c in shown.chars() {
            // A file may have the same escape in it.
            if must_not_show(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_str(if is_cut { "…`" } else { "`" })
    }
}

/// A text that stays on its line, and is otherwise shown as it is; after
/// [`LINE_CHARS_MAX`] characters with `…`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a>(pub &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, is_cut) = cut(self.0, LINE_CHARS_MAX);
        for c in shown.chars() {
            if must_not_show(c) {
                write!(f, "{}", c.escape_debug())?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_str(if is_cut { "…" } else { "" })
    }
}

/// The [`Line`] of the first `chars_max` characters of a text.
#[must_use]
pub(crate) fn start_of_line(text: &str, chars_max: usize) -> String {
    let (shown, is_cut) = cut(text, chars_max);
    format!("{}{}", Line(shown), if is_cut { "…" } else { "" })
}

/// The [`Line`] of a path.
#[must_use]
pub(crate) fn path(path: &Path) -> String {
    Line(&path.to_string_lossy()).to_string()
}

/// The first `chars_max` characters of a text, and whether there are more.
fn cut(text: &str, chars_max: usize) -> (&str, bool) {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), true),
        None => (text, false),
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

    /// A line and a value keep what prints, and nothing else: their spaces,
    /// quotation marks and combining marks, but no character that is not seen.
    #[test]
    fn lines_and_values_keep_what_prints() {
        for text in [
            "a b's \"c\"",
            "C:\\x",
            "bücher.例え",
            "e\u{301}",
            "\u{915}\u{94d}",
            "§a",
        ] {
            assert_eq!(Line(text).to_string(), text);
            assert_eq!(Quoted(text).to_string(), format!("`{text}`"));
        }
        for c in [
            '\0',
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{a0}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{3000}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e0041}',
        ] {
            assert!(must_not_show(c), "{}", c.escape_unicode());
            assert!(!Line(&c.to_string()).to_string().contains(c));
            assert!(!Quoted(&c.to_string()).to_string().contains(c));
            assert!(!Escaped(&c.to_string()).to_string().contains(c));
        }
        assert_eq!(Line("a\nb\u{202e}").to_string(), r"a\nb\u{202e}");
        assert_eq!(start_of_line("a\nbc", 3), r"a\nb…");
        assert_eq!(start_of_line("abc", 3), "abc");
    }

    proptest! {
        /// For any text, the output has no control character and is short.
        #[test]
        fn output_is_printable_and_bounded(text in "\\PC*|.{0,200}|[\\x00-\\x1f\u{80}-\u{9f}]{0,99}") {
            let shown = Escaped(&text).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= ESCAPED_CHARS_MAX * 10 + 1);
        }
    }
}
