//! The commands that plugins add.

use std::sync::atomic::{AtomicBool, Ordering};

use infrarust_plugin_abi::command_audience;

use super::ffi::{self, COMMANDS_MAX, Failure, Image, Instance};
use crate::permissions::Audience;
use crate::show::Quoted;

/// The longest name of a command in bytes.
const NAME_BYTES_MAX: usize = 32;

/// The commands of the proxy itself.
pub(crate) const OWN: [&str; 4] = ["find", "glist", "send", "server"];
/// Commands with which operators run a server: a plugin that took one would keep
/// them from it.
const RESERVED: [&str; 14] = [
    "ban",
    "ban-ip",
    "deop",
    "kick",
    "op",
    "pardon",
    "pardon-ip",
    "reload",
    "restart",
    "save-all",
    "save-off",
    "save-on",
    "stop",
    "whitelist",
];

/// A command of a plugin.
#[derive(Debug)]
pub(crate) struct PluginCommand {
    /// What players type behind the slash.
    pub(crate) name: Box<str>,
    /// Who may use it.
    pub(crate) audience: Audience,
    /// Whether the log has reported that another plugin has the same command.
    has_reported: AtomicBool,
}

impl PluginCommand {
    /// Records that another plugin has the command; true at the first call.
    pub(super) fn clashes_first(&self) -> bool {
        !self.has_reported.swap(true, Ordering::Relaxed)
    }
}

/// Asks a new instance of a plugin for its commands, and waits as long as it takes.
/// Commands that it may not have are logged and left out.
pub(super) fn ask(
    image: &Image,
    instance: &Instance,
    plugin: &str,
) -> Result<Box<[PluginCommand]>, Box<Failure>> {
    let Some(hook) = image.hooks.player_command else {
        return Ok(Box::default());
    };
    let mut commands: Vec<PluginCommand> = Vec::new();
    for (name, audience) in ffi::ask_commands(instance, hook)? {
        match problem(&name, &commands) {
            None => commands.push(PluginCommand {
                name: name.into(),
                audience: audience_of(audience),
                has_reported: AtomicBool::new(false),
            }),
            Some(problem) => {
                let command = Quoted(&name);
                tracing::warn!(
                    plugin,
                    "plugin `{plugin}`: its command {command} is left out: {problem}"
                );
            }
        }
    }
    Ok(commands.into())
}

/// Why a plugin may not have a command of this name.
fn problem(name: &str, others: &[PluginCommand]) -> Option<String> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if !is_name {
        return Some(format!(
            "a name has 1 to {NAME_BYTES_MAX} of `a-z`, `0-9`, `_` and `-`"
        ));
    }
    if OWN.contains(&name) {
        return Some("the proxy has it".to_owned());
    }
    if RESERVED.contains(&name) {
        return Some("operators of a server use it".to_owned());
    }
    if others.iter().any(|other| *other.name == *name) {
        return Some("it is listed twice".to_owned());
    }
    let is_full = others.len() >= COMMANDS_MAX;
    is_full.then(|| format!("a plugin has at most {COMMANDS_MAX}"))
}

const fn audience_of(number: u32) -> Audience {
    match number {
        command_audience::EVERYBODY => Audience::Everybody,
        command_audience::PLAYER_COMMANDS => Audience::PlayerCommands,
        _ => Audience::Admins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of commands of the proxy and of operators are left out, and their number is
    /// bounded.
    #[test]
    fn names_are_checked() {
        let command = |name: &str| PluginCommand {
            name: name.into(),
            audience: Audience::Admins,
            has_reported: AtomicBool::new(false),
        };
        for name in ["spawn", "a", "tp-2_x"] {
            assert_eq!(problem(name, &[]), None, "{name}");
        }
        let long = "x".repeat(33);
        for name in ["", "Spawn", "a b", "/a", "é", long.as_str()] {
            assert!(problem(name, &[]).unwrap().contains("a name has"), "{name}");
        }
        assert!(problem("server", &[]).unwrap().contains("the proxy"));
        assert!(problem("stop", &[]).unwrap().contains("operators"));
        assert!(problem("a", &[command("a")]).unwrap().contains("twice"));
        let many: Vec<_> = (0..COMMANDS_MAX)
            .map(|number| command(&number.to_string()))
            .collect();
        assert!(problem("a", &many).unwrap().contains("at most 64"));
        assert_eq!(audience_of(99), Audience::Admins);
    }
}
