//! Sends packets and texts of plugins to players and backends: checks them, counts them,
//! and puts them into the outbox of the session.

use std::time::Instant;

use infrarust_plugin_abi::serve::{FIELDS_BYTES_MAX, PlayerText};
use infrarust_plugin_abi::{Capability, PacketField, PacketKind};

use super::players::{CookieReceiver, InGame, NotServed, Switching};
use super::services::Services;
use crate::protocol::component::{self, TextError};
use crate::protocol::packet::login::COOKIE_BYTES_MAX;
use crate::protocol::packet::message::{self, Message};
use crate::protocol::packet::view::{self, Value};
use crate::protocol::packet::{Clientbound, Direction, Serverbound, State, Version};
use crate::protocol::{text, varint};
use crate::show::Quoted;
use crate::telemetry::Sample;

/// The longest text of a kick as JSON, in characters. A longer one would be cut, and a cut
/// component is not JSON.
const KICK_CHARS_MAX: usize = text::BOUNDED_CHARS_MAX;

/// The longest host of a transfer in bytes: that of a handshake.
const HOST_BYTES_MAX: usize = 255;

/// A plugin has used up its budget for a second.
const TOO_MUCH: &str = "it sends too much in a second";

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSent {
    NotServed(NotServed),
    /// A limit is reached, for a second or for one player.
    Full(&'static str),
    /// It can never be sent, for this reason.
    Refused(String),
}

impl From<TextError> for NotSent {
    fn from(error: TextError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<NotServed> for NotSent {
    fn from(why: NotServed) -> Self {
        Self::NotServed(why)
    }
}

impl Services {
    /// Sends a packet of the game.
    pub(super) fn send_packet(
        &self,
        player: u64,
        direction: Direction,
        id: i32,
        fields: &[u8],
    ) -> Result<(), NotSent> {
        self.noted("packet.inject", || {
            let player = self.player(player, Capability::PacketInject)?;
            check(player.reach.version(), direction, id, fields)?;
            let mut packet = Vec::with_capacity(varint::VARINT_BYTES_MAX + fields.len());
            varint::encode(id, &mut packet);
            packet.extend_from_slice(fields);
            self.put(&player, direction, vec![packet])
        })
    }

    /// Sends a packet of the game by its kind. The kind decides whether the client or
    /// the backend gets it.
    pub(super) fn send_kind(
        &self,
        player: u64,
        kind: PacketKind,
        values: &[(PacketField, Value<'_>)],
    ) -> Result<(), NotSent> {
        self.noted("packet.inject", || {
            let player = self.player(player, Capability::PacketInject)?;
            let version = player.reach.version();
            let packet = view::build(version, State::Play, kind, values);
            let packet = packet.map_err(|error| NotSent::Refused(error.to_string()))?;
            let direction = match kind.is_clientbound() {
                true => Direction::Clientbound,
                false => Direction::Serverbound,
            };
            if let Ok(Some((id, bytes))) = varint::decode(&packet) {
                let fields = packet.get(bytes..).unwrap_or_default();
                check(version, direction, id, fields)?;
            }
            self.put(&player, direction, vec![packet])
        })
    }

    /// Shows a text to a player, or ends the session with it.
    pub(super) fn send_text(&self, player: u64, text: &PlayerText<'_>) -> Result<(), NotSent> {
        self.noted("player.message", || {
            let player = self.player(player, Capability::PlayerMessage)?;
            let send = |message: &Message<'_>| {
                let packets = message::message(player.reach.version(), State::Play, message);
                let packets = packets.map_err(|error| NotSent::Refused(error.to_string()))?;
                self.put(&player, Direction::Clientbound, packets)
            };
            match *text {
                PlayerText::Chat(text) => send(&Message::Chat(&component::parse(text)?)),
                PlayerText::ActionBar(text) => send(&Message::ActionBar(&component::parse(text)?)),
                PlayerText::Title {
                    title,
                    subtitle,
                    ticks,
                } => {
                    let [fade_in, stay, fade_out] =
                        ticks.map(|ticks| i32::try_from(ticks).unwrap_or(i32::MAX));
                    send(&Message::Title {
                        title: &component::parse(title)?,
                        subtitle: &component::parse(subtitle)?,
                        fade_in,
                        stay,
                        fade_out,
                    })
                }
                PlayerText::Kick(text) => self.kick(&player, text),
            }
        })
    }

    fn kick(&self, player: &InGame, text: &str) -> Result<(), NotSent> {
        component::parse(text)?;
        if text.chars().nth(KICK_CHARS_MAX).is_some() {
            let why = format!("the text of a kick has more than {KICK_CHARS_MAX} characters");
            return Err(NotSent::Refused(why));
        }
        player.reach.kick(&self.health.plugin, text.to_owned());
        Ok(())
    }

    /// Sends the client of a player to another address.
    pub(super) fn send_transfer(&self, player: u64, host: &str, port: u16) -> Result<(), NotSent> {
        self.noted("player.transfer", || {
            let player = self.player(player, Capability::PlayerTransfer)?;
            let packet = transfer(player.reach.version(), host, port)?;
            self.put(&player, Direction::Clientbound, vec![packet])
        })
    }

    /// Requests a switch of a player to another server.
    pub(super) fn ask_switch(&self, player: u64, server: &str) -> Result<Switching, NotServed> {
        let player = self.player(player, Capability::ServerSwitch)?;
        Ok(player.reach.switch(&self.health.plugin, server))
    }

    /// Stores bytes in the client of a player.
    pub(super) fn send_cookie(&self, player: u64, key: &str, data: &[u8]) -> Result<(), NotSent> {
        self.noted("player.cookie", || {
            let player = self.player(player, Capability::PlayerCookie)?;
            check_key(key)?;
            if data.len() > COOKIE_BYTES_MAX {
                let why = format!("a cookie has more than {COOKIE_BYTES_MAX} bytes");
                return Err(NotSent::Refused(why));
            }
            let fields = [
                (PacketField::Key, Value::Str(key.into())),
                (PacketField::Data, Value::Bytes(data.into())),
            ];
            let packet = cookie(&player, PacketKind::CookieStore, &fields)?;
            self.put(&player, Direction::Clientbound, vec![packet])
        })
    }

    /// Requests the bytes that the client of a player has stored under a key.
    pub(super) fn ask_cookie(&self, player: u64, key: &str) -> Result<CookieReceiver, NotSent> {
        let mut receiver = None;
        self.noted("player.cookie", || {
            let player = self.player(player, Capability::PlayerCookie)?;
            check_key(key)?;
            let fields = [(PacketField::Key, Value::Str(key.into()))];
            let packet = cookie(&player, PacketKind::CookieRequest, &fields)?;
            let budget = &self.history.budget;
            if !budget.take(std::slice::from_ref(&packet)) {
                return Err(NotSent::Full(TOO_MUCH));
            }
            let asked = player.reach.ask_cookie(key, budget.sender, packet);
            let full = |_| NotSent::Full("too much of it waits for one player");
            receiver = Some(asked.map_err(full)?);
            Ok(())
        })?;
        receiver.ok_or(NotSent::NotServed(NotServed::Gone))
    }

    fn put(
        &self,
        player: &InGame,
        direction: Direction,
        packets: Vec<Vec<u8>>,
    ) -> Result<(), NotSent> {
        let budget = &self.history.budget;
        if !budget.take(&packets) {
            return Err(NotSent::Full(TOO_MUCH));
        }
        let put = player.reach.put(direction, budget.sender, packets);
        put.map_err(|_| NotSent::Full("too much of it waits for one player"))
    }

    /// Logs why something was not sent, unless the plugin could not know.
    fn noted(
        &self,
        service: &str,
        send: impl FnOnce() -> Result<(), NotSent>,
    ) -> Result<(), NotSent> {
        let sent = send();
        let reason = match &sent {
            Ok(()) | Err(NotSent::NotServed(_)) => return sent,
            Err(NotSent::Full(reason)) => reason,
            Err(NotSent::Refused(reason)) => reason.as_str(),
        };
        if let Sample::Write { suppressed } = self.history.budget.refusals.sample(Instant::now()) {
            let plugin = self.health.plugin.as_str();
            tracing::warn!(
                plugin,
                service,
                suppressed,
                "plugin `{plugin}`: not sent: {reason}"
            );
        }
        sent
    }
}

/// A packet about a cookie, in the player's version.
fn cookie(
    player: &InGame,
    kind: PacketKind,
    fields: &[(PacketField, Value<'_>)],
) -> Result<Vec<u8>, NotSent> {
    let packet = view::build(player.reach.version(), State::Play, kind, fields);
    packet.map_err(|error| NotSent::Refused(error.to_string()))
}

/// The most bytes of the key of a cookie of a plugin.
const KEY_BYTES_MAX: usize = 256;

/// Checks that clients accept this as the key of a cookie.
fn check_key(key: &str) -> Result<(), NotSent> {
    let is_word = |word: &str, others: &[u8]| {
        !word.is_empty()
            && word.bytes().all(|byte| {
                matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.')
                    || others.contains(&byte)
            })
    };
    let (name, path) = key.split_once(':').unwrap_or(("minecraft", key));
    match key.len() <= KEY_BYTES_MAX && is_word(name, b"") && is_word(path, b"/") {
        true => Ok(()),
        false => {
            let why = format!("{} is not a key of a cookie", Quoted(key));
            Err(NotSent::Refused(why))
        }
    }
}

/// The packet that sends a client to this address.
fn transfer(version: Version, host: &str, port: u16) -> Result<Vec<u8>, NotSent> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control();
    if host.is_empty() || host.len() > HOST_BYTES_MAX || host.contains(is_bad) {
        let why = format!("{} is not a host to connect to", Quoted(host));
        return Err(NotSent::Refused(why));
    }
    let fields = [
        (PacketField::Host, Value::Str(host.into())),
        (PacketField::Port, Value::Int(port.into())),
    ];
    let packet = view::build(version, State::Play, PacketKind::Transfer, &fields);
    packet.map_err(|error| NotSent::Refused(error.to_string()))
}

/// Checks that a version has this packet, and that the session can continue after it.
fn check(version: Version, direction: Direction, id: i32, fields: &[u8]) -> Result<(), NotSent> {
    if fields.len() > FIELDS_BYTES_MAX {
        return Err(NotSent::Refused(format!(
            "a packet has more than {FIELDS_BYTES_MAX} bytes"
        )));
    }
    let Some(name) = version.name(State::Play, direction, id) else {
        return Err(NotSent::Refused(format!(
            "there is no packet {id:#04x} in {}",
            version.games()
        )));
    };
    let is_of_host = match direction {
        Direction::Clientbound => matches!(
            version.kind(State::Play, id),
            Some(
                Clientbound::StartConfiguration
                    | Clientbound::BundleDelimiter
                    | Clientbound::JoinGame
                    | Clientbound::SetCompression
                    | Clientbound::Disconnect
                    // The answer would reach the backend, which has not asked.
                    | Clientbound::CookieRequest
            )
        ),
        Direction::Serverbound => {
            version.kind(State::Play, id) == Some(Serverbound::ConfigurationAcknowledged)
        }
    };
    match is_of_host {
        true => Err(NotSent::Refused(format!(
            "a plugin may not send the packet `{name}`"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets that a version does not have, and packets that would change the state of the
    /// session, are refused.
    #[test]
    fn packets_are_checked() {
        let version = Version::of(776).unwrap();
        let checked = |direction, id, bytes: usize| {
            let checked = check(version, direction, id, &vec![0; bytes]);
            checked.map_err(|error| match error {
                NotSent::Refused(reason) => reason,
                other => panic!("{other:?}"),
            })
        };
        let id = |kind| i32::from(version.id(State::Play, kind).unwrap());
        let (to_client, to_backend) = (Direction::Clientbound, Direction::Serverbound);
        assert_eq!(checked(to_client, id(Clientbound::SystemChat), 9), Ok(()));
        let largest = checked(to_client, id(Clientbound::SystemChat), FIELDS_BYTES_MAX + 1);
        assert!(largest.unwrap_err().contains("more than"));
        for id in [-1, 0x7FFF] {
            let error = checked(to_client, id, 0).unwrap_err();
            assert!(error.contains("there is no packet"), "{error}");
        }
        for kind in [
            Clientbound::StartConfiguration,
            Clientbound::BundleDelimiter,
            Clientbound::JoinGame,
            Clientbound::Disconnect,
        ] {
            let error = checked(to_client, id(kind), 0).unwrap_err();
            assert!(error.contains("may not send"), "{kind:?}: {error}");
        }
        let kind = Serverbound::ConfigurationAcknowledged;
        let id = i32::from(version.id(State::Play, kind).unwrap());
        assert!(checked(to_backend, id, 0).is_err());
        assert_eq!(checked(to_backend, 0, 0), Ok(()));
    }
}
