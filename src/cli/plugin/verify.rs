//! `infrarust plugin verify`: tries a plugin without a proxy.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::{inspect, time};
use crate::config::{plugin_file, validate::names};
use crate::diagnostic::render::{self, Colour};
use crate::diagnostic::{Code, Diagnostic, Place, Sources, words};
use crate::plugin::probe::{self, Answer, Findings, ProbeError, ProbeErrorKind, Request};
use crate::show::Line;

/// The arguments of `verify`.
pub(super) struct Args<'a> {
    /// The plugin.
    pub(super) file: PathBuf,
    /// The file with its settings.
    pub(super) settings: Option<PathBuf>,
    /// Its data folder; `None` for an empty one.
    pub(super) data_folder: Option<PathBuf>,
    /// How long each step may take.
    pub(super) patience: Duration,
    /// The level of its log.
    pub(super) log: Option<&'a str>,
}

/// Tries the plugin. Writes the findings to `out`, and what went wrong to `err`.
///
/// # Errors
///
/// When the settings cannot be read, or an output cannot be written.
pub(super) fn run(
    args: &Args<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    // The name in its manifest is its usual id.
    let id = match plugin_file::check(&args.file, None) {
        Ok(checked) => checked.manifest.name,
        Err(error) => {
            inspect::refuse(&args.file, &error, err)?;
            return Ok(ExitCode::from(crate::cli::FAILURE));
        }
    };
    let document = match &args.settings {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("the settings `{}` cannot be read", words::path(path)))?,
        None => String::new(),
    };
    let (id, data_dir) = match &args.data_folder {
        Some(folder) => own_folder(folder)?,
        None => (id, None),
    };
    let request = Request {
        id,
        data_dir,
        file: std::path::absolute(&args.file)?,
        document,
        fire: true,
        log: args.log.map(str::to_owned),
        ..Request::default()
    };
    let tried = probe::probe(&probe::own_program(), &request, args.patience);
    let findings = match &tried {
        Ok(findings) => findings,
        Err(error) => &error.findings,
    };
    show(findings, out)?;
    match &tried {
        Ok(findings) if findings.is_good() => {
            writeln!(out, "\nall went well")?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(_) => writeln!(
            err,
            "\nerror: it works, but not everything went well: see above"
        )?,
        Err(error) => {
            writeln!(err)?;
            show_error(error, args, &request, err)?;
        }
    }
    Ok(ExitCode::from(crate::cli::FAILURE))
}

/// The id of a plugin with this data folder, and the folder of all plugins.
fn own_folder(folder: &Path) -> anyhow::Result<(String, Option<PathBuf>)> {
    let shown = words::path(folder);
    let whole = std::fs::canonicalize(folder)
        .with_context(|| format!("the data folder `{shown}` cannot be read"))?;
    anyhow::ensure!(whole.is_dir(), "the data folder `{shown}` is a file");
    let id = whole.file_name().and_then(std::ffi::OsStr::to_str);
    let id = id.filter(|id| names::is_id(id)).with_context(|| {
        format!("the data folder `{shown}` has no name that can be the id of a plugin")
    })?;
    Ok((id.to_owned(), whole.parent().map(Path::to_owned)))
}

fn show(findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    if let Some(started) = &findings.started {
        let (name, version) = (&started.name, &started.version);
        writeln!(out, "{name} {version} started in {}", time(started.took))?;
        match &started.mode {
            Some(mode) => writeln!(out, "asked as on a `{mode}` server")?,
            None => writeln!(out, "not asked: it runs in no mode")?,
        }
    }
    for fired in &findings.fired {
        let (mark, answer) = match &fired.answer {
            Answer::Said(answer) => ("ok    ", answer),
            Answer::Failed(why) => ("FAILED", why),
        };
        let about = format!("{} ({})", fired.hook, fired.about);
        let (took, answer) = (time(fired.took), Line(answer));
        writeln!(out, "  {mark}  {about:<36} {took:>9}  {answer}")?;
    }
    if let Some(started) = &findings.started
        && !findings.unasked.is_empty()
    {
        let (count, of) = (findings.unasked.len(), started.hooks.len());
        let hooks = findings.unasked.join(", ");
        writeln!(
            out,
            "  FAILED  {count} of {of} hooks were never asked: {hooks}"
        )?;
    }
    for trouble in &findings.troubles {
        writeln!(out, "  FAILED  {}", Line(trouble))?;
    }
    if let Some(took) = findings.ended {
        writeln!(out, "ended cleanly in {}", time(took))?;
    }
    if !findings.log.is_empty() {
        writeln!(out, "\nits log")?;
        for line in &findings.log {
            writeln!(out, "  {}", Line(line))?;
        }
    }
    if !findings.printed.trim().is_empty() {
        writeln!(out, "\nit printed")?;
        for line in findings.printed.trim_end().lines() {
            writeln!(out, "  {}", Line(line))?;
        }
    }
    Ok(())
}

/// Shows the error that ended the trial; a mistake in the settings with its place.
fn show_error(
    error: &ProbeError,
    args: &Args<'_>,
    request: &Request,
    err: &mut dyn Write,
) -> std::io::Result<()> {
    if let ProbeErrorKind::Refused(problem) = &error.kind
        && let (Some(place), Some(path)) = (problem.place.clone(), &args.settings)
        && request
            .document
            .get(place.clone())
            .is_some_and(|text| !text.is_empty())
    {
        let mut sources = Sources::default();
        let file = sources.add(path, request.document.as_str());
        let place = Place {
            file,
            span: place.into(),
        };
        let message = format!("the plugin refuses its settings: {}", Line(&problem.text));
        let diagnostic = Diagnostic::new(problem.code, place, message)
            .help("correct the settings; the plugin's documentation says which it knows");
        return writeln!(
            err,
            "{}",
            render::one(&diagnostic, &sources, Colour::for_stderr())
        );
    }
    let (file, why) = (words::path(&args.file), Line(&error.to_string()));
    writeln!(err, "error: the plugin `{file}` does not work: {why}")?;
    writeln!(err, "  = help: {}", help(&error.kind))
}

/// What to do about an error. [`ProbeErrorKind::help`] speaks of a configuration
/// that names the plugin; here there is none.
fn help(error: &ProbeErrorKind) -> String {
    match error {
        ProbeErrorKind::Refused(problem) if problem.code == Code::PluginConfig => {
            "correct its settings, and name their file with `--config`".to_owned()
        }
        ProbeErrorKind::Refused(problem) if problem.code == Code::PluginStart => {
            "ask its documentation what it needs to start".to_owned()
        }
        error => error.help(),
    }
}
