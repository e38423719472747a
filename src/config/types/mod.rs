//! The types of single values in a file.
//!
//! Each type reads itself from TOML and describes the values that it accepts.
//! [`validate`](super::validate) checks whether a value fits the rest of the configuration.

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
