//! Plugins in the proxy: real libraries, called for real connections.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;

use crate::library::sample;
use crate::program::Program;
use crate::support::wire::{encryption_request, frame, handshake, string};
use crate::support::{FORWARDING, FakeBackend, FakeClient, Peer, TestProxy, server, within};

/// The global file's table of one plugin.
fn table(id: &str, more: &str, config: &str) -> String {
    table_of(sample(), id, more, config)
}

fn table_of(file: &Path, id: &str, more: &str, config: &str) -> String {
    format!("[plugins.{id}]\npath = {file:?}\n{more}\n[plugins.{id}.config]\n{config}\n")
}

/// Connects and begins a login of 1.20.2, with a UUID.
async fn login_with_uuid(proxy: SocketAddr, host: &str, name: &str, uuid: u128) -> Peer {
    let mut client = FakeClient::connect(proxy).await;
    let mut bytes = handshake(764, host, 25565, 2);
    bytes.extend(frame(
        0,
        &[string(name), uuid.to_be_bytes().to_vec()].concat(),
    ));
    client.send(&bytes).await;
    client
}

async fn kicked(proxy: SocketAddr, host: &str, name: &str) -> String {
    let mut client = FakeClient::login(proxy, host, name).await;
    FakeClient::kick(&mut client).await
}

/// In every forwarding mode a plugin changes the host for the backend, in logins and pings,
/// the status, and decides who may join. Later bytes of the backend and the client pass
/// unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_called_in_every_forwarding_mode() {
    for mode in FORWARDING {
        let backend = FakeBackend::start().await;
        let global = table("one", "", "tag = 'one'") + &table("two", "", "tag = 'two'");
        let rewrite = "domain_rewrite = { explicit = \"backend\" }";
        let servers = [(
            "a",
            server(mode, "play.example.com", backend.address, rewrite),
        )];
        let proxy = TestProxy::with_plugins(&global, &servers).await;

        let mut client =
            FakeClient::login(proxy.address(), "Play.Example.com\0FML2\0", "Steve").await;
        let (mut peer, hello, _) = backend.accept_login().await;
        assert_eq!(hello.host, "two.one.backend\0FML2\0", "{mode}");
        assert_eq!((hello.port, hello.intent), (25565, 2));
        peer.send(&encryption_request()).await;
        peer.send(b"and then whatever").await;
        let said = [encryption_request(), b"and then whatever".to_vec()].concat();
        assert_eq!(client.bytes(said.len()).await, said);
        client.send(b"to the backend").await;
        assert_eq!(peer.bytes(14).await, b"to the backend");

        assert_eq!(
            kicked(proxy.address(), "play.example.com", "Eve").await,
            "one says no"
        );

        let asked = tokio::spawn(async move {
            let (mut peer, hello) = backend.accept_hello().await;
            // As only clients read it; plugins get it as strict JSON.
            FakeBackend::answer_status(&mut peer, "{description:'hi', x:'a\nb'} more").await;
            hello.host
        });
        let status = FakeClient::status(proxy.address(), "play.example.com").await;
        assert_eq!(status["two"]["one"]["description"], "hi", "{mode}");
        assert_eq!(asked.await.unwrap(), "two.one.backend");
    }
}

/// A plugin may choose another server. The hooks and filters of that server apply too, and
/// no plugin is called twice.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_can_be_selected() {
    let (here, other) = (FakeBackend::start().await, FakeBackend::start().await);
    let global = table("router", "", "tag = 'r'")
        + &table("guard", "servers = [\"other\"]", "tag = 'guard'");
    let servers = |filter: &str| {
        [
            (
                "here",
                server("passthrough", "play.example.com", here.address, ""),
            ),
            (
                "other",
                server("zero_copy", "other.example.com", other.address, filter),
            ),
        ]
    };
    let proxy = TestProxy::with_plugins(&global, &servers("")).await;
    let _client = login_with_uuid(proxy.address(), "play.example.com", "Steve", 1).await;
    let (_peer, hello, _) = other.accept_login().await;
    // Both plugins rewrite for the server that was chosen.
    assert_eq!(hello.host, "guard.r.play.example.com");
    let _client = login_with_uuid(proxy.address(), "play.example.com", "Steve", 2).await;
    let (_peer, hello, _) = here.accept_login().await;
    assert_eq!(
        hello.host, "r.play.example.com",
        "a server that is not there is no choice"
    );

    // The filter comes before the plugins of that server, as it does for a client
    // that asks for it: this one would end the process if it were asked.
    let global = table("router", "", "tag = 'r'")
        + &table(
            "guard",
            "servers = [\"other\"]",
            "tag = 'guard'\nstart = 'login'",
        );
    let filter = "[ip_filter]\nblacklist = [\"127.0.0.1\"]";
    let proxy = TestProxy::with_plugins(&global, &servers(filter)).await;
    let mut client = login_with_uuid(proxy.address(), "play.example.com", "Steve", 1).await;
    assert!(FakeClient::kick(&mut client).await.contains("not allowed"));
}

/// `connection.decide` sees the addresses of a trusted PROXY header. A dropped client gets
/// no text, also when it pings.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_decided() {
    let backend = FakeBackend::start().await;
    let global = "receive_proxy_protocol = true\nproxy_protocol_trusted = [\"127.0.0.1\"]\n"
        .to_owned()
        + &table("gate", "", "tag = 'g'");
    let servers = [("a", server("zero_copy", "*", backend.address, ""))];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    for intent in [1, 2] {
        let mut client = FakeClient::connect(proxy.address()).await;
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 25565\r\n".to_vec();
        client
            .send(
                &[
                    header,
                    handshake(47, "a", 25565, intent),
                    frame(0, &string("Steve")),
                ]
                .concat(),
            )
            .await;
        client.expect_end().await;
    }
    let mut client = FakeClient::connect(proxy.address()).await;
    let header = b"PROXY TCP4 127.0.0.7 192.0.2.9 1000 25565\r\n".to_vec();
    client
        .send(
            &[
                header,
                handshake(47, "a", 25565, 2),
                frame(0, &string("Steve")),
            ]
            .concat(),
        )
        .await;
    backend.accept_login().await;
}

/// The operator chooses the effect of a failure. By default a failed deciding hook refuses,
/// unless `on_failure` is `continue`; a failed rewrite keeps the host, unless it is `deny`.
/// A hook that does not answer fails at its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn failures_follow_the_configuration() {
    let backend = FakeBackend::start().await;
    let servers = |plugin: &str| {
        let name = format!("plugins = [{plugin:?}]");
        [("a", server("passthrough", "*", backend.address, &name))]
    };
    // What answers has all the time, and what never does has little.
    let mut global = String::new();
    for (id, choice) in [
        ("default", ""),
        ("lax", "on_failure = \"continue\""),
        ("strict", "on_failure = \"deny\""),
    ] {
        for (id, deadline) in [(id.to_owned(), "1h"), (format!("{id}-soon"), "150ms")] {
            let keys = format!("deadline = {deadline:?}\n{choice}");
            global += &table(&id, &keys, "tag = 't'");
        }
    }
    let soon = TestProxy::with_plugins(&global, &servers("default-soon")).await;
    let proxy = TestProxy::with_plugins(&global, &servers("default")).await;
    for (proxy, name) in [(&proxy, "Panic"), (&proxy, "Error"), (&soon, "Never")] {
        let text = kicked(proxy.address(), "keep", name).await;
        assert!(text.contains("could not check"), "{name}: {text}");
    }
    let _client = FakeClient::login(proxy.address(), "panic", "Steve").await;
    assert_eq!(backend.accept_login().await.1.host, "panic");

    let soon = TestProxy::with_plugins(&global, &servers("lax-soon")).await;
    let proxy = TestProxy::with_plugins(&global, &servers("lax")).await;
    for (proxy, name) in [(&proxy, "Panic"), (&proxy, "Error"), (&soon, "Never")] {
        let _client = FakeClient::login(proxy.address(), "keep", name).await;
        backend.accept_login().await;
    }
    let proxy = TestProxy::with_plugins(&global, &servers("strict")).await;
    let text = kicked(proxy.address(), "garbage", "Steve").await;
    assert!(text.contains("could not check"), "{text}");
}

/// A client that leaves during a call of a plugin is disconnected at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_leave_during_a_call() {
    let backend = FakeBackend::start().await;
    let global = table("slow", "deadline = \"1h\"", "tag = 's'");
    let servers = [("a", server("passthrough", "*", backend.address, ""))];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let client = FakeClient::login(proxy.address(), "keep", "Never").await;
    within("the connection", async {
        while proxy.running.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    proxy.idle().await;
}

/// For clients without a server the plugins for all servers are called.
#[tokio::test(flavor = "multi_thread")]
async fn pings_without_a_server_reach_plugins_for_all_servers() {
    let backend = FakeBackend::start().await;
    let global = table("all", "", "tag = 'all'") + &table("a", "servers = [\"a\"]", "tag = 'a'");
    let servers = [(
        "a",
        server("passthrough", "play.example.com", backend.address, ""),
    )];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let status = FakeClient::status(proxy.address(), "other.example.com").await;
    let answer = &status["all"];
    assert!(
        answer["description"]
            .to_string()
            .contains("No server is known"),
        "{status}"
    );
}

/// Clients before 1.7 also get the plugin's status answer.
#[tokio::test(flavor = "multi_thread")]
async fn old_pings_are_answered_through_plugins() {
    let backend = FakeBackend::start().await;
    let motd = crate::library::build("plugins/motd", "motd");
    let global = table_of(&motd, "motd", "", "text = 'for everybody'");
    let servers = [("a", server("passthrough", "*", backend.address, ""))];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let _count = backend.serve_status("{\"players\":{\"online\":3,\"max\":9}}");
    let mut client = FakeClient::connect(proxy.address()).await;
    client.send(&[0xfe, 0x01]).await;
    let kick = client.rest().await;
    let text = crate::support::wire::kick16(&kick);
    assert!(
        text.contains("for everybody") && text.contains("\u{0}9"),
        "{text:?}"
    );
}

/// The example with three plugins works as described, with backends of this test.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_with_plugins_works_with_players() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/with-plugins");
    let read = |file: &str| std::fs::read_to_string(example.join(file)).unwrap();
    let instead = |text: String, what: &str, new: &str| {
        assert!(text.contains(what), "{text}");
        text.replace(what, new)
    };
    let plugins = tempfile::tempdir().unwrap();
    for (folder, library) in [
        ("domain-rewrite", "domain_rewrite"),
        ("allowlist", "allowlist"),
        ("motd", "motd"),
    ] {
        let file = crate::library::build(&format!("plugins/{folder}"), library);
        std::fs::copy(file, plugins.path().join(format!("lib{library}.so"))).unwrap();
    }
    let (lobby, staff) = (FakeBackend::start().await, FakeBackend::start().await);
    let here = format!("bind = \"127.0.0.1:0\"\nplugins_dir = {:?}", plugins.path());
    let global = instead(read("infrarust.toml"), "bind = \"127.0.0.1:25565\"", &here);
    let server = |file: &str, backend: &str, of: &FakeBackend| {
        instead(read(file), backend, &of.address.to_string())
    };
    let servers = [
        (
            "lobby",
            server("servers/lobby.toml", "127.0.0.1:25566", &lobby),
        ),
        (
            "staff",
            server("servers/staff.toml", "127.0.0.1:25567", &staff),
        ),
    ];
    let proxy = TestProxy::with_plugins(&global, &servers).await;

    let _client = FakeClient::login(proxy.address(), "lobby.example.com", "Eve").await;
    let (_peer, hello, _) = lobby.accept_login().await;
    assert_eq!(hello.host, "lobby.internal");
    let text = kicked(proxy.address(), "staff.example.com", "Eve").await;
    assert!(text.contains("This server is for the staff."), "{text}");
    let _client = FakeClient::login(proxy.address(), "staff.example.com", "alex").await;
    let (_peer, hello, _) = staff.accept_login().await;
    assert_eq!(hello.host, "staff.internal");

    let _count = lobby.serve_status("{\"players\":{\"online\":3,\"max\":20}}");
    let status = FakeClient::status(proxy.address(), "lobby.example.com").await;
    assert_eq!(status["description"]["text"], "§alobby§r: 3 of 20 play");
    drop(staff);
    // Its own list has no `motd`.
    let status = FakeClient::status(proxy.address(), "staff.example.com").await;
    assert!(
        !status["description"].to_string().contains("asleep"),
        "{status}"
    );
}

/// The lines that the guide shows are those that the proxy writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_shows_the_log() {
    // One plugin for each trouble: the lines of one are sampled.
    let troubles = ["Eve", "Error", "Panic", "Never", "Block"];
    let mut global = "bind = \"127.0.0.1:0\"\n".to_owned();
    let mut servers = Vec::new();
    for name in troubles {
        let id = format!("gate-{}", name.to_ascii_lowercase());
        // The others answer, be the machine ever so slow.
        let deadline = if name == "Never" { "250ms" } else { "1h" };
        let deadline = format!("deadline = {deadline:?}");
        global += &table(&id, &deadline, "tag = 'Gatekeeper'");
        let domain = format!("{}.example.com", name.to_ascii_lowercase());
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let only = format!("plugins = [{id:?}]");
        let server = server("passthrough", &domain, nobody, &only);
        servers.push((format!("lobby-{}", name.to_ascii_lowercase()), server));
    }
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<_> = servers
        .iter()
        .map(|(id, text)| (id.as_str(), text.clone()))
        .collect();
    crate::support::write_config(folder.path(), &global, &servers);
    let log = folder.path().join("log");
    let _program = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(folder.path().join("infrarust.toml"))
        .env_remove("RUST_LOG")
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let has = async |what: &str| -> String {
        within(what, async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap();
                if text.contains(what) {
                    return text;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    };
    let text = has("ready").await;
    let address = text.split("address=").nth(1).unwrap();
    let address: SocketAddr = address.split_whitespace().next().unwrap().parse().unwrap();
    for (name, times) in troubles.into_iter().zip([1, 1, 5, 1, 1]) {
        for _ in 0..times {
            let host = format!("{}.example.com", name.to_ascii_lowercase());
            kicked(address, &host, name).await;
        }
    }
    has("holds a worker").await;
    let text = has("is quarantined").await;

    // What differs from run to run, and what the test alone has.
    let plain = |line: &str| {
        let (_time, mut line) = line.split_once("Z ")?;
        let mut shown = String::new();
        for (begin, instead) in [
            ("client=", "192.0.2.7:50123"),
            ("tests/plugins/sample/", "src/lib.rs:42:13"),
            ("held_ms=", "250"),
        ] {
            if let Some(at) = line.find(begin) {
                let keeps = if begin.ends_with('=') { begin.len() } else { 0 };
                shown += &line[..at + keeps];
                shown += instead;
                line = &line[at..];
                line = &line[line.find(' ').unwrap_or(line.len())..];
            }
        }
        shown += line;
        for name in troubles {
            let name = name.to_ascii_lowercase();
            shown = shown
                .replace(&format!("gate-{name}"), "gate")
                .replace(&format!("lobby-{name}"), "lobby")
                .replace(&format!("{name}.example.com"), "play.example.com");
        }
        Some(shown)
    };
    let written: Vec<String> = text.lines().filter_map(plain).collect();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let block = guide.split("```text\n INFO").nth(1).unwrap();
    let block = format!(" INFO{}", block.split("```").next().unwrap());
    for line in block.lines() {
        assert!(
            written.iter().any(|other| other == line),
            "nobody writes\n{line}\nbut\n{}",
            written.join("\n")
        );
    }
}

/// Each session has all its events with exact counts, even if the backend was not reached.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_observed() {
    let backend = FakeBackend::start().await;
    let global = table("seen", "", "tag = 's'");
    let servers = [("a", server("zero_copy", "*", backend.address, ""))];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let bytes = || {
        let metrics = proxy.running.proxy().plugin_metrics();
        let bytes = metrics.iter().find(|metric| metric.name == "bytes");
        bytes.map(|metric| metric.value)
    };
    let mut client = FakeClient::login(proxy.address(), "keep", "Steve").await;
    let (mut peer, ..) = backend.accept_login().await;
    peer.send(&[1; 500]).await;
    client.bytes(500).await;
    drop(peer);
    client.expect_end().await;
    drop(client);
    proxy.idle().await;
    let sent = handshake(47, "keep", 25565, 2).len() + frame(0, &string("Steve")).len();
    assert_eq!(bytes(), Some(500 + i128::try_from(sent).unwrap()));

    drop(backend);
    kicked(proxy.address(), "keep", "Steve").await;
    proxy.idle().await;
    let metrics = proxy.running.proxy().plugin_metrics();
    let of = |name: &str| {
        metrics
            .iter()
            .find(|metric| metric.name == name)
            .unwrap()
            .value
    };
    assert_eq!((of("opened"), of("connected"), of("closed")), (2, 1, 2));
}

/// A plugin that does not start keeps the proxy from starting. The report has the place in
/// the operator's file.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_start_is_reported() {
    let backend = FakeBackend::start().await;
    let files = [("a", server("zero_copy", "*", backend.address, ""))];
    for (config, code, shown) in [
        ("tag = 'a'\nstart = 'error'", "plugin-start", "no database"),
        (
            "tag = 'a'\nstart = 'panic'",
            "plugin-start",
            "no start today",
        ),
        (
            "tag = 'a'\nstart = 'x'",
            "plugin-config",
            "that is not a start",
        ),
        ("tagg = 'a'", "plugin-config", "unknown field `tagg`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        crate::support::write_config(folder.path(), &table("p", "", config), &files);
        let program = async |words: &[&str]| {
            let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
                .arg("-c")
                .arg(folder.path().join("infrarust.toml"))
                .args(words)
                .output();
            let output = within("the end", output).await.unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        for (words, end) in [
            (&["run"][..], "the proxy was not started"),
            (&["check", "--deep"], "the proxy would not start"),
        ] {
            let (exit, text) = program(words).await;
            assert_eq!(exit, Some(1), "{text}");
            let begin = format!("error[{code}]: the plugin `p`");
            assert!(text.contains(&begin) && text.contains(shown), "{text}");
            assert!(text.contains("infrarust.toml:"), "{text}");
            let last = text.lines().last().unwrap();
            assert!(last.starts_with("1 error") && last.ends_with(end), "{text}");
        }
        // Without running the plugin nobody can know.
        assert_eq!(program(&["check"]).await.0, Some(0));
    }
    // A plugin that takes its process with it takes that of the check's child.
    let folder = tempfile::tempdir().unwrap();
    let config = table("p", "", "tag = 'a'\nstart = 'abort'");
    crate::support::write_config(folder.path(), &config, &files);
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .arg("-c")
        .arg(folder.path().join("infrarust.toml"))
        .args(["check", "--deep"])
        .output();
    let output = within("the end", output).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("error[plugin-start]") && text.contains("SIGABRT"),
        "{text}"
    );
}

/// If a plugin ends the process, the last line names the plugin and the hook.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ends_the_proxy_is_named() {
    let backend = FakeBackend::start().await;
    let files = [("a", server("zero_copy", "*", backend.address, ""))];
    for (start, code, place) in [
        ("exit", Some(1), "its start: ended the process"),
        ("abort", None, "its start: SIGABRT"),
        ("overflow", None, "its start: SIGSEGV"),
        ("login", None, "login.decide: SIGABRT"),
    ] {
        let config = format!("tag = 'a'\nstart = '{start}'");
        let mut program = Program::start_with(&table("p", "", &config), &files, |command| {
            command.stderr(Stdio::piped());
        });
        let mut stderr = program.child.stderr.take().unwrap();
        let mut client = None;
        if start == "login" {
            let proxy = program.address().await;
            client = Some(FakeClient::login(proxy, "x", "Steve").await);
        }
        assert_eq!(program.exit_code().await, code, "{start}");
        drop(client);
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.unwrap();
        let said = format!("plugin `p` took the proxy with it in {place}\n");
        assert!(text.contains(&said), "{start}: {text}");
        // The standard library still has its say.
        let overflow = text.contains("overflowed its stack");
        assert_eq!(overflow, start == "overflow", "{text}");
    }
}

/// Commands reach the running proxy: a plugin is loaded again, a quarantine ends, and the
/// command prints the result.
#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_the_running_proxy() {
    let backend = FakeBackend::start().await;
    let global = table("live", "on_failure = \"deny\"", "tag = 'a'");
    let files = [("a", server("passthrough", "*", backend.address, ""))];
    let mut program = Program::start(&global, &files);
    let proxy = program.address().await;
    program.line("ready").await;
    let config = program.folder.path().join("infrarust.toml");
    let command = async |words: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_infrarust"))
            .arg("-c")
            .arg(&config)
            .arg("plugin")
            .args(words)
            .output();
        let output = within("a command", output).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = command(&["list"]).await;
    assert!(
        code == Some(0) && text.contains("live 1.2.3: active, generation 1,"),
        "{text}"
    );
    let (code, text) = command(&["reload", "live"]).await;
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "plugins loaded or ended: live\n")
    );
    let (code, text) = command(&["reload"]).await;
    assert_eq!((code, text.as_str()), (Some(0), "nothing has changed\n"));
    let (code, text) = command(&["resume", "live"]).await;
    assert!(
        code == Some(1) && text.contains("is not quarantined"),
        "{text}"
    );
    let (code, text) = command(&["resume", "gone"]).await;
    assert!(
        code == Some(1) && text.contains("no plugin `gone` is loaded"),
        "{text}"
    );

    for _ in 0..5 {
        kicked(proxy, "panic", "Steve").await;
    }
    let (_, text) = command(&["list"]).await;
    assert!(
        text.contains("live 1.2.3: quarantined, generation 2,"),
        "{text}"
    );
    assert!(
        kicked(proxy, "x", "Steve")
            .await
            .contains("could not check")
    );
    let (code, text) = command(&["resume", "live"]).await;
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "plugin `live` is resumed\n")
    );
    let client = FakeClient::login(proxy, "x", "Steve").await;
    let (peer, hello, _) = backend.accept_login().await;
    assert_eq!(hello.host, "a.x");
    drop((client, peer));

    std::fs::write(&config, "bind = 5").unwrap();
    let (code, text) = command(&["reload"]).await;
    assert!(
        code == Some(1) && text.contains("what runs goes on unchanged"),
        "{text}"
    );
    assert!(text.contains("error[wrong-type]"), "{text}");
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code().await, Some(0));
    let data = program.folder.path().join("plugins/live/ended");
    assert!(data.exists(), "the plugin was not ended in order");
    let (code, text) = command(&["reload"]).await;
    assert!(
        code == Some(1) && text.contains("no proxy answers at"),
        "{text}"
    );
}
