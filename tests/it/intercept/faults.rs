//! A side is lost, or the proxy stops, after every message of a login: no connection,
//! socket, slot or name is left.

use infrarust_test_support::game::{self, Ids, Sessions, Speaker};

use super::{NOTCH_OFFLINE, admit, play, uuid};
use crate::support::{FakeBackend, TestProxy, wire, within};

const ONE_PLACE: &str = "compression_threshold = -1\nmax_players = 1";
/// The last step of a login.
const STEPS: usize = 10;

/// What happens after a step.
#[derive(Debug, Clone, Copy)]
enum Fault {
    ClientCloses,
    ClientResets,
    /// The client closes after half a frame.
    ClientClosesInAFrame,
    BackendCloses,
    BackendResets,
    BackendClosesInAFrame,
}

const FAULTS: [Fault; 6] = [
    Fault::ClientCloses,
    Fault::ClientResets,
    Fault::ClientClosesInAFrame,
    Fault::BackendCloses,
    Fault::BackendResets,
    Fault::BackendClosesInAFrame,
];

/// Runs a login up to a step, for a player of this version.
async fn login(
    proxy: &TestProxy,
    backend: &FakeBackend,
    protocol: i32,
    is_proved: bool,
    last: usize,
) -> (Speaker, Option<Speaker>) {
    let ids = Ids::of(protocol);
    let (is_asked, is_configured) = (protocol >= 393, protocol >= 764);
    let stream = tokio::net::TcpStream::connect(proxy.address()).await;
    let mut client = Speaker::new(stream.unwrap());
    let mut server: Option<Speaker> = None;
    for step in 0..=last {
        if step >= 3 && server.is_none() {
            server = Some(game::accept(backend).await.0);
        }
        match (step, &mut server) {
            (0, _) => {
                let hello = wire::handshake(protocol, "play.example.com", 25565, 2);
                client.send_raw(&hello).await;
            }
            (1, _) => {
                let start = game::login_start(protocol, "Notch", [7; 16]);
                client.send(0, &start).await;
            }
            (2, _) if is_proved => game::encrypt(&mut client, protocol).await,
            (4, Some(server)) if is_asked => {
                let question = [vec![5], wire::string("a:b")].concat();
                server.send(4, &question).await;
                assert_eq!(client.expect(4).await, question);
            }
            (5, Some(server)) if is_asked => {
                client.send(2, &[5, 0]).await;
                assert_eq!(server.expect(2).await, [5, 0]);
            }
            (6, Some(server)) => {
                admit(server, protocol).await;
                client.expect(2).await;
            }
            (7, Some(server)) if is_configured => {
                client.send(3, &[]).await;
                server.expect(3).await;
            }
            (8, Some(server)) if is_configured => {
                server.send(ids.finish, &[]).await;
                client.expect(ids.finish).await;
            }
            (9, Some(server)) if is_configured => {
                client.send(ids.finish, &[]).await;
                server.expect(ids.finish).await;
            }
            (STEPS, Some(server)) => {
                server.send(ids.join, &[0; 8]).await;
                client.expect(ids.join).await;
            }
            _ => {}
        }
    }
    (client, server)
}

/// Reads to the end of the stream.
async fn drain(mut speaker: Speaker) {
    while speaker.next().await.is_some() {}
}

/// Half a frame.
const HALF: [u8; 4] = [100, 2, 1, 2];

/// Makes the fault happen, and checks that the other side reads its end.
async fn lose(fault: Fault, mut client: Speaker, server: Option<Speaker>) {
    match (fault, server) {
        (Fault::ClientCloses, server) => {
            drop(client);
            end(server).await;
        }
        (Fault::ClientResets, server) => {
            client.reset();
            end(server).await;
        }
        (Fault::ClientClosesInAFrame, server) => {
            client.send_raw(&HALF).await;
            drop(client);
            end(server).await;
        }
        (_, None) => drop(client),
        (Fault::BackendCloses, Some(server)) => {
            drop(server);
            drain(client).await;
        }
        (Fault::BackendResets, Some(server)) => {
            server.reset();
            drain(client).await;
        }
        (Fault::BackendClosesInAFrame, Some(mut server)) => {
            server.send_raw(&HALF).await;
            drop(server);
            drain(client).await;
        }
    }
}

async fn end(server: Option<Speaker>) {
    if let Some(server) = server {
        drain(server).await;
    }
}

/// The sockets of the proxy's connections that are not closed on its side: sockets of this
/// process, and connections that are not accepted yet. A process that another test has just
/// started has all sockets of this one until its program runs; those do not count.
#[cfg(target_os = "linux")]
pub(super) fn sockets_left(proxy: &TestProxy, backend: &FakeBackend) -> Vec<String> {
    /// Established, and closed only by the peer (`include/net/tcp_states.h`).
    const OPEN: [&str; 2] = ["01", "08"];
    /// The inode of a connection that is not accepted yet.
    const NOT_ACCEPTED: &str = "0";
    let (of_client, of_backend) = (in_table(proxy.address()), in_table(backend.address));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // Later than the table: what was closed meanwhile is not left.
    let own = own_sockets();
    let is_left = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else {
            return false;
        };
        let is_of_proxy = local == of_client || remote == of_backend;
        let is_here = inode == NOT_ACCEPTED || own.contains(inode);
        is_of_proxy && is_here && OPEN.contains(&state)
    };
    table.lines().filter(is_left).map(str::to_owned).collect()
}

/// An address in the form of the kernel's table of sockets.
#[cfg(target_os = "linux")]
fn in_table(address: std::net::SocketAddr) -> String {
    let std::net::SocketAddr::V4(address) = address else {
        panic!("{address} is not in the table of IPv4");
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}

/// The inodes of the sockets of this process.
#[cfg(target_os = "linux")]
fn own_sockets() -> std::collections::HashSet<String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let inode = |entry: std::io::Result<std::fs::DirEntry>| {
        // Others can close it meanwhile.
        let name = std::fs::read_link(entry.ok()?.path()).ok()?;
        let inode = name.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    };
    descriptors.filter_map(inode).collect()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn sockets_left(_: &TestProxy, _: &FakeBackend) -> Vec<String> {
    Vec::new()
}

/// Waits until no connection and no socket is left. The proxy first accepts connections
/// that were closed in the queue.
async fn nothing_is_left(proxy: &TestProxy, backend: &FakeBackend) {
    within("the proxy's sockets to close", async {
        loop {
            proxy.idle().await;
            if sockets_left(proxy, backend).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Every fault after every step, without authentication.
#[tokio::test]
async fn a_side_is_lost_after_every_message() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "offline", &backend, ONE_PLACE);
    for protocol in [47, 754, 767, 776] {
        for step in 0..=STEPS {
            for fault in FAULTS {
                println!("{protocol}, step {step}, {fault:?}");
                let (client, server) = login(&proxy, &backend, protocol, false, step).await;
                // The backend was dialled, and nobody has looked.
                let server = match server {
                    None if step > 0 => Some(game::accept(&backend).await.0),
                    server => server,
                };
                lose(fault, client, server).await;
                nothing_is_left(&proxy, &backend).await;
            }
        }
    }
    // A place or a name that is left keeps the next one out.
    drop(play(&proxy, &backend, 767).await);
    proxy.idle().await;
}

/// The same with authentication: before it, during it and after it.
#[tokio::test]
async fn a_side_is_lost_around_the_authentication() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(&sessions.global(), "client_only", &backend, ONE_PLACE);
    for step in 0..=STEPS {
        for fault in FAULTS {
            println!("step {step}, {fault:?}");
            let (client, server) = login(&proxy, &backend, 767, true, step).await;
            lose(fault, client, server).await;
            proxy.idle().await;
            // A client that left in step 2 may have been proved by then.
            while let Ok(accepted) =
                tokio::time::timeout(std::time::Duration::ZERO, backend.listener.accept()).await
            {
                drop(accepted);
            }
            nothing_is_left(&proxy, &backend).await;
        }
    }
    let (client, server) = login(&proxy, &backend, 767, true, STEPS).await;
    drop((client, server));
    proxy.idle().await;
}

/// The proxy stops after every step, and both sides read an end.
#[tokio::test]
async fn the_proxy_stops_after_every_message() {
    for protocol in [47, 767] {
        for step in 0..=STEPS {
            println!("{protocol}, step {step}");
            let backend = FakeBackend::start().await;
            let proxy = TestProxy::with_one_server("", "offline", &backend, ONE_PLACE);
            let (client, server) = login(&proxy, &backend, protocol, false, step).await;
            proxy.running.shutdown().stop_now();
            tokio::join!(drain(client), end(server));
            nothing_is_left(&proxy, &backend).await;
        }
    }
}

/// A backend that translates versions: it reads the client's version in the handshake and
/// answers in it, whatever version its status names.
#[tokio::test]
async fn a_backend_that_translates_versions() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server("", "offline", &backend, ONE_PLACE);
    // A status that names the version of the backend changes nothing.
    let asked = async {
        let (mut peer, hello) = backend.accept_hello().await;
        let status = r#"{"version":{"name":"1.8.8","protocol":47},"players":{"max":1,"online":0}}"#;
        FakeBackend::answer_status(&mut peer, status).await;
        hello
    };
    let address = proxy.address();
    let asking = crate::support::FakeClient::status(address, "play.example.com");
    let (_, status) = tokio::join!(asked, asking);
    assert_eq!(status["version"]["protocol"], 47);
    for protocol in [5, 47, 340, 754, 764, 767, 776] {
        let mut client = game::begin(address, protocol, "Notch").await;
        let mut peer = backend.accept().await;
        let hello = FakeBackend::hello(&mut peer).await;
        assert_eq!((hello.protocol, hello.intent), (protocol, 2));
        let (id, start) = peer.frame().await;
        let expected = game::login_start(protocol, "Notch", uuid(NOTCH_OFFLINE));
        assert_eq!((id, start), (0, expected), "{protocol}");
        let mut server = Speaker::new(peer.stream);
        super::welcome(&mut client, &mut server, protocol).await;
        super::enter(&mut client, &mut server, protocol).await;
        server.send(0x22, b"translated").await;
        assert_eq!(client.expect(0x22).await, b"translated");
        drop((client, server));
        proxy.idle().await;
    }
}
