//! What the proxy sends a backend first: the host, and the player's identity.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::net::TcpStream;
use tracing::info;

use super::facts::{Facts, Origin, Player};
use super::opening::Opening;
use crate::config::model::{BackendAddress, DomainRewrite, Forwarding, HostTail, ServerConfig};
use crate::intercept;
use crate::manifest::Hook;
use crate::plugin;
use crate::protocol::login::offline_uuid;
use crate::proxy::snapshot::Server;

/// The data for the first bytes that a backend gets.
pub(super) struct Sender {
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    /// The login start as it came; empty in the protocol before 1.7.
    pub(super) login_start: Bytes,
    pub(super) player: Player,
    /// The host that a plugin has chosen for the backend to see.
    pub(super) host: Option<String>,
}

impl Sender {
    /// The same, with its packets in memory of their size: they may be parts of a
    /// larger buffer.
    pub(super) fn in_own_memory(mut self) -> Self {
        self.opening.wire = Bytes::copy_from_slice(&self.opening.wire);
        self.login_start = Bytes::copy_from_slice(&self.login_start);
        self
    }

    /// The first bytes for a backend: a PROXY header, and what the client has
    /// sent. The length of the header comes first.
    pub(super) fn replay(
        &self,
        client: &TcpStream,
        rest: &[u8],
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
    ) -> io::Result<(usize, Vec<u8>)> {
        let header = config.send_proxy_protocol;
        let header = header.map(|version| self.origin.header(version, client));
        let header = header.transpose()?.unwrap_or_default();
        let host_field = self.host_field_for(config, forwarding, address);
        let first = self.opening.with_host(&host_field);
        let replay = [&header, first.as_ref(), &self.login_start, rest].concat();
        Ok((header.len(), replay))
    }

    /// The host field that the backend shall see.
    fn host_field_for(
        &self,
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
    ) -> String {
        let chosen = self.host.as_deref();
        let rewritten = rewritten_host(config, &self.opening, Some(address), chosen);
        match &forwarding.identity {
            None => rewritten,
            // The UUID is what the client claims; nobody has proved it.
            Some(identity) => intercept::host_field(
                &rewritten,
                &self.opening.host.markers(),
                self.origin.client.ip(),
                self.player
                    .uuid
                    .unwrap_or_else(|| offline_uuid(&self.player.name)),
                None,
                identity,
            ),
        }
    }

    /// Reports once for each server that a client's own tail was dropped, and
    /// which key decides that. The tail is not shown: it may be a secret
    /// between the client and the backend.
    pub(super) fn report_dropped_tail(
        &self,
        server: &Server,
        config: &ServerConfig,
        forwarding: &Forwarding,
    ) {
        let tail = self.opening.host.other_tail();
        if tail.trim_matches('\0').is_empty() {
            return;
        }
        let (key, advice) = match (&forwarding.identity, config.host_tail) {
            (Some(_), _) => (
                "forwarding_mode",
                "the client's tail of the host field (as Geyser and other proxies send it) was \
                 dropped: `forwarding_mode` puts the proxy's own in its place",
            ),
            (None, HostTail::Drop) => (
                "host_tail",
                "the client's tail of the host field (as Geyser and other proxies send it) was \
                 dropped; `host_tail = \"keep\"` forwards it, from every client",
            ),
            (None, HostTail::Keep) => return,
        };
        let reported = &server.state.tail_reported;
        if !reported.swap(true, Ordering::Relaxed) {
            info!(
                server = config.id,
                client = %self.origin.client,
                key,
                bytes = tail.len(),
                "{advice}"
            );
        }
    }
}

/// The host field that the backend of `config` at `address` shall see, unless a
/// plugin has `chosen` another. Status pings and logins both come here.
pub(super) fn rewritten_host(
    config: &ServerConfig,
    opening: &Opening,
    address: Option<&BackendAddress>,
    chosen: Option<&str>,
) -> String {
    let keep_tail = config.host_tail == HostTail::Keep;
    if chosen.is_some() {
        return opening.host.rebuild(chosen, keep_tail);
    }
    match &config.domain_rewrite {
        DomainRewrite::None => opening.host.rebuild(None, keep_tail),
        DomainRewrite::Explicit(host) => opening.host.rebuild(Some(host), keep_tail),
        DomainRewrite::FromBackend => {
            let host = address
                .map(|address| address.host.to_string())
                .unwrap_or_default();
            opening.host.rebuild(Some(&host), keep_tail)
        }
    }
}

impl Facts {
    /// Asks `handshake.rewrite` for the host that the backend of `server` sees
    /// instead of the configured one.
    pub(super) fn chosen_host(
        &self,
        server: &Server,
        opening: &Opening,
    ) -> Result<Option<String>, plugin::Refusal> {
        if !server.hooks.has(Hook::HandshakeRewrite) {
            return Ok(None);
        }
        let current = configured_host(&server.config, opening.host.host());
        server
            .hooks
            .handshake_rewrite(&self.for_plugins(), &current)
    }
}

/// The host that the backend is to see by the configuration. Where that is the
/// host of the backend itself and none is connected yet, it is that of the first
/// one.
fn configured_host(config: &ServerConfig, own: &str) -> String {
    match &config.domain_rewrite {
        DomainRewrite::None => own.to_owned(),
        DomainRewrite::Explicit(host) => host.clone(),
        DomainRewrite::FromBackend => config
            .addresses
            .first()
            .map(|address| address.host.to_string())
            .unwrap_or_default(),
    }
}
