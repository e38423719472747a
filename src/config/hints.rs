//! Suggests where a misplaced key belongs.
//!
//! The caller gives the reader the tables of all files; the reader itself does
//! not know them.

use std::sync::OnceLock;

use crate::config::keys::{Shape, Table};
use crate::diagnostic::words::nearest;

/// The most levels of tables that are searched; no key is deeper.
const DEPTH_MAX: usize = 6;

/// The keys of all files, for hints.
#[derive(Debug)]
pub(super) struct Hints {
    /// The tables that files begin with.
    roots: &'static [&'static Table],
    /// Finds our key with the effect of a key of another program.
    renamed: FindRenamed,
    secret_names: OnceLock<Vec<&'static str>>,
}

/// Without any key: a default value has no mistakes to explain.
pub(super) static NO_HINTS: Hints = Hints::new(&[], |_, _, _| None);

/// Finds our key with the effect that `name` has in another program, for a file with the
/// keys of `root`. A proposal repeats `value`.
pub(super) type FindRenamed = fn(name: &str, root: &Table, value: Option<&str>) -> Option<Renamed>;

/// A key that has another name here.
#[derive(Debug)]
pub(super) struct Renamed {
    /// The key, with the path of its tables.
    pub(super) path: &'static str,
    /// What to write.
    pub(super) advice: String,
}

impl Hints {
    /// Hints about the keys of `roots`, and about keys of other programs that `renamed`
    /// finds.
    pub(super) const fn new(roots: &'static [&'static Table], renamed: FindRenamed) -> Self {
        Self {
            roots,
            renamed,
            secret_names: OnceLock::new(),
        }
    }

    /// Our key with the effect that `name` has in another program.
    pub(super) fn renamed(&self, name: &str, root: &Table, value: Option<&str>) -> Option<Renamed> {
        (self.renamed)(name, root, value)
    }

    /// The place of a key with exactly this name in a table inside the one named `table`:
    /// `max_players` of `motd` is `motd.online.max_players`, even if another key has that
    /// name.
    pub(super) fn below(&self, name: &str, table: &str, root: &Table) -> Option<KeyLocation> {
        let mut locations = self.locations();
        locations.retain(|location| {
            location.name() == name && location.root.title == root.title && location.is_below(table)
        });
        locations
            .into_iter()
            .min_by_key(|location| location.path.len())
    }

    /// The place of a key with exactly this name.
    pub(super) fn exact(&self, name: &str, root: &Table) -> Option<KeyLocation> {
        let mut locations = self.locations();
        locations.retain(|location| location.name() == name);
        locations
            .into_iter()
            .min_by_key(|location| (location.path.len(), location.root.title != root.title))
    }

    /// The place of a key with nearly this name.
    pub(super) fn near(&self, name: &str, root: &Table) -> Option<KeyLocation> {
        let mut locations = self.locations();
        // A similar name alone is not enough to propose a plugin's table.
        locations.retain(|location| !location.path.contains(&"<id>"));
        let near = nearest(name, locations.iter().map(KeyLocation::name))?;
        self.exact(near, root)
    }

    /// The names of all keys that hold a secret.
    pub(super) fn secret_names(&self) -> &[&'static str] {
        self.secret_names.get_or_init(|| {
            let locations = self
                .locations()
                .into_iter()
                .filter(|location| location.is_secret);
            locations.map(|location| location.name()).collect()
        })
    }

    fn locations(&self) -> Vec<KeyLocation> {
        let mut locations = Vec::new();
        for root in self.roots {
            collect(root, root, &mut Vec::new(), &mut locations);
        }
        locations
    }
}

/// A key somewhere in one of the files.
pub(super) struct KeyLocation {
    root: &'static Table,
    path: Vec<&'static str>,
    is_secret: bool,
}

impl KeyLocation {
    /// The name of the key.
    pub(super) fn name(&self) -> &'static str {
        self.path.last().copied().unwrap_or_default()
    }

    /// Whether the key is at the top level of the files that `root` describes.
    pub(super) fn is_top_of(&self, root: &Table) -> bool {
        self.path.len() == 1 && self.root.title == root.title
    }

    /// Whether the key is in a table inside the one named `table`.
    fn is_below(&self, table: &str) -> bool {
        let above = self.path.len().saturating_sub(2);
        self.path[..above].contains(&table)
    }

    /// Where the key belongs, for a file with the keys of `root`.
    pub(super) fn advice(&self, root: &Table) -> String {
        let path = self.path.join(".");
        if self.is_top_of(root) {
            "move it to the top of the file: below a `[…]` a key belongs to that table".to_owned()
        } else if self.root.title == root.title {
            format!("in {} it is `{path}`", self.root.title)
        } else {
            format!("`{path}` is a key of {}", self.root.title)
        }
    }
}

fn collect(
    root: &'static Table,
    table: &'static Table,
    path: &mut Vec<&'static str>,
    locations: &mut Vec<KeyLocation>,
) {
    for key in table.keys {
        path.push(key.name);
        locations.push(KeyLocation {
            root,
            path: path.clone(),
            is_secret: key.secret,
        });
        if path.len() < DEPTH_MAX {
            if let Shape::Table(inner) = key.shape {
                collect(root, inner, path, locations);
            } else if let Shape::Map(Shape::Table(inner)) = key.shape {
                path.push("<id>");
                collect(root, inner, path, locations);
                path.pop();
            }
        }
        path.pop();
    }
}
