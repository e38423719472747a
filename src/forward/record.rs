//! The record of a player in play that the proxy needs to move the player to another
//! backend.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answers::Answers;
use crate::protocol::forge::Negotiation;
use crate::protocol::packet::world::Screen;
use crate::protocol::packet::{Brand, Clientbound, Serverbound, State, Version};

/// The longest settings and the longest name of the client's software that are
/// recorded. Both have some twenty bytes.
const KEPT_BYTES_MAX: usize = 1024;

/// The most bytes of a configuration that wait for its end (8 MiB). Registries of the
/// game have some 60 KiB, those of large packs of mods some MiB.
pub(crate) const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether a packet waits for the end of its configuration. The registries of a backend
/// reach the client as a whole or not at all: those of another backend cannot follow half
/// of them, because the client refuses an entry that comes twice.
pub(crate) const fn is_held(state: State, kind: Clientbound) -> bool {
    matches!(
        (state, kind),
        (
            State::Configuration,
            Clientbound::RegistryData | Clientbound::Tags | Clientbound::FeatureFlags
        )
    )
}

/// What is recorded of a player; both directions of the session share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlayerRecord(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    screen: Screen,
    /// The fields of the client's settings.
    settings: Option<Box<[u8]>>,
    /// The fields of the plugin message with the name of the client's software.
    brand: Option<Box<[u8]>>,
    /// How far the client has come with Forge before 1.13.
    negotiation: Negotiation,
    /// The questions of the backends that the client has not answered.
    answers: Answers,
}

impl PlayerRecord {
    /// Whether such a packet is relevant for [`clientbound`](Self::clientbound).
    pub(crate) const fn records_clientbound(version: Version, kind: Clientbound) -> bool {
        Answers::reads_clientbound(version, kind) || Screen::concerns(version, kind)
    }

    /// Records a packet of the backend.
    pub(crate) fn clientbound(&self, version: Version, kind: Clientbound, fields: &[u8]) {
        let mut recorded = self.lock();
        if Screen::concerns(version, kind) {
            recorded.screen.note(version, kind, fields);
        } else {
            recorded.answers.ask(version, kind, fields);
        }
    }

    /// Records a packet of a plugin or the proxy that changes the client's screen.
    pub(crate) fn shown(&self, version: Version, kind: Clientbound, fields: &[u8]) {
        if Screen::concerns(version, kind) {
            self.lock().screen.note(version, kind, fields);
        }
    }

    /// Whether such a packet is relevant for [`serverbound`](Self::serverbound).
    pub(crate) const fn records_serverbound(version: Version, kind: Serverbound) -> bool {
        matches!(
            kind,
            Serverbound::PluginMessage | Serverbound::ClientInformation
        ) || Answers::reads_serverbound(version, kind)
    }

    /// Records a packet of the client. False for an answer to a question of the previous
    /// backend: the current one would disconnect the player because of it.
    pub(crate) fn serverbound(&self, version: Version, kind: Serverbound, fields: &[u8]) -> bool {
        let mut recorded = self.lock();
        recorded.keep(kind, fields);
        if kind == Serverbound::PluginMessage
            && let Some(negotiation) = Negotiation::after(version, fields)
        {
            recorded.negotiation = negotiation;
        }
        recorded.answers.answer(version, kind, fields)
    }

    /// Records the packet that replaces a recorded packet of the client.
    pub(crate) fn changed(&self, kind: Serverbound, fields: &[u8]) {
        self.lock().keep(kind, fields);
    }

    /// Records that the backend is lost.
    pub(crate) fn lose_backend(&self) {
        self.lock().answers.lose_backend();
    }

    /// Records that the client is sent into the world of another backend, before 1.20.2.
    pub(crate) fn enter_world(&self) {
        self.lock().answers.enter_world();
    }

    /// Whether the client may not have left the world of the backend before: then
    /// [`is_of_old_world`](Self::is_of_old_world) has to see each play packet of it.
    pub(crate) fn is_entering(&self) -> bool {
        self.lock().answers.is_entering()
    }

    /// Whether a play packet of the client is of the world of the backend before, and so for
    /// nobody. The packet is not recorded.
    pub(crate) fn is_of_old_world(&self, version: Version, id: i32, fields: &[u8]) -> bool {
        self.lock().answers.is_of_old_world(version, id, fields)
    }

    /// How far the client has come with its negotiation of mods, before 1.13.
    pub(crate) fn negotiation(&self) -> Negotiation {
        self.lock().negotiation
    }

    /// Records that the client is sent the beginning of a negotiation of mods.
    pub(crate) fn open_negotiation(&self) {
        self.lock().negotiation = Negotiation::Open;
    }

    /// The packets that clear the client's screen, in play before 1.20.2.
    pub(crate) fn clear_screen(&self, version: Version) -> Vec<Vec<u8>> {
        self.lock().screen.clear(version)
    }

    /// The packet that clears the titles of the server before, in play since 1.20.2.
    pub(crate) fn clear_titles(&self, version: Version) -> Option<Vec<u8>> {
        self.lock().screen.clear_titles(version)
    }

    /// The fields of the client's settings and those of the message with the
    /// name of its software.
    pub(crate) fn of_client(&self) -> [Option<(Serverbound, Box<[u8]>)>; 2] {
        let recorded = self.lock();
        let packet = |kind, fields: &Option<Box<[u8]>>| Some((kind, fields.clone()?));
        [
            packet(Serverbound::PluginMessage, &recorded.brand),
            packet(Serverbound::ClientInformation, &recorded.settings),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        // A panic under the lock leaves the value consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// Keeps what another backend has to know about the client.
    fn keep(&mut self, kind: Serverbound, fields: &[u8]) {
        let kept = match kind {
            _ if fields.len() > KEPT_BYTES_MAX => return,
            Serverbound::ClientInformation => &mut self.settings,
            Serverbound::PluginMessage if Brand::is_in(fields) => &mut self.brand,
            _ => return,
        };
        *kept = Some(fields.into());
    }
}
