//! The table of hooks. Everything that has one entry a hook is made from it, or
//! does not compile without its entry.

use crate::{
    AsyncHook, Capability, CommandHook, CommandInput, ConnectionInput, HandshakeInput, LoginInput,
    PacketHook, PacketInput, PlayerInput, SessionInput, StatusInput, SyncHook, Version,
};

/// Calls a macro with the table of hooks: `hooks! { [callback] tokens }` becomes
/// `callback! { tokens rows }`.
///
/// A row has the capability, which is also the name of the author's trait, and
///
/// - `method`: the method of the trait, of `TestHost` and of the proxy's set
/// - `call`: `sync`, `async`, `packet` for a hook that says which packets it is asked
///   about, or `command` for one that says which commands it has
/// - `input`: the table that the host passes in, and the author's view of it
/// - `answer`: what the method returns
/// - `answer_bytes`: the most bytes of the text of an answer
/// - `when`: when it is asked, for the tables of the documents
/// - `failed`: what a failure means where the operator has not chosen: `Continue`
///   or `Deny`, and for the reader
/// - `since`: the version of the plugin API from which on it can be listed in
///   `hooks`. A plugin that lists it requires that version.
///
/// The rows stand in the order in which a connection comes to them.
#[doc(hidden)]
#[macro_export]
macro_rules! hooks {
    ([$($callback:tt)+] $($tokens:tt)*) => {
        $($callback)+! { $($tokens)*
            /// Whether a client may go on at all.
            ConnectionDecide {
                method: connection_decide,
                call: async,
                input: ConnectionInput as Connection,
                answer: Verdict,
                answer_bytes: 4096,
                when: "the client has said what it wants; pings too",
                failed: Deny "the client is refused",
                since: (0, 1, 0),
            }
            /// Which host the backend sees. The most bytes are the handshake's own limit.
            HandshakeRewrite {
                method: handshake_rewrite,
                call: sync,
                input: HandshakeInput as Handshake,
                answer: Rewrite,
                answer_bytes: 255,
                when: "before a backend is dialled, for pings and logins alike",
                failed: Continue "the host stays as it was",
                since: (0, 1, 0),
            }
            /// What a status ping is answered. The limit of its packet is 32,767
            /// characters, each of which has at most four bytes.
            StatusRespond {
                method: status_respond,
                call: async,
                input: StatusInput as Status,
                answer: Reply,
                answer_bytes: 131_068,
                when: "a status answer is ready, for each ping",
                failed: Continue "the answer stays as it was",
                since: (0, 1, 0),
            }
            /// Whether a player may join.
            LoginDecide {
                method: login_decide,
                call: async,
                input: LoginInput as Login,
                answer: Verdict,
                answer_bytes: 4096,
                when: "name and UUID are known: *proved* in `client_only`, *claims* elsewhere",
                failed: Deny "the player is refused",
                since: (0, 1, 0),
            }
            /// Which server a login goes to.
            RouteSelect {
                method: route_select,
                call: async,
                input: LoginInput as Login,
                answer: Choice,
                answer_bytes: 64,
                when: "the name is claimed, no place taken yet",
                failed: Continue "the server stays as it was",
                since: (0, 1, 0),
            }
            /// What happens to sessions.
            SessionObserve {
                method: session_observe,
                call: sync,
                input: SessionInput as Session,
                answer: (),
                answer_bytes: 0,
                when: "a session opened, reached its backend, closed",
                failed: Continue "nothing",
                since: (0, 1, 0),
            }
            /// Who comes into the game and leaves it.
            PlayerObserve {
                method: player_observe,
                call: sync,
                input: PlayerInput as Player,
                answer: (),
                answer_bytes: 0,
                when: "a player came into the game and left it; `client_only` and `offline`",
                failed: Continue "nothing",
                since: (0, 1, 1),
            }
            /// Which packets pass, without changing them.
            PacketInspect {
                method: packet_inspect,
                call: packet,
                input: PacketInput as Packet,
                answer: (),
                answer_bytes: 0,
                when: "a packet that the plugin has named comes by; `client_only` and `offline`",
                failed: Continue "the packet passes",
                since: (0, 1, 2),
            }
            /// Which packets pass, and how.
            PacketModify {
                method: packet_modify,
                call: packet,
                input: PacketInput as Packet,
                answer: PacketVerdict,
                answer_bytes: 0,
                when: "the same, for plugins that change or drop packets",
                failed: Continue "the packet passes",
                since: (0, 1, 2),
            }
            /// What a command of the plugin does. The most bytes are those of a text.
            PlayerCommand {
                method: player_command,
                call: command,
                input: CommandInput as Command,
                answer: CommandReply,
                answer_bytes: 32_767,
                when: "a player uses a command of the plugin; `client_only` and `offline`",
                failed: Continue "nothing",
                since: (0, 1, 2),
            }
        }
    };
}

/// What happens to a connection when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on as if the plugin were not there.
    Continue,
    /// It is refused.
    Deny,
}

/// A hook as a type, for what depends on the types of its tables.
pub trait Point: 'static {
    /// The hook.
    const HOOK: Hook;
    /// What the host passes in.
    type Input: 'static;
    /// The table of functions: a [`SyncHook`], an [`AsyncHook`], a [`PacketHook`] or a
    /// [`CommandHook`].
    type Table: 'static;
}

macro_rules! make {
    (@table sync $input:ident) => { SyncHook<$input> };
    (@table async $input:ident) => { AsyncHook<$input> };
    (@table packet $input:ident) => { PacketHook<$input> };
    (@table command $input:ident) => { CommandHook<$input> };
    (@may_wait sync) => { false };
    (@may_wait async) => { true };
    (@may_wait packet) => { false };
    (@may_wait command) => { true };
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            answer: $answer:ty,
            answer_bytes: $bytes:literal,
            when: $when:literal,
            failed: $failed:ident $means:literal,
            since: ($major:literal, $minor:literal, $patch:literal),
        }
    )+) => {
        /// A hook: a capability that a plugin has by answering.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Hook {
            $($(#[doc = $doc])+ $hook,)+
        }

        impl Hook {
            /// All of them, in the order in which a connection comes to them.
            pub const ALL: [Hook; [$(stringify!($hook)),+].len()] = [$(Hook::$hook),+];

            /// The hook as a capability, which has its name and its place in the matrix.
            #[must_use]
            pub const fn capability(self) -> Capability {
                match self { $(Hook::$hook => Capability::$hook,)+ }
            }

            /// The hook that a capability is, if it is one.
            #[must_use]
            pub const fn of(capability: Capability) -> Option<Self> {
                match capability {
                    $(Capability::$hook => Some(Hook::$hook),)+
                    _ => None,
                }
            }

            /// The trait of an author's crate.
            #[must_use]
            pub const fn trait_name(self) -> &'static str {
                match self { $(Hook::$hook => stringify!($hook),)+ }
            }

            /// The method of that trait.
            #[must_use]
            pub const fn method(self) -> &'static str {
                match self { $(Hook::$hook => stringify!($method),)+ }
            }

            /// Whether an answer may take its time.
            #[must_use]
            pub const fn may_wait(self) -> bool {
                match self { $(Hook::$hook => make!(@may_wait $call),)+ }
            }

            /// The most bytes that the text of an answer has.
            #[must_use]
            pub const fn answer_bytes_max(self) -> usize {
                match self { $(Hook::$hook => $bytes,)+ }
            }

            /// When it is asked, in Markdown.
            #[must_use]
            pub const fn when(self) -> &'static str {
                match self { $(Hook::$hook => $when,)+ }
            }

            /// What a failure means where the operator has not chosen.
            #[must_use]
            pub const fn on_failure(self) -> OnFailure {
                match self { $(Hook::$hook => OnFailure::$failed,)+ }
            }

            /// The same for a reader, such as `the client is refused`.
            #[must_use]
            pub const fn failure_means(self) -> &'static str {
                match self { $(Hook::$hook => $means,)+ }
            }

            /// The first version of the plugin API in which it can be listed in
            /// `hooks`.
            #[must_use]
            pub const fn since(self) -> Version {
                match self { $(Hook::$hook => Version::new($major, $minor, $patch),)+ }
            }

            /// How it crosses the border: `sync`, `async`, `packet` or `command`, and
            /// the input.
            #[cfg(test)]
            pub(crate) const fn shape(self) -> &'static str {
                match self {
                    $(Hook::$hook => concat!(stringify!($call), " ", stringify!($input)),)+
                }
            }
        }

        /// One type for each hook, with the name of its trait.
        pub mod points {
            $(
                #[doc = concat!("The hook `", stringify!($hook), "`.")]
                #[derive(Debug, Clone, Copy)]
                pub struct $hook;
            )+
        }

        $(impl Point for points::$hook {
            const HOOK: Hook = Hook::$hook;
            type Input = $input;
            type Table = make!(@table $call $input);
        })+
    };
}

hooks! { [make] }

impl Hook {
    /// Its name, such as `connection.decide`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.capability().name()
    }
}

impl core::fmt::Display for Hook {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Hook;
    use crate::{Capability, CapabilityKind};

    /// The capabilities that are hooks have a row each.
    #[test]
    fn kinds_agree() {
        for capability in Capability::ALL.iter().copied() {
            let is_hook = capability.kind() == CapabilityKind::Hook;
            assert_eq!(Hook::of(capability).is_some(), is_hook, "{capability}");
        }
    }

    /// The name of the trait, of the method and of the capability are one name.
    #[test]
    fn names_agree() {
        for hook in Hook::ALL {
            assert_eq!(hook.method(), hook.name().replace('.', "_"));
            assert_eq!(hook.trait_name(), format!("{:?}", hook.capability()));
            assert_eq!(Hook::of(hook.capability()), Some(hook));
            // Who cannot list the capability cannot list the hook.
            assert!(hook.since() >= hook.capability().since());
        }
    }
}
