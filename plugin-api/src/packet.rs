//! Packets that plugins read, change and send.
//!
//! An [`Interest`] names the packets that the hooks [`PacketInspect`](crate::PacketInspect)
//! and [`PacketModify`](crate::PacketModify) get. Each call has one [`Packet`], whose
//! fields are read by [`PacketField`] or by the typed views in [`packets`]. The names of
//! kinds and fields are the same in every version of the game. [`Outgoing`] is a packet
//! that a plugin sends.
#![allow(unsafe_code, reason = "packets are C tables of the host")]

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;

use infrarust_plugin_abi::{
    self as abi, FieldData, FieldType, FieldValue, InterestSink, PacketField, PacketInput,
    PacketKind, PacketTable, Str, ValueSink, packet_interest, packet_right, packet_state, receiver,
    size_of_table, status,
};

use crate::guard::Collected;
use crate::{Capability, Error, PlayerId, Result, Text};

/// The packets that a hook is called for.
///
/// A packet that no plugin of the server is interested in costs one look-up and is not
/// decompressed, so a plugin should name only the packets that it needs.
///
/// ```
/// use infrarust_plugin_api::{Interest, PacketKind};
///
/// let chat = Interest::in_kinds([PacketKind::ChatMessage, PacketKind::ChatCommand]);
/// # let _ = chat;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest(Vec<u32>);

impl Interest {
    /// No packets at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// All packets of these kinds, in every version of the game that has them.
    #[must_use]
    pub fn in_kinds(kinds: impl IntoIterator<Item = PacketKind>) -> Self {
        let numbers = kinds.into_iter().map(|kind| u32::from(kind.number()));
        Self(numbers.collect())
    }

    /// Adds all packets for clients, also those that have no kind. Each one then waits
    /// for the plugin, and a server sends hundreds in a second to each player.
    #[must_use]
    pub fn and_all_to_client(mut self) -> Self {
        self.0.push(packet_interest::ALL_TO_CLIENT);
        self
    }

    /// Adds all packets for backends, also those that have no kind. A client sends
    /// twenty in a second while its player walks.
    #[must_use]
    pub fn and_all_to_backend(mut self) -> Self {
        self.0.push(packet_interest::ALL_TO_BACKEND);
        self
    }

    /// Writes the numbers into the host's sink.
    ///
    /// # Safety
    ///
    /// The sink must be valid during the call.
    pub(crate) unsafe fn give(&self, sink: *const InterestSink) -> i32 {
        // SAFETY: the caller promises it.
        let Some(sink) = (unsafe { sink.as_ref() }) else {
            return status::ERR;
        };
        let Some(add) = sink.add else {
            return status::UNSUPPORTED;
        };
        for number in &self.0 {
            // SAFETY: the context belongs to the sink.
            unsafe { add(sink.ctx, *number) };
        }
        status::OK
    }

    #[cfg(feature = "testing")]
    pub(crate) fn has(&self, kind: Option<PacketKind>, is_clientbound: bool) -> bool {
        let all = match is_clientbound {
            true => packet_interest::ALL_TO_CLIENT,
            false => packet_interest::ALL_TO_BACKEND,
        };
        let is_named = |kind: PacketKind| self.0.contains(&u32::from(kind.number()));
        self.0.contains(&all) || kind.is_some_and(is_named)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn add(&mut self, number: u32) {
        self.0.push(number);
    }
}

impl<const N: usize> From<[PacketKind; N]> for Interest {
    fn from(kinds: [PacketKind; N]) -> Self {
        Self::in_kinds(kinds)
    }
}

/// The value of a field of a packet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PacketValue {
    /// The packet has an optional field, and it is empty.
    Missing,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f32),
    /// Characters.
    Str(String),
    /// A text with colours and formats.
    Text(Text),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A UUID.
    Uuid(u128),
}

macro_rules! values {
    ($($type:ty as $value:ident),+ $(,)?) => {
        $(
            impl From<$type> for PacketValue {
                fn from(value: $type) -> Self {
                    Self::$value(value.into())
                }
            }
        )+
    };
}

values!(
    bool as Bool,
    i32 as Int,
    i64 as Int,
    u8 as Int,
    u16 as Int,
    u32 as Int,
    f32 as Float,
    &str as Str,
    String as Str,
    Text as Text,
    &[u8] as Bytes,
    Vec<u8> as Bytes,
    u128 as Uuid,
);

/// A type that fields of packets can be read as.
pub trait FromPacketValue: Sized {
    /// The value as this type, or `None` if the field has another type or is missing.
    fn from_packet_value(value: PacketValue) -> Option<Self>;
}

macro_rules! from_values {
    ($($type:ty as $value:ident),+ $(,)?) => {
        $(
            impl FromPacketValue for $type {
                fn from_packet_value(value: PacketValue) -> Option<Self> {
                    match value {
                        PacketValue::$value(value) => Some(value),
                        _ => None,
                    }
                }
            }
        )+
    };
}

from_values!(
    bool as Bool,
    i64 as Int,
    f32 as Float,
    String as Str,
    Text as Text,
    Vec<u8> as Bytes,
    u128 as Uuid,
);

/// Holds what a value is converted to while it crosses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    json: String,
    uuid: [u8; 16],
}

impl PacketValue {
    /// The value in the form of the ABI. A string becomes a text where the field is a
    /// text.
    pub(crate) fn data<'a>(&'a self, field: PacketField, room: &'a mut Room) -> FieldData<'a> {
        match self {
            Self::Str(text) if field.holds() == FieldType::Text => {
                room.json = Text::from(text).to_json();
                FieldData::Text(&room.json)
            }
            Self::Missing => FieldData::Missing,
            Self::Bool(value) => FieldData::Bool(*value),
            Self::Int(value) => FieldData::Int(*value),
            Self::Float(value) => FieldData::Float(*value),
            Self::Str(text) => FieldData::Str(text),
            Self::Text(text) => {
                room.json = text.to_json();
                FieldData::Text(&room.json)
            }
            Self::Bytes(bytes) => FieldData::Bytes(bytes),
            Self::Uuid(uuid) => {
                room.uuid = uuid.to_be_bytes();
                FieldData::Uuid(&room.uuid)
            }
        }
    }

    /// The value from the form of the ABI. `None` if it is not a text that can be read.
    pub(crate) fn of_data(data: FieldData<'_>) -> Option<Self> {
        Some(match data {
            FieldData::Missing => Self::Missing,
            FieldData::Bool(value) => Self::Bool(value),
            FieldData::Int(value) => Self::Int(value),
            FieldData::Float(value) => Self::Float(value),
            FieldData::Str(text) => Self::Str(text.to_owned()),
            FieldData::Text(text) => Self::Text(Text::from_json(text)?),
            FieldData::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            FieldData::Uuid(uuid) => Self::Uuid(u128::from_be_bytes(*uuid)),
        })
    }
}

/// Calls `call` with the values in the form of the ABI.
pub(crate) fn crossing<T>(
    values: &[(PacketField, PacketValue)],
    call: impl FnOnce(*const FieldValue, usize) -> T,
) -> T {
    // Most calls set one field, and need no list.
    if let [(field, value)] = values {
        let mut room = Room::default();
        let crossed = FieldValue::new(*field, value.data(*field, &mut room));
        return call(&raw const crossed, 1);
    }
    let mut rooms = vec![Room::default(); values.len()];
    let crossed: Vec<FieldValue> = values
        .iter()
        .zip(&mut rooms)
        .map(|((field, value), room)| FieldValue::new(*field, value.data(*field, room)))
        .collect();
    call(crossed.as_ptr(), crossed.len())
}

/// The state of the connection in which a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketState {
    /// The configuration phase: before the game, and during a change of the server
    /// (1.20.2 and later).
    Configuration,
    /// The game.
    Play,
    /// A state that this version of the API does not know.
    Other,
}

/// The packet of a call of a hook.
///
/// A field is decoded when its getter is called. Fields have the same names in every
/// version of the game: see the views such as [`chat_message`](Self::chat_message),
/// and [`get`](Self::get). A packet without a [`kind`](Self::kind) has only its
/// [`id`](Self::id) and its [`fields`](Self::fields) as bytes, both as the player's
/// [version](Self::protocol) defines them.
pub struct Packet<'a> {
    input: *const PacketInput,
    lent: PhantomData<&'a PacketInput>,
}

/// A field of the input. Each host that calls this hook has all the fields.
macro_rules! field {
    ($packet:ident.$field:ident) => {
        // SAFETY: the input is valid for the lifetime of the packet, and has the field.
        unsafe { (&raw const (*$packet.input).$field).read() }
    };
}

impl<'a> Packet<'a> {
    /// # Safety
    ///
    /// The input must be valid for `'a`.
    pub(crate) const unsafe fn new(input: *const PacketInput) -> Self {
        Self {
            input,
            lent: PhantomData,
        }
    }

    /// The player of the connection, for services. A service can use this id from
    /// [`PlayerEvent::Joined`](crate::PlayerEvent::Joined) on, which comes after the
    /// first packets.
    #[must_use]
    pub const fn player(&self) -> PlayerId {
        PlayerId::from_number(field!(self.player))
    }

    /// The name of the player.
    #[must_use]
    pub const fn player_name(&self) -> &'a str {
        let name: Str = field!(self.name);
        // SAFETY: the host keeps the texts of an input as long as the input.
        unsafe { name.text() }
    }

    /// The UUID of the player.
    #[must_use]
    pub const fn player_uuid(&self) -> u128 {
        u128::from_be_bytes(field!(self.uuid))
    }

    /// Whether the proxy has proved name and UUID.
    #[must_use]
    pub const fn is_proved(&self) -> bool {
        field!(self.proved) != 0
    }

    /// The id of the server.
    #[must_use]
    pub const fn server(&self) -> &'a str {
        let server: Str = field!(self.server);
        // SAFETY: as for the name.
        unsafe { server.text() }
    }

    /// The protocol version of the player, such as 767 for 1.21.
    #[must_use]
    pub const fn protocol(&self) -> i32 {
        field!(self.protocol)
    }

    /// Whether the plugin may use a capability on this connection.
    #[must_use]
    pub const fn may(&self, capability: Capability) -> bool {
        field!(self.grants) & capability.bit() != 0
    }

    /// The kind of the packet. `None` for most packets: only those that plugins can
    /// read by field names have a kind.
    #[must_use]
    pub fn kind(&self) -> Option<PacketKind> {
        let number: u32 = field!(self.kind);
        u16::try_from(number).ok().and_then(PacketKind::from_number)
    }

    /// Whether the packet goes to the client, and not to the backend.
    #[must_use]
    pub const fn is_clientbound(&self) -> bool {
        field!(self.to) == receiver::CLIENT
    }

    /// The state of the connection in which it is sent.
    #[must_use]
    pub const fn state(&self) -> PacketState {
        match field!(self.state) {
            packet_state::CONFIGURATION => PacketState::Configuration,
            packet_state::PLAY => PacketState::Play,
            _ => PacketState::Other,
        }
    }

    /// The id of the packet in the player's version and in this state.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.raw().0
    }

    /// The bytes after the id.
    #[must_use]
    pub fn fields(&self) -> &[u8] {
        self.raw().1
    }

    /// Whether [`PacketModify`](crate::PacketModify) can drop the packet. It cannot drop
    /// packets on which the proxy or the game depends, nor a signed line of 1.19.1 and 1.19.2
    /// where the backend demands signed chat. Always false in
    /// [`PacketInspect`](crate::PacketInspect).
    #[must_use]
    pub fn can_drop(&self) -> bool {
        self.rights() & packet_right::DROP != 0
    }

    /// Whether [`PacketModify`](crate::PacketModify) can change the packet. It cannot change
    /// packets on which the proxy or the game depends, commands with signed arguments, nor
    /// signed lines up to 1.19.2 where the backend demands signed chat. Always false in
    /// [`PacketInspect`](crate::PacketInspect).
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.rights() & packet_right::CHANGE != 0
    }

    fn rights(&self) -> u32 {
        let Some(rights) = self.table().and_then(|table| table.rights) else {
            return 0;
        };
        let packet: *mut c_void = field!(self.packet);
        // SAFETY: the context belongs to the table.
        unsafe { rights(packet) }
    }

    fn raw(&self) -> (i32, &[u8]) {
        let (mut id, mut fields, mut bytes) = (-1, std::ptr::null(), 0);
        let Some(raw) = self.table().and_then(|table| table.raw) else {
            return (id, &[]);
        };
        let packet: *mut c_void = field!(self.packet);
        // SAFETY: the context belongs to the table, the places are good for a write.
        unsafe { raw(packet, &raw mut id, &raw mut fields, &raw mut bytes) };
        let fields = Str {
            ptr: fields,
            len: bytes,
        };
        // SAFETY: they are valid until the packet is changed, which takes `&mut self`.
        (id, unsafe { fields.bytes() })
    }

    /// The value of a field. `None` if packets of this kind do not have the field in
    /// the player's version, or if it is optional and missing in this packet.
    ///
    /// ```
    /// # use infrarust_plugin_api::prelude::*;
    /// # fn f(packet: &Packet<'_>) -> Result<()> {
    /// let said: Option<String> = packet.get(PacketField::Message)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the packet is malformed, or the field has another type.
    pub fn get<T: FromPacketValue>(&self, field: PacketField) -> Result<Option<T>> {
        match self.value(field)? {
            None | Some(PacketValue::Missing) => Ok(None),
            Some(value) => match T::from_packet_value(value) {
                Some(value) => Ok(Some(value)),
                None => Err(Error::msg(format!(
                    "the field `{}` of a packet is not read as this type",
                    field.name()
                ))),
            },
        }
    }

    /// The value of a field, whatever its type. Otherwise like [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// If the packet is malformed.
    pub fn value(&self, field: PacketField) -> Result<Option<PacketValue>> {
        let get = self.table().and_then(|table| table.get);
        let get = get.ok_or_else(|| Error::msg("the host cannot read packets"))?;
        let mut taken: Option<PacketValue> = None;
        let sink = ValueSink {
            size: size_of_table::<ValueSink>(),
            reserved: 0,
            ctx: (&raw mut taken).cast(),
            value: Some(take_value),
        };
        let packet: *mut c_void = field!(self.packet);
        // SAFETY: the context belongs to the table, the sink is valid during the call.
        match unsafe { get(packet, field.number().into(), &raw const sink) } {
            status::OK => Ok(taken),
            _ => Err(Error::msg(format!(
                "the field `{}` of a packet cannot be read",
                field.name()
            ))),
        }
    }

    /// The value of a field that packets of this kind always have.
    fn always<T: FromPacketValue>(&self, field: PacketField) -> Result<T> {
        self.get(field)?
            .ok_or_else(|| Error::msg(format!("a packet lacks its field `{}`", field.name())))
    }

    /// Sets a field. The plugins after this one and the receiver see the new value.
    /// Nothing happens for a field that packets of this kind do not have in the
    /// player's version.
    ///
    /// # Errors
    ///
    /// If the field cannot have the value, if the packet cannot change (see
    /// [`can_change`](Self::can_change)), and outside
    /// [`PacketModify`](crate::PacketModify). The packet is then unchanged.
    pub fn set(&mut self, field: PacketField, value: impl Into<PacketValue>) -> Result<()> {
        self.set_all(&[(field, value.into())])
    }

    /// Sets several fields, all or none. Otherwise like [`set`](Self::set).
    ///
    /// # Errors
    ///
    /// Those of [`set`](Self::set).
    pub fn set_all(&mut self, values: &[(PacketField, PacketValue)]) -> Result<()> {
        let set = self.table().and_then(|table| table.set);
        let set = set.ok_or_else(|| Error::msg("the host cannot change packets"))?;
        let packet: *mut c_void = field!(self.packet);
        let mut collected = Collected::default();
        let sink = collected.sink();
        let status = crossing(values, |values, len| {
            // SAFETY: the context belongs to the table, the rest is valid during the call.
            unsafe { set(packet, values, len, &raw const sink) }
        });
        changed(status, collected)
    }

    /// Replaces the bytes after the id. They must be encoded for the player's version;
    /// the proxy does not check them, and a receiver that cannot decode a packet ends
    /// the connection.
    ///
    /// # Errors
    ///
    /// Those of [`set`](Self::set), and if there are more than 256 KiB.
    pub fn set_fields(&mut self, fields: &[u8]) -> Result<()> {
        let replace = self.table().and_then(|table| table.replace);
        let replace = replace.ok_or_else(|| Error::msg("the host cannot change packets"))?;
        let packet: *mut c_void = field!(self.packet);
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the context belongs to the table, the rest is valid during the call.
        let status = unsafe { replace(packet, fields.as_ptr(), fields.len(), &raw const sink) };
        changed(status, collected)
    }

    fn table(&self) -> Option<&PacketTable> {
        let table: *const PacketTable = field!(self.table);
        // SAFETY: null, or valid during the call, with at least the functions of 0.1.2.
        unsafe { table.as_ref() }
    }
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("kind", &self.kind())
            .field("state", &self.state())
            .field("id", &self.id())
            .field("player", &self.player_name())
            .finish_non_exhaustive()
    }
}

/// The result of a function of the host that changes a packet.
fn changed(status: i32, collected: Collected) -> Result<()> {
    match status {
        status::OK => Ok(()),
        status::DENIED if collected.failure.is_none() => Err(Error::msg(
            "only a plugin that lists the hook `PacketModify` changes packets",
        )),
        _ => {
            let said = collected.failure.map(|(_, text, _)| text);
            Err(Error::msg(said.unwrap_or_else(|| {
                "the packet cannot be changed".to_owned()
            })))
        }
    }
}

unsafe extern "C" fn take_value(ctx: *mut c_void, value: *const FieldValue) {
    // SAFETY: the context is the variable of `Packet::value`, which waits for this
    // call, and the value is valid during the call.
    let (taken, data) = unsafe { (&mut *ctx.cast::<Option<PacketValue>>(), (*value).data()) };
    *taken = data.ok().and_then(PacketValue::of_data);
}

/// The body of a getter, for a field that is always there or that may be missing.
macro_rules! getter {
    (always $type:ty, $packet:expr, $field:ident) => {
        $packet.always::<$type>(PacketField::$field)
    };
    (maybe $type:ty, $packet:expr, $field:ident) => {
        $packet.get::<$type>(PacketField::$field)
    };
}

macro_rules! gives {
    (always $type:ty) => { Result<$type> };
    (maybe $type:ty) => { Result<Option<$type>> };
}

/// Writes one view for each kind: a type with a getter for each field, and the method
/// of [`Packet`] that returns it.
macro_rules! views {
    ($($kind:ident, $view:ident { $($get:ident: $often:ident $type:ty, $field:ident;)* })+) => {
        /// The packets of each kind, with a getter for each field.
        ///
        /// A getter decodes its field when it is called, and fails if the packet is
        /// malformed. [`PacketField`] describes each field. `None` means that the
        /// player's version does not have the field, or that it is missing.
        pub mod packets {
            use super::{Packet, PacketField, Result, Text};

            $(
                #[doc = concat!("A packet of the kind [`", stringify!($kind), "`](crate::PacketKind::", stringify!($kind), ").")]
                #[derive(Debug, Clone, Copy)]
                pub struct $kind<'a>(pub(super) &'a Packet<'a>);

                impl $kind<'_> {
                    $(
                        #[doc = concat!("The field [`", stringify!($field), "`](PacketField::", stringify!($field), ").")]
                        ///
                        /// # Errors
                        ///
                        /// If the packet is malformed.
                        pub fn $get(&self) -> gives!($often $type) {
                            getter!($often $type, self.0, $field)
                        }
                    )*
                }
            )+
        }

        impl<'a> Packet<'a> {
            $(
                #[doc = concat!("The packet, if it is of the kind [`", stringify!($kind), "`](PacketKind::", stringify!($kind), ").")]
                #[must_use]
                pub fn $view(&self) -> Option<packets::$kind<'_>> {
                    (self.kind() == Some(PacketKind::$kind)).then_some(packets::$kind(self))
                }
            )+
        }

        #[cfg(test)]
        const VIEWS: &[PacketKind] = &[$(PacketKind::$kind),+];
    };
}

views! {
    ChatMessage, chat_message {
        message: always String, Message;
        timestamp: maybe i64, Timestamp;
        signature: maybe Vec<u8>, Signature;
    }
    ChatCommand, chat_command {
        command: always String, Message;
        timestamp: maybe i64, Timestamp;
        argument_signatures: maybe Vec<u8>, ArgumentSignatures;
    }
    SystemMessage, system_message {
        text: always Text, Text;
        sender: maybe u128, Sender;
    }
    ActionBar, action_bar { text: always Text, Text; }
    Title, title { text: always Text, Text; }
    Subtitle, subtitle { text: always Text, Text; }
    TitleTimes, title_times {
        fade_in: always i64, FadeIn;
        stay: always i64, Stay;
        fade_out: always i64, FadeOut;
    }
    ClearTitle, clear_title { reset: always bool, Reset; }
    Disconnect, disconnect { text: always Text, Text; }
    PluginMessageToClient, plugin_message_to_client {
        channel: always String, Channel;
        data: always Vec<u8>, Data;
    }
    PluginMessageToServer, plugin_message_to_server {
        channel: always String, Channel;
        data: always Vec<u8>, Data;
    }
    JoinGame, join_game {
        entity_id: always i64, EntityId;
        game_mode: always i64, GameMode;
        world: maybe String, World;
        dimension_id: maybe i64, DimensionId;
        hardcore: maybe bool, Hardcore;
        max_players: maybe i64, MaxPlayers;
        view_distance: maybe i64, ViewDistance;
        simulation_distance: maybe i64, SimulationDistance;
        hashed_seed: maybe i64, HashedSeed;
    }
    Respawn, respawn {
        game_mode: always i64, GameMode;
        world: maybe String, World;
        dimension_id: maybe i64, DimensionId;
        hashed_seed: maybe i64, HashedSeed;
        kept: maybe i64, Kept;
    }
    ResourcePackPush, resource_pack_push {
        url: always String, Url;
        hash: maybe String, Hash;
        forced: maybe bool, Forced;
        prompt: maybe Text, Prompt;
        pack_id: maybe u128, PackId;
    }
    ResourcePackPop, resource_pack_pop { pack_id: maybe u128, PackId; }
    ResourcePackStatus, resource_pack_status {
        status: always i64, PackStatus;
        pack_id: maybe u128, PackId;
    }
    Transfer, transfer {
        host: always String, Host;
        port: always i64, Port;
    }
    CookieRequest, cookie_request { key: always String, Key; }
    CookieStore, cookie_store {
        key: always String, Key;
        data: always Vec<u8>, Data;
    }
    CookieResponse, cookie_response {
        key: always String, Key;
        data: maybe Vec<u8>, Data;
    }
    ClientInformation, client_information {
        locale: always String, Locale;
        view_distance: always i64, ViewDistance;
        chat_mode: maybe i64, ChatMode;
        chat_colors: maybe bool, ChatColors;
        skin_parts: maybe i64, SkinParts;
        main_hand: maybe i64, MainHand;
        listed: maybe bool, Listed;
    }
    KeepAlive, keep_alive { id: always i64, Id; }
    KeepAliveAnswer, keep_alive_answer { id: always i64, Id; }
    PlayerListText, player_list_text {
        header: always Text, Header;
        footer: always Text, Footer;
    }
    BossBarAdd, boss_bar_add {
        boss_bar_id: always u128, BossBarId;
        text: always Text, Text;
        progress: always f32, Progress;
    }
    BossBarRemove, boss_bar_remove { boss_bar_id: always u128, BossBarId; }
    BossBarProgress, boss_bar_progress {
        boss_bar_id: always u128, BossBarId;
        progress: always f32, Progress;
    }
    BossBarText, boss_bar_text {
        boss_bar_id: always u128, BossBarId;
        text: always Text, Text;
    }
}

/// A packet to send, by its kind. The proxy encodes it for the player's version.
///
/// ```
/// use infrarust_plugin_api::{Outgoing, PacketField, PacketKind};
///
/// let bar = Outgoing::new(PacketKind::BossBarAdd)
///     .with(PacketField::BossBarId, 7_u128)
///     .with(PacketField::Text, "Ten minutes left")
///     .with(PacketField::Progress, 0.5_f32);
/// # let _ = bar;
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    kind: PacketKind,
    values: Vec<(PacketField, PacketValue)>,
}

impl Outgoing {
    /// A packet of this kind. Fields without a value are zero, empty or missing; some
    /// kinds have fields that need a value.
    #[must_use]
    pub const fn new(kind: PacketKind) -> Self {
        Self {
            kind,
            values: Vec::new(),
        }
    }

    /// Sets a field. The proxy leaves out fields that the player's version does not
    /// have.
    #[must_use]
    pub fn with(mut self, field: PacketField, value: impl Into<PacketValue>) -> Self {
        self.values.push((field, value.into()));
        self
    }

    /// A plugin message to the client.
    #[must_use]
    pub fn plugin_message_to_client(channel: &str, data: &[u8]) -> Self {
        Self::new(PacketKind::PluginMessageToClient)
            .with(PacketField::Channel, channel)
            .with(PacketField::Data, data)
    }

    /// A plugin message to the backend.
    #[must_use]
    pub fn plugin_message_to_server(channel: &str, data: &[u8]) -> Self {
        Self::new(PacketKind::PluginMessageToServer)
            .with(PacketField::Channel, channel)
            .with(PacketField::Data, data)
    }

    /// The packet that sets the texts above and below the list of players.
    #[must_use]
    pub fn player_list_text(header: impl Into<Text>, footer: impl Into<Text>) -> Self {
        Self::new(PacketKind::PlayerListText)
            .with(PacketField::Header, header.into())
            .with(PacketField::Footer, footer.into())
    }

    /// The packet that makes the client load a resource pack. `hash` is the SHA-1 of
    /// the pack in hexadecimal digits.
    #[must_use]
    pub fn resource_pack(url: &str, hash: &str) -> Self {
        Self::new(PacketKind::ResourcePackPush)
            .with(PacketField::Url, url)
            .with(PacketField::Hash, hash)
    }

    /// The kind of the packet.
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        self.kind
    }

    /// The value that [`with`](Self::with) gave to a field.
    #[must_use]
    pub fn value(&self, field: PacketField) -> Option<&PacketValue> {
        let given = self.values.iter().rev().find(|(known, _)| *known == field);
        given.map(|(_, value)| value)
    }

    pub(crate) fn values(&self) -> &[(PacketField, PacketValue)] {
        &self.values
    }

    #[cfg(feature = "testing")]
    pub(crate) fn values_mut(&mut self) -> &mut Vec<(PacketField, PacketValue)> {
        &mut self.values
    }
}

/// The answer of [`PacketModify`](crate::PacketModify): whether the packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketVerdict(pub(crate) u32);

impl PacketVerdict {
    /// The packet passes, unchanged or [changed](Packet::set), to the next plugin and
    /// to the receiver.
    #[must_use]
    pub const fn pass() -> Self {
        Self(abi::answer::PASS)
    }

    /// The proxy drops the packet, and calls no other plugin for it. The proxy keeps
    /// the session consistent: it still sends the acknowledgement that a line of chat
    /// carries to the backend. A packet that cannot be dropped (see [`Packet::can_drop`])
    /// passes nevertheless, and the drop counts as a failure of the plugin.
    #[must_use]
    pub const fn drop() -> Self {
        Self(abi::answer::DROP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind has its view.
    #[test]
    fn every_kind_has_a_view() {
        assert_eq!(VIEWS, PacketKind::ALL);
    }

    /// A value that crosses the ABI and comes back is unchanged.
    #[test]
    fn values_cross() {
        let values = [
            (PacketField::Reset, true.into()),
            (PacketField::Port, PacketValue::Int(-7)),
            (PacketField::Progress, 0.25_f32.into()),
            (PacketField::Message, "héllo".into()),
            (PacketField::Text, Text::new("x").bold().into()),
            (PacketField::Data, vec![0, 255].into()),
            (PacketField::PackId, PacketValue::Uuid(u128::MAX - 1)),
            (PacketField::Signature, PacketValue::Missing),
        ];
        let crossed: Vec<_> = crossing(&values, |crossed, len| {
            // SAFETY: `len` values are valid during the call.
            let crossed = unsafe { std::slice::from_raw_parts(crossed, len) };
            let value = |value: &FieldValue| {
                // SAFETY: the bytes that they point to are valid during the call.
                let data = unsafe { value.data() }.unwrap();
                PacketValue::of_data(data).unwrap()
            };
            crossed.iter().map(value).collect()
        });
        let given: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        assert_eq!(crossed, given);
    }
}
