//! `CONTRIBUTING.md` lists every environment variable that tests read, and every alias of
//! Cargo. The files and functions that it names exist.

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

#[test]
fn every_switch_and_alias_is_explained() {
    let page = fs::read_to_string(root("CONTRIBUTING.md")).unwrap();
    let sources = sources();
    let mut names: BTreeSet<_> = switches(&sources).map(str::to_owned).collect();
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

/// The recipes name files, tests and functions of this tree.
#[test]
fn recipes_name_what_exists() {
    let page = fs::read_to_string(root("CONTRIBUTING.md")).unwrap();
    let sources = sources();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<_> = sources.split(|c| !is_word(c)).collect();
    let (mut files, mut names) = (0, 0);
    for quoted in page.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "plugin-api/", "docs/"]
            .iter()
            .any(|folder| quoted.starts_with(folder));
        let is_name =
            quoted.contains('_') && quoted.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_path {
            // `tests/config/*.toml` names its folder.
            let path = quoted.split('*').next().unwrap();
            assert!(root(path).exists(), "there is no `{quoted}`");
            files += 1;
        } else if is_name {
            assert!(words.contains(quoted), "there is no `{quoted}`");
            names += 1;
        }
    }
    assert!(files >= 20 && names >= 5, "{files} files, {names} names");
}

/// The text of all Rust files of the proxy, its tests and the plugin API.
fn sources() -> String {
    let mut texts = String::new();
    for folder in ["tests", "src", "plugin-api"] {
        read_all(&root(folder), &mut texts);
    }
    texts
}

/// Adds the text of all Rust files from `folder` down, without what Cargo has built.
fn read_all(folder: &Path, texts: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_built = path.ends_with("target") || path.ends_with("node_modules");
        if path.is_dir() && !is_built {
            read_all(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
