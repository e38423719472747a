//! A proxy of each intercepted mode, and players of both.

use infrarust_test_support::game::{self, Sessions, Speaker, encrypt};

use super::{admit, enter};
use crate::support::{FakeBackend, TestProxy};

/// The modes, by number.
pub(super) const MODES: [&str; 2] = ["offline", "client_only"];

/// One proxy of each intercepted mode, with the same backend. The session service
/// confirms everybody.
pub(super) struct Modes {
    pub(super) backend: FakeBackend,
    pub(super) proxies: [TestProxy; 2],
    _sessions: Sessions,
}

impl Modes {
    /// Both global files and both server files get these lines.
    pub(super) async fn start(global: &str, more: &str) -> Self {
        let backend = FakeBackend::start().await;
        let sessions = Sessions::start(game::Say::Confirm).await;
        let global = format!("{}{global}\n", sessions.global());
        let proxies = MODES.map(|mode| TestProxy::with_one_server(&global, mode, &backend, more));
        Self {
            backend,
            proxies,
            _sessions: sessions,
        }
    }

    /// A client that has sent its login start.
    pub(super) async fn client(&self, mode: usize, protocol: i32, name: &str) -> Speaker {
        let mut client = game::begin(self.proxies[mode].address(), protocol, name).await;
        if MODES[mode] == "client_only" {
            encrypt(&mut client, protocol).await;
        }
        client
    }

    /// A client and its backend, which has read the login of Notch.
    pub(super) async fn begin(&self, mode: usize, protocol: i32) -> (Speaker, Speaker) {
        self.begin_as(mode, protocol, "Notch").await
    }

    /// The same, under this name.
    pub(super) async fn begin_as(
        &self,
        mode: usize,
        protocol: i32,
        name: &str,
    ) -> (Speaker, Speaker) {
        let client = self.client(mode, protocol, name).await;
        let (server, _, _) = game::accept(&self.backend).await;
        (client, server)
    }

    /// The same, with a client that has read that its login has succeeded.
    pub(super) async fn welcomed(&self, mode: usize, protocol: i32) -> (Speaker, Speaker) {
        let (mut client, mut server) = self.begin(mode, protocol).await;
        admit(&mut server, protocol).await;
        client.expect(2).await;
        (client, server)
    }

    /// The same, in the configuration, where the version has one.
    pub(super) async fn configured(&self, mode: usize, protocol: i32) -> (Speaker, Speaker) {
        let (mut client, mut server) = self.welcomed(mode, protocol).await;
        if protocol >= 764 {
            client.send(3, &[]).await;
            server.expect(3).await;
        }
        (client, server)
    }

    /// The same, in the game.
    pub(super) async fn playing(&self, mode: usize, protocol: i32) -> (Speaker, Speaker) {
        let (mut client, mut server) = self.configured(mode, protocol).await;
        enter(&mut client, &mut server, protocol).await;
        (client, server)
    }

    pub(super) async fn idle(&self) {
        for proxy in &self.proxies {
            proxy.idle().await;
        }
    }
}
