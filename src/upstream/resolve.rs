//! Names of backends to addresses: what is asked, how long an answer counts, and
//! in which order the addresses are dialled.
//!
//! One look-up of a name asks for IPv4, IPv6 and, where the port is left open,
//! for the SRV record of the game at the same time. Each answer counts as soon
//! as it is there, so that one that never comes delays none of the others.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::dns::{Failure, Found, Target};
use super::system::{Config, Files, Stamps, System, absolute};
use crate::apart::{self, Lane};

/// Addresses of one name that are tried. A name with more is a pool whose
/// further members would only be reached after a player has given up.
pub(super) const IPS_PER_NAME_MAX: usize = 8;
/// Targets of SRV records that are tried.
const TARGETS_MAX: usize = 4;
/// How long an IPv4 address waits for an answer about IPv6 (RFC 8305, section 3).
const IPV6_DELAY: Duration = Duration::from_millis(50);
/// How long addresses wait for an answer about an SRV record, which would lead
/// elsewhere. A name server that knows it has mostly answered by then.
const SRV_DELAY: Duration = Duration::from_millis(150);
/// How long one family is waited for when the other has been answered.
const FAMILY_WAIT: Duration = Duration::from_millis(1000);

/// The longest life of an address of a name without a dot. Such names belong to
/// containers and machines nearby, which get another address when they are
/// created again, whatever TTL a record has.
const NEARBY_LIFE: Duration = Duration::from_secs(5);
/// The longest life of other addresses.
const LIFE: Duration = Duration::from_secs(30);
/// The shortest life of an address: a crowd of players asks once.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// The life of an answer that there is no such name, or no address: a server
/// that is being started is found within seconds, whatever life a denial claims.
const DENIAL_LIFE: Duration = Duration::from_secs(2);
/// How long addresses are used beyond their life while no name server answers.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// The shortest time before a name is asked for again because no address of it
/// could be reached.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// How often the files that say how names are resolved are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// How long a look at these files may take before the look-up goes on without.
const FILES_TIMEOUT: Duration = Duration::from_millis(500);
/// Reads of the hosts file: on a file system that hangs there are a few threads.
static HOSTS: Lane = Lane::new();
/// Names that are remembered. Those of the configuration are few; targets of
/// SRV records are chosen by others.
const NAMES_MAX: usize = 4096;

/// The names that are known, and how others are looked up.
#[derive(Debug)]
pub(super) struct Names(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Files,
    system: Mutex<(Arc<System>, Stamps)>,
    checked_at: Mutex<Option<Instant>>,
    checking: Arc<tokio::sync::Mutex<()>>,
    known: Mutex<HashMap<Key, Arc<Lookup>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    /// Whether its SRV record is asked for, too.
    with_srv: bool,
}

/// One look-up of a name, which may still run.
#[derive(Debug)]
struct Lookup {
    began: Instant,
    /// Whether it asked again before the answers of the last one had expired.
    is_renewal: bool,
    answers: watch::Receiver<Answers>,
}

/// What is known so far; `None` is a question that is still open.
#[derive(Debug, Clone, Default)]
struct Answers {
    v4: Option<Result<Vec<IpAddr>, Failure>>,
    v6: Option<Result<Vec<IpAddr>, Failure>>,
    srv: Option<Result<Vec<Target>, Failure>>,
    /// When the first address was there.
    found_at: Option<Instant>,
    /// Whether the question for IPv6, and that for an SRV record, went without an
    /// answer the last time: then nothing waits for it.
    v6_was_silent: bool,
    srv_was_silent: bool,
    /// When name servers last gave the addresses.
    good_at: Option<Instant>,
    /// Until when the answers count, once all are there.
    expires: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// Resolves names as these files say. Reads them, and blocks meanwhile.
    pub(super) fn new(files: Files) -> Self {
        let stamps = files.stamps();
        let system = Arc::new(files.system());
        if matches!(*system, System::Library) && cfg!(unix) {
            let path = files.resolv_conf.display();
            tracing::warn!(%path, "no DNS configuration found: names go to the C library");
        }
        Self(Arc::new(Shared {
            files,
            system: Mutex::new((system, stamps)),
            checked_at: Mutex::new(Some(Instant::now())),
            checking: Arc::default(),
            known: Mutex::default(),
        }))
    }

    /// Forgets all answers, and reads the system's files before the next question.
    pub(super) fn forget(&self) {
        lock(&self.0.known).clear();
        *lock(&self.0.checked_at) = None;
    }

    /// The addresses of a name, as they become known, for a connection that is
    /// made until `deadline`.
    pub(super) async fn candidates(
        &self,
        name: &str,
        port: u16,
        with_srv: bool,
        deadline: Instant,
    ) -> Candidates<'_> {
        self.0.follow_files().await;
        let key = Key {
            name: name.to_owned(),
            with_srv: with_srv && name.contains('.'),
        };
        let began = Instant::now();
        Candidates {
            own: Reader::new(&self.lookup(&key), port),
            names: self,
            key,
            targets: None,
            target: None,
            began,
            deadline,
            tried: Vec::new(),
            is_renewed: false,
            has_told: false,
        }
    }

    /// The look-up of this name that runs or whose answers count, or a new one.
    fn lookup(&self, key: &Key) -> Arc<Lookup> {
        let mut known = lock(&self.0.known);
        let now = Instant::now();
        match known.get(key) {
            Some(lookup) if lookup.counts_at(now) => return Arc::clone(lookup),
            Some(_) | None => {}
        }
        if known.len() >= NAMES_MAX {
            known.retain(|_, lookup| lookup.counts_at(now));
            if known.len() >= NAMES_MAX {
                known.clear();
            }
        }
        let before = known.get(key).map(|lookup| lookup.answers.borrow().clone());
        let lookup = self.0.begin(key, before, false);
        known.insert(key.clone(), Arc::clone(&lookup));
        lookup
    }

    /// A look-up that began after `since`: those before have led nowhere.
    fn renewed(&self, key: &Key, since: Instant) -> Option<Arc<Lookup>> {
        let mut known = lock(&self.0.known);
        let lookup = known.get(key)?;
        if lookup.began >= since {
            return Some(Arc::clone(lookup));
        }
        // Players of a backend that is down come one after the other.
        if lookup.is_renewal && lookup.began.elapsed() < RENEW_MIN {
            return None;
        }
        let before = Some(lookup.answers.borrow().clone());
        let lookup = self.0.begin(key, before, true);
        known.insert(key.clone(), Arc::clone(&lookup));
        Some(lookup)
    }
}

impl Lookup {
    fn counts_at(&self, now: Instant) -> bool {
        let runs = self.answers.has_changed().is_ok();
        let expires = self.answers.borrow().expires;
        expires.map_or(runs, |at| now < at)
    }
}

/// Addresses to dial, in their order. Some may not be known yet.
pub(super) struct Candidates<'a> {
    names: &'a Names,
    key: Key,
    own: Reader,
    /// Servers that SRV records name, once these are known.
    targets: Option<VecDeque<Target>>,
    /// The target whose addresses are being read.
    target: Option<Reader>,
    began: Instant,
    deadline: Instant,
    tried: Vec<SocketAddr>,
    is_renewed: bool,
    has_told: bool,
}

/// A look-up whose addresses are read.
struct Reader {
    answers: watch::Receiver<Answers>,
    port: u16,
}

/// What comes next of a look-up.
enum Next {
    Address(SocketAddr),
    /// Something may be known at this time, or when an answer comes.
    Wait(Option<Instant>),
    /// All that was known has been tried.
    Nothing,
}

impl Reader {
    fn new(lookup: &Lookup, port: u16) -> Self {
        let answers = lookup.answers.clone();
        Self { answers, port }
    }

    fn next(&mut self, with_srv: bool, tried: &[SocketAddr]) -> Next {
        let answers = self.answers.borrow_and_update();
        let known = answers.in_turns();
        let known = known.into_iter().map(|ip| SocketAddr::new(ip, self.port));
        let untried = known.into_iter().find(|address| !tried.contains(address));
        let waits = answers.waits(with_srv);
        match untried {
            Some(address) => match waits.filter(|until| *until > Instant::now()) {
                Some(until) => Next::Wait(Some(until)),
                None => Next::Address(address),
            },
            None if answers.is_open(with_srv) => Next::Wait(None),
            None => Next::Nothing,
        }
    }
}

impl Answers {
    /// IPv6 and IPv4 in turn (RFC 8305, section 4).
    fn in_turns(&self) -> Vec<IpAddr> {
        let of = |family: &Option<Result<Vec<IpAddr>, Failure>>| match family {
            Some(Ok(found)) => found.clone(),
            Some(Err(_)) | None => Vec::new(),
        };
        let (v6, v4) = (of(&self.v6), of(&self.v4));
        let mut turns = Vec::with_capacity(v4.len() + v6.len());
        let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
        loop {
            match (v6.next(), v4.next()) {
                (None, None) => break,
                (a, b) => turns.extend([a, b].into_iter().flatten()),
            }
        }
        turns.truncate(IPS_PER_NAME_MAX);
        turns
    }

    /// Until when addresses wait for an answer that would come before them.
    fn waits(&self, with_srv: bool) -> Option<Instant> {
        let found_at = self.found_at?;
        if with_srv && self.srv.is_none() && !self.srv_was_silent {
            return Some(found_at + SRV_DELAY);
        }
        (self.v6.is_none() && !self.v6_was_silent).then(|| found_at + IPV6_DELAY)
    }

    fn is_open(&self, with_srv: bool) -> bool {
        self.v4.is_none() || self.v6.is_none() || (with_srv && self.srv.is_none())
    }

    /// Why there is no address.
    fn failure(&self) -> Failure {
        let failures = [&self.v4, &self.v6].map(|family| match family {
            Some(Err(failure)) => Some(failure),
            Some(Ok(_)) | None => None,
        });
        let all = failures.into_iter().flatten();
        // A look-up without an answer explains more than a denial of one family.
        all.min_by_key(|failure| match failure {
            Failure::NoRecords => 2,
            failure => u8::from(failure.is_denial()),
        })
        .cloned()
        .unwrap_or(Failure::TooSlow)
    }
}

impl Candidates<'_> {
    /// The next address, or why there is none, once; `None` is the end. When
    /// all addresses that were known before have been handed out, the name is
    /// asked for again: one of a container changes when the container is created again.
    pub(super) async fn next(&mut self) -> Option<Result<SocketAddr, Failure>> {
        loop {
            if let Some(target) = &mut self.target {
                match target.next(false, &self.tried) {
                    Next::Address(address) => return Some(Ok(self.hand_out(address))),
                    Next::Wait(until) => {
                        if !wait(target, until, self.deadline).await {
                            self.target = None;
                        }
                    }
                    Next::Nothing => self.target = None,
                }
                continue;
            }
            if let Some(target) = self.targets.as_mut().and_then(VecDeque::pop_front) {
                let key = Key {
                    name: target.name,
                    with_srv: false,
                };
                let renewed = self
                    .is_renewed
                    .then(|| self.names.renewed(&key, self.began))
                    .flatten();
                let lookup = renewed.unwrap_or_else(|| self.names.lookup(&key));
                self.target = Some(Reader::new(&lookup, target.port));
                continue;
            }
            if self.targets.is_none() && self.key.with_srv {
                let found = match &self.own.answers.borrow().srv {
                    Some(Ok(targets)) => Some(targets.iter().cloned().collect()),
                    Some(Err(_)) | None => None,
                };
                self.targets = found;
                if self.targets.is_some() {
                    continue;
                }
            }
            // As in the game, the record replaces the addresses of the name.
            let next = match self.targets {
                Some(_) => Next::Nothing,
                None => self.own.next(self.key.with_srv, &self.tried),
            };
            match next {
                Next::Address(address) => return Some(Ok(self.hand_out(address))),
                Next::Wait(until) => {
                    if !wait(&mut self.own, until, self.deadline).await {
                        return self.end(Failure::TooSlow);
                    }
                }
                Next::Nothing => {
                    let renewed = (!self.is_renewed)
                        .then(|| self.names.renewed(&self.key, self.began))
                        .flatten();
                    self.is_renewed = true;
                    let Some(renewed) = renewed else {
                        let failure = self.own.answers.borrow().failure();
                        return self.end(failure);
                    };
                    self.own = Reader::new(&renewed, self.own.port);
                    self.targets = None;
                }
            }
        }
    }

    fn hand_out(&mut self, address: SocketAddr) -> SocketAddr {
        self.tried.push(address);
        address
    }

    fn end(&mut self, failure: Failure) -> Option<Result<SocketAddr, Failure>> {
        let is_first = !std::mem::replace(&mut self.has_told, true);
        (is_first && self.tried.is_empty()).then_some(Err(failure))
    }
}

/// Waits for another answer, or until a time; false when no other will come.
async fn wait(reader: &mut Reader, until: Option<Instant>, deadline: Instant) -> bool {
    let end = until.map_or(deadline, |until| until.min(deadline));
    match timeout_at(end, reader.answers.changed()).await {
        Ok(changed) => changed.is_ok(),
        Err(_) => end < deadline,
    }
}

impl Shared {
    /// Reads the system's files again if they have changed.
    async fn follow_files(self: &Arc<Self>) {
        {
            let mut checked_at = lock(&self.checked_at);
            let now = Instant::now();
            if checked_at.is_some_and(|at| now < at + FILES_INTERVAL) {
                return;
            }
            *checked_at = Some(now);
        }
        // One check at a time: on a file system that hangs this blocks one thread only.
        let Ok(checking) = Arc::clone(&self.checking).try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        let look = apart::run(move || {
            this.check_files();
            drop(checking);
        });
        // Without an answer the look-up goes on as the last one did.
        let _ = timeout(FILES_TIMEOUT, look).await;
    }

    fn check_files(&self) {
        let stamps = self.files.stamps();
        if lock(&self.system).1 == stamps {
            return;
        }
        let system = Arc::new(self.files.system());
        if let System::Dns(config) = &*system {
            tracing::debug!(name_servers = ?config.servers.list(), "the name servers have changed");
        }
        *lock(&self.system) = (system, stamps);
        lock(&self.known).clear();
    }

    /// Begins a look-up that goes on even if nobody waits for it.
    fn begin(
        self: &Arc<Self>,
        key: &Key,
        before: Option<Answers>,
        is_renewal: bool,
    ) -> Arc<Lookup> {
        let (v6_was_silent, srv_was_silent) = before.as_ref().map_or((false, false), |before| {
            (
                !is_answered(before.v6.as_ref()),
                !is_answered(before.srv.as_ref()),
            )
        });
        let (publish, answers) = watch::channel(Answers {
            v6_was_silent,
            srv_was_silent,
            srv: (!key.with_srv).then_some(Err(Failure::NoRecords)),
            ..Answers::default()
        });
        let (shared, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            let ttl = shared.run(&key, &publish).await;
            publish.send_modify(|answers| answers.settle(&key.name, ttl, before.as_ref()));
        });
        Arc::new(Lookup {
            began: Instant::now(),
            is_renewal,
            answers,
        })
    }

    /// Finds the answers; the life that their records have.
    async fn run(self: &Arc<Self>, key: &Key, publish: &watch::Sender<Answers>) -> Duration {
        let name = key.name.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") {
            // As it is meant everywhere (RFC 6761, section 6.3).
            let all = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            publish.send_modify(|answers| answers.found(all));
            return LIFE;
        }
        let (this, wanted) = (Arc::clone(self), name.to_owned());
        let hosts = HOSTS.run_within(FILES_TIMEOUT, move || this.files.hosts(&wanted));
        if let Ok(found) = hosts.await
            && !found.is_empty()
        {
            publish.send_modify(|answers| answers.found(found));
            return LIFE;
        }
        let system = Arc::clone(&lock(&self.system).0);
        match &*system {
            System::Library => {
                let found = tokio::net::lookup_host((key.name.as_str(), 0)).await;
                publish.send_modify(|answers| match found {
                    Ok(found) => answers.found(found.map(|found| found.ip()).collect()),
                    Err(error) => answers.failed(&Failure::Library(error.to_string())),
                });
                LIFE
            }
            System::Dns(config) => {
                let addresses = ask_addresses(config, &key.name, publish);
                let (addresses, srv) = tokio::join!(addresses, ask_srv(config, key, publish));
                addresses.min(srv)
            }
        }
    }
}

/// Whether name servers have answered a question, be it by a denial.
fn is_answered<T>(answer: Option<&Result<T, Failure>>) -> bool {
    match answer {
        Some(Ok(_)) => true,
        Some(Err(failure)) => failure.is_denial(),
        None => false,
    }
}

async fn ask_srv(config: &Config, key: &Key, publish: &watch::Sender<Answers>) -> Duration {
    if !key.with_srv {
        return Duration::MAX;
    }
    let found = match absolute(&format!("_minecraft._tcp.{}", key.name)) {
        Some(name) => config.servers.targets(&name).await,
        None => Err(Failure::BadName),
    };
    let ttl = found.as_ref().map_or(Duration::MAX, |found| found.ttl);
    publish.send_modify(|answers| {
        answers.srv = Some(found.map(|mut found| {
            found.items.truncate(TARGETS_MAX);
            found.items
        }));
    });
    ttl
}

/// Asks for both families of each name that `name` may stand for, until one has
/// addresses.
async fn ask_addresses(config: &Config, name: &str, publish: &watch::Sender<Answers>) -> Duration {
    let mut last = (Failure::BadName, Failure::BadName);
    for candidate in config.candidates(name) {
        match ask_both(config, &candidate, publish).await {
            Ok(ttl) => return ttl,
            Err(failures) => last = failures,
        }
        // The others would not be answered either, and the player waits.
        if !last.0.is_denial() && !last.1.is_denial() {
            break;
        }
    }
    publish.send_modify(|answers| {
        answers.v4 = Some(Err(last.0));
        answers.v6 = Some(Err(last.1));
    });
    Duration::MAX
}

/// Asks for both families at once. Addresses are published when they come; why
/// there are none is returned to the caller, which may know another name.
async fn ask_both(
    config: &Config,
    name: &Name,
    publish: &watch::Sender<Answers>,
) -> Result<Duration, (Failure, Failure)> {
    let ask = async |family: RecordType| -> Result<Duration, Failure> {
        if family == RecordType::AAAA && !config.asks_ipv6 {
            return Err(Failure::NoRecords);
        }
        let Found { items, ttl } = config.servers.addresses(name, family).await?;
        publish.send_modify(|answers| answers.found_family(items, family));
        Ok(ttl)
    };
    let (mut v4, mut v6) = (
        std::pin::pin!(ask(RecordType::A)),
        std::pin::pin!(ask(RecordType::AAAA)),
    );
    // Each family has its own bound, which begins when the other is answered.
    let late = |late: Result<Result<Duration, Failure>, _>| late.unwrap_or(Err(Failure::TooSlow));
    let (v4, v6) = tokio::select! {
        v4 = &mut v4 => (v4, late(timeout(FAMILY_WAIT, v6).await)),
        v6 = &mut v6 => (late(timeout(FAMILY_WAIT, v4).await), v6),
    };
    let ttl = match (&v4, &v6) {
        (Err(v4), Err(v6)) => return Err((v4.clone(), v6.clone())),
        (Ok(ttl), Err(_)) | (Err(_), Ok(ttl)) => *ttl,
        (Ok(v4), Ok(v6)) => *v4.min(v6),
    };
    publish.send_modify(|answers| {
        if let Err(failure) = v4 {
            answers.v4 = Some(Err(failure));
        }
        if let Err(failure) = v6 {
            answers.v6 = Some(Err(failure));
        }
    });
    Ok(ttl)
}

impl Answers {
    fn found_family(&mut self, items: Vec<IpAddr>, family: RecordType) {
        let now = Instant::now();
        self.found_at.get_or_insert(now);
        self.good_at = Some(now);
        match family {
            RecordType::AAAA => self.v6 = Some(Ok(items)),
            _ => self.v4 = Some(Ok(items)),
        }
    }

    /// Takes addresses of both families from one source; there is no SRV record.
    fn found(&mut self, all: Vec<IpAddr>) {
        let (v6, v4): (Vec<_>, Vec<_>) = all.into_iter().partition(IpAddr::is_ipv6);
        let or_none = |found: Vec<IpAddr>| match found.is_empty() {
            true => Err(Failure::NoRecords),
            false => Ok(found),
        };
        let now = Instant::now();
        self.found_at = Some(now);
        self.good_at = Some(now);
        (self.v4, self.v6) = (Some(or_none(v4)), Some(or_none(v6)));
        self.srv = Some(Err(Failure::NoRecords));
    }

    fn failed(&mut self, failure: &Failure) {
        self.v4 = Some(Err(failure.clone()));
        self.v6 = Some(Err(failure.clone()));
        self.srv = Some(Err(Failure::NoRecords));
    }

    /// All that will be known is: says how long it counts. Where no name server
    /// has answered, what was known `before` goes on to count (RFC 8767).
    fn settle(&mut self, name: &str, ttl: Duration, before: Option<&Answers>) {
        let now = Instant::now();
        let life = if name.contains('.') {
            LIFE
        } else {
            NEARBY_LIFE
        };
        let has_address = |answers: &Answers| {
            let srv = matches!(&answers.srv, Some(Ok(_)));
            srv || !answers.in_turns().is_empty()
        };
        if !has_address(self)
            && !self.failure().is_denial()
            && let Some(before) = before
            && has_address(before)
            && before.good_at.is_some_and(|at| now < at + STALE_MAX)
        {
            let (v6_was_silent, srv_was_silent) = (self.v6_was_silent, self.srv_was_silent);
            *self = Self {
                v6_was_silent,
                srv_was_silent,
                found_at: Some(now),
                ..before.clone()
            };
            self.expires = Some(now + NEARBY_LIFE);
            return;
        }
        self.expires = Some(
            now + if has_address(self) {
                ttl.clamp(LIFE_MIN, life)
            } else {
                DENIAL_LIFE
            },
        );
    }
}

#[cfg(test)]
mod tests;
