//! Shared parts of the tests over the wire: a client, a backend and the program.
//!
//! The client and the backend write and read their own bytes, without the product's code,
//! so that a misunderstanding cannot be on both sides.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stdout
)]

#[cfg(unix)]
pub mod containers;
pub mod elf;
#[cfg(unix)]
pub mod engine;
pub mod game;
pub mod hostile;
#[cfg(target_os = "linux")]
pub mod library;
#[cfg(unix)]
pub mod program;
#[cfg(target_os = "linux")]
pub mod watchdog;
pub mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::wire::{frame, handshake, login_start};

/// A path in the repository.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The folder of Cargo's profile that the running test was built into.
fn build_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // It runs as `target/debug/deps/it-0123456789abcdef`.
    test.ancestors().nth(2).unwrap().to_owned()
}

/// A folder for builds of tests, which `cargo clean` removes.
pub fn temporary(name: &str) -> PathBuf {
    build_folder().with_file_name("tmp").join(name)
}

/// The program, as Cargo built it together with the running test.
pub fn infrarust() -> PathBuf {
    build_folder().join(format!("infrarust{}", std::env::consts::EXE_SUFFIX))
}

/// Longer than any wait takes on a slow machine that runs all tests at once. A test that
/// reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// How often a condition without a signal is checked.
const CHECK_PERIOD: Duration = Duration::from_millis(1);

/// The result of the future. The test fails if it takes too long.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Waits until a condition is true. The test fails if that takes too long.
pub async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    within(what, async {
        while !is_true() {
            tokio::time::sleep(CHECK_PERIOD).await;
        }
    })
    .await;
}

/// As [`until`], for a test without a runtime.
pub fn blocking_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(CHECK_PERIOD);
    }
}

/// Writes `infrarust.toml` and `servers/*.toml`.
pub fn write_config(folder: &Path, global: &str, servers: &[(&str, String)]) {
    let global = if global.contains("bind") {
        global.to_owned()
    } else {
        format!("bind = \"127.0.0.1:0\"\n{global}")
    };
    std::fs::write(folder.join("infrarust.toml"), global).unwrap();
    std::fs::create_dir_all(folder.join("servers")).unwrap();
    for (name, text) in servers {
        std::fs::write(folder.join("servers").join(format!("{name}.toml")), text).unwrap();
    }
}

/// A server file for one backend.
pub fn server(mode: &str, domain: &str, backend: SocketAddr, more: &str) -> String {
    format!(
        "domains = [\"{domain}\"]\naddresses = [\"{backend}\"]\nproxy_mode = \"{mode}\"\n{more}\n"
    )
}

/// The modes that move bytes.
pub const FORWARDING: [&str; 3] = ["passthrough", "zero_copy", "server_only"];

/// One end of a connection, with reads that never wait forever.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within("a write", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// The next frame: packet id and fields.
    pub async fn frame(&mut self) -> (i32, Vec<u8>) {
        loop {
            if let Some((id, body, used)) = wire::split(&self.buffer) {
                self.buffer.drain(..used);
                return (id, body);
            }
            assert!(
                self.fill().await > 0,
                "the end came instead of a frame: {:?}",
                self.buffer
            );
        }
    }

    /// Completes when the peer has sent something, or has ended.
    pub async fn answered(&mut self) {
        if self.buffer.is_empty() {
            self.fill().await;
        }
    }

    /// Exactly this number of bytes.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(
                self.fill().await > 0,
                "the end came after {} bytes",
                self.buffer.len()
            );
        }
        self.buffer.drain(..count).collect()
    }

    /// This number of bytes, or fewer if the stream ends before.
    pub async fn up_to(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().await > 0 {}
        self.buffer.drain(..count.min(self.buffer.len())).collect()
    }

    /// Everything until the end of the stream; a reset counts as the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Asserts that the stream ends, without more bytes.
    pub async fn expect_end(&mut self) {
        let rest = self.rest().await;
        assert!(
            rest.is_empty(),
            "unexpected bytes before the end: {rest:02x?}"
        );
    }

    async fn fill(&mut self) -> usize {
        within("a read", self.stream.read_buf(&mut self.buffer))
            .await
            .unwrap_or(0)
    }
}

/// A game client for tests.
pub struct FakeClient;

impl FakeClient {
    /// Connects without sending anything.
    pub async fn connect(proxy: SocketAddr) -> Peer {
        Peer::new(
            within("a connection", TcpStream::connect(proxy))
                .await
                .unwrap(),
        )
    }

    /// Connects and begins a login with protocol 47 (1.8).
    pub async fn login(proxy: SocketAddr, host: &str, name: &str) -> Peer {
        let mut client = Self::connect(proxy).await;
        let mut bytes = handshake(47, host, 25565, 2);
        bytes.extend(login_start(name));
        client.send(&bytes).await;
        client
    }

    /// Sends the handshake and the login start of a version since 1.20.2, whose
    /// login start has a player id.
    pub async fn login_as(proxy: SocketAddr, protocol: i32, host: &str, name: &str) -> Peer {
        let mut client = Self::connect(proxy).await;
        let mut bytes = handshake(protocol, host, 25565, 2);
        let mut body = wire::string(name);
        body.extend([7; 16]);
        bytes.extend(frame(0, &body));
        client.send(&bytes).await;
        client
    }

    /// Asks for the status with protocol 47 and returns the answer.
    pub async fn status(proxy: SocketAddr, host: &str) -> serde_json::Value {
        let mut client = Self::connect(proxy).await;
        let mut bytes = handshake(47, host, 25565, 1);
        bytes.extend(frame(0, &[]));
        client.send(&bytes).await;
        let (id, body) = client.frame().await;
        assert_eq!(id, 0);
        let answer = serde_json::from_str(&wire::string_in(&body)).unwrap();
        client.send(&frame(1, &77_u64.to_be_bytes())).await;
        assert_eq!(client.frame().await, (1, 77_u64.to_be_bytes().to_vec()));
        answer
    }

    /// The text of the next login disconnect.
    pub async fn kick(client: &mut Peer) -> String {
        let (id, body) = client.frame().await;
        assert_eq!(id, 0, "not a login disconnect");
        let text: serde_json::Value = serde_json::from_str(&wire::string_in(&body)).unwrap();
        text["text"].as_str().unwrap().to_owned()
    }
}

/// The content of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol: i32,
    pub host: String,
    pub port: u16,
    pub intent: i32,
}

/// An address of this machine that refuses connections, as long as the value lives.
pub struct ClosedAddress {
    pub address: SocketAddr,
    _socket: socket2::Socket,
}

impl ClosedAddress {
    /// Binds a port and does not listen on it. The port of a closed listener could be given
    /// to another test, which would then get connections that are not for it.
    pub fn bind() -> Self {
        let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::STREAM);
        let socket = socket2::Socket::new(domain, kind, None).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any_port.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _socket: socket,
        }
    }
}

/// A backend for tests.
pub struct FakeBackend {
    pub listener: TcpListener,
    pub address: SocketAddr,
}

impl FakeBackend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// As many as the caller takes.
    pub async fn several<const N: usize>() -> [Self; N] {
        let mut backends = Vec::new();
        for _ in 0..N {
            backends.push(Self::start().await);
        }
        backends.try_into().ok().expect("`N` backends")
    }

    /// The next connection.
    pub async fn accept(&self) -> Peer {
        let (stream, _) = within("a backend connection", self.listener.accept())
            .await
            .unwrap();
        Peer::new(stream)
    }

    /// The next connection, with its handshake read.
    pub async fn accept_hello(&self) -> (Peer, Hello) {
        let mut peer = self.accept().await;
        let hello = Self::hello(&mut peer).await;
        (peer, hello)
    }

    /// The next connection, with handshake and login start read.
    pub async fn accept_login(&self) -> (Peer, Hello, Vec<u8>) {
        let (mut peer, hello) = self.accept_hello().await;
        let (id, login) = peer.frame().await;
        assert_eq!(id, 0);
        (peer, hello, login)
    }

    pub async fn hello(peer: &mut Peer) -> Hello {
        let (id, body) = peer.frame().await;
        assert_eq!(id, 0, "not a handshake");
        wire::parse_handshake(&body)
    }

    /// Answers one status request on an accepted connection.
    pub async fn answer_status(peer: &mut Peer, json: &str) {
        assert_eq!(peer.frame().await, (0, Vec::new()));
        peer.send(&frame(0, &wire::string(json))).await;
    }

    /// Serves every connection with this status, and counts them.
    pub fn serve_status(self, json: &'static str) -> std::sync::Arc<std::sync::atomic::AtomicU32> {
        let count = std::sync::Arc::<std::sync::atomic::AtomicU32>::default();
        let counted = std::sync::Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let (mut peer, _) = self.accept_hello().await;
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::spawn(async move {
                    Self::answer_status(&mut peer, json).await;
                    peer.rest().await;
                });
            }
        });
        count
    }
}
