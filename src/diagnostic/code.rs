//! The codes: a stable name for each kind of problem.

use std::fmt;

use super::Severity;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $severity:ident;)+) => {
        /// A kind of problem.
        ///
        /// The names are stable: scripts compare them. Each has a
        /// [page](super::page) that says more.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// The name in all outputs, such as `bad-domain`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $text,)+ }
            }

            /// How bad this kind of problem is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)+ }
            }

            /// What it is, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// The file is not TOML.
    TomlSyntax = "toml-syntax", Error;
    /// The key does not exist where it stands.
    UnknownKey = "unknown-key", Error;
    /// The value does not have the type of its key.
    WrongType = "wrong-type", Error;
    /// The value has the right type and cannot be used.
    BadValue = "bad-value", Error;
    /// A domain entry cannot be a host name or a pattern for one.
    BadDomain = "bad-domain", Error;
    /// A server of a forwarding mode has no domain.
    NoDomain = "no-domain", Error;
    /// Two servers claim the same domain.
    DuplicateDomain = "duplicate-domain", Error;
    /// Two files define a server with the same id.
    DuplicateServer = "duplicate-server", Error;
    /// No player can come to this server.
    UnreachableServer = "unreachable-server", Error;
    /// A server has no backend address.
    NoAddress = "no-address", Error;
    /// A backend address cannot be read.
    BadAddress = "bad-address", Error;
    /// A file or folder that is needed is missing or cannot be read.
    MissingFile = "missing-file", Error;
    /// A forwarding mode needs a secret, and there is none.
    MissingSecret = "missing-secret", Error;
    /// The key or its value needs what the server's mode cannot offer.
    ModeConflict = "mode-conflict", Error;
    /// A server asks for a plugin that is not configured.
    UnknownPlugin = "unknown-plugin", Error;
    /// A plugin is attached to a server that does not exist.
    UnknownServer = "unknown-server", Error;
    /// A table or an `order` of `[networks]` names a network or server that does not exist.
    UnknownNetwork = "unknown-network", Error;
    /// The file of a plugin is missing or cannot be read.
    PluginFile = "plugin-file", Error;
    /// The file of a plugin has no manifest, or one that cannot be read.
    PluginManifest = "plugin-manifest", Error;
    /// The plugin was built for another proxy or machine than this one.
    PluginIncompatible = "plugin-incompatible", Error;
    /// The plugin refuses its own settings.
    PluginConfig = "plugin-config", Error;
    /// The plugin does not start.
    PluginStart = "plugin-start", Error;
    /// The container engine cannot be read.
    DockerEngine = "docker-engine", Error;
    /// The key has no effect here.
    NoEffect = "no-effect", Warning;
    /// The key belongs to Infrarust v2 and is not supported yet.
    UnsupportedKey = "unsupported-key", Warning;
    /// A plugin is inactive on servers with a mode that cannot give what it needs.
    PluginInactive = "plugin-inactive", Warning;
    /// A plugin runs without something that it would use.
    PluginLimited = "plugin-limited", Warning;
    /// A library is in the folder of the plugins, and no table loads it.
    PluginUnused = "plugin-unused", Warning;
    /// A file in the folder of the server files looks like one, and is not read.
    UnreadFile = "unread-file", Warning;
    /// A text for players has colour codes of another program.
    ColourCode = "colour-code", Warning;
    /// There is no server file.
    NoServers = "no-servers", Warning;
    /// A backend gets a name and a UUID without a proof.
    UnprovenIdentity = "unproven-identity", Warning;
    /// Any client may claim any address with a PROXY header.
    OpenProxyProtocol = "open-proxy-protocol", Warning;
    /// A backend that authenticates nobody receives nothing about the player.
    InsecureBackend = "insecure-backend", Warning;
    /// Anyone who reaches a backend directly can claim to be any player.
    UnprotectedForwarding = "unprotected-forwarding", Warning;
    /// The proxy itself listens on a backend address.
    OwnAddress = "own-address", Warning;
    /// A network has one member, so there is nowhere to move to.
    LonelyNetwork = "lonely-network", Warning;
    /// Some servers of a network learn who a player is, and others do not.
    MixedForwarding = "mixed-forwarding", Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No code has the given name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no code has this name")]
pub struct UnknownCode;

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    /// Finds a code by its [name](Code::name).
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.name() == name)
            .ok_or(UnknownCode)
    }
}
