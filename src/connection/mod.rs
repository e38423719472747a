//! The life of a connection, told once.
//!
//! accept → PROXY header → legacy ping or handshake → route →
//! `connection.decide` → **status**: request, a place on the proxy,
//! `handshake.rewrite`, an answer from the cache, the backend or a MOTD,
//! `status.respond`; **login, transfer**: login start → a place on the proxy →
//! `login.decide` → `route.select` → admission → `handshake.rewrite` →
//! connect → PROXY header out → replay of everything the client has sent → first
//! byte of the backend → relay → finish. The names in code font are hooks of plugins; those of
//! `session.observe` are told of admission, connect and finish.
//!
//! Each step takes what the one before has proved, and hands on more: a
//! [`Greeted`] client has a true address, an
//! [`Opened`] one has said what it wants, a
//! [`Routed`] one has a server, a
//! [`Claimed`] one has a place on the proxy, an
//! [`Admitted`] one has a place on that server, and only a
//! [`Joined`] one has a backend to be relayed to. Nothing is
//! relayed that has not gone this way.

mod begin;
mod client;
mod ending;
mod guard;
mod hooks;
mod intercepted;
mod login;
mod opening;
mod report;
mod state;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use self::ending::{Ended, Ending};
use self::intercepted::Bridged;
use self::report::Report;
use self::state::{Admission, Claimed, Joined};
#[cfg(doc)]
use self::state::{Admitted, Greeted, Opened, Routed};
use crate::lifecycle::{self, Phase};
use crate::limit::PendingGuard;
use crate::protocol::handshake::Intent;
use crate::proxy::Proxy;

/// Serves one connection from accept to finish.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, proxy: Arc<Proxy>) {
    let mut report = Report::begin(peer);
    // The way to a backend needs some kilobytes of state, a session some
    // hundred bytes. On the heap of its own, what the first took is given back
    // before the second begins, and an idle player does not pay for it.
    let way = Box::pin(begin(stream, &proxy, &mut report));
    let way = lifecycle::watched(peer, way).await;
    let ended = match way {
        Ok(Way::Forwarded(joined)) => Ending::Relayed(joined.relay(&proxy).await).into(),
        Ok(Way::Bridged(bridged)) => Box::pin(bridged.play(&proxy)).await,
        Err(ended) => ended,
    };
    let server = report.server.as_ref().map(|server| &*server.config);
    let ending = ended.show(server, &proxy.shutdown.stop).await;
    lifecycle::during(peer, Phase::Finish, || report.finish(ending));
}

/// The story up to the relay. Every `?` is a way for it to end before.
async fn begin(stream: TcpStream, proxy: &Proxy, report: &mut Report) -> Result<Way, Ended> {
    let pending = proxy.pending.enter();
    let claimed = tokio::select! {
        biased;
        () = proxy.shutdown.stop.cancelled() => return Err(Ending::Stopped.into()),
        () = pending.evicted() => return Err(Ending::Evicted.into()),
        claimed = claim(stream, &pending, proxy, report) => claimed,
    };
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(ended) => return Err(ended.holding_pending(pending)),
    };
    // From here on the place among `max_connections` is the bound, and nobody
    // is evicted who waits for a plugin or a backend.
    drop(pending);

    tokio::select! {
        biased;
        () = proxy.shutdown.stop.cancelled() => Err(Ending::Stopped.into()),
        joined = async {
            let admission = claimed.admit(report).await?;
            lifecycle::at(Phase::Joining);
            Ok(match admission {
                Admission::Forwarded(admitted) => Way::Forwarded(admitted.join(proxy, report).await?),
                Admission::Intercepted(applicant) => {
                    Way::Bridged(Box::new(applicant.join(proxy, report).await?))
                }
            })
        } => joined,
    }
}

/// A session, by who speaks the protocol.
enum Way {
    /// The proxy moves bytes.
    Forwarded(Joined),
    /// The proxy speaks with both sides.
    Bridged(Box<Bridged>),
}

/// From accept to a player with a place on the proxy. A status ping ends here,
/// answered.
async fn claim(
    stream: TcpStream,
    pending: &PendingGuard,
    proxy: &Proxy,
    report: &mut Report,
) -> Result<Claimed, Ended> {
    let greeted = state::greet(stream, pending, proxy, report).await?;
    let opened = greeted.open().await?;
    lifecycle::at(Phase::Routing);
    let routed = opened.route(pending, proxy, report).await?;
    match routed.intent() {
        Intent::Status => {
            lifecycle::at(Phase::Status);
            routed.answer_status(pending, proxy, report).await?;
            Err(Ending::StatusAnswered.into())
        }
        Intent::Login | Intent::Transfer => {
            lifecycle::at(Phase::Login);
            routed.claim(proxy, report).await
        }
    }
}
