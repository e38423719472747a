//! Packets with unusual contents pass unchanged.

use infrarust_test_support::game::{Ids, Speaker};

use super::modes::{MODES, Modes};
use super::{NO_COMPRESSION, enter, text};
use crate::support::wire::{string, varint};

/// The id of a packet, in the list of versions from which on it changes.
fn id(protocol: i32, runs: &[(i32, i32)]) -> i32 {
    let run = runs.iter().rev().find(|(from, _)| *from <= protocol);
    run.unwrap().1
}

async fn down(client: &mut Speaker, server: &mut Speaker, id: i32, body: &[u8]) {
    server.send(id, body).await;
    assert!(client.expect(id).await == body, "{id:#x}");
}

async fn up(client: &mut Speaker, server: &mut Speaker, id: i32, body: &[u8]) {
    client.send(id, body).await;
    assert!(server.expect(id).await == body, "{id:#x}");
}

/// Clicks in dialogs (1.21.6) and the answer to a code of conduct (1.21.9) pass in the
/// configuration of versions that have them. In other versions they end the session.
#[tokio::test]
async fn newer_answers_in_the_configuration() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let click = [string("a:b"), vec![4, 0x0A, 1, 0, 0]].concat();
    for mode in 0..MODES.len() {
        for (protocol, last) in [
            (766, 7),
            (767, 7),
            (770, 7),
            (771, 8),
            (772, 8),
            (773, 9),
            (776, 9),
            (777, 9),
        ] {
            let (mut client, mut server) = modes.configured(mode, protocol).await;
            for (id, body) in [(8, &click[..]), (9, &[])] {
                if id <= last {
                    up(&mut client, &mut server, id, body).await;
                }
            }
            client.send(last + 1, &[]).await;
            let body = client.expect(2).await;
            assert!(text(protocol, &body).contains("does not understand"));
            client.expect_end().await;
            server.expect_end().await;
        }
        modes.idle().await;
    }
}

/// A text with characters that NBT encodes differently passes unchanged in a title, a
/// command and a kick.
#[tokio::test]
async fn crabs_pass() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    // TAG_String, with the crab as two surrogates, and a NUL.
    let nbt = b"\x08\0\x0A\xED\xA0\xBE\xED\xB6\x80\xC0\x80x\x01";
    let json = string("{\"text\":\"\u{1F980}\"}");
    let command = string("say \u{1F980}");
    for mode in 0..MODES.len() {
        for protocol in [47, 340, 757, 764, 765, 767, 776] {
            let (mut client, mut server) = modes.playing(mode, protocol).await;
            let title = id(
                protocol,
                &[
                    (47, 0x45),
                    (335, 0x48),
                    (757, 0x5A),
                    (764, 0x61),
                    (765, 0x63),
                ],
            );
            let title = id(protocol, &[(4, title), (766, 0x65), (775, 0x72)]);
            let component = if protocol >= 765 { &nbt[..] } else { &json };
            down(&mut client, &mut server, title, component).await;
            let chat = id(
                protocol,
                &[
                    (47, 0x01),
                    (340, 0x02),
                    (757, 0x03),
                    (764, 0x04),
                    (775, 0x07),
                ],
            );
            let line = match protocol {
                ..=758 => string("/say \u{1F980}"),
                764..=765 => [command.clone(), vec![0; 21]].concat(),
                _ => command.clone(),
            };
            up(&mut client, &mut server, chat, &line).await;
            server.send(Ids::of(protocol).disconnect, component).await;
            drop(server);
            let kick = client.expect(Ids::of(protocol).disconnect).await;
            assert_eq!(kick, component, "{protocol}");
            client.expect_end().await;
        }
        modes.idle().await;
    }
}

/// Brands, channel registrations and long plugin messages pass in both directions, in the
/// configuration and in the game. Only the brand for the client changes.
#[tokio::test]
async fn plugin_messages_pass() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let brand = |name: &str| [string("minecraft:brand"), string(name)].concat();
    let channels = b"minecraft:register";
    let register = [varint(18), channels.to_vec(), b"a:b\0c:d".to_vec()].concat();
    let long = [string("a:b"), (0..=255).cycle().take(30_000).collect()].concat();
    for mode in 0..MODES.len() {
        for protocol in [764, 767, 773, 776] {
            let (mut client, mut server) = modes.configured(mode, protocol).await;
            for in_play in [false, true] {
                let (to_client, to_server) = match (in_play, protocol) {
                    (false, 764) => (0, 1),
                    (false, _) => (1, 2),
                    (true, 764) => (0x18, 0x0F),
                    (true, 767) => (0x19, 0x12),
                    (true, 773) => (0x18, 0x15),
                    (true, _) => (0x18, 0x16),
                };
                if in_play {
                    enter(&mut client, &mut server, protocol).await;
                }
                server.send(to_client, &brand("Paper")).await;
                let received = client.expect(to_client).await;
                assert_eq!(received, brand("Paper (infrarust)"), "{protocol}");
                up(&mut client, &mut server, to_server, &brand("vanilla")).await;
                for body in [&register, &long] {
                    down(&mut client, &mut server, to_client, body).await;
                    up(&mut client, &mut server, to_server, body).await;
                }
            }
            drop((client, server));
        }
        modes.idle().await;
    }
}

/// A backend configures a moving player again and again. It reads the packets before the
/// player's acknowledgement as play packets, and no play packet after it. Every keep alive
/// is answered once, in its own state. The brand changes in each configuration, and a play
/// packet there ends the session.
#[tokio::test]
async fn a_backend_configures_ten_times() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    for mode in 0..MODES.len() {
        for (protocol, start, acknowledged, position, keep_alive) in [
            (764, 0x65, 0x0B, 0x16, (0x24, 0x14)),
            (774, 0x74, 0x0F, 0x1D, (0x2B, 0x1B)),
        ] {
            let (in_configuration, plugin, disconnect) = match protocol {
                764 => (3, 0, 1),
                _ => (4, 1, 2),
            };
            let (mut client, mut server) = modes.playing(mode, protocol).await;
            for round in 0..10_u8 {
                let number = [[round; 7].as_slice(), &[1]].concat();
                server.send(keep_alive.0, &number).await;
                server.send(start, &[]).await;
                // The keep alive of the configuration that the backend expects to begin.
                client.send(position, &[round, 1]).await;
                assert_eq!(client.expect(keep_alive.0).await, number);
                client.send(keep_alive.1, &number).await;
                client.send(position, &[round, 2]).await;
                client.expect(start).await;
                client.send(acknowledged, &[]).await;
                assert_eq!(server.expect(position).await, [round, 1]);
                assert_eq!(server.expect(keep_alive.1).await, number);
                assert_eq!(server.expect(position).await, [round, 2]);
                server.expect(acknowledged).await;
                down(&mut client, &mut server, in_configuration, &number).await;
                up(&mut client, &mut server, in_configuration, &number).await;
                let brand = |name: &str| [string("minecraft:brand"), string(name)].concat();
                server.send(plugin, &brand("Paper")).await;
                assert_eq!(client.expect(plugin).await, brand("Paper (infrarust)"));
                enter(&mut client, &mut server, protocol).await;
                up(&mut client, &mut server, position, &[round, 3]).await;
            }
            down(&mut client, &mut server, start, &[]).await;
            up(&mut client, &mut server, acknowledged, &[]).await;
            client.send(position, &[]).await;
            let body = client.expect(disconnect).await;
            assert!(text(protocol, &body).contains("does not understand"));
            server.expect_end().await;
            drop((client, server));
        }
        modes.idle().await;
    }
}

/// Signed chat, signed commands, chat sessions and acknowledgements pass unchanged, so that
/// the backend's count of acknowledgements is right.
#[tokio::test]
async fn signed_chat_passes() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    let signature: Vec<u8> = (0..=255).collect();
    let stamp = [[1; 8], [2; 8]].concat();
    let tail = |offset: u8| [varint(i32::from(offset)), vec![0xFF, 0xFF, 0x0F]].concat();
    for mode in 0..MODES.len() {
        for (protocol, chat, command, session, acknowledgement) in [
            (761, 0x05, 0x04, 0x20, 0x03),
            (765, 0x05, 0x04, 0x06, 0x03),
            (774, 0x08, 0x07, 0x09, 0x05),
        ] {
            let checksum: &[u8] = if protocol >= 770 { &[0x5A] } else { &[] };
            let (mut client, mut server) = modes.playing(mode, protocol).await;
            let key = [
                &[7; 24][..],
                &varint(256),
                &signature,
                &varint(256),
                &signature,
            ]
            .concat();
            up(&mut client, &mut server, session, &key).await;
            for round in 0..10 {
                let line = [
                    &string("hello")[..],
                    &stamp,
                    &[1],
                    &signature,
                    &tail(round),
                    checksum,
                ];
                up(&mut client, &mut server, chat, &line.concat()).await;
                let signed = [
                    &string("msg Notch hello")[..],
                    &stamp,
                    &[1],
                    &string("message"),
                    &signature,
                    &tail(3),
                    checksum,
                ];
                up(&mut client, &mut server, command, &signed.concat()).await;
                up(&mut client, &mut server, acknowledgement, &varint(20)).await;
            }
            drop((client, server));
        }
        modes.idle().await;
    }
}

/// A command tree with an unknown argument passes unchanged.
#[tokio::test]
async fn unknown_arguments_of_commands_pass() {
    let modes = Modes::start("", NO_COMPRESSION).await;
    for mode in 0..MODES.len() {
        for (protocol, commands, parser) in [
            (754, 0x10, string("mod:colour")),
            (765, 0x11, varint(200)),
            (774, 0x10, varint(200)),
        ] {
            let (mut client, mut server) = modes.playing(mode, protocol).await;
            let tree = [
                &[3, 0, 1, 1][..],
                &[1, 1, 2],
                &string("paint"),
                &[6, 0],
                &string("with"),
                &parser,
                b"properties of its own",
                &[0],
            ];
            down(&mut client, &mut server, commands, &tree.concat()).await;
            drop((client, server));
        }
        modes.idle().await;
    }
}
