//! How long each side may take until the player is in the game.
//!
//! The time of a backend runs only while it is the backend that has to act. While
//! the client owes an answer, the client's time runs, and while the player
//! is asked, such as for a resource pack, the player's. Whoever has no time left
//! is the one to blame.

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

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Backend,
    Client,
    Player,
}

/// The time that each side has left, and whose time runs.
#[derive(Debug)]
pub(super) struct Turns {
    turn: Turn,
    /// Since when.
    since: Instant,
    backend_left: Duration,
    client_left: Duration,
    player_left: Duration,
}

impl Turns {
    /// The backend's turn, until then at the latest, with a client that has so much
    /// time.
    pub(super) fn new(backend_until: Instant, client_left: Duration) -> Self {
        let since = Instant::now();
        Self {
            turn: Turn::Backend,
            since,
            backend_left: backend_until.saturating_duration_since(since),
            client_left,
            player_left: PLAYER_WAIT,
        }
    }

    /// Gives the turn to another side.
    pub(super) fn give(&mut self, turn: Turn) {
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.since);
        let left = self.left(self.turn);
        *left = left.saturating_sub(spent);
        self.turn = turn;
        self.since = now;
    }

    fn left(&mut self, turn: Turn) -> &mut Duration {
        match turn {
            Turn::Backend => &mut self.backend_left,
            Turn::Client => &mut self.client_left,
            Turn::Player => &mut self.player_left,
        }
    }

    /// Until when the backend may take, if its turn begins now and does not end.
    pub(super) fn backend_until(&mut self) -> Instant {
        self.give(Turn::Backend);
        self.since + self.backend_left
    }

    /// What the client has left.
    pub(super) fn client_left(&mut self) -> Duration {
        self.give(self.turn);
        self.client_left
    }

    /// Completes when the time runs out of the side that has the turn. Cancel safe.
    pub(super) async fn expired(&mut self) -> Failure {
        let turn = self.turn;
        let until = self.since + *self.left(turn);
        sleep_until(until).await;
        match turn {
            Turn::Backend => Failure::BackendTooSlow,
            Turn::Client | Turn::Player => Failure::TooSlow,
        }
    }

    /// The output of a future that waits for this side, which has the turn meanwhile.
    ///
    /// # Errors
    ///
    /// When the time of the side runs out.
    pub(super) async fn wait_for<T>(
        &mut self,
        turn: Turn,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let before = self.turn;
        self.give(turn);
        let output = tokio::select! {
            biased;
            output = future => Ok(output),
            failure = self.expired() => Err(failure),
        };
        self.give(before);
        output
    }
}

/// A packet of a backend that is a question, the client's answer to it, and who gives
/// it. What does not keep a backend from going on, such as a keep alive, does not
/// count: it would let a backend that never finishes go on for ever.
const REQUESTS: [(Clientbound, Serverbound, Turn); 6] = [
    (
        Clientbound::KnownPacks,
        Serverbound::KnownPacks,
        Turn::Client,
    ),
    (
        Clientbound::CookieRequest,
        Serverbound::CookieResponse,
        Turn::Client,
    ),
    (
        Clientbound::FinishConfiguration,
        Serverbound::FinishConfiguration,
        Turn::Client,
    ),
    (
        Clientbound::ResourcePackPush,
        Serverbound::ResourcePackStatus,
        Turn::Player,
    ),
    (
        Clientbound::CodeOfConduct,
        Serverbound::AcceptCodeOfConduct,
        Turn::Player,
    ),
    (
        Clientbound::ShowDialog,
        Serverbound::CustomClick,
        Turn::Player,
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
            // It waits for nothing else any more.
            *self = Self::default();
        }
        for (open, (request, _, _)) in self.0.iter_mut().zip(REQUESTS) {
            match kind {
                // Closed, as if it had been answered.
                Clientbound::ClearDialog if request == Clientbound::ShowDialog => *open = 0,
                // A dialog takes the place of another.
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

    /// Who has to act. A question to the player comes first, since the client waits for it.
    pub(super) fn turn(&self) -> Turn {
        let open = self.0.iter().zip(REQUESTS).filter(|(open, _)| **open > 0);
        let turns = open.map(|(_, (_, _, turn))| turn);
        turns.max().unwrap_or(Turn::Backend)
    }
}
