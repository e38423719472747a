//! The plugin `template-name`: counts the players in the game.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::Gauge;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The number of players from which on each that joins is logged.
    busy: Spanned<usize>,
}

struct InGame {
    busy: usize,
    players: Mutex<HashSet<PlayerId>>,
    count: Gauge,
}

impl Plugin for InGame {
    type Config = Config;

    /// Called once, and again for each reload. An error keeps the proxy as it was.
    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let busy = *config.busy.get_ref();
        if busy == 0 {
            return Err(Error::at(config.busy.span(), "it is always busy"));
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
    // This hook cannot wait: it must not block either.
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
            // Kinds of events can be added.
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

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "busy = 0";
        let failure = TestHost::<InGame>::start(config).unwrap_err();
        assert_eq!(failure.text, "it is always busy");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
