//! Plugins and the servers that they take part in.

use std::collections::HashSet;
use std::path::PathBuf;

use super::server::Draft;
use super::{Context, ProxyFile, names};
use crate::config::entry::{Entry, Given, Item};
use crate::config::raw::RawPlugin;
use crate::diagnostic::words::{self, Quoted, nearest};
use crate::diagnostic::{Code, Diagnostic};

/// The digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// Checks the tables of plugins and every reference to and from them.
pub(super) fn rules(file: &ProxyFile, drafts: &[Draft<'_>], context: &mut Context<'_>) {
    // Without the global file nobody knows which plugins there are.
    let Some(raw) = &file.raw else { return };
    if raw.plugins.is_broken() {
        return;
    }
    let empty = Vec::new();
    let plugins = raw.plugins.value().map_or(&empty, |map| &map.entries);
    let servers: HashSet<&str> = drafts
        .iter()
        .filter_map(|draft| draft.id.as_ref())
        .map(|id| id.value.as_str())
        .collect();
    let all_known = drafts.iter().all(|draft| draft.id.is_some());
    for (id, entry) in plugins {
        plugin(file, id, entry, all_known.then_some(&servers), context);
    }
    let known: HashSet<&str> = plugins.iter().map(|(id, _)| id.as_str()).collect();
    for raw in drafts.iter().filter_map(|draft| draft.raw) {
        let wanted = raw.plugins.value().map_or(&[][..], |list| &list.items[..]);
        for item in wanted
            .iter()
            .filter(|item| !known.contains(item.value.as_str()))
        {
            context.push(unknown(item, &known));
        }
    }
}

fn unknown(item: &Item<String>, known: &HashSet<&str>) -> Diagnostic {
    let name = Quoted(&item.value);
    let help = match nearest(&item.value, sorted(known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a table `[plugins.<id>]` in `infrarust.toml` for it".to_owned(),
    };
    let message = format!("there is no plugin {name}");
    Diagnostic::new(Code::UnknownPlugin, item.place, message).help(help)
}

fn sorted<'a>(names: &HashSet<&'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.iter().copied().collect();
    names.sort_unstable();
    names
}

fn plugin(
    file: &ProxyFile,
    id: &str,
    entry: &Entry<RawPlugin>,
    servers: Option<&HashSet<&str>>,
    context: &mut Context<'_>,
) {
    let Some(given) = entry.given() else { return };
    if let Some(problem) = names::problem(id) {
        context.bad_value(
            given.key,
            format!("{} cannot be the id of a plugin: {problem}", Quoted(id)),
            "use letters `a` to `z`, digits, `_`, `-` and `.`",
        );
        return;
    }
    let raw = &given.value;
    if let Some(sha256) = raw.sha256.given() {
        let text = &sha256.value;
        if text.len() != SHA256_DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = format!("{} is not a SHA-256", Quoted(text));
            context.bad_value(
                sha256.place,
                message,
                "write the 64 digits that `sha256sum` prints",
            );
        }
    }
    if let (Some(list), Some(servers)) = (raw.servers.value(), servers) {
        for item in &list.items {
            let is_pattern = item.value.contains(['*', '?']);
            if !is_pattern && !servers.contains(item.value.as_str()) {
                let name = Quoted(&item.value);
                let help = nearest(&item.value, sorted(servers))
                    .map(|near| format!("did you mean `{near}`?"));
                context.push(
                    Diagnostic::new(
                        Code::UnknownServer,
                        item.place,
                        format!("there is no server {name}"),
                    )
                    .help_if(help),
                );
            }
        }
    }
    let is_enabled = raw.enabled.value().is_none_or(|enabled| *enabled);
    if is_enabled && !raw.enabled.is_broken() {
        library(file, id, given, context);
    }
}

/// The plugin's file has to be there.
fn library(file: &ProxyFile, id: &str, given: &Given<RawPlugin>, context: &mut Context<'_>) {
    let (path, place): (PathBuf, _) = match &given.value.path {
        Entry::Broken(_) => return,
        Entry::Given(path) => (context.resolve(path.place.file, &path.value.0), path.place),
        Entry::Absent => {
            let name = format!("lib{}.so", id.replace('-', "_"));
            (file.plugins_dir.join(name), given.key)
        }
    };
    if path.is_file() {
        context.push(
            Diagnostic::new(
                Code::UnsupportedKey,
                given.key,
                format!("the plugin `{id}` is not loaded: this version does not run plugins yet"),
            )
            .help("remove the table, or write `enabled = false`"),
        );
        return;
    }
    let problem = if path.is_dir() {
        "is a folder"
    } else {
        "does not exist"
    };
    let message = format!(
        "the file `{}` of the plugin `{id}` {problem}",
        words::path(&path)
    );
    context.push(Diagnostic::new(Code::PluginFile, place, message).help(
        "build or copy the plugin there, name its file with `path`, or write `enabled = false`",
    ));
}
