//! Why an intercepted session ends before play, or loses its backend: what the
//! player reads, and what the operator does.

use thiserror::Error;

use super::session_service::SessionError;
use super::wire::WireError;
use crate::protocol::packet::Version;
use crate::protocol::packet::login::NameError;

/// Why an intercepted session cannot go on.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The client has closed its connection or lost it.
    #[error("the client left")]
    ClientLeft,
    /// The client sent something that it may not send.
    #[error("the client is at fault: {0}")]
    Client(String),
    /// The client did not answer in time.
    #[error("the client did not answer in time")]
    TooSlow,
    /// Its name is not one that a server takes.
    #[error("{0}")]
    Name(NameError),
    /// Its answer to the encryption request is not one to ours.
    #[error("the client's answer to the encryption request is wrong")]
    Encryption,
    /// The session service does not say who it is.
    #[error("{0}")]
    Session(SessionError),
    /// The proxy cannot do its part.
    #[error("the proxy failed: {0}")]
    Proxy(String),
    /// The backend wants to authenticate the player itself.
    #[error("the backend is in online mode: it asks for encryption")]
    BackendOnline,
    /// The backend lets players in without asking for the signed identity.
    #[error("the backend does not ask for the signed identity of `forwarding_mode = \"velocity\"`")]
    BackendNeverAsked,
    /// The player's version has no way to answer the backend.
    #[error(
        "the player's version is older than 1.13, and `forwarding_mode = \"velocity\"` needs that"
    )]
    VersionWithoutForwarding,
    /// The backend refused the player with its own text, a JSON component.
    #[error("the backend refused the player")]
    BackendRefused(String),
    /// The backend sent something that it may not send.
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
    /// What an error of the client's connection means.
    pub(super) fn client(error: WireError) -> Self {
        match error {
            WireError::Closed | WireError::Io(_) => Self::ClientLeft,
            WireError::Codec(error) => Self::Client(error.to_string()),
            WireError::Packet(error) => Self::Client(error),
        }
    }

    /// What an error of the backend's connection means.
    pub(super) fn backend(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::BackendLost("it was closed".to_owned()),
            WireError::Io(error) => Self::BackendLost(error.to_string()),
            WireError::Codec(error) => Self::BackendFault(error.to_string()),
            WireError::Packet(error) => Self::BackendFault(error),
        }
    }

    /// The name in logs and for plugins.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Client(_) => "client_fault",
            Self::TooSlow => "client_too_slow",
            Self::Name(_) => "bad_name",
            Self::Encryption => "bad_encryption",
            Self::Session(SessionError::NotJoined) => "not_authenticated",
            Self::Session(_) => "session_service",
            Self::Proxy(_) => "proxy_fault",
            Self::BackendOnline => "backend_online",
            Self::BackendNeverAsked => "backend_never_asked",
            Self::VersionWithoutForwarding => "version_without_forwarding",
            Self::BackendRefused(_) => "backend_refused",
            Self::BackendFault(_) => "backend_fault",
            Self::BackendLost(_) => "backend_lost",
            Self::BackendTooSlow => "backend_too_slow",
        }
    }

    /// Whether the operator has to do something about a backend.
    pub(crate) fn is_backends(&self) -> bool {
        matches!(
            self,
            Self::BackendOnline
                | Self::BackendNeverAsked
                | Self::BackendFault(_)
                | Self::BackendLost(_)
                | Self::BackendTooSlow
        )
    }

    /// What the player reads; `None` where nobody is there to read, and where
    /// the server's own `disconnect_message` fits.
    pub(crate) fn text(&self) -> Option<&str> {
        Some(match self {
            Self::ClientLeft => return None,
            Self::Client(_) => "Your client sent something that the proxy does not understand.",
            Self::TooSlow => "Your client took too long to log in.",
            Self::Name(NameError::Length) => "A player's name has 1 to 16 characters.",
            Self::Name(NameError::Characters) => {
                "Your name has a character that this server does not allow."
            }
            Self::Encryption => "Your client could not encrypt the connection. Try again.",
            Self::Session(SessionError::NotJoined) => {
                "You are not authenticated with your Minecraft account. Restart the game and try again."
            }
            Self::Session(SessionError::TooManyRequests) => {
                "The authentication servers are busy. Try again in a minute."
            }
            Self::Session(SessionError::Down(_) | SessionError::BadAnswer(_)) => {
                "The authentication servers cannot be reached. Try again later."
            }
            Self::Proxy(_) => "The proxy has a problem. Please tell its operator.",
            Self::BackendOnline => {
                "This server authenticates players itself, behind a proxy that has done so. Please tell its operator."
            }
            Self::BackendNeverAsked => {
                "This server is not set up for the player forwarding of its proxy. Please tell its operator."
            }
            Self::VersionWithoutForwarding => "This server needs Minecraft 1.13 or newer.",
            Self::BackendRefused(text) => text,
            Self::BackendFault(_) => {
                "This server sent something that the proxy does not understand."
            }
            Self::BackendTooSlow => "This server took too long to let you in.",
            Self::BackendLost(_) => return None,
        })
    }
}

/// What a client reads whose version the proxy does not know.
pub(crate) fn unknown_version_text() -> String {
    format!(
        "Your game is newer than this proxy. The newest version that it knows is {}.",
        Version::newest().games()
    )
}

/// What a client reads whose version is before 1.7.
pub(crate) const OLD_VERSION_TEXT: &str = "This server needs Minecraft 1.7.2 or newer.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents for operators and for authors of plugins have every word
    /// that the log and `Closed` give as a reason.
    #[test]
    fn every_reason_is_documented() {
        let operators = include_str!("../../docs/operations.md");
        let authors = include_str!("../../plugin-api/src/context.rs");
        let text = String::new;
        // Before a session opens only the log has them.
        let while_proving = [
            Failure::Name(NameError::Length),
            Failure::Encryption,
            Failure::Session(SessionError::NotJoined),
            Failure::Session(SessionError::TooManyRequests),
        ];
        let later = [
            Failure::ClientLeft,
            Failure::Client(text()),
            Failure::TooSlow,
            Failure::Proxy(text()),
            Failure::BackendOnline,
            Failure::BackendNeverAsked,
            Failure::VersionWithoutForwarding,
            Failure::BackendRefused(text()),
            Failure::BackendFault(text()),
            Failure::BackendLost(text()),
            Failure::BackendTooSlow,
        ];
        for failure in while_proving.iter().chain(&later) {
            let word = format!("`{}`", failure.name());
            assert!(operators.contains(&word), "{word}");
        }
        for failure in &later {
            let word = format!("`{}`", failure.name());
            assert!(authors.contains(&word), "{word}");
        }
    }
}
