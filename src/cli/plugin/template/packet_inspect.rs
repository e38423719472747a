//! The plugin `template-name`: reports players who write the same line again and again.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::Counter;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// From how many equal lines in a row on it is reported.
    rows: Spanned<u32>,
}

/// The players whose last line is known, at most.
const PLAYERS_MAX: usize = 10_000;

struct Echoes {
    rows: u32,
    last: Mutex<HashMap<PlayerId, (String, u32)>>,
    reported: Counter,
}

impl Plugin for Echoes {
    type Config = Config;

    /// Called once, and again for each reload. An error keeps the proxy as it was.
    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let rows = *config.rows.get_ref();
        if rows < 2 {
            return Err(Error::at(config.rows.span(), "every line is equal to itself"));
        }
        tracing::info!(rows, "ready");
        Ok(Echoes {
            rows,
            last: Mutex::default(),
            reported: host.counter("reported")?,
        })
    }
}

impl PacketInspect for Echoes {
    /// All other packets pass without a look.
    fn interest(&self) -> Interest {
        [PacketKind::ChatMessage].into()
    }

    // The player's packets wait for the return, and nobody else's.
    fn packet_inspect(&self, packet: &Packet<'_>) -> Result<()> {
        let Some(chat) = packet.chat_message() else {
            return Ok(());
        };
        // One name for the field in every version of the game.
        let line = chat.message()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= PLAYERS_MAX {
            last.clear();
        }
        let (known, rows) = last.entry(packet.player()).or_default();
        *rows = if *known == line { *rows + 1 } else { 1 };
        *known = line;
        if *rows >= self.rows {
            tracing::warn!(name = packet.player_name(), rows = *rows, "the same again");
            self.reported.add(1);
        }
        Ok(())
    }
}

export_plugin! {
    plugin: Echoes,
    name: "template-name",
    hooks: [PacketInspect],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Equal lines in a row are reported; another one begins a new row.
    #[test]
    fn rows_are_reported() {
        let plugin = TestHost::<Echoes>::start(include_str!("../config.toml")).unwrap();
        let steve = PlayerId::from_number(1);
        let say = |line: &str| {
            let chat = Outgoing::new(PacketKind::ChatMessage).with(PacketField::Message, line);
            plugin.packet_inspect(&Client::new(), steve, &chat).unwrap();
        };
        for line in ["hi", "hi", "ho", "hi", "hi"] {
            say(line);
        }
        assert_eq!(plugin.counter("reported"), Some(0));
        say("hi");
        assert_eq!(plugin.counter("reported"), Some(1));
    }

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "rows = 1";
        let failure = TestHost::<Echoes>::start(config).unwrap_err();
        assert_eq!(failure.text, "every line is equal to itself");
        assert_eq!(&config[failure.span.unwrap()], "1");
    }
}
