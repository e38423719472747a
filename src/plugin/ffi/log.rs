//! The log of plugins: the functions of its table.

use std::ffi::c_void;

use infrarust_plugin_abi::serve::{guarded, write};
use infrarust_plugin_abi::{
    LogCallsite, LogField, LogTable, Str, field, interest, level, sized, status, table,
};
use tracing::Level;

use super::border::{FAILURE_BYTES_MAX, text};
use crate::plugin::log;
use crate::plugin::services::{Services, Supply};
use crate::show::Line;
use crate::telemetry::PLUGIN_TARGET_PREFIX;

/// The most bytes of the names and values of one event of the log.
const LOG_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The target of events with which the SDK reports a panic in the drop of a future or of the
/// instance, where no call can return it.
const PANIC_TARGET: &str = "infrarust_plugin_api::panic";
/// The id of the call site of such events. They are always enabled.
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
    interest: *mut u32,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: the plugin passes its context and good pointers.
        let (Some(services), Some(site)) = (unsafe { (services(ctx), sized(callsite)) }) else {
            return status::ERR;
        };
        if id.is_null() || interest.is_null() {
            return status::ERR;
        }
        if site.fields_len > log::FIELDS_MAX || (site.fields.is_null() && site.fields_len > 0) {
            return status::DENIED;
        }
        // SAFETY: all texts are valid during the call, and the number of names was checked.
        let mut key = unsafe { key_of(site) };
        let found = if key.target == PANIC_TARGET {
            Some((PANIC_SITE, interest::ALWAYS))
        } else {
            let plugin = &services.health.plugin;
            key.target = format!("{PLUGIN_TARGET_PREFIX}{plugin}::{}", key.target);
            log::find_or_add(key, &services.places)
        };
        let Some(found) = found else {
            services.has_run_out_of(Supply::LogPlaces);
            return status::DENIED;
        };
        // SAFETY: neither is null, and the plugin passes pointers that can be written to.
        unsafe {
            write(id, found.0);
            write(interest, found.1);
        }
        status::OK
    })
}

/// The key of a call site, with the target that the plugin gives.
///
/// # Safety
///
/// The texts must be valid during the call, and `fields` must lead to `fields_len` of them.
unsafe fn key_of(site: &LogCallsite) -> log::Key {
    // SAFETY: the caller promises it.
    let text = |name: Str| unsafe { text(name, LOG_TEXT_BYTES_MAX) };
    let names: &[Str] = match site.fields_len {
        0 => &[],
        // SAFETY: the caller promises it.
        len => unsafe { std::slice::from_raw_parts(site.fields, len) },
    };
    log::Key {
        level: match site.level {
            level::ERROR => Level::ERROR,
            level::WARN => Level::WARN,
            level::INFO => Level::INFO,
            level::DEBUG => Level::DEBUG,
            _ => Level::TRACE,
        },
        target: text(site.target),
        file: text(site.file),
        line: site.line,
        fields: names.iter().map(|name| text(*name)).collect(),
    }
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
    guarded(status::ERR, || {
        // SAFETY: the plugin passes its context.
        let Some(services) = (unsafe { services(ctx) }) else {
            return status::ERR;
        };
        if len > log::FIELDS_MAX || (fields.is_null() && len > 0) {
            return status::DENIED;
        }
        let fields = match len {
            0 => &[],
            // SAFETY: this number of values is valid during the call.
            len => unsafe { std::slice::from_raw_parts(fields, len) },
        };
        if id == PANIC_SITE {
            // SAFETY: the text is valid during the call.
            let text = fields
                .first()
                .map(|field| unsafe { text(field.text, FAILURE_BYTES_MAX) });
            services.dropped_with_a_panic(&Line(&text.unwrap_or_default()).to_string());
        } else if log::is_enabled(id) && services.may_log() {
            // SAFETY: the texts are valid during the call.
            let values = fields.iter().filter_map(|field| unsafe { value_of(field) });
            log::event(id, values.collect());
        }
        status::OK
    })
}

/// The index of a field, and its value; `None` for an unknown kind of value.
///
/// # Safety
///
/// The text must be valid during the call.
unsafe fn value_of(field: &LogField) -> Option<(usize, log::EventValue)> {
    // SAFETY: the caller promises it.
    let text = || unsafe { text(field.text, LOG_TEXT_BYTES_MAX) };
    let value = match field.kind {
        field::TEXT => log::EventValue::Text(text()),
        field::PRINTED => log::EventValue::Printed(text()),
        field::I64 => log::EventValue::I64(field.number.cast_signed()),
        field::U64 => log::EventValue::U64(field.number),
        field::F64 => log::EventValue::F64(f64::from_bits(field.number)),
        field::BOOL => log::EventValue::Bool(field.number != 0),
        _ => return None,
    };
    Some((field.index as usize, value))
}
