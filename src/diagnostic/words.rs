//! Parts of messages: values of files in a form that is safe to show, lists of names, and
//! the nearest name.

pub(crate) use crate::show::{Quoted, must_not_show, path};

/// The longest name for which a near one is looked up: no key or name is
/// longer, and the comparison costs the product of both lengths.
const NEAREST_CHARS_MAX: usize = 64;

/// The name that was probably meant, when one is near enough: at most a third
/// of its letters differ.
pub(crate) fn nearest<'a>(
    typed: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let letters = typed.chars().count();
    if letters > NEAREST_CHARS_MAX {
        return None;
    }
    let plain = typed.to_lowercase().replace('-', "_");
    names
        .into_iter()
        .map(|name| {
            let other = name.to_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&plain, &other), name)
        })
        .min()
        .filter(|(distance, name)| *distance <= letters.max(name.chars().count()) / 3)
        .map(|(_, name)| name)
}

/// `a`, `b` or `c`, each in backticks.
pub(crate) fn any_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names, "or")
}

/// `a`, `b` and `c`, each in backticks.
pub(crate) fn all_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names, "and")
}

fn joined<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// `1 error`, `2 errors`.
#[must_use]
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt name is found; another word is not.
    #[test]
    fn near_names_are_found() {
        let keys = ["addresses", "domains", "proxy_mode"];
        assert_eq!(nearest("adresses", keys), Some("addresses"));
        assert_eq!(nearest("proxy-mode", keys), Some("proxy_mode"));
        assert_eq!(nearest("Domains", keys), Some("domains"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"a".repeat(10_000), keys), None);
    }

    /// An empty value is shown visibly.
    #[test]
    fn an_empty_value_is_shown() {
        assert_eq!(Quoted("").to_string(), "`\"\"`");
    }

    /// Values of files cannot control a terminal, and are shortened.
    #[test]
    fn values_are_escaped_and_cut() {
        assert_eq!(Quoted("a\u{1b}[31mb").to_string(), r"`a\u{1b}[31mb`");
        assert_eq!(Quoted("\u{9b}\u{202e}").to_string(), r"`\u{9b}\u{202e}`");
        assert!(Quoted(&"x".repeat(1000)).to_string().chars().count() < 70);
    }
}
