//! Containers as servers, with a fake engine that can behave in any way.
//! `slow/containers.rs` uses a real one.

mod fake;
mod labels;
