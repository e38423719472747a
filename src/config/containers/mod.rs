//! Containers as servers: their labels are checked by the rules for server
//! files, each container by itself, and then compared with the servers of files
//! and with each other.
//!
//! Nothing here asks an engine: a provider delivers [`Container`]s.

mod address;
mod labels;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

pub(crate) use labels::RawContainer;
pub use labels::{LABELS, PREFIX, names};

pub(super) use address::choose;
pub(super) use labels::{bytes, read};

/// The label that makes a container a server.
pub const ENABLE: &str = "infrarust.enable";

/// A container as its engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Identifies it, whatever its name is.
    pub id: String,
    /// Its name, without the slash that engines put in front.
    pub name: String,
    /// When it was made.
    pub created: Created,
    /// Its labels that begin with [`PREFIX`].
    pub labels: BTreeMap<String, String>,
    /// The networks that it is in, in the order of their names.
    pub networks: Vec<Network>,
    /// Its ports that can be reached at the engine's machine.
    pub published: Vec<Published>,
    /// The owner of the network that it uses.
    pub network_of: NetworkOf,
    /// Its state.
    pub state: State,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Up,
    /// It runs, and its own health check fails. The check may be wrong, so the container is
    /// used if there is no better one.
    Unhealthy,
    /// It is paused: the kernel accepts connections, and nothing answers.
    Paused,
    /// It does not run.
    Down,
}

impl State {
    /// The word in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Up => "running",
            State::Unhealthy => "unhealthy",
            State::Paused => "paused",
            State::Down => "stopped",
        }
    }

    /// Whether players can be sent to it at all.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, State::Up | State::Unhealthy)
    }

    /// Of two containers with the same claim, the one with the lower rank gets it.
    pub(super) const fn rank(self) -> u8 {
        match self {
            State::Up => 0,
            State::Unhealthy => 1,
            State::Paused | State::Down => UNUSABLE_RANK,
        }
    }
}

/// The rank of an unusable container.
pub(super) const UNUSABLE_RANK: u8 = 2;

/// The owner of the network that a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkOf {
    /// Its own, with addresses in [`Container::networks`].
    Itself,
    /// That of the engine's machine.
    Machine,
    /// That of another container, with this id.
    Another(String),
}

impl Container {
    /// The name that diagnostics show in place of a file's path.
    #[must_use]
    pub fn title(&self) -> PathBuf {
        PathBuf::from(format!("container {}", self.name))
    }

    /// Whether `infrarust.enable` is false, so that its other labels are ignored.
    #[must_use]
    pub fn is_switched_off(&self) -> bool {
        let enable = self.labels.get(ENABLE).map(|value| value.trim());
        matches!(enable, Some("false" | "0"))
    }

    /// For sorting: the older container comes first; the id decides between equal times.
    #[must_use]
    pub fn age(&self) -> (&Created, &str) {
        (&self.created, &self.id)
    }
}

/// A time of creation: engines write nanoseconds and leave out zeros at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created {
    seconds: String,
    nanoseconds: String,
}

impl Created {
    /// Reads a time in UTC in the form of RFC 3339. Any other text has some fixed position
    /// in the order.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim_end_matches('Z');
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        Self {
            seconds: seconds.to_owned(),
            nanoseconds: format!("{fraction:0<9}"),
        }
    }
}

/// A network that a container is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The container's addresses in it with the network's prefix, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The addresses of the engine's machine in it.
    pub gateways: Vec<IpAddr>,
}

/// A port of a container that can be reached at the engine's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The port in the container.
    pub inside: u16,
    /// Where the engine's machine listens for it.
    pub at: SocketAddr,
}

/// The position of the proxy relative to containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The network that is tried first.
    pub network: Option<String>,
    /// The proxy's own addresses with their prefixes.
    pub own: Vec<IpNet>,
    /// Whether the engine runs on the proxy's own machine. Only then can the proxy dial
    /// into a network that has one of the proxy's addresses as its gateway.
    pub is_engine_here: bool,
    /// The host at which published ports are dialled, if there is one.
    pub published_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zeros that an engine leaves out do not make a container older.
    #[test]
    fn times_are_compared_to_the_nanosecond() {
        let times = [
            "2026-01-01T00:00:05Z",
            "2026-01-01T00:00:05.12Z",
            "2026-01-01T00:00:05.123456789Z",
            "2026-01-01T00:00:05.2Z",
            "2026-01-01T00:00:06.1Z",
        ];
        assert!(times.map(Created::new).is_sorted());
        assert_eq!(Created::new("x.5Z"), Created::new("x.500Z"));
    }
}
