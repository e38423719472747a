//! `infrarust run`: serve players until a signal ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{FAILURE, Options, check};
use crate::config;
use crate::config::model::{Config, ProxyConfig, ServerKind};
#[cfg(unix)]
use crate::control::Control;
use crate::diagnostic::render::Colour;
use crate::reload::{Reloader, Request};
use crate::server::{self, Running, StartError};
use crate::telemetry::{self, LogGuard};
use crate::{forward, listener, service_manager, socket};

/// How long connections may take to write their last line after they were cut.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the log looks whether it has lost lines.
const LOST_LINES_CHECK: Duration = Duration::from_secs(10);
/// Reloads that may wait for the one that runs.
const RELOADS_WAITING_MAX: usize = 4;
/// Descriptors that a session holds: its two sockets.
const SESSION_FILES: u64 = 2;
/// Descriptors that are kept back for listeners, files and the runtime.
const OWN_FILES: u64 = 64;

/// What follows when something is wrong.
const NOT_STARTED: &str = "the proxy was not started";

/// Serves players, if the configuration is valid and its plugins start.
///
/// # Errors
///
/// When the proxy cannot be started.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut loaded = config::load(&options.load_options());
    let outcome = if loaded.has_errors() {
        NOT_STARTED
    } else {
        "starting"
    };
    let (mut err, colour) = (std::io::stderr(), Colour::for_stderr());
    check::show(&loaded, outcome, &mut err, colour)?;
    let (Some(config), Some(global)) = (loaded.config.clone(), loaded.global.clone()) else {
        return Ok(ExitCode::from(FAILURE));
    };
    let log = telemetry::init(config.proxy.log_format, options.log_level.as_deref())?;
    #[cfg(unix)]
    crate::plugin::last_words::listen();
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
    let runtime = runtime(&config.proxy)?;
    let ended = runtime.block_on(async {
        // Before the first client: from then on a signal has to drain.
        let signals = Signals::new()?;
        let servers = config.servers.len();
        let has_containers = config.proxy.docker.is_some();
        let running = match server::start(config, listeners, open_files).await {
            Ok(running) => running,
            Err(StartError::Plugins(problems)) => {
                let problems = problems.iter();
                let problems = problems
                    .map(|problem| problem.diagnostic(&loaded))
                    .collect();
                // The warnings have been shown.
                loaded.diagnostics.clear();
                loaded.report(problems);
                check::show(&loaded, NOT_STARTED, &mut err, colour)?;
                return Ok(ExitCode::from(FAILURE));
            }
            Err(error) => return Err(error.into()),
        };
        watch_lost_lines(&log);
        let (requests, requested) = mpsc::channel(RELOADS_WAITING_MAX);
        let proxy = Arc::clone(running.proxy());
        let reloader = Reloader::new(options.load_options(), global, proxy, requested)?;
        open_control_socket(&running, requests);
        tokio::spawn(reloader.run());
        info!(servers, version = env!("CARGO_PKG_VERSION"), "ready");
        service_manager::ready();
        if has_containers {
            service_manager::status("serving files; containers have not been read yet");
        }
        until_the_end(&running, signals).await
    });
    // Not by its drop, which waits for look-ups and files that are still read.
    runtime.shutdown_background();
    ended
}

/// Lets commands reach this proxy. One that cannot be reached still serves.
fn open_control_socket(running: &Running, requests: mpsc::Sender<Request>) {
    #[cfg(unix)]
    {
        let proxy = Arc::clone(running.proxy());
        let path = proxy.snapshot().proxy.control_socket.clone();
        match Control::listen(&path) {
            Ok(control) => {
                tokio::spawn(control.serve(proxy, requests));
            }
            Err(error) => warn!(
                path = %path.display(),
                %error,
                "no control socket: `infrarust plugin reload` and its like cannot reach this proxy"
            ),
        }
    }
    #[cfg(not(unix))]
    let _ = (running, requests);
}

fn runtime(config: &ProxyConfig) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(config.workers().get())
        .enable_all()
        .thread_name("worker")
        .build()
        .context("the runtime cannot be started")
}

/// Says once which servers get less than their mode names.
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

/// Waits for the first signal, drains, and ends. Returns the exit code: 0 after
/// a drain, 128 plus the number of the signal that cut it short.
async fn until_the_end(running: &Running, mut signals: Signals) -> anyhow::Result<ExitCode> {
    let signal = signals.next().await;
    let drain = running.proxy().snapshot().proxy.drain_timeout;
    info!(
        signal = signal.name,
        connections = running.open_connections(),
        drain_seconds = drain.as_secs_f64(),
        "draining: no new connections; a second signal ends it at once"
    );
    service_manager::stopping();
    let shutdown = running.shutdown();
    shutdown.begin_drain();
    let code = tokio::select! {
        () = shutdown.finished() => ExitCode::SUCCESS,
        () = tokio::time::sleep(drain) => {
            warn!(connections = running.open_connections(), "the drain time is over");
            ExitCode::SUCCESS
        }
        signal = signals.next() => {
            warn!(signal = signal.name, connections = running.open_connections(), "ending at once");
            ExitCode::from(signal.exit_code)
        }
    };
    shutdown.stop_now();
    if timeout(LAST_WORDS, shutdown.finished()).await.is_err() {
        warn!(
            connections = running.open_connections(),
            "connections did not finish"
        );
    }
    if timeout(LAST_WORDS, running.proxy().end_plugins())
        .await
        .is_err()
    {
        warn!("plugins did not end");
    }
    info!("stopped");
    Ok(code)
}

/// A signal that ends the proxy.
struct Signal {
    name: &'static str,
    exit_code: u8,
}

/// SIGINT and SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) -> Signal {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => Signal { name: "SIGINT", exit_code: 130 },
            _ = self.terminate.recv() => Signal { name: "SIGTERM", exit_code: 143 },
        }
        #[cfg(not(unix))]
        {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal {
                name: "SIGINT",
                exit_code: 130,
            }
        }
    }
}

/// A log that loses lines says so, as soon as it can again.
fn watch_lost_lines(log: &LogGuard) {
    let lost = log.lost_lines();
    tokio::spawn(async move {
        let mut known = 0;
        loop {
            tokio::time::sleep(LOST_LINES_CHECK).await;
            let now = lost.dropped_lines();
            if now > known {
                warn!(
                    lines = now - known,
                    "log lines were lost: their reader is too slow"
                );
                known = now;
            }
        }
    });
}
