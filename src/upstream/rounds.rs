//! Detects logins that come back to the proxy: through a port forward or a
//! second proxy.
//!
//! No address shows that a connection leads back here. But if several logins with the
//! same name and protocol version wait for the first byte of their backends at the
//! same time, they may be one login that goes round in a loop. They may also be
//! different clients with the same name. A test decides: the login that has waited
//! longest closes the connection to its backend, which loses nothing yet. In a loop,
//! the newest login then loses its client. Otherwise the oldest dials again.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Equal logins that may wait for their backends before the next one is suspected.
const EQUAL_LOGINS_MAX: usize = 8;
/// How long a suspected login waits for an answer to one of the others: a server
/// answers a login start within a round trip, a loop never does.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long it may take until the client of a suspected login leaves, after the oldest
/// login has closed the connection to its backend.
const HANG_UP_WAIT: Duration = Duration::from_secs(1);

/// How many logins usually wait. The table that more of them needed, after the restart
/// of a server, is freed.
const WAITING_USUAL: usize = 256;

/// The logins that wait for the first byte of their backends.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Mutex<HashMap<Arc<Key>, Equal>>);

/// What identifies a login, and is unchanged by other proxies on the way.
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
    waiting: Vec<Arc<Login>>,
    /// Notified when one of them no longer waits; made at the first suspicion.
    answered: Option<Arc<Notify>>,
    /// One of them is being tested, or they are known to be different players.
    is_settled: bool,
}

/// The state of the test of a waiting login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It has to close the connection to its backend and wait for the result.
    HangUp,
    /// It has come back to the proxy.
    CameBack,
    /// It is not part of a loop.
    Cleared,
}

/// A waiting login, as the others see it. Small, since every login makes one.
#[derive(Debug)]
struct Login {
    doubt: Mutex<Doubt>,
    /// Woken when the doubt changes. Only the task of the login waits for that.
    changed: AtomicWaker,
}

/// A login that waits for the first byte of its backend.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    rounds: &'a Rounds,
    key: &'a Arc<Key>,
    login: Arc<Login>,
}

impl Rounds {
    /// Remembers a login until the guard is dropped.
    pub(crate) fn enter<'a>(&'a self, key: &'a Arc<Key>) -> Waiting<'a> {
        let login = Arc::new(Login {
            doubt: Mutex::new(Doubt::None),
            changed: AtomicWaker::new(),
        });
        let mut all = self.lock();
        let equal = all.entry(Arc::clone(key)).or_default();
        if equal.waiting.is_empty() {
            // Nearly all are alone.
            equal.waiting.reserve_exact(1);
        }
        equal.waiting.push(Arc::clone(&login));
        Waiting {
            rounds: self,
            key,
            login,
        }
    }

    /// Whether enough equal logins wait that the next one has to be tested.
    pub(crate) fn is_doubtful(&self, key: &Key) -> bool {
        self.lock().get(key).is_some_and(Equal::is_doubtful)
    }

    /// Whether a new login is one of the waiting ones that has come back to the proxy.
    /// `left` completes when its client has left. Only tests if [`EQUAL_LOGINS_MAX`]
    /// equal logins wait already.
    pub(crate) async fn is_loop(&self, key: &Key, left: impl Future<Output = ()>) -> bool {
        let answered = {
            let mut all = self.lock();
            match all.get_mut(key) {
                Some(equal) if equal.is_doubtful() => {
                    // Made under the lock, so that no notification is missed.
                    Arc::clone(equal.answered.get_or_insert_default()).notified_owned()
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
                    equal.waiting.first().map(Arc::clone)
                }
                Some(_) | None => None,
            }
        };
        let Some(oldest) = oldest else {
            return false;
        };
        oldest.set(Doubt::HangUp);
        let came_back = timeout(HANG_UP_WAIT, left).await.is_ok();
        oldest.set(if came_back {
            Doubt::CameBack
        } else {
            Doubt::Cleared
        });
        came_back
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Key>, Equal>> {
        // A panic under the lock leaves the value consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Equal {
    fn is_doubtful(&self) -> bool {
        self.waiting.len() >= EQUAL_LOGINS_MAX && !self.is_settled
    }
}

impl Login {
    fn doubt(&self) -> Doubt {
        *self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, doubt: Doubt) {
        *self.doubt.lock().unwrap_or_else(PoisonError::into_inner) = doubt;
        self.changed.wake();
    }

    /// Ready when the state is one that `is_awaited` accepts.
    fn poll_doubt(&self, cx: &mut Context<'_>, is_awaited: fn(Doubt) -> bool) -> Poll<Doubt> {
        // Before the state is read, so that no change is missed.
        self.changed.register(cx.waker());
        match self.doubt() {
            doubt if is_awaited(doubt) => Poll::Ready(doubt),
            _ => Poll::Pending,
        }
    }
}

impl Waiting<'_> {
    /// Ready when the login has to close the connection to its backend. For the task of
    /// the login: only the last one that has polled is woken.
    pub(crate) fn poll_has_to_hang_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.login
            .poll_doubt(cx, |doubt| doubt != Doubt::None)
            .map(drop)
    }

    /// Whether the closed connection has led back to the proxy.
    pub(crate) async fn came_back(&self) -> bool {
        let known = poll_fn(|cx| {
            let is_known = |doubt| matches!(doubt, Doubt::CameBack | Doubt::Cleared);
            self.login.poll_doubt(cx, is_known)
        });
        // The login that started the test may have been stopped since.
        timeout(2 * HANG_UP_WAIT, known)
            .await
            .is_ok_and(|doubt| doubt == Doubt::CameBack)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.rounds.lock();
        let Some(equal) = all.get_mut(self.key) else {
            return;
        };
        equal
            .waiting
            .retain(|login| !Arc::ptr_eq(login, &self.login));
        if let Some(answered) = &equal.answered {
            answered.notify_waiters();
        }
        if equal.waiting.is_empty() {
            all.remove(self.key);
        }
        if all.is_empty() && all.capacity() > WAITING_USUAL {
            all.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn key() -> Arc<Key> {
        Arc::new(Key {
            player: "Steve".to_owned(),
            protocol: 47,
        })
    }

    /// If no login is answered, the oldest closes the connection to its backend; it is a
    /// loop if the client of the suspected login leaves then.
    #[tokio::test(start_paused = true)]
    async fn a_loop_is_distinguished_from_many_logins() {
        let (rounds, key) = (Rounds::default(), key());
        let enter = |count: usize| (0..count).map(|_| rounds.enter(&key)).collect::<Vec<_>>();

        let mut waiting = enter(EQUAL_LOGINS_MAX - 1);
        assert!(
            !rounds.is_loop(&key, pending()).await,
            "this number is allowed"
        );
        waiting.push(rounds.enter(&key));
        let other = Key {
            protocol: 48,
            ..Key::clone(&key)
        };
        assert!(
            !rounds.is_loop(&other, pending()).await,
            "that is another login"
        );

        // The oldest one hangs up, and the last one's client follows.
        let hung_up = poll_fn(|cx| waiting[0].poll_has_to_hang_up(cx));
        assert!(rounds.is_loop(&key, hung_up).await);
        assert!(waiting[0].came_back().await);
        assert_eq!(waiting[1].login.doubt(), Doubt::None);
        drop(waiting);
        assert!(rounds.lock().is_empty());

        // The client stays, so the oldest login is not part of a loop, and no other login
        // is tested as long as these wait.
        let waiting = enter(EQUAL_LOGINS_MAX);
        assert!(!rounds.is_loop(&key, pending()).await);
        assert!(!waiting[0].came_back().await);
        assert_eq!(waiting[0].login.doubt(), Doubt::Cleared);
        let began = tokio::time::Instant::now();
        assert!(!rounds.is_loop(&key, pending()).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(waiting);

        // One login is answered, so no connection is closed.
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
                .all(|login| login.login.doubt() == Doubt::None)
        );
    }
}
