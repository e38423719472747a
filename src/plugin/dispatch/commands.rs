//! The hook of commands: `player.command`.

use infrarust_plugin_abi::{CommandInput, CommandPlayer, answer, points};
use serde_json::Value;

use super::HookSet;
use super::attached::{Attached, HookFailure, bad_answer, unknown_code};
use super::subject::Client;
use crate::config::model::OnFailure;
use crate::plugin::commands::PluginCommand;
use crate::plugin::ffi::Answer;
use crate::protocol::component;

/// The most suggestions of a plugin for one word.
const SUGGESTIONS_MAX: usize = 200;
/// The most characters of one.
const SUGGESTION_CHARS_MAX: usize = 256;

/// A command that a player has typed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typed<'a> {
    /// The player.
    pub(crate) player: CommandPlayer<'a>,
    /// The name of the command.
    pub(crate) name: &'a str,
    /// The text after the name.
    pub(crate) arguments: &'a str,
}

/// The plugin has failed. The failure is already counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HasFailed;

type Plugin = Attached<points::PlayerCommand>;

impl HookSet {
    /// The commands of the plugins. If several plugins have the same name, the first one gets it.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &PluginCommand> {
        let all = self.player_command.iter();
        all.flat_map(|plugin| {
            let commands = plugin.generation.commands.iter();
            commands.filter(|command| self.has_command(plugin, command))
        })
    }

    /// The command of this name.
    pub(crate) fn command(&self, name: &str) -> Option<&PluginCommand> {
        let mut all = self.player_command.iter();
        all.find_map(|plugin| plugin.command(name))
    }

    /// Reports commands that two plugins of a server have, once for each.
    pub(super) fn report_clashes(&self) {
        for plugin in &self.player_command {
            for command in &plugin.generation.commands {
                let first = self.plugin_of(&command.name);
                let Some(first) = first.filter(|first| !is_same(first, plugin)) else {
                    continue;
                };
                if command.clashes_first() {
                    let (id, other, name) = (plugin.id(), first.id(), &command.name);
                    tracing::warn!(
                        plugin = id,
                        "plugin `{id}`: its command `{name}` is left out where plugin \
                         `{other}` has one of the same name"
                    );
                }
            }
        }
    }

    fn has_command(&self, plugin: &Plugin, command: &PluginCommand) -> bool {
        let first = self.plugin_of(&command.name);
        first.is_some_and(|first| is_same(first, plugin))
    }

    fn plugin_of(&self, name: &str) -> Option<&Plugin> {
        let mut all = self.player_command.iter();
        all.find(|plugin| plugin.command(name).is_some())
    }

    /// Runs a command, and returns the line for the player, if there is one. Dropping the
    /// future cancels it.
    pub(crate) async fn player_command(
        &self,
        client: &Client<'_>,
        typed: &Typed<'_>,
    ) -> Result<Option<Value>, HasFailed> {
        let Some(plugin) = self.plugin_of(typed.name) else {
            return Ok(None);
        };
        let input = input(plugin, client, typed);
        let answer = plugin.ask_table(&plugin.hook.ask, &input).await;
        let answer = answer.and_then(|answer| match answer {
            None => Ok(None),
            Some(Answer { code, .. }) if code == answer::PASS => Ok(None),
            Some(Answer { code, text }) if code == answer::REPLACE => {
                let text = component::parse(&text);
                text.map(Some)
                    .map_err(|error| bad_answer(error.to_string()))
            }
            Some(Answer { code, .. }) => Err(unknown_code(code)),
        });
        answer.map_err(|failure| failed(plugin, &failure))
    }

    /// The suggestions for the last word of a command. Dropping the future cancels the call.
    pub(crate) async fn complete_command(
        &self,
        client: &Client<'_>,
        typed: &Typed<'_>,
    ) -> Vec<String> {
        let Some(plugin) = self.plugin_of(typed.name) else {
            return Vec::new();
        };
        let input = input(plugin, client, typed).completing();
        let text = match plugin.ask_table(&plugin.hook.ask, &input).await {
            Ok(Some(Answer { code, text })) if code == answer::REPLACE => text,
            Ok(_) => return Vec::new(),
            Err(failure) => {
                failed(plugin, &failure);
                return Vec::new();
            }
        };
        let is_word = |line: &&str| (1..=SUGGESTION_CHARS_MAX).contains(&line.chars().count());
        let words = text.lines().filter(is_word).take(SUGGESTIONS_MAX);
        words.map(str::to_owned).collect()
    }
}

impl Plugin {
    fn command(&self, name: &str) -> Option<&PluginCommand> {
        let mut commands = self.generation.commands.iter();
        commands.find(|command| *command.name == *name)
    }
}

fn is_same(one: &Plugin, other: &Plugin) -> bool {
    std::sync::Arc::ptr_eq(&one.generation, &other.generation)
}

fn input(plugin: &Plugin, client: &Client<'_>, typed: &Typed<'_>) -> CommandInput {
    let client = client.input();
    let mut input = CommandInput::new(&client, &typed.player, typed.name, typed.arguments);
    input.grants = plugin.grants;
    input
}

fn failed(plugin: &Plugin, failure: &HookFailure) -> HasFailed {
    plugin.note(failure, OnFailure::Continue);
    HasFailed
}
