//! Proofs for the keys about plugins: a real library, and the host that a backend gets with
//! it.

use std::path::Path;
use std::time::Duration;

use infrarust::config::plugin_file::{hex, sha256};
use infrarust::config::{LoadOptions, load};
use infrarust::diagnostic::Code;

use super::witness::one;
use super::{Files, Proof, Proofs, effect};
use crate::elf;
use crate::library::sample;
use crate::program::Program;
use crate::support::{FakeBackend, FakeClient, TestProxy, within, write_config};

/// The result of a login with the plugin `hub`.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// A backend gets this host.
    Backend(String),
    /// A text.
    Kicked(String),
    /// Nothing: the configuration is refused.
    Refused(Vec<Code>),
}

fn backend_sees(host: &str) -> Met {
    Met::Backend(host.to_owned())
}

/// Logs in with `lines` in the table of the plugin and `server` in the server's file.
async fn met(lines: &str, server: &str, host: &str, name: &str) -> Met {
    let backend = FakeBackend::start().await;
    let path = if lines.contains("path =") {
        String::new()
    } else {
        format!("path = {:?}\n", sample())
    };
    let config = if lines.contains("config =") {
        ""
    } else {
        "config = { tag = 'hub' }\n"
    };
    let global = format!("[plugins.hub]\n{path}{config}{lines}\n");
    let [(id, text)] = one(&backend, &format!("domain_rewrite = \"none\"\n{server}"));
    let servers = [(id, text.replace("play.example.com", "*"))];
    let codes = codes(&global, &servers);
    if !codes.is_empty() {
        return Met::Refused(codes);
    }
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let mut client = FakeClient::login(proxy.address(), host, name).await;
    tokio::select! {
        (_, hello, _) = backend.accept_login() => Met::Backend(hello.host),
        text = FakeClient::kick(&mut client) => Met::Kicked(text),
    }
}

/// The diagnostics about files on disk. That the plugin lacks something that it only wants
/// does not matter here.
fn codes(global: &str, servers: &[(&str, String)]) -> Vec<Code> {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), global, servers);
    let loaded = load(&LoadOptions {
        config: Some(folder.path().join("infrarust.toml")),
        ..LoadOptions::default()
    });
    let codes = loaded.diagnostics.iter().map(|d| d.code);
    let idle = [Code::PluginLimited, Code::NoEffect];
    codes.filter(|code| !idle.contains(code)).collect()
}

async fn asked(lines: &str) -> Met {
    met(lines, "", "x", "Steve").await
}

async fn policy(word: &str) -> Met {
    met(&format!("on_failure = {word:?}"), "", "panic", "Steve").await
}

/// The diagnostics if a plugin needs packets.
fn codes_where_it_needs_packets(lines: &str) -> Vec<Code> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libhub.so");
    std::fs::write(&file, elf::plugin("needs: [PacketInject]")).unwrap();
    let global = format!("[plugins.hub]\npath = {file:?}\n{lines}");
    Files::new(&global, "domains = [\"a.b\"]\naddresses = [\"10.0.0.5\"]\n").codes()
}

/// The socket of the folder that answers, of these two.
async fn control_socket(global: &str) -> &'static str {
    let mut program = Program::start(global, &[]);
    program.line("ready").await;
    within("a control socket", async {
        loop {
            for path in ["infrarust.sock", "other.sock"] {
                let path_in_folder = program.folder.path().join(path);
                if tokio::net::UnixStream::connect(path_in_folder)
                    .await
                    .is_ok()
                {
                    return path;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

pub fn global_proofs() -> Proofs {
    let key = |key: &str| format!("plugins.<id>.{key}");
    vec![
        effect("plugins_dir", async {
            let plugins = tempfile::tempdir().unwrap();
            std::fs::copy(sample(), plugins.path().join("libhub.so")).unwrap();
            let dir: &Path = plugins.path();
            let servers = [(
                "a",
                "domains = ['a.b']\naddresses = ['10.0.0.5']".to_owned(),
            )];
            let line = format!("plugins_dir = {dir:?}\n[plugins.hub]");
            assert_eq!(codes(&line, &servers), []);
            assert_eq!(codes("[plugins.hub]", &servers), [Code::PluginFile]);
        }),
        effect("control_socket", async {
            let global = "control_socket = \"other.sock\"";
            assert_eq!(control_socket(global).await, "other.sock");
            assert_eq!(control_socket("").await, "infrarust.sock");
        }),
        effect(&key("enabled"), async {
            assert_eq!(asked("enabled = true").await, backend_sees("hub.x"));
            assert_eq!(asked("enabled = false").await, backend_sees("x"));
        }),
        effect(&key("path"), async {
            let refused = Met::Refused(vec![Code::PluginFile]);
            assert_eq!(asked("path = \"nowhere.so\"").await, refused);
            assert_eq!(asked("").await, backend_sees("hub.x"));
        }),
        effect(&key("servers"), async {
            assert_eq!(asked("servers = [\"a\"]").await, backend_sees("hub.x"));
            assert_eq!(asked("servers = [\"b*\"]").await, backend_sees("x"));
        }),
        effect(&key("on_failure"), async {
            assert_eq!(policy("continue").await, backend_sees("panic"));
            assert!(matches!(policy("deny").await, Met::Kicked(_)));
        }),
        effect(&key("deadline"), async {
            let never = async |deadline: &str| {
                let line = format!("deadline = {deadline:?}");
                let met = met(&line, "", "x", "Never").await;
                assert!(matches!(met, Met::Kicked(_)));
            };
            let (soon, late) = (never("100ms"), never("15s"));
            tokio::select! {
                biased;
                () = late => panic!("a long deadline passes as soon as a short one"),
                () = within("the deadline", soon) => {}
            }
        }),
        effect(&key("sha256"), async {
            let pin = |sha: &[u8; 32]| format!("sha256 = \"{}\"", hex(sha));
            let right = sha256(&std::fs::read(sample()).unwrap());
            assert_eq!(asked(&pin(&right)).await, backend_sees("hub.x"));
            let refused = Met::Refused(vec![Code::PluginFile]);
            assert_eq!(asked(&pin(&[7; 32])).await, refused);
        }),
        effect(&key("unsupported"), async {
            let skip = codes_where_it_needs_packets("unsupported = \"skip\"");
            assert_eq!(skip, [Code::PluginInactive]);
            assert_eq!(codes_where_it_needs_packets(""), [Code::ModeConflict]);
        }),
        effect(&key("config"), async {
            let config = "config = { tag = 'other' }";
            assert_eq!(asked(config).await, backend_sees("other.x"));
            assert_eq!(asked("").await, backend_sees("hub.x"));
        }),
    ]
}

pub fn server_proof() -> (String, Proof) {
    effect("plugins", async {
        let with = |list: &'static str| met("servers = [\"nobody*\"]", list, "x", "Steve");
        assert_eq!(with("plugins = [\"hub\"]").await, backend_sees("hub.x"));
        assert_eq!(with("").await, backend_sees("x"));
        assert_eq!(
            met("", "plugins = []", "x", "Steve").await,
            backend_sees("x")
        );
    })
}
