//! Packets as the packet hooks see them: what a hook may read and change.

use std::borrow::Cow;

use infrarust_plugin_abi::serve::{
    FIELDS_BYTES_MAX, PacketAccess, packet_table, with_interest_sink,
};
use infrarust_plugin_abi::{FieldData, PacketField, PacketHook, PacketInput, PacketKind};

use super::border::{Answer, Answers, Failure};
use super::image::Instance;
use crate::protocol::component;
use crate::protocol::packet::rights::Passing;
use crate::protocol::packet::view::Value;
use crate::protocol::varint;

/// The most numbers of an interest of a plugin.
const INTERESTS_MAX: usize = 1024;

/// A packet as a hook sees it, with what the hook has changed.
#[derive(Debug)]
pub(in crate::plugin) struct Shown<'a> {
    packet: Passing<'a>,
    /// Whether the hook may change packets.
    is_changeable: bool,
    /// The id and the fields, if the hook has changed the packet.
    pub(in crate::plugin) changed: Option<Vec<u8>>,
}

impl<'a> Shown<'a> {
    /// A packet that has not been changed.
    pub(in crate::plugin) const fn new(packet: Passing<'a>, is_changeable: bool) -> Self {
        Self {
            packet,
            is_changeable,
            changed: None,
        }
    }

    /// The packet, with the changes so far.
    fn passing(&self) -> Passing<'_> {
        let Passing {
            version,
            state,
            direction,
            knows_chat_key,
            ..
        } = self.packet;
        match &self.changed {
            None => self.packet,
            Some(packet) => {
                Passing::of(version, state, direction, packet).with_chat_key(knows_chat_key)
            }
        }
    }

    /// The packet with other values in these fields.
    fn with(&self, values: &[(PacketField, Value<'_>)]) -> Result<Vec<u8>, String> {
        let passing = self.passing();
        passing.may_change()?;
        passing.may_set(values.iter().map(|(field, _)| *field))?;
        let view = passing.view;
        let view = view.ok_or_else(|| "it has no kind, and so no fields by name".to_owned())?;
        // A signature covers the text that the player has written.
        let is_chat = view.kind() == PacketKind::ChatMessage;
        let is_signed = is_chat
            && matches!(view.get(PacketField::Signature), Ok(Some(Value::Bytes(bytes))) if !bytes.is_empty());
        let mut values = Cow::Borrowed(values);
        if is_signed
            && !values
                .iter()
                .any(|(field, _)| *field == PacketField::Signature)
        {
            values.to_mut().push((PacketField::Signature, Value::None));
        }
        view.with(&values).map_err(|error| error.to_string())
    }

    /// The packet with all its fields replaced by these bytes.
    fn replaced(&self, fields: &[u8]) -> Result<Vec<u8>, String> {
        let passing = self.passing();
        passing.may_change()?;
        passing.may_set(PacketField::ALL.iter().copied())?;
        if fields.len() > FIELDS_BYTES_MAX {
            return Err(format!("a packet has more than {FIELDS_BYTES_MAX} bytes"));
        }
        let mut packet = Vec::with_capacity(varint::VARINT_BYTES_MAX + fields.len());
        varint::encode(passing.id, &mut packet);
        packet.extend_from_slice(fields);
        Ok(packet)
    }
}

/// Calls a packet hook. `input` is complete except for the packet, which is added here.
#[inline]
pub(in crate::plugin) fn call_packet(
    instance: &Instance,
    hook: &PacketHook<PacketInput>,
    mut input: PacketInput,
    shown: &mut Shown<'_>,
) -> Result<Option<Answer>, Box<Failure>> {
    let Some(call) = hook.call else {
        return Err(Failure::unsupported());
    };
    input.packet = std::ptr::from_mut(shown).cast();
    input.table = packet_table::<Shown<'_>>();
    let mut answers = Answers::new(0);
    // SAFETY: the instance lives, the rest is valid during the call.
    let status = answers.during(|sink| unsafe { call(instance.raw, &raw const input, sink) });
    answers.outcome(status)
}

/// Asks a plugin which packets a hook gets: the numbers of the kinds.
pub(in crate::plugin) fn ask_interest(
    instance: &Instance,
    hook: &PacketHook<PacketInput>,
) -> Result<Vec<u32>, Box<Failure>> {
    let Some(ask) = hook.interest else {
        return Err(Failure::unsupported());
    };
    let mut numbers: Vec<u32> = Vec::new();
    let add = |number| {
        if numbers.len() < INTERESTS_MAX && !numbers.contains(&number) {
            numbers.push(number);
        }
    };
    let mut answers = Answers::new(0);
    let status = answers.during(|failures| {
        // SAFETY: the instance lives, the rest is valid during the call.
        with_interest_sink(add, |sink| unsafe { ask(instance.raw, sink, failures) })
    });
    answers.outcome(status).map(|_| numbers)
}

impl PacketAccess for Shown<'_> {
    fn get<T>(
        &self,
        field: PacketField,
        give: impl FnOnce(FieldData<'_>) -> T,
    ) -> Option<Option<T>> {
        let Some(view) = self.passing().view else {
            return Some(None);
        };
        let value = view.get(field).ok()?;
        Some(value.map(|value| match &value {
            Value::None => give(FieldData::Missing),
            Value::Bool(value) => give(FieldData::Bool(*value)),
            Value::Int(value) => give(FieldData::Int(*value)),
            Value::Float(value) => give(FieldData::Float(*value)),
            Value::Str(text) => give(FieldData::Str(text)),
            Value::Text(text) => give(FieldData::Text(&text.to_string())),
            Value::Bytes(bytes) => give(FieldData::Bytes(bytes)),
            Value::Uuid(uuid) => give(FieldData::Uuid(uuid)),
        }))
    }

    fn raw(&self) -> (i32, &[u8]) {
        let passing = self.passing();
        (passing.id, passing.fields)
    }

    fn is_changeable(&self) -> bool {
        self.is_changeable
    }

    fn may_drop(&self) -> bool {
        self.packet.may_drop().is_ok()
    }

    fn may_change(&self) -> bool {
        self.packet.may_change().is_ok()
    }

    fn set(&mut self, values: &[(PacketField, FieldData<'_>)]) -> Result<(), String> {
        self.changed = Some(self.with(&values_of(values)?)?);
        Ok(())
    }

    fn replace(&mut self, fields: &[u8]) -> Result<(), String> {
        self.changed = Some(self.replaced(fields)?);
        Ok(())
    }
}

/// Converts values from a plugin to the form from which packets are made.
pub(super) fn values_of<'a>(
    values: &[(PacketField, FieldData<'a>)],
) -> Result<Vec<(PacketField, Value<'a>)>, String> {
    values
        .iter()
        .map(|(field, data)| Ok((*field, value_of(*data)?)))
        .collect()
}

fn value_of(data: FieldData<'_>) -> Result<Value<'_>, String> {
    Ok(match data {
        FieldData::Missing => Value::None,
        FieldData::Bool(value) => Value::Bool(value),
        FieldData::Int(value) => Value::Int(value),
        FieldData::Float(value) => Value::Float(value),
        FieldData::Str(text) => Value::Str(text.into()),
        FieldData::Text(text) => {
            let text = component::parse(text).map_err(|error| error.to_string())?;
            Value::Text(Cow::Owned(text))
        }
        FieldData::Bytes(bytes) => Value::Bytes(bytes.into()),
        FieldData::Uuid(uuid) => Value::Uuid(*uuid),
    })
}
