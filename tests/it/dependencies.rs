//! The dependencies comply with `deny.toml`: licences, banned crates and sources.
//!
//! This test checks only the dependencies of the platform that runs it; `cargo deny` checks
//! those of all platforms.

use std::process::Command;

use serde_json::Value;

use crate::support::root;

/// The dependencies as Cargo resolves them for this platform.
fn packages() -> Vec<Value> {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(env!("CARGO"))
        .current_dir(root(""))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", host.unwrap()])
        .output()
        .unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The content of `deny.toml`.
struct Deny {
    licenses: Vec<String>,
    crates: Vec<String>,
    registries: Vec<String>,
}

impl Deny {
    fn read() -> Self {
        let text = std::fs::read_to_string(root("deny.toml")).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let texts = |value: &toml::Value| -> Vec<String> {
            let values = value.as_array().unwrap().iter();
            values
                .map(|value| value.get("crate").unwrap_or(value))
                .map(|value| value.as_str().unwrap().to_owned())
                .collect()
        };
        Self {
            licenses: texts(&table["licenses"]["allow"]),
            crates: texts(&table["bans"]["deny"]),
            registries: texts(&table["sources"]["allow-registry"]),
        }
    }

    /// What is not allowed about a package, if anything.
    fn problem(&self, package: &Value) -> Option<String> {
        let name = package["name"].as_str().unwrap();
        let license = package["license"].as_str().unwrap_or("no licence");
        if !self.allows(license) {
            return Some(format!("{name}: the licence `{license}` is not allowed"));
        }
        if self.crates.iter().any(|denied| denied == name) {
            return Some(format!("{name} is banned"));
        }
        // Members of the workspace have no source.
        let source = package["source"].as_str()?;
        let registry = source.strip_prefix("registry+");
        let is_known = registry.is_some_and(|one| self.registries.iter().any(|known| known == one));
        (!is_known).then(|| format!("{name} comes from {source}"))
    }

    /// Whether a licence expression can be fulfilled. `OR` binds less than `AND`, and `/`
    /// is an old form of `OR`.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ");
        let spaced = spaced.replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = &words[..];
        self.any(&mut rest) && rest.is_empty()
    }

    fn any(&self, words: &mut &[&str]) -> bool {
        let mut is_met = self.all(words);
        while let ["OR", rest @ ..] = words {
            *words = rest;
            is_met |= self.all(words);
        }
        is_met
    }

    fn all(&self, words: &mut &[&str]) -> bool {
        let mut is_met = self.one(words);
        while let ["AND", rest @ ..] = words {
            *words = rest;
            is_met &= self.one(words);
        }
        is_met
    }

    fn one(&self, words: &mut &[&str]) -> bool {
        if let ["(", rest @ ..] = words {
            *words = rest;
            let is_met = self.any(words);
            let Some((&")", rest)) = words.split_first() else {
                return false;
            };
            *words = rest;
            return is_met;
        }
        let (license, rest) = match words {
            [license, "WITH", exception, rest @ ..] => {
                (format!("{license} WITH {exception}"), rest)
            }
            [license, rest @ ..] => ((*license).to_owned(), rest),
            [] => return false,
        };
        *words = rest;
        self.licenses.contains(&license)
    }
}

/// Every dependency has a licence, a name and a source that are allowed.
#[test]
fn dependencies_comply_with_the_table() {
    let deny = Deny::read();
    let packages = packages();
    assert!(packages.len() > 100, "{}", packages.len());
    let problems: Vec<_> = packages
        .iter()
        .filter_map(|one| deny.problem(one))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Licence expressions are read as SPDX defines them.
#[test]
fn licence_expressions_are_read() {
    let deny = Deny::read();
    for allowed in [
        "MIT",
        "MIT/GPL-3.0-only",
        "GPL-3.0-only OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(deny.allows(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR Apache-2.0) AND GPL-3.0-only",
        "GPL-3.0-only OR MIT AND GPL-2.0-only",
        "Apache-2.0 WITH another-exception",
        "(MIT",
    ] {
        assert!(!deny.allows(refused), "{refused}");
    }
}
