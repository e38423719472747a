//! Containers of a Docker engine.
//!
//! [`client`] sends requests, [`answer`] parses the answers, and [`watch`] follows the
//! changes of the engine. Three paths of the engine are read, and nothing is changed:
//! `/events`, `/containers/json` and `/containers/<id>/json`.

mod answer;
mod client;
mod error;
mod surroundings;
mod watch;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch as channel;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::apart;
use crate::config::model::DockerConfig;
use crate::provider::Supply;

pub(crate) use error::EngineError;
pub(crate) use surroundings::surroundings;
pub(crate) use watch::Unread;

/// The pause after a bug has ended a watch.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Watches the containers of an engine until `stop` is cancelled.
///
/// Never fails: an engine that cannot be reached is asked again and again.
#[must_use]
pub(crate) fn start(config: &DockerConfig, stop: CancellationToken) -> channel::Receiver<Supply> {
    let (supply, receiver) = channel::channel(Supply::default());
    let config = config.clone();
    let watch = move || watch::Watch::new(&config, supply.clone()).run();
    tokio::spawn(async move {
        tokio::select! {
            () = again_after_panics(watch) => {}
            () = stop.cancelled() => {}
        }
    });
    receiver
}

/// Runs a watch, and another one in its place when a panic has ended it. What it has supplied
/// stays until the other has read all containers.
async fn again_after_panics<W: Future<Output = ()>>(watch: impl Fn() -> W) {
    while let Err(panic) = AssertUnwindSafe(watch()).catch_unwind().await {
        let text = apart::words_of(&*panic);
        error!("following the containers failed and starts again: {text}");
        sleep(FAILURE_PAUSE).await;
    }
}

/// Inspects once all containers with labels of ours, with or without the one that makes
/// them servers.
///
/// # Errors
///
/// When the engine cannot be reached, or its answer is invalid.
pub(crate) async fn look(config: &DockerConfig) -> Result<(Supply, Vec<Unread>), EngineError> {
    watch::look(client::Client::new(config)).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A panic does not end the watch for ever.
    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_after_a_panic() {
        let runs = Cell::new(0);
        let watch = || {
            runs.set(runs.get() + 1);
            let run = runs.get();
            async move { assert!(run > 2, "a bug, made by a test") }
        };
        again_after_panics(watch).await;
        assert_eq!(runs.get(), 3);
    }
}
