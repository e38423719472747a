//! What packets mean for a session in which the proxy reads frames ([`SentState`]), and
//! which ones it changes ([`Edits`]): in the configuration and in play.

use super::commands::SessionCommands;
use crate::protocol::packet::{Brand, Clientbound, State, Version};
use crate::protocol::varint;
use crate::protocol::version::V26_2;

/// The parts of what a receiver has been sent that decide what it can read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentState {
    /// The state in which it reads the next packet.
    pub(crate) state: State,
    /// It was sent a disconnect: no second one may follow.
    pub(crate) has_kicked: bool,
    /// A bundle is open: the client processes nothing that it is sent, a disconnect
    /// included, until a delimiter closes the bundle (1.19.4).
    pub(crate) in_bundle: bool,
    /// The client was sent into a configuration and no join game since: until then it
    /// cannot use other play packets.
    pub(crate) awaits_join_game: bool,
}

impl SentState {
    /// Nothing has been sent in this state.
    pub(crate) const fn new(state: State) -> Self {
        Self {
            state,
            has_kicked: false,
            in_bundle: false,
            awaits_join_game: false,
        }
    }

    /// Whether packets of this kind are relevant for [`note`](Self::note).
    pub(crate) fn is_relevant(kind: Clientbound) -> bool {
        kind.leads_to().is_some()
            || matches!(
                kind,
                Clientbound::Disconnect | Clientbound::BundleDelimiter | Clientbound::JoinGame
            )
    }

    /// Records a packet for the client.
    pub(crate) fn note(&mut self, kind: Clientbound) {
        self.state = kind.leads_to().unwrap_or(self.state);
        match kind {
            Clientbound::Disconnect => self.has_kicked = true,
            Clientbound::BundleDelimiter => self.in_bundle = !self.in_bundle,
            Clientbound::StartConfiguration => self.awaits_join_game = true,
            Clientbound::JoinGame => self.awaits_join_game = false,
            _ => {}
        }
    }
}

/// What the proxy adds to the name of a backend's software.
const BRAND: Brand = Brand("infrarust");

/// What the proxy changes in packets for a client, apart from its commands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edits {
    /// Whether the name of the backend's software gets an addition.
    pub(crate) adds_brand: bool,
    /// Whether the join game says that the server authenticates (since 26.2). The
    /// backend does not know that the proxy does.
    pub(crate) is_authenticated: bool,
}

impl Edits {
    /// Whether [`apply`](Self::apply) can change packets of this kind. `commands` are those
    /// of the proxy that the player may use, if there are any.
    pub(crate) fn may_change(self, kind: Clientbound, commands: Option<&SessionCommands>) -> bool {
        match kind {
            Clientbound::PluginMessage => self.adds_brand,
            Clientbound::JoinGame => self.is_authenticated,
            _ => commands.is_some_and(|commands| commands.reads_clientbound(kind)),
        }
    }

    /// The packet that replaces this packet of the backend; `None` if it passes unchanged.
    pub(crate) fn apply(
        self,
        version: Version,
        state: State,
        kind: Clientbound,
        fields: &[u8],
        commands: Option<&SessionCommands>,
    ) -> Option<Vec<u8>> {
        let id = version.id(state, kind)?;
        match kind {
            Clientbound::PluginMessage if self.adds_brand => BRAND.rewrite(version, state, fields),
            Clientbound::PluginMessage => None,
            Clientbound::JoinGame => self.join_game(version, id, fields),
            _ => commands?.clientbound(kind, fields),
        }
    }

    /// The join game with the flag that the server authenticates, if the version has
    /// it. The flag is the second to last byte (26.2 and 26.3).
    fn join_game(self, version: Version, id: u8, fields: &[u8]) -> Option<Vec<u8>> {
        if !self.is_authenticated || version.protocol() < V26_2 {
            return None;
        }
        let mut packet = Vec::with_capacity(1 + fields.len());
        varint::encode(i32::from(id), &mut packet);
        packet.extend_from_slice(fields);
        let flag = packet.len().checked_sub(2)?;
        *packet.get_mut(flag)? = 1;
        Some(packet)
    }
}
