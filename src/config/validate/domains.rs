//! The virtual hosts of a server.

use super::Context;
use crate::config::entry::{Entry, Item};
use crate::config::raw::RawServer;
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic};
use crate::route::{BadHost, HostPattern};

/// The domains of a server that can be used.
#[derive(Debug)]
pub(super) struct Domains {
    pub(super) sound: Vec<Item<HostPattern>>,
    /// Whether there were others.
    pub(super) is_broken: bool,
}

/// Reads the domains of a server.
pub(super) fn domains(raw: &RawServer, context: &mut Context<'_>) -> Domains {
    let mut domains = Domains {
        sound: Vec::new(),
        is_broken: raw.domains.is_broken(),
    };
    if let Entry::Given(list) = &raw.domains {
        domains.is_broken |= list.value.is_broken;
        for item in &list.value.items {
            match HostPattern::parse(&item.value) {
                Ok(pattern) => domains.sound.push(Item {
                    place: item.place,
                    value: pattern,
                }),
                Err(problem) => {
                    domains.is_broken = true;
                    let help = context.example(
                        item.place.file,
                        "write a list: `domains = [\"a.example.com\", \"b.example.com\"]`",
                        "write commas between them: `infrarust.domains: a.example.com, b.example.com`",
                    );
                    context.push(bad_domain(item, &problem, help));
                }
            }
        }
    }
    domains
}

/// `several` tells how several domains are written.
fn bad_domain(item: &Item<String>, problem: &BadHost, several: &str) -> Diagnostic {
    let text = &item.value;
    let message = if text.trim().is_empty() {
        "an empty text cannot be a domain".to_owned()
    } else {
        format!("{} cannot be a domain", Quoted(text))
    };
    let diagnostic = Diagnostic::new(Code::BadDomain, item.place, message);
    let write = |host: &str| match HostPattern::parse(host) {
        Ok(_) => Some(format!("write {}", Quoted(&format!("\"{host}\"")))),
        Err(_) => None,
    };
    if text.trim().is_empty() {
        return diagnostic
            .help("write a name, or `\"*\"` for every name that no other server claims");
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return diagnostic
            .because("clients send a host name, without a scheme")
            .help_if(write(host));
    }
    if text.trim() != text {
        return diagnostic
            .because("it has white space around it")
            .help_if(write(text.trim()));
    }
    if let Some((host, port)) = text.split_once(':')
        && !port.contains(':')
    {
        return diagnostic
            .because("the port does not belong to the name; all names share the port of `bind`")
            .help_if(write(host));
    }
    if text.contains(':') {
        return diagnostic.because("clients that connect to an IPv6 address cannot be told by it");
    }
    if let Some((host, _)) = text.split_once('/') {
        return diagnostic
            .because("clients send a host name, without a path")
            .help_if(write(host));
    }
    if text.contains(',') || text.contains(' ') {
        return diagnostic.because("one entry is one name").help(several);
    }
    diagnostic.because(problem.to_string())
}
