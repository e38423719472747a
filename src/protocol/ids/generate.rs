//! Makes `table.rs` from the npm package `minecraft-data` and `data/packets.toml`.
//!
//! `UPDATE_IDS=1 cargo test ids::generate` writes the file; without the
//! variable the test compares. It is skipped where the package is not
//! installed (`npm ci --prefix tests/real`). The comparison with the tables
//! that were collected by hand always runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Clientbound, Direction, Kind, Serverbound, State, Version};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    release: Vec<Release>,
    drop: Vec<Drop>,
    rename: Vec<Rename>,
    change: Vec<Change>,
    kind: Vec<KindEntry>,
}

/// A release: described by a folder of the package, or by its changes to another release.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    protocol: i32,
    games: String,
    table: Option<String>,
    base: Option<i32>,
}

/// Names that the package lists where they do not belong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drop {
    reason: String,
    state: String,
    direction: String,
    names: Vec<String>,
}

/// Two names of one packet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    reason: String,
    state: String,
    direction: String,
    from: String,
    to: String,
}

/// The changes of a release that the package does not describe, compared with its base.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    reason: String,
    protocol: i32,
    state: String,
    direction: String,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    insert: BTreeMap<String, usize>,
}

/// A packet that the proxy knows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindEntry {
    direction: String,
    number: u8,
    variant: String,
    names: Vec<String>,
}

const STATES: [&str; 3] = ["login", "configuration", "play"];
const DIRECTIONS: [(&str, &str); 2] = [("clientbound", "toClient"), ("serverbound", "toServer")];

/// State and direction.
type List = (&'static str, &'static str);
/// The names of a list in the order of their ids.
type Names = Vec<String>;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/protocol/ids/data")
        .join(name)
}

fn input() -> Input {
    toml::from_str(&std::fs::read_to_string(data("packets.toml")).unwrap()).unwrap()
}

fn package() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/node_modules/minecraft-data/minecraft-data/data/pc");
    path.is_dir().then_some(path)
}

/// The names of one list as the package has them.
fn described(folder: &Path, list: List, input: &Input) -> Option<Names> {
    let text = std::fs::read_to_string(folder.join("protocol.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (state, direction) = list;
    let theirs = DIRECTIONS.iter().find(|(ours, _)| *ours == direction)?.1;
    let mappings = json
        .get(state)?
        .get(theirs)?
        .pointer("/types/packet/1/0/type/1/mappings")?
        .as_object()?;
    let mut names = BTreeMap::new();
    for (id, name) in mappings {
        let id = usize::from_str_radix(id.trim_start_matches("0x"), 16).unwrap();
        names.insert(id, name.as_str().unwrap().to_owned());
    }
    let is_list = |s: &str, d: &str| s == state && d == direction;
    for drop in input
        .drop
        .iter()
        .filter(|d| is_list(&d.state, &d.direction))
    {
        assert!(!drop.reason.is_empty());
        names.retain(|_, name| !drop.names.contains(name));
    }
    for rename in input
        .rename
        .iter()
        .filter(|r| is_list(&r.state, &r.direction))
    {
        assert!(!rename.reason.is_empty());
        for name in names.values_mut().filter(|name| **name == rename.from) {
            name.clone_from(&rename.to);
        }
    }
    // 1.7 and 1.8 leave some ids unused.
    let last = *names.keys().next_back()?;
    Some(
        (0..=last)
            .map(|id| names.remove(&id).unwrap_or_default())
            .collect(),
    )
}

fn changed(mut names: Names, changes: &[&Change]) -> Names {
    for change in changes {
        assert!(!change.reason.is_empty());
        for name in &change.remove {
            let at = names.iter().position(|known| known == name).unwrap();
            names.remove(at);
        }
        let mut inserted: Vec<_> = change.insert.iter().collect();
        inserted.sort_by_key(|(_, id)| **id);
        for (name, id) in inserted {
            names.insert(*id, name.clone());
        }
    }
    names
}

/// All lists of all releases.
fn lists(package: &Path, input: &Input) -> BTreeMap<(List, i32), Names> {
    let mut all = BTreeMap::new();
    for release in &input.release {
        for state in STATES {
            for (direction, _) in DIRECTIONS {
                let list = (state, direction);
                let names = match (&release.table, release.base) {
                    (Some(table), None) => described(&package.join(table), list, input),
                    (None, Some(base)) => all.get(&(list, base)).cloned().map(|names| {
                        let changes: Vec<_> = input
                            .change
                            .iter()
                            .filter(|c| {
                                (c.protocol, &*c.state, &*c.direction)
                                    == (release.protocol, state, direction)
                            })
                            .collect();
                        changed(names, &changes)
                    }),
                    _ => panic!("{}: either a table or a base", release.protocol),
                };
                if let Some(names) = names {
                    all.insert((list, release.protocol), names);
                }
            }
        }
    }
    all
}

fn camel(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().unwrap().to_ascii_uppercase();
    std::iter::once(first).chain(letters).collect()
}

fn generated(package: &Path) -> String {
    let input = input();
    let lists = lists(package, &input);
    let mut out = String::from(
        "//! Packet ids by version. Made by `generate.rs`; do not edit.\n\n\
         use super::Direction::{Clientbound as C, Serverbound as S};\n\
         use super::State::{Configuration, Login, Play};\n\
         use super::{Row, kinds};\n\n",
    );
    for (direction, enum_name) in [
        ("clientbound", "Clientbound"),
        ("serverbound", "Serverbound"),
    ] {
        writeln!(out, "kinds! {{\n    /// A {direction} packet that the proxy knows. The numbers never change.\n    {enum_name} {{").unwrap();
        for kind in input.kind.iter().filter(|k| k.direction == direction) {
            let names: Vec<_> = kind.names.iter().map(|name| format!("{name:?}")).collect();
            writeln!(
                out,
                "        {} = {} [{}],",
                kind.variant,
                kind.number,
                names.join(", ")
            )
            .unwrap();
        }
        out.push_str("    }\n}\n\n");
    }
    out.push_str(
        "/// The known releases: the protocol number, and the game versions that speak it.\n",
    );
    out.push_str("pub(super) static RELEASES: &[(i32, &str)] = &[\n");
    for release in &input.release {
        writeln!(out, "    ({}, {:?}),", release.protocol, release.games).unwrap();
    }
    out.push_str(
        "];\n\n/// Every packet: its ids, each from a protocol number on; `-1` where it ends.\n",
    );
    out.push_str("#[rustfmt::skip]\npub(super) static ROWS: &[Row] = &[\n");
    for state in STATES {
        for (direction, _) in DIRECTIONS {
            let list = (state, direction);
            let mut rows: BTreeMap<&str, Vec<(i32, i32)>> = BTreeMap::new();
            for release in &input.release {
                let Some(names) = lists.get(&(list, release.protocol)) else {
                    continue;
                };
                let mut here: BTreeMap<&str, i32> = BTreeMap::new();
                for (id, name) in names
                    .iter()
                    .enumerate()
                    .filter(|(_, name)| !name.is_empty())
                {
                    let twice = here.insert(name, i32::try_from(id).unwrap());
                    assert!(twice.is_none(), "{} has {name} twice", release.protocol);
                    rows.entry(name).or_default();
                }
                for (name, runs) in &mut rows {
                    let id = here.get(name).copied().unwrap_or(-1);
                    if runs.last().map_or(id >= 0, |(_, last)| *last != id) {
                        runs.push((release.protocol, id));
                    }
                }
            }
            let way = direction.chars().next().unwrap().to_ascii_uppercase();
            for (name, runs) in rows {
                let runs: Vec<_> = runs
                    .iter()
                    .map(|(from, id)| {
                        if *id < 0 {
                            format!("({from}, -1)")
                        } else {
                            format!("({from}, {id:#04X})")
                        }
                    })
                    .collect();
                writeln!(
                    out,
                    "    Row {{ state: {}, direction: {way}, name: {name:?}, ids: &[{}] }},",
                    camel(state),
                    runs.join(", ")
                )
                .unwrap();
            }
        }
    }
    out.push_str("];\n");
    out
}

/// The committed table is what the package and the input give.
#[test]
fn the_table_is_up_to_date() {
    let Some(package) = package() else { return };
    let made = generated(&package);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/ids/table.rs");
    if std::env::var_os("UPDATE_IDS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == made,
        "table.rs is stale: run with UPDATE_IDS=1"
    );
}

/// The table has the ids that were collected by hand, and no others.
#[test]
fn the_table_has_the_ids_that_were_collected_by_hand() {
    let mut compared = 0;
    for (file, state) in [
        ("play.txt", State::Play),
        ("configuration.txt", State::Configuration),
    ] {
        let text = std::fs::read_to_string(data(file)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (direction, variant) = (words.next().unwrap(), words.next().unwrap());
            let runs: Vec<(i32, Option<u8>)> = words
                .map(|run| {
                    let (from, id) = run.split_once(':').unwrap();
                    (from.parse().unwrap(), u8::from_str_radix(id, 16).ok())
                })
                .collect();
            for version in Version::all() {
                let expected = runs
                    .iter()
                    .rev()
                    .find(|(from, _)| *from <= version.protocol())
                    .and_then(|(_, id)| *id);
                let found =
                    match direction {
                        "clientbound" => by_variant::<Clientbound>(variant)
                            .and_then(|kind| version.id(state, kind)),
                        _ => by_variant::<Serverbound>(variant)
                            .and_then(|kind| version.id(state, kind)),
                    };
                assert_eq!(
                    found,
                    expected,
                    "{direction} {variant} in {state:?} of {}",
                    version.protocol()
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 4000, "{compared}");
}

fn by_variant<K: Kind + std::fmt::Debug>(variant: &str) -> Option<K> {
    (0..=u8::MAX)
        .filter_map(K::from_number)
        .find(|kind| format!("{kind:?}") == variant)
}

/// The newest version has as many packets as the game's own report.
#[test]
fn the_newest_version_is_complete() {
    let newest = Version::newest();
    let count = |state, direction| {
        (0..=0xFF)
            .filter(|id| newest.name(state, direction, *id).is_some())
            .count()
    };
    assert_eq!(count(State::Play, Direction::Clientbound), 144);
    assert_eq!(count(State::Play, Direction::Serverbound), 69);
    assert_eq!(count(State::Configuration, Direction::Clientbound), 21);
    assert_eq!(count(State::Configuration, Direction::Serverbound), 10);
}
