//! Plugins that end or disturb the process outside of their answers. The proxy reports
//! their names, and continues if it can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;

use crate::library::build;
use crate::program::Program;
use crate::support::{FakeBackend, FakeClient, server, within};

fn unruly() -> &'static Path {
    static UNRULY: OnceLock<PathBuf> = OnceLock::new();
    UNRULY.get_or_init(|| build("tests/plugins/unruly", "infrarust_test_unruly"))
}

/// A deadline that passes in no test.
const LATE: &str = "1h";

fn table(file: &Path, way: &str) -> String {
    format!(
        "bind = \"127.0.0.1:0\"\n[plugins.p]\npath = {file:?}\ndeadline = {LATE:?}\n\
         [plugins.p.config]\nway = {way:?}\n"
    )
}

/// Starts the program; what it prints on standard error goes into a pipe.
fn start(global: &str, servers: &[(&str, String)]) -> Program {
    Program::start_with(global, servers, |command| {
        command.stderr(Stdio::piped());
    })
}

/// Waits for the end of the program. Returns how it ended, and the last line that names a
/// plugin.
async fn end(program: &mut Program) -> (Option<i32>, String) {
    let mut stderr = program.child.stderr.take().unwrap();
    let code = program.exit_code().await;
    let mut text = String::new();
    within("the crash report", stderr.read_to_string(&mut text))
        .await
        .unwrap();
    let named = |line: &&str| line.starts_with("plugin `");
    (code, text.lines().find(named).unwrap_or(&text).to_owned())
}

/// Constructors of a library and destructors at the end of a start's thread can end the
/// process; the plugin is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ends_the_proxy_at_its_start_is_named() {
    let files = [(
        "a",
        server("zero_copy", "*", ([127, 0, 0, 1], 1).into(), ""),
    )];
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(unruly()).unwrap();
    let key = b"UNRULY-INIT=";
    let at = good.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    let patched = |which: u8| {
        let mut bytes = good.clone();
        bytes[at] = which;
        let file = folder.path().join(format!("{}.so", char::from(which)));
        fs::write(&file, bytes).unwrap();
        file
    };
    for (file, way, code, place) in [
        (
            patched(b'a'),
            "",
            None,
            "the constructors of its library: SIGABRT",
        ),
        (
            patched(b'e'),
            "",
            Some(1),
            "the constructors of its library: ended the process",
        ),
        (
            unruly().to_owned(),
            "variable",
            None,
            "the end of its thread: SIGABRT",
        ),
    ] {
        let mut program = start(&table(&file, way), &files);
        let (exit, said) = end(&mut program).await;
        let wanted = format!("plugin `p` took the proxy with it in {place}");
        assert_eq!((exit, said), (code, wanted));
    }
}

/// A plugin can end the process when a cancelled future or a task is dropped, and in
/// threads of its own; it is named. `exit(0)` counts as a failure of the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ends_the_proxy_outside_of_hooks_is_named() {
    let files = [(
        "a",
        server("zero_copy", "*", ([127, 0, 0, 1], 1).into(), ""),
    )];
    let own = "a thread of its own, or the end of a thread";
    for (name, deadline, code, place) in [
        (
            "DropAbort",
            "300ms",
            None,
            "login.decide: SIGABRT".to_owned(),
        ),
        ("TaskDrop", LATE, None, "a task: SIGABRT".to_owned()),
        ("Exit", LATE, Some(1), format!("{own}: ended the process")),
        ("Variable", LATE, None, format!("{own}: SIGABRT")),
    ] {
        let global = table(unruly(), "").replace(LATE, deadline);
        let mut program = start(&global, &files);
        let proxy = program.address().await;
        let _client = FakeClient::login(proxy, "x", name).await;
        let (exit, said) = end(&mut program).await;
        let wanted = format!("plugin `p` took the proxy with it in {place}");
        assert_eq!((exit, said), (code, wanted), "{name}");
    }
}

/// A replaced plugin that does not end is named after a while. A proxy that ends without
/// waiting for it names it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_end_is_named() {
    let files = [(
        "a",
        server("zero_copy", "*", ([127, 0, 0, 1], 1).into(), ""),
    )];
    let mut program = start(&table(unruly(), "hangs"), &files);
    program.line("ready").await;
    let config = program.folder.path().join("infrarust.toml");
    let without = "bind = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n";
    fs::write(&config, without).unwrap();
    program.signal(Signal::SIGHUP);
    let reported = program
        .line_with("plugin `p` does not end: its end took ")
        .await;
    assert_eq!(
        (&reported["plugin"], &reported["hook"]),
        (&"p".into(), &"its end".into())
    );
    fs::write(program.folder.path().join("plugins/p/open"), "").unwrap();
    program.line_with("plugin `p` has ended at last: ").await;
}

/// If a plugin changes the working directory, the umask and the environment, the proxy
/// still uses its own files.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_cannot_change_the_folder_of_the_proxy() {
    let backend = FakeBackend::start().await;
    let secret = "forwarding_mode = \"bungeeguard\"\n\
                  forwarding_secret = { env = \"UNRULY_SECRET\" }\n";
    let global = table(unruly(), "moves");
    let files = [(
        "a",
        server("zero_copy", "a.example.com", backend.address, secret),
    )];
    let mut program = Program::start_in_its_folder(&global, &files, |command| {
        command.env("UNRULY_SECRET", "between us");
    });
    let proxy = program.address().await;
    program.line("ready").await;
    let more = server("zero_copy", "b.example.com", backend.address, "");
    fs::write(program.server_file("b.toml"), more).unwrap();
    let applied = program.line("configuration reloaded").await;
    assert_eq!(applied["added"], "[\"b\"]");
    let _client = FakeClient::login(proxy, "b.example.com", "Steve").await;
    backend.accept_login().await;
    // A whole reload, with a trial of the plugin, reads the secret again.
    let config = program.folder.path().join("infrarust.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(LATE, "2h")).unwrap();
    program.signal(Signal::SIGHUP);
    let applied = program
        .line_among(&["configuration reloaded", "reload refused"])
        .await;
    assert_eq!(applied, "configuration reloaded");
}
