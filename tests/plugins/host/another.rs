//! Plugins of other compilers. Only C tables cross the border, so the layout of Rust types,
//! the allocator and the runtime may differ.

use infrarust::plugin::{AskedPacket, PacketFate, PacketPlayer};
use infrarust::protocol::packet::view::{self, Value};
use infrarust::protocol::packet::{Direction, State, Version};
use infrarust_plugin_abi::{PacketField, PacketKind};
use infrarust_test_support::library::{build_with, cargo};
use infrarust_test_support::temporary;

use super::*;

/// How a build differs from that of the host.
struct Build {
    name: String,
    rustc: Option<PathBuf>,
    is_random: bool,
}

impl Build {
    /// Fixed, so that a failure can be repeated.
    const SEED: u32 = 20_250_613;

    fn library(&self, folder: &str, library: &str) -> PathBuf {
        let mut cargo = cargo();
        for variable in ["RUSTC", "RUSTC_WRAPPER", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            cargo.env_remove(variable);
        }
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        if self.is_random {
            // Unstable options on whatever compiler it is.
            cargo.env("RUSTC_BOOTSTRAP", "1");
            let seed = Self::SEED;
            cargo.env(
                "RUSTFLAGS",
                format!("-Zrandomize-layout -Zlayout-seed={seed}"),
            );
        }
        let target = temporary(&format!("other-{}", self.name));
        build_with(cargo, &target, folder, library, &[])
    }
}

fn version(rustc: &Path) -> Option<String> {
    let output = Command::new(rustc).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && text.starts_with("rustc ")).then(|| text.trim().to_owned())
}

/// Compilers on this machine other than the host's: the nightly one of rustup, and the one
/// of the system.
fn others() -> Vec<(String, PathBuf)> {
    let own = version(Path::new(env!("CARGO")).with_file_name("rustc").as_path());
    let nightly = Command::new("rustup")
        .args(["which", "--toolchain", "nightly", "rustc"])
        .output();
    let nightly = nightly
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|path| PathBuf::from(path.trim()));
    let system = Some(PathBuf::from("/usr/bin/rustc"));
    let is_new_enough = |text: &str| {
        let number = text.split(' ').nth(1).unwrap_or_default();
        let version = semver::Version::parse(number).ok();
        // `rust-version` of the plugin API; a nightly comes before its release.
        version.is_some_and(|version| (version.major, version.minor) >= (1, 88))
    };
    let candidates = [("nightly", nightly), ("system", system)];
    let found = candidates.into_iter().filter_map(|(name, rustc)| {
        let rustc = rustc?;
        let text = version(&rustc)?;
        (Some(&text) != own.as_ref() && is_new_enough(&text)).then(|| {
            println!("{name}: {text}");
            (name.to_owned(), rustc)
        })
    });
    found.collect()
}

/// Runs the plugin with an allocator and a runtime of its own, and the one with every hook.
async fn runs(build: &Build) {
    let file = build.library("tests/plugins/runtime", "infrarust_test_runtime");
    let (lines, guard) = hostile::Lines::collect("warn");
    let (host, _folder) = load(vec![spec("timed", &file, "")]);
    assert!(host.states()[0].manifest.has_runtime);
    let hooks = lobby(&host);
    let rewritten = hooks.handshake_rewrite(&client("a"), "b").unwrap();
    assert_eq!(rewritten.as_deref(), Some("other.b"));
    let status = hooks.status_respond(&client("a"), true, "{}").await;
    assert_eq!(status.unwrap().as_deref(), Some("{\"was\":{}}"));
    assert_eq!(text(login(&hooks, "Steve").await), "not you, Steve");
    let logged = lines.text();
    let event = "plugin::timed::infrarust_test_runtime: asked name=\"Steve\" odd=true";
    assert!(logged.contains(event), "{logged}");
    assert!(login(&hooks, "Panic").await.unwrap_err().is_failure);
    let panicked = "plugin `timed`: panicked: `boom in lobby`";
    assert!(lines.text().contains(panicked), "{}", lines.text());
    drop(guard);
    host.reload(Vec::new(), None).unwrap();

    let file = build.library("tests/plugins/sample", "infrarust_test_sample");
    let (host, _folder) = load(vec![spec("sample", &file, "tag = 'n'")]);
    let hooks = lobby(&host);
    assert_eq!(text(login(&hooks, "Wait").await), "waited");
    assert_eq!(text(login(&hooks, "Eve").await), "n says no");
    for name in ["Panic", "Error", "Never", "Huge"] {
        assert!(login(&hooks, name).await.unwrap_err().is_failure, "{name}");
    }
    let seen = hooks.handshake_rewrite(&client("a"), "b").unwrap();
    assert_eq!(seen.as_deref(), Some("n.b"));
    assert_eq!(
        hooks.handshake_rewrite(&client("bomb"), "b").unwrap(),
        None,
        "a payload that panics when it is dropped stays in the plugin"
    );
    eventually("the task ticks", || {
        let metrics = host.metrics();
        metrics.iter().any(|m| m.name == "ticks" && m.value > 0)
    })
    .await;

    let file = build.library("tests/plugins/everything", "everything");
    let (host, _folder) = load(vec![spec("everything", &file, "word = 'w'")]);
    changes_packets(&host);
    verifies(&file);
}

/// Lines of chat are seen, changed and dropped.
fn changes_packets(host: &PluginHost) {
    let hooks = host.hooks(["everything"], Mode::Offline);
    let version = Version::of(770).unwrap();
    let player = Arc::new(PacketPlayer {
        number: 1,
        name: "Steve".to_owned(),
        uuid: 1,
        is_proved: false,
        server: "lobby".to_owned(),
        version,
        knows_chat_key: false,
    });
    let chat = |line: &str| {
        let values = [
            (PacketField::Message, Value::Str(line.to_owned().into())),
            (PacketField::Timestamp, Value::Int(1)),
            (PacketField::Seen, Value::Bytes(vec![0; 3].into())),
        ];
        view::build(version, State::Play, PacketKind::ChatMessage, &values).unwrap()
    };
    let asked = |line: &str| {
        let (state, direction) = (State::Play, Direction::Serverbound);
        let asked = AskedPacket::new(&player, state, direction, chat(line));
        hooks.packet_hooks().ask_here(&asked).unwrap()
    };
    let long = chat("a line").len() - 1;
    let changed = chat(&format!("w a line {long}"));
    assert_eq!(asked("a line"), PacketFate::Changed(changed));
    assert_eq!(asked("keep"), PacketFate::Pass);
    assert_eq!(asked("panic"), PacketFate::Pass);
    assert_eq!(asked("drop"), PacketFate::Dropped(None));
    assert_eq!(host.states()[0].counts.panics, 1);
}

/// Every hook answers, that of commands among them.
fn verifies(file: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "word = 'w'").unwrap();
    let verified = Command::new(env!("CARGO_BIN_EXE_infrarust"))
        .args(["plugin", "verify"])
        .arg(file)
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout);
    for hook in Hook::ALL {
        assert!(said.contains(hook.name()), "{hook}: {said}");
    }
    assert!(verified.status.success(), "{said}");
}

/// The plugin works with a random layout of all its Rust types, with its own allocator and
/// its own tokio.
#[tokio::test]
async fn types_may_be_laid_out_at_random() {
    runs(&Build {
        name: "random".to_owned(),
        rustc: None,
        is_random: true,
    })
    .await;
}

/// Plugins of the other compilers on this machine work. `INFRARUST_OTHER_COMPILER=required`
/// requires at least one.
#[tokio::test]
async fn another_compiler_changes_nothing() {
    let others = others();
    if others.is_empty() {
        let is_required = std::env::var("INFRARUST_OTHER_COMPILER").as_deref() == Ok("required");
        assert!(!is_required, "there is no other compiler");
        eprintln!("skipped: there is no other compiler than the host's");
    }
    for (name, rustc) in others {
        let rustc = Some(rustc);
        runs(&Build {
            name,
            rustc,
            is_random: true,
        })
        .await;
    }
}

fn own() -> PathBuf {
    build("tests/plugins/runtime", "infrarust_test_runtime")
}

/// A plugin that starts two thousand tasks gets as many as the limit allows, gets an error
/// for the others, and continues to work. The tasks end with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_bounded() {
    let (host, _folder) = load(vec![spec("timed", &own(), "")]);
    let hooks = lobby(&host);
    assert_eq!(text(login(&hooks, "Flood").await), "1024");
    assert_eq!(text(login(&hooks, "Flood").await), "0");
    assert_eq!(text(login(&hooks, "Steve").await), "not you, Steve");
    host.reload(Vec::new(), None).unwrap();
}

/// A plugin in an endless loop blocks its worker and is named in the log, while another
/// worker serves others. A plugin that leaks memory has no immediate effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_looping_plugin_is_named() {
    let (host, _folder) = load(vec![
        spec("timed", &own(), ""),
        spec("sample", sample(), "tag = 'a'"),
    ]);
    let (bad, good) = (
        Arc::new(host.hooks(["timed"].into_iter(), Mode::ZeroCopy)),
        host.hooks(["sample"].into_iter(), Mode::ZeroCopy),
    );
    for _ in 0..8 {
        assert_eq!(login(&bad, "Leak").await, Ok(()));
    }
    let looping = Arc::clone(&bad);
    let looping = tokio::spawn(async move { login(&looping, "Spin").await });
    assert_eq!(text(login(&good, "Wait").await), "waited");
    assert!(!looping.is_finished(), "it held everybody up");
    assert_eq!(looping.await.unwrap(), Ok(()));
    eventually("the watchdog has counted it", || {
        host.states()[0].counts.stalls == 1
    })
    .await;
}
