//! `infrarust run`: starts the proxy and serves players until a signal ends it.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::{FAILURE, Options, check};
#[cfg(unix)]
use crate::admin;
use crate::apart;
use crate::config::model::{Config, ServerKind};
use crate::config::{self, LoadOptions, Loaded};
use crate::diagnostic::render::Colour;
use crate::proxy::Proxy;
use crate::proxy::lifecycle::{
    self, Ended, Signals, Workers, serve_until_signalled, unless_signalled, watch_lost_lines,
};
use crate::reload::{Hangup, Reloader};
use crate::start::{self, StartError};
use crate::telemetry::{self, service_manager};
use crate::{forward, listener, socket};

/// Reloads that may wait for the one that runs.
const RELOADS_WAITING_MAX: usize = 4;
/// File descriptors that a session holds: its two sockets.
const SESSION_FILES: u64 = 2;
/// File descriptors that are reserved for listeners, files and the runtime.
const OWN_FILES: u64 = 64;

/// The consequence that is printed after errors.
const NOT_STARTED: &str = "the proxy was not started";

/// Serves players, if the configuration is valid and its plugins start.
///
/// # Errors
///
/// When the proxy cannot be started.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let main = lifecycle::main_runtime().context("the runtime cannot be started")?;
    let ended = main.block_on(async {
        // Before anything else, so that no signal is missed.
        let mut signals = Signals::new()?;
        let hangup = Hangup::new()?;
        start(options, &mut signals, hangup).await
    });
    // Dropping it would wait for files that are still being read.
    main.shutdown_background();
    ended
}

async fn start(
    options: &Options,
    signals: &mut Signals,
    hangup: Hangup,
) -> anyhow::Result<ExitCode> {
    // Absolute, so that a plugin that changes the working directory does not change
    // which files are read.
    let files = options.load_options().absolute();
    let Some(loaded) = unless_signalled(signals, load(files.clone())).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let loaded = loaded?;
    let outcome = if loaded.has_errors() {
        NOT_STARTED
    } else {
        "starting"
    };
    let Some(loaded) = unless_signalled(signals, show(loaded, outcome)).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let loaded = loaded?;
    let Some(config) = loaded.config.clone() else {
        return Ok(ExitCode::from(FAILURE));
    };
    let workers = config.proxy.workers().get();
    lifecycle::check_threads(workers)?;
    let log = telemetry::init(config.proxy.log_format, options.log_level.as_deref())?;
    #[cfg(unix)]
    let _running = crate::plugin::crash_report::listen();
    let open_files = socket::raise_open_files();
    if let Some(files) = open_files {
        info!(
            open_files = files,
            sessions = files.saturating_sub(OWN_FILES) / SESSION_FILES,
            "capacity by the limit of open files"
        );
    }
    warn_of_fallbacks(&config);
    let listeners = listener::open(&config.proxy)?;
    let workers =
        Workers::start(workers).context("the threads that serve players cannot be started")?;
    let proxy = {
        let _inside = workers.runtime().enter();
        Proxy::new(config.clone(), open_files).map_err(StartError::Relay)?
    };
    watch_lost_lines(&log);
    lifecycle::watch_workers(&workers);
    let serving = start::serve(Arc::clone(&proxy), config, listeners);
    let serving = workers.runtime().spawn(serving);
    let (ended, code) = match unless_signalled(signals, serving).await {
        None => (Ended::InOrder, None),
        Some(served) => {
            match served.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
                Ok(_running) => {
                    follow(files, loaded, &proxy, hangup, &workers);
                    (serve_until_signalled(&proxy, signals).await, None)
                }
                Err(error) => {
                    let shown = unless_signalled(signals, not_started(loaded, error)).await;
                    let failure = || Ok(ExitCode::from(FAILURE));
                    (Ended::InOrder, Some(shown.unwrap_or_else(failure)))
                }
            }
        }
    };
    let in_order = lifecycle::end(&proxy, signals, ended).await;
    code.unwrap_or(Ok(in_order))
}

/// Loads the configuration on a separate thread, so that a slow file does not delay
/// the reaction to signals.
async fn load(options: LoadOptions) -> anyhow::Result<Loaded> {
    let (sender, loaded) = oneshot::channel();
    let load = move || {
        // Fails if a signal has ended the wait.
        let _ = sender.send(config::load(&options));
    };
    std::thread::Builder::new()
        .name("config".to_owned())
        .spawn(load)
        .context("there is no thread to load the configuration with")?;
    loaded.await.context("the configuration cannot be loaded")
}

/// Shows the problems of the files on a separate thread, so that a blocked reader of
/// standard error does not delay the reaction to signals.
async fn show(loaded: Loaded, outcome: &'static str) -> anyhow::Result<Loaded> {
    let show = move || {
        let (err, colour) = (&mut std::io::stderr(), Colour::for_stderr());
        check::show(&loaded, outcome, err, colour).map(|()| loaded)
    };
    Ok(apart::run(show).await??)
}

/// Starts what follows the configuration of a running proxy: the reloader and the
/// control socket.
fn follow(
    files: LoadOptions,
    loaded: Loaded,
    proxy: &Arc<Proxy>,
    hangup: Hangup,
    workers: &Workers,
) {
    let config = proxy.snapshot().config();
    let (requests, requested) = mpsc::channel(RELOADS_WAITING_MAX);
    if let Some(global) = loaded.global {
        let _inside = workers.runtime().enter();
        let reloader = Reloader::new(files, global, Arc::clone(proxy), requested, hangup);
        tokio::spawn(reloader.run());
    }
    #[cfg(unix)]
    tokio::spawn(admin::socket::serve(Arc::clone(proxy), requests));
    #[cfg(not(unix))]
    drop(requests);
    let servers = config.servers.len();
    info!(servers, version = env!("CARGO_PKG_VERSION"), "ready");
    service_manager::ready();
    if config.proxy.docker.is_some() {
        service_manager::status("serving files; containers have not been read yet");
    }
}

/// Shows why the proxy did not start.
async fn not_started(mut loaded: Loaded, error: StartError) -> anyhow::Result<ExitCode> {
    let StartError::Plugins(problems) = error else {
        return Err(error.into());
    };
    let problems = problems.iter();
    let problems = problems
        .map(|problem| problem.diagnostic(&loaded))
        .collect();
    // The warnings have been shown already.
    loaded.diagnostics.clear();
    loaded.report(problems);
    show(loaded, NOT_STARTED).await?;
    Ok(ExitCode::from(FAILURE))
}

/// Warns about servers that cannot relay in the way that their mode names.
fn warn_of_fallbacks(config: &Config) {
    for server in &config.servers {
        if let ServerKind::Forwarding(forwarding) = &server.kind
            && let (_, Some(warning)) =
                forward::resolve(forwarding.relay, forward::SPLICE_AVAILABLE)
        {
            warn!(server = server.id, "{warning}");
        }
    }
}
