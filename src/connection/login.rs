//! Logins up to the choice of the server: reads the player that the client claims to be,
//! takes a slot on the proxy, and calls `login.decide` and `route.select`. The result is
//! [`Admission`], one variant for each family of modes.

use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;

use super::client::{Broken, Packet, closed_by_client};
use super::ending::{Ended, Ending, Refusal};
use super::facts::{Facts, Player};
use super::first_bytes::FirstBytesBuilder;
use super::intercepted_login::InterceptedLogin;
use super::join::Admitted;
use super::opening::First;
use super::route::Routed;
use crate::config::model::ServerKind;
use crate::intercept::Failure;
use crate::limit::Slot;
use crate::manifest::Hook;
use crate::mode::Mode;
use crate::plugin;
use crate::protocol::login::{LOGIN_START_ID, LoginError, LoginStart, login_start_bytes_max};
use crate::protocol::packet::Version;
use crate::protocol::packet::login::NameError;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// The bytes by which a name may exceed its limit and still be read, so that the refusal can
/// name the reason. Far more than a player types.
const NAME_EXCESS_BYTES: usize = 1024;

/// A player with a complete login start.
pub(super) struct Claimed {
    pub(super) routed: Routed,
    pub(super) player: Player,
    /// The frame of the login start; empty in the protocol before 1.7.
    pub(super) login_start: Bytes,
    /// Its slot among `max_connections`.
    pub(super) connection: Slot,
}

/// An admitted player, by the family of the server's mode.
pub(super) enum Admission {
    /// The proxy will move bytes.
    Forwarded(Box<Admitted>),
    /// The proxy will speak the protocol.
    Intercepted(Box<InterceptedLogin>),
}

impl Routed {
    /// Reads the player that the client claims to be, and takes a slot on the
    /// proxy.
    pub(super) async fn claim(
        mut self,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Claimed, Ended> {
        let (player, login_start) = match &self.opening.first {
            First::Handshake(handshake) => {
                let protocol = handshake.protocol;
                let bytes_max = login_start_bytes_max(protocol) + self.name_excess_bytes();
                let packet = self.client.packet(bytes_max).await;
                let read = packet.and_then(|packet| {
                    let login = login_start(protocol, &packet)?;
                    Ok((login, packet.wire))
                });
                match read {
                    Ok((login, wire)) => (
                        Player {
                            name: login.name,
                            uuid: login.uuid,
                        },
                        wire,
                    ),
                    Err(broken) => return Err(self.end_unreadable(broken)),
                }
            }
            First::LegacyLogin(login) => (
                Player {
                    name: login.name.clone(),
                    uuid: None,
                },
                Bytes::new(),
            ),
            First::LegacyPing(_) => {
                return Err(Broken::Packet("a ping is not a login".to_owned()).into());
            }
        };
        facts.player = Some(player.name.clone());
        let Some(connection) = self.take_connection(proxy) else {
            return Err(self.end(Refusal::ProxyFull));
        };
        Ok(Claimed {
            routed: self,
            player,
            login_start,
            connection,
        })
    }

    fn is_intercepted(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| matches!(server.config.kind, ServerKind::Intercepted(_)))
    }

    /// The bytes by which a name may exceed its limit and still be read. In the
    /// intercepted modes such a name is read, so that the player can be shown why it
    /// is refused.
    fn name_excess_bytes(&self) -> usize {
        match self.is_intercepted() {
            true => NAME_EXCESS_BYTES,
            false => 0,
        }
    }

    /// Ends a login because its login start is malformed. In the intercepted modes
    /// the player reads why.
    fn end_unreadable(self, broken: Broken) -> Ended {
        if !self.is_intercepted() {
            return broken.into();
        }
        let failure = match broken {
            Broken::LoginStart(LoginError::NameLength) => Failure::Name(NameError::Length),
            Broken::LoginStart(_) | Broken::Frame(_) | Broken::Packet(_) => {
                Failure::Client(broken.to_string())
            }
            broken => return broken.into(),
        };
        match Version::of(self.opening.protocol()) {
            Some(_) => self.end(Ending::Intercepted(failure)),
            // The proxy does not know the login start of this version.
            None => self.end(Refusal::UnknownVersion),
        }
    }
}

impl Claimed {
    /// Calls the hooks of the login, and takes a slot on the server.
    pub(super) async fn admit(self, facts: &mut Facts) -> Result<Admission, Ended> {
        let Self {
            routed,
            player,
            login_start,
            connection,
        } = self;
        // An unknown domain has been refused while routing.
        let Some(server) = routed.server.clone() else {
            return Err(Refusal::UnknownDomain.into());
        };
        let asked_for = Arc::clone(&server);
        let hooked = routed.run_login_hooks(server, &player, facts).await;
        let server = match hooked {
            Ok(server) => server,
            Err(ending) => return Err(routed.end(ending).holding_connection(connection)),
        };
        let moved_from = (!Arc::ptr_eq(&asked_for, &server) && !decides_on_claims(&asked_for))
            .then_some(asked_for);
        let forwarding = match &server.config.kind {
            ServerKind::Forwarding(forwarding) => forwarding.clone(),
            ServerKind::Intercepted(intercepted) => {
                let intercepted = intercepted.clone();
                return Ok(Admission::Intercepted(Box::new(InterceptedLogin {
                    client: routed.client,
                    origin: routed.origin,
                    opening: routed.opening,
                    server,
                    moved_from,
                    intercepted,
                    login_start,
                    player,
                    connection,
                })));
            }
        };
        let Some(slot) = server.take_slot() else {
            return Err(routed
                .end(Refusal::ServerFull)
                .holding_connection(connection));
        };
        facts.session_opened();
        let host = match facts.chosen_host(&server, &routed.opening) {
            Ok(host) => host,
            Err(denied) => return Err(routed.end(denied).holding_connection(connection)),
        };
        let Routed {
            client,
            origin,
            opening,
            ..
        } = routed;
        Ok(Admission::Forwarded(Box::new(Admitted {
            client,
            first_bytes: FirstBytesBuilder {
                origin,
                opening,
                login_start,
                player,
                host,
            },
            server,
            forwarding,
            connection,
            slot,
        })))
    }
}

impl Routed {
    /// Calls `login.decide` and `route.select`, and returns the server that the player
    /// goes to.
    pub(super) async fn run_login_hooks(
        &self,
        server: Arc<Server>,
        player: &Player,
        facts: &mut Facts,
    ) -> Result<Arc<Server>, Ending> {
        let hooks = &server.hooks;
        if !hooks.has(Hook::LoginDecide) && !hooks.has(Hook::RouteSelect) {
            return Ok(server);
        }
        let stream = self.client.stream();
        let asked = async {
            let claimed = player.for_plugins();
            if decides_on_claims(&server) {
                hooks.login_decide(&facts.for_plugins(), &claimed).await?;
            }
            let exists = |id: &str| self.snapshot.servers.contains_key(id);
            let selected = hooks
                .route_select(&facts.for_plugins(), &claimed, exists)
                .await?;
            let Some(selected) = selected else {
                return Ok(Selected::Same);
            };
            let other = self.snapshot.servers.get(&selected.server).cloned();
            let Some(other) = other.filter(|other| !Arc::ptr_eq(other, &server)) else {
                return Ok(Selected::Same);
            };
            debug!(
                plugin = selected.plugin,
                from = server.config.id,
                to = other.config.id,
                "another server was selected"
            );
            facts.server = Some(Arc::clone(&other));
            // The rules of the other server apply as well, in the same order as for a
            // client that asks for it: the filter, then those of its plugins that have
            // not been called yet.
            if !other.config.ip_filter.permits(self.address()) {
                return Ok(Selected::Filtered);
            }
            let others = other.hooks.not_in(hooks);
            others.connection_decide(&facts.for_plugins()).await?;
            if decides_on_claims(&other) {
                // If the first server is in `client_only`, none of the plugins has been
                // called at this hook yet.
                let unasked = match decides_on_claims(&server) {
                    true => &others,
                    false => &other.hooks,
                };
                unasked.login_decide(&facts.for_plugins(), &claimed).await?;
            }
            Ok(Selected::Other(other))
        };
        let asked: Result<Selected, plugin::Refusal> = tokio::select! {
            biased;
            asked = asked => asked,
            () = closed_by_client(stream) => return Err(Ending::ClientLeft),
        };
        match asked {
            Ok(Selected::Same) => Ok(server),
            Ok(Selected::Other(other)) => Ok(other),
            Ok(Selected::Filtered) => Err(Refusal::IpFilter.into()),
            Err(denied) => Err(denied.into()),
        }
    }
}

/// The result of `route.select`.
enum Selected {
    /// The player stays on the server of the virtual host.
    Same,
    /// The player goes to this server.
    Other(Arc<Server>),
    /// The other server's `ip_filter` keeps the player out.
    Filtered,
}

/// Whether `login.decide` is called with the identity that the client claims. In
/// `client_only` it is called after the authentication, with the proved identity.
fn decides_on_claims(server: &Server) -> bool {
    server.config.mode() != Mode::ClientOnly
}

/// Reads the packet that follows the handshake of a login.
fn login_start(protocol: i32, packet: &Packet) -> Result<LoginStart, Broken> {
    if packet.id != LOGIN_START_ID {
        return Err(Broken::Packet(format!(
            "packet {:#04x} instead of a login start",
            packet.id
        )));
    }
    Ok(LoginStart::parse(protocol, &packet.body)?)
}
