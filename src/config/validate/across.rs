//! Rules over several files.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;

use super::server::Draft;
use super::{Context, ProxyFile};
use crate::config::model::{BackendAddress, BackendHost};
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::socket::Families;

/// Ids and domains belong to one server each.
pub(super) fn rules(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    ids(drafts, context);
    domains(drafts, context);
}

fn ids(drafts: &[Draft<'_>], context: &mut Context<'_>) {
    let mut taken: HashMap<&str, Place> = HashMap::new();
    for id in drafts.iter().filter_map(|draft| draft.id.as_ref().ok()) {
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
        let is_copy = first.file != domain.place.file && context.is_same(first, domain.place);
        let help = if is_copy {
            "both files say the same: remove the copy, or rename it so that it does not end in `.toml`"
        } else if domain.value.as_str().contains("xn--") {
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

/// Warns of servers with an address of the proxy itself, as far as the files show it.
pub(super) fn own_addresses(
    file: &ProxyFile,
    bind: &[SocketAddr],
    drafts: &[Draft<'_>],
    context: &mut Context<'_>,
) {
    let written = file.raw.as_ref().and_then(|raw| raw.bind.given());
    let written = written.filter(|_| file.bind.is_empty());
    for draft in drafts {
        let (Some(raw), Ok(sound)) = (draft.raw, &draft.sound) else {
            continue;
        };
        let items = raw.addresses.value().map_or(&[][..], |list| &list.items);
        // A valid server has all its addresses, in order.
        for (item, address) in items.iter().zip(sound.addresses()) {
            let Some(own) = bind.iter().find(|own| leads_to(address, own, bind)) else {
                continue;
            };
            let message = format!("`{address}` is where the proxy itself listens");
            let diagnostic = Diagnostic::new(Code::OwnAddress, item.place, message)
                .help("give the Minecraft server a port of its own, and write it here");
            context.push(match written {
                Some(bind) => diagnostic.label(bind.place, format!("it listens on `{own}`")),
                None => diagnostic.because(format!("it listens on `{own}`")),
            });
        }
    }
}

/// Whether an address certainly leads to the listener on `own`, one of `bind`.
fn leads_to(address: &BackendAddress, own: &SocketAddr, bind: &[SocketAddr]) -> bool {
    let is_there = match &address.host {
        BackendHost::Name(name) => {
            name == "localhost" && (own.ip().is_loopback() || own.ip().is_unspecified())
        }
        BackendHost::Ip(ip) => {
            // A dial to an unspecified address reaches this machine.
            let is_any = ip.is_unspecified()
                && (own.ip().is_loopback() || own.ip().is_unspecified())
                && ip.is_ipv4() == own.is_ipv4();
            *ip == own.ip()
                || is_any
                || (ip.is_loopback()
                    && own.ip().is_unspecified()
                    && (ip.is_ipv4() == own.is_ipv4()
                        || Families::beside(*own, bind) == Families::Both))
        }
    };
    is_there && address.port == own.port()
}
