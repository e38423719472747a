//! How many players the proxy looks at for the messages of a server on the BungeeCord channel.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limit::Bucket;

/// The most players a second for one server, which has a connection for each of its players.
/// This takes some tenths of a second of one core. In a network of 5,000 players, 800 messages
/// to all or about all are possible in a second.
const PLAYERS_PER_SECOND_MAX: u64 = 4_000_000;
/// What may come at once is what would be allowed in this time.
const WINDOW: Duration = Duration::from_secs(1);

/// Limits the messages of one server that concern all players of its network.
#[derive(Debug)]
pub(crate) struct Visits(Mutex<Bucket>);

impl Default for Visits {
    fn default() -> Self {
        let bucket = Bucket::new(PLAYERS_PER_SECOND_MAX, WINDOW, Instant::now());
        Self(Mutex::new(bucket))
    }
}

impl Visits {
    /// Counts a look at this number of players. False if there were too many.
    pub(crate) fn take(&self, players: usize) -> bool {
        let count = u64::try_from(players).unwrap_or(u64::MAX);
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.take(count, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of 5,000 players may be looked at some hundred times at once, and no more.
    #[test]
    fn looks_at_all_players_are_limited() {
        let visits = Visits::default();
        let looks = (0..2000).filter(|_| visits.take(5000)).count();
        assert!((800..2000).contains(&looks), "{looks}");
        assert!(!visits.take(usize::MAX));
    }
}
