//! Guesses the intended value: the text of an address or a host without what
//! other programs write around it.
//!
//! A help with a wrong value is worse than none. So a caller checks each of these
//! with the rules before it proposes it.

/// The most values in one text that a help repeats; with more it only shows how a
/// list is written.
const PIECES_MAX: usize = 8;

/// Quotation marks that a word processor or a chat program writes for `"` and `'`.
pub(super) const TYPOGRAPHIC_QUOTES: [char; 12] = [
    '\u{201C}', '\u{201D}', '\u{201E}', '\u{201F}', '\u{2018}', '\u{2019}', '\u{201A}', '\u{201B}',
    '\u{00AB}', '\u{00BB}', '\u{2033}', '\u{2032}',
];

/// The values in one text: between commas, semicolons, bars and white space.
/// `None` when there are none, or too many to repeat.
pub(super) fn pieces(text: &str) -> Option<Vec<&str>> {
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|');
    let mut pieces = Vec::new();
    for piece in text.split(separates).filter(|piece| !piece.is_empty()) {
        if pieces.len() == PIECES_MAX {
            return None;
        }
        pieces.push(piece);
    }
    (!pieces.is_empty()).then_some(pieces)
}

/// A value without quotes, scheme, slashes in front and path behind.
pub(super) fn bare(piece: &str) -> &str {
    let is_quote =
        |c: char| matches!(c, '"' | '\'' | '`') || TYPOGRAPHIC_QUOTES.contains(&c) || c == ' ';
    let piece = piece.trim_matches(is_quote);
    let piece = match piece.split_once("://") {
        Some((_, rest)) => rest,
        None => piece,
    };
    let piece = piece.trim_start_matches('/');
    piece.split('/').next().unwrap_or(piece)
}

/// `write "a"`, or `write a list: key = ["a", "b"]`; `None` without a value.
///
/// `in_list` says that the values replace one entry of a list that is there.
pub(super) fn write(values: &[String], key: &str, in_list: bool) -> Option<String> {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    match &quoted[..] {
        [] => None,
        [one] => Some(format!("write `{one}`")),
        several if in_list => Some(format!("write an entry for each: `{}`", several.join(", "))),
        several => Some(format!("write a list: `{key} = [{}]`", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several values in one text are found, and a text with too many is not repeated.
    #[test]
    fn values_are_split() {
        assert_eq!(pieces(" a, b;c | d ").unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(pieces(" ,; "), None);
        assert_eq!(pieces(&"a ".repeat(PIECES_MAX)).unwrap().len(), PIECES_MAX);
        assert_eq!(pieces(&"a ".repeat(PIECES_MAX + 1)), None);
    }

    /// Quotes, schemes and paths around a host are removed.
    #[test]
    fn values_lose_what_surrounds_them() {
        for (text, meant) in [
            ("tcp://10.0.0.5:25565", "10.0.0.5:25565"),
            ("/mcvanilla:25565", "mcvanilla:25565"),
            ("http://a.example.com/lobby", "a.example.com"),
            ("“a.example.com”", "a.example.com"),
            ("'a'", "a"),
            ("//", ""),
        ] {
            assert_eq!(bare(text), meant);
        }
    }
}
