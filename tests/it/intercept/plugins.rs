//! Plugins on intercepted servers: a real library that answers with what it sees.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use infrarust_test_support::game::{self, Sessions, encrypt, refusal};

use super::{NO_COMPRESSION, NOTCH, NOTCH_OFFLINE, enter, uuid};
use crate::library::build;
use crate::support::{FakeBackend, TestProxy, server};

/// The player id that every client of these tests claims.
const CLAIMED: [u8; 16] = [7; 16];

fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| build("tests/plugins/stage", "infrarust_test_stage"))
}

fn players() -> &'static Path {
    static PLAYERS: OnceLock<PathBuf> = OnceLock::new();
    PLAYERS.get_or_init(|| build("tests/plugins/players", "infrarust_test_players"))
}

/// The global file's table of a plugin.
fn table(file: &Path, config: &str) -> String {
    format!("[plugins.p]\npath = {file:?}\n[plugins.p.config]\n{config}\n")
}

/// `login.decide` says whether name and UUID are proved: in `client_only` they are
/// those of the session service, in the other modes those that the client claims.
#[tokio::test(flavor = "multi_thread")]
async fn login_decide_knows_what_is_proved() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let claimed = format!("nOTCH Some({:032x}) false", u128::from_be_bytes(CLAIMED));
    let proved = format!("Notch Some({:032x}) true", u128::from_be_bytes(uuid(NOTCH)));
    for (mode, expected) in [
        ("client_only", &proved),
        ("offline", &claimed),
        ("passthrough", &claimed),
        ("zero_copy", &claimed),
        ("server_only", &claimed),
    ] {
        let global = sessions.global() + &table(stage(), "refuse = true");
        let file = server(mode, "play.example.com", backend.address, "");
        let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
        let mut client = game::begin(proxy.address(), 767, "nOTCH").await;
        if mode == "client_only" {
            encrypt(&mut client, 767).await;
        }
        assert_eq!(refusal(&mut client).await, *expected, "{mode}");
    }
}

/// A login that `route.select` moves from a server where the proxy would have
/// authenticated to one where nobody does meets `login.decide` there, also of a
/// plugin that both servers have.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_login_meets_the_gates_of_its_server() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let global = sessions.global() + &table(stage(), "refuse = true\ngo_to = \"b\"");
    let servers = [
        (
            "a",
            server("client_only", "play.example.com", backend.address, ""),
        ),
        (
            "b",
            server("passthrough", "other.example.com", backend.address, ""),
        ),
    ];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let mut client = game::begin(proxy.address(), 767, "nOTCH").await;
    let text = refusal(&mut client).await;
    assert!(text.ends_with(" false"), "{text}");
}

/// A login that `route.select` moves between two servers where the proxy
/// authenticates meets `login.decide` of both, with what is proved.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_login_meets_the_gates_of_the_server_it_asked_for() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let global = sessions.global() + &table(stage(), "refuse = true\ngo_to = \"b\"");
    let file = |host, more| server("client_only", host, backend.address, more);
    let servers = [
        ("a", file("play.example.com", "")),
        ("b", file("other.example.com", "plugins = []")),
    ];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let mut client = game::begin(proxy.address(), 767, "nOTCH").await;
    encrypt(&mut client, 767).await;
    let text = refusal(&mut client).await;
    assert!(
        text.starts_with("Notch ") && text.ends_with(" true"),
        "{text}"
    );
}

/// `player.observe` sees a player come into the game and leave it, and in
/// `client_only` the plugin knows what was proved; where nobody proves anything
/// the service is not granted.
#[tokio::test(flavor = "multi_thread")]
async fn players_are_observed() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let proved = format!("Notch {:032x} true", u128::from_be_bytes(uuid(NOTCH)));
    let unproved = format!(
        "Notch {:032x} false",
        u128::from_be_bytes(uuid(NOTCH_OFFLINE))
    );
    let profile = format!(
        "Profile {{ name: \"Notch\", uuid: {}, properties: [Property {{ name: \"textures\", \
         value: \"dGV4\", signature: Some(\"c2ln\") }}] }}",
        u128::from_be_bytes(uuid(NOTCH))
    );
    let refused = "it is not granted on the server of this player";
    for (mode, who, known) in [
        ("client_only", proved, profile.as_str()),
        ("offline", unproved, refused),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events");
        let config = format!("events = {events:?}");
        let global = sessions.global() + &table(players(), &config);
        let file = server(mode, "play.example.com", backend.address, NO_COMPRESSION);
        let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
        let mut client = game::begin(proxy.address(), 340, "Notch").await;
        if mode == "client_only" {
            encrypt(&mut client, 340).await;
        }
        let (mut peer, _, _) = game::accept(&backend).await;
        peer.send(2, &game::login_success(340, uuid(NOTCH_OFFLINE), "Notch"))
            .await;
        client.expect(2).await;
        enter(&mut client, &mut peer, 340).await;
        // The relay begins when every plugin has seen the player.
        peer.send(0x7C, b"x").await;
        client.expect(0x7C).await;
        let joined = format!("Joined {who}: {known}\n");
        assert_eq!(std::fs::read_to_string(&events).unwrap(), joined, "{mode}");
        drop((client, peer));
        proxy.idle().await;
        let gone = "the player has left";
        let left = format!("{joined}Left {{ reason: \"closed\" }} {who}: {gone}\n");
        assert_eq!(std::fs::read_to_string(&events).unwrap(), left, "{mode}");
    }
}
