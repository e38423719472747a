//! The parts of the proxy that know no configuration stay so: what they need to
//! be given is defined with them, and the configuration takes it from there. And
//! no part uses one that stands above it.

use std::path::{Path, PathBuf};

use crate::support::root;

/// Files and folders under `src` that could be lifted out as a library.
const ENGINES: [&str; 24] = [
    "apart.rs",
    "blame.rs",
    "capability.rs",
    "close.rs",
    "diagnostic",
    "environment.rs",
    "forward",
    "glob.rs",
    "intercept",
    "limit",
    "manifest",
    "mode.rs",
    "permissions.rs",
    "player_text.rs",
    "priority.rs",
    "protocol",
    "proxy_protocol.rs",
    "route",
    "show.rs",
    "socket.rs",
    "status_cache.rs",
    "supervise.rs",
    "telemetry",
    "upstream",
];

/// The lines of code under `path` that name the configuration.
fn mentions(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| mentions(&entry.unwrap().path()))
            .collect();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| names_config(line))
        .map(|(index, line)| format!("{}:{}: {line}", path.display(), index + 1))
        .collect()
}

/// Whether a line names the module `config` of the crate, alone or in a group.
fn names_config(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    code.contains("crate::") && words.any(|word| word == "config")
}

/// No engine uses the configuration, its tests included.
#[test]
fn engines_do_not_use_the_configuration() {
    let found: Vec<_> = ENGINES
        .iter()
        .flat_map(|engine| mentions(&root("src").join(engine)))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The check sees the ways in which a file can name the configuration.
#[test]
fn a_use_of_the_configuration_is_found() {
    for line in [
        "use crate::config::model::Relay;",
        "use crate::{config, glob};",
        "    keepalive: crate::config::model::Keepalive,",
    ] {
        assert!(names_config(line), "{line}");
    }
    for line in [
        "//! See `crate::config`.",
        "let config = 1;",
        "use crate::mode;",
    ] {
        assert!(!names_config(line), "{line}");
    }
    let user = mentions(&root("src/proxy/mod.rs"));
    assert!(!user.is_empty(), "`proxy/mod.rs` uses the configuration");
}

/// The parts of the proxy, the files and folders of `src`. Each line uses only what
/// stands below it, and no part uses another one of its line.
const LAYERS: [&str; 20] = [
    "main",
    "cli",
    "demo",
    "start",
    "listener admin",
    "connection reload",
    "command provider",
    "proxy",
    "plugin",
    "config",
    "intercept permissions status_cache",
    "player_text",
    "forward",
    "manifest protocol",
    "capability diagnostic",
    "route telemetry upstream limit proxy_protocol",
    "mode",
    "environment reason blame close supervise",
    "apart glob show socket",
    "priority",
];

/// Every part of the proxy uses only parts that stand below it.
#[test]
fn no_part_uses_one_above_it() {
    let parts = parts();
    let mut listed: Vec<_> = LAYERS.iter().flat_map(|line| line.split(' ')).collect();
    listed.sort_unstable();
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names, listed,
        "`LAYERS` lists all files and folders of `src`"
    );
    let layer = |name: &str| {
        LAYERS
            .iter()
            .position(|line| line.split(' ').any(|part| part == name))
    };
    let mut found = Vec::new();
    for (user, used) in &parts {
        for used in used.iter().filter(|used| *used != user) {
            let (above, below) = (layer(user), layer(used));
            if below.is_some() && above >= below {
                found.push(format!("`{user}` uses `{used}`"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The parts of the proxy in the order of their names, and the first names of all
/// paths from the root of the crate in the code of each, tests included.
fn parts() -> Vec<(String, Vec<String>)> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(root("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "lib" {
            continue;
        }
        let mut used = Vec::new();
        for file in sources(&path) {
            let code = without_comments(&std::fs::read_to_string(&file).unwrap());
            used.extend(names_behind("crate::", &code));
            // In the files of the root, and in the faces of its folders.
            if file == path || file == path.join("mod.rs") {
                used.extend(names_behind("super::", &code));
            }
        }
        parts.push((name, used));
    }
    parts.sort();
    parts
}

/// All Rust files from `path` down.
fn sources(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        return is_rust.then(|| path.to_owned()).into_iter().collect();
    }
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .flat_map(|entry| sources(&entry.unwrap().path()))
        .collect()
}

/// The files and subfolders of one folder depend on each other in one direction only.
/// A folder's `mod.rs` is its face.
#[test]
fn no_room_has_a_circle_of_files() {
    let mut rooms = Vec::new();
    collect_rooms(&root("src"), "crate", &mut rooms);
    assert!(rooms.len() > 20, "{rooms:?}");
    let found: Vec<_> = rooms
        .iter()
        .filter_map(|(room, path)| circle(&uses_in(room, path)).map(|left| (path, left)))
        .collect();
    assert!(
        found.is_empty(),
        "a circle, or files that use one: {found:?}"
    );
}

/// All folders from `folder` down with files of modules, and the path in the crate.
fn collect_rooms(folder: &Path, path: &str, rooms: &mut Vec<(PathBuf, String)>) {
    rooms.push((folder.to_owned(), path.to_owned()));
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        if entry.join("mod.rs").is_file() {
            let name = entry.file_name().unwrap().to_str().unwrap();
            collect_rooms(&entry, &format!("{path}::{name}"), rooms);
        }
    }
}

/// The files and subfolders of a room but its `mod.rs`, and which of the others each
/// names.
fn uses_in(room: &Path, path: &str) -> Vec<(String, Vec<String>)> {
    let mut named = Vec::new();
    for entry in std::fs::read_dir(room).unwrap() {
        let member = entry.unwrap().path();
        let name = member.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["mod", "lib", "main"].contains(&name.as_str()) {
            continue;
        }
        let mut words = Vec::new();
        for file in sources(&member) {
            let text = std::fs::read_to_string(&file).unwrap();
            let is_outer = file == member || file == member.join("mod.rs");
            words.extend(siblings_named(&text, path, is_outer));
        }
        named.push((name, words));
    }
    let names: Vec<_> = named.iter().map(|(name, _)| name.clone()).collect();
    let used = |words: &[String], own: &str| {
        let is_used = |name: &&String| *name != own && words.contains(*name);
        names.iter().filter(is_used).cloned().collect()
    };
    named
        .iter()
        .map(|(name, words)| (name.clone(), used(words, name)))
        .collect()
}

/// The first names behind the room's own path in the code of one of its files,
/// without its unit tests, and behind `super::` if the parent of that file's module
/// is the room.
fn siblings_named(text: &str, path: &str, is_outer: bool) -> Vec<String> {
    let (code, _tests) = text.split_once("\nmod tests {").unwrap_or((text, ""));
    let code = without_comments(code);
    let mut named = names_behind(&format!("{path}::"), &code);
    if is_outer {
        named.extend(names_behind("super::", &code));
    }
    named
}

/// The lines of a file without what stands behind `//`.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The names that follow the prefix of a path in code, alone or in a group.
fn names_behind(prefix: &str, code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let first = |text: &str| text.split(|c| !is_name(c)).next().unwrap().to_owned();
    let mut named = Vec::new();
    for rest in code.split(prefix).skip(1) {
        match rest.strip_prefix('{') {
            // A group: names on its outer level.
            Some(group) => {
                let mut depth = 0;
                let mut outer = String::new();
                for c in group.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        c if depth == 0 => outer.push(c),
                        _ => {}
                    }
                }
                named.extend(outer.split(',').map(|part| first(part.trim())));
            }
            None => named.push(first(rest)),
        }
    }
    named
}

/// Files that are left when those are taken away, one after the other, that use
/// none of those left: a circle, and files that use it.
fn circle(uses: &[(String, Vec<String>)]) -> Option<Vec<String>> {
    let mut uses = uses.to_vec();
    loop {
        let left: Vec<_> = uses.iter().map(|(name, _)| name.clone()).collect();
        uses.retain(|(_, used)| used.iter().any(|name| left.contains(name)));
        if uses.len() == left.len() {
            return (!left.is_empty()).then_some(left);
        }
    }
}

/// The check sees the ways in which a file can name another one of its room.
#[test]
fn a_use_of_a_sibling_is_found() {
    for code in [
        "use super::watch::{Identity, identity};",
        "use super::{look, watch};",
        "use super::{\n    look::{Look, look},\n    watch,\n};",
        "    use crate::reload::watch::Follow;",
        "let now = super::watch::look(&folder);",
    ] {
        let named = siblings_named(code, "crate::reload", true);
        assert!(
            named.iter().any(|name| name == "watch"),
            "{code}: {named:?}"
        );
    }
    for code in [
        "//! See [`watch`](super::watch).",
        "use super::look::{watch};",
        "use crate::plugin::watch;",
    ] {
        let named = siblings_named(code, "crate::reload", true);
        assert!(
            !named.iter().any(|name| name == "watch"),
            "{code}: {named:?}"
        );
    }
    let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
    let line = [(a.clone(), vec![b.clone()]), (b.clone(), vec![])];
    assert_eq!(circle(&line), None);
    let ring = [
        (a.clone(), vec![b.clone()]),
        (b.clone(), vec![a.clone()]),
        (c, vec![]),
    ];
    assert_eq!(circle(&ring), Some(vec![a, b]));
}
