//! Checks containers against the servers of files and against each other.
//!
//! The labels of a container are checked once, and again only when the container, the
//! global file or the proxy's own addresses have changed. Its claims to ids and domains are
//! compared with those of others each time, in a fixed order: first files, then healthy
//! containers, then unhealthy ones, then unusable ones, each group with the oldest first.
//! So the order of events does not decide which container is refused, and an unusable
//! container takes nothing from a usable one.
//!
//! An unusable container is still a server, without an address: its players read that it
//! cannot be reached, and not that it is unknown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::containers::{self, Container, NetworkOf, Surroundings, UNUSABLE_RANK};
use super::load::{self, GlobalText, LoadOptions};
use super::model::ServerConfig;
use super::report::Report;
use super::validate::{Context, Evaluated, LabelFolders, ProxyFile, Rules};
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{self, Code, Diagnostic, Place, Sources};

/// The most bytes of labels that all containers together may have, the oldest
/// first: ten thousand containers with ten times the labels that most have.
const ALL_LABELS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Labels that members of a pool need not have in common.
const OWN_LABELS: [&str; 3] = ["infrarust.port", "infrarust.addresses", "infrarust.name"];

/// Checks containers with one global file.
#[derive(Debug)]
pub struct ContainerChecker {
    proxy: ProxyFile,
    /// The global file alone.
    sources: Sources,
    folder: PathBuf,
    around: Surroundings,
    /// The results for single containers, by their ids.
    known: HashMap<String, Cached>,
}

#[derive(Debug)]
struct Cached {
    container: Arc<Container>,
    evaluated: Evaluated,
    problems: Option<Arc<Problems>>,
    /// Whether a file could not be read for a temporary reason.
    is_incomplete: bool,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct CheckResult {
    /// The servers, in the order of their ids.
    pub servers: Vec<Arc<ServerConfig>>,
    /// The containers that ask for a server, the oldest first.
    pub containers: Vec<ContainerStatus>,
    /// The problems of `[docker] network`.
    pub network: Option<Arc<Problems>>,
    /// Whether a file that a label names could not be read for a temporary reason.
    pub is_incomplete: bool,
}

/// The result for one container.
#[derive(Debug)]
pub struct ContainerStatus {
    /// The container.
    pub container: Arc<Container>,
    /// The id of its server; `None` if it is refused, or if a container in a better state
    /// has its place.
    pub server: Option<String>,
    /// Its problems. For an unusable container these are only the problems of its own
    /// labels.
    pub problems: Option<Arc<Problems>>,
}

impl ContainerStatus {
    /// Whether it is refused because of its problems.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.server.is_none() && self.problems.is_some() && self.container.state.is_usable()
    }

    /// Whether players are sent to it.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.server.is_some() && self.container.state.is_usable()
    }
}

/// The problems of a container.
#[derive(Debug)]
pub struct Problems {
    /// The diagnostics, in the order in which outputs show them.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that they point into.
    pub sources: Sources,
}

/// The owner of an id or a domain.
#[derive(Debug, Clone, Copy)]
enum Owner<'a> {
    File(&'a Path),
    Container(&'a Container, Place),
}

impl ContainerChecker {
    /// A checker with this global file, which is valid with these options.
    #[must_use]
    pub fn new(options: &LoadOptions, global: &GlobalText) -> Self {
        let mut sources = Sources::default();
        let proxy = load::proxy_file(options, global, &mut sources, &mut Report::default());
        Self {
            folder: sources.folder(proxy.file),
            proxy,
            sources,
            around: Surroundings::default(),
            known: HashMap::new(),
        }
    }

    /// The problem that the engine cannot be reached, at the line that names it.
    #[must_use]
    pub fn engine_problem(&self, message: String) -> Arc<Problems> {
        let docker = self.proxy.raw.as_ref().and_then(|raw| raw.docker.given());
        let place = docker.map_or(Place::whole(self.proxy.file), |docker| {
            let endpoint = docker.value.endpoint.given();
            endpoint.map_or(docker.key, |endpoint| endpoint.place)
        });
        let diagnostic = Diagnostic::new(Code::DockerEngine, place, message);
        Arc::new(Problems {
            diagnostics: vec![diagnostic],
            sources: self.sources.clone(),
        })
    }

    /// Checks all containers together with the servers of files.
    pub fn check(
        &mut self,
        files: &[Arc<ServerConfig>],
        containers: &[Arc<Container>],
        around: &Surroundings,
    ) -> CheckResult {
        if self.around != *around {
            self.around = around.clone();
            self.known.clear();
        }
        let mut containers = containers.to_vec();
        containers.retain(|container| !container.is_switched_off());
        let order = |c: &Arc<Container>, rank: u8| (rank, c.created.clone(), c.id.clone());
        containers.sort_by_cached_key(|container| order(container, container.state.rank()));
        let mut known = std::mem::take(&mut self.known);
        let rules = self.rules();
        let mut claims = Claims::of(files);
        let mut result = CheckResult {
            network: self.unused_network(&containers),
            ..CheckResult::default()
        };
        let mut label_bytes = 0;
        let mut all = Vec::with_capacity(containers.len());
        for container in containers {
            label_bytes += containers::bytes(&container);
            let one = match known.remove(&container.id) {
                Some(one) if one.container == container => one,
                _ => self.evaluate(&rules, container),
            };
            all.push((one, label_bytes <= ALL_LABELS_BYTES_MAX));
        }
        all.sort_by_cached_key(|(one, _)| order(&one.container, one.rank()));
        for (one, is_room) in &all {
            if let Some(status) = self.settle(one, *is_room, &mut claims) {
                result.containers.push(status);
            }
        }
        result.servers = claims.servers();
        result
            .containers
            .sort_by(|a, b| a.container.age().cmp(&b.container.age()));
        let all = all.into_iter().map(|(one, _)| one);
        // Files that could not be read may be readable the next time.
        let (incomplete, all): (Vec<_>, Vec<_>) = all.partition(|one| one.is_incomplete);
        result.is_incomplete = !incomplete.is_empty();
        let all = all.into_iter();
        self.known = all.map(|one| (one.container.id.clone(), one)).collect();
        result
    }

    fn rules(&self) -> Rules<'_> {
        let (mut sources, mut report) = (self.sources.clone(), Report::default());
        let mut context = Context::new(&mut sources, &mut report);
        Rules::new(&self.proxy, &self.around, &mut context)
    }

    fn evaluate(&self, rules: &Rules<'_>, container: Arc<Container>) -> Cached {
        let mut sources = self.sources.clone();
        let mut report = Report::default();
        let folders = LabelFolders::new(self.proxy.raw.as_ref(), &self.folder);
        let mut context = Context::for_labels(&mut sources, &mut report, folders);
        let folder = self.folder.clone();
        let mut evaluated = rules.evaluate(&container, folder, &mut context);
        let is_incomplete = report.is_incomplete;
        let mut diagnostics = report.diagnostics;
        // Problems of the files were reported when they were loaded.
        diagnostics.retain(|d| {
            let labels = d.labels.iter().map(|label| label.place.file);
            let touches = std::iter::once(d.place.file)
                .chain(labels)
                .any(|f| f == evaluated.file);
            touches || d.is_error() || matches!(d.code, Code::PluginInactive | Code::PluginLimited)
        });
        // A container that only cannot be reached is still a server, without an address.
        let errors = diagnostics.iter().filter(|d| d.is_error()).count();
        if errors > usize::from(evaluated.is_out_of_reach) {
            evaluated.config = None;
        }
        Cached {
            container,
            evaluated,
            problems: Problems::new(diagnostics, sources),
            is_incomplete,
        }
    }

    /// Compares the claims of a container with those before it; `None` if it claims
    /// nothing.
    fn settle<'a>(
        &self,
        one: &'a Cached,
        is_room: bool,
        claims: &mut Claims<'a>,
    ) -> Option<ContainerStatus> {
        if !one.evaluated.is_enabled && one.problems.is_none() {
            return None;
        }
        let mut status = ContainerStatus {
            container: Arc::clone(&one.container),
            server: None,
            problems: one.problems.clone(),
        };
        let Some(config) = &one.evaluated.config else {
            return Some(status);
        };
        let conflicts = Conflicts::new(self, one);
        let conflicts = if is_room {
            claims.take(one, config, conflicts)
        } else {
            conflicts.no_room()
        };
        match conflicts.end() {
            // It is refused, and its server only gives its players a better text.
            None if one.evaluated.is_out_of_reach => {}
            None => status.server = Some(config.id.clone()),
            // A container in a better state has its place.
            _ if one.rank() > 0 => {}
            problems => status.problems = problems,
        }
        Some(status)
    }

    /// Whether `[docker]` names a network that no running container is in.
    fn unused_network(&self, containers: &[Arc<Container>]) -> Option<Arc<Problems>> {
        let name = self.around.network.as_ref()?;
        let own = |c: &&Arc<Container>| c.state.is_usable() && c.network_of == NetworkOf::Itself;
        let mut networks = containers.iter().filter(own).flat_map(|c| &c.networks);
        let first = networks.clone().next()?;
        if networks.any(|network| network.name == *name) {
            return None;
        }
        let docker = self.proxy.raw.as_ref()?.docker.given()?;
        let place = docker.value.network.given()?.place;
        let message = format!("no container is in the network {}", Quoted(name));
        // Compose puts the name of the project in front of those in its file.
        let suffix = format!("_{name}");
        let mut networks = containers.iter().flat_map(|c| &c.networks);
        let full = networks.find(|network| network.name.ends_with(&suffix));
        let help = match full {
            Some(full) => format!("write {}", Quoted(&full.name)),
            None => format!(
                "write a name that `docker network ls` shows, such as {}, or remove the key",
                Quoted(&first.name)
            ),
        };
        let diagnostic = Diagnostic::new(Code::NoEffect, place, message).help(help);
        Problems::new(vec![diagnostic], self.sources.clone())
    }
}

impl Cached {
    /// Its rank among containers with the same claims.
    fn rank(&self) -> u8 {
        match self.evaluated.is_out_of_reach {
            true => UNUSABLE_RANK,
            false => self.container.state.rank(),
        }
    }
}

impl Problems {
    fn new(mut diagnostics: Vec<Diagnostic>, sources: Sources) -> Option<Arc<Self>> {
        if diagnostics.is_empty() {
            return None;
        }
        diagnostic::sort(&mut diagnostics, &sources);
        Some(Arc::new(Self {
            diagnostics,
            sources,
        }))
    }
}

/// The ids and domains that are taken, and the servers that have them.
struct Claims<'a> {
    ids: HashMap<&'a str, Owner<'a>>,
    domains: HashMap<&'a str, Owner<'a>>,
    pools: HashMap<&'a str, usize>,
    servers: Vec<(&'a Container, ServerConfig)>,
}

impl<'a> Claims<'a> {
    fn of(files: &'a [Arc<ServerConfig>]) -> Self {
        let mut claims = Self {
            ids: HashMap::new(),
            domains: HashMap::new(),
            pools: HashMap::new(),
            servers: Vec::new(),
        };
        for file in files {
            let owner = Owner::File(&file.file);
            claims.ids.insert(&file.id, owner);
            let domains = file.domains.iter().map(|domain| (domain.as_str(), owner));
            claims.domains.extend(domains);
        }
        claims
    }

    /// Gives a container everything that it claims, or nothing.
    fn take<'j>(
        &mut self,
        one: &'a Cached,
        config: &'a ServerConfig,
        mut conflicts: Conflicts<'j>,
    ) -> Conflicts<'j> {
        if let (Some(place), Some(index)) = (one.evaluated.pool, self.pools.get(config.id.as_str()))
        {
            let (oldest, server) = &mut self.servers[*index];
            match differing(&one.container, oldest) {
                labels if labels.is_empty() => {
                    server.addresses.extend(config.addresses.iter().cloned());
                }
                labels => conflicts.pool(place, &config.id, oldest, &labels),
            }
            return conflicts;
        }
        let Some(id) = &one.evaluated.id else {
            return conflicts;
        };
        if let Some(owner) = self.ids.get(config.id.as_str()) {
            conflicts.id(id.place, &config.id, *owner);
            return conflicts;
        }
        for domain in &one.evaluated.domains {
            if let Some(owner) = self.domains.get(domain.value.as_str()) {
                conflicts.domain(domain.place, domain.value.as_str(), *owner);
            }
        }
        let mut own = HashMap::new();
        for domain in &one.evaluated.domains {
            let owner = Owner::Container(&one.container, domain.place);
            if own.insert(domain.value.as_str(), owner).is_some() {
                conflicts.twice(domain.place, domain.value.as_str());
            }
        }
        if conflicts.found.is_empty() {
            self.domains.extend(own);
            let owner = Owner::Container(&one.container, id.place);
            self.ids.insert(&config.id, owner);
            if one.evaluated.pool.is_some() {
                self.pools.insert(&config.id, self.servers.len());
            }
            self.servers.push((&one.container, config.clone()));
        }
        conflicts
    }

    fn servers(self) -> Vec<Arc<ServerConfig>> {
        let mut servers: Vec<_> = self.servers.into_iter().map(|(_, s)| Arc::new(s)).collect();
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        servers
    }
}

/// The labels in which two containers of a pool differ.
fn differing(a: &Container, b: &Container) -> Vec<String> {
    let mut names: Vec<&String> = a.labels.keys().chain(b.labels.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| !OWN_LABELS.contains(&name.as_str()))
        .filter(|name| a.labels.get(*name) != b.labels.get(*name))
        .map(|name| Quoted(name).to_string())
        .collect()
}

/// The most names that one message lists.
const NAMES_SHOWN_MAX: usize = 5;

/// The conflicts that keep a valid container from its server.
struct Conflicts<'j> {
    checker: &'j ContainerChecker,
    container: &'j Container,
    name: Place,
    problems: Option<Arc<Problems>>,
    found: Vec<Diagnostic>,
    /// Made for the first conflict.
    sources: Option<Sources>,
}

impl<'j> Conflicts<'j> {
    fn new(checker: &'j ContainerChecker, one: &'j Cached) -> Self {
        let name = Place::whole(one.evaluated.file);
        Self {
            checker,
            container: &one.container,
            name: one.evaluated.id.as_ref().map_or(name, |id| id.place),
            problems: one.problems.clone(),
            found: Vec::new(),
            sources: None,
        }
    }

    /// The texts that diagnostics of this container point into.
    fn sources(&mut self) -> &mut Sources {
        self.sources.get_or_insert_with(|| match &self.problems {
            Some(problems) => problems.sources.clone(),
            None => {
                let mut sources = self.checker.sources.clone();
                let folder = self.checker.folder.clone();
                containers::read(self.container, folder, &mut sources, &mut Report::default());
                sources
            }
        })
    }

    /// Adds a conflict about a claim of another owner.
    fn taken(&mut self, diagnostic: Diagnostic, owner: Owner<'_>) {
        let folder = self.checker.folder.clone();
        let sources = self.sources();
        let diagnostic = match owner {
            Owner::File(path) => {
                let file = sources.add(path, "");
                diagnostic
                    .because("a file wins over a container")
                    .label(Place::whole(file), "the file")
            }
            Owner::Container(other, place) => {
                let read = containers::read(other, folder, sources, &mut Report::default());
                let place = Place {
                    file: read.file,
                    span: place.span,
                };
                diagnostic
                    .because("the older container wins")
                    .label(place, "the older one")
            }
        };
        self.found.push(diagnostic);
    }

    fn id(&mut self, place: Place, id: &str, owner: Owner<'_>) {
        let message = format!("the id `{id}` is already that of {}", owner.name());
        let help = match owner {
            Owner::File(_) => "write another `infrarust.name`",
            Owner::Container(..) => {
                "write another `infrarust.name`; or the same `infrarust.pool` in both, to make them one server"
            }
        };
        let diagnostic = Diagnostic::new(Code::DuplicateServer, place, message).help(help);
        self.taken(diagnostic, owner);
    }

    fn domain(&mut self, place: Place, domain: &str, owner: Owner<'_>) {
        let message = format!(
            "the domain {} already leads to the server of {}",
            Quoted(domain),
            owner.name()
        );
        let help = match owner {
            Owner::File(_) => "remove it from one of them",
            Owner::Container(..) => {
                "remove it from one of them; or write the same `infrarust.pool` in both, to make them one server"
            }
        };
        let diagnostic = Diagnostic::new(Code::DuplicateDomain, place, message).help(help);
        self.taken(diagnostic, owner);
    }

    fn twice(&mut self, place: Place, domain: &str) {
        let message = format!("the domain {} stands twice here", Quoted(domain));
        let diagnostic = Diagnostic::new(Code::DuplicateDomain, place, message);
        self.found.push(
            diagnostic
                .help("remove one of them; upper case and a dot at the end make no difference"),
        );
    }

    fn pool(&mut self, place: Place, pool: &str, oldest: &Container, labels: &[String]) {
        let mut names = labels
            .iter()
            .take(NAMES_SHOWN_MAX)
            .cloned()
            .collect::<Vec<_>>();
        if labels.len() > names.len() {
            names.push(format!("{} more", labels.len() - names.len()));
        }
        let message = format!(
            "this container cannot join the pool `{pool}`: {} differs from {}",
            names.join(", "),
            title(oldest),
        );
        let diagnostic = Diagnostic::new(Code::BadValue, place, message);
        self.found.push(
            diagnostic
                .because("the oldest container of a pool says what the server is")
                .help("give all containers of a pool the same labels; only `infrarust.port` and `infrarust.addresses` may differ"),
        );
    }

    fn no_room(mut self) -> Self {
        let message = format!(
            "the labels of older containers already have the {ALL_LABELS_BYTES_MAX} bytes that are read"
        );
        self.found
            .push(Diagnostic::new(Code::BadValue, self.name, message));
        self
    }

    /// All problems of the container, if it has conflicts.
    fn end(mut self) -> Option<Arc<Problems>> {
        if self.found.is_empty() {
            return None;
        }
        let sources = self.sources().clone();
        let before = self
            .problems
            .iter()
            .flat_map(|p| p.diagnostics.iter().cloned());
        let all = before.chain(std::mem::take(&mut self.found)).collect();
        Problems::new(all, sources)
    }
}

impl Owner<'_> {
    /// Its name in messages.
    fn name(self) -> String {
        match self {
            Owner::File(path) => format!("`{}`", words::path(path)),
            Owner::Container(container, _) => title(container),
        }
    }
}

fn title(container: &Container) -> String {
    format!("`{}`", words::path(&container.title()))
}
