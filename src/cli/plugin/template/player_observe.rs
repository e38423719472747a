//! The plugin `template-name`: counts the players in the game.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::Gauge;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// With this many players or more, each player who joins is logged. At least 1.
    busy: Spanned<usize>,
}

struct InGame {
    busy: usize,
    players: Mutex<HashSet<PlayerId>>,
    count: Gauge,
}

impl Plugin for InGame {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let busy = *config.busy.get_ref();
        if busy == 0 {
            return Err(Error::at(config.busy.span(), "it must be at least 1"));
        }
        tracing::info!(busy, "ready");
        Ok(InGame {
            busy,
            players: Mutex::default(),
            count: host.gauge("in_game")?,
        })
    }
}

impl PlayerObserve for InGame {
    // This hook is not async, and must not block.
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        let mut players = self.players.lock().unwrap_or_else(PoisonError::into_inner);
        match player.event() {
            PlayerEvent::Joined => {
                players.insert(player.id());
                if players.len() >= self.busy {
                    tracing::info!(name = player.name(), players = players.len(), "it is busy");
                }
            }
            PlayerEvent::Left { .. } => {
                players.remove(&player.id());
            }
            // Later versions of the proxy can add events.
            _ => {}
        }
        self.count.set(i64::try_from(players.len())?);
        Ok(())
    }
}

export_plugin! {
    plugin: InGame,
    name: "template-name",
    hooks: [PlayerObserve],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Players count from their join until they leave.
    #[test]
    fn players_are_counted() {
        let plugin = TestHost::<InGame>::start(include_str!("../config.toml")).unwrap();
        let (steve, alex) = (Client::new(), Client::new().name("Alex"));
        let observe = |client: &Client, number, event| {
            let id = PlayerId::from_number(number);
            plugin.player_observe(client, id, event).unwrap();
        };
        observe(&steve, 1, PlayerEvent::Joined);
        observe(&alex, 2, PlayerEvent::Joined);
        assert_eq!(plugin.gauge("in_game"), Some(2));
        observe(&steve, 1, PlayerEvent::Left { reason: "closed" });
        assert_eq!(plugin.gauge("in_game"), Some(1));
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "busy = 0";
        let failure = TestHost::<InGame>::start(config).unwrap_err();
        assert_eq!(failure.text, "it must be at least 1");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
