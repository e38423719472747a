//! Providers: who tells the proxy of servers beside the files.
//!
//! A provider watches something and delivers what is there as a [`Supply`],
//! whole each time. What that means for routes is decided by
//! [`ContainerChecker`](crate::config::containers::ContainerChecker) with the rules for files, and put
//! into force by [`reload`](crate::reload), so that a provider can fail, hang or
//! lie without a route of a file being touched.
//!
//! The folder of server files is a provider too; it is watched where it is
//! judged, since files are taken over all together or not at all.

pub(crate) mod docker;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::containers::Container;

/// What a provider delivers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Supply {
    /// The containers that there are, running or not; `None` until all have been
    /// looked at once, so that nobody meets half of the servers.
    pub containers: Option<Vec<Arc<Container>>>,
    /// Who told of them.
    pub engine: Peer,
}

/// What a connection to an engine shows of where it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address, where it has one.
    pub ip: Option<IpAddr>,
    /// Whether it uses the same interfaces as the proxy, where that can be seen.
    pub is_in_our_network: Option<bool>,
}
