//! The parts that packets are made of: how each is read, skipped and written.

use std::borrow::Cow;

#[cfg(test)]
use infrarust_plugin_abi::FieldType;
use infrarust_plugin_abi::PacketField;
use serde_json::Value as Json;

use super::super::component::{self, TextError};
use super::super::read::{Cursor, ReadError, write_string};
use super::super::version::{V1_13, V1_20_2};
use super::super::{nbt, varint};
use super::value::{CannotSend, Value};
use super::{State, Version};

/// The most entries of a list of worlds or signatures. The game sends some ten.
const LIST_MAX: usize = 1024;
/// The most seen messages that a chat message of 1.19.1 lists (the game).
const SEEN_MAX: usize = 5;
/// The most arguments of a command that have a signature (the game).
const ARGUMENTS_MAX: usize = 8;
/// The most characters of the name of such an argument (the game).
const ARGUMENT_CHARS_MAX: usize = 16;
/// The bytes of a signature since 1.19.3.
const SIGNATURE_BYTES: usize = 256;
/// The most bytes of a signature before 1.19.3.
const SIGNATURE_BYTES_MAX: usize = 4096;
/// The most characters of a name in a list.
const STRING_CHARS_MAX: usize = 32_767;
/// The most characters of a channel before 1.13.
const OLD_CHANNEL_CHARS_MAX: usize = 20;
/// The most bytes with a length of 16 bits, without the extension of mods.
const SHORT_BYTES_MAX: usize = 32_767;

/// Channels that were renamed in 1.13.
const CHANNELS: [(&str, &str); 4] = [
    ("REGISTER", "minecraft:register"),
    ("UNREGISTER", "minecraft:unregister"),
    ("MC|Brand", "minecraft:brand"),
    ("BungeeCord", "bungeecord:main"),
];

/// Worlds by the number of their dimension before 1.16.
const WORLDS: [(i64, &str); 3] = [
    (-1, "minecraft:the_nether"),
    (0, "minecraft:overworld"),
    (1, "minecraft:the_end"),
];

/// A part of a packet, as it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    U8,
    I8,
    I32,
    I64,
    F32,
    VarInt,
    Uuid,
    /// A string of at most this many characters.
    Str(usize),
    /// A line of chat of at most this many characters that does not begin with `/`.
    Line(usize),
    /// A line of chat of at most this many characters that begins with `/`; the
    /// value is what follows.
    CommandLine(usize),
    /// The name of a channel.
    ChannelName,
    /// A name such as `minecraft:brand`.
    Identifier,
    Component,
    /// A component where clients ignore colours and formats, so that it is written
    /// with `§` codes.
    Codes,
    /// At most this many bytes, after their number.
    Bytes(usize),
    /// Bytes after their number in 16 bits, or in 24 bits as mods write it.
    ShortBytes,
    /// All bytes to the end of the packet, at most this many.
    Rest(usize),
    /// Exactly this many bytes.
    Fixed(usize),
    /// A boolean, followed by the part if it is true.
    Optional(&'static Wire),
    /// Always this number; a packet with another one has another form.
    Is(&'static Wire, i64),
    /// A boolean: the first number means false, the second true.
    OneOf([i32; 2]),
    /// The position of a line of chat; 2 means an action bar, which is another form.
    LinePosition(&'static Wire),
    /// A number plus one, so that 0 means -1.
    OneLess,
    /// A game mode with a bit that says whether the world is hardcore.
    Mode,
    /// A boolean that means both bits or none of a bit set.
    AllOrNothing,
    /// A tag of NBT.
    Nbt,
    /// A list of names.
    Strings,
    /// The place of the last death: a boolean, then a world and a position.
    Death,
    /// The signatures of a command's arguments: names and signatures.
    Arguments {
        /// Whether the signatures have a fixed length (since 1.19.3).
        is_fixed: bool,
    },
    /// The messages that the client has seen, in 1.19.1.
    SeenLists,
}
use Wire::*;

/// The version and the state on which the encoding of a part depends.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireContext {
    pub(super) version: Version,
    pub(super) state: State,
}

impl Wire {
    /// The type of a field with this encoding; `None` for parts that are not fields.
    #[cfg(test)]
    pub(super) const fn holds(&self) -> Option<FieldType> {
        Some(match self {
            Bool | OneOf(_) => FieldType::Bool,
            U8 | I8 | I32 | I64 | VarInt | LinePosition(_) | OneLess | Mode | AllOrNothing => {
                FieldType::Int
            }
            F32 => FieldType::Float,
            Uuid => FieldType::Uuid,
            Str(_) | Line(_) | CommandLine(_) | ChannelName | Identifier => FieldType::Str,
            Component | Codes => FieldType::Text,
            Bytes(_) | ShortBytes | Rest(_) | Fixed(_) | Arguments { .. } | SeenLists => {
                FieldType::Bytes
            }
            Optional(part) => return part.holds(),
            Is(..) | Nbt | Strings | Death => return None,
        })
    }

    /// Whether the value of this part decides which form a packet has.
    pub(super) const fn decides(&self) -> bool {
        matches!(
            self,
            Is(..) | OneOf(_) | LinePosition(_) | Line(_) | CommandLine(_)
        )
    }

    /// Skips this part.
    pub(super) fn skip(
        &self,
        cursor: &mut Cursor<'_>,
        context: WireContext,
    ) -> Result<(), ReadError> {
        let bytes = match self {
            Bool | U8 | I8 | Mode | AllOrNothing => 1,
            I32 | F32 => 4,
            I64 => 8,
            Uuid => 16,
            Fixed(bytes) => *bytes,
            Str(_) | Line(_) | CommandLine(_) | ChannelName | Identifier => {
                return cursor.bytes(STRING_CHARS_MAX * 3).map(drop);
            }
            VarInt | OneOf(_) | OneLess => return cursor.varint().map(drop),
            Is(part, _) | LinePosition(part) => return part.skip(cursor, context),
            Component | Codes => {
                return component::skip(cursor, context.version, context.state);
            }
            Nbt => return nbt::skip(cursor, context.version.protocol() < V1_20_2),
            Optional(part) => match cursor.bool()? {
                true => return part.skip(cursor, context),
                false => 0,
            },
            Strings => {
                for _ in 0..count(cursor, LIST_MAX)? {
                    Str(0).skip(cursor, context)?;
                }
                0
            }
            Death => match cursor.bool()? {
                true => {
                    Str(0).skip(cursor, context)?;
                    8
                }
                false => 0,
            },
            Arguments { is_fixed } => {
                for _ in 0..count(cursor, ARGUMENTS_MAX)? {
                    cursor.string(ARGUMENT_CHARS_MAX)?;
                    match is_fixed {
                        true => cursor.take(SIGNATURE_BYTES)?,
                        false => cursor.bytes(SIGNATURE_BYTES_MAX)?,
                    };
                }
                0
            }
            SeenLists => {
                let last_seen = count(cursor, SEEN_MAX)?;
                for _ in 0..last_seen {
                    seen(cursor)?;
                }
                if cursor.bool()? {
                    seen(cursor)?;
                }
                0
            }
            Bytes(_) | ShortBytes | Rest(_) => return self.read(cursor, context).map(drop),
        };
        cursor.take(bytes).map(drop)
    }

    /// Reads this part.
    pub(super) fn read<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        context: WireContext,
    ) -> Result<Value<'a>, ReadError> {
        Ok(match self {
            Bool => Value::Bool(cursor.bool()?),
            U8 => Value::Int(cursor.u8()?.into()),
            I8 => Value::Int(cursor.u8()?.cast_signed().into()),
            I32 => Value::Int(cursor.i32()?.into()),
            I64 => Value::Int(cursor.i64()?),
            F32 => Value::Float(cursor.f32()?),
            VarInt => Value::Int(cursor.varint()?.into()),
            Uuid => Value::Uuid(cursor.uuid()?),
            Str(max) => Value::Str(cursor.string(*max)?.into()),
            Identifier => Value::Str(cursor.string(STRING_CHARS_MAX)?.into()),
            Line(max) => match cursor.string(*max)? {
                text if text.starts_with('/') => return Err(ReadError::BadValue),
                text => Value::Str(text.into()),
            },
            CommandLine(max) => match cursor.string(*max)?.strip_prefix('/') {
                Some(text) => Value::Str(text.into()),
                None => return Err(ReadError::BadValue),
            },
            ChannelName => {
                let name = cursor.string(STRING_CHARS_MAX)?;
                Value::Str(new_channel(name).into())
            }
            Component | Codes => {
                let text = component::read(cursor, context.version, context.state)?;
                Value::Text(Cow::Owned(text))
            }
            Bytes(max) => Value::Bytes(cursor.bytes(*max)?.into()),
            ShortBytes => {
                let mut bytes = usize::from(cursor.u16()?);
                if bytes > SHORT_BYTES_MAX {
                    bytes = bytes & SHORT_BYTES_MAX | usize::from(cursor.u8()?) << 15;
                }
                Value::Bytes(cursor.take(bytes)?.into())
            }
            Rest(max) => match cursor.remaining() {
                bytes if bytes > *max => return Err(ReadError::TooLong { max: *max }),
                bytes => Value::Bytes(cursor.take(bytes)?.into()),
            },
            Fixed(bytes) => Value::Bytes(cursor.take(*bytes)?.into()),
            Optional(part) => match cursor.bool()? {
                true => part.read(cursor, context)?,
                false => Value::None,
            },
            Is(part, expected) => match part.read(cursor, context)? {
                Value::Int(found) if found == *expected => Value::Int(found),
                _ => return Err(ReadError::BadValue),
            },
            OneOf([no, yes]) => match cursor.varint()? {
                found if found == *no => Value::Bool(false),
                found if found == *yes => Value::Bool(true),
                _ => return Err(ReadError::BadValue),
            },
            LinePosition(part) => match part.read(cursor, context)? {
                Value::Int(2) => return Err(ReadError::BadValue),
                other => other,
            },
            OneLess => Value::Int(i64::from(cursor.varint()?) - 1),
            Mode => Value::Int((cursor.u8()? & 7).into()),
            AllOrNothing => Value::Int(if cursor.bool()? { 3 } else { 0 }),
            Nbt | Strings | Death | Arguments { .. } | SeenLists => {
                let start = cursor.clone();
                self.skip(cursor, context)?;
                let bytes = start.remaining() - cursor.remaining();
                Value::Bytes(start.rest()[..bytes].into())
            }
        })
    }

    /// Writes the value of a new packet for which none is given.
    pub(super) fn write_default(&self, context: WireContext, out: &mut Vec<u8>) {
        let bytes = match self {
            Bool | U8 | I8 | VarInt | Mode | AllOrNothing | OneLess => 1,
            Str(_) | Line(_) | ChannelName | Identifier | Bytes(_) => 1,
            Optional(_) | Strings | Death | Arguments { .. } => 1,
            // An empty tag, and an empty component.
            Nbt => 1,
            SeenLists | ShortBytes => 2,
            I32 | F32 => 4,
            I64 => 8,
            Uuid => 16,
            Fixed(bytes) => *bytes,
            Rest(_) => 0,
            Is(part, number) => return part.write_number(*number, out),
            LinePosition(part) => return part.write_number(1, out),
            OneOf([no, _]) => return varint::encode(*no, out),
            CommandLine(_) => return write_string("/", out),
            Component | Codes => {
                // An empty text fits every version.
                let _ = component::write(&Json::from(""), context.version, context.state, out);
                0
            }
        };
        out.resize(out.len() + bytes, 0);
    }

    /// Writes a number from the table of layouts.
    fn write_number(&self, number: i64, out: &mut Vec<u8>) {
        match self {
            VarInt => varint::encode(i32::try_from(number).unwrap_or_default(), out),
            _ => out.push(u8::try_from(number).unwrap_or_default()),
        }
    }

    /// Writes the value of a field.
    ///
    /// # Errors
    ///
    /// When the value has another type, is out of range or too long.
    pub(super) fn write(
        &self,
        field: PacketField,
        value: &Value<'_>,
        context: WireContext,
        out: &mut Vec<u8>,
    ) -> Result<(), CannotSend> {
        let bad = CannotSend::BadValue {
            field: field.name(),
        };
        let too_long = |max| CannotSend::TooLong {
            field: field.name(),
            max,
        };
        let limited = |text: &str, max: usize| match text.encode_utf16().count() > max {
            true => Err(too_long(max)),
            false => Ok(()),
        };
        if let (PacketField::Message, Value::Str(text)) = (field, value)
            && let Some(character) = text.chars().find(|c| !is_chat(*c))
        {
            let field = field.name();
            return Err(CannotSend::BadCharacter { field, character });
        }
        match (self, value) {
            (Optional(_), Value::None) => out.push(0),
            (Optional(part), value) => {
                out.push(1);
                part.write(field, value, context, out)?;
            }
            (Bool, Value::Bool(truth)) => out.push(u8::from(*truth)),
            (OneOf([no, yes]), Value::Bool(truth)) => {
                varint::encode(if *truth { *yes } else { *no }, out);
            }
            (Mode, Value::Int(number)) if !(0..8).contains(number) => return Err(bad),
            (U8 | Mode, Value::Int(number)) => out.push(u8::try_from(*number).map_err(|_| bad)?),
            (I8, Value::Int(number)) => {
                out.push(i8::try_from(*number).map_err(|_| bad)?.cast_unsigned());
            }
            (AllOrNothing, Value::Int(number)) => out.push(u8::from(*number != 0)),
            (I32, Value::Int(number)) => {
                out.extend(i32::try_from(*number).map_err(|_| bad)?.to_be_bytes());
            }
            (I64, Value::Int(number)) => out.extend(number.to_be_bytes()),
            (VarInt, Value::Int(number)) => {
                varint::encode(i32::try_from(*number).map_err(|_| bad)?, out);
            }
            (OneLess, Value::Int(number)) => {
                let number = number.saturating_add(1);
                varint::encode(i32::try_from(number).map_err(|_| bad)?, out);
            }
            (LinePosition(part), Value::Int(number)) => match number {
                0 | 1 => part.write_number(*number, out),
                _ => return Err(bad),
            },
            (F32, Value::Float(number)) => out.extend(number.to_be_bytes()),
            (Uuid, Value::Uuid(uuid)) => out.extend(uuid),
            (Line(_), Value::Str(text)) if text.starts_with('/') => return Err(bad),
            (Str(max) | Line(max), Value::Str(text)) => {
                limited(text, *max)?;
                write_string(text, out);
            }
            (CommandLine(max), Value::Str(text)) => {
                let text = format!("/{text}");
                limited(&text, *max)?;
                write_string(&text, out);
            }
            (Identifier, Value::Str(name)) if component::is_identifier(name) => {
                write_string(name, out)
            }
            (Identifier, Value::Str(_)) => return Err(bad),
            (ChannelName, Value::Str(name)) => {
                let name = match context.version.protocol() < V1_13 {
                    true => old_channel(name),
                    false => new_channel(name),
                };
                if context.version.protocol() < V1_13 {
                    limited(name, OLD_CHANNEL_CHARS_MAX)?;
                } else if !component::is_identifier(name) {
                    return Err(bad);
                }
                write_string(name, out);
            }
            (Component, Value::Text(text)) => {
                write_text(field, text, context, out)?;
            }
            (Codes, Value::Text(text)) => {
                write_text(field, &component::with_codes(text), context, out)?;
            }
            // Such as a signature, which is empty in 1.19 where later versions have none.
            (Bytes(_), Value::None) => out.push(0),
            (Bytes(max), Value::Bytes(bytes)) => {
                if bytes.len() > *max {
                    return Err(too_long(*max));
                }
                varint::encode_len(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            (ShortBytes, Value::Bytes(bytes)) => {
                let length = i16::try_from(bytes.len()).map_err(|_| too_long(SHORT_BYTES_MAX))?;
                out.extend(length.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            (Rest(max), Value::Bytes(bytes)) => {
                if bytes.len() > *max {
                    return Err(too_long(*max));
                }
                out.extend_from_slice(bytes);
            }
            (Fixed(length), Value::Bytes(bytes)) if bytes.len() == *length => {
                out.extend_from_slice(bytes);
            }
            (Fixed(_), Value::Bytes(_)) => return Err(bad),
            (Arguments { .. } | SeenLists, Value::Bytes(bytes)) => {
                let mut cursor = Cursor::new(bytes);
                let is_whole = self
                    .skip(&mut cursor, context)
                    .and_then(|()| cursor.finish());
                is_whole.map_err(|_| bad)?;
                out.extend_from_slice(bytes);
            }
            _ => {
                return Err(CannotSend::WrongType {
                    field: field.name(),
                });
            }
        }
        Ok(())
    }
}

/// Whether servers accept a character in the chat and the commands of players. For any
/// other they disconnect the player (`isAllowedChatCharacter` of the vanilla server).
const fn is_chat(character: char) -> bool {
    !matches!(character, '\0'..' ' | '\u{7f}' | '§')
}

fn write_text(
    field: PacketField,
    text: &Json,
    context: WireContext,
    out: &mut Vec<u8>,
) -> Result<(), CannotSend> {
    let field = field.name();
    component::write(text, context.version, context.state, out).map_err(|error| match error {
        TextError::TooLong { max } => CannotSend::TooLong { field, max },
        TextError::NotJson => CannotSend::BadValue { field },
    })
}

fn count(cursor: &mut Cursor<'_>, max: usize) -> Result<usize, ReadError> {
    let count = usize::try_from(cursor.varint()?).map_err(|_| ReadError::NegativeLength)?;
    match count > max {
        true => Err(ReadError::TooLong { max }),
        false => Ok(count),
    }
}

/// Skips a player and the signature of a message.
fn seen(cursor: &mut Cursor<'_>) -> Result<(), ReadError> {
    cursor.uuid()?;
    cursor.bytes(SIGNATURE_BYTES_MAX).map(drop)
}

fn new_channel(name: &str) -> &str {
    let found = CHANNELS.iter().find(|(old, _)| *old == name);
    found.map_or(name, |(_, new)| new)
}

fn old_channel(name: &str) -> &str {
    let found = CHANNELS.iter().find(|(_, new)| *new == name);
    found.map_or(name, |(old, _)| old)
}

/// The name of the world with this dimension's number before 1.16.
pub(super) fn world_of(dimension: i64) -> Option<&'static str> {
    let found = WORLDS.iter().find(|(number, _)| *number == dimension);
    found.map(|(_, world)| *world)
}
