//! Players in the game, with traffic of real frames. An intercepting proxy has to find the
//! end of each frame.
//!
//! Players and backends are one thread with one epoll(7), so that they cost little beside
//! the relay. Players decrypt all that they get, and find each frame in it.
//!
//! There are two delays of a message, both since a backend has made it: until the player has
//! read it, and until the kernel has all of it for the player (`SO_TIMESTAMPNS`). The first one
//! contains what this program does meanwhile.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use infrarust::protocol::cipher::Cipher;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;

use crate::load::{Random, figure};
use crate::relays::{Relay, Running};

/// 1.12.2: a login of a few packets, and no configuration.
const PROTOCOL: i32 = 340;
const JOIN_GAME: i32 = 0x23;
/// A relative move of an entity.
const MOVE: u8 = 0x26;
/// A line of chat.
const CHAT: u8 = 0x0F;
/// This id belongs to no packet of that version: the body is the time at which it was sent,
/// in nanoseconds of the system's clock.
const STAMP: u8 = 0x7E;
/// A position of a player.
const POSITION: u8 = 0x0D;
const CHUNK: u8 = 0x20;
const SECRET: [u8; 16] = *b"relay benchmark ";
/// The compression threshold that backends announce, as servers of the game do, in bytes.
const THRESHOLD: i32 = 256;

/// The session service does not answer about names that begin with this letter.
const UNANSWERED: char = 'w';
/// How many logins run at the same time.
const LOGINS_AT_ONCE: usize = 8;
const LOGIN_MAX: Duration = Duration::from_secs(20);
/// How many bursts a player gets, and how many packets it sends, in each second.
const TICKS: u32 = 20;

/// What backends send at each tick.
#[derive(Clone, Copy)]
pub enum Burst {
    /// Some 42 small frames, mean 1.1 KB, 1 % of them chat; in 2 of 100 a chunk of 8 to
    /// 32 KiB.
    Mix,
    /// One frame of this number of bytes, and a small one.
    One(usize),
}

#[derive(Clone, Copy)]
pub struct Play {
    pub players: usize,
    pub burst: Burst,
}

pub const FIGURES: &[&str] = &[
    "CPU µs / message",
    "p50 µs",
    "p99 µs",
    "p50 µs, arrived",
    "p99 µs, arrived",
    "CPU %",
    "calls / message",
];
pub const LOGIN_FIGURES: &[&str] = &[
    "p99, with / without logins",
    "p99 µs, without",
    "p99 µs, with",
    "p50 µs, without",
    "p50 µs, with",
];
pub const IDLE_FIGURES: &[&str] = &["bytes / session", "descriptors / session"];

/// How long players play before the measurement begins.
const WARM_UP: Duration = Duration::from_millis(700);

/// Sends bursts to players and packets back.
pub fn play(relay: &Relay, play: Play, time: Duration) -> Vec<f64> {
    let world = World::start(relay);
    let sessions = world.open(0..play.players);
    let mut swarm = Swarm::new(sessions, play.burst, relay.compresses);
    swarm.run(WARM_UP);
    swarm.forget_delays();
    let calls = Calls::count(&world.relay, time);
    let before = (world.relay.cpu(), swarm.received);
    let took = swarm.run(time);
    let cpu = world.relay.cpu() - before.0;
    let messages = figure(swarm.received - before.1);
    let [p50, p99] = quantiles(&mut swarm.until_read);
    let [p50_arrived, p99_arrived] = quantiles(&mut swarm.until_arrived);
    vec![
        cpu.as_secs_f64() * 1e6 / messages,
        p50,
        p99,
        p50_arrived,
        p99_arrived,
        cpu.as_secs_f64() / took.as_secs_f64() * 100.0,
        calls.map_or(f64::NAN, |calls| calls.end() / messages),
    ]
}

/// Like [`play`], first without other logins, and then while this number of logins waits
/// for a session service that does not answer. All of them answer the encryption request at
/// once. The delays are those until messages have arrived, since these logins also occupy this
/// program.
pub fn play_beside_logins(relay: &Relay, play: Play, logins: usize, time: Duration) -> Vec<f64> {
    let world = World::start(relay);
    let sessions = world.open(0..play.players);
    let mut swarm = Swarm::new(sessions, play.burst, relay.compresses);
    let mut measure = |begin: &mut dyn FnMut()| {
        swarm.run(WARM_UP);
        swarm.forget_delays();
        begin();
        swarm.run(time);
        quantiles(&mut swarm.until_arrived)
    };
    let [p50, p99] = measure(&mut || {});
    let mut waiting: Vec<_> = (0..logins)
        .map(|number| Login::new(world.relay.address).up_to_encryption(number))
        .collect();
    let [p50_with, p99_with] = measure(&mut || {
        for (login, answer) in &mut waiting {
            login.stream.write_all(answer).unwrap();
        }
    });
    for (login, _) in &mut waiting {
        login.stream.set_nonblocking(true).unwrap();
        let read = login.stream.read(&mut [0]);
        let is_waiting = read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(
            is_waiting,
            "a login waits as long as the players are measured"
        );
    }
    vec![p99_with / p99, p99, p99_with, p50, p50_with]
}

/// Measures the memory and the descriptors of a session in which nothing happens any more.
pub fn idle(relay: &Relay) -> Vec<f64> {
    // The first sessions cause allocations that all sessions share.
    const FIRST: usize = 200;
    const SESSIONS: usize = 1200;
    const PLAY: Duration = Duration::from_millis(500);
    let world = World::start(relay);
    let settle = |sessions| {
        let mut swarm = Swarm::new(sessions, Burst::Mix, relay.compresses);
        swarm.run(PLAY);
        swarm.finish();
        std::thread::sleep(PLAY);
        (swarm, world.relay.memory(), world.relay.descriptors())
    };
    let (_first, memory, descriptors) = settle(world.open(0..FIRST));
    let (_rest, more_memory, more_descriptors) = settle(world.open(FIRST..SESSIONS));
    let count = figure(SESSIONS - FIRST);
    let bytes = usize::try_from(more_memory.saturating_sub(memory)).unwrap();
    vec![
        figure(bytes) / count,
        figure(more_descriptors - descriptors) / count,
    ]
}

/// System calls of a relay, counted with perf where `CALLS=1` asks for it; it
/// makes the relay more expensive.
struct Calls(std::process::Child);

impl Calls {
    fn count(relay: &Running, time: Duration) -> Option<Self> {
        std::env::var_os("CALLS")?;
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p"]);
        perf.arg(relay.id().to_string());
        perf.args(["sleep", &time.as_secs_f64().to_string()]);
        let perf = perf.stdout(Stdio::null()).stderr(Stdio::piped());
        Some(Self(perf.spawn().ok()?))
    }

    fn end(self) -> f64 {
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let counts = text.lines().filter_map(|line| line.split(',').next());
        counts.filter_map(|count| count.parse::<f64>().ok()).sum()
    }
}

/// A relay, its backend, and a session service.
struct World {
    backend: TcpListener,
    relay: Running,
    compresses: bool,
}

/// The two ends of a session: the player's and its backend's.
struct Session {
    player: TcpStream,
    server: TcpStream,
    /// The ciphers with which the player decrypts and encrypts.
    ciphers: Option<(Cipher, Cipher)>,
    /// Whether the player reads frames with compression.
    is_compressed: bool,
}

impl World {
    fn start(relay: &Relay) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = start_session_service();
        let global = format!("[auth]\nsession_url = \"{url}\"\n");
        Self {
            relay: relay.start(backend.local_addr().unwrap(), &global),
            backend,
            compresses: relay.compresses,
        }
    }

    /// Logs in the players with these numbers.
    fn open(&self, numbers: std::ops::Range<usize>) -> Vec<Session> {
        let first = numbers.start;
        let (tell, players) = mpsc::channel();
        let next = std::sync::Mutex::new(numbers.clone());
        std::thread::scope(|scope| {
            for _ in 0..LOGINS_AT_ONCE {
                let (tell, next, address) = (tell.clone(), &next, self.relay.address);
                scope.spawn(move || {
                    let take = || next.lock().unwrap().next();
                    while let Some(number) = take() {
                        let player = Login::new(address).run(number);
                        tell.send((number, player)).unwrap();
                    }
                });
            }
            let mut servers: Vec<Option<TcpStream>> = numbers.clone().map(|_| None).collect();
            while servers.iter().any(Option::is_none) {
                let (stream, _) = self.backend.accept().unwrap();
                // A relay that does not read logins also forwards the connection that only
                // tested whether it listens.
                if let Some((number, stream)) = self.welcome(stream) {
                    servers[number - first] = Some(stream);
                }
            }
            let mut sessions: Vec<Option<Session>> = numbers.clone().map(|_| None).collect();
            for _ in numbers {
                let (number, login) = players.recv().unwrap();
                let server = servers[number - first].take().unwrap();
                sessions[number - first] = Some(Session {
                    player: login.stream,
                    server,
                    ciphers: login.ciphers,
                    is_compressed: login.is_compressed,
                });
            }
            sessions.into_iter().flatten().collect()
        })
    }

    /// The backend's part of a login.
    fn welcome(&self, stream: TcpStream) -> Option<(usize, TcpStream)> {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOGIN_MAX)).unwrap();
        let mut login = Login {
            stream,
            ciphers: None,
            is_compressed: false,
        };
        let _handshake = login.frame()?;
        let start = login.frame()?;
        let name = String::from_utf8(start[2..].to_vec()).unwrap();
        let number = name[1..].parse().unwrap();
        let mut answer = Vec::new();
        if self.compresses {
            answer.extend(frame(&[&[0x03], &varint(THRESHOLD)[..]].concat(), false));
        }
        let id = string("00000000-0000-3000-8000-000000000001");
        let success = [&[0x02], &id[..], &string(&name)[..]].concat();
        answer.extend(frame(&success, self.compresses));
        let join = [&varint(JOIN_GAME)[..], &[0; 16]].concat();
        answer.extend(frame(&join, self.compresses));
        login.stream.write_all(&answer).unwrap();
        Some((number, login.stream))
    }
}

/// One end of a login.
struct Login {
    stream: TcpStream,
    ciphers: Option<(Cipher, Cipher)>,
    is_compressed: bool,
}

impl Login {
    fn new(relay: SocketAddr) -> Self {
        let stream = TcpStream::connect(relay).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOGIN_MAX)).unwrap();
        Self {
            stream,
            ciphers: None,
            is_compressed: false,
        }
    }

    /// Sends the handshake, and a login start with this name.
    fn begin(&mut self, name: &str) {
        let port = [0x63, 0xDD];
        let host = string("bench.test");
        let hello = [&[0], &varint(PROTOCOL)[..], &host, &port, &[2]].concat();
        let start = [&[0], &string(name)[..]].concat();
        let first = [frame(&hello, false), frame(&start, false)].concat();
        self.stream.write_all(&first).unwrap();
    }

    /// Runs the login up to the encryption request, for a name about which the session
    /// service does not answer. Returns the encryption response too, which is not sent yet.
    fn up_to_encryption(mut self, number: usize) -> (Self, Vec<u8>) {
        self.begin(&format!("{UNANSWERED}{number:07}"));
        let packet = self.frame().expect("an encryption request");
        assert_eq!(packet[0], 1, "a relay that authenticates");
        (self, encryption_response(&packet[1..]))
    }

    /// Runs the login until the player is in the game.
    fn run(mut self, number: usize) -> Self {
        self.begin(&format!("p{number:07}"));
        loop {
            let packet = self.frame().expect("a packet of the login");
            match i32::from(packet[0]) {
                1 => self.encrypt(&packet[1..]),
                2 => {}
                3 => self.is_compressed = true,
                JOIN_GAME => return self,
                id => panic!("packet {id:#04x} in a login: {packet:02x?}"),
            }
        }
    }

    /// Answers an encryption request.
    fn encrypt(&mut self, request: &[u8]) {
        self.stream
            .write_all(&encryption_response(request))
            .unwrap();
        self.ciphers = Some((Cipher::new(&SECRET), Cipher::new(&SECRET)));
    }

    /// Reads the next packet, and no byte behind it; `None` at the end of the stream.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        let length = loop {
            head.extend(self.read(1)?);
            if let Some((length, _)) = read_varint(&head) {
                break length;
            }
        };
        let mut packet = self.read(length)?;
        if self.is_compressed {
            assert_eq!(packet.remove(0), 0, "packets of the login are small");
        }
        Some(packet)
    }

    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        if let Some((decrypt, _)) = &mut self.ciphers {
            decrypt.decrypt(&mut bytes);
        }
        Some(bytes)
    }
}

/// The encryption response to this request, as a frame.
fn encryption_response(request: &[u8]) -> Vec<u8> {
    let mut rest = &request[1..];
    let mut array = || {
        let (length, at) = read_varint(rest).unwrap();
        let (bytes, more) = rest[at..].split_at(length);
        rest = more;
        bytes.to_vec()
    };
    let (key, token) = (array(), array());
    let key = PublicKey::from_public_key_der(&key).unwrap();
    let sealed = |bytes: &[u8]| {
        let sealed = key.pkcs1v15_encrypt(bytes).unwrap();
        [varint(i32::try_from(sealed.len()).unwrap()), sealed].concat()
    };
    let response = [vec![1], sealed(&SECRET), sealed(&token)].concat();
    frame(&response, false)
}

/// Starts a session service that confirms every player, and does not answer about
/// [`UNANSWERED`] names. Returns its address.
fn start_session_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hasJoined", listener.local_addr().unwrap());
    let answer = |mut stream: TcpStream| {
        let mut request = [0; 2048];
        while let Ok(bytes @ 1..) = stream.read(&mut request) {
            let request = String::from_utf8_lossy(&request[..bytes]);
            let name = request.split("username=").nth(1);
            let name = name.and_then(|rest| rest.split(['&', ' ']).next());
            let name = name.expect("a name is asked about");
            if name.starts_with(UNANSWERED) {
                continue;
            }
            let number: u32 = name[1..].parse().unwrap();
            let body =
                format!("{{\"id\":\"{number:032x}\",\"name\":\"{name}\",\"properties\":[]}}");
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    url
}

/// One end of a session in the game.
struct End {
    stream: TcpStream,
    cipher: Option<(Cipher, Cipher)>,
    is_compressed: bool,
    walker: Walker,
    /// Bytes that did not fit into the send buffer of the socket.
    pending: Vec<u8>,
    /// Room for the time of arrival.
    control: Vec<u8>,
}

impl End {
    fn new(stream: TcpStream, cipher: Option<(Cipher, Cipher)>, is_compressed: bool) -> Self {
        stream.set_nonblocking(true).unwrap();
        setsockopt(&stream, ReceiveTimestampns, &true).unwrap();
        Self {
            stream,
            cipher,
            is_compressed,
            walker: Walker::default(),
            pending: Vec::new(),
            control: nix::cmsg_space!(TimeSpec),
        }
    }

    fn send(&mut self, bytes: &mut [u8]) {
        if let Some((_, encrypt)) = &mut self.cipher {
            encrypt.encrypt(bytes);
        }
        let sent = match self.pending.is_empty() {
            true => self.write(bytes),
            false => 0,
        };
        self.pending.extend_from_slice(&bytes[sent..]);
    }

    fn write(&self, bytes: &[u8]) -> usize {
        match (&self.stream).write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("a session ended: {error}"),
        }
    }

    fn flush(&mut self) {
        let sent = self.write(&self.pending);
        self.pending.drain(..sent);
    }

    /// Reads what has come. Returns the number of messages, and passes on when each was sent, if
    /// it says so, and when it has arrived.
    fn receive(&mut self, buffer: &mut [u8], mut times: impl FnMut(Duration, Duration)) -> usize {
        let mut parts = [IoSliceMut::new(buffer)];
        let (socket, flags) = (self.stream.as_raw_fd(), MsgFlags::empty());
        let received = match recvmsg::<()>(socket, &mut parts, Some(&mut self.control), flags) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return 0,
            Err(error) => panic!("a session ended: {error}"),
        };
        let arrived = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        let count = received.bytes;
        assert!(count > 0, "a session ended");
        let bytes = &mut buffer[..count];
        // The kernel does not note the first bytes, which come while it switches that on.
        let arrived = arrived.unwrap_or_else(since_epoch);
        let stamps = |sent| times(Duration::from_nanos(sent), arrived);
        if let Some((decrypt, _)) = &mut self.cipher {
            decrypt.decrypt(bytes);
        }
        self.walker.walk(bytes, self.is_compressed, stamps)
    }
}

/// Finds frames, and reads the time of sending from the frame that ends a message.
#[derive(Default)]
struct Walker {
    head: Vec<u8>,
    beginning: Vec<u8>,
    left: usize,
}

impl Walker {
    fn walk(
        &mut self,
        mut bytes: &[u8],
        is_compressed: bool,
        mut stamps: impl FnMut(u64),
    ) -> usize {
        let mut messages = 0;
        while let Some((first, rest)) = bytes.split_first() {
            if self.left == 0 {
                self.head.push(*first);
                bytes = rest;
                if let Some((length, _)) = read_varint(&self.head) {
                    assert!(self.head.len() <= 3 && length > 0, "not a frame");
                    self.left = length;
                    self.head.clear();
                    self.beginning.clear();
                }
                continue;
            }
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            let wanted = 10_usize.saturating_sub(self.beginning.len());
            self.beginning.extend(now.iter().take(wanted));
            self.left -= now.len();
            bytes = later;
            let packet = match (is_compressed, &self.beginning[..]) {
                (true, [0, packet @ ..]) | (false, packet) => packet,
                (true, _) => continue,
            };
            if self.left > 0 {
                continue;
            }
            if let [STAMP, stamp @ ..] = packet {
                stamps(u64::from_le_bytes(stamp[..8].try_into().unwrap()));
                messages += 1;
            }
            messages += usize::from(packet[0] == POSITION);
        }
        messages
    }
}

/// All players and backends.
struct Swarm {
    /// For each session the player's end, then the backend's.
    ends: Vec<End>,
    epoll: Epoll,
    bursts: VecDeque<(Instant, usize)>,
    answers: VecDeque<(Instant, usize)>,
    burst: Burst,
    chunks: Vec<Vec<u8>>,
    random: Random,
    buffer: Vec<u8>,
    /// How many small frames were sent to players.
    frames: usize,
    received: usize,
    /// The delays of messages, in microseconds.
    until_read: Vec<f64>,
    until_arrived: Vec<f64>,
}

impl Swarm {
    fn new(sessions: Vec<Session>, burst: Burst, compresses: bool) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut ends = Vec::new();
        for session in sessions {
            let is_compressed = session.is_compressed;
            ends.push(End::new(session.player, session.ciphers, is_compressed));
            ends.push(End::new(session.server, None, compresses));
        }
        for (index, end) in ends.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::try_from(index).unwrap());
            epoll.add(end.stream.as_fd(), event).unwrap();
        }
        let began = Instant::now();
        let period = Duration::from_secs(1) / TICKS;
        // 50 players share a server and its ticks. No two servers tick at the same moment,
        // and no two players send at the same moment.
        let due = |at: u32, of: u32| began + period * at / of;
        let count = u32::try_from(ends.len() / 2).unwrap();
        let servers = count.div_ceil(50);
        let bursts = (0..count).map(|player| (due(player / 50, servers), player));
        let answers = (0..count).map(|player| (due(player, count), player));
        let index = |(at, player)| (at, usize::try_from(player).unwrap());
        let mut random = Random(1);
        Self {
            bursts: bursts.map(index).collect(),
            answers: answers.map(index).collect(),
            ends,
            epoll,
            burst,
            chunks: (0..32).map(|_| chunk(&mut random, compresses)).collect(),
            random,
            buffer: vec![0; 256 * 1024],
            frames: 0,
            received: 0,
            until_read: Vec::new(),
            until_arrived: Vec::new(),
        }
    }

    fn run(&mut self, time: Duration) -> Duration {
        let (began, period) = (Instant::now(), Duration::from_secs(1) / TICKS);
        let mut message = Vec::new();
        loop {
            let now = Instant::now();
            if now - began >= time {
                return now - began;
            }
            self.leave_out_missed(now);
            while let Some((at, player)) = take_due(&mut self.bursts, now) {
                self.bursts.push_back((at + period, player));
                message.clear();
                self.message(player, &mut message);
                self.ends[2 * player + 1].send(&mut message);
            }
            while let Some((at, player)) = take_due(&mut self.answers, now) {
                self.answers.push_back((at + period, player));
                let end = &mut self.ends[2 * player];
                let packet = [&[POSITION], &[8; 27][..]].concat();
                end.send(&mut frame(&packet, end.is_compressed));
            }
            for end in &mut self.ends {
                if !end.pending.is_empty() {
                    end.flush();
                }
            }
            let next = [&self.bursts, &self.answers].map(|queue| queue.front().map(|(at, _)| *at));
            let next = next.into_iter().flatten().min();
            let wait = next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            self.receive(wait);
        }
    }

    /// Moves the schedule if this program is late, or has not run for a time. Otherwise it
    /// would send the messages of several ticks at once, and measure how long that takes.
    fn leave_out_missed(&mut self, now: Instant) {
        const LATE_MAX: Duration = Duration::from_millis(1);
        for queue in [&mut self.bursts, &mut self.answers] {
            let due = queue.front().map(|(at, _)| *at);
            let late = due.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            if late > LATE_MAX {
                queue.iter_mut().for_each(|(at, _)| *at += late);
            }
        }
    }

    fn forget_delays(&mut self) {
        self.until_read.clear();
        self.until_arrived.clear();
    }

    /// Runs until all messages that were sent have arrived.
    fn finish(&mut self) {
        while self.receive(Duration::from_millis(200)) > 0 || self.flush() {}
    }

    fn flush(&mut self) -> bool {
        self.ends.iter_mut().for_each(End::flush);
        self.ends.iter().any(|end| !end.pending.is_empty())
    }

    fn receive(&mut self, wait: Duration) -> usize {
        let mut events = [EpollEvent::empty(); 512];
        let timeout = EpollTimeout::try_from(wait).unwrap();
        let found = self.epoll.wait(&mut events, timeout).unwrap();
        for event in &events[..found] {
            let end = &mut self.ends[usize::try_from(event.data()).unwrap()];
            let (until_read, until_arrived) = (&mut self.until_read, &mut self.until_arrived);
            self.received += end.receive(&mut self.buffer, |sent, arrived| {
                let micros = |at: Duration| at.saturating_sub(sent).as_secs_f64() * 1e6;
                until_read.push(micros(since_epoch()));
                until_arrived.push(micros(arrived));
            });
        }
        found
    }

    /// Appends what a backend sends at one tick.
    fn message(&mut self, player: usize, out: &mut Vec<u8>) {
        let is_compressed = self.ends[2 * player + 1].is_compressed;
        match self.burst {
            Burst::Mix => {
                if self.random.below(50) == 0 {
                    let at = self.random.below(32);
                    out.extend_from_slice(&self.chunks[at]);
                }
                let until = out.len() + 64 + self.random.below(1200);
                while out.len() < until {
                    let bytes = 4 + self.random.below(20);
                    self.frames += 1;
                    let packet = match self.frames.is_multiple_of(100) {
                        true => [&[CHAT], &string("{\"text\":\"hi\"}")[..], &[0]].concat(),
                        false => [&[MOVE], &[7; 24][..bytes]].concat(),
                    };
                    out.extend(frame(&packet, is_compressed));
                }
            }
            Burst::One(bytes) => {
                let packet = [&[MOVE], &vec![7; bytes][..]].concat();
                out.extend(frame(&packet, is_compressed));
            }
        }
        let sent = u64::try_from(since_epoch().as_nanos()).unwrap();
        let stamp = [&[STAMP], &sent.to_le_bytes()[..]].concat();
        out.extend(frame(&stamp, is_compressed));
    }
}

/// The median and the 99th percentile.
fn quantiles(values: &mut [f64]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [50, 99].map(|percent| {
        let at = values.len() * percent / 100;
        values.get(at).copied().unwrap_or(f64::NAN)
    })
}

/// The system's clock.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn take_due(queue: &mut VecDeque<(Instant, usize)>, now: Instant) -> Option<(Instant, usize)> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    is_due.then(|| queue.pop_front()).flatten()
}

/// A frame of 8 to 32 KiB, with compression or without.
fn chunk(random: &mut Random, is_compressed: bool) -> Vec<u8> {
    let bytes = 8192 + random.below(24_576);
    let mut packet = vec![CHUNK];
    if !is_compressed {
        packet.extend((0..bytes).map(|_| u8::try_from(random.below(16)).unwrap()));
        return frame(&packet, false);
    }
    // Each byte has one of sixteen values, so that compression halves the size.
    packet.extend((0..2 * bytes).map(|_| u8::try_from(random.below(16)).unwrap()));
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut deflated = vec![0; compressor.zlib_compress_bound(packet.len())];
    let length = compressor.zlib_compress(&packet, &mut deflated).unwrap();
    deflated.truncate(length);
    let length = varint(i32::try_from(packet.len()).unwrap());
    frame(&[length, deflated].concat(), false)
}

/// A frame whose packet is not compressed.
fn frame(packet: &[u8], is_compressed: bool) -> Vec<u8> {
    let head: &[u8] = if is_compressed { &[0] } else { &[] };
    let length = i32::try_from(head.len() + packet.len()).unwrap();
    [&varint(length)[..], head, packet].concat()
}

fn string(text: &str) -> Vec<u8> {
    let length = i32::try_from(text.len()).unwrap();
    [&varint(length)[..], text.as_bytes()].concat()
}

fn varint(value: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    infrarust::protocol::varint::encode(value, &mut bytes);
    bytes
}

fn read_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let (value, at) = infrarust::protocol::varint::decode(bytes).unwrap()?;
    Some((usize::try_from(value).unwrap(), at))
}
