//! Sinks for what a plugin lists: its commands, and the packets that a hook wants.

use core::ffi::c_void;

use super::guarded;
use crate::{CommandSink, InterestSink, Str, size_of_table};

/// Calls `list` with a sink that passes the name and the audience of each command to
/// `add`. The name is valid during that call.
pub fn with_command_sink<F: FnMut(Str, u32), T>(
    mut add: F,
    list: impl FnOnce(*const CommandSink) -> T,
) -> T {
    unsafe extern "C" fn take<F: FnMut(Str, u32)>(ctx: *mut c_void, name: Str, audience: u32) {
        // SAFETY: the context is the `add` of the call that runs, on its thread.
        let add = unsafe { &mut *ctx.cast::<F>() };
        guarded((), || add(name, audience));
    }
    let sink = CommandSink {
        size: size_of_table::<CommandSink>(),
        reserved: 0,
        ctx: (&raw mut add).cast(),
        add: Some(take::<F>),
    };
    list(&raw const sink)
}

/// Calls `list` with a sink that passes each number of an interest to `add`.
pub fn with_interest_sink<F: FnMut(u32), T>(
    mut add: F,
    list: impl FnOnce(*const InterestSink) -> T,
) -> T {
    unsafe extern "C" fn take<F: FnMut(u32)>(ctx: *mut c_void, number: u32) {
        // SAFETY: the context is the `add` of the call that runs, on its thread.
        let add = unsafe { &mut *ctx.cast::<F>() };
        guarded((), || add(number));
    }
    let sink = InterestSink {
        size: size_of_table::<InterestSink>(),
        reserved: 0,
        ctx: (&raw mut add).cast(),
        add: Some(take::<F>),
    };
    list(&raw const sink)
}
