//! The output of the reader: keys and values with their places.

use crate::diagnostic::Place;

/// A mistake that has been reported, and must not be reported again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported;

/// The state of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Entry<T> {
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
pub(crate) struct Given<T> {
    /// Where the key stands.
    pub key: Place,
    /// Where the value stands.
    pub place: Place,
    /// The value.
    pub value: T,
}

impl<T> Entry<T> {
    /// The key and value, if they are valid.
    pub(crate) fn given(&self) -> Option<&Given<T>> {
        match self {
            Entry::Given(given) => Some(given),
            Entry::Absent | Entry::Broken(_) => None,
        }
    }

    /// The key and value, if the key is written.
    ///
    /// # Errors
    ///
    /// When it has a mistake.
    pub(crate) fn written(&self) -> Result<Option<&Given<T>>, Reported> {
        match self {
            Entry::Absent => Ok(None),
            Entry::Broken(_) => Err(Reported),
            Entry::Given(given) => Ok(Some(given)),
        }
    }

    /// The value, if the key is written.
    ///
    /// # Errors
    ///
    /// When it has a mistake.
    pub(crate) fn get(&self) -> Result<Option<&T>, Reported> {
        Ok(self.written()?.map(|given| &given.value))
    }

    /// The value, or `default` where the key is not written.
    ///
    /// # Errors
    ///
    /// When it has a mistake.
    pub(crate) fn or<'a>(&'a self, default: &'a T) -> Result<&'a T, Reported> {
        Ok(self.get()?.unwrap_or(default))
    }

    /// The value, if it is valid.
    pub(crate) fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    /// The place of the key, if it is written.
    pub(crate) fn key(&self) -> Option<Place> {
        match self {
            Entry::Absent => None,
            Entry::Broken(place) => Some(*place),
            Entry::Given(given) => Some(given.key),
        }
    }

    /// Marks an absent key as one with a mistake at `place`.
    pub(super) fn mark_broken(&mut self, place: Place) {
        if matches!(self, Entry::Absent) {
            *self = Entry::Broken(place);
        }
    }

    /// Whether it is written.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self, Entry::Absent)
    }

    /// Whether it has a mistake.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Entry::Broken(_))
    }
}

/// A value in a list or a map, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item<T> {
    /// Where it stands.
    pub place: Place,
    /// The value.
    pub value: T,
}

/// The valid entries of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T> {
    /// The entries, in the order of the file.
    pub items: Vec<Item<T>>,
    /// Whether there were entries with mistakes, which have been reported.
    pub is_broken: bool,
}

impl<T> List<T> {
    /// The entries.
    ///
    /// # Errors
    ///
    /// When there were entries with mistakes.
    pub(super) fn all(&self) -> Result<&[Item<T>], Reported> {
        if self.is_broken {
            return Err(Reported);
        }
        Ok(&self.items)
    }
}

impl<T: Clone> List<T> {
    /// The values of the entries.
    ///
    /// # Errors
    ///
    /// When there were entries with mistakes.
    pub(super) fn values(&self) -> Result<Vec<T>, Reported> {
        let items = self.all()?.iter();
        Ok(items.map(|item| item.value.clone()).collect())
    }
}

/// The entries of a table with names that the operator chooses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map<T> {
    /// Name and entry, in the order of the names.
    pub entries: Vec<(String, Entry<T>)>,
}
