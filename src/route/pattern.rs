//! A configured domain: a name, or a pattern with `*` and `?`.

use std::fmt;

use super::host::{BadHost, normalize};
use crate::glob;

/// A configured domain in normalised form.
///
/// `*` stands for any run of characters, dots included; `?` for exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern(String);

impl HostPattern {
    /// Reads a domain entry.
    ///
    /// # Errors
    ///
    /// When it cannot be a host name or a pattern for one.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        normalize(text).map(Self)
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// How many literal characters it has: the pattern with more wins.
    #[must_use]
    pub fn literal_len(&self) -> usize {
        self.0.bytes().filter(|b| !matches!(b, b'*' | b'?')).count()
    }

    /// What follows the `*` of a pattern that is a `*` and a literal part, such
    /// as `*.example.com`. `None` for every other pattern, and for names.
    ///
    /// Such a pattern matches exactly the hosts that end so.
    #[must_use]
    pub fn suffix(&self) -> Option<&str> {
        let rest = self.0.strip_prefix('*')?;
        (!rest.contains(['*', '?'])).then_some(rest)
    }

    /// Whether a normalised host name matches.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        glob::matches(&self.0, host)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn matches_text(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().matches(host)
    }

    /// `*` spans dots, `?` is one character.
    #[test]
    fn wildcards_match_as_documented() {
        assert!(matches_text("*.example.com", "a.example.com"));
        assert!(matches_text("*.example.com", "a.b.example.com"));
        assert!(!matches_text("*.example.com", "example.com"));
        assert!(matches_text("*", "anything.at.all"));
        assert!(matches_text("eu-?.example.com", "eu-1.example.com"));
        assert!(!matches_text("eu-?.example.com", "eu-12.example.com"));
        assert!(matches_text("a*b*c", "aXXbYYc"));
        assert!(!matches_text("a*b*c", "aXXbYY"));
        assert!(matches_text("lobby.*", "lobby.example"));
    }
}
