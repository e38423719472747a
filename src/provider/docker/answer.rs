//! Parses the answers of the engine, as far as they matter.
//!
//! A missing or invalid field counts as absent, so that neither an engine of another
//! version nor one field of one container affects the rest. The fields are those of the
//! Docker Engine API 1.41, checked against Docker 20.10.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::EngineError;
use crate::config::containers::{
    Container, Created, ENABLE, Network, NetworkOf, PREFIX, Published, State,
};

/// A container of a list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    /// Changes with everything about the container that could change its route; the time
    /// since its start is not included.
    pub(super) fingerprint: u64,
    /// Whether it has the label that makes it a server.
    pub(super) is_enabled: bool,
    /// Whether it has any label of ours.
    pub(super) is_labelled: bool,
}

/// Something that happened to a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The container's id.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Whether the event has the label that makes the container a server; events of
    /// networks do not have it.
    pub(super) is_enabled: bool,
}

/// What an event means for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The container does not answer any more.
    Leaves(State),
    /// It was removed.
    Gone,
    /// Something else about it has changed.
    Changes,
    /// It joined or left a network; this may be the proxy's own container.
    Moves,
}

/// Reads a list of containers.
pub(super) fn list(bytes: &[u8]) -> Result<Vec<Listed>, EngineError> {
    let items: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(garbage)?;
    let read = |item: &RawValue| listed(&serde_json::from_str(item.get()).ok()?);
    Ok(items.into_iter().filter_map(read).collect())
}

fn garbage(error: serde_json::Error) -> EngineError {
    EngineError::Garbage(error.to_string())
}

fn listed(item: &Value) -> Option<Listed> {
    let mut hasher = DefaultHasher::new();
    for field in ["State", "Names", "Labels", "NetworkSettings"] {
        item[field].to_string().hash(&mut hasher);
    }
    // The health is a part of this text: `Up 3 minutes (unhealthy)`.
    let status = item["Status"].as_str().unwrap_or_default();
    status
        .split_once('(')
        .map(|(_, rest)| rest)
        .hash(&mut hasher);
    // Engines list ports in any order.
    let ports = item["Ports"].as_array().map_or(&[][..], Vec::as_slice);
    let mut ports: Vec<_> = ports.iter().map(Value::to_string).collect();
    ports.sort_unstable();
    ports.hash(&mut hasher);
    let labels = item["Labels"].as_object();
    let has = |is_it: &dyn Fn(&str) -> bool| labels.is_some_and(|l| l.keys().any(|k| is_it(k)));
    Some(Listed {
        id: item["Id"].as_str().filter(|id| !id.is_empty())?.to_owned(),
        fingerprint: hasher.finish(),
        is_enabled: has(&|name| name == ENABLE),
        is_labelled: has(&|name| name.starts_with(PREFIX)),
    })
}

/// Parses the description of one container.
pub(super) fn container(bytes: &[u8]) -> Result<Container, EngineError> {
    let answer: Value = serde_json::from_slice(bytes).map_err(garbage)?;
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    let is = |pointer: &str| answer.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let (Some(id), Some(name)) = (text("/Id"), text("/Name")) else {
        return Err(EngineError::Garbage(
            "it has no `Id` or no `Name`".to_owned(),
        ));
    };
    let state = if !is("/State/Running") || is("/State/Restarting") || is("/State/Dead") {
        State::Down
    } else if is("/State/Paused") {
        State::Paused
    } else if text("/State/Health/Status") == Some("unhealthy") {
        State::Unhealthy
    } else {
        State::Up
    };
    let labels = answer.pointer("/Config/Labels").and_then(Value::as_object);
    let labels: BTreeMap<_, _> = labels
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    Ok(Container {
        id: id.to_owned(),
        name: name.trim_start_matches('/').to_owned(),
        created: Created::new(text("/Created").unwrap_or_default()),
        labels,
        networks: networks(&answer),
        published: published(&answer),
        network_of: network_of(text("/HostConfig/NetworkMode").unwrap_or_default()),
        state,
    })
}

/// Reads `HostConfig.NetworkMode`, which names a network in all other cases.
fn network_of(mode: &str) -> NetworkOf {
    match mode.split_once(':') {
        None if mode == "host" => NetworkOf::Machine,
        Some(("container", id)) => NetworkOf::Another(id.to_owned()),
        _ => NetworkOf::Itself,
    }
}

/// The networks in which the container has an address. The networks `host` and `none` are
/// listed without one.
fn networks(answer: &Value) -> Vec<Network> {
    let networks = answer.pointer("/NetworkSettings/Networks");
    let networks = networks.and_then(Value::as_object).into_iter().flatten();
    let mut networks: Vec<_> = networks
        .map(|(name, network)| {
            let net = |ip: &str, bits: &str| -> Option<IpNet> {
                let bits = u8::try_from(network[bits].as_u64()?).ok()?;
                IpNet::new(ip_of(&network[ip])?, bits).ok()
            };
            let v4 = net("IPAddress", "IPPrefixLen");
            let v6 = net("GlobalIPv6Address", "GlobalIPv6PrefixLen");
            let gateways = ["Gateway", "IPv6Gateway"].map(|field| ip_of(&network[field]));
            Network {
                name: name.clone(),
                addresses: v4.into_iter().chain(v6).collect(),
                gateways: gateways.into_iter().flatten().collect(),
            }
        })
        .filter(|network| !network.addresses.is_empty())
        .collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    networks
}

fn ip_of(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// The published TCP ports, in the order of their numbers and addresses.
fn published(answer: &Value) -> Vec<Published> {
    let ports = answer.pointer("/NetworkSettings/Ports");
    let ports = ports.and_then(Value::as_object).into_iter().flatten();
    let mut published = Vec::new();
    for (name, places) in ports {
        let inside = name.strip_suffix("/tcp").and_then(|port| port.parse().ok());
        let (Some(inside), Some(places)) = (inside, places.as_array()) else {
            continue;
        };
        for place in places {
            let port = place["HostPort"].as_str();
            let port = port.and_then(|port| port.parse().ok());
            let port = port.filter(|port| *port != 0);
            // Podman leaves the address empty where Docker writes 0.0.0.0.
            let ip = match &place["HostIp"] {
                Value::String(ip) if ip.is_empty() => Some(Ipv4Addr::UNSPECIFIED.into()),
                ip => ip_of(ip),
            };
            if let (Some(ip), Some(port)) = (ip, port) {
                let at = SocketAddr::new(ip, port);
                published.push(Published { inside, at });
            }
        }
    }
    published.sort_by_key(|port| (port.inside, port.at));
    published
}

/// Reads an event; `None` when that is not possible.
pub(super) fn event(line: &[u8]) -> Option<Event> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let action = event["Action"].as_str()?;
    let attributes = &event["Actor"]["Attributes"];
    let (id, kind) = match event["Type"].as_str()? {
        "network" => (&attributes["container"], Kind::Moves),
        "container" => {
            let kind = match action.split(':').next().unwrap_or(action) {
                "die" => Kind::Leaves(State::Down),
                "pause" => Kind::Leaves(State::Paused),
                "destroy" => Kind::Gone,
                "start" | "unpause" | "rename" | "health_status" | "update" => Kind::Changes,
                // An engine that ignores filters sends more events.
                _ => return Some(Event::without_container()),
            };
            (&event["Actor"]["ID"], kind)
        }
        _ => return Some(Event::without_container()),
    };
    Some(Event {
        id: id.as_str()?.to_owned(),
        kind,
        is_enabled: attributes.get(ENABLE).is_some(),
    })
}

impl Event {
    /// An event that concerns no container.
    fn without_container() -> Self {
        Self {
            id: String::new(),
            kind: Kind::Changes,
            is_enabled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An invalid item of a list does not affect the others.
    #[test]
    fn an_invalid_item_does_not_affect_others() {
        let text = r#"[7, {"Id":"a","Labels":{"infrarust.enable":"true"}}, {"Id":""}, {"Labels":{}},
            {"Id":"b","State":["odd"],"Labels":null,"Status":9}]"#;
        let list = list(text.as_bytes()).unwrap();
        let seen: Vec<_> = list.iter().map(|c| (c.id.as_str(), c.is_enabled)).collect();
        assert_eq!(seen, [("a", true), ("b", false)]);
        assert!(super::list(b"[{\"Id\":\"a\"}").is_err());
        assert!(super::list(b"{}").is_err());
    }

    /// The time since the start does not change a fingerprint; the health does.
    #[test]
    fn fingerprints_change_with_what_matters() {
        let print = |status: &str, ports: &str| {
            let text = format!(r#"[{{"Id":"a","Status":"{status}","Ports":[{ports}]}}]"#);
            list(text.as_bytes()).unwrap()[0].fingerprint
        };
        let plain = print("Up 1 second (healthy)", "1,2");
        assert_eq!(plain, print("Up 5 hours (healthy)", "2,1"));
        assert_ne!(plain, print("Up 5 hours (unhealthy)", "1,2"));
        assert_ne!(plain, print("Up 1 second (healthy)", "1,3"));
    }

    /// Fields that an engine of another version leaves out count as absent.
    #[test]
    fn missing_fields_of_a_container_count_as_absent() {
        let text = r#"{"Id":"a","Name":"/b","State":{"Running":true,"Health":null},"Config":{
            "Labels":{"infrarust.x":7,"other":"y"}},"NetworkSettings":{"Networks":{
            "host":{"IPAddress":""},"n":{"IPAddress":"10.0.0.2","IPPrefixLen":99},
            "m":{"IPAddress":"10.0.0.3","IPPrefixLen":8,"Gateway":"x"}},
            "Ports":{"25565/tcp":[{"HostIp":"::","HostPort":"1"},{"HostPort":"2"}],"1/udp":null}}}"#;
        let read = container(text.as_bytes()).unwrap();
        assert_eq!((read.state, read.name.as_str()), (State::Up, "b"));
        assert_eq!(read.labels.len(), 1);
        assert_eq!(read.networks.len(), 1);
        assert_eq!(read.published.len(), 1);
        assert!(container(b"{}").is_err());
        assert!(container(b"[").is_err());
    }

    /// The empty address of Podman means all addresses; an invalid port is ignored.
    #[test]
    fn published_ports_are_read() {
        let read = |places: &str| {
            let text = format!(
                r#"{{"Id":"a","Name":"/b","NetworkSettings":{{"Ports":{{"25565/tcp":{places}}}}}}}"#
            );
            let published = container(text.as_bytes()).unwrap().published;
            published
                .iter()
                .map(|p| p.at.to_string())
                .collect::<Vec<_>>()
        };
        let two = r#"[{"HostIp":"","HostPort":"4000"},{"HostIp":"192.0.2.7","HostPort":"4001"}]"#;
        assert_eq!(read(two), ["0.0.0.0:4000", "192.0.2.7:4001"]);
        let odd = r#"[{"HostIp":"","HostPort":"0"},{"HostIp":"","HostPort":""},{"HostIp":"x","HostPort":"1"}]"#;
        assert!(read(odd).is_empty());
    }

    /// The owner of a container's network is read.
    #[test]
    fn network_modes_are_read() {
        for (mode, of) in [
            ("default", NetworkOf::Itself),
            ("container", NetworkOf::Itself),
            ("host", NetworkOf::Machine),
            ("container:1f", NetworkOf::Another("1f".to_owned())),
        ] {
            assert_eq!(network_of(mode), of, "{mode}");
        }
    }

    /// Relevant events are read, and those that an engine sends without a request are
    /// ignored.
    #[test]
    fn events_are_read() {
        let read = |kind: &str, action: &str| {
            let text = format!(
                r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"a","Attributes":
                {{"infrarust.enable":"true","container":"c"}}}}}}"#
            );
            event(text.as_bytes()).unwrap()
        };
        assert_eq!(read("container", "die").kind, Kind::Leaves(State::Down));
        assert_eq!(
            read("container", "health_status: healthy").kind,
            Kind::Changes
        );
        assert_eq!(read("container", "exec_start: sh").id, "");
        assert_eq!(read("image", "pull").id, "");
        let moves = read("network", "connect");
        assert_eq!((moves.id.as_str(), moves.kind), ("c", Kind::Moves));
        assert_eq!(event(b"garbage"), None);
    }
}
