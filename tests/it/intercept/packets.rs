//! Plugins that see, change and drop packets: a real library that does what each packet
//! says.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use infrarust::protocol::packet::view::{self, Value, View};
use infrarust::protocol::packet::{Clientbound, Direction, Serverbound, State, Version};
use infrarust_plugin_abi::{PacketField, PacketKind};
use infrarust_test_support::game::{self, Ids, Speaker};
use infrarust_test_support::within;
use tempfile::TempDir;

use super::commands::{CommandIds, leave_for};
use super::{NO_COMPRESSION, begin, enter, offline, plain, play, text, welcome};
use crate::library::build;
use crate::support::{FakeBackend, TestProxy, server, wire};

fn library() -> &'static Path {
    static PACKETS: OnceLock<PathBuf> = OnceLock::new();
    PACKETS.get_or_init(|| build("tests/plugins/packets", "infrarust_test_packets"))
}

/// An `offline` server with the plugin, and the file in which the plugin writes what it
/// sees. `keys` are lines of its table.
async fn asked(backend: &FakeBackend, keys: &str, config: &str) -> (TestProxy, TempDir) {
    asked_at(backend, "", ("offline", NO_COMPRESSION), keys, config).await
}

/// The same with these lines of the global file, and a server of this mode with these lines.
pub(super) async fn asked_at(
    backend: &FakeBackend,
    global: &str,
    (mode, more): (&str, &str),
    keys: &str,
    config: &str,
) -> (TestProxy, TempDir) {
    let file = server(mode, "play.example.com", backend.address, more);
    asked_in(&[("a", file)], global, keys, config).await
}

/// The same with these servers.
pub(super) async fn asked_in(
    servers: &[(&str, String)],
    global: &str,
    keys: &str,
    config: &str,
) -> (TestProxy, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let file = library();
    let global = format!(
        "{global}\n[plugins.p]\npath = {file:?}\n{keys}\n[plugins.p.config]\nevents = {events:?}\n\
         {config}\n"
    );
    let proxy = TestProxy::with_plugins(&global, servers).await;
    (proxy, folder)
}

/// The lines that the plugin has written.
pub(super) fn seen(folder: &TempDir) -> Vec<String> {
    let events = std::fs::read_to_string(folder.path().join("events")).unwrap_or_default();
    events.lines().map(str::to_owned).collect()
}

/// A packet of the game: its id and its fields.
pub(super) fn packet(
    protocol: i32,
    kind: PacketKind,
    values: &[(PacketField, Value<'_>)],
) -> (i32, Vec<u8>) {
    let version = Version::of(protocol).unwrap();
    let packet = view::build(version, State::Play, kind, values).unwrap();
    let (id, bytes) = wire::read_varint(&packet).unwrap();
    (id, packet[bytes..].to_vec())
}

/// A line of chat that acknowledges messages, if the version does.
fn chat(protocol: i32, line: &str, seen: i64) -> (i32, Vec<u8>) {
    let mut values = vec![
        (PacketField::Message, Value::Str(line.into())),
        (PacketField::Timestamp, Value::Int(1)),
    ];
    if protocol >= 761 {
        values.push((PacketField::SeenOffset, Value::Int(seen)));
        values.push((PacketField::Seen, Value::Bytes(vec![0; 3].into())));
    }
    packet(protocol, PacketKind::ChatMessage, &values)
}

async fn say(client: &mut Speaker, protocol: i32, line: &str, seen: i64) {
    let (id, fields) = chat(protocol, line, seen);
    client.send(id, &fields).await;
}

/// The next packet of the client that its backend reads: the line of chat, or the number of
/// acknowledged messages.
async fn read(peer: &mut Speaker, protocol: i32) -> String {
    let (id, fields) = within("a packet", peer.next()).await.unwrap();
    let version = Version::of(protocol).unwrap();
    if version.kind(State::Play, id) == Some(Serverbound::ChatAcknowledgement) {
        return format!("seen {}", wire::read_varint(&fields).unwrap().0);
    }
    let view = View::of(version, State::Play, Direction::Serverbound, id, &fields);
    let view = view.unwrap_or_else(|| panic!("{protocol}: packet {id}"));
    match view.get(PacketField::Message) {
        Ok(Some(Value::Str(line))) => line.into_owned(),
        other => panic!("{protocol}: {other:?}"),
    }
}

/// Lines of chat are changed, dropped and seen in every family, in order. The
/// acknowledgement in a dropped line still reaches the backend.
#[tokio::test(flavor = "multi_thread")]
async fn chat_is_changed_and_dropped() {
    let backend = FakeBackend::start().await;
    let config = "modify = ['chat_message']\ninspect = ['chat_message']";
    let (proxy, folder) = asked(&backend, "", config).await;
    let versions = [5, 47, 340, 758, 759, 760, 763, 764, 765, 767, 770, 774, 776];
    for protocol in versions {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        // In one piece: each waits for the one before.
        let lines = [
            ("one", 0),
            ("drop two", 3),
            ("shout three", 1),
            ("drop four", 0),
            ("five", 2),
        ];
        let packets = lines.map(|(line, seen)| {
            let (id, fields) = chat(protocol, line, seen);
            client.framed(id, &fields)
        });
        client.send_raw(&packets.concat()).await;
        let mut expected = vec!["one", "THREE", "five"];
        if protocol >= 761 {
            expected.insert(1, "seen 3");
        }
        for line in expected {
            assert_eq!(read(&mut peer, protocol).await, line, "{protocol}");
        }
        drop((client, peer));
        proxy.idle().await;
    }
    // The plugin inspects before it changes.
    let lines = ["one", "drop two", "shout three", "drop four", "five"];
    let expected = lines.map(|line| format!("Notch chat_message Play {line}"));
    let expected: Vec<_> = versions.iter().flat_map(|_| expected.clone()).collect();
    assert_eq!(seen(&folder), expected);
}

/// Packets of the configuration and the first ones of the game are also seen and changed,
/// by kinds that are the same in every version.
#[tokio::test(flavor = "multi_thread")]
async fn packets_before_the_game_are_seen() {
    let backend = FakeBackend::start().await;
    let config = "inspect = ['plugin_message_to_client', 'plugin_message_to_server', \
                  'client_information', 'resource_pack_push', 'join_game', 'system_message']\n\
                  modify = ['system_message']\nothers = 'other-text'";
    let (proxy, folder) = asked(&backend, "", config).await;
    for protocol in [340, 767, 776] {
        let version = Version::of(protocol).unwrap();
        let (mut client, mut peer) = begin(&proxy, &backend, protocol, "Notch").await;
        welcome(&mut client, &mut peer, protocol).await;
        let mut expected = Vec::new();
        if protocol >= 764 {
            let id = |kind| i32::from(version.id(State::Configuration, kind).unwrap());
            let brand = [wire::string("minecraft:brand"), wire::string("Paper")].concat();
            peer.send(id(Clientbound::PluginMessage), &brand).await;
            let (_, body) = client.next().await.unwrap();
            // The proxy adds its own name behind the plugins.
            assert!(String::from_utf8_lossy(&body).contains("infrarust"));
            let settings =
                |kind: Serverbound| i32::from(version.id(State::Configuration, kind).unwrap());
            let fields = [
                &wire::string("de_de")[..],
                &[10, 0, 1, 0x7F, 1, 0, 1, 0][..],
            ]
            .concat();
            client
                .send(settings(Serverbound::ClientInformation), &fields)
                .await;
            peer.expect(settings(Serverbound::ClientInformation)).await;
            expected = vec![
                "plugin_message_to_client Configuration minecraft:brand",
                "client_information Configuration de_de",
            ];
        }
        enter_world(&mut client, &mut peer, protocol).await;
        expected.push("join_game Play mode 1");
        let said = Value::Text(std::borrow::Cow::Owned(serde_json::json!({ "text": "hi" })));
        let (id, fields) = packet(
            protocol,
            PacketKind::SystemMessage,
            &[(PacketField::Text, said)],
        );
        peer.send(id, &fields).await;
        let (_, body) = client.next().await.unwrap();
        assert!(
            String::from_utf8_lossy(&body).contains("other"),
            "{protocol}"
        );
        expected.push("system_message Play hi");
        let expected: Vec<_> = expected
            .iter()
            .map(|line| format!("Notch {line}"))
            .collect();
        assert_eq!(seen(&folder), expected, "{protocol}");
        std::fs::remove_file(folder.path().join("events")).unwrap();
        drop((client, peer));
        proxy.idle().await;
    }
}

/// As [`enter`], with a join game that can be read.
async fn enter_world(client: &mut Speaker, peer: &mut Speaker, protocol: i32) {
    let ids = Ids::of(protocol);
    game::configure([client, peer], protocol).await;
    let world = wire::string("minecraft:overworld");
    let fields = match protocol {
        340 => [
            &[0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 20][..],
            &wire::string("default"),
            &[0],
        ]
        .concat(),
        _ => {
            let head = [0, 0, 0, 7, 0, 1];
            let limits = [20, 10, 10, 0, 1, 0, 0];
            let rest = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0, 0, 0, 0];
            let tail = if protocol >= 768 {
                &[63, 0, 0][..]
            } else {
                &[0][..]
            };
            [&head[..], &world, &limits, &world, &rest, tail].concat()
        }
    };
    peer.send(ids.join, &fields).await;
    client.expect(ids.join).await;
}

/// A slow plugin delays one direction of one player until its deadline; then the packet
/// passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_plugin_delays_one_direction() {
    let backend = FakeBackend::start().await;
    let config = "modify = ['chat_message']";
    let (proxy, _folder) = asked(&backend, "deadline = '1s'", config).await;
    let (mut client, mut peer) = play(&proxy, &backend, 770).await;
    let (mut other, mut other_peer) = {
        let (mut client, mut peer) = begin(&proxy, &backend, 770, "Alex").await;
        game::welcome([&mut client, &mut peer], 770, ([3; 16], "Alex"), None).await;
        enter(&mut client, &mut peer, 770).await;
        (client, peer)
    };
    // Longer than any test: only the deadline ends it.
    say(&mut client, 770, "sleep 3600000", 0).await;
    say(&mut client, 770, "after", 0).await;
    for _ in 0..20 {
        peer.send(0x7C, b"x").await;
        client.expect(0x7C).await;
    }
    say(&mut other, 770, "hello", 0).await;
    assert_eq!(read(&mut other_peer, 770).await, "hello");
    assert_eq!(read(&mut peer, 770).await, "sleep 3600000");
    assert_eq!(read(&mut peer, 770).await, "after");
}

/// A plugin that never answers is not called any more once too many of its calls have not
/// returned. No packet waits longer than the deadline, and players join and leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_never_answers_is_bounded() {
    const CALLS_MAX: usize = 64;
    let backend = FakeBackend::start().await;
    let (proxy, folder) = asked(&backend, "deadline = '10ms'", "modify = ['chat_message']").await;
    let (mut client, mut peer) = play(&proxy, &backend, 340).await;
    for number in 0..CALLS_MAX + 36 {
        let line = format!("sleep {}", 3_600_000 + number);
        say(&mut client, 340, &line, 0).await;
        assert_eq!(read(&mut peer, 340).await, line);
    }
    within("the calls to begin", async {
        while seen(&folder).len() < CALLS_MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // It would change the line.
    say(&mut client, 340, "shout hello", 0).await;
    assert_eq!(read(&mut peer, 340).await, "shout hello");
    assert_eq!(seen(&folder), ["asleep"; CALLS_MAX]);
    drop((client, peer));
    proxy.idle().await;
}

/// After a failure packets pass unchanged. With `on_failure = "deny"` the session ends with
/// a text.
#[tokio::test(flavor = "multi_thread")]
async fn failures_pass_or_end_the_session() {
    let backend = FakeBackend::start().await;
    let config = "modify = ['chat_message', 'keep_alive']\nothers = 'drop'";
    let (proxy, _folder) = asked(&backend, "", config).await;
    for protocol in [340, 770] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        for line in ["error", "panic", "long", "garbage", "fine"] {
            say(&mut client, protocol, line, 0).await;
            match line {
                // What the bytes mean is the plugin's affair.
                "garbage" => {
                    let (_, fields) = peer.next().await.unwrap();
                    assert_eq!(fields, [0xFF; 7]);
                }
                line => assert_eq!(read(&mut peer, protocol).await, line),
            }
        }
        // The game depends on it: the plugin cannot drop it.
        let (id, fields) = packet(
            protocol,
            PacketKind::KeepAlive,
            &[(PacketField::Id, Value::Int(7))],
        );
        peer.send(id, &fields).await;
        assert_eq!(client.expect(id).await, fields);
        drop((client, peer));
        proxy.idle().await;
    }

    let (proxy, _folder) = asked(&backend, "on_failure = 'deny'", config).await;
    let (mut client, mut peer) = play(&proxy, &backend, 340).await;
    say(&mut client, 340, "error", 0).await;
    let (id, body) = client.next().await.unwrap();
    assert_eq!(id, Ids::of(340).disconnect);
    assert!(!text(340, &body).is_empty());
    client.expect_end().await;
    peer.expect_end().await;
}

/// The bytes that a plugin adds to packets in a second are bounded, like those that it
/// sends. Packets over the limit pass unchanged, and each one arrives.
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_that_plugins_add_are_bounded() {
    const PADDED: usize = 256 * 1024;
    const PACKETS: usize = 300;
    const PER_SECOND_MAX: f64 = 16.0 * 1024.0 * 1024.0;
    let backend = FakeBackend::start().await;
    let config = format!("modify = ['to_client']\nothers = 'pad {PADDED}'");
    let (proxy, _folder) = asked(&backend, "", &config).await;
    let began = std::time::Instant::now();
    let (mut client, mut peer) = play(&proxy, &backend, 340).await;
    let sent = async {
        for _ in 0..PACKETS {
            peer.send(0x7C, b"x").await;
        }
    };
    let read = async {
        let mut added = 0_u32;
        for _ in 0..PACKETS {
            let fields = client.expect(0x7C).await;
            match fields.len() {
                1 => assert_eq!(fields, b"x"),
                bytes => {
                    assert_eq!(bytes, PADDED);
                    added += u32::try_from(bytes).unwrap();
                }
            }
        }
        added
    };
    let ((), added) = tokio::join!(sent, read);
    let seconds = began.elapsed().as_secs_f64();
    assert!(
        f64::from(added) <= PER_SECOND_MAX * (1.0 + seconds),
        "{added} in {seconds} s"
    );
    assert!(added > 0);
}

/// Twenty thousand packets of each direction pass through a plugin that sees all of them,
/// in order.
#[tokio::test(flavor = "multi_thread")]
async fn every_packet_is_seen() {
    let backend = FakeBackend::start().await;
    let config = "inspect = ['to_client', 'to_backend']\ncounts = true";
    let (proxy, folder) = asked(&backend, "", config).await;
    let (mut client, mut peer) = play(&proxy, &backend, 340).await;
    const COUNT: u32 = 20_000;
    let sent = async {
        for number in 0..COUNT {
            peer.send(0x7C, &number.to_be_bytes()).await;
        }
        peer
    };
    let read = async {
        for number in 0..COUNT {
            assert_eq!(client.expect(0x7C).await, number.to_be_bytes());
        }
        client
    };
    let (mut peer, mut client) = tokio::join!(sent, read);
    say(&mut client, 340, "hello", 0).await;
    assert_eq!(read_chat(&mut peer).await, "hello");
    assert_eq!(seen(&folder).last().unwrap(), "20000");
}

async fn read_chat(peer: &mut Speaker) -> String {
    read(peer, 340).await
}

/// The chat key of the client does not reach the backend if a plugin may change chat, and
/// reaches it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_chat_is_withheld() {
    let backend = FakeBackend::start().await;
    let session = |protocol| {
        let version = Version::of(protocol).unwrap();
        i32::from(version.id(State::Play, Serverbound::ChatSession).unwrap())
    };
    for (config, is_withheld) in [
        ("modify = ['chat_command']", true),
        ("inspect = ['chat_message']", false),
    ] {
        let (proxy, _folder) = asked(&backend, "", config).await;
        for protocol in [763, 770, 776] {
            let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
            client.send(session(protocol), b"key").await;
            say(&mut client, protocol, "hello", 0).await;
            if !is_withheld {
                assert_eq!(peer.expect(session(protocol)).await, b"key");
            }
            assert_eq!(
                read(&mut peer, protocol).await,
                "hello",
                "{protocol} {config}"
            );
            drop((client, peer));
            proxy.idle().await;
        }
    }
}

/// A player who leaves while a plugin handles a packet leaves nothing behind, and neither
/// does a backend that is lost then.
#[tokio::test(flavor = "multi_thread")]
async fn players_leave_during_packet_calls() {
    let backend = FakeBackend::start().await;
    let (proxy, _folder) = asked(&backend, "deadline = '300ms'", "modify = ['chat_message']").await;
    let (mut client, peer) = play(&proxy, &backend, 340).await;
    say(&mut client, 340, "sleep 500", 0).await;
    drop((client, peer));
    proxy.idle().await;
    let (mut client, peer) = play(&proxy, &backend, 340).await;
    say(&mut client, 340, "sleep 500", 0).await;
    drop(peer);
    let _ = client.next().await;
    client.expect_end().await;
    proxy.idle().await;
}

/// Packets that no plugin wants pass unchanged, also malformed ones.
#[tokio::test(flavor = "multi_thread")]
async fn unwanted_packets_pass_unchanged() {
    let backend = FakeBackend::start().await;
    let plain = offline(&backend, NO_COMPRESSION);
    let (asked, _folder) = asked(&backend, "", "inspect = ['transfer']").await;
    for proxy in [plain, asked] {
        let (mut client, mut peer) = play(&proxy, &backend, 776).await;
        for body in [&b""[..], b"x", &[0xFF; 3000]] {
            peer.send(0x7C, body).await;
            assert_eq!(client.expect(0x7C).await, body);
            client.send(0x7B, body).await;
            assert_eq!(peer.expect(0x7B).await, body);
        }
    }
}

/// `chat-guard` drops lines of players of every family and shows them why. The backend gets
/// the other lines, and the acknowledgements of dropped ones.
#[tokio::test(flavor = "multi_thread")]
async fn chat_guard_drops_lines() {
    let backend = FakeBackend::start().await;
    let file = build("plugins/chat-guard", "chat_guard");
    let config = "lines = 3\nseconds = 3600\npatterns = ['*gold*']\npattern_text = 'no gold'";
    let global =
        format!("[plugins.chat-guard]\npath = {file:?}\n[plugins.chat-guard.config]\n{config}\n");
    let file = plain(&backend);
    let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
    for protocol in [47, 340, 758, 760, 764, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        // The plugin has seen the player come when this passes.
        peer.send(0x7C, b"x").await;
        client.expect(0x7C).await;
        for line in ["one", "buy GOLD", "three", "four"] {
            say(&mut client, protocol, line, 2).await;
        }
        let mut expected = vec!["one", "three"];
        if protocol >= 761 {
            expected.insert(1, "seen 2");
            expected.push("seen 2");
        }
        for line in expected {
            assert_eq!(read(&mut peer, protocol).await, line, "{protocol}");
        }
        for text in ["no gold", "too fast"] {
            let (_, body) = within("a text", client.next()).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body.contains(text), "{protocol}: {body}");
        }
        drop((client, peer));
        proxy.idle().await;
    }
}

/// The id of a packet.
fn id_of<K: infrarust::protocol::packet::Kind>(protocol: i32, state: State, kind: K) -> i32 {
    let version = Version::of(protocol).unwrap();
    i32::from(version.id(state, kind).unwrap())
}

/// Has the plugin send one of each, and returns what came of it. The plugin has been asked
/// when the message arrives.
async fn send_each(
    [client, peer]: [&mut Speaker; 2],
    folder: &TempDir,
    protocol: i32,
    state: State,
) -> Vec<String> {
    let _ = std::fs::remove_file(folder.path().join("events"));
    let id = id_of(protocol, state, Serverbound::PluginMessage);
    client.send(id, &wire::string("p:send")).await;
    assert_eq!(peer.expect(id).await, wire::string("p:send"));
    seen(folder)
}

/// What of [`send_each`] the client reads up to a packet of the backend.
async fn arrived([client, peer]: [&mut Speaker; 2], protocol: i32) -> Vec<&'static str> {
    let version = Version::of(protocol).unwrap();
    peer.send(0x7C, b"x").await;
    let mut kinds = Vec::new();
    loop {
        let (id, fields) = within("a packet", client.next()).await.unwrap();
        if id == 0x7C {
            return kinds;
        }
        let view = View::of(version, State::Play, Direction::Clientbound, id, &fields);
        kinds.push(view.unwrap_or_else(|| panic!("packet {id}")).kind().name());
    }
}

/// What the client reads of [`send_each`] where its version has everything.
const EACH: [&str; 8] = [
    "system_message",
    "title_times",
    "subtitle",
    "title",
    "plugin_message_to_client",
    "cookie_store",
    "cookie_request",
    "transfer",
];

/// Where a backend takes a player who is in the game back into a configuration, what
/// plugins send waits until the player is in the game again, in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn packets_wait_for_the_end_of_a_configuration() {
    let backend = FakeBackend::start().await;
    let (proxy, folder) = asked(&backend, "", "inspect = ['plugin_message_to_server']").await;
    for protocol in [764, 767, 776] {
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let start = id_of(protocol, State::Play, Clientbound::StartConfiguration);
        let acknowledged = id_of(
            protocol,
            State::Play,
            Serverbound::ConfigurationAcknowledged,
        );
        peer.send(start, &[]).await;
        client.expect(start).await;
        client.send(acknowledged, &[]).await;
        peer.expect(acknowledged).await;
        let sides = [&mut client, &mut peer];
        let results = send_each(sides, &folder, protocol, State::Configuration).await;
        let is_sent = |what: &&str| results.contains(&format!("{what} sent"));
        let first = ["chat", "title", "message", "other message"];
        let later = ["cookie", "request", "transfer"];
        assert!(first.iter().all(is_sent), "{results:?}");
        assert_eq!(later.iter().all(is_sent), protocol >= 766, "{results:?}");
        // Each of these packets is the next one that the other side reads.
        let brand = id_of(protocol, State::Configuration, Clientbound::PluginMessage);
        peer.send(brand, &wire::string("a:b")).await;
        assert_eq!(client.expect(brand).await, wire::string("a:b"));
        enter(&mut client, &mut peer, protocol).await;
        let id = id_of(protocol, State::Play, Serverbound::PluginMessage);
        let message = [wire::string("p:there"), b"x".to_vec()].concat();
        assert_eq!(peer.expect(id).await, message, "{protocol}");
        let expected = match protocol {
            ..=765 => &EACH[..5],
            _ => &EACH,
        };
        let kinds = arrived([&mut client, &mut peer], protocol).await;
        assert_eq!(kinds, expected, "{protocol}");
        drop((client, peer));
        proxy.idle().await;
    }
}

/// On the way into the first game, and to that of another server, a player is in none:
/// nothing can be sent, and nothing arrives later.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_before_the_game() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let more = format!("network = \"main\"\n{NO_COMPRESSION}");
    let file = |host, backend: &FakeBackend| server("offline", host, backend.address, &more);
    let servers = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let global = "[permissions]\nplayer_commands = ['server']\n";
    let config = "inspect = ['plugin_message_to_server']";
    let (proxy, folder) = asked_in(&servers, global, "", config).await;
    const PROTOCOL: i32 = 767;
    let is_refused = |results: Vec<String>| {
        assert_eq!(results.len(), 7);
        for result in results {
            assert!(result.ends_with(": the player has left"), "{result}");
        }
    };
    let (mut client, mut peer) = begin(&proxy, &a, PROTOCOL, "Notch").await;
    welcome(&mut client, &mut peer, PROTOCOL).await;
    let sides = [&mut client, &mut peer];
    is_refused(send_each(sides, &folder, PROTOCOL, State::Configuration).await);
    enter(&mut client, &mut peer, PROTOCOL).await;
    let none: [&str; 0] = [];
    assert_eq!(arrived([&mut client, &mut peer], PROTOCOL).await, none);

    let ids = CommandIds::of(PROTOCOL);
    let command = ids.fields(PROTOCOL, "server b", 0);
    client.send(ids.command, &command).await;
    let mut second = leave_for(&mut client, &mut peer, &b).await;
    let sides = [&mut client, &mut second];
    is_refused(send_each(sides, &folder, PROTOCOL, State::Configuration).await);
    enter(&mut client, &mut second, PROTOCOL).await;
    assert_eq!(arrived([&mut client, &mut second], PROTOCOL).await, none);

    let sides = [&mut client, &mut second];
    let results = send_each(sides, &folder, PROTOCOL, State::Play).await;
    assert!(results.iter().all(|result| result.ends_with(" sent")));
    assert_eq!(arrived([&mut client, &mut second], PROTOCOL).await, EACH);
}
