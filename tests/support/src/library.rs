//! Plugins as real libraries, built by Cargo for the tests that load them.
//!
//! The first test of a process that needs a plugin of the workspace builds all of them with
//! one call of Cargo. All test programs share one target folder, so that later calls find
//! everything built.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{Flock, FlockArg};

/// Cargo with the settings for building plugins: without debugging symbols and without what
/// serves the next build of a crate only, which together were three quarters of what tests
/// write to disk.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "none");
    cargo
}

/// The target folder of all plugins of the workspace.
pub fn target() -> PathBuf {
    crate::temporary("plugins")
}

/// The library of a plugin's crate in `folder` of this repository, as a copy that later
/// builds do not change.
pub fn build(folder: &str, library: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_with(build_workspace);
    let entry = built.entry(format!("lib{library}.so"));
    entry
        .or_insert_with(|| build_with(cargo(), &target(), folder, library, &[]))
        .clone()
}

/// The sample plugin of the tests. Its behaviour depends on its settings, on hosts and on
/// names.
pub fn sample() -> &'static Path {
    static SAMPLE: OnceLock<PathBuf> = OnceLock::new();
    SAMPLE.get_or_init(|| build("tests/plugins/sample", "infrarust_test_sample"))
}

/// As [`build`], by this Cargo, into this target folder and with these arguments
/// for the compiler.
pub fn build_with(
    mut cargo: Command,
    target: &Path,
    folder: &str,
    library: &str,
    rustc: &[&str],
) -> PathBuf {
    cargo
        .current_dir(crate::root(folder))
        .args(["rustc", "--quiet", "--locked", "--lib", "--target-dir"])
        .arg(target)
        .arg("--")
        .args(rustc);
    let file = format!("lib{library}.so");
    run(cargo, target, &[file]).remove(0)
}

/// As [`build`], for a crate anywhere whose lock file may need an update.
pub fn build_new(folder: &Path, library: &str) -> PathBuf {
    let mut cargo = cargo();
    cargo
        .current_dir(folder)
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(target());
    run(cargo, &target(), &[format!("lib{library}.so")]).remove(0)
}

/// All plugins that are members of the workspace, by the names of their files.
fn build_workspace() -> HashMap<String, PathBuf> {
    let mut cargo = cargo();
    cargo
        .current_dir(crate::root(""))
        .args(["build", "--quiet", "--locked", "--lib", "--target-dir"])
        .arg(target());
    let mut files = Vec::new();
    for parent in ["plugins", "examples/plugins", "tests/plugins"] {
        for entry in fs::read_dir(crate::root(parent)).unwrap() {
            let Ok(manifest) = fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else {
                continue;
            };
            // Those with a workspace of their own are not members of ours.
            if manifest.contains("\n[workspace]") {
                continue;
            }
            let package = name(&manifest, "[package]").expect("a package has a name");
            let library = name(&manifest, "[lib]").unwrap_or(package);
            files.push(format!("lib{}.so", library.replace('-', "_")));
            cargo.args(["--package", package]);
        }
    }
    let kept = run(cargo, &target(), &files);
    files.into_iter().zip(kept).collect()
}

/// The `name` in a table of a manifest.
fn name<'a>(manifest: &'a str, table: &str) -> Option<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != table).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

/// Runs Cargo and copies these libraries, while no other process can build another version
/// of them.
fn run(mut cargo: Command, target: &Path, files: &[String]) -> Vec<PathBuf> {
    fs::create_dir_all(target).unwrap();
    let lock = fs::File::create(target.join("tests.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error);
    let folder = cargo.get_current_dir().unwrap().to_owned();
    assert!(
        cargo.status().unwrap().success(),
        "{} is built",
        folder.display()
    );
    files
        .iter()
        .map(|file| keep(&target.join("debug").join(file)))
        .collect()
}

/// Makes a copy with the hash of its content in the name.
fn keep(library: &Path) -> PathBuf {
    let bytes = fs::read(library).unwrap();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let folder = crate::temporary("libraries");
    fs::create_dir_all(&folder).unwrap();
    let name = library.file_name().unwrap().to_str().unwrap();
    let kept = folder.join(format!("{:016x}-{name}", hasher.finish()));
    if !kept.exists() {
        let file = tempfile::NamedTempFile::new_in(&folder).unwrap();
        fs::write(file.path(), &bytes).unwrap();
        file.persist(&kept).unwrap();
    }
    kept
}
