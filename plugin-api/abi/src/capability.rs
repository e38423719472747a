//! The capabilities that a plugin or a configuration key may ask for.

use crate::Version;

/// Calls a macro with the table of capabilities: `capabilities! { [callback] tokens }`
/// becomes `callback! { tokens rows }`.
///
/// A row has the name, the bit, the name that configurations use, and
///
/// - the [`CapabilityKind`] in lower case, and optionally the words that follow "needs"
///   in a message. Without these words the message has the name
/// - `stage`: the [`Stage`] of a connection that it needs, in lower case. The modes that
///   offer it follow from this
/// - `since`: the first version of the plugin API in which it can be listed in
///   `needs` and `wants`. A plugin that needs it requires that version.
/// - `served`: the first version whose hosts serve all of it to a plugin that needs it,
///   where it could be listed before. It is raised when a table gets another function:
///   a plugin does not say which functions it calls
#[doc(hidden)]
#[macro_export]
macro_rules! capabilities {
    ([$($callback:tt)+] $($tokens:tt)*) => {
        $($callback)+! { $($tokens)*
            /// See the peer's address and the virtual host; allow, refuse or drop.
            ConnectionDecide = 0, "connection.decide", hook,
                stage opening, since (0, 1, 0);
            /// Change the host that the backend sees.
            HandshakeRewrite = 1, "handshake.rewrite", hook,
                stage opening, since (0, 1, 0);
            /// See and replace the status answer.
            StatusRespond = 2, "status.respond", hook,
                stage opening, since (0, 1, 0);
            /// See the name and UUID, claimed or proved; allow, or refuse with a text.
            LoginDecide = 3, "login.decide", hook,
                stage opening, since (0, 1, 0);
            /// Choose another server for this login.
            RouteSelect = 4, "route.select", hook,
                stage opening, since (0, 1, 0);
            /// See that a session opens, reaches its backend and closes, with byte counts.
            SessionObserve = 5, "session.observe", hook,
                stage opening, since (0, 1, 0);
            /// Get the profile of a player, which the proxy itself has authenticated.
            IdentityVerified = 6, "identity.verified", service "a login at the proxy that proves the player",
                stage proof, since (0, 1, 0), served (0, 1, 1);
            /// See packets.
            PacketInspect = 7, "packet.inspect", hook "packets",
                stage packets, since (0, 1, 0), served (0, 1, 2);
            /// Change or drop packets.
            PacketModify = 8, "packet.modify", hook "packets",
                stage packets, since (0, 1, 0), served (0, 1, 2);
            /// Send packets to either side.
            PacketInject = 9, "packet.inject", service "packets",
                stage packets, since (0, 1, 0), served (0, 1, 2);
            /// Show chat, titles and action bars to a player in the game, or kick the player with a text.
            PlayerMessage = 10, "player.message", service "messages to players",
                stage packets, since (0, 1, 0), served (0, 1, 1);
            /// Move a player to another server.
            ServerSwitch = 11, "server.switch", service "server switching",
                stage packets, since (0, 1, 0), served (0, 1, 2);
            /// Add commands that players type.
            PlayerCommand = 12, "player.command", hook "commands of players",
                stage packets, since (0, 1, 0), served (0, 1, 2);
            /// Hold a player without a backend (planned: no key or function uses it yet).
            Limbo = 13, "limbo", planned "a proxy that can hold a player",
                stage packets, since (0, 1, 0);
            /// Be a member of a network whose players can move between servers.
            NetworkMember = 14, "network.member", key "server switching",
                stage packets, since (0, 1, 0);
            /// Send the identity of the player to the backend, with a signature.
            ForwardingSigned = 15, "forwarding.signed", key "a login at the proxy",
                stage packets, since (0, 1, 0);
            /// Send the identity of the player to the backend, in the host field of the handshake.
            ForwardingHost = 16, "forwarding.host", key,
                stage opening, since (0, 1, 0);
            /// Encrypt the connection between client and proxy.
            ClientEncryption = 17, "client.encryption", key "encryption by the proxy",
                stage encryption, since (0, 1, 0);
            /// Compress the connection between client and proxy.
            ClientCompression = 18, "client.compression", key "compression by the proxy",
                stage packets, since (0, 1, 0);
            /// See that a player joins the game and leaves it.
            PlayerObserve = 19, "player.observe", hook "players in the game",
                stage packets, since (0, 1, 1);
            /// Send a player to another address (1.20.5 and later).
            PlayerTransfer = 20, "player.transfer", service "transfers of players",
                stage packets, since (0, 1, 1);
            /// Store cookies in clients, and ask for them (1.20.5 and later).
            PlayerCookie = 21, "player.cookie", service "cookies of clients",
                stage packets, since (0, 1, 2);
        }
    };
}

/// Who uses a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityKind {
    /// A plugin that implements the trait of a [`Hook`](crate::Hook).
    Hook,
    /// A plugin that calls the functions of a table.
    Service,
    /// A server with a key in its configuration.
    Key,
    /// A plugin, with a later version of the plugin API: there is no trait and no
    /// table yet.
    Planned,
}

/// The part of a connection that a capability needs the proxy to take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The packets up to the login start, and the moments at which a session opens and
    /// closes.
    Opening,
    /// The authentication of the player.
    Proof,
    /// The encryption that begins with the authentication.
    Encryption,
    /// The packets after the login start.
    Packets,
}

macro_rules! make {
    (@stage opening) => { Stage::Opening };
    (@stage proof) => { Stage::Proof };
    (@stage encryption) => { Stage::Encryption };
    (@stage packets) => { Stage::Packets };
    (@kind hook) => { CapabilityKind::Hook };
    (@kind service) => { CapabilityKind::Service };
    (@kind key) => { CapabilityKind::Key };
    (@kind planned) => { CapabilityKind::Planned };
    (@first $first:literal $($default:literal)?) => { $first };
    (@version $version:tt $default:tt) => { make!(@version $version) };
    (@version ($major:literal, $minor:literal, $patch:literal)) => {
        Version::new($major, $minor, $patch)
    };
    ($(
        $(#[doc = $doc:literal])+
        $name:ident = $bit:literal, $id:literal, $kind:ident $($gives:literal)?,
            stage $stage:ident, since $since:tt $(, served $served:tt)?;
    )+) => {
        /// One thing that a mode can offer: a hook where plugins are asked, a
        /// service that they may call, or a feature that a configuration key
        /// switches on.
        ///
        /// The discriminant is the bit of the capability in a set of 64. Bits
        /// and names are never reused or changed once released; new ones are
        /// appended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Capability {
            $($(#[doc = $doc])+ $name = $bit,)+
        }

        impl Capability {
            /// Every capability, in the order of their bits.
            pub const ALL: &'static [Capability] = &[$(Capability::$name),+];

            /// The name that configurations, manifests and documents use, such
            /// as `handshake.rewrite`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Capability::$name => $id,)+ }
            }

            /// Who uses it.
            #[must_use]
            pub const fn kind(self) -> CapabilityKind {
                match self { $(Capability::$name => make!(@kind $kind),)+ }
            }

            /// One sentence about its effect.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Capability::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The words that follow "needs" in a message, such as `messages to players`.
            #[must_use]
            pub const fn gives(self) -> &'static str {
                match self { $(Capability::$name => make!(@first $($gives)? $id),)+ }
            }

            /// The capability as a set of one, in a mask of 64.
            #[must_use]
            pub const fn bit(self) -> u64 {
                1 << self as u64
            }

            /// The part of a connection that it needs.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Capability::$name => make!(@stage $stage),)+ }
            }

            /// The first version of the plugin API in which it can be listed in `needs`
            /// or `wants`.
            #[must_use]
            pub const fn since(self) -> Version {
                match self { $(Capability::$name => make!(@version $since),)+ }
            }

            /// The first version of the plugin API whose hosts serve it to a plugin
            /// that needs it. Some could be listed before their service was there.
            #[must_use]
            pub const fn served_since(self) -> Version {
                match self { $(Capability::$name => make!(@version $($served)? $since),)+ }
            }
        }
    };
}

capabilities! { [make] }

/// The capabilities whose bits are set in `mask`, in the order of their bits.
/// Unknown bits are ignored.
pub fn capabilities_in(mask: u64) -> impl Iterator<Item = Capability> {
    Capability::ALL
        .iter()
        .copied()
        .filter(move |capability| mask & capability.bit() != 0)
}

impl core::str::FromStr for Capability {
    type Err = UnknownCapability;

    /// Finds a capability by its [name](Capability::name).
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|capability| capability.name() == name)
            .ok_or(UnknownCapability)
    }
}

impl core::fmt::Display for Capability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// No capability has the given name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCapability;

impl core::fmt::Display for UnknownCapability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no capability has this name")
    }
}

impl core::error::Error for UnknownCapability {}

#[cfg(test)]
mod tests {
    use super::Capability;

    /// Bits are dense and in order, and each name leads back to its capability.
    #[test]
    fn bits_and_names_are_unique() {
        for (bit, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(*capability as usize, bit);
            assert_eq!(capability.name().parse(), Ok(*capability));
            assert!(capability.meaning().ends_with('.'));
            assert!(capability.served_since() >= capability.since());
        }
    }
}
