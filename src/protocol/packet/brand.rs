//! Extends the brand: the name of the server's software, which clients show in
//! their debug screen and in crash reports.

use infrarust_plugin_abi::PacketField;

use super::super::read::{Cursor, write_string};
use super::super::version::V1_8;
use super::view::{Value, View};
use super::{Clientbound, Direction, State, Version};

/// The channel of the message, by its name since 1.13.
const CHANNEL: &str = "minecraft:brand";
/// Its name before 1.13.
const OLD_CHANNEL: &str = "MC|Brand";
/// The longest name that is extended, in characters. Names have some ten; longer
/// ones pass unchanged.
const NAME_CHARS_MAX: usize = 256;

/// The text that is appended to the name of a backend's software, in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brand(pub &'static str);

impl Brand {
    /// Whether these are the fields of a plugin message with a brand.
    #[must_use]
    pub fn is_in(fields: &[u8]) -> bool {
        let channel = Cursor::new(fields).string(CHANNEL.len());
        channel.is_ok_and(|channel| channel == CHANNEL || channel == OLD_CHANNEL)
    }

    /// The plugin message with the extended name; `None` if these are not the
    /// fields of a brand message, or its name is malformed or too long.
    #[must_use]
    pub fn rewrite(&self, version: Version, state: State, fields: &[u8]) -> Option<Vec<u8>> {
        let id = version.id(state, Clientbound::PluginMessage)?;
        let message = View::of(version, state, Direction::Clientbound, id.into(), fields)?;
        let channel = message.get(PacketField::Channel).ok()?;
        if channel != Some(Value::Str(CHANNEL.into())) {
            return None;
        }
        let Some(Value::Bytes(data)) = message.get(PacketField::Data).ok()? else {
            return None;
        };
        let has_length = version.protocol() >= V1_8;
        let name = if has_length {
            let mut cursor = Cursor::new(&data);
            let name = cursor.string(NAME_CHARS_MAX).ok()?;
            cursor.finish().ok()?;
            name
        } else {
            std::str::from_utf8(&data).ok()?
        };
        if name.chars().count() > NAME_CHARS_MAX {
            return None;
        }
        let name = format!("{name} ({})", self.0);
        let data = if has_length {
            let mut data = Vec::new();
            write_string(&name, &mut data);
            data
        } else {
            name.into_bytes()
        };
        let data = Value::Bytes(data.into());
        message.with(&[(PacketField::Data, data)]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name is extended in each form of the message; other messages are not
    /// changed.
    #[test]
    fn names_are_extended() {
        let brand = Brand("infrarust");
        let rewrite = |protocol, fields: &[u8]| {
            brand.rewrite(Version::of(protocol).unwrap(), State::Play, fields)
        };
        assert_eq!(
            rewrite(5, b"\x08MC|Brand\0\x05Paper").unwrap(),
            b"\x3f\x08MC|Brand\0\x11Paper (infrarust)"
        );
        assert_eq!(
            rewrite(47, b"\x08MC|Brand\x05Paper").unwrap(),
            b"\x3f\x08MC|Brand\x11Paper (infrarust)"
        );
        assert_eq!(
            rewrite(767, b"\x0fminecraft:brand\x05Paper").unwrap(),
            b"\x19\x0fminecraft:brand\x11Paper (infrarust)"
        );
        for other in [
            &b"\x08MC|Other\x05Paper"[..],
            b"\x0fminecraft:brand\x05Pape",
            b"\x0fminecraft:brand\x05Papers",
            b"",
        ] {
            assert_eq!(rewrite(767, other), None);
        }
    }
}
