//! Recognizes configuration for other programs: other formats, other names of keys, and
//! colour codes that the game does not know.

use std::fmt::Write as _;

use crate::config::hints::Renamed;
use crate::config::keys::Table;
use crate::config::schema::FileKind;
use crate::diagnostic::Span;

/// Keys of a file in another format for which the help names ours.
const KEYS_NAMED_MAX: usize = 4;

/// A format that is not TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// A recognized format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) format: Format,
    /// The line or bracket that shows the format.
    pub(super) at: Span,
}

impl Format {
    /// The name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Format::Yaml => "YAML",
            Format::Json => "JSON",
        }
    }
}

/// Whether a text that is not TOML is a document of another format.
///
/// YAML is only found where no line looks like TOML: a colon in a file with `key
/// = value` lines is a typing mistake.
pub(super) fn format_of(text: &str) -> Option<Found> {
    let start = text.len() - text.trim_start().len();
    let found = |format, at: Span| Some(Found { format, at });
    let mut chars = text[start..].chars().filter(|c| !c.is_whitespace());
    match (chars.next(), chars.next()) {
        // No TOML begins like this: a header has a name in its brackets.
        (Some('{'), _) | (Some('['), Some('{')) => {
            let end = start + 1;
            return found(Format::Json, Span { start, end });
        }
        _ => {}
    }
    let mut first = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if is_toml_line(trimmed) {
            return None;
        }
        if first.is_none() && (yaml_key(trimmed).is_some() || is_yaml_mark(trimmed)) {
            let start = start + line.len() - line.trim_start().len();
            let end = start + trimmed.len();
            first = Some(Span { start, end });
        } else if first.is_none() {
            return None;
        }
    }
    first.and_then(|at| found(Format::Yaml, at))
}

/// `key = …` or a header.
fn is_toml_line(line: &str) -> bool {
    if let Some(rest) = line.strip_prefix('[') {
        return rest.contains(']') && !line.contains(": ");
    }
    line.split_once('=').is_some_and(|(key, _)| {
        let is_in_key = |c: char| c.is_alphanumeric() || "_-. \t\"'".contains(c);
        !key.trim().is_empty() && key.chars().all(is_in_key)
    })
}

/// The beginning of a document, or an entry of a list.
fn is_yaml_mark(line: &str) -> bool {
    matches!(line, "---" | "-") || line.starts_with("- ") || line.starts_with("%YAML")
}

/// The key of a line of YAML, or of JSON with one key a line.
fn yaml_key(line: &str) -> Option<&str> {
    let line = line.strip_prefix("- ").unwrap_or(line);
    let (key, rest) = line.split_once(':')?;
    let key = key.trim().trim_matches(['"', '\'']);
    let is_in_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_key = !key.is_empty() && key.chars().all(is_in_key);
    (is_key && (rest.is_empty() || rest.starts_with([' ', '\t']))).then_some(key)
}

/// The help for a document of another format.
pub(super) fn way_to_toml(text: &str, format: Format, table: &Table) -> String {
    let braces = match format {
        Format::Yaml => "",
        Format::Json => " without braces around the whole",
    };
    let mut help = format!(
        "write it as TOML: `key = value`{braces}, texts in quotes, lists in brackets, the keys of \
         a table below its `[header]`"
    );
    let mut named = Vec::new();
    for line in text.lines() {
        let Some(key) = yaml_key(line.trim()) else {
            continue;
        };
        if named.len() == KEYS_NAMED_MAX {
            break;
        }
        let is_ours = table.keys.iter().any(|ours| ours.name == key);
        let here = successor(key, table).map(|successor| successor.path.to_owned());
        let here = here.or_else(|| {
            let snake = snake_case(key);
            let mut ours = table.keys.iter();
            ours.any(|ours| ours.name == snake).then_some(snake)
        });
        if let (false, Some(here)) = (is_ours, here)
            && !named.contains(&key)
        {
            let separator = if named.is_empty() { "; here" } else { "," };
            // Writing to a `String` cannot fail.
            let _ = write!(help, "{separator} `{key}` is `{here}`");
            named.push(key);
        }
    }
    help
}

/// `sendProxyProtocol` as `send_proxy_protocol`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
    }
    snake
}

/// A key of another program, and our key with the same effect.
#[derive(Debug, Clone, Copy)]
struct Successor {
    /// The names elsewhere, in snake case.
    names: &'static [&'static str],
    /// The kind of file that has it there.
    from: FileKind,
    /// The kind of file that has our key.
    to: FileKind,
    /// Our key, with the path of its tables.
    path: &'static str,
    /// How to write our key; `VALUE` stands for the written value.
    write: Option<&'static str>,
    /// The values for which this is right; empty means all.
    only: &'static [&'static str],
}

const fn server(names: &'static [&'static str], path: &'static str) -> Successor {
    Successor {
        names,
        from: FileKind::Server,
        to: FileKind::Server,
        path,
        write: None,
        only: &[],
    }
}

const fn global(names: &'static [&'static str], path: &'static str) -> Successor {
    Successor {
        names,
        from: FileKind::Global,
        to: FileKind::Global,
        path,
        write: None,
        only: &[],
    }
}

impl Successor {
    const fn write(mut self, text: &'static str) -> Self {
        self.write = Some(text);
        self
    }

    const fn only(mut self, values: &'static [&'static str]) -> Self {
        self.only = values;
        self
    }

    const fn in_global(mut self) -> Self {
        self.to = FileKind::Global;
        self
    }

    const fn in_server(mut self) -> Self {
        self.to = FileKind::Server;
        self
    }

    /// What to write instead of this key with this value.
    fn advice(&self, value: Option<&str>) -> String {
        let place = if self.from == self.to {
            "here it is".to_owned()
        } else {
            format!("in {} it is", self.to.table().title)
        };
        let fits = |value: &&str| self.only.is_empty() || self.only.contains(value);
        match (self.write, value.filter(fits)) {
            (Some(text), Some(value)) => format!("{place} `{}`", text.replace("VALUE", value)),
            (Some(text), None) if self.only.is_empty() && !text.contains("VALUE") => {
                format!("{place} `{text}`")
            }
            _ => format!("{place} `{}`", self.path),
        }
    }
}

/// Keys of Infrarust v1, Velocity, Gate and infrared. Names that nearly equal ours are
/// found without this table.
const SUCCESSORS: &[Successor] = &[
    server(&["backend_domain"], "domain_rewrite")
        .write("domain_rewrite = { explicit = \"VALUE\" }"),
    server(&["rewrite_domain", "modify_virtual_host"], "domain_rewrite")
        .write("domain_rewrite = \"from_backend\"")
        .only(&["true"]),
    server(&["proxy_protocol_version"], "send_proxy_protocol")
        .write("send_proxy_protocol = \"vVALUE\"")
        .only(&["1", "2"]),
    server(&["proxy_protocol"], "send_proxy_protocol"),
    server(&["motds"], "motd"),
    server(&["caches", "cache", "cache_ping_ttl"], "status_cache").in_global(),
    server(&["filters"], "rate_limit").in_global(),
    server(
        &[
            "domain_name",
            "domain_names",
            "host",
            "hosts",
            "server_address",
        ],
        "domains",
    ),
    server(&["proxy_to", "backend", "backends", "address"], "addresses"),
    server(&["listen_to", "listen"], "bind").in_global(),
    server(&["online_status"], "motd.online"),
    server(&["offline_status", "fallback"], "motd.offline"),
    server(&["connection_timeout"], "timeouts.connect"),
    server(&["online_mode"], "proxy_mode"),
    // The value is not repeated: it may be the secret itself.
    server(
        &["forwarding_secret_file", "secret_file"],
        "forwarding_secret",
    )
    .write("forwarding_secret = { file = \"…\" }"),
    global(
        &["file_provider", "proxies_path", "config_path"],
        "servers_dir",
    ),
    global(&["docker_provider"], "docker"),
    global(&["docker_host"], "docker.endpoint"),
    global(&["polling_interval"], "docker.poll_interval"),
    global(
        &["filters", "rate_limiter", "login_ratelimit"],
        "rate_limit",
    ),
    global(&["request_limit"], "rate_limit.max_connections"),
    global(&["window_length"], "rate_limit.window"),
    global(
        &["keep_alive_timeout", "keepalive_timeout"],
        "keepalive.time",
    ),
    global(&["cache", "caches"], "status_cache"),
    global(&["status_ttl_seconds"], "status_cache.ttl").write("status_cache.ttl = \"VALUEs\""),
    global(&["max_status_entries"], "status_cache.max_entries"),
    global(
        &["proxy_protocol", "haproxy_protocol", "receive_enabled"],
        "receive_proxy_protocol",
    ),
    global(&["motds"], "default_motd"),
    global(&["logging"], "log"),
    global(&["show_max_players"], "default_motd.online.max_players"),
    global(
        &["player_info_forwarding_mode", "player_info_forwarding"],
        "forwarding.mode",
    ),
    global(&["forwarding_secret_file"], "forwarding.secret_file"),
    global(&["connection_timeout"], "connect_timeout"),
    global(&["read_timeout"], "timeouts.read").in_server(),
    global(&["online_mode"], "proxy_mode").in_server(),
    global(&["forced_hosts"], "domains").in_server(),
];

/// Our key with the effect that `name` has in another program, for a file with the keys of
/// `root`.
fn successor(name: &str, root: &Table) -> Option<&'static Successor> {
    let name = snake_case(name);
    SUCCESSORS.iter().find(|successor| {
        successor.from.table().title == root.title && successor.names.contains(&name.as_str())
    })
}

/// Our key with the effect that `name` has in another program, and how to write it.
pub(super) fn renamed(name: &str, root: &Table, value: Option<&str>) -> Option<Renamed> {
    let successor = successor(name, root)?;
    Some(Renamed {
        path: successor.path,
        advice: successor.advice(value),
    })
}

/// A text with the colour codes of other programs, as the game reads it;
/// `None` where there are none.
pub(super) fn colours(text: &str) -> Option<String> {
    let is_code = |c: char| matches!(c, '0'..='9' | 'a'..='f' | 'k'..='o' | 'r');
    let mut codes = 0;
    let mut is_clear = false;
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_colour = c == '&' && chars.peek().copied().is_some_and(is_code);
        if is_colour {
            codes += 1;
            // `R&b` is a word: a code stands at the start, or after a space.
            is_clear |= before.is_none_or(|c: char| !c.is_alphanumeric());
        }
        shown.push(if is_colour { '§' } else { c });
        before = Some(c);
    }
    (is_clear || codes > 1).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Shape;

    /// Every successor is an existing key, and its other names have the form in which names
    /// are looked up.
    #[test]
    fn successors_exist() {
        for successor in SUCCESSORS {
            let mut table = successor.to.table();
            let mut names = successor.path.split('.').peekable();
            while let Some(name) = names.next() {
                let key = table.keys.iter().find(|key| key.name == name);
                let key = key.unwrap_or_else(|| panic!("{}", successor.path));
                if names.peek().is_some() {
                    let Shape::Table(inner) = key.shape else {
                        panic!("{}", successor.path);
                    };
                    table = inner;
                }
            }
            for name in successor.names {
                assert_eq!(snake_case(name), *name);
                let is_ours = successor
                    .from
                    .table()
                    .keys
                    .iter()
                    .any(|key| key.name == *name);
                assert!(!is_ours, "{name} is a key of ours");
            }
        }
    }

    /// Documents of other formats are found, and slips in TOML are not.
    #[test]
    fn other_formats_are_found() {
        for (text, format) in [
            ("domains:\n  - a\n", Some(Format::Yaml)),
            (
                "# a comment\n---\nbind: \"0.0.0.0:25565\"\n",
                Some(Format::Yaml),
            ),
            ("- a\n- b\n", Some(Format::Yaml)),
            ("motd:\n  text: \"a = b\"\n", Some(Format::Yaml)),
            ("{\"domainName\": \"a\"}", Some(Format::Json)),
            ("[ {\"a\": 1} ]", Some(Format::Json)),
            ("domains: [\"a\"]\naddresses = [\"x\"]\n", None),
            ("[motd\ntext = 5\n", None),
            ("domains = [\n", None),
            ("http://a.example.com\n", None),
            ("hello\n", None),
            ("", None),
        ] {
            assert_eq!(format_of(text).map(|found| found.format), format, "{text}");
        }
    }

    /// Colour codes are found, and words with an ampersand are not.
    #[test]
    fn colour_codes_are_found() {
        for (text, shown) in [
            ("&aHello &lall", Some("§aHello §lall")),
            ("Hello &cred", Some("Hello §cred")),
            ("a&bb&cc", Some("a§bb§cc")),
            ("Q&a", None),
            ("Rock & Roll", None),
            ("Q&A", None),
            ("§aHello", None),
        ] {
            assert_eq!(colours(text).as_deref(), shown, "{text}");
        }
    }
}
