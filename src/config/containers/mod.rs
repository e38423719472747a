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
    /// Those of its labels that begin with [`PREFIX`].
    pub labels: BTreeMap<String, String>,
    /// The networks that it is in, in the order of their names.
    pub networks: Vec<Network>,
    /// Its ports that can be reached at the engine's machine.
    pub published: Vec<Published>,
    /// Whose network it uses.
    pub network_of: NetworkOf,
    /// What it does.
    pub state: State,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Up,
    /// It runs, and its own health check says that it does not work. That check
    /// may be wrong, so it is tried where there is nothing better.
    Unhealthy,
    /// It is held: it takes connections and never answers.
    Paused,
    /// It does not run.
    Down,
}

impl State {
    /// The word for people.
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

    /// Of two containers that want the same, the one with the lower rank has it.
    pub(super) const fn rank(self) -> u8 {
        match self {
            State::Up => 0,
            State::Unhealthy => 1,
            State::Paused | State::Down => UNUSABLE_RANK,
        }
    }
}

/// The rank of a container that cannot be used.
pub(super) const UNUSABLE_RANK: u8 = 2;

/// Whose network a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkOf {
    /// Its own, with addresses in [`Container::networks`].
    Itself,
    /// That of the engine's machine.
    Machine,
    /// That of another container, whose id this is.
    Another(String),
}

impl Container {
    /// What diagnostics show where a file would have its path.
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

    /// Of two, the older is less; the id decides between equals.
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
    /// Reads a time in UTC as RFC 3339 writes it. Any other text has some place
    /// in the order, and always the same.
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

/// Where the proxy stands, seen from containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The network whose addresses are taken first.
    pub network: Option<String>,
    /// The proxy's own addresses with their prefixes.
    pub own: Vec<IpNet>,
    /// Whether the engine runs on the proxy's own machine: only then an address
    /// of ours that is a network's gateway means that we can dial into it.
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
