//! The services that reach players, with the host for tests.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::testing::{Client, Sent, Setup, TestHost};
use infrarust_plugin_api::{Gauge, Grant, Profile, ServiceError};

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", default)]
#[derive(Default)]
struct Config {
    /// Counters to register.
    counters: Vec<String>,
}

/// Counts the properties of each player who joins or leaves.
struct Watcher {
    identity: Option<Grant<capability::IdentityVerified>>,
    properties: Gauge,
}

impl Plugin for Watcher {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        for name in &config.counters {
            host.counter(name)?;
        }
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

/// A proved player has a profile while the player is in the game.
#[test]
fn profiles_are_available_while_the_player_is_in_the_game() {
    let host = TestHost::<Watcher>::start("").unwrap();
    let tell = |client: &Client, event| host.player_observe(client, STEVE, event);
    tell(&steve(), PlayerEvent::Joined).unwrap();
    assert_eq!(host.gauge("properties"), Some(1));
    let gone = tell(&steve(), LEFT).unwrap_err();
    assert_eq!(gone.text, ServiceError::Gone.to_string());
    let unproved = tell(&Client::new(), PlayerEvent::Joined).unwrap_err();
    assert_eq!(unproved.text, ServiceError::NotGranted.to_string());
}

/// A service exists only if its capability is granted.
#[test]
fn services_are_granted() {
    let setup = Setup::new().without(Capability::IdentityVerified);
    let host: TestHost<Watcher> = setup.start("").unwrap();
    let failure = host.player_observe(&steve(), STEVE, PlayerEvent::Joined);
    assert_eq!(failure.unwrap_err().text, "there is no service");
}

/// Greets in every possible way.
struct Greeter {
    host: Host<Self>,
}

impl Plugin for Greeter {
    type Config = Config;

    fn new(_: Config, host: &Host<Self>) -> Result<Self> {
        Ok(Greeter { host: host.clone() })
    }
}

fn title() -> Title {
    let half = Duration::from_millis(500);
    Title::new("§6Hello")
        .subtitle("again")
        .times(half, half * 4, half)
}

impl PlayerObserve for Greeter {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        let id = player.id();
        let messages = self.host.grant::<capability::PlayerMessage>();
        let messages = messages.ok_or_else(|| Error::msg("there are no messages"))?;
        messages.chat(id, "Hello")?;
        messages.action_bar(id, "§aHello")?;
        messages.title(id, &title())?;
        if let Some(packets) = self.host.grant::<capability::PacketInject>() {
            packets.to_client(id, 0x6C, &[1, 2])?;
            packets.to_backend(id, 0x06, &[])?;
        }
        if let Some(transfer) = self.host.grant::<capability::PlayerTransfer>() {
            transfer.transfer(id, "eu.example.com", 25565)?;
        }
        messages.kick(id, "Goodbye")?;
        Ok(())
    }
}

mod greeter {
    use super::{Greeter, export_plugin};

    export_plugin! {
        plugin: Greeter,
        name: "greeter",
        hooks: [PlayerObserve],
        needs: [PlayerMessage],
        wants: [PacketInject, PlayerTransfer],
    }
}

/// Everything that is sent arrives in order, and not after the player has left.
#[test]
fn sent_packets_are_recorded() {
    let host = TestHost::<Greeter>::start("").unwrap();
    host.player_observe(&steve(), STEVE, PlayerEvent::Joined)
        .unwrap();
    let to_client = Sent::ToClient {
        id: 0x6C,
        fields: vec![1, 2],
    };
    let to_backend = Sent::ToBackend {
        id: 0x06,
        fields: Vec::new(),
    };
    let expected = [
        Sent::Chat("Hello".into()),
        Sent::ActionBar("§aHello".into()),
        Sent::Title(title()),
        to_client,
        to_backend,
        Sent::Transfer {
            host: "eu.example.com".to_owned(),
            port: 25565,
        },
        Sent::Kick("Goodbye".into()),
    ];
    assert_eq!(host.take_sent(STEVE), expected);
    assert_eq!(host.take_sent(STEVE), []);
    let gone = host.player_observe(&steve(), STEVE, LEFT).unwrap_err();
    assert_eq!(gone.text, ServiceError::Gone.to_string());
}

/// The names and the number of metrics have the same limits as in the proxy.
#[test]
fn metrics_are_bounded() {
    let starts = |names: &[String]| {
        let config = format!("counters = {names:?}");
        TestHost::<Watcher>::start(&config).is_ok()
    };
    assert!(starts(&["a_1".to_owned(), "n".repeat(64)]));
    for bad in [
        "".to_owned(),
        "A".to_owned(),
        "a-b".to_owned(),
        "n".repeat(65),
    ] {
        assert!(!starts(std::slice::from_ref(&bad)), "{bad:?}");
    }
    // The plugin has a gauge of its own.
    let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("n{n}")).collect() };
    assert!(starts(&names(63)));
    assert!(!starts(&names(64)));
    // A name that is registered again is the same counter.
    assert!(starts(&vec!["n".to_owned(); 100]));
}
