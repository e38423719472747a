//! Packets that plugins are asked about: what the hook may read and change.

use std::borrow::Cow;
use std::ffi::c_void;

use infrarust_plugin_abi::{
    FieldType, FieldValue, InterestSink, PacketField, PacketHook, PacketInput, PacketKind,
    PacketTable, Sink, Str, ValueSink, failure, size_of_table, status, table,
};

use super::border::{Answer, Answers, Failure, guarded, write};
use super::image::Instance;
use crate::plugin::send::FIELDS_BYTES_MAX;
use crate::protocol::component;
use crate::protocol::packet::rights::Passing;
use crate::protocol::packet::view::Value;
use crate::protocol::packet::{Direction, State, Version};
use crate::protocol::varint;

/// The most values that one call sets. There are fewer fields.
const VALUES_MAX: usize = 256;
/// The most numbers of an interest of a plugin.
const INTERESTS_MAX: usize = 1024;

static TABLE: PacketTable = table!(PacketTable {
    get: get,
    raw: raw,
    set: set,
    replace: replace,
});

/// A packet as a hook sees it, with what the hook has changed.
#[derive(Debug)]
pub(in crate::plugin) struct Shown<'a> {
    pub(in crate::plugin) version: Version,
    pub(in crate::plugin) state: State,
    pub(in crate::plugin) direction: Direction,
    /// The id and the fields.
    pub(in crate::plugin) packet: Cow<'a, [u8]>,
    /// Whether the hook may change packets.
    pub(in crate::plugin) is_changeable: bool,
}

impl Shown<'_> {
    /// The packet in its parts.
    pub(in crate::plugin) fn passing(&self) -> Passing<'_> {
        let (id, bytes) = match varint::decode(&self.packet) {
            Ok(Some(found)) => found,
            // Not reached: a packet without an id is not passed on.
            _ => (-1, 0),
        };
        Passing {
            version: self.version,
            state: self.state,
            direction: self.direction,
            id,
            fields: self.packet.get(bytes..).unwrap_or_default(),
        }
    }

    /// The packet with other values in these fields.
    fn with(&self, values: &[(PacketField, Value<'_>)]) -> Result<Vec<u8>, String> {
        let passing = self.passing();
        passing.may_change()?;
        passing.may_set(values.iter().map(|(field, _)| *field))?;
        let view = passing.view();
        let view = view.ok_or_else(|| "it has no kind, and so no fields by name".to_owned())?;
        // A signature is that of what the player has written.
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

    /// The packet with these fields in place of all.
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

    fn change(&mut self, changed: Result<Vec<u8>, String>, sink: *const Sink) -> i32 {
        match changed {
            Ok(packet) => {
                self.packet = Cow::Owned(packet);
                status::OK
            }
            Err(reason) => {
                // SAFETY: the plugin's sink is valid during the call.
                unsafe { Sink::fail(sink, failure::ERROR, &reason, None) };
                status::ERR
            }
        }
    }
}

/// Calls a hook about a packet, with an input that lacks the packet alone.
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
    input.table = &raw const TABLE;
    let mut answers = Answers::new(0);
    // SAFETY: the instance lives, the rest is valid during the call.
    let status = answers.during(|sink| unsafe { call(instance.raw, &raw const input, sink) });
    answers.outcome(status)
}

/// Which packets a hook is asked about: the numbers that the plugin gives.
pub(in crate::plugin) fn ask_interest(
    instance: &Instance,
    hook: &PacketHook<PacketInput>,
) -> Result<Vec<u32>, Box<Failure>> {
    let Some(ask) = hook.interest else {
        return Err(Failure::unsupported());
    };
    let mut numbers: Vec<u32> = Vec::new();
    let interest = InterestSink {
        size: size_of_table::<InterestSink>(),
        reserved: 0,
        ctx: (&raw mut numbers).cast(),
        add: Some(add_interest),
    };
    let mut answers = Answers::new(0);
    // SAFETY: the instance lives, the rest is valid during the call.
    let status = answers.during(|sink| unsafe { ask(instance.raw, &raw const interest, sink) });
    answers.outcome(status).map(|_| numbers)
}

unsafe extern "C" fn add_interest(ctx: *mut c_void, number: u32) {
    // SAFETY: the context is that of the call that runs, on its thread.
    let numbers = unsafe { &mut *ctx.cast::<Vec<u32>>() };
    if numbers.len() < INTERESTS_MAX && !numbers.contains(&number) {
        numbers.push(number);
    }
}

/// The packet of the call that runs.
///
/// # Safety
///
/// The context must be that of the call that runs, on its thread.
unsafe fn shown<'a>(packet: *mut c_void) -> &'a mut Shown<'a> {
    // SAFETY: the caller promises it.
    unsafe { &mut *packet.cast::<Shown<'a>>() }
}

unsafe extern "C" fn get(packet: *mut c_void, field: u32, sink: *const ValueSink) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let shown = unsafe { shown(packet) };
        let field = u16::try_from(field).ok().and_then(PacketField::from_number);
        let (Some(field), Some(view)) = (field, shown.passing().view()) else {
            return status::OK;
        };
        match view.get(field) {
            Ok(None) => status::OK,
            Ok(Some(value)) => {
                // SAFETY: the plugin's sink is valid during the call.
                unsafe { give(field, &value, sink) }
            }
            Err(_) => status::ERR,
        }
    })
}

/// Gives a value to a sink of the plugin.
///
/// # Safety
///
/// The sink must be null or valid during the call.
unsafe fn give(field: PacketField, value: &Value<'_>, sink: *const ValueSink) -> i32 {
    // SAFETY: the caller promises it.
    let Some(sink) = (unsafe { sink.as_ref() }) else {
        return status::ERR;
    };
    let Some(take) = sink.value else {
        return status::UNSUPPORTED;
    };
    let room: String;
    let (holds, number, data): (u32, u64, &[u8]) = match value {
        Value::None => (0, 0, &[]),
        Value::Bool(value) => (FieldType::Bool as u32, u64::from(*value), &[]),
        Value::Int(value) => (FieldType::Int as u32, value.cast_unsigned(), &[]),
        Value::Float(value) => (FieldType::Float as u32, value.to_bits().into(), &[]),
        Value::Str(text) => (FieldType::Str as u32, 0, text.as_bytes()),
        Value::Text(text) => {
            room = text.to_string();
            (FieldType::Text as u32, 0, room.as_bytes())
        }
        Value::Bytes(bytes) => (FieldType::Bytes as u32, 0, bytes),
        Value::Uuid(uuid) => (FieldType::Uuid as u32, 0, uuid),
    };
    let value = FieldValue {
        field: field.number().into(),
        holds,
        number,
        data: Str {
            ptr: data.as_ptr(),
            len: data.len(),
        },
    };
    // SAFETY: the context belongs to the sink, the value is valid during the call.
    unsafe { take(sink.ctx, &raw const value) };
    status::OK
}

unsafe extern "C" fn raw(
    packet: *mut c_void,
    id: *mut i32,
    fields: *mut *const u8,
    fields_bytes: *mut usize,
) -> i32 {
    // SAFETY: the plugin passes what it was given.
    let passing = unsafe { shown(packet) }.passing();
    // SAFETY: the plugin gives places to write to.
    let is_written = unsafe {
        write(id, passing.id)
            && write(fields, passing.fields.as_ptr())
            && write(fields_bytes, passing.fields.len())
    };
    match is_written {
        true => status::OK,
        false => status::ERR,
    }
}

unsafe extern "C" fn set(
    packet: *mut c_void,
    values: *const FieldValue,
    len: usize,
    sink: *const Sink,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let shown = unsafe { shown(packet) };
        if !shown.is_changeable {
            return status::DENIED;
        }
        // SAFETY: the values are valid during the call.
        let changed = unsafe { read_values(values, len) }.and_then(|values| shown.with(&values));
        shown.change(changed, sink)
    })
}

unsafe extern "C" fn replace(
    packet: *mut c_void,
    fields: *const u8,
    fields_bytes: usize,
    sink: *const Sink,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let shown = unsafe { shown(packet) };
        if !shown.is_changeable {
            return status::DENIED;
        }
        let fields = Str {
            ptr: fields,
            len: fields_bytes.min(FIELDS_BYTES_MAX + 1),
        };
        // SAFETY: at least this number of bytes is valid during the call.
        let changed = shown.replaced(unsafe { fields.bytes() });
        shown.change(changed, sink)
    })
}

/// The values of fields that a plugin gives, without those of unknown fields.
///
/// # Safety
///
/// The values, and what they lead to, must be good for `'a`.
pub(super) unsafe fn read_values<'a>(
    values: *const FieldValue,
    len: usize,
) -> Result<Vec<(PacketField, Value<'a>)>, String> {
    if len > VALUES_MAX || (values.is_null() && len > 0) {
        return Err("it gives more fields than there are".to_owned());
    }
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller promises this number of values.
    let values = unsafe { std::slice::from_raw_parts(values, len) };
    let mut read = Vec::with_capacity(len);
    for value in values {
        let field = u16::try_from(value.field).ok();
        if let Some(field) = field.and_then(PacketField::from_number) {
            // SAFETY: the caller promises it.
            read.push((field, unsafe { read_value(field, value) }?));
        }
    }
    Ok(read)
}

/// # Safety
///
/// As for [`read_values`].
unsafe fn read_value<'a>(field: PacketField, value: &FieldValue) -> Result<Value<'a>, String> {
    let data = Str {
        len: value.data.len.min(FIELDS_BYTES_MAX + 1),
        ..value.data
    };
    // SAFETY: the caller promises it, and less is good too.
    let bytes: &'a [u8] = unsafe { data.bytes() };
    let name = field.name();
    if bytes.len() > FIELDS_BYTES_MAX {
        return Err(format!("`{name}` has more than {FIELDS_BYTES_MAX} bytes"));
    }
    let text = || std::str::from_utf8(bytes).map_err(|_| format!("`{name}` is not UTF-8"));
    let other = || format!("`{name}` has a value of another type");
    if value.holds == 0 {
        return Ok(Value::None);
    }
    if value.holds != u32::from(field.holds() as u16) {
        return Err(other());
    }
    Ok(match field.holds() {
        FieldType::Bool => Value::Bool(value.number != 0),
        FieldType::Int => Value::Int(value.number.cast_signed()),
        FieldType::Float => {
            let bits = u32::try_from(value.number).map_err(|_| other())?;
            Value::Float(f32::from_bits(bits))
        }
        FieldType::Str => Value::Str(text()?.into()),
        FieldType::Text => {
            let text = component::parse(text()?).map_err(|error| error.to_string())?;
            Value::Text(Cow::Owned(text))
        }
        FieldType::Bytes => Value::Bytes(bytes.into()),
        FieldType::Uuid => Value::Uuid(bytes.try_into().map_err(|_| other())?),
    })
}
