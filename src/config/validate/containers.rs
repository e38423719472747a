//! One container: its labels by the rules for server files, and its address.

use std::path::PathBuf;

use super::forwarding::Global;
use super::server::{self, Defaults};
use super::{Context, ProxyFile, ServerFile, attach, names, plugins};
use crate::config::containers::{self, Container, ENABLE, NetworkOf, RawContainer, Surroundings};
use crate::config::entry::{Entry, Given, Item, List};
use crate::config::model::ServerConfig;
use crate::config::raw::{RawProxy, RawServer};
use crate::config::types::AddressText;
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic, FileId, Place};
use crate::route::HostPattern;

/// The placeholder for the address of a container that has none, until the
/// server has been checked (RFC 2606: no real name ends so).
const NOWHERE: &str = "container.invalid";

/// The suffix after the name of a container without a domain label, as in Infrarust v2.
const DOMAIN_SUFFIX: &str = ".docker.local";

/// The result of the checks of a single container.
#[derive(Debug)]
pub(in crate::config) struct Evaluated {
    /// The text of its labels.
    pub(in crate::config) file: FileId,
    /// Whether its labels ask for a server.
    pub(in crate::config) is_enabled: bool,
    /// The place of its pool label, if it has one.
    pub(in crate::config) pool: Option<Place>,
    /// The id, which is that of the pool if there is one.
    pub(in crate::config) id: Option<Item<String>>,
    pub(in crate::config) domains: Vec<Item<HostPattern>>,
    /// The server, if it has no problem.
    pub(in crate::config) config: Option<ServerConfig>,
    /// Whether none of its addresses can be dialled, which is reported. Its server then has
    /// no address.
    pub(in crate::config) is_out_of_reach: bool,
}

/// The rules of a valid global file for all containers.
#[derive(Debug)]
pub(in crate::config) struct Rules<'a> {
    file: &'a ProxyFile,
    plugins: Vec<plugins::Plugin<'a>>,
    around: &'a Surroundings,
}

impl<'a> Rules<'a> {
    pub(in crate::config) fn new(
        file: &'a ProxyFile,
        around: &'a Surroundings,
        context: &mut Context<'_>,
    ) -> Self {
        let plugins = plugins::tables(file, context);
        Self {
            file,
            plugins,
            around,
        }
    }

    /// Checks a container as if there were no other server. Relative paths in
    /// its labels begin at `folder`.
    pub(in crate::config) fn evaluate(
        &self,
        container: &Container,
        folder: PathBuf,
        context: &mut Context<'_>,
    ) -> Evaluated {
        let labels = containers::read(container, folder, context.sources, context.report);
        let mut evaluated = Evaluated {
            file: labels.file,
            is_enabled: true,
            pool: labels.own.pool.given().map(|pool| pool.place),
            id: None,
            domains: Vec::new(),
            config: None,
            is_out_of_reach: false,
        };
        // There are more labels than are read.
        let Some(mut raw) = labels.server else {
            return evaluated;
        };
        let own = &labels.own;
        if !own.enable.is_written() {
            if let Some(label) = container.labels.keys().next() {
                context.push(not_enabled(label, labels.name));
            }
            evaluated.is_enabled = false;
            return evaluated;
        }
        name(&mut raw, own, labels.name, container, context);
        let facts = (labels.networks, labels.ports);
        evaluated.is_out_of_reach = !self.address(&mut raw, own, facts, container, context);

        let nothing = RawProxy::default();
        let defaults = Defaults::new(self.file.raw.as_ref().unwrap_or(&nothing));
        let mut forwarding = Global::new(self.file, context);
        let file = ServerFile {
            file: labels.file,
            raw: Some(raw),
        };
        let draft = server::draft(&file, &defaults, &mut forwarding, context);
        let drafts = std::slice::from_ref(&draft);
        let attached = attach::rules(Some(&self.plugins), drafts, false, context);
        let attached = attached.into_iter().next().unwrap_or_default();
        evaluated.id = draft.id.ok();
        evaluated.domains = draft.domains;
        let sound = own.enable().and(draft.sound).ok();
        evaluated.config = sound.map(|sound| sound.join(attached));
        if let Some(config) = &mut evaluated.config
            && (evaluated.is_out_of_reach || !container.state.is_usable())
        {
            config.addresses.clear();
        }
        evaluated
    }

    /// By default the backend is the container itself. Returns whether it has an address
    /// that can be dialled; a stopped container does not need one.
    fn address(
        &self,
        raw: &mut RawServer,
        own: &RawContainer,
        (networks, ports): (Place, Place),
        container: &Container,
        context: &mut Context<'_>,
    ) -> bool {
        if raw.addresses.is_written() {
            if let Some(key) = own.port.key() {
                let message = "`infrarust.port` does nothing beside `infrarust.addresses`";
                context.push(
                    Diagnostic::new(Code::NoEffect, key, message)
                        .help("write the port into the addresses"),
                );
            }
            return true;
        }
        let Ok(port) = own.port().map(|port| port.get()) else {
            raw.addresses = Entry::Broken(networks);
            return true;
        };
        let nowhere = || AddressText(format!("{NOWHERE}:{port}"));
        if !container.state.is_usable() {
            // Another container may have its former address by now.
            raw.addresses = one(networks, nowhere());
            return true;
        }
        let chosen = containers::choose(container, port, self.around);
        if chosen.is_none() {
            let places = (networks, ports);
            context.push(out_of_reach(container, port, places, self.around));
        }
        let is_reached = chosen.is_some();
        let address = chosen.map_or_else(nowhere, AddressText);
        raw.addresses = one(networks, address);
        is_reached
    }
}

/// The reason why the proxy cannot dial a port of a container.
fn out_of_reach(
    container: &Container,
    port: u16,
    (networks, ports): (Place, Place),
    around: &Surroundings,
) -> Diagnostic {
    let message = format!("the proxy cannot reach port {port} of this container");
    let diagnostic = Diagnostic::new(Code::NoAddress, networks, message);
    if let NetworkOf::Another(_) = container.network_of {
        return diagnostic
            .because("it uses the network of another container, and has the address of that one")
            .help("give the labels to that container, with `infrarust.port`");
    }
    let is_published = container.published.iter().any(|p| p.inside == port);
    let published = match (is_published, &around.published_at) {
        (false, _) => format!("port {port} is not published"),
        (true, None) => "a proxy in a container does not reach what its machine publishes at \
                         every address or at its loopback"
            .into(),
        (true, Some(_)) => "only the engine's machine reaches this address".into(),
    };
    let in_none = "the proxy is in none of these networks";
    let diagnostic = diagnostic.label(ports, published);
    let Some(name) = &around.network else {
        return diagnostic.because(in_none).help(
            "put proxy and container into one network, publish the port, name the network in \
             `[docker]`, or write `infrarust.addresses`",
        );
    };
    // Compose puts the name of the project in front of those in its file.
    let suffix = format!("_{name}");
    let mut names = container.networks.iter().map(|network| &network.name);
    let help = match names.find(|name| name.ends_with(&suffix)) {
        Some(full) => format!("write {} into `[docker]`", Quoted(full)),
        None => "put the container into that network, or write `infrarust.addresses`".to_owned(),
    };
    let reason = format!("{in_none}, and `[docker]` names {}", Quoted(name));
    diagnostic.because(reason).help(help)
}

fn not_enabled(label: &str, name: Place) -> Diagnostic {
    let message = format!("`{label}` does nothing without `{ENABLE}`");
    Diagnostic::new(Code::NoEffect, name, message).help(format!(
        "write `{ENABLE}: \"true\"` to make the container a server"
    ))
}

/// A key of a server file with this value, at this place of the labels.
fn given<T>(place: Place, value: T) -> Entry<T> {
    Entry::Given(Given {
        key: place,
        place,
        value,
    })
}

fn one<T>(place: Place, value: T) -> Entry<List<T>> {
    let list = List {
        items: vec![Item { place, value }],
        is_broken: false,
    };
    given(place, list)
}

/// By default the id is the container's name, and the domain is made from the id.
fn name(
    raw: &mut RawServer,
    own: &RawContainer,
    name: Place,
    container: &Container,
    context: &mut Context<'_>,
) {
    let written = [&raw.name, &raw.id].into_iter().find_map(Entry::key);
    match &own.pool {
        Entry::Given(pool) => {
            if let Some(key) = written {
                context.push(
                    Diagnostic::new(Code::NoEffect, key, "the id does nothing beside a pool")
                        .label(pool.place, "this is the id")
                        .help("remove one of them"),
                );
            }
            raw.id = Entry::Absent;
            raw.name = given(pool.place, pool.value.clone());
        }
        Entry::Broken(place) => raw.name = Entry::Broken(*place),
        // Names of containers may have capitals, ids may not.
        Entry::Absent if written.is_none() => {
            raw.name = given(name, container.name.to_lowercase());
        }
        Entry::Absent => {}
    }
    if !raw.domains.is_written() {
        let id = [&raw.name, &raw.id].into_iter().find_map(Entry::given);
        raw.domains = match id {
            Some(id) if names::problem(&id.value).is_none() => {
                one(id.place, format!("{}{DOMAIN_SUFFIX}", id.value))
            }
            Some(_) | None => Entry::Broken(name),
        };
    }
}
