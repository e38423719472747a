//! Rules over several files.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Context;
use super::server::Draft;
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic, Place};

/// Ids and domains belong to one server each, and a network to several.
pub(super) fn rules(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    ids(drafts, context);
    domains(drafts, context);
    networks(drafts, context);
}

fn ids(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    let mut taken: HashMap<&str, Place> = HashMap::new();
    for id in drafts.iter().filter_map(|draft| draft.id.as_ref()) {
        match taken.entry(&id.value) {
            Entry::Vacant(free) => {
                free.insert(id.place);
            }
            Entry::Occupied(first) => {
                let file = words::path(context.path(first.get().file));
                let message = format!("the id `{}` is already that of `{file}`", id.value);
                let help = if id.place.is_whole() {
                    "a server without `name` has the name of its file as its id: write another `name` in one of them"
                } else {
                    "write another `name` in one of them"
                };
                context.push(
                    Diagnostic::new(Code::DuplicateServer, id.place, message)
                        .label(*first.get(), "the first one")
                        .help(help),
                );
            }
        }
    }
}

fn domains(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    let mut taken: HashMap<&str, Place> = HashMap::new();
    for domain in drafts.iter().flat_map(|draft| &draft.domains) {
        let first = match taken.entry(domain.value.as_str()) {
            Entry::Vacant(free) => {
                free.insert(domain.place);
                continue;
            }
            Entry::Occupied(first) => *first.get(),
        };
        let name = Quoted(domain.value.as_str());
        let message = if first.file == domain.place.file {
            format!("the domain {name} stands twice in this file")
        } else {
            let file = words::path(context.path(first.file));
            format!("the domain {name} already leads to the server of `{file}`")
        };
        let help = if domain.value.as_str().contains("xn--") {
            "remove one of them; upper case, a dot at the end and punycode make no difference"
        } else {
            "remove one of them; upper case and a dot at the end make no difference"
        };
        context.push(
            Diagnostic::new(Code::DuplicateDomain, domain.place, message)
                .label(first, "the first one")
                .help(help),
        );
    }
}

/// A network of one has nowhere to move to. Nothing is said while a file is
/// unread: the other member may be in it.
fn networks(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    if drafts.iter().any(|draft| draft.raw.is_none()) {
        return;
    }
    let mut members: HashMap<&str, usize> = HashMap::new();
    for network in drafts.iter().filter_map(|draft| draft.network.as_ref()) {
        *members.entry(&network.value).or_default() += 1;
    }
    // A network in a mode that cannot have one has been refused already.
    for draft in drafts.iter().filter(|draft| draft.config.is_some()) {
        let Some(network) = &draft.network else {
            continue;
        };
        let name = network.value.as_str();
        if members.get(name) != Some(&1) {
            continue;
        }
        let place = network.place;
        let message = format!(
            "this server is the only one in the network {}",
            Quoted(name)
        );
        context.push(
            Diagnostic::new(Code::LonelyNetwork, place, message)
                .because("players move between the servers of one network")
                .help("write the same `network` in another server file, or remove it here"),
        );
    }
}
