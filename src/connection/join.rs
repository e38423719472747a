//! Logins on servers of the forwarding modes: connect to a backend, replay what the
//! client has sent, and relay.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::begin::{Begin, Failed};
use super::client::{self, Client, Reader};
use super::ending::{Ended, Ending};
use super::facts::{Facts, SessionFacts};
use super::sender::Sender;
use crate::config::model::{Forwarding, Relay};
use crate::forward::{self, Counters, Forwarder, Outcome};
use crate::limit::Slot;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::upstream::{DROPPED_MAX, Dropped, rounds};

/// A client with a place on its server.
pub(super) struct Admitted {
    pub(super) client: Client,
    pub(super) sender: Sender,
    pub(super) server: Arc<Server>,
    /// How its bytes are forwarded.
    pub(super) forwarding: Forwarding,
    /// Its place among `max_connections`.
    pub(super) place: Slot,
    /// Its place among the server's `max_players`.
    pub(super) slot: Slot,
}

/// A client with a backend, to which everything was sent that the client has sent.
pub(super) struct RelaySession {
    client: TcpStream,
    backend: TcpStream,
    server: Arc<Server>,
    counters: Arc<Counters>,
    relay: Relay,
    _place: Slot,
    _slot: Slot,
}

impl Admitted {
    /// Connects to a backend, sends it everything that the client has sent, and
    /// waits for its first byte. If the backend ends the connection before that, the
    /// next one is tried: the player has not seen anything yet.
    pub(super) async fn join(
        self: Box<Self>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<RelaySession, Ended> {
        let config = Arc::clone(&self.server.config);
        self.sender
            .report_dropped_tail(&self.server, &config, &self.forwarding);
        let key = self.round();
        let left = client::closed_by_client(self.client.stream());
        if proxy.upstream.rounds.is_loop(&key, left).await {
            return Err(Ending::ClientLeft.into());
        }
        let Self {
            client,
            sender,
            server,
            forwarding,
            place,
            slot,
        } = *self;
        let (mut client, rest) = client.into_parts();
        // Copied, so that the larger buffer that they are parts of is freed.
        let mut rest = BytesMut::from(rest.as_ref());
        let sender = sender.in_own_memory();
        let joined = {
            let joining = pin!(async {
                let mut dropped = Vec::new();
                loop {
                    // Boxed so that the wait for the first byte does not hold its state.
                    let dialling = Box::pin(async {
                        let (addresses, bound) = (&config.addresses, config.timeouts.connect);
                        tokio::select! {
                            dialled = proxy.upstream.connect(addresses, bound, &dropped) => Some(dialled),
                            () = client::closed_by_client(&client) => None,
                        }
                    });
                    let Some(dialled) = dialling.await else {
                        return Err(Ending::ClientLeft);
                    };
                    let connected = match dialled {
                        Ok(connected) => connected,
                        Err(error) if dropped.is_empty() => return Err(Ending::Unreachable(error)),
                        Err(error) => return Err(Ending::BackendFailed(io::Error::other(error))),
                    };
                    let mut backend = connected.stream;
                    let counters = Arc::new(Counters::default());
                    facts.session = Some(SessionFacts {
                        backend: connected.address.clone(),
                        relay: forwarding.relay,
                        counters: Arc::clone(&counters),
                    });
                    facts.session_connected();
                    let waiting = proxy.upstream.rounds.enter(&key);
                    let mut begin = Begin {
                        client: &mut client,
                        rest: &mut rest,
                        backend: &mut backend,
                        counters: &counters,
                        keepalive: server.proxy.keepalive,
                    };
                    let begun = begin
                        .run(&sender, &config, &forwarding, &connected.address, &waiting)
                        .await;
                    let error = match begun {
                        Ok(()) => return Ok((backend, counters)),
                        Err(Failed::Ended(ending)) => return Err(ending),
                        Err(Failed::Dropped(error)) => error,
                        Err(Failed::Doubted) => {
                            drop(backend);
                            if !waiting.came_back().await {
                                // Nothing has reached the player, so nothing is lost.
                                facts.session = None;
                                continue;
                            }
                            let text = "the connection leads back to the proxy";
                            io::Error::new(io::ErrorKind::InvalidInput, text)
                        }
                    };
                    facts.session = None;
                    if dropped.len() == DROPPED_MAX {
                        return Err(Ending::BackendFailed(error));
                    }
                    let dialled = connected.dialled;
                    dropped.push(Dropped { dialled, error });
                }
            });
            joining.await
        };
        let (backend, counters) = match joined {
            Ok(joined) => joined,
            // As when the relay ends like this: without a text.
            Err(ending @ Ending::Relayed(_)) => return Err(ending.into()),
            Err(ending) => {
                let reader = Reader::Plain {
                    stream: client,
                    dialect: sender.opening.dialect(),
                };
                return Err(Ended::new(ending, Some(reader)).holding_connection(place));
            }
        };
        let relay = forwarding.relay;
        Ok(RelaySession {
            client,
            backend,
            server,
            counters,
            relay,
            _place: place,
            _slot: slot,
        })
    }

    /// The key by which a login is recognized if it comes back to the proxy.
    fn round(&self) -> Arc<rounds::Key> {
        Arc::new(rounds::Key {
            player: self.sender.player.name.clone(),
            protocol: self.sender.opening.protocol(),
        })
    }
}

impl RelaySession {
    /// Moves bytes until the session has ended.
    pub(super) async fn run(self, proxy: &Proxy) -> Outcome {
        let forwarder = proxy.forwarders.select(self.relay);
        let session = forward::Session {
            client: self.client,
            backend: self.backend,
            keepalive: self.server.proxy.keepalive,
            limits: self.server.config.timeouts.session,
            counters: self.counters,
            stop: proxy.shutdown.stop.child_token(),
        };
        forwarder.forward(session).await
    }
}
