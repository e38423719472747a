//! Compares the packets that the proxy encodes and decodes by name with the packet
//! descriptions of `minecraft-protocol`, version by version.
//!
//! The library decodes every packet of the proxy to the values that it was made with, to
//! its last byte. The proxy decodes the packets of the library to the same values.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use infrarust::protocol::packet::view::{Value, View, build};
use infrarust::protocol::packet::{Direction, State, Version};
use infrarust::protocol::varint;
use infrarust_plugin_abi::{PacketField, PacketKind};
use serde_json::{Value as Json, json};

use crate::real_clients::{Program, node_command};

/// How long the library may take for all packets: it prepares each version, which
/// takes some 200 ms on two cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// One version of the game for each layout, and its protocol number.
const VERSIONS: [(&str, i32); 30] = [
    ("1.7.10", 5),
    ("1.8.9", 47),
    ("1.9", 107),
    ("1.9.4", 110),
    ("1.10.2", 210),
    ("1.11.2", 316),
    ("1.12", 335),
    ("1.12.1", 338),
    ("1.12.2", 340),
    ("1.13.2", 404),
    ("1.14.4", 498),
    ("1.15.2", 578),
    ("1.16.1", 736),
    ("1.16.5", 754),
    ("1.17.1", 756),
    ("1.18.2", 758),
    ("1.19", 759),
    ("1.19.2", 760),
    ("1.19.3", 761),
    ("1.19.4", 762),
    ("1.20.1", 763),
    ("1.20.2", 764),
    ("1.20.4", 765),
    ("1.20.6", 766),
    ("1.21.1", 767),
    ("1.21.3", 768),
    ("1.21.4", 769),
    ("1.21.5", 770),
    ("1.21.11", 774),
    ("26.1", 775),
];

/// The names of a field in the library, over the versions.
fn names(field: PacketField) -> &'static [&'static str] {
    use PacketField::*;
    match field {
        Message => &["message", "command"],
        Text => &["content", "message", "text", "reason", "title"],
        Channel => &["channel"],
        Data => &["data", "value"],
        Key => &["cookie", "key"],
        Host => &["host"],
        Port => &["port"],
        FadeIn => &["fadeIn"],
        Stay => &["stay"],
        FadeOut => &["fadeOut"],
        Reset => &["reset"],
        Url => &["url"],
        Hash => &["hash"],
        Forced => &["forced"],
        Prompt => &["promptMessage"],
        PackId => &["uuid"],
        PackStatus => &["result"],
        Id => &["keepAliveId"],
        Locale => &["locale"],
        ViewDistance => &["viewDistance"],
        ChatMode => &["chatFlags"],
        ChatColors => &["chatColors"],
        SkinParts => &["skinParts"],
        MainHand => &["mainHand"],
        TextFiltering => &["enableTextFiltering", "disableTextFiltering"],
        Listed => &["enableServerListing"],
        Particles => &["particleStatus"],
        EntityId => &["entityId"],
        GameMode => &["gameMode", "gamemode"],
        PreviousGameMode => &["previousGameMode", "previousGamemode"],
        Hardcore => &["isHardcore"],
        World => &["worldName", "name"],
        Dimension => &["worldType", "dimension"],
        DimensionId => &["dimension"],
        HashedSeed => &["hashedSeed"],
        Difficulty => &["difficulty"],
        MaxPlayers => &["maxPlayers"],
        LevelType => &["levelType"],
        SimulationDistance => &["simulationDistance"],
        ReducedDebugInfo => &["reducedDebugInfo"],
        RespawnScreen => &["enableRespawnScreen"],
        LimitedCrafting => &["doLimitedCrafting"],
        DebugWorld => &["isDebug"],
        FlatWorld => &["isFlat"],
        PortalCooldown => &["portalCooldown"],
        SeaLevel => &["seaLevel"],
        SecureChat => &["enforcesSecureChat"],
        OnlineMode => &["onlineMode"],
        Kept => &["copyMetadata"],
        Header => &["header"],
        Footer => &["footer"],
        BossBarId => &["entityUUID"],
        Progress => &["health"],
        BossBarColor => &["color"],
        BossBarParts => &["dividers"],
        BossBarFlags => &["flags"],
        Timestamp => &["timestamp"],
        Salt => &["salt"],
        Signature => &["signature"],
        ArgumentSignatures => &["argumentSignatures"],
        Seen => &["acknowledged"],
        SeenOffset => &["offset", "messageCount"],
        Position => &["position", "type"],
        Sender => &["sender"],
    }
}

/// A different value for each field, so that a value in the wrong field is detected.
fn sample(field: PacketField, protocol: i32) -> Value<'static> {
    use PacketField::*;
    let text = |text: &str| Value::Text(Cow::Owned(json!({ "text": text, "color": "red" })));
    let str = |text: &'static str| Value::Str(text.into());
    match field {
        Message => str("hello 🦀"),
        // The library reads NBT as UTF-8, not as Java's, which differs there.
        Text if protocol < 765 => text("text 🦀 é"),
        Text => text("text é"),
        Prompt => text("prompt"),
        Header => text("header"),
        Footer => text("footer"),
        Channel => str("infrarust:test"),
        Data => Value::Bytes(vec![1, 2, 0xFF].into()),
        Key => str("infrarust:cookie"),
        Host => str("play.example.com"),
        Url => str("https://example.com/pack.zip"),
        Hash => str("0123456789abcdef0123456789abcdef01234567"),
        Locale => str("de_de"),
        World => str("minecraft:the_end"),
        Dimension => str("minecraft:the_nether"),
        LevelType => str("flat"),
        PackId => Value::Uuid([0x11; 16]),
        BossBarId => Value::Uuid([0x22; 16]),
        Sender => Value::Uuid([0x33; 16]),
        Progress => Value::Float(0.25),
        Reset | Forced | ChatColors | TextFiltering | Listed | Hardcore | ReducedDebugInfo
        | RespawnScreen | LimitedCrafting | DebugWorld | FlatWorld | SecureChat | OnlineMode => {
            Value::Bool(true)
        }
        Signature => Value::Bytes(vec![7; 256].into()),
        ArgumentSignatures => Value::Bytes(vec![0].into()),
        Seen if protocol < 761 => Value::Bytes(vec![0, 0].into()),
        Seen => Value::Bytes(vec![1, 2, 3].into()),
        Timestamp => Value::Int(1_700_000_000_123),
        Salt => Value::Int(-5_000_000_000),
        HashedSeed => Value::Int(5_000_000_001),
        Port => Value::Int(25_566),
        EntityId => Value::Int(70_000),
        FadeIn => Value::Int(11),
        Stay => Value::Int(72),
        FadeOut => Value::Int(23),
        Id => Value::Int(1_234_567),
        PackStatus | MainHand | Position | ChatMode | Kept => Value::Int(1),
        GameMode => Value::Int(2),
        PreviousGameMode => Value::Int(-1),
        DimensionId => Value::Int(1),
        ViewDistance => Value::Int(12),
        SimulationDistance => Value::Int(9),
        MaxPlayers => Value::Int(99),
        Difficulty => Value::Int(3),
        SkinParts => Value::Int(0x5F),
        Particles => Value::Int(2),
        PortalCooldown => Value::Int(44),
        SeaLevel => Value::Int(63),
        BossBarColor => Value::Int(5),
        BossBarParts => Value::Int(3),
        BossBarFlags => Value::Int(6),
        SeenOffset => Value::Int(17),
    }
}

/// The value of the first of these names, at any depth.
fn find<'a>(params: &'a Json, names: &[&str]) -> Option<&'a Json> {
    let fields = params.as_object()?;
    let here = names.iter().find_map(|name| fields.get(*name));
    // The layout of a world in a packet has the name of what it is in.
    let here = here.filter(|value| !(value.is_object() && names.contains(&"dimension")));
    here.or_else(|| fields.values().find_map(|inner| find(inner, names)))
}

/// Whether the library has read this value.
fn is_same(value: &Value<'_>, read: &Json) -> bool {
    match value {
        Value::None => read.is_null(),
        Value::Bool(truth) => read == &json!(truth) || read == &json!(u8::from(*truth)),
        Value::Int(number) => {
            let as_text = read.as_str().and_then(|text| {
                // 64 bits without a sign.
                text.parse()
                    .ok()
                    .or_else(|| text.parse().ok().map(u64::cast_signed))
            });
            let enumerated = [
                ["survival", "creative", "adventure", "spectator"],
                ["all", "decreased", "minimal", ""],
            ];
            let index = |name: &str| {
                let mut lists = enumerated.iter();
                lists.find_map(|names| names.iter().position(|known| *known == name))
            };
            let by_name = read.as_str().and_then(index);
            let by_name = by_name.and_then(|index| i64::try_from(index).ok());
            let truth = read.as_bool().map(i64::from);
            // Numbers of eight bits, some of which the library reads without a sign.
            let unsigned = *number < 0 && read.as_i64() == Some(number + 256);
            [read.as_i64(), as_text, by_name, truth].contains(&Some(*number)) || unsigned
        }
        Value::Float(number) => read.as_f64() == Some(f64::from(*number)),
        Value::Str(text) => read == &json!(text),
        Value::Text(text) => match read {
            Json::String(json) => serde_json::from_str::<Json>(json).ok().as_ref() == Some(&**text),
            other => other == &**text,
        },
        Value::Bytes(bytes) => match read {
            Json::Array(items) => items.is_empty() && **bytes == [0],
            other => other == &json!(hex(bytes)),
        },
        Value::Uuid(uuid) => {
            let text = read.as_str().unwrap_or_default().replace('-', "");
            text == hex(uuid)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The data of one packet.
struct Case {
    version: Version,
    state: State,
    kind: PacketKind,
    /// What it was made of; nothing when the library made it.
    values: Vec<(PacketField, Value<'static>)>,
    job: Json,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (game, protocol) in VERSIONS {
        let version = Version::of(protocol).unwrap();
        let fields = PacketField::ALL.iter();
        let values: Vec<_> = fields
            .map(|field| (*field, sample(*field, protocol)))
            .collect();
        for (state, state_name) in [
            (State::Login, "login"),
            (State::Configuration, "configuration"),
            (State::Play, "play"),
        ] {
            for kind in PacketKind::ALL {
                let Ok(packet) = build(version, state, *kind, &values) else {
                    continue;
                };
                let to = if kind.is_clientbound() {
                    "client"
                } else {
                    "server"
                };
                let job = json!({
                    "id": format!("{} in {state_name} of {game}", kind.name()),
                    "version": game,
                    "state": state_name,
                    "to": to,
                    "packet": hex(&packet),
                });
                cases.push(Case {
                    version,
                    state,
                    kind: *kind,
                    values: values.clone(),
                    job,
                });
            }
        }
        for (kind, make) in [
            (PacketKind::JoinGame, "login"),
            (PacketKind::Respawn, "respawn"),
        ] {
            let job = json!({
                "id": format!("the {} of {game}", kind.name()),
                "version": game,
                "state": "play",
                "to": "client",
                "make": make,
            });
            cases.push(Case {
                version,
                state: State::Play,
                kind,
                values: Vec::new(),
                job,
            });
        }
    }
    cases
}

/// The errors in the library's answer.
fn judge(case: &Case, answer: &Json) -> Vec<String> {
    if let Some(error) = answer["error"].as_str() {
        return vec![error.to_owned()];
    }
    let mut faults = Vec::new();
    let params = &answer["params"];
    let packet = bytes(answer["packet"].as_str().unwrap());
    let (id, id_bytes) = varint::decode(&packet).unwrap().unwrap();
    let (kind, protocol) = (case.kind, case.version.protocol());
    let direction = match kind.is_clientbound() {
        true => Direction::Clientbound,
        false => Direction::Serverbound,
    };
    let view = View::of(case.version, case.state, direction, id, &packet[id_bytes..]);
    let Some(view) = view.filter(|view| view.kind() == kind) else {
        return vec!["the library's packet is not of this kind".to_owned()];
    };
    let mut compared = 0;
    for field in PacketField::ALL {
        let value = match view.get(*field) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) => {
                faults.push(format!("{}: {error}", field.name()));
                continue;
            }
        };
        let given = case.values.iter().find(|(known, _)| known == field);
        // Up to 1.10 action bars have codes in place of a look.
        let has_codes = kind == PacketKind::ActionBar && protocol < 315;
        if let Some((_, given)) = given
            && value != *given
            && !has_codes
        {
            let what = field.name();
            faults.push(format!("{what}: {given:?} came back as {value:?}"));
        }
        let in_packet = match (field, &value) {
            // Up to 1.18.2 a line of chat.
            (PacketField::Message, Value::Str(text))
                if kind == PacketKind::ChatCommand && protocol < 759 =>
            {
                Value::Str(format!("/{text}").into())
            }
            // Up to 1.19.2 true stands for both bits.
            (PacketField::Kept, Value::Int(kept)) if protocol < 761 => Value::Bool(*kept != 0),
            _ => value,
        };
        // A bit of the game mode, the number of a dimension, the action of a title,
        // two lists.
        let has_no_name = match field {
            PacketField::Hardcore | PacketField::World => protocol < 751,
            PacketField::Reset => protocol < 755,
            PacketField::Seen => protocol < 761,
            _ => false,
        };
        match find(params, names(*field)) {
            Some(shown) if is_same(&in_packet, shown) => compared += 1,
            None if has_no_name => compared += 1,
            other => faults.push(format!("{}: {in_packet:?} is {other:?}", field.name())),
        }
    }
    if compared == 0 {
        faults.push(format!("nothing to compare in {params}"));
    }
    faults
}

/// See the head of this file.
#[test]
fn a_library_by_other_authors_agrees() {
    let Some(mut node) = node_command() else {
        return;
    };
    let mut library = Program::start(node.arg("packets.mjs"), "packets.mjs", None);
    let cases = cases();
    // 28 kinds, of which the oldest versions lack some.
    assert!(cases.len() > 700, "{}", cases.len());
    let jobs: Vec<_> = cases.iter().map(|case| &case.job).collect();
    library.send(&json!({ "jobs": jobs }));
    let mut report = String::new();
    for case in &cases {
        let answer = library.event("packet", PATIENCE);
        assert_eq!(answer["id"], case.job["id"]);
        for fault in judge(case, &answer) {
            writeln!(report, "{}: {fault}", case.job["id"]).unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
    assert_eq!(
        library.finish(PATIENCE),
        Some(0),
        "the exit code of packets.mjs"
    );
}
