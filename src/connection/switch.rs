//! A switch: a player goes to another server of his network because somebody has asked
//! for it.
//!
//! He plays on where he is until the backend of the other server has let him in. What
//! keeps him out up to then changes nothing for him: he reads why, and stays. Then his
//! relay ends, which closes the old backend's connection, and from there on he can only
//! go forward: to that server, or, when it is lost before he is in its game, to another
//! one of his network.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::channel::Channel;
use super::ending::Ending;
use super::facts::Facts;
use super::fallback::{
    FallbackAttempts, NetworkPlayer, NotMoved, Ready, ServerConnection, ends_session,
    is_authenticated, log_refusal,
};
use crate::intercept::{
    Arrival, By, DetachedClient, Failure, Interrupts, NotSwitched, SwitchRequest,
};
use crate::player_text;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;
use crate::show::Escaped;

/// How long the other server may take to let the player in, and he to come to it then.
const SWITCH_WAIT: Duration = Duration::from_secs(30);

/// A switch while the other server has not let the player in.
pub(super) struct Switch<'a> {
    request: SwitchRequest,
    server: Arc<Server>,
    preparing: Pin<Box<dyn Future<Output = Result<Ready, Ending>> + Send + 'a>>,
}

/// What comes behind a relay that has ended.
pub(super) enum AfterRelay<'a> {
    /// Nothing was asked for.
    Nothing,
    /// The relay has ended during a switch.
    Preparing(Switch<'a>),
    /// The relay was ended for a switch.
    Ready(SwitchRequest, Box<Ready>),
}

/// What is known of the way of a player whose relay has ended.
pub(super) struct MoveContext<'a> {
    pub(super) from: &'a Arc<Server>,
    /// How long he was there.
    pub(super) stayed: Duration,
    pub(super) attempts: &'a mut Option<FallbackAttempts>,
    pub(super) interrupts: &'a Interrupts,
}

impl<'a> Switch<'a> {
    /// Begins with what somebody has asked for. `None` where the network does not have
    /// the server; whoever has asked learns of it.
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
            // A chain of fallbacks counts its dials; this is one.
            let mut dials = 0;
            let prepared = network_player.prepare(&target, &mut dials, proxy, trial);
            let prepared = timeout(SWITCH_WAIT, prepared).await;
            prepared.unwrap_or(Err(Ending::Intercepted(Failure::BackendTooSlow)))
        });
        Some(Self {
            request,
            server,
            preparing,
        })
    }

    /// Completes when the other server has let the player in, or does not. Cancel safe.
    pub(super) async fn prepared(&mut self) -> Result<Ready, Ending> {
        self.preparing.as_mut().await
    }

    /// The other server has let the player in.
    pub(super) fn into_request(self) -> SwitchRequest {
        self.request
    }

    /// The other server does not let the player in, who stays and reads why.
    pub(super) fn refuse(self, ending: &Ending, network_player: &NetworkPlayer) {
        log_refusal(&self.server, ending);
        let text = refusal(&self.server, ending);
        network_player.handle.send(&text);
        self.request.end(Err(NotSwitched::Refused { text }));
    }
}

/// The text for a player that this server does not let in.
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
    /// Brings a player whose relay has ended to the server that somebody has asked for,
    /// or else to another one that takes him.
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
            stayed,
            attempts,
            interrupts,
        } = context;
        // He has left a server that works for the one that is ready, or lost it.
        let has_left = matches!(next, AfterRelay::Ready(..));
        let mut refused = None;
        let ready = match next {
            AfterRelay::Nothing => None,
            AfterRelay::Ready(request, ready) => Some((request, ready)),
            // The server that he is waiting for is the first to be tried.
            AfterRelay::Preparing(mut switch) => {
                let prepared = tokio::select! {
                    prepared = client.while_waiting(switch.prepared()) => prepared,
                    interrupt = interrupts.first() => Err(interrupt),
                };
                match prepared {
                    Ok(Ok(ready)) => Some((switch.request, Box::new(ready))),
                    Ok(Err(ending)) => {
                        refused = Some(Arc::clone(&switch.server));
                        switch.refuse(&ending, self);
                        None
                    }
                    Err(failure) => {
                        let failure = Some(failure);
                        return Err(NotMoved { client, failure });
                    }
                }
            }
        };
        let mut lost = Arc::clone(from);
        let mut failed = None;
        let mut behind = match (attempts.take(), has_left) {
            (before, true) => before.filter(|_| !FallbackAttempts::has_settled(stayed)),
            (before, false) => Some(FallbackAttempts::continue_from(before, from, stayed)),
        };
        if let (Some(attempts), Some(server)) = (&mut behind, &refused) {
            attempts.refused(server);
        }
        if let Some((request, ready)) = ready {
            let server = Arc::clone(&ready.server);
            let arrival = Arrival {
                is_authenticated: is_authenticated(&server),
                commands: self.commands(&server, facts, proxy),
                notices: Vec::new(),
                until: Instant::now() + SWITCH_WAIT,
                interrupts,
                queries: None,
                listener: Channel::of(proxy, &self.handle, &server),
            };
            match self.enter(client, *ready, arrival, proxy, facts).await {
                Ok(arrived) => {
                    self.report(request.by(), from, &server);
                    // Before anybody learns that he is there.
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
                    let mut tried =
                        FallbackAttempts::continue_from(behind.take(), &server, Duration::ZERO);
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
