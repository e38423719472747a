//! Status packets, from which clients make the entries of their server list:
//! requests, responses, and responses made by the proxy.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::frame::{self, Frame};
use super::lenient::{self, LenientError};
use super::read::{Cursor, ReadError, write_string};
use super::{component, text, version};

/// The most bytes of a status answer's text, and of its JSON. Clients read
/// 32767 characters, which are at most 98301 bytes. The limit is more than twice
/// that, so that the client decides about a longer answer, such as one with a
/// long list of mods.
pub const STATUS_ANSWER_BYTES_MAX: usize = 262_144;
/// The most bytes that the frame of a status answer may announce: the text,
/// its length and the packet id. [`frame::split`]'s limit towards backends.
pub const STATUS_ANSWER_FRAME_BYTES_MAX: usize = STATUS_ANSWER_BYTES_MAX + 4;
/// The most bytes that a client's status frame may announce: a ping's id and
/// number. [`frame::split`]'s limit towards clients.
pub const STATUS_REQUEST_FRAME_BYTES_MAX: usize = 9;

/// The packet id of a request and of the answer to it.
const STATUS_ID: i32 = 0;
/// The packet id of a ping and of the answer to it.
const PING_ID: i32 = 1;

/// A protocol number that no client has.
const NO_PROTOCOL: i32 = -1;
/// The name of the version in our own answers; clients show it only when the
/// protocol number is not theirs.
const VERSION_NAME: &str = "infrarust";

/// A packet of a client in the status state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPacket {
    /// Asks for the entry.
    Request,
    /// Asks for this number back, to measure the time.
    Ping(u64),
}

/// Why a status packet is refused.
#[derive(Debug, Error)]
pub enum StatusError {
    /// A field is malformed, or bytes follow the last.
    #[error("malformed status packet: {0}")]
    Malformed(#[from] ReadError),
    /// A packet that the status state does not have.
    #[error("unknown status packet {0}")]
    UnknownPacket(i32),
    /// The text of the answer is not JSON that a client reads, or is nested too
    /// deeply.
    #[error("the status answer is not a JSON object: {0}")]
    Json(#[from] LenientError),
}

/// The whole frame of a status request.
#[must_use]
pub fn request() -> Vec<u8> {
    frame::write(STATUS_ID, &[])
}

/// The whole frame of a ping, and of the answer to it, which is the same.
#[must_use]
pub fn ping(number: u64) -> Vec<u8> {
    frame::write(PING_ID, &number.to_be_bytes())
}

/// The whole frame of a status answer. `json` stays within
/// [`STATUS_ANSWER_BYTES_MAX`] bytes.
#[must_use]
pub fn response(json: &str) -> Vec<u8> {
    response_with(json, &[])
}

/// As [`response`], with bytes behind the text; see [`Response::behind`].
#[must_use]
pub fn response_with(json: &str, behind: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(json.len() + 3 + behind.len());
    write_string(json, &mut body);
    body.extend_from_slice(behind);
    frame::write(STATUS_ID, &body)
}

/// A backend's answer to a request; its text is not parsed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The bytes of the text; it should be JSON in UTF-8.
    pub text: &'a [u8],
    /// What follows the text in the packet. Server mods append texts there for
    /// the same mod in the client. Only the frame bounds it.
    pub behind: &'a [u8],
}

impl<'a> Response<'a> {
    /// Finds the parts of a status answer.
    ///
    /// # Errors
    ///
    /// When it is another packet, cut off, or its text is over
    /// [`STATUS_ANSWER_BYTES_MAX`] bytes.
    pub fn read(frame: &Frame<'a>) -> Result<Self, StatusError> {
        if frame.id != STATUS_ID {
            return Err(StatusError::UnknownPacket(frame.id));
        }
        let mut cursor = Cursor::new(frame.body);
        let text = cursor.bytes(STATUS_ANSWER_BYTES_MAX)?;
        let behind = cursor.rest();
        Ok(Self { text, behind })
    }

    /// Parses the text like the most tolerant client: bytes that are not
    /// UTF-8 become replacement characters, and [`lenient::object`] reads the rest.
    ///
    /// # Errors
    ///
    /// When no client could read it.
    pub fn parse(&self) -> Result<Value, StatusError> {
        let object = lenient::object(&String::from_utf8_lossy(self.text))?;
        Ok(Value::Object(object))
    }
}

/// Reads a request or a ping of a client.
///
/// # Errors
///
/// When the frame is something else, or has missing or additional bytes.
pub fn parse_question(frame: &Frame<'_>) -> Result<StatusPacket, StatusError> {
    let mut cursor = Cursor::new(frame.body);
    let packet = match frame.id {
        STATUS_ID => StatusPacket::Request,
        PING_ID => StatusPacket::Ping(cursor.u64()?),
        other => return Err(StatusError::UnknownPacket(other)),
    };
    cursor.finish()?;
    Ok(packet)
}

/// Reads a backend's answer to a request: any JSON object; see [`Response`].
///
/// # Errors
///
/// As [`Response::read`] and [`Response::parse`].
pub fn parse_response(frame: &Frame<'_>) -> Result<Value, StatusError> {
    Response::read(frame)?.parse()
}

/// What an operator sets for the answer to a status ping. `None` leaves a part
/// as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Motd {
    /// The description: legacy `§` text, or a JSON text component.
    pub text: Option<String>,
    /// A checked 64 × 64 PNG as a `data:image/png;base64,` URI.
    pub favicon: Option<Bytes>,
    /// The version's name that the client shows when its own version does not fit.
    pub version_name: Option<String>,
    /// The number of slots shown.
    pub max_players: Option<u32>,
}

/// Replaces the parts of a backend's answer that the operator has set.
///
/// `version_name` changes the name alone: the backend's protocol number stays,
/// so that clients whose version fits see the number of players, and all others
/// see the name. An answer that is not an object ([`parse_response`] gives none)
/// stays as it is. The text has the form that clients of `protocol` read.
pub fn overlay(answer: &mut Value, motd: &Motd, protocol: i32) {
    let Value::Object(answer) = answer else {
        return;
    };
    if let Some(text) = &motd.text {
        answer.insert("description".to_owned(), description(text, protocol));
    }
    if let Some(favicon) = motd
        .favicon
        .as_deref()
        .and_then(|uri| std::str::from_utf8(uri).ok())
    {
        answer.insert("favicon".to_owned(), favicon.into());
    }
    if let Some(name) = &motd.version_name {
        set_within(answer, "version", "name", name.as_str().into());
    }
    if let Some(max) = motd.max_players {
        set_within(answer, "players", "max", max.into());
    }
}

/// Puts another number of players into an answer. The names beside it stay.
pub fn set_online(answer: &mut Value, online: usize) {
    if let Value::Object(answer) = answer {
        set_within(answer, "players", "online", online.into());
    }
}

/// A complete answer, for when no backend gives one.
///
/// Its protocol number is normally the client's own, so that the entry looks
/// joinable and shows the number of players. Clients show the version's name only
/// when the number is not theirs: in red, in place of the players, and the entry
/// is marked as incompatible, up to 1.15 as outdated. So a name such as
/// `Maintenance`, which is meant to be read, is sent with the number −1. A name
/// that contains a version of the game, such as `Paper 1.21.4` or `1.8 - 1.21`,
/// is sent with the client's number, so that no client of that version is shown
/// as outdated. Clients can join in either case.
///
/// `fallback_text` is the description when `motd` has none.
#[must_use]
pub fn from_motd(motd: &Motd, protocol: i32, fallback_text: &str) -> Value {
    let shown_protocol = match &motd.version_name {
        Some(name) if !has_game_version(name) => NO_PROTOCOL,
        _ => protocol,
    };
    let mut answer = json!({
        "version": { "name": VERSION_NAME, "protocol": shown_protocol },
        "players": { "max": 0, "online": 0 },
        "description": description(fallback_text, protocol),
    });
    overlay(&mut answer, motd, protocol);
    answer
}

/// The text of an entry, as clients of `protocol` read it. For a number that is
/// not known, the form of the newest version: most unknown clients are newer.
fn description(text: &str, protocol: i32) -> Value {
    let protocol = match version::is_known(protocol) {
        true => protocol,
        false => version::NEWEST,
    };
    component::for_version(&text::component(text), protocol)
}

/// Whether a word in `name` is a version of the game: numbers and an `x` with
/// dots between.
fn has_game_version(name: &str) -> bool {
    let is_part = |part: &str| {
        part.eq_ignore_ascii_case("x")
            || (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .any(|word| {
            let begins_with_digit = word.starts_with(|c: char| c.is_ascii_digit());
            begins_with_digit && word.contains('.') && word.split('.').all(is_part)
        })
}

/// Sets a field of an object inside `parent`, which replaces a value that is not an object.
fn set_within(parent: &mut Map<String, Value>, key: &str, field: &str, value: Value) {
    let mut child = match parent.remove(key) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    child.insert(field.to_owned(), value);
    parent.insert(key.to_owned(), Value::Object(child));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(bytes: &[u8]) -> Frame<'_> {
        frame::split(bytes, STATUS_ANSWER_FRAME_BYTES_MAX)
            .unwrap()
            .unwrap()
    }

    /// Requests and pings are read back; all else is refused.
    #[test]
    fn questions() {
        assert_eq!(request(), [1, 0]);
        assert_eq!(
            parse_question(&first(&request())).unwrap(),
            StatusPacket::Request
        );
        let bytes = ping(u64::MAX - 1);
        assert_eq!(bytes.len(), STATUS_REQUEST_FRAME_BYTES_MAX + 1);
        assert_eq!(
            parse_question(&first(&bytes)).unwrap(),
            StatusPacket::Ping(u64::MAX - 1)
        );
        for (id, len) in [(0, 1), (1, 7), (1, 9), (2, 0), (-1, 0)] {
            let bytes = frame::write(id, &vec![0; len]);
            assert!(parse_question(&first(&bytes)).is_err(), "{id} with {len}");
        }
    }

    /// Answers must begin with one JSON object of bounded size and depth.
    #[test]
    fn responses() {
        let parse = |json: &str| parse_response(&first(&response(json)));
        assert_eq!(parse(r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        assert_eq!(parse("{} x").unwrap(), json!({}));
        for bad in ["", "[]", "\"x\"", "{", "nonsense", "null"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(parse(&deep), Err(StatusError::Json(_))));

        let sized = |len: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(len - 8));
        assert!(parse(&sized(STATUS_ANSWER_BYTES_MAX)).is_ok());
        let over = response(&sized(STATUS_ANSWER_BYTES_MAX + 1));
        assert!(frame::split(&over, STATUS_ANSWER_FRAME_BYTES_MAX).is_err());
        let frame = frame::split(&over, frame::FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        assert!(matches!(
            parse_response(&frame),
            Err(StatusError::Malformed(ReadError::TooLong { .. }))
        ));
        let wrong_id = frame::write(1, &[2, b'{', b'}']);
        assert!(parse_response(&first(&wrong_id)).is_err());
        let short = frame::write(0, &[3, b'{', b'}']);
        assert!(parse_response(&first(&short)).is_err());
    }

    /// What follows the text stays, up to the limit of the frame, and bytes that
    /// are not UTF-8 are read as clients read them.
    #[test]
    fn odd_responses() {
        let bytes = response_with("{}", b"\x03mod");
        let frame = first(&bytes);
        let response = Response::read(&frame).unwrap();
        assert_eq!(
            (response.text, response.behind),
            (&b"{}"[..], &b"\x03mod"[..])
        );
        assert_eq!(response.parse().unwrap(), json!({}));

        let not_utf8 = frame::write(0, b"\x09{\"a\":\"\xff\"}");
        let parsed = parse_response(&first(&not_utf8)).unwrap();
        assert_eq!(parsed, json!({"a": "\u{fffd}"}));

        let behind = vec![0; STATUS_ANSWER_BYTES_MAX];
        let bytes = response_with("{}", &behind);
        assert!(frame::split(&bytes, STATUS_ANSWER_FRAME_BYTES_MAX).is_ok());
        let bytes = response_with("{}", &[&behind[..], &[0, 0]].concat());
        assert!(frame::split(&bytes, STATUS_ANSWER_FRAME_BYTES_MAX).is_err());
    }

    /// Each key of a MOTD replaces its part, and an empty MOTD changes nothing.
    #[test]
    fn overlays() {
        let backend = json!({
            "version": {"name": "1.20", "protocol": 763},
            "players": {"max": 20, "online": 3, "sample": []},
            "description": "old",
            "forgeData": {"d": "x"},
        });
        let mut answer = backend.clone();
        overlay(&mut answer, &Motd::default(), 763);
        assert_eq!(answer, backend);

        let motd = Motd {
            text: Some("§athe other".into()),
            favicon: Some(Bytes::from_static(b"data:image/png;base64,AA==")),
            version_name: Some("net".into()),
            max_players: Some(7),
        };
        overlay(&mut answer, &motd, 763);
        assert_eq!(
            answer,
            json!({
                "version": {"name": "net", "protocol": 763},
                "players": {"max": 7, "online": 3, "sample": []},
                "description": {"text": "§athe other"},
                "favicon": "data:image/png;base64,AA==",
                "forgeData": {"d": "x"},
            })
        );

        let mut odd = json!({"version": 3, "players": []});
        overlay(&mut odd, &motd, 763);
        assert_eq!(odd["version"], json!({"name": "net"}));
        assert_eq!(odd["players"], json!({"max": 7}));
    }

    /// Our own answer fits every client, or shows the operator's version name.
    #[test]
    fn own_answers() {
        let answer = from_motd(&Motd::default(), 47, "asleep");
        assert_eq!(answer["version"]["protocol"], 47);
        assert_eq!(answer["description"]["text"], "asleep");
        assert_eq!(answer["players"], json!({"max": 0, "online": 0}));

        let motd = Motd {
            text: Some(r#"{"text":"x","bold":true}"#.into()),
            version_name: Some("Maintenance".into()),
            ..Motd::default()
        };
        let answer = from_motd(&motd, 47, "asleep");
        assert_eq!(
            answer["version"],
            json!({"name": "Maintenance", "protocol": -1})
        );
        assert_eq!(answer["description"], json!({"text": "x", "bold": true}));
        // Colours without a name came with 1.16.
        let motd = Motd {
            text: Some(r##"{"text":"x","color":"#ffa900"}"##.into()),
            ..Motd::default()
        };
        let colour = |protocol| from_motd(&motd, protocol, "")["description"]["color"].clone();
        assert_eq!(
            (colour(578), colour(735)),
            (json!("gold"), json!("#ffa900"))
        );
    }

    /// A version name that contains a version of the game keeps the client's
    /// number; any other name is shown.
    #[test]
    fn version_names() {
        for (name, protocol) in [
            ("1.21", 47),
            ("Paper 1.21.4", 47),
            ("1.8-1.20.x", 47),
            ("Requires 1.8/1.21", 47),
            ("Maintenance", -1),
            ("§cOffline", -1),
            ("back at 20:30", -1),
            ("v2", -1),
            ("see play.example.com", -1),
            ("3 ...", -1),
            ("from 1.2026 on", -1),
        ] {
            let motd = Motd {
                version_name: Some(name.into()),
                ..Motd::default()
            };
            let answer = from_motd(&motd, 47, "");
            assert_eq!(answer["version"]["protocol"], protocol, "{name}");
            assert_eq!(answer["version"]["name"], name);
        }
    }

    proptest! {
        /// No bytes make a parser panic.
        #[test]
        fn any_bytes(id in -1..3, body: Vec<u8>) {
            let frame = Frame { id, body: &body, wire_bytes: 0 };
            let _ = (parse_question(&frame), parse_response(&frame));
        }
    }
}
