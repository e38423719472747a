//! Cleaning of host names.

use std::borrow::Cow;

use thiserror::Error;

/// The longest label of a host name in bytes (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// The longest host name in bytes: the handshake's own limit for its field.
const HOST_BYTES_MAX: usize = 255;

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadHost {
    /// Nothing is left of it.
    #[error("it is empty")]
    Empty,
    /// Two dots stand side by side, or one stands in front.
    #[error("it has an empty label")]
    EmptyLabel,
    /// A label is over 63 bytes.
    #[error("the label `{0}` has more than 63 bytes")]
    LongLabel(String),
    /// The whole is over 255 bytes.
    #[error("it has more than 255 bytes")]
    TooLong,
    /// A character cannot be part of a host name.
    #[error("`{}` cannot be part of a host name", .0.escape_debug())]
    BadCharacter(char),
    /// The name cannot be written in punycode.
    #[error("it is not a valid international name")]
    BadInternational,
}

/// The form in which host names are compared: lower case, in punycode, without
/// a trailing dot.
///
/// Wildcards (`*`, `?`) pass, so that patterns and names share this function.
///
/// # Errors
///
/// When the text cannot be a host name; see [`BadHost`].
pub fn normalize(text: &str) -> Result<String, BadHost> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(BadHost::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !may_be_in_host(*c)) {
        return Err(BadHost::BadCharacter(bad));
    }
    let ascii: Cow<'_, str> = if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        // Each label on its own, so that a wildcard beside a name in another
        // script does not make the whole pattern invalid.
        let labels: Result<Vec<String>, _> = text
            .split('.')
            .map(|label| {
                if label.is_ascii() {
                    Ok(label.to_ascii_lowercase())
                } else {
                    idna::domain_to_ascii(label).map_err(|_| BadHost::BadInternational)
                }
            })
            .collect();
        Cow::Owned(labels?.join("."))
    };
    if ascii.len() > HOST_BYTES_MAX {
        return Err(BadHost::TooLong);
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err(BadHost::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(BadHost::LongLabel(label.to_owned()));
        }
    }
    Ok(ascii.into_owned())
}

/// Letters, digits, `-`, `_`, `.`, wildcards, and everything outside ASCII but
/// control characters, white space and quotation marks.
fn may_be_in_host(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '?')
    } else {
        // Quotation marks of word processors around a name are a typing mistake.
        let is_quote = matches!(c, '\u{2018}'..='\u{201F}' | '\u{AB}' | '\u{BB}');
        !c.is_control() && !c.is_whitespace() && !is_quote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in upper case, with a trailing dot or in other scripts have one form.
    #[test]
    fn equal_names_have_one_form() {
        assert_eq!(normalize("Play.Example.COM.").unwrap(), "play.example.com");
        assert_eq!(
            normalize("bücher.example").unwrap(),
            "xn--bcher-kva.example"
        );
        assert_eq!(
            normalize("BÜCHER.example").unwrap(),
            "xn--bcher-kva.example"
        );
        assert_eq!(normalize("*.例え.jp").unwrap(), "*.xn--r8jz45g.jp");
        assert_eq!(normalize("mc_1.lan").unwrap(), "mc_1.lan");
    }

    /// Texts that cannot be host names are refused with a reason.
    #[test]
    fn invalid_names_are_refused_with_a_reason() {
        assert_eq!(normalize(""), Err(BadHost::Empty));
        assert_eq!(normalize("."), Err(BadHost::Empty));
        assert_eq!(normalize("a..b"), Err(BadHost::EmptyLabel));
        assert_eq!(normalize("a.."), Err(BadHost::EmptyLabel));
        assert_eq!(normalize("a b"), Err(BadHost::BadCharacter(' ')));
        assert_eq!(normalize("a:25565"), Err(BadHost::BadCharacter(':')));
        assert_eq!(normalize("http://a"), Err(BadHost::BadCharacter(':')));
        assert_eq!(normalize("a\0b"), Err(BadHost::BadCharacter('\0')));
        assert_eq!(normalize("“a”"), Err(BadHost::BadCharacter('“')));
        assert!(matches!(
            normalize(&"a".repeat(64)),
            Err(BadHost::LongLabel(_))
        ));
        assert!(normalize(&"a".repeat(63)).is_ok());
        assert_eq!(normalize(&"a.".repeat(200)), Err(BadHost::TooLong));
    }
}
