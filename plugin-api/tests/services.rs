//! The services that reach players, against the host for tests.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::testing::{Client, Setup, TestHost};
use infrarust_plugin_api::{Gauge, Grant, Profile, ServiceError};

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde")]
struct Config {}

/// Counts the properties of each player that comes or leaves.
struct Watcher {
    identity: Option<Grant<capability::IdentityVerified>>,
    properties: Gauge,
}

impl Plugin for Watcher {
    type Config = Config;

    fn new(_: Config, host: &Host<Self>) -> Result<Self> {
        Ok(Watcher {
            identity: host.grant(),
            properties: host.gauge("properties")?,
        })
    }
}

impl PlayerObserve for Watcher {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        let Some(identity) = &self.identity else {
            return Err(Error::msg("there is no service"));
        };
        let profile: Profile = identity.profile(player.id())?;
        assert_eq!(
            (profile.name.as_str(), profile.uuid),
            (player.name(), player.uuid())
        );
        self.properties
            .set(i64::try_from(profile.properties.len())?);
        Ok(())
    }
}

export_plugin! {
    plugin: Watcher,
    name: "watcher",
    hooks: [PlayerObserve],
    wants: [IdentityVerified],
}

const STEVE: PlayerId = PlayerId::from_number(1);
const LEFT: PlayerEvent<'_> = PlayerEvent::Left { reason: "closed" };

fn steve() -> Client {
    Client::new().proved(7).property("textures", "dGV4")
}

/// A proved player has a profile as long as he is in the game.
#[test]
fn profiles_are_there_from_coming_to_leaving() {
    let host = TestHost::<Watcher>::start("").unwrap();
    let tell = |client: &Client, event| host.player_observe(client, STEVE, event);
    tell(&steve(), PlayerEvent::Joined).unwrap();
    assert_eq!(host.gauge("properties"), Some(1));
    let gone = tell(&steve(), LEFT).unwrap_err();
    assert_eq!(gone.text, ServiceError::Gone.to_string());
    let unproved = tell(&Client::new(), PlayerEvent::Joined).unwrap_err();
    assert_eq!(unproved.text, ServiceError::NotGranted.to_string());
}

/// Where the capability is not granted there is no service.
#[test]
fn services_are_granted() {
    let setup = Setup::new().without(Capability::IdentityVerified);
    let host: TestHost<Watcher> = setup.start("").unwrap();
    let failure = host.player_observe(&steve(), STEVE, PlayerEvent::Joined);
    assert_eq!(failure.unwrap_err().text, "there is no service");
}
