//! The channel on which backends ask their proxy: BungeeCord's plugin messages.
//!
//! A message has the format of Java's `DataOutput`: a subcommand, and its arguments. Each
//! answer begins with the subcommand that it answers.

use super::nbt::{read_string, write_string};
use super::packet::view::{Value, build};
use super::packet::{State, Version};
use super::read::{Cursor, ReadError};
use super::uuid::uuid_text;
use super::version::{V1_8, V1_13};
use infrarust_plugin_abi::{PacketField, PacketKind};

/// The channel, by its name since 1.13.
pub(crate) const CHANNEL: &str = "bungeecord:main";
/// Its name before 1.13.
pub(crate) const OLD_CHANNEL: &str = "BungeeCord";
/// The most bytes of a message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32_767;

/// Makes the enum of the subcommands, with their names.
macro_rules! subcommands {
    ($($variant:ident $name:literal,)+) => {
        /// What a backend asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Subcommand { $($variant,)+ }

        impl Subcommand {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

subcommands! {
    Connect "Connect",
    ConnectOther "ConnectOther",
    Ip "IP",
    IpOther "IPOther",
    PlayerCount "PlayerCount",
    PlayerList "PlayerList",
    GetServers "GetServers",
    GetServer "GetServer",
    GetPlayerServer "GetPlayerServer",
    Forward "Forward",
    ForwardToPlayer "ForwardToPlayer",
    Uuid "UUID",
    UuidOther "UUIDOther",
    ServerIp "ServerIP",
    Message "Message",
    MessageRaw "MessageRaw",
    KickPlayer "KickPlayer",
    KickPlayerRaw "KickPlayerRaw",
}

/// The subcommands that are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subcommands(u32);

impl Subcommands {
    /// Adds this one.
    pub fn add(&mut self, subcommand: Subcommand) {
        self.0 |= 1 << subcommand as u32;
    }

    /// Whether it has this one.
    #[must_use]
    pub const fn has(self, subcommand: Subcommand) -> bool {
        self.0 & (1 << subcommand as u32) != 0
    }
}

/// The data of a plugin message on the channel; `None` for other fields.
pub(crate) fn data(version: Version, fields: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(fields);
    let channel = cursor.string(CHANNEL.len()).ok()?;
    if channel != CHANNEL && channel != OLD_CHANNEL {
        return None;
    }
    if version.protocol() < V1_8 {
        // The length of the data.
        cursor.u16().ok()?;
    }
    Some(cursor.rest())
}

/// The packet that brings `data` to a backend on the channel; `None` if it is too long.
pub(crate) fn packet(version: Version, data: &[u8]) -> Option<Vec<u8>> {
    to_backend(version, channel(version), data)
}

/// The packet that registers the channel at a backend: servers on Bukkit send nothing on it
/// before.
pub(crate) fn registration(version: Version) -> Option<Vec<u8>> {
    let register = match version.protocol() {
        ..V1_13 => "REGISTER",
        _ => "minecraft:register",
    };
    to_backend(version, register, channel(version).as_bytes())
}

fn channel(version: Version) -> &'static str {
    match version.protocol() {
        ..V1_13 => OLD_CHANNEL,
        _ => CHANNEL,
    }
}

fn to_backend(version: Version, channel: &str, data: &[u8]) -> Option<Vec<u8>> {
    let fields = [
        (PacketField::Channel, Value::Str(channel.into())),
        (PacketField::Data, Value::Bytes(data.into())),
    ];
    build(
        version,
        State::Play,
        PacketKind::PluginMessageToServer,
        &fields,
    )
    .ok()
}

/// The arguments of a message.
#[derive(Debug, Clone)]
pub(crate) struct Arguments<'a>(Cursor<'a>);

impl<'a> Arguments<'a> {
    /// The subcommand of a message, and its arguments; `None` in place of the subcommand
    /// where there is no such one.
    ///
    /// # Errors
    ///
    /// When the message is cut off.
    pub(crate) fn read(data: &'a [u8]) -> Result<(Option<Subcommand>, Self), ReadError> {
        let mut arguments = Self(Cursor::new(data));
        let name = arguments.text()?;
        let subcommand = Subcommand::ALL.iter().find(|known| known.name() == name);
        Ok((subcommand.copied(), arguments))
    }

    /// The next text.
    ///
    /// # Errors
    ///
    /// When the message is cut off there, or it is not a text.
    pub(crate) fn text(&mut self) -> Result<String, ReadError> {
        read_string(&mut self.0)
    }

    /// What a backend forwards: the name of a channel and bytes, as they came.
    ///
    /// # Errors
    ///
    /// When the message is cut off there.
    pub(crate) fn forwarded(&mut self) -> Result<&'a [u8], ReadError> {
        let begin = self.0.clone();
        let before = begin.remaining();
        self.text()?;
        let bytes = usize::from(self.0.u16()?);
        self.0.take(bytes)?;
        let whole = before - self.0.remaining();
        begin.clone().take(whole)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    /// To this subcommand.
    pub(crate) fn to(subcommand: Subcommand) -> Self {
        Self(Vec::new()).text(subcommand.name())
    }

    /// With this text behind it.
    pub(crate) fn text(mut self, text: &str) -> Self {
        write_string(text, &mut self.0);
        self
    }

    /// With a list of names behind it.
    pub(crate) fn names<'n>(self, names: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        self.text(&names.join(", "))
    }

    /// With this player id behind it.
    pub(crate) fn uuid(self, uuid: [u8; 16]) -> Self {
        self.text(&uuid_text(uuid, false))
    }

    /// With this number of four bytes behind it.
    pub(crate) fn int(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// With this number of two bytes behind it.
    pub(crate) fn short(mut self, number: u16) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The data of its message.
    pub(crate) fn into_data(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that is cut off at any byte is not read, and nothing panics.
    #[test]
    fn messages_that_are_cut_off() {
        let mut whole = Answer::to(Subcommand::ForwardToPlayer)
            .text("Alice")
            .text("a🦀\0")
            .short(3)
            .into_data();
        whole.extend_from_slice(b"abc");
        let read = |data| {
            let (subcommand, mut arguments) = Arguments::read(data)?;
            Ok::<_, ReadError>((subcommand, arguments.text()?, arguments.forwarded()?))
        };
        let (subcommand, player, forwarded) = read(&whole).unwrap();
        assert_eq!(subcommand, Some(Subcommand::ForwardToPlayer));
        assert_eq!(player, "Alice");
        let begin = whole.len() - forwarded.len();
        assert_eq!(forwarded, &whole[begin..]);
        assert!(forwarded.ends_with(b"\0\x03abc"));
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
    }

    /// The channel and the layout of a version; other channels are not read.
    #[test]
    fn channels() {
        let version = |protocol| Version::of(protocol).unwrap();
        let packet = |protocol| packet(version(protocol), b"data").unwrap();
        assert_eq!(&packet(5)[1..], b"\x0aBungeeCord\0\x04data");
        assert_eq!(&packet(47)[1..], b"\x0aBungeeCorddata");
        assert_eq!(&packet(340)[1..], b"\x0aBungeeCorddata");
        assert_eq!(&packet(393)[1..], b"\x0fbungeecord:maindata");
        assert_eq!(&packet(776)[1..], b"\x0fbungeecord:maindata");
        let register = registration(version(340)).unwrap();
        assert_eq!(&register[1..], b"\x08REGISTERBungeeCord");
        for protocol in [5, 47, 340, 393, 776] {
            let fields = &packet(protocol)[1..];
            assert_eq!(data(version(protocol), fields), Some(&b"data"[..]));
        }
        assert_eq!(data(version(340), b"\x0fbungeecord:mainx"), Some(&b"x"[..]));
        assert_eq!(data(version(340), b"\x0abungeecordx"), None);
        assert_eq!(data(version(340), b"\x0a"), None);
    }
}
