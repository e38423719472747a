//! The load: what players and backends do, and what is measured while they do it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::framed::{self, Burst, Play};
use crate::relays::{Relay, Running};

/// A handshake of protocol 47 (1.8) for `bench.test`, for a login.
const HANDSHAKE_LOGIN: &[u8] = b"\x10\x00\x2f\x0abench.test\x63\xdd\x02";
/// A handshake of the same version for a status ping, and the status request.
const HANDSHAKE_STATUS: &[u8] = b"\x10\x00\x2f\x0abench.test\x63\xdd\x01\x01\x00";
/// The bytes of a login: the handshake, and a login start with a name of six characters.
const LOGIN_BYTES: usize = HANDSHAKE_LOGIN.len() + 9;
const PING: &[u8] = b"\x09\x01\x00\x00\x00\x00\x00\x00\x00\x07";

/// How many connections are opened at the same time.
const AT_ONCE: usize = 16;

/// How long a measurement may take in addition to the time that it measures.
const MEASURE_MAX: Duration = Duration::from_secs(60);

/// The most connections in one run: each port stays in use for a minute after the end
/// (`TIME_WAIT`), and there are some 28,000.
const CONNECTIONS_MAX: usize = 10_000;

/// What players and backends do, and which figures are taken. The relays are compared by
/// the first figure.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub figures: &'static [&'static str],
    does: Does,
}

impl Scenario {
    /// Whether the traffic consists of real frames, which intercepting relays need.
    pub fn is_framed(&self) -> bool {
        matches!(
            self.does,
            Does::Play(_) | Does::PlayBesideLogins(..) | Does::PlayNothing
        )
    }

    /// Whether the players are authenticated.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.does, Does::PlayBesideLogins(..))
    }
}

enum Does {
    Stream,
    Messages(Traffic),
    Connections(Purpose),
    Nothing,
    Play(Play),
    /// Like `Play`, while this number of logins waits.
    PlayBesideLogins(Play, usize),
    PlayNothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Login,
    Status,
}

/// Messages at a steady rate on each of many sessions.
#[derive(Clone, Copy)]
struct Traffic {
    sessions: usize,
    per_second: f64,
    size: Size,
    /// Each message is answered with a small one.
    answers: bool,
}

#[derive(Clone, Copy)]
enum Size {
    Fixed(usize),
    /// Sizes as a game server sends them: mostly some hundred bytes, a few large ones.
    Play,
}

const MESSAGE_FIGURES: &[&str] = &["CPU µs / message", "p50 µs", "p99 µs"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bulk",
        about: "16 streams to players, 64 KiB writes, as fast as they go",
        figures: &["CPU s / GiB", "GiB/s"],
        does: Does::Stream,
    },
    Scenario {
        name: "64B",
        about: "16 sessions, 500 messages/s of 64 B to each player",
        figures: MESSAGE_FIGURES,
        does: Does::Messages(Traffic {
            sessions: 16,
            per_second: 500.0,
            size: Size::Fixed(64),
            answers: false,
        }),
    },
    Scenario {
        name: "64K",
        about: "16 sessions, 100 messages/s of 64 KiB to each player",
        figures: MESSAGE_FIGURES,
        does: Does::Messages(Traffic {
            sessions: 16,
            per_second: 100.0,
            size: Size::Fixed(64 * 1024),
            answers: false,
        }),
    },
    Scenario {
        name: "play",
        about: "500 players, 20 bursts/s to each (mean 1 KB, 2 % of 8 to 32 KiB), 20 packets/s of 30 B back",
        figures: MESSAGE_FIGURES,
        does: Does::Messages(Traffic {
            sessions: 500,
            per_second: 20.0,
            size: Size::Play,
            answers: true,
        }),
    },
    Scenario {
        name: "connect",
        about: "connect, log in, one answer, close; 16 at a time",
        figures: &["CPU µs each", "per s"],
        does: Does::Connections(Purpose::Login),
    },
    Scenario {
        name: "status",
        about: "status ping; infrarust answers from its cache, HAProxy forwards it",
        figures: &["CPU µs each", "per s"],
        does: Does::Connections(Purpose::Status),
    },
    Scenario {
        name: "idle",
        about: "2,000 sessions that carried 32 KiB to the player and 1 KiB back, then nothing",
        figures: &["bytes / session", "descriptors / session", "CPU %"],
        does: Does::Nothing,
    },
    Scenario {
        name: "framed-100",
        about: "100 players, 20 bursts/s of 42 frames to each (mean 1.1 KB, 2 % with a chunk), 20 packets/s of 30 B back",
        figures: framed::FIGURES,
        does: Does::Play(Play {
            players: 100,
            burst: Burst::Mix,
        }),
    },
    Scenario {
        name: "framed-1000",
        about: "1,000 players, the same",
        figures: framed::FIGURES,
        does: Does::Play(Play {
            players: 1000,
            burst: Burst::Mix,
        }),
    },
    Scenario {
        name: "framed-1K",
        about: "100 players, 20 frames/s of 1 KiB to each, 20 packets/s of 30 B back",
        figures: framed::FIGURES,
        does: Does::Play(Play {
            players: 100,
            burst: Burst::One(1024),
        }),
    },
    Scenario {
        name: "framed-1250",
        about: "1,250 players as in framed-100",
        figures: framed::FIGURES,
        does: Does::Play(Play {
            players: 1250,
            burst: Burst::Mix,
        }),
    },
    Scenario {
        name: "framed-16K",
        about: "300 players, 20 frames/s of 16 KiB to each, 20 packets/s of 30 B back",
        figures: framed::FIGURES,
        does: Does::Play(Play {
            players: 300,
            burst: Burst::One(16 * 1024),
        }),
    },
    Scenario {
        name: "framed-logins",
        about: "100 players as in framed-100, with and without 200 logins at once at a session service that does not answer",
        figures: framed::LOGIN_FIGURES,
        does: Does::PlayBesideLogins(
            Play {
                players: 100,
                burst: Burst::Mix,
            },
            200,
        ),
    },
    Scenario {
        name: "framed-idle",
        about: "1,000 players who were in the game, then nothing",
        figures: framed::IDLE_FIGURES,
        does: Does::PlayNothing,
    },
];

/// Runs a scenario through one relay. Returns its figures.
pub async fn measure(scenario: &Scenario, relay: &Relay, seconds: f64) -> Vec<f64> {
    let time = Duration::from_secs_f64(seconds);
    match scenario.does {
        Does::Play(play) => return framed::play(relay, play, time),
        Does::PlayBesideLogins(play, logins) => {
            return framed::play_beside_logins(relay, play, logins, time);
        }
        Does::PlayNothing => return framed::idle(relay),
        _ => {}
    }
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = relay.start(backend.local_addr().unwrap(), "");
    // The connection that tested whether the relay listens may still be in the queue.
    let figures = async {
        match &scenario.does {
            Does::Stream => stream(&relay, backend, time).await,
            Does::Messages(traffic) => messages(&relay, backend, *traffic, time).await,
            Does::Connections(purpose) => connections(&relay, backend, *purpose, time).await,
            Does::Nothing => nothing(&relay, backend, time).await,
            Does::Play(_) | Does::PlayBesideLogins(..) | Does::PlayNothing => {
                unreachable!("measured without a runtime")
            }
        }
    };
    let tasks = LocalSet::new();
    let figures = tasks.run_until(figures);
    match tokio::time::timeout(time + MEASURE_MAX, figures).await {
        Ok(figures) => figures,
        // Seen where a firewall's table of connections was full (`dmesg`).
        Err(_) => panic!("`{}` did not end: a connection was lost", scenario.name),
    }
}

/// The next login. Each has its own name: many equal logins at once would look to the proxy
/// like its own, coming back from its backend in a loop.
fn login() -> Vec<u8> {
    static LOGINS: AtomicUsize = AtomicUsize::new(0);
    let number = LOGINS.fetch_add(1, Ordering::Relaxed) % 100_000;
    let name = format!("p{number:05}");
    [HANDSHAKE_LOGIN, b"\x08\x00\x06", name.as_bytes()].concat()
}

/// Opens sessions, each as its player's and its backend's end.
async fn open(
    relay: SocketAddr,
    backend: &TcpListener,
    count: usize,
) -> Vec<(TcpStream, TcpStream)> {
    let mut sessions = Vec::with_capacity(count);
    while sessions.len() < count {
        let mut player = TcpStream::connect(relay).await.unwrap();
        player.write_all(&login()).await.unwrap();
        // A relay that knows nothing of logins also passes on the connection
        // that only found out whether it listens.
        let server = loop {
            let (mut server, _) = backend.accept().await.unwrap();
            let mut login = [0; LOGIN_BYTES];
            if server.read_exact(&mut login).await.is_ok() {
                break server;
            }
        };
        for socket in [&player, &server] {
            socket.set_nodelay(true).unwrap();
        }
        sessions.push((player, server));
    }
    sessions
}

async fn stream(relay: &Running, backend: TcpListener, time: Duration) -> Vec<f64> {
    let sessions = open(relay.address, &backend, 16).await;
    let (until, mut received) = (Instant::now() + time, JoinSet::new());
    let cpu = relay.cpu();
    for (mut player, mut server) in sessions {
        tokio::task::spawn_local(async move {
            let piece = vec![7; 64 * 1024];
            while server.write_all(&piece).await.is_ok() {}
        });
        received.spawn_local(async move {
            let (mut buffer, mut bytes) = (vec![0; 1024 * 1024], 0);
            while Instant::now() < until {
                bytes += player.read(&mut buffer).await.unwrap();
            }
            bytes
        });
    }
    let bytes: usize = received.join_all().await.iter().sum();
    let gib = figure(bytes) / f64::from(1 << 30);
    let cpu = relay.cpu() - cpu;
    vec![cpu.as_secs_f64() / gib, gib / time.as_secs_f64()]
}

async fn messages(
    relay: &Running,
    backend: TcpListener,
    traffic: Traffic,
    time: Duration,
) -> Vec<f64> {
    const WARM_UP: Duration = Duration::from_millis(500);
    let sessions = open(relay.address, &backend, traffic.sessions).await;
    let began = Instant::now();
    let (from, until) = (began + WARM_UP, began + WARM_UP + time);
    let period = Duration::from_secs_f64(1.0 / traffic.per_second);
    let mut taken = JoinSet::new();
    for (number, (player, server)) in sessions.into_iter().enumerate() {
        let (mut from_server, mut to_server) = player.into_split();
        let (mut from_player, mut to_player) = server.into_split();
        // Ticks of all servers do not fall together.
        let offset = period.mul_f64(f64::from(u32::try_from(number % 10).unwrap()) / 10.0);
        tokio::task::spawn_local(async move {
            let mut random = Random(u64::try_from(number).unwrap() + 1);
            let mut ticks = tokio::time::interval_at((began + offset).into(), period);
            loop {
                ticks.tick().await;
                let bytes = match traffic.size {
                    Size::Fixed(bytes) => bytes,
                    Size::Play => random.burst(),
                };
                // A message begins with its length and the time at which it was sent.
                let mut message = vec![7; bytes];
                message[..4].copy_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
                let sent = u64::try_from(began.elapsed().as_nanos()).unwrap();
                message[4..12].copy_from_slice(&sent.to_be_bytes());
                if to_player.write_all(&message).await.is_err() {
                    return;
                }
            }
        });
        if traffic.answers {
            tokio::task::spawn_local(async move {
                let mut ticks = tokio::time::interval_at((began + offset).into(), period);
                loop {
                    ticks.tick().await;
                    if to_server.write_all(&[8; 30]).await.is_err() {
                        return;
                    }
                }
            });
        }
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 4096];
            while from_player.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
        taken.spawn_local(async move {
            let mut latencies = Vec::new();
            let mut message = Vec::new();
            loop {
                let mut head = [0; 12];
                from_server.read_exact(&mut head).await.unwrap();
                let (bytes, sent) = head.split_at(4);
                let bytes = u32::from_be_bytes(bytes.try_into().unwrap());
                message.resize(usize::try_from(bytes).unwrap() - head.len(), 0);
                from_server.read_exact(&mut message).await.unwrap();
                let now = Instant::now();
                if now >= until {
                    return latencies;
                }
                if now >= from {
                    let sent = Duration::from_nanos(u64::from_be_bytes(sent.try_into().unwrap()));
                    latencies.push((now - began).saturating_sub(sent).as_secs_f64() * 1e6);
                }
            }
        });
    }
    tokio::time::sleep_until(from.into()).await;
    let cpu = relay.cpu();
    tokio::time::sleep_until(until.into()).await;
    let cpu = relay.cpu() - cpu;
    let mut latencies = taken.join_all().await.concat();
    latencies.sort_by(f64::total_cmp);
    let ways = if traffic.answers { 2 } else { 1 };
    let quantile = |percent: usize| latencies[latencies.len() * percent / 100];
    vec![
        cpu.as_secs_f64() * 1e6 / figure(latencies.len() * ways),
        quantile(50),
        quantile(99),
    ]
}

async fn connections(
    relay: &Running,
    backend: TcpListener,
    purpose: Purpose,
    time: Duration,
) -> Vec<f64> {
    const ANSWER: &[u8] = b"\x1d\x00\x1b{\"description\":\"benchmark\"}";
    tokio::task::spawn_local(async move {
        loop {
            let (mut server, _) = backend.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                server.set_nodelay(true).unwrap();
                let mut buffer = [0; 512];
                let mut answer = ANSWER;
                while server.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    let _ = server.write_all(answer).await;
                    answer = PING;
                }
            });
        }
    });
    let address = relay.address;
    // The first connection does the work that is done once, such as filling the cache of
    // status answers.
    connection(address, purpose, ANSWER.len()).await;
    let (cpu, began) = (relay.cpu(), Instant::now());
    let mut made = JoinSet::new();
    for _ in 0..AT_ONCE {
        made.spawn_local(async move {
            let mut count = 0_usize;
            while began.elapsed() < time && count < CONNECTIONS_MAX / AT_ONCE {
                connection(address, purpose, ANSWER.len()).await;
                count += 1;
            }
            count
        });
    }
    let count = figure(made.join_all().await.iter().sum());
    let (took, cpu) = (began.elapsed(), relay.cpu() - cpu);
    vec![cpu.as_secs_f64() * 1e6 / count, count / took.as_secs_f64()]
}

async fn connection(relay: SocketAddr, purpose: Purpose, answer_bytes: usize) {
    let mut player = TcpStream::connect(relay).await.unwrap();
    player.set_nodelay(true).unwrap();
    let mut buffer = [0; 512];
    match purpose {
        Purpose::Login => {
            player.write_all(&login()).await.unwrap();
            player
                .read_exact(&mut buffer[..answer_bytes])
                .await
                .unwrap();
        }
        Purpose::Status => {
            player.write_all(HANDSHAKE_STATUS).await.unwrap();
            assert!(player.read(&mut buffer).await.unwrap() > 0);
            player.write_all(PING).await.unwrap();
            player.read_exact(&mut buffer[..PING.len()]).await.unwrap();
        }
    }
}

async fn nothing(relay: &Running, backend: TcpListener, time: Duration) -> Vec<f64> {
    const SESSIONS: usize = 2000;
    const SETTLE: Duration = Duration::from_millis(500);
    let (memory, descriptors) = (relay.memory(), relay.descriptors());
    let mut sessions = open(relay.address, &backend, SESSIONS).await;
    for (player, server) in &mut sessions {
        let mut buffer = vec![7; 32 * 1024];
        server.write_all(&buffer).await.unwrap();
        player.read_exact(&mut buffer).await.unwrap();
        player.write_all(&buffer[..1024]).await.unwrap();
        server.read_exact(&mut buffer[..1024]).await.unwrap();
    }
    tokio::time::sleep(SETTLE).await;
    let cpu = relay.cpu();
    tokio::time::sleep(time).await;
    let cpu = relay.cpu() - cpu;
    let count = figure(SESSIONS);
    let bytes = usize::try_from(relay.memory() - memory).unwrap();
    vec![
        figure(bytes) / count,
        figure(relay.descriptors() - descriptors) / count,
        cpu.as_secs_f64() / time.as_secs_f64() * 100.0,
    ]
}

/// Converts a count to a figure. Exact below 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn figure(count: usize) -> f64 {
    count as f64
}

/// Random numbers (xorshift64). The seeds are fixed, so that every relay gets the same
/// traffic.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most).unwrap()
    }

    /// The size of a burst: 2 of 100 carry chunks, the others entities.
    fn burst(&mut self) -> usize {
        match self.below(100) {
            0 | 1 => 8192 + self.below(24_576),
            _ => 64 + self.below(1200),
        }
    }
}
