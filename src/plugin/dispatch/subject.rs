//! The inputs and results of hooks.

use std::net::SocketAddr;
use std::time::Duration;

use infrarust_plugin_abi::{ClientInput, intent};

use crate::protocol::handshake::Intent;

/// The facts about a client that every hook receives.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its true address.
    pub peer: SocketAddr,
    /// The protocol version it has announced; -1 for clients older than protocol versions.
    pub protocol: i32,
    /// What it wants.
    pub intent: Intent,
    /// The cleaned virtual host; may be empty.
    pub virtual_host: &'a str,
    /// The id of the server that it leads to; may be empty.
    pub server: &'a str,
}

impl<'a> Client<'a> {
    /// The client in the form of the ABI.
    #[inline]
    pub(super) const fn input(&self) -> ClientInput<'a> {
        ClientInput {
            peer: self.peer,
            protocol: self.protocol,
            intent: intent_number(self.intent),
            host: self.virtual_host,
            server: self.server,
        }
    }
}

/// The player of a client, proved or claimed.
#[derive(Debug, Clone, Copy)]
pub struct Player<'a> {
    /// The name.
    pub name: &'a str,
    /// The UUID, where there is one.
    pub uuid: Option<u128>,
    /// Whether the proxy has proved both.
    pub is_proved: bool,
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy)]
pub enum SessionEvent<'a> {
    /// A player has a place on a server.
    Opened,
    /// The backend has accepted the connection.
    Connected {
        /// Its address.
        backend: &'a str,
    },
    /// The session is over.
    Closed {
        /// Why, as in the log.
        reason: &'a str,
        /// Bytes from the client to the backend.
        serverbound_bytes: u64,
        /// Bytes from the backend to the client.
        clientbound_bytes: u64,
        /// Time since it opened.
        duration: Duration,
    },
}

/// What has happened to a player.
#[derive(Debug, Clone, Copy)]
pub enum PlayerEvent<'a> {
    /// The player is in the game.
    Joined,
    /// The player has left the game.
    Left {
        /// Why, as in the log.
        reason: &'a str,
    },
}

/// A session or a player, for plugins that observe it.
#[derive(Debug)]
pub struct Session {
    pub(super) id: u64,
    /// The plugins of the set that have observed its beginning. Exactly these also observe
    /// its end, even if they are quarantined in between.
    pub(super) observers: Vec<bool>,
}

impl Session {
    /// A session, or a player, that no plugin has observed yet. `id` must be unique.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            observers: Vec::new(),
        }
    }
}

/// A plugin, or its failure, refuses a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The plugin that has decided.
    pub plugin: String,
    /// The text for the player. `None` closes the connection without a text.
    pub text: Option<String>,
    /// Whether the plugin has failed rather than decided.
    pub is_failure: bool,
}

/// A plugin has chosen another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The plugin.
    pub plugin: String,
    /// The server.
    pub server: String,
}

const fn intent_number(intent: Intent) -> u32 {
    match intent {
        Intent::Status => intent::STATUS,
        Intent::Login => intent::LOGIN,
        Intent::Transfer => intent::TRANSFER,
    }
}
