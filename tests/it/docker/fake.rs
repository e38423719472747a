//! A fake container engine that hangs, answers wrongly, stops and starts again.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::program::Program;
use crate::support::containers::{CHANGED, change, changes, is_away, is_unknown};
use crate::support::engine::{FakeEngine, Override, container, event, listed};
use crate::support::{FakeBackend, FakeClient, server, within, write_config};

/// Logs in at this host, reaches this backend and leaves. The client leaves first: if the
/// backend ended the session without an answer, the login would go on to the next backend
/// of a pool.
async fn joins(proxy: SocketAddr, host: &str, backend: &FakeBackend) {
    let client = FakeClient::login(proxy, host, "Alice").await;
    let (mut peer, hello, _) = backend.accept_login().await;
    assert_eq!(hello.host, host);
    drop(client);
    peer.expect_end().await;
}

/// A program that follows this engine and has read its containers.
async fn follow(engine: &FakeEngine, servers: &[(&str, String)]) -> (Program, SocketAddr) {
    let mut program = Program::start(&engine.table(""), servers);
    let proxy = program.address().await;
    program.line("containers are read").await;
    (program, proxy)
}

fn domains(host: &str) -> [(&str, &str); 1] {
    [("infrarust.domains", host)]
}

/// Ends the program and returns everything that its log said from here on.
async fn rest_of_log(mut program: Program) -> Vec<Value> {
    program.signal(Signal::SIGTERM);
    let mut lines = Vec::new();
    while let Some(line) = within("the log", program.log.next_line()).await.unwrap() {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        let fields = line["fields"].take();
        if fields["message"].as_str().unwrap().starts_with("draining") {
            // The second ends the sessions that are still there.
            program.signal(Signal::SIGTERM);
        }
        lines.push(fields);
    }
    lines
}

fn count(lines: &[Value], begin: &str) -> usize {
    let says = |line: &&Value| line["message"].as_str().unwrap().starts_with(begin);
    lines.iter().filter(says).count()
}

/// Containers start, change their names and states, and stop. The routes follow, and each
/// change is one log line.
#[tokio::test(flavor = "multi_thread")]
async fn routes_follow_containers() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    engine.put(&container("first", backend.address, &[]));
    let (mut program, proxy) = follow(&engine, &[]).await;
    change(&mut program).await;
    joins(proxy, "first.docker.local", &backend).await;

    engine.run(&container(
        "second",
        backend.address,
        &domains("mc.example.com"),
    ));
    assert_eq!(change(&mut program).await.0, "[\"second\"]");
    joins(proxy, "mc.example.com", &backend).await;

    for (pointer, [there, gone], [comes, leaves]) in [
        (
            "/State/Running",
            [json!(true), json!(false)],
            ["start", "die"],
        ),
        (
            "/State/Paused",
            [json!(false), json!(true)],
            ["unpause", "pause"],
        ),
    ] {
        engine.change("second", pointer, gone);
        engine.send_event_of("second", leaves);
        assert_eq!(change(&mut program).await.1, "[\"second\"]", "{leaves}");
        is_away(proxy, "mc.example.com").await;
        engine.change("second", pointer, there);
        engine.send_event_of("second", comes);
        assert_eq!(change(&mut program).await.1, "[\"second\"]", "{comes}");
        joins(proxy, "mc.example.com", &backend).await;
    }
    // Its health check may be wrong, and there is nothing better.
    engine.change("second", "/State/Health/Status", "unhealthy".into());
    engine.send_event_of("second", "health_status: unhealthy");
    program.line("container is unhealthy").await;
    joins(proxy, "mc.example.com", &backend).await;

    engine.change("second", "/Name", "/other".into());
    engine.send_event_of("second", "rename");
    let (added, _, removed) = change(&mut program).await;
    assert_eq!(
        (added, removed),
        ("[\"other\"]".into(), "[\"second\"]".into())
    );

    let mut player = FakeClient::login(proxy, "mc.example.com", "Alice").await;
    let (mut session, ..) = backend.accept_login().await;
    engine.state().containers.remove("second");
    engine.send_event_of("second", "destroy");
    assert_eq!(change(&mut program).await.2, "[\"other\"]");
    is_unknown(proxy, "mc.example.com").await;
    player.send(b"still here").await;
    assert_eq!(session.bytes(10).await, b"still here");
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, CHANGED), 0, "{rest:?}");
}

/// A container that moves to another network or gets another address is dialled there.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_read_again() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let mut moved = container("a", backend.address, &domains("mc.example.com"));
    moved["NetworkSettings"]["Networks"]["net"]["IPAddress"] = "127.0.0.9".into();
    engine.put(&moved);
    let (mut program, proxy) = follow(&engine, &[]).await;
    change(&mut program).await;
    let mut client = FakeClient::login(proxy, "mc.example.com", "Alice").await;
    assert!(
        FakeClient::kick(&mut client)
            .await
            .contains("cannot be reached")
    );

    engine.change(
        "a",
        "/NetworkSettings/Networks/net/IPAddress",
        "127.0.0.1".into(),
    );
    let reported = json!({
        "Type": "network", "Action": "connect",
        "Actor": {"ID": "n", "Attributes": {"container": "a"}},
    });
    engine.send_event(&reported.to_string());
    assert_eq!(change(&mut program).await.1, "[\"a\"]");
    joins(proxy, "mc.example.com", &backend).await;
}

/// Before all containers have been inspected, there is no route to any of them.
#[tokio::test(flavor = "multi_thread")]
async fn routes_appear_once_all_containers_are_read() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    engine.put(&container("a", backend.address, &domains("a.example.com")));
    engine.put(&container("b", backend.address, &domains("b.example.com")));
    let path = "/containers/b/json".to_owned();
    engine
        .state()
        .overrides
        .insert(path.clone(), Override::Hang);
    let servers = [(
        "f",
        server("passthrough", "f.example.com", backend.address, ""),
    )];
    let mut program = Program::start(&engine.table("poll_interval = \"1s\""), &servers);
    let proxy = program.address().await;
    engine.await_requests("/containers/a/json", 1).await;
    engine.await_requests("/containers/b/json", 1).await;
    // Longer than a change may wait for others.
    engine.await_requests("/containers/json", 2).await;
    is_unknown(proxy, "a.example.com").await;
    joins(proxy, "f.example.com", &backend).await;

    engine.state().overrides.remove(&path);
    engine.send_event_of("b", "rename");
    assert_eq!(change(&mut program).await.0, "[\"a\", \"b\"]");
    joins(proxy, "a.example.com", &backend).await;
    joins(proxy, "b.example.com", &backend).await;
}

/// An engine that is missing at first, hangs, sends invalid answers, or ends in the middle
/// of an answer does not affect the servers of files. Each failure is logged once, and the
/// engine is used as soon as it works.
#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_engine_do_not_affect_files() {
    let say = |text: &str| Override::Say(text.as_bytes().to_vec());
    let ok = "HTTP/1.1 200 OK\r\n";
    for (what, path, answer) in [
        ("no HTTP", "/", say("SSH-2.0-OpenSSH\r\n")),
        ("an end", "/", say("")),
        (
            "a refusal",
            "/",
            say("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        ),
        (
            "no JSON",
            "/containers/json",
            Override::Json("<html>".to_owned()),
        ),
        (
            "another JSON",
            "/containers/json",
            Override::Json("{}".to_owned()),
        ),
        (
            "half a list",
            "/containers/json",
            say(&format!("{ok}Content-Length: 99\r\n\r\n[{{")),
        ),
        (
            "a huge head",
            "/containers/json",
            say(&format!("{ok}X: {}", "x".repeat(1_000_000))),
        ),
        (
            "no events",
            "/events",
            say(&format!("{ok}Content-Length: 0\r\n\r\n")),
        ),
    ] {
        let backend = FakeBackend::start().await;
        let engine = FakeEngine::start();
        engine.put(&container("a", backend.address, &domains("mc.example.com")));
        engine.state().overrides.insert(path.to_owned(), answer);
        if path == "/events" {
            // Else the containers may be known before the stream's end is seen.
            let list = "/containers/json".to_owned();
            engine.state().overrides.insert(list, Override::Hang);
        }
        let servers = [(
            "f",
            server("passthrough", "f.example.com", backend.address, ""),
        )];
        let mut program = Program::start(&engine.table(""), &servers);
        let proxy = program.address().await;
        let line = program.line_with("the engine cannot be read").await;
        assert!(line["error"].is_string(), "{what}");
        joins(proxy, "f.example.com", &backend).await;
        engine.await_requests("/events", 3).await;
        engine.state().overrides.clear();
        program.line("the engine is read again").await;
        assert_eq!(change(&mut program).await.0, "[\"a\"]", "{what}");
        joins(proxy, "mc.example.com", &backend).await;
        let rest = rest_of_log(program).await;
        assert_eq!(count(&rest, "the engine"), 0, "{what}: {rest:?}");
    }
}

/// An engine that hangs at the first request does not delay the start.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_at_the_start_does_not_delay_it() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    engine
        .state()
        .overrides
        .insert("/".to_owned(), Override::Hang);
    let servers = [(
        "f",
        server("passthrough", "f.example.com", backend.address, ""),
    )];
    let mut program = Program::start(&engine.table(""), &servers);
    let proxy = program.address().await;
    program.line("ready").await;
    joins(proxy, "f.example.com", &backend).await;
    let line = program.line_with("the engine cannot be read").await;
    assert_eq!(line["error"], "no answer within 10 s");
}

/// A container that the engine cannot describe does not affect the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_inspected_is_ignored_alone() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{";
    for (id, answer) in [
        ("half", Override::Say(half.as_bytes().to_vec())),
        ("nonsense", Override::Json("[]".to_owned())),
        ("huge", Override::Json("x".repeat(5_000_000))),
    ] {
        engine.put(&container(id, backend.address, &[]));
        let path = format!("/containers/{id}/json");
        engine.state().overrides.insert(path, answer);
    }
    engine.put(&container("a", backend.address, &domains("mc.example.com")));
    let mut program = Program::start(&engine.table("poll_interval = \"1s\""), &[]);
    let proxy = program.address().await;
    for _ in 0..3 {
        program.line("a container cannot be looked at").await;
    }
    assert_eq!(change(&mut program).await.0, "[\"a\"]");
    joins(proxy, "mc.example.com", &backend).await;
    engine.state().overrides.clear();
    changes(&mut program, [&["half", "huge", "nonsense"], &[], &[]]).await;
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, "a container cannot"), 0, "{rest:?}");
}

/// A stream of events without data is opened again as soon as a list shows a change that
/// the stream did not report.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_opened_again() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    engine.put(&container("a", backend.address, &[]));
    let mut program = Program::start(&engine.table("poll_interval = \"1s\""), &[]);
    change(&mut program).await;
    engine.await_requests("/events", 1).await;
    engine.put(&container("untold", backend.address, &[]));
    assert_eq!(change(&mut program).await.0, "[\"untold\"]");
    engine.await_requests("/events", 2).await;
    engine.run(&container("reported", backend.address, &[]));
    assert_eq!(change(&mut program).await.0, "[\"reported\"]");
}

/// While the engine is unreachable the known servers stay. Changes from that time take
/// effect when it is reachable again.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_may_come_and_go() {
    let backend = FakeBackend::start().await;
    let mut engine = FakeEngine::absent();
    let mut program = Program::start(&engine.table(""), &[]);
    let proxy = program.address().await;
    let line = program.line_with("the engine cannot be read").await;
    assert!(line["error"].as_str().unwrap().starts_with("no connection"));
    for id in ["stays", "leaves", "moves"] {
        engine.put(&container(id, backend.address, &[]));
    }
    engine.begin();
    assert_eq!(
        change(&mut program).await.0,
        "[\"leaves\", \"moves\", \"stays\"]"
    );

    engine.end().await;
    program.line_with("the engine is lost").await;
    joins(proxy, "leaves.docker.local", &backend).await;
    engine.state().containers.remove("leaves");
    engine.change("moves", "/Config/Labels/infrarust.port", "1".into());
    engine.put(&container("comes", backend.address, &[]));
    engine.begin();
    changes(&mut program, [&["comes"], &["moves"], &["leaves"]]).await;
    joins(proxy, "stays.docker.local", &backend).await;
    is_unknown(proxy, "leaves.docker.local").await;
}

/// A list that is older than an event does not bring a stopped container back.
#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_list_does_not_bring_back_a_container() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let there = container("a", backend.address, &domains("mc.example.com"));
    engine.put(&there);
    let mut program = Program::start(&engine.table("poll_interval = \"1s\""), &[]);
    let proxy = program.address().await;
    change(&mut program).await;
    engine.state().listed = Some(json!([listed(&there)]));
    engine.change("a", "/State/Running", false.into());
    engine.send_event_of("a", "die");
    assert_eq!(change(&mut program).await.1, "[\"a\"]");
    let lists = engine
        .state()
        .requests
        .iter()
        .filter(|p| p.starts_with("/containers/json"))
        .count();
    engine.await_requests("/containers/json", lists + 2).await;
    is_away(proxy, "mc.example.com").await;
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, CHANGED), 0, "{rest:?}");
}

/// A list that is older than a container does not remove it.
#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_list_does_not_remove_a_container() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let mut program = Program::start(&engine.table("poll_interval = \"1s\""), &[]);
    let proxy = program.address().await;
    program.line("containers are read").await;
    let begin = "/containers/json";
    let lists = || {
        let state = engine.state();
        let lists = state.requests.iter().filter(|path| path.starts_with(begin));
        lists.count()
    };
    let due = Arc::new(Notify::new());
    let late = Override::Late(Arc::clone(&due));
    engine.state().overrides.insert(begin.to_owned(), late);
    let before = lists();
    engine.await_requests(begin, before + 1).await;
    engine.state().overrides.clear();
    engine.run(&container("new", backend.address, &[]));
    assert_eq!(change(&mut program).await.0, "[\"new\"]");
    due.notify_one();
    // The next one is asked for when that has been taken.
    engine.await_requests(begin, before + 2).await;
    joins(proxy, "new.docker.local", &backend).await;
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, CHANGED), 0, "{rest:?}");
}

/// After an event that cannot be parsed all containers are inspected.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_event_causes_a_full_inspection() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let (mut program, _) = follow(&engine, &[]).await;
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(3_000_000));
    for (id, line) in [
        ("a", "garbage"),
        ("b", huge.as_str()),
        ("c", "{\"Type\":7}"),
    ] {
        engine.put(&container(id, backend.address, &[]));
        engine.send_event(line);
        assert_eq!(change(&mut program).await.0, format!("[\"{id}\"]"));
    }
    // The stream goes on behind them.
    engine.run(&container("d", backend.address, &[]));
    assert_eq!(change(&mut program).await.0, "[\"d\"]");
}

/// Ten thousand containers, most of them invalid, do not affect the routes of files and of
/// valid containers, and do not flood the log.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_containers_do_not_affect_others() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    for n in 0..10_000 {
        let id = format!("c{n:05}");
        let host = format!("{id}.example.com");
        let bad = [
            ("infrarust.domains", host.as_str()),
            ("infrarust.proxy_mod", "x"),
            ("infrarust.max_players", "many"),
        ];
        let labels = if n % 10 == 0 { &bad[..1] } else { &bad[..] };
        engine.put(&container(&id, backend.address, labels));
    }
    let servers = [(
        "f",
        server("passthrough", "f.example.com", backend.address, ""),
    )];
    let mut program = Program::start(&engine.table(""), &servers);
    let proxy = program.address().await;
    // Each has its time: a busy machine needs more than one takes.
    for looks in [2500, 5000, 7500, 9999] {
        engine.await_requests("/containers/c", looks).await;
        joins(proxy, "f.example.com", &backend).await;
    }
    let line = program.line("containers are read").await;
    assert_eq!(
        (&line["servers"], &line["refused"]),
        (&1000.into(), &9000.into())
    );
    change(&mut program).await;
    joins(proxy, "c09990.example.com", &backend).await;

    // One that starts among them costs one look, as if it were alone.
    let looks = || {
        let state = engine.state();
        let looks = state.requests.iter().filter(|path| path.ends_with("/json"));
        looks.count()
    };
    let before = looks();
    engine.run(&container(
        "late",
        backend.address,
        &domains("late.example.com"),
    ));
    assert_eq!(change(&mut program).await.0, "[\"late\"]");
    assert_eq!(looks(), before + 1);
    joins(proxy, "late.example.com", &backend).await;
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, "the container"), 0, "reported twice");
}

/// Labels that try to break out of their meaning are refused, and others are not affected.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_labels_are_refused_alone() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    let long = format!("{}example.com", "a.".repeat(32_000));
    let many: String = (0..5_000).fold(String::new(), |mut all, n| {
        write!(all, "{n}.many.example.com,,").unwrap();
        all
    });
    let endless = "x".repeat(200_000);
    for (id, labels) in [
        ("thief", &[("infrarust.domains", "f.example.com")][..]),
        ("twin", &[("infrarust.name", "f")]),
        (
            "escape",
            &[("infrarust.domains", "\u{1b}[31m\n§c.example.com")],
        ),
        ("key", &[("infrarust.\u{1b}[2J\nname", "x")]),
        ("long", &[("infrarust.domains", long.as_str())]),
        (
            "endless",
            &[("infrarust.motd.online.text", endless.as_str())],
        ),
        ("trailing", &[("infrarust.domains", many.as_str())]),
        (
            "reader",
            &[
                ("infrarust.forwarding_mode", "bungeeguard"),
                ("infrarust.forwarding_secret.file", "/etc/passwd"),
            ],
        ),
        (
            "climber",
            &[
                ("infrarust.forwarding_mode", "bungeeguard"),
                ("infrarust.forwarding_secret.file", "../x"),
            ],
        ),
        (
            "environment",
            &[
                ("infrarust.forwarding_mode", "bungeeguard"),
                ("infrarust.forwarding_secret.env", "PATH"),
            ],
        ),
    ] {
        engine.put(&container(id, backend.address, labels));
    }
    engine.put(&container(
        "good",
        backend.address,
        &domains("good.example.com"),
    ));
    let file = server("passthrough", "f.example.com", backend.address, "");
    let mut program = Program::start(&engine.table(""), &[("f", file)]);
    let proxy = program.address().await;
    let mut refused = std::collections::BTreeSet::new();
    while refused.len() < 10 {
        let line = program.line_with("the container").await;
        let text = line["message"].as_str().unwrap();
        let name = text.split('`').nth(1).unwrap().to_owned();
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(text.chars().all(is_plain), "{text:?}");
        assert!(text.len() < 200_000, "{name}: {} bytes", text.len());
        assert!(text.contains("error["), "{text}");
        assert!(refused.insert(name), "reported twice: {text}");
    }
    let line = program.line("containers are read").await;
    assert_eq!(
        (&line["servers"], &line["refused"]),
        (&1.into(), &10.into())
    );
    joins(proxy, "f.example.com", &backend).await;
    joins(proxy, "good.example.com", &backend).await;

    // Events bring no further word.
    for name in &refused {
        engine.send_event_of(name, "rename");
        engine.send_event_of(name, "health_status: healthy");
    }
    engine.run(&container("last", backend.address, &[]));
    program.line(CHANGED).await;
    let rest = rest_of_log(program).await;
    assert_eq!(count(&rest, "the container"), 0, "{rest:?}");
}

/// A server file that claims the domain of a container gets it at once, and loses it when
/// the file is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_wins_over_a_container() {
    let of_file = FakeBackend::start().await;
    let of_container = FakeBackend::start().await;
    let engine = FakeEngine::start();
    engine.put(&container(
        "a",
        of_container.address,
        &domains("mc.example.com"),
    ));
    let (mut program, proxy) = follow(&engine, &[]).await;
    change(&mut program).await;
    joins(proxy, "mc.example.com", &of_container).await;

    let path = program.folder.path().join("servers/f.toml");
    let file = server("passthrough", "mc.example.com", of_file.address, "");
    std::fs::write(&path, file).unwrap();
    let line = program.line_with("the container `a` is refused").await;
    let text = line["message"].as_str().unwrap();
    assert!(text.contains("already leads to the server of"), "{text}");
    assert!(text.contains("servers/f.toml"), "{text}");
    program.line("configuration reloaded").await;
    joins(proxy, "mc.example.com", &of_file).await;

    // A broken file holds up no container.
    std::fs::write(program.folder.path().join("servers/broken.toml"), "x").unwrap();
    program.line_with("reload refused").await;
    engine.run(&container("b", of_container.address, &[]));
    assert_eq!(change(&mut program).await.0, "[\"b\"]");
    joins(proxy, "mc.example.com", &of_file).await;
    std::fs::remove_file(program.folder.path().join("servers/broken.toml")).unwrap();
    std::fs::remove_file(&path).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(
        (&line["added"], &line["removed"]),
        (&"[\"a\"]".into(), &"[\"f\"]".into())
    );
    joins(proxy, "mc.example.com", &of_container).await;
}

/// A healthy container gets the route before an older unhealthy one, and a stopped one gets
/// none. A container that is refused again is logged again.
#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_container_has_precedence() {
    let (old, young) = (FakeBackend::start().await, FakeBackend::start().await);
    let engine = FakeEngine::start();
    engine.put(&container("a", old.address, &domains("mc.example.com")));
    let (mut program, proxy) = follow(&engine, &[]).await;
    change(&mut program).await;
    let refused = "the container `b` is refused";
    engine.run(&container("b", young.address, &domains("mc.example.com")));
    program.line_with(refused).await;
    joins(proxy, "mc.example.com", &old).await;
    for (pointer, [gone, there], [leaves, comes]) in [
        (
            "/State/Health/Status",
            [json!("unhealthy"), json!("healthy")],
            ["health_status: unhealthy", "health_status: healthy"],
        ),
        (
            "/State/Running",
            [json!(false), json!(true)],
            ["die", "start"],
        ),
    ] {
        engine.change("a", pointer, gone);
        engine.send_event_of("a", leaves);
        let (added, _, removed) = change(&mut program).await;
        assert_eq!((added, removed), (json!("[\"b\"]"), json!("[\"a\"]")));
        joins(proxy, "mc.example.com", &young).await;
        engine.change("a", pointer, there);
        engine.send_event_of("a", comes);
        program.line_with(refused).await;
        let (added, _, removed) = change(&mut program).await;
        assert_eq!((added, removed), (json!("[\"a\"]"), json!("[\"b\"]")));
        joins(proxy, "mc.example.com", &old).await;
    }
}

/// A network that `[docker]` names and that has no container is reported, in the log and by
/// `check --docker`, which also says why containers get no players.
#[tokio::test(flavor = "multi_thread")]
async fn containers_without_players_are_explained() {
    let backend = FakeBackend::start().await;
    let engine = FakeEngine::start();
    for (id, pointer, value) in [
        ("works", "/State/Running", json!(true)),
        ("held", "/State/Paused", json!(true)),
        ("ended", "/State/Running", json!(false)),
        ("sick", "/State/Health/Status", json!("unhealthy")),
    ] {
        engine.put(&container(id, backend.address, &[]));
        engine.change(id, pointer, value);
    }
    let mut program = Program::start(&engine.table("network = \"nowhere\""), &[]);
    let proxy = program.address().await;
    let line = program
        .line_with("the network of `[docker]` is not used")
        .await;
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("no container is in the network `nowhere`"),
        "{text}"
    );
    change(&mut program).await;
    for id in ["works", "sick"] {
        joins(proxy, &format!("{id}.docker.local"), &backend).await;
    }
    for id in ["held", "ended"] {
        is_away(proxy, &format!("{id}.docker.local")).await;
    }
    let check = async |format: &str| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
            .arg("-c")
            .arg(program.folder.path().join("infrarust.toml"))
            .args(["check", "--docker", "--format", format])
            .output();
        let output = within("a command", output).await.unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [_, text] = check("text").await;
    let [json, beside_json] = check("json").await;
    let network = "no container is in the network `nowhere`";
    assert!(text.contains(network), "{text}");
    assert!(json.contains(network), "{json}");
    for part in [
        "the container `held` is paused: no player of `held` is sent to it",
        "the container `ended` is stopped: no player of `ended` is sent to it",
        "the container `sick` is unhealthy: it is tried",
        "2 containers would be routed to, as 4 servers; 2 would not",
    ] {
        assert!(text.contains(part), "{part}: {text}");
        assert!(beside_json.contains(part), "{part}: {beside_json}");
    }
}

/// Containers of a pool are one server with several backends.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_one_server() {
    let (one, two) = (FakeBackend::start().await, FakeBackend::start().await);
    let engine = FakeEngine::start();
    let pool = [
        ("infrarust.pool", "games"),
        ("infrarust.domains", "mc.example.com"),
    ];
    engine.put(&container("a", one.address, &pool));
    engine.put(&container("b", two.address, &pool));
    let other = [&pool[..], &[("infrarust.max_players", "5")]].concat();
    engine.put(&container("c", two.address, &other));
    let mut program = Program::start(&engine.table(""), &[]);
    let proxy = program.address().await;
    let line = program.line_with("the container `c` is refused").await;
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("`infrarust.max_players` differs from `container a`"),
        "{text}"
    );
    assert_eq!(change(&mut program).await.0, "[\"games\"]");
    joins(proxy, "mc.example.com", &one).await;
    engine.change("a", "/State/Health/Status", "unhealthy".into());
    engine.send_event_of("a", "health_status: unhealthy");
    assert_eq!(change(&mut program).await.1, "[\"games\"]");
    joins(proxy, "mc.example.com", &two).await;
    engine.send_event(&event("b", "destroy"));
    let (_, changed, removed) = change(&mut program).await;
    // The third is the oldest now, and its word counts.
    assert_eq!((changed, removed), ("[\"games\"]".into(), "[]".into()));
}

/// `route` and `capabilities` include containers with `--docker`.
#[tokio::test(flavor = "multi_thread")]
async fn commands_can_include_containers() {
    let backend = FakeBackend::start().await;
    let mut engine = FakeEngine::start();
    engine.put(&container(
        "box",
        backend.address,
        &domains("mc.example.com"),
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = server("passthrough", "f.example.com", backend.address, "");
    write_config(folder.path(), &engine.table(""), &[("f", file)]);
    let ask = async |words: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
            .arg("-c")
            .arg(folder.path().join("infrarust.toml"))
            .args(words)
            .output();
        let output = within("a command", output).await.unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        (output.status.code(), out, err)
    };
    assert_eq!(ask(&["route", "mc.example.com"]).await.0, Some(1));
    let route = ["route", "mc.example.com", "--docker"];
    let (code, out, err) = ask(&route).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains(" box (passthrough), container box\n"), "{out}");
    let capabilities = ["capabilities", "--docker", "--format", "json"];
    let (code, out, err) = ask(&capabilities).await;
    assert_eq!(code, Some(0), "{err}");
    let out: Value = serde_json::from_str(&out).unwrap();
    let ids = [0, 1, 2].map(|index| out["servers"][index]["id"].as_str());
    assert_eq!(ids, [Some("box"), Some("f"), None]);

    engine.end().await;
    for words in [
        &route[..],
        &capabilities,
        &["route", "f.example.com", "--docker"],
    ] {
        let (code, _, err) = ask(words).await;
        assert_eq!(code, Some(1), "{words:?}");
        assert!(err.contains("error[docker-engine]"), "{err}");
    }
}

/// A reload can change the engine, remove it and add it again. The known servers stay until
/// the new engine has been read.
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_changed_by_a_reload() {
    let backend = FakeBackend::start().await;
    let (first, mut second) = (FakeEngine::start(), FakeEngine::absent());
    first.put(&container("first", backend.address, &[]));
    second.put(&container("second", backend.address, &[]));
    let (mut program, proxy) = follow(&first, &[]).await;
    change(&mut program).await;
    let reload = async |program: &mut Program, table: &str| {
        let global = format!("{table}\n[log]\nformat = \"json\"\n");
        write_config(program.folder.path(), &global, &[]);
        program.signal(Signal::SIGHUP);
        let line = program.line("configuration reloaded").await;
        assert_eq!(line["global"], "[\"docker\"]");
        line["removed"].clone()
    };
    // An engine elsewhere, which does not answer, is not where the containers are.
    let nobody = "[docker]\nendpoint = \"tcp://127.0.0.1:1\"\n";
    assert_eq!(reload(&mut program, nobody).await, "[]");
    joins(proxy, "first.docker.local", &backend).await;
    reload(&mut program, &second.table("")).await;
    joins(proxy, "first.docker.local", &backend).await;
    // The first one is not listened to any more.
    first.run(&container("third", backend.address, &[]));
    second.begin();
    let read = program.line("containers are read").await;
    assert_eq!(read["servers"], 1);
    let (added, _, removed) = change(&mut program).await;
    assert_eq!(
        (added, removed),
        (json!("[\"second\"]"), json!("[\"first\"]"))
    );
    joins(proxy, "second.docker.local", &backend).await;

    let removed = reload(&mut program, "").await;
    assert_eq!(removed, "[\"second\"]");
    is_unknown(proxy, "second.docker.local").await;
    reload(&mut program, &first.table("")).await;
    assert_eq!(change(&mut program).await.0, "[\"first\", \"third\"]");
}
