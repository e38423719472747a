//! Plugins as real libraries, built by Cargo for the tests that load them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The library of a plugin's crate in `folder` of this repository, as a copy
/// that later builds leave alone.
pub fn build(folder: &str, library: &str) -> PathBuf {
    let tmp = crate::build_folder().with_file_name("tmp");
    let status = Command::new(env!("CARGO"))
        .current_dir(crate::root(folder))
        .args(["build", "--quiet", "--locked", "--lib", "--target-dir"])
        .arg(tmp.join("plugins"))
        .status();
    assert!(status.unwrap().success(), "{folder} is built");
    let file = format!("lib{library}.so");
    let kept = tmp.join(format!("{}-{file}", std::process::id()));
    std::fs::copy(tmp.join("plugins/debug").join(file), &kept).unwrap();
    kept
}

/// The plugin of the tests: what it does depends on its settings, on hosts and
/// on names.
pub fn sample() -> &'static Path {
    static SAMPLE: OnceLock<PathBuf> = OnceLock::new();
    SAMPLE.get_or_init(|| build("tests/plugins/sample", "infrarust_test_sample"))
}
