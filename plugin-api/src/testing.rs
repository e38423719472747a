//! A small host for the tests of plugins.
//!
//! [`TestHost`] calls a plugin through the same C tables as the proxy, without loading a
//! file, so that `cargo test`, breakpoints and coverage work as usual. Add
//! `infrarust-plugin-api` with the feature `testing` to `[dev-dependencies]`.
//!
//! ```standalone_crate
//! # use infrarust_plugin_api::prelude::*;
//! # #[derive(Deserialize)]
//! # #[serde(crate = "infrarust_plugin_api::serde")]
//! # struct Config { deny: Vec<String> }
//! # struct Gate(Config);
//! # impl Plugin for Gate {
//! #     type Config = Config;
//! #     fn new(config: Config, _: &Host<Self>) -> Result<Self> { Ok(Gate(config)) }
//! # }
//! # #[async_trait]
//! # impl LoginDecide for Gate {
//! #     async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
//! #         if self.0.deny.iter().any(|name| name == login.name()) {
//! #             return Ok(Verdict::refuse("You are not on the list."));
//! #         }
//! #         Ok(Verdict::allow())
//! #     }
//! # }
//! # export_plugin! { plugin: Gate, name: "gate", hooks: [LoginDecide] }
//! use infrarust_plugin_api::testing::{Client, Failure, TestHost};
//!
//! # fn main() -> Result<(), Failure> {
//! let host = TestHost::<Gate>::start("deny = ['Eve']")?;
//! let eve = Client::new().name("Eve");
//! assert_eq!(host.login_decide(&eve)?, Verdict::refuse("You are not on the list."));
//! # Ok(())
//! # }
//! ```
#![allow(unsafe_code, reason = "plugins are C tables")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use infrarust_plugin_abi::{
    API_VERSION, AsyncHook, Capability, ClientInput, CommandHook, CommandInput, CommandPlayer,
    CommandSink, ConnectionInput, CookieTable, DataTable, FieldType, FieldValue, FutureTable,
    HandshakeInput, Hook, HostTable, IdentityTable, InjectTable, InterestSink, LoginInput,
    MessageTable, MetricsTable, OwnedFuture, PacketField, PacketHook, PacketInput, PacketTable,
    PlayerInput, PlayersTable, Point, ProfileSink, RawFuture, RawWaker, SessionInput, Sink,
    StatusInput, Str, SwitchTable, SyncHook, TaskTable, TimeTable, TitleInput, TransferTable,
    ValueSink, answer, command_audience, export_waker, failure, import_waker, intent, message,
    metric, packet_state, points, receiver, sample, service, size_of_table, sized, status, table,
};

use crate::export::Exported;
use crate::guard::Collected;
use crate::packet::{crossed_values, crossing};
use crate::verdict::Answer;
use crate::{
    Audience, Choice, CommandReply, CommandSpec, Event, Intent, Interest, Outgoing, PacketValue,
    PlayerEvent, PlayerId, Reply, Rewrite, Text, Title, Verdict,
};

/// How long a hook may take in a test. The deadlines of the proxy are shorter.
const HOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a plugin did not start, or a hook failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The text of the error or the panic.
    pub text: String,
    /// The span of bytes of the configuration that it is about, if any.
    pub span: Option<Range<usize>>,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// An error was returned.
    Error,
    /// A panic was caught.
    Panic,
    /// The configuration cannot be used.
    Config,
    /// The hook did not answer in 30 seconds.
    TooSlow,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// A client for calls of hooks: by default a player `Steve` from `127.0.0.1` who joins
/// the server `lobby` at `play.example.com` with 1.21.
#[derive(Debug, Clone)]
pub struct Client {
    peer: SocketAddr,
    virtual_host: String,
    server: String,
    protocol: i32,
    intent: Intent,
    name: String,
    uuid: Option<u128>,
    is_proved: bool,
    is_admin: bool,
    properties: Vec<(String, String)>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! with {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty;)+) => {
        $($(#[doc = $doc])+
        #[must_use]
        pub fn $field(mut self, $field: impl Into<$type>) -> Self {
            self.$field = $field.into();
            self
        })+
    };
}

impl Client {
    /// A client with the default values, see [`Client`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            peer: sample::PEER,
            virtual_host: sample::HOST.to_owned(),
            server: sample::SERVER.to_owned(),
            protocol: sample::PROTOCOL,
            intent: Intent::Login,
            name: sample::NAME.to_owned(),
            uuid: None,
            is_proved: false,
            is_admin: false,
            properties: Vec::new(),
        }
    }

    with! {
        /// With another address.
        peer: SocketAddr;
        /// With another virtual host: lower case, as the proxy cleans it.
        virtual_host: String;
        /// With another server.
        server: String;
        /// With another protocol version.
        protocol: i32;
        /// With another intent.
        intent: Intent;
        /// With another name.
        name: String;
        /// With a UUID.
        uuid: Option<u128>;
    }

    /// Authenticated by the proxy with this UUID, as on a `client_only` server; has an
    /// effect in [`TestHost::login_decide`] and [`TestHost::player_observe`].
    #[must_use]
    pub fn proved(mut self, uuid: u128) -> Self {
        self.uuid = Some(uuid);
        self.is_proved = true;
        self
    }

    /// As an admin of the proxy, for [`TestHost::player_command`].
    #[must_use]
    pub const fn admin(mut self) -> Self {
        self.is_admin = true;
        self
    }

    /// Adds a property to the proved profile.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    const fn intent_number(&self) -> u32 {
        match self.intent {
            Intent::Status => intent::STATUS,
            Intent::Login => intent::LOGIN,
            Intent::Transfer => intent::TRANSFER,
            Intent::Other => 0,
        }
    }

    fn input(&self) -> ClientInput<'_> {
        ClientInput {
            peer: self.peer,
            protocol: self.protocol,
            intent: self.intent_number(),
            host: &self.virtual_host,
            server: &self.server,
        }
    }

    fn login(&self, hook: Hook) -> LoginInput {
        // Nothing is proved yet in `route.select`.
        let is_proved = self.is_proved && hook != Hook::RouteSelect;
        LoginInput::new(&self.input(), &self.name, self.uuid).proved(is_proved)
    }

    fn session(&self, id: u64, what: Event<'_>) -> SessionInput {
        let opened = SessionInput::opened(&self.input(), &self.name, id);
        match what {
            Event::Opened => opened,
            Event::Connected { backend } => opened.connected(backend),
            Event::Closed {
                reason,
                serverbound_bytes,
                clientbound_bytes,
                duration,
            } => opened.closed(reason, serverbound_bytes, clientbound_bytes, duration),
        }
    }

    fn player(&self, player: PlayerId, what: PlayerEvent<'_>) -> PlayerInput {
        let uuid = self.uuid.unwrap_or(sample::UUID);
        let (number, name) = (player.number(), self.name.as_str());
        let joined = PlayerInput::joined(&self.input(), number, name, uuid, self.is_proved);
        match what {
            PlayerEvent::Joined => joined,
            PlayerEvent::Left { reason } => joined.left(reason),
        }
    }
}

/// Something that a plugin has sent to a player.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Sent {
    /// [`Grant::chat`](crate::Grant::chat).
    Chat(Text),
    /// [`Grant::action_bar`](crate::Grant::action_bar).
    ActionBar(Text),
    /// [`Grant::title`](crate::Grant::title).
    Title(Title),
    /// [`Grant::kick`](crate::Grant::kick).
    Kick(Text),
    /// [`Grant::transfer`](crate::Grant::transfer).
    Transfer {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// [`Grant::send`](crate::Grant::send).
    Packet(Outgoing),
    /// [`Grant::store`](crate::Grant::store).
    Cookie {
        /// The key.
        key: String,
        /// The bytes.
        data: Vec<u8>,
    },
    /// [`Grant::switch`](crate::Grant::switch); its future is ready at once.
    Switch {
        /// The server.
        server: String,
    },
    /// [`Grant::to_client`](crate::Grant::to_client).
    ToClient {
        /// The id of the packet.
        id: i32,
        /// Its fields.
        fields: Vec<u8>,
    },
    /// [`Grant::to_backend`](crate::Grant::to_backend).
    ToBackend {
        /// The id of the packet.
        id: i32,
        /// Its fields.
        fields: Vec<u8>,
    },
}

/// A running plugin in a test.
///
/// Hooks that wait are awaited on the calling thread. Each task of the plugin runs on its
/// own thread, and time is not simulated. Dropping the host ends the tasks and destroys
/// the plugin.
pub struct TestHost<P: Exported> {
    instance: *mut c_void,
    state: &'static State,
    plugin: PhantomData<P>,
}

impl<P: Exported> fmt::Debug for TestHost<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestHost({})", P::NAME)
    }
}

// SAFETY: hooks of a plugin may be called on any thread.
unsafe impl<P: Exported> Send for TestHost<P> {}
// SAFETY: and from several at once.
unsafe impl<P: Exported> Sync for TestHost<P> {}

/// The state of the services. Leaked, since a plugin may keep pointers to its tables.
#[derive(Debug, Default)]
struct State {
    table: std::sync::OnceLock<HostTable>,
    granted: u64,
    folder: Option<PathBuf>,
    players: HashMap<String, u64>,
    in_game: Mutex<HashMap<PlayerId, Client>>,
    sent: Mutex<Vec<(PlayerId, Sent)>>,
    cookies: Mutex<HashMap<(PlayerId, String), Vec<u8>>>,
    metrics: Mutex<Vec<(String, u32, u64)>>,
    tasks: Mutex<HashMap<u64, Arc<AtomicBool>>>,
    next_task: AtomicU64,
    ended: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

/// The settings of a [`TestHost`].
#[derive(Debug, Default)]
pub struct Setup {
    denied: u64,
    folder: Option<PathBuf>,
    players: HashMap<String, u64>,
}

impl Setup {
    /// The default: every declared capability is granted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As on a server with a mode that does not offer `capability`.
    #[must_use]
    pub fn without(mut self, capability: Capability) -> Self {
        self.denied |= capability.bit();
        self
    }

    /// Sets the data folder; without one, [`Host::data_folder`](crate::Host::data_folder)
    /// returns an error.
    #[must_use]
    pub fn data_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the number of players on a server.
    #[must_use]
    pub fn players(mut self, server: impl Into<String>, count: u64) -> Self {
        self.players.insert(server.into(), count);
        self
    }

    /// Makes the plugin from the TOML text of its configuration.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be read, or [`Plugin::new`](crate::Plugin::new) fails.
    pub fn start<P: Exported>(self, config: &str) -> Result<TestHost<P>, Failure> {
        let Setup {
            denied,
            folder,
            players,
        } = self;
        let state: &'static State = Box::leak(Box::new(State {
            granted: P::DECLARED & !denied,
            folder,
            players,
            ..State::default()
        }));
        let table = state.table.get_or_init(|| HostTable {
            size: size_of_table::<HostTable>(),
            api_major: API_VERSION.major,
            api_minor: API_VERSION.minor,
            ctx: std::ptr::from_ref(state).cast(),
            query: Some(query),
        });
        let mut instance = std::ptr::null_mut();
        let mut collected = Collected::default();
        let sink = collected.sink();
        let Some(create) = P::plugin_table().create else {
            unreachable!("the macro fills the table")
        };
        // SAFETY: the table and the state are leaked; the rest is valid during the call.
        let status = unsafe {
            create(
                table,
                Str::new(config),
                Str::EMPTY,
                &raw const sink,
                &raw mut instance,
            )
        };
        outcome(collected, status)?;
        Ok(TestHost {
            instance,
            state,
            plugin: PhantomData,
        })
    }
}

impl<P: Exported> TestHost<P> {
    /// Makes the plugin from the TOML text of its configuration.
    ///
    /// # Errors
    ///
    /// As [`Setup::start`].
    pub fn start(config: &str) -> Result<Self, Failure> {
        Setup::new().start(config)
    }

    fn grants(&self) -> u64 {
        self.state.granted
    }

    fn table<H: Point>() -> &'static H::Table {
        let capability = H::HOOK.capability();
        let found = P::hook_refs()
            .iter()
            .find(|hook| hook.capability == capability as u32);
        let Some(hook) = found else {
            panic!("the plugin does not list the hook `{capability}` in `export_plugin!`")
        };
        // SAFETY: the macro made the table for this capability.
        unsafe { &*hook.table.cast::<H::Table>() }
    }

    /// Calls a hook that the plugin lists.
    fn ask<H: Point>(&self, input: &H::Input) -> Result<Answer, Failure>
    where
        H::Table: Asked<H::Input>,
    {
        Self::table::<H>().ask(H::HOOK, self.instance, input)
    }

    /// As [`TestHost::status_respond`], with `json` as the proxy's own answer.
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook.
    pub fn status_respond_offline(&self, client: &Client, json: &str) -> Result<Reply, Failure> {
        let mut input = StatusInput::new(&client.input(), false, json);
        input.grants = self.grants();
        self.ask::<points::StatusRespond>(&input).map(Reply)
    }

    /// The commands of the plugin, as it has listed them.
    ///
    /// # Errors
    ///
    /// When the plugin fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook `PlayerCommand`.
    pub fn commands(&self) -> Result<Vec<CommandSpec>, Failure> {
        let hook = Self::table::<points::PlayerCommand>();
        let Some(list) = hook.list else {
            unreachable!("the macro fills the table")
        };
        let mut commands: Vec<CommandSpec> = Vec::new();
        let sink = CommandSink {
            size: size_of_table::<CommandSink>(),
            reserved: 0,
            ctx: (&raw mut commands).cast(),
            add: Some(add_command),
        };
        let mut collected = Collected::default();
        let failures = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is good for the call.
        let status = unsafe { list(self.instance, &raw const sink, &raw const failures) };
        outcome(collected, status).map(|_| commands)
    }

    /// What the plugin suggests for the last word of a line, as a player asks for it.
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook `PlayerCommand`.
    pub fn complete(
        &self,
        client: &Client,
        player: PlayerId,
        line: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut input = self.command(client, player, line).completing();
        input.grants = self.grants();
        let answer = self.ask::<points::PlayerCommand>(&input)?;
        Ok(answer.text.lines().map(str::to_owned).collect())
    }

    fn command(&self, client: &Client, player: PlayerId, line: &str) -> CommandInput {
        lock(&self.state.in_game)
            .entry(player)
            .or_insert_with(|| client.clone());
        let line = line.strip_prefix('/').unwrap_or(line);
        let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let user = CommandPlayer {
            number: player.number(),
            name: &client.name,
            uuid: client.uuid.unwrap_or(sample::UUID),
            is_proved: client.is_proved,
            is_admin: client.is_admin,
        };
        CommandInput::new(&client.input(), &user, command, arguments)
    }

    /// Calls a hook with a packet, if the plugin has asked for its kind.
    fn ask_packet<H>(
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
        let sink = InterestSink {
            size: size_of_table::<InterestSink>(),
            reserved: 0,
            ctx: (&raw mut wanted).cast(),
            add: Some(add_interest),
        };
        let mut collected = Collected::default();
        let failures = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = unsafe { interest(self.instance, &raw const sink, &raw const failures) };
        let passed = outcome(collected, status)?;
        let kind = shown.packet.kind();
        if !wanted.has(kind) {
            return Ok(passed);
        }
        let uuid = client.uuid.unwrap_or(sample::UUID);
        let input = PacketInput {
            size: size_of_table::<PacketInput>(),
            protocol: client.protocol,
            grants: self.grants(),
            player: player.number(),
            uuid: uuid.to_be_bytes(),
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
            table: &raw const PACKET,
        };
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the instance lives as long as `self`; the rest is valid during the call.
        let status = unsafe { call(self.instance, &raw const input, &raw const sink) };
        outcome(collected, status)
    }

    /// What the plugin has sent to this player or to the player's backend since the last
    /// call, in order.
    #[must_use]
    pub fn take_sent(&self, player: PlayerId) -> Vec<Sent> {
        let mut all = lock(&self.state.sent);
        let (his, others) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|(to, _)| *to == player);
        *all = others;
        let his: Vec<_> = his;
        his.into_iter().map(|(_, sent)| sent).collect()
    }

    /// The value of a counter of the plugin; `None` when it has no such counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.metric(name, metric::COUNTER)
    }

    /// The value of a gauge of the plugin; `None` when it has no such gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<i64> {
        self.metric(name, metric::GAUGE).map(u64::cast_signed)
    }

    fn metric(&self, name: &str, kind: u32) -> Option<u64> {
        let metrics = lock(&self.state.metrics);
        metrics
            .iter()
            .find(|metric| metric.0 == name && metric.1 == kind)
            .map(|metric| metric.2)
    }
}

/// A table of a hook.
trait Asked<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure>;
}

impl<I: 'static> Asked<I> for CommandHook<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        self.ask.ask(hook, instance, input)
    }
}

impl<I: 'static> Asked<I> for AsyncHook<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        let mut future: Option<OwnedFuture> = None;
        let mut collected = Collected::default();
        let polled = block_on(HOOK_TIME_MAX, |waker| {
            let sink = collected.sink();
            let status = if let Some(future) = &mut future {
                future.poll(waker, Some(&sink))
            } else {
                let mut raw = RawFuture::NONE;
                let waker = export_waker(waker);
                let start = self.start?;
                // SAFETY: the host keeps the instance while a hook runs; the input
                // is borrowed until the future has been dropped below.
                let status = unsafe {
                    start(
                        instance,
                        input,
                        &raw const waker,
                        &raw const sink,
                        &raw mut raw,
                    )
                };
                if status == status::PENDING {
                    // SAFETY: the plugin gives up its ownership of the future.
                    future = unsafe { OwnedFuture::new(raw) };
                }
                status
            };
            (status != status::PENDING).then_some(status)
        });
        drop(future);
        match polled {
            Some(status) => outcome(collected, status),
            None => Err(Failure {
                kind: FailureKind::TooSlow,
                text: format!("`{hook}` did not answer in {} s", HOOK_TIME_MAX.as_secs()),
                span: None,
            }),
        }
    }
}

impl<I: 'static> Asked<I> for SyncHook<I> {
    fn ask(&self, _: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        let mut collected = Collected::default();
        let sink = collected.sink();
        let Some(call) = self.call else {
            unreachable!("the macro fills the table")
        };
        // SAFETY: the host keeps the instance while a hook runs; the rest is good
        // for the call.
        let status = unsafe { call(instance, input, &raw const sink) };
        outcome(collected, status)
    }
}

/// Makes the method of each hook, by the type of its input. A hook with an input that has
/// no arm here does not compile.
macro_rules! hook_methods {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            answer: $answer:tt,
            $($rest:tt)*
        }
    )+) => {
        impl<P: Exported> TestHost<P> {
            $(hook_methods! { @$input $hook $method $answer })+
        }
    };
    (@ConnectionInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook []
            pub fn $method(&self, client: &Client) -> Result<$answer, Failure> {
                let mut input = ConnectionInput::new(&client.input());
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@HandshakeInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [" `host` is what the backend would see."]
            pub fn $method(&self, client: &Client, host: &str) -> Result<$answer, Failure> {
                let mut input = HandshakeInput::new(&client.input(), host);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@StatusInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [" `json` is the answer of a backend."]
            pub fn $method(&self, client: &Client, json: &str) -> Result<$answer, Failure> {
                let mut input = StatusInput::new(&client.input(), true, json);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@LoginInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook []
            pub fn $method(&self, client: &Client) -> Result<$answer, Failure> {
                let mut input = client.login(Hook::$hook);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@SessionInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook
            [" `what` has happened to the session with the number `id`."]
            pub fn $method(&self, client: &Client, id: u64, what: Event<'_>) -> Result<(), Failure> {
                let mut input = client.session(id, what);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map(|_| ())
            }
        }
    };
    (@PlayerInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook [
            " `what` has happened to the player. From `Joined` to `Left` services can be used"
            " for the player. If the plugin does not list the hook, it is not called."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                what: PlayerEvent<'_>,
            ) -> Result<(), Failure> {
                let mut in_game = lock(&self.state.in_game);
                match what {
                    PlayerEvent::Joined => in_game.insert(player, client.clone()),
                    PlayerEvent::Left { .. } => in_game.remove(&player),
                };
                drop(in_game);
                if self.grants() & Capability::$hook.bit() == 0 {
                    return Ok(());
                }
                let mut input = client.player(player, what);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map(|_| ())
            }
        }
    };
    (@CommandInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [
            " `line` is what the player types, with or without the slash. Whether he may use the"
            " command is not asked. From the first command on the services reach him."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                line: &str,
            ) -> Result<$answer, Failure> {
                let mut input = self.command(client, player, line);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@PacketInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook [
            " `packet` comes by on the connection of the player: a packet of which the plugin"
            " has no interest is not shown. Getters find the values that it was given; its bytes"
            " are not known here, so that [`Packet::fields`](crate::Packet::fields) is empty."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                packet: &Outgoing,
            ) -> Result<(), Failure> {
                let mut shown = Shown { packet: packet.clone(), is_changeable: false };
                self.ask_packet::<points::$hook>(client, player, &mut shown).map(|_| ())
            }
        }
    };
    (@PacketInput $hook:ident $method:ident PacketVerdict) => {
        hook_methods! { @asks $hook [
            " The packet as the plugin leaves it, or `None` if the plugin drops it."
            " Otherwise like [`packet_inspect`](Self::packet_inspect)."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                packet: &Outgoing,
            ) -> Result<Option<Outgoing>, Failure> {
                let mut shown = Shown { packet: packet.clone(), is_changeable: true };
                let answer = self.ask_packet::<points::$hook>(client, player, &mut shown)?;
                Ok((answer.code != answer::DROP).then_some(shown.packet))
            }
        }
    };
    (@asks $hook:ident [$($more:literal)*] $($method:tt)+) => {
        #[doc = concat!("Calls the hook [`", stringify!($hook), "`](crate::", stringify!($hook), ").")]
        $(#[doc = $more])*
        ///
        /// # Errors
        ///
        /// When the hook fails.
        ///
        /// # Panics
        ///
        /// When the plugin does not list the hook.
        $($method)+
    };
}

infrarust_plugin_abi::hooks! { [hook_methods] }

impl<P: Exported> Drop for TestHost<P> {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        for thread in std::mem::take(&mut *lock(&self.state.threads)) {
            thread.thread().unpark();
            // The plugin has caught the panic of a task.
            let _ = thread.join();
        }
        if let Some(destroy) = P::plugin_table().destroy {
            // SAFETY: no hook runs, since they borrow `self`; the tasks are over.
            unsafe { destroy(self.instance) };
        }
    }
}

/// A packet that a hook is asked about.
struct Shown {
    packet: Outgoing,
    is_changeable: bool,
}

static PACKET: PacketTable = table!(PacketTable {
    get: get_field,
    raw: raw_fields,
    set: set_fields,
    replace: replace_fields,
});

unsafe extern "C" fn add_command(ctx: *mut c_void, name: Str, audience: u32) {
    // SAFETY: the context is the list of the call that runs, the name is good for it.
    let (commands, name) = unsafe { (&mut *ctx.cast::<Vec<CommandSpec>>(), name.text()) };
    let audience = match audience {
        command_audience::EVERYBODY => Audience::Everybody,
        command_audience::PLAYER_COMMANDS => Audience::PlayerCommands,
        _ => Audience::Admins,
    };
    commands.push(CommandSpec::new(name, audience));
}

unsafe extern "C" fn add_interest(ctx: *mut c_void, number: u32) {
    // SAFETY: the context is the interest of the call that runs.
    unsafe { &mut *ctx.cast::<Interest>() }.add(number);
}

unsafe extern "C" fn get_field(packet: *mut c_void, field: u32, sink: *const ValueSink) -> i32 {
    // SAFETY: the context is the packet of the call that runs.
    let shown = unsafe { &*packet.cast::<Shown>() };
    let field = u16::try_from(field).ok().and_then(PacketField::from_number);
    let value = field.and_then(|field| Some((field, shown.packet.value(field)?.clone())));
    let Some((field, value)) = value else {
        return status::OK;
    };
    crossing(&[(field, value)], |value, _| {
        // SAFETY: the sink is valid during the call, and the value as well.
        unsafe {
            if let Some(take) = (*sink).value {
                take((*sink).ctx, value);
            }
        }
    });
    status::OK
}

unsafe extern "C" fn raw_fields(
    _: *mut c_void,
    id: *mut i32,
    fields: *mut *const u8,
    fields_bytes: *mut usize,
) -> i32 {
    // SAFETY: the plugin gives places to write to.
    unsafe {
        *id = -1;
        *fields = std::ptr::null();
        *fields_bytes = 0;
    }
    status::OK
}

unsafe extern "C" fn set_fields(
    packet: *mut c_void,
    values: *const FieldValue,
    len: usize,
    sink: *const Sink,
) -> i32 {
    // SAFETY: the context is the packet of the call that runs.
    let shown = unsafe { &mut *packet.cast::<Shown>() };
    if !shown.is_changeable {
        return status::DENIED;
    }
    let mut given = Vec::new();
    // SAFETY: the values are valid during the call.
    let crossed = unsafe { crossed_values(values, len, |field, value| given.push((field, value))) };
    let wrong = given.iter().find(|(field, value)| !holds(*field, value));
    if crossed.is_none() || wrong.is_some() {
        let name = wrong.map_or("a field", |(field, _)| field.name());
        let text = format!("`{name}` has a value of another type");
        // SAFETY: the sink is valid during the call.
        unsafe {
            if let Some(fail) = (*(*sink).table).fail {
                fail(
                    (*sink).ctx,
                    failure::ERROR,
                    Str::new(&text),
                    u64::MAX,
                    u64::MAX,
                );
            }
        }
        return status::ERR;
    }
    let values = shown.packet.values_mut();
    values.retain(|(field, _)| !given.iter().any(|(new, _)| new == field));
    values.extend(given);
    status::OK
}

const fn holds(field: PacketField, value: &PacketValue) -> bool {
    match value {
        PacketValue::Missing => true,
        PacketValue::Bool(_) => matches!(field.holds(), FieldType::Bool),
        PacketValue::Int(_) => matches!(field.holds(), FieldType::Int),
        PacketValue::Float(_) => matches!(field.holds(), FieldType::Float),
        PacketValue::Str(_) => matches!(field.holds(), FieldType::Str),
        PacketValue::Text(_) => matches!(field.holds(), FieldType::Text),
        PacketValue::Bytes(_) => matches!(field.holds(), FieldType::Bytes),
        PacketValue::Uuid(_) => matches!(field.holds(), FieldType::Uuid),
    }
}

/// Bytes have no meaning here.
unsafe extern "C" fn replace_fields(
    packet: *mut c_void,
    _: *const u8,
    _: usize,
    _: *const Sink,
) -> i32 {
    // SAFETY: the context is the packet of the call that runs.
    match unsafe { &*packet.cast::<Shown>() }.is_changeable {
        true => status::OK,
        false => status::DENIED,
    }
}

fn outcome(collected: Collected, status: i32) -> Result<Answer, Failure> {
    if let Some((code, text, span)) = collected.failure {
        let kind = match code {
            failure::PANIC => FailureKind::Panic,
            failure::CONFIG => FailureKind::Config,
            _ => FailureKind::Error,
        };
        return Err(Failure { kind, text, span });
    }
    collected.result(status).map_err(|error| Failure {
        kind: FailureKind::Error,
        text: error.to_string(),
        span: None,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Calls `poll` on this thread, each time it is woken, until it returns something; `None`
/// when the time is over.
fn block_on<T>(time: Duration, mut poll: impl FnMut(&Waker) -> Option<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let end = Instant::now() + time;
    loop {
        if let Some(output) = poll(&waker) {
            return Some(output);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

// ------------------------------------------------------------------ services

static TIME: TimeTable = table!(TimeTable { sleep: sleep });
static TASK: TaskTable = table!(TaskTable {
    spawn: spawn,
    abort: abort
});
static DATA: DataTable = table!(DataTable { folder: folder });
static PLAYERS: PlayersTable = table!(PlayersTable { count: count });
static METRICS: MetricsTable = table!(MetricsTable {
    register: register,
    record: record
});
static MESSAGE: MessageTable = table!(MessageTable {
    send: send_message,
    title: send_title
});
static TRANSFER: TransferTable = table!(TransferTable { transfer: transfer });
static COOKIE: CookieTable = table!(CookieTable {
    store: store_cookie,
    request: request_cookie
});
static ANSWERED: FutureTable = table!(FutureTable {
    poll: poll_answered,
    drop: drop_answered
});
static SWITCH: SwitchTable = table!(SwitchTable { switch: switch });
static SWITCHED: FutureTable = table!(FutureTable {
    poll: poll_switched,
    drop: drop_switched
});
static INJECT: InjectTable = table!(InjectTable {
    send: inject,
    send_kind: inject_kind
});
static IDENTITY: IdentityTable = table!(IdentityTable { profile: profile });
static SLEEP: FutureTable = table!(FutureTable {
    poll: poll_sleep,
    drop: drop_sleep
});

/// There is no table for the log: in a test, plugin and test share one `tracing`.
unsafe extern "C" fn query(ctx: *const c_void, service: u32, version: u32) -> *const c_void {
    let is_granted = |capability: Capability| {
        service == service::OF_CAPABILITY + capability as u32
            && state(ctx).granted & capability.bit() != 0
    };
    match (service, version) {
        (_, 1) if is_granted(Capability::IdentityVerified) => (&raw const IDENTITY).cast(),
        (_, 1) if is_granted(Capability::PlayerMessage) => (&raw const MESSAGE).cast(),
        (_, 1) if is_granted(Capability::PlayerCookie) => (&raw const COOKIE).cast(),
        (_, 1) if is_granted(Capability::ServerSwitch) => (&raw const SWITCH).cast(),
        (_, 1) if is_granted(Capability::PlayerTransfer) => (&raw const TRANSFER).cast(),
        (_, 1) if is_granted(Capability::PacketInject) => (&raw const INJECT).cast(),
        (service::TIME, 1) => (&raw const TIME).cast(),
        (service::TASK, 1) => (&raw const TASK).cast(),
        (service::DATA, 1) => (&raw const DATA).cast(),
        (service::PLAYERS, 1) => (&raw const PLAYERS).cast(),
        (service::METRICS, 1) => (&raw const METRICS).cast(),
        _ => std::ptr::null(),
    }
}

fn state(ctx: *const c_void) -> &'static State {
    // SAFETY: the context of the table is the leaked state.
    unsafe { &*ctx.cast::<State>() }
}

struct Sleeping {
    end: Instant,
    is_armed: bool,
}

unsafe extern "C" fn sleep(_: *const c_void, millis: u64, future: *mut RawFuture) -> i32 {
    let end = Instant::now() + Duration::from_millis(millis.min(u64::from(u32::MAX)));
    let sleeping = Box::new(Sleeping {
        end,
        is_armed: false,
    });
    // SAFETY: the plugin gives a place to write to.
    unsafe {
        *future = RawFuture {
            data: Box::into_raw(sleeping).cast(),
            table: &raw const SLEEP,
        }
    };
    status::OK
}

unsafe extern "C" fn poll_sleep(data: *mut c_void, waker: *const RawWaker, _: *const Sink) -> i32 {
    // SAFETY: made by `sleep`.
    let sleeping = unsafe { &mut *data.cast::<Sleeping>() };
    let left = sleeping.end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return status::OK;
    }
    if !sleeping.is_armed {
        sleeping.is_armed = true;
        // SAFETY: the plugin lends its waker for the call.
        let waker = unsafe { (*import_waker(&*waker)).clone() };
        thread::spawn(move || {
            thread::sleep(left);
            waker.wake();
        });
    }
    status::PENDING
}

unsafe extern "C" fn drop_sleep(data: *mut c_void) {
    // SAFETY: made by `sleep`, and dropped once.
    drop(unsafe { Box::from_raw(data.cast::<Sleeping>()) });
}

unsafe extern "C" fn spawn(ctx: *const c_void, future: RawFuture, id: *mut u64) -> i32 {
    let state = state(ctx);
    // SAFETY: the plugin gives the future away.
    let Some(mut future) = (unsafe { OwnedFuture::new(future) }) else {
        return status::ERR;
    };
    let number = state.next_task.fetch_add(1, Ordering::Relaxed);
    let aborted = Arc::new(AtomicBool::new(false));
    lock(&state.tasks).insert(number, Arc::clone(&aborted));
    // SAFETY: the plugin gives a place to write to.
    unsafe { *id = number };
    let thread = thread::spawn(move || {
        let is_over = || state.ended.load(Ordering::Acquire) || aborted.load(Ordering::Acquire);
        let done = std::future::poll_fn(|cx: &mut Context<'_>| {
            if is_over() || future.poll(cx.waker(), None) != status::PENDING {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        let mut done = pin!(done);
        // Wakes regularly to check whether it is over.
        const LOOK: Duration = Duration::from_millis(20);
        while block_on(LOOK, |waker| {
            let polled = Future::poll(done.as_mut(), &mut Context::from_waker(waker));
            polled.is_ready().then_some(())
        })
        .is_none()
        {}
    });
    lock(&state.threads).push(thread);
    status::OK
}

unsafe extern "C" fn abort(ctx: *const c_void, id: u64) {
    if let Some(aborted) = lock(&state(ctx).tasks).get(&id) {
        aborted.store(true, Ordering::Release);
    }
}

unsafe extern "C" fn folder(ctx: *const c_void, sink: *const Sink) -> i32 {
    let made = match &state(ctx).folder {
        Some(folder) => std::fs::create_dir_all(folder)
            .map(|()| folder)
            .map_err(|error| error.to_string()),
        None => Err("give the test a data folder with `Setup::data_folder`".to_owned()),
    };
    // SAFETY: the plugin's sink is valid during the call.
    unsafe {
        match made {
            Ok(folder) => Sink::give(sink, answer::PASS, &folder.to_string_lossy()),
            Err(error) => {
                Sink::fail(sink, failure::ERROR, &error, None);
                status::ERR
            }
        }
    }
}

unsafe extern "C" fn count(ctx: *const c_void, server: Str) -> i64 {
    let players = &state(ctx).players;
    // SAFETY: the text is valid during the call.
    let found = match unsafe { server.text() } {
        "" => Some(players.values().sum()),
        server => players.get(server).copied(),
    };
    found
        .and_then(|count: u64| i64::try_from(count).ok())
        .unwrap_or(-1)
}

unsafe extern "C" fn profile(ctx: *const c_void, player: u64, sink: *const ProfileSink) -> i32 {
    let in_game = lock(&state(ctx).in_game);
    let Some(client) = in_game.get(&PlayerId::from_number(player)).cloned() else {
        return status::GONE;
    };
    drop(in_game);
    // SAFETY: the plugin's sink is valid during the call.
    let sink = unsafe { sized(sink) };
    let (Some(uuid), Some(sink)) = (client.uuid.filter(|_| client.is_proved), sink) else {
        return status::DENIED;
    };
    let properties = client.properties.iter();
    let properties = properties.map(|(name, value)| (name.as_str(), value.as_str(), None));
    // SAFETY: the plugin's sink is valid during the call.
    unsafe { sink.give(&client.name, uuid.to_be_bytes(), properties) }
}

/// Keeps what was sent, if the player is in the game.
fn keep(ctx: *const c_void, player: u64, sent: Option<Sent>) -> i32 {
    let (state, player) = (state(ctx), PlayerId::from_number(player));
    let Some(sent) = sent else { return status::ERR };
    if !lock(&state.in_game).contains_key(&player) {
        return status::GONE;
    }
    lock(&state.sent).push((player, sent));
    status::OK
}

unsafe extern "C" fn send_message(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    text: Str,
    _: *const Sink,
) -> i32 {
    // SAFETY: the text is valid during the call.
    let text = Text::from_json(unsafe { text.text() });
    let sent = text.and_then(|text| match kind {
        message::CHAT => Some(Sent::Chat(text)),
        message::ACTION_BAR => Some(Sent::ActionBar(text)),
        message::KICK => Some(Sent::Kick(text)),
        _ => None,
    });
    keep(ctx, player, sent)
}

unsafe extern "C" fn send_title(
    ctx: *const c_void,
    player: u64,
    title: *const TitleInput,
    _: *const Sink,
) -> i32 {
    // SAFETY: title and texts are valid during the call.
    let title = unsafe { Title::of_input(&*title) };
    keep(ctx, player, title.map(Sent::Title))
}

unsafe extern "C" fn transfer(
    ctx: *const c_void,
    player: u64,
    host: Str,
    port: u16,
    _: *const Sink,
) -> i32 {
    // SAFETY: the text is valid during the call.
    let host = unsafe { host.text() }.to_owned();
    keep(ctx, player, Some(Sent::Transfer { host, port }))
}

unsafe extern "C" fn store_cookie(
    ctx: *const c_void,
    player: u64,
    key: Str,
    data: Str,
    _: *const Sink,
) -> i32 {
    // SAFETY: key and bytes are good for the call.
    let (key, data) = unsafe { (key.text().to_owned(), data.bytes().to_vec()) };
    let cookie = ((PlayerId::from_number(player), key.clone()), data.clone());
    let status = keep(ctx, player, Some(Sent::Cookie { key, data }));
    if status == status::OK {
        lock(&state(ctx).cookies).extend([cookie]);
    }
    status
}

unsafe extern "C" fn request_cookie(
    ctx: *const c_void,
    player: u64,
    key: Str,
    future: *mut RawFuture,
    _: *const Sink,
) -> i32 {
    let (state, player) = (state(ctx), PlayerId::from_number(player));
    if !lock(&state.in_game).contains_key(&player) {
        return status::GONE;
    }
    // SAFETY: the key is good for the call.
    let key = unsafe { key.text() }.to_owned();
    let cookie: Option<Vec<u8>> = lock(&state.cookies).get(&(player, key)).cloned();
    // SAFETY: the plugin gives a place to write to.
    unsafe {
        *future = RawFuture {
            data: Box::into_raw(Box::new(cookie)).cast(),
            table: &raw const ANSWERED,
        }
    };
    status::OK
}

unsafe extern "C" fn poll_answered(
    data: *mut c_void,
    _: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    // SAFETY: made by `request_cookie`; the plugin's sink is good for the call.
    unsafe {
        if let (Some(cookie), Some(sink)) = (&*data.cast::<Option<Vec<u8>>>(), sink.as_ref())
            && let Some(answer) = (*sink.table).answer
        {
            let data = Str {
                ptr: cookie.as_ptr(),
                len: cookie.len(),
            };
            answer(sink.ctx, answer::REPLACE, data);
        }
    }
    status::OK
}

unsafe extern "C" fn drop_answered(data: *mut c_void) {
    // SAFETY: made by `request_cookie`, and dropped once.
    drop(unsafe { Box::from_raw(data.cast::<Option<Vec<u8>>>()) });
}

unsafe extern "C" fn switch(
    ctx: *const c_void,
    player: u64,
    server: Str,
    future: *mut RawFuture,
) -> i32 {
    // SAFETY: the text is good for the call.
    let server = unsafe { server.text() }.to_owned();
    let status = keep(ctx, player, Some(Sent::Switch { server }));
    if status == status::OK {
        // SAFETY: the plugin gives a place to write to. The future has no data: its
        // functions do not look at it, and it is not null.
        unsafe {
            *future = RawFuture {
                data: std::ptr::dangling_mut(),
                table: &raw const SWITCHED,
            }
        };
    }
    status
}

unsafe extern "C" fn poll_switched(_: *mut c_void, _: *const RawWaker, _: *const Sink) -> i32 {
    status::OK
}

unsafe extern "C" fn drop_switched(_: *mut c_void) {}

unsafe extern "C" fn inject(
    ctx: *const c_void,
    player: u64,
    to: u32,
    id: i32,
    fields: *const u8,
    fields_bytes: usize,
    _: *const Sink,
) -> i32 {
    // SAFETY: the plugin passes this many bytes, which are valid during the call.
    let fields = unsafe { std::slice::from_raw_parts(fields, fields_bytes) }.to_vec();
    let sent = match to {
        receiver::CLIENT => Some(Sent::ToClient { id, fields }),
        receiver::BACKEND => Some(Sent::ToBackend { id, fields }),
        _ => None,
    };
    keep(ctx, player, sent)
}

unsafe extern "C" fn inject_kind(
    ctx: *const c_void,
    player: u64,
    kind: u32,
    values: *const FieldValue,
    len: usize,
    _: *const Sink,
) -> i32 {
    // SAFETY: the values are valid during the call.
    let packet = unsafe { Outgoing::crossed(kind, values, len) };
    keep(ctx, player, packet.map(Sent::Packet))
}

unsafe extern "C" fn register(ctx: *const c_void, name: Str, kind: u32, id: *mut u64) -> i32 {
    // SAFETY: the text is valid during the call.
    let name = unsafe { name.text() };
    let is_kind = matches!(kind, metric::COUNTER | metric::GAUGE);
    if !metric::is_name(name) || !is_kind {
        return status::ERR;
    }
    let mut metrics = lock(&state(ctx).metrics);
    let found = metrics.iter().position(|metric| metric.0 == name);
    let index = match found {
        Some(index) if metrics[index].1 != kind => return status::ERR,
        Some(index) => index,
        None if metrics.len() == metric::METRICS_MAX => return status::DENIED,
        None => {
            metrics.push((name.to_owned(), kind, 0));
            metrics.len() - 1
        }
    };
    // SAFETY: the plugin gives a place to write to.
    unsafe { *id = index as u64 };
    status::OK
}

unsafe extern "C" fn record(ctx: *const c_void, id: u64, value: u64) {
    let mut metrics = lock(&state(ctx).metrics);
    let Ok(index) = usize::try_from(id) else {
        return;
    };
    if let Some((_, kind, stored)) = metrics.get_mut(index) {
        *stored = if *kind == metric::COUNTER {
            stored.wrapping_add(value)
        } else {
            value
        };
    }
}
