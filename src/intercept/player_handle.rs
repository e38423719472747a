//! The players in the game: on which server each of them is, and how others than his
//! own two peers reach him.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::forward::{Counters, Direction, Full, Outbox};
use crate::limit::Bucket;
use crate::protocol::packet::message::{Message, message};
use crate::protocol::packet::{State, Version};
use crate::protocol::text;

/// The sender of the proxy's own packets in an [`Outbox`]. Plugins count from zero.
const PROXY_SENDER: u64 = u64::MAX;

/// The most commands of the proxy a second of one player, on average. One may list all
/// players of a network or log in at another server, and some clients send several
/// with one key.
const COMMANDS_PER_SECOND_MAX: u64 = 20;
/// What may come at once is what would be allowed in this time.
const COMMANDS_WINDOW: Duration = Duration::from_secs(4);

/// A player in the game. One for each session; it outlasts his backends.
#[derive(Debug)]
pub(crate) struct PlayerHandle {
    number: u64,
    name: String,
    uuid: [u8; 16],
    version: Version,
    address: SocketAddr,
    network: Option<String>,
    counters: Arc<Counters>,
    current: Mutex<Current>,
    /// The commands of the proxy that he may still send.
    commands: Mutex<Bucket>,
    /// Wakes his session for a request.
    requested: Notify,
    /// Cancelled when others than a plugin send him away.
    kicked: CancellationToken,
}

/// Who a player is, for [`PlayerHandle::new`].
#[derive(Debug)]
pub(crate) struct PlayerDetails {
    /// As plugins know him.
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) uuid: [u8; 16],
    pub(crate) version: Version,
    /// The client's address.
    pub(crate) address: SocketAddr,
    pub(crate) network: Option<String>,
    pub(crate) counters: Arc<Counters>,
}

/// What changes while a player is in the game.
#[derive(Debug)]
struct Current {
    server: Arc<str>,
    outbox: Arc<Outbox>,
    /// He has no backend, is not yet in the game, or leaves: nobody can ask for him.
    is_unavailable: bool,
    /// A switch that somebody has asked for, and that has not ended.
    switch: Option<Arc<SwitchState>>,
    /// The text with which he is sent away.
    kick: Option<Value>,
}

/// A switch that somebody has asked for.
#[derive(Debug)]
struct SwitchState {
    target: String,
    by: By,
    /// Whether the session has begun with it.
    has_begun: AtomicBool,
    outcome: watch::Sender<Option<Result<(), NotSwitched>>>,
}

impl SwitchState {
    /// Ends it so, unless it has ended.
    fn end(&self, reason: NotSwitched) {
        self.outcome.send_if_modified(|outcome| {
            let is_open = outcome.is_none();
            outcome.get_or_insert(Err(reason));
            is_open
        });
    }
}

/// Who asks for a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// The player himself.
    Player,
    /// A player or operator of this name, for another one.
    Admin(String),
    /// The plugin of this id.
    Plugin(String),
    /// A backend of the network.
    Backend,
}

impl By {
    /// The word in logs.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Player => "player",
            Self::Admin(_) => "admin",
            Self::Plugin(_) => "plugin",
            Self::Backend => "backend",
        }
    }

    /// The name of who has asked, where there is one.
    pub(crate) fn who(&self) -> &str {
        match self {
            Self::Admin(name) | Self::Plugin(name) => name,
            Self::Player | Self::Backend => "",
        }
    }
}

/// Why a player is not on the server that somebody has asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NotSwitched {
    /// The network has no server of this name.
    UnknownServer,
    /// He is there.
    AlreadyThere,
    /// He is on his way to another server.
    Busy,
    /// He has left, or leaves.
    Gone,
    /// The server does not let him in, for this reason. He has read it.
    Refused {
        /// A component.
        text: Value,
    },
}

/// A switch that was asked for. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct SwitchHandle(
    Result<watch::Receiver<Option<Result<(), NotSwitched>>>, NotSwitched>,
);

impl SwitchHandle {
    /// What has become of it. Cancel safe.
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

/// A switch with which the player's session has begun. Its drop without
/// [`end`](Self::end) means that the player has left.
#[derive(Debug)]
pub(crate) struct SwitchRequest {
    present: Arc<PlayerHandle>,
    switch: Arc<SwitchState>,
}

impl SwitchRequest {
    /// The id of the server.
    pub(crate) fn target(&self) -> &str {
        &self.switch.target
    }

    /// Who has asked.
    pub(crate) fn by(&self) -> &By {
        &self.switch.by
    }

    /// The switch has ended so.
    pub(crate) fn end(self, outcome: Result<(), NotSwitched>) {
        self.close();
        self.switch.outcome.send_replace(Some(outcome));
    }

    /// The next switch can be asked for: by whoever learns how this one has ended.
    fn close(&self) {
        let is_this = |switch: &mut Arc<SwitchState>| Arc::ptr_eq(switch, &self.switch);
        self.present.lock().switch.take_if(is_this);
    }
}

impl Drop for SwitchRequest {
    fn drop(&mut self) {
        self.close();
        self.switch.end(NotSwitched::Gone);
    }
}

impl PlayerHandle {
    /// A player who comes into the game of this server.
    pub(crate) fn new(details: PlayerDetails, server: &str) -> Arc<Self> {
        let PlayerDetails {
            number,
            name,
            uuid,
            version,
            address,
            network,
            counters,
        } = details;
        Arc::new(Self {
            number,
            name,
            uuid,
            version,
            address,
            network,
            counters,
            current: Mutex::new(Current {
                server: server.into(),
                outbox: Arc::default(),
                is_unavailable: true,
                switch: None,
                kick: None,
            }),
            commands: Mutex::new(Bucket::new(
                COMMANDS_PER_SECOND_MAX,
                COMMANDS_WINDOW,
                Instant::now(),
            )),
            requested: Notify::new(),
            kicked: CancellationToken::new(),
        })
    }

    /// His number, as plugins know it: the same on every server of his session.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// His name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// His id, as plugins know it.
    pub(crate) const fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The version of the game that his client speaks.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// The address of his client.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The network between whose servers he can move.
    pub(crate) fn network(&self) -> Option<&str> {
        self.network.as_deref()
    }

    /// The id of the server on which he is.
    pub(crate) fn server(&self) -> Arc<str> {
        Arc::clone(&self.lock().server)
    }

    /// Whether he may send another command of the proxy current, which then counts.
    pub(crate) fn may_command(&self) -> bool {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.take(1, Instant::now())
    }

    /// Whether his client has ended its stream.
    pub(super) fn is_leaving(&self) -> bool {
        self.counters.client_has_ended()
    }

    /// Asks his session to bring him to another server of his network, and returns
    /// at once. Two requests for one server are one; while one for another runs,
    /// this is refused.
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
        } else if self.network.is_none() {
            Some(NotSwitched::UnknownServer)
        } else if current.is_unavailable {
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
        self.requested.notify_one();
        SwitchHandle(Ok(receiver))
    }

    /// The next switch that somebody has asked for. For his session alone. Cancel
    /// safe.
    pub(crate) async fn next_switch(self: &Arc<Self>) -> SwitchRequest {
        loop {
            if let Some(switch) = &self.lock().switch
                && !switch.has_begun.swap(true, Ordering::Relaxed)
            {
                return SwitchRequest {
                    present: Arc::clone(self),
                    switch: Arc::clone(switch),
                };
            }
            self.requested.notified().await;
        }
    }

    /// He is on this server from now on, and packets of others for him and for its
    /// backend are put here. What waits for the one before is dropped.
    pub(crate) fn set_server(&self, server: &str, outbox: &Arc<Outbox>) {
        let mut current = self.lock();
        if &*current.server != server {
            current.server = server.into();
        }
        current.outbox = Arc::clone(outbox);
    }

    /// He plays, and can be asked for.
    pub(crate) fn set_available(&self) {
        self.lock().is_unavailable = false;
    }

    /// He has no backend, or leaves: nobody can ask for him, and a request with which
    /// his session has not begun is over.
    pub(crate) fn set_unavailable(&self) {
        let mut current = self.lock();
        current.is_unavailable = true;
        let is_new = |switch: &mut Arc<SwitchState>| !switch.has_begun.load(Ordering::Relaxed);
        if let Some(switch) = current.switch.take_if(is_new) {
            switch.end(match self.is_leaving() {
                true => NotSwitched::Gone,
                false => NotSwitched::Busy,
            });
        }
    }

    /// Sends him a component as a line of chat, as soon as he is in the game. It is
    /// shortened where it is too long for his version, and dropped where too much waits.
    pub(crate) fn send(&self, text: &Value) {
        let chat = |text: &Value| message(self.version, State::Play, &Message::Chat(text));
        match chat(text).or_else(|_| chat(&text::shortened(text))) {
            Ok(packets) => {
                let put = self.put(Direction::Clientbound, packets);
                if put == Err(Full) {
                    debug!(player = self.name, "a message is dropped: too many wait");
                }
            }
            Err(error) => debug!(player = self.name, %error, "a message cannot be written"),
        }
    }

    /// Puts packets of the game behind those that wait in this direction.
    ///
    /// # Errors
    ///
    /// When too much of the proxy's waits there.
    pub(crate) fn put(&self, direction: Direction, packets: Vec<Vec<u8>>) -> Result<(), Full> {
        let outbox = Arc::clone(&self.lock().outbox);
        outbox.put(direction, PROXY_SENDER, packets)
    }

    /// Sends him away with a component; the first one counts.
    pub(crate) fn kick(&self, text: Value) {
        self.lock().kick.get_or_insert(text);
        self.kicked.cancel();
    }

    /// Completes when he is sent away. Cancel safe.
    pub(crate) async fn kicked(&self) {
        self.kicked.cancelled().await;
    }

    /// The component with which he is sent away, if he is.
    pub(crate) fn kick_text(&self) -> Option<Value> {
        self.lock().kick.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Under the lock nothing is left half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::*;

    /// Asks for a switch as soon as it is woken, and remembers whether it may.
    struct AsksAgain {
        present: Arc<PlayerHandle>,
        is_taken: Mutex<Option<bool>>,
    }

    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            let request = self.present.switch("c", By::Player);
            *self.is_taken.lock().unwrap() = Some(request.0.is_ok());
        }
    }

    /// Whoever learns that a switch has ended can ask for the next one, and the end of
    /// the first does not take that away.
    #[tokio::test]
    async fn a_switch_can_follow_another() {
        let details = PlayerDetails {
            name: "Notch".to_owned(),
            uuid: [0; 16],
            version: Version::of(767).unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            number: 1,
            network: Some("main".to_owned()),
            counters: Arc::default(),
        };
        let present = PlayerHandle::new(details, "a");
        present.set_available();
        let request = present.switch("b", By::Player);
        let order = present.next_switch().await;
        let asks_again = Arc::new(AsksAgain {
            present: Arc::clone(&present),
            is_taken: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&asks_again));
        let mut outcome = pin!(request.outcome());
        let poll = outcome.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        order.end(Ok(()));
        assert_eq!(*asks_again.is_taken.lock().unwrap(), Some(true));
        assert_eq!(outcome.await, Ok(()));
        assert_eq!(present.next_switch().await.target(), "c");
    }
}
