//! The sample player of a trial, reachable by services.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use infrarust_plugin_abi::sample;

use super::findings::quoted;
use crate::plugin::{
    CookieReceiver, Full, HookSet, InGame, NotSwitched, Players, Reach, Switching,
};
use crate::protocol::packet::login::Profile;
use crate::protocol::packet::{Direction, Version};

/// The number of the player.
pub(super) const NUMBER: u64 = 1;

/// Counts the calls of services for the player.
#[derive(Debug, Default)]
struct Done {
    to_client: usize,
    to_backend: usize,
    kicks: usize,
    /// The number of requested switches, and the last server.
    switches: usize,
    server: String,
}

/// Services reach the sample player through this. There is no client; it counts what plugins
/// send.
#[derive(Debug)]
pub(super) struct SampleReach {
    version: Version,
    done: Mutex<Done>,
}

impl SampleReach {
    pub(super) fn new(version: Version) -> Arc<Self> {
        Arc::new(Self {
            version,
            done: Mutex::default(),
        })
    }

    /// Adds the player: from now on services that the mode of `hooks` offers reach the player.
    pub(super) fn enter(self: &Arc<Self>, players: &Players, hooks: &HookSet) {
        let profile = Profile {
            uuid: sample::UUID.to_be_bytes(),
            name: sample::NAME.to_owned(),
            properties: Vec::new(),
        };
        let player = InGame {
            profile,
            grants: hooks.service_grants().into(),
            reach: Arc::clone(self) as Arc<dyn Reach>,
        };
        players.enter(NUMBER, player);
    }

    /// The calls of services since this was last called, as a clause to follow an answer;
    /// empty if there were none.
    pub(super) fn take_done(&self) -> String {
        let done = std::mem::take(&mut *self.done());
        let server = quoted(&done.server);
        let counted = [
            (
                done.to_client,
                "packet to the client",
                "packets to the client",
            ),
            (
                done.to_backend,
                "packet to the backend",
                "packets to the backend",
            ),
            (done.switches, "switch", "switches"),
            (done.kicks, "kick", "kicks"),
        ];
        let mut text = String::new();
        for (count, one, more) in counted.into_iter().filter(|(count, ..)| *count > 0) {
            let before = if text.is_empty() { "; " } else { ", " };
            let what = if count == 1 { one } else { more };
            // Writing into a text does not fail.
            let _ = write!(text, "{before}{count} {what}");
            if one == "switch" {
                let _ = write!(text, " to {server}");
            }
        }
        text
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reach for SampleReach {
    fn version(&self) -> Version {
        self.version
    }

    fn put(&self, direction: Direction, _: u64, packets: Vec<Vec<u8>>) -> Result<(), Full> {
        let mut done = self.done();
        match direction {
            Direction::Clientbound => done.to_client += packets.len(),
            Direction::Serverbound => done.to_backend += packets.len(),
        }
        Ok(())
    }

    fn kick(&self, _: &str, _: String) {
        self.done().kicks += 1;
    }

    fn switch(&self, _: &str, server: &str) -> Switching {
        let mut done = self.done();
        done.switches += 1;
        server.clone_into(&mut done.server);
        Box::pin(std::future::ready(Ok::<(), NotSwitched>(())))
    }

    fn ask_cookie(&self, _: &str, _: u64, _: Vec<u8>) -> Result<CookieReceiver, Full> {
        self.done().to_client += 1;
        let (answer, receiver) = tokio::sync::oneshot::channel();
        // The client has nothing under any key.
        let _ = answer.send(None);
        Ok(receiver)
    }
}
