//! The handle of a player in the game: the current server, and how tasks other than the
//! player's session send packets, request a switch to another server, or end the session.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::debug;

use super::flag::Flag;
use super::scope::network_of;
use crate::forward::{Counters, Direction, Full, Outbox};
use crate::limit::Bucket;
use crate::protocol::packet::message::{Message, message};
use crate::protocol::packet::{Clientbound, State, Version};
use crate::protocol::read::write_string;
use crate::protocol::text;

/// The sender of the proxy's own packets in an [`Outbox`]. Plugins count from zero.
const PROXY_SENDER: u64 = u64::MAX;

/// The most commands of the proxy a second of one player, on average. One may list all
/// players of a network or log in at another server, and some clients send several
/// with one key.
const COMMANDS_PER_SECOND_MAX: u64 = 20;
/// What may come at once is what would be allowed in this time.
const COMMANDS_WINDOW: Duration = Duration::from_secs(4);

/// How long a client may take to answer a request of the proxy for a cookie. The backend that
/// wants it waits for half a minute in all.
const COOKIE_WAIT: Duration = Duration::from_secs(5);

/// A player in the game. Each session has one, which stays the same over all backends.
#[derive(Debug)]
pub(crate) struct PlayerHandle {
    number: u64,
    name: Box<str>,
    uuid: [u8; 16],
    version: Version,
    address: SocketAddr,
    /// The scope of the roster in which the login is.
    scope: Arc<str>,
    counters: Arc<Counters>,
    /// Whether the name is proved.
    is_proved: bool,
    /// Set when another login of the player is to take the place of this one. Also wakes those
    /// who wait until it is gone: each idle session holds this.
    replaced: Flag,
    /// Set when the login has no entry in the roster any more.
    is_gone: AtomicBool,
    /// Set when the proxy ends all sessions.
    is_stopped: AtomicBool,
    /// The player has no backend, is not yet in the game, or is leaving: no switch can be
    /// requested. Used with the lock of `current`, in which it would take eight bytes.
    is_unavailable: AtomicBool,
    current: Mutex<Current>,
    /// Wakes the session for a [`SessionRequest`]. Smaller than a `Notify` and its futures.
    requested: AtomicWaker,
}

/// What others than the two peers of a session request from it.
#[derive(Debug)]
pub(crate) enum SessionRequest {
    /// To end: the player is kicked, another login of the player replaces this one, or the
    /// proxy ends all sessions.
    End,
    /// To switch to another server.
    Switch(SwitchRequest),
}

/// The arguments of [`PlayerHandle::new`].
#[derive(Debug)]
pub(crate) struct PlayerDetails {
    /// The player's number, as plugins see it.
    pub(crate) number: u64,
    pub(crate) name: Box<str>,
    pub(crate) uuid: [u8; 16],
    pub(crate) version: Version,
    /// The client's address.
    pub(crate) address: SocketAddr,
    /// The scope of the roster in which the login is.
    pub(crate) scope: Arc<str>,
    pub(crate) counters: Arc<Counters>,
    /// Whether the name is proved.
    pub(crate) is_proved: bool,
}

/// The state that changes while a player is in the game.
#[derive(Debug)]
struct Current {
    server: Arc<str>,
    outbox: Arc<Outbox>,
    /// The requested switch that has not ended, if there is one.
    switch: Option<Arc<SwitchState>>,
    /// Boxed, and `None` until it is needed, to keep an idle session small.
    rare: Option<Box<Rare>>,
}

/// The part of that state which only some players have.
#[derive(Debug, Default)]
struct Rare {
    /// The text of the kick.
    kick: Option<Value>,
    /// Requests for cookies to a client without a backend.
    cookie_requests: Option<mpsc::Sender<CookieRequest>>,
    /// Limits how many commands of the proxy the player sends. Made for the first.
    commands: Option<Bucket>,
}

impl Current {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn kick(&self) -> Option<&Value> {
        self.rare.as_ref()?.kick.as_ref()
    }
}

/// A request for a cookie to a client without a backend.
#[derive(Debug)]
pub(super) struct CookieRequest {
    pub(super) name: String,
    /// For the answer of the client. Dropped if it cannot be asked.
    pub(super) answer: oneshot::Sender<Option<Vec<u8>>>,
}

/// The requests for cookies to a player without a backend, until this is dropped.
#[derive(Debug)]
pub(crate) struct CookieRequests {
    player: Arc<PlayerHandle>,
    requests: mpsc::Receiver<CookieRequest>,
}

impl CookieRequests {
    /// The next request. Cancel safe.
    pub(super) async fn next(&mut self) -> CookieRequest {
        match self.requests.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

impl Drop for CookieRequests {
    fn drop(&mut self) {
        let requests = {
            let mut current = self.player.lock();
            let rare = current.rare.as_mut();
            let requests = rare.and_then(|rare| rare.cookie_requests.take());
            let is_empty = |rare: &mut Box<Rare>| rare.kick.is_none() && rare.commands.is_none();
            current.rare.take_if(is_empty);
            requests
        };
        // Without the lock.
        drop(requests);
    }
}

/// A requested switch to another server, shared by the requester and the session.
#[derive(Debug)]
struct SwitchState {
    target: String,
    by: By,
    /// Whether the session has taken it.
    has_begun: AtomicBool,
    outcome: watch::Sender<Option<Result<(), NotSwitched>>>,
}

impl SwitchState {
    /// Ends the switch with this reason, unless it has ended.
    fn end(&self, reason: NotSwitched) {
        self.outcome.send_if_modified(|outcome| {
            let is_open = outcome.is_none();
            outcome.get_or_insert(Err(reason));
            is_open
        });
    }
}

/// Who requests a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// The player, by a command.
    Player,
    /// Another player or an operator, of this name.
    Admin(String),
    /// The plugin of this id.
    Plugin(String),
    /// A backend of the network.
    Backend,
}

impl By {
    /// The word in the log.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Player => "player",
            Self::Admin(_) => "admin",
            Self::Plugin(_) => "plugin",
            Self::Backend => "backend",
        }
    }

    /// The name of the requester; empty if it has none.
    pub(crate) fn who(&self) -> &str {
        match self {
            Self::Admin(name) | Self::Plugin(name) => name,
            Self::Player | Self::Backend => "",
        }
    }
}

/// Why a requested switch did not bring the player to the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NotSwitched {
    /// The network has no server of this name.
    UnknownServer,
    /// The player is on that server already.
    AlreadyThere,
    /// Another switch runs, or the player is between two servers.
    Busy,
    /// The player has left the proxy, or is leaving.
    Gone,
    /// The server refused the player with this text, which the player was shown.
    Refused {
        /// A component.
        text: Value,
    },
}

/// The requester's handle of a switch. The switch continues when this is dropped.
#[derive(Debug)]
pub(crate) struct SwitchHandle(
    Result<watch::Receiver<Option<Result<(), NotSwitched>>>, NotSwitched>,
);

impl SwitchHandle {
    /// Waits until the switch has ended, and returns its result. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why the player is not on the server.
    pub(crate) async fn outcome(self) -> Result<(), NotSwitched> {
        let mut outcome = self.0?;
        let ended = outcome.wait_for(Option::is_some).await;
        ended.map_or(Err(NotSwitched::Gone), |ended| {
            ended.clone().unwrap_or(Err(NotSwitched::Gone))
        })
    }
}

/// A requested switch that the player's session has taken. Dropping it without
/// [`end`](Self::end) reports that the player has left.
#[derive(Debug)]
pub(crate) struct SwitchRequest {
    player: Arc<PlayerHandle>,
    switch: Arc<SwitchState>,
}

impl SwitchRequest {
    /// The id of the server.
    pub(crate) fn target(&self) -> &str {
        &self.switch.target
    }

    /// Who has requested it.
    pub(crate) fn by(&self) -> &By {
        &self.switch.by
    }

    /// Ends the switch with this result.
    pub(crate) fn end(self, outcome: Result<(), NotSwitched>) {
        self.close();
        self.switch.outcome.send_replace(Some(outcome));
    }

    /// Allows the next request. Called before the result is sent, so that the receiver of
    /// the result can request again at once.
    fn close(&self) {
        let is_this = |switch: &mut Arc<SwitchState>| Arc::ptr_eq(switch, &self.switch);
        self.player.lock().switch.take_if(is_this);
    }
}

impl Drop for SwitchRequest {
    fn drop(&mut self) {
        self.close();
        self.switch.end(NotSwitched::Gone);
    }
}

/// A component for the chat of one or many players. The packets are written once for each
/// version.
pub(crate) struct ChatLine<'a> {
    text: &'a Value,
    /// The packets by the version's protocol; `None` if they cannot be written.
    written: HashMap<i32, Option<Vec<Vec<u8>>>>,
}

impl<'a> ChatLine<'a> {
    pub(crate) fn new(text: &'a Value) -> Self {
        Self {
            text,
            written: HashMap::new(),
        }
    }

    /// Sends it to this player. See [`PlayerHandle::send`].
    pub(crate) fn send(&mut self, player: &PlayerHandle) {
        let version = player.version;
        let written = self.written.entry(version.protocol()).or_insert_with(|| {
            let chat = |text: &Value| message(version, State::Play, &Message::Chat(text));
            let packets = chat(self.text).or_else(|_| chat(&text::shortened(self.text)));
            let log =
                |error: &_| debug!(player = &*player.name, %error, "a message cannot be written");
            packets.inspect_err(log).ok()
        });
        if let Some(packets) = written
            && player.put(Direction::Clientbound, packets.clone()) == Err(Full)
        {
            debug!(
                player = &*player.name,
                "a message is dropped: too many wait"
            );
        }
    }
}

impl PlayerHandle {
    /// A player who joins this server.
    pub(crate) fn new(details: PlayerDetails, server: &Arc<str>) -> Arc<Self> {
        let PlayerDetails {
            number,
            name,
            uuid,
            version,
            address,
            scope,
            counters,
            is_proved,
        } = details;
        Arc::new(Self {
            number,
            name,
            uuid,
            version,
            address,
            scope,
            counters,
            is_proved,
            replaced: Flag::default(),
            is_gone: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            is_unavailable: AtomicBool::new(true),
            current: Mutex::new(Current {
                server: Arc::clone(server),
                outbox: Arc::default(),
                switch: None,
                rare: None,
            }),
            requested: AtomicWaker::new(),
        })
    }

    /// The number of the session, as plugins see it.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The player's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name, if it is not proved.
    pub(super) fn unproved_name(&self) -> Option<&str> {
        (!self.is_proved).then_some(&*self.name)
    }

    /// The player id, as plugins see it.
    pub(crate) const fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// The client's version of the game.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// The client's address.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The network of the server, if it belongs to one.
    pub(crate) fn network(&self) -> Option<&str> {
        network_of(&self.scope)
    }

    /// The scope of the roster in which the login is.
    pub(super) const fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// The id of the current server.
    pub(crate) fn server(&self) -> Arc<str> {
        Arc::clone(&self.lock().server)
    }

    /// Whether this is the id of the current server.
    pub(crate) fn is_on(&self, server: &str) -> bool {
        *self.lock().server == *server
    }

    /// Counts a command of the proxy. False if the player sends too many.
    pub(crate) fn may_command(&self) -> bool {
        let now = Instant::now();
        let new = || Bucket::new(COMMANDS_PER_SECOND_MAX, COMMANDS_WINDOW, now);
        let mut current = self.lock();
        let commands = current.rare().commands.get_or_insert_with(new);
        commands.take(1, now)
    }

    /// The bytes of the session.
    pub(crate) const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Set when another login of the player replaces this one.
    pub(crate) const fn replaced(&self) -> &Flag {
        &self.replaced
    }

    /// Ends the session, whether the player is in the game or not yet, so that another login
    /// can take its place.
    pub(super) fn replace(&self) {
        self.replaced.set();
        self.requested.wake();
    }

    /// Ends the session, because the proxy ends all. A session that is not in the game yet
    /// has to look for that by itself.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.requested.wake();
    }

    /// Completes when the login has no entry in the roster any more. Cancel safe.
    pub(super) async fn gone(&self) {
        let is_gone = || self.is_gone.load(Ordering::Acquire);
        self.replaced.wait_until(is_gone).await;
    }

    /// The login has no entry in the roster any more.
    pub(super) fn set_gone(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.replaced.wake();
    }

    /// Whether the client has ended its stream, and only the backend keeps the session open. A
    /// player who comes back does not wait for that.
    pub(crate) fn is_leaving(&self) -> bool {
        self.counters.client_has_ended()
    }

    /// Ready when the client has ended its stream. Only the player's session calls this.
    pub(crate) fn poll_leaving(&self, context: &Context<'_>) -> Poll<()> {
        self.counters.poll_client_end(context)
    }

    /// Requests a switch to another server of the network, and returns at once. A request
    /// for the target of a running switch joins that switch; for another target it is
    /// refused.
    pub(crate) fn switch(&self, target: &str, by: By) -> SwitchHandle {
        let mut current = self.lock();
        if let Some(switch) = &current.switch {
            return SwitchHandle(match switch.target == target {
                true => Ok(switch.outcome.subscribe()),
                false => Err(NotSwitched::Busy),
            });
        }
        let refused = if self.is_leaving() {
            Some(NotSwitched::Gone)
        } else if self.network().is_none() {
            Some(NotSwitched::UnknownServer)
        } else if self.is_unavailable.load(Ordering::Relaxed) {
            Some(NotSwitched::Busy)
        } else {
            (&*current.server == target).then_some(NotSwitched::AlreadyThere)
        };
        if let Some(refused) = refused {
            return SwitchHandle(Err(refused));
        }
        let (outcome, receiver) = watch::channel(None);
        current.switch = Some(Arc::new(SwitchState {
            target: target.to_owned(),
            by,
            has_begun: AtomicBool::new(false),
            outcome,
        }));
        drop(current);
        self.requested.wake();
        SwitchHandle(Ok(receiver))
    }

    /// The next request of others, once there is one. Only the player's session calls this.
    pub(crate) fn poll_request(self: &Arc<Self>, context: &Context<'_>) -> Poll<SessionRequest> {
        // Before the look: what comes after it wakes the session again.
        self.requested.register(context.waker());
        let current = self.lock();
        let is_stopped = self.is_stopped.load(Ordering::Acquire);
        if current.kick().is_some() || self.replaced.is_set() || is_stopped {
            return Poll::Ready(SessionRequest::End);
        }
        match &current.switch {
            Some(switch) if !switch.has_begun.swap(true, Ordering::Relaxed) => {
                Poll::Ready(SessionRequest::Switch(SwitchRequest {
                    player: Arc::clone(self),
                    switch: Arc::clone(switch),
                }))
            }
            _ => Poll::Pending,
        }
    }

    /// Sets the current server and its outbox. Packets that wait in the outbox of the
    /// server before are dropped.
    pub(crate) fn set_server(&self, server: &Arc<str>, outbox: &Arc<Outbox>) {
        let mut current = self.lock();
        current.server = Arc::clone(server);
        let before = std::mem::replace(&mut current.outbox, Arc::clone(outbox));
        drop(current);
        // Without the lock: its end wakes those who wait for a cookie.
        drop(before);
    }

    /// The player is in the game: a switch can be requested.
    pub(crate) fn set_available(&self) {
        let _current = self.lock();
        self.is_unavailable.store(false, Ordering::Relaxed);
    }

    /// Whether the player is in the game of the current server, and which of these ids that
    /// server has.
    pub(super) fn place_in(&self, servers: &[&str]) -> Option<usize> {
        let current = self.lock();
        if self.is_unavailable.load(Ordering::Relaxed) {
            return None;
        }
        servers
            .iter()
            .position(|server| **server == *current.server)
    }

    /// The player has no backend, or is leaving: no switch can be requested, and one that
    /// the session has not taken ends.
    pub(crate) fn set_unavailable(&self) {
        let is_new = |switch: &mut Arc<SwitchState>| !switch.has_begun.load(Ordering::Relaxed);
        let switch = {
            let mut current = self.lock();
            self.is_unavailable.store(true, Ordering::Relaxed);
            current.switch.take_if(is_new)
        };
        // Without the lock: the waker of a plugin may use the handle.
        if let Some(switch) = switch {
            switch.end(match self.is_leaving() {
                true => NotSwitched::Gone,
                false => NotSwitched::Busy,
            });
        }
    }

    /// Sends a component as a line of chat, as soon as the player is in the game. It is
    /// shortened if it is too long for the version, and dropped if too many packets wait.
    pub(crate) fn send(&self, text: &Value) {
        ChatLine::new(text).send(self);
    }

    /// From now on, until the result is dropped, requests for cookies go to its owner, who
    /// keeps the client while it has no backend.
    pub(crate) fn take_cookie_requests(self: &Arc<Self>) -> CookieRequests {
        // A login asks for one cookie after the other.
        let (sender, requests) = mpsc::channel(1);
        self.lock().rare().cookie_requests = Some(sender);
        CookieRequests {
            player: Arc::clone(self),
            requests,
        }
    }

    /// Asks the client for a cookie, in the game or without a backend (1.20.5). `None` if it
    /// has none, or does not answer within [`COOKIE_WAIT`].
    pub(super) async fn cookie(&self, name: &str) -> Option<Vec<u8>> {
        let requests = {
            let current = self.lock();
            let rare = current.rare.as_ref();
            rare.and_then(|rare| rare.cookie_requests.clone())
        };
        let Some(requests) = requests else {
            return self.cookie_in_game(name).await;
        };
        let (answer, answered) = oneshot::channel();
        let name = name.to_owned();
        let asking = async {
            requests.send(CookieRequest { name, answer }).await.ok()?;
            answered.await.ok()?
        };
        timeout(COOKIE_WAIT, asking).await.ok()?
    }

    async fn cookie_in_game(&self, name: &str) -> Option<Vec<u8>> {
        let outbox = {
            let current = self.lock();
            let is_unavailable = self.is_unavailable.load(Ordering::Relaxed);
            (!is_unavailable).then(|| Arc::clone(&current.outbox))?
        };
        let id = self.version.id(State::Play, Clientbound::CookieRequest)?;
        let mut request = vec![id];
        write_string(name, &mut request);
        let answer = outbox.ask_cookie(name, PROXY_SENDER, request).ok()?;
        timeout(COOKIE_WAIT, answer).await.ok()?.ok()?
    }

    /// Appends play packets to those that wait in this direction.
    ///
    /// # Errors
    ///
    /// If too many packets of the proxy wait in this direction.
    pub(crate) fn put(&self, direction: Direction, packets: Vec<Vec<u8>>) -> Result<(), Full> {
        let outbox = Arc::clone(&self.lock().outbox);
        outbox.put(direction, PROXY_SENDER, packets)
    }

    /// Ends the session with a component. Only the first call has an effect.
    pub(crate) fn kick(&self, text: Value) {
        self.lock().rare().kick.get_or_insert(text);
        self.requested.wake();
    }

    /// The component of the kick, if the player was kicked.
    pub(crate) fn kick_text(&self) -> Option<Value> {
        self.lock().kick().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Under the lock nothing is left half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl PlayerHandle {
    /// A player of this name who comes to server `a`.
    pub(super) fn named(name: &str) -> Arc<Self> {
        Self::in_scope("network main", [0; 16], name, true)
    }

    /// The same with a name that is proved or not.
    pub(super) fn in_scope(scope: &str, uuid: [u8; 16], name: &str, is_proved: bool) -> Arc<Self> {
        let details = PlayerDetails {
            name: name.into(),
            uuid,
            is_proved,
            version: Version::of(767).unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            number: 1,
            scope: scope.into(),
            counters: Arc::default(),
        };
        Self::new(details, &"a".into())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::task::{Wake, Waker};

    use super::*;

    /// A waker that requests a switch, and records whether that was accepted.
    struct AsksAgain {
        player: Arc<PlayerHandle>,
        is_taken: Mutex<Option<bool>>,
    }

    fn player_on_a() -> Arc<PlayerHandle> {
        let player = PlayerHandle::named("Notch");
        player.set_available();
        player
    }

    /// Polls a request that has not ended.
    fn poll_with(asks_again: &Arc<AsksAgain>, request: Pin<&mut impl Future>) {
        let waker = Waker::from(Arc::clone(asks_again));
        let poll = request.poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
    }

    /// The receiver of a result may use the handle inside its waker, also if the switch ends
    /// because the player has left the server.
    #[test]
    fn a_waker_may_use_the_handle() {
        let player = player_on_a();
        let asks_again = Arc::new(AsksAgain {
            player: Arc::clone(&player),
            is_taken: Mutex::default(),
        });
        let mut outcome = pin!(player.switch("b", By::Player).outcome());
        poll_with(&asks_again, outcome.as_mut());
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            player.set_unavailable();
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(240)).unwrap();
        assert_eq!(*asks_again.is_taken.lock().unwrap(), Some(false));
    }

    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            let request = self.player.switch("c", By::Player);
            *self.is_taken.lock().unwrap() = Some(request.0.is_ok());
        }
    }

    /// The receiver of a switch's result can request the next switch at once, and the end
    /// of the first does not remove that request.
    #[tokio::test]
    async fn a_switch_can_follow_another() {
        let player = player_on_a();
        let request = player.switch("b", By::Player);
        let next_request = || poll_fn(|context| player.poll_request(context));
        let next_switch = async || match next_request().await {
            SessionRequest::Switch(switch) => switch,
            SessionRequest::End => panic!("nobody ends the session"),
        };
        let taken = next_switch().await;
        let asks_again = Arc::new(AsksAgain {
            player: Arc::clone(&player),
            is_taken: Mutex::default(),
        });
        let mut outcome = pin!(request.outcome());
        poll_with(&asks_again, outcome.as_mut());
        taken.end(Ok(()));
        assert_eq!(*asks_again.is_taken.lock().unwrap(), Some(true));
        assert_eq!(outcome.await, Ok(()));
        assert_eq!(next_switch().await.target(), "c");
    }

    /// What an idle player of the intercepted modes holds for others.
    #[test]
    fn a_handle_is_small() {
        /// Measured: 216 bytes on 64 bits, with the login in the roster, and with some room
        /// for other compilers.
        const HANDLE_BYTES_MAX: usize = 232;
        let bytes = size_of::<PlayerHandle>();
        assert!(bytes <= HANDLE_BYTES_MAX, "{bytes} bytes");
    }
}
