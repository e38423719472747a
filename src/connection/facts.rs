//! What is known about a connection while it runs.

use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::config::model::{BackendAddress, ProxyVersion, Relay};
use crate::forward::Counters;
use crate::plugin;
use crate::protocol::handshake::Intent;
use crate::proxy::snapshot::Server;
use crate::proxy_protocol::{self, Endpoints};

/// Collects what is known about a connection while it runs.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) began: Instant,
    /// The peer of the connection: the client, or a load balancer.
    pub(super) peer: SocketAddr,
    /// Whether a PROXY header was expected from it.
    pub(super) header: Header,
    /// The client: the peer, or the address in a PROXY header.
    pub(super) client: SocketAddr,
    /// The cleaned host name that the client asked for.
    pub(super) virtual_host: Option<String>,
    /// The name that the client claims.
    pub(super) player: Option<String>,
    /// The server that it was routed to.
    pub(super) server: Option<Arc<Server>>,
    /// The session that was opened.
    pub(super) session: Option<SessionFacts>,
    /// What the client wants; status until the handshake is read.
    pub(super) intent: Intent,
    /// The protocol version that it announced; -1 if it has not announced any.
    pub(super) protocol: i32,
    /// The session, as plugins observe it.
    pub(super) observed: Option<Observed>,
}

/// Whether a PROXY header was expected from this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// None is expected from any peer.
    Off,
    /// None is expected from this peer.
    Untrusted,
    /// One was expected and has been read.
    Read,
}

/// What is known of a session: a login that reached a backend.
#[derive(Debug)]
pub(super) struct SessionFacts {
    /// The address of the backend.
    pub(super) backend: BackendAddress,
    /// How its bytes are moved.
    pub(super) relay: Relay,
    /// The bytes moved so far; live.
    pub(super) counters: Arc<Counters>,
}

/// A session that plugins observe.
#[derive(Debug)]
pub(super) struct Observed {
    /// The server with the plugins that observe it: the first one of the session.
    pub(super) server: Arc<Server>,
    pub(super) session: plugin::Session,
    pub(super) opened: Instant,
}

/// See [`Facts::moving`].
pub(super) struct Moving<'a> {
    facts: &'a mut Facts,
    /// The server and the session; `None` once the player has arrived.
    before: Option<(Option<Arc<Server>>, Option<SessionFacts>)>,
}

impl Moving<'_> {
    /// The facts stay with the new server.
    pub(super) fn has_arrived(mut self) {
        self.before = None;
    }
}

impl Deref for Moving<'_> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        self.facts
    }
}

impl DerefMut for Moving<'_> {
    fn deref_mut(&mut self) -> &mut Facts {
        self.facts
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            (self.facts.server, self.facts.session) = before;
        }
    }
}

impl Facts {
    /// Begins with the address of the peer.
    pub(super) fn begin(peer: SocketAddr) -> Self {
        Self {
            began: Instant::now(),
            peer,
            header: Header::Off,
            client: peer,
            virtual_host: None,
            player: None,
            server: None,
            session: None,
            intent: Intent::Status,
            protocol: -1,
            observed: None,
        }
    }

    /// The facts for a trial of another server, which plugins do not observe.
    pub(super) fn trial(&self) -> Self {
        Self {
            began: self.began,
            peer: self.peer,
            header: self.header,
            client: self.client,
            virtual_host: self.virtual_host.clone(),
            player: self.player.clone(),
            server: None,
            session: None,
            intent: self.intent,
            protocol: self.protocol,
            observed: None,
        }
    }

    /// The facts while the player moves to another server. Unless the move succeeds, they
    /// return to the server and the session before.
    pub(super) fn moving(&mut self) -> Moving<'_> {
        let before = (self.server.clone(), self.session.take());
        Moving {
            facts: self,
            before: Some(before),
        }
    }

    /// The client, as plugins see it.
    pub(super) fn for_plugins(&self) -> plugin::Client<'_> {
        plugin::Client {
            peer: self.client,
            protocol: self.protocol,
            intent: self.intent,
            virtual_host: self.virtual_host.as_deref().unwrap_or_default(),
            server: self.server.as_ref().map_or("", |server| &server.config.id),
        }
    }

    pub(super) fn host(&self) -> &str {
        self.virtual_host.as_deref().unwrap_or_default()
    }

    pub(super) fn player(&self) -> &str {
        self.player.as_deref().unwrap_or_default()
    }

    pub(super) fn server_id(&self) -> &str {
        self.server
            .as_ref()
            .map_or("", |server| server.config.id.as_str())
    }

    pub(super) fn mode(&self) -> &str {
        self.server
            .as_ref()
            .map_or("", |server| server.config.mode().name())
    }

    pub(super) fn backend(&self) -> String {
        self.session
            .as_ref()
            .map(|session| session.backend.to_string())
            .unwrap_or_default()
    }
}

/// The two ends of the client's connection, for PROXY headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The client's address.
    pub(super) client: SocketAddr,
    /// The address that the client has connected to, if a balancer's header has it.
    pub(super) destination: Option<SocketAddr>,
}

impl Origin {
    /// The same, with the local address of this connection as destination, if no
    /// balancer has given one.
    pub(super) fn with_destination(self, connection: &TcpStream) -> Self {
        let own = || connection.local_addr().ok();
        Self {
            destination: self.destination.or_else(own),
            ..self
        }
    }

    /// The PROXY header for a backend; `None` if the destination is not known.
    pub(super) fn known_header(&self, version: ProxyVersion) -> Option<Vec<u8>> {
        let endpoints = Endpoints {
            client: self.client,
            destination: self.destination?,
        };
        Some(proxy_protocol::build(version, &endpoints))
    }

    /// The PROXY header for a backend of the client with this `connection`.
    ///
    /// # Errors
    ///
    /// When the system does not report the proxy's address of the connection.
    pub(super) fn header(
        &self,
        version: ProxyVersion,
        connection: &TcpStream,
    ) -> io::Result<Vec<u8>> {
        let destination = match self.destination {
            Some(destination) => destination,
            None => connection.local_addr()?,
        };
        let client = self.client;
        Ok(proxy_protocol::build(
            version,
            &Endpoints {
                client,
                destination,
            },
        ))
    }
}

/// The player that a client claims to be.
pub(super) struct Player {
    pub(super) name: String,
    pub(super) uuid: Option<[u8; 16]>,
}

impl Player {
    /// The player, as plugins see it.
    pub(super) fn for_plugins(&self) -> plugin::Player<'_> {
        plugin::Player {
            name: &self.name,
            uuid: self.uuid.map(u128::from_be_bytes),
            is_proved: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::BackendHost;

    /// After a failed move the facts are those of the old server again, and nothing of the
    /// move is left. After a successful move they are those of the new server.
    #[test]
    fn facts_follow_the_player_only_if_the_move_succeeds() {
        let session = |host: &str| SessionFacts {
            backend: BackendAddress {
                host: BackendHost::Name(host.to_owned()),
                port: 1,
                follows_srv: false,
            },
            relay: Relay::Copy,
            counters: Arc::default(),
        };
        let mut facts = Facts::begin(SocketAddr::from(([127, 0, 0, 1], 1)));
        facts.session = Some(session("old"));
        let at = |facts: &Facts| facts.session.as_ref().map(|one| one.backend.to_string());

        let mut moving = facts.moving();
        assert_eq!(at(&moving), None);
        moving.session = Some(session("new"));
        drop(moving);
        assert_eq!(at(&facts).as_deref(), Some("old:1"));

        let mut moving = facts.moving();
        moving.session = Some(session("new"));
        moving.has_arrived();
        assert_eq!(at(&facts).as_deref(), Some("new:1"));
    }
}
