//! Loads a folder of files: returns a configuration, or all its problems.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::document;
use crate::config::entry::Reported;
use crate::config::files::{self, Unreadable, is_file, plain};
use crate::config::folder;
use crate::config::model::Config;
use crate::config::paths::{self, folder_of, join, tidy};
use crate::config::raw::RawProxy;
use crate::config::report::Report;
use crate::config::types::FilePath;
use crate::config::validate::{self, Context, Manifests, ProxyFile, ServerFile};
use crate::diagnostic::{self, Code, Diagnostic, FileId, Place, Sources, words};
use crate::environment;

pub(crate) use crate::config::files::is_folder;

/// The default path of the global file.
pub(crate) const CONFIG_FILE: &str = "infrarust.toml";

/// The largest file that is read, in bytes. A long file with favicons in base64 has a tenth
/// of that.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The global file; `None` is [`CONFIG_FILE`] in the working directory.
    pub config: Option<PathBuf>,
    /// The folder of the server files instead of the one that the global file names.
    pub servers_dir: Option<PathBuf>,
    /// The folder of the plugins instead of the one that the global file names.
    pub plugins_dir: Option<PathBuf>,
    /// The addresses to listen on instead of those in the global file; empty for those in
    /// the file.
    pub bind: Vec<SocketAddr>,
    /// The content of the global file that is in force; `None` reads the file now.
    pub global: Option<GlobalText>,
    /// The manifests of the running plugins, together with `global`; `None` reads the
    /// plugins' files.
    pub plugins: Option<Arc<Manifests>>,
}

impl LoadOptions {
    /// The same options with absolute paths, since a plugin may change the working
    /// directory.
    #[must_use]
    pub fn absolute(self) -> Self {
        // If the working directory does not exist any more, the read reports it.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Self {
            config: Some(absolute(global_path(&self))),
            servers_dir: self.servers_dir.map(absolute),
            plugins_dir: self.plugins_dir.map(absolute),
            ..self
        }
    }
}

/// The content of a global file. Its `Debug` form does not show it: secrets may
/// stand in it.
#[derive(Clone, PartialEq, Eq)]
pub struct GlobalText(Arc<[u8]>);

impl GlobalText {
    /// Whether the file of these options still has this content.
    ///
    /// Reads the file.
    #[must_use]
    pub fn is_current(&self, options: &LoadOptions) -> bool {
        files::read_global(&global_path(options), FILE_BYTES_MAX)
            .is_ok_and(|bytes| *bytes == *self.0)
    }
}

impl fmt::Debug for GlobalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GlobalText(..)")
    }
}

/// The result of a load.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, unless there was an error.
    pub config: Option<Config>,
    /// Every problem, in the order in which outputs show them.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the diagnostics point into.
    pub sources: Sources,
    /// The global file as it was checked; `None` when it could not be read.
    pub global: Option<GlobalText>,
    /// Whether a file could not be read for a temporary reason: no descriptor was left, or
    /// a disk did not answer.
    pub is_incomplete: bool,
    /// The places of the plugins' tables.
    plugins: HashMap<String, Place>,
}

impl Loaded {
    /// The place of a plugin's table, or of the whole global file if it has none.
    #[must_use]
    pub fn plugin_place(&self, id: &str) -> Place {
        let whole = Place::whole(FileId::GLOBAL);
        self.plugins.get(id).copied().unwrap_or(whole)
    }

    /// Adds problems, sorted in among the known ones.
    pub fn report(&mut self, diagnostics: Vec<Diagnostic>) {
        self.diagnostics.extend(diagnostics);
        diagnostic::sort(&mut self.diagnostics, &self.sources);
    }

    /// Whether any problem refuses the configuration.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads the global file and all server files, and makes the configuration from
/// them.
///
/// Reads files (and the environment variables that secrets name), and has no other effect.
/// It never fails: every problem is a diagnostic.
#[must_use]
pub fn load(options: &LoadOptions) -> Loaded {
    // Reads the environment now, before plugins can change it.
    let _ = environment::all();
    let mut sources = Sources::default();
    let mut report = Report::default();
    let global = read_global(options, &mut sources, &mut report);
    let meaning = global
        .as_ref()
        .map(|global| load_into(options, global, &mut sources, &mut report));
    finish(meaning.unwrap_or_default(), global, sources, report)
}

/// Checks texts as [`load`] checks files: the global one, and server files by
/// name, as if they all lay in the working directory.
///
/// For tests and fuzzing: no other file is read, except the favicons and secrets
/// that the texts name.
#[must_use]
pub fn load_texts(global: &[u8], servers: &[(&Path, &[u8])]) -> Loaded {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let meaning = load_texts_into(global, servers, &mut sources, &mut report);
    finish(meaning, Some(GlobalText(global.into())), sources, report)
}

/// A valid configuration of a global file, and of servers by their id, which is also
/// their domain, and their address.
#[cfg(test)]
pub(crate) fn with_servers(global: &str, servers: &[(&str, &str)]) -> Config {
    let servers = servers.iter().map(|(id, address)| {
        let text = format!("domains = [\"{id}\"]\naddresses = [\"{address}\"]");
        (format!("{id}.toml"), text)
    });
    let servers: Vec<_> = servers.collect();
    let files: Vec<_> = servers
        .iter()
        .map(|(name, text)| (Path::new(name), text.as_bytes()))
        .collect();
    load_texts(global.as_bytes(), &files).config.unwrap()
}

/// The configuration, if it could be made, and the places of the plugins' tables.
#[derive(Debug, Default)]
struct Meaning {
    config: Option<Config>,
    plugins: HashMap<String, Place>,
}

fn load_texts_into(
    global: &[u8],
    servers: &[(&Path, &[u8])],
    sources: &mut Sources,
    report: &mut Report,
) -> Meaning {
    let (file, raw) = document::read(Path::new(CONFIG_FILE), global, sources, report);
    let proxy = ProxyFile {
        file,
        raw,
        servers_dir: path_or_default(None, RawProxy::servers_dir, Path::new("")),
        plugins_dir: path_or_default(None, RawProxy::plugins_dir, Path::new("")),
        bind: Vec::new(),
        running: None,
    };
    let mut files = Vec::with_capacity(servers.len());
    for (path, bytes) in servers {
        let (file, raw) = document::read(path, bytes, sources, report);
        files.push(ServerFile { file, raw });
    }
    let config = validate::config(&proxy, &files, &mut Context::new(sources, report)).ok();
    let plugins = plugin_places(&proxy);
    Meaning { config, plugins }
}

/// The places of the plugins' tables.
fn plugin_places(proxy: &ProxyFile) -> HashMap<String, Place> {
    let map = proxy.raw.as_ref().and_then(|raw| raw.plugins.value());
    let entries = map.map_or(&[][..], |map| &map.entries[..]);
    entries
        .iter()
        .filter_map(|(id, entry)| Some((id.clone(), entry.key()?)))
        .collect()
}

/// Sorts the diagnostics, and drops the configuration if there is an error.
fn finish(
    meaning: Meaning,
    global: Option<GlobalText>,
    sources: Sources,
    report: Report,
) -> Loaded {
    let is_incomplete = report.is_incomplete;
    let mut diagnostics = report.diagnostics;
    diagnostic::sort(&mut diagnostics, &sources);
    let refused = diagnostics.iter().any(Diagnostic::is_error);
    Loaded {
        config: meaning.config.filter(|_| !refused),
        diagnostics,
        sources,
        global,
        is_incomplete,
        plugins: meaning.plugins,
    }
}

fn global_path(options: &LoadOptions) -> PathBuf {
    let path = options.config.clone();
    path.unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
}

/// The global file, unless it cannot be read, which has then been reported.
fn read_global(
    options: &LoadOptions,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<GlobalText> {
    if options.global.is_some() {
        return options.global.clone();
    }
    let path = global_path(options);
    match files::read_global(&path, FILE_BYTES_MAX) {
        Ok(bytes) => Some(GlobalText(bytes.into())),
        Err(problem) => {
            let file = sources.add(&path, "");
            let diagnostic = unreadable("the global file", &path, file, &problem);
            report.is_incomplete |= problem.may_pass();
            report.push(match problem {
                Unreadable::Missing => diagnostic.help(no_global(&path)),
                Unreadable::Folder if is_file(&path.join(CONFIG_FILE)) => diagnostic.help(format!(
                    "name the file in it: `--config {}`",
                    words::path(&path.join(CONFIG_FILE))
                )),
                _ => diagnostic,
            });
            None
        }
    }
}

/// Files of other proxies, and of Infrarust v1, that may be in the place of ours.
const FOREIGN_CONFIG_FILES: [&str; 6] = [
    "config.yaml",
    "config.yml",
    "infrarust.yaml",
    "infrarust.yml",
    "config.toml",
    "velocity.toml",
];

/// The help about a missing global file.
fn no_global(path: &Path) -> String {
    let write = "write one: `bind = \"0.0.0.0:25565\"` is enough, and put one file for each \
                 server into the folder `servers` beside it; or name another file with `--config`";
    let folder = folder_of(path);
    let mut foreign = FOREIGN_CONFIG_FILES
        .iter()
        .map(|name| join(&folder, Path::new(name)));
    match foreign.find(|file| is_file(file)) {
        Some(found) => format!(
            "{write}. `{}` lies there; its format and keys are those of another program or of \
             Infrarust v1",
            words::path(&found)
        ),
        None => write.to_owned(),
    }
}

fn load_into(
    options: &LoadOptions,
    global: &GlobalText,
    sources: &mut Sources,
    report: &mut Report,
) -> Meaning {
    let proxy = proxy_file(options, global, sources, report);
    // If the global file does not give a readable folder, reading the default
    // one would only report problems of the wrong files.
    let is_known = match &proxy.raw {
        Some(raw) => options.servers_dir.is_some() || !raw.servers_dir.is_broken(),
        None => options.servers_dir.is_some() || is_folder(&proxy.servers_dir),
    };
    let servers = if is_known {
        read_servers(options, &proxy, sources, report)
    } else {
        None
    };
    let mut context = Context::new(sources, report);
    let config = validate::config(&proxy, servers.as_deref().unwrap_or(&[]), &mut context);
    validate::plugins::unused(&proxy, &mut context);
    Meaning {
        config: config.ok().filter(|_| servers.is_some()),
        plugins: plugin_places(&proxy),
    }
}

/// Reads the global file, and adds the options of the command line that replace its values.
pub(super) fn proxy_file(
    options: &LoadOptions,
    global: &GlobalText,
    sources: &mut Sources,
    report: &mut Report,
) -> ProxyFile {
    let path = global_path(options);
    let (file, raw) = document::read::<RawProxy>(&path, &global.0, sources, report);

    let folder = folder_of(&path);
    let folder_or = |option: &Option<PathBuf>, key: PathKey| {
        let option = option.clone();
        option.unwrap_or_else(|| path_or_default(raw.as_ref(), key, &folder))
    };
    let servers_dir = folder_or(&options.servers_dir, RawProxy::servers_dir);
    let plugins_dir = folder_or(&options.plugins_dir, RawProxy::plugins_dir);

    ProxyFile {
        file,
        raw,
        servers_dir,
        plugins_dir,
        bind: options.bind.clone(),
        running: options
            .global
            .is_some()
            .then(|| options.plugins.clone())
            .flatten(),
    }
}

/// A key of the global file with a path as its value.
type PathKey = fn(&RawProxy) -> Result<&FilePath, Reported>;

/// The path in a key of the global file, which is in `folder`; the default if the file or
/// this key cannot be read.
fn path_or_default(raw: Option<&RawProxy>, key: PathKey, folder: &Path) -> PathBuf {
    let nothing = RawProxy::default();
    let written = raw.and_then(|raw| key(raw).ok());
    let path = written.or(key(&nothing).ok());
    path.map_or_else(|| folder.to_owned(), |path| join(folder, &path.0))
}

/// The path of the control socket while the configuration has errors: in the folder of the
/// global file, with the default name.
#[must_use]
pub(crate) fn default_control_socket(options: &LoadOptions) -> PathBuf {
    let folder = folder_of(&global_path(options));
    path_or_default(None, RawProxy::control_socket, &folder)
}

/// The server files of the folder, in the order of their names. `None` if the folder itself
/// has a problem, which is reported.
fn read_servers(
    options: &LoadOptions,
    proxy: &ProxyFile,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<Vec<ServerFile>> {
    let dir = &proxy.servers_dir;
    let written = proxy
        .raw
        .as_ref()
        .and_then(|raw| raw.servers_dir.given())
        .filter(|_| options.servers_dir.is_none())
        .map(|given| given.place);
    let place = written.unwrap_or(Place::whole(proxy.file));
    let has_containers = proxy
        .raw
        .as_ref()
        .is_some_and(|raw| raw.docker.is_written());
    let listed = files::look(dir, folder::find).unwrap_or_else(|slow| {
        let slow = slow.to_string();
        Err(io::Error::new(io::ErrorKind::TimedOut, slow))
    });
    let found = match listed {
        Ok(found) => found,
        Err(error) => {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            if is_missing && written.is_none() && options.servers_dir.is_none() {
                if !has_containers {
                    report.push(no_servers(place, dir));
                }
                return Some(Vec::new());
            }
            let what = if is_missing {
                "does not exist".to_owned()
            } else if error.kind() == io::ErrorKind::NotADirectory {
                "is a file".to_owned()
            } else {
                report.is_incomplete |= Unreadable::may_pass_of(&error);
                format!("cannot be read: {}", plain(&error))
            };
            let message = format!(
                "the folder `{}` of the server files {what}",
                words::path(dir)
            );
            let help = match proxy.raw.as_ref().and_then(|raw| raw.servers_dir.value()) {
                Some(path) if written.is_some() => {
                    let folder = folder_of(&global_path(options));
                    paths::where_they_begin(&folder, &path.0, "of the file that holds them")
                }
                _ => "`--servers-dir` counts from the working directory".to_owned(),
            };
            report.push(Diagnostic::new(Code::MissingFile, place, message).help(help));
            return None;
        }
    };
    if found.servers.is_empty() && !has_containers {
        report.push(no_servers(place, dir));
    }
    found.report(dir, place, report);
    let mut servers = Vec::with_capacity(found.servers.len());
    files::read_all(&found.servers, FILE_BYTES_MAX, |path, read| {
        let shown = tidy(path);
        match read {
            Ok(bytes) => {
                let (file, raw) = document::read(&shown, &bytes, sources, report);
                servers.push(ServerFile { file, raw });
            }
            Err(problem) => {
                let file = sources.add(&shown, "");
                report.is_incomplete |= problem.may_pass();
                report.push(unreadable("the server file", &shown, file, &problem));
                servers.push(ServerFile { file, raw: None });
            }
        }
    });
    Some(servers)
}

fn no_servers(place: Place, dir: &Path) -> Diagnostic {
    let message = format!("there is no server file in `{}`", words::path(dir));
    let mut help = "write a file such as `servers/lobby.toml` with \
                    `domains = [\"play.example.com\"]` and `addresses = [\"127.0.0.1:25566\"]`"
        .to_owned();
    let of_v1 = dir.with_file_name("proxies");
    if is_folder(&of_v1) {
        help.push_str(&format!(
            "; Infrarust v1 had them in YAML in `{}`",
            words::path(&of_v1)
        ));
    }
    Diagnostic::new(Code::NoServers, place, message).help(help)
}

/// Whether a file with this name in the folder of server files matters: it is read, or
/// reported as one that is not read.
pub(crate) fn is_server_file(name: &OsStr) -> bool {
    folder::matters(&name.to_string_lossy())
}

fn unreadable(what: &str, path: &Path, file: FileId, problem: &Unreadable) -> Diagnostic {
    let text = match problem {
        Unreadable::Io(error) => plain(error),
        other => other.to_string(),
    };
    let message = format!("{what} `{}` cannot be read: {text}", words::path(path));
    let diagnostic = Diagnostic::new(Code::MissingFile, Place::whole(file), message);
    match problem {
        Unreadable::Folder => diagnostic.help(
            "container engines make a folder where the file to mount is missing on the host: \
             remove the folder, write the file, and mount it again",
        ),
        _ => diagnostic,
    }
}
