//! Reads, changes and builds packets by the names of their fields, for every
//! version.
//!
//! A [`View`] is a packet of a known kind. It reads a field only when asked for it.
//! [`build`] makes a packet of a kind, [`View::with`] one with other values in some
//! fields.

use infrarust_plugin_abi::{PacketField, PacketKind};

use super::super::read::{Cursor, ReadError};
use super::super::varint;
use super::layout::{self, Packet};
pub use super::value::{CannotSend, Value};
use super::wire::{self, Wire, WireContext};
use super::{Clientbound, Direction, Serverbound, State, Version};

/// The room for a new packet: most that are built are a short text.
const NEW_BYTES: usize = 59;

/// A packet of a known kind.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    form: &'static layout::Form,
    context: WireContext,
    fields: &'a [u8],
}

/// The layout that a packet of a known kind has in a range of versions.
#[derive(Debug, Clone, Copy)]
pub struct Form(&'static layout::Form);

impl Form {
    /// The kind.
    #[must_use]
    pub const fn kind(self) -> PacketKind {
        self.0.kind
    }

    /// A view of a packet of this form.
    #[must_use]
    pub const fn view(self, version: Version, state: State, fields: &[u8]) -> View<'_> {
        View {
            form: self.0,
            context: WireContext { version, state },
            fields,
        }
    }
}

/// The id of a packet, where the version has it in this state.
fn id(packet: Packet, version: Version, state: State) -> Option<u8> {
    match packet {
        Packet::Clientbound(packet) => version.id(state, packet),
        Packet::Serverbound(packet) => version.id(state, packet),
    }
}

/// The ids of the packets that may be of this kind. Several kinds can share a
/// packet: a [`View`] of it says which it is.
pub fn packet_ids(kind: PacketKind, version: Version, state: State) -> impl Iterator<Item = u8> {
    let forms = layout::of_kind(kind).filter(move |form| form.is_in(version.protocol()));
    forms.filter_map(move |form| id(form.packet, version, state))
}

impl<'a> View<'a> {
    /// A view of the packet with this id and these fields; `None` if it is of no
    /// known kind.
    ///
    /// Only reads the fields that distinguish kinds that share a packet.
    #[must_use]
    pub fn of(
        version: Version,
        state: State,
        direction: Direction,
        id: i32,
        fields: &'a [u8],
    ) -> Option<Self> {
        let packet = match direction {
            Direction::Clientbound => Packet::Clientbound(version.kind::<Clientbound>(state, id)?),
            Direction::Serverbound => Packet::Serverbound(version.kind::<Serverbound>(state, id)?),
        };
        let context = WireContext { version, state };
        let view = |form| Self {
            form,
            context,
            fields,
        };
        let mut views = layout::of_packet(packet, version.protocol()).map(view);
        views.find(Self::is_it)
    }

    /// Whether the packet has the values by which its form is recognized.
    fn is_it(&self) -> bool {
        let items = self.form.items;
        let Some(last) = items.iter().rposition(|item| item.wire.decides()) else {
            return true;
        };
        let mut cursor = Cursor::new(self.fields);
        items.iter().take(last + 1).all(|item| {
            let wire = &item.wire;
            match wire.decides() {
                true => wire.read(&mut cursor, self.context).is_ok(),
                false => wire.skip(&mut cursor, self.context).is_ok(),
            }
        })
    }

    /// The form.
    #[must_use]
    pub const fn form(&self) -> Form {
        Form(self.form)
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        self.form.kind
    }

    /// The value of a field, or `None` if packets of this kind do not have it in
    /// this version.
    ///
    /// # Errors
    ///
    /// When the bytes up to the field or the field itself are malformed.
    pub fn get(&self, field: PacketField) -> Result<Option<Value<'a>>, ReadError> {
        if let Some((_, value)) = self.find(|item| item.field == Some(field))? {
            return Ok(Some(value));
        }
        Ok(match field {
            // Before 1.16 each dimension has exactly one world.
            PacketField::World => match self.get(PacketField::DimensionId)? {
                Some(Value::Int(dimension)) => {
                    wire::world_of(dimension).map(|world| Value::Str(world.into()))
                }
                _ => None,
            },
            // Up to 1.16.1 this is a bit of the game mode.
            PacketField::Hardcore => self
                .find(|item| item.wire == Wire::Mode)?
                .map(|(bytes, _)| Value::Bool(bytes.first().is_some_and(|mode| mode & 8 != 0))),
            _ => None,
        })
    }

    /// Finds a part: the bytes from its start on, and its value.
    fn find(
        &self,
        is_it: impl Fn(&layout::Item) -> bool,
    ) -> Result<Option<(&'a [u8], Value<'a>)>, ReadError> {
        let Some(at) = self.form.items.iter().position(is_it) else {
            return Ok(None);
        };
        let (before, from) = self.form.items.split_at(at);
        let mut cursor = Cursor::new(self.fields);
        for item in before {
            item.wire.skip(&mut cursor, self.context)?;
        }
        let bytes = cursor.clone().rest();
        match from.first() {
            Some(item) => Ok(Some((bytes, item.wire.read(&mut cursor, self.context)?))),
            None => Ok(None),
        }
    }

    /// The packet with other values in these fields, without its frame. All other
    /// bytes stay the same. Fields that the packet does not have in this version
    /// are ignored.
    ///
    /// # Errors
    ///
    /// When a field cannot have the value, or when the packet is malformed; the
    /// error then names the malformed field.
    pub fn with(&self, values: &[(PacketField, Value<'_>)]) -> Result<Vec<u8>, CannotSend> {
        let kind = self.form.kind;
        let mut out = begin(self.form, self.context, self.fields.len())?;
        let mut cursor = Cursor::new(self.fields);
        for item in self.form.items {
            let from = cursor.clone();
            let is_read = item.wire.skip(&mut cursor, self.context);
            is_read.map_err(|_| CannotSend::BadValue {
                field: item.field.map_or(kind.name(), PacketField::name),
            })?;
            let bytes = from.remaining() - cursor.remaining();
            let old = &from.rest()[..bytes];
            let new = |field| values.iter().find(|(known, _)| *known == field);
            let start = out.len();
            match item.field.and_then(new) {
                Some((field, value)) => item.wire.write(*field, value, self.context, &mut out)?,
                None => out.extend_from_slice(old),
            }
            // Up to 1.16.1 a bit of the game mode says whether the world is hardcore.
            // A new mode keeps the bit, unless its own field is set too.
            if let (Wire::Mode, Some(mode)) = (item.wire, out.get_mut(start)) {
                let mut others = old.first().map_or(0, |mode| mode & !7);
                if let Some((_, Value::Bool(is_hardcore))) = new(PacketField::Hardcore) {
                    others = others & !8 | u8::from(*is_hardcore) << 3;
                }
                *mode = *mode & 7 | others;
            }
        }
        out.extend_from_slice(cursor.rest());
        Ok(out)
    }
}

/// Builds a packet of this kind with these values, without its frame.
///
/// Optional fields that are not given are zero, empty or absent; fields that the
/// version does not have are ignored.
///
/// # Errors
///
/// When the version has no such packet in this state, or when a required field is
/// missing or a field cannot have its value. Join game and respawn cannot be built:
/// they have parts that plugins do not see.
pub fn build(
    version: Version,
    state: State,
    kind: PacketKind,
    values: &[(PacketField, Value<'_>)],
) -> Result<Vec<u8>, CannotSend> {
    match kind {
        PacketKind::JoinGame | PacketKind::Respawn => {
            Err(CannotSend::FromServers { kind: kind.name() })
        }
        _ => assemble(version, state, kind, values),
    }
}

fn assemble(
    version: Version,
    state: State,
    kind: PacketKind,
    values: &[(PacketField, Value<'_>)],
) -> Result<Vec<u8>, CannotSend> {
    let context = WireContext { version, state };
    let form = layout::of_kind(kind).find(|form| form.is_in(version.protocol()));
    let form = form.ok_or_else(|| needs_version(kind))?;
    let mut out = begin(form, context, NEW_BYTES)?;
    for item in form.items {
        let given = values.iter().find(|(field, _)| item.field == Some(*field));
        match (given, item.field) {
            (Some((field, value)), _) => item.wire.write(*field, value, context, &mut out)?,
            (None, Some(field)) if item.is_required => {
                return Err(CannotSend::MissingField {
                    kind: kind.name(),
                    field: field.name(),
                });
            }
            (None, _) => item.wire.write_default(context, &mut out),
        }
    }
    Ok(out)
}

/// A packet with its id, no fields yet, and room for about as many bytes.
fn begin(form: &layout::Form, context: WireContext, bytes: usize) -> Result<Vec<u8>, CannotSend> {
    let id = id(form.packet, context.version, context.state);
    let id = id.ok_or(CannotSend::WrongState {
        kind: form.kind.name(),
        state: context.state,
    })?;
    let mut out = Vec::with_capacity(bytes + varint::VARINT_BYTES_MAX);
    varint::encode(id.into(), &mut out);
    Ok(out)
}

fn needs_version(kind: PacketKind) -> CannotSend {
    let has_it =
        |version: &Version| layout::of_kind(kind).any(|form| form.is_in(version.protocol()));
    let games = Version::all().find(has_it).map_or("", Version::games);
    CannotSend::NeedsVersion {
        kind: kind.name(),
        // The first of several.
        games: games.split([',', ' ']).next().unwrap_or(games),
    }
}

#[cfg(test)]
mod tests;
