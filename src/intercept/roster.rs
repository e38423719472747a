//! The roster: who is logged in, and that each player is logged in once.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

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
struct ByUuid(Arc<PlayerHandle>);

impl Borrow<[u8; 16]> for ByUuid {
    fn borrow(&self) -> &[u8; 16] {
        self.0.uuid()
    }
}

impl Hash for ByUuid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uuid().hash(state);
    }
}

impl PartialEq for ByUuid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uuid() == other.0.uuid()
    }
}

impl Eq for ByUuid {}

/// The same for its unproved name, in any case of its letters.
#[derive(Debug)]
struct ByName(Arc<PlayerHandle>);

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
        self.0.name()
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

/// The entry of a login, removed on drop.
#[derive(Debug)]
pub(crate) struct RosterEntry {
    roster: Arc<Roster>,
    player: Arc<PlayerHandle>,
}

/// The player is logged in already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duplicate;

impl Roster {
    /// The name of a scope, shared by its players.
    pub(crate) fn scope(&self, name: &str) -> Arc<str> {
        match self.lock().get_key_value(name) {
            Some((scope, _)) => Arc::clone(scope),
            None => name.into(),
        }
    }

    /// Enters a player in the scope of the player. No other login there may have the same id,
    /// and, if the name is not proved, none with an unproved name the same name.
    ///
    /// # Errors
    ///
    /// When the player is logged in and that login is not replaced.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        player: Arc<PlayerHandle>,
        policy: DuplicateLogin,
    ) -> Result<RosterEntry, Duplicate> {
        let refused_at = Instant::now() + ENDING_WAIT;
        let replacing = async {
            loop {
                let other = match self.take(&player) {
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
                other.replace();
                other.gone().await;
            }
        };
        timeout(REPLACE_WAIT, replacing)
            .await
            .unwrap_or(Err(Duplicate))
    }

    /// Ends the sessions of all players, when the proxy ends. Sessions do not wait for the
    /// token of the proxy each, which would need memory for as long as they last.
    pub(crate) fn stop_all(&self) {
        let scopes = self.lock();
        let logins = scopes.values().flat_map(|scope| &scope.by_uuid);
        for ByUuid(player) in logins {
            player.stop();
        }
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

    /// Enters a login. The error is one that is in its way.
    fn take(
        self: &Arc<Self>,
        player: &Arc<PlayerHandle>,
    ) -> Result<RosterEntry, Arc<PlayerHandle>> {
        let mut scopes = self.lock();
        let unproved_name = player.unproved_name();
        if let Some(logins) = scopes.get(&**player.scope()) {
            let by_uuid = logins.by_uuid.get(player.uuid()).map(|login| &login.0);
            let by_name = || {
                let name: &dyn UnprovedName = &unproved_name?;
                Some(&logins.by_name.get(name)?.0)
            };
            if let Some(other) = by_uuid.or_else(by_name) {
                return Err(Arc::clone(other));
            }
        }
        let logins = scopes.entry(Arc::clone(player.scope())).or_default();
        logins.by_uuid.insert(ByUuid(Arc::clone(player)));
        if unproved_name.is_some() {
            logins.by_name.insert(ByName(Arc::clone(player)));
        }
        Ok(RosterEntry {
            roster: Arc::clone(self),
            player: Arc::clone(player),
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
    /// The player.
    pub(crate) fn player(&self) -> &Arc<PlayerHandle> {
        &self.player
    }

    /// The player joins the game: from now on the look-ups of the roster find the player.
    /// Called once.
    pub(crate) fn begin_session(&self) {
        if let Some(logins) = self.roster.lock().get_mut(&**self.player.scope()) {
            logins.add(&self.player);
        }
    }
}

impl Drop for RosterEntry {
    fn drop(&mut self) {
        let Self { roster, player } = self;
        let mut scopes = roster.lock();
        if let Some(logins) = scopes.get_mut(&**player.scope()) {
            // Both are of this login: while they are taken, no other can have them.
            logins.by_uuid.remove(player.uuid());
            if let Some(name) = player.unproved_name() {
                let name: &dyn UnprovedName = &name;
                logins.by_name.remove(name);
            }
            logins.remove(player);
            if logins.by_uuid.is_empty() {
                scopes.remove(&**player.scope());
            }
        }
        drop(scopes);
        player.set_gone();
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
    use std::future::poll_fn;

    use super::super::player_handle::SessionRequest;
    use super::*;

    const ALICE: [u8; 16] = [1; 16];
    const BOB: [u8; 16] = [2; 16];

    /// Enters a player. `name` is given if it is not proved.
    async fn enter(
        roster: &Arc<Roster>,
        scope: &str,
        uuid: [u8; 16],
        name: Option<&str>,
        policy: DuplicateLogin,
    ) -> Result<RosterEntry, Duplicate> {
        let name_or = name.unwrap_or("proved");
        let player = PlayerHandle::in_scope(scope, uuid, name_or, name.is_none());
        roster.enter(player, policy).await
    }

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
            let player = PlayerHandle::in_scope("a", [uuid; 16], name, true);
            let entry = roster.enter(player, refuse).await.unwrap();
            assert!(
                roster
                    .find("a", name)
                    .is_none_or(|found| found.name() != name)
            );
            entry.begin_session();
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
            let player = PlayerHandle::in_scope("a", [uuid; 16], name, true);
            player.set_server(&server.into(), &Arc::default());
            if is_in_game {
                player.set_available();
            }
            let entry = roster.enter(player, refuse).await.unwrap();
            entry.begin_session();
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
        let alice = enter(&roster, "a", ALICE, Some("Alice"), refuse)
            .await
            .unwrap();
        assert!(enter(&roster, "a", ALICE, None, refuse).await.is_err());
        assert!(
            enter(&roster, "a", BOB, Some("aLICE"), refuse)
                .await
                .is_err()
        );
        // A login on another server and one of another player are independent.
        let _elsewhere = enter(&roster, "b", ALICE, Some("Alice"), refuse)
            .await
            .unwrap();
        let _bob = enter(&roster, "a", BOB, None, refuse).await.unwrap();
        drop(alice);
        assert!(
            enter(&roster, "a", ALICE, Some("alice"), refuse)
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
            let first = enter(&roster, "a", ALICE, None, refuse).await.unwrap();
            let ends = async {
                tokio::time::sleep(lasts).await;
                drop(first);
            };
            let ((), second) = tokio::join!(ends, enter(&roster, "a", ALICE, None, refuse));
            assert_eq!(second.is_ok(), is_let_in, "{lasts:?}");
        }
    }

    /// A login that replaces another waits until that one has ended. If two try it at the
    /// same time, only one gets the entry.
    #[tokio::test]
    async fn a_second_login_replaces() {
        let roster = Arc::new(Roster::default());
        let replace = DuplicateLogin::Replace;
        let first = enter(&roster, "a", ALICE, None, replace).await.unwrap();
        let second = tokio::spawn({
            let roster = Arc::clone(&roster);
            async move { enter(&roster, "a", ALICE, None, replace).await }
        });
        first.player().replaced().wait().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(!second.player().replaced().is_set());
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
        let _first = enter(&roster, "a", ALICE, None, replace).await.unwrap();
        assert!(enter(&roster, "a", ALICE, None, replace).await.is_err());
    }
    /// When the proxy ends, all sessions are woken to end, also that of a player who is not in
    /// the game yet.
    #[tokio::test]
    async fn all_sessions_are_stopped() {
        let roster = Arc::new(Roster::default());
        let refuse = DuplicateLogin::Refuse;
        let playing = enter(&roster, "a", ALICE, None, refuse).await.unwrap();
        playing.begin_session();
        let joining = enter(&roster, "b", BOB, None, refuse).await.unwrap();
        let waiting = [&playing, &joining].map(|entry| {
            let player = Arc::clone(entry.player());
            tokio::spawn(poll_fn(move |context| player.poll_request(context)))
        });
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        roster.stop_all();
        for waiting in waiting {
            let request = infrarust_test_support::within("the end", waiting).await;
            assert!(matches!(request.unwrap(), SessionRequest::End));
        }
    }
}
