//! The negotiation of mods between Forge clients and backends before 1.13: plugin messages
//! in play, before the join game. A client that has negotiated can do so again once it
//! gets a reset.

use super::packet::{Clientbound, State, Version};
use super::read::{Cursor, ReadError, write_string};
use super::version::{V1_8, V1_13};

/// The channel of the negotiation.
const CHANNEL: &str = "FML|HS";
/// The most characters of a channel's name before 1.13 (the game).
const CHANNEL_CHARS_MAX: usize = 20;
/// The first byte of a message: the client greets the backend.
const HELLO: u8 = 1;
/// The first byte of a message: a step is done. The number of the step follows.
const DONE: u8 = 0xFF;
/// The last step of a client.
const COMPLETE: u8 = 5;
/// The message that has a client begin from the start.
const RESET: [u8; 2] = [0xFE, 0];

/// How far a client has come with its negotiation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// It has not begun: the client has no mods, or its backends had none.
    #[default]
    NotBegun,
    /// It has begun. A client that begins from the start now fails.
    Open,
    /// It is done.
    Done,
}

impl Negotiation {
    /// The state after a plugin message of the client, if it changes that.
    pub(crate) fn after(version: Version, fields: &[u8]) -> Option<Self> {
        match data(version, fields).ok()?? {
            [HELLO, ..] => Some(Self::Open),
            [DONE, COMPLETE, ..] => Some(Self::Done),
            _ => None,
        }
    }
}

/// The data of a message of the negotiation.
fn data(version: Version, fields: &[u8]) -> Result<Option<&[u8]>, ReadError> {
    let mut cursor = Cursor::new(fields);
    if version.protocol() >= V1_13 || cursor.string(CHANNEL_CHARS_MAX)? != CHANNEL {
        return Ok(None);
    }
    if version.protocol() < V1_8 {
        // The length of the data.
        cursor.u16()?;
    }
    Ok(Some(cursor.rest()))
}

/// Whether a plugin message begins the negotiation of a backend, or belongs to it.
pub(crate) fn negotiates(version: Version, fields: &[u8]) -> bool {
    matches!(data(version, fields), Ok(Some(_)))
}

/// Whether a plugin message is one of those that accompany the negotiation: registrations
/// of channels, and what mod loaders say.
pub(crate) fn accompanies(fields: &[u8]) -> bool {
    let channel = Cursor::new(fields).string(CHANNEL_CHARS_MAX);
    channel.is_ok_and(|channel| {
        matches!(channel, "REGISTER" | "UNREGISTER")
            || ["FML", "FORGE"]
                .iter()
                .any(|loader| channel.starts_with(loader))
    })
}

/// The packet that has a client begin its negotiation from the start.
pub(crate) fn reset(version: Version) -> Vec<u8> {
    let id = version.id(State::Play, Clientbound::PluginMessage);
    let mut packet = vec![id.unwrap_or_default()];
    write_string(CHANNEL, &mut packet);
    if version.protocol() < V1_8 {
        packet.extend([0, 2]);
    }
    packet.extend(RESET);
    packet
}
