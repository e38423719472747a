//! Recognizes names of keys that hold a secret, also misspelt ones.
//!
//! The value behind such a name is not shown. Hiding too much costs a look into
//! the file; showing too much puts a secret into terminals, logs and bug reports.

use std::ops::Range;

use crate::config::hints::Hints;

/// A name that contains one of these holds a secret.
const WORDS: [&str; 8] = [
    "secret",
    "token",
    "password",
    "passwd",
    "api_key",
    "apikey",
    "api-key",
    "private_key",
];

/// A name with a part that nearly equals one of these holds a secret, too.
const NEARLY: [&str; 3] = ["secret", "token", "password"];

/// Longer names are not compared: a comparison costs the product of both lengths, and no
/// misspelt name is that long.
const COMPARED_BYTES_MAX: usize = 40;

/// Whether a key of this name, or a path of keys with dots between, probably
/// holds a secret: one of [`WORDS`] is in it, or it is nearly the name of a key
/// that is a secret.
pub(super) fn names_a_secret(name: &str, hints: &Hints) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
        || parts(&name, |c| !c.is_alphanumeric()).any(|part| is_nearly(part, NEARLY, 3))
        || parts(&name, |c| !c.is_alphanumeric() && c != '_' && c != '-')
            .any(|key| is_nearly(key, hints.secret_names().iter().copied(), 4))
}

fn parts(name: &str, is_between: fn(char) -> bool) -> impl Iterator<Item = &str> {
    let parts = name.split(is_between);
    parts.filter(|part| (2..=COMPARED_BYTES_MAX).contains(&part.len()))
}

/// Whether at most every `nth` letter of one of `words` differs.
fn is_nearly<'a>(part: &str, words: impl IntoIterator<Item = &'a str>, nth: usize) -> bool {
    words.into_iter().any(|word| {
        let differing_max = word.len() / nth;
        part.len().abs_diff(word.len()) <= 2 * differing_max
            && strsim::damerau_levenshtein(part, word) <= differing_max
    })
}

/// The parts of a text that cannot be parsed in which a secret may stand:
/// whatever follows a name of one on its line, and the lines below that belong
/// to it, by their quotes, their brackets, their indentation or their header.
pub(super) fn spans(text: &str, hints: &Hints) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut below = Below::Nothing;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let from = match below.covers(line) {
            true => Some(0),
            false => {
                let from = value_of_a_secret(line, hints);
                below = Below::line(line, from, hints);
                from
            }
        };
        if let Some(from) = from.map(|from| start + from).filter(|from| *from < end) {
            spans.push(from..end);
        }
        start += line.len();
    }
    spans
}

/// The following lines that belong to a secret.
enum Below {
    Nothing,
    /// Those up to one with these signs.
    Until(&'static str),
    /// Those that are indented or empty.
    Indented,
    /// Those up to the next header of a table.
    Table,
}

impl Below {
    /// The lines that belong to a secret which begins at `from` in this line.
    fn line(line: &str, from: Option<usize>, hints: &Hints) -> Self {
        let line = line.trim_end();
        if is_header(line) && names_a_secret(line, hints) {
            return Self::Table;
        }
        let Some(value) = from.and_then(|from| line.get(from..)) else {
            return Self::Nothing;
        };
        for quotes in ["\"\"\"", "'''"] {
            if value.starts_with(quotes) && value.matches(quotes).count() == 1 {
                return Self::Until(quotes);
            }
        }
        for (open, close) in [('[', "]"), ('{', "}")] {
            if value.starts_with(open) && !value.contains(close) {
                return Self::Until(close);
            }
        }
        match value {
            "" | "|" | ">" => Self::Indented,
            _ => Self::Nothing,
        }
    }

    /// Whether this line belongs to the secret.
    fn covers(&mut self, line: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Until(signs) => {
                if line.contains(*signs) {
                    *self = Self::Nothing;
                }
                true
            }
            Self::Indented => {
                let is_below = line.trim().is_empty() || line.starts_with([' ', '\t', '-']);
                if !is_below {
                    *self = Self::Nothing;
                }
                is_below
            }
            Self::Table => {
                if is_header(line) {
                    *self = Self::Nothing;
                }
                !is_header(line)
            }
        }
    }
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The offset of the value of a key that probably holds a secret.
fn value_of_a_secret(line: &str, hints: &Hints) -> Option<usize> {
    if is_header(line) {
        return None;
    }
    let mut name_start = 0;
    let mut has_sign = false;
    for (sign, _) in line.match_indices(['=', ':']) {
        has_sign = true;
        if names_a_secret(&line[name_start..sign], hints) {
            return Some(value_after(line, sign + 1));
        }
        name_start = sign + 1;
    }
    // `secret "value"`: the equals sign is missing.
    let name_end = line.trim_start().find([' ', '\t'])? + line.len() - line.trim_start().len();
    (!has_sign && names_a_secret(&line[..name_end], hints)).then(|| value_after(line, name_end))
}

fn value_after(line: &str, at: usize) -> usize {
    let value = &line[at..];
    at + value.len() - value.trim_start_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::known::HINTS;

    /// Names of secrets in any spelling, and similar names of other keys.
    #[test]
    fn names() {
        for name in [
            "secret",
            "forwarding_secret",
            "forward_secret",
            "forwarding_secert",
            "forwardingSecret",
            "forwardingsekret",
            "secert",
            "scret",
            "secrets",
            "forwarding_secret.value",
            "infrarust.forwarding-secert.text",
            "TOKEN",
            "bungeeguard_tokn",
            "token_list",
            "pasword",
            "rcon.passwrod",
            "db_password_old",
        ] {
            assert!(names_a_secret(name, &HINTS), "{name}");
        }
        for name in [
            "",
            "server",
            "servers",
            "domains",
            "mode",
            "forwarding_mode",
            "relay",
            "motd.online.text",
            "network",
            "address",
            "infrarust.domains",
        ] {
            assert!(!names_a_secret(name, &HINTS), "{name}");
        }
        assert!(!names_a_secret(&"x".repeat(1 << 20), &HINTS));
    }

    /// In a text that cannot be parsed, secrets in every form are hidden completely, and
    /// the rest is shown.
    #[test]
    fn texts() {
        for text in [
            "secret = \"HIDE\"",
            "a = { forwarding_secert = \"HIDE\" }",
            "forwarding_secert: HIDE",
            "secret \"HIDE\"",
            "secret = \"\"\"\nHIDE\nHIDE\"\"\"",
            "token = [\n  \"HIDE\",\n  \"HIDE\"]",
            "secret = {\n value = \"HIDE\"\n}",
            "secret:\n  - HIDE\n\n  x: HIDE",
            "secret: |\n  HIDE",
            "[forwarding.secert]\nvalue = \"HIDE\"\n\ntext = \"HIDE\"\n",
        ] {
            let text = format!("before = 1\n{text}\nafter = 2\n[table]\nlast = 3\n");
            let mut shown = text.clone();
            for span in spans(&text, &HINTS).into_iter().rev() {
                shown.replace_range(span, "*");
            }
            assert!(!shown.contains("HIDE"), "{shown}");
            assert!(shown.contains("before = 1") && shown.contains("last = 3"));
            assert!(
                shown.contains("after = 2") || text.contains("[forwarding"),
                "{shown}"
            );
        }
    }
}
