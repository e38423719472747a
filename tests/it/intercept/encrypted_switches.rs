//! Switches of a player in `client_only`: encryption and compression towards the client
//! continue unchanged, with any format of the servers.

use infrarust_test_support::game::{self, Ids, Sessions, Speaker};

use super::channel::{GLOBAL, USES, expect_past_channels};
use super::fallback::{More, join_game};
use super::switching::connect;
use super::{NOTCH, uuid};
use crate::support::{FakeBackend, TestProxy, server, wire};

/// The compression threshold towards the client.
const TO_CLIENT: i32 = 64;
/// From this version on, clients accept compressed packets below their threshold.
const V1_18: i32 = 757;
/// The thresholds of the two servers, which differ from the client's.
const OF_SERVERS: [i32; 2] = [300, 32];

/// A proxy with a network of two servers in this mode.
fn network(sessions: &Sessions, mode: &str, [a, b]: [&FakeBackend; 2]) -> TestProxy {
    let uses = USES.replace("threshold = -1", &format!("threshold = {TO_CLIENT}"));
    let file = |host, backend: &FakeBackend| {
        let more = format!("{uses}forwarding_mode = \"bungeecord\"\n");
        server(mode, host, backend.address, &more)
    };
    let files = [
        ("a", file("play.example.com", a)),
        ("b", file("b.example.com", b)),
    ];
    TestProxy::start(&format!("{GLOBAL}{}", sessions.global()), &files)
}

/// The server sets its threshold and accepts the player.
async fn let_in(backend: &FakeBackend, protocol: i32, threshold: i32) -> Speaker {
    let (mut server, ..) = game::accept(backend).await;
    server.send(3, &wire::varint(threshold)).await;
    server.compress(threshold);
    let success = game::login_success(protocol, uuid(NOTCH), "Notch");
    server.send(2, &success).await;
    server
}

/// A client whose login server `a` has accepted, with compression, and with encryption if
/// the player is authenticated.
async fn log_in(
    proxy: &TestProxy,
    a: &FakeBackend,
    protocol: i32,
    is_authenticated: bool,
) -> (Speaker, Speaker) {
    let mut client = game::begin(proxy.address(), protocol, "Notch").await;
    if is_authenticated {
        game::encrypt(&mut client, protocol).await;
    }
    if protocol >= V1_18 {
        client.be_lenient();
    }
    let server = let_in(a, protocol, OF_SERVERS[0]).await;
    client.expect(3).await;
    client.compress(TO_CLIENT);
    client.expect(2).await;
    (client, server)
}

/// Fields of a chunk that compress badly and differ with each call.
fn chunk(number: usize) -> Vec<u8> {
    let mut state = u64::try_from(number).unwrap() + 1;
    let byte = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(60_000).collect()
}

/// An encrypted client with compression moves back and forth under load, between servers
/// with other thresholds. It decodes every byte, also those that were in flight when it
/// left the old server, and each server decodes the client's bytes.
#[tokio::test]
async fn ciphers_and_formats_continue() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let sessions = Sessions::confirming("Notch").await;
    let proxy = network(&sessions, "client_only", [&a, &b]);
    for protocol in [47, 763, 767, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let (mut client, mut here) = log_in(&proxy, &a, protocol, true).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            here.expect(3).await;
            super::enter(&mut client, &mut here, protocol).await;
        } else {
            here.send(ids.join, &join_game(protocol, 1)).await;
            client.expect(ids.join).await;
        }
        client.send(more.settings, b"settings").await;
        expect_past_channels(&mut here, protocol, more.settings).await;
        for turn in 0..4 {
            let (target, backend) = [("b", &b), ("a", &a)][turn % 2];
            let threshold = OF_SERVERS[(turn + 1) % 2];
            let chunks: Vec<_> = (0..8).map(|number| chunk(turn * 8 + number)).collect();
            let sends = async {
                for chunk in &chunks {
                    here.send(0x22, chunk).await;
                }
                connect(&mut here, protocol, target).await;
                let mut there = let_in(backend, protocol, threshold).await;
                if protocol < 764 {
                    let entity = u8::try_from(turn).unwrap();
                    there.send(ids.join, &join_game(protocol, entity)).await;
                }
                there
            };
            let reads = async {
                for chunk in &chunks {
                    assert!(client.expect(0x22).await == *chunk, "{protocol}");
                }
            };
            let (mut there, ()) = tokio::join!(sends, reads);
            while here.next().await.is_some() {}
            if protocol >= 764 {
                client.expect(more.start_configuration).await;
                // What was on the way is decrypted, and reaches nobody.
                client.send(more.swing, &chunk(turn)[..1000]).await;
                client.send(more.configuration_acknowledged, &[]).await;
                there.expect(3).await;
                assert_eq!(there.expect(0).await, b"settings");
                super::enter(&mut client, &mut there, protocol).await;
            } else {
                while client.next().await.expect("the end came").0 != ids.join {}
                client.expect(more.respawn).await;
                there.expect(more.settings).await;
            }
            for size in [0, 31, 63, 64, 299, 300, 30_000] {
                let bytes = &chunk(1000 + turn)[..size];
                client.send(more.swing, bytes).await;
                let swung = expect_past_channels(&mut there, protocol, more.swing).await;
                assert!(swung == bytes, "{protocol}, {size}");
                there.send(0x22, bytes).await;
                assert!(client.expect(0x22).await == bytes, "{protocol}, {size}");
            }
            here = there;
        }
        drop((client, here));
        proxy.idle().await;
    }
}

/// Since 26.2 the join game says whether the server is in online mode; if it is not,
/// clients hide all skins. Servers behind a proxy are not in online mode, but an
/// authenticated client reads that they are, at the first server and after each switch. In
/// `offline`, and before 26.2, the client reads the server's own value.
#[tokio::test]
async fn servers_are_online_for_authenticated_players() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let sessions = Sessions::confirming("Notch").await;
    for (mode, is_authenticated) in [("client_only", true), ("offline", false)] {
        let proxy = network(&sessions, mode, [&a, &b]);
        for (protocol, start_configuration) in [(775, 0x76), (776, 0x76), (777, 0x78)] {
            let is_online = is_authenticated && protocol >= 776;
            let (mut client, mut here) = log_in(&proxy, &a, protocol, is_authenticated).await;
            client.send(3, &[]).await;
            here.expect(3).await;
            join(&mut client, &mut here, protocol, is_online).await;
            for turn in 0..2 {
                let (target, backend) = [("b", &b), ("a", &a)][turn];
                connect(&mut here, protocol, target).await;
                let mut there = let_in(backend, protocol, OF_SERVERS[1 - turn]).await;
                while here.next().await.is_some() {}
                client.expect(start_configuration).await;
                client.send(0x10, &[]).await;
                there.expect(3).await;
                join(&mut client, &mut there, protocol, is_online).await;
                here = there;
            }
            drop((client, here));
            proxy.idle().await;
        }
    }
}

/// Goes through a configuration into the game of a server in offline mode.
async fn join(client: &mut Speaker, server: &mut Speaker, protocol: i32, is_online: bool) {
    let join = Ids::of(protocol).join;
    game::configure([client, server], protocol).await;
    let fields = |flag| [[5; 40].as_slice(), &[flag, 0]].concat();
    server.send(join, &fields(0)).await;
    let received = client.expect(join).await;
    assert_eq!(received, fields(u8::from(is_online)), "{protocol}");
}

/// The second server has another secret of Velocity, and so refuses the signed identity: the
/// player reads that and stays, and a login that begins there reads it as well. The client
/// gets no packet of the game of that server, and its slots are free.
#[tokio::test]
async fn a_server_with_another_secret() {
    let sessions = Sessions::confirming("Notch").await;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let file = |host, backend: &FakeBackend| {
        let more = format!(
            "{USES}max_players = 1\nforwarding_mode = \"velocity\"\nforwarding_secret = \"first\"\n"
        );
        server("client_only", host, backend.address, &more)
    };
    let files = [
        ("a", file("play.example.com", &a)),
        ("b", file("b.example.com", &b)),
    ];
    let kick = "[networks.main]\non_backend_loss = \"kick\"\n";
    let proxy = TestProxy::start(&format!("{GLOBAL}{kick}{}", sessions.global()), &files);
    let request = [&[1][..], &wire::string("velocity:player_info"), &[4]].concat();
    // The signatures differ: what the game's servers answer then.
    let text = "Unable to verify player details";
    let refusal = wire::string(&format!("{{\"text\":\"{text}\"}}"));
    for protocol in [754, 767, 770] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let mut client = game::begin_at(proxy.address(), protocol, "b.example.com", "Notch").await;
        game::encrypt(&mut client, protocol).await;
        let (mut of_b, ..) = game::accept(&b).await;
        of_b.send(4, &request).await;
        assert!(of_b.expect(2).await.len() > 32, "{protocol}");
        of_b.send(0, &refusal).await;
        assert_eq!(game::refusal(&mut client).await, text, "{protocol}");
        of_b.expect_end().await;
        proxy.idle().await;

        let mut client = game::begin(proxy.address(), protocol, "Notch").await;
        game::encrypt(&mut client, protocol).await;
        let (mut of_a, ..) = game::accept(&a).await;
        of_a.send(4, &request).await;
        of_a.expect(2).await;
        of_a.send(2, &game::login_success(protocol, uuid(NOTCH), "Notch"))
            .await;
        client.expect(2).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            of_a.expect(3).await;
            game::configure([&mut client, &mut of_a], protocol).await;
        }
        of_a.send(ids.join, &join_game(protocol, 1)).await;
        client.expect(ids.join).await;
        for _ in 0..2 {
            connect(&mut of_a, protocol, "b").await;
            let (mut of_b, ..) = game::accept(&b).await;
            of_b.send(4, &request).await;
            assert!(of_b.expect(2).await.len() > 32, "{protocol}");
            of_b.send(0, &refusal).await;
            of_b.expect_end().await;
            let message = client.expect(more.chat).await;
            assert!(super::fallback::contains(&message, text), "{protocol}");
            super::switching::both_ways(&mut client, &mut of_a, protocol).await;
        }
        drop((client, of_a));
        proxy.idle().await;
    }
}
