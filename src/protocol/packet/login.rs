//! The packets of the login state that the intercepted modes write and read on both
//! sides.
//!
//! A packet is its id and its fields, without the frame. The layouts by version
//! are those of the game, 1.7.2 (protocol 4) to 26.3 (777).

use thiserror::Error;

use super::super::read::{Cursor, ReadError, write_string};
use super::super::uuid::{uuid_from_text, uuid_text};
use super::super::varint;
use super::super::version::{
    V1_8, V1_16, V1_19, V1_19_1, V1_19_3, V1_20_2, V1_20_5, V1_21_2, V26_2,
};
use super::{Clientbound, Kind, Serverbound, State, Version};
use crate::protocol::login::NAME_CHARS_MAX;

/// The most bytes of the secret and of the token in an encryption response: enough
/// for a key of 4096 bits.
const RSA_BYTES_MAX: usize = 512;
/// The most characters of a channel's or a cookie's name.
pub const IDENTIFIER_CHARS_MAX: usize = 32_767;
/// The most bytes after the channel of a login plugin request (1 MiB, the game).
pub const PLUGIN_REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of a cookie (the game since 1.20.5).
pub const COOKIE_BYTES_MAX: usize = 5120;

/// Who a player is, according to the session service or a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The player id.
    pub uuid: [u8; 16],
    /// The name: 1 to 16 characters.
    pub name: String,
    /// Signed values such as the skin.
    pub properties: Vec<Property>,
}

/// A value of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name, such as `textures`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The signature over the value, in base 64.
    pub signature: Option<String>,
}

/// A packet with its id and no fields yet. The version must have it in the login
/// state.
fn begin<K: Kind>(version: Version, kind: K) -> Vec<u8> {
    let id = version.id(State::Login, kind);
    debug_assert!(id.is_some(), "no such packet in {}", version.games());
    vec![id.unwrap_or_default()]
}

/// Appends the length of some bytes, 16 bits in 1.7 and a VarInt since, and the bytes.
fn write_array(version: Version, bytes: &[u8], out: &mut Vec<u8>) {
    if version.protocol() < V1_8 {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        varint::encode_len(bytes.len(), out);
    }
    out.extend_from_slice(bytes);
}

fn read_array<'a>(
    version: Version,
    cursor: &mut Cursor<'a>,
    bytes_max: usize,
) -> Result<&'a [u8], ReadError> {
    if version.protocol() >= V1_8 {
        return cursor.bytes(bytes_max);
    }
    let length = usize::from(cursor.u16()?);
    if length > bytes_max {
        return Err(ReadError::TooLong { max: bytes_max });
    }
    cursor.take(length)
}

/// Asks the client to encrypt: our public key (DER of a `SubjectPublicKeyInfo`)
/// and the token that it has to return.
#[must_use]
pub fn encryption_request(version: Version, key: &[u8], token: &[u8]) -> Vec<u8> {
    let mut out = begin(version, Clientbound::EncryptionRequest);
    // The server id: empty, as in the game since 1.7.
    write_string("", &mut out);
    write_array(version, key, &mut out);
    write_array(version, token, &mut out);
    if version.protocol() >= V1_20_5 {
        // The client has to call the session service.
        out.push(1);
    }
    out
}

/// A client's answer to an [`encryption_request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionResponse<'a> {
    /// The shared secret, encrypted with our key.
    pub secret: &'a [u8],
    /// The proof that it answers this request.
    pub proof: Proof<'a>,
}

/// The second part of an encryption response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof<'a> {
    /// The token, encrypted with our key.
    Token(&'a [u8]),
    /// A signature over token and salt by the player's own key: 1.19 to 1.19.2.
    Signature {
        /// Was signed together with the token, after it.
        salt: [u8; 8],
        /// SHA256withRSA.
        signature: &'a [u8],
    },
}

impl<'a> EncryptionResponse<'a> {
    /// Reads the fields after the packet id.
    ///
    /// # Errors
    ///
    /// When a field is malformed, or bytes follow the last.
    pub fn parse(version: Version, fields: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(fields);
        let secret = read_array(version, &mut cursor, RSA_BYTES_MAX)?;
        let signed = (V1_19..V1_19_3).contains(&version.protocol()) && !cursor.bool()?;
        let proof = if signed {
            Proof::Signature {
                salt: cursor.u64()?.to_be_bytes(),
                signature: cursor.bytes(RSA_BYTES_MAX)?,
            }
        } else {
            Proof::Token(read_array(version, &mut cursor, RSA_BYTES_MAX)?)
        };
        cursor.finish()?;
        Ok(Self { secret, proof })
    }
}

/// Switches compression on, beginning with the next frame.
#[must_use]
pub fn set_compression(version: Version, threshold: i32) -> Vec<u8> {
    let mut out = begin(version, Clientbound::SetCompression);
    varint::encode(threshold, &mut out);
    out
}

/// Reads the fields of a Set Compression packet.
///
/// # Errors
///
/// When the threshold is malformed, or bytes follow it.
pub fn parse_set_compression(fields: &[u8]) -> Result<i32, ReadError> {
    let mut cursor = Cursor::new(fields);
    let threshold = cursor.varint()?;
    cursor.finish()?;
    Ok(threshold)
}

/// The packet that ends a successful login.
///
/// `session` is the id of the proxy's session, which the packet has since 26.2.
#[must_use]
pub fn login_success(version: Version, profile: &Profile, session: [u8; 16]) -> Vec<u8> {
    let protocol = version.protocol();
    let mut out = begin(version, Clientbound::LoginSuccess);
    if protocol >= V1_16 {
        out.extend_from_slice(&profile.uuid);
    } else {
        // 1.7.2 to 1.7.5 read it without dashes.
        write_string(&uuid_text(profile.uuid, protocol > 4), &mut out);
    }
    write_string(&profile.name, &mut out);
    if protocol >= V1_19 {
        write_properties(&profile.properties, &mut out);
    }
    if (V1_20_5..V1_21_2).contains(&protocol) {
        // Whether the client disconnects at a packet that it cannot read; the game
        // sends true.
        out.push(1);
    }
    if protocol >= V26_2 {
        out.extend_from_slice(&session);
    }
    out
}

/// Reads the player id and the name of a backend's login success. The fields after
/// them are ignored.
///
/// # Errors
///
/// When a field is malformed.
pub fn parse_login_success(
    version: Version,
    fields: &[u8],
) -> Result<([u8; 16], String), ReadError> {
    let mut cursor = Cursor::new(fields);
    let uuid = if version.protocol() >= V1_16 {
        cursor.uuid()?
    } else {
        uuid_from_text(cursor.string(36)?).unwrap_or_default()
    };
    Ok((uuid, cursor.string(NAME_CHARS_MAX)?.to_owned()))
}

/// Appends the properties of a profile in the form of packets since 1.19.
pub fn write_properties(properties: &[Property], out: &mut Vec<u8>) {
    varint::encode_len(properties.len(), out);
    for property in properties {
        write_string(&property.name, out);
        write_string(&property.value, out);
        match &property.signature {
            None => out.push(0),
            Some(signature) => {
                out.push(1);
                write_string(signature, out);
            }
        }
    }
}

/// The answer of a client to a request for a cookie, which has this form in all states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieAnswer<'a> {
    /// The name of the cookie.
    pub name: &'a str,
    /// `None` if the client does not have it.
    pub cookie: Option<&'a [u8]>,
}

impl<'a> CookieAnswer<'a> {
    /// Reads an answer from the fields of its packet.
    ///
    /// # Errors
    ///
    /// When it is cut off or too long.
    pub fn parse(fields: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(fields);
        let name = cursor.string(IDENTIFIER_CHARS_MAX)?;
        let cookie = match cursor.bool()? {
            true => Some(cursor.bytes(COOKIE_BYTES_MAX)?),
            false => None,
        };
        Ok(Self { name, cookie })
    }
}

/// A backend's login plugin request, to the proxy or to the client's mods (1.13 and later).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRequest<'a> {
    /// The number that the response has to repeat.
    pub message_id: i32,
    /// The channel, such as `velocity:player_info`.
    pub channel: &'a str,
    /// The content, in a form that depends on the channel.
    pub payload: &'a [u8],
}

impl<'a> PluginRequest<'a> {
    /// Reads the fields after the packet id.
    ///
    /// # Errors
    ///
    /// When a field is malformed, or the payload is too long.
    pub fn parse(fields: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(fields);
        let message_id = cursor.varint()?;
        let channel = cursor.string(IDENTIFIER_CHARS_MAX)?;
        let payload = cursor.take(cursor.remaining())?;
        if payload.len() > PLUGIN_REQUEST_BYTES_MAX {
            return Err(ReadError::TooLong {
                max: PLUGIN_REQUEST_BYTES_MAX,
            });
        }
        Ok(Self {
            message_id,
            channel,
            payload,
        })
    }
}

/// The response to a [`PluginRequest`]; `None` means that it was not understood.
#[must_use]
pub fn plugin_response(version: Version, message_id: i32, payload: Option<&[u8]>) -> Vec<u8> {
    let mut out = begin(version, Serverbound::LoginPluginResponse);
    varint::encode(message_id, &mut out);
    out.push(u8::from(payload.is_some()));
    out.extend_from_slice(payload.unwrap_or_default());
    out
}

/// The message id that a client's plugin response repeats.
///
/// # Errors
///
/// When it is malformed.
pub fn parse_plugin_response(fields: &[u8]) -> Result<i32, ReadError> {
    Cursor::new(fields).varint()
}

/// The packet that acknowledges a server's login success: 1.20.2 and later.
#[must_use]
pub fn login_acknowledged(version: Version) -> Vec<u8> {
    begin(version, Serverbound::LoginAcknowledged)
}

/// A login start from the proxy to a backend. `key` has the fields of the signed
/// key, 1.19 to 1.19.2.
#[must_use]
pub fn login_start(version: Version, name: &str, uuid: [u8; 16], key: Option<&[u8]>) -> Vec<u8> {
    let protocol = version.protocol();
    let mut out = begin(version, Serverbound::LoginStart);
    write_string(name, &mut out);
    if (V1_19..V1_19_3).contains(&protocol) {
        match key {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                out.extend_from_slice(key);
            }
        }
    }
    if protocol >= V1_20_2 {
        out.extend_from_slice(&uuid);
    } else if protocol >= V1_19_1 {
        out.push(1);
        out.extend_from_slice(&uuid);
    }
    out
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// It is empty or too long.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters")]
    Length,
    /// It has a character that is not allowed in names.
    #[error("the name has a character that is not allowed")]
    Characters,
}

/// Checks a player's name. A server that authenticates accepts the names that
/// accounts of the game can have: 1 to 16 letters, digits and underscores. Any other
/// accepts 1 to 16 visible ASCII characters except `/` and `\\`.
///
/// # Errors
///
/// When the length or a character is not allowed.
pub fn check_name(name: &str, authenticated: bool) -> Result<(), NameError> {
    let length = name.encode_utf16().count();
    if length == 0 || length > NAME_CHARS_MAX {
        return Err(NameError::Length);
    }
    let takes = |c: char| match authenticated {
        true => c.is_ascii_alphanumeric() || c == '_',
        // Plugins of backends use names as file names.
        false => c.is_ascii_graphic() && !matches!(c, '/' | '\\'),
    };
    match name.chars().all(takes) {
        true => Ok(()),
        false => Err(NameError::Characters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [
        0x06, 0x9a, 0x79, 0xf4, 0x44, 0xe9, 0x47, 0x26, 0xa5, 0xbe, 0xfc, 0xa9, 0x0e, 0x38, 0xaa,
        0xf5,
    ];

    fn version(protocol: i32) -> Version {
        Version::of(protocol).unwrap()
    }

    fn profile(properties: Vec<Property>) -> Profile {
        Profile {
            uuid: ID,
            name: "Notch".to_owned(),
            properties,
        }
    }

    /// A login success that was captured from an offline server of 26.2.
    #[test]
    fn login_success_of_26_2() {
        let profile = Profile {
            uuid: u128::to_be_bytes(0xc25a_55d3_1da9_30c0_b9b6_e004_bd8f_b3c8),
            name: "WarpCapture".to_owned(),
            properties: Vec::new(),
        };
        let session = u128::to_be_bytes(0x996f_7370_c567_4490_a666_d390_0fcd_81fc);
        let expected = [&[2][..], &profile.uuid, b"\x0bWarpCapture\0", &session].concat();
        assert_eq!(login_success(version(776), &profile, session), expected);
    }

    /// Every layout of the login success is written and read back.
    #[test]
    fn login_success_by_version() {
        let dashed = b"\x24069a79f4-44e9-4726-a5be-fca90e38aaf5\x05Notch";
        let table: &[(&[i32], Vec<u8>)] = &[
            (
                &[4],
                b"\x20069a79f444e94726a5befca90e38aaf5\x05Notch".to_vec(),
            ),
            (&[5, 47, 340, 393, 578], dashed.to_vec()),
            (&[735, 758], [&ID[..], b"\x05Notch"].concat()),
            (&[759, 765], [&ID[..], b"\x05Notch\0"].concat()),
            (&[766, 767], [&ID[..], b"\x05Notch\0\x01"].concat()),
            (&[768, 775], [&ID[..], b"\x05Notch\0"].concat()),
            (&[777], [&ID[..], b"\x05Notch\0", &[9; 16]].concat()),
        ];
        for (versions, fields) in table {
            for protocol in *versions {
                let version = version(*protocol);
                let packet = login_success(version, &profile(Vec::new()), [9; 16]);
                assert_eq!(packet[0], 2);
                assert_eq!(packet[1..], fields[..], "{protocol}");
                let read = parse_login_success(version, &packet[1..]);
                assert_eq!(read, Ok((ID, "Notch".to_owned())), "{protocol}");
            }
        }
    }

    /// Properties are written after their number, each with its signature if it has one.
    #[test]
    fn properties_with_and_without_signature() {
        let property = |signature: Option<&str>| Property {
            name: "textures".to_owned(),
            value: "dGV4".to_owned(),
            signature: signature.map(str::to_owned),
        };
        let properties = vec![property(None), property(Some("c2ln"))];
        let mut out = Vec::new();
        write_properties(&properties, &mut out);
        assert_eq!(
            out,
            b"\x02\x08textures\x04dGV4\0\x08textures\x04dGV4\x01\x04c2ln"
        );
    }

    /// Every form of the encryption packets is written and read.
    #[test]
    fn encryption_by_version() {
        let key = [7; 3];
        let request = |protocol| encryption_request(version(protocol), &key, b"tokn");
        assert_eq!(request(5), b"\x01\0\0\x03\x07\x07\x07\0\x04tokn");
        assert_eq!(request(47), b"\x01\0\x03\x07\x07\x07\x04tokn");
        assert_eq!(request(765), b"\x01\0\x03\x07\x07\x07\x04tokn");
        assert_eq!(request(766), b"\x01\0\x03\x07\x07\x07\x04tokn\x01");

        let token = |secret, token| EncryptionResponse {
            secret,
            proof: Proof::Token(token),
        };
        let parse = |protocol, fields| EncryptionResponse::parse(version(protocol), fields);
        assert_eq!(parse(5, b"\0\x02ab\0\x01c"), Ok(token(b"ab", b"c")));
        assert_eq!(parse(758, b"\x02ab\x01c"), Ok(token(b"ab", b"c")));
        assert_eq!(parse(759, b"\x02ab\x01\x01c"), Ok(token(b"ab", b"c")));
        assert_eq!(parse(761, b"\x02ab\x01c"), Ok(token(b"ab", b"c")));
        let signed = EncryptionResponse {
            secret: b"ab",
            proof: Proof::Signature {
                salt: *b"12345678",
                signature: b"s",
            },
        };
        assert_eq!(parse(760, b"\x02ab\x0012345678\x01s"), Ok(signed));
        assert_eq!(parse(761, b"\x02ab\x01c!"), Err(ReadError::Trailing(1)));
        assert!(parse(761, &[0xFF, 0xFF, 0x7F]).is_err());
    }

    /// A login start to a backend has the fields that its version has.
    #[test]
    fn login_start_by_version() {
        use crate::protocol::login::LoginStart;
        for version in Version::all() {
            let packet = login_start(version, "Notch", ID, None);
            let read = LoginStart::parse(version.protocol(), &packet[1..]).unwrap();
            assert_eq!(read.name, "Notch");
            assert_eq!(read.uuid.is_some(), version.protocol() >= V1_19_1);
            assert!(read.uuid.is_none_or(|uuid| uuid == ID));
        }
    }

    /// Names that an authenticating server accepts, and those that an offline one does.
    #[test]
    fn names() {
        for name in ["a", "Notch", "_x_9", "abcdefghijklmnop"] {
            assert_eq!(check_name(name, true), Ok(()));
            assert_eq!(check_name(name, false), Ok(()));
        }
        for name in ["", "abcdefghijklmnopq"] {
            assert_eq!(check_name(name, true), Err(NameError::Length));
            assert_eq!(check_name(name, false), Err(NameError::Length));
        }
        for name in ["a b", "../x", "a\\b", "\u{1b}[0m", "§a", "é", "🦀"] {
            assert_eq!(check_name(name, true), Err(NameError::Characters), "{name}");
            assert_eq!(
                check_name(name, false),
                Err(NameError::Characters),
                "{name}"
            );
        }
        assert_eq!(check_name("*bedrock", false), Ok(()));
        assert_eq!(check_name("*bedrock", true), Err(NameError::Characters));
    }
}
