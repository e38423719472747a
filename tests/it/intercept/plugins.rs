//! Plugins on intercepted servers: a real library that answers with what it sees.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use infrarust_test_support::game::{self, Sessions, Speaker, encrypt, refusal};
use tempfile::TempDir;

use super::{NO_COMPRESSION, NOTCH, NOTCH_OFFLINE, admit, enter, plain, play, text, uuid, welcome};
use crate::library::build;
use crate::support::{FakeBackend, TestProxy, server, within};

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

/// The table of a plugin in the global file.
fn table(file: &Path, config: &str) -> String {
    format!("[plugins.p]\npath = {file:?}\n[plugins.p.config]\n{config}\n")
}

/// `login.decide` sees whether name and UUID are proved: in `client_only` they are those of
/// the session service, in the other modes those that the client claims.
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

/// `route.select` moves a login from a server with authentication to one without it:
/// `login.decide` is called for the new server, also for a plugin that both servers have.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_login_is_checked_by_its_new_server() {
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

/// `route.select` moves a login between two servers with authentication: `login.decide` of
/// both is called, with the proved identity.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_login_is_checked_by_both_servers() {
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

/// `player.observe` sees a player join and leave the game. In `client_only` the plugin gets
/// the proved profile; in `offline` this service is not granted.
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

/// An `offline` server with a plugin that sends this to players, and the file with the
/// results.
async fn sending(backend: &FakeBackend, send: &[&str], more: &str) -> (TestProxy, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let global = table(players(), &format!("events = {events:?}\nsend = {send:?}"));
    let file = server("offline", "play.example.com", backend.address, more);
    let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
    (proxy, folder)
}

/// The results of the plugin's calls.
fn results(folder: &TempDir) -> Vec<String> {
    let events = std::fs::read_to_string(folder.path().join("events")).unwrap();
    let results = events.lines().filter(|line| line.contains("sent "));
    results.map(str::to_owned).collect()
}

/// Messages and packets reach players of every family, in the order of the calls, and
/// before later packets of the backend. Packets also reach the backend.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_send_to_both_sides() {
    let backend = FakeBackend::start().await;
    let send = [
        "chat first",
        "bar second",
        "title third",
        "client 11",
        "chat last",
        "backend 1",
    ];
    let (proxy, folder) = sending(&backend, &send, NO_COMPRESSION).await;
    for protocol in [5, 47, 340, 758, 760, 764, 765, 767, 774, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let mut read = Vec::new();
        while read.len() < 20 {
            let (id, body) = client.next().await.unwrap();
            read.push((id, String::from_utf8_lossy(&body).into_owned()));
            if read.last().is_some_and(|(_, text)| text.contains("last")) {
                break;
            }
        }
        let at = |text: &str| {
            let found = read.iter().position(|(_, body)| body.contains(text));
            found.unwrap_or_else(|| panic!("{protocol}: no {text} in {read:?}"))
        };
        let order = ["first", "second", "below", "third", "raw", "last"].map(at);
        // Before 1.8 a title is two lines, the big one first.
        let is_ordered = order.is_sorted() || protocol == 5 && order[0] < order[1];
        assert!(is_ordered, "{protocol}: {read:?}");
        assert_eq!(read[order[4]], (11, "raw".to_owned()), "{protocol}");
        assert_eq!(peer.expect(1).await, b"raw", "{protocol}");
        peer.send(0x7C, b"x").await;
        assert_eq!(client.expect(0x7C).await, b"x", "{protocol}");
        drop((client, peer));
        proxy.idle().await;
    }
    assert!(results(&folder).iter().all(|line| line.starts_with("sent")));
}

/// Packets of plugins are encrypted and compressed like the rest of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn sent_packets_are_part_of_the_stream() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let long = "x".repeat(2000);
    let send = [format!("chat {long}"), "chat short".to_owned()];
    let config = format!("events = {events:?}\nsend = {send:?}");
    let global = sessions.global() + &table(players(), &config);
    let file = server("client_only", "play.example.com", backend.address, "");
    let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
    let mut client = game::begin(proxy.address(), 340, "Notch").await;
    encrypt(&mut client, 340).await;
    let (mut peer, _, _) = game::accept(&backend).await;
    admit(&mut peer, 340).await;
    assert_eq!(client.expect(3).await, [0x80, 0x02]);
    client.compress(256);
    client.expect(2).await;
    enter(&mut client, &mut peer, 340).await;
    for text in [long.as_str(), "short"] {
        let (_, body) = client.next().await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains(text));
    }
    peer.send(0x7C, b"x").await;
    assert_eq!(client.expect(0x7C).await, b"x");
}

/// Malformed packets, packets that would disturb the session, and floods are refused with a
/// reason, and the session continues.
#[tokio::test(flavor = "multi_thread")]
async fn harmful_packets_are_refused() {
    let backend = FakeBackend::start().await;
    let send = [
        "client 127",
        "client -1",
        "client 35",
        "backend 127",
        "flood 1000",
    ];
    let (proxy, folder) = sending(&backend, &send, NO_COMPRESSION).await;
    // 35 is the join game of 1.12.2.
    let (mut client, mut peer) = play(&proxy, &backend, 340).await;
    peer.send(0x7C, b"x").await;
    let mut count = 0;
    loop {
        let (id, body) = client.next().await.unwrap();
        if id == 0x7C {
            break;
        }
        assert!(String::from_utf8_lossy(&body).contains("again"));
        count += 1;
    }
    assert_eq!(count, 128);
    let expected = [
        "not sent client 127: there is no packet 0x7f in 1.12.2",
        "not sent client -1: there is no packet 0xffffffff in 1.12.2",
        "not sent client 35: a plugin may not send the packet `login`",
        "not sent backend 127: there is no packet 0x7f in 1.12.2",
        "not sent flood 1000: too much of this plugin waits, or it sends too much",
    ];
    assert_eq!(results(&folder), expected);
}

/// What a plugin sends to all players together is bounded in a second, also where no
/// player has too much waiting; the players stay.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_do_not_send_without_end() {
    const PLAYERS: usize = 64;
    const PACKET_BYTES: usize = 250 * 1024;
    const PER_SECOND_MAX: f64 = 16.0 * 1024.0 * 1024.0;
    let (_proxy, _folder, mut sessions, began) = filled(PLAYERS, "").await;
    let (mut bytes, mut seconds) = (0, None);
    for (client, peer) in sessions.iter_mut().rev() {
        peer.send(0x7C, b"x").await;
        loop {
            match within("a packet", client.next()).await.unwrap() {
                (0x7C, _) => break,
                (11, body) => bytes += body.len(),
                other => panic!("{other:?}"),
            }
        }
        // The plugin had sent when the relay of the last player began.
        seconds.get_or_insert_with(|| began.elapsed().as_secs_f64());
    }
    assert!(bytes >= PACKET_BYTES && bytes.is_multiple_of(PACKET_BYTES));
    let (bytes, seconds) = (u32::try_from(bytes).unwrap(), seconds.unwrap());
    assert!(
        f64::from(bytes) <= PER_SECOND_MAX * (1.0 + seconds),
        "{bytes} bytes in {seconds} s"
    );
}

/// So is the number of its packets, to players and backends together.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_do_not_send_packets_without_end() {
    // As many as may wait for one receiver at once: more than a plugin may send in a second.
    const PLAYERS: usize = 100;
    const WAITING: usize = 128;
    const PER_SECOND_MAX: f64 = 20_000.0;
    let more = format!("fill_with = {WAITING}");
    let (_proxy, _folder, mut sessions, began) = filled(PLAYERS, &more).await;
    let (mut packets, mut seconds) = (0_u32, None);
    for (client, peer) in sessions.iter_mut().rev() {
        peer.send(0x7C, b"x").await;
        client.send(0x7C, b"x").await;
        for (receiver, id) in [(client, 11), (peer, 1)] {
            loop {
                match within("a packet", receiver.next()).await.unwrap() {
                    (0x7C, _) => break,
                    (other, body) if other == id && body.is_empty() => packets += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        // The plugin had sent when the relay of the last player began.
        seconds.get_or_insert_with(|| began.elapsed().as_secs_f64());
    }
    let seconds = seconds.unwrap();
    assert!(packets > 0);
    assert!(
        f64::from(packets) <= PER_SECOND_MAX * (1.0 + seconds),
        "{packets} packets in {seconds} s"
    );
}

/// Players, and when the last one came, which makes a plugin send to all.
async fn filled(
    count: usize,
    more: &str,
) -> (TestProxy, TempDir, Vec<(Speaker, Speaker)>, Instant) {
    let backend = FakeBackend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let config = format!("events = {events:?}\nfill_at = {count}\n{more}");
    let file = plain(&backend);
    let proxy = TestProxy::with_plugins(&table(players(), &config), &[("a", file)]).await;
    let (mut sessions, mut began) = (Vec::new(), Instant::now());
    for number in 0..count {
        began = Instant::now();
        let (mut client, mut peer) =
            super::begin(&proxy, &backend, 340, &format!("P{number}")).await;
        welcome(&mut client, &mut peer, 340).await;
        enter(&mut client, &mut peer, 340).await;
        sessions.push((client, peer));
    }
    (proxy, folder, sessions, began)
}

/// A kick by a plugin ends the session with its text, in play and in every family.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_kick() {
    let backend = FakeBackend::start().await;
    let (proxy, folder) = sending(&backend, &["kick Enough"], NO_COMPRESSION).await;
    for protocol in [47, 340, 764, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let (_, body) = client.next().await.unwrap();
        assert_eq!(text(protocol, &body), "Enough", "{protocol}");
        client.expect_end().await;
        peer.expect_end().await;
        proxy.idle().await;
    }
    let events = std::fs::read_to_string(folder.path().join("events")).unwrap();
    let left = "Left { reason: \"plugin\" }";
    assert_eq!(events.matches(left).count(), 4, "{events}");
}

/// `welcome` greets players of every family, or only those who join for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn welcome_greets() {
    let backend = FakeBackend::start().await;
    let welcome = build("plugins/welcome", "welcome");
    let config = "message = '<red>again {player}'\nfirst = '<gold>new {player}'\n\
                  [plugins.p.config.servers.a]\ntitle = 'the {server}'";
    let global = table(&welcome, config);
    let file = plain(&backend);
    let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
    let mut greeting = "new Notch";
    for protocol in [47, 340, 758, 764, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        peer.send(0x7C, b"x").await;
        let mut read = String::new();
        loop {
            let (id, body) = client.next().await.unwrap();
            if id == 0x7C {
                break;
            }
            read.push_str(&String::from_utf8_lossy(&body));
        }
        assert!(read.contains(greeting), "{protocol}: {read}");
        assert!(read.contains("the a"), "{protocol}: {read}");
        greeting = "again Notch";
        drop((client, peer));
        proxy.idle().await;
    }
}

/// Clients with support for transfers connect to the other address. For others the transfer
/// is refused with the required version, and so are invalid hosts.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_transfer() {
    let backend = FakeBackend::start().await;
    let send = ["transfer eu.example.com", "transfer two words", "transfer "];
    let (proxy, folder) = sending(&backend, &send, NO_COMPRESSION).await;
    for protocol in [340, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        peer.send(0x7C, b"x").await;
        if protocol == 776 {
            let (_, body) = client.next().await.unwrap();
            let port = [0xDE, 0xC7, 0x01];
            assert_eq!(body, [b"\x0eeu.example.com", &port[..]].concat());
        }
        client.expect(0x7C).await;
        drop((client, peer));
        proxy.idle().await;
    }
    let bad = [
        "not sent transfer two words: `two words` is not a host to connect to",
        "not sent transfer : `\"\"` is not a host to connect to",
    ];
    let mut expected = vec!["not sent transfer eu.example.com: `transfer` needs 1.20.5"];
    expected.extend(bad);
    expected.push("sent transfer eu.example.com");
    expected.extend(bad);
    assert_eq!(results(&folder), expected);
}
