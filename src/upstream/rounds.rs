//! Logins that come back to the proxy through somebody else: a port forward, a
//! second proxy.
//!
//! No address tells that a connection leads back here. But while a login waits
//! for the first byte of its backend, another by the same player with the same
//! version of the protocol may be the first one, come back. Clients that all have
//! one name look the same, so it is tried: the login that waits longest hangs up
//! on its backend, where nothing is lost yet, and in a loop the last round then
//! loses its client. Otherwise it dials its backend once more.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Equal logins that may wait for their backends before the next one is doubted.
const EQUAL_LOGINS_MAX: usize = 8;
/// How long a login that is doubted waits until one of the others is answered: a
/// server answers a login start within a round trip, and a loop never does.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long a client may take to follow when the first round has hung up.
const HANG_UP_WAIT: Duration = Duration::from_secs(1);

/// The logins that wait for the first byte of their backends.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Mutex<HashMap<Key, Equal>>);

/// What survives a way through other proxies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The name that the player claims.
    pub(crate) player: String,
    /// The version of the protocol.
    pub(crate) protocol: i32,
}

/// Logins with the same key.
#[derive(Debug, Default)]
struct Equal {
    /// The oldest is first.
    waiting: VecDeque<(u64, Arc<watch::Sender<Doubt>>)>,
    answered: Arc<Notify>,
    /// One of them is being tried, or they are known to be different players.
    is_settled: bool,
}

/// What is thought of a login that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It has to hang up, and to wait for what comes of that.
    HangUp,
    /// It has come back here.
    CameBack,
    /// Another client was meant.
    Cleared,
}

/// A login that waits for the first byte of its backend.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    rounds: &'a Rounds,
    key: &'a Key,
    id: u64,
    doubt: watch::Receiver<Doubt>,
}

impl Rounds {
    /// Remembers a login until the guard is dropped.
    pub(crate) fn enter<'a>(&'a self, key: &'a Key) -> Waiting<'a> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (doubts, doubt) = watch::channel(Doubt::None);
        let mut all = self.lock();
        let equal = match all.get_mut(key) {
            Some(equal) => equal,
            None => all.entry(key.clone()).or_default(),
        };
        equal.waiting.push_back((id, Arc::new(doubts)));
        Waiting {
            rounds: self,
            key,
            id,
            doubt,
        }
    }

    /// Whether a login that has just come is one of those that wait, come back
    /// for the ninth time. `departure` completes when its client has left.
    pub(crate) async fn is_loop(&self, key: &Key, departure: impl Future<Output = ()>) -> bool {
        let answered = {
            let all = self.lock();
            match all.get(key) {
                Some(equal) if equal.is_doubtful() => {
                    // It counts from here on, and nothing between is missed.
                    Arc::clone(&equal.answered).notified_owned()
                }
                Some(_) | None => return false,
            }
        };
        if timeout(ANSWER_WAIT, answered).await.is_ok() {
            return false;
        }
        let oldest = {
            let mut all = self.lock();
            match all.get_mut(key) {
                Some(equal) if equal.is_doubtful() => {
                    equal.is_settled = true;
                    equal.waiting.front().map(|(_, oldest)| Arc::clone(oldest))
                }
                Some(_) | None => None,
            }
        };
        let Some(oldest) = oldest else {
            return false;
        };
        oldest.send_replace(Doubt::HangUp);
        let came_back = timeout(HANG_UP_WAIT, departure).await.is_ok();
        oldest.send_replace(if came_back {
            Doubt::CameBack
        } else {
            Doubt::Cleared
        });
        came_back
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Equal>> {
        // Nothing under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Equal {
    fn is_doubtful(&self) -> bool {
        self.waiting.len() >= EQUAL_LOGINS_MAX && !self.is_settled
    }
}

impl Waiting<'_> {
    /// Completes when the login has to hang up on its backend.
    pub(crate) async fn has_to_hang_up(&self) {
        let mut doubt = self.doubt.clone();
        if doubt.wait_for(|doubt| *doubt != Doubt::None).await.is_err() {
            // Nobody doubts any more.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the connection that was hung up on has led back to the proxy.
    pub(crate) async fn came_back(&self) -> bool {
        let mut doubt = self.doubt.clone();
        let known = doubt.wait_for(|doubt| matches!(doubt, Doubt::CameBack | Doubt::Cleared));
        // Who wanted to know may have been stopped.
        match timeout(2 * HANG_UP_WAIT, known).await {
            Ok(Ok(doubt)) => *doubt == Doubt::CameBack,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.rounds.lock();
        let Some(equal) = all.get_mut(self.key) else {
            return;
        };
        equal.waiting.retain(|(id, _)| *id != self.id);
        equal.answered.notify_waiters();
        if equal.waiting.is_empty() {
            all.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn key() -> Key {
        Key {
            player: "Steve".to_owned(),
            protocol: 47,
        }
    }

    /// Where nobody is answered, the login that waits longest hangs up; whether
    /// the client that was doubted leaves then decides.
    #[tokio::test(start_paused = true)]
    async fn a_loop_is_told_from_a_crowd() {
        let (rounds, key) = (Rounds::default(), key());
        let enter = |count: usize| (0..count).map(|_| rounds.enter(&key)).collect::<Vec<_>>();

        let mut waiting = enter(EQUAL_LOGINS_MAX - 1);
        assert!(
            !rounds.is_loop(&key, pending()).await,
            "there may be so many"
        );
        waiting.push(rounds.enter(&key));
        let other = Key {
            protocol: 48,
            ..key.clone()
        };
        assert!(
            !rounds.is_loop(&other, pending()).await,
            "that is another login"
        );

        // The oldest one hangs up, and the last one's client follows.
        let hung_up = waiting[0].has_to_hang_up();
        assert!(rounds.is_loop(&key, hung_up).await);
        assert!(waiting[0].came_back().await);
        assert_eq!(*waiting[1].doubt.borrow(), Doubt::None);
        drop(waiting);
        assert!(rounds.lock().is_empty());

        // The client stays: the oldest one was meant by nobody, and no other is
        // doubted as long as they wait.
        let waiting = enter(EQUAL_LOGINS_MAX);
        assert!(!rounds.is_loop(&key, pending()).await);
        assert!(!waiting[0].came_back().await);
        assert_eq!(*waiting[0].doubt.borrow(), Doubt::Cleared);
        let began = tokio::time::Instant::now();
        assert!(!rounds.is_loop(&key, pending()).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(waiting);

        // One is answered: nobody is disturbed.
        let mut waiting = enter(EQUAL_LOGINS_MAX);
        let answered = async {
            tokio::time::sleep(ANSWER_WAIT / 2).await;
            waiting.pop();
        };
        let (is_loop, ()) = tokio::join!(rounds.is_loop(&key, pending()), answered);
        assert!(!is_loop);
        assert!(
            waiting
                .iter()
                .all(|login| *login.doubt.borrow() == Doubt::None)
        );
    }
}
