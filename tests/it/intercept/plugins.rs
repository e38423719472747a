//! Plugins on intercepted servers: a real library that answers with what it sees.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use infrarust_test_support::game::{self, Sessions, encrypt, refusal};

use super::{NOTCH, uuid};
use crate::library::build;
use crate::support::{FakeBackend, TestProxy, server};

/// The player id that every client of these tests claims.
const CLAIMED: [u8; 16] = [7; 16];

fn stage() -> &'static Path {
    static STAGE: OnceLock<PathBuf> = OnceLock::new();
    STAGE.get_or_init(|| build("tests/plugins/stage", "infrarust_test_stage"))
}

/// The global file's table of the plugin.
fn table(config: &str) -> String {
    let file = stage();
    format!("[plugins.stage]\npath = {file:?}\n[plugins.stage.config]\n{config}\n")
}

/// `login.decide` says whether name and UUID are proved: in `client_only` they are
/// those of the session service, in the other modes those that the client claims.
#[tokio::test(flavor = "multi_thread")]
async fn login_decide_knows_what_is_proved() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let claimed = format!("nOTCH Some({:032x}) false", u128::from_be_bytes(CLAIMED));
    let proved = format!("Notch Some({:032x}) true", u128::from_be_bytes(uuid(NOTCH)));
    for (mode, expected) in [
        ("client_only", &proved),
        ("offline", &claimed),
        ("passthrough", &claimed),
        ("zero_copy", &claimed),
        ("server_only", &claimed),
    ] {
        let global = sessions.global() + &table("refuse = true");
        let file = server(mode, "play.example.com", backend.address, "");
        let proxy = TestProxy::with_plugins(&global, &[("a", file)]).await;
        let mut client = game::begin(proxy.address(), 767, "nOTCH").await;
        if mode == "client_only" {
            encrypt(&mut client, 767).await;
        }
        assert_eq!(refusal(&mut client).await, *expected, "{mode}");
    }
}

/// A login that `route.select` moves from a server where the proxy would have
/// authenticated to one where nobody does meets `login.decide` there, also of a
/// plugin that both servers have.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_login_meets_the_gates_of_its_server() {
    let sessions = Sessions::confirming("Notch").await;
    let backend = FakeBackend::start().await;
    let global = sessions.global() + &table("refuse = true\ngo_to = \"b\"");
    let servers = [
        (
            "a",
            server("client_only", "play.example.com", backend.address, ""),
        ),
        (
            "b",
            server("passthrough", "other.example.com", backend.address, ""),
        ),
    ];
    let proxy = TestProxy::with_plugins(&global, &servers).await;
    let mut client = game::begin(proxy.address(), 767, "nOTCH").await;
    let text = refusal(&mut client).await;
    assert!(text.ends_with(" false"), "{text}");
}
