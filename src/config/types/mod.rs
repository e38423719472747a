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

pub(crate) use net::{AddressText, Bind, Cidr};
pub(crate) use plain::{Count, FilePath, Free, Whole};
pub(crate) use rewrite::{Rewrite, SendProxy};
pub(crate) use secret::SecretSource;
pub(crate) use time::{Seconds, Time, TimeOrOff};
pub(crate) use words::{
    DuplicateLoginWord, ForwardingWord, HostTailWord, LogFormatWord, OfflineUuidWord,
    OnBackendLossWord, OnFailureWord, UnknownDomainWord, UnsupportedWord,
};
