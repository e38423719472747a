//! What hooks are told: views of the tables that the host lends for the call.
#![allow(unsafe_code, reason = "texts of the host are pointers")]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use infrarust_plugin_abi as abi;

use crate::Capability;

/// What a client wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Intent {
    /// The entry in a server list.
    Status,
    /// To join.
    Login,
    /// To join, sent here by another server (since 1.20.5).
    Transfer,
    /// Something that this version of the API does not know.
    Other,
}

impl Intent {
    pub(crate) const fn from_number(number: u32) -> Self {
        match number {
            abi::intent::STATUS => Intent::Status,
            abi::intent::LOGIN => Intent::Login,
            abi::intent::TRANSFER => Intent::Transfer,
            _ => Intent::Other,
        }
    }
}

/// The address; `0.0.0.0:0` where there is none.
fn address(address: &abi::Address) -> SocketAddr {
    let ip = match address.family {
        abi::family::V4 => {
            let [a, b, c, d, ..] = address.ip;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        abi::family::V6 => IpAddr::V6(address.ip.into()),
        _ => return SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    SocketAddr::new(ip, address.port)
}

/// A text of an input, read when somebody asks for it: most hooks look at one
/// or two, and each costs a look at all its bytes.
const fn text(text: &abi::Str) -> &str {
    // SAFETY: the host keeps the texts of an input as long as the input, which
    // they are borrowed from.
    unsafe { text.text() }
}

macro_rules! context {
    ($(#[doc = $doc:literal])+ $context:ident reads $input:ident, and says $($said:ident),+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy)]
        pub struct $context<'a>(&'a abi::$input);

        impl<'a> $context<'a> {
            pub(crate) const fn new(input: &'a abi::$input) -> Self {
                Self(input)
            }

            /// The client's address: behind a trusted load balancer, the one
            /// that its PROXY header tells. IPv4 is never written as IPv6.
            #[must_use]
            pub fn peer(&self) -> SocketAddr {
                address(&self.0.peer)
            }

            /// The virtual host that the client sent: lower case, without a
            /// trailing dot, without markers. Empty when there was none.
            #[must_use]
            pub const fn virtual_host(&self) -> &'a str {
                text(&self.0.host)
            }

            /// The id of the server that the virtual host leads to, or that a
            /// plugin has selected; empty when there is none.
            #[must_use]
            pub const fn server(&self) -> &'a str {
                text(&self.0.server)
            }

            /// The protocol version that the client announced, such as 767 for
            /// 1.21; -1 where it was too old to have one.
            #[must_use]
            pub const fn protocol(&self) -> i32 {
                self.0.protocol
            }

            /// Whether the plugin may use a capability on this connection: it
            /// has declared it, and the server's mode offers it.
            #[must_use]
            pub const fn may(&self, capability: Capability) -> bool {
                self.0.grants & capability.bit() != 0
            }
        }

        impl fmt::Debug for $context<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($context))
                    .field("peer", &self.peer())
                    .field("virtual_host", &self.virtual_host())
                    .field("server", &self.server())
                    .field("protocol", &self.protocol())
                    $(.field(stringify!($said), &self.$said()))+
                    .finish_non_exhaustive()
            }
        }
    };
}

context! {
    /// A client that has said what it wants.
    Connection reads ConnectionInput, and says intent
}

impl Connection<'_> {
    /// What it wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        Intent::from_number(self.0.intent)
    }
}

context! {
    /// A handshake before it goes to a backend.
    Handshake reads HandshakeInput, and says intent, host
}

impl<'a> Handshake<'a> {
    /// What the client wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        Intent::from_number(self.0.intent)
    }

    /// The host that the backend will see as things stand: the client's, the
    /// one of the configuration, or what a plugin before this one has chosen.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        text(&self.0.current)
    }
}

context! {
    /// A status answer before it goes to the client.
    Status reads StatusInput, and says is_online, json
}

impl<'a> Status<'a> {
    /// Whether a backend has answered, or the proxy answers for it.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        self.0.online != 0
    }

    /// The answer as it stands: a JSON object, perhaps changed by a plugin
    /// before this one.
    #[must_use]
    pub const fn json(&self) -> &'a str {
        text(&self.0.current)
    }
}

context! {
    /// A player who asks to join.
    Login reads LoginInput, and says intent, name, uuid
}

impl<'a> Login<'a> {
    /// What the client wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        Intent::from_number(self.0.intent)
    }

    /// The name that the client *claims*. Nobody has proved it yet.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text(&self.0.name)
    }

    /// The UUID that the client *claims*; old clients claim none.
    #[must_use]
    pub const fn uuid(&self) -> Option<u128> {
        if self.0.has_uuid == 0 {
            return None;
        }
        Some(u128::from_be_bytes(self.0.uuid))
    }
}

context! {
    /// A session to which something has happened.
    Session reads SessionInput, and says id, name, event
}

impl<'a> Session<'a> {
    /// The same number in every event of a session, and in no other session
    /// until the proxy starts again.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.0.session
    }

    /// The name that the player claims.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text(&self.0.name)
    }

    /// What has happened.
    #[must_use]
    pub const fn event(&self) -> Event<'a> {
        match self.0.event {
            abi::event::CONNECTED => Event::Connected {
                backend: text(&self.0.text),
            },
            abi::event::CLOSED => Event::Closed {
                reason: text(&self.0.text),
                serverbound_bytes: self.0.serverbound_bytes,
                clientbound_bytes: self.0.clientbound_bytes,
                duration: Duration::from_millis(self.0.duration_ms),
            },
            // The hook is asked about known events only.
            _ => Event::Opened,
        }
    }
}

/// Whether this version knows what has happened.
pub(crate) const fn is_known(event: u32) -> bool {
    matches!(
        event,
        abi::event::OPENED | abi::event::CONNECTED | abi::event::CLOSED
    )
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A player was let in and has a place on the server.
    Opened,
    /// The backend has taken the connection. Comes again for another backend if
    /// this one ends the connection before it has said anything.
    Connected {
        /// Its address.
        backend: &'a str,
    },
    /// The session is over. Comes once for each `Opened`, however it ended.
    Closed {
        /// Why, in one word; more may come. As in the log: `closed`, `reset`,
        /// `failed`, `read_timeout`, `write_timeout`, `half_close_timeout`,
        /// `stopped`, `server_full`, `plugin`, `plugin_failed`, `unreachable`
        /// and `backend_failed` (no backend could be used). Where the log has a
        /// sentence: `not_authenticated` (`auth_guard`), `broken` (bytes that
        /// are not the protocol), `client_left` and `evicted` (before there was
        /// a backend). In `client_only` and `offline`, before the player is in
        /// the game: `client_fault`, `client_too_slow`, `proxy_fault`, `replaced`,
        /// `version_without_forwarding`, and of the backend `backend_online`,
        /// `backend_never_asked`, `backend_refused`, `backend_fault`,
        /// `backend_lost`, `backend_too_slow`.
        reason: &'a str,
        /// Bytes from the client to the backend.
        serverbound_bytes: u64,
        /// Bytes from the backend to the client.
        clientbound_bytes: u64,
        /// Time since `Opened`.
        duration: Duration,
    },
}
