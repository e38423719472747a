//! A client that has lost its backend. The proxy keeps the connection alive until the
//! client moves to another backend.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::failure::Failure;
use super::player_handle::{CookieRequest, CookieRequests};
use super::reader::ClosingClient;
use super::wire::{Frame, Parts, Wire};
use crate::forward::Counters;
use crate::forward::bounds::{ClientBounds, Exceeded};
use crate::forward::framed::{ClientInput, ReturnedClient};
use crate::forward::packets::SentState;
use crate::forward::record::PlayerRecord;
use crate::protocol::codec::SERVERBOUND_PACKET_BYTES_MAX;
use crate::protocol::component;
use crate::protocol::packet::login::CookieAnswer;
use crate::protocol::packet::{Clientbound, Serverbound, State, Version};
use crate::protocol::read::{Cursor, write_string};
use crate::protocol::version::{V1_8, V1_12_2};

/// How often the proxy sends a keep alive to a client without a backend. A client
/// disconnects after 30 s without any bytes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A client that has lost its backend.
#[derive(Debug)]
pub(crate) struct DetachedClient {
    pub(super) client: Wire,
    pub(super) version: Version,
    /// What the client has been sent.
    pub(super) sent: SentState,
    /// The state in which the client writes.
    pub(super) serverbound: State,
    /// The limits of the client's packets.
    pub(super) bounds: ClientBounds,
    /// Whether it has been in a world.
    pub(super) has_world: bool,
    pub(super) record: PlayerRecord,
    /// The fields of the text with which the backend has ended the session.
    pub(super) kick: Option<Vec<u8>>,
    /// When it gets the next keep alive.
    pub(super) keep_alive_at: Instant,
    pub(super) cookies: AskedCookies,
    pub(super) counters: Arc<Counters>,
}

/// The cookies that a client without a backend was asked for and has not answered. Some of
/// those who asked no longer wait. Bounded by the time that a player may be without a
/// backend: each login asks for one at a time.
#[derive(Debug, Default)]
pub(super) struct AskedCookies(Vec<(String, oneshot::Sender<Option<Vec<u8>>>)>);

impl AskedCookies {
    /// Takes an answer of the client, if it is for one of these; true if it is.
    pub(super) fn answer(&mut self, fields: &[u8]) -> bool {
        let Ok(answer) = CookieAnswer::parse(fields) else {
            return false;
        };
        let place = self.0.iter().position(|(name, _)| name == answer.name);
        let Some(place) = place else {
            return false;
        };
        // Who asked may no longer wait.
        let _ = self.0.remove(place).1.send(answer.cookie.map(Vec::from));
        true
    }
}

impl DetachedClient {
    /// A client after its relay has ended; `None` if the runtime does not accept its socket
    /// again.
    pub(super) fn of_relay(
        returned: ReturnedClient<std::net::TcpStream>,
        input: ClientInput,
        version: Version,
        counters: Arc<Counters>,
    ) -> Option<Self> {
        let parts = Parts {
            stream: TcpStream::from_std(returned.client).ok()?,
            input: input.carried[..].into(),
            output: returned.backlog[..].into(),
            format: returned.format,
            ciphers: returned.ciphers,
        };
        Some(Self {
            client: Wire::from_parts(parts, SERVERBOUND_PACKET_BYTES_MAX),
            version,
            sent: returned.sent,
            serverbound: input.state,
            bounds: input.bounds,
            has_world: true,
            record: input.record,
            kick: input.kick,
            keep_alive_at: next_keep_alive(),
            cookies: AskedCookies::default(),
            counters,
        })
    }

    /// Whether the client can be brought to another backend.
    pub(crate) fn can_move(&self) -> bool {
        !self.sent.has_kicked
    }

    /// Takes the fields of the text with which the backend has ended the session.
    pub(crate) fn take_kick(&mut self) -> Option<Vec<u8>> {
        self.kick.take()
    }

    /// Sets the text that the client sees if it does not get another backend.
    pub(crate) fn set_kick(&mut self, kick: Option<Vec<u8>>) {
        self.kick = kick;
    }

    /// The text with which the backend has ended the session, as a component.
    pub(crate) fn reason(&self) -> Option<serde_json::Value> {
        let mut cursor = Cursor::new(self.kick.as_deref()?);
        component::read(&mut cursor, self.version, State::Play).ok()
    }

    /// The client, ready to get a text: that of the backend, if it has sent one.
    pub(crate) fn into_closing(mut self) -> ClosingClient {
        if let Some(fields) = self.kick.take() {
            self.close_bundle();
            let id = self.version.id(self.sent.state, Clientbound::Disconnect);
            let packet = [&[id.unwrap_or_default()][..], &fields].concat();
            // It came in a frame.
            self.sent.has_kicked |= self.client.put(&packet).is_ok();
        }
        ClosingClient::new(self.client, self.version, self.sent)
    }

    /// Waits for a future and returns its output. Meanwhile the proxy reads and drops the
    /// client's packets, which were meant for the lost backend, and writes the waiting
    /// bytes as the client accepts them. It also asks the client for the requested cookies.
    /// A client that accepts nothing does not delay the future.
    ///
    /// # Errors
    ///
    /// If the client leaves or breaks the protocol before that.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        future: impl Future<Output = T>,
        mut cookies: CookieRequests,
    ) -> Result<T, Failure> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                request = cookies.next() => self.put_cookie_request(request)?,
                frame = self.client.frame_while_writing() => {
                    self.drop_frame(&frame.map_err(Failure::client)?)?;
                }
                () = sleep_until(self.keep_alive_at) => self.put_keep_alive()?,
            }
        }
    }

    fn drop_frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        let Self {
            version,
            serverbound,
            bounds,
            record,
            cookies,
            ..
        } = self;
        *serverbound = drop_frame(frame, *version, *serverbound, bounds, record, cookies)?;
        Ok(())
    }

    /// Asks the client for a cookie, in the state in which it then reads. One that has been
    /// sent the end of its session is not asked.
    fn put_cookie_request(&mut self, request: CookieRequest) -> Result<(), Failure> {
        let id = self
            .version
            .id(self.sent.state, Clientbound::CookieRequest)
            .filter(|_| !self.sent.has_kicked);
        let Some(id) = id else {
            return Ok(());
        };
        // Clients handle the packets of a bundle when it ends.
        self.close_bundle();
        let mut packet = vec![id];
        write_string(&request.name, &mut packet);
        self.cookies.0.push((request.name, request.answer));
        self.client.put(&packet).map_err(Failure::client)
    }

    fn close_bundle(&mut self) {
        if let Some(delimiter) = open_bundle(self.version, self.sent) {
            self.sent.in_bundle = false;
            // One byte fits in a frame.
            let _ = self.client.put(&delimiter);
        }
    }

    fn put_keep_alive(&mut self) -> Result<(), Failure> {
        // Clients handle the packets of a bundle when it ends.
        self.close_bundle();
        let packet = keep_alive(self.version, self.sent.state);
        self.keep_alive_at = Instant::now() + KEEP_ALIVE_INTERVAL;
        self.client.put(&packet).map_err(Failure::client)
    }
}

/// The delimiter that closes a bundle, if one is open.
pub(super) fn open_bundle(version: Version, sent: SentState) -> Option<[u8; 1]> {
    let id = version.id(State::Play, Clientbound::BundleDelimiter)?;
    sent.in_bundle.then_some([id])
}

/// Drops a packet of a client for a lost backend, and applies its effect on the client's
/// state and limits. Returns the state in which the client then writes. An answer to a
/// request of the proxy for a cookie goes to its requester.
pub(super) fn drop_frame(
    frame: &Frame,
    version: Version,
    state: State,
    bounds: &mut ClientBounds,
    record: &PlayerRecord,
    cookies: &mut AskedCookies,
) -> Result<State, Failure> {
    let exceeded = |error: Exceeded| Failure::Client(error.to_string());
    bounds.count(frame.packet_bytes()).map_err(exceeded)?;
    let packet = frame.packet().map_err(Failure::client)?;
    let Some(kind) = packet.kind(version, state) else {
        return Ok(state);
    };
    if kind == Serverbound::PluginMessage {
        let checked = bounds.check(version, kind, packet.fields());
        checked.map_err(exceeded)?;
    }
    if kind == Serverbound::CookieResponse {
        cookies.answer(packet.fields());
    }
    record.serverbound(version, kind, packet.fields());
    Ok(kind.leads_to().unwrap_or(state))
}

/// When a client that has lost its backend gets the first keep alive.
pub(super) fn next_keep_alive() -> Instant {
    Instant::now() + KEEP_ALIVE_INTERVAL
}

/// A keep alive of the proxy. The answer is dropped, like the answer to any keep alive
/// that the backend has not sent.
fn keep_alive(version: Version, state: State) -> Vec<u8> {
    let mut packet = vec![
        version
            .id(state, Clientbound::KeepAlive)
            .unwrap_or_default(),
    ];
    packet.extend(match version.protocol() {
        ..V1_8 => &[0; 4][..],
        V1_8..V1_12_2 => &[0],
        _ => &[0; 8],
    });
    packet
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::intercept::PlayerHandle;

    /// More than the buffers of the sockets below hold.
    const LARGE_BYTES: usize = 1_000_000;

    /// A client that has lost its backend, and its peer. Their sockets hold little.
    async fn detached() -> (DetachedClient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(8192).unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, peer) = tokio::join!(connecting, listener.accept());
        let (client, (peer, _)) = (client.unwrap(), peer.unwrap());
        SockRef::from(&client).set_send_buffer_size(8192).unwrap();
        let detached = DetachedClient {
            client: Wire::new(client, BytesMut::new(), SERVERBOUND_PACKET_BYTES_MAX),
            version: Version::of(767).unwrap(),
            sent: SentState::new(State::Play),
            serverbound: State::Play,
            bounds: ClientBounds::new(),
            has_world: true,
            record: PlayerRecord::default(),
            kick: None,
            keep_alive_at: next_keep_alive(),
            cookies: AskedCookies::default(),
            counters: Arc::default(),
        };
        (detached, peer)
    }

    /// A client that accepts nothing does not delay the future, and its waiting bytes are
    /// written as soon as it accepts them.
    #[tokio::test(start_paused = true)]
    async fn a_slow_client_delays_nothing() {
        let player = PlayerHandle::named("Notch");
        let (mut detached, mut peer) = detached().await;
        detached.client.put(&vec![7; LARGE_BYTES]).unwrap();
        // Two keep alives are due in this time.
        let sleeping = sleep(KEEP_ALIVE_INTERVAL * 5 / 2);
        let waiting = detached.while_waiting(sleeping, player.take_cookie_requests());
        let waited = timeout(KEEP_ALIVE_INTERVAL * 4, waiting).await;
        assert!(waited.is_ok_and(|waited| waited.is_ok()));
        assert!(detached.client.waiting_bytes() > 0);
        // A paused clock moves on while the bytes are in the hands of the system.
        tokio::time::resume();
        let mut bytes = vec![0; LARGE_BYTES];
        let reading = peer.read_exact(&mut bytes);
        let reading = detached.while_waiting(reading, player.take_cookie_requests());
        let read = timeout(Duration::from_secs(240), reading).await.unwrap();
        assert_eq!(read.unwrap().unwrap(), LARGE_BYTES);
    }
}
