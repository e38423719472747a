//! The answers of backends to status pings, kept for a while.
//!
//! An answer is kept for each server, protocol version and host. If many clients ask at
//! once, one of them causes a request to the backend. The others wait for its answer, or
//! get the last good one if there is one. A backend that does not answer is not asked again
//! for a moment.
//!
//! Values that a client can invent must not each cause a request: unknown versions share
//! one answer, and only those parts of the host field count that can change an answer
//! ([`Key`]). Names under a wildcard can still be invented, so each client may only cause a
//! part of the running requests ([`Shares`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limit::ClientKey;
use crate::protocol::version;

/// The bounds of the cache of status answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCache {
    /// How long an answer is good; zero switches the cache off.
    pub ttl: Duration,
    /// The number of kept answers of at most 32 KiB each; a longer one counts as several.
    pub max_entries: u64,
}

/// How long a failure is remembered: long enough that many pings cause one attempt at a
/// dead backend, and short enough that players do not notice the delay after its start.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// How long an expired answer is kept for clients that ask while the next one is fetched,
/// which takes some seconds at most.
const LAST_GOOD_TTL: Duration = Duration::from_secs(30);
/// The most running requests to one server for one client. The players behind one address
/// ask for the same few answers.
const FETCHES_PER_CLIENT_MAX: usize = 2;
/// An answer of up to this number of bytes takes one of `max_entries` places, a longer one
/// takes several. An icon has some 10 KiB; only long lists of mods and hostile backends
/// need more. A client that pings with many versions of the protocol fills all places, and
/// the memory has to be bounded then, too.
const PLACE_BYTES: usize = 32 * 1024;
/// Bytes of a host that do not count towards the size, like the overhead of the table:
/// enough for every host that a client can send.
const HOST_BYTES_FREE: usize = 1024;

/// The answers of backends, kept for a while.
#[derive(Debug)]
pub(crate) struct StatusAnswers {
    kept: Option<Cache<Key, Kept>>,
    ttl: Duration,
}

/// Clients with equal keys get the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The revision of the server's configuration.
    pub(crate) revision: u64,
    /// The form of the answer.
    pub(crate) form: Form,
    /// The host in the request to the backend, in a normal form and without the tails of
    /// proxies.
    pub(crate) host: String,
    /// The mod loader of the client.
    pub(crate) marker: Marker,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Of 1.7 and newer, for this protocol version.
    Json(i32),
    /// For versions before 1.7, distinguished by the length and protocol of the ping.
    Legacy(usize, Option<u8>),
}

/// The protocol of a status request without a particular version, by convention of server
/// lists: for clients before 1.7 and for unknown versions.
pub(crate) const ANY_PROTOCOL: i32 = -1;

/// Stands for all protocols of pings before 1.7 that no game has.
const ANY_LEGACY_PROTOCOL: u8 = 0;

impl Form {
    /// The form for a client with this version: one for each known version, and one for all
    /// others.
    pub(crate) fn json(protocol: i32) -> Self {
        Self::Json(if version::is_known(protocol) {
            protocol
        } else {
            ANY_PROTOCOL
        })
    }

    /// The form for a ping before 1.7, which is known by its length in bytes.
    pub(crate) fn legacy(ping_bytes: usize, protocol: Option<u8>) -> Self {
        let protocol = protocol.map(|protocol| match version::is_known_legacy(protocol) {
            true => protocol,
            false => ANY_LEGACY_PROTOCOL,
        });
        // `FE`, `FE 01`, and what is longer.
        Self::Legacy(ping_bytes.min(3), protocol)
    }
}

/// The mod loader of a client, as far as answers may depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Marker {
    /// None.
    Vanilla,
    /// Forge for 1.7 to 1.12.
    Fml,
    /// Forge for 1.13 to 1.17.
    Fml2,
    /// Forge for 1.18 to 1.20.1.
    Fml3,
    /// Forge since 1.20.2, whatever version of its network.
    Forge,
    /// Any other.
    Other,
}

impl Marker {
    /// Reads the markers of a host field.
    pub(crate) fn of(markers: &str) -> Self {
        match markers.trim_matches('\0') {
            "" => Self::Vanilla,
            "FML" => Self::Fml,
            "FML2" => Self::Fml2,
            "FML3" => Self::Fml3,
            other if other.starts_with("FORGE") => Self::Forge,
            _ => Self::Other,
        }
    }
}

/// An answer with its age.
#[derive(Debug, Clone)]
struct Kept {
    answer: Answer,
    fetched: Instant,
    /// Whether the next one is being fetched.
    is_refreshing: Arc<AtomicBool>,
}

impl Kept {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            fetched: Instant::now(),
            is_refreshing: Arc::default(),
        }
    }
}

/// The content of the cache for a request.
pub(crate) enum Found {
    /// An answer to be given.
    Answer(Answer),
    /// The last good answer, which has expired. The receiver of this fetches the next one,
    /// and all others get this one until then.
    Old(Refresh),
    /// Nothing.
    Nothing,
}

/// The right to fetch the next answer; given back on drop.
#[derive(Debug)]
pub(crate) struct Refresh {
    /// The last good answer.
    pub(crate) last: Answer,
    is_refreshing: Arc<AtomicBool>,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.is_refreshing.store(false, Ordering::Release);
    }
}

/// What a backend answered; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The packet that carries the status. It has been read once, so that it
    /// can be read again.
    Json(Bytes),
    /// A packet of a protocol before 1.7.
    Legacy(Bytes),
    /// It did not answer.
    Failed,
    /// It was not asked, because too many requests were running.
    NotAsked,
}

impl Answer {
    /// The number of places that it takes in the cache; at least one.
    fn places(&self, key: &Key) -> u32 {
        let packet_bytes = match self {
            Answer::Json(packet) | Answer::Legacy(packet) => packet.len(),
            Answer::Failed | Answer::NotAsked => 0,
        };
        // A plugin may choose any host.
        let bytes = packet_bytes + key.host.len().saturating_sub(HOST_BYTES_FREE);
        u32::try_from(bytes.div_ceil(PLACE_BYTES)).map_or(u32::MAX, |places| places.max(1))
    }
}

impl StatusAnswers {
    pub(crate) fn new(config: &StatusCache) -> Self {
        let ttl = config.ttl;
        let places = config.max_entries;
        let kept = (!ttl.is_zero()).then(|| {
            Cache::builder()
                .max_capacity(places)
                // An answer that is longer than all places together is kept alone.
                .weigher(move |key: &Key, kept: &Kept| {
                    let taken = kept.answer.places(key);
                    u32::try_from(places).map_or(taken, |all| taken.min(all))
                })
                .expire_after(Expiry { ttl })
                .build()
        });
        Self { kept, ttl }
    }

    /// The kept answer, if any.
    pub(crate) async fn find(&self, key: &Key) -> Found {
        let Some(kept) = &self.kept else {
            return Found::Nothing;
        };
        let Some(kept) = kept.get(key).await else {
            return Found::Nothing;
        };
        let is_good = !matches!(kept.answer, Answer::Failed | Answer::NotAsked);
        if !is_good || kept.fetched.elapsed() < self.ttl {
            return Found::Answer(kept.answer);
        }
        if kept.is_refreshing.swap(true, Ordering::AcqRel) {
            return Found::Answer(kept.answer);
        }
        Found::Old(Refresh {
            last: kept.answer,
            is_refreshing: kept.is_refreshing,
        })
    }

    /// The kept answer, or that of `fetch`, which only one of many callers runs.
    pub(crate) async fn get(&self, key: Key, fetch: impl Future<Output = Answer>) -> Answer {
        match &self.kept {
            Some(kept) => {
                let fetch = async { Kept::new(fetch.await) };
                kept.get_with(key, fetch).await.answer
            }
            None => fetch.await,
        }
    }

    /// Replaces the last answer by that of `fetch`. If the backend could not be asked,
    /// returns the last one again.
    pub(crate) async fn renew(
        &self,
        key: Key,
        refresh: Refresh,
        fetch: impl Future<Output = Answer>,
    ) -> Answer {
        match (fetch.await, &self.kept) {
            (Answer::NotAsked, _) => refresh.last.clone(),
            (answer, Some(kept)) => {
                kept.insert(key, Kept::new(answer.clone())).await;
                answer
            }
            (answer, None) => answer,
        }
    }
}

/// Answers live for the configured time and a little longer, failures for a moment.
struct Expiry {
    ttl: Duration,
}

impl Expiry {
    fn after(&self, kept: &Kept) -> Duration {
        match kept.answer {
            Answer::Json(..) | Answer::Legacy(_) => self.ttl + LAST_GOOD_TTL,
            Answer::Failed => self.ttl.min(FAILURE_TTL),
            Answer::NotAsked => Duration::ZERO,
        }
    }
}

impl moka::Expiry<Key, Kept> for Expiry {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(self.after(kept))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.after(kept))
    }
}

/// The running requests of each client to one server.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    clients: Arc<Mutex<HashMap<ClientKey, Share>>>,
}

#[derive(Debug)]
struct Share {
    places: Arc<Semaphore>,
    /// The number of tasks that hold or wait for a place.
    askers: usize,
}

/// One place of a client's share; given back on drop.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(crate) struct ShareGuard {
    clients: Arc<Mutex<HashMap<ClientKey, Share>>>,
    client: ClientKey,
    place: Option<OwnedSemaphorePermit>,
}

impl Shares {
    /// Waits for a place in the client's share, only behind other requests of the same
    /// client. Cancel safe.
    pub(crate) async fn enter(&self, client: ClientKey) -> ShareGuard {
        let places = {
            let mut clients = lock(&self.clients);
            let share = clients.entry(client).or_insert_with(|| Share {
                places: Arc::new(Semaphore::new(FETCHES_PER_CLIENT_MAX)),
                askers: 0,
            });
            share.askers += 1;
            Arc::clone(&share.places)
        };
        let mut guard = ShareGuard {
            clients: Arc::clone(&self.clients),
            client,
            place: None,
        };
        // It is never closed.
        guard.place = places.acquire_owned().await.ok();
        guard
    }
}

impl Drop for ShareGuard {
    fn drop(&mut self) {
        drop(self.place.take());
        let mut clients = lock(&self.clients);
        if let Some(share) = clients.get_mut(&self.client) {
            share.askers -= 1;
            if share.askers == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// A poisoned lock is used on: each critical section above leaves the table
/// complete.
fn lock(clients: &Mutex<HashMap<ClientKey, Share>>) -> MutexGuard<'_, HashMap<ClientKey, Share>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: i32) -> Key {
        Key {
            revision: 0,
            form: Form::Json(protocol),
            host: String::new(),
            marker: Marker::Vanilla,
        }
    }

    /// Known versions are distinguished, and all others share one answer.
    #[test]
    fn invented_versions_share_an_answer() {
        let known = [4, 5, 47, 340, 765, 774].map(Form::json);
        let distinct: std::collections::HashSet<_> = known.iter().collect();
        assert_eq!(distinct.len(), known.len());
        for invented in [i32::MIN, -2, 0, 3, 46, 1000, 100_000, 0x4000_0100, i32::MAX] {
            assert_eq!(Form::json(invented), Form::Json(ANY_PROTOCOL), "{invented}");
        }
        assert_ne!(Form::legacy(30, Some(78)), Form::legacy(30, Some(74)));
        assert_eq!(Form::legacy(30, Some(200)), Form::legacy(99, Some(201)));
        let markers = ["\0FMLx\0", "\0FML9\0", "\0FML2\0\0FML3\0"];
        assert!(
            markers
                .iter()
                .all(|marker| Marker::of(marker) == Marker::Other)
        );
        assert_eq!(Marker::of("\0FORGE1\0"), Marker::of("\0FORGE2"));
        assert_ne!(Marker::of("\0FML2\0"), Marker::of("\0FML3\0"));
    }

    /// While one caller fetches the next answer, others get the last good one. If it is
    /// cancelled, the next caller may fetch. A failure replaces the answer.
    #[tokio::test]
    async fn the_last_good_answer_is_returned_during_a_fetch() {
        let answers = StatusAnswers::new(&StatusCache {
            ttl: Duration::from_millis(1),
            max_entries: 8,
        });
        let good = || async { Answer::Legacy(Bytes::from_static(b"good")) };
        answers.get(key(1), good()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Found::Old(refresh) = answers.find(&key(1)).await else {
            panic!("it is too old");
        };
        let meanwhile = answers.find(&key(1)).await;
        assert!(matches!(meanwhile, Found::Answer(Answer::Legacy(_))));
        drop(refresh);
        let Found::Old(refresh) = answers.find(&key(1)).await else {
            panic!("nobody fetches it");
        };
        let not_asked = answers.renew(key(1), refresh, async { Answer::NotAsked });
        assert!(matches!(not_asked.await, Answer::Legacy(_)));
        let Found::Old(refresh) = answers.find(&key(1)).await else {
            panic!("it is still too old");
        };
        let failed = answers.renew(key(1), refresh, async { Answer::Failed });
        assert!(matches!(failed.await, Answer::Failed));
        let found = answers.find(&key(1)).await;
        assert!(!matches!(found, Found::Answer(Answer::Legacy(_))));
    }

    /// A client waits only behind its own requests, and nothing is kept of a client without
    /// requests.
    #[tokio::test]
    async fn each_client_has_a_share() {
        use futures_util::FutureExt;
        let client = |n: u8| ClientKey::from(std::net::IpAddr::from([192, 0, 2, n]));
        let shares = Shares::default();
        let held = [shares.enter(client(1)).await, shares.enter(client(1)).await];
        assert!(shares.enter(client(1)).now_or_never().is_none());
        assert!(shares.enter(client(2)).now_or_never().is_some());
        let [first, second] = held;
        drop(first);
        assert!(shares.enter(client(1)).now_or_never().is_some());
        drop(second);
        assert!(lock(&shares.clients).is_empty());
    }

    /// `max_entries` bounds the memory of answers of any length, and an answer that is
    /// longer than that is still shared.
    #[tokio::test]
    async fn long_answers_take_several_places() {
        for (max_entries, bytes, kept_max) in [
            (8, PLACE_BYTES, 8),
            (8, 2 * PLACE_BYTES, 4),
            (1, 8 * PLACE_BYTES, 1),
        ] {
            let answers = StatusAnswers::new(&StatusCache {
                ttl: Duration::from_secs(3600),
                max_entries,
            });
            let kept = answers.kept.as_ref().unwrap();
            for protocol in 0..20 {
                let answer = Answer::Legacy(vec![0; bytes].into());
                answers.get(key(protocol), async { answer }).await;
                kept.run_pending_tasks().await;
            }
            assert_eq!(kept.entry_count(), kept_max, "{max_entries} of {bytes}");
        }
    }
}
