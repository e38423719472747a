//! Keys with a word as their value.

use toml::Spanned;
use toml::de::DeValue;

use crate::config::declare::choices;
use crate::config::entry::Reported;
use crate::config::keys::{Choice, Shape};
use crate::config::model::Relay;
use crate::config::reader::{FromToml, Reader};
use crate::mode::Mode;

const fn mode_choice(mode: Mode) -> Choice {
    Choice {
        name: mode.name(),
        aliases: &[],
        doc: mode.meaning(),
    }
}

impl FromToml for Mode {
    const SHAPE: Shape = Shape::Choice(&[
        mode_choice(Mode::Passthrough),
        mode_choice(Mode::ZeroCopy),
        mode_choice(Mode::ServerOnly),
        mode_choice(Mode::ClientOnly),
        mode_choice(Mode::Offline),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(value, &Self::SHAPE)?;
        if let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == text) {
            return Ok(mode);
        }
        Err(if text == "full" {
            // Infrarust keeps the name without ever having given it a meaning.
            let message = "the mode `full` does not exist".to_owned();
            let help = "use `client_only` if the proxy shall authenticate the players, or `server_only` if the backend does".to_owned();
            reader.bad_value(value, message, Some(help))
        } else if text == "zerocopy_passthrough" {
            // The name that Infrarust v1 has for it.
            let message = format!("{} cannot be `{text}`", reader.subject());
            let help = format!("here it is `\"{}\"`", Mode::ZeroCopy.name());
            reader.bad_value(value, message, Some(help))
        } else {
            reader.unknown_choice(value, text, &Self::SHAPE)
        })
    }
}

const fn relay_choice(relay: Relay, doc: &'static str) -> Choice {
    Choice {
        name: relay.name(),
        aliases: &[],
        doc,
    }
}

impl FromToml for Relay {
    const SHAPE: Shape = Shape::Choice(&[
        relay_choice(Relay::Copy, "Read into the proxy and write out again."),
        relay_choice(Relay::Splice, "Let the kernel move the bytes."),
        relay_choice(
            Relay::Adaptive,
            "Copy while reads are short, splice while they are long.",
        ),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(value, &Self::SHAPE)?;
        let all = [Relay::Copy, Relay::Splice, Relay::Adaptive];
        let found = all.into_iter().find(|relay| relay.name() == text);
        found.ok_or_else(|| reader.unknown_choice(value, text, &Self::SHAPE))
    }
}

choices! {
    /// What happens to a client when no server claims its virtual host.
    UnknownDomainWord {
        /// Status pings get `default_motd`, logins a text.
        DefaultMotd = "default_motd";
        /// Logins get a text, status pings no answer.
        Kick = "kick";
        /// The connection is closed without an answer.
        Drop = "drop";
    }

    /// How the backend learns who the player is.
    ForwardingWord {
        /// Not at all.
        None = "none";
        /// In the host field of the handshake, without a proof.
        BungeeCord = "bungeecord" | "bungee_cord" | "legacy";
        /// As `bungeecord`, with a token that the backend checks.
        BungeeGuard = "bungeeguard" | "bungee_guard";
        /// In a signed answer during the login; the intercepted modes only.
        Velocity = "velocity" | "modern";
    }

    /// Whether to forward a client's own tail in the host field.
    HostTailWord {
        /// It is dropped.
        Drop = "drop";
        /// It is sent on.
        Keep = "keep";
    }

    /// The format of the log.
    LogFormatWord {
        /// Lines for people.
        Text = "text";
        /// One JSON object a line.
        Json = "json";
    }

    /// What happens at a second login of a player who is logged in.
    DuplicateLoginWord {
        /// The second login is refused.
        Refuse = "refuse";
        /// The first login ends.
        Replace = "replace";
    }

    /// What happens to a player who loses the backend.
    OnBackendLossWord {
        /// The player is moved to another server of the network, with a message that says why.
        Fallback = "fallback";
        /// The connection ends with a text.
        Kick = "kick";
    }

    /// Which player id an unauthenticated player gets.
    OfflineUuidWord {
        /// The one that servers in offline mode make from the name.
        Offline = "offline";
        /// The one that the client claims.
        Client = "client";
    }

    /// What happens when a plugin fails.
    OnFailureWord {
        /// The connection goes on.
        Continue = "continue";
        /// The connection is refused.
        Deny = "deny";
    }

    /// What happens where a server's mode cannot give what a plugin needs.
    UnsupportedWord {
        /// The configuration is refused.
        Error = "error";
        /// The plugin is inactive there, and a warning says so.
        Skip = "skip";
    }
}

impl ForwardingWord {
    /// The name in configurations.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ForwardingWord::None => "none",
            ForwardingWord::BungeeCord => "bungeecord",
            ForwardingWord::BungeeGuard => "bungeeguard",
            ForwardingWord::Velocity => "velocity",
        }
    }

    /// Whether it works with a secret that proxy and backend share.
    #[must_use]
    pub(crate) const fn needs_secret(self) -> bool {
        matches!(self, ForwardingWord::BungeeGuard | ForwardingWord::Velocity)
    }
}
