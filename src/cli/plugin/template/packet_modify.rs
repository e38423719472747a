//! The plugin `template-name`: writes loud lines of chat in small letters, and drops empty ones.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// From how many capital letters on a line without small ones is loud.
    loud: Spanned<usize>,
}

struct Quiet {
    loud: usize,
}

impl Plugin for Quiet {
    type Config = Config;

    /// Called once, and again for each reload. An error keeps the proxy as it was.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        let loud = *config.loud.get_ref();
        if loud == 0 {
            return Err(Error::at(config.loud.span(), "every line is loud"));
        }
        tracing::info!(loud, "ready");
        Ok(Quiet { loud })
    }
}

impl PacketModify for Quiet {
    /// All other packets pass without a look.
    fn interest(&self) -> Interest {
        [PacketKind::ChatMessage].into()
    }

    // The player's packets wait for the return, and nobody else's.
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
            // The proxy writes it as the player's version has it.
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

    /// What happens to a line of chat.
    fn passed(line: &str) -> Option<Outgoing> {
        let plugin = TestHost::<Quiet>::start(include_str!("../config.toml")).unwrap();
        let steve = PlayerId::from_number(1);
        plugin.packet_modify(&Client::new(), steve, &said(line)).unwrap()
    }

    fn said(line: &str) -> Outgoing {
        Outgoing::new(PacketKind::ChatMessage).with(PacketField::Message, line)
    }

    /// Loud lines become quiet, others stay, empty ones go no further.
    #[test]
    fn loud_lines_become_quiet() {
        assert_eq!(passed("HELP ME NOW"), Some(said("help me now")));
        assert_eq!(passed("Help me NOW please"), Some(said("Help me NOW please")));
        assert_eq!(passed("OK"), Some(said("OK")));
        assert_eq!(passed("  "), None);
    }

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "loud = 0";
        let failure = TestHost::<Quiet>::start(config).unwrap_err();
        assert_eq!(failure.text, "every line is loud");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
