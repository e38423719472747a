//! Connections that have not yet said what they want.
//!
//! Each costs a descriptor and some memory for as long as the handshake may take,
//! so both their number and the share of one client are bounded. At the limit the
//! oldest is evicted: a player's handshake arrives within a round trip, so the
//! connection that has waited longest is least likely to be a player.
//!
//! A connection that waits for the proxy is [busy](PendingGuard::busy): it is
//! evicted only when no other is left.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

use super::ClientKey;

/// The connections that are pending now.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    inner: Arc<Mutex<Inner>>,
    max: usize,
    per_client_max: u32,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Connections that the proxy waits for, by age.
    silent: BTreeMap<u64, Arc<Notify>>,
    /// Connections that wait for the proxy, by age.
    busy: BTreeMap<u64, Arc<Notify>>,
    by_client: HashMap<ClientKey, u32>,
}

impl Inner {
    fn len(&self) -> usize {
        self.silent.len() + self.busy.len()
    }

    /// A number that is higher than all before.
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A pending connection's slot; given back on drop.
#[derive(Debug)]
#[must_use = "the slot is given back when this is dropped"]
pub(crate) struct PendingGuard {
    inner: Arc<Mutex<Inner>>,
    /// Its age; written under the lock of `inner` alone.
    id: AtomicU64,
    client: OnceLock<ClientKey>,
    per_client_max: u32,
    evicted: Arc<Notify>,
}

/// While this lives the connection waits for the proxy. It is not evicted as long
/// as there is one that keeps the proxy waiting.
#[derive(Debug)]
#[must_use = "the connection counts as silent again when this is dropped"]
pub(crate) struct Busy<'a> {
    guard: &'a PendingGuard,
}

/// Too many connections of this client are pending already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many connections of one client wait for their handshake")]
pub(crate) struct Refused;

impl Pending {
    /// Room for `max` connections, of which one client may have `per_client_max`.
    #[must_use]
    pub(crate) fn new(max: usize, per_client_max: u32) -> Self {
        Self {
            inner: Arc::default(),
            max: max.max(1),
            per_client_max,
        }
    }

    /// Takes a slot. If none is free, the oldest connection is evicted.
    pub(crate) fn enter(&self) -> PendingGuard {
        let evicted = Arc::new(Notify::new());
        let mut inner = lock(&self.inner);
        if inner.len() >= self.max {
            let oldest = inner.silent.pop_first();
            if let Some((_, oldest)) = oldest.or_else(|| inner.busy.pop_first()) {
                oldest.notify_one();
            }
        }
        let id = inner.next();
        inner.silent.insert(id, Arc::clone(&evicted));
        PendingGuard {
            inner: Arc::clone(&self.inner),
            id: AtomicU64::new(id),
            client: OnceLock::new(),
            per_client_max: self.per_client_max,
            evicted,
        }
    }

    /// Evicts all connections that keep the proxy waiting.
    pub(crate) fn evict_silent(&self) {
        for silent in std::mem::take(&mut lock(&self.inner).silent).values() {
            silent.notify_one();
        }
    }
}

impl PendingGuard {
    /// Counts this connection against its client, once the client is known.
    /// Only the first call counts.
    ///
    /// # Errors
    ///
    /// When the client has its share of pending connections already.
    pub(crate) fn attribute(&self, client: ClientKey) -> Result<(), Refused> {
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

    /// Marks the connection as one that waits for the proxy. Afterwards it counts as a new
    /// connection.
    pub(crate) fn busy(&self) -> Busy<'_> {
        let mut inner = lock(&self.inner);
        let id = self.id.load(Ordering::Relaxed);
        // It is in neither table once it is evicted.
        if let Some(evicted) = inner.silent.remove(&id) {
            inner.busy.insert(id, evicted);
        }
        Busy { guard: self }
    }

    /// Completes when this connection is evicted. Cancel safe.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        let id = self.id.load(Ordering::Relaxed);
        inner.silent.remove(&id);
        inner.busy.remove(&id);
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

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.guard.inner);
        let id = self.guard.id.load(Ordering::Relaxed);
        if let Some(evicted) = inner.busy.remove(&id) {
            let id = inner.next();
            self.guard.id.store(id, Ordering::Relaxed);
            inner.silent.insert(id, evicted);
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

    use futures_util::FutureExt;

    use super::*;

    fn client(address: &str) -> ClientKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// When all slots are taken the oldest connection is evicted.
    #[tokio::test]
    async fn the_oldest_makes_room() {
        let pending = Pending::new(2, 8);
        let (first, second) = (pending.enter(), pending.enter());
        let third = pending.enter();
        first.evicted().await;
        assert_eq!(lock(&pending.inner).len(), 2);
        drop(first);
        assert_eq!(
            lock(&pending.inner).len(),
            2,
            "an evicted connection gives nothing back twice"
        );
        drop((second, third));
        assert!(lock(&pending.inner).len() == 0);
    }

    /// A connection that waits for the proxy is not evicted while there are silent ones.
    /// Afterwards it counts as a new connection. If all connections wait for the proxy, the
    /// oldest is evicted, so that the limit holds.
    #[tokio::test]
    async fn silent_connections_go_first() {
        let is_evicted = |guard: &PendingGuard| guard.evicted().now_or_never().is_some();
        let pending = Pending::new(2, 8);
        let thinking = pending.enter();
        let busy = thinking.busy();
        let silent: Vec<_> = (0..5).map(|_| pending.enter()).collect();
        assert!(!is_evicted(&thinking));
        assert!(silent[..4].iter().all(is_evicted));
        assert_eq!(lock(&pending.inner).len(), 2);

        drop(busy);
        let newer = pending.enter();
        assert!(is_evicted(&silent[4]), "it had come before");
        assert!(!is_evicted(&thinking));

        let _busy = (thinking.busy(), newer.busy());
        let newest = pending.enter();
        assert!(is_evicted(&thinking) && !is_evicted(&newer));
        assert_eq!(lock(&pending.inner).len(), 2);
        drop(_busy);
        drop((silent, thinking, newer, newest));
        assert!(lock(&pending.inner).len() == 0);
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
