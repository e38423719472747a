//! Providers: sources of servers besides the files.
//!
//! A provider watches a source and delivers everything that it finds as a [`Supply`], which
//! is complete each time.
//! [`ContainerChecker`](crate::config::container_checker::ContainerChecker) makes servers
//! of it by the rules for files, and [`reload`](crate::reload) puts them into force. So a
//! provider that fails, hangs or delivers wrong data does not affect the routes of files.
//!
//! `reload` watches the folder of server files itself, since files take effect all together
//! or not at all.

pub(crate) mod docker;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::containers::Container;

/// What a provider delivers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Supply {
    /// All containers, running or not; `None` until all have been inspected once, so that
    /// players never find only some of the servers.
    pub containers: Option<Vec<Arc<Container>>>,
    /// The engine that listed them.
    pub engine: Peer,
}

/// What a connection to an engine shows about its location.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address, if the connection has one.
    pub ip: Option<IpAddr>,
    /// Whether it uses the same network interfaces as the proxy, if that can be found out.
    pub is_in_our_network: Option<bool>,
}
