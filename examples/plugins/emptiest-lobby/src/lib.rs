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
//! Shows `route.select` and the player counts of the proxy. The plugin ignores a server
//! that does not exist, so a server can be removed from the configuration without a
//! change of this list. If none of them exists, players stay on their server.
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
        // Among servers with the same count this is the first of the list.
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

    /// The emptiest server is chosen, and the first of the list among equal ones.
    #[test]
    fn the_emptiest_is_chosen() {
        let host = Setup::new;
        let crowded = host().players("a", 5).players("b", 2).players("c", 2);
        assert_eq!(select(crowded), Choice::server("b"));
        assert_eq!(select(host().players("c", 9)), Choice::server("c"));
        assert_eq!(select(host()), Choice::keep());
    }

    /// An empty list is an error.
    #[test]
    fn errors_point_at_the_value() {
        let failure = TestHost::<EmptiestLobby>::start("servers = []").unwrap_err();
        assert_eq!(failure.span, Some(10..12));
    }
}
