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

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::config::model::DockerConfig;
use crate::provider::Supply;
use crate::supervise;

pub(crate) use error::EngineError;
pub(crate) use surroundings::surroundings;
pub(crate) use watch::Unread;

/// Watches the containers of an engine until `stop` is cancelled.
///
/// Never fails: an engine that cannot be reached is asked again and again.
#[must_use]
pub(crate) fn start(config: &DockerConfig, stop: CancellationToken) -> channel::Receiver<Supply> {
    let (supply, receiver) = channel::channel(Supply::default());
    let config = config.clone();
    // What a watch has supplied stays until the next one has read all containers.
    let watch = move || watch::Watch::new(&config, supply.clone()).run();
    tokio::spawn(async move {
        tokio::select! {
            () = supervise::repeated("following the containers", watch) => {}
            () = stop.cancelled() => {}
        }
    });
    receiver
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
