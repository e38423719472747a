//! Reloads of a running proxy: each takes effect completely or not at all, and connected
//! players are not affected.

use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::program::Program;
use crate::support::{FakeBackend, FakeClient, server, within};

/// A server file for this host.
fn of(host: &str, backend: &FakeBackend) -> String {
    server("zero_copy", host, backend.address, "")
}

/// The program, once it accepts players, with a server file `a.toml` for `a.example.com`.
async fn start(backend: &FakeBackend) -> (Program, SocketAddr) {
    ready(Program::start("", &[("a", of("a.example.com", backend))])).await
}

async fn ready(mut program: Program) -> (Program, SocketAddr) {
    let address = program.address().await;
    program.line("ready").await;
    (program, address)
}

/// Writes one of the server files.
fn write(program: &Program, name: &str, text: &str) {
    fs::write(program.server_file(name), text).unwrap();
}

async fn joins(program_address: SocketAddr, host: &str, backend: &FakeBackend) {
    let _client = FakeClient::login(program_address, host, "Alice").await;
    assert_eq!(backend.accept_login().await.1.host, host);
}

async fn is_unknown(program_address: SocketAddr, host: &str) {
    let mut client = FakeClient::login(program_address, host, "Alice").await;
    assert_eq!(
        FakeClient::kick(&mut client).await,
        "No server is known under this address."
    );
}

/// Added, changed and removed files take effect without a command, the log names them, and
/// a running session continues.
#[tokio::test(flavor = "multi_thread")]
async fn server_files_are_followed() {
    let backend = FakeBackend::start().await;
    let (mut program, proxy) = start(&backend).await;
    let mut player = FakeClient::login(proxy, "a.example.com", "Alice").await;
    let (mut session, _, _) = backend.accept_login().await;

    write(
        &program,
        "b.toml",
        &server("passthrough", "b.example.com", backend.address, ""),
    );
    let line = program.line("configuration reloaded").await;
    assert_eq!(
        (&line["added"], &line["removed"]),
        (&"[\"b\"]".into(), &"[]".into())
    );
    joins(proxy, "b.example.com", &backend).await;

    // The way of editors: a new file beside the old one, renamed over it.
    let other = server("passthrough", "c.example.com", backend.address, "");
    write(&program, ".b.toml.swp", &other);
    fs::rename(
        program.server_file(".b.toml.swp"),
        program.server_file("b.toml"),
    )
    .unwrap();
    assert_eq!(
        program.line("configuration reloaded").await["changed"],
        "[\"b\"]"
    );
    joins(proxy, "c.example.com", &backend).await;
    is_unknown(proxy, "b.example.com").await;

    fs::remove_file(program.server_file("a.toml")).unwrap();
    assert_eq!(
        program.line("configuration reloaded").await["removed"],
        "[\"a\"]"
    );
    is_unknown(proxy, "a.example.com").await;

    player.send(b"still here").await;
    assert_eq!(session.bytes(10).await, b"still here");
    session.send(b"so am I").await;
    assert_eq!(player.bytes(7).await, b"so am I");
}

/// One file with a mistake refuses the whole reload, and the log has the place. After it is
/// corrected, all waiting changes take effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_keeps_the_old_configuration() {
    let backend = FakeBackend::start().await;
    let (mut program, proxy) = start(&backend).await;

    let conflict = server(
        "zero_copy",
        "b.example.com",
        backend.address,
        "network = \"main\"",
    );
    write(&program, "b.toml", &conflict);
    let refused = program.line_with("reload refused").await;
    let text = refused["message"].as_str().unwrap();
    for part in ["mode-conflict", "b.toml:4:1", "network", "1 error"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    joins(proxy, "a.example.com", &backend).await;
    is_unknown(proxy, "b.example.com").await;

    // Mended to what was in force: the log says that all is well again.
    fs::remove_file(program.server_file("b.toml")).unwrap();
    program.line_with("the files are valid again").await;
    write(&program, "b.toml", &conflict);
    program.line_with("reload refused").await;

    // A second file is written while the first is still wrong: nothing of it counts.
    write(&program, "c.toml", &of("c.example.com", &backend));
    let mended = of("b.example.com", &backend);
    write(&program, "b.toml", &mended);
    assert_eq!(
        program.line("configuration reloaded").await["added"],
        "[\"b\", \"c\"]"
    );
    joins(proxy, "c.example.com", &backend).await;
}

/// A copy of a server file that another program makes is ignored, and the log names it with
/// its original. The server does not change.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_server_file_is_left_out() {
    let backend = FakeBackend::start().await;
    let text = of("a.example.com", &backend);
    let (mut program, proxy) = start(&backend).await;
    // The first look at the folder compares with the start.
    program.signal(Signal::SIGHUP);
    program.line("reload: nothing has changed").await;

    let copy = "a.sync-conflict-20260101-120000-ABCDEFG.toml";
    write(&program, copy, &text);
    let line = program.line_with("the files say the same as before").await;
    let reported = line["message"].as_str().unwrap();
    assert!(
        reported.contains(copy) && reported.contains("a copy of `a.toml`"),
        "{reported}"
    );
    joins(proxy, "a.example.com", &backend).await;

    // Any other name is a second claim, which names both files.
    write(&program, "copy-of-a.toml", &text);
    let line = program.line_with("reload refused").await;
    let reported = line["message"].as_str().unwrap();
    for part in ["duplicate-domain", "a.toml", "copy-of-a.toml"] {
        assert!(reported.contains(part), "{reported}");
    }
    joins(proxy, "a.example.com", &backend).await;
}

/// `SIGHUP` also reloads the global file, and the log names keys that need a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_reloads_everything() {
    let backend = FakeBackend::start().await;
    let (mut program, proxy) = start(&backend).await;
    is_unknown(proxy, "x.example.com").await;

    program.signal(Signal::SIGHUP);
    program.line("reload: nothing has changed").await;

    let global = program.folder.path().join("infrarust.toml");
    fs::write(
        &global,
        "bind = \"127.0.0.1:0\"\nworker_threads = 3\nunknown_domain_behavior = \"drop\"\n[log]\nformat = \"json\"\n",
    )
    .unwrap();
    program.signal(Signal::SIGHUP);
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["global"], "[\"unknown_domain_behavior\"]");
    let line = program
        .line("these keys take effect with the next start")
        .await;
    assert_eq!(line["keys"], "[\"worker_threads\"]");
    let mut client = FakeClient::login(proxy, "x.example.com", "Alice").await;
    client.expect_end().await;

    // Back at what runs: nothing is left to restart for.
    fs::write(
        &global,
        "bind = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n",
    )
    .unwrap();
    program.signal(Signal::SIGHUP);
    program.line("configuration reloaded").await;
    program.signal(Signal::SIGHUP);
    let next = ["these keys take effect", "reload: nothing has changed"];
    assert_eq!(program.line_among(&next).await, next[1]);

    fs::write(&global, "nonsense = 1\n").unwrap();
    program.signal(Signal::SIGHUP);
    let refused = program.line_with("reload refused").await;
    assert!(refused["message"].as_str().unwrap().contains("unknown-key"));
    joins(proxy, "a.example.com", &backend).await;
}

/// If the folder is removed and replaced by another, the proxy has the servers of one or
/// the other all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_folder_is_followed() {
    let backend = FakeBackend::start().await;
    let (mut program, proxy) = start(&backend).await;

    let folder = program.folder.path().join("servers");
    let next = program.folder.path().join("next");
    fs::create_dir(&next).unwrap();
    for name in ["a", "b"] {
        let host = format!("{name}.example.com");
        fs::write(next.join(format!("{name}.toml")), of(&host, &backend)).unwrap();
    }
    fs::rename(&folder, program.folder.path().join("old")).unwrap();
    joins(proxy, "a.example.com", &backend).await;
    fs::rename(&next, &folder).unwrap();
    assert_eq!(
        program.line("configuration reloaded").await["added"],
        "[\"b\"]"
    );
    joins(proxy, "b.example.com", &backend).await;

    // The new folder is watched like the old one was.
    fs::remove_file(folder.join("a.toml")).unwrap();
    assert_eq!(
        program.line("configuration reloaded").await["removed"],
        "[\"a\"]"
    );
}

/// The number of players survives a change of their server.
#[tokio::test(flavor = "multi_thread")]
async fn players_are_counted_across_reloads() {
    let backend = FakeBackend::start().await;
    let limited = |text: &str| {
        server(
            "zero_copy",
            "a.example.com",
            backend.address,
            &format!("max_players = 1\nfull_message = \"{text}\""),
        )
    };
    let (mut program, proxy) = ready(Program::start("", &[("a", limited("full"))])).await;
    let player = FakeClient::login(proxy, "a.example.com", "Alice").await;
    let session = backend.accept_login().await;

    write(&program, "a.toml", &limited("really full"));
    program.line("configuration reloaded").await;
    let mut second = FakeClient::login(proxy, "a.example.com", "Bob").await;
    assert_eq!(FakeClient::kick(&mut second).await, "really full");
    drop((player, session));
    within("the place to come free", async {
        loop {
            let mut third = FakeClient::login(proxy, "a.example.com", "Carol").await;
            tokio::select! {
                _ = backend.accept() => return,
                text = FakeClient::kick(&mut third) => assert_eq!(text, "really full"),
            }
        }
    })
    .await;
}

/// An edit of the global file waits for `SIGHUP`. Until then no part of it takes effect,
/// and a broken global file does not delay changes of server files.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_global_file_waits_for_a_sighup() {
    let backend = FakeBackend::start().await;
    let of = |name: &str| of(&format!("{name}.example.com"), &backend);
    let (mut program, proxy) = start(&backend).await;
    let global = program.folder.path().join("infrarust.toml");
    let sound = fs::read_to_string(&global).unwrap();

    fs::write(&global, "bind = \n").unwrap();
    write(&program, "b.toml", &of("b"));
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["added"], "[\"b\"]");

    // Another folder and an inherited time: neither may show.
    let edited = format!("servers_dir = \"other\"\nconnect_timeout = \"2s\"\n{sound}");
    fs::write(&global, edited).unwrap();
    fs::create_dir(program.folder.path().join("other")).unwrap();
    write(&program, "c.toml", &of("c"));
    let line = program.line("configuration reloaded").await;
    assert_eq!(
        (&line["added"], &line["changed"], &line["removed"]),
        (&"[\"c\"]".into(), &"[]".into(), &"[]".into())
    );

    // A refusal says that there is more to take over.
    write(&program, "d.toml", "domain = []");
    let refused = program.line_with("reload refused").await;
    let text = refused["message"].as_str().unwrap();
    assert!(text.contains("the global file has been edited"), "{text}");
    joins(proxy, "b.example.com", &backend).await;

    let other = program.folder.path().join("other/e.toml");
    fs::write(other, of("e")).unwrap();
    program.signal(Signal::SIGHUP);
    let line = program.line("configuration reloaded").await;
    assert_eq!(
        (&line["added"], &line["removed"]),
        (&"[\"e\"]".into(), &"[\"a\", \"b\", \"c\"]".into())
    );
}

/// A folder that is a symbolic link can be exchanged for another, and files that are links
/// are followed to their targets.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed() {
    use std::os::unix::fs::symlink;
    let backend = FakeBackend::start().await;
    let of = |host: &str| of(host, &backend);
    let servers = [("a", of("a.example.com"))];
    let program = Program::start_with("", &servers, |command| {
        command.args(["-l", "info,infrarust::reload=debug"]);
    });
    let (mut program, proxy) = ready(program).await;

    let folder = program.folder.path().to_owned();
    let at = |name: &str| folder.join(name);
    let servers = at("servers");
    fs::create_dir(at("two")).unwrap();
    fs::write(at("two/a.toml"), of("two.example.com")).unwrap();
    fs::write(at("elsewhere.toml"), of("b.example.com")).unwrap();
    symlink("../elsewhere.toml", at("two/b.toml")).unwrap();
    let (one, next, elsewhere) = (at("one"), at("next"), at("elsewhere.toml"));
    fs::rename(&servers, &one).unwrap();
    program
        .line_with("the folder of the server files is not there")
        .await;
    symlink("one", &servers).unwrap();
    program.line("reload: nothing has changed").await;

    symlink("two", &next).unwrap();
    fs::rename(&next, &servers).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(
        (&line["added"], &line["changed"]),
        (&"[\"b\"]".into(), &"[\"a\"]".into())
    );
    joins(proxy, "two.example.com", &backend).await;

    fs::write(&elsewhere, of("longer.example.com")).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["changed"], "[\"b\"]");
    joins(proxy, "longer.example.com", &backend).await;
}

/// After `SIGHUP` with a missing folder the servers stay, and the log reports it once in
/// full.
#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_without_the_folder_keeps_the_servers() {
    let backend = FakeBackend::start().await;
    let of = |host: &str| of(host, &backend);
    let (mut program, proxy) = start(&backend).await;
    // From here on nothing is being read.
    program.signal(Signal::SIGHUP);
    program.line("reload: nothing has changed").await;

    let folder = program.folder.path().join("servers");
    let away = program.folder.path().join("away");
    fs::rename(&folder, &away).unwrap();
    program
        .line_with("the folder of the server files is not there")
        .await;
    program.signal(Signal::SIGHUP);
    let refused = program.line_with("reload refused").await;
    assert!(refused["message"].as_str().unwrap().contains("is gone"));
    program.signal(Signal::SIGHUP);
    program
        .line_with("reload refused for the same reasons")
        .await;
    joins(proxy, "a.example.com", &backend).await;

    fs::write(away.join("b.toml"), of("b.example.com")).unwrap();
    fs::rename(&away, &folder).unwrap();
    let line = program.line("configuration reloaded").await;
    assert_eq!(line["added"], "[\"b\"]");
}
