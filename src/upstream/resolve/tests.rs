#![allow(clippy::cast_possible_truncation)]

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// Longer than any wait in these tests takes, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// The most attempts at something that has to be quick, since the machine may be busy.
const TRIES_MAX: usize = 20;
/// How many ports are tried.
const PORTS_MAX: usize = 100;
/// The TTL of every record of the test's name server.
const TTL_SECONDS: u32 = 600;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// How a name server answers.
#[derive(Debug, Clone)]
enum Reply {
    /// Data of records of the type that was asked for.
    Records(Vec<Vec<u8>>),
    Code(u8),
    Silence,
    /// Over UDP, only that the answer is too long.
    Truncated(Vec<Vec<u8>>),
}

type Known = HashMap<(String, u16), Reply>;

/// A name server for tests. It denies unknown names for a day, and listens at one address
/// of the loopback network.
#[derive(Clone)]
struct NameServer {
    known: Arc<Mutex<Known>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    address: SocketAddr,
}

impl NameServer {
    async fn start() -> Self {
        let [server] = Self::start_all(["127.0.0.1"]).await;
        server
    }

    /// Name servers at these addresses, at one port for all of them.
    async fn start_all<const COUNT: usize>(ips: [&str; COUNT]) -> [Self; COUNT] {
        for _ in 0..PORTS_MAX {
            let mut sockets = Vec::new();
            let mut port = 0;
            for ip in ips {
                let Ok(bound) = Self::bind(ip, port).await else {
                    break;
                };
                port = bound.0.local_addr().unwrap().port();
                sockets.push(bound);
            }
            if let Ok(sockets) = <[_; COUNT]>::try_from(sockets) {
                return sockets.map(|(udp, tcp)| Self::serve(udp, tcp));
            }
        }
        panic!("other programs have all ports");
    }

    /// Sockets for both protocols at the same port, which another program may have.
    async fn bind(ip: &str, port: u16) -> std::io::Result<(UdpSocket, TcpListener)> {
        let udp = UdpSocket::bind((ip, port)).await?;
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        Ok((udp, tcp))
    }

    fn serve(udp: UdpSocket, tcp: TcpListener) -> Self {
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
                    // A message that does not answer this question is ignored.
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
        let server = NameServer::start().await;
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

    /// How long the answers about a name are still used.
    fn life(&self, name: &str) -> Duration {
        let known = lock(&self.names.0.known);
        let key = known.keys().find(|key| key.name == name).unwrap();
        let expires = known[key].answers.borrow().expires.unwrap();
        expires.saturating_duration_since(Instant::now())
    }
}

/// Runs this with a new number until a run takes less than `bound`. A wait of the
/// resolver is in every run, and the delays of a busy machine are not.
async fn quick(bound: Duration, run: impl AsyncFn(usize)) {
    let mut took = Vec::new();
    for number in 0..TRIES_MAX {
        let began = Instant::now();
        run(number).await;
        took.push(began.elapsed());
        if took[number] < bound {
            return;
        }
    }
    panic!("{took:?}, and never less than {bound:?}");
}

/// Names that engines and routers give to machines are resolved, alone and with a domain of
/// the search list, even if they are not valid host names.
#[tokio::test]
async fn names_may_have_underscores() {
    let server = NameServer::start().await;
    let search = "nameserver 127.0.0.1\nsearch my_lan\noptions ndots:0\n";
    let rig = Rig::new(search, server.address.port());
    server.knows("minecraft_lobby", A, ips(&["192.0.2.1"]));
    server.knows("mc_1.my_lan", A, ips(&["192.0.2.2"]));
    assert_eq!(rig.first("minecraft_lobby").await, "192.0.2.1");
    assert_eq!(rig.first("mc_1").await, "192.0.2.2");
    assert_eq!(rig.all("mc_2", false).await, ["the name does not exist"]);
}

/// The addresses of one family are dialled at once, whatever happens to the question for
/// the other.
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
            let name = |number| format!("mc-{index}-{kind}-{number}");
            quick(FAMILY_WAIT / 2, async |number| {
                let name = name(number);
                server.knows(&name, kind, ips(&[ip]));
                server.knows(&name, other, reply.clone());
                assert_eq!(rig.first(&name).await, ip, "{reply:?}");
            })
            .await;
        }
    }
    // And the end of the list comes as soon as the silent one has had its time.
    quick(2 * FAMILY_WAIT + FAMILY_WAIT / 2, async |number| {
        let name = format!("mc-{number}");
        server.knows(&name, A, ips(&["192.0.2.7"]));
        server.knows(&name, AAAA, Reply::Silence);
        assert_eq!(rig.all(&name, false).await, ["192.0.2.7:25565"]);
    })
    .await;
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
    let servers = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let [good, refusing, failing, silent] = NameServer::start_all(servers).await;
    let bad = [
        (Some(refusing), Reply::Code(5)),
        (Some(failing), Reply::Code(2)),
        (Some(silent), Reply::Silence),
        // No process listens there.
        (None, Reply::Silence),
    ];
    for ((bad, reply), address) in bad.into_iter().zip(2..) {
        let config = format!("nameserver 127.0.0.{address}\nnameserver 127.0.0.1\n");
        let port = good.address.port();
        quick(2 * FAMILY_WAIT, async |number| {
            let names = ["first", "second"].map(|name| format!("{name}-{address}-{number}"));
            for (name, ip) in names.iter().zip(["192.0.2.7", "192.0.2.8"]) {
                good.knows(name, A, ips(&[ip]));
                if let Some(bad) = &bad {
                    bad.knows(name, A, reply.clone());
                    bad.knows(name, AAAA, reply.clone());
                }
            }
            let rig = Rig::new(&config, port);
            assert_eq!(rig.first(&names[0]).await, "192.0.2.7", "{reply:?}");
            assert_eq!(rig.first(&names[1]).await, "192.0.2.8", "{reply:?}");
            if let Some(bad) = &bad {
                let asked = lock(&bad.asked).clone();
                assert!(asked.iter().all(|(name, _)| *name != names[1]), "{asked:?}");
            }
        })
        .await;
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
    // An answer is used until `forget` is called.
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

/// An address is only used for seconds, with any TTL, and so is a denial.
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

/// If no process listens at the known addresses, the name is looked up again at once, but
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
        quick(3 * SRV_DELAY, async |number| {
            let name = format!("mc{index}-{number}.test");
            server.knows(&name, A, ips(&["192.0.2.1"]));
            server.knows(&format!("_minecraft._tcp.{name}"), SRV, reply.clone());
            let mut candidates = rig.candidates(&name, true).await;
            let first = candidates.next().await.unwrap().unwrap();
            assert_eq!(first.to_string(), "192.0.2.1:25565", "{reply:?}");
        })
        .await;
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

/// The number of remembered names is bounded, also for names from SRV records.
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
