//! The roster: who is logged in, and that each player is logged in once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::flag::Flag;
use super::player_handle::PlayerHandle;
use super::settings::DuplicateLogin;

/// How long a login waits until the one that it replaces has closed the connection to
/// its backend.
const REPLACE_WAIT: Duration = Duration::from_secs(10);

/// How long a login that does not replace another waits for the end of that one: a
/// client that is sent to this proxy again closes its connection and connects at once,
/// and the end may be read after the login.
const ENDING_WAIT: Duration = Duration::from_millis(500);

/// The player of a login, on one server or network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Uuid(Arc<str>, [u8; 16]),
    /// In lower case: an unproved name belongs to one player in all its spellings.
    Name(Arc<str>, String),
}

impl Key {
    fn scope(&self) -> &str {
        match self {
            Self::Uuid(scope, _) | Self::Name(scope, _) => scope,
        }
    }
}

/// The logins of one proxy. Bounded by the number of its sessions.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    logins: Mutex<HashMap<Key, Arc<Login>>>,
}

#[derive(Debug)]
struct Login {
    /// Set to end the session of this login, so that another can take its place.
    replaced: Flag,
    /// Set when the entry is removed.
    gone: Flag,
    /// The player, once in the game.
    player: OnceLock<Arc<PlayerHandle>>,
}

impl Login {
    /// Ends the session of this login, whether the player is in the game or not yet.
    fn replace(&self) {
        self.replaced.set();
        if let Some(player) = self.player.get() {
            player.replace();
        }
    }

    /// Whether the client has ended its stream, and only the backend keeps the session
    /// open. A player who comes back does not wait for that.
    fn is_leaving(&self) -> bool {
        let player = self.player.get();
        player.is_some_and(|player| player.is_leaving())
    }
}

/// The entry of a login, removed on drop.
#[derive(Debug)]
pub(crate) struct RosterEntry {
    roster: Arc<Roster>,
    keys: Vec<Key>,
    login: Arc<Login>,
}

/// The player is logged in already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duplicate;

impl Roster {
    /// Enters a player in a `scope`, which is a server or a network. `name`
    /// is given if it is not proved.
    ///
    /// # Errors
    ///
    /// When the player is logged in and that login is not replaced.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        scope: &str,
        uuid: [u8; 16],
        name: Option<&str>,
        policy: DuplicateLogin,
    ) -> Result<RosterEntry, Duplicate> {
        let scope: Arc<str> = scope.into();
        let mut keys = vec![Key::Uuid(Arc::clone(&scope), uuid)];
        keys.extend(name.map(|name| Key::Name(scope, name.to_lowercase())));
        let refused_at = Instant::now() + ENDING_WAIT;
        let replacing = async {
            loop {
                let other = match self.take(&keys) {
                    Ok(entry) => return Ok(entry),
                    Err(other) => other,
                };
                if policy == DuplicateLogin::Refuse && !other.is_leaving() {
                    let ended = timeout_at(refused_at, other.gone.wait()).await;
                    if ended.is_err() && !other.is_leaving() {
                        return Err(Duplicate);
                    }
                    continue;
                }
                other.replace();
                other.gone.wait().await;
            }
        };
        timeout(REPLACE_WAIT, replacing)
            .await
            .unwrap_or(Err(Duplicate))
    }

    /// Whether a client in this scope has ended its stream and its backend has not. The
    /// same player can take the place of such a login.
    pub(crate) fn has_leaving(&self, scope: &str) -> bool {
        let logins = self.lock();
        let mut of_scope = logins.iter().filter(|(key, _)| key.scope() == scope);
        of_scope.any(|(_, login)| login.is_leaving())
    }

    /// The players in the game of a network, sorted by name.
    pub(crate) fn players_in(&self, network: &str) -> Vec<Arc<PlayerHandle>> {
        self.players(|player| player.network() == Some(network))
    }

    /// The player of this name in the game of a network. Upper and lower case do not matter.
    pub(crate) fn find(&self, network: &str, name: &str) -> Option<Arc<PlayerHandle>> {
        let is_named = |player: &PlayerHandle| player.name().eq_ignore_ascii_case(name);
        let found = self.players(|player| player.network() == Some(network) && is_named(player));
        // If only some names are proved, two can differ in upper and lower case only.
        let exact = found.iter().find(|player| player.name() == name);
        exact.or(found.first()).cloned()
    }

    /// All players in the game of the intercepted modes, sorted by name.
    pub(crate) fn everyone(&self) -> Vec<Arc<PlayerHandle>> {
        self.players(|_| true)
    }

    fn players(&self, is_wanted: impl Fn(&PlayerHandle) -> bool) -> Vec<Arc<PlayerHandle>> {
        let logins = self.lock();
        // Each player has one key with a player id.
        let logins = logins
            .iter()
            .filter(|(key, _)| matches!(key, Key::Uuid(..)));
        let players = logins.filter_map(|(_, login)| login.player.get());
        let players = players.filter(|player| !player.is_leaving() && is_wanted(player));
        let mut players: Vec<_> = players.map(Arc::clone).collect();
        players.sort_by(|a, b| a.name().cmp(b.name()));
        players
    }

    /// Takes all keys or none. The error is a login that has one of them.
    fn take(self: &Arc<Self>, keys: &[Key]) -> Result<RosterEntry, Arc<Login>> {
        let mut logins = self.lock();
        if let Some(other) = keys.iter().find_map(|key| logins.get(key)) {
            return Err(Arc::clone(other));
        }
        let login = Arc::new(Login {
            replaced: Flag::default(),
            gone: Flag::default(),
            player: OnceLock::new(),
        });
        for key in keys {
            logins.insert(key.clone(), Arc::clone(&login));
        }
        Ok(RosterEntry {
            roster: Arc::clone(self),
            keys: keys.to_vec(),
            login,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Login>>> {
        // A panic under the lock leaves the value consistent.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys are taken.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

impl RosterEntry {
    /// The player joins the game: from now on the look-ups of the roster find the player.
    pub(crate) fn begin_session(&self, player: &Arc<PlayerHandle>) {
        // An entry has one session.
        let _ = self.login.player.set(Arc::clone(player));
    }

    /// Set when another login of the player replaces this one.
    pub(crate) fn replaced(&self) -> &Flag {
        &self.login.replaced
    }
}

impl Drop for RosterEntry {
    fn drop(&mut self) {
        let mut logins = self.roster.lock();
        for key in self.keys.drain(..) {
            if let Entry::Occupied(entry) = logins.entry(key)
                && Arc::ptr_eq(entry.get(), &self.login)
            {
                entry.remove();
            }
        }
        drop(logins);
        self.login.gone.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: [u8; 16] = [1; 16];
    const BOB: [u8; 16] = [2; 16];

    /// A second login is refused as long as the first exists, by its id, and for unproved
    /// names by every spelling of the name.
    #[tokio::test(start_paused = true)]
    async fn a_second_login_is_refused() {
        let roster = Arc::new(Roster::default());
        let refuse = DuplicateLogin::Refuse;
        let alice = roster
            .enter("a", ALICE, Some("Alice"), refuse)
            .await
            .unwrap();
        assert!(roster.enter("a", ALICE, None, refuse).await.is_err());
        assert!(roster.enter("a", BOB, Some("aLICE"), refuse).await.is_err());
        // A login on another server and one of another player are independent.
        let _elsewhere = roster
            .enter("b", ALICE, Some("Alice"), refuse)
            .await
            .unwrap();
        let _bob = roster.enter("a", BOB, None, refuse).await.unwrap();
        drop(alice);
        assert!(
            roster
                .enter("a", ALICE, Some("alice"), refuse)
                .await
                .is_ok()
        );
        assert_eq!(roster.len(), 3);
    }

    /// A second login waits a moment for the end of the first one.
    #[tokio::test(start_paused = true)]
    async fn a_login_that_ends_now_is_waited_for() {
        let roster = Arc::new(Roster::default());
        let refuse = DuplicateLogin::Refuse;
        for (lasts, is_let_in) in [(ENDING_WAIT / 2, true), (ENDING_WAIT * 2, false)] {
            let first = roster.enter("a", ALICE, None, refuse).await.unwrap();
            let ends = async {
                tokio::time::sleep(lasts).await;
                drop(first);
            };
            let ((), second) = tokio::join!(ends, roster.enter("a", ALICE, None, refuse));
            assert_eq!(second.is_ok(), is_let_in, "{lasts:?}");
        }
    }

    /// A login that replaces another waits until that one has ended. If two try it at the
    /// same time, only one gets the entry.
    #[tokio::test]
    async fn a_second_login_replaces() {
        let roster = Arc::new(Roster::default());
        let replace = DuplicateLogin::Replace;
        let first = roster.enter("a", ALICE, None, replace).await.unwrap();
        let second = tokio::spawn({
            let roster = Arc::clone(&roster);
            async move { roster.enter("a", ALICE, None, replace).await }
        });
        first.replaced().wait().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(!second.replaced().is_set());
        drop(second);
        assert_eq!(roster.len(), 0);
    }

    /// A login that does not end in time keeps its entry, and the second one is refused.
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_first_login_is_bounded() {
        let roster = Arc::new(Roster::default());
        let replace = DuplicateLogin::Replace;
        let _first = roster.enter("a", ALICE, None, replace).await.unwrap();
        assert!(roster.enter("a", ALICE, None, replace).await.is_err());
    }
}
