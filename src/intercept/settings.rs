//! The settings of logins in the intercepted modes.

use std::fmt;

use crate::protocol::codec::Format;

/// The settings of all servers of the intercepted modes (`[auth]`).
#[derive(Debug, Clone, PartialEq)]
pub struct LoginConfig {
    /// The `hasJoined` address of the session server; `None` is Mojang's.
    pub session_url: Option<String>,
    /// Whether the player's address is sent to the session server.
    pub prevent_proxy_connections: bool,
    /// Whether an unauthenticated player gets the player id that the client claims.
    pub uuid_of_client: bool,
    /// What happens at a second login of a player.
    pub duplicate_login: DuplicateLogin,
    /// Which packets to a client are compressed.
    pub compression: ClientCompression,
}

/// Which packets to a client are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCompression {
    /// Those that the backend of the login compresses, so that frames pass unchanged. If
    /// the backend does not compress, those from the game's default threshold on.
    AsBackend,
    /// Those of at least this many bytes.
    From(u32),
    /// None.
    Never,
}

impl ClientCompression {
    /// The default threshold of the game's server, in bytes.
    const GAME_DEFAULT: u32 = 256;

    /// The format for a client while a backend has this one.
    pub(super) fn format(self, of_backend: Format) -> Format {
        match (self, of_backend) {
            (Self::AsBackend, Format::Compressed { .. }) => of_backend,
            (Self::AsBackend, Format::Plain) => Format::Compressed {
                threshold: Self::GAME_DEFAULT,
            },
            (Self::From(threshold), _) => Format::Compressed { threshold },
            (Self::Never, _) => Format::Plain,
        }
    }
}

/// What happens when a player who is logged in logs in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateLogin {
    /// It is refused.
    Refuse,
    /// It ends the first.
    Replace,
}

/// Player forwarding in the host field of the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostForwarding {
    /// BungeeCord's form, without any proof of its origin.
    BungeeCord,
    /// BungeeCord's form with a token that the backend checks.
    BungeeGuard(Secret),
}

/// Player forwarding of the intercepted modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityForwarding {
    /// In the host field.
    Host(HostForwarding),
    /// Velocity's signed answer to a login plugin request.
    Velocity(Secret),
}

/// A secret: it has no `Display`, and its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
