//! A client that has lost its backend, and how it comes to another without
//! connecting again.
//!
//! Before 1.20.2 the client stays in play and gets another world there: see
//! [`world`]. Since 1.20.2 it goes through a configuration, in which the other
//! backend sends what it sends a client that has just logged in.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, interval_at, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backend::{Answering, LoggedIn, Who};
use super::failure::Failure;
use super::join::{Held, Joining, Playing, edits};
use super::reader::Reader;
use super::wire::{Ciphers, Frame, Parts, Wire, WireError};
use crate::forward::Counters;
use crate::forward::bounds::{ClientBounds, Exceeded};
use crate::forward::framed::{Remains, Sender};
use crate::forward::memory::Memory;
use crate::forward::packets::Reading;
use crate::protocol::codec::SERVERBOUND_PACKET_BYTES_MAX;
use crate::protocol::component;
use crate::protocol::packet::{Clientbound, Serverbound, State, Version, world};
use crate::protocol::read::{Cursor, write_string};
use crate::protocol::version::{V1_8, V1_12_2, V1_13, V1_20_2};

/// How often a client without a backend is sent a keep alive. It ends its
/// connection after 30 s in which it has read nothing.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The most bytes of the names in one registration of channels: a plugin message
/// has at most 32 767.
const REGISTRATION_BYTES_MAX: usize = 30_000;

/// A client that has lost its backend.
#[derive(Debug)]
pub(crate) struct Stranded {
    pub(super) client: Wire,
    pub(super) version: Version,
    /// What the client has been sent.
    pub(super) reading: Reading,
    /// The state in which the client writes.
    pub(super) serverbound: State,
    /// What it may still send.
    pub(super) bounds: Box<ClientBounds>,
    /// Whether it has been in a world.
    pub(super) has_world: bool,
    pub(super) memory: Memory,
    /// The fields of the text with which the backend has ended the session.
    pub(super) kick: Option<Vec<u8>>,
    /// When it is sent a keep alive.
    pub(super) keep_alive_at: Instant,
    pub(super) counters: Arc<Counters>,
}

/// How a player arrives at another backend.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// Who he is there.
    pub(crate) who: Who<'a>,
    /// Whether the proxy has authenticated him.
    pub(crate) is_authenticated: bool,
    /// Packets that he is sent once he is there.
    pub(crate) notices: Vec<Vec<u8>>,
    /// Until when he has to be there.
    pub(crate) until: Instant,
    /// Cancelled when another login of the player takes his place.
    pub(crate) replaced: &'a CancellationToken,
}

impl Stranded {
    /// A client whose relay has ended; `None` where the runtime does not take
    /// its connection back.
    pub(super) fn of_relay(
        remains: Remains<std::net::TcpStream>,
        sender: Sender,
        version: Version,
        counters: Arc<Counters>,
    ) -> Option<Self> {
        let ciphers = match (remains.cipher, sender.cipher) {
            (Some(encrypt), Some(decrypt)) => Some(Ciphers { encrypt, decrypt }),
            _ => None,
        };
        let parts = Parts {
            stream: TcpStream::from_std(remains.client).ok()?,
            input: sender.carried[..].into(),
            output: remains.backlog[..].into(),
            format: remains.format,
            ciphers,
        };
        Some(Self {
            client: Wire::from_parts(parts, SERVERBOUND_PACKET_BYTES_MAX),
            version,
            reading: remains.reading,
            serverbound: sender.state,
            bounds: sender.bounds,
            has_world: true,
            memory: sender.memory,
            kick: sender.kick,
            keep_alive_at: next_keep_alive(),
            counters,
        })
    }

    /// Whether the client can be brought to another backend.
    pub(crate) fn can_move(&self) -> bool {
        !self.reading.has_registries && !self.reading.has_kicked
    }

    /// The text with which the backend has ended the session, as a component.
    pub(crate) fn reason(&self) -> Option<serde_json::Value> {
        let mut cursor = Cursor::new(self.kick.as_deref()?);
        component::read(&mut cursor, self.version, State::Play).ok()
    }

    /// The client, to be shown a text: the backend's own, if it has sent one.
    pub(crate) fn into_reader(mut self) -> Reader {
        if let Some(fields) = self.kick.take() {
            self.close_bundle();
            let id = self.version.id(self.reading.state, Clientbound::Disconnect);
            let packet = [&[id.unwrap_or_default()][..], &fields].concat();
            // It came in a frame.
            self.reading.has_kicked |= self.client.put(&packet).is_ok();
        }
        Reader::new(self.client, self.version, self.reading)
    }

    /// The output of a future. What the client sends meanwhile was meant for the
    /// lost backend: it is read, and goes no further.
    ///
    /// # Errors
    ///
    /// When the client leaves or is at fault before.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                frame = self.client.frame() => {
                    self.drop_frame(&frame.map_err(Failure::client)?)?;
                }
                () = sleep_until(self.keep_alive_at) => self.send_keep_alive().await?,
            }
        }
    }

    /// Brings the player into the game of another backend.
    ///
    /// # Errors
    ///
    /// Whatever keeps him out, with the client, for the next.
    pub(crate) async fn arrive(
        mut self: Box<Self>,
        backend: Answering,
        arrival: Arrival<'_>,
    ) -> Result<Playing, (Failure, Box<Self>)> {
        let replaced = arrival.replaced;
        let until = arrival.until;
        let logged_in = timeout_at(until, backend.log_in(arrival.who, None));
        let logged_in = tokio::select! {
            logged_in = self.while_waiting(logged_in) => logged_in,
            () = replaced.cancelled() => Err(Failure::Replaced),
        };
        let logged_in =
            logged_in.and_then(|logged_in| logged_in.unwrap_or(Err(Failure::BackendTooSlow)));
        let LoggedIn {
            wire,
            until: until_of_backend,
        } = match logged_in {
            Ok(logged_in) => logged_in,
            Err(failure) => return Err((failure, self)),
        };
        let memory = self.memory.clone();
        let until = until.min(until_of_backend);
        let mut joining = self.at(wire, &arrival);
        let crossed = tokio::select! {
            crossed = joining.cross(until) => crossed,
            () = replaced.cancelled() => Err(Failure::Replaced),
        };
        match crossed {
            Ok(()) => Ok(joining.into_playing()),
            Err(failure) => Err((failure, Box::new(joining.strand(memory)))),
        }
    }

    fn at(self, backend: Wire, arrival: &Arrival<'_>) -> Joining {
        let mut bounds = self.bounds;
        let backend_bounds = bounds.renew();
        Joining {
            client: self.client,
            backend,
            version: self.version,
            clientbound: self.reading,
            serverbound: self.serverbound,
            edits: edits(arrival.is_authenticated),
            has_world: self.has_world,
            has_joined: false,
            client_bounds: bounds,
            backend_bounds,
            memory: Some(self.memory),
            held: Held::default(),
            notices: arrival.notices.clone(),
            kick: self.kick,
            counters: self.counters,
        }
    }

    fn drop_frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        let Self {
            version,
            serverbound,
            bounds,
            memory,
            ..
        } = self;
        *serverbound = drop_frame(frame, *version, *serverbound, bounds, memory)?;
        Ok(())
    }

    fn close_bundle(&mut self) {
        if let Some(delimiter) = open_bundle(self.version, self.reading) {
            self.reading.in_bundle = false;
            // One byte fits in a frame.
            let _ = self.client.put(&delimiter);
        }
    }

    async fn send_keep_alive(&mut self) -> Result<(), Failure> {
        let packet = keep_alive(self.version, self.reading.state);
        self.keep_alive_at = Instant::now() + KEEP_ALIVE_INTERVAL;
        self.client.send(&packet).await.map_err(Failure::client)
    }
}

/// The delimiter that closes a bundle, if one is open.
fn open_bundle(version: Version, reading: Reading) -> Option<[u8; 1]> {
    let id = version.id(State::Play, Clientbound::BundleDelimiter)?;
    reading.in_bundle.then_some([id])
}

/// Drops what a client has sent to a backend that is lost, apart from what is
/// remembered of it. The state in which the client writes then.
fn drop_frame(
    frame: &Frame,
    version: Version,
    state: State,
    bounds: &mut ClientBounds,
    memory: &Memory,
) -> Result<State, Failure> {
    let exceeded = |error: Exceeded| Failure::Client(error.to_string());
    bounds.count(frame.packet_bytes()).map_err(exceeded)?;
    let packet = frame.packet().map_err(Failure::client)?;
    let Some(kind) = packet.kind(version, state) else {
        return Ok(state);
    };
    if kind == Serverbound::PluginMessage {
        let checked = bounds.check(version, kind, packet.fields());
        checked.map_err(exceeded)?;
    }
    memory.serverbound(kind, packet.fields());
    Ok(kind.leads_to().unwrap_or(state))
}

/// When a client that has lost its backend is sent the first keep alive.
pub(super) fn next_keep_alive() -> Instant {
    Instant::now() + KEEP_ALIVE_INTERVAL
}

/// A keep alive of the proxy's own. Its answer is dropped, as that to any keep
/// alive that the backend has not sent.
fn keep_alive(version: Version, state: State) -> Vec<u8> {
    let mut packet = vec![
        version
            .id(state, Clientbound::KeepAlive)
            .unwrap_or_default(),
    ];
    packet.extend(match version.protocol() {
        ..V1_8 => &[0; 4][..],
        V1_8..V1_12_2 => &[0],
        _ => &[0; 8],
    });
    packet
}

impl Joining {
    /// Brings a client that has lost its backend into the game of this one,
    /// which has let the player in.
    async fn cross(&mut self, until: Instant) -> Result<(), Failure> {
        if self.version.protocol() < V1_20_2 {
            let join_game = timeout_at(until, self.await_join_game());
            let join_game = join_game.await.unwrap_or(Err(Failure::BackendTooSlow))?;
            let entered = timeout_at(until, self.change_world(&join_game));
            return entered.await.unwrap_or(Err(Failure::TooSlow));
        }
        let left = timeout_at(until, self.leave_world());
        left.await.unwrap_or(Err(Failure::TooSlow))?;
        let id = self
            .version
            .id(State::Login, Serverbound::LoginAcknowledged);
        let acknowledged = self.backend.put(&[id.unwrap_or_default()]);
        acknowledged.map_err(Failure::backend)?;
        self.introduce(State::Configuration)?;
        let joined = async {
            self.flush().await?;
            self.run().await
        };
        let joined = timeout_at(until, joined);
        joined.await.unwrap_or(Err(Failure::BackendTooSlow))
    }

    /// Takes the client out of the world of the lost backend, into a
    /// configuration, since 1.20.2.
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
            // Whatever the client has sent so far, it has to acknowledge this.
            if self.serverbound == State::Configuration {
                self.await_state(State::Play).await?;
            }
        }
        self.await_state(State::Configuration).await
    }

    /// Drops what the client sends until it writes in this state.
    async fn await_state(&mut self, state: State) -> Result<(), Failure> {
        self.client.flush().await.map_err(Failure::client)?;
        while self.serverbound != state {
            let frame = self.client.frame().await.map_err(Failure::client)?;
            self.drop_frame(&frame)?;
        }
        Ok(())
    }

    /// The fields of the backend's join game, before 1.20.2. What comes in front
    /// of it is held.
    async fn await_join_game(&mut self) -> Result<Vec<u8>, Failure> {
        let mut interval = interval_at(next_keep_alive(), KEEP_ALIVE_INTERVAL);
        loop {
            tokio::select! {
                frame = self.backend.frame() => {
                    let frame = frame.map_err(Failure::backend)?;
                    let packet = frame.packet().map_err(Failure::backend)?;
                    match packet.kind(self.version, State::Play) {
                        Some(Clientbound::JoinGame) => return Ok(packet.fields().to_vec()),
                        Some(Clientbound::Disconnect) => {
                            self.clientbound(&packet)?;
                        }
                        _ => self.held.push(frame)?,
                    }
                }
                frame = self.client.frame() => {
                    self.drop_frame(&frame.map_err(Failure::client)?)?;
                }
                _ = interval.tick() => {
                    let packet = keep_alive(self.version, State::Play);
                    self.client.send(&packet).await.map_err(Failure::client)?;
                }
            }
        }
    }

    /// Brings the client into the world of this join game, before 1.20.2.
    async fn change_world(&mut self, join_game: &[u8]) -> Result<(), Failure> {
        let fault = |error: WireError| Failure::backend(error);
        let packets = match self.has_world {
            true => {
                let entered = world::enter(self.version, join_game);
                entered.map_err(|error| Failure::BackendFault(error.to_string()))?
            }
            false => {
                let id = self.version.id(State::Play, Clientbound::JoinGame);
                let join = [&[id.unwrap_or_default()][..], join_game].concat();
                [join, Vec::new()]
            }
        };
        let delimiter = open_bundle(self.version, self.clientbound).map(Vec::from);
        self.clientbound.in_bundle = false;
        let memory = self.memory.as_ref();
        let clears = memory.map(|memory| memory.clear_screen(self.version));
        let clears = clears.into_iter().flatten().filter(|_| self.has_world);
        let packets = packets.into_iter().filter(|packet| !packet.is_empty());
        for packet in delimiter.into_iter().chain(clears).chain(packets) {
            self.client.put(&packet).map_err(fault)?;
        }
        self.has_joined = true;
        self.introduce(State::Play)?;
        for frame in self.held.take() {
            self.pass_to_client(&frame)?;
        }
        for notice in std::mem::take(&mut self.notices) {
            self.client.put(&notice).map_err(Failure::client)?;
        }
        while !self.pass_what_has_come()? {
            self.flush().await?;
        }
        self.flush().await
    }

    /// Tells the backend what the client has told the one before: the name of its
    /// software, its settings, its channels.
    fn introduce(&mut self, state: State) -> Result<(), Failure> {
        let of_client = self.memory.as_ref().map(Memory::of_client);
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

    fn drop_frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        if let Some(memory) = &self.memory {
            let (version, state) = (self.version, self.serverbound);
            let bounds = &mut self.client_bounds;
            self.serverbound = drop_frame(frame, version, state, bounds, memory)?;
        }
        Ok(())
    }
}
