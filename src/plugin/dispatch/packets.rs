//! The calls of the packet hooks: `packet.inspect` and `packet.modify`.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::FutureExt as _;
use infrarust_plugin_abi::{
    PacketHook, PacketInput, PacketKind, Point, Str, answer, packet_state, receiver, size_of_table,
};
use tokio::sync::oneshot;

use super::HookSet;
use super::attached::{Answered, Attached, HookFailure, bad_answer, busy, overrun, unknown_code};
use super::subject::Refusal;
use crate::plugin::ffi::{self, Shown};
use crate::plugin::interest::Interest;
use crate::plugin::threads::{self, NoThread};
use crate::protocol::packet::{Direction, State, Version, view};

/// The player whose packets plugins get.
#[derive(Debug)]
pub struct PacketPlayer {
    /// His number, for services.
    pub number: u64,
    /// His name.
    pub name: String,
    /// His UUID.
    pub uuid: u128,
    /// Whether the proxy has proved both.
    pub is_proved: bool,
    /// The id of the server.
    pub server: String,
    /// The version of his client.
    pub version: Version,
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

/// A packet for the hooks.
struct Asked {
    player: Arc<PacketPlayer>,
    state: State,
    direction: Direction,
    /// The id and the fields.
    packet: Vec<u8>,
}

impl Asked {
    fn shown(&self, is_changeable: bool) -> Shown<'_> {
        Shown {
            version: self.player.version,
            state: self.state,
            direction: self.direction,
            packet: Cow::Borrowed(&self.packet),
            is_changeable,
        }
    }

    fn kind(&self) -> Option<PacketKind> {
        self.shown(false).passing().view().map(|view| view.kind())
    }

    fn input(&self, grants: u64, kind: Option<PacketKind>) -> PacketInput {
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
                // Not shown; no plugin knows the number.
                State::Login => 0,
            },
            kind: kind.map_or(0, |kind| kind.number().into()),
            name: Str::new(&player.name),
            server: Str::new(&player.server),
            packet: std::ptr::null_mut(),
            table: std::ptr::null(),
        }
    }
}

/// Where a plugin is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    This,
    /// One that may block.
    Other,
}

/// The result of a call: the answer, and the changed packet, if it was changed.
type Given = Result<(Option<ffi::Answer>, Option<Vec<u8>>), HookFailure>;

impl<H> Attached<H>
where
    H: Point<Input = PacketInput, Table = PacketHook<PacketInput>>,
{
    /// Asks on a thread that may block, until the deadline; or on this one, as long as
    /// it takes.
    async fn ask_packet(&self, asked: &Arc<Asked>, is_changeable: bool, thread: Thread) -> Given {
        self.instance()?;
        if thread == Thread::This {
            return self.call_packet(asked, is_changeable);
        }
        let calls = Arc::clone(&self.generation.packet_calls);
        let permit = calls.try_acquire_owned().map_err(|_| busy())?;
        let (plugin, asked) = (self.clone(), Arc::clone(asked));
        let (sender, given) = oneshot::channel();
        let call = move || {
            let given = plugin.call_packet(&asked, is_changeable);
            // The plugin may end with this.
            drop((plugin, permit));
            // After the deadline the receiver is gone.
            let _ = sender.send(given);
        };
        threads::run(call).map_err(|NoThread| busy())?;
        let deadline = self.generation.deadline;
        match tokio::time::timeout(deadline, given).await {
            Ok(Ok(given)) => given,
            Ok(Err(_)) => Err(bad_answer("its thread ended".to_owned())),
            Err(_) => Err(overrun(deadline)),
        }
    }

    fn call_packet(&self, asked: &Asked, is_changeable: bool) -> Given {
        let instance = self.instance()?;
        let _mark = self.generation.plugin_id.hook(H::HOOK.capability());
        let mut shown = asked.shown(is_changeable);
        let kind = shown.passing().view().map(|view| view.kind());
        let input = asked.input(self.grants, kind);
        let answer = ffi::call_packet(instance, self.hook, input, &mut shown)?;
        let changed = match shown.packet {
            Cow::Owned(packet) => Some(packet),
            Cow::Borrowed(_) => None,
        };
        Ok((answer, changed))
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
fn is_dropped(answer: Option<&ffi::Answer>, asked: &Asked) -> Result<bool, HookFailure> {
    match answer.map(|answer| answer.code) {
        None | Some(answer::PASS) => Ok(false),
        Some(answer::DROP) => match asked.shown(true).passing().may_drop() {
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
        !self.packet_inspect.is_empty() || !self.packet_modify.is_empty()
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
        let inspect = self.packet_inspect.iter();
        let inspect = inspect.map(|plugin| &plugin.generation.interests.inspect);
        let modify = self.packet_modify.iter();
        inspect.chain(modify.map(|plugin| &plugin.generation.interests.modify))
    }

    /// Calls `packet.inspect` and `packet.modify` for a packet, which is its id and its
    /// fields. The plugins run one after another, and each sees the changes of those
    /// before it. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// When a plugin has failed and its failure ends the session.
    pub async fn packet(
        &self,
        player: &Arc<PacketPlayer>,
        state: State,
        direction: Direction,
        packet: Vec<u8>,
    ) -> Result<PacketFate, Refusal> {
        self.ask_packet(player, state, direction, packet, Thread::Other)
            .await
    }

    /// The same on this thread, which waits as long as the plugins take: for
    /// `infrarust plugin verify`, which reports how long that is.
    ///
    /// # Errors
    ///
    /// As [`packet`](Self::packet).
    pub fn packet_here(
        &self,
        player: &Arc<PacketPlayer>,
        state: State,
        direction: Direction,
        packet: Vec<u8>,
    ) -> Result<PacketFate, Refusal> {
        let asked = self.ask_packet(player, state, direction, packet, Thread::This);
        // Nothing in it waits.
        asked.now_or_never().unwrap_or(Ok(PacketFate::Pass))
    }

    async fn ask_packet(
        &self,
        player: &Arc<PacketPlayer>,
        state: State,
        direction: Direction,
        packet: Vec<u8>,
        thread: Thread,
    ) -> Result<PacketFate, Refusal> {
        let mut asked = Arc::new(Asked {
            player: Arc::clone(player),
            state,
            direction,
            packet,
        });
        let mut is_changed = false;
        let mut inspect = self.packet_inspect.iter().peekable();
        let mut modify = self.packet_modify.iter().peekable();
        loop {
            let kind = asked.kind();
            let order = modify.peek().map_or(usize::MAX, |plugin| plugin.order);
            if let Some(plugin) = inspect.next_if(|plugin| plugin.order <= order) {
                if plugin.generation.interests.inspect.has(direction, kind) {
                    let given = plugin.ask_packet(&asked, false, thread).await;
                    let answer = inspected(given.map(|(answer, _)| answer));
                    plugin.settle(answer)?;
                }
                continue;
            }
            let Some(plugin) = modify.next() else {
                break;
            };
            if !plugin.generation.interests.modify.has(direction, kind) {
                continue;
            }
            let given = plugin.ask_packet(&asked, true, thread).await;
            let given = given.and_then(|(answer, changed)| {
                is_dropped(answer.as_ref(), &asked).map(|is_dropped| (is_dropped, changed))
            });
            match plugin.settle(given)? {
                None | Some((false, None)) => {}
                Some((true, _)) => {
                    return Ok(PacketFate::Dropped(asked.shown(true).passing().instead()));
                }
                Some((false, Some(packet))) => {
                    is_changed = true;
                    asked = Arc::new(Asked {
                        player: Arc::clone(player),
                        state,
                        direction,
                        packet,
                    });
                }
            }
        }
        Ok(match is_changed {
            false => PacketFate::Pass,
            true => PacketFate::Changed(asked.packet.clone()),
        })
    }
}
