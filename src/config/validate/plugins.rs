//! The tables of plugins, and the manifests in their files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Context, ProxyFile, names};
use crate::config::entry::{Entry, Given, Reported};
use crate::config::files;
use crate::config::model::{Document, OnFailure, PluginConfig};
use crate::config::plugin_file::{self, Sha};
use crate::config::raw::RawPlugin;
use crate::config::types::{OnFailureWord, UnsupportedWord};
use crate::diagnostic::words::{self, Quoted, nearest};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::glob;
use crate::manifest::Manifest;

/// A table `[plugins.<id>]`.
#[derive(Debug)]
pub(super) struct Plugin<'a> {
    pub(super) id: &'a str,
    /// The place of the id.
    pub(super) key: Place,
    pub(super) raw: &'a RawPlugin,
    pub(super) state: State,
}

/// The state of a plugin's table.
#[derive(Debug)]
pub(super) enum State {
    /// The operator has switched it off.
    Disabled,
    /// Its table or its file has a mistake, which is reported.
    Bad,
    /// It can be loaded.
    Sound(Arc<PluginConfig>),
}

impl Plugin<'_> {
    /// Whether it is left out on servers with a mode that cannot give what it needs.
    pub(super) fn skips(&self) -> bool {
        self.raw.unsupported() == Ok(&UnsupportedWord::Skip)
    }
}

/// Checks all tables, in the order of the file.
pub(super) fn tables<'a>(file: &'a ProxyFile, context: &mut Context<'_>) -> Vec<Plugin<'a>> {
    let Some(map) = file.raw.as_ref().and_then(|raw| raw.plugins.value()) else {
        return Vec::new();
    };
    let text: Arc<str> = context.sources.text(file.file).into();
    let document = Document(text);
    let mut plugins: Vec<_> = map
        .entries
        .iter()
        .filter_map(|(id, entry)| {
            let given = entry.given()?;
            Some(Plugin {
                id,
                key: given.key,
                raw: &given.value,
                state: state(file, id, given, &document, context),
            })
        })
        .collect();
    plugins.sort_by_key(|plugin| plugin.key.span.start);
    plugins
}

fn state(
    file: &ProxyFile,
    id: &str,
    given: &Given<RawPlugin>,
    document: &Document,
    context: &mut Context<'_>,
) -> State {
    if let Some(problem) = names::problem(id) {
        context.bad_value(
            given.key,
            format!("{} cannot be the id of a plugin: {problem}", Quoted(id)),
            "use letters `a` to `z`, digits, `_`, `-` and `.`",
        );
        return State::Bad;
    }
    let raw = &given.value;
    let pin = pin(&raw.sha256, context);
    match raw.enabled() {
        Err(Reported) => return State::Bad,
        Ok(false) => return State::Disabled,
        Ok(true) => {}
    }
    // A file with a wrong pin is still read, since it may have more problems.
    let manifest = manifest(file, id, given, pin.unwrap_or_default(), context);
    let config = || {
        Ok(PluginConfig {
            id: id.to_owned(),
            file: library(file, id, given, context)?.0,
            sha256: pin?,
            servers: raw.servers()?.values()?,
            on_failure: raw.on_failure.get()?.map(|word| match word {
                OnFailureWord::Continue => OnFailure::Continue,
                OnFailureWord::Deny => OnFailure::Deny,
            }),
            deadline: raw.deadline.get()?.map(|time| time.0),
            manifest: manifest?,
            document: document.clone(),
        })
    };
    match config() {
        Ok(config) => State::Sound(Arc::new(config)),
        Err(Reported) => State::Bad,
    }
}

/// The pin, if there is one.
fn pin(entry: &Entry<String>, context: &mut Context<'_>) -> Result<Option<Sha>, Reported> {
    let Some(given) = entry.written()? else {
        return Ok(None);
    };
    let pin = plugin_file::parse_hex(&given.value);
    if pin.is_none() {
        let message = format!("{} is not a SHA-256", Quoted(&given.value));
        context.bad_value(
            given.place,
            message,
            "write the 64 digits that `sha256sum` prints",
        );
    }
    pin.map(Some).ok_or(Reported)
}

/// The plugin's file, and where it is named.
fn library(
    file: &ProxyFile,
    id: &str,
    given: &Given<RawPlugin>,
    context: &Context<'_>,
) -> Result<(PathBuf, Place), Reported> {
    Ok(match given.value.path.written()? {
        Some(path) => {
            let place = path.place;
            (context.resolve(place.file, &path.value.0), place)
        }
        None => {
            let name = format!("lib{}.so", id.replace('-', "_"));
            (file.plugins_dir.join(name), given.key)
        }
    })
}

/// The manifest in the plugin's file.
fn manifest(
    file: &ProxyFile,
    id: &str,
    given: &Given<RawPlugin>,
    pin: Option<Sha>,
    context: &mut Context<'_>,
) -> Result<Manifest, Reported> {
    // While the global file is the one in force, the running plugin counts: a file that is
    // being copied must not delay changes of servers.
    if let Some(running) = file.running.as_ref().and_then(|running| running.get(id)) {
        return Ok(running.clone());
    }
    let (path, place) = library(file, id, given, context)?;
    let error = match plugin_file::check(&path, pin) {
        Ok(checked) => return Ok(checked.manifest),
        Err(error) => error,
    };
    let place = match error {
        plugin_file::PluginFileError::Pin { .. } => given.value.sha256.given().map(|pin| pin.place),
        _ => None,
    }
    .unwrap_or(place);
    let message = format!(
        "the plugin `{id}` cannot be loaded from `{}`: {error}",
        words::path(&path)
    );
    context.push(Diagnostic::new(error.code(), place, message).help(error.help()));
    Err(Reported)
}

/// Checks that every name in the `servers` of a plugin is that of a server. Returns whether
/// all are.
pub(super) fn servers_exist(
    plugin: &Plugin<'_>,
    servers: &HashSet<&str>,
    context: &mut Context<'_>,
) -> bool {
    let items = plugin
        .raw
        .servers
        .value()
        .map_or(&[][..], |list| &list.items);
    let mut all_exist = true;
    for item in items {
        if glob::is_pattern(&item.value) || servers.contains(item.value.as_str()) {
            continue;
        }
        all_exist = false;
        let mut names: Vec<_> = servers.iter().copied().collect();
        names.sort_unstable();
        let help = nearest(&item.value, names).map(|near| format!("did you mean `{near}`?"));
        let message = format!("there is no server {}", Quoted(&item.value));
        let diagnostic = Diagnostic::new(Code::UnknownServer, item.place, message);
        context.push(diagnostic.help_if(help));
    }
    all_exist
}

/// The most libraries without a table that are reported.
const UNUSED_REPORTED_MAX: usize = 20;

/// Reports libraries in the folder of the plugins that no table loads.
pub(in crate::config) fn unused(file: &ProxyFile, context: &mut Context<'_>) {
    let Some(raw) = &file.raw else { return };
    if raw.plugins.is_broken() || raw.plugins_dir.is_broken() {
        return;
    }
    let entries = raw.plugins.value().map_or(&[][..], |map| &map.entries[..]);
    let known: HashSet<PathBuf> = entries
        .iter()
        .filter_map(|(id, entry)| Some(library(file, id, entry.given()?, context).ok()?.0))
        .collect();
    let listed = files::look(&file.plugins_dir, |folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| folder.join(entry.file_name()));
        paths
            .filter(|path| id_of(path).is_some())
            .collect::<Vec<_>>()
    });
    let mut libraries = listed.unwrap_or_default();
    libraries.retain(|path| !known.contains(path));
    libraries.sort();
    for path in libraries.iter().take(UNUSED_REPORTED_MAX) {
        let id = id_of(path).unwrap_or_default();
        let shown = words::path(path);
        let table = entries.iter().find(|(other, _)| *other == id);
        if let Some(given) = table.and_then(|(_, entry)| entry.given()) {
            // It has a table with a mistake in the path, which is reported, unless it looks
            // like a table of Infrarust v2.
            if let Some((place, key)) = word_of_v2(&given.value, context) {
                let message = format!("`{shown}` is not loaded: {key} is not a key of its table");
                let help =
                    format!("a setting of the plugin itself stands below `[plugins.{id}.config]`");
                context.push(Diagnostic::new(Code::UnknownKey, place, message).help(help));
            }
            continue;
        }
        let message = format!("`{shown}` is not loaded: no table of a plugin names it");
        let diagnostic = Diagnostic::new(Code::PluginUnused, Place::whole(file.file), message);
        context.push(diagnostic.help(format!(
            "write `[plugins.{id}]`, or move the file out of `plugins_dir`"
        )));
    }
}

/// The key of Infrarust v2 that shows that a table is not one of ours.
fn word_of_v2(raw: &RawPlugin, context: &Context<'_>) -> Option<(Place, String)> {
    let Entry::Broken(place) = raw.path else {
        return None;
    };
    let text = context.sources.text(place.file);
    let key = text.get(place.span.start..place.span.end)?;
    let key = key.trim_matches(['"', '\'']);
    (key != "path").then(|| (place, Quoted(key).to_string()))
}

/// The id of the table that would load a library.
fn id_of(library: &Path) -> Option<String> {
    let name = library.file_name()?.to_str()?;
    let stem = name.strip_prefix("lib")?.strip_suffix(".so")?;
    let id = stem.replace('_', "-");
    names::problem(&id).is_none().then_some(id)
}
