//! Pings and logins of clients up to 1.6. Their packets are not in frames.
//!
//! The packets have no length, so each is recognized by its fields. The layouts
//! of the three pings and of the answers are those of the game versions 1.3, 1.5
//! and 1.6. Numbers are in network order; texts are UTF-16 after a length of two
//! bytes.

use thiserror::Error;

use super::handshake::{HOST_CHARS_MAX, HostField};
use super::login::NAME_CHARS_MAX;
use super::text;

/// The first byte of a login (the game called it a handshake).
const LOGIN: u8 = 0x02;
/// The first byte of a ping.
const PING: u8 = 0xFE;
/// The second byte of a ping since 1.4.
const PING_SINCE_1_4: u8 = 0x01;
/// The first byte of a plugin message, the third of a ping of 1.6.
const PLUGIN_MESSAGE: u8 = 0xFA;
/// The channel of that message.
const PING_CHANNEL: &str = "MC|PingHost";
/// The first byte of a backend's request for encryption (1.3 to 1.6).
const ENCRYPTION_REQUEST: u8 = 0xFD;
/// The first byte of a kick, which is the answer to a ping too.
const KICK: u8 = 0xFF;
/// The server id of a backend that does not authenticate.
const NO_AUTHENTICATION: &str = "-";

/// The most UTF-16 units of a kick that clients read.
const KICK_UNITS_MAX: usize = 256;
/// The most UTF-16 units of a backend's kick or ping answer that is passed on:
/// more than clients read, so that the client decides whether it accepts it.
const ANSWER_UNITS_MAX: usize = 1024;
/// The most UTF-16 units of a version's name in our answers, which leaves room
/// for the text.
const VERSION_UNITS_MAX: usize = 64;
/// The most UTF-16 units of a server id, as in later versions.
const SERVER_ID_UNITS_MAX: usize = 20;
/// The most UTF-16 units of a login up to 1.2.5: name, `;`, host, `:` and port.
const JOINED_UNITS_MAX: usize = NAME_CHARS_MAX + 1 + HOST_CHARS_MAX + 1 + 5;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detect {
    /// Not a packet of an old client: [`frame::split`](super::frame::split) parses them.
    Modern,
    /// More bytes are needed: several packets begin like this.
    NeedMore {
        /// The ping that they are if nothing follows: the caller waits a short time
        /// and then uses this. `None` if they are not a complete packet yet.
        undecided_as: Option<LegacyPing>,
    },
    /// A whole ping.
    Ping(LegacyPing),
    /// A whole login.
    Login(LegacyLogin),
    /// A malformed packet of an old client.
    Bad(LegacyError),
}

/// Why an old packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LegacyError {
    /// A text is longer than it may be.
    #[error("a text has more than {units_max} UTF-16 units")]
    LongText {
        /// The limit.
        units_max: usize,
    },
    /// A text is not UTF-16.
    #[error("a text is not UTF-16")]
    NotUtf16,
    /// The third part of a ping is not the message that the game sends.
    #[error("the ping's message is not `MC|PingHost` as the game sends it")]
    MalformedPing,
    /// A player's name is empty or too long.
    #[error("a player's name has 1 to {NAME_CHARS_MAX} characters")]
    NameLength,
    /// A port is not a number.
    #[error("a port is not a number from 0 to 65535")]
    BadPort,
    /// A backend's packet is not an answer to a ping.
    #[error("the packet {0:#04x} is not an answer to a ping")]
    NotAnAnswer(u8),
}

/// A ping, in one of the three forms that clients have used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegacyPing {
    /// Beta 1.8 to 1.3: one byte.
    UpTo1_3,
    /// 1.4 and 1.5: two bytes.
    Since1_4,
    /// 1.6: with the host.
    Since1_6 {
        /// The client's protocol version; 73 to 78.
        protocol: u8,
        /// The host field.
        host: String,
        /// The port, any number.
        port: i32,
    },
}

impl LegacyPing {
    /// The host that the player typed; empty where the form has none.
    #[must_use]
    pub fn host_field(&self) -> HostField {
        match self {
            LegacyPing::UpTo1_3 | LegacyPing::Since1_4 => HostField::parse(""),
            LegacyPing::Since1_6 { host, .. } => HostField::parse(host),
        }
    }

    /// The client's protocol version, where the form has it.
    #[must_use]
    pub const fn protocol(&self) -> Option<u8> {
        match self {
            LegacyPing::UpTo1_3 | LegacyPing::Since1_4 => None,
            LegacyPing::Since1_6 { protocol, .. } => Some(*protocol),
        }
    }

    /// The size of the ping in the stream, in bytes.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.encode().len()
    }

    /// The ping as the client sent it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            LegacyPing::UpTo1_3 => vec![PING],
            LegacyPing::Since1_4 => vec![PING, PING_SINCE_1_4],
            LegacyPing::Since1_6 {
                protocol,
                host,
                port,
            } => {
                let mut message = vec![*protocol];
                write_string16(host, &mut message);
                message.extend_from_slice(&port.to_be_bytes());
                let mut out = vec![PING, PING_SINCE_1_4, PLUGIN_MESSAGE];
                write_string16(PING_CHANNEL, &mut out);
                out.extend_from_slice(&saturated(message.len()).to_be_bytes());
                out.extend_from_slice(&message);
                out
            }
        }
    }

    /// The ping with another host; forms without a host are unchanged.
    #[must_use]
    pub fn rewrite(&self, host: &str) -> Vec<u8> {
        match self {
            LegacyPing::UpTo1_3 | LegacyPing::Since1_4 => self.encode(),
            LegacyPing::Since1_6 { protocol, port, .. } => LegacyPing::Since1_6 {
                protocol: *protocol,
                host: host.to_owned(),
                port: *port,
            }
            .encode(),
        }
    }
}

/// A login of an old client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyLogin {
    /// The client's protocol version, 39 to 78; `None` up to 1.2.5.
    pub protocol: Option<u8>,
    /// The player's name: 1 to 16 characters, of any kind.
    pub name: String,
    /// The host field; `None` before 1.2, which does not send it.
    pub host: Option<String>,
    /// The port, any number; `None` where it was not sent.
    pub port: Option<i32>,
    /// The size of the login in the stream, in bytes.
    pub wire_bytes: usize,
}

impl LegacyLogin {
    /// The host that the player typed; empty where it was not sent.
    #[must_use]
    pub fn host_field(&self) -> HostField {
        HostField::parse(self.host.as_deref().unwrap_or_default())
    }

    /// The login with another host; one without a host gets none.
    #[must_use]
    pub fn rewrite(&self, host: &str) -> Vec<u8> {
        self.encode_with(self.host.as_ref().map(|_| host))
    }

    fn encode_with(&self, host: Option<&str>) -> Vec<u8> {
        let mut out = vec![LOGIN];
        match self.protocol {
            Some(protocol) => {
                out.push(protocol);
                write_string16(&self.name, &mut out);
                write_string16(host.unwrap_or_default(), &mut out);
                out.extend_from_slice(&self.port.unwrap_or_default().to_be_bytes());
            }
            None => {
                let mut joined = self.name.clone();
                if let Some(host) = host {
                    joined.push(';');
                    joined.push_str(host);
                    if let Some(port) = self.port {
                        joined.push(':');
                        joined.push_str(&port.to_string());
                    }
                }
                write_string16(&joined, &mut out);
            }
        }
        out
    }
}

/// Says what the first bytes of a connection are. They may arrive one by one:
/// call it again with all of them.
///
/// A modern frame can begin like a ping: with `FE 01` if it has 254 bytes, with
/// `FE` if it has 254 to 8190. The next byte decides, which is `FA` in a ping of
/// 1.6 and the packet id in a handshake. `02` is always an old login, since no
/// modern handshake is two bytes long.
#[must_use]
pub fn detect(buf: &[u8]) -> Detect {
    let need_more = |undecided_as| Detect::NeedMore { undecided_as };
    let found = match buf {
        [] => return need_more(None),
        [PING] => return need_more(Some(LegacyPing::UpTo1_3)),
        [PING, PING_SINCE_1_4] => return need_more(Some(LegacyPing::Since1_4)),
        // Some server lists send the beginning of the 1.6 form and no more.
        [PING, PING_SINCE_1_4, PLUGIN_MESSAGE] => return need_more(Some(LegacyPing::Since1_4)),
        // Some libraries write the rest in another way, such as the host in UTF-8.
        // Then the rest is ignored, as it is when it never becomes complete.
        [PING, PING_SINCE_1_4, PLUGIN_MESSAGE, rest @ ..] => match ping_1_6(rest) {
            Ok(ping) => Ok(Detect::Ping(ping)),
            Err(Stop::NeedMore) => return need_more(Some(LegacyPing::Since1_4)),
            Err(Stop::Bad(_)) => Ok(Detect::Ping(LegacyPing::Since1_4)),
        },
        [LOGIN, rest @ ..] => login(rest).map(Detect::Login),
        _ => return Detect::Modern,
    };
    match found {
        Ok(found) => found,
        Err(Stop::NeedMore) => need_more(None),
        Err(Stop::Bad(error)) => Detect::Bad(error),
    }
}

/// Reads a ping of 1.6 after its first three bytes. Any error means that the rest
/// is not what the game sends.
fn ping_1_6(rest: &[u8]) -> Result<LegacyPing, Stop> {
    let mut reader = Reader { rest };
    if reader.string16(PING_CHANNEL.len())? != PING_CHANNEL {
        return Err(LegacyError::MalformedPing.into());
    }
    let message_bytes = usize::from(reader.u16()?);
    let protocol = reader.u8()?;
    let host_units = usize::from(reader.peek_u16()?);
    // Protocol, length of the host, host, port.
    if message_bytes != 1 + 2 + 2 * host_units + 4 {
        return Err(LegacyError::MalformedPing.into());
    }
    Ok(LegacyPing::Since1_6 {
        protocol,
        host: reader.string16(HOST_CHARS_MAX)?,
        port: reader.i32()?,
    })
}

/// Reads a login after its first byte.
fn login(rest: &[u8]) -> Result<LegacyLogin, Stop> {
    let mut reader = Reader { rest };
    // Up to 1.2.5 a length below 512 follows; its first byte is not a protocol number.
    let [0 | 1, ..] = rest else {
        return login_1_3(reader);
    };
    let joined = reader.string16(JOINED_UNITS_MAX)?;
    let (name, address) = match joined.split_once(';') {
        Some((name, address)) => (name, Some(address)),
        None => (joined.as_str(), None),
    };
    let (host, port) = match address.map(|address| (address, address.rsplit_once(':'))) {
        Some((_, Some((host, port)))) => {
            let port: u16 = port.parse().map_err(|_| LegacyError::BadPort)?;
            (Some(host), Some(port.into()))
        }
        Some((host, None)) => (Some(host), None),
        None => (None, None),
    };
    check_name(name)?;
    if host.is_some_and(|host| units(host) > HOST_CHARS_MAX) {
        return Err(LegacyError::LongText {
            units_max: HOST_CHARS_MAX,
        }
        .into());
    }
    Ok(LegacyLogin {
        protocol: None,
        name: name.to_owned(),
        host: host.map(str::to_owned),
        port,
        wire_bytes: 1 + rest.len() - reader.rest.len(),
    })
}

/// Reads a login of 1.3 to 1.6 after its first byte.
fn login_1_3(mut reader: Reader<'_>) -> Result<LegacyLogin, Stop> {
    let before = reader.rest.len();
    let protocol = reader.u8()?;
    let name = match reader.string16(NAME_CHARS_MAX) {
        Err(Stop::Bad(LegacyError::LongText { .. })) => {
            return Err(LegacyError::NameLength.into());
        }
        other => other?,
    };
    check_name(&name)?;
    let host = reader.string16(HOST_CHARS_MAX)?;
    let port = reader.i32()?;
    Ok(LegacyLogin {
        protocol: Some(protocol),
        name,
        host: Some(host),
        port: Some(port),
        wire_bytes: 1 + before - reader.rest.len(),
    })
}

fn check_name(name: &str) -> Result<(), LegacyError> {
    match units(name) {
        1..=NAME_CHARS_MAX => Ok(()),
        _ => Err(LegacyError::NameLength),
    }
}

/// What an answer to a ping shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingAnswer<'a> {
    /// The version's name; clients with another protocol show it since 1.4.
    pub version_name: &'a str,
    /// The protocol version; since 1.4. The client's own where it is known, see
    /// [`LegacyPing::protocol`].
    pub protocol: i32,
    /// The text, as [`text::plain`] gives it. Line breaks
    /// become spaces.
    pub motd: &'a str,
    /// Players online.
    pub online: u32,
    /// Slots.
    pub max: u32,
}

/// The whole packet that answers a ping, in the form that its client reads.
///
/// Up to 1.3 the fields are separated by `§`, so the text loses its colours. The
/// text is cut so that the packet has at most the 256 units that clients read.
#[must_use]
pub fn ping_answer(ping: &LegacyPing, answer: &PingAnswer<'_>) -> Vec<u8> {
    let PingAnswer { online, max, .. } = answer;
    let motd: String = answer
        .motd
        .chars()
        .filter(|c| *c != '\0')
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let (before, motd, after) = match ping {
        LegacyPing::UpTo1_3 => (
            String::new(),
            text::without_codes(&motd),
            format!("§{online}§{max}"),
        ),
        LegacyPing::Since1_4 | LegacyPing::Since1_6 { .. } => {
            let version = answer.version_name.replace('\0', "");
            let version = cut(&version, VERSION_UNITS_MAX);
            (
                format!("§1\0{}\0{version}\0", answer.protocol),
                motd,
                format!("\0{online}\0{max}"),
            )
        }
    };
    let room = KICK_UNITS_MAX.saturating_sub(units(&before) + units(&after));
    kick(&format!("{before}{}{after}", cut(&motd, room)))
}

/// The whole packet that ends a login and shows `text` to the player; at most
/// 256 UTF-16 units of it. `§` codes work.
#[must_use]
pub fn kick(text: &str) -> Vec<u8> {
    let mut out = vec![KICK];
    write_string16(cut(text, KICK_UNITS_MAX), &mut out);
    out
}

/// The length in bytes of the answer to a ping that `buf` begins with, once all
/// of it has arrived; `None` when more bytes are needed.
///
/// # Errors
///
/// When the packet is not a kick, or longer than any client reads.
pub fn answer_len(buf: &[u8]) -> Result<Option<usize>, LegacyError> {
    let len = match buf {
        [] | [KICK] | [KICK, _] => return Ok(None),
        [KICK, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        [other, ..] => return Err(LegacyError::NotAnAnswer(*other)),
    };
    if len > ANSWER_UNITS_MAX {
        return Err(LegacyError::LongText {
            units_max: ANSWER_UNITS_MAX,
        });
    }
    let wire_bytes = 3 + 2 * len;
    Ok((buf.len() >= wire_bytes).then_some(wire_bytes))
}

/// The first answer of a backend to an old login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyAnswer {
    /// It wants encryption (since 1.3), or names a server id (up to 1.2.5).
    EncryptionRequest {
        /// Whether it asks the session server who the player is. An old backend
        /// that does not ask sends the server id `-`.
        authenticates: bool,
    },
    /// It refuses the player.
    Kick,
    /// Anything else: it lets the player in.
    LetsIn,
}

/// Reads the first answer of a backend to an old login from the bytes that it has
/// sent so far; `None` when more are needed.
///
/// # Errors
///
/// When the server id is malformed.
pub fn first_answer(buf: &[u8]) -> Result<Option<LegacyAnswer>, LegacyError> {
    match buf {
        [] => Ok(None),
        [KICK, ..] => Ok(Some(LegacyAnswer::Kick)),
        [ENCRYPTION_REQUEST | LOGIN, rest @ ..] => {
            match (Reader { rest }).string16(SERVER_ID_UNITS_MAX) {
                Ok(id) => Ok(Some(LegacyAnswer::EncryptionRequest {
                    authenticates: id != NO_AUTHENTICATION,
                })),
                Err(Stop::NeedMore) => Ok(None),
                Err(Stop::Bad(error)) => Err(error),
            }
        }
        _ => Ok(Some(LegacyAnswer::LetsIn)),
    }
}

/// Why reading stopped before the last field.
enum Stop {
    NeedMore,
    Bad(LegacyError),
}

impl From<LegacyError> for Stop {
    fn from(error: LegacyError) -> Self {
        Stop::Bad(error)
    }
}

/// A position in bytes of which more may arrive.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::NeedMore)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Stop> {
        self.array().map(i32::from_be_bytes)
    }

    fn peek_u16(&self) -> Result<u16, Stop> {
        Reader { rest: self.rest }.u16()
    }

    /// Reads a text; its length is checked before its bytes have to be there.
    fn string16(&mut self, units_max: usize) -> Result<String, Stop> {
        let len = usize::from(self.u16()?);
        if len > units_max {
            return Err(LegacyError::LongText { units_max }.into());
        }
        let (bytes, rest) = self.rest.split_at_checked(2 * len).ok_or(Stop::NeedMore)?;
        let units = bytes
            .as_chunks()
            .0
            .iter()
            .map(|unit| u16::from_be_bytes(*unit));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        self.rest = rest;
        text.map_err(|_| LegacyError::NotUtf16.into())
    }
}

/// Appends the length of a text in UTF-16 units, and the text.
fn write_string16(text: &str, out: &mut Vec<u8>) {
    let text = cut(text, u16::MAX.into());
    out.extend_from_slice(&saturated(units(text)).to_be_bytes());
    for unit in text.encode_utf16() {
        out.extend_from_slice(&unit.to_be_bytes());
    }
}

/// Converts a length that [`cut`] or the limits above have bounded.
fn saturated(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The beginning of `text`, at most `units_max` UTF-16 units of whole characters.
fn cut(text: &str, units_max: usize) -> &str {
    let mut left = units_max;
    for (at, c) in text.char_indices() {
        match left.checked_sub(c.len_utf16()) {
            Some(rest) => left = rest,
            None => return text.get(..at).unwrap_or_default(),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{frame, handshake};
    use super::*;

    fn ping(host: &str) -> LegacyPing {
        LegacyPing::Since1_6 {
            protocol: 74,
            host: host.to_owned(),
            port: 25565,
        }
    }

    fn undecided(bytes: &[u8]) -> Option<LegacyPing> {
        match detect(bytes) {
            Detect::NeedMore { undecided_as } => undecided_as,
            other => panic!("{bytes:?} is {other:?}"),
        }
    }

    fn text16(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_string16(text, &mut out);
        out
    }

    fn shown(packet: &[u8]) -> String {
        assert_eq!(packet[0], KICK);
        assert_eq!(answer_len(packet), Ok(Some(packet.len())));
        let mut reader = Reader { rest: &packet[1..] };
        match reader.string16(KICK_UNITS_MAX) {
            Ok(text) => text,
            Err(_) => panic!("no text"),
        }
    }

    /// While the three pings arrive byte by byte, each prefix gives the ping that
    /// it already is.
    #[test]
    fn pings_byte_by_byte() {
        assert_eq!(undecided(&[]), None);
        assert_eq!(undecided(&[0xFE]), Some(LegacyPing::UpTo1_3));
        assert_eq!(undecided(&[0xFE, 1]), Some(LegacyPing::Since1_4));
        assert_eq!(undecided(&[0xFE, 1, 0xFA]), Some(LegacyPing::Since1_4));
        let bytes = ping("play.example.com").encode();
        for cut in 4..bytes.len() {
            let since_1_4 = Some(LegacyPing::Since1_4);
            assert_eq!(undecided(&bytes[..cut]), since_1_4, "{cut}");
        }
        assert_eq!(detect(&bytes), Detect::Ping(ping("play.example.com")));
        assert_eq!(ping("play.example.com").wire_bytes(), bytes.len());
        let more = [&bytes[..], &[9]].concat();
        assert_eq!(detect(&more), Detect::Ping(ping("play.example.com")));
    }

    /// The bytes of a ping of 1.6.4 as the game sends it to `localhost:25565`.
    #[test]
    fn ping_of_1_6_4() {
        let mut bytes = vec![0xFE, 0x01, 0xFA, 0x00, 0x0B];
        bytes.extend("MC|PingHost".bytes().flat_map(|byte| [0, byte]));
        bytes.extend([0x00, 0x19, 0x4E, 0x00, 0x09]);
        bytes.extend("localhost".bytes().flat_map(|byte| [0, byte]));
        bytes.extend([0x00, 0x00, 0x63, 0xDD]);
        let expected = LegacyPing::Since1_6 {
            protocol: 78,
            host: "localhost".into(),
            port: 25565,
        };
        assert_eq!(detect(&bytes), Detect::Ping(expected.clone()));
        assert_eq!(expected.encode(), bytes);
    }

    /// Modern handshakes with a length that begins with `FE` are not pings.
    #[test]
    fn modern_lengths_that_look_like_pings() {
        for len in (128..handshake::HANDSHAKE_BYTES_MAX).filter(|len| len % 128 == 126) {
            let bytes = frame::write(0, &vec![7; len - 1]);
            assert_eq!(bytes[0], 0xFE);
            assert_eq!(detect(&bytes), Detect::Modern, "{len}");
            assert_eq!(detect(&bytes[..3]), Detect::Modern, "{len}");
        }
        assert_eq!(detect(&[0xFE, 1, 0]), Detect::Modern);
        assert_eq!(detect(&[0xFE, 2]), Detect::Modern);
        assert_eq!(detect(&[0xFE, 0x3F]), Detect::Modern);
        for first in 0..=255 {
            if first != LOGIN && first != PING {
                assert_eq!(detect(&[first]), Detect::Modern);
            }
        }
    }

    /// A ping of 1.6 with wrong lengths counts as one without a host, as soon as
    /// they have arrived.
    #[test]
    fn pings_with_wrong_lengths() {
        let good = ping("host").encode();
        let bad = |at: usize, byte: u8, upto: usize| {
            let mut bytes = good[..upto].to_vec();
            bytes[at] = byte;
            detect(&bytes)
        };
        let hostless = Detect::Ping(LegacyPing::Since1_4);
        assert_eq!(bad(3, 0xFF, 5), hostless);
        assert_eq!(bad(4, 12, 5), hostless);
        assert_eq!(bad(6, b'X', 27), hostless);
        assert_eq!(bad(28, 14, 32), hostless);
        assert_eq!(bad(31, 5, 32), hostless);
        assert_eq!(bad(30, 0xFF, 32), hostless);

        let at = ping(&"h".repeat(255)).encode();
        let expected = Detect::Ping(ping(&"h".repeat(255)));
        assert_eq!(detect(&at), expected);
        let over = ping(&"h".repeat(256)).encode();
        assert_eq!(detect(&over[..32]), hostless);

        let mut lone = good.clone();
        lone[32] = 0xD8;
        assert_eq!(detect(&lone), hostless);
    }

    /// The logins of 1.3 to 1.6 and of earlier versions are read and rewritten.
    #[test]
    fn logins() {
        let host = "Play.Example.com.";
        let new = [
            &[2, 78][..],
            &text16("Steve"),
            &text16(host),
            &25565_i32.to_be_bytes(),
        ]
        .concat();
        let table = [
            (new, Some(78), Some(host), Some(25565)),
            (
                [&[2][..], &text16("Steve;Play.Example.com.:25565")].concat(),
                None,
                Some(host),
                Some(25565),
            ),
            (
                [&[2][..], &text16("Steve;Play.Example.com.")].concat(),
                None,
                Some(host),
                None,
            ),
            ([&[2][..], &text16("Steve")].concat(), None, None, None),
        ];
        for (bytes, protocol, host, port) in table {
            for cut in 1..bytes.len() {
                assert_eq!(undecided(&bytes[..cut]), None);
            }
            let more = [&bytes[..], &[1]].concat();
            let Detect::Login(login) = detect(&more) else {
                panic!("{bytes:?}");
            };
            let expected = LegacyLogin {
                protocol,
                name: "Steve".into(),
                host: host.map(str::to_owned),
                port,
                wire_bytes: bytes.len(),
            };
            assert_eq!(login, expected);
            assert_eq!(login.rewrite("Play.Example.com."), bytes);
            let virtual_host = login.host_field().virtual_host();
            assert_eq!(virtual_host.is_empty(), host.is_none());
            let Detect::Login(again) = detect(&login.rewrite("b")) else {
                panic!("rewritten {bytes:?}");
            };
            assert_eq!(again.host.as_deref(), host.map(|_| "b"));
            assert_eq!((again.name, again.port), (login.name, login.port));
        }
    }

    /// Names, hosts and ports of logins have limits.
    #[test]
    fn logins_at_their_limits() {
        let new = |name: &str, host: &str| {
            let bytes = [&[2, 39][..], &text16(name), &text16(host), &[0; 4]].concat();
            detect(&bytes)
        };
        let old = |text: &str| detect(&[&[2][..], &text16(text)].concat());
        let name = Detect::Bad(LegacyError::NameLength);
        let long = Detect::Bad(LegacyError::LongText { units_max: 255 });
        let port = Detect::Bad(LegacyError::BadPort);
        let n16 = "n".repeat(16);
        let n17 = "n".repeat(17);
        let h255 = "h".repeat(255);
        let h256 = "h".repeat(256);
        assert!(matches!(new(&n16, &h255), Detect::Login(_)));
        assert_eq!(new(&n17, "h"), name);
        assert_eq!(new("", "h"), name);
        assert_eq!(new("n", &h256), long);
        assert!(matches!(
            old(&format!("{n16};{h255}:65535")),
            Detect::Login(_)
        ));
        assert_eq!(old(&format!("{n17};h:1")), name);
        assert_eq!(old(";h:1"), name);
        assert_eq!(old(""), name);
        assert_eq!(old(&format!("n;{h256}:1")), long);
        assert_eq!(old("n;h:65536"), port);
        assert_eq!(old("n;h:"), port);
        assert_eq!(
            detect(&[2, 1, 0xFF]),
            Detect::Bad(LegacyError::LongText {
                units_max: JOINED_UNITS_MAX
            })
        );
    }

    /// Each form of ping gets the answer that its client reads.
    #[test]
    fn answers() {
        let answer = PingAnswer {
            version_name: "1.6.4",
            protocol: 78,
            motd: "§aHello\n§lWorld§",
            online: 3,
            max: 20,
        };
        assert_eq!(
            shown(&ping_answer(&LegacyPing::UpTo1_3, &answer)),
            "Hello World§3§20"
        );
        for form in [LegacyPing::Since1_4, ping("h")] {
            assert_eq!(
                shown(&ping_answer(&form, &answer)),
                "§1\x0078\x001.6.4\0§aHello §lWorld§\x003\x0020"
            );
        }
    }

    /// An answer never exceeds what clients read, and keeps its numbers.
    #[test]
    fn long_answers_are_cut() {
        let motd = "😀".repeat(400);
        let version_name = "v\0".repeat(400);
        let answer = PingAnswer {
            version_name: &version_name,
            protocol: i32::MIN,
            motd: &motd,
            online: u32::MAX,
            max: u32::MAX,
        };
        let text = shown(&ping_answer(&LegacyPing::UpTo1_3, &answer));
        assert!(text.ends_with("§4294967295§4294967295"));
        let text = shown(&ping_answer(&LegacyPing::Since1_4, &answer));
        assert_eq!(text.split('\0').count(), 6);
        assert!(text.ends_with("\x004294967295\x004294967295"));
        assert_eq!(units(&shown(&kick(&"k".repeat(300)))), 256);
    }

    /// A backend's answer has a length once it is complete; a wrong one is refused early.
    #[test]
    fn answer_lengths() {
        let packet = kick("§1\x0078");
        for cut in 0..packet.len() {
            assert_eq!(answer_len(&packet[..cut]), Ok(None));
        }
        let more = [&packet[..], &[0]].concat();
        assert_eq!(answer_len(&more), Ok(Some(packet.len())));
        assert_eq!(answer_len(&[0]), Err(LegacyError::NotAnAnswer(0)));
        assert_eq!(answer_len(&[KICK, 4, 0]), Ok(None));
        assert_eq!(
            answer_len(&[KICK, 4, 1]),
            Err(LegacyError::LongText { units_max: 1024 })
        );
    }

    /// A backend's first answer to a login shows whether it authenticates.
    #[test]
    fn first_answers() {
        let with = |id: u8, text: &str| [&[id][..], &text16(text), &[0; 9]].concat();
        let request = |authenticates| Ok(Some(LegacyAnswer::EncryptionRequest { authenticates }));
        assert_eq!(first_answer(&[]), Ok(None));
        assert_eq!(first_answer(&with(0xFD, "-")[..4]), Ok(None));
        assert_eq!(first_answer(&with(0xFD, "-")), request(false));
        assert_eq!(first_answer(&with(0xFD, "")), request(true));
        assert_eq!(first_answer(&with(0xFD, "5a1b")), request(true));
        assert_eq!(first_answer(&with(0x02, "-")), request(false));
        assert_eq!(first_answer(&with(0x02, "5a1b")), request(true));
        assert_eq!(first_answer(&[0xFF]), Ok(Some(LegacyAnswer::Kick)));
        assert_eq!(first_answer(&[0x01]), Ok(Some(LegacyAnswer::LetsIn)));
        assert!(first_answer(&with(0xFD, &"x".repeat(21))).is_err());
    }

    proptest! {
        /// Pings and logins come back as they were written, and every shorter
        /// prefix asks for more.
        #[test]
        fn round_trip(protocol in 2_u8.., name in "[a-zA-Z0-9_]{1,16}", host in "[^\0]{0,60}", port: i32) {
            let sent = LegacyPing::Since1_6 { protocol, host: host.clone(), port };
            prop_assert_eq!(detect(&sent.encode()), Detect::Ping(sent));
            let mut login = LegacyLogin {
                protocol: Some(protocol),
                name,
                host: Some(host.clone()),
                port: Some(port),
                wire_bytes: 0,
            };
            let bytes = login.rewrite(&host);
            login.wire_bytes = bytes.len();
            for cut in 1..bytes.len() {
                prop_assert_eq!(detect(&bytes[..cut]), Detect::NeedMore { undecided_as: None });
            }
            prop_assert_eq!(detect(&bytes), Detect::Login(login));
        }

        /// No bytes make a parser panic; more bytes never undo a decision.
        #[test]
        fn any_bytes(first in prop_oneof![Just(vec![2]), Just(vec![0xFE, 1, 0xFA]), Just(vec![])], rest: Vec<u8>) {
            let bytes = [first, rest].concat();
            let whole = detect(&bytes);
            for cut in 0..bytes.len() {
                let part = detect(&bytes[..cut]);
                if !matches!(part, Detect::NeedMore { .. }) {
                    prop_assert_eq!(&part, &whole);
                }
            }
            if let Detect::Login(login) = &whole {
                prop_assert!(login.wire_bytes <= bytes.len());
            }
            let _ = (answer_len(&bytes), first_answer(&bytes));
        }

        /// Whatever the text, the answers stay readable for their clients.
        #[test]
        fn any_answer(motd: String, version_name: String, protocol: i32) {
            let answer = PingAnswer { version_name: &version_name, protocol, motd: &motd, online: 1, max: 2 };
            let text = shown(&ping_answer(&LegacyPing::UpTo1_3, &answer));
            prop_assert_eq!(text.split('§').count(), 3);
            let text = shown(&ping_answer(&LegacyPing::Since1_4, &answer));
            prop_assert_eq!(text.split('\0').count(), 6);
        }
    }
}
