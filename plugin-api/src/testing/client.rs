//! The clients for which hooks are called.

use std::net::SocketAddr;

use infrarust_plugin_abi::{
    ClientInput, Hook, LoginInput, PlayerInput, SessionInput, intent, sample,
};

use crate::{Event, Intent, PlayerEvent, PlayerId};

/// A client for calls of hooks: by default a player `Steve` from `127.0.0.1` who joins
/// the server `lobby` at `play.example.com` with 1.21.
#[derive(Debug, Clone)]
pub struct Client {
    peer: SocketAddr,
    virtual_host: String,
    pub(super) server: String,
    pub(super) protocol: i32,
    intent: Intent,
    pub(super) name: String,
    pub(super) uuid: Option<u128>,
    pub(super) is_proved: bool,
    pub(super) is_admin: bool,
    pub(super) properties: Vec<(String, String)>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! with {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty;)+) => {
        $($(#[doc = $doc])+
        #[must_use]
        pub fn $field(mut self, $field: impl Into<$type>) -> Self {
            self.$field = $field.into();
            self
        })+
    };
}

impl Client {
    /// A client with the default values, see [`Client`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            peer: sample::PEER,
            virtual_host: sample::HOST.to_owned(),
            server: sample::SERVER.to_owned(),
            protocol: sample::PROTOCOL,
            intent: Intent::Login,
            name: sample::NAME.to_owned(),
            uuid: None,
            is_proved: false,
            is_admin: false,
            properties: Vec::new(),
        }
    }

    with! {
        /// With another address.
        peer: SocketAddr;
        /// With another virtual host: lower case, as the proxy cleans it.
        virtual_host: String;
        /// With another server.
        server: String;
        /// With another protocol version.
        protocol: i32;
        /// With another intent.
        intent: Intent;
        /// With another name.
        name: String;
        /// With a UUID.
        uuid: Option<u128>;
    }

    /// Authenticated by the proxy with this UUID, as on a `client_only` server; has an
    /// effect in [`TestHost::login_decide`](super::TestHost::login_decide) and [`TestHost::player_observe`](super::TestHost::player_observe).
    #[must_use]
    pub fn proved(mut self, uuid: u128) -> Self {
        self.uuid = Some(uuid);
        self.is_proved = true;
        self
    }

    /// As an admin of the proxy, for [`TestHost::player_command`](super::TestHost::player_command).
    #[must_use]
    pub const fn admin(mut self) -> Self {
        self.is_admin = true;
        self
    }

    /// Adds a property to the proved profile.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// The UUID in the game.
    pub(super) fn uuid_in_game(&self) -> u128 {
        self.uuid.unwrap_or(sample::UUID)
    }

    const fn intent_number(&self) -> u32 {
        match self.intent {
            Intent::Status => intent::STATUS,
            Intent::Login => intent::LOGIN,
            Intent::Transfer => intent::TRANSFER,
            Intent::Other => 0,
        }
    }

    pub(super) fn input(&self) -> ClientInput<'_> {
        ClientInput {
            peer: self.peer,
            protocol: self.protocol,
            intent: self.intent_number(),
            host: &self.virtual_host,
            server: &self.server,
        }
    }

    pub(super) fn login(&self, hook: Hook) -> LoginInput {
        // Nothing is proved yet in `route.select`.
        let is_proved = self.is_proved && hook != Hook::RouteSelect;
        LoginInput::new(&self.input(), &self.name, self.uuid).proved(is_proved)
    }

    pub(super) fn session(&self, id: u64, what: Event<'_>) -> SessionInput {
        let opened = SessionInput::opened(&self.input(), &self.name, id);
        match what {
            Event::Opened => opened,
            Event::Connected { backend } => opened.connected(backend),
            Event::Closed {
                reason,
                serverbound_bytes,
                clientbound_bytes,
                duration,
            } => opened.closed(reason, serverbound_bytes, clientbound_bytes, duration),
        }
    }

    pub(super) fn player(&self, player: PlayerId, what: PlayerEvent<'_>) -> PlayerInput {
        let (number, name) = (player.number(), self.name.as_str());
        let (uuid, is_proved) = (self.uuid_in_game(), self.is_proved);
        let joined = PlayerInput::joined(&self.input(), number, name, uuid, is_proved);
        match what {
            PlayerEvent::Joined => joined,
            PlayerEvent::Left { reason } => joined.left(reason),
        }
    }
}
