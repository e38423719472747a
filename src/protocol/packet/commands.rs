//! Commands: the line that a player sends, the tree that the client knows, and
//! completions.
//!
//! The tree of a backend is extended without being decoded. The format of an argument
//! depends on its parser, and mods add parsers that only they know. The root, which is the
//! first node, has no parser.

use std::borrow::Cow;

use thiserror::Error;

use super::{Clientbound, Kind, Serverbound, State, Version};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::read::{Cursor, ReadError, write_string};
use crate::protocol::varint;
use crate::protocol::version::{V1_13, V1_19, V1_19_1, V1_19_3, V1_20_5};

/// The most characters of a command or of a text to complete (the game).
const LINE_CHARS_MAX: usize = 32_767;
/// The most characters of a suggestion (the game).
const SUGGESTION_CHARS_MAX: usize = 32_767;
/// The most suggestions of a backend that are read, before 1.13.
const SUGGESTIONS_MAX: usize = 16_384;
/// The most bytes of a signature of an argument in 1.19 and 1.19.1 (the game).
const OLD_SIGNATURE_BYTES_MAX: usize = 4096;
/// The bytes of a signature since 1.19.3.
pub(crate) const SIGNATURE_BYTES: usize = 256;
/// The most characters of the name of a signed argument (the game).
const ARGUMENT_CHARS_MAX: usize = 16;
/// The most signed arguments of a command (the game).
const ARGUMENTS_MAX: usize = 8;
/// The most bytes of a packet that gets more than its backend has sent. It fits in a
/// frame of every format, where the longest header inside the frame has three bytes,
/// and clients of every version read it.
const EXTENDED_BYTES_MAX: usize = FRAME_BYTES_MAX - 3;

/// The flags of a node: a literal that can be run.
const LITERAL: u8 = 0x05;
/// An argument that can be run and asks the server for completions.
const ARGUMENT: u8 = 0x16;
/// The bits of the flags that say which kind of node it is; the root has none.
const NODE_KIND: u8 = 0x03;
/// The parser of an argument that is a text, by its name (until 1.18.2), and by
/// its number (since 1.19).
const TEXT_PARSER: (&str, i32) = ("brigadier:string", 5);
/// The text goes to the end of the line.
const GREEDY: i32 = 2;

/// A command that a player sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    /// What was typed, without the slash.
    pub(crate) text: &'a str,
    /// Whether an argument is signed. The backend counts such commands, and disconnects the
    /// player if one is missing.
    pub(crate) is_signed: bool,
    /// The number of messages that the client has seen since its last acknowledgement. The
    /// backend needs it (1.19.3).
    pub(crate) seen: i32,
}

impl<'a> CommandLine<'a> {
    /// The command in a packet of the game, if it has one that can be parsed.
    pub(crate) fn of(version: Version, kind: Serverbound, fields: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(fields);
        let unsigned = |text| Self {
            text,
            is_signed: false,
            seen: 0,
        };
        match kind {
            Serverbound::Chat => {
                let line = cursor.string(LINE_CHARS_MAX).ok()?;
                line.strip_prefix('/').map(unsigned)
            }
            Serverbound::ChatCommand if version.protocol() >= V1_20_5 => {
                cursor.string(LINE_CHARS_MAX).ok().map(unsigned)
            }
            Serverbound::ChatCommand | Serverbound::ChatCommandSigned => {
                Self::signed(version, &mut cursor).ok()
            }
            _ => None,
        }
    }

    /// A command in a packet that can have signatures.
    fn signed(version: Version, cursor: &mut Cursor<'a>) -> Result<Self, ReadError> {
        let text = cursor.string(LINE_CHARS_MAX)?;
        // Time and salt.
        cursor.take(16)?;
        let count = cursor.length()?;
        if count > ARGUMENTS_MAX {
            return Err(ReadError::TooLong { max: ARGUMENTS_MAX });
        }
        for _ in 0..count {
            cursor.string(ARGUMENT_CHARS_MAX)?;
            match version.protocol() {
                V1_19..=V1_19_1 => cursor.bytes(OLD_SIGNATURE_BYTES_MAX)?,
                _ => cursor.take(SIGNATURE_BYTES)?,
            };
        }
        let seen = match version.protocol() {
            V1_19_3.. => cursor.varint()?,
            _ => 0,
        };
        Ok(Self {
            text,
            is_signed: count > 0,
            seen,
        })
    }

    /// The name of the command: everything in front of the first space.
    pub(crate) fn name(&self) -> &'a str {
        name_of(self.text)
    }
}

/// The name of the command in a line without a slash.
pub(crate) fn name_of(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(name, _)| name)
}

/// The packet that acknowledges `seen` more messages to a backend. `None` if the count is
/// zero or the version has no such packet.
pub(crate) fn acknowledge(version: Version, seen: i32) -> Option<Vec<u8>> {
    if seen <= 0 {
        return None;
    }
    let mut packet = packet(version, Serverbound::ChatAcknowledgement)?;
    varint::encode(seen, &mut packet);
    Some(packet)
}

/// A text that a client asks to be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion<'a> {
    /// The number of the request; since 1.13.
    id: i32,
    /// What was typed so far, with the slash.
    pub(crate) text: Cow<'a, str>,
}

impl<'a> Completion<'a> {
    /// The request in these fields, if they can be parsed.
    pub(crate) fn of(version: Version, fields: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(fields);
        let id = match version.protocol() {
            V1_13.. => cursor.varint().ok()?,
            _ => 0,
        };
        let text = cursor.string(LINE_CHARS_MAX).ok()?.into();
        Some(Self { id, text })
    }

    /// The line without the slash, if it is a command with its name written out:
    /// only its arguments are left to complete.
    pub(crate) fn command(&self) -> Option<&str> {
        let line = self.text.strip_prefix('/')?;
        line.contains(' ').then_some(line)
    }

    /// The same request, with its own copy of the text.
    pub(crate) fn into_owned(self) -> Completion<'static> {
        Completion {
            id: self.id,
            text: self.text.into_owned().into(),
        }
    }

    /// The packet with the suggestions for the last word.
    pub(crate) fn answer(&self, version: Version, suggestions: &[String]) -> Option<Vec<u8>> {
        let mut packet = packet(version, Clientbound::Suggestions)?;
        let is_numbered = version.protocol() >= V1_13;
        if is_numbered {
            let begin = self.text.rfind(' ').map_or(0, |space| space + 1);
            let (before, word) = self.text.split_at_checked(begin)?;
            varint::encode(self.id, &mut packet);
            // The game counts UTF-16 units.
            varint::encode_len(before.encode_utf16().count(), &mut packet);
            varint::encode_len(word.encode_utf16().count(), &mut packet);
        }
        varint::encode_len(suggestions.len(), &mut packet);
        for suggestion in suggestions {
            write_string(suggestion, &mut packet);
            if is_numbered {
                // No text beside it.
                packet.push(0);
            }
        }
        Some(packet)
    }
}

/// A backend's suggestions for the name of a command, with more names that begin
/// with `prefix`; before 1.13. `None` where nothing is to be added, or the fields
/// cannot be read or leave no room.
pub(crate) fn add_suggestions(
    version: Version,
    fields: &[u8],
    prefix: &str,
    names: &[String],
) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(fields);
    let count = cursor.length().ok()?;
    if count > SUGGESTIONS_MAX {
        return None;
    }
    let mut suggestions = Vec::new();
    for _ in 0..count {
        suggestions.push(Cow::Borrowed(cursor.string(SUGGESTION_CHARS_MAX).ok()?));
    }
    cursor.finish().ok()?;
    let known = suggestions.len();
    for name in names.iter().filter(|name| name.starts_with(prefix)) {
        let name = Cow::Owned(format!("/{name}"));
        if !suggestions.contains(&name) {
            suggestions.push(name);
        }
    }
    if suggestions.len() == known {
        return None;
    }
    suggestions.sort();
    let mut packet = packet(version, Clientbound::Suggestions)?;
    varint::encode_len(suggestions.len(), &mut packet);
    for suggestion in &suggestions {
        write_string(suggestion, &mut packet);
    }
    Some(packet).filter(|packet| packet.len() <= EXTENDED_BYTES_MAX)
}

/// A backend's tree of commands with commands of these names, each with one
/// argument: the rest of the line. `None` where there is nothing to add.
///
/// # Errors
///
/// When the tree does not begin with its root, as the game's and all known
/// servers' do, or leaves no room for more.
pub(crate) fn add_commands(
    version: Version,
    fields: &[u8],
    names: &[String],
) -> Result<Option<Vec<u8>>, NotAdded> {
    let unknown = |_: ReadError| NotAdded::UnknownTree;
    let Some(mut packet) = packet(version, Clientbound::Commands).filter(|_| !names.is_empty())
    else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(fields);
    let count = cursor.length().map_err(unknown)?;
    let flags = cursor.u8().map_err(unknown)?;
    if count == 0 || flags & NODE_KIND != 0 {
        return Err(NotAdded::UnknownTree);
    }
    let children = cursor.length().map_err(unknown)?;
    let before = cursor.clone().rest();
    for _ in 0..children {
        cursor.varint().map_err(unknown)?;
    }
    let (nodes, root) = cursor
        .clone()
        .rest()
        .split_last()
        .map_or((&[][..], &1), |(root, nodes)| (nodes, root));
    if *root != 0 {
        return Err(NotAdded::UnknownTree);
    }
    let children_bytes = before.len() - cursor.remaining();
    let number = |number: usize| i32::try_from(number).map_err(|_| NotAdded::UnknownTree);

    // Two nodes each: the name, and behind it its argument.
    varint::encode(number(count + 2 * names.len())?, &mut packet);
    packet.push(flags);
    varint::encode(number(children + names.len())?, &mut packet);
    packet.extend_from_slice(before.get(..children_bytes).unwrap_or_default());
    for index in 0..names.len() {
        varint::encode(number(count + 2 * index)?, &mut packet);
    }
    packet.extend_from_slice(nodes);
    for (index, name) in names.iter().enumerate() {
        packet.push(LITERAL);
        varint::encode(1, &mut packet);
        varint::encode(number(count + 2 * index + 1)?, &mut packet);
        write_string(name, &mut packet);

        packet.push(ARGUMENT);
        varint::encode(0, &mut packet);
        write_string("args", &mut packet);
        match version.protocol() {
            V1_19.. => varint::encode(TEXT_PARSER.1, &mut packet),
            _ => write_string(TEXT_PARSER.0, &mut packet),
        }
        varint::encode(GREEDY, &mut packet);
        write_string("minecraft:ask_server", &mut packet);
    }
    packet.push(0);
    match packet.len() > EXTENDED_BYTES_MAX {
        true => Err(NotAdded::TooLong),
        false => Ok(Some(packet)),
    }
}

/// Why a tree of commands gets no other commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotAdded {
    /// Its form is not known.
    #[error("a backend sends its commands in a form that is not known")]
    UnknownTree,
    /// With them it would not fit in a packet.
    #[error("the commands of a backend fill a whole packet")]
    TooLong,
}

/// Begins a packet of the game.
fn packet<K: Kind>(version: Version, kind: K) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    varint::encode(version.id(State::Play, kind)?.into(), &mut packet);
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::{Format, Zlib};

    fn version(protocol: i32) -> Version {
        Version::of(protocol).unwrap()
    }

    fn string(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_string(text, &mut bytes);
        bytes
    }

    /// Fields of a command with signed arguments, as each version has them.
    fn command(protocol: i32, text: &str, signatures: u8, seen: u8) -> Vec<u8> {
        let mut fields = string(text);
        fields.extend([7; 16]);
        fields.push(signatures);
        for _ in 0..signatures {
            fields.extend(string("message"));
            if protocol < V1_19_3 {
                fields.extend([0x80, 0x02]);
            }
            fields.extend([9; SIGNATURE_BYTES]);
        }
        match protocol {
            V1_19 => fields.push(0),
            V1_19_1 => fields.extend([0, 0, 0]),
            _ => fields.extend([seen, 0, 0, 0]),
        }
        fields
    }

    /// A command is read from its packet in each version, with the values that the proxy
    /// needs to keep it from the backend.
    #[test]
    fn commands_are_read() {
        let chat = |protocol, line: &str| {
            let fields = string(line);
            let read = CommandLine::of(version(protocol), Serverbound::Chat, &fields);
            read.map(|read| (read.name().to_owned(), read.text.to_owned()))
        };
        let read = |name: &str, text: &str| Some((name.to_owned(), text.to_owned()));
        for protocol in [4, 47, 340, 393, 758] {
            assert_eq!(
                chat(protocol, "/server lobby"),
                read("server", "server lobby")
            );
            assert_eq!(chat(protocol, "//wand"), read("/wand", "/wand"));
            assert_eq!(chat(protocol, "/ hub"), read("", " hub"));
            assert_eq!(chat(protocol, "/"), read("", ""));
            assert_eq!(chat(protocol, "hello"), None);
        }
        for (protocol, signatures, seen) in [
            (759, 0, 0),
            (759, 2, 0),
            (760, 0, 0),
            (760, 1, 0),
            (761, 0, 5),
            (765, 2, 20),
        ] {
            let fields = command(protocol, "send a b", signatures, seen);
            let read = CommandLine::of(version(protocol), Serverbound::ChatCommand, &fields);
            let expected = CommandLine {
                text: "send a b",
                is_signed: signatures > 0,
                seen: seen.into(),
            };
            assert_eq!(read, Some(expected), "{protocol}");
            for cut in 0..17 {
                let fields = &fields[..cut];
                let read = CommandLine::of(version(protocol), Serverbound::ChatCommand, fields);
                assert_eq!(read, None, "{protocol}");
            }
        }
        for protocol in [766, 777] {
            let version = version(protocol);
            let fields = string("glist");
            let read = CommandLine::of(version, Serverbound::ChatCommand, &fields).unwrap();
            assert_eq!(
                (read.name(), read.is_signed, read.seen),
                ("glist", false, 0)
            );
            let fields = command(protocol, "glist all", 1, 3);
            let read = CommandLine::of(version, Serverbound::ChatCommandSigned, &fields).unwrap();
            assert_eq!((read.name(), read.is_signed, read.seen), ("glist", true, 3));
        }
        assert_eq!(
            CommandLine::of(version(777), Serverbound::ChatMessage, b"\x02/a"),
            None
        );
    }

    /// Acknowledgements are passed on if their count is not zero and the version has them.
    #[test]
    fn acknowledgements_are_made() {
        for protocol in [761, 765, 766, 777] {
            let version = version(protocol);
            let id = version
                .id(State::Play, Serverbound::ChatAcknowledgement)
                .unwrap();
            assert_eq!(acknowledge(version, 20), Some(vec![id, 20]));
            assert_eq!(acknowledge(version, 0), None);
            assert_eq!(acknowledge(version, -1), None);
        }
        assert_eq!(acknowledge(version(758), 1), None);
    }

    /// Requests are answered with their number and the place of the last word,
    /// counted as the game counts; before 1.13 with the words alone.
    #[test]
    fn completions_are_answered() {
        let words = ["lobby".to_owned(), "lounge".to_owned()];
        let request = |protocol, bytes: &[u8]| {
            let request = Completion::of(version(protocol), bytes);
            request.map(Completion::into_owned).unwrap()
        };
        let old = request(340, &[&string("/server lo")[..], &[0, 0]].concat());
        assert_eq!(old.command(), Some("server lo"));
        let id = version(340)
            .id(State::Play, Clientbound::Suggestions)
            .unwrap();
        let expected = [&[id, 2][..], b"\x05lobby\x06lounge"].concat();
        assert_eq!(old.answer(version(340), &words), Some(expected));

        for protocol in [393, 777] {
            let asked = request(protocol, &[&[9][..], &string("/send 🦀 lo")].concat());
            let id = version(protocol)
                .id(State::Play, Clientbound::Suggestions)
                .unwrap();
            let expected = [&[id, 9, 9, 2, 2][..], b"\x05lobby\0\x06lounge\0"].concat();
            assert_eq!(asked.answer(version(protocol), &words), Some(expected));
        }
        assert_eq!(request(393, b"\x01\x04/ser").command(), None);
        assert_eq!(request(393, b"\x01\x03a b").command(), None);
        assert_eq!(Completion::of(version(393), b""), None);
    }

    /// Names join a backend's suggestions in order, once each.
    #[test]
    fn suggestions_are_added() {
        let names = ["send".to_owned(), "server".to_owned(), "glist".to_owned()];
        let add = |fields: &[u8]| add_suggestions(version(340), fields, "se", &names);
        let id = version(340)
            .id(State::Play, Clientbound::Suggestions)
            .unwrap();
        let expected = [&[id, 3][..], b"\x05/seed\x05/send\x07/server"].concat();
        assert_eq!(add(b"\x02\x05/seed\x05/send"), Some(expected));
        assert_eq!(add(b"\x02\x05/send\x07/server"), None);
        for unreadable in [
            &b""[..],
            b"\x01",
            b"\x01\x05/see",
            b"\x00\x00",
            b"\xff\xff\xff\xff\x07",
        ] {
            assert_eq!(add(unreadable), None);
        }
    }

    /// The root gets new children after its own, and everything else stays unchanged, also
    /// unknown nodes.
    #[test]
    fn trees_are_extended() {
        // Two nodes: the root, and one with an unknown format.
        let tree = [&[2, 0, 1, 1][..], b"\x06\xFE\xFD\xFC", &[0]].concat();
        let names = ["server".to_owned()];
        for (protocol, parser) in [(758, &b"\x10brigadier:string"[..]), (759, b"\x05")] {
            let version = version(protocol);
            let id = version.id(State::Play, Clientbound::Commands).unwrap();
            let expected = [
                &[id, 4, 0, 2, 1, 2][..],
                b"\x06\xFE\xFD\xFC",
                b"\x05\x01\x03\x06server",
                b"\x16\x00\x04args",
                parser,
                b"\x02\x14minecraft:ask_server",
                &[0],
            ];
            assert_eq!(
                add_commands(version, &tree, &names),
                Ok(Some(expected.concat()))
            );
            assert_eq!(add_commands(version, &tree, &[]), Ok(None));
            for unknown in [
                &b""[..],
                &[0, 0],
                &[1, 1, 0, 0],
                &[1, 0, 0, 1],
                &[1, 0, 9, 0],
                &[1, 0],
                &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0],
            ] {
                let added = add_commands(version, unknown, &names);
                assert_eq!(added, Err(NotAdded::UnknownTree));
            }
        }
        assert_eq!(add_commands(version(340), &tree, &names), Ok(None));
    }

    /// A packet that would not fit in a frame any more stays as the backend has sent it.
    #[test]
    fn packets_stay_short_enough_for_a_frame() {
        let names = ["server".to_owned()];
        let newer = version(767);
        let tree = |bytes| [&[2, 0, 1, 1][..], &vec![6; bytes], &[0]].concat();
        let added = |bytes| add_commands(newer, &tree(bytes), &names);
        let more = added(0).unwrap().unwrap().len();
        let longest = added(EXTENDED_BYTES_MAX - more).unwrap().unwrap();
        assert_eq!(longest.len(), EXTENDED_BYTES_MAX);
        for format in [Format::Plain, Format::Compressed { threshold: 256 }] {
            let mut frame = Vec::new();
            Zlib::default().write(&longest, format, &mut frame).unwrap();
        }
        assert_eq!(added(EXTENDED_BYTES_MAX - more + 1), Err(NotAdded::TooLong));

        let old = version(340);
        let suggestions = |chars: usize| {
            let mut fields = vec![64];
            for _ in 0..63 {
                fields.extend(string(&"s".repeat(SUGGESTION_CHARS_MAX)));
            }
            fields.extend(string(&"s".repeat(chars)));
            fields
        };
        assert!(add_suggestions(old, &suggestions(5), "s", &names).is_some());
        // As the backend sends them they fit in a frame: less than the id is missing.
        let full = suggestions(FRAME_BYTES_MAX - suggestions(0).len() - 3);
        assert!(full.len() < FRAME_BYTES_MAX);
        assert_eq!(add_suggestions(old, &full, "s", &names), None);
    }
}
