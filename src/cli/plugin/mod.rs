//! `infrarust plugin inspect`, `verify` and `new`: for authors of plugins, and for
//! operators who want to check a plugin's file. They need neither a configuration
//! nor a running proxy.

mod api;
mod inspect;
mod new;
mod template;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::manifest::Hook;
use crate::plugin::probe;

/// How long each step of a plugin may take when it is verified: more than the 30 s
/// that the host gives to its start, so that the host's clearer message is shown.
const PATIENCE: &str = "40s";

/// Commands about files of plugins.
#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Print what a plugin's file says about itself, without running it.
    ///
    /// Shows its manifest, its SHA-256, its compiler, what it needs of the system,
    /// and what it may do in each mode. Exits with 1 if it is not a plugin for this
    /// proxy.
    Inspect {
        /// The file, such as `target/release/libmotd.so`.
        file: PathBuf,
        /// The form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: inspect::Format,
    },
    /// Load a plugin in a separate process, call each of its hooks, and end it.
    ///
    /// This runs code of the plugin with your rights. Exits with 0 only if all went
    /// well.
    Verify {
        /// The file, such as `target/release/libmotd.so`.
        file: PathBuf,
        /// A TOML file with the plugin's own settings: the content of its `config`
        /// table, without the header [default: no settings].
        #[arg(long, value_name = "TOML_FILE")]
        config: Option<PathBuf>,
        /// The data folder of the plugin, such as `plugins/motd`. The plugin may write
        /// into it, and the folder's name is its id [default: an empty folder, removed
        /// afterwards].
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// How long each step may take, such as `5s`.
        #[arg(long, value_name = "TIME", default_value = PATIENCE, value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Create a new plugin: a crate that builds, passes its tests, and loads.
    New {
        /// The name of the plugin, its id and its crate: a-z, 0-9, `-` and `_`.
        name: String,
        /// The folder of the crate [default: the name].
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
        /// The folder `plugin-api` of a checkout to depend on [default: the one that
        /// this program was built from, if it still exists].
        #[arg(long, value_name = "DIR")]
        api_path: Option<PathBuf>,
        /// The hook that the new plugin has.
        #[arg(long, default_value = Hook::LoginDecide.name(), value_parser = hook())]
        hook: Hook,
        /// Without an example of what the hook can do.
        #[arg(long)]
        bare: bool,
    },
    /// The child process of `verify`.
    #[command(hide = true)]
    Probe,
}

fn hook() -> impl TypedValueParser<Value = Hook> {
    PossibleValuesParser::new(Hook::ALL.map(Hook::name)).try_map(|name| {
        let mut hooks = Hook::ALL.into_iter();
        hooks
            .find(|hook| hook.name() == name)
            .ok_or("no hook has this name")
    })
}

/// Runs a command.
///
/// # Errors
///
/// When an output cannot be written, or a call to the system fails.
pub(super) fn run(tool: Tool, log_level: Option<&str>) -> anyhow::Result<ExitCode> {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    match tool {
        Tool::Inspect { file, format } => inspect::run(&file, format, &mut out, &mut err),
        Tool::Verify {
            file,
            config,
            data_folder,
            timeout,
        } => {
            let args = verify::Args {
                file,
                settings: config,
                data_folder,
                patience: timeout,
                log: log_level,
            };
            verify::run(&args, &mut out, &mut err)
        }
        Tool::New {
            name,
            path,
            api_path,
            hook,
            bare,
        } => {
            let path = path.unwrap_or_else(|| PathBuf::from(&name));
            new::run(&name, &path, api_path.as_deref(), hook, bare, &mut out)
        }
        Tool::Probe => {
            probe::serve()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A duration as text, in µs, ms or s.
fn time(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..1000 => format!("{micros} µs"),
        1000..10_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
