//! Containers as servers: with an engine of our own making that does whatever
//! an engine might do, and with a real one.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

#[path = "support/elf.rs"]
mod elf;
#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/fake.rs"]
mod fake;
#[path = "docker/labels.rs"]
mod labels;
#[path = "it/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "docker/real.rs"]
mod real;
#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;

use serde_json::Value;

use self::program::Program;
use self::support::FakeClient;

const NO_SERVER: &str = "No server is known under this address.";

/// Everything that is said in the log about changes of servers by containers.
const CHANGED: &str = "servers of containers changed";

async fn is_unknown(proxy: SocketAddr, host: &str) {
    let mut client = FakeClient::login(proxy, host, "Alice").await;
    assert_eq!(FakeClient::kick(&mut client).await, NO_SERVER);
}

/// Waits for the next change of servers by containers.
async fn change(program: &mut Program) -> (Value, Value, Value) {
    let mut line = program.line(CHANGED).await;
    let mut take = |key: &str| line[key].take();
    (take("added"), take("changed"), take("removed"))
}
