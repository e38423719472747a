//! From what was typed to what it means, with every mistake on the way.
//!
//! One file per family of rules. A rule that finds a mistake reports it and
//! answers `None`; its caller goes on with the other keys, and a configuration
//! comes out only when nobody answered `None`. What was reported once is not
//! reported again: a rule that needs a value that is already known to be bad
//! stays silent.

mod across;
mod addresses;
mod attach;
mod containers;
mod docker;
mod domains;
mod filters;
mod forwarding;
mod modes;
mod motd;
mod names;
pub(super) mod plugins;
mod proxy;
mod server;
mod texts;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::files::Unreadable;
use crate::config::load::join;
use crate::config::model::Config;
use crate::config::paths;
use crate::config::raw::{RawProxy, RawServer};
use crate::config::report::Report;
use crate::diagnostic::{Code, Diagnostic, FileId, Place, Sources};
use crate::manifest::Manifest;

pub(super) use containers::{Alone, Rules};

/// The global file with what the command line says instead of it.
#[derive(Debug)]
pub(super) struct ProxyFile {
    pub(super) file: FileId,
    /// What was typed; `None` when it could not be parsed.
    pub(super) raw: Option<RawProxy>,
    pub(super) servers_dir: PathBuf,
    pub(super) plugins_dir: PathBuf,
    pub(super) bind: Vec<SocketAddr>,
    /// The manifests of the plugins that run, where the global file is the one
    /// in force.
    pub(super) running: Option<Arc<Manifests>>,
}

/// Manifests by the ids of their plugins.
pub type Manifests = HashMap<String, Manifest>;

/// A server file.
#[derive(Debug)]
pub(super) struct ServerFile {
    pub(super) file: FileId,
    /// What was typed; `None` when it could not be read or parsed.
    pub(super) raw: Option<RawServer>,
}

/// What every rule may use.
#[derive(Debug)]
pub(super) struct Context<'a> {
    sources: &'a mut Sources,
    report: &'a mut Report,
}

impl<'a> Context<'a> {
    pub(super) fn new(sources: &'a mut Sources, report: &'a mut Report) -> Self {
        Self { sources, report }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }

    /// Notes that a file was not read.
    fn unread(&mut self, problem: &Unreadable) {
        self.report.is_incomplete |= problem.may_pass();
    }

    /// Reports a value that cannot be used.
    fn bad_value(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::new(Code::BadValue, place, message).help(help));
    }

    fn path(&self, file: FileId) -> &Path {
        self.sources.path(file)
    }

    /// Whether these are labels of a container.
    fn is_label(&self, file: FileId) -> bool {
        self.sources.is_labels(file)
    }

    /// How something is written where this is: in a file, or as a label.
    fn example<'t>(&self, file: FileId, in_file: &'t str, as_label: &'t str) -> &'t str {
        if self.sources.is_labels(file) {
            as_label
        } else {
            in_file
        }
    }

    /// The help about a path in a file that leads to nothing.
    fn where_paths_begin(&self, file: FileId, written: &Path) -> String {
        let of = if self.sources.is_labels(file) {
            "of `infrarust.toml`"
        } else {
            "of the file that holds them"
        };
        paths::where_they_begin(&self.sources.folder(file), written, of)
    }

    /// A path that is written in a file, seen from the working directory.
    fn resolve(&self, file: FileId, path: &Path) -> PathBuf {
        join(&self.sources.folder(file), path)
    }
}

/// What all files together mean; `None` when an error was found.
pub(super) fn config(
    proxy_file: &ProxyFile,
    server_files: &[ServerFile],
    context: &mut Context<'_>,
) -> Option<Config> {
    let nothing = RawProxy::default();
    let raw = proxy_file.raw.as_ref().unwrap_or(&nothing);
    let proxy = proxy::proxy(proxy_file, raw, context);
    let mut forwarding = forwarding::Global::new(proxy_file, context);
    let defaults = server::Defaults::new(raw);

    let mut drafts: Vec<server::Draft<'_>> = server_files
        .iter()
        .map(|file| server::draft(file, &defaults, &mut forwarding, context))
        .collect();
    let all_sound = drafts.iter().all(|draft| draft.config.is_some());
    forwarding.finish(all_sound, context);
    across::rules(&drafts, context);
    if let Some(proxy) = &proxy {
        across::own_addresses(proxy_file, &proxy.bind, &drafts, context);
    }
    // Without the global file nobody knows which plugins there are.
    let are_known = !raw.plugins.is_broken() && proxy_file.raw.is_some();
    let plugins = plugins::tables(proxy_file, context);
    let plugins_known = are_known.then_some(&plugins[..]);
    // Containers are servers too, and come and go.
    let are_all = !raw.docker.is_written();
    attach::rules(plugins_known, &mut drafts, are_all, context);

    let servers: Option<Vec<_>> = drafts
        .into_iter()
        .map(|draft| draft.config.map(Arc::new))
        .collect();
    let mut servers = servers?;
    servers.sort_by(|a, b| a.id.cmp(&b.id));
    let plugins = plugins.iter().filter_map(|plugin| match &plugin.state {
        plugins::State::Sound(config) => Some(Arc::clone(config)),
        plugins::State::Disabled | plugins::State::Bad => None,
    });
    Some(Config {
        proxy: Arc::new(proxy?),
        servers,
        plugins: plugins.collect(),
    })
}
