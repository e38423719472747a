//! `infrarust plugin list`, `reload` and `resume`: the plugins of the configuration
//! and of the proxy that runs with it, which is asked at its control socket.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{FAILURE, check};
use crate::admin::socket::{self as control, Command};
use crate::config::{self, Config, LoadOptions};
use crate::diagnostic::render::Colour;
use crate::diagnostic::words;

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object for programs.
    Json,
}

/// Lists the plugins as one JSON object: those of the configuration, and each
/// generation in the running proxy. If those are not known, `running` is `null` and
/// `problem` says why.
fn list_json(loaded: &config::Loaded, socket: &Path, out: &mut dyn Write) -> io::Result<()> {
    let unknown = |why: String| (Value::Null, json!(why));
    let (running, problem) = match control::ask(socket, &Command::PluginsJson) {
        Ok(Ok(text)) => match serde_json::from_str(&text) {
            Ok(running) => (running, Value::Null),
            Err(error) => unknown(format!("the running proxy's answer is not JSON: {error}")),
        },
        Ok(Err(text)) => unknown(format!("the running proxy says: {}", text.trim())),
        Err(error) if says_that_none_runs(&error) => unknown(none_runs(socket)),
        Err(error) => unknown(unanswered(&error, socket)),
    };
    let configured = loaded.config.as_ref().map(|config| {
        let plugins = config.plugins.iter().map(|plugin| {
            let manifest = &plugin.manifest;
            let on = |list: fn(&config::model::ServerConfig) -> &[String]| -> Vec<&str> {
                let servers = config.servers.iter();
                let servers = servers.filter(|server| list(server).contains(&plugin.id));
                servers.map(|server| server.id.as_str()).collect()
            };
            let names = |set: crate::manifest::CapabilitySet| -> Vec<&str> {
                set.iter()
                    .map(crate::capability::Capability::name)
                    .collect()
            };
            json!({
                "id": plugin.id,
                "version": manifest.version.to_string(),
                "file": plugin.file.to_string_lossy(),
                "hooks": names(manifest.hooks),
                "needs": names(manifest.needs),
                "wants": names(manifest.wants),
                "servers": on(|server| &server.plugins),
                "left_out": on(|server| &server.plugins_left_out),
            })
        });
        plugins.collect::<Vec<_>>()
    });
    let list = json!({
        "configured": configured,
        "control_socket": socket.to_string_lossy(),
        "running": running,
        "problem": problem,
    });
    writeln!(out, "{list:#}")
}

/// The message if nothing listens at the control socket.
fn none_runs(socket: &Path) -> String {
    format!(
        "no proxy answers at `{}`: none runs with this configuration, or it could not make its \
         control socket, or was started with another `control_socket`; the log of the start says so",
        words::path(socket)
    )
}

/// Lists the plugins of the configuration with their servers, and their state in the
/// running proxy, if one runs.
///
/// # Errors
///
/// When an output cannot be written.
pub(super) fn list(
    options: &LoadOptions,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let loaded = config::load(options);
    let why = "the plugins of a configuration with errors are not listed";
    if loaded.has_errors() {
        check::show(&loaded, why, &mut io::stderr(), Colour::for_stderr())?;
    }
    let socket = socket(options);
    let code = if loaded.has_errors() {
        ExitCode::from(FAILURE)
    } else {
        ExitCode::SUCCESS
    };
    if format == Format::Json {
        list_json(&loaded, &socket, out)?;
        return Ok(code);
    }
    if let Some(config) = &loaded.config {
        out.write_all(configured(config).as_bytes())?;
    }
    match control::ask(&socket, &Command::Plugins) {
        Ok(Ok(text)) if text.is_empty() => writeln!(out, "\nthe proxy runs without plugins")?,
        Ok(Ok(text)) => write!(out, "\nin the running proxy\n{}", indented(&text))?,
        Ok(Err(text)) => write!(out, "\nthe running proxy says: {text}")?,
        Err(error) if says_that_none_runs(&error) => {
            writeln!(out, "\n{}", none_runs(&socket))?;
        }
        Err(error) => writeln!(
            out,
            "\nwhether a proxy runs is not known: {}",
            unanswered(&error, &socket)
        )?,
    }
    Ok(code)
}

fn configured(config: &Config) -> String {
    if config.plugins.is_empty() {
        return "the configuration has no plugin\n".to_owned();
    }
    let mut text = String::new();
    for plugin in &config.plugins {
        let manifest = &plugin.manifest;
        let file = words::path(&plugin.file);
        let on = |list: fn(&config::model::ServerConfig) -> &[String]| -> String {
            let servers = config
                .servers
                .iter()
                .filter(|server| list(server).contains(&plugin.id));
            let ids: Vec<&str> = servers.map(|server| server.id.as_str()).collect();
            if ids.is_empty() {
                "none".to_owned()
            } else {
                ids.join(", ")
            }
        };
        let left_out = on(|server| &server.plugins_left_out);
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{} {}  {file}", plugin.id, manifest.version);
        let _ = writeln!(text, "  hooks     {}", manifest.hooks);
        for (title, set) in [("needs", manifest.needs), ("wants", manifest.wants)] {
            if set.bits() != 0 {
                let _ = writeln!(text, "  {title:<9} {set}");
            }
        }
        let _ = writeln!(text, "  servers   {}", on(|server| &server.plugins));
        if left_out != "none" {
            let _ = writeln!(text, "  left out  {left_out}");
        }
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Sends a command to the running proxy, and shows its answer.
///
/// # Errors
///
/// When an output cannot be written.
pub(super) fn ask(options: &LoadOptions, command: &Command) -> io::Result<ExitCode> {
    let path = socket(options);
    let (text, code) = match control::ask(&path, command) {
        Ok(Ok(text)) => {
            write!(io::stdout(), "{text}")?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Err(text)) => (text, FAILURE),
        Err(error) => (format!("{}\n", unanswered(&error, &path)), FAILURE),
    };
    write!(io::stderr(), "error: {text}")?;
    Ok(ExitCode::from(code))
}

/// Whether a failed request means that no proxy listens: there is no socket, or one
/// that an earlier proxy left.
fn says_that_none_runs(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Why the proxy did not answer at its control socket.
fn unanswered(error: &io::Error, path: &Path) -> String {
    let path = words::path(path);
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "this user may not use `{path}` ({error}); only the user that the proxy runs as may"
        ),
        _ => format!(
            "no proxy answers at `{path}`: {error}; is one running with this configuration, as this user?"
        ),
    }
}

/// The control socket of the configuration, or the default if that has errors.
fn socket(options: &LoadOptions) -> PathBuf {
    if let Some(config) = config::load(options).config {
        return config.proxy.control_socket.clone();
    }
    config::load::default_control_socket(options)
}
