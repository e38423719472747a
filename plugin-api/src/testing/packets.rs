//! Packets, for the hooks that see them.
#![allow(unsafe_code, reason = "plugins are C tables")]

use infrarust_plugin_abi::serve::{
    FIELDS_BYTES_MAX, PacketAccess, packet_table, with_interest_sink,
};
use infrarust_plugin_abi::{
    FieldData, PacketField, PacketHook, PacketInput, PacketKind, Point, Str, answer, packet_state,
    points, receiver, size_of_table,
};

use super::{Client, Failure, TestHost, outcome};
use crate::export::Exported;
use crate::guard::Collected;
use crate::packet::{PacketValue, Room};
use crate::verdict::Answer;
use crate::{Interest, Outgoing, PlayerId};

/// A packet as bytes, for hooks that read packets without a kind.
///
/// ```
/// use infrarust_plugin_api::testing::RawPacket;
///
/// let packet = RawPacket::to_client(0x22, *b"\x01ab");
/// assert_eq!(packet.fields, b"\x01ab");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawPacket {
    /// Whether it goes to the client, and not to the backend.
    pub is_clientbound: bool,
    /// Its id in the player's version.
    pub id: i32,
    /// The bytes after the id.
    pub fields: Vec<u8>,
}

impl RawPacket {
    /// A packet of the backend for the client.
    #[must_use]
    pub fn to_client(id: i32, fields: impl Into<Vec<u8>>) -> Self {
        Self {
            is_clientbound: true,
            id,
            fields: fields.into(),
        }
    }

    /// A packet of the client for the backend.
    #[must_use]
    pub fn to_backend(id: i32, fields: impl Into<Vec<u8>>) -> Self {
        Self {
            is_clientbound: false,
            id,
            fields: fields.into(),
        }
    }
}

/// A packet without a kind that a hook is asked about.
struct ShownRaw {
    packet: RawPacket,
    is_changeable: bool,
}

impl PacketAccess for ShownRaw {
    fn get<T>(&self, _: PacketField, _: impl FnOnce(FieldData<'_>) -> T) -> Option<Option<T>> {
        Some(None)
    }

    fn raw(&self) -> (i32, &[u8]) {
        (self.packet.id, &self.packet.fields)
    }

    fn is_changeable(&self) -> bool {
        self.is_changeable
    }

    fn may_drop(&self) -> bool {
        true
    }

    fn may_change(&self) -> bool {
        true
    }

    fn set(&mut self, _: &[(PacketField, FieldData<'_>)]) -> Result<(), String> {
        Err("it has no kind, and so no fields by name".to_owned())
    }

    fn replace(&mut self, fields: &[u8]) -> Result<(), String> {
        if fields.len() > FIELDS_BYTES_MAX {
            return Err(format!("a packet has more than {FIELDS_BYTES_MAX} bytes"));
        }
        self.packet.fields = fields.to_vec();
        Ok(())
    }
}

/// A packet that a hook is asked about. It has no bytes here.
pub(super) struct Shown {
    pub(super) packet: Outgoing,
    pub(super) is_changeable: bool,
}

impl PacketAccess for Shown {
    fn get<T>(
        &self,
        field: PacketField,
        give: impl FnOnce(FieldData<'_>) -> T,
    ) -> Option<Option<T>> {
        let value = self.packet.value(field);
        Some(value.map(|value| give(value.data(field, &mut Room::default()))))
    }

    fn raw(&self) -> (i32, &[u8]) {
        (-1, &[])
    }

    fn is_changeable(&self) -> bool {
        self.is_changeable
    }

    fn may_drop(&self) -> bool {
        true
    }

    fn may_change(&self) -> bool {
        true
    }

    fn set(&mut self, values: &[(PacketField, FieldData<'_>)]) -> Result<(), String> {
        let given = read_values(values)?;
        let values = self.packet.values_mut();
        values.retain(|(field, _)| !given.iter().any(|(new, _)| new == field));
        values.extend(given);
        Ok(())
    }

    fn replace(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// The values that a plugin gives to a packet.
pub(super) fn read_values(
    values: &[(PacketField, FieldData<'_>)],
) -> Result<Vec<(PacketField, PacketValue)>, String> {
    let read = |(field, data): &(PacketField, FieldData<'_>)| {
        let value = PacketValue::of_data(*data);
        let value = value.ok_or_else(|| format!("`{}` is not a text component", field.name()))?;
        Ok((*field, value))
    };
    values.iter().map(read).collect()
}

impl<P: Exported> TestHost<P> {
    /// Calls a hook with a packet, if the plugin has asked for its kind.
    pub(super) fn ask_packet<H>(
        &self,
        client: &Client,
        player: PlayerId,
        shown: &mut Shown,
    ) -> Result<Answer, Failure>
    where
        H: Point<Input = PacketInput, Table = PacketHook<PacketInput>>,
    {
        let kind = shown.packet.kind();
        self.ask_about::<H, _>(client, player, Some(kind), kind.is_clientbound(), shown)
    }

    /// Calls the hook [`PacketInspect`](crate::PacketInspect) with a packet as bytes. It
    /// has no kind, so that only a plugin that asks for all packets of the direction gets
    /// it. Getters find nothing; [`Packet::id`](crate::Packet::id) and
    /// [`Packet::fields`](crate::Packet::fields) are those of the packet.
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook.
    pub fn packet_inspect_raw(
        &self,
        client: &Client,
        player: PlayerId,
        packet: &RawPacket,
    ) -> Result<(), Failure> {
        let mut shown = ShownRaw {
            packet: packet.clone(),
            is_changeable: false,
        };
        self.ask_raw::<points::PacketInspect>(client, player, &mut shown)
            .map(|_| ())
    }

    /// Calls the hook [`PacketModify`](crate::PacketModify) with a packet as bytes. Returns
    /// the packet as the plugin leaves it, or `None` if the plugin drops it. Otherwise it
    /// is like [`packet_inspect_raw`](Self::packet_inspect_raw).
    ///
    /// ```standalone_crate
    /// # use infrarust_plugin_api::prelude::*;
    /// # #[derive(Deserialize)]
    /// # #[serde(crate = "infrarust_plugin_api::serde")]
    /// # struct Config {}
    /// struct Eighth;
    /// # impl Plugin for Eighth {
    /// #     type Config = Config;
    /// #     fn new(_: Config, _: &Host<Self>) -> Result<Self> { Ok(Eighth) }
    /// # }
    ///
    /// impl PacketModify for Eighth {
    ///     fn interest(&self) -> Interest {
    ///         Interest::none().and_all_to_client()
    ///     }
    ///     fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict> {
    ///         if packet.kind().is_none() && packet.id() == 8 {
    ///             let fields = [packet.fields(), b"!"].concat();
    ///             packet.set_fields(&fields)?;
    ///         }
    ///         Ok(PacketVerdict::pass())
    ///     }
    /// }
    /// # export_plugin! { plugin: Eighth, name: "eighth", hooks: [PacketModify] }
    /// # fn main() {
    /// use infrarust_plugin_api::testing::{Client, RawPacket, TestHost};
    ///
    /// let host = TestHost::<Eighth>::start("").unwrap();
    /// let modify = |packet: RawPacket| {
    ///     let steve = PlayerId::from_number(1);
    ///     host.packet_modify_raw(&Client::new(), steve, &packet).unwrap().unwrap()
    /// };
    /// assert_eq!(modify(RawPacket::to_client(8, *b"hi")).fields, b"hi!");
    /// assert_eq!(modify(RawPacket::to_client(9, *b"hi")).fields, b"hi");
    /// // It has not asked for packets to backends.
    /// assert_eq!(modify(RawPacket::to_backend(8, *b"hi")).fields, b"hi");
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook.
    pub fn packet_modify_raw(
        &self,
        client: &Client,
        player: PlayerId,
        packet: &RawPacket,
    ) -> Result<Option<RawPacket>, Failure> {
        let mut shown = ShownRaw {
            packet: packet.clone(),
            is_changeable: true,
        };
        let answer = self.ask_raw::<points::PacketModify>(client, player, &mut shown)?;
        Ok((answer.code != answer::DROP).then_some(shown.packet))
    }

    fn ask_raw<H>(
        &self,
        client: &Client,
        player: PlayerId,
        shown: &mut ShownRaw,
    ) -> Result<Answer, Failure>
    where
        H: Point<Input = PacketInput, Table = PacketHook<PacketInput>>,
    {
        let is_clientbound = shown.packet.is_clientbound;
        self.ask_about::<H, _>(client, player, None, is_clientbound, shown)
    }

    fn ask_about<H, S: PacketAccess>(
        &self,
        client: &Client,
        player: PlayerId,
        kind: Option<PacketKind>,
        is_clientbound: bool,
        shown: &mut S,
    ) -> Result<Answer, Failure>
    where
        H: Point<Input = PacketInput, Table = PacketHook<PacketInput>>,
    {
        let hook = Self::table::<H>();
        let (Some(call), Some(interest)) = (hook.call, hook.interest) else {
            unreachable!("the macro fills the table")
        };
        let mut wanted = Interest::none();
        let mut collected = Collected::default();
        let failures = collected.sink();
        let add = |number| wanted.add(number);
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = with_interest_sink(add, |sink| unsafe {
            interest(self.instance, sink, &raw const failures)
        });
        let passed = outcome(collected, status)?;
        if !wanted.has(kind, is_clientbound) {
            return Ok(passed);
        }
        let input = PacketInput {
            size: size_of_table::<PacketInput>(),
            protocol: client.protocol,
            grants: self.grants(),
            player: player.number(),
            uuid: client.uuid_in_game().to_be_bytes(),
            proved: client.is_proved.into(),
            to: match is_clientbound {
                true => receiver::CLIENT,
                false => receiver::BACKEND,
            },
            state: packet_state::PLAY,
            kind: kind.map_or(0, |kind| kind.number().into()),
            name: Str::new(&client.name),
            server: Str::new(&client.server),
            packet: (&raw mut *shown).cast(),
            table: packet_table::<S>(),
        };
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = unsafe { call(self.instance, &raw const input, &raw const sink) };
        outcome(collected, status)
    }
}
