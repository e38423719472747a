//! The running proxy: how it is started, and how it is ended.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tracing::info;

use crate::apart;
use crate::config::model::Config;
use crate::listener;
use crate::plugin::Problem;
use crate::proxy::{Proxy, Shutdown};
use crate::socket;

/// A proxy that accepts connections.
#[derive(Debug)]
pub struct Running {
    proxy: Arc<Proxy>,
    addresses: Vec<SocketAddr>,
}

/// Why the proxy did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener cannot be registered with the runtime.
    #[error("the proxy cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// The threads that relay cannot be started.
    #[error("the threads that relay cannot be started: {0}")]
    Relay(#[source] std::io::Error),
    /// The system has no thread to load plugins with, or that is our own failure.
    #[error("the plugins were not loaded: {0}")]
    NotLoaded(String),
    /// Plugins cannot be loaded.
    #[error("{}", list(.0))]
    Plugins(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Loads the plugins and starts to accept connections on `listeners`. Must run
/// inside a runtime.
///
/// `open_files` is the process's limit of descriptors, where it is known.
///
/// # Errors
///
/// When a plugin cannot be loaded, a listener cannot be registered, or the
/// threads that relay cannot be started.
pub async fn start(
    config: Config,
    listeners: Vec<StdListener>,
    open_files: Option<u64>,
) -> Result<Running, StartError> {
    let proxy = Proxy::new(config.clone(), open_files).map_err(StartError::Relay)?;
    serve(proxy, config, listeners).await
}

/// As [`start`], with an existing proxy. Its owner can end the plugins of a start that has
/// failed or takes too long.
pub(crate) async fn serve(
    proxy: Arc<Proxy>,
    config: Config,
    listeners: Vec<StdListener>,
) -> Result<Running, StartError> {
    if !config.plugins.is_empty() {
        load_plugins(&proxy, &config).await?;
        proxy.replace(config);
    }
    let listeners: Vec<_> = listeners
        .into_iter()
        .map(listener::into_tokio)
        .collect::<Result<_, _>>()?;
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    // Before the first client, since a server may have one of these addresses.
    proxy.upstream.listens_at(own_addresses(&listeners));
    let (stop, roster) = (proxy.shutdown.stop.clone(), Arc::clone(&proxy.roster));
    tokio::spawn(async move {
        stop.cancelled().await;
        roster.stop_all();
    });
    for (listener, address) in listeners {
        tokio::spawn(listener::accept(listener, address, Arc::clone(&proxy)));
        info!(%address, "listening");
    }
    Ok(Running { proxy, addresses })
}

/// The addresses by which the listeners are reached: a `[::]` that takes IPv4
/// connections as well is `0.0.0.0`, too.
fn own_addresses(listeners: &[(TcpListener, SocketAddr)]) -> Vec<SocketAddr> {
    let mut own = Vec::new();
    for (listener, address) in listeners {
        own.push(*address);
        if socket::takes_ipv4_too(listener, *address) {
            own.push((Ipv4Addr::UNSPECIFIED, address.port()).into());
        }
    }
    own
}

/// Loads plugins without holding a worker; see [`Proxy::load_plugins`].
async fn load_plugins(proxy: &Arc<Proxy>, config: &Config) -> Result<(), StartError> {
    let (proxy, config) = (Arc::clone(proxy), config.clone());
    let loaded = apart::run(move || proxy.load_plugins(&config, None)).await;
    let loaded = loaded.map_err(|problem| StartError::NotLoaded(problem.to_string()))?;
    loaded.map(drop).map_err(StartError::Plugins)
}

impl Running {
    /// The addresses that are listened on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all connections share.
    #[must_use]
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The handle for ending it.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.proxy.shutdown
    }

    /// Connections that have not finished.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.proxy.shutdown.connections.len()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::socket::{Families, Keepalive, listen};

    /// Where `[::]` takes IPv4 as well, an IPv4 address may be the proxy's own.
    #[tokio::test]
    async fn a_listener_of_both_families_has_addresses_of_both() {
        let any: SocketAddr = ([0; 8], 0).into();
        for families in [Families::Both, Families::One] {
            let keepalive = Keepalive {
                time: Duration::from_secs(40),
                interval: Duration::from_secs(5),
                retries: 4,
            };
            let Ok(listener) = listen(any, families, false, &keepalive) else {
                // A system without IPv6.
                return;
            };
            let (listener, address) = listener::into_tokio(listener).unwrap();
            let own = own_addresses(&[(listener, address)]);
            let mut expected = vec![address];
            if families == Families::Both {
                expected.push(([0, 0, 0, 0], address.port()).into());
            }
            assert_eq!(own, expected);
        }
    }
}
