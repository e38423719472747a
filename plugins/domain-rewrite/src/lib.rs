//! `domain-rewrite`: chooses the host that a backend sees, by patterns.
//!
//! ```toml
//! [plugins.domain-rewrite.config]
//! rules = [
//!     { from = "play.example.com", to = "lobby.internal" },
//!     { from = "*.example.com",    to = "$1.internal" },
//! ]
//! ```
//!
//! The plugin uses the first rule whose `from` matches the virtual host that the client
//! sent. A `*` matches exactly one label, which is `$1`, `$2` … in `to`. A client can
//! choose only a label, so it cannot name a host that the operator did not mean.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The most bytes of a host in a handshake: 255 characters, as in the protocol.
const HOST_BYTES_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct RawRule {
    from: Spanned<String>,
    to: Spanned<String>,
}

struct DomainRewrite {
    rules: Vec<Rule>,
}

/// A rule of the settings, parsed.
struct Rule {
    from: Vec<Label>,
    to: Vec<Piece>,
}

/// A label of `from`.
enum Label {
    Text(String),
    /// A `*`.
    Any,
}

/// A part of `to`.
enum Piece {
    Text(String),
    /// The label of the host with this index, where `from` has a `*`.
    Capture(usize),
}

impl Plugin for DomainRewrite {
    type Config = Config;

    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        let rules: Vec<Rule> = config.rules.iter().map(rule).collect::<Result<_>>()?;
        tracing::info!(rules = rules.len(), "ready");
        Ok(Self { rules })
    }
}

impl HandshakeRewrite for DomainRewrite {
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        let host = handshake.virtual_host();
        for rule in &self.rules {
            if let Some(new) = rule.apply(host) {
                tracing::debug!(from = host, to = new, "rewritten");
                return Ok(Rewrite::host(new));
            }
        }
        Ok(Rewrite::keep())
    }
}

fn rule(raw: &RawRule) -> Result<Rule> {
    let from: Vec<Label> = labels(&raw.from)?;
    let labels = from.iter().enumerate();
    let stars: Vec<usize> = labels
        .filter(|(_, label)| matches!(label, Label::Any))
        .map(|(index, _)| index)
        .collect();
    Ok(Rule {
        from,
        to: pieces(&raw.to, &stars)?,
    })
}

fn labels(from: &Spanned<String>) -> Result<Vec<Label>> {
    let bad = |why: &str| Err(Error::at(from.span(), why));
    let text = from.get_ref().trim_end_matches('.').to_ascii_lowercase();
    let mut labels = Vec::new();
    for label in text.split('.') {
        match label {
            "" => return bad("an empty label fits no host"),
            "*" => labels.push(Label::Any),
            label if label.contains('*') => {
                return bad("a `*` stands for a whole label, as in `*.example.com`");
            }
            label if !label.bytes().all(is_host_byte) => {
                return bad("a host is made of letters, digits, `-`, `_` and dots");
            }
            label => labels.push(Label::Text(label.to_owned())),
        }
    }
    Ok(labels)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn pieces(to: &Spanned<String>, stars: &[usize]) -> Result<Vec<Piece>> {
    let bad = |why: String| Err(Error::at(to.span(), why));
    let mut pieces = Vec::new();
    let mut parts = to.get_ref().split('$');
    let first = parts.next().unwrap_or_default();
    pieces.push(Piece::Text(first.to_owned()));
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let found = number.parse::<usize>().map(|number| {
            let index = number.checked_sub(1)?;
            stars.get(index)
        });
        match found {
            Ok(Some(label)) => pieces.push(Piece::Capture(*label)),
            Ok(None) => {
                return bad(format!(
                    "`${number}` has no `*` in `from`, which has {}",
                    stars.len()
                ));
            }
            Err(_) => return bad("after a `$` comes the number of a `*`, as in `$1`".to_owned()),
        }
        pieces.push(Piece::Text(rest.to_owned()));
    }
    let text = pieces.iter().all(|piece| match piece {
        Piece::Text(text) => text.bytes().all(|byte| is_host_byte(byte) || byte == b'.'),
        Piece::Capture(_) => true,
    });
    if !text || to.get_ref().is_empty() {
        return bad("a host is made of letters, digits, `-`, `_` and dots".to_owned());
    }
    Ok(pieces)
}

impl Rule {
    fn apply(&self, host: &str) -> Option<String> {
        let mut labels = labels_of(host);
        for wanted in &self.from {
            let label = labels.next()?;
            let fits = match wanted {
                Label::Any => !label.is_empty(),
                Label::Text(text) => text.as_bytes() == label,
            };
            if !fits {
                return None;
            }
        }
        if labels.next().is_some() {
            return None;
        }
        let mut new = String::with_capacity(HOST_BYTES_MAX);
        for piece in &self.to {
            new.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Capture(index) => host.split('.').nth(*index)?,
            });
        }
        (new.len() <= HOST_BYTES_MAX).then_some(new)
    }
}

/// The labels of a host, as bytes: splitting a short text by a byte is faster than by a
/// character.
fn labels_of(host: &str) -> impl Iterator<Item = &[u8]> {
    host.as_bytes().split(|byte| *byte == b'.')
}

export_plugin! { plugin: DomainRewrite, name: "domain-rewrite", hooks: [HandshakeRewrite] }

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    const RULES: &str = r#"rules = [
        { from = "play.example.com", to = "lobby.internal" },
        { from = "*.example.com", to = "$1.internal" },
        { from = "*.*.example.net.", to = "$2-$1.internal" },
    ]"#;

    /// The first matching rule is used, and a `*` matches exactly one label.
    #[test]
    fn rules_are_tried_in_order() {
        let plugin = TestHost::<DomainRewrite>::start(RULES).unwrap();
        let rewrite = |host: &str| {
            plugin
                .handshake_rewrite(&Client::new().virtual_host(host), "configured")
                .unwrap()
        };
        assert_eq!(rewrite("play.example.com"), Rewrite::host("lobby.internal"));
        assert_eq!(rewrite("eu.example.com"), Rewrite::host("eu.internal"));
        assert_eq!(rewrite("a.b.example.net"), Rewrite::host("b-a.internal"));
        for host in [
            "example.com",
            "a.b.example.com",
            "",
            ".example.com",
            "eu.example.com.evil.test",
        ] {
            assert_eq!(rewrite(host), Rewrite::keep(), "{host}");
        }
        let long = format!("{}.example.com", "a".repeat(250));
        assert_eq!(rewrite(&long), Rewrite::keep());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let cases = [
            (
                "*.a",
                "$2.b",
                "`$2` has no `*` in `from`, which has 1",
                "\"$2.b\"",
            ),
            (
                "*.a",
                "$x.b",
                "after a `$` comes the number of a `*`, as in `$1`",
                "\"$x.b\"",
            ),
            (
                "a*.b",
                "c",
                "a `*` stands for a whole label, as in `*.example.com`",
                "\"a*.b\"",
            ),
            ("a..b", "c", "an empty label fits no host", "\"a..b\""),
            (
                "a.b",
                "c d",
                "a host is made of letters, digits, `-`, `_` and dots",
                "\"c d\"",
            ),
            (
                "a.b",
                "",
                "a host is made of letters, digits, `-`, `_` and dots",
                "\"\"",
            ),
        ];
        for (from, to, text, place) in cases {
            let config = format!("rules = [{{ from = \"{from}\", to = \"{to}\" }}]");
            let failure = TestHost::<DomainRewrite>::start(&config).unwrap_err();
            assert_eq!(failure.text, text);
            assert_eq!(&config[failure.span.unwrap()], place);
        }
    }
}
