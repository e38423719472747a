//! Starts the log: a thread that writes lines to standard output, as text or JSON.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::PLUGIN_TARGET_PREFIX;
use super::filter::understand;

/// The most lines that wait for a slow reader of the log. At some 200 bytes a line the
/// queue stays under 2 MiB; further lines are lost and counted.
const WAITING_LINES_MAX: usize = 8192;
/// How long the end of the process waits for the last lines to be written. A working
/// reader reads them at once, a stuck one never.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Keeps the log's thread running. Dropping it writes the waiting lines, as far as
/// their reader accepts them within two seconds.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub(crate) struct LogGuard {
    /// `None` only while it is dropped.
    worker: Option<WorkerGuard>,
    lost: ErrorCounter,
}

impl LogGuard {
    /// Counts lines that were lost because the reader of the log was too slow.
    #[must_use]
    pub(crate) fn lost_lines(&self) -> ErrorCounter {
        self.lost.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // The worker's own guard reports a stuck reader by printing to the standard
        // output that is stuck. So it is dropped in a detached thread, and we wait for
        // that thread only for a limited time.
        let worker = self.worker.take();
        let (written, all_written) = mpsc::channel::<()>();
        let waiting = std::thread::Builder::new()
            .name("log end".to_owned())
            .spawn(move || {
                drop(worker);
                drop(written);
            });
        if waiting.is_ok() {
            let _ = all_written.recv_timeout(LAST_LINES_WAIT);
        }
    }
}

/// Reads the filter of an operator: the filter, and the notes to report.
///
/// # Errors
///
/// Not for any text: parts that cannot be used are left out.
pub(crate) fn filter(words: &str) -> anyhow::Result<(EnvFilter, Vec<String>)> {
    let understood = understand(words);
    Ok((EnvFilter::try_new(understood.directives)?, understood.notes))
}

/// Starts the log on standard output.
///
/// The filter is `level`, from the command line, or else `RUST_LOG`, or else `info`.
/// Parts that cannot be used are reported in the log. A separate thread writes the lines,
/// so that a stuck reader of standard output never delays a player.
///
/// # Errors
///
/// When a log has been started before.
pub(crate) fn init(format: LogFormat, level: Option<&str>) -> anyhow::Result<LogGuard> {
    let from_environment = || std::env::var_os(EnvFilter::DEFAULT_ENV);
    let (filter, notes) = match level {
        Some(level) => filter(level)?,
        None => filter(&from_environment().unwrap_or_default().to_string_lossy())?,
    };
    let stdout = std::io::stdout();
    let ansi = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("log")
        .finish(stdout);
    let lost = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(ansi)
            .event_format(NamePlugins::default())
            .try_init(),
        LogFormat::Json => builder
            .json()
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    Ok(LogGuard {
        worker: Some(worker),
        lost,
    })
}

/// The text format: lines of plugins show their target, which names the plugin; lines of
/// the proxy do not.
struct NamePlugins {
    own: Format,
    of_plugins: Format,
}

impl Default for NamePlugins {
    fn default() -> Self {
        Self {
            own: Format::default().with_target(false),
            of_plugins: Format::default(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for NamePlugins
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let is_plugins = event.metadata().target().starts_with(PLUGIN_TARGET_PREFIX);
        let format = if is_plugins {
            &self.of_plugins
        } else {
            &self.own
        };
        format.format_event(context, writer, event)
    }
}
