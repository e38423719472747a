//! Explains a route: the matching entries that were not chosen, and the entries that nearly
//! match.

use super::{HostPattern, Rule};

/// How similar a configured name must be to count as a near miss: Jaro-Winkler
/// similarity, 1 is equal.
const NEAR_MIN: f64 = 0.85;
/// The most near misses that are listed.
const NEAR_MAX: usize = 5;

/// Which entry matched, to explain why the others did not count.
#[derive(Debug, Clone)]
pub enum Winner {
    /// A configured name.
    Exact,
    /// A pattern.
    Pattern(HostPattern),
    /// No entry matches.
    Nobody,
}

impl Winner {
    /// The winner that was found by this rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        match rule {
            Rule::Exact => Winner::Exact,
            Rule::Wildcard(pattern) => Winner::Pattern(pattern.clone()),
        }
    }

    /// Why this pattern was not chosen; `None` if it was.
    #[must_use]
    pub fn beats(&self, pattern: &HostPattern) -> Option<String> {
        match self {
            Winner::Nobody => None,
            Winner::Exact => Some("a name wins over a pattern".to_owned()),
            Winner::Pattern(winner) if winner == pattern => None,
            Winner::Pattern(winner) if winner.literal_len() > pattern.literal_len() => {
                Some(format!(
                    "it spells out {} characters, `{winner}` {}",
                    pattern.literal_len(),
                    winner.literal_len()
                ))
            }
            Winner::Pattern(winner) => Some(format!(
                "it spells out as many characters as `{winner}`, which comes first in the alphabet"
            )),
        }
    }
}

/// Describes entries that do not match `host` and are similar to it, the most similar
/// first. `entries` are patterns with the ids of their servers.
#[must_use]
pub fn near_misses<'a>(
    entries: impl IntoIterator<Item = (&'a HostPattern, &'a str)>,
    host: &str,
) -> Vec<String> {
    let mut near: Vec<(f64, String)> = Vec::new();
    for (domain, id) in entries {
        if domain.matches(host) {
            continue;
        }
        if let Some(base) = domain.as_str().strip_prefix("*.")
            && base == host
        {
            let text = format!("`{domain}` of `{id}` needs something before `.{base}`");
            near.push((1.0, text));
            continue;
        }
        let likeness = strsim::jaro_winkler(domain.as_str(), host);
        if likeness >= NEAR_MIN {
            near.push((likeness, format!("`{domain}` of `{id}` is another name")));
        }
    }
    near.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
    near.into_iter()
        .take(NEAR_MAX)
        .map(|(_, text)| text)
        .collect()
}
