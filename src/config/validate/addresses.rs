//! The backend addresses of a server.

use std::net::{IpAddr, Ipv6Addr};

use super::Context;
use crate::config::cure;
use crate::config::entry::{Item, Reported};
use crate::config::model::{BackendAddress, BackendHost};
use crate::config::raw::RawServer;
use crate::config::types::AddressText;
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic, FileId, Place};
use crate::route;

/// The port of an address that has none: the game's own.
const PORT_DEFAULT: u16 = 25565;

/// Why a text is not an address.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    reason: String,
}

impl Problem {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Reads the addresses of a server: at least one.
pub(super) fn addresses(
    raw: &RawServer,
    file: FileId,
    context: &mut Context<'_>,
) -> Result<Vec<BackendAddress>, Reported> {
    let missing = |place: Place| {
        Diagnostic::new(Code::NoAddress, place, "the server has no backend address")
            .help("write where the Minecraft server is: `addresses = [\"127.0.0.1:25566\"]`")
    };
    let Some(list) = raw.addresses.written()? else {
        context.push(missing(Place::whole(file)));
        return Err(Reported);
    };
    if list.value.items.is_empty() && !list.value.is_broken {
        context.push(missing(list.place));
        return Err(Reported);
    }
    let mut sound = Vec::with_capacity(list.value.items.len());
    for item in &list.value.items {
        match parse(&item.value.0) {
            Ok(address) => sound.push(address),
            Err(problem) => {
                let help = if context.is_label(file) {
                    cure(&item.value.0, 2).filter(|help| !help.contains("each"))
                } else {
                    cure(&item.value.0, list.value.items.len())
                };
                context.push(bad_address(item, problem, help));
            }
        }
    }
    let are_all = sound.len() == list.value.all()?.len();
    are_all.then_some(sound).ok_or(Reported)
}

fn bad_address(item: &Item<AddressText>, problem: Problem, help: Option<String>) -> Diagnostic {
    let text = &item.value.0;
    let message = if text.trim().is_empty() {
        "an empty text cannot be a backend address".to_owned()
    } else {
        format!("{} cannot be a backend address", Quoted(text))
    };
    Diagnostic::new(Code::BadAddress, item.place, message)
        .because(problem.reason)
        .help_if(help)
}

/// The help with the address that was probably meant. It only proposes valid addresses.
/// `entries` is the number of entries of the list.
fn cure(text: &str, entries: usize) -> Option<String> {
    let pieces = cure::pieces(text)?;
    // `host port`, as some programs print an address.
    let meant = match &pieces[..] {
        [host, port] if port.parse::<u16>().is_ok() => {
            vec![meant(&format!("{}:{port}", cure::bare(host)))?]
        }
        pieces => pieces
            .iter()
            .map(|piece| meant(piece))
            .collect::<Option<_>>()?,
    };
    cure::write(&meant, "addresses", entries > 1)
}

/// The address that a text without separators probably means.
fn meant(text: &str) -> Option<String> {
    let bare = cure::bare(text);
    let is_right = |text: &String| parse(text).is_ok();
    if is_right(&bare.to_owned()) {
        return Some(bare.to_owned());
    }
    let (host, port) = bare.rsplit_once(':').unwrap_or((bare, ""));
    let inside = host.trim_matches(['[', ']']);
    let whole = bare.trim_matches(['[', ']']);
    let port_or_default = if port.is_empty() { "25565" } else { port };
    let forms = [
        whole
            .parse::<Ipv6Addr>()
            .ok()
            .map(|ip| format!("[{ip}]:{PORT_DEFAULT}")),
        inside
            .parse::<Ipv6Addr>()
            .ok()
            .map(|ip| format!("[{ip}]:{port}")),
        host.is_empty().then(|| format!("127.0.0.1:{port}")),
        Some(format!("{inside}:{port_or_default}")),
    ];
    forms.into_iter().flatten().find(is_right)
}

/// Reads `host`, `host:port` or `[v6]:port`, and no ambiguous form.
fn parse(text: &str) -> Result<BackendAddress, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("write `host` or `host:port`"));
    }
    if text.trim() != text {
        return Err(Problem::new("it has white space around it"));
    }
    if text.contains("://") {
        return Err(Problem::new("a scheme does not belong to an address"));
    }
    if text.contains([',', ';', '|']) || text.contains(char::is_whitespace) {
        return Err(Problem::new("one entry is one address"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, after)) = rest.split_once(']') else {
            return Err(Problem::new("the bracket is not closed"));
        };
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| Problem::new(format!("{} is not an IPv6 address", Quoted(ip))))?;
        let port = match after.strip_prefix(':') {
            Some(digits) => port(digits)?,
            None if after.is_empty() => PORT_DEFAULT,
            None => return Err(Problem::new("only `:` and a port may follow the bracket")),
        };
        let host = BackendHost::Ip(IpAddr::V6(ip));
        return Ok(BackendAddress {
            host,
            port,
            follows_srv: false,
        });
    }
    if text.matches(':').count() > 1 {
        return Err(Problem::new(
            "an IPv6 address needs brackets, so that its end is clear",
        ));
    }
    let (name, written) = match text.split_once(':') {
        Some((name, digits)) => (name, Some(port(digits)?)),
        None => (text, None),
    };
    let host = host(name)?;
    // As in the game. A name without a dot is not one of the public DNS.
    let is_public = matches!(&host, BackendHost::Name(name) if name.contains('.'));
    Ok(BackendAddress {
        host,
        port: written.unwrap_or(PORT_DEFAULT),
        follows_srv: written.is_none() && is_public,
    })
}

/// A host name in its normal form, if it is valid.
pub(super) fn name(text: &str) -> Option<String> {
    match host(text) {
        Ok(BackendHost::Name(name)) => Some(name),
        Ok(BackendHost::Ip(_)) | Err(_) => None,
    }
}

fn host(name: &str) -> Result<BackendHost, Problem> {
    if name.is_empty() {
        return Err(Problem::new("the host is missing in front of the port"));
    }
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(BackendHost::Ip(ip));
    }
    if name.contains(['*', '?']) {
        return Err(Problem::new("a backend has one name, not a pattern"));
    }
    // Resolvers read such names as addresses, each in its own way.
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(Problem::new("it looks like an IPv4 address and is none"));
    }
    if name.starts_with('/') {
        return Err(Problem::new(
            "a name does not begin with `/`, though container engines print it so",
        ));
    }
    if name.contains('/') {
        return Err(Problem::new("a path does not belong to an address"));
    }
    route::normalize(name)
        .map(BackendHost::Name)
        .map_err(|problem| Problem::new(problem.to_string()))
}

fn port(digits: &str) -> Result<u16, Problem> {
    if digits.is_empty() {
        return Err(Problem::new("the port is missing after `:`"));
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::new(format!("{} is not a port", Quoted(digits))));
    }
    match digits.parse::<u16>() {
        Ok(0) => Err(Problem::new("port 0 cannot be connected to")),
        Ok(port) => Ok(port),
        Err(_) => Err(Problem::new(format!(
            "port {} is over 65535",
            Quoted(digits)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accepted forms and their meaning.
    #[test]
    fn clear_addresses_are_read() {
        for (text, meaning) in [
            ("10.0.0.5", "10.0.0.5:25565"),
            ("10.0.0.5:25566", "10.0.0.5:25566"),
            ("Lobby.Internal.", "lobby.internal:25565"),
            ("mc_lobby:1", "mc_lobby:1"),
            ("[::1]:65535", "[::1]:65535"),
            ("[2001:db8::1]", "[2001:db8::1]:25565"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), meaning);
        }
    }

    /// Ambiguous addresses are refused.
    #[test]
    fn unclear_addresses_are_refused() {
        for text in [
            "",
            " ",
            " a",
            "a:0",
            "a:65536",
            "a:x",
            "a:",
            ":25565",
            "::1",
            "2001:db8::1:25565",
            "[::1",
            "[::1]x",
            "[a]:1",
            "http://a",
            "a/b",
            "a b",
            "10.0.0.256",
            "10.0.0",
            "1",
            "a..b",
            "*.a",
            "a:+5",
            "a:-5",
            "a\0",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
