//! `infrarust plugin inspect`, `verify` and `new` as commands: with correct plugins, with
//! broken ones, and with plugins that they have created.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use infrarust::diagnostic::Code;
use infrarust::manifest::Hook;
use infrarust::plugin::probe::{
    Answer, Findings, ProbeError, ProbeErrorKind, Request, Step, probe,
};
use serde_json::Value;

use infrarust_test_support::library::{self, build, sample};
use infrarust_test_support::{blocking_until, elf};

const PROGRAM: &str = env!("CARGO_BIN_EXE_infrarust");

/// Longer than a working plugin takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn infrarust(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .args(arguments)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn request(settings: &str) -> Request {
    Request {
        id: "sample".to_owned(),
        file: sample().to_owned(),
        document: settings.to_owned(),
        fire: true,
        ..Request::default()
    }
}

fn tried(settings: &str, patience: Duration) -> Result<Findings, Box<ProbeError>> {
    probe(Path::new(PROGRAM), &request(settings), patience)
}

// ------------------------------------------------------------------- inspect

/// `inspect` describes a plugin's file as text, and as JSON with the same content.
#[test]
fn inspect_describes_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let output = infrarust(folder.path(), &["plugin", "inspect", text(sample())]);
    let shown = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    let sha = infrarust::config::plugin_file::sha256(&std::fs::read(sample()).unwrap());
    let sha = infrarust::config::plugin_file::hex(&sha);
    for part in [
        "sample 1.2.3\nEvery hook, and every way to fail\n",
        "licence     MIT OR Apache-2.0\n",
        "wants       packet.inject\n",
        "compiler    rustc version 1.",
        "libc.so.6",
        " or newer; this system has 2.",
        "  zero_copy    runs: connection.decide, handshake.rewrite, status.respond, login.decide, \
         route.select, session.observe\n               no packet.inject: after the login start the \
         kernel moves the bytes",
        "under `[plugins.sample]`:\n",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(
        shown.ends_with(&format!("\nsha256 = \"{sha}\"\n")),
        "{shown}"
    );
    // Linkers and C compilers leave their names, too.
    assert!(!shown.contains("GCC"), "{shown}");

    let arguments = ["plugin", "inspect", text(sample()), "--format", "json"];
    let reported: Value =
        serde_json::from_str(&out(&infrarust(folder.path(), &arguments))).unwrap();
    assert_eq!(
        (&reported["name"], &reported["sha256"]),
        (&"sample".into(), &sha.into())
    );
    // All but the hooks that a forwarding mode cannot give.
    let hooks = Hook::ALL.iter().map(|hook| hook.name());
    let in_game = [
        "player.observe",
        "player.command",
        "packet.inspect",
        "packet.modify",
    ];
    let hooks: Vec<_> = hooks.filter(|name| !in_game.contains(name)).collect();
    assert_eq!(reported["hooks"], Value::from(hooks));
    assert_eq!(
        reported["modes"][1]["lacks"][0]["capability"],
        "packet.inject"
    );
    assert_eq!(reported["modes"][3]["lacks"].as_array().unwrap().len(), 0);
}

/// `inspect` refuses a file that is not a plugin, with the reason and a remedy. For a
/// plugin that runs in some modes only, it says in which modes it does not, and why.
#[test]
fn inspect_refuses_and_explains() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("text.so", b"text");
    write("plain.so", &elf::plugin(""));
    write("hub.so", &elf::plugin("needs: [ServerSwitch]"));
    for (file, why, help) in [
        (
            "text.so",
            "it is not a 64-bit ELF shared library",
            "crate-type = [\"cdylib\"]",
        ),
        (
            "plain.so",
            "it has no plugin manifest",
            "write `export_plugin!`",
        ),
        (
            "gone.so",
            "it cannot be read: there is no such file",
            "name the library",
        ),
    ] {
        let output = infrarust(folder.path(), &["plugin", "inspect", file]);
        let shown = err(&output);
        assert_eq!(output.status.code(), Some(1));
        let begin = format!("]: `{file}` is not a plugin for this proxy: {why}");
        assert!(shown.contains(&begin) && shown.contains(help), "{shown}");
        assert_eq!(out(&output), "");
        let json = infrarust(
            folder.path(),
            &["plugin", "inspect", file, "--format", "json"],
        );
        let reported: Value = serde_json::from_str(&out(&json)).unwrap();
        assert!(
            reported["error"].as_str().unwrap().starts_with(why),
            "{reported}"
        );
        assert_eq!(json.status.code(), Some(1));
    }
    let shown = out(&infrarust(folder.path(), &["plugin", "inspect", "hub.so"]));
    let passthrough = "  passthrough  does not run\n               no server.switch: after the login \
                       start the proxy only moves bytes";
    assert!(shown.contains(passthrough), "{shown}");
    assert!(
        shown.contains("  offline      runs: server.switch\n"),
        "{shown}"
    );
    assert!(shown.contains("compiler    not stated\n"), "{shown}");
}

// -------------------------------------------------------------------- verify

/// A working plugin is called at each hook, and its answers, its log and its end are
/// reported. The data of the trial is removed afterwards.
#[test]
fn a_working_plugin_passes_the_whole_trial() {
    let findings = tried("tag = 'a'", PATIENCE).unwrap();
    assert!(findings.is_good(), "{findings:?}");
    let said: Vec<_> = findings
        .fired
        .iter()
        .map(|fired| match &fired.answer {
            Answer::Said(said) => (fired.hook.as_str(), said.as_str()),
            Answer::Failed(why) => panic!("{}: {why}", fired.hook),
        })
        .collect();
    assert_eq!(said[0], ("connection.decide", "allow"));
    assert_eq!(said[1], ("handshake.rewrite", "host `a.play.example.com`"));
    assert!(said[2].0 == "status.respond" && said[2].1.starts_with("json `{\"a\":{"));
    assert_eq!(said[3], ("login.decide", "allow"));
    assert_eq!(said[4], ("route.select", "server `nowhere`"));
    assert_eq!(said[5..], [("session.observe", "heard"); 3]);
    let line = "INFO plugin::sample::infrarust_test_sample: started tag=\"a\" players=2";
    assert_eq!(findings.log, [line]);

    let only_started = Request {
        fire: false,
        ..request("tag = 'a'")
    };
    let findings = probe(Path::new(PROGRAM), &only_started, PATIENCE).unwrap();
    assert!(findings.is_good() && findings.fired.is_empty());

    let data = tempfile::tempdir().unwrap();
    let kept = Request {
        data_dir: Some(data.path().to_owned()),
        ..only_started
    };
    probe(Path::new(PROGRAM), &kept, PATIENCE).unwrap();
    let ended = std::fs::read_to_string(data.path().join("sample/ended"));
    assert_eq!(
        ended.unwrap(),
        "a",
        "it was dropped, in the folder that it was given"
    );
}

/// A plugin's error about its settings has its place in the document that the plugin got.
#[test]
fn a_refusal_has_its_place() {
    let document = "bind = 'x'\n[plugins.sample.config]\ntag = 'a'\nstart = 'place'\n";
    let path = ["plugins", "sample", "config"].map(str::to_owned);
    let request = Request {
        config_path: path.to_vec(),
        ..request(document)
    };
    let error = probe(Path::new(PROGRAM), &request, PATIENCE).unwrap_err();
    let ProbeErrorKind::Refused(problem) = error.kind else {
        panic!("{error}")
    };
    assert_eq!(problem.code, Code::PluginConfig);
    assert_eq!(problem.text, "that is not a start");
    assert_eq!(&document[problem.place.unwrap()], "'place'");
}

/// `verify` describes how a plugin ended its process, or that it did not end within the
/// given time.
#[test]
fn crashes_are_reported_in_words() {
    let cases = [
        ("panic", "it did not start: panicked: `no start today` at "),
        ("error", "it did not start: no database"),
        (
            "abort",
            "it was killed by SIGABRT (an abort, as after a panic that cannot be caught) while it \
             started",
        ),
        (
            "exit",
            "it ended the process with exit code 0 while it started",
        ),
    ];
    for (start, words) in cases {
        let error = tried(&format!("tag = 'a'\nstart = '{start}'"), PATIENCE).unwrap_err();
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(error.findings.started, None);
    }
    let late = tried("tag = 'a'\nstart = 'login'", PATIENCE).unwrap_err();
    assert!(
        late.to_string()
            .ends_with(" when it was asked at `login.decide`"),
        "{late}"
    );
    assert_eq!(
        late.findings.fired.len(),
        3,
        "what it answered before is known"
    );

    let other = Request {
        content: Some([7; 32]),
        ..request("tag = 'a'")
    };
    let other = probe(Path::new(PROGRAM), &other, PATIENCE).unwrap_err();
    assert_eq!(other.to_string(), "its file changed while it was loaded");

    let begin = Instant::now();
    // It has to come to its start first, which may take longer on a slow machine.
    let mut time = Duration::from_millis(500);
    let hanging = loop {
        let hanging = tried("tag = 'a'\nstart = 'hang'", time).unwrap_err();
        let text = format!("it did not come back within {time:?} while it started");
        if hanging.to_string() == text {
            break hanging;
        }
        time *= 4;
        assert!(time < PATIENCE, "{hanging}");
    };
    assert!(matches!(
        &hanging.kind,
        ProbeErrorKind::TooSlow {
            step: Step::Start,
            ..
        }
    ));
    assert!(begin.elapsed() < PATIENCE, "the child was killed");
}

/// A parent that ignores `SIGCHLD`, as some supervisors do, passes that on. Plugins can
/// still be tried.
#[test]
fn an_ignored_sigchld_of_the_parent_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.toml"), "tag = 'a'").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["plugin", "verify", text(sample()), "--config", "s.toml"]);
    let asked = Instant::now();
    let output = command.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
}

/// With a data folder the plugin runs with its own folder in it.
#[test]
fn verify_takes_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("plugins/live")).unwrap();
    let verify = |data: &str| {
        let file = text(sample());
        let arguments = ["plugin", "verify", file, "--data-folder", data];
        std::fs::write(folder.path().join("s.toml"), "tag = 'a'").unwrap();
        let arguments = [&arguments[..], &["--config", "s.toml", "--timeout", "120s"]].concat();
        infrarust(folder.path(), &arguments)
    };
    let good = verify("plugins/live");
    assert!(good.status.success(), "{}{}", out(&good), err(&good));
    assert!(out(&good).contains("INFO plugin::live::"), "{}", out(&good));
    for bad in ["plugins/gone", "s.toml", "/"] {
        let refused = verify(bad);
        assert_eq!(refused.status.code(), Some(1), "{bad}");
        assert!(
            err(&refused).contains("the data folder"),
            "{}",
            err(&refused)
        );
    }
}

/// The command shows all results, points into the file with the settings, and has a
/// reliable exit code.
#[test]
fn verify_shows_all_results() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |settings: &str| {
        std::fs::write(folder.path().join("s.toml"), settings).unwrap();
        let file = text(sample());
        infrarust(
            folder.path(),
            &[
                "plugin",
                "verify",
                file,
                "--config",
                "s.toml",
                "--timeout",
                "120s",
            ],
        )
    };
    let good = verify("tag = 'a'");
    let shown = out(&good);
    assert!(good.status.success(), "{shown}{}", err(&good));
    assert!(shown.starts_with("sample 1.2.3 started in "), "{shown}");
    assert!(
        shown.contains("asked as on a `passthrough` server\n"),
        "{shown}"
    );
    assert!(shown.contains("  ok      login.decide (Steve) "), "{shown}");
    assert!(shown.contains("\nended cleanly in "), "{shown}");
    assert!(
        shown.contains("\nits log\n  INFO plugin::sample::"),
        "{shown}"
    );
    assert!(shown.ends_with("\nall went well\n"), "{shown}");

    for settings in ["tag = 'a'\nstart = 'exit'", "tag = 'a'\nstart = 'abort'"] {
        let bad = verify(settings);
        assert_eq!(bad.status.code(), Some(1));
        assert!(err(&bad).contains(" does not work: it "), "{}", err(&bad));
    }
    let bad_host = verify("tag = 'a b'");
    let shown = out(&bad_host);
    assert!(
        shown.contains("  FAILED  handshake.rewrite (play.example.com) "),
        "{shown}"
    );
    assert!(shown.contains("  ok      login.decide (Steve) "), "{shown}");
    assert_eq!(bad_host.status.code(), Some(1));
    let refused = verify("tag = 'a'\nstart = 'x'");
    assert_eq!(
        err(&refused),
        "\nerror[plugin-config]: the plugin refuses its settings: that is not a start\n --> s.toml:2:9\n  \
         |\n2 | start = 'x'\n  |         ^^^\n  |\n  = help: correct the settings; the plugin's \
         documentation says which it knows\n"
    );
    let none = infrarust(folder.path(), &["plugin", "verify", text(sample())]);
    assert!(err(&none).contains("missing field `tag`"), "{}", err(&none));
    std::fs::write(folder.path().join("no.so"), "text").unwrap();
    let shown = err(&none);
    assert!(
        shown.contains("help: correct its settings, and name their file with `--config`"),
        "{shown}"
    );
    let no_plugin = infrarust(folder.path(), &["plugin", "verify", "no.so"]);
    assert!(
        err(&no_plugin).contains("`no.so` is not a plugin for this proxy: it is not a 64-bit ELF"),
        "{}",
        err(&no_plugin)
    );
    assert_eq!(no_plugin.status.code(), Some(1));
}

/// In a trial the sample player is in the game: services reach the player until the player
/// has left, and each answer shows what was sent.
#[test]
fn verify_has_a_player_for_services() {
    let folder = tempfile::tempdir().unwrap();
    let library = build("tests/plugins/players", "infrarust_test_players");
    let events = folder.path().join("events");
    let send = "['chat hi', 'title hi', 'backend 0', 'transfer example.com', 'kick bye']";
    let settings = format!("events = {events:?}\nsend = {send}\n");
    std::fs::write(folder.path().join("s.toml"), settings).unwrap();
    let arguments = ["plugin", "verify", text(&library), "--config", "s.toml"];
    let output = infrarust(folder.path(), &arguments);
    let shown = out(&output);
    assert!(output.status.success(), "{shown}{}", err(&output));
    // A title is three packets. The sample player has 1.21.
    let joined = "heard; 5 packets to the client, 1 packet to the backend, 1 kick\n";
    assert!(shown.contains(joined), "{shown}");
    assert!(shown.contains("  heard\n"), "{shown}");
    let events = std::fs::read_to_string(events).unwrap();
    assert!(
        events.contains("Joined Steve 5627dd98e6be3c21b8a8e92344183641 true: Profile"),
        "{events}"
    );
    assert!(!events.contains("not sent"), "{events}");
    assert!(events.ends_with("the player has left\n"), "{events}");
}

fn unruly() -> &'static Path {
    static UNRULY: OnceLock<PathBuf> = OnceLock::new();
    UNRULY.get_or_init(|| build("tests/plugins/unruly", "infrarust_test_unruly"))
}

fn try_unruly(way: &str) -> Result<Findings, Box<ProbeError>> {
    let request = Request {
        id: "unruly".to_owned(),
        file: unruly().to_owned(),
        document: format!("way = {way:?}"),
        fire: true,
        ..Request::default()
    };
    probe(Path::new(PROGRAM), &request, PATIENCE)
}

/// A slow end, a panic at the end and tasks that do not end have different reports.
#[test]
fn failures_at_the_end_have_different_reports() {
    for (way, said) in [
        // Five seconds, and more on a busy machine.
        ("slow", "its drop took "),
        ("stuck", "it has tasks that did not end within 5 s"),
        ("panics", "while it ended it panicked: `no end` at "),
    ] {
        let findings = try_unruly(way).unwrap();
        assert!(!findings.is_good(), "{way}");
        let troubles = &findings.troubles;
        let last = troubles.last().unwrap();
        assert!(last.starts_with(said), "{way}: {troubles:?}");
    }
}

/// Hooks that were not called are counted. `verify` also calls the hooks of a quarantined
/// plugin.
#[test]
fn hooks_that_were_not_called_are_counted() {
    let late = tried("tag = 'a'\nstart = 'login'", PATIENCE).unwrap_err();
    assert_eq!(late.findings.unasked, ["route.select", "session.observe"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.toml"), "tag = 'a'\nstart = 'login'").unwrap();
    let arguments = ["plugin", "verify", text(sample()), "--config", "s.toml"];
    let shown = out(&infrarust(folder.path(), &arguments));
    let counted = "  FAILED  2 of 6 hooks were never asked: route.select, session.observe\n";
    assert!(shown.contains(counted), "{shown}");
}

/// Processes that a plugin has started end with its trial, also in a session of their own,
/// and nothing of the trial is left in this process.
#[test]
fn a_trial_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let request = Request {
        id: "unruly".to_owned(),
        file: unruly().to_owned(),
        document: "way = 'children'".to_owned(),
        data_dir: Some(data.path().to_owned()),
        ..Request::default()
    };
    let begin = Instant::now();
    probe(Path::new(PROGRAM), &request, PATIENCE).unwrap();
    assert!(begin.elapsed() < PATIENCE);
    let children = std::fs::read_to_string(data.path().join("unruly/children")).unwrap();
    for pid in children.split(' ') {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is alive");
    }
    // Other tests have trials meanwhile, which begin and end, too.
    let is_of_trial = |thread: &PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm"));
        name.is_ok_and(|name| name.starts_with("probe-"))
    };
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let threads: Vec<_> = threads.map(|thread| thread.path()).collect();
    let threads: Vec<_> = threads.into_iter().filter(is_of_trial).collect();
    blocking_until("the threads of the trial to end", || {
        !threads.iter().any(is_of_trial)
    });
}

/// `check --deep` gives a plugin a copy of its data, and does not change the data.
#[test]
fn a_deep_check_does_not_change_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let plugin = |id: &str, way: &str| {
        let file = unruly();
        format!("[plugins.{id}]\npath = {file:?}\n[plugins.{id}.config]\nway = {way:?}\n")
    };
    write(
        "infrarust.toml",
        &(plugin("seen", "data") + &plugin("new", "")),
    );
    let server = "domains = ['*']\naddresses = ['127.0.0.1:1']\nproxy_mode = 'zero_copy'\n";
    write("servers/a.toml", server);
    write("plugins/seen/deep/seed", "as it was");
    let checked = infrarust(folder.path(), &["check", "--deep"]);
    assert!(checked.status.success(), "{}", err(&checked));
    let data = folder.path().join("plugins");
    let seed = std::fs::read_to_string(data.join("seen/deep/seed"));
    assert_eq!(seed.unwrap(), "as it was");
    for made in ["seen/new", "new"] {
        assert!(!data.join(made).exists(), "{made} was made");
    }
    // It was the data that let it start.
    std::fs::remove_file(data.join("seen/deep/seed")).unwrap();
    let checked = infrarust(folder.path(), &["check", "--deep"]);
    assert_eq!(checked.status.code(), Some(1));
}

// ----------------------------------------------------------------------- new

fn cargo(folder: &Path, target: &Path, arguments: &[&str]) {
    let output = library::cargo()
        .current_dir(folder)
        .args(arguments)
        .args(["--quiet", "--offline", "--target-dir"])
        .arg(target)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}{}",
        out(&output),
        err(&output)
    );
}

/// What `plugin new` writes with these arguments, of which the first is the name. It is
/// formatted, and uses the versions of other crates that are surely there.
fn new_plugin(folder: &Path, arguments: &[&str]) -> PathBuf {
    let output = infrarust(folder, &[&["plugin", "new"][..], arguments].concat());
    assert!(output.status.success(), "{}", err(&output));
    let made = folder.join(arguments[0]);
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    std::fs::copy(lock, made.join("Cargo.lock")).unwrap();
    let mut rustfmt = Command::new("rustfmt");
    rustfmt
        .args(["--check", "--edition", "2024"])
        .arg(made.join("src/lib.rs"));
    let formatted = rustfmt.output().unwrap();
    assert!(
        formatted.status.success(),
        "{arguments:?}: {}",
        out(&formatted)
    );
    made
}

/// The crate of `plugin new` for each hook is formatted, passes its tests, builds, is a
/// plugin, and works with its own settings.
#[test]
fn new_plugins_build_and_work() {
    let folder = tempfile::tempdir().unwrap();
    let target = library::target();
    for hook in Hook::ALL {
        let name = format!("my-{}", hook.name().replace('.', "_"));
        let made = new_plugin(folder.path(), &[&name, "--hook", hook.name()]);
        cargo(&made, &target, &["test"]);
        cargo(&made, &target, &["build"]);

        let library: PathBuf = target.join(format!("debug/lib{}.so", name.replace('-', "_")));
        let reported = infrarust(&made, &["plugin", "inspect", text(&library)]);
        let begin = format!("{name} 0.1.0\n");
        assert!(
            out(&reported).starts_with(&begin),
            "{}{}",
            out(&reported),
            err(&reported)
        );
        let verify = [
            "plugin",
            "verify",
            text(&library),
            "--config",
            "config.toml",
        ];
        let verified = infrarust(&made, &verify);
        let shown = out(&verified);
        assert!(verified.status.success(), "{shown}{}", err(&verified));
        assert!(shown.contains(&format!("  ok      {hook} (")), "{shown}");
    }
}

/// The crate of `plugin new --bare` for each hook is formatted and compiles, as a plugin
/// and with its tests.
#[test]
fn bare_plugins_compile() {
    let folder = tempfile::tempdir().unwrap();
    let target = library::target();
    for hook in Hook::ALL {
        let name = format!("bare-{}", hook.name().replace('.', "_"));
        let made = new_plugin(folder.path(), &[&name, "--bare", "--hook", hook.name()]);
        cargo(&made, &target, &["check", "--all-targets"]);
    }
}

/// Invalid names, folders with something in them, and folders that are not `plugin-api` are
/// refused, and nothing is written.
#[test]
fn new_refuses_without_leaving_anything() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("there")).unwrap();
    std::fs::write(folder.path().join("there/file"), "").unwrap();
    for (arguments, why) in [
        (
            &["../gate"][..],
            "`../gate` cannot be the name of a plugin: a name consists of",
        ),
        (
            &["my.gate"],
            "`my.gate` cannot be the name of a plugin: the name of a crate has no dots",
        ),
        (&["match"], "a crate cannot have this name"),
        (&["there"], "there already is something at `there`"),
        (
            &["gate", "--path", "no/parent"],
            "`no/parent` cannot be written",
        ),
        (
            &["gate", "--api-path", "there"],
            "`there` is not the crate `infrarust-plugin-api`",
        ),
        (
            &["gate", "--hook", "packet.inject"],
            "[possible values: connection.decide,",
        ),
    ] {
        let output = infrarust(folder.path(), &[&["plugin", "new"][..], arguments].concat());
        assert!(
            !output.status.success() && err(&output).contains(why),
            "{}",
            err(&output)
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let api = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin-api");
    let arguments = [
        "plugin",
        "new",
        "gate",
        "--path",
        "there/gate",
        "--api-path",
        text(&api),
    ];
    let output = infrarust(folder.path(), &arguments);
    assert!(
        out(&output).contains("[plugins.gate]\n[plugins.gate.config]\n"),
        "{}",
        err(&output)
    );
    let manifest = std::fs::read_to_string(folder.path().join("there/gate/Cargo.toml")).unwrap();
    assert!(
        manifest.contains(&format!("{{ path = \"{}\" }}", text(&api))),
        "{manifest}"
    );
}
