//! `infrarust capabilities`: which capabilities each mode offers and why it lacks the
//! others; with a configuration, also which plugin is active on which server.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::capability::{Capability, Offer, Reason, offer};
use crate::config::model::{Config, PluginConfig, ServerConfig};
use crate::manifest::{Listing, MissingCapability};
use crate::mode::{Family, Mode};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for a terminal.
    #[default]
    Text,
    /// The page of the documents.
    Markdown,
    /// One JSON object for programs.
    Json,
}

/// Writes the matrix; in text and JSON also what it means for a configuration.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn run(format: Format, config: Option<&Config>, out: &mut dyn Write) -> io::Result<ExitCode> {
    let text = match format {
        Format::Text => to_text() + &config.map(servers_text).unwrap_or_default(),
        Format::Markdown => to_markdown(),
        Format::Json => to_json(config) + "\n",
    };
    out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The reasons in the order of their first occurrence in the matrix; the position
/// of each is the number of its note.
fn reasons() -> Vec<Reason> {
    let mut reasons = Vec::new();
    for capability in Capability::ALL {
        for mode in Mode::ALL {
            if let Offer::No(reason) = offer(mode, *capability)
                && !reasons.contains(&reason)
            {
                reasons.push(reason);
            }
        }
    }
    reasons
}

fn cell(mode: Mode, capability: Capability, reasons: &[Reason]) -> String {
    match offer(mode, capability) {
        Offer::Yes => "yes".to_owned(),
        Offer::No(reason) => {
            let note = reasons.iter().position(|other| *other == reason);
            format!("no ({})", note.map_or(0, |n| n + 1))
        }
    }
}

fn to_text() -> String {
    let reasons = reasons();
    let mut text = String::new();
    let name_width = Capability::ALL
        .iter()
        .map(|c| c.name().len())
        .max()
        .unwrap_or(0);
    let _ = write!(text, "{:<name_width$}", "");
    for mode in Mode::ALL {
        let _ = write!(text, "  {:<11}", mode.name());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for capability in Capability::ALL {
        let _ = write!(text, "{:<name_width$}", capability.name());
        for mode in Mode::ALL {
            let _ = write!(text, "  {:<11}", cell(mode, *capability, &reasons));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push('\n');
    for (n, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "({}) {reason}", n + 1);
    }
    text
}

/// Whether a plugin is active on a server.
enum Standing {
    /// It is active, without these wants.
    Active(Vec<MissingCapability>),
    /// It is inactive: the mode does not offer these, which it needs.
    Inactive(Vec<MissingCapability>),
    /// It is not attached to the server.
    NotAttached,
}

impl Standing {
    fn of(plugin: &PluginConfig, server: &ServerConfig) -> Self {
        let missing = plugin.manifest.missing_in(server.mode());
        let (wants, hard): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|one| one.listing == Listing::Want);
        if server.plugins.contains(&plugin.id) {
            Standing::Active(wants)
        } else if server.plugins_left_out.contains(&plugin.id) {
            Standing::Inactive(hard)
        } else {
            Standing::NotAttached
        }
    }
}

/// Each server with the plugins that are attached to it or left out.
fn servers_text(config: &Config) -> String {
    let mut text = String::from("\nplugins on the configured servers\n");
    if config.plugins.is_empty() {
        text.push_str("  none: the configuration has no plugin\n");
        return text;
    }
    let width = config.plugins.iter().map(|plugin| plugin.id.len()).max();
    let width = width.unwrap_or(0);
    let names = |missing: &[MissingCapability]| -> String {
        let parts = missing
            .iter()
            .map(|one| format!("{} ({})", one.capability, one.reason));
        parts.collect::<Vec<_>>().join(", ")
    };
    for server in &config.servers {
        let _ = writeln!(text, "\n{} ({})", server.id, server.mode());
        for plugin in &config.plugins {
            let standing = match Standing::of(plugin, server) {
                Standing::Active(wants) => {
                    let hooks = plugin.manifest.hooks;
                    let without = if wants.is_empty() {
                        String::new()
                    } else {
                        format!("; without {}", names(&wants))
                    };
                    format!("active: {hooks}{without}")
                }
                Standing::Inactive(missing) => format!("inactive: it needs {}", names(&missing)),
                Standing::NotAttached => "not attached".to_owned(),
            };
            let _ = writeln!(text, "  {:<width$}  {standing}", plugin.id);
        }
    }
    text
}

/// The same as [`servers_text`], as JSON.
fn servers_json(config: &Config) -> serde_json::Value {
    let as_json = |missing: &[MissingCapability]| -> Vec<serde_json::Value> {
        let one = |one: &MissingCapability| json!({"capability": one.capability.name(), "reason": one.reason.text()});
        missing.iter().map(one).collect()
    };
    let servers = config.servers.iter().map(|server| {
        let plugins = config.plugins.iter().map(|plugin| {
            let (state, lacking) = match Standing::of(plugin, server) {
                Standing::Active(wants) => ("active", as_json(&wants)),
                Standing::Inactive(hard) => ("inactive", as_json(&hard)),
                Standing::NotAttached => ("not_attached", Vec::new()),
            };
            json!({"id": plugin.id, "state": state, "lacks": lacking})
        });
        json!({
            "id": server.id,
            "mode": server.mode().name(),
            "plugins": plugins.collect::<Vec<_>>(),
        })
    });
    servers.collect()
}

/// The page `docs/capabilities.md`.
#[must_use]
pub fn to_markdown() -> String {
    let reasons = reasons();
    let mut text = String::from(
        "# Modes and capabilities\n\n\
         <!-- Made from the matrix in src/capability.rs: `infrarust capabilities --format markdown`. -->\n\n\
         The mode of a server says how much the proxy takes part in its connections. A capability is\n\
         one thing that plugins or keys of the configuration can ask for. If they need what the mode of\n\
         a server does not offer, the configuration is refused when it is loaded, with the reason.\n\n\
         ## Modes\n\n\
         | mode | family | what happens |\n|---|---|---|\n",
    );
    for mode in Mode::ALL {
        let family = match mode.family() {
            Family::Forwarding => "forwarding",
            Family::Intercepted => "intercepted",
        };
        let _ = writeln!(text, "| `{mode}` | {family} | {} |", mode.meaning());
    }
    text.push_str("\n## Capabilities\n\n| capability | what it is for |");
    for mode in Mode::ALL {
        let _ = write!(text, " {mode} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(Mode::ALL.len()));
    text.push('\n');
    for capability in Capability::ALL {
        let _ = write!(text, "| `{capability}` | {} |", capability.meaning());
        for mode in Mode::ALL {
            let _ = write!(text, " {} |", cell(mode, *capability, &reasons));
        }
        text.push('\n');
    }
    text.push_str("\n## Why not\n\n");
    for (n, reason) in reasons.iter().enumerate() {
        let _ = writeln!(
            text,
            "{}. {}{}.",
            n + 1,
            upper(reason.text()).0,
            upper(reason.text()).1
        );
    }
    text
}

/// The first letter in upper case, and the rest.
fn upper(text: &str) -> (String, &str) {
    let mut rest = text.chars();
    let first = rest
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    (first, rest.as_str())
}

/// The matrix as JSON: modes, then capabilities with an offer for each mode,
/// and the servers of a configuration with their plugins.
#[must_use]
pub fn to_json(config: Option<&Config>) -> String {
    let modes: Vec<_> = Mode::ALL
        .into_iter()
        .map(|mode| {
            let family = match mode.family() {
                Family::Forwarding => "forwarding",
                Family::Intercepted => "intercepted",
            };
            json!({"name": mode.name(), "family": family, "meaning": mode.meaning()})
        })
        .collect();
    let capabilities: Vec<_> = Capability::ALL
        .iter()
        .map(|capability| {
            let offers: serde_json::Map<_, _> = Mode::ALL
                .into_iter()
                .map(|mode| {
                    let value = match offer(mode, *capability) {
                        Offer::Yes => json!({"offered": true}),
                        Offer::No(reason) => json!({"offered": false, "reason": reason.text()}),
                    };
                    (mode.name().to_owned(), value)
                })
                .collect();
            json!({
                "name": capability.name(),
                "meaning": capability.meaning(),
                "modes": offers,
            })
        })
        .collect();
    let mut all = json!({"modes": modes, "capabilities": capabilities});
    if let Some(config) = config {
        all["servers"] = servers_json(config);
    }
    format!("{all:#}")
}
