//! The commands of one player on one server, and the queue of typed commands.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use infrarust_plugin_abi::CommandPlayer;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::builtin::{Builtin, Caller};
use crate::apart;
use crate::forward::Direction;
use crate::forward::commands::Commands;
use crate::intercept::PlayerHandle;
use crate::permissions::{Audience, CommandSender};
use crate::player_text;
use crate::plugin::{self, HasFailed, Typed};
use crate::protocol::handshake::Intent;
use crate::protocol::packet::commands::{Completion, name_of};
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::show::Escaped;

/// The most commands of a player that wait while one runs. What is typed by hand
/// is one a second.
const WAITING_MAX: usize = 64;
/// The most bytes of them together (64 KiB). A line that is typed by hand has 256.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// The commands that a player may use on one server.
///
/// They run one after another, in the order in which they were typed, in a task
/// that exists as long as one waits.
#[derive(Debug)]
pub(crate) struct PlayerCommands {
    /// For the task.
    own: Weak<Self>,
    proxy: Weak<Proxy>,
    runtime: Handle,
    context: CommandContext,
    inbox: Mutex<Inbox>,
    /// Cancelled when the player has left the server: the running command is dropped.
    end: CancellationToken,
}

/// The player and server of the commands.
#[derive(Debug)]
pub(crate) struct CommandContext {
    pub(crate) player: Arc<PlayerHandle>,
    /// Whether the proxy has authenticated the player.
    pub(crate) is_proved: bool,
    /// The server, with its plugins.
    pub(crate) server: Arc<Server>,
    /// The intent of the handshake.
    pub(crate) intent: Intent,
    /// The virtual host.
    pub(crate) virtual_host: String,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Entered>,
    /// A task is running the waiting commands.
    is_running: bool,
}

/// Something that a player has typed.
#[derive(Debug)]
enum Entered {
    /// A command, without the slash.
    Line(String),
    /// The beginning of one, to be completed.
    Beginning(Completion<'static>),
}

impl Entered {
    /// The length of its text.
    fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Beginning(request) => request.text.len(),
        }
    }
}

/// The owner of a command.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Proxy(Builtin),
    Plugin,
}

impl PlayerCommands {
    /// The commands of a player; `None` if the player may use none now.
    pub(crate) fn of(proxy: &Proxy, context: CommandContext) -> Option<Arc<dyn Commands>> {
        let commands = Arc::new_cyclic(|own| Self {
            own: own.clone(),
            proxy: proxy.own(),
            runtime: Handle::current(),
            context,
            inbox: Mutex::default(),
            end: CancellationToken::new(),
        });
        if commands.names().is_empty() {
            return None;
        }
        Some(commands)
    }

    /// The names of the commands that the player may use now.
    fn names(&self) -> Vec<String> {
        let own = Builtin::ALL.iter().map(|command| command.name());
        let own = own.map(|name| (name, Audience::PlayerCommands));
        let of_plugins = self.context.server.hooks.commands();
        let of_plugins = of_plugins.map(|command| (&*command.name, command.audience));
        let all = own.chain(of_plugins);
        let allowed = all.filter(|(name, audience)| self.may_use(name, *audience));
        let mut names: Vec<String> = allowed.map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    fn may_use(&self, name: &str, audience: Audience) -> bool {
        self.proxy.upgrade().is_some_and(|proxy| {
            let permissions = &proxy.snapshot().proxy.permissions;
            permissions.allow(self.asker(), name, audience)
        })
    }

    fn asker(&self) -> CommandSender<'_> {
        CommandSender {
            name: self.context.player.name(),
            uuid: *self.context.player.uuid(),
            is_proved: self.context.is_proved,
        }
    }

    /// The owner of the command with this name, in lower case, if the player may use it.
    fn owner(&self, name: &str) -> Option<Owner> {
        let (owner, audience) = match Builtin::of(name) {
            Some(command) => (Owner::Proxy(command), Audience::PlayerCommands),
            None => (
                Owner::Plugin,
                self.context.server.hooks.command(name)?.audience,
            ),
        };
        self.may_use(name, audience).then_some(owner)
    }

    /// Appends something to the queue.
    fn put(&self, entered: Entered) {
        if self.end.is_cancelled() {
            return;
        }
        let mut inbox = self.inbox();
        let is_in_time = match entered {
            Entered::Line(_) => self.context.player.may_command(),
            Entered::Beginning(_) => {
                // The client only shows the answer to its last request.
                let is_line = |entered: &Entered| matches!(entered, Entered::Line(_));
                inbox.waiting.retain(is_line);
                true
            }
        };
        let waiting_bytes: usize = inbox.waiting.iter().map(Entered::bytes).sum();
        let has_room = inbox.waiting.len() < WAITING_MAX
            && (inbox.waiting.is_empty() || waiting_bytes + entered.bytes() <= WAITING_BYTES_MAX);
        if !is_in_time || !has_room {
            drop(inbox);
            let player = Escaped(self.context.player.name());
            let why = match is_in_time {
                true => "too many wait",
                false => "too many were sent",
            };
            debug!(%player, "a command is dropped: {why}");
            return;
        }
        inbox.waiting.push_back(entered);
        let is_running = std::mem::replace(&mut inbox.is_running, true);
        drop(inbox);
        if let Some(own) = self.own.upgrade().filter(|_| !is_running) {
            self.runtime.spawn(own.run_waiting());
        }
    }

    /// Runs the queue.
    async fn run_waiting(self: Arc<Self>) {
        let failed = |text: &str| {
            error!(player = %Escaped(self.context.player.name()), "a command has failed: {text}");
            self.context
                .player
                .send(&json!(player_text::COMMAND_FAILED));
        };
        let run = run_all(|| self.next(), |entered| self.run_entered(entered), failed);
        tokio::select! {
            () = run => {}
            () = self.end.cancelled() => {}
        }
    }

    async fn run_entered(&self, entered: Entered) {
        let Some(proxy) = self.proxy.upgrade() else {
            return;
        };
        match entered {
            Entered::Line(line) => self.run_line(proxy, &line).await,
            Entered::Beginning(request) => self.complete_line(proxy, &request).await,
        }
        // Built-in commands do not wait for anything, so yield between them.
        tokio::task::yield_now().await;
    }

    fn next(&self) -> Option<Entered> {
        let mut inbox = self.inbox();
        let next = inbox.waiting.pop_front();
        inbox.is_running = next.is_some();
        next
    }

    async fn run_line(&self, proxy: Arc<Proxy>, line: &str) {
        let name = name_of(line).to_ascii_lowercase();
        // The permission may have been removed since.
        let Some(owner) = self.owner(&name) else {
            return;
        };
        let player = &self.context.player;
        // The arguments may contain a password for a plugin, so they are not logged.
        debug!(
            player = %Escaped(player.name()),
            server = self.context.server.config.id,
            command = %Escaped(&name),
            "a player uses a command of the proxy"
        );
        match owner {
            Owner::Proxy(command) => command.run(&self.caller(proxy), arguments(line)),
            Owner::Plugin => {
                let typed = self.typed(&proxy, &name, arguments(line));
                let hooks = &self.context.server.hooks;
                match hooks.player_command(&self.client(), &typed).await {
                    Ok(Some(text)) => player.send(&text),
                    Ok(None) => {}
                    Err(HasFailed) => player.send(&json!(player_text::COMMAND_FAILED)),
                }
            }
        }
    }

    async fn complete_line(&self, proxy: Arc<Proxy>, request: &Completion<'_>) {
        let Some(line) = request.command() else {
            return;
        };
        let name = name_of(line).to_ascii_lowercase();
        let Some(owner) = self.owner(&name) else {
            return;
        };
        let suggestions = match owner {
            Owner::Proxy(command) => command.complete(&self.caller(proxy), arguments(line)),
            Owner::Plugin => {
                let typed = self.typed(&proxy, &name, arguments(line));
                let hooks = &self.context.server.hooks;
                hooks.complete_command(&self.client(), &typed).await
            }
        };
        let player = &self.context.player;
        if let Some(packet) = request.answer(player.version(), &suggestions) {
            // If too many packets wait, it is dropped: the client can ask again.
            let _ = player.put(Direction::Clientbound, vec![packet]);
        }
    }

    fn caller(&self, proxy: Arc<Proxy>) -> Caller {
        Caller {
            proxy,
            player: Arc::clone(&self.context.player),
        }
    }

    /// The client, as plugins see it.
    fn client(&self) -> plugin::Client<'_> {
        plugin::Client {
            peer: self.context.player.address(),
            protocol: self.context.player.version().protocol(),
            intent: self.context.intent,
            virtual_host: &self.context.virtual_host,
            server: &self.context.server.config.id,
        }
    }

    fn typed<'a>(&'a self, proxy: &Proxy, name: &'a str, arguments: &'a str) -> Typed<'a> {
        let permissions = &proxy.snapshot().proxy.permissions;
        Typed {
            player: CommandPlayer {
                number: self.context.player.number(),
                name: self.context.player.name(),
                uuid: u128::from_be_bytes(*self.context.player.uuid()),
                is_proved: self.context.is_proved,
                is_admin: permissions.is_admin(self.asker()),
            },
            name,
            arguments,
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic under the lock leaves the value consistent.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one after another, until there is no next. One that panics has `failed` with the
/// message of the panic, and the next ones are run.
async fn run_all<R: Future<Output = ()>>(
    mut next: impl FnMut() -> Option<Entered>,
    run: impl Fn(Entered) -> R,
    failed: impl Fn(&str),
) {
    while let Some(entered) = next() {
        if let Err(panic) = AssertUnwindSafe(run(entered)).catch_unwind().await {
            failed(&apart::words_of(&*panic));
        }
    }
}

/// The text after the name of a command.
fn arguments(line: &str) -> &str {
    line.split_once(' ').map_or("", |(_, arguments)| arguments)
}

impl Commands for PlayerCommands {
    fn announced(&self) -> Vec<String> {
        let announces = |proxy: Arc<Proxy>| proxy.snapshot().proxy.announce_proxy_commands;
        match self.proxy.upgrade().is_some_and(announces) {
            true => self.names(),
            false => Vec::new(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.owner(&name.to_ascii_lowercase()).is_some()
    }

    fn run(&self, line: &str) {
        self.put(Entered::Line(line.to_owned()));
    }

    fn complete(&self, request: Completion<'static>) {
        self.put(Entered::Beginning(request));
    }

    fn end(&self) {
        self.end.cancel();
        self.inbox().waiting = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A command that panics does not keep the next ones from being run.
    #[tokio::test]
    async fn commands_run_after_a_panic() {
        let mut waiting = VecDeque::from(["a", "bug", "b"]);
        let (ran, failures) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let next = || {
            let line = waiting.pop_front()?;
            Some(Entered::Line(line.to_owned()))
        };
        let run = async |entered: Entered| {
            tokio::task::yield_now().await;
            match entered {
                Entered::Line(line) if line == "bug" => panic!("a bug, made by a test"),
                entered => ran.borrow_mut().push(entered.bytes()),
            }
        };
        let failed = |text: &str| failures.borrow_mut().push(text.to_owned());
        run_all(next, run, failed).await;
        assert_eq!(ran.into_inner(), [1, 1]);
        assert_eq!(failures.into_inner(), ["a bug, made by a test"]);
    }
}
