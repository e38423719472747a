//! Addresses of backends, as configured.

use std::fmt;

/// A backend's address as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendAddress {
    /// A host name or an address.
    pub host: BackendHost,
    /// The port; 25565 where the configuration has none. Never zero.
    pub port: u16,
    /// Whether an SRV record of the name says where to connect instead: the
    /// configuration has no port.
    pub follows_srv: bool,
}

/// The host of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendHost {
    /// Resolved when a player joins. Lower case, without a trailing dot.
    Name(String),
    /// Used as it is.
    Ip(std::net::IpAddr),
}

impl fmt::Display for BackendHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendHost::Name(name) => f.write_str(name),
            BackendHost::Ip(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            BackendHost::Ip(std::net::IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}
