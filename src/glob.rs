//! Patterns for host names and for the ids of servers: `*` is any text, `?`
//! one character.

/// Whether a name fits a pattern. Both are ASCII; in other text `?` is one byte.
///
/// Backtracks to the last `*` only: after a mismatch the last `*` matches one
/// more character. An earlier `*` need not be tried again, since the last one can
/// match the same text. So the cost is at most the product of both lengths, and
/// no pattern can make it exponential.
#[must_use]
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Whether a text is a pattern rather than a name.
#[must_use]
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Patterns mean what the configuration says.
    #[test]
    fn patterns_match_names() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("eu-*", "eu-1"),
            ("*-1", "a-1-1"),
            ("a?c", "abc"),
            ("a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("eu-*", "us-1"),
            ("a?c", "ac"),
            ("a", "ab"),
            ("*b", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    /// A slow reference implementation: tries every split of the host.
    fn reference(pattern: &[u8], host: &[u8]) -> bool {
        match pattern.split_first() {
            None => host.is_empty(),
            Some((b'*', rest)) => (0..=host.len()).any(|n| reference(rest, &host[n..])),
            Some((b'?', rest)) => !host.is_empty() && reference(rest, &host[1..]),
            Some((c, rest)) => host.first() == Some(c) && reference(rest, &host[1..]),
        }
    }

    proptest! {
        /// The linear matcher agrees with the one that tries everything.
        #[test]
        fn agrees_with_the_reference(pattern in "[ab*?.]{0,8}", host in "[ab.]{0,10}") {
            prop_assert_eq!(
                matches(&pattern, &host),
                reference(pattern.as_bytes(), host.as_bytes())
            );
        }
    }
}
