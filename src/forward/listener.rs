//! The reader of the plugin messages that a backend sends to the proxy.

use std::fmt;

/// Reads the plugin messages that a backend sends to the proxy.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// Reads the fields of a plugin message of the backend, in play. True if it is for
    /// the proxy: then it does not reach the client. Does not wait.
    fn receive(&self, fields: &[u8]) -> bool;
}
