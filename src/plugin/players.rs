//! The players that services can reach.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infrarust_plugin_abi::Capability;

use crate::protocol::packet::login::Profile;
use crate::protocol::packet::{Direction, Version};

/// The players in the game, by their numbers. Bounded by the number of sessions.
#[derive(Debug)]
pub(crate) struct Players {
    all: Mutex<HashMap<u64, Arc<InGame>>>,
    next: AtomicU64,
}

impl Default for Players {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            // Zero means no player.
            next: AtomicU64::new(1),
        }
    }
}

/// The services that a plugin may use for the players of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceGrant {
    /// The id of the plugin. It is the same for later generations, so they may continue to
    /// use the services.
    pub(crate) plugin: Arc<str>,
    /// The capabilities, as bits.
    pub(crate) bits: u64,
}

/// A player in the game, as services see it.
#[derive(Debug)]
pub(crate) struct InGame {
    /// The profile; authenticated where the plugin may ask for it.
    pub(crate) profile: Profile,
    /// The services that each plugin may use.
    pub(crate) grants: Box<[ServiceGrant]>,
    /// Access to the session.
    pub(crate) reach: Arc<dyn Reach>,
}

/// How services reach a session.
pub(crate) trait Reach: fmt::Debug + Send + Sync {
    /// The client's version of the game.
    fn version(&self) -> Version;

    /// Appends packets of the game to those that wait in this direction, all or none, and
    /// returns at once.
    ///
    /// # Errors
    ///
    /// When too many packets or bytes of this sender wait there.
    fn put(&self, direction: Direction, sender: u64, packets: Vec<Vec<u8>>) -> Result<(), Full>;

    /// Ends the session. The player reads `text`; the first one counts.
    fn kick(&self, plugin: &str, text: String);

    /// Requests a switch to another server of the player's network. The switch continues
    /// whether or not the future is polled.
    fn switch(&self, plugin: &str, server: &str) -> Switching;

    /// Appends the packet that requests a cookie from the client.
    ///
    /// # Errors
    ///
    /// When too many requests have no answer yet, or too many packets or bytes of this sender
    /// wait.
    fn ask_cookie(&self, key: &str, sender: u64, request: Vec<u8>) -> Result<CookieReceiver, Full>;
}

/// Receives the bytes that a client has stored under a key, if any; an error when the player
/// has left.
pub(crate) type CookieReceiver = tokio::sync::oneshot::Receiver<Option<Vec<u8>>>;

/// A requested switch.
pub(crate) type Switching = Pin<Box<dyn Future<Output = Result<(), NotSwitched>> + Send>>;

/// Why a switch did not bring the player to the server that a plugin requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotSwitched {
    /// The player has left.
    Gone,
    /// The player stays on the current server, for this reason.
    Stays(String),
}

/// Too many packets or bytes of the sender wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Why a service cannot act for a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotServed {
    Gone,
    NotGranted,
}

impl Players {
    /// A number that no other player has or had.
    pub(crate) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a player: from now on services reach the player.
    pub(crate) fn enter(&self, number: u64, player: InGame) {
        self.lock().insert(number, Arc::new(player));
    }

    /// Removes a player: from now on services do not reach the player.
    pub(crate) fn leave(&self, number: u64) {
        let left = self.lock().remove(&number);
        // Without the lock: the end of a session may wake plugins.
        drop(left);
    }

    /// The player, for a plugin that may use this capability on the player's server.
    pub(super) fn find(
        &self,
        number: u64,
        plugin: &str,
        capability: Capability,
    ) -> Result<Arc<InGame>, NotServed> {
        let player = self.lock().get(&number).cloned();
        let player = player.ok_or(NotServed::Gone)?;
        let is_granted =
            |grant: &ServiceGrant| &*grant.plugin == plugin && grant.bits & capability.bit() != 0;
        match player.grants.iter().any(is_granted) {
            true => Ok(player),
            false => Err(NotServed::NotGranted),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<InGame>>> {
        // A panic under the lock leaves the value consistent.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl Reach for Nowhere {
        fn version(&self) -> Version {
            Version::newest()
        }

        fn put(&self, _: Direction, _: u64, _: Vec<Vec<u8>>) -> Result<(), Full> {
            Err(Full)
        }

        fn kick(&self, _: &str, _: String) {}

        fn switch(&self, _: &str, _: &str) -> Switching {
            Box::pin(std::future::ready(Err(NotSwitched::Gone)))
        }

        fn ask_cookie(&self, _: &str, _: u64, _: Vec<u8>) -> Result<CookieReceiver, Full> {
            Err(Full)
        }
    }

    /// A service reaches a player only while the player is in the game, and only for a
    /// plugin that may use the service on the player's server.
    #[test]
    fn services_reach_players_in_the_game() {
        let players = Players::default();
        let number = players.next_number();
        assert_ne!(number, players.next_number());
        let capability = Capability::IdentityVerified;
        let grant = ServiceGrant {
            plugin: "p".into(),
            bits: capability.bit(),
        };
        let find = |plugin| players.find(number, plugin, capability).map(|_| ());
        assert_eq!(find("p"), Err(NotServed::Gone));
        let profile = Profile {
            uuid: [1; 16],
            name: "Steve".to_owned(),
            properties: Vec::new(),
        };
        let grants = [grant].into();
        let reach = Arc::new(Nowhere);
        let steve = InGame {
            profile,
            grants,
            reach,
        };
        players.enter(number, steve);
        assert_eq!(find("p"), Ok(()));
        assert_eq!(find("q"), Err(NotServed::NotGranted));
        let other = players.find(number, "p", Capability::PacketInject);
        assert_eq!(other.map(|_| ()), Err(NotServed::NotGranted));
        players.leave(number);
        assert_eq!(find("p"), Err(NotServed::Gone));
    }
}
