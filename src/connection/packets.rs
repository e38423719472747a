//! The plugins that are asked about the packets of a player.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::kicked::Kicked;
use crate::forward::queries::{Decision, PacketQueries, Wanted};
use crate::forward::{Direction, Outbox};
use crate::intercept::PlayerHandle;
use crate::plugin::{PacketFate, PacketPlayer};
use crate::protocol::packet::State;
use crate::protocol::packet::login::Profile;
use crate::proxy::snapshot::Server;

/// Calls the plugins of a server for the packets of a player: begins before the player is
/// in the game there, and ends when this is dropped.
#[derive(Debug)]
pub(super) struct PacketStage {
    queries: Arc<PacketQueries>,
    kicked: Arc<Kicked>,
    _answers: AbortOnDropHandle<()>,
}

impl PacketStage {
    /// `None` if no plugin of the server is asked about packets.
    pub(super) fn begin(
        handle: &PlayerHandle,
        server: &Arc<Server>,
        profile: &Profile,
        is_proved: bool,
        outbox: &Arc<Outbox>,
    ) -> Option<Self> {
        let hooks = &server.hooks;
        if !hooks.sees_packets() {
            return None;
        }
        let version = handle.version();
        let mut wanted = Wanted::default();
        for state in [State::Configuration, State::Play] {
            for direction in [Direction::Clientbound, Direction::Serverbound] {
                let ids = hooks.packet_ids(version, state, direction);
                wanted = wanted.with(state, direction, ids);
            }
        }
        wanted.withholds_chat_key = hooks.modifies_chat();
        let queries = Arc::new(PacketQueries::new(wanted, Arc::clone(outbox)));
        let kicked = Arc::new(Kicked::default());
        let answers = Answers {
            queries: Arc::clone(&queries),
            server: Arc::clone(server),
            player: Arc::new(PacketPlayer {
                number: handle.number(),
                name: profile.name.clone(),
                uuid: u128::from_be_bytes(profile.uuid),
                is_proved,
                server: server.config.id.clone(),
                version,
            }),
            kicked: Arc::clone(&kicked),
        };
        Some(Self {
            queries,
            kicked,
            _answers: AbortOnDropHandle::new(tokio::spawn(answers.run())),
        })
    }

    /// Where the packets wait.
    pub(super) fn queries(&self) -> &Arc<PacketQueries> {
        &self.queries
    }

    /// What ends the session of the player.
    pub(super) fn kicked(&self) -> &Arc<Kicked> {
        &self.kicked
    }
}

/// Asks the plugins of a server.
struct Answers {
    queries: Arc<PacketQueries>,
    server: Arc<Server>,
    player: Arc<PacketPlayer>,
    kicked: Arc<Kicked>,
}

impl Answers {
    /// Answers until it is dropped. A plugin that takes its time holds one direction.
    async fn run(self) {
        let [clientbound, serverbound] =
            [Direction::Clientbound, Direction::Serverbound].map(|direction| self.lane(direction));
        tokio::join!(clientbound, serverbound);
    }

    async fn lane(&self, direction: Direction) {
        loop {
            let query = self.queries.next_query(direction).await;
            let hooks = &self.server.hooks;
            let asked = hooks.packet(&self.player, query.state, direction, query.packet);
            let decision = match asked.await {
                Ok(PacketFate::Pass) => Decision::Pass,
                Ok(PacketFate::Changed(packet)) => Decision::Change(packet),
                Ok(PacketFate::Dropped(instead)) => Decision::Drop(instead),
                Err(refusal) => {
                    self.kicked.kick(refusal);
                    Decision::Drop(None)
                }
            };
            self.queries.answer(direction, decision);
        }
    }
}
