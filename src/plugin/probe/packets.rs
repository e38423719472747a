//! Sample packets for the hooks that see packets.

use std::sync::Arc;

use infrarust_plugin_abi::{PacketField, PacketKind, sample};

use super::player::NUMBER;
use crate::plugin::{HookSet, PacketPlayer};
use crate::protocol::packet::view::{self, Value};
use crate::protocol::packet::{Direction, State, Version};
use crate::protocol::varint;

/// A packet of a kind.
pub(super) struct SamplePacket {
    pub(super) kind: PacketKind,
    pub(super) direction: Direction,
    pub(super) state: State,
    pub(super) bytes: Vec<u8>,
}

/// The sample player that sends and gets them.
pub(super) fn player(version: Version, is_proved: bool) -> Arc<PacketPlayer> {
    Arc::new(PacketPlayer {
        number: NUMBER,
        name: sample::NAME.to_owned(),
        uuid: sample::UUID,
        is_proved,
        server: sample::SERVER.to_owned(),
        version,
        knows_chat_key: false,
    })
}

/// One packet of each kind that the plugin is interested in, if the proxy can make one.
pub(super) fn packets(hooks: &HookSet, version: Version) -> Vec<SamplePacket> {
    let values = values();
    let sample = |kind: &PacketKind| {
        let direction = match kind.is_clientbound() {
            true => Direction::Clientbound,
            false => Direction::Serverbound,
        };
        let state = State::Play;
        let bytes = view::build(version, state, *kind, &values).ok()?;
        let (id, _) = varint::decode(&bytes).ok()??;
        let id = usize::try_from(id).ok()?;
        let ids = hooks.packet_ids(version, state, direction);
        let is_wanted = ids.get(id / 64)? >> (id % 64) & 1 == 1;
        is_wanted.then_some(SamplePacket {
            kind: *kind,
            direction,
            state,
            bytes,
        })
    };
    PacketKind::ALL.iter().filter_map(sample).collect()
}

/// A value for each required field of a packet.
fn values() -> Vec<(PacketField, Value<'static>)> {
    let text = || {
        Value::Text(std::borrow::Cow::Owned(
            serde_json::json!({ "text": "hello" }),
        ))
    };
    vec![
        (PacketField::Message, Value::Str("hello".into())),
        (PacketField::Timestamp, Value::Int(0)),
        (PacketField::Text, text()),
        (PacketField::Header, text()),
        (PacketField::Footer, text()),
        (PacketField::FadeIn, Value::Int(10)),
        (PacketField::Stay, Value::Int(70)),
        (PacketField::FadeOut, Value::Int(20)),
        (PacketField::Channel, Value::Str("minecraft:brand".into())),
        (
            PacketField::Url,
            Value::Str("https://example.com/pack.zip".into()),
        ),
        (PacketField::PackStatus, Value::Int(0)),
        (PacketField::Host, Value::Str(sample::HOST.into())),
        (PacketField::Port, Value::Int(25_565)),
        (PacketField::Key, Value::Str("example:key".into())),
        (PacketField::Data, Value::Bytes(Vec::new().into())),
        (PacketField::Locale, Value::Str("en_us".into())),
        (PacketField::ViewDistance, Value::Int(10)),
        (PacketField::Id, Value::Int(7)),
        (PacketField::BossBarId, Value::Uuid([0; 16])),
        (PacketField::Progress, Value::Float(0.5)),
    ]
}
