//! The log has no secret, at any level and after any kind of login.

use std::fmt::Write as _;
use std::process::Command;

use infrarust_test_support::game::{self, Request, Say, Sessions, Speaker, refusal, response};
use infrarust_test_support::program::Program;

use super::{NO_COMPRESSION, enter, uuid};
use crate::support::wire::string;
use crate::support::{FakeBackend, server, within};

const PROTOCOL: i32 = 767;
const IN_THE_FILE: &str = "velvet-otter-counts-nine-moons";
const IN_A_FILE: &str = "granite-lilac-sings-at-dusk";
const IN_THE_ENVIRONMENT: &str = "copper-heron-folds-paper-maps";
const GLOBAL: &str = "amber-walrus-paints-the-fence";
/// The secret that a client chooses for its connection.
const SHARED: [u8; 16] = *b"\x91shared by both\x92";

/// The forms in which bytes could appear in a log.
fn forms(what: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02x}").unwrap();
    }
    let list = format!("{bytes:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let mut forms = vec![hex.to_uppercase(), hex, list];
    if let Ok(text) = std::str::from_utf8(bytes) {
        forms.push(text.to_owned());
    }
    let named = |form| (what.to_owned(), form);
    forms.into_iter().map(named).collect()
}

/// A login at `domain` up to the encryption; the client has returned this.
async fn encrypted(
    proxy: std::net::SocketAddr,
    domain: &str,
    is_wrong: bool,
) -> (Speaker, Vec<u8>) {
    let mut client = game::begin_at(proxy, PROTOCOL, domain, "Notch").await;
    let request = Request::parse(PROTOCOL, &client.expect(1).await);
    let token = if is_wrong {
        b"nope"
    } else {
        &request.token[..]
    };
    let (secret, sealed) = (request.seal(&SHARED), request.seal(token));
    client.send(1, &response(PROTOCOL, &secret, &sealed)).await;
    client.encrypt(SHARED);
    (client, request.token)
}

/// Logins of every kind, successful and not, at the most detailed log level: no line has a
/// secret, nor does the output of `check` and `route`.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let backend = FakeBackend::start().await;
    let sessions = Sessions::start(Say::Confirm).await;
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, IN_A_FILE).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let domains = ["value", "file", "environment", "global", "guard"];
    let file = |domain: &str| {
        let mode = match domain {
            "file" | "guard" => "bungeeguard",
            _ => "velocity",
        };
        let secret = match domain {
            "file" => format!("forwarding_secret = {{ file = {secret_file:?} }}"),
            "environment" => "forwarding_secret = { env = \"TEST_SECRET\" }".to_owned(),
            "global" => String::new(),
            _ => format!("forwarding_secret = \"{IN_THE_FILE}\""),
        };
        let more = format!("{NO_COMPRESSION}\nforwarding_mode = \"{mode}\"\n{secret}");
        server("client_only", domain, backend.address, &more)
    };
    let files = domains.map(|domain| (domain, file(domain)));
    let global = format!(
        "[forwarding]\nsecret = \"{GLOBAL}\"\n{}duplicate_login = \"replace\"\n",
        sessions.global()
    );
    let errors = folder.path().join("stderr");
    let stderr = std::fs::File::create(&errors).unwrap();
    let mut program = Program::start_with(&global, &files, |command| {
        command
            .env("RUST_LOG", "trace")
            .env("TEST_SECRET", IN_THE_ENVIRONMENT);
        command.stderr(stderr);
    });
    let proxy = program.address().await;
    let configuration = program.folder.path().join("infrarust.toml");
    let Program {
        child,
        mut log,
        folder: _folder,
    } = program;
    let read = tokio::spawn(async move {
        let mut text = String::new();
        while let Ok(Some(line)) = log.next_line().await {
            text.push_str(&line);
            text.push('\n');
        }
        text
    });

    let secrets = [IN_THE_FILE, IN_A_FILE, IN_THE_ENVIRONMENT, GLOBAL];
    let mut needles: Vec<(String, String)> = secrets
        .iter()
        .flat_map(|secret| forms(secret, secret.as_bytes()))
        .collect();
    needles.extend(forms("the secret of a connection", &SHARED));
    for domain in domains {
        for fault in 0..5 {
            let (mut client, token) = encrypted(proxy, domain, fault == 1).await;
            needles.extend(forms("a token", &token));
            if fault == 1 {
                assert!(refusal(&mut client).await.contains("encrypt"));
                continue;
            }
            let (mut peer, host, _) = game::accept(&backend).await;
            assert_eq!(
                host.contains("bungeeguard-token"),
                ["file", "guard"].contains(&domain)
            );
            if fault == 2 {
                // It asks for encryption, as in online mode.
                peer.send(1, &[0, 1, 7, 1, 7, 1]).await;
                refusal(&mut client).await;
                continue;
            }
            let question = [vec![9], string("velocity:player_info"), vec![4]].concat();
            if fault != 3 {
                peer.send(4, &question).await;
                let answer = peer.expect(2).await;
                if let Some(signature) = answer.get(2..34) {
                    needles.extend(forms("a signature", signature));
                }
            }
            if fault == 4 {
                peer.send_raw(&[0xFF; 20]).await;
                refusal(&mut client).await;
                continue;
            }
            let success = game::login_success(PROTOCOL, uuid(super::NOTCH), "Notch");
            peer.send(2, &success).await;
            if fault == 3 && !host.contains("bungeeguard-token") {
                // It lets in without having asked.
                refusal(&mut client).await;
                continue;
            }
            client.expect(2).await;
            client.send(3, &[]).await;
            peer.expect(3).await;
            enter(&mut client, &mut peer, PROTOCOL).await;
        }
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut child = child;
    within("the exit", child.wait()).await.unwrap();
    let mut said = within("the end of the log", read).await.unwrap();
    said.push_str(&std::fs::read_to_string(&errors).unwrap());
    // What was searched is there: a detailed log of these logins.
    assert!(said.contains("TRACE") && said.contains("DEBUG") && said.contains("Notch"));
    for arguments in [
        &["check"][..],
        &["check", "--format", "json"],
        &["route", "guard"],
    ] {
        let output = Command::new(infrarust_test_support::infrarust())
            .arg("-c")
            .arg(&configuration)
            .args(arguments)
            .env("TEST_SECRET", IN_THE_ENVIRONMENT)
            .output()
            .unwrap();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    for (what, form) in needles {
        let at = said.find(&form);
        let line = at.map(|at| said[..at + form.len()].lines().next_back());
        assert_eq!(line, None, "{what} is in the log");
    }
}
