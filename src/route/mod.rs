//! Virtual host → server.
//!
//! A host name is cleaned by one function for both sides, what the client sent
//! and what the operator wrote, so that the two can only be compared in the
//! same form.

pub mod explain;
mod host;
mod pattern;
mod table;

pub use host::{BadHost, normalize};
pub use pattern::HostPattern;
pub use table::{Match, RouteTable, Rule};
