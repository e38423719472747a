//! The scopes of the roster, by their names. A scope is a network, or a server outside of
//! networks: in it a second login of the same player counts as a duplicate, and its players
//! know each other.

use std::borrow::Cow;

/// The beginning of the scope of a network. Not that of a server's id, which has no spaces.
const NETWORK: &str = "network ";

/// The scope of a server.
pub(crate) fn scope<'a>(network: Option<&str>, server: &'a str) -> Cow<'a, str> {
    match network {
        Some(network) => scope_of_network(network).into(),
        None => server.into(),
    }
}

/// The scope of a network.
pub(crate) fn scope_of_network(network: &str) -> String {
    format!("{NETWORK}{network}")
}

/// The network with this scope, if it is not that of a server.
pub(super) fn network_of(scope: &str) -> Option<&str> {
    scope.strip_prefix(NETWORK)
}
