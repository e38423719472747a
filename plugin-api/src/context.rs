//! The arguments of hooks: views of the tables that the host lends for a call.
#![allow(unsafe_code, reason = "texts of the host are pointers")]

use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use infrarust_plugin_abi as abi;

use crate::{Capability, PlayerId};

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

/// Converts an address; `0.0.0.0:0` if there is none.
fn address(address: abi::Address) -> SocketAddr {
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

/// An input that the host lends.
///
/// A host that is older than this crate lends a shorter table. So there is never a
/// reference to the whole table: fields are read one by one.
struct Lent<'a, I> {
    input: *const I,
    lent: PhantomData<&'a I>,
}

impl<I> Clone for Lent<'_, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I> Copy for Lent<'_, I> {}

// SAFETY: as a reference to the input.
unsafe impl<I: Sync> Send for Lent<'_, I> {}
// SAFETY: as a reference to the input.
unsafe impl<I: Sync> Sync for Lent<'_, I> {}

/// A field of an input that every host has.
macro_rules! field {
    ($view:ident.$field:ident) => {
        // SAFETY: the input is lent, and no host lends one without this field.
        unsafe { (&raw const (*$view.0.input).$field).read() }
    };
}

/// A text of an input that every host has. Read only when needed: checking a text for
/// UTF-8 reads all its bytes, and most hooks use one or two.
macro_rules! text {
    ($view:ident.$field:ident) => {{
        let text: abi::Str = field!($view.$field);
        // SAFETY: the host keeps the texts of an input as long as the input.
        unsafe { text.text() }
    }};
}

/// A field that a later version has appended; `None` if the host is older.
macro_rules! appended {
    ($view:ident.$field:ident: $type:ty, of $input:ident) => {
        if field!($view.size) as usize >= offset_of!(abi::$input, $field) + size_of::<$type>() {
            // SAFETY: the input is lent, and as long as it says.
            let value: $type = unsafe { (&raw const (*$view.0.input).$field).read() };
            Some(value)
        } else {
            None
        }
    };
}

macro_rules! context {
    ($(#[doc = $doc:literal])+ $context:ident reads $input:ident, and says $($said:ident),+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy)]
        pub struct $context<'a>(Lent<'a, abi::$input>);

        impl<'a> $context<'a> {
            /// # Safety
            ///
            /// The input must be good for `'a`, as far as its size says.
            pub(crate) const unsafe fn new(input: *const abi::$input) -> Self {
                Self(Lent {
                    input,
                    lent: PhantomData,
                })
            }

            /// The client's address; behind a trusted load balancer the one in its
            /// PROXY header. An IPv4 address is never mapped to IPv6.
            #[must_use]
            pub fn peer(&self) -> SocketAddr {
                address(field!(self.peer))
            }

            /// The virtual host that the client sent: lower case, without a
            /// trailing dot, without markers. Empty if there was none.
            #[must_use]
            pub const fn virtual_host(&self) -> &'a str {
                text!(self.host)
            }

            /// The id of the server that the virtual host leads to, or that a
            /// plugin has selected; empty when there is none.
            #[must_use]
            pub const fn server(&self) -> &'a str {
                text!(self.server)
            }

            /// The protocol version that the client announced, such as 767 for
            /// 1.21; -1 for clients before 1.7.
            #[must_use]
            pub const fn protocol(&self) -> i32 {
                field!(self.protocol)
            }

            /// Whether the plugin may use a capability on this connection: it
            /// has declared it, and the server's mode offers it.
            #[must_use]
            pub const fn may(&self, capability: Capability) -> bool {
                field!(self.grants) & capability.bit() != 0
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
        Intent::from_number(field!(self.intent))
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
        Intent::from_number(field!(self.intent))
    }

    /// The host that the backend gets if this plugin keeps it: the client's, the one of
    /// the configuration, or the choice of a previous plugin.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        text!(self.current)
    }
}

context! {
    /// A status answer before it goes to the client.
    Status reads StatusInput, and says is_online, json
}

impl<'a> Status<'a> {
    /// Whether the answer is from a backend; otherwise it is the proxy's own.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        field!(self.online) != 0
    }

    /// The answer, a JSON object, which a previous plugin may have changed.
    #[must_use]
    pub const fn json(&self) -> &'a str {
        text!(self.current)
    }
}

context! {
    /// A player who asks to join.
    Login reads LoginInput, and says intent, name, uuid, is_proved
}

impl<'a> Login<'a> {
    /// What the client wants.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        Intent::from_number(field!(self.intent))
    }

    /// The name of the player: *claimed* by the client, unless it
    /// [is proved](Self::is_proved).
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text!(self.name)
    }

    /// The UUID of the player: *claimed* by the client, unless it
    /// [is proved](Self::is_proved). Old clients claim none; a proved player has one.
    #[must_use]
    pub const fn uuid(&self) -> Option<u128> {
        if field!(self.has_uuid) == 0 {
            return None;
        }
        Some(u128::from_be_bytes(field!(self.uuid)))
    }

    /// Whether the proxy itself has proved name and UUID, at the session service.
    ///
    /// True in `login.decide` on a `client_only` server, where the hook is called after
    /// the authentication. False everywhere else: in the other modes, in `route.select`,
    /// which is called before, and in a proxy with a plugin API before 0.1.1. Costs one
    /// comparison; may be called on any thread while the hook runs.
    #[must_use]
    pub const fn is_proved(&self) -> bool {
        matches!(appended!(self.proved: u32, of LoginInput), Some(proved) if proved != 0)
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
        field!(self.session)
    }

    /// The name that the player claims.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text!(self.name)
    }

    /// What has happened.
    #[must_use]
    pub const fn event(&self) -> Event<'a> {
        match field!(self.event) {
            abi::event::CONNECTED => Event::Connected {
                backend: text!(self.text),
            },
            abi::event::CLOSED => Event::Closed {
                reason: text!(self.text),
                serverbound_bytes: field!(self.serverbound_bytes),
                clientbound_bytes: field!(self.clientbound_bytes),
                duration: Duration::from_millis(field!(self.duration_ms)),
            },
            // The hook is called for known events only.
            _ => Event::Opened,
        }
    }
}

/// The argument of a hook that does not wait.
pub(crate) trait Known {
    /// Whether this version of the API knows what has happened.
    fn is_known(&self) -> bool {
        true
    }
}

impl Known for Handshake<'_> {}

impl Known for Session<'_> {
    fn is_known(&self) -> bool {
        matches!(
            field!(self.event),
            abi::event::OPENED | abi::event::CONNECTED | abi::event::CLOSED
        )
    }
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A player was let in and has a place on the server.
    Opened,
    /// The backend has accepted the connection. Comes again for another backend if this
    /// one ends the connection before it has sent anything, and in `client_only` and
    /// `offline` if the player comes to another server of the network.
    Connected {
        /// Its address.
        backend: &'a str,
    },
    /// The session is over. Comes once for each `Opened`, however it ended.
    Closed {
        /// The reason, in one word; words may be added. As in the log: `closed`, `reset`,
        /// `failed`, `read_timeout`, `write_timeout`, `half_close_timeout`,
        /// `stopped`, `kicked`, `server_full`, `plugin`, `plugin_failed`, `unreachable`
        /// and `backend_failed` (no backend could be used). For these the log has a
        /// sentence: `not_authenticated` (`auth_guard`), `broken` (bytes that
        /// are not the protocol), `client_left` and `evicted` (before there was
        /// a backend). In `client_only` and `offline`, before the player is in
        /// the game: `client_fault`, `client_too_slow`, `proxy_fault`, `replaced`,
        /// `version_without_forwarding`, and about the backend `backend_online`,
        /// `backend_never_asked`, `backend_refused`, `backend_mods`, `backend_fault`,
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

context! {
    /// A player, and what has happened.
    Player reads PlayerInput, and says id, name, event
}

impl<'a> Player<'a> {
    /// The id of the player, for services.
    #[must_use]
    pub const fn id(&self) -> PlayerId {
        PlayerId::from_number(field!(self.player))
    }

    /// The name under which the player is in the game.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text!(self.name)
    }

    /// The UUID of the player. A backend without player forwarding uses another one,
    /// made from the name.
    #[must_use]
    pub const fn uuid(&self) -> u128 {
        u128::from_be_bytes(field!(self.uuid))
    }

    /// Whether the proxy itself has proved name and UUID: on `client_only` servers.
    #[must_use]
    pub const fn is_proved(&self) -> bool {
        field!(self.proved) != 0
    }

    /// What has happened.
    #[must_use]
    pub const fn event(&self) -> PlayerEvent<'a> {
        match field!(self.event) {
            abi::player_event::LEFT => PlayerEvent::Left {
                reason: text!(self.text),
            },
            // The hook is called for known events only.
            _ => PlayerEvent::Joined,
        }
    }
}

impl Known for Player<'_> {
    fn is_known(&self) -> bool {
        matches!(
            field!(self.event),
            abi::player_event::JOINED | abi::player_event::LEFT
        )
    }
}

/// What has happened to a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlayerEvent<'a> {
    /// The player is in the game: the client has been sent the packet that begins it.
    Joined,
    /// The player has left the game. Comes once for each `Joined`, however the session
    /// ended; services can no longer be used for the player.
    Left {
        /// The reason, in one word, as in [`Event::Closed`]; `switched` if the player goes
        /// to another server of the network because somebody has asked for it.
        reason: &'a str,
    },
}

context! {
    /// A command that a player uses.
    Command reads CommandInput, and says player, name, command, arguments
}

impl<'a> Command<'a> {
    /// Who uses it, for the services that reach players.
    #[must_use]
    pub const fn player(&self) -> PlayerId {
        PlayerId::from_number(field!(self.player))
    }

    /// The name of the player.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        text!(self.name)
    }

    /// The UUID of the player. A backend without player forwarding uses another one,
    /// made from the name.
    #[must_use]
    pub const fn uuid(&self) -> u128 {
        u128::from_be_bytes(field!(self.uuid))
    }

    /// Whether the proxy itself has proved name and UUID, as it has on
    /// `client_only` servers.
    #[must_use]
    pub const fn is_proved(&self) -> bool {
        field!(self.proved) != 0
    }

    /// Whether the operator has made the player an admin (`permissions.admins`).
    #[must_use]
    pub const fn is_admin(&self) -> bool {
        field!(self.admin) != 0
    }

    /// The name of the command, as the plugin has listed it.
    #[must_use]
    pub const fn command(&self) -> &'a str {
        text!(self.command)
    }

    /// What was typed behind it, without the space between.
    #[must_use]
    pub const fn arguments(&self) -> &'a str {
        text!(self.arguments)
    }

    /// What is wanted: one of [`abi::command_event`].
    pub(crate) const fn event(&self) -> u32 {
        field!(self.event)
    }
}

#[cfg(test)]
mod tests {
    use infrarust_plugin_abi::{ClientInput, LoginInput, sample};

    use super::*;

    /// A host from before a field was appended lends a shorter input: what lies
    /// behind its end is not read.
    #[test]
    fn an_older_host_lends_less() {
        let client = ClientInput {
            peer: sample::PEER,
            protocol: sample::PROTOCOL,
            intent: abi::intent::LOGIN,
            host: sample::HOST,
            server: sample::SERVER,
        };
        let mut input = LoginInput::new(&client, sample::NAME, None).proved(true);
        let is_proved = |input: &LoginInput| {
            // SAFETY: the input is there as long as the view.
            let login = unsafe { Login::new(input) };
            assert_eq!(login.name(), sample::NAME);
            login.is_proved()
        };
        assert!(is_proved(&input));
        input.size = u32::try_from(offset_of!(LoginInput, proved)).unwrap();
        assert!(!is_proved(&input));
    }
}
