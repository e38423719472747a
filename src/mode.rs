//! The modes: how much the proxy takes part in a player's connection.
//!
//! [`capability`](crate::capability) says what each mode can offer.

use std::fmt;

/// How much the proxy takes part in the connections of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Read the handshake and the login start, then copy bytes.
    Passthrough,
    /// Read the handshake and the login start, then let the kernel move the bytes.
    ZeroCopy,
    /// As `passthrough`, and the backend must authenticate its players.
    ServerOnly,
    /// The proxy authenticates the player and speaks the protocol on both sides.
    ClientOnly,
    /// The proxy speaks the protocol on both sides and authenticates nobody.
    Offline,
}

/// The two families of modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// After the login start the proxy only moves bytes.
    Forwarding,
    /// The proxy speaks the protocol with the client and with the backend.
    Intercepted,
}

impl Mode {
    /// Every mode, forwarding ones first.
    pub const ALL: [Mode; 5] = [
        Mode::Passthrough,
        Mode::ZeroCopy,
        Mode::ServerOnly,
        Mode::ClientOnly,
        Mode::Offline,
    ];

    /// The name in configurations, logs and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Passthrough => "passthrough",
            Mode::ZeroCopy => "zero_copy",
            Mode::ServerOnly => "server_only",
            Mode::ClientOnly => "client_only",
            Mode::Offline => "offline",
        }
    }

    /// One sentence for operators.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Mode::Passthrough => {
                "The proxy reads the handshake and the login start, then copies bytes."
            }
            Mode::ZeroCopy => {
                "The proxy reads the handshake and the login start, then the kernel moves the bytes."
            }
            Mode::ServerOnly => "As passthrough, and the backend must authenticate its players.",
            Mode::ClientOnly => {
                "The proxy authenticates the player and speaks the protocol on both sides."
            }
            Mode::Offline => {
                "The proxy speaks the protocol on both sides and authenticates nobody."
            }
        }
    }

    /// Whether the proxy only moves bytes, or speaks the protocol.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Mode::Passthrough | Mode::ZeroCopy | Mode::ServerOnly => Family::Forwarding,
            Mode::ClientOnly | Mode::Offline => Family::Intercepted,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
