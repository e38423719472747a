//! The record of a player in play that the proxy needs to move the player to another
//! backend.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::packet::world::Screen;
use crate::protocol::packet::{Brand, Clientbound, Serverbound, State, Version};

/// The longest settings and the longest name of the client's software that are
/// recorded. Both have some twenty bytes.
const KEPT_BYTES_MAX: usize = 1024;
/// The most keep alives of a backend that wait for an answer. Backends send one a
/// second at most, and wait for half a minute.
const KEEP_ALIVES_MAX: usize = 64;
/// The longest fields of a keep alive, in bytes: an `i64`.
const KEEP_ALIVE_BYTES_MAX: usize = 8;

/// The most bytes of a configuration that wait for its end (8 MiB). Registries of the
/// game have some 60 KiB, those of large packs of mods some MiB.
pub(crate) const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether a packet waits for the end of its configuration: what a backend sends of its
/// registries reaches the client as a whole or not at all, since another backend's
/// cannot follow the half of it. The client refuses an entry that comes twice.
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
    /// The fields of the backend's keep alives that the client has not answered.
    keep_alives: VecDeque<Box<[u8]>>,
}

impl PlayerRecord {
    /// Whether such a packet is relevant for [`clientbound`](Self::clientbound).
    pub(crate) const fn records_clientbound(version: Version, kind: Clientbound) -> bool {
        matches!(kind, Clientbound::KeepAlive) || Screen::concerns(version, kind)
    }

    /// Records a packet of the backend.
    pub(crate) fn clientbound(&self, version: Version, kind: Clientbound, fields: &[u8]) {
        let mut recorded = self.lock();
        if kind != Clientbound::KeepAlive {
            recorded.screen.note(version, kind, fields);
            return;
        }
        if fields.len() <= KEEP_ALIVE_BYTES_MAX {
            if recorded.keep_alives.len() >= KEEP_ALIVES_MAX {
                recorded.keep_alives.pop_front();
            }
            recorded.keep_alives.push_back(fields.into());
        }
    }

    /// Records a packet of somebody else that changes the client's screen.
    pub(crate) fn shown(&self, version: Version, kind: Clientbound, fields: &[u8]) {
        if Screen::concerns(version, kind) {
            self.lock().screen.note(version, kind, fields);
        }
    }

    /// Whether such a packet is relevant for [`serverbound`](Self::serverbound).
    pub(crate) const fn records_serverbound(kind: Serverbound) -> bool {
        matches!(
            kind,
            Serverbound::KeepAlive | Serverbound::PluginMessage | Serverbound::ClientInformation
        )
    }

    /// Records a packet of the client. False for the answer to a keep alive that this
    /// backend has not sent: it was for the backend before, and this one would
    /// disconnect the player because of it.
    pub(crate) fn serverbound(&self, kind: Serverbound, fields: &[u8]) -> bool {
        let mut recorded = self.lock();
        let is_kept = fields.len() <= KEPT_BYTES_MAX;
        match kind {
            Serverbound::KeepAlive => {
                let sent = &mut recorded.keep_alives;
                let place = sent.iter().position(|keep_alive| **keep_alive == *fields);
                return place.and_then(|place| sent.remove(place)).is_some();
            }
            Serverbound::ClientInformation if is_kept => {
                recorded.settings = Some(fields.into());
            }
            Serverbound::PluginMessage if is_kept && Brand::is_in(fields) => {
                recorded.brand = Some(fields.into());
            }
            _ => {}
        }
        true
    }

    /// Forgets the keep alives of a lost backend.
    pub(crate) fn forget_keep_alives(&self) {
        self.lock().keep_alives = VecDeque::new();
    }

    /// The packets that clear the client's screen, in play before 1.20.2.
    pub(crate) fn clear_screen(&self, version: Version) -> Vec<Vec<u8>> {
        self.lock().screen.clear(version)
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
