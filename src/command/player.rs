//! The commands of one player on one server, and what he has typed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tracing::debug;

use super::builtin::{Builtin, Caller};
use super::rights::Asker;
use crate::forward::Direction;
use crate::forward::commands::Commands;
use crate::intercept::Present;
use crate::protocol::packet::commands::{Completion, name_of};
use crate::proxy::Proxy;
use crate::show::Escaped;

/// The most commands of a player that wait while one runs. What is typed by hand
/// is one a second.
const WAITING_MAX: usize = 64;

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
    player: Arc<Present>,
    /// Whether the proxy has authenticated him.
    is_proved: bool,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Typed>,
    /// A task takes what waits.
    is_running: bool,
    /// The player has left the server.
    has_ended: bool,
}

/// Something that a player has typed.
#[derive(Debug)]
enum Typed {
    /// A command, without the slash.
    Line(String),
    /// The beginning of one, to be completed.
    Beginning(Completion<'static>),
}

impl PlayerCommands {
    /// The commands of a player, if he may use one now.
    pub(crate) fn of(
        proxy: &Proxy,
        player: &Arc<Present>,
        is_proved: bool,
    ) -> Option<Arc<dyn Commands>> {
        let commands = Arc::new_cyclic(|own| Self {
            own: own.clone(),
            proxy: proxy.own(),
            runtime: Handle::current(),
            player: Arc::clone(player),
            is_proved,
            inbox: Mutex::default(),
        });
        if commands.names().is_empty() {
            return None;
        }
        Some(commands)
    }

    /// The names of those that he may use now.
    fn names(&self) -> Vec<String> {
        let builtin = Builtin::ALL.iter().map(|command| command.name());
        let allowed = builtin.filter(|name| self.may_use(name));
        let mut names: Vec<String> = allowed.map(str::to_owned).collect();
        names.sort();
        names
    }

    fn may_use(&self, name: &str) -> bool {
        let asker = Asker {
            name: self.player.name(),
            uuid: self.player.uuid(),
            is_proved: self.is_proved,
        };
        self.proxy.upgrade().is_some_and(|proxy| {
            let permissions = &proxy.snapshot().proxy.permissions;
            permissions.allow(asker, name)
        })
    }

    /// Puts something behind what waits.
    fn put(&self, typed: Typed) {
        let mut inbox = self.inbox();
        if inbox.has_ended {
            return;
        }
        if matches!(typed, Typed::Beginning(_)) {
            // The client shows the answer to its last request alone.
            inbox
                .waiting
                .retain(|typed| matches!(typed, Typed::Line(_)));
        }
        if inbox.waiting.len() >= WAITING_MAX {
            drop(inbox);
            debug!(player = %Escaped(self.player.name()), "a command is dropped: too many wait");
            return;
        }
        inbox.waiting.push_back(typed);
        let is_running = std::mem::replace(&mut inbox.is_running, true);
        drop(inbox);
        if let Some(own) = self.own.upgrade().filter(|_| !is_running) {
            self.runtime.spawn(own.run_waiting());
        }
    }

    /// Runs what waits.
    async fn run_waiting(self: Arc<Self>) {
        while let Some(typed) = self.next() {
            let Some(proxy) = self.proxy.upgrade() else {
                return;
            };
            match typed {
                Typed::Line(line) => self.run_line(proxy, &line),
                Typed::Beginning(request) => self.complete_line(&proxy, &request),
            }
        }
    }

    fn next(&self) -> Option<Typed> {
        let mut inbox = self.inbox();
        let next = inbox.waiting.pop_front();
        inbox.is_running = next.is_some();
        next
    }

    fn run_line(&self, proxy: Arc<Proxy>, line: &str) {
        let name = name_of(line).to_ascii_lowercase();
        // He may have lost the right since.
        let Some(command) = self.builtin(&name) else {
            return;
        };
        debug!(
            player = %Escaped(self.player.name()),
            server = %self.player.server(),
            command = %Escaped(line),
            "a player uses a command of the proxy"
        );
        let caller = Caller {
            proxy,
            player: Arc::clone(&self.player),
        };
        command.run(&caller, arguments(line));
    }

    fn complete_line(&self, proxy: &Arc<Proxy>, request: &Completion<'_>) {
        let Some(line) = request.command() else {
            return;
        };
        let name = name_of(line).to_ascii_lowercase();
        let Some(command) = self.builtin(&name) else {
            return;
        };
        let caller = Caller {
            proxy: Arc::clone(proxy),
            player: Arc::clone(&self.player),
        };
        let suggestions = command.complete(&caller, arguments(line));
        if let Some(packet) = request.answer(self.player.version(), &suggestions) {
            // Where too much waits for him, he asks again.
            let _ = self.player.put(Direction::Clientbound, vec![packet]);
        }
    }

    /// The command of this name, in lower case, if he may use it.
    fn builtin(&self, name: &str) -> Option<Builtin> {
        let command = Builtin::of(name)?;
        self.may_use(name).then_some(command)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing is left half done under the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands behind the name of a command.
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
        self.builtin(&name.to_ascii_lowercase()).is_some()
    }

    fn run(&self, line: &str) {
        self.put(Typed::Line(line.to_owned()));
    }

    fn complete(&self, request: Completion<'static>) {
        self.put(Typed::Beginning(request));
    }

    fn end(&self) {
        let mut inbox = self.inbox();
        inbox.has_ended = true;
        inbox.waiting = VecDeque::new();
    }
}
