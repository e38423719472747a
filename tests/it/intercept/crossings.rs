//! Switches at unusual moments: during an open bundle, during a configuration that the old
//! server has begun, to a server that disconnects the player, and with many channels and
//! settings of the client.

use infrarust_test_support::game::{self, Ids, Speaker};

use super::admit;
use super::channel::{expect_past_channels, play};
use super::fallback::{More, accept_on_b, contains, join_game, take_in};
use super::switching::{both_ways, connect, cross, let_in, network};
use crate::support::{FakeBackend, TestProxy, wire};

/// The delimiter of bundles.
const DELIMITER: i32 = 0x00;

/// A proxy with a network of two servers, `a` and `b`, with one place each.
fn two(a: &FakeBackend, b: &FakeBackend) -> TestProxy {
    let one = "max_players = 1\n";
    network("", &[("a", a, one), ("b", b, one)])
}

/// The client, which is in a configuration, goes through it into the game of the server.
async fn configure(client: &mut Speaker, server: &mut Speaker, protocol: i32) {
    take_in(client, server, protocol).await;
    both_ways(client, server, protocol).await;
}

/// A bundle that the old server has opened is closed once before the client leaves.
#[tokio::test]
async fn an_open_bundle() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for protocol in [763, 764, 767, 776] {
        for is_open in [true, false] {
            let (ids, more) = (Ids::of(protocol), More::of(protocol));
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            for _ in 0..if is_open { 1 } else { 2 } {
                first.send(DELIMITER, &[]).await;
                first.send(0x22, b"in it").await;
                client.expect(DELIMITER).await;
                client.expect(0x22).await;
            }
            connect(&mut first, protocol, "b").await;
            let mut second = let_in(&b, protocol, 2).await;
            if is_open {
                client.expect(DELIMITER).await;
            }
            if protocol >= 764 {
                client.expect(more.start_configuration).await;
                client.send(more.configuration_acknowledged, &[]).await;
                configure(&mut client, &mut second, protocol).await;
            } else {
                while let Some((id, _)) = client.next().await
                    && id != ids.join
                {
                    assert_ne!(id, DELIMITER);
                }
                client.expect(more.respawn).await;
                second.expect(more.settings).await;
                both_ways(&mut client, &mut second, protocol).await;
            }
            drop((client, second));
            proxy.idle().await;
        }
    }
}

/// The old server has begun a configuration: the client has not acknowledged it, is in the
/// middle, or has not acknowledged its end. The client comes to the new server, without the
/// registries of the old one.
#[tokio::test]
async fn a_configuration_of_the_old_server() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for protocol in [764, 767, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let registry = ids.registry;
        for step in 0..4 {
            println!("{protocol}, step {step}");
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let (mut second, ..) = game::accept(&b).await;
            first.send(more.start_configuration, &[]).await;
            client.expect(more.start_configuration).await;
            if step > 0 {
                client.send(more.configuration_acknowledged, &[]).await;
                first.expect(more.configuration_acknowledged).await;
            }
            if step > 1 {
                first.send(registry, b"of the old one").await;
            }
            if step > 2 {
                first.send(ids.finish, &[]).await;
                assert_eq!(client.expect(registry).await, b"of the old one");
                client.expect(ids.finish).await;
            }
            admit(&mut second, protocol).await;
            while first.next().await.is_some() {}
            match step {
                0 => client.send(more.configuration_acknowledged, &[]).await,
                3 => {
                    // It is in play again, and is sent into another configuration.
                    client.expect(more.start_configuration).await;
                    client.send(ids.finish, &[]).await;
                    client.send(more.swing, b"for the old one").await;
                    client.send(more.configuration_acknowledged, &[]).await;
                }
                _ => {}
            }
            configure(&mut client, &mut second, protocol).await;
            drop((client, first, second));
            proxy.idle().await;
        }
    }
}

/// The new server disconnects the player in its configuration, or right after its join
/// game. The player returns to the old server and reads why.
#[tokio::test]
async fn a_new_server_that_sends_the_player_away() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for protocol in [340, 763, 764, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let text = match protocol {
            ..765 => wire::string(r#"{"text":"not here"}"#),
            _ => b"\x08\0\x08not here".to_vec(),
        };
        for has_joined in [false, true] {
            if protocol < 764 && !has_joined {
                continue;
            }
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let mut second = accept_on_b(&b, protocol).await;
            if protocol >= 764 {
                client.expect(more.start_configuration).await;
                client.send(more.configuration_acknowledged, &[]).await;
                second.expect(3).await;
                second.expect(0).await;
                if has_joined {
                    game::configure([&mut client, &mut second], protocol).await;
                }
            }
            let mut segment = Vec::new();
            if has_joined {
                segment = second.framed(ids.join, &join_game(protocol, 2));
                segment.extend(second.framed(ids.disconnect, &text));
            } else {
                segment.extend(second.framed(ids.config_disconnect, &text));
            }
            second.send_raw(&segment).await;
            let mut again = accept_on_b(&a, protocol).await;
            while second.next().await.is_some() {}
            if protocol < 764 {
                again.send(ids.join, &join_game(protocol, 3)).await;
            } else {
                if has_joined {
                    client.expect(ids.join).await;
                    client.expect(more.start_configuration).await;
                    client.send(more.configuration_acknowledged, &[]).await;
                }
                again.expect(3).await;
                again.expect(0).await;
                game::configure([&mut client, &mut again], protocol).await;
                again.send(ids.join, &join_game(protocol, 3)).await;
            }
            loop {
                let (id, body) = client.next().await.expect("the end came");
                if id == more.chat {
                    assert!(contains(&body, "not here"), "{protocol}: {body:?}");
                    break;
                }
                assert_ne!(id, ids.disconnect, "{protocol}, {has_joined}");
            }
            if protocol < 764 {
                again.expect(more.settings).await;
            }
            both_ways(&mut client, &mut again, protocol).await;
            drop((client, first, again));
            proxy.idle().await;
        }
    }
}

/// Channels that the client registered at the old server only, as many as are allowed, and
/// its brand reach the new server once, before its other packets.
#[tokio::test]
async fn channels_and_brand() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, plugin, in_configuration) in [(340, 0x09, 0), (763, 0x0D, 0), (767, 0x12, 2)] {
        let more = More::of(protocol);
        let (register, brand) = match protocol {
            ..393 => ("REGISTER", "MC|Brand"),
            _ => ("minecraft:register", "minecraft:brand"),
        };
        let names: Vec<String> = (0..256)
            .map(|number| format!("{number:0>119}:channel"))
            .collect();
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        let fabric = [wire::string(brand), wire::string("fabric")].concat();
        client.send(plugin, &fabric).await;
        for part in names.chunks(200) {
            let body = [wire::string(register), part.join("\0").into_bytes()].concat();
            client.send(plugin, &body).await;
        }
        client.send(more.swing, b"behind").await;
        expect_past_channels(&mut first, protocol, more.swing).await;
        connect(&mut first, protocol, "b").await;
        let mut second = let_in(&b, protocol, 2).await;
        while first.next().await.is_some() {}
        let message = match in_configuration {
            0 => plugin,
            id => {
                client.expect(more.start_configuration).await;
                client.send(more.configuration_acknowledged, &[]).await;
                second.expect(3).await;
                id
            }
        };
        assert_eq!(second.expect(message).await, fabric, "{protocol}");
        let settings = if in_configuration == 0 {
            more.settings
        } else {
            0
        };
        assert_eq!(second.expect(settings).await, b"settings of the client");
        let (mut registered, head) = (Vec::new(), wire::string(register));
        while registered.len() < names.len() {
            let body = second.expect(message).await;
            let list = body.strip_prefix(&head[..]).unwrap().to_vec();
            let list = String::from_utf8(list).unwrap();
            registered.extend(list.split('\0').map(str::to_owned));
        }
        assert_eq!(registered, names, "{protocol}");
        drop(client);
        while second.next().await.is_some() {}
        drop(second);
        proxy.idle().await;
    }
}

/// A title that a server has shown, or its times, are cleared in the next one. A server that
/// has shown none, or has cleared its own, leaves nothing to clear.
#[tokio::test]
async fn titles_are_cleared() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = two(&a, &b);
    for (protocol, title, clear) in [
        (764, 0x61, 0x0F),
        (765, 0x63, 0x0F),
        (767, 0x65, 0x0F),
        (770, 0x6B, 0x0E),
        (776, 0x72, 0x0E),
    ] {
        let (mut client, mut here) = play(&proxy, &a, protocol).await;
        for (turn, (shows, clears)) in [
            (None, None),
            (Some(title), None),
            (Some(title + 1), None),
            (Some(title), Some(0)),
            (Some(title), Some(1)),
        ]
        .into_iter()
        .enumerate()
        {
            if let Some(title) = shows {
                here.send(title, b"a title").await;
                client.expect(title).await;
            }
            if let Some(with_times) = clears {
                here.send(clear, &[with_times]).await;
                client.expect(clear).await;
            }
            let (target, backend) = match turn % 2 {
                0 => ("b", &b),
                _ => ("a", &a),
            };
            connect(&mut here, protocol, target).await;
            let mut there = let_in(backend, protocol, 2).await;
            cross(&mut client, &mut here, &mut there, protocol, 2).await;
            if shows.is_some() && clears != Some(1) {
                assert_eq!(client.expect(clear).await, [1], "{protocol}, {turn}");
            }
            both_ways(&mut client, &mut there, protocol).await;
            here = there;
        }
        drop((client, here));
        proxy.idle().await;
    }
}
