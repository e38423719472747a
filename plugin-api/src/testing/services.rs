//! The services of a host for tests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use infrarust_plugin_abi::serve::{
    HostFuture, HostServices, MetricKind, NoMetric, PlayerText, ProfileReceiver, Receiver, Refusal,
    host_table,
};
use infrarust_plugin_abi::{
    FieldData, HostTable, LogTable, OwnedFuture, PacketField, PacketKind, metric, status,
};

use super::client::Client;
use super::packets::read_values;
use super::wait::{block_on, lock};
use crate::{Outgoing, PlayerId, Text, Title};

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

/// The services of one host. Leaked, since a plugin may keep pointers to its tables.
#[derive(Debug, Default)]
pub(super) struct Services {
    table: OnceLock<HostTable>,
    /// What the plugin may do, as bits.
    pub(super) granted: u64,
    folder: Option<PathBuf>,
    players: HashMap<String, u64>,
    in_game: Mutex<HashMap<PlayerId, Client>>,
    sent: Mutex<Vec<(PlayerId, Sent)>>,
    cookies: Mutex<HashMap<(PlayerId, String), Vec<u8>>>,
    metrics: Mutex<Vec<Metric>>,
    tasks: Mutex<HashMap<u64, Arc<AtomicBool>>>,
    next_task: AtomicU64,
    ended: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: MetricKind,
    value: u64,
}

impl Services {
    pub(super) fn leak(
        granted: u64,
        folder: Option<PathBuf>,
        players: HashMap<String, u64>,
    ) -> &'static Self {
        Box::leak(Box::new(Self {
            granted,
            folder,
            players,
            ..Self::default()
        }))
    }

    /// The table through which a plugin reaches them.
    pub(super) fn table(&'static self) -> &'static HostTable {
        self.table.get_or_init(|| host_table(self))
    }

    /// Adds the player to the game: from now on services reach the player.
    pub(super) fn join(&self, player: PlayerId, client: &Client) {
        lock(&self.in_game).insert(player, client.clone());
    }

    /// Like [`join`](Self::join), for a player who may have joined before.
    pub(super) fn join_if_absent(&self, player: PlayerId, client: &Client) {
        let mut in_game = lock(&self.in_game);
        in_game.entry(player).or_insert_with(|| client.clone());
    }

    /// Removes the player from the game: from now on services do not reach the player.
    pub(super) fn leave(&self, player: PlayerId) {
        lock(&self.in_game).remove(&player);
    }

    fn check_in_game(&self, player: PlayerId) -> Result<(), Refusal> {
        match lock(&self.in_game).contains_key(&player) {
            true => Ok(()),
            false => Err(Refusal::Gone),
        }
    }

    /// Keeps what was sent, if the player is in the game.
    fn keep(&self, player: u64, sent: Sent) -> Result<(), Refusal> {
        let player = PlayerId::from_number(player);
        self.check_in_game(player)?;
        lock(&self.sent).push((player, sent));
        Ok(())
    }

    /// What was sent to this player or the backend since the last call.
    pub(super) fn take_sent(&self, player: PlayerId) -> Vec<Sent> {
        let mut all = lock(&self.sent);
        let (taken, others): (Vec<_>, _) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|(to, _)| *to == player);
        *all = others;
        taken.into_iter().map(|(_, sent)| sent).collect()
    }

    /// The value of a metric, if the plugin has a metric of this name and kind.
    pub(super) fn metric(&self, name: &str, kind: MetricKind) -> Option<u64> {
        let metrics = lock(&self.metrics);
        let found = metrics.iter().find(|metric| metric.name == name);
        found
            .filter(|metric| metric.kind == kind)
            .map(|metric| metric.value)
    }

    /// Ends the tasks of the plugin, and waits for them.
    pub(super) fn end_tasks(&self) {
        self.ended.store(true, Ordering::Release);
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            thread.thread().unpark();
            // The plugin has caught the panic of a task.
            let _ = thread.join();
        }
    }
}

impl HostServices for Services {
    /// In a test, plugin and test share one `tracing`.
    const LOG: Option<&'static LogTable> = None;

    fn service_bits(&self) -> u64 {
        self.granted
    }

    fn sleep(&self, time: Duration) -> HostFuture {
        let mut sleep = Sleep {
            end: Instant::now() + time,
            is_armed: false,
        };
        HostFuture::new(async move {
            std::future::poll_fn(|cx| sleep.poll(cx)).await;
            Ok(None)
        })
    }

    fn may_spawn(&self) -> bool {
        true
    }

    fn spawn(&'static self, mut task: OwnedFuture) -> u64 {
        let number = self.next_task.fetch_add(1, Ordering::Relaxed);
        let aborted = Arc::new(AtomicBool::new(false));
        lock(&self.tasks).insert(number, Arc::clone(&aborted));
        let thread = thread::spawn(move || {
            // The task wakes at this interval to check whether the plugin has ended or the
            // task was aborted.
            const LOOK: Duration = Duration::from_millis(20);
            let is_over = || self.ended.load(Ordering::Acquire) || aborted.load(Ordering::Acquire);
            let mut poll = |waker: &Waker| {
                let is_done = is_over() || task.poll(waker, None) != status::PENDING;
                is_done.then_some(())
            };
            while block_on(LOOK, &mut poll).is_none() {}
        });
        lock(&self.threads).push(thread);
        number
    }

    fn abort(&self, task: u64) {
        if let Some(aborted) = lock(&self.tasks).get(&task) {
            aborted.store(true, Ordering::Release);
        }
    }

    fn folder(&self) -> Result<&Path, String> {
        let folder = self.folder.as_deref();
        folder.ok_or_else(|| "give the test a data folder with `Setup::data_folder`".to_owned())
    }

    fn players(&self, server: Option<&str>) -> Option<u64> {
        match server {
            None => Some(self.players.values().sum()),
            Some(server) => self.players.get(server).copied(),
        }
    }

    fn register(&self, name: &str, kind: MetricKind) -> Result<u64, NoMetric> {
        let mut metrics = lock(&self.metrics);
        let found = metrics.iter().position(|metric| metric.name == name);
        let index = match found {
            Some(index) if metrics[index].kind != kind => return Err(NoMetric::OtherKind),
            Some(index) => index,
            None if metrics.len() == metric::METRICS_MAX => return Err(NoMetric::TooMany),
            None => {
                metrics.push(Metric {
                    name: name.to_owned(),
                    kind,
                    value: 0,
                });
                metrics.len() - 1
            }
        };
        Ok(index as u64)
    }

    fn record(&self, metric: u64, value: u64) {
        let mut metrics = lock(&self.metrics);
        let index = usize::try_from(metric).ok();
        if let Some(metric) = index.and_then(|index| metrics.get_mut(index)) {
            metric.value = match metric.kind {
                MetricKind::Counter => metric.value.wrapping_add(value),
                MetricKind::Gauge => value,
            };
        }
    }

    fn profile(&self, player: u64, to: &ProfileReceiver<'_>) -> Result<(), Refusal> {
        let player = PlayerId::from_number(player);
        let client = lock(&self.in_game).get(&player).cloned();
        let client = client.ok_or(Refusal::Gone)?;
        let uuid = client.uuid.filter(|_| client.is_proved);
        let uuid = uuid.ok_or(Refusal::NotGranted)?;
        let properties = client.properties.iter();
        let properties = properties.map(|(name, value)| (name.as_str(), value.as_str(), None));
        to.give(&client.name, uuid.to_be_bytes(), properties);
        Ok(())
    }

    fn show(&self, player: u64, text: &PlayerText<'_>) -> Result<(), Refusal> {
        let read = |text: &str| {
            let text = Text::from_json(text);
            text.ok_or_else(|| Refusal::Because("it is not a text component".to_owned()))
        };
        let sent = match *text {
            PlayerText::Chat(text) => Sent::Chat(read(text)?),
            PlayerText::ActionBar(text) => Sent::ActionBar(read(text)?),
            PlayerText::Title {
                title,
                subtitle,
                ticks,
            } => Sent::Title(Title::of_parts(read(title)?, read(subtitle)?, ticks)),
            PlayerText::Kick(text) => Sent::Kick(read(text)?),
        };
        self.keep(player, sent)
    }

    fn transfer(&self, player: u64, host: &str, port: u16) -> Result<(), Refusal> {
        let host = host.to_owned();
        self.keep(player, Sent::Transfer { host, port })
    }

    fn store_cookie(&self, player: u64, key: &str, data: &[u8]) -> Result<(), Refusal> {
        let (key, data) = (key.to_owned(), data.to_vec());
        let cookie = ((PlayerId::from_number(player), key.clone()), data.clone());
        self.keep(player, Sent::Cookie { key, data })?;
        lock(&self.cookies).extend([cookie]);
        Ok(())
    }

    fn request_cookie(&self, player: u64, key: &str) -> Result<HostFuture, Refusal> {
        let player = PlayerId::from_number(player);
        self.check_in_game(player)?;
        let cookie = lock(&self.cookies).get(&(player, key.to_owned())).cloned();
        Ok(HostFuture::new(std::future::ready(Ok(cookie))))
    }

    fn switch(&self, player: u64, server: &str) -> Result<HostFuture, Refusal> {
        let server = server.to_owned();
        self.keep(player, Sent::Switch { server })?;
        Ok(HostFuture::new(std::future::ready(Ok(None))))
    }

    fn inject(&self, player: u64, to: Receiver, id: i32, fields: &[u8]) -> Result<(), Refusal> {
        let fields = fields.to_vec();
        let sent = match to {
            Receiver::Client => Sent::ToClient { id, fields },
            Receiver::Backend => Sent::ToBackend { id, fields },
        };
        self.keep(player, sent)
    }

    fn inject_kind(
        &self,
        player: u64,
        kind: PacketKind,
        values: &[(PacketField, FieldData<'_>)],
    ) -> Result<(), Refusal> {
        let mut packet = Outgoing::new(kind);
        *packet.values_mut() = read_values(values).map_err(Refusal::Because)?;
        self.keep(player, Sent::Packet(packet))
    }
}

/// Waits on a thread of its own: there is no runtime in a test.
struct Sleep {
    end: Instant,
    is_armed: bool,
}

impl Sleep {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(());
        }
        if !self.is_armed {
            self.is_armed = true;
            let waker = cx.waker().clone();
            thread::spawn(move || {
                thread::sleep(left);
                waker.wake();
            });
        }
        Poll::Pending
    }
}
