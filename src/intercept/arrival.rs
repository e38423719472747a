//! Moves a client to another backend without a new connection: a client that has lost its
//! backend, or that switches the server.
//!
//! The other backend accepts the login first ([`RespondingBackend::prepare`]), while the
//! client still plays on the old one. A client that is detached from the old backend
//! cannot go back, and continues with [`DetachedClient::enter`].
//!
//! Before 1.20.2 the client stays in play and gets another world: see [`world`]. Since
//! 1.20.2 it goes through a configuration, in which the other backend sends the same
//! packets as to a client that has just logged in.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backend::{LoggedIn, RespondingBackend};
use super::detached::{DetachedClient, drop_frame, open_bundle};
use super::failure::Failure;
use super::held::HeldFrames;
use super::identity::Who;
use super::join::{Joining, commands, decide, edits};
use super::player_handle::PlayerHandle;
use super::playing::Playing;
use super::time_budget::{Actor, CLIENT_WAIT, OpenRequests, TimeBudget};
use super::wire::{Frame, Wire, WireError};
use crate::forward::commands::Commands;
use crate::forward::queries::PacketQueries;
use crate::forward::record::PlayerRecord;
use crate::forward::{Direction, Listener, Outbox};
use crate::protocol::component;
use crate::protocol::forge::{self, Negotiation};
use crate::protocol::packet::{Clientbound, Serverbound, State, Version, world};
use crate::protocol::read::{Cursor, write_string};
use crate::protocol::version::{V1_8, V1_13, V1_20_2};

/// The most bytes of the names in one registration of channels: a plugin message
/// has at most 32 767.
const REGISTRATION_BYTES_MAX: usize = 30_000;

/// A backend that has accepted the login of a player who is still on another one.
#[derive(Debug)]
pub(crate) struct Prepared {
    wire: Wire,
    /// The deadline of the backend to bring the player into the game.
    until: Instant,
    /// The fields of its join game, before 1.20.2. A backend with mods of Forge before 1.13
    /// sends it when the client has negotiated them.
    join_game: Option<Vec<u8>>,
    /// The packets before the join game.
    held: HeldFrames,
    /// Whether the backend has got the key with which the player signs chat.
    pub(crate) knows_chat_key: bool,
}

/// How a player arrives at another backend.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// Whether the proxy has authenticated the player.
    pub(crate) is_authenticated: bool,
    /// The commands of the proxy that the player may use there, if there are any.
    pub(crate) commands: Option<Arc<dyn Commands>>,
    /// Packets for the client after the join game.
    pub(crate) notices: Vec<Vec<u8>>,
    /// The deadline for the player to be in the game there.
    pub(crate) until: Instant,
    /// What ends the session in every phase.
    pub(crate) interrupts: &'a Interrupts,
    /// The plugins that get packets there, if there are any.
    pub(crate) queries: Option<Arc<PacketQueries>>,
    /// Handles requests of the backend to the proxy, if the server may send them.
    pub(crate) listener: Option<Arc<dyn Listener>>,
    /// The outbox of the connection to the backend.
    pub(crate) outbox: Arc<Outbox>,
}

/// What ends a session in every phase.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    /// The player, to see whether another login replaces this one.
    pub(crate) player: Arc<PlayerHandle>,
    /// Cancelled when the proxy stops.
    pub(crate) stopped: CancellationToken,
}

impl Interrupts {
    /// The first of them. Cancel safe.
    pub(crate) async fn first(&self) -> Failure {
        tokio::select! {
            () = self.player.replaced().wait() => Failure::Replaced,
            () = self.stopped.cancelled() => Failure::Stopped,
        }
    }
}

impl RespondingBackend {
    /// Runs the part of a login that does not need the client, for a player who is still in
    /// the game elsewhere: up to the login success; before 1.20.2 up to the join game, or
    /// before 1.13 to the negotiation of mods in front of it. Since 1.13 a client with mods
    /// of Forge negotiates them once, in its first login; `has_mods` is true for such a
    /// client. With a `player`, the client is asked for cookies.
    ///
    /// # Errors
    ///
    /// If the backend does not accept the login.
    pub(crate) async fn prepare(
        self,
        who: Who<'_>,
        has_mods: bool,
        player: Arc<PlayerHandle>,
    ) -> Result<Prepared, Failure> {
        let version = who.version;
        let backend = self.for_moving(has_mods, player);
        let LoggedIn {
            mut wire,
            until,
            knows_chat_key,
        } = backend.log_in(who, None).await?;
        let mut held = HeldFrames::default();
        let join_game = match version.protocol() {
            V1_20_2.. => None,
            _ => {
                let join_game = await_join_game(&mut wire, version, &mut held);
                let join_game = timeout_at(until, join_game).await;
                join_game.unwrap_or(Err(Failure::BackendTooSlow))?
            }
        };
        Ok(Prepared {
            wire,
            until,
            join_game,
            held,
            knows_chat_key,
        })
    }
}

/// The fields of a backend's join game, before 1.20.2; `None` if it negotiates mods first.
/// Packets before it are kept.
async fn await_join_game(
    backend: &mut Wire,
    version: Version,
    held: &mut HeldFrames,
) -> Result<Option<Vec<u8>>, Failure> {
    loop {
        let frame = backend.frame().await.map_err(Failure::backend)?;
        let packet = frame.packet().map_err(Failure::backend)?;
        match packet.kind(version, State::Play) {
            Some(Clientbound::JoinGame) => return Ok(Some(packet.fields().to_vec())),
            Some(Clientbound::Disconnect) => return Err(read_kick(version, packet.fields())),
            Some(Clientbound::PluginMessage) if forge::negotiates(version, packet.fields()) => {
                held.push(&frame)?;
                return Ok(None);
            }
            _ => held.push(&frame)?,
        }
    }
}

/// The reason in the fields of a disconnect with which a backend ends the session in play.
pub(super) fn read_kick(version: Version, fields: &[u8]) -> Failure {
    match component::read(&mut Cursor::new(fields), version, State::Play) {
        Ok(text) => Failure::BackendRefused(text.to_string()),
        Err(error) => Failure::BackendFault(error.to_string()),
    }
}

impl DetachedClient {
    /// Brings the player into the game of another backend.
    ///
    /// # Errors
    ///
    /// If the backend does not accept the login. The error has the client, for the next backend.
    pub(crate) async fn enter(
        self: Box<Self>,
        backend: Prepared,
        arrival: Arrival<'_>,
    ) -> Result<Playing, (Failure, Box<Self>)> {
        let record = self.record.clone();
        let mut joining = self.at(backend.wire, backend.held, backend.until, &arrival);
        let joined = tokio::select! {
            joined = joining.join_backend(backend.join_game.as_deref()) => joined,
            interrupt = arrival.interrupts.first() => Err(interrupt),
        };
        match joined {
            Ok(()) => Ok(joining.into_playing()),
            Err(failure) => Err((failure, Box::new(joining.detach(record)))),
        }
    }

    fn at(self, backend: Wire, held: HeldFrames, until: Instant, arrival: &Arrival<'_>) -> Joining {
        Joining {
            client: self.client,
            backend,
            version: self.version,
            clientbound: self.sent,
            serverbound: self.serverbound,
            edits: edits(arrival.is_authenticated),
            commands: commands(self.version, arrival.commands.as_ref()),
            has_world: self.has_world,
            has_joined: false,
            client_bounds: self.bounds,
            outbox: Arc::clone(&arrival.outbox),
            record: Some(self.record),
            held,
            notices: arrival.notices.clone(),
            kick: self.kick,
            listener: arrival.listener.clone(),
            time: TimeBudget::new(until.min(arrival.until), CLIENT_WAIT),
            open_requests: OpenRequests::default(),
            queries: arrival.queries.clone(),
            cookies: self.cookies,
            counters: self.counters,
        }
    }
}

impl Joining {
    /// Brings the client into the game of this backend, which has accepted the login.
    async fn join_backend(&mut self, join_game: Option<&[u8]>) -> Result<(), Failure> {
        if let Some(join_game) = join_game {
            return self.change_world(join_game).await;
        }
        if self.version.protocol() < V1_20_2 {
            let join_game = self.negotiate_mods().await?;
            return self.change_world(&join_game).await;
        }
        self.leave_world().await?;
        let id = self
            .version
            .id(State::Login, Serverbound::LoginAcknowledged);
        let acknowledged = self.backend.put(&[id.unwrap_or_default()]);
        acknowledged.map_err(Failure::backend)?;
        self.replay_client_packets(State::Configuration)?;
        self.flush().await?;
        self.run().await
    }

    /// Moves the client from the world of the old backend into the configuration phase
    /// (1.20.2 and later).
    async fn leave_world(&mut self) -> Result<(), Failure> {
        if self.clientbound.state == State::Play {
            let delimiter = open_bundle(self.version, self.clientbound);
            self.clientbound.in_bundle = false;
            let start = self
                .version
                .id(State::Play, Clientbound::StartConfiguration);
            let start = [start.unwrap_or_default()];
            for packet in delimiter.iter().chain([&start]) {
                self.client.put(packet).map_err(Failure::client)?;
            }
            self.clientbound.note(Clientbound::StartConfiguration);
            // The client acknowledges this after everything that it has sent so far.
            if self.serverbound == State::Configuration {
                self.await_state(State::Play).await?;
            }
        }
        self.await_state(State::Configuration).await
    }

    /// Drops what the client sends until it writes in this state.
    async fn await_state(&mut self, state: State) -> Result<(), Failure> {
        self.flush().await?;
        while self.serverbound != state {
            let frame = self.time.wait_for(Actor::Client, self.client.frame());
            let frame = frame.await?.map_err(Failure::client)?;
            self.drop_frame(&frame)?;
        }
        Ok(())
    }

    /// Brings the client into the world of this join game, before 1.20.2.
    async fn change_world(&mut self, join_game: &[u8]) -> Result<(), Failure> {
        let fault = |error: WireError| Failure::backend(error);
        let id = self.version.id(State::Play, Clientbound::JoinGame);
        let join = [&[id.unwrap_or_default()][..], join_game].concat();
        // The join game always passes.
        let direction = Direction::Clientbound;
        decide(
            self.queries.as_ref(),
            direction,
            State::Play,
            id.unwrap_or_default().into(),
            &join,
        )
        .await;
        let packets = match self.has_world {
            true => {
                let negotiation = self.record.as_ref().map(PlayerRecord::negotiation);
                let entered = match negotiation.unwrap_or_default() {
                    Negotiation::NotBegun => world::enter(self.version, join_game).map(Vec::from),
                    // The join game may come before the last message of the client.
                    Negotiation::Open | Negotiation::Done => {
                        world::enter_with_mods(self.version, join_game)
                    }
                };
                entered.map_err(|error| Failure::BackendFault(error.to_string()))?
            }
            false => vec![join],
        };
        let delimiter = open_bundle(self.version, self.clientbound).map(Vec::from);
        self.clientbound.in_bundle = false;
        let record = self.record.as_ref();
        let clears = record.map(|record| record.clear_screen(self.version));
        let clears = clears.into_iter().flatten().filter(|_| self.has_world);
        for packet in delimiter.into_iter().chain(clears).chain(packets) {
            self.client.put(&packet).map_err(fault)?;
        }
        self.has_joined = true;
        if let Some(record) = &self.record {
            record.enter_world();
        }
        self.replay_client_packets(State::Play)?;
        for frame in self.held.take() {
            self.pass_to_client(&frame).await?;
        }
        for notice in std::mem::take(&mut self.notices) {
            self.client.put(&notice).map_err(Failure::client)?;
        }
        while !self.pass_arrived_frames().await? {
            self.flush().await?;
        }
        self.flush().await
    }

    /// Sends the backend what it has to know about the client: brand, settings and channels,
    /// which the client has sent to the old backend.
    fn replay_client_packets(&mut self, state: State) -> Result<(), Failure> {
        let of_client = self.record.as_ref().map(PlayerRecord::of_client);
        for (kind, fields) in of_client.into_iter().flatten().flatten() {
            let id = self.version.id(state, kind).unwrap_or_default();
            let packet = [&[id][..], &fields].concat();
            self.backend.put(&packet).map_err(Failure::backend)?;
        }
        for packet in self.registrations(state) {
            self.backend.put(&packet).map_err(Failure::backend)?;
        }
        Ok(())
    }

    /// The plugin messages that register the client's channels.
    fn registrations(&self, state: State) -> Vec<Vec<u8>> {
        let protocol = self.version.protocol();
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        for channel in self.client_bounds.channels() {
            match payloads.last_mut() {
                Some(last) if last.len() + channel.len() < REGISTRATION_BYTES_MAX => {
                    last.push(0);
                    last.extend_from_slice(channel.as_bytes());
                }
                _ => payloads.push(channel.as_bytes().to_vec()),
            }
        }
        let id = self.version.id(state, Serverbound::PluginMessage);
        let packet = |payload: Vec<u8>| {
            let mut packet = vec![id.unwrap_or_default()];
            let channel = match protocol {
                ..V1_13 => "REGISTER",
                _ => "minecraft:register",
            };
            write_string(channel, &mut packet);
            if protocol < V1_8 {
                let bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
                packet.extend_from_slice(&bytes.to_be_bytes());
            }
            packet.extend(payload);
            packet
        };
        payloads.into_iter().map(packet).collect()
    }

    pub(super) fn drop_frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        if let Some(record) = &self.record {
            let (version, state) = (self.version, self.serverbound);
            let (bounds, cookies) = (&mut self.client_bounds, &mut self.cookies);
            self.serverbound = drop_frame(frame, version, state, bounds, record, cookies)?;
        }
        Ok(())
    }
}
