//! Finds out the position of the proxy relative to containers.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::config::containers::Surroundings;
use crate::config::model::{DockerConfig, Endpoint};
use crate::provider::Peer;

/// Files that engines put into every container: the first is from Docker, the second from
/// Podman.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Finds the proxy's own addresses and the location of the engine.
#[must_use]
pub(crate) fn surroundings(config: &DockerConfig, engine: Peer) -> Surroundings {
    let own = addresses();
    let is_own = |ip: IpAddr| ip.is_loopback() || own.iter().any(|net| net.addr() == ip);
    let is_neighbour = |ip: IpAddr| own.iter().any(|net| net.contains(&ip));
    let is_contained = || CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists());
    let (is_engine_here, published_at) = match &config.endpoint {
        Endpoint::Unix(_) => {
            let is_beside = engine.is_in_our_network.unwrap_or_else(|| !is_contained());
            (true, is_beside.then(|| "127.0.0.1".to_owned()))
        }
        Endpoint::Tcp { host, .. } => match engine.ip {
            Some(ip) if is_own(ip) => (true, Some(host.clone())),
            // A container next to the proxy passes requests on to the socket: the engine's
            // machine has another address.
            Some(ip) if is_neighbour(ip) && is_contained() => (true, None),
            Some(_) | None => (false, Some(host.clone())),
        },
    };
    Surroundings {
        network: config.network.clone(),
        own,
        is_engine_here,
        published_at,
    }
}

/// The addresses of the proxy's interfaces, sorted.
fn addresses() -> Vec<IpNet> {
    let mut addresses: Vec<IpNet> = Vec::new();
    #[cfg(unix)]
    if let Ok(found) = nix::ifaddrs::getifaddrs() {
        for one in found {
            let (Some(address), Some(mask)) = (one.address, one.netmask) else {
                continue;
            };
            let net = match (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                (Some(address), Some(mask)) => {
                    IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok()
                }
                _ => match (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
                    (Some(address), Some(mask)) => {
                        IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok()
                    }
                    _ => None,
                },
            };
            // Every container adds an interface with a link-local address, which only works
            // on that link.
            let net = net.filter(|net| match net.addr() {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            });
            addresses.extend(net);
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}
