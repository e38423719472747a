//! Any bytes as the global file and as a server file give a configuration or
//! an error, and what is said about them can be shown, every place inside its file.
#![no_main]

use std::path::Path;

use infrarust::config::load_texts;
use infrarust::diagnostic::json;
use infrarust::diagnostic::render::{self, Colour};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (global, server) = input;
    let loaded = load_texts(global, &[(Path::new("a.toml"), server)]);
    assert_ne!(loaded.config.is_some(), loaded.has_errors());
    for diagnostic in &loaded.diagnostics {
        let at = loaded.sources.locate(diagnostic.place);
        assert!(at.line >= 1 && at.column >= 1);
    }
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    let json = json::to_json([(&loaded.diagnostics[..], &loaded.sources)]);
    assert!(json.starts_with('['));
});
