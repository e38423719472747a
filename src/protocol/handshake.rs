//! The first packet of a connection: version, host, port, intent.

use thiserror::Error;

use super::frame;
use super::read::{Cursor, ReadError, write_string};
use super::varint;
use crate::route;

/// The most bytes of a handshake frame. A host, a mod loader's marker and a
/// BungeeCord tail with a signed skin take about 2 KiB; what is longer is not
/// a handshake.
pub const HANDSHAKE_BYTES_MAX: usize = 8192;
/// The most characters of the host itself: the game's own limit for the field,
/// which its tails may exceed.
pub const HOST_CHARS_MAX: usize = 255;
/// The packet id of the handshake.
pub const HANDSHAKE_ID: i32 = 0;

/// What mod loaders append to the host: Forge's `FML`, `FML2` and `FML3`
/// (1.7 to 1.20.1) and `FORGE` with a version (since 1.20.2).
const MARKER_PREFIXES: [&str; 2] = ["FML", "FORGE"];
/// The prefix of each part that a DDoS filter in front of the proxy appends:
/// `///` of TCPShield, `\\` of Infinity Filter.
const FILTER_PREFIXES: [&str; 2] = ["///", "\\\\"];
/// The prefix of the name of an SRV record for the game.
const SRV_PREFIX: &str = "_minecraft._tcp.";
/// The first label of the names that Cloudflare gives to targets of such records;
/// a label with a hash follows.
const CLOUDFLARE_LABEL: &str = "_dc-srv.";

/// What a client wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intent {
    /// The entry in a server list.
    Status,
    /// To join.
    Login,
    /// To join, sent here by another server (since 1.20.5).
    Transfer,
}

impl Intent {
    const fn number(self) -> i32 {
        match self {
            Intent::Status => 1,
            Intent::Login => 2,
            Intent::Transfer => 3,
        }
    }

    const fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Intent::Status),
            2 => Some(Intent::Login),
            3 => Some(Intent::Transfer),
            _ => None,
        }
    }
}

/// The host field of a handshake: the host that the player typed, and the
/// tails that mod loaders and other proxies append to it.
///
/// The field is kept unchanged; the parts are views of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostField {
    raw: String,
    /// Where the tails begin.
    host_bytes: usize,
}

/// What a part of the tail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// From a mod loader.
    Marker,
    /// From a filter, see [`FILTER_PREFIXES`].
    Filter,
    /// A BungeeCord tail or something unknown.
    Other,
}

impl HostField {
    /// Finds the parts of a host field. Every text is a valid host field.
    ///
    /// A `\0`, `///` or `\\` ends the host. Of the segments between `\0`s, those
    /// that begin with `FML` or `FORGE` are mod loaders' markers, those that begin
    /// with `///` or `\\` are those of filters (TCPShield, Infinity Filter), and
    /// all others are a BungeeCord tail.
    #[must_use]
    pub fn parse(field: &str) -> Self {
        let tails = FILTER_PREFIXES.into_iter().chain(["\0"]);
        let ends = tails.filter_map(|tail| field.find(tail));
        let host_bytes = ends.min().unwrap_or(field.len());
        Self {
            raw: field.to_owned(),
            host_bytes,
        }
    }

    /// The whole field, unchanged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The host exactly as typed, without tails.
    #[must_use]
    pub fn host(&self) -> &str {
        self.split().0
    }

    /// The markers of mod loaders with the `\0` on either side; mostly empty.
    #[must_use]
    pub fn markers(&self) -> String {
        self.collect(|part| part == Part::Marker)
    }

    /// The BungeeCord tail (`\0` and address, `\0` and player id, `\0` and
    /// properties) and other unknown tails; mostly empty. The client can write
    /// anything here, so a backend gets it only if the operator allows it.
    #[must_use]
    pub fn other_tail(&self) -> String {
        self.collect(|part| part == Part::Other)
    }

    /// The host in the form in which routes are looked up: without a port and
    /// without the prefixes of SRV records, cleaned by [`route::normalize`].
    ///
    /// A host that `normalize` refuses, such as an IPv6 address, is only put in
    /// lower case, without the dots at its end. Such a host matches no configured
    /// name, only `*`, unless the dots were all that was wrong with it.
    #[must_use]
    pub fn virtual_host(&self) -> String {
        let host = without_port(self.host());
        let host =
            route::normalize(host).unwrap_or_else(|_| host.trim_end_matches('.').to_lowercase());
        match without_srv(&host) {
            Some(name) => name.to_owned(),
            None => host,
        }
    }

    /// The field for the backend: `host`, or the client's own exactly as typed,
    /// followed by the client's tails in their order. The BungeeCord tail is
    /// left out unless `keep_other_tail`.
    #[must_use]
    pub fn rebuild(&self, host: Option<&str>, keep_other_tail: bool) -> String {
        let mut field = host.unwrap_or(self.host()).to_owned();
        field.push_str(&self.collect(|part| keep_other_tail || part != Part::Other));
        field
    }

    fn split(&self) -> (&str, &str) {
        self.raw
            .split_at_checked(self.host_bytes)
            .unwrap_or((&self.raw, ""))
    }

    fn collect(&self, wanted: impl Fn(Part) -> bool) -> String {
        let mut rest = self.split().1;
        let mut kept = String::new();
        while !rest.is_empty() {
            let (part, text, after) = next_part(rest);
            if wanted(part) {
                kept.push_str(text);
            }
            rest = after;
        }
        kept
    }
}

/// A host without the `:PORT` that some clients and tools leave in the field. An
/// IPv6 address has a port only after brackets.
fn without_port(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else {
        return host;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_whole = !name.contains(':') || (name.starts_with('[') && name.ends_with(']'));
    if is_port && is_whole && !name.is_empty() {
        name
    } else {
        host
    }
}

/// The name after the labels of an SRV record: `NAME` of
/// `_minecraft._tcp.NAME` and `_dc-srv.HASH._minecraft._tcp.NAME`. Clients send
/// such names where one record points to another, or where Cloudflare proxies
/// the target.
pub(crate) fn without_srv(host: &str) -> Option<&str> {
    let name = match host.rfind(SRV_PREFIX) {
        Some(at) if at == 0 || host[..at].ends_with('.') => &host[at + SRV_PREFIX.len()..],
        _ => host.strip_prefix(CLOUDFLARE_LABEL)?.split_once('.')?.1,
    };
    (!name.is_empty()).then_some(name)
}

/// Splits a non-empty tail: its first part, the text of that part with its `\0`s,
/// and what follows.
fn next_part(tail: &str) -> (Part, &str, &str) {
    let content = tail.strip_prefix('\0').unwrap_or(tail);
    let end = content.find('\0').unwrap_or(content.len());
    let segment = content.get(..end).unwrap_or(content);
    let part = if MARKER_PREFIXES
        .iter()
        .any(|prefix| segment.starts_with(prefix))
    {
        Part::Marker
    } else if FILTER_PREFIXES
        .iter()
        .any(|prefix| segment.starts_with(prefix))
    {
        Part::Filter
    } else {
        Part::Other
    };
    // The `\0` after a marker belongs to it, any other begins the next part.
    let closing = usize::from(part == Part::Marker && end < content.len());
    let len = tail.len() - content.len() + end + closing;
    let (text, after) = tail.split_at_checked(len).unwrap_or((tail, ""));
    (part, text, after)
}

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The client's protocol version; any number, see [`version`](super::version).
    pub protocol: i32,
    /// The host field.
    pub host: HostField,
    /// The port that the player typed or an SRV record named; it need not be ours.
    pub port: u16,
    /// What the client wants.
    pub intent: Intent,
}

/// Why a handshake is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// A field is malformed, or bytes follow the last.
    #[error("malformed handshake: {0}")]
    Malformed(#[from] ReadError),
    /// The host, without its tails, is over [`HOST_CHARS_MAX`] characters.
    #[error("the host has more than {HOST_CHARS_MAX} characters")]
    LongHost,
    /// The intent is not status, login or transfer.
    #[error("unknown intent {0}")]
    UnknownIntent(i32),
}

impl Handshake {
    /// Reads the body of a handshake, the fields after the packet id.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]. Bytes behind the last field are an error.
    pub fn parse(body: &[u8]) -> Result<Self, HandshakeError> {
        let mut cursor = Cursor::new(body);
        let protocol = cursor.varint()?;
        // Only the frame bounds the tails.
        let host = HostField::parse(cursor.string(HANDSHAKE_BYTES_MAX)?);
        if host.host().encode_utf16().count() > HOST_CHARS_MAX {
            return Err(HandshakeError::LongHost);
        }
        let port = cursor.u16()?;
        let number = cursor.varint()?;
        let intent = Intent::from_number(number).ok_or(HandshakeError::UnknownIntent(number))?;
        cursor.finish()?;
        Ok(Self {
            protocol,
            host,
            port,
            intent,
        })
    }

    /// The whole frame with another host field. Version, port and intent stay
    /// the client's.
    #[must_use]
    pub fn encode_with_host(&self, host_field: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(host_field.len() + 16);
        varint::encode(self.protocol, &mut body);
        write_string(host_field, &mut body);
        body.extend_from_slice(&self.port.to_be_bytes());
        varint::encode(self.intent.number(), &mut body);
        frame::write(HANDSHAKE_ID, &body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHIELD: &str = "///203.0.113.9:50000///1700000000///c2lnbmF0dXJl/x==";

    fn parse_frame(bytes: &[u8]) -> Result<Handshake, HandshakeError> {
        let frame = frame::split(bytes, HANDSHAKE_BYTES_MAX).unwrap().unwrap();
        Handshake::parse(frame.body)
    }

    fn handshake(field: &str, intent: Intent) -> Handshake {
        Handshake {
            protocol: 767,
            host: HostField::parse(field),
            port: 25565,
            intent,
        }
    }

    /// Each kind of tail is recognized, in any order, and nothing is lost.
    #[test]
    fn host_fields_are_split_into_their_parts() {
        // field, host, markers, filter, other
        let table = [
            ("a.b", "a.b", "", "", ""),
            ("", "", "", "", ""),
            ("a\0FML\0", "a", "\0FML\0", "", ""),
            ("a\0FML2\0", "a", "\0FML2\0", "", ""),
            ("a\0FML3\0", "a", "\0FML3\0", "", ""),
            ("a\0FORGE", "a", "\0FORGE", "", ""),
            ("a\0FORGE47.2.0\0", "a", "\0FORGE47.2.0\0", "", ""),
            ("a\0::1\0uu\0[]", "a", "", "", "\0::1\0uu\0[]"),
            ("a\0FML2\0\0ip\0uu", "a", "\0FML2\0", "", "\0ip\0uu"),
            ("a\0FML2\0ip\0uu", "a", "\0FML2\0", "", "ip\0uu"),
            ("a\0ip\0uu\0FML\0", "a", "\0FML\0", "", "\0ip\0uu"),
            ("a\0FML\0\0FORGE\0", "a", "\0FML\0\0FORGE\0", "", ""),
            ("a///1///2///s", "a", "", "///1///2///s", ""),
            ("a///1///2///s\0FML\0", "a", "\0FML\0", "///1///2///s", ""),
            ("a\0FML\0///1///2///s", "a", "\0FML\0", "///1///2///s", ""),
            ("a\0///1///2", "a", "", "\0///1///2", ""),
            ("a\0", "a", "", "", "\0"),
            ("\0\0\0", "", "", "", "\0\0\0"),
            ("a\0fml\0", "a", "", "", "\0fml\0"),
            ("a//b", "a//b", "", "", ""),
            ("a\\\\u\\\\1.2.3.4:5", "a", "", "\\\\u\\\\1.2.3.4:5", ""),
            ("a\\\\u\0FML2\0", "a", "\0FML2\0", "\\\\u", ""),
            ("a\0FML2\0\\\\u", "a", "\0FML2\0", "\\\\u", ""),
            ("a///1\\\\2", "a", "", "///1\\\\2", ""),
            ("a\\b", "a\\b", "", "", ""),
        ];
        for (field, host, markers, filter, other) in table {
            let parsed = HostField::parse(field);
            let parts = (
                parsed.host(),
                parsed.markers(),
                parsed.collect(|part| part == Part::Filter),
                parsed.other_tail(),
            );
            assert_eq!(
                parts,
                (host, markers.into(), filter.into(), other.into()),
                "{field:?}"
            );
            assert_eq!(parsed.rebuild(None, true), field);
        }
    }

    /// A rewrite changes the host, keeps markers and TCPShield's tail, and
    /// drops the tail in which a client can claim an address and a player id.
    #[test]
    fn rewriting_keeps_markers_and_drops_claims() {
        let field = HostField::parse("Play.Example.com.\0FML3\0");
        assert_eq!(field.rebuild(None, false), "Play.Example.com.\0FML3\0");
        assert_eq!(field.rebuild(Some("10.0.0.5"), false), "10.0.0.5\0FML3\0");
        let field = HostField::parse(&format!("a{SHIELD}\0FML2\0\0ip\0uuid\0[]"));
        assert_eq!(
            field.rebuild(Some("b"), false),
            format!("b{SHIELD}\0FML2\0")
        );
        assert_eq!(
            field.rebuild(Some("b"), true),
            format!("b{SHIELD}\0FML2\0\0ip\0uuid\0[]")
        );
    }

    /// All spellings of a host give one virtual host; other texts give one too.
    #[test]
    fn virtual_hosts_are_clean() {
        let table = [
            ("Play.Example.COM.", "play.example.com"),
            ("PLAY\0FML2\0", "play"),
            ("Play///1.2.3.4:1///2", "play"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("FE80::1", "fe80::1"),
            ("A b..", "a b"),
            ("Play..", "play"),
            ("", ""),
            ("Play.Example.com:25565", "play.example.com"),
            ("play.example.com.:1\0FML2\0", "play.example.com"),
            ("play.example.com:", "play.example.com:"),
            ("play.example.com:+1", "play.example.com:+1"),
            ("play.example.com:65536", "play.example.com:65536"),
            ("play.example.com:1:2", "play.example.com:1:2"),
            (":25565", ":25565"),
            ("[FE80::1]:25565", "[fe80::1]"),
            ("_Minecraft._TCP.Play.Example.com.", "play.example.com"),
            (
                "_dc-srv.0a1b2c._minecraft._tcp.play.example.com",
                "play.example.com",
            ),
            ("_dc-srv.0a1b2c.play.example.com:25565", "play.example.com"),
            ("_minecraft._tcp._minecraft._tcp.a.b", "a.b"),
            ("x_minecraft._tcp.a.b", "x_minecraft._tcp.a.b"),
            ("_minecraft._tcp.", "_minecraft._tcp"),
            ("_minecraft._udp.a.b", "_minecraft._udp.a.b"),
            ("_dc-srv.a", "_dc-srv.a"),
            ("_dc-srv", "_dc-srv"),
        ];
        for (field, host) in table {
            assert_eq!(HostField::parse(field).virtual_host(), host, "{field:?}");
        }
    }

    /// There are three intents, and other numbers are refused.
    #[test]
    fn intents() {
        for intent in [Intent::Status, Intent::Login, Intent::Transfer] {
            let bytes = handshake("h", intent).encode_with_host("h");
            assert_eq!(parse_frame(&bytes).unwrap().intent, intent);
        }
        for number in [-1, 0, 4, 255] {
            let mut body = vec![0, 1, b'h', 0, 1];
            varint::encode(number, &mut body);
            assert_eq!(
                Handshake::parse(&body),
                Err(HandshakeError::UnknownIntent(number))
            );
        }
    }

    /// One byte short at any place, and one byte long, are refused.
    #[test]
    fn exact_length_only() {
        let bytes = handshake("host", Intent::Login).encode_with_host("host");
        let body = &bytes[2..];
        assert!(Handshake::parse(body).is_ok());
        for cut in 0..body.len() {
            assert_eq!(
                Handshake::parse(&body[..cut]),
                Err(HandshakeError::Malformed(ReadError::Short))
            );
        }
        let long = [body, &[0]].concat();
        assert_eq!(
            Handshake::parse(&long),
            Err(HandshakeError::Malformed(ReadError::Trailing(1)))
        );
    }

    /// Only the host is limited to 255 characters, not its tails.
    #[test]
    fn host_limit() {
        let at = "a".repeat(HOST_CHARS_MAX);
        for tail in ["", "\0FML2\0", SHIELD] {
            let field = format!("{at}{tail}");
            let bytes = handshake(&field, Intent::Login).encode_with_host(&field);
            assert!(parse_frame(&bytes).is_ok());
        }
        let over = format!("{at}a\0FML2\0");
        let bytes = handshake(&over, Intent::Login).encode_with_host(&over);
        assert_eq!(parse_frame(&bytes), Err(HandshakeError::LongHost));
    }

    /// Negative lengths and texts that are not UTF-8 are refused.
    #[test]
    fn bad_host_fields() {
        let negative = [0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0, 1];
        assert_eq!(
            Handshake::parse(&negative),
            Err(HandshakeError::Malformed(ReadError::NegativeLength))
        );
        assert_eq!(
            Handshake::parse(&[0, 2, 0xC0, 0x80, 0, 0, 1]),
            Err(HandshakeError::Malformed(ReadError::NotUtf8))
        );
    }

    proptest! {
        /// Handshakes come back as they were written.
        #[test]
        fn round_trip(protocol: i32, field in "[a-zA-Z.\0/FML]{0,120}", port: u16, intent in 1..=3) {
            let sent = Handshake {
                protocol,
                host: HostField::parse(&field),
                port,
                intent: Intent::from_number(intent).unwrap(),
            };
            let bytes = sent.encode_with_host(sent.host.as_str());
            prop_assert_eq!(parse_frame(&bytes), Ok(sent));
        }

        /// The tails are a partition of the field: each byte belongs to one part.
        #[test]
        fn the_parts_are_the_whole_field(field in r"([a-z.\x00/\\:]|FML|FORGE|///|_minecraft\._tcp\.|_dc-srv\.){0,40}") {
            let parsed = HostField::parse(&field);
            let total = parsed.host().len()
                + parsed.markers().len()
                + parsed.collect(|part| part == Part::Filter).len()
                + parsed.other_tail().len();
            prop_assert_eq!(total, field.len());
            let _ = parsed.virtual_host();
            prop_assert_eq!(parsed.rebuild(None, true), field);
        }

        /// No bytes make the parser panic.
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            if let Ok(handshake) = Handshake::parse(&bytes) {
                let _ = handshake.host.virtual_host();
            }
        }
    }
}
