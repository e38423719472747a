//! Brings a player from the backend's login success into the game.

use std::sync::Arc;

use super::backend::{LoggedIn, RespondingBackend};
use super::detached::{AskedCookies, DetachedClient, next_keep_alive};
use super::failure::Failure;
use super::flag::Flag;
use super::held::HeldFrames;
use super::identity::Who;
use super::login::IdentifiedClient;
use super::playing::Playing;
use super::reader::{ClosingClient, Lost};
use super::settings::ClientCompression;
use super::time_budget::{Actor, CLIENT_WAIT, OpenRequests, TimeBudget};
use super::wire::{Frame, Packet, Wire, WireError};
use crate::forward::bounds::{Allowed, ClientBounds, Exceeded, check_backend, check_cookie};
use crate::forward::commands::{Commands, PacketAction, SessionCommands};
use crate::forward::framed::{FrameFilter, FrameFilters, OUTPUT_BYTES_MAX};
use crate::forward::packets::{Edits, SentState};
use crate::forward::queries::{Decision, PacketQueries};
use crate::forward::record::{PlayerRecord, is_held};
use crate::forward::{Counters, Direction, Listener, Outbox};
use crate::protocol::codec::{Format, Receiver};
use crate::protocol::packet::login::{self as packets};
use crate::protocol::packet::{Clientbound, Serverbound, State, Version};
use crate::protocol::version::{V1_8, V1_18, V1_20_2};

/// The settings of a player's connection, from the configuration of the server.
#[derive(Debug, Clone)]
pub(crate) struct ClientSettings {
    /// Which packets are compressed.
    pub(crate) compression: ClientCompression,
    /// Whether the proxy has authenticated the player.
    pub(crate) is_authenticated: bool,
    /// The id of the proxy's session (26.2).
    pub(crate) session: [u8; 16],
    /// The commands of the proxy that the player may use on the server, if there are any.
    pub(crate) commands: Option<Arc<dyn Commands>>,
    /// The plugins that get packets, if there are any.
    pub(crate) queries: Option<Arc<PacketQueries>>,
    /// Handles requests of the backend to the proxy, if the server may send them.
    pub(crate) listener: Option<Arc<dyn Listener>>,
    /// The outbox of the connection to the backend.
    pub(crate) outbox: Arc<Outbox>,
}

/// Logs the player in at a backend, unless another login has `replaced` this one.
///
/// # Errors
///
/// If the backend does not accept the login. Another backend can then be tried.
pub(crate) async fn log_in(
    player: &mut IdentifiedClient,
    backend: RespondingBackend,
    replaced: &Flag,
) -> Result<LoggedIn, Failure> {
    let IdentifiedClient {
        client,
        profile,
        key,
    } = player;
    let who = Who {
        version: client.version,
        profile,
        key: key.as_ref(),
    };
    tokio::select! {
        logged_in = backend.log_in(who, Some(client)) => logged_in,
        () = replaced.wait() => Err(Failure::Replaced),
    }
}

/// Brings a player into the game of a backend that has accepted the login, unless another
/// login has `replaced` this one. With a `record` the player can move to another backend later.
///
/// # Errors
///
/// If the session ends before that.
pub(crate) async fn join(
    player: IdentifiedClient,
    logged_in: LoggedIn,
    settings: ClientSettings,
    counters: Arc<Counters>,
    record: Option<PlayerRecord>,
    notices: Vec<Vec<u8>>,
    replaced: &Flag,
) -> Result<Playing, NotJoined> {
    let LoggedIn { wire, until, .. } = logged_in;
    let version = player.client.version;
    let login_left = player.client.time_left;
    let mut joining = Joining {
        backend: wire,
        client: player.client.wire,
        version,
        // Until it is sent the login success.
        clientbound: SentState::new(State::Login),
        serverbound: match version.protocol() {
            // Until it acknowledges the login success.
            V1_20_2.. => State::Login,
            _ => State::Play,
        },
        edits: edits(settings.is_authenticated),
        commands: commands(version, settings.commands.as_ref()),
        has_world: false,
        has_joined: false,
        client_bounds: ClientBounds::new(),
        outbox: Arc::clone(&settings.outbox),
        record,
        held: HeldFrames::default(),
        notices,
        kick: None,
        listener: settings.listener.clone(),
        time: TimeBudget::new(until, CLIENT_WAIT),
        open_requests: OpenRequests::default(),
        queries: settings.queries.clone(),
        cookies: AskedCookies::default(),
        counters,
    };
    let joined = async {
        let mut login_time = TimeBudget::new(until, login_left);
        let finish_login = joining.finish_login(&player.profile, &settings);
        login_time.wait_for(Actor::Client, finish_login).await??;
        joining.time = TimeBudget::new(login_time.backend_until(), CLIENT_WAIT);
        joining.run().await
    };
    let joined = tokio::select! {
        joined = joined => joined,
        () = replaced.wait() => Err(Failure::Replaced),
    };
    match joined {
        Ok(()) => Ok(joining.into_playing()),
        Err(failure) => Err(joining.fail(failure)),
    }
}

/// The changes of the proxy to packets for a player.
pub(super) const fn edits(is_authenticated: bool) -> Edits {
    Edits {
        adds_brand: true,
        is_authenticated,
    }
}

/// The commands of the proxy that a player may use, for a new connection to a backend.
pub(super) fn commands(
    version: Version,
    commands: Option<&Arc<dyn Commands>>,
) -> Option<Arc<SessionCommands>> {
    let commands = Arc::clone(commands?);
    Some(Arc::new(SessionCommands::new(commands, version)))
}

/// The decision of plugins about a packet; it passes if no plugin wants it.
pub(super) async fn decide(
    queries: Option<&Arc<PacketQueries>>,
    direction: Direction,
    state: State,
    id: i32,
    packet: &[u8],
) -> Decision {
    match queries.filter(|queries| queries.wanted.has(state, direction, id)) {
        Some(queries) => queries.ask(direction, state, packet.to_vec()).await,
        None => Decision::Pass,
    }
}

/// A player who has not reached the game.
#[derive(Debug)]
pub(crate) enum NotJoined {
    /// The client can get a text with the reason.
    Lost(Box<Lost>),
    /// The client can move to another backend.
    Detached(Failure, Box<DetachedClient>),
}

/// Both sides, between the login and the game.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) client: Wire,
    pub(super) backend: Wire,
    pub(super) version: Version,
    /// What the client has been sent.
    pub(super) clientbound: SentState,
    /// The state in which the client writes and the backend reads.
    pub(super) serverbound: State,
    pub(super) edits: Edits,
    /// The commands of the proxy that the player may use, if there are any.
    pub(super) commands: Option<Arc<SessionCommands>>,
    /// Whether the client has been in a world, of this backend or another.
    pub(super) has_world: bool,
    /// Whether the backend has sent its join game.
    pub(super) has_joined: bool,
    /// The limits of the client's packets.
    pub(super) client_bounds: ClientBounds,
    /// The outbox of the connection to this backend.
    pub(super) outbox: Arc<Outbox>,
    /// The record of a player who may move to another backend.
    pub(super) record: Option<PlayerRecord>,
    pub(super) held: HeldFrames,
    /// Packets for the client after the join game.
    pub(super) notices: Vec<Vec<u8>>,
    /// The fields of the text with which the backend has ended the session.
    pub(super) kick: Option<Vec<u8>>,
    /// Handles requests of the backend to the proxy.
    pub(super) listener: Option<Arc<dyn Listener>>,
    /// The time limits of both sides.
    pub(super) time: TimeBudget,
    /// The questions of the backend that the client has not answered.
    pub(super) open_requests: OpenRequests,
    /// The plugins that get packets, if there are any.
    pub(super) queries: Option<Arc<PacketQueries>>,
    /// The cookies that the proxy has asked the client for before. This backend does not get
    /// the answers.
    pub(super) cookies: AskedCookies,
    pub(super) counters: Arc<Counters>,
}

impl Joining {
    /// Ends the login of the client: compression, success, and from 1.20.2 on
    /// its acknowledgement, which the backend waits for as well.
    async fn finish_login(
        &mut self,
        profile: &packets::Profile,
        settings: &ClientSettings,
    ) -> Result<(), Failure> {
        let version = self.version;
        let format = match version.protocol() {
            V1_8.. => settings.compression.format(self.backend.format()),
            _ => Format::Plain,
        };
        if let Format::Compressed { threshold } = format {
            let threshold = i32::try_from(threshold).unwrap_or(i32::MAX);
            let packet = packets::set_compression(version, threshold);
            self.client.put(&packet).map_err(Failure::client)?;
            self.client.set_format(Format::announced(threshold));
        }
        let success = packets::login_success(version, profile, settings.session);
        self.client.put(&success).map_err(Failure::client)?;
        self.clientbound = SentState::new(match version.protocol() {
            V1_20_2.. => State::Configuration,
            _ => State::Play,
        });
        self.client.flush().await.map_err(Failure::client)?;
        if version.protocol() < V1_20_2 {
            return Ok(());
        }
        let frame = tokio::select! {
            frame = self.client.frame() => frame,
            lost = self.backend.lost() => return Err(Failure::backend(lost)),
        };
        let answer = frame.and_then(|frame| frame.packet());
        let answer = answer.map_err(Failure::client)?;
        if answer.kind(version, State::Login) != Some(Serverbound::LoginAcknowledged) {
            return Err(Failure::client(WireError::unexpected(
                State::Login,
                answer.id,
            )));
        }
        self.serverbound = State::Configuration;
        self.backend.put(answer.bytes()).map_err(Failure::backend)?;
        self.backend.flush_while_taken().await;
        Ok(())
    }

    /// Passes frames until the player is in the game, with all frames that have arrived by
    /// then.
    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        self.time.charge_to(self.open_requests.actor());
        while !self.has_joined || self.serverbound != State::Play {
            tokio::select! {
                frame = self.backend.frame() => {
                    self.pass_to_client(&frame.map_err(Failure::backend)?).await?;
                }
                frame = self.client.frame() => {
                    self.pass_to_backend(&frame.map_err(Failure::client)?).await?;
                }
                failure = self.time.expired() => return Err(failure),
            }
            let mut is_all = false;
            while !is_all {
                is_all = self.pass_arrived_frames().await?;
                self.flush().await?;
            }
            self.time.charge_to(self.open_requests.actor());
        }
        Ok(())
    }

    /// Passes the frames that have arrived. Returns false if some are left, because too
    /// many bytes wait to be written.
    pub(super) async fn pass_arrived_frames(&mut self) -> Result<bool, Failure> {
        while let Some(frame) = self.backend.arrived().map_err(Failure::backend)? {
            self.pass_to_client(&frame).await?;
            if self.client.waiting_bytes() >= OUTPUT_BYTES_MAX {
                return Ok(false);
            }
        }
        while let Some(frame) = self.client.arrived().map_err(Failure::client)? {
            self.pass_to_backend(&frame).await?;
            if self.backend.waiting_bytes() >= OUTPUT_BYTES_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let flush = self.client.flush();
        let flushed = self.time.wait_for(Actor::Client, flush).await?;
        flushed.map_err(Failure::client)?;
        let flush = self.backend.flush_while_taken();
        self.time.wait_for(Actor::Backend, flush).await?;
        self.counters
            .add(Direction::Clientbound, self.client.take_sent_bytes());
        self.counters
            .add(Direction::Serverbound, self.backend.take_sent_bytes());
        Ok(())
    }

    pub(super) async fn pass_to_client(&mut self, frame: &Frame) -> Result<(), Failure> {
        let mut packet = frame.packet().map_err(Failure::backend)?;
        let (direction, state) = (Direction::Clientbound, self.clientbound.state);
        let queries = self.queries.as_ref();
        let decision = decide(queries, direction, state, packet.id, packet.bytes()).await;
        let is_changed = matches!(decision, Decision::Change(_));
        match decision {
            Decision::Pass => {}
            Decision::Change(changed) => {
                packet = Packet::of(changed.into()).map_err(Failure::backend)?;
            }
            Decision::Drop(_) => return Ok(()),
        }
        if self.record.is_some() && self.clientbound.state == State::Configuration {
            match packet.kind(self.version, State::Configuration) {
                Some(kind) if is_held(State::Configuration, kind) => {
                    return self.held.push(frame);
                }
                Some(Clientbound::FinishConfiguration) => {
                    for held in self.held.take() {
                        self.pass(&held)?;
                    }
                }
                _ => {}
            }
        }
        let kind = packet.kind(self.version, state);
        if (state, kind) == (State::Play, Some(Clientbound::PluginMessage))
            && let Some(listener) = &self.listener
            && listener.receive(packet.fields())
        {
            return Ok(());
        }
        match self.clientbound(&packet)? {
            Some(changed) => self.client.put(&changed).map_err(Failure::backend)?,
            None if is_changed => self.client.put(packet.bytes()).map_err(Failure::backend)?,
            None => self.pass(frame)?,
        }
        if packet.kind(self.version, state) == Some(Clientbound::JoinGame) {
            let record = self.record.as_ref();
            let clear = record.and_then(|record| record.clear_titles(self.version));
            if let Some(clear) = clear {
                self.client.put(&clear).map_err(Failure::client)?;
            }
            for notice in std::mem::take(&mut self.notices) {
                self.client.put(&notice).map_err(Failure::client)?;
            }
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, frame: &Frame) -> Result<(), Failure> {
        let strict = self.version.protocol() < V1_18;
        self.client.pass(frame, strict).map_err(Failure::backend)
    }

    async fn pass_to_backend(&mut self, frame: &Frame) -> Result<(), Failure> {
        let exceeded = |error: Exceeded| Failure::Client(error.to_string());
        let counted = self.client_bounds.count(frame.packet_bytes());
        counted.map_err(exceeded)?;
        frame.check_threshold().map_err(Failure::client)?;
        let packet = frame.packet().map_err(Failure::client)?;
        if self
            .version
            .name(self.serverbound, Direction::Serverbound, packet.id)
            .is_none()
        {
            return Err(Failure::client(WireError::unexpected(
                self.serverbound,
                packet.id,
            )));
        }
        let state = self.serverbound;
        if state == State::Play
            && let Some(record) = &self.record
            && record.is_of_old_world(self.version, packet.id, packet.fields())
        {
            return Ok(());
        }
        let kind = packet.kind(self.version, state);
        if kind == Some(Serverbound::CookieResponse) && self.cookies.answer(packet.fields()) {
            return Ok(());
        }
        if let Some(kind) = kind {
            let (version, fields) = (self.version, packet.fields());
            let is_wanted = |record: &PlayerRecord| record.serverbound(version, kind, fields);
            if !self.record.as_ref().is_none_or(is_wanted) {
                return Ok(());
            }
            if kind == Serverbound::CookieResponse {
                check_cookie(fields, &self.outbox).map_err(exceeded)?;
            }
            let checked = self.client_bounds.check(version, kind, fields);
            if checked.map_err(exceeded)? == Allowed::Drop {
                return Ok(());
            }
            let commands = self.commands.as_ref();
            match commands.map_or(PacketAction::Pass, |it| {
                it.serverbound(kind, packet.fields())
            }) {
                PacketAction::Pass => {}
                PacketAction::Drop => return Ok(()),
                PacketAction::Change(packet) => {
                    return self.backend.put(&packet).map_err(Failure::client);
                }
            }
        }
        if let Some(kind) = kind {
            self.open_requests.answer(kind, packet.fields());
        }
        if let Some(state) = kind.and_then(Serverbound::leads_to) {
            self.serverbound = state;
        }
        let Some(queries) = &self.queries else {
            return self.backend.pass(frame, true).map_err(Failure::client);
        };
        if queries.wanted.withholds(self.version, state, packet.id) {
            return Ok(());
        }
        let direction = Direction::Serverbound;
        let passed = match decide(Some(queries), direction, state, packet.id, packet.bytes()).await
        {
            Decision::Pass => self.backend.pass(frame, true),
            Decision::Drop(None) => Ok(()),
            Decision::Drop(Some(instead)) => self.backend.put(&instead),
            Decision::Change(changed) => {
                let changed = Packet::of(changed.into()).map_err(Failure::client)?;
                if let (Some(record), Some(kind)) = (&self.record, kind) {
                    record.changed(kind, changed.fields());
                }
                self.backend.put(changed.bytes())
            }
        };
        passed.map_err(Failure::client)
    }

    /// Records the meaning of a packet of the backend, and returns the packet that replaces
    /// it, if any.
    pub(super) fn clientbound(&mut self, packet: &Packet) -> Result<Option<Vec<u8>>, Failure> {
        let state = self.clientbound.state;
        let Some(kind) = packet.kind(self.version, state) else {
            return Ok(None);
        };
        let checked = check_backend(kind, packet.fields(), &self.outbox);
        checked.map_err(|error| Failure::BackendFault(error.to_string()))?;
        if let Some(record) = &self.record {
            if kind == Clientbound::Disconnect {
                self.kick = Some(packet.fields().to_vec());
                return Err(Failure::BackendLost(
                    "it ended the session with a text".to_owned(),
                ));
            }
            record.clientbound(self.version, kind, packet.fields());
        }
        self.has_joined |= kind == Clientbound::JoinGame;
        self.open_requests.ask(kind);
        self.clientbound.note(kind);
        let (version, commands) = (self.version, self.commands.as_deref());
        let edits = self.edits;
        Ok(edits.apply(version, state, kind, packet.fields(), commands))
    }

    /// The player cannot come into the game of this backend.
    fn fail(self, failure: Failure) -> NotJoined {
        match self.record.clone() {
            Some(record) => NotJoined::Detached(failure, Box::new(self.detach(record))),
            None => NotJoined::Lost(Box::new(Lost {
                failure,
                client: ClosingClient::new(self.client, self.version, self.clientbound),
            })),
        }
    }

    /// Turns the client into one that has lost this backend.
    pub(super) fn detach(self, record: PlayerRecord) -> DetachedClient {
        record.lose_backend();
        DetachedClient {
            client: self.client,
            version: self.version,
            sent: self.clientbound,
            serverbound: self.serverbound,
            bounds: self.client_bounds,
            has_world: self.has_world || self.has_joined,
            record,
            kick: self.kick,
            keep_alive_at: next_keep_alive(),
            cookies: self.cookies,
            counters: self.counters,
        }
    }

    pub(super) fn into_playing(self) -> Playing {
        let (client, backend) = (self.client.into_parts(), self.backend.into_parts());
        let to_client = Receiver {
            format: client.format,
            strict: self.version.protocol() < V1_18,
        };
        let to_backend = Receiver {
            format: backend.format,
            strict: true,
        };
        let mut clientbound = FrameFilter::clientbound(
            self.version,
            backend.format,
            to_client,
            self.clientbound,
            self.edits,
            Arc::clone(&self.outbox),
        );
        clientbound.set_listener(self.listener);
        clientbound.carry(&backend.input);
        let mut serverbound = FrameFilter::serverbound(
            self.version,
            client.format,
            to_backend,
            self.serverbound,
            self.client_bounds,
            self.outbox,
        );
        serverbound.carry(&client.input);
        let mut filters = FrameFilters {
            serverbound: Box::new(serverbound),
            clientbound: Box::new(clientbound),
            ciphers: client.ciphers,
        };
        if let Some(commands) = &self.commands {
            filters.set_commands(commands);
        }
        if let Some(record) = &self.record {
            filters.set_record(record);
        }
        if let Some(queries) = &self.queries {
            filters.set_queries(queries);
        }
        Playing {
            client: client.stream,
            backend: backend.stream,
            version: self.version,
            filters,
            counters: self.counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::super::login::LoginClient;
    use super::*;
    use crate::protocol::frame;

    /// The ids of the packets that a client reads if another login replaces its login at the
    /// moment when it may join.
    async fn read_when_replaced(protocol: i32, record: Option<PlayerRecord>) -> Vec<u8> {
        let version = Version::of(protocol).unwrap();
        let ((client, mut peer), (backend, _peer_of_backend)) =
            (Wire::connected().await, Wire::connected().await);
        let player = IdentifiedClient {
            client: LoginClient {
                wire: client,
                version,
                time_left: CLIENT_WAIT,
            },
            profile: packets::Profile {
                uuid: [1; 16],
                name: "Notch".to_owned(),
                properties: Vec::new(),
            },
            key: None,
        };
        let logged_in = LoggedIn {
            wire: backend,
            until: Instant::now() + CLIENT_WAIT,
            knows_chat_key: false,
        };
        let settings = ClientSettings {
            compression: ClientCompression::Never,
            is_authenticated: false,
            session: [0; 16],
            commands: None,
            queries: None,
            listener: None,
            outbox: Arc::default(),
        };
        let replaced = Flag::default();
        replaced.set();
        let counters = Arc::default();
        let joined = join(
            player,
            logged_in,
            settings,
            counters,
            record,
            Vec::new(),
            &replaced,
        );
        let client = match joined.await.unwrap_err() {
            NotJoined::Lost(lost) => lost.client,
            NotJoined::Detached(_, client) => client.into_closing(),
        };
        let mut read = Vec::new();
        let reading = async {
            peer.read_to_end(&mut read).await.unwrap();
            drop(peer);
        };
        tokio::join!(client.show("replaced"), reading);
        let (mut ids, mut rest) = (Vec::new(), &read[..]);
        while let Some(frame) = frame::split(rest, frame::FRAME_BYTES_MAX).unwrap() {
            ids.push(u8::try_from(frame.id).unwrap());
            rest = &rest[frame.wire_bytes..];
        }
        ids
    }

    /// The text about the end of a login has the form of the client's state: that of the
    /// login state until the client is sent the login success.
    #[tokio::test]
    async fn a_client_reads_the_end_in_the_form_of_its_state() {
        for protocol in [340, 763, 767] {
            let version = Version::of(protocol).unwrap();
            let state = match protocol {
                ..764 => State::Play,
                _ => State::Configuration,
            };
            let kick = version.id(state, Clientbound::Disconnect).unwrap();
            // Whether the login success or the end comes first is decided by chance.
            for turn in 0..20 {
                let record = (turn % 2 == 0).then(PlayerRecord::default);
                let ids = read_when_replaced(protocol, record).await;
                assert!(ids == [0] || ids == [2, kick], "{protocol}: {ids:?}");
            }
        }
    }
}
