//! The life of a connection, from accept to finish.
//!
//! accept → PROXY header → legacy ping or handshake → route →
//! `connection.decide` → **status**: request, a slot on the proxy,
//! `handshake.rewrite`, an answer from the cache, the backend or a MOTD,
//! `status.respond`; **login, transfer**: login start → a slot on the proxy →
//! `login.decide` → `route.select` → admission → `handshake.rewrite` →
//! connect → PROXY header out → replay of everything the client has sent → first
//! byte of the backend → relay → finish. The names in code font are hooks of plugins;
//! `session.observe` is called at admission, connect and finish.
//!
//! Each step takes the evidence of the step before and returns more: a
//! [`Greeted`] client has a true address, an [`Opened`] one has said what it
//! wants, a [`Routed`] one has a server, a [`Claimed`] one has a slot on the
//! proxy, an [`Admitted`] one has a slot on that server, and only a
//! [`RelaySession`] or a [`Begun`] session has a backend to be relayed to. A
//! session cannot be relayed without these steps.
//!
//! A step that fails returns an [`Ended`]: the [`Ending`], and the client if it
//! may still read why. Only `serve` shows the text and writes the log line.

mod attempts;
mod begin;
mod channel;
mod client;
mod connector;
mod ending;
mod facts;
mod fallback;
mod first_bytes;
mod guard;
mod in_game;
mod intercepted;
mod intercepted_login;
mod join;
mod kicked;
mod log;
mod login;
mod network_player;
mod observe;
mod opening;
mod packets;
mod route;
mod status;
mod switch;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpStream;

use self::ending::{Ended, Ending};
use self::facts::Facts;
use self::intercepted::Begun;
use self::join::RelaySession;
use self::login::{Admission, Claimed};
#[cfg(doc)]
use self::{
    join::Admitted,
    route::{Greeted, Opened, Routed},
};
use crate::limit::PendingGuard;
use crate::protocol::handshake::Intent;
use crate::proxy::Proxy;
use crate::proxy::lifecycle::{self, Phase};

/// Serves one connection from accept to finish.
///
/// The task of an idle session has this future for as long as the player stays, and
/// thousands may wait for a backend at once. So each stage has a box of its own, which
/// is freed before the next begins, and nothing of a stage is held here.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice"
)]
pub(crate) fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<Proxy>,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut facts = Facts::begin(peer);
        let stages = async {
            let set_up = Box::pin(set_up(stream, &proxy, &mut facts));
            let admission = lifecycle::watched(peer, set_up).await?;
            let join = Box::pin(join(admission, &proxy, &mut facts));
            lifecycle::watched(peer, join).await
        };
        let session = tokio::select! {
            biased;
            () = proxy.shutdown.stop.cancelled() => Err(Ending::Stopped.into()),
            session = stages => session,
        };
        let ended = run(session, &proxy, &mut facts).await;
        let server = facts.server.as_ref().map(|server| &*server.config);
        let ending = ended.show(server, &proxy.shutdown.stop).await;
        lifecycle::during(peer, Phase::Finish, || finish(&mut facts, ending));
    }
}

/// Reports to plugins and to the log how the connection ended.
fn finish(facts: &mut Facts, ending: Ending) {
    let ending = match facts.session {
        Some(_) => ending.of_session(),
        None => ending,
    };
    facts.session_closed(ending.name());
    facts.write_line(&ending);
}

/// From accept to a slot on a server. Every `?` is an early end.
async fn set_up(stream: TcpStream, proxy: &Proxy, facts: &mut Facts) -> Result<Admission, Ended> {
    let pending = proxy.pending.enter();
    let claimed = tokio::select! {
        biased;
        () = pending.evicted() => return Err(Ending::Evicted.into()),
        claimed = claim(stream, &pending, proxy, facts) => claimed,
    };
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(ended) => return Err(ended.holding_pending(pending)),
    };
    // From here on `max_connections` bounds the connection, and one that waits
    // for a plugin or a backend is not evicted.
    drop(pending);
    claimed.admit(facts).await
}

/// From a slot on a server to a session.
async fn join(admission: Admission, proxy: &Proxy, facts: &mut Facts) -> Result<Session, Ended> {
    lifecycle::at(Phase::Joining);
    Ok(match admission {
        Admission::Forwarded(admitted) => Session::Relay(admitted.join(proxy, facts).await?),
        Admission::Intercepted(applicant) => {
            // Boxed so that its state does not enlarge that of a relay.
            Session::Bridge(Box::pin(applicant.join(proxy, facts)).await?)
        }
    })
}

/// Runs a session to its end, if there is one.
fn run<'a>(
    session: Result<Session, Ended>,
    proxy: &'a Proxy,
    facts: &'a mut Facts,
) -> Pin<Box<dyn Future<Output = Ended> + Send + 'a>> {
    match session {
        Ok(Session::Relay(relay)) => Box::pin(
            relay
                .run(proxy)
                .map(|outcome| Ending::Relayed(outcome).into()),
        ),
        Ok(Session::Bridge(begun)) => Box::pin(begun.run(proxy, facts)),
        Err(ended) => Box::pin(std::future::ready(ended)),
    }
}

/// A session, by the family of its server's mode.
enum Session {
    /// The proxy moves bytes.
    Relay(RelaySession),
    /// The proxy speaks the protocol with both sides.
    Bridge(Box<Begun>),
}

/// From accept to a player with a slot on the proxy. A status ping ends here,
/// answered.
async fn claim(
    stream: TcpStream,
    pending: &PendingGuard,
    proxy: &Proxy,
    facts: &mut Facts,
) -> Result<Claimed, Ended> {
    let greeted = route::greet(stream, pending, proxy, facts).await?;
    let opened = greeted.open().await?;
    lifecycle::at(Phase::Routing);
    let routed = opened.route(pending, proxy, facts).await?;
    match routed.intent() {
        Intent::Status => {
            lifecycle::at(Phase::Status);
            routed.answer_status(pending, proxy, facts).await?;
            Err(Ending::StatusAnswered.into())
        }
        Intent::Login | Intent::Transfer => {
            lifecycle::at(Phase::Login);
            routed.claim(proxy, facts).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured: 568 bytes on 64 bits, with some room for other compilers.
    const FUTURE_BYTES_MAX: usize = 704;

    /// Measured: 376 bytes.
    const PLAYING_BYTES_MAX: usize = 424;

    /// Measured: 1216 bytes.
    const WAITING_BYTES_MAX: usize = 1408;

    /// What an idle session holds: its task has this future for as long as the
    /// player stays, so the state of the way there is in boxes.
    #[test]
    fn the_future_of_a_session_is_small() {
        fn future_bytes<F>(_: impl Fn(TcpStream, SocketAddr, Arc<Proxy>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = future_bytes(serve);
        assert!(bytes <= FUTURE_BYTES_MAX, "{bytes} bytes");
    }

    /// What an idle player of the intercepted modes holds beside the future above: the
    /// session and its relay.
    #[test]
    fn the_future_of_a_player_in_the_game_is_small() {
        type Run<F> = fn(Begun, &'static Proxy, &'static mut Facts) -> F;
        fn future_bytes<F>(_: Run<F>) -> usize {
            size_of::<F>()
        }
        let bytes = future_bytes(Begun::run);
        assert!(bytes <= PLAYING_BYTES_MAX, "{bytes} bytes");
    }

    /// What each of many logins holds that wait for one server, beside the future
    /// above. The allocator keeps it, so it counts for the sessions as well.
    #[test]
    fn the_future_of_a_waiting_login_is_small() {
        type Join<F> = fn(Admission, &'static Proxy, &'static mut Facts) -> F;
        fn future_bytes<F>(_: Join<F>) -> usize {
            size_of::<F>()
        }
        let bytes = future_bytes(join);
        assert!(bytes <= WAITING_BYTES_MAX, "{bytes} bytes");
    }
}
