//! The table of routes: immutable, built once for each snapshot.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::pattern::HostPattern;

/// Routes from virtual hosts to values of `T` (a server).
///
/// An exact name wins; then the pattern with the longest literal part; among
/// equals the one that comes first in alphabetical order, so that the answer
/// never depends on the order in which files were read.
///
/// Names, and patterns that are a `*` and a literal part, are looked up; only
/// other patterns are tried one by one. So a table may hold a pattern for each
/// of many thousand servers.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    exact: HashMap<String, T>,
    /// Patterns with a [suffix](HostPattern::suffix), by it.
    suffixes: HashMap<String, (HostPattern, T)>,
    /// The lengths of these suffixes in bytes, each once, the longest first.
    /// A host is at most 255 bytes long, and so is this list.
    suffix_lengths: Vec<usize>,
    /// All other patterns, in the order of [`precedence`].
    others: Vec<(HostPattern, T)>,
}

/// The order of two patterns that both match: the lesser one is chosen.
fn precedence(a: &HostPattern, b: &HostPattern) -> Ordering {
    let by_length = b.literal_len().cmp(&a.literal_len());
    by_length.then_with(|| a.cmp(b))
}

/// The rule that decided a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The name itself is configured.
    Exact,
    /// This pattern matches and has the longest literal part.
    Wildcard(HostPattern),
}

/// A host's route.
#[derive(Debug)]
pub struct Match<'a, T> {
    /// Where it leads.
    pub target: &'a T,
    /// By which rule.
    pub rule: Rule,
}

impl<T: Clone> RouteTable<T> {
    /// Builds the table, and returns the patterns that an entry claims although one before
    /// it has them. The first entry stays.
    pub fn build(entries: impl IntoIterator<Item = (HostPattern, T)>) -> (Self, Vec<HostPattern>) {
        let mut claimed: HashMap<HostPattern, T> = HashMap::new();
        let mut conflicts = Vec::new();
        for (pattern, target) in entries {
            match claimed.entry(pattern) {
                Entry::Occupied(taken) => conflicts.push(taken.key().clone()),
                Entry::Vacant(place) => {
                    place.insert(target);
                }
            }
        }
        let mut table = Self {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            suffix_lengths: Vec::new(),
            others: Vec::new(),
        };
        for (pattern, target) in claimed {
            if !pattern.is_wildcard() {
                table.exact.insert(pattern.as_str().to_owned(), target);
            } else if let Some(suffix) = pattern.suffix() {
                table.suffix_lengths.push(suffix.len());
                let suffix = suffix.to_owned();
                table.suffixes.insert(suffix, (pattern, target));
            } else {
                table.others.push((pattern, target));
            }
        }
        table.suffix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        table.suffix_lengths.dedup();
        table.others.sort_by(|(a, _), (b, _)| precedence(a, b));
        (table, conflicts)
    }

    /// The route of a normalised host.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<Match<'_, T>> {
        if let Some(target) = self.exact.get(host) {
            return Some(Match {
                target,
                rule: Rule::Exact,
            });
        }
        let by_suffix = self.by_suffix(host).next();
        // Only a pattern that stands before the best of the suffixes can win.
        let rivals = by_suffix.map_or(self.others.len(), |(best, _)| {
            self.others
                .partition_point(|(pattern, _)| precedence(pattern, best).is_lt())
        });
        let other = self.others[..rivals]
            .iter()
            .find(|(pattern, _)| pattern.matches(host));
        let (pattern, target) = other.or(by_suffix)?;
        Some(Match {
            target,
            rule: Rule::Wildcard(pattern.clone()),
        })
    }

    /// Every pattern that matches a normalised host, the winner first.
    pub fn candidates<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = (&'a HostPattern, &'a T)> {
        let others = self.others.iter();
        let mut matching: Vec<_> = others
            .filter(|(pattern, _)| pattern.matches(host))
            .chain(self.by_suffix(host))
            .map(|(pattern, target)| (pattern, target))
            .collect();
        matching.sort_by(|(a, _), (b, _)| precedence(a, b));
        matching.into_iter()
    }

    /// The patterns with a suffix that match a host, the longest first.
    fn by_suffix(&self, host: &str) -> impl Iterator<Item = &(HostPattern, T)> {
        self.suffix_lengths.iter().filter_map(move |length| {
            let start = host.len().checked_sub(*length)?;
            // `None` inside a character, where no suffix can begin.
            self.suffixes.get(host.get(start..)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(&str, u32)]) -> (RouteTable<u32>, Vec<HostPattern>) {
        RouteTable::build(
            entries
                .iter()
                .map(|(text, target)| (HostPattern::parse(text).unwrap(), *target)),
        )
    }

    /// Exact before wildcard, long before short, whatever the order of entries.
    #[test]
    fn the_most_exact_route_wins() {
        let entries = [
            ("*", 0),
            ("*.example.com", 1),
            ("a.example.com", 2),
            ("*.eu.example.com", 3),
        ];
        for turn in 0..entries.len() {
            let mut turned = entries;
            turned.rotate_left(turn);
            let (table, conflicts) = table(&turned);
            assert!(conflicts.is_empty());
            let target = |host| *table.find(host).unwrap().target;
            assert_eq!(target("a.example.com"), 2);
            assert_eq!(target("b.example.com"), 1);
            assert_eq!(target("x.eu.example.com"), 3);
            assert_eq!(target("elsewhere"), 0);
        }
    }

    /// The same name in two spellings is a conflict, and the first stays.
    #[test]
    fn a_claim_of_a_taken_name_is_reported() {
        let (table, conflicts) = table(&[("Play.example.com", 1), ("play.example.com.", 2)]);
        let conflicts: Vec<_> = conflicts.iter().map(HostPattern::as_str).collect();
        assert_eq!(conflicts, ["play.example.com"]);
        assert_eq!(*table.find("play.example.com").unwrap().target, 1);
        assert!(table.find("other").is_none());
    }

    /// A pattern without a suffix look-up is chosen if it has more literal characters, or
    /// as many and comes first.
    #[test]
    fn patterns_of_both_kinds_keep_their_order() {
        let (table, _) = table(&[("*.a.com", 1), ("x*.a.com", 2), ("*b.a.com", 3), ("*", 4)]);
        let target = |host| *table.find(host).unwrap().target;
        assert_eq!(target("y.a.com"), 1);
        assert_eq!(target("xy.a.com"), 2);
        assert_eq!(target("yb.a.com"), 3);
        assert_eq!(target("xb.a.com"), 3, "`*b.a.com` comes before `x*.a.com`");
        assert_eq!(target("a.com"), 4);
        let all: Vec<_> = table.candidates("xb.a.com").map(|(_, n)| *n).collect();
        assert_eq!(all, [3, 2, 1, 4]);
    }

    /// A slow reference implementation: tries every pattern.
    fn reference<'a>(patterns: &'a [HostPattern], host: &str) -> Vec<&'a HostPattern> {
        let is_match = |pattern: &&HostPattern| pattern.is_wildcard() && pattern.matches(host);
        let mut matching: Vec<_> = patterns.iter().filter(is_match).collect();
        matching.sort_by(|a, b| {
            let longest_first = b.literal_len().cmp(&a.literal_len());
            longest_first.then_with(|| a.as_str().cmp(b.as_str()))
        });
        matching.dedup();
        matching
    }

    proptest! {
        /// The table finds the same patterns as trying every one, in the same order.
        #[test]
        fn agrees_with_trying_every_pattern(
            texts in proptest::collection::vec("[*?]{0,1}[ab.]{0,3}[*?]{0,1}[ab.é]{0,3}", 0..40),
            host in "[abé.]{0,8}",
        ) {
            let patterns: Vec<_> =
                texts.iter().filter_map(|text| HostPattern::parse(text).ok()).collect();
            let (table, _) = RouteTable::build(patterns.iter().cloned().map(|p| (p, ())));
            let expected = reference(&patterns, &host);
            let found: Vec<_> = table.candidates(&host).map(|(pattern, ())| pattern).collect();
            prop_assert_eq!(&found, &expected);
            let rule = if patterns.iter().any(|pattern| pattern.as_str() == host) {
                Some(Rule::Exact)
            } else {
                expected.first().map(|pattern| Rule::Wildcard((*pattern).clone()))
            };
            prop_assert_eq!(table.find(&host).map(|found| found.rule), rule);
        }
    }
}
