//! The running proxy: its begin, and the way to its end.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use tracing::info;

use crate::config::model::Config;
use crate::listener;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;

/// A proxy that accepts connections.
#[derive(Debug)]
pub struct Running {
    proxy: Arc<Proxy>,
    addresses: Vec<SocketAddr>,
}

/// Starts to accept connections on `listeners`. Must be called inside a runtime.
///
/// `open_files` is the process's limit of descriptors, where it is known.
///
/// # Errors
///
/// When a listener cannot be registered with the runtime.
pub fn start(
    config: Config,
    listeners: Vec<StdListener>,
    open_files: Option<u64>,
) -> std::io::Result<Running> {
    let proxy = Arc::new(Proxy::new(config, open_files));
    let mut addresses = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let (listener, address) = listener::into_tokio(listener)?;
        tokio::spawn(listener::accept(listener, address, Arc::clone(&proxy)));
        info!(%address, "listening");
        addresses.push(address);
    }
    Ok(Running { proxy, addresses })
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

    /// The way to end it.
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
