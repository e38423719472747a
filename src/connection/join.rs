//! Logins on servers of the forwarding modes: connect to a backend, replay what the
//! client has sent, and relay.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::net::TcpStream;

use super::begin::{Begin, Failed};
use super::client::{self, Client, ClosingClient};
use super::ending::{Ended, Ending};
use super::facts::{Facts, SessionFacts};
use super::first_bytes::FirstBytesBuilder;
use crate::config::model::{Forwarding, Relay, ServerConfig};
use crate::forward::{self, Counters, Outcome};
use crate::limit::Slot;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::upstream::{Connected, DROPPED_MAX, Dropped, rounds};

/// A client with a slot on its server.
pub(super) struct Admitted {
    pub(super) client: Client,
    pub(super) first_bytes: FirstBytesBuilder,
    pub(super) server: Arc<Server>,
    /// How its bytes are forwarded.
    pub(super) forwarding: Forwarding,
    /// Its slot among `max_connections`.
    pub(super) connection: Slot,
    /// Its slot among the server's `max_players`.
    pub(super) slot: Slot,
}

/// A client with a backend that has got everything that the client has sent.
pub(super) struct RelaySession {
    client: TcpStream,
    backend: TcpStream,
    server: Arc<Server>,
    counters: Arc<Counters>,
    relay: Relay,
    connection: Slot,
    slot: Slot,
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
        self.first_bytes
            .report_dropped_tail(&self.server, &config, &self.forwarding);
        let key = self.round();
        if proxy.upstream.rounds.is_doubtful(&key) {
            let left = client::closed_by_client(self.client.stream());
            // Boxed: few logins are tested.
            if Box::pin(proxy.upstream.rounds.is_loop(&key, left)).await {
                return Err(Ending::ClientLeft.into());
            }
        }
        let Self {
            client,
            first_bytes,
            server,
            forwarding,
            connection,
            slot,
        } = self.unboxed();
        let (mut client, mut rest) = client.into_parts();
        // Copied, so that the larger buffer that they are parts of is freed.
        rest = BytesMut::from(rest.as_ref());
        let first_bytes = first_bytes.in_own_memory();
        let joined = {
            let joining = pin!(async {
                let mut dropped = Vec::new();
                loop {
                    // Boxed so that the wait for the first byte does not hold its state.
                    let dialling = Box::pin(dial(&client, &config, &dropped, proxy));
                    // A block of its own, so that the wait does not hold what it uses.
                    let (mut backend, dialled, first, counters) = {
                        let Connected {
                            stream,
                            address,
                            dialled,
                        } = dialling.await?;
                        let first =
                            first_bytes.replay(&client, &rest, &config, &forwarding, &address);
                        let counters = Arc::new(Counters::default());
                        facts.session = Some(SessionFacts {
                            backend: address,
                            relay: forwarding.relay,
                            counters: Arc::clone(&counters),
                        });
                        facts.session_connected();
                        let first = first.map_err(|error| Ending::Broken(error.into()))?;
                        (stream, dialled, first, counters)
                    };
                    let waiting = proxy.upstream.rounds.enter(&key);
                    let mut begin = Begin {
                        client: &mut client,
                        rest: &mut rest,
                        backend: &mut backend,
                        counters: &counters,
                        keepalive: server.proxy.keepalive,
                        forwarding: &forwarding,
                        limits: config.timeouts.session,
                        dialect: first_bytes.opening.dialect(),
                        first,
                    };
                    let error = match begin.run(&waiting).await {
                        Ok(()) => return Ok((backend, counters)),
                        Err(Failed::Ended(ending)) => return Err(ending),
                        Err(Failed::Dropped(error)) => error,
                        Err(Failed::Doubted) => {
                            drop(backend);
                            // Boxed: few logins are tested.
                            if !Box::pin(waiting.came_back()).await {
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
                    dropped.push(Dropped { dialled, error });
                }
            });
            joining.await
        };
        let (backend, counters) = match joined {
            Ok(joined) => joined,
            // No text: the same as when a relay ends in this way.
            Err(ending @ Ending::Relayed(_)) => return Err(ending.into()),
            Err(ending) => {
                let reader = ClosingClient::Plain {
                    stream: client,
                    dialect: first_bytes.opening.dialect(),
                };
                return Err(Ended::new(ending, Some(reader)).holding_connection(connection));
            }
        };
        let relay = forwarding.relay;
        Ok(RelaySession {
            client,
            backend,
            server,
            counters,
            relay,
            connection,
            slot,
        })
    }

    /// The same, after its box has been freed.
    fn unboxed(self: Box<Self>) -> Self {
        *self
    }

    /// The key by which a login is recognized if it comes back to the proxy.
    fn round(&self) -> Arc<rounds::Key> {
        Arc::new(rounds::Key {
            player: self.first_bytes.player.name.clone(),
            protocol: self.first_bytes.opening.protocol(),
        })
    }
}

/// Connects to one of the addresses, unless the client leaves. `dropped` are the backends that
/// have ended the connection before.
async fn dial(
    client: &TcpStream,
    config: &ServerConfig,
    dropped: &[Dropped],
    proxy: &Proxy,
) -> Result<Connected, Ending> {
    let (addresses, bound) = (&config.addresses, config.timeouts.connect);
    let dialled = tokio::select! {
        dialled = proxy.upstream.connect(addresses, bound, dropped) => dialled,
        () = client::closed_by_client(client) => return Err(Ending::ClientLeft),
    };
    dialled.map_err(|error| match dropped.is_empty() {
        true => Ending::Unreachable(error),
        false => Ending::BackendFailed(io::Error::other(error)),
    })
}

impl RelaySession {
    /// Moves bytes until the session has ended.
    pub(super) fn run(self, proxy: &Proxy) -> impl Future<Output = Outcome> + Send + use<> {
        let session = forward::Session {
            client: self.client,
            backend: self.backend,
            keepalive: self.server.proxy.keepalive,
            limits: self.server.config.timeouts.session,
            counters: self.counters,
        };
        let stop = proxy.shutdown.stop.child_token();
        let held = (self.connection, self.slot);
        proxy
            .forwarders
            .forward(self.relay, session, stop)
            .inspect(move |_| drop(held))
    }
}
