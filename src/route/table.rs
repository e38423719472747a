//! The table of routes: immutable, built once for each snapshot.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::pattern::HostPattern;

/// Routes from virtual hosts to values of `T` (a server).
///
/// An exact name wins; then the pattern with the longest literal part; among
/// equals the one that comes first in alphabetical order, so that the answer
/// never depends on the order in which files were read.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    exact: HashMap<String, T>,
    wildcards: Vec<(HostPattern, T)>,
}

/// Why a host led where it did.
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

/// Two entries claim the same name or pattern.
#[derive(Debug)]
pub struct Conflict<T> {
    /// What both claim.
    pub pattern: HostPattern,
    /// Whose entry stood first and stays.
    pub first: T,
    /// Whose entry was left out.
    pub second: T,
}

impl<T: Clone> RouteTable<T> {
    /// Builds the table, and tells which entries claim what another has.
    pub fn build(entries: impl IntoIterator<Item = (HostPattern, T)>) -> (Self, Vec<Conflict<T>>) {
        let mut claimed: HashMap<HostPattern, T> = HashMap::new();
        let mut conflicts = Vec::new();
        for (pattern, target) in entries {
            match claimed.entry(pattern) {
                Entry::Occupied(taken) => conflicts.push(Conflict {
                    pattern: taken.key().clone(),
                    first: taken.get().clone(),
                    second: target,
                }),
                Entry::Vacant(place) => {
                    place.insert(target);
                }
            }
        }
        let (mut wildcards, exact): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .partition(|(pattern, _)| pattern.is_wildcard());
        let exact = exact
            .into_iter()
            .map(|(pattern, target)| (pattern.as_str().to_owned(), target))
            .collect();
        wildcards
            .sort_by(|(a, _), (b, _)| b.literal_len().cmp(&a.literal_len()).then_with(|| a.cmp(b)));
        (Self { exact, wildcards }, conflicts)
    }

    /// Where a normalised host leads.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<Match<'_, T>> {
        if let Some(target) = self.exact.get(host) {
            return Some(Match {
                target,
                rule: Rule::Exact,
            });
        }
        self.wildcards
            .iter()
            .find(|(pattern, _)| pattern.matches(host))
            .map(|(pattern, target)| Match {
                target,
                rule: Rule::Wildcard(pattern.clone()),
            })
    }

    /// Every pattern that matches a normalised host, the winner first.
    pub fn candidates<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = (&'a HostPattern, &'a T)> {
        self.wildcards
            .iter()
            .filter(move |(pattern, _)| pattern.matches(host))
            .map(|(pattern, target)| (pattern, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, u32)]) -> (RouteTable<u32>, Vec<Conflict<u32>>) {
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
    fn a_claim_of_a_taken_name_is_told() {
        let (table, conflicts) = table(&[("Play.example.com", 1), ("play.example.com.", 2)]);
        assert_eq!(conflicts.len(), 1);
        assert_eq!((conflicts[0].first, conflicts[0].second), (1, 2));
        assert_eq!(*table.find("play.example.com").unwrap().target, 1);
        assert!(table.find("other").is_none());
    }
}
