//! The log of plugins: the functions of its table.

use std::ffi::c_void;

use infrarust_plugin_abi::serve::{guarded, write};
use infrarust_plugin_abi::{
    LogCallsite, LogField, LogTable, Str, field, interest, level, sized, status, table,
};
use tracing::Level;

use super::border::{FAILURE_BYTES_MAX, text};
use crate::plugin::services::{Services, Supply};
use crate::plugin::{TARGET_PREFIX, log};
use crate::show::Line;

/// The most bytes of the names and values of one event of the log.
const LOG_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The target of events with which the SDK reports a panic where no call could
/// return it: in the drop of a future or of the instance.
const PANIC_TARGET: &str = "infrarust_plugin_api::panic";
/// The place of such events, whatever the filter of the log says.
const PANIC_SITE: u64 = u64::MAX;

pub(super) static LOG: LogTable = table!(LogTable {
    callsite: callsite,
    enabled: enabled,
    event: event
});

/// `None` when the plugin has passed no context.
///
/// # Safety
///
/// The context must be null, or the one that `create` has passed.
unsafe fn services(ctx: *const c_void) -> Option<&'static Services> {
    // SAFETY: the caller promises it, and services are leaked.
    unsafe { ctx.cast::<Services>().as_ref() }
}

unsafe extern "C" fn callsite(
    ctx: *const c_void,
    callsite: *const LogCallsite,
    id: *mut u64,
    given: *mut u32,
) -> i32 {
    // SAFETY: the plugin passes its context and good pointers.
    let (Some(services), Some(site)) = (unsafe { (services(ctx), sized(callsite)) }) else {
        return status::ERR;
    };
    if id.is_null() || given.is_null() {
        return status::ERR;
    }
    if site.fields_len > log::FIELDS_MAX || (site.fields.is_null() && site.fields_len > 0) {
        return status::DENIED;
    }
    let level = match site.level {
        level::ERROR => Level::ERROR,
        level::WARN => Level::WARN,
        level::INFO => Level::INFO,
        level::DEBUG => Level::DEBUG,
        _ => Level::TRACE,
    };
    // SAFETY: this number of names and all texts are valid during the call.
    let (target, file, fields) = unsafe {
        let names: &[Str] = match site.fields_len {
            0 => &[],
            len => std::slice::from_raw_parts(site.fields, len),
        };
        let names = names
            .iter()
            .map(|name| text(*name, LOG_TEXT_BYTES_MAX))
            .collect();
        (
            text(site.target, LOG_TEXT_BYTES_MAX),
            text(site.file, LOG_TEXT_BYTES_MAX),
            names,
        )
    };
    if target == PANIC_TARGET {
        // SAFETY: the plugin gives places to write to.
        let written = unsafe { write(id, PANIC_SITE) && write(given, interest::ALWAYS) };
        return if written { status::OK } else { status::ERR };
    }
    let target = format!("{}{}::{target}", TARGET_PREFIX, services.health.plugin);
    let key = log::Key {
        level,
        target,
        file,
        line: site.line,
        fields,
    };
    let Some(introduced) = guarded(None, || log::introduce(key, &services.places)) else {
        services.has_run_out_of(Supply::LogPlaces);
        return status::DENIED;
    };
    // SAFETY: the plugin gives places to write to.
    let written = unsafe { write(id, introduced.0) && write(given, introduced.1) };
    if written { status::OK } else { status::ERR }
}

unsafe extern "C" fn enabled(_: *const c_void, id: u64) -> u32 {
    guarded(interest::NEVER, || log::is_enabled(id).into())
}

unsafe extern "C" fn event(
    ctx: *const c_void,
    id: u64,
    fields: *const LogField,
    len: usize,
) -> i32 {
    // SAFETY: the plugin passes its context.
    let Some(services) = (unsafe { services(ctx) }) else {
        return status::ERR;
    };
    if len > log::FIELDS_MAX || (fields.is_null() && len > 0) {
        return status::DENIED;
    }
    if id == PANIC_SITE {
        // SAFETY: this number of values and their texts are valid during the call.
        let said = unsafe {
            fields
                .as_ref()
                .map(|field| text(field.text, FAILURE_BYTES_MAX))
        };
        guarded((), || {
            services.dropped_with_a_panic(&Line(&said.unwrap_or_default()).to_string())
        });
        return status::OK;
    }
    if !guarded(false, || log::is_enabled(id) && services.may_log()) {
        return status::OK;
    }
    let mut values = Vec::with_capacity(len);
    for at in 0..len {
        // SAFETY: this number of values is valid during the call.
        let value = unsafe { &*fields.add(at) };
        // SAFETY: the text is valid during the call.
        let text = || unsafe { text(value.text, LOG_TEXT_BYTES_MAX) };
        let given = match value.kind {
            field::TEXT => log::Given::Text(text()),
            field::PRINTED => log::Given::Printed(text()),
            field::I64 => log::Given::I64(value.number.cast_signed()),
            field::U64 => log::Given::U64(value.number),
            field::F64 => log::Given::F64(f64::from_bits(value.number)),
            field::BOOL => log::Given::Bool(value.number != 0),
            _ => continue,
        };
        values.push((value.index as usize, given));
    }
    guarded((), || log::event(id, values));
    status::OK
}
