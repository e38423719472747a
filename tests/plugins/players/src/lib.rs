//! A plugin for the tests of the intercepted modes. It writes the events of players to a
//! file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The file for events of players, one line each.
    events: PathBuf,
    /// Sent to each player who joins: a way and a text, such as `chat Hello`.
    #[serde(default)]
    send: Vec<String>,
    /// How many players have to come before all of them are sent `FILLING` at once.
    #[serde(default)]
    fill_at: Option<usize>,
    /// They are sent this number of small packets instead, as are their backends.
    #[serde(default)]
    fill_with: Option<usize>,
}

/// Packets and their bytes: as many as may wait for one player.
const FILLING: (usize, usize) = (2, 250 * 1024);

struct Players {
    config: Config,
    host: Host<Self>,
    joined: Mutex<Vec<PlayerId>>,
}

impl Plugin for Players {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let (host, joined) = (host.clone(), Mutex::default());
        Ok(Players {
            config,
            host,
            joined,
        })
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
        ))?;
        if event == PlayerEvent::Joined {
            for what in &self.config.send {
                match self.send(player.id(), what) {
                    Ok(()) => self.write(&format!("sent {what}"))?,
                    Err(error) => self.write(&format!("not sent {what}: {error}"))?,
                }
            }
            let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.push(player.id());
            if self.config.fill_at == Some(joined.len()) {
                self.fill(&joined)?;
            }
        }
        Ok(())
    }
}

impl Players {
    fn send(&self, player: PlayerId, what: &str) -> Result<()> {
        let (way, text) = what.split_once(' ').unwrap_or((what, ""));
        let messages = self.host.grant::<capability::PlayerMessage>();
        let packets = self.host.grant::<capability::PacketInject>();
        let (Some(messages), Some(packets)) = (messages, packets) else {
            return Err(Error::msg("no service"));
        };
        match way {
            "chat" => messages.chat(player, text)?,
            "bar" => messages.action_bar(player, text)?,
            "title" => messages.title(player, &Title::new(text).subtitle("below"))?,
            "kick" => messages.kick(player, text)?,
            "transfer" => {
                let transfer = self.host.grant::<capability::PlayerTransfer>();
                let transfer = transfer.ok_or_else(|| Error::msg("no service"))?;
                transfer.transfer(player, text, 25566)?;
            }
            "client" => packets.to_client(player, text.parse()?, b"raw")?,
            "backend" => packets.to_backend(player, text.parse()?, b"raw")?,
            "flood" => {
                for _ in 0..text.parse()? {
                    messages.chat(player, "again")?;
                }
            }
            _ => return Err(Error::msg("there is no such way")),
        }
        Ok(())
    }

    fn fill(&self, players: &[PlayerId]) -> Result<()> {
        let packets = self.host.grant::<capability::PacketInject>();
        let packets = packets.ok_or_else(|| Error::msg("no service"))?;
        let (count, bytes) = match self.config.fill_with {
            None => FILLING,
            Some(count) => (count, 0),
        };
        let filling = vec![0; bytes];
        for player in players {
            for _ in 0..count {
                // What is over a limit is missed by its receiver.
                let _ = packets.to_client(*player, 11, &filling);
                if self.config.fill_with.is_some() {
                    let _ = packets.to_backend(*player, 1, &filling);
                }
            }
        }
        Ok(())
    }

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
    needs: [PacketInject],
    wants: [IdentityVerified, PlayerMessage, PlayerTransfer],
}
