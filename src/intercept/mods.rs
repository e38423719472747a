//! Mods of Forge before 1.13: a client negotiates them with each backend, before that
//! sends its join game. So the client has to leave the old backend first.

use super::arrival::read_kick;
use super::failure::Failure;
use super::join::Joining;
use super::wire::Frame;
use crate::protocol::forge::{self, Negotiation};
use crate::protocol::packet::{Clientbound, Serverbound, State};

impl Joining {
    /// Lets the client negotiate mods with the backend. Returns the fields of the join game
    /// that follows. Packets for the client that do not belong to the negotiation are held
    /// until then.
    pub(super) async fn negotiate_mods(&mut self) -> Result<Vec<u8>, Failure> {
        let negotiation = self.record.as_ref().map(|record| record.negotiation());
        let has_to_reset = match negotiation.unwrap_or_default() {
            // In the world of a backend without mods it is done as well.
            Negotiation::NotBegun => self.has_world,
            // The client lost another backend during its negotiation, and cannot begin again.
            Negotiation::Open => return Err(Failure::BackendMods),
            Negotiation::Done => true,
        };
        if has_to_reset {
            let reset = forge::reset(self.version);
            self.client.put(&reset).map_err(Failure::client)?;
        }
        if let Some(record) = &self.record {
            // From now on another reset would end the client.
            record.open_negotiation();
        }
        for frame in self.held.take() {
            self.meet_negotiation(frame)?;
        }
        loop {
            self.flush().await?;
            tokio::select! {
                frame = self.backend.frame() => {
                    let frame = frame.map_err(Failure::backend)?;
                    let packet = frame.packet().map_err(Failure::backend)?;
                    match packet.kind(self.version, State::Play) {
                        Some(Clientbound::JoinGame) => return Ok(packet.fields().to_vec()),
                        Some(Clientbound::Disconnect) => {
                            return Err(read_kick(self.version, packet.fields()));
                        }
                        _ => self.meet_negotiation(frame)?,
                    }
                }
                frame = self.client.frame() => {
                    self.negotiate_as_client(&frame.map_err(Failure::client)?)?;
                }
                failure = self.time.expired() => return Err(failure),
            }
        }
    }

    /// Passes a frame of the backend that belongs to the negotiation, and holds others.
    fn meet_negotiation(&mut self, frame: Frame) -> Result<(), Failure> {
        let packet = frame.packet().map_err(Failure::backend)?;
        let kind: Option<Clientbound> = packet.kind(self.version, State::Play);
        if kind != Some(Clientbound::PluginMessage) || !forge::accompanies(packet.fields()) {
            return self.held.push(&frame);
        }
        self.clientbound(&packet)?;
        self.pass(&frame)
    }

    /// Passes a frame of the client that belongs to the negotiation, and drops others: they
    /// are for the old backend.
    fn negotiate_as_client(&mut self, frame: &Frame) -> Result<(), Failure> {
        let packet = frame.packet().map_err(Failure::client)?;
        let kind: Option<Serverbound> = packet.kind(self.version, State::Play);
        self.drop_frame(frame)?;
        if kind == Some(Serverbound::PluginMessage) && forge::accompanies(packet.fields()) {
            self.backend.pass(frame, true).map_err(Failure::client)?;
        }
        Ok(())
    }
}
