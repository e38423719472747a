//! From accept to a server: the client's address, the handshake, the route, the
//! limits, and `connection.decide`. Each step returns a type that proves it was done.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use super::client::{Broken, Client, closed_by_client};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Header, Origin};
use super::opening::Opening;
use crate::config::model::{Trust, UnknownDomain};
use crate::limit::{ClientKey, PendingGuard, Slot};
use crate::manifest::Hook;
use crate::plugin::HookSet;
use crate::protocol::handshake::Intent;
use crate::proxy::Proxy;
use crate::proxy::snapshot::{Server, Snapshot};
use crate::proxy_protocol;
use crate::socket;

/// A client with a known address that the filter permits.
pub(super) struct Greeted {
    client: Client,
    origin: Origin,
    snapshot: Arc<Snapshot>,
}

/// A client that has sent its handshake or legacy ping.
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

/// Finds the client's address, and checks whether it may connect at all.
pub(super) async fn greet(
    stream: TcpStream,
    pending: &PendingGuard,
    proxy: &Proxy,
    facts: &mut Facts,
) -> Result<Greeted, Ended> {
    let snapshot = proxy.snapshot();
    let config = &snapshot.proxy;
    let deadline = tokio::time::Instant::now() + config.handshake_timeout;
    if !socket::LISTENER_TUNES_CONNECTIONS {
        socket::tune(&stream, &config.keepalive).map_err(Broken::Io)?;
    }
    let mut origin = Origin {
        client: facts.client,
        destination: None,
    };

    let mut client = Client::new(stream, deadline);
    if proxy_protocol::expected_from(&config.proxy_protocol_in, facts.client.ip()) {
        if let Some(endpoints) = client.proxy_header().await? {
            origin = Origin {
                client: endpoints.client,
                destination: Some(endpoints.destination),
            };
        }
        facts.client = origin.client;
        facts.header = Header::Read;
    } else if config.proxy_protocol_in != Trust::Off {
        facts.header = Header::Untrusted;
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
    /// Finds the server, and checks the limits that can be checked without the login
    /// start.
    ///
    /// It takes no slot among `max_connections` yet: a client that sends only a
    /// handshake is bounded as pending, and must not keep players out.
    pub(super) async fn route(
        mut self,
        pending: &PendingGuard,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Routed, Ended> {
        let host = self.opening.host.virtual_host();
        let found = self
            .snapshot
            .routes
            .find(&host)
            .map(|found| Arc::clone(found.target));
        facts.virtual_host = Some(host);
        facts.server.clone_from(&found);
        facts.intent = self.opening.intent();
        facts.protocol = self.opening.protocol();

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
            self = self.run_connection_hooks(&hooks, facts).await?;
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

    /// Asks `connection.decide`.
    pub(super) async fn run_connection_hooks(
        mut self,
        hooks: &HookSet,
        facts: &Facts,
    ) -> Result<Self, Ended> {
        let asked = Instant::now();
        let client = facts.for_plugins();
        let stream = self.client.stream();
        let decided = match facts.intent {
            // A client may close its side after a ping and still wait for the
            // answer.
            Intent::Status => hooks.connection_decide(&client).await,
            Intent::Login | Intent::Transfer => tokio::select! {
                biased;
                decided = hooks.connection_decide(&client) => decided,
                () = closed_by_client(stream) => return Err(Ending::ClientLeft.into()),
            },
        };
        match decided {
            Ok(()) => {
                // The time of the plugins does not count for the deadline.
                self.client.prolong(asked.elapsed());
                Ok(self)
            }
            Err(denied) => Err(self.end(denied)),
        }
    }

    /// Decides about an unknown domain: only a status ping that gets the default MOTD
    /// continues without a server.
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
        Ended::new(ending, self.client.into_closing(&self.opening))
    }
}

impl Routed {
    /// What the client wants.
    pub(super) fn intent(&self) -> Intent {
        self.opening.intent()
    }

    /// The hooks of the client's server, or those for clients that none claims.
    pub(super) fn hooks(&self) -> &HookSet {
        match &self.server {
            Some(server) => &server.hooks,
            None => &self.snapshot.unclaimed,
        }
    }

    /// The client's address.
    pub(super) fn address(&self) -> IpAddr {
        self.origin.client.ip()
    }

    /// Takes a slot among `max_connections`, now that the client's request is
    /// complete.
    pub(super) fn take_connection(&self, proxy: &Proxy) -> Option<Slot> {
        let max = self.snapshot.proxy.max_connections;
        proxy.connections.take(max)
    }

    /// Ends the connection; the client may read why.
    pub(super) fn end(self, ending: impl Into<Ending>) -> Ended {
        Ended::new(ending, self.client.into_closing(&self.opening))
    }
}

impl Proxy {
    /// Whether limits that count by client apply to this one.
    pub(super) fn is_limited(&self, snapshot: &Snapshot, address: IpAddr) -> bool {
        let loopback = address.to_canonical().is_loopback();
        !loopback
            || snapshot
                .proxy
                .rate_limit
                .as_ref()
                .is_some_and(|limit| limit.limit_loopback)
    }

    /// Whether the rate limit permits a connection of this client with this intent.
    fn may_come(&self, snapshot: &Snapshot, address: IpAddr, intent: Intent) -> bool {
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
