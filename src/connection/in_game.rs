//! A player in the game, for plugins: reports `player.observe`, and gives services
//! access to the session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::facts::Facts;
use super::kicked::Kicked;
use super::network_player::ServerConnection;
use super::packets::PacketStage;
use crate::forward::{self, Direction, Outbox};
use crate::intercept::{By, NotSwitched, PlayerHandle};
use crate::manifest::Hook;
use crate::plugin::{self, InGame, PlayerEvent, Players, Reach};
use crate::protocol::handshake::Intent;
use crate::protocol::packet::Version;
use crate::protocol::packet::login::Profile;
use crate::proxy::snapshot::Server;
use crate::show::Quoted;

/// A player on a server, observed by plugins: they were notified of the join, and are
/// notified of the leave when this is dropped.
#[derive(Debug)]
pub(super) struct ObservedPlayer {
    players: Arc<Players>,
    number: u64,
    kicked: Arc<Kicked>,
    session: plugin::Session,
    server: Arc<Server>,
    client: SocketAddr,
    protocol: i32,
    intent: Intent,
    virtual_host: String,
    name: String,
    uuid: u128,
    is_proved: bool,
    /// Why the player leaves, as in the log.
    reason: &'static str,
    /// Keeps the packet hooks of plugins running until the end.
    _packets: Option<PacketStage>,
}

impl ObservedPlayer {
    /// Reports the join. `None` if no plugin of the server observes players, is asked
    /// about packets, or may use a service.
    pub(super) fn begin(
        players: &Arc<Players>,
        arrived: &mut ServerConnection,
        facts: &Facts,
        handle: &Arc<PlayerHandle>,
        profile: Profile,
        is_proved: bool,
    ) -> Option<Box<Self>> {
        let packets = arrived.packets.take();
        let (server, outbox) = (&arrived.server, &arrived.outbox);
        let grants = server.hooks.service_grants();
        let has_hook = |hook| server.hooks.has(hook);
        let is_concerned = has_hook(Hook::PlayerObserve) || has_hook(Hook::PlayerCommand);
        if grants.is_empty() && !is_concerned && packets.is_none() {
            return None;
        }
        let number = handle.number();
        let kicked = packets.as_ref().map(PacketStage::kicked).cloned();
        let kicked = kicked.unwrap_or_default();
        let mut observed = Box::new(Self {
            players: Arc::clone(players),
            number,
            kicked: Arc::clone(&kicked),
            session: plugin::Session::new(number),
            server: Arc::clone(server),
            client: facts.client,
            protocol: facts.protocol,
            intent: facts.intent,
            virtual_host: facts.host().to_owned(),
            name: profile.name.clone(),
            uuid: u128::from_be_bytes(profile.uuid),
            is_proved,
            reason: forward::End::Stopped.name(),
            _packets: packets,
        });
        let player = InGame {
            profile,
            grants: grants.into(),
            reach: Arc::new(BridgeControl {
                handle: Arc::clone(handle),
                outbox: Arc::clone(outbox),
                kicked,
            }),
        };
        players.enter(number, player);
        observed.observe(PlayerEvent::Joined);
        Some(observed)
    }

    /// Ready when a plugin ends the session. Only the player's session calls this.
    pub(super) fn poll_kicked(&self, context: &Context<'_>) -> Poll<()> {
        self.kicked.poll_kicked(context)
    }

    /// The plugin that has ended the session, and the text for the player.
    pub(super) fn kick(&self) -> Option<&plugin::Refusal> {
        self.kicked.by()
    }

    /// Reports the leave, for this reason.
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

impl Drop for ObservedPlayer {
    fn drop(&mut self) {
        self.players.leave(self.number);
        let reason = self.reason;
        self.observe(PlayerEvent::Left { reason });
    }
}

/// The access of services to a session.
#[derive(Debug)]
struct BridgeControl {
    handle: Arc<PlayerHandle>,
    outbox: Arc<Outbox>,
    kicked: Arc<Kicked>,
}

impl Reach for BridgeControl {
    fn version(&self) -> Version {
        self.handle.version()
    }

    fn put(
        &self,
        direction: Direction,
        sender: u64,
        packets: Vec<Vec<u8>>,
    ) -> Result<(), plugin::Full> {
        let put = self.outbox.put(direction, sender, packets);
        put.map_err(|forward::Full| plugin::Full)
    }

    fn kick(&self, plugin: &str, text: String) {
        self.kicked.kick(plugin::Refusal {
            plugin: plugin.to_owned(),
            text: Some(text),
            is_failure: false,
        });
    }

    fn ask_cookie(
        &self,
        key: &str,
        sender: u64,
        request: Vec<u8>,
    ) -> Result<plugin::CookieReceiver, plugin::Full> {
        let asked = self.outbox.ask_cookie(key, sender, request);
        asked.map_err(|forward::Full| plugin::Full)
    }

    fn switch(&self, plugin: &str, server: &str) -> plugin::Switching {
        let request = self.handle.switch(server, By::Plugin(plugin.to_owned()));
        let server = server.to_owned();
        Box::pin(async move {
            request.outcome().await.map_err(|why| match why {
                NotSwitched::Gone => plugin::NotSwitched::Gone,
                NotSwitched::UnknownServer => {
                    let server = Quoted(&server);
                    let reason = format!("the network of the player has no server {server}");
                    plugin::NotSwitched::Stays(reason)
                }
                NotSwitched::AlreadyThere => {
                    plugin::NotSwitched::Stays("the player is on that server already".to_owned())
                }
                NotSwitched::Busy => {
                    plugin::NotSwitched::Stays("another switch of the player runs".to_owned())
                }
                NotSwitched::Refused { text } => {
                    let reason = format!("the server refuses the player: {text}");
                    plugin::NotSwitched::Stays(reason)
                }
            })
        })
    }
}
