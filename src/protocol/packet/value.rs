//! The values of packet fields, and the reasons why a packet cannot be made of them.

use std::borrow::Cow;

use serde_json::Value as Json;
use thiserror::Error;

use super::State;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// The field is optional and absent.
    None,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f32),
    /// A string.
    Str(Cow<'a, str>),
    /// A component in its canonical form.
    Text(Cow<'a, Json>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A UUID.
    Uuid([u8; 16]),
}

/// Why a packet cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CannotSend {
    /// The version of the player has no such packet.
    #[error("`{kind}` needs {games}")]
    NeedsVersion {
        /// The kind.
        kind: &'static str,
        /// The first version of the game that has it.
        games: &'static str,
    },
    /// The version has it in another state.
    #[error("`{kind}` cannot be sent in the state {state:?}")]
    WrongState {
        /// The kind.
        kind: &'static str,
        /// The state.
        state: State,
    },
    /// Only a server can make such a packet.
    #[error("`{kind}` comes from servers alone")]
    FromServers {
        /// The kind.
        kind: &'static str,
    },
    /// A field is missing.
    #[error("`{kind}` needs `{field}`")]
    MissingField {
        /// The kind.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field was given a value of another type.
    #[error("`{field}` has a value of another type")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// A field was given a value that it cannot have.
    #[error("`{field}` cannot have this value")]
    BadValue {
        /// The field.
        field: &'static str,
    },
    /// What a player says has a character for which servers disconnect the player.
    #[error("`{field}` has the character `{}`, for which servers disconnect a player", .character.escape_default())]
    BadCharacter {
        /// The field.
        field: &'static str,
        /// The first such character.
        character: char,
    },
    /// A value is longer than this version reads.
    #[error("`{field}` is longer than {max}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The most characters of a text or bytes.
        max: usize,
    },
}
