//! The plugin `template-name`: logs players who repeat the same line of chat.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::Counter;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// How many equal lines in a row are logged, at least 2.
    rows: Spanned<u32>,
}

/// The most players whose last line the plugin keeps. Over it, the plugin forgets all.
const PLAYERS_MAX: usize = 10_000;

struct Echoes {
    rows: u32,
    /// The last line of each player, and how often it came in a row.
    last: Mutex<HashMap<PlayerId, (String, u32)>>,
    reported: Counter,
}

impl Plugin for Echoes {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let rows = *config.rows.get_ref();
        if rows < 2 {
            return Err(Error::at(config.rows.span(), "a row has two lines or more"));
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
    /// The proxy calls the hook for these packets only.
    fn interest(&self) -> Interest {
        [PacketKind::ChatMessage].into()
    }

    // Only this player's packets to the backend wait for the return.
    fn packet_inspect(&self, packet: &Packet<'_>) -> Result<()> {
        let Some(chat) = packet.chat_message() else {
            return Ok(());
        };
        // The field has this name in every version of the game.
        let line = chat.message()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= PLAYERS_MAX {
            last.clear();
        }
        let (known, rows) = last.entry(packet.player()).or_default();
        *rows = if *known == line { *rows + 1 } else { 1 };
        *known = line;
        if *rows >= self.rows {
            tracing::warn!(name = packet.player_name(), rows = *rows, "repeated line");
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

    /// Equal lines in a row are logged and counted; a different line resets the count.
    #[test]
    fn repeated_lines_are_reported() {
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

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "rows = 1";
        let failure = TestHost::<Echoes>::start(config).unwrap_err();
        assert_eq!(failure.text, "a row has two lines or more");
        assert_eq!(&config[failure.span.unwrap()], "1");
    }
}
