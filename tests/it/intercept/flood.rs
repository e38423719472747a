//! Many failing logins at once: the resources that they hold are bounded and given back,
//! and other players play and get status answers.

use infrarust_test_support::game::{self, Request, SECRET, Speaker, encrypt, refusal, response};
use infrarust_test_support::program::Program;
use nix::sys::signal::Signal;

use super::NO_COMPRESSION;
use super::crowd::{LOGINS, PROTOCOL, notch_plays, round_trip, silent_after_one};
use super::memory::{GROWTH_BYTES_MAX, memory};
use crate::support::{FakeBackend, FakeClient, server, within};

/// The number of failing logins of each kind: together more than one address may have
/// pending.
const FALSE_LOGINS: usize = 60;
/// Threads that the proxy may start during the test: one that decrypts, and those that read
/// files and are kept.
const MORE_THREADS_MAX: usize = 5;
/// A keep alive from the backend, and its answer.
const KEEP_ALIVE: i32 = 0x26;
const KEEP_ALIVE_ANSWER: i32 = 0x18;

fn count(program: &Program, what: &str) -> usize {
    let folder = format!("/proc/{}/{what}", program.child.id().unwrap());
    std::fs::read_dir(folder).unwrap().count()
}

/// How a login fails.
#[derive(Clone, Copy)]
enum Fault {
    /// It returns another token.
    Token,
    /// It returns no secret.
    Secret,
    /// It does not answer.
    Silence,
}

/// Two hundred logins wait for a silent session service, followed by failing logins of each
/// kind. None of them keeps a pending slot, a thread or memory.
#[tokio::test]
async fn waiting_and_false_logins_are_bounded() {
    let sessions = silent_after_one().await;
    let backend = FakeBackend::start().await;
    // All that is bounded for each address is, except the rates.
    let limits = "[rate_limit]\nlimit_loopback = true\nmax_connections = 0\nstatus_max = 0\n";
    let global = format!(
        "worker_threads = 2\n{limits}[status_cache]\nttl = \"0s\"\n{}",
        sessions.global()
    );
    let file = server(
        "client_only",
        "play.example.com",
        backend.address,
        NO_COMPRESSION,
    );
    let mut program = Program::start(&global, &[("a", file)]);
    let proxy = program.address().await;
    let (mut client, mut peer) = notch_plays(proxy, &backend).await;
    status(proxy, &backend).await;
    let (threads, descriptors) = (count(&program, "task"), count(&program, "fd"));
    let memory_before = memory(&program);

    let mut crowd = Vec::new();
    for index in 0..LOGINS {
        let mut waiting = game::begin(proxy, PROTOCOL, &format!("p{index}")).await;
        encrypt(&mut waiting, PROTOCOL).await;
        crowd.push(waiting);
    }
    plays_on(&mut client, &mut peer).await;
    status(proxy, &backend).await;

    let mut flood = Vec::new();
    for index in 0..FALSE_LOGINS {
        for fault in [Fault::Token, Fault::Secret, Fault::Silence] {
            let name = format!("f{index}");
            let mut login = game::begin(proxy, PROTOCOL, &name).await;
            let request = login.expect(1).await;
            let answer = match fault {
                Fault::Token => {
                    let request = Request::parse(PROTOCOL, &request);
                    response(PROTOCOL, &request.seal(&SECRET), &request.seal(b"toke"))
                }
                Fault::Secret => game::without_secret(&request, PROTOCOL),
                Fault::Silence => Vec::new(),
            };
            flood.push((fault, login, answer));
        }
    }
    // The proxy gets all of them at the same moment.
    program.signal(Signal::SIGSTOP);
    for (fault, login, answer) in &mut flood {
        if !matches!(fault, Fault::Silence) {
            login.send(1, answer).await;
        }
    }
    program.signal(Signal::SIGCONT);
    let mut most_threads = 0;
    for number in 0..100 {
        most_threads = most_threads.max(count(&program, "task"));
        round_trip(&mut client, &mut peer, number).await;
    }
    plays_on(&mut client, &mut peer).await;
    status(proxy, &backend).await;
    let mut silent = Vec::new();
    for (fault, mut login, _) in flood {
        match fault {
            Fault::Token => login.encrypt(SECRET),
            Fault::Secret => {}
            Fault::Silence => {
                silent.push(login);
                continue;
            }
        }
        let text = refusal(&mut login).await;
        assert!(text.contains("could not encrypt"), "{text}");
        most_threads = most_threads.max(count(&program, "task"));
    }
    assert!(
        most_threads <= threads + MORE_THREADS_MAX,
        "{threads} threads became {most_threads}"
    );

    drop((crowd, silent));
    within("the descriptors of the logins to be closed", async {
        while count(&program, "fd") > descriptors {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    plays_on(&mut client, &mut peer).await;
    let growth = memory(&program).saturating_sub(memory_before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes");
}

/// The player's packets pass both ways, and his keep alive is answered.
async fn plays_on(client: &mut Speaker, peer: &mut Speaker) {
    for number in 0..20 {
        round_trip(client, peer, number).await;
        peer.send(KEEP_ALIVE, &[number; 8]).await;
        assert_eq!(client.expect(KEEP_ALIVE).await, [number; 8]);
        client.send(KEEP_ALIVE_ANSWER, &[number; 8]).await;
        assert_eq!(peer.expect(KEEP_ALIVE_ANSWER).await, [number; 8]);
    }
}

/// Reads the status of the server.
async fn status(proxy: std::net::SocketAddr, backend: &FakeBackend) {
    let answers = async {
        let (mut peer, _) = backend.accept_hello().await;
        FakeBackend::answer_status(&mut peer, r#"{"description":"open"}"#).await;
        peer
    };
    let (answer, _peer) = tokio::join!(FakeClient::status(proxy, "play.example.com"), answers);
    assert_eq!(answer["description"], "open");
}
