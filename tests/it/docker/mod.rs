//! Containers as servers, with an engine of our own making that does whatever
//! an engine might do. `slow/containers.rs` has a real one.

mod fake;
mod labels;
