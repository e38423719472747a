//! Turns the raw configuration into the model, and collects every mistake.
//!
//! One file per family of rules. A rule that finds a mistake reports it and
//! returns [`Reported`]; its caller continues with the other keys, and a
//! configuration is returned only when no rule returned it. A mistake is reported
//! once: a rule that needs a bad value reports nothing.

mod across;
mod addresses;
mod attach;
mod compression;
mod containers;
mod docker;
mod domains;
mod filters;
mod forwarding;
mod modes;
mod motd;
pub(crate) mod names;
mod networks;
mod permissions;
pub(super) mod plugins;
mod proxy;
mod server;
mod texts;
mod unused;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::entry::{Entry, Reported};
use crate::config::files::{self, Unreadable};
use crate::config::model::Config;
use crate::config::paths::{self, join};
use crate::config::raw::{RawProxy, RawServer};
use crate::config::report::Report;
use crate::config::types::FilePath;
use crate::diagnostic::{Code, Diagnostic, FileId, Place, Sources, words};
use crate::manifest::Manifest;

pub(super) use containers::{Evaluated, Rules};

/// The global file, with the options of the command line that replace its values.
#[derive(Debug)]
pub(super) struct ProxyFile {
    pub(super) file: FileId,
    /// The values as written; `None` if the file could not be parsed.
    pub(super) raw: Option<RawProxy>,
    pub(super) servers_dir: PathBuf,
    pub(super) plugins_dir: PathBuf,
    pub(super) bind: Vec<SocketAddr>,
    /// The manifests of the running plugins, if the global file is the one in force.
    pub(super) running: Option<Arc<Manifests>>,
}

/// Manifests by the ids of their plugins.
pub(crate) type Manifests = HashMap<String, Manifest>;

/// A server file.
#[derive(Debug)]
pub(super) struct ServerFile {
    pub(super) file: FileId,
    /// The values as written; `None` if the file could not be read or parsed.
    pub(super) raw: Option<RawServer>,
}

/// The context of all rules.
#[derive(Debug)]
pub(super) struct Context<'a> {
    sources: &'a mut Sources,
    report: &'a mut Report,
    /// The folders in which labels may name files.
    folders: LabelFolders,
}

/// The folders with files that a label may name. A secret is sent to a backend, and a
/// favicon to every client: without this limit, whoever labels a container could get any
/// file of the proxy's machine.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelFolders {
    secrets: Option<PathBuf>,
    favicons: Option<PathBuf>,
}

impl LabelFolders {
    /// The folders in a global file, which is in `folder`.
    pub(super) fn new(global: Option<&RawProxy>, folder: &Path) -> Self {
        let docker = global.and_then(|raw| raw.docker.value());
        let written = |entry: &Entry<FilePath>| entry.value().map(|path| join(folder, &path.0));
        Self {
            secrets: docker.and_then(|docker| written(&docker.secrets_dir)),
            favicons: docker.and_then(|docker| written(&docker.favicons_dir)),
        }
    }
}

/// The purposes of files that a label may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabelFile {
    Secret,
    Favicon,
}

impl<'a> Context<'a> {
    pub(super) fn new(sources: &'a mut Sources, report: &'a mut Report) -> Self {
        Self::for_labels(sources, report, LabelFolders::default())
    }

    pub(super) fn for_labels(
        sources: &'a mut Sources,
        report: &'a mut Report,
        folders: LabelFolders,
    ) -> Self {
        Self {
            sources,
            report,
            folders,
        }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }

    /// Records that a file was not read.
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

    /// Whether the files of two places have the same text.
    fn is_same(&self, one: Place, other: Place) -> bool {
        self.sources.text(one.file) == self.sources.text(other.file)
    }

    /// Whether these are labels of a container.
    fn is_label(&self, file: FileId) -> bool {
        self.sources.is_labels(file)
    }

    /// An example in the form of the place: of a file, or of a label.
    fn example<'t>(&self, file: FileId, in_file: &'t str, as_label: &'t str) -> &'t str {
        if self.sources.is_labels(file) {
            as_label
        } else {
            in_file
        }
    }

    /// The help about a path in a file that does not exist.
    fn where_paths_begin(&self, file: FileId, written: &Path) -> String {
        let of = if self.sources.is_labels(file) {
            "of `infrarust.toml`"
        } else {
            "of the file that holds them"
        };
        paths::where_they_begin(&self.sources.folder(file), written, of)
    }

    /// The path of a file that a file or a label names. If a label names it, it must be in
    /// the folder for such files, with links followed.
    fn named_file(
        &mut self,
        place: Place,
        path: &Path,
        what: LabelFile,
    ) -> Result<PathBuf, Reported> {
        let resolved = self.resolve(place.file, path);
        if !self.is_label(place.file) {
            return Ok(resolved);
        }
        let (folder, key, noun) = match what {
            LabelFile::Secret => (&self.folders.secrets, "secrets_dir", "secret file"),
            LabelFile::Favicon => (&self.folders.favicons, "favicons_dir", "favicon file"),
        };
        let (message, help) = match folder {
            None => (
                format!("a label can name no {noun} without `{key}` in `[docker]`"),
                format!("write `{key} = \"…\"` into `[docker]`, and put the file into that folder"),
            ),
            Some(folder) => match files::confined(&resolved, folder) {
                Ok(Some(real)) => return Ok(real),
                Err(problem) if resolved.starts_with(folder) => {
                    self.unread(&problem);
                    let shown = words::path(&resolved);
                    let message = format!("the {noun} `{shown}` cannot be read: {problem}");
                    let help = self.where_paths_begin(place.file, path);
                    self.push(Diagnostic::new(Code::MissingFile, place, message).help(help));
                    return Err(Reported);
                }
                Ok(None) | Err(_) => (
                    format!("the {noun} does not lie in the folder that `{key}` names"),
                    format!(
                        "put it into `{}`, without links that lead out of it",
                        words::path(folder)
                    ),
                ),
            },
        };
        self.push(
            Diagnostic::new(Code::BadValue, place, message)
                .because("whoever may label a container may not therefore read what the proxy can")
                .help(help),
        );
        Err(Reported)
    }

    /// A path in a file, relative to the working directory.
    fn resolve(&self, file: FileId, path: &Path) -> PathBuf {
        join(&self.sources.folder(file), path)
    }
}

/// The configuration in all files together.
pub(super) fn config(
    proxy_file: &ProxyFile,
    server_files: &[ServerFile],
    context: &mut Context<'_>,
) -> Result<Config, Reported> {
    let nothing = RawProxy::default();
    let raw = proxy_file.raw.as_ref().unwrap_or(&nothing);
    let proxy = proxy::proxy(proxy_file, raw, context);
    let mut forwarding = forwarding::Global::new(proxy_file, context);
    let defaults = server::Defaults::new(raw);

    let drafts: Vec<server::Draft<'_>> = server_files
        .iter()
        .map(|file| server::draft(file, &defaults, &mut forwarding, context))
        .collect();
    let all_sound = drafts.iter().all(|draft| draft.sound.is_ok());
    // Containers are servers too, and come and go.
    let are_all = !raw.docker.is_written();
    forwarding.finish(all_sound, are_all, context);
    if proxy.is_ok() {
        unused::rules(raw, &drafts, context);
    }
    across::rules(&drafts, context);
    networks::rules(raw, &drafts, context);
    if let Ok(proxy) = &proxy {
        across::own_addresses(proxy_file, &proxy.bind, &drafts, context);
    }
    // Without the global file the plugins are not known.
    let are_known = !raw.plugins.is_broken() && proxy_file.raw.is_some();
    let plugins = plugins::tables(proxy_file, context);
    let plugins_known = are_known.then_some(&plugins[..]);
    let attached = attach::rules(plugins_known, &drafts, are_all, context);

    let servers: Result<Vec<_>, Reported> = drafts
        .into_iter()
        .zip(attached)
        .map(|(draft, plugins)| Ok(Arc::new(draft.sound?.join(plugins))))
        .collect();
    let mut servers = servers?;
    servers.sort_by(|a, b| a.id.cmp(&b.id));
    let plugins = plugins.iter().filter_map(|plugin| match &plugin.state {
        plugins::State::Sound(config) => Some(Arc::clone(config)),
        plugins::State::Disabled | plugins::State::Bad => None,
    });
    Ok(Config {
        proxy: Arc::new(proxy?),
        servers,
        plugins: plugins.collect(),
    })
}
