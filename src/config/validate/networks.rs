//! Networks: their tables, and the servers that name them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::server::Draft;
use super::{Context, names};
use crate::config::entry::{Given, Item, Reported};
use crate::config::model::{DuplicateLogin, NetworkConfig, OnBackendLoss};
use crate::config::raw::{RawNetwork, RawProxy};
use crate::config::types::{DuplicateLoginWord, OnBackendLossWord};
use crate::diagnostic::words::{Quoted, nearest};
use crate::diagnostic::{Code, Diagnostic};

/// Checks each table of a network on its own.
pub(super) fn tables(
    raw: &RawProxy,
    context: &mut Context<'_>,
) -> Result<BTreeMap<String, NetworkConfig>, Reported> {
    let mut networks = BTreeMap::new();
    let mut is_sound = true;
    for (name, entry) in raw.networks.get()?.iter().flat_map(|map| &map.entries) {
        let network = entry.written().and_then(|given| match given {
            Some(given) => network(name, given, context).map(Some),
            None => Ok(None),
        });
        match network {
            Ok(network) => networks.extend(network.map(|network| (name.clone(), network))),
            Err(Reported) => is_sound = false,
        }
    }
    is_sound.then_some(networks).ok_or(Reported)
}

fn network(
    name: &str,
    given: &Given<RawNetwork>,
    context: &mut Context<'_>,
) -> Result<NetworkConfig, Reported> {
    let name = Item {
        place: given.key,
        value: name.to_owned(),
    };
    names::written(&name, "the name of a network", context)?;
    let raw = &given.value;
    let order = match raw.order.get()? {
        Some(order) => Some(order.values()?),
        None => None,
    };
    Ok(NetworkConfig {
        order,
        on_backend_loss: match raw.on_backend_loss()? {
            OnBackendLossWord::Fallback => OnBackendLoss::Fallback,
            OnBackendLossWord::Kick => OnBackendLoss::Kick,
        },
        sum_players: *raw.sum_players()?,
        duplicate_login: raw.duplicate_login.get()?.map(duplicate_login),
    })
}

/// The policy for a second login.
pub(super) const fn duplicate_login(word: &DuplicateLoginWord) -> DuplicateLogin {
    match word {
        DuplicateLoginWord::Refuse => DuplicateLogin::Refuse,
        DuplicateLoginWord::Replace => DuplicateLogin::Replace,
    }
}

/// Checks tables and servers together. Nothing is reported while a file is unread, since it
/// may have another member.
pub(super) fn rules(raw: &RawProxy, drafts: &[Draft<'_>], context: &mut Context<'_>) {
    if drafts.iter().any(|draft| draft.raw.is_none()) {
        return;
    }
    lonely(drafts, context);
    mixed(drafts, context);
    let is_complete = drafts.iter().all(|draft| draft.network.is_ok());
    if !is_complete {
        return;
    }
    // Containers are servers too, and come and go.
    let are_all = !raw.docker.is_written();
    let tables = raw.networks.value().into_iter();
    for (name, entry) in tables.flat_map(|map| &map.entries) {
        if let Some(given) = entry.given().filter(|_| names::problem(name).is_none()) {
            members(name, given, drafts, are_all, context);
        }
    }
}

/// Checks that the table of a network names existing servers.
fn members(
    name: &str,
    given: &Given<RawNetwork>,
    drafts: &[Draft<'_>],
    are_all: bool,
    context: &mut Context<'_>,
) {
    let networks = drafts.iter().filter_map(network_of);
    let networks: HashSet<_> = networks.map(|item| item.value.as_str()).collect();
    if are_all && !networks.contains(name) {
        let message = format!("no server belongs to the network {}", Quoted(name));
        let diagnostic = Diagnostic::new(Code::UnknownNetwork, given.key, message)
            .because("a server belongs to a network by the key `network` of its file");
        context.push(match nearest(name, networks) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!(
                "write `network = \"{name}\"` into the files of its servers, or remove the table"
            )),
        });
        return;
    }
    let Some(order) = given.value.order.value() else {
        return;
    };
    for item in &order.items {
        let has_id = |draft: &&Draft<'_>| {
            let id = draft.id.as_ref();
            id.is_ok_and(|id| id.value == item.value)
        };
        let problem = match drafts.iter().find(has_id) {
            Some(draft) if network_of(draft).is_some_and(|network| network.value == name) => {
                continue;
            }
            Some(_) => "is not in this network",
            None if are_all && drafts.iter().all(|draft| draft.id.is_ok()) => "does not exist",
            None => continue,
        };
        let message = format!("the server {} {problem}", Quoted(&item.value));
        let of_network = drafts
            .iter()
            .filter(|draft| network_of(draft).is_some_and(|network| network.value == name))
            .filter_map(|draft| draft.id.as_ref().ok())
            .map(|id| id.value.as_str());
        let diagnostic = Diagnostic::new(Code::UnknownNetwork, item.place, message)
            .because("`order` names servers of the network");
        context.push(match nearest(&item.value, of_network) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("remove it, or put the server into the network"),
        });
    }
}

/// Warns of a network in which some backends learn the identity of a player and others do
/// not.
fn mixed(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    let identifies = |draft: &Draft<'_>| draft.sound.as_ref().ok()?.identifies();
    let networks = drafts
        .iter()
        .filter(|draft| identifies(draft) == Some(true));
    let networks: HashSet<_> = networks
        .filter_map(|draft| Some(network_of(draft)?.value.as_str()))
        .collect();
    for draft in drafts
        .iter()
        .filter(|draft| identifies(draft) == Some(false))
    {
        let Some(network) = network_of(draft) else {
            continue;
        };
        if !networks.contains(network.value.as_str()) {
            continue;
        }
        let message = format!(
            "other servers of the network {} learn who a player is, and this one does not",
            Quoted(&network.value)
        );
        context.push(
            Diagnostic::new(Code::MixedForwarding, network.place, message)
                .because("a player who comes from them has another player id here")
                .help("set one `forwarding_mode` for all servers of the network"),
        );
    }
}

/// Warns of a network with one server, which cannot move players.
fn lonely(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    let mut members: HashMap<&str, usize> = HashMap::new();
    for network in drafts.iter().filter_map(network_of) {
        *members.entry(&network.value).or_default() += 1;
    }
    // A network in a mode without networks is already refused.
    for draft in drafts.iter().filter(|draft| draft.sound.is_ok()) {
        let Some(network) = network_of(draft) else {
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

fn network_of<'d>(draft: &'d Draft<'_>) -> Option<&'d Item<String>> {
    draft.network.as_ref().ok()?.as_ref()
}
