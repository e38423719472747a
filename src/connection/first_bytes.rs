//! The first bytes for a backend of a forwarding mode: a PROXY header and the client's
//! packets, with the host and the identity that the configuration asks for.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::net::TcpStream;
use tracing::info;

use super::begin::FirstBytes;
use super::facts::{Facts, Origin, Player};
use super::opening::Opening;
use crate::config::model::{BackendAddress, DomainRewrite, Forwarding, HostTail, ServerConfig};
use crate::intercept;
use crate::manifest::Hook;
use crate::plugin;
use crate::protocol::login::offline_uuid;
use crate::proxy::snapshot::Server;

/// The data from which the first bytes for a backend are made.
pub(super) struct FirstBytesBuilder {
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    /// The frame of the login start; empty in the protocol before 1.7.
    pub(super) login_start: Bytes,
    pub(super) player: Player,
    /// The host for the backend, if a plugin has chosen one.
    pub(super) host: Option<String>,
}

impl FirstBytesBuilder {
    /// Copies its packets, so that the larger buffer that they may be parts of is freed.
    pub(super) fn in_own_memory(mut self) -> Self {
        self.opening.wire = Bytes::copy_from_slice(&self.opening.wire);
        self.login_start = Bytes::copy_from_slice(&self.login_start);
        self
    }

    /// The first bytes for a backend: a PROXY header, and what the client has sent.
    pub(super) fn replay(
        &self,
        client: &TcpStream,
        rest: &[u8],
        config: &ServerConfig,
        forwarding: &Forwarding,
        address: &BackendAddress,
    ) -> io::Result<FirstBytes> {
        let header = config.send_proxy_protocol;
        let header = header.map(|version| self.origin.header(version, client));
        let header = header.transpose()?.unwrap_or_default();
        let host_field = self.host_field_for(config, forwarding, address);
        let first = self.opening.with_host(&host_field);
        Ok(FirstBytes {
            bytes: [&header, first.as_ref(), &self.login_start, rest].concat(),
            header_bytes: header.len(),
        })
    }

    /// The host field for the backend.
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
            // The UUID is only claimed by the client.
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

    /// Logs, once for each server, that the tail of a client's host field was dropped,
    /// and which key decides that. The tail is not logged: it may be a secret of the
    /// client and the backend.
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

/// The host field for the backend of `config` at `address`, or with the host that a
/// plugin has `chosen`. Used for status pings and for logins.
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
    /// Calls `handshake.rewrite`: the host for the backend of `server`, if a plugin
    /// chooses another than the configured one.
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

/// The host for the backend according to the configuration. If that is the backend's
/// own host, the host of the first address, since none is connected yet.
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
