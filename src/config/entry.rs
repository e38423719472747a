//! What the reader leaves behind: keys and values with their places.

use crate::diagnostic::Place;

/// What became of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Entry<T> {
    /// It is not written.
    #[default]
    Absent,
    /// It is written, and its mistake has been reported.
    Broken(Place),
    /// It is written and has a value of its type.
    Given(Given<T>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T> {
    /// Where the key stands.
    pub key: Place,
    /// Where the value stands.
    pub place: Place,
    /// The value.
    pub value: T,
}

impl<T> Entry<T> {
    /// The key and value, if sound.
    pub fn given(&self) -> Option<&Given<T>> {
        match self {
            Entry::Given(given) => Some(given),
            Entry::Absent | Entry::Broken(_) => None,
        }
    }

    /// The value, if sound.
    pub fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    /// Where the key stands, if it is written.
    pub fn key(&self) -> Option<Place> {
        match self {
            Entry::Absent => None,
            Entry::Broken(place) => Some(*place),
            Entry::Given(given) => Some(given.key),
        }
    }

    /// Takes an absent key for one that is written badly at `place`.
    pub(super) fn spoil(&mut self, place: Place) {
        if matches!(self, Entry::Absent) {
            *self = Entry::Broken(place);
        }
    }

    /// Whether it is written.
    pub fn is_written(&self) -> bool {
        !matches!(self, Entry::Absent)
    }

    /// Whether it is written badly.
    pub fn is_broken(&self) -> bool {
        matches!(self, Entry::Broken(_))
    }
}

/// A value in a list or a map, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// Where it stands.
    pub place: Place,
    /// The value.
    pub value: T,
}

/// The sound entries of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T> {
    /// In the order written.
    pub items: Vec<Item<T>>,
    /// Whether there were others, whose mistakes have been reported.
    pub is_broken: bool,
}

/// The entries of a table whose names are the operator's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Map<T> {
    /// Name and entry, in the order of the names.
    pub entries: Vec<(String, Entry<T>)>,
}
