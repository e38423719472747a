//! Connections that have not yet said what they want.
//!
//! Each costs a descriptor and some memory for as long as the handshake may
//! take, so both their number and the share of one client are bounded. When
//! the number is reached the oldest goes: a player's handshake arrives within
//! a round trip, so what has waited longest is least likely to be one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

use super::ClientKey;

/// The connections that are pending now.
#[derive(Debug, Clone)]
pub struct Pending {
    inner: Arc<Mutex<Inner>>,
    max: usize,
    per_client_max: u32,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
    by_client: HashMap<ClientKey, u32>,
}

/// A pending connection's place; given back on drop.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct PendingGuard {
    inner: Arc<Mutex<Inner>>,
    id: u64,
    client: OnceLock<ClientKey>,
    per_client_max: u32,
    evicted: Arc<Notify>,
}

/// Too many connections of this client are pending already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many connections of one client wait for their handshake")]
pub struct Refused;

impl Pending {
    /// Room for `max` connections, of which one client may have `per_client_max`.
    #[must_use]
    pub fn new(max: usize, per_client_max: u32) -> Self {
        Self {
            inner: Arc::default(),
            max: max.max(1),
            per_client_max,
        }
    }

    /// Takes a place, at the cost of the oldest connection if there is none.
    pub fn enter(&self) -> PendingGuard {
        let evicted = Arc::new(Notify::new());
        let mut inner = lock(&self.inner);
        if inner.by_age.len() >= self.max
            && let Some((_, oldest)) = inner.by_age.pop_first()
        {
            oldest.notify_one();
        }
        let id = inner.next;
        inner.next += 1;
        inner.by_age.insert(id, Arc::clone(&evicted));
        PendingGuard {
            inner: Arc::clone(&self.inner),
            id,
            client: OnceLock::new(),
            per_client_max: self.per_client_max,
            evicted,
        }
    }

    /// How many connections are pending now.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.inner).by_age.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PendingGuard {
    /// Counts this connection against its client, once the client is known.
    /// Only the first call counts.
    ///
    /// # Errors
    ///
    /// When the client has its share of pending connections already.
    pub fn attribute(&self, client: ClientKey) -> Result<(), Refused> {
        let mut inner = lock(&self.inner);
        let count = inner.by_client.get(&client).copied().unwrap_or_default();
        if count >= self.per_client_max {
            return Err(Refused);
        }
        if self.client.set(client).is_ok() {
            inner.by_client.insert(client, count + 1);
        }
        Ok(())
    }

    /// Completes when this connection must make room. Cancel safe.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.by_age.remove(&self.id);
        if let Some(client) = self.client.get()
            && let Some(count) = inner.by_client.get_mut(client)
        {
            *count -= 1;
            if *count == 0 {
                inner.by_client.remove(client);
            }
        }
    }
}

/// A poisoned lock is used on: each critical section above leaves the table
/// complete or does not touch it.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(address: &str) -> ClientKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// When all places are taken the oldest connection is told to go.
    #[tokio::test]
    async fn the_oldest_makes_room() {
        let pending = Pending::new(2, 8);
        let (first, second) = (pending.enter(), pending.enter());
        let third = pending.enter();
        first.evicted().await;
        assert_eq!(pending.len(), 2);
        drop(first);
        assert_eq!(
            pending.len(),
            2,
            "an evicted connection gives nothing back twice"
        );
        drop((second, third));
        assert!(pending.is_empty());
    }

    /// One client gets its share and no more, and gets it back.
    #[test]
    fn one_client_cannot_take_all() {
        let pending = Pending::new(100, 2);
        let guards = [pending.enter(), pending.enter(), pending.enter()];
        let key = client("192.0.2.1");
        let results = guards.each_ref().map(|guard| guard.attribute(key));
        assert_eq!(results, [Ok(()), Ok(()), Err(Refused)]);
        assert_eq!(pending.enter().attribute(client("192.0.2.2")), Ok(()));
        drop(guards);
        assert_eq!(pending.enter().attribute(key), Ok(()));
        assert!(lock(&pending.inner).by_client.is_empty());
    }
}
