//! Waits for tests of containers as servers.

use std::net::SocketAddr;

use serde_json::Value;

use crate::FakeClient;
use crate::program::Program;

const NO_SERVER: &str = "No server is known under this address.";

/// The message of the line in the log about servers that containers change.
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

/// Waits until servers have been added, changed and removed, exactly these, by one change
/// or by several: a container with a slow inspection does not delay the others.
pub async fn changes(program: &mut Program, expected: [&[&str]; 3]) {
    let mut left = expected.map(<[&str]>::to_vec);
    while left.iter().any(|ids| !ids.is_empty()) {
        let (added, changed, removed) = change(program).await;
        for (left, ids) in left.iter_mut().zip([added, changed, removed]) {
            let ids: Vec<String> = serde_json::from_str(ids.as_str().unwrap()).unwrap();
            for id in ids {
                let place = left.iter().position(|expected| *expected == id);
                left.remove(place.unwrap_or_else(|| panic!("`{id}` changes, too")));
            }
        }
    }
}

/// Waits for the next change of servers by containers.
pub async fn change(program: &mut Program) -> (Value, Value, Value) {
    let mut line = program.line(CHANGED).await;
    let mut take = |key: &str| line[key].take();
    (take("added"), take("changed"), take("removed"))
}
