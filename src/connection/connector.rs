//! Logs players in at a backend of a server of the intercepted modes.
//!
//! A backend may demand the key with which the player signs chat, although its server
//! withholds it for its plugins. The login is then repeated once, with the key. All logins
//! do so: those of clients in the login state, and those of players who come from another
//! server.

use std::future::pending;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::ending::Ending;
use super::facts::{Facts, Origin, SessionFacts};
use super::first_bytes::rewritten_host;
use super::opening::Opening;
use crate::close::left_by_peer;
use crate::config::model::{BackendAddress, IdentityForwarding, Intercepted, Relay};
use crate::forward::Counters;
use crate::intercept::{
    self, ConnectedBackend, Failure, Flag, IdentifiedClient, LoggedIn, PlayerHandle, Prepared,
    RespondingBackend, Who,
};
use crate::plugin::{self, HookSet};
use crate::protocol::packet::login::Profile;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::upstream::{DROPPED_MAX, Dropped};

/// Who logs in, and where.
#[derive(Clone, Copy)]
pub(super) struct BackendLogin<'a> {
    pub(super) server: &'a Server,
    pub(super) intercepted: &'a Intercepted,
    /// Where the client comes from, and its destination.
    pub(super) origin: &'a Origin,
    pub(super) opening: &'a Opening,
    /// The host for the backend, if a plugin has chosen one.
    pub(super) host: Option<&'a str>,
    pub(super) counters: &'a Arc<Counters>,
}

/// A login that looks for a backend.
pub(super) struct BackendConnector<'a> {
    login: BackendLogin<'a>,
    /// Whether the backend gets the key with which the player signs chat.
    gets_chat_key: bool,
}

impl<'a> BackendConnector<'a> {
    pub(super) fn new(login: BackendLogin<'a>) -> Self {
        Self {
            login,
            gets_chat_key: !login.server.hooks.modifies_chat(),
        }
    }

    /// Logs in a client that is still in the login state. `replaced` ends the login, and so
    /// does the deadline `until`, if there is one.
    pub(super) async fn log_in(
        mut self,
        client: &mut IdentifiedClient,
        replaced: &Flag,
        until: Option<Instant>,
        dials: &mut usize,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<LoggedIn, Ending> {
        loop {
            *dials += 1;
            let backend = tokio::select! {
                backend = self.reach(client.who(), proxy, facts) => backend?,
                () = left_by_peer(client.client.stream()) => return Err(Ending::ClientLeft),
                () = replaced.wait() => return Err(Ending::Intercepted(Failure::Replaced)),
                () = passed(until) => return Err(Ending::Intercepted(Failure::BackendTooSlow)),
            };
            let backend = match until {
                Some(until) => backend.before(until),
                None => backend,
            };
            match intercept::log_in(client, backend, replaced).await {
                Ok(logged_in) => return Ok(logged_in),
                Err(failure) => self.accept_demand(client.who(), failure)?,
            }
        }
    }

    /// Runs the part of a login that does not need the client, for a player who comes from
    /// another server. See [`RespondingBackend::prepare`] for `has_mods` and `player`.
    pub(super) async fn prepare(
        mut self,
        who: Who<'_>,
        has_mods: bool,
        player: &Arc<PlayerHandle>,
        dials: &mut usize,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Prepared, Ending> {
        loop {
            *dials += 1;
            let backend = self.reach(who, proxy, facts).await?;
            match backend.prepare(who, has_mods, Arc::clone(player)).await {
                Ok(prepared) => return Ok(prepared),
                Err(failure) => self.accept_demand(who, failure)?,
            }
        }
    }

    /// After a failed login: if it has failed only because the backend demands the chat key,
    /// and the player has one that was withheld, the next login sends it.
    ///
    /// # Errors
    ///
    /// The failure, if another login would fail in the same way.
    fn accept_demand(&mut self, who: Who<'_>, failure: Failure) -> Result<(), Ending> {
        if self.gets_chat_key || !who.has_chat_key() || !failure.demands_chat_key() {
            return Err(Ending::Intercepted(failure));
        }
        self.gets_chat_key = true;
        Ok(())
    }

    /// Connects to the first backend that answers the login start. Until a backend answers,
    /// the next one can be tried.
    async fn reach(
        &self,
        who: Who<'_>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<RespondingBackend, Ending> {
        let config = &self.login.server.config;
        let mut dropped = Vec::new();
        loop {
            let (addresses, bound) = (&config.addresses, config.timeouts.connect);
            let connected = proxy.upstream.connect(addresses, bound, &dropped).await;
            let connected = connected.map_err(Ending::Unreachable)?;
            facts.session = Some(SessionFacts {
                backend: connected.address.clone(),
                relay: Relay::Copy,
                counters: Arc::clone(self.login.counters),
            });
            facts.session_connected();
            let dialled = ConnectedBackend {
                header: self.header()?,
                opening: self.handshake(who, &connected.address),
                stream: connected.stream,
                identity: self.login.intercepted.identity.clone(),
                address: self.login.origin.client.ip(),
                server: config.id.clone(),
                gets_chat_key: self.gets_chat_key,
            };
            match dialled.greet(who).await {
                Ok(answering) => return Ok(answering),
                Err(error) if dropped.len() < DROPPED_MAX => {
                    facts.session = None;
                    let dialled = connected.dialled;
                    dropped.push(Dropped { dialled, error });
                }
                Err(error) => {
                    facts.session = None;
                    return Err(Ending::BackendFailed(error));
                }
            }
        }
    }

    /// The PROXY header, or no bytes.
    fn header(&self) -> Result<Vec<u8>, Ending> {
        match self.login.server.config.send_proxy_protocol {
            Some(version) => self
                .login
                .origin
                .known_header(version)
                .ok_or(Ending::ClientLeft),
            None => Ok(Vec::new()),
        }
    }

    fn handshake(&self, who: Who<'_>, address: &BackendAddress) -> Vec<u8> {
        let host = rewritten_host(
            &self.login.server.config,
            self.login.opening,
            Some(address),
            self.login.host,
        );
        let host_field = match &self.login.intercepted.identity {
            Some(IdentityForwarding::Host(forwarding)) => intercept::host_field(
                &host,
                &self.login.opening.host.markers(),
                self.login.origin.client.ip(),
                who.profile().uuid,
                Some(&who.profile().properties),
                forwarding,
            ),
            Some(IdentityForwarding::Velocity(_)) | None => host,
        };
        self.login.opening.with_host(&host_field).to_vec()
    }
}

/// Completes at the deadline; never without one.
async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// Calls `login.decide` for a player.
pub(super) async fn decide(
    hooks: &HookSet,
    profile: &Profile,
    is_proved: bool,
    facts: &Facts,
) -> Result<(), Ending> {
    let player = plugin::Player {
        name: &profile.name,
        uuid: Some(u128::from_be_bytes(profile.uuid)),
        is_proved,
    };
    let client = facts.for_plugins();
    Ok(hooks.login_decide(&client, &player).await?)
}
