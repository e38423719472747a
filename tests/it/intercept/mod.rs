//! The intercepted modes over the wire: a client, a backend and a session service that
//! write their own bytes.

mod answers;
mod authentication;
mod bounds;
#[cfg(target_os = "linux")]
mod cable;
pub mod channel;
mod chaos;
mod commands;
mod compression;
mod contents;
mod cookies;
mod crossings;
mod crowd;
mod duplicate;
mod encrypted_switches;
mod every_version;
mod fallback;
mod faults;
mod final_text;
#[cfg(target_os = "linux")]
mod flood;
mod forge;
mod forwarding;
mod hostile;
mod loss;
mod membership;
#[cfg(target_os = "linux")]
mod memory;
mod modes;
mod moves;
mod old_world;
#[cfg(target_os = "linux")]
mod packets;
#[cfg(target_os = "linux")]
mod plugin_commands;
#[cfg(target_os = "linux")]
mod plugins;
mod pressure;
mod questions;
mod refusals;
mod secrets;
#[cfg(target_os = "linux")]
mod signed_chat;
mod switching;
mod texts;
mod turns;
#[cfg(target_os = "linux")]
mod ways;

use infrarust_test_support::game::{self, Ids, Speaker};

use crate::support::{FakeBackend, TestProxy, server, wire};

/// The player id that a name gives without forwarding.
const NOTCH_OFFLINE: &str = "b50ad385-829d-3141-a216-7e7d7539ba7f";
/// The player id that the session service gives.
const NOTCH: &str = "069a79f4-44e9-4726-a5be-fca90e38aaf5";

/// A proxy with one `offline` server; `more` are further lines of its file.
fn offline(backend: &FakeBackend, more: &str) -> TestProxy {
    TestProxy::with_one_server("", "offline", backend, more)
}

/// Without compression towards the client.
const NO_COMPRESSION: &str = "compression_threshold = -1";

/// The file of an `offline` server without compression.
fn plain(backend: &FakeBackend) -> String {
    server(
        "offline",
        "play.example.com",
        backend.address,
        NO_COMPRESSION,
    )
}

/// A player id as bytes.
fn uuid(text: &str) -> [u8; 16] {
    let digits = text.replace('-', "");
    u128::from_str_radix(&digits, 16).unwrap().to_be_bytes()
}

/// A client that has sent its login, and the backend that has read it.
async fn begin(
    proxy: &TestProxy,
    backend: &FakeBackend,
    protocol: i32,
    name: &str,
) -> (Speaker, Speaker) {
    let client = game::begin(proxy.address(), protocol, name).await;
    let (backend, _, _) = game::accept(backend).await;
    (client, backend)
}

/// The backend accepts the player: `offline`, Notch.
async fn admit(backend: &mut Speaker, protocol: i32) {
    let success = game::login_success(protocol, uuid(NOTCH_OFFLINE), "Notch");
    backend.send(2, &success).await;
}

/// A player of this name, accepted by the server of this host, without compression.
async fn accepted(
    proxy: &TestProxy,
    host: &str,
    backend: &FakeBackend,
    protocol: i32,
    name: &str,
) -> (Speaker, Speaker) {
    let mut client = game::begin_at(proxy.address(), protocol, host, name).await;
    let (mut server, ..) = game::accept(backend).await;
    game::welcome([&mut client, &mut server], protocol, ([5; 16], name), None).await;
    (client, server)
}

/// Another player, who has a slot on the server of this host.
async fn occupy(proxy: &TestProxy, host: &str, backend: &FakeBackend) -> (Speaker, Speaker) {
    accepted(proxy, host, backend, 767, "Other").await
}

/// The backend accepts the player, and the client reads the login success: `offline`,
/// Notch.
async fn welcome(client: &mut Speaker, backend: &mut Speaker, protocol: i32) {
    welcome_with(client, backend, protocol, None).await;
}

/// The same with the compression that the proxy announces to the client.
async fn welcome_with(
    client: &mut Speaker,
    backend: &mut Speaker,
    protocol: i32,
    threshold: Option<i32>,
) {
    let player = (uuid(NOTCH_OFFLINE), "Notch");
    game::welcome([client, backend], protocol, player, threshold).await;
}

/// Goes through a configuration, if the version has one, into the game.
async fn enter(client: &mut Speaker, backend: &mut Speaker, protocol: i32) {
    let ids = Ids::of(protocol);
    game::configure([client, backend], protocol).await;
    backend.send(ids.join, &[0, 0, 0, 1, 9, 0, 0]).await;
    client.expect(ids.join).await;
}

/// A player in the game, without compression.
async fn play(proxy: &TestProxy, backend: &FakeBackend, protocol: i32) -> (Speaker, Speaker) {
    let (mut client, mut backend) = begin(proxy, backend, protocol, "Notch").await;
    welcome(&mut client, &mut backend, protocol).await;
    enter(&mut client, &mut backend, protocol).await;
    (client, backend)
}

/// The text of a disconnect in configuration or play: JSON, or NBT with the text as its
/// only string besides the key.
fn text(protocol: i32, body: &[u8]) -> String {
    if protocol <= 764 {
        let json: serde_json::Value = serde_json::from_str(&wire::string_in(body)).unwrap();
        return json["text"].as_str().unwrap().to_owned();
    }
    let head = b"\x0a\x08\0\x04text";
    assert!(body.starts_with(head), "{body:02x?}");
    let rest = &body[head.len()..];
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    assert_eq!(rest[2 + length..], [0]);
    String::from_utf8(rest[2..2 + length].to_vec()).unwrap()
}
