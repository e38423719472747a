use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::json;

use super::super::message::{Message, message};
use super::*;

const STATES: [State; 3] = [State::Login, State::Configuration, State::Play];

fn version(protocol: i32) -> Version {
    Version::of(protocol).unwrap()
}

/// A value that every version takes in this field.
fn sample(field: PacketField, protocol: i32) -> Value<'static> {
    use infrarust_plugin_abi::FieldType;
    let bytes = |bytes: Vec<u8>| Value::Bytes(bytes.into());
    match (field, field.holds()) {
        (PacketField::Kept, _) => Value::Int(3),
        (PacketField::Timestamp, _) => Value::Int(1 << 40),
        (PacketField::Port, _) => Value::Int(65_535),
        (PacketField::Channel, _) => Value::Str("minecraft:register".into()),
        (PacketField::Key, _) => Value::Str("a:b/c".into()),
        (PacketField::World, _) if protocol < 735 => Value::Str("minecraft:the_end".into()),
        (PacketField::Signature, _) => bytes(vec![5; 256]),
        (PacketField::ArgumentSignatures, _) if protocol < 761 => {
            bytes(b"\x01\x01a\x02bc".to_vec())
        }
        (PacketField::ArgumentSignatures, _) => bytes([&b"\x01\x01a"[..], &[7; 256]].concat()),
        (PacketField::Seen, _) if protocol < 761 => {
            bytes([&[1][..], &[7; 16], &[1, 9, 0]].concat())
        }
        (PacketField::Seen, _) => bytes(vec![1, 2, 3]),
        (_, FieldType::Bool) => Value::Bool(true),
        (_, FieldType::Int) => Value::Int(1),
        (_, FieldType::Float) => Value::Float(0.5),
        (_, FieldType::Str) => Value::Str("a🦀".into()),
        (_, FieldType::Text) => Value::Text(Cow::Owned(json!({"text": "a🦀", "color": "red"}))),
        (_, FieldType::Bytes) => bytes(vec![1, 2, 3]),
        (_, FieldType::Uuid) => Value::Uuid([9; 16]),
    }
}

fn samples(protocol: i32) -> Vec<(PacketField, Value<'static>)> {
    let fields = PacketField::ALL.iter();
    fields
        .map(|field| (*field, sample(*field, protocol)))
        .collect()
}

/// The id and the rest of a packet.
fn split(packet: &[u8]) -> (i32, &[u8]) {
    let mut cursor = Cursor::new(packet);
    (cursor.varint().unwrap(), cursor.rest())
}

fn direction(kind: PacketKind) -> Direction {
    match kind.is_clientbound() {
        true => Direction::Clientbound,
        false => Direction::Serverbound,
    }
}

fn view(version: Version, state: State, kind: PacketKind, packet: &[u8]) -> Option<View<'_>> {
    let (id, fields) = split(packet);
    View::of(version, state, direction(kind), id, fields)
}

/// What is built is read back, field by field, in every version and state; a
/// truncated packet is an error and not a panic.
#[test]
fn every_kind_goes_through_every_version() {
    let mut kinds = 0;
    for version in Version::all() {
        let samples = samples(version.protocol());
        for (state, kind) in STATES
            .iter()
            .flat_map(|state| PacketKind::ALL.iter().map(|kind| (*state, *kind)))
        {
            let Ok(packet) = assemble(version, state, kind, &samples) else {
                continue;
            };
            kinds += 1;
            let name = format!("{kind:?} in {state:?} of {}", version.games());
            let read = view(version, state, kind, &packet).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(read.kind(), kind, "{name}");
            let (id, fields) = split(&packet);
            assert!(
                packet_ids(kind, version, state).any(|known| i32::from(known) == id),
                "{name}"
            );
            let mut last = None;
            for item in read.form.items {
                let Some(field) = item.field else { continue };
                let expected = match (kind, item.wire) {
                    (PacketKind::ActionBar, Wire::Codes) => {
                        Value::Text(Cow::Owned(json!({"text": "§ca🦀"})))
                    }
                    _ => sample(field, version.protocol()),
                };
                assert_eq!(read.get(field), Ok(Some(expected)), "{field:?} of {name}");
                last = Some(field);
            }
            for end in 0..fields.len() {
                let cut = View::of(version, state, direction(kind), id, &fields[..end]);
                let Some(cut) = cut else { continue };
                for field in PacketField::ALL {
                    let _ = cut.get(*field);
                }
                let _ = cut.with(&samples);
            }
            // The last field is not there when its last byte is missing, unless it
            // is all bytes to the end.
            let cut = View::of(
                version,
                state,
                direction(kind),
                id,
                &fields[..fields.len() - 1],
            );
            let ends_with_it = read
                .form
                .items
                .last()
                .is_some_and(|item| item.field == last && !matches!(item.wire, Wire::Rest(_)));
            if let (Some(cut), Some(last), true) = (cut, last, ends_with_it) {
                assert!(cut.get(last).is_err(), "{last:?} of {name}");
            }
        }
    }
    // 28 kinds in some fifty versions, some of them in two or three states.
    assert!(kinds > 1300, "{kinds}");
}

/// Optional fields that are not given have a default value; a missing required
/// field is named in the error.
#[test]
fn what_is_not_given() {
    for version in Version::all() {
        for kind in PacketKind::ALL {
            let samples = samples(version.protocol());
            let Ok(full) = assemble(version, State::Play, *kind, &samples) else {
                continue;
            };
            let read = view(version, State::Play, *kind, &full).unwrap();
            let (required, rest): (Vec<_>, Vec<_>) =
                read.form.items.iter().partition(|item| item.is_required);
            let given: Vec<_> = samples
                .iter()
                .filter(|(field, _)| required.iter().any(|item| item.field == Some(*field)))
                .cloned()
                .collect();
            let packet = assemble(version, State::Play, *kind, &given).unwrap();
            let read = view(version, State::Play, *kind, &packet).unwrap();
            assert_eq!(read.kind(), *kind);
            for field in rest.iter().filter_map(|item| item.field) {
                assert!(
                    read.get(field).is_ok(),
                    "{field:?} of {kind:?} in {}",
                    version.games()
                );
            }
            for (missing, _) in &given {
                let others: Vec<_> = given
                    .iter()
                    .filter(|(field, _)| field != missing)
                    .cloned()
                    .collect();
                let error = CannotSend::MissingField {
                    kind: kind.name(),
                    field: missing.name(),
                };
                assert_eq!(assemble(version, State::Play, *kind, &others), Err(error));
            }
        }
    }
}

/// Packets byte by byte, as the game writes them.
#[test]
fn packets_byte_by_byte() {
    let text = || {
        (
            PacketField::Text,
            Value::Text(Cow::Owned(json!({"text": "a", "color": "red"}))),
        )
    };
    let json = b"\x1a{\"color\":\"red\",\"text\":\"a\"}";
    let nbt = b"\x0a\x08\0\x05color\0\x03red\x08\0\x04text\0\x01a\0";
    let table: &[(PacketKind, i32, Vec<u8>)] = &[
        (PacketKind::SystemMessage, 5, [&[0x02][..], json].concat()),
        (
            PacketKind::SystemMessage,
            47,
            [&[0x02][..], json, &[1]].concat(),
        ),
        (
            PacketKind::SystemMessage,
            754,
            [&[0x0E][..], json, &[1], &[0; 16]].concat(),
        ),
        (
            PacketKind::SystemMessage,
            759,
            [&[0x5F][..], json, &[1]].concat(),
        ),
        (
            PacketKind::SystemMessage,
            764,
            [&[0x67][..], json, &[0]].concat(),
        ),
        (
            PacketKind::SystemMessage,
            777,
            [&[0x7C][..], nbt, &[0]].concat(),
        ),
        (
            PacketKind::ActionBar,
            47,
            b"\x02\x0f{\"text\":\"\xC2\xA7ca\"}\x02".to_vec(),
        ),
        (
            PacketKind::ActionBar,
            340,
            [&[0x48, 0x02][..], json].concat(),
        ),
        (PacketKind::ActionBar, 755, [&[0x41][..], json].concat()),
        (PacketKind::ActionBar, 777, [&[0x59][..], nbt].concat()),
        (PacketKind::Title, 47, [&[0x45, 0x00][..], json].concat()),
        (
            PacketKind::Subtitle,
            754,
            [&[0x4F, 0x01][..], json].concat(),
        ),
        (PacketKind::Title, 777, [&[0x74][..], nbt].concat()),
        (PacketKind::Disconnect, 764, [&[0x1B][..], json].concat()),
        (PacketKind::Disconnect, 765, [&[0x1B][..], nbt].concat()),
    ];
    for (kind, protocol, bytes) in table {
        let packet = build(version(*protocol), State::Play, *kind, &[text()]);
        assert_eq!(packet.as_ref(), Ok(bytes), "{kind:?} in {protocol}");
    }
    let host = (PacketField::Host, Value::Str("h".into()));
    let port = (PacketField::Port, Value::Int(25_565));
    // Ids from 0x80 on take two bytes.
    assert_eq!(
        build(
            version(777),
            State::Play,
            PacketKind::Transfer,
            &[host, port]
        ),
        Ok(b"\x84\x01\x01h\xdd\xc7\x01".to_vec())
    );
    let id = |id| [(PacketField::Id, Value::Int(id))];
    let keep_alive = |protocol, value| {
        build(
            version(protocol),
            State::Play,
            PacketKind::KeepAliveAnswer,
            &id(value),
        )
    };
    assert_eq!(keep_alive(5, 300), Ok(b"\0\0\0\x01\x2c".to_vec()));
    assert_eq!(keep_alive(338, 300), Ok(b"\x0b\xac\x02".to_vec()));
    assert_eq!(
        keep_alive(340, 300),
        Ok(b"\x0b\0\0\0\0\0\0\x01\x2c".to_vec())
    );
}

/// The error for a packet that a version or a state lacks names game versions.
#[test]
fn what_cannot_be_sent() {
    let try_build = |protocol, state, kind| {
        let samples = samples(protocol);
        build(version(protocol), state, kind, &samples).map_err(|error| error.to_string())
    };
    let table = [
        (
            765,
            State::Play,
            PacketKind::Transfer,
            "`transfer` needs 1.20.5",
        ),
        (
            764,
            State::Play,
            PacketKind::ResourcePackPop,
            "`resource_pack_pop` needs 1.20.3",
        ),
        (5, State::Play, PacketKind::Title, "`title` needs 1.8"),
        (
            47,
            State::Play,
            PacketKind::BossBarAdd,
            "`boss_bar_add` needs 1.9",
        ),
        (
            777,
            State::Play,
            PacketKind::JoinGame,
            "`join_game` comes from servers alone",
        ),
        (
            777,
            State::Configuration,
            PacketKind::Title,
            "`title` cannot be sent in the state Configuration",
        ),
    ];
    for (protocol, state, kind, error) in table {
        assert_eq!(try_build(protocol, state, kind), Err(error.to_owned()));
    }
    let with = |protocol, kind, field, value| {
        let mut values = samples(protocol);
        values.retain(|(known, _)| *known != field);
        values.push((field, value));
        build(version(protocol), State::Play, kind, &values).map_err(|error| error.to_string())
    };
    let str = |text: &str| Value::Str(text.to_owned().into());
    let table = [
        (
            47,
            PacketKind::ChatMessage,
            PacketField::Message,
            str("/a"),
            "`message` cannot have this value",
        ),
        (
            47,
            PacketKind::ChatMessage,
            PacketField::Message,
            str(&"a".repeat(101)),
            "`message` is longer than 100",
        ),
        (
            340,
            PacketKind::ChatCommand,
            PacketField::Message,
            str(&"a".repeat(256)),
            "`message` is longer than 256",
        ),
        (
            393,
            PacketKind::PluginMessageToClient,
            PacketField::Channel,
            str("A B"),
            "`channel` cannot have this value",
        ),
        (
            340,
            PacketKind::PluginMessageToClient,
            PacketField::Channel,
            str("a:bcdefghijklmnopqrst"),
            "`channel` is longer than 20",
        ),
        (
            766,
            PacketKind::CookieStore,
            PacketField::Data,
            Value::Bytes(vec![0; 5121].into()),
            "`data` is longer than 5120",
        ),
        (
            766,
            PacketKind::CookieStore,
            PacketField::Key,
            str("A"),
            "`key` cannot have this value",
        ),
        (
            766,
            PacketKind::Transfer,
            PacketField::Port,
            str("1"),
            "`port` has a value of another type",
        ),
        (
            47,
            PacketKind::KeepAlive,
            PacketField::Id,
            Value::Int(1 << 40),
            "`id` cannot have this value",
        ),
        (
            754,
            PacketKind::SystemMessage,
            PacketField::Position,
            Value::Int(2),
            "`position` cannot have this value",
        ),
        (
            761,
            PacketKind::ChatMessage,
            PacketField::Seen,
            Value::Bytes(vec![1].into()),
            "`seen` cannot have this value",
        ),
        (
            760,
            PacketKind::ChatMessage,
            PacketField::Seen,
            Value::Bytes(vec![9, 0].into()),
            "`seen` cannot have this value",
        ),
    ];
    for (protocol, kind, field, value, error) in table {
        assert_eq!(with(protocol, kind, field, value), Err(error.to_owned()));
    }
}

/// Packets in the name of a player have no character for which servers disconnect players,
/// in any version.
#[test]
fn players_say_no_forbidden_characters() {
    for protocol in [5, 47, 340, 758, 759, 760, 765, 776] {
        for kind in [PacketKind::ChatMessage, PacketKind::ChatCommand] {
            let say = |text: &'static str| {
                let mut values = samples(protocol);
                values.retain(|(known, _)| *known != PacketField::Message);
                values.push((PacketField::Message, Value::Str(text.into())));
                build(version(protocol), State::Play, kind, &values)
                    .map_err(|error| error.to_string())
            };
            assert!(say("hé ~𝄞").is_ok(), "{protocol} {kind:?}");
            for (text, character) in [
                ("a\0", "\\u{0}"),
                ("a\n", "\\n"),
                ("\u{7f}", "\\u{7f}"),
                ("§c", "\\u{a7}"),
            ] {
                let error = format!(
                    "`message` has the character `{character}`, for which servers disconnect a player"
                );
                assert_eq!(say(text), Err(error), "{protocol} {kind:?}");
            }
        }
    }
}

/// Kinds that share a packet are distinguished by its content, and channels and
/// commands have one name in every version.
#[test]
fn packets_of_several_kinds() {
    let kind = |protocol, direction, id, fields: &[u8]| {
        let view = View::of(version(protocol), State::Play, direction, id, fields);
        view.map(|view| view.kind())
    };
    use Direction::{Clientbound, Serverbound};
    type Row = (i32, Direction, i32, &'static [u8], Option<PacketKind>);
    let table: &[Row] = &[
        (
            47,
            Serverbound,
            0x01,
            b"\x02hi",
            Some(PacketKind::ChatMessage),
        ),
        (
            47,
            Serverbound,
            0x01,
            b"\x02/i",
            Some(PacketKind::ChatCommand),
        ),
        (47, Serverbound, 0x01, b"\x02", None),
        (
            47,
            Clientbound,
            0x02,
            b"\x02\"\"\x00",
            Some(PacketKind::SystemMessage),
        ),
        (
            47,
            Clientbound,
            0x02,
            b"\x02\"\"\x02",
            Some(PacketKind::ActionBar),
        ),
        (
            754,
            Clientbound,
            0x0E,
            b"\x02\"\"\x02",
            Some(PacketKind::ActionBar),
        ),
        (47, Clientbound, 0x45, b"\x03", Some(PacketKind::ClearTitle)),
        (47, Clientbound, 0x45, b"\x02", Some(PacketKind::TitleTimes)),
        (340, Clientbound, 0x48, b"\x02", Some(PacketKind::ActionBar)),
        (
            340,
            Clientbound,
            0x48,
            b"\x03",
            Some(PacketKind::TitleTimes),
        ),
        (340, Clientbound, 0x48, b"\x06", None),
        (
            777,
            Clientbound,
            0x7C,
            b"\x08\0\0\x00",
            Some(PacketKind::SystemMessage),
        ),
        (
            777,
            Clientbound,
            0x7C,
            b"\x08\0\0\x01",
            Some(PacketKind::ActionBar),
        ),
        (777, Clientbound, 0x7C, b"\x08\0\0", None),
        (777, Serverbound, 0x08, b"", Some(PacketKind::ChatCommand)),
        (777, Serverbound, 0x07, b"", Some(PacketKind::ChatCommand)),
        (777, Clientbound, 0x00, b"", None),
    ];
    for (protocol, direction, id, fields, expected) in table {
        assert_eq!(
            kind(*protocol, *direction, *id, fields),
            *expected,
            "{id:#x} in {protocol}"
        );
    }
    let get = |protocol, direction, id, fields: &'static [u8], field| {
        View::of(version(protocol), State::Play, direction, id, fields)
            .unwrap()
            .get(field)
            .unwrap()
    };
    let str = |text: &'static str| Some(Value::Str(text.into()));
    assert_eq!(
        get(47, Serverbound, 0x01, b"\x07//wand ", PacketField::Message),
        str("/wand ")
    );
    assert_eq!(
        get(
            340,
            Clientbound,
            0x18,
            b"\x08MC|Brand\x01a",
            PacketField::Channel
        ),
        str("minecraft:brand")
    );
    assert_eq!(
        get(
            340,
            Clientbound,
            0x18,
            b"\x0abungeecord",
            PacketField::Channel
        ),
        str("bungeecord")
    );
    // A hardcore survival world in the nether, with 1.8's join game.
    let join = b"\0\0\0\x05\x08\xff\x01\x14\x07default\0";
    for (field, value) in [
        (PacketField::EntityId, Some(Value::Int(5))),
        (PacketField::GameMode, Some(Value::Int(0))),
        (PacketField::Hardcore, Some(Value::Bool(true))),
        (PacketField::World, str("minecraft:the_nether")),
        (PacketField::DimensionId, Some(Value::Int(-1))),
        (PacketField::SeaLevel, None),
    ] {
        assert_eq!(get(47, Clientbound, 0x01, join, field), value, "{field:?}");
    }
}

/// Changing a field changes its bytes and no others.
#[test]
fn with_keeps_all_other_bytes() {
    for version in Version::all() {
        let samples = samples(version.protocol());
        for kind in PacketKind::ALL {
            let Ok(mut packet) = assemble(version, State::Play, *kind, &samples) else {
                continue;
            };
            let read = view(version, State::Play, *kind, &packet).unwrap();
            assert_eq!(
                read.with(&[]).as_ref(),
                Ok(&packet),
                "{kind:?} in {}",
                version.games()
            );
            let mut samples = samples.clone();
            // Up to 1.16.1 this is a bit of another field, which was not set.
            samples.retain(|(field, _)| *field != PacketField::Hardcore);
            let changed = read.with(&samples).unwrap();
            assert_eq!(changed, packet, "{kind:?} in {}", version.games());
            // Bytes behind the last field, which a later version may have, stay.
            let all = read
                .form
                .items
                .last()
                .is_some_and(|item| matches!(item.wire, Wire::Rest(_)));
            if !all {
                packet.extend([7, 7]);
                let read = view(version, State::Play, *kind, &packet).unwrap();
                assert_eq!(read.with(&[]).as_ref(), Ok(&packet));
            }
        }
    }
    // The game mode of 1.8 and its bit are two fields.
    let join = b"\x01\0\0\0\x05\x08\xff\x01\x14\x07default\0";
    let read = view(version(47), State::Play, PacketKind::JoinGame, join).unwrap();
    for (field, value, mode) in [
        (PacketField::GameMode, Value::Int(1), 9),
        (PacketField::Hardcore, Value::Bool(false), 0),
    ] {
        let changed = read.with(&[(field, value)]).unwrap();
        assert_eq!(
            (changed[5], &changed[..5], &changed[6..]),
            (mode, &join[..5], &join[6..])
        );
    }
    let packet = b"\x4a\x01u\x00\x01\x01\x04\"hi\"";
    let read = view(
        version(762),
        State::Play,
        PacketKind::ResourcePackPush,
        b"\x40\x01u\x00\x01\x01\x04\"hi\"",
    )
    .unwrap();
    assert_eq!(packet[1..], read.fields[..]);
    let prompt = read.get(PacketField::Prompt).unwrap().unwrap();
    assert_eq!(prompt, Value::Text(Cow::Owned(json!("hi"))));
    let changed = read.with(&[
        (PacketField::Prompt, Value::None),
        (PacketField::Url, Value::Str("xy".into())),
    ]);
    assert_eq!(changed, Ok(b"\x40\x02xy\x00\x01\x00".to_vec()));
}

/// A message can be shown in every version; in 1.7 titles and action bars become chat.
#[test]
fn messages_are_shown_everywhere() {
    let (title, subtitle) = (json!({"text": "a"}), json!({"text": "b"}));
    let title = Message::Title {
        title: &title,
        subtitle: &subtitle,
        fade_in: 1,
        stay: 2,
        fade_out: 3,
    };
    for version in Version::all() {
        let kinds = |shown: &Message<'_>| {
            let packets = message(version, State::Play, shown).unwrap();
            let kinds = packets
                .iter()
                .map(|packet| view(version, State::Play, Title, packet).unwrap().kind());
            kinds.collect::<Vec<_>>()
        };
        use PacketKind::{ActionBar, Subtitle, SystemMessage, Title, TitleTimes};
        let line = json!({"text": "c"});
        assert_eq!(kinds(&Message::Chat(&line)), [SystemMessage]);
        if version.protocol() < 47 {
            assert_eq!(kinds(&Message::ActionBar(&line)), [SystemMessage]);
            assert_eq!(kinds(&title), [SystemMessage, SystemMessage]);
        } else {
            assert_eq!(kinds(&Message::ActionBar(&line)), [ActionBar]);
            assert_eq!(kinds(&title), [TitleTimes, Subtitle, Title]);
        }
        assert!(message(version, State::Login, &Message::Chat(&line)).is_err());
    }
}

proptest! {
    /// Any bytes under any id are read, changed or refused.
    #[test]
    fn any_bytes(
        index in 0_usize..54,
        state in prop::sample::select(STATES.to_vec()),
        is_clientbound: bool,
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..120),
            // Short lengths, truth values and tags, so that much is well-formed.
            prop::collection::vec(0_u8..12, 0..120),
        ],
    ) {
        let version = Version::all().nth(index).unwrap_or(Version::newest());
        let direction = match is_clientbound {
            true => Direction::Clientbound,
            false => Direction::Serverbound,
        };
        let samples = samples(version.protocol());
        for id in 0..0x98 {
            let Some(view) = View::of(version, state, direction, id, &bytes) else { continue };
            for field in PacketField::ALL {
                let _ = view.get(*field);
            }
            if let Ok(same) = view.with(&[]) {
                prop_assert_eq!(split(&same), (id, &bytes[..]));
            }
            let _ = view.with(&samples);
        }
    }
}
