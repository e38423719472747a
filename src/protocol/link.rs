//! Addresses that a click on a text opens. Clients since 1.21.5 refuse a packet with
//! an address that Java's `URI` cannot parse or that has another scheme than HTTP.

use std::net::Ipv6Addr;

/// The schemes that clients open, with what follows them.
const SCHEMES: [&str; 2] = ["https://", "http://"];

/// The address in the form that clients of every version open: one without a scheme
/// gets HTTPS. `None` if they cannot open it.
pub(super) fn openable(address: &str) -> Option<String> {
    let address = address.trim();
    let has_scheme = |scheme: &&&str| {
        let head = address.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    let (scheme, rest) = match SCHEMES.iter().find(has_scheme) {
        Some(scheme) => address.split_at(scheme.len()),
        None if address.contains("://") => return None,
        None => (SCHEMES[0], address),
    };
    is_valid(rest).then(|| format!("{scheme}{rest}"))
}

/// Whether Java's `URI` parses this as what follows the scheme.
fn is_valid(rest: &str) -> bool {
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    is_authority(authority)
        && consists_of(path, ":@&=+$,;/")
        && consists_of(query, ":@&=+$,;/?[]")
        && consists_of(fragment, ":@&=+$,;/?[]")
}

/// Whether this is a host, with a user before it and a port behind it or without.
fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Some((ip, port)) = host.strip_prefix('[').and_then(|ip| ip.split_once(']')) {
        let port = port.strip_prefix(':').unwrap_or(port);
        return ip.parse::<Ipv6Addr>().is_ok()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && consists_of(user, ":&=+$,;");
    }
    !authority.is_empty() && consists_of(authority, ":@&=+$,;")
}

/// Whether a part has only characters that may be in every part, and `more`.
fn consists_of(part: &str, more: &str) -> bool {
    let mut rest = part.chars();
    while let Some(c) = rest.next() {
        let is_allowed = match c {
            '%' => [rest.next(), rest.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            '\0'..='\x7f' => {
                c.is_ascii_alphanumeric() || "_-!.~'()*".contains(c) || more.contains(c)
            }
            _ => !c.is_whitespace() && !c.is_control(),
        };
        if !is_allowed {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses are passed on if clients can open them, with HTTPS where a scheme is
    /// missing.
    #[test]
    fn addresses() {
        for address in [
            "https://example.org",
            "HTTP://example.org:8080/a;b=c/%C3%A9?q=[1]&r=a/b?c#d?[e]",
            "http://user:word@example.org/",
            "https://[::1]:8080/x",
            "https://bücher.example/ü",
            "https://a_b.example",
            "https://example.org?x#",
        ] {
            assert_eq!(openable(address).as_deref(), Some(address));
        }
        for (address, opened) in [
            ("example.org", "https://example.org"),
            (" example.org/a:b ", "https://example.org/a:b"),
            ("example.org:8080", "https://example.org:8080"),
        ] {
            assert_eq!(openable(address).as_deref(), Some(opened));
        }
        for address in [
            "",
            "https://",
            "https:///path",
            "//example.org",
            "/spawn",
            "ftp://example.org",
            "javascript://example.org/%0aalert(1)",
            "https://example.org/a b",
            "https://example.org/a\nb",
            "https://example.org/\u{a0}a",
            "https://example.org/>",
            "https://example.org/[x]",
            "https://example.org/%zz",
            "https://example.org/%a",
            "https://example.org/#a#b",
            "https://[x]/",
            "https://[::1]x/",
            "https://a[b]c/",
            "https://example.org/\u{80}",
        ] {
            assert_eq!(openable(address), None, "{address:?}");
        }
    }
}
