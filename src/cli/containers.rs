//! `--docker`: checks the labels of running containers, for several commands.

use std::io::{self, Write};
use std::sync::Arc;

use crate::config::container_checker::{CheckResult, ContainerChecker, ContainerStatus, Problems};
use crate::config::containers::State;
use crate::config::model::{Config, ServerConfig};
use crate::config::{LoadOptions, Loaded};
use crate::diagnostic::render::{self, Colour};
use crate::diagnostic::words::{Quoted, count};
use crate::provider::docker::{self, surroundings};

/// The result of checking the containers.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The problems of each container that has some.
    pub(super) problems: Vec<Arc<Problems>>,
    /// Whether the containers could not be read.
    pub(super) is_unknown: bool,
    /// The servers that the containers make.
    servers: Vec<Arc<ServerConfig>>,
    /// Why containers without problems are not routed to.
    notes: Vec<String>,
    summary: Option<String>,
}

impl Checked {
    fn unknown(summary: &str) -> Self {
        Self {
            is_unknown: true,
            summary: Some(summary.to_owned()),
            ..Self::default()
        }
    }

    /// The configuration of the files, with the servers of the containers added.
    pub(super) fn beside(self, files: Config) -> Config {
        let mut all = files;
        all.servers.extend(self.servers);
        all.servers.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Shows problems and notes as text, with a last line that counts the containers.
    pub(super) fn show(&self, err: &mut dyn Write, colour: Colour) -> io::Result<()> {
        for problems in &self.problems {
            let text = render::to_text(&problems.diagnostics, &problems.sources, colour);
            write!(err, "{text}")?;
        }
        self.show_notes(err)
    }

    /// Shows the notes about containers without problems, and the last line.
    pub(super) fn show_notes(&self, err: &mut dyn Write) -> io::Result<()> {
        for note in &self.notes {
            writeln!(err, "{note}")?;
        }
        match &self.summary {
            Some(summary) => writeln!(err, "{summary}"),
            None => Ok(()),
        }
    }
}

/// Lists the containers and checks them together with the files.
pub(super) fn check(options: &LoadOptions, loaded: &Loaded) -> Checked {
    let (Some(config), Some(global)) = (&loaded.config, &loaded.global) else {
        return Checked::unknown("containers are checked once the files have no errors");
    };
    let Some(docker) = &config.proxy.docker else {
        return Checked::unknown("`--docker` needs a table `[docker]` in the global file");
    };
    let mut checker = ContainerChecker::new(options, global);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let looked = match runtime {
        Ok(runtime) => runtime
            .block_on(docker::look(docker))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let (supply, unread) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let message = format!("the engine `{}` cannot be read: {error}", docker.endpoint);
            return Checked {
                problems: vec![checker.engine_problem(message)],
                ..Checked::unknown("the containers are not known")
            };
        }
    };
    let around = surroundings(docker, supply.engine);
    let containers = supply.containers.unwrap_or_default();
    let result = checker.check(&config.servers, &containers, &around);
    let of_engine = unread.iter().map(|one| {
        let (id, error) = (&one.id, &one.error);
        checker.engine_problem(format!("the container `{id}` cannot be looked at: {error}"))
    });
    let of_labels = result.containers.iter().filter_map(|v| v.problems.clone());
    let problems: Vec<_> = of_engine
        .chain(result.network.clone())
        .chain(of_labels)
        .collect();
    Checked {
        notes: result.containers.iter().filter_map(note).collect(),
        summary: Some(summary(&result, unread.len())),
        problems,
        is_unknown: false,
        servers: result.servers,
    }
}

/// A note about a container that is not running normally: whether it is routed to.
fn note(status: &ContainerStatus) -> Option<String> {
    let container = &status.container;
    let (name, state) = (Quoted(&container.name), container.state.name());
    match (container.state, &status.server) {
        (State::Up, _) => None,
        (State::Unhealthy, Some(server)) => Some(format!(
            "the container {name} is {state}: it is tried where no healthy one is there for `{server}`"
        )),
        (State::Unhealthy, None) if status.problems.is_some() => None,
        (State::Paused | State::Down, Some(server)) => Some(format!(
            "the container {name} is {state}: no player of `{server}` is sent to it"
        )),
        (State::Unhealthy | State::Paused | State::Down, None) => Some(format!(
            "the container {name} is {state}: it is not routed to"
        )),
    }
}

fn summary(result: &CheckResult, unread: usize) -> String {
    let (routed, not): (Vec<_>, Vec<_>) = result
        .containers
        .iter()
        .partition(|status| status.is_routed());
    let mut text = format!(
        "{} would be routed to, as {}",
        count(routed.len(), "container"),
        count(result.servers.len(), "server")
    );
    if !not.is_empty() {
        text.push_str(&format!("; {} would not", not.len()));
    }
    if unread > 0 {
        text.push_str(&format!("; {unread} cannot be looked at"));
    }
    text
}
