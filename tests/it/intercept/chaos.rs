//! A side is lost at each step of a switch. The player is on the old server or on the new
//! one, or reads why the session ends. Afterwards all slots, sockets and names are free or
//! taken as they should be.

use infrarust_test_support::game::{self, Ids, Speaker};

use super::admit;
use super::channel::play;
use super::fallback::{ALL, More, contains, join_game};
use super::faults::sockets_left;
use super::switching::{both_ways, connect, network};
use crate::support::{FakeBackend, TestProxy, within};

/// The side that is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Old,
    New,
    Client,
}

/// The step that a switch has reached.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Step {
    /// The other server has read the login.
    Dialled,
    /// It has accepted the login.
    LetIn,
    /// The client has read that it has to leave the world.
    Leaving,
    /// The client has left, and the other server has sent half of its registries.
    Configuring,
    /// The other server has ended the configuration.
    Finished,
    /// The client has ended it too.
    Answered,
    /// The client is in the world of the other server.
    Joined,
}

const STEPS: [Step; 7] = [
    Step::Dialled,
    Step::LetIn,
    Step::Leaving,
    Step::Configuring,
    Step::Finished,
    Step::Answered,
    Step::Joined,
];

/// A packet that servers send to players in their game.
const HERE: i32 = 0x22;

/// Reads up to a packet with this id; false at the end of the stream.
async fn read_to(peer: &mut Speaker, wanted: i32) -> bool {
    while let Some((id, _)) = peer.next().await {
        if id == wanted {
            return true;
        }
    }
    false
}

/// A server continues from this step, and shows the player that the game is its own.
async fn take_in(mut server: Speaker, protocol: i32, from: Step) {
    let ids = Ids::of(protocol);
    if from == Step::Dialled {
        admit(&mut server, protocol).await;
    }
    if protocol >= 764 {
        if from < Step::Configuring && !read_to(&mut server, 3).await {
            return;
        }
        if from < Step::Finished {
            server.send(ids.finish, &[]).await;
        }
        if from < Step::Answered && !read_to(&mut server, ids.finish).await {
            return;
        }
    }
    if from < Step::Joined {
        server.send(ids.join, &join_game(protocol, 7)).await;
    }
    server.send(HERE, b"here").await;
    while server.next().await.is_some() {}
}

/// A server that accepts every player.
async fn welcomes(backend: &FakeBackend, protocol: i32) {
    while let Ok((stream, _)) = backend.listener.accept().await {
        tokio::spawn(async move {
            let mut server = Speaker::new(stream);
            // The handshake and the login start.
            if server.next().await.is_some() && server.next().await.is_some() {
                take_in(server, protocol, Step::Dialled).await;
            }
        });
    }
}

/// How a switch ended for the player.
#[derive(Debug, PartialEq)]
enum Fate {
    InPlay,
    Text,
}

/// The client answers all requests until it is in the game of a server, or its session ends
/// with a text.
async fn follow(client: &mut Speaker, protocol: i32, mut in_configuration: bool) -> Fate {
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    loop {
        let (id, _) = client.next().await.expect("the end came without a text");
        if in_configuration {
            if id == ids.config_disconnect {
                return Fate::Text;
            }
            if id == ids.finish {
                client.send(ids.finish, &[]).await;
                in_configuration = false;
            }
        } else if id == ids.disconnect {
            return Fate::Text;
        } else if id == HERE {
            return Fate::InPlay;
        } else if protocol >= 764 && id == more.start_configuration {
            client.send(more.configuration_acknowledged, &[]).await;
            in_configuration = true;
        }
    }
}

/// The three sides during a switch.
struct Switching {
    client: Speaker,
    old: Speaker,
    new: Speaker,
    in_configuration: bool,
}

/// Runs a switch up to a step.
async fn switch_to(
    proxy: &TestProxy,
    [a, b]: [&FakeBackend; 2],
    protocol: i32,
    last: Step,
) -> Switching {
    let (ids, more) = (Ids::of(protocol), More::of(protocol));
    let (mut client, mut old) = play(proxy, a, protocol).await;
    connect(&mut old, protocol, "b").await;
    let (mut new, ..) = game::accept(b).await;
    let has_configuration = protocol >= 764;
    let mut in_configuration = false;
    for step in STEPS.into_iter().filter(|step| *step <= last) {
        match step {
            Step::Dialled => {}
            Step::LetIn => {
                admit(&mut new, protocol).await;
            }
            Step::Leaving if has_configuration => {
                client.expect(more.start_configuration).await;
            }
            Step::Configuring if has_configuration => {
                client.send(more.configuration_acknowledged, &[]).await;
                in_configuration = true;
                new.expect(3).await;
                let registry = Ids::of(protocol).registry;
                new.send(registry, b"half of it").await;
            }
            Step::Finished if has_configuration => {
                new.send(ids.finish, &[]).await;
                read_to(&mut client, ids.finish).await;
            }
            Step::Answered if has_configuration => {
                client.send(ids.finish, &[]).await;
                in_configuration = false;
                read_to(&mut new, ids.finish).await;
            }
            Step::Joined => {
                new.send(ids.join, &join_game(protocol, 7)).await;
                read_to(&mut client, ids.join).await;
            }
            _ => {}
        }
    }
    Switching {
        client,
        old,
        new,
        in_configuration,
    }
}

/// Ends a side, in order or by a reset.
fn lose(side: Speaker, is_reset: bool) {
    match is_reset {
        true => side.reset(),
        false => drop(side),
    }
}

/// Each side is closed and reset at each step, in the three families of versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_is_lost_at_each_step() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one)]);
    for protocol in [340, 763, 764, 776] {
        for step in STEPS {
            let is_step =
                protocol >= 764 || matches!(step, Step::Dialled | Step::LetIn | Step::Joined);
            for victim in [Victim::Old, Victim::New, Victim::Client] {
                for is_reset in [false, true] {
                    if is_step {
                        println!("{protocol}, {step:?}, {victim:?}, {is_reset}");
                        lose_one(&proxy, [&a, &b], protocol, (step, victim, is_reset)).await;
                    }
                }
            }
        }
    }
    // A place or a name that is left keeps the player out.
    let mut switching = switch_to(&proxy, [&a, &b], 776, Step::Joined).await;
    switching.new.send(HERE, b"here").await;
    assert_eq!(
        follow(&mut switching.client, 776, false).await,
        Fate::InPlay
    );
}

async fn lose_one(
    proxy: &TestProxy,
    [a, b]: [&FakeBackend; 2],
    protocol: i32,
    (step, victim, is_reset): (Step, Victim, bool),
) {
    let Switching {
        mut client,
        mut old,
        new,
        mut in_configuration,
    } = switch_to(proxy, [a, b], protocol, step).await;
    match victim {
        Victim::Client => {
            lose(client, is_reset);
            drop((old, new));
        }
        _ => {
            let living = match victim {
                Victim::Old => {
                    lose(old, is_reset);
                    tokio::spawn(take_in(new, protocol, step))
                }
                _ => {
                    lose(new, is_reset);
                    // It says so to a player who has stayed.
                    tokio::spawn(async move {
                        old.send(HERE, b"here").await;
                        while old.next().await.is_some() {}
                    })
                }
            };
            // What the client has read, it answers.
            match step {
                Step::Leaving if protocol >= 764 => {
                    let acknowledged = More::of(protocol).configuration_acknowledged;
                    client.send(acknowledged, &[]).await;
                    in_configuration = true;
                }
                Step::Finished if protocol >= 764 => {
                    client.send(Ids::of(protocol).finish, &[]).await;
                    in_configuration = false;
                }
                _ => {}
            }
            let fate = tokio::select! {
                fate = follow(&mut client, protocol, in_configuration) => fate,
                () = welcomes(a, protocol) => unreachable!("it takes all"),
                () = welcomes(b, protocol) => unreachable!("it takes all"),
            };
            // Somebody is always there to take the player in.
            assert_eq!(fate, Fate::InPlay);
            drop(client);
            within("the other side to end", living).await.unwrap();
        }
    }
    settle(proxy, &[a, b]).await;
}

/// Waits until nothing is left of the session of a player who has left.
async fn settle(proxy: &TestProxy, backends: &[&FakeBackend]) {
    within("the proxy's sockets to close", async {
        loop {
            proxy.idle().await;
            if backends
                .iter()
                .all(|backend| sockets_left(proxy, backend).is_empty())
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // What was dialled for the player.
    for backend in backends {
        let now = std::time::Duration::ZERO;
        while tokio::time::timeout(now, backend.listener.accept())
            .await
            .is_ok()
        {}
    }
}

/// How a player comes to a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Login,
    Loss,
    Switch,
}

/// A server accepts the login of a player, or also sends its join game, and closes the
/// connection at once. A client that logs in acknowledges the success when
/// the next server is dialled. In every version the player comes into the game of another server, or
/// stays in that of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_hangs_up() {
    let [a, b, c] = FakeBackend::several().await;
    let one = "max_players = 1\n";
    let proxy = network("", &[("a", &a, one), ("b", &b, one), ("c", &c, one)]);
    for protocol in ALL {
        for way in [Way::Login, Way::Loss, Way::Switch] {
            for has_join_game in [false, true] {
                // Later versions have a configuration before it.
                if has_join_game && protocol >= 764 {
                    continue;
                }
                for is_reset in [false, true] {
                    println!("{protocol}, {way:?}, {has_join_game}, {is_reset}");
                    let case = (way, has_join_game, is_reset);
                    hang_up(&proxy, [&a, &b, &c], protocol, case).await;
                }
            }
        }
    }
}

async fn hang_up(
    proxy: &TestProxy,
    [a, b, c]: [&FakeBackend; 3],
    protocol: i32,
    (way, has_join_game, is_reset): (Way, bool, bool),
) {
    let (mut client, mut old) = match way {
        Way::Login => {
            let client = game::begin(proxy.address(), protocol, "Notch").await;
            (client, None)
        }
        Way::Loss => (play(proxy, a, protocol).await.0, None),
        Way::Switch => {
            let (client, mut old) = play(proxy, a, protocol).await;
            connect(&mut old, protocol, "b").await;
            (client, Some(old))
        }
    };
    let (mut new, ..) = game::accept(if way == Way::Login { a } else { b }).await;
    admit(&mut new, protocol).await;
    if has_join_game {
        let join = Ids::of(protocol).join;
        new.send(join, &join_game(protocol, 5)).await;
    }
    lose(new, is_reset);
    if way == Way::Login {
        // Only then does the client acknowledge the success of the lost server.
        let (next, ..) = game::accept(b).await;
        tokio::spawn(take_in(next, protocol, Step::Dialled));
    }
    match &mut old {
        // Before its join game nothing has happened to the player.
        Some(old) if protocol < 764 && !has_join_game => {
            let message = client.expect(More::of(protocol).chat).await;
            assert!(contains(&message, "moved to b"), "{message:?}");
            both_ways(&mut client, old, protocol).await;
        }
        _ => {
            let following = async {
                let mut in_configuration = false;
                if way == Way::Login {
                    client.expect(2).await;
                    if protocol >= 764 {
                        client.send(3, &[]).await;
                        in_configuration = true;
                    }
                }
                follow(&mut client, protocol, in_configuration).await
            };
            let fate = tokio::select! {
                fate = following => fate,
                () = welcomes(a, protocol) => unreachable!("it takes all"),
                () = welcomes(b, protocol) => unreachable!("it takes all"),
                () = welcomes(c, protocol) => unreachable!("it takes all"),
            };
            assert_eq!(fate, Fate::InPlay);
        }
    }
    drop((client, old));
    settle(proxy, &[a, b, c]).await;
}
