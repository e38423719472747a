//! Player forwarding: sends a backend the identity of a player.
//!
//! `bungeecord` and `bungeeguard` put it in the host field of the handshake,
//! `velocity` in a signed answer to a request of the backend. The formats are those of
//! the proxies and plugins of these names, which backends read.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::settings::{HostForwarding, IdentityForwarding, Secret};
use crate::protocol::login::offline_uuid;
use crate::protocol::packet::Version;
use crate::protocol::packet::login::{Profile, Property, write_properties};
use crate::protocol::read::{Cursor, write_string};
use crate::protocol::uuid::uuid_text;
use crate::protocol::varint;
use crate::protocol::version::{V1_19, V1_19_1, V1_19_3};

/// The channel on which a backend asks for a signed identity.
pub(super) const VELOCITY_CHANNEL: &str = "velocity:player_info";

/// The property with the markers of mod loaders. Backends split the host field at NUL,
/// so the markers cannot stay in it.
const MARKERS_PROPERTY: &str = "extraData";
/// The property with the token of `bungeeguard`.
const TOKEN_PROPERTY: &str = "bungeeguard-token";

/// The host field of a handshake with an identity: host, address, player id and
/// properties, with NUL between.
///
/// `host` is cut at its first NUL. `markers` are those of mod loaders, each after a
/// NUL, as the client sent them. `properties` are those of a settled profile; `None`
/// in the forwarding modes, where the client only claims an identity. Then the last part
/// is omitted if it is empty.
pub(crate) fn host_field(
    host: &str,
    markers: &str,
    address: IpAddr,
    uuid: [u8; 16],
    properties: Option<&[Property]>,
    forwarding: &HostForwarding,
) -> String {
    let proved = properties.unwrap_or_default();
    let mut all: Vec<_> = proved.iter().map(json).collect();
    if !markers.is_empty() {
        all.push(unsigned(MARKERS_PROPERTY, &markers.replace('\0', "\u{1}")));
    }
    if let HostForwarding::BungeeGuard(token) = forwarding {
        all.push(unsigned(TOKEN_PROPERTY, token.reveal()));
    }
    let host = host.split('\0').next().unwrap_or_default();
    let mut field = format!("{host}\0{address}\0{}", uuid_text(uuid, false));
    if properties.is_some() || !all.is_empty() {
        field.push('\0');
        field.push_str(&serde_json::Value::from(all).to_string());
    }
    field
}

fn json(property: &Property) -> serde_json::Value {
    let mut value = unsigned(&property.name, &property.value);
    if let Some(signature) = &property.signature {
        value["signature"] = signature.as_str().into();
    }
    value
}

fn unsigned(name: &str, value: &str) -> serde_json::Value {
    serde_json::json!({ "name": name, "value": value, "signature": "" })
}

/// A key with which a player of 1.19 to 1.19.2 signs chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChatKey {
    /// Expiry, key and signature as the login start has them.
    pub(super) bytes: bytes::Bytes,
    /// The player id that the signature of a 1.19.1 key covers.
    pub(super) holder: Option<[u8; 16]>,
}

impl ChatKey {
    /// The key itself, as the client has sent it; empty if there is none.
    pub(super) fn public_der(&self) -> &[u8] {
        let mut cursor = Cursor::new(&self.bytes);
        // The key follows the time at which it expires.
        let key = cursor.u64().and_then(|_| cursor.bytes(self.bytes.len()));
        key.unwrap_or_default()
    }
}

/// The settled identity of a player, as a backend gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(super) version: Version,
    pub(super) profile: &'a Profile,
    pub(super) key: Option<&'a ChatKey>,
}

impl<'a> Who<'a> {
    /// The player's profile.
    pub(crate) const fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// Whether the player has a key that a backend would accept.
    pub(crate) fn has_chat_key(&self) -> bool {
        self.chat_key().is_some()
    }

    /// The key, if a backend would accept it: a key of 1.19.1 names its holder, and a
    /// backend that knows the player under another id would refuse it.
    pub(super) fn chat_key(&self) -> Option<&'a ChatKey> {
        let uuid = self.profile.uuid;
        self.key
            .filter(|key| key.holder.is_none_or(|holder| holder == uuid))
    }
}

/// The settled identity of a player, kept for the whole connection.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) profile: Profile,
    pub(super) key: Option<ChatKey>,
}

impl Identity {
    /// The identity that a backend gets with this forwarding.
    pub(crate) fn at(&self, forwarding: Option<&IdentityForwarding>) -> Self {
        let mut identity = self.clone();
        let Profile { uuid, name, .. } = &self.profile;
        identity.profile.uuid = uuid_at(forwarding, *uuid, name);
        identity
    }

    /// Who the player is, for a backend.
    pub(crate) fn who(&self, version: Version) -> Who<'_> {
        Who {
            version,
            profile: &self.profile,
            key: self.key.as_ref(),
        }
    }
}

/// The player id that a backend uses: without forwarding it makes one from the name.
pub(crate) fn uuid_at(
    identity: Option<&IdentityForwarding>,
    proved: [u8; 16],
    name: &str,
) -> [u8; 16] {
    match identity {
        Some(_) => proved,
        None => offline_uuid(name),
    }
}

/// The answer to a backend that asks on [`VELOCITY_CHANNEL`] with this payload.
pub(super) fn velocity_answer(
    secret: &Secret,
    request: &[u8],
    protocol: i32,
    address: IpAddr,
    profile: &Profile,
    key: Option<&ChatKey>,
) -> Vec<u8> {
    let form = VelocityForm::choose(request, protocol, key.is_some());
    let mut payload = Vec::new();
    varint::encode(form as i32, &mut payload);
    write_string(&address.to_string(), &mut payload);
    payload.extend_from_slice(&profile.uuid);
    write_string(&profile.name, &mut payload);
    write_properties(&profile.properties, &mut payload);
    if let (VelocityForm::WithKey | VelocityForm::WithLinkedKey, Some(key)) = (form, key) {
        payload.extend_from_slice(&key.bytes);
        if form == VelocityForm::WithLinkedKey {
            payload.push(u8::from(key.holder.is_some()));
            payload.extend_from_slice(key.holder.as_ref().map_or(&[][..], |holder| &holder[..]));
        }
    }
    let mut answer = sign(secret, &payload).to_vec();
    answer.extend(payload);
    answer
}

/// The versions of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(i32)]
enum VelocityForm {
    Default = 1,
    /// With the chat key of 1.19.
    WithKey = 2,
    /// With the chat key of 1.19.1, and the id of its owner.
    WithLinkedKey = 3,
    /// The player's chat session comes later, in play: 1.19.3.
    LazySession = 4,
}

impl VelocityForm {
    /// The newest form that the backend supports and the player's version has. A payload
    /// that is not one byte means the first form.
    fn choose(request: &[u8], protocol: i32, has_key: bool) -> Self {
        let newest = match request {
            [newest] => *newest,
            _ => 1,
        };
        match protocol {
            V1_19_3.. if newest >= 4 => Self::LazySession,
            V1_19_1..V1_19_3 if has_key && newest >= 3 => Self::WithLinkedKey,
            V1_19 if has_key && newest >= 2 => Self::WithKey,
            _ => Self::Default,
        }
    }
}

fn sign(secret: &Secret, payload: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(payload);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn profile(signature: Option<Option<&str>>) -> Profile {
        let property = signature.map(|signature| Property {
            name: "textures".to_owned(),
            value: "dGV4".to_owned(),
            signature: signature.map(str::to_owned),
        });
        Profile {
            uuid: ID.to_be_bytes(),
            name: "Notch".to_owned(),
            properties: property.into_iter().collect(),
        }
    }

    fn key(holder: bool) -> ChatKey {
        let mut bytes = 1_700_000_000_000_u64.to_be_bytes().to_vec();
        bytes.push(8);
        bytes.extend(0..8);
        bytes.push(8);
        bytes.extend(0x10..0x18);
        ChatKey {
            bytes: bytes.into(),
            holder: holder.then(|| ID.to_be_bytes()),
        }
    }

    /// Answers and signatures equal those that another program has computed.
    #[test]
    fn velocity_vectors() {
        let secret = Secret::new("correct horse battery staple".to_owned());
        let address = "203.0.113.7".parse().unwrap();
        let answer = |request: &[u8], protocol, profile: Profile, key: Option<ChatKey>| {
            let answer =
                velocity_answer(&secret, request, protocol, address, &profile, key.as_ref());
            let (mac, payload) = answer.split_at(32);
            (hex(payload), hex(mac))
        };
        let base = "0b3230332e302e3131332e37069a79f444e94726a5befca90e38aaf5054e6f746368";
        let keyed = "0000018bcfe5680008000102030405060708\
                     1011121314151617";
        let table = [
            (
                answer(&[], 393, profile(None), None),
                format!("01{base}00"),
                "91d568ec6c76f66a8e821a3710a544002fc19ebfb2e170cc70d32f816fca79b5",
            ),
            (
                answer(&[1], 767, profile(Some(Some("c2ln"))), None),
                format!(
                    "01{base}01087465787475726573046447563401\
                         0463326c6e"
                ),
                "4a617b1ff7b295c15ea0e8fd7e5f898f04bf7b492eea3d0e5c847cc56ccf2bea",
            ),
            (
                answer(&[4], 767, profile(Some(None)), None),
                format!(
                    "04{base}010874657874757265730464475634\
                         00"
                ),
                "c53dff5d5e1d681815416760809c3ba83c5c2891f4d17a16c2edb818704d1fb3",
            ),
            (
                answer(&[4], 759, profile(None), Some(key(false))),
                format!("02{base}00{keyed}"),
                "637711c7d5c264c5b91400f0d5e22dbe845e0dac426b969ac1d1bf23f1dfdf39",
            ),
            (
                answer(&[4], 760, profile(None), Some(key(true))),
                format!("03{base}00{keyed}01069a79f444e94726a5befca90e38aaf5"),
                "80e14c2afda41b0d7aa73e5d9077ca49cb724013b85a3a3d3545be8ab6df89ba",
            ),
        ];
        for ((payload, mac), expected_payload, expected_mac) in table {
            assert_eq!(payload, expected_payload);
            assert_eq!(mac, expected_mac);
        }
    }

    /// The form of the answer depends on the backend's request and the player's version
    /// and key.
    #[test]
    fn velocity_forms() {
        use VelocityForm::{Default, LazySession, WithKey, WithLinkedKey};
        let table: &[(&[u8], i32, bool, VelocityForm)] = &[
            (&[], 776, false, Default),
            (&[0], 776, false, Default),
            (&[3], 761, false, Default),
            (&[4], 761, false, LazySession),
            (&[9], 776, false, LazySession),
            (&[4, 4], 776, false, Default),
            (&[4], 759, true, WithKey),
            (&[1], 759, true, Default),
            (&[4], 759, false, Default),
            (&[4], 760, true, WithLinkedKey),
            (&[2], 760, true, Default),
            (&[4], 758, true, Default),
        ];
        for (request, protocol, has_key, form) in table {
            let chosen = VelocityForm::choose(request, *protocol, *has_key);
            assert_eq!(chosen, *form, "{request:?} {protocol} {has_key}");
        }
    }

    /// The host field has the parts that backends expect, with markers and a token as
    /// properties.
    #[test]
    fn host_fields() {
        let address = "203.0.113.7".parse().unwrap();
        let any = |host, markers, properties: Option<&[Property]>, forwarding: &HostForwarding| {
            host_field(
                host,
                markers,
                address,
                ID.to_be_bytes(),
                properties,
                forwarding,
            )
        };
        let field = |host, markers, properties, forwarding: &HostForwarding| {
            any(host, markers, Some(properties), forwarding)
        };
        let base = "mc.example.org\x00203.0.113.7\x00069a79f444e94726a5befca90e38aaf5\0";
        let bungee = HostForwarding::BungeeCord;
        assert_eq!(
            field("mc.example.org", "", &[], &bungee),
            format!("{base}[]")
        );
        assert_eq!(
            field("mc.example.org\0evil\0x", "\0FML2\0", &[], &bungee),
            format!(r#"{base}[{{"name":"extraData","signature":"","value":"\u0001FML2\u0001"}}]"#)
        );
        let claimed = "mc.example.org\x00203.0.113.7\x00069a79f444e94726a5befca90e38aaf5";
        assert_eq!(any("mc.example.org", "", None, &bungee), claimed);
        assert_eq!(
            any("mc.example.org", "\0FML2\0", None, &bungee),
            field("mc.example.org", "\0FML2\0", &[], &bungee)
        );
        let guard = HostForwarding::BungeeGuard(Secret::new("token".to_owned()));
        let signed = profile(Some(Some("c2ln"))).properties;
        let full = field("mc.example.org", "", &signed, &guard);
        let json: serde_json::Value =
            serde_json::from_str(full.strip_prefix(base).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"name": "textures", "value": "dGV4", "signature": "c2ln"},
                {"name": "bungeeguard-token", "value": "token", "signature": ""},
            ])
        );
    }
}
