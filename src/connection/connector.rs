//! Connects a login to a backend of a server of the intercepted modes.

use std::sync::Arc;

use super::ending::Ending;
use super::facts::{Facts, Origin, SessionFacts};
use super::first_bytes::rewritten_host;
use super::opening::Opening;
use crate::config::model::{BackendAddress, IdentityForwarding, Intercepted, Relay, ServerConfig};
use crate::forward::Counters;
use crate::intercept::{self, ConnectedBackend, Failure, RespondingBackend, Who};
use crate::plugin::{self, HookSet};
use crate::protocol::packet::login::Profile;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::upstream::{DROPPED_MAX, Dropped};

/// A login that looks for a backend.
pub(super) struct BackendConnector<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) intercepted: &'a Intercepted,
    /// With its destination.
    pub(super) origin: &'a Origin,
    pub(super) opening: &'a Opening,
    /// The host for the backend that a plugin has chosen.
    pub(super) host: Option<&'a str>,
    /// Whether the backend gets the key with which the player signs chat.
    pub(super) gets_chat_key: bool,
}

impl BackendConnector<'_> {
    /// Connects to the first backend that answers the login start. Until a backend answers,
    /// the next one can be tried.
    pub(super) async fn reach(
        &self,
        who: Who<'_>,
        counters: &Arc<Counters>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<RespondingBackend, Ending> {
        let mut dropped = Vec::new();
        loop {
            let (addresses, bound) = (&self.config.addresses, self.config.timeouts.connect);
            let connected = proxy.upstream.connect(addresses, bound, &dropped).await;
            let connected = connected.map_err(Ending::Unreachable)?;
            facts.session = Some(SessionFacts {
                backend: connected.address.clone(),
                relay: Relay::Copy,
                counters: Arc::clone(counters),
            });
            facts.session_connected();
            let dialled = ConnectedBackend {
                header: self.header()?,
                opening: self.handshake(who, &connected.address),
                stream: connected.stream,
                identity: self.intercepted.identity.clone(),
                address: self.origin.client.ip(),
                server: self.config.id.clone(),
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
        match self.config.send_proxy_protocol {
            Some(version) => self.origin.known_header(version).ok_or(Ending::ClientLeft),
            None => Ok(Vec::new()),
        }
    }

    fn handshake(&self, who: Who<'_>, address: &BackendAddress) -> Vec<u8> {
        let host = rewritten_host(self.config, self.opening, Some(address), self.host);
        let host_field = match &self.intercepted.identity {
            Some(IdentityForwarding::Host(forwarding)) => intercept::host_field(
                &host,
                &self.opening.host.markers(),
                self.origin.client.ip(),
                who.profile().uuid,
                Some(&who.profile().properties),
                forwarding,
            ),
            Some(IdentityForwarding::Velocity(_)) | None => host,
        };
        self.opening.with_host(&host_field).to_vec()
    }
}

/// Whether backends of a server do not get the keys with which players of 1.19 to 1.19.2
/// sign chat, so that plugins can change and drop signed lines.
pub(super) fn withholds_chat_key(server: &Server) -> bool {
    server.hooks.modifies_chat()
}

/// Whether a login without the chat key has failed because the backend demands it, and it
/// can have it.
pub(super) fn demands_withheld_key(server: &Server, who: Who<'_>, failure: &Failure) -> bool {
    withholds_chat_key(server) && who.has_chat_key() && failure.demands_chat_key()
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
