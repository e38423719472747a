//! How long each side may take until the player is in the game.
//!
//! The time of a backend runs only while the backend has to act. While the client has to
//! answer, the client's time runs. While the player is asked, for example about a resource
//! pack, the player's time runs. The session ends when a side has no time left, and that
//! side is to blame.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::failure::Failure;
use crate::protocol::packet::{Clientbound, Serverbound};

/// How long a backend may take from the first byte that it is sent to the join game.
pub(super) const BACKEND_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take for all the answers that it gives by itself: once for
/// those of the login, and once for those of the configuration. Clients themselves
/// give up after 30 s.
pub(super) const CLIENT_WAIT: Duration = Duration::from_secs(30);
/// How long a player may take for all questions of the configuration. Backends
/// wait without an end. A resource pack of 250 MiB, the largest that the game
/// takes, arrives within this time at 1.2 Mbit/s.
const PLAYER_WAIT: Duration = Duration::from_secs(30 * 60);

/// A side that may have to act before the player is in the game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    Backend,
    Client,
    Player,
}

/// The time that each side has left. It runs for the side that has to act.
#[derive(Debug)]
pub(super) struct TimeBudget {
    actor: Actor,
    /// The moment from which on the current side's time runs.
    since: Instant,
    backend_left: Duration,
    client_left: Duration,
    player_left: Duration,
}

impl TimeBudget {
    /// The backend has to act first. It has until `backend_until`, and the client has
    /// `client_left`.
    pub(super) fn new(backend_until: Instant, client_left: Duration) -> Self {
        let since = Instant::now();
        Self {
            actor: Actor::Backend,
            since,
            backend_left: backend_until.saturating_duration_since(since),
            client_left,
            player_left: PLAYER_WAIT,
        }
    }

    /// From now on the time of this side runs.
    pub(super) fn charge_to(&mut self, actor: Actor) {
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.since);
        let left = self.left(self.actor);
        *left = left.saturating_sub(spent);
        self.actor = actor;
        self.since = now;
    }

    fn left(&mut self, actor: Actor) -> &mut Duration {
        match actor {
            Actor::Backend => &mut self.backend_left,
            Actor::Client => &mut self.client_left,
            Actor::Player => &mut self.player_left,
        }
    }

    /// The deadline of the backend, if it has to act from now on.
    pub(super) fn backend_until(&mut self) -> Instant {
        self.charge_to(Actor::Backend);
        self.since + self.backend_left
    }

    /// The time that the client has left.
    pub(super) fn client_left(&mut self) -> Duration {
        self.charge_to(self.actor);
        self.client_left
    }

    /// Completes when the side that has to act has no time left. Cancel safe.
    pub(super) async fn expired(&mut self) -> Failure {
        let actor = self.actor;
        let until = self.since + *self.left(actor);
        sleep_until(until).await;
        match actor {
            Actor::Backend => Failure::BackendTooSlow,
            Actor::Client | Actor::Player => Failure::TooSlow,
        }
    }

    /// The output of a future that waits for this side. The time of this side runs until
    /// then.
    ///
    /// # Errors
    ///
    /// When the time of the side runs out.
    pub(super) async fn wait_for<T>(
        &mut self,
        actor: Actor,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let before = self.actor;
        self.charge_to(actor);
        let output = tokio::select! {
            biased;
            output = future => Ok(output),
            failure = self.expired() => Err(failure),
        };
        self.charge_to(before);
        output
    }
}

/// The questions of backends: the packet with the question, the packet with the answer, and
/// the side that gives it. Packets that a backend does not wait for, such as a keep alive, do
/// not count: with them a backend that never finishes could extend its time for ever.
const REQUESTS: [(Clientbound, Serverbound, Actor); 6] = [
    (
        Clientbound::KnownPacks,
        Serverbound::KnownPacks,
        Actor::Client,
    ),
    (
        Clientbound::CookieRequest,
        Serverbound::CookieResponse,
        Actor::Client,
    ),
    (
        Clientbound::FinishConfiguration,
        Serverbound::FinishConfiguration,
        Actor::Client,
    ),
    (
        Clientbound::ResourcePackPush,
        Serverbound::ResourcePackStatus,
        Actor::Player,
    ),
    (
        Clientbound::CodeOfConduct,
        Serverbound::AcceptCodeOfConduct,
        Actor::Player,
    ),
    (
        Clientbound::ShowDialog,
        Serverbound::CustomClick,
        Actor::Player,
    ),
];

/// States of a resource pack that another follows: accepted, and downloaded.
const UNFINISHED_PACKS: [u8; 2] = [3, 4];

/// The questions of a backend in the configuration that are not answered.
#[derive(Debug, Default)]
pub(super) struct OpenRequests([u32; REQUESTS.len()]);

impl OpenRequests {
    /// Counts the question in a packet of the backend, if it has one.
    pub(super) fn ask(&mut self, kind: Clientbound) {
        if kind == Clientbound::FinishConfiguration {
            // The backend no longer waits for any other answer.
            *self = Self::default();
        }
        for (open, (request, _, _)) in self.0.iter_mut().zip(REQUESTS) {
            match kind {
                // Closed, as if it had been answered.
                Clientbound::ClearDialog if request == Clientbound::ShowDialog => *open = 0,
                // A new dialog replaces the one before.
                Clientbound::ShowDialog if request == kind => *open = 1,
                _ if request == kind => *open = open.saturating_add(1),
                _ => {}
            }
        }
    }

    /// Counts the answer in a packet of the client, if it has one.
    pub(super) fn answer(&mut self, kind: Serverbound, fields: &[u8]) {
        let last = fields.last().unwrap_or(&0);
        if kind == Serverbound::ResourcePackStatus && UNFINISHED_PACKS.contains(last) {
            return;
        }
        for (open, (_, answer, _)) in self.0.iter_mut().zip(REQUESTS) {
            if answer == kind {
                *open = open.saturating_sub(1);
            }
        }
    }

    /// The side that has to act. A question to the player comes first, since the client waits for it.
    pub(super) fn actor(&self) -> Actor {
        let open = self.0.iter().zip(REQUESTS).filter(|(open, _)| **open > 0);
        let actors = open.map(|(_, (_, _, actor))| actor);
        actors.max().unwrap_or(Actor::Backend)
    }
}
