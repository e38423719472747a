//! Many sessions at once, and many one after the other, through the program.
//!
//! One test at a time, since they reach limits of the process and of the machine.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use infrarust_test_support::game::{self, Ids, Say, Sessions, Speaker};
use infrarust_test_support::program::Program;
use infrarust_test_support::wire::varint;
use infrarust_test_support::{FakeBackend, FakeClient, Peer, server};
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Uid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::alone::alone;

/// Descriptors besides those of the sessions, in this process and in the program.
const OTHER_FILES: usize = 500;

const HOST: &str = "scale.test";

/// The program and its log. The log is read, since the program would keep unread lines.
struct Running {
    proxy: SocketAddr,
    pid: u32,
    _child: Child,
    _folder: TempDir,
}

/// Starts the program with a server of this mode for a backend.
async fn start(mode: &str, backend: SocketAddr, adjust: impl FnOnce(&mut Command)) -> Running {
    let servers = [("scale", server(mode, HOST, backend, ""))];
    let mut program = Program::start_with("", &servers, adjust);
    let proxy = program.address().await;
    let Program {
        child,
        mut log,
        folder,
    } = program;
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Running {
        proxy,
        pid: child.id().unwrap(),
        _child: child,
        _folder: folder,
    }
}

/// Both ends of a session through the proxy.
struct Session {
    client: Peer,
    backend: Peer,
}

impl Session {
    async fn open(proxy: SocketAddr, backend: &FakeBackend) -> Self {
        let client = FakeClient::login(proxy, HOST, "player").await;
        let (backend, _, _) = backend.accept_login().await;
        Self { client, backend }
    }

    /// Sends bytes both ways and waits until they have arrived.
    async fn exchange(&mut self, clientbound: usize, serverbound: usize) {
        self.backend.send(&vec![7; clientbound]).await;
        assert_eq!(self.client.bytes(clientbound).await.len(), clientbound);
        self.client.send(&vec![8; serverbound]).await;
        assert_eq!(self.backend.bytes(serverbound).await.len(), serverbound);
    }
}

/// Opens `count` sessions, each with bytes in both directions.
async fn open(proxy: SocketAddr, backend: &FakeBackend, count: usize) -> Vec<Session> {
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let mut session = Session::open(proxy, backend).await;
        opening.spawn(async move {
            session.exchange(32 * 1024, 1024).await;
            session
        });
    }
    opening.join_all().await
}

/// The names of what the descriptors of a process are open on, by descriptor.
fn descriptors(pid: u32) -> Vec<(String, String)> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    folder
        .filter_map(|entry| {
            let entry = entry.unwrap();
            // One that is closed meanwhile has no name.
            let name = fs::read_link(entry.path()).ok()?;
            let file = entry.path().to_string_lossy().into_owned();
            Some((file, name.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The files of the ends of a process's pipes.
fn pipes(pid: u32) -> Vec<String> {
    descriptors(pid)
        .into_iter()
        .filter(|(_, name)| name.starts_with("pipe:"))
        .map(|(file, _)| file)
        .collect()
}

/// The private memory of a process, in bytes.
fn memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// Nine thousand sessions fit into 20,000 descriptors, hold no pipe, and use little memory.
/// If this test may open fewer descriptors, it opens as many sessions as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_thousand_sessions() {
    const WANTED: usize = 9000;
    const FILES: &str = "20000";
    /// Including the memory that the allocator keeps for later sessions.
    const SESSION_BYTES_MAX: usize = 5000;
    let _machine = alone().await;
    let own_files = usize::try_from(infrarust::socket::raise_open_files().unwrap()).unwrap();
    let count = WANTED.min(own_files.saturating_sub(OTHER_FILES) / 2);
    let backend = FakeBackend::start().await;
    let running = start("zero_copy", backend.address, |command| {
        *command = limited(command, FILES);
    })
    .await;
    let Running { proxy, pid, .. } = running;
    let few = open(proxy, &backend, 100).await;
    let before = memory(pid);
    let many = open(proxy, &backend, count - few.len()).await;
    let bytes = (memory(pid) - before) / many.len();
    let files = descriptors(pid).len();
    let pipe_ends = pipes(pid).len();
    println!(
        "{count} sessions: {files} descriptors, {pipe_ends} ends of pipes, {bytes} bytes each"
    );
    assert!(files <= 2 * count + OTHER_FILES, "{files} descriptors");
    assert!(pipe_ends <= OTHER_FILES / 4, "{pipe_ends} ends of pipes");
    assert!(bytes <= SESSION_BYTES_MAX, "{bytes} bytes each");
    // They are all alive.
    for mut session in few.into_iter().chain(many) {
        session.exchange(64, 64).await;
    }
}

/// The same command, run by a shell that has set the limit of open files.
fn limited(command: &Command, files: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", files])
        .arg(command.as_std().get_program())
        .args(command.as_std().get_args());
    watched(shell)
}

/// With the log of a [`Program`].
fn watched(mut command: Command) -> Command {
    command
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A user without privileges can have 1,024 pipes of default size; further ones have a page
/// or two. Many more sessions than that relay through pipes of full size, since idle
/// sessions hold none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_of_full_size_without_privileges() {
    const SESSIONS: usize = 1300;
    /// The user `nobody`, on every system.
    const NOBODY: u32 = 65_534;
    let _machine = alone().await;
    let program = tempfile::tempdir().unwrap();
    let backend = FakeBackend::start().await;
    let running = start("zero_copy", backend.address, |command| {
        if Uid::effective().is_root() {
            // A copy, where the user can read it.
            let copy = program.path().join("infrarust");
            fs::copy(env!("CARGO_BIN_EXE_infrarust"), &copy).unwrap();
            let config = Path::new(command.as_std().get_args().last().unwrap());
            for folder in [program.path(), config.parent().unwrap()] {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let mut unprivileged = Command::new(&copy);
            unprivileged
                .args(command.as_std().get_args())
                .uid(NOBODY)
                .gid(NOBODY);
            *command = watched(unprivileged);
        }
    })
    .await;
    let Running { proxy, pid, .. } = running;
    let inherited = pipes(pid);
    let mut sessions = open(proxy, &backend, SESSIONS).await;
    // Again, when all of them are with the threads that relay.
    let mut exchanges = JoinSet::new();
    for mut session in sessions.drain(..) {
        exchanges.spawn(async move {
            session.exchange(128 * 1024, 1024).await;
            session
        });
    }
    sessions = exchanges.join_all().await;
    let pipes: Vec<_> = pipes(pid)
        .into_iter()
        .filter(|pipe| !inherited.contains(pipe))
        .collect();
    println!("{} ends of pipes", pipes.len());
    assert!(!pipes.is_empty(), "nothing was spliced");
    for file in pipes {
        let pipe = fs::File::open(&file).unwrap();
        let bytes = fcntl(&pipe, FcntlArg::F_GETPIPE_SZ).unwrap();
        assert_eq!(bytes, 256 * 1024, "{file}");
    }
    assert_eq!(sessions.len(), SESSIONS);
}

/// Ended sessions leave nothing behind: the memory of the program is flat after the first
/// quarter of them. `INFRARUST_CHURN=100000` runs as many sessions as a large network has
/// in an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_while_sessions_come_and_go() {
    const SESSIONS: usize = 8000;
    const AT_ONCE: usize = 16;
    const GROWTH_BYTES_MAX: usize = 1024 * 1024;
    let _machine = alone().await;
    let count = std::env::var("INFRARUST_CHURN").map_or(SESSIONS, |count| count.parse().unwrap());
    let backend = FakeBackend::start().await;
    let running = start("zero_copy", backend.address, |_| {}).await;
    let Running { proxy, pid, .. } = running;
    let mut after_warm_up = 0;
    for turn in 0..count / AT_ONCE {
        if turn == count / AT_ONCE / 4 {
            after_warm_up = memory(pid);
        }
        let mut ending = JoinSet::new();
        for _ in 0..AT_ONCE {
            let mut session = Session::open(proxy, &backend).await;
            ending.spawn(async move {
                session.exchange(2000, 100).await;
                drop(session.client);
                session.backend.expect_end().await;
            });
        }
        ending.join_all().await;
    }
    let now = memory(pid);
    println!("{count} sessions: {after_warm_up} bytes after a quarter, {now} at the end");
    assert!(
        now <= after_warm_up + GROWTH_BYTES_MAX,
        "{now} of {after_warm_up}"
    );
    let files = descriptors(pid).len();
    assert!(files <= OTHER_FILES, "{files} descriptors");
}

/// A player in the game on a server of this mode, after packets went both ways.
async fn play(proxy: SocketAddr, backend: &FakeBackend, mode: &str, name: &str) -> [Speaker; 2] {
    const PROTOCOL: i32 = 767;
    let ids = Ids::of(PROTOCOL);
    let mut client = game::begin(proxy, PROTOCOL, name).await;
    if mode == "client_only" {
        game::encrypt(&mut client, PROTOCOL).await;
    }
    let (mut server, _, _) = game::accept(backend).await;
    server.send(3, &varint(256)).await;
    server.compress(256);
    let both = [&mut client, &mut server];
    game::welcome(both, PROTOCOL, ([7; 16], name), Some(256)).await;
    game::configure([&mut client, &mut server], PROTOCOL).await;
    server.send(ids.join, &[0; 8]).await;
    client.expect(ids.join).await;
    for bytes in [40, 32 * 1024] {
        server.send(0x22, &vec![7; bytes]).await;
        assert_eq!(client.expect(0x22).await.len(), bytes);
        client.send(0x1A, &[8; 40]).await;
        assert_eq!(server.expect(0x1A).await.len(), 40);
    }
    [client, server]
}

/// The memory of an idle player on a server of this mode, in bytes.
async fn player_bytes(mode: &str) -> usize {
    const WARM_UP: usize = 100;
    const PLAYERS: usize = 400;
    let sessions = Sessions::start(Say::Confirm).await;
    let backend = FakeBackend::start().await;
    let servers = [("a", server(mode, "play.example.com", backend.address, ""))];
    let mut program = Program::start(&sessions.global(), &servers);
    let proxy = program.address().await;
    let pid = program.child.id().unwrap();
    let mut players = Vec::new();
    let mut before = 0;
    for index in 0..WARM_UP + PLAYERS {
        if index == WARM_UP {
            before = memory(pid);
        }
        let name = format!("player{index}");
        players.push(play(proxy, &backend, mode, &name).await);
    }
    let bytes = (memory(pid) - before) / PLAYERS;
    println!("{mode}: {bytes} bytes for each idle player");
    bytes
}

/// An idle player of the intercepted modes uses little more memory than one in a forwarding
/// mode, encrypted or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_intercepted_players_use_little_memory() {
    /// Measured: 100 to 600 bytes in `offline`, 500 to 850 in `client_only`.
    const MORE_BYTES_MAX: usize = 1500;
    let _machine = alone().await;
    let relayed = player_bytes("zero_copy").await;
    for mode in ["offline", "client_only"] {
        let bytes = player_bytes(mode).await;
        assert!(bytes <= relayed + MORE_BYTES_MAX, "{mode}: {bytes} bytes");
    }
}
