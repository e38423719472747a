//! A player in the game: the relay of the session, and the client after it.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpStream;

use super::detached::DetachedClient;
use super::reader::ClosingClient;
use crate::forward::framed::{FrameFilters, FramedError, ReturnedClient};
use crate::forward::{Counters, Forwarders, Outcome, Session};
use crate::protocol::packet::Version;

/// A player in the game.
#[derive(Debug)]
pub(crate) struct Playing {
    pub(super) client: TcpStream,
    pub(super) backend: TcpStream,
    pub(super) version: Version,
    pub(super) filters: FrameFilters,
    pub(super) counters: Arc<Counters>,
}

/// The rules for a session in the game.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) keepalive: crate::socket::Keepalive,
    pub(crate) limits: crate::forward::Limits,
}

impl Playing {
    /// Relays until the session ends.
    pub(crate) fn play(
        self,
        forwarders: &Forwarders,
        rules: Rules,
    ) -> impl Future<Output = Ended> + Send + use<> {
        let (version, counters) = (self.version, self.counters);
        let session = Session {
            client: self.client,
            backend: self.backend,
            keepalive: rules.keepalive,
            limits: rules.limits,
            counters: Arc::clone(&counters),
        };
        let relayed = forwarders.forward_framed(session, self.filters);
        relayed.map(move |(outcome, returned)| Ended {
            outcome,
            returned,
            version,
            counters,
        })
    }
}

/// A client after its relay has ended.
#[derive(Debug)]
pub(crate) enum RemainingClient {
    /// It can get a text.
    Closing(ClosingClient),
    /// It can also move to another backend.
    Detached(Box<DetachedClient>),
}

/// A relay that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    returned: Option<ReturnedClient<std::net::TcpStream>>,
    version: Version,
    counters: Arc<Counters>,
}

impl Ended {
    /// The violation of the protocol that ended the session, if there was one.
    pub(crate) fn fault(&self) -> Option<&FramedError> {
        self.returned.as_ref()?.fault.as_ref()
    }

    /// The client, if it is still connected.
    pub(crate) fn into_client(self) -> Option<RemainingClient> {
        let mut returned = self.returned?;
        Some(match returned.input.take() {
            None => RemainingClient::Closing(ClosingClient::of_relay(returned, self.version)?),
            Some(input) => RemainingClient::Detached(Box::new(DetachedClient::of_relay(
                returned,
                *input,
                self.version,
                self.counters,
            )?)),
        })
    }
}
