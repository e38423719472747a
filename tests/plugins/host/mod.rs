//! Plugins as real libraries: built by Cargo, loaded by the host, called at every hook, and
//! passed to the host in every wrong form.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use infrarust::config::model::{Document, OnFailure};
use infrarust::manifest::Hook;
use infrarust::mode::Mode;
use infrarust::plugin::{
    Client, Environment, HookSet, Player, PlayerCounts, PluginHost, Problem, ProblemKind, Refusal,
    Session, SessionEvent, Spec,
};
use infrarust::protocol::handshake::Intent;
use infrarust_test_support::library::{build, sample};

mod another;
mod files;
mod frozen;
mod hostile;
mod lives;

// ------------------------------------------------------------------- loading

struct Two;

impl PlayerCounts for Two {
    fn count(&self, server: Option<&str>) -> Option<u64> {
        server.is_none_or(|server| server == "lobby").then_some(2)
    }
}

fn environment(folder: &Path) -> Environment {
    Environment {
        runtime: tokio::runtime::Handle::current(),
        data_dir: folder.to_owned(),
        players: Arc::new(Two),
    }
}

fn spec(id: &str, file: &Path, config: &str) -> Spec {
    Spec {
        id: id.to_owned(),
        file: file.to_owned(),
        sha256: None,
        on_failure: None,
        // What answers does so long before, also on a busy machine.
        deadline: Some(Duration::from_secs(3)),
        checked: None,
        content: None,
        document: Document(config.into()),
        config_path: Vec::new(),
    }
}

/// All loaded plugins, on a server of a forwarding mode.
fn lobby(host: &PluginHost) -> HookSet {
    let states = host.states();
    host.hooks(states.iter().map(|state| state.id.as_str()), Mode::ZeroCopy)
}

fn load(specs: Vec<Spec>) -> (PluginHost, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let host = PluginHost::new(environment(folder.path()));
    host.reload(specs, None).unwrap();
    (host, folder)
}

fn refused(spec: Spec) -> Problem {
    let folder = tempfile::tempdir().unwrap();
    let host = PluginHost::new(environment(folder.path()));
    let mut problems = host.reload(vec![spec], None).unwrap_err();
    assert!(host.states().is_empty());
    assert_eq!(problems.len(), 1);
    problems.remove(0)
}

fn client(virtual_host: &str) -> Client<'_> {
    Client {
        peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
        protocol: 767,
        intent: Intent::Login,
        virtual_host,
        server: "lobby",
    }
}

async fn login(hooks: &HookSet, name: &str) -> Result<(), Refusal> {
    hooks
        .login_decide(
            &client("a"),
            &Player {
                name,
                uuid: None,
                is_proved: false,
            },
        )
        .await
}

fn text(refusal: Result<(), Refusal>) -> String {
    refusal.unwrap_err().text.unwrap_or_default()
}

// ------------------------------------------------------------------- answers

/// Two plugins from one file are two images, which are called in order at every hook.
/// Rewrites chain, the first refusal and the first choice count.
#[tokio::test]
async fn hooks_are_called_in_order() {
    let specs = vec![
        spec("one", sample(), "tag = 'one'"),
        spec("two", sample(), "tag = 'two'"),
    ];
    let (host, _folder) = load(specs);
    let hooks = lobby(&host);
    let lobby = client("lobby.example");
    assert_eq!(hooks.connection_decide(&lobby).await, Ok(()));
    let stranger = Client {
        peer: SocketAddr::from(([192, 0, 2, 1], 1)),
        ..lobby
    };
    let dropped = hooks.connection_decide(&stranger).await.unwrap_err();
    assert_eq!((dropped.plugin.as_str(), dropped.text), ("one", None));

    let host_seen = hooks.handshake_rewrite(&lobby, "backend").unwrap();
    assert_eq!(host_seen.as_deref(), Some("two.one.backend"));
    assert_eq!(
        hooks.handshake_rewrite(&client("keep"), "backend"),
        Ok(None)
    );
    let status = hooks.status_respond(&lobby, true, "{}").await.unwrap();
    assert_eq!(status.as_deref(), Some("{\"two\":{\"one\":{}}}"));

    assert_eq!(login(&hooks, "Steve").await, Ok(()));
    assert_eq!(text(login(&hooks, "Eve").await), "one says no");
    assert_eq!(text(login(&hooks, "Wait").await), "waited");

    let route = |uuid| {
        let hooks = &hooks;
        async move {
            let player = Player {
                name: "Steve",
                uuid,
                is_proved: false,
            };
            let exists = |server: &str| server == "other";
            hooks
                .route_select(&client("a"), &player, exists)
                .await
                .unwrap()
        }
    };
    assert_eq!(route(None).await, None);
    let selected = route(Some(1)).await.unwrap();
    assert_eq!(
        (selected.plugin.as_str(), selected.server.as_str()),
        ("one", "other")
    );
    assert_eq!(route(Some(2)).await, None);

    let closed = SessionEvent::Closed {
        reason: "client left",
        serverbound_bytes: 3,
        clientbound_bytes: 4,
        duration: Duration::from_secs(1),
    };
    let player = Player {
        name: "Steve",
        uuid: None,
        is_proved: false,
    };
    let mut session = Session::new(1);
    hooks.session_observe(&lobby, &player, &mut session, SessionEvent::Opened);
    hooks.session_observe(&lobby, &player, &mut session, closed);
    let metrics = host.metrics();
    let bytes = metrics
        .iter()
        .find(|m| m.plugin == "two" && m.name == "bytes")
        .unwrap();
    assert_eq!(bytes.value, 7);
    let states = host.states();
    assert_eq!((states.len(), states[0].generation), (2, 1));
    assert_eq!(states[0].counts.bad_answers, 1);
}

/// A set has the requested plugins in that order, without those that its mode cannot run.
#[tokio::test]
async fn sets_have_the_requested_plugins() {
    let specs = ["a", "b"].map(|id| spec(id, sample(), &format!("tag = '{id}'")));
    let (host, _folder) = load(specs.to_vec());
    let seen = |ids: &[&str]| {
        let hooks = host.hooks(ids.iter().copied(), Mode::Passthrough);
        hooks.handshake_rewrite(&client("x"), "host").unwrap()
    };
    assert_eq!(seen(&["b", "a"]).as_deref(), Some("a.b.host"));
    assert_eq!(seen(&["b", "gone"]).as_deref(), Some("b.host"));
    assert_eq!(seen(&[]), None);
    let before = host.hooks(["a"], Mode::Passthrough);
    let others = lobby(&host).not_in(&before);
    assert_eq!(text(login(&others, "Eve").await), "b says no");
    let none = lobby(&host).not_in(&lobby(&host));
    assert!(Hook::ALL.iter().all(|hook| !none.has(*hook)));
}

/// Futures of hooks can be held by tasks that move between threads.
#[test]
fn hook_futures_are_send() {
    fn is_send<T: Send>(_: T) {}
    let (hooks, client) = (HookSet::default(), client("a"));
    let player = Player {
        name: "a",
        uuid: None,
        is_proved: false,
    };
    is_send(hooks.connection_decide(&client));
    is_send(hooks.status_respond(&client, true, "{}"));
    is_send(hooks.login_decide(&client, &player));
    is_send(hooks.route_select(&client, &player, |_| true));
}

/// Events of a plugin are logged with its name in the target, with their fields, and
/// without line breaks of the plugin.
#[tokio::test]
async fn events_arrive_in_the_log() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("off,plugin::logged=debug")
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (host, _folder) = load(vec![spec("logged", sample(), "tag = 'a'")]);
    login(&lobby(&host), "Steve").await.unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        text,
        "DEBUG plugin::logged::infrarust_test_sample: let in\\nnow\\u{202e}\\u{2028} name=\"Steve\" may=false\n"
    );
}

/// The shipped plugins work as libraries.
#[tokio::test]
async fn shipped_plugins_work() {
    let shipped = |id: &str, config: &str| {
        let library = id.replace('-', "_");
        spec(id, &build(&format!("plugins/{id}"), &library), config)
    };
    let (host, folder) = load(vec![
        shipped(
            "domain-rewrite",
            "rules = [{ from = '*.example.com', to = '$1.internal' }]",
        ),
        shipped("motd", "text = '{server}: {players} of {max}'"),
        shipped("allowlist", "names = ['Steve']\nmessage = 'sorry'"),
    ]);
    let hooks = lobby(&host);
    let eu = client("eu.example.com");
    assert_eq!(
        hooks.handshake_rewrite(&eu, "b").unwrap().as_deref(),
        Some("eu.internal")
    );
    let status = hooks
        .status_respond(&eu, true, "{\"players\":{\"max\":9}}")
        .await
        .unwrap();
    let description = "{\"description\":{\"text\":\"lobby: 2 of 9\"},\"players\":{\"max\":9}}";
    assert_eq!(status.as_deref(), Some(description));
    assert_eq!(login(&hooks, "steve").await, Ok(()));
    assert_eq!(text(login(&hooks, "Eve").await), "sorry");
    assert!(
        !folder.path().join("allowlist").exists(),
        "no folder is made that nobody asked for"
    );
    let bad = spec("motd", &build("plugins/motd", "motd"), "text = '{x}'");
    assert!(
        matches!(refused(bad).kind, ProblemKind::Config { place: Some(place), .. } if place == (7..12))
    );
}

// ------------------------------------------------------------------ failures

/// A failed hook has the effect of its policy, and everything is counted.
#[tokio::test]
async fn failures_follow_the_policy() {
    let strict = Spec {
        on_failure: Some(OnFailure::Deny),
        ..spec("strict", sample(), "tag = 's'")
    };
    let lax = Spec {
        on_failure: Some(OnFailure::Continue),
        ..spec("lax", sample(), "tag = 'l'")
    };
    let (host, _folder) = load(vec![spec("default", sample(), "tag = 'd'"), strict, lax]);
    let only = |id: &str| host.hooks([id], Mode::ZeroCopy);

    let hooks = only("default");
    for host in ["panic", "bomb", "garbage", "long"] {
        assert_eq!(
            hooks.handshake_rewrite(&client(host), "backend"),
            Ok(None),
            "{host}"
        );
    }
    assert_eq!(
        hooks.status_respond(&client("garbage"), true, "{}").await,
        Ok(None)
    );
    for name in ["Panic", "Error", "Never", "Huge"] {
        let refusal = login(&hooks, name).await.unwrap_err();
        assert!(refusal.is_failure && refusal.plugin == "default", "{name}");
    }
    assert!(
        only("strict")
            .handshake_rewrite(&client("panic"), "backend")
            .is_err()
    );
    for name in ["Panic", "Error", "Never", "Huge"] {
        assert_eq!(login(&only("lax"), name).await, Ok(()), "{name}");
    }
    let counts = host.states()[0].counts;
    assert_eq!(
        (
            counts.panics,
            counts.errors,
            counts.overruns,
            counts.bad_answers
        ),
        (3, 1, 1, 4)
    );
}

/// A plugin that keeps panicking is not called until it is resumed. Its deciding hooks
/// refuse until then.
#[tokio::test]
async fn repeated_panics_are_quarantined() {
    let (host, _folder) = load(vec![spec("sick", sample(), "tag = 'a'")]);
    let hooks = lobby(&host);
    for _ in 0..5 {
        assert!(login(&hooks, "Panic").await.is_err());
    }
    assert!(host.states()[0].is_quarantined);
    assert!(login(&hooks, "Steve").await.unwrap_err().is_failure);
    assert_eq!(hooks.handshake_rewrite(&client("a"), "backend"), Ok(None));
    assert_eq!(host.states()[0].counts.calls, 5);
    assert!(host.resume("sick") && !host.resume("sick") && !host.resume("other"));
    assert_eq!(login(&hooks, "Steve").await, Ok(()));
}

/// A plugin that blocks a worker is reported while it does.
#[tokio::test]
async fn a_blocking_plugin_is_named() {
    let (host, _folder) = load(vec![spec("slow", sample(), "tag = 'a'")]);
    assert_eq!(login(&lobby(&host), "Block").await, Ok(()));
    assert_eq!(host.states()[0].counts.stalls, 1);
}

/// Mistakes in a configuration are reported with their bytes, and a failed start with its
/// reason.
#[tokio::test]
async fn a_start_can_fail() {
    let problem = refused(spec("a", sample(), "tag = 'a'\ntga = 1"));
    let ProblemKind::Config { text, place } = problem.kind else {
        panic!("{problem}")
    };
    assert!(text.contains("unknown field `tga`"), "{text}");
    assert_eq!(place, Some(10..13));
    let document = "bind = 1\n[plugins.a.config]\ntag = 'a'\ntga = 1";
    let path = ["plugins", "a", "config"].map(str::to_owned).to_vec();
    let whole = Spec {
        config_path: path,
        ..spec("a", sample(), document)
    };
    let ProblemKind::Config { place, .. } = refused(whole).kind else {
        panic!("no place")
    };
    assert_eq!(&document[place.unwrap()], "tga");
    let problem = refused(spec("a", sample(), "tag = 'a'\nstart = 'x'"));
    assert!(
        matches!(problem.kind, ProblemKind::Config { place: Some(place), .. } if place == (18..21))
    );
    let problem = refused(spec("a", sample(), "tag = 'a'\nstart = 'error'"))
        .kind
        .to_string();
    assert_eq!(problem, "it did not start: no database");
    let problem = refused(spec("a", sample(), "tag = 'a'\nstart = 'panic'"))
        .kind
        .to_string();
    assert!(
        problem.starts_with(
            "it did not start: panicked: `no start today` at tests/plugins/sample/src/lib.rs:"
        ),
        "{problem}"
    );
}

// -------------------------------------------------------------------- reload

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A new generation serves new connections, the old one serves those that hold it, and ends
/// with the last of them. A refused reload changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_replace_each_other() {
    let (host, folder) = load(vec![spec("live", sample(), "tag = 'old'")]);
    let ended = folder.path().join("live/ended");
    let seen = |hooks: &HookSet| hooks.handshake_rewrite(&client("a"), "b").unwrap();
    let old = lobby(&host);
    eventually("the task ticks", || {
        host.metrics()
            .iter()
            .any(|m| m.name == "ticks" && m.value > 0)
    })
    .await;

    host.reload(vec![spec("live", sample(), "tag = 'old'")], None)
        .unwrap();
    assert_eq!(host.states()[0].generation, 1, "nothing has changed");
    let problems = host
        .reload(vec![spec("live", sample(), "tag = 1")], None)
        .unwrap_err();
    assert!(matches!(problems[0].kind, ProblemKind::Config { .. }));
    assert_eq!(seen(&lobby(&host)).as_deref(), Some("old.b"));

    host.reload(vec![spec("live", sample(), "tag = 'new'")], None)
        .unwrap();
    assert_eq!(seen(&lobby(&host)).as_deref(), Some("new.b"));
    assert_eq!(seen(&old).as_deref(), Some("old.b"));
    assert!(!ended.exists());
    drop(old);
    eventually("the old generation ends", || ended.exists()).await;
    assert_eq!(std::fs::read_to_string(&ended).unwrap(), "old");
    assert_eq!(
        host.states()[0].generation,
        3,
        "the refused one was loaded too"
    );
    assert_eq!(login(&lobby(&host), "Steve").await, Ok(()));
}

/// Only the content that was tried is loaded: another content is refused.
#[tokio::test]
async fn another_content_than_the_tried_one_is_refused() {
    let tried = |content: &[u8]| Spec {
        content: Some(infrarust::config::plugin_file::sha256(content)),
        ..spec("a", sample(), "tag = 'a'")
    };
    let problem = refused(tried(b"another build"));
    assert!(matches!(problem.kind, ProblemKind::Changed), "{problem}");
    let (host, _folder) = load(vec![tried(&std::fs::read(sample()).unwrap())]);
    assert_eq!(host.states()[0].generation, 1);
    // It is not a setting: the same plugin goes on without it.
    host.reload(vec![spec("a", sample(), "tag = 'a'")], None)
        .unwrap();
    assert_eq!(host.states()[0].generation, 1);
}

/// Overwriting the file of a loaded plugin has no effect, and the number of loads of one
/// plugin is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_sealed_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libsample.so");
    std::fs::copy(sample(), &path).unwrap();
    let (host, _data) = load(vec![spec("many", &path, "tag = '1'")]);
    let hooks = lobby(&host);
    std::fs::write(&path, vec![0; 4096]).unwrap();
    assert_eq!(login(&hooks, "Steve").await, Ok(()));
    std::fs::copy(sample(), &path).unwrap();
    for number in 2..=32 {
        host.reload(
            vec![spec("many", &path, &format!("tag = '{number}'"))],
            None,
        )
        .unwrap();
    }
    let problems = host
        .reload(vec![spec("many", &path, "tag = '33'")], None)
        .unwrap_err();
    assert!(
        problems[0].to_string().contains("32 times"),
        "{}",
        problems[0]
    );
    let seen = lobby(&host).handshake_rewrite(&client("a"), "b").unwrap();
    assert_eq!(seen.as_deref(), Some("32.b"));
}
