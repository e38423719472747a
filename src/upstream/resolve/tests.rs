#![allow(clippy::cast_possible_truncation)]

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// Longer than any wait in these tests.
const PATIENCE: Duration = Duration::from_secs(20);
/// The TTL of every record of the test's name server.
const TTL_SECONDS: u32 = 600;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What a name server does with a question.
#[derive(Debug, Clone)]
enum Reply {
    /// Data of records of the type that was asked for.
    Records(Vec<Vec<u8>>),
    Code(u8),
    Silence,
    /// Nothing but that the answer is too long, over UDP.
    Truncated(Vec<Vec<u8>>),
}

type Known = HashMap<(String, u16), Reply>;

/// A name server of our own making, which denies what it does not know, for a
/// day. It listens at one address of the loopback network.
#[derive(Clone)]
struct NameServer {
    known: Arc<Mutex<Known>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    address: SocketAddr,
}

impl NameServer {
    async fn start(at: &str) -> Self {
        // The same port for both protocols, which another process may have.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(at).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let server = Self {
            known: Arc::default(),
            asked: Arc::default(),
            address: udp.local_addr().unwrap(),
        };
        let (this, over_tcp) = (server.clone(), server.clone());
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut query).await {
                if let Some(answer) = this.answer(&query[..length], false) {
                    // What is not an answer to this question does not disturb.
                    let mut foreign = answer.clone();
                    foreign[0] ^= 1;
                    for datagram in [&b"nonsense"[..], &foreign, &answer] {
                        let _ = udp.send_to(datagram, from).await;
                    }
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut query = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut query).await.unwrap();
                let answer = over_tcp.answer(&query, true).unwrap();
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        server
    }

    fn knows(&self, name: &str, kind: u16, reply: Reply) {
        lock(&self.known).insert((name.to_owned(), kind), reply);
    }

    fn answer(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        // A header of 12 bytes, the labels of the name up to a zero, type, class.
        let mut name = String::new();
        let mut at = 12;
        while query[at] != 0 {
            let label = &query[at + 1..=at + usize::from(query[at])];
            name += &String::from_utf8_lossy(label);
            name.push('.');
            at += 1 + label.len();
        }
        let name = name.trim_end_matches('.').to_owned();
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        lock(&self.asked).push((name.clone(), kind));
        let known = lock(&self.known);
        let exists = known.keys().any(|(other, _)| *other == name);
        let denial = if exists {
            Reply::Records(Vec::new())
        } else {
            Reply::Code(3)
        };
        let reply = known.get(&(name, kind)).cloned().unwrap_or(denial);
        let (code, cut, records) = match reply {
            Reply::Silence => return None,
            Reply::Code(code) => (code, 0, Vec::new()),
            Reply::Truncated(records) if over_tcp => (0, 0, records),
            Reply::Truncated(_) => (0, 2, Vec::new()),
            Reply::Records(records) => (0, 0, records),
        };
        let denies = u8::from(records.is_empty());
        let mut answer = query[..2].to_vec();
        answer.extend([
            0x81 | cut,
            0x80 | code,
            0,
            1,
            0,
            records.len() as u8,
            0,
            denies,
            0,
            0,
        ]);
        answer.extend(&query[12..at + 5]);
        for data in records {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(TTL_SECONDS.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        if denies == 1 {
            // The start of authority of the root: a day.
            answer.extend([0, 0, 6, 0, 1, 0, 1, 0x51, 0x80, 0, 22, 0, 0]);
            answer.extend([[0, 0, 0, 1], [0; 4], [0; 4], [0; 4], [0, 1, 0x51, 0x80]].concat());
        }
        Some(answer)
    }
}

fn ips(all: &[&str]) -> Reply {
    let bytes = |ip: &&str| match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Reply::Records(all.iter().map(bytes).collect())
}

fn srv(priority: u8, weight: u8, port: u16, target: &str) -> Vec<u8> {
    let mut data = vec![0, priority, 0, weight];
    data.extend(port.to_be_bytes());
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

/// Names that are resolved by these files, of which one has been written.
struct Rig {
    names: Names,
    folder: TempDir,
}

impl Rig {
    fn new(resolv_conf: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            resolv_conf: folder.path().join("resolv.conf"),
            hosts: folder.path().join("hosts"),
            port,
        };
        std::fs::write(&files.resolv_conf, resolv_conf).unwrap();
        let names = Names::new(files);
        Self { names, folder }
    }

    async fn with_server() -> (Self, NameServer) {
        let server = NameServer::start("127.0.0.1:0").await;
        (
            Self::new("nameserver 127.0.0.1\n", server.address.port()),
            server,
        )
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
        // As if the interval had passed.
        *lock(&self.names.0.checked_at) = None;
    }

    async fn candidates(&self, name: &str, with_srv: bool) -> Candidates<'_> {
        let deadline = Instant::now() + PATIENCE;
        self.names.candidates(name, 25565, with_srv, deadline).await
    }

    /// All addresses of a name, or why there are none.
    async fn all(&self, name: &str, with_srv: bool) -> Vec<String> {
        let mut candidates = self.candidates(name, with_srv).await;
        let mut all = Vec::new();
        while let Some(next) = candidates.next().await {
            all.push(match next {
                Ok(address) => address.to_string(),
                Err(failure) => failure.to_string(),
            });
        }
        all
    }

    /// The first address of a name.
    async fn first(&self, name: &str) -> String {
        let next = self.candidates(name, false).await.next().await;
        next.unwrap().unwrap().ip().to_string()
    }

    /// How long the answers about a name count from now on.
    fn life(&self, name: &str) -> Duration {
        let known = lock(&self.names.0.known);
        let key = known.keys().find(|key| key.name == name).unwrap();
        let expires = known[key].answers.borrow().expires.unwrap();
        expires.saturating_duration_since(Instant::now())
    }
}

/// What engines and routers call their machines is a name, alone and with a
/// domain of the search list, whatever rules there are for host names.
#[tokio::test]
async fn names_may_have_underscores() {
    let server = NameServer::start("127.0.0.1:0").await;
    let search = "nameserver 127.0.0.1\nsearch my_lan\noptions ndots:0\n";
    let rig = Rig::new(search, server.address.port());
    server.knows("minecraft_lobby", A, ips(&["192.0.2.1"]));
    server.knows("mc_1.my_lan", A, ips(&["192.0.2.2"]));
    assert_eq!(rig.first("minecraft_lobby").await, "192.0.2.1");
    assert_eq!(rig.first("mc_1").await, "192.0.2.2");
    assert_eq!(rig.all("mc_2", false).await, ["the name does not exist"]);
}

/// Whatever happens to the question for one address family, the addresses of the
/// other are dialled at once.
#[tokio::test]
async fn one_family_is_enough() {
    let (rig, server) = Rig::with_server().await;
    for (index, reply) in [
        Reply::Silence,
        Reply::Code(2),
        Reply::Code(3),
        Reply::Code(4),
        Reply::Code(5),
        Reply::Records(Vec::new()),
    ]
    .into_iter()
    .enumerate()
    {
        for (kind, other, ip) in [(A, AAAA, "192.0.2.7"), (AAAA, A, "2001:db8::7")] {
            let name = format!("mc-{index}-{kind}");
            server.knows(&name, kind, ips(&[ip]));
            server.knows(&name, other, reply.clone());
            let began = Instant::now();
            assert_eq!(rig.first(&name).await, ip, "{reply:?}");
            assert!(began.elapsed() < FAMILY_WAIT / 2, "{:?}", began.elapsed());
        }
    }
    // And the end of the list comes as soon as the silent one has had its time.
    server.knows("mc", A, ips(&["192.0.2.7"]));
    server.knows("mc", AAAA, Reply::Silence);
    let began = Instant::now();
    assert_eq!(rig.all("mc", false).await, ["192.0.2.7:25565"]);
    assert!(began.elapsed() < 2 * FAMILY_WAIT + FAMILY_WAIT / 2);
}

/// Both address families alternate, IPv6 first, and only a few addresses of a pool are
/// dialled.
#[tokio::test]
async fn families_take_turns() {
    let (rig, server) = Rig::with_server().await;
    server.knows("mc", A, ips(&["192.0.2.1", "192.0.2.2"]));
    server.knows("mc", AAAA, ips(&["2001:db8::1"]));
    let turns = ["[2001:db8::1]:25565", "192.0.2.1:25565", "192.0.2.2:25565"];
    assert_eq!(rig.all("mc", false).await, turns);
    let many: Vec<String> = (0..40).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    // A real server would cut this number off over UDP.
    let Reply::Records(records) = ips(&many) else {
        unreachable!("they are records");
    };
    server.knows("pool", A, Reply::Truncated(records));
    assert_eq!(rig.all("pool", false).await.len(), IPS_PER_NAME_MAX);
}

/// After a name server that refuses, is not running or is silent, the next is asked;
/// the one that has answered is asked first from then on.
#[tokio::test]
async fn another_name_server_is_asked() {
    let good = NameServer::start("127.0.0.1:0").await;
    let port = good.address.port();
    good.knows("mc", A, ips(&["192.0.2.7"]));
    good.knows("mc2", A, ips(&["192.0.2.8"]));
    let replies = [
        Some(Reply::Code(5)),
        Some(Reply::Code(2)),
        Some(Reply::Silence),
        None,
    ];
    for (reply, address) in replies.into_iter().zip(2..) {
        let address = format!("127.0.0.{address}");
        let mut bad = None;
        if let Some(reply) = &reply {
            let server = NameServer::start(&format!("{address}:{port}")).await;
            for (name, kind) in [("mc", A), ("mc", AAAA), ("mc2", A), ("mc2", AAAA)] {
                server.knows(name, kind, reply.clone());
            }
            bad = Some(server);
        }
        let config = format!("nameserver {address}\nnameserver 127.0.0.1\n");
        let rig = Rig::new(&config, port);
        let began = Instant::now();
        assert_eq!(rig.first("mc").await, "192.0.2.7", "{reply:?}");
        assert!(began.elapsed() < 2 * FAMILY_WAIT, "{:?}", began.elapsed());
        assert_eq!(rig.first("mc2").await, "192.0.2.8", "{reply:?}");
        if let Some(bad) = bad {
            let asked = lock(&bad.asked).clone();
            assert!(asked.iter().all(|(name, _)| name == "mc"), "{asked:?}");
        }
    }
}

/// Each failure has a message for the operator.
#[tokio::test]
async fn failures_are_sentences() {
    let (rig, server) = Rig::with_server().await;
    for (name, reply, message) in [
        (
            "refused",
            Reply::Code(5),
            "the name server 127.0.0.1 refuses to answer",
        ),
        (
            "failed",
            Reply::Code(2),
            "the name server 127.0.0.1 could not find out (SERVFAIL)",
        ),
        (
            "empty",
            Reply::Records(Vec::new()),
            "the name has no address",
        ),
        ("none", Reply::Code(3), "the name does not exist"),
        (
            "silent",
            Reply::Silence,
            "the name server 127.0.0.1 did not answer",
        ),
    ] {
        server.knows(name, A, reply.clone());
        server.knows(name, AAAA, reply);
        assert_eq!(rig.all(name, false).await, [message]);
    }
}

/// Changes of the files take effect at the next look-up.
#[tokio::test]
async fn edited_files_are_followed() {
    let (rig, server) = Rig::with_server().await;
    server.knows("box", A, ips(&["192.0.2.7"]));
    assert_eq!(rig.first("box").await, "192.0.2.7");
    rig.write("hosts", "192.0.2.1 box\n");
    assert_eq!(rig.first("box").await, "192.0.2.1");
    rig.write("hosts", "192.0.2.2 box\n");
    assert_eq!(rig.first("box").await, "192.0.2.2", "of the same length");
    rig.write("hosts", "");
    assert_eq!(rig.first("box").await, "192.0.2.7");

    rig.write(
        "resolv.conf",
        "nameserver 127.0.0.1\nsearch lan\noptions ndots:2\n",
    );
    server.knows("box.lan", A, ips(&["192.0.2.9"]));
    assert_eq!(rig.first("box").await, "192.0.2.9");
    // Asked for at the latest when the operator asks for it.
    server.knows("box.lan", A, ips(&["192.0.2.10"]));
    assert_eq!(rig.first("box").await, "192.0.2.9", "it is remembered");
    rig.names.forget();
    assert_eq!(rig.first("box").await, "192.0.2.10");
}

/// A hosts file that never ends, or is a device, does not block a look-up.
#[cfg(unix)]
#[tokio::test]
async fn odd_hosts_files_do_not_hang() {
    let (rig, server) = Rig::with_server().await;
    server.knows("box", A, ips(&["192.0.2.7"]));
    let hosts = rig.folder.path().join("hosts");
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(rig.first("box").await, "192.0.2.7");
    std::fs::remove_file(&hosts).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &hosts).unwrap();
    rig.names.forget();
    assert_eq!(rig.first("box").await, "192.0.2.7");
}

/// Whatever the TTL of a record, an address is used for seconds only, and so is a
/// denial.
#[tokio::test]
async fn answers_have_a_short_life() {
    let (rig, server) = Rig::with_server().await;
    for name in ["mc", "mc.lan"] {
        server.knows(name, A, ips(&["192.0.2.7"]));
    }
    for (name, longest) in [("mc", NEARBY_LIFE), ("mc.lan", LIFE), ("none", DENIAL_LIFE)] {
        rig.all(name, false).await;
        let life = rig.life(name);
        assert!(life <= longest, "{name}: {life:?}");
        assert!(longest <= Duration::from_secs(30));
    }
}

/// If nothing listens at the known addresses, the name is looked up again at once, but
/// not for each of several players.
#[tokio::test]
async fn a_name_is_asked_for_again() {
    let (rig, server) = Rig::with_server().await;
    server.knows("mc", A, ips(&["192.0.2.1"]));
    assert_eq!(rig.first("mc").await, "192.0.2.1");
    server.knows("mc", A, ips(&["192.0.2.2"]));
    assert_eq!(
        rig.all("mc", false).await,
        ["192.0.2.1:25565", "192.0.2.2:25565"]
    );
    let asked = lock(&server.asked).len();
    assert_eq!(rig.all("mc", false).await, ["192.0.2.2:25565"]);
    assert_eq!(lock(&server.asked).len(), asked, "it has just been asked");
}

/// While no name server answers, the last addresses are still used; a denial ends that.
#[tokio::test]
async fn addresses_outlive_their_name_server() {
    let (rig, server) = Rig::with_server().await;
    server.knows("mc", A, ips(&["192.0.2.1"]));
    assert_eq!(rig.first("mc").await, "192.0.2.1");
    let expire = || {
        let known = lock(&rig.names.0.known);
        let before = known.values().next().unwrap().answers.borrow().clone();
        drop(known);
        let key = Key {
            name: "mc".to_owned(),
            with_srv: false,
        };
        let lookup = rig.names.0.begin(&key, Some(before), false);
        lock(&rig.names.0.known).insert(key, lookup);
    };
    for kind in [A, AAAA] {
        server.knows("mc", kind, Reply::Code(5));
    }
    expire();
    assert_eq!(rig.first("mc").await, "192.0.2.1");
    lock(&server.known).clear();
    expire();
    assert_eq!(rig.all("mc", false).await, ["the name does not exist"]);
}

/// The SRV record replaces the addresses of the name; its targets are dialled in their
/// order.
#[tokio::test]
async fn the_record_of_the_game_is_followed() {
    let (rig, server) = Rig::with_server().await;
    let service = "_minecraft._tcp.play.test";
    server.knows("play.test", A, ips(&["192.0.2.1"]));
    server.knows("one.test", A, ips(&["192.0.2.11"]));
    server.knows("two.test", A, ips(&["192.0.2.12"]));
    let records = vec![
        srv(5, 0, 1, "last.test"),
        srv(1, 1, 25577, "two.test"),
        srv(1, 9, 25566, "one.test"),
    ];
    server.knows(service, SRV, Reply::Records(records));
    let targets = ["192.0.2.11:25566", "192.0.2.12:25577"];
    assert_eq!(rig.all("play.test", true).await, targets);
    assert_eq!(rig.all("play.test", false).await, ["192.0.2.1:25565"]);
    // A name without a dot has none, and is not asked for it.
    server.knows("play", A, ips(&["192.0.2.3"]));
    assert_eq!(rig.all("play", true).await, ["192.0.2.3:25565"]);
    let asked = lock(&server.asked).clone();
    assert!(!asked.contains(&("_minecraft._tcp.play".to_owned(), SRV)));
}

/// If there is no SRV record, or no answer about it, the addresses of the name are
/// dialled without a long delay.
#[tokio::test]
async fn a_missing_record_delays_nothing() {
    let (rig, server) = Rig::with_server().await;
    for (index, reply) in [
        Reply::Silence,
        Reply::Code(3),
        Reply::Code(5),
        Reply::Records(vec![srv(0, 0, 1, ".")]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("mc{index}.test");
        server.knows(&name, A, ips(&["192.0.2.1"]));
        server.knows(&format!("_minecraft._tcp.{name}"), SRV, reply.clone());
        let began = Instant::now();
        let mut candidates = rig.candidates(&name, true).await;
        let first = candidates.next().await.unwrap().unwrap();
        assert_eq!(first.to_string(), "192.0.2.1:25565", "{reply:?}");
        assert!(began.elapsed() < 3 * SRV_DELAY, "{:?}", began.elapsed());
    }
}

/// `localhost` is this machine, whatever a name server says.
#[tokio::test]
async fn localhost_is_here() {
    let (rig, _) = Rig::with_server().await;
    assert_eq!(
        rig.all("localhost", false).await,
        ["[::1]:25565", "127.0.0.1:25565"]
    );
}

/// The number of remembered names is bounded, also for names that others choose.
#[tokio::test]
async fn remembered_names_are_bounded() {
    let rig = Rig::new("nameserver 127.0.0.1\n", 9);
    for index in 0..NAMES_MAX + 10 {
        let key = Key {
            name: format!("{index}.localhost"),
            with_srv: false,
        };
        rig.names.lookup(&key);
    }
    assert!(lock(&rig.names.0.known).len() <= NAMES_MAX);
}
