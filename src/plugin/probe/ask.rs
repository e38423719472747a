//! Calls each hook of a plugin for a sample player.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infrarust_plugin_abi::{CommandPlayer, sample};
use tokio::runtime::Runtime;

use super::event::{Event, EventWriter};
use super::findings::{Answer, Fired, Step, quoted};
use super::packets::{self, SamplePacket};
use super::player::{NUMBER, SampleReach};
use crate::capability::{Capability, Offer, offer};
use crate::manifest::Hook;
use crate::mode::Mode;
use crate::plugin::{
    AskedPacket, Client, HasFailed, HookSet, PacketFate, Player, PlayerEvent, PluginHost, Refusal,
    Session, SessionEvent, Typed,
};
use crate::protocol::handshake::Intent;
use crate::protocol::packet::Version;

/// Calls all hooks of a plugin.
pub(super) struct HookRun<'a> {
    hooks: &'a HookSet,
    host: &'a PluginHost,
    runtime: &'a Runtime,
    events: &'a EventWriter,
    version: Version,
    /// Whether the mode proves who the player is.
    is_proved: bool,
    reach: Arc<SampleReach>,
}

impl<'a> HookRun<'a> {
    /// A run that calls the hooks as on a server with this mode.
    pub(super) fn new(
        mode: Mode,
        hooks: &'a HookSet,
        host: &'a PluginHost,
        runtime: &'a Runtime,
        events: &'a EventWriter,
    ) -> Self {
        let version = Version::of(sample::PROTOCOL).unwrap_or(Version::newest());
        Self {
            hooks,
            host,
            runtime,
            events,
            version,
            is_proved: offer(mode, Capability::IdentityVerified) == Offer::Yes,
            reach: SampleReach::new(version),
        }
    }

    pub(super) fn all(&self) {
        let mut failed = 0;
        for hook in Hook::ALL.into_iter().filter(|hook| self.hooks.has(*hook)) {
            self.reach.enter(self.host.in_game(), self.hooks);
            failed += self.call_hooks(hook);
        }
        let Some(state) = self.host.states().pop() else {
            return;
        };
        let elsewhere = failures(self.host).saturating_sub(failed);
        if let Some(failure) = state.last_failure.filter(|_| elsewhere > 0) {
            let text = format!("a {} of it failed: {}", failure.hook, failure.text);
            self.events.event(&Event::Trouble(text));
        }
        if state.counts.stalls > 0 {
            let text = "it held a worker, and other players would have waited: see the log";
            self.events.event(&Event::Trouble(text.to_owned()));
        }
    }

    /// The sample player.
    const fn player(&self) -> Player<'static> {
        Player {
            name: sample::NAME,
            uuid: Some(sample::UUID),
            is_proved: self.is_proved,
        }
    }

    /// Waits for an answer. The deadline of the hook ends it.
    fn wait<T>(&self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }

    /// Lets a hook observe events, each with its name. Returns how often it has failed.
    fn observe<E, const N: usize>(
        &self,
        hook: Hook,
        events: [(&str, E); N],
        mut observe: impl FnMut(&mut Session, E),
    ) -> u64 {
        let mut session = Session::new(NUMBER);
        let failures = events.map(|(name, event)| {
            self.ask(hook, name, || {
                observe(&mut session, event);
                "heard".to_owned()
            })
        });
        failures.iter().sum()
    }

    fn ask_packets(&self, hook: Hook) -> u64 {
        let player = packets::player(self.version, self.is_proved);
        let packets = packets::packets(self.hooks, self.version).into_iter();
        let failures = packets.map(|packet| {
            self.ask(hook, packet.kind.name(), || {
                let SamplePacket {
                    direction,
                    state,
                    bytes,
                    ..
                } = packet;
                let asked = AskedPacket::new(&player, state, direction, bytes);
                match self.hooks.packet_hooks().ask_here(&asked) {
                    Ok(PacketFate::Pass) => "pass".to_owned(),
                    Ok(PacketFate::Changed(_)) => "change".to_owned(),
                    Ok(PacketFate::Dropped(_)) => "drop".to_owned(),
                    Err(refusal) => verdict(Err(refusal)),
                }
            })
        });
        failures.sum()
    }

    fn ask_commands(&self, hook: Hook) -> u64 {
        let commands = self.hooks.commands();
        let failures = commands.map(|command| {
            let typed = Typed {
                player: CommandPlayer {
                    number: NUMBER,
                    name: sample::NAME,
                    uuid: sample::UUID,
                    is_proved: self.is_proved,
                    is_admin: true,
                },
                name: &command.name,
                arguments: "",
            };
            self.ask(hook, &command.name, || {
                match self.wait(self.hooks.player_command(&JOINING, &typed)) {
                    Ok(Some(text)) => format!("say {}", quoted(&text.to_string())),
                    Ok(None) => "nothing".to_owned(),
                    Err(HasFailed) => "failed".to_owned(),
                }
            })
        });
        failures.sum()
    }

    fn ask(&self, hook: Hook, about: &str, run: impl FnOnce() -> String) -> u64 {
        self.events
            .event(&Event::Begin(Step::Hook(hook.name().to_owned())));
        let before = failures(self.host);
        // Each hook is called, also after panics that would put it into a quarantine.
        for state in self.host.states() {
            self.host.resume(&state.id);
        }
        let begin = Instant::now();
        let mut said = run();
        let took = begin.elapsed();
        said.push_str(&self.reach.take_done());
        // A task that failed during the call is not a failure of this hook.
        let failure = self
            .host
            .states()
            .pop()
            .and_then(|state| state.last_failure);
        let failure =
            failure.filter(|failure| failures(self.host) > before && failure.hook == hook.name());
        let has_failed = failure.is_some();
        self.events.event(&Event::Fired(Fired {
            hook: hook.name().to_owned(),
            about: about.to_owned(),
            answer: failure.map_or(Answer::Said(said), |failure| Answer::Failed(failure.text)),
            took,
        }));
        has_failed.into()
    }
}

fn failures(host: &PluginHost) -> u64 {
    host.states().first().map_or(0, |state| {
        let counts = state.counts;
        counts.errors + counts.panics + counts.overruns + counts.bad_answers
    })
}

/// A sample client with this intent.
const fn client(intent: Intent) -> Client<'static> {
    Client {
        peer: sample::PEER,
        protocol: sample::PROTOCOL,
        intent,
        virtual_host: sample::HOST,
        server: sample::SERVER,
    }
}

/// The sample client that joins.
const JOINING: Client<'static> = client(Intent::Login);

/// The life of a sample session.
const SESSION: [(&str, SessionEvent<'static>); 3] = [
    ("opened", SessionEvent::Opened),
    (
        "connected",
        SessionEvent::Connected {
            backend: sample::BACKEND,
        },
    ),
    (
        "closed",
        SessionEvent::Closed {
            reason: "closed",
            serverbound_bytes: 1000,
            clientbound_bytes: 50_000,
            duration: Duration::from_secs(60),
        },
    ),
];

/// The life of a sample player.
const IN_GAME: [(&str, PlayerEvent<'static>); 2] = [
    ("joined", PlayerEvent::Joined),
    ("left", PlayerEvent::Left { reason: "closed" }),
];

/// Makes the question at each hook, by its input and its answer: a hook with a
/// pair that has no arm here does not compile, nor does one without its method
/// of [`HookSet`].
macro_rules! questions {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            answer: $answer:tt,
            $($rest:tt)*
        }
    )+) => {
        impl HookRun<'_> {
            /// Calls one hook. Returns how often it has failed.
            fn call_hooks(&self, hook: Hook) -> u64 {
                match hook {
                    $(Hook::$hook => questions!(@$input $answer self hook $method),)+
                }
            }
        }
    };
    (@ConnectionInput Verdict $run:ident $hook:ident $method:ident) => {
        $run.ask($hook, "127.0.0.1", || {
            verdict($run.wait($run.hooks.$method(&JOINING)))
        })
    };
    (@HandshakeInput Rewrite $run:ident $hook:ident $method:ident) => {
        $run.ask($hook, sample::HOST, || {
            chosen("host", $run.hooks.$method(&JOINING, sample::HOST))
        })
    };
    (@StatusInput Reply $run:ident $hook:ident $method:ident) => {
        $run.ask($hook, sample::HOST, || {
            let client = client(Intent::Status);
            chosen("json", $run.wait($run.hooks.$method(&client, true, sample::STATUS)))
        })
    };
    (@LoginInput Verdict $run:ident $hook:ident $method:ident) => {
        $run.ask($hook, sample::NAME, || {
            verdict($run.wait($run.hooks.$method(&JOINING, &$run.player())))
        })
    };
    (@LoginInput Choice $run:ident $hook:ident $method:ident) => {
        $run.ask($hook, sample::NAME, || {
            // The hook is called before a mode proves who the player is.
            let player = Player { is_proved: false, ..$run.player() };
            // The servers are not known here.
            let selected = $run.wait($run.hooks.$method(&JOINING, &player, |_| true));
            chosen("server", selected.map(|one| one.map(|one| one.server)))
        })
    };
    (@SessionInput () $run:ident $hook:ident $method:ident) => {
        $run.observe($hook, SESSION, |session, event| {
            $run.hooks.$method(&JOINING, &$run.player(), session, event);
        })
    };
    (@PacketInput $answer:tt $run:ident $hook:ident $method:ident) => { $run.ask_packets($hook) };
    (@CommandInput $answer:tt $run:ident $hook:ident $method:ident) => { $run.ask_commands($hook) };
    (@PlayerInput () $run:ident $hook:ident $method:ident) => {
        $run.observe($hook, IN_GAME, |session, event| {
            if matches!(event, PlayerEvent::Left { .. }) {
                $run.host.in_game().leave(NUMBER);
            }
            $run.hooks.$method(&JOINING, &$run.player(), session, event);
        })
    };
}

infrarust_plugin_abi::hooks! { [questions] }

fn verdict(verdict: Result<(), Refusal>) -> String {
    match verdict {
        Ok(()) => "allow".to_owned(),
        Err(Refusal {
            text: Some(text), ..
        }) => format!("refuse {}", quoted(&text)),
        Err(Refusal { text: None, .. }) => "drop".to_owned(),
    }
}

/// Describes an answer that may replace a value.
fn chosen(what: &str, answer: Result<Option<String>, Refusal>) -> String {
    match answer {
        Ok(None) => "keep".to_owned(),
        Ok(Some(text)) => format!("{what} {}", quoted(&text)),
        Err(refusal) => verdict(Err(refusal)),
    }
}
