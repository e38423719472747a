//! What plugins may do to a passing packet: which packets may not be dropped or changed,
//! because the game or the proxy depends on them, and which packet replaces a dropped one.

use infrarust_plugin_abi::{PacketField, PacketKind};

use super::view::{Form, Value, View};
use super::{Clientbound, Direction, Serverbound, State, Version};
use crate::protocol::varint;
use crate::protocol::version::{V1_19_1, V1_19_3};

/// A packet that passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passing<'a> {
    pub(crate) version: Version,
    pub(crate) state: State,
    pub(crate) direction: Direction,
    pub(crate) id: i32,
    pub(crate) fields: &'a [u8],
    /// Its view by kind, if it has a kind.
    pub(crate) view: Option<View<'a>>,
    /// Whether the backend has got the key with which the player signs chat, in the login
    /// of 1.19 to 1.19.2. Without the key it does not check signatures.
    pub(crate) knows_chat_key: bool,
}

/// Why a packet may not be dropped or changed.
pub(crate) type Refused = &'static str;

const STATES: Refused = "it says in which state the connection is";
const WORLD: Refused = "it says in which world the player is";
const ALIVE: Refused = "the connection ends without it";
const SIGNED: Refused = "the player has signed it";
const KEY: Refused = "only the side that has asked for the cookie knows its name";

impl<'a> Passing<'a> {
    /// A packet: its id and its fields.
    pub(crate) fn of(
        version: Version,
        state: State,
        direction: Direction,
        packet: &'a [u8],
    ) -> Self {
        let (id, fields) = parts(packet);
        Self {
            version,
            state,
            direction,
            id,
            fields,
            view: View::of(version, state, direction, id, fields),
            knows_chat_key: false,
        }
    }

    /// A packet with a known form, or with none.
    pub(crate) fn of_form(
        version: Version,
        state: State,
        direction: Direction,
        packet: &'a [u8],
        form: Option<Form>,
    ) -> Self {
        let (id, fields) = parts(packet);
        Self {
            version,
            state,
            direction,
            id,
            fields,
            view: form.map(|form| form.view(version, state, fields)),
            knows_chat_key: false,
        }
    }

    /// The same packet, of a player whose chat key the backend may know.
    pub(crate) const fn with_chat_key(self, knows_chat_key: bool) -> Self {
        Self {
            knows_chat_key,
            ..self
        }
    }

    /// The kind, if it has one.
    fn kind(&self) -> Option<PacketKind> {
        self.view.map(|view| view.kind())
    }

    /// Whether it may be dropped.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn may_drop(&self) -> Result<(), Refused> {
        self.is_free()?;
        // In 1.19.1 a signature covers the one before: the backend misses a message that
        // is not there. Since 1.19.3 the key does not reach backends of such players.
        let is_in_chain = (V1_19_1..V1_19_3).contains(&self.version.protocol());
        match self.knows_chat_key && is_in_chain && self.is_signed() {
            true => Err(SIGNED),
            false => Ok(()),
        }
    }

    /// Whether it may pass with other fields.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn may_change(&self) -> Result<(), Refused> {
        self.is_free()?;
        let needs_signature = match self.kind() {
            Some(PacketKind::ChatMessage) => {
                self.knows_chat_key && self.version.protocol() < V1_19_3
            }
            Some(PacketKind::ChatCommand) => true,
            _ => false,
        };
        match needs_signature && self.is_signed() {
            true => Err(SIGNED),
            false => Ok(()),
        }
    }

    /// Whether these fields may be given other values, and all of them if none is named.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn may_set(
        &self,
        mut fields: impl Iterator<Item = PacketField>,
    ) -> Result<(), Refused> {
        let is_cookie = matches!(
            self.kind(),
            Some(PacketKind::CookieRequest | PacketKind::CookieResponse)
        );
        match is_cookie && fields.any(|field| field == PacketField::Key) {
            true => Err(KEY),
            false => Ok(()),
        }
    }

    /// Whether neither the game nor the proxy depends on it.
    fn is_free(&self) -> Result<(), Refused> {
        match self.direction {
            Direction::Clientbound => match self.version.kind(self.state, self.id) {
                Some(
                    Clientbound::StartConfiguration
                    | Clientbound::FinishConfiguration
                    | Clientbound::SetCompression
                    | Clientbound::BundleDelimiter
                    | Clientbound::RegistryData
                    | Clientbound::KnownPacks
                    | Clientbound::Tags
                    | Clientbound::FeatureFlags,
                ) => Err(STATES),
                Some(Clientbound::JoinGame | Clientbound::Respawn) => Err(WORLD),
                Some(Clientbound::KeepAlive) => Err(ALIVE),
                _ => Ok(()),
            },
            Direction::Serverbound => match self.version.kind(self.state, self.id) {
                Some(
                    Serverbound::ConfigurationAcknowledged
                    | Serverbound::FinishConfiguration
                    | Serverbound::KnownPacks,
                ) => Err(STATES),
                Some(Serverbound::TeleportConfirm) => Err(WORLD),
                Some(Serverbound::KeepAlive | Serverbound::ChatAcknowledgement) => Err(ALIVE),
                _ => Ok(()),
            },
        }
    }

    /// Whether it carries signatures of the player.
    fn is_signed(&self) -> bool {
        let Some(view) = self.view else {
            return false;
        };
        let kind: Option<Serverbound> = self.version.kind(self.state, self.id);
        if kind == Some(Serverbound::ChatCommandSigned) {
            return true;
        }
        let signature = |field| match view.get(field) {
            Ok(Some(Value::Bytes(bytes))) => {
                // The signatures of arguments are a list, which begins with its length.
                let is_list = field == PacketField::ArgumentSignatures;
                !(bytes.is_empty() || is_list && bytes.first() == Some(&0))
            }
            _ => false,
        };
        signature(PacketField::Signature) || signature(PacketField::ArgumentSignatures)
    }

    /// The packet that the backend gets instead of a dropped packet of the client: the
    /// acknowledgement in a line of chat or a command since 1.19.3. Without it the backend
    /// disconnects the player at the next one.
    pub(crate) fn instead(&self) -> Option<Vec<u8>> {
        if self.direction == Direction::Clientbound || self.version.protocol() < V1_19_3 {
            return None;
        }
        let view = self.view?;
        let Ok(Some(Value::Int(seen @ 1..))) = view.get(PacketField::SeenOffset) else {
            return None;
        };
        let seen = i32::try_from(seen).ok()?;
        let id = self
            .version
            .id(State::Play, Serverbound::ChatAcknowledgement)?;
        let mut packet = Vec::new();
        varint::encode(id.into(), &mut packet);
        varint::encode(seen, &mut packet);
        Some(packet)
    }
}

/// The id and the fields of a packet.
fn parts(packet: &[u8]) -> (i32, &[u8]) {
    match varint::decode(packet) {
        Ok(Some((id, bytes))) => (id, packet.get(bytes..).unwrap_or_default()),
        // Not reached: a packet without an id is not passed on.
        _ => (-1, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;

    fn version(protocol: i32) -> Version {
        Version::of(protocol).unwrap()
    }

    /// A packet of a kind, as it passes.
    fn made(protocol: i32, kind: PacketKind, values: &[(PacketField, Value<'_>)]) -> Vec<u8> {
        view::build(version(protocol), State::Play, kind, values).unwrap()
    }

    fn passing(protocol: i32, direction: Direction, packet: &[u8]) -> Passing<'_> {
        Passing::of(version(protocol), State::Play, direction, packet)
    }

    fn chat(protocol: i32, signature: Option<&[u8]>, seen: i64) -> Vec<u8> {
        let mut values = vec![
            (PacketField::Message, Value::Str("hello".into())),
            (PacketField::Timestamp, Value::Int(1)),
            (PacketField::SeenOffset, Value::Int(seen)),
            (PacketField::Seen, Value::Bytes(vec![0; 3].into())),
        ];
        if protocol < V1_19_3 {
            values.truncate(2);
        }
        if let Some(signature) = signature {
            values.push((PacketField::Signature, Value::Bytes(signature.into())));
        }
        made(protocol, PacketKind::ChatMessage, &values)
    }

    /// The acknowledgement in a dropped line of chat is kept, since 1.19.3 and only if the
    /// line has one.
    #[test]
    fn acknowledgements_are_kept() {
        let serverbound = Direction::Serverbound;
        for version in Version::all() {
            let protocol = version.protocol();
            for seen in [0, 1, 20, 300] {
                let packet = chat(protocol, None, seen);
                let instead = passing(protocol, serverbound, &packet).instead();
                let expected = (protocol >= V1_19_3 && seen > 0).then(|| {
                    let id = version.id(State::Play, Serverbound::ChatAcknowledgement);
                    let mut packet = vec![id.unwrap()];
                    varint::encode(i32::try_from(seen).unwrap(), &mut packet);
                    packet
                });
                assert_eq!(instead, expected, "{} {seen}", version.games());
            }
        }
        let command = [(PacketField::Message, Value::Str("hub".into()))];
        let packet = made(770, PacketKind::ChatCommand, &command);
        assert_eq!(passing(770, serverbound, &packet).instead(), None);
    }

    /// A signed packet of a player may not be changed if the backend checks the signature.
    #[test]
    fn signed_chat_has_its_rights() {
        let rights_with = |knows_chat_key, protocol, signature| {
            let packet = chat(protocol, signature, 1);
            let passing = passing(protocol, Direction::Serverbound, &packet);
            let passing = passing.with_chat_key(knows_chat_key);
            (passing.may_drop().is_ok(), passing.may_change().is_ok())
        };
        let rights = |protocol, signature| rights_with(true, protocol, signature);
        let signature = &[7; 256][..];
        assert_eq!(rights(759, Some(signature)), (true, false));
        assert_eq!(rights(760, Some(signature)), (false, false));
        for protocol in [761, 765, 770, 777] {
            assert_eq!(rights(protocol, Some(signature)), (true, true));
        }
        for protocol in [759, 760] {
            let unknown = rights_with(false, protocol, Some(signature));
            assert_eq!(unknown, (true, true), "{protocol}");
        }
        for protocol in [759, 760, 761, 777] {
            assert_eq!(rights(protocol, None), (true, true), "{protocol}");
        }
        let signed = version(770).id(State::Play, Serverbound::ChatCommandSigned);
        let signed = [signed.unwrap(), 3, b'm', b's', b'g'];
        let signed = passing(770, Direction::Serverbound, &signed);
        assert_eq!(signed.may_drop(), Ok(()));
        assert_eq!(signed.may_change(), Err(SIGNED));
    }

    /// Packets on which the connection depends may not be dropped, in every version that
    /// has them.
    #[test]
    fn packets_that_the_connection_depends_on_pass() {
        for version in Version::all() {
            for kind in [
                Clientbound::StartConfiguration,
                Clientbound::BundleDelimiter,
                Clientbound::JoinGame,
                Clientbound::Respawn,
                Clientbound::KeepAlive,
            ] {
                let Some(id) = version.id(State::Play, kind) else {
                    continue;
                };
                let packet = [id];
                let passing = passing(version.protocol(), Direction::Clientbound, &packet);
                assert!(passing.may_drop().is_err(), "{kind:?}");
                assert!(passing.may_change().is_err(), "{kind:?}");
            }
            for kind in [
                Serverbound::ConfigurationAcknowledged,
                Serverbound::KeepAlive,
                Serverbound::ChatAcknowledgement,
            ] {
                let Some(id) = version.id(State::Play, kind) else {
                    continue;
                };
                let packet = [id];
                let passing = passing(version.protocol(), Direction::Serverbound, &packet);
                assert!(passing.may_drop().is_err(), "{kind:?}");
            }
        }
        let key = [(PacketField::Key, Value::Str("a:b".into()))];
        let packet = made(770, PacketKind::CookieRequest, &key);
        let passing = passing(770, Direction::Clientbound, &packet);
        assert_eq!(passing.may_set([PacketField::Key].into_iter()), Err(KEY));
        assert_eq!(passing.may_set([PacketField::Data].into_iter()), Ok(()));
    }
}
