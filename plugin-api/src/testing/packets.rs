//! Packets, for the hooks that see them.
#![allow(unsafe_code, reason = "plugins are C tables")]

use infrarust_plugin_abi::serve::{PacketAccess, packet_table, with_interest_sink};
use infrarust_plugin_abi::{
    FieldData, PacketField, PacketHook, PacketInput, Point, Str, packet_state, receiver,
    size_of_table,
};

use super::{Client, Failure, TestHost, outcome};
use crate::export::Exported;
use crate::guard::Collected;
use crate::packet::{PacketValue, Room};
use crate::verdict::Answer;
use crate::{Interest, Outgoing, PlayerId};

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
        let kind = shown.packet.kind();
        if !wanted.has(kind) {
            return Ok(passed);
        }
        let input = PacketInput {
            size: size_of_table::<PacketInput>(),
            protocol: client.protocol,
            grants: self.grants(),
            player: player.number(),
            uuid: client.uuid_in_game().to_be_bytes(),
            proved: client.is_proved.into(),
            to: match kind.is_clientbound() {
                true => receiver::CLIENT,
                false => receiver::BACKEND,
            },
            state: packet_state::PLAY,
            kind: kind.number().into(),
            name: Str::new(&client.name),
            server: Str::new(&client.server),
            packet: (&raw mut *shown).cast(),
            table: packet_table::<Shown>(),
        };
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = unsafe { call(self.instance, &raw const input, &raw const sink) };
        outcome(collected, status)
    }
}
