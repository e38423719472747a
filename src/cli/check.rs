//! `infrarust check`: every problem of the configuration, without starting anything.

use std::io::{self, Write};
use std::process::ExitCode;

use super::containers;
use crate::config::{LoadOptions, Loaded, load};
use crate::diagnostic::json;
use crate::diagnostic::render::{self, Colour};
#[cfg(unix)]
use crate::plugin::{Spec, trial};

/// How the problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people, on standard error.
    #[default]
    Text,
    /// One JSON array, on standard output.
    Json,
}

/// The arguments of `check`.
#[derive(Debug, Clone, Default)]
pub struct CheckArgs {
    /// What to load.
    pub load: LoadOptions,
    /// How the problems are shown.
    pub format: Format,
    /// Whether a warning fails the check.
    pub deny_warnings: bool,
    /// Whether each plugin is tried in a process of its own.
    pub deep: bool,
    /// Whether the labels of containers are checked, too.
    pub docker: bool,
}

/// Tries the plugins of a configuration without errors, and reports those that do
/// not start.
#[cfg(unix)]
fn try_plugins(loaded: &mut Loaded) {
    let Some(config) = &loaded.config else {
        return;
    };
    let specs = config.plugins.iter().map(|plugin| Spec::from(&**plugin));
    let specs: Vec<Spec> = specs.collect();
    let failed = trial::check(&specs, &config.proxy.plugins_dir);
    let problems = failed.iter().map(|failed| failed.diagnostic(loaded));
    loaded.report(problems.collect());
}

/// Checks a configuration and shows the problems, as JSON on `out` or as text on
/// `err`. Notes about containers go to `err` in both formats.
///
/// The exit code is 0 without errors, 1 with errors, or with warnings that are denied.
///
/// # Errors
///
/// When an output cannot be written.
pub fn run(
    args: &CheckArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: Colour,
) -> io::Result<ExitCode> {
    let mut loaded = load(&args.load);
    #[cfg(unix)]
    if args.deep {
        try_plugins(&mut loaded);
    }
    let containers = args.docker.then(|| containers::check(&args.load, &loaded));
    let containers = containers.unwrap_or_default();
    match args.format {
        Format::Json => {
            let of_containers = containers.problems.iter();
            let of_containers = of_containers.map(|p| (p.diagnostics.as_slice(), &p.sources));
            let files = std::iter::once((loaded.diagnostics.as_slice(), &loaded.sources));
            writeln!(out, "{}", json::to_json(files.chain(of_containers)))?;
            // Notes are not diagnostics: nothing has to be changed.
            containers.show_notes(err)?;
        }
        Format::Text => {
            let end = if loaded.has_errors() {
                "the proxy would not start"
            } else {
                "the proxy would start"
            };
            show(&loaded, end, err, colour)?;
            if loaded.diagnostics.is_empty() {
                let servers = loaded
                    .config
                    .as_ref()
                    .map_or(0, |config| config.servers.len());
                writeln!(err, "no problems in {}", servers_and_proxy(servers))?;
            }
            containers.show(err, colour)?;
        }
    }
    let of_containers = containers.problems.iter().flat_map(|p| &p.diagnostics);
    let mut all = loaded.diagnostics.iter().chain(of_containers);
    let failed = containers.is_unknown || all.any(|d| d.is_error() || args.deny_warnings);
    Ok(if failed {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn servers_and_proxy(servers: usize) -> String {
    let noun = crate::diagnostic::words::count(servers, "server file");
    format!("the global file and {noun}")
}

/// Shows problems as text, with a last line that counts them and ends with the
/// consequence `end`: `2 errors in 2 files; the proxy was not started`. Writes
/// nothing if there are none.
///
/// # Errors
///
/// When `err` cannot be written.
pub fn show(loaded: &Loaded, end: &str, err: &mut dyn Write, colour: Colour) -> io::Result<()> {
    if let Some(summary) = render::summary(&loaded.diagnostics) {
        let text = render::to_text(&loaded.diagnostics, &loaded.sources, colour);
        writeln!(err, "{text}{summary}; {end}")?;
    }
    Ok(())
}
