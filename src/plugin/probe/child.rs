//! The child: loads the plugin, calls its hooks, and ends it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use infrarust_plugin_abi::sample;
use nix::sys::resource::{Resource, setrlimit};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::ask::HookRun;
use super::event::{Event, EventWriter, Lines};
use super::findings::{Request, Started, Step};
use crate::config::model::Document;
use crate::manifest::Hook;
use crate::plugin::generation::END_TIME_MAX;
use crate::plugin::{Environment, PlayerCounts, PluginHost, Spec};
use crate::telemetry;

/// The log filter if the request has none.
const LOG_FILTER: &str = "infrarust=warn,plugin=info";

/// Runs as the child: reads a [`Request`] from standard input, tries the plugin, and
/// writes events to standard output. What the plugin prints goes to standard error.
///
/// # Errors
///
/// When the request cannot be read, or the log cannot be started.
pub fn serve() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    crate::plugin::keeper::begin()?;
    let events = EventWriter::new()?;
    let request: Request = serde_json::from_reader(io::stdin().lock())?;
    // A crash is expected here, and needs no core dump.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let lines = events.clone();
    let (filter, notes) = match &request.log {
        Some(log) => telemetry::filter(log)?,
        None => (EnvFilter::try_new(LOG_FILTER)?, Vec::new()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Lines(lines.clone()))
        .with_ansi(false)
        .without_time()
        .init();
    for note in notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    run(&request, &runtime, &events);
    runtime.shutdown_background();
    events.event(&Event::Begin(Step::Exit));
    Ok(())
}

fn run(request: &Request, runtime: &Runtime, events: &EventWriter) {
    let host = PluginHost::new(Environment {
        runtime: runtime.handle().clone(),
        data_dir: request.data_dir.clone().unwrap_or_default(),
        players: Arc::new(TwoOnLobby),
    });
    let spec = Spec {
        id: request.id.clone(),
        file: request.file.clone(),
        sha256: None,
        on_failure: None,
        deadline: None,
        checked: None,
        content: request.content,
        document: Document(request.document.as_str().into()),
        config_path: request.config_path.clone(),
    };
    events.event(&Event::Begin(Step::Start));
    let begin = Instant::now();
    if let Err(problems) = host.reload(vec![spec], None) {
        problems.iter().for_each(|problem| events.refused(problem));
        return;
    }
    let took = begin.elapsed();
    let Some(state) = host.states().pop() else {
        return;
    };
    let mode = state.manifest.modes().next();
    events.event(&Event::Started(Started {
        name: state.manifest.name.clone(),
        version: state.manifest.version.to_string(),
        mode: mode.map(|mode| mode.name().to_owned()),
        hooks: Hook::ALL
            .into_iter()
            .filter(|hook| request.fire && state.manifest.hooks.contains(hook.capability()))
            .map(|hook| hook.name().to_owned())
            .collect(),
        took,
    }));
    if let Some(mode) = mode.filter(|_| request.fire) {
        let hooks = host.hooks([request.id.as_str()], mode);
        HookRun::new(mode, &hooks, &host, runtime, events).all();
    }
    end(request, runtime, &host, events);
}

/// Ends the plugin, and reports problems at its end.
fn end(request: &Request, runtime: &Runtime, host: &PluginHost, events: &EventWriter) {
    events.event(&Event::Begin(Step::End));
    let begin = Instant::now();
    let health = host.health(&request.id);
    let panics = || health.as_ref().map_or(0, |health| health.counts().panics);
    let before = panics();
    let _ = host.reload(Vec::new(), None);
    runtime.block_on(host.ended());
    let took = begin.elapsed();
    let trouble = |text: String| events.event(&Event::Trouble(text));
    if let Some(health) = health.as_ref().filter(|_| panics() > before) {
        let last = health.last_failure();
        let text = last.as_ref().map_or("", |failure| &failure.text);
        trouble(format!("while it ended it {text}"));
    }
    if host.has_endless_tasks() {
        let limit = END_TIME_MAX.as_secs();
        trouble(format!("it has tasks that did not end within {limit} s"));
    } else if took < END_TIME_MAX {
        events.event(&Event::Ended(took));
    } else {
        let seconds = took.as_secs_f64();
        trouble(format!(
            "its drop took {seconds:.1} s, and its tasks had ended"
        ));
    }
}

/// The counts of players while a plugin is tried: two on the sample server.
struct TwoOnLobby;

impl PlayerCounts for TwoOnLobby {
    fn count(&self, server: Option<&str>) -> Option<u64> {
        server
            .is_none_or(|server| server == sample::SERVER)
            .then_some(2)
    }
}
