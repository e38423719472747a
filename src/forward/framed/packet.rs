//! What happens to a frame: checks its packet against the limits, asks the plugins that
//! want it, records its meaning, applies the edits of the proxy, and writes it in the
//! receiver's format.

use std::sync::Arc;

use super::{FrameFilter, FramedError, GROUP_BYTES_MAX, GROUP_PACKETS_MAX, UnreadIds};
use crate::forward::bounds::{self, Allowed, ClientBounds, Exceeded};
use crate::forward::commands::{PacketAction, SessionCommands};
use crate::forward::packets::SentState;
use crate::forward::queries::{Decision, PacketGroup, PacketQueries};
use crate::forward::record::{HELD_BYTES_MAX, PlayerRecord, is_held};
use crate::forward::{Direction, Listener};
use crate::protocol::codec::{self, CodecError, RawFrame, Zlib};
use crate::protocol::frame::FrameError;
use crate::protocol::packet::{Clientbound, Serverbound, State};
use crate::protocol::{peek, varint};

impl FrameFilter {
    /// Whether the proxy has to see the packet with this id. Looked up once for each id of
    /// one byte: what plugins want is in memory that sessions share, far from this.
    fn reads(&mut self, id: i32) -> bool {
        match u8::try_from(id) {
            Ok(id @ 0..UnreadIds::COUNT) => !self.unread_ids().has(id),
            _ => self.finds_readers(id),
        }
    }

    /// Whether the proxy or a plugin has to see the packet with this id.
    fn finds_readers(&self, id: i32) -> bool {
        self.is_wanted(id) || self.is_withheld(id) || self.proxy_reads(id)
    }

    /// Whether the proxy itself has to see the packet with this id.
    fn proxy_reads(&self, id: i32) -> bool {
        match self.direction {
            Direction::Clientbound => {
                let is_recorded = |kind| {
                    self.record.is_some() && PlayerRecord::records_clientbound(self.version, kind)
                };
                self.version.kind(self.sent.state, id).is_some_and(|kind| {
                    SentState::is_relevant(kind)
                        || (self.record.is_some() && is_held(self.sent.state, kind))
                        || self.edits.may_change(kind, self.commands.as_deref())
                        || bounds::checks_backend(kind)
                        || is_recorded(kind)
                })
            }
            Direction::Serverbound => {
                let is_recorded = |kind| {
                    self.record.is_some() && PlayerRecord::records_serverbound(self.version, kind)
                };
                let kind = self.version.kind(self.sent.state, id);
                self.is_entering
                    || kind.is_some_and(|kind: Serverbound| {
                        kind.leads_to().is_some()
                            || ClientBounds::checks(kind)
                            || is_recorded(kind)
                            || self.takes(kind)
                    })
            }
        }
    }

    /// The ids of packets that pass unread in the current state.
    pub(super) fn unread_ids(&mut self) -> UnreadIds {
        let state = self.sent.state;
        if self.unread.state != Some(state) {
            let mut bits = [0; 2];
            for id in 0..UnreadIds::COUNT {
                if !self.finds_readers(i32::from(id)) {
                    bits[usize::from(id / 64)] |= 1 << (id % 64);
                }
            }
            let queries = self.queries.as_ref();
            let asks_all =
                |queries: &Arc<PacketQueries>| queries.wanted.has_all(state, self.direction);
            self.unread = UnreadIds {
                state: Some(state),
                bits,
                asks_all: queries.is_some_and(asks_all),
            };
        }
        self.unread
    }

    /// Whether packets of the client of this kind can be commands of the proxy.
    fn takes(&self, kind: Serverbound) -> bool {
        self.commands.is_some() && SessionCommands::reads_serverbound(kind)
    }

    /// Whether a plugin wants the packet with this id.
    fn is_wanted(&self, id: i32) -> bool {
        let (state, direction) = (self.sent.state, self.direction);
        let queries = self.queries.as_ref();
        queries.is_some_and(|queries| queries.wanted.has(state, direction, id))
    }

    /// Whether the backend does not get the packet with this id.
    fn is_withheld(&self, id: i32) -> bool {
        let (version, state) = (self.version, self.sent.state);
        let queries = self.queries.as_ref();
        self.direction == Direction::Serverbound
            && queries.is_some_and(|queries| queries.wanted.withholds(version, state, id))
    }

    /// The id of a compressed packet, if it can be read without decompressing. Packets
    /// of a client are always decompressed: they are few, and their length is checked.
    fn shown_id(&self, frame: &RawFrame<'_>) -> Option<i32> {
        match self.direction {
            Direction::Serverbound => None,
            Direction::Clientbound => {
                frame.data_length?;
                peek::packet_id(frame.content)
            }
        }
    }

    /// Counts and checks a frame, records what it means, and decides what to do with it.
    pub(super) fn handle_frame(
        &mut self,
        frame: &RawFrame<'_>,
        zlib: &mut Zlib,
    ) -> Result<FrameAction, FramedError> {
        let passes = match self.to.takes(frame, self.from) {
            true => FrameAction::Pass,
            false => FrameAction::Convert,
        };
        self.update_entering();
        let rare = self.rare.as_mut();
        if let Some(decision) = rare.and_then(|rare| rare.decisions.pop_front()) {
            return self.apply_decision(decision, frame, passes, zlib);
        }
        match self.counted {
            0 => self.count(frame)?,
            _ => self.counted -= 1,
        }
        if self.shown_id(frame).is_some_and(|id| !self.reads(id)) {
            return Ok(passes);
        }
        let packet = zlib.packet(frame)?;
        let (id, fields) = parts(packet)?;
        self.check(id)?;
        if !self.reads(id) {
            return Ok(passes);
        }
        let state = self.sent.state;
        let is_wanted = self.is_wanted(id);
        let is_withheld = self.is_withheld(id);
        // Packets of a client are checked before plugins see them. Packets of a backend are
        // recorded in the form in which the client gets them, after plugins have decided.
        if self.direction == Direction::Serverbound || !is_wanted {
            let action = self.handle_packet(id, fields, passes)?;
            if is_withheld {
                return Ok(FrameAction::Drop);
            }
            if !is_wanted || !matches!(action, FrameAction::Pass | FrameAction::Convert) {
                return Ok(action);
            }
        }
        Ok(FrameAction::Ask(state, packet.to_vec()))
    }

    /// Looks whether the client has come into the world of this backend.
    fn update_entering(&mut self) {
        if self.is_entering {
            let record = self.record.as_ref();
            self.is_entering = record.is_some_and(PlayerRecord::is_entering);
            if !self.is_entering {
                self.unread = UnreadIds::default();
            }
        }
    }

    /// Counts a frame of a client.
    fn count(&mut self, frame: &RawFrame<'_>) -> Result<(), FramedError> {
        if let Some(bounds) = &mut self.bounds {
            self.from.check_threshold(frame.data_length)?;
            bounds.count(frame.data_length.unwrap_or(frame.content.len()))?;
        }
        Ok(())
    }

    /// Asks about a packet that is sent in this state, and at once about the packets of
    /// the frames that follow it, as long as nothing but the plugins reads them.
    pub(super) fn ask(&mut self, state: State, first: Vec<u8>, mut rest: &[u8], zlib: &mut Zlib) {
        let Some(queries) = self.queries.clone() else {
            return;
        };
        let mut bytes = first.len();
        let mut packets = vec![first];
        let is_only_wanted = |filter: &Self, packet: &[u8]| {
            let is_it = |(id, _)| filter.is_only_wanted(id);
            filter.sent.state == state && parts(packet).is_ok_and(is_it)
        };
        while packets.len() < usize::from(GROUP_PACKETS_MAX)
            && bytes < GROUP_BYTES_MAX
            && packets
                .last()
                .is_some_and(|last| is_only_wanted(self, last))
        {
            // An error shows when the frame is walked.
            let Ok(Some(frame)) = codec::split(rest, self.from, self.packet_bytes_max()) else {
                break;
            };
            let is_other = |id| !self.is_only_wanted(id);
            if self.shown_id(&frame).is_some_and(is_other) {
                break;
            }
            let Ok(packet) = zlib.packet(&frame) else {
                break;
            };
            if !is_only_wanted(self, packet) {
                break;
            }
            // Packets that already were in a group without a decision were counted then.
            if usize::from(self.counted) < packets.len() {
                if self.count(&frame).is_err() {
                    break;
                }
                self.counted += 1;
            }
            bytes += packet.len();
            packets.push(packet.to_vec());
            rest = rest.get(frame.wire.len()..).unwrap_or_default();
        }
        self.awaits_decision = true;
        queries.put(self.direction, PacketGroup { state, packets });
    }

    /// Whether a plugin wants the packet with this id, and the proxy does not read it: so
    /// plugins can be asked about it before the packets in front of it pass.
    fn is_only_wanted(&self, id: i32) -> bool {
        self.sent.state == State::Play
            && self.is_wanted(id)
            && !self.is_withheld(id)
            && !self.proxy_reads(id)
    }

    /// Decides what to do with a frame for which the decision of plugins is known.
    fn apply_decision(
        &mut self,
        decision: Decision,
        frame: &RawFrame<'_>,
        passes: FrameAction,
        zlib: &mut Zlib,
    ) -> Result<FrameAction, FramedError> {
        match (decision, self.direction) {
            (Decision::Drop(None), _) => Ok(FrameAction::Drop),
            (Decision::Drop(Some(packet)), _) => Ok(FrameAction::Change(packet)),
            (Decision::Pass, Direction::Serverbound) => Ok(passes),
            (Decision::Pass, Direction::Clientbound) => {
                let (id, fields) = parts(zlib.packet(frame)?)?;
                self.handle_packet(id, fields, passes)
            }
            (Decision::Change(packet), Direction::Serverbound) => {
                let (id, fields) = parts(&packet)?;
                if let (Some(record), Some(kind)) =
                    (&self.record, self.version.kind(self.sent.state, id))
                {
                    record.changed(kind, fields);
                }
                Ok(FrameAction::Change(packet))
            }
            (Decision::Change(packet), Direction::Clientbound) => {
                let (id, fields) = parts(&packet)?;
                Ok(match self.handle_packet(id, fields, FrameAction::Pass)? {
                    FrameAction::Pass => FrameAction::Change(packet),
                    action => action,
                })
            }
        }
    }

    /// Checks a packet, records what it means, and decides what to do with it.
    fn handle_packet(
        &mut self,
        id: i32,
        fields: &[u8],
        passes: FrameAction,
    ) -> Result<FrameAction, FramedError> {
        match self.check_bounds(id, fields)? {
            Allowed::Drop => Ok(FrameAction::Drop),
            Allowed::Pass if self.holds(id) => Ok(FrameAction::Hold),
            Allowed::Pass => {
                let action = match self.apply_packet(id, fields) {
                    PacketAction::Pass => passes,
                    PacketAction::Drop => FrameAction::Drop,
                    PacketAction::Change(packet) => FrameAction::Change(packet),
                };
                // Packets are held only in a configuration, and this packet ends it.
                let ends_configuration = self.sent.state == State::Play;
                let rare = self.rare.as_ref();
                let holds_some = rare.is_some_and(|rare| !rare.held.is_empty());
                Ok(match ends_configuration && holds_some {
                    true => FrameAction::Release,
                    false => action,
                })
            }
        }
    }

    /// Whether a packet with this id waits for the end of the configuration.
    fn holds(&self, id: i32) -> bool {
        let state = self.sent.state;
        self.direction == Direction::Clientbound
            && self.record.is_some()
            && self
                .version
                .kind(state, id)
                .is_some_and(|kind| is_held(state, kind))
    }

    /// Writes a frame that does not pass unchanged.
    pub(super) fn write(
        &mut self,
        action: &FrameAction,
        frame: &RawFrame<'_>,
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
    ) -> Result<(), FramedError> {
        match action {
            FrameAction::Drop | FrameAction::Ask(..) => {}
            FrameAction::Change(packet) => zlib.write(packet, self.to.format, output)?,
            FrameAction::Pass | FrameAction::Convert => {
                codec::convert(frame, self.from, &self.to, zlib, output)?
            }
            FrameAction::Hold => {
                let held = &mut self.rare.get_or_insert_default().held;
                codec::convert(frame, self.from, &self.to, zlib, held)?;
                if held.len() > HELD_BYTES_MAX {
                    return Err(Exceeded::Limit {
                        what: "a configuration",
                        max: HELD_BYTES_MAX,
                        unit: "bytes",
                    }
                    .into());
                }
            }
            FrameAction::Release => {
                output.append(&mut std::mem::take(&mut self.rare().held));
                codec::convert(frame, self.from, &self.to, zlib, output)?;
            }
        }
        Ok(())
    }

    /// Checks that the version has a packet with this id. Only for a client in a
    /// configuration, where a packet of another state shows that the client is in the
    /// wrong state. In play the backend checks this itself.
    fn check(&self, id: i32) -> Result<(), FramedError> {
        let (state, direction) = (self.sent.state, self.direction);
        let is_checked = (direction, state) == (Direction::Serverbound, State::Configuration);
        if is_checked && self.version.name(state, direction, id).is_none() {
            return Err(FramedError::Unexpected {
                id,
                state: self.sent.state,
            });
        }
        Ok(())
    }

    /// Checks the fields of a packet against the limits of its sender.
    fn check_bounds(&mut self, id: i32, fields: &[u8]) -> Result<Allowed, Exceeded> {
        match self.direction {
            Direction::Serverbound => self.check_client(id, fields),
            Direction::Clientbound => self.check_backend(id, fields),
        }
    }

    fn check_client(&mut self, id: i32, fields: &[u8]) -> Result<Allowed, Exceeded> {
        let version = self.version;
        let is_old = |record: &PlayerRecord| record.is_of_old_world(version, id, fields);
        if self.is_entering && self.record.as_ref().is_some_and(is_old) {
            return Ok(Allowed::Drop);
        }
        let Some(kind) = version.kind(self.sent.state, id) else {
            return Ok(Allowed::Pass);
        };
        if kind == Serverbound::CookieResponse && self.outbox.answer_cookie(fields) {
            return Ok(Allowed::Drop);
        }
        let is_wanted = |record: &PlayerRecord| record.serverbound(version, kind, fields);
        if !self.record.as_ref().is_none_or(is_wanted) {
            return Ok(Allowed::Drop);
        }
        if kind == Serverbound::CookieResponse {
            bounds::check_cookie(fields, &self.outbox)?;
        }
        match &mut self.bounds {
            Some(bounds) => bounds.check(version, kind, fields),
            None => Ok(Allowed::Pass),
        }
    }

    fn check_backend(&mut self, id: i32, fields: &[u8]) -> Result<Allowed, Exceeded> {
        let state = self.sent.state;
        let Some(kind) = self.version.kind(state, id) else {
            return Ok(Allowed::Pass);
        };
        bounds::check_backend(kind, fields, &self.outbox)?;
        let is_asked = (state, kind) == (State::Play, Clientbound::PluginMessage);
        let is_for_proxy = |listener: &Arc<dyn Listener>| listener.receive(fields);
        let rare = self.rare.as_ref();
        let listener = rare.and_then(|rare| rare.listener.as_ref());
        if is_asked && listener.is_some_and(is_for_proxy) {
            return Ok(Allowed::Drop);
        }
        let Some(record) = &self.record else {
            return Ok(Allowed::Pass);
        };
        if kind == Clientbound::Disconnect {
            self.rare().kick = Some(fields.to_vec());
            return Ok(Allowed::Drop);
        }
        record.clientbound(self.version, kind, fields);
        Ok(Allowed::Pass)
    }

    /// Records what a packet means. Returns what happens to it.
    fn apply_packet(&mut self, id: i32, fields: &[u8]) -> PacketAction {
        let state = self.sent.state;
        match self.direction {
            Direction::Clientbound => {
                let Some(kind) = self.version.kind(state, id) else {
                    return PacketAction::Pass;
                };
                self.sent.note(kind);
                let commands = self.commands.as_deref();
                let changed = self
                    .edits
                    .apply(self.version, state, kind, fields, commands);
                changed.map_or(PacketAction::Pass, PacketAction::Change)
            }
            Direction::Serverbound => {
                let Some(kind): Option<Serverbound> = self.version.kind(state, id) else {
                    return PacketAction::Pass;
                };
                self.sent.state = kind.leads_to().unwrap_or(state);
                let commands = self.commands.as_ref();
                commands.map_or(PacketAction::Pass, |commands| {
                    commands.serverbound(kind, fields)
                })
            }
        }
    }
}

/// What to do with a frame.
pub(super) enum FrameAction {
    /// It passes unchanged.
    Pass,
    /// It is converted to the receiver's format.
    Convert,
    /// It is replaced by this packet.
    Change(Vec<u8>),
    /// It waits for the end of the configuration.
    Hold,
    /// It passes after the packets that were held until now.
    Release,
    /// It is dropped.
    Drop,
    /// This packet, sent in this state, waits for a decision of plugins.
    Ask(State, Vec<u8>),
}

/// The id and the fields of a packet.
fn parts(packet: &[u8]) -> Result<(i32, &[u8]), CodecError> {
    match varint::decode(packet) {
        Ok(Some((id, bytes))) => Ok((id, packet.get(bytes..).unwrap_or_default())),
        _ => Err(CodecError::Frame(FrameError::BadId)),
    }
}
