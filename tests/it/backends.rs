//! Backends that accept a connection and close it before they send anything, and addresses
//! that lead back to the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::wire::{encryption_request, frame, string};
use crate::support::{FORWARDING, FakeBackend, FakeClient, Peer, TestProxy, server, within};

const MESSAGE: &str = "disconnect_message = \"Starting, come back\"";

/// How a backend ends a connection.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// At once, with an orderly end.
    Close,
    /// At once, with a reset.
    Reset,
    /// With an orderly end, after it has read the login.
    CloseAfterLogin,
    /// With a reset, after it has read the login.
    ResetAfterLogin,
}

const WAYS: [Way; 4] = [
    Way::Close,
    Way::Reset,
    Way::CloseAfterLogin,
    Way::ResetAfterLogin,
];

/// Serves every connection by ending it, and counts them.
fn end_all(backend: FakeBackend, way: Way) -> Arc<AtomicUsize> {
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let mut peer = backend.accept().await;
            counted.fetch_add(1, Ordering::SeqCst);
            if matches!(way, Way::CloseAfterLogin | Way::ResetAfterLogin) {
                peer.frame().await;
                peer.frame().await;
            }
            if matches!(way, Way::Reset | Way::ResetAfterLogin) {
                let at_once = Some(Duration::ZERO);
                SockRef::from(&peer.stream).set_linger(at_once).unwrap();
            }
        }
    });
    count
}

/// A server file for two backends, which are tried in this order.
fn two(mode: &str, first: SocketAddr, second: SocketAddr) -> String {
    format!(
        "domains = [\"play.example.com\"]\naddresses = [\"{first}\", \"{second}\"]\n\
         proxy_mode = \"{mode}\"\n{MESSAGE}\n"
    )
}

/// A proxy with two backends, which are tried in this order.
struct Two {
    proxy: TestProxy,
    first: FakeBackend,
    second: FakeBackend,
}

impl Two {
    /// With `more` at the end of the server file.
    async fn start(mode: &str, more: &str) -> Self {
        let (first, second) = (FakeBackend::start().await, FakeBackend::start().await);
        let file = two(mode, first.address, second.address) + more;
        Self {
            proxy: TestProxy::start("", &[("a", file)]),
            first,
            second,
        }
    }

    /// A player, and their connection at the first backend.
    async fn login(&self) -> (Peer, Peer) {
        let client = FakeClient::login(self.proxy.address(), "play.example.com", "Steve").await;
        let (peer, _, _) = self.first.accept_login().await;
        (client, peer)
    }

    /// Nothing has dialled the second backend when the last connection has ended.
    async fn stays_with_the_first(&self, mode: &str) {
        self.proxy.idle().await;
        let nobody = tokio::time::timeout(Duration::ZERO, self.second.listener.accept()).await;
        assert!(nobody.is_err(), "{mode}");
    }
}

/// A backend that ends before its first byte counts as unreachable. In every mode the
/// player reads one text about that.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_ends_at_once_is_a_failure() {
    for mode in FORWARDING {
        for way in WAYS {
            let backend = FakeBackend::start().await;
            let proxy = TestProxy::with_one_server("", mode, &backend, MESSAGE);
            let count = end_all(backend, way);
            let mut client = FakeClient::login(proxy.address(), "play.example.com", "Steve").await;
            let said = FakeClient::kick(&mut client).await;
            assert_eq!(said, "Starting, come back", "{mode} {way:?}");
            client.expect_end().await;
            assert_eq!(count.load(Ordering::SeqCst), 1, "{mode} {way:?}");
        }
    }
}

/// The next address gets everything that the client has sent, also bytes that it sent while
/// the first backend was silent. The same holds for status pings.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_address_takes_over() {
    for mode in FORWARDING {
        let Two {
            proxy,
            first,
            second,
        } = Two::start(mode, "").await;
        let mut client = FakeClient::login(proxy.address(), "play.example.com", "Steve").await;
        let (mut gone, hello, login) = first.accept_login().await;
        client.send(&frame(9, b"meanwhile")).await;
        assert_eq!(gone.frame().await, (9, b"meanwhile".to_vec()));
        drop(gone);
        let (mut peer, again, login_again) = second.accept_login().await;
        assert_eq!((again, login_again), (hello, login), "{mode}");
        assert_eq!(peer.frame().await, (9, b"meanwhile".to_vec()));
        let answer = encryption_request();
        peer.send(&answer).await;
        assert_eq!(client.bytes(answer.len()).await, answer);
        client.send(b"and on").await;
        assert_eq!(peer.bytes(6).await, b"and on");

        end_all(first, Way::CloseAfterLogin);
        second.serve_status("{\"description\":\"hi\"}");
        let status = FakeClient::status(proxy.address(), "play.example.com").await;
        assert_eq!(status["description"], "hi", "{mode}");
    }
}

/// After its first byte a backend is not replaced: if it ends then, the player gets the
/// bytes that it has sent, for example a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_backend_before_its_end_are_passed_on() {
    for mode in FORWARDING {
        let two = Two::start(mode, "").await;
        let (mut client, mut peer) = two.login().await;
        let refusal = frame(0, &string("{\"text\":\"You are banned\"}"));
        peer.send(&refusal).await;
        drop(peer);
        assert_eq!(FakeClient::kick(&mut client).await, "You are banned");
        client.expect_end().await;
        drop(client);
        two.stays_with_the_first(mode).await;
    }
}

/// A client may send more bytes than are kept for another backend. All of them reach the
/// first backend, and the connection stays with it.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_kept_for_another_backend_are_bounded() {
    for mode in ["passthrough", "zero_copy"] {
        let two = Two::start(mode, "").await;
        let (mut client, mut peer) = two.login().await;
        let much: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.send(&much).await;
        assert!(peer.bytes(much.len()).await == much, "{mode}");
        drop(peer);
        client.expect_end().await;
        drop(client);
        two.stays_with_the_first(mode).await;
    }
}

/// If a client leaves, or ends its side, while its backend is silent, the backend sees
/// that, and no other backend is dialled.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_leave_before_the_first_byte() {
    for mode in FORWARDING {
        let two = Two::start(mode, "").await;
        let (client, mut peer) = two.login().await;
        drop(client);
        peer.expect_end().await;
        drop(peer);
        two.stays_with_the_first(mode).await;
    }
}

/// `timeouts.read` limits the wait for the first byte as it limits the relay. No other
/// backend is tried after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_stays_silent_meets_the_read_timeout() {
    for mode in FORWARDING {
        let two = Two::start(mode, "[timeouts]\nread = \"200ms\"").await;
        let (mut client, _peer) = two.login().await;
        client.expect_end().await;
        two.stays_with_the_first(mode).await;
    }
}

/// Forwards connections to the proxy, as a port forwarding does, and counts them.
async fn forward_to(proxy: Arc<std::sync::OnceLock<SocketAddr>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rounds = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&rounds);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let to = *proxy.get().unwrap();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, rounds)
}

/// A login that another forwarder sends back to the proxy goes through the proxy a few
/// times only. Then the player reads that the server cannot be reached, or the next address
/// is tried. Many players with one name do not count as a loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_comes_back_is_ended() {
    let at = Arc::default();
    let (forward, rounds) = forward_to(Arc::clone(&at)).await;
    let good = FakeBackend::start().await;
    let servers = [
        (
            "a",
            server("zero_copy", "loop.example.com", forward, MESSAGE),
        ),
        (
            "b",
            two("passthrough", forward, good.address).replace("play.", "both."),
        ),
        (
            "c",
            server("passthrough", "good.example.com", good.address, ""),
        ),
    ];
    let proxy = TestProxy::start("", &servers);
    at.set(proxy.address()).unwrap();

    let mut client = FakeClient::login(proxy.address(), "loop.example.com", "Steve").await;
    assert_eq!(FakeClient::kick(&mut client).await, "Starting, come back");
    assert!(rounds.load(Ordering::SeqCst) <= 9, "{rounds:?}");
    client.expect_end().await;
    proxy.idle().await;

    let _client = FakeClient::login(proxy.address(), "both.example.com", "Steve").await;
    let (peer, _, _) = good.accept_login().await;
    assert!(rounds.load(Ordering::SeqCst) <= 18, "{rounds:?}");
    drop((_client, peer));
    proxy.idle().await;

    let mut crowd: Vec<Peer> = Vec::new();
    for _ in 0..30 {
        crowd.push(FakeClient::login(proxy.address(), "good.example.com", "Steve").await);
    }
    let answering = tokio::spawn(async move {
        let mut players = Vec::new();
        for _ in 0..30 {
            let (mut peer, _, _) = good.accept_login().await;
            peer.send(b"in").await;
            players.push(peer);
        }
        players
    });
    for client in &mut crowd {
        assert_eq!(within("a word", client.bytes(2)).await, b"in");
    }
    let _players = answering.await.unwrap();
}
