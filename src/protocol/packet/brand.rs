//! The name of the software that a player plays on, as clients show it in
//! their debug screen and in crash reports.

use super::super::read::{Cursor, write_string};
use super::super::varint;
use super::super::version::V1_8;
use super::Version;

/// The channels of the message: up to 1.12.2, and since 1.13.
const CHANNELS: [&str; 2] = ["MC|Brand", "minecraft:brand"];
/// The most characters of a channel's name (the game since 1.13; 20 before).
const CHANNEL_CHARS_MAX: usize = 32_767;
/// The longest name to which something is appended, in characters. Servers
/// write some ten; what is longer passes as it is.
const NAME_CHARS_MAX: usize = 256;

/// What is appended to the name of a backend's software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brand(pub &'static str);

impl Brand {
    /// The plugin message with the name and what is appended to it, if these
    /// are the fields of a message with a name.
    #[must_use]
    pub fn rewrite(&self, version: Version, id: u8, fields: &[u8]) -> Option<Vec<u8>> {
        let mut cursor = Cursor::new(fields);
        let channel = cursor.string(CHANNEL_CHARS_MAX).ok()?;
        if !CHANNELS.contains(&channel) {
            return None;
        }
        let has_length = version.protocol() < V1_8;
        let name = if has_length {
            let bytes = usize::from(cursor.u16().ok()?);
            std::str::from_utf8(cursor.take(bytes).ok()?).ok()?
        } else {
            cursor.string(NAME_CHARS_MAX).ok()?
        };
        cursor.finish().ok()?;
        if name.chars().count() > NAME_CHARS_MAX {
            return None;
        }
        let name = format!("{name} ({})", self.0);
        let mut packet = Vec::new();
        varint::encode(i32::from(id), &mut packet);
        write_string(channel, &mut packet);
        if has_length {
            // At most 4 bytes for each of the characters.
            let bytes = u16::try_from(name.len()).ok()?;
            packet.extend_from_slice(&bytes.to_be_bytes());
            packet.extend_from_slice(name.as_bytes());
        } else {
            write_string(&name, &mut packet);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name is changed in both forms of the message, and nothing else is.
    #[test]
    fn names_are_extended() {
        let brand = Brand("infrarust");
        let rewrite =
            |protocol, fields: &[u8]| brand.rewrite(Version::of(protocol).unwrap(), 0x3F, fields);
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
            b"\x3f\x0fminecraft:brand\x11Paper (infrarust)"
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
