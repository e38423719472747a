//! The commands of the proxy in a session: adds them to the commands that the client
//! knows, and keeps them from the backend.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::packet::commands::{
    CommandLine, Completion, acknowledge, add_commands, add_suggestions, name_of,
};
use crate::protocol::packet::{Clientbound, Serverbound, Version};
use crate::protocol::version::V1_13;

/// The most requests for the names of commands that a backend has not answered,
/// before 1.13. A client asks once for each press of a key.
const ASKED_MAX: usize = 64;
/// How long the proxy waits for an answer to one. Answers have no number, so a later one
/// may answer another request.
const ASKED_WAIT: Duration = Duration::from_secs(5);

/// The commands of the proxy that one player may use.
///
/// The methods are called by a thread that relays: they do not wait.
pub(crate) trait Commands: fmt::Debug + Send + Sync {
    /// The names that are announced to the client, in alphabetical order.
    fn announced(&self) -> Vec<String>;

    /// Whether the player may use a command of this name.
    fn has(&self, name: &str) -> bool;

    /// Runs a command for which [`has`](Self::has) is true. `line` has no slash.
    fn run(&self, line: &str);

    /// Completes the arguments of such a command.
    fn complete(&self, request: Completion<'static>);

    /// The player has left the server: waiting commands and requests are dropped.
    fn end(&self);
}

/// What happens to a packet of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PacketAction {
    /// It passes.
    Pass,
    /// The backend does not get it.
    Drop,
    /// The backend gets this packet instead.
    Change(Vec<u8>),
}

/// The commands of one session. Both directions share it.
#[derive(Debug)]
pub(crate) struct SessionCommands {
    commands: Arc<dyn Commands>,
    version: Version,
    /// Before 1.13: requests for suggestions that the backend answers.
    asked: Mutex<VecDeque<SuggestionRequest>>,
    /// Whether a command tree of this backend was reported in the log, because no
    /// commands can be added to it.
    has_reported_tree: AtomicBool,
}

/// A request for suggestions before 1.13.
#[derive(Debug)]
struct SuggestionRequest {
    /// The beginning of a command's name, if the request is about a name.
    prefix: Option<Box<str>>,
    at: Instant,
}

impl SessionCommands {
    pub(crate) fn new(commands: Arc<dyn Commands>, version: Version) -> Self {
        Self {
            commands,
            version,
            asked: Mutex::default(),
            has_reported_tree: AtomicBool::new(false),
        }
    }

    /// Whether [`clientbound`](Self::clientbound) reads packets of this kind.
    pub(crate) const fn reads_clientbound(&self, kind: Clientbound) -> bool {
        match kind {
            Clientbound::Commands => true,
            Clientbound::Suggestions => self.is_unnumbered(),
            _ => false,
        }
    }

    /// Whether [`serverbound`](Self::serverbound) reads packets of this kind.
    pub(crate) const fn reads_serverbound(kind: Serverbound) -> bool {
        matches!(
            kind,
            Serverbound::Chat
                | Serverbound::ChatCommand
                | Serverbound::ChatCommandSigned
                | Serverbound::SuggestionRequest
        )
    }

    /// The packet that replaces this packet of the backend, in play; `None` if it passes
    /// unchanged.
    pub(crate) fn clientbound(&self, kind: Clientbound, fields: &[u8]) -> Option<Vec<u8>> {
        match kind {
            Clientbound::Commands => {
                match add_commands(self.version, fields, &self.commands.announced()) {
                    Ok(tree) => tree,
                    Err(error) => {
                        if !self.has_reported_tree.swap(true, Ordering::Relaxed) {
                            tracing::warn!(
                                version = self.version.games(),
                                "{error}: those of the proxy are not added"
                            );
                        }
                        None
                    }
                }
            }
            Clientbound::Suggestions if self.is_unnumbered() => {
                let prefix = self.answered()?;
                let names = self.commands.announced();
                add_suggestions(self.version, fields, &prefix, &names)
            }
            _ => None,
        }
    }

    /// What happens to a packet of the client in the game.
    pub(crate) fn serverbound(&self, kind: Serverbound, fields: &[u8]) -> PacketAction {
        if kind == Serverbound::SuggestionRequest {
            return self.complete(fields);
        }
        let Some(line) = CommandLine::of(self.version, kind, fields) else {
            return PacketAction::Pass;
        };
        // A signed command goes to the backend: each signature builds on the one before.
        if line.is_signed || !self.commands.has(line.name()) {
            return PacketAction::Pass;
        }
        self.commands.run(line.text);
        match acknowledge(self.version, line.seen) {
            Some(packet) => PacketAction::Change(packet),
            None => PacketAction::Drop,
        }
    }

    fn complete(&self, fields: &[u8]) -> PacketAction {
        let Some(request) = Completion::of(self.version, fields) else {
            return PacketAction::Pass;
        };
        match request.command() {
            Some(line) if self.commands.has(name_of(line)) => {
                self.commands.complete(request.into_owned());
                PacketAction::Drop
            }
            command => {
                if self.is_unnumbered() {
                    let name = request.text.strip_prefix('/');
                    let prefix = name.filter(|_| command.is_none()).map(Box::from);
                    self.ask(prefix);
                }
                PacketAction::Pass
            }
        }
    }

    /// Whether suggestions have no number that says which request they answer.
    const fn is_unnumbered(&self) -> bool {
        self.version.protocol() < V1_13
    }

    fn ask(&self, prefix: Option<Box<str>>) {
        let mut asked = self.asked();
        if asked.len() >= ASKED_MAX {
            asked.pop_front();
        }
        let at = Instant::now();
        asked.push_back(SuggestionRequest { prefix, at });
    }

    /// The beginning of the command's name that the backend's suggestions complete; `None`
    /// if they complete something else.
    fn answered(&self) -> Option<Box<str>> {
        let mut asked = self.asked();
        while let Some(request) = asked.pop_front() {
            if request.at.elapsed() < ASKED_WAIT {
                return request.prefix;
            }
        }
        None
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<SuggestionRequest>> {
        // A panic under the lock leaves the value consistent.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SessionCommands {
    fn drop(&mut self) {
        self.commands.end();
    }
}
