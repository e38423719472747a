//! The commands that a running proxy understands, as functions that return values.
//! The callers know how a command arrives and in which form the answer is sent: the
//! control socket today.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::intercept::PlayerHandle;
use crate::plugin::{MetricValue, PluginState};
use crate::proxy::Proxy;
use crate::reload::changes::Changes;
use crate::reload::{Outcome, Request};
use crate::show::Quoted;

/// The plugins of a running proxy.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    /// Those in force, in the order of the configuration.
    pub(crate) current: Vec<CurrentPlugin>,
    /// Older generations that connections still hold, the oldest first.
    pub(crate) replaced: Vec<PluginState>,
}

/// A plugin in force.
#[derive(Debug, Clone)]
pub(crate) struct CurrentPlugin {
    /// Its state and counts.
    pub(crate) state: PluginState,
    /// Its metrics, by their names.
    pub(crate) metrics: Vec<MetricValue>,
}

/// The result of a reload that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// The new configuration is in force.
    Applied(Changes),
    /// Nothing has changed.
    Unchanged {
        /// The ids of the plugins that stay quarantined.
        quarantined: Vec<String>,
    },
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// No plugin of this id is loaded.
    #[error("no plugin {} is loaded", Quoted(.0))]
    NotLoaded(String),
    /// The plugin of this id is not quarantined.
    #[error("plugin `{0}` is not quarantined")]
    NotQuarantined(String),
    /// The new configuration has errors, or a plugin does not start. Has the rendered
    /// errors.
    #[error("the new configuration is refused")]
    Configuration(String),
    /// The reload did not end.
    #[error("the reload has not ended: the proxy is ending, or its log says why")]
    NotEnded,
}

/// The state of all plugins.
pub(crate) fn plugins(proxy: &Proxy) -> Plugins {
    let metrics = proxy.plugin_metrics();
    let current = proxy.plugins.states().into_iter().map(|state| {
        let own = metrics.iter().filter(|metric| metric.plugin == state.id);
        CurrentPlugin {
            metrics: own.cloned().collect(),
            state,
        }
    });
    Plugins {
        current: current.collect(),
        replaced: proxy.plugins.replaced(),
    }
}

/// A player in the game, and the id of the server at the time of the count.
#[derive(Debug)]
pub(crate) struct Located {
    /// The server.
    pub(crate) server: Arc<str>,
    /// The player, who may have moved to another server since.
    pub(crate) player: Arc<PlayerHandle>,
}

/// The players in the game on servers of the intercepted modes, by server and name. In the
/// forwarding modes the proxy does not know the players.
pub(crate) fn players(proxy: &Proxy) -> Vec<Located> {
    let locate = |player: Arc<PlayerHandle>| Located {
        server: player.server(),
        player,
    };
    let mut players: Vec<_> = proxy.roster.everyone().into_iter().map(locate).collect();
    players.sort_by(|a, b| (&a.server, a.player.name()).cmp(&(&b.server, b.player.name())));
    players
}

/// Ends the quarantine of a plugin.
///
/// # Errors
///
/// When it is not loaded, or not quarantined.
pub(crate) fn resume(proxy: &Proxy, id: &str) -> Result<(), Refused> {
    check_loaded(proxy, id)?;
    if !proxy.plugins.resume(id) {
        return Err(Refused::NotQuarantined(id.to_owned()));
    }
    tracing::info!(plugin = id, "plugin `{id}` is resumed");
    Ok(())
}

/// Reads the configuration again, as `SIGHUP` does. The plugin `force` is loaded
/// again even if nothing about it has changed.
///
/// # Errors
///
/// When that plugin is not loaded, the new configuration is refused, or the proxy ends
/// before the reload does. The running configuration then stays unchanged.
pub(crate) async fn reload(
    proxy: &Proxy,
    reloads: &mpsc::Sender<Request>,
    force: Option<String>,
) -> Result<Reloaded, Refused> {
    if let Some(id) = &force {
        check_loaded(proxy, id)?;
    }
    let (answer, outcome) = oneshot::channel();
    let request = Request { force, answer };
    reloads.send(request).await.map_err(|_| Refused::NotEnded)?;
    match outcome.await.map_err(|_| Refused::NotEnded)? {
        Outcome::Applied(changes) => Ok(Reloaded::Applied(changes)),
        Outcome::Unchanged => {
            let states = proxy.plugins.states().into_iter();
            let quarantined = states.filter(|state| state.is_quarantined);
            Ok(Reloaded::Unchanged {
                quarantined: quarantined.map(|state| state.id).collect(),
            })
        }
        Outcome::Refused(errors) => Err(Refused::Configuration(errors)),
    }
}

fn check_loaded(proxy: &Proxy, id: &str) -> Result<(), Refused> {
    let is_loaded = proxy.plugins.states().iter().any(|state| state.id == id);
    if is_loaded {
        Ok(())
    } else {
        Err(Refused::NotLoaded(id.to_owned()))
    }
}
