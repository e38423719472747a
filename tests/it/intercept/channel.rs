//! The BungeeCord channel: requests of backends, and the exact bytes of the answers.

use infrarust_test_support::game::{self, Ids, Sessions, Speaker};

use super::fallback::{More, play_first};
use super::{NOTCH_OFFLINE, accepted, begin, enter};
use crate::support::{FakeBackend, TestProxy, server, wire};

/// Switches the channel on, with all permissions.
pub const GLOBAL: &str = "[plugin_messaging]\nbungeecord = true\n\
    [plugin_messaging.bungeecord_permissions]\nconnect_other = true\nmessage = true\n\
    message_raw = true\nkick_player = true\nkick_player_raw = true\n";
/// The lines of a server that may use the channel.
pub const USES: &str = "network = \"main\"\nbungeecord_channel = true\n\
    compression_threshold = -1\ndisconnect_message = \"lost\"\n";

/// The id of a plugin message to a backend.
fn to_backend(protocol: i32) -> i32 {
    match protocol {
        5 | 47 => 0x17,
        340 => 0x09,
        578 | 735 | 754 => 0x0B,
        761 => 0x0C,
        763 => 0x0D,
        764 => 0x0F,
        765 => 0x10,
        767 => 0x12,
        770 => 0x14,
        776 => 0x16,
        other => panic!("no ids for {other}"),
    }
}

/// Texts as Java's `DataOutput` writes them.
pub fn utf(texts: &[&str]) -> Vec<u8> {
    let one = |text: &&str| {
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    texts.iter().flat_map(one).collect()
}

/// The fields of a plugin message on the channel.
fn fields(protocol: i32, data: &[u8]) -> Vec<u8> {
    let channel = match protocol {
        ..393 => "BungeeCord",
        _ => "bungeecord:main",
    };
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let length = if protocol < 47 { &length[..] } else { &[] };
    [&wire::string(channel), length, data].concat()
}

/// Sends a request from the backend.
pub async fn ask(backend: &mut Speaker, protocol: i32, data: &[u8]) {
    let fields = fields(protocol, data);
    backend.send(Ids::of(protocol).plugin, &fields).await;
}

/// The next packet of the channel that the backend reads. The registration of the channel
/// is skipped.
pub async fn answer(backend: &mut Speaker, protocol: i32) -> Vec<u8> {
    loop {
        let body = backend.expect(to_backend(protocol)).await;
        let empty = fields(protocol, b"");
        let head = wire::string(&wire::string_in(&empty));
        if let Some(data) = body.strip_prefix(&head[..]) {
            let at = if protocol < 47 { 2 } else { 0 };
            return data[at..].to_vec();
        }
        let channel = wire::string_in(&body);
        assert!(["REGISTER", "minecraft:register"].contains(&&*channel));
    }
}

/// The next packet that the backend reads and that is not about channels.
pub async fn expect_past_channels(backend: &mut Speaker, protocol: i32, id: i32) -> Vec<u8> {
    loop {
        let (came, body) = backend.next().await.expect("the end came");
        if came == id {
            return body;
        }
        assert_eq!(came, to_backend(protocol), "{body:02x?}");
    }
}

/// A player in the game of the first server, in the world of entity 1.
pub async fn play(proxy: &TestProxy, backend: &FakeBackend, protocol: i32) -> (Speaker, Speaker) {
    let (mut client, mut server) = begin(proxy, backend, protocol, "Notch").await;
    play_first(&mut client, &mut server, protocol).await;
    let settings = More::of(protocol).settings;
    client.send(settings, b"settings of the client").await;
    expect_past_channels(&mut server, protocol, settings).await;
    (client, server)
}

/// Two servers of a network, and one server outside of it.
fn servers(backends: [&FakeBackend; 3], uses: [&str; 3]) -> TestProxy {
    let hosts = ["play.example.com", "b.example.com", "c.example.com"];
    let file = |at: usize| server("offline", hosts[at], backends[at].address, uses[at]);
    TestProxy::start(GLOBAL, &[("a", file(0)), ("b", file(1)), ("c", file(2))])
}

/// Every request with the bytes of its answer, in both names of the channel.
#[tokio::test]
async fn questions_and_answers() {
    let [a, b, c] = FakeBackend::several().await;
    let island = "bungeecord_channel = true";
    let proxy = servers([&a, &b, &c], [USES, USES, island]);
    for protocol in [5, 340, 767] {
        let (client, mut server) = play(&proxy, &a, protocol).await;
        let uuid32 = NOTCH_OFFLINE.replace('-', "");
        let int = |number: i32| number.to_be_bytes().to_vec();
        let port = b.address.port().to_be_bytes().to_vec();
        let cases: Vec<(&[&str], Vec<u8>)> = vec![
            (&["GetServers"], utf(&["GetServers", "a, b"])),
            (&["GetServer"], utf(&["GetServer", "a"])),
            (
                &["PlayerCount", "a"],
                [utf(&["PlayerCount", "a"]), int(1)].concat(),
            ),
            (
                &["PlayerCount", "b"],
                [utf(&["PlayerCount", "b"]), int(0)].concat(),
            ),
            (
                &["PlayerCount", "ALL"],
                [utf(&["PlayerCount", "ALL"]), int(1)].concat(),
            ),
            (&["PlayerList", "ALL"], utf(&["PlayerList", "ALL", "Notch"])),
            (&["PlayerList", "b"], utf(&["PlayerList", "b", ""])),
            (&["UUID"], utf(&["UUID", &uuid32])),
            (
                &["UUIDOther", "notch"],
                utf(&["UUIDOther", "notch", &uuid32]),
            ),
            (
                &["GetPlayerServer", "Notch"],
                utf(&["GetPlayerServer", "Notch", "a"]),
            ),
            (
                &["GetPlayerServer", "Nobody"],
                utf(&["GetPlayerServer", "Nobody", ""]),
            ),
            (
                &["ServerIP", "b"],
                [utf(&["ServerIP", "b", "127.0.0.1"]), port].concat(),
            ),
        ];
        for (question, expected) in cases {
            ask(&mut server, protocol, &utf(question)).await;
            let answered = answer(&mut server, protocol).await;
            assert_eq!(answered, expected, "{protocol} {question:?}");
        }
        for (question, head) in [
            (&["IP"][..], utf(&["IP", "127.0.0.1"])),
            (
                &["IPOther", "Notch"],
                utf(&["IPOther", "Notch", "127.0.0.1"]),
            ),
        ] {
            ask(&mut server, protocol, &utf(question)).await;
            let answered = answer(&mut server, protocol).await;
            assert_eq!(answered[..head.len()], head, "{protocol}");
            assert_eq!(answered.len(), head.len() + 4);
        }
        // The island does not exist here, nor does anybody unknown; none is answered.
        for question in [
            &["PlayerCount", "c"][..],
            &["ServerIP", "c"],
            &["UUIDOther", "Nobody"],
            &["IPOther", "Nobody"],
            &["Unknown"],
            &["Connect", "c"],
            &["Connect", "a"],
        ] {
            ask(&mut server, protocol, &utf(question)).await;
        }
        drop((client, server));
        proxy.idle().await;
    }
}

/// Each subcommand, cut off at every byte: an incomplete message has no effect and no
/// answer, and the complete one has its own.
#[tokio::test]
async fn messages_that_are_cut_off() {
    /// Half of the messages that a server may send in a second over one connection.
    const AT_ONCE: usize = 25;
    let [a, b, c] = FakeBackend::several().await;
    let proxy = servers([&a, &b, &c], [USES, USES, ""]);
    let data = [utf(&["x:y"]), vec![0, 3, 1, 2, 3]].concat();
    let with_data = |texts: &[&str]| [utf(texts), data.clone()].concat();
    // Whether it is answered when it is whole.
    let messages = [
        (utf(&["IP"]), true),
        (utf(&["GetServers"]), true),
        (utf(&["GetServer"]), true),
        (utf(&["UUID"]), true),
        (utf(&["IPOther", "Notch"]), true),
        (utf(&["PlayerCount", "ALL"]), true),
        (utf(&["PlayerList", "ALL"]), true),
        (utf(&["GetPlayerServer", "Notch"]), true),
        (utf(&["UUIDOther", "Notch"]), true),
        (utf(&["ServerIP", "b"]), true),
        (with_data(&["ForwardToPlayer", "Notch"]), true),
        (with_data(&["Forward", "b"]), false),
        (utf(&["ConnectOther", "Notch", "b"]), false),
        (utf(&["Connect", "b"]), false),
        (utf(&["Message", "Notch", "hello"]), false),
        (utf(&["MessageRaw", "Notch", r#"{"text":"hello"}"#]), false),
        (utf(&["KickPlayer", "Notch", "hello"]), false),
        (
            utf(&["KickPlayerRaw", "Notch", r#"{"text":"hello"}"#]),
            false,
        ),
    ];
    for protocol in [5, 340, 767] {
        for (whole, is_answered) in &messages {
            let cuts: Vec<usize> = (0..whole.len()).collect();
            for (at, some) in cuts.chunks(AT_ONCE).enumerate() {
                let (mut client, mut server) = play(&proxy, &a, protocol).await;
                for cut in some {
                    ask(&mut server, protocol, &whole[..*cut]).await;
                }
                // The next answer is that to this, and nothing has reached the client.
                ask(&mut server, protocol, &utf(&["GetServer"])).await;
                let answered = answer(&mut server, protocol).await;
                assert_eq!(answered, utf(&["GetServer", "a"]), "{protocol} {whole:?}");
                server.send(0x22, b"behind").await;
                let read = client.expect(0x22).await;
                assert_eq!(read, b"behind", "{protocol} {whole:?}");
                if at == 0 && *is_answered {
                    ask(&mut server, protocol, whole).await;
                    answer(&mut server, protocol).await;
                }
                drop((client, server));
                proxy.idle().await;
            }
        }
    }
    // No half of a message waits for the other server either, which nobody has dialled.
    let now = std::time::Duration::ZERO;
    assert!(
        tokio::time::timeout(now, b.listener.accept())
            .await
            .is_err()
    );
    let protocol = 767;
    let (mut alice, mut of_b) = accepted(&proxy, "b.example.com", &b, protocol, "Alice").await;
    enter(&mut alice, &mut of_b, protocol).await;
    ask(&mut of_b, protocol, &utf(&["GetServer"])).await;
    let answered = answer(&mut of_b, protocol).await;
    assert_eq!(answered, utf(&["GetServer", "b"]));
}

/// A forwarded message arrives over the connection of a player who is in the game of the
/// server, even if another player is still in a configuration there, which may take long.
#[tokio::test]
async fn forwarded_messages_use_a_player_in_the_game() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = servers([&a, &b, &c], [USES, USES, ""]);
    let protocol = 767;
    let (notch, mut of_a) = play(&proxy, &a, protocol).await;
    let mut on_b = Vec::new();
    for name in ["Alice", "Bob"] {
        on_b.push(accepted(&proxy, "b.example.com", &b, protocol, name).await);
    }
    let (bob, of_bob) = &mut on_b[1];
    enter(bob, of_bob, protocol).await;
    // The relay has begun.
    let settings = More::of(protocol).settings;
    bob.send(settings, b"settings of the client").await;
    expect_past_channels(of_bob, protocol, settings).await;
    let data = [utf(&["a:b"]), vec![0, 3, 7, 8, 9]].concat();
    ask(
        &mut of_a,
        protocol,
        &[utf(&["Forward", "b"]), data.clone()].concat(),
    )
    .await;
    assert_eq!(answer(of_bob, protocol).await, data);
    drop((notch, of_a, on_b));
    proxy.idle().await;
}

/// What is forwarded while the only player of a server is still coming waits for who comes
/// into its game. A server may name itself, and gets nothing of what goes to all.
#[tokio::test]
async fn messages_wait_for_a_player_in_the_game() {
    let [a, b, c] = [
        FakeBackend::start().await,
        FakeBackend::start().await,
        FakeBackend::start().await,
    ];
    let proxy = servers([&a, &b, &c], [USES, USES, ""]);
    let protocol = 767;
    let (notch, mut of_a) = play(&proxy, &a, protocol).await;
    let data = [utf(&["a:b"]), vec![0, 3, 7, 8, 9]].concat();
    let forward = |target| [utf(&["Forward", target]), data.clone()].concat();
    for target in ["ALL", "ONLINE", "a"] {
        ask(&mut of_a, protocol, &forward(target)).await;
    }
    assert_eq!(answer(&mut of_a, protocol).await, data);
    ask(&mut of_a, protocol, &utf(&["GetServer"])).await;
    let answered = answer(&mut of_a, protocol).await;
    assert_eq!(answered, utf(&["GetServer", "a"]));

    // Alice has got what waited, if it does not wait for who is in the game, and leaves.
    for is_in_game in [false, true] {
        let name = if is_in_game { "Bob" } else { "Alice" };
        let mut client = game::begin_at(proxy.address(), protocol, "b.example.com", name).await;
        let (mut server, ..) = game::accept(&b).await;
        let success = game::login_success(protocol, [5; 16], name);
        server.send(2, &success).await;
        client.expect(2).await;
        client.send(3, &[]).await;
        server.expect(3).await;
        if is_in_game {
            enter(&mut client, &mut server, protocol).await;
            for _ in 0..2 {
                assert_eq!(answer(&mut server, protocol).await, data);
            }
        } else {
            ask(&mut of_a, protocol, &forward("b")).await;
            ask(&mut of_a, protocol, &utf(&["GetServer"])).await;
            answer(&mut of_a, protocol).await;
        }
        drop(client);
        while server.next().await.is_some() {}
    }
    drop((notch, of_a));
    proxy.idle().await;
}

/// A server gets the id under which it knows a player. Without forwarding this is not the
/// authenticated id.
#[tokio::test]
async fn ids_are_those_of_the_server() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let sessions = Sessions::confirming("Notch").await;
    let file = |host, backend: &FakeBackend, mode| {
        let more = format!("{USES}forwarding_mode = \"{mode}\"\n");
        server("client_only", host, backend.address, &more)
    };
    let servers = [
        ("a", file("play.example.com", &a, "none")),
        ("b", file("b.example.com", &b, "bungeecord")),
    ];
    let proxy = TestProxy::start(&format!("{GLOBAL}{}", sessions.global()), &servers);
    let protocol = 767;
    for (host, backend, id) in [
        ("play.example.com", &a, NOTCH_OFFLINE),
        ("b.example.com", &b, super::NOTCH),
    ] {
        let mut client = game::begin_at(proxy.address(), protocol, host, "Notch").await;
        game::encrypt(&mut client, protocol).await;
        let (mut server, ..) = game::accept(backend).await;
        game::welcome(
            [&mut client, &mut server],
            protocol,
            (super::uuid(id), "Notch"),
            None,
        )
        .await;
        enter(&mut client, &mut server, protocol).await;
        let uuid32 = id.replace('-', "");
        for (question, expected) in [
            (&["UUID"][..], utf(&["UUID", &uuid32])),
            (
                &["UUIDOther", "Notch"],
                utf(&["UUIDOther", "Notch", &uuid32]),
            ),
        ] {
            ask(&mut server, protocol, &utf(question)).await;
            assert_eq!(answer(&mut server, protocol).await, expected, "{host}");
        }
        drop((client, server));
        proxy.idle().await;
    }
}

/// With players on both servers, texts, forwarded data, moves and kicks reach the other
/// one.
#[tokio::test]
async fn subcommands_reach_players_on_other_servers() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = servers([&a, &b, &c], [USES, USES, ""]);
    let protocol = 767;
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    let (mut notch, mut of_a) = play(&proxy, &a, protocol).await;

    // Nobody is on b yet: it gets this once somebody is.
    let data = [utf(&["a:b"]), vec![0, 3, 7, 8, 9]].concat();
    let forward = |target| [utf(&["Forward", target]), data.clone()].concat();
    ask(&mut of_a, protocol, &forward("b")).await;
    ask(&mut of_a, protocol, &forward("ONLINE")).await;
    ask(&mut of_a, protocol, &utf(&["GetServer"])).await;
    answer(&mut of_a, protocol).await;

    let (mut alice, mut of_b) = accepted(&proxy, "b.example.com", &b, protocol, "Alice").await;
    enter(&mut alice, &mut of_b, protocol).await;
    assert_eq!(answer(&mut of_b, protocol).await, data);
    for target in ["ALL", "ONLINE", "b"] {
        ask(&mut of_a, protocol, &forward(target)).await;
        assert_eq!(answer(&mut of_b, protocol).await, data, "{target}");
    }
    let to_alice = [utf(&["ForwardToPlayer", "alice"]), data.clone()].concat();
    ask(&mut of_a, protocol, &to_alice).await;
    assert_eq!(answer(&mut of_b, protocol).await, data);

    ask(&mut of_a, protocol, &utf(&["Message", "Alice", "§chello"])).await;
    let message = alice.expect(more.chat).await;
    assert!(super::fallback::contains(&message, "hello"), "{message:?}");
    let json = r#"{"text":"to all","bold":true}"#;
    ask(&mut of_a, protocol, &utf(&["MessageRaw", "ALL", json])).await;
    for client in [&mut alice, &mut notch] {
        let message = client.expect(more.chat).await;
        assert!(super::fallback::contains(&message, "to all"), "{message:?}");
    }

    // A client that writes there reaches nobody.
    alice
        .send(
            to_backend(protocol),
            &fields(protocol, &utf(&["Connect", "a"])),
        )
        .await;
    alice.send(more.swing, b"behind").await;
    assert_eq!(of_b.expect(more.swing).await, b"behind");

    ask(
        &mut of_a,
        protocol,
        &utf(&["KickPlayer", "Alice", "go away"]),
    )
    .await;
    let text = super::text(protocol, &alice.expect(ids.disconnect).await);
    assert_eq!(text, "go away");
    alice.expect_end().await;
    drop((notch, of_a, of_b));
    proxy.idle().await;
}

/// If the channel is off, for all servers or for this one, its messages pass to the client.
/// A subcommand that is not allowed has no effect.
#[tokio::test]
async fn the_channel_can_be_off_and_subcommands_forbidden() {
    let backend = FakeBackend::start().await;
    let protocol = 767;
    let off = "compression_threshold = -1";
    let on = "bungeecord_channel = true\ncompression_threshold = -1";
    for (global, more, passes) in [
        ("", on, true),
        (GLOBAL, off, true),
        ("[plugin_messaging]\nbungeecord = true", on, false),
    ] {
        let proxy = TestProxy::with_one_server(global, "offline", &backend, more);
        let (mut client, mut server) = play(&proxy, &backend, protocol).await;
        let kick = utf(&["KickPlayer", "Notch", "go away"]);
        ask(&mut server, protocol, &kick).await;
        server.send(0x22, b"behind").await;
        if passes {
            let passed = client.expect(Ids::of(protocol).plugin).await;
            assert_eq!(passed, fields(protocol, &kick));
        }
        assert_eq!(client.expect(0x22).await, b"behind");
        drop((client, server));
        proxy.idle().await;
    }
}

/// A backend that sends requests without end gets as many answers as are allowed, and the
/// session continues.
#[tokio::test]
async fn floods_are_bounded() {
    let backend = FakeBackend::start().await;
    let more = "bungeecord_channel = true\ncompression_threshold = -1";
    let proxy = TestProxy::with_one_server(GLOBAL, "offline", &backend, more);
    let protocol = 767;
    let (mut client, mut server) = play(&proxy, &backend, protocol).await;
    for _ in 0..2000 {
        ask(&mut server, protocol, &utf(&["GetServer"])).await;
    }
    server.send(0x22, b"behind").await;
    assert_eq!(client.expect(0x22).await, b"behind");
    let swing = More::of(protocol).swing;
    client.send(swing, b"the end").await;
    let mut answers = 0;
    loop {
        match server.next().await {
            Some((id, body)) if id == swing => {
                assert_eq!(body, b"the end");
                break;
            }
            Some(_) => answers += 1,
            None => panic!("the end came"),
        }
    }
    assert!((50..2000).contains(&answers), "{answers}");
}
