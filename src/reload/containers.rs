//! Containers in addition to files: puts their servers into the snapshot, and logs each of
//! their problems once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use super::RETRY;
use crate::apart::{self, NotDone};
use crate::config::container_checker::{CheckResult, ContainerChecker, ContainerStatus};
use crate::config::containers::Container;
use crate::config::model::{Config, DockerConfig, ServerConfig};
use crate::config::{GlobalText, LoadOptions};
use crate::diagnostic::render::{self, Colour};
use crate::diagnostic::words::Quoted;
use crate::provider::docker::surroundings;
use crate::provider::{Peer, Supply, docker};
use crate::telemetry::service_manager;

/// The most containers with problems that one change logs; `check --docker` shows all.
const CONTAINERS_SHOWN_MAX: usize = 20;

/// The most removed containers that are remembered, so that one that starts and ends again
/// and again is not logged each time.
const GONE_REMEMBERED_MAX: usize = 1000;

/// How long after its last log line a container that comes back with the same
/// mistakes is logged again: engines restart one that fails each minute at most.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The containers of the engine that the global file names.
#[derive(Debug)]
pub(super) struct Containers {
    /// The settings that were in force when `known` was supplied: the surroundings of
    /// another engine do not apply to these containers.
    config: DockerConfig,
    /// The settings for the next supply.
    next_config: Option<DockerConfig>,
    supply: watch::Receiver<Supply>,
    /// The supply when [`changed`](Self::changed) last completed. A reload of files uses
    /// this and nothing newer, so that each change is logged with its own cause.
    known: Supply,
    checker: Option<ContainerChecker>,
    /// The servers of the last check.
    servers: Vec<Arc<ServerConfig>>,
    /// When containers are checked again because files in their labels could not be read.
    again: Option<Instant>,
    /// The last log line of each container.
    logged: HashMap<String, Logged>,
    /// The last log line about the network that `[docker]` names.
    logged_of_network: Option<String>,
    /// The number of servers from containers, and of refused containers; `None` until all
    /// have been inspected.
    counts: Option<(usize, usize)>,
    /// Whether these numbers were logged, which is done once for an engine.
    is_announced: bool,
    /// Whether the known containers are still those of the previous engine.
    is_of_before: bool,
    _watching: DropGuard,
}

impl Containers {
    /// Begins to watch the engine. Ends with the drain, or when it is dropped.
    pub(super) fn watch(config: &DockerConfig, drain: &CancellationToken) -> Self {
        info!(endpoint = %config.endpoint, "reading containers; until then there are no routes to them");
        Self::begin(config, Supply::default(), drain)
    }

    /// Begins to watch another engine, or the same one with other settings. The routes to
    /// known containers stay until it has been read.
    pub(super) fn watch_instead(self, config: &DockerConfig, drain: &CancellationToken) -> Self {
        info!(endpoint = %config.endpoint, "reading containers; until then their routes stay as they are");
        Self {
            is_of_before: true,
            logged: self.logged,
            next_config: Some(config.clone()),
            config: self.config,
            servers: self.servers,
            ..Self::begin(config, self.known, drain)
        }
    }

    fn begin(config: &DockerConfig, before: Supply, drain: &CancellationToken) -> Self {
        let stop = drain.child_token();
        Self {
            config: config.clone(),
            next_config: None,
            supply: docker::start(config, stop.clone()),
            known: before,
            checker: None,
            servers: Vec::new(),
            again: None,
            logged: HashMap::new(),
            logged_of_network: None,
            counts: None,
            is_announced: false,
            is_of_before: false,
            _watching: stop.drop_guard(),
        }
    }

    /// Completes when the containers have changed. Cancel safe.
    pub(super) async fn changed(containers: Option<&mut Self>) {
        let Some(containers) = containers else {
            return std::future::pending().await;
        };
        tokio::select! {
            changed = containers.supply.changed() => {
                if changed.is_err() {
                    // The proxy drains.
                    return std::future::pending().await;
                }
                containers.known = containers.supply.borrow_and_update().clone();
                containers.is_of_before = false;
                if let Some(config) = containers.next_config.take() {
                    containers.config = config;
                }
            }
            () = due(containers.again) => {}
        }
        containers.again = None;
    }

    /// Checks all containers again, because the global file or its plugins have changed.
    pub(super) fn check_again(&mut self) {
        self.checker = None;
    }

    /// The configuration of the files, with the servers of containers added. `options` are
    /// those of the global file in force.
    pub(super) async fn beside(
        &mut self,
        files: &Config,
        options: impl FnOnce() -> (LoadOptions, GlobalText),
    ) -> Config {
        let Supply { containers, engine } = self.known.clone();
        let Some(containers) = containers else {
            return files.clone();
        };
        let checker = self.checker.take().unwrap_or_else(|| {
            let (options, global) = options();
            ContainerChecker::new(&options, &global)
        });
        let config = self.config.clone();
        let servers = files.servers.clone();
        let result = check_apart(checker, config, servers, containers, engine).await;
        let mut next = files.clone();
        match result {
            Ok((checker, result)) => {
                self.checker = Some(checker);
                self.servers.clone_from(&result.servers);
                self.again = result.is_incomplete.then(|| Instant::now() + RETRY);
                self.log(&result);
                next.servers.extend(result.servers);
                next.servers.sort_by(|a, b| a.id.cmp(&b.id));
            }
            Err(problem) => {
                error!(%problem, "containers cannot be checked: the routes to them stay as they are");
                self.again = Some(Instant::now() + RETRY);
                next.servers.extend(self.servers.iter().cloned());
                let mut ids = HashSet::new();
                // A file has precedence over a container.
                next.servers.retain(|server| ids.insert(server.id.clone()));
                next.servers.sort_by(|a, b| a.id.cmp(&b.id));
            }
        }
        next
    }

    /// Logs the problems of each running container: once, and again if it was valid or
    /// absent for a while in between.
    fn log(&mut self, result: &CheckResult) {
        self.log_network(result);
        let mut not_shown = 0;
        let mut shown = 0;
        for status in &result.containers {
            let id = &status.container.id;
            if !status.container.state.is_usable() {
                if let Some(logged) = self.logged.get_mut(id) {
                    logged.was_away = true;
                }
                continue;
            }
            let Some(problems) = &status.problems else {
                self.logged.remove(id);
                continue;
            };
            let now = Instant::now();
            let next = Logged::of(status, now);
            if let Some(logged) = self.logged.get_mut(id)
                && logged.covers(&next)
            {
                logged.was_away = false;
                continue;
            }
            self.logged.insert(id.clone(), next);
            if shown == CONTAINERS_SHOWN_MAX {
                not_shown += 1;
                continue;
            }
            shown += 1;
            let text = render::to_text(&problems.diagnostics, &problems.sources, Colour::Never);
            let (name, text) = (Quoted(&status.container.name), text.trim_end());
            match status.server {
                None => error!("the container {name} is refused\n{text}"),
                Some(_) => warn!("the labels of the container {name} have warnings\n{text}"),
            }
        }
        if not_shown > 0 {
            error!(
                containers = not_shown,
                "more containers have problems; `infrarust check --docker` shows all"
            );
        }
        if self.logged.len() > result.containers.len() + GONE_REMEMBERED_MAX {
            let there: HashSet<_> = result.containers.iter().map(|v| &v.container.id).collect();
            self.logged.retain(|id, _| there.contains(id));
        }
        let there: HashSet<_> = result.containers.iter().map(|v| &v.container.id).collect();
        let gone = self.logged.iter_mut().filter(|(id, _)| !there.contains(id));
        gone.for_each(|(_, logged)| logged.was_away = true);
        let refused = result.containers.iter().filter(|v| v.is_refused());
        self.counts = Some((result.servers.len(), refused.count()));
    }

    /// Logs the problem of the network that `[docker]` names, once.
    fn log_network(&mut self, result: &CheckResult) {
        let text = result.network.as_ref().map(|problems| {
            render::to_text(&problems.diagnostics, &problems.sources, Colour::Never)
        });
        if let Some(text) = text
            .as_ref()
            .filter(|text| self.logged_of_network.as_ref() != Some(*text))
        {
            warn!("the network of `[docker]` is not used\n{}", text.trim_end());
        }
        self.logged_of_network = text;
    }

    /// Logs, once, that the checked containers are in force.
    pub(super) fn in_force(&mut self) {
        let Some((servers, refused)) = self.counts else {
            return;
        };
        if self.is_of_before {
            return;
        }
        if !std::mem::replace(&mut self.is_announced, true) {
            info!(servers, refused, "containers are read");
            service_manager::status(&format!(
                "serving files and {servers} servers of containers"
            ));
        }
    }
}

/// Completes at this time; never without one.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Runs the check on a thread that does not serve players.
async fn check_apart(
    mut checker: ContainerChecker,
    config: DockerConfig,
    servers: Vec<Arc<ServerConfig>>,
    containers: Vec<Arc<Container>>,
    engine: Peer,
) -> Result<(ContainerChecker, CheckResult), NotDone> {
    apart::run(move || {
        let around = surroundings(&config, engine);
        let result = checker.check(&servers, &containers, &around);
        (checker, result)
    })
    .await
}

/// A log line about a container.
#[derive(Debug)]
struct Logged {
    /// A hash of its text, to recognize the same text again.
    hash: u64,
    at: Instant,
    /// Whether the container has stopped since.
    was_away: bool,
}

impl Logged {
    fn of(status: &ContainerStatus, at: Instant) -> Self {
        let mut hasher = DefaultHasher::new();
        for diagnostic in status.problems.iter().flat_map(|p| &p.diagnostics) {
            diagnostic.code.hash(&mut hasher);
            diagnostic.message.hash(&mut hasher);
        }
        Self {
            hash: hasher.finish(),
            at,
            was_away: false,
        }
    }

    /// Whether this line makes logging `next` unnecessary.
    fn covers(&self, next: &Self) -> bool {
        let is_over = self.was_away && next.at.duration_since(self.at) >= LOG_AGAIN_AFTER;
        self.hash == next.hash && !is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that comes back after a while is logged again, and one that starts and
    /// ends all the time is not.
    #[test]
    fn containers_that_come_back_are_logged_again() {
        let at = |seconds, hash, was_away| Logged {
            hash,
            at: began() + Duration::from_secs(seconds),
            was_away,
        };
        fn began() -> Instant {
            static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
            *BEGAN.get_or_init(Instant::now)
        }
        assert!(at(0, 1, false).covers(&at(3600, 1, false)));
        assert!(!at(0, 1, false).covers(&at(0, 2, false)));
        assert!(at(0, 1, true).covers(&at(59, 1, false)));
        assert!(!at(0, 1, true).covers(&at(60, 1, false)));
    }
}
