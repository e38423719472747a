//! The life of the process: signals, start, drain and end.
//!
//! This runs on the main thread in its own runtime, together with the control socket.
//! Players and plugins run on the threads of another runtime. So signals are handled and
//! commands are answered, even if plugins block those threads.

#[cfg(unix)]
pub(crate) mod inherited;
mod workers;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tracing::{info, warn};

pub(crate) use self::workers::{Phase, at, during, watched};
use super::Proxy;
use crate::apart;
use crate::supervise;
use crate::telemetry::{LogGuard, service_manager};

/// How long connections may take to write their log line after they were ended.
const LAST_LINE_WAIT: Duration = Duration::from_secs(2);
/// How long plugins may take to end: five seconds for their tasks, and at least ten for
/// their destructors.
const PLUGINS_END_MAX: Duration = Duration::from_secs(15);
/// The time for connections and plugins together after a second signal. The process ends
/// within a second of that signal.
const CUT_END_MAX: Duration = Duration::from_millis(500);
/// How long after the start of the drain a connection may still send its login start. The
/// rest of a login arrives within some round trips.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How often the drain checks for silent connections.
const SILENT_CHECK: Duration = Duration::from_millis(500);
/// How often the number of lost log lines is checked.
const LOST_LINES_CHECK: Duration = Duration::from_secs(10);

/// The runtime of the main thread.
///
/// # Errors
///
/// When there is no descriptor for it.
pub(crate) fn main_runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Threads besides those of players: that of the log, those that load plugins and read
/// files, and some that end only after others have started.
const OTHER_THREADS: usize = 4;

/// Checks that the system allows threads for this number of workers and relays, and for the
/// rest. Starting them later would panic or wait for ever if it does not.
///
/// # Errors
///
/// If the system does not allow this number of threads.
pub(crate) fn check_threads(workers: usize) -> anyhow::Result<()> {
    let threads = 2 * workers + OTHER_THREADS;
    apart::can_start(threads).with_context(|| {
        format!(
            "the proxy needs {threads} threads, and the system does not give as many: allow more \
             (`TasksMax` of systemd, `pids_limit` of a container, `ulimit -u`), or set \
             `worker_threads`"
        )
    })
}

/// The runtime of players and plugins. Its drop does not wait for tasks.
#[derive(Debug)]
pub(crate) struct Workers(Option<Runtime>);

impl Workers {
    /// Starts this number of threads.
    ///
    /// # Errors
    ///
    /// When there is no thread or no descriptor for one.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .thread_name("worker")
            .on_thread_park(workers::parked)
            .on_thread_unpark(workers::unparked)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// The runtime.
    pub(crate) fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a start; `None` if a signal ends it first.
pub(crate) async fn unless_signalled<T>(
    signals: &mut Signals,
    what: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = what => Some(done),
        signal = signals.next() => {
            info!(signal = signal.name, "the start is ended");
            None
        }
    }
}

/// Waits for the first signal, drains, and ends the remaining connections. Returns the exit
/// code: 0 after a drain, or 128 plus the number of the signal that ended the drain. The
/// caller then calls [`end`].
pub(crate) async fn serve_until_signalled(proxy: &Arc<Proxy>, signals: &mut Signals) -> Ended {
    let shutdown = &proxy.shutdown;
    let open = || shutdown.connections.len();
    let signal = signals.next().await;
    let drain = proxy.snapshot().proxy.drain_timeout;
    info!(
        signal = signal.name,
        connections = open(),
        drain_seconds = drain.as_secs_f64(),
        "draining: no new connections; a second signal ends it at once"
    );
    service_manager::stopping();
    shutdown.begin_drain();
    tokio::select! {
        () = shutdown.finished() => Ended::InOrder,
        () = tokio::time::sleep(drain) => {
            warn!(connections = open(), "the drain time is over");
            Ended::InOrder
        }
        never = evict_silent(proxy) => match never {},
        signal = signals.next() => {
            warn!(signal = signal.name, connections = open(), "ending at once");
            Ended::Cut(signal)
        }
    }
}

/// Ends the connections that keep the proxy waiting: there is no session to drain.
async fn evict_silent(proxy: &Proxy) -> std::convert::Infallible {
    tokio::time::sleep(SILENT_MAX).await;
    loop {
        proxy.pending.evict_silent();
        tokio::time::sleep(SILENT_CHECK).await;
    }
}

/// Ends all connections, and then the plugins. Another signal ends the wait.
pub(crate) async fn end(proxy: &Arc<Proxy>, signals: &mut Signals, mut ended: Ended) -> ExitCode {
    let shutdown = &proxy.shutdown;
    shutdown.stop_now();
    if let Ended::InOrder = ended {
        let in_order = async {
            if timeout(LAST_LINE_WAIT, shutdown.finished()).await.is_err() {
                warn!(
                    connections = shutdown.connections.len(),
                    "connections did not finish"
                );
            }
            if timeout(PLUGINS_END_MAX, proxy.end_plugins()).await.is_err() {
                warn!(plugins = ?proxy.plugins.unended(), "plugins did not end");
            }
        };
        tokio::select! {
            () = in_order => {}
            signal = signals.next() => {
                warn!(signal = signal.name, "ending at once");
                ended = Ended::Cut(signal);
            }
        }
    }
    if let Ended::Cut(_) = ended {
        let all = async { tokio::join!(shutdown.finished(), proxy.end_plugins()) };
        if timeout(CUT_END_MAX, all).await.is_err() {
            warn!(
                connections = shutdown.connections.len(),
                "connections or plugins did not finish"
            );
        }
    }
    info!("stopped");
    ended.exit_code()
}

/// How the proxy ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// After one signal, or without one.
    InOrder,
    /// Another signal ended the wait.
    Cut(Signal),
}

impl Ended {
    fn exit_code(self) -> ExitCode {
        match self {
            Ended::InOrder => ExitCode::SUCCESS,
            Ended::Cut(signal) => ExitCode::from(signal.exit_code),
        }
    }
}

/// A signal that ends the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal {
    name: &'static str,
    exit_code: u8,
}

/// SIGINT and SIGTERM. They are received from the moment that this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// When they cannot be awaited.
    pub(crate) fn new() -> io::Result<Self> {
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

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
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

/// Logs the number of lost log lines, as soon as lines can be written again.
pub(crate) fn watch_lost_lines(log: &LogGuard) {
    let lost = log.lost_lines();
    let known = Arc::new(AtomicUsize::new(0));
    let watch = move || {
        let (lost, known) = (lost.clone(), Arc::clone(&known));
        async move {
            loop {
                tokio::time::sleep(LOST_LINES_CHECK).await;
                let now = lost.dropped_lines();
                let before = known.swap(now, Ordering::Relaxed);
                if now > before {
                    warn!(
                        lines = now - before,
                        "log lines were lost: their reader is too slow"
                    );
                }
            }
        }
    };
    tokio::spawn(supervise::repeated("watching the log", watch));
}

/// Reports blocked workers; see [`workers`].
pub(crate) fn watch_workers(workers: &Workers) {
    let runtime = workers.runtime().handle().clone();
    let watch = move || workers::watch(runtime.clone());
    tokio::spawn(supervise::repeated("watching the workers", watch));
}
