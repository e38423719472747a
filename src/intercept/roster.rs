//! The roster: who is logged in, and that each player is logged in once.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{self, AtomicBool};
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

/// The logins of one proxy, on each server outside of networks and in each network. Bounded
/// by the number of its sessions.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// By their names. One without logins is removed.
    scopes: Mutex<HashMap<Arc<str>, Scope>>,
}

/// The logins in one scope. A set for each scope has smaller entries than one for all.
#[derive(Debug, Default)]
struct Scope {
    by_uuid: HashSet<ByUuid>,
    /// Those with unproved names.
    by_name: HashSet<ByName>,
    /// The players in the game, in the order of [`by_name`]. Backends look players up by
    /// their names, and one server may have thousands of players.
    in_game: Vec<Arc<PlayerHandle>>,
}

/// A login that is found by its player id. A set of these has entries of a third of the size
/// of those of a map, which would have the id as well.
#[derive(Debug)]
struct ByUuid(Arc<Login>);

impl Borrow<[u8; 16]> for ByUuid {
    fn borrow(&self) -> &[u8; 16] {
        &self.0.uuid
    }
}

impl Hash for ByUuid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uuid.hash(state);
    }
}

impl PartialEq for ByUuid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uuid == other.0.uuid
    }
}

impl Eq for ByUuid {}

/// The same for its unproved name, in any case of its letters.
#[derive(Debug)]
struct ByName(Arc<Login>);

impl<'a> Borrow<dyn UnprovedName + 'a> for ByName {
    fn borrow(&self) -> &(dyn UnprovedName + 'a) {
        self
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        <dyn UnprovedName>::hash(self, state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        <dyn UnprovedName>::eq(self, other)
    }
}

impl Eq for ByName {}

/// An unproved name, which belongs to one player in all its spellings. Such names consist of
/// ASCII characters. As the key of a look-up, it needs no copy in lower case.
trait UnprovedName {
    fn unproved_name(&self) -> &str;
}

impl UnprovedName for ByName {
    fn unproved_name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }
}

impl UnprovedName for &str {
    fn unproved_name(&self) -> &str {
        self
    }
}

impl Hash for dyn UnprovedName + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.unproved_name().bytes() {
            byte.to_ascii_lowercase().hash(state);
        }
    }
}

impl PartialEq for dyn UnprovedName + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.unproved_name()
            .eq_ignore_ascii_case(other.unproved_name())
    }
}

impl Eq for dyn UnprovedName + '_ {}

impl Scope {
    /// The players in the game.
    fn players(&self) -> impl Iterator<Item = &Arc<PlayerHandle>> {
        let players = self.in_game.iter();
        players.filter(|player| !player.is_leaving())
    }

    /// Those of them with this name, in any case of its letters.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<PlayerHandle>> {
        let players = &self.in_game;
        let first = players.partition_point(|player| in_any_case(player.name(), name).is_lt());
        let rest = players.get(first..).unwrap_or_default().iter();
        rest.take_while(move |player| player.name().eq_ignore_ascii_case(name))
    }

    fn add(&mut self, player: &Arc<PlayerHandle>) {
        let is_before = |other: &Arc<PlayerHandle>| by_name(other, player).is_lt();
        let at = self.in_game.partition_point(is_before);
        self.in_game.insert(at, Arc::clone(player));
    }

    fn remove(&mut self, player: &Arc<PlayerHandle>) {
        let is_before = |other: &Arc<PlayerHandle>| by_name(other, player).is_lt();
        let from = self.in_game.partition_point(is_before);
        let mut rest = self.in_game.iter().skip(from);
        if let Some(at) = rest.position(|other| Arc::ptr_eq(other, player)) {
            self.in_game.remove(from + at);
        }
    }
}

/// The name of the scope in which a second login of the same player counts as a duplicate,
/// and whose players know each other: a network, or a server outside of networks.
pub(crate) fn scope<'a>(network: Option<&str>, server: &'a str) -> Cow<'a, str> {
    match network {
        Some(network) => scope_of_network(network).into(),
        None => server.into(),
    }
}

/// The name of the scope of a network.
pub(crate) fn scope_of_network(network: &str) -> String {
    // Cannot be the id of a server, which has no spaces.
    format!("network {network}")
}

#[derive(Debug)]
struct Login {
    scope: Arc<str>,
    uuid: [u8; 16],
    /// The name, if it is not proved. The player in the game has the same one.
    name: Option<Arc<str>>,
    /// Set to end the session of this login, so that another can take its place. Also wakes
    /// those who wait until it is gone: each login holds this for as long as it lasts.
    replaced: Flag,
    /// Set when the entry is removed.
    is_gone: AtomicBool,
    /// The player, once in the game.
    player: OnceLock<Arc<PlayerHandle>>,
}

impl Login {
    /// Completes when the entry is removed. Cancel safe.
    async fn gone(&self) {
        let is_gone = || self.is_gone.load(atomic::Ordering::Acquire);
        self.replaced.wait_until(is_gone).await;
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
    login: Arc<Login>,
}

/// The flag of a login that is set when another login of the player replaces it. A part of
/// the login, since each idle player has one.
#[derive(Debug, Clone)]
pub(crate) struct Replaced(Arc<Login>);

impl Deref for Replaced {
    type Target = Flag;

    fn deref(&self) -> &Flag {
        &self.0.replaced
    }
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
        let name: Option<Arc<str>> = name.map(Into::into);
        let refused_at = Instant::now() + ENDING_WAIT;
        let replacing = async {
            loop {
                let other = match self.take(scope, uuid, name.as_ref()) {
                    Ok(entry) => return Ok(entry),
                    Err(other) => other,
                };
                if policy == DuplicateLogin::Refuse && !other.is_leaving() {
                    let ended = timeout_at(refused_at, other.gone()).await;
                    if ended.is_err() && !other.is_leaving() {
                        return Err(Duplicate);
                    }
                    continue;
                }
                self.replace(&other);
                other.gone().await;
            }
        };
        timeout(REPLACE_WAIT, replacing)
            .await
            .unwrap_or(Err(Duplicate))
    }

    /// Whether a client in this scope has ended its stream and its backend has not. The
    /// same player can take the place of such a login.
    pub(crate) fn has_leaving(&self, scope: &str) -> bool {
        let scopes = self.lock();
        let scope = scopes.get(scope);
        scope.is_some_and(|scope| scope.by_uuid.iter().any(|login| login.0.is_leaving()))
    }

    /// The players in the game of a scope, by their names.
    pub(crate) fn players_in(&self, scope: &str) -> Vec<Arc<PlayerHandle>> {
        let scopes = self.lock();
        let players = scopes.get(scope).into_iter().flat_map(Scope::players);
        players.map(Arc::clone).collect()
    }

    /// All players in the game of the intercepted modes, by their names.
    pub(crate) fn everyone(&self) -> Vec<Arc<PlayerHandle>> {
        let scopes = self.lock();
        let players = scopes.values().flat_map(Scope::players);
        let mut players: Vec<_> = players.map(Arc::clone).collect();
        drop(scopes);
        players.sort_by(by_name);
        players
    }

    /// The most players that a look-up of all players of a scope visits.
    pub(crate) fn len_of(&self, scope: &str) -> usize {
        let scopes = self.lock();
        scopes.get(scope).map_or(0, |scope| scope.in_game.len())
    }

    /// The number of these players in the game of a scope.
    pub(crate) fn count_in(&self, scope: &str, is_one: impl Fn(&PlayerHandle) -> bool) -> usize {
        let scopes = self.lock();
        let players = scopes.get(scope).into_iter().flat_map(Scope::players);
        players.filter(|player| is_one(player)).count()
    }

    /// The player of this name in the game of a scope, in any case of its letters.
    pub(crate) fn find(&self, scope: &str, name: &str) -> Option<Arc<PlayerHandle>> {
        let scopes = self.lock();
        let named = scopes.get(scope)?.named(name);
        let named = named.filter(|player| !player.is_leaving());
        // Where some names are proved and others are not, two can differ in case alone.
        let found = named.min_by_key(|player| (player.name() != name, player.name()));
        found.cloned()
    }

    /// One player in the game of each of these servers of a scope, by the id of the server.
    /// A server without players is left out.
    pub(crate) fn one_on_each<'a>(
        &self,
        scope: &str,
        mut servers: Vec<&'a str>,
    ) -> HashMap<&'a str, Arc<PlayerHandle>> {
        let scopes = self.lock();
        let players = scopes.get(scope).into_iter().flat_map(Scope::players);
        let mut found = HashMap::new();
        for player in players {
            if servers.is_empty() {
                break;
            }
            if let Some(place) = player.place_in(&servers) {
                found.insert(servers.swap_remove(place), Arc::clone(player));
            }
        }
        found
    }

    /// Ends the session of a login, whether the player is in the game or not yet.
    fn replace(&self, login: &Login) {
        login.replaced.set();
        // The lock orders this with `begin_session`: either this finds the player, or the
        // session of the player begins later and finds the flag. Without it, a processor may
        // move each of these two reads before the write of the same thread.
        let scopes = self.lock();
        let player = login.player.get();
        drop(scopes);
        if let Some(player) = player {
            player.replace();
        }
    }

    /// Enters a login. The error is one that is in its way.
    fn take(
        self: &Arc<Self>,
        scope: &str,
        uuid: [u8; 16],
        name: Option<&Arc<str>>,
    ) -> Result<RosterEntry, Arc<Login>> {
        let mut scopes = self.lock();
        if let Some(logins) = scopes.get(scope) {
            let by_uuid = logins.by_uuid.get(&uuid).map(|login| &login.0);
            let by_name = || {
                let name: &dyn UnprovedName = &&**name?;
                Some(&logins.by_name.get(name)?.0)
            };
            if let Some(other) = by_uuid.or_else(by_name) {
                return Err(Arc::clone(other));
            }
        }
        let scope = match scopes.get_key_value(scope) {
            Some((scope, _)) => Arc::clone(scope),
            None => scope.into(),
        };
        let login = Arc::new(Login {
            scope: Arc::clone(&scope),
            uuid,
            name: name.cloned(),
            replaced: Flag::default(),
            is_gone: AtomicBool::new(false),
            player: OnceLock::new(),
        });
        let logins = scopes.entry(scope).or_default();
        logins.by_uuid.insert(ByUuid(Arc::clone(&login)));
        if name.is_some() {
            logins.by_name.insert(ByName(Arc::clone(&login)));
        }
        Ok(RosterEntry {
            roster: Arc::clone(self),
            login,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Scope>> {
        // A panic under the lock leaves the value consistent.
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many player ids and unproved names are taken.
    #[cfg(test)]
    fn len(&self) -> usize {
        let scopes = self.lock();
        let logins = scopes.values();
        logins
            .map(|logins| logins.by_uuid.len() + logins.by_name.len())
            .sum()
    }
}

impl RosterEntry {
    /// The player joins the game: from now on the look-ups of the roster find the player.
    /// A login that replaces this one wakes the player, unless its flag is set already.
    pub(crate) fn begin_session(&self, player: &Arc<PlayerHandle>) {
        let mut scopes = self.roster.lock();
        // An entry has one session.
        if self.login.player.set(Arc::clone(player)).is_ok()
            && let Some(logins) = scopes.get_mut(&self.login.scope)
        {
            logins.add(player);
        }
    }

    /// The player's name, if it is not proved.
    pub(crate) fn unproved_name(&self) -> Option<&Arc<str>> {
        self.login.name.as_ref()
    }

    /// Set when another login of the player replaces this one.
    pub(crate) fn replaced(&self) -> &Flag {
        &self.login.replaced
    }

    /// The same flag, to be kept beside this.
    pub(crate) fn keep_replaced(&self) -> Replaced {
        Replaced(Arc::clone(&self.login))
    }
}

impl Drop for RosterEntry {
    fn drop(&mut self) {
        let Login {
            scope,
            uuid,
            name,
            player,
            ..
        } = &*self.login;
        let mut scopes = self.roster.lock();
        if let Some(logins) = scopes.get_mut(scope) {
            // Both are of this login: while they are taken, no other can have them.
            logins.by_uuid.remove(uuid);
            if let Some(name) = name {
                let name: &dyn UnprovedName = &&**name;
                logins.by_name.remove(name);
            }
            if let Some(player) = player.get() {
                logins.remove(player);
            }
            if logins.by_uuid.is_empty() {
                scopes.remove(scope);
            }
        }
        drop(scopes);
        self.login.is_gone.store(true, atomic::Ordering::Release);
        self.login.replaced.wake();
    }
}

/// The order of names, in which upper and lower case are the same.
fn in_any_case(name: &str, other: &str) -> Ordering {
    let name = name.bytes().map(|byte| byte.to_ascii_lowercase());
    name.cmp(other.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The order of players by their names.
fn by_name(player: &Arc<PlayerHandle>, other: &Arc<PlayerHandle>) -> Ordering {
    let (name, other) = (player.name(), other.name());
    in_any_case(name, other).then_with(|| name.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: [u8; 16] = [1; 16];
    const BOB: [u8; 16] = [2; 16];

    /// The players of a scope are in the order of their names, in whatever order they come,
    /// and each is found by its name in any case until its entry is removed. Of two names
    /// that differ in case, each is found by itself.
    #[tokio::test]
    async fn players_are_found_by_their_names() {
        let roster = Arc::new(Roster::default());
        let names = ["delta", "Alpha", "charlie", "alpha", "Bravo", "alphabet"];
        let mut entries = Vec::new();
        for (uuid, name) in (1..).zip(names) {
            let refuse = DuplicateLogin::Refuse;
            let entry = roster.enter("a", [uuid; 16], None, refuse).await.unwrap();
            assert!(
                roster
                    .find("a", name)
                    .is_none_or(|found| found.name() != name)
            );
            entry.begin_session(&PlayerHandle::named(name));
            entries.push(entry);
        }
        let found = |name: &str| {
            roster
                .find("a", name)
                .map(|player| player.name().to_owned())
        };
        let all = || {
            let players = roster.players_in("a").into_iter();
            players
                .map(|player| player.name().to_owned())
                .collect::<Vec<_>>()
        };
        let sorted = ["Alpha", "alpha", "alphabet", "Bravo", "charlie", "delta"];
        assert_eq!(all(), sorted);
        for name in sorted {
            assert_eq!(found(name).as_deref(), Some(name));
        }
        assert_eq!(found("ALPHA").as_deref(), Some("Alpha"));
        assert_eq!(found("BRAVO").as_deref(), Some("Bravo"));
        for unknown in ["", "alph", "alphabets", "zulu"] {
            assert_eq!(found(unknown), None);
        }
        assert_eq!(roster.len_of("a"), 6);
        // "Alpha".
        drop(entries.remove(1));
        assert_eq!(found("Alpha").as_deref(), Some("alpha"));
        assert_eq!(all(), sorted[1..]);
        drop(entries);
        assert_eq!((roster.len(), roster.len_of("a")), (0, 0));
    }

    /// One player of each requested server is found, if the player is in its game.
    #[tokio::test]
    async fn one_player_carries_for_a_server() {
        let roster = Arc::new(Roster::default());
        let mut entries = Vec::new();
        for (uuid, name, server, is_in_game) in [
            (1, "Alice", "lobby", true),
            (2, "Bob", "lobby", true),
            (3, "Carol", "arena", false),
            (4, "Dave", "mines", true),
        ] {
            let refuse = DuplicateLogin::Refuse;
            let entry = roster.enter("a", [uuid; 16], None, refuse).await.unwrap();
            let player = PlayerHandle::named(name);
            player.set_server(&server.into(), &Arc::default());
            if is_in_game {
                player.set_available();
            }
            entry.begin_session(&player);
            entries.push(entry);
        }
        let carriers = roster.one_on_each("a", vec!["lobby", "arena", "empty"]);
        assert_eq!(carriers.len(), 1);
        assert_eq!(carriers["lobby"].name(), "Alice");
    }

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
        assert!(
            roster.lock().is_empty(),
            "a scope without logins is removed"
        );
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
