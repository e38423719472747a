//! Switches between servers under rare conditions, and at their limits.

use std::time::Duration;

use infrarust_test_support::game::{self, Ids, Speaker};
use tokio::time::timeout;

use super::admit;
use super::channel::{answer, play, utf};
use super::fallback::{More, accept_on_b, contains, join_game};
use super::faults::sockets_left;
use super::switching::{both_ways, connect, cross, let_in, network, play_as};
use crate::support::{FakeBackend, wire, within};

/// The other server sends a request in one segment with its join game. It gets the answer.
#[tokio::test]
async fn a_question_in_the_segment_of_the_join_game() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [340, 765] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let mut second = accept_on_b(&b, protocol).await;
        if protocol >= 764 {
            client.expect(more.start_configuration).await;
            client.send(more.configuration_acknowledged, &[]).await;
            second.expect(3).await;
            second.expect(0).await;
            game::configure([&mut client, &mut second], protocol).await;
        }
        let mut segment = second.framed(ids.join, &join_game(protocol, 2));
        let data = utf(&["GetServer"]);
        let channel = if protocol < 393 {
            "BungeeCord"
        } else {
            "bungeecord:main"
        };
        let question = [wire::string(channel), data].concat();
        segment.extend(second.framed(ids.plugin, &question));
        second.send_raw(&segment).await;
        if protocol < 764 {
            second.expect(more.settings).await;
        }
        let answered = answer(&mut second, protocol).await;
        assert_eq!(answered, utf(&["GetServer", "b"]), "{protocol}");
        drop((client, second));
        proxy.idle().await;
    }
}

/// Many requests for the same switch cause one switch.
#[tokio::test]
async fn a_flood_of_requests() {
    let [a, b, c] = FakeBackend::several().await;
    let proxy = network("", &[("a", &a, ""), ("b", &b, ""), ("c", &c, "")]);
    let protocol = 767;
    let (mut client, mut first) = play(&proxy, &a, protocol).await;
    for round in 0..500 {
        let target = if round % 2 == 0 { "b" } else { "c" };
        connect(&mut first, protocol, target).await;
    }
    let mut second = let_in(&b, protocol, 2).await;
    cross(&mut client, &mut first, &mut second, protocol, 2).await;
    both_ways(&mut client, &mut second, protocol).await;
    for backend in [&b, &c] {
        let more = timeout(Duration::ZERO, backend.listener.accept()).await;
        assert!(more.is_err());
    }
    drop((client, second));
    proxy.idle().await;
}

/// The other server is lost during the switch: a third one is tried before the old server,
/// which still works.
#[tokio::test]
async fn the_server_that_was_left_is_tried_last() {
    let [a, b, c] = FakeBackend::several().await;
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one), ("c", &c, one)]);
    for protocol in [764, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        for takes in [true, false] {
            let (mut client, mut first) = play(&proxy, &a, protocol).await;
            connect(&mut first, protocol, "b").await;
            let second = accept_on_b(&b, protocol).await;
            client.expect(more.start_configuration).await;
            client.send(more.configuration_acknowledged, &[]).await;
            drop(second);
            let (mut there, target) = match takes {
                true => (accept_on_b(&c, protocol).await, "c"),
                false => {
                    let (mut third, ..) = game::accept(&c).await;
                    third.send(0, &wire::string(r#"{"text":"no"}"#)).await;
                    (accept_on_b(&a, protocol).await, "a")
                }
            };
            there.expect(3).await;
            there.expect(0).await;
            game::configure([&mut client, &mut there], protocol).await;
            there.send(ids.join, &join_game(protocol, 3)).await;
            client.expect(ids.join).await;
            let notice = client.expect(more.chat).await;
            assert!(contains(&notice, &format!("You are on {target} now")));
            both_ways(&mut client, &mut there, protocol).await;
            drop((client, first, there));
            proxy.idle().await;
        }
    }
}

/// After a thousand refused switches no socket and no slot is left.
#[tokio::test]
async fn a_thousand_refusals() {
    // A server may ask 50 times in a second over one connection.
    const PLAYERS: usize = 50;
    const TIMES: usize = 20;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let places = format!("max_players = {PLAYERS}\n");
    let proxy = network("", &[("a", &a, &places), ("b", &b, &places)]);
    let protocol = 767;
    let mut sessions = Vec::new();
    for number in 0..PLAYERS {
        let name = format!("player{number}");
        sessions.push(play_as(&proxy, &a, protocol, &name).await);
    }
    let refuses = async {
        loop {
            let (stream, _) = b.listener.accept().await.unwrap();
            let mut server = Speaker::new(stream);
            server.next().await;
            server.next().await;
            server.send(0, &wire::string(r#"{"text":"banned"}"#)).await;
        }
    };
    let asks = async {
        for _ in 0..TIMES {
            for (_, server) in &mut sessions {
                connect(server, protocol, "b").await;
            }
            for (client, _) in &mut sessions {
                let text = client.expect(More::of(protocol).chat).await;
                assert!(contains(&text, "banned"), "{text:?}");
            }
        }
    };
    tokio::select! {
        () = asks => {}
        () = refuses => unreachable!("it refuses all"),
    }
    within("the sockets to close", async {
        while !sockets_left(&proxy, &b)
            .iter()
            .all(|line| is_of_a_client(line, &proxy))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // All of them fit on b at once.
    for (_, server) in &mut sessions {
        connect(server, protocol, "b").await;
    }
    for _ in 0..PLAYERS {
        let (mut server, ..) = game::accept(&b).await;
        server.send(0, &wire::string(r#"{"text":"banned"}"#)).await;
    }
    for (client, _) in &mut sessions {
        client.expect(More::of(protocol).chat).await;
    }
    drop(sessions);
    proxy.idle().await;
}

/// Whether a line of the table of sockets belongs to the connection of a client.
fn is_of_a_client(line: &str, proxy: &crate::support::TestProxy) -> bool {
    let local = line.split_whitespace().nth(1).unwrap_or_default();
    local.ends_with(&format!(":{:04X}", proxy.address().port()))
}

/// The old server sends without a pause to a client that does not read. The client gets all
/// accepted frames completely, and then comes to the other server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_floods_during_a_switch() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    for protocol in [340, 764, 776] {
        let (ids, more) = (Ids::of(protocol), More::of(protocol));
        let (mut client, mut first) = play(&proxy, &a, protocol).await;
        connect(&mut first, protocol, "b").await;
        let (mut second, ..) = game::accept(&b).await;
        let chunk = first.framed(0x22, &[7; 30_000]);
        let mut at = 0;
        let full = Duration::from_millis(200);
        within("a full connection", async {
            while timeout(full, first.writable()).await.is_ok() {
                first.flood(&chunk, &mut at);
            }
        })
        .await;
        admit(&mut second, protocol).await;
        if protocol < 764 {
            second.send(ids.join, &join_game(protocol, 2)).await;
        }
        let flood = tokio::spawn(async move {
            loop {
                first.flood(&chunk, &mut at);
                first.writable().await;
                tokio::task::yield_now().await;
            }
        });
        let wanted = if protocol < 764 {
            ids.join
        } else {
            more.start_configuration
        };
        loop {
            let (id, body) = client.next().await.unwrap();
            if id == wanted {
                break;
            }
            if id == 0x22 {
                assert_eq!(body, [7; 30_000], "{protocol}");
            }
        }
        if protocol < 764 {
            client.expect(more.respawn).await;
            second.expect(more.settings).await;
        } else {
            client.send(more.configuration_acknowledged, &[]).await;
            second.expect(3).await;
            second.expect(0).await;
            game::configure([&mut client, &mut second], protocol).await;
            second.send(ids.join, &join_game(protocol, 2)).await;
            client.expect(ids.join).await;
        }
        both_ways(&mut client, &mut second, protocol).await;
        flood.abort();
        drop((client, second));
        proxy.idle().await;
    }
}

/// A connection that delays bytes by half of `ROUND_TRIP` in each direction.
async fn delayed(proxy: std::net::SocketAddr) -> std::net::SocketAddr {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = tokio::net::TcpStream::connect(proxy).await.unwrap();
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        for (mut from, mut to) in [(near_read, far_write), (far_read, near_write)] {
            let (put, mut take) = tokio::sync::mpsc::unbounded_channel::<(_, Vec<u8>)>();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) =
                    tokio::io::AsyncReadExt::read(&mut from, &mut bytes).await
                {
                    let due = tokio::time::Instant::now() + ROUND_TRIP / 2;
                    let _ = put.send((due, bytes[..read].to_vec()));
                }
            });
            tokio::spawn(async move {
                while let Some((due, bytes)) = take.recv().await {
                    tokio::time::sleep_until(due).await;
                    if tokio::io::AsyncWriteExt::write_all(&mut to, &bytes)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Twenty switches at a round trip time of 100 ms, of a player who moves, chats and answers
/// keep alives all the time. Since 1.20.2 no server gets a packet from the world of another
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_moves_at_a_distance() {
    tokio::join!(
        at_a_distance(763),
        at_a_distance(764),
        at_a_distance(767),
        at_a_distance(776)
    );
}

async fn at_a_distance(protocol: i32) {
    const MOVES: u8 = 20;
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let proxy = network("", &[("a", &a, ""), ("b", &b, "")]);
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    let far = delayed(proxy.address()).await;
    let mut client = game::begin(far, protocol, "Notch").await;
    let (mut here, ..) = game::accept(&a).await;
    super::welcome(&mut client, &mut here, protocol).await;
    if protocol >= 764 {
        super::enter(&mut client, &mut here, protocol).await;
    } else {
        here.send(ids.join, &join_game(protocol, 0)).await;
        client.expect(ids.join).await;
    }
    client.send(more.settings, b"settings").await;
    // The client moves every 10 ms, and says in which world.
    let moves = tokio::spawn(async move {
        // In a configuration, and up to the join game behind it, it is in no world.
        let (mut world, mut in_configuration) = (Some(0), false);
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    if let Some(world) = world {
                        client.send(more.swing, &[world]).await;
                    }
                }
                packet = client.next() => {
                    let Some((id, body)) = packet else {
                        return;
                    };
                    if in_configuration {
                        if id == ids.finish {
                            client.send(ids.finish, &[]).await;
                            in_configuration = false;
                        }
                    } else if id == ids.join {
                        world = Some(body[3]);
                    } else if id == more.keep_alive {
                        client.send(more.keep_alive_answer, &body).await;
                    } else if protocol >= 764 && id == more.start_configuration {
                        client.send(more.configuration_acknowledged, &[]).await;
                        (world, in_configuration) = (None, true);
                    }
                }
            }
        }
    });
    for turn in 1..=MOVES {
        let (target, backend) = if turn % 2 == 1 { ("b", &b) } else { ("a", &a) };
        // A keep alive whose answer is on its way.
        here.send(more.keep_alive, &[turn; 8]).await;
        connect(&mut here, protocol, target).await;
        let mut there = accept_on_b(backend, protocol).await;
        if protocol >= 764 {
            there.expect(3).await;
            there.expect(0).await;
            there.send(ids.finish, &[]).await;
            there.expect(ids.finish).await;
        }
        there.send(ids.join, &join_game(protocol, turn)).await;
        while here.next().await.is_some() {}
        // The player is there when he moves there.
        loop {
            let (id, body) = there.next().await.expect("the end came");
            assert_ne!(id, more.keep_alive_answer, "{protocol}, {turn}");
            if id == more.swing {
                if body == [turn] {
                    break;
                }
                assert!(protocol < 764, "{protocol}, {turn}: {body:?}");
            }
        }
        there.send(more.keep_alive, &[turn; 8]).await;
        let answered = within("the answer", async {
            loop {
                let (id, body) = there.next().await.expect("the end came");
                if id == more.keep_alive_answer {
                    return body;
                }
            }
        });
        assert_eq!(answered.await, [turn; 8], "{protocol}");
        here = there;
    }
    moves.abort();
    drop(here);
    proxy.idle().await;
}
