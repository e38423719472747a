//! `CONTRIBUTING.md` lists every environment variable that tests read, and every alias of
//! Cargo.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::root;

/// Texts in quotes in a source file that look like names of environment variables.
fn switches(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').filter(|text| {
        let is_ours = ["INFRARUST_", "UPDATE_"]
            .iter()
            .any(|at| text.starts_with(at));
        // Those of one test, and those that a test starts itself with.
        let is_private = text.starts_with("INFRARUST_TEST_") || *text == "INFRARUST_NO_SUCH_SECRET";
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        is_ours && is_name && !is_private && !text.ends_with('_')
    })
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_built = path.ends_with("target") || path.ends_with("node_modules");
        if path.is_dir() && !is_built {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            found.extend(switches(&source).map(str::to_owned));
        }
    }
}

#[test]
fn every_switch_and_alias_is_explained() {
    let page = fs::read_to_string(root("CONTRIBUTING.md")).unwrap();
    let mut names = BTreeSet::new();
    for folder in ["tests", "src", "plugin-api"] {
        collect(&root(folder), &mut names);
    }
    assert!(names.len() >= 8, "{names:?}");
    let config = fs::read_to_string(root(".cargo/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    for alias in config["alias"].as_table().unwrap().keys() {
        names.insert(format!("cargo {alias}"));
    }
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "CONTRIBUTING.md does not name {missing:?}"
    );
}
