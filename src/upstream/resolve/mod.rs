//! Resolves the names of backends: what to ask, how long an answer is used, and in
//! which order the addresses are dialled.
//!
//! One look-up of a name asks for IPv4, IPv6 and, if no port is configured, for the
//! SRV record of the game, all at the same time. Each answer is used as soon as it has
//! arrived, so that a missing one does not delay the others.

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

/// The most addresses of one name that are tried. Those of a larger pool would only be
/// reached after a player has given up.
pub(super) const IPS_PER_NAME_MAX: usize = 8;
/// The most targets of SRV records that are tried.
const TARGETS_MAX: usize = 4;
/// How long an IPv4 address waits for an answer about IPv6 (RFC 8305, section 3).
const IPV6_DELAY: Duration = Duration::from_millis(50);
/// How long addresses wait for an answer about an SRV record, which would replace
/// them. A name server that has one mostly answers within that time.
const SRV_DELAY: Duration = Duration::from_millis(150);
/// How long to wait for one address family after the other has been answered.
const FAMILY_WAIT: Duration = Duration::from_millis(1000);

/// How long an address of a name without a dot is used at most, whatever its TTL. Such
/// names belong to containers and machines nearby, which get another address when they
/// are created again.
const NEARBY_LIFE: Duration = Duration::from_secs(5);
/// How long any other address is used at most.
const LIFE: Duration = Duration::from_secs(30);
/// How long an address is used at least, so that many players ask only once.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// How long the answer that a name or an address does not exist is used, whatever its
/// TTL, so that a server that is being started is found within seconds.
const DENIAL_LIFE: Duration = Duration::from_secs(2);
/// How long addresses are used after that while no name server answers.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// The shortest time between two look-ups of a name of which no address could be
/// reached.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// How often the files that say how names are resolved are checked for changes.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// How long such a check may take before the look-up continues without it.
const FILES_TIMEOUT: Duration = Duration::from_millis(500);
/// Runs reads of the hosts file, and bounds the threads that a hanging file system
/// blocks.
static HOSTS: Lane = Lane::new();
/// The most names that are remembered. Those of the configuration are few; others
/// decide what targets SRV records have.
const NAMES_MAX: usize = 4096;

/// Resolves names and remembers the answers.
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
    /// Whether to ask for its SRV record too.
    with_srv: bool,
}

/// One look-up of a name, which may still run.
#[derive(Debug)]
struct Lookup {
    began: Instant,
    /// Whether it began before the answers of the last one had expired.
    is_renewal: bool,
    answers: watch::Receiver<Answers>,
}

/// The answers so far; `None` means that an answer is still missing.
#[derive(Debug, Clone, Default)]
struct Answers {
    v4: Option<Result<Vec<IpAddr>, Failure>>,
    v6: Option<Result<Vec<IpAddr>, Failure>>,
    srv: Option<Result<Vec<Target>, Failure>>,
    /// When the first address arrived.
    found_at: Option<Instant>,
    /// Whether there was no answer about IPv6, or about an SRV record, the last time:
    /// then addresses do not wait for it.
    v6_was_silent: bool,
    srv_was_silent: bool,
    /// When name servers last gave the addresses.
    good_at: Option<Instant>,
    /// Until when the answers are used; set once all have arrived.
    expires: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves the value consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// Resolves names as these files say. Reads them, which blocks.
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

    /// The addresses of a name, as they become known. Waits for answers until
    /// `deadline` at most.
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
            has_ended: false,
        }
    }

    /// The look-up of this name, if it still runs or has valid answers, or a new one.
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

    /// A look-up that began after `since`, since no address of an earlier one could be
    /// reached. `None` if it is too early for another one.
    fn renewed(&self, key: &Key, since: Instant) -> Option<Arc<Lookup>> {
        let mut known = lock(&self.0.known);
        let lookup = known.get(key)?;
        if lookup.began >= since {
            return Some(Arc::clone(lookup));
        }
        // While a backend is down, not every player causes a look-up.
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

/// The addresses to dial, in their order. Some may not be known yet.
pub(super) struct Candidates<'a> {
    names: &'a Names,
    key: Key,
    own: Reader,
    /// The remaining targets of the SRV records, once these are known.
    targets: Option<VecDeque<Target>>,
    /// The addresses of the current target.
    target: Option<Reader>,
    began: Instant,
    deadline: Instant,
    tried: Vec<SocketAddr>,
    is_renewed: bool,
    has_ended: bool,
}

/// Reads the addresses of one look-up.
struct Reader {
    answers: watch::Receiver<Answers>,
    port: u16,
}

/// The next step of reading a look-up.
enum Next {
    /// Dial this address.
    Address(SocketAddr),
    /// Try again at this time, or when another answer has arrived.
    Wait(Option<Instant>),
    /// All addresses have been tried.
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
    /// The addresses, IPv6 and IPv4 alternating (RFC 8305, section 4).
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

    /// Until when addresses wait for an answer that would take precedence.
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
        // A missing answer explains more than the denial of one family.
        all.min_by_key(|failure| match failure {
            Failure::NoRecords => 2,
            failure => u8::from(failure.is_denial()),
        })
        .cloned()
        .unwrap_or(Failure::TooSlow)
    }
}

impl Candidates<'_> {
    /// The next address; once an error, if there is no address at all; `None` at the
    /// end. When all known addresses have been returned, the name is looked up again:
    /// the address of a container changes when the container is created again.
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
        let is_first = !std::mem::replace(&mut self.has_ended, true);
        (is_first && self.tried.is_empty()).then_some(Err(failure))
    }
}

/// Waits for another answer or until a time; false if no other answer will come.
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
        // One check at a time, so that a hanging file system blocks one thread only.
        let Ok(checking) = Arc::clone(&self.checking).try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        let look = apart::run(move || {
            this.check_files();
            drop(checking);
        });
        // If it takes too long, the look-up continues with what is known.
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

    /// Begins a look-up, which continues even if its reader is dropped.
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

    /// Finds the answers and publishes them. Returns the shortest TTL of the records.
    async fn run(self: &Arc<Self>, key: &Key, publish: &watch::Sender<Answers>) -> Duration {
        let name = key.name.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") {
            // Always the loopback addresses (RFC 6761, section 6.3).
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

/// Whether name servers have answered a question, even with a denial.
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

/// Asks for both address families of each name that `name` may mean (see
/// [`Config::candidates`]), until one has addresses.
async fn ask_addresses(config: &Config, name: &str, publish: &watch::Sender<Answers>) -> Duration {
    let mut last = (Failure::BadName, Failure::BadName);
    for candidate in config.candidates(name) {
        match ask_both(config, &candidate, publish).await {
            Ok(ttl) => return ttl,
            Err(failures) => last = failures,
        }
        // The other names would get no answer either, and the player waits.
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

/// Asks for both address families at once, and publishes addresses as they arrive. If
/// there are none, returns why, since the caller may know another name.
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
    // The time limit of each family begins when the other has been answered.
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

    /// Ends the look-up and sets the time for which its answers are used. If no name server
    /// has answered, the answers of `before` are still used (RFC 8767).
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
