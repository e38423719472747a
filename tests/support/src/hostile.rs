//! Sessions in which both sides are hostile: random bytes decide what a client and a
//! backend do, from any point of a login on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::game::{self, Ids, Speaker};
use crate::wire::{handshake, varint};
use crate::{FakeBackend, server};

/// The protocol versions: each form of the login, and versions with and without
/// configuration, compression and login requests.
const PROTOCOLS: [i32; 11] = [5, 47, 340, 754, 758, 759, 760, 764, 765, 767, 776];
/// The domains of [`servers`].
const DOMAINS: [&str; 5] = ["plain", "all", "packed", "signed", "proved"];
/// The domain with encryption.
const PROVED: usize = 4;
/// The thresholds that a backend announces.
const THRESHOLDS: [i32; 4] = [-1, 0, 64, 256];
/// The steps of a correct login.
const STEPS: u8 = 7;
/// The most actions of a session.
const ACTIONS_MAX: usize = 40;
/// How long a read waits that only lets the other side continue.
const GLANCE: Duration = Duration::from_millis(2);
/// How long a side reads the remaining bytes.
const LAST_READ: Duration = Duration::from_secs(1);

/// The server files of a proxy that [`run`] attacks. All have this backend.
pub fn servers(backend: SocketAddr) -> Vec<(&'static str, String)> {
    // One place: a login that leaves its place behind keeps the next one out.
    let file = |mode, domain, more| {
        let more = format!("max_players = 1\n{more}");
        server(mode, domain, backend, &more)
    };
    let signed = "compression_threshold = -1\nforwarding_mode = \"velocity\"\nforwarding_secret = \"0123456789abcdef\"";
    vec![
        ("a", file("offline", "plain", "compression_threshold = -1")),
        ("b", file("offline", "all", "compression_threshold = 0")),
        (
            "c",
            file("offline", "packed", "compression_threshold = 256"),
        ),
        ("d", file("offline", "signed", signed)),
        ("e", file("client_only", "proved", "")),
    ]
}

/// Random bytes that decide. At their end every decision is 0.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}

/// One session with this proxy, of which `backend` is the backend. When it
/// returns both sides have closed, so that nothing of it may be left.
///
/// # Panics
///
/// When the proxy does not do what it has to do for a login that keeps to the
/// protocol, or ends a client's stream within a frame.
pub async fn run(proxy: SocketAddr, backend: &FakeBackend, input: &[u8]) {
    let mut choices = Choices(input);
    let protocol = choices.of(&PROTOCOLS);
    let domain = usize::from(choices.byte()) % DOMAINS.len();
    let threshold = match protocol {
        5 => -1,
        _ => choices.of(&THRESHOLDS),
    };
    let steps = choices.byte() % (STEPS + 1);
    let stream = TcpStream::connect(proxy).await.unwrap();
    let mut client = Speaker::new(stream);
    if protocol >= 757 {
        client.be_lenient();
    }
    let hello = handshake(protocol, DOMAINS[domain], 25565, 2);
    client.send_raw(&hello).await;
    let start = game::login_start(protocol, "Notch", [7; 16]);
    client.send(0, &start).await;
    let is_signed = DOMAINS[domain] == "signed";
    let mut session = Session {
        client: Some(client),
        server: None,
        protocol,
        domain,
        threshold,
    };
    if domain == PROVED {
        session.client().expect(1).await;
    } else if !(is_signed && protocol < 393) {
        session.server = Some(game::accept(backend).await.0);
        // Without its question a signed login goes nowhere.
        for step in 0..if is_signed { 0 } else { steps } {
            session.correct_step(step).await;
        }
    }
    for _ in 0..ACTIONS_MAX {
        if choices.0.is_empty() {
            break;
        }
        session.act(&mut choices).await;
    }
    // A client that has to encrypt is waited for longer than anybody reads.
    if domain != PROVED && choices.byte() % 2 == 0 {
        // The client reads to its end what the loss of its backend gives.
        session.server = None;
        if let Some(client) = session.client {
            let _ = tokio::time::timeout(LAST_READ, client.read_frames()).await;
        }
    }
}

struct Session {
    client: Option<Speaker>,
    server: Option<Speaker>,
    protocol: i32,
    domain: usize,
    threshold: i32,
}

impl Session {
    fn client(&mut self) -> &mut Speaker {
        self.client.as_mut().unwrap()
    }

    fn server(&mut self) -> &mut Speaker {
        self.server.as_mut().unwrap()
    }

    /// One step of a correct login, on both sides.
    async fn correct_step(&mut self, step: u8) {
        let (protocol, threshold) = (self.protocol, self.threshold);
        let ids = Ids::of(protocol);
        let is_configured = protocol >= 764;
        match step {
            0 if threshold >= 0 => {
                self.server().send(3, &varint(threshold)).await;
                self.server().compress(threshold);
            }
            1 => {
                let success = game::login_success(protocol, [1; 16], "Notch");
                self.server().send(2, &success).await;
                let of_proxy = match DOMAINS[self.domain] {
                    "all" => 0,
                    "packed" => 256,
                    _ => -1,
                };
                if of_proxy >= 0 && protocol >= 47 {
                    self.client().expect(3).await;
                    self.client().compress(of_proxy);
                }
                self.client().expect(2).await;
            }
            2 if is_configured => {
                self.client().send(3, &[]).await;
                self.server().expect(3).await;
            }
            3 if is_configured => {
                self.server().send(ids.finish, &[]).await;
                self.client().expect(ids.finish).await;
            }
            4 if is_configured => {
                self.client().send(ids.finish, &[]).await;
                self.server().expect(ids.finish).await;
            }
            5 => {
                self.server().send(ids.join, &[0; 40]).await;
                self.client().expect(ids.join).await;
            }
            _ => {}
        }
    }

    /// One action of a side.
    async fn act(&mut self, choices: &mut Choices<'_>) {
        let choice = choices.byte();
        let side = match choice >> 7 {
            0 => &mut self.client,
            _ => &mut self.server,
        };
        let Some(speaker) = side else { return };
        match choice & 7 {
            // Bytes.
            0 => speaker.send_some(choices.bytes()),
            // A packet in the format of the connection.
            1 | 2 => {
                let id = i32::from(choices.byte());
                let bytes = speaker.framed(id, choices.bytes());
                speaker.send_some(&bytes);
            }
            // A large packet, or many small ones.
            3 => {
                let id = i32::from(choices.byte());
                let size = usize::from(choices.byte()) * 8 * 1024;
                let bytes = speaker.framed(id, &vec![choice; size]);
                speaker.send_some(&bytes);
            }
            4 => {
                let id = i32::from(choices.byte());
                let bytes = speaker.framed(id, choices.bytes());
                speaker.send_some(&bytes.repeat(usize::from(choices.byte())));
            }
            // A length before compression that need not be true.
            5 => {
                let length = i32::from_be_bytes([choices.byte(); 4]) >> (choices.byte() % 32);
                let content = [varint(length), choices.bytes().to_vec()].concat();
                let bytes = [varint(content.len() as i32), content].concat();
                speaker.send_some(&bytes);
            }
            // It leaves, in order or not.
            6 => match (side.take(), choices.byte()) {
                (Some(speaker), 0..64) => speaker.reset(),
                (Some(speaker), 64..128) => drop(speaker),
                (other, _) => *side = other,
            },
            // The other side may go on.
            _ => speaker.glance(GLANCE).await,
        }
    }
}
