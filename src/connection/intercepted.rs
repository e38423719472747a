//! Sessions on servers of the intercepted modes.
//!
//! [`BridgeSession::run`]: relay, and if the backend is lost or a switch is requested, move
//! the player to another server of the network. The login before is in
//! `intercepted_login`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

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
    self, Failure, Interrupts, Playing, RemainingClient, Rules, SessionRequest,
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
    /// Also has the handle with which other tasks reach the player.
    pub(super) entry: intercept::RosterEntry,
    pub(super) connection: Slot,
    /// The servers that were tried for the player.
    pub(super) attempts: Option<Box<FallbackAttempts>>,
}

/// A session, and the connections that it will relay.
pub(super) struct Begun {
    pub(super) session: BridgeSession,
    /// Set if the server belongs to a network, which can move the player.
    pub(super) network_player: Option<Box<NetworkPlayer>>,
    pub(super) playing: Box<Playing>,
}

/// What ends a session in every phase.
pub(super) fn interrupts(entry: &intercept::RosterEntry, proxy: &Proxy) -> Interrupts {
    Interrupts {
        player: Arc::clone(entry.player()),
        stopped: proxy.shutdown.stop.clone(),
    }
}

impl Begun {
    /// See [`BridgeSession::run`].
    pub(super) fn run<'a>(
        self,
        proxy: &'a Proxy,
        facts: &'a mut Facts,
    ) -> impl Future<Output = Ended> + Send + use<'a> {
        let Self {
            session,
            network_player,
            playing,
        } = self;
        session.run(network_player, playing, proxy, facts)
    }
}

impl BridgeSession {
    /// Relays until the session ends. If the backend is lost, or a switch was requested,
    /// the player is moved to another server of the network. At the end the client may
    /// read why.
    ///
    /// An idle session holds this future, and nothing else that runs it: the session and the
    /// relay are parts of it.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn run<'a>(
        mut self,
        network_player: Option<Box<NetworkPlayer>>,
        mut playing: Box<Playing>,
        proxy: &'a Proxy,
        facts: &'a mut Facts,
    ) -> impl Future<Output = Ended> + Send {
        async move {
            let (ending, reader) = loop {
                if let Some(attempts) = &mut self.attempts {
                    attempts.arrive();
                }
                let player = self.entry.player();
                player.set_available();
                channel::open(player, &self.server, proxy);
                let (ended, next) = {
                    let mut relay = pin!(self.relay(playing, proxy));
                    let mut waiting = Waiting::new(&self, network_player.as_deref());
                    let (ended, next) = loop {
                        let event = poll_fn(|context| waiting.poll(relay.as_mut(), context)).await;
                        if let Some(stop) = waiting.handle(event, proxy, facts) {
                            break stop;
                        }
                    };
                    self.entry.player().set_unavailable();
                    let ended = match ended {
                        Some(ended) => ended,
                        None => {
                            self.outbox.stop();
                            Box::new(relay.await)
                        }
                    };
                    (ended, next)
                };
                let over = Over { ended, next };
                let next = self.continue_from(over, network_player.as_deref(), proxy, facts);
                // Boxed so that an idle session does not hold the state of a move.
                match Box::pin(next).await {
                    Ok(there) => playing = there,
                    Err(end) => break end,
                }
            };
            drop(self.entry);
            let reader = reader.map(ClosingClient::Intercepted);
            Ended::new(ending, reader).holding_connection(self.connection)
        }
    }

    /// Relays until the backend or the client ends the session, or the outbox is stopped.
    /// Takes the box, which is freed here and not at the end of the session.
    #[expect(
        clippy::boxed_local,
        reason = "a box that is emptied elsewhere is freed at the end of the session"
    )]
    fn relay(
        &self,
        playing: Box<Playing>,
        proxy: &Proxy,
    ) -> impl Future<Output = intercept::Ended> + Send + use<> {
        let mut limits = self.server.config.timeouts.session;
        let write = limits.write.unwrap_or(INTERCEPTED_WRITE_MAX);
        limits.write = Some(write.min(INTERCEPTED_WRITE_MAX));
        let rules = Rules {
            keepalive: self.server.proxy.keepalive,
            limits,
        };
        playing.play(&proxy.forwarders, rules)
    }

    /// What follows a relay: the player comes to another server, or the session ends.
    async fn continue_from(
        &mut self,
        over: Over<'_>,
        network_player: Option<&NetworkPlayer>,
        proxy: &Proxy,
        facts: &mut Facts,
    ) -> Result<Box<Playing>, Conclusion> {
        let Over { ended, next } = over;
        let player = Arc::clone(self.entry.player());
        let observed = self.observed.take();
        let kick = observed
            .as_ref()
            .and_then(|observed| observed.kick().cloned());
        let interrupts = interrupts(&self.entry, proxy);
        let outcome = ended.outcome;
        let end = outcome.end;
        debug!(end = %end, "an intercepted session has ended");
        let is_asked_for = matches!(*next, AfterRelay::Ready(..)) && end == End::Stopped;
        let ending = match (end, ended.fault(), kick) {
            (_, Some(fault), _) => Ending::Faulted(outcome, fault.clone()),
            (End::Stopped, None, _) if interrupts.player.replaced().is_set() => {
                Ending::Replaced(outcome)
            }
            (End::Stopped, None, Some(kick)) => Ending::Kicked(outcome, kick),
            (End::Stopped, None, None) if player.kick_text().is_some() => {
                let text = player.kick_text().unwrap_or_default();
                Ending::KickedByBackend(outcome, text.to_string())
            }
            (_, None, _) => Ending::Relayed(outcome),
        };
        let can_switch = is_asked_for
            && matches!(ending, Ending::Relayed(_))
            && !interrupts.stopped.is_cancelled();
        if let Some(observed) = observed {
            (*observed).end(match can_switch {
                true => SWITCHED,
                false => ending.name(),
            });
        }
        // Slot and roster entry are free before the player reads. The slot is
        // first, since a login that waits for the entry needs a slot too.
        self.slot = None;
        let is_waited_for = !matches!(*next, AfterRelay::Nothing);
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
            attempts: &mut attempts,
            interrupts: &interrupts,
        };
        let moved = network_player
            .move_to_next(client, *next, context, proxy, facts)
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
            &player,
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

/// What a session waits for while its relay runs: another login of the player replaces it,
/// a plugin ends it, or another server waits for the player.
struct Waiting<'s, 'a> {
    session: &'s BridgeSession,
    network_player: Option<&'a NetworkPlayer>,
    /// The switch that has begun and is not prepared.
    switch: Option<Box<Switch<'a>>>,
}

impl<'s, 'a> Waiting<'s, 'a> {
    const fn new(session: &'s BridgeSession, network_player: Option<&'a NetworkPlayer>) -> Self {
        Self {
            session,
            network_player,
            switch: None,
        }
    }

    /// Ready at the next event of the relay or of these. One function, since an idle session
    /// would hold a future for each event.
    fn poll(
        &mut self,
        relay: Pin<&mut impl Future<Output = intercept::Ended>>,
        context: &mut Context<'_>,
    ) -> Poll<RelayEvent> {
        let BridgeSession {
            entry, observed, ..
        } = self.session;
        let player = entry.player();
        if let Poll::Ready(ended) = relay.poll(context) {
            return Poll::Ready(RelayEvent::Over(Box::new(ended)));
        }
        if let Some(observed) = observed
            && observed.poll_kicked(context).is_ready()
        {
            return Poll::Ready(RelayEvent::Kicked);
        }
        if let Some(switch) = &mut self.switch {
            if player.poll_leaving(context).is_ready() {
                return Poll::Ready(RelayEvent::Leaving);
            }
            if let Poll::Ready(prepared) = switch.poll_prepared(context) {
                let prepared = prepared.map_err(Box::new);
                return Poll::Ready(RelayEvent::Prepared(prepared));
            }
        }
        let request = player.poll_request(context);
        request.map(RelayEvent::Requested)
    }

    /// Handles an event. Returns what follows the relay, and the relay that has ended if it
    /// is over; otherwise it is to be stopped. `None` if the relay continues.
    fn handle(
        &mut self,
        event: RelayEvent,
        proxy: &'a Proxy,
        facts: &Facts,
    ) -> Option<(Option<Box<intercept::Ended>>, Box<AfterRelay<'a>>)> {
        match event {
            RelayEvent::Over(ended) => {
                let next = match self.switch.take() {
                    Some(switch) => AfterRelay::Preparing(switch),
                    None => AfterRelay::Nothing,
                };
                Some((Some(ended), Box::new(next)))
            }
            RelayEvent::Kicked | RelayEvent::Requested(SessionRequest::End) => {
                Some((None, Box::new(AfterRelay::Nothing)))
            }
            // No server is asked for a player who leaves: the request ends with the drop.
            RelayEvent::Leaving => {
                self.switch = None;
                None
            }
            RelayEvent::Requested(SessionRequest::Switch(request)) => {
                let stays = |_: &&NetworkPlayer| !self.session.entry.player().is_leaving();
                self.switch = self
                    .network_player
                    .filter(stays)
                    .and_then(|network_player| {
                        let switch = Switch::begin(request, network_player, proxy, facts);
                        switch.map(Box::new)
                    });
                None
            }
            RelayEvent::Prepared(prepared) => {
                let (switch, network_player) = (self.switch.take()?, self.network_player?);
                match prepared {
                    // The point of no return, and the only one: the connection to the old
                    // backend is closed before the client and the new one get a byte, and
                    // nothing is waited for between. From then on the player is on the other
                    // server, or on one that takes the place of it.
                    Ok(ready) => {
                        let next = AfterRelay::Ready(switch.into_request(), ready);
                        Some((None, Box::new(next)))
                    }
                    Err(ending) => {
                        switch.refuse(&ending, network_player);
                        None
                    }
                }
            }
        }
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

/// A relay that is over, and the switch that was requested during it.
struct Over<'a> {
    ended: Box<intercept::Ended>,
    next: Box<AfterRelay<'a>>,
}

/// How a session has ended, and the client if it can read why.
type Conclusion = (Ending, Option<intercept::ClosingClient>);

/// The reason that plugins of the old server get when a player switches to another one.
const SWITCHED: &str = "switched";
