//! The plugins that are asked about the packets of a player.

use std::sync::Arc;
use std::task::Waker;

use super::kicked::Kicked;
use crate::forward::queries::{Decider, Decision, PacketGroup, PacketQueries, Wanted};
use crate::forward::{Direction, Outbox};
use crate::intercept::PlayerHandle;
use crate::player_text;
use crate::plugin::{PacketAsker, PacketFate, PacketHooks, PacketPlayer, Refusal};
use crate::protocol::packet::State;
use crate::protocol::packet::login::Profile;
use crate::proxy::snapshot::Server;

/// Calls the plugins of a server for the packets of a player: begins before the player is
/// in the game there, and ends when this is dropped.
#[derive(Debug)]
pub(super) struct PacketStage {
    queries: Arc<PacketQueries>,
    kicked: Arc<Kicked>,
}

impl Drop for PacketStage {
    fn drop(&mut self) {
        self.queries.end();
    }
}

impl PacketStage {
    /// `None` if no plugin of the server is asked about packets.
    pub(super) fn begin(
        handle: &PlayerHandle,
        server: &Arc<Server>,
        profile: &Profile,
        is_proved: bool,
        knows_chat_key: bool,
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
        let kicked = Arc::new(Kicked::default());
        let decider = Arc::new(AskPlugins {
            hooks: Arc::clone(hooks.packet_hooks()),
            player: Arc::new(PacketPlayer {
                number: handle.number(),
                name: profile.name.clone(),
                uuid: u128::from_be_bytes(profile.uuid),
                is_proved,
                server: server.config.id.clone(),
                version,
                knows_chat_key,
            }),
            kicked: Arc::clone(&kicked),
        });
        let queries = PacketQueries::new(wanted, decider, Arc::clone(outbox));
        Some(Self {
            queries: Arc::new(queries),
            kicked,
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
#[derive(Debug)]
struct AskPlugins {
    hooks: Arc<PacketHooks>,
    player: Arc<PacketPlayer>,
    kicked: Arc<Kicked>,
}

impl Decider for AskPlugins {
    fn decide(&self, queries: &Arc<PacketQueries>, direction: Direction, group: PacketGroup) {
        let asker = Asker {
            queries: Arc::clone(queries),
            direction,
            kicked: Arc::clone(&self.kicked),
            is_decided: false,
        };
        let PacketGroup { state, packets } = group;
        self.hooks
            .ask(&self.player, state, direction, packets, Box::new(asker));
    }

    fn begin(&self) {
        PacketHooks::begin();
    }
}

/// One direction of a session that waits for what plugins decide.
struct Asker {
    queries: Arc<PacketQueries>,
    direction: Direction,
    kicked: Arc<Kicked>,
    is_decided: bool,
}

impl Drop for Asker {
    /// Nobody decides any more, because of a panic: the session ends, instead of waiting
    /// for ever.
    fn drop(&mut self) {
        if !self.is_decided {
            self.kicked.kick(Refusal {
                plugin: String::new(),
                text: Some(player_text::PLUGIN_FAILED.to_owned()),
                is_failure: true,
            });
            let decisions = vec![Decision::Drop(None)];
            let waker = self.queries.answer(self.direction, decisions);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl PacketAsker for Asker {
    fn is_gone(&self) -> bool {
        self.queries.is_over()
    }

    fn decided(
        mut self: Box<Self>,
        fates: Vec<PacketFate>,
        refusal: Option<Refusal>,
    ) -> Option<Waker> {
        if let Some(refusal) = refusal {
            self.kicked.kick(refusal);
        }
        let decision = |fate| match fate {
            PacketFate::Pass => Decision::Pass,
            PacketFate::Changed(packet) => Decision::Change(packet),
            PacketFate::Dropped(instead) => Decision::Drop(instead),
        };
        let decisions = fates.into_iter().map(decision).collect();
        self.is_decided = true;
        self.queries.answer(self.direction, decisions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::packet::Version;

    /// Packets about which nobody decides any more end their session.
    #[test]
    fn a_session_does_not_wait_for_nobody() {
        let kicked = Arc::new(Kicked::default());
        let ask_plugins = AskPlugins {
            hooks: Arc::default(),
            player: Arc::new(PacketPlayer {
                number: 1,
                name: "Notch".to_owned(),
                uuid: 1,
                is_proved: false,
                server: "lobby".to_owned(),
                version: Version::newest(),
                knows_chat_key: false,
            }),
            kicked: Arc::clone(&kicked),
        };
        let decider = Arc::new(ask_plugins);
        let queries = PacketQueries::new(Wanted::default(), decider, Arc::default());
        let asker = |queries: &Arc<PacketQueries>| {
            Box::new(Asker {
                queries: Arc::clone(queries),
                direction: Direction::Serverbound,
                kicked: Arc::clone(&kicked),
                is_decided: false,
            })
        };
        let queries = Arc::new(queries);
        assert!(
            asker(&queries)
                .decided(vec![PacketFate::Pass], None)
                .is_none()
        );
        assert!(kicked.by().is_none());
        drop(asker(&queries));
        assert!(kicked.by().is_some_and(|refusal| refusal.is_failure));
    }
}
