//! Framed sessions: packets that do not come from the two peers.

use super::*;
use crate::forward::bounds::ClientBounds;
use crate::forward::framed::FrameFilter;
use crate::forward::packets::{Edits, SentState};
use crate::protocol::codec::{Format, Receiver};
use crate::protocol::packet::{State, Version};

/// A framed session of 26.2 in play, under the reactor.
struct FramedRig {
    player: TcpStream,
    server: TcpStream,
    outbox: Arc<Outbox>,
    relay: JoinHandle<Outcome>,
}

impl FramedRig {
    async fn start(handover_delay: Duration) -> Self {
        let Rig {
            player,
            server,
            session,
            ..
        } = rig(NO_LIMITS, None).await;
        let version = Version::of(776).unwrap();
        let to = Receiver {
            format: Format::Plain,
            strict: true,
        };
        let sent = SentState::new(State::Play);
        let outbox = Arc::new(Outbox::default());
        let of_backend = Arc::clone(&outbox);
        let edits = Edits::default();
        let clientbound =
            FrameFilter::clientbound(version, Format::Plain, to, sent, edits, of_backend);
        let (of_client, its) = (ClientBounds::new(), Arc::clone(&outbox));
        let serverbound =
            FrameFilter::serverbound(version, Format::Plain, to, State::Play, of_client, its);
        let filters = FrameFilters {
            serverbound: Box::new(serverbound),
            clientbound: Box::new(clientbound),
            ciphers: None,
        };
        let reactor = Reactor::start(NonZeroUsize::MIN).unwrap();
        let forwarder = reactor
            .forwarder(Method::Copy)
            .with_handover_delay(handover_delay);
        let relay = async move { forwarder.forward_framed(session, filters).await.0 };
        let relay = tokio::spawn(relay);
        Self {
            player,
            server,
            outbox,
            relay,
        }
    }

    fn put(&self, direction: Direction, packet: &[u8]) {
        let packets = vec![packet.to_vec()];
        self.outbox.put(direction, 1, packets).unwrap();
    }

    /// The backend sends packets without fields.
    async fn send(&mut self, ids: &[u8]) {
        let frames: Vec<u8> = ids.iter().flat_map(|id| [1, *id]).collect();
        self.server.write_all(&frames).await.unwrap();
    }

    /// The player reads these packets, and nothing between them.
    async fn read(&mut self, ids: &[u8]) {
        let expected: Vec<u8> = ids.iter().flat_map(|id| [1, *id]).collect();
        let mut read = vec![0; expected.len()];
        let reading = self.player.read_exact(&mut read);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(read, expected);
    }
}

/// Packets of plugins reach an idle session in both directions, while the runtime drives
/// it and after its handover.
#[tokio::test]
async fn plugin_packets_wake_an_idle_session() {
    for handover_delay in [Duration::ZERO, PATIENCE] {
        let mut rig = FramedRig::start(handover_delay).await;
        rig.send(&[0x7C]).await;
        rig.read(&[0x7C]).await;
        for id in [1, 2, 3] {
            rig.put(Direction::Clientbound, &[id]);
            rig.read(&[id]).await;
            rig.put(Direction::Serverbound, &[id]);
            let mut read = [0; 2];
            let reading = rig.server.read_exact(&mut read);
            timeout(PATIENCE, reading).await.unwrap().unwrap();
            assert_eq!(read, [1, id]);
        }
        drop((rig.player, rig.server));
        rig.relay.await.unwrap();
    }
}

/// A stopped outbox ends its session, before and after the handover, and also if it was
/// stopped before the relay began. What was read before is delivered.
#[tokio::test]
async fn a_stopped_outbox_ends_its_session() {
    for handover_delay in [Duration::ZERO, PATIENCE] {
        let mut rig = FramedRig::start(handover_delay).await;
        rig.send(&[0x7C]).await;
        rig.read(&[0x7C]).await;
        rig.outbox.stop();
        let outcome = timeout(PATIENCE, rig.relay).await.unwrap().unwrap();
        assert_eq!((outcome.end, outcome.clientbound_bytes), (End::Stopped, 2));

        let rig = FramedRig::start(handover_delay).await;
        // The relay runs in another task, which this one has not let run yet.
        rig.outbox.stop();
        let outcome = timeout(PATIENCE, rig.relay).await.unwrap().unwrap();
        assert_eq!(outcome.end, End::Stopped);
    }
}

/// Packets of plugins wait until the client is in the game, and until a bundle is closed.
#[tokio::test]
async fn plugin_packets_wait_for_the_game() {
    use crate::protocol::packet::{Clientbound, State, Version};
    let version = Version::of(776).unwrap();
    let id = |state, kind| version.id(state, kind).unwrap();
    let start = id(State::Play, Clientbound::StartConfiguration);
    let finish = id(State::Configuration, Clientbound::FinishConfiguration);
    let join = id(State::Play, Clientbound::JoinGame);
    let bundle = id(State::Play, Clientbound::BundleDelimiter);
    for handover_delay in [Duration::ZERO, PATIENCE] {
        let mut rig = FramedRig::start(handover_delay).await;
        rig.send(&[start]).await;
        rig.read(&[start]).await;
        rig.put(Direction::Clientbound, &[1]);
        rig.send(&[finish, 0x7C]).await;
        rig.read(&[finish, 0x7C]).await;
        rig.send(&[join]).await;
        rig.read(&[join, 1]).await;
        rig.send(&[bundle]).await;
        rig.read(&[bundle]).await;
        rig.put(Direction::Clientbound, &[2]);
        rig.send(&[0x7C]).await;
        rig.read(&[0x7C]).await;
        rig.send(&[bundle, 0x7C]).await;
        rig.read(&[bundle, 0x7C, 2]).await;
        drop((rig.player, rig.server));
        rig.relay.await.unwrap();
    }
}
