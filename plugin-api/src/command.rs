//! Commands of players: [`CommandSpec`] declares one, and [`CommandReply`] answers it.
#![allow(
    unsafe_code,
    reason = "a list of commands goes to a C table of the host"
)]

use infrarust_plugin_abi::{CommandSink, Hook, Str, answer, command_audience, status};

use crate::Text;
use crate::verdict::{Answer, IntoAnswer};

/// The players who may use a command. Other players do not see it, and if they type it, it
/// goes to their backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Audience {
    /// Every player.
    Everybody,
    /// The admins of the proxy, and every player if the operator lists the command in
    /// `permissions.player_commands`.
    PlayerCommands,
    /// The admins of the proxy.
    Admins,
}

impl Audience {
    const fn number(self) -> u32 {
        match self {
            Self::Everybody => command_audience::EVERYBODY,
            Self::PlayerCommands => command_audience::PLAYER_COMMANDS,
            Self::Admins => command_audience::ADMINS,
        }
    }
}

/// A command that a plugin adds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandSpec {
    /// The name after the slash: 1 to 32 characters of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// Who may use it.
    pub audience: Audience,
}

impl CommandSpec {
    /// A command of this name, for these players.
    #[must_use]
    pub fn new(name: impl Into<String>, audience: Audience) -> Self {
        Self {
            name: name.into(),
            audience,
        }
    }
}

/// Writes the commands into the host's sink.
///
/// # Safety
///
/// The sink must be null or valid during the call.
pub(crate) unsafe fn list(commands: &[CommandSpec], sink: *const CommandSink) -> i32 {
    // SAFETY: the caller promises it.
    let add = unsafe { sink.as_ref() }.and_then(|sink| Some((sink.ctx, sink.add?)));
    let Some((ctx, add)) = add else {
        return status::UNSUPPORTED;
    };
    for command in commands {
        // SAFETY: the context belongs to the sink, the name is good for the call.
        unsafe { add(ctx, Str::new(&command.name), command.audience.number()) };
    }
    status::OK
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandReply(pub(crate) Answer);

impl CommandReply {
    /// No answer. The plugin can send a text later with [`Grant::chat`](crate::Grant::chat).
    #[must_use]
    pub const fn nothing() -> Self {
        Self(Answer::word(answer::PASS))
    }

    /// A line in the player's chat window. It needs no other capability.
    #[must_use]
    pub fn say(text: impl Into<Text>) -> Self {
        Self(Answer::text(answer::REPLACE, text.into().to_json()))
    }

    /// The line, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<Text> {
        match self.0.code {
            answer::REPLACE => Text::from_json(&self.0.text),
            _ => None,
        }
    }
}

impl IntoAnswer for CommandReply {
    fn into_answer(self) -> Answer {
        self.0
    }
}

/// Suggestions for the last word of a command.
pub(crate) struct Suggestions(pub(crate) Vec<String>);

/// The most suggestions that the host takes.
const SUGGESTIONS_MAX: usize = 200;

impl IntoAnswer for Suggestions {
    fn into_answer(self) -> Answer {
        let bytes_max = Hook::PlayerCommand.answer_bytes_max();
        let mut text = String::new();
        let is_word = |word: &&String| !word.is_empty() && !word.contains('\n');
        for word in self.0.iter().filter(is_word).take(SUGGESTIONS_MAX) {
            if text.len() + word.len() + 1 > bytes_max {
                break;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(word);
        }
        match text.is_empty() {
            true => Answer::word(answer::PASS),
            false => Answer::text(answer::REPLACE, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Suggestions are limited to the most that the host takes, and to single words.
    #[test]
    fn suggestions_are_bounded() {
        let text = |words: Vec<String>| Suggestions(words).into_answer().text;
        assert_eq!(text(Vec::new()), "");
        let words = ["a", "", "b\nc", "d"].map(str::to_owned);
        assert_eq!(text(words.into()), "a\nd");
        assert_eq!(text(vec!["a".to_owned(); 5000]).lines().count(), 200);
        let long = "x".repeat(1000);
        assert_eq!(text(vec![long; 50]).lines().count(), 32);
    }
}
