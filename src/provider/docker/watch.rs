//! Follows the containers of an engine.
//!
//! It has three goals: a route follows its container at once, it never leads to another
//! container, and it does not change when only the engine fails. So events only name the
//! container to inspect, and the result of the inspection counts, since the engine waits
//! for the container's lock before it answers. The end of a container in an event counts at
//! once: its address may belong to another container a moment later, and lists may still
//! show the first one as running. While the engine is unreachable, the known containers
//! stay.
//!
//! Inspections run in parallel. One that began before the last event of its container does
//! not count, and that event has caused another one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch as channel;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::answer::{Event, Kind, Listed};
use super::client::{Client, Events};
use super::error::EngineError;
use crate::config::containers::{Container, State};
use crate::config::model::DockerConfig;
use crate::provider::Supply;

/// The most inspections at a time: enough that ten thousand containers take seconds, and
/// few enough that the engine has time for other clients.
const LOOKS_MAX: usize = 16;
/// How long a change may wait for other inspections, so that a hundred containers that
/// start together cause only a few changes.
const GATHER: Duration = Duration::from_millis(100);
/// The least time between two lists, even if many events cannot be parsed.
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait before an unreachable engine is asked again. Containers that start with
/// it cannot be reached before. A request costs one connection.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// The same for an engine that is read and then lost again and again: each time two lines
/// are logged, and all containers are inspected.
const FLAPS_MAX: Duration = Duration::from_secs(60);
/// If an engine was connected this long, it is asked again at once after a loss.
const STEADY: Duration = Duration::from_secs(10);

/// Watches one engine.
pub(super) struct Watch {
    client: Client,
    config: DockerConfig,
    supply: channel::Sender<Supply>,
    known: HashMap<String, Cached>,
    /// Containers that have to be inspected.
    queue: VecDeque<String>,
    /// Counts events, to find out whether an inspection began before an event.
    clock: u64,
    /// Containers of the first list that have not been inspected yet; `None` before the
    /// first list.
    awaited: Option<HashSet<String>>,
    /// When waiting changes are delivered.
    due: Option<Instant>,
    /// Whether a new list is needed.
    is_stale: bool,
    /// Whether a list has shown a change without an event, so that the engine may have
    /// stopped writing to the stream of events.
    is_deaf: bool,
}

/// A container with the label that makes it a server.
#[derive(Debug, Default)]
struct Cached {
    /// The result of the last inspection, updated by later events.
    seen: Option<Arc<Container>>,
    /// Its fingerprint in a list at the time of the inspection; `None` if it must be
    /// inspected again.
    fingerprint: Option<u64>,
    /// Its fingerprint in the last list.
    listed: Option<u64>,
    /// The clock of its last event.
    noted: u64,
    /// Whether it is in the queue.
    is_queued: bool,
    /// Whether the next inspection is due to a list and not to an event.
    is_asked_by_list: bool,
    /// The number of failed inspections in a row.
    failures: u32,
}

type Looked = (String, u64, Result<Option<Container>, EngineError>);
type Lists = (u64, Result<Vec<Listed>, EngineError>);

impl Watch {
    pub(super) fn new(config: &DockerConfig, supply: channel::Sender<Supply>) -> Self {
        Self {
            client: Client::new(config),
            config: config.clone(),
            supply,
            known: HashMap::new(),
            queue: VecDeque::new(),
            clock: 0,
            awaited: None,
            due: None,
            is_stale: false,
            is_deaf: false,
        }
    }

    /// Watches the engine for ever, and reconnects after each loss.
    pub(super) async fn run(mut self) {
        let endpoint = self.config.endpoint.to_string();
        let mut wait = self.config.reconnect_delay;
        let mut is_lost = false;
        loop {
            let began = Instant::now();
            let error = self.session(&mut is_lost).await;
            let was_read = !is_lost;
            if was_read && began.elapsed() > STEADY {
                wait = self.config.reconnect_delay;
            }
            if std::mem::replace(&mut is_lost, true) {
                debug!(endpoint, %error, "the engine is still away");
            } else if self.is_ready() {
                warn!(endpoint, %error, "the engine is lost; routes to its containers stay as they are");
            } else {
                warn!(endpoint, %error, "the engine cannot be read; nothing is known of its containers yet");
            }
            sleep(shortened(wait)).await;
            wait = doubled(wait, was_read).max(self.config.reconnect_delay);
        }
    }

    /// Follows the engine until it is lost.
    async fn session(&mut self, is_lost: &mut bool) -> EngineError {
        // Containers that were not inspected are in the new list again.
        self.queue.clear();
        for known in self.known.values_mut() {
            known.is_queued = false;
        }
        // Requested before the list, so that no change is missed in between.
        let mut events = match self.client.events().await {
            Ok(events) => events,
            Err(error) => return error,
        };
        let mut looks = FuturesUnordered::new();
        let mut lists = FuturesUnordered::from_iter([self.list()]);
        let mut reopened = FuturesUnordered::new();
        let mut next_list = Instant::now() + LIST_PAUSE;
        let mut has_list = false;
        self.is_stale = false;
        self.is_deaf = false;
        let poll = self.config.poll_interval;
        let mut polls = interval_at(Instant::now() + poll, poll);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while looks.len() < LOOKS_MAX
                && let Some(id) = self.queue.pop_front()
            {
                if let Some(known) = self.known.get_mut(&id) {
                    known.is_queued = false;
                    looks.push(self.look(id));
                }
            }
            if std::mem::take(&mut self.is_deaf) && reopened.is_empty() {
                debug!(
                    "a list shows a change without an event: the stream of events is opened again"
                );
                reopened.push(self.reopen());
            }
            let is_busy = !looks.is_empty() || !lists.is_empty();
            let mut due = self.due.filter(|_| self.is_ready());
            let is_due = due.is_some_and(|due| !is_busy || due <= Instant::now());
            if has_list && (is_due || !is_busy) && std::mem::take(is_lost) {
                info!(endpoint = %self.config.endpoint, "the engine is read again");
            }
            if is_due {
                self.deliver();
                due = None;
            }
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Ok(Some(event)) => self.on_event(event),
                    Ok(None) => self.is_stale = true,
                    Err(error) => return error,
                },
                Some(looked) = looks.next() => {
                    if let Err(error) = self.seen(looked) {
                        return error;
                    }
                }
                Some(result) = reopened.next() => match result {
                    Ok(stream) => {
                        events = stream;
                        // Changes before that may have been missed.
                        self.is_stale = true;
                    }
                    Err(error) => return error,
                },
                Some((began, listed)) = lists.next() => {
                    match listed {
                        Ok(listed) => self.compare(listed, began, has_list),
                        Err(error) => return error,
                    }
                    has_list = true;
                }
                _ = polls.tick() => self.is_stale = true,
                () = sleep_until(next_list), if self.is_stale && lists.is_empty() => {
                    self.is_stale = false;
                    next_list = Instant::now() + LIST_PAUSE;
                    lists.push(self.list());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn list(&self) -> BoxFuture<'static, Lists> {
        let (client, began) = (self.client.clone(), self.clock);
        async move { (began, client.list(true).await) }.boxed()
    }

    fn reopen(&self) -> BoxFuture<'static, Result<Events, EngineError>> {
        let client = self.client.clone();
        async move { client.events().await }.boxed()
    }

    fn look(&self, id: String) -> BoxFuture<'static, Looked> {
        let (client, began) = (self.client.clone(), self.clock);
        async move {
            let look = client.container(&id).await;
            (id, began, look)
        }
        .boxed()
    }

    /// Handles an event.
    fn on_event(&mut self, event: Event) {
        let Event {
            id,
            kind,
            is_enabled,
        } = event;
        if kind == Kind::Moves {
            // The proxy's own container may have moved.
            self.changed();
        }
        if !is_enabled && !self.known.contains_key(&id) {
            return;
        }
        self.clock += 1;
        debug!(container = id, ?kind, "event");
        match kind {
            Kind::Gone => {
                self.gone(&id);
                return;
            }
            Kind::Leaves(state) => {
                let known = self.known.entry(id.clone()).or_default();
                let left = known.seen.as_mut().filter(|seen| seen.state != state);
                if let Some(container) = left {
                    info!(container = container.name, "container is {}", state.name());
                    Arc::make_mut(container).state = state;
                    self.changed_now();
                }
            }
            Kind::Changes | Kind::Moves => {}
        }
        self.ask(id);
    }

    /// Puts a container into the queue.
    fn ask(&mut self, id: String) {
        let known = self.known.entry(id.clone()).or_default();
        known.noted = self.clock;
        known.fingerprint = None;
        known.listed = None;
        known.is_asked_by_list = false;
        if !std::mem::replace(&mut known.is_queued, true) {
            self.queue.push_back(id);
        }
    }

    /// Handles a list, and inspects the containers that differ from the last one. With
    /// `has_events` an event should have reported each difference.
    fn compare(&mut self, listed: Vec<Listed>, began: u64, has_events: bool) {
        let listed = listed.into_iter().filter(|one| one.is_enabled);
        let listed: HashMap<_, _> = listed.map(|one| (one.id, one.fingerprint)).collect();
        // The list may not contain changes since it was requested.
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(id, known)| known.noted <= began && !listed.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.is_deaf |= has_events;
            if self.forget(&id).is_some() {
                self.changed();
            }
        }
        for (id, fingerprint) in &listed {
            let known = self.known.entry(id.clone()).or_default();
            known.listed = Some(*fingerprint);
            if known.fingerprint != known.listed && !known.is_queued {
                known.is_queued = true;
                known.is_asked_by_list = has_events;
                self.queue.push_back(id.clone());
            }
        }
        if self.awaited.is_none() {
            self.awaited = Some(listed.into_keys().collect());
            self.changed();
        }
    }

    /// Handles the result of an inspection.
    fn seen(&mut self, (id, began, look): Looked) -> Result<(), EngineError> {
        let Some(known) = self.known.get_mut(&id).filter(|k| k.noted <= began) else {
            return Ok(());
        };
        if let Err(error) = &look {
            if error.is_about_all() {
                return look.map(drop);
            }
            known.fingerprint = None;
            known.failures += 1;
            match known.failures {
                // The engine may be stopping.
                1 => {
                    self.is_stale = true;
                    return Ok(());
                }
                2 => warn!(container = id, %error, "a container cannot be looked at"),
                _ => {}
            }
        }
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&id);
        }
        match look {
            Ok(Some(next)) => {
                known.failures = 0;
                known.fingerprint = known.listed.take();
                let is_asked_by_list = std::mem::take(&mut known.is_asked_by_list);
                if known.seen.as_deref() != Some(&next) {
                    let state = next.state;
                    let is_news = match &known.seen {
                        Some(seen) => seen.state != state,
                        None => matches!(state, State::Unhealthy | State::Paused),
                    };
                    if is_news {
                        info!(container = next.name, "container is {}", state.name());
                    }
                    known.seen = Some(Arc::new(next));
                    self.is_deaf |= is_asked_by_list;
                    self.changed();
                }
            }
            Ok(None) => self.gone(&id),
            // The known state stays, and the container is inspected again with the next
            // list.
            Err(_) => self.changed(),
        }
        Ok(())
    }

    /// Forgets a container. Returns its last known state.
    fn forget(&mut self, id: &str) -> Option<State> {
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(id);
        }
        let seen = self.known.remove(id).and_then(|known| known.seen);
        seen.map(|seen| seen.state)
    }

    /// Forgets a container that has just gone.
    fn gone(&mut self, id: &str) {
        match self.forget(id) {
            // Another container may get its address at once.
            Some(state) if state.is_usable() => self.changed_now(),
            Some(_) => self.changed(),
            None => {}
        }
    }

    /// Schedules the delivery of a change that may wait for others.
    fn changed(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Schedules the delivery of a change at once.
    fn changed_now(&mut self) {
        self.due = Some(Instant::now());
    }

    /// Whether all containers of the first list have been inspected once.
    fn is_ready(&self) -> bool {
        self.awaited.as_ref().is_some_and(HashSet::is_empty)
    }

    /// Delivers the known containers.
    fn deliver(&mut self) {
        self.due = None;
        let seen = self.known.values().filter_map(|known| known.seen.clone());
        self.supply.send_replace(Supply {
            containers: Some(sorted(seen)),
            engine: self.client.peer(),
        });
    }
}

/// The wait after this one, depending on whether the engine was read in between.
fn doubled(wait: Duration, was_read: bool) -> Duration {
    (wait * 2).min(if was_read { FLAPS_MAX } else { AWAY_MAX })
}

/// A wait shortened by up to a half at random, so that proxies that lost the same engine do
/// not all reconnect at once.
fn shortened(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    let share = u32::try_from(random % 512).unwrap_or(0);
    wait - wait / 1024 * share
}

/// Inspects every container with a label of ours, once.
pub(super) async fn look(client: Client) -> Result<(Supply, Vec<Unread>), EngineError> {
    let listed = client.list(false).await?;
    let mut ids = listed
        .into_iter()
        .filter(|one| one.is_labelled)
        .map(|one| one.id);
    let ask = |id: String| {
        let client = client.clone();
        async move {
            let look = client.container(&id).await;
            (id, look)
        }
    };
    let mut looks: FuturesUnordered<_> = ids.by_ref().take(LOOKS_MAX).map(ask).collect();
    let (mut seen, mut unread) = (Vec::new(), Vec::new());
    while let Some((id, look)) = looks.next().await {
        looks.extend(ids.next().map(ask));
        match look {
            Ok(Some(container)) => seen.push(Arc::new(container)),
            Ok(None) => {}
            Err(error) if error.is_about_all() => return Err(error),
            Err(error) => unread.push(Unread { id, error }),
        }
    }
    let supply = Supply {
        containers: Some(sorted(seen.into_iter())),
        engine: client.peer(),
    };
    Ok((supply, unread))
}

/// A container that the engine could not show.
#[derive(Debug)]
pub(crate) struct Unread {
    /// Its id.
    pub id: String,
    /// The error.
    pub error: EngineError,
}

/// Containers in a fixed order.
fn sorted(containers: impl Iterator<Item = Arc<Container>>) -> Vec<Arc<Container>> {
    let mut containers: Vec<_> = containers.collect();
    containers.sort_by(|a, b| a.age().cmp(&b.age()));
    containers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that was away for a long time is found within seconds, even after several
    /// short losses. One that is lost again and again does not flood the log.
    #[test]
    fn waits_grow_to_their_bounds() {
        let after = |times, was_read| {
            let next = |wait, _| doubled(wait, was_read);
            (0..times).fold(Duration::from_secs(1), next).as_secs()
        };
        assert_eq!([1, 2, 3, 20].map(|times| after(times, false)), [2, 4, 5, 5]);
        assert_eq!([3, 20].map(|times| after(times, true)), [8, 60]);
        assert_eq!(doubled(FLAPS_MAX, false), AWAY_MAX);
    }
}
