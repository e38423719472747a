//! The commands of a plugin.
#![allow(unsafe_code, reason = "plugins are C tables")]

use infrarust_plugin_abi::serve::with_command_sink;
use infrarust_plugin_abi::{CommandInput, CommandPlayer, Str, command_audience, points};

use super::{Client, Failure, TestHost, outcome};
use crate::export::Exported;
use crate::guard::Collected;
use crate::{Audience, CommandSpec, PlayerId};

impl<P: Exported> TestHost<P> {
    /// The commands of the plugin, as it has listed them.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook `PlayerCommand`.
    pub fn commands(&self) -> Result<Vec<CommandSpec>, Failure> {
        let hook = Self::table::<points::PlayerCommand>();
        let Some(list) = hook.list else {
            unreachable!("the macro fills the table")
        };
        let mut commands: Vec<CommandSpec> = Vec::new();
        let add = |name: Str, audience| {
            // SAFETY: the name is valid during the call.
            let name = unsafe { name.text() };
            let audience = match audience {
                command_audience::EVERYBODY => Audience::Everybody,
                command_audience::PLAYER_COMMANDS => Audience::PlayerCommands,
                _ => Audience::Admins,
            };
            commands.push(CommandSpec::new(name, audience));
        };
        let mut collected = Collected::default();
        let failures = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = with_command_sink(add, |sink| unsafe {
            list(self.instance, sink, &raw const failures)
        });
        outcome(collected, status).map(|_| commands)
    }

    /// What the plugin suggests for the last word of a line, as a player asks for it.
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook `PlayerCommand`.
    pub fn complete(
        &self,
        client: &Client,
        player: PlayerId,
        line: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut input = self.command(client, player, line).completing();
        input.grants = self.grants();
        let answer = self.ask::<points::PlayerCommand>(&input)?;
        Ok(answer.text.lines().map(str::to_owned).collect())
    }

    /// The input for running the command in a line.
    pub(super) fn command(&self, client: &Client, player: PlayerId, line: &str) -> CommandInput {
        self.services.join_if_absent(player, client);
        let line = line.strip_prefix('/').unwrap_or(line);
        let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let user = CommandPlayer {
            number: player.number(),
            name: &client.name,
            uuid: client.uuid_in_game(),
            is_proved: client.is_proved,
            is_admin: client.is_admin,
        };
        CommandInput::new(&client.input(), &user, command, arguments)
    }
}
