//! A switch: moves a player to another server of the network on request.
//!
//! The relay of the old server continues until the backend of the new one has accepted
//! the login. If it refuses, the player is shown the reason and stays. Once it has
//! accepted, the relay ends, which closes the connection to the old backend. From then on
//! the player cannot return: if the new server is lost before the player is in its game,
//! the other servers of the network are tried.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::attempts::FallbackAttempts;
use super::channel::Channel;
use super::ending::Ending;
use super::facts::Facts;
use super::fallback::{NotMoved, ends_session, log_refusal};
use super::network_player::{NetworkPlayer, Ready, ServerConnection, is_authenticated};
use crate::intercept::{
    Arrival, By, DetachedClient, Failure, Interrupts, NotSwitched, SwitchRequest,
};
use crate::player_text;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::show::Escaped;

/// How long the new server may take to accept the login, and then how long the client may
/// take to join it.
const SWITCH_WAIT: Duration = Duration::from_secs(30);

/// A switch before the new server has accepted the login.
pub(super) struct Switch<'a> {
    request: SwitchRequest,
    server: Arc<Server>,
    preparing: Pin<Box<dyn Future<Output = Result<Box<Ready>, Ending>> + Send + 'a>>,
}

/// Which switch follows a relay that has ended.
pub(super) enum AfterRelay<'a> {
    /// None was requested.
    Nothing,
    /// The relay has ended during a switch.
    Preparing(Box<Switch<'a>>),
    /// The relay was ended for a switch.
    Ready(SwitchRequest, Box<Ready>),
}

/// The arguments of [`NetworkPlayer::move_to_next`]: the server that the player is leaving.
pub(super) struct MoveContext<'a> {
    pub(super) from: &'a Arc<Server>,
    pub(super) attempts: &'a mut Option<FallbackAttempts>,
    pub(super) interrupts: &'a Interrupts,
}

impl<'a> Switch<'a> {
    /// Begins a requested switch. `None` if the network does not have the server, which is
    /// reported to the requester.
    pub(super) fn begin(
        request: SwitchRequest,
        network_player: &'a NetworkPlayer,
        proxy: &'a Proxy,
        facts: &Facts,
    ) -> Option<Self> {
        let Some(server) = proxy
            .snapshot()
            .member(&network_player.network, request.target())
        else {
            request.end(Err(NotSwitched::UnknownServer));
            return None;
        };
        let trial = facts.trial();
        let target = Arc::clone(&server);
        let preparing = Box::pin(async move {
            // Only fallbacks limit the number of dials; a switch has one.
            let mut dials = 0;
            let prepared = network_player.prepare(&target, &mut dials, proxy, trial);
            let prepared = timeout(SWITCH_WAIT, prepared).await;
            let prepared = prepared.unwrap_or(Err(Ending::Intercepted(Failure::BackendTooSlow)));
            prepared.map(Box::new)
        });
        Some(Self {
            request,
            server,
            preparing,
        })
    }

    /// Completes when the new server has accepted or refused the login. Cancel safe.
    pub(super) async fn prepared(&mut self) -> Result<Box<Ready>, Ending> {
        poll_fn(|context| self.poll_prepared(context)).await
    }

    /// Ready when the new server has accepted or refused the login.
    pub(super) fn poll_prepared(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Box<Ready>, Ending>> {
        self.preparing.as_mut().poll(context)
    }

    /// The request, once the new server has accepted the login.
    pub(super) fn into_request(self) -> SwitchRequest {
        self.request
    }

    /// The new server has refused the login: shows the player why, and reports it to the
    /// requester.
    pub(super) fn refuse(self, ending: &Ending, network_player: &NetworkPlayer) {
        log_refusal(&self.server, ending);
        let text = refusal(&self.server, ending);
        network_player.handle.send(&text);
        self.request.end(Err(NotSwitched::Refused { text }));
    }
}

/// The text for a player that this server has refused.
fn refusal(server: &Server, ending: &Ending) -> Value {
    let reason = ending.player_component(&server.config);
    let extra: Vec<Value> = reason.into_iter().collect();
    let text = player_text::not_moved(&server.config.id);
    match extra.is_empty() {
        true => json!({ "text": text }),
        false => json!({ "text": text, "extra": extra }),
    }
}

impl NetworkPlayer {
    /// Moves a player whose relay has ended to the requested server, or, if that fails or
    /// none was requested, to another one of the network.
    pub(super) async fn move_to_next(
        &self,
        mut client: Box<DetachedClient>,
        next: AfterRelay<'_>,
        context: MoveContext<'_>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<ServerConnection, NotMoved> {
        let MoveContext {
            from,
            attempts,
            interrupts,
        } = context;
        let before = FallbackAttempts::unsettled(attempts.take());
        // The player has either left a working server for the new one, or lost it.
        let has_left = matches!(next, AfterRelay::Ready(..));
        let (requested, refused) = match self.requested(&mut client, next, interrupts).await {
            Ok(requested) => requested,
            Err(failure) => {
                let failure = Some(failure);
                return Err(NotMoved { client, failure });
            }
        };
        let mut lost = Arc::clone(from);
        let mut failed = None;
        let mut behind = match has_left {
            true => before,
            false => Some(FallbackAttempts::continue_from(before, from)),
        };
        if let (Some(attempts), Some(server)) = (&mut behind, &refused) {
            attempts.refused(server);
        }
        if let Some((request, ready)) = requested {
            let server = Arc::clone(&ready.server);
            let entered = self.enter_requested(client, *ready, interrupts, proxy, facts);
            match entered.await {
                Ok(arrived) => {
                    self.report(request.by(), from, &server);
                    // Before the requester is notified, who may request the next switch.
                    self.handle.set_available();
                    request.end(Ok(()));
                    *attempts = behind;
                    return Ok(arrived);
                }
                Err((failure, detached)) => {
                    client = detached;
                    let ends = ends_session(&failure);
                    let ending = Ending::Intercepted(failure);
                    log_refusal(&server, &ending);
                    let text = refusal(&server, &ending);
                    request.end(Err(NotSwitched::Refused { text }));
                    if let Ending::Intercepted(failure) = ending {
                        failed = Some(failure);
                    }
                    if ends {
                        let failure = failed;
                        return Err(NotMoved { client, failure });
                    }
                    let mut tried = FallbackAttempts::continue_from(behind.take(), &server);
                    if has_left {
                        tried.left(from);
                    }
                    behind = Some(tried);
                    lost = server;
                }
            }
        }
        let behind = attempts.insert(behind.unwrap_or_else(|| FallbackAttempts::begin(&lost)));
        if !self.falls_back(proxy) {
            let failure = failed;
            return Err(NotMoved { client, failure });
        }
        let arrived = self.fall_back(client, &lost, behind, interrupts, proxy, facts);
        arrived.await.map_err(|left| NotMoved {
            failure: left.failure.or(failed),
            ..left
        })
    }

    /// The requested server, if it has accepted the login, and the server that has refused
    /// it. The backend may be lost during a switch: its target is then tried first.
    async fn requested(
        &self,
        client: &mut DetachedClient,
        next: AfterRelay<'_>,
        interrupts: &Interrupts,
    ) -> Result<(Option<(SwitchRequest, Box<Ready>)>, Option<Arc<Server>>), Failure> {
        let mut switch = match next {
            AfterRelay::Nothing => return Ok((None, None)),
            AfterRelay::Ready(request, ready) => return Ok((Some((request, ready)), None)),
            AfterRelay::Preparing(switch) => switch,
        };
        let preparing = switch.prepared();
        match self.while_preparing(client, preparing, interrupts).await? {
            Ok(ready) => Ok((Some((switch.request, ready)), None)),
            Err(ending) => {
                let server = Arc::clone(&switch.server);
                switch.refuse(&ending, self);
                Ok((None, Some(server)))
            }
        }
    }

    /// Brings the client into the game of a server that has accepted the login.
    async fn enter_requested(
        &self,
        client: Box<DetachedClient>,
        ready: Ready,
        interrupts: &Interrupts,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<ServerConnection, (Failure, Box<DetachedClient>)> {
        let server = &ready.server;
        let arrival = Arrival {
            is_authenticated: is_authenticated(server),
            commands: self.commands(server, facts, proxy),
            notices: Vec::new(),
            until: Instant::now() + SWITCH_WAIT,
            interrupts,
            queries: None,
            listener: Channel::of(proxy, &self.handle, server),
            outbox: Arc::default(),
        };
        self.enter(client, ready, arrival, facts).await
    }

    fn report(&self, by: &By, from: &Server, to: &Server) {
        info!(
            player = %Escaped(&self.identity.profile.name),
            network = self.network,
            from = from.config.id,
            to = to.config.id,
            by = by.name(),
            who = %Escaped(by.who()),
            "a player has switched to another server"
        );
    }
}
