//! Proofs for the keys of the BungeeCord channel.

use infrarust_test_support::game::{self, Ids, Speaker};

use super::{Proofs, effect};
use crate::intercept::channel::{USES, answer, ask, play, utf};
use crate::support::{FakeBackend, TestProxy, server};

/// 1.21.
const PROTOCOL: i32 = 767;
/// A packet to the client that the proxy does not read.
const TO_CLIENT: i32 = 0x22;

/// The keys of the subcommands, each with a message.
const QUESTIONS: [(&str, &[&str]); 18] = [
    ("connect", &["Connect", "b"]),
    ("connect_other", &["ConnectOther", "Notch", "b"]),
    ("ip", &["IP"]),
    ("ip_other", &["IPOther", "Notch"]),
    ("player_count", &["PlayerCount", "a"]),
    ("player_list", &["PlayerList", "a"]),
    ("get_servers", &["GetServers"]),
    ("get_server", &["GetServer"]),
    ("get_player_server", &["GetPlayerServer", "Notch"]),
    ("forward", &["Forward", "b"]),
    ("forward_to_player", &["ForwardToPlayer", "Notch"]),
    ("uuid", &["UUID"]),
    ("uuid_other", &["UUIDOther", "Notch"]),
    ("server_ip", &["ServerIP", "a"]),
    ("message", &["Message", "Notch", "hello"]),
    (
        "message_raw",
        &["MessageRaw", "Notch", "{\"text\":\"hello\"}"],
    ),
    ("kick_player", &["KickPlayer", "Notch", "bye"]),
    (
        "kick_player_raw",
        &["KickPlayerRaw", "Notch", "{\"text\":\"bye\"}"],
    ),
];

pub fn proofs() -> Proofs {
    let table = "plugin_messaging";
    let mut proofs = vec![effect(&format!("{table}.bungeecord"), bungeecord())];
    for (key, question) in QUESTIONS {
        let path = format!("{table}.bungeecord_permissions.{key}");
        proofs.push(effect(&path, permission(key, question)));
    }
    proofs
}

/// A player on server `a` of a network, and another server.
struct Stage {
    proxy: TestProxy,
    b: FakeBackend,
    client: Speaker,
    backend: Speaker,
}

async fn stage(global: &str, of_a: &str) -> Stage {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let file = |host, backend: &FakeBackend, more| server("offline", host, backend.address, more);
    let proxy = TestProxy::start(
        global,
        &[
            ("a", file("play.example.com", &a, of_a)),
            ("b", file("b.example.com", &b, USES)),
        ],
    );
    let (client, backend) = play(&proxy, &a, PROTOCOL).await;
    Stage {
        proxy,
        b,
        client,
        backend,
    }
}

impl Stage {
    /// Whether the client reads a part of this message.
    async fn is_shown(&mut self, question: &[u8]) -> bool {
        ask(&mut self.backend, PROTOCOL, question).await;
        self.backend.send(TO_CLIENT, b"behind").await;
        !matches!(self.client.next().await, Some((TO_CLIENT, _)))
    }
}

/// If the channel is off, the client reads its messages.
async fn bungeecord() {
    for (global, passes) in [
        ("[plugin_messaging]\nbungeecord = true", false),
        ("[plugin_messaging]\nbungeecord = false", true),
        ("", true),
    ] {
        let mut stage = stage(global, USES).await;
        let is_shown = stage.is_shown(&utf(&["GetServer"])).await;
        assert_eq!(is_shown, passes, "{global}");
    }
}

/// The same for one server.
pub async fn bungeecord_channel() {
    for (word, passes) in [("true", false), ("false", true)] {
        let more = format!("bungeecord_channel = {word}\ncompression_threshold = -1");
        let mut stage = stage("[plugin_messaging]\nbungeecord = true", &more).await;
        let is_shown = stage.is_shown(&utf(&["GetServer"])).await;
        assert_eq!(is_shown, passes, "{word}");
    }
}

/// The subcommand has its effect only with the key.
async fn permission(key: &str, question: &'static [&'static str]) {
    // A question that is answered behind it.
    let (marker, marker_key) = match key {
        "get_server" => ("UUID", "uuid"),
        _ => ("GetServer", "get_server"),
    };
    for is_allowed in [true, false] {
        let mut global = "[plugin_messaging]\nbungeecord = true\n\
            [plugin_messaging.bungeecord_permissions]\n"
            .to_owned();
        for (other, _) in QUESTIONS {
            let is_on = other == marker_key || (other == key && is_allowed);
            global.push_str(&format!("{other} = {is_on}\n"));
        }
        let mut stage = stage(&global, USES).await;
        let data = [utf(&["x"]), vec![0, 1, 7]].concat();
        let forwards = key.starts_with("forward");
        let tail = if forwards { data.clone() } else { Vec::new() };
        let question = [utf(question), tail].concat();
        if key.starts_with("message") || key.starts_with("kick") {
            if is_allowed {
                // It may come behind the other packet.
                ask(&mut stage.backend, PROTOCOL, &question).await;
                let (id, _) = stage.client.next().await.unwrap();
                assert_ne!(id, TO_CLIENT);
            } else {
                assert!(!stage.is_shown(&question).await, "{key}");
            }
            continue;
        }
        ask(&mut stage.backend, PROTOCOL, &question).await;
        ask(&mut stage.backend, PROTOCOL, &utf(&[marker])).await;
        if key.starts_with("connect") && is_allowed {
            game::accept(&stage.b).await;
            continue;
        }
        let first = answer(&mut stage.backend, PROTOCOL).await;
        let is_answered = !first.starts_with(&utf(&[marker]));
        if key != "forward" {
            assert_eq!(is_answered, is_allowed, "{key}");
            continue;
        }
        // What was forwarded waits for the first player of the other server.
        let address = stage.proxy.address();
        let mut other = game::begin_at(address, PROTOCOL, "b.example.com", "Other").await;
        let (mut of_b, ..) = game::accept(&stage.b).await;
        game::welcome([&mut other, &mut of_b], PROTOCOL, ([5; 16], "Other"), None).await;
        let finish = Ids::of(PROTOCOL).finish;
        of_b.send(finish, &[]).await;
        other.expect(finish).await;
        other.send(finish, &[]).await;
        of_b.expect(finish).await;
        of_b.send(Ids::of(PROTOCOL).join, &[0, 0, 0, 1, 9, 0, 0])
            .await;
        ask(&mut of_b, PROTOCOL, &utf(&[marker])).await;
        let first = answer(&mut of_b, PROTOCOL).await;
        if is_allowed && first != data {
            // It may come behind the answer.
            assert_eq!(answer(&mut of_b, PROTOCOL).await, data, "{key}");
        }
        assert!(is_allowed || first.starts_with(&utf(&[marker])), "{key}");
    }
}
