//! Asks a plugin at each of its hooks, about a sample player.

use std::time::{Duration, Instant};

use infrarust_plugin_abi::sample;
use tokio::runtime::Runtime;

use super::event::{Event, EventWriter};
use super::findings::{Answer, Fired, Step, quoted};
use crate::manifest::Hook;
use crate::plugin::{
    Client, HookSet, Player, PlayerEvent, PluginHost, Refusal, Session, SessionEvent,
};
use crate::protocol::handshake::Intent;

/// A plugin that is asked at all its hooks.
pub(super) struct HookRun<'a> {
    pub(super) hooks: &'a HookSet,
    pub(super) host: &'a PluginHost,
    pub(super) runtime: &'a Runtime,
    pub(super) events: &'a EventWriter,
}

impl HookRun<'_> {
    pub(super) fn all(&self) {
        let mut failed = 0;
        for hook in Hook::ALL.into_iter().filter(|hook| self.hooks.has(*hook)) {
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

    /// Asks at one hook; how often it has failed.
    fn call_hooks(&self, hook: Hook) -> u64 {
        let client = |intent| Client {
            peer: sample::PEER,
            protocol: sample::PROTOCOL,
            intent,
            virtual_host: sample::HOST,
            server: sample::SERVER,
        };
        let joining = client(Intent::Login);
        let player = Player {
            name: sample::NAME,
            uuid: Some(sample::UUID),
            is_proved: false,
        };
        match hook {
            Hook::ConnectionDecide => self.ask(hook, "127.0.0.1", || {
                verdict(
                    self.runtime
                        .block_on(self.hooks.connection_decide(&joining)),
                )
            }),
            Hook::HandshakeRewrite => self.ask(hook, sample::HOST, || {
                match self.hooks.handshake_rewrite(&joining, sample::HOST) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(host)) => format!("host {}", quoted(&host)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::StatusRespond => self.ask(hook, sample::HOST, || {
                let client = client(Intent::Status);
                let asked = self.hooks.status_respond(&client, true, sample::STATUS);
                match self.runtime.block_on(asked) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(json)) => format!("json {}", quoted(&json)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::LoginDecide => self.ask(hook, sample::NAME, || {
                verdict(
                    self.runtime
                        .block_on(self.hooks.login_decide(&joining, &player)),
                )
            }),
            Hook::RouteSelect => self.ask(hook, sample::NAME, || {
                // Which servers there are is not known here.
                let asked = self.hooks.route_select(&joining, &player, |_| true);
                match self.runtime.block_on(asked) {
                    Ok(None) => "keep".to_owned(),
                    Ok(Some(selected)) => format!("server {}", quoted(&selected.server)),
                    Err(refusal) => verdict(Err(refusal)),
                }
            }),
            Hook::SessionObserve => {
                let closed = SessionEvent::Closed {
                    reason: "closed",
                    serverbound_bytes: 1000,
                    clientbound_bytes: 50_000,
                    duration: Duration::from_secs(60),
                };
                let connected = SessionEvent::Connected {
                    backend: sample::BACKEND,
                };
                let events = [
                    ("opened", SessionEvent::Opened),
                    ("connected", connected),
                    ("closed", closed),
                ];
                let mut session = Session::new(1);
                let failures = events.map(|(name, event)| {
                    self.ask(hook, name, || {
                        self.hooks
                            .session_observe(&joining, &player, &mut session, event);
                        "heard".to_owned()
                    })
                });
                failures.iter().sum()
            }
            Hook::PlayerObserve => {
                let mut session = Session::new(1);
                let events = [
                    ("joined", PlayerEvent::Joined),
                    ("left", PlayerEvent::Left { reason: "closed" }),
                ];
                let failures = events.map(|(name, event)| {
                    self.ask(hook, name, || {
                        self.hooks
                            .player_observe(&joining, &player, &mut session, event);
                        "heard".to_owned()
                    })
                });
                failures.iter().sum()
            }
        }
    }

    fn ask(&self, hook: Hook, about: &str, run: impl FnOnce() -> String) -> u64 {
        self.events
            .event(&Event::Begin(Step::Hook(hook.name().to_owned())));
        let before = failures(self.host);
        // It is asked at each hook, also after a few panics.
        for state in self.host.states() {
            self.host.resume(&state.id);
        }
        let begin = Instant::now();
        let said = run();
        let took = begin.elapsed();
        // A task may have failed meanwhile, and is not this hook.
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

fn verdict(verdict: Result<(), Refusal>) -> String {
    match verdict {
        Ok(()) => "allow".to_owned(),
        Err(Refusal {
            text: Some(text), ..
        }) => format!("refuse {}", quoted(&text)),
        Err(Refusal { text: None, .. }) => "drop".to_owned(),
    }
}
