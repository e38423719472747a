//! A player in the game, as plugins see him: `player.observe`, and the services
//! that reach him.

use std::net::SocketAddr;
use std::sync::Arc;

use super::facts::Facts;
use crate::manifest::Hook;
use crate::plugin::{self, InGame, PlayerEvent, Players};
use crate::protocol::handshake::Intent;
use crate::protocol::packet::login::Profile;
use crate::proxy::snapshot::Server;

/// A player whose join plugins have observed. They observe the leave when this
/// is dropped.
#[derive(Debug)]
pub(super) struct Stay {
    players: Arc<Players>,
    number: u64,
    session: plugin::Session,
    server: Arc<Server>,
    client: SocketAddr,
    protocol: i32,
    intent: Intent,
    virtual_host: String,
    name: String,
    uuid: u128,
    is_proved: bool,
    /// Why he leaves, as in the log.
    reason: &'static str,
}

impl Stay {
    /// The player comes into the game. `None` where no plugin of the server is
    /// concerned.
    pub(super) fn begin(
        players: &Arc<Players>,
        server: &Arc<Server>,
        facts: &Facts,
        profile: Profile,
        is_proved: bool,
    ) -> Option<Box<Self>> {
        let grants = server.hooks.service_grants();
        if grants.is_empty() && !server.hooks.has(Hook::PlayerObserve) {
            return None;
        }
        let number = players.next_number();
        let mut stay = Box::new(Self {
            players: Arc::clone(players),
            number,
            session: plugin::Session::new(number),
            server: Arc::clone(server),
            client: facts.client,
            protocol: facts.protocol,
            intent: facts.intent,
            virtual_host: facts.host().to_owned(),
            name: profile.name.clone(),
            uuid: u128::from_be_bytes(profile.uuid),
            is_proved,
            reason: crate::forward::End::Stopped.name(),
        });
        let grants = grants.into();
        players.enter(number, InGame { profile, grants });
        stay.observe(PlayerEvent::Joined);
        Some(stay)
    }

    /// The player leaves, for this reason.
    pub(super) fn end(mut self, reason: &'static str) {
        self.reason = reason;
    }

    fn observe(&mut self, event: PlayerEvent<'_>) {
        let client = plugin::Client {
            peer: self.client,
            protocol: self.protocol,
            intent: self.intent,
            virtual_host: &self.virtual_host,
            server: &self.server.config.id,
        };
        let player = plugin::Player {
            name: &self.name,
            uuid: Some(self.uuid),
            is_proved: self.is_proved,
        };
        let hooks = &self.server.hooks;
        hooks.player_observe(&client, &player, &mut self.session, event);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.players.leave(self.number);
        let reason = self.reason;
        self.observe(PlayerEvent::Left { reason });
    }
}
