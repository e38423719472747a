//! `emptiest-lobby`: sends players to the emptiest of several servers.
//!
//! ```toml
//! [plugins.emptiest-lobby]
//! servers = ["lobby-1"]          # where players arrive
//!
//! [plugins.emptiest-lobby.config]
//! servers = ["lobby-1", "lobby-2"]
//! ```
//!
//! Shows `route.select` and the player counts of the proxy. A server that does
//! not exist is passed over, so that one can be taken out of the configuration
//! without touching this list; when none is left, players stay where they came.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    servers: Spanned<Vec<String>>,
}

struct EmptiestLobby {
    host: Host<Self>,
    servers: Vec<String>,
}

impl Plugin for EmptiestLobby {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        if config.servers.get_ref().is_empty() {
            return Err(Error::at(
                config.servers.span(),
                "there is no server to choose",
            ));
        }
        Ok(Self {
            host: host.clone(),
            servers: config.servers.into_inner(),
        })
    }
}

#[async_trait]
impl RouteSelect for EmptiestLobby {
    async fn route_select(&self, login: Login<'_>) -> Result<Choice> {
        let players = |id: &String| self.host.players_on(id);
        let counted = self
            .servers
            .iter()
            .filter_map(|id| Some((players(id)?, id)));
        // Of equally empty ones the first of the list.
        let Some((count, emptiest)) = counted.min_by_key(|(count, _)| *count) else {
            return Ok(Choice::keep());
        };
        tracing::debug!(player = login.name(), server = emptiest, count, "sent");
        Ok(Choice::server(emptiest.clone()))
    }
}

export_plugin! { plugin: EmptiestLobby, name: "emptiest-lobby", hooks: [RouteSelect] }

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, Setup, TestHost};

    fn select(setup: Setup) -> Choice {
        let plugin = setup
            .start::<EmptiestLobby>("servers = ['a', 'b', 'c']")
            .unwrap();
        plugin.route_select(&Client::new()).unwrap()
    }

    /// The emptiest one gets the player; equals stand in the order of the list.
    #[test]
    fn the_emptiest_is_chosen() {
        let host = Setup::new;
        let crowded = host().players("a", 5).players("b", 2).players("c", 2);
        assert_eq!(select(crowded), Choice::server("b"));
        assert_eq!(select(host().players("c", 9)), Choice::server("c"));
        assert_eq!(select(host()), Choice::keep());
    }

    /// An empty list is a mistake.
    #[test]
    fn mistakes_have_their_place() {
        let failure = TestHost::<EmptiestLobby>::start("servers = []").unwrap_err();
        assert_eq!(failure.span, Some(10..12));
    }
}
