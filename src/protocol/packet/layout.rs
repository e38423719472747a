//! The layouts of the packets that plugins know, in each version from 1.7.2
//! (protocol 4) to 26.3 (777).
//!
//! One table, [`FORMS`], is the source for reading and for writing. The source of
//! the table is the game itself: `tests/slow/packets.rs` compares it with an
//! independent implementation of the protocol.

use std::sync::LazyLock;

use infrarust_plugin_abi::PacketField::{self, *};
use infrarust_plugin_abi::PacketKind;

use super::login::COOKIE_BYTES_MAX;
use super::wire::Wire::{self, *};
use super::{Clientbound, Kind, Serverbound};

/// A packet of the table of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    /// A packet to a client.
    Clientbound(Clientbound),
    /// A packet to a server.
    Serverbound(Serverbound),
}

/// One form of a kind: its packet and fields in a range of versions.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) kind: PacketKind,
    pub(super) packet: Packet,
    /// The first and the last protocol number.
    from: i32,
    to: i32,
    pub(super) items: &'static [Item],
}

/// A part of a packet.
#[derive(Debug)]
pub(super) struct Item {
    /// The field, if plugins see it.
    pub(super) field: Option<PacketField>,
    pub(super) wire: Wire,
    /// Whether a new packet must be given a value for it.
    pub(super) is_required: bool,
}

impl Form {
    pub(super) const fn is_in(&self, protocol: i32) -> bool {
        self.from <= protocol && protocol <= self.to
    }
}

/// The forms of a kind. The first that a version has is the one of new packets.
pub(super) fn of_kind(kind: PacketKind) -> impl Iterator<Item = &'static Form> {
    FORMS.iter().filter(move |form| form.kind == kind)
}

/// The forms that a packet of a version can have.
pub(super) fn of_packet(packet: Packet, protocol: i32) -> impl Iterator<Item = &'static Form> {
    let forms = BY_PACKET.get(packet.index()).map_or(&[][..], Vec::as_slice);
    forms
        .iter()
        .copied()
        .filter(move |form| form.is_in(protocol))
}

/// The forms by [`Packet::index`].
static BY_PACKET: LazyLock<Vec<Vec<&Form>>> = LazyLock::new(|| {
    let mut forms = vec![Vec::new(); 2 * 256];
    for form in FORMS {
        forms[form.packet.index()].push(form);
    }
    forms
});

impl Packet {
    fn index(self) -> usize {
        match self {
            Self::Clientbound(packet) => packet.number().into(),
            Self::Serverbound(packet) => 256 + usize::from(packet.number()),
        }
    }
}

/// A field that new packets must be given.
const fn need(field: PacketField, wire: Wire) -> Item {
    Item {
        field: Some(field),
        wire,
        is_required: true,
    }
}

/// A field that is zero or empty in new packets if it is not given.
const fn may(field: PacketField, wire: Wire) -> Item {
    Item {
        field: Some(field),
        wire,
        is_required: false,
    }
}

/// A part that plugins do not see.
const fn part(wire: Wire) -> Item {
    Item {
        field: None,
        wire,
        is_required: false,
    }
}

const fn c(
    kind: PacketKind,
    packet: Clientbound,
    from: i32,
    to: i32,
    items: &'static [Item],
) -> Form {
    Form {
        kind,
        packet: Packet::Clientbound(packet),
        from,
        to,
        items,
    }
}

const fn s(
    kind: PacketKind,
    packet: Serverbound,
    from: i32,
    to: i32,
    items: &'static [Item],
) -> Form {
    Form {
        kind,
        packet: Packet::Serverbound(packet),
        from,
        to,
        items,
    }
}

/// As the last version of a form: it is still in use.
const ON: i32 = i32::MAX;

/// The most characters of a text without a lower limit (the game).
const STRING: usize = 32_767;
/// The most bytes of a plugin message to a client and to a server (the game).
const PLUGIN_MESSAGE_BYTES: [usize; 2] = [1024 * 1024, 32_767];
/// The characters of a SHA-1 in hexadecimal digits.
const HASH: usize = 40;
/// The most characters of a language such as `en_us` (the game).
const LOCALE: usize = 16;

#[rustfmt::skip]
static FORMS: &[Form] = &[
    s(PacketKind::ChatMessage, Serverbound::Chat, 0, 210, &[need(Message, Line(100))]),
    s(PacketKind::ChatMessage, Serverbound::Chat, 315, 758, &[need(Message, Line(256))]),
    s(PacketKind::ChatMessage, Serverbound::ChatMessage, 759, 759, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(Signature, Bytes(4096)), part(Bool),
    ]),
    s(PacketKind::ChatMessage, Serverbound::ChatMessage, 760, 760, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(Signature, Bytes(4096)), part(Bool),
        may(Seen, SeenLists),
    ]),
    s(PacketKind::ChatMessage, Serverbound::ChatMessage, 761, 769, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(Signature, Optional(&Fixed(256))),
        may(SeenOffset, VarInt), may(Seen, Fixed(3)),
    ]),
    s(PacketKind::ChatMessage, Serverbound::ChatMessage, 770, ON, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(Signature, Optional(&Fixed(256))),
        may(SeenOffset, VarInt), may(Seen, Fixed(3)), part(U8),
    ]),

    s(PacketKind::ChatCommand, Serverbound::Chat, 0, 210, &[need(Message, CommandLine(100))]),
    s(PacketKind::ChatCommand, Serverbound::Chat, 315, 758, &[need(Message, CommandLine(256))]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommand, 759, 759, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(ArgumentSignatures, Arguments { is_fixed: false }), part(Bool),
    ]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommand, 760, 760, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(ArgumentSignatures, Arguments { is_fixed: false }), part(Bool),
        may(Seen, SeenLists),
    ]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommand, 761, 765, &[
        need(Message, Str(256)), need(Timestamp, I64), may(Salt, I64), may(ArgumentSignatures, Arguments { is_fixed: true }),
        may(SeenOffset, VarInt), may(Seen, Fixed(3)),
    ]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommand, 766, ON, &[need(Message, Str(STRING))]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommandSigned, 766, 769, &[
        need(Message, Str(STRING)), need(Timestamp, I64), may(Salt, I64), may(ArgumentSignatures, Arguments { is_fixed: true }),
        may(SeenOffset, VarInt), may(Seen, Fixed(3)),
    ]),
    s(PacketKind::ChatCommand, Serverbound::ChatCommandSigned, 770, ON, &[
        need(Message, Str(STRING)), need(Timestamp, I64), may(Salt, I64), may(ArgumentSignatures, Arguments { is_fixed: true }),
        may(SeenOffset, VarInt), may(Seen, Fixed(3)), part(U8),
    ]),

    c(PacketKind::SystemMessage, Clientbound::Chat, 0, 5, &[need(Text, Component)]),
    c(PacketKind::SystemMessage, Clientbound::Chat, 47, 578, &[need(Text, Component), may(Position, LinePosition(&U8))]),
    c(PacketKind::SystemMessage, Clientbound::Chat, 735, 758, &[need(Text, Component), may(Position, LinePosition(&U8)), may(Sender, Uuid)]),
    c(PacketKind::SystemMessage, Clientbound::SystemChat, 759, 759, &[need(Text, Component), may(Position, LinePosition(&VarInt))]),
    c(PacketKind::SystemMessage, Clientbound::SystemChat, 760, ON, &[need(Text, Component), part(Is(&U8, 0))]),

    // Clients of 1.8 to 1.10 ignore the colours and formats of components here.
    c(PacketKind::ActionBar, Clientbound::Chat, 47, 210, &[need(Text, Codes), part(Is(&U8, 2))]),
    c(PacketKind::ActionBar, Clientbound::Title, 315, 754, &[part(Is(&VarInt, 2)), need(Text, Component)]),
    c(PacketKind::ActionBar, Clientbound::ActionBar, 755, ON, &[need(Text, Component)]),
    c(PacketKind::ActionBar, Clientbound::Chat, 315, 578, &[need(Text, Component), part(Is(&U8, 2))]),
    c(PacketKind::ActionBar, Clientbound::Chat, 735, 758, &[need(Text, Component), part(Is(&U8, 2)), may(Sender, Uuid)]),
    c(PacketKind::ActionBar, Clientbound::SystemChat, 759, 759, &[need(Text, Component), part(Is(&VarInt, 2))]),
    c(PacketKind::ActionBar, Clientbound::SystemChat, 760, ON, &[need(Text, Component), part(Is(&U8, 1))]),

    c(PacketKind::Title, Clientbound::Title, 47, 754, &[part(Is(&VarInt, 0)), need(Text, Component)]),
    c(PacketKind::Title, Clientbound::TitleText, 755, ON, &[need(Text, Component)]),
    c(PacketKind::Subtitle, Clientbound::Title, 47, 754, &[part(Is(&VarInt, 1)), need(Text, Component)]),
    c(PacketKind::Subtitle, Clientbound::Subtitle, 755, ON, &[need(Text, Component)]),
    c(PacketKind::TitleTimes, Clientbound::Title, 47, 210, &[part(Is(&VarInt, 2)), need(FadeIn, I32), need(Stay, I32), need(FadeOut, I32)]),
    c(PacketKind::TitleTimes, Clientbound::Title, 315, 754, &[part(Is(&VarInt, 3)), need(FadeIn, I32), need(Stay, I32), need(FadeOut, I32)]),
    c(PacketKind::TitleTimes, Clientbound::TitleTimes, 755, ON, &[need(FadeIn, I32), need(Stay, I32), need(FadeOut, I32)]),
    c(PacketKind::ClearTitle, Clientbound::Title, 47, 210, &[may(Reset, OneOf([3, 4]))]),
    c(PacketKind::ClearTitle, Clientbound::Title, 315, 754, &[may(Reset, OneOf([4, 5]))]),
    c(PacketKind::ClearTitle, Clientbound::ClearTitles, 755, ON, &[may(Reset, Bool)]),

    c(PacketKind::Disconnect, Clientbound::Disconnect, 0, ON, &[need(Text, Component)]),

    c(PacketKind::PluginMessageToClient, Clientbound::PluginMessage, 0, 5, &[need(Channel, ChannelName), may(Data, ShortBytes)]),
    c(PacketKind::PluginMessageToClient, Clientbound::PluginMessage, 47, ON, &[need(Channel, ChannelName), may(Data, Rest(PLUGIN_MESSAGE_BYTES[0]))]),
    s(PacketKind::PluginMessageToServer, Serverbound::PluginMessage, 0, 5, &[need(Channel, ChannelName), may(Data, ShortBytes)]),
    s(PacketKind::PluginMessageToServer, Serverbound::PluginMessage, 47, ON, &[need(Channel, ChannelName), may(Data, Rest(PLUGIN_MESSAGE_BYTES[1]))]),

    c(PacketKind::JoinGame, Clientbound::JoinGame, 0, 5, &[
        need(EntityId, I32), need(GameMode, Mode), need(DimensionId, I8), may(Difficulty, U8), may(MaxPlayers, U8), may(LevelType, Str(16)),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 47, 107, &[
        need(EntityId, I32), need(GameMode, Mode), need(DimensionId, I8), may(Difficulty, U8), may(MaxPlayers, U8), may(LevelType, Str(16)),
        may(ReducedDebugInfo, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 108, 404, &[
        need(EntityId, I32), need(GameMode, Mode), need(DimensionId, I32), may(Difficulty, U8), may(MaxPlayers, U8), may(LevelType, Str(16)),
        may(ReducedDebugInfo, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 477, 498, &[
        need(EntityId, I32), need(GameMode, Mode), need(DimensionId, I32), may(MaxPlayers, U8), may(LevelType, Str(16)),
        may(ViewDistance, VarInt), may(ReducedDebugInfo, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 573, 578, &[
        need(EntityId, I32), need(GameMode, Mode), need(DimensionId, I32), may(HashedSeed, I64), may(MaxPlayers, U8), may(LevelType, Str(16)),
        may(ViewDistance, VarInt), may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 735, 736, &[
        need(EntityId, I32), need(GameMode, Mode), may(PreviousGameMode, I8), part(Strings), part(Nbt), need(Dimension, Str(STRING)),
        need(World, Str(STRING)), may(HashedSeed, I64), may(MaxPlayers, U8), may(ViewDistance, VarInt), may(ReducedDebugInfo, Bool),
        may(RespawnScreen, Bool), may(DebugWorld, Bool), may(FlatWorld, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 751, 756, &[
        need(EntityId, I32), may(Hardcore, Bool), need(GameMode, U8), may(PreviousGameMode, I8), part(Strings), part(Nbt), part(Nbt),
        need(World, Str(STRING)), may(HashedSeed, I64), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(ReducedDebugInfo, Bool),
        may(RespawnScreen, Bool), may(DebugWorld, Bool), may(FlatWorld, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 757, 758, &[
        need(EntityId, I32), may(Hardcore, Bool), need(GameMode, U8), may(PreviousGameMode, I8), part(Strings), part(Nbt), part(Nbt),
        need(World, Str(STRING)), may(HashedSeed, I64), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(DebugWorld, Bool), may(FlatWorld, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 759, 762, &[
        need(EntityId, I32), may(Hardcore, Bool), need(GameMode, U8), may(PreviousGameMode, I8), part(Strings), part(Nbt), need(Dimension, Str(STRING)),
        need(World, Str(STRING)), may(HashedSeed, I64), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 763, 763, &[
        need(EntityId, I32), may(Hardcore, Bool), need(GameMode, U8), may(PreviousGameMode, I8), part(Strings), part(Nbt), need(Dimension, Str(STRING)),
        need(World, Str(STRING)), may(HashedSeed, I64), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death), may(PortalCooldown, VarInt),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 764, 765, &[
        need(EntityId, I32), may(Hardcore, Bool), part(Strings), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(LimitedCrafting, Bool), need(Dimension, Str(STRING)), need(World, Str(STRING)),
        may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
        may(PortalCooldown, VarInt),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 766, 767, &[
        need(EntityId, I32), may(Hardcore, Bool), part(Strings), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(LimitedCrafting, Bool), need(DimensionId, VarInt), need(World, Str(STRING)),
        may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
        may(PortalCooldown, VarInt), may(SecureChat, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 768, 775, &[
        need(EntityId, I32), may(Hardcore, Bool), part(Strings), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(LimitedCrafting, Bool), need(DimensionId, VarInt), need(World, Str(STRING)),
        may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
        may(PortalCooldown, VarInt), may(SeaLevel, VarInt), may(SecureChat, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 776, 776, &[
        need(EntityId, I32), may(Hardcore, Bool), part(Strings), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(LimitedCrafting, Bool), need(DimensionId, VarInt), need(World, Str(STRING)),
        may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
        may(PortalCooldown, VarInt), may(SeaLevel, VarInt), may(OnlineMode, Bool), may(SecureChat, Bool),
    ]),
    c(PacketKind::JoinGame, Clientbound::JoinGame, 777, ON, &[
        need(EntityId, I32), may(Hardcore, Bool), part(Strings), may(MaxPlayers, VarInt), may(ViewDistance, VarInt), may(SimulationDistance, VarInt),
        may(ReducedDebugInfo, Bool), may(RespawnScreen, Bool), may(LimitedCrafting, Bool), need(DimensionId, VarInt), need(World, Str(STRING)),
        may(HashedSeed, I64), need(GameMode, VarInt), may(PreviousGameMode, OneLess), may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death),
        may(PortalCooldown, VarInt), may(SeaLevel, VarInt), may(OnlineMode, Bool), may(SecureChat, Bool),
    ]),

    c(PacketKind::Respawn, Clientbound::Respawn, 0, 404, &[need(DimensionId, I32), may(Difficulty, U8), need(GameMode, U8), may(LevelType, Str(16))]),
    c(PacketKind::Respawn, Clientbound::Respawn, 477, 498, &[need(DimensionId, I32), need(GameMode, U8), may(LevelType, Str(16))]),
    c(PacketKind::Respawn, Clientbound::Respawn, 573, 578, &[need(DimensionId, I32), may(HashedSeed, I64), need(GameMode, U8), may(LevelType, Str(16))]),
    c(PacketKind::Respawn, Clientbound::Respawn, 735, 736, &[
        need(Dimension, Str(STRING)), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), may(Kept, AllOrNothing),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 751, 758, &[
        part(Nbt), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), may(Kept, AllOrNothing),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 759, 760, &[
        need(Dimension, Str(STRING)), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), may(Kept, AllOrNothing), part(Death),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 761, 762, &[
        need(Dimension, Str(STRING)), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), may(Kept, U8), part(Death),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 763, 763, &[
        need(Dimension, Str(STRING)), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), may(Kept, U8), part(Death), may(PortalCooldown, VarInt),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 764, 765, &[
        need(Dimension, Str(STRING)), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death), may(PortalCooldown, VarInt), may(Kept, U8),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 766, 767, &[
        need(DimensionId, VarInt), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death), may(PortalCooldown, VarInt), may(Kept, U8),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 768, 776, &[
        need(DimensionId, VarInt), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, U8), may(PreviousGameMode, I8),
        may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death), may(PortalCooldown, VarInt), may(SeaLevel, VarInt), may(Kept, U8),
    ]),
    c(PacketKind::Respawn, Clientbound::Respawn, 777, ON, &[
        need(DimensionId, VarInt), need(World, Str(STRING)), may(HashedSeed, I64), need(GameMode, VarInt), may(PreviousGameMode, OneLess),
        may(DebugWorld, Bool), may(FlatWorld, Bool), part(Death), may(PortalCooldown, VarInt), may(SeaLevel, VarInt), may(Kept, U8),
    ]),

    c(PacketKind::ResourcePackPush, Clientbound::ResourcePackPush, 47, 754, &[need(Url, Str(STRING)), may(Hash, Str(HASH))]),
    c(PacketKind::ResourcePackPush, Clientbound::ResourcePackPush, 755, 764, &[
        need(Url, Str(STRING)), may(Hash, Str(HASH)), may(Forced, Bool), may(Prompt, Optional(&Component)),
    ]),
    c(PacketKind::ResourcePackPush, Clientbound::ResourcePackPush, 765, ON, &[
        may(PackId, Uuid), need(Url, Str(STRING)), may(Hash, Str(HASH)), may(Forced, Bool), may(Prompt, Optional(&Component)),
    ]),
    c(PacketKind::ResourcePackPop, Clientbound::ResourcePackPop, 765, ON, &[may(PackId, Optional(&Uuid))]),
    s(PacketKind::ResourcePackStatus, Serverbound::ResourcePackStatus, 47, 110, &[may(Hash, Str(HASH)), need(PackStatus, VarInt)]),
    s(PacketKind::ResourcePackStatus, Serverbound::ResourcePackStatus, 210, 764, &[need(PackStatus, VarInt)]),
    s(PacketKind::ResourcePackStatus, Serverbound::ResourcePackStatus, 765, ON, &[may(PackId, Uuid), need(PackStatus, VarInt)]),

    c(PacketKind::Transfer, Clientbound::Transfer, 766, ON, &[need(Host, Str(STRING)), need(Port, VarInt)]),
    c(PacketKind::CookieRequest, Clientbound::CookieRequest, 766, ON, &[need(Key, Identifier)]),
    c(PacketKind::CookieStore, Clientbound::StoreCookie, 766, ON, &[need(Key, Identifier), need(Data, Bytes(COOKIE_BYTES_MAX))]),
    s(PacketKind::CookieResponse, Serverbound::CookieResponse, 766, ON, &[need(Key, Identifier), may(Data, Optional(&Bytes(COOKIE_BYTES_MAX)))]),

    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 0, 5, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, I8), may(ChatColors, Bool), may(Difficulty, U8), part(Bool),
    ]),
    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 47, 47, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, I8), may(ChatColors, Bool), may(SkinParts, U8),
    ]),
    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 107, 754, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, VarInt), may(ChatColors, Bool), may(SkinParts, U8), may(MainHand, VarInt),
    ]),
    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 755, 756, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, VarInt), may(ChatColors, Bool), may(SkinParts, U8), may(MainHand, VarInt),
        may(TextFiltering, Bool),
    ]),
    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 757, 767, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, VarInt), may(ChatColors, Bool), may(SkinParts, U8), may(MainHand, VarInt),
        may(TextFiltering, Bool), may(Listed, Bool),
    ]),
    s(PacketKind::ClientInformation, Serverbound::ClientInformation, 768, ON, &[
        need(Locale, Str(LOCALE)), need(ViewDistance, I8), may(ChatMode, VarInt), may(ChatColors, Bool), may(SkinParts, U8), may(MainHand, VarInt),
        may(TextFiltering, Bool), may(Listed, Bool), may(Particles, VarInt),
    ]),

    c(PacketKind::KeepAlive, Clientbound::KeepAlive, 0, 5, &[need(Id, I32)]),
    c(PacketKind::KeepAlive, Clientbound::KeepAlive, 47, 338, &[need(Id, VarInt)]),
    c(PacketKind::KeepAlive, Clientbound::KeepAlive, 340, ON, &[need(Id, I64)]),
    s(PacketKind::KeepAliveAnswer, Serverbound::KeepAlive, 0, 5, &[need(Id, I32)]),
    s(PacketKind::KeepAliveAnswer, Serverbound::KeepAlive, 47, 338, &[need(Id, VarInt)]),
    s(PacketKind::KeepAliveAnswer, Serverbound::KeepAlive, 340, ON, &[need(Id, I64)]),

    c(PacketKind::PlayerListText, Clientbound::HeaderFooter, 47, ON, &[need(Header, Component), need(Footer, Component)]),

    c(PacketKind::BossBarAdd, Clientbound::BossBar, 107, ON, &[
        need(BossBarId, Uuid), part(Is(&VarInt, 0)), need(Text, Component), need(Progress, F32), may(BossBarColor, VarInt), may(BossBarParts, VarInt),
        may(BossBarFlags, U8),
    ]),
    c(PacketKind::BossBarRemove, Clientbound::BossBar, 107, ON, &[need(BossBarId, Uuid), part(Is(&VarInt, 1))]),
    c(PacketKind::BossBarProgress, Clientbound::BossBar, 107, ON, &[need(BossBarId, Uuid), part(Is(&VarInt, 2)), need(Progress, F32)]),
    c(PacketKind::BossBarText, Clientbound::BossBar, 107, ON, &[need(BossBarId, Uuid), part(Is(&VarInt, 3)), need(Text, Component)]),
];

#[cfg(test)]
mod tests {
    use super::super::{State, Version};
    use super::*;

    /// From the first version that has a kind, each version has a form for new
    /// packets, in a state that has its packet; every field has its declared type.
    #[test]
    fn forms_are_complete() {
        for kind in PacketKind::ALL {
            let mut has_begun = false;
            for version in Version::all() {
                let form = of_kind(*kind).find(|form| form.is_in(version.protocol()));
                has_begun |= form.is_some();
                assert_eq!(form.is_some(), has_begun, "{kind:?} in {}", version.games());
                let Some(form) = form else { continue };
                let states = [State::Login, State::Configuration, State::Play];
                let id = |state| match form.packet {
                    Packet::Clientbound(packet) => version.id(state, packet),
                    Packet::Serverbound(packet) => version.id(state, packet),
                };
                assert!(
                    states.into_iter().any(|state| id(state).is_some()),
                    "{kind:?} in {}",
                    version.games()
                );
            }
            assert!(has_begun, "{kind:?}");
        }
        for form in FORMS {
            let is_clientbound = matches!(form.packet, Packet::Clientbound(_));
            assert_eq!(form.kind.is_clientbound(), is_clientbound, "{form:?}");
            for item in form.items {
                if let Some(field) = item.field {
                    assert_eq!(
                        item.wire.holds(),
                        Some(field.holds()),
                        "{field:?} of {form:?}"
                    );
                }
            }
        }
    }
}
