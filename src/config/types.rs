//! The types of single values in a file.
//!
//! Each reads itself from TOML and says in words what it takes. Whether a value
//! fits the rest of the configuration is not asked here: that is
//! [`validate`](super::validate).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use crate::config::keys::{Choice, HasKeys, Shape, choices, keys};
use crate::config::model::{ProxyVersion, Relay, Secret};
use crate::config::reader::{Entry, FromToml, Item, List, Walk};
use crate::diagnostic::words::Quoted;
use crate::mode::Mode;

/// The longest time that a key takes. Deadlines are sums of a clock and such a
/// time, and no sum may overflow; a year is more than any session lasts.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest keepalive time that Linux takes, in seconds (`MAX_TCP_KEEPIDLE`
/// and `MAX_TCP_KEEPINTVL` in its `include/net/tcp.h`).
const KEEPALIVE_SECONDS_MAX: u64 = 32_767;

/// The longest path; Linux has the same limit (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: i64, const MAX: i64>(pub i64);

impl<const MIN: i64, const MAX: i64> FromToml for Whole<MIN, MAX> {
    const SHAPE: Shape = Shape::Whole { min: MIN, max: MAX };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let DeValue::Integer(integer) = value.get_ref() else {
            walk.wrong_type(value, &Self::SHAPE);
            return None;
        };
        match whole(integer) {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                let message = format!(
                    "{} must be from {MIN} to {MAX}, not {integer}",
                    walk.subject()
                );
                walk.bad_value(value, message, None);
                None
            }
        }
    }
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl<const MAX: i64> Whole<0, MAX> {
    /// The number without a sign.
    #[must_use]
    pub fn get(self) -> u32 {
        const { assert!(MAX <= 4_294_967_295, "the number must fit into 32 bits") };
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// A count: `0` to 4,294,967,295.
pub type Count = Whole<0, 4_294_967_295>;

/// A duration longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A duration that may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOrOff(pub Duration);

/// A duration of whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

/// The forms of a duration that `humantime` reads, roughly; for editors.
const DURATION_PATTERN: &str = r"^\s*(\d+\s*[a-zA-Zµ]+\s*)+$";

fn duration(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>, shape: &Shape) -> Option<Duration> {
    let text = walk.text(value, shape)?;
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= TIME_MAX => Some(duration),
        Ok(_) => {
            let message = format!("{} cannot be longer than a year", walk.subject());
            walk.bad_value(value, message, None);
            None
        }
        Err(_) => {
            let message = format!("{} is not a duration", Quoted(text));
            let help = if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
                format!("add the unit: `\"{text}s\"`, or `ms`, `m`, `h`")
            } else {
                "write a number with a unit, such as `\"5s\"`, `\"250ms\"` or `\"1m 30s\"`"
                    .to_owned()
            };
            walk.bad_value(value, message, Some(help));
            None
        }
    }
}

impl FromToml for Time {
    const SHAPE: Shape = Shape::Text {
        what: "a duration such as `\"5s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let duration = duration(value, walk, &Self::SHAPE)?;
        if duration.is_zero() {
            let message = format!("{} must be longer than zero", walk.subject());
            walk.bad_value(value, message, None);
            return None;
        }
        Some(Self(duration))
    }
}

impl FromToml for TimeOrOff {
    const SHAPE: Shape = Shape::Text {
        what: "a duration such as `\"5s\"`, or `\"0s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        duration(value, walk, &Self::SHAPE).map(Self)
    }
}

impl FromToml for Seconds {
    const SHAPE: Shape = Shape::Text {
        what: "a duration of whole seconds such as `\"30s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let duration = duration(value, walk, &Self::SHAPE)?;
        let is_whole = duration.subsec_nanos() == 0;
        if !is_whole || !(1..=KEEPALIVE_SECONDS_MAX).contains(&duration.as_secs()) {
            let message = format!(
                "{} must be whole seconds, from `1s` to `{KEEPALIVE_SECONDS_MAX}s`",
                walk.subject()
            );
            walk.bad_value(value, message, None);
            return None;
        }
        Some(Self(duration))
    }
}

/// The path of a file or folder, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl FromToml for FilePath {
    const SHAPE: Shape = Shape::Text {
        what: "a path",
        pattern: None,
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let text = walk.text(value, &Self::SHAPE)?;
        let problem = if text.trim().is_empty() {
            "cannot be empty"
        } else if text.contains('\0') {
            "cannot hold a zero byte"
        } else if text.len() > PATH_BYTES_MAX {
            "is too long for a path"
        } else {
            return Some(Self(PathBuf::from(text)));
        };
        let message = format!("{} {problem}", walk.subject());
        walk.bad_value(value, message, None);
        None
    }
}

/// A network in CIDR form; a bare address is the network of this one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl FromToml for Cidr {
    const SHAPE: Shape = Shape::Text {
        what: "a network such as `\"10.0.0.0/8\"`",
        pattern: None,
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let text = walk.text(value, &Self::SHAPE)?;
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        match net {
            Ok(net) => Some(Self(net)),
            Err(_) => {
                let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
                let help = match address.parse::<std::net::IpAddr>() {
                    Ok(ip) => {
                        let bits = if ip.is_ipv4() { 32 } else { 128 };
                        format!("{} is not a number of bits from 0 to {bits}", Quoted(prefix))
                    }
                    Err(_) => "write an address or a network, such as `\"192.0.2.7\"` or `\"10.0.0.0/8\"`; names are not looked up".to_owned(),
                };
                let message = format!("{} is not a network", Quoted(text));
                walk.bad_value(value, message, Some(help));
                None
            }
        }
    }
}

/// Where to listen: one `ip:port`, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind(pub List<SocketAddr>);

impl FromToml for SocketAddr {
    const SHAPE: Shape = Shape::Text {
        what: "an address with a port such as `\"0.0.0.0:25565\"`",
        pattern: None,
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let text = walk.text(value, &Self::SHAPE)?;
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let help = if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
            format!("add the port: `\"{}\"`", SocketAddr::new(ip, 25565))
        } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            format!("add the address: `\"0.0.0.0:{text}\"` listens on all")
        } else if text.starts_with(':') {
            format!("add the address: `\"0.0.0.0{text}\"` listens on all")
        } else {
            "write an IP address and a port from 0 to 65535, such as `\"0.0.0.0:25565\"` or `\"[::]:25565\"`; names are not looked up here".to_owned()
        };
        let message = format!("{} is not an address to listen on", Quoted(text));
        walk.bad_value(value, message, Some(help));
        None
    }
}

impl FromToml for Bind {
    const SHAPE: Shape = Shape::OneOf(&[
        <SocketAddr as FromToml>::SHAPE,
        Shape::List(&<SocketAddr as FromToml>::SHAPE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => {
                let address = SocketAddr::from_toml(value, walk)?;
                let place = walk.place(value.span());
                let items = vec![Item {
                    place,
                    value: address,
                }];
                Some(Self(List {
                    items,
                    is_broken: false,
                }))
            }
            DeValue::Array(array) if array.is_empty() => {
                let help = "leave the key out to listen on `0.0.0.0:25565`".to_owned();
                walk.bad_value(value, "`bind` is an empty list".to_owned(), Some(help));
                None
            }
            DeValue::Array(_) => List::from_toml(value, walk).map(Self),
            _ => {
                walk.wrong_type(value, &Self::SHAPE);
                None
            }
        }
    }
}

/// A backend address with its place: the text is read by the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressText(pub String);

keys! {
    /// A backend address in the long form of Infrarust v2.
    RawAddress, "an address" {
        /// The address.
        address: String;
        unsupported {
            "weight" => "sharing players between addresses; here they are tried in turn";
        }
    }
}

impl FromToml for AddressText {
    const SHAPE: Shape = Shape::OneOf(&[
        Shape::Text {
            what: "a text such as `\"10.0.0.5:25565\"`",
            pattern: None,
        },
        Shape::Table(&RawAddress::TABLE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Self(text.to_string())),
            DeValue::Table(_) => {
                let long = RawAddress::from_toml(value, walk)?;
                match long.address {
                    Entry::Given(given) => Some(Self(given.value)),
                    Entry::Broken(_) => None,
                    Entry::Absent => {
                        walk.bad_value(value, "the entry has no `address`".to_owned(), None);
                        None
                    }
                }
            }
            _ => {
                walk.wrong_type(value, &Self::SHAPE);
                None
            }
        }
    }
}

/// Where a secret comes from. The `Debug` form does not show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It stands in the file.
    Value(Secret),
    /// It is the content of this file.
    File(Item<PathBuf>),
    /// It is the value of this environment variable.
    Env(Item<String>),
}

keys! {
    /// Where a secret comes from.
    RawSecret, "a secret" {
        /// The file that holds it, and nothing else; relative to this file.
        file: FilePath;
        /// The environment variable that holds it.
        env: String;
    }
}

impl FromToml for SecretSource {
    const SHAPE: Shape = Shape::OneOf(&[
        Shape::Text {
            what: "a text",
            pattern: None,
        },
        Shape::Table(&RawSecret::TABLE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let help =
            || Some("write the secret itself, `{ file = \"…\" }` or `{ env = \"…\" }`".to_owned());
        match value.get_ref() {
            DeValue::Table(table) => {
                // Under any other key there may stand the secret itself.
                for (key, value) in table {
                    if !matches!(key.get_ref().as_ref(), "file" | "env") {
                        walk.hide_secrets("secret", value, 0);
                    }
                }
                let from = RawSecret::from_toml(value, walk)?;
                match (from.file, from.env) {
                    (Entry::Given(file), Entry::Absent) => Some(Self::File(Item {
                        place: file.place,
                        value: file.value.0,
                    })),
                    (Entry::Absent, Entry::Given(env)) => Some(Self::Env(Item {
                        place: env.place,
                        value: env.value,
                    })),
                    (Entry::Broken(_), _) | (_, Entry::Broken(_)) => None,
                    // Its only keys are unknown ones, which has been told.
                    (Entry::Absent, Entry::Absent) if !table.is_empty() => None,
                    (Entry::Absent, Entry::Absent) | (Entry::Given(_), Entry::Given(_)) => {
                        let message =
                            format!("{} takes exactly one of `file` and `env`", walk.subject());
                        walk.bad_value(value, message, help());
                        None
                    }
                }
            }
            DeValue::String(text) => {
                walk.secrets.push(value.span().into());
                if text.trim().is_empty() {
                    let message = format!("{} is empty", walk.subject());
                    walk.bad_value(value, message, help());
                    return None;
                }
                Some(Self::Value(Secret::new(text.to_string())))
            }
            _ => {
                walk.secrets.push(value.span().into());
                walk.wrong_type(value, &Self::SHAPE);
                None
            }
        }
    }
}

/// What becomes of the host in the handshake, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing.
    None,
    /// The address's own host is sent.
    FromBackend,
    /// This host is sent.
    Explicit(Item<String>),
}

keys! {
    /// A host for the backend.
    RawExplicit, "`domain_rewrite`" {
        /// The host that the backend sees.
        explicit: String;
    }
}

choices! {
    /// A rewrite without a parameter.
    RewriteWord {
        /// The backend sees what the client sent.
        None = "none";
        /// The backend sees the configured host of the address that was connected.
        FromBackend = "from_backend";
    }
}

impl FromToml for Rewrite {
    const SHAPE: Shape = Shape::OneOf(&[RewriteWord::SHAPE, Shape::Table(&RawExplicit::TABLE)]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text)
                if crate::route::normalize(text).is_ok() && text.contains('.') =>
            {
                let message = format!("`domain_rewrite` cannot be {}", Quoted(text));
                let help = format!(
                    "to send this host write `domain_rewrite = {{ explicit = \"{text}\" }}`"
                );
                walk.bad_value(value, message, Some(help));
                None
            }
            DeValue::String(_) => match RewriteWord::from_toml(value, walk)? {
                RewriteWord::None => Some(Self::None),
                RewriteWord::FromBackend => Some(Self::FromBackend),
            },
            DeValue::Table(_) => {
                let table = RawExplicit::from_toml(value, walk)?;
                match table.explicit {
                    Entry::Given(host) => Some(Self::Explicit(Item {
                        place: host.place,
                        value: host.value,
                    })),
                    Entry::Broken(_) => None,
                    Entry::Absent => {
                        // An unknown key in the table has been told already.
                        if matches!(value.get_ref(), DeValue::Table(table) if table.is_empty()) {
                            let message = "`domain_rewrite` has no `explicit`".to_owned();
                            walk.bad_value(value, message, None);
                        }
                        None
                    }
                }
            }
            _ => {
                walk.wrong_type(value, &Self::SHAPE);
                None
            }
        }
    }
}

/// Whether a PROXY header is sent, and which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendProxy(pub Option<ProxyVersion>);

choices! {
    /// The version of a PROXY header.
    ProxyVersionWord {
        /// The text form.
        V1 = "v1";
        /// The binary form, which `true` means too.
        V2 = "v2";
    }
}

impl FromToml for SendProxy {
    const SHAPE: Shape = Shape::OneOf(&[Shape::Bool, ProxyVersionWord::SHAPE]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(on) => Some(Self(on.then_some(ProxyVersion::V2))),
            DeValue::String(text) if !matches!(text.as_ref(), "true" | "false") => Some(Self(
                Some(match ProxyVersionWord::from_toml(value, walk)? {
                    ProxyVersionWord::V1 => ProxyVersion::V1,
                    ProxyVersionWord::V2 => ProxyVersion::V2,
                }),
            )),
            _ => {
                walk.wrong_type(value, &Self::SHAPE);
                None
            }
        }
    }
}

const fn mode_choice(mode: Mode) -> Choice {
    Choice {
        name: mode.name(),
        aliases: &[],
        doc: mode.meaning(),
    }
}

impl FromToml for Mode {
    const SHAPE: Shape = Shape::Choice(&[
        mode_choice(Mode::Passthrough),
        mode_choice(Mode::ZeroCopy),
        mode_choice(Mode::ServerOnly),
        mode_choice(Mode::ClientOnly),
        mode_choice(Mode::Offline),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let text = walk.text(value, &Self::SHAPE)?;
        if let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == text) {
            return Some(mode);
        }
        if text == "full" {
            // Infrarust keeps the name without ever having given it a meaning.
            let message = "the mode `full` does not exist".to_owned();
            let help = "use `client_only` if the proxy shall authenticate the players, or `server_only` if the backend does".to_owned();
            walk.bad_value(value, message, Some(help));
        } else {
            walk.unknown_choice(value, text, &Self::SHAPE);
        }
        None
    }
}

const fn relay_choice(relay: Relay, doc: &'static str) -> Choice {
    Choice {
        name: relay.name(),
        aliases: &[],
        doc,
    }
}

impl FromToml for Relay {
    const SHAPE: Shape = Shape::Choice(&[
        relay_choice(Relay::Copy, "Read into the proxy and write out again."),
        relay_choice(Relay::Splice, "Let the kernel move the bytes."),
        relay_choice(
            Relay::Adaptive,
            "Copy while reads are short, splice while they are long.",
        ),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let text = walk.text(value, &Self::SHAPE)?;
        let all = [Relay::Copy, Relay::Splice, Relay::Adaptive];
        let found = all.into_iter().find(|relay| relay.name() == text);
        if found.is_none() {
            walk.unknown_choice(value, text, &Self::SHAPE);
        }
        found
    }
}

choices! {
    /// What a client meets whose virtual host no server claims.
    UnknownDomainWord {
        /// Status pings get `default_motd`, logins a text.
        DefaultMotd = "default_motd";
        /// Logins get a text, status pings no answer.
        Kick = "kick";
        /// Nobody gets an answer.
        Drop = "drop";
    }

    /// How the backend learns who the player is.
    ForwardingWord {
        /// Not at all.
        None = "none";
        /// In the host field of the handshake, without a proof.
        BungeeCord = "bungeecord" | "bungee_cord" | "legacy";
        /// As `bungeecord`, with a token that the backend checks.
        BungeeGuard = "bungeeguard" | "bungee_guard";
        /// In a signed answer during the login; the intercepted modes only.
        Velocity = "velocity" | "modern";
    }

    /// What becomes of a client's own tail in the host field.
    HostTailWord {
        /// It is dropped.
        Drop = "drop";
        /// It is sent on.
        Keep = "keep";
    }

    /// The format of the log.
    LogFormatWord {
        /// Lines for people.
        Text = "text";
        /// One JSON object a line.
        Json = "json";
    }

    /// What happens when a plugin fails.
    OnFailureWord {
        /// The connection goes on.
        Continue = "continue";
        /// The connection is refused.
        Deny = "deny";
    }

    /// What happens where a server's mode cannot give what a plugin needs.
    UnsupportedWord {
        /// The configuration is refused.
        Error = "error";
        /// The plugin is inactive there, and a warning says so.
        Skip = "skip";
    }
}

impl ForwardingWord {
    /// The name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ForwardingWord::None => "none",
            ForwardingWord::BungeeCord => "bungeecord",
            ForwardingWord::BungeeGuard => "bungeeguard",
            ForwardingWord::Velocity => "velocity",
        }
    }

    /// Whether it works with a secret that proxy and backend share.
    #[must_use]
    pub const fn needs_secret(self) -> bool {
        matches!(self, ForwardingWord::BungeeGuard | ForwardingWord::Velocity)
    }
}

/// A table whose keys somebody else knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free;

impl FromToml for Free {
    const SHAPE: Shape = Shape::Free;

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        if matches!(value.get_ref(), DeValue::Table(_)) {
            walk.hide_secrets("", value, 0);
            return Some(Self);
        }
        walk.wrong_type(value, &Self::SHAPE);
        None
    }
}
