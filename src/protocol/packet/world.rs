//! Moves a player in play to another world, before 1.20.2: the packets that replace
//! the world ([`enter`]), and those that clear what the join game leaves on the
//! screen ([`Screen`]). Since 1.20.2 a configuration does both.
//!
//! A client discards its world when the dimension changes (up to 1.15.2), or when a
//! respawn follows the join game (1.16 to 1.20.1). A join game also begins a new
//! scoreboard, so objectives and teams need no packets.

use super::super::nbt;
use super::super::read::{Cursor, ReadError, write_string};
use super::super::varint;
use super::super::version::{
    V1_8, V1_9_1, V1_11, V1_14, V1_15, V1_16, V1_16_2, V1_17, V1_18, V1_19, V1_19_3, V1_20_2,
};
use super::{Clientbound, State, Version};

/// The most characters of a text in a join game (the game).
const TEXT_CHARS_MAX: usize = 32_767;
/// The bit of a hardcore world in the mode, up to 1.16.1. A respawn does not have it.
const HARDCORE_BIT: u8 = 8;
/// The action of a player list that removes players, up to 1.19.2.
const REMOVE_PLAYERS: i32 = 4;
/// The action of a boss bar that removes it.
const REMOVE_BOSS_BAR: i32 = 1;

/// The fields of a join game that a respawn repeats.
struct World<'a> {
    /// The offset of the dimension in the fields.
    dimension_at: usize,
    dimension: &'a [u8],
    /// The name of the world and the seed since 1.16; the seed in 1.15.
    place: &'a [u8],
    difficulty: Option<u8>,
    mode: u8,
    previous_mode: u8,
    level_type: &'a str,
    /// Whether the world is for debugging, and whether it is flat.
    kinds: &'a [u8],
    /// Since 1.19: the last death and the cooldown of portals.
    rest: &'a [u8],
}

/// The packets that bring a player in play into the world of a join game with
/// these `fields`: a join game, then a respawn. For versions before 1.20.2.
///
/// # Errors
///
/// When the fields are malformed for the version.
pub(crate) fn enter(version: Version, fields: &[u8]) -> Result<[Vec<u8>; 2], ReadError> {
    let protocol = version.protocol();
    debug_assert!(protocol < V1_20_2, "a configuration replaces the world");
    let world = match protocol {
        V1_16.. => World::modern(protocol, fields)?,
        _ => World::old(protocol, fields)?,
    };
    let id = |kind| version.id(State::Play, kind).unwrap_or_default();
    let mut join = vec![id(Clientbound::JoinGame)];
    let mut respawn = vec![id(Clientbound::Respawn)];
    join.extend_from_slice(fields);
    if protocol < V1_16 {
        let dimension = world.number();
        // The join game names another dimension, so that the respawn changes it. The
        // client leaves that world at once, before it needs any chunk of it.
        let other = other_dimension(dimension).to_be_bytes();
        let bytes = world.dimension.len();
        let at = 1 + world.dimension_at;
        let tail = other.get(other.len() - bytes..).unwrap_or_default();
        if let Some(target) = join.get_mut(at..at + bytes) {
            target.copy_from_slice(tail);
        }
        respawn.extend_from_slice(&dimension.to_be_bytes());
        respawn.extend_from_slice(world.place);
        respawn.extend(world.difficulty);
        respawn.push(world.mode & !HARDCORE_BIT);
        write_string(world.level_type, &mut respawn);
        return Ok([join, respawn]);
    }
    respawn.extend_from_slice(world.dimension);
    respawn.extend_from_slice(world.place);
    respawn.push(match protocol {
        ..V1_16_2 => world.mode & !HARDCORE_BIT,
        _ => world.mode,
    });
    respawn.push(world.previous_mode);
    respawn.extend_from_slice(world.kinds);
    // Which data of the player's entity to keep: none.
    respawn.push(0);
    respawn.extend_from_slice(world.rest);
    Ok([join, respawn])
}

/// As [`enter`], for a client with mods of Forge before 1.13. Those read the dimension in
/// the join game, so that it has to be the right one.
///
/// # Errors
///
/// When the fields are malformed for the version.
pub(crate) fn enter_with_mods(version: Version, fields: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
    let [mut join, respawn] = enter(version, fields)?;
    // Both begin with an id of one byte.
    let dimension = World::old(version.protocol(), fields)?.number();
    let mut elsewhere = respawn.clone();
    if let Some(target) = elsewhere.get_mut(1..5) {
        target.copy_from_slice(&other_dimension(dimension).to_be_bytes());
    }
    join.truncate(1);
    join.extend_from_slice(fields);
    Ok(vec![join, elsewhere, respawn])
}

/// A dimension that is not this one.
const fn other_dimension(dimension: i32) -> i32 {
    if dimension == 0 { -1 } else { 0 }
}

impl<'a> World<'a> {
    fn old(protocol: i32, fields: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(fields);
        cursor.i32()?;
        let mode = cursor.u8()?;
        let dimension_at = fields.len() - cursor.remaining();
        let dimension = cursor.take(match protocol {
            ..V1_9_1 => 1,
            _ => 4,
        })?;
        let place = cursor.take(match protocol {
            V1_15.. => 8,
            _ => 0,
        })?;
        let difficulty = match protocol {
            ..V1_14 => Some(cursor.u8()?),
            _ => None,
        };
        // The maximum number of players.
        cursor.u8()?;
        let level_type = cursor.string(TEXT_CHARS_MAX)?;
        Ok(Self {
            dimension_at,
            dimension,
            place,
            difficulty,
            mode,
            previous_mode: 0,
            level_type,
            kinds: &[],
            rest: &[],
        })
    }

    fn modern(protocol: i32, fields: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(fields);
        let since = |cursor: &Cursor<'_>| fields.len() - cursor.remaining();
        let part = |from: usize, to: usize| fields.get(from..to).unwrap_or_default();
        cursor.i32()?;
        if protocol >= V1_16_2 {
            // Whether the world is hardcore.
            cursor.bool()?;
        }
        let mode = cursor.u8()?;
        let previous_mode = cursor.u8()?;
        for _ in 0..cursor.length()? {
            cursor.string(TEXT_CHARS_MAX)?;
        }
        nbt::skip(&mut cursor, true)?;
        let dimension_at = since(&cursor);
        match protocol {
            V1_16_2..V1_19 => nbt::skip(&mut cursor, true)?,
            _ => cursor.string(TEXT_CHARS_MAX).map(drop)?,
        }
        let place_at = since(&cursor);
        cursor.string(TEXT_CHARS_MAX)?;
        cursor.i64()?;
        let place_to = since(&cursor);
        match protocol {
            ..V1_16_2 => cursor.u8().map(drop)?,
            _ => cursor.varint().map(drop)?,
        }
        // The view distance and the simulation distance.
        cursor.varint()?;
        if protocol >= V1_18 {
            cursor.varint()?;
        }
        // Reduced debug information, and whether there is a death screen.
        cursor.take(2)?;
        let kinds = cursor.take(2)?;
        let rest = cursor.rest();
        let rest = match protocol {
            V1_19.. => rest,
            _ => &[],
        };
        Ok(Self {
            dimension_at,
            dimension: part(dimension_at, place_at),
            place: part(place_at, place_to),
            difficulty: None,
            mode,
            previous_mode,
            level_type: "",
            kinds,
            rest,
        })
    }

    /// The dimension up to 1.15.2.
    fn number(&self) -> i32 {
        match *self.dimension {
            [byte] => i32::from(byte.cast_signed()),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => 0,
        }
    }
}

/// What stays on a client's screen when it gets another world: the player list and
/// the boss bars.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// The players in the list, by id, or by name in 1.7.
    players: std::collections::BTreeSet<Box<[u8]>>,
    boss_bars: std::collections::BTreeSet<[u8; 16]>,
    /// A title was shown, or its times were set, since 1.20.2: until then titles are cleared
    /// in each case.
    has_title: bool,
}

/// The fields of a packet that clears titles with their times.
const CLEAR_ALL_OF_TITLES: &[u8] = &[1];

/// The most players and the most boss bars that are remembered. Backends show some
/// hundred; others would stay on the screen.
const SHOWN_MAX: usize = 4096;
/// The most characters of the name of a player in the list of 1.7 (the game).
const NAME_CHARS_MAX: usize = 16;

impl Screen {
    /// Whether a packet of this kind changes what [`note`](Self::note) remembers.
    pub(crate) const fn concerns(version: Version, kind: Clientbound) -> bool {
        match kind {
            Clientbound::PlayerInfo | Clientbound::PlayerRemove | Clientbound::BossBar => {
                version.protocol() < V1_20_2
            }
            // Of these a configuration does not clear the screen.
            Clientbound::TitleText
            | Clientbound::Subtitle
            | Clientbound::TitleTimes
            | Clientbound::ClearTitles => version.protocol() >= V1_20_2,
            _ => false,
        }
    }

    /// Records a packet for the client. One that cannot be read is ignored here; the
    /// client gets it anyway.
    pub(crate) fn note(&mut self, version: Version, kind: Clientbound, fields: &[u8]) {
        let cursor = Cursor::new(fields);
        let _ = match kind {
            Clientbound::PlayerInfo => self.note_players(version.protocol(), cursor),
            Clientbound::PlayerRemove => self.remove_players(cursor),
            Clientbound::BossBar => self.note_boss_bar(cursor),
            Clientbound::TitleText | Clientbound::Subtitle | Clientbound::TitleTimes => {
                self.has_title = true;
                Ok(())
            }
            Clientbound::ClearTitles => {
                self.has_title &= fields != CLEAR_ALL_OF_TITLES;
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn add_player(&mut self, player: &[u8]) {
        if self.players.len() < SHOWN_MAX {
            self.players.insert(player.into());
        }
    }

    fn note_players(&mut self, protocol: i32, mut cursor: Cursor<'_>) -> Result<(), ReadError> {
        if protocol < V1_8 {
            let name = cursor.string(NAME_CHARS_MAX)?;
            match cursor.bool()? {
                true => self.add_player(name.as_bytes()),
                false => {
                    self.players.remove(name.as_bytes());
                }
            }
            return Ok(());
        }
        if protocol >= V1_19_3 {
            let fields = cursor.u8()?;
            for _ in 0..cursor.length()? {
                let player = cursor.uuid()?;
                if fields & 1 == 0 {
                    // These entries are changed, not added.
                    return Ok(());
                }
                self.add_player(&player);
                skip_entry(&mut cursor, fields)?;
            }
            return Ok(());
        }
        let action = cursor.varint()?;
        if action == REMOVE_PLAYERS {
            return self.remove_players(cursor);
        }
        if action != 0 {
            return Ok(());
        }
        for _ in 0..cursor.length()? {
            let player = cursor.uuid()?;
            self.add_player(&player);
            skip_profile(&mut cursor)?;
            cursor.varint()?;
            cursor.varint()?;
            if cursor.bool()? {
                cursor.string(TEXT_CHARS_MAX * 8)?;
            }
            if protocol >= V1_19 && cursor.bool()? {
                cursor.i64()?;
                cursor.bytes(TEXT_CHARS_MAX)?;
                cursor.bytes(TEXT_CHARS_MAX)?;
            }
        }
        Ok(())
    }

    fn remove_players(&mut self, mut cursor: Cursor<'_>) -> Result<(), ReadError> {
        for _ in 0..cursor.length()? {
            self.players.remove(&cursor.uuid()?[..]);
        }
        Ok(())
    }

    fn note_boss_bar(&mut self, mut cursor: Cursor<'_>) -> Result<(), ReadError> {
        let bar = cursor.uuid()?;
        match cursor.varint()? {
            0 if self.boss_bars.len() < SHOWN_MAX => {
                self.boss_bars.insert(bar);
            }
            REMOVE_BOSS_BAR => {
                self.boss_bars.remove(&bar);
            }
            _ => {}
        }
        Ok(())
    }

    /// The packets that clear the screen; `self` is empty afterwards. For versions
    /// before 1.20.2.
    pub(crate) fn clear(&mut self, version: Version) -> Vec<Vec<u8>> {
        let protocol = version.protocol();
        let packet = |kind| version.id(State::Play, kind).map(|id| vec![id]);
        let mut packets = Vec::new();
        let players = std::mem::take(&mut self.players);
        if protocol < V1_8 {
            for name in &players {
                let mut packet = packet(Clientbound::PlayerInfo).unwrap_or_default();
                write_string(&String::from_utf8_lossy(name), &mut packet);
                // Not online, with a latency of 0.
                packet.extend([0; 3]);
                packets.push(packet);
            }
        } else if !players.is_empty() {
            let mut packet = match protocol {
                V1_19_3.. => packet(Clientbound::PlayerRemove),
                _ => packet(Clientbound::PlayerInfo),
            }
            .unwrap_or_default();
            if protocol < V1_19_3 {
                varint::encode(REMOVE_PLAYERS, &mut packet);
            }
            varint::encode(i32::try_from(players.len()).unwrap_or(0), &mut packet);
            players.iter().for_each(|id| packet.extend_from_slice(id));
            packets.push(packet);
        }
        for bar in std::mem::take(&mut self.boss_bars) {
            let mut packet = packet(Clientbound::BossBar).unwrap_or_default();
            packet.extend_from_slice(&bar);
            varint::encode(REMOVE_BOSS_BAR, &mut packet);
            packets.push(packet);
        }
        if let Some(mut header) = packet(Clientbound::HeaderFooter) {
            write_string(r#"{"text":""}"#, &mut header);
            write_string(r#"{"text":""}"#, &mut header);
            packets.push(header);
        }
        packets.extend(clear_titles(version));
        packets
    }

    /// The packet that clears the titles of the server before, in play since 1.20.2: a client
    /// that comes out of a configuration goes on to show them.
    pub(crate) fn clear_titles(&mut self, version: Version) -> Option<Vec<u8>> {
        std::mem::take(&mut self.has_title).then(|| clear_titles(version))?
    }
}

/// The packet that clears titles and their times; 1.7 has none.
fn clear_titles(version: Version) -> Option<Vec<u8>> {
    let (kind, fields) = match version.protocol() {
        V1_17.. => (Clientbound::ClearTitles, CLEAR_ALL_OF_TITLES),
        V1_11.. => (Clientbound::Title, &[5][..]),
        _ => (Clientbound::Title, &[4][..]),
    };
    let id = version.id(State::Play, kind)?;
    Some([&[id], fields].concat())
}

fn skip_profile(cursor: &mut Cursor<'_>) -> Result<(), ReadError> {
    cursor.string(TEXT_CHARS_MAX)?;
    for _ in 0..cursor.length()? {
        cursor.string(TEXT_CHARS_MAX)?;
        cursor.string(TEXT_CHARS_MAX)?;
        if cursor.bool()? {
            cursor.string(TEXT_CHARS_MAX)?;
        }
    }
    Ok(())
}

/// Skips an entry of the player list, 1.19.3 to 1.20.1; the bits of `fields` say
/// which fields it has.
fn skip_entry(cursor: &mut Cursor<'_>, fields: u8) -> Result<(), ReadError> {
    let has = |bit: u8| fields & (1 << bit) != 0;
    skip_profile(cursor)?;
    if has(1) && cursor.bool()? {
        cursor.take(24)?;
        cursor.bytes(TEXT_CHARS_MAX)?;
        cursor.bytes(TEXT_CHARS_MAX)?;
    }
    if has(2) {
        cursor.varint()?;
    }
    if has(3) {
        cursor.bool()?;
    }
    if has(4) {
        cursor.varint()?;
    }
    if has(5) && cursor.bool()? {
        cursor.string(TEXT_CHARS_MAX * 8)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(protocol: i32) -> Version {
        Version::of(protocol).unwrap()
    }

    /// Up to 1.15.2 the join game names another dimension, and the respawn the
    /// right one.
    #[test]
    fn dimensions_change() {
        let fields = b"\0\0\0\x07\x09\0\x02\x14\x07default\x01";
        let [join, respawn] = enter(version(47), fields).unwrap();
        assert_eq!(join, b"\x01\0\0\0\x07\x09\xFF\x02\x14\x07default\x01");
        assert_eq!(respawn, b"\x07\0\0\0\0\x02\x01\x07default");
        let fields = b"\0\0\0\x07\x01\xFF\xFF\xFF\xFF\x02\x14\x07default\x01";
        let [join, respawn] = enter(version(340), fields).unwrap();
        assert_eq!(join[1..], *b"\0\0\0\x07\x01\0\0\0\0\x02\x14\x07default\x01");
        assert_eq!(respawn, b"\x35\xFF\xFF\xFF\xFF\x02\x01\x07default");
        let fields = b"\0\0\0\x07\x01\0\0\0\x01seedseed\x14\x07default\x08\x01\x01";
        let [join, respawn] = enter(version(578), fields).unwrap();
        assert_eq!(join[6..10], [0; 4]);
        assert_eq!(respawn, b"\x3b\0\0\0\x01seedseed\x01\x07default");
    }

    /// Since 1.16 the join game passes unchanged, and the respawn repeats its world.
    #[test]
    fn worlds_are_repeated() {
        let worlds = b"\x01\x01w\x0a\0\0\0";
        let old = [
            b"\0\0\0\x07\x09\xFF",
            &worlds[..],
            b"\x01d\x01wseedseed\x14\x08\0\x01\0\x01",
        ];
        let [join, respawn] = enter(version(735), &old.concat()).unwrap();
        assert_eq!(join[1..], old.concat());
        assert_eq!(respawn, b"\x3a\x01d\x01wseedseed\x01\xFF\0\x01\0");
        let nbt = b"\x0a\0\0\x01\0\x01a\x05\0";
        let newer = [
            b"\0\0\0\x07\x01\x01\xFF",
            &worlds[..],
            nbt,
            b"\x01wseedseed\x14\x08\0\x01\x01\0",
        ];
        let [_, respawn] = enter(version(754), &newer.concat()).unwrap();
        let expected = [b"\x39", &nbt[..], b"\x01wseedseed\x01\xFF\x01\0\0"];
        assert_eq!(respawn, expected.concat());
        let death = b"\x01\x01w12345678\x05";
        let newest = [
            b"\0\0\0\x07\x01\x01\xFF",
            &worlds[..],
            b"\x01d\x01wseedseed\x14\x08\x06\0\x01\x01\0",
            death,
        ];
        let [_, respawn] = enter(version(763), &newest.concat()).unwrap();
        let expected = [&b"\x41\x01d\x01wseedseed\x01\xFF\x01\0\0"[..], death];
        assert_eq!(respawn, expected.concat());
        for cut in 0..newest.concat().len() - death.len() {
            assert!(
                enter(version(763), &newest.concat()[..cut]).is_err(),
                "{cut}"
            );
        }
    }

    /// Only players and boss bars that are still shown are removed, and each once.
    #[test]
    fn screens_are_cleared() {
        for (protocol, add, remove, cleared) in [
            (
                47,
                [
                    b"\0\x02",
                    &[1; 16][..],
                    b"\x01A\0\0\0\0",
                    &[2; 16],
                    b"\x01B\0\0\0\0",
                ]
                .concat(),
                [b"\x04\x01", &[1; 16][..]].concat(),
                [b"\x38\x04\x01", &[2; 16][..]].concat(),
            ),
            (
                763,
                [
                    b"\x09\x02",
                    &[1; 16][..],
                    b"\x01A\0\x01",
                    &[2; 16],
                    b"\x01B\0\x01",
                ]
                .concat(),
                [b"\x01", &[1; 16][..]].concat(),
                [b"\x39\x01", &[2; 16][..]].concat(),
            ),
        ] {
            let mut screen = Screen::default();
            let version = version(protocol);
            screen.note(version, Clientbound::PlayerInfo, &add);
            let removal = match protocol {
                47 => Clientbound::PlayerInfo,
                _ => Clientbound::PlayerRemove,
            };
            screen.note(version, removal, &remove);
            assert_eq!(screen.clear(version)[0], cleared, "{protocol}");
            // Header and title.
            assert_eq!(screen.clear(version).len(), 2, "{protocol}");
        }
        let mut screen = Screen::default();
        screen.note(version(5), Clientbound::PlayerInfo, b"\x01A\x01\0\x05");
        assert_eq!(screen.clear(version(5)), [b"\x38\x01A\0\0\0"]);
        screen.note(
            version(340),
            Clientbound::BossBar,
            &[[3; 16], [0; 16]].concat(),
        );
        let bar = [b"\x0c", &[3; 16][..], b"\x01"].concat();
        assert_eq!(screen.clear(version(340))[0], bar);
    }
}
