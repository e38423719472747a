//! The commands of a plugin, as it lists them.

use std::ffi::c_void;

use infrarust_plugin_abi::{CommandHook, CommandInput, CommandSink, Str, size_of_table};

use super::border::{Answers, Failure, text};
use super::image::Instance;
use crate::plugin::commands::COMMANDS_MAX;

/// The most bytes that are kept of a name. Longer ones are not names.
const NAME_BYTES_MAX: usize = 64;

/// The names of a plugin's commands, and the number of the audience of each. One more
/// than there may be.
pub(in crate::plugin) fn ask_commands(
    instance: &Instance,
    hook: &CommandHook<CommandInput>,
) -> Result<Vec<(String, u32)>, Box<Failure>> {
    let Some(list) = hook.list else {
        return Err(Failure::unsupported());
    };
    let mut commands: Vec<(String, u32)> = Vec::new();
    let sink = CommandSink {
        size: size_of_table::<CommandSink>(),
        reserved: 0,
        ctx: (&raw mut commands).cast(),
        add: Some(add_command),
    };
    let mut answers = Answers::new(0);
    // SAFETY: the instance lives, the rest is good for the call.
    let status =
        answers.during(|failures| unsafe { list(instance.raw, &raw const sink, failures) });
    answers.outcome(status).map(|_| commands)
}

unsafe extern "C" fn add_command(ctx: *mut c_void, name: Str, audience: u32) {
    // SAFETY: the context is that of the call that runs, on its thread.
    let commands = unsafe { &mut *ctx.cast::<Vec<(String, u32)>>() };
    if commands.len() <= COMMANDS_MAX {
        // SAFETY: the name is good for the call.
        commands.push((unsafe { text(name, NAME_BYTES_MAX) }, audience));
    }
}
