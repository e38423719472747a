//! The answers of backends to status pings, kept for a while.
//!
//! An answer is kept for each server, protocol version and rewritten host. Of
//! many clients that ask at once one asks the backend and the others wait for
//! its answer; a backend that does not answer is not asked again for a moment.

use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::future::Cache;

use crate::config::model::StatusCache;

/// How long a failure is remembered: long enough that a crowd of pings costs a
/// dead backend one attempt, short enough that nobody notices after its start.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// An answer of so many bytes takes one of `max_entries` places, a longer one
/// takes several. An icon has some 10 KiB; only long lists of mods, and backends
/// that mean harm, come to more. Whoever pings with many versions of the protocol
/// fills all places, and the memory has to be bounded then, too.
const PLACE_BYTES: usize = 32 * 1024;

/// The answers of backends, kept for a while.
#[derive(Debug)]
pub(crate) struct StatusAnswers {
    kept: Option<Cache<Key, Answer>>,
}

/// What makes two askers get the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Which configuration of which server was asked.
    pub(crate) revision: u64,
    /// The form of the answer.
    pub(crate) form: Form,
    /// The host field that the backend sees.
    pub(crate) host: String,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Of 1.7 and newer, for this protocol version.
    Json(i32),
    /// Of a version before, told apart by the length and protocol of its ping.
    Legacy(usize, Option<u8>),
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
}

impl Answer {
    /// How many places it takes in the cache; at least one.
    fn places(&self) -> u32 {
        let packet_bytes = match self {
            Answer::Json(packet) | Answer::Legacy(packet) => packet.len(),
            Answer::Failed => 0,
        };
        u32::try_from(packet_bytes.div_ceil(PLACE_BYTES)).map_or(u32::MAX, |places| places.max(1))
    }
}

impl StatusAnswers {
    pub(crate) fn new(config: &StatusCache) -> Self {
        let ttl = config.ttl;
        let places = config.max_entries;
        let kept = (!ttl.is_zero()).then(|| {
            Cache::builder()
                .max_capacity(places)
                // One that is longer than all places together is kept alone.
                .weigher(move |_: &Key, answer: &Answer| {
                    u32::try_from(places).map_or(answer.places(), |all| answer.places().min(all))
                })
                .expire_after(Expiry { ttl })
                .build()
        });
        Self { kept }
    }

    /// The kept answer, if there is one.
    pub(crate) async fn kept(&self, key: &Key) -> Option<Answer> {
        self.kept.as_ref()?.get(key).await
    }

    /// The kept answer, or that of `fetch`, which only one of many askers runs.
    pub(crate) async fn get(&self, key: Key, fetch: impl Future<Output = Answer>) -> Answer {
        match &self.kept {
            Some(kept) => kept.get_with(key, fetch).await,
            None => fetch.await,
        }
    }
}

/// Answers live for the configured time, failures for a moment.
struct Expiry {
    ttl: Duration,
}

impl moka::Expiry<Key, Answer> for Expiry {
    fn expire_after_create(&self, _: &Key, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(match answer {
            Answer::Json(..) | Answer::Legacy(_) => self.ttl,
            Answer::Failed => self.ttl.min(FAILURE_TTL),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: i32) -> Key {
        Key {
            revision: 0,
            form: Form::Json(protocol),
            host: String::new(),
        }
    }

    /// However long the answers are, `max_entries` bounds their memory; and one
    /// that is longer than that is still shared.
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
