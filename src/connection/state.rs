//! The evidence: what a connection has proved so far, one type a step.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::client::{Broken, Client};
use super::ending::{Ended, Ending, Refusal};
use super::opening::Opening;
use super::report::{Header, Report};
use crate::config::model::{ProxyVersion, Relay, Trust, UnknownDomain};
use crate::limit::{ClientKey, PendingGuard, Slot};
use crate::manifest::Hook;
use crate::protocol::handshake::Intent;
use crate::proxy::Proxy;
use crate::proxy_protocol::{self, Endpoints};
use crate::snapshot::{Server, Snapshot};
use crate::socket;

/// Where a connection comes from, and where it went to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The client's address.
    pub(super) client: SocketAddr,
    /// Where the client has connected to, if a balancer has told.
    destination: Option<SocketAddr>,
}

impl Origin {
    /// The PROXY header that tells a backend about this `connection`.
    ///
    /// # Errors
    ///
    /// When the system does not say which address of ours it is.
    pub(super) fn header(
        &self,
        version: ProxyVersion,
        connection: &TcpStream,
    ) -> io::Result<Vec<u8>> {
        let destination = match self.destination {
            Some(told) => told,
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

/// A client whose true address is known and let in.
pub(super) struct Greeted {
    client: Client,
    origin: Origin,
    snapshot: Arc<Snapshot>,
}

/// A client that has said what it wants.
pub(super) struct Opened {
    pub(super) client: Client,
    origin: Origin,
    snapshot: Arc<Snapshot>,
    pub(super) opening: Opening,
}

/// A client with a server.
pub(super) struct Routed {
    pub(super) client: Client,
    pub(super) origin: Origin,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) opening: Opening,
    /// `None` is an unknown domain that gets the default MOTD.
    pub(super) server: Option<Arc<Server>>,
}

/// A player who has said everything that a decision about him needs.
pub(super) struct Claimed {
    pub(super) routed: Routed,
    pub(super) player: Player,
    /// The login start as it came; empty in the protocol before 1.7.
    pub(super) login_start: bytes::Bytes,
    /// His place among `max_connections`.
    pub(super) place: Slot,
}

/// A client with a place on its server.
pub(super) struct Admitted {
    pub(super) client: Client,
    pub(super) sender: Sender,
    pub(super) server: Arc<Server>,
    /// Its place among `max_connections`.
    pub(super) place: Slot,
    /// Its place among the server's `max_players`.
    pub(super) slot: Slot,
}

/// What a backend gets to see of a client first.
pub(super) struct Sender {
    pub(super) origin: Origin,
    pub(super) opening: Opening,
    /// The login start as it came; empty in the protocol before 1.7.
    pub(super) login_start: bytes::Bytes,
    pub(super) player: Player,
    /// The host that a plugin has chosen for the backend to see.
    pub(super) host: Option<String>,
}

/// Who may go on, by the family of his server's mode.
pub(super) enum Admission {
    /// The proxy will move bytes.
    Forwarded(Box<Admitted>),
    /// The proxy will speak the protocol.
    Intercepted(Box<super::intercepted::Applicant>),
}

/// Who a client claims to be.
pub(super) struct Player {
    pub(super) name: String,
    pub(super) uuid: Option<[u8; 16]>,
}

/// A client with a backend: everything that it has sent is on its way.
pub(super) struct Joined {
    pub(super) client: TcpStream,
    pub(super) backend: TcpStream,
    pub(super) server: Arc<Server>,
    pub(super) counters: Arc<crate::forward::Counters>,
    pub(super) relay: Relay,
    pub(super) _place: Slot,
    pub(super) _slot: Slot,
}

/// Finds out who is there, and whether the address may connect at all.
pub(super) async fn greet(
    stream: TcpStream,
    pending: &PendingGuard,
    proxy: &Proxy,
    report: &mut Report,
) -> Result<Greeted, Ended> {
    let snapshot = proxy.snapshot();
    let config = &snapshot.proxy;
    let deadline = tokio::time::Instant::now() + config.handshake_timeout;
    if !socket::LISTENER_TUNES_CONNECTIONS {
        socket::tune(&stream, &config.keepalive).map_err(Broken::Io)?;
    }
    let mut origin = Origin {
        client: report.client,
        destination: None,
    };

    let mut client = Client::new(stream, deadline);
    if proxy_protocol::expected_from(&config.proxy_protocol_in, report.client.ip()) {
        if let Some(told) = client.proxy_header().await? {
            origin = Origin {
                client: told.client,
                destination: Some(told.destination),
            };
        }
        report.client = origin.client;
        report.header = Header::Read;
    } else if config.proxy_protocol_in != Trust::Off {
        report.header = Header::Untrusted;
    }
    let address = origin.client.ip();
    if !config.ip_filter.permits(address) {
        return Err(Refusal::IpFilter.into());
    }
    if proxy.is_limited(&snapshot, address) && pending.attribute(address.into()).is_err() {
        return Err(Refusal::PendingPerClient.into());
    }
    Ok(Greeted {
        client,
        origin,
        snapshot,
    })
}

impl Greeted {
    /// Reads what the client wants.
    pub(super) async fn open(mut self) -> Result<Opened, Ended> {
        let opening = self.client.opening().await?;
        let Self {
            client,
            origin,
            snapshot,
        } = self;
        Ok(Opened {
            client,
            origin,
            snapshot,
            opening,
        })
    }
}

impl Opened {
    /// Finds the server, and holds the client against the limits that need no more.
    ///
    /// A place among `max_connections` is not taken yet: what sends a handshake
    /// and then nothing is bounded as pending, and must not keep players out.
    pub(super) async fn route(
        mut self,
        pending: &PendingGuard,
        proxy: &Proxy,
        report: &mut Report,
    ) -> Result<Routed, Ended> {
        let host = self.opening.host.virtual_host();
        let found = self
            .snapshot
            .routes
            .find(&host)
            .map(|found| Arc::clone(found.target));
        report.virtual_host = Some(host);
        report.server.clone_from(&found);
        report.intent = self.opening.intent();
        report.protocol = self.opening.protocol();

        let address = self.origin.client.ip();
        if !proxy.may_come(&self.snapshot, address, self.opening.intent()) {
            return Err(self.end(Refusal::RateLimit));
        }
        match &found {
            Some(server) if !server.config.ip_filter.permits(address) => {
                return Err(self.end(Refusal::IpFilter));
            }
            Some(_) => {}
            None => self = self.check_unknown_domain()?,
        }
        let hooks = match &found {
            Some(server) => &server.hooks,
            None => &self.snapshot.unclaimed,
        };
        if hooks.has(Hook::ConnectionDecide) {
            let hooks = Arc::clone(hooks);
            let _busy = pending.busy();
            self = self.run_connection_hooks(&hooks, report).await?;
        }
        let Self {
            client,
            origin,
            snapshot,
            opening,
        } = self;
        Ok(Routed {
            client,
            origin,
            snapshot,
            opening,
            server: found,
        })
    }

    /// Only a status ping that gets the default MOTD goes on without a server.
    fn check_unknown_domain(self) -> Result<Self, Ended> {
        match (self.snapshot.proxy.unknown_domain, self.opening.intent()) {
            (UnknownDomain::DefaultMotd, Intent::Status) => Ok(self),
            // Closed without a text.
            (UnknownDomain::Drop, _) => Err(Refusal::UnknownDomain.into()),
            (UnknownDomain::DefaultMotd | UnknownDomain::Kick, _) => {
                Err(self.end(Refusal::UnknownDomain))
            }
        }
    }

    /// Ends the connection; the client may read why.
    pub(super) fn end(self, ending: impl Into<Ending>) -> Ended {
        Ended::new(ending, self.client.into_reader(&self.opening))
    }
}

impl Routed {
    /// What the client wants.
    pub(super) fn intent(&self) -> Intent {
        self.opening.intent()
    }

    /// Takes a place among `max_connections`, now that the whole question of
    /// the client is there.
    pub(super) fn take_connection(&self, proxy: &Proxy) -> Option<Slot> {
        let max = self.snapshot.proxy.max_connections;
        proxy.connections.take(max)
    }

    /// Ends the connection; the client may read why.
    pub(super) fn end(self, ending: impl Into<Ending>) -> Ended {
        Ended::new(ending, self.client.into_reader(&self.opening))
    }
}

/// The limit of players, for those who take a place.
pub(super) fn take_place(server: &Server) -> Option<Slot> {
    let max: Option<NonZeroU32> = server.config.max_players;
    server.state.players.take(max)
}

impl Proxy {
    /// Whether limits that count by client apply to this one.
    pub(super) fn is_limited(&self, snapshot: &Snapshot, address: std::net::IpAddr) -> bool {
        let loopback = address.to_canonical().is_loopback();
        !loopback
            || snapshot
                .proxy
                .rate_limit
                .as_ref()
                .is_some_and(|limit| limit.limit_loopback)
    }

    /// Whether the rate limit lets this client come with this intent.
    fn may_come(&self, snapshot: &Snapshot, address: std::net::IpAddr, intent: Intent) -> bool {
        let Some(limit) = &snapshot.proxy.rate_limit else {
            return true;
        };
        if !self.is_limited(snapshot, address) {
            return true;
        }
        let (limiter, quota) = match intent {
            Intent::Status => (&self.pings, limit.status),
            Intent::Login | Intent::Transfer => (&self.logins, limit.logins),
        };
        quota.is_none_or(|quota| limiter.allows(ClientKey::from(address), quota, Instant::now()))
    }
}
