//! The packets of a login that the forwarding modes read and write: the login
//! start, the disconnect, and the first packet of the backend.
//!
//! Unlike [`packet::login`](super::packet::login) this accepts every protocol
//! number, snapshots and future versions included: a forwarding mode need not
//! know the version.

use md5::{Digest, Md5};
use thiserror::Error;

use super::frame::{self, FRAME_BYTES_MAX, FrameError};
use super::read::{Cursor, ReadError, write_string};
use super::{component, text, version};

/// The packet id of the login start.
pub const LOGIN_START_ID: i32 = 0;
/// The most characters of a player's name (the game since 1.7.2).
pub const NAME_CHARS_MAX: usize = 16;

/// The most bytes of the public key in a login start of 1.19 to 1.19.2.
const KEY_BYTES_MAX: usize = 512;
/// The most bytes of that key's signature.
const SIGNATURE_BYTES_MAX: usize = 4096;
/// Room in a login start for fields of versions that are newer than this code.
const NEW_FIELDS_BYTES_MAX: usize = 1024;
/// The most bytes of an encryption request: its key is one of 1024 bits (162
/// bytes) and its token four bytes; this leaves room for keys of 8192 bits.
const ENCRYPTION_REQUEST_BYTES_MAX: usize = 2048;
/// The most characters of the server id in an encryption request.
const SERVER_ID_CHARS_MAX: usize = 20;
/// The packet id of a clientbound login disconnect.
const DISCONNECT_ID: i32 = 0;

/// The most bytes, packet id included, that the login start of a version may
/// announce: [`frame::split`]'s limit.
#[must_use]
pub const fn login_start_bytes_max(protocol: i32) -> usize {
    // Packet id and name: a character of the basic plane has up to three bytes.
    const NAMED: usize = 1 + 1 + 3 * NAME_CHARS_MAX;
    const KEY: usize = 1 + 8 + 2 + KEY_BYTES_MAX + 2 + SIGNATURE_BYTES_MAX;
    const UUID: usize = 1 + 16;
    match Layout::of(protocol) {
        Layout::Name => NAMED,
        Layout::NameKey => NAMED + KEY,
        Layout::NameKeyUuid => NAMED + KEY + UUID,
        Layout::NameMaybeUuid | Layout::NameUuid => NAMED + UUID,
        // A snapshot may belong to the versions with a key.
        Layout::Newer | Layout::Snapshot => NAMED + KEY + UUID + NEW_FIELDS_BYTES_MAX,
    }
}

/// The fields of a login start, by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Name,
    NameKey,
    NameKeyUuid,
    NameMaybeUuid,
    NameUuid,
    /// Those of the newest known version, and perhaps more.
    Newer,
    /// A name; the other fields are not known.
    Snapshot,
}

impl Layout {
    const fn of(protocol: i32) -> Self {
        match protocol {
            ..version::V1_19 => Layout::Name,
            version::V1_19 => Layout::NameKey,
            version::V1_19_1 => Layout::NameKeyUuid,
            version::V1_19_3..version::V1_20_2 => Layout::NameMaybeUuid,
            version::V1_20_2..=version::NEWEST => Layout::NameUuid,
            _ if version::is_snapshot(protocol) => Layout::Snapshot,
            _ => Layout::Newer,
        }
    }
}

/// The player that a client claims to be, without any proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginStart {
    /// The name: 1 to [`NAME_CHARS_MAX`] characters, of any kind.
    pub name: String,
    /// The player id, where the version has one and the client sent it.
    pub uuid: Option<[u8; 16]>,
}

/// Why a login start is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// A field is malformed, or bytes follow the last.
    #[error("malformed login start: {0}")]
    Malformed(#[from] ReadError),
    /// The name is empty or over [`NAME_CHARS_MAX`] characters.
    #[error("a player's name has 1 to {NAME_CHARS_MAX} characters")]
    NameLength,
}

impl LoginStart {
    /// Reads the body of a login start, the fields after the packet id.
    ///
    /// Versions newer than [`version::NEWEST`] are read like it, and may have
    /// further fields. For snapshots only the name is read, and a player id if
    /// exactly as many bytes follow.
    ///
    /// # Errors
    ///
    /// See [`LoginError`].
    pub fn parse(protocol: i32, body: &[u8]) -> Result<Self, LoginError> {
        let mut cursor = Cursor::new(body);
        let name = match cursor.string(NAME_CHARS_MAX) {
            Err(ReadError::TooLong { .. }) => return Err(LoginError::NameLength),
            other => other?,
        };
        if name.is_empty() {
            return Err(LoginError::NameLength);
        }
        let layout = Layout::of(protocol);
        if matches!(layout, Layout::NameKey | Layout::NameKeyUuid) && cursor.bool()? {
            let _expiry = cursor.u64()?;
            let _key = cursor.bytes(KEY_BYTES_MAX)?;
            let _signature = cursor.bytes(SIGNATURE_BYTES_MAX)?;
        }
        let has_uuid = match layout {
            Layout::Name | Layout::NameKey => false,
            Layout::NameKeyUuid | Layout::NameMaybeUuid => cursor.bool()?,
            Layout::NameUuid | Layout::Newer => true,
            Layout::Snapshot => cursor.remaining() == 16,
        };
        let uuid = if has_uuid { Some(cursor.uuid()?) } else { None };
        if !matches!(layout, Layout::Newer | Layout::Snapshot) {
            cursor.finish()?;
        }
        Ok(Self {
            name: name.to_owned(),
            uuid,
        })
    }

    /// The whole frame, as this version of the game sends it without a key.
    #[must_use]
    pub fn encode(&self, protocol: i32) -> Vec<u8> {
        let mut body = Vec::new();
        write_string(&self.name, &mut body);
        let layout = Layout::of(protocol);
        if matches!(layout, Layout::NameKey | Layout::NameKeyUuid) {
            body.push(0);
        }
        match (layout, self.uuid) {
            (Layout::Name | Layout::NameKey, _) => {}
            (Layout::NameKeyUuid | Layout::NameMaybeUuid, None) => body.push(0),
            (Layout::NameKeyUuid | Layout::NameMaybeUuid, Some(uuid)) => {
                body.push(1);
                body.extend_from_slice(&uuid);
            }
            (Layout::NameUuid | Layout::Newer | Layout::Snapshot, uuid) => {
                // These versions always send one.
                body.extend_from_slice(&uuid.unwrap_or_else(|| offline_uuid(&self.name)));
            }
        }
        frame::write(LOGIN_START_ID, &body)
    }
}

/// The whole frame that ends a login and shows `text` to the player.
///
/// In the login state the text is a JSON component in every version, also in
/// those that use NBT elsewhere (since 1.20.3); its keys are those that the
/// version reads. A literal text is cut after 5000 characters.
#[must_use]
pub fn disconnect(protocol: i32, text: &str) -> Vec<u8> {
    let component = text::bounded_component(text);
    let mut json = component::for_version(&component, protocol).to_string();
    if json.len() > component::JSON_CHARS_MAX_BEFORE_1_13 {
        // The form of this version is longer than the component itself.
        let shortened = text::shortened(&component);
        json = component::for_version(&shortened, protocol).to_string();
    }
    let mut body = Vec::new();
    write_string(&json, &mut body);
    frame::write(DISCONNECT_ID, &body)
}

/// The player id that servers without authentication give to a name: a UUID of
/// version 3 over `OfflinePlayer:` and the name.
#[must_use]
pub fn offline_uuid(name: &str) -> [u8; 16] {
    let mut hash = Md5::new();
    hash.update(b"OfflinePlayer:");
    hash.update(name.as_bytes());
    let mut id: [u8; 16] = hash.finalize().into();
    // Version and variant (RFC 9562, section 5.3).
    id[6] = (id[6] & 0x0F) | 0x30;
    id[8] = (id[8] & 0x3F) | 0x80;
    id
}

/// The first answer of a backend to a login start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAnswer {
    /// It wants encryption.
    EncryptionRequest {
        /// Whether it also asks the session server who the player is. Before
        /// 1.20.5 encryption means that it does.
        authenticates: bool,
    },
    /// It refuses the player.
    Disconnect,
    /// It lets the player in, without authentication.
    LoginSuccess,
    /// It begins to compress, without authentication, which would come before.
    SetCompression,
    /// It asks something of the client's mods or of a proxy.
    PluginRequest,
    /// It asks for a cookie.
    CookieRequest,
    /// A packet that the login of this version does not have.
    Unknown(i32),
}

/// Reads the first answer of a backend from the bytes that it has sent so far:
/// the answer and the length of its frame in the stream, in bytes. `None` when
/// more bytes are needed.
///
/// Only an encryption request of 1.20.5 and later must arrive completely, because
/// its last field is needed. Of all others, some of which may be up to 1 MiB
/// long, the packet id is enough.
///
/// # Errors
///
/// When the bytes are not a frame, or the encryption request is malformed or too
/// long.
pub fn first_answer(protocol: i32, buf: &[u8]) -> Result<Option<(FirstAnswer, usize)>, FrameError> {
    let Some(head) = frame::head(buf, FRAME_BYTES_MAX)? else {
        return Ok(None);
    };
    let Some((id, _)) = frame::id(buf, head)? else {
        return Ok(None);
    };
    let answer = match id {
        0 => FirstAnswer::Disconnect,
        1 if protocol >= version::V1_20_5 => {
            let Some(frame) = frame::split(buf, ENCRYPTION_REQUEST_BYTES_MAX)? else {
                return Ok(None);
            };
            FirstAnswer::EncryptionRequest {
                authenticates: should_authenticate(protocol, frame.body)?,
            }
        }
        1 => FirstAnswer::EncryptionRequest {
            authenticates: true,
        },
        2 => FirstAnswer::LoginSuccess,
        3 if protocol >= version::V1_8 => FirstAnswer::SetCompression,
        4 if protocol >= version::V1_13 => FirstAnswer::PluginRequest,
        5 if protocol >= version::V1_20_5 => FirstAnswer::CookieRequest,
        other => FirstAnswer::Unknown(other),
    };
    Ok(Some((answer, head.wire_bytes())))
}

/// The last field of an encryption request since 1.20.5.
fn should_authenticate(protocol: i32, body: &[u8]) -> Result<bool, ReadError> {
    let mut cursor = Cursor::new(body);
    cursor.string(SERVER_ID_CHARS_MAX)?;
    cursor.bytes(ENCRYPTION_REQUEST_BYTES_MAX)?;
    cursor.bytes(ENCRYPTION_REQUEST_BYTES_MAX)?;
    if cursor.remaining() == 0 && version::is_snapshot(protocol) {
        // A snapshot from before the field.
        return Ok(true);
    }
    cursor.bool()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::varint;
    use super::*;

    const ID: [u8; 16] = [7; 16];
    const SNAPSHOT: i32 = 0x4000_0100;

    fn named(name: &str) -> Vec<u8> {
        let mut body = Vec::new();
        write_string(name, &mut body);
        body
    }

    fn key(key_bytes: usize, signature_bytes: usize) -> Vec<u8> {
        let mut body = vec![1];
        body.extend_from_slice(&[0; 8]);
        for len in [key_bytes, signature_bytes] {
            varint::encode_len(len, &mut body);
            body.resize(body.len() + len, 9);
        }
        body
    }

    fn encryption_request(key: &[u8], authenticates: Option<bool>) -> Vec<u8> {
        let mut body = Vec::new();
        write_string("", &mut body);
        for bytes in [key, &[1, 2, 3, 4]] {
            varint::encode_len(bytes.len(), &mut body);
            body.extend_from_slice(bytes);
        }
        body.extend(authenticates.map(u8::from));
        frame::write(1, &body)
    }

    /// Every layout of the login start is read, and nothing shorter or longer.
    #[test]
    fn layouts_by_version() {
        let name = named("Steve");
        let some_id = [&[1][..], &ID].concat();
        // versions, what follows the name, whether there is an id
        let table: &[(&[i32], Vec<u8>, bool)] = &[
            (&[4, 5, 47, 340, 393, 758], vec![], false),
            (&[759], vec![0], false),
            (&[759], key(294, 512), false),
            (&[760], vec![0, 0], false),
            (&[760], [&[0][..], &some_id].concat(), true),
            (&[760], [&key(294, 512)[..], &some_id].concat(), true),
            (&[761, 762, 763], vec![0], false),
            (&[761, 762, 763], some_id.clone(), true),
            (&[764, 765, 766, 767, 770, 774], ID.to_vec(), true),
        ];
        for (versions, rest, has_id) in table {
            for protocol in *versions {
                let body = [&name[..], rest].concat();
                let parsed = LoginStart::parse(*protocol, &body).unwrap();
                assert_eq!(parsed.name, "Steve");
                assert_eq!(parsed.uuid, has_id.then_some(ID), "{protocol}");
                for cut in 0..body.len() {
                    let short = LoginStart::parse(*protocol, &body[..cut]);
                    assert!(short.is_err(), "{protocol} cut at {cut}");
                }
                assert_eq!(
                    LoginStart::parse(*protocol, &[&body[..], &[0]].concat()),
                    Err(LoginError::Malformed(ReadError::Trailing(1)))
                );
            }
        }
    }

    /// Future versions may have more fields after the known ones.
    #[test]
    fn unknown_versions_may_have_more_fields() {
        let known = [named("Alex"), ID.to_vec()].concat();
        let more = [&known[..], &[1, 2, 3]].concat();
        for protocol in [version::NEWEST + 1, 5000] {
            assert_eq!(LoginStart::parse(protocol, &known).unwrap().uuid, Some(ID));
            assert_eq!(LoginStart::parse(protocol, &more).unwrap().uuid, Some(ID));
            assert!(LoginStart::parse(protocol, &named("Alex")).is_err());
        }
        assert_eq!(LoginStart::parse(SNAPSHOT, &known).unwrap().uuid, Some(ID));
        assert_eq!(LoginStart::parse(SNAPSHOT, &more).unwrap().uuid, None);
        assert_eq!(
            LoginStart::parse(SNAPSHOT, &named("Alex")).unwrap().name,
            "Alex"
        );
    }

    /// Names have 1 to 16 characters, counted as the game counts.
    #[test]
    fn name_limits() {
        let table = [
            (String::new(), false),
            ("a".to_owned(), true),
            ("a".repeat(16), true),
            ("a".repeat(17), false),
            ("例".repeat(16), true),
            ("😀".repeat(8), true),
            ("😀".repeat(9), false),
            ("😀".repeat(16), false),
        ];
        for (name, fits) in table {
            let parsed = LoginStart::parse(47, &named(&name));
            assert_eq!(parsed.is_ok(), fits, "{name}");
            if !fits {
                assert_eq!(parsed, Err(LoginError::NameLength));
            }
        }
    }

    /// The largest login start of a version fits its bound, and the arrays in
    /// it cannot be larger.
    #[test]
    fn largest_login_starts() {
        let name = named(&"例".repeat(16));
        let full = [&name[..], &key(512, 4096), &[1], &ID].concat();
        assert!(LoginStart::parse(760, &full).is_ok());
        assert_eq!(full.len() + 1, login_start_bytes_max(760));
        for over in [key(513, 4096), key(512, 4097)] {
            let body = [&name[..], &over, &[0]].concat();
            assert!(LoginStart::parse(760, &body).is_err());
        }
        assert_eq!(name.len() + 1, login_start_bytes_max(47));
        assert!(login_start_bytes_max(SNAPSHOT) > login_start_bytes_max(760));
    }

    /// The disconnect is JSON, whatever the text, and never too long to show.
    #[test]
    fn disconnects_are_json() {
        let read = |text: &str| {
            let bytes = disconnect(47, text);
            let frame = frame::split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            assert_eq!(frame.id, 0);
            let mut cursor = Cursor::new(frame.body);
            let json: serde_json::Value =
                serde_json::from_str(cursor.string(32_767).unwrap()).unwrap();
            cursor.finish().unwrap();
            json
        };
        assert_eq!(
            read("§cfull \"now\"\n"),
            serde_json::json!({"text": "§cfull \"now\"\n"})
        );
        assert_eq!(
            read(r#"{"text":"x","color":"red"}"#),
            serde_json::json!({"text": "x", "color": "red"})
        );
        // 1.8 has other keys, and no such colour.
        assert_eq!(
            read(
                r##"{"text":"x","color":"#fe0000","click_event":{"action":"open_url","url":"https://u"}}"##
            ),
            serde_json::json!({
                "text": "x",
                "color": "dark_red",
                "clickEvent": {"action": "open_url", "value": "https://u"},
            })
        );
        let cut = read(&"\u{1}".repeat(40_000));
        assert_eq!(cut["text"].as_str().unwrap().len(), text::BOUNDED_CHARS_MAX);
    }

    /// The well-known id of a well-known name.
    #[test]
    fn offline_ids() {
        let hex: String = offline_uuid("Notch")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "b50ad385829d3141a2167e7d7539ba7f");
    }

    /// The first answer is recognized by its packet id, as the version numbers them.
    #[test]
    fn first_answers() {
        use FirstAnswer::{
            CookieRequest, Disconnect, EncryptionRequest, LoginSuccess, PluginRequest,
            SetCompression, Unknown,
        };
        let authenticates = true;
        let table = [
            (47, 0, Disconnect),
            (47, 1, EncryptionRequest { authenticates }),
            (765, 1, EncryptionRequest { authenticates }),
            (47, 2, LoginSuccess),
            (5, 3, Unknown(3)),
            (47, 3, SetCompression),
            (340, 4, Unknown(4)),
            (393, 4, PluginRequest),
            (765, 5, Unknown(5)),
            (766, 5, CookieRequest),
            (766, 6, Unknown(6)),
            (766, -1, Unknown(-1)),
        ];
        for (protocol, id, answer) in table {
            let bytes = frame::write(id, &[0; 8]);
            assert_eq!(
                first_answer(protocol, &bytes),
                Ok(Some((answer, bytes.len())))
            );
        }
    }

    /// The first four bytes are enough to recognize a plugin request of 1 MiB.
    #[test]
    fn long_answers_need_not_arrive() {
        let bytes = frame::write(4, &vec![0; 1 << 20]);
        for cut in 0..4 {
            assert_eq!(first_answer(767, &bytes[..cut]), Ok(None));
        }
        assert_eq!(
            first_answer(767, &bytes[..4]),
            Ok(Some((FirstAnswer::PluginRequest, bytes.len())))
        );
    }

    /// Since 1.20.5 the last field says whether encryption authenticates.
    #[test]
    fn encryption_without_authentication() {
        for authenticates in [true, false] {
            let bytes = encryption_request(&[5; 162], Some(authenticates));
            let answer = FirstAnswer::EncryptionRequest { authenticates };
            for cut in 0..bytes.len() {
                assert_eq!(first_answer(766, &bytes[..cut]), Ok(None));
            }
            assert_eq!(first_answer(766, &bytes), Ok(Some((answer, bytes.len()))));
        }
        let old = encryption_request(&[5; 162], None);
        assert_eq!(
            first_answer(766, &old),
            Err(FrameError::Body(ReadError::Short))
        );
        assert_eq!(
            first_answer(SNAPSHOT, &old).unwrap().unwrap().0,
            FirstAnswer::EncryptionRequest {
                authenticates: true
            }
        );
        let huge = encryption_request(&[5; 4000], Some(true));
        assert!(matches!(
            first_answer(766, &huge[..10]),
            Err(FrameError::TooBig { .. })
        ));
    }

    proptest! {
        /// What is written is read back in every version.
        #[test]
        fn round_trip(protocol in 0..800, name in "[a-zA-Z0-9_]{1,16}", id: [u8; 16]) {
            let sent = LoginStart { name, uuid: Some(id) };
            let bytes = sent.encode(protocol);
            let frame = frame::split(&bytes, login_start_bytes_max(protocol)).unwrap().unwrap();
            let read = LoginStart::parse(protocol, frame.body).unwrap();
            prop_assert_eq!(&read.name, &sent.name);
            prop_assert_eq!(read.uuid.is_some(), protocol >= version::V1_19_1);
        }

        /// No bytes make a parser panic, in any version.
        #[test]
        fn any_bytes(protocol: i32, known in 0..800, bytes: Vec<u8>) {
            for protocol in [protocol, known] {
                let _ = LoginStart::parse(protocol, &bytes);
                let _ = first_answer(protocol, &bytes);
            }
        }
    }
}
