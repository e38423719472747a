//! The functions with which a plugin reads and changes the packet of a hook.

use core::ffi::c_void;

use super::{FIELDS_BYTES_MAX, guarded, write};
use crate::{
    FieldData, FieldValue, PacketField, PacketTable, Sink, Str, ValueSink, failure, packet_right,
    status, table,
};

/// The most values that one call sets. There are fewer fields.
const VALUES_MAX: usize = 256;

/// The packet of a hook, as a host has it.
pub trait PacketAccess {
    /// Passes the value of a field to `give`, if packets of this kind have the field in
    /// this version. `None` if the packet is malformed.
    fn get<T>(
        &self,
        field: PacketField,
        give: impl FnOnce(FieldData<'_>) -> T,
    ) -> Option<Option<T>>;

    /// The id in the player's version, and the fields.
    fn raw(&self) -> (i32, &[u8]);

    /// Whether the hook may change packets.
    fn is_changeable(&self) -> bool;

    /// Whether this packet may be dropped.
    fn may_drop(&self) -> bool;

    /// Whether this packet may be changed.
    fn may_change(&self) -> bool;

    /// Sets fields, all or none.
    ///
    /// # Errors
    ///
    /// When the packet cannot have the values.
    fn set(&mut self, values: &[(PacketField, FieldData<'_>)]) -> Result<(), String>;

    /// Replaces all fields.
    ///
    /// # Errors
    ///
    /// When the packet must not change, or cannot have these fields.
    fn replace(&mut self, fields: &[u8]) -> Result<(), String>;
}

/// The table for packets of this type. The context of its functions is a `*mut P` that is
/// valid during the call of the hook.
#[must_use]
pub const fn packet_table<P: PacketAccess>() -> &'static PacketTable {
    const {
        &table!(PacketTable {
            get: get::<P>,
            raw: raw::<P>,
            set: set::<P>,
            replace: replace::<P>,
            rights: rights::<P>,
        })
    }
}

/// The packet of the call that runs.
///
/// # Safety
///
/// The context must be that of the call that runs, on its thread.
unsafe fn access<'a, P>(packet: *mut c_void) -> &'a mut P {
    // SAFETY: the caller promises it.
    unsafe { &mut *packet.cast::<P>() }
}

unsafe extern "C" fn get<P: PacketAccess>(
    packet: *mut c_void,
    field: u32,
    sink: *const ValueSink,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let packet = unsafe { access::<P>(packet) };
        let Some(field) = field_of(field) else {
            return status::OK;
        };
        let given = packet.get(field, |data| {
            // SAFETY: the plugin's sink is valid during the call.
            unsafe { give(&FieldValue::new(field, data), sink) }
        });
        match given {
            Some(status) => status.unwrap_or(status::OK),
            None => status::ERR,
        }
    })
}

/// Gives a value to a sink of the plugin.
///
/// # Safety
///
/// The sink must be null or valid during the call.
unsafe fn give(value: &FieldValue, sink: *const ValueSink) -> i32 {
    // SAFETY: the caller promises it.
    let Some(sink) = (unsafe { sink.as_ref() }) else {
        return status::ERR;
    };
    let Some(take) = sink.value else {
        return status::UNSUPPORTED;
    };
    // SAFETY: the context belongs to the sink, the value is valid during the call.
    unsafe { take(sink.ctx, value) };
    status::OK
}

unsafe extern "C" fn raw<P: PacketAccess>(
    packet: *mut c_void,
    id: *mut i32,
    fields: *mut *const u8,
    fields_bytes: *mut usize,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let (packet_id, bytes) = unsafe { access::<P>(packet) }.raw();
        // SAFETY: the plugin gives places to write to.
        let is_written = unsafe {
            write(id, packet_id)
                && write(fields, bytes.as_ptr())
                && write(fields_bytes, bytes.len())
        };
        match is_written {
            true => status::OK,
            false => status::ERR,
        }
    })
}

unsafe extern "C" fn set<P: PacketAccess>(
    packet: *mut c_void,
    values: *const FieldValue,
    len: usize,
    sink: *const Sink,
) -> i32 {
    change::<P>(packet, sink, |packet| {
        // SAFETY: the values are valid during the call.
        let values = unsafe { read_values(values, len) }?;
        packet.set(&values)
    })
}

unsafe extern "C" fn replace<P: PacketAccess>(
    packet: *mut c_void,
    fields: *const u8,
    fields_bytes: usize,
    sink: *const Sink,
) -> i32 {
    change::<P>(packet, sink, |packet| {
        // SAFETY: this number of bytes is valid during the call.
        packet.replace(unsafe { read_fields(fields, fields_bytes) })
    })
}

unsafe extern "C" fn rights<P: PacketAccess>(packet: *mut c_void) -> u32 {
    guarded(0, || {
        // SAFETY: the plugin passes what it was given.
        let packet = unsafe { access::<P>(packet) };
        if !packet.is_changeable() {
            return 0;
        }
        let right = |has_it, bit| if has_it { bit } else { 0 };
        right(packet.may_drop(), packet_right::DROP)
            | right(packet.may_change(), packet_right::CHANGE)
    })
}

fn change<P: PacketAccess>(
    packet: *mut c_void,
    sink: *const Sink,
    change: impl FnOnce(&mut P) -> Result<(), String>,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes what it was given.
        let packet = unsafe { access::<P>(packet) };
        if !packet.is_changeable() {
            return status::DENIED;
        }
        match change(packet) {
            Ok(()) => status::OK,
            Err(reason) => {
                // SAFETY: the plugin's sink is valid during the call.
                unsafe { Sink::fail(sink, failure::ERROR, &reason, None) };
                status::ERR
            }
        }
    })
}

/// The bytes of fields, and one more than the most: the receiver refuses those.
///
/// # Safety
///
/// The bytes must be valid for `'a`.
pub(super) unsafe fn read_fields<'a>(fields: *const u8, fields_bytes: usize) -> &'a [u8] {
    let fields = Str {
        ptr: fields,
        len: fields_bytes.min(FIELDS_BYTES_MAX + 1),
    };
    // SAFETY: the caller promises it, and less is valid too.
    unsafe { fields.bytes() }
}

/// The values of fields that a plugin gives, without those of unknown fields.
///
/// # Safety
///
/// The values, and what they lead to, must be valid for `'a`.
pub(super) unsafe fn read_values<'a>(
    values: *const FieldValue,
    len: usize,
) -> Result<Vec<(PacketField, FieldData<'a>)>, String> {
    if len > VALUES_MAX || (values.is_null() && len > 0) {
        return Err("it gives more fields than there are".to_owned());
    }
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller promises this number of values.
    let values = unsafe { core::slice::from_raw_parts(values, len) };
    let mut read = Vec::with_capacity(len);
    for value in values {
        if let Some(field) = field_of(value.field) {
            let name = field.name();
            if value.data.len > FIELDS_BYTES_MAX {
                return Err(format!("`{name}` has more than {FIELDS_BYTES_MAX} bytes"));
            }
            // SAFETY: the caller promises it.
            let data = unsafe { value.data() }.map_err(|why| format!("`{name}` {why}"))?;
            if !data.is_of(field.holds()) {
                return Err(format!("`{name}` has a value of another type"));
            }
            read.push((field, data));
        }
    }
    Ok(read)
}

fn field_of(number: u32) -> Option<PacketField> {
    u16::try_from(number)
        .ok()
        .and_then(PacketField::from_number)
}
