//! Moves a player who cannot join the requested server, or has lost its server, to another
//! server of the network. Switches on request are in `switch`.

use std::sync::Arc;

use tokio::time::timeout_at;
use tracing::{debug, info, warn};

use super::attempts::FallbackAttempts;
use super::channel::Channel;
use super::ending::{Ending, Refusal};
use super::facts::Facts;
use super::log::sampled;
use super::network_player::{NetworkPlayer, Ready, ServerConnection, is_authenticated};
use crate::blame::Blame;
use crate::close::left_by_peer;
use crate::intercept::{
    Arrival, DetachedClient, Failure, Flag, IdentifiedClient, Interrupts, LoggedIn,
};
use crate::limit::Slot;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::show::Escaped;

/// A server to which a player moves.
pub(super) struct TargetServer {
    pub(super) server: Arc<Server>,
    /// `None` if the server is full.
    pub(super) slot: Option<Slot>,
    /// The chat messages that the player gets there.
    pub(super) notices: Vec<Vec<u8>>,
}

/// A player who could not move to another server.
pub(super) struct NotMoved {
    pub(super) client: Box<DetachedClient>,
    /// Why the session ended during the move, if it did.
    pub(super) failure: Option<Failure>,
}

impl NetworkPlayer {
    /// Logs in a player, who is still in the login state and cannot join the requested
    /// server, at another server of the network. If all refuse, the error is that of the
    /// last one that was tried.
    pub(super) async fn log_in_elsewhere(
        &self,
        identified: &mut IdentifiedClient,
        target: &mut TargetServer,
        ending: Ending,
        replaced: &Flag,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<LoggedIn, Ending> {
        let first = Arc::clone(&target.server);
        // The backend's own text, or that the server is full.
        let reason = match &ending {
            Ending::Refused(_) | Ending::Intercepted(Failure::BackendRefused(_)) => {
                ending.player_component(&first.config)
            }
            _ => None,
        };
        let mut attempts = FallbackAttempts::begin(&first);
        // The server that has refused the player last, and why.
        let (mut refused_by, mut last) = (Arc::clone(&first), ending);
        while let Some(server) = attempts.next(proxy, &self.network) {
            log_refusal(&refused_by, &last);
            let mut moving = facts.moving();
            let login = self.log_in_at(
                identified,
                &server,
                &mut attempts,
                replaced,
                proxy,
                &mut moving,
            );
            match login.await {
                Ok((logged_in, slot)) => {
                    moving.has_arrived();
                    target.notices = self.notices(&first, &server, reason.as_ref());
                    (target.server, target.slot) = (server, Some(slot));
                    return Ok(logged_in);
                }
                Err(ending) => {
                    drop(moving);
                    let goes_on = can_try_another(&ending) || matches!(ending, Ending::Refused(_));
                    (refused_by, last) = (server, ending);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Logs in a player, who is still in the login state, at this server.
    async fn log_in_at(
        &self,
        identified: &mut IdentifiedClient,
        server: &Arc<Server>,
        attempts: &mut FallbackAttempts,
        replaced: &Flag,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<(LoggedIn, Slot), Ending> {
        let until = attempts.until;
        let open = tokio::select! {
            open = timeout_at(until, self.open(server, facts)) => open.unwrap_or(Err(too_slow())),
            () = left_by_peer(identified.client.stream()) => Err(Ending::ClientLeft),
            () = replaced.wait() => Err(Ending::Intercepted(Failure::Replaced)),
        }?;
        identified.profile.clone_from(&open.identity.profile);
        let dials = &mut attempts.dials;
        let logged_in = self
            .connector(server, &open)
            .log_in(identified, replaced, Some(until), dials, proxy, facts)
            .await?;
        Ok((logged_in, open.slot))
    }

    /// Moves a player who has lost this server to another one of the network.
    pub(super) async fn fall_back(
        &self,
        mut client: Box<DetachedClient>,
        from: &Server,
        attempts: &mut FallbackAttempts,
        interrupts: &Interrupts,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<ServerConnection, NotMoved> {
        let reason = client.reason();
        let kick = client.take_kick();
        let left = |mut client: Box<DetachedClient>, failure| {
            client.set_kick(kick.clone());
            Err(NotMoved { client, failure })
        };
        loop {
            let next = if client.can_move() {
                attempts.next(proxy, &self.network)
            } else {
                None
            };
            let Some(server) = next else {
                return left(client, None);
            };
            let trial = facts.trial();
            let ready = self.prepare_next(&mut client, &server, attempts, interrupts, proxy, trial);
            let ready = match ready.await {
                Ok(Ok(ready)) => ready,
                Ok(Err(ending)) => {
                    log_refusal(&server, &ending);
                    continue;
                }
                Err(failure) => return left(client, Some(failure)),
            };
            let mut moving = facts.moving();
            let arrival = Arrival {
                is_authenticated: is_authenticated(&server),
                commands: self.commands(&server, &moving, proxy),
                notices: self.notices(from, &server, reason.as_ref()),
                until: attempts.until,
                interrupts,
                queries: None,
                listener: Channel::of(proxy, &self.handle, &server),
                outbox: Arc::default(),
            };
            match self.enter(client, ready, arrival, &mut moving).await {
                Ok(arrived) => {
                    moving.has_arrived();
                    info!(
                        player = %Escaped(&self.identity.profile.name),
                        network = self.network,
                        from = from.config.id,
                        to = server.config.id,
                        "a player was moved to another server"
                    );
                    return Ok(arrived);
                }
                Err((failure, detached)) => {
                    client = detached;
                    drop(moving);
                    if ends_session(&failure) {
                        return left(client, Some(failure));
                    }
                    log_refusal(&server, &Ending::Intercepted(failure));
                }
            }
        }
    }

    /// Logs in at the backend of the next server while the client waits. The outer error
    /// ends the session.
    async fn prepare_next(
        &self,
        client: &mut DetachedClient,
        server: &Arc<Server>,
        attempts: &mut FallbackAttempts,
        interrupts: &Interrupts,
        proxy: &Proxy,
        trial: Facts,
    ) -> Result<Result<Ready, Ending>, Failure> {
        let until = attempts.until;
        let preparing = self.prepare(server, &mut attempts.dials, proxy, trial);
        let preparing = timeout_at(until, preparing);
        let prepared = self.while_preparing(client, preparing, interrupts).await?;
        Ok(prepared.unwrap_or(Err(too_slow())))
    }
}

/// The backend of another server has not answered in time.
fn too_slow() -> Ending {
    Ending::Intercepted(Failure::BackendTooSlow)
}

/// Whether a player in the login state may move to another server.
pub(super) fn can_try_another(ending: &Ending) -> bool {
    match ending {
        Ending::Unreachable(_)
        | Ending::BackendFailed(_)
        | Ending::Refused(Refusal::ServerFull) => true,
        Ending::Intercepted(failure) => !ends_session(failure),
        _ => false,
    }
}

/// Whether no other server is tried for the player after this.
pub(super) fn ends_session(failure: &Failure) -> bool {
    match failure {
        Failure::Replaced | Failure::Stopped | Failure::Proxy(_) => true,
        // It depends on the server.
        Failure::VersionWithoutForwarding => false,
        failure => failure.blame() == Blame::Client,
    }
}

/// Logs that this server has not let a player in. A fault of its backend is a warning, as
/// for a server without a network: the player may be on another server, but the operator has
/// to know.
pub(super) fn log_refusal(server: &Server, ending: &Ending) {
    if ending.blame() != Blame::Backend {
        debug!(
            server = server.config.id,
            reason = ending.name(),
            error = %ending,
            "a server does not take a player of its network"
        );
        return;
    }
    sampled(&server.state.unreachable, |suppressed| {
        warn!(
            server = server.config.id,
            reason = ending.name(),
            error = %ending,
            suppressed,
            "a server does not take a player of its network"
        );
    });
}
