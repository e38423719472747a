//! Sessions on servers of the intercepted modes.
//!
//! [`BridgeSession::run`]: relay, and if the backend is lost or a switch is requested, move
//! the player to another server of the network. The login before is in
//! `intercepted_login`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tracing::debug;

use super::attempts::FallbackAttempts;
use super::channel;
use super::client::ClosingClient;
use super::ending::{Ended, Ending};
use super::facts::Facts;
use super::in_game::ObservedPlayer;
use super::network_player::{NetworkPlayer, Ready};
use super::switch::{AfterRelay, MoveContext, Switch};
use crate::config::model::INTERCEPTED_WRITE_MAX;
use crate::forward::{End, Outbox, Outcome, Side};
use crate::intercept::{
    self, Failure, Interrupts, PlayerHandle, Playing, RemainingClient, Rules, SessionRequest,
    SwitchRequest,
};
use crate::limit::Slot;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Server;

/// A player in the game, with everything that the session holds. It is idle for most of
/// the time: what is only used between two servers is boxed.
pub(super) struct BridgeSession {
    /// The current server.
    pub(super) server: Arc<Server>,
    /// The slot on it; `None` once the player leaves it.
    pub(super) slot: Option<Slot>,
    pub(super) outbox: Arc<Outbox>,
    /// The stay on the server that plugins observe, if any do.
    pub(super) observed: Option<Box<ObservedPlayer>>,
    pub(super) entry: intercept::RosterEntry,
    /// How other tasks reach the player.
    pub(super) handle: Arc<PlayerHandle>,
    pub(super) connection: Slot,
    /// Set if the server belongs to a network, which can move the player.
    pub(super) network_player: Option<Box<NetworkPlayer>>,
    /// The servers that were tried for the player.
    pub(super) attempts: Option<Box<FallbackAttempts>>,
    pub(super) interrupts: Interrupts,
}

/// A session, and the connections that it will relay.
pub(super) type Begun = (Box<BridgeSession>, Box<Playing>);

/// What ends a session in every phase.
pub(super) fn interrupts(entry: &intercept::RosterEntry, proxy: &Proxy) -> Interrupts {
    Interrupts {
        replaced: entry.keep_replaced(),
        stopped: proxy.shutdown.stop.clone(),
    }
}

impl BridgeSession {
    /// Relays until the session ends. If the backend is lost, or a switch was requested,
    /// the player is moved to another server of the network. At the end the client may
    /// read why.
    ///
    /// An idle session holds this future.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    pub(super) fn run<'a>(
        mut self: Box<Self>,
        mut playing: Box<Playing>,
        proxy: &'a Proxy,
        facts: &'a mut Facts,
    ) -> impl Future<Output = Ended> + Send {
        async move {
            let network_player = self.network_player.take();
            let network_player = network_player.as_deref();
            let (ending, reader) = loop {
                let began = Instant::now();
                self.handle.set_available();
                channel::open(&self.handle, &self.server, proxy);
                let stopped = self.relay(playing, network_player, proxy, facts).await;
                self.handle.set_unavailable();
                let next = self.move_on(stopped, began, network_player, proxy, facts);
                // Boxed so that an idle session does not hold the state of a move.
                match Box::pin(next).await {
                    Ok(there) => playing = there,
                    Err(end) => break end,
                }
            };
            let Self {
                entry, connection, ..
            } = *self;
            drop(entry);
            let reader = reader.map(ClosingClient::Intercepted);
            Ended::new(ending, reader).holding_connection(connection)
        }
    }

    /// Relays until the backend or the client ends the session, another login of the
    /// player replaces it, a plugin ends it, or another server waits for the player.
    ///
    /// An idle session holds this future: see [`serve`](super::serve).
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn relay<'a>(
        &self,
        playing: Box<Playing>,
        network_player: Option<&'a NetworkPlayer>,
        proxy: &'a Proxy,
        facts: &Facts,
    ) -> impl Future<Output = RelayStop<'a>> {
        async move {
            let mut relay = self.begin(playing, proxy);
            let observed = self.observed.as_deref();
            let mut kicked = observed.map(|observed| Box::pin(observed.kicked()));
            let mut switch: Option<Box<Switch<'_>>> = None;
            loop {
                // One closure, since an idle session would hold a future for each event.
                let event = poll_fn(|context| {
                    if let Poll::Ready(ended) = relay.ended.as_mut().poll(context) {
                        return Poll::Ready(RelayEvent::Over(Box::new(ended)));
                    }
                    if let Some(kicked) = &mut kicked
                        && kicked.as_mut().poll(context).is_ready()
                    {
                        return Poll::Ready(RelayEvent::Kicked);
                    }
                    if let Some(switch) = &mut switch {
                        if self.handle.poll_leaving(context).is_ready() {
                            return Poll::Ready(RelayEvent::Leaving);
                        }
                        if let Poll::Ready(prepared) = Switch::poll_prepared(switch, context) {
                            let prepared = prepared.map_err(Box::new);
                            return Poll::Ready(RelayEvent::Prepared(prepared));
                        }
                    }
                    let request = self.handle.poll_request(&self.interrupts.replaced, context);
                    request.map(RelayEvent::Requested)
                });
                let prepared = match event.await {
                    RelayEvent::Over(ended) => {
                        let preparing = |switch: Box<Switch<'a>>| AfterRelay::Preparing(*switch);
                        let next = switch.map_or(AfterRelay::Nothing, preparing);
                        return RelayStop::Over(*ended, next);
                    }
                    RelayEvent::Kicked | RelayEvent::Requested(SessionRequest::End) => break,
                    // No server is asked for a player who leaves: the request ends with
                    // the drop.
                    RelayEvent::Leaving => {
                        switch = None;
                        continue;
                    }
                    RelayEvent::Requested(SessionRequest::Switch(request)) => {
                        let stays = |_: &&NetworkPlayer| !self.handle.is_leaving();
                        switch = network_player.filter(stays).and_then(|network_player| {
                            let switch = Switch::begin(request, network_player, proxy, facts);
                            switch.map(Box::new)
                        });
                        continue;
                    }
                    RelayEvent::Prepared(prepared) => prepared,
                };
                let (Some(current), Some(network_player)) = (switch.take(), network_player) else {
                    continue;
                };
                match prepared {
                    Ok(ready) => return RelayStop::Leaving(relay, current.into_request(), ready),
                    Err(ending) => current.refuse(&ending, network_player),
                }
            }
            RelayStop::Over(relay.stop().await, AfterRelay::Nothing)
        }
    }

    /// Begins to relay. Takes the box, which is freed here and not at the end of the session.
    #[expect(
        clippy::boxed_local,
        reason = "a box that is emptied elsewhere is freed at the end of the session"
    )]
    fn begin(&self, playing: Box<Playing>, proxy: &Proxy) -> RunningRelay {
        let mut limits = self.server.config.timeouts.session;
        let write = limits.write.unwrap_or(INTERCEPTED_WRITE_MAX);
        limits.write = Some(write.min(INTERCEPTED_WRITE_MAX));
        let rules = Rules {
            keepalive: self.server.proxy.keepalive,
            limits,
            stop: proxy.shutdown.stop.clone(),
        };
        RunningRelay {
            // Boxed: an idle session holds it once, instead of each future on the way.
            ended: Box::pin(playing.play(&proxy.forwarders, rules)),
            outbox: Arc::clone(&self.outbox),
        }
    }

    /// What follows a relay. For a player who leaves a server that works, this is the point
    /// of no return, and the only one: the connection to the old backend is closed before
    /// the client and the new one get a byte, and nothing is waited for between. From then
    /// on the player is on the other server, or on one that takes the place of it.
    async fn move_on(
        &mut self,
        stopped: RelayStop<'_>,
        began: Instant,
        network_player: Option<&NetworkPlayer>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Box<Playing>, Conclusion> {
        let (ended, next) = match stopped {
            RelayStop::Over(ended, next) => (ended, next),
            RelayStop::Leaving(relay, request, ready) => {
                (relay.stop().await, AfterRelay::Ready(request, ready))
            }
        };
        let over = Over { ended, next, began };
        self.continue_from(over, network_player, proxy, facts).await
    }

    /// What follows a relay: the player comes to another server, or the session ends.
    async fn continue_from(
        &mut self,
        over: Over<'_>,
        network_player: Option<&NetworkPlayer>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Box<Playing>, Conclusion> {
        let Over { ended, next, began } = over;
        let handle = &self.handle;
        let observed = self.observed.take();
        let kick = observed
            .as_ref()
            .and_then(|observed| observed.kick().cloned());
        let outcome = ended.outcome;
        let end = outcome.end;
        debug!(end = %end, "an intercepted session has ended");
        let is_asked_for = matches!(next, AfterRelay::Ready(..)) && end == End::Stopped;
        let ending = match (end, ended.fault(), kick) {
            (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
            (End::Stopped, None, _) if self.interrupts.replaced.is_set() => {
                Ending::Replaced(outcome)
            }
            (End::Stopped, None, Some(kick)) => Ending::Kicked(outcome, kick),
            (End::Stopped, None, None) if handle.kick_text().is_some() => {
                let text = handle.kick_text().unwrap_or_default();
                Ending::KickedByBackend(outcome, text.to_string())
            }
            (_, None, _) => Ending::Relayed(outcome),
        };
        let can_switch = is_asked_for
            && matches!(ending, Ending::Relayed(_))
            && !self.interrupts.stopped.is_cancelled();
        if let Some(observed) = observed {
            (*observed).end(match can_switch {
                true => SWITCHED,
                false => ending.name(),
            });
        }
        // Slot and roster entry are free before the player reads. The slot is
        // first, since a login that waits for the entry needs a slot too.
        self.slot = None;
        let is_waited_for = !matches!(next, AfterRelay::Nothing);
        let is_moved = |network_player: &NetworkPlayer| {
            can_switch
                || network_player.has_lost_backend(&outcome, proxy)
                || (is_waited_for && network_player.is_without_backend(&outcome))
        };
        let (client, network_player) = match (ended.into_client(), network_player) {
            (Some(RemainingClient::Detached(client)), Some(network_player))
                if is_moved(network_player) =>
            {
                (client, network_player)
            }
            (Some(RemainingClient::Detached(client)), _) => {
                return Err((ending, Some(client.into_closing())));
            }
            (Some(RemainingClient::Closing(reader)), _) => return Err((ending, Some(reader))),
            (None, _) => return Err((ending, None)),
        };
        let mut attempts = self.attempts.take().map(|attempts| *attempts);
        let context = MoveContext {
            from: &self.server,
            stayed: began.elapsed(),
            attempts: &mut attempts,
            interrupts: &self.interrupts,
        };
        let moved = network_player
            .move_to_next(client, next, context, proxy, facts)
            .await;
        let mut arrived = match moved {
            Ok(arrived) => arrived,
            Err(left) => {
                let ending = match left.failure {
                    Some(Failure::Replaced) => Ending::Replaced(outcome),
                    Some(Failure::Stopped) => Ending::Relayed(Outcome {
                        end: End::Stopped,
                        ..outcome
                    }),
                    Some(Failure::ClientLeft) => Ending::Relayed(Outcome {
                        end: End::Closed(Side::Client),
                        ..outcome
                    }),
                    Some(failure) => Ending::Intercepted(failure),
                    None => ending,
                };
                return Err((ending, Some(left.client.into_closing())));
            }
        };
        self.observed = ObservedPlayer::begin(
            proxy.plugins.in_game(),
            &mut arrived,
            facts,
            &self.handle,
            network_player.identity.profile.clone(),
            network_player.is_proved,
        );
        self.attempts = attempts.map(Box::new);
        self.server = arrived.server;
        self.slot = Some(arrived.slot);
        self.outbox = arrived.outbox;
        Ok(Box::new(arrived.playing))
    }
}

/// A relay that runs, with the connection to the backend.
struct RunningRelay {
    ended: Pin<Box<dyn Future<Output = intercept::Ended> + Send>>,
    /// Its outbox, which also stops it. Smaller than a token for each session.
    outbox: Arc<Outbox>,
}

impl RunningRelay {
    /// Ends it, which closes the connection to the backend.
    async fn stop(self) -> intercept::Ended {
        self.outbox.stop();
        self.ended.await
    }
}

/// What happens in a session while its relay runs.
enum RelayEvent {
    /// The relay is over.
    Over(Box<intercept::Ended>),
    /// A plugin ends the session.
    Kicked,
    /// The client has ended its stream during a switch.
    Leaving,
    /// The server of a switch has accepted or refused the login.
    Prepared(Result<Box<Ready>, Box<Ending>>),
    /// Others than the two peers have requested this.
    Requested(SessionRequest),
}

/// Why a session no longer waits for its relay.
enum RelayStop<'a> {
    /// It is over.
    Over(intercept::Ended, AfterRelay<'a>),
    /// It still runs, and another server has accepted the login of the player.
    Leaving(RunningRelay, SwitchRequest, Box<Ready>),
}

/// A relay that is over, and the switch that was requested during it.
struct Over<'a> {
    ended: intercept::Ended,
    next: AfterRelay<'a>,
    began: Instant,
}

/// How a session has ended, and the client if it can read why.
type Conclusion = (Ending, Option<intercept::ClosingClient>);

/// The reason that plugins of the old server get when a player switches to another one.
const SWITCHED: &str = "switched";
