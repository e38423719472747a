//! The commands of a plugin, as it lists them.

use infrarust_plugin_abi::serve::with_command_sink;
use infrarust_plugin_abi::{CommandHook, CommandInput};

use super::border::{Answers, Failure, text};
use super::image::Instance;

/// The most commands of one plugin. A client shows some ten of them at a time.
pub(in crate::plugin) const COMMANDS_MAX: usize = 64;
/// The most bytes that are kept of a name. Longer ones are not names.
const NAME_BYTES_MAX: usize = 64;

/// The names of a plugin's commands, and the number of the audience of each: at most one
/// more than a plugin may have.
pub(in crate::plugin) fn ask_commands(
    instance: &Instance,
    hook: &CommandHook<CommandInput>,
) -> Result<Vec<(String, u32)>, Box<Failure>> {
    let Some(list) = hook.list else {
        return Err(Failure::unsupported());
    };
    let mut commands: Vec<(String, u32)> = Vec::new();
    let add = |name, audience| {
        if commands.len() <= COMMANDS_MAX {
            // SAFETY: the name is valid during the call.
            commands.push((unsafe { text(name, NAME_BYTES_MAX) }, audience));
        }
    };
    let mut answers = Answers::new(0);
    let status = answers.during(|failures| {
        // SAFETY: the instance lives, the rest is valid during the call.
        with_command_sink(add, |sink| unsafe { list(instance.raw, sink, failures) })
    });
    answers.outcome(status).map(|_| commands)
}
