//! What the examples and the README show is true.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use infrarust::config::{LoadOptions, load, load_texts};
use infrarust::diagnostic::render::{self, Colour};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every folder of examples is a configuration without a single remark.
#[test]
fn examples_are_sound() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root("examples")).unwrap() {
        let config = entry.unwrap().path().join("infrarust.toml");
        if !config.is_file() {
            continue;
        }
        seen += 1;
        let loaded = load(&LoadOptions {
            config: Some(config.clone()),
            ..LoadOptions::default()
        });
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        assert!(text.is_empty(), "{}:\n{text}", config.display());
        assert!(!loaded.config.unwrap().servers.is_empty());
    }
    assert!(seen >= 2);
}

/// The mistakes in the README are shown as the program shows them.
#[test]
fn the_readme_shows_what_is_printed() {
    let files: [(&str, &str); 2] = [
        (
            "servers/lobby.toml",
            "domains = [\"lobby.example.com\"]\nadresses = [\"10.0.0.5:25565\"]\n",
        ),
        (
            "servers/pvp.toml",
            "domains = [\"pvp.example.com\"]\naddresses = [\"10.0.0.7:25565\"]\nproxy_mode = \"zero_copy\"\nnetwork = \"main\"\n",
        ),
    ];
    let files = files.map(|(name, text)| (Path::new(name), text.as_bytes()));
    let loaded = load_texts(b"", &files);
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    assert!(
        readme.contains(text.trim_end()),
        "the README differs from\n{text}"
    );
}

/// The five lines of the README are a sound server file.
#[test]
fn the_readmes_server_file_is_sound() {
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    let begin = readme.find("```toml\ndomains").unwrap() + "```toml\n".len();
    let end = begin + readme[begin..].find("```").unwrap();
    let server = &readme[begin..end];
    let loaded = load_texts(
        b"",
        &[(Path::new("servers/survival.toml"), server.as_bytes())],
    );
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    assert!(text.is_empty() && loaded.config.is_some(), "{text}");
}
