//! The types of single values in a file.
//!
//! Each reads itself from TOML and says in words what it takes. Whether a value
//! fits the rest of the configuration is not asked here: that is
//! [`validate`](super::validate).

mod net;
mod plain;
mod rewrite;
mod secret;
mod time;
mod words;

pub use net::{AddressText, Bind, Cidr, RawAddress};
pub use plain::{Count, FilePath, Free, Whole};
pub use rewrite::{ProxyVersionWord, RawExplicit, Rewrite, RewriteWord, SendProxy};
pub use secret::{RawSecret, SecretSource};
pub use time::{Seconds, Time, TimeOrOff};
pub use words::{
    DuplicateLoginWord, ForwardingWord, HostTailWord, LogFormatWord, OfflineUuidWord,
    OnFailureWord, UnknownDomainWord, UnsupportedWord,
};
