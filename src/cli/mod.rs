//! The command line: its options, and one file for each subcommand. They parse,
//! call other modules and print; the work itself is done elsewhere.

pub mod capabilities;
pub mod check;
mod containers;
pub mod explain;
#[cfg(unix)]
mod plugin;
pub mod route;
mod run;
#[cfg(unix)]
mod running;
pub mod schema;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, LoadOptions, Loaded};
use crate::demo;
use crate::diagnostic::render::Colour;

/// The exit code of a command that found errors.
const FAILURE: u8 = 1;

/// A Minecraft reverse proxy with a mode for each server.
#[derive(Debug, Parser)]
#[command(name = "infrarust", version, about)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
struct Options {
    /// The global configuration file [default: infrarust.toml].
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here instead of where the configuration says; may be repeated.
    #[arg(short, long, global = true, value_name = "IP:PORT")]
    bind: Vec<std::net::SocketAddr>,
    /// How much to log: error, warn, info, debug, trace, off, or a filter as in `RUST_LOG`.
    #[arg(short, long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The folder of the server files.
    #[arg(long, global = true, value_name = "DIR")]
    servers_dir: Option<PathBuf>,
    /// The folder of the plugins.
    #[arg(long, global = true, value_name = "DIR")]
    plugins_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve players. This is the default.
    Run,
    /// Find every mistake of the configuration, without starting anything.
    ///
    /// Reads files only: uses no network unless `--docker` is given, and runs no
    /// plugin unless `--deep` is given. Exits with 0 if there is no error, with 1 if
    /// there is one, and with 2 for wrong usage.
    Check {
        /// How to show what was found: text on standard error, or one JSON
        /// array on standard output.
        #[arg(long, value_enum, default_value_t)]
        format: check::Format,
        /// Exit with 1 for warnings, too.
        #[arg(long)]
        deny_warnings: bool,
        /// Also create and end each plugin with its settings, in a separate process.
        /// This runs code of the plugins.
        #[cfg(unix)]
        #[arg(long)]
        deep: bool,
        /// Ask the engine of `[docker]`, too, and check the labels of the
        /// containers that run. Changes nothing.
        #[arg(long)]
        docker: bool,
    },
    /// Explain a code of a diagnostic: what it means, why it matters, and an
    /// example with and without the problem. Without a code, list all codes.
    Explain {
        /// The code, such as `mode-conflict`.
        code: Option<String>,
    },
    /// Show what each mode offers, and why it does not offer the rest.
    ///
    /// If there is a configuration, also show which plugin is active on which
    /// server, and why not on the others.
    Capabilities {
        /// The form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: capabilities::Format,
        /// Ask the engine of `[docker]`, too, and show the containers that run.
        #[arg(long)]
        docker: bool,
    },
    /// Print the JSON Schema of a kind of file, for editors. Without a kind, list
    /// the kinds.
    Schema {
        /// The kind of file.
        #[arg(value_enum)]
        kind: Option<schema::FileKind>,
    },
    /// Show to which server a host leads, by which rule, and why not to others.
    ///
    /// Exits with 1 if no server claims the host.
    Route {
        /// The host as a player types it, or as the client sends it.
        host: String,
        /// Ask the engine of `[docker]`, too: containers that run are servers.
        #[arg(long)]
        docker: bool,
    },
    /// Show who is on which server of the running proxy, in `client_only` and `offline`.
    #[cfg(unix)]
    Players {
        /// The form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: running::Format,
    },
    /// Inspect plugins, reload them in the running proxy, and create new ones.
    #[cfg(unix)]
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Demonstrate the main features with an embedded backend; needs no configuration.
    ///
    /// Runs in the source tree (`cargo run -- demo`), or with the demo's plugins in
    /// the folder of the program.
    Demo {
        /// End after the demonstration's own traffic.
        #[arg(long)]
        once: bool,
    },
}

/// Commands about plugins.
#[cfg(unix)]
#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// List the plugins, their servers, and their state in the running proxy: each
    /// generation that still serves players.
    List {
        /// The form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: running::Format,
    },
    /// Reload the running proxy's configuration and plugins, as `SIGHUP` does.
    ///
    /// All or nothing: if there is a problem, nothing changes. Players who are
    /// connected keep the generation of each plugin that they began with.
    Reload {
        /// Load this plugin again even if nothing about it has changed.
        plugin: Option<String>,
    },
    /// End the quarantine of a plugin in the running proxy.
    Resume {
        /// The id of the plugin.
        plugin: String,
    },
    #[command(flatten)]
    Tool(plugin::Tool),
}

impl Options {
    fn load_options(&self) -> LoadOptions {
        LoadOptions {
            config: self.config.clone(),
            servers_dir: self.servers_dir.clone(),
            plugins_dir: self.plugins_dir.clone(),
            bind: self.bind.clone(),
            global: None,
            plugins: None,
        }
    }
}

/// Runs the command of the command line. Wrong usage ends the process with 2.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(unix)]
    crate::proxy::lifecycle::inherited::reset_signals();
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&cli.options),
        Command::Check {
            format,
            deny_warnings,
            #[cfg(unix)]
            deep,
            docker,
        } => {
            #[cfg(not(unix))]
            let deep = false;
            let load = cli.options.load_options();
            let args = check::CheckArgs {
                load,
                format,
                deny_warnings,
                deep,
                docker,
            };
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            check::run(&args, &mut out, &mut err, Colour::for_stderr()).map_err(Into::into)
        }
        Command::Explain { code } => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            explain::run(code.as_deref(), &mut out, &mut err).map_err(Into::into)
        }
        Command::Capabilities { format, docker } => {
            show_capabilities(&cli.options, format, docker).map_err(Into::into)
        }
        Command::Schema { kind } => schema::run(kind, &mut std::io::stdout()).map_err(Into::into),
        Command::Route { host, docker } => show_route(&cli.options, &host, docker),
        #[cfg(unix)]
        Command::Plugin(command) => run_plugin_command(&cli.options, command),
        #[cfg(unix)]
        Command::Players { format } => show_players(&cli.options, format),
        Command::Demo { once } => run_demo(once),
    };
    done.unwrap_or_else(|error| {
        // The reader of the output may stop reading, as `head` does.
        let cause = error.downcast_ref::<std::io::Error>();
        if cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::from(FAILURE);
        }
        // The error and its causes, in one line.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::from(FAILURE)
    })
}

#[cfg(unix)]
fn show_players(options: &Options, format: running::Format) -> anyhow::Result<ExitCode> {
    use crate::admin::socket::Command;
    let command = match format {
        running::Format::Text => Command::Players,
        running::Format::Json => Command::PlayersJson,
    };
    Ok(running::ask(&options.load_options(), &command)?)
}

#[cfg(unix)]
fn run_plugin_command(options: &Options, command: PluginCommand) -> anyhow::Result<ExitCode> {
    use crate::admin::socket::Command;
    let load = options.load_options();
    let done = match command {
        PluginCommand::List { format } => running::list(&load, format, &mut std::io::stdout()),
        PluginCommand::Reload { plugin } => running::ask(&load, &Command::Reload(plugin)),
        PluginCommand::Resume { plugin } => running::ask(&load, &Command::Resume(plugin)),
        PluginCommand::Tool(tool) => return plugin::run(tool, options.log_level.as_deref()),
    };
    done.map_err(Into::into)
}

fn show_capabilities(
    options: &Options,
    format: capabilities::Format,
    docker: bool,
) -> std::io::Result<ExitCode> {
    let load = options.load_options();
    let is_there = load.config.is_some() || Path::new(config::load::CONFIG_FILE).is_file();
    let mut whole = true;
    let mut config = None;
    if is_there || docker {
        let mut loaded = config::load(&load);
        if loaded.has_errors() {
            let why = "the matrix is shown without servers";
            check::show(&loaded, why, &mut std::io::stderr(), Colour::for_stderr())?;
        }
        if docker {
            whole = add_containers(&load, &mut loaded)?;
        }
        config = loaded.config;
    }
    capabilities::run(format, config.as_ref(), &mut std::io::stdout())?;
    Ok(exit_code(whole))
}

fn show_route(options: &Options, host: &str, docker: bool) -> anyhow::Result<ExitCode> {
    let load = options.load_options();
    let mut loaded = config::load(&load);
    if loaded.config.is_none() {
        let why = "routes are not known before the errors are corrected";
        check::show(&loaded, why, &mut std::io::stderr(), Colour::for_stderr())?;
        return Ok(ExitCode::from(FAILURE));
    }
    let whole = !docker || add_containers(&load, &mut loaded)?;
    let Some(config) = loaded.config else {
        return Ok(ExitCode::from(FAILURE));
    };
    let (text, found) = route::explain(config, host);
    write!(std::io::stdout(), "{text}")?;
    Ok(exit_code(found && whole))
}

/// Adds the servers of the running containers, and shows the problems of the others.
/// `false` if the containers could not be read.
fn add_containers(load: &LoadOptions, loaded: &mut Loaded) -> std::io::Result<bool> {
    let checked = containers::check(load, loaded);
    checked.show(&mut std::io::stderr(), Colour::for_stderr())?;
    let is_known = !checked.is_unknown;
    loaded.config = loaded.config.take().map(|files| checked.beside(files));
    Ok(is_known)
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    }
}

fn run_demo(once: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(demo::run(once, &mut std::io::stdout()))?;
    Ok(ExitCode::SUCCESS)
}
