//! The lives of plugins from their start to their end: what they leave behind, what they
//! drop, and how much they can log.

use super::*;

pub(super) fn unruly() -> &'static Path {
    static UNRULY: OnceLock<PathBuf> = OnceLock::new();
    UNRULY.get_or_init(|| build("tests/plugins/unruly", "infrarust_test_unruly"))
}

fn way(way: &str) -> Spec {
    spec("unruly", unruly(), &format!("way = '{way}'"))
}

fn metric(host: &PluginHost, name: &str) -> Option<i128> {
    let metrics = host.metrics();
    let found = metrics.iter().find(|metric| metric.name == name);
    found.map(|metric| metric.value)
}

/// A failed start is reported with its reason, and the tasks that it has started end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_start_leaves_no_task() {
    let folder = tempfile::tempdir().unwrap();
    let host = PluginHost::new(environment(folder.path()));
    let problems = host.reload(vec![way("tasks")], None).unwrap_err();
    let text = problems[0].kind.to_string();
    assert_eq!(text, "it did not start: no database");
    host.ended().await;
    assert!(host.unended().is_empty());
    let count = metric(&host, "alive");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(metric(&host, "alive"), count, "the task ticks");
}

/// A cancelled future that blocks its worker while it is dropped is reported, and others
/// are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_that_blocks_a_worker_is_reported() {
    let specs = vec![way(""), spec("sample", sample(), "tag = 'a'")];
    let (host, folder) = load(specs);
    let host = Arc::new(host);
    let held = host.hooks(["unruly"], Mode::ZeroCopy);
    let held = tokio::spawn(async move { login(&held, "DropHold").await });
    eventually("the watchdog to count it", || {
        host.states()[0].counts.stalls == 1
    })
    .await;
    let others = host.hooks(["sample"], Mode::ZeroCopy);
    assert_eq!(text(login(&others, "Wait").await), "waited");
    assert!(!held.is_finished());
    std::fs::write(folder.path().join("unruly/open"), "").unwrap();
    assert!(held.await.unwrap().unwrap_err().is_failure);
    assert_eq!(host.states()[0].counts.overruns, 1);
}

/// A panic in the drop of a future is counted for its hook, with its text.
#[tokio::test]
async fn a_panic_in_a_drop_is_counted() {
    let (lines, _guard) = hostile::Lines::collect("warn");
    let (host, _folder) = load(vec![way("")]);
    assert!(login(&lobby(&host), "DropPanic").await.is_err());
    let text = lines.text();
    let said = "plugin `unruly`: panicked: `in the drop` at tests/plugins/unruly/src/lib.rs:";
    assert!(text.contains(said), "{text}");
    assert!(text.contains(" while it was dropped"), "{text}");
    let state = &host.states()[0];
    assert_eq!((state.counts.panics, state.counts.overruns), (1, 1));
}

/// The text of a caught panic does not appear in another failure, and failures of one kind
/// do not hide those of another in the same second.
// What answers does so before any time passes.
#[tokio::test(start_paused = true)]
async fn each_failure_has_its_own_text() {
    let (lines, _guard) = hostile::Lines::collect("warn");
    let fast = Spec {
        deadline: Some(Duration::from_millis(10)),
        ..way("")
    };
    let (host, _folder) = load(vec![fast]);
    let hooks = lobby(&host);
    for name in ["Never", "Never", "Error", "Rethrow"] {
        assert!(login(&hooks, name).await.unwrap_err().is_failure, "{name}");
    }
    let text = lines.text();
    for said in [
        "it did not answer within its deadline of 10 ms",
        "plugin `unruly`: no answer",
        // Without a place: the hook has not seen this one.
        "plugin `unruly`: panicked: `the second` plugin=\"unruly\"",
    ] {
        assert_eq!(text.matches(said).count(), 1, "{said}: {text}");
    }
    assert!(!text.contains("the first"), "{text}");
}

/// Of a plugin that floods the log some hundred lines are written, and the log has the
/// number of lines left out.
#[tokio::test(start_paused = true)]
async fn a_flood_of_lines_is_cut_and_counted() {
    let (lines, _guard) = hostile::Lines::collect("warn,plugin=info");
    let (host, _folder) = load(vec![way("")]);
    assert_eq!(login(&lobby(&host), "Flood").await, Ok(()));
    assert_eq!(lines.text().matches("a line").count(), 500);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let text = lines.text();
    let said = "plugin `unruly` logs too much: of more than 500 lines in 10 s the rest is left out \
                plugin=\"unruly\" left_out=1500";
    assert_eq!(
        text.matches(said).count(),
        1,
        "{}",
        &text[text.len() - 500..]
    );
}

/// A plugin that gets the opened event of a session also gets its closed event, during a
/// quarantine and after one. It gets no event of a session that opened during a quarantine.
#[tokio::test]
async fn every_session_that_opened_is_closed() {
    let (host, _folder) = load(vec![way("")]);
    let hooks = lobby(&host);
    let lobby = client("a");
    let player = Player {
        name: "Steve",
        uuid: None,
        is_proved: false,
    };
    let tell = |session: &mut Session, event| {
        hooks.session_observe(&lobby, &player, session, event);
    };
    let closed = SessionEvent::Closed {
        reason: "client left",
        serverbound_bytes: 1,
        clientbound_bytes: 1,
        duration: Duration::from_secs(1),
    };
    let [mut during, mut across, mut within] = [1, 2, 3].map(Session::new);
    tell(&mut during, SessionEvent::Opened);
    tell(&mut across, SessionEvent::Opened);
    for _ in 0..5 {
        assert!(login(&hooks, "Panic").await.is_err());
    }
    assert!(host.states()[0].is_quarantined);
    tell(&mut within, SessionEvent::Opened);
    tell(&mut during, closed);
    let counts = || (metric(&host, "opened"), metric(&host, "closed"));
    assert_eq!(counts(), (Some(2), Some(1)));
    assert!(host.resume("unruly"));
    tell(&mut across, closed);
    tell(&mut within, closed);
    assert_eq!(counts(), (Some(2), Some(2)));
}

/// Each generation can register all its metrics, whatever names earlier ones used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_have_separate_room_for_metrics() {
    let (host, _folder) = load(vec![way("metrics-a")]);
    for name in ["b", "c", "a"] {
        host.reload(vec![way(&format!("metrics-{name}"))], None)
            .unwrap();
        eventually("the one before to end", || host.unended().is_empty()).await;
        assert_eq!(metric(&host, &format!("{name}63")), Some(1));
    }
    assert!(host.metrics().len() <= 128, "{}", host.metrics().len());
    // It has no room for what it counts of sessions, and the log says so once.
    let (lines, _guard) = hostile::Lines::collect("warn");
    for number in 0..3 {
        let mut session = Session::new(number);
        let player = Player {
            name: "Steve",
            uuid: None,
            is_proved: false,
        };
        lobby(&host).session_observe(&client("a"), &player, &mut session, SessionEvent::Opened);
    }
    let said = "plugin `unruly` gets no more than 64 metrics";
    assert_eq!(lines.text().matches(said).count(), 1, "{}", lines.text());
}

/// A plugin with its own busy runtime fails at once with its own text.
#[tokio::test]
async fn a_start_with_a_runtime_fails_with_its_own_text() {
    let file = build("tests/plugins/runtime", "infrarust_test_runtime");
    let begin = Instant::now();
    let problem = refused(spec("timed", &file, "start = 'fails'"));
    assert_eq!(problem.kind.to_string(), "it did not start: no database");
    assert!(begin.elapsed() < Duration::from_secs(10));
}
