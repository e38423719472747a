//! Chooses the address at which a container is dialled.
//!
//! An address of a container can be dialled from the engine's machine, which is the gateway
//! of its networks, and from containers in the same network. A dial from another network
//! hangs, since engines drop packets between networks. So a network counts as shared if it
//! contains one of the proxy's own addresses.

use std::net::{IpAddr, SocketAddr};

use super::{Container, Network, NetworkOf, Surroundings};

/// The address of a port of a container, in the form of a server file; `None` if it cannot
/// be reached.
pub(in crate::config) fn choose(
    container: &Container,
    port: u16,
    around: &Surroundings,
) -> Option<String> {
    let direct = |network: &Network| {
        let ip = network.addresses.first()?.addr();
        Some(SocketAddr::new(ip, port).to_string())
    };
    let named = || {
        let name = around.network.as_ref()?;
        let network = container.networks.iter().find(|n| n.name == *name)?;
        direct(network)
    };
    let shared = || {
        let shared = |network: &&Network| is_shared(network, around);
        container.networks.iter().filter(shared).find_map(direct)
    };
    let on_host = || {
        let host = around.published_at.as_deref()?;
        (container.network_of == NetworkOf::Machine).then(|| join(host, port))
    };
    let published = || published(container, port, around);
    named().or_else(shared).or_else(on_host).or_else(published)
}

fn is_shared(network: &Network, around: &Surroundings) -> bool {
    network.addresses.iter().any(|net| {
        around.own.iter().any(|own| {
            // A network on another machine may have the same addresses, and so the same
            // gateway.
            let is_gateway = network.gateways.contains(&own.addr());
            net.contains(&own.addr()) && (around.is_engine_here || !is_gateway)
        })
    })
}

fn published(container: &Container, port: u16, around: &Surroundings) -> Option<String> {
    let mut ports = container.published.iter().filter(|p| p.inside == port);
    ports.find_map(|published| {
        let at = published.at;
        match (at.ip(), around.published_at.as_deref()) {
            (ip, machine) if ip.is_unspecified() => Some(join(machine?, at.port())),
            // Loopback is the machine's own, and not that of a container on it.
            (ip, machine) if ip.is_loopback() => {
                (around.is_engine_here && machine.is_some()).then(|| at.to_string())
            }
            // An address that the machine has on some network: whether it can
            // be reached from here is seen when it is dialled.
            _ => Some(at.to_string()),
        }
    })
}

fn join(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// The number of characters of an id that `docker ps` shows.
const ID_CHARS_SHOWN: usize = 12;

/// The networks of a container with its addresses in them, in words.
pub(super) fn networks(container: &Container) -> String {
    match &container.network_of {
        NetworkOf::Itself => {}
        NetworkOf::Machine => return "that of the engine's machine".to_owned(),
        NetworkOf::Another(id) => {
            let shown: String = id.chars().take(ID_CHARS_SHOWN).collect();
            return format!("that of container {shown}");
        }
    }
    let named = |network: &Network| {
        let addresses = network.addresses.iter().map(|net| net.addr().to_string());
        let addresses: Vec<_> = addresses.collect();
        format!("{} {}", network.name, addresses.join(" "))
    };
    none_if_empty(container.networks.iter().map(named))
}

/// The published ports of a container, in words.
pub(super) fn ports(container: &Container) -> String {
    let ports = container.published.iter();
    none_if_empty(ports.map(|port| format!("{} at {}", port.inside, port.at)))
}

fn none_if_empty(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Created, Published, State};
    use super::*;

    fn network(name: &str, addresses: &[&str], gateway: &str) -> Network {
        Network {
            name: name.to_owned(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            gateways: vec![gateway.parse().unwrap()],
        }
    }

    fn container() -> Container {
        Container {
            id: "1".to_owned(),
            name: "a".to_owned(),
            created: Created::new(""),
            labels: BTreeMap::new(),
            networks: vec![
                network("front", &["172.18.0.5/16", "fd01::5/64"], "172.18.0.1"),
                network("games", &["172.19.0.5/16"], "172.19.0.1"),
                network("six", &["fd02::5/64"], "fd02::1"),
            ],
            published: Vec::new(),
            network_of: NetworkOf::Itself,
            state: State::Up,
        }
    }

    fn around(own: &[&str]) -> Surroundings {
        Surroundings {
            network: None,
            own: own.iter().map(|a| a.parse().unwrap()).collect(),
            is_engine_here: true,
            published_at: Some("127.0.0.1".to_owned()),
        }
    }

    /// A network that the proxy shares is chosen, at any position in the list.
    #[test]
    fn shared_networks_are_found() {
        let choose = |own: &[&str]| choose(&container(), 25565, &around(own));
        assert_eq!(choose(&["172.19.0.9/16"]).unwrap(), "172.19.0.5:25565");
        assert_eq!(choose(&["fd02::1/64"]).unwrap(), "[fd02::5]:25565");
        let host = ["172.18.0.1/16", "172.19.0.1/16"];
        assert_eq!(choose(&host).unwrap(), "172.18.0.5:25565");
        assert_eq!(choose(&["10.0.0.1/8"]), None);
    }

    /// The gateway of a network on another machine is not ours, though it has
    /// the same address.
    #[test]
    fn another_machines_networks_are_not_shared() {
        let mut around = around(&["172.18.0.1/16"]);
        around.is_engine_here = false;
        assert_eq!(choose(&container(), 25565, &around), None);
        around.own = vec!["172.18.0.7/16".parse().unwrap()];
        assert!(choose(&container(), 25565, &around).is_some());
    }

    /// A named network goes first; without the container in it the others count.
    #[test]
    fn the_named_network_goes_first() {
        let mut around = around(&["172.19.0.9/16"]);
        around.network = Some("front".to_owned());
        assert_eq!(choose(&container(), 1, &around).unwrap(), "172.18.0.5:1");
        around.network = Some("nowhere".to_owned());
        assert_eq!(choose(&container(), 1, &around).unwrap(), "172.19.0.5:1");
    }

    /// Published ports are dialled where the engine's machine listens.
    #[test]
    fn published_ports_come_last() {
        let mut container = container();
        let mut away = around(&["10.0.0.1/8"]);
        let at = |at: &str| Published {
            inside: 25565,
            at: at.parse().unwrap(),
        };
        container.published = vec![at("127.0.0.1:4000"), at("0.0.0.0:4001")];
        let chosen = |c: &Container, around: &Surroundings| choose(c, 25565, around);
        assert_eq!(chosen(&container, &away).unwrap(), "127.0.0.1:4000");
        away.is_engine_here = false;
        away.published_at = Some("engine.example.com".to_owned());
        assert_eq!(
            chosen(&container, &away).unwrap(),
            "engine.example.com:4001"
        );
        container.published = vec![at("[::]:4002")];
        away.published_at = Some("fd00::7".to_owned());
        assert_eq!(chosen(&container, &away).unwrap(), "[fd00::7]:4002");
        away.published_at = None;
        assert_eq!(chosen(&container, &away), None);
    }

    /// From inside a container, the machine's loopback and unspecified addresses cannot be
    /// dialled; an address of the machine on a network can.
    #[test]
    fn published_addresses_are_dialled_from_inside_a_container() {
        let mut container = container();
        let mut inside = around(&["10.0.0.1/8"]);
        inside.published_at = None;
        let at = |at: &str| Published {
            inside: 25565,
            at: at.parse().unwrap(),
        };
        container.published = vec![at("127.0.0.1:4000"), at("0.0.0.0:4001")];
        assert_eq!(choose(&container, 25565, &inside), None);
        container.published.push(at("192.0.2.7:4002"));
        let chosen = choose(&container, 25565, &inside).unwrap();
        assert_eq!(chosen, "192.0.2.7:4002");
        inside.own = vec!["172.19.0.9/16".parse().unwrap()];
        let chosen = choose(&container, 25565, &inside).unwrap();
        assert_eq!(chosen, "172.19.0.5:25565", "a shared network goes first");
    }

    /// On the network of the engine's machine it is reached at that machine.
    #[test]
    fn a_container_on_the_host_is_dialled_there() {
        let mut container = container();
        container.networks.clear();
        container.network_of = NetworkOf::Machine;
        let here = around(&[]);
        assert_eq!(choose(&container, 7, &here).unwrap(), "127.0.0.1:7");
    }
}
