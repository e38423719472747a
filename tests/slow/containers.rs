//! A real engine, with containers that are started, recreated with other labels, paused,
//! killed and removed while players join.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::alone::blocking_alone;
use crate::engine::Engine;
use infrarust_test_support::containers::{await_removal, change, is_away, is_unknown};
use infrarust_test_support::program::Program;
use infrarust_test_support::{FakeClient, Peer, server, within};

/// The most time from the start of a container to its first status. It is far less than the
/// time to the next list, so the status is due to an event. `docs/docker.md` has measured
/// times; a busy machine takes longer.
const FIRST_STATUS: Duration = Duration::from_secs(10);

/// A connected player: the backend has accepted the login.
async fn join(proxy: SocketAddr, host: &str) -> Peer {
    let mut player = FakeClient::login(proxy, host, "Alice").await;
    assert_eq!(player.frame().await.0, 2, "no login success");
    echoes(&mut player).await;
    player
}

/// Asserts that the session works: the bytes come back.
async fn echoes(player: &mut Peer) {
    player.send(b"still here").await;
    assert_eq!(player.bytes(10).await, b"still here");
}

/// The name of the container that answers a ping for this host.
async fn who(proxy: SocketAddr, host: &str) -> String {
    let answer = FakeClient::status(proxy, host).await;
    let text = answer["description"]["text"].as_str();
    text.unwrap_or_default().to_owned()
}

/// Waits until this container answers for this host.
async fn answers(proxy: SocketAddr, host: &str, name: &str) {
    within(name, async {
        while who(proxy, host).await != name {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The output of `infrarust check --docker`, and whether it succeeds.
fn check(program: &Program, format: &str) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(program.folder.path().join("infrarust.toml"))
        .args(["check", "--docker", "--format", format])
        .output()
        .unwrap();
    let text = if format == "json" {
        output.stdout
    } else {
        output.stderr
    };
    (String::from_utf8(text).unwrap(), output.status.success())
}

/// Engine, proxy and players are in a network of their own, so that other engines and
/// interfaces of this machine are not affected.
#[test]
fn containers_of_a_real_engine_are_routed() {
    let _machine = blocking_alone();
    let Some(engine) = Engine::start() else {
        return;
    };
    // Its threads are in the network of the one that makes them.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(drill(engine));
}

async fn drill(mut engine: Engine) {
    engine.docker(&["network", "create", "games"]);
    engine.docker(&["network", "create", "other"]);
    let table = format!(
        "[docker]\nendpoint = \"unix://{}\"\nreconnect_delay = \"50ms\"\n[status_cache]\nttl = \"0s\"",
        engine.socket().display()
    );
    let mut program = Program::start(&table, &[]);
    let proxy = program.address().await;
    program.line("containers are read").await;

    starts_and_ends(&engine, &mut program, proxy).await;
    is_paused_and_renamed(&engine, &mut program, proxy).await;
    moves_between_networks(&engine, &mut program, proxy).await;
    is_checked_by_itself(&engine, &mut program, proxy).await;
    is_refused_alone(&engine, &mut program, proxy).await;
    conflicts_have_an_order(&engine, &mut program, proxy).await;
    pools_fail_over(&engine, &mut program, proxy).await;
    is_replaced_as_compose_does(&engine, &mut program, proxy).await;
    engines_come_and_go(&mut engine, &mut program, proxy).await;
}

/// The first status comes long before the next list, a player joins, and the session ends
/// with the container and not before.
async fn starts_and_ends(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    let labels = [
        "infrarust.domains=mc.example.com",
        "infrarust.proxy_mode=zero_copy",
    ];
    engine.create("first", &[], &labels);
    let begin = Instant::now();
    engine.docker(&["start", "first"]);
    let started = begin.elapsed();
    answers(proxy, "mc.example.com", "first").await;
    let took = begin.elapsed();
    eprintln!("first status {took:?} after the start, which took {started:?}");
    // What the engine takes is its own.
    assert!(took - started < FIRST_STATUS, "{took:?}");
    assert_eq!(change(program).await.0, "[\"first\"]");

    let mut player = join(proxy, "mc.example.com").await;
    engine.docker(&["kill", "first"]);
    player.expect_end().await;
    assert_eq!(change(program).await.1, "[\"first\"]");
    is_away(proxy, "mc.example.com").await;
    engine.docker(&["start", "first"]);
    assert_eq!(change(program).await.1, "[\"first\"]");
    engine.docker(&["restart", "--time=0", "first"]);
    assert_eq!(change(program).await.1, "[\"first\"]");
    assert_eq!(change(program).await.1, "[\"first\"]");
    answers(proxy, "mc.example.com", "first").await;
}

/// A paused container gets no players, connected ones stay, and the domain follows the
/// name.
async fn is_paused_and_renamed(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    let mut player = join(proxy, "mc.example.com").await;
    engine.docker(&["pause", "first"]);
    assert_eq!(change(program).await.1, "[\"first\"]");
    is_away(proxy, "mc.example.com").await;
    engine.docker(&["unpause", "first"]);
    assert_eq!(change(program).await.1, "[\"first\"]");
    echoes(&mut player).await;
    drop(join(proxy, "mc.example.com").await);

    engine.run("named", &[], &[]);
    assert_eq!(change(program).await.0, "[\"named\"]");
    answers(proxy, "named.docker.local", "named").await;
    engine.docker(&["rename", "named", "renamed"]);
    let (added, _, removed) = change(program).await;
    assert_eq!(
        (added, removed),
        ("[\"renamed\"]".into(), "[\"named\"]".into())
    );
    answers(proxy, "renamed.docker.local", "named").await;
    engine.docker(&["rm", "--force", "renamed"]);
    await_removal(program, &["renamed"]).await;
    echoes(&mut player).await;
}

/// Without a network a container cannot be reached, and the log reports it. In another
/// network it is found again.
async fn moves_between_networks(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    engine.docker(&["network", "disconnect", "games", "first"]);
    let line = program.line_with("the container `first` is refused").await;
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("error[no-address]") && text.contains("networks: none"),
        "{text}"
    );
    assert_eq!(change(program).await.1, "[\"first\"]");
    is_away(proxy, "mc.example.com").await;
    engine.docker(&["network", "connect", "other", "first"]);
    assert_eq!(change(program).await.1, "[\"first\"]");
    answers(proxy, "mc.example.com", "first").await;

    // A container that shares the network of another one has no address.
    engine.run("guest", &["--network=container:first", "--env=PORT=1"], &[]);
    let line = program.line_with("the container `guest` is refused").await;
    let text = line["message"].as_str().unwrap();
    assert!(text.contains("networks: that of container "), "{text}");
    engine.docker(&["rm", "--force", "guest", "first"]);
    await_removal(program, &["guest", "first"]).await;

    // On the machine's own network it is found there.
    // Nobody else is in this network, whatever the port.
    let (env, label) = ("--env=PORT=25570", "infrarust.port=25570");
    engine.run("onhost", &["--network=host", env], &[label]);
    assert_eq!(change(program).await.0, "[\"onhost\"]");
    answers(proxy, "onhost.docker.local", "onhost").await;
    engine.docker(&["rm", "--force", "onhost"]);
    await_removal(program, &["onhost"]).await;
}

/// A container whose own check fails is still tried, since there is no other.
async fn is_checked_by_itself(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    engine.run("checked", &["--health-timeout=10s"], &[]);
    assert_eq!(change(program).await.0, "[\"checked\"]");
    answers(proxy, "checked.docker.local", "checked").await;
    let mut player = FakeClient::login(proxy, "checked.docker.local", "poison").await;
    assert_eq!(player.frame().await.0, 2);
    program.line("container is unhealthy").await;
    answers(proxy, "checked.docker.local", "checked").await;
    engine.docker(&["rm", "--force", "checked"]);
    await_removal(program, &["checked"]).await;
}

/// A bad label refuses only its container, and `check --docker` reports the same.
async fn is_refused_alone(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    engine.run("good", &[], &["infrarust.domains=good.example.com"]);
    assert_eq!(change(program).await.0, "[\"good\"]");
    let (text, is_content) = check(program, "text");
    assert!(
        is_content && text.contains("1 container would be routed to"),
        "{text}"
    );

    let bad = [
        "infrarust.domains=bad.example.com\n\u{1b}[2J",
        "infrarust.proxy_mod=zero_copy",
    ];
    engine.run("bad", &[], &bad);
    let line = program.line_with("the container `bad` is refused").await;
    let (text, is_content) = check(program, "text");
    for part in [
        "error[unknown-key]: `infrarust.proxy_mod` is not a label of infrarust",
        "did you mean `infrarust.proxy_mode`?",
        "error[bad-domain]",
        "container bad:",
    ] {
        assert!(line["message"].as_str().unwrap().contains(part), "{line}");
        assert!(text.contains(part), "{text}");
    }
    assert!(!is_content && text.contains("1 would not"), "{text}");
    let (json, _) = check(program, "json");
    let elements: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(elements[0]["file"], "container bad", "{json}");
    answers(proxy, "good.example.com", "good").await;
    engine.docker(&["rm", "--force", "bad", "good"]);
    await_removal(program, &["good"]).await;
}

/// A file has precedence over containers, and an older container over a younger one.
async fn conflicts_have_an_order(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    let labels = ["infrarust.domains=one.example.com"];
    engine.create("older", &[], &labels);
    engine.run("younger", &[], &labels);
    assert_eq!(change(program).await.0, "[\"younger\"]");
    // The age counts, and not who started first.
    engine.docker(&["start", "older"]);
    let line = program
        .line_with("the container `younger` is refused")
        .await;
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("already leads to the server of `container older`"),
        "{text}"
    );
    let (added, _, removed) = change(program).await;
    assert_eq!(
        (added, removed),
        ("[\"older\"]".into(), "[\"younger\"]".into())
    );
    answers(proxy, "one.example.com", "older").await;

    let path = program.folder.path().join("servers/file.toml");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    std::fs::write(&path, server("passthrough", "one.example.com", nobody, "")).unwrap();
    let line = program.line_with("the container `older` is refused").await;
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("servers/file.toml"),
        "{line}"
    );
    program.line("configuration reloaded").await;
    std::fs::remove_file(&path).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["added"], "[\"older\"]");
    engine.docker(&["rm", "--force", "older"]);
    let (added, _, removed) = change(program).await;
    assert_eq!(
        (added, removed),
        ("[\"younger\"]".into(), "[\"older\"]".into())
    );
    answers(proxy, "one.example.com", "younger").await;
    engine.docker(&["rm", "--force", "younger"]);
    await_removal(program, &["younger"]).await;
}

/// A pool continues with the remaining containers.
async fn pools_fail_over(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    let labels = ["infrarust.pool=games", "infrarust.domains=pool.example.com"];
    for name in ["one", "two"] {
        engine.run(name, &[], &labels);
        change(program).await;
    }
    answers(proxy, "pool.example.com", "one").await;
    engine.docker(&["kill", "one"]);
    assert_eq!(change(program).await.1, "[\"games\"]");
    answers(proxy, "pool.example.com", "two").await;
    engine.docker(&["rm", "--force", "one", "two"]);
    await_removal(program, &["games"]).await;
}

/// New labels need a new container: compose renames the old one, creates and starts the new
/// one under its name, and then removes the old one.
async fn is_replaced_as_compose_does(engine: &Engine, program: &mut Program, proxy: SocketAddr) {
    engine.run("survival", &[], &["infrarust.domains=old.example.com"]);
    assert_eq!(change(program).await.0, "[\"survival\"]");
    engine.docker(&["rename", "survival", "old_survival"]);
    change(program).await;
    engine.create("survival", &[], &["infrarust.domains=new.example.com"]);
    engine.docker(&["stop", "--time=0", "old_survival"]);
    assert_eq!(change(program).await.1, "[\"old_survival\"]");
    engine.docker(&["start", "survival"]);
    assert_eq!(change(program).await.0, "[\"survival\"]");
    engine.docker(&["rm", "old_survival"]);
    await_removal(program, &["old_survival"]).await;
    answers(proxy, "new.example.com", "survival").await;
    is_unknown(proxy, "old.example.com").await;
    engine.docker(&["rm", "--force", "survival"]);
    await_removal(program, &["survival"]).await;
}

/// Routes and sessions continue after the engine has ended in any way, if its containers
/// continue. Changes in between take effect when the engine is back.
async fn engines_come_and_go(engine: &mut Engine, program: &mut Program, proxy: SocketAddr) {
    engine.run("stays", &[], &["infrarust.domains=stays.example.com"]);
    assert_eq!(change(program).await.0, "[\"stays\"]");
    let mut player = join(proxy, "stays.example.com").await;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if signal == Signal::SIGKILL {
            // Its runtime outlives it then, and would keep the next from starting.
            engine.end(signal);
            engine.end_runtime();
        } else {
            engine.end(signal);
        }
        program.line_with("the engine is lost").await;
        answers(proxy, "stays.example.com", "stays").await;
        echoes(&mut player).await;
        engine.begin();
        let said = program
            .line_among(&["the engine is read again", "servers of"])
            .await;
        assert_eq!(said, "the engine is read again");
        answers(proxy, "stays.example.com", "stays").await;
        echoes(&mut player).await;
    }
    engine.run("comes", &[], &[]);
    assert_eq!(change(program).await.0, "[\"comes\"]");
    answers(proxy, "comes.docker.local", "comes").await;
    engine.docker(&["rm", "--force", "stays", "comes"]);
    player.expect_end().await;
}
