//! The parts of the proxy that know no configuration stay so: what they need to
//! be given is defined with them, and the configuration takes it from there.

use std::path::Path;

use crate::support::root;

/// Files and folders under `src` that could be lifted out as a library.
const ENGINES: [&str; 21] = [
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
    "player_text.rs",
    "protocol",
    "proxy/status_cache.rs",
    "proxy_protocol.rs",
    "route",
    "show.rs",
    "socket.rs",
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

/// The files of `connection` depend on each other in one direction only.
#[test]
fn connection_has_no_circle_of_files() {
    let room = root("src/connection");
    let mut uses: Vec<(String, Vec<String>)> = Vec::new();
    for entry in std::fs::read_dir(&room).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "mod" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let used = text.split("super::").skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        });
        uses.push((name, used.collect()));
    }
    assert!(uses.len() > 10, "{uses:?}");
    // Takes away files that use none of those left, until nothing changes.
    loop {
        let left: Vec<_> = uses.iter().map(|(name, _)| name.clone()).collect();
        uses.retain(|(_, used)| used.iter().any(|name| left.contains(name)));
        if uses.len() == left.len() {
            break;
        }
    }
    let left: Vec<_> = uses.iter().map(|(name, _)| name).collect();
    assert!(left.is_empty(), "a circle, or files that use one: {left:?}");
}
