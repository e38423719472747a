//! The packets that show a message to a player in play: chat, action bar, title.

use infrarust_plugin_abi::{PacketField, PacketKind};
use serde_json::Value as Json;

use super::view::{CannotSend, Value, build};
use super::{State, Version};
use crate::protocol::version::V1_8;

/// A message; its texts are canonical components.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// A line in the chat window.
    Chat(&'a Json),
    /// The line above the items; in 1.7, which has none, a line in the chat window.
    ActionBar(&'a Json),
    /// A title with the text below it; in 1.7, which has none, two lines in the
    /// chat window. The times are in ticks of 50 ms.
    Title {
        /// The big text.
        title: &'a Json,
        /// The text below.
        subtitle: &'a Json,
        /// How long it takes to appear.
        fade_in: i32,
        /// How long it stays.
        stay: i32,
        /// How long it takes to go.
        fade_out: i32,
    },
}

/// The packets that show `message`, in their order.
///
/// # Errors
///
/// When the state is not play, or a text is too long for the version.
pub fn message(
    version: Version,
    state: State,
    message: &Message<'_>,
) -> Result<Vec<Vec<u8>>, CannotSend> {
    let text = |kind, text: &Json| {
        let text = Value::Text(std::borrow::Cow::Borrowed(text));
        build(version, state, kind, &[(PacketField::Text, text)])
    };
    let is_chat_only = version.protocol() < V1_8;
    Ok(match *message {
        Message::Chat(line) => vec![text(PacketKind::SystemMessage, line)?],
        Message::ActionBar(line) if is_chat_only => vec![text(PacketKind::SystemMessage, line)?],
        Message::ActionBar(line) => vec![text(PacketKind::ActionBar, line)?],
        Message::Title {
            title, subtitle, ..
        } if is_chat_only => vec![
            text(PacketKind::SystemMessage, title)?,
            text(PacketKind::SystemMessage, subtitle)?,
        ],
        Message::Title {
            title,
            subtitle,
            fade_in,
            stay,
            fade_out,
        } => {
            let times = [
                (PacketField::FadeIn, Value::Int(fade_in.into())),
                (PacketField::Stay, Value::Int(stay.into())),
                (PacketField::FadeOut, Value::Int(fade_out.into())),
            ];
            // The title comes last: it starts the display, with the times and the
            // subtitle that were sent before.
            vec![
                build(version, state, PacketKind::TitleTimes, &times)?,
                text(PacketKind::Subtitle, subtitle)?,
                text(PacketKind::Title, title)?,
            ]
        }
    })
}
