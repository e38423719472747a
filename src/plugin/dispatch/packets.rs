//! The calls of the packet hooks: `packet.inspect` and `packet.modify`.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use infrarust_plugin_abi::serve::FIELDS_BYTES_MAX;
use infrarust_plugin_abi::{
    PacketHook, PacketInput, PacketKind, Point, Str, answer, packet_state, points, receiver,
    size_of_table,
};

use super::HookSet;
use super::attached::{Answered, Attached, HookFailure, bad_answer, busy, overrun, unknown_code};
use super::subject::Refusal;
use crate::plugin::ffi::{self, Shown};
use crate::plugin::generation::Generation;
use crate::plugin::interest::Interest;
use crate::plugin::threads::{CallLimit, Threads, Unanswered, Work};
use crate::protocol::packet::rights::Passing;
use crate::protocol::packet::view::{self, Form};
use crate::protocol::packet::{Direction, State, Version};
use crate::protocol::varint;

/// A player, for the packet hooks.
#[derive(Debug)]
pub struct PacketPlayer {
    /// The player's number, for services.
    pub number: u64,
    /// The player's name.
    pub name: String,
    /// The player's UUID.
    pub uuid: u128,
    /// Whether the proxy has proved both.
    pub is_proved: bool,
    /// The id of the server.
    pub server: String,
    /// The version of the client.
    pub version: Version,
    /// Whether the backend has got the key with which the player signs chat, in the login
    /// of 1.19 to 1.19.2.
    pub knows_chat_key: bool,
}

/// What the proxy does with a packet after the hooks.
#[derive(Debug, PartialEq, Eq)]
pub enum PacketFate {
    /// It passes unchanged.
    Pass,
    /// It passes as this packet.
    Changed(Vec<u8>),
    /// It is dropped, and replaced by this packet, if there is one.
    Dropped(Option<Vec<u8>>),
}

/// The ids of packets, as bits.
pub(crate) type PacketIds = [u64; 4];

/// Receives the decisions of the plugins about packets.
pub trait PacketAsker: Send {
    /// Whether the decisions are no longer needed.
    fn is_gone(&self) -> bool;

    /// Takes the decisions about the first packets, at least about one unless they are no
    /// longer needed. If a plugin ends the session, the last of these packets is dropped.
    /// Returns a waker if somebody has to be woken for the decisions.
    fn decided(self: Box<Self>, fates: Vec<PacketFate>, refusal: Option<Refusal>) -> Option<Waker>;
}

/// How long plugins handle the packets of one group before the decisions so far are passed
/// on: a fifth of a tick of the game. One call may take longer.
const RUN_TIME_MAX: Duration = Duration::from_millis(10);

/// The most bytes of a packet that a plugin has made longer, with its id.
const PACKET_BYTES_MAX: usize = FIELDS_BYTES_MAX + varint::VARINT_BYTES_MAX;

/// The plugins of a server that have a packet hook, in their order.
#[derive(Debug, Default)]
pub struct PacketHooks(Box<[PacketPlugin]>);

/// A plugin at one of the two hooks.
#[derive(Debug)]
enum PacketPlugin {
    Inspect(Attached<points::PacketInspect>),
    Modify(Attached<points::PacketModify>),
}

/// A packet for the hooks.
#[derive(Debug)]
pub struct AskedPacket {
    player: Arc<PacketPlayer>,
    state: State,
    direction: Direction,
    /// The id and the fields.
    packet: Vec<u8>,
    form: Option<Form>,
}

impl AskedPacket {
    /// A packet of this player, which is its id and its fields.
    #[must_use]
    pub fn new(
        player: &Arc<PacketPlayer>,
        state: State,
        direction: Direction,
        packet: Vec<u8>,
    ) -> Self {
        let passing = Passing::of(player.version, state, direction, &packet);
        Self {
            player: Arc::clone(player),
            state,
            direction,
            form: passing.view.map(|view| view.form()),
            packet,
        }
    }

    fn passing(&self) -> Passing<'_> {
        Passing::of_form(
            self.player.version,
            self.state,
            self.direction,
            &self.packet,
            self.form,
        )
        .with_chat_key(self.player.knows_chat_key)
    }

    fn kind(&self) -> Option<PacketKind> {
        self.form.map(Form::kind)
    }

    fn input(&self, grants: u64) -> PacketInput {
        let player = &self.player;
        PacketInput {
            size: size_of_table::<PacketInput>(),
            protocol: player.version.protocol(),
            grants,
            player: player.number,
            uuid: player.uuid.to_be_bytes(),
            proved: player.is_proved.into(),
            to: match self.direction {
                Direction::Clientbound => receiver::CLIENT,
                Direction::Serverbound => receiver::BACKEND,
            },
            state: match self.state {
                State::Configuration => packet_state::CONFIGURATION,
                State::Play => packet_state::PLAY,
                // Plugins do not get packets of this state.
                State::Login => 0,
            },
            kind: self.kind().map_or(0, |kind| kind.number().into()),
            name: Str::new(&player.name),
            server: Str::new(&player.server),
            packet: std::ptr::null_mut(),
            table: std::ptr::null(),
        }
    }
}

/// What a plugin has done with a packet.
#[derive(Debug)]
enum Given {
    Passed,
    Changed(Vec<u8>),
    Dropped,
}

impl<H> Attached<H>
where
    H: Point<Input = PacketInput, Table = PacketHook<PacketInput>>,
{
    /// Calls the hook on this thread, as long as it takes. Returns the answer, and the changed
    /// packet, if it was changed.
    fn ask_packet(
        &self,
        asked: &AskedPacket,
        is_changeable: bool,
    ) -> Result<(Option<ffi::Answer>, Option<Vec<u8>>), HookFailure> {
        let instance = self.instance()?;
        let _mark = self.generation.plugin_id.hook(H::HOOK.capability());
        let mut shown = Shown::new(asked.passing(), is_changeable);
        let input = asked.input(self.grants);
        let answer = ffi::call_packet(instance, self.hook, input, &mut shown)?;
        Ok((answer, shown.changed))
    }
}

impl PacketPlugin {
    fn generation(&self) -> &Generation {
        match self {
            Self::Inspect(plugin) => &plugin.generation,
            Self::Modify(plugin) => &plugin.generation,
        }
    }

    const fn order(&self) -> usize {
        match self {
            Self::Inspect(plugin) => plugin.order,
            Self::Modify(plugin) => plugin.order,
        }
    }

    fn interest(&self) -> &Interest {
        let interests = &self.generation().interests;
        match self {
            Self::Inspect(_) => &interests.inspect,
            Self::Modify(_) => &interests.modify,
        }
    }

    fn wants(&self, asked: &AskedPacket) -> bool {
        self.interest().has(asked.direction, asked.kind())
    }

    fn ask(&self, asked: &AskedPacket) -> Result<Given, HookFailure> {
        match self {
            Self::Inspect(plugin) => {
                let given = plugin.ask_packet(asked, false);
                inspected(given.map(|(answer, _)| answer)).map(|()| Given::Passed)
            }
            Self::Modify(plugin) => {
                let (answer, changed) = plugin.ask_packet(asked, true)?;
                match (is_dropped(answer.as_ref(), asked)?, changed) {
                    (true, _) => Ok(Given::Dropped),
                    (false, Some(packet)) => {
                        self.check_size(asked, &packet)?;
                        Ok(Given::Changed(packet))
                    }
                    (false, None) => Ok(Given::Passed),
                }
            }
        }
    }

    /// Checks that a changed packet has not become too long, and that the plugin does not
    /// add more bytes in a second than it may send.
    fn check_size(&self, asked: &AskedPacket, packet: &[u8]) -> Result<(), HookFailure> {
        let added = packet.len().saturating_sub(asked.packet.len());
        if added == 0 {
            return Ok(());
        }
        if packet.len() > PACKET_BYTES_MAX {
            let text = format!("it made a packet longer than {FIELDS_BYTES_MAX} bytes");
            return Err(bad_answer(text));
        }
        match self.generation().services.history.budget.take_bytes(added) {
            true => Ok(()),
            false => Err(bad_answer(
                "it adds too many bytes to packets in a second".to_owned(),
            )),
        }
    }

    /// The effect of an answer or a failure.
    fn apply_failure_policy(&self, given: Result<Given, HookFailure>) -> Result<Given, Refusal> {
        let answer = match self {
            Self::Inspect(plugin) => plugin.apply_failure_policy(given),
            Self::Modify(plugin) => plugin.apply_failure_policy(given),
        };
        answer.map(|given| given.unwrap_or(Given::Passed))
    }
}

impl PacketHooks {
    pub(super) fn new(
        inspect: &[Attached<points::PacketInspect>],
        modify: &[Attached<points::PacketModify>],
    ) -> Self {
        let inspect = inspect.iter().cloned().map(PacketPlugin::Inspect);
        let modify = modify.iter().cloned().map(PacketPlugin::Modify);
        let mut plugins: Vec<_> = inspect.chain(modify).collect();
        // Stable: a plugin inspects before it changes.
        plugins.sort_by_key(PacketPlugin::order);
        Self(plugins.into())
    }

    /// Calls the plugins on this thread, and waits as long as they take: for `infrarust
    /// plugin verify`, which reports the time.
    ///
    /// # Errors
    ///
    /// When a plugin has failed and its failure ends the session.
    pub fn ask_here(&self, asked: &AskedPacket) -> Result<PacketFate, Refusal> {
        let mut changed: Option<AskedPacket> = None;
        for plugin in &self.0 {
            let asked = changed.as_ref().unwrap_or(asked);
            if !plugin.wants(asked) {
                continue;
            }
            match plugin.apply_failure_policy(plugin.ask(asked))? {
                Given::Passed => {}
                Given::Changed(packet) => {
                    let (state, direction) = (asked.state, asked.direction);
                    changed = Some(AskedPacket::new(&asked.player, state, direction, packet));
                }
                Given::Dropped => return Ok(PacketFate::Dropped(asked.passing().instead())),
            }
        }
        Ok(match changed {
            None => PacketFate::Pass,
            Some(asked) => PacketFate::Changed(asked.packet),
        })
    }

    /// Asks the plugins about consecutive packets, on threads that may block.
    /// Each plugin sees the changes of those before it. Does not wait.
    /// [`begin`](Self::begin) must follow, once for all packets of all sessions.
    pub fn ask(
        self: &Arc<Self>,
        player: &Arc<PacketPlayer>,
        state: State,
        direction: Direction,
        packets: Vec<Vec<u8>>,
        asker: Box<dyn PacketAsker>,
    ) {
        let mut run = Box::new(PacketRun {
            hooks: Arc::clone(self),
            player: Arc::clone(player),
            state,
            direction,
            fates: Vec::with_capacity(packets.len()),
            packets: packets.into_iter(),
            current: None,
            began: None,
            refusal: None,
            asker,
        });
        run.find_next();
        match run.current {
            Some(_) => THREADS.put(run),
            // No plugin has named the kind of any of these packets.
            None => run.end().into_iter().for_each(Waker::wake),
        }
    }

    /// Wakes a thread for the packets that plugins are to be asked about.
    pub fn begin() {
        THREADS.begin();
    }
}

static THREADS: Threads<PacketRun> = Threads::new();

/// Packets of one direction of a session that pass through the plugins.
struct PacketRun {
    hooks: Arc<PacketHooks>,
    player: Arc<PacketPlayer>,
    state: State,
    direction: Direction,
    /// Those after the current one.
    packets: std::vec::IntoIter<Vec<u8>>,
    /// The packet for the next call; none after the last one.
    current: Option<Current>,
    /// The decisions about the packets before it.
    fates: Vec<PacketFate>,
    /// When the first call began.
    began: Option<Instant>,
    refusal: Option<Refusal>,
    asker: Box<dyn PacketAsker>,
}

struct Current {
    asked: Arc<AskedPacket>,
    /// The index of the plugin that is asked next.
    plugin: usize,
    is_changed: bool,
}

/// A call of a plugin about a packet.
struct PacketCall {
    hooks: Arc<PacketHooks>,
    plugin: usize,
    asked: Arc<AskedPacket>,
}

impl PacketRun {
    fn asked(&self, packet: Vec<u8>) -> Arc<AskedPacket> {
        let (state, direction) = (self.state, self.direction);
        Arc::new(AskedPacket::new(&self.player, state, direction, packet))
    }

    /// Finds the next plugin for the current packet, or for one of those after it.
    fn find_next(&mut self) {
        loop {
            let Some(current) = &mut self.current else {
                let is_late = |began: Instant| began.elapsed() > RUN_TIME_MAX;
                if self.refusal.is_some() || self.began.is_some_and(is_late) {
                    return;
                }
                let Some(packet) = self.packets.next() else {
                    return;
                };
                self.current = Some(Current {
                    asked: self.asked(packet),
                    plugin: 0,
                    is_changed: false,
                });
                continue;
            };
            while let Some(plugin) = self.hooks.0.get(current.plugin) {
                if plugin.wants(&current.asked) {
                    return;
                }
                current.plugin += 1;
            }
            let fate = match self.current.take() {
                Some(Current {
                    asked,
                    is_changed: true,
                    ..
                }) => PacketFate::Changed(match Arc::try_unwrap(asked) {
                    Ok(asked) => asked.packet,
                    Err(asked) => asked.packet.clone(),
                }),
                _ => PacketFate::Pass,
            };
            self.fates.push(fate);
        }
    }
}

impl Work for PacketRun {
    type Call = PacketCall;
    type Given = Result<Given, HookFailure>;

    fn limits(&self) -> Option<(&Arc<CallLimit>, Duration)> {
        let current = self.current.as_ref().filter(|_| !self.asker.is_gone())?;
        let generation = self.hooks.0.get(current.plugin)?.generation();
        Some((&generation.packet_calls, generation.deadline))
    }

    fn call(&mut self) -> Option<PacketCall> {
        let current = self.current.as_ref()?;
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
        Some(PacketCall {
            hooks: Arc::clone(&self.hooks),
            plugin: current.plugin,
            asked: Arc::clone(&current.asked),
        })
    }

    fn run(call: PacketCall) -> Self::Given {
        let plugin = call.hooks.0.get(call.plugin);
        plugin.map_or(Ok(Given::Passed), |plugin| plugin.ask(&call.asked))
    }

    fn take(&mut self, given: Result<Self::Given, Unanswered>) {
        let Some(current) = &mut self.current else {
            return;
        };
        let Some(plugin) = self.hooks.0.get(current.plugin) else {
            return;
        };
        let given = given.unwrap_or_else(|why| {
            Err(match why {
                Unanswered::Late => overrun(plugin.generation().deadline),
                Unanswered::Busy => busy(),
            })
        });
        match plugin.apply_failure_policy(given) {
            Ok(Given::Passed) => current.plugin += 1,
            Ok(Given::Changed(packet)) => {
                current.plugin += 1;
                current.is_changed = true;
                let (state, direction) = (self.state, self.direction);
                let asked = AskedPacket::new(&self.player, state, direction, packet);
                current.asked = Arc::new(asked);
            }
            Ok(Given::Dropped) => {
                let instead = current.asked.passing().instead();
                self.fates.push(PacketFate::Dropped(instead));
                self.current = None;
            }
            Err(refusal) => {
                self.fates.push(PacketFate::Dropped(None));
                self.refusal = Some(refusal);
                self.current = None;
            }
        }
        self.find_next();
    }

    fn end(self: Box<Self>) -> Option<Waker> {
        let Self {
            fates,
            refusal,
            asker,
            ..
        } = *self;
        asker.decided(fates, refusal)
    }
}

/// The answer of `packet.inspect` changes nothing.
fn inspected(answer: Answered) -> Result<(), HookFailure> {
    match answer? {
        None => Ok(()),
        Some(answer) if answer.code == answer::PASS => Ok(()),
        Some(answer) => Err(unknown_code(answer.code)),
    }
}

/// Whether `packet.modify` drops the packet. Some packets must not be dropped.
fn is_dropped(answer: Option<&ffi::Answer>, asked: &AskedPacket) -> Result<bool, HookFailure> {
    match answer.map(|answer| answer.code) {
        None | Some(answer::PASS) => Ok(false),
        Some(answer::DROP) => match asked.passing().may_drop() {
            Ok(()) => Ok(true),
            Err(why) => {
                let text = format!("it dropped a packet that has to pass: {why}");
                Err(bad_answer(text))
            }
        },
        Some(code) => Err(unknown_code(code)),
    }
}

impl HookSet {
    /// Whether a plugin wants packets.
    pub(crate) fn sees_packets(&self) -> bool {
        !self.packet_hooks.0.is_empty()
    }

    /// Whether a plugin may change or drop what players write.
    pub(crate) fn modifies_chat(&self) -> bool {
        let mut plugins = self.packet_modify.iter();
        plugins.any(|plugin| plugin.generation.interests.modify.has_chat())
    }

    /// The ids of the packets that plugins may want. For some ids, only the fields show
    /// whether a plugin wants the packet.
    pub(crate) fn packet_ids(
        &self,
        version: Version,
        state: State,
        direction: Direction,
    ) -> PacketIds {
        let mut ids = [0; 4];
        for interest in self.interests() {
            if interest.has_all(direction) {
                return [u64::MAX; 4];
            }
            let is_clientbound = direction == Direction::Clientbound;
            let kinds = interest.kinds.iter();
            for kind in kinds.filter(|kind| kind.is_clientbound() == is_clientbound) {
                for id in view::packet_ids(*kind, version, state) {
                    ids[usize::from(id / 64)] |= 1 << (id % 64);
                }
            }
        }
        ids
    }

    fn interests(&self) -> impl Iterator<Item = &Interest> {
        self.packet_hooks.0.iter().map(PacketPlugin::interest)
    }

    /// The plugins that are asked about packets.
    #[must_use]
    pub const fn packet_hooks(&self) -> &Arc<PacketHooks> {
        &self.packet_hooks
    }
}
