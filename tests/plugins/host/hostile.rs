//! Plugins that break the rules, while they are loaded and while they run. The proxy and
//! the other players continue, and the log names the plugin.

use super::*;

pub(super) fn hostile() -> &'static Path {
    static HOSTILE: OnceLock<PathBuf> = OnceLock::new();
    HOSTILE.get_or_init(|| build("tests/plugins/hostile", "infrarust_test_hostile"))
}

/// The lines that are logged on this thread until the guard is dropped.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(super) fn collect(filter: &str) -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// An invalid answer is a failure of the plugin: the host stays unchanged, each failure is
/// counted, and the log describes it.
#[tokio::test]
async fn answers_are_checked() {
    let cases = [
        ("utf8", "it chose a host with `\\u{fffd}`"),
        ("null", "it chose an empty host"),
        (
            "endless",
            "its answer has 18446744073709551615 bytes, and at most 255 are taken",
        ),
        (
            "huge",
            "its answer has 67108864 bytes, and at most 255 are taken",
        ),
        (
            "code",
            "it gave the answer 77, which this hook does not know",
        ),
        (
            "status",
            "it returned the status 12345, which means nothing here",
        ),
        (
            "pending",
            "it returned the status 1, which means nothing here",
        ),
        ("panic", "it did not say why"),
        ("both", "no"),
        ("silent", "it did not say why"),
    ];
    for (case, said) in cases {
        let (lines, _guard) = Lines::collect("warn");
        let (host, _folder) = load(vec![spec("hostile", hostile(), "")]);
        let hooks = lobby(&host);
        let asked = hooks.handshake_rewrite(&client(case), "backend");
        assert_eq!(asked, Ok(None), "{case}");
        let text = lines.text();
        assert!(text.contains("plugin `hostile`: "), "{case}: {text}");
        assert!(text.contains(said), "{case}: {text}");
        let counts = host.states()[0].counts;
        let failures = counts.bad_answers + counts.errors + counts.panics;
        assert_eq!((counts.calls, failures), (1, 1), "{case}");
    }
    let (host, _folder) = load(vec![spec("hostile", hostile(), "")]);
    let hooks = lobby(&host);
    let twice = hooks.handshake_rewrite(&client("twice"), "backend");
    assert_eq!(twice, Ok(Some("third".to_owned())), "the last one counts");
}

/// An error text of any length and any bytes becomes one log line, shortened and with its
/// control characters escaped.
#[tokio::test]
async fn error_texts_are_shortened_and_escaped() {
    let (lines, _guard) = Lines::collect("warn");
    let (host, _folder) = load(vec![spec("hostile", hostile(), "")]);
    let asked = lobby(&host).handshake_rewrite(&client("essay"), "b");
    assert_eq!(asked, Ok(None));
    let text = lines.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 8000, "{} bytes", text.len());
    assert!(!text.contains(['\u{1b}', '\0']));
}

/// Invalid futures, and futures that always wake themselves, end at the deadline or at
/// once, and others are served.
#[tokio::test]
async fn futures_are_checked() {
    let (lines, _guard) = Lines::collect("warn");
    let (host, _folder) = load(vec![
        spec("hostile", hostile(), ""),
        spec("sample", sample(), "tag = 'a'"),
    ]);
    let only = |id: &str| host.hooks([id], Mode::ZeroCopy);
    let (bad, good) = (only("hostile"), only("sample"));
    for name in ["Nothing", "Small", "NoPoll"] {
        assert!(login(&bad, name).await.unwrap_err().is_failure, "{name}");
    }
    // Beside each other, since the log has one line a second.
    let asked = async { tokio::join!(login(&bad, "Wake"), login(&bad, "Keep")) };
    let ((wake, keep), other) = tokio::join!(asked, login(&good, "Wait"));
    assert!(wake.unwrap_err().is_failure && keep.unwrap_err().is_failure);
    assert_eq!(text(other), "waited");
    let counts = host.states()[0].counts;
    assert_eq!((counts.bad_answers, counts.overruns), (3, 2));
    // One line a second for each kind of failure, and the rest is counted.
    for first in ["it has no function for this", "it did not answer within"] {
        let first = format!("plugin `hostile`: {first}");
        assert_eq!(lines.text().matches(&first).count(), 1, "{}", lines.text());
    }
    assert_eq!(lines.text().matches("plugin `hostile`").count(), 2);
    for _ in 0..20 {
        assert_eq!(login(&bad, "Leak").await, Ok(()));
    }
    // The kept waker is used after its task is gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(login(&good, "Steve").await, Ok(()));
}

/// Services refuse null pointers.
#[tokio::test]
async fn services_check_their_arguments() {
    let (lines, _guard) = Lines::collect("warn");
    let (host, _folder) = load(vec![spec("hostile", hostile(), "")]);
    let asked = login(&lobby(&host), "Services").await;
    assert_eq!(asked, Ok(()), "{}", lines.text());
}

/// A start fails if it returns no instance, garbage or an unknown status.
#[tokio::test]
async fn a_start_is_checked() {
    let cases = [
        (
            "nothing",
            "it did not start: it was created without an instance",
        ),
        (
            "garbage",
            "it did not start: \u{fffd}\u{fffd}\\u{1b}[31m\\nplugin `other`: all is well",
        ),
        (
            "other",
            "it did not start: it returned the status -77, which means nothing here",
        ),
    ];
    for (document, why) in cases {
        let problem = refused(spec("hostile", hostile(), document));
        assert_eq!(problem.kind.to_string(), why);
    }
}

/// An entry is read field by field up to its size, and so are its tables.
#[tokio::test]
async fn entries_are_checked() {
    let good = std::fs::read(hostile()).unwrap();
    let key = b"HOSTILE-ENTRY=0";
    let at = good.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (b'1', "its entry is not an address"),
        (b'2', "its entry is not an address"),
        (b'3', "its entry is not a table of this plugin API"),
        (b'4', "its entry is not a table of this plugin API"),
        (b'7', "its plugin table is too small"),
        (b'8', "its plugin table is too small"),
        (
            b'9',
            "its table of hooks is too small for `handshake.rewrite`",
        ),
        (
            b'a',
            "its table of hooks is too small for `handshake.rewrite`",
        ),
        (b'd', "its table of hooks is missing or too long"),
        (b'f', "its table of hooks is missing or too long"),
    ];
    let patched = |which: u8| {
        let mut bytes = good.clone();
        bytes[at] = which;
        files::write(folder.path(), &bytes)
    };
    let why = |which: u8| {
        let problem = refused(spec("hostile", &patched(which), ""));
        problem.kind.to_string()
    };
    for (which, said) in cases {
        let said = format!("it cannot be loaded: {said}");
        assert_eq!(why(which), said, "{}", char::from(which));
    }
    let lies = [
        (b'5', "the plugin API: 0.1 and 0.2"),
        (
            b'6',
            "hooks: handshake.rewrite, login.decide and handshake.rewrite",
        ),
        (
            b'b',
            "hooks: handshake.rewrite and no table of version 1 for it",
        ),
        (
            b'c',
            "hooks: handshake.rewrite and no table of version 1 for it",
        ),
    ];
    for (which, said) in lies {
        let said = format!("its manifest and its code disagree about {said}");
        assert_eq!(why(which), said, "{}", char::from(which));
    }
    // A table without its function is found when it is asked.
    let (host, _folder) = load(vec![spec("hostile", &patched(b'e'), "")]);
    let asked = lobby(&host).handshake_rewrite(&client("a"), "b");
    assert_eq!(asked, Ok(None));
    assert_eq!(host.states()[0].counts.bad_answers, 1);
}
