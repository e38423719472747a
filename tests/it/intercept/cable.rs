//! Sides that stop sending without closing the connection: a player with an unplugged
//! cable, and a frozen backend.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use infrarust_test_support::game::{self, Ids, Speaker, refusal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::modes::{MODES, Modes};
use super::{NO_COMPRESSION, text};
use crate::support::{FakeBackend, TestProxy, server, within};

/// A player with an unplugged cable logs in again. The login is refused with a text, or it
/// replaces the old session; then the old backend connection is closed before the new
/// backend is dialled. Only one session is in the game.
#[tokio::test]
async fn a_player_with_an_unplugged_cable_logs_in_again() {
    for policy in ["refuse", "replace"] {
        let more = match policy {
            "refuse" => NO_COMPRESSION.to_owned(),
            _ => format!("{NO_COMPRESSION}\nmax_players = 1"),
        };
        let modes = Modes::start(&format!("duplicate_login = \"{policy}\""), &more).await;
        for mode in 0..MODES.len() {
            for protocol in [763, 774] {
                let (cut_off, mut of_first) = modes.playing(mode, protocol).await;
                cut_off.pull_the_cable();
                if policy == "refuse" {
                    let mut second = modes.client(mode, protocol, "Notch").await;
                    let text = refusal(&mut second).await;
                    assert_eq!(text, "You are logged in to this server already.");
                    drop(of_first);
                } else {
                    // More than the sockets hold waits for the player.
                    let flood = of_first.framed(0x22, &[0; 60_000]);
                    of_first.flood(&flood, &mut 0);
                    let second = modes.client(mode, protocol, "Notch").await;
                    of_first.expect_end().await;
                    let (of_second, _, _) = game::accept(&modes.backend).await;
                    let mut third = modes.client(mode, protocol, "Other").await;
                    assert!(refusal(&mut third).await.contains("full"));
                    drop((second, of_second));
                }
                // The kernel lets the end through again.
                drop(cut_off);
                modes.idle().await;
            }
        }
    }
}

/// The name of the test that is the backend when it runs alone.
const BACKEND: &str = "intercept::cable::backend_process";
/// The environment variable of that process, with the socket on which it listens.
const LISTENER: &str = "INFRARUST_TEST_FROZEN_BACKEND";
/// The protocol of its players: a backend that joins with three packets.
const PROTOCOL: i32 = 47;

/// The pause between two packets of an idle player.
const PAUSE: Duration = Duration::from_millis(100);

/// A backend in a separate process, which can be frozen. When it runs as a normal test, it
/// does nothing.
#[tokio::test]
async fn backend_process() {
    let Some(address) = std::env::var_os(LISTENER) else {
        return;
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    std::fs::write(address, own.to_string()).unwrap();
    let backend = FakeBackend {
        listener,
        address: own,
    };
    loop {
        let accepted = backend.listener.accept().await.unwrap();
        let mut peer = Speaker::new(accepted.0);
        peer.expect(0).await;
        peer.expect(0).await;
        let success = game::login_success(PROTOCOL, [7; 16], "Notch");
        peer.send(2, &success).await;
        peer.send(Ids::of(PROTOCOL).join, &[0, 0, 0, 1, 9, 0, 0])
            .await;
        tokio::spawn(peer.read_frames());
    }
}

/// A frozen backend counts as lost after the read timeout of its server, and a killed one
/// at once. The player reads a text.
#[tokio::test]
async fn a_frozen_backend() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("address");
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", BACKEND, "--nocapture"])
        .env(LISTENER, &said)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let address = within("the backend", async {
        loop {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            if let Ok(address) = text.parse() {
                break address;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    let lines = format!("{NO_COMPRESSION}\ndisconnect_message = \"lost\"\n");
    for (signal, more) in [
        (Signal::SIGSTOP, "timeouts.read = \"1s\""),
        (Signal::SIGKILL, ""),
    ] {
        let file = server(
            "offline",
            "play.example.com",
            address,
            &format!("{lines}{more}"),
        );
        let proxy = TestProxy::start("", &[("a", file)]);
        let mut client = game::begin(proxy.address(), PROTOCOL, "Notch").await;
        client.expect(2).await;
        client.expect(Ids::of(PROTOCOL).join).await;
        kill(pid, signal).unwrap();
        let body = within("the text", async {
            loop {
                // A player who stands still says so, too.
                client.send(3, &[1]).await;
                let read = client.expect(Ids::of(PROTOCOL).disconnect);
                if let Ok(body) = timeout(PAUSE, read).await {
                    break body;
                }
            }
        })
        .await;
        assert_eq!(text(PROTOCOL, &body), "lost", "{signal}");
        client.expect_end().await;
        proxy.idle().await;
        if signal == Signal::SIGSTOP {
            kill(pid, Signal::SIGCONT).unwrap();
        }
    }
    process.wait().unwrap();
}
