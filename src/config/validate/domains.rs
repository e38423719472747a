//! The virtual hosts of a server.

use super::Context;
use crate::config::cure;
use crate::config::entry::Item;
use crate::config::raw::RawServer;
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic};
use crate::protocol::handshake::without_srv;
use crate::route::{BadHost, HostPattern};

/// The domains of a server that can be used.
#[derive(Debug)]
pub(super) struct Domains {
    pub(super) sound: Vec<Item<HostPattern>>,
    /// Whether there were others, with mistakes.
    pub(super) is_broken: bool,
}

/// Reads the domains of a server.
pub(super) fn domains(raw: &RawServer, context: &mut Context<'_>) -> Domains {
    let mut domains = Domains {
        sound: Vec::new(),
        is_broken: raw.domains.is_broken(),
    };
    if let Ok(list) = raw.domains() {
        domains.is_broken |= list.is_broken;
        for item in &list.items {
            let entries = list.items.len();
            if let Some(name) = without_srv(&item.value.to_lowercase()) {
                domains.is_broken = true;
                context.push(srv_labels(item, name, entries));
                continue;
            }
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
                    let is_label = context.is_label(item.place.file);
                    context.push(bad_domain(item, &problem, help, entries, is_label));
                }
            }
        }
    }
    domains
}

/// Reports a domain with the labels of an SRV record before `name`: no host can equal it,
/// since the proxy removes these labels.
fn srv_labels(item: &Item<String>, name: &str, entries: usize) -> Diagnostic {
    let message = format!("{} cannot be a domain", Quoted(&item.value));
    let meant = HostPattern::parse(name).is_ok().then(|| name.to_owned());
    let help = meant.and_then(|name| cure::write(&[name], "domains", entries > 1));
    Diagnostic::new(Code::BadDomain, item.place, message)
        .because(
            "the labels of an SRV record do not belong to the name; they are taken off before \
             names are compared",
        )
        .help_if(help)
}

/// `several` is how to write several domains, `entries` the number in the list, and
/// `is_label` is true for a label.
fn bad_domain(
    item: &Item<String>,
    problem: &BadHost,
    several: &str,
    entries: usize,
    is_label: bool,
) -> Diagnostic {
    let text = &item.value;
    let message = if text.trim().is_empty() {
        "an empty text cannot be a domain".to_owned()
    } else {
        format!("{} cannot be a domain", Quoted(text))
    };
    let diagnostic = Diagnostic::new(Code::BadDomain, item.place, message);
    if text.trim().is_empty() {
        return diagnostic
            .help("write a name, or `\"*\"` for every name that no other server claims");
    }
    let meant = meant(text);
    let help = meant.and_then(|meant| match &meant[..] {
        [_, _, ..] if is_label => None,
        meant => cure::write(meant, "domains", entries > 1),
    });
    let reason = if marker(text).is_some() {
        "what a mod loader or a proxy adds behind the name does not belong to it; it is taken off \
         before names are compared"
    } else if text.contains("://") {
        "clients send a host name, without a scheme"
    } else if text.trim() != text {
        "it has white space around it"
    } else if text.starts_with("Host") && text.contains('`') {
        "this is a rule of another proxy; here it is the name alone"
    } else if text.contains([',', ';', '|', ' ']) {
        let several = help.unwrap_or_else(|| several.to_owned());
        return diagnostic.because("one entry is one name").help(several);
    } else if text.contains('/') {
        "clients send a host name, without a path"
    } else if text.matches(':').count() == 1 {
        "the port does not belong to the name; all names share the port of `bind`"
    } else if text.contains(':') {
        return diagnostic
            .because("clients that connect to an IPv6 address cannot be recognized by it");
    } else {
        return diagnostic.because(problem.to_string()).help_if(help);
    };
    diagnostic.because(reason).help_if(help)
}

/// The offset of the part that clients append to the host name: after a zero byte, in its
/// escaped form or as a byte, or after the `///` of TCPShield.
fn marker(text: &str) -> Option<usize> {
    let marks = ["\0", "\\0", "\\u{0}", "\\u0000", "\\x00", "///"];
    let found = marks.into_iter().filter_map(|mark| text.find(mark));
    found.min().filter(|at| *at > 0)
}

/// The domains that a text probably means, each of them valid.
fn meant(text: &str) -> Option<Vec<String>> {
    // The list of a rule such as Traefik's: Host(`a`) || Host(`b`).
    let names = text
        .replace("Host(", " ")
        .replace("HostSNI(", " ")
        .replace(')', " ");
    let names = if names == text { text } else { &names };
    let pieces = cure::pieces(names)?.into_iter().map(|piece| {
        let end = marker(piece).unwrap_or(piece.len());
        let bare = cure::bare(&piece[..end]);
        let host = match bare.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => bare,
        };
        let host = match host.strip_prefix('.') {
            Some(_) => format!("*{host}"),
            None => host.to_owned(),
        };
        HostPattern::parse(&host).is_ok().then_some(host)
    });
    pieces.collect()
}

/// The one host, without wildcards, that a text probably means.
pub(super) fn meant_host(text: &str) -> Option<String> {
    let mut meant = meant(text)?;
    let host = meant.pop().filter(|_| meant.is_empty())?;
    (!host.contains(['*', '?'])).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load_texts;

    /// A domain that no host could equal is refused, and the name in it proposed.
    #[test]
    fn labels_of_an_srv_record_are_not_a_domain() {
        for (domain, name) in [
            ("_minecraft._tcp.play.example.com", "play.example.com"),
            ("_Minecraft._TCP.Play.example.com", "play.example.com"),
            (
                "_dc-srv.0a1b._minecraft._tcp.a.example.com",
                "a.example.com",
            ),
        ] {
            let text = format!("domains = [{domain:?}]\naddresses = [\"127.0.0.1\"]");
            let loaded = load_texts(b"", &[(Path::new("a.toml"), text.as_bytes())]);
            assert!(loaded.has_errors(), "{domain}");
            let shown = format!("{:?}", loaded.diagnostics);
            assert!(
                shown.contains("SRV record") && shown.contains(name),
                "{shown}"
            );
        }
        let sound = "domains = [\"x_minecraft._tcp.a.b\"]\naddresses = [\"127.0.0.1\"]";
        let loaded = load_texts(b"", &[(Path::new("a.toml"), sound.as_bytes())]);
        assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    }
}
