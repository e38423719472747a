//! Logins on servers of the intercepted modes, from the login start into the game.
//!
//! [`InterceptedLogin::join`] has the steps, each with the type that it returns:
//!
//! 1. the player is authenticated, and `login.decide` is called: [`Identified`];
//! 2. the login has its entry in the roster and its slot on the server: [`Placed`];
//! 3. a backend accepts the login, that of this server or of another one of its network:
//!    [`Accepted`];
//! 4. the client joins the game: [`BridgeSession`].

use std::borrow::Cow;
use std::sync::Arc;

use super::attempts::FallbackAttempts;
use super::channel::Channel;
use super::client::{self, ClosingClient};
use super::connector::{BackendConnector, BackendLogin, decide};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Origin, Player};
use super::fallback::{TargetServer, can_try_another, ends_session};
use super::in_game::ObservedPlayer;
use super::intercepted::{Begun, BridgeSession, interrupts};
use super::network_player::{NetworkPlayer, ServerConnection, is_authenticated};
use super::opening::{Dialect, Opening};
use super::packets::PacketStage;
use crate::close::left_by_peer;
use crate::command::{CommandContext, PlayerCommands};
use crate::config::model::{DuplicateLogin, Intercepted, InterceptedMode, OnBackendLoss};
use crate::forward::Outbox;
use crate::forward::record::PlayerRecord;
use crate::intercept::{
    self, ClientSettings, DetachedClient, Failure, IdentifiedClient, LoggedIn, Lost, NotJoined,
    PlayerDetails, PlayerHandle, StartedLogin,
};
use crate::limit::Slot;
use crate::protocol::packet::Version;
use crate::protocol::packet::login::Profile;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// A client that wants to log in on an intercepted server.
pub(super) struct InterceptedLogin {
    pub(super) client: client::Client,
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    pub(super) server: Arc<Server>,
    /// The server that the client has asked for, if `route.select` has chosen another
    /// and `login.decide` of the first is still to be called, with the proved identity.
    pub(super) moved_from: Option<Arc<Server>>,
    pub(super) intercepted: Intercepted,
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    pub(super) connection: Slot,
}

/// A login after step 1: the identity of the player is settled.
struct Identified {
    client: IdentifiedClient,
    version: Version,
    /// Whether the proxy has authenticated the player.
    is_proved: bool,
    origin: Origin,
    opening: Opening,
    server: Arc<Server>,
    intercepted: Intercepted,
    /// The slot among `max_connections`.
    connection: Slot,
}

/// A login after step 2: it has an entry in the roster.
struct Placed {
    login: Identified,
    entry: intercept::RosterEntry,
    /// The slot on the server; `None` if it is full, and others of its network are tried.
    slot: Option<Slot>,
    /// The host for the backend that a plugin has chosen.
    host: Option<String>,
}

/// A login after step 3: a backend has accepted it.
struct Accepted {
    client: IdentifiedClient,
    backend: LoggedIn,
    player: JoiningPlayer,
    server: Arc<Server>,
    slot: Slot,
    /// Chat messages for the player in the game.
    notices: Vec<Vec<u8>>,
    intercepted: Intercepted,
    entry: intercept::RosterEntry,
    connection: Slot,
}

/// A player who is about to join the game.
struct JoiningPlayer {
    /// The player's own profile; the backend may get another one.
    profile: Profile,
    is_proved: bool,
    handle: Arc<PlayerHandle>,
    /// Set if the server belongs to a network.
    in_network: Option<Box<NetworkPlayer>>,
}

impl InterceptedLogin {
    /// Brings the player into the game.
    pub(super) async fn join(self, proxy: &Proxy, facts: &mut Facts) -> Result<Box<Begun>, Ended> {
        let identified = self.identify(proxy, facts).await?;
        let placed = identified.take_slot_and_entry(proxy, facts).await?;
        let accepted = placed.log_in(proxy, facts).await?;
        accepted.enter_game(proxy, facts).await
    }

    /// Step 1: authenticates the player, if the mode does so, and calls `login.decide`.
    async fn identify(self, proxy: &Proxy, facts: &mut Facts) -> Result<Identified, Ended> {
        let Some(version) = Version::of(self.opening.protocol()) else {
            let refusal = match self.opening.dialect() {
                Dialect::Modern(_) => Refusal::UnknownVersion,
                Dialect::Legacy => Refusal::OldVersion,
            };
            return Err(self.end(refusal));
        };
        if is_full_for_all(&self.server, proxy) {
            // Refused before the authentication.
            return Err(self.end(Refusal::ServerFull));
        }
        let (stream, input) = self.client.into_parts();
        let started = StartedLogin {
            stream,
            input: input.as_ref().into(),
            version,
            name: self.player.name,
            uuid: self.player.uuid,
            login_start: self.login_start,
        };
        let rules = &self.server.proxy.login;
        let identified = match self.intercepted.mode {
            InterceptedMode::Offline => started.unproved(rules.uuid_of_client),
            InterceptedMode::ClientOnly => {
                let address = self.origin.client.ip();
                started.prove(&proxy.authenticator, rules, address).await
            }
        };
        let client = match identified {
            Ok(client) => client,
            Err(lost) => return Err(end_lost(*lost, self.connection)),
        };
        facts.player = Some(client.profile.name.clone());
        let login = Identified {
            client,
            version,
            is_proved: is_authenticated(&self.server),
            origin: self.origin,
            opening: self.opening,
            server: self.server,
            intercepted: self.intercepted,
            connection: self.connection,
        };
        if login.is_proved
            && let Err(ending) = login.call_login_decide(self.moved_from, facts).await
        {
            return Err(login.end(ending));
        }
        Ok(login)
    }

    /// Ends the connection before the login; the client may read why.
    fn end(self, ending: impl Into<Ending>) -> Ended {
        let reader = self.client.into_closing(&self.opening);
        Ended::new(ending, reader).holding_connection(self.connection)
    }
}

impl Identified {
    /// Calls `login.decide` with the proved identity: the plugins of the server that the
    /// client has asked for, then those that only the chosen server has.
    async fn call_login_decide(
        &self,
        moved_from: Option<Arc<Server>>,
        facts: &Facts,
    ) -> Result<(), Ending> {
        let (profile, hooks) = (&self.client.profile, &self.server.hooks);
        let calls = async {
            let Some(first) = moved_from else {
                return decide(hooks, profile, true, facts).await;
            };
            decide(&first.hooks, profile, true, facts).await?;
            decide(&hooks.not_in(&first.hooks), profile, true, facts).await
        };
        self.while_connected(calls).await?
    }

    /// Step 2: takes an entry in the roster, which may wait for an older login of the
    /// player to end, and a slot on the server.
    async fn take_slot_and_entry(self, proxy: &Proxy, facts: &mut Facts) -> Result<Placed, Ended> {
        let profile = &self.client.profile;
        let details = PlayerDetails {
            number: proxy.plugins.in_game().next_number(),
            name: profile.name.as_str().into(),
            uuid: profile.uuid,
            version: self.version,
            address: self.origin.client,
            scope: proxy.roster.scope(&roster_scope(&self.server)),
            counters: Arc::default(),
            is_proved: self.is_proved,
        };
        let player = PlayerHandle::new(details, &self.server.id);
        let policy = duplicate_login(&self.server);
        let entering = proxy.roster.enter(player, policy);
        let Ok(entry) = self.while_connected(entering).await? else {
            return Err(self.end(Refusal::DuplicateLogin));
        };
        let slot = self.server.take_slot();
        if slot.is_none() && !has_other_servers(&self.server) {
            return Err(self.end(Refusal::ServerFull));
        }
        if slot.is_some() {
            facts.session_opened();
        }
        let host = match facts.chosen_host(&self.server, &self.opening) {
            Ok(host) => host,
            Err(denied) => return Err(self.end(denied)),
        };
        Ok(Placed {
            login: self,
            entry,
            slot,
            host,
        })
    }

    /// The output of a future, or [`Ending::ClientLeft`] if the player leaves first.
    async fn while_connected<T>(&self, future: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = left_by_peer(self.client.client.stream()) => Err(Ending::ClientLeft),
        }
    }

    /// Ends the connection during the login; the client may read why.
    fn end(self, ending: impl Into<Ending>) -> Ended {
        end_login(self.client, ending, self.connection)
    }
}

impl Placed {
    /// Step 3: logs the player in at a backend of the server, or, if that fails, of
    /// another server of the network.
    async fn log_in(mut self, proxy: &Proxy, facts: &mut Facts) -> Result<Accepted, Ended> {
        let login = &mut self.login;
        login.origin = login.origin.with_destination(login.client.client.stream());
        // Plugins see the player's own identity; the backend may get another one.
        let identity = login.client.identity();
        let forwarding = login.intercepted.identity.as_ref();
        login.client.profile = identity.at(forwarding).profile;

        let handle = Arc::clone(self.entry.player());
        let first = self.log_in_here(proxy, facts).await;
        let was_full = self.slot.is_none();
        let Self {
            login, entry, slot, ..
        } = self;
        let Identified {
            mut client,
            version,
            is_proved,
            origin,
            opening,
            server,
            intercepted,
            connection,
        } = login;
        let in_network = server.config.network().map(|network| {
            Box::new(NetworkPlayer {
                origin,
                opening,
                identity: identity.clone(),
                version,
                is_proved,
                network: network.to_owned(),
                counters: Arc::clone(handle.counters()),
                handle: Arc::clone(&handle),
            })
        });
        let player = JoiningPlayer {
            profile: identity.profile,
            is_proved,
            handle,
            in_network,
        };
        let mut target = TargetServer {
            server,
            slot,
            notices: Vec::new(),
        };
        let logged_in = match (first, &player.in_network) {
            (Err(ending), Some(in_network))
                if can_try_another(&ending) && in_network.falls_back(proxy) =>
            {
                let replaced = entry.player().replaced();
                let elsewhere = in_network.log_in_elsewhere(
                    &mut client,
                    &mut target,
                    ending,
                    replaced,
                    proxy,
                    facts,
                );
                elsewhere.await
            }
            (first, _) => first,
        };
        let backend = match logged_in {
            Ok(backend) => backend,
            Err(Ending::ClientLeft) => return Err(Ending::ClientLeft.into()),
            Err(Ending::Intercepted(failure)) => {
                return Err(end_lost(*client.client.lose(failure), connection));
            }
            Err(ending) => return Err(end_login(client, ending, connection)),
        };
        let Some(slot) = target.slot else {
            return Err(end_login(client, Refusal::ServerFull, connection));
        };
        if was_full {
            facts.session_opened();
            facts.session_connected();
        }
        Ok(Accepted {
            client,
            backend,
            player,
            server: target.server,
            slot,
            notices: target.notices,
            intercepted,
            entry,
            connection,
        })
    }

    /// Connects to a backend of the server, and logs the player in there.
    async fn log_in_here(&mut self, proxy: &Proxy, facts: &mut Facts) -> Result<LoggedIn, Ending> {
        if self.slot.is_none() {
            return Err(Refusal::ServerFull.into());
        }
        let (login, player) = (&mut self.login, self.entry.player());
        let forwarding = login.intercepted.identity.as_ref();
        intercept::check_version(forwarding, login.version).map_err(Ending::Intercepted)?;
        let connector = BackendConnector::new(BackendLogin {
            server: &login.server,
            intercepted: &login.intercepted,
            origin: &login.origin,
            opening: &login.opening,
            host: self.host.as_deref(),
            counters: player.counters(),
        });
        let replaced = player.replaced();
        // Only fallbacks limit the number of dials.
        let mut dials = 0;
        connector
            .log_in(&mut login.client, replaced, None, &mut dials, proxy, facts)
            .await
    }
}

impl Accepted {
    /// Step 4: brings the client into the game of the backend, or, if that fails, of
    /// another server of the network.
    async fn enter_game(self, proxy: &Proxy, facts: &mut Facts) -> Result<Box<Begun>, Ended> {
        let Self {
            client,
            backend,
            player,
            server,
            slot,
            notices,
            intercepted,
            entry,
            connection,
        } = self;
        let handle = &player.handle;
        let outbox = Arc::<Outbox>::default();
        handle.set_server(&server.id, &outbox);
        entry.begin_session();
        let packets = PacketStage::begin(
            handle,
            &server,
            &player.profile,
            player.is_proved,
            backend.knows_chat_key,
            &outbox,
        );
        let settings = ClientSettings {
            compression: intercepted.compression,
            is_authenticated: is_authenticated(&server),
            session: proxy.session_id,
            commands: PlayerCommands::of(proxy, player.command_context(&server, facts)),
            queries: packets.as_ref().map(PacketStage::queries).cloned(),
            listener: Channel::of(proxy, handle, &server),
            outbox: Arc::clone(&outbox),
        };
        let joining = intercept::join(
            client,
            backend,
            settings,
            Arc::clone(handle.counters()),
            player.in_network.is_some().then(PlayerRecord::default),
            notices,
            handle.replaced(),
        );
        let (mut current, attempts) = match joining.await {
            Ok(playing) => {
                let current = ServerConnection {
                    playing,
                    server,
                    slot,
                    outbox,
                    packets,
                };
                (current, None)
            }
            // Slot and roster entry are free before the player reads.
            Err(NotJoined::Lost(lost)) => return Err(end_lost(*lost, connection)),
            Err(NotJoined::Detached(failure, client)) => {
                drop(slot);
                let moving = player.fall_back(failure, client, &server, &entry, proxy, facts);
                match Box::pin(moving).await {
                    Ok((current, attempts)) => (current, Some(attempts)),
                    Err((failure, client)) => {
                        return Err(end_detached(client, failure, connection));
                    }
                }
            }
        };
        let JoiningPlayer {
            profile,
            is_proved,
            handle,
            mut in_network,
            ..
        } = player;
        if let Some(in_network) = &mut in_network {
            in_network.opening.become_login();
        }
        let players = proxy.plugins.in_game();
        let observed =
            ObservedPlayer::begin(players, &mut current, facts, &handle, profile, is_proved);
        let session = BridgeSession {
            server: current.server,
            slot: Some(current.slot),
            outbox: current.outbox,
            observed,
            entry,
            connection,
            attempts: attempts.map(Box::new),
        };
        Ok(Box::new(Begun {
            session,
            network_player: in_network,
            playing: Box::new(current.playing),
        }))
    }
}

impl JoiningPlayer {
    /// The context of the commands that the player sends on this server.
    fn command_context(&self, server: &Arc<Server>, facts: &Facts) -> CommandContext {
        CommandContext {
            player: Arc::clone(&self.handle),
            is_proved: self.is_proved,
            server: Arc::clone(server),
            intent: facts.intent,
            virtual_host: facts.host().to_owned(),
        }
    }

    /// Moves a client that could not join this server to another one of its network. The
    /// error is the reason for the player.
    async fn fall_back(
        &self,
        failure: Failure,
        client: Box<DetachedClient>,
        server: &Server,
        entry: &intercept::RosterEntry,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<(ServerConnection, FallbackAttempts), (Failure, Box<DetachedClient>)> {
        let in_network = self.in_network.as_ref();
        let in_network = in_network.filter(|player| player.falls_back(proxy));
        let Some(in_network) = in_network.filter(|_| !ends_session(&failure)) else {
            return Err((failure, client));
        };
        let interrupts = interrupts(entry, proxy);
        let mut attempts = FallbackAttempts::begin(server);
        let moved = in_network.fall_back(client, server, &mut attempts, &interrupts, proxy, facts);
        match moved.await {
            Ok(current) => Ok((current, attempts)),
            Err(not_moved) => {
                let failure = not_moved.failure.unwrap_or(failure);
                Err((failure, not_moved.client))
            }
        }
    }
}

/// The scope of the roster in which players of this server are.
fn roster_scope(server: &Server) -> Cow<'_, str> {
    intercept::scope(server.config.network(), &server.config.id)
}

/// What happens at a second login of the same player.
fn duplicate_login(server: &Server) -> DuplicateLogin {
    let network = server.config.network();
    let of_network = network.and_then(|network| server.proxy.network(network).duplicate_login);
    of_network.unwrap_or(server.proxy.login.duplicate_login)
}

/// Whether a full server refuses every login: it has no other server to which the player
/// can be moved, and none of its slots can belong to an older login of the same player
/// that this one replaces.
fn is_full_for_all(server: &Server, proxy: &Proxy) -> bool {
    let max = server.config.max_players;
    let is_full = max.is_some_and(|max| server.state.players.taken() >= max.get());
    is_full
        && !has_other_servers(server)
        && duplicate_login(server) != DuplicateLogin::Replace
        && !proxy.roster.has_leaving(&roster_scope(server))
}

/// Whether players that this server refuses may join others of its network.
fn has_other_servers(server: &Server) -> bool {
    let network = server.config.network();
    let rules = network.map(|network| server.proxy.network(network));
    rules.is_some_and(|rules| rules.on_backend_loss == OnBackendLoss::Fallback)
}

/// Ends the connection during the login; the client may read why.
fn end_login(client: IdentifiedClient, ending: impl Into<Ending>, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(client.client.into_closing());
    Ended::new(ending, Some(reader)).holding_connection(connection)
}

/// Ends a session that has not reached play.
fn end_lost(lost: Lost, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(lost.client);
    Ended::new(Ending::Intercepted(lost.failure), Some(reader)).holding_connection(connection)
}

/// As [`end_lost`], for a client that was waiting for another backend.
fn end_detached(client: Box<DetachedClient>, failure: Failure, connection: Slot) -> Ended {
    let reader = ClosingClient::Intercepted(client.into_closing());
    Ended::new(Ending::Intercepted(failure), Some(reader)).holding_connection(connection)
}
