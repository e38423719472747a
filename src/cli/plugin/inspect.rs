//! `infrarust plugin inspect`: shows what is in a plugin's file, without running it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use infrarust_plugin_abi::API_VERSION;
use serde_json::{Value, json};

use crate::capability::Capability;
use crate::config::plugin_file::{self, CheckedFile, PluginFileError};
use crate::diagnostic::words;
use crate::manifest::library::{self, Glibc, Library};
use crate::manifest::{CapabilitySet, Listing, Manifest, MissingCapability};
use crate::mode::Mode;
use crate::show::Line;

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object for programs.
    Json,
}

/// Prints what is in the file on `out`, or on `err` why it is not a plugin. In JSON
/// both go to `out`.
///
/// # Errors
///
/// When an output cannot be written.
pub(super) fn run(
    file: &Path,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    match (plugin_file::examine(file, None), format) {
        (Ok(checked), Format::Text) => write!(out, "{}", Inspected::of(file, &checked).to_text())?,
        (Ok(checked), Format::Json) => {
            writeln!(out, "{:#}", Inspected::of(file, &checked).to_json())?;
        }
        (Err(error), format) => {
            if format == Format::Json {
                let file = file.to_string_lossy();
                let object =
                    json!({ "file": file, "error": error.to_string(), "help": help(&error) });
                writeln!(out, "{object:#}")?;
            } else {
                refuse(file, &error, err)?;
            }
            return Ok(ExitCode::from(crate::cli::FAILURE));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints why a file is not a plugin, and what to do.
pub(super) fn refuse(
    file: &Path,
    error: &PluginFileError,
    err: &mut dyn Write,
) -> std::io::Result<()> {
    let (path, code, help) = (words::path(file), error.code(), help(error));
    writeln!(
        err,
        "error[{code}]: `{path}` is not a plugin for this proxy: {error}\n  = help: {help}"
    )
}

/// What to do about an error. [`PluginFileError::help`] speaks of a configuration
/// that names the file; here there is none.
fn help(error: &PluginFileError) -> String {
    match error {
        PluginFileError::Read(_) => {
            "name the library that `cargo build` has made, such as `target/release/libNAME.so`"
                .to_owned()
        }
        PluginFileError::Pin { .. }
        | PluginFileError::Manifest(_)
        | PluginFileError::Glibc { .. } => error.help(),
    }
}

struct Inspected<'a> {
    file: &'a Path,
    bytes: usize,
    sha256: String,
    manifest: &'a Manifest,
    library: Library,
    glibc_here: Option<Glibc>,
}

impl<'a> Inspected<'a> {
    fn of(file: &'a Path, checked: &'a CheckedFile) -> Self {
        Self {
            file,
            bytes: checked.bytes.len(),
            sha256: plugin_file::hex(&plugin_file::sha256(&checked.bytes)),
            manifest: &checked.manifest,
            library: library::read(&checked.bytes),
            glibc_here: library::glibc_of_this_system(),
        }
    }

    fn to_text(&self) -> String {
        let manifest = self.manifest;
        let mut text = format!("{} {}\n", manifest.name, manifest.version);
        if let Some(description) = &manifest.description {
            let _ = writeln!(text, "{}", Line(description));
        }
        text.push('\n');
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<12}{value}");
        };
        let license = manifest
            .license
            .as_deref()
            .map(|text| Line(text).to_string());
        line(
            "file",
            &format!("{}, {}", words::path(self.file), size(self.bytes)),
        );
        line("licence", license.as_deref().unwrap_or("not stated"));
        let (major, minor) = manifest.api;
        let requires = &manifest.requires;
        let api = format!(
            "built with {major}.{minor}, requires {requires}; this proxy offers {API_VERSION}"
        );
        line("plugin API", &api);
        line("hooks", &list(manifest.hooks));
        line("needs", &list(manifest.needs));
        line("wants", &list(manifest.wants));
        let profile = if manifest.is_debug {
            "with debug assertions: for the proxy that serves, build with `--release`"
        } else {
            "release"
        };
        line("build", profile);
        if manifest.has_runtime {
            line("runtime", "brings a tokio runtime of its own");
        }
        line("compiler", &self.compilers());
        line("libraries", &or_not_stated(&self.library.needed));
        line("glibc", &self.glibc());

        text.push_str("\nwhat it may do in each mode\n");
        for mode in Mode::ALL {
            let _ = writeln!(text, "  {:<13}{}", mode.name(), self.in_mode(mode));
            for one in manifest.missing_in(mode) {
                let MissingCapability {
                    capability, reason, ..
                } = one;
                let _ = writeln!(text, "  {:<13}no {capability}: {reason}", "");
            }
        }
        let _ = write!(
            text,
            "\nto pin this very file, under `[plugins.{}]`:\nsha256 = \"{}\"\n",
            manifest.name, self.sha256
        );
        text
    }

    /// The Rust compilers in the file, or all compilers if none is a Rust compiler.
    fn compilers(&self) -> String {
        let all = &self.library.compilers;
        let rust = all.iter().filter(|name| name.starts_with("rustc "));
        let rust: Vec<String> = rust.cloned().collect();
        or_not_stated(if rust.is_empty() { all } else { &rust })
    }

    fn in_mode(&self, mode: Mode) -> String {
        if self.manifest.runs_in(mode) {
            format!("runs: {}", list(self.manifest.grants(mode)))
        } else {
            "does not run".to_owned()
        }
    }

    fn glibc(&self) -> String {
        let Some(needed) = self.library.glibc else {
            return "none needed, or not stated".to_owned();
        };
        match self.glibc_here {
            None => format!("{needed} or newer; this system's is not known"),
            Some(here) if needed <= here => format!("{needed} or newer; this system has {here}"),
            Some(here) => format!(
                "{needed} or newer, and this system has {here}: it will not load here; build it \
                 on a system as old as this one"
            ),
        }
    }

    fn to_json(&self) -> Value {
        let manifest = self.manifest;
        let (major, minor) = manifest.api;
        let set = |set: CapabilitySet| set.iter().map(Capability::name).collect::<Vec<_>>();
        let modes = Mode::ALL.map(|mode| {
            let missing = manifest.missing_in(mode);
            let missing = missing.iter().map(|one| {
                let (capability, reason) = (one.capability.name(), one.reason.text());
                let is_needed = one.listing != Listing::Want;
                json!({ "capability": capability, "list": one.listing.key(), "is_needed": is_needed, "reason": reason })
            });
            json!({
                "mode": mode.name(),
                "runs": manifest.runs_in(mode),
                "grants": set(manifest.grants(mode)),
                "lacks": missing.collect::<Vec<_>>(),
            })
        });
        json!({
            "file": self.file.to_string_lossy(),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "name": manifest.name,
            "version": manifest.version.to_string(),
            "description": manifest.description,
            "license": manifest.license,
            "api": {
                "built_with": format!("{major}.{minor}"),
                "requires": manifest.requires.to_string(),
                "offered": API_VERSION.to_string(),
            },
            "hooks": set(manifest.hooks),
            "needs": set(manifest.needs),
            "wants": set(manifest.wants),
            "is_debug": manifest.is_debug,
            "has_runtime": manifest.has_runtime,
            "compilers": self.library.compilers,
            "libraries": self.library.needed,
            "glibc": {
                "needed": self.library.glibc.map(|version| version.to_string()),
                "here": self.glibc_here.map(|version| version.to_string()),
            },
            "modes": modes,
        })
    }
}

fn list(set: CapabilitySet) -> String {
    if set == CapabilitySet::default() {
        "none".to_owned()
    } else {
        set.to_string()
    }
}

fn or_not_stated(names: &[String]) -> String {
    if names.is_empty() {
        "not stated".to_owned()
    } else {
        names.join(", ")
    }
}

fn size(bytes: usize) -> String {
    let kib = bytes.div_ceil(1024);
    if kib < 1024 {
        format!("{kib} KiB")
    } else {
        format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
    }
}
