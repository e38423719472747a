//! Frames that wait for a decision of plugins: those before them are written together with
//! them, but do not wait long, and nothing is lost if the session ends meanwhile.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infrarust_test_support::{PATIENCE, blocking_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::encryption_tests::{READABLE, framed};
use super::exchange::Exchange;
use super::lane::{Buffers, Method};
use super::queries::{Decider, Decision, PacketGroup, PacketQueries, Wanted};
use super::reactor::Reactor;
use super::{Counters, Direction, End, Outbox, Side};
use crate::protocol::cipher::{self, Cipher};
use crate::protocol::codec::Format;
use crate::protocol::packet::State;

const SECRET: [u8; 16] = [7; 16];
/// A packet that the proxy does not read, of 1.12.2.
const OTHER: u8 = 0x26;
/// One that plugins want.
const WANTED: u8 = 0x0F;

/// Leaves the decisions to the test.
#[derive(Debug, Default)]
struct Later {
    waiting: Mutex<Vec<PacketGroup>>,
    begun: Mutex<usize>,
}

impl Decider for Later {
    fn decide(&self, _: &Arc<PacketQueries>, _: Direction, group: PacketGroup) {
        self.waiting.lock().unwrap().push(group);
    }

    fn begin(&self) {
        *self.begun.lock().unwrap() = self.waiting.lock().unwrap().len();
    }
}

/// A session in which a frame waits for a decision.
struct Rig {
    player: TcpStream,
    /// Kept open.
    _server: TcpStream,
    exchange: Exchange<std::net::TcpStream>,
    buffers: Buffers,
    counters: Arc<Counters>,
    queries: Arc<PacketQueries>,
    later: Arc<Later>,
}

/// Queries of a session with this outbox.
fn queries(outbox: &Arc<Outbox>) -> (Arc<PacketQueries>, Arc<Later>) {
    let wanted =
        Wanted::default().with(State::Play, Direction::Clientbound, [1 << WANTED, 0, 0, 0]);
    let later = Arc::<Later>::default();
    let decider = Arc::clone(&later);
    let queries = PacketQueries::new(wanted, decider, Arc::clone(outbox));
    (Arc::new(queries), later)
}

fn frames(ids: &[u8]) -> Vec<u8> {
    let frame = |id: &u8| [&[31, *id][..], &[*id; 30]].concat();
    ids.iter().flat_map(frame).collect()
}

impl Rig {
    /// The server has sent packets with these ids, up to one that waits.
    async fn waits(is_encrypted: bool, ids: &[u8]) -> Self {
        let cipher = is_encrypted.then(|| Cipher::new(&SECRET));
        let (player, mut server, session, mut filters) = framed(Format::Plain, cipher).await;
        let counters = Arc::clone(&session.counters);
        let (queries, later) = queries(filters.outbox());
        filters.set_queries(&queries);
        let mut exchange = Exchange::framed(session, filters).into_std().unwrap();
        let mut buffers = Buffers::of_encrypting_driver();
        server.write_all(&frames(ids)).await.unwrap();
        blocking_until("a frame to wait", || {
            exchange.ready(Side::Backend, READABLE, &mut buffers);
            !later.waiting.lock().unwrap().is_empty()
        });
        Self {
            player,
            _server: server,
            exchange,
            buffers,
            counters,
            queries,
            later,
        }
    }

    /// Gives decisions about the frames that wait.
    fn decide(&mut self, decisions: Vec<Decision>) {
        self.later.waiting.lock().unwrap().clear();
        let waker = self.queries.answer(Direction::Clientbound, decisions);
        assert!(waker.is_none(), "no driver was set");
        self.exchange.send_out_all(&mut self.buffers);
        self.encrypt();
    }

    fn encrypt(&mut self) {
        while let Some(mut encryption) = self.exchange.take_encryption() {
            let bytes = encryption.left();
            cipher::encrypt_many(&mut [Some(encryption.next_job(bytes))]);
            self.exchange
                .continue_encrypted(encryption, &mut self.buffers);
        }
    }

    fn written_bytes(&self) -> usize {
        usize::try_from(self.counters.get(Direction::Clientbound)).unwrap()
    }

    /// Checks that the player has got the packets with these ids, and nothing else.
    async fn expect(mut self, is_encrypted: bool, ids: &[u8]) {
        let written = self.written_bytes();
        let mut received = vec![0; written];
        let read = timeout(PATIENCE, self.player.read_exact(&mut received)).await;
        read.unwrap().unwrap();
        if is_encrypted {
            Cipher::new(&SECRET).decrypt(&mut received);
        }
        assert_eq!(received, frames(ids));
    }
}

/// The frames around one that waits are written together, in order, with one encryption.
#[tokio::test]
async fn frames_before_a_decision_are_written_with_it() {
    for is_encrypted in [false, true] {
        let ids = [OTHER, OTHER, WANTED, OTHER];
        let mut rig = Rig::waits(is_encrypted, &ids).await;
        assert_eq!(*rig.later.begun.lock().unwrap(), 0);
        rig.buffers.begin_decisions();
        assert_eq!(*rig.later.begun.lock().unwrap(), 1);
        assert!(rig.exchange.is_holding() && !rig.exchange.is_encrypting());
        assert_eq!(rig.written_bytes(), 0);
        rig.decide(vec![Decision::Pass]);
        assert!(!rig.exchange.is_holding());
        rig.expect(is_encrypted, &ids).await;
    }
}

/// Frames are held back further if another one behind them waits, and a dropped one leaves
/// those around it.
#[tokio::test]
async fn frames_are_held_for_several_decisions() {
    for is_encrypted in [false, true] {
        let mut rig = Rig::waits(is_encrypted, &[OTHER, WANTED, OTHER, WANTED, OTHER]).await;
        rig.decide(vec![Decision::Drop(None)]);
        assert!(rig.exchange.is_holding() && rig.written_bytes() == 0);
        rig.decide(vec![Decision::Pass]);
        rig.expect(is_encrypted, &[OTHER, OTHER, WANTED, OTHER])
            .await;
    }
}

/// If the decision takes long, the frames before it are written, and the others follow.
#[tokio::test]
async fn held_frames_are_written_without_the_decision() {
    for is_encrypted in [false, true] {
        let ids = [OTHER, OTHER, WANTED, OTHER];
        let mut rig = Rig::waits(is_encrypted, &ids).await;
        rig.exchange.write_held(&mut rig.buffers);
        rig.encrypt();
        assert!(!rig.exchange.is_holding());
        assert_eq!(rig.written_bytes(), frames(&ids[..2]).len());
        rig.decide(vec![Decision::Pass]);
        rig.expect(is_encrypted, &ids).await;
    }
}

/// Frames that are held back when the session ends are a part of the client's stream.
#[tokio::test]
async fn held_frames_outlive_the_session() {
    for is_encrypted in [false, true] {
        let mut rig = Rig::waits(is_encrypted, &[OTHER, OTHER, WANTED, OTHER]).await;
        rig.exchange.stop(End::Stopped);
        assert_eq!(rig.written_bytes(), 0);
        let returned = rig.exchange.into_returned_client().unwrap();
        let mut backlog = returned.backlog;
        if is_encrypted {
            Cipher::new(&SECRET).decrypt(&mut backlog);
        }
        assert_eq!(backlog, frames(&[OTHER, OTHER]));
    }
}

/// While a frame waits for a short time, what epoll watches does not change; if its sender
/// sends more, that waits unwatched.
#[tokio::test]
async fn a_sender_is_unwatched_only_if_it_sends_more() {
    let mut rig = Rig::waits(false, &[WANTED]).await;
    assert!(rig.exchange.wants(Side::Backend).read);
    rig.exchange
        .ready(Side::Backend, READABLE, &mut rig.buffers);
    assert!(!rig.exchange.wants(Side::Backend).read);
    rig.decide(vec![Decision::Pass]);
    assert!(rig.exchange.wants(Side::Backend).read);
}

/// A relay thread passes on what is before a frame about which no plugin ever decides.
#[tokio::test]
async fn a_relay_thread_does_not_wait_for_a_decision() {
    let cipher = Cipher::new(&SECRET);
    let (mut player, mut server, session, mut filters) = framed(Format::Plain, Some(cipher)).await;
    let (queries, later) = queries(filters.outbox());
    filters.set_queries(&queries);
    let outbox = Arc::clone(filters.outbox());
    let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
    let forwarder = reactor.forwarder(Method::Copy);
    let forwarder = forwarder.with_handover_delay(Duration::ZERO);
    let relay = tokio::spawn(forwarder.forward_framed(session, filters));
    let handed_over = async {
        while forwarder.handed_over() == 0 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, handed_over).await.unwrap();
    server
        .write_all(&frames(&[OTHER, OTHER, WANTED]))
        .await
        .unwrap();
    let before = frames(&[OTHER, OTHER]);
    let mut received = vec![0; before.len()];
    let read = timeout(PATIENCE, player.read_exact(&mut received)).await;
    read.unwrap().unwrap();
    Cipher::new(&SECRET).decrypt(&mut received);
    assert_eq!(received, before);
    blocking_until("the plugins to begin", || *later.begun.lock().unwrap() == 1);
    outbox.stop();
    let (outcome, _) = timeout(PATIENCE, relay).await.unwrap().unwrap();
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!(outcome.clientbound_bytes, before.len() as u64);
}
