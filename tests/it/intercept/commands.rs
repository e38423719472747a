//! Commands of the proxy: which players see them and may use them, and what the backend
//! gets.

use std::time::Instant;

use infrarust_test_support::game::{self, Sessions, Speaker, encrypt};

use super::{NO_COMPRESSION, NOTCH, NOTCH_OFFLINE, admit, enter, play, welcome};
use crate::support::wire::{read_varint, string, varint};
use crate::support::{FakeBackend, TestProxy, server};

/// One version of each family of packets.
pub(super) const FAMILIES: [i32; 14] = [
    5, 47, 340, 578, 735, 754, 758, 759, 760, 763, 764, 767, 770, 776,
];

/// All players may use all commands of the proxy.
const FOR_ALL: &str =
    "[permissions]\nplayer_commands = [\"server\", \"glist\", \"find\", \"send\"]\n";

/// The ids of the packets of commands, collected by hand.
pub(super) struct CommandIds {
    /// Serverbound: a command.
    pub(super) command: i32,
    /// Whether the line in that packet has the slash.
    pub(super) has_slash: bool,
    pub(super) signed_command: i32,
    pub(super) acknowledgement: i32,
    pub(super) completion: i32,
    /// Clientbound.
    pub(super) tree: i32,
    pub(super) suggestions: i32,
    pub(super) text: i32,
}

impl CommandIds {
    pub(super) fn of(protocol: i32) -> Self {
        let at = |ids: &[(i32, i32)]| {
            let found = ids.iter().rev().find(|(from, _)| *from <= protocol);
            found.map_or(-1, |(_, id)| *id)
        };
        let chat = at(&[
            (4, 0x01),
            (107, 0x02),
            (335, 0x03),
            (338, 0x02),
            (477, 0x03),
        ]);
        let command = at(&[
            (759, 0x03),
            (760, 0x04),
            (768, 0x05),
            (771, 0x06),
            (775, 0x07),
        ]);
        let old_text = at(&[
            (4, 0x02),
            (107, 0x0F),
            (393, 0x0E),
            (573, 0x0F),
            (735, 0x0E),
            (755, 0x0F),
        ]);
        let new_text = at(&[
            (759, 0x5F),
            (760, 0x62),
            (761, 0x60),
            (762, 0x64),
            (764, 0x67),
            (765, 0x69),
            (766, 0x6C),
            (768, 0x73),
            (770, 0x72),
            (773, 0x77),
            (775, 0x79),
        ]);
        Self {
            command: if protocol < 759 { chat } else { command },
            has_slash: protocol < 759,
            signed_command: at(&[(766, 0x05), (768, 0x06), (771, 0x07), (775, 0x08)]),
            acknowledgement: at(&[(760, 0x03), (768, 0x04), (771, 0x05), (775, 0x06)]),
            completion: at(&[
                (4, 0x14),
                (107, 0x01),
                (335, 0x02),
                (338, 0x01),
                (393, 0x05),
                (477, 0x06),
                (759, 0x08),
                (760, 0x09),
                (761, 0x08),
                (762, 0x09),
                (764, 0x0A),
                (766, 0x0B),
                (768, 0x0D),
                (771, 0x0E),
                (775, 0x0F),
            ]),
            tree: at(&[
                (393, 0x11),
                (573, 0x12),
                (735, 0x11),
                (751, 0x10),
                (755, 0x12),
                (759, 0x0F),
                (761, 0x0E),
                (762, 0x10),
                (764, 0x11),
                (770, 0x10),
            ]),
            suggestions: at(&[
                (4, 0x3A),
                (107, 0x0E),
                (393, 0x10),
                (573, 0x11),
                (735, 0x10),
                (751, 0x0F),
                (755, 0x11),
                (759, 0x0E),
                (761, 0x0D),
                (762, 0x0F),
                (764, 0x10),
                (770, 0x0F),
            ]),
            text: if protocol < 759 { old_text } else { new_text },
        }
    }

    /// The fields of a command packet for this line, without the slash. The packet
    /// acknowledges `seen` messages, if its version does.
    pub(super) fn fields(&self, protocol: i32, line: &str, seen: u8) -> Vec<u8> {
        let line = string(&if self.has_slash {
            format!("/{line}")
        } else {
            line.to_owned()
        });
        let rest: &[u8] = match protocol {
            759 => &[0; 18],
            760 => &[0; 20],
            761..=765 => &[&[0; 17][..], &[seen, 0, 0, 0]].concat(),
            _ => &[],
        };
        [&line[..], rest].concat()
    }

    /// A request to complete a line.
    pub(super) fn asking(&self, protocol: i32, id: u8, line: &str) -> Vec<u8> {
        match protocol {
            ..47 => string(line),
            47..107 => [string(line), vec![0]].concat(),
            107..393 => [string(line), vec![0, 0]].concat(),
            _ => [vec![id], string(line)].concat(),
        }
    }
}

/// Reads up to a text that contains this one. Returns what came before it.
pub(super) async fn read_until(client: &mut Speaker, ids: &CommandIds, text: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let (id, body) = client.next().await.expect("the session goes on");
        let body = String::from_utf8_lossy(&body).into_owned();
        if id == ids.text && body.contains(text) {
            return before;
        }
        before.push(body);
    }
}

/// In every family the proxy answers its own commands, in upper or lower case. The backend
/// gets its own commands unchanged and in order.
#[tokio::test]
async fn commands_are_answered_in_every_version() {
    let backend = FakeBackend::start().await;
    let more = format!("network = \"main\"\n{NO_COMPRESSION}");
    let file = server("offline", "play.example.com", backend.address, &more);
    let other = server(
        "offline",
        "other.example.com",
        backend.address,
        "network = \"main\"",
    );
    let proxy = TestProxy::start(FOR_ALL, &[("a", file), ("b", other)]);
    for protocol in FAMILIES {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        // One segment: the relay must not mix them up.
        let mut segment = Vec::new();
        for line in [
            "spawn",
            "glist all",
            "/wand",
            " glist",
            "FIND nOTCH",
            "",
            "find Nobody",
            "glisten",
        ] {
            segment.extend(client.framed(ids.command, &ids.fields(protocol, line, 0)));
        }
        client.send_raw(&segment).await;
        for line in ["spawn", "/wand", " glist", "", "glisten"] {
            assert_eq!(
                peer.expect(ids.command).await,
                ids.fields(protocol, line, 0),
                "{protocol}"
            );
        }
        read_until(&mut client, &ids, "1 player in the network main.").await;
        let lines = read_until(&mut client, &ids, "Notch is on a.").await;
        assert_eq!(lines.len(), 2, "{protocol}: {lines:?}");
        assert!(lines[0].contains("Notch") && !lines[1].contains("Notch"));
        read_until(&mut client, &ids, "There is no player Nobody.").await;

        client
            .send(ids.command, &ids.fields(protocol, "server", 0))
            .await;
        read_until(&mut client, &ids, "You are on a.").await;
        let (id, body) = client.next().await.unwrap();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(id, ids.text);
        for part in ["a (1)", "b (0)", "run_command", "/server b"] {
            assert!(body.contains(part), "{protocol}: {part} in {body}");
        }
        assert!(!body.contains("/server a"), "{protocol}: {body}");
        client
            .send(ids.command, &ids.fields(protocol, "find", 0))
            .await;
        read_until(&mut client, &ids, "Usage: /find <player>").await;
        drop((client, peer));
        proxy.idle().await;
    }
}

/// Characters that take four bytes in UTF-8, and two units in the game, pass in commands of
/// the backend, and are understood and shown in those of the proxy.
#[tokio::test]
async fn commands_may_have_emoji() {
    let backend = FakeBackend::start().await;
    let more = format!("network = \"main\"\n{NO_COMPRESSION}");
    let file = server("offline", "play.example.com", backend.address, &more);
    let other = server("offline", "b.x", backend.address, "network = \"main\"");
    let proxy = TestProxy::start(FOR_ALL, &[("a", file), ("b", other)]);
    for protocol in FAMILIES {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        for line in ["say 🦀", "🦀", "say é🦀é"] {
            let fields = ids.fields(protocol, line, 0);
            client.send(ids.command, &fields).await;
            assert_eq!(peer.expect(ids.command).await, fields, "{protocol}");
        }
        client
            .send(ids.command, &ids.fields(protocol, "find 🦀", 0))
            .await;
        let (id, body) = client.next().await.expect("the session goes on");
        assert_eq!(id, ids.text, "{protocol}");
        // NBT writes both units with three bytes each.
        let shown = match protocol {
            ..765 => "player 🦀.".as_bytes(),
            _ => b"player \xED\xA0\xBE\xED\xB6\x80.",
        };
        let mut parts = body.windows(shown.len());
        assert!(parts.any(|part| part == shown), "{protocol}: {body:02x?}");
        // Nobody has such a name: nothing completes it.
        client
            .send(ids.completion, &ids.asking(protocol, 7, "/find 🦀"))
            .await;
        let nothing: &[u8] = if protocol < 393 { &[0] } else { &[7, 6, 2, 0] };
        assert_eq!(client.expect(ids.suggestions).await, nothing, "{protocol}");
        drop((client, peer));
        proxy.idle().await;
    }
}

/// A server without a network counts as a network of one server.
#[tokio::test]
async fn a_server_without_a_network_stands_alone() {
    let backend = FakeBackend::start().await;
    let file = |host| server("offline", host, backend.address, NO_COMPRESSION);
    let servers = [
        ("a", file("play.example.com")),
        ("b", file("b.example.com")),
    ];
    let proxy = TestProxy::start(FOR_ALL, &servers);
    let ids = CommandIds::of(767);
    let mut other = game::begin_at(proxy.address(), 767, "b.example.com", "Alice").await;
    let (mut of_other, ..) = game::accept(&backend).await;
    game::welcome([&mut other, &mut of_other], 767, ([3; 16], "Alice"), None).await;
    enter(&mut other, &mut of_other, 767).await;
    let (mut client, mut peer) = play(&proxy, &backend, 767).await;
    for (line, answer) in [
        ("glist", "1 player on a."),
        ("find Alice", "There is no player Alice."),
        ("server", "This server belongs to no network."),
        ("server b", "This server belongs to no network."),
        ("send all b", "This server belongs to no network."),
    ] {
        client.send(ids.command, &ids.fields(767, line, 0)).await;
        read_until(&mut client, &ids, answer).await;
    }
    client.send(ids.command, &ids.fields(767, "spawn", 0)).await;
    assert_eq!(peer.expect(ids.command).await, string("spawn"));
}

/// The nodes of a backend's tree: the root, and one with an unknown parser.
pub(super) const TREE: &[u8] = b"\x02\x00\x01\x01\x06\x04mine\x7F\xFE\xFD\xFC\x00";

/// The names of the literals after the nodes of [`TREE`], in a tree that begins with these
/// nodes.
pub(super) fn added(protocol: i32, tree: &[u8]) -> Vec<String> {
    if tree == TREE {
        return Vec::new();
    }
    let (count, at) = read_varint(tree).unwrap();
    let names = usize::try_from(count - 2).unwrap() / 2;
    let children = u8::try_from(1 + names).unwrap();
    assert_eq!(tree[at..at + 3], [0, children, 1]);
    let indices: Vec<u8> = (0..names)
        .map(|index| u8::try_from(2 + 2 * index).unwrap())
        .collect();
    let rest = tree[at + 3..].strip_prefix(&indices[..]).unwrap();
    let mut rest = rest.strip_prefix(&TREE[4..TREE.len() - 1]).unwrap();
    let parser = match protocol {
        ..759 => string("brigadier:string"),
        _ => varint(5),
    };
    let mut found = Vec::new();
    for index in indices {
        rest = rest.strip_prefix(&[0x05, 1, index + 1][..]).unwrap();
        let length = usize::from(rest[0]);
        found.push(String::from_utf8(rest[1..=length].to_vec()).unwrap());
        rest = &rest[1 + length..];
        let argument = [
            &b"\x16\0\x04args"[..],
            &parser,
            &[2],
            &string("minecraft:ask_server"),
        ];
        rest = rest.strip_prefix(&argument.concat()[..]).unwrap();
    }
    assert_eq!(rest, [0]);
    found
}

/// A tree passes unchanged with the proxy's commands appended, each time the backend sends
/// one, compressed or not. A tree in an unknown form passes unchanged.
#[tokio::test]
async fn trees_get_the_commands_of_the_proxy() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, NO_COMPRESSION);
    for protocol in FAMILIES.into_iter().filter(|protocol| *protocol >= 393) {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        for _ in 0..3 {
            peer.send(ids.tree, TREE).await;
            let tree = client.expect(ids.tree).await;
            assert_eq!(added(protocol, &tree), ["find", "glist", "send", "server"]);
        }
        for unknown in [&b"\x01\x00\x00\x01"[..], b"\x01\x01\x00\x00", b""] {
            peer.send(ids.tree, unknown).await;
            assert_eq!(client.expect(ids.tree).await, unknown, "{protocol}");
        }
        drop((client, peer));
        proxy.idle().await;
    }
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, "");
    let (mut client, mut peer) = super::begin(&proxy, &backend, 767, "Notch").await;
    peer.send(3, &[64]).await;
    peer.compress(64);
    admit(&mut peer, 767).await;
    assert_eq!(client.expect(3).await, [64]);
    client.compress(64);
    client.expect(2).await;
    client.send(3, &[]).await;
    peer.expect(3).await;
    enter(&mut client, &mut peer, 767).await;
    // A large tree: the part that nobody reads comes out as it went in.
    let filler = vec![0x5A; 20_000];
    let tree = [&TREE[..TREE.len() - 1], &filler, &[0]].concat();
    let ids = CommandIds::of(767);
    peer.send(ids.tree, &tree).await;
    let merged = client.expect(ids.tree).await;
    assert!(merged.windows(filler.len()).any(|part| part == filler));
    assert!(merged.ends_with(b"minecraft:ask_server\0"));
}

/// A tree that arrives in one segment with the join game also gets the commands.
#[tokio::test]
async fn a_tree_behind_the_join_game_gets_them_too() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, NO_COMPRESSION);
    for protocol in [758, 767] {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = super::begin(&proxy, &backend, protocol, "Notch").await;
        welcome(&mut client, &mut peer, protocol).await;
        let game = super::Ids::of(protocol);
        if protocol >= 764 {
            peer.send(game.finish, &[]).await;
            client.expect(game.finish).await;
            client.send(game.finish, &[]).await;
            peer.expect(game.finish).await;
        }
        let join = peer.framed(game.join, &[0, 0, 0, 1, 9, 0, 0]);
        let tree = peer.framed(ids.tree, TREE);
        peer.send_raw(&[join, tree].concat()).await;
        client.expect(game.join).await;
        assert_eq!(added(protocol, &client.expect(ids.tree).await).len(), 4);
    }
}

/// The proxy completes arguments of its own commands, with the number of the request and
/// the position of the word. The backend completes everything else.
#[tokio::test]
async fn completions_are_answered_in_every_version() {
    let backend = FakeBackend::start().await;
    let file = |host| {
        server(
            "offline",
            host,
            backend.address,
            &format!("network = \"main\"\n{NO_COMPRESSION}"),
        )
    };
    let servers = [
        ("lobby", file("play.example.com")),
        ("lounge", file("b.x")),
        ("arena", file("c.x")),
    ];
    let proxy = TestProxy::start(FOR_ALL, &servers);
    for protocol in FAMILIES {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let is_old = protocol < 393;
        let answer = |id: u8, start: u8, length: u8, words: &[&str]| {
            let mut body = if is_old {
                Vec::new()
            } else {
                vec![id, start, length]
            };
            body.push(u8::try_from(words.len()).unwrap());
            for word in words {
                body.extend(string(word));
                if !is_old {
                    body.push(0);
                }
            }
            body
        };
        client
            .send(ids.completion, &ids.asking(protocol, 7, "/server LO"))
            .await;
        let expected = answer(7, 8, 2, &["lobby", "lounge"]);
        assert_eq!(client.expect(ids.suggestions).await, expected, "{protocol}");
        client
            .send(ids.completion, &ids.asking(protocol, 8, "/send Notch "))
            .await;
        let expected = answer(8, 12, 0, &["arena", "lobby", "lounge"]);
        assert_eq!(client.expect(ids.suggestions).await, expected, "{protocol}");
        client
            .send(ids.completion, &ids.asking(protocol, 9, "/send no"))
            .await;
        let expected = answer(9, 6, 2, &["Notch"]);
        assert_eq!(client.expect(ids.suggestions).await, expected, "{protocol}");

        // The backend's own: its answer passes, and before 1.13 gets our names.
        for (line, from_backend, expected) in [
            ("/warp lo", &["lobbywarp"][..], &["lobbywarp"][..]),
            ("hello no", &["nobody"], &["nobody"]),
            (
                "/se",
                &["/seed", "/setblock"],
                &["/seed", "/send", "/server", "/setblock"],
            ),
        ] {
            let asked = ids.asking(protocol, 3, line);
            client.send(ids.completion, &asked).await;
            assert_eq!(peer.expect(ids.completion).await, asked, "{protocol}");
            peer.send(ids.suggestions, &answer(3, 0, 0, from_backend))
                .await;
            let expected = if is_old { expected } else { from_backend };
            let expected = answer(3, 0, 0, expected);
            assert_eq!(
                client.expect(ids.suggestions).await,
                expected,
                "{protocol}: {line}"
            );
        }
        drop((client, peer));
        proxy.idle().await;
    }
}

/// Of a flood of completion requests some are answered, and the session continues.
#[tokio::test]
async fn floods_of_completions_are_bounded() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, NO_COMPRESSION);
    let ids = CommandIds::of(767);
    let (mut client, mut peer) = play(&proxy, &backend, 767).await;
    let mut flood = Vec::new();
    for _ in 0..5000 {
        flood.extend(client.framed(ids.completion, &ids.asking(767, 1, "/glist ")));
    }
    client.send_raw(&flood).await;
    client.send(ids.command, &ids.fields(767, "glist", 0)).await;
    let answers = read_until(&mut client, &ids, "1 player on a.").await;
    assert!((1..500).contains(&answers.len()), "{}", answers.len());
    client.send(ids.command, &ids.fields(767, "spawn", 0)).await;
    assert_eq!(peer.expect(ids.command).await, string("spawn"));
}

/// Of a flood of commands some run, none reaches the backend, and the session continues.
#[tokio::test]
async fn floods_of_commands_are_bounded() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, NO_COMPRESSION);
    let ids = CommandIds::of(767);
    let (mut client, mut peer) = play(&proxy, &backend, 767).await;
    let began = Instant::now();
    let mut answers = 0;
    // In pieces whose answers fit in what may wait for the client.
    for _ in 0..50 {
        for _ in 0..20 {
            client.send(ids.command, &ids.fields(767, "glist", 0)).await;
        }
        client.send(ids.command, &ids.fields(767, "spawn", 0)).await;
        assert_eq!(peer.expect(ids.command).await, string("spawn"));
        peer.send(ids.tree, TREE).await;
        loop {
            let (id, _) = client.next().await.expect("the session goes on");
            if id == ids.tree {
                break;
            }
            answers += 1;
        }
    }
    let run = answers / 2;
    let allowed = 80 + 20 * (began.elapsed().as_secs() + 1);
    assert!(run > 0 && run <= allowed, "{run} of {allowed}");
}

/// Whether the player of a session may use a command. If so, the backend does not get it;
/// otherwise the backend gets it, and no tree names it.
async fn may_use(client: &mut Speaker, peer: &mut Speaker, name: &str) -> bool {
    let ids = CommandIds::of(767);
    client.send(ids.command, &ids.fields(767, name, 0)).await;
    client.send(ids.command, &ids.fields(767, "end", 0)).await;
    let passed = peer.expect(ids.command).await == string(name);
    if passed {
        assert_eq!(peer.expect(ids.command).await, string("end"));
    }
    peer.send(ids.tree, TREE).await;
    let tree = loop {
        let (id, body) = client.next().await.unwrap();
        if id == ids.tree {
            break body;
        }
    };
    let is_named = added(767, &tree).iter().any(|added| added == name);
    assert_eq!(is_named, !passed);
    !passed
}

/// By default no player may use a command. The configuration can allow single commands to
/// all players, and all commands to admins, by name or id. In `offline` no player is an
/// admin, unless the operator trusts names.
#[tokio::test]
async fn rights_are_as_configured() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let by_name = "admins = [\"nOTCH\"]".to_owned();
    let by_id = format!("admins = [\"{NOTCH}\"]");
    let by_offline_id = format!("trust_offline_admins = true\nadmins = [\"{NOTCH_OFFLINE}\"]");
    let trusting = format!("{by_name}\ntrust_offline_admins = true");
    for (mode, permissions, expected) in [
        ("client_only", String::new(), [false, false]),
        (
            "client_only",
            "player_commands = [\"glist\"]".to_owned(),
            [true, false],
        ),
        ("client_only", by_name.clone(), [true, true]),
        ("client_only", by_id.clone(), [true, true]),
        (
            "client_only",
            "admins = [\"Jeb\"]".to_owned(),
            [false, false],
        ),
        ("offline", by_name, [false, false]),
        ("offline", by_id, [false, false]),
        ("offline", trusting, [true, true]),
        ("offline", by_offline_id, [true, true]),
    ] {
        let global = format!("{}\n[permissions]\n{permissions}\n", sessions.global());
        let file = server(mode, "play.example.com", backend.address, NO_COMPRESSION);
        let proxy = TestProxy::start(&global, &[("a", file)]);
        let mut client = game::begin(proxy.address(), 767, "Notch").await;
        if mode == "client_only" {
            encrypt(&mut client, 767).await;
        }
        let (mut peer, ..) = game::accept(&backend).await;
        welcome(&mut client, &mut peer, 767).await;
        enter(&mut client, &mut peer, 767).await;
        for (name, expected) in ["glist", "find"].into_iter().zip(expected) {
            let may = may_use(&mut client, &mut peer, name).await;
            assert_eq!(may, expected, "{mode} {permissions} {name}");
        }
    }
}

/// The acknowledgement of messages reaches the backend, also if the command with it does
/// not. A command with a signed argument goes to the backend.
#[tokio::test]
async fn acknowledgements_reach_the_backend() {
    let backend = FakeBackend::start().await;
    let proxy = TestProxy::with_one_server(FOR_ALL, "offline", &backend, NO_COMPRESSION);
    let signed = |line: &str, seen: u8, tail: &[u8]| {
        let argument = [string("message"), vec![7; 256]].concat();
        [
            string(line),
            vec![0; 16],
            vec![1],
            argument,
            vec![seen, 0, 0, 0],
            tail.to_vec(),
        ]
        .concat()
    };
    let unsigned = |line: &str, seen: u8, tail: &[u8]| {
        [
            string(line),
            vec![0; 17],
            vec![seen, 0, 0, 0],
            tail.to_vec(),
        ]
        .concat()
    };
    for protocol in [763, 764, 767, 770, 776] {
        let ids = CommandIds::of(protocol);
        let (mut client, mut peer) = play(&proxy, &backend, protocol).await;
        let tail: &[u8] = if protocol >= 770 { &[0] } else { &[] };
        let id = if protocol >= 766 {
            ids.signed_command
        } else {
            ids.command
        };
        let passes = unsigned("msg", 2, tail);
        for body in [
            unsigned("glist", 5, tail),
            passes.clone(),
            unsigned("glist", 0, tail),
            unsigned("glist", 20, tail),
            signed("glist x", 3, tail),
        ] {
            client.send(id, &body).await;
        }
        assert_eq!(peer.expect(ids.acknowledgement).await, [5], "{protocol}");
        assert_eq!(peer.expect(id).await, passes, "{protocol}");
        assert_eq!(peer.expect(ids.acknowledgement).await, [20], "{protocol}");
        assert_eq!(
            peer.expect(id).await,
            signed("glist x", 3, tail),
            "{protocol}"
        );
        for _ in 0..3 {
            read_until(&mut client, &ids, "1 player on a.").await;
        }
        drop((client, peer));
        proxy.idle().await;
    }
}

/// Moves the client from its backend to this one, in 1.21.
pub(super) async fn move_to(
    client: &mut Speaker,
    first: &mut Speaker,
    backend: &FakeBackend,
) -> Speaker {
    let mut second = leave_for(client, first, backend).await;
    enter(client, &mut second, 767).await;
    second
}

/// The same up to the configuration of the other backend.
pub(super) async fn leave_for(
    client: &mut Speaker,
    first: &mut Speaker,
    backend: &FakeBackend,
) -> Speaker {
    const START_CONFIGURATION: i32 = 0x69;
    const CONFIGURATION_ACKNOWLEDGED: i32 = 0x0C;
    let (mut second, ..) = game::accept(backend).await;
    admit(&mut second, 767).await;
    client.expect(START_CONFIGURATION).await;
    first.expect_end().await;
    client.send(CONFIGURATION_ACKNOWLEDGED, &[]).await;
    second.expect(3).await;
    second
}

/// `/server` and `/send` move players to another server of their network, or show why that
/// is not possible.
#[tokio::test]
async fn players_are_moved_to_servers() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let more = format!("network = \"main\"\n{NO_COMPRESSION}");
    let file = |host, backend: &FakeBackend| server("offline", host, backend.address, &more);
    let servers = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let proxy = TestProxy::start(FOR_ALL, &servers);
    let ids = CommandIds::of(767);
    let (mut client, mut first) = play(&proxy, &a, 767).await;
    for (line, answer) in [
        ("server nowhere", "There is no server nowhere."),
        ("server a", "You are on a already."),
        ("send Notch nowhere", "There is no server nowhere."),
        ("send Nobody b", "There is no player Nobody."),
        ("send all a", "Sending 0 players to a."),
    ] {
        client.send(ids.command, &ids.fields(767, line, 0)).await;
        read_until(&mut client, &ids, answer).await;
    }
    read_until(&mut client, &ids, "0 players went to a.").await;
    client
        .send(ids.command, &ids.fields(767, "server b", 0))
        .await;
    let mut second = move_to(&mut client, &mut first, &b).await;
    client
        .send(ids.command, &ids.fields(767, "send current a", 0))
        .await;
    read_until(&mut client, &ids, "Sending 1 player to a.").await;
    let _third = move_to(&mut client, &mut second, &a).await;
    read_until(&mut client, &ids, "1 player went to a.").await;
}
