//! Listening: where connections come from.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use socket2::SockRef;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::config::model::{Keepalive, ProxyConfig};
use crate::connection;
use crate::proxy::Proxy;
use crate::socket;
use crate::telemetry::{Sample, Sampler};

/// How long accepting pauses when it fails, mostly because descriptors or memory
/// have run out. Waiting connections stay in the kernel's backlog meanwhile.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Sockets that systemd, or another parent, has opened for us (`LISTEN_FDS`,
/// `sd_listen_fds(3)`), or else the configured addresses.
///
/// # Errors
///
/// When an address cannot be bound, or an inherited descriptor is no TCP
/// socket that listens.
pub fn open(config: &ProxyConfig) -> anyhow::Result<Vec<StdListener>> {
    let mut inherited = listenfd::ListenFd::from_env();
    if inherited.len() > 0 {
        let mut listeners = Vec::new();
        for index in 0..inherited.len() {
            let listener = inherited
                .take_tcp_listener(index)
                .with_context(|| format!("inherited descriptor {index} is no TCP listener"))?;
            if let Some(listener) = listener {
                ensure!(
                    SockRef::from(&listener).is_listener()?,
                    "inherited descriptor {index} is a TCP socket that does not listen"
                );
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
        }
        info!(
            sockets = listeners.len(),
            "listening on inherited sockets; `bind` is not used"
        );
        return Ok(listeners);
    }
    config
        .bind
        .iter()
        .map(|address| {
            socket::listen(*address, config.so_reuseport)
                .with_context(|| format!("cannot listen on {address}"))
        })
        .collect()
}

/// Accepts connections until the proxy drains. Each is served by a task of its
/// own, so that nothing that one client does or omits holds the next.
pub(crate) async fn accept(listener: TcpListener, address: SocketAddr, proxy: Arc<Proxy>) {
    let failures = Sampler::new();
    let mut tuned = None;
    loop {
        tune(&listener, &mut tuned, &proxy);
        let accepted = tokio::select! {
            biased;
            () = proxy.shutdown.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = (peer.ip().to_canonical(), peer.port()).into();
                proxy.shutdown.connections.spawn(connection::serve(
                    stream,
                    peer,
                    Arc::clone(&proxy),
                ));
            }
            Err(error) if socket::concerns_one_connection(&error) => {
                tracing::debug!(%address, %error, "a connection was not accepted");
            }
            // Whatever else it is would only come again at once.
            Err(error) => {
                if let Sample::Write { suppressed } = failures.sample(Instant::now()) {
                    warn!(%address, %error, suppressed, "accepting pauses");
                }
                pause(&proxy).await;
            }
        }
    }
}

/// Connections take over the options of their listener: it is given those in force.
fn tune(listener: &TcpListener, tuned: &mut Option<Keepalive>, proxy: &Proxy) {
    let keepalive = proxy.snapshot().proxy.keepalive;
    if socket::LISTENER_TUNES_CONNECTIONS && *tuned != Some(keepalive) {
        *tuned = Some(keepalive);
        if let Err(error) = socket::tune(listener, &keepalive) {
            warn!(%error, "the options of connections cannot be set");
        }
    }
}

async fn pause(proxy: &Proxy) {
    tokio::select! {
        () = proxy.shutdown.drain.cancelled() => {}
        () = tokio::time::sleep(FAILURE_PAUSE) => {}
    }
}

/// The address that a listener really has, when the configuration left the port open.
pub(crate) fn into_tokio(listener: StdListener) -> io::Result<(TcpListener, SocketAddr)> {
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::model::Config;
    use crate::config::{LoadOptions, load};

    /// No test waits longer for anything.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn config(keepalive_seconds: u64) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("infrarust.toml");
        let text = format!("[keepalive]\ntime = \"{keepalive_seconds}s\"\n");
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir(folder.path().join("servers")).unwrap();
        let loaded = load(&LoadOptions {
            config: Some(file),
            ..LoadOptions::default()
        });
        loaded.config.unwrap()
    }

    /// A listener has the options in force, also after a reload, from the next
    /// connection on.
    #[tokio::test]
    async fn connections_get_the_options_in_force() {
        let proxy = Proxy::new(config(41), None).unwrap();
        let listener = socket::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
        let seen = listener.try_clone().unwrap();
        let (listener, address) = into_tokio(listener).unwrap();
        tokio::spawn(accept(listener, address, Arc::clone(&proxy)));
        for seconds in [41, 43] {
            proxy.replace(config(seconds));
            let _client = tokio::net::TcpStream::connect(address).await.unwrap();
            let followed = async {
                let wanted = Duration::from_secs(seconds);
                while SockRef::from(&seen).tcp_keepalive_time().unwrap() != wanted {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, followed).await.unwrap();
        }
        proxy.shutdown.stop_now();
    }
}
