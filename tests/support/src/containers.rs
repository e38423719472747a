//! What tests of containers as servers wait for.

use std::net::SocketAddr;

use serde_json::Value;

use crate::FakeClient;
use crate::program::Program;

const NO_SERVER: &str = "No server is known under this address.";

/// Everything that is said in the log about changes of servers by containers.
pub const CHANGED: &str = "servers of containers changed";

pub async fn is_unknown(proxy: SocketAddr, host: &str) {
    let mut client = FakeClient::login(proxy, host, "Alice").await;
    assert_eq!(FakeClient::kick(&mut client).await, NO_SERVER);
}

/// A player at this host reads that its server cannot be reached.
pub async fn is_away(proxy: SocketAddr, host: &str) {
    let mut client = FakeClient::login(proxy, host, "Alice").await;
    let text = FakeClient::kick(&mut client).await;
    assert!(text.contains("cannot be reached"), "{text}");
}

/// Waits until changes have removed all these servers.
pub async fn await_removal(program: &mut Program, ids: &[&str]) {
    let mut left = ids.to_vec();
    while !left.is_empty() {
        let (_, _, removed) = change(program).await;
        let removed = removed.as_str().unwrap_or_default();
        left.retain(|id| !removed.contains(&format!("\"{id}\"")));
    }
}

/// Waits for the next change of servers by containers.
pub async fn change(program: &mut Program) -> (Value, Value, Value) {
    let mut line = program.line(CHANGED).await;
    let mut take = |key: &str| line[key].take();
    (take("added"), take("changed"), take("removed"))
}
