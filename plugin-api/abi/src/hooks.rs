//! The table of hooks. All code and documents with one entry for each hook are generated
//! from it, or do not compile if an entry is missing.

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
/// - `call`: `sync`, `async`, `packet` for a hook that names the packets it is called for,
///   or `command` for one that names its commands
/// - `input`: the table that the host passes in, and the author's view of it
/// - `answer`: the type that the method returns
/// - `answer_bytes`: the most bytes of the text of an answer
/// - `when`: when it is called, for the tables of the documents
/// - `failed`: the effect of a failure without `on_failure`: `Continue` or `Deny`, and
///   words for the reader
/// - `since`: the first version of the plugin API in which it can be listed in `hooks`.
///   A plugin that lists it requires that version.
///
/// The rows are in the order in which the hooks run for a connection.
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
            /// The host for the backend. The most bytes are the limit of the handshake.
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
            /// The answer to a status ping. The limit of its packet is 32,767
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
                when: "the login start has been read, and no slot is taken yet",
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
                when: "a session opened, reached its backend or closed",
                failed: Continue "nothing",
                since: (0, 1, 0),
            }
            /// Players who join the game and leave it.
            PlayerObserve {
                method: player_observe,
                call: sync,
                input: PlayerInput as Player,
                answer: (),
                answer_bytes: 0,
                when: "a player joined the game or left it; `client_only` and `offline`",
                failed: Continue "nothing",
                since: (0, 1, 1),
            }
            /// See packets, without changing them.
            PacketInspect {
                method: packet_inspect,
                call: packet,
                input: PacketInput as Packet,
                answer: (),
                answer_bytes: 0,
                when: "a packet arrives that the plugin has named; `client_only` and `offline`",
                failed: Continue "the packet passes",
                since: (0, 1, 2),
            }
            /// Change packets, or drop them.
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

/// The effect of a plugin's failure on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The connection continues as if there were no plugin.
    Continue,
    /// It is refused.
    Deny,
}

/// A hook as a type, for code that depends on the types of its tables.
pub trait Point: 'static {
    /// The hook.
    const HOOK: Hook;
    /// The input from the host.
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
        /// A hook, at which the proxy calls a plugin. Each hook is a capability.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Hook {
            $($(#[doc = $doc])+ $hook,)+
        }

        impl Hook {
            /// All hooks, in the order in which they run for a connection.
            pub const ALL: [Hook; [$(stringify!($hook)),+].len()] = [$(Hook::$hook),+];

            /// The capability of this hook, with the same name.
            #[must_use]
            pub const fn capability(self) -> Capability {
                match self { $(Hook::$hook => Capability::$hook,)+ }
            }

            /// The hook of a capability, if it has one.
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

            /// Whether the hook may wait before it answers.
            #[must_use]
            pub const fn may_wait(self) -> bool {
                match self { $(Hook::$hook => make!(@may_wait $call),)+ }
            }

            /// The most bytes that the text of an answer has.
            #[must_use]
            pub const fn answer_bytes_max(self) -> usize {
                match self { $(Hook::$hook => $bytes,)+ }
            }

            /// When it is called, in Markdown.
            #[must_use]
            pub const fn when(self) -> &'static str {
                match self { $(Hook::$hook => $when,)+ }
            }

            /// The effect of a failure without `on_failure`.
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

    /// The trait, the method and the capability of a hook have the same name.
    #[test]
    fn names_agree() {
        for hook in Hook::ALL {
            assert_eq!(hook.method(), hook.name().replace('.', "_"));
            assert_eq!(hook.trait_name(), format!("{:?}", hook.capability()));
            assert_eq!(Hook::of(hook.capability()), Some(hook));
            // A hook cannot be listed before its capability.
            assert!(hook.since() >= hook.capability().since());
        }
    }
}
