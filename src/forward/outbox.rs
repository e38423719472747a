//! Packets that plugins and the proxy add to a session, besides those of its two peers.
//!
//! A sender may be on any thread, and never waits. A packet waits in a bounded queue until
//! the driver of the session is between two frames and the receiver accepts it. The outbox
//! notifies the driver.
//!
//! It also has the requests for cookies that the client has not answered: those of plugins,
//! and the names of those of the backend.

use std::collections::VecDeque;
#[cfg(target_os = "linux")]
use std::fmt;
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::oneshot;

use super::Direction;
use crate::protocol::packet::login::COOKIE_BYTES_MAX;
use crate::protocol::read::Cursor;

/// The most packets of one sender that wait in one direction. They wait, for example,
/// while the player is in the configuration phase; more would be outdated afterwards.
pub(crate) const WAITING_PACKETS_MAX: usize = 128;
/// The most bytes of packets of one sender that wait in one direction.
pub(crate) const WAITING_BYTES_MAX: usize = 512 * 1024;

/// The packets that wait to be put into one session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// The number that waits in each direction, readable without the lock. Small, since each
    /// session has an outbox.
    counts: [AtomicU32; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    /// `None` while there is nothing: most sessions never have any.
    content: Option<Box<Content>>,
    driver: Option<Driver>,
    /// The driver was notified and the driver has not run since, so no second call is needed.
    is_woken: bool,
    /// The relay of the session is to end.
    is_stopped: bool,
}

/// What drives a session.
#[derive(Debug, Clone)]
pub(super) enum Driver {
    /// A task that drives it alone.
    Task(Waker),
    /// One for many sessions, which knows this one by a number.
    #[cfg(target_os = "linux")]
    Shared(Arc<dyn Mailbox>, u64),
}

/// Where a driver of many sessions learns which of them have packets.
#[cfg(target_os = "linux")]
pub(super) trait Mailbox: fmt::Debug + Send + Sync {
    /// The session with this number has packets. Returns a waker if the driver has to be
    /// woken; it is the same for all sessions.
    fn notify(self: Arc<Self>, session: u64) -> Option<Waker>;
}

impl Driver {
    /// Notifies the driver. Returns a waker if it has to be woken.
    fn notify(self) -> Option<Waker> {
        match self {
            Self::Task(waker) => Some(waker),
            #[cfg(target_os = "linux")]
            Self::Shared(mailbox, session) => mailbox.notify(session),
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    /// The packets that wait, for each direction.
    queues: [VecDeque<Queued>; 2],
    /// The cookies that plugins have requested from the client.
    cookies: Vec<AskedCookie>,
    /// The names of those that the backend has requested.
    of_backend: Vec<Box<str>>,
}

impl Content {
    fn is_empty(&self) -> bool {
        let Self {
            queues,
            cookies,
            of_backend,
        } = self;
        cookies.is_empty() && of_backend.is_empty() && queues.iter().all(VecDeque::is_empty)
    }
}

impl Waiting {
    /// Appends packets to the queue of this direction, all or none. Returns how many then
    /// wait there.
    fn append(
        &mut self,
        direction: Direction,
        sender: u64,
        packets: Vec<Vec<u8>>,
    ) -> Result<usize, Full> {
        let content = self.content.iter();
        let of_sender = content
            .flat_map(|content| &content.queues[direction as usize])
            .filter(|queued| queued.sender == sender);
        let sizes = of_sender.map(|queued| queued.packet.len());
        let (count, bytes) = sizes
            .chain(packets.iter().map(Vec::len))
            .fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if count > WAITING_PACKETS_MAX || bytes > WAITING_BYTES_MAX {
            return Err(Full);
        }
        let content = self.content.get_or_insert_default();
        let queue = &mut content.queues[direction as usize];
        queue.extend(packets.into_iter().map(|packet| Queued { sender, packet }));
        Ok(queue.len())
    }

    /// Frees the content if nothing is left.
    fn shrink(&mut self) {
        self.content.take_if(|content| content.is_empty());
    }
}

#[derive(Debug)]
struct Queued {
    sender: u64,
    packet: Vec<u8>,
}

/// The key of a cookie, and the sender for its answer.
type AskedCookie = (Box<str>, oneshot::Sender<Option<Vec<u8>>>);

/// The most unanswered cookie requests of plugins to one client. Those of its backend
/// have a limit of their own.
const COOKIES_ASKED_MAX: usize = 64;
/// The most characters of the key of a cookie (the game).
const COOKIE_KEY_CHARS_MAX: usize = 32_767;

/// The limits of the sender are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbox {
    /// Appends packets, each with its id and fields, to those that wait in this direction:
    /// all or none.
    ///
    /// # Errors
    ///
    /// If the sender would exceed its limits.
    pub(crate) fn put(
        &self,
        direction: Direction,
        sender: u64,
        packets: Vec<Vec<u8>>,
    ) -> Result<(), Full> {
        let mut waiting = self.lock();
        let count = waiting.append(direction, sender, packets)?;
        self.set_count(direction, count);
        if let Some(waker) = Self::notify_and_unlock(waiting) {
            waker.wake();
        }
        Ok(())
    }

    /// Ends the relay of the session, which closes the connection to the backend.
    pub(crate) fn stop(&self) {
        let mut waiting = self.lock();
        waiting.is_stopped = true;
        if let Some(waker) = Self::notify_and_unlock(waiting) {
            waker.wake();
        }
    }

    /// Whether the relay is to end. The driver asks each time that it was notified.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Notifies the driver although no packet was put here: an answer waits in the
    /// queries. Returns a waker if the driver has to be woken.
    pub(super) fn notify_driver(&self) -> Option<Waker> {
        Self::notify_and_unlock(self.lock())
    }

    fn notify_and_unlock(mut waiting: MutexGuard<'_, Waiting>) -> Option<Waker> {
        let is_woken = std::mem::replace(&mut waiting.is_woken, true);
        let driver = waiting.driver.clone().filter(|_| !is_woken);
        drop(waiting);
        driver?.notify()
    }

    /// Appends the packet that requests the cookie of this key from the client. The receiver
    /// gets the answer, and the backend does not.
    ///
    /// # Errors
    ///
    /// When too many requests have no answer yet, or the sender would exceed its limits. Then
    /// nothing is requested: an answer with this key is for the backend.
    pub(crate) fn ask_cookie(
        &self,
        key: &str,
        sender: u64,
        request: Vec<u8>,
    ) -> Result<oneshot::Receiver<Option<Vec<u8>>>, Full> {
        // A request also counts if its caller no longer waits: the answer still comes.
        let mut waiting = self.lock();
        let asked = waiting
            .content
            .as_ref()
            .map_or(0, |content| content.cookies.len());
        if asked >= COOKIES_ASKED_MAX {
            return Err(Full);
        }
        let direction = Direction::Clientbound;
        let count = waiting.append(direction, sender, vec![request])?;
        self.set_count(direction, count);
        let (answer, receiver) = oneshot::channel();
        let content = waiting.content.get_or_insert_default();
        content.cookies.push((key.into(), answer));
        if let Some(waker) = Self::notify_and_unlock(waiting) {
            waker.wake();
        }
        Ok(receiver)
    }

    /// Takes a client's answer, if it is for a request of a plugin; true if it is.
    pub(super) fn answer_cookie(&self, fields: &[u8]) -> bool {
        let mut cursor = Cursor::new(fields);
        let Ok(key) = cursor.string(COOKIE_KEY_CHARS_MAX) else {
            return false;
        };
        let mut waiting = self.lock();
        let Some(content) = &mut waiting.content else {
            return false;
        };
        let is_this = |(name, _): &AskedCookie| **name == *key;
        let Some(place) = content.cookies.iter().position(is_this) else {
            return false;
        };
        let data = match cursor.bool() {
            Ok(true) => match cursor.bytes(COOKIE_BYTES_MAX) {
                Ok(data) => Some(data.to_vec()),
                Err(_) => return false,
            },
            Ok(false) => None,
            Err(_) => return false,
        };
        let (_, sender) = content.cookies.remove(place);
        waiting.shrink();
        drop(waiting);
        // Without the lock: the waker of a plugin may ask for the next cookie.
        let _ = sender.send(data);
        true
    }

    /// Gives access to the names of the cookies that the backend has requested and the
    /// client has not answered.
    pub(super) fn with_requested_cookies<T>(
        &self,
        access: impl FnOnce(&mut Vec<Box<str>>) -> T,
    ) -> T {
        let mut waiting = self.lock();
        let accessed = access(&mut waiting.content.get_or_insert_default().of_backend);
        waiting.shrink();
        accessed
    }

    /// Called with the lock.
    fn set_count(&self, direction: Direction, count: usize) {
        // Beyond this number there are more packets than memory.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.counts[direction as usize].store(count, Ordering::Release);
    }

    /// Whether a packet waits in one of the directions.
    pub(super) fn has_any(&self) -> bool {
        [Direction::Clientbound, Direction::Serverbound]
            .into_iter()
            .any(|direction| self.has(direction))
    }

    /// Whether a packet waits in this direction.
    pub(super) fn has(&self, direction: Direction) -> bool {
        self.counts[direction as usize].load(Ordering::Acquire) > 0
    }

    /// Removes the packet that has waited longest.
    pub(super) fn take(&self, direction: Direction) -> Option<Vec<u8>> {
        let mut waiting = self.lock();
        let content = waiting.content.as_mut()?;
        let queue = &mut content.queues[direction as usize];
        let queued = queue.pop_front();
        self.set_count(direction, queue.len());
        waiting.shrink();
        queued.map(|queued| queued.packet)
    }

    /// Sets the driver. It must look into the outbox afterwards, and after each time that
    /// it was notified.
    pub(super) fn set_driver(&self, driver: Driver) {
        self.lock().driver = Some(driver);
    }

    /// Clears `is_woken`: the next packet notifies the driver again.
    pub(super) fn clear_wakeup(&self) {
        self.lock().is_woken = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic under the lock cannot leave half of a change behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Wake};
    use std::time::Duration;

    use super::*;

    /// A waker that asks for the next cookie.
    struct AsksNext(Arc<Outbox>);

    impl Wake for AsksNext {
        fn wake(self: Arc<Self>) {
            drop(self.0.ask_cookie("b", 1, vec![2]));
        }
    }

    /// The receiver of a cookie may ask for the next one inside its waker.
    #[test]
    fn a_waker_may_use_the_outbox() {
        let outbox = Arc::new(Outbox::default());
        let mut receiver = pin!(outbox.ask_cookie("a", 1, vec![1]).unwrap());
        let waker = Waker::from(Arc::new(AsksNext(Arc::clone(&outbox))));
        let poll = receiver.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            assert!(outbox.answer_cookie(b"\x01a\0"));
            assert!(outbox.answer_cookie(b"\x01b\0"));
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(240)).unwrap();
    }

    /// A cookie that could not be requested is not waited for: an answer with its key is for
    /// the backend.
    #[test]
    fn cookies_that_are_not_requested_are_not_taken() {
        let outbox = Outbox::default();
        for _ in 0..WAITING_PACKETS_MAX {
            let put = outbox.put(Direction::Clientbound, 1, vec![vec![7]]);
            assert_eq!(put, Ok(()));
        }
        for _ in 0..2 * COOKIES_ASKED_MAX {
            assert!(outbox.ask_cookie("a", 1, vec![9]).is_err());
        }
        assert!(!outbox.answer_cookie(b"\x01a\0"));
        let mut asked = outbox.ask_cookie("a", 2, vec![9]).unwrap();
        assert!(outbox.answer_cookie(b"\x01a\0"));
        assert_eq!(asked.try_recv(), Ok(None));
        // Only that one was sent.
        let mut sent = std::iter::from_fn(|| outbox.take(Direction::Clientbound));
        assert_eq!(sent.by_ref().skip(WAITING_PACKETS_MAX).count(), 1);
    }

    /// Each direction returns its packets in order, and a sender that has reached its
    /// limits does not reduce those of another.
    #[test]
    fn queues_are_ordered_and_bounded() {
        let outbox = Outbox::default();
        let (to_client, to_backend) = (Direction::Clientbound, Direction::Serverbound);
        let put = |direction, sender, packet| outbox.put(direction, sender, vec![packet]);
        for number in 0..WAITING_PACKETS_MAX {
            let packet = vec![u8::try_from(number).unwrap()];
            assert_eq!(put(to_client, 1, packet), Ok(()));
        }
        assert_eq!(put(to_client, 1, vec![9]), Err(Full));
        assert_eq!(put(to_client, 2, vec![200]), Ok(()));
        assert_eq!(put(to_backend, 1, vec![9]), Ok(()));
        let large = vec![0; WAITING_BYTES_MAX + 1];
        assert_eq!(put(to_backend, 2, large), Err(Full));
        assert!(outbox.has(to_backend));
        assert_eq!(outbox.take(to_backend), Some(vec![9]));
        assert!(!outbox.has(to_backend));
        for number in 0..WAITING_PACKETS_MAX {
            let packet = vec![u8::try_from(number).unwrap()];
            assert_eq!(outbox.take(to_client), Some(packet));
        }
        assert_eq!(outbox.take(to_client), Some(vec![200]));
        assert_eq!(outbox.take(to_client), None);
    }
}
