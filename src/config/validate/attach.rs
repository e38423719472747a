//! Plugins and servers: which plugin takes part on which server, and whether the
//! mode can give what it needs. This is the capability checker for plugins.

use std::collections::{BTreeMap, HashSet};

use super::modes::{self, Chosen};
use super::plugins::{Plugin, State};
use super::server::{Draft, ServerPlugins};
use super::{Context, plugins};
use crate::capability::{Capability, Reason};
use crate::config::entry::Item;
use crate::diagnostic::words::{Quoted, all_of, any_of, count, nearest};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::glob;
use crate::manifest::{Listing, Manifest, MissingCapability};
use crate::mode::Mode;

/// The most servers that one warning names.
const SERVERS_NAMED_MAX: usize = 10;

/// The plugins of every server, in the order of `drafts`; reports combinations that are not
/// possible.
///
/// `plugins` is `None` when they are not known. `are_all` says whether there are
/// no other servers than these.
pub(super) fn rules(
    plugins: Option<&[Plugin<'_>]>,
    drafts: &[Draft<'_>],
    are_all: bool,
    context: &mut Context<'_>,
) -> Vec<ServerPlugins> {
    let Some(plugins) = plugins else {
        return drafts.iter().map(|_| ServerPlugins::default()).collect();
    };
    let all_known = are_all && drafts.iter().all(|draft| draft.id.is_ok());
    let ids: HashSet<&str> = drafts
        .iter()
        .filter_map(|draft| draft.id.as_ref().ok())
        .map(|id| id.value.as_str())
        .collect();
    // While not all servers are known, a missing one cannot be reported.
    let mut notes: Vec<Notes> = plugins
        .iter()
        .map(|plugin| Notes {
            servers_are_known: all_known && plugins::servers_exist(plugin, &ids, context),
            ..Notes::default()
        })
        .collect();
    let mut all = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let attached = attached(draft, plugins, context);
        let chosen = draft.raw.and_then(|raw| modes::chosen(raw).ok());
        let mut of_server = ServerPlugins::default();
        for Attached { index, place } in attached {
            notes[index].is_attached = true;
            let State::Sound(config) = &plugins[index].state else {
                continue;
            };
            let (Some(chosen), Ok(server)) = (chosen, &draft.id) else {
                continue;
            };
            let pair = Pair {
                plugin: &plugins[index],
                manifest: &config.manifest,
                place,
                server,
                chosen,
            };
            let list = if pair.check(&mut notes[index], context) {
                &mut of_server.active
            } else {
                &mut of_server.left_out
            };
            list.push(config.id.clone());
        }
        all.push(of_server);
    }
    for (plugin, notes) in plugins.iter().zip(&notes) {
        notes.report(plugin, context);
    }
    all
}

/// A plugin that is attached to a server, and the place that attaches it.
struct Attached {
    index: usize,
    place: Place,
}

/// The plugins of a server: those in its file, or, if it lists none, those with tables that
/// name it.
fn attached(draft: &Draft<'_>, plugins: &[Plugin<'_>], context: &mut Context<'_>) -> Vec<Attached> {
    let (Some(raw), Ok(id)) = (draft.raw, &draft.id) else {
        return Vec::new();
    };
    if raw.plugins.is_written() {
        let named = raw.plugins.value().map_or(&[][..], |list| &list.items[..]);
        return self::named(named, plugins, context);
    }
    plugins
        .iter()
        .enumerate()
        .filter_map(|(index, plugin)| {
            let place = match plugin.raw.servers.value() {
                None if plugin.raw.servers.is_broken() => return None,
                None => plugin.key,
                Some(list) => {
                    let fits = |item: &&Item<String>| glob::matches(&item.value, &id.value);
                    list.items.iter().find(fits)?.place
                }
            };
            Some(Attached { index, place })
        })
        .collect()
}

fn named(
    items: &[Item<String>],
    plugins: &[Plugin<'_>],
    context: &mut Context<'_>,
) -> Vec<Attached> {
    let mut attached: Vec<Attached> = Vec::new();
    for item in items {
        let place = item.place;
        let Some(index) = plugins.iter().position(|plugin| plugin.id == item.value) else {
            context.push(unknown(item, plugins));
            continue;
        };
        if let Some(first) = attached.iter().find(|other| other.index == index) {
            let message = format!("the plugin `{}` stands twice in this list", item.value);
            let diagnostic = Diagnostic::new(Code::NoEffect, place, message);
            let help = "remove one of them; a plugin is asked once";
            context.push(diagnostic.label(first.place, "the first one").help(help));
            continue;
        }
        if matches!(plugins[index].state, State::Disabled) {
            let message = format!("the plugin `{}` is switched off", item.value);
            let mut diagnostic = Diagnostic::new(Code::NoEffect, place, message);
            if let Some(enabled) = plugins[index].raw.enabled.given() {
                diagnostic = diagnostic.label(enabled.place, "here");
            }
            let help = "remove it from the list, or write `enabled = true`";
            context.push(diagnostic.help(help));
        }
        attached.push(Attached { index, place });
    }
    attached
}

fn unknown(item: &Item<String>, plugins: &[Plugin<'_>]) -> Diagnostic {
    let help = match nearest(&item.value, plugins.iter().map(|plugin| plugin.id)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a table `[plugins.<id>]` in `infrarust.toml` for it".to_owned(),
    };
    let message = format!("there is no plugin {}", Quoted(&item.value));
    Diagnostic::new(Code::UnknownPlugin, item.place, message).help(help)
}

/// A plugin on a server.
struct Pair<'a> {
    plugin: &'a Plugin<'a>,
    manifest: &'a Manifest,
    /// The place that attaches the plugin.
    place: Place,
    server: &'a Item<String>,
    chosen: Chosen,
}

impl Pair<'_> {
    /// Whether the plugin takes part. Reports an error if the mode cannot give what it
    /// needs, and records what belongs into one warning for all servers.
    fn check(&self, notes: &mut Notes, context: &mut Context<'_>) -> bool {
        let mode = self.chosen.mode;
        let (wants, hard): (Vec<MissingCapability>, Vec<MissingCapability>) = self
            .manifest
            .missing_in(mode)
            .into_iter()
            .partition(|one| one.listing == Listing::Want);
        let server = self.server.value.clone();
        if hard.is_empty() {
            if !wants.is_empty() {
                notes.limited.entry(mode).or_default().push(server);
            }
            return true;
        }
        if self.plugin.skips() {
            notes.skipped.entry(mode).or_default().push(server);
        } else {
            context.push(self.conflict(&hard));
        }
        false
    }

    fn conflict(&self, missing: &[MissingCapability]) -> Diagnostic {
        let Pair { plugin, chosen, .. } = self;
        let id = plugin.id;
        let capabilities: Vec<_> = missing.iter().map(|one| one.capability.name()).collect();
        let message = format!(
            "the plugin `{id}` needs {}, which `{}`{} cannot give to the server {}",
            all_of(capabilities),
            chosen.mode,
            chosen.said(),
            Quoted(&self.server.value),
        );
        let others: Vec<_> = self.manifest.modes().map(Mode::name).collect();
        let modes = if others.is_empty() {
            "no mode offers all of it".to_owned()
        } else {
            format!(
                "set `proxy_mode` to {}, which offers all of it",
                any_of(others)
            )
        };
        let leave_out = if self.place.file == plugin.key.file {
            "leave this server out of the plugin's `servers`"
        } else {
            "take it out of this list"
        };
        let diagnostic = Diagnostic::new(Code::ModeConflict, self.place, message)
            .because(reasons(missing))
            .help(format!(
                "{modes}; or {leave_out}, or write `unsupported = \"skip\"` in `[plugins.{id}]`"
            ));
        if chosen.place.is_none() && self.server.place.file != self.place.file {
            let place = Place::whole(self.server.place.file);
            return diagnostic.label(place, "`proxy_mode` is not written in");
        }
        chosen.label(diagnostic)
    }
}

/// The reasons of the matrix, each with what it is about where they differ.
fn reasons(missing: &[MissingCapability]) -> String {
    let mut by_reason: Vec<(Reason, Vec<Capability>)> = Vec::new();
    for one in missing {
        match by_reason
            .iter_mut()
            .find(|(reason, _)| *reason == one.reason)
        {
            Some((_, capabilities)) => capabilities.push(one.capability),
            None => by_reason.push((one.reason, vec![one.capability])),
        }
    }
    if let [(reason, _)] = by_reason[..] {
        return reason.text().to_owned();
    }
    let parts: Vec<String> = by_reason
        .iter()
        .map(|(reason, capabilities)| {
            let names = all_of(capabilities.iter().map(|capability| capability.name()));
            format!("{names}: {reason}")
        })
        .collect();
    parts.join("; ")
}

/// Reports about a plugin that are made once for all servers.
#[derive(Debug, Default)]
struct Notes {
    /// Whether all servers are known, and those that the plugin names exist.
    servers_are_known: bool,
    is_attached: bool,
    /// Servers where it is left out, by mode.
    skipped: BTreeMap<Mode, Vec<String>>,
    /// Servers where it goes without something that it wants, by mode.
    limited: BTreeMap<Mode, Vec<String>>,
}

impl Notes {
    fn report(&self, plugin: &Plugin<'_>, context: &mut Context<'_>) {
        let State::Sound(config) = &plugin.state else {
            return;
        };
        let (id, manifest) = (plugin.id, &config.manifest);
        let place = plugin.key;
        if !self.is_attached && self.servers_are_known && !config.names("") {
            let message = format!("no server has the plugin `{id}`");
            let help = "name a server in its `servers`, or write `enabled = false`";
            context.push(Diagnostic::new(Code::NoEffect, place, message).help(help));
        }
        let unmet = |mode, is_want: bool| -> Vec<MissingCapability> {
            let missing = manifest.missing_in(mode).into_iter();
            missing
                .filter(|one| (one.listing == Listing::Want) == is_want)
                .collect()
        };
        for (mode, servers) in &self.skipped {
            let missing = unmet(*mode, false);
            let message = format!(
                "the plugin `{id}` is inactive on {}: `{mode}` cannot give {}",
                servers_named(servers),
                all_of(missing.iter().map(|one| one.capability.name())),
            );
            let mut diagnostic =
                Diagnostic::new(Code::PluginInactive, place, message).because(reasons(&missing));
            if let Some(word) = plugin.raw.unsupported.given() {
                diagnostic = diagnostic.label(word.place, "so it is left out there");
            }
            let others = any_of(manifest.modes().map(Mode::name));
            context.push(diagnostic.help_if((!others.is_empty()).then(|| {
                format!("set `proxy_mode` to {others} where the plugin is meant to run")
            })));
        }
        for (mode, servers) in &self.limited {
            let missing = unmet(*mode, true);
            let message = format!(
                "the plugin `{id}` does without {} on {}: `{mode}` cannot give it",
                all_of(missing.iter().map(|one| one.capability.name())),
                servers_named(servers),
            );
            let diagnostic = Diagnostic::new(Code::PluginLimited, place, message);
            let help = "it takes part there and does less; its documentation says what";
            context.push(diagnostic.because(reasons(&missing)).help(help));
        }
    }
}

fn servers_named(servers: &[String]) -> String {
    let mut names: Vec<&str> = servers.iter().map(String::as_str).collect();
    names.sort_unstable();
    match names.get(..SERVERS_NAMED_MAX) {
        Some(some) if names.len() > some.len() => {
            let more = names.len() - some.len();
            format!(
                "the servers {} and {}",
                any_list(some),
                count(more, "other")
            )
        }
        _ if names.len() == 1 => format!("the server {}", all_of(names)),
        _ => format!("the servers {}", all_of(names)),
    }
}

fn any_list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
