//! `per-address`: limits how many players of one address play at once.
//!
//! ```toml
//! [plugins.per-address.config]
//! players_max = 3
//! message = "Three of you play already."
//! ```
//!
//! Shows two hooks that share state: `session.observe` counts sessions, and
//! `connection.decide` refuses clients of an address that has reached the limit. Status
//! pings pass.
//!
//! The limit is not exact: if several players join at the same moment, all of them may
//! get in, because a session counts only after it has opened. After a reload the count
//! starts at zero, because open sessions stay with the old instance.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::{Counter, Gauge};

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The type refuses zero, and the error points at the value.
    players_max: NonZeroU32,
    message: String,
}

struct PerAddress {
    players_max: u32,
    message: String,
    /// The number of sessions of each address that has at least one.
    sessions: Mutex<HashMap<IpAddr, u32>>,
    addresses: Gauge,
    refused: Counter,
}

impl Plugin for PerAddress {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        Ok(Self {
            players_max: config.players_max.get(),
            message: config.message,
            sessions: Mutex::default(),
            addresses: host.gauge("addresses")?,
            refused: host.counter("refused")?,
        })
    }
}

impl PerAddress {
    /// Locks the counts. The guard must not live across an `.await`. A poisoned lock is
    /// fine: each change is a single step, so a panic cannot leave half of one.
    fn sessions(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ConnectionDecide for PerAddress {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        if connection.intent() == Intent::Status {
            return Ok(Verdict::allow());
        }
        let address = connection.peer().ip();
        let count = self.sessions().get(&address).copied().unwrap_or(0);
        if count < self.players_max {
            return Ok(Verdict::allow());
        }
        self.refused.add(1);
        Ok(Verdict::refuse(self.message.clone()))
    }
}

impl SessionObserve for PerAddress {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        let mut sessions = self.sessions();
        let entry = sessions.entry(session.peer().ip());
        match session.event() {
            Event::Opened => *entry.or_insert(0) += 1,
            // Comes once for each `Opened`, however the session ended.
            Event::Closed { .. } => {
                if let Entry::Occupied(mut count) = entry {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            // Later versions of the proxy can add events.
            _ => {}
        }
        self.addresses.set(i64::try_from(sessions.len())?);
        Ok(())
    }
}

export_plugin! {
    plugin: PerAddress,
    name: "per-address",
    hooks: [ConnectionDecide, SessionObserve],
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    fn start(config: &str) -> TestHost<PerAddress> {
        TestHost::start(config).unwrap()
    }

    const CLOSED: Event<'_> = Event::Closed {
        reason: "closed",
        serverbound_bytes: 0,
        clientbound_bytes: 0,
        duration: Duration::ZERO,
    };

    /// An address has at most `players_max` sessions, and the end of one makes room. Other
    /// addresses are independent, and pings always pass.
    #[test]
    fn places_are_counted_by_address() {
        let plugin = start("players_max = 2\nmessage = 'full'");
        let client = |last: u8| Client::new().peer(([192, 0, 2, last], 1000));
        let decide = |client: &Client| plugin.connection_decide(client).unwrap();
        for session in [1, 2] {
            assert_eq!(decide(&client(1)), Verdict::allow());
            plugin
                .session_observe(&client(1), session, Event::Opened)
                .unwrap();
        }
        assert_eq!(decide(&client(1)), Verdict::refuse("full"));
        assert_eq!(decide(&client(1).intent(Intent::Status)), Verdict::allow());
        assert_eq!(decide(&client(2)), Verdict::allow());
        assert_eq!(plugin.gauge("addresses"), Some(1));
        assert_eq!(plugin.counter("refused"), Some(1));

        plugin.session_observe(&client(1), 1, CLOSED).unwrap();
        assert_eq!(decide(&client(1)), Verdict::allow());
        plugin.session_observe(&client(1), 2, CLOSED).unwrap();
        assert_eq!(plugin.gauge("addresses"), Some(0), "nothing is left behind");
    }

    /// A limit of zero is an error that points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "message = ''\nplayers_max = 0";
        let failure = TestHost::<PerAddress>::start(config).unwrap_err();
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
