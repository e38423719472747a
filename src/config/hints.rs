//! Where a key belongs that stands in the wrong place.

use std::sync::OnceLock;

use crate::config::keys::{HasKeys, Shape, Table};
use crate::config::raw::{RawProxy, RawServer};
use crate::diagnostic::words::nearest;

/// The tables that a file begins with.
const ROOTS: [&Table; 2] = [&RawProxy::TABLE, &RawServer::TABLE];

/// How deep tables of the key table are followed; none is deeper.
const DEPTH_MAX: usize = 6;

/// A key somewhere in one of the files.
pub(super) struct Home {
    root: &'static Table,
    path: Vec<&'static str>,
    is_secret: bool,
}

impl Home {
    /// The name of the key.
    pub(super) fn name(&self) -> &'static str {
        self.path.last().copied().unwrap_or_default()
    }

    /// Whether the key stands at the top of the files that `root` describes.
    pub(super) fn is_top_of(&self, root: &Table) -> bool {
        self.path.len() == 1 && self.root.title == root.title
    }

    /// Whether the key stands in a table inside the one named `table`.
    fn is_below(&self, table: &str) -> bool {
        let above = self.path.len().saturating_sub(2);
        self.path[..above].contains(&table)
    }

    /// Where the key belongs, told to somebody in a file that `root` describes.
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

/// The place of a key of exactly this name that stands in a table inside the one
/// named `table`: `max_players` of `motd` is `motd.online.max_players`, whatever
/// else has that name.
pub(super) fn below(name: &str, table: &str, root: &Table) -> Option<Home> {
    let mut homes = homes();
    homes.retain(|home| {
        home.name() == name && home.root.title == root.title && home.is_below(table)
    });
    homes.into_iter().min_by_key(|home| home.path.len())
}

/// The place of a key of exactly this name.
pub(super) fn exact(name: &str, root: &Table) -> Option<Home> {
    let mut homes = homes();
    homes.retain(|home| home.name() == name);
    homes
        .into_iter()
        .min_by_key(|home| (home.path.len(), home.root.title != root.title))
}

/// The place of a key of nearly this name.
pub(super) fn near(name: &str, root: &Table) -> Option<Home> {
    let mut homes = homes();
    // Nothing else speaks for a plugin's table.
    homes.retain(|home| !home.path.contains(&"<id>"));
    let near = nearest(name, homes.iter().map(Home::name))?;
    exact(near, root)
}

/// The names of all keys that hold a secret.
pub(super) fn secret_names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let homes = homes().into_iter().filter(|home| home.is_secret);
        homes.map(|home| home.name()).collect()
    })
}

fn homes() -> Vec<Home> {
    let mut homes = Vec::new();
    for root in ROOTS {
        collect(root, root, &mut Vec::new(), &mut homes);
    }
    homes
}

fn collect(
    root: &'static Table,
    table: &'static Table,
    path: &mut Vec<&'static str>,
    homes: &mut Vec<Home>,
) {
    for key in table.keys {
        path.push(key.name);
        homes.push(Home {
            root,
            path: path.clone(),
            is_secret: key.secret,
        });
        if path.len() < DEPTH_MAX {
            if let Shape::Table(inner) = key.shape {
                collect(root, inner, path, homes);
            } else if let Shape::Map(Shape::Table(inner)) = key.shape {
                path.push("<id>");
                collect(root, inner, path, homes);
                path.pop();
            }
        }
        path.pop();
    }
}
