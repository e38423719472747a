//! What hooks are told.

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

/// What every hook is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(crate) protocol: i32,
    pub(crate) grants: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) host: &'a str,
    pub(crate) server: &'a str,
}

/// The address; `0.0.0.0:0` where there is none.
pub(crate) fn address(address: &abi::Address) -> SocketAddr {
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

macro_rules! common {
    ($($context:ident),+) => {
        $(impl<'a> $context<'a> {
            /// The client's address: behind a trusted load balancer, the one
            /// that its PROXY header tells. IPv4 is never written as IPv6.
            #[must_use]
            pub const fn peer(&self) -> SocketAddr {
                self.common.peer
            }

            /// The virtual host that the client sent: lower case, without a
            /// trailing dot, without markers. Empty when there was none.
            #[must_use]
            pub const fn virtual_host(&self) -> &'a str {
                self.common.host
            }

            /// The id of the server that the virtual host leads to; empty when
            /// it leads to none.
            #[must_use]
            pub const fn server(&self) -> &'a str {
                self.common.server
            }

            /// The protocol version that the client announced, such as 767 for
            /// 1.21; -1 where it was too old to have one.
            #[must_use]
            pub const fn protocol(&self) -> i32 {
                self.common.protocol
            }

            /// Whether the plugin may use a capability on this connection: it
            /// has declared it, and the server's mode offers it.
            #[must_use]
            pub const fn may(&self, capability: Capability) -> bool {
                self.common.grants & capability.bit() != 0
            }
        })+
    };
}

common!(Connection, Handshake, Status, Login, Session);

/// A client that has said what it wants.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) intent: Intent,
}

impl Connection<'_> {
    /// What it wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        self.intent
    }
}

/// A handshake before it goes to a backend.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) intent: Intent,
    pub(crate) current: &'a str,
}

impl<'a> Handshake<'a> {
    /// What the client wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        self.intent
    }

    /// The host that the backend will see as things stand: the client's, the
    /// one of the configuration, or what a plugin before this one has chosen.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        self.current
    }
}

/// A status answer before it goes to the client.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) online: bool,
    pub(crate) current: &'a str,
}

impl<'a> Status<'a> {
    /// Whether a backend has answered, or the proxy answers for it.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        self.online
    }

    /// The answer as it stands: a JSON object, perhaps changed by a plugin
    /// before this one.
    #[must_use]
    pub const fn json(&self) -> &'a str {
        self.current
    }
}

/// A player who asks to join.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) intent: Intent,
    pub(crate) name: &'a str,
    pub(crate) uuid: Option<u128>,
}

impl<'a> Login<'a> {
    /// What the client wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        self.intent
    }

    /// The name that the client *claims*. Nobody has proved it yet.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The UUID that the client *claims*; old clients claim none.
    #[must_use]
    pub const fn uuid(&self) -> Option<u128> {
        self.uuid
    }
}

/// A session to which something has happened.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) id: u64,
    pub(crate) name: &'a str,
    pub(crate) event: Event<'a>,
}

impl<'a> Session<'a> {
    /// The same number in every event of a session, and in no other session
    /// until the proxy starts again.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The name that the player claims.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// What has happened.
    #[must_use]
    pub const fn event(&self) -> Event<'a> {
        self.event
    }
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A player was let in and has a place on the server.
    Opened,
    /// The backend has taken the connection.
    Connected {
        /// Its address.
        backend: &'a str,
    },
    /// The session is over. Comes once for each `Opened`, however it ended.
    Closed {
        /// Why, as in the log of the proxy.
        reason: &'a str,
        /// Bytes from the client to the backend.
        serverbound_bytes: u64,
        /// Bytes from the backend to the client.
        clientbound_bytes: u64,
        /// Time since `Opened`.
        duration: Duration,
    },
}
