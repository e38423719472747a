//! Providers: sources of servers besides the files.
//!
//! A provider watches something and delivers all that it finds as a [`Supply`],
//! complete each time. What that means for routes is decided by
//! [`ContainerChecker`](crate::config::container_checker::ContainerChecker) with the rules for files, and put
//! into force by [`reload`](crate::reload), so that a provider can fail, hang or
//! lie without a route of a file being touched.
//!
//! The folder of server files is not watched here but by `reload`, since files
//! are taken over all together or not at all.

pub(crate) mod docker;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::containers::Container;

/// What a provider delivers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Supply {
    /// The containers that there are, running or not; `None` until all have been
    /// inspected once, so that no player meets half of the servers.
    pub containers: Option<Vec<Arc<Container>>>,
    /// The engine that listed them.
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
