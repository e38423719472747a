//! Shared parts of the tests over the wire, and a proxy in this process.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use infrarust::config::{self, LoadOptions};
use infrarust::diagnostic::render::{self, Colour};
use infrarust::start::{self, Running};
use infrarust::{listener, socket};
pub use infrarust_test_support::*;
use tempfile::TempDir;

/// A proxy in this process, on a port of its own.
pub struct TestProxy {
    pub running: Running,
    _folder: TempDir,
}

impl TestProxy {
    /// Starts a proxy with these lines in its global file and these server files.
    pub fn start(global: &str, servers: &[(&str, String)]) -> Self {
        let started = Self::with_plugins(global, servers).now_or_never();
        started.expect("only plugins are waited for")
    }

    /// As [`start`](Self::start), with one server for `play.example.com`; `more` are
    /// further lines of its file.
    pub fn with_one_server(global: &str, mode: &str, backend: &FakeBackend, more: &str) -> Self {
        let file = server(mode, "play.example.com", backend.address, more);
        Self::start(global, &[("a", file)])
    }

    /// As [`start`](Self::start), for a global file with plugins.
    pub async fn with_plugins(global: &str, servers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_config(folder.path(), global, servers);
        let loaded = config::load(&LoadOptions {
            config: Some(folder.path().join("infrarust.toml")),
            ..LoadOptions::default()
        });
        let problems = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
        let config = loaded.config.unwrap_or_else(|| panic!("{problems}"));
        let files = socket::raise_open_files();
        let listeners = listener::open(&config.proxy).unwrap();
        let running = start::start(config, listeners, files).await;
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        Self {
            running,
            _folder: folder,
        }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    /// Waits until every connection has finished.
    pub async fn idle(&self) {
        within("the proxy's connections to finish", async {
            while self.running.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.running.shutdown().stop_now();
    }
}
