//! A plugin for the tests of the intercepted modes: what happens to players
//! a file has.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Where what happens to players is written, a line each.
    events: PathBuf,
}

struct Players {
    config: Config,
    host: Host<Self>,
}

impl Plugin for Players {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let host = host.clone();
        Ok(Players { config, host })
    }
}

impl PlayerObserve for Players {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        let identity = self.host.grant::<capability::IdentityVerified>();
        let profile = identity.map(|identity| identity.profile(player.id()));
        let profile = match profile {
            Some(Ok(profile)) => format!("{profile:?}"),
            Some(Err(error)) => error.to_string(),
            None => "no service".to_owned(),
        };
        let (name, uuid) = (player.name(), player.uuid());
        let (event, is_proved) = (player.event(), player.is_proved());
        self.write(&format!(
            "{event:?} {name} {uuid:032x} {is_proved}: {profile}"
        ))
    }
}

impl Players {
    fn write(&self, line: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(&self.config.events)?;
        Ok(writeln!(file, "{line}")?)
    }
}

export_plugin! {
    plugin: Players,
    name: "players",
    hooks: [PlayerObserve],
    wants: [IdentityVerified],
}
