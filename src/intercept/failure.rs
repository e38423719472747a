//! Why an intercepted session ends before play, or loses its backend: the text for the
//! player, the reason for the log, and who is to blame.

use thiserror::Error;

use super::session_service::SessionError;
use super::wire::WireError;
use crate::blame::Blame;
use crate::player_text;
use crate::protocol::packet::login::NameError;
use crate::reason::names;

/// The translation key of the text with which a backend refuses a player without a key for
/// signing chat, if it demands one (1.19 to 1.19.2).
const MISSING_KEY: &str = "multiplayer.disconnect.missing_public_key";

/// Why an intercepted session cannot continue.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The client has closed its connection or lost it.
    #[error("the client left")]
    ClientLeft,
    /// The client sent something that is not allowed.
    #[error("the client is at fault: {0}")]
    Client(String),
    /// The client did not answer in time.
    #[error("the client did not answer in time")]
    TooSlow,
    /// A server would not accept the name.
    #[error("{0}")]
    Name(NameError),
    /// The answer to the encryption request is wrong.
    #[error("the client's answer to the encryption request is wrong")]
    Encryption,
    /// The session service does not confirm the player.
    #[error("{0}")]
    Session(SessionError),
    /// The proxy itself failed.
    #[error("the proxy failed: {0}")]
    Proxy(String),
    /// Another login of the same player takes the place.
    #[error("another login of the player has taken the place")]
    Replaced,
    /// The proxy stops.
    #[error("the proxy was stopped")]
    Stopped,
    /// The backend wants to authenticate the player itself.
    #[error("the backend is in online mode: it asks for encryption")]
    BackendOnline,
    /// The backend lets players in without asking for the signed identity.
    #[error("the backend does not ask for the signed identity of `forwarding_mode = \"velocity\"`")]
    BackendNeverAsked,
    /// The player's version lacks the packets for the server's player forwarding.
    #[error(
        "the player's version is older than 1.13, and `forwarding_mode = \"velocity\"` needs that"
    )]
    VersionWithoutForwarding,
    /// The backend negotiates mods in the login, which the player's client does once.
    #[error("the backend negotiates mods in the login, and the player is in the game already")]
    BackendMods,
    /// The backend refused the player with its own text, a JSON component.
    #[error("the backend refused the player")]
    BackendRefused(String),
    /// The backend sent something that is not allowed.
    #[error("the backend is at fault: {0}")]
    BackendFault(String),
    /// The backend closed or lost its connection.
    #[error("the connection to the backend ended: {0}")]
    BackendLost(String),
    /// The backend did not bring the player into the game in time.
    #[error("the backend did not bring the player into the game in time")]
    BackendTooSlow,
}

impl Failure {
    /// Converts an error of the client's connection.
    pub(super) fn client(error: WireError) -> Self {
        match error {
            WireError::Closed | WireError::Io(_) => Self::ClientLeft,
            WireError::Codec(error) => Self::Client(error.to_string()),
            WireError::Packet(error) => Self::Client(error),
        }
    }

    /// Converts an error of the backend's connection.
    pub(super) fn backend(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::BackendLost("it was closed".to_owned()),
            WireError::Io(error) => Self::BackendLost(error.to_string()),
            WireError::Codec(error) => Self::BackendFault(error.to_string()),
            WireError::Packet(error) => Self::BackendFault(error),
        }
    }

    names! {
        /// The name in logs and for plugins.
        pub(crate) fn name(&self) {
            Self::ClientLeft => "client_left",
            Self::Client(_) => "client_fault",
            Self::TooSlow => "client_too_slow",
            Self::Name(_) => "bad_name",
            Self::Encryption => "bad_encryption",
            Self::Session(SessionError::NotJoined) => "not_authenticated",
            Self::Session(_) => "session_service",
            Self::Proxy(_) => "proxy_fault",
            Self::Replaced => "replaced",
            Self::Stopped => "stopped",
            Self::BackendOnline => "backend_online",
            Self::BackendNeverAsked => "backend_never_asked",
            Self::VersionWithoutForwarding => "version_without_forwarding",
            Self::BackendMods => "backend_mods",
            Self::BackendRefused(_) => "backend_refused",
            Self::BackendFault(_) => "backend_fault",
            Self::BackendLost(_) => "backend_lost",
            Self::BackendTooSlow => "backend_too_slow",
        }
    }

    /// Whether the backend has refused a player without a chat key, which it demands.
    pub(crate) fn demands_chat_key(&self) -> bool {
        matches!(self, Self::BackendRefused(text) if text.contains(MISSING_KEY))
    }

    /// Who is to blame.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::ClientLeft
            | Self::Client(_)
            | Self::TooSlow
            | Self::Name(_)
            | Self::Encryption
            | Self::Session(SessionError::NotJoined)
            | Self::VersionWithoutForwarding => Blame::Client,
            Self::Session(_) | Self::BackendMods | Self::BackendRefused(_) => Blame::Nobody,
            Self::Proxy(_) | Self::Replaced | Self::Stopped => Blame::Proxy,
            Self::BackendOnline
            | Self::BackendNeverAsked
            | Self::BackendFault(_)
            | Self::BackendLost(_)
            | Self::BackendTooSlow => Blame::Backend,
        }
    }

    /// The text for the player; `None` if the client has left, and if the server's
    /// `disconnect_message` is used.
    pub(crate) fn text(&self) -> Option<&str> {
        Some(match self {
            Self::ClientLeft | Self::BackendLost(_) => return None,
            Self::Client(_) => player_text::CLIENT_FAULT,
            Self::TooSlow => player_text::CLIENT_TOO_SLOW,
            Self::Name(NameError::Length) => player_text::NAME_LENGTH,
            Self::Name(NameError::Characters) => player_text::NAME_CHARACTERS,
            Self::Encryption => player_text::ENCRYPTION,
            Self::Session(SessionError::NotJoined) => player_text::NOT_JOINED,
            Self::Session(SessionError::TooManyRequests) => player_text::SESSION_SERVICE_BUSY,
            Self::Session(SessionError::Down(_) | SessionError::BadAnswer(_)) => {
                player_text::SESSION_SERVICE_DOWN
            }
            Self::Proxy(_) => player_text::PROXY_FAULT,
            Self::Replaced => player_text::REPLACED,
            Self::Stopped => player_text::STOPPED,
            Self::BackendMods => player_text::BACKEND_MODS,
            Self::BackendOnline => player_text::BACKEND_ONLINE,
            Self::BackendNeverAsked => player_text::BACKEND_NEVER_ASKED,
            Self::VersionWithoutForwarding => player_text::VERSION_WITHOUT_FORWARDING,
            Self::BackendRefused(text) => text,
            Self::BackendFault(_) => player_text::BACKEND_FAULT,
            Self::BackendTooSlow => player_text::BACKEND_TOO_SLOW,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents list every text that a player reads.
    #[test]
    fn every_text_is_documented() {
        let text = String::new;
        let failures = [
            Failure::Name(NameError::Length),
            Failure::Name(NameError::Characters),
            Failure::Encryption,
            Failure::Session(SessionError::NotJoined),
            Failure::Session(SessionError::TooManyRequests),
            Failure::Session(SessionError::Down(text())),
            Failure::Session(SessionError::BadAnswer("")),
            Failure::ClientLeft,
            Failure::Client(text()),
            Failure::TooSlow,
            Failure::Proxy(text()),
            Failure::Replaced,
            Failure::Stopped,
            Failure::BackendOnline,
            Failure::BackendNeverAsked,
            Failure::VersionWithoutForwarding,
            Failure::BackendRefused(text()),
            Failure::BackendFault(text()),
            Failure::BackendLost(text()),
            Failure::BackendTooSlow,
        ];
        let modes = include_str!("../../docs/modes.md");
        let shows = |text: &str| text.is_empty() || modes.contains(&format!("| {text} |"));
        for failure in &failures {
            let text = failure.text().unwrap_or_default();
            assert!(shows(text), "{}: {text}", failure.name());
        }
        assert!(shows(&player_text::unknown_version()));
        for text in [
            player_text::OLD_VERSION,
            player_text::DUPLICATE,
            player_text::REPLACED,
            player_text::STOPPED,
        ] {
            assert!(shows(text), "{text}");
        }
    }
}
