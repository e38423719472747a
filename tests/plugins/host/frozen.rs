//! Plugins that were built with each released version of the plugin API, run by the current
//! host. `tests/plugins/freeze` adds another one.

use infrarust::manifest::Hook;

use super::*;

/// The kept binaries, by the version of the API that they were built with.
fn kept() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugins");
    let mut kept: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let version = path.file_name().unwrap().to_str().unwrap().to_owned();
            (version, path.join("libeverything.so"))
        })
        .collect();
    kept.sort();
    assert!(!kept.is_empty());
    kept
}

/// Whether the current host must serve a kept version: below 1.0 the second number may
/// break it.
fn is_served(version: &str) -> bool {
    let version = semver::Version::parse(version).unwrap();
    let host = infrarust_plugin_abi::API_VERSION;
    (
        version.major,
        version.major > 0 || version.minor == u64::from(host.minor),
    ) == (u64::from(host.major), true)
}

/// Whether a kept version has everything of another version.
fn is_not_before(version: &str, since: infrarust_plugin_abi::Version) -> bool {
    let since = semver::Version::parse(&since.to_string()).unwrap();
    semver::Version::parse(version).unwrap() >= since
}

/// An old plugin answers at every hook, and every service that it calls exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_plugins_run() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the kept plugins are built for x86_64");
        return;
    }
    let mut served = 0;
    for (version, file) in kept() {
        if !is_served(&version) {
            let why = refused(spec("old", &file, "word = 'w'")).kind.to_string();
            assert!(why.contains("this proxy offers"), "{version}: {why}");
            continue;
        }
        println!("built with {version}");
        asked_everything(&version, &file).await;
        served += 1;
    }
    assert!(served > 0, "no plugin of this line of versions was kept");
}

async fn asked_everything(version: &str, file: &Path) {
    let problem = refused(spec("everything", file, "word = 'w'\nlimit = 11"));
    assert!(
        matches!(&problem.kind, ProblemKind::Config { text, place: Some(place) }
            if text == "the limit is 10" && *place == (19..21)),
        "{problem}"
    );
    let (host, folder) = load(vec![spec("everything", file, "word = 'w'")]);
    let manifest = &host.states()[0].manifest;
    // All that there were.
    let hooks = Hook::ALL.into_iter();
    let hooks = hooks.filter(|hook| is_not_before(version, hook.since()));
    assert_eq!(manifest.hooks.iter().count(), hooks.count());
    let hooks = lobby(&host);
    let here = client("a.example");
    let stranger = Client {
        peer: "192.0.2.7:9".parse().unwrap(),
        ..here
    };

    // connection.decide
    assert_eq!(hooks.connection_decide(&here).await, Ok(()));
    assert_eq!(
        text(hooks.connection_decide(&stranger).await),
        "192.0.2.7:9 a.example lobby 767 Login"
    );
    let nameless = Client {
        virtual_host: "",
        peer: "[2001:db8::1]:9".parse().unwrap(),
        ..here
    };
    let dropped = hooks.connection_decide(&nameless).await.unwrap_err();
    assert!(dropped.text.is_none() && !dropped.is_failure);

    // handshake.rewrite
    let rewritten = |host| hooks.handshake_rewrite(&client(host), "b").unwrap();
    assert_eq!(rewritten("a").as_deref(), Some("w.b"));
    assert_eq!(rewritten("keep"), None);
    assert_eq!(rewritten("panic"), None);

    // status.respond
    let status = hooks
        .status_respond(&here, true, "{\"a\":1}")
        .await
        .unwrap();
    let answer = "{\"word\":\"w\",\"online\":true,\"was\":{\"a\":1}}";
    assert_eq!(status.as_deref(), Some(answer));
    let keep = hooks.status_respond(&client("keep"), false, "{}").await;
    assert_eq!(keep, Ok(None));
    let drop = hooks.status_respond(&client("drop"), false, "{}").await;
    assert!(drop.unwrap_err().text.is_none());

    // login.decide, and the services that a hook waits for
    assert_eq!(login(&hooks, "Steve").await, Ok(()));
    assert_eq!(text(login(&hooks, "Sleep").await), "slept");
    assert_eq!(text(login(&hooks, "Timeout").await), "it took too long");
    assert_eq!(text(login(&hooks, "Spawn").await), "spawned");
    assert_eq!(text(login(&hooks, "May").await), "true false");
    for name in ["Panic", "Error"] {
        assert!(login(&hooks, name).await.unwrap_err().is_failure, "{name}");
    }

    // route.select
    let chosen = |uuid| {
        let hooks = &hooks;
        async move {
            let player = Player {
                name: "Steve",
                uuid,
                is_proved: false,
            };
            let client = client("a");
            let chosen = hooks.route_select(&client, &player, |name| name == "s7");
            chosen.await.unwrap().map(|chosen| chosen.server)
        }
    };
    assert_eq!(chosen(None).await, None);
    assert_eq!(chosen(Some(7)).await.as_deref(), Some("s7"));
    assert_eq!(chosen(Some(8)).await, None, "there is no such server");

    // session.observe
    let player = Player {
        name: "Steve",
        uuid: None,
        is_proved: false,
    };
    let value = |name: &str| {
        let metrics = host.metrics();
        metrics.iter().find(|m| m.name == name).map(|m| m.value)
    };
    let backend = "192.0.2.9:25565";
    let mut session = Session::new(5);
    hooks.session_observe(&here, &player, &mut session, SessionEvent::Opened);
    hooks.session_observe(
        &here,
        &player,
        &mut session,
        SessionEvent::Connected { backend },
    );
    assert_eq!(value("open"), Some(5));
    let closed = SessionEvent::Closed {
        reason: "client left",
        serverbound_bytes: 30,
        clientbound_bytes: 12,
        duration: Duration::from_secs(2),
    };
    hooks.session_observe(&here, &player, &mut session, closed);

    // Metrics, player counts, timers, the data folder.
    let metrics = [
        "open",
        "bytes",
        "players",
        "players_on_lobby",
        "players_on_nowhere",
    ];
    assert_eq!(metrics.map(value), [0, 42, 2, 2, -1].map(Some));
    assert_eq!(
        value("asked").unwrap(),
        i128::from(host.states()[0].counts.calls)
    );
    eventually("the timer ticks", || value("ticks").unwrap() > 1).await;
    let data = folder.path().join("everything");
    assert_eq!(std::fs::read_to_string(data.join("word")).unwrap(), "w");
    let counts = host.states()[0].counts;
    assert_eq!(
        (counts.panics, counts.errors, counts.bad_answers),
        (2, 1, 1)
    );

    // The end.
    host.reload(Vec::new(), None).unwrap();
    std::mem::drop(hooks);
    eventually("the plugin ends", || data.join("ended").exists()).await;
}

/// The kept files are small, and do not contain paths of the machine that built them.
#[test]
fn kept_plugins_are_clean() {
    for (version, file) in kept() {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() < 1_000_000, "{version}");
        for home in ["/root/", "/home/", "/work/", "/Users/", "/tmp/"] {
            let found = bytes.windows(home.len()).any(|w| w == home.as_bytes());
            assert!(!found, "{version} has a path in {home}");
        }
        let source = file.with_file_name("everything.rs");
        assert!(source.exists(), "the source of {version} is kept with it");
        let layout = format!("plugin-api/abi/released/{version}.txt");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(layout).exists());
    }
}
