//! Lines of chat that players of 1.19 to 1.19.2 sign, on servers with a plugin that may
//! change and drop them.

use infrarust::protocol::packet::view::{Value, View};
use infrarust::protocol::packet::{Direction, State, Version};
use infrarust_plugin_abi::{PacketField, PacketKind};
use infrarust_test_support::game::{self, Sessions, Speaker, encrypt};
use infrarust_test_support::within;
use tokio::net::TcpStream;

use super::commands::CommandIds;
use super::packets::{asked_at, asked_in, packet, seen};
use super::{NO_COMPRESSION, NOTCH, NOTCH_OFFLINE, enter, uuid};
use crate::support::{FakeBackend, TestProxy, server, wire};

const VERSIONS: [i32; 2] = [759, 760];
const MODIFIES: &str = "modify = ['chat_message']";

/// A login start with a key, of the player that the session service confirms.
fn start_with_key(protocol: i32) -> Vec<u8> {
    let expiry = 1_700_000_000_000_u64.to_be_bytes();
    let holder = match protocol {
        760 => [&[1][..], &uuid(NOTCH)].concat(),
        _ => Vec::new(),
    };
    let name = wire::string("Notch");
    [&name, &[1][..], &expiry, b"\x03key\x04sign", &holder].concat()
}

/// A client that has sent a login start with a key.
async fn begin(proxy: &TestProxy, mode: &str, protocol: i32) -> Speaker {
    let stream = within("a connection", TcpStream::connect(proxy.address())).await;
    let mut client = Speaker::new(stream.unwrap());
    let hello = wire::handshake(protocol, "play.example.com", 25565, 2);
    client.send_raw(&hello).await;
    client.send(0, &start_with_key(protocol)).await;
    if mode == "client_only" {
        encrypt(&mut client, protocol).await;
    }
    client
}

/// Whether the login start that a backend has read has the key.
fn has_key(start: &[u8]) -> bool {
    start.windows(9).any(|bytes| bytes == b"\x03key\x04sign")
}

async fn welcome(client: &mut Speaker, peer: &mut Speaker, protocol: i32, id: &str) {
    let success = game::login_success(protocol, uuid(id), "Notch");
    peer.send(2, &success).await;
    client.expect(2).await;
    enter(client, peer, protocol).await;
}

fn signed(protocol: i32, line: &str) -> (i32, Vec<u8>) {
    packet(
        protocol,
        PacketKind::ChatMessage,
        &[
            (PacketField::Message, Value::Str(line.into())),
            (PacketField::Timestamp, Value::Int(1)),
            (PacketField::Signature, Value::Bytes(vec![7; 256].into())),
        ],
    )
}

/// The next line that the backend reads, and whether it is signed.
async fn read(peer: &mut Speaker, protocol: i32) -> (String, bool) {
    let (id, fields) = within("a line", peer.next()).await.unwrap();
    let version = Version::of(protocol).unwrap();
    let view = View::of(version, State::Play, Direction::Serverbound, id, &fields).unwrap();
    let Ok(Some(Value::Str(line))) = view.get(PacketField::Message) else {
        panic!("no line: {fields:02x?}");
    };
    let signature = view.get(PacketField::Signature);
    let is_signed = matches!(signature, Ok(Some(Value::Bytes(bytes))) if !bytes.is_empty());
    (line.into_owned(), is_signed)
}

/// Sends four signed lines, and asserts that these reach the backend. The plugin passes,
/// drops and changes three, and writes what it could do with the last one.
async fn say(client: &mut Speaker, peer: &mut Speaker, protocol: i32, read_lines: &[(&str, bool)]) {
    for line in ["one", "drop two", "shout three", "rights"] {
        let (id, fields) = signed(protocol, line);
        client.send(id, &fields).await;
    }
    for (line, is_signed) in read_lines {
        let expected = ((*line).to_owned(), *is_signed);
        assert_eq!(read(peer, protocol).await, expected, "{protocol}");
    }
}

/// Where a plugin may change chat, a backend does not get the key. Then it does not check
/// signatures, and the plugin can change and drop signed lines.
#[tokio::test(flavor = "multi_thread")]
async fn signed_lines_are_changed_and_dropped() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    for (mode, id) in [("client_only", NOTCH), ("offline", NOTCH_OFFLINE)] {
        let more = format!("{NO_COMPRESSION}\nforwarding_mode = \"bungeecord\"");
        let more = (mode, &*more);
        let (proxy, folder) = asked_at(&backend, &sessions.global(), more, "", MODIFIES).await;
        for protocol in VERSIONS {
            let mut client = begin(&proxy, mode, protocol).await;
            let (mut peer, _, start) = game::accept(&backend).await;
            assert!(!has_key(&start), "{mode} {protocol}");
            welcome(&mut client, &mut peer, protocol, id).await;
            let lines = [("one", true), ("THREE", false), ("rights", true)];
            say(&mut client, &mut peer, protocol, &lines).await;
            assert_eq!(seen(&folder).last().unwrap(), "drop true change true");
            drop((client, peer));
            proxy.idle().await;
        }
    }
}

/// A backend that demands the key gets it in a second login, of which the client notices
/// nothing. It then checks signatures: lines pass unchanged, and in 1.19.1, where each
/// line is signed over the one before, none can be dropped.
#[tokio::test(flavor = "multi_thread")]
async fn backends_that_demand_keys_get_them() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let more = format!("{NO_COMPRESSION}\nforwarding_mode = \"bungeecord\"");
    let more = ("client_only", &*more);
    let (proxy, folder) = asked_at(&backend, &sessions.global(), more, "", MODIFIES).await;
    for protocol in VERSIONS {
        let mut client = begin(&proxy, "client_only", protocol).await;
        let (mut first, _, start) = game::accept(&backend).await;
        assert!(!has_key(&start), "{protocol}");
        let text = r#"{"translate":"multiplayer.disconnect.missing_public_key"}"#;
        first.send(0, &wire::string(text)).await;
        let (mut peer, _, start) = game::accept(&backend).await;
        assert!(has_key(&start), "{protocol}");
        welcome(&mut client, &mut peer, protocol, NOTCH).await;
        let lines = [
            ("one", true),
            ("drop two", true),
            ("shout three", true),
            ("rights", true),
        ];
        let (lines, rights) = match protocol {
            759 => (
                &[lines[0], lines[2], lines[3]][..],
                "drop true change false",
            ),
            _ => (&lines[..], "drop false change false"),
        };
        say(&mut client, &mut peer, protocol, lines).await;
        assert_eq!(seen(&folder).last().unwrap(), rights);
        drop((client, peer, first));
        proxy.idle().await;
    }
}

/// A backend that refuses the player with the key as well, or for another reason, is not
/// asked again.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_not_repeated() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let more = ("client_only", "forwarding_mode = \"bungeecord\"");
    let (proxy, _folder) = asked_at(&backend, &sessions.global(), more, "", MODIFIES).await;
    let missing = r#"{"translate":"multiplayer.disconnect.missing_public_key"}"#;
    for texts in [&[missing, missing][..], &[r#"{"text":"no"}"#]] {
        let mut client = begin(&proxy, "client_only", 760).await;
        for text in texts {
            let (mut peer, ..) = game::accept(&backend).await;
            peer.send(0, &wire::string(text)).await;
        }
        let text = wire::string_in(&client.expect(0).await);
        assert!(texts[0].contains("no") || text.contains("missing_public_key"));
        client.expect_end().await;
        proxy.idle().await;
    }
}

/// The same holds for backends of other servers of the network: for one that is tried in the
/// login after the first has refused the player, and for one to which the player switches.
#[tokio::test(flavor = "multi_thread")]
async fn backends_of_a_network_that_demand_keys_get_them() {
    let sessions = Sessions::confirming("Notch").await;
    let backends = [FakeBackend::start().await, FakeBackend::start().await];
    let more = format!("{NO_COMPRESSION}\nforwarding_mode = \"bungeecord\"\nnetwork = \"main\"");
    let file = |host, backend: &FakeBackend| server("client_only", host, backend.address, &more);
    let servers = [
        ("a", file("play.example.com", &backends[0])),
        ("b", file("b.example.com", &backends[1])),
    ];
    let global = format!(
        "{}\n[permissions]\nplayer_commands = ['server']\n",
        sessions.global()
    );
    let (proxy, _folder) = asked_in(&servers, &global, "", MODIFIES).await;
    let refuses = async |backend: &FakeBackend, text: &str| {
        let (mut peer, _, start) = game::accept(backend).await;
        assert!(!has_key(&start));
        peer.send(0, &wire::string(text)).await;
        peer
    };
    let missing = r#"{"translate":"multiplayer.disconnect.missing_public_key"}"#;
    let mut client = begin(&proxy, "client_only", 760).await;
    let _first = refuses(&backends[0], r#"{"text":"full"}"#).await;
    let _second = refuses(&backends[1], missing).await;
    let (mut peer, _, start) = game::accept(&backends[1]).await;
    assert!(has_key(&start));
    welcome(&mut client, &mut peer, 760, NOTCH).await;
    let lines = [("one", true), ("drop two", true)];
    say(&mut client, &mut peer, 760, &lines).await;

    let ids = CommandIds::of(760);
    let command = ids.fields(760, "server a", 0);
    client.send(ids.command, &command).await;
    let _third = refuses(&backends[0], missing).await;
    let (_peer, _, start) = game::accept(&backends[0]).await;
    assert!(has_key(&start));
}

/// Where no plugin changes chat, the backend gets the key at once.
#[tokio::test(flavor = "multi_thread")]
async fn keys_pass_where_chat_does() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let more = ("client_only", "forwarding_mode = \"bungeecord\"");
    let inspects = "inspect = ['chat_message']";
    let (proxy, _folder) = asked_at(&backend, &sessions.global(), more, "", inspects).await;
    for protocol in VERSIONS {
        let client = begin(&proxy, "client_only", protocol).await;
        let (peer, _, start) = game::accept(&backend).await;
        assert!(has_key(&start), "{protocol}");
        drop((client, peer));
        proxy.idle().await;
    }
}
