//! `infrarust plugin new`: a crate to begin with.
//!
//! The templates are whole plugins; only the placeholders that begin with
//! `template` are filled in. A test builds and tries every one of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::diagnostic::words;
use crate::manifest::Hook;

/// The name of the crate that plugins depend on.
const API_CRATE: &str = "infrarust-plugin-api";
/// Where it was when this program was built.
const API_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plugin-api");
/// The longest name in bytes, as in manifests.
const NAME_BYTES_MAX: usize = 64;

const MANIFEST: &str = include_str!("template/Cargo.toml.template");
const README: &str = include_str!("template/README.md.template");

/// Words that Rust keeps, or that name crates of its own: no crate can be
/// called so (<https://doc.rust-lang.org/reference/keywords.html>, 2026).
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

/// What differs from hook to hook.
struct Template {
    source: &'static str,
    settings: &'static str,
}

macro_rules! templates {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The template of a hook, which lies in files with the name of its method.
        fn template(hook: Hook) -> Template {
            match hook {
                $(Hook::$hook => Template {
                    source: include_str!(concat!("template/", stringify!($method), ".rs")),
                    settings: include_str!(concat!("template/", stringify!($method), ".toml")),
                },)+
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [templates] }

impl Template {
    /// What its head says that it does, without a period and what follows a comma.
    fn description(&self) -> String {
        let lines = self.source.lines();
        let head = lines.map_while(|line| line.strip_prefix("//! "));
        let head = head.collect::<Vec<_>>().join(" ");
        let (_, does) = head.split_once(": ").unwrap_or_default();
        let does = does.split([',', '.']).next().unwrap_or_default();
        let mut letters = does.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    }

    /// More dependencies, each a line.
    fn dependencies(&self) -> &'static str {
        if self.source.contains("serde_json::") {
            "serde_json = \"1\"\n"
        } else {
            ""
        }
    }
}

/// Writes the crate to `folder`, all of it or nothing, and says what comes next.
///
/// # Errors
///
/// When the name cannot be one, something is there already, or the folder
/// cannot be written.
pub(super) fn run(
    name: &str,
    folder: &Path,
    api: Option<&Path>,
    hook: Hook,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    check_name(name)
        .map_err(|why| anyhow::anyhow!("`{}` cannot be its name: {why}", shown(name)))?;
    let template = template(hook);
    let api = Api::find(api)?;
    let files = files(name, hook, &template, &api);
    write(folder, &files)?;

    let library = format!("target/release/lib{}.so", crate_name(name));
    writeln!(
        out,
        "made the plugin `{name}` with the hook `{hook}` in `{}`",
        words::path(folder)
    )?;
    writeln!(out, "it depends on {}\n", api.told())?;
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

/// The rule of ids, and what crates need beyond it.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("it has 1 to {NAME_BYTES_MAX} bytes"));
    }
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if !name.bytes().all(allowed) {
        return Err("it is made of a to z, digits, `-` and `_`".to_owned());
    }
    if name.contains('.') {
        return Err("an id may have dots, but a crate may not: take a `-`".to_owned());
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err("a crate begins with a letter".to_owned());
    }
    if NO_CRATE.contains(&name) || name == API_CRATE {
        return Err("no crate can be called so: take two words, such as `my-gate`".to_owned());
    }
    Ok(())
}

fn shown(name: &str) -> String {
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    shown.escape_debug().to_string()
}

fn crate_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Where `infrarust-plugin-api` comes from.
struct Api(PathBuf);

impl Api {
    fn find(folder: Option<&Path>) -> anyhow::Result<Self> {
        let is_api = |folder: &Path| {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok();
            let manifest: Option<toml::Table> = manifest.and_then(|text| text.parse().ok());
            let name = manifest
                .as_ref()
                .and_then(|manifest| manifest.get("package")?.get("name"));
            name.and_then(toml::Value::as_str) == Some(API_CRATE)
        };
        match folder {
            Some(folder) if is_api(folder) => Ok(Api(std::fs::canonicalize(folder)?)),
            Some(folder) => bail!(
                "`{}` is not the crate `{API_CRATE}`: name the folder `plugin-api` of a checkout",
                words::path(folder)
            ),
            None if is_api(Path::new(API_FOLDER)) => Ok(Api(API_FOLDER.into())),
            None => bail!(
                "the crate `{API_CRATE}` is not published, and the checkout that this program was \
                 built from is gone: name the folder `plugin-api` of a checkout with `--api-path`"
            ),
        }
    }

    fn told(&self) -> String {
        format!("`{}`", words::path(&self.0))
    }

    /// The dependency, as TOML writes it.
    fn dependency(&self, features: &str) -> String {
        let path = toml::Value::from(self.0.to_string_lossy().into_owned());
        format!("{{ path = {path}{features} }}")
    }
}

fn files(name: &str, hook: Hook, template: &Template, api: &Api) -> Vec<(&'static str, String)> {
    let fill = |text: &str| {
        text.replace("template-name", name)
            .replace("template_name", &crate_name(name))
            .replace("template-description", &template.description())
            .replace("template-hook", hook.name())
            .replace("template-table", &table(name, template))
            .replace("template-api", &api.dependency(""))
            .replace(
                "template-testing",
                &api.dependency(", features = [\"testing\"]"),
            )
            .replace("template-more\n", template.dependencies())
    };
    vec![
        ("Cargo.toml", fill(MANIFEST)),
        ("README.md", fill(README)),
        (".gitignore", "/target\n".to_owned()),
        ("config.toml", template.settings.to_owned()),
        ("src/lib.rs", fill(template.source)),
    ]
}

/// The table of the plugin, as it stands in `infrarust.toml`.
fn table(name: &str, template: &Template) -> String {
    format!(
        "[plugins.{name}]\n[plugins.{name}.config]\n{}",
        template.settings
    )
}

/// Writes all files beside `folder`, and gives them its name at the end: half a
/// crate is never there.
fn write(folder: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    let path = words::path(folder);
    if folder.symlink_metadata().is_ok() {
        bail!("there already is something at `{path}`: choose another name, or `--path`");
    }
    let absolute = std::path::absolute(folder)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        bail!("`{path}` is no name for a folder");
    };
    let temporary = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
    let temporary = Temporary(parent.join(temporary));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir(&temporary.0)?;
        std::fs::create_dir(temporary.0.join("src"))?;
        for (file, text) in files {
            std::fs::write(temporary.0.join(file), text)?;
        }
        std::fs::rename(&temporary.0, &absolute)
    };
    write().with_context(|| format!("`{path}` cannot be written"))
}

/// A folder that is gone when it is dropped, unless it has got another name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no id, or no crate, is no name.
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

    /// Every hook has a template, and no placeholder is left in it.
    #[test]
    fn every_hook_has_a_template() {
        for hook in Hook::ALL {
            let template = template(hook);
            for (file, text) in files("my-gate", hook, &template, &Api("plugin-api".into())) {
                assert!(!text.contains("template"), "{hook}: {file}: {text}");
                if file.ends_with(".toml") {
                    text.parse::<toml::Table>().unwrap();
                }
            }
            let description = template.description();
            assert!(description.len() > 15, "{description}");
            let table: toml::Table = table("my-gate", &template).parse().unwrap();
            let settings: toml::Table = template.settings.parse().unwrap();
            assert_eq!(
                table["plugins"]["my-gate"]["config"],
                toml::Value::Table(settings)
            );
        }
    }

    /// A folder that is there stays as it is, and a parent that is not there
    /// leaves nothing behind.
    #[test]
    fn nothing_is_overwritten_or_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        std::fs::create_dir(&there).unwrap();
        assert!(write(&there, &[]).is_err());
        assert!(write(&folder.path().join("no/parent"), &[]).is_err());
        assert!(write(&folder.path().join("bad"), &[("no/folder", String::new())]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&folder.path().join("good"), &[("file", "text".to_owned())]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
