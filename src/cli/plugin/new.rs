//! `infrarust plugin new`: creates the crate of a new plugin.
//!
//! The templates are complete plugins, in which only the placeholders that begin
//! with `template` are replaced. A test builds and tries each of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::api::{API_CRATE, Api};
use super::template::{crate_name, files, table, template};
use crate::diagnostic::words;
use crate::manifest::Hook;
use crate::show::Quoted;

/// The longest name in bytes, as in manifests.
const NAME_BYTES_MAX: usize = 64;

/// Names that a crate cannot have: keywords of Rust and crates of its own
/// (<https://doc.rust-lang.org/reference/keywords.html>, 2026).
const NO_CRATE: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Writes the crate to `folder`, all of it or nothing, and prints the next steps.
///
/// # Errors
///
/// When the name is not allowed, `folder` exists already and is not an empty folder, or it
/// cannot be written.
pub(super) fn run(
    name: &str,
    folder: &Path,
    api: Option<&Path>,
    hook: Hook,
    is_bare: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    check_name(name)
        .map_err(|why| anyhow::anyhow!("{} cannot be the name of a plugin: {why}", Quoted(name)))?;
    let template = template(hook, is_bare);
    let api = Api::find(api)?;
    let files = files(name, hook, &template, &api);
    write(folder, &files)?;

    let library = format!("target/release/lib{}.so", crate_name(name));
    writeln!(
        out,
        "made the plugin `{name}` with the hook `{hook}` in `{}`",
        words::path(folder)
    )?;
    writeln!(out, "it depends on {}\n", api.shown())?;
    writeln!(out, "next:")?;
    writeln!(out, "  cd {}", words::path(folder))?;
    writeln!(out, "  cargo test")?;
    writeln!(out, "  cargo build --release")?;
    writeln!(out, "  infrarust plugin inspect {library}")?;
    writeln!(
        out,
        "  infrarust plugin verify {library} --config config.toml"
    )?;
    writeln!(
        out,
        "\nthen copy the library into the folder of plugins, and write into `infrarust.toml`:\n"
    )?;
    write!(out, "{}", table(name, &template))?;
    Ok(ExitCode::SUCCESS)
}

/// Checks a name by the rules of ids, and by those of crates.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if !name.bytes().all(allowed) {
        return Err("a name consists of a to z, digits, `-` and `_`".to_owned());
    }
    if name.contains('.') {
        return Err("the name of a crate has no dots: use `-`".to_owned());
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err("the name of a crate begins with a letter".to_owned());
    }
    if NO_CRATE.contains(&name) || name == API_CRATE {
        return Err("a crate cannot have this name: use two words, such as `my-gate`".to_owned());
    }
    Ok(())
}

/// Writes all files to a temporary folder and renames it to `folder` at the end, so
/// that there is never half a crate. An empty folder may exist already: it stays, since it
/// may be the current one or a file system of its own, and the files are moved into it.
fn write(folder: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    let path = words::path(folder);
    let exists = folder.symlink_metadata().is_ok();
    if exists && !is_empty_folder(folder) {
        bail!("there already is something at `{path}`: choose another name, or `--path`");
    }
    let absolute = std::path::absolute(folder)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        bail!("`{path}` is not a name for a folder");
    };
    let temporary = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
    let temporary = Temporary(match exists {
        true => absolute.join(temporary),
        false => parent.join(temporary),
    });
    let write = || -> std::io::Result<()> {
        std::fs::create_dir(&temporary.0)?;
        std::fs::create_dir(temporary.0.join("src"))?;
        for (file, text) in files {
            std::fs::write(temporary.0.join(file), text)?;
        }
        match exists {
            true => move_content(&temporary.0, &absolute),
            false => std::fs::rename(&temporary.0, &absolute),
        }
    };
    write().with_context(|| format!("`{path}` cannot be written"))
}

fn is_empty_folder(path: &Path) -> bool {
    let content = std::fs::read_dir(path);
    content.is_ok_and(|mut content| content.next().is_none())
}

/// Moves all that is in one folder into another one on the same file system, or nothing.
fn move_content(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut moved = Vec::new();
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        if let Err(error) = std::fs::rename(from.join(&name), to.join(&name)) {
            for name in moved {
                let _ = std::fs::rename(to.join(&name), from.join(&name));
            }
            return Err(error);
        }
        moved.push(name);
    }
    Ok(())
}

/// A folder that is removed on drop, unless it has been renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name must be a valid id and a valid crate name.
    #[test]
    fn bad_names_are_refused() {
        for name in ["gate", "my-gate", "my_gate2", "a"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(65);
        for name in [
            "",
            "Gate",
            "my gate",
            "../gate",
            "my.gate",
            "2gate",
            "-gate",
            "_gate",
            "test",
            "match",
            "infrarust-plugin-api",
            "gäte",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    /// An existing folder with something in it is not changed, an empty one is filled, and
    /// with a missing parent folder nothing is written.
    #[test]
    fn existing_folders_stay_and_failures_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        std::fs::create_dir(&there).unwrap();
        let files = [
            ("file", "text".to_owned()),
            ("src/lib.rs", "code".to_owned()),
        ];
        assert!(write(&there, &[files[0].clone(), ("no/folder", String::new())]).is_err());
        assert!(is_empty_folder(&there));
        write(&there, &files).unwrap();
        assert_eq!(std::fs::read_dir(&there).unwrap().count(), 2);
        assert_eq!(std::fs::read(there.join("src/lib.rs")).unwrap(), b"code");
        assert!(write(&there, &files).is_err());
        assert!(write(&there.join("file"), &files).is_err());
        assert_eq!(std::fs::read_dir(&there).unwrap().count(), 2);
        assert!(write(&folder.path().join("no/parent"), &[]).is_err());
        assert!(write(&folder.path().join("bad"), &[("no/folder", String::new())]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&folder.path().join("good"), &[("file", "text".to_owned())]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
