//! The plugin `template-name`: writes lines of chat that are all capitals in small
//! letters, and drops blank lines.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// How many capital letters make a line without small letters loud, at least 1.
    loud: Spanned<usize>,
}

struct Quiet {
    loud: usize,
}

impl Plugin for Quiet {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        let loud = *config.loud.get_ref();
        if loud == 0 {
            return Err(Error::at(config.loud.span(), "a loud line has capitals"));
        }
        tracing::info!(loud, "ready");
        Ok(Quiet { loud })
    }
}

impl PacketModify for Quiet {
    /// The proxy calls the hook for these packets only.
    fn interest(&self) -> Interest {
        [PacketKind::ChatMessage].into()
    }

    // Only this player's packets to the backend wait for the return.
    fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict> {
        let Some(chat) = packet.chat_message() else {
            return Ok(PacketVerdict::pass());
        };
        let line = chat.message()?;
        if line.trim().is_empty() {
            return Ok(PacketVerdict::drop());
        }
        let capitals = line.chars().filter(|letter| letter.is_uppercase()).count();
        if capitals >= self.loud && !line.chars().any(char::is_lowercase) {
            // The proxy encodes the packet for the player's version.
            packet.set(PacketField::Message, line.to_lowercase())?;
        }
        Ok(PacketVerdict::pass())
    }
}

export_plugin! {
    plugin: Quiet,
    name: "template-name",
    hooks: [PacketModify],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// The packet that a line of chat leaves, or `None` if the plugin drops it.
    fn passed(line: &str) -> Option<Outgoing> {
        let plugin = TestHost::<Quiet>::start(include_str!("../config.toml")).unwrap();
        let steve = PlayerId::from_number(1);
        plugin
            .packet_modify(&Client::new(), steve, &said(line))
            .unwrap()
    }

    fn said(line: &str) -> Outgoing {
        Outgoing::new(PacketKind::ChatMessage).with(PacketField::Message, line)
    }

    /// Loud lines are written in small letters, blank lines are dropped, and other lines
    /// pass unchanged.
    #[test]
    fn loud_lines_become_quiet() {
        assert_eq!(passed("HELP ME NOW"), Some(said("help me now")));
        assert_eq!(
            passed("Help me NOW please"),
            Some(said("Help me NOW please"))
        );
        assert_eq!(passed("OK"), Some(said("OK")));
        assert_eq!(passed("  "), None);
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "loud = 0";
        let failure = TestHost::<Quiet>::start(config).unwrap_err();
        assert_eq!(failure.text, "a loud line has capitals");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
