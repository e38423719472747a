//! Tests that need exclusive use of the machine or take long: measurements of the whole
//! process, thousands of sessions, and an engine and clients of other authors.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

infrarust_test_support::watchdog!();

mod alone;
mod containers;
mod deadline;
mod descriptors;
mod empty_hooks;
mod engine;
mod idle;
mod packets;
mod real_clients;
mod scale;
mod splice;

use std::sync::Arc;
use std::time::Duration;

use infrarust::config::model::Keepalive;
use infrarust::forward::{Counters, Limits, Session};
use tokio::net::{TcpListener, TcpStream};

/// Not used up in these tests: their peers are alive and answer probes.
const KEEPALIVE: Keepalive = Keepalive {
    time: Duration::from_secs(40),
    interval: Duration::from_secs(5),
    retries: 4,
};

/// Both ends of a connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (here, _) = listener.accept().await.unwrap();
    (there, here)
}

/// A session without timeouts.
fn session(client: TcpStream, backend: TcpStream) -> Session {
    Session {
        client,
        backend,
        keepalive: KEEPALIVE,
        limits: Limits {
            read: None,
            write: None,
            half_close: Duration::from_secs(60),
        },
        counters: Arc::new(Counters::default()),
    }
}
